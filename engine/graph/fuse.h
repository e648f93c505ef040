/* Fusion: fewer ops with the same result (up to rounding).
 *
 *  - ops that change nothing and pairs of transposes that undo each other go;
 *  - chains of elementwise functions become one (x + 3, relu6, / 6 is a hard sigmoid; times x a
 *    hard silu);
 *  - batch norm and other per-channel affine ops are folded into the weights of the convolution or
 *    matmul before them, in double precision;
 *  - zero padding moves into the convolution, or into a max pool over values that cannot be
 *    negative;
 *  - activations and residual operands become post-ops, where the value between has one consumer
 *    and is no output of the model.
 *
 * A convolution or matmul carries at most [unary] [binary] [unary], with one binary whose operand
 * has the shape of the result: oneDNN's post-ops and cuDNN's fused engines both take that.
 * Elementwise ops carry up to FUSE_POSTS_MOST posts.
 * Every layer that vanishes is written into `fused` of the op that took its work.
 */
#ifndef LAYERTOP_ENGINE_GRAPH_FUSE_H
#define LAYERTOP_ENGINE_GRAPH_FUSE_H

#include "engine/error.h"
#include "engine/graph/graph.h"

#define FUSE_POSTS_MOST 4

/* Fuse in place; folded weights go to the pool. false only on ERROR_MEMORY. */
bool graph_fuse(struct graph *graph, struct constant_pool *pool, struct error *error);

#endif
