/* Elementwise rows and pooling in bfloat16 with AVX-512: what own.c and the builders use where
 * own_has_avx512_bf16(). Threads: any; these loops do not share out their work, but for the pool. */
#ifndef LAYERTOP_ENGINE_CPU_OWN_BF16_H
#define LAYERTOP_ENGINE_CPU_OWN_BF16_H

#include "engine/cpu/own.h"

/* One operand of rows: where it begins; how far it moves from element to element (0 or 1), and from
 * row to row. */
struct own_rows {
    const uint16_t *from;
    int64_t step, stride;
};

/* Is this function one of those below? */
bool own_bf16_has_binary(enum binary_function function);
bool own_bf16_has_unary(const struct op_unary *unary);

/* y[row][i] = a OP b over rows of n; y is dense and may be a or b. */
void own_bf16_binary(enum binary_function function, const struct own_rows *a,
                     const struct own_rows *b, uint16_t *y, int64_t n, int64_t rows);
/* y = function(x); y may be x. */
void own_bf16_unary(const struct op_unary *unary, const uint16_t *x, uint16_t *y, int64_t n);

/* own_pool.c: two spatial axes, the maximum, without posts. */
bool own_bf16_has_pool(const struct op_pool *pool);
own_kernel own_bf16_pool;

#endif
