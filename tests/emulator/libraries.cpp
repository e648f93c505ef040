/* cuBLASLt and cuDNN as the GPU module sees them, on the host: products by plain loops with sums in
 * float32, and a cuDNN that has no engine, so that convolutions run on our own kernels. A product
 * fills the workspace that it asked for with NaNs. */
#include "tests/emulator/simt.h"
#include <cstdlib>
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cudnn.h>
#include <vector>

#define __typeof__ decltype
extern "C" {
#include "engine/cuda/check.h"
#include "engine/cuda/libraries.h"
}

#define WORKSPACE_BYTES 4096

namespace {
struct product {
    cublasLtEpilogue_t epilogue;
    const void *bias;
    cublasComputeType_t compute;
    int32_t transposed; /* A */
};

struct layout {
    cudaDataType_t type;
    int64_t rows, columns, pitch, stride;
    int32_t count;
};

float get(const void *data, int64_t at, cudaDataType_t type)
{
    return type == CUDA_R_16F    ? __half2float(((const __half *)data)[at])
           : type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)data)[at])
                                 : ((const float *)data)[at];
}

void put(void *data, int64_t at, cudaDataType_t type, float value)
{
    if (type == CUDA_R_16F) {
        ((__half *)data)[at] = __float2half_rn(value);
    } else if (type == CUDA_R_16BF) {
        ((__nv_bfloat16 *)data)[at] = __float2bfloat16_rn(value);
    } else {
        ((float *)data)[at] = value;
    }
}

float finish(cublasLtEpilogue_t epilogue, float x)
{
    switch (epilogue) {
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
        return x > 0 ? x : 0;
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
        return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    default:
        return x;
    }
}

bool has_bias(cublasLtEpilogue_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
}

struct call {
    product how;
    layout a, b, d;
    const void *x, *y, *c;
    void *to, *workspace;
    float beta;
};

/* D = epilogue(A B + beta C + bias), columns first. */
void multiply(const call &m)
{
    memset(m.workspace, 0xff, WORKSPACE_BYTES);
    std::vector<float> result((size_t)(m.d.rows * m.d.columns)), column((size_t)m.b.rows);
    for (int32_t n = 0; n < m.d.count; n++) {
        for (int64_t j = 0; j < m.d.columns; j++) {
            float *out = &result[(size_t)(j * m.d.rows)];
            for (int64_t i = 0; i < m.d.rows; i++) {
                out[i] = 0;
            }
            for (int64_t k = 0; k < m.b.rows; k++) {
                float b = get(m.y, n * m.b.stride + j * m.b.pitch + k, m.b.type);
                for (int64_t i = 0; i < m.d.rows; i++) {
                    out[i] += get(m.x, n * m.a.stride + k * m.a.pitch + i, m.a.type) * b;
                }
            }
        }
        for (int64_t j = 0; j < m.d.columns; j++) {
            for (int64_t i = 0; i < m.d.rows; i++) {
                int64_t at = n * m.d.stride + j * m.d.pitch + i;
                float value = result[(size_t)(j * m.d.rows + i)];
                if (m.beta != 0) {
                    value += m.beta * get(m.c, at, m.d.type);
                }
                if (has_bias(m.how.epilogue)) {
                    value += get(m.how.bias, i, m.d.type);
                }
                put(m.to, at, m.d.type, finish(m.how.epilogue, value));
            }
        }
    }
}

/* D = A' B of bytes, columns first: beta is 0. */
void multiply_bytes(const call &m)
{
    const int8_t *x = (const int8_t *)m.x, *y = (const int8_t *)m.y;
    memset(m.workspace, 0xff, WORKSPACE_BYTES);
    for (int64_t j = 0; j < m.d.columns; j++) {
        for (int64_t i = 0; i < m.d.rows; i++) {
            int32_t sum = 0;
            for (int64_t k = 0; k < m.b.rows; k++) {
                sum += x[i * m.a.pitch + k] * y[j * m.b.pitch + k];
            }
            ((int32_t *)m.to)[j * m.d.pitch + i] = sum;
        }
    }
}

/* What cuBLASLt's int8 kernels ask for: A transposed, all in multiples of four, more than 16 rows. */
bool takes_bytes(const product &how, const layout &a, const layout &b, const layout &d)
{
    return how.compute == CUBLAS_COMPUTE_32I && how.transposed == CUBLAS_OP_T &&
           how.epilogue == CUBLASLT_EPILOGUE_DEFAULT && a.type == CUDA_R_8I &&
           b.type == CUDA_R_8I && d.type == CUDA_R_32I && a.count == 1 && a.rows == b.rows &&
           a.columns == d.rows && b.columns == d.columns && a.rows % 4 == 0 && a.columns % 4 == 0 &&
           a.pitch % 4 == 0 && b.pitch % 4 == 0 && d.pitch % 4 == 0 && b.columns > 16;
}

bool is_bytes(const layout *a)
{
    return a->type == CUDA_R_8I;
}

cublasStatus_t blas_create(cublasLtHandle_t *handle)
{
    *handle = (cublasLtHandle_t)malloc(1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_destroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t desc_create(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                           cudaDataType_t scale)
{
    *desc = (cublasLtMatmulDesc_t) new product{CUBLASLT_EPILOGUE_DEFAULT, nullptr, compute,
                                               CUBLAS_OP_N};
    return (compute == CUBLAS_COMPUTE_32I) == (scale == CUDA_R_32I) ? CUBLAS_STATUS_SUCCESS
                                                                    : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t desc_destroy(cublasLtMatmulDesc_t desc)
{
    delete (product *)desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t desc_set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                        const void *value, size_t size)
{
    product *p = (product *)desc;
    if (attribute == CUBLASLT_MATMUL_DESC_EPILOGUE && size == sizeof p->epilogue) {
        memcpy(&p->epilogue, value, size);
    } else if (attribute == CUBLASLT_MATMUL_DESC_TRANSA && size == sizeof p->transposed) {
        memcpy(&p->transposed, value, size);
    } else if (attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER && size == sizeof p->bias) {
        memcpy(&p->bias, value, size);
        /* as the heuristics were told */
        return (uintptr_t)p->bias % 16 == 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    } else {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t layout_create(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                             uint64_t columns, int64_t pitch)
{
    *out = (cublasLtMatrixLayout_t) new layout{type, (int64_t)rows, (int64_t)columns, pitch, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t layout_destroy(cublasLtMatrixLayout_t out)
{
    delete (layout *)out;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t layout_set(cublasLtMatrixLayout_t out, cublasLtMatrixLayoutAttribute_t attribute,
                          const void *value, size_t size)
{
    layout *l = (layout *)out;
    if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && size == sizeof l->count) {
        memcpy(&l->count, value, size);
    } else if (attribute == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET &&
               size == sizeof l->stride) {
        memcpy(&l->stride, value, size);
    } else {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t preference_create(cublasLtMatmulPreference_t *out)
{
    *out = (cublasLtMatmulPreference_t)malloc(1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t preference_destroy(cublasLtMatmulPreference_t out)
{
    free(out);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t preference_set(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
                              const void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

void describe(cublasLtMatmulHeuristicResult_t *result)
{
    memset(result, 0, sizeof *result);
    result->workspaceSize = WORKSPACE_BYTES;
    result->state = CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t check(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                     const cublasLtMatmulAlgo_t *, cublasLtMatmulHeuristicResult_t *result)
{
    describe(result);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t heuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                         cublasLtMatmulPreference_t, int, cublasLtMatmulHeuristicResult_t *results,
                         int *count)
{
    bool bytes = is_bytes((layout *)a);
    if (getenv("EMULATOR_LACKS_PRODUCTS") != NULL ||
        (bytes && !takes_bytes(*(product *)desc, *(layout *)a, *(layout *)b, *(layout *)d))) {
        *count = 0;
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    describe(results);
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t matmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *x,
                      cublasLtMatrixLayout_t a, const void *y, cublasLtMatrixLayout_t b,
                      const void *beta, const void *c, cublasLtMatrixLayout_t, void *to,
                      cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *, void *workspace,
                      size_t bytes, cudaStream_t)
{
    if (is_bytes((layout *)a)) {
        call m = {
            *(product *)desc, *(layout *)a, *(layout *)b, *(layout *)d, x, y, c, to, workspace, 0};
        if (bytes < WORKSPACE_BYTES || *(const int32_t *)alpha != 1 ||
            *(const int32_t *)beta != 0 || !takes_bytes(m.how, m.a, m.b, m.d)) {
            return CUBLAS_STATUS_INVALID_VALUE;
        }
        simt_queue([m] { multiply_bytes(m); });
        return CUBLAS_STATUS_SUCCESS;
    }
    call m = {*(product *)desc, *(layout *)a,        *(layout *)b, *(layout *)d, x, y, c, to,
              workspace,        *(const float *)beta};
    if (bytes < WORKSPACE_BYTES || m.a.rows != m.d.rows || m.a.columns != m.b.rows ||
        m.b.columns != m.d.columns) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    simt_queue([m] { multiply(m); });
    return CUBLAS_STATUS_SUCCESS;
}

const char *no_error(cudnnStatus_t)
{
    return "an emulated cuDNN has no engine";
}

void no_last_error(char *text, size_t size)
{
    if (size > 0) {
        text[0] = '\0';
    }
}

cudnnStatus_t dnn_create(cudnnHandle_t *handle)
{
    *handle = (cudnnHandle_t)malloc(1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t dnn_destroy(cudnnHandle_t handle)
{
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t dnn_set_stream(cudnnHandle_t, cudaStream_t)
{
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t dnn_lacks(cudnnBackendDescriptorType_t, cudnnBackendDescriptor_t *)
{
    return CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t dnn_forget(cudnnBackendDescriptor_t)
{
    return CUDNN_STATUS_SUCCESS;
}
} // namespace

extern "C" {

static struct libraries all;

const struct libraries *libraries_found(void)
{
    return &all;
}

const struct libraries *libraries_open(struct error *)
{
    struct libraries &l = all;
    l.cudnn.cudnnGetErrorString = no_error;
    l.cudnn.cudnnGetLastErrorString = no_last_error;
    l.cudnn.cudnnCreate = dnn_create;
    l.cudnn.cudnnDestroy = dnn_destroy;
    l.cudnn.cudnnSetStream = dnn_set_stream;
    l.cudnn.cudnnBackendCreateDescriptor = dnn_lacks;
    l.cudnn.cudnnBackendDestroyDescriptor = dnn_forget;
    l.cublaslt.cublasLtCreate = blas_create;
    l.cublaslt.cublasLtDestroy = blas_destroy;
    l.cublaslt.cublasLtMatmul = matmul;
    l.cublaslt.cublasLtMatmulDescCreate = desc_create;
    l.cublaslt.cublasLtMatmulDescDestroy = desc_destroy;
    l.cublaslt.cublasLtMatmulDescSetAttribute = desc_set;
    l.cublaslt.cublasLtMatrixLayoutCreate = layout_create;
    l.cublaslt.cublasLtMatrixLayoutDestroy = layout_destroy;
    l.cublaslt.cublasLtMatrixLayoutSetAttribute = layout_set;
    l.cublaslt.cublasLtMatmulPreferenceCreate = preference_create;
    l.cublaslt.cublasLtMatmulPreferenceDestroy = preference_destroy;
    l.cublaslt.cublasLtMatmulPreferenceSetAttribute = preference_set;
    l.cublaslt.cublasLtMatmulAlgoCheck = check;
    l.cublaslt.cublasLtMatmulAlgoGetHeuristic = heuristic;
    return &l;
}

/* In place of those that ask the driver (mk/emulator.mk: --wrap). */
bool __wrap_cuda_probe(struct error *)
{
    return true;
}

bool __wrap_cuda_probe_runtime(struct error *)
{
    return true;
}
}
