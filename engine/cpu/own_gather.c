/* Loops that choose: select, and rows by index. */
#include "engine/cpu/own.h"
#include <string.h>

/* ---- select ---- */

struct branch {
    const float *data;
    int64_t strides[TENSOR_RANK_MAX]; /* 0 where it is broadcast */
};

static struct branch branch_of(const struct own_call *call, const struct constant *constant,
                               size_t input, int rank)
{
    const struct shape *shape =
        constant ? &constant->shape : &call->graph->values[call->op->inputs[input]].shape;
    struct branch branch = {.data = constant ? constant->data : call->inputs[input]};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        branch.strides[i] = shape->dims[i] == 1 ? 0 : stride;
        stride *= shape->dims[i];
    }
    return branch;
}

static const float *branch_row(const struct branch *branch, const struct shape *y, int64_t row)
{
    int64_t at = 0;
    for (int i = y->rank - 2; i >= 0; i--) {
        at += row % y->dims[i] * branch->strides[i];
        row /= y->dims[i];
    }
    return branch->data + at;
}

OWN_VECTOR static void select_row(const float *c, int64_t cs, const float *a, int64_t as,
                                  const float *b, int64_t bs, float *y, int64_t n)
{
    if (cs == 0) { /* the whole row comes from one side */
        const float *from = c[0] != 0 ? a : b;
        int64_t step = c[0] != 0 ? as : bs;
        for (int64_t i = 0; i < n; i++)
            y[i] = from[i * step];
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float u = a[i * as], v = b[i * bs];
        y[i] = c[i] != 0 ? u : v;
    }
}

void own_select(const struct own_call *call)
{
    const struct op_select *op = &call->op->select;
    const struct shape *y = &call->graph->values[call->op->outputs[0]].shape;
    int rank = y->rank, last = rank - 1;
    int64_t width = rank > 0 ? y->dims[last] : 1, count = shape_elements(y), rows = count / width;
    struct branch c = branch_of(call, NULL, 0, rank);
    struct branch a = branch_of(call, op->on_true, 1, rank);
    struct branch b = branch_of(call, op->on_false, op->on_true ? 1 : 2, rank);
    int64_t cs = rank ? c.strides[last] : 0, as = rank ? a.strides[last] : 0;
    int64_t bs = rank ? b.strides[last] : 0;
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++)
        select_row(branch_row(&c, y, row), cs, branch_row(&a, y, row), as, branch_row(&b, y, row),
                   bs, (float *)call->output + row * width, width);
}

/* ---- gather ---- */

/* Pieces of `inner` elements: for each of `outer` blocks of the data, the rows that its indices
 * name. The first `shared` blocks in a group have indices of their own. */
void own_gather(const struct own_call *call)
{
    const struct op_gather *op = &call->op->gather;
    const struct graph *graph = call->graph;
    const struct shape *data =
        op->data ? &op->data->shape : &graph->values[call->op->inputs[0]].shape;
    size_t second = op->data ? 0 : 1;
    const struct shape *ids =
        op->indices ? &op->indices->shape : &graph->values[call->op->inputs[second]].shape;
    const float *from = op->data ? op->data->data : call->inputs[0];
    const float *index = op->indices ? op->indices->data : call->inputs[second];
    int64_t groups = 1, outer = 1, inner = 1, picked = 1, rows = data->dims[op->axis];
    for (int i = 0; i < op->axis; i++)
        *(i < op->batch_axes ? &groups : &outer) *= data->dims[i];
    for (int i = op->axis + 1; i < data->rank; i++)
        inner *= data->dims[i];
    for (int i = op->batch_axes; i < ids->rank; i++)
        picked *= ids->dims[i];
    float *y = call->output;
#pragma omp parallel for collapse(2) if (groups * outer * picked * inner > OWN_PARALLEL)
    for (int64_t block = 0; block < groups * outer; block++) {
        for (int64_t i = 0; i < picked; i++) {
            float wanted = index[block / outer * picked + i];
            float *to = y + (block * picked + i) * inner;
            /* what is no number is outside too */
            bool inside = wanted > (float)-rows - 1 && wanted < (float)rows;
            int64_t row = inside ? (int64_t)wanted : 0;
            row += row < 0 ? rows : 0;
            if (!inside || row < 0) {
#pragma omp critical
                *call->outside = (struct own_outside){true, wanted, rows};
                continue;
            }
            memcpy(to, from + (block * rows + row) * inner, (size_t)inner * sizeof *to);
        }
    }
}
