/* Scaled dot product attention as a step: one kernel of ours, no workspace. */
#include "engine/cuda/attention.h"
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>

static void free_attention(struct plan *plan, struct step *step)
{
    (void)plan;
    free(step->data);
}

static bool run_attention(struct plan *plan, struct step *step, void *target, struct error *error)
{
    const struct op *op = step->op;
    struct kernel_attention *attention = step->data;
    size_t next = 3;

    attention->q = plan_address(plan, op->inputs[0]);
    attention->k = plan_address(plan, op->inputs[1]);
    attention->v = plan_address(plan, op->inputs[2]);
    attention->mask.data = op->attention.mask ? plan_address(plan, op->inputs[next++]) : NULL;
    attention->bias.data = op->attention.bias ? plan_address(plan, op->inputs[next]) : NULL;
    attention->y = target;
    return CUDA_OK(kernel_attention(plan->dtype, attention, plan->device->stream), step->layer,
                   error);
}

/* Axes of one cell stand for all. */
static void make_extra(const struct plan *plan, int value, struct attention_extra *extra)
{
    const struct shape *shape = plan_shape(plan, value);
    int64_t stride = 1;
    for (int axis = 3; axis >= 0; axis--) {
        extra->strides[axis] = shape->dims[axis] == 1 ? 0 : stride;
        stride *= shape->dims[axis];
    }
}

bool step_attention(struct plan *plan, struct step *step, struct error *error)
{
    const struct op *op = step->op;
    const struct op_attention *from = &op->attention;
    const struct shape *q = plan_shape(plan, op->inputs[0]), *k = plan_shape(plan, op->inputs[1]);
    const struct shape *v = plan_shape(plan, op->inputs[2]);
    struct kernel_attention *attention = xcalloc(1, sizeof *attention);

    step->data = attention;
    step->free_data = free_attention;
    if (k->dims[1] == 0) {
        return step_lacks(step, "no keys", error);
    }
    *attention = (struct kernel_attention){.samples = q->dims[0],
                                           .queries = q->dims[1],
                                           .keys = k->dims[1],
                                           .heads = q->dims[2],
                                           .groups = k->dims[2],
                                           .depth = q->dims[3],
                                           .width = v->dims[3],
                                           .scale = from->scale,
                                           .soft_cap = from->soft_cap,
                                           .window = from->window,
                                           .causal = from->causal};
    attention->whole_rows =
        !from->mask && (from->window == 0 || attention->queries <= attention->keys);
    if (from->mask) {
        make_extra(plan, op->inputs[3], &attention->mask);
    }
    if (from->bias) {
        make_extra(plan, op->inputs[from->mask ? 4 : 3], &attention->bias);
    }
    step->run = run_attention;
    step->impl = "own";
    step->kernels = 1;
    step_posts(plan, step, 0);
    return true;
}
