/* Op nodes over the two last axes, as matrices, and small ones that are made of others: parts of a
 * matrix, quarter turns, quotients without a zero below, colours, shapes. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- parts of matrices ---- */

/* 1 where column - row lies within least..most, 0 elsewhere. */
static const struct constant *band(struct call *call, const struct shape *shape, int64_t least,
                                   int64_t most)
{
    struct shape mask = {.rank = shape->rank};
    int64_t rows = shape->dims[shape->rank - 2], columns = shape->dims[shape->rank - 1];
    char role[80];
    float *data;
    for (int i = 0; i < mask.rank; i++)
        mask.dims[i] = i < mask.rank - 2 ? 1 : shape->dims[i];
    snprintf(role, sizeof role, "band %lld %lld", (long long)least, (long long)most);
    const struct constant *made = call_constant(call, role, &mask, &data);
    for (int64_t i = 0; made && data && i < rows * columns; i++) {
        int64_t off = i % columns - i / columns;
        data[i] = off >= least && off <= most;
    }
    return made;
}

static int within_band(struct call *call, int x, int64_t least, int64_t most)
{
    const struct shape *shape = call_shape(call, x);
    if (x < 0 || shape->rank < 2) {
        call_misfit(call, "its input is no matrix");
        return -1;
    }
    int mask = emit_constant(call->low, band(call, shape, least, most));
    return emit_select(call->low, mask, x, NULL, -1, lowering_number(call->low, 0, shape->rank));
}

/* Triu, or Tril (parameter 1). */
bool lower_op_triangle(struct call *call)
{
    int64_t k = op_integer(call, 1, "k", 0);
    bool lower = call->row->parameter == 1;
    int x = op_operand(call, 0, "x");
    return call_return(call, within_band(call, x, lower ? -INT32_MAX : k, lower ? k : INT32_MAX));
}

/* TensorFlow: so many diagonals below the main one and above it, all of them if negative. */
bool lower_op_band_part(struct call *call)
{
    int64_t below = op_integer(call, 1, "num_lower", -1),
            above = op_integer(call, 2, "num_upper", -1);
    int x = op_operand(call, 0, "input");
    return call_return(
        call, within_band(call, x, below < 0 ? -INT32_MAX : -below, above < 0 ? INT32_MAX : above));
}

/* The diagonal of the matrices of two axes as a new last axis, or its sum (parameter 1). */
bool lower_op_diagonal(struct call *call)
{
    struct lowering *low = call->low;
    bool axes[TENSOR_RANK_MAX] = {false};
    int64_t offset = op_integer(call, 1, "offset", 0);
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    int rows = config_axis(call, op_integer(call, 2, "axis1", 0), rank);
    int columns = config_axis(call, op_integer(call, 3, "axis2", 1), rank);
    if (low->failed || rows == columns)
        return call_misfit(call, "its axes are one and the same");
    x = emit_axis_to_end(low, x, rows);
    x = emit_axis_to_end(low, x, columns > rows ? columns - 1 : columns);
    struct shape shape = *call_shape(call, x);
    int64_t height = shape.dims[rank - 2], width = shape.dims[rank - 1];
    int64_t top = offset < 0 ? -offset : 0, left = offset > 0 ? offset : 0;
    int64_t count = height - top < width - left ? height - top : width - left;
    if (count < 1)
        return call_misfit(call, "there is no diagonal so far out");
    int y = within_band(call, x, offset, offset);
    axes[rank - 1] = true;
    y = emit_reduce(low, y, REDUCE_SUM, axes, false);
    if (call->row->parameter == 1) {
        bool last[TENSOR_RANK_MAX] = {false};
        last[rank - 2] = true;
        return call_return(call, emit_reduce(low, y, REDUCE_SUM, last, false));
    }
    struct op_slice slice = {.begin = {0}};
    for (int i = 0; i < rank - 1; i++) {
        slice.size[i] = shape.dims[i];
        slice.step[i] = 1;
    }
    slice.begin[rank - 2] = top;
    slice.size[rank - 2] = count;
    return call_return(call, count == height ? y : emit_slice(low, y, &slice));
}

static int reversed(struct call *call, int x, int axis)
{
    struct op_slice slice = {.begin = {0}};
    const struct shape *shape = call_shape(call, x);
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = shape->dims[i];
        slice.step[i] = 1;
    }
    slice.begin[axis] = shape->dims[axis] - 1;
    slice.step[axis] = -1;
    return x < 0 ? -1 : emit_slice(call->low, x, &slice);
}

/* k quarter turns from the first axis towards the second. */
bool lower_op_rot90(struct call *call)
{
    int x = op_operand(call, 0, "array"), rank = call_shape(call, x)->rank;
    int64_t turns = op_integer(call, 1, "k", 1) & 3, axes[2];
    const json_t *given = op_argument(call, 2, "axes");
    int permutation[TENSOR_RANK_MAX];
    for (int i = 0; i < 2; i++)
        axes[i] =
            given ? config_axis(call, json_integer_value(json_array_get(given, (size_t)i)), rank)
                  : i;
    if (x < 0 || call->low->failed)
        return false;
    for (int i = 0; i < rank; i++)
        permutation[i] = i == axes[0] ? (int)axes[1] : i == axes[1] ? (int)axes[0] : i;
    if (turns == 2)
        x = reversed(call, reversed(call, x, (int)axes[0]), (int)axes[1]);
    else if (turns == 1)
        x = emit_transpose(call->low, reversed(call, x, (int)axes[1]), permutation);
    else if (turns == 3)
        x = reversed(call, emit_transpose(call->low, x, permutation), (int)axes[1]);
    struct shape shape = *call_shape(call, x);
    return call_return(call, turns == 0 ? emit_reshape(call->low, x, &shape) : x);
}

/* ---- made of others ---- */

enum { NO_NAN_DIVIDE, NO_NAN_MULTIPLY, NO_NAN_XLOGY };

/* x1 / x2, x1 x2, or x1 log(x2) with 0 where the factor that may be zero is: x2, x2, x1. */
bool lower_op_no_nan(struct call *call)
{
    struct lowering *low = call->low;
    int kind = call->row->parameter;
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    int made = kind == NO_NAN_DIVIDE ? emit_binary(low, BINARY_DIVIDE, x, y)
               : kind == NO_NAN_MULTIPLY
                   ? emit_binary(low, BINARY_MULTIPLY, x, y)
                   : emit_binary(low, BINARY_MULTIPLY, x, emit_unary(low, y, UNARY_LOG, 0, 0));
    int decides = kind == NO_NAN_XLOGY ? x : y, rank = call_shape(call, made)->rank;
    if (made < 0)
        return false;
    struct shape wide = *call_shape(call, made);
    decides = emit_broadcast(low, decides, &wide);
    return call_return(call,
                       emit_select(low, decides, made, NULL, -1, lowering_number(low, 0, rank)));
}

bool lower_op_squared_difference(struct call *call)
{
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    int apart = emit_binary(call->low, BINARY_SUBTRACT, x, y);
    return call_return(call, emit_unary(call->low, apart, UNARY_SQUARE, 0, 0));
}

/* The sum of a list of tensors. */
bool lower_op_add_n(struct call *call)
{
    int values[64];
    size_t count = op_operands(call, 0, "inputs", values, 64);
    if (count == 0)
        return false;
    struct shape shape = *call_shape(call, values[0]);
    int y = emit_reshape(call->low, values[0], &shape);
    for (size_t i = 1; i < count; i++)
        y = emit_binary(call->low, BINARY_ADD, y, values[i]);
    return call_return(call, y);
}

/* Each tensor of a list as an output of its own. (TensorFlow wraps what has a gradient of its own, as
 * swish has, in one.) */
bool lower_op_identity_n(struct call *call)
{
    int values[64];
    size_t count = op_operands(call, 0, "input", values, 64);
    bool good = count > 0;
    for (size_t i = 0; good && i < count; i++) {
        struct shape shape = *call_shape(call, values[i]);
        good = call_return(call, emit_reshape(call->low, values[i], &shape));
    }
    return good;
}

/* Isnan (parameter 0): different from itself; Isinf (1); Isfinite (2). */
bool lower_op_is(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x");
    if (call->row->parameter == 0)
        return call_return(call, emit_binary(low, BINARY_NOT_EQUAL, x, x));
    int size = emit_unary(low, x, UNARY_ABS, 0, 0);
    const struct constant *most = lowering_number(low, (double)INFINITY, call_shape(call, x)->rank);
    return call_return(
        call, emit_binary_constant(low, call->row->parameter == 1 ? BINARY_EQUAL : BINARY_LESS,
                                   size, most, false));
}

/* The brightness of (..., red, green, blue), as Keras and TensorFlow weigh it. */
bool lower_op_grayscale(struct call *call)
{
    static const float weights[3] = {0.2989F, 0.5870F, 0.1140F};
    int x = op_operand(call, 0, "images"), rank = call_shape(call, x)->rank;
    bool first = config_channels_first(call) && rank == 4;
    struct shape shape = {.rank = 2, .dims = {3, 1}};
    float *data;
    if (first)
        x = emit_channels_last(call->low, x);
    if (x < 0 || call_shape(call, x)->dims[rank - 1] != 3)
        return call_misfit(call, "its input has no three colours");
    const struct constant *mix = call_constant(call, "brightness", &shape, &data);
    if (mix && data)
        memcpy(data, weights, sizeof weights);
    int y = emit_matmul(call->low, x, mix, NULL);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* (..., 1) to (..., 3). */
bool lower_op_gray_to_rgb(struct call *call)
{
    int x = op_operand(call, 0, "images");
    struct shape shape = *call_shape(call, x);
    if (x < 0 || shape.rank < 1 || shape.dims[shape.rank - 1] != 1)
        return call_misfit(call, "its input has more than one channel");
    shape.dims[shape.rank - 1] = 3;
    return call_return(call, emit_broadcast(call->low, x, &shape));
}

/* The sizes of a tensor, all known here. */
bool lower_op_shape(struct call *call)
{
    int x = op_operand(call, 0, "input");
    struct shape shape = *call_shape(call, x);
    int64_t rank = shape.rank;
    struct shape list = shape_of(1, &rank);
    char role[160];
    float *data;
    if (x < 0 || rank == 0)
        return call_misfit(call, "its input has no axes");
    shape_format(role, sizeof role, &shape);
    const struct constant *sizes = call_constant(call, role, &list, &data);
    for (int i = 0; sizes && data && i < rank; i++)
        data[i] = (float)shape.dims[i];
    call->low->graph->mixes_samples = true; /* the number of samples is one of them */
    return call_return(call, emit_constant(call->low, sizes));
}

/* Evenly spaced whole or real numbers: arange(stop), arange(start, stop), arange(start, stop, step). */
bool lower_op_arange(struct call *call)
{
    double given[3] = {0, 0, 1};
    static const char *const names[3] = {"start", "stop", "step"};
    for (size_t i = 0; i < 3; i++) {
        const json_t *value = op_argument(call, i, names[i]);
        if (value && !op_number(call, value, &given[i]))
            return call_refuse(call, "its '%s' is computed from the inputs", names[i]);
    }
    if (!op_argument(call, 1, "stop")) {
        given[1] = given[0];
        given[0] = 0;
    }
    double count = ceil((given[1] - given[0]) / given[2]);
    if (!(count >= 1 && count <= INT32_MAX))
        return call_misfit(call, "it has no elements, or too many");
    int64_t length = (int64_t)count;
    struct shape shape = shape_of(1, &length);
    char role[96];
    float *data;
    snprintf(role, sizeof role, "arange %g %g %g", given[0], given[1], given[2]);
    const struct constant *row = call_constant(call, role, &shape, &data);
    for (int64_t i = 0; row && data && i < length; i++)
        data[i] = (float)(given[0] + (double)i * given[2]);
    return call_return(call, emit_constant(call->low, row));
}
