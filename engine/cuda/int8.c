#include "engine/cuda/int8.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST 127.0f /* of a weight's byte: the negative ones go as far */

static int64_t rounded(int64_t count, int64_t to)
{
    return (count + to - 1) / to * to;
}

struct int8_layout int8_layout_of(const struct shape *shape)
{
    struct int8_layout out = {.units = shape->rank > 0 ? shape->dims[shape->rank - 1] : 1};
    out.depth = out.units > 0 ? shape_elements(shape) / out.units : 0;
    out.pitch = rounded(out.depth, 32);
    out.wide = rounded(out.units, 16);
    out.steps_at = (uint64_t)(out.pitch * out.wide);
    out.sums_at = out.steps_at + (uint64_t)out.wide * sizeof(float);
    out.bytes = out.sums_at + (uint64_t)out.wide * sizeof(int32_t);
    return out;
}

static void find_steps(const float *data, const struct int8_layout *layout, float *steps)
{
    for (int64_t i = 0; i < layout->depth; i++, data += layout->units) {
        for (int64_t k = 0; k < layout->units; k++) {
            steps[k] = fmaxf(steps[k], fabsf(data[k]));
        }
    }
    for (int64_t k = 0; k < layout->wide; k++) {
        steps[k] = steps[k] > 0 && isfinite(steps[k]) ? steps[k] / MOST : 1;
    }
}

void *int8_weights(const struct shape *shape, const float *data)
{
    struct int8_layout layout = int8_layout_of(shape);
    int8_t *bytes = calloc(layout.bytes > 0 ? layout.bytes : 1, 1);
    if (bytes == NULL) {
        return NULL;
    }
    float *steps = (float *)(void *)(bytes + layout.steps_at);
    int32_t *sums = (int32_t *)(void *)(bytes + layout.sums_at);
    find_steps(data, &layout, steps);
    for (int64_t k = 0; k < layout.units; k++) {
        float inverse = 1 / steps[k];
        for (int64_t i = 0; i < layout.depth; i++) {
            float scaled = rintf(data[i * layout.units + k] * inverse);
            /* a NaN becomes the least, as on the CPU */
            scaled = scaled > MOST ? MOST : scaled > -MOST ? scaled : -MOST;
            bytes[k * layout.pitch + i] = (int8_t)scaled;
            sums[k] += (int32_t)scaled;
        }
    }
    return bytes;
}
