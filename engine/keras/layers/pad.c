/* Layers that add or cut cells: padding and cropping. */
#include "engine/keras/layers/table.h"
#include <string.h>

/* Keras's padding and cropping: an integer, one per axis, or a pair per axis. */
static bool read_pairs(struct call *call, const char *key, int spatial, int64_t missing,
                       int64_t *before, int64_t *after)
{
    const json_t *value = json_object_get(call->config, key);
    for (int i = 0; i < spatial; i++)
        before[i] = after[i] = missing;
    if (!value || json_is_null(value))
        return true;
    bool flat_pair = spatial == 1 && json_array_size(value) == 2; /* 1D: [left, right] */
    if (json_is_array(value) && !flat_pair && (int)json_array_size(value) != spatial)
        return call_misfit(call, "'%s' should have %d entries", key, spatial);
    for (int i = 0; i < spatial; i++) {
        const json_t *one =
            json_is_array(value) && !flat_pair ? json_array_get(value, (size_t)i) : value;
        const json_t *a = json_is_array(one) ? json_array_get(one, 0) : one;
        const json_t *b = json_is_array(one) ? json_array_get(one, 1) : one;
        before[i] = json_integer_value(a);
        after[i] = json_integer_value(b);
        if (!json_is_integer(a) || !json_is_integer(b) || before[i] < 0 || after[i] < 0 ||
            before[i] > INT32_MAX || after[i] > INT32_MAX)
            return call_misfit(call, "'%s' makes no sense", key);
    }
    return true;
}

int spatial_axis(struct call *call, int i)
{
    return i + (config_channels_first(call) ? 2 : 1);
}

int image_input(struct call *call, int spatial)
{
    int x = call_input(call, 0);
    if (x >= 0 && call_shape(call, x)->rank != spatial + 2) {
        call_misfit(call, "its input has rank %d and should have %d", call_shape(call, x)->rank,
                    spatial + 2);
        return -1;
    }
    return x;
}

bool lower_zero_padding(struct call *call)
{
    int spatial = call->row->parameter, x = image_input(call, spatial);
    int64_t before[SPATIAL_MAX], after[SPATIAL_MAX];
    struct op_pad pad = {.value = 0};
    if (!read_pairs(call, "padding", spatial, 1, before, after))
        return false;
    for (int i = 0; i < spatial; i++) {
        pad.before[spatial_axis(call, i)] = before[i];
        pad.after[spatial_axis(call, i)] = after[i];
    }
    return call_return(call, emit_pad(call->low, x, &pad));
}

bool lower_cropping(struct call *call)
{
    int spatial = call->row->parameter, x = image_input(call, spatial);
    int64_t before[SPATIAL_MAX], after[SPATIAL_MAX];
    struct op_slice slice = {.begin = {0}};
    if (x < 0 || !read_pairs(call, "cropping", spatial, spatial == 2 ? 0 : 1, before, after))
        return false;
    struct shape shape = *call_shape(call, x);
    for (int i = 0; i < shape.rank; i++) {
        slice.size[i] = shape.dims[i];
        slice.step[i] = 1;
    }
    for (int i = 0; i < spatial; i++) {
        int axis = spatial_axis(call, i);
        slice.begin[axis] = before[i];
        slice.size[axis] -= before[i] + after[i];
    }
    int y = emit_slice(call->low, x, &slice);
    if (y == x)
        y = emit_reshape(call->low, x, &shape);
    return call_return(call, y);
}
