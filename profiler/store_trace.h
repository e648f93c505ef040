/* What ran kernel by kernel on one device since the plan or the last `run` began, as the worker's
 * newest trace record says: kernels, copies, CUPTI's own time, losses, and the roof. Part of the
 * store: same thread, and pointers live as long as those of store.h. */
#ifndef LAYERTOP_PROFILER_STORE_TRACE_H
#define LAYERTOP_PROFILER_STORE_TRACE_H

#include "profiler/record_trace.h"

struct store_kernel {
    int layer, op;    /* -1: of none */
    const char *name; /* a kernel's; where ops are timed as a whole that of the implementation */
    bool launched;    /* a GPU kernel with a shape: grid, block, registers, shared memory */
    struct gpu_kernel shape;
    double per_step;                /* launches in a step */
    double mean_ms, min_ms, max_ms; /* of one */
    double step_ms;                 /* of all in a step */
    uint64_t flops, bytes;          /* of the op in a step, UINT64_MAX: not known */
    /* The op's FLOPs and bytes over the time of all its kernels, on the row of its longest one; NaN
     * on the others, and where they are not known. */
    double flops_per_s, bytes_per_s;
};

struct store_copy {
    char kind[48]; /* "host to device" */
    bool pageable; /* an end of it is pageable host memory */
    double per_step, bytes_per_step, step_ms;
};

struct store_overhead {
    const char *kind; /* "flushing buffers" */
    uint64_t count;
    double total_ms;
};

struct store_trace {
    int64_t time_ns; /* of the record, as store_time_ns() */
    const char *timing_source;
    bool bursts;
    uint32_t steps, graphs;
    double graph_ms; /* mean of a launch that was recorded as a whole, NaN if there was none */
    double burst_cost;
    uint64_t dropped, unmatched, untimed;
    struct roof roof;
    size_t kernel_count, copy_count, overhead_count;
    struct store_kernel *kernels;
    struct store_copy *copies;
    struct store_overhead *overheads;
};

/* Private to the store. A device's newest trace; all zero is an empty table. */
#define STORE_TRACES 8
struct trace_slots {
    struct {
        bool used;
        int device;
        struct store_trace trace;
        char *names; /* all of them, one after the other */
    } slots[STORE_TRACES];
};
void trace_slots_clear(struct trace_slots *slots);
/* Read the rest of a frame; nothing changes when it is refused. */
bool trace_slots_feed(struct trace_slots *slots, struct record_reader *reader, int device,
                      int64_t time_ns, size_t layer_count, struct error *error);
const struct store_trace *trace_slots_get(const struct trace_slots *slots, int device);

#endif
