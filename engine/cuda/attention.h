/* The kernels of scaled dot product attention; conventions as in kernels.h. */
#ifndef LAYERTOP_ENGINE_CUDA_ATTENTION_H
#define LAYERTOP_ENGINE_CUDA_ATTENTION_H

#include "engine/tensor.h"
#include <driver_types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A mask or bias: where it lies, and how far each index of (n, h, t, s) moves in it. */
struct attention_extra {
    const void *data; /* NULL: there is none */
    int64_t strides[4];
};

/* See op_attention: queries (N, T, H, D), keys (N, S, G, D), values (N, S, G, V) -> (N, T, H, V). */
struct kernel_attention {
    int64_t samples, queries, keys, heads, groups, depth, width; /* N, T, S, H, G, D, V */
    float scale, soft_cap;
    int64_t window;
    bool causal;
    bool whole_rows; /* every query has a key of its own: others need not be looked at */
    const void *q, *k, *v;
    void *y;
    struct attention_extra mask, bias;
};

/* The second is what the first does with DTYPE_F16 and DTYPE_BF16, on tensor cores. */
int kernel_attention(enum dtype dtype, const struct kernel_attention *attention,
                     cudaStream_t stream);
int kernel_attention_half(enum dtype dtype, const struct kernel_attention *attention,
                          cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
