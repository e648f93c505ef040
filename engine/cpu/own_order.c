/* Loops along one axis whose elements depend on each other: running sums, and the largest. */
#include "engine/cpu/own.h"
#include <stdlib.h>

/* One run along the axis for each place outside and inside of it. */
void own_cumulate(const struct own_call *call)
{
    const struct op_cumulate *op = &call->op->cumulate;
    const struct shape *shape = &call->graph->values[call->op->outputs[0]].shape;
    int64_t outer = 1, inner = 1, n = shape->dims[op->axis];
    for (int i = 0; i < shape->rank; i++)
        *(i < op->axis ? &outer : &inner) *= i == op->axis ? 1 : shape->dims[i];
#pragma omp parallel for if (outer * n * inner > OWN_PARALLEL)
    for (int64_t run = 0; run < outer * inner; run++) {
        int64_t at = run / inner * n * inner + run % inner;
        const float *x = (const float *)call->inputs[0] + at;
        float *y = (float *)call->output + at;
        double value = op->product;
        for (int64_t i = 0; i < n; i++) {
            int64_t j = (op->reverse ? n - 1 - i : i) * inner;
            double next = op->product ? value * (double)x[j] : value + (double)x[j];
            y[j] = (float)(op->exclusive ? value : next);
            value = next;
        }
    }
}

struct entry {
    float value;
    int64_t index;
};

static int larger_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

static int smaller_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

static int64_t best_of(const float *x, int64_t n, bool smallest)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        if (smallest ? x[i] < x[best] : x[i] > x[best])
            best = i;
    }
    return best;
}

static void top_row(const struct op_top *op, const float *x, int64_t n, struct entry *entries,
                    float *y)
{
    if (op->count == 1) {
        int64_t best = best_of(x, n, op->smallest);
        y[0] = op->indices ? (float)best : x[best];
        return;
    }
    for (int64_t i = 0; i < n; i++)
        entries[i] = (struct entry){x[i], i};
    qsort(entries, (size_t)n, sizeof *entries, op->smallest ? smaller_first : larger_first);
    for (int64_t i = 0; i < op->count; i++)
        y[i] = op->indices ? (float)entries[i].index : entries[i].value;
}

void own_top(const struct own_call *call)
{
    const struct op_top *op = &call->op->top;
    const struct shape *in = &call->graph->values[call->op->inputs[0]].shape;
    int64_t n = in->dims[in->rank - 1], rows = shape_elements(in) / n;
#pragma omp parallel if (rows * n > OWN_PARALLEL)
    {
        struct entry *entries = op->count > 1 ? xmalloc((size_t)n * sizeof *entries) : NULL;
#pragma omp for
        for (int64_t row = 0; row < rows; row++)
            top_row(op, (const float *)call->inputs[0] + row * n, n, entries,
                    (float *)call->output + row * op->count);
        free(entries);
    }
}
