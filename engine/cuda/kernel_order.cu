#include "engine/cuda/chain.cuh"

/* Running sums or products over the middle axis of (outer, n, inner), in double precision: as whole
 * numbers they are exact far beyond float32, and no digits are lost over a long axis. One thread per
 * column, neighbours side by side. Grid: outer * inner / 256. Bound by memory; by latency when there
 * are few columns. */
template <typename T>
__global__ void cumulate_columns_kernel(const __grid_constant__ struct kernel_cumulate c,
                                        const T *x, T *y)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= c.outer * c.inner) {
        return;
    }
    int64_t base = thread / c.inner * c.n * c.inner + thread % c.inner;
    double value = c.product ? 1.0 : 0.0;
    for (int64_t i = 0; i < c.n; i++) {
        int64_t at = base + (c.reverse ? c.n - 1 - i : i) * c.inner;
        double cell = (double)to_float(x[at]);
        double next = c.product ? value * cell : value + cell;
        y[at] = from_float<T>((float)(c.exclusive ? value : next));
        value = next;
    }
}

/* The same over rows that lie side by side: a warp per row takes 32 elements at a time and scans them
 * with shuffles. Grid: rows / 8. Bound by memory. */
template <typename T>
__global__ void cumulate_rows_kernel(const __grid_constant__ struct kernel_cumulate c, const T *x,
                                     T *y)
{
    int64_t row = (int64_t)blockIdx.x * (KERNEL_THREADS / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= c.outer) {
        return; /* a whole warp at a time */
    }
    const double identity = c.product ? 1.0 : 0.0;
    double carry = identity;
    for (int64_t first = 0; first < c.n; first += 32) {
        int64_t i = first + lane, at = row * c.n + (c.reverse ? c.n - 1 - i : i);
        double value = i < c.n ? (double)to_float(x[at]) : identity;
        for (int step = 1; step < 32; step *= 2) {
            double before = __shfl_up_sync(0xffffffffu, value, step);
            if (lane >= step) {
                value = c.product ? before * value : before + value;
            }
        }
        value = c.product ? carry * value : carry + value;
        double previous = __shfl_up_sync(0xffffffffu, value, 1);
        if (c.exclusive && i < c.n) {
            y[at] = from_float<T>((float)(lane > 0 ? previous : carry));
        } else if (i < c.n) {
            y[at] = from_float<T>((float)value);
        }
        carry = __shfl_sync(0xffffffffu, value, 31);
    }
}

extern "C" int kernel_cumulate(enum dtype dtype, const struct kernel_cumulate *cumulate,
                               const void *x, void *y, cudaStream_t stream)
{
    if (cumulate->outer * cumulate->n * cumulate->inner == 0) {
        return cudaSuccess;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (cumulate->inner == 1) {
            unsigned blocks = blocks_for(cumulate->outer, KERNEL_THREADS / 32);
            cumulate_rows_kernel<T>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(*cumulate, (const T *)x, (T *)y);
        } else {
            unsigned blocks = blocks_for(cumulate->outer * cumulate->inner, KERNEL_THREADS);
            cumulate_columns_kernel<T>
                <<<blocks, KERNEL_THREADS, 0, stream>>>(*cumulate, (const T *)x, (T *)y);
        }
    });
}

/* A number that is larger the earlier an element comes in the order asked for, and that no two
 * elements of a row share: the float's bits in an order of whole numbers, then the place. A NaN is
 * larger than any number. */
__device__ inline uint64_t order_key(float value, int64_t place, bool smallest)
{
    uint32_t bits = __float_as_uint(value + 0.0f); /* -0 is 0 */
    uint32_t order = value != value ? 0xffffffffu : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    order = smallest ? ~order : order;
    return (uint64_t)order << 32 | (uint32_t) ~(uint32_t)place;
}

__device__ inline void store_top(const struct kernel_top &t, void *y, int64_t at, float value,
                                 int64_t place)
{
    float one[1] = {t.indices ? (float)place : value};
    store_any<1>(t.dtype, y, at, one);
}

/* The few largest of a row, one after the other: a block per row looks for the largest that comes
 * behind the one before. Grid: rows. Bound by memory (one), by L1 and L2 (more). */
template <typename T>
__global__ void top_few_kernel(const __grid_constant__ struct kernel_top t, const T *x, void *y)
{
    __shared__ unsigned long long shared[KERNEL_THREADS / 32];
    int64_t row = blockIdx.x;
    const T *from = x + row * t.n;
    unsigned long long limit = ~0ull;
    for (int64_t rank = 0; rank < t.count; rank++) {
        unsigned long long best = 0;
        for (int64_t i = threadIdx.x; i < t.n; i += KERNEL_THREADS) {
            unsigned long long key = order_key(to_float(from[i]), i, t.smallest);
            best = key > best && (rank == 0 || key < limit) ? key : best;
        }
        for (int step = 16; step > 0; step /= 2) {
            unsigned long long other = __shfl_xor_sync(0xffffffffu, best, step);
            best = other > best ? other : best;
        }
        __syncthreads(); /* the previous use of `shared` is over */
        if (threadIdx.x % 32 == 0) {
            shared[threadIdx.x / 32] = best;
        }
        __syncthreads();
        for (int warp = 0; warp < KERNEL_THREADS / 32; warp++) {
            best = shared[warp] > best ? shared[warp] : best;
        }
        limit = best;
        if (threadIdx.x == 0) {
            int64_t place = (int64_t)(uint32_t) ~(uint32_t)limit;
            store_top(t, y, row * t.count + rank, to_float(from[place]), place);
        }
    }
}

/* Many of a row, or all: an element's rank is the number of those before it. One thread counts for one
 * element, 256 others at a time from shared memory. Grid: rows * n / 256, the pieces of a row side by
 * side. Bound by arithmetic: n comparisons an element. */
template <typename T>
__global__ void top_many_kernel(const __grid_constant__ struct kernel_top t, const T *x, void *y)
{
    __shared__ uint64_t tile[KERNEL_THREADS];
    int64_t pieces = (t.n + KERNEL_THREADS - 1) / KERNEL_THREADS;
    int64_t row = blockIdx.x / pieces;
    int64_t mine = blockIdx.x % pieces * KERNEL_THREADS + threadIdx.x, rank = 0;
    const T *from = x + row * t.n;
    float value = mine < t.n ? to_float(from[mine]) : 0.0f;
    uint64_t key = order_key(value, mine, t.smallest);
    for (int64_t first = 0; first < t.n; first += KERNEL_THREADS) {
        int64_t i = first + threadIdx.x;
        __syncthreads(); /* the previous tile has been read */
        tile[threadIdx.x] = i < t.n ? order_key(to_float(from[i]), i, t.smallest) : 0;
        __syncthreads();
        for (int j = 0; j < KERNEL_THREADS; j++) {
            rank += tile[j] > key;
        }
    }
    if (mine < t.n && rank < t.count) {
        store_top(t, y, row * t.count + rank, value, mine);
    }
}

extern "C" int kernel_top(enum dtype dtype, const struct kernel_top *top, const void *x, void *y,
                          cudaStream_t stream)
{
    int64_t pieces = (top->n + KERNEL_THREADS - 1) / KERNEL_THREADS;
    if (top->rows * top->n * top->count == 0) {
        return cudaSuccess;
    }
    if (top->n > UINT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (top->count <= KERNEL_TOP_FEW) {
            top_few_kernel<T>
                <<<(unsigned)top->rows, KERNEL_THREADS, 0, stream>>>(*top, (const T *)x, y);
        } else {
            top_many_kernel<T><<<(unsigned)(top->rows * pieces), KERNEL_THREADS, 0, stream>>>(
                *top, (const T *)x, y);
        }
    });
}
