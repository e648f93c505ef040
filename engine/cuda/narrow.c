#include "engine/cuda/narrow.h"
#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* IEEE 754 binary16 by its definition. */
static uint16_t to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t rest = bits & 0x7fffffff;

    if (rest > 0x7f800000) {
        return sign | 0x7e00; /* a NaN */
    }
    if (rest >= 0x477ff000) { /* 65520 and more round to infinity */
        return sign | 0x7c00;
    }
    if (rest < 0x38800000) { /* below 2^-14: counted in steps of 2^-24; rint() rounds as we do */
        float magnitude;
        memcpy(&magnitude, &rest, sizeof magnitude);
        return sign | (uint16_t)rintf(magnitude * 16777216.0f);
    }
    uint32_t odd = rest >> 13 & 1;
    return sign | (uint16_t)((rest + 0xfff + odd - 0x38000000) >> 13);
}

static uint16_t to_bfloat(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) {
        return (uint16_t)(bits >> 16 | 0x40); /* rounding could make an infinity of a NaN */
    }
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static size_t many_halves(const float *from, uint16_t *to,
                                                              size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i eight = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
        memcpy(to + i, &eight, sizeof eight);
    }
    return i;
}
#endif

size_t narrow_many(const float *from, void *to, enum dtype dtype, size_t count)
{
    uint16_t *out = to, infinite = dtype == DTYPE_F16 ? 0x7c00 : 0x7f80;
    size_t done = 0, lost = 0;

#if defined(__x86_64__)
    if (dtype == DTYPE_F16 && __builtin_cpu_supports("f16c")) {
        done = many_halves(from, out, count);
    }
#endif
    for (size_t i = done; i < count; i++) {
        out[i] = dtype == DTYPE_F16 ? to_half(from[i]) : to_bfloat(from[i]);
    }
    for (size_t i = 0; i < count; i++) {
        lost += (out[i] & 0x7fff) == infinite && isfinite(from[i]);
    }
    return lost;
}
