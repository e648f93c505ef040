/* The same graph for fewer samples.
 *
 * A step on a big batch may be run as several small ones, the whole network deep, so that what one
 * layer writes is still in the cache when the next one reads it.
 */
#ifndef LAYERTOP_ENGINE_GRAPH_SLICE_H
#define LAYERTOP_ENGINE_GRAPH_SLICE_H

#include "engine/graph/graph.h"

/* A copy of `graph` for `batch` samples (1..graph->batch): the same ops and values under the same
 * numbers, the first axis of every value in proportion. NULL if an op mixes samples or an axis does
 * not divide. Shares the model and the constants; has no layer_shapes. Free with graph_free(). */
struct graph *graph_slice(const struct graph *graph, int64_t batch);

#endif
