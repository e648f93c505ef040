/* Products by cuBLASLt: problems, their algorithms, and what a device has found.
 *
 * cuBLASLt counts columns first. A row-major y (rows, K) = x (rows, C) * W (C, K) is, read so,
 * y' (K, rows) = W' (K, C) * x' (C, rows): pass W first and x second, nothing is transposed, and
 * the bias epilogue (one value per row of y') is one value per output unit.
 */
#ifndef LAYERTOP_ENGINE_CUDA_MATMUL_H
#define LAYERTOP_ENGINE_CUDA_MATMUL_H

#include "engine/cuda/libraries.h"
#include "engine/tensor.h"

struct device;

/* Zero all of it before filling: problems are compared as bytes. */
struct matmul_problem {
    int64_t rows, inner, units, batch;
    /* of x, W, y and bias: DTYPE_F32, DTYPE_F16, DTYPE_BF16, with sums in float32; DTYPE_I8: x and W
     * are bytes, W (K, C), and y and the sums int32, with neither bias nor epilogue */
    enum dtype dtype;
    cublasLtEpilogue_t epilogue;
    bool bias, sum; /* sum: y = epilogue(x W + z) */
    bool tf32;      /* float32: tensor cores may be used */
    bool measured;  /* keeps apart what `autotune` may replace */
};

#define MATMUL_ALGORITHMS 8

/* A problem on a device. Entries live as long as the device. */
struct matmul_entry {
    struct matmul_problem problem;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    bool usable; /* algorithm is filled */
    cublasLtMatmulAlgo_t algorithm;
    uint64_t workspace_bytes;
    bool tuned; /* measured, now or by an earlier run */
    int64_t time_ns;
    cublasLtMatmulHeuristicResult_t found[MATMUL_ALGORITHMS]; /* by cuBLASLt's own judgement */
    int found_count;
    struct matmul_entry *next;
};

/* The device's entry for a problem, made once; NULL with *error. `known` (may be NULL): an algorithm
 * that was measured earlier, taken if cuBLASLt accepts it. */
struct matmul_entry *matmul_entry_find(struct device *device, const struct matmul_problem *problem,
                                       const cublasLtMatmulAlgo_t *known, struct error *error);
void matmul_entries_free(struct device *device);

#endif
