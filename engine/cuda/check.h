/* CUDA, cuDNN and cuBLASLt results made into errors: every call of the module goes through here.
 *
 *     if (!CUDA_OK(cudaMalloc(&p, n), "weights", error)) return false;
 *
 * The error names the call, the code, its name and its meaning. Out of memory becomes ERROR_MEMORY
 * (and is cleared: it is not sticky); an error that has killed the context becomes ERROR_LOST: the
 * worker ends, because only a new one can use the GPU then.
 */
#ifndef LAYERTOP_ENGINE_CUDA_CHECK_H
#define LAYERTOP_ENGINE_CUDA_CHECK_H

#include "engine/cuda/libraries.h"
#include "engine/error.h"

/* `status` is a cudaError_t or a CUresult: they share their numbers. */
bool cuda_check(int status, const char *call, const char *what, struct error *error);
#define CUDA_OK(call, what, error) cuda_check((int)(call), #call, (what), (error))

bool cudnn_check(const struct libraries *libraries, cudnnStatus_t status, const char *call,
                 const char *what, struct error *error);
#define CUDNN_OK(libraries, call, what, error)                                                     \
    cudnn_check((libraries), (libraries)->cudnn.call, #call, (what), (error))

bool cublaslt_check(cublasStatus_t status, const char *call, const char *what, struct error *error);
#define CUBLASLT_OK(libraries, call, what, error)                                                  \
    cublaslt_check((libraries)->cublaslt.call, #call, (what), (error))

/* Does this error outlive the call, so that the process cannot use the GPU any more? */
bool cuda_sticky(int status);

/* Prove that a driver and a GPU answer, without creating a context. On failure *error holds the one
 * sentence for: no driver, the toolkit's stub, a driver too old, no GPU, GPUs hidden by
 * CUDA_VISIBLE_DEVICES, a driver that is loaded but broken. */
bool cuda_probe(struct error *error);
/* The same through the CUDA runtime, for what only it finds out; after cuda_probe(). */
bool cuda_probe_runtime(struct error *error);

#endif
