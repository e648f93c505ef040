/* A collector from end to end: a made-up graph and a scripted sequence of observer calls go in at one
 * end, the store answers at the other.
 */
#ifndef LAYERTOP_TESTS_SUPPORT_COLLECTOR_BENCH_H
#define LAYERTOP_TESTS_SUPPORT_COLLECTOR_BENCH_H

#include "engine/graph/graph.h"
#include "engine/observer.h"
#include "profiler/collector.h"
#include "profiler/collector_private.h"
#include "profiler/store.h"

#define MS INT64_C(1000000) /* in nanoseconds */

struct collector_bench {
    struct collector *collector;
    const struct worker_hooks *hooks;
    struct store *store;
    struct observer copy; /* taken before anything was configured, as the session does */
    bool use_copy;
    int frames;
    bool refuse;
    int64_t now;
};

/* Four layers: input (no op), conv (ops 0 and 2: shared), relu fused into conv, dense (op 1). */
extern struct graph collector_bench_graph;
extern const char *const collector_bench_plan; /* its plan, as the engine tells it */

/* For cmocka: *state is a struct collector_bench, planned for the CPU. */
int collector_bench_setup(void **state);
int collector_bench_teardown(void **state);

/* The observer under test: the collector's own, or a copy of it as the session takes one. */
const struct observer *collector_bench_observer(const struct collector_bench *bench);

/* Scripted steps lie ahead of the real clock, so that the collector's own stamps, which are real,
 * never reach into them however slow the machine is. */
int64_t collector_bench_now(void);

/* One step: 1 ms before the first op, ops of the given lengths with 0.1 ms between, 0.5 ms after. */
void collector_bench_step(struct collector_bench *bench, uint64_t number, const int64_t *op_ns);

#endif
