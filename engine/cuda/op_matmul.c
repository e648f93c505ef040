/* Dense layers and batched products by cuBLASLt.
 *
 * cuBLASLt counts columns first. A row-major y (rows, K) = x (rows, C) * W (C, K) is, read so,
 * y' (K, rows) = W' (K, C) * x' (C, rows): pass W first and x second, nothing is transposed, and
 * the bias epilogue (one value per row of y') is one value per output unit.
 */
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include <stdlib.h>
#include <string.h>

#define WORKSPACE_BYTES (32ull << 20) /* cuBLASLt's advice for Hopper */
#define ALGORITHMS      8

struct matmul_data {
    struct source weights; /* constant or second input */
    const struct upload *bias;
    int sum; /* graph value added before the activation, -1 */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    uint64_t workspace_bytes;
};

static void free_matmul(struct plan *plan, struct step *step)
{
    struct matmul_data *data = step->data;
    const struct libraries *l = plan->device->libraries;
    if (data->product != NULL) {
        l->cublaslt.cublasLtMatmulDescDestroy(data->product);
    }
    cublasLtMatrixLayout_t layouts[] = {data->a, data->b, data->d};
    for (size_t i = 0; i < 3; i++) {
        if (layouts[i] != NULL) {
            l->cublaslt.cublasLtMatrixLayoutDestroy(layouts[i]);
        }
    }
    free(data);
}

static bool run_matmul(struct plan *plan, struct step *step, float *target, struct error *error)
{
    struct matmul_data *data = step->data;
    struct device *device = plan->device;
    const struct libraries *l = device->libraries;
    float alpha = 1.0f, beta = data->sum >= 0 ? 1.0f : 0.0f;
    const float *added = data->sum >= 0 ? plan_address(plan, data->sum) : target;

    if (data->bias != NULL) {
        const void *bias = data->bias->address;
        if (!CUBLASLT_OK(l,
                         cublasLtMatmulDescSetAttribute(
                             data->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
                         step->layer, error)) {
            return false;
        }
    }
    return CUBLASLT_OK(l,
                       cublasLtMatmul(device->cublaslt, data->product, &alpha,
                                      source_address(plan, &data->weights), data->a,
                                      plan_address(plan, step->op->inputs[0]), data->b, &beta,
                                      added, data->d, target, data->d, &data->algorithm,
                                      plan_workspace(plan), data->workspace_bytes, device->stream),
                       step->layer, error);
}

/* A column-first matrix, perhaps a batch of them that lie behind one another. */
static bool layout(const struct libraries *l, cublasLtMatrixLayout_t *out, int64_t rows,
                   int64_t columns, int64_t batch, struct error *error)
{
    int32_t count = (int32_t)batch;
    int64_t stride = rows * columns;
    return CUBLASLT_OK(
               l,
               cublasLtMatrixLayoutCreate(out, CUDA_R_32F, (uint64_t)rows, (uint64_t)columns, rows),
               "dense", error) &&
           (batch == 1 ||
            (CUBLASLT_OK(l,
                         cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                          &count, sizeof count),
                         "dense", error) &&
             CUBLASLT_OK(
                 l,
                 cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                  &stride, sizeof stride),
                 "dense", error)));
}

static bool choose_algorithm(struct plan *plan, struct step *step, struct error *error)
{
    struct matmul_data *data = step->data;
    const struct libraries *l = plan->device->libraries;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[ALGORITHMS];
    uint64_t most = WORKSPACE_BYTES;
    int count = 0;

    if (!CUBLASLT_OK(l, cublasLtMatmulPreferenceCreate(&preference), step->layer, error)) {
        return false;
    }
    bool good =
        CUBLASLT_OK(l,
                    cublasLtMatmulPreferenceSetAttribute(
                        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
                    step->layer, error) &&
        CUBLASLT_OK(l,
                    cublasLtMatmulAlgoGetHeuristic(plan->device->cublaslt, data->product, data->a,
                                                   data->b, data->d, data->d, preference,
                                                   ALGORITHMS, found, &count),
                    step->layer, error);
    l->cublaslt.cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; good && i < count; i++) {
        if (found[i].state == CUBLAS_STATUS_SUCCESS) {
            data->algorithm = found[i].algo;
            data->workspace_bytes = found[i].workspaceSize;
            return true;
        }
    }
    return good ? step_lacks(step, "any algorithm of cuBLASLt", error) : false;
}

static bool is_plain_relu(const struct op *op, size_t post)
{
    return post < op->post_count && op->posts[post].kind == POST_UNARY &&
           op->posts[post].unary.function == UNARY_RELU && op->posts[post].unary.alpha == 0.0f &&
           op->posts[post].unary.beta <= 0.0f;
}

/* Fill sum and epilogue with what of the posts cuBLASLt does; returns how many. */
static size_t choose_epilogue(struct plan *plan, const struct op *op, bool bias,
                              struct matmul_data *data, cublasLtEpilogue_t *epilogue)
{
    size_t fused = 0;

    data->sum = -1;
    if (op->post_count > 0 && op->posts[0].kind == POST_BINARY &&
        op->posts[0].binary == BINARY_ADD &&
        shape_equal(plan_shape(plan, op->posts[0].value), plan_shape(plan, op->outputs[0]))) {
        data->sum = op->posts[0].value;
        fused = 1;
    }
    if (is_plain_relu(op, fused)) {
        *epilogue = bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
        return fused + 1;
    }
    *epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    return fused;
}

bool step_matmul(struct plan *plan, struct step *step, struct error *error)
{
    return step_product(plan, step, step->op->matmul.weights, step->op->matmul.bias, error);
}

bool step_product(struct plan *plan, struct step *step, const struct constant *weights,
                  const struct constant *bias, struct error *error)
{
    const struct op *op = step->op;
    const struct libraries *l = plan->device->libraries;
    const struct shape *x = plan_shape(plan, op->inputs[0]);
    const struct shape *y = plan_shape(plan, op->outputs[0]);
    struct matmul_data *data = xcalloc(1, sizeof *data);
    int64_t inner = x->dims[x->rank - 1], units = y->dims[y->rank - 1], batch = 1;
    int64_t rows = inner > 0 ? shape_elements(x) / inner : 0;
    cublasLtEpilogue_t epilogue;

    step->data = data;
    step->free_data = free_matmul;
    step->impl = "cublaslt";
    step->run = run_matmul;
    step->kernels = 1;
    if (rows * units * inner == 0) {
        return step_lacks(step, "an empty matrix", error);
    }
    if (weights != NULL) {
        data->weights.value = -1;
        data->weights.upload = upload_want(plan->device, weights, FORM_PLAIN);
    } else {
        data->weights.value = op->inputs[1];
        for (int i = 0; i + 2 < x->rank; i++) {
            batch *= x->dims[i];
        }
        rows /= batch;
    }
    size_t fused = choose_epilogue(plan, op, bias != NULL, data, &epilogue);
    if (bias != NULL) {
        data->bias = upload_want(plan->device, bias, FORM_PLAIN);
    }
    cublasComputeType_t compute = plan->options.precision == PRECISION_FP32
                                      ? CUBLAS_COMPUTE_32F
                                      : CUBLAS_COMPUTE_32F_FAST_TF32;
    if (!CUBLASLT_OK(l, cublasLtMatmulDescCreate(&data->product, compute, CUDA_R_32F), step->layer,
                     error) ||
        !CUBLASLT_OK(l,
                     cublasLtMatmulDescSetAttribute(data->product, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                    &epilogue, sizeof epilogue),
                     step->layer, error)) {
        return false;
    }
    if (data->bias != NULL) {
        /* the heuristic reads the alignment from the pointer; the real one comes at run time and is
         * aligned at least as well */
        const void *aligned = (const void *)(uintptr_t)DEVICE_ALIGNMENT;
        if (!CUBLASLT_OK(l,
                         cublasLtMatmulDescSetAttribute(data->product,
                                                        CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned,
                                                        sizeof aligned),
                         step->layer, error)) {
            return false;
        }
    }
    if (!layout(l, &data->a, units, inner, batch, error) ||
        !layout(l, &data->b, inner, rows, batch, error) ||
        !layout(l, &data->d, units, rows, batch, error) || !choose_algorithm(plan, step, error)) {
        return false;
    }
    step->workspace_bytes = data->workspace_bytes;
    step_posts(plan, step, fused);
    return true;
}
