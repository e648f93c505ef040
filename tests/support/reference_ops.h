/* What the files of the plain reference share; nobody else includes this. */
#ifndef LAYERTOP_TESTS_SUPPORT_REFERENCE_OPS_H
#define LAYERTOP_TESTS_SUPPORT_REFERENCE_OPS_H

#include "tests/support/reference.h"

#define RANK TENSOR_RANK_MAX

/* What the loops need of one op: shapes and data. */
struct ref {
    const struct graph *graph;
    const struct op *op;
    double **values;
    const struct shape *x, *y; /* first input, output */
    const double *in;
    double *out;
};

/* Split a flat index into one per axis; join them again. */
static inline void reference_split(int64_t flat, const struct shape *shape, int64_t *index)
{
    for (int i = shape->rank - 1; i >= 0; i--) {
        index[i] = flat % shape->dims[i];
        flat /= shape->dims[i];
    }
}

static inline int64_t reference_join(const int64_t *index, const struct shape *shape)
{
    int64_t flat = 0;
    for (int i = 0; i < shape->rank; i++)
        flat = flat * shape->dims[i] + index[i];
    return flat;
}

/* The element of a broadcast operand that belongs to an index of the result. */
static inline int64_t reference_broadcast_at(const int64_t *index, const struct shape *shape)
{
    int64_t flat = 0;
    for (int i = 0; i < shape->rank; i++)
        flat = flat * shape->dims[i] + (shape->dims[i] == 1 ? 0 : index[i]);
    return flat;
}

/* f(a, b) of a binary function. */
double reference_binary(enum binary_function function, double a, double b);

/* reference_sums.c: ops whose results are made of many elements each */
void reference_conv(const struct ref *r);
void reference_matmul(const struct ref *r);
void reference_pool(const struct ref *r);
void reference_softmax(const struct ref *r);
void reference_normalise(const struct ref *r);
void reference_reduce(const struct ref *r);
void reference_recurrent(const struct ref *r);
void reference_cumulate(const struct ref *r);
void reference_top(const struct ref *r);
void reference_attention(const struct ref *r);

#endif
