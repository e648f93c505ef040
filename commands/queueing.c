#include "commands/queueing.h"

#include "engine/error.h"

#include <math.h>
#include <stdlib.h>

const double queueing_levels[QUEUEING_QUANTILES] = {0, 0.5, 0.9, 0.95, 0.99, 1};

/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014); in [0, 1). */
static double draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* The quantile `share` of a point's steps, a line between those that are known. */
static double point_time(const struct queueing_point *point, double share)
{
    double before = NAN, level = 0;
    for (size_t i = 0; i < QUEUEING_QUANTILES; i++) {
        double ms = point->ms[i];
        if (isnan(ms))
            continue;
        if (share <= queueing_levels[i]) {
            double span = queueing_levels[i] - level;
            return isnan(before) || span <= 0 ? ms
                                              : before + (ms - before) * (share - level) / span;
        }
        before = ms;
        level = queueing_levels[i];
    }
    return before;
}

static double step_time(const struct queueing *q, int64_t batch, double share)
{
    size_t i = 0;
    while (i + 1 < q->count && q->points[i].batch < batch)
        i++;
    const struct queueing_point *above = &q->points[i];
    if (i == 0 || above->batch <= batch) /* smaller than all: padded to the smallest */
        return point_time(above, share);
    const struct queueing_point *below = above - 1;
    double low = point_time(below, share), high = point_time(above, share);
    return low +
           (high - low) * (double)(batch - below->batch) / (double)(above->batch - below->batch);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double capacity(const struct queueing *q)
{
    double mean = 0;
    for (int i = 0; i < 100; i++)
        mean += step_time(q, q->batch_max, (i + 0.5) / 100) / 100;
    return 1e3 * (double)q->batch_max / mean;
}

/* When the next step starts, given that the engine is free from `free_ms` on and the requests
 * from `next` on wait or will come; *batch says how many it takes. */
static double next_start(const struct queueing *q, const double *arrival, int64_t next,
                         double free_ms, int64_t *batch)
{
    double start = fmax(free_ms, arrival[next]);
    int64_t last = next + q->batch_max - 1; /* with it the batch is full */
    if (last >= q->requests)
        last = q->requests - 1;
    if (q->wait_ms > 0)
        start = fmax(start, fmin(arrival[next] + q->wait_ms, arrival[last]));
    int64_t count = 1;
    while (next + count <= last && arrival[next + count] <= start)
        count++;
    *batch = count;
    return start;
}

void queueing_simulate(const struct queueing *q, struct queueing_result *out)
{
    double *arrival = xmalloc((size_t)q->requests * sizeof *arrival);
    double *latency = xmalloc((size_t)q->requests * sizeof *latency);
    uint64_t state = q->seed;
    double now = 0, busy = 0, sum = 0;
    for (int64_t i = 0; i < q->requests; i++)
        arrival[i] = now += -log(1 - draw(&state)) * 1e3 / q->rate_per_s;
    int64_t warm = q->requests / 10, steps = 0, taken = 0, over = 0;
    size_t kept = 0;
    double free_ms = 0, begin = arrival[warm];
    for (int64_t next = 0; next < q->requests;) {
        int64_t batch;
        double start = next_start(q, arrival, next, free_ms, &batch);
        double time = step_time(q, batch, draw(&state));
        free_ms = start + time;
        for (int64_t i = next; i < next + batch; i++) {
            if (i < warm)
                continue;
            latency[kept++] = free_ms - arrival[i];
            sum += free_ms - arrival[i];
            over += free_ms - arrival[i] > q->slo_ms;
        }
        if (next >= warm) {
            busy += time;
            steps++;
            taken += batch;
        }
        next += batch;
    }
    double span = free_ms - begin;
    qsort(latency, kept, sizeof *latency, compare);
    *out = (struct queueing_result){
        .throughput_per_s = 1e3 * (double)kept / span,
        .busy = busy / span,
        .mean_batch = (double)taken / (double)steps,
        .mean_ms = sum / (double)kept,
        .p50_ms = latency[kept / 2],
        .p95_ms = latency[kept * 95 / 100],
        .p99_ms = latency[kept * 99 / 100],
        .max_ms = latency[kept - 1],
        .in_flight = sum / span,
        .over_slo = isnan(q->slo_ms) ? (double)NAN : (double)over / (double)kept,
        .capacity_per_s = capacity(q),
    };
    free(arrival);
    free(latency);
}
