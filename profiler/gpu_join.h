/* Steps whose GPU work is still on its way: host intervals wait here until the kernels and copies
 * of the same step have come, then both make one ledger. Private to the collector; engine thread.
 *
 * A step is complete when a flush that began after its end has ended and as many kernels came as
 * the engine launched. CUPTI holds a buffer back while one record in it is incomplete, so a step
 * that lacks kernels waits for GPU_JOIN_PATIENCE flushes before it is taken as it is.
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

/* A step begins / ended. false: no room, the step is not traced. gpu_join_end() copies the
 * intervals. A step that never ends is dropped by the next begin. */
bool gpu_join_begin(struct gpu_join *join, uint64_t step, int64_t start_ns);
void gpu_join_end(struct gpu_join *join, int64_t end_ns, const struct ledger_interval *intervals,
                  size_t count, uint64_t expected_kernels);

/* Take what the source has and sort it into the waiting steps. */
void gpu_join_drain(struct gpu_join *join);

struct gpu_joined {
    int64_t wall_ns;
    struct ledger_split split;
    uint64_t kernels, copies;
};
/* The oldest step if it is complete (or anyhow, if `force`): calls `add` for each kernel of it that
 * has an op, fills *out and removes it. false if there is none. */
bool gpu_join_next(struct gpu_join *join, bool force, struct gpu_joined *out,
                   void (*add)(void *context, int op, int64_t duration_ns), void *context);
/* Steps that ended and wait. */
size_t gpu_join_waiting(const struct gpu_join *join);
/* Kernels and copies since the start that came when their step was gone, or ran within a step and
 * could not be given to an op. Work outside of steps (uploads, trials of a planner) is neither. */
uint64_t gpu_join_unmatched(const struct gpu_join *join);

#endif
