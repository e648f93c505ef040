/* What the collector needs of a source of GPU activity: one table of function pointers, so that
 * CUPTI, a mock of it, and none at all look alike.
 *
 * The engine thread calls everything here. Kernels and copies arrive late, unordered between
 * flushes, from the source's own thread; gpu_trace_take() hands them over in a queue. Times are
 * clock_now_ns().
 */
#ifndef LAYERTOP_PROFILER_GPU_TRACE_H
#define LAYERTOP_PROFILER_GPU_TRACE_H

#include "engine/error.h"
#include "profiler/gpu_burst.h"

#define GPU_OP_NONE (-1)

/* The tag under which work is launched: the step's low 32 bits and the op (-1 outside ops). It is
 * what CUPTI carries as external correlation id. Never 0: that means "no tag". */
static inline uint64_t gpu_tag(uint64_t step, int op)
{
    return (step & 0xffffffff) << 32 | ((uint64_t)(uint32_t)(op + 2) & 0xffffffff);
}
static inline uint32_t gpu_tag_step(uint64_t tag)
{
    return (uint32_t)(tag >> 32);
}
static inline int gpu_tag_op(uint64_t tag)
{
    return (int)(uint32_t)tag - 2;
}

enum gpu_event_kind { GPU_EVENT_KERNEL, GPU_EVENT_COPY, GPU_EVENT_OVERHEAD, GPU_EVENT_GRAPH };

/* A kernel as it was launched. */
struct gpu_kernel {
    const char *name; /* demangled where that is possible */
    uint32_t grid[3], block[3];
    uint32_t registers; /* of a thread */
    uint32_t shared_static_bytes, shared_dynamic_bytes;
};

/* Of what kind a copy was: CUPTI's copy kind and the kinds of memory at its ends in one number.
 * GPU_COPY_SET is a memset. */
#define GPU_COPY_SET 255
static inline uint32_t gpu_copy_detail(uint32_t kind, uint32_t from, uint32_t to)
{
    return (kind & 255) | (from & 255) << 8 | (to & 255) << 16;
}

/* A kernel or a copy (memset counts as a copy: it moves bytes and computes nothing), time the
 * source itself took on the engine thread, or one launch of a whole graph. */
struct gpu_event {
    uint64_t tag; /* 0: could not be joined; then only its time says which step it is of */
    int op;       /* GPU_OP_NONE if not known; of a graph's kernels the op that was captured */
    int64_t start_ns, end_ns;
    enum gpu_event_kind kind;
    uint32_t
        detail; /* a kernel's number (0: not known), gpu_copy_detail(), CUPTI's overhead kind */
    uint64_t bytes;
};

/* Losses since the source was opened. */
struct gpu_losses {
    uint64_t dropped; /* records the source could not keep */
    uint64_t untimed; /* records without timestamps */
};

struct gpu_trace {
    void *context;
    /* Start of an op (or of a step, with op -1): work launched from now on belongs to `tag`. */
    void (*push)(void *context, uint64_t tag);
    void (*pop)(void *context);
    /* Move up to `capacity` events out; returns how many. */
    size_t (*take)(void *context, struct gpu_event *events, size_t capacity);
    /* Counts flushes that ran from start to end. Work that was complete when a flush began is in
     * the queue when it has ended (in all but rare cases by the next one). */
    uint64_t (*flushes)(void *context);
    /* What replayed graphs leave behind from now on; between steps only. False if it was not
     * switched (a flush is under way, or the source failed: ask alive()). NULL where there is no
     * choice. What ran before is in the queue when it has been switched. */
    bool (*detail)(void *context, enum gpu_detail detail, int64_t limit_ns);
    /* Ask for a flush now and wait for it, at most `limit_ns`; false if it did not end in time. */
    bool (*flush)(void *context, int64_t limit_ns);
    /* The kernel of that number; its name stays until close(). May be NULL. */
    bool (*kernel)(void *context, uint32_t number, struct gpu_kernel *out);
    void (*losses)(void *context, struct gpu_losses *out);
    /* Bytes of device memory that others than our allocator hold in this process; UINT64_MAX if not
     * known. `ours` tells of a change of our own. */
    uint64_t (*library_bytes)(void *context);
    void (*ours)(void *context, int64_t delta_bytes);
    /* Bytes of device memory that the source sets aside for itself in every context that is made,
     * by its own word; UINT64_MAX if it does not say. May be NULL: likewise. */
    uint64_t (*own_bytes)(void *context);
    /* False once the source has failed for good; `why` (size bytes) then says why. */
    bool (*alive)(void *context, char *why, size_t size);
    /* Append what comes from now on, as the source gives it, to this file (NULL: to none any more);
     * false with ERROR_FILE. NULL where the source has no such form. */
    bool (*raw)(void *context, const char *path, struct error *error);
    void (*close)(void *context);
};

#endif
