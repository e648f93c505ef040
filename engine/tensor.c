#include "engine/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {"float32", 4},   [DTYPE_F64] = {"float64", 8}, [DTYPE_F16] = {"float16", 2},
    [DTYPE_BF16] = {"bfloat16", 2}, [DTYPE_I8] = {"int8", 1},     [DTYPE_U8] = {"uint8", 1},
    [DTYPE_I16] = {"int16", 2},     [DTYPE_U16] = {"uint16", 2},  [DTYPE_I32] = {"int32", 4},
    [DTYPE_I64] = {"int64", 8},     [DTYPE_BOOL] = {"bool", 1},
};

size_t dtype_bytes(enum dtype dtype)
{
    return (unsigned)dtype < DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}

const char *dtype_name(enum dtype dtype)
{
    return (unsigned)dtype < DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

bool dtype_parse(const char *name, enum dtype *dtype)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *dtype = (enum dtype)i;
            return true;
        }
    }
    return false;
}

int64_t shape_elements(const struct shape *shape)
{
    const int64_t most = INT64_C(1) << 62;
    int64_t product = 1;
    bool empty = false;
    for (int i = 0; i < shape->rank; i++) {
        int64_t dim = shape->dims[i];
        if (dim < 0)
            return -1;
        if (dim == 0)
            empty = true;
        else if (product > most / dim)
            return -1;
        else
            product *= dim;
    }
    return empty ? 0 : product;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->dims[i] != b->dims[i])
            return false;
    }
    return true;
}

char *shape_format(char *out, size_t size, const struct shape *shape)
{
    char text[TENSOR_RANK_MAX * 24 + 8];
    size_t used = 0;
    text[used++] = '(';
    for (int i = 0; i < shape->rank && i < TENSOR_RANK_MAX; i++) {
        const char *comma = i > 0 ? ", " : "";
        int length = shape->dims[i] == DIM_UNKNOWN
                         ? snprintf(text + used, sizeof text - used, "%sNone", comma)
                         : snprintf(text + used, sizeof text - used, "%s%lld", comma,
                                    (long long)shape->dims[i]);
        used += (size_t)length;
    }
    /* Python writes a tuple of one with a comma, and Keras's users read it so */
    snprintf(text + used, sizeof text - used, shape->rank == 1 ? ",)" : ")");
    snprintf(out, size, "%s", text);
    return out;
}

struct shape shape_of(int rank, const int64_t *dims)
{
    struct shape shape = {.rank = rank};
    for (int i = 0; i < rank && i < TENSOR_RANK_MAX; i++)
        shape.dims[i] = dims[i];
    return shape;
}
