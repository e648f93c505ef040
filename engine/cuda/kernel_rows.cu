#include "engine/cuda/chain.cuh"
#include <math_constants.h>
#include <type_traits>

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

/* Softmax over rows of n that lie side by side. LANES threads a row: a warp for short rows (8 rows a
 * block), else a block; each takes VEC neighbours at a time. Grid: rows / 8 or rows. Three passes,
 * the last two from L1 or L2; bound by memory. */
template <typename T, int LANES, int VEC>
__global__ void softmax_kernel(bool log, int64_t rows, int64_t n, const T *x, T *y)
{
    __shared__ float shared[8];
    int64_t row = (int64_t)blockIdx.x * (KERNEL_THREADS / LANES) + threadIdx.x / LANES;
    int64_t begin = threadIdx.x % LANES * VEC;
    if (row >= rows) {
        return; /* a whole warp, or a whole block, at a time */
    }
    const T *from = x + row * n;
    T *to = y + row * n;
    float top = -CUDART_INF_F, sum = 0.0f, value[VEC];
    for (int64_t i = begin; i < n; i += LANES * VEC) {
        load<VEC>(from + i, value);
        for (int v = 0; v < VEC; v++) {
            top = fmaxf(top, value[v]);
        }
    }
    top = row_reduce<LANES, true>(top, shared);
    for (int64_t i = begin; i < n; i += LANES * VEC) {
        load<VEC>(from + i, value);
        for (int v = 0; v < VEC; v++) {
            sum += expf(value[v] - top);
        }
    }
    sum = row_reduce<LANES, false>(sum, shared);
    float scale = 1.0f / sum, shift = top + logf(sum);
    for (int64_t i = begin; i < n; i += LANES * VEC) {
        load<VEC>(from + i, value);
        for (int v = 0; v < VEC; v++) {
            value[v] = log ? value[v] - shift : expf(value[v] - top) * scale;
        }
        store<VEC>(to + i, value);
    }
}

/* Softmax over the middle axis of (outer, n, inner): one thread per column, neighbours side by
 * side. Grid: outer * inner / 256. Bound by memory; poor when there are few columns. */
template <typename T>
__global__ void softmax_columns_kernel(bool log, int64_t columns, int64_t n, int64_t inner,
                                       const T *x, T *y)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= columns) {
        return;
    }
    int64_t base = thread / inner * n * inner + thread % inner;
    float top = -CUDART_INF_F, sum = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        top = fmaxf(top, to_float(x[base + i * inner]));
    }
    for (int64_t i = 0; i < n; i++) {
        sum += expf(to_float(x[base + i * inner]) - top);
    }
    float scale = 1.0f / sum, shift = top + logf(sum);
    for (int64_t i = 0; i < n; i++) {
        float value = to_float(x[base + i * inner]);
        y[base + i * inner] = from_float<T>(log ? value - shift : expf(value - top) * scale);
    }
}

/* Rows of n by a warp or a block each, VEC = 16 bytes at a time where rows allow it:
 * launch(threads a row, VEC, blocks). */
template <typename T, typename Launch>
static void launch_rows(int64_t rows, int64_t n, Launch launch)
{
    constexpr int VEC = 16 / sizeof(T);
    std::integral_constant<int, 32> warp;
    std::integral_constant<int, KERNEL_THREADS> block;
    std::integral_constant<int, 1> one;
    std::integral_constant<int, VEC> many;
    bool vector = n % VEC == 0;
    if (n <= 1024) {
        unsigned blocks = blocks_for(rows, KERNEL_THREADS / 32);
        vector ? launch(warp, many, blocks) : launch(warp, one, blocks);
    } else {
        vector ? launch(block, many, (unsigned)rows) : launch(block, one, (unsigned)rows);
    }
}

extern "C" int kernel_softmax(enum dtype dtype, bool log, int64_t outer, int64_t n, int64_t inner,
                              const void *x, void *y, cudaStream_t stream)
{
    if (outer * n * inner == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (inner > 1) {
            unsigned blocks = blocks_for(outer * inner, KERNEL_THREADS);
            softmax_columns_kernel<T><<<blocks, KERNEL_THREADS, 0, stream>>>(
                log, outer * inner, n, inner, (const T *)x, (T *)y);
            return;
        }
        launch_rows<T>(outer, n, [&](auto lanes, auto vec, unsigned blocks) {
            softmax_kernel<T, decltype(lanes)::value, decltype(vec)::value>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(log, outer, n, (const T *)x, (T *)y);
        });
    });
}

/* Layer normalisation of rows of n; LANES threads a row as above. Mean, then the sum of squared
 * distances (two passes: no cancellation), then the result; bound by memory. */
template <typename T, int LANES, int VEC>
__global__ void normalise_kernel(bool rms, float epsilon, int64_t rows, int64_t n, const T *x,
                                 const float *gamma, const float *beta, T *y)
{
    __shared__ float shared[8];
    int64_t row = (int64_t)blockIdx.x * (KERNEL_THREADS / LANES) + threadIdx.x / LANES;
    int64_t begin = threadIdx.x % LANES * VEC;
    if (row >= rows) {
        return;
    }
    const T *from = x + row * n;
    T *to = y + row * n;
    float mean = 0.0f, square = 0.0f, value[VEC], factor[VEC], shift[VEC];
    if (!rms) {
        for (int64_t i = begin; i < n; i += LANES * VEC) {
            load<VEC>(from + i, value);
            for (int v = 0; v < VEC; v++) {
                mean += value[v];
            }
        }
        mean = row_reduce<LANES, false>(mean, shared) / (float)n;
    }
    for (int64_t i = begin; i < n; i += LANES * VEC) {
        load<VEC>(from + i, value);
        for (int v = 0; v < VEC; v++) {
            square += (value[v] - mean) * (value[v] - mean);
        }
    }
    square = row_reduce<LANES, false>(square, shared) / (float)n;
    float scale = 1.0f / sqrtf(square + epsilon);
    for (int v = 0; v < VEC; v++) {
        factor[v] = 1.0f;
        shift[v] = 0.0f;
    }
    for (int64_t i = begin; i < n; i += LANES * VEC) {
        load<VEC>(from + i, value);
        if (gamma != NULL) {
            load<VEC>(gamma + i, factor);
        }
        if (beta != NULL) {
            load<VEC>(beta + i, shift);
        }
        for (int v = 0; v < VEC; v++) {
            value[v] = (value[v] - mean) * scale * factor[v] + shift[v];
        }
        store<VEC>(to + i, value);
    }
}

extern "C" int kernel_normalise(enum dtype dtype, bool rms, float epsilon, int64_t rows, int64_t n,
                                const void *x, const float *gamma, const float *beta, void *y,
                                cudaStream_t stream)
{
    if (rows * n == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        launch_rows<T>(rows, n, [&](auto lanes, auto vec, unsigned blocks) {
            normalise_kernel<T, decltype(lanes)::value, decltype(vec)::value>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(rms, epsilon, rows, n, (const T *)x, gamma,
                                                        beta, (T *)y);
        });
    });
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
template <typename T>
__global__ void reduce_rows_kernel(const __grid_constant__ struct kernel_reduce r, int64_t outputs,
                                   int64_t count, const T *x, T *y)
{
    int64_t output = (int64_t)blockIdx.x * (KERNEL_THREADS / 32) + threadIdx.x / 32;
    if (output >= outputs) {
        return;
    }
    const T *from = x + offset_of(output, r.kept_rank, r.kept, r.kept_stride);
    float value = reduce_identity(r.function);
    for (int64_t i = threadIdx.x % 32; i < count; i += 32) {
        value =
            reduce_pair(r.function, value,
                        to_float(from[offset_of(i, r.reduced_rank, r.reduced, r.reduced_stride)]));
    }
    for (int step = 16; step > 0; step /= 2) {
        value = reduce_pair(r.function, value, __shfl_xor_sync(0xffffffffu, value, step));
    }
    if (threadIdx.x % 32 == 0) {
        y[output] = from_float<T>(r.function == REDUCE_MEAN ? value / (float)count : value);
    }
}

/* Reduction where the innermost axis is kept (global pooling): a block takes 32 * VEC outputs side
 * by side, its 8 rows share the reduced cells. Grid: outputs / 32 / VEC. Bound by memory. */
template <typename T, int VEC>
__global__ void reduce_columns_kernel(const __grid_constant__ struct kernel_reduce r,
                                      int64_t outputs, int64_t count, const T *x, T *y)
{
    __shared__ float partial[8][VEC][33]; /* 33: no bank conflicts */
    int lane = threadIdx.x, part = threadIdx.y;
    int64_t output = ((int64_t)blockIdx.x * 32 + lane) * VEC;
    float value[VEC], cell[VEC];
    for (int v = 0; v < VEC; v++) {
        value[v] = reduce_identity(r.function);
    }
    if (output < outputs) {
        const T *from = x + offset_of(output, r.kept_rank, r.kept, r.kept_stride);
        for (int64_t i = part; i < count; i += 8) {
            load<VEC>(from + offset_of(i, r.reduced_rank, r.reduced, r.reduced_stride), cell);
            for (int v = 0; v < VEC; v++) {
                value[v] = reduce_pair(r.function, value[v], cell[v]);
            }
        }
    }
    for (int v = 0; v < VEC; v++) {
        partial[part][v][lane] = value[v];
    }
    __syncthreads();
    if (part == 0 && output < outputs) {
        for (int v = 0; v < VEC; v++) {
            for (int i = 1; i < 8; i++) {
                value[v] = reduce_pair(r.function, value[v], partial[i][v][lane]);
            }
            value[v] = r.function == REDUCE_MEAN ? value[v] / (float)count : value[v];
        }
        store<VEC>(y + output, value);
    }
}

/* May two neighbouring outputs be read and written as one? */
static bool in_pairs(const struct kernel_reduce *r)
{
    bool even = r->kept[r->kept_rank - 1] % 2 == 0;
    for (int i = 0; i + 1 < r->kept_rank; i++) {
        even = even && r->kept_stride[i] % 2 == 0;
    }
    for (int i = 0; i < r->reduced_rank; i++) {
        even = even && r->reduced_stride[i] % 2 == 0;
    }
    return even;
}

template <typename T>
static void reduce(const struct kernel_reduce *r, int64_t outputs, int64_t count, const T *x, T *y,
                   cudaStream_t stream)
{
    bool columns =
        r->kept_rank > 0 && r->kept_stride[r->kept_rank - 1] == 1 && r->kept[r->kept_rank - 1] > 1;
    if (!columns) {
        reduce_rows_kernel<T>
            <<<blocks_for(outputs, KERNEL_THREADS / 32), KERNEL_THREADS, 0, stream>>>(*r, outputs,
                                                                                      count, x, y);
    } else if (sizeof(T) == 2 && in_pairs(r)) {
        reduce_columns_kernel<T, 2>
            <<<blocks_for(outputs, 64), dim3(32, 8), 0, stream>>>(*r, outputs, count, x, y);
    } else {
        reduce_columns_kernel<T, 1>
            <<<blocks_for(outputs, 32), dim3(32, 8), 0, stream>>>(*r, outputs, count, x, y);
    }
}

extern "C" int kernel_reduce(enum dtype dtype, const struct kernel_reduce *r, const void *x,
                             void *y, cudaStream_t stream)
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
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        reduce<T>(r, outputs, count, (const T *)x, (T *)y, stream);
    });
}
