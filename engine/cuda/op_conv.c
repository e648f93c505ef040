/* Convolution steps: cuDNN with as much fused as it takes, our own kernel for depthwise, and our
 * slow one for what cuDNN has no engine for. */
#include "engine/cuda/check.h"
#include "engine/cuda/conv.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>
#include <string.h>

struct conv_data {
    struct kernel_conv shape;
    const struct upload *weights;
    const struct upload *bias; /* NULL unless the library adds it */
    int sum;                   /* graph value that the library adds, -1 */
    const struct conv_engine *engine;
    cudnnBackendDescriptor_t pack; /* pointers of the last run */
    const void *pack_target;       /* they hold for this target and */
    uint64_t pack_generation;      /* this generation of the regions */
};

/* Right-align the spatial axes: unused ones come first and are 1. */
static void geometry(struct kernel_conv *out, const struct op_conv *conv, const struct shape *x,
                     const struct shape *y)
{
    memset(out, 0, sizeof *out);
    out->batch = x->dims[0];
    out->in_channels = x->dims[x->rank - 1];
    out->out_channels = y->dims[y->rank - 1];
    out->groups = conv->groups > 0 ? conv->groups : 1;
    out->transposed = conv->transposed;
    for (int axis = 0; axis < 3; axis++) {
        int from = axis - (3 - conv->spatial);
        bool used = from >= 0;
        out->in[axis] = used ? x->dims[1 + from] : 1;
        out->out[axis] = used ? y->dims[1 + from] : 1;
        out->kernel[axis] = used ? conv->kernel[from] : 1;
        out->stride[axis] = used && conv->stride[from] > 0 ? conv->stride[from] : 1;
        out->dilation[axis] = used && conv->dilation[from] > 0 ? conv->dilation[from] : 1;
        out->pad[axis] = used ? conv->pad_before[from] : 0;
    }
}

static void free_conv(struct plan *plan, struct step *step)
{
    struct conv_data *data = step->data;
    if (data->pack != NULL) {
        plan->device->libraries->cudnn.cudnnBackendDestroyDescriptor(data->pack);
    }
    free(data);
}

static bool run_cudnn(struct plan *plan, struct step *step, float *target, struct error *error)
{
    struct conv_data *data = step->data;
    struct device *device = plan->device;

    if (data->pack == NULL || data->pack_target != target ||
        data->pack_generation != device->regions.generation) {
        if (data->pack != NULL) {
            device->libraries->cudnn.cudnnBackendDestroyDescriptor(data->pack);
        }
        data->pack = conv_pack_new(
            device->libraries, plan_address(plan, step->op->inputs[0]), data->weights->address,
            target, data->bias != NULL ? data->bias->address : NULL,
            data->sum >= 0 ? plan_address(plan, data->sum) : NULL, plan_workspace(plan), error);
        if (data->pack == NULL) {
            return false;
        }
        data->pack_target = target;
        data->pack_generation = device->regions.generation;
    }
    return CUDNN_OK(device->libraries,
                    cudnnBackendExecute(device->cudnn, data->engine->plan, data->pack), step->layer,
                    error);
}

static bool run_depthwise(struct plan *plan, struct step *step, float *target, struct error *error)
{
    struct conv_data *data = step->data;
    struct step_chain *chain = &step->chains[0];
    step_chain_resolve(plan, chain, NULL);
    return CUDA_OK(kernel_depthwise(&data->shape, plan_address(plan, step->op->inputs[0]),
                                    data->weights->address, target, &chain->chain,
                                    plan->device->stream),
                   step->layer, error);
}

static bool run_convolve(struct plan *plan, struct step *step, float *target, struct error *error)
{
    struct conv_data *data = step->data;
    return CUDA_OK(kernel_convolve(&data->shape, plan_address(plan, step->op->inputs[0]),
                                   data->weights->address, target, plan->device->stream),
                   step->layer, error);
}

static bool is_plain_relu(const struct op *op, size_t post)
{
    return post < op->post_count && op->posts[post].kind == POST_UNARY &&
           op->posts[post].unary.function == UNARY_RELU && op->posts[post].unary.alpha == 0.0f &&
           op->posts[post].unary.beta <= 0.0f;
}

static bool is_sum(const struct plan *plan, const struct op *op)
{
    return op->post_count > 0 && op->posts[0].kind == POST_BINARY &&
           op->posts[0].binary == BINARY_ADD &&
           shape_equal(plan_shape(plan, op->posts[0].value), plan_shape(plan, op->outputs[0]));
}

/* Ask cuDNN for the largest fusion it has; returns how many posts it does, -1 if it has none of
 * the forms. */
static int choose_engine(struct plan *plan, struct step *step, struct conv_data *data)
{
    const struct op *op = step->op;
    /* nothing is fused to a transposed one without a compiler at run time */
    bool bias = op->conv.bias != NULL && !op->conv.transposed, sum = is_sum(plan, op);
    struct {
        bool bias, sum, relu;
        int posts;
    } forms[5];
    size_t count = 0;

    if (bias && sum && is_plain_relu(op, 1)) {
        forms[count].bias = forms[count].sum = forms[count].relu = true;
        forms[count++].posts = 2;
    }
    if (bias && is_plain_relu(op, 0)) {
        forms[count].bias = forms[count].relu = true;
        forms[count].sum = false;
        forms[count++].posts = 1;
    }
    if (bias) {
        forms[count].bias = true;
        forms[count].sum = forms[count].relu = false;
        forms[count++].posts = 0;
    }
    forms[count].bias = forms[count].sum = forms[count].relu = false;
    forms[count++].posts = 0;
    for (size_t i = 0; i < count; i++) {
        struct conv_problem problem;
        memset(&problem, 0, sizeof problem);
        /* member by member: padding bytes must stay zero, problems are compared as bytes */
        memcpy(&problem.shape, &data->shape, sizeof problem.shape);
        problem.spatial = op->conv.spatial;
        problem.bias = forms[i].bias;
        problem.sum = forms[i].sum;
        problem.relu = forms[i].relu;
        problem.tf32 = plan->options.precision != PRECISION_FP32;
        data->engine = conv_cache_find(plan->device, &problem);
        /* an engine that is compiled at run time is no better than the plain one and our chain */
        if (data->engine != NULL && (!data->engine->runtime_compiled || i + 1 == count)) {
            data->bias =
                forms[i].bias ? upload_want(plan->device, op->conv.bias, FORM_PLAIN) : NULL;
            data->sum = forms[i].sum ? op->posts[0].value : -1;
            return forms[i].posts;
        }
    }
    return -1;
}

static void append_bias(struct plan *plan, struct step *step)
{
    const struct constant *bias = step->op->conv.bias;
    if (bias != NULL) {
        struct source source = {.value = -1, .upload = upload_want(plan->device, bias, FORM_PLAIN)};
        step_chain_begin(plan, step, -1);
        step_chain_binary(plan, step, BINARY_ADD, false, source, &bias->shape);
    }
}

/* Is this one product of (cells, C) and (C, K)? */
static bool is_product(const struct op_conv *conv)
{
    for (int i = 0; i < conv->spatial; i++) {
        if (conv->kernel[i] != 1 || conv->stride[i] != 1 || conv->pad_before[i] != 0 ||
            conv->pad_after[i] != 0) {
            return false;
        }
    }
    return conv->groups <= 1 && !conv->transposed;
}

bool step_conv(struct plan *plan, struct step *step, struct error *error)
{
    const struct op *op = step->op;
    const struct op_conv *conv = &op->conv;
    const struct shape *x = plan_shape(plan, op->inputs[0]);

    /* cuDNN's engines without tensor cores copy x and y to another layout first (on an H200 up to
     * 122 MiB of workspace for 1x1 in ResNet-50); a float32 product needs none of it */
    if (plan->options.precision == PRECISION_FP32 && is_product(conv)) {
        return step_product(plan, step, conv->weights, conv->bias, error);
    }
    struct conv_data *data = xcalloc(1, sizeof *data);

    step->data = data;
    step->free_data = free_conv;
    data->sum = -1;
    geometry(&data->shape, conv, x, plan_shape(plan, op->outputs[0]));
    if (data->shape.groups == data->shape.in_channels && data->shape.groups > 1 &&
        !conv->transposed) {
        /* the first chain runs inside the kernel: it must exist, if only as an identity */
        step->impl = "own";
        data->weights = upload_want(plan->device, conv->weights, FORM_PLAIN);
        append_bias(plan, step);
        if (step->chain_count == 0) {
            step_chain_begin(plan, step, -1);
        }
        /* a post's operand is read by the thread that writes the same element: overlap is no harm,
         * so `run` is set only after the posts */
        step_posts(plan, step, 0);
        step->first_chain_inside = true;
        step->run = run_depthwise;
        return true;
    }
    int fused = choose_engine(plan, step, data);
    if (fused >= 0) {
        step->impl = "cudnn";
        step->run = run_cudnn;
        step->workspace_bytes = data->engine->workspace_bytes;
        data->weights = upload_want(plan->device, conv->weights, FORM_TRANSPOSED);
        step->kernels = 1;
        if (data->bias == NULL) {
            append_bias(plan, step);
        }
        step_posts(plan, step, (size_t)fused);
        return true;
    }
    if (conv->transposed && data->shape.groups > 1) {
        return step_lacks(step, "groups, transposed", error);
    }
    step->impl = "own";
    step->run = run_convolve;
    step->kernels = 1;
    data->weights = upload_want(plan->device, conv->weights, FORM_PLAIN);
    append_bias(plan, step);
    step_posts(plan, step, 0);
    return true;
}
