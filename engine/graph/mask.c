/* Masks: which time steps of a tensor are real. A mask is a recipe beside a layer's output; its ops
 * are emitted when a layer asks for the value. See lower.h. */
#include "engine/graph/constant.h"
#include "engine/graph/lower.h"
#include "engine/keras/layers/table.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mask {
    enum { MASK_VALUE, MASK_NOT_EQUAL, MASK_JOIN, MASK_CONCAT, MASK_RESHAPE } kind;
    int layer;  /* whose row shows the time of its ops */
    int value;  /* once emitted, else -1 */
    int source; /* a value (MASK_NOT_EQUAL) or a mask (MASK_RESHAPE) */
    double number;
    bool any; /* MASK_NOT_EQUAL: along the last axis; MASK_JOIN: one of them is enough */
    int axis;
    struct shape shape;
    int *parts; /* masks */
    int *part_values;
    size_t part_count;
};

static int mask_add(struct lowering *low, struct mask mask, const int *parts, const int *values,
                    size_t count)
{
    size_t index = low->mask_count++;
    low->masks = xrealloc(low->masks, low->mask_count * sizeof *low->masks);
    mask.layer = low->layer;
    mask.part_count = count;
    if (count > 0) {
        mask.parts = xmalloc(count * sizeof *parts);
        memcpy(mask.parts, parts, count * sizeof *parts);
    }
    if (values) {
        mask.part_values = xmalloc(count * sizeof *values);
        memcpy(mask.part_values, values, count * sizeof *values);
    }
    low->masks[index] = mask;
    return (int)index;
}

void mask_free_all(struct lowering *low)
{
    for (size_t i = 0; i < low->mask_count; i++) {
        free(low->masks[i].parts);
        free(low->masks[i].part_values);
    }
    free(low->masks);
    low->masks = NULL;
    low->mask_count = 0;
}

/* ---- what a call has ---- */

/* The tensor that a keyword gives for input `input`: {"tensor": i}, or a list of them. NULL if the
 * call does not say. */
static const json_t *named(const struct call *call, const char *keyword, size_t input)
{
    const json_t *value = call->node ? json_object_get(call->node->kwargs, keyword) : NULL;
    if (json_is_array(value))
        value = json_array_get(value, input);
    else if (input > 0 && strcmp(keyword, "mask") == 0)
        return NULL;
    return json_is_object(value) ? value : NULL;
}

static int mask_of_argument(struct call *call, const json_t *value)
{
    const json_t *index = json_object_get(value, "tensor");
    if (json_is_integer(index))
        return mask_of_value(call, call_input(call, (size_t)json_integer_value(index)));
    const struct constant *constant = lower_json_constant(call, "mask", value);
    if (constant)
        call_refuse(call, "a mask that is a constant is not supported");
    return -1;
}

static int mask_that_came(const struct call *call, size_t input)
{
    return call->input_masks && input < call->input_count ? call->input_masks[input] : -1;
}

int mask_of_input(struct call *call, size_t input)
{
    const json_t *value = named(call, "mask", input);
    return value ? mask_of_argument(call, value) : mask_that_came(call, input);
}

int call_mask(struct call *call, size_t input)
{
    return mask_value(call->low, mask_of_input(call, input));
}

int call_mask_named(struct call *call, const char *keyword, size_t input)
{
    const json_t *value = named(call, keyword, 0);
    int mask = value ? mask_of_argument(call, value) : mask_that_came(call, input);
    return mask_value(call->low, mask);
}

void call_set_mask(struct call *call, size_t output, int mask)
{
    if (output < call->output_count)
        call->output_masks[output] = mask;
}

/* ---- making ---- */

int mask_not_equal(struct call *call, int value, double number, bool any)
{
    if (value < 0)
        return -1;
    struct mask mask = {
        .kind = MASK_NOT_EQUAL, .value = -1, .source = value, .number = number, .any = any};
    return mask_add(call->low, mask, NULL, NULL, 0);
}

int mask_of_value(struct call *call, int value)
{
    if (value < 0)
        return -1;
    return mask_add(call->low, (struct mask){.kind = MASK_VALUE, .value = value}, NULL, NULL, 0);
}

int mask_join(struct call *call, const int *masks, size_t count, bool either)
{
    int *kept = xmalloc((count + 1) * sizeof *kept), joined = -1;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (masks[i] >= 0)
            kept[used++] = masks[i];
    }
    if (used == 1)
        joined = kept[0];
    else if (used > 1)
        joined = mask_add(call->low, (struct mask){.kind = MASK_JOIN, .value = -1, .any = either},
                          kept, NULL, used);
    free(kept);
    return joined;
}

int mask_concat(struct call *call, const int *values, const int *masks, size_t count, int axis)
{
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any |= masks[i] >= 0;
    if (!any)
        return -1;
    return mask_add(call->low, (struct mask){.kind = MASK_CONCAT, .value = -1, .axis = axis}, masks,
                    values, count);
}

int mask_reshape(struct call *call, int mask, const struct shape *shape)
{
    if (mask < 0)
        return -1;
    return mask_add(
        call->low,
        (struct mask){.kind = MASK_RESHAPE, .value = -1, .source = mask, .shape = *shape}, NULL,
        NULL, 0);
}

/* ---- emitting ---- */

static int emit_not_equal(struct lowering *low, const struct mask *mask)
{
    struct shape shape = low->graph->values[mask->source].shape;
    int y = emit_binary_constant(low, BINARY_NOT_EQUAL, mask->source,
                                 lowering_number(low, mask->number, shape.rank), false);
    if (!mask->any)
        return y;
    bool axes[TENSOR_RANK_MAX] = {false};
    axes[shape.rank - 1] = true;
    return emit_reduce(low, y, REDUCE_MAX, axes, false);
}

/* All ones in the shape of the value without its last axis: x == x, and what is no number counts. */
static int emit_ones(struct lowering *low, int value, int rank)
{
    const struct shape *shape = &low->graph->values[value].shape;
    struct op_slice slice = {.begin = {0}};
    struct shape wanted = {.rank = rank};
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = i < rank ? shape->dims[i] : 1;
        slice.step[i] = 1;
        if (i < rank)
            wanted.dims[i] = shape->dims[i];
    }
    int one = emit_reshape(low, emit_slice(low, value, &slice), &wanted);
    return emit_unary(low, emit_binary(low, BINARY_EQUAL, one, one), UNARY_LINEAR, 0, 1);
}

/* An axis without a mask of its own is real everywhere. */
static int emit_concat_masks(struct lowering *low, const struct mask *mask)
{
    int *values = xmalloc(mask->part_count * sizeof *values), rank = 0;
    for (size_t i = 0; i < mask->part_count; i++) {
        values[i] = mask_value(low, mask->parts[i]);
        if (values[i] >= 0)
            rank = low->graph->values[values[i]].shape.rank;
    }
    for (size_t i = 0; i < mask->part_count; i++) {
        if (mask->parts[i] < 0)
            values[i] = emit_ones(low, mask->part_values[i], rank);
    }
    int y = mask->axis < rank ? emit_concat(low, values, mask->part_count, mask->axis)
                              : lowering_fail(low, ERROR_MODEL_SHAPE, "its masks do not fit");
    free(values);
    return y;
}

static int emit_join(struct lowering *low, const struct mask *mask)
{
    enum binary_function function = mask->any ? BINARY_MAXIMUM : BINARY_MINIMUM;
    int y = mask_value(low, mask->parts[0]);
    for (size_t i = 1; i < mask->part_count; i++)
        y = emit_binary(low, function, y, mask_value(low, mask->parts[i]));
    return y;
}

int mask_value(struct lowering *low, int index)
{
    if (index < 0 || low->failed)
        return -1;
    /* a copy: emitting never adds masks, but the list is not ours to hold */
    const struct mask mask = low->masks[index];
    if (mask.value >= 0)
        return mask.value;
    int layer = low->layer, value = -1;
    low->layer = mask.layer;
    switch (mask.kind) {
    case MASK_NOT_EQUAL:
        value = emit_not_equal(low, &mask);
        break;
    case MASK_JOIN:
        value = emit_join(low, &mask);
        break;
    case MASK_CONCAT:
        value = emit_concat_masks(low, &mask);
        break;
    case MASK_RESHAPE:
        value = emit_reshape(low, mask_value(low, mask.source), &mask.shape);
        break;
    case MASK_VALUE:
        break;
    }
    low->layer = layer;
    low->masks[index].value = value;
    return value;
}
