/* Which convolutions and poolings our own kernels run. */
#include "engine/cpu/build.h"
#include "engine/cpu/own_bf16.h"

bool build_own_conv(struct builder *b)
{
    static const struct own_conv *const kernels[] = {&own_depthwise, &own_pointwise};
    const struct op_conv *conv = &b->op->conv;
    struct own_tail tail;
    int value;
    if (b->plan->type != dnnl_bf16 || !own_tail_of(b->op, &tail, &value) ||
        (value >= 0 && !shape_equal(shape_of_value(b, value), out_shape(b))))
        return false;
    const struct shape *in = shape_of_value(b, b->op->inputs[0]);
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        size_t bytes = kernels[i]->bytes(conv, in, out_shape(b));
        if (bytes == 0)
            continue;
        builder_use_own(b, kernels[i]->run);
        struct step *step = b->step;
        step->widened = false;
        step->post_count = 0; /* all in the tail */
        if (b->plan->dry)
            weights_want_packed(b->plan, conv, kernels[i], bytes);
        else
            step->call.packed = weights_packed(b->device, conv, kernels[i], bytes, b->error);
        step->call.tail = tail;
        if (kernels[i]->scratch_bytes)
            step->scratch_bytes = kernels[i]->scratch_bytes(conv, in, out_shape(b));
        if (value >= 0)
            step->call.tail.addend = plan_value(b->plan, b->part, value);
        b->failed |= !step->call.packed && !b->plan->dry;
        return true;
    }
    return false;
}

bool build_own_pool(struct builder *b)
{
    if (b->plan->type != dnnl_bf16 || !own_bf16_has_pool(&b->op->pool))
        return false;
    builder_use_own(b, own_bf16_pool);
    b->step->widened = false;
    return true;
}
