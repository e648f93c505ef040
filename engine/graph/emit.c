/* One emit function per op: append it to the graph, infer its shape, note if it mixes samples. */
#include "engine/graph/constant.h"
#include "engine/graph/lower.h"
#include "engine/graph/op_rules.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int lowering_fail(struct lowering *low, enum error_code code, const char *why, ...)
{
    if (low->failed)
        return -1;
    low->failed = true;
    char text[768];
    va_list list;
    va_start(list, why);
    vsnprintf(text, sizeof text, why, list);
    va_end(list);
    error_set(low->error, code, low->what, "%s", text);
    return -1;
}

static const struct shape *shape_at(const struct lowering *low, int value)
{
    return &low->graph->values[value].shape;
}

/* Append the op, which takes ownership of nothing but a copy of `inputs`. */
static int append(struct lowering *low, struct op op, const int *inputs, size_t count,
                  const struct shape *wanted)
{
    struct graph *graph = low->graph;
    if (low->failed)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (inputs[i] < 0)
            return lowering_fail(low, ERROR_MODEL_BROKEN, "an input is missing");
    }
    struct shape shape = wanted ? *wanted : (struct shape){.rank = 0};
    op.inputs = xmalloc((count + 1) * sizeof *op.inputs);
    if (count > 0)
        memcpy(op.inputs, inputs, count * sizeof *op.inputs);
    op.input_count = count;
    if (!op_output_shape(graph, &op, &shape, low->what, low->error)) {
        free(op.inputs);
        low->failed = true;
        return -1;
    }
    if (graph->value_count == low->value_room) {
        low->value_room = low->value_room ? 2 * low->value_room : 64;
        graph->values = xrealloc(graph->values, low->value_room * sizeof *graph->values);
    }
    if (graph->op_count == low->op_room) {
        low->op_room = low->op_room ? 2 * low->op_room : 64;
        graph->ops = xrealloc(graph->ops, low->op_room * sizeof *graph->ops);
    }
    int value = (int)graph->value_count++;
    graph->values[value] = (struct graph_value){.shape = shape,
                                                .dtype = DTYPE_F32,
                                                .producer = (int)graph->op_count,
                                                .alias_of = op.kind == OP_RESHAPE ? inputs[0] : -1,
                                                .layer = low->layer};
    op.outputs[0] = value;
    op.output_count = 1;
    op.layer = low->layer;
    graph->ops[graph->op_count++] = op;
    return value;
}

static int append_one(struct lowering *low, struct op op, int x)
{
    return append(low, op, &x, 1, NULL);
}

int emit_conv(struct lowering *low, int x, const struct op_conv *conv)
{
    return append_one(low, (struct op){.kind = OP_CONV, .conv = *conv}, x);
}

int emit_matmul(struct lowering *low, int x, const struct constant *weights,
                const struct constant *bias)
{
    struct op op = {.kind = OP_MATMUL, .matmul = {.weights = weights, .bias = bias}};
    return weights ? append_one(low, op, x) : -1;
}

int emit_matmul_values(struct lowering *low, int a, int b)
{
    const int inputs[2] = {a, b};
    if (low->failed || a < 0 || b < 0)
        return -1;
    if (shape_at(low, b)->rank == 2) /* the batch is summed over, or it is a batch of columns */
        low->graph->mixes_samples = true;
    return append(low, (struct op){.kind = OP_MATMUL}, inputs, 2, NULL);
}

int emit_pool(struct lowering *low, int x, const struct op_pool *pool)
{
    return append_one(low, (struct op){.kind = OP_POOL, .pool = *pool}, x);
}

int emit_affine(struct lowering *low, int x, const struct constant *scale,
                const struct constant *shift)
{
    struct op op = {.kind = OP_AFFINE, .affine = {.scale = scale, .shift = shift}};
    return append_one(low, op, x);
}

int emit_unary(struct lowering *low, int x, enum unary_function function, double alpha, double beta)
{
    struct op_unary unary = {.function = function, .alpha = (float)alpha, .beta = (float)beta};
    return append_one(low, (struct op){.kind = OP_UNARY, .unary = unary}, x);
}

int emit_linear(struct lowering *low, int x, double alpha, double beta)
{
    return emit_unary(low, x, UNARY_LINEAR, alpha, beta);
}

/* Insert axes of 1 in front until the value has this rank. */
static int with_rank(struct lowering *low, int x, int rank)
{
    if (low->failed || x < 0)
        return -1;
    const struct shape *old = shape_at(low, x);
    if (old->rank >= rank)
        return x;
    struct shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++)
        shape.dims[i] = i < rank - old->rank ? 1 : old->dims[i - (rank - old->rank)];
    return emit_reshape(low, x, &shape);
}

int emit_binary(struct lowering *low, enum binary_function function, int a, int b)
{
    if (low->failed || a < 0 || b < 0)
        return -1;
    int rank = shape_at(low, a)->rank;
    if (shape_at(low, b)->rank > rank)
        rank = shape_at(low, b)->rank;
    int inputs[2] = {with_rank(low, a, rank), with_rank(low, b, rank)};
    return append(low, (struct op){.kind = OP_BINARY, .binary = {.function = function}}, inputs, 2,
                  NULL);
}

int emit_binary_constant(struct lowering *low, enum binary_function function, int x,
                         const struct constant *constant, bool swapped)
{
    if (low->failed || x < 0 || !constant)
        return -1;
    struct op op = {.kind = OP_BINARY,
                    .binary = {.function = function, .constant = constant, .swapped = swapped}};
    x = with_rank(low, x, constant->shape.rank);
    if (constant->shape.rank > 0 && constant->shape.dims[0] > 1)
        low->graph->mixes_samples = true; /* a constant with a batch axis of its own */
    return append_one(low, op, x);
}

int emit_select(struct lowering *low, int condition, int a, const struct constant *on_true, int b,
                const struct constant *on_false)
{
    struct op op = {.kind = OP_SELECT, .select = {.on_true = on_true, .on_false = on_false}};
    int inputs[3], rank = 0;
    size_t count = 0;
    if (low->failed || condition < 0 || (a < 0 && !on_true) || (b < 0 && !on_false))
        return -1;
    const struct constant *constants[2] = {on_true, on_false};
    for (int i = 0; i < 2; i++) {
        if (!constants[i])
            continue;
        const struct shape *shape = &constants[i]->shape;
        rank = shape->rank > rank ? shape->rank : rank;
        if (shape->rank > 0 && shape->dims[0] > 1)
            low->graph->mixes_samples = true; /* a batch axis of its own */
    }
    inputs[count++] = condition;
    if (!on_true)
        inputs[count++] = a;
    if (!on_false)
        inputs[count++] = b;
    for (size_t i = 0; i < count; i++)
        rank = shape_at(low, inputs[i])->rank > rank ? shape_at(low, inputs[i])->rank : rank;
    for (size_t i = 0; i < count; i++)
        inputs[i] = with_rank(low, inputs[i], rank);
    return append(low, op, inputs, count, NULL);
}

int emit_gather(struct lowering *low, int data, int indices, const struct op_gather *gather)
{
    int inputs[2];
    size_t count = 0;
    if (!gather->data)
        inputs[count++] = data;
    if (!gather->indices)
        inputs[count++] = indices;
    /* rows stay apart if the batch is gone through element by element */
    bool apart = gather->data ? gather->axis == 0 && gather->batch_axes == 0 && !gather->indices
                 : gather->indices ? gather->axis > 0
                                   : gather->batch_axes > 0;
    if (!apart)
        low->graph->mixes_samples = true;
    return append(low, (struct op){.kind = OP_GATHER, .gather = *gather}, inputs, count, NULL);
}

const struct constant *lowering_number(struct lowering *low, double number, int rank)
{
    char key[64];
    float *data;
    struct shape ones = {.rank = rank};
    if (low->failed)
        return NULL;
    for (int i = 0; i < rank; i++)
        ones.dims[i] = 1;
    snprintf(key, sizeof key, "number %a of rank %d", number, rank);
    const struct constant *constant = constant_find(low->pool, key);
    if (!constant) {
        constant = constant_new(low->pool, key, &ones, &data, low->error);
        if (constant)
            *data = (float)number;
        low->failed = constant == NULL;
    }
    return constant;
}

size_t emit_recurrent(struct lowering *low, const int *inputs, size_t count,
                      const struct op_recurrent *recurrent, int outputs[3])
{
    struct graph *graph = low->graph;
    struct op op = {.kind = OP_RECURRENT, .recurrent = *recurrent};
    outputs[0] = append(low, op, inputs, count, NULL);
    if (outputs[0] < 0)
        return 0;
    size_t total = 1;
    if (recurrent->states)
        total = recurrent->cell == CELL_LSTM ? 3 : 2;
    for (size_t i = 1; i < total; i++) {
        struct op *made = &graph->ops[graph->op_count - 1];
        struct graph_value value = {.dtype = DTYPE_F32,
                                    .producer = (int)graph->op_count - 1,
                                    .alias_of = -1,
                                    .layer = low->layer};
        op_extra_shape(graph, made, i, &value.shape);
        if (graph->value_count == low->value_room) {
            low->value_room *= 2;
            graph->values = xrealloc(graph->values, low->value_room * sizeof *graph->values);
        }
        outputs[i] = made->outputs[i] = (int)graph->value_count++;
        graph->values[outputs[i]] = value;
        made->output_count = i + 1;
    }
    return total;
}

int emit_softmax(struct lowering *low, int x, int axis, bool log)
{
    if (axis == 0)
        low->graph->mixes_samples = true;
    if (log && !low->failed && x >= 0 && low->graph->values[x].shape.dims[axis] == 1)
        return emit_binary(low, BINARY_SUBTRACT, x, x); /* of one class: 0, to the last bit */
    return append_one(low, (struct op){.kind = OP_SOFTMAX, .softmax = {.axis = axis, .log = log}},
                      x);
}

int emit_normalise(struct lowering *low, int x, const struct op_normalise *normalise)
{
    if (normalise->axis == 0)
        low->graph->mixes_samples = true;
    return append_one(low, (struct op){.kind = OP_NORMALISE, .normalise = *normalise}, x);
}

int emit_reduce(struct lowering *low, int x, enum reduce_function function, const bool *axes,
                bool keepdims)
{
    struct op op = {.kind = OP_REDUCE, .reduce = {.function = function, .keepdims = keepdims}};
    memcpy(op.reduce.axes, axes, sizeof op.reduce.axes);
    if (axes[0])
        low->graph->mixes_samples = true;
    return append_one(low, op, x);
}

int emit_pad(struct lowering *low, int x, const struct op_pad *pad)
{
    if (pad->before[0] || pad->after[0])
        low->graph->mixes_samples = true;
    return append_one(low, (struct op){.kind = OP_PAD, .pad = *pad}, x);
}

int emit_slice(struct lowering *low, int x, const struct op_slice *slice)
{
    if (low->failed || x < 0)
        return -1;
    bool whole = true;
    const struct shape *shape = shape_at(low, x);
    for (int i = 0; i < shape->rank; i++) {
        bool axis_whole =
            slice->begin[i] == 0 && slice->step[i] == 1 && slice->size[i] == shape->dims[i];
        whole &= axis_whole;
        if (i == 0 && !axis_whole)
            low->graph->mixes_samples = true;
    }
    return whole ? x : append_one(low, (struct op){.kind = OP_SLICE, .slice = *slice}, x);
}

int emit_concat(struct lowering *low, const int *values, size_t count, int axis)
{
    if (axis == 0)
        low->graph->mixes_samples = true;
    if (count == 1)
        return values[0];
    return append(low, (struct op){.kind = OP_CONCAT, .concat = {.axis = axis}}, values, count,
                  NULL);
}

int emit_transpose(struct lowering *low, int x, const int *permutation)
{
    if (low->failed || x < 0)
        return -1;
    int rank = shape_at(low, x)->rank;
    bool identity = true;
    for (int i = 0; i < rank; i++)
        identity &= permutation[i] == i;
    if (identity)
        return x;
    struct op op = {.kind = OP_TRANSPOSE};
    memcpy(op.transpose.permutation, permutation, (size_t)rank * sizeof *permutation);
    if (permutation[0] != 0)
        low->graph->mixes_samples = true;
    return append_one(low, op, x);
}

int emit_reshape(struct lowering *low, int x, const struct shape *shape)
{
    if (shape->rank > 0 && shape->dims[0] % low->graph->batch != 0)
        low->graph->mixes_samples = true;
    return append(low, (struct op){.kind = OP_RESHAPE}, &x, 1, shape);
}

int emit_resize(struct lowering *low, int x, enum resize_function function, int64_t height,
                int64_t width)
{
    struct op_resize resize = {.function = function, .height = height, .width = width};
    return append_one(low, (struct op){.kind = OP_RESIZE, .resize = resize}, x);
}

int emit_constant(struct lowering *low, const struct constant *constant)
{
    const struct op op = {.kind = OP_CONSTANT, .constant = {.data = constant}};
    return constant ? append(low, op, NULL, 0, NULL) : -1;
}

int emit_cumulate(struct lowering *low, int x, const struct op_cumulate *cumulate)
{
    if (cumulate->axis == 0)
        low->graph->mixes_samples = true;
    return append_one(low, (struct op){.kind = OP_CUMULATE, .cumulate = *cumulate}, x);
}

int emit_top(struct lowering *low, int x, const struct op_top *top)
{
    if (low->failed || x < 0)
        return -1;
    if (shape_at(low, x)->rank == 1)
        low->graph->mixes_samples = true;
    return append_one(low, (struct op){.kind = OP_TOP, .top = *top}, x);
}

int emit_attention(struct lowering *low, int q, int k, int v, int mask, int bias,
                   const struct op_attention *attention)
{
    struct op op = {.kind = OP_ATTENTION, .attention = *attention};
    int inputs[5] = {q, k, v};
    size_t count = 3;
    op.attention.mask = mask >= 0;
    op.attention.bias = bias >= 0;
    if (mask >= 0)
        inputs[count++] = mask;
    if (bias >= 0)
        inputs[count++] = bias;
    return append(low, op, inputs, count, NULL);
}

int emit_broadcast(struct lowering *low, int x, const struct shape *shape)
{
    struct op_slice slice = {.begin = {0}};
    x = with_rank(low, x, shape->rank);
    if (low->failed || x < 0)
        return -1;
    const struct shape *from = shape_at(low, x);
    bool fits = from->rank == shape->rank;
    for (int i = 0; i < shape->rank && fits; i++) {
        slice.size[i] = shape->dims[i];
        slice.step[i] = from->dims[i] == shape->dims[i];
        fits = from->dims[i] == 1 || from->dims[i] == shape->dims[i];
    }
    char text[160], wanted[160];
    if (!fits)
        return lowering_fail(low, ERROR_MODEL_SHAPE, "%s does not broadcast to %s",
                             shape_format(text, sizeof text, from),
                             shape_format(wanted, sizeof wanted, shape));
    return emit_slice(low, x, &slice);
}

int emit_channels_last(struct lowering *low, int x)
{
    return emit_axis_to_end(low, x, 1);
}

int emit_channels_first(struct lowering *low, int x)
{
    return emit_axis_from_end(low, x, 1);
}

int emit_axis_to_end(struct lowering *low, int x, int axis)
{
    if (low->failed || x < 0)
        return -1;
    int rank = shape_at(low, x)->rank, permutation[TENSOR_RANK_MAX];
    for (int i = 0; i < rank - 1; i++)
        permutation[i] = i < axis ? i : i + 1;
    if (rank > 0)
        permutation[rank - 1] = axis;
    return emit_transpose(low, x, permutation);
}

int emit_axis_from_end(struct lowering *low, int x, int axis)
{
    if (low->failed || x < 0)
        return -1;
    int rank = shape_at(low, x)->rank, permutation[TENSOR_RANK_MAX];
    for (int i = 0; i < rank; i++)
        permutation[i] = i < axis ? i : i == axis ? rank - 1 : i - 1;
    return emit_transpose(low, x, permutation);
}
