/* Inside the CPU backend: what cpu.c (device, plans, steps), weights.c (reordered constants) and
 * build.c (ops to primitives) share. Threads: the engine thread. */
#ifndef LAYERTOP_ENGINE_CPU_CPU_H
#define LAYERTOP_ENGINE_CPU_CPU_H

#include "engine/backend.h"
#include "engine/cpu/dnnl_compat.h"
#include "engine/cpu/layout.h"
#include "engine/cpu/own.h"
#include "engine/cpu/quantise.h"

struct weight_copy;

struct device {
    const struct observer *observer;
    struct phases *phases; /* may be NULL */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int threads;
    uint64_t limit_bytes; /* 0: none */

    struct weight_copy *copies; /* constants in the layouts that primitives asked for */
    uint64_t weights_bytes;
    void *scratch; /* one scratchpad for all plans: steps run one at a time */
    size_t scratch_bytes;
    uint64_t arena_bytes; /* over all living plans */
    struct plan *plans;   /* list */

    char *slow_layer; /* test hook, see device_open */
    int64_t slow_ns;
};

#define STEP_ARGUMENTS 16
#define STEP_PANELS    8

/* What runs one op: a primitive or one of our loops, then posts that neither could take. */
struct step {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[STEP_ARGUMENTS];
    bool owned[STEP_ARGUMENTS]; /* the argument's memory object dies with the step */
    int argument_count;
    dnnl_memory_t scratch; /* its handle is set when the step runs; NULL if it needs none */
    size_t scratch_bytes;

    own_kernel *own;
    struct own_call call;
    const void *panels[STEP_PANELS]; /* what weights_panels() gave for it */
    int panel_count;
    size_t own_scratch_bytes; /* of the scratchpad, before the copies of a widened step */
    bool widened;             /* bfloat16 plan: our loops get float32 copies in the scratchpad */
    const struct post *posts; /* done by own_post(), in place, after the rest */
    size_t post_count;

    /* Of a primitive of bytes: its float32 input, made bytes in the scratchpad, and a shortcut that is
     * copied to where it is added to the sums. NULL: neither is needed. */
    dnnl_memory_t source;
    struct value_form source_form;
    const float *source_from;
    int64_t source_count;
    size_t source_offset;
    const void *copy_from;
    void *copy_to;
    size_t copy_bytes;
    float *factors; /* of its channels, and its bias behind them */

    const char *impl; /* "onednn", "own", NULL for an alias */
    char *name;       /* oneDNN's of its implementation; NULL if it is not oneDNN's */
};

/* A graph compiled for one number of samples: the batch, a slice of it, or what is left over. */
struct part {
    const struct graph *graph; /* same op numbers as the plan's */
    const struct memory_plan *memory;
    struct step *steps; /* one per op */
};

struct plan {
    struct device *device;
    const struct graph *graph;
    dnnl_data_type_t type;     /* of activations and weights: f32 or bf16 */
    bool dry;                  /* a forecast: descriptors are made, memory and primitives are not */
    struct weight_want *wants; /* dry: the reordered constants it would ask for */
    uint64_t wanted_bytes;
    struct quantised *quantised; /* int8; else NULL */
    struct layout layout;
    unsigned char *arena;
    size_t arena_bytes;
    struct part parts[2]; /* the second has steps only if the batch is no multiple of the slice */
    const char **impls;
    const char **names;      /* of the steps of the first part */
    const char **precisions; /* int8; else NULL */
    size_t scratch_bytes;    /* the most that any step needs */
    int slow_op;             /* test hook: wait so long after this op */
    int64_t slow_ns;
    struct plan *next;
};

/* A value's place in the arena. */
void *plan_value(const struct plan *plan, const struct part *part, int value);

/* cpu.c: the steps of one part, and those of both given back; a precision in oneDNN's word. */
bool plan_make_part(struct plan *plan, struct part *part, const struct graph *graph,
                    const struct memory_plan *memory, const struct plan_options *options,
                    struct error *error);
void plan_free_parts(struct plan *plan);
/* Decide what an int8 plan stores and computes in bytes; nothing for another. */
bool plan_quantise(struct plan *plan, const struct plan_options *options, struct error *error);
bool cpu_precision(enum precision precision, dnnl_data_type_t *type, struct error *error);

/* forecast.c: backend.plan_forecast, backend.device_processes. */
size_t cpu_device_processes(struct device *device, struct device_process *out, size_t capacity);
bool cpu_plan_forecast(struct device *device, const struct graph *graph,
                       const struct plan_options *options, struct plan_memory *out,
                       struct error *error);

/* build.c: fill part->steps[op]. Errors: ERROR_BACKEND_OP naming the layer, ERROR_MEMORY. */
bool step_build(struct plan *plan, struct part *part, int op, struct error *error);
void step_free(struct step *step);

/* weights.c: a memory object holding the constant, described by `plain`, in the layout `wanted`
 * (NULL: as it is). Shared by all plans and owned by the device. NULL on ERROR_MEMORY. */
dnnl_memory_t weights_get(struct device *device, const struct constant *constant,
                          const struct dnn_md *plain, const struct dnn_md *wanted,
                          struct error *error);
/* The same in bytes: `plain` is of s8, a channel has its step of `steps`. Channel k of element i is
 * i / inner % channels. */
dnnl_memory_t weights_get_int8(struct device *device, const struct constant *constant,
                               const struct dnn_md *plain, const struct dnn_md *wanted,
                               const float *steps, int64_t channels, int64_t inner,
                               struct error *error);
/* Weights and bias of a convolution as one of our kernels wants them, shared in the same way. */
const void *weights_packed(struct device *device, const struct op_conv *conv,
                           const struct own_conv *packer, size_t bytes, struct error *error);
/* Any other layout of ours: `bytes` that pack() fills from the constant's data; `tag`, from 1, tells
 * apart what is made of one constant. */
const void *weights_panels(struct device *device, const struct constant *constant, uint64_t tag,
                           size_t bytes,
                           void (*pack)(void *to, const float *data, const void *context),
                           const void *context, struct error *error);
void weights_forget(struct device *device);
/* Free the copies that no plan of the device reads; returns the bytes. */
uint64_t weights_collect(struct device *device);
/* forecast.c: for a dry plan, note that it would ask for this copy, once. */
void weights_want(struct plan *plan, const struct constant *constant, const struct dnn_md *plain,
                  const struct dnn_md *wanted);
void weights_want_packed(struct plan *plan, const struct op_conv *conv,
                         const struct own_conv *packer, size_t bytes);
void weights_want_panels(struct plan *plan, const struct constant *constant, uint64_t tag,
                         size_t bytes);
void weights_wants_free(struct plan *plan);

/* Tell the observer what a category holds now. */
void device_tell(const struct device *device, enum memory_category category, uint64_t bytes);
/* May this many bytes more be taken? Looks at the limit, for which it gives up what no plan needs,
 * at free memory and at the cgroup. Errors: ERROR_MEMORY_LIMIT, ERROR_MEMORY. */
bool device_admit(struct device *device, uint64_t bytes, const char *what, struct error *error);
/* The most that any plan's steps need of the scratchpad. */
size_t device_scratch_needed(const struct device *device);

/* pages.c: zeroed pages of our own, resident at once; NULL on ERROR_MEMORY. `most_bytes`: how much
 * the system may give; what is more is asked for all the same, with the address space fenced at
 * that, so that the system refuses by itself and nothing else on the machine is touched. `options`:
 * those of the plan, whose goes_on() may end it. */
void *pages_new(size_t bytes, uint64_t most_bytes, const char *what,
                const struct plan_options *options, struct error *error);
void pages_free(void *pages, size_t bytes);

/* machine.c: what this machine has. */
int machine_physical_cores(void); /* that this process may run on */
/* 1 for each logical processor that it may run on, however OpenMP has bound this thread; returns how
 * many there are, -1 if that is not known. */
int machine_allowed_processors(unsigned char *allowed, int capacity);
/* Let this thread run on all of them: a new one inherits the binding of the thread that makes it, and
 * the engine's is bound to one processor. */
void machine_unbind_thread(void);
uint64_t machine_total_bytes(void); /* the cgroup's limit counts */
uint64_t machine_available_bytes(void);
uint64_t machine_anonymous_bytes(void); /* RssAnon of this process */
void machine_cpu_name(char *out, size_t size);

#endif
