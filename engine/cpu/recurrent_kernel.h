/* The kernels of recurrent layers in GCC's vector types. Each recurrent_*.c includes this once with
 * its instruction set switched on and these set:
 *   RECURRENT_SET   suffix of the kernel table
 *   RECURRENT_WIDE  vectors of a tile that are kept in registers at a time
 */
#ifndef LAYERTOP_ENGINE_CPU_RECURRENT_KERNEL_H
#define LAYERTOP_ENGINE_CPU_RECURRENT_KERNEL_H

#include "engine/cpu/own.h"
#include "engine/cpu/recurrent.h"
#include <string.h>

#ifndef RECURRENT_SET
#define RECURRENT_SET  plain
#define RECURRENT_WIDE 1
#endif

/* every function here is inlined: none passes vectors by the ABI */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float lanes __attribute__((vector_size(RECURRENT_LANES * sizeof(float))));
typedef int32_t lane_bits __attribute__((vector_size(RECURRENT_LANES * sizeof(float))));

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

/* ---- products ---- */

INLINE void tile_of(const float *const *rows, const int count, const float *panel, int64_t depth,
                    int stride, const int vectors, float *out)
{
    lanes sum[RECURRENT_ROWS][RECURRENT_VECTORS_MAX];
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = load(out + i * stride + v * RECURRENT_LANES);
    }
    for (int64_t k = 0; k < depth; k++, panel += stride) {
        lanes b[RECURRENT_VECTORS_MAX];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            b[v] = load(panel + v * RECURRENT_LANES);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            float a = rows[i][k];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i][v] += a * b[v];
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            store(out + i * stride + v * RECURRENT_LANES, sum[i][v]);
    }
}

#define ROWS_OF(n)                                                                                 \
    case n:                                                                                        \
        tile_of(rows, n, panel, depth, stride, vectors, out);                                      \
        break

INLINE void tile_rows(const float *const *rows, int count, const float *panel, int64_t depth,
                      int stride, const int vectors, float *out)
{
    switch (count) {
        ROWS_OF(1);
        ROWS_OF(2);
        ROWS_OF(3);
        ROWS_OF(4);
        ROWS_OF(5);
    default:
        tile_of(rows, 6, panel, depth, stride, vectors, out);
        break;
    }
}

static void tile(const float *const *rows, int count, const float *panel, int64_t depth,
                 int vectors, float *out)
{
    int stride = vectors * RECURRENT_LANES;
#if RECURRENT_WIDE == 1
    for (int v = 0; v < stride; v += RECURRENT_LANES)
        tile_rows(rows, count, panel + v, depth, stride, 1, out + v);
#else
    switch (vectors) {
    case 1:
        tile_rows(rows, count, panel, depth, stride, 1, out);
        break;
    case 2:
        tile_rows(rows, count, panel, depth, stride, 2, out);
        break;
    case 3:
        tile_rows(rows, count, panel, depth, stride, 3, out);
        break;
    default:
        tile_rows(rows, count, panel, depth, stride, 4, out);
        break;
    }
#endif
}

/* ---- functions ---- */

/* 2^(x / ln 2): the whole part into the exponent, the rest (at most ln 2 / 2) by its Taylor series up
 * to r^7, whose next term is below 2^-27. Arguments past +-87 would leave the normal numbers. */
INLINE lanes exponential(lanes x)
{
    const lanes least = -87.0F - (lanes){0}, most = 87.0F - (lanes){0};
    x = pick(x < least, least, x);
    x = pick(x > most, most, x);
    /* adding 1.5 * 2^23 rounds to a whole number in the low bits */
    lanes shifted = x * 1.44269504088896341F + 12582912.0F;
    lane_bits whole = (lane_bits)shifted - 0x4B400000;
    lanes n = shifted - 12582912.0F;
    /* ln 2 in two parts, the first exact in few bits */
    lanes r = x - n * 0.693145751953125F - n * 1.428606765330187e-6F;
    lanes p = 1.0F / 5040 * r + 1.0F / 720;
    p = p * r + 1.0F / 120;
    p = p * r + 1.0F / 24;
    p = p * r + 1.0F / 6;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    return (lanes)((lane_bits)p + (whole << 23));
}

INLINE lanes sigmoid(lanes x)
{
    lanes y = 1.0F / (1.0F + exponential(-x));
    return pick(x == x, y, x); /* what is no number stays so */
}

/* 1 - 2 / (e^2x + 1); near 0 the series, where the difference would lose digits. */
INLINE lanes tangent(lanes x)
{
    lanes far = 1.0F - 2.0F / (exponential(2.0F * x) + 1.0F), square = x * x;
    lanes near = 62.0F / 2835 - square * (1382.0F / 155925);
    near = near * square - 17.0F / 315;
    near = near * square + 2.0F / 15;
    near = near * square - 1.0F / 3;
    near = x + x * square * near;
    lanes y = pick(square < 0.09F - (lanes){0}, near, far);
    return pick(x == x, y, x);
}

INLINE lanes apply(const struct op_unary *function, lanes x)
{
    switch (function->function) {
    case UNARY_TANH:
        return tangent(x);
    case UNARY_SIGMOID:
        return sigmoid(x);
    case UNARY_IDENTITY:
        return x;
    default: {
        float row[RECURRENT_LANES];
        store(row, x);
        own_unary_row(function, row, row, RECURRENT_LANES);
        return load(row);
    }
    }
}

/* ---- cells ---- */

#define GATE(i) load(cells->z + (i)*RECURRENT_LANES)

static void simple(const struct recurrent_functions *f, const struct recurrent_cells *cells)
{
    for (int v = 0; v < RECURRENT_VECTORS_MAX; v++)
        store(cells->h + v * RECURRENT_LANES, apply(&f->activation, GATE(v)));
}

static void lstm(const struct recurrent_functions *f, const struct recurrent_cells *cells)
{
    lanes in = apply(&f->gate, GATE(0)), forget = apply(&f->gate, GATE(1));
    lanes c = forget * load(cells->c) + in * apply(&f->activation, GATE(2));
    store(cells->c, c);
    store(cells->h, apply(&f->gate, GATE(3)) * apply(&f->activation, c));
}

static void gru(const struct recurrent_functions *f, const struct recurrent_cells *cells)
{
    const float *u = cells->u;
    lanes update = apply(&f->gate, GATE(0) + load(u));
    lanes reset = apply(&f->gate, GATE(1) + load(u + RECURRENT_LANES));
    lanes new = apply(&f->activation, GATE(2) + reset * load(u + 2 * RECURRENT_LANES));
    store(cells->h, new + update *(load(cells->before) - new));
}

static void gru_gates(const struct recurrent_functions *f, const struct recurrent_cells *cells)
{
    store(cells->update, apply(&f->gate, GATE(0)));
    store(cells->reset, apply(&f->gate, GATE(1)) * load(cells->before));
}

static void gru_candidate(const struct recurrent_functions *f, const struct recurrent_cells *cells)
{
    for (int v = 0; v < RECURRENT_VECTORS_MAX; v++) {
        int at = v * RECURRENT_LANES;
        lanes new = apply(&f->activation, GATE(v)), update = load(cells->update + at);
        store(cells->h + at, new + update *(load(cells->before + at) - new));
    }
}

#define TABLE_NAME2(set) recurrent_kernels_##set
#define TABLE_NAME(set)  TABLE_NAME2(set)

const struct recurrent_kernels TABLE_NAME(RECURRENT_SET) = {tile, simple,    lstm,
                                                            gru,  gru_gates, gru_candidate};

#endif
