#include "engine/cuda/attention.cuh"

#define THREADS 256
#define KEYS    64 /* of a tile */
#define DEPTH   32 /* channels of q and k at a time; keys at a time where the values are summed */
#define WIDTH   64 /* channels of v that a block sums */

/* Rows row..row+ROWS of a head, channels from `first` on, into to[channel][row]; zeros outside. */
template <typename T, int ROWS>
__device__ inline void load_turned(const T *from, int64_t pitch, int64_t row, int64_t rows,
                                   int64_t first, int64_t depth, float to[DEPTH][KEYS + 1])
{
    for (int at = threadIdx.x; at < ROWS * DEPTH; at += THREADS) {
        int r = at / DEPTH, d = at % DEPTH;
        bool inside = row + r < rows && first + d < depth;
        to[d][r] = inside ? to_float(from[(row + r) * pitch + first + d]) : 0.0f;
    }
}

/* Attention with scores in registers (as FlashAttention does, Dao et al., arXiv:2205.14135, with the
 * online softmax of Milakov and Gimelshein, arXiv:1805.02867). A block takes 16 * R queries of one
 * head and up to 64 channels of the values, and goes through the keys in tiles of 64. Threads are
 * (16 rows, 16 columns), each with R x 4 scores and R x 4 sums: rows of its own, and every 16th
 * column. Grid: (samples * heads * ceil(queries / 16 R), ceil(width / 64)). Float32 arithmetic; bound
 * by it and by shared memory. */
template <typename T, int R>
__global__ void __launch_bounds__(THREADS)
    attention_kernel(const __grid_constant__ struct kernel_attention a)
{
    __shared__ float q_turned[DEPTH][KEYS + 1];
    __shared__ float k_turned[DEPTH][KEYS + 1]; /* and the values, (DEPTH, WIDTH) */
    __shared__ float weights[16 * R][KEYS + 1];
    constexpr int QUERIES = 16 * R;
    int column = threadIdx.x % 16, row = threadIdx.x / 16 * R;
    int64_t blocks = (a.queries + QUERIES - 1) / QUERIES;
    int64_t head = (int64_t)blockIdx.x / blocks, n = head / a.heads, h = head % a.heads;
    int64_t t = (int64_t)blockIdx.x % blocks * QUERIES, channel = (int64_t)blockIdx.y * WIDTH;
    int64_t group = h * a.groups / a.heads, k_pitch = a.groups * a.depth,
            v_pitch = a.groups * a.width;
    const T *q = (const T *)a.q + (n * a.queries * a.heads + h) * a.depth;
    const T *k = (const T *)a.k + (n * a.keys * a.groups + group) * a.depth;
    const T *v = (const T *)a.v + (n * a.keys * a.groups + group) * a.width;
    float most[R], total[R], sum[R][4] = {};
    int64_t first, end;

#pragma unroll
    for (int i = 0; i < R; i++) {
        most[i] = MASKED;
        total[i] = 0.0f;
    }
    key_range(a, t, QUERIES, &first, &end);
    for (int64_t s = first; s < end; s += KEYS) {
        float score[R][4] = {};
        for (int64_t d = 0; d < a.depth; d += DEPTH) {
            __syncthreads(); /* what was read of these is read */
            load_turned<T, QUERIES>(q, a.heads * a.depth, t, a.queries, d, a.depth, q_turned);
            load_turned<T, KEYS>(k, k_pitch, s, a.keys, d, a.depth, k_turned);
            __syncthreads();
#pragma unroll 8
            for (int c = 0; c < DEPTH; c++) {
#pragma unroll
                for (int i = 0; i < R; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        score[i][j] += q_turned[c][row + i] * k_turned[c][column + 16 * j];
                    }
                }
            }
        }
        bool plain = is_plain_tile(a, t, QUERIES, s, KEYS);
#pragma unroll
        for (int i = 0; i < R; i++) {
            float top = most[i], part = 0.0f;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                score[i][j] =
                    plain ? score[i][j] * a.scale
                          : finish_score<T>(a, score[i][j], n, h, t + row + i, s + column + 16 * j);
                top = fmaxf(top, score[i][j]);
            }
            for (int lanes = 8; lanes > 0; lanes /= 2) {
                top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, lanes));
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float weight = expf(score[i][j] - top);
                weights[row + i][column + 16 * j] = weight;
                part += weight;
            }
            for (int lanes = 8; lanes > 0; lanes /= 2) {
                part += __shfl_xor_sync(0xffffffffu, part, lanes);
            }
            float factor = expf(most[i] - top);
            total[i] = total[i] * factor + part;
            most[i] = top;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                sum[i][j] *= factor;
            }
        }
        float(*values)[WIDTH] = (float(*)[WIDTH])k_turned;
        for (int64_t part = 0; part < KEYS && s + part < end; part += DEPTH) {
            __syncthreads();
            for (int at = threadIdx.x; at < DEPTH * WIDTH; at += THREADS) {
                int r = at / WIDTH, c = at % WIDTH;
                bool inside = s + part + r < a.keys && channel + c < a.width;
                values[r][c] = inside ? to_float(v[(s + part + r) * v_pitch + channel + c]) : 0.0f;
            }
            __syncthreads();
#pragma unroll 8
            for (int r = 0; r < DEPTH; r++) {
#pragma unroll
                for (int i = 0; i < R; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        sum[i][j] += weights[row + i][part + r] * values[r][column + 16 * j];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        T *y = (T *)a.y + ((n * a.queries + t + row + i) * a.heads + h) * a.width + channel;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int c = column + 16 * j;
            if (t + row + i < a.queries && channel + c < a.width) {
                y[c] = from_float<T>(sum[i][j] / total[i]);
            }
        }
    }
}

extern "C" int kernel_attention(enum dtype dtype, const struct kernel_attention *a,
                                cudaStream_t stream)
{
    if (dtype != DTYPE_F32) {
        return kernel_attention_half(dtype, a, stream);
    }
    /* few queries: smaller blocks, and more of them */
    int queries = a->queries <= 32 ? 16 : 64;
    int64_t blocks = a->samples * a->heads * ((a->queries + queries - 1) / queries);
    if (blocks * a->width == 0) {
        return cudaSuccess;
    }
    dim3 grid((unsigned)blocks, (unsigned)((a->width + WIDTH - 1) / WIDTH));
    if (queries == 16) {
        attention_kernel<float, 1><<<grid, THREADS, 0, stream>>>(*a);
    } else {
        attention_kernel<float, 4><<<grid, THREADS, 0, stream>>>(*a);
    }
    return cudaGetLastError();
}
