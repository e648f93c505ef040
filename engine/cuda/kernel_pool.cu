#include "engine/cuda/chain.cuh"
#include <math_constants.h>

/* Pooling, x (N, D, H, W, C) -> y (N, D', H', W', C). One thread makes VEC neighbouring channels of
 * one cell; the average divides by the number of real cells. Grid: elements / VEC / 256. Bound by
 * memory; overlapping windows come from L1 and L2. */
template <typename T, int VEC, bool AVERAGE>
__global__ void pool_kernel(const __grid_constant__ struct kernel_conv pool,
                            const T *__restrict__ x, T *__restrict__ y, int64_t elements)
{
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (first >= elements) {
        return;
    }
    int64_t channel = first % pool.in_channels, rest = first / pool.in_channels;
    int64_t begin[3], end[3];
    for (int axis = 2; axis >= 0; axis--) {
        int64_t start = rest % pool.out[axis] * pool.stride[axis] - pool.pad[axis];
        int64_t stop = start + pool.kernel[axis];
        rest /= pool.out[axis];
        begin[axis] = start > 0 ? start : 0;
        end[axis] = stop < pool.in[axis] ? stop : pool.in[axis];
    }
    float value[VEC];
    for (int v = 0; v < VEC; v++) {
        value[v] = AVERAGE ? 0.0f : -CUDART_INF_F;
    }
    for (int64_t d = begin[0]; d < end[0]; d++) {
        for (int64_t h = begin[1]; h < end[1]; h++) {
            const T *line =
                x + (((rest * pool.in[0] + d) * pool.in[1] + h) * pool.in[2]) * pool.in_channels +
                channel;
            for (int64_t w = begin[2]; w < end[2]; w++) {
                float cell[VEC];
                load<VEC>(line + w * pool.in_channels, cell);
                for (int v = 0; v < VEC; v++) {
                    /* a NaN wins, as in Keras */
                    value[v] = AVERAGE                                    ? value[v] + cell[v]
                               : cell[v] > value[v] || cell[v] != cell[v] ? cell[v]
                                                                          : value[v];
                }
            }
        }
    }
    if (AVERAGE) {
        int64_t cells = (end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]);
        for (int v = 0; v < VEC; v++) {
            value[v] /= (float)cells;
        }
    }
    store<VEC>(y + first, value);
}

template <typename T, int VEC>
static void launch_pool(const struct kernel_conv *pool, bool average, int64_t elements, const T *x,
                        T *y, cudaStream_t stream)
{
    unsigned blocks = blocks_for(elements / VEC, KERNEL_THREADS);
    if (average) {
        pool_kernel<T, VEC, true><<<blocks, KERNEL_THREADS, 0, stream>>>(*pool, x, y, elements);
    } else {
        pool_kernel<T, VEC, false><<<blocks, KERNEL_THREADS, 0, stream>>>(*pool, x, y, elements);
    }
}

extern "C" int kernel_pool(enum dtype dtype, const struct kernel_conv *pool, bool average,
                           const void *x, void *y, cudaStream_t stream)
{
    int64_t elements = pool->batch * pool->out[0] * pool->out[1] * pool->out[2] * pool->in_channels;
    if (elements == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int VEC = 16 / sizeof(T);
        if (pool->in_channels % VEC == 0) {
            launch_pool<T, VEC>(pool, average, elements, (const T *)x, (T *)y, stream);
        } else {
            launch_pool<T, 1>(pool, average, elements, (const T *)x, (T *)y, stream);
        }
    });
}

struct resize_shape {
    int64_t height, width, channels, out_height, out_width;
};

/* Resize, x (N, H, W, C) -> y (N, H', W', C), half-pixel centres, edges repeated. One thread per
 * output element. Grid: elements / 256. Bound by memory. */
template <typename T, bool BILINEAR>
__global__ void resize_kernel(const __grid_constant__ struct resize_shape s,
                              const T *__restrict__ x, T *__restrict__ y, int64_t elements)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= elements) {
        return;
    }
    int64_t channel = thread % s.channels, rest = thread / s.channels;
    int64_t column = rest % s.out_width;
    rest /= s.out_width;
    int64_t row = rest % s.out_height, image = rest / s.out_height;
    const T *from = x + image * s.height * s.width * s.channels + channel;
    /* in double: (i + 0.5) * in / out must not fall on the wrong side of a whole number */
    double v = ((double)row + 0.5) * (double)s.height / (double)s.out_height;
    double u = ((double)column + 0.5) * (double)s.width / (double)s.out_width;
    if (!BILINEAR) {
        int64_t h = (int64_t)v < s.height ? (int64_t)v : s.height - 1;
        int64_t w = (int64_t)u < s.width ? (int64_t)u : s.width - 1;
        y[thread] = from[(h * s.width + w) * s.channels];
        return;
    }
    v -= 0.5;
    u -= 0.5;
    double v_floor = floor(v), u_floor = floor(u);
    float down = (float)(v - v_floor), right = (float)(u - u_floor);
    int64_t h0 = (int64_t)v_floor, w0 = (int64_t)u_floor, h1 = h0 + 1, w1 = w0 + 1;
    h0 = h0 < 0 ? 0 : h0;
    w0 = w0 < 0 ? 0 : w0;
    h1 = h1 < s.height ? h1 : s.height - 1;
    w1 = w1 < s.width ? w1 : s.width - 1;
    float a = to_float(from[(h0 * s.width + w0) * s.channels]);
    float b = to_float(from[(h0 * s.width + w1) * s.channels]);
    float c = to_float(from[(h1 * s.width + w0) * s.channels]);
    float d = to_float(from[(h1 * s.width + w1) * s.channels]);
    float top = a + (b - a) * right, bottom = c + (d - c) * right;
    y[thread] = from_float<T>(top + (bottom - top) * down);
}

extern "C" int kernel_resize(enum dtype dtype, bool bilinear, int64_t batch, int64_t height,
                             int64_t width, int64_t channels, int64_t out_height, int64_t out_width,
                             const void *x, void *y, cudaStream_t stream)
{
    struct resize_shape shape = {height, width, channels, out_height, out_width};
    int64_t elements = batch * out_height * out_width * channels;
    unsigned blocks = blocks_for(elements, KERNEL_THREADS);
    if (elements == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (bilinear) {
            resize_kernel<T, true>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(shape, (const T *)x, (T *)y, elements);
        } else {
            resize_kernel<T, false>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(shape, (const T *)x, (T *)y, elements);
        }
    });
}
