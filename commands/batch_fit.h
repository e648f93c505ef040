/* The time of a step against its batch: t = a + b * B, with a what a step costs whatever it holds
 * (launches, synchronisation) and b what a sample adds. Pure functions. */
#ifndef LAYERTOP_COMMANDS_BATCH_FIT_H
#define LAYERTOP_COMMANDS_BATCH_FIT_H

#include <stddef.h>
#include <stdint.h>

/* Of the throughput that large batches approach, the knee has this share. */
#define BATCH_KNEE_SHARE 0.95

struct batch_point {
    int64_t batch;
    double time_ms;
};

struct batch_fit {
    double a_ms, b_ms; /* NaN with fewer than two batches */
    double r2;         /* 1: the points lie on the line */
};

/* Least squares on relative errors: every point counts alike, be it 1 ms or 1 s. */
void batch_fit(const struct batch_point *points, size_t count, struct batch_fit *out);

/* The smallest batch in 1..most whose throughput is BATCH_KNEE_SHARE of the limit 1/b:
 * B / (a + b B) >= share / b, hence B >= share / (1 - share) * a / b. Where the line explains the
 * points badly (r2 below 0.9) or not at all: of the measured batches, the smallest within that
 * share of the best. 0 without points. *measured says which. */
int64_t batch_knee(const struct batch_fit *fit, const struct batch_point *points, size_t count,
                   int64_t most, int *measured);

/* The largest batch in 0..most with a + b B <= time_ms. */
int64_t batch_within(const struct batch_fit *fit, double time_ms, int64_t most);

#endif
