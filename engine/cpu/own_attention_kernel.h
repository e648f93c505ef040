/* The float32 kernels of attention in GCC's vector types. Each own_attention_*.c that is named after
 * an instruction set includes this once with it switched on and these set:
 *   ATTENTION_SET      suffix of the kernel table
 *   ATTENTION_LANES    floats of a vector
 *   ATTENTION_VECTORS  vectors of a panel: with ROWS rows each, their sums stay in registers
 */
#ifndef LAYERTOP_ENGINE_CPU_OWN_ATTENTION_KERNEL_H
#define LAYERTOP_ENGINE_CPU_OWN_ATTENTION_KERNEL_H

#include "engine/cpu/own_attention.h"
#include <math.h>
#include <string.h>

/* for editors; every file sets its own */
#ifndef ATTENTION_SET
#define ATTENTION_SET     plain
#define ATTENTION_LANES   4
#define ATTENTION_VECTORS 2
#endif

#define ROWS  6
#define LANES ATTENTION_LANES

/* every function with such arguments is inlined: none passes vectors by the ABI */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t lane_bits __attribute__((vector_size(LANES * sizeof(float))));

#define INLINE static inline __attribute__((always_inline))

INLINE lanes load(const float *from)
{
    lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float *to, lanes v)
{
    memcpy(to, &v, sizeof v);
}

INLINE lanes pick(lane_bits where, lanes a, lanes b)
{
    return (lanes)((where & (lane_bits)a) | (~where & (lane_bits)b));
}

/* ---- keys, transposed ---- */

#if ATTENTION_LANES > 4
/* Lane `l` of the two rows that step s of a transposition makes of two rows s apart: squares of s by
 * s change places across the diagonal. */
#define LOWER(l, s) ((l) & (s) ? LANES + (l) - (s) : (l))
#define UPPER(l, s) ((l) & (s) ? LANES + (l) : (l) + (s))
#define EIGHT(half, s, l)                                                                          \
    half(l, s), half(l + 1, s), half(l + 2, s), half(l + 3, s), half(l + 4, s), half(l + 5, s),    \
        half(l + 6, s), half(l + 7, s)
#if ATTENTION_LANES == 16
#define ORDER(half, s) ((lane_bits){EIGHT(half, s, 0), EIGHT(half, s, 8)})
#else
#define ORDER(half, s) ((lane_bits){EIGHT(half, s, 0)})
#endif

#define EXCHANGE(s)                                                                                \
    for (int i = 0; i < LANES; i++) {                                                              \
        if (i & (s))                                                                               \
            continue;                                                                              \
        lanes upper = __builtin_shuffle(rows[i], rows[i + (s)], ORDER(UPPER, s));                  \
        rows[i] = __builtin_shuffle(rows[i], rows[i + (s)], ORDER(LOWER, s));                      \
        rows[i + (s)] = upper;                                                                     \
    }

INLINE void transpose(lanes rows[LANES])
{
    EXCHANGE(1)
    EXCHANGE(2)
    EXCHANGE(4)
#if ATTENTION_LANES == 16
    EXCHANGE(8)
#endif
}
#else
INLINE void transpose(lanes rows[LANES])
{
    for (int i = 0; i < LANES; i++) {
        for (int j = 0; j < i; j++) {
            float other = rows[i][j];
            rows[i][j] = rows[j][i];
            rows[j][i] = other;
        }
    }
}
#endif

static void pack_keys(const float *keys, int64_t pitch, int64_t count, int64_t depth, float *panel,
                      int64_t stride)
{
    for (int64_t key = 0; key < stride; key += LANES) {
        for (int64_t at = 0; at < depth; at += LANES) {
            lanes rows[LANES];
            int64_t channels = depth - at < LANES ? depth - at : LANES;
            for (int i = 0; i < LANES; i++) {
                const float *from = keys + (key + i) * pitch + at;
                rows[i] = (lanes){0};
                if (key + i >= count)
                    continue;
                if (channels == LANES)
                    rows[i] = load(from);
                else
                    memcpy(&rows[i], from, (size_t)channels * sizeof *from);
            }
            transpose(rows);
            for (int64_t i = 0; i < channels; i++)
                store(panel + (at + i) * stride + key, rows[i]);
        }
    }
}

/* ---- products ---- */

INLINE void product_of(const float *a, int64_t a_pitch, const int count, int64_t depth,
                       const float *panel, int64_t stride, const int vectors, bool adds, float *out,
                       int64_t out_pitch)
{
    lanes sum[ROWS][ATTENTION_VECTORS];
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = adds ? load(out + i * out_pitch + v * LANES) : (lanes){0};
    }
    for (int64_t k = 0; k < depth; k++, panel += stride) {
        lanes b[ATTENTION_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            b[v] = load(panel + v * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            float x = a[i * a_pitch + k];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i][v] += x * b[v];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            store(out + i * out_pitch + v * LANES, sum[i][v]);
    }
}

#define ROWS_OF(n)                                                                                 \
    case n:                                                                                        \
        product_of(a, a_pitch, n, depth, panel, stride, vectors, adds, out, out_pitch);            \
        break

INLINE void product_rows(const float *a, int64_t a_pitch, int64_t rows, int64_t depth,
                         const float *panel, int64_t stride, const int vectors, bool adds,
                         float *out, int64_t out_pitch)
{
    for (; rows > 0; rows -= ROWS, a += ROWS * a_pitch, out += ROWS * out_pitch) {
        switch (rows) {
            ROWS_OF(1);
            ROWS_OF(2);
            ROWS_OF(3);
            ROWS_OF(4);
            ROWS_OF(5);
        default:
            product_of(a, a_pitch, ROWS, depth, panel, stride, vectors, adds, out, out_pitch);
            break;
        }
    }
}

static void product(const float *a, int64_t a_pitch, int64_t rows, int64_t depth,
                    const float *panel, int64_t stride, int64_t columns, bool adds, float *out,
                    int64_t out_pitch)
{
    switch ((columns + LANES - 1) / LANES) {
    case 1:
        product_rows(a, a_pitch, rows, depth, panel, stride, 1, adds, out, out_pitch);
        break;
#if ATTENTION_VECTORS > 2
    case 2:
        product_rows(a, a_pitch, rows, depth, panel, stride, 2, adds, out, out_pitch);
        break;
    case 3:
        product_rows(a, a_pitch, rows, depth, panel, stride, 3, adds, out, out_pitch);
        break;
#endif
    default:
        product_rows(a, a_pitch, rows, depth, panel, stride, ATTENTION_VECTORS, adds, out,
                     out_pitch);
        break;
    }
}

/* ---- softmax ---- */

static float maximum(float *x, int64_t count)
{
    lanes most = ATTENTION_MASKED - (lanes){0};
    for (int64_t i = count; i % LANES != 0; i++)
        x[i] = -INFINITY;
    for (int64_t i = 0; i < count; i += LANES) {
        lanes v = load(x + i);
        most = pick(v > most, v, most);
    }
    float largest = most[0];
    for (int lane = 1; lane < LANES; lane++)
        largest = most[lane] > largest ? most[lane] : largest;
    return largest;
}

/* e^x for x <= 0: 2^n times a polynomial on +-ln(2)/2 (the one of Moshier's Cephes library, 2 ulp). */
INLINE lanes exponential(lanes x)
{
    const lanes least = -87.0F - (lanes){0};
    lane_bits gone = x < least;
    x = pick(gone, least, x);
    lanes n = (x * 1.44269504F + 12582912.0F) - 12582912.0F; /* to nearest */
    lanes r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
    lanes p = 1.9875691500e-4F * r + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    lane_bits power = __builtin_convertvector(n, lane_bits) << 23;
    return pick(gone, (lanes){0}, (lanes)((lane_bits)p + power));
}

static float exponentials(float *x, int64_t count, float most)
{
    lanes sum = {0};
    for (int64_t i = 0; i < count; i += LANES) {
        lanes e = exponential(load(x + i) - most);
        store(x + i, e);
        sum += e;
    }
    float total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += sum[lane];
    return total;
}

static void scale(const float *x, float *y, int64_t count, float factor)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store(y + i, load(x + i) * factor);
    for (; i < count; i++)
        y[i] = x[i] * factor;
}

#define TABLE_NAME2(set) attention_kernels_##set
#define TABLE_NAME(set)  TABLE_NAME2(set)

const struct attention_kernels TABLE_NAME(ATTENTION_SET) = {
    LANES, LANES *ATTENTION_VECTORS, pack_keys, product, maximum, exponentials, scale};

#endif
