/* Constants of one model: weights as float32, and what was computed from them.
 *
 * Every constant has a key, so that lowering the same model again (another batch size, fusion on or
 * off) finds the same constant at the same address. Constants live until the pool dies.
 * Threads: the engine thread only.
 */
#ifndef LAYERTOP_ENGINE_GRAPH_CONSTANT_H
#define LAYERTOP_ENGINE_GRAPH_CONSTANT_H

#include "engine/error.h"
#include "engine/graph/graph.h"
#include "engine/model.h"

/* The constant made before under this key, or NULL. */
const struct constant *constant_find(const struct constant_pool *pool, const char *key);

/* A float32 constant of `shape` from data of any dtype: a view if the data are aligned float32, a
 * copy that comes and goes (constant_data) if they are large and lie at an odd byte, else a converted
 * copy. The element count must fit the data. NULL on ERROR_MEMORY. */
const struct constant *constant_from_weight(struct constant_pool *pool, const char *key,
                                            const struct shape *shape,
                                            const struct model_weight *weight, struct error *error);

/* A constant of its own memory, to be filled through *data before it is used. NULL on
 * ERROR_MEMORY. The key must be new. */
const struct constant *constant_new(struct constant_pool *pool, const char *key,
                                    const struct shape *shape, float **data, struct error *error);

/* from[..., k, (inner)] * scale[k]: weights with an affine op folded in. Made at once, and made again
 * when they are read after constant_release(). `scale` (channels) is copied; `inner` elements follow
 * each channel. NULL on ERROR_MEMORY. The key must be new; `from` is of the same pool. */
const struct constant *constant_scaled(struct constant_pool *pool, const char *key,
                                       const struct constant *from, const double *scale,
                                       int64_t channels, int64_t inner, struct error *error);

/* Read element `index` of a weight as a double. */
double weight_element(const struct model_weight *weight, size_t index);

#endif
