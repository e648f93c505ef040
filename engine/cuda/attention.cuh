/* Attention, the device's part that both kernels share: which pairs meet, and their scores. */
#ifndef LAYERTOP_ENGINE_CUDA_ATTENTION_CUH
#define LAYERTOP_ENGINE_CUDA_ATTENTION_CUH

#include "engine/cuda/attention.h"
#include "engine/cuda/element.cuh"
#include <math_constants.h>

/* The score of a pair that may not meet; finite, so that a query without any key has equal ones. */
#define MASKED (-1e30f)

template <typename T>
__device__ inline float extra_at(const struct attention_extra &extra, int64_t n, int64_t h,
                                 int64_t t, int64_t s)
{
    const int64_t *step = extra.strides;
    return to_float(((const T *)extra.data)[n * step[0] + h * step[1] + t * step[2] + s * step[3]]);
}

/* A score as it goes into the softmax, from q.k. Keys behind the last weigh nothing at all. Out of
 * line: a thread has up to 32 of them, and most tiles are plain. */
template <typename T>
static __device__ __noinline__ float finish_score(const struct kernel_attention &a, float score,
                                                  int64_t n, int64_t h, int64_t t, int64_t s)
{
    if (s >= a.keys || t >= a.queries) {
        return -CUDART_INF_F;
    }
    int64_t apart = t > s ? t - s : s - t;
    bool meet = !(a.causal && s > t) && !(a.window > 0 && apart >= a.window);
    score *= a.scale;
    if (a.soft_cap > 0.0f) {
        score = a.soft_cap * tanhf(score / a.soft_cap);
    }
    if (a.bias.data != NULL) {
        score += extra_at<T>(a.bias, n, h, t, s);
    }
    if (meet && a.mask.data != NULL) {
        meet = extra_at<T>(a.mask, n, h, t, s) != 0.0f;
    }
    return meet ? score : MASKED;
}

/* The keys first..end that some of the queries t .. t + count may look at. */
__device__ inline void key_range(const struct kernel_attention &a, int64_t t, int64_t count,
                                 int64_t *first, int64_t *end)
{
    *first = 0;
    *end = a.keys;
    if (!a.whole_rows) {
        return;
    }
    if (a.window > 0) {
        *first = t - a.window + 1 > 0 ? t - a.window + 1 : 0;
        *end = t + count - 1 + a.window < *end ? t + count - 1 + a.window : *end;
    }
    if (a.causal && t + count < *end) {
        *end = t + count;
    }
}

/* Do all of `rows` queries from t on meet all of `keys` keys from s on, with nothing but the scale? */
__device__ inline bool is_plain_tile(const struct kernel_attention &a, int64_t t, int64_t rows,
                                     int64_t s, int64_t keys)
{
    return a.mask.data == NULL && a.bias.data == NULL && a.soft_cap <= 0.0f && a.window <= 0 &&
           t + rows <= a.queries && s + keys <= a.keys && (!a.causal || s + keys - 1 <= t);
}

#endif
