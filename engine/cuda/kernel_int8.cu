#include "engine/cuda/chain.cuh"

/* The byte of x: the nearest step, ties to even, cut to what the type holds; a NaN becomes the
 * least. */
__device__ inline int8_t quantise(const struct kernel_quantise &quantise, float x)
{
    float least = quantise.positive ? 0.0f : -128.0f, most = quantise.positive ? 255.0f : 127.0f;
    float scaled = x * quantise.inverse;
    scaled = scaled > least ? scaled : least;
    scaled = scaled < most ? scaled : most;
    return (int8_t)((int)rintf(scaled) - (quantise.positive ? 128 : 0));
}

/* Rows of bytes that a product multiplies: one for each cell of a convolution's output, with the
 * window of x that it sees, (taps, channels), then zeros up to the pitch. x (N, D, H, W, C) in
 * float32. One thread makes four neighbours, which are one load if the channels are a multiple of
 * four. Grid: rows * pitch / 4 / 256. Bound by memory, and for windows by the cache that x is read
 * from once a tap. */
template <typename Index>
__global__ void quantise_kernel(const __grid_constant__ struct kernel_quantise q, int64_t first,
                                int64_t rows, const float *__restrict__ x, int8_t *to)
{
    const struct kernel_conv &conv = q.conv;
    Index words = (Index)(q.pitch / 4), channels = (Index)conv.in_channels;
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= rows * (int64_t)words) {
        return;
    }
    Index row = (Index)thread / words, column = ((Index)thread - row * words) * 4;
    Index rest = (Index)first + row, from[3];
    bool real = first + (int64_t)row < q.rows;
    for (int axis = 2; axis >= 0; axis--) {
        Index extent = (Index)conv.out[axis], next = rest / extent;
        from[axis] = rest - next * extent;
        rest = next;
    }
    pack<int8_t, 4> out;
    bool whole = channels % 4 == 0;
    float value[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int v = 0; v < 4; v++) {
        if (whole && v > 0) {
            break;
        }
        Index at = column + (Index)v, tap = at / channels, channel = at - tap * channels;
        if (!real || (int64_t)at >= q.depth) {
            continue;
        }
        int64_t cell = (int64_t)rest;
        bool inside = true;
        Index taps[3];
        taps[2] = tap % (Index)conv.kernel[2];
        tap /= (Index)conv.kernel[2];
        taps[1] = tap % (Index)conv.kernel[1];
        taps[0] = tap / (Index)conv.kernel[1];
        for (int axis = 0; axis < 3; axis++) {
            int64_t position = (int64_t)from[axis] * conv.stride[axis] - conv.pad[axis] +
                               (int64_t)taps[axis] * conv.dilation[axis];
            inside = inside && position >= 0 && position < conv.in[axis];
            cell = cell * conv.in[axis] + position;
        }
        if (inside && whole) {
            load<4>(x + cell * conv.in_channels + (int64_t)channel, value);
        } else if (inside) {
            value[v] = x[cell * conv.in_channels + (int64_t)channel];
        }
    }
    for (int v = 0; v < 4; v++) {
        bool used = real && (int64_t)column + v < q.depth;
        out.element[v] = used ? quantise(q, value[v]) : (int8_t)0;
    }
    reinterpret_cast<pack<int8_t, 4> *>(to)[thread] = out;
}

extern "C" int kernel_quantise(const struct kernel_quantise *quantise, int64_t first, int64_t rows,
                               const float *x, void *to, cudaStream_t stream)
{
    int64_t threads = rows * (quantise->pitch / 4);
    if (threads == 0) {
        return cudaSuccess;
    }
    unsigned blocks = blocks_for(threads, KERNEL_THREADS);
    if (is_small(threads * 4) && is_small(first + rows)) {
        quantise_kernel<uint32_t>
            <<<blocks, KERNEL_THREADS, 0, stream>>>(*quantise, first, rows, x, (int8_t *)to);
    } else {
        quantise_kernel<int64_t>
            <<<blocks, KERNEL_THREADS, 0, stream>>>(*quantise, first, rows, x, (int8_t *)to);
    }
    return (int)cudaGetLastError();
}

/* What sums of bytes stand for, and the chain (bias, activation, shortcut) behind it. sums (rows,
 * wide) in int32, y (rows, units) in float32. One thread makes VEC neighbours. Grid: rows * units /
 * VEC / 256. Bound by memory. */
template <int VEC, typename Index>
__global__ void dequantise_kernel(const __grid_constant__ struct kernel_dequantise d, int64_t first,
                                  int64_t rows, const int32_t *__restrict__ sums,
                                  const float *__restrict__ steps,
                                  const int32_t *__restrict__ weights, float *y,
                                  const __grid_constant__ struct chain chain)
{
    Index groups = (Index)(d.units / VEC);
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= rows * (int64_t)groups) {
        return;
    }
    Index row = (Index)thread / groups, unit = ((Index)thread - row * groups) * VEC;
    float value[VEC];
    pack<int32_t, VEC> sum =
        *reinterpret_cast<const pack<int32_t, VEC> *>(sums + (int64_t)row * d.wide + (int64_t)unit);
    for (int v = 0; v < VEC; v++) {
        int64_t k = (int64_t)unit + v;
        value[v] = (float)(sum.element[v] + d.shift * weights[k]) * (d.step * steps[k]);
    }
    int64_t at = (first + (int64_t)row) * d.units + (int64_t)unit;
    apply_chain<VEC, Index>(chain, (Index)at, value);
    store<VEC>(y + at, value);
}

extern "C" int kernel_dequantise(const struct kernel_dequantise *dequantise, int64_t first,
                                 int64_t rows, const int32_t *sums, const float *steps,
                                 const int32_t *weights, float *y, const struct chain *chain,
                                 cudaStream_t stream)
{
    bool four = dequantise->units % 4 == 0 && chain->vector >= 4;
    int64_t threads = rows * dequantise->units / (four ? 4 : 1);
    if (threads == 0) {
        return cudaSuccess;
    }
    unsigned blocks = blocks_for(threads, KERNEL_THREADS);
    bool small = is_small(chain->elements);
#define LAUNCH(VEC, INDEX)                                                                         \
    dequantise_kernel<VEC, INDEX><<<blocks, KERNEL_THREADS, 0, stream>>>(                          \
        *dequantise, first, rows, sums, steps, weights, y, *chain)
    if (four && small) {
        LAUNCH(4, uint32_t);
    } else if (four) {
        LAUNCH(4, int64_t);
    } else {
        LAUNCH(1, int64_t);
    }
#undef LAUNCH
    return (int)cudaGetLastError();
}
