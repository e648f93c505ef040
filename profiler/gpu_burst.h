/* When a replayed CUDA graph is traced node by node, and when as a whole.
 *
 * Tracing each node of a graph costs time at every replay, and some versions of CUPTI run out of
 * device buffers when they do it for minutes. So nodes are traced in bursts of a few replays; in
 * between one record for each launch says how long the whole graph ran. A burst begins often enough
 * that no layer's figure is older than two seconds when the next one is shown, and is as long as
 * the cost allows: what it costs is measured from the steps themselves, as the difference of their
 * walls under both.
 *
 * A pure state machine: no clock, no CUPTI. Any thread, one at a time.
 */
#ifndef LAYERTOP_PROFILER_GPU_BURST_H
#define LAYERTOP_PROFILER_GPU_BURST_H

#include <stdbool.h>
#include <stdint.h>

enum gpu_detail {
    GPU_DETAIL_NODES, /* a record for each kernel */
    GPU_DETAIL_WHOLE, /* a record for each launch of a graph, none for its kernels */
    GPU_DETAIL_OFF, /* none of a step: it runs as without the profiler, to learn what that costs */
};

/* From the begin of a burst to that of the next, at most. What a burst measured is on the screen a
 * window (0.1 s) and two flushes (0.1 s) after it: together less than two seconds. */
#define GPU_BURST_PERIOD_MAX_NS INT64_C(1500000000)
#define GPU_BURST_PERIOD_MIN_NS INT64_C(500000000)
#define GPU_BURST_STEPS_MAX     20
#define GPU_BURST_NS_MAX        INT64_C(300000000) /* a burst of more than one step ends by then */
/* Steps in a row that were traced node by node and brought no kernel: CUPTI is blind */
#define GPU_BURST_BLIND         10

struct gpu_burst {
    double budget;          /* share of all time that tracing nodes may cost */
    enum gpu_detail detail; /* that the next step runs under */
    int64_t begin_ns;       /* of the newest burst */
    uint32_t done, length;  /* replayed steps of it so far, and in all */
    double step_ns[2];      /* typical wall of a replayed step under each detail; 0: not known */
    double switch_ns;       /* typical time of one switch; 0: not known */
    uint32_t empty;         /* steps in a row without kernels */
    bool held;              /* nodes for good */
};

/* For a new plan of `batch` samples: the first burst begins with its first replay. */
void gpu_burst_init(struct gpu_burst *burst, uint64_t batch);

/* A step has ended: `replayed` if it launched a graph (an eager step is always traced kernel by
 * kernel). Returns the detail that is wanted for the next step; whoever can switch does so and
 * tells gpu_burst_switched(). */
enum gpu_detail gpu_burst_step(struct gpu_burst *burst, bool replayed, int64_t wall_ns,
                               int64_t now_ns);
/* The detail was switched, which took `cost_ns`. */
void gpu_burst_switched(struct gpu_burst *burst, enum gpu_detail detail, int64_t cost_ns,
                        int64_t now_ns);
/* A step traced node by node was joined with this many kernels. True when it is the one that shows
 * CUPTI blind after a pause: from then on the bursts have no end. */
bool gpu_burst_seen(struct gpu_burst *burst, uint64_t kernels);

/* Is the first replay of a burst only there to warm up? It is when others follow. */
bool gpu_burst_warms_up(const struct gpu_burst *burst);
/* How long from burst to burst. */
int64_t gpu_burst_period_ns(const struct gpu_burst *burst);
/* Share of time that bursts of this length cost at this period; NaN while not known. */
double gpu_burst_cost(const struct gpu_burst *burst);

#endif
