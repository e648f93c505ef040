/* Kernels of recurrent layers. As in kernels.h every launcher queues one kernel and returns
 * cudaSuccess or the launch's error as an int.
 *
 * The product of the inputs with the kernel matrix is made before, for all steps at once; what is
 * here is the recurrence: one kernel for a whole sequence where the recurrent weights stay in an SM's
 * first-level cache, else one for every step (two for a GRU that resets before its product), or only
 * the cells behind a product by a library.
 */
#ifndef LAYERTOP_ENGINE_CUDA_RECURRENT_H
#define LAYERTOP_ENGINE_CUDA_RECURRENT_H

#include "engine/graph/op.h"
#include <driver_types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Units up to which kernel_recurrent_sequence() takes a layer. */
#define RECURRENT_SEQUENCE_UNITS 256

/* A recurrent layer, see op_recurrent: N samples, T steps, H units, G gates. Elements are of the
 * activations' type but where it says float; all arithmetic is in float32. */
struct kernel_recurrent {
    int cell; /* enum recurrent_cell */
    int gates;
    bool reset_after;
    bool backwards, flipped, sequences;
    int masked; /* enum masked_output */
    struct op_unary activation, gate;
    int64_t samples, steps, units;

    const void *z;                 /* (N, T, G H): x kernel + bias */
    const void *recurrent;         /* (H, G H) */
    const void *recurrent_bias;    /* (G H) or NULL */
    const void *mask;              /* (N, T) or NULL */
    const void *h_first, *c_first; /* (N, H) or NULL: zeros */
    void *y;                       /* (N, T, H) or (N, H) */
    void *h_last, *c_last;         /* (N, H) or NULL */

    /* between the steps; kernel_recurrent_sequence() keeps them to itself */
    float *h, *c;       /* (N, H) */
    void *h_operand[2]; /* (N, H): h as the next product reads it; step s reads s % 2 */
    float *update;      /* (N, H): a GRU that resets before its product */
    void *reset;        /* (N, H): reset gate times h, of such a GRU */
    void *u;            /* (N, G H): h recurrent, where a library makes it */
    int *started;       /* (N): was a step real already? */
};

/* All steps of a layer of up to RECURRENT_SEQUENCE_UNITS units; `rows` (1 or 4) samples a block. */
int kernel_recurrent_sequence(enum dtype dtype, const struct kernel_recurrent *layer, int rows,
                              cudaStream_t stream);
/* Put the initial states where the steps look for them. */
int kernel_recurrent_begin(enum dtype dtype, const struct kernel_recurrent *layer,
                           cudaStream_t stream);
/* Step `step` (0 is the first to be computed), product and cells. A GRU that resets before its product
 * has two stages: 0 the first gates, 1 the candidate; other layers have stage 0. */
int kernel_recurrent_step(enum dtype dtype, const struct kernel_recurrent *layer, int64_t step,
                          int stage, cudaStream_t stream);
/* The cells of a step, or of a stage, whose product lies in `u`, all columns of it. */
int kernel_recurrent_cells(enum dtype dtype, const struct kernel_recurrent *layer, int64_t step,
                           int stage, cudaStream_t stream);

/* Are a layer's functions among those that kernel_recurrent_sequence() and kernel_recurrent_step()
 * have? kernel_recurrent_cells() has all. */
static inline bool recurrent_is_usual(const struct op_unary *function)
{
    switch (function->function) {
    case UNARY_IDENTITY:
    case UNARY_RELU:
    case UNARY_SIGMOID:
    case UNARY_TANH:
    case UNARY_HARD_SIGMOID:
    case UNARY_LINEAR:
        return true;
    default:
        return false;
    }
}

/* Does a layer's step have two products? */
static inline bool recurrent_two_stages(const struct kernel_recurrent *layer)
{
    return layer->cell == CELL_GRU && !layer->reset_after;
}

#ifdef __cplusplus
}
#endif
#endif
