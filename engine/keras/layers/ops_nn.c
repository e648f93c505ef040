/* Op nodes that are layers without weights of their own: choices, casts and norms. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <string.h>

/* ---- elementwise ---- */

/* condition ? x1 : x2, each a tensor or numbers. */
bool lower_op_where(struct call *call)
{
    const json_t *a = op_argument(call, 1, "x1"), *b = op_argument(call, 2, "x2");
    if (!a || !b)
        return call_refuse(call, "without values to choose from its result has no fixed size");
    int condition = op_value(call, 0, "condition");
    int x = op_value(call, 1, "x1"), y = op_value(call, 2, "x2");
    return call_return(call, emit_select(call->low, condition, x, NULL, y, NULL));
}

/* Numbers are floats here: whole ones for integers, 0 and 1 for booleans. */
bool lower_op_cast(struct call *call)
{
    int x = op_operand(call, 0, "x");
    const json_t *given = op_argument(call, 1, "dtype");
    const char *name = json_is_string(given) ? json_string_value(given) : "float32";
    if (x < 0)
        return false;
    if (strcmp(name, "bool") == 0)
        return call_return(call, lower_binary_number(call, BINARY_NOT_EQUAL, x, 0, false));
    if (strncmp(name, "int", 3) == 0 || strncmp(name, "uint", 4) == 0)
        return call_return(call, emit_unary(call->low, x, UNARY_TRUNCATE, 0, 0));
    struct shape shape = *call_shape(call, x);
    return call_return(call, emit_reshape(call->low, x, &shape));
}

bool lower_op_logical_not(struct call *call)
{
    return call_return(call,
                       lower_binary_number(call, BINARY_EQUAL, op_operand(call, 0, "x"), 0, false));
}

/* Exactly one of two. */
bool lower_op_logical_xor(struct call *call)
{
    struct lowering *low = call->low;
    int x[2] = {op_value(call, 0, "x1"), op_value(call, 1, "x2")};
    for (int i = 0; i < 2 && x[i] >= 0; i++) {
        const struct constant *zero = lowering_number(low, 0, call_shape(call, x[i])->rank);
        x[i] = emit_binary_constant(low, BINARY_NOT_EQUAL, x[i], zero, false);
    }
    return call_return(call, emit_binary(low, BINARY_NOT_EQUAL, x[0], x[1]));
}

bool lower_op_reciprocal(struct call *call)
{
    return call_return(call,
                       lower_binary_number(call, BINARY_DIVIDE, op_operand(call, 0, "x"), 1, true));
}

bool lower_op_round(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x");
    double scale = pow(10, (double)op_integer(call, 1, "decimals", 0));
    if (scale == 1)
        return call_return(call, emit_unary(low, x, UNARY_ROUND, 0, 0));
    x = emit_unary(low, emit_linear(low, x, scale, 0), UNARY_ROUND, 0, 0);
    return call_return(call, emit_linear(low, x, 1 / scale, 0));
}

/* Log2 (parameter 2) and Log10 (10). */
bool lower_op_log_base(struct call *call)
{
    int x = emit_unary(call->low, op_operand(call, 0, "x"), UNARY_LOG, 0, 0);
    return call_return(call, emit_linear(call->low, x, 1 / log(call->row->parameter), 0));
}

/* ZerosLike (parameter 0), OnesLike (1), FullLike (2): the input is looked at for its shape alone. */
bool lower_op_like(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x");
    const json_t *value = op_argument(call, 1, "fill_value");
    double number = call->row->parameter < 2 ? call->row->parameter : json_number_value(value);
    if (call->row->parameter == 2 && !json_is_number(value)) {
        struct shape shape = *call_shape(call, x);
        return call_return(call, emit_broadcast(low, op_value(call, 1, "fill_value"), &shape));
    }
    int rank = call_shape(call, x)->rank;
    const struct constant *constant = lowering_number(low, number, rank);
    /* equal to itself: 1, but for what is no number; and then not */
    return call_return(call, emit_select(low, x, -1, constant, -1, constant));
}

bool lower_op_full(struct call *call)
{
    const json_t *target = op_argument(call, 1, "shape");
    struct shape shape = {.rank = (int)json_array_size(target)};
    if (!json_is_array(target) || shape.rank > TENSOR_RANK_MAX)
        return call_refuse(call, "its shape is not a list of sizes");
    for (int i = 0; i < shape.rank; i++) {
        shape.dims[i] = json_integer_value(json_array_get(target, (size_t)i));
        if (shape.dims[i] < 1)
            return call_refuse(call, "its shape is open");
    }
    return call_return(call, emit_broadcast(call->low, op_value(call, 0, "fill_value"), &shape));
}

/* ---- norms ---- */

/* An operand of one axis's size, spread so that it meets that axis of x. */
static int along(struct call *call, size_t position, const char *name, int rank, int axis)
{
    int value = op_value(call, position, name);
    struct shape shape = {.rank = rank};
    if (value < 0)
        return -1;
    for (int i = 0; i < rank; i++)
        shape.dims[i] = i == axis ? shape_elements(call_shape(call, value)) : 1;
    return emit_reshape(call->low, value, &shape);
}

/* (x - mean) / sqrt(variance + epsilon) * scale + offset */
bool lower_op_batch_norm(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    int axis = config_axis(call, config_int(call, "axis", -1, INT64_MIN), rank);
    double epsilon = config_number(call, "epsilon", 1e-3);
    int mean = along(call, 1, "mean", rank, axis),
        variance = along(call, 2, "variance", rank, axis);
    int factor = emit_unary(low, emit_linear(low, variance, 1, epsilon), UNARY_RSQRT, 0, 0);
    if (op_argument(call, 4, "scale"))
        factor = emit_binary(low, BINARY_MULTIPLY, factor, along(call, 4, "scale", rank, axis));
    int y = emit_binary(low, BINARY_SUBTRACT, x, mean);
    y = emit_binary(low, BINARY_MULTIPLY, y, factor);
    if (op_argument(call, 3, "offset"))
        y = emit_binary(low, BINARY_ADD, y, along(call, 3, "offset", rank, axis));
    return call_return(call, y);
}

/* LayerNorm, or RMSNorm (parameter 1), over the last axes; LayerNorm's rms_scaling is as the layer's. */
bool lower_op_layer_norm(struct call *call)
{
    struct lowering *low = call->low;
    bool rms = call->row->parameter == 1, scaled = config_bool(call, "rms_scaling", false);
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank, first = rank;
    const char *gamma = call->row->parameter == 1 ? "scale" : "gamma";
    bool axes[TENSOR_RANK_MAX];
    double epsilon = config_number(call, "epsilon", 1e-7);
    if (!op_axes(call, 99, "axis", rank, axes)) {
        memset(axes, 0, sizeof axes);
        axes[rank > 0 ? rank - 1 : 0] = true;
    }
    while (first > 0 && axes[first - 1])
        first--;
    for (int i = 0; i < first; i++) {
        if (axes[i])
            return call_refuse(call, "it normalises over axes that are not the last");
    }
    struct op_normalise normalise = {.axis = first, .epsilon = (float)epsilon, .rms = rms};
    int y = scaled ? emit_binary(low, BINARY_MULTIPLY, x,
                                 lower_inverse_deviation(call, x, axes, epsilon, NULL))
                   : emit_normalise(low, x, &normalise);
    if (op_argument(call, 1, gamma))
        y = emit_binary(low, BINARY_MULTIPLY, y, op_value(call, 1, gamma));
    if (!rms && !scaled && op_argument(call, 2, "beta"))
        y = emit_binary(low, BINARY_ADD, y, op_value(call, 2, "beta"));
    return call_return(call, y);
}
