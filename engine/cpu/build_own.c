/* Which convolutions, products and poolings our own kernels run. */
#include "engine/cpu/build.h"
#include "engine/cpu/own_bf16.h"

/* Let a kernel run the op, which is this convolution. false if it does not. */
static bool run_conv(struct builder *b, const struct op_conv *conv, const struct own_conv *kernel)
{
    struct own_tail tail;
    int value;
    if (dnnl_data_type_size(b->plan->type) != kernel->element_bytes ||
        !own_tail_of(b->op, &tail, &value) ||
        (value >= 0 && !shape_equal(shape_of_value(b, value), out_shape(b))))
        return false;
    const struct shape *in = shape_of_value(b, b->op->inputs[0]);
    size_t bytes = kernel->bytes(conv, in, out_shape(b));
    if (bytes == 0)
        return false;
    builder_use_own(b, kernel->run);
    struct step *step = b->step;
    step->widened = false;
    step->post_count = 0; /* all in the tail */
    if (b->plan->dry)
        weights_want_packed(b->plan, conv, kernel, bytes);
    else
        step->call.packed = weights_packed(b->device, conv, kernel, bytes, b->error);
    step->call.tail = tail;
    if (kernel->scratch_bytes)
        step->scratch_bytes = kernel->scratch_bytes(conv, in, out_shape(b), b->device->threads);
    if (value >= 0)
        step->call.tail.addend = plan_value(b->plan, b->part, value);
    b->failed |= !step->call.packed && !b->plan->dry;
    return true;
}

bool build_own_conv(struct builder *b)
{
    return run_conv(b, &b->op->conv, &own_depthwise) || run_conv(b, &b->op->conv, &own_pointwise) ||
           run_conv(b, &b->op->conv, &own_product);
}

bool build_own_matmul(struct builder *b)
{
    const struct op_matmul *matmul = &b->op->matmul;
    /* as a 1x1 convolution without any spatial axes */
    struct op_conv conv = {.groups = 1, .weights = matmul->weights, .bias = matmul->bias};
    return matmul->weights &&
           (run_conv(b, &conv, &own_pointwise) || run_conv(b, &conv, &own_product));
}

bool build_own_pool(struct builder *b)
{
    if (b->plan->type != dnnl_bf16 || !own_bf16_has_pool(&b->op->pool))
        return false;
    builder_use_own(b, own_bf16_pool);
    b->step->widened = false;
    return true;
}
