#include "engine/cuda/chain.cuh"

/* y = chain(x), element by element. One thread makes VEC neighbours; grid: elements / VEC / 256.
 * Bound by memory: reads x and every operand once, writes y once. In place is safe, since a thread
 * reads what it writes, and nothing else of y. */
template <int VEC, typename Index>
__global__ void chain_kernel(const __grid_constant__ struct chain chain, float *y)
{
    int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (at >= chain.elements) {
        return;
    }
    float value[VEC];
    read_operand<VEC, Index>(chain, chain.x, (Index)at, value);
    apply_chain<VEC, Index>(chain, (Index)at, value);
    store<VEC>(y + at, value);
}

extern "C" int kernel_chain(const struct chain *chain, float *y, cudaStream_t stream)
{
    if (chain->elements == 0) {
        return cudaSuccess;
    }
    int threads = KERNEL_THREADS;
    if (chain->vector) {
        unsigned blocks = blocks_for(chain->elements / 4, threads);
        if (is_small(chain->elements)) {
            chain_kernel<4, uint32_t><<<blocks, threads, 0, stream>>>(*chain, y);
        } else {
            chain_kernel<4, int64_t><<<blocks, threads, 0, stream>>>(*chain, y);
        }
    } else {
        unsigned blocks = blocks_for(chain->elements, threads);
        if (is_small(chain->elements)) {
            chain_kernel<1, uint32_t><<<blocks, threads, 0, stream>>>(*chain, y);
        } else {
            chain_kernel<1, int64_t><<<blocks, threads, 0, stream>>>(*chain, y);
        }
    }
    return cudaGetLastError();
}

__global__ void probe_kernel()
{
}

extern "C" int kernel_probe(cudaStream_t stream)
{
    probe_kernel<<<1, 1, 0, stream>>>();
    return cudaGetLastError();
}
