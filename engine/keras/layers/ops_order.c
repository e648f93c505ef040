/* Op nodes over whole axes: the largest and their places, running sums, norms, moments. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/numeric.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <string.h>
#include <strings.h>

static int flat(struct call *call, int x)
{
    int64_t count = shape_elements(call_shape(call, x));
    struct shape shape = shape_of(1, &count);
    return emit_reshape(call->low, x, &shape);
}

/* The axis of a call, 0 of the flattened input if there is none. */
static int axis_or_flat(struct call *call, int *x)
{
    if (op_argument(call, 1, "axis"))
        return config_axis(call, op_integer(call, 1, "axis", -1), call_shape(call, *x)->rank);
    *x = flat(call, *x);
    return 0;
}

/* ---- order ---- */

/* Argmax, or Argmin (parameter 1); those that leave out NaN (2 more). */
bool lower_op_arg(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x");
    struct shape given = *call_shape(call, x);
    bool whole = !op_argument(call, 1, "axis"), keep = config_bool(call, "keepdims", false);
    bool least = call->row->parameter & 1;
    if (call->row->parameter & 2)
        x = numeric_without_nan(call, x, least ? (double)INFINITY : (double)-INFINITY);
    int axis = axis_or_flat(call, &x);
    const struct op_top top = {.count = 1, .smallest = least, .indices = true};
    int y = emit_axis_from_end(low, emit_top(low, emit_axis_to_end(low, x, axis), &top), axis);
    struct shape shape = {.rank = 0};
    for (int i = 0; i < given.rank; i++) {
        bool gone = whole || i == axis;
        if (!gone || keep)
            shape.dims[shape.rank++] = gone ? 1 : given.dims[i];
    }
    return call_return(call, emit_reshape(low, y, &shape));
}

/* The k largest of the last axis, and their places. */
bool lower_op_top_k(struct call *call)
{
    int x = op_operand(call, 0, "x");
    struct op_top top = {.count = op_integer(call, 1, "k", 1)};
    if (!call_return(call, emit_top(call->low, x, &top)))
        return false;
    top.indices = true;
    return call_return(call, emit_top(call->low, x, &top));
}

/* Sort, or Argsort (parameter 1): the last axis unless the call says another. */
bool lower_op_sort(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    int axis = config_axis(call, op_integer(call, 1, "axis", -1), rank);
    if (x < 0 || low->failed)
        return false;
    const struct op_top top = {
        .count = call_shape(call, x)->dims[axis],
        .smallest = strcasecmp(config_string(call, "direction", ""), "descending") != 0,
        .indices = call->row->parameter == 1};
    int y = emit_top(low, emit_axis_to_end(low, x, axis), &top);
    return call_return(call, emit_axis_from_end(low, y, axis));
}

/* Cumsum, or Cumprod (parameter 1); those that leave out NaN (2 more). */
bool lower_op_cumulate(struct call *call)
{
    int x = op_operand(call, 0, "x");
    bool product = call->row->parameter & 1;
    if (call->row->parameter & 2)
        x = numeric_without_nan(call, x, product);
    struct op_cumulate cumulate = {.product = product,
                                   .reverse = config_bool(call, "reverse", false),
                                   .exclusive = config_bool(call, "exclusive", false)};
    cumulate.axis = axis_or_flat(call, &x);
    return call_return(call, emit_cumulate(call->low, x, &cumulate));
}

/* sparsemax as Keras has it: with z sorted and s_i = z_1 + ... + z_i, k is the number of i (from 1)
 * for which 1 + i z_i > s_i, and y = max(z - (s_1 + ... + s_k - 1) / k, 0). (The paper, Martins and
 * Astudillo, arXiv:1602.02068, takes s_k alone.) */
int lower_sparsemax(struct call *call, int x, int axis)
{
    struct lowering *low = call->low;
    bool last[TENSOR_RANK_MAX] = {false};
    x = emit_axis_to_end(low, x, axis);
    if (x < 0 || low->failed)
        return -1;
    int rank = call_shape(call, x)->rank;
    int64_t n = call_shape(call, x)->dims[rank - 1];
    struct shape row = shape_of(1, &n);
    float *data;
    const struct constant *places = call_constant(call, "sparsemax", &row, &data);
    for (int64_t i = 0; places && data && i < n; i++)
        data[i] = (float)(i + 1);
    int sorted = emit_top(low, x, &(struct op_top){.count = n});
    int sums = emit_cumulate(low, sorted, &(struct op_cumulate){.axis = rank - 1});
    int bound = emit_linear(low, emit_affine(low, sorted, places, NULL), 1, 1);
    int inside = emit_binary(low, BINARY_GREATER, bound, sums);
    last[rank - 1] = true;
    int count = emit_reduce(low, inside, REDUCE_SUM, last, true);
    int kept = emit_binary(low, BINARY_MULTIPLY, inside, sums);
    int total = emit_linear(low, emit_reduce(low, kept, REDUCE_SUM, last, true), 1, -1);
    int threshold = emit_binary(low, BINARY_DIVIDE, total, count);
    int y = emit_unary(low, emit_binary(low, BINARY_SUBTRACT, x, threshold), UNARY_RELU, 0, 0);
    return emit_axis_from_end(low, y, axis);
}

bool lower_op_sparsemax(struct call *call)
{
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    int axis = config_axis(call, op_integer(call, 1, "axis", -1), rank);
    return call_return(call, lower_sparsemax(call, x, axis));
}

/* ---- reductions that are made of others ---- */

/* Prod, or one that leaves out NaN (parameter 1). */
bool lower_op_prod(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    if (call->row->parameter == 1)
        x = numeric_without_nan(call, x, 1);
    bool axes[TENSOR_RANK_MAX], keep = config_bool(call, "keepdims", false);
    op_axes(call, 1, "axis", rank, axes);
    struct shape out = {.rank = 0};
    for (int i = 0; i < rank && x >= 0 && !low->failed; i++) {
        struct shape shape = *call_shape(call, x);
        struct op_slice slice = {.begin = {0}};
        if (!axes[i] || keep)
            out.dims[out.rank++] = axes[i] ? 1 : shape.dims[i];
        if (!axes[i])
            continue;
        for (int d = 0; d < rank; d++) {
            slice.size[d] = shape.dims[d];
            slice.step[d] = 1;
        }
        slice.begin[i] = shape.dims[i] - 1;
        slice.size[i] = 1;
        x = emit_cumulate(low, x, &(struct op_cumulate){.axis = i, .product = true});
        x = emit_slice(low, x, &slice);
    }
    return call_return(call, emit_reshape(low, x, &out));
}

/* max + log(sum(exp(x - max))) */
bool lower_op_logsumexp(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    bool axes[TENSOR_RANK_MAX], keep = config_bool(call, "keepdims", false);
    op_axes(call, 1, "axis", rank, axes);
    int most = emit_reduce(low, x, REDUCE_MAX, axes, true);
    int y = emit_unary(low, emit_binary(low, BINARY_SUBTRACT, x, most), UNARY_EXP, 0, 0);
    y = emit_unary(low, emit_reduce(low, y, REDUCE_SUM, axes, true), UNARY_LOG, 0, 0);
    y = emit_binary(low, BINARY_ADD, y, most);
    struct shape out = {.rank = 0};
    for (int i = 0; i < rank; i++) {
        if (!axes[i] || keep)
            out.dims[out.rank++] = axes[i] ? 1 : call_shape(call, x)->dims[i];
    }
    return call_return(call, emit_reshape(low, y, &out));
}

bool lower_op_average(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    const json_t *axis = json_object_get(call->config, "axis");
    const json_t *given = op_argument(call, 1, "weights");
    bool axes[TENSOR_RANK_MAX];
    op_axes(call, 99, "axis", rank, axes);
    if (!given)
        return call_return(call, emit_reduce(low, x, REDUCE_MEAN, axes, false));
    int weights = op_value(call, 1, "weights");
    struct shape shape = *call_shape(call, weights), own = *call_shape(call, x);
    if (shape.rank == 1 && own.rank > 1 && json_is_integer(axis)) { /* one weight a cell of it */
        int at = config_axis(call, json_integer_value(axis), rank);
        struct shape wide = {.rank = rank};
        for (int i = 0; i < rank; i++)
            wide.dims[i] = i == at ? shape.dims[0] : 1;
        weights = emit_reshape(low, weights, &wide);
    }
    weights = emit_broadcast(low, weights, &own);
    int sum =
        emit_reduce(low, emit_binary(low, BINARY_MULTIPLY, x, weights), REDUCE_SUM, axes, false);
    return call_return(call, emit_binary(low, BINARY_DIVIDE, sum,
                                         emit_reduce(low, weights, REDUCE_SUM, axes, false)));
}

bool lower_op_moments(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    bool axes[TENSOR_RANK_MAX], keep = config_bool(call, "keepdims", false);
    op_axes(call, 1, "axes", rank, axes);
    int mean = emit_reduce(low, x, REDUCE_MEAN, axes, true);
    int square = emit_unary(low, emit_binary(low, BINARY_SUBTRACT, x, mean), UNARY_SQUARE, 0, 0);
    return call_return(call, emit_reduce(low, x, REDUCE_MEAN, axes, keep)) &&
           call_return(call, emit_reduce(low, square, REDUCE_MEAN, axes, keep));
}

/* The p-norm over some axes. */
static int norm_of(struct call *call, int x, double order, const bool *axes, bool keep)
{
    struct lowering *low = call->low;
    if (order == 2) {
        int y = emit_reduce(low, emit_unary(low, x, UNARY_SQUARE, 0, 0), REDUCE_SUM, axes, keep);
        return emit_unary(low, y, UNARY_SQRT, 0, 0);
    }
    if (order == 0) { /* how many are not zero */
        const struct constant *zero = lowering_number(low, 0, call_shape(call, x)->rank);
        int real = emit_binary_constant(low, BINARY_NOT_EQUAL, x, zero, false);
        return emit_reduce(low, real, REDUCE_SUM, axes, keep);
    }
    int y = emit_unary(low, x, UNARY_ABS, 0, 0);
    if (isinf((float)order))
        return emit_reduce(low, y, order > 0 ? REDUCE_MAX : REDUCE_MIN, axes, keep);
    if (order == 1)
        return emit_reduce(low, y, REDUCE_SUM, axes, keep);
    struct lowering *l = low;
    int rank = call_shape(call, x)->rank;
    y = emit_binary_constant(l, BINARY_POWER, y, lowering_number(l, order, rank), false);
    y = emit_reduce(l, y, REDUCE_SUM, axes, keep);
    rank = call_shape(call, y)->rank;
    return emit_binary_constant(l, BINARY_POWER, y, lowering_number(l, 1 / order, rank), false);
}

static double order_of(struct call *call, const char *key)
{
    const json_t *order = json_object_get(call->config, key);
    const char *word = json_is_string(order) ? json_string_value(order) : "";
    if (strcmp(word, "euclidean") == 0) /* TensorFlow's word */
        return 2;
    if (strcmp(word, "inf") == 0)
        return (double)INFINITY;
    if (word[0] != '\0' && strcmp(word, "fro") != 0 && strcmp(word, "nuc") != 0)
        call_refuse(call, "norm '%.20s' is not supported", word);
    return json_is_number(order) ? json_number_value(order) : 2;
}

/* The norm of matrices whose rows count along one axis and whose columns along the other: the largest
 * sum of a column's magnitudes (1) or of a row's (infinity), or the smallest (-1, -infinity). */
static int matrix_norm(struct call *call, int x, double order, int rows, int columns, bool keep)
{
    struct lowering *low = call->low;
    bool summed[TENSOR_RANK_MAX] = {false}, both[TENSOR_RANK_MAX] = {false};
    bool wide = isinf((float)order);
    if (!wide && fabs(order) != 1) {
        call_refuse(call, "a matrix norm that needs singular values is not supported");
        return -1;
    }
    summed[wide ? columns : rows] = true;
    both[rows] = both[columns] = true;
    int sums = emit_reduce(low, emit_unary(low, x, UNARY_ABS, 0, 0), REDUCE_SUM, summed, true);
    return emit_reduce(low, sums, order > 0 ? REDUCE_MAX : REDUCE_MIN, both, keep);
}

bool lower_op_norm(struct call *call)
{
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank, count = 0;
    bool axes[TENSOR_RANK_MAX], keep = config_bool(call, "keepdims", false);
    double order = order_of(call, "ord");
    op_axes(call, 99, "axis", rank, axes);
    for (int i = 0; i < rank; i++)
        count += axes[i];
    const json_t *axis = json_object_get(call->config, "axis");
    const json_t *given = json_object_get(call->config, "ord");
    bool nuclear = json_is_string(given) && strcmp(json_string_value(given), "nuc") == 0;
    if (count == 2 && (json_is_number(given) || nuclear)) {
        int rows = 0, columns = 1;
        if (json_array_size(axis) == 2) {
            rows = config_axis(call, json_integer_value(json_array_get(axis, 0)), rank);
            columns = config_axis(call, json_integer_value(json_array_get(axis, 1)), rank);
        }
        return call_return(call, matrix_norm(call, x, nuclear ? 2 : order, rows, columns, keep));
    }
    if (count > 2 && json_is_number(given))
        return call_misfit(call, "a norm of this order is of one axis or of two");
    return call_return(call, norm_of(call, x, order, axes, keep));
}

/* x / max(norm, epsilon) */
bool lower_op_normalize(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    bool axes[TENSOR_RANK_MAX];
    double epsilon = config_number(call, "epsilon", 1e-12), order = order_of(call, "order");
    if (!op_axes(call, 99, "axis", rank, axes)) {
        memset(axes, 0, sizeof axes);
        axes[rank > 0 ? rank - 1 : 0] = true;
    }
    if (order == 2) { /* Keras: x rsqrt(max(sum of squares, epsilon squared)) */
        int sum = emit_unary(low, x, UNARY_SQUARE, 0, 0);
        sum = emit_reduce(low, sum, REDUCE_SUM, axes, true);
        sum = emit_unary(low, sum, UNARY_CLIP, fmax(epsilon * epsilon, 1e-38), (double)INFINITY);
        return call_return(
            call, emit_binary(low, BINARY_MULTIPLY, x, emit_unary(low, sum, UNARY_RSQRT, 0, 0)));
    }
    int norm = norm_of(call, x, order, axes, true);
    norm = emit_unary(low, norm, UNARY_CLIP, epsilon, (double)INFINITY);
    return call_return(call, emit_binary(low, BINARY_DIVIDE, x, norm));
}
