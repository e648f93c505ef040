#include "engine/cpu/own_bf16.h"
#include "engine/cpu/own_avx512.h"
#include <math.h>

bool own_bf16_has_binary(enum binary_function function)
{
    return own_has_avx512_bf16() && function != BINARY_POWER;
}

bool own_bf16_has_unary(const struct op_unary *unary)
{
    if (!own_has_avx512_bf16())
        return false;
    return (unary->function == UNARY_RELU && unary->alpha == 0) || unary->function == UNARY_SILU ||
           unary->function == UNARY_SIGMOID || unary->function == UNARY_HARD_SILU ||
           unary->function == UNARY_GELU_ERF || unary->function == UNARY_GELU_TANH;
}

#ifdef OWN_AVX512

OWN_INLINE __m512 combine(enum binary_function function, __m512 u, __m512 v)
{
    switch (function) {
    case BINARY_ADD:
        return _mm512_add_ps(u, v);
    case BINARY_SUBTRACT:
        return _mm512_sub_ps(u, v);
    case BINARY_MULTIPLY:
        return _mm512_mul_ps(u, v);
    case BINARY_DIVIDE:
        return _mm512_div_ps(u, v);
    case BINARY_MAXIMUM:
        return _mm512_max_ps(u, v);
    default:
        return _mm512_min_ps(u, v);
    }
}

/* 32 values from `at` on, or one value 32 times. */
OWN_INLINE __m512i load(const uint16_t *from, int64_t step, int64_t at, uint32_t mask)
{
    return step ? _mm512_maskz_loadu_epi16(mask, from + at) : _mm512_set1_epi16((short)*from);
}

OWN_INLINE void rows_as(enum binary_function function, const struct own_rows *a,
                        const struct own_rows *b, uint16_t *y, int64_t n, int64_t rows)
{
    for (int64_t row = 0; row < rows; row++) {
        const uint16_t *u = a->from + row * a->stride, *v = b->from + row * b->stride;
        for (int64_t i = 0; i < n; i += 32) {
            uint32_t mask = own_mask32(n - i);
            __m512i us = load(u, a->step, i, mask), vs = load(v, b->step, i, mask);
            __m512 even = combine(function, own_even16(us), own_even16(vs));
            __m512 odd = combine(function, own_odd16(us), own_odd16(vs));
            _mm512_mask_storeu_epi16(y + row * n + i, mask, own_narrow_even_odd(even, odd));
        }
    }
}

OWN_BF16 static void binary(enum binary_function function, const struct own_rows *a,
                            const struct own_rows *b, uint16_t *y, int64_t n, int64_t rows)
{
#define EACH(name)                                                                                 \
    case name:                                                                                     \
        rows_as(name, a, b, y, n, rows);                                                           \
        break
    switch (function) {
        EACH(BINARY_ADD);
        EACH(BINARY_SUBTRACT);
        EACH(BINARY_MULTIPLY);
        EACH(BINARY_DIVIDE);
        EACH(BINARY_MAXIMUM);
    default:
        rows_as(BINARY_MINIMUM, a, b, y, n, rows);
        break;
    }
#undef EACH
}

OWN_INLINE void unary_as(enum unary_function function, float most, const uint16_t *x, uint16_t *y,
                         int64_t n)
{
    for (int64_t i = 0; i < n; i += 32) {
        uint32_t mask = own_mask32(n - i);
        __m512i all = _mm512_maskz_loadu_epi16(mask, x + i);
        __m512 even = own_activate16(function, _mm512_set1_ps(most), own_even16(all));
        __m512 odd = own_activate16(function, _mm512_set1_ps(most), own_odd16(all));
        _mm512_mask_storeu_epi16(y + i, mask, own_narrow_even_odd(even, odd));
    }
}

OWN_BF16 static void unary_row(const struct op_unary *unary, const uint16_t *x, uint16_t *y,
                               int64_t n)
{
    float most = unary->function == UNARY_RELU && unary->beta > 0 ? unary->beta : INFINITY;
#define ROW(function) unary_as(function, most, x, y, n)
    OWN_EACH_FUNCTION(unary->function, ROW)
#undef ROW
}

void own_bf16_binary(enum binary_function function, const struct own_rows *a,
                     const struct own_rows *b, uint16_t *y, int64_t n, int64_t rows)
{
    binary(function, a, b, y, n, rows);
}

void own_bf16_unary(const struct op_unary *unary, const uint16_t *x, uint16_t *y, int64_t n)
{
    unary_row(unary, x, y, n);
}
#else
void own_bf16_binary(enum binary_function function, const struct own_rows *a,
                     const struct own_rows *b, uint16_t *y, int64_t n, int64_t rows)
{
    (void)function, (void)a, (void)b, (void)y, (void)n, (void)rows; /* has_binary() says no */
}

void own_bf16_unary(const struct op_unary *unary, const uint16_t *x, uint16_t *y, int64_t n)
{
    (void)unary, (void)x, (void)y, (void)n; /* has_unary() says no */
}
#endif
