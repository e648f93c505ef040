/* Normalisation of rows: layer and root mean square. A row is read three times, block by block, and
 * stays in the first-level cache for it: for the mean, for the deviations from it, for the result. */
#include "engine/cpu/own.h"
#include <math.h>

/* Elements that are summed in float32, in lanes, before they join the total in double; and that are
 * widened at a time. */
#define BLOCK 1024

OWN_WIDE_VECTOR static float sum_of(const float *x, int64_t count)
{
    float sum[OWN_LANES] = {0};
    int64_t i = 0;
    for (; i + OWN_LANES <= count; i += OWN_LANES) {
        for (int lane = 0; lane < OWN_LANES; lane++)
            sum[lane] += x[i + lane];
    }
    for (; i < count; i++)
        sum[0] += x[i];
    for (int lane = 1; lane < OWN_LANES; lane++)
        sum[0] += sum[lane];
    return sum[0];
}

OWN_WIDE_VECTOR static float squares_of(const float *x, float centre, int64_t count)
{
    float sum[OWN_LANES] = {0};
    int64_t i = 0;
    for (; i + OWN_LANES <= count; i += OWN_LANES) {
        for (int lane = 0; lane < OWN_LANES; lane++) {
            float apart = x[i + lane] - centre;
            sum[lane] += apart * apart;
        }
    }
    for (; i < count; i++)
        sum[0] += (x[i] - centre) * (x[i] - centre);
    for (int lane = 1; lane < OWN_LANES; lane++)
        sum[0] += sum[lane];
    return sum[0];
}

OWN_WIDE_VECTOR static void finish(const float *x, float centre, float scale, const float *gamma,
                                   const float *beta, float *y, int64_t count)
{
    if (gamma && beta) {
        for (int64_t i = 0; i < count; i++)
            y[i] = (x[i] - centre) * scale * gamma[i] + beta[i];
        return;
    }
    for (int64_t i = 0; i < count; i++)
        y[i] = (x[i] - centre) * scale;
    for (int64_t i = 0; gamma && i < count; i++)
        y[i] *= gamma[i];
    for (int64_t i = 0; beta && i < count; i++)
        y[i] += beta[i];
}

/* Elements of a row as float32: themselves, or widened into `wide`. */
static const float *floats(const struct own_call *call, int64_t at, int64_t count, float *wide)
{
    if (call->element_bytes == sizeof(float))
        return (const float *)call->inputs[0] + at;
    own_widen_row((const uint16_t *)call->inputs[0] + at, wide, count);
    return wide;
}

static void normalise_row(const struct own_call *call, int64_t from, int64_t width)
{
    const struct op_normalise *op = &call->op->normalise;
    float wide[BLOCK];
    double mean = 0, square = 0;
    for (int64_t at = 0; at < width && !op->rms; at += BLOCK) {
        int64_t count = width - at < BLOCK ? width - at : BLOCK;
        mean += (double)sum_of(floats(call, from + at, count, wide), count);
    }
    float centre = (float)(mean / (double)width);
    for (int64_t at = 0; at < width; at += BLOCK) {
        int64_t count = width - at < BLOCK ? width - at : BLOCK;
        square += (double)squares_of(floats(call, from + at, count, wide), centre, count);
    }
    float scale = (float)(1 / sqrt(square / (double)width + (double)op->epsilon));
    for (int64_t at = 0; at < width; at += BLOCK) {
        int64_t count = width - at < BLOCK ? width - at : BLOCK;
        bool narrow = call->element_bytes != sizeof(float);
        float *y = narrow ? wide : (float *)call->output + from + at;
        finish(floats(call, from + at, count, wide), centre, scale,
               op->gamma ? op->gamma->data + at : NULL, op->beta ? op->beta->data + at : NULL, y,
               count);
        if (narrow)
            own_narrow_row(y, (uint16_t *)call->output + from + at, count);
    }
}

void own_normalise(const struct own_call *call)
{
    const struct op_normalise *op = &call->op->normalise;
    const struct shape *shape = &call->graph->values[call->op->outputs[0]].shape;
    int64_t width = 1;
    for (int i = op->axis; i < shape->rank; i++)
        width *= shape->dims[i];
    int64_t rows = shape_elements(shape) / width;
#pragma omp parallel for if (rows * width > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++)
        normalise_row(call, row * width, width);
}
