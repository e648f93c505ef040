/* Shapes, element types and constant tensors: the words every room of the engine shares. */
#ifndef LAYERTOP_ENGINE_TENSOR_H
#define LAYERTOP_ENGINE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TENSOR_RANK_MAX 8
#define DIM_UNKNOWN     (-1) /* a dimension the file leaves open (None in Keras) */

enum dtype {
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_BOOL,
    DTYPE_COUNT
};

/* Row-major; dims[0] is the batch in activations. Rank 0 is a scalar. */
struct shape {
    int rank;
    int64_t dims[TENSOR_RANK_MAX];
};

/* Bytes of one element. */
size_t dtype_bytes(enum dtype dtype);
/* NumPy's spelling: "float32", "bfloat16", "bool" ... */
const char *dtype_name(enum dtype dtype);
/* The dtype of a NumPy spelling; false if unknown. */
bool dtype_parse(const char *name, enum dtype *dtype);

/* Product of the dims, 1 for a scalar; -1 if a dim is unknown or the product passes 2^62. */
int64_t shape_elements(const struct shape *shape);
bool shape_equal(const struct shape *a, const struct shape *b);
/* "(None, 28, 28, 1)" into out[size]; returns out. */
char *shape_format(char *out, size_t size, const struct shape *shape);
/* Build a shape from a list of dims. */
struct shape shape_of(int rank, const int64_t *dims);

#endif
