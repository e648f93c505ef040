/* Arguments of op nodes: positional, by keyword, or in the node's configuration. */
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
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
        values[i] = op_tensor(call, json_array_get(list, i));
        if (values[i] < 0) {
            call_refuse(call, "its argument '%s' holds a constant", name);
            return 0;
        }
    }
    return count;
}

int64_t op_integer(struct call *call, size_t position, const char *name, int64_t missing)
{
    const json_t *value = op_argument(call, position, name);
    if (!value)
        return missing;
    if (!json_is_integer(value))
        call_refuse(call, "its argument '%s' is not an integer", name);
    return json_integer_value(value);
}

/* ---- constants ---- */

static bool fill(const json_t *value, const struct shape *shape, int axis, float **out)
{
    if (axis == shape->rank) {
        *(*out)++ =
            json_is_boolean(value) ? (float)json_is_true(value) : (float)json_number_value(value);
        return json_is_number(value) || json_is_boolean(value);
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
