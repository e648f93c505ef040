/* A plan on a CUDA device: every op of a graph made into a step, and the memory they run in.
 *
 * Values are stored as float32, or as the plan's half type (fp16, bf16); sums and functions are
 * computed in float32. The host sees float32 (or a port's own integers): inputs and outputs that are
 * stored otherwise are converted through a staging area behind the arena. Two kinds of values are
 * stored in a way of their own (storage.c): inputs that only elementwise ops read keep the host's
 * type, so that the cast is part of the first op; and what a convolution reads with few channels has
 * more of them, filled with zeros, as tensor cores ask for.
 *
 * In an int8 plan values are float32, and convolutions and products quantise what they read (int8.h).
 *
 * Ops whose fused functions (posts) no library takes end in elementwise chains of ours. Where a post
 * reads a value that the memory plan lets the op overwrite, the op writes to the workspace first and
 * the chain writes the result.
 */
#ifndef LAYERTOP_ENGINE_CUDA_PLAN_H
#define LAYERTOP_ENGINE_CUDA_PLAN_H

#include "engine/cuda/conv.h"
#include "engine/cuda/device.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/matmul.h"
#include "engine/cuda/plan_cache.h"

/* Where an operand comes from: a graph value or a constant's copy. */
struct source {
    int value; /* -1: none */
    const struct upload *upload;
};

/* One launch of a chain, with the sources of its pointers. */
struct step_chain {
    struct chain chain;
    struct source x; /* none: what the op's own kernel made */
    struct source chosen[2];
    struct source operands[CHAIN_STAGES_MAX];
};

struct plan;
struct step;

/* Other ways to do what a step's `run` does, for tune.c. Candidates are numbered from 0; -1 is what
 * the step does now. */
struct tuning {
    /* List the candidates; returns how many there are, 0 if this was measured before. */
    size_t (*begin)(struct plan *plan, struct step *step);
    /* Let `run` use one of them until the next call; false if it cannot run, or needs more workspace
     * than the plan has. */
    bool (*use)(struct plan *plan, struct step *step, int candidate);
    /* Keep one for good, for all steps and plans that have the same problem. Ends what begin()
     * began. */
    void (*keep)(struct plan *plan, struct step *step, int candidate, int64_t time_ns);
};

/* What a step by cuBLASLt begins its data with; its tuning looks for that. */
struct step_product {
    struct matmul_entry *entry;
    const cublasLtMatmulAlgo_t *trial; /* while it is measured */
    uint64_t beside_bytes; /* of the step's workspace that are not for cuBLASLt, in front */
};

struct step {
    const struct op *op;
    int index;
    const char *impl; /* NULL: nothing to do (an alias) */
    char layer[160];  /* for errors */
    /* Queue the op's own kernel, which writes `target`; NULL if chains do everything. */
    bool (*run)(struct plan *plan, struct step *step, void *target, struct error *error);
    void (*free_data)(struct plan *plan, struct step *step);
    void *data;
    uint64_t workspace_bytes; /* for `run` */
    bool to_temporary; /* `run` writes in front of its workspace, the first chain reads there */
    uint64_t temporary_bytes;
    struct step_chain *chains;
    size_t chain_count;
    bool first_chain_inside;     /* `run` applies the first chain itself (depthwise) */
    bool bytes;                  /* it multiplies bytes */
    uint32_t kernels;            /* launches, as we count them */
    const struct tuning *tuning; /* NULL: there is one way */
};

/* A model input or output on the host. */
struct port {
    int value;
    enum dtype dtype; /* on the host: float32 or an integer type */
    int64_t elements;
    uint64_t bytes;        /* on the host */
    void *host;            /* pinned, or pageable */
    bool staged;           /* stored otherwise: converted on the device */
    uint64_t stage_offset; /* in the arena */
    struct chain convert;  /* from or to the stage */
};

/* An engine or algorithm that a plan uses, and its name in the plan cache. */
struct plan_entry {
    struct conv_entry *conv;     /* one of */
    struct matmul_entry *matmul; /* the two */
    char name[24];
};

/* How far measuring has come (tune.c). */
struct tune {
    bool open, done;
    size_t step, count;  /* that is measured, of so many candidates */
    int candidate, best; /* -1: what the heuristics chose */
    double first_ns, best_ns;
    size_t tried, problems, changed;
    double gained_ns;
    cudaEvent_t events[2];
};

/* Measuring begins after so many runs: by then kernels are loaded, and a graph is replayed. */
#define TUNE_AFTER_RUNS 4

struct feed; /* feed.h */

struct plan {
    struct plan *next;
    struct device *device;
    const struct graph *graph; /* the caller's */
    struct graph local;        /* a copy with shapes and types as stored */
    enum dtype dtype;          /* of activations: DTYPE_F32, DTYPE_F16 or DTYPE_BF16 */
    enum dtype *storage;       /* per value: how it is stored; `dtype` for most */
    struct plan_options options;
    struct memory_plan *memory;
    struct step *steps;
    const char **impls;
    bool int8; /* convolutions and products in bytes, and the rest in strict float32 */
    const char **precisions; /* of an int8 plan: "int8" or "fp32" for each op; else NULL */
    struct port *inputs, *outputs;
    uint64_t arena_bytes, workspace_bytes;
    uint64_t temporary_bytes; /* of the workspace: the most that a step needs beside its own */
    struct plan_cache cache;  /* of `autotune on`: what earlier runs of the program measured */
    struct plan_entry *entries;
    size_t entry_count;
    struct tune tune;
    cudaEvent_t *events; /* op_count + 1, with op_events */
    struct feed *feed;   /* pictures for the first input; NULL: none */
    bool looks_up;       /* a step reads rows by index */
    uint64_t *fault;     /* then: pinned, where the device says that an index lay outside */
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
const char *const *plan_precisions(const struct plan *plan);
void plan_memory(const struct plan *plan, struct plan_memory *out);
/* Measure candidates for about so long; true while there are more to come. */
bool plan_tune(struct plan *plan, int64_t budget_ns);
/* Steps on inputs that stay on the device: see backend.h. */
bool plan_repeat(struct plan *plan, size_t steps, const atomic_bool *cancel, int64_t *total_ns,
                 struct error *error);
/* Does plan_run() replay a captured CUDA graph now? */
bool plan_replays(const struct plan *plan);

/* Zeroed memory of the host as the options want it, pinned or pageable; NULL with ERROR_MEMORY. */
void *plan_host_alloc(const struct plan *plan, uint64_t bytes, struct error *error);
void plan_host_free(const struct plan *plan, void *memory);

/* Device address of a value, of the workspace, and of a step's own part of that. */
void *plan_address(const struct plan *plan, int value);
void *plan_workspace(const struct plan *plan);
void *step_workspace(const struct plan *plan, const struct step *step);
/* The shape that a value is stored in; its shape in the model, which may have fewer channels. */
const struct shape *plan_shape(const struct plan *plan, int value);
const struct shape *plan_model_shape(const struct plan *plan, int value);
/* Is the value stored with more channels than it has? */
bool plan_widened(const struct plan *plan, int value);
/* Bytes of a value as it is stored. */
uint64_t plan_value_bytes(const struct plan *plan, int value);
/* Do two values lie (partly) on the same bytes? */
bool plan_overlap(const struct plan *plan, int a, int b);
void *source_address(const struct plan *plan, const struct source *source);

/* How much workspace any step's `run` may use without a plan of the device growing, bytes. */
uint64_t plan_tuning_workspace(const struct plan *plan);
/* The device's entry for a problem, with what earlier runs of this program have measured. */
struct conv_entry *plan_conv_entry(struct plan *plan, const struct conv_problem *problem);
struct matmul_entry *plan_matmul_entry(struct plan *plan, const struct matmul_problem *problem,
                                       struct error *error);

/* plan_entries.c: read and write the plan cache. */
void plan_entries_open(struct plan *plan);
void plan_entries_save(struct plan *plan);
void plan_entries_close(struct plan *plan);
void tune_free(struct plan *plan);
/* A choice as words, and back; false if they are none. */
void conv_choice_write(const struct conv_choice *choice, char *out, size_t size);
bool conv_choice_read(const char *text, struct conv_choice *choice);

/* storage.c: decide how values are stored; shapes and types of plan->local, and plan->storage. */
void storage_choose(struct plan *plan);

/* Make one op into a step: conv, matmul, recurrent layers, attention, and all others. False with ERROR_BACKEND_OP that names
 * the layer, or another error. */
bool step_conv(struct plan *plan, struct step *step, struct error *error);
bool step_matmul(struct plan *plan, struct step *step, struct error *error);
/* y (rows, K) = x (rows, C) * weights (C, K) + bias by cuBLASLt, posts included; weights NULL: the
 * op's second input. */
bool step_product(struct plan *plan, struct step *step, const struct constant *weights,
                  const struct constant *bias, struct error *error);
extern const struct tuning product_tuning;
const cublasLtMatmulAlgo_t *product_algorithm(const struct step_product *product);
uint64_t product_workspace(const struct plan *plan, const struct step_product *product);
/* op_int8.c: in an int8 plan, a convolution or product with weights in bytes. *taken is false where
 * there is no such kernel or the range of x is not known: float32 does it then. */
bool step_int8(struct plan *plan, struct step *step, bool *taken, struct error *error);
/* op_conv.c: with the spatial axes to the right; unused ones come first and are 1. */
void conv_geometry(struct kernel_conv *out, const struct op_conv *conv, const struct shape *x,
                   const struct shape *y);
bool step_recurrent(struct plan *plan, struct step *step, struct error *error);
bool step_attention(struct plan *plan, struct step *step, struct error *error);
bool step_host(struct plan *plan, struct step *step, struct error *error); /* on the CPU */
bool step_own(struct plan *plan, struct step *step, struct error *error);
/* op_order.c */
bool step_lookup(struct plan *plan, struct step *step, struct error *error);
void step_cumulate(struct plan *plan, struct step *step);
void step_top(struct plan *plan, struct step *step);
/* After a step: did all indices lie inside? ERROR_INPUT that names the layer if not. */
bool plan_fault(const struct plan *plan, struct error *error);

/* Append functions to a step's chains. The first begins with step_chain_begin(). */
void step_chain_begin(struct plan *plan, struct step *step, int x_value);
void step_chain_unary(struct plan *plan, struct step *step, const struct op_unary *unary);
void step_chain_binary(struct plan *plan, struct step *step, enum binary_function function,
                       bool swapped, struct source operand, const struct shape *shape);
/* Append posts[first..] of the op; begins a chain on what `run` made if there is none. Decides
 * to_temporary. */
void step_posts(struct plan *plan, struct step *step, size_t first);
/* Set a chain's pointers before its launch. `x` is what `run` made. */
void step_chain_resolve(const struct plan *plan, struct step_chain *chain, const void *x);
/* ERROR_BACKEND_OP for this step's layer. Returns false. */
bool step_lacks(const struct step *step, const char *why, struct error *error);

#endif
