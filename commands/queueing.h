/* One engine behind a queue, simulated on measured step times: requests of one sample each come at
 * random (Poisson), and whenever the engine is free it takes what waits, at most a batch of it.
 * Pure functions; the same seed gives the same answer. */
#ifndef LAYERTOP_COMMANDS_QUEUEING_H
#define LAYERTOP_COMMANDS_QUEUEING_H

#include <stddef.h>
#include <stdint.h>

#define QUEUEING_QUANTILES 6

/* The time of a step of one batch, as quantiles of its measured steps. */
struct queueing_point {
    int64_t batch;
    double ms[QUEUEING_QUANTILES]; /* at queueing_levels; NaN: not known, the one before stands */
};
/* 0, 0.5, 0.9, 0.95, 0.99, 1: the shares that ms[] are the quantiles of. */
extern const double queueing_levels[QUEUEING_QUANTILES];

struct queueing {
    const struct queueing_point *points; /* by rising batch, at least one */
    size_t count;
    int64_t batch_max; /* of a step; at most the last point's batch */
    double rate_per_s; /* requests, > 0 */
    double wait_ms;    /* a step may wait so long for more requests; 0: it never does */
    double slo_ms;     /* NaN: none */
    int64_t requests;  /* simulated; the first tenth only warms up */
    uint64_t seed;
};

struct queueing_result {
    double throughput_per_s;                        /* finished */
    double busy;                                    /* share of the time that the engine works */
    double mean_batch;                              /* of the steps taken */
    double mean_ms, p50_ms, p95_ms, p99_ms, max_ms; /* from arrival to answer */
    double in_flight;      /* mean number of requests waiting or in a step: all their times over the
                              time that passed, which is Little's law */
    double over_slo;       /* share of requests, NaN without one */
    double capacity_per_s; /* the most that full batches give */
};

/* Times between the points' batches are interpolated in the batch: a step of 3 costs what lies
 * between those of 2 and 4. */
void queueing_simulate(const struct queueing *queueing, struct queueing_result *out);

#endif
