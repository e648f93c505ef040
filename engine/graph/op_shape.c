/* The shape rules of the ops. */
#include "engine/graph/op_rules.h"
#include <inttypes.h>

bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out)
{
    if (a->rank != b->rank)
        return false;
    out->rank = a->rank;
    for (int i = 0; i < a->rank; i++) {
        if (a->dims[i] != b->dims[i] && a->dims[i] != 1 && b->dims[i] != 1)
            return false;
        out->dims[i] = a->dims[i] == 1 ? b->dims[i] : a->dims[i];
    }
    return true;
}

/* Shape of an operand of an op. */
static const struct shape *input_shape(const struct graph *graph, const struct op *op, size_t input)
{
    return &graph->values[op->inputs[input]].shape;
}

static bool refuse(struct error *error, const char *what, const char *why,
                   const struct shape *shape)
{
    char text[160];
    return error_set(error, ERROR_MODEL_SHAPE, what, "%s; its input is %s", why,
                     shape_format(text, sizeof text, shape));
}

static bool conv_shape(const struct graph *graph, const struct op *op, struct shape *out,
                       const char *what, struct error *error)
{
    const struct op_conv *conv = &op->conv;
    const struct shape *x = input_shape(graph, op, 0);
    const struct shape *w = &conv->weights->shape;
    if (x->rank != conv->spatial + 2)
        return refuse(error, what, "a convolution of another rank was expected", x);
    int64_t channels = x->dims[x->rank - 1];
    int64_t inner = w->dims[w->rank - (conv->transposed ? 1 : 2)];
    if (conv->groups < 1 || channels % conv->groups != 0 || inner * conv->groups != channels)
        return refuse(error, what, "the number of channels does not fit the kernel", x);
    *out = *x;
    for (int i = 0; i < conv->spatial; i++) {
        int64_t extent = (conv->kernel[i] - 1) * conv->dilation[i] + 1;
        int64_t pads = conv->pad_before[i] + conv->pad_after[i];
        int64_t in = x->dims[i + 1];
        int64_t size = conv->transposed ? (in - 1) * conv->stride[i] + extent - pads
                                        : (in + pads - extent) / conv->stride[i] + 1;
        if (size < 1 || (!conv->transposed && in + pads < extent))
            return refuse(error, what, "the kernel is larger than the padded input", x);
        out->dims[i + 1] = size;
    }
    out->dims[x->rank - 1] = w->dims[w->rank - (conv->transposed ? 2 : 1)];
    return true;
}

static bool matmul_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    const struct shape *x = input_shape(graph, op, 0);
    const struct shape *w =
        op->matmul.weights ? &op->matmul.weights->shape : input_shape(graph, op, 1);
    if (x->rank < 1 || w->rank < 2 || x->dims[x->rank - 1] != w->dims[w->rank - 2])
        return refuse(error, what, "the last axis does not fit the matrix", x);
    if (!op->matmul.weights) {
        if (w->rank != x->rank)
            return refuse(error, what, "both operands of a product must have the same rank", x);
        for (int i = 0; i < x->rank - 2; i++) {
            if (x->dims[i] != w->dims[i])
                return refuse(error, what, "the batch axes of a product differ", x);
        }
    }
    *out = *x;
    out->dims[x->rank - 1] = w->dims[w->rank - 1];
    return true;
}

static bool pool_shape(const struct graph *graph, const struct op *op, struct shape *out,
                       const char *what, struct error *error)
{
    const struct op_pool *pool = &op->pool;
    const struct shape *x = input_shape(graph, op, 0);
    if (x->rank != pool->spatial + 2)
        return refuse(error, what, "a pooling of another rank was expected", x);
    *out = *x;
    for (int i = 0; i < pool->spatial; i++) {
        int64_t padded = x->dims[i + 1] + pool->pad_before[i] + pool->pad_after[i];
        if (padded < pool->window[i])
            return refuse(error, what, "the window is larger than the padded input", x);
        out->dims[i + 1] = (padded - pool->window[i]) / pool->stride[i] + 1;
    }
    return true;
}

static bool same_shape(const struct graph *graph, const struct op *op, struct shape *out,
                       const char *what, struct error *error)
{
    (void)what;
    (void)error;
    *out = *input_shape(graph, op, 0);
    return true;
}

static bool affine_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    const struct shape *x = input_shape(graph, op, 0);
    const struct constant *parts[] = {op->affine.scale, op->affine.shift};
    for (int i = 0; i < 2; i++) {
        if (!parts[i])
            continue;
        int64_t count = shape_elements(&parts[i]->shape);
        if (x->rank < 1 || (count != 1 && count != x->dims[x->rank - 1]))
            return refuse(error, what, "the number of channels does not fit its weights", x);
    }
    *out = *x;
    return true;
}

static bool binary_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    const struct shape *a = input_shape(graph, op, 0);
    const struct shape *b =
        op->binary.constant ? &op->binary.constant->shape : input_shape(graph, op, 1);
    char text[160];
    if (!shape_broadcast(a, b, out))
        return error_set(error, ERROR_MODEL_SHAPE, what,
                         "its operands do not broadcast; the second is %s",
                         shape_format(text, sizeof text, b));
    return true;
}

static bool reduce_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    (void)what;
    (void)error;
    const struct shape *x = input_shape(graph, op, 0);
    out->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if (!op->reduce.axes[i])
            out->dims[out->rank++] = x->dims[i];
        else if (op->reduce.keepdims)
            out->dims[out->rank++] = 1;
    }
    return true;
}

static bool pad_shape(const struct graph *graph, const struct op *op, struct shape *out,
                      const char *what, struct error *error)
{
    const struct shape *x = input_shape(graph, op, 0);
    *out = *x;
    for (int i = 0; i < x->rank; i++) {
        out->dims[i] += op->pad.before[i] + op->pad.after[i];
        if (out->dims[i] < 1)
            return refuse(error, what, "nothing is left of it", x);
    }
    return true;
}

static bool slice_shape(const struct graph *graph, const struct op *op, struct shape *out,
                        const char *what, struct error *error)
{
    const struct shape *x = input_shape(graph, op, 0);
    const struct op_slice *slice = &op->slice;
    *out = *x;
    for (int i = 0; i < x->rank; i++) {
        int64_t last = slice->begin[i] + (slice->size[i] - 1) * slice->step[i];
        if (slice->size[i] < 1 || slice->begin[i] < 0 || slice->begin[i] >= x->dims[i] ||
            last < 0 || last >= x->dims[i])
            return refuse(error, what, "the slice reaches outside", x);
        out->dims[i] = slice->size[i];
    }
    return true;
}

static bool concat_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    int axis = op->concat.axis;
    *out = *input_shape(graph, op, 0);
    for (size_t i = 1; i < op->input_count; i++) {
        const struct shape *x = input_shape(graph, op, i);
        bool fits = x->rank == out->rank;
        for (int d = 0; fits && d < out->rank; d++)
            fits = d == axis || x->dims[d] == out->dims[d];
        if (!fits)
            return refuse(error, what, "its inputs differ outside the joined axis", x);
        out->dims[axis] += x->dims[axis];
    }
    return true;
}

static bool transpose_shape(const struct graph *graph, const struct op *op, struct shape *out,
                            const char *what, struct error *error)
{
    (void)what;
    (void)error;
    const struct shape *x = input_shape(graph, op, 0);
    out->rank = x->rank;
    for (int i = 0; i < x->rank; i++)
        out->dims[i] = x->dims[op->transpose.permutation[i]];
    return true;
}

static bool reshape_shape(const struct graph *graph, const struct op *op, struct shape *out,
                          const char *what, struct error *error)
{
    const struct shape *x = input_shape(graph, op, 0);
    char text[160];
    if (shape_elements(x) == shape_elements(out))
        return true;
    return error_set(error, ERROR_MODEL_SHAPE, what, "cannot reshape %" PRId64 " elements to %s",
                     shape_elements(x), shape_format(text, sizeof text, out));
}

static bool resize_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    const struct shape *x = input_shape(graph, op, 0);
    if (x->rank != 4 || op->resize.height < 1 || op->resize.width < 1)
        return refuse(error, what, "only images can be resized", x);
    *out = *x;
    out->dims[1] = op->resize.height;
    out->dims[2] = op->resize.width;
    return true;
}

static bool constant_shape(const struct graph *graph, const struct op *op, struct shape *out,
                           const char *what, struct error *error)
{
    (void)graph;
    (void)what;
    (void)error;
    *out = op->constant.data->shape;
    return true;
}

/* Operands of a select in the order condition, a, b. */
static const struct shape *select_operand(const struct graph *graph, const struct op *op, int which)
{
    const struct constant *constant = which == 1   ? op->select.on_true
                                      : which == 2 ? op->select.on_false
                                                   : NULL;
    if (constant)
        return &constant->shape;
    return input_shape(graph, op, which == 2 && op->select.on_true ? 1 : (size_t)which);
}

static bool select_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    struct shape branches;
    const struct shape *condition = select_operand(graph, op, 0);
    if (!shape_broadcast(select_operand(graph, op, 1), select_operand(graph, op, 2), &branches) ||
        !shape_broadcast(condition, &branches, out))
        return refuse(error, what, "its operands do not broadcast", condition);
    return true;
}

static bool gather_shape(const struct graph *graph, const struct op *op, struct shape *out,
                         const char *what, struct error *error)
{
    const struct op_gather *gather = &op->gather;
    const struct shape *data = gather->data ? &gather->data->shape : input_shape(graph, op, 0);
    const struct shape *indices =
        gather->indices ? &gather->indices->shape : input_shape(graph, op, gather->data ? 0 : 1);
    if (gather->axis < 0 || gather->axis >= data->rank || gather->batch_axes > gather->axis ||
        gather->batch_axes > indices->rank ||
        data->rank + indices->rank - gather->batch_axes - 1 > TENSOR_RANK_MAX)
        return refuse(error, what, "its result has too many axes", indices);
    for (int i = 0; i < gather->batch_axes; i++) {
        if (data->dims[i] != indices->dims[i])
            return refuse(error, what, "data and indices differ in a shared axis", indices);
    }
    out->rank = 0;
    for (int i = 0; i < gather->axis; i++)
        out->dims[out->rank++] = data->dims[i];
    for (int i = gather->batch_axes; i < indices->rank; i++)
        out->dims[out->rank++] = indices->dims[i];
    for (int i = gather->axis + 1; i < data->rank; i++)
        out->dims[out->rank++] = data->dims[i];
    return true;
}

static bool recurrent_shape(const struct graph *graph, const struct op *op, struct shape *out,
                            const char *what, struct error *error)
{
    const struct op_recurrent *cell = &op->recurrent;
    const struct shape *x = input_shape(graph, op, 0);
    size_t next = 1;
    if (x->rank != 3 || x->dims[2] != cell->kernel->shape.dims[0])
        return refuse(error, what, "(samples, steps, features) that fit its kernel were expected",
                      x);
    if (cell->has_mask) {
        const struct shape *mask = input_shape(graph, op, next++);
        if (mask->rank != 2 || mask->dims[0] != x->dims[0] || mask->dims[1] != x->dims[1])
            return refuse(error, what, "its mask does not fit", x);
    }
    for (int i = 0; cell->has_state && i < (cell->cell == CELL_LSTM ? 2 : 1); i++) {
        const struct shape *state = input_shape(graph, op, next++);
        if (state->rank != 2 || state->dims[0] != x->dims[0] || state->dims[1] != cell->units)
            return refuse(error, what, "its initial state does not fit", state);
    }
    *out = (struct shape){.rank = cell->sequences ? 3 : 2, .dims = {x->dims[0]}};
    if (cell->sequences)
        out->dims[1] = x->dims[1];
    out->dims[out->rank - 1] = cell->units;
    return true;
}

static bool top_shape(const struct graph *graph, const struct op *op, struct shape *out,
                      const char *what, struct error *error)
{
    const struct shape *x = input_shape(graph, op, 0);
    int64_t count = op->top.count;
    if (x->rank < 1 || count < 1 || count > x->dims[x->rank - 1])
        return refuse(error, what, "it asks for more elements than there are", x);
    *out = *x;
    out->dims[x->rank - 1] = count;
    return true;
}

static bool attention_shape(const struct graph *graph, const struct op *op, struct shape *out,
                            const char *what, struct error *error)
{
    const struct shape *q = input_shape(graph, op, 0), *k = input_shape(graph, op, 1);
    const struct shape *v = input_shape(graph, op, 2);
    if (q->rank != 4 || k->rank != 4 || v->rank != 4)
        return refuse(error, what, "attention wants (batch, steps, heads, channels)", q);
    if (k->dims[0] != q->dims[0] || v->dims[0] != q->dims[0] || k->dims[3] != q->dims[3])
        return refuse(error, what, "the keys do not fit the queries", q);
    if (v->dims[1] != k->dims[1] || v->dims[2] != k->dims[2] || q->dims[2] % k->dims[2] != 0)
        return refuse(error, what, "the values do not fit the keys and the queries", v);
    const int64_t full[4] = {q->dims[0], q->dims[2], q->dims[1], k->dims[1]};
    for (size_t i = 3; i < op->input_count; i++) {
        const struct shape *x = input_shape(graph, op, i);
        bool fits = x->rank == 4;
        for (int d = 0; fits && d < 4; d++)
            fits = x->dims[d] == 1 || x->dims[d] == full[d];
        if (!fits)
            return refuse(error, what, "its mask does not fit the scores", x);
    }
    *out = *q;
    out->dims[3] = v->dims[3];
    return true;
}

static bool (*const RULES[OP_KIND_COUNT])(const struct graph *, const struct op *, struct shape *,
                                          const char *, struct error *) = {
    [OP_CONV] = conv_shape,           [OP_MATMUL] = matmul_shape,
    [OP_POOL] = pool_shape,           [OP_AFFINE] = affine_shape,
    [OP_UNARY] = same_shape,          [OP_BINARY] = binary_shape,
    [OP_SOFTMAX] = same_shape,        [OP_NORMALISE] = same_shape,
    [OP_REDUCE] = reduce_shape,       [OP_PAD] = pad_shape,
    [OP_SLICE] = slice_shape,         [OP_CONCAT] = concat_shape,
    [OP_TRANSPOSE] = transpose_shape, [OP_RESHAPE] = reshape_shape,
    [OP_RESIZE] = resize_shape,       [OP_CONSTANT] = constant_shape,
    [OP_SELECT] = select_shape,       [OP_GATHER] = gather_shape,
    [OP_RECURRENT] = recurrent_shape, [OP_ATTENTION] = attention_shape,
    [OP_CUMULATE] = same_shape,       [OP_TOP] = top_shape,
};

bool op_output_shape(const struct graph *graph, const struct op *op, struct shape *shape,
                     const char *what, struct error *error)
{
    char text[160];
    if (!RULES[op->kind](graph, op, shape, what, error))
        return false;
    if (shape_elements(shape) < 0)
        return error_set(error, ERROR_MODEL_SHAPE, what, "its output %s is too large",
                         shape_format(text, sizeof text, shape));
    return true;
}

void op_extra_shape(const struct graph *graph, const struct op *op, size_t output,
                    struct shape *shape)
{
    (void)output; /* only recurrent ops have several, and all of them are states */
    *shape = (struct shape){.rank = 2,
                            .dims = {input_shape(graph, op, 0)->dims[0], op->recurrent.units}};
}
