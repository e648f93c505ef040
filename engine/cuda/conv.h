/* Convolutions by cuDNN's graph API (its C backend descriptors).
 *
 * A problem is one convolution with what is fused to it, in the one order that cuDNN has
 * precompiled engines for: y = relu(conv(x, w) + z + bias). Engines come in the order of cuDNN's
 * heuristics (mode A, then the fallback list); strict float32 rejects those that use tensor cores
 * (TF32) or narrow their inputs, and those whose algorithm (FFT, large Winograd tiles) loses digits;
 * half types reject the latter and sums in half. Engines that are compiled at run time (0.5 s each)
 * come last. A device keeps every engine it has found, so that equal layers and later plans share
 * them.
 *
 * The search also works without a GPU, from a description of one (`properties`): heuristics and
 * support checks then tell what a device would run; such an engine cannot be executed.
 */
#ifndef LAYERTOP_ENGINE_CUDA_CONV_H
#define LAYERTOP_ENGINE_CUDA_CONV_H

#include "engine/cuda/kernels.h"
#include "engine/cuda/libraries.h"

struct device;

/* Zero all of it before filling: problems are compared as bytes. */
struct conv_problem {
    struct kernel_conv shape; /* x, y channels last; filters (K, k..., C/groups); transposed:
                                 filters (C, k..., K) */
    int spatial;              /* 1..3 */
    enum dtype dtype;         /* of x, filters, y, bias and z: DTYPE_F32, DTYPE_F16, DTYPE_BF16 */
    bool bias;                /* + bias[K] */
    bool sum;                 /* + z, of y's shape; the addition comes before the bias's */
    bool relu;
    bool tf32;           /* float32: tensor cores may be used */
    bool channels_first; /* all tensors are (N, C, ...), filters (K, C/groups, k...) */
    bool measured;       /* changes no engine: keeps apart what `autotune` may replace */
};

struct conv_target {
    cudnnHandle_t handle;                /* or NULL and */
    cudnnBackendDescriptor_t properties; /* a finalised DEVICEPROP descriptor */
};

/* An engine and its settings: what cuDNN can make the same plan of again. */
#define CONV_KNOBS_MAX 20
struct conv_choice {
    int64_t engine; /* cuDNN's number */
    int knob_count;
    int64_t types[CONV_KNOBS_MAX], values[CONV_KNOBS_MAX];
};

struct conv_engine {
    cudnnBackendDescriptor_t plan;
    uint64_t workspace_bytes;
    struct conv_choice choice;
    bool runtime_compiled;           /* by NVRTC, when the plan was made */
    cudnnBackendDescriptor_t *parts; /* what the plan was built from; lives as long as it */
    size_t part_count;
};

/* Workspace up to this much is taken for a faster engine, bytes. */
#define CONV_WORKSPACE_BYTES (512ull << 20)

/* The first engine that takes the problem; NULL if there is none. *error (may be NULL) then says
 * what cuDNN answered last. */
struct conv_engine *conv_engine_find(const struct libraries *libraries,
                                     const struct conv_target *target,
                                     const struct conv_problem *problem, struct error *error);
void conv_engine_free(const struct libraries *libraries, struct conv_engine *engine);

/* The engine of a choice; NULL with *error if cuDNN does not take it, or it wants more workspace. */
struct conv_engine *conv_engine_make(const struct libraries *libraries,
                                     const struct conv_target *target,
                                     const struct conv_problem *problem,
                                     const struct conv_choice *choice, uint64_t workspace_bytes,
                                     struct error *error);
/* What cuDNN's heuristics offer for the problem at its precision, best first by their own judgement,
 * without engines that are compiled at run time. Returns how many were written to choices[]. */
size_t conv_candidates(const struct libraries *libraries, const struct conv_target *target,
                       const struct conv_problem *problem, struct conv_choice *choices,
                       size_t capacity);

/* A problem on a device, with the engine that runs it. Entries live as long as the device, and so do
 * engines that were once in use: captured graphs may hold their kernels. */
struct conv_entry {
    struct conv_problem problem;
    struct conv_engine *engine; /* NULL: cuDNN has none */
    struct conv_engine *before; /* the heuristics' one, after a better one was measured */
    bool tuned;                 /* measured, now or by an earlier run */
    int64_t time_ns;            /* then; 0: not known */
    struct conv_entry *next;
};

/* The device's entry for a problem, made once: with `known` if that is not NULL and cuDNN takes it,
 * else as conv_engine_find(). */
struct conv_entry *conv_entry_find(struct device *device, const struct conv_problem *problem,
                                   const struct conv_choice *known);
void conv_entries_free(struct device *device);

/* A variant pack: the pointers of one execution. z or bias may be NULL. NULL with *error. */
cudnnBackendDescriptor_t conv_pack_new(const struct libraries *libraries, const void *x,
                                       const void *weights, const void *y, const void *bias,
                                       const void *z, void *workspace, struct error *error);

/* A device described by cuDNN's JSON (see the cuDNN backend API, DEVICEPROP); NULL with *error. */
cudnnBackendDescriptor_t conv_properties_new(const struct libraries *libraries, const char *json,
                                             struct error *error);

#endif
