#include "engine/cuda/matmul.h"
#include "engine/cuda/check.h"
#include "engine/cuda/device.h"
#include <stdlib.h>
#include <string.h>

#define WORKSPACE_BYTES (32ull << 20) /* cuBLASLt's advice for Hopper */

static cudaDataType_t data_type(enum dtype dtype)
{
    return dtype == DTYPE_I8     ? CUDA_R_8I
           : dtype == DTYPE_I32  ? CUDA_R_32I
           : dtype == DTYPE_F16  ? CUDA_R_16F
           : dtype == DTYPE_BF16 ? CUDA_R_16BF
                                 : CUDA_R_32F;
}

/* A column-first matrix, perhaps a batch of them that lie behind one another. */
static bool layout(const struct libraries *l, cublasLtMatrixLayout_t *out, enum dtype dtype,
                   int64_t rows, int64_t columns, int64_t batch, struct error *error)
{
    int32_t count = (int32_t)batch;
    int64_t stride = rows * columns;
    return CUBLASLT_OK(l,
                       cublasLtMatrixLayoutCreate(out, data_type(dtype), (uint64_t)rows,
                                                  (uint64_t)columns, rows),
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

/* The one form that int8 kernels have: both sides read along their rows. */
static bool describe_int8(const struct libraries *l, struct matmul_entry *entry,
                          struct error *error)
{
    const struct matmul_problem *p = &entry->problem;
    const int32_t transposed = CUBLAS_OP_T;

    return CUBLASLT_OK(l, cublasLtMatmulDescCreate(&entry->product, CUBLAS_COMPUTE_32I, CUDA_R_32I),
                       "dense", error) &&
           CUBLASLT_OK(l,
                       cublasLtMatmulDescSetAttribute(entry->product, CUBLASLT_MATMUL_DESC_TRANSA,
                                                      &transposed, sizeof transposed),
                       "dense", error) &&
           layout(l, &entry->a, DTYPE_I8, p->inner, p->units, 1, error) &&
           layout(l, &entry->b, DTYPE_I8, p->inner, p->rows, 1, error) &&
           layout(l, &entry->d, DTYPE_I32, p->units, p->rows, 1, error);
}

static bool describe(const struct libraries *l, struct matmul_entry *entry, struct error *error)
{
    const struct matmul_problem *p = &entry->problem;
    cublasComputeType_t compute =
        p->dtype == DTYPE_F32 && p->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    /* the heuristic reads the alignment from the pointer; the real one comes at run time and is
     * aligned at least as well */
    const void *aligned = (const void *)(uintptr_t)DEVICE_ALIGNMENT;

    if (p->dtype == DTYPE_I8) {
        return describe_int8(l, entry, error);
    }
    return CUBLASLT_OK(l, cublasLtMatmulDescCreate(&entry->product, compute, CUDA_R_32F), "dense",
                       error) &&
           CUBLASLT_OK(l,
                       cublasLtMatmulDescSetAttribute(entry->product, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                      &p->epilogue, sizeof p->epilogue),
                       "dense", error) &&
           (!p->bias || CUBLASLT_OK(l,
                                    cublasLtMatmulDescSetAttribute(
                                        entry->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned,
                                        sizeof aligned),
                                    "dense", error)) &&
           layout(l, &entry->a, p->dtype, p->units, p->inner, p->batch, error) &&
           layout(l, &entry->b, p->dtype, p->inner, p->rows, p->batch, error) &&
           layout(l, &entry->d, p->dtype, p->units, p->rows, p->batch, error);
}

/* Ask the heuristics; the entry is usable if they know an algorithm. */
static bool ask(struct device *device, struct matmul_entry *entry, struct error *error)
{
    const struct libraries *l = device->libraries;
    cublasLtMatmulPreference_t preference;
    uint64_t most = WORKSPACE_BYTES;
    int count = 0;

    if (!CUBLASLT_OK(l, cublasLtMatmulPreferenceCreate(&preference), "dense", error)) {
        return false;
    }
    bool good =
        CUBLASLT_OK(l,
                    cublasLtMatmulPreferenceSetAttribute(
                        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
                    "dense", error);
    if (good) {
        /* "not supported" is an answer, not an error: the entry stays unusable */
        cublasStatus_t status = l->cublaslt.cublasLtMatmulAlgoGetHeuristic(
            device->cublaslt, entry->product, entry->a, entry->b, entry->d, entry->d, preference,
            MATMUL_ALGORITHMS, entry->found, &count);
        good = status == CUBLAS_STATUS_NOT_SUPPORTED ||
               cublaslt_check(status, "cublasLtMatmulAlgoGetHeuristic", "dense", error);
        count = status == CUBLAS_STATUS_SUCCESS ? count : 0;
    }
    l->cublaslt.cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < count; i++) {
        if (entry->found[i].state != CUBLAS_STATUS_SUCCESS) {
            continue;
        }
        entry->found[entry->found_count++] = entry->found[i];
    }
    if (entry->found_count > 0) {
        entry->usable = true;
        entry->algorithm = entry->found[0].algo;
        entry->workspace_bytes = entry->found[0].workspaceSize;
    }
    return good;
}

/* Take an algorithm that was measured earlier, if cuBLASLt still accepts it for this problem. */
static bool take_known(struct device *device, struct matmul_entry *entry,
                       const cublasLtMatmulAlgo_t *known)
{
    cublasLtMatmulHeuristicResult_t result;
    memset(&result, 0, sizeof result);
    if (device->libraries->cublaslt.cublasLtMatmulAlgoCheck(
            device->cublaslt, entry->product, entry->a, entry->b, entry->d, entry->d, known,
            &result) != CUBLAS_STATUS_SUCCESS ||
        result.state != CUBLAS_STATUS_SUCCESS || result.workspaceSize > WORKSPACE_BYTES) {
        return false;
    }
    entry->algorithm = *known;
    entry->workspace_bytes = result.workspaceSize;
    entry->usable = entry->tuned = true;
    return true;
}

static void entry_free(const struct libraries *l, struct matmul_entry *entry)
{
    cublasLtMatrixLayout_t layouts[] = {entry->a, entry->b, entry->d};
    if (entry->product != NULL) {
        l->cublaslt.cublasLtMatmulDescDestroy(entry->product);
    }
    for (size_t i = 0; i < 3; i++) {
        if (layouts[i] != NULL) {
            l->cublaslt.cublasLtMatrixLayoutDestroy(layouts[i]);
        }
    }
    free(entry);
}

struct matmul_entry *matmul_entry_find(struct device *device, const struct matmul_problem *problem,
                                       const cublasLtMatmulAlgo_t *known, struct error *error)
{
    for (struct matmul_entry *entry = device->matmul_entries; entry != NULL; entry = entry->next) {
        if (memcmp(&entry->problem, problem, sizeof *problem) == 0) {
            return entry;
        }
    }
    struct matmul_entry *entry = xcalloc(1, sizeof *entry);
    memcpy(&entry->problem, problem, sizeof *problem);
    if (!describe(device->libraries, entry, error) ||
        (!(known != NULL && take_known(device, entry, known)) && !ask(device, entry, error))) {
        entry_free(device->libraries, entry);
        return NULL;
    }
    entry->next = device->matmul_entries;
    device->matmul_entries = entry;
    return entry;
}

void matmul_entries_free(struct device *device)
{
    while (device->matmul_entries != NULL) {
        struct matmul_entry *entry = device->matmul_entries;
        device->matmul_entries = entry->next;
        entry_free(device->libraries, entry);
    }
}
