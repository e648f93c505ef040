/* Maximum pooling in bfloat16, channels last, with AVX-512: 32 channels at a time. */
#include "engine/cpu/own_avx512.h"
#include "engine/cpu/own_bf16.h"

#define BLOCK 32

bool own_bf16_has_pool(const struct op_pool *pool)
{
    return own_has_avx512_bf16() && pool->spatial == 2 && pool->function == POOL_MAX;
}

#ifdef OWN_AVX512
/* Floats compare like integers with a sign and a magnitude: turn that into two's complement, and
 * back, which is the same. */
OWN_INLINE __m512i ordered(__m512i x)
{
    __m512i negative = _mm512_srai_epi16(x, 15);
    return _mm512_xor_si512(x, _mm512_and_si512(negative, _mm512_set1_epi16(0x7fff)));
}

/* The cells first..end of a window that begins at `begin` which lie in 0..size. */
static void cells_inside(int64_t begin, int64_t window, int64_t size, int64_t *first, int64_t *end)
{
    *first = begin < 0 ? 0 : begin;
    *end = begin + window < size ? begin + window : size;
}

OWN_BF16 static void pool_row(const struct own_call *call, int64_t row)
{
    const struct op_pool *pool = &call->op->pool;
    const struct shape *in = &call->graph->values[call->op->inputs[0]].shape;
    const struct shape *out = &call->graph->values[call->op->outputs[0]].shape;
    int64_t channels = in->dims[3], width = out->dims[2], top, bottom;
    const uint16_t *image = (const uint16_t *)call->inputs[0] +
                            row / out->dims[1] * in->dims[1] * in->dims[2] * channels;
    uint16_t *y = (uint16_t *)call->output + row * width * channels;
    cells_inside(row % out->dims[1] * pool->stride[0] - pool->pad_before[0], pool->window[0],
                 in->dims[1], &top, &bottom);
    for (int64_t x = 0; x < width; x++, y += channels) {
        int64_t left, right;
        cells_inside(x * pool->stride[1] - pool->pad_before[1], pool->window[1], in->dims[2], &left,
                     &right);
        for (int64_t c = 0; c < channels; c += BLOCK) {
            uint32_t mask = own_mask32(channels - c);
            __m512i most = _mm512_set1_epi16(INT16_MIN);
            for (int64_t v = top; v < bottom; v++) {
                const uint16_t *from = image + (v * in->dims[2] + left) * channels + c;
                for (int64_t h = left; h < right; h++, from += channels)
                    most = _mm512_max_epi16(most, ordered(_mm512_maskz_loadu_epi16(mask, from)));
            }
            _mm512_mask_storeu_epi16(y + c, mask, ordered(most));
        }
    }
}

void own_bf16_pool(const struct own_call *call)
{
    const struct shape *out = &call->graph->values[call->op->outputs[0]].shape;
    int64_t rows = out->dims[0] * out->dims[1];
#pragma omp parallel for if (shape_elements(out) > OWN_PARALLEL / 4)
    for (int64_t row = 0; row < rows; row++)
        pool_row(call, row);
}
#else
void own_bf16_pool(const struct own_call *call)
{
    (void)call; /* own_bf16_has_pool() says no */
}
#endif
