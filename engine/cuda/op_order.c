/* Steps that look up, sum up and put in order: gather, cumulate, top. */
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>
#include <string.h>

static void free_data(struct plan *plan, struct step *step)
{
    (void)plan;
    free(step->data);
}

static int64_t product(const struct shape *shape, int from, int to)
{
    int64_t result = 1;
    for (int i = from; i < to; i++) {
        result *= shape->dims[i];
    }
    return result;
}

static void finish(struct plan *plan, struct step *step, void *data)
{
    step->impl = "own";
    step->data = data;
    step->free_data = free_data;
    step->kernels = 1;
    step_posts(plan, step, 0);
}

/* -- gather -------------------------------------------------------------------------------- */

struct lookup_data {
    struct kernel_lookup shape;
    struct source data, indices;
};

static bool run_lookup(struct plan *plan, struct step *step, void *target, struct error *error)
{
    const struct lookup_data *data = step->data;
    return CUDA_OK(kernel_lookup(plan->dtype, &data->shape, source_address(plan, &data->data),
                                 source_address(plan, &data->indices), target, plan->fault,
                                 plan->device->stream),
                   step->layer, error);
}

/* Whole numbers that the plan's type holds without rounding. */
static int64_t exact_below(enum dtype dtype)
{
    return dtype == DTYPE_F16 ? 2048 : dtype == DTYPE_BF16 ? 256 : INT64_MAX;
}

bool step_lookup(struct plan *plan, struct step *step, struct error *error)
{
    const struct op *op = step->op;
    const struct op_gather *gather = &op->gather;
    struct lookup_data *data = xcalloc(1, sizeof *data);
    const struct shape *table, *indices;
    size_t second = gather->data != NULL ? 0 : 1;

    step->data = data;
    step->free_data = free_data;
    data->data.value = data->indices.value = -1;
    if (gather->data != NULL) {
        struct upload_kind kind = {.form = FORM_PLAIN, .dtype = plan->dtype};
        data->data.upload = upload_want(plan->device, gather->data, kind);
        table = &gather->data->shape;
    } else {
        data->data.value = op->inputs[0];
        table = plan_shape(plan, op->inputs[0]);
    }
    if (gather->indices != NULL) {
        data->indices.upload = upload_plain(plan->device, gather->indices);
        data->shape.index_dtype = DTYPE_F32;
        indices = &gather->indices->shape;
    } else {
        data->indices.value = op->inputs[second];
        data->shape.index_dtype = (int)plan->storage[op->inputs[second]];
        indices = plan_shape(plan, op->inputs[second]);
    }
    data->shape.rows = table->dims[gather->axis];
    if (data->shape.rows > exact_below((enum dtype)data->shape.index_dtype)) {
        error_set(error, ERROR_UNSUPPORTED, step->layer,
                  "it looks up one of %lld rows by a computed number, which %s would round",
                  (long long)data->shape.rows, dtype_name(plan->dtype));
        return error_hint(error, "set precision fp32");
    }
    data->shape.groups = product(table, 0, gather->batch_axes);
    data->shape.outer = product(table, gather->batch_axes, gather->axis);
    data->shape.inner = product(table, gather->axis + 1, table->rank);
    data->shape.picked = product(indices, gather->batch_axes, indices->rank);
    data->shape.tag = (uint32_t)step->index + 1;
    plan->looks_up = true;
    step->run = run_lookup;
    finish(plan, step, data);
    return true;
}

bool plan_fault(const struct plan *plan, struct error *error)
{
    uint64_t fault = plan->fault != NULL ? *plan->fault : 0;
    uint32_t bits = (uint32_t)fault;
    float index;

    if (fault == 0) {
        return true;
    }
    const struct step *step = &plan->steps[(fault >> 32) - 1];
    const struct lookup_data *data = step->data;
    memcpy(&index, &bits, sizeof index);
    return error_set(error, ERROR_INPUT, step->layer,
                     "the index %g points outside a table of %lld rows", (double)index,
                     (long long)data->shape.rows);
}

/* -- cumulate, top ------------------------------------------------------------------------- */

static bool run_cumulate(struct plan *plan, struct step *step, void *target, struct error *error)
{
    return CUDA_OK(kernel_cumulate(plan->dtype, step->data, plan_address(plan, step->op->inputs[0]),
                                   target, plan->device->stream),
                   step->layer, error);
}

void step_cumulate(struct plan *plan, struct step *step)
{
    const struct op_cumulate *op = &step->op->cumulate;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    struct kernel_cumulate *data = xcalloc(1, sizeof *data);

    data->outer = product(x, 0, op->axis);
    data->n = x->dims[op->axis];
    data->inner = product(x, op->axis + 1, x->rank);
    data->product = op->product;
    data->reverse = op->reverse;
    data->exclusive = op->exclusive;
    step->run = run_cumulate;
    finish(plan, step, data);
}

static bool run_top(struct plan *plan, struct step *step, void *target, struct error *error)
{
    return CUDA_OK(kernel_top(plan->dtype, step->data, plan_address(plan, step->op->inputs[0]),
                              target, plan->device->stream),
                   step->layer, error);
}

void step_top(struct plan *plan, struct step *step)
{
    const struct op_top *op = &step->op->top;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    struct kernel_top *data = xcalloc(1, sizeof *data);

    data->n = x->dims[x->rank - 1];
    data->rows = product(x, 0, x->rank - 1);
    data->count = op->count;
    data->smallest = op->smallest;
    data->indices = op->indices;
    data->dtype = (int)plan->storage[step->op->outputs[0]];
    step->run = run_top;
    finish(plan, step, data);
}
