/* Products of recurrent layers in bfloat16: rows of inputs or states by a panel of weights. A panel
 * holds, for every two k, one vector of units for each gate, in which the two weights of a unit lie
 * side by side: what both VDPBF16PS and a tile of AMX want as their second operand. */
#include "engine/cpu/own_tile.h"
#include "engine/cpu/recurrent.h"

#ifdef OWN_AVX512
/* Two sums where there are few rows: one chain of additions would wait for itself. */
OWN_INLINE void tile_of(const uint16_t *const *rows, const int count, const uint16_t *panel,
                        int64_t depth, const int vectors, float *out)
{
    const int ways = count <= 2 ? 2 : 1;
    __m512 sum[RECURRENT_ROWS][RECURRENT_VECTORS_MAX], more[2][RECURRENT_VECTORS_MAX];
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            sum[i][v] = _mm512_loadu_ps(out + (i * vectors + v) * RECURRENT_LANES);
            if (ways == 2)
                more[i][v] = _mm512_setzero_ps();
        }
    }
    for (int64_t k = 0; k < depth; k += 2 * ways) {
#pragma GCC unroll 2
        for (int way = 0; way < ways; way++, panel += vectors * 2 * RECURRENT_LANES) {
#pragma GCC unroll 6
            for (int i = 0; i < count; i++) {
                int32_t pair;
                memcpy(&pair, rows[i] + k + 2 * way, sizeof pair);
                __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) {
                    __m512bh b = (__m512bh)_mm512_loadu_si512(panel + v * 2 * RECURRENT_LANES);
                    __m512 *to = ways == 2 && way == 1 ? &more[i][v] : &sum[i][v];
                    *to = _mm512_dpbf16_ps(*to, a, b);
                }
            }
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            __m512 all = ways == 2 ? _mm512_add_ps(sum[i][v], more[i][v]) : sum[i][v];
            _mm512_storeu_ps(out + (i * vectors + v) * RECURRENT_LANES, all);
        }
    }
}

#define ROWS_OF(n)                                                                                 \
    case n:                                                                                        \
        tile_of(rows, n, panel, depth, vectors, out);                                              \
        break

OWN_INLINE void tile_rows(const uint16_t *const *rows, int count, const uint16_t *panel,
                          int64_t depth, const int vectors, float *out)
{
    switch (count) {
        ROWS_OF(1);
        ROWS_OF(2);
        ROWS_OF(3);
        ROWS_OF(4);
        ROWS_OF(5);
    default:
        tile_of(rows, 6, panel, depth, vectors, out);
        break;
    }
}

OWN_BF16 void recurrent_bf16_rows(const uint16_t *const *rows, int count, const uint16_t *panel,
                                  int64_t depth, int vectors, float *out)
{
    if (vectors == 3)
        tile_rows(rows, count, panel, depth, 3, out);
    else
        tile_rows(rows, count, panel, depth, 4, out);
}

/* 32 rows by two vectors of the panel or its last one. Tiles 0..3 are sums, 4 and 5 rows, 6 and 7
 * weights, which are read half as often as for 16 rows at a time. */
OWN_AMX static void block_of_32(const uint16_t *rows, int64_t pitch, const uint16_t *panel,
                                int64_t depth, int vectors, bool both, float *out)
{
    int64_t bytes = pitch * 2, weights = vectors * 64, width = vectors * 64;
    float *lower = out + OWN_TILE * vectors * RECURRENT_LANES;
    _tile_loadd(0, out, width);
    _tile_loadd(2, lower, width);
    if (both) {
        _tile_loadd(1, out + RECURRENT_LANES, width);
        _tile_loadd(3, lower + RECURRENT_LANES, width);
    }
    for (int64_t k = 0; k < depth; k += 2 * OWN_TILE, panel += vectors * 2 * OWN_TILE * OWN_TILE) {
        _tile_loadd(4, rows + k, bytes);
        _tile_loadd(6, panel, weights);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, rows + OWN_TILE * pitch + k, bytes);
        _tile_dpbf16ps(2, 5, 6);
        if (both) {
            _tile_loadd(7, panel + 2 * OWN_TILE, weights);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, out, width);
    _tile_stored(2, lower, width);
    if (both) {
        _tile_stored(1, out + RECURRENT_LANES, width);
        _tile_stored(3, lower + RECURRENT_LANES, width);
    }
}

/* Tiles 0..3 are sums, 4 is rows, 5 to 7 weights. */
OWN_AMX void recurrent_bf16_block(const uint16_t *rows, int64_t pitch, int count,
                                  const uint16_t *panel, int64_t depth, int vectors, float *out)
{
    for (int v = 0; count == 2 * OWN_TILE && v < vectors; v += 2)
        block_of_32(rows, pitch, panel + v * 2 * OWN_TILE, depth, vectors, v + 1 < vectors,
                    out + v * RECURRENT_LANES);
    if (count == 2 * OWN_TILE)
        return;
    int64_t bytes = pitch * 2, weights = vectors * 64, width = vectors * 64;
    _tile_loadd(0, out, width);
    _tile_loadd(1, out + RECURRENT_LANES, width);
    _tile_loadd(2, out + 2 * RECURRENT_LANES, width);
    if (vectors == 4)
        _tile_loadd(3, out + 3 * RECURRENT_LANES, width);
    for (int64_t k = 0; k < depth; k += 2 * OWN_TILE, panel += vectors * 2 * OWN_TILE * OWN_TILE) {
        _tile_loadd(4, rows + k, bytes);
        _tile_loadd(5, panel, weights);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, panel + 2 * OWN_TILE, weights);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, panel + 4 * OWN_TILE, weights);
        _tile_dpbf16ps(2, 4, 7);
        if (vectors == 4) {
            _tile_loadd(5, panel + 6 * OWN_TILE, weights);
            _tile_dpbf16ps(3, 4, 5);
        }
    }
    _tile_stored(0, out, width);
    _tile_stored(1, out + RECURRENT_LANES, width);
    _tile_stored(2, out + 2 * RECURRENT_LANES, width);
    if (vectors == 4)
        _tile_stored(3, out + 3 * RECURRENT_LANES, width);
}

OWN_AMX void recurrent_bf16_begin(struct recurrent_tiles *before)
{
    _Static_assert(sizeof(struct recurrent_tiles) == sizeof(struct own_tile_config), "one layout");
    own_tile_save((struct own_tile_config *)(void *)before);
    own_tile_whole();
}

OWN_AMX void recurrent_bf16_end(const struct recurrent_tiles *before)
{
    own_tile_restore((const struct own_tile_config *)(const void *)before);
}
#else
void recurrent_bf16_rows(const uint16_t *const *rows, int count, const uint16_t *panel,
                         int64_t depth, int vectors, float *out)
{
    (void)rows, (void)count, (void)panel, (void)depth, (void)vectors, (void)out; /* never called */
}

void recurrent_bf16_block(const uint16_t *rows, int64_t pitch, int count, const uint16_t *panel,
                          int64_t depth, int vectors, float *out)
{
    (void)rows, (void)pitch, (void)count, (void)panel, (void)depth, (void)vectors, (void)out;
}

void recurrent_bf16_begin(struct recurrent_tiles *before)
{
    (void)before;
}

void recurrent_bf16_end(const struct recurrent_tiles *before)
{
    (void)before;
}
#endif
