/* Reductions of any set of axes. */
#include "engine/cpu/own.h"
#include <stdlib.h>
#include <string.h>

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

/* Sums run in double: a float loses digits over a long axis. */
void own_reduce(const struct own_call *call)
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
