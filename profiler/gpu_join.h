/* Steps whose GPU work is still on its way: host intervals wait here until the kernels and copies
 * of the same step have come, then both make one ledger. Private to the collector; engine thread.
 *
 * A step is complete when a flush that began after its end has ended and as many kernels came as
 * the engine launched, or the one record of a graph that was traced as a whole. CUPTI holds a
 * buffer back while one record in it is incomplete, so a step that lacks kernels waits for
 * GPU_JOIN_PATIENCE flushes before it is taken as it is.
 */
#ifndef LAYERTOP_PROFILER_GPU_JOIN_H
#define LAYERTOP_PROFILER_GPU_JOIN_H

#include "profiler/gpu_trace.h"
#include "profiler/ledger.h"

#define GPU_JOIN_STEPS    4096 /* more steps than that in flight are not traced, and counted */
#define GPU_JOIN_PATIENCE 40

struct gpu_join;
struct gpu_join *gpu_join_new(const struct gpu_trace *trace);
void gpu_join_free(struct gpu_join *join);

/* How a step that ended was traced, and what is to come for it. */
struct gpu_join_step {
    uint64_t kernels; /* the engine launched */
    bool replayed;    /* as a graph */
    bool whole;       /* the graph leaves one record, its kernels none */
    bool warm_up;     /* the first of a burst: its figures do not count */
    bool apart;       /* steps that nobody observed lie before it */
};

/* A step begins / ended. false: no room, the step is not traced. gpu_join_end() copies the
 * intervals. A step that never ends is dropped by the next begin. */
bool gpu_join_begin(struct gpu_join *join, uint64_t step, int64_t start_ns);
void gpu_join_end(struct gpu_join *join, int64_t end_ns, const struct ledger_interval *intervals,
                  size_t count, const struct gpu_join_step *how);

/* Take what the source has and sort it into the waiting steps. */
void gpu_join_drain(struct gpu_join *join);

struct gpu_joined {
    struct gpu_join_step how;
    int64_t start_ns, end_ns; /* of the step, on the host */
    int64_t device_end_ns;    /* of its last kernel, copy or graph; 0 if none came */
    struct ledger_split split;
    uint64_t kernels, copies, graphs;
    int64_t graph_ns;
};
/* The oldest step if it is complete (or anyhow, if `force`): calls `add` for each event of it, fills
 * *out and removes it. false if there is none. */
bool gpu_join_next(struct gpu_join *join, bool force, struct gpu_joined *out,
                   void (*add)(void *context, const struct gpu_event *event), void *context);
/* Steps that ended and wait. */
size_t gpu_join_waiting(const struct gpu_join *join);
/* Kernels and copies since the start that came when their step was gone, or ran within a step and
 * could not be given to an op. Work outside of steps (uploads, trials of a planner) is neither. */
uint64_t gpu_join_unmatched(const struct gpu_join *join);

#endif
