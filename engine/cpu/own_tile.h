/* AMX tiles: what our kernels for them share. Only for files that compile such functions, by
 * attribute and whatever the compiler's flags are; they run where own_has_amx_bf16() says so. */
#ifndef LAYERTOP_ENGINE_CPU_OWN_TILE_H
#define LAYERTOP_ENGINE_CPU_OWN_TILE_H

#include "engine/cpu/own_avx512.h"
#include <string.h>

#ifdef OWN_AVX512
#define OWN_TILE 16 /* rows of a tile, and its columns of float32 */
#define OWN_AMX  __attribute__((target(OWN_ISA ",amx-tile,amx-bf16")))
#define OWN_AMX_INLINE                                                                             \
    static inline __attribute__((always_inline, target(OWN_ISA ",amx-tile,amx-bf16")))

struct own_tile_config { /* the layout that LDTILECFG reads */
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* GCC's intrinsic tells it that only the first eight bytes are read: without the barrier it may leave
 * the others unwritten. */
OWN_AMX_INLINE void own_tile_load(const struct own_tile_config *config)
{
    __asm__ volatile("" : : "r"(config) : "memory");
    _tile_loadconfig(config);
}

/* The configuration that is in force: oneDNN may count on its own. */
OWN_AMX_INLINE void own_tile_save(struct own_tile_config *before)
{
    _tile_storeconfig(before);
}

OWN_AMX_INLINE void own_tile_restore(const struct own_tile_config *before)
{
    if (before->palette)
        own_tile_load(before);
    else
        _tile_release();
}

/* All eight tiles whole: 16 rows of 64 bytes. */
OWN_AMX_INLINE void own_tile_whole(void)
{
    struct own_tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = OWN_TILE;
        config.row_bytes[i] = 64;
    }
    own_tile_load(&config);
}

/* The transpose of 16 rows of 16 words, four by four and then the fours. */
OWN_INLINE void own_transpose16(__m512i rows[16])
{
    __m512i pairs[16], fours[16];
    for (int i = 0; i < 8; i++) {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* fours[i + j]: of rows i .. i + 3 the columns 4 lane + j */
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        __m512i even = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
        __m512i odd = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
        __m512i even_end = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
        __m512i odd_end = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
        rows[j] = _mm512_shuffle_i32x4(even, even_end, 0x88);
        rows[4 + j] = _mm512_shuffle_i32x4(odd, odd_end, 0x88);
        rows[8 + j] = _mm512_shuffle_i32x4(even, even_end, 0xdd);
        rows[12 + j] = _mm512_shuffle_i32x4(odd, odd_end, 0xdd);
    }
}

/* a0 b0 a1 b1 ... of the lower and of the upper halves of 32 values each. */
OWN_INLINE __m512i own_interleave_low(__m512i a, __m512i b)
{
    const __m512i order =
        _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                         37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    return _mm512_permutex2var_epi16(a, order, b);
}

OWN_INLINE __m512i own_interleave_high(__m512i a, __m512i b)
{
    const __m512i order =
        _mm512_set_epi16(63, 31, 62, 30, 61, 29, 60, 28, 59, 27, 58, 26, 57, 25, 56, 24, 55, 23, 54,
                         22, 53, 21, 52, 20, 51, 19, 50, 18, 49, 17, 48, 16);
    return _mm512_permutex2var_epi16(a, order, b);
}
#endif
#endif
