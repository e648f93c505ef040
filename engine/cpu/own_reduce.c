/* Reductions of any set of axes.
 *
 * Sums run in double, over runs in float32 that are too short to lose digits: the mean of a whole
 * picture in one float is off by 3e-6, and squeeze and excitation hands that on from block to block.
 */
#include "engine/cpu/own.h"
#include <stdlib.h>
#include <string.h>

#define RUN     64
/* Columns that are summed at a time. */
#define COLUMNS 512

/* The axes that go are neighbours: `gone` elements, with `outer` before and `inner` behind them. */
struct middle {
    int64_t outer, gone, inner;
};

/* Is the op a sum or a mean over such axes? */
static bool sums_of_middle(const struct own_call *call, struct middle *middle)
{
    const struct op_reduce *reduce = &call->op->reduce;
    const struct shape *in = &call->graph->values[call->op->inputs[0]].shape;
    *middle = (struct middle){1, 1, 1};
    int i = 0;
    for (; i < in->rank && !reduce->axes[i]; i++)
        middle->outer *= in->dims[i];
    for (; i < in->rank && reduce->axes[i]; i++)
        middle->gone *= in->dims[i];
    for (; i < in->rank && !reduce->axes[i]; i++)
        middle->inner *= in->dims[i];
    return i == in->rank && (reduce->function == REDUCE_SUM || reduce->function == REDUCE_MEAN);
}

/* A picture is shared out among the threads in this many pieces, if there are not enough pictures.
 * The number does not depend on the threads, so that the sums do not either. */
#define PIECES 8

static int64_t pieces_of(const struct middle *middle)
{
    int64_t most = middle->gone / (4 * RUN) + 1;
    int64_t wanted = (PIECES + middle->outer - 1) / middle->outer;
    return wanted < most ? wanted : most;
}

/* sum[c] += x[c] over `rows` rows of `columns`, which lie `stride` apart. */
OWN_WIDE_VECTOR static void add_rows(const float *x, int64_t rows, int64_t stride, int64_t columns,
                                     float *restrict sum)
{
    for (; rows >= 4; rows -= 4, x += 4 * stride) {
        const float *second = x + stride, *third = x + 2 * stride, *fourth = x + 3 * stride;
        for (int64_t c = 0; c < columns; c++)
            sum[c] += (x[c] + second[c]) + (third[c] + fourth[c]);
    }
    for (; rows > 0; rows--, x += stride) {
        for (int64_t c = 0; c < columns; c++)
            sum[c] += x[c];
    }
}

/* The sums of up to COLUMNS columns, which stay in the first-level cache meanwhile. */
static void sum_columns(const float *x, int64_t rows, int64_t stride, int64_t columns,
                        double *total)
{
    for (int64_t c = 0; c < columns; c++)
        total[c] = 0;
    for (int64_t row = 0; row < rows; row += RUN) {
        float sum[COLUMNS];
        memset(sum, 0, (size_t)columns * sizeof *sum);
        add_rows(x + row * stride, row + RUN < rows ? RUN : rows - row, stride, columns, sum);
        for (int64_t c = 0; c < columns; c++)
            total[c] += (double)sum[c];
    }
}

/* A row is columns too, as many as there are lanes, and what is left. */
static double sum_row(const float *x, int64_t count)
{
    double lanes[4 * OWN_LANES], sum = 0;
    int64_t width = 4 * OWN_LANES, whole = count - count % width;
    sum_columns(x, whole / width, width, width, lanes);
    for (int64_t lane = 0; lane < width; lane++)
        sum += lanes[lane];
    for (int64_t i = whole; i < count; i++)
        sum += (double)x[i];
    return sum;
}

/* One piece of one picture, all columns; inner == 1 is a row. */
static void sum_piece(const float *x, const struct middle *middle, int64_t piece, int64_t pieces,
                      double *total)
{
    int64_t first = middle->gone * piece / pieces, end = middle->gone * (piece + 1) / pieces;
    x += first * middle->inner;
    if (middle->inner == 1) {
        total[0] = sum_row(x, end - first);
        return;
    }
    for (int64_t c = 0; c < middle->inner; c += COLUMNS)
        sum_columns(x + c, end - first, middle->inner,
                    middle->inner - c < COLUMNS ? middle->inner - c : COLUMNS, total + c);
}

static void sum_middle(const struct own_call *call, const struct middle *middle)
{
    int64_t pieces = pieces_of(middle), elements = middle->outer * middle->gone * middle->inner;
    double *totals = call->scratch, mean = 1;
    if (call->op->reduce.function == REDUCE_MEAN)
        mean /= (double)middle->gone;
#pragma omp parallel for if (elements > OWN_PARALLEL)
    for (int64_t i = 0; i < middle->outer * pieces; i++) {
        const float *x = (const float *)call->inputs[0] + i / pieces * middle->gone * middle->inner;
        sum_piece(x, middle, i % pieces, pieces, totals + i * middle->inner);
    }
    for (int64_t i = 0; i < middle->outer; i++) {
        float *y = (float *)call->output + i * middle->inner;
        const double *of = totals + i * pieces * middle->inner;
        for (int64_t c = 0; c < middle->inner; c++) {
            double sum = 0;
            for (int64_t piece = 0; piece < pieces; piece++)
                sum += of[piece * middle->inner + c];
            y[c] = (float)(sum * mean);
        }
    }
}

size_t own_reduce_scratch(const struct own_call *call)
{
    struct middle middle;
    if (!sums_of_middle(call, &middle))
        return 0;
    return (size_t)(middle.outer * pieces_of(&middle) * middle.inner) * sizeof(double);
}

static float combine(enum reduce_function function, float a, float b)
{
    switch (function) {
    case REDUCE_MAX:
        return a > b ? a : b;
    case REDUCE_MIN:
        return a < b ? a : b;
    default:
        return a + b;
    }
}

/* Axes that lie anywhere, element by element. */
static void reduce_any(const struct own_call *call)
{
    const struct op_reduce *reduce = &call->op->reduce;
    const struct shape *in = &call->graph->values[call->op->inputs[0]].shape;
    const struct shape *out = &call->graph->values[call->op->outputs[0]].shape;
    int64_t kept_dims[TENSOR_RANK_MAX], kept_strides[TENSOR_RANK_MAX];
    int64_t gone_dims[TENSOR_RANK_MAX], gone_strides[TENSOR_RANK_MAX];
    int64_t strides[TENSOR_RANK_MAX], stride = 1, gone = 1, count = shape_elements(out);
    int kept_rank = 0, gone_rank = 0;
    for (int i = in->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= in->dims[i];
    }
    for (int i = 0; i < in->rank; i++) {
        if (reduce->axes[i]) {
            gone_dims[gone_rank] = in->dims[i];
            gone_strides[gone_rank++] = strides[i];
            gone *= in->dims[i];
        } else {
            kept_dims[kept_rank] = in->dims[i];
            kept_strides[kept_rank++] = strides[i];
        }
    }
    bool sums = reduce->function == REDUCE_SUM || reduce->function == REDUCE_MEAN;
#pragma omp parallel for if (count * gone > OWN_PARALLEL)
    for (int64_t i = 0; i < count; i++) {
        const float *x = call->inputs[0];
        int64_t rest = i;
        for (int d = kept_rank - 1; d >= 0; d--) {
            x += rest % kept_dims[d] * kept_strides[d];
            rest /= kept_dims[d];
        }
        double sum = 0;
        float best = x[0];
        for (int64_t j = 0; j < gone; j++) {
            int64_t left = j, at = 0;
            for (int d = gone_rank - 1; d >= 0; d--) {
                at += left % gone_dims[d] * gone_strides[d];
                left /= gone_dims[d];
            }
            if (sums)
                sum += (double)x[at];
            else
                best = combine(reduce->function, best, x[at]);
        }
        if (reduce->function == REDUCE_MEAN)
            sum /= (double)gone;
        ((float *)call->output)[i] = sums ? (float)sum : best;
    }
}

void own_reduce(const struct own_call *call)
{
    struct middle middle;
    if (sums_of_middle(call, &middle))
        sum_middle(call, &middle);
    else
        reduce_any(call);
}
