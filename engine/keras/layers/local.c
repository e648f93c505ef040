/* LocallyConnected1D and 2D of Keras 1 and 2: a convolution whose kernel differs from place to
 * place. The cells under the kernel are laid out behind each other, and each place is a matrix
 * product of its own.
 *
 * Keras stores the kernel in three ways ("implementation"): 1 the matrix of each place; 2 a matrix
 * from all inputs to all outputs, of which only what a place sees counts; 3 those entries alone, in
 * the order of the output cells and then of the input cells. All become the first. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/einsum.h"
#include "engine/keras/layers/table.h"
#include <stdlib.h>
#include <strings.h>

struct local {
    int spatial;
    bool first;
    int64_t kernel[SPATIAL_MAX], stride[SPATIAL_MAX], in[SPATIAL_MAX], out[SPATIAL_MAX];
    int64_t before[SPATIAL_MAX]; /* zeros in front of the input */
    int64_t taps, places, channels, filters;
};

/* The cells that one tap of the kernel sees at all places: (N, out..., C). */
static int tap_cells(struct call *call, int x, const struct local *local, int64_t tap)
{
    struct op_slice slice = {.begin = {0}};
    int rank = local->spatial + 2;
    for (int i = 0; i < rank; i++) {
        slice.size[i] = call_shape(call, x)->dims[i];
        slice.step[i] = 1;
    }
    for (int i = local->spatial - 1; i >= 0; i--) {
        slice.begin[i + 1] = tap % local->kernel[i];
        slice.size[i + 1] = local->out[i];
        slice.step[i + 1] = local->stride[i];
        tap /= local->kernel[i];
    }
    return emit_slice(call->low, x, &slice);
}

/* x (N, spatial..., C) -> (N, places, taps * C), in the order in which Keras flattens a patch. */
static int patches(struct call *call, int x, const struct local *local)
{
    int *cells = xmalloc((size_t)local->taps * sizeof *cells);
    int64_t batch = call_shape(call, x)->dims[0];
    for (int64_t tap = 0; tap < local->taps; tap++)
        cells[tap] = tap_cells(call, x, local, tap);
    int y = emit_concat(call->low, cells, (size_t)local->taps, local->spatial + 1);
    free(cells);
    if (local->first) { /* (taps, C) -> (C, taps) */
        struct shape apart = {.rank = 4,
                              .dims = {batch, local->places, local->taps, local->channels}};
        y = emit_reshape(call->low, y, &apart);
        y = emit_transpose(call->low, y, (int[]){0, 1, 3, 2});
    }
    struct shape flat = {.rank = 3, .dims = {batch, local->places, local->taps * local->channels}};
    return emit_reshape(call->low, y, &flat);
}

/* Zeros around the input, as far as the kernel reaches. With padding "same" the kernel's middle, and
 * the later of two, lies upon the cell: unlike in a convolution, whatever the stride. */
static int padded(struct call *call, int x, struct local *local)
{
    struct op_pad pad = {.value = 0};
    bool same = strcasecmp(config_string(call, "padding", "valid"), "same") == 0, any = false;
    config_ints(call, "kernel_size", local->spatial, 1, 1, local->kernel);
    config_ints(call, "strides", local->spatial, 1, 1, local->stride);
    for (int i = 0; i < local->spatial && x >= 0; i++) {
        int64_t n = local->in[i] = call_shape(call, x)->dims[i + 1];
        int64_t last = (n - 1) / local->stride[i] * local->stride[i];
        local->before[i] = same ? local->kernel[i] / 2 : 0;
        int64_t after = last - local->before[i] + local->kernel[i] - n;
        pad.before[i + 1] = local->before[i];
        pad.after[i + 1] = same && after > 0 ? after : 0;
        any |= pad.before[i + 1] > 0 || pad.after[i + 1] > 0;
    }
    return any ? emit_pad(call->low, x, &pad) : x;
}

static bool read_geometry(struct call *call, int x, struct local *local)
{
    const struct shape *shape = call_shape(call, x);
    local->taps = local->places = 1;
    local->channels = shape->dims[shape->rank - 1];
    local->filters = config_int(call, "filters", 1, 1);
    for (int i = 0; i < local->spatial; i++) {
        int64_t n = shape->dims[i + 1];
        if (local->kernel[i] > n)
            return call_misfit(call, "its kernel is larger than its input");
        local->out[i] = (n - local->kernel[i]) / local->stride[i] + 1;
        local->places *= local->out[i];
        local->taps *= local->kernel[i];
    }
    return !call->low->failed;
}

/* The input cell that a tap sees at a place, -1 where that is padding. */
static int64_t seen_cell(const struct local *local, int64_t place, int64_t tap)
{
    int64_t cell = 0, step = 1;
    for (int i = local->spatial - 1; i >= 0; i--) {
        int64_t at = place % local->out[i] * local->stride[i] + tap % local->kernel[i];
        at -= local->before[i];
        if (at < 0 || at >= local->in[i])
            return -1;
        cell += at * step;
        step *= local->in[i];
        place /= local->out[i];
        tap /= local->kernel[i];
    }
    return cell;
}

/* Where implementation 2 keeps the entry from input (cell, c) to output (place, f). */
static int64_t dense_entry(const struct local *local, int64_t cells, int64_t cell, int64_t c,
                           int64_t place, int64_t f)
{
    if (local->first)
        return ((c * cells + cell) * local->filters + f) * local->places + place;
    return ((cell * local->channels + c) * local->places + place) * local->filters + f;
}

/* Where implementation 3 does: `earlier` taps at the places before, `own` at this one, of which this
 * is number `rank`. */
static int64_t sparse_entry(const struct local *local, int64_t total, int64_t earlier, int64_t own,
                            int64_t rank, int64_t c, int64_t f)
{
    if (local->first)
        return (f * total + earlier) * local->channels + c * own + rank;
    return (earlier * local->filters + f * own + rank) * local->channels + c;
}

static int64_t count_seen(const struct local *local, int64_t place)
{
    int64_t count = 0;
    for (int64_t tap = 0; tap < local->taps; tap++)
        count += seen_cell(local, place, tap) >= 0;
    return count;
}

/* The matrices of all places from the other two ways of storing them. */
static void fill_kernel(const struct local *local, bool sparse, int64_t cells, int64_t total,
                        const struct model_weight *weight, float *data)
{
    int64_t earlier = 0, inputs = local->taps * local->channels;
    for (int64_t place = 0; place < local->places; place++) {
        int64_t own = count_seen(local, place), rank = 0;
        float *matrix = data + place * inputs * local->filters;
        for (int64_t tap = 0; tap < local->taps; tap++) {
            int64_t cell = seen_cell(local, place, tap);
            for (int64_t n = 0; n < local->channels * local->filters; n++) {
                int64_t c = n / local->filters, f = n % local->filters;
                int64_t row = local->first ? c * local->taps + tap : tap * local->channels + c;
                int64_t from = sparse ? sparse_entry(local, total, earlier, own, rank, c, f)
                                      : dense_entry(local, cells, cell, c, place, f);
                matrix[row * local->filters + f] =
                    cell < 0 ? 0 : (float)weight_element(weight, (size_t)from);
            }
            rank += cell >= 0;
        }
        earlier += own;
    }
}

/* The shape in which implementation 2 stores the kernel. */
static struct shape dense_shape(const struct local *local)
{
    struct shape shape = {.rank = 2 * local->spatial + 2};
    int half = local->spatial + 1;
    shape.dims[local->first ? 0 : local->spatial] = local->channels;
    shape.dims[half + (local->first ? 0 : local->spatial)] = local->filters;
    for (int i = 0; i < local->spatial; i++) {
        shape.dims[i + local->first] = local->in[i];
        shape.dims[half + i + local->first] = local->out[i];
    }
    return shape;
}

static const struct constant *read_kernel(struct call *call, const struct local *local)
{
    int64_t way = config_int(call, "implementation", 1, 1), total = 0, cells = 1;
    struct shape kernel = {.rank = 3,
                           .dims = {local->places, local->taps * local->channels, local->filters}};
    if (way == 1)
        return call_weight(call, "kernel", &kernel, NULL);
    if (way > 3) {
        call_misfit(call, "its implementation is none of 1, 2 and 3");
        return NULL;
    }
    for (int i = 0; i < local->spatial; i++)
        cells *= local->in[i];
    for (int64_t place = 0; place < local->places; place++)
        total += count_seen(local, place);
    int64_t entries = total * local->channels * local->filters;
    struct shape stored = way == 2 ? dense_shape(local) : shape_of(1, &entries);
    const struct model_weight *weight = call_raw_weight(call, "kernel", &stored);
    float *data;
    const struct constant *made = weight ? call_constant(call, "kernel", &kernel, &data) : NULL;
    if (made && data)
        fill_kernel(local, way == 3, cells, total, weight, data);
    return made;
}

/* The bias of every place, (spatial..., F). With the channels first Keras reshapes it to
 * (F, spatial...) and does not transpose it: so do we. */
static int add_bias(struct call *call, int y, const struct local *local)
{
    struct shape shape = {.rank = local->spatial + 1}, as = {.rank = local->spatial + 2};
    as.dims[0] = 1;
    as.dims[local->first ? 1 : local->spatial + 1] = local->filters;
    shape.dims[local->spatial] = local->filters;
    for (int i = 0; i < local->spatial; i++)
        shape.dims[i] = as.dims[i + (local->first ? 2 : 1)] = local->out[i];
    const struct constant *bias = call_weight(call, "bias", &shape, &as);
    return bias ? emit_binary_constant(call->low, BINARY_ADD, y, bias, false) : -1;
}

bool lower_locally_connected(struct call *call)
{
    struct local local = {.spatial = call->row->parameter, .first = config_channels_first(call)};
    int x = image_input(call, local.spatial);
    if (x >= 0 && local.first)
        x = emit_channels_last(call->low, x);
    x = padded(call, x, &local);
    if (x < 0 || !read_geometry(call, x, &local))
        return false;
    const struct constant *weights = read_kernel(call, &local);
    if (!weights)
        return false;
    int values[] = {patches(call, x, &local), emit_constant(call->low, weights)};
    int y = lower_einsum(call, "npk,pkf->npf", values, 2);
    struct shape out = {.rank = local.spatial + 2, .dims = {call_shape(call, x)->dims[0]}};
    for (int i = 0; i < local.spatial; i++)
        out.dims[i + 1] = local.out[i];
    out.dims[local.spatial + 1] = local.filters;
    y = emit_reshape(call->low, y, &out);
    if (local.first)
        y = emit_channels_first(call->low, y);
    if (config_bool(call, "use_bias", true))
        y = add_bias(call, y, &local);
    return call_return(call, lower_own_activation(call, y));
}
