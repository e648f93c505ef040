/* Recurrent layers on the CPU: what the driver (recurrent.c) and the kernels (recurrent_kernel.h, one
 * set for each instruction set) share. Private to the CPU backend.
 *
 * A weight matrix (K, gates * H) is cut into panels of RECURRENT_LANES units (or four times as many
 * where there is one gate): a panel holds, for each k, one vector of units for each gate, so that one
 * pass over a panel gives everything that its units' cells need. One thread keeps its panels for the
 * whole sequence; they stay in its cache.
 */
#ifndef LAYERTOP_ENGINE_CPU_RECURRENT_H
#define LAYERTOP_ENGINE_CPU_RECURRENT_H

#include "engine/graph/op.h"

#define RECURRENT_LANES       16
#define RECURRENT_ROWS        6 /* of one tile; with 4 vectors each that is 24 accumulators */
#define RECURRENT_VECTORS_MAX 4

struct recurrent_functions {
    struct op_unary activation, gate;
};

/* One sample's cells of one panel, or of as many of its units as there are. */
struct recurrent_cells {
    const float *z;      /* x kernel + bias, and but for `u` + h recurrent; one vector a gate */
    const float *u;      /* GRU with reset_after: h recurrent + its bias */
    const float *before; /* h of the step before */
    float *h, *c;
    float *update, *reset; /* GRU without reset_after: between its two stages */
};

struct recurrent_kernels {
    /* out[i][j] += sum over k of rows[i][k] panel[k][j] for `count` <= RECURRENT_ROWS rows and
     * vectors * RECURRENT_LANES columns. */
    void (*tile)(const float *const *rows, int count, const float *panel, int64_t depth,
                 int vectors, float *out);
    void (*simple)(const struct recurrent_functions *f, const struct recurrent_cells *cells);
    void (*lstm)(const struct recurrent_functions *f, const struct recurrent_cells *cells);
    void (*gru)(const struct recurrent_functions *f, const struct recurrent_cells *cells);
    /* update = gate(z), reset = gate(r) h; then h = update h + (1 - update) f(z) */
    void (*gru_gates)(const struct recurrent_functions *f, const struct recurrent_cells *cells);
    void (*gru_candidate)(const struct recurrent_functions *f, const struct recurrent_cells *cells);
};

extern const struct recurrent_kernels recurrent_kernels_plain;
/* recurrent_bf16.c: the same product over bfloat16, where own_has_avx512_bf16(). The depth is a
 * multiple of RECURRENT_DEPTH: rows and panels end in zeros. */
#define RECURRENT_DEPTH 32
#define RECURRENT_BLOCK 16 /* rows of recurrent_bf16_block(), or twice as many */
void recurrent_bf16_rows(const uint16_t *const *rows, int count, const uint16_t *panel,
                         int64_t depth, int vectors, float *out);
/* Of 16 or 32 rows that lie `pitch` apart, where own_has_amx_bf16(), between begin and end in a
 * thread. */
void recurrent_bf16_block(const uint16_t *rows, int64_t pitch, int count, const uint16_t *panel,
                          int64_t depth, int vectors, float *out);
struct recurrent_tiles {
    unsigned char before[64];
};
void recurrent_bf16_begin(struct recurrent_tiles *before);
void recurrent_bf16_end(const struct recurrent_tiles *before);

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RECURRENT_X86 1
extern const struct recurrent_kernels recurrent_kernels_avx2, recurrent_kernels_avx512;
#endif

#endif
