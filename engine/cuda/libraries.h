/* cuBLASLt and cuDNN, opened at run time and called through tables.
 *
 * Where they are looked for, in this order: the dynamic linker's own search, LD_LIBRARY_PATH,
 * CUDA_HOME and CUDA_PATH, /usr/local/cuda, and NVIDIA's Python wheels (site-packages/nvidia/..)
 * of VIRTUAL_ENV, CONDA_PREFIX, the python3 on PATH, and ~/.local. Libraries are opened by full path
 * and globally, since cuDNN opens cuBLASLt and NVRTC by their bare names.
 */
#ifndef LAYERTOP_ENGINE_CUDA_LIBRARIES_H
#define LAYERTOP_ENGINE_CUDA_LIBRARIES_H

#include "engine/error.h"
#include <cublasLt.h>
#include <cudnn.h>

#define CUDNN_FUNCTIONS(X)                                                                         \
    X(cudnnGetVersion)                                                                             \
    X(cudnnGetErrorString)                                                                         \
    X(cudnnGetLastErrorString)                                                                     \
    X(cudnnCreate)                                                                                 \
    X(cudnnDestroy)                                                                                \
    X(cudnnSetStream)                                                                              \
    X(cudnnBackendCreateDescriptor)                                                                \
    X(cudnnBackendDestroyDescriptor)                                                               \
    X(cudnnBackendSetAttribute)                                                                    \
    X(cudnnBackendGetAttribute)                                                                    \
    X(cudnnBackendFinalize)                                                                        \
    X(cudnnBackendExecute)

#define CUBLASLT_FUNCTIONS(X)                                                                      \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatrixLayoutSetAttribute)                                                            \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatmulAlgoCheck)                                                                     \
    X(cublasLtMatmulAlgoGetHeuristic)

#define LIBRARY_MEMBER(name) __typeof__(&name) name;

struct libraries {
    struct {
        CUDNN_FUNCTIONS(LIBRARY_MEMBER)
    } cudnn;
    struct {
        CUBLASLT_FUNCTIONS(LIBRARY_MEMBER)
    } cublaslt;
    size_t cudnn_version;    /* 91900 */
    size_t cublaslt_version; /* 130100 */
    char cudnn_path[512];    /* as loaded */
    char cublaslt_path[512];
};

/* The libraries, opened on the first call and kept for the process's life; NULL with ERROR_GPU
 * that says which is missing and which paths were tried. Needs no driver. Engine thread. */
const struct libraries *libraries_open(struct error *error);

/* What libraries_open() has found, also where one is missing: its path is then "". */
const struct libraries *libraries_found(void);

#endif
