/* Op nodes that multiply and sum: matmul, dot, tensordot, outer, vdot, einsum. */
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/einsum.h"
#include "engine/keras/layers/table.h"
#include <stdio.h>
#include <string.h>

/* TensorFlow may ask for a matrix turned round. */
static int turned(struct call *call, int x, const char *key)
{
    int rank = call_shape(call, x)->rank, permutation[TENSOR_RANK_MAX];
    if (x < 0 || rank < 2 || !config_bool(call, key, false))
        return x;
    for (int i = 0; i < rank; i++)
        permutation[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
    return emit_transpose(call->low, x, permutation);
}

bool lower_op_matmul(struct call *call)
{
    const json_t *second = op_argument(call, 1, "x2");
    int a = turned(call, op_value(call, 0, "x1"), "transpose_a"), b = op_tensor(call, second);
    if (config_bool(call, "transpose_b", false))
        return call_return(
            call, lower_matmul(call, a, turned(call, op_value(call, 1, "x2"), "transpose_b")));
    if (b < 0 && a >= 0 && call_shape(call, a)->rank > 1) {
        const struct constant *matrix = lower_json_constant(call, "x2", second);
        if (matrix && matrix->shape.rank == 2)
            return call_return(call, emit_matmul(call->low, a, matrix, NULL));
        b = emit_constant(call->low, matrix);
    } else if (b < 0) {
        b = op_value(call, 1, "x2");
    }
    return call_return(call, lower_matmul(call, a, b));
}

bool lower_op_einsum(struct call *call)
{
    int values[EINSUM_OPERANDS];
    size_t count = call->node ? json_array_size(call->node->args) : 0;
    const char *equation = config_string(call, "subscripts", "");
    if (count < 1 || count > EINSUM_OPERANDS)
        return call_refuse(call, "it has %zu operands", count);
    for (size_t i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "operands[%zu]", i);
        values[i] = op_value(call, i, name);
    }
    return call_return(call, lower_einsum(call, equation, values, count));
}

/* Sum axis a[i] of x against axis b[i] of y; the result has what is left of x, then of y. */
static int contract(struct call *call, int x, int y, const int *a, const int *b, int count)
{
    char equation[64], left[TENSOR_RANK_MAX + 1] = "", right[TENSOR_RANK_MAX + 1] = "";
    char xs[TENSOR_RANK_MAX + 1] = "", ys[TENSOR_RANK_MAX + 1] = "";
    int x_rank = call_shape(call, x)->rank, y_rank = call_shape(call, y)->rank;
    if (call->low->failed)
        return -1;
    for (int i = 0; i < x_rank; i++)
        xs[i] = left[i] = (char)('a' + i);
    for (int i = 0; i < y_rank; i++)
        ys[i] = right[i] = (char)('A' + i);
    for (int i = 0; i < count; i++) {
        ys[b[i]] = xs[a[i]];
        left[a[i]] = right[b[i]] = ' ';
    }
    snprintf(equation, sizeof equation, "%s,%s->%s%s", xs, ys, left, right);
    const int values[2] = {x, y};
    return lower_einsum(call, equation, values, 2);
}

/* NumPy: vectors and matrices multiply; else the last axis of x meets the last but one of y. */
bool lower_op_dot(struct call *call)
{
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    int x_rank = call_shape(call, x)->rank, y_rank = call_shape(call, y)->rank;
    if (x >= 0 && y >= 0 && (x_rank == 0 || y_rank == 0))
        return call_return(call, emit_binary(call->low, BINARY_MULTIPLY, x, y));
    int a = x_rank - 1, b = y_rank > 1 ? y_rank - 2 : 0;
    return call_return(call, contract(call, x, y, &a, &b, 1));
}

bool lower_op_inner(struct call *call)
{
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    int a = call_shape(call, x)->rank - 1, b = call_shape(call, y)->rank - 1;
    if (a < 0 || b < 0)
        return call_refuse(call, "it has an operand without axes");
    return call_return(call, contract(call, x, y, &a, &b, 1));
}

bool lower_op_tensordot(struct call *call)
{
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    int x_rank = call_shape(call, x)->rank, y_rank = call_shape(call, y)->rank;
    int a[TENSOR_RANK_MAX], b[TENSOR_RANK_MAX], count = 2;
    const json_t *axes = op_argument(call, 2, "axes");
    const json_t *first = json_array_get(axes, 0), *second = json_array_get(axes, 1);
    if (json_is_array(axes)) {
        count = json_is_array(first) ? (int)json_array_size(first) : 1;
        if (json_array_size(axes) != 2 || count > TENSOR_RANK_MAX ||
            count != (json_is_array(second) ? (int)json_array_size(second) : 1))
            return call_misfit(call, "'axes' makes no sense");
        for (int i = 0; i < count; i++) {
            const json_t *one = json_is_array(first) ? json_array_get(first, (size_t)i) : first;
            const json_t *two = json_is_array(second) ? json_array_get(second, (size_t)i) : second;
            a[i] = config_axis(call, json_integer_value(one), x_rank);
            b[i] = config_axis(call, json_integer_value(two), y_rank);
        }
    } else {
        count = (int)op_integer(call, 2, "axes", 2);
        if (count < 0 || count > x_rank || count > y_rank)
            return call_misfit(call, "'axes' makes no sense");
        for (int i = 0; i < count; i++) {
            a[i] = x_rank - count + i;
            b[i] = i;
        }
    }
    return call_return(call, contract(call, x, y, a, b, count));
}

/* All elements of both, as a column and a row. */
bool lower_op_outer(struct call *call)
{
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    struct shape column = {.rank = 2, .dims = {shape_elements(call_shape(call, x)), 1}};
    struct shape row = {.rank = 2, .dims = {1, shape_elements(call_shape(call, y))}};
    x = emit_reshape(call->low, x, &column);
    y = emit_reshape(call->low, y, &row);
    return call_return(call, emit_binary(call->low, BINARY_MULTIPLY, x, y));
}

/* The sum of all products of elements. */
bool lower_op_vdot(struct call *call)
{
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    bool axes[TENSOR_RANK_MAX];
    memset(axes, true, sizeof axes);
    struct shape shape = *call_shape(call, x);
    int product = emit_binary(call->low, BINARY_MULTIPLY, x, emit_reshape(call->low, y, &shape));
    return call_return(call, emit_reduce(call->low, product, REDUCE_SUM, axes, false));
}
