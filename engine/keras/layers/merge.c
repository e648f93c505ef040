/* Layers that join several tensors. */
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A merge layer of Keras brings ranks together by inserting axes after the batch, unlike NumPy. */
static int with_rank(struct call *call, int x, int rank)
{
    const struct shape *old = call_shape(call, x);
    if (x < 0 || old->rank >= rank)
        return x;
    struct shape shape = {.rank = rank, .dims = {old->dims[0]}};
    for (int i = 1; i < rank; i++)
        shape.dims[i] = i <= rank - old->rank ? 1 : old->dims[i - (rank - old->rank)];
    return emit_reshape(call->low, x, &shape);
}

/* Keras 3.0 to 3.3: what is made of several tensors has no mask. */
static bool loses_masks(struct call *call)
{
    return config_bool(call, "_merge_masked", false);
}

/* Keras 3: a step is real if it is so in any input, and there is no mask unless all inputs have
 * one. Keras 2: if it is real in all the inputs that have a mask. */
static int merged_mask(struct call *call)
{
    int *masks = xmalloc((call->input_count + 1) * sizeof *masks), joined = -1;
    bool every = true, either = config_keras_major(call) >= 3;
    for (size_t i = 0; i < call->input_count; i++) {
        masks[i] = mask_of_input(call, i);
        every &= masks[i] >= 0;
    }
    if (every || !either)
        joined = mask_join(call, masks, call->input_count, either);
    free(masks);
    return joined;
}

/* The mask of input i as (batch, steps, 1), for inputs of rank 3; -1 if it has none. */
static int mask_of_steps(struct call *call, size_t i)
{
    const struct shape *shape = call_shape(call, call->inputs[i]);
    int mask = shape->rank == 3 ? call_mask(call, i) : -1;
    if (mask < 0)
        return -1;
    const struct shape wide = {.rank = 3, .dims = {shape->dims[0], shape->dims[1], 1}};
    return emit_reshape(call->low, mask, &wide);
}

/* Keras 3.4 and later: a step that is masked in one input is what the others are there, and what is
 * masked in all inputs of a product is zero. */
static int merge_masked(struct call *call, enum binary_function function)
{
    struct lowering *low = call->low;
    bool product = function == BINARY_MULTIPLY, all = true;
    const struct constant *one = lowering_number(low, 1, 3), *zero = lowering_number(low, 0, 3);
    int y = -1, real = -1;
    for (size_t i = 0; i < call->input_count; i++) {
        int x = with_rank(call, call->inputs[i], 3), mask = mask_of_steps(call, i);
        all = all && mask >= 0;
        if (mask >= 0 && product)
            x = emit_select(low, mask, x, NULL, -1, one);
        else if (mask >= 0 && i > 0)
            x = emit_select(low, mask, x, NULL, y, NULL);
        if (i > 0 && real >= 0 && !product)
            y = emit_select(low, real, y, NULL, x, NULL);
        real = i == 0                   ? mask
               : mask >= 0 && real >= 0 ? emit_binary(low, BINARY_MAXIMUM, real, mask)
                                        : -1;
        y = i == 0 ? x : emit_binary(low, function, y, x);
    }
    return product && all ? emit_select(low, real, y, NULL, -1, zero) : y;
}

/* Does this layer look at the masks of what it joins? */
static bool heeds_masks(struct call *call, enum binary_function function, int rank)
{
    bool any = false;
    if (config_keras_major(call) < 3 || loses_masks(call) || rank != 3 ||
        (function != BINARY_MULTIPLY && function != BINARY_MAXIMUM && function != BINARY_MINIMUM))
        return false;
    for (size_t i = 0; i < call->input_count; i++)
        any |= mask_of_input(call, i) >= 0 && call_shape(call, call->inputs[i])->rank == 3;
    return any;
}

bool lower_merge(struct call *call)
{
    bool average = call->row->parameter == BINARY_FUNCTION_COUNT;
    enum binary_function function =
        average ? BINARY_ADD : (enum binary_function)call->row->parameter;
    int rank = 0;
    for (size_t i = 0; i < call->input_count; i++) {
        int other = call_shape(call, call->inputs[i])->rank;
        rank = other > rank ? other : rank;
    }
    int y = with_rank(call, call_input(call, 0), rank);
    if (call->input_count < 2)
        return call_misfit(call, "it joins fewer than two tensors");
    if (!average && heeds_masks(call, function, rank))
        y = merge_masked(call, function);
    else
        for (size_t i = 1; i < call->input_count; i++)
            y = emit_binary(call->low, function, y, with_rank(call, call->inputs[i], rank));
    if (average)
        y = emit_linear(call->low, y, 1.0 / (double)call->input_count, 0);
    if (!call_return(call, y))
        return false;
    call_set_mask(call, 0, loses_masks(call) ? -1 : merged_mask(call));
    return true;
}

/* Joined features: Keras 3 calls a step real if it is so for any feature, Keras 2 if for all; an
 * input without a mask is real everywhere. Joined steps: their masks are joined. */
static int joined_mask(struct call *call, int axis)
{
    int *masks = xmalloc((call->input_count + 1) * sizeof *masks), joined = -1;
    bool every = true, either = config_keras_major(call) >= 3;
    for (size_t i = 0; i < call->input_count; i++) {
        masks[i] = mask_of_input(call, i);
        every &= masks[i] >= 0;
    }
    if (axis < call_shape(call, call->inputs[0])->rank - 1)
        joined = mask_concat(call, call->inputs, masks, call->input_count, axis);
    else if (every || !either)
        joined = mask_join(call, masks, call->input_count, either);
    free(masks);
    return joined;
}

bool lower_concatenate(struct call *call)
{
    int x = call_input(call, 0);
    int axis =
        config_axis(call, config_int(call, "axis", -1, INT64_MIN), call_shape(call, x)->rank);
    if (x < 0 || call->low->failed)
        return false;
    int y = emit_concat(call->low, call->inputs, call->input_count, axis);
    struct shape shape = *call_shape(call, y);
    if (!call_return(call, y == x ? emit_reshape(call->low, x, &shape) : y))
        return false;
    call_set_mask(call, 0, loses_masks(call) ? -1 : joined_mask(call, axis));
    return true;
}

/* x / max(|x|, 1e-6) along one axis, as keras.ops.normalize with Keras's epsilon 1e-12 on squares */
static int unit_length(struct call *call, int x, int axis)
{
    struct lowering *low = call->low;
    bool axes[TENSOR_RANK_MAX] = {false};
    axes[axis] = true;
    int norm = emit_reduce(low, emit_unary(low, x, UNARY_SQUARE, 0, 0), REDUCE_SUM, axes, true);
    norm = emit_unary(low, norm, UNARY_CLIP, 1e-12, (double)INFINITY);
    return emit_binary(low, BINARY_MULTIPLY, x, emit_unary(low, norm, UNARY_RSQRT, 0, 0));
}

bool lower_dot(struct call *call)
{
    struct lowering *low = call->low;
    int x = call_input(call, 0), y = call_input(call, 1);
    const json_t *axes = json_object_get(call->config, "axes");
    bool pair = json_array_size(axes) == 2;
    if (x < 0 || y < 0)
        return false;
    const json_t *first = pair ? json_array_get(axes, 0) : axes;
    const json_t *second = pair ? json_array_get(axes, 1) : axes;
    int a = config_axis(call, json_integer_value(first), call_shape(call, x)->rank);
    int b = config_axis(call, json_integer_value(second), call_shape(call, y)->rank);
    if (low->failed || a == 0 || b == 0)
        return call_misfit(call, "'axes' makes no sense");
    if (config_bool(call, "normalize", false)) {
        x = unit_length(call, x, a);
        y = unit_length(call, y, b);
    }
    /* (N, rest of x, K) times (N, K, rest of y) */
    x = emit_axis_to_end(low, x, a);
    y = emit_axis_to_end(low, y, b);
    struct shape xs = *call_shape(call, x), ys = *call_shape(call, y);
    struct shape out = {.rank = 1, .dims = {xs.dims[0]}};
    if (xs.rank + ys.rank - 3 > TENSOR_RANK_MAX)
        return call_refuse(call, "its result has too many axes");
    struct shape left = {.rank = 3, .dims = {xs.dims[0], 1, xs.dims[xs.rank - 1]}};
    struct shape right = {.rank = 3, .dims = {ys.dims[0], 1, ys.dims[ys.rank - 1]}};
    for (int i = 1; i < xs.rank - 1; i++) {
        left.dims[1] *= xs.dims[i];
        out.dims[out.rank++] = xs.dims[i];
    }
    for (int i = 1; i < ys.rank - 1; i++) {
        right.dims[1] *= ys.dims[i];
        out.dims[out.rank++] = ys.dims[i];
    }
    if (out.rank == 1)
        out.dims[out.rank++] = 1;
    static const int swap[3] = {0, 2, 1};
    x = emit_reshape(low, x, &left);
    y = emit_transpose(low, emit_reshape(low, y, &right), swap);
    return call_return(call, emit_reshape(low, emit_matmul_values(low, x, y), &out));
}
