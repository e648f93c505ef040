/* Op nodes that move elements: by index, by repetition, by blocks. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <stdlib.h>
#include <string.h>

/* Everything of x. */
static struct op_slice whole(const struct shape *shape)
{
    struct op_slice slice = {.begin = {0}};
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = shape->dims[i];
        slice.step[i] = 1;
    }
    return slice;
}

/* Cells begin, begin + step, ... along one axis. */
static int part(struct call *call, int x, int axis, int64_t begin, int64_t count, int64_t step)
{
    if (x < 0 || call->low->failed)
        return -1;
    struct op_slice slice = whole(call_shape(call, x));
    slice.begin[axis] = begin;
    slice.size[axis] = count;
    slice.step[axis] = step;
    return emit_slice(call->low, x, &slice);
}

static int flat(struct call *call, int x)
{
    int64_t count = shape_elements(call_shape(call, x));
    struct shape shape = shape_of(1, &count);
    return emit_reshape(call->low, x, &shape);
}

/* ---- indices ---- */

bool lower_op_take(struct call *call)
{
    const json_t *given = op_argument(call, 1, "indices"), *at = op_argument(call, 2, "axis");
    int x = op_value(call, 0, "x"), indices = op_tensor(call, given);
    if (!at)
        x = flat(call, x);
    struct op_gather gather = {
        .axis =
            at ? config_axis(call, op_integer(call, 2, "axis", 0), call_shape(call, x)->rank) : 0};
    if (indices < 0)
        gather.indices = lower_json_constant(call, "indices", given);
    if (call->low->failed)
        return false;
    return call_return(call, emit_gather(call->low, x, indices, &gather));
}

bool lower_op_take_along_axis(struct call *call)
{
    struct lowering *low = call->low;
    const json_t *at = op_argument(call, 2, "axis");
    int x = op_value(call, 0, "x"), indices = op_value(call, 1, "indices");
    if (!at) {
        x = flat(call, x);
        indices = flat(call, indices);
    }
    struct shape shape = *call_shape(call, x), wide = *call_shape(call, indices);
    if (low->failed || shape.rank != wide.rank)
        return call_misfit(call, "its operands differ in rank");
    int axis = at ? config_axis(call, op_integer(call, 2, "axis", 0), shape.rank) : 0;
    for (int i = 0; i < shape.rank; i++) {
        int64_t size = shape.dims[i] > wide.dims[i] ? shape.dims[i] : wide.dims[i];
        if (i != axis)
            shape.dims[i] = wide.dims[i] = size;
    }
    x = emit_axis_to_end(low, emit_broadcast(low, x, &shape), axis);
    indices = emit_axis_to_end(low, emit_broadcast(low, indices, &wide), axis);
    struct op_gather gather = {.axis = shape.rank - 1, .batch_axes = shape.rank - 1};
    return call_return(call, emit_axis_from_end(low, emit_gather(low, x, indices, &gather), axis));
}

/* 1 where the index is, along a new axis. */
bool lower_op_one_hot(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x");
    int64_t classes = config_int(call, "num_classes", 1, 1);
    struct shape shape = *call_shape(call, x), row = {.rank = 0};
    if (x < 0 || shape.rank == TENSOR_RANK_MAX)
        return call_refuse(call, "its result has too many axes");
    int axis = config_axis(call, config_int(call, "axis", -1, INT64_MIN), shape.rank + 1);
    memmove(shape.dims + axis + 1, shape.dims + axis,
            (size_t)(shape.rank - axis) * sizeof *shape.dims);
    shape.dims[axis] = 1;
    row.rank = ++shape.rank;
    for (int i = 0; i < row.rank; i++)
        row.dims[i] = i == axis ? classes : 1;
    float *data;
    const struct constant *numbers = call_constant(call, "classes", &row, &data);
    for (int64_t i = 0; numbers && data && i < classes; i++)
        data[i] = (float)i;
    int y = emit_binary_constant(low, BINARY_EQUAL, emit_reshape(low, x, &shape), numbers, false);
    double on = config_number(call, "on_value", 1), off = config_number(call, "off_value", 0);
    return call_return(call, on == 1 && off == 0 ? y : emit_linear(low, y, on - off, off));
}

/* ---- repetition ---- */

/* Every cell along an axis `times` times in a row (inner), or the axis as a whole. */
static int repeated(struct call *call, int x, int axis, int64_t times, bool inner)
{
    struct shape shape = *call_shape(call, x), split = {.rank = shape.rank + 1};
    if (x < 0 || call->low->failed || times == 1)
        return x;
    if (shape.rank == TENSOR_RANK_MAX || times < 1) {
        call_refuse(call, "it repeats %lld times, or an input with too many axes",
                    (long long)times);
        return -1;
    }
    int gap = axis + inner;
    for (int i = 0; i < split.rank; i++)
        split.dims[i] = i < gap ? shape.dims[i] : i == gap ? 1 : shape.dims[i - 1];
    int y = emit_reshape(call->low, x, &split);
    split.dims[gap] = times;
    y = emit_broadcast(call->low, y, &split);
    shape.dims[axis] *= times;
    if (axis == 0)
        call->low->graph->mixes_samples = true;
    return emit_reshape(call->low, y, &shape);
}

static bool tile(struct call *call, const json_t *repeats)
{
    int x = op_value(call, 0, "x");
    struct shape shape = *call_shape(call, x);
    int count = json_is_array(repeats) ? (int)json_array_size(repeats) : 1;
    if (x < 0 || count > TENSOR_RANK_MAX)
        return call_refuse(call, "its repeats make no sense");
    while (shape.rank < count) {
        memmove(shape.dims + 1, shape.dims, (size_t)shape.rank * sizeof *shape.dims);
        shape.dims[0] = 1;
        shape.rank++;
    }
    x = emit_reshape(call->low, x, &shape);
    for (int i = 0; i < count; i++) {
        const json_t *one = json_is_array(repeats) ? json_array_get(repeats, (size_t)i) : repeats;
        x = repeated(call, x, shape.rank - count + i, json_integer_value(one), false);
    }
    shape = *call_shape(call, x);
    return call_return(call, emit_reshape(call->low, x, &shape));
}

bool lower_op_tile(struct call *call)
{
    const json_t *repeats = op_argument(call, 1, "repeats");
    json_t *sizes = op_sizes(call, repeats);
    bool ok = tile(call, sizes ? sizes : repeats);
    json_decref(sizes);
    return ok;
}

bool lower_op_repeat(struct call *call)
{
    const json_t *repeats = op_argument(call, 1, "repeats"), *at = op_argument(call, 2, "axis");
    int x = op_value(call, 0, "x");
    if (!at)
        x = flat(call, x);
    int axis =
        at ? config_axis(call, op_integer(call, 2, "axis", 0), call_shape(call, x)->rank) : 0;
    if (json_array_size(repeats) == 1)
        repeats = json_array_get(repeats, 0);
    if (!json_is_integer(repeats))
        return call_refuse(call, "its repeats are not one number");
    x = repeated(call, x, axis, json_integer_value(repeats), true);
    struct shape shape = *call_shape(call, x);
    return call_return(call, emit_reshape(call->low, x, &shape));
}

static bool broadcast_to(struct call *call, const json_t *target)
{
    int x = op_value(call, 0, "x");
    struct shape shape = {.rank = (int)json_array_size(target)}, own = *call_shape(call, x);
    if (x < 0 || shape.rank > TENSOR_RANK_MAX || shape.rank < own.rank)
        return call_misfit(call, "its shape is not a list of sizes that fits");
    for (int i = 0; i < shape.rank; i++) {
        const json_t *size = json_array_get(target, (size_t)i);
        int from = i - (shape.rank - own.rank);
        shape.dims[i] = json_integer_value(size);
        if (shape.dims[i] < 1) /* null: as it is */
            shape.dims[i] = from >= 0 ? own.dims[from] : 1;
    }
    return call_return(call, emit_broadcast(call->low, x, &shape));
}

bool lower_op_broadcast_to(struct call *call)
{
    json_t *sizes = op_sizes(call, op_argument(call, 1, "shape"));
    bool ok = broadcast_to(call, sizes);
    json_decref(sizes);
    return ok;
}

/* ---- order ---- */

bool lower_op_flip(struct call *call)
{
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    bool axes[TENSOR_RANK_MAX];
    op_axes(call, 1, "axis", rank, axes);
    for (int i = 0; i < rank; i++) {
        int64_t size = call_shape(call, x)->dims[i];
        if (axes[i])
            x = part(call, x, i, size - 1, size, -1);
    }
    return call_return(call, x);
}

static int rolled(struct call *call, int x, int axis, int64_t shift)
{
    int64_t size = call_shape(call, x)->dims[axis];
    if (x < 0)
        return -1;
    shift = (shift % size + size) % size;
    if (shift == 0)
        return x;
    const int parts[2] = {part(call, x, axis, size - shift, shift, 1),
                          part(call, x, axis, 0, size - shift, 1)};
    return emit_concat(call->low, parts, 2, axis);
}

bool lower_op_roll(struct call *call)
{
    const json_t *shift = op_argument(call, 1, "shift"), *axis = op_argument(call, 2, "axis");
    int x = op_operand(call, 0, "x");
    struct shape shape = *call_shape(call, x);
    if (!axis) {
        if (!json_is_integer(shift))
            return call_refuse(call, "its shift is not one number");
        x = rolled(call, flat(call, x), 0, json_integer_value(shift));
        return call_return(call, emit_reshape(call->low, x, &shape));
    }
    size_t count = json_is_array(axis) ? json_array_size(axis) : 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(axis) ? json_array_get(axis, i) : axis;
        const json_t *by = json_is_array(shift) ? json_array_get(shift, i) : shift;
        x = rolled(call, x, config_axis(call, json_integer_value(one), shape.rank),
                   json_integer_value(by));
    }
    return call_return(call, emit_reshape(call->low, x, &shape));
}

bool lower_op_moveaxis(struct call *call)
{
    const json_t *source = op_argument(call, 1, "source");
    const json_t *destination = op_argument(call, 2, "destination");
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    int permutation[TENSOR_RANK_MAX], next = 0;
    bool moved[TENSOR_RANK_MAX] = {false};
    size_t count = json_is_array(source) ? json_array_size(source) : 1;
    for (int i = 0; i < rank; i++)
        permutation[i] = -1;
    for (size_t i = 0; i < count; i++) {
        const json_t *a = json_is_array(source) ? json_array_get(source, i) : source;
        const json_t *b = json_is_array(destination) ? json_array_get(destination, i) : destination;
        int from = config_axis(call, json_integer_value(a), rank);
        int to = config_axis(call, json_integer_value(b), rank);
        if (call->low->failed || permutation[to] >= 0 || moved[from])
            return call_misfit(call, "it moves an axis twice");
        permutation[to] = from;
        moved[from] = true;
    }
    for (int i = 0; i < rank; i++) {
        if (permutation[i] >= 0)
            continue;
        while (moved[next])
            next++;
        permutation[i] = next++;
    }
    return call_return(call, emit_transpose(call->low, x, permutation));
}

bool lower_op_unstack(struct call *call)
{
    int x = op_operand(call, 0, "x");
    struct shape shape = *call_shape(call, x);
    if (x < 0)
        return false;
    int axis = config_axis(call, op_integer(call, 2, "axis", 0), shape.rank);
    int64_t count = shape.dims[axis];
    memmove(shape.dims + axis, shape.dims + axis + 1,
            (size_t)(shape.rank - axis - 1) * sizeof *shape.dims);
    shape.rank--;
    for (int64_t i = 0; i < count; i++) {
        int y = part(call, x, axis, i, 1, 1);
        if (!call_return(call, emit_reshape(call->low, y, &shape)))
            return false;
    }
    return true;
}

/* A block of fixed size from a fixed place. */
bool lower_op_slice(struct call *call)
{
    const json_t *start = op_argument(call, 1, "start_indices");
    const json_t *sizes = op_argument(call, 2, "shape");
    int x = op_operand(call, 0, "inputs"), rank = call_shape(call, x)->rank;
    struct op_slice slice = whole(call_shape(call, x));
    if (json_is_object(start))
        start = json_object_get(json_object_get(start, "config"), "value");
    if (x < 0 || (int)json_array_size(start) != rank || (int)json_array_size(sizes) != rank)
        return call_refuse(call, "its start is not a list of numbers, one an axis");
    for (int i = 0; i < rank; i++) {
        const json_t *begin = json_array_get(start, (size_t)i);
        int64_t size = json_integer_value(json_array_get(sizes, (size_t)i));
        if (!json_is_integer(begin))
            return call_refuse(call, "its start is not a list of numbers, one an axis");
        slice.begin[i] = json_integer_value(begin);
        slice.size[i] = size < 0 ? slice.size[i] - slice.begin[i] : size;
    }
    return call_return(call, emit_slice(call->low, x, &slice));
}

/* ---- padding ---- */

/* Mirror one axis, with the cell at the edge or without; or repeat that cell. */
static int mirrored(struct call *call, int x, int axis, int64_t before, int64_t after,
                    const char *mode)
{
    int64_t size = call_shape(call, x)->dims[axis];
    int skip = strcmp(mode, "reflect") == 0;
    int parts[3], count = 0;
    if (strcmp(mode, "edge") == 0) {
        parts[count++] = before > 0 ? part(call, x, axis, 0, before, 0) : -2;
        parts[count++] = x;
        parts[count++] = after > 0 ? part(call, x, axis, size - 1, after, 0) : -2;
    } else if (before > size - skip || after > size - skip) {
        call_misfit(call, "it mirrors more cells than there are");
        return -1;
    } else {
        parts[count++] = before > 0 ? part(call, x, axis, before - 1 + skip, before, -1) : -2;
        parts[count++] = x;
        parts[count++] = after > 0 ? part(call, x, axis, size - 1 - skip, after, -1) : -2;
    }
    int kept[3];
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        if (parts[i] != -2)
            kept[used++] = parts[i];
    }
    return emit_concat(call->low, kept, used, axis);
}

int lower_mirror_pad(struct call *call, int x, const struct op_pad *pad, const char *mode)
{
    int rank = call_shape(call, x)->rank;
    if (strcmp(mode, "reflect") != 0 && strcmp(mode, "symmetric") != 0 &&
        strcmp(mode, "edge") != 0) {
        call_refuse(call, "padding mode '%.20s' is not supported", mode);
        return -1;
    }
    for (int i = 0; i < rank && x >= 0; i++) {
        if (pad->before[i] > 0 || pad->after[i] > 0)
            x = mirrored(call, x, i, pad->before[i], pad->after[i], mode);
    }
    return x;
}

/* ---- blocks ---- */

/* (N, H, W, b b C) to (N, H b, W b, C) or back (parameter 1). */
bool lower_op_depth_space(struct call *call)
{
    struct lowering *low = call->low;
    bool first = config_channels_first(call), to_depth = call->row->parameter == 1;
    int x = op_operand(call, 0, "x");
    int64_t block = config_int(call, "block_size", 2, 1);
    if (x < 0 || call_shape(call, x)->rank != 4)
        return call_misfit(call, "its input is no image");
    if (first)
        x = emit_channels_last(low, x);
    struct shape s = *call_shape(call, x), split, out;
    if (to_depth) {
        if (s.dims[1] % block || s.dims[2] % block)
            return call_misfit(call, "its image does not divide into blocks of %lld",
                               (long long)block);
        split = (struct shape){
            .rank = 6,
            .dims = {s.dims[0], s.dims[1] / block, block, s.dims[2] / block, block, s.dims[3]}};
        out = (struct shape){
            .rank = 4,
            .dims = {s.dims[0], s.dims[1] / block, s.dims[2] / block, s.dims[3] * block * block}};
    } else {
        if (s.dims[3] % (block * block))
            return call_misfit(call, "its channels do not divide into blocks of %lld",
                               (long long)block);
        int64_t channels = s.dims[3] / block / block;
        split = (struct shape){.rank = 6,
                               .dims = {s.dims[0], s.dims[1], s.dims[2], block, block, channels}};
        out = (struct shape){.rank = 4,
                             .dims = {s.dims[0], s.dims[1] * block, s.dims[2] * block, channels}};
    }
    static const int spread[6] = {0, 1, 3, 2, 4, 5};
    int y = emit_transpose(low, emit_reshape(low, x, &split), spread);
    y = emit_reshape(low, y, &out);
    return call_return(call, first ? emit_channels_first(low, y) : y);
}
