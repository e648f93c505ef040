/* Op nodes that put tensors together, take them apart and space numbers out: stacks along given axes,
 * differences, evenly spaced numbers, crosses, frames of a sequence. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define OPERANDS_MOST 256
/* Numbers of a table that is made here: no honest model comes near. */
#define TABLE_MOST    (1 << 24)

/* Cells begin, begin + step, ... along one axis. */
static int part(struct call *call, int x, int axis, int64_t begin, int64_t count, int64_t step)
{
    if (x < 0 || call->low->failed)
        return -1;
    const struct shape *shape = call_shape(call, x);
    struct op_slice slice = {.begin = {0}};
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = shape->dims[i];
        slice.step[i] = 1;
    }
    slice.begin[axis] = begin;
    slice.size[axis] = count;
    slice.step[axis] = step;
    return emit_slice(call->low, x, &slice);
}

static int flat(struct call *call, int x)
{
    int64_t count = shape_elements(call_shape(call, x));
    struct shape shape = shape_of(1, &count);
    return x < 0 ? -1 : emit_reshape(call->low, x, &shape);
}

/* An axis of 1 in front of `axis`. */
static int widened(struct call *call, int x, int axis)
{
    struct shape shape = *call_shape(call, x);
    if (x < 0 || shape.rank == TENSOR_RANK_MAX) {
        call_refuse(call, "its result has too many axes");
        return -1;
    }
    memmove(shape.dims + axis + 1, shape.dims + axis,
            (size_t)(shape.rank - axis) * sizeof *shape.dims);
    shape.dims[axis] = 1;
    shape.rank++;
    return emit_reshape(call->low, x, &shape);
}

/* ---- together and apart ---- */

/* Vstack (parameter 0), Hstack (1), Dstack (2): along that axis, which is made where it is missing. */
bool lower_op_stack_along(struct call *call)
{
    int values[OPERANDS_MOST], axis = call->row->parameter;
    size_t count = op_operands(call, 0, "xs", values, OPERANDS_MOST);
    if (count == 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        int rank = call_shape(call, values[i])->rank;
        if (axis == 1 && rank < 2)
            axis = 0;
        if (axis != 1 && rank < 2)
            values[i] = widened(call, values[i], 0);
        if (axis == 2 && rank < 3)
            values[i] = widened(call, values[i], 2);
    }
    call->low->graph->mixes_samples |= axis == 0;
    return call_return(call, emit_concat(call->low, values, count, axis));
}

bool lower_op_append(struct call *call)
{
    int values[2] = {op_value(call, 0, "x1"), op_value(call, 1, "x2")};
    const json_t *given = op_argument(call, 2, "axis");
    int axis = 0;
    if (given)
        axis = config_axis(call, op_integer(call, 2, "axis", 0), call_shape(call, values[0])->rank);
    for (int i = 0; i < 2 && !given; i++)
        values[i] = flat(call, values[i]);
    call->low->graph->mixes_samples |= axis == 0;
    return call_return(call, emit_concat(call->low, values, 2, axis));
}

bool lower_op_ravel(struct call *call)
{
    return call_return(call, flat(call, op_operand(call, 0, "x")));
}

/* Fliplr (parameter 1) and Flipud (0). */
bool lower_op_flip_axis(struct call *call)
{
    int x = op_operand(call, 0, "x"), axis = call->row->parameter;
    if (x < 0 || call_shape(call, x)->rank <= axis)
        return call_misfit(call, "its input has no axis %d", axis);
    call->low->graph->mixes_samples |= axis == 0;
    int64_t size = call_shape(call, x)->dims[axis];
    return call_return(call, part(call, x, axis, size - 1, size, -1));
}

/* ArraySplit (parameter -1), whose parts may differ by one cell; Vsplit (0), Hsplit (1), Dsplit (2). */
bool lower_op_split_along(struct call *call)
{
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    const json_t *sections = op_argument(call, 1, "indices_or_sections");
    int axis = call->row->parameter;
    axis = axis < 0 ? config_axis(call, op_integer(call, 2, "axis", 0), rank)
                    : axis - (axis == 1 && rank == 1);
    if (x < 0 || call->low->failed || axis >= rank)
        return call_misfit(call, "its input has no axis %d", axis);
    int64_t size = call_shape(call, x)->dims[axis], begin = 0;
    int64_t parts = json_is_array(sections) ? (int64_t)json_array_size(sections) + 1
                                            : (int64_t)json_integer_value(sections);
    if (parts < 1 || parts > OPERANDS_MOST)
        return call_misfit(call, "%lld cells do not split into %lld parts", (long long)size,
                           (long long)parts);
    call->low->graph->mixes_samples |= axis == 0;
    for (int64_t i = 0; i < parts; i++) {
        int64_t end = begin + size / parts + (i < size % parts);
        if (json_is_array(sections))
            end = i + 1 < parts ? json_integer_value(json_array_get(sections, (size_t)i)) : size;
        if (end <= begin || end > size)
            return call_misfit(call, "one of its parts is empty");
        if (!call_return(call, part(call, x, axis, begin, end - begin, 1)))
            return false;
        begin = end;
    }
    return true;
}

/* ---- differences and sums ---- */

static int difference(struct call *call, int x, int axis)
{
    int64_t left = call_shape(call, x)->dims[axis] - 1;
    if (x < 0 || left < 1) {
        call_misfit(call, "nothing is left of its axis");
        return -1;
    }
    return emit_binary(call->low, BINARY_SUBTRACT, part(call, x, axis, 1, left, 1),
                       part(call, x, axis, 0, left, 1));
}

bool lower_op_diff(struct call *call)
{
    int x = op_operand(call, 0, "a");
    int axis = config_axis(call, op_integer(call, 2, "axis", -1), call_shape(call, x)->rank);
    int64_t times = op_integer(call, 1, "n", 1);
    for (int64_t i = 0; i < times && x >= 0 && !call->low->failed; i++)
        x = difference(call, x, axis);
    call->low->graph->mixes_samples |= axis == 0;
    struct shape shape = *call_shape(call, x);
    return call_return(call, times == 0 ? emit_reshape(call->low, x, &shape) : x);
}

/* The area below y, whose cells are dx or as far as those of x apart. */
bool lower_op_trapezoid(struct call *call)
{
    struct lowering *low = call->low;
    int y = op_operand(call, 0, "y"), rank = call_shape(call, y)->rank;
    const json_t *given = op_argument(call, 1, "x");
    int axis = config_axis(call, op_integer(call, 3, "axis", -1), rank);
    bool axes[TENSOR_RANK_MAX] = {false};
    if (y < 0 || low->failed)
        return false;
    int64_t left = call_shape(call, y)->dims[axis] - 1;
    int sum = emit_binary(low, BINARY_ADD, part(call, y, axis, 1, left, 1),
                          part(call, y, axis, 0, left, 1));
    if (given) {
        int x = op_value(call, 1, "x"), own = call_shape(call, x)->rank;
        int apart = difference(call, x, own == 1 ? 0 : axis);
        for (int i = axis + 1; i < rank && own == 1 && apart >= 0; i++)
            apart = widened(call, apart, i - axis);
        sum = emit_binary(low, BINARY_MULTIPLY, sum, apart);
    }
    sum = emit_linear(low, sum, (given ? 1 : config_number(call, "dx", 1)) / 2, 0);
    axes[axis] = true;
    return call_return(call, emit_reduce(low, sum, REDUCE_SUM, axes, false));
}

/* Cells 1, 2, 0 along an axis of three, or 2, 0, 1. */
static int turned(struct call *call, int x, int axis, int64_t first)
{
    int parts[3];
    for (int64_t i = 0; i < 3; i++)
        parts[i] = part(call, x, axis, (first + i) % 3, 1, 1);
    return emit_concat(call->low, parts, 3, axis);
}

bool lower_op_cross(struct call *call)
{
    static const char *const names[3] = {"axisa", "axisb", "axisc"};
    struct lowering *low = call->low;
    int x[2] = {op_value(call, 0, "x1"), op_value(call, 1, "x2")};
    bool one = op_argument(call, 99, "axis") != NULL;
    for (int i = 0; i < 2; i++) {
        int rank = call_shape(call, x[i])->rank;
        int axis = config_axis(call, op_integer(call, 99, one ? "axis" : names[i], -1), rank);
        x[i] = emit_axis_to_end(low, x[i], axis);
        if (x[i] < 0 || call_shape(call, x[i])->dims[rank - 1] != 3)
            return call_refuse(call, "its vectors have not three parts");
    }
    int a = call_shape(call, x[0])->rank - 1, b = call_shape(call, x[1])->rank - 1;
    int plus =
        emit_binary(low, BINARY_MULTIPLY, turned(call, x[0], a, 1), turned(call, x[1], b, 2));
    int less =
        emit_binary(low, BINARY_MULTIPLY, turned(call, x[0], a, 2), turned(call, x[1], b, 1));
    int y = emit_binary(low, BINARY_SUBTRACT, plus, less);
    int axis = config_axis(call, op_integer(call, 99, one ? "axis" : names[2], -1),
                           call_shape(call, y)->rank);
    return call_return(call, emit_axis_from_end(low, y, axis));
}

/* ---- numbers apart ---- */

/* Linspace, or Logspace (parameter 1): `num` numbers from start to stop along a new axis. */
bool lower_op_linspace(struct call *call)
{
    struct lowering *low = call->low;
    int64_t count = config_int(call, "num", 50, 1);
    bool last = config_bool(call, "endpoint", true);
    if (count > TABLE_MOST)
        return call_refuse(call, "it asks for more than %d numbers", TABLE_MOST);
    if (config_bool(call, "retstep", false))
        return call_refuse(call, "it also returns its step");
    int start = op_value(call, 0, "start"), stop = op_value(call, 1, "stop");
    int apart = emit_binary(low, BINARY_SUBTRACT, stop, start);
    if (apart < 0)
        return false;
    struct shape shape = *call_shape(call, apart), row = {.rank = shape.rank + 1};
    start = emit_broadcast(low, start, &shape);
    int axis = config_axis(call, config_int(call, "axis", 0, INT64_MIN), shape.rank + 1);
    int from = widened(call, start, axis);
    apart = widened(call, apart, axis);
    for (int i = 0; i < row.rank; i++)
        row.dims[i] = i == axis ? count : 1;
    float *data;
    const struct constant *steps = call_constant(call, "steps", &row, &data);
    int64_t parts = last ? count - 1 : count;
    for (int64_t i = 0; steps && data && i < count; i++)
        data[i] = parts > 0 ? (float)((double)i / (double)parts) : 0;
    int y = emit_binary_constant(low, BINARY_MULTIPLY, apart, steps, false);
    y = emit_binary(low, BINARY_ADD, y, from);
    if (call->row->parameter == 1 && y >= 0)
        y = emit_binary_constant(low, BINARY_POWER, y,
                                 lowering_number(low, config_number(call, "base", 10), row.rank),
                                 true);
    low->graph->mixes_samples |= axis == 0 && shape.rank > 0;
    return call_return(call, y);
}

/* Size (parameter 0) and Ndim (1), known here. */
bool lower_op_size(struct call *call)
{
    int x = op_operand(call, 0, "x");
    const struct shape *shape = call_shape(call, x);
    double number = call->row->parameter == 1 ? shape->rank : (double)shape_elements(shape);
    if (x < 0)
        return false;
    call->low->graph->mixes_samples |= call->row->parameter == 0;
    return call_return(call, emit_constant(call->low, lowering_number(call->low, number, 0)));
}

/* Frames of the last axis, a new axis of them before it. */
bool lower_op_extract_sequences(struct call *call)
{
    int x = op_operand(call, 0, "x"), rank = call_shape(call, x)->rank;
    int64_t length = config_int(call, "sequence_length", 1, 1);
    int64_t stride = config_int(call, "sequence_stride", 1, 1);
    if (x < 0 || rank == 0 || call_shape(call, x)->dims[rank - 1] < length)
        return call_misfit(call, "its sequence is shorter than a frame");
    int64_t frames = 1 + (call_shape(call, x)->dims[rank - 1] - length) / stride;
    if (frames > TABLE_MOST / length)
        return call_refuse(call, "its frames hold more than %d numbers", TABLE_MOST);
    struct shape shape = {.rank = 2, .dims = {frames, length}};
    float *data;
    struct op_gather gather = {.axis = rank - 1};
    gather.indices = call_constant(call, "frames", &shape, &data);
    for (int64_t i = 0; gather.indices && data && i < frames * length; i++)
        data[i] = (float)(i / length * stride + i % length);
    return call_return(call, gather.indices ? emit_gather(call->low, x, -1, &gather) : -1);
}

/* `updates` in place of the cells from start_indices on. */
bool lower_op_slice_update(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "inputs"), updates = op_value(call, 2, "updates");
    json_t *starts = op_sizes(call, op_argument(call, 1, "start_indices"));
    const struct shape *shape = call_shape(call, x), *own = call_shape(call, updates);
    struct op_pad pad = {.value = 0};
    bool good = x >= 0 && updates >= 0 && own->rank == shape->rank &&
                (int)json_array_size(starts) == shape->rank;
    for (int i = 0; good && i < shape->rank; i++) {
        const json_t *start = json_array_get(starts, (size_t)i);
        int64_t room = shape->dims[i] - own->dims[i], at = json_integer_value(start);
        pad.before[i] = at < 0 ? 0 : at > room ? room : at; /* as XLA moves it inside */
        pad.after[i] = room - pad.before[i];
        good = json_is_integer(start) && room >= 0;
    }
    json_decref(starts);
    if (!good)
        return call_refuse(call, "where it begins is computed from the inputs");
    const struct constant *one = lowering_number(low, 1, own->rank);
    int there = emit_pad(low, emit_select(low, updates, -1, one, -1, one), &pad);
    return call_return(call, emit_select(low, there, emit_pad(low, updates, &pad), NULL, x, NULL));
}

/* The sums of what unfold() took apart: each cell of the image gathers its taps, one of them past the
 * end where a tap lies outside. */
bool lower_op_fold(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x");
    int64_t out[2], size[2], stride[2], dilation[2], padding[2], places[2];
    config_ints(call, "output_size", 2, 1, 1, out);
    config_ints(call, "kernel_size", 2, 1, 1, size);
    config_ints(call, "stride", 2, 1, 1, stride);
    config_ints(call, "dilation", 2, 1, 1, dilation);
    config_ints(call, "padding", 2, 0, 0, padding);
    int64_t taps = size[0] * size[1], cells = out[0] * out[1];
    for (int i = 0; i < 2; i++)
        places[i] = (out[i] + 2 * padding[i] - dilation[i] * (size[i] - 1) - 1) / stride[i] + 1;
    const struct shape *given = call_shape(call, x);
    int64_t batch = given->dims[0], count = given->dims[2];
    if (x < 0 || low->failed || given->rank != 3 || given->dims[1] % taps ||
        count != places[0] * places[1] || taps > TABLE_MOST || cells > TABLE_MOST / taps)
        return call_misfit(call, "its patches do not make an image of that size");
    int64_t channels = given->dims[1] / taps;
    struct op_pad pad = {.after = {0, 0, 1}};
    struct shape apart = {.rank = 3, .dims = {batch, channels, taps * (count + 1)}};
    struct shape table = {.rank = 2, .dims = {taps, cells}};
    struct shape image = {.rank = 4, .dims = {batch, channels, out[0], out[1]}};
    float *data;
    struct op_gather gather = {.axis = 2};
    gather.indices = call_constant(call, "taps", &table, &data);
    for (int64_t i = 0; gather.indices && data && i < taps * cells; i++) {
        int64_t tap = i / cells, cell = i % cells, at[2], place = 0;
        at[0] = cell / out[1] + padding[0] - tap / size[1] * dilation[0];
        at[1] = cell % out[1] + padding[1] - tap % size[1] * dilation[1];
        bool inside = true;
        for (int d = 0; d < 2; d++) {
            inside &= at[d] >= 0 && at[d] % stride[d] == 0 && at[d] / stride[d] < places[d];
            place = place * places[d] + (inside ? at[d] / stride[d] : 0);
        }
        data[i] = (float)(tap * (count + 1) + (inside ? place : count));
    }
    x = emit_reshape(low, emit_pad(low, x, &pad), &apart);
    bool axes[TENSOR_RANK_MAX] = {false, false, true};
    int y = gather.indices ? emit_gather(low, x, -1, &gather) : -1;
    y = emit_reduce(low, y, REDUCE_SUM, axes, false);
    return call_return(call, emit_reshape(low, y, &image));
}
