/* What the lowering of a Keras layer has at hand: the call, its configuration and weights, and one
 * emit function per op.
 *
 * Errors are sticky: the first one is kept in the caller's struct error and `failed` is set; from
 * then on every emit function returns -1, and getters return their default. So a layer is written
 * as one straight expression and graph_lower() looks at the flag once.
 * Values are indices into graph->values; -1 is "failed".
 */
#ifndef LAYERTOP_ENGINE_GRAPH_LOWER_H
#define LAYERTOP_ENGINE_GRAPH_LOWER_H

#include "engine/graph/graph.h"
#include "engine/model.h"

struct lowering {
    const struct model *model;
    struct graph *graph;
    struct constant_pool *pool;
    struct error *error;
    bool failed;
    int layer;         /* model layer being lowered */
    char what[192];    /* "layer 'conv1' (Conv2D)" */
    size_t value_room; /* capacity of graph->values and graph->ops */
    size_t op_room;
    int **node_values; /* per model node: the values of its outputs */
    int **node_masks;  /* and their masks, see mask.c; -1: none */
    size_t *node_value_counts;
    struct mask *masks;
    size_t mask_count;
    struct mask_order *mask_order; /* per model node, or NULL: see mask_order.c */
    int mask_taker;                /* the first call that takes masks off */
};

struct layer_row;

/* One call of one layer. */
struct call {
    struct lowering *low;
    const struct layer_row *row;
    const struct model_layer *layer;
    const struct model_node *node; /* NULL for a layer used as an activation */
    const json_t *config;
    const int *inputs; /* graph values, in the node's order */
    size_t input_count;
    const int *input_masks; /* masks that came with the inputs; NULL: none has one */
    int *outputs;
    int *output_masks;
    size_t output_count;
    size_t next_weight;
    const char
        *scope; /* of a layer inside a wrapper: tells its computed constants apart; or NULL */
};

/* ---- errors ---- */

/* Refuse the layer with a printf-like reason (ERROR_MODEL_LAYERS). Always returns false. */
bool call_refuse(struct call *call, const char *why, ...) __attribute__((format(printf, 2, 3)));
/* The configuration contradicts itself or the shapes (ERROR_MODEL_SHAPE). Always returns false. */
bool call_misfit(struct call *call, const char *why, ...) __attribute__((format(printf, 2, 3)));

/* ---- the call ---- */

/* Input value `index`; -1 and an error if the layer was called with fewer. */
int call_input(struct call *call, size_t index);
/* Shape of a value; a rank-0 shape for -1. */
const struct shape *call_shape(const struct call *call, int value);
/* The layer's next weight as a constant of the given shape, checked: ERROR_MODEL_WEIGHTS names
 * both shapes. `as` is the shape the constant gets (same elements), or NULL for the same. */
const struct constant *call_weight(struct call *call, const char *name, const struct shape *shape,
                                   const struct shape *as);
/* The same without making a constant of it, for weights that only feed a computed one. */
const struct model_weight *call_raw_weight(struct call *call, const char *name,
                                           const struct shape *shape);
/* Leave out the rest of the layer's weights. */
void call_skip_weights(struct call *call);
/* A computed constant of this layer, keyed by the layer's path and `role`. If it exists already
 * *data is NULL and need not be filled; NULL on failure. */
const struct constant *call_constant(struct call *call, const char *role, const struct shape *shape,
                                     float **data);
/* Append an output. Returns false if the value is -1. Its mask is the first input's if the row says
 * that the layer passes masks on, else none. */
bool call_return(struct call *call, int value);
/* Is this keyword argument of the call true (`training`)? */
bool call_flag(const struct call *call, const char *keyword);

/* ---- masks (mask.c) ----
 *
 * A mask says which time steps of a tensor are real: 0 and 1, in the shape (N, T) or whatever Keras
 * has there. It travels beside the layers' outputs as a recipe, and its ops are emitted, for the
 * layer that made it, when somebody asks for its value: a mask that nobody reads costs nothing.
 * Masks are indices; -1 is none. */

/* The mask of an input as a graph value, -1 if it has none (or on failure): what the call says
 * with the keyword `mask` (a tensor or a list of one an input) wins over what came along. */
int call_mask(struct call *call, size_t input);
/* The same for layers with a keyword of its own for each argument ("query_mask"). */
int call_mask_named(struct call *call, const char *keyword, size_t input);

/* The mask of an input, not yet as a value. */
int mask_of_input(struct call *call, size_t input);
/* value != number, and with `any` true where any along the last axis is. */
int mask_not_equal(struct call *call, int value, double number, bool any);
/* A value of 0 and 1. */
int mask_of_value(struct call *call, int value);
/* All of them, or any (`either`), as BINARY_MINIMUM and BINARY_MAXIMUM would; -1 entries are left
 * out, and -1 comes out if none is left. */
int mask_join(struct call *call, const int *masks, size_t count, bool either);
/* Masks of tensors that are joined along `axis`: where an input has none, all of it is real. */
int mask_concat(struct call *call, const int *values, const int *masks, size_t count, int axis);
/* A scalar in a constant of this rank: (1, 1, ...). */
const struct constant *lowering_number(struct lowering *low, double number, int rank);
int mask_reshape(struct call *call, int mask, const struct shape *shape);
/* The mask as a graph value, emitted if need be; -1 for -1. */
int mask_value(struct lowering *low, int mask);
/* Frees low->masks; for graph_lower(). */
void mask_free_all(struct lowering *low);
/* Keras's order of a model's calls, for the masks that MultiHeadAttention takes off its inputs. */
struct mask_order {
    int distance;   /* calls on the longest way to an output */
    int rank;       /* among those of one distance; -1: no output needs it */
    int next_taker; /* the next call that takes masks off, -1: none */
};
/* Sets low->mask_order if the model's calls take masks off; free() it. */
void mask_order_new(struct lowering *low);
/* Did a call that Keras runs before `node` take the mask off this input of it? */
bool mask_was_taken(const struct lowering *low, size_t node, struct model_ref ref);
/* Give output `output` of the call this mask instead of the row's usual. */
void call_set_mask(struct call *call, size_t output, int mask);

/* ---- configuration (Keras 3 keys; a missing or null key gives the default) ---- */

int64_t config_int(struct call *call, const char *key, int64_t missing, int64_t least);
double config_number(struct call *call, const char *key, double missing);
bool config_bool(struct call *call, const char *key, bool missing);
/* Borrowed from the JSON. */
const char *config_string(struct call *call, const char *key, const char *missing);
/* An integer or a list of `count` integers, each at least `least`. */
void config_ints(struct call *call, const char *key, int count, int64_t missing, int64_t least,
                 int64_t *out);
/* Keras's major version of the file, 3 unless the reader says otherwise. */
int config_keras_major(struct call *call);
/* An axis in 0..rank-1 from a Keras axis (negative counts from the end). */
int config_axis(struct call *call, int64_t axis, int rank);
/* data_format == "channels_first" */
bool config_channels_first(struct call *call);

/* ---- ops ---- */

int emit_conv(struct lowering *low, int x, const struct op_conv *conv);
int emit_matmul(struct lowering *low, int x, const struct constant *weights,
                const struct constant *bias);
int emit_matmul_values(struct lowering *low, int a, int b);
int emit_pool(struct lowering *low, int x, const struct op_pool *pool);
int emit_affine(struct lowering *low, int x, const struct constant *scale,
                const struct constant *shift);
int emit_unary(struct lowering *low, int x, enum unary_function function, double alpha,
               double beta);
int emit_linear(struct lowering *low, int x, double alpha, double beta);
/* Equal ranks are made by inserting axes of 1 in front (NumPy). */
int emit_binary(struct lowering *low, enum binary_function function, int a, int b);
int emit_binary_constant(struct lowering *low, enum binary_function function, int x,
                         const struct constant *constant, bool swapped);
/* condition != 0 ? a : b; a value of -1 is the constant instead. Ranks are made equal (NumPy). */
int emit_select(struct lowering *low, int condition, int a, const struct constant *on_true, int b,
                const struct constant *on_false);
/* `data` or `indices` of -1: the op's constant. */
int emit_gather(struct lowering *low, int data, int indices, const struct op_gather *gather);
/* Fills outputs[0..] and returns how many there are, 0 on failure. Inputs: see op_recurrent. */
size_t emit_recurrent(struct lowering *low, const int *inputs, size_t count,
                      const struct op_recurrent *recurrent, int outputs[3]);
int emit_softmax(struct lowering *low, int x, int axis, bool log);
int emit_normalise(struct lowering *low, int x, const struct op_normalise *normalise);
int emit_reduce(struct lowering *low, int x, enum reduce_function function, const bool *axes,
                bool keepdims);
int emit_pad(struct lowering *low, int x, const struct op_pad *pad);
int emit_slice(struct lowering *low, int x, const struct op_slice *slice);
int emit_concat(struct lowering *low, const int *values, size_t count, int axis);
/* A permutation that changes nothing emits nothing. */
int emit_transpose(struct lowering *low, int x, const int *permutation);
int emit_reshape(struct lowering *low, int x, const struct shape *shape);
int emit_resize(struct lowering *low, int x, enum resize_function function, int64_t height,
                int64_t width);
/* A constant as a value of the graph, for ops that take only values. */
int emit_constant(struct lowering *low, const struct constant *constant);
int emit_cumulate(struct lowering *low, int x, const struct op_cumulate *cumulate);
int emit_top(struct lowering *low, int x, const struct op_top *top);
/* A mask or bias of -1 is none. */
int emit_attention(struct lowering *low, int q, int k, int v, int mask, int bias,
                   const struct op_attention *attention);
/* Repeat axes of 1, and axes that are missing in front, up to `shape` (NumPy's broadcast_to). */
int emit_broadcast(struct lowering *low, int x, const struct shape *shape);
/* (N, C, spatial...) to (N, spatial..., C) and back. */
int emit_channels_last(struct lowering *low, int x);
int emit_channels_first(struct lowering *low, int x);
/* Move one axis to the end, or the last axis to `axis`. */
int emit_axis_to_end(struct lowering *low, int x, int axis);
int emit_axis_from_end(struct lowering *low, int x, int axis);

/* Sets *failed and fills the error unless one is set already. Always returns -1. */
int lowering_fail(struct lowering *low, enum error_code code, const char *why, ...)
    __attribute__((format(printf, 3, 4)));

#endif
