/* Steps that run on our own kernels: everything but convolutions and products. */
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>
#include <string.h>

/* What a step's kernel needs besides its op. */
union own_data {
    struct kernel_conv pool;
    struct kernel_reduce reduce;
    struct kernel_gather gather;
    struct {
        const struct upload *gamma, *beta;
    } normalise;
};

static void free_own(struct plan *plan, struct step *step)
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

static const void *input(const struct plan *plan, const struct step *step)
{
    return plan_address(plan, step->op->inputs[0]);
}

/* -- pool ---------------------------------------------------------------------------------- */

static bool run_pool(struct plan *plan, struct step *step, void *target, struct error *error)
{
    union own_data *data = step->data;
    return CUDA_OK(kernel_pool(plan->dtype, &data->pool, step->op->pool.function == POOL_AVERAGE,
                               input(plan, step), target, plan->device->stream),
                   step->layer, error);
}

static void make_pool(struct plan *plan, struct step *step, union own_data *data)
{
    const struct op_pool *pool = &step->op->pool;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    const struct shape *y = plan_shape(plan, step->op->outputs[0]);

    data->pool.batch = x->dims[0];
    data->pool.in_channels = data->pool.out_channels = x->dims[x->rank - 1];
    for (int axis = 0; axis < 3; axis++) {
        int from = axis - (3 - pool->spatial);
        bool used = from >= 0;
        data->pool.in[axis] = used ? x->dims[1 + from] : 1;
        data->pool.out[axis] = used ? y->dims[1 + from] : 1;
        data->pool.kernel[axis] = used ? pool->window[from] : 1;
        data->pool.stride[axis] = used ? pool->stride[from] : 1;
        data->pool.dilation[axis] = 1;
        data->pool.pad[axis] = used ? pool->pad_before[from] : 0;
    }
    step->run = run_pool;
}

/* -- softmax, normalise -------------------------------------------------------------------- */

static bool run_softmax(struct plan *plan, struct step *step, void *target, struct error *error)
{
    const struct op_softmax *softmax = &step->op->softmax;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    return CUDA_OK(kernel_softmax(plan->dtype, softmax->log, product(x, 0, softmax->axis),
                                  x->dims[softmax->axis], product(x, softmax->axis + 1, x->rank),
                                  input(plan, step), target, plan->device->stream),
                   step->layer, error);
}

static bool run_normalise(struct plan *plan, struct step *step, void *target, struct error *error)
{
    const struct op_normalise *normalise = &step->op->normalise;
    const union own_data *data = step->data;
    const struct upload *gamma = data->normalise.gamma, *beta = data->normalise.beta;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    return CUDA_OK(
        kernel_normalise(plan->dtype, normalise->rms, normalise->epsilon,
                         product(x, 0, normalise->axis), product(x, normalise->axis, x->rank),
                         input(plan, step), gamma != NULL ? gamma->address : NULL,
                         beta != NULL ? beta->address : NULL, target, plan->device->stream),
        step->layer, error);
}

static void make_normalise(struct plan *plan, struct step *step, union own_data *data)
{
    const struct op_normalise *normalise = &step->op->normalise;
    if (normalise->gamma != NULL) {
        data->normalise.gamma = upload_plain(plan->device, normalise->gamma);
    }
    if (normalise->beta != NULL) {
        data->normalise.beta = upload_plain(plan->device, normalise->beta);
    }
    step->run = run_normalise;
}

/* -- reduce -------------------------------------------------------------------------------- */

static bool run_reduce(struct plan *plan, struct step *step, void *target, struct error *error)
{
    union own_data *data = step->data;
    return CUDA_OK(
        kernel_reduce(plan->dtype, &data->reduce, input(plan, step), target, plan->device->stream),
        step->layer, error);
}

static void make_reduce(struct plan *plan, struct step *step, union own_data *data)
{
    const struct op_reduce *op = &step->op->reduce;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    struct kernel_reduce *r = &data->reduce;
    int64_t stride = product(x, 0, x->rank);
    int previous = -1; /* of the last axis that was listed: 0 kept, 1 reduced */

    r->function = (int)op->function;
    for (int axis = 0; axis < x->rank; axis++) {
        int64_t extent = x->dims[axis];
        stride = extent > 0 ? stride / extent : 0;
        if (extent == 1) {
            continue; /* as good as any kind */
        }
        int kind = op->axes[axis];
        int *rank = kind ? &r->reduced_rank : &r->kept_rank;
        int64_t *extents = kind ? r->reduced : r->kept;
        int64_t *strides = kind ? r->reduced_stride : r->kept_stride;
        if (kind == previous) { /* neighbours of a kind are one axis */
            extents[*rank - 1] *= extent;
            strides[*rank - 1] = stride;
        } else {
            extents[*rank] = extent;
            strides[*rank] = stride;
            (*rank)++;
        }
        previous = kind;
    }
    step->run = run_reduce;
}

/* -- pad, slice, transpose ----------------------------------------------------------------- */

static bool run_gather(struct plan *plan, struct step *step, void *target, struct error *error)
{
    union own_data *data = step->data;
    return CUDA_OK(
        kernel_gather(plan->dtype, &data->gather, input(plan, step), target, plan->device->stream),
        step->layer, error);
}

static void make_gather(struct plan *plan, struct step *step, union own_data *data)
{
    const struct op *op = step->op;
    const struct shape *x = plan_shape(plan, op->inputs[0]);
    const struct shape *y = plan_shape(plan, op->outputs[0]);
    struct kernel_gather *g = &data->gather;

    g->rank = y->rank;
    for (int axis = 0; axis < y->rank; axis++) {
        int from = op->kind == OP_TRANSPOSE ? op->transpose.permutation[axis] : axis;
        g->dims[axis] = y->dims[axis];
        g->limit[axis] = x->dims[from];
        g->stride[axis] = product(x, from + 1, x->rank);
        g->step[axis] = 1;
        if (op->kind == OP_PAD) {
            g->begin[axis] = -op->pad.before[axis];
            g->value = op->pad.value; /* 0 where channels are added: storage.c */
        } else if (op->kind == OP_SLICE) {
            g->begin[axis] = op->slice.begin[axis];
            g->step[axis] = op->slice.step[axis]; /* 0 repeats one cell */
        }
    }
    step->run = run_gather;
}

/* -- concat, resize ------------------------------------------------------------------------ */

static bool run_concat(struct plan *plan, struct step *step, void *target, struct error *error)
{
    const struct op *op = step->op;
    const struct shape *y = plan_shape(plan, op->outputs[0]);
    int axis = op->concat.axis;
    int64_t rows = product(y, 0, axis), pitch = product(y, axis, y->rank), at = 0;

    for (size_t i = 0; i < op->input_count; i++) {
        int64_t width = product(plan_shape(plan, op->inputs[i]), axis, y->rank);
        if (!CUDA_OK(kernel_copy_rows(plan->dtype, rows, width, pitch,
                                      plan_address(plan, op->inputs[i]),
                                      (char *)target + (uint64_t)at * dtype_bytes(plan->dtype),
                                      plan->device->stream),
                     step->layer, error)) {
            return false;
        }
        at += width;
    }
    return true;
}

static bool run_resize(struct plan *plan, struct step *step, void *target, struct error *error)
{
    const struct op_resize *resize = &step->op->resize;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    return CUDA_OK(kernel_resize(plan->dtype, resize->function == RESIZE_BILINEAR, x->dims[0],
                                 x->dims[1], x->dims[2], product(x, 3, x->rank), resize->height,
                                 resize->width, input(plan, step), target, plan->device->stream),
                   step->layer, error);
}

/* -- elementwise: chains alone --------------------------------------------------------------- */

static void make_affine(struct plan *plan, struct step *step)
{
    const struct op_affine *affine = &step->op->affine;
    const struct constant *const constants[] = {affine->scale, affine->shift};
    static const enum binary_function functions[] = {BINARY_MULTIPLY, BINARY_ADD};

    step_chain_begin(plan, step, step->op->inputs[0]);
    for (int i = 0; i < 2; i++) {
        if (constants[i] != NULL) {
            struct source source = {.value = -1,
                                    .upload = upload_plain(plan->device, constants[i])};
            step_chain_binary(plan, step, functions[i], false, source, &constants[i]->shape);
        }
    }
}

static void make_binary(struct plan *plan, struct step *step)
{
    const struct op *op = step->op;
    struct source source = {.value = -1};
    const struct shape *shape;

    if (op->binary.constant != NULL) {
        source.upload = upload_plain(plan->device, op->binary.constant);
        shape = &op->binary.constant->shape;
    } else {
        source.value = op->inputs[1];
        shape = plan_shape(plan, op->inputs[1]);
    }
    step_chain_begin(plan, step, op->inputs[0]);
    step_chain_binary(plan, step, op->binary.function, op->binary.swapped, source, shape);
}

/* A reshape whose output is storage of its own: the same elements in the same order. */
static void make_copy(struct plan *plan, struct step *step)
{
    step_chain_begin(plan, step, -1);
    step->chains[0].x.value = step->op->inputs[0];
}

/* A constant where an op takes only values: copied, as it is in float32. */
static void make_constant(struct plan *plan, struct step *step)
{
    const struct constant *data = step->op->constant.data;
    step_chain_begin(plan, step, -1);
    struct step_chain *chain = &step->chains[0];
    chain->x.upload = upload_plain(plan->device, data);
    chain->chain.x = chain_operand(&chain->chain, &data->shape);
}

static void make_select(struct plan *plan, struct step *step)
{
    const struct op *op = step->op;
    const struct constant *const constants[] = {op->select.on_true, op->select.on_false};
    size_t next = 1;

    step_chain_begin(plan, step, op->inputs[0]);
    struct step_chain *chain = &step->chains[0];
    chain->chain.select = true;
    for (int i = 0; i < 2; i++) {
        const struct shape *shape;
        struct source *source = &chain->chosen[i];
        source->value = -1;
        if (constants[i] != NULL) {
            source->upload = upload_plain(plan->device, constants[i]);
            shape = &constants[i]->shape;
        } else {
            source->value = op->inputs[next++];
            shape = plan_model_shape(plan, source->value);
        }
        chain->chain.chosen[i] = chain_operand(&chain->chain, shape);
        chain->chain.chosen[i].dtype =
            source->upload != NULL ? source->upload->dtype : plan->storage[source->value];
    }
}

bool step_own(struct plan *plan, struct step *step, struct error *error)
{
    const struct op *op = step->op;
    union own_data *data = xcalloc(1, sizeof *data);

    step->impl = "own";
    step->data = data;
    step->free_data = free_own;
    switch (op->kind) {
    case OP_POOL:
        make_pool(plan, step, data);
        break;
    case OP_SOFTMAX:
        step->run = run_softmax;
        break;
    case OP_NORMALISE:
        make_normalise(plan, step, data);
        break;
    case OP_REDUCE:
        make_reduce(plan, step, data);
        break;
    case OP_PAD:
    case OP_SLICE:
    case OP_TRANSPOSE:
        make_gather(plan, step, data);
        break;
    case OP_CONCAT:
        step->run = run_concat;
        step->kernels = (uint32_t)op->input_count - 1;
        break;
    case OP_RESIZE:
        step->run = run_resize;
        break;
    case OP_AFFINE:
        make_affine(plan, step);
        break;
    case OP_BINARY:
        make_binary(plan, step);
        break;
    case OP_UNARY:
        step_chain_begin(plan, step, op->inputs[0]);
        step_chain_unary(plan, step, &op->unary);
        break;
    case OP_RESHAPE:
        make_copy(plan, step);
        break;
    case OP_CONSTANT:
        make_constant(plan, step);
        break;
    case OP_SELECT:
        make_select(plan, step);
        break;
    default:
        return step_lacks(step, "any implementation", error);
    }
    step->kernels += step->run != NULL;
    step_posts(plan, step, 0);
    return true;
}
