/* Elements of one type into another, for data that come from files. Pure. */
#ifndef LAYERTOP_ENGINE_CONVERT_H
#define LAYERTOP_ENGINE_CONVERT_H

#include "engine/tensor.h"

/* One element at `data` (any alignment) as a double; exact for all types but int64 past 2^53. */
double convert_read(const void *data, enum dtype dtype);
/* Store a value as `dtype` (F32, integers, BOOL); out-of-range and NaN integers saturate to the
 * nearest end, NaN to 0. */
void convert_write(void *data, enum dtype dtype, double value);
/* `count` dense elements from one type to another. */
void convert_many(const void *in, enum dtype from, void *out, enum dtype to, size_t count);

#endif
