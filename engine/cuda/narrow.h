/* float32 into half types on the host: weights, once when they are uploaded. Pure. */
#ifndef LAYERTOP_ENGINE_CUDA_NARROW_H
#define LAYERTOP_ENGINE_CUDA_NARROW_H

#include "engine/tensor.h"

/* `count` floats as DTYPE_F16 or DTYPE_BF16 (both rounded to nearest, ties to even; a NaN stays
 * one). Returns how many finite values became infinite. */
size_t narrow_many(const float *from, void *to, enum dtype dtype, size_t count);

#endif
