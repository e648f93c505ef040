/* Op nodes (keras.ops.*). Arguments are positional, by keyword, or in the node's configuration;
 * a tensor is {"tensor": index into the node's inputs}. Axes include the batch. */
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- elementwise ---- */

int lower_binary_number(struct call *call, enum binary_function function, int x, double number,
                        bool swapped)
{
    struct lowering *low = call->low;
    switch (function) {
    case BINARY_ADD:
        return emit_linear(low, x, 1, number);
    case BINARY_SUBTRACT:
        return swapped ? emit_linear(low, x, -1, number) : emit_linear(low, x, 1, -number);
    case BINARY_MULTIPLY:
        return emit_linear(low, x, number, 0);
    case BINARY_DIVIDE:
        if (!swapped)
            return emit_linear(low, x, 1 / number, 0);
        break;
    case BINARY_MAXIMUM:
        return emit_unary(low, x, UNARY_CLIP, number, (double)INFINITY);
    case BINARY_MINIMUM:
        return emit_unary(low, x, UNARY_CLIP, (double)-INFINITY, number);
    case BINARY_POWER:
        if (!swapped && number == 2)
            return emit_unary(low, x, UNARY_SQUARE, 0, 0);
        if (!swapped && number == 0.5)
            return emit_unary(low, x, UNARY_SQRT, 0, 0);
        if (!swapped && number == -0.5)
            return emit_unary(low, x, UNARY_RSQRT, 0, 0);
        break;
    default:
        break;
    }
    float *data; /* the ranks of a binary op are equal: (1, 1, ...) */
    struct shape ones = {.rank = call_shape(call, x)->rank};
    for (int i = 0; i < ones.rank; i++)
        ones.dims[i] = 1;
    const struct constant *constant = call_constant(call, swapped ? "x1" : "x2", &ones, &data);
    if (constant && data)
        *data = (float)number;
    return emit_binary_constant(low, function, x, constant, swapped);
}

/* The second operand as numbers. Ranks are aligned on the right, as NumPy does. */
static int binary_constant(struct call *call, enum binary_function function, int x,
                           const json_t *value, bool swapped)
{
    if (json_is_number(value))
        return lower_binary_number(call, function, x, json_number_value(value), swapped);
    const struct constant *listed =
        lower_json_constant(call, swapped ? "x1 list" : "x2 list", value);
    if (!listed || x < 0)
        return -1;
    int64_t count = shape_elements(&listed->shape);
    if (count == 1)
        return lower_binary_number(call, function, x, (double)listed->data[0], swapped);
    struct shape wide = listed->shape;
    int rank = call_shape(call, x)->rank;
    if (wide.rank < rank) {
        int missing = rank - wide.rank;
        memmove(wide.dims + missing, wide.dims, (size_t)wide.rank * sizeof *wide.dims);
        for (int i = 0; i < missing; i++)
            wide.dims[i] = 1;
        wide.rank = rank;
    }
    bool channels = rank > 0 && wide.rank == rank && count == wide.dims[rank - 1] &&
                    count == call_shape(call, x)->dims[rank - 1];
    if (channels && function == BINARY_MULTIPLY)
        return emit_affine(call->low, x, listed, NULL);
    if (channels && function == BINARY_ADD)
        return emit_affine(call->low, x, NULL, listed);
    float *data;
    const struct constant *constant = call_constant(call, swapped ? "x1" : "x2", &wide, &data);
    if (constant && data)
        memcpy(data, listed->data, (size_t)constant->bytes);
    return emit_binary_constant(call->low, function, x, constant, swapped);
}

bool lower_op_binary(struct call *call)
{
    enum binary_function function = (enum binary_function)call->row->parameter;
    const json_t *first = op_argument(call, 0, "x1"), *second = op_argument(call, 1, "x2");
    int a = op_tensor(call, first), b = op_tensor(call, second);
    if (a >= 0 && b >= 0)
        return call_return(call, emit_binary(call->low, function, a, b));
    if (a >= 0)
        return call_return(call, binary_constant(call, function, a, second, false));
    if (b >= 0)
        return call_return(call, binary_constant(call, function, b, first, true));
    return call_refuse(call, "none of its operands is a tensor of the model");
}

bool lower_op_unary(struct call *call)
{
    enum unary_function function = (enum unary_function)call->row->parameter;
    int x = op_operand(call, 0, "x");
    if (x >= 0 && function == UNARY_IDENTITY) {
        struct shape shape = *call_shape(call, x);
        return call_return(call, emit_reshape(call->low, x, &shape));
    }
    if (function == UNARY_GELU_TANH && !config_bool(call, "approximate", true))
        function = UNARY_GELU_ERF;
    double alpha = function == UNARY_HARD_SIGMOID ? 1.0 / 6 : 0;
    return call_return(call, emit_unary(call->low, x, function, alpha, 0.5));
}

bool lower_op_softmax(struct call *call)
{
    int x = op_operand(call, 0, "x");
    int rank = call_shape(call, x)->rank;
    int axis = config_axis(call, op_integer(call, 1, "axis", -1), rank);
    return call_return(call, emit_softmax(call->low, x, axis, call->row->parameter == 1));
}

bool lower_op_clip(struct call *call)
{
    int x = op_operand(call, 0, "x");
    const json_t *low = op_argument(call, 1, "x_min"), *high = op_argument(call, 2, "x_max");
    if ((low && !json_is_number(low)) || (high && !json_is_number(high))) {
        if (low)
            x = emit_binary(call->low, BINARY_MAXIMUM, x, op_value(call, 1, "x_min"));
        if (high)
            x = emit_binary(call->low, BINARY_MINIMUM, x, op_value(call, 2, "x_max"));
        return call_return(call, x);
    }
    double least = low ? json_number_value(low) : (double)-INFINITY;
    double most = high ? json_number_value(high) : (double)INFINITY;
    return call_return(call, emit_unary(call->low, x, UNARY_CLIP, least, most));
}

/* ---- reductions ---- */

bool lower_op_reduce(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    const json_t *axis = op_argument(call, 1, "axis");
    bool axes[TENSOR_RANK_MAX] = {false}, keep = config_bool(call, "keepdims", false);
    const json_t *keepdims = op_argument(call, 2, "keepdims");
    if (json_is_boolean(keepdims))
        keep = json_is_true(keepdims);
    size_t count = json_is_array(axis) ? json_array_size(axis) : axis ? 1 : 0;
    for (int i = 0; i < rank; i++)
        axes[i] = axis == NULL;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(axis) ? json_array_get(axis, i) : axis;
        axes[config_axis(call, json_integer_value(one), rank)] = true;
    }
    enum reduce_function function = (enum reduce_function)(call->row->parameter & 7);
    if (call->row->parameter < 8)
        return call_return(call, emit_reduce(low, x, function, axes, keep));
    /* variance: the mean of the squared distances from the mean */
    int centred =
        emit_binary(low, BINARY_SUBTRACT, x, emit_reduce(low, x, REDUCE_MEAN, axes, true));
    int y = emit_unary(low, centred, UNARY_SQUARE, 0, 0);
    y = emit_reduce(low, y, REDUCE_MEAN, axes, keep);
    if (call->row->parameter & 16)
        y = emit_unary(low, y, UNARY_SQRT, 0, 0);
    return call_return(call, y);
}

/* ---- shapes ---- */

static bool reshape_to(struct call *call, int x, const json_t *target)
{
    size_t count = json_array_size(target);
    if (x < 0 || !json_is_array(target) || count > TENSOR_RANK_MAX)
        return call_refuse(call, "its new shape is not a list of at most %d sizes",
                           TENSOR_RANK_MAX);
    struct shape shape = {.rank = (int)count};
    int64_t known = 1, total = shape_elements(call_shape(call, x));
    int open = -1;
    for (size_t i = 0; i < count; i++) {
        const json_t *dim = json_array_get(target, i);
        int64_t size = json_is_integer(dim) ? json_integer_value(dim) : -1;
        shape.dims[i] = size;
        if (size < 0 && open < 0)
            open = (int)i;
        else if (size < 1 || size > INT32_MAX || known > INT64_MAX / size)
            return call_misfit(call, "its new shape makes no sense");
        else
            known *= size;
    }
    if (open >= 0)
        shape.dims[open] = total / known;
    return call_return(call, emit_reshape(call->low, x, &shape));
}

bool lower_op_reshape(struct call *call)
{
    int x = op_operand(call, 0, "x");
    const json_t *target = op_argument(call, 1, "newshape");
    if (!target)
        target = op_argument(call, 1, "new_shape");
    if (!target)
        target = op_argument(call, 1, "shape");
    json_t *sizes = op_sizes(call, target);
    bool ok = reshape_to(call, x, sizes);
    json_decref(sizes);
    return ok;
}

bool lower_op_expand_dims(struct call *call)
{
    int x = op_operand(call, 0, "x");
    struct shape shape = *call_shape(call, x);
    const json_t *axis = op_argument(call, 1, "axis");
    if (!json_is_integer(axis) || shape.rank == TENSOR_RANK_MAX)
        return call_refuse(call, "its axis is not one integer");
    int at = config_axis(call, json_integer_value(axis), shape.rank + 1);
    memmove(shape.dims + at + 1, shape.dims + at, (size_t)(shape.rank - at) * sizeof *shape.dims);
    shape.dims[at] = 1;
    shape.rank++;
    return call_return(call, emit_reshape(call->low, x, &shape));
}

bool lower_op_squeeze(struct call *call)
{
    int x = op_operand(call, 0, "x");
    struct shape shape = *call_shape(call, x), out = {.rank = 0};
    const json_t *axis = op_argument(call, 1, "axis");
    bool chosen[TENSOR_RANK_MAX] = {false};
    size_t count = json_is_array(axis) ? json_array_size(axis) : axis ? 1 : 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(axis) ? json_array_get(axis, i) : axis;
        chosen[config_axis(call, json_integer_value(one), shape.rank)] = true;
    }
    for (int i = 0; i < shape.rank; i++) {
        bool drop = axis ? chosen[i] : i > 0 && shape.dims[i] == 1;
        if (drop && shape.dims[i] != 1)
            return call_misfit(call, "it squeezes an axis of size %lld", (long long)shape.dims[i]);
        if (!drop)
            out.dims[out.rank++] = shape.dims[i];
    }
    return call_return(call, emit_reshape(call->low, x, &out));
}

bool lower_op_transpose(struct call *call)
{
    int x = op_operand(call, 0, "x"), permutation[TENSOR_RANK_MAX];
    int rank = call_shape(call, x)->rank;
    const json_t *axes = op_argument(call, 1, "axes");
    unsigned seen = 0;
    if (axes && (int)json_array_size(axes) != rank)
        return call_misfit(call, "'axes' should name %d axes", rank);
    for (int i = 0; i < rank; i++) {
        permutation[i] = rank - 1 - i;
        if (axes)
            permutation[i] =
                config_axis(call, json_integer_value(json_array_get(axes, (size_t)i)), rank);
        seen |= 1U << permutation[i];
    }
    if (seen != (1U << rank) - 1)
        return call_misfit(call, "'axes' is no permutation");
    return call_return(call, emit_transpose(call->low, x, permutation));
}

bool lower_op_swapaxes(struct call *call)
{
    int x = op_operand(call, 0, "x"), permutation[TENSOR_RANK_MAX];
    int rank = call_shape(call, x)->rank;
    int a = config_axis(call, op_integer(call, 1, "axis1", 0), rank);
    int b = config_axis(call, op_integer(call, 2, "axis2", 0), rank);
    for (int i = 0; i < rank; i++)
        permutation[i] = i == a ? b : i == b ? a : i;
    return call_return(call, emit_transpose(call->low, x, permutation));
}

#define OPERANDS_MOST 256

bool lower_op_concatenate(struct call *call)
{
    int values[OPERANDS_MOST];
    size_t count = op_operands(call, 0, "xs", values, OPERANDS_MOST);
    if (count == 0)
        return false;
    int axis = config_axis(call, op_integer(call, 1, "axis", 0), call_shape(call, values[0])->rank);
    return call_return(call, emit_concat(call->low, values, count, axis));
}

bool lower_op_stack(struct call *call)
{
    int values[OPERANDS_MOST];
    size_t count = op_operands(call, 0, "x", values, OPERANDS_MOST);
    if (count == 0)
        return false;
    struct shape shape = *call_shape(call, values[0]);
    if (shape.rank == TENSOR_RANK_MAX)
        return call_refuse(call, "its result has too many axes");
    int axis = config_axis(call, op_integer(call, 1, "axis", 0), shape.rank + 1);
    memmove(shape.dims + axis + 1, shape.dims + axis,
            (size_t)(shape.rank - axis) * sizeof *shape.dims);
    shape.dims[axis] = 1;
    shape.rank++;
    for (size_t i = 0; i < count; i++)
        values[i] = emit_reshape(call->low, values[i], &shape);
    return call_return(call, emit_concat(call->low, values, count, axis));
}

static struct op_slice whole(const struct shape *shape)
{
    struct op_slice slice = {.begin = {0}};
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = shape->dims[i];
        slice.step[i] = 1;
    }
    return slice;
}

bool lower_op_split(struct call *call)
{
    int x = op_operand(call, 0, "x");
    if (x < 0)
        return false;
    struct shape shape = *call_shape(call, x);
    const json_t *sections = op_argument(call, 1, "indices_or_sections");
    int axis = config_axis(call, op_integer(call, 2, "axis", 0), shape.rank);
    int64_t size = shape.dims[axis], begin = 0;
    size_t parts = json_is_array(sections) ? json_array_size(sections) + 1
                                           : (size_t)json_integer_value(sections);
    if (parts < 1 || parts > OPERANDS_MOST || (json_is_integer(sections) && size % (int64_t)parts))
        return call_misfit(call, "%lld cells do not split into %zu parts", (long long)size, parts);
    for (size_t i = 0; i < parts; i++) {
        int64_t end = json_is_integer(sections) ? begin + size / (int64_t)parts : size;
        if (json_is_array(sections) && i + 1 < parts)
            end = json_integer_value(json_array_get(sections, i));
        struct op_slice slice = whole(&shape);
        slice.begin[axis] = begin;
        slice.size[axis] = end - begin;
        begin = end;
        if (!call_return(call, emit_slice(call->low, x, &slice)))
            return false;
    }
    return true;
}

/* One bound of a slice as Python counts it. */
static int64_t bound(const json_t *value, int64_t missing, int64_t size, int64_t least,
                     int64_t most)
{
    if (!json_is_integer(value))
        return missing;
    int64_t at = json_integer_value(value);
    at += at < 0 ? size : 0;
    return at < least ? least : at > most ? most : at;
}

/* {"class_name": "__slice__", "config": {start, stop, step}}; NULL if it is none. */
static const json_t *slice_of(const json_t *key)
{
    const char *name = json_string_value(json_object_get(key, "class_name"));
    return name && strcmp(name, "__slice__") == 0 ? json_object_get(key, "config") : NULL;
}

static bool is_ellipsis(const json_t *key)
{
    const char *name = json_string_value(json_object_get(key, "class_name"));
    return name && strcmp(name, "__ellipsis__") == 0;
}

/* One axis of a slice; false if it is empty. */
static bool slice_axis(const json_t *key, int64_t size, int64_t *begin, int64_t *count,
                       int64_t *step)
{
    const json_t *by = json_object_get(key, "step");
    *step = json_is_integer(by) ? json_integer_value(by) : 1;
    const json_t *start = json_object_get(key, "start"), *stop = json_object_get(key, "stop");
    if (*step == 0 || *step > INT32_MAX || *step < -INT32_MAX)
        return false;
    if (*step > 0) {
        *begin = bound(start, 0, size, 0, size);
        *count = (bound(stop, size, size, 0, size) - *begin + *step - 1) / *step;
    } else {
        *begin = bound(start, size - 1, size, -1, size - 1);
        *count = (*begin - bound(stop, -1, size, -1, size - 1) - *step - 1) / -*step;
    }
    return *count > 0;
}

bool lower_op_get_item(struct call *call)
{
    int x = op_operand(call, 0, "x");
    const json_t *key = op_argument(call, 1, "key");
    if (x < 0)
        return false;
    struct shape shape = *call_shape(call, x), out = {.rank = 0};
    struct op_slice slice = whole(&shape);
    size_t count = json_is_array(key) ? json_array_size(key) : 1;
    int consumed = 0, axis = 0;
    for (size_t i = 0; i < count; i++) { /* axes that the keys speak of */
        const json_t *one = json_is_array(key) ? json_array_get(key, i) : key;
        consumed += slice_of(one) || json_is_integer(one);
    }
    if (consumed > shape.rank)
        return call_misfit(call, "it indexes more axes than there are");
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(key) ? json_array_get(key, i) : key;
        if (out.rank + shape.rank - axis >= TENSOR_RANK_MAX)
            return call_refuse(call, "its result has too many axes");
        if (json_is_integer(one)) {
            slice.begin[axis] = bound(one, 0, shape.dims[axis], INT64_MIN, INT64_MAX);
            slice.size[axis++] = 1;
        } else if (slice_of(one)) {
            if (!slice_axis(slice_of(one), shape.dims[axis], &slice.begin[axis], &slice.size[axis],
                            &slice.step[axis]))
                return call_misfit(call, "it selects nothing along axis %d", axis);
            out.dims[out.rank++] = slice.size[axis++];
        } else if (is_ellipsis(one)) {
            for (int left = shape.rank - consumed; left > 0; left--)
                out.dims[out.rank++] = shape.dims[axis++];
        } else if (!one || json_is_null(one)) {
            out.dims[out.rank++] = 1; /* a new axis */
        } else {
            return call_refuse(call, "it is indexed by a tensor");
        }
    }
    while (axis < shape.rank)
        out.dims[out.rank++] = shape.dims[axis++];
    int y = emit_slice(call->low, x, &slice);
    return call_return(call, emit_reshape(call->low, y, &out));
}

bool lower_op_pad(struct call *call)
{
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    const json_t *width = json_object_get(call->config, "pad_width");
    bool apart = json_is_array(width) || json_is_number(width); /* from what the call is given */
    const json_t *value = op_argument(call, apart ? 1 : 3, "constant_values");
    if (!apart)
        width = op_argument(call, 1, "pad_width");
    struct op_pad pad = {.value = value ? (float)json_number_value(value) : 0};
    const char *mode = config_string(call, "mode", "constant");
    for (int i = 0; i < rank; i++) {
        const json_t *pair = json_is_array(width) ? json_array_get(width, (size_t)i) : width;
        if ((int)json_array_size(width) == 1)
            pair = json_array_get(width, 0);
        const json_t *a = json_is_array(pair) ? json_array_get(pair, 0) : pair;
        const json_t *b = json_is_array(pair) ? json_array_get(pair, 1) : pair;
        pad.before[i] = json_integer_value(a);
        pad.after[i] = json_integer_value(b);
        if (!json_is_integer(a) || !json_is_integer(b) || pad.before[i] < 0 || pad.after[i] < 0 ||
            pad.before[i] > INT32_MAX || pad.after[i] > INT32_MAX)
            return call_misfit(call, "'pad_width' makes no sense");
    }
    if (strcmp(mode, "constant") != 0)
        return call_return(call, lower_mirror_pad(call, x, &pad, mode));
    return call_return(call, emit_pad(call->low, x, &pad));
}
