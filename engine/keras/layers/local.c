/* LocallyConnected1D and 2D of Keras 1 and 2: a convolution whose kernel differs from place to
 * place. The cells under the kernel are laid out behind each other, and each place is a matrix
 * product of its own. */
#include "engine/keras/layers/einsum.h"
#include "engine/keras/layers/table.h"
#include <stdlib.h>

struct local {
    int spatial;
    bool first;
    int64_t kernel[SPATIAL_MAX], stride[SPATIAL_MAX], out[SPATIAL_MAX];
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

static bool read_geometry(struct call *call, int x, struct local *local)
{
    const struct shape *shape = call_shape(call, x);
    config_ints(call, "kernel_size", local->spatial, 1, 1, local->kernel);
    config_ints(call, "strides", local->spatial, 1, 1, local->stride);
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
    if (config_int(call, "implementation", 1, 1) != 1)
        return call_refuse(call, "implementation 2 and 3 are not supported; save it with "
                                 "implementation=1");
    if (x >= 0 && local.first)
        x = emit_channels_last(call->low, x);
    if (x < 0 || !read_geometry(call, x, &local))
        return false;
    struct shape kernel = {.rank = 3,
                           .dims = {local.places, local.taps * local.channels, local.filters}};
    const struct constant *weights = call_weight(call, "kernel", &kernel, NULL);
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
