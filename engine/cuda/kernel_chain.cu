#include "engine/cuda/chain.cuh"

/* y = chain(x), element by element. One thread makes VEC neighbours; grid: elements / VEC / 256.
 * Bound by memory: reads x and every operand once, writes y once. In place is safe, since a thread
 * reads what it writes, and nothing else of y. */
template <int VEC, typename Index>
__global__ void chain_kernel(const __grid_constant__ struct chain chain, void *y)
{
    int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (at >= chain.elements) {
        return;
    }
    float value[VEC];
    read_operand<VEC, Index>(chain, chain.x, (Index)at, value);
    if (chain.select) {
        float a[VEC], b[VEC];
        read_operand<VEC, Index>(chain, chain.chosen[0], (Index)at, a);
        read_operand<VEC, Index>(chain, chain.chosen[1], (Index)at, b);
        for (int v = 0; v < VEC; v++) {
            value[v] = value[v] != 0.0f ? a[v] : b[v];
        }
    }
    apply_chain<VEC, Index>(chain, (Index)at, value);
    store_any<VEC>(chain.dtype, y, at, value);
}

/* The same with rows that become longer: cast, normalise and pad the channels of pictures at once.
 * One thread makes a row, a few channels; grid: rows / 256. Bound by memory. */
__global__ void chain_rows_kernel(const __grid_constant__ struct chain chain, void *y)
{
    int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (row * chain.row >= chain.elements) {
        return;
    }
    for (int64_t first = 0; first < chain.pitch; first += 4) {
        float four[4];
        for (int v = 0; v < 4; v++) {
            int64_t at = row * chain.row + first + v;
            float value[1] = {0.0f};
            if (first + v < chain.row) {
                read_operand<1, int64_t>(chain, chain.x, at, value);
                apply_chain<1, int64_t>(chain, at, value);
            }
            four[v] = value[0];
        }
        store_any<4>(chain.dtype, y, row * chain.pitch + first, four);
    }
}

template <int VEC> static void launch_chain(const struct chain *chain, void *y, cudaStream_t stream)
{
    unsigned blocks = blocks_for(chain->elements / VEC, KERNEL_THREADS);
    if (is_small(chain->elements)) {
        chain_kernel<VEC, uint32_t><<<blocks, KERNEL_THREADS, 0, stream>>>(*chain, y);
    } else {
        chain_kernel<VEC, int64_t><<<blocks, KERNEL_THREADS, 0, stream>>>(*chain, y);
    }
}

extern "C" int kernel_chain(const struct chain *chain, void *y, cudaStream_t stream)
{
    if (chain->elements == 0) {
        return cudaSuccess;
    }
    if (chain->pitch > 0) {
        if (chain->row <= 0 || chain->pitch % 4 != 0 || chain->elements % chain->row != 0) {
            return cudaErrorInvalidValue;
        }
        unsigned blocks = blocks_for(chain->elements / chain->row, KERNEL_THREADS);
        chain_rows_kernel<<<blocks, KERNEL_THREADS, 0, stream>>>(*chain, y);
    } else if (chain->vector == 8) {
        launch_chain<8>(chain, y, stream);
    } else if (chain->vector == 4) {
        launch_chain<4>(chain, y, stream);
    } else {
        launch_chain<1>(chain, y, stream);
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
