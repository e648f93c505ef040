/* A backend: one kind of hardware behind one table of function pointers.
 *
 * engine/cpu is linked in; engine/cuda lives in layertop-cuda.so and is opened at run time
 * (cuda_module.h). A device holds the process's one context on one piece of hardware; a plan is a
 * graph compiled for it with its memory. Devices and plans are opaque to everybody else.
 *
 * Threads: everything on the engine thread. Ownership: x_new/x_open is paired with x_free/x_close;
 * plans must be freed before their device. The graph must outlive its plans.
 */
#ifndef LAYERTOP_ENGINE_BACKEND_H
#define LAYERTOP_ENGINE_BACKEND_H

#include "engine/graph/graph.h"
#include "engine/graph/memory.h"
#include "engine/image.h"
#include "engine/observer.h"
#include "engine/phases.h"
#include <stdatomic.h>

#define BACKEND_ABI 6

struct host_ops;
struct value_range;

enum precision {
    PRECISION_FP32, /* strict: no TF32 */
    PRECISION_TF32,
    PRECISION_FP16,
    PRECISION_BF16,
    PRECISION_INT8,
    PRECISION_COUNT
};
const char *precision_name(enum precision precision);
bool precision_parse(const char *name, enum precision *precision);

struct device_options {
    int index;             /* nvidia-smi's index; 0 for the CPU */
    int threads;           /* CPU: worker threads, 0 = all allowed physical cores */
    bool growth;           /* GPU: false reserves at once what TensorFlow would */
    uint64_t limit_bytes;  /* fence around weights + arena + workspace; 0 = none */
    struct phases *phases; /* what takes how long until it is ready; borrowed as long as the device,
                              or NULL */
};

struct plan_options {
    enum precision precision;
    bool graph;     /* CUDA graphs */
    bool op_events; /* time every op with device events (fallback without CUPTI) */
    bool op_sync;   /* GPU: wait after each op, so that the host's clock times it (fallback without
                       events); op_end then tells of KERNEL intervals */
    bool autotune;  /* GPU: plan_tune() may replace what the heuristics chose, and what was measured
                       earlier is read from disk */
    bool channels_first; /* GPU: convolutions run on (N, C, ...) tensors, turned there and back */
    bool pageable; /* GPU: the host's side of inputs and outputs is plain memory, not pinned */
    int slice;     /* CPU: samples that run through the whole network together; 0 as many as are
                       fastest, -1 always the whole batch. Graphs that mix samples are never
                       sliced. A GPU does not look at it */
    const struct host_ops *host; /* what the backend lacks runs on the CPU by these (host_op.h), and
                                    has "cpu" for its name; NULL: it is an error */
    /* int8: of every value of the graph, by its number (calibration.h). NULL: int8 is refused */
    const struct value_range *ranges;
    size_t range_count;
    bool force; /* ask for memory whatever is free: the answer is the system's or the driver's
                       own, never a forecast's. The limit stays */
    /* Called between ops while the plan is made, with how many of all are done; false ends it:
     * ERROR_INTERRUPTED, and nothing of the plan remains. NULL: nobody watches. */
    bool (*goes_on)(void *context, size_t done, size_t all);
    void *context; /* of goes_on */
};

/* What one plan holds, by the planner's own count (bytes). */
struct plan_memory {
    uint64_t weights_bytes;   /* shared by all plans of the device */
    uint64_t arena_bytes;     /* activations, inputs and outputs */
    uint64_t workspace_bytes; /* shared by all plans of the device */
    int peak_op;
    uint64_t peak_live_bytes; /* within a slice */
    int64_t slice;            /* samples run together; 0 or the batch: all */
    uint64_t device_bytes;    /* all three in the device's whole pages, were this its only plan */
};

/* A device's memory as seen now (bytes; UINT64_MAX = not known). */
struct device_memory {
    uint64_t total_bytes, free_bytes;
    uint64_t used_by_us_bytes; /* from outside our allocator: CPU RssAnon, GPU NVML's per-process
                                  figure or the growth of the device's used memory */
    uint64_t weights_bytes, arena_bytes, workspace_bytes, idle_bytes, context_bytes;
    uint64_t room_bytes;    /* that plans may fill: held by them, kept for them, or free; the limit
                               does not count */
    uint64_t largest_bytes; /* largest single block to be had now */
};

/* A process that holds memory on a device. */
struct device_process {
    int pid;
    uint64_t bytes; /* UINT64_MAX: not known */
};

struct step_context {
    const struct observer *observer; /* may be NULL */
    uint64_t step;
    const atomic_bool *cancel; /* checked between ops; true ends the step: ERROR_INTERRUPTED */
    /* CPU: called with each float32 value of the graph as soon as it is there: the inputs, then what
     * every op puts out, slice by slice. NULL: nobody looks. A GPU does not look at it. */
    void (*value)(void *context, int value, const float *data, size_t elements);
    void *context; /* of value */
    bool fed;      /* the first input is what plan_feed_send() sent, not plan_input()'s */
};

/* Pictures that a device makes its first input of: raw batches as engine/pipeline.h lays them out. */
struct picture_feed {
    uint64_t batch_bytes, slot_bytes;
    enum image_filter filter;
    const char *preprocess; /* of image_preprocess() */
    bool ahead;             /* a batch is copied while the step before it runs */
};

/* Sums over the steps that were fed. */
struct picture_times {
    uint64_t batches, copied_bytes;
    int64_t copy_ns, device_ns; /* to the device; resizing and scaling there: by its own clock */
};

struct device;
struct plan;

struct backend {
    uint32_t abi;     /* BACKEND_ABI */
    const char *name; /* "cpu", "cuda" */

    /* Append one object per device to `list`, without creating a context: {"id": "cpu" | "gpu:N",
     * "name", "usable": bool, "why": text if not, and what is known of: "uuid", "pci",
     * "compute_capability", "multiprocessors", "total_bytes", "free_bytes", "driver", "threads",
     * "isa", "library"}. false only if the enumeration itself fails. */
    bool (*devices)(json_t *list, struct error *error);

    struct device *(*device_open)(const struct device_options *options,
                                  const struct observer *observer, struct error *error);
    void (*device_close)(struct device *device);
    bool (*device_memory)(struct device *device, struct device_memory *out, struct error *error);
    /* Give idle memory back (`mem trim`). */
    void (*device_trim)(struct device *device);
    /* Forget reordered or uploaded copies of constants: the model is going away. All plans of the
     * device must be freed before. */
    void (*device_forget)(struct device *device);

    /* Compile. On ERROR_MEMORY nothing of the new plan remains and other plans still run. */
    struct plan *(*plan_new)(struct device *device, const struct graph *graph,
                             const struct plan_options *options, struct error *error);
    void (*plan_free)(struct plan *plan);
    /* Host buffers (dense, float32 or the input's own integer dtype): write inputs before plan_run,
     * read outputs after it. Valid as long as the plan. Inputs survive plan_run. */
    void *(*plan_input)(struct plan *plan, size_t index);
    const void *(*plan_output)(struct plan *plan, size_t index);
    /* One step: inputs on the host to outputs on the host, synchronised. */
    bool (*plan_run)(struct plan *plan, const struct step_context *step, struct error *error);
    /* plan_run() in two halves, so that several devices work at once: queue the step; wait for it,
     * also when queueing failed. Both NULL: only as a whole. */
    bool (*plan_launch)(struct plan *plan, const struct step_context *step, struct error *error);
    bool (*plan_wait)(struct plan *plan, const struct step_context *step, struct error *error);
    /* Measure other ways to run the plan's ops, for about so long, and use what is faster from then
     * on; between two steps. True while there is more to try. NULL: the backend has one way. */
    bool (*plan_tune)(struct plan *plan, int64_t budget_ns);
    /* `steps` steps back to back on the inputs that plan_input() holds, copied to the device once
     * and before: nothing is copied to or from the host, nobody listens, and one wait ends them.
     * *total_ns: from the first launch to the end of the last step. ERROR_MEMORY or
     * ERROR_MEMORY_LIMIT where there is no room to keep the inputs beside the plan. NULL: a step of
     * this backend copies nothing. */
    bool (*plan_repeat)(struct plan *plan, size_t steps, const atomic_bool *cancel,
                        int64_t *total_ns, struct error *error);
    /* Take pictures for steps that are `fed`; NULL: none any more. On failure the plan is as before:
     * ERROR_UNSUPPORTED (the input is not made of float32 pictures), ERROR_MEMORY,
     * ERROR_MEMORY_LIMIT. plan_feed_room(): where the next batch has to lie, in host memory, NULL if
     * no pictures are taken; plan_feed_send() begins to copy it, for the next step that is fed. A
     * backend has all four or none. */
    bool (*plan_feed)(struct plan *plan, const struct picture_feed *feed, struct error *error);
    void *(*plan_feed_room)(struct plan *plan);
    bool (*plan_feed_send)(struct plan *plan, struct error *error);
    struct picture_times (*plan_feed_times)(struct plan *plan, bool reset);
    /* Name of what runs each op, graph->op_count entries, NULL for aliases. Owned by the plan. */
    const char *const *(*plan_impls)(const struct plan *plan);
    void (*plan_memory)(const struct plan *plan, struct plan_memory *out);
    /* The exact name of each op's implementation, for `kernels`; NULL members have none. Owned by
     * the plan. The function may be NULL. */
    const char *const *(*plan_names)(const struct plan *plan);

    /* How each op computes in an int8 plan, graph->op_count entries: "int8", "fp32", NULL for aliases.
     * NULL for other plans. Owned by the plan. The function may be NULL. */
    const char *const *(*plan_precisions)(const struct plan *plan);

    /* What plan_new() would hold were it the device's only plan: a computation that takes no memory
     * of the device and runs nothing. NULL: the backend cannot tell. */
    bool (*plan_forecast)(struct device *device, const struct graph *graph,
                          const struct plan_options *options, struct plan_memory *out,
                          struct error *error);
    /* Who holds memory on the device, ourselves included, in no order; returns how many were
     * written. NULL: the backend cannot tell. */
    size_t (*device_processes)(struct device *device, struct device_process *out, size_t capacity);
};

/* The CPU backend (oneDNN). */
extern const struct backend backend_cpu;

/* The CUDA backend out of layertop-cuda.so, opened on first call; NULL with ERROR_GPU that says
 * what is missing and which paths were tried. The result is remembered. */
const struct backend *backend_cuda(struct error *error);

#endif
