/* Weights set to zero: the smallest of a layer, or two of every four; and how many are zero. Pure. */
#ifndef LAYERTOP_ENGINE_PRUNE_H
#define LAYERTOP_ENGINE_PRUNE_H

#include "engine/tensor.h"

/* Set the `fraction` (0..1) of the weights with the smallest magnitudes to zero, rounded down; of
 * equal ones those that come first. */
void prune_smallest(float *weights, size_t count, double fraction);

/* Of every four neighbours along `axis` set the two with the smallest magnitudes to zero (of equal
 * ones the later): the pattern that sparse tensor cores take. What is left over after the last four
 * stays. */
void prune_two_of_four(float *weights, const struct shape *shape, int axis);

struct sparsity {
    uint64_t elements, zeros;
    uint64_t fours, two_of_four; /* whole groups of four along the axis, and those with two zeros */
};

/* Of float32 weights at any byte. Added to *out. */
void sparsity_count(const void *weights, const struct shape *shape, int axis, struct sparsity *out);

#endif
