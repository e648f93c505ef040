#include "engine/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Magnitudes of floats are ordered like their bits without the sign. */
static uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}

/* The digit in which the magnitude with `rank` smaller ones falls, among those whose upper half is
 * `upper` (upper < 0: by the upper half itself); *rank becomes its rank within that digit. */
static uint32_t select_digit(const float *weights, size_t count, int64_t upper, size_t *rank)
{
    size_t *counts = calloc(65536, sizeof *counts);
    uint32_t digit = 0;
    for (size_t i = 0; counts && i < count; i++) {
        uint32_t bits = magnitude(weights[i]);
        if (upper < 0)
            counts[bits >> 16]++;
        else if (bits >> 16 == (uint32_t)upper)
            counts[bits & 0xffff]++;
    }
    for (; counts && digit < 65535 && *rank >= counts[digit]; digit++)
        *rank -= counts[digit];
    free(counts);
    return digit;
}

void prune_smallest(float *weights, size_t count, double fraction)
{
    size_t zeros = (size_t)floor(fraction * (double)count), rank = zeros;
    if (zeros == 0)
        return;
    if (zeros >= count) {
        memset(weights, 0, count * sizeof *weights);
        return;
    }
    uint32_t upper = select_digit(weights, count, -1, &rank);
    uint32_t bound = upper << 16 | select_digit(weights, count, upper, &rank);
    /* `rank` of those that equal the bound go too */
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = magnitude(weights[i]);
        if (bits < bound || (bits == bound && rank > 0)) {
            rank -= bits == bound;
            weights[i] = 0;
        }
    }
}

/* The axis of a shape as outer, axis, inner. */
static void split(const struct shape *shape, int axis, int64_t *outer, int64_t *inner)
{
    *outer = *inner = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (i != axis)
            *(i < axis ? outer : inner) *= shape->dims[i];
    }
}

static void prune_four(float *weights, int64_t stride)
{
    bool kept[4] = {false, false, false, false};
    for (int take = 0; take < 2; take++) {
        int best = -1;
        for (int i = 0; i < 4; i++) {
            if (!kept[i] &&
                (best < 0 || magnitude(weights[i * stride]) > magnitude(weights[best * stride])))
                best = i;
        }
        kept[best] = true;
    }
    for (int i = 0; i < 4; i++) {
        if (!kept[i])
            weights[i * stride] = 0;
    }
}

void prune_two_of_four(float *weights, const struct shape *shape, int axis)
{
    int64_t outer, inner, length = shape->dims[axis];
    split(shape, axis, &outer, &inner);
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t four = 0; four + 4 <= length; four += 4) {
            for (int64_t i = 0; i < inner; i++)
                prune_four(weights + (o * length + four) * inner + i, inner);
        }
    }
}

static bool is_zero(const void *weights, int64_t at)
{
    float value;
    memcpy(&value, (const char *)weights + (size_t)at * sizeof value, sizeof value);
    return value == 0;
}

void sparsity_count(const void *weights, const struct shape *shape, int axis, struct sparsity *out)
{
    int64_t outer, inner, length = shape->dims[axis], count = shape_elements(shape);
    split(shape, axis, &outer, &inner);
    out->elements += (uint64_t)count;
    for (int64_t i = 0; i < count; i++)
        out->zeros += is_zero(weights, i);
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t four = 0; four + 4 <= length; four += 4) {
            int64_t at = (o * length + four) * inner;
            for (int64_t i = 0; i < inner; i++, at++) {
                int zeros = is_zero(weights, at) + is_zero(weights, at + inner) +
                            is_zero(weights, at + 2 * inner) + is_zero(weights, at + 3 * inner);
                out->fours++;
                out->two_of_four += zeros >= 2;
            }
        }
    }
}
