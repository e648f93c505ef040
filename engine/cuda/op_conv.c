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
    struct conv_entry *entry;  /* of cuDNN */
    struct conv_engine *trial; /* runs instead of the entry's engine while it is measured */
    struct conv_choice *choices;
    /* `set layout nchw`: x and y are turned through the workspace, and these are its parts */
    bool channels_first;
    uint64_t x_bytes, y_bytes;
    cudnnBackendDescriptor_t pack; /* pointers of the last run */
    const void *pack_target;       /* they hold for this target and */
    uint64_t pack_generation;      /* this generation of the regions */
};

void conv_geometry(struct kernel_conv *out, const struct op_conv *conv, const struct shape *x,
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
    const struct libraries *l = plan->device->libraries;
    if (data->pack != NULL) {
        l->cudnn.cudnnBackendDestroyDescriptor(data->pack);
    }
    conv_engine_free(l, data->trial);
    free(data->choices);
    free(data);
}

/* Where cuDNN reads x, writes y and works. */
struct places {
    const void *x;
    void *y, *workspace;
};

static struct places find_places(const struct plan *plan, const struct step *step, void *target)
{
    const struct conv_data *data = step->data;
    struct places places = {plan_address(plan, step->op->inputs[0]), target,
                            step_workspace(plan, step)};
    if (data->channels_first) {
        places.x = places.workspace;
        places.y = (char *)places.workspace + data->x_bytes;
        places.workspace = (char *)places.y + data->y_bytes;
    }
    return places;
}

/* The descriptor of the pointers, remade when one of them has moved. */
static bool point(struct plan *plan, struct step *step, void *target, const struct places *places,
                  struct error *error)
{
    struct conv_data *data = step->data;
    struct device *device = plan->device;

    if (data->pack != NULL && data->pack_target == target &&
        data->pack_generation == device->regions.generation) {
        return true;
    }
    if (data->pack != NULL) {
        device->libraries->cudnn.cudnnBackendDestroyDescriptor(data->pack);
    }
    data->pack = conv_pack_new(device->libraries, places->x, data->weights->address, places->y,
                               data->bias != NULL ? data->bias->address : NULL,
                               data->sum >= 0 ? plan_address(plan, data->sum) : NULL,
                               places->workspace, error);
    data->pack_target = target;
    data->pack_generation = device->regions.generation;
    return data->pack != NULL;
}

static int64_t cells(const int64_t extents[3])
{
    return extents[0] * extents[1] * extents[2];
}

static bool run_cudnn(struct plan *plan, struct step *step, void *target, struct error *error)
{
    struct conv_data *data = step->data;
    struct device *device = plan->device;
    const struct kernel_conv *s = &data->shape;
    const struct conv_engine *engine = data->trial != NULL ? data->trial : data->entry->engine;
    struct places places = find_places(plan, step, target);

    if (!point(plan, step, target, &places, error)) {
        return false;
    }
    if (data->channels_first &&
        !CUDA_OK(kernel_turn(plan->dtype, s->batch, cells(s->in), s->in_channels,
                             plan_address(plan, step->op->inputs[0]), (void *)(uintptr_t)places.x,
                             device->stream),
                 step->layer, error)) {
        return false;
    }
    return CUDNN_OK(device->libraries, cudnnBackendExecute(device->cudnn, engine->plan, data->pack),
                    step->layer, error) &&
           (!data->channels_first ||
            CUDA_OK(kernel_turn(plan->dtype, s->batch, s->out_channels, cells(s->out), places.y,
                                target, device->stream),
                    step->layer, error));
}

static bool run_depthwise(struct plan *plan, struct step *step, void *target, struct error *error)
{
    struct conv_data *data = step->data;
    struct step_chain *chain = &step->chains[0];
    step_chain_resolve(plan, chain, NULL);
    return CUDA_OK(kernel_depthwise(plan->dtype, &data->shape,
                                    plan_address(plan, step->op->inputs[0]), data->weights->address,
                                    target, &chain->chain, plan->device->stream),
                   step->layer, error);
}

static bool run_convolve(struct plan *plan, struct step *step, void *target, struct error *error)
{
    struct conv_data *data = step->data;
    return CUDA_OK(kernel_convolve(plan->dtype, &data->shape,
                                   plan_address(plan, step->op->inputs[0]), data->weights->address,
                                   target, plan->device->stream),
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

/* What cuDNN could be asked to fuse, the largest first. */
struct form {
    bool bias, sum, relu;
    int posts; /* that it does */
};

static size_t list_forms(const struct plan *plan, const struct op *op, bool channels_first,
                         struct form forms[6])
{
    /* nothing is fused to a transposed one without a compiler at run time; what is added lies
     * channels last */
    bool bias = op->conv.bias != NULL && !op->conv.transposed;
    bool sum = is_sum(plan, op) && !channels_first && !op->conv.transposed;
    size_t count = 0;

    if (bias && sum && is_plain_relu(op, 1)) {
        forms[count++] = (struct form){true, true, true, 2};
    }
    if (bias && is_plain_relu(op, 0)) {
        forms[count++] = (struct form){true, false, true, 1};
    }
    if (bias && sum) {
        forms[count++] = (struct form){true, true, false, 1};
    }
    if (bias) {
        forms[count++] = (struct form){true, false, false, 0};
    }
    forms[count++] = (struct form){false, false, false, 0};
    return count;
}

static struct upload_kind filter_kind(const struct plan *plan, const struct conv_data *data)
{
    const struct kernel_conv *s = &data->shape;
    return (struct upload_kind){.form =
                                    data->channels_first ? FORM_CHANNELS_FIRST : FORM_TRANSPOSED,
                                .dtype = plan->dtype,
                                .channels = s->real_channels > 0 ? s->in_channels : 0};
}

/* Ask cuDNN for the largest fusion it has; returns how many posts it does, -1 if it has none of
 * the forms. */
static int choose_engine(struct plan *plan, struct step *step, struct conv_data *data)
{
    const struct op *op = step->op;
    struct form forms[6];
    size_t count = list_forms(plan, op, data->channels_first, forms);

    for (size_t i = 0; i < count; i++) {
        struct conv_problem problem;
        memset(&problem, 0, sizeof problem);
        /* member by member: padding bytes must stay zero, problems are compared as bytes */
        memcpy(&problem.shape, &data->shape, sizeof problem.shape);
        problem.spatial = op->conv.spatial;
        problem.dtype = plan->dtype;
        problem.bias = forms[i].bias;
        problem.sum = forms[i].sum;
        problem.relu = forms[i].relu;
        problem.tf32 = plan->options.precision == PRECISION_TF32;
        problem.channels_first = data->channels_first;
        struct conv_entry *entry = plan_conv_entry(plan, &problem);
        /* an engine that is compiled at run time is no better than the plain one and our chain */
        if (entry->engine != NULL && (!entry->engine->runtime_compiled || i + 1 == count)) {
            struct upload_kind kind = {.form = FORM_PLAIN, .dtype = plan->dtype};
            data->entry = entry;
            data->bias = forms[i].bias ? upload_want(plan->device, op->conv.bias, kind) : NULL;
            data->sum = forms[i].sum ? op->posts[0].value : -1;
            return forms[i].posts;
        }
    }
    return -1;
}

/* -- measuring (tune.c) ---------------------------------------------------------------------- */

#define CANDIDATES_MAX 10

static size_t tune_begin(struct plan *plan, struct step *step)
{
    struct conv_data *data = step->data;
    struct conv_target target = {.handle = plan->device->cudnn};

    if (data->entry->tuned) {
        return 0;
    }
    free(data->choices);
    data->choices = xcalloc(CANDIDATES_MAX, sizeof *data->choices);
    return conv_candidates(plan->device->libraries, &target, &data->entry->problem, data->choices,
                           CANDIDATES_MAX);
}

static bool same_choice(const struct conv_choice *a, const struct conv_choice *b)
{
    return memcmp(a, b, sizeof *a) == 0; /* both were zeroed before they were filled */
}

static bool tune_use(struct plan *plan, struct step *step, int candidate)
{
    struct conv_data *data = step->data;
    struct conv_target target = {.handle = plan->device->cudnn};
    uint64_t turned = data->channels_first ? data->x_bytes + data->y_bytes : 0;
    uint64_t room = plan_tuning_workspace(plan);

    conv_engine_free(plan->device->libraries, data->trial);
    data->trial = NULL;
    if (candidate < 0) {
        return true;
    }
    const struct conv_choice *choice = &data->choices[candidate];
    if (room < turned || same_choice(choice, &data->entry->engine->choice)) {
        return false;
    }
    data->trial = conv_engine_make(plan->device->libraries, &target, &data->entry->problem, choice,
                                   room - turned, NULL);
    return data->trial != NULL;
}

static void tune_keep(struct plan *plan, struct step *step, int candidate, int64_t time_ns)
{
    struct conv_data *data = step->data;
    struct conv_entry *entry = data->entry;

    if (candidate >= 0 && tune_use(plan, step, candidate)) {
        entry->before = entry->engine;
        entry->engine = data->trial;
        data->trial = NULL;
    }
    entry->tuned = true;
    entry->time_ns = time_ns;
    free(data->choices);
    data->choices = NULL;
}

static const struct tuning conv_tuning = {tune_begin, tune_use, tune_keep};

static void append_bias(struct plan *plan, struct step *step)
{
    const struct constant *bias = step->op->conv.bias;
    if (bias != NULL) {
        struct source source = {.value = -1, .upload = upload_plain(plan->device, bias)};
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

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + DEVICE_ALIGNMENT - 1) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
}

/* By cuDNN; false if it has no engine. */
static bool make_cudnn(struct plan *plan, struct step *step, struct conv_data *data)
{
    const struct kernel_conv *s = &data->shape;
    int fused = choose_engine(plan, step, data);

    if (fused < 0) {
        return false;
    }
    step->impl = "cudnn";
    step->run = run_cudnn;
    step->tuning = &conv_tuning;
    step->workspace_bytes = data->entry->engine->workspace_bytes;
    step->kernels = 1;
    if (data->channels_first) {
        size_t each = dtype_bytes(plan->dtype);
        data->x_bytes = aligned((uint64_t)(s->batch * cells(s->in) * s->in_channels) * each);
        data->y_bytes = aligned((uint64_t)(s->batch * cells(s->out) * s->out_channels) * each);
        step->workspace_bytes += data->x_bytes + data->y_bytes;
        step->kernels = 3;
    }
    data->weights = upload_want(plan->device, step->op->conv.weights, filter_kind(plan, data));
    if (data->bias == NULL) {
        append_bias(plan, step);
    }
    step_posts(plan, step, (size_t)fused);
    return true;
}

static void make_depthwise(struct plan *plan, struct step *step, struct conv_data *data)
{
    /* the first chain runs inside the kernel: it must exist, if only as an identity */
    step->impl = "own";
    data->weights = upload_plain(plan->device, step->op->conv.weights);
    append_bias(plan, step);
    if (step->chain_count == 0) {
        step_chain_begin(plan, step, -1);
    }
    /* a post's operand is read by the thread that writes the same element: overlap is no harm, so
     * `run` is set only after the posts */
    step_posts(plan, step, 0);
    step->first_chain_inside = true;
    step->run = run_depthwise;
}

bool step_conv(struct plan *plan, struct step *step, struct error *error)
{
    const struct op *op = step->op;
    const struct op_conv *conv = &op->conv;
    const struct shape *x = plan_shape(plan, op->inputs[0]);
    bool first = plan->options.channels_first;

    /* cuDNN's engines without tensor cores copy x and y to another layout first (on an H200 up to
     * 122 MiB of workspace for 1x1 in ResNet-50); a float32 product needs none of it */
    if (plan->options.precision == PRECISION_FP32 && is_product(conv) && !first) {
        return step_product(plan, step, conv->weights, conv->bias, error);
    }
    struct conv_data *data = xcalloc(1, sizeof *data);

    step->data = data;
    step->free_data = free_conv;
    data->sum = -1;
    data->channels_first = first;
    conv_geometry(&data->shape, conv, x, plan_shape(plan, op->outputs[0]));
    if (plan_widened(plan, op->inputs[0])) {
        const struct shape *real = plan_model_shape(plan, op->inputs[0]);
        data->shape.real_channels = real->dims[real->rank - 1];
    }
    bool depthwise = data->shape.groups == data->shape.in_channels && data->shape.groups > 1 &&
                     !conv->transposed;
    /* the filters of a group would have to lie together for cuDNN */
    bool apart = conv->transposed && data->shape.groups > 1;
    if ((!depthwise || first) && !apart && make_cudnn(plan, step, data)) {
        return true;
    }
    data->channels_first = false; /* ours are channels last */
    if (depthwise) {
        make_depthwise(plan, step, data);
        return true;
    }
    step->impl = "own";
    step->run = run_convolve;
    step->kernels = 1;
    data->weights = upload_plain(plan->device, conv->weights);
    append_bias(plan, step);
    step_posts(plan, step, 0);
    return true;
}
