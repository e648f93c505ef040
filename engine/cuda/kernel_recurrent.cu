#include "engine/cuda/chain.cuh"
#include "engine/cuda/recurrent.h"

#define GATES_MAX 4

/* ---- one cell --------------------------------------------------------------------------------- */

/* A function of a cell. The usual ones have a body of their own: apply_unary() has all that there
 * are, and every kernel gets a copy of that. RARE: any function, see recurrent_is_usual(). */
static __device__ __noinline__ float activate_usual(int function, float x, float alpha, float beta)
{
    switch (function) {
    case UNARY_TANH:
        return tanhf(x);
    case UNARY_SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    case UNARY_HARD_SIGMOID: {
        float y = alpha * x + beta;
        return y < 0.0f ? 0.0f : y > 1.0f ? 1.0f : y;
    }
    case UNARY_RELU: {
        float y = x > 0.0f ? x : alpha == 0.0f ? (x <= 0.0f ? 0.0f : x) : alpha * x;
        return beta > 0.0f && y > beta ? beta : y;
    }
    case UNARY_LINEAR:
        return alpha * x + beta;
    default: /* UNARY_IDENTITY */
        return x;
    }
}

template <bool RARE> __device__ inline float activate(const struct op_unary &f, float x)
{
    return RARE ? apply_unary((int)f.function, x, f.alpha, f.beta)
                : activate_usual((int)f.function, x, f.alpha, f.beta);
}

/* h and c of a cell from z, u and the h before; z and u have one value a gate. */
template <bool RARE>
__device__ inline void run_cell(const struct kernel_recurrent &r, const float *z, const float *u,
                                float before, float *h, float *c)
{
    if (r.cell == CELL_LSTM) {
        float in = activate<RARE>(r.gate, z[0] + u[0]);
        float forget = activate<RARE>(r.gate, z[1] + u[1]);
        *c = forget * *c + in * activate<RARE>(r.activation, z[2] + u[2]);
        *h = activate<RARE>(r.gate, z[3] + u[3]) * activate<RARE>(r.activation, *c);
    } else if (r.cell == CELL_GRU) { /* that resets after its product */
        float update = activate<RARE>(r.gate, z[0] + u[0]);
        float reset = activate<RARE>(r.gate, z[1] + u[1]);
        float next = activate<RARE>(r.activation, z[2] + reset * u[2]);
        *h = next + update * (before - next);
    } else {
        *h = activate<RARE>(r.activation, z[0] + u[0]);
    }
}

__device__ inline int64_t time_of(const struct kernel_recurrent &r, int64_t step)
{
    return r.backwards ? r.steps - 1 - step : step;
}

template <typename T>
__device__ inline bool is_real(const struct kernel_recurrent &r, int64_t n, int64_t step)
{
    return r.mask == NULL || to_float(((const T *)r.mask)[n * r.steps + time_of(r, step)]) != 0.0f;
}

/* z of the gates from `first` on. */
template <typename T>
__device__ inline void load_z(const struct kernel_recurrent &r, int64_t n, int64_t step,
                              int64_t unit, int first, int gates, float *z)
{
    const T *from =
        (const T *)r.z + ((n * r.steps + time_of(r, step)) * r.gates + first) * r.units + unit;
#pragma unroll
    for (int g = 0; g < GATES_MAX; g++) {
        z[g] = g < gates ? to_float(from[g * r.units]) : 0.0f;
    }
}

/* The recurrent bias belongs to u: the reset gate multiplies it. */
template <typename T>
__device__ inline void add_bias(const struct kernel_recurrent &r, int64_t unit, float *u)
{
    if (r.recurrent_bias != NULL) {
#pragma unroll
        for (int g = 0; g < GATES_MAX; g++) {
            if (g < r.gates) {
                u[g] += to_float(((const T *)r.recurrent_bias)[g * r.units + unit]);
            }
        }
    }
}

/* What a step gives outwards: its output and, behind the last one, the states. */
template <typename T>
__device__ inline void put_out(const struct kernel_recurrent &r, int64_t n, int64_t step,
                               int64_t unit, bool real, bool started, float h, float c)
{
    bool last = step == r.steps - 1;
    bool zero = !real && (r.masked == MASKED_ZERO || (r.masked == MASKED_PREVIOUS && !started));
    T *y = (T *)r.y;
    if (r.sequences) {
        int64_t place = r.flipped ? r.steps - 1 - step : step;
        y[(n * r.steps + place) * r.units + unit] = from_float<T>(zero ? 0.0f : h);
    } else if (last) {
        y[n * r.units + unit] = from_float<T>(zero ? 0.0f : h);
    }
    if (last && r.h_last != NULL) {
        ((T *)r.h_last)[n * r.units + unit] = from_float<T>(h);
    }
    if (last && r.c_last != NULL) {
        ((T *)r.c_last)[n * r.units + unit] = from_float<T>(c);
    }
}

/* ---- all steps in one kernel ------------------------------------------------------------------ */

#define SEQUENCE_THREADS 512

/* What a block keeps between the steps. */
template <int ROWS> struct sequence_state {
    float h[ROWS][RECURRENT_SEQUENCE_UNITS];
    float c[ROWS][RECURRENT_SEQUENCE_UNITS];            /* of an LSTM; the update gate of a GRU */
    float reset[ROWS][RECURRENT_SEQUENCE_UNITS];        /* reset gate times h */
    float partial[SEQUENCE_THREADS * ROWS * GATES_MAX]; /* (slice, row, gate, width) */
};

/* The block's part of a product of `from` (rows of units) with the columns of some gates, each thread
 * a slice of the rows of the matrix, into `partial`. */
template <typename T, int ROWS>
__device__ inline void multiply(const struct kernel_recurrent &r,
                                const float from[ROWS][RECURRENT_SEQUENCE_UNITS], int width,
                                int first_gate, int gates, float *partial)
{
    int units = (int)r.units, unit = threadIdx.x % width, slice = threadIdx.x / width;
    int slices = blockDim.x / width, pitch = r.gates * units;
    float sum[ROWS][GATES_MAX] = {};
    if (unit < units) {
        const T *weights = (const T *)r.recurrent + first_gate * units + unit;
#pragma unroll 2
        for (int k = slice; k < units; k += slices) {
#pragma unroll
            for (int g = 0; g < GATES_MAX; g++) {
                if (g < gates) {
                    float w = to_float(weights[k * pitch + g * units]);
                    for (int i = 0; i < ROWS; i++) {
                        sum[i][g] += from[i][k] * w;
                    }
                }
            }
        }
    }
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int g = 0; g < GATES_MAX; g++) {
            if (g < gates) {
                partial[((slice * ROWS + i) * GATES_MAX + g) * width + unit] = sum[i][g];
            }
        }
    }
}

/* The sums of all slices for one unit of one row. */
template <int ROWS>
__device__ inline void collect(const float *partial, int slices, int width, int row, int unit,
                               int gates, float u[GATES_MAX])
{
#pragma unroll
    for (int g = 0; g < GATES_MAX; g++) {
        u[g] = 0.0f;
        for (int s = 0; g < gates && s < slices; s++) {
            u[g] += partial[((s * ROWS + row) * GATES_MAX + g) * width + unit];
        }
    }
}

/* A whole sequence: a block takes ROWS samples through all steps, with h in shared memory and the
 * weights read again each step, from the first-level cache if they fit there. Threads are (slice of
 * the matrix's rows, unit), `width` units rounded up to a warp; grid: samples / ROWS. Bound by the
 * latency of a step: its share of the product, two barriers and the functions. */
template <typename T, int ROWS>
__global__ void __launch_bounds__(SEQUENCE_THREADS)
    recurrent_sequence_kernel(const __grid_constant__ struct kernel_recurrent r, int width)
{
    /* cells that one thread finishes, of which there are at least two slices' worth: cell
     * `threadIdx.x + i * blockDim.x` is (row, unit) */
    constexpr int CELLS = (ROWS + 1) / 2;
    __shared__ struct sequence_state<ROWS> s;
    int slices = blockDim.x / width, units = (int)r.units;
    int64_t first = (int64_t)blockIdx.x * ROWS;
    bool two_stages = r.cell == CELL_GRU && !r.reset_after;
    bool started[CELLS] = {}, real[CELLS];
    float z[CELLS][GATES_MAX], u[GATES_MAX];

    for (int at = threadIdx.x; at < ROWS * width; at += blockDim.x) {
        int row = at / width, unit = at % width;
        int64_t n = first + row;
        bool inside = unit < units && n < r.samples;
        s.h[row][unit] =
            inside && r.h_first != NULL ? to_float(((const T *)r.h_first)[n * units + unit]) : 0.0f;
        s.c[row][unit] =
            inside && r.c_first != NULL ? to_float(((const T *)r.c_first)[n * units + unit]) : 0.0f;
        s.reset[row][unit] = 0.0f;
    }
    __syncthreads();
    for (int64_t step = 0; step < r.steps; step++) {
#pragma unroll
        for (int i = 0; i < CELLS; i++) { /* on the way while the product is made */
            int at = threadIdx.x + i * blockDim.x, unit = at % width;
            int64_t n = first + at / width;
            if (at < ROWS * width && unit < units && n < r.samples) {
                load_z<T>(r, n, step, unit, 0, r.gates, z[i]);
                real[i] = is_real<T>(r, n, step);
            }
        }
        multiply<T, ROWS>(r, s.h, width, 0, two_stages ? 2 : r.gates, s.partial);
        __syncthreads();
        if (two_stages) {
#pragma unroll
            for (int i = 0; i < CELLS; i++) {
                int at = threadIdx.x + i * blockDim.x, row = at / width, unit = at % width;
                if (at < ROWS * width && unit < units && first + row < r.samples) {
                    collect<ROWS>(s.partial, slices, width, row, unit, 2, u);
                    s.c[row][unit] = activate<false>(r.gate, z[i][0] + u[0]);
                    s.reset[row][unit] = activate<false>(r.gate, z[i][1] + u[1]) * s.h[row][unit];
                }
            }
            __syncthreads();
            multiply<T, ROWS>(r, s.reset, width, 2, 1, s.partial);
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < CELLS; i++) {
            int at = threadIdx.x + i * blockDim.x, row = at / width, unit = at % width;
            int64_t n = first + row;
            if (at >= ROWS * width || unit >= units || n >= r.samples) {
                continue;
            }
            float before = s.h[row][unit], h = before, c = s.c[row][unit];
            collect<ROWS>(s.partial, slices, width, row, unit, two_stages ? 1 : r.gates, u);
            if (real[i] && two_stages) {
                float next = activate<false>(r.activation, z[i][2] + u[0]);
                h = next + c * (before - next);
            } else if (real[i]) {
                add_bias<T>(r, unit, u);
                run_cell<false>(r, z[i], u, before, &h, &c);
            }
            started[i] |= real[i];
            s.h[row][unit] = h;
            s.c[row][unit] = c;
            put_out<T>(r, n, step, unit, real[i], started[i], h, c);
        }
        __syncthreads();
    }
}

extern "C" int kernel_recurrent_sequence(enum dtype dtype, const struct kernel_recurrent *layer,
                                         int rows, cudaStream_t stream)
{
    int width = (int)(layer->units + 31) / 32 * 32;
    if (layer->units > RECURRENT_SEQUENCE_UNITS) {
        return cudaErrorInvalidValue;
    }
    int threads = SEQUENCE_THREADS / width * width;
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (rows == 1) {
            recurrent_sequence_kernel<T, 1>
                <<<blocks_for(layer->samples, 1), threads, 0, stream>>>(*layer, width);
        } else {
            recurrent_sequence_kernel<T, 4>
                <<<blocks_for(layer->samples, 4), threads, 0, stream>>>(*layer, width);
        }
    });
}

/* ---- step by step ------------------------------------------------------------------------------ */

/* The initial states. One thread a unit; grid: samples * units / 256. Bound by its launch. */
template <typename T>
__global__ void recurrent_begin_kernel(const __grid_constant__ struct kernel_recurrent r)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= r.samples * r.units) {
        return;
    }
    T h = r.h_first != NULL ? ((const T *)r.h_first)[at] : from_float<T>(0.0f);
    r.h[at] = to_float(h);
    ((T *)r.h_operand[0])[at] = h;
    r.c[at] = r.c_first != NULL ? to_float(((const T *)r.c_first)[at]) : 0.0f;
    if (at % r.units == 0) {
        r.started[at / r.units] = 0;
    }
}

extern "C" int kernel_recurrent_begin(enum dtype dtype, const struct kernel_recurrent *layer,
                                      cudaStream_t stream)
{
    return with_type(dtype, [&](auto type) {
        recurrent_begin_kernel<decltype(type)>
            <<<blocks_for(layer->samples * layer->units, KERNEL_THREADS), KERNEL_THREADS, 0,
               stream>>>(*layer);
    });
}

/* End a step for one unit of one sample, whose product is `u`. */
template <typename T, bool RARE>
__device__ inline void end_step(const struct kernel_recurrent &r, int64_t n, int64_t step,
                                int64_t unit, float u[GATES_MAX])
{
    int64_t at = n * r.units + unit;
    bool real = is_real<T>(r, n, step);
    float before = r.h[at], h = before, c = r.c[at], z[GATES_MAX];
    if (real && r.cell == CELL_GRU && !r.reset_after) {
        load_z<T>(r, n, step, unit, 2, 1, z);
        float next = activate<RARE>(r.activation, z[0] + u[0]);
        h = next + r.update[at] * (before - next);
    } else if (real) {
        load_z<T>(r, n, step, unit, 0, r.gates, z);
        add_bias<T>(r, unit, u);
        run_cell<RARE>(r, z, u, before, &h, &c);
    }
    r.h[at] = h;
    r.c[at] = c;
    ((T *)r.h_operand[(step + 1) % 2])[at] = from_float<T>(h);
    /* only read in steps in which nobody writes it */
    bool started = real || r.started[n] != 0;
    if (real && unit == 0) {
        r.started[n] = 1;
    }
    put_out<T>(r, n, step, unit, real, started, h, c);
}

/* The first stage of a GRU that resets before its product. */
template <typename T, bool RARE>
__device__ inline void end_gates(const struct kernel_recurrent &r, int64_t n, int64_t step,
                                 int64_t unit, const float u[GATES_MAX])
{
    int64_t at = n * r.units + unit;
    float z[GATES_MAX];
    load_z<T>(r, n, step, unit, 0, 2, z);
    r.update[at] = activate<RARE>(r.gate, z[0] + u[0]);
    ((T *)r.reset)[at] = from_float<T>(activate<RARE>(r.gate, z[1] + u[1]) * r.h[at]);
}

/* A step, or a stage of it: h (or reset h) times the columns of `gates` gates, and the cells. A block
 * makes 32 bytes' worth of units for ROWS samples; its threads are (slice of the matrix's rows, unit),
 * so that a warp reads whole sectors of weights. Grid: (samples / ROWS, units / UNITS). Bound by
 * reading the recurrent weights once a step for every ROWS samples. */
template <typename T, int ROWS>
__global__ void recurrent_step_kernel(const __grid_constant__ struct kernel_recurrent r,
                                      int64_t step, int first_gate, int gates)
{
    constexpr int UNITS = 32 / sizeof(T), SLICES = KERNEL_THREADS / UNITS;
    __shared__ float partial[KERNEL_THREADS / 32][ROWS][GATES_MAX][UNITS];
    int64_t first = (int64_t)blockIdx.x * ROWS;
    int64_t unit = (int64_t)blockIdx.y * UNITS + threadIdx.x % UNITS;
    const T *from = (const T *)(first_gate > 0 ? r.reset : r.h_operand[step % 2]);
    float sum[ROWS][GATES_MAX] = {};

    if (unit < r.units) {
        const T *weights = (const T *)r.recurrent + first_gate * r.units + unit;
#pragma unroll 4
        for (int64_t k = threadIdx.x / UNITS; k < r.units; k += SLICES) {
            float h[ROWS];
            for (int i = 0; i < ROWS; i++) {
                h[i] = first + i < r.samples ? to_float(from[(first + i) * r.units + k]) : 0.0f;
            }
#pragma unroll
            for (int g = 0; g < GATES_MAX; g++) {
                if (g < gates) {
                    float w = to_float(weights[(k * r.gates + g) * r.units]);
                    for (int i = 0; i < ROWS; i++) {
                        sum[i][g] += h[i] * w;
                    }
                }
            }
        }
    }
    /* slices of a warp by shuffles, those of the warps through shared memory */
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int g = 0; g < GATES_MAX; g++) {
            for (int lanes = UNITS; g < gates && lanes < 32; lanes *= 2) {
                sum[i][g] += __shfl_xor_sync(0xffffffffu, sum[i][g], lanes);
            }
            if (g < gates && threadIdx.x % 32 < UNITS) {
                partial[threadIdx.x / 32][i][g][threadIdx.x % UNITS] = sum[i][g];
            }
        }
    }
    __syncthreads();
    int row = threadIdx.x / UNITS;
    if (row >= ROWS || first + row >= r.samples || unit >= r.units) {
        return;
    }
    float u[GATES_MAX];
#pragma unroll
    for (int g = 0; g < GATES_MAX; g++) {
        u[g] = 0.0f;
        for (int warp = 0; g < gates && warp < KERNEL_THREADS / 32; warp++) {
            u[g] += partial[warp][row][g][threadIdx.x % UNITS];
        }
    }
    if (r.cell == CELL_GRU && !r.reset_after && first_gate == 0) {
        end_gates<T, false>(r, first + row, step, unit, u);
    } else {
        end_step<T, false>(r, first + row, step, unit, u);
    }
}

/* The first gate of a stage, and how many it has. */
static int stage_gates(const struct kernel_recurrent *layer, int stage, int *gates)
{
    *gates = !recurrent_two_stages(layer) ? layer->gates : stage == 0 ? 2 : 1;
    return stage == 0 ? 0 : 2;
}

extern "C" int kernel_recurrent_step(enum dtype dtype, const struct kernel_recurrent *layer,
                                     int64_t step, int stage, cudaStream_t stream)
{
    int gates, first = stage_gates(layer, stage, &gates);
    return with_type(dtype, [&](auto type) {
        using T = decltype(type);
        constexpr int UNITS = 32 / sizeof(T);
        unsigned columns = blocks_for(layer->units, UNITS);
        if (layer->samples == 1) {
            recurrent_step_kernel<T, 1>
                <<<dim3(1, columns), KERNEL_THREADS, 0, stream>>>(*layer, step, first, gates);
        } else {
            recurrent_step_kernel<T, 4>
                <<<dim3(blocks_for(layer->samples, 4), columns), KERNEL_THREADS, 0, stream>>>(
                    *layer, step, first, gates);
        }
    });
}

/* The cells behind a library's product, or behind the one of a stage; any function. One thread a unit;
 * grid: samples * units / 256. Bound by memory, and for few samples by its launch. */
template <typename T>
__global__ void recurrent_cells_kernel(const __grid_constant__ struct kernel_recurrent r,
                                       int64_t step, int first_gate, int gates)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= r.samples * r.units) {
        return;
    }
    int64_t n = at / r.units, unit = at % r.units;
    const T *from = (const T *)r.u + (n * r.gates + first_gate) * r.units + unit;
    float u[GATES_MAX];
#pragma unroll
    for (int g = 0; g < GATES_MAX; g++) {
        u[g] = g < gates ? to_float(from[g * r.units]) : 0.0f;
    }
    if (r.cell == CELL_GRU && !r.reset_after && first_gate == 0) {
        end_gates<T, true>(r, n, step, unit, u);
    } else {
        end_step<T, true>(r, n, step, unit, u);
    }
}

extern "C" int kernel_recurrent_cells(enum dtype dtype, const struct kernel_recurrent *layer,
                                      int64_t step, int stage, cudaStream_t stream)
{
    int gates, first = stage_gates(layer, stage, &gates);
    return with_type(dtype, [&](auto type) {
        recurrent_cells_kernel<decltype(type)>
            <<<blocks_for(layer->samples * layer->units, KERNEL_THREADS), KERNEL_THREADS, 0,
               stream>>>(*layer, step, first, gates);
    });
}
