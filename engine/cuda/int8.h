/* Products of bytes: weights as cuBLASLt's int8 kernels want them.
 *
 * The numbers are the CPU's (engine/cpu/quantise.h): x = step q for each value, a step of its own for
 * each output channel of the weights. cuBLASLt multiplies signed bytes only, so a q that is 0..255 is
 * stored as q - 128, and 128 times the sum of a channel's weights is added to its products. */
#ifndef LAYERTOP_ENGINE_CUDA_INT8_H
#define LAYERTOP_ENGINE_CUDA_INT8_H

#include "engine/graph/graph.h"

/* More products than these could overflow 32 bits: 65536 x 255 x 127 do not. */
#define INT8_DEPTH_MAX 65536

/* A constant (..., units) as bytes: `wide` rows of `pitch`, one for each unit with zeros behind and
 * below it; then, for each, the step as a float and the sum of the bytes as an int32. cuBLASLt asks
 * for multiples of 4, and is faster with 16 bytes ("cublasLtMatmul", cuBLAS's documentation). */
struct int8_layout {
    int64_t depth, units, pitch, wide;
    uint64_t steps_at, sums_at, bytes;
};

struct int8_layout int8_layout_of(const struct shape *shape);
/* The bytes of weights; the caller frees them. NULL: no memory. */
void *int8_weights(const struct shape *shape, const float *data);

#endif
