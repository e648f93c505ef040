/* Dense layers and batched products as steps: cuBLASLt with what its epilogues do of the posts. */
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>
#include <string.h>

struct matmul_data {
    struct step_product product;
    struct source weights; /* constant or second input */
    const struct upload *bias;
    int sum; /* graph value added before the activation, -1 */
};

static void free_matmul(struct plan *plan, struct step *step)
{
    (void)plan;
    free(step->data);
}

static bool run_matmul(struct plan *plan, struct step *step, void *target, struct error *error)
{
    struct matmul_data *data = step->data;
    struct device *device = plan->device;
    const struct libraries *l = device->libraries;
    const struct matmul_entry *entry = data->product.entry;
    float alpha = 1.0f, beta = data->sum >= 0 ? 1.0f : 0.0f;
    const void *added = data->sum >= 0 ? plan_address(plan, data->sum) : target;

    if (data->bias != NULL) {
        const void *bias = data->bias->address;
        if (!CUBLASLT_OK(l,
                         cublasLtMatmulDescSetAttribute(
                             entry->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
                         step->layer, error)) {
            return false;
        }
    }
    return CUBLASLT_OK(l,
                       cublasLtMatmul(device->cublaslt, entry->product, &alpha,
                                      source_address(plan, &data->weights), entry->a,
                                      plan_address(plan, step->op->inputs[0]), entry->b, &beta,
                                      added, entry->d, target, entry->d,
                                      product_algorithm(&data->product), step_workspace(plan, step),
                                      product_workspace(plan, &data->product), device->stream),
                       step->layer, error);
}

static bool is_plain_relu(const struct op_unary *unary)
{
    return unary->function == UNARY_RELU && unary->alpha == 0.0f && unary->beta <= 0.0f;
}

/* The epilogue of an activation; false if cuBLASLt has none that is good enough. */
static bool activation_epilogue(const struct plan *plan, const struct op_unary *unary, bool bias,
                                cublasLtEpilogue_t *epilogue)
{
    if (is_plain_relu(unary)) {
        *epilogue = bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
        return true;
    }
    /* cuBLASLt's is the approximation by tanh; strict float32 keeps to its own formula */
    if (unary->function == UNARY_GELU_TANH && plan->options.precision != PRECISION_FP32) {
        *epilogue = bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
        return true;
    }
    return false;
}

/* Fill sum and epilogue with what of the first `most` posts cuBLASLt does; returns how many. */
static size_t choose_epilogue(struct plan *plan, const struct op *op, bool bias, size_t most,
                              int *sum, cublasLtEpilogue_t *epilogue)
{
    size_t fused = 0;

    *sum = -1;
    *epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    most = most < op->post_count ? most : op->post_count;
    if (fused < most && op->posts[0].kind == POST_BINARY && op->posts[0].binary == BINARY_ADD &&
        shape_equal(plan_shape(plan, op->posts[0].value), plan_shape(plan, op->outputs[0]))) {
        *sum = op->posts[0].value;
        fused = 1;
    }
    if (fused < most && op->posts[fused].kind == POST_UNARY &&
        activation_epilogue(plan, &op->posts[fused].unary, bias, epilogue)) {
        fused++;
    }
    return fused;
}

/* -- measuring (tune.c): of this step and of those of bytes ----------------------------------- */

const cublasLtMatmulAlgo_t *product_algorithm(const struct step_product *product)
{
    return product->trial != NULL ? product->trial : &product->entry->algorithm;
}

uint64_t product_workspace(const struct plan *plan, const struct step_product *product)
{
    return product->trial != NULL ? plan_tuning_workspace(plan) - product->beside_bytes
                                  : product->entry->workspace_bytes;
}

static size_t tune_begin(struct plan *plan, struct step *step)
{
    const struct step_product *product = step->data;
    (void)plan;
    return product->entry->tuned ? 0 : (size_t)product->entry->found_count;
}

static bool tune_use(struct plan *plan, struct step *step, int candidate)
{
    struct step_product *product = step->data;
    const struct matmul_entry *entry = product->entry;
    uint64_t room = plan_tuning_workspace(plan);

    product->trial = NULL;
    if (candidate < 0) {
        return true;
    }
    const cublasLtMatmulHeuristicResult_t *found = &entry->found[candidate];
    if (room < product->beside_bytes || found->workspaceSize > room - product->beside_bytes ||
        memcmp(&found->algo, &entry->algorithm, sizeof found->algo) == 0) {
        return false;
    }
    product->trial = &found->algo;
    return true;
}

static void tune_keep(struct plan *plan, struct step *step, int candidate, int64_t time_ns)
{
    struct step_product *product = step->data;
    struct matmul_entry *entry = product->entry;

    (void)plan;
    product->trial = NULL;
    if (candidate >= 0) {
        entry->algorithm = entry->found[candidate].algo;
        entry->workspace_bytes = entry->found[candidate].workspaceSize;
    }
    entry->tuned = true;
    entry->time_ns = time_ns;
}

const struct tuning product_tuning = {tune_begin, tune_use, tune_keep};

/* -- the step -------------------------------------------------------------------------------- */

bool step_matmul(struct plan *plan, struct step *step, struct error *error)
{
    return step_product(plan, step, step->op->matmul.weights, step->op->matmul.bias, error);
}

bool step_product(struct plan *plan, struct step *step, const struct constant *weights,
                  const struct constant *bias, struct error *error)
{
    const struct op *op = step->op;
    const struct shape *x = plan_shape(plan, op->inputs[0]);
    const struct shape *y = plan_shape(plan, op->outputs[0]);
    struct upload_kind kind = {.form = FORM_PLAIN, .dtype = plan->dtype};
    struct matmul_data *data = xcalloc(1, sizeof *data);
    struct matmul_problem problem;

    memset(&problem, 0, sizeof problem);
    problem.inner = x->dims[x->rank - 1];
    problem.units = y->dims[y->rank - 1];
    problem.batch = 1;
    problem.rows = problem.inner > 0 ? shape_elements(x) / problem.inner : 0;
    problem.dtype = plan->dtype;
    problem.tf32 = plan->options.precision == PRECISION_TF32;
    problem.bias = bias != NULL;
    step->data = data;
    step->free_data = free_matmul;
    step->impl = "cublaslt";
    step->run = run_matmul;
    step->tuning = &product_tuning;
    step->kernels = 1;
    if (problem.rows * problem.units * problem.inner == 0) {
        return step_lacks(step, "an empty matrix", error);
    }
    if (weights != NULL) {
        data->weights.value = -1;
        data->weights.upload = upload_want(plan->device, weights, kind);
    } else {
        data->weights.value = op->inputs[1];
        for (int i = 0; i + 2 < x->rank; i++) {
            problem.batch *= x->dims[i];
        }
        problem.rows /= problem.batch;
    }
    if (bias != NULL) {
        data->bias = upload_want(plan->device, bias, kind);
    }
    size_t fused = 2;
    do { /* less and less in the epilogue, should there be no kernel for it */
        fused = choose_epilogue(plan, op, bias != NULL, fused, &data->sum, &problem.epilogue);
        problem.sum = data->sum >= 0;
        data->product.entry = plan_matmul_entry(plan, &problem, error);
        if (data->product.entry == NULL) {
            return false;
        }
    } while (!data->product.entry->usable && fused-- > 0);
    if (!data->product.entry->usable) {
        return step_lacks(step, "any algorithm of cuBLASLt", error);
    }
    step->workspace_bytes = data->product.entry->workspace_bytes;
    step_posts(plan, step, fused);
    return true;
}
