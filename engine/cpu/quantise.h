/* An int8 plan: which values lie in the arena as bytes, and which ops compute in them.
 *
 * A value is x = step q, without an offset: q is u8 where x was never negative in the calibration,
 * else s8. Weights have a step for each output channel. Convolutions and products with weights
 * compute in int8 where oneDNN has more than its slow reference for that; their results stay bytes
 * if everybody who reads them takes bytes: another such op, the shortcut that is added to its sums,
 * and what only moves or compares numbers in between (pooling, padding, concatenation, slices).
 * All else computes in float32, and whoever wants bytes of a float32 value quantises a copy in the
 * scratchpad. Threads: the engine thread. */
#ifndef LAYERTOP_ENGINE_CPU_QUANTISE_H
#define LAYERTOP_ENGINE_CPU_QUANTISE_H

#include "engine/backend.h"
#include "engine/cpu/dnnl_compat.h"

struct value_form {
    dnnl_data_type_t type; /* dnnl_u8 or dnnl_s8; dnnl_data_type_undef: the range is not known */
    float step;
};

struct quantised {
    struct value_form *forms;   /* per value: as bytes */
    bool *stored;               /* per value: it lies in the arena like that */
    bool *ops;                  /* per op: it computes in int8, or moves bytes */
    unsigned char *value_bytes; /* per value: of an element in the arena, 1 or 4 */
};

/* Of options->ranges, one for each value of the graph. Errors: ERROR_VALUE if there are none. */
struct quantised *quantise_graph(struct device *device, const struct graph *graph,
                                 const struct plan_options *options, struct error *error);
void quantised_free(struct quantised *quantised);

/* build_int8.c: can oneDNN run this convolution or product as `quantised` has it? Without a word on
 * how fast, but not by its reference. */
bool int8_can_run(struct device *device, const struct graph *graph, int op,
                  const struct quantised *quantised);
/* Is the op one that may compute in int8, or that may move bytes? By its kind and parameters. */
bool int8_computes(const struct op *op);
bool int8_carries(const struct op *op);

/* own_int8.c: q = x / step to the nearest, ties to even, cut to what the type holds; a NaN becomes the least. */
void own_quantise(const float *x, void *q, int64_t count, const struct value_form *form);
/* The step of every channel of weights: their largest magnitude over `most`, 1 where all are 0.
 * Channel k of element i is i / inner % channels. */
void own_weight_steps(const float *weights, int64_t count, int64_t channels, int64_t inner,
                      float most, float *steps);
void own_quantise_weights(const float *weights, int64_t count, int64_t channels, int64_t inner,
                          const float *steps, int8_t *q);

#endif
