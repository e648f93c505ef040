/* Numbers to bytes and back. */
#include "engine/cpu/own.h"
#include "engine/cpu/quantise.h"

#include <math.h>
#include <string.h>

#define CHUNK 4096 /* numbers that one thread takes at a time */

/* Added to a small number, this leaves its nearest integer, ties to even, in the last bits: what
 * vector units do in one addition. */
#define ROUNDING 12582912.0F /* 1.5 * 2^23 */

OWN_WIDE_VECTOR static void quantise_row(const float *restrict x, uint8_t *restrict q,
                                         int64_t count, float inverse, float least, float most)
{
    for (int64_t i = 0; i < count; i++) {
        float scaled = x[i] * inverse;
        scaled = scaled > least ? scaled : least; /* and NaN */
        scaled = scaled < most ? scaled : most;
        scaled += ROUNDING;
        uint32_t bits;
        memcpy(&bits, &scaled, sizeof bits);
        q[i] = (uint8_t)bits;
    }
}

void own_quantise(const float *x, void *q, int64_t count, const struct value_form *form)
{
    bool positive = form->type == dnnl_u8;
    float inverse = 1 / form->step, least = positive ? 0 : -128, most = positive ? 255 : 127;
    int64_t chunks = (count + CHUNK - 1) / CHUNK;
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        int64_t first = chunk * CHUNK, size = count - first < CHUNK ? count - first : CHUNK;
        quantise_row(x + first, (uint8_t *)q + first, size, inverse, least, most);
    }
}

OWN_WIDE_VECTOR static void largest_rows(const float *restrict weights, int64_t rows,
                                         int64_t channels, float *restrict largest)
{
    for (int64_t row = 0; row < rows; row++, weights += channels) {
        for (int64_t k = 0; k < channels; k++) {
            float magnitude = fabsf(weights[k]);
            largest[k] = magnitude > largest[k] ? magnitude : largest[k];
        }
    }
}

void own_weight_steps(const float *weights, int64_t count, int64_t channels, int64_t inner,
                      float most, float *steps)
{
    memset(steps, 0, (size_t)channels * sizeof *steps);
    if (inner == 1) {
        largest_rows(weights, count / channels, channels, steps);
    } else {
        for (int64_t i = 0; i < count; i++) {
            int64_t k = i / inner % channels;
            steps[k] = fmaxf(steps[k], fabsf(weights[i]));
        }
    }
    for (int64_t k = 0; k < channels; k++)
        steps[k] = steps[k] > 0 && isfinite(steps[k]) ? steps[k] / most : 1;
}

void own_quantise_weights(const float *weights, int64_t count, int64_t channels, int64_t inner,
                          const float *steps, int8_t *q)
{
    int64_t row = channels * inner, rows = count / row;
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < channels; k++) {
            float inverse = 1 / steps[k];
            const float *from = weights + r * row + k * inner;
            for (int64_t i = 0; i < inner; i++) {
                float scaled = rintf(from[i] * inverse);
                q[r * row + k * inner + i] = (int8_t)(scaled > 127    ? 127
                                                      : scaled > -127 ? scaled
                                                                      : -127);
            }
        }
    }
}
