#include "engine/cuda/chain.cuh"
#include <math_constants.h>

/* Sum or maximum over the T threads (32 or 256) of a row; every thread gets the result. */
template <int T, bool MAXIMUM> __device__ inline float row_reduce(float value, float *shared)
{
    for (int step = 16; step > 0; step /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, value, step);
        value = MAXIMUM ? fmaxf(value, other) : value + other;
    }
    if (T > 32) {
        __syncthreads(); /* the previous use of `shared` is over */
        if (threadIdx.x % 32 == 0) {
            shared[threadIdx.x / 32] = value;
        }
        __syncthreads();
        value = shared[0];
        for (int warp = 1; warp < T / 32; warp++) {
            value = MAXIMUM ? fmaxf(value, shared[warp]) : value + shared[warp];
        }
    }
    return value;
}

/* Softmax over rows of n that lie side by side. T threads a row: a warp for short rows (8 rows a
 * block), else a block. Grid: rows / 8 or rows. Three passes, the last two from L1 or L2; bound by
 * memory. */
template <int T>
__global__ void softmax_kernel(bool log, int64_t rows, int64_t n, const float *x, float *y)
{
    __shared__ float shared[8];
    int64_t row = (int64_t)blockIdx.x * (KERNEL_THREADS / T) + threadIdx.x / T;
    int lane = threadIdx.x % T;
    if (row >= rows) {
        return; /* a whole warp, or a whole block, at a time */
    }
    const float *from = x + row * n;
    float *to = y + row * n;
    float top = -CUDART_INF_F, sum = 0.0f;
    for (int64_t i = lane; i < n; i += T) {
        top = fmaxf(top, from[i]);
    }
    top = row_reduce<T, true>(top, shared);
    for (int64_t i = lane; i < n; i += T) {
        sum += expf(from[i] - top);
    }
    sum = row_reduce<T, false>(sum, shared);
    float scale = 1.0f / sum, shift = top + logf(sum);
    for (int64_t i = lane; i < n; i += T) {
        to[i] = log ? from[i] - shift : expf(from[i] - top) * scale;
    }
}

/* Softmax over the middle axis of (outer, n, inner): one thread per column, neighbours side by
 * side. Grid: outer * inner / 256. Bound by memory; poor when there are few columns. */
__global__ void softmax_columns_kernel(bool log, int64_t columns, int64_t n, int64_t inner,
                                       const float *x, float *y)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= columns) {
        return;
    }
    int64_t base = thread / inner * n * inner + thread % inner;
    float top = -CUDART_INF_F, sum = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        top = fmaxf(top, x[base + i * inner]);
    }
    for (int64_t i = 0; i < n; i++) {
        sum += expf(x[base + i * inner] - top);
    }
    float scale = 1.0f / sum, shift = top + logf(sum);
    for (int64_t i = 0; i < n; i++) {
        float value = x[base + i * inner];
        y[base + i * inner] = log ? value - shift : expf(value - top) * scale;
    }
}

extern "C" int kernel_softmax(bool log, int64_t outer, int64_t n, int64_t inner, const float *x,
                              float *y, cudaStream_t stream)
{
    if (outer * n * inner == 0) {
        return cudaSuccess;
    }
    if (inner > 1) {
        softmax_columns_kernel<<<blocks_for(outer * inner, KERNEL_THREADS), KERNEL_THREADS, 0,
                                 stream>>>(log, outer * inner, n, inner, x, y);
    } else if (n <= 1024) {
        softmax_kernel<32><<<blocks_for(outer, KERNEL_THREADS / 32), KERNEL_THREADS, 0, stream>>>(
            log, outer, n, x, y);
    } else {
        softmax_kernel<256><<<(unsigned)outer, KERNEL_THREADS, 0, stream>>>(log, outer, n, x, y);
    }
    return cudaGetLastError();
}

/* Layer normalisation of rows of n; T threads a row as above. Mean, then the sum of squared
 * distances (two passes: no cancellation), then the result; bound by memory. */
template <int T>
__global__ void normalise_kernel(bool rms, float epsilon, int64_t rows, int64_t n, const float *x,
                                 const float *gamma, const float *beta, float *y)
{
    __shared__ float shared[8];
    int64_t row = (int64_t)blockIdx.x * (KERNEL_THREADS / T) + threadIdx.x / T;
    int lane = threadIdx.x % T;
    if (row >= rows) {
        return;
    }
    const float *from = x + row * n;
    float *to = y + row * n;
    float mean = 0.0f, square = 0.0f;
    if (!rms) {
        for (int64_t i = lane; i < n; i += T) {
            mean += from[i];
        }
        mean = row_reduce<T, false>(mean, shared) / (float)n;
    }
    for (int64_t i = lane; i < n; i += T) {
        float distance = from[i] - mean;
        square += distance * distance;
    }
    square = row_reduce<T, false>(square, shared) / (float)n;
    float scale = 1.0f / sqrtf(square + epsilon);
    for (int64_t i = lane; i < n; i += T) {
        float value = (from[i] - mean) * scale;
        value = gamma != NULL ? value * gamma[i] : value;
        to[i] = beta != NULL ? value + beta[i] : value;
    }
}

extern "C" int kernel_normalise(bool rms, float epsilon, int64_t rows, int64_t n, const float *x,
                                const float *gamma, const float *beta, float *y,
                                cudaStream_t stream)
{
    if (rows * n == 0) {
        return cudaSuccess;
    }
    if (n <= 1024) {
        normalise_kernel<32><<<blocks_for(rows, KERNEL_THREADS / 32), KERNEL_THREADS, 0, stream>>>(
            rms, epsilon, rows, n, x, gamma, beta, y);
    } else {
        normalise_kernel<256><<<(unsigned)rows, KERNEL_THREADS, 0, stream>>>(rms, epsilon, rows, n,
                                                                             x, gamma, beta, y);
    }
    return cudaGetLastError();
}

__device__ inline float reduce_pair(int function, float a, float b)
{
    switch (function) {
    case REDUCE_MAX:
        return a > b || a != a ? a : b;
    case REDUCE_MIN:
        return a < b || a != a ? a : b;
    default:
        return a + b;
    }
}

__device__ inline float reduce_identity(int function)
{
    return function == REDUCE_MAX ? -CUDART_INF_F : function == REDUCE_MIN ? CUDART_INF_F : 0.0f;
}

__device__ inline int64_t offset_of(int64_t index, int rank, const int64_t *extents,
                                    const int64_t *strides)
{
    int64_t offset = 0;
    for (int axis = rank - 1; axis > 0; axis--) {
        offset += index % extents[axis] * strides[axis];
        index /= extents[axis];
    }
    return rank > 0 ? offset + index * strides[0] : 0;
}

/* Reduction where the innermost axis is reduced: a warp per output, its lanes side by side.
 * Grid: outputs / 8. Bound by memory. */
__global__ void reduce_rows_kernel(const __grid_constant__ struct kernel_reduce r, int64_t outputs,
                                   int64_t count, const float *x, float *y)
{
    int64_t output = (int64_t)blockIdx.x * (KERNEL_THREADS / 32) + threadIdx.x / 32;
    if (output >= outputs) {
        return;
    }
    const float *from = x + offset_of(output, r.kept_rank, r.kept, r.kept_stride);
    float value = reduce_identity(r.function);
    for (int64_t i = threadIdx.x % 32; i < count; i += 32) {
        value = reduce_pair(r.function, value,
                            from[offset_of(i, r.reduced_rank, r.reduced, r.reduced_stride)]);
    }
    for (int step = 16; step > 0; step /= 2) {
        value = reduce_pair(r.function, value, __shfl_xor_sync(0xffffffffu, value, step));
    }
    if (threadIdx.x % 32 == 0) {
        y[output] = r.function == REDUCE_MEAN ? value / (float)count : value;
    }
}

/* Reduction where the innermost axis is kept (global pooling): a block takes 32 outputs side by
 * side, its 8 rows share the reduced cells. Grid: outputs / 32. Bound by memory. */
__global__ void reduce_columns_kernel(const __grid_constant__ struct kernel_reduce r,
                                      int64_t outputs, int64_t count, const float *x, float *y)
{
    __shared__ float partial[8][33]; /* 33: no bank conflicts */
    int lane = threadIdx.x, part = threadIdx.y;
    int64_t output = (int64_t)blockIdx.x * 32 + lane;
    float value = reduce_identity(r.function);
    if (output < outputs) {
        const float *from = x + offset_of(output, r.kept_rank, r.kept, r.kept_stride);
        for (int64_t i = part; i < count; i += 8) {
            value = reduce_pair(r.function, value,
                                from[offset_of(i, r.reduced_rank, r.reduced, r.reduced_stride)]);
        }
    }
    partial[part][lane] = value;
    __syncthreads();
    if (part == 0 && output < outputs) {
        for (int i = 1; i < 8; i++) {
            value = reduce_pair(r.function, value, partial[i][lane]);
        }
        y[output] = r.function == REDUCE_MEAN ? value / (float)count : value;
    }
}

extern "C" int kernel_reduce(const struct kernel_reduce *r, const float *x, float *y,
                             cudaStream_t stream)
{
    int64_t outputs = 1, count = 1;
    for (int i = 0; i < r->kept_rank; i++) {
        outputs *= r->kept[i];
    }
    for (int i = 0; i < r->reduced_rank; i++) {
        count *= r->reduced[i];
    }
    if (outputs == 0) {
        return cudaSuccess;
    }
    if (r->kept_rank > 0 && r->kept_stride[r->kept_rank - 1] == 1 &&
        r->kept[r->kept_rank - 1] > 1) {
        reduce_columns_kernel<<<blocks_for(outputs, 32), dim3(32, 8), 0, stream>>>(*r, outputs,
                                                                                   count, x, y);
    } else {
        reduce_rows_kernel<<<blocks_for(outputs, KERNEL_THREADS / 32), KERNEL_THREADS, 0, stream>>>(
            *r, outputs, count, x, y);
    }
    return cudaGetLastError();
}
