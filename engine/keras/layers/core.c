/* Dense, the reshapes, the layers that do nothing at inference, and simple scalings. */
#include "engine/keras/layers/quantised.h"
#include "engine/keras/layers/table.h"
#include <stdlib.h>
#include <string.h>

bool lower_identity(struct call *call)
{
    int x = call_input(call, 0);
    struct shape shape = *call_shape(call, x);
    return call_return(call, emit_reshape(call->low, x, &shape));
}

bool lower_input(struct call *call)
{
    /* an input of a nested model: whatever the model was called with */
    return call_return(call, call_input(call, 0));
}

/* Dense with 8-bit weights: kernel, bias, scale of each unit. */
static bool dense_int8(struct call *call, int x, const struct shape *kernel)
{
    struct lowering *low = call->low;
    struct shape units = shape_of(1, &kernel->dims[1]), wide = *call_shape(call, x);
    bool axes[TENSOR_RANK_MAX] = {false}, biased = config_bool(call, "use_bias", true);
    int scale;
    axes[wide.rank - 1] = true;
    for (int i = 0; i < wide.rank; i++)
        wide.dims[i] = axes[i] ? kernel->dims[1] : 1;
    const struct constant *weights = call_weight(call, "kernel", kernel, NULL);
    const struct constant *bias = biased ? call_weight(call, "bias", &units, &wide) : NULL;
    int y = quantised_input(call, x, axes, &scale);
    if (low->failed)
        return false;
    y = quantised_result(call, emit_matmul(low, y, weights, NULL), scale, &units, &wide);
    if (biased && y >= 0)
        y = emit_binary_constant(low, BINARY_ADD, y, bias, false);
    return call_return(call, lower_own_activation(call, y));
}

/* Dense with a kernel of 4-bit integers. */
static bool dense_narrow(struct call *call, int x, const struct shape *kernel)
{
    bool axes[TENSOR_RANK_MAX] = {false};
    struct shape units = shape_of(1, &kernel->dims[1]);
    int scale;
    axes[call_shape(call, x)->rank - 1] = true;
    const struct constant *weights = quantised_kernel(call, kernel), *bias = NULL;
    if (config_bool(call, "use_bias", true))
        bias = quantised_bias(call, &units, &units);
    x = quantised_operand(call, x, axes, &scale);
    if (call->low->failed)
        return false;
    call_skip_weights(call);
    int y = emit_matmul(call->low, x, weights, scale < 0 ? bias : NULL);
    if (scale >= 0) {
        y = emit_binary(call->low, BINARY_DIVIDE, y, scale);
        y = bias ? emit_affine(call->low, y, NULL, bias) : y;
    }
    return call_return(call, lower_own_activation(call, y));
}

bool lower_dense(struct call *call)
{
    int x = call_input(call, 0);
    int64_t units = config_int(call, "units", 1, 1);
    const struct shape *shape = call_shape(call, x);
    if (x < 0 || shape->rank < 2)
        return call_misfit(call, "its input has no channel axis");
    int64_t dims[2] = {shape->dims[shape->rank - 1], units};
    struct shape kernel = shape_of(2, dims), bias = shape_of(1, &units);
    if (quantised_mode(call) == QUANTISED_INT8)
        return dense_int8(call, x, &kernel);
    if (quantised_mode(call) != QUANTISED_NONE)
        return dense_narrow(call, x, &kernel);
    const struct constant *weights = call_weight(call, "kernel", &kernel, NULL);
    const struct constant *shift =
        config_bool(call, "use_bias", true) ? call_weight(call, "bias", &bias, NULL) : NULL;
    if (call->low->failed)
        return false;
    int y = emit_matmul(call->low, x, weights, shift);
    return call_return(call, lower_own_activation(call, y));
}

bool lower_flatten(struct call *call)
{
    int x = call_input(call, 0);
    if (x < 0)
        return false;
    if (config_channels_first(call) && call_shape(call, x)->rank > 2)
        x = emit_channels_last(call->low, x); /* Keras flattens in channels-last order */
    const struct shape *shape = call_shape(call, x);
    struct shape flat = {.rank = 2, .dims = {shape->dims[0], 1}};
    for (int i = 1; i < shape->rank; i++)
        flat.dims[1] *= shape->dims[i];
    return call_return(call, emit_reshape(call->low, x, &flat));
}

bool lower_reshape(struct call *call)
{
    int x = call_input(call, 0);
    const json_t *target = json_object_get(call->config, "target_shape");
    size_t count = json_array_size(target);
    if (x < 0)
        return false;
    if (!json_is_array(target) || count + 1 > TENSOR_RANK_MAX)
        return call_refuse(call, "a target_shape of more than %d axes", TENSOR_RANK_MAX - 1);
    const struct shape *shape = call_shape(call, x);
    struct shape wanted = {.rank = (int)count + 1, .dims = {shape->dims[0]}};
    int64_t known = 1;
    int open = -1;
    for (size_t i = 0; i < count; i++) {
        const json_t *dim = json_array_get(target, i);
        int64_t size = json_is_integer(dim) ? json_integer_value(dim) : -1;
        wanted.dims[i + 1] = size;
        if (size < 0 && open < 0)
            open = (int)i + 1;
        else if (size < 1 || size > INT32_MAX || known > INT64_MAX / size)
            return call_misfit(call, "its target_shape makes no sense");
        else
            known *= size;
    }
    if (open > 0)
        wanted.dims[open] = shape_elements(shape) / shape->dims[0] / known;
    return call_return(call, emit_reshape(call->low, x, &wanted));
}

bool lower_permute(struct call *call)
{
    int x = call_input(call, 0), permutation[TENSOR_RANK_MAX] = {0};
    int rank = call_shape(call, x)->rank;
    const json_t *dims = json_object_get(call->config, "dims");
    unsigned seen = 1;
    if (x < 0)
        return false;
    if ((int)json_array_size(dims) != rank - 1)
        return call_misfit(call, "'dims' should name %d axes", rank - 1);
    for (int i = 1; i < rank; i++) { /* 1-based, without the batch */
        int64_t axis = json_integer_value(json_array_get(dims, (size_t)i - 1));
        if (axis < 1 || axis >= rank || seen & 1U << axis)
            return call_misfit(call, "'dims' is no permutation");
        seen |= 1U << axis;
        permutation[i] = (int)axis;
    }
    int y = emit_transpose(call->low, x, permutation);
    struct shape shape = *call_shape(call, y);
    return call_return(call, y == x ? emit_reshape(call->low, x, &shape) : y);
}

bool lower_repeat_vector(struct call *call)
{
    int x = call_input(call, 0);
    int64_t n = config_int(call, "n", 1, 1);
    const struct shape *shape = call_shape(call, x);
    if (x < 0 || shape->rank != 2)
        return call_misfit(call, "its input should have rank 2");
    struct shape image = {.rank = 4, .dims = {shape->dims[0], 1, 1, shape->dims[1]}};
    struct shape wanted = {.rank = 3, .dims = {shape->dims[0], n, shape->dims[1]}};
    int y = emit_resize(call->low, emit_reshape(call->low, x, &image), RESIZE_NEAREST, n, 1);
    return call_return(call, emit_reshape(call->low, y, &wanted));
}

static bool number_list(const json_t *value, double *out, size_t capacity, size_t *count)
{
    *count = json_array_size(value);
    for (size_t i = 0; i < *count && i < capacity; i++) {
        if (!json_is_number(json_array_get(value, i)))
            return false;
        out[i] = json_number_value(json_array_get(value, i));
    }
    return *count <= capacity;
}

/* A scalar, or a list with one entry a channel, written out to `channels` floats. */
static bool channel_values(struct call *call, const char *key, double missing, int64_t channels,
                           float *out)
{
    const json_t *value = json_object_get(call->config, key);
    double *numbers = xmalloc((size_t)channels * sizeof *numbers);
    size_t count = 0;
    bool fits = true;
    if (json_is_array(value))
        fits = number_list(value, numbers, (size_t)channels, &count) &&
               (count == 1 || (int64_t)count == channels);
    else
        numbers[0] = config_number(call, key, missing);
    for (int64_t i = 0; fits && i < channels; i++)
        out[i] = (float)numbers[count > 1 ? i : 0];
    free(numbers);
    return fits || call_misfit(call, "'%s' has %zu entries for %lld channels", key, count,
                               (long long)channels);
}

bool lower_rescaling(struct call *call)
{
    int x = call_input(call, 0);
    const struct shape *shape = call_shape(call, x);
    const json_t *scale = json_object_get(call->config, "scale");
    const json_t *offset = json_object_get(call->config, "offset");
    if (x < 0)
        return false;
    if (!json_is_array(scale) && !json_is_array(offset))
        return call_return(call, emit_linear(call->low, x, config_number(call, "scale", 1),
                                             config_number(call, "offset", 0)));
    int axis = config_channels_first(call) && shape->rank > 2 ? 1 : shape->rank - 1;
    int64_t channels = shape->dims[axis];
    struct shape vector = shape_of(1, &channels);
    float *s, *t;
    const struct constant *scales = call_constant(call, "scale", &vector, &s);
    if (s)
        channel_values(call, "scale", 1, channels, s);
    const struct constant *offsets = call_constant(call, "offset", &vector, &t);
    if (t)
        channel_values(call, "offset", 0, channels, t);
    return call_return(call, lower_affine_axis(call, x, axis, scales, offsets));
}

/* keras.applications ConvNeXt: x * gamma */
bool lower_layer_scale(struct call *call)
{
    int x = call_input(call, 0);
    const struct shape *shape = call_shape(call, x);
    if (x < 0 || shape->rank < 1)
        return false;
    struct shape vector = shape_of(1, &shape->dims[shape->rank - 1]);
    const struct constant *gamma = call_weight(call, "gamma", &vector, NULL);
    return call_return(call, gamma ? emit_affine(call->low, x, gamma, NULL) : -1);
}

/* keras.applications InceptionResNetV2: x0 + scale * x1 */
bool lower_custom_scale(struct call *call)
{
    int base = call_input(call, 0), branch = call_input(call, 1);
    branch = emit_linear(call->low, branch, config_number(call, "scale", 1), 0);
    return call_return(call, emit_binary(call->low, BINARY_ADD, base, branch));
}
