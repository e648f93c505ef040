/* What a layer's row may ask of its call: inputs, weights, configuration, refusals. */
#include "engine/graph/constant.h"
#include "engine/graph/lower.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool fail(struct call *call, enum error_code code, const char *why, va_list list)
{
    char text[640];
    vsnprintf(text, sizeof text, why, list);
    lowering_fail(call->low, code, "%s", text);
    return false;
}

bool call_refuse(struct call *call, const char *why, ...)
{
    va_list list;
    va_start(list, why);
    bool fresh = !call->low->failed;
    fail(call, ERROR_MODEL_LAYERS, why, list);
    va_end(list);
    if (fresh)
        error_hint(call->low->error, "load demo:");
    return false;
}

bool call_misfit(struct call *call, const char *why, ...)
{
    va_list list;
    va_start(list, why);
    fail(call, ERROR_MODEL_SHAPE, why, list);
    va_end(list);
    return false;
}

int call_input(struct call *call, size_t index)
{
    if (call->low->failed)
        return -1;
    if (index >= call->input_count)
        return lowering_fail(call->low, ERROR_MODEL_BROKEN,
                             "it is called with %zu tensors and needs %zu", call->input_count,
                             index + 1);
    return call->inputs[index];
}

const struct shape *call_shape(const struct call *call, int value)
{
    static const struct shape none = {.rank = 0};
    return value < 0 ? &none : &call->low->graph->values[value].shape;
}

const struct model_weight *call_raw_weight(struct call *call, const char *name,
                                           const struct shape *shape)
{
    struct lowering *low = call->low;
    char want[160], have[160];
    if (low->failed)
        return NULL;
    if (call->next_weight >= call->layer->weight_count) {
        lowering_fail(low, ERROR_MODEL_WEIGHTS, "its weight '%s' of shape %s is missing", name,
                      shape_format(want, sizeof want, shape));
        return NULL;
    }
    const struct model_weight *weight = &call->layer->weights[call->next_weight++];
    if (!shape_equal(&weight->shape, shape)) {
        lowering_fail(low, ERROR_MODEL_WEIGHTS,
                      "its weight '%s' has shape %s in the file, but the configuration asks for %s",
                      name, shape_format(have, sizeof have, &weight->shape),
                      shape_format(want, sizeof want, shape));
        return NULL;
    }
    return weight;
}

const struct constant *call_weight(struct call *call, const char *name, const struct shape *shape,
                                   const struct shape *as)
{
    size_t index = call->next_weight;
    const struct model_weight *weight = call_raw_weight(call, name, shape);
    if (!weight)
        return NULL;
    char *key = xasprintf("%s/%zu", call->layer->path, index);
    const struct constant *constant =
        constant_from_weight(call->low->pool, key, as ? as : shape, weight, call->low->error);
    free(key);
    if (!constant)
        call->low->failed = true;
    return constant;
}

void call_skip_weights(struct call *call)
{
    call->next_weight = call->layer->weight_count;
}

const struct constant *call_constant(struct call *call, const char *role, const struct shape *shape,
                                     float **data)
{
    struct lowering *low = call->low;
    *data = NULL;
    if (low->failed)
        return NULL;
    const char *scope = call->scope ? call->scope : "";
    char *key = xasprintf("%s:%s:%s", call->layer->path, scope, role);
    const struct constant *constant = constant_find(low->pool, key);
    if (!constant) {
        constant = constant_new(low->pool, key, shape, data, low->error);
        if (!constant)
            low->failed = true;
    }
    free(key);
    return constant;
}

bool call_return(struct call *call, int value)
{
    if (value < 0 || call->low->failed)
        return false;
    size_t count = call->output_count + 1;
    call->outputs = xrealloc(call->outputs, count * sizeof *call->outputs);
    call->output_masks = xrealloc(call->output_masks, count * sizeof *call->output_masks);
    call->outputs[count - 1] = value;
    call->output_masks[count - 1] =
        layer_passes_mask(call->row->class_name) && call->input_count > 0 ? mask_of_input(call, 0)
                                                                          : -1;
    call->output_count = count;
    return true;
}

bool call_flag(const struct call *call, const char *keyword)
{
    return call->node && json_is_true(json_object_get(call->node->kwargs, keyword));
}

/* ---- configuration ---- */

static const json_t *get(const struct call *call, const char *key)
{
    const json_t *value = json_object_get(call->config, key);
    return value && !json_is_null(value) ? value : NULL;
}

/* Integers past this are no sizes of anything that could run. */
#define INT_MOST ((int64_t)1 << 31)

static int64_t as_int(struct call *call, const char *key, const json_t *value, int64_t least)
{
    double number = json_number_value(value);
    if (!json_is_number(value) || number != floor(number) || fabs(number) > (double)INT_MOST ||
        (int64_t)number < least) {
        call_misfit(call, "'%s' in its configuration is not an integer of at least %lld", key,
                    (long long)least);
        return least;
    }
    return (int64_t)number;
}

int64_t config_int(struct call *call, const char *key, int64_t missing, int64_t least)
{
    const json_t *value = get(call, key);
    if (!value)
        return missing;
    if (json_is_array(value) && json_array_size(value) == 1)
        value = json_array_get(value, 0);
    return as_int(call, key, value, least);
}

double config_number(struct call *call, const char *key, double missing)
{
    const json_t *value = get(call, key);
    if (!value)
        return missing;
    if (json_is_number(value))
        return json_number_value(value);
    call_misfit(call, "'%s' in its configuration is not a number", key);
    return missing;
}

bool config_bool(struct call *call, const char *key, bool missing)
{
    const json_t *value = get(call, key);
    if (!value)
        return missing;
    if (json_is_number(value))
        return json_number_value(value) != 0;
    return json_is_true(value);
}

const char *config_string(struct call *call, const char *key, const char *missing)
{
    const json_t *value = get(call, key);
    return value && json_is_string(value) ? json_string_value(value) : missing;
}

void config_ints(struct call *call, const char *key, int count, int64_t missing, int64_t least,
                 int64_t *out)
{
    const json_t *value = get(call, key);
    for (int i = 0; i < count; i++)
        out[i] = missing;
    if (!value)
        return;
    bool list = json_is_array(value);
    if (list && json_array_size(value) != 1 && json_array_size(value) != (size_t)count) {
        call_misfit(call, "'%s' in its configuration should have %d entries", key, count);
        return;
    }
    for (int i = 0; i < count; i++) {
        size_t index = json_array_size(value) == 1 ? 0 : (size_t)i;
        out[i] = as_int(call, key, list ? json_array_get(value, index) : value, least);
    }
}

int config_keras_major(struct call *call)
{
    return (int)config_int(call, "_keras_major", 3, 0);
}

int config_axis(struct call *call, int64_t axis, int rank)
{
    if (axis < 0)
        axis += rank;
    if (axis >= 0 && axis < rank)
        return (int)axis;
    call_misfit(call, "its axis is outside an input of rank %d", rank);
    return 0;
}

bool config_channels_first(struct call *call)
{
    return strcmp(config_string(call, "data_format", "channels_last"), "channels_first") == 0;
}
