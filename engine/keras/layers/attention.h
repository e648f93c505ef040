/* Attention for the layers that use it: one op, or its parts where the scores are wanted. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_ATTENTION_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_ATTENTION_H

#include "engine/graph/lower.h"

/* q (N, T, H, D), k (N, S, G, D), v (N, S, G, V), mask and bias as OP_ATTENTION has them (-1: none)
 * to (N, T, H, V). If `scores` is not NULL, *scores is the softmax, (N, H, T, S), and the op is
 * lowered in its parts; zeroed: a query that sees nothing gets no share of anything (the Softmax of
 * Keras 3's multi-head layers), else equal ones. */
int lower_attention(struct call *call, int q, int k, int v, int mask, int bias,
                    const struct op_attention *attention, bool zeroed, int *scores);

/* Two masks of 0 and 1 that must both hold; -1 is none. They broadcast. */
int attention_both(struct call *call, int a, int b);
/* A mask (N, steps) as (N, 1, steps, 1) for the queries (axis 2) or (N, 1, 1, steps) for the keys
 * (axis 3); -1 stays. */
int attention_steps(struct call *call, int mask, int axis);

#endif
