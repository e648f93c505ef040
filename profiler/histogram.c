/* Log-bucket histograms: see histogram.h for the scale. */
#include "profiler/histogram.h"

#include "engine/error.h"

#include <math.h>
#include <string.h>

int histogram_bucket(int64_t duration_ns)
{
    if (duration_ns <= INT64_C(1) << HISTOGRAM_FIRST_OCTAVE)
        return 0;
    if (duration_ns >= INT64_C(1) << HISTOGRAM_LAST_OCTAVE)
        return HISTOGRAM_BUCKETS - 1;
    float octaves = log2f((float)duration_ns) - HISTOGRAM_FIRST_OCTAVE;
    int bucket = (int)(octaves * HISTOGRAM_PER_OCTAVE);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

double histogram_value_ns(int bucket)
{
    return exp2(HISTOGRAM_FIRST_OCTAVE + (bucket + 0.5) / HISTOGRAM_PER_OCTAVE);
}

void histogram_init(struct histogram *histogram)
{
    memset(histogram->counts, 0, sizeof histogram->counts);
    histogram->low = HISTOGRAM_BUCKETS;
    histogram->high = -1;
}

void histogram_clear(struct histogram *histogram)
{
    if (histogram->low <= histogram->high)
        memset(histogram->counts + histogram->low, 0,
               (size_t)(histogram->high - histogram->low + 1) * sizeof histogram->counts[0]);
    histogram->low = HISTOGRAM_BUCKETS;
    histogram->high = -1;
}

/* Counts stay at their ceiling rather than wrap: a quantile of 2^32 values is still right enough */
static uint32_t add_saturated(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

void histogram_add(struct histogram *histogram, int bucket, uint32_t count)
{
    histogram->counts[bucket] = add_saturated(histogram->counts[bucket], count);
    if (bucket < histogram->low)
        histogram->low = bucket;
    if (bucket > histogram->high)
        histogram->high = bucket;
}

/* 1-based nearest rank of quantile q among `total` values */
static uint64_t quantile_rank(double q, uint64_t total)
{
    double rank = ceil(q * (double)total);
    return rank < 1 ? 1 : rank > (double)total ? total : (uint64_t)rank;
}

double histogram_quantile_ns(const struct histogram *histogram, double q)
{
    uint64_t total = 0;
    for (int i = histogram->low; i <= histogram->high; i++)
        total += histogram->counts[i];
    if (total == 0)
        return NAN;
    uint64_t rank = quantile_rank(q, total);
    uint64_t seen = 0;
    for (int i = histogram->low; i <= histogram->high; i++) {
        seen += histogram->counts[i];
        if (seen >= rank)
            return histogram_value_ns(i);
    }
    return histogram_value_ns(histogram->high);
}

void histogram_sparse_add(struct histogram_sparse *sparse, int bucket, uint32_t count)
{
    size_t low = 0;
    size_t high = sparse->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sparse->cells[middle].bucket < bucket)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < sparse->count && sparse->cells[low].bucket == bucket) {
        sparse->cells[low].count = add_saturated(sparse->cells[low].count, count);
        return;
    }
    if (sparse->count == sparse->capacity) {
        sparse->capacity = sparse->capacity ? sparse->capacity * 2 : 8;
        sparse->cells = xrealloc(sparse->cells, sparse->capacity * sizeof *sparse->cells);
    }
    memmove(sparse->cells + low + 1, sparse->cells + low,
            (sparse->count - low) * sizeof *sparse->cells);
    sparse->cells[low] = (struct histogram_cell){.bucket = (uint16_t)bucket, .count = count};
    sparse->count++;
}

double histogram_sparse_quantile_ns(const struct histogram_sparse *sparse, double q)
{
    uint64_t total = 0;
    for (size_t i = 0; i < sparse->count; i++)
        total += sparse->cells[i].count;
    if (total == 0)
        return NAN;
    uint64_t rank = quantile_rank(q, total);
    uint64_t seen = 0;
    for (size_t i = 0; i < sparse->count; i++) {
        seen += sparse->cells[i].count;
        if (seen >= rank)
            return histogram_value_ns(sparse->cells[i].bucket);
    }
    return histogram_value_ns(sparse->cells[sparse->count - 1].bucket);
}
