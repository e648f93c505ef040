/* What our bfloat16 kernels for AVX-512 share: conversions, activations, and the tail of a
 * convolution. Only for files that compile such functions, by attribute and whatever the compiler's
 * flags are; they run where own_has_avx512_bf16() says so.
 *
 * An activation here is good to 2^-13 of its value, gelu to 2^-11: bfloat16 keeps 8 bits.
 */
#ifndef LAYERTOP_ENGINE_CPU_OWN_AVX512_H
#define LAYERTOP_ENGINE_CPU_OWN_AVX512_H

#include "engine/cpu/own.h"

#ifdef OWN_AVX512
#include <immintrin.h>

#define OWN_ISA    "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"
#define OWN_BF16   __attribute__((target(OWN_ISA)))
#define OWN_INLINE static inline __attribute__((always_inline, target(OWN_ISA)))

/* 2^t: 2^floor(t) times a polynomial in what is left, which is in 0..1: the minimax one of degree 3
 * is off by 7.5e-5. */
OWN_INLINE __m512 own_exp2_16(__m512 t)
{
    __m512 f = _mm512_reduce_ps(t, 0x09); /* t - floor(t) */
    __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(0.07802452F), _mm512_set1_ps(0.22606716F));
    p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(0.69583354F));
    p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(0.99992522F));
    return _mm512_scalef_ps(p, t); /* p 2^floor(t) */
}

/* 1 / (1 + e^-x); the reciprocal is off by 6.1e-5. */
OWN_INLINE __m512 own_sigmoid16(__m512 x)
{
    __m512 e = own_exp2_16(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504F)));
    return _mm512_rcp14_ps(_mm512_add_ps(e, _mm512_set1_ps(1)));
}

/* x Phi(x), the error function's gelu. Phi(x) is the sigmoid of an odd function, here x times a
 * polynomial in x^2 that a minimax fit gave for |x| < 5: it is off by 4e-4, and so is what is small;
 * what is positive by half of that. Beyond, the last factor stays. */
OWN_INLINE __m512 own_gelu_erf16(__m512 x)
{
    __m512 u = _mm512_min_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(25));
    __m512 p = _mm512_set1_ps(-2.01215963e-8F);
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(1.42336360e-6F));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-2.72594861e-5F));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(-5.87661588e-4F));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(7.40784611e-2F));
    p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(1.59467577F));
    return _mm512_mul_ps(x, own_sigmoid16(_mm512_mul_ps(x, p)));
}

/* x (1 + tanh(t)) / 2 with t = sqrt(2 / pi) (x + 0.044715 x^3), which is x sigmoid(2 t). */
OWN_INLINE __m512 own_gelu_tanh16(__m512 x)
{
    __m512 p = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.0713548163F),
                               _mm512_set1_ps(1.59576912F));
    return _mm512_mul_ps(x, own_sigmoid16(_mm512_mul_ps(x, p)));
}

/* One of the functions that own_tail_of() accepts; a constant where this is inlined. */
OWN_INLINE __m512 own_activate16(enum unary_function function, __m512 most, __m512 x)
{
    const __m512 zero = _mm512_setzero_ps();
    switch (function) {
    case UNARY_RELU:
        return _mm512_min_ps(_mm512_max_ps(x, zero), most);
    case UNARY_SILU:
        return _mm512_mul_ps(x, own_sigmoid16(x));
    case UNARY_SIGMOID:
        return own_sigmoid16(x);
    case UNARY_GELU_ERF:
        return own_gelu_erf16(x);
    case UNARY_GELU_TANH:
        return own_gelu_tanh16(x);
    case UNARY_HARD_SILU: {
        __m512 gate = _mm512_fmadd_ps(x, _mm512_set1_ps(1.0F / 6), _mm512_set1_ps(0.5F));
        return _mm512_mul_ps(x, _mm512_min_ps(_mm512_max_ps(gate, zero), _mm512_set1_ps(1)));
    }
    default:
        return x;
    }
}

/* CALL(function) with each function as a constant. */
#define OWN_EACH_FUNCTION(chosen, CALL)                                                            \
    switch (chosen) {                                                                              \
    case UNARY_RELU:                                                                               \
        CALL(UNARY_RELU);                                                                          \
        break;                                                                                     \
    case UNARY_SILU:                                                                               \
        CALL(UNARY_SILU);                                                                          \
        break;                                                                                     \
    case UNARY_SIGMOID:                                                                            \
        CALL(UNARY_SIGMOID);                                                                       \
        break;                                                                                     \
    case UNARY_GELU_ERF:                                                                           \
        CALL(UNARY_GELU_ERF);                                                                      \
        break;                                                                                     \
    case UNARY_GELU_TANH:                                                                          \
        CALL(UNARY_GELU_TANH);                                                                     \
        break;                                                                                     \
    case UNARY_HARD_SILU:                                                                          \
        CALL(UNARY_HARD_SILU);                                                                     \
        break;                                                                                     \
    default:                                                                                       \
        CALL(UNARY_IDENTITY);                                                                      \
        break;                                                                                     \
    }

/* bfloat16 is the upper half of a float. */
OWN_INLINE __m512 own_widen16(__m256i half)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* The even and the odd ones of 32 values: cheaper than the lower and the upper half. */
OWN_INLINE __m512 own_even16(__m512i all)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(all, 16));
}

OWN_INLINE __m512 own_odd16(__m512i all)
{
    return _mm512_castsi512_ps(_mm512_and_si512(all, _mm512_set1_epi32((int)0xffff0000)));
}

/* Back to 32 values in their order. */
OWN_INLINE __m512i own_narrow_halves(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

OWN_INLINE __m512i own_narrow_even_odd(__m512 even, __m512 odd)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, own_narrow_halves(even, odd));
}

/* The lanes of a block of 32 channels that are there. */
static inline uint32_t own_mask32(int64_t channels)
{
    return channels >= 32 ? UINT32_MAX : ((uint32_t)1 << channels) - 1;
}

static inline uint16_t own_mask16(int64_t lanes)
{
    return lanes >= 16 ? UINT16_MAX : (uint16_t)((1U << lanes) - 1);
}

#endif
#endif
