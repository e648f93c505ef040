/* Weights whose numbers other writers stored otherwise, put the way Keras 3 stores them:
 * kernels of Keras 1, kernels of the Theano backend, and the integers of quantised layers.
 *
 * Runs after binding, on the reply's weights; what changes is copied into the memory file. */
#include "engine/keras/bind.h"

#include <stdlib.h>
#include <string.h>

static bool misfit(struct reader *reader, const struct child *child, const char *why)
{
    return error_set(reader->error, ERROR_MODEL_WEIGHTS, reader->files->name,
                     "the weights of the layer \"%s\" (%s) %s", child->name, child->class_name,
                     why);
}

/* The bytes of a weight, in the file or in the memory file: they may lie at an odd one. */
static const unsigned char *weight_bytes(const struct reader *reader, json_t *weight)
{
    size_t offset = (size_t)json_integer_value(json_object_get(weight, "offset"));
    json_int_t place = json_integer_value(json_object_get(weight, "place"));
    if (place >= PLACE_SHARDS)
        return reader->files->shards[place - PLACE_SHARDS].bytes.data + offset;
    switch (place) {
    case PLACE_MAIN:
        return reader->files->main.data + offset;
    case PLACE_WEIGHTS:
        return reader->files->weights.data + offset;
    default:
        return reader->files->memory->data + offset;
    }
}

static void weight_shape(json_t *weight, struct shape *shape)
{
    json_t *dims = json_object_get(weight, "shape");
    shape->rank = (int)json_array_size(dims);
    for (int i = 0; i < shape->rank; i++)
        shape->dims[i] = json_integer_value(json_array_get(dims, (size_t)i));
}

static bool is_float(json_t *weight)
{
    return strcmp(json_text(weight, "dtype", ""), dtype_name(DTYPE_F32)) == 0;
}

/* A new float32 weight in the memory file, to be filled. NULL and an error if there is no room. */
static float *weight_new(struct reader *reader, const char *name, const struct shape *shape,
                         json_t **weight)
{
    size_t bytes = (size_t)shape_elements(shape) * sizeof(float);
    size_t offset = keras_memory_take(reader->files->memory, bytes);
    if (offset == SIZE_MAX) {
        error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                  "its decoded weights are larger than is read at most");
        return NULL;
    }
    json_t *dims = json_array();
    for (int i = 0; i < shape->rank; i++)
        json_array_append_new(dims, json_integer(shape->dims[i]));
    *weight = json_pack("{s:s, s:s, s:o, s:i, s:I, s:I}", "name", name, "dtype",
                        dtype_name(DTYPE_F32), "shape", dims, "place", (int)PLACE_MEMORY, "offset",
                        (json_int_t)offset, "bytes", (json_int_t)bytes);
    return (float *)(void *)(reader->files->memory->data + offset);
}

/* y.dims[i] = x.dims[permutation[i]]; `flips`: that many leading axes of y run backwards. */
static void permute(const unsigned char *x, const struct shape *from, const int *permutation,
                    int flips, float *y)
{
    int64_t stride[TENSOR_RANK_MAX], index[TENSOR_RANK_MAX] = {0}, step = 1;
    struct shape to = {.rank = from->rank};
    for (int i = from->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= from->dims[i];
    }
    for (int i = 0; i < to.rank; i++)
        to.dims[i] = from->dims[permutation[i]];
    int64_t count = shape_elements(from);
    for (int64_t n = 0; n < count; n++) {
        int64_t at = 0;
        for (int i = 0; i < to.rank; i++)
            at += (i < flips ? to.dims[i] - 1 - index[i] : index[i]) * stride[permutation[i]];
        memcpy(&y[n], x + (size_t)at * sizeof *y, sizeof *y);
        for (int i = to.rank - 1; i >= 0 && ++index[i] == to.dims[i]; i--)
            index[i] = 0;
    }
}

/* Replace weight `at` of a layer by its transpose. */
static bool weight_permute(struct reader *reader, const struct child *child, json_t *weights,
                           size_t at, const int *permutation, int flips)
{
    json_t *old = json_array_get(weights, at), *made = NULL;
    struct shape from, to;
    weight_shape(old, &from);
    if (!is_float(old))
        return misfit(reader, child, "are no floating-point numbers");
    to.rank = from.rank;
    for (int i = 0; i < from.rank; i++)
        to.dims[i] = from.dims[permutation[i]];
    float *y = weight_new(reader, json_text(old, "name", ""), &to, &made);
    if (y == NULL)
        return false;
    permute(weight_bytes(reader, old), &from, permutation, flips, y);
    json_array_set_new(weights, at, made);
    return true;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_channels_first(const struct child *child)
{
    return strcmp(json_text(child->config, "data_format", ""), "channels_first") == 0;
}

/* Kernels of Keras 1 (what Keras 2's own loader does to them). */
static bool convert_kernel1(struct reader *reader, const struct child *child, json_t *weights)
{
    static const int conv1[] = {2, 3, 1, 0}, conv2[] = {2, 3, 1, 0}, conv3[] = {2, 3, 4, 1, 0};
    static const int transpose_last[] = {0, 1, 3, 2}, transpose_first[] = {2, 3, 0, 1};
    bool first = is_channels_first(child);
    const int *permutation = NULL;
    struct shape shape;
    weight_shape(json_array_get(weights, 0), &shape);
    if (strcmp(child->class_name, "Conv1D") == 0) {
        if (shape.rank != 4)
            return misfit(reader, child, "have no shape of Keras 1");
        json_int_t filters = json_integer_value(json_object_get(child->config, "filters"));
        if ((shape.dims[1] != 1 || shape.dims[3] != filters) &&
            !weight_permute(reader, child, weights, 0, conv1, 0))
            return false;
        json_t *dims = json_object_get(json_array_get(weights, 0), "shape");
        if (json_integer_value(json_array_get(dims, 1)) != 1)
            return misfit(reader, child, "have no shape of Keras 1");
        json_array_remove(dims, 1); /* (length, 1, in, out) */
        return true;
    }
    if (strcmp(child->class_name, "Conv2D") == 0 && first)
        permutation = conv2;
    else if (strcmp(child->class_name, "Conv3D") == 0 && first)
        permutation = conv3;
    else if (strcmp(child->class_name, "Conv2DTranspose") == 0)
        permutation = first ? transpose_first : transpose_last;
    if (permutation == NULL)
        return true;
    if (shape.rank != (permutation == conv3 ? 5 : 4))
        return misfit(reader, child, "have no shape of Keras 1");
    return weight_permute(reader, child, weights, 0, permutation, 0);
}

/* One matrix (or vector) per gate, side by side along the last axis. */
static bool join_gates(struct reader *reader, const struct child *child, json_t *parts,
                       const size_t *order, size_t gates, const char *name, json_t **joined)
{
    struct shape one, shape;
    weight_shape(json_array_get(parts, order[0]), &one);
    shape = one;
    if (one.rank < 1)
        return misfit(reader, child, "have no shape of Keras 1");
    int64_t width = one.dims[one.rank - 1], rows = one.rank == 2 ? one.dims[0] : 1;
    shape.dims[one.rank - 1] = width * (int64_t)gates;
    for (size_t g = 0; g < gates; g++) {
        struct shape gate;
        json_t *part = json_array_get(parts, order[g]);
        weight_shape(part, &gate);
        if (!is_float(part) || one.rank > 2 || !shape_equal(&gate, &one))
            return misfit(reader, child, "differ in shape from gate to gate");
    }
    float *y = weight_new(reader, name, &shape, joined);
    if (y == NULL)
        return false;
    for (size_t g = 0; g < gates; g++) {
        const unsigned char *x = weight_bytes(reader, json_array_get(parts, order[g]));
        for (int64_t r = 0; r < rows; r++)
            memcpy(y + (r * (int64_t)gates + (int64_t)g) * width,
                   x + (size_t)(r * width) * sizeof *y, (size_t)width * sizeof *y);
    }
    return true;
}

/* Keras 1 kept W, U and b of every gate apart: LSTM i, c, f, o; GRU z, r, h. Wrapped in
 * Bidirectional there are two sets of them. */
static bool convert_gates1(struct reader *reader, const struct child *child, json_t *weights,
                           size_t gates)
{
    static const char *const names[] = {"kernel", "recurrent_kernel", "bias"};
    static const size_t lstm[] = {0, 2, 1, 3}, gru[] = {0, 1, 2};
    size_t count = json_array_size(weights), each = 3 * gates;
    if (count % each != 0)
        return true; /* consume_less = "gpu" joined them */
    json_t *made = json_array();
    bool ok = true;
    for (size_t set = 0; ok && set < count; set += each) {
        for (size_t part = 0; ok && part < 3; part++) {
            size_t order[4];
            json_t *joined = NULL;
            for (size_t g = 0; g < gates; g++)
                order[g] = set + 3 * (gates == 4 ? lstm[g] : gru[g]) + part;
            ok = join_gates(reader, child, weights, order, gates, names[part], &joined);
            if (ok)
                json_array_append_new(made, joined);
        }
    }
    if (ok) {
        json_array_clear(weights);
        json_array_extend(weights, made);
    }
    json_decref(made);
    return ok;
}

/* The class of the layer, or of the one it wraps. */
static const char *inner_class(const struct child *child)
{
    json_t *layer = json_object_get(child->config, "layer");
    return json_text(layer, "class_name", child->class_name);
}

static bool convert_keras1(struct reader *reader, const struct child *child, json_t *weights)
{
    const char *class_name = inner_class(child);
    if (strcmp(class_name, "LSTM") == 0)
        return convert_gates1(reader, child, weights, 4);
    if (strcmp(class_name, "GRU") == 0)
        return convert_gates1(reader, child, weights, 3);
    return !starts_with(child->class_name, "Conv") || convert_kernel1(reader, child, weights);
}

/* Theano convolves, everybody else correlates: its kernels are upside down. */
static bool convert_theano(struct reader *reader, const struct child *child, json_t *weights)
{
    static const char *const flipped[] = {"Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose",
                                          "ConvLSTM2D"};
    static const int same[TENSOR_RANK_MAX] = {0, 1, 2, 3, 4, 5, 6, 7};
    bool found = false;
    for (size_t i = 0; i < sizeof flipped / sizeof *flipped; i++)
        found |= strcmp(child->class_name, flipped[i]) == 0;
    if (!found)
        return true;
    struct shape shape;
    size_t kernels = strcmp(child->class_name, "ConvLSTM2D") == 0 ? 2 : 1;
    for (size_t i = 0; i < kernels && i < json_array_size(weights); i++) {
        weight_shape(json_array_get(weights, i), &shape);
        if (shape.rank < 3 || !weight_permute(reader, child, weights, i, same, shape.rank - 2))
            return shape.rank < 3 ? misfit(reader, child, "are no kernel") : false;
    }
    return true;
}

static bool convert_scope(struct reader *reader, const struct scope *scope)
{
    bool theano = reader->backend != NULL && strcmp(reader->backend, "theano") == 0;
    for (size_t i = 0; i < scope->child_count; i++) {
        const struct child *child = &scope->children[i];
        if (child->scope != NULL && !convert_scope(reader, child->scope))
            return false;
        if (child->scope != NULL || child->layer < 0)
            continue;
        json_t *weights =
            json_object_get(json_array_get(reader->layers, (size_t)child->layer), "weights");
        if (json_array_size(weights) == 0)
            continue;
        if (reader->keras1 && !convert_keras1(reader, child, weights))
            return false;
        if (theano && !convert_theano(reader, child, weights))
            return false;
    }
    return true;
}

bool weights_convert(struct reader *reader)
{
    bool theano = reader->backend != NULL && strcmp(reader->backend, "theano") == 0;
    return (!reader->keras1 && !theano) || convert_scope(reader, reader->top);
}
