#include "engine/cuda/attention.cuh"
#include <type_traits>

#define WARPS   4
#define THREADS (32 * WARPS)
#define QUERIES (16 * WARPS)
#define KEYS    64 /* of a tile */
#define DEPTH   64 /* channels of q and k at a time; channels of v that a block sums */
#define PITCH   72 /* of a row in shared memory: eight rows begin in eight banks of four words */

/* d (16, 8) += a (16, 16) b (16, 8) by a warp. Each thread holds, with g = lane / 4 and c = 2 (lane %
 * 4): of a rows g and g + 8 at columns c and c + 1, then both at c + 8 and c + 9; of b columns g at
 * rows c and c + 1, then c + 8 and c + 9; of d rows g, then g + 8, at columns c and c + 1 (PTX ISA,
 * mma.m16n8k16). Halves of two neighbours are one register. */
template <typename T>
__device__ inline void multiply(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
#if defined(LAYERTOP_EMULATOR)
    simt_multiply<T>(d, a, b0, b1);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    if constexpr (std::is_same<T, __half>::value) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
#else /* sm_75: in two halves; a plan in bf16 is refused there */
    if constexpr (std::is_same<T, __half>::value) {
        for (int part = 0; part < 2; part++) {
            asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                         "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                         : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                         : "r"(a[2 * part]), "r"(a[2 * part + 1]), "r"(part == 0 ? b0 : b1));
        }
    }
#endif
}

/* Two neighbours as one register. */
template <typename T> __device__ inline uint32_t pair_at(const T *from)
{
    return *reinterpret_cast<const uint32_t *>(from);
}

template <typename T> __device__ inline uint32_t pair_of(float low, float high)
{
    pack<T, 2> two = {{from_float<T>(low), from_float<T>(high)}};
    return pair_at(two.element);
}

/* Eight channels from `first` on of a row, zeros outside. Rows lie `pitch` apart. */
template <typename T>
__device__ inline pack<T, 8> eight_of(const T *from, int64_t pitch, int64_t row, int64_t rows,
                                      int64_t first, int64_t channels)
{
    pack<T, 8> eight;
    const T *at = from + row * pitch + first;
    if (row < rows && first + 8 <= channels && channels % 8 == 0) { /* then all rows are aligned */
        return *reinterpret_cast<const pack<T, 8> *>(at);
    }
#pragma unroll
    for (int e = 0; e < 8; e++) {
        eight.element[e] = row < rows && first + e < channels ? at[e] : from_float<T>(0.0f);
    }
    return eight;
}

/* Rows row..row+64 of a head, channels from `first` on. */
template <typename T>
__device__ inline void load_tile(const T *from, int64_t pitch, int64_t row, int64_t rows,
                                 int64_t first, int64_t channels, T to[][PITCH])
{
    for (int at = threadIdx.x; at < 64 * DEPTH / 8; at += THREADS) {
        int r = at / (DEPTH / 8), c = at % (DEPTH / 8) * 8;
        *reinterpret_cast<pack<T, 8> *>(&to[r][c]) =
            eight_of(from, pitch, row + r, rows, first + c, channels);
    }
}

/* The same as to[channel][row]. */
template <typename T>
__device__ inline void load_tile_turned(const T *from, int64_t pitch, int64_t row, int64_t rows,
                                        int64_t first, int64_t channels, T to[][PITCH])
{
    for (int at = threadIdx.x; at < 64 * DEPTH / 8; at += THREADS) {
        int r = at % 64, c = at / 64 * 8; /* neighbours write neighbours */
        pack<T, 8> eight = eight_of(from, pitch, row + r, rows, first + c, channels);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            to[c + e][r] = eight.element[e];
        }
    }
}

/* Attention on tensor cores: as attention_kernel(), but a warp takes 16 queries, whose scores against
 * 64 keys and sums of 64 channels stay in its registers; weights are rounded to T, sums are float32.
 * Grid: (samples * heads * ceil(queries / 64), ceil(width / 64)). Bound by tensor cores when there are
 * many keys, else by reading keys and values from L2. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    attention_half_kernel(const __grid_constant__ struct kernel_attention a)
{
    __shared__ __align__(16) T q_tile[QUERIES][PITCH];
    __shared__ __align__(16) T k_tile[KEYS][PITCH];
    __shared__ __align__(16) T v_turned[DEPTH][PITCH];
    int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4 * 2, first_row = threadIdx.x / 32 * 16;
    int64_t blocks = (a.queries + QUERIES - 1) / QUERIES;
    int64_t head = (int64_t)blockIdx.x / blocks, n = head / a.heads, h = head % a.heads;
    int64_t t = (int64_t)blockIdx.x % blocks * QUERIES, channel = (int64_t)blockIdx.y * DEPTH;
    int64_t group = h * a.groups / a.heads;
    const T *q = (const T *)a.q + (n * a.queries * a.heads + h) * a.depth;
    const T *k = (const T *)a.k + (n * a.keys * a.groups + group) * a.depth;
    const T *v = (const T *)a.v + (n * a.keys * a.groups + group) * a.width;
    float most[2] = {MASKED, MASKED}, total[2] = {0.0f, 0.0f}, sum[DEPTH / 8][4] = {};
    int64_t first, end;

    key_range(a, t, QUERIES, &first, &end);
    for (int64_t s = first; s < end; s += KEYS) {
        float score[KEYS / 8][4] = {};
        for (int64_t d = 0; d < a.depth; d += DEPTH) {
            __syncthreads(); /* what was read of these is read */
            if (a.depth > DEPTH || s == first) {
                load_tile(q, a.heads * a.depth, t, a.queries, d, a.depth, q_tile);
            }
            load_tile(k, a.groups * a.depth, s, a.keys, d, a.depth, k_tile);
            if (d == 0) {
                load_tile_turned(v, a.groups * a.width, s, a.keys, channel, a.width, v_turned);
            }
            __syncthreads();
#pragma unroll
            for (int part = 0; part < DEPTH; part += 16) {
                const uint32_t rows[4] = {pair_at(&q_tile[first_row + g][part + c]),
                                          pair_at(&q_tile[first_row + g + 8][part + c]),
                                          pair_at(&q_tile[first_row + g][part + c + 8]),
                                          pair_at(&q_tile[first_row + g + 8][part + c + 8])};
#pragma unroll
                for (int j = 0; j < KEYS / 8; j++) {
                    multiply<T>(score[j], rows, pair_at(&k_tile[8 * j + g][part + c]),
                                pair_at(&k_tile[8 * j + g][part + c + 8]));
                }
            }
        }
        bool plain = is_plain_tile(a, t, QUERIES, s, KEYS);
#pragma unroll
        for (int r = 0; r < 2; r++) { /* rows g and g + 8; four lanes share each */
            float top = most[r], part = 0.0f;
#pragma unroll
            for (int j = 0; j < KEYS / 4; j++) {
                float *one = &score[j / 2][2 * r + j % 2];
                *one = plain ? *one * a.scale
                             : finish_score<T>(a, *one, n, h, t + first_row + g + 8 * r,
                                               s + j / 2 * 8 + c + j % 2);
                top = fmaxf(top, *one);
            }
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
#pragma unroll
            for (int j = 0; j < KEYS / 4; j++) {
                float *one = &score[j / 2][2 * r + j % 2];
                *one = expf(*one - top);
                part += *one;
            }
            part += __shfl_xor_sync(0xffffffffu, part, 1);
            part += __shfl_xor_sync(0xffffffffu, part, 2);
            float factor = expf(most[r] - top);
            total[r] = total[r] * factor + part;
            most[r] = top;
#pragma unroll
            for (int j = 0; j < DEPTH / 8; j++) {
                sum[j][2 * r] *= factor;
                sum[j][2 * r + 1] *= factor;
            }
        }
#pragma unroll
        for (int part = 0; part < KEYS; part += 16) { /* scores lie as the left factor wants them */
            const float *left = score[part / 8], *right = score[part / 8 + 1];
            const uint32_t weights[4] = {pair_of<T>(left[0], left[1]), pair_of<T>(left[2], left[3]),
                                         pair_of<T>(right[0], right[1]),
                                         pair_of<T>(right[2], right[3])};
#pragma unroll
            for (int j = 0; j < DEPTH / 8; j++) {
                multiply<T>(sum[j], weights, pair_at(&v_turned[8 * j + g][part + c]),
                            pair_at(&v_turned[8 * j + g][part + c + 8]));
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int64_t row = t + first_row + g + 8 * r;
        T *y = (T *)a.y + ((n * a.queries + row) * a.heads + h) * a.width;
#pragma unroll
        for (int j = 0; j < DEPTH / 4; j++) {
            int64_t at = channel + j / 2 * 8 + c + j % 2;
            if (row < a.queries && at < a.width) {
                y[at] = from_float<T>(sum[j / 2][2 * r + j % 2] / total[r]);
            }
        }
    }
}

extern "C" int kernel_attention_half(enum dtype dtype, const struct kernel_attention *a,
                                     cudaStream_t stream)
{
    int64_t blocks = a->samples * a->heads * ((a->queries + QUERIES - 1) / QUERIES);
    if (blocks * a->width == 0) {
        return cudaSuccess;
    }
    dim3 grid((unsigned)blocks, (unsigned)((a->width + DEPTH - 1) / DEPTH));
    if (dtype == DTYPE_F16) {
        attention_half_kernel<__half><<<grid, THREADS, 0, stream>>>(*a);
    } else if (dtype == DTYPE_BF16) {
        attention_half_kernel<__nv_bfloat16><<<grid, THREADS, 0, stream>>>(*a);
    } else {
        return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}
