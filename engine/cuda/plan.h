/* A plan on a CUDA device: every op of a graph made into a step, and the memory they run in.
 *
 * All values are float32 on the device; inputs and outputs of another dtype are converted through a
 * staging area behind the arena. Ops whose fused functions (posts) no library takes end in
 * elementwise chains of ours. Where a post reads a value that the memory plan lets the op overwrite,
 * the op writes to the workspace first and the chain writes the result.
 */
#ifndef LAYERTOP_ENGINE_CUDA_PLAN_H
#define LAYERTOP_ENGINE_CUDA_PLAN_H

#include "engine/cuda/device.h"
#include "engine/cuda/kernels.h"

/* Where an operand comes from: a graph value or a constant's copy. */
struct source {
    int value; /* -1: none */
    const struct upload *upload;
};

/* One launch of a chain, with the sources of its pointers. */
struct step_chain {
    struct chain chain;
    struct source x; /* none: what the op's own kernel made */
    struct source operands[CHAIN_STAGES_MAX];
};

struct step {
    const struct op *op;
    int index;
    const char *impl; /* NULL: nothing to do (an alias) */
    char layer[160];  /* for errors */
    /* Queue the op's own kernel, which writes `target`; NULL if chains do everything. */
    bool (*run)(struct plan *plan, struct step *step, float *target, struct error *error);
    void (*free_data)(struct plan *plan, struct step *step);
    void *data;
    uint64_t workspace_bytes; /* for `run` */
    bool to_temporary;        /* `run` writes behind its workspace, the first chain reads there */
    uint64_t temporary_bytes;
    struct step_chain *chains;
    size_t chain_count;
    bool first_chain_inside; /* `run` applies the first chain itself (depthwise) */
    uint32_t kernels;        /* launches, as we count them */
};

/* A model input or output on the host. */
struct port {
    int value;
    enum dtype dtype;
    int64_t elements;
    uint64_t bytes;        /* on the host */
    void *host;            /* pinned */
    uint64_t stage_offset; /* in the arena; for dtypes other than float32 */
};

struct plan {
    struct plan *next;
    struct device *device;
    const struct graph *graph; /* the caller's */
    struct graph local;        /* a copy whose values are all float32 */
    struct plan_options options;
    struct memory_plan *memory;
    struct step *steps;
    const char **impls;
    struct port *inputs, *outputs;
    uint64_t arena_bytes, workspace_bytes;
    cudaEvent_t *events; /* op_count + 1, with op_events */
    uint64_t generation; /* of the regions, when packs were made */
    uint64_t runs;
    uint64_t free_before;   /* of the step under way, while things are loaded lazily */
    cudaGraphExec_t replay; /* NULL until captured */
    bool replay_refused;    /* capture failed once: eager from then on */
};

struct plan *plan_new(struct device *device, const struct graph *graph,
                      const struct plan_options *options, struct error *error);
/* The steps of a plan and what they need, without memory of the device: uploads are wanted and not
 * committed, ports are not pinned. */
struct plan *plan_compile(struct device *device, const struct graph *graph,
                          const struct plan_options *options, struct error *error);
bool plan_forecast(struct device *device, const struct graph *graph,
                   const struct plan_options *options, struct plan_memory *out,
                   struct error *error);
void plan_free(struct plan *plan);
void *plan_input(struct plan *plan, size_t index);
const void *plan_output(struct plan *plan, size_t index);
bool plan_run(struct plan *plan, const struct step_context *context, struct error *error);
bool plan_launch(struct plan *plan, const struct step_context *context, struct error *error);
bool plan_wait(struct plan *plan, const struct step_context *context, struct error *error);
const char *const *plan_impls(const struct plan *plan);
void plan_memory(const struct plan *plan, struct plan_memory *out);
/* Does plan_run() replay a captured CUDA graph now? */
bool plan_replays(const struct plan *plan);

/* Device address of a value, of the workspace. */
float *plan_address(const struct plan *plan, int value);
void *plan_workspace(const struct plan *plan);
const struct shape *plan_shape(const struct plan *plan, int value);
/* Do two values lie (partly) on the same bytes? */
bool plan_overlap(const struct plan *plan, int a, int b);
float *source_address(const struct plan *plan, const struct source *source);

/* Make one op into a step: conv, matmul, and all others. False with ERROR_BACKEND_OP that names
 * the layer, or another error. */
bool step_conv(struct plan *plan, struct step *step, struct error *error);
bool step_matmul(struct plan *plan, struct step *step, struct error *error);
/* y (rows, K) = x (rows, C) * weights (C, K) + bias by cuBLASLt, posts included; weights NULL: the
 * op's second input. */
bool step_product(struct plan *plan, struct step *step, const struct constant *weights,
                  const struct constant *bias, struct error *error);
bool step_own(struct plan *plan, struct step *step, struct error *error);

/* Append functions to a step's chains. The first begins with step_chain_begin(). */
void step_chain_begin(struct plan *plan, struct step *step, int x_value);
void step_chain_unary(struct plan *plan, struct step *step, const struct op_unary *unary);
void step_chain_binary(struct plan *plan, struct step *step, enum binary_function function,
                       bool swapped, struct source operand, const struct shape *shape);
/* Append posts[first..] of the op; begins a chain on what `run` made if there is none. Decides
 * to_temporary. */
void step_posts(struct plan *plan, struct step *step, size_t first);
/* Set a chain's pointers before its launch. `x` is what `run` made. */
void step_chain_resolve(const struct plan *plan, struct step_chain *chain, const float *x);
/* ERROR_BACKEND_OP for this step's layer. Returns false. */
bool step_lacks(const struct step *step, const char *why, struct error *error);

#endif
