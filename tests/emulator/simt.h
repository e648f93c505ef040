/* CUDA's kernels on the host: what a .cu file needs to be compiled by a C++ compiler and run.
 *
 * Every thread of a block is a coroutine that runs until it meets a barrier or a shuffle; blocks run
 * one after another. So the kernels' own source is executed, index for index, and a barrier that not
 * all threads reach, or memory outside a tensor (under a sanitizer or valgrind), shows. It says
 * nothing about speed, and nothing about races between blocks.
 *
 * mk/emulator.mk rewrites `kernel<T><<<grid, block, shared, stream>>>(x)` into
 * `kernel<T> ->*simt_config(grid, block, shared, stream)(x)` (and a kernel without <T>, which may be a
 * template all the same, into a simt_kernel()), and includes this file before all others.
 */
#ifndef LAYERTOP_TESTS_EMULATOR_SIMT_H
#define LAYERTOP_TESTS_EMULATOR_SIMT_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <functional>
#include <tuple>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __noinline__
#undef __grid_constant__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __shared__ static /* blocks run one after another */
#define LAYERTOP_EMULATOR
#define __grid_constant__
#define __noinline__
#define __launch_bounds__(...)

struct simt_index {
    unsigned x, y, z;
};

/* Of the thread that runs. */
extern simt_index simt_thread, simt_block;
extern dim3 simt_block_dim, simt_grid_dim;
#define threadIdx simt_thread
#define blockIdx  simt_block
#define blockDim  simt_block_dim
#define gridDim   simt_grid_dim

/* Wait for all threads of the block; for those of the warp, and exchange 32 bits with them. */
void simt_barrier();
void simt_warp_barrier();
uint32_t simt_shuffle(uint32_t value, unsigned lane);
unsigned simt_lane();
/* What every lane of the warp gives, (32, 8), until the warp's next exchange but one. */
const uint32_t (*simt_exchange(const uint32_t *mine, unsigned count))[8];
/* Queue work on the only stream: done at once, or kept while a graph is captured. */
void simt_queue(const std::function<void()> &work);
void simt_run(dim3 grid, dim3 block, const std::function<void()> &thread);

inline void __syncthreads()
{
    simt_barrier();
}

inline void __syncwarp(unsigned = 0xffffffffu)
{
    simt_warp_barrier();
}

template <typename V> inline V simt_shuffle_any(V value, unsigned lane)
{
    static_assert(sizeof(V) % 4 == 0, "32 bits at a time");
    uint32_t bits[sizeof(V) / 4];
    memcpy(bits, &value, sizeof bits);
    for (uint32_t &word : bits) {
        word = simt_shuffle(word, lane);
    }
    memcpy(&value, bits, sizeof bits);
    return value;
}

template <typename V> inline V __shfl_xor_sync(unsigned, V value, int mask, int = 32)
{
    return simt_shuffle_any(value, simt_lane() ^ (unsigned)mask);
}

template <typename V> inline V __shfl_sync(unsigned, V value, int lane, int width = 32)
{
    unsigned first = simt_lane() / (unsigned)width * (unsigned)width;
    return simt_shuffle_any(value, first + (unsigned)lane % (unsigned)width);
}

template <typename V> inline V __shfl_down_sync(unsigned, V value, unsigned delta, int = 32)
{
    unsigned lane = simt_lane();
    return simt_shuffle_any(value, lane + delta < 32 ? lane + delta : lane);
}

template <typename V> inline V __shfl_up_sync(unsigned, V value, unsigned delta, int = 32)
{
    unsigned lane = simt_lane();
    return simt_shuffle_any(value, lane >= delta ? lane - delta : lane);
}

inline float simt_half(const __half *half)
{
    return __half2float(*half);
}

inline float simt_half(const __nv_bfloat16 *half)
{
    return __bfloat162float(*half);
}

/* mma.m16n8k16 with halves and sums in float32, by its table of who holds which element. */
template <typename T>
inline void simt_multiply(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const uint32_t(*all)[8] = simt_exchange(mine, 6);
    unsigned lane = simt_lane();
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            const uint32_t *left = &all[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
            const uint32_t *right = &all[column * 4 + k % 8 / 2][4 + k / 8];
            d[i] += simt_half((const T *)left + k % 2) * simt_half((const T *)right + k % 2);
        }
    }
}

inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __int_as_float(int bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename V> inline V atomicAdd(V *at, V value) /* one thread runs at a time */
{
    V old = *at;
    *at = old + value;
    return old;
}

/* ---- launches ---- */

template <typename... A> struct simt_launch {
    dim3 grid, block;
    std::tuple<A...> arguments;
};

struct simt_config {
    dim3 grid, block;
    simt_config(dim3 grid, dim3 block, size_t = 0, cudaStream_t = nullptr)
        : grid(grid), block(block)
    {
    }
    template <typename... A> simt_launch<A...> operator()(const A &...arguments) const
    {
        return {grid, block, std::tuple<A...>(arguments...)};
    }
};

#define simt_kernel(name) simt_named([](auto... a) { name(a...); })

template <typename K> struct simt_callable {
    K kernel;
};

template <typename K> inline simt_callable<K> simt_named(K kernel)
{
    return {kernel};
}

template <typename K, typename... A>
inline void operator->*(const simt_callable<K> &named, const simt_launch<A...> &launch)
{
    simt_queue([named, launch] {
        simt_run(launch.grid, launch.block, [&] {
            std::apply([&](const auto &...a) { named.kernel(a...); }, launch.arguments);
        });
    });
}

template <typename... P, typename... A>
inline void operator->*(void (*kernel)(P...), const simt_launch<A...> &launch)
{
    simt_queue([kernel, launch] {
        simt_run(launch.grid, launch.block,
                 [&] { std::apply([&](const auto &...a) { kernel(a...); }, launch.arguments); });
    });
}

#endif
