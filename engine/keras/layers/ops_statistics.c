/* Op nodes that are statistics of axes: counts, quantiles, sums that leave out what is no number, and
 * where numbers fall among others. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/numeric.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <string.h>

/* ---- sums that leave out NaN ---- */

enum { NAN_MEAN, NAN_SUM, NAN_MAX, NAN_MIN, NAN_VARIANCE, NAN_DEVIATION };

bool lower_op_nan_reduce(struct call *call)
{
    struct lowering *low = call->low;
    int kind = call->row->parameter, x = op_operand(call, 0, "x");
    int rank = call_shape(call, x)->rank;
    bool axes[TENSOR_RANK_MAX], keep = config_bool(call, "keepdims", false);
    op_axes(call, 1, "axis", rank, axes);
    bool most = kind == NAN_MAX, least = kind == NAN_MIN;
    double neutral = most ? (double)-INFINITY : least ? (double)INFINITY : 0;
    int y = numeric_without_nan(call, x, neutral);
    if (kind == NAN_SUM)
        return call_return(call, emit_reduce(low, y, REDUCE_SUM, axes, keep));
    int there = emit_binary(low, BINARY_EQUAL, x, x);
    int count = emit_reduce(low, there, REDUCE_SUM, axes, keep);
    if (most || least) {
        y = emit_reduce(low, y, most ? REDUCE_MAX : REDUCE_MIN, axes, keep);
        return call_return(call, numeric_choose(call, count, y, 0, -1, (double)NAN));
    }
    if (kind == NAN_MEAN)
        return call_return(call, emit_binary(low, BINARY_DIVIDE,
                                             emit_reduce(low, y, REDUCE_SUM, axes, keep), count));
    int counts = emit_reduce(low, there, REDUCE_SUM, axes, true);
    int mean = emit_binary(low, BINARY_DIVIDE, emit_reduce(low, y, REDUCE_SUM, axes, true), counts);
    y = emit_unary(low, emit_binary(low, BINARY_SUBTRACT, y, mean), UNARY_SQUARE, 0, 0);
    y = emit_reduce(low, emit_binary(low, BINARY_MULTIPLY, y, there), REDUCE_SUM, axes, keep);
    y = emit_binary(low, BINARY_DIVIDE, y, count);
    return call_return(call, kind == NAN_DEVIATION ? emit_unary(low, y, UNARY_SQRT, 0, 0) : y);
}

/* Ptp (parameter 0): from the least to the most; CountNonzero (1). */
bool lower_op_spread(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    bool axes[TENSOR_RANK_MAX], keep = config_bool(call, "keepdims", false);
    op_axes(call, 1, "axis", rank, axes);
    if (call->row->parameter == 1) {
        const struct constant *zero = lowering_number(low, 0, rank);
        int there = emit_binary_constant(low, BINARY_NOT_EQUAL, x, zero, false);
        return call_return(call, emit_reduce(low, there, REDUCE_SUM, axes, false));
    }
    int most = emit_reduce(low, x, REDUCE_MAX, axes, keep);
    return call_return(
        call, emit_binary(low, BINARY_SUBTRACT, most, emit_reduce(low, x, REDUCE_MIN, axes, keep)));
}

/* ---- quantiles ---- */

/* The axes that go as one last axis, from the least to the most. */
static int sorted(struct call *call, int x, const bool *axes, int64_t *count)
{
    struct lowering *low = call->low;
    struct shape shape = *call_shape(call, x), out = {.rank = 0};
    int permutation[TENSOR_RANK_MAX], used = 0;
    *count = 1;
    for (int gone = 0; gone < 2; gone++) {
        for (int i = 0; i < shape.rank; i++) {
            if (axes[i] != (gone == 1))
                continue;
            permutation[used++] = i;
            if (gone)
                *count *= shape.dims[i];
            else
                out.dims[out.rank++] = shape.dims[i];
        }
    }
    out.dims[out.rank++] = *count;
    x = emit_reshape(low, emit_transpose(low, x, permutation), &out);
    return emit_top(low, x, &(struct op_top){.count = *count, .smallest = true});
}

/* Cell `place` of the last axis, between two of them as `method` says. */
static int cell_at(struct call *call, int x, double place, const char *method)
{
    struct lowering *low = call->low;
    struct shape shape = *call_shape(call, x), out = shape;
    struct op_slice slice = {.begin = {0}};
    double down = floor(place), rest = place - down;
    int cells[2];
    if (x < 0 || low->failed)
        return -1;
    out.rank--;
    for (int i = 0; i < shape.rank; i++) {
        slice.size[i] = i < out.rank ? shape.dims[i] : 1;
        slice.step[i] = 1;
    }
    if (strcmp(method, "lower") == 0)
        rest = 0;
    else if (strcmp(method, "higher") == 0)
        rest = rest > 0;
    else if (strcmp(method, "nearest") == 0)
        rest = nearbyint(place) - down;
    else if (strcmp(method, "midpoint") == 0)
        rest = rest > 0 ? 0.5 : 0;
    for (int i = 0; i < 2; i++) {
        slice.begin[out.rank] = (int64_t)down + (i == 1 && rest > 0);
        cells[i] = emit_reshape(low, emit_slice(low, x, &slice), &out);
    }
    if (rest == 0 || rest == 1)
        return cells[rest == 1];
    return emit_binary(low, BINARY_ADD, emit_linear(low, cells[0], 1 - rest, 0),
                       emit_linear(low, cells[1], rest, 0));
}

/* Median (parameter 0), Quantile (1), Percentile (100): a list of them along a new first axis. */
bool lower_op_quantile(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank, values[64];
    bool axes[TENSOR_RANK_MAX], keep = config_bool(call, "keepdims", false);
    bool all = !op_axes(call, call->row->parameter == 0 ? 1 : 2, "axis", rank, axes);
    const char *method = config_string(call, "method", "linear");
    const json_t *given = op_argument(call, 1, "q");
    if (x < 0 || low->failed)
        return false;
    struct shape shape = *call_shape(call, x), out = {.rank = 1};
    const struct constant *places = NULL;
    if (call->row->parameter > 0 && !(places = lower_json_constant(call, "q", given)))
        return false;
    int64_t count, wanted = places ? shape_elements(&places->shape) : 1;
    if (wanted > 64 || (places && places->shape.rank > 1) || rank == TENSOR_RANK_MAX)
        return call_refuse(call, "it asks for too many quantiles at once");
    for (int i = 0; i < rank; i++) {
        if (!axes[i] || keep)
            out.dims[out.rank++] = axes[i] ? 1 : shape.dims[i];
    }
    out.dims[0] = 1;
    x = sorted(call, x, axes, &count);
    for (int64_t i = 0; i < wanted; i++) {
        double q = places ? (double)places->data[i] / call->row->parameter : 0.5;
        if (!(q >= 0 && q <= 1))
            return call_misfit(call, "a quantile lies outside");
        values[i] = emit_reshape(low, cell_at(call, x, q * (double)(count - 1), method), &out);
    }
    int y = wanted > 1 ? emit_concat(low, values, (size_t)wanted, 0) : values[0];
    low->graph->mixes_samples |= all || axes[0] || wanted > 1;
    if (places && places->shape.rank == 1)
        return call_return(call, y);
    out.rank--;
    memmove(out.dims, out.dims + 1, (size_t)out.rank * sizeof *out.dims);
    return call_return(call, emit_reshape(low, y, &out));
}

/* ---- where numbers fall among others ---- */

/* How many, or whether any, of a row of numbers stand so to each element of x. */
static int among(struct call *call, int x, int row, enum binary_function function,
                 enum reduce_function reduce)
{
    struct lowering *low = call->low;
    struct shape shape = *call_shape(call, x), line = {.rank = shape.rank + 1};
    bool axes[TENSOR_RANK_MAX] = {false};
    if (x < 0 || row < 0 || shape.rank == TENSOR_RANK_MAX) {
        call_refuse(call, "its result has too many axes");
        return -1;
    }
    for (int i = 0; i < shape.rank; i++)
        line.dims[i] = 1;
    line.dims[shape.rank] = shape_elements(call_shape(call, row));
    axes[shape.rank] = true;
    shape.dims[shape.rank++] = 1;
    int each =
        emit_binary(low, function, emit_reshape(low, x, &shape), emit_reshape(low, row, &line));
    return emit_reduce(low, each, reduce, axes, false);
}

/* How many of the bins begin at or below x. */
bool lower_op_digitize(struct call *call)
{
    int x = op_value(call, 0, "x"), bins = op_value(call, 1, "bins");
    return call_return(call, among(call, x, bins, BINARY_GREATER_EQUAL, REDUCE_SUM));
}

/* Before which element of a sorted sequence the values belong. */
bool lower_op_search_sorted(struct call *call)
{
    int row = op_value(call, 0, "sorted_sequence"), x = op_value(call, 1, "values");
    bool right = strcmp(config_string(call, "side", "left"), "right") == 0;
    if (row >= 0 && call_shape(call, row)->rank != 1)
        return call_refuse(call, "it searches in more than one sequence");
    return call_return(
        call, among(call, x, row, right ? BINARY_GREATER_EQUAL : BINARY_GREATER, REDUCE_SUM));
}

bool lower_op_is_in(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_value(call, 0, "x1"), row = op_value(call, 1, "x2");
    int y = among(call, x, row, BINARY_EQUAL, REDUCE_MAX);
    if (config_bool(call, "invert", false))
        y = emit_linear(low, y, -1, 1);
    return call_return(call, y);
}

/* Are fewer than k predictions larger than the target's? */
bool lower_op_in_top_k(struct call *call)
{
    struct lowering *low = call->low;
    int targets = op_value(call, 0, "targets"), x = op_value(call, 1, "predictions");
    int64_t k = op_integer(call, 2, "k", 1);
    bool axes[TENSOR_RANK_MAX] = {false, true};
    if (x < 0 || targets < 0 || call_shape(call, x)->rank != 2 ||
        call_shape(call, targets)->rank != 1)
        return call_misfit(call, "its predictions are no rows of classes");
    struct shape column = {.rank = 2, .dims = {call_shape(call, targets)->dims[0], 1}};
    struct op_gather gather = {.axis = 1, .batch_axes = 1};
    int own = emit_gather(low, x, emit_reshape(low, targets, &column), &gather);
    int larger = emit_binary(low, BINARY_GREATER, x, own);
    int count = emit_reduce(low, larger, REDUCE_SUM, axes, false);
    return call_return(call, emit_binary_constant(low, BINARY_LESS, count,
                                                  lowering_number(low, (double)k, 1), false));
}

#define CLASSES_MOST (1 << 24) /* no honest model comes near */

/* 1 for every class that an axis of indices names. */
bool lower_op_multi_hot(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "inputs");
    int64_t classes = config_int(call, "num_classes", 1, 1);
    struct shape shape = *call_shape(call, x), row = {.rank = 0};
    int rank = shape.rank;
    if (x < 0 || rank < 1 || rank == TENSOR_RANK_MAX || classes > CLASSES_MOST)
        return call_refuse(call, "its input has too many axes or none, or it has too many classes");
    int axis = config_axis(call, config_int(call, "axis", -1, INT64_MIN), rank + 1);
    bool axes[TENSOR_RANK_MAX] = {false};
    memmove(shape.dims + axis + 1, shape.dims + axis, (size_t)(rank - axis) * sizeof *shape.dims);
    shape.dims[axis] = 1;
    row.rank = ++shape.rank;
    for (int i = 0; i < row.rank; i++)
        row.dims[i] = i == axis ? classes : 1;
    float *data;
    const struct constant *numbers = call_constant(call, "classes", &row, &data);
    for (int64_t i = 0; numbers && data && i < classes; i++)
        data[i] = (float)i;
    int y = emit_binary_constant(low, BINARY_EQUAL, emit_reshape(low, x, &shape), numbers, false);
    axes[rank > 1 ? 1 : 0] = true; /* whatever stands there, as in Keras */
    return call_return(call, emit_reduce(low, y, REDUCE_MAX, axes, false));
}

/* The distance of each row of x from each of y. */
bool lower_op_distances(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_value(call, 0, "x"), y = op_value(call, 1, "y");
    struct shape a = *call_shape(call, x), b = *call_shape(call, y);
    bool axes[TENSOR_RANK_MAX] = {false};
    if (x < 0 || y < 0 || a.rank < 2 || a.rank != b.rank || a.rank == TENSOR_RANK_MAX)
        return call_refuse(call, "its operands are no rows of numbers");
    int rank = a.rank;
    a.dims[rank] = a.dims[rank - 1];
    a.dims[rank - 1] = 1;
    b.dims[rank] = b.dims[rank - 1];
    b.dims[rank - 1] = b.dims[rank - 2];
    b.dims[rank - 2] = 1;
    a.rank = b.rank = rank + 1;
    int apart =
        emit_binary(low, BINARY_SUBTRACT, emit_reshape(low, x, &a), emit_reshape(low, y, &b));
    axes[rank] = true;
    int sum = emit_reduce(low, emit_unary(low, apart, UNARY_SQUARE, 0, 0), REDUCE_SUM, axes, false);
    return call_return(call, emit_unary(low, sum, UNARY_SQRT, 0, 0));
}
