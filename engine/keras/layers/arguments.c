/* Arguments of op nodes: positional, by keyword, or in the node's configuration. */
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Argument by position or name; NULL if missing or null. */
const json_t *op_argument(const struct call *call, size_t position, const char *name)
{
    const json_t *value = call->node ? json_array_get(call->node->args, position) : NULL;
    if (!value && call->node)
        value = json_object_get(call->node->kwargs, name);
    if (!value)
        value = json_object_get(call->config, name);
    return value && !json_is_null(value) ? value : NULL;
}

/* The graph value of an argument, -1 if it is no tensor. */
int op_tensor(struct call *call, const json_t *value)
{
    const json_t *index = json_object_get(value, "tensor");
    return json_is_integer(index) ? call_input(call, (size_t)json_integer_value(index)) : -1;
}

/* A required tensor argument. */
int op_operand(struct call *call, size_t position, const char *name)
{
    int value = op_tensor(call, op_argument(call, position, name));
    if (value < 0)
        call_refuse(call, "its argument '%s' is not a tensor of the model", name);
    return value;
}

int op_value(struct call *call, size_t position, const char *name)
{
    const json_t *given = op_argument(call, position, name);
    int value = op_tensor(call, given);
    if (value >= 0)
        return value;
    return emit_constant(call->low, lower_json_constant(call, name, given));
}

/* The tensors of a list argument (concatenate, stack). Returns how many; 0 on failure. */
size_t op_operands(struct call *call, size_t position, const char *name, int *values,
                   size_t capacity)
{
    const json_t *list = op_argument(call, position, name);
    size_t count = json_array_size(list);
    if (count == 0 || count > capacity) {
        call_refuse(call, "its argument '%s' is not a list of tensors", name);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        char role[64];
        snprintf(role, sizeof role, "%s %zu", name, i);
        values[i] = op_tensor(call, item);
        if (values[i] < 0) /* numbers among them */
            values[i] = emit_constant(call->low, lower_json_constant(call, role, item));
        if (values[i] < 0)
            return 0;
    }
    return count;
}

int64_t op_integer(struct call *call, size_t position, const char *name, int64_t missing)
{
    const json_t *value = op_argument(call, position, name);
    if (!value)
        return missing;
    double number;
    if (json_is_integer(value))
        return json_integer_value(value);
    if (json_is_object(value) && op_number(call, value, &number) && fabs(number) < INT32_MAX)
        return (int64_t)number; /* the size of an axis */
    call_refuse(call, "its argument '%s' is not an integer", name);
    return 0;
}

/* ---- constants ---- */

static bool fill(const json_t *value, const struct shape *shape, int axis, float **out)
{
    if (axis == shape->rank) {
        bool nan = json_is_string(value) && strcmp(json_string_value(value), "?") == 0;
        *(*out)++ = nan                      ? NAN /* as the reader spells it */
                    : json_is_boolean(value) ? (float)json_is_true(value)
                                             : (float)json_number_value(value);
        return nan || json_is_number(value) || json_is_boolean(value);
    }
    if ((int64_t)json_array_size(value) != shape->dims[axis])
        return false;
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!fill(json_array_get(value, i), shape, axis + 1, out))
            return false;
    }
    return true;
}

const struct constant *lower_json_constant(struct call *call, const char *role, const json_t *value)
{
    struct shape shape = {.rank = 0};
    float *data, *at;
    /* {"class_name": "__numpy__", "config": {"value": [...], "dtype": ...}} */
    if (json_is_object(value))
        value = json_object_get(json_object_get(value, "config"), "value");
    for (const json_t *level = value; json_is_array(level); level = json_array_get(level, 0)) {
        if (shape.rank == TENSOR_RANK_MAX || json_array_size(level) == 0) {
            call_refuse(call, "its argument '%s' is a list of an odd shape", role);
            return NULL;
        }
        shape.dims[shape.rank++] = (int64_t)json_array_size(level);
    }
    float *scratch = xmalloc((size_t)(shape_elements(&shape) + 1) * sizeof *scratch);
    at = scratch;
    const struct constant *constant = NULL;
    if (!value || !fill(value, &shape, 0, &at)) {
        call_refuse(call, "its argument '%s' is neither a tensor nor numbers", role);
    } else if ((constant = call_constant(call, role, &shape, &data)) && data) {
        memcpy(data, scratch, (size_t)constant->bytes);
    }
    free(scratch);
    return constant;
}

/* Element `index` of a value that is made of constants alone. */
static bool known_element(const struct graph *graph, int value, int64_t index, int depth,
                          double *number)
{
    int producer = value >= 0 ? graph->values[value].producer : -1;
    if (producer < 0 || depth > 32)
        return false;
    const struct op *op = &graph->ops[producer];
    const struct shape *out = &graph->values[value].shape;
    int first = op->input_count > 0 ? op->inputs[0] : -1;
    switch (op->kind) {
    case OP_CONSTANT:
        *number = (double)op->constant.data->data[index];
        return true;
    case OP_RESHAPE:
        return known_element(graph, first, index, depth + 1, number);
    case OP_SLICE:
        return out->rank == 1 &&
               known_element(graph, first, op->slice.begin[0] + index * op->slice.step[0],
                             depth + 1, number);
    case OP_UNARY:
        if (op->unary.function != UNARY_LINEAR && op->unary.function != UNARY_TRUNCATE)
            return false;
        if (!known_element(graph, first, index, depth + 1, number))
            return false;
        if (op->unary.function == UNARY_TRUNCATE)
            *number = trunc(*number);
        else
            *number = (double)op->unary.alpha * *number + (double)op->unary.beta;
        return true;
    case OP_CONCAT:
        for (size_t i = 0; out->rank == 1 && i < op->input_count; i++) {
            int64_t length = graph->values[op->inputs[i]].shape.dims[0];
            if (index < length)
                return known_element(graph, op->inputs[i], index, depth + 1, number);
            index -= length;
        }
        return false;
    case OP_BINARY: {
        double other;
        if (op->input_count != 2 || out->rank > 0 ||
            !known_element(graph, first, index, depth + 1, number) ||
            !known_element(graph, op->inputs[1], index, depth + 1, &other))
            return false;
        *number = op->binary.function == BINARY_ADD        ? *number + other
                  : op->binary.function == BINARY_SUBTRACT ? *number - other
                  : op->binary.function == BINARY_MULTIPLY ? *number * other
                  : op->binary.function == BINARY_FLOOR_DIVIDE && other != 0
                      ? floor(*number / other)
                      : (double)NAN;
        return !isnan(*number);
    }
    default:
        return false;
    }
}

bool op_number(struct call *call, const json_t *value, double *number)
{
    if (json_is_number(value)) {
        *number = json_number_value(value);
        return true;
    }
    int tensor = op_tensor(call, value);
    return tensor >= 0 && shape_elements(call_shape(call, tensor)) == 1 &&
           known_element(call->low->graph, tensor, 0, 0, number);
}

json_t *op_sizes(struct call *call, const json_t *value)
{
    json_t *list = json_array();
    double number;
    int tensor = op_tensor(call, value);
    if (tensor >= 0) {
        int64_t count = shape_elements(call_shape(call, tensor));
        for (int64_t i = 0; i < count && count <= TENSOR_RANK_MAX; i++) {
            if (known_element(call->low->graph, tensor, i, 0, &number))
                json_array_append_new(list, json_integer((json_int_t)number));
        }
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            const json_t *one = json_array_get(value, i);
            bool known = json_is_object(one) && op_number(call, one, &number);
            json_array_append_new(list, known ? json_integer((json_int_t)number)
                                              : json_incref((json_t *)(uintptr_t)one));
        }
    } else {
        json_decref(list);
        return NULL;
    }
    return list;
}

bool op_axes(struct call *call, size_t position, const char *name, int rank, bool *axes)
{
    const json_t *given = op_argument(call, position, name);
    size_t count = json_is_array(given) ? json_array_size(given) : 1;
    for (int i = 0; i < TENSOR_RANK_MAX; i++)
        axes[i] = !given && i < rank;
    for (size_t i = 0; given && i < count; i++) {
        const json_t *one = json_is_array(given) ? json_array_get(given, i) : given;
        axes[config_axis(call, json_integer_value(one), rank)] = true;
    }
    return given != NULL;
}
