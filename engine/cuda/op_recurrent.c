/* Recurrent layers as steps: the product of all inputs with the kernel by cuBLASLt, then the
 * recurrence in one of three ways (recurrent.h). All launches of a layer are one step, nothing waits
 * for the device, so that a plan with recurrent layers is one CUDA graph like any other. */
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include "engine/cuda/recurrent.h"
#include <stdlib.h>
#include <string.h>

/* Recurrent weights that stay in the first-level cache of an SM, or come from the second level faster
 * than a kernel is launched: all steps in one kernel. */
#define SEQUENCE_WEIGHTS_BYTES (256 << 10)
/* Samples from which a library's product pays for a second launch in every step. */
#define PRODUCT_SAMPLES        8

enum way { WAY_SEQUENCE, WAY_STEPS, WAY_PRODUCTS };

struct recurrent_data {
    struct kernel_recurrent layer;
    enum way way;
    int rows; /* samples of a block of WAY_SEQUENCE */
    const struct upload *kernel, *recurrent, *bias;
    struct matmul_entry *inputs; /* x kernel + bias */
    struct matmul_entry *states; /* h recurrent, of WAY_PRODUCTS */
    /* in the step's workspace, bytes */
    uint64_t z_at, u_at, h_at, c_at, operand_at[2], update_at, reset_at, started_at, product_at;
};

static void free_recurrent(struct plan *plan, struct step *step)
{
    (void)plan;
    free(step->data);
}

/* y = x W (+ bias) by an entry of cuBLASLt. */
static bool multiply(struct plan *plan, struct step *step, const struct matmul_entry *entry,
                     const struct upload *weights, const struct upload *bias, const void *x,
                     void *y, struct error *error)
{
    struct recurrent_data *data = step->data;
    struct device *device = plan->device;
    const struct libraries *l = device->libraries;
    float alpha = 1.0f, beta = 0.0f;
    char *workspace = (char *)step_workspace(plan, step) + data->product_at;

    if (bias != NULL) {
        const void *address = bias->address;
        if (!CUBLASLT_OK(l,
                         cublasLtMatmulDescSetAttribute(entry->product,
                                                        CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address,
                                                        sizeof address),
                         step->layer, error)) {
            return false;
        }
    }
    return CUBLASLT_OK(l,
                       cublasLtMatmul(device->cublaslt, entry->product, &alpha, weights->address,
                                      entry->a, x, entry->b, &beta, y, entry->d, y, entry->d,
                                      &entry->algorithm, workspace, entry->workspace_bytes,
                                      device->stream),
                       step->layer, error);
}

/* The addresses of this run: regions may have moved since the last. */
static void resolve(struct plan *plan, struct step *step, void *target)
{
    const struct op *op = step->op;
    const struct op_recurrent *recurrent = &op->recurrent;
    struct recurrent_data *data = step->data;
    struct kernel_recurrent *layer = &data->layer;
    char *workspace = step_workspace(plan, step);
    size_t next = 1;

    layer->mask = recurrent->has_mask ? plan_address(plan, op->inputs[next++]) : NULL;
    layer->h_first = recurrent->has_state ? plan_address(plan, op->inputs[next++]) : NULL;
    layer->c_first = recurrent->has_state && recurrent->cell == CELL_LSTM
                         ? plan_address(plan, op->inputs[next])
                         : NULL;
    layer->y = target;
    layer->h_last = op->output_count > 1 ? plan_address(plan, op->outputs[1]) : NULL;
    layer->c_last = op->output_count > 2 ? plan_address(plan, op->outputs[2]) : NULL;
    layer->recurrent = data->recurrent->address;
    if (recurrent->bias != NULL && recurrent->reset_after) {
        layer->recurrent_bias = (const char *)data->bias->address +
                                (uint64_t)(layer->gates * layer->units) * dtype_bytes(plan->dtype);
    }
    layer->z = workspace + data->z_at;
    layer->u = workspace + data->u_at;
    layer->h = (float *)(void *)(workspace + data->h_at);
    layer->c = (float *)(void *)(workspace + data->c_at);
    layer->h_operand[0] = workspace + data->operand_at[0];
    layer->h_operand[1] = workspace + data->operand_at[1];
    layer->update = (float *)(void *)(workspace + data->update_at);
    layer->reset = workspace + data->reset_at;
    layer->started = (int *)(void *)(workspace + data->started_at);
}

/* A step, or a stage of it. A library's product makes all columns, also where a stage needs some. */
static bool run_stage(struct plan *plan, struct step *step, int64_t at, int stage,
                      struct error *error)
{
    struct recurrent_data *data = step->data;
    const struct kernel_recurrent *layer = &data->layer;
    cudaStream_t stream = plan->device->stream;
    const void *from = stage == 1 ? layer->reset : layer->h_operand[at % 2];

    if (data->way == WAY_PRODUCTS) {
        return multiply(plan, step, data->states, data->recurrent, NULL, from, layer->u, error) &&
               CUDA_OK(kernel_recurrent_cells(plan->dtype, layer, at, stage, stream), step->layer,
                       error);
    }
    return CUDA_OK(kernel_recurrent_step(plan->dtype, layer, at, stage, stream), step->layer,
                   error);
}

static bool run_recurrent(struct plan *plan, struct step *step, void *target, struct error *error)
{
    struct recurrent_data *data = step->data;
    const struct kernel_recurrent *layer = &data->layer;
    cudaStream_t stream = plan->device->stream;

    resolve(plan, step, target);
    if (!multiply(plan, step, data->inputs, data->kernel, data->bias,
                  plan_address(plan, step->op->inputs[0]), (void *)(uintptr_t)layer->z, error)) {
        return false;
    }
    if (data->way == WAY_SEQUENCE) {
        return CUDA_OK(kernel_recurrent_sequence(plan->dtype, layer, data->rows, stream),
                       step->layer, error);
    }
    bool good = CUDA_OK(kernel_recurrent_begin(plan->dtype, layer, stream), step->layer, error);
    for (int64_t at = 0; good && at < layer->steps; at++) {
        good = run_stage(plan, step, at, 0, error) &&
               (!recurrent_two_stages(layer) || run_stage(plan, step, at, 1, error));
    }
    return good;
}

static struct matmul_entry *find_product(struct plan *plan, struct step *step, int64_t rows,
                                         int64_t inner, bool bias, struct error *error)
{
    const struct recurrent_data *data = step->data;
    struct matmul_problem problem;

    memset(&problem, 0, sizeof problem);
    problem.rows = rows;
    problem.inner = inner;
    problem.units = data->layer.gates * data->layer.units;
    problem.batch = 1;
    problem.dtype = plan->dtype;
    problem.tf32 = plan->options.precision == PRECISION_TF32;
    problem.bias = bias;
    problem.epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    struct matmul_entry *entry = plan_matmul_entry(plan, &problem, error);
    if (entry != NULL && !entry->usable) {
        step_lacks(step, "any algorithm of cuBLASLt", error);
        return NULL;
    }
    return entry;
}

static enum way choose_way(const struct plan *plan, const struct kernel_recurrent *layer)
{
    uint64_t bytes =
        (uint64_t)(layer->units * layer->units * layer->gates) * dtype_bytes(plan->dtype);
    /* with more than two waves of blocks a library's products of all samples are faster */
    bool few = layer->samples <= 8 * (int64_t)plan->device->multiprocessors;
    if (!recurrent_is_usual(&layer->activation) || !recurrent_is_usual(&layer->gate)) {
        return WAY_PRODUCTS;
    }
    if (bytes <= SEQUENCE_WEIGHTS_BYTES && layer->units <= RECURRENT_SEQUENCE_UNITS && few) {
        return WAY_SEQUENCE;
    }
    return layer->samples < PRODUCT_SAMPLES ? WAY_STEPS : WAY_PRODUCTS;
}

static uint64_t take(struct step *step, int64_t elements, size_t each)
{
    uint64_t at = step->workspace_bytes, bytes = (uint64_t)elements * each;
    step->workspace_bytes =
        at + (bytes + DEVICE_ALIGNMENT - 1) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
    return at;
}

static void lay_out(const struct plan *plan, struct step *step)
{
    struct recurrent_data *data = step->data;
    const struct kernel_recurrent *layer = &data->layer;
    int64_t states = layer->samples * layer->units;
    size_t each = dtype_bytes(plan->dtype);

    data->z_at = take(step, states * layer->steps * layer->gates, each);
    if (data->way != WAY_SEQUENCE) {
        data->h_at = take(step, states, sizeof(float));
        data->c_at = take(step, states, sizeof(float));
        data->operand_at[0] = take(step, states, each);
        data->operand_at[1] = take(step, states, each);
        data->started_at = take(step, layer->samples, sizeof(int));
    }
    if (data->way == WAY_PRODUCTS) {
        data->u_at = take(step, states * layer->gates, each);
    }
    if (data->way != WAY_SEQUENCE && recurrent_two_stages(layer)) {
        data->update_at = take(step, states, sizeof(float));
        data->reset_at = take(step, states, each);
    }
    uint64_t product = data->inputs->workspace_bytes;
    if (data->states != NULL && data->states->workspace_bytes > product) {
        product = data->states->workspace_bytes;
    }
    data->product_at = take(step, (int64_t)product, 1);
}

bool step_recurrent(struct plan *plan, struct step *step, struct error *error)
{
    const struct op_recurrent *op = &step->op->recurrent;
    const struct shape *x = plan_shape(plan, step->op->inputs[0]);
    struct upload_kind kind = {.form = FORM_PLAIN, .dtype = plan->dtype};
    struct recurrent_data *data = xcalloc(1, sizeof *data);

    step->data = data;
    step->free_data = free_recurrent;
    if (shape_elements(x) == 0) {
        return step_lacks(step, "an empty sequence", error);
    }
    data->layer = (struct kernel_recurrent){.cell = (int)op->cell,
                                            .gates = recurrent_gates(op->cell),
                                            .reset_after = op->reset_after,
                                            .backwards = op->backwards,
                                            .flipped = op->flipped,
                                            .sequences = op->sequences,
                                            .masked = (int)op->masked,
                                            .activation = op->activation,
                                            .gate = op->gate,
                                            .samples = x->dims[0],
                                            .steps = x->dims[1],
                                            .units = op->units};
    data->kernel = upload_want(plan->device, op->kernel, kind);
    data->recurrent = upload_want(plan->device, op->recurrent, kind);
    data->bias = op->bias != NULL ? upload_want(plan->device, op->bias, kind) : NULL;
    data->way = choose_way(plan, &data->layer);
    /* four samples a block share each read of the weights, once every SM has a block */
    data->rows = data->layer.samples <= plan->device->multiprocessors ? 1 : 4;
    data->inputs =
        find_product(plan, step, x->dims[0] * x->dims[1], x->dims[2], op->bias != NULL, error);
    if (data->inputs == NULL) {
        return false;
    }
    /* of a step */
    uint32_t launches = recurrent_two_stages(&data->layer) ? 2 : 1;
    if (data->way == WAY_PRODUCTS) {
        data->states = find_product(plan, step, x->dims[0], op->units, false, error);
        if (data->states == NULL) {
            return false;
        }
        launches *= 2;
    }
    lay_out(plan, step);
    step->run = run_recurrent;
    step->impl = data->way == WAY_PRODUCTS ? "cublaslt" : "own";
    step->kernels = data->way == WAY_SEQUENCE ? 2 : 2 + (uint32_t)data->layer.steps * launches;
    step_posts(plan, step, 0);
    return true;
}
