/* The engine tells a listener what happens, and knows nothing about who listens.
 *
 * All calls come on the engine thread, inside the step they speak of, except where a comment says
 * otherwise. Times are clock_now_ns(). A listener must not block and must not call the engine. A
 * NULL observer, or a NULL member, is allowed: the engine then does not even read the clock for it.
 * Members may change in step_begin and between steps.
 *
 * Classes of a host interval (the ledger's partition, by priority): on the CPU the time in a
 * primitive is KERNEL; with a GPU the host's op interval is LAUNCH and the kernels' own intervals
 * come from CUPTI, from events (device_time), or are not known.
 */
#ifndef LAYERTOP_ENGINE_OBSERVER_H
#define LAYERTOP_ENGINE_OBSERVER_H

#include "engine/graph/graph.h"

enum interval_class {
    INTERVAL_KERNEL,
    INTERVAL_COPY,
    INTERVAL_PROFILER,
    INTERVAL_LAUNCH,
    INTERVAL_PREPROCESS,
    INTERVAL_CLASS_COUNT
};

enum memory_category {
    MEMORY_WEIGHTS,     /* constants and their reordered or uploaded copies */
    MEMORY_ACTIVATIONS, /* the arena of the present plan */
    MEMORY_WORKSPACE,   /* scratchpads, cuDNN and cuBLASLt workspaces */
    MEMORY_IDLE,        /* reserved by us and not in use (growth off, arenas not trimmed) */
    MEMORY_CONTEXT,     /* CUDA context, modules, library handles: measured once */
    MEMORY_CATEGORY_COUNT
};

struct observer {
    void *context;

    /* A plan was made current; ops of later calls index graph->ops. `impls[op]` names what runs
     * each op ("onednn", "cudnn", "cublaslt", "own"; NULL for a no-op alias). Both live until the
     * next plan() or plan(NULL). `device` is "cpu" or "gpu:N". May come again for another device
     * when two devices are compared. */
    void (*plan)(void *context, const char *device, const struct graph *graph,
                 const char *const *impls);
    /* After plan(): the exact name of what runs each op, where there is one ("brgconv:avx512_core");
     * NULL members have none. They live as long as `impls`. */
    void (*implementations)(void *context, const char *const *names);
    /* Samples that a step computes in all, where several devices share it; told after plan(). */
    void (*samples)(void *context, uint64_t samples);
    /* Steps until the next segment() belong to `segment`: 0 is live, else the id of the request
     * that runs them. Closes what is open. */
    void (*segment)(void *context, uint32_t segment);

    void (*step_begin)(void *context, uint64_t step, int64_t start_ns);
    void (*step_end)(void *context, uint64_t step, int64_t end_ns);

    /* Around the work of one op on the host. op_begin comes before the first launch, so that a
     * listener can push a correlation id. */
    void (*op_begin)(void *context, int op);
    void (*op_end)(void *context, int op, enum interval_class class, int64_t start_ns,
                   int64_t end_ns);
    /* Any other host interval of a step. op is -1 when it belongs to none. */
    void (*interval)(void *context, enum interval_class class, int op, uint64_t bytes,
                     int64_t start_ns, int64_t end_ns);
    /* Device time of one op in the step just ended, measured by device events. */
    void (*device_time)(void *context, int op, int64_t duration_ns);
    /* The number of kernels or primitives launched for an op since op_begin (the engine's own
     * count, to be held against CUPTI's). */
    void (*launches)(void *context, int op, uint32_t kernels);

    /* Our own allocator: bytes now held in a category on a device. */
    void (*memory)(void *context, const char *device, enum memory_category category,
                   uint64_t bytes_now);

    /* A sentence for the user about something that goes on otherwise than was asked for. */
    void (*note)(void *context, const char *text);
};

#endif
