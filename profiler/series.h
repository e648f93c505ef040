/* A series: a ring of samples and, above it, a pyramid of time bins that hold (min, max, sum,
 * count), so that any zoom costs the width of the plot and memory is constant for ever.
 *
 * Level k has `bins` bins of base_ns * 4^k. A sample falls into one bin of each level. A read picks
 * the finest level that is not finer than needed and still reaches back far enough; a bin belongs
 * to the column in which it begins, so each sample is drawn in exactly one column.
 *
 * A sample may stand for a span of time that ends with it (a window of 100 ms, a step of 5 s).
 * Columns that lie in such a span and have no sample of their own repeat its value; time that no
 * span covers is a gap.
 *
 * One thread owns a series (the front's). Readers: store.h.
 */
#ifndef LAYERTOP_PROFILER_SERIES_H
#define LAYERTOP_PROFILER_SERIES_H

#include "profiler/store.h"

struct series_shape {
    size_t ring; /* samples kept one by one */
    size_t bins; /* per level */
    size_t levels;
    int64_t base_ns; /* width of a bin of the finest level */
};

/* Bytes that a series of this shape occupies, all in all. */
size_t series_bytes(const struct series_shape *shape);
struct series *series_new(const struct series_shape *shape);
void series_free(struct series *series);
void series_clear(struct series *series);

/* Append a sample that stands for (time - span, time]. Times that run back are moved up to the
 * newest one. NaN, or a number a float cannot hold, is ignored: that is what a gap is. */
void series_push(struct series *series, int64_t time_ns, int64_t span_ns, double value);
/* Newest sample's time; 0 if empty. */
int64_t series_time_ns(const struct series *series);

#endif
