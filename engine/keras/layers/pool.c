/* Pooling. */
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <stdlib.h>

bool lower_pooling(struct call *call)
{
    int spatial = call->row->parameter & 7;
    static const int64_t ones[SPATIAL_MAX] = {1, 1, 1};
    struct op_pool pool = {.function = call->row->parameter & 8 ? POOL_AVERAGE : POOL_MAX,
                           .spatial = spatial};
    int x = call_input(call, 0);
    if (x >= 0 && call_shape(call, x)->rank != spatial + 2)
        return call_misfit(call, "its input has rank %d and should have %d",
                           call_shape(call, x)->rank, spatial + 2);
    bool first = config_channels_first(call);
    if (first)
        x = emit_channels_last(call->low, x);
    config_ints(call, "pool_size", spatial, 2, 1, pool.window);
    for (int i = 0; i < spatial; i++)
        pool.stride[i] = pool.window[i];
    const json_t *strides = json_object_get(call->config, "strides");
    if (strides && !json_is_null(strides))
        config_ints(call, "strides", spatial, 1, 1, pool.stride);
    if (x < 0 || call->low->failed)
        return false;
    padding_of(call, call_shape(call, x), spatial, pool.window, pool.stride, ones, pool.pad_before,
               pool.pad_after);
    int y = emit_pool(call->low, x, &pool);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* The mean over the real steps alone: sum(x mask) / sum(mask). */
static int masked_mean(struct call *call, int x, int mask, const bool *axes)
{
    struct lowering *low = call->low;
    struct shape wide = *call_shape(call, x);
    wide.dims[axes[1] ? 2 : 1] = 1;
    bool keepdims = config_bool(call, "keepdims", false);
    mask = emit_reshape(low, mask, &wide);
    x = emit_select(low, mask, x, NULL, -1, lowering_number(low, 0, 3));
    x = emit_reduce(low, x, REDUCE_SUM, axes, keepdims);
    return emit_binary(low, BINARY_DIVIDE, x, emit_reduce(low, mask, REDUCE_SUM, axes, keepdims));
}

bool lower_global_pooling(struct call *call)
{
    int spatial = call->row->parameter & 7;
    bool axes[TENSOR_RANK_MAX] = {false};
    int x = call_input(call, 0);
    if (x >= 0 && call_shape(call, x)->rank != spatial + 2)
        return call_misfit(call, "its input has rank %d and should have %d",
                           call_shape(call, x)->rank, spatial + 2);
    for (int i = 0; i < spatial; i++)
        axes[i + (config_channels_first(call) ? 2 : 1)] = true;
    enum reduce_function function = call->row->parameter & 8 ? REDUCE_MEAN : REDUCE_MAX;
    int mask = function == REDUCE_MEAN && spatial == 1 ? call_mask(call, 0) : -1;
    if (mask >= 0)
        return call_return(call, masked_mean(call, x, mask, axes));
    return call_return(
        call, emit_reduce(call->low, x, function, axes, config_bool(call, "keepdims", false)));
}

/* Pool one axis into `out` windows [floor(o n / out), ceil((o + 1) n / out)), which may overlap. */
static int pool_axis(struct call *call, int x, int axis, int64_t out, enum reduce_function function)
{
    int64_t n = call_shape(call, x)->dims[axis];
    bool axes[TENSOR_RANK_MAX] = {false};
    int *parts = xmalloc((size_t)out * sizeof *parts);
    struct op_slice slice = {.begin = {0}};
    axes[axis] = true;
    for (int i = 0; i < call_shape(call, x)->rank; i++) {
        slice.size[i] = call_shape(call, x)->dims[i];
        slice.step[i] = 1;
    }
    for (int64_t o = 0; o < out; o++) {
        slice.begin[axis] = o * n / out;
        slice.size[axis] = ((o + 1) * n + out - 1) / out - slice.begin[axis];
        int window = emit_slice(call->low, x, &slice);
        parts[o] = emit_reduce(call->low, window, function, axes, true);
    }
    int y = out == 1 ? parts[0] : emit_concat(call->low, parts, (size_t)out, axis);
    free(parts);
    return y;
}

bool lower_adaptive_pooling(struct call *call)
{
    int spatial = call->row->parameter & 7;
    bool average = call->row->parameter & 8, first = config_channels_first(call), even = true;
    struct op_pool pool = {.function = average ? POOL_AVERAGE : POOL_MAX, .spatial = spatial};
    int64_t out[SPATIAL_MAX];
    int x = image_input(call, spatial);
    config_ints(call, "output_size", spatial, 1, 1, out);
    if (x >= 0 && first)
        x = emit_channels_last(call->low, x);
    if (x < 0 || call->low->failed)
        return false;
    for (int i = 0; i < spatial; i++) {
        int64_t n = call_shape(call, x)->dims[i + 1];
        if (out[i] > n)
            return call_refuse(call, "an output larger than its input is not supported");
        even &= n % out[i] == 0;
        pool.window[i] = pool.stride[i] = n / out[i];
    }
    int y = even ? emit_pool(call->low, x, &pool) : x;
    for (int i = 0; i < spatial && !even; i++)
        y = pool_axis(call, y, i + 1, out[i], average ? REDUCE_MEAN : REDUCE_MAX);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

bool lower_op_adaptive_pool(struct call *call)
{
    struct layer_row row = *call->row;
    int spatial = call_shape(call, op_operand(call, 0, "inputs"))->rank - 2;
    if (spatial < 1 || spatial > SPATIAL_MAX)
        return call_misfit(call, "its input has no or too many spatial axes");
    row.parameter += spatial;
    struct call layer = *call;
    layer.row = &row;
    bool good = lower_adaptive_pooling(&layer);
    layer.row = call->row;
    *call = layer;
    return good;
}
