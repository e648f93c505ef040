/* Pooling. */
#include "engine/keras/layers/table.h"

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
