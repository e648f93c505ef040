#include "engine/cuda/chain.cuh"

/* y[i...] = x[...] or a value: pad, slice, flip, transpose. One thread per output element, writes
 * side by side. Grid: elements / 256. Bound by memory; a transpose's reads are spread and lean on
 * L2. */
template <typename T, typename Index>
__global__ void gather_kernel(const __grid_constant__ struct kernel_gather g, int64_t elements,
                              const T *__restrict__ x, T *__restrict__ y)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= elements) {
        return;
    }
    Index rest = (Index)thread;
    int64_t offset = 0;
    bool inside = true;
    for (int axis = g.rank - 1; axis >= 0; axis--) {
        Index next = rest / (Index)g.dims[axis];
        int64_t at = (int64_t)(rest - next * (Index)g.dims[axis]) * g.step[axis] + g.begin[axis];
        rest = next;
        inside = inside && at >= 0 && at < g.limit[axis];
        offset += at * g.stride[axis];
    }
    y[thread] = inside ? x[offset] : from_float<T>(g.value);
}

extern "C" int kernel_gather(enum dtype dtype, const struct kernel_gather *gather, const void *x,
                             void *y, cudaStream_t stream)
{
    int64_t elements = 1;
    for (int i = 0; i < gather->rank; i++) {
        elements *= gather->dims[i];
    }
    unsigned blocks = blocks_for(elements, KERNEL_THREADS);
    if (elements == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (is_small(elements)) {
            gather_kernel<T, uint32_t>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(*gather, elements, (const T *)x, (T *)y);
        } else {
            gather_kernel<T, int64_t>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(*gather, elements, (const T *)x, (T *)y);
        }
    });
}

/* One input of a concat: rows of `width` into rows of `pitch`. One thread moves one Unit (up to 16
 * bytes); sizes are in Units. Grid: rows * width / 256. Bound by memory. */
template <typename Unit>
__global__ void copy_rows_kernel(int64_t units, int64_t width, int64_t pitch,
                                 const Unit *__restrict__ x, Unit *__restrict__ y)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < units) {
        y[at / width * pitch + at % width] = x[at];
    }
}

template <typename Unit>
static void copy_rows(int64_t rows, int64_t width_bytes, int64_t pitch_bytes, const void *x,
                      void *y, cudaStream_t stream)
{
    int64_t width = width_bytes / (int64_t)sizeof(Unit), units = rows * width;
    copy_rows_kernel<Unit><<<blocks_for(units, KERNEL_THREADS), KERNEL_THREADS, 0, stream>>>(
        units, width, pitch_bytes / (int64_t)sizeof(Unit), (const Unit *)x, (Unit *)y);
}

extern "C" int kernel_copy_rows(enum dtype dtype, int64_t rows, int64_t width, int64_t pitch,
                                const void *x, void *y, cudaStream_t stream)
{
    int64_t bytes = dtype == DTYPE_F32 ? 4 : 2, width_bytes = width * bytes;
    int64_t pitch_bytes = pitch * bytes;
    if (rows * width == 0) {
        return cudaSuccess;
    }
    /* y is an address within a row: it is aligned only if what lies before it is */
    uint64_t all = (uint64_t)width_bytes | (uint64_t)pitch_bytes | (uintptr_t)y | (uintptr_t)x;
    if (all % 16 == 0) {
        copy_rows<uint4>(rows, width_bytes, pitch_bytes, x, y, stream);
    } else if (all % 4 == 0) {
        copy_rows<uint32_t>(rows, width_bytes, pitch_bytes, x, y, stream);
    } else {
        copy_rows<uint16_t>(rows, width_bytes, pitch_bytes, x, y, stream);
    }
    return cudaGetLastError();
}

/* Rows of a table by index. One thread moves one Unit (up to 16 bytes) of a row; `inner` is in Units.
 * Grid: units of y / 256. Bound by memory: rows lie anywhere, each in one piece. */
template <typename Unit>
__global__ void lookup_kernel(const __grid_constant__ struct kernel_lookup l,
                              const Unit *__restrict__ data, const void *__restrict__ index,
                              Unit *__restrict__ y, uint64_t *fault)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= l.groups * l.outer * l.picked * l.inner) {
        return;
    }
    int64_t unit = at % l.inner, pick = at / l.inner % l.picked;
    int64_t block = at / l.inner / l.picked;
    float wanted[1];
    load_any<1>(l.index_dtype, index, block / l.outer * l.picked + pick, wanted);
    /* what is no number is outside too */
    bool inside = wanted[0] > -(float)l.rows - 1.0f && wanted[0] < (float)l.rows;
    int64_t row = inside ? (int64_t)wanted[0] : -1 - l.rows;
    row += row < 0 ? l.rows : 0;
    if (row < 0) {
        y[at] = Unit{};
        *fault = (uint64_t)l.tag << 32 | __float_as_uint(wanted[0]); /* whoever comes last */
        return;
    }
    y[at] = data[(block * l.rows + row) * l.inner + unit];
}

template <typename Unit>
static void lookup(const struct kernel_lookup *l, int64_t row_bytes, const void *data,
                   const void *index, void *y, uint64_t *fault, cudaStream_t stream)
{
    struct kernel_lookup units = *l;
    units.inner = row_bytes / (int64_t)sizeof(Unit);
    int64_t threads = l->groups * l->outer * l->picked * units.inner;
    lookup_kernel<Unit><<<blocks_for(threads, KERNEL_THREADS), KERNEL_THREADS, 0, stream>>>(
        units, (const Unit *)data, index, (Unit *)y, fault);
}

extern "C" int kernel_lookup(enum dtype dtype, const struct kernel_lookup *l, const void *data,
                             const void *index, void *y, uint64_t *fault, cudaStream_t stream)
{
    int64_t row_bytes = l->inner * (dtype == DTYPE_F32 ? 4 : 2);
    if (l->groups * l->outer * l->picked * l->inner == 0) {
        return cudaSuccess;
    }
    if (row_bytes % 16 == 0) {
        lookup<uint4>(l, row_bytes, data, index, y, fault, stream);
    } else if (row_bytes % 4 == 0) {
        lookup<uint32_t>(l, row_bytes, data, index, y, fault, stream);
    } else {
        lookup<uint16_t>(l, row_bytes, data, index, y, fault, stream);
    }
    return cudaGetLastError();
}

#define TURN_TILE 32

/* y (n, b, a) = x (n, a, b) through a tile in shared memory, so that reads and writes both lie side
 * by side. Block: 32 x 8 threads, a tile of 32 x 32. Grid: tiles of a and b flattened, then n (in
 * y and z, as one axis holds 65535). Bound by memory. */
template <typename T>
__global__ void turn_kernel(int64_t n, int64_t a, int64_t b, const T *__restrict__ x,
                            T *__restrict__ y)
{
    __shared__ T tile[TURN_TILE][TURN_TILE + 1]; /* + 1: no bank conflicts */
    int64_t image = (int64_t)blockIdx.z * gridDim.y + blockIdx.y;
    int64_t columns = (b + TURN_TILE - 1) / TURN_TILE;
    int64_t a0 = blockIdx.x / columns * TURN_TILE, b0 = blockIdx.x % columns * TURN_TILE;
    if (image >= n) {
        return; /* the whole block */
    }
    x += image * a * b;
    y += image * a * b;
    for (int i = threadIdx.y; i < TURN_TILE; i += 8) {
        if (a0 + i < a && b0 + threadIdx.x < b) {
            tile[i][threadIdx.x] = x[(a0 + i) * b + b0 + threadIdx.x];
        }
    }
    __syncthreads();
    for (int i = threadIdx.y; i < TURN_TILE; i += 8) {
        if (b0 + i < b && a0 + threadIdx.x < a) {
            y[(b0 + i) * a + a0 + threadIdx.x] = tile[threadIdx.x][i];
        }
    }
}

extern "C" int kernel_turn(enum dtype dtype, int64_t n, int64_t a, int64_t b, const void *x,
                           void *y, cudaStream_t stream)
{
    if (n * a * b == 0) {
        return cudaSuccess;
    }
    unsigned tiles = blocks_for(a, TURN_TILE) * blocks_for(b, TURN_TILE);
    unsigned rows = n < 32768 ? (unsigned)n : 32768;
    dim3 grid(tiles, rows, blocks_for(n, (int)rows)), block(TURN_TILE, 8);
    if (dtype == DTYPE_F32) {
        turn_kernel<uint32_t>
            <<<grid, block, 0, stream>>>(n, a, b, (const uint32_t *)x, (uint32_t *)y);
    } else {
        turn_kernel<uint16_t>
            <<<grid, block, 0, stream>>>(n, a, b, (const uint16_t *)x, (uint16_t *)y);
    }
    return cudaGetLastError();
}
