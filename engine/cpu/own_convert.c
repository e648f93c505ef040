/* bfloat16 to float32 and back. */
#include "engine/cpu/own.h"
#include <string.h>

OWN_VECTOR void own_widen_row(const uint16_t *from, float *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

OWN_VECTOR void own_narrow_row(const float *from, uint16_t *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &from[i], sizeof bits);
        uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        uint32_t quiet = bits >> 16 | 64;
        to[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
    }
}

#define PIECE 8192

void own_widen(const uint16_t *from, float *to, int64_t count)
{
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t at = 0; at < count; at += PIECE)
        own_widen_row(from + at, to + at, count - at < PIECE ? count - at : PIECE);
}

void own_narrow(const float *from, uint16_t *to, int64_t count)
{
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t at = 0; at < count; at += PIECE)
        own_narrow_row(from + at, to + at, count - at < PIECE ? count - at : PIECE);
}
