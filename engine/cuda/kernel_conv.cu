#include "engine/cuda/chain.cuh"

/* Depthwise convolution of the common kind: two spatial axes, square K x K kernel, stride S,
 * dilation 1, one output per channel, channels a multiple of VEC.
 * x (N, H, W, C), weights (K, K, C) in float32, y (N, H', W', C). One thread makes TILE neighbours
 * along W for VEC channels (16 bytes), so that each x is loaded once per kernel row; neighbouring
 * threads take neighbouring channels. Grid: N * H' * ceil(W'/TILE) * C/VEC / 256. Bound by memory
 * (K = 3) to FMA and L1 (K = 7). */
template <typename T, int VEC, int K, int S, int TILE, typename Index>
__global__ void depthwise_kernel(const __grid_constant__ struct kernel_conv conv,
                                 const T *__restrict__ x, const float *__restrict__ weights, T *y,
                                 const __grid_constant__ struct chain chain)
{
    Index groups = (Index)(conv.in_channels / VEC);
    Index tiles = (Index)((conv.out[2] + TILE - 1) / TILE);
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= (int64_t)groups * tiles * conv.out[1] * conv.batch) {
        return;
    }
    Index rest = (Index)thread;
    Index channel = rest % groups * VEC;
    rest /= groups;
    int first = (int)(rest % tiles) * TILE;
    rest /= tiles;
    int row = (int)(rest % (Index)conv.out[1]);
    Index image = rest / (Index)conv.out[1];
    int height = (int)conv.in[1], width = (int)conv.in[2];
    int64_t channels = conv.in_channels;

    float sum[TILE][VEC] = {};
    for (int ky = 0; ky < K; ky++) {
        int in_row = row * S - (int)conv.pad[1] + ky;
        if (in_row < 0 || in_row >= height) {
            continue;
        }
        const T *line = x + ((int64_t)image * height + in_row) * width * channels + channel;
        float window[(TILE - 1) * S + K][VEC];
#pragma unroll
        for (int j = 0; j < (TILE - 1) * S + K; j++) {
            int column = first * S - (int)conv.pad[2] + j;
            if (column >= 0 && column < width) {
                load<VEC>(line + column * channels, window[j]);
            } else {
#pragma unroll
                for (int v = 0; v < VEC; v++) {
                    window[j][v] = 0.0f;
                }
            }
        }
#pragma unroll
        for (int kx = 0; kx < K; kx++) {
            float w[VEC];
            load<VEC>(weights + (ky * K + kx) * channels + channel, w);
#pragma unroll
            for (int t = 0; t < TILE; t++) {
#pragma unroll
                for (int v = 0; v < VEC; v++) {
                    sum[t][v] += window[t * S + kx][v] * w[v];
                }
            }
        }
    }
    auto finish = [&](int t, float value[VEC]) {
        if (first + t < (int)conv.out[2]) {
            int64_t at =
                (((int64_t)image * conv.out[1] + row) * conv.out[2] + first + t) * channels +
                channel;
            apply_chain<VEC, Index>(chain, (Index)at, value);
            store<VEC>(y + at, value);
        }
    };
    if constexpr (VEC == 8 && K == 3 && S == 2) { /* a loop takes 158 registers here, this 128 */
#pragma unroll
        for (int t = 0; t < TILE; t++) {
            finish(t, sum[t]);
        }
    } else {
        /* One copy of the chain for all of the tile: unrolled it was half of this file's code. The
         * sums move up instead, so that their indices are known and they stay in registers. */
#pragma unroll 1
        for (int t = 0; t < TILE; t++) {
            finish(t, sum[0]);
#pragma unroll
            for (int next = 1; next < TILE; next++) {
#pragma unroll
                for (int v = 0; v < VEC; v++) {
                    sum[next - 1][v] = sum[next][v];
                }
            }
        }
    }
}

/* Depthwise convolution of any kind: any spatial rank, kernel, stride, dilation and multiplier.
 * One thread per output element; neighbouring threads take neighbouring channels.
 * Grid: elements / 256. Bound by L1: every x is loaded kernel-volume times. */
template <typename T, typename Index>
__global__ void depthwise_any_kernel(const __grid_constant__ struct kernel_conv conv,
                                     const T *__restrict__ x, const float *__restrict__ weights,
                                     T *y, const __grid_constant__ struct chain chain,
                                     int64_t elements)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= elements) {
        return;
    }
    Index rest = (Index)thread, at[3];
    Index channel = rest % (Index)conv.out_channels;
    rest /= (Index)conv.out_channels;
    for (int axis = 2; axis >= 0; axis--) {
        at[axis] = rest % (Index)conv.out[axis];
        rest /= (Index)conv.out[axis];
    }
    int64_t image = rest, multiplier = conv.out_channels / conv.in_channels;
    const T *from = x + (int64_t)channel / multiplier;
    float sum[1] = {0.0f};
    int64_t tap = 0;
    for (int64_t i = 0; i < conv.kernel[0]; i++) {
        int64_t d = (int64_t)at[0] * conv.stride[0] - conv.pad[0] + i * conv.dilation[0];
        for (int64_t j = 0; j < conv.kernel[1]; j++) {
            int64_t h = (int64_t)at[1] * conv.stride[1] - conv.pad[1] + j * conv.dilation[1];
            for (int64_t k = 0; k < conv.kernel[2]; k++, tap++) {
                int64_t w = (int64_t)at[2] * conv.stride[2] - conv.pad[2] + k * conv.dilation[2];
                if (d >= 0 && d < conv.in[0] && h >= 0 && h < conv.in[1] && w >= 0 &&
                    w < conv.in[2]) {
                    int64_t cell = ((image * conv.in[0] + d) * conv.in[1] + h) * conv.in[2] + w;
                    sum[0] += to_float(from[cell * conv.in_channels]) *
                              weights[tap * conv.out_channels + (int64_t)channel];
                }
            }
        }
    }
    apply_chain<1, Index>(chain, (Index)thread, sum);
    y[thread] = from_float<T>(sum[0]);
}

template <int K, int S, typename T>
static void launch_depthwise(const struct kernel_conv *conv, const T *x, const float *weights, T *y,
                             const struct chain *chain, bool small, cudaStream_t stream)
{
    /* eight channels of a large window would not fit the registers for four neighbours */
    constexpr int VEC = 16 / sizeof(T), TILE = VEC == 8 && K > 3 ? 2 : 4;
    int64_t threads =
        conv->batch * conv->out[1] * ((conv->out[2] + TILE - 1) / TILE) * (conv->in_channels / VEC);
    unsigned blocks = blocks_for(threads, KERNEL_THREADS);
    if (small) {
        depthwise_kernel<T, VEC, K, S, TILE, uint32_t>
            <<<blocks, KERNEL_THREADS, 0, stream>>>(*conv, x, weights, y, *chain);
    } else {
        depthwise_kernel<T, VEC, K, S, TILE, int64_t>
            <<<blocks, KERNEL_THREADS, 0, stream>>>(*conv, x, weights, y, *chain);
    }
}

template <typename T>
static void depthwise(const struct kernel_conv *conv, const T *x, const float *weights, T *y,
                      const struct chain *chain, cudaStream_t stream)
{
    constexpr int VEC = 16 / sizeof(T);
    int64_t in = conv->batch * conv->in[0] * conv->in[1] * conv->in[2] * conv->in_channels;
    int64_t out = chain->elements;
    bool small = is_small(in) && is_small(out);
    bool common = conv->in[0] == 1 && conv->out[0] == 1 && conv->kernel[0] == 1 &&
                  conv->pad[0] == 0 && conv->kernel[1] == conv->kernel[2] &&
                  conv->stride[1] == conv->stride[2] && conv->dilation[1] == 1 &&
                  conv->dilation[2] == 1 && conv->in_channels == conv->out_channels &&
                  conv->in_channels % VEC == 0 && chain->vector >= VEC;
    int64_t kind = common ? conv->kernel[1] * 10 + conv->stride[1] : 0;
    unsigned blocks = blocks_for(out, KERNEL_THREADS);
    switch (kind) {
    case 31:
        launch_depthwise<3, 1>(conv, x, weights, y, chain, small, stream);
        break;
    case 32:
        launch_depthwise<3, 2>(conv, x, weights, y, chain, small, stream);
        break;
    case 51:
        launch_depthwise<5, 1>(conv, x, weights, y, chain, small, stream);
        break;
    case 52:
        launch_depthwise<5, 2>(conv, x, weights, y, chain, small, stream);
        break;
    case 71:
        launch_depthwise<7, 1>(conv, x, weights, y, chain, small, stream);
        break;
    default:
        if (small) {
            depthwise_any_kernel<T, uint32_t>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(*conv, x, weights, y, *chain, out);
        } else {
            depthwise_any_kernel<T, int64_t>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(*conv, x, weights, y, *chain, out);
        }
    }
}

extern "C" int kernel_depthwise(enum dtype dtype, const struct kernel_conv *conv, const void *x,
                                const float *weights, void *y, const struct chain *chain,
                                cudaStream_t stream)
{
    if (chain->elements == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        depthwise<T>(conv, (const T *)x, weights, (T *)y, chain, stream);
    });
}

/* The position in x that output position `out` meets at tap `tap`, -1 if none. */
__device__ inline int64_t source(const struct kernel_conv &conv, int axis, int64_t out, int64_t tap)
{
    int64_t at;
    if (conv.transposed) {
        at = out + conv.pad[axis] - tap * conv.dilation[axis];
        if (at < 0 || at % conv.stride[axis] != 0) {
            return -1;
        }
        at /= conv.stride[axis];
    } else {
        at = out * conv.stride[axis] - conv.pad[axis] + tap * conv.dilation[axis];
    }
    return at < conv.in[axis] ? at : -1; /* below 0 stays below 0 */
}

/* Any convolution by its definition. One thread per output element (channel fastest, so that the
 * weights of a tap are read side by side). Grid: elements / 256. Bound by L1 and L2: nothing is
 * kept between taps. For the few shapes that no library engine takes. */
template <typename T>
__global__ void convolve_kernel(const __grid_constant__ struct kernel_conv conv,
                                const T *__restrict__ x, const float *__restrict__ weights, T *y,
                                int64_t elements)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= elements) {
        return;
    }
    int64_t channel = thread % conv.out_channels, rest = thread / conv.out_channels, at[3];
    for (int axis = 2; axis >= 0; axis--) {
        at[axis] = rest % conv.out[axis];
        rest /= conv.out[axis];
    }
    int64_t real = conv.real_channels > 0 ? conv.real_channels : conv.in_channels;
    int64_t depth = real / conv.groups; /* input channels of this output's group */
    int64_t group = channel / (conv.out_channels / conv.groups);
    float sum = 0.0f;
    for (int64_t i = 0; i < conv.kernel[0]; i++) {
        int64_t d = source(conv, 0, at[0], i);
        for (int64_t j = 0; j < conv.kernel[1] && d >= 0; j++) {
            int64_t h = source(conv, 1, at[1], j);
            for (int64_t k = 0; k < conv.kernel[2] && h >= 0; k++) {
                int64_t w = source(conv, 2, at[2], k);
                if (w < 0) {
                    continue;
                }
                int64_t tap = (i * conv.kernel[1] + j) * conv.kernel[2] + k;
                int64_t cell = ((rest * conv.in[0] + d) * conv.in[1] + h) * conv.in[2] + w;
                const T *from = x + cell * conv.in_channels + group * depth;
                const float *factor = conv.transposed
                                          ? weights + (tap * conv.out_channels + channel) * depth
                                          : weights + tap * depth * conv.out_channels + channel;
                int64_t step = conv.transposed ? 1 : conv.out_channels;
                for (int64_t c = 0; c < depth; c++) {
                    sum += to_float(from[c]) * factor[c * step];
                }
            }
        }
    }
    y[thread] = from_float<T>(sum);
}

extern "C" int kernel_convolve(enum dtype dtype, const struct kernel_conv *conv, const void *x,
                               const float *weights, void *y, cudaStream_t stream)
{
    int64_t elements =
        conv->batch * conv->out[0] * conv->out[1] * conv->out[2] * conv->out_channels;
    if (elements == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        convolve_kernel<T><<<blocks_for(elements, KERNEL_THREADS), KERNEL_THREADS, 0, stream>>>(
            *conv, (const T *)x, weights, (T *)y, elements);
    });
}
