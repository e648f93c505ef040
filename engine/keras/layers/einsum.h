/* Einstein summation: an equation such as "bqm,muh->bquh" over values of the graph.
 *
 * Every axis of an operand has a label. Axes that only one operand has and the result does not are
 * summed; what remains of two operands is one batched matrix product (or an elementwise one if
 * nothing is summed) between transposes and reshapes. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_EINSUM_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_EINSUM_H

#include "engine/graph/lower.h"

#define EINSUM_LABELS 64 /* a..z, A..Z, and one for each axis of "..." */

/* The labels of one operand or of the result. */
struct labels {
    int rank;
    int list[TENSOR_RANK_MAX];
};

/* A value with a label per axis. */
struct labelled {
    int value;
    struct labels labels;
};

#define EINSUM_OPERANDS 8

struct einsum {
    struct labels operands[EINSUM_OPERANDS];
    size_t count;
    struct labels result;
};

/* Read "...ab,bc->...ac" for operands of these ranks. Without "->" the result has the labels that
 * appear once, in alphabetical order. False: the call has failed. */
bool einsum_parse(struct call *call, const char *equation, const int *ranks, size_t count,
                  struct einsum *out);

/* The sum over all labels that are not in `keep`; the result's labels are in no set order. */
struct labelled einsum_product(struct call *call, struct labelled a, struct labelled b,
                               const bool *keep);

/* Sum what the result lacks, and put the axes in its order. */
int einsum_arrange(struct call *call, struct labelled x, const struct labels *result);

/* The whole equation; -1 on failure. */
int lower_einsum(struct call *call, const char *equation, const int *values, size_t count);

/* NumPy's matmul: vectors, matrices, and batches of them that broadcast. */
int lower_matmul(struct call *call, int a, int b);

#endif
