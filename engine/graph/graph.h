/* A graph: a model lowered to ops for one batch size, with every shape known.
 *
 * graph_lower() turns model nodes into ops (one row of the layer table each), infers shapes,
 * checks weights against them, and fuses unless told not to. Ops are in execution order.
 * Threads: built and freed on the engine thread; read-only in between.
 */
#ifndef LAYERTOP_ENGINE_GRAPH_GRAPH_H
#define LAYERTOP_ENGINE_GRAPH_GRAPH_H

#include "engine/graph/op.h"
#include "engine/model.h"

struct graph_value {
    struct shape shape; /* concrete; dims[0] is the batch */
    enum dtype dtype;   /* of the stored value at fp32; the backend narrows it by precision */
    int producer;       /* op, -1 for a model input */
    int alias_of;       /* value whose storage this one is (reshape, flatten, no-ops), or -1 */
    int layer;          /* model layer that made it */
    bool exact;         /* a model input of whole numbers: float32 in every precision */
};

/* Constants of one model, shared by every graph lowered from it. */
struct constant_pool;
struct constant_pool *constant_pool_new(void);
void constant_pool_free(struct constant_pool *pool);
/* Bytes of the constants that were computed (folded, converted), in anonymous memory. */
uint64_t constant_pool_bytes(const struct constant_pool *pool);
/* Let go of memory that is kept for the next constant to be made: to be called when a plan is. */
void constant_pool_trim(struct constant_pool *pool);

struct graph {
    const struct model *model;
    int64_t batch;
    struct graph_value *values;
    size_t value_count;
    struct op *ops;
    size_t op_count;
    int *inputs; /* values, in the model's input order */
    size_t input_count;
    int *outputs; /* values, in the model's output order; may be aliases */
    size_t output_count;
    bool mixes_samples;         /* an op mixes rows of the batch: never slice, pad or split it */
    struct shape *layer_shapes; /* per model layer: output 0 of its first call; rank -1 if it has
                                   none here. Kept because fusion drops values */
};

struct graph_options {
    int64_t batch; /* >= 1 */
    bool fusion;   /* fold batch norm, fuse activations and residual adds */
};

/* Lower a model. Names all unsupported layers at once. Errors: ERROR_MODEL_LAYERS,
 * ERROR_MODEL_WEIGHTS, ERROR_MODEL_SHAPE, ERROR_MEMORY. */
struct graph *graph_lower(const struct model *model, const struct graph_options *options,
                          struct constant_pool *pool, struct error *error);
void graph_free(struct graph *graph);

/* Follow alias_of to the value that owns the storage. */
int graph_storage(const struct graph *graph, int value);

/* Per model layer: {"layer": i, "name", "class", "fused_into": name or null, "fused": [names],
 * "ops": [op names], "flops", "bytes", "output_shape": "(32, 28, 28, 8)"} in model order.
 * A layer fused into another has flops and bytes 0. New reference. */
json_t *graph_describe_layers(const struct graph *graph);

/* A multi-line text of the graph for tests and `model graph`: one op a line. Caller frees. */
char *graph_to_text(const struct graph *graph);

#endif
