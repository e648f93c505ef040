/* The rules of the ops: what shape comes out, how many FLOPs it takes, how many bytes must move.
 * One table row per op kind in op_shape.c, and one in op.c. Pure; any thread. */
#ifndef LAYERTOP_ENGINE_GRAPH_OP_RULES_H
#define LAYERTOP_ENGINE_GRAPH_OP_RULES_H

#include "engine/error.h"
#include "engine/graph/graph.h"

/* The shape of output 0 of an op whose inputs and parameters are filled. OP_RESHAPE has no rule of
 * its own: *shape must hold the wanted shape and only the element count is checked. Errors:
 * ERROR_MODEL_SHAPE with `what` as the subject. */
bool op_output_shape(const struct graph *graph, const struct op *op, struct shape *shape,
                     const char *what, struct error *error);

/* The same for any output of an op that has several. */
void op_extra_shape(const struct graph *graph, const struct op *op, size_t output,
                    struct shape *shape);

/* FLOPs of an op with its posts. A multiply-add counts as two, every elementary function as one. */
uint64_t op_flops(const struct graph *graph, const struct op *op);

/* Bytes that must move at float32: inputs, constants, post operands and outputs, each once. A
 * reshape moves nothing. */
uint64_t op_bytes(const struct graph *graph, const struct op *op);

/* Every constant of an op, NULLs left out, into list[capacity]; returns how many (at most 4). */
size_t op_constants(const struct op *op, const struct constant **list);

/* Does output element i depend on inputs at index i alone, so that the op may write in place? */
bool op_elementwise(const struct op *op);

/* NumPy broadcasting of two shapes of equal rank; false if they do not fit. */
bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out);

/* Extra functions a unary op costs per element (1 for most). */
uint64_t unary_flops(enum unary_function function);

#endif
