/* Log-bucket histograms of durations: 16 buckets an octave from 32 ns to 2^40 ns (18 minutes).
 *
 * A bucket's value is the geometric middle of its bounds, so that a quantile is off by at most
 * 2^(1/32) - 1 = 2.2 %. Shorter and longer durations fall into the first and the last bucket.
 * Dense histograms live where one is filled all the time, sparse ones where many rest.
 * No locking: each histogram belongs to one thread.
 */
#ifndef LAYERTOP_PROFILER_HISTOGRAM_H
#define LAYERTOP_PROFILER_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_PER_OCTAVE   16
#define HISTOGRAM_FIRST_OCTAVE 5
#define HISTOGRAM_LAST_OCTAVE  40
#define HISTOGRAM_BUCKETS      (HISTOGRAM_PER_OCTAVE * (HISTOGRAM_LAST_OCTAVE - HISTOGRAM_FIRST_OCTAVE))

/* The bucket of a duration; 0 for anything at or below 32 ns. */
int histogram_bucket(int64_t duration_ns);
/* Geometric middle of a bucket, nanoseconds. */
double histogram_value_ns(int bucket);

/* Dense. Only counts[low..high] can be non-zero; empty when low > high. */
struct histogram {
    int low, high;
    uint32_t counts[HISTOGRAM_BUCKETS];
};

/* A histogram must be set up once (memory of any content), then may be cleared often: clearing
 * costs only the touched buckets. */
void histogram_init(struct histogram *histogram);
void histogram_clear(struct histogram *histogram);
void histogram_add(struct histogram *histogram, int bucket, uint32_t count);
/* The q-quantile (0..1) in nanoseconds by nearest rank; NaN if empty. */
double histogram_quantile_ns(const struct histogram *histogram, double q);

/* Sparse: sorted (bucket, count) pairs, grown as needed, never above HISTOGRAM_BUCKETS of them.
 * All zero is a valid empty one; free `cells` at the end. */
struct histogram_cell {
    uint16_t bucket;
    uint32_t count;
};
struct histogram_sparse {
    struct histogram_cell *cells;
    size_t count, capacity;
};
void histogram_sparse_add(struct histogram_sparse *sparse, int bucket, uint32_t count);
double histogram_sparse_quantile_ns(const struct histogram_sparse *sparse, double q);

#endif
