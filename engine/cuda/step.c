/* Chains of a step: what a backend library does not fuse. */
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>
#include <string.h>

bool step_lacks(const struct step *step, const char *why, struct error *error)
{
    error_set(error, ERROR_BACKEND_OP, step->layer, "the GPU backend has no %s with %s",
              op_kind_name(step->op->kind), why);
    return error_hint(error, "set fallback cpu");
}

void *source_address(const struct plan *plan, const struct source *source)
{
    return source->upload != NULL ? source->upload->address : plan_address(plan, source->value);
}

void step_chain_begin(struct plan *plan, struct step *step, int x_value)
{
    step->chains = xrealloc(step->chains, (step->chain_count + 1) * sizeof *step->chains);
    struct step_chain *chain = &step->chains[step->chain_count++];
    memset(chain, 0, sizeof *chain);
    int output = step->op->outputs[0];
    const struct shape *shape = plan_model_shape(plan, output);
    chain_begin(&chain->chain, shape);
    chain->x.value = x_value;
    if (x_value >= 0) {
        chain->chain.x = chain_operand(&chain->chain, plan_model_shape(plan, x_value));
    }
    chain->chain.x.dtype = x_value >= 0 ? plan->storage[x_value] : plan->dtype;
    chain->chain.dtype = plan->storage[output];
    if (plan_widened(plan, output)) {
        chain->chain.row = shape->dims[shape->rank - 1];
        chain->chain.pitch = plan_shape(plan, output)->dims[shape->rank - 1];
    }
    step->kernels++;
}

/* The next free stage; a full chain is followed by another that goes on in place. */
static struct stage *next_stage(struct plan *plan, struct step *step, struct source **operand)
{
    struct step_chain *chain = &step->chains[step->chain_count - 1];
    if (chain->chain.count == CHAIN_STAGES_MAX) {
        step_chain_begin(plan, step, step->op->outputs[0]);
        chain = &step->chains[step->chain_count - 1];
    }
    int at = chain->chain.count++;
    *operand = &chain->operands[at];
    (*operand)->value = -1;
    return &chain->chain.stages[at];
}

void step_chain_unary(struct plan *plan, struct step *step, const struct op_unary *unary)
{
    struct source *operand;
    if (unary->function == UNARY_IDENTITY) {
        return;
    }
    struct stage *stage = next_stage(plan, step, &operand);
    stage->kind = STAGE_UNARY;
    stage->function = (int)unary->function;
    stage->alpha = unary->alpha;
    stage->beta = unary->beta;
}

void step_chain_binary(struct plan *plan, struct step *step, enum binary_function function,
                       bool swapped, struct source operand, const struct shape *shape)
{
    struct source *slot;
    struct stage *stage = next_stage(plan, step, &slot);
    stage->kind = STAGE_BINARY;
    stage->function = (int)function;
    stage->swapped = swapped;
    stage->operand = chain_operand(&step->chains[step->chain_count - 1].chain, shape);
    stage->operand.dtype =
        operand.upload != NULL ? operand.upload->dtype : plan->storage[operand.value];
    *slot = operand;
}

void step_posts(struct plan *plan, struct step *step, size_t first)
{
    const struct op *op = step->op;
    for (size_t i = first; i < op->post_count; i++) {
        const struct post *post = &op->posts[i];
        if (step->chain_count == 0) {
            step_chain_begin(plan, step, -1);
        }
        if (post->kind == POST_UNARY) {
            step_chain_unary(plan, step, &post->unary);
            continue;
        }
        struct source operand = {.value = post->value};
        step_chain_binary(plan, step, post->binary, false, operand, plan_shape(plan, post->value));
        /* what `run` writes must not lie on what the chain still has to read */
        if (step->run != NULL && plan_overlap(plan, post->value, op->outputs[0])) {
            step->to_temporary = true;
        }
    }
    if (step->to_temporary) {
        int64_t elements = shape_elements(plan_shape(plan, op->outputs[0]));
        step->temporary_bytes = (uint64_t)elements * dtype_bytes(plan->dtype);
    }
}

void step_chain_resolve(const struct plan *plan, struct step_chain *chain, const void *x)
{
    bool given = chain->x.value >= 0 || chain->x.upload != NULL;
    chain->chain.x.data = given ? source_address(plan, &chain->x) : x;
    for (int i = 0; i < 2 && chain->chain.select; i++) {
        chain->chain.chosen[i].data = source_address(plan, &chain->chosen[i]);
    }
    for (int i = 0; i < chain->chain.count; i++) {
        if (chain->chain.stages[i].kind == STAGE_BINARY) {
            chain->chain.stages[i].operand.data = source_address(plan, &chain->operands[i]);
        }
    }
}
