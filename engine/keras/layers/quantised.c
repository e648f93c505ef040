/* Keras: keras/src/quantizers (abs_max_quantize) and the _int8_call of its layers. */
#include "engine/keras/layers/quantised.h"

#include <string.h>

bool quantised_is(struct call *call)
{
    return strncmp(config_string(call, "dtype", ""), "int8_from_", 10) == 0;
}

/* The configuration of what rounds the input; *given: the file says something about it. */
static const json_t *rounding(struct call *call, bool *given)
{
    const json_t *whole = json_object_get(call->config, "quantization_config");
    const json_t *config = json_object_get(whole, "config");
    *given = json_is_object(config) && json_object_get(config, "activation_quantizer") != NULL;
    return json_object_get(json_object_get(config, "activation_quantizer"), "config");
}

int quantised_input(struct call *call, int x, const bool *axes, int *scale)
{
    struct lowering *low = call->low;
    bool given;
    const json_t *config = rounding(call, &given);
    const json_t *range = json_object_get(config, "value_range");
    const json_t *epsilon = json_object_get(config, "epsilon");
    double most = 127, least = -127;
    *scale = -1;
    if (given && !json_is_object(config))
        return x; /* weights alone */
    if (json_array_size(range) == 2) {
        least = json_number_value(json_array_get(range, 0));
        most = json_number_value(json_array_get(range, 1));
    }
    if (!(least >= -128 && least < most && most > 0 && most <= 127)) {
        call_misfit(call, "its quantizer's value_range is no range of 8-bit integers");
        return -1;
    }
    int largest = emit_reduce(low, emit_unary(low, x, UNARY_ABS, 0, 0), REDUCE_MAX, axes, true);
    largest =
        emit_linear(low, largest, 1, json_is_number(epsilon) ? json_number_value(epsilon) : 1e-7);
    if (largest < 0)
        return -1;
    const struct constant *top = lowering_number(low, most, call_shape(call, largest)->rank);
    *scale = emit_binary_constant(low, BINARY_DIVIDE, largest, top, true);
    int whole = emit_unary(low, emit_binary(low, BINARY_MULTIPLY, x, *scale), UNARY_ROUND, 0, 0);
    return emit_unary(low, whole, UNARY_CLIP, least, most);
}

int quantised_result(struct call *call, int y, int scale, const struct shape *stored,
                     const struct shape *wide)
{
    const struct constant *own = call_weight(call, "scale", stored, wide);
    if (call->low->failed)
        return -1;
    y = emit_binary_constant(call->low, BINARY_DIVIDE, y, own, false);
    return scale < 0 ? y : emit_binary(call->low, BINARY_DIVIDE, y, scale);
}
