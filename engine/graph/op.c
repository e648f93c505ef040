/* Names and rules of the ops. */
#include "engine/graph/op_rules.h"
#include <inttypes.h>

static const char *const UNARY_NAMES[UNARY_FUNCTION_COUNT] = {
    [UNARY_IDENTITY] = "identity",
    [UNARY_RELU] = "relu",
    [UNARY_SIGMOID] = "sigmoid",
    [UNARY_TANH] = "tanh",
    [UNARY_SILU] = "silu",
    [UNARY_GELU_ERF] = "gelu_erf",
    [UNARY_GELU_TANH] = "gelu_tanh",
    [UNARY_ELU] = "elu",
    [UNARY_SELU] = "selu",
    [UNARY_SOFTPLUS] = "softplus",
    [UNARY_SOFTSIGN] = "softsign",
    [UNARY_EXP] = "exp",
    [UNARY_LOG] = "log",
    [UNARY_SQRT] = "sqrt",
    [UNARY_RSQRT] = "rsqrt",
    [UNARY_SQUARE] = "square",
    [UNARY_ABS] = "abs",
    [UNARY_NEGATIVE] = "negative",
    [UNARY_HARD_SIGMOID] = "hard_sigmoid",
    [UNARY_HARD_SILU] = "hard_silu",
    [UNARY_MISH] = "mish",
    [UNARY_CLIP] = "clip",
    [UNARY_LINEAR] = "linear",
    [UNARY_THRESHOLD] = "threshold",
    [UNARY_FLOOR] = "floor",
    [UNARY_CEIL] = "ceil",
    [UNARY_ROUND] = "round",
    [UNARY_TRUNCATE] = "truncate",
    [UNARY_SIGN] = "sign",
    [UNARY_SIN] = "sin",
    [UNARY_COS] = "cos",
    [UNARY_TAN] = "tan",
    [UNARY_ASIN] = "asin",
    [UNARY_ACOS] = "acos",
    [UNARY_ATAN] = "atan",
    [UNARY_SINH] = "sinh",
    [UNARY_COSH] = "cosh",
    [UNARY_ASINH] = "asinh",
    [UNARY_ACOSH] = "acosh",
    [UNARY_ATANH] = "atanh",
    [UNARY_EXPM1] = "expm1",
    [UNARY_LOG1P] = "log1p",
    [UNARY_ERF] = "erf",
};

static const char *const BINARY_NAMES[BINARY_FUNCTION_COUNT] = {
    [BINARY_ADD] = "add",           [BINARY_SUBTRACT] = "subtract",
    [BINARY_MULTIPLY] = "multiply", [BINARY_DIVIDE] = "divide",
    [BINARY_MAXIMUM] = "maximum",   [BINARY_MINIMUM] = "minimum",
    [BINARY_POWER] = "power",       [BINARY_FLOOR_DIVIDE] = "floor_divide",
    [BINARY_MODULO] = "modulo",     [BINARY_ATAN2] = "atan2",
    [BINARY_EQUAL] = "equal",       [BINARY_NOT_EQUAL] = "not_equal",
    [BINARY_GREATER] = "greater",   [BINARY_GREATER_EQUAL] = "greater_equal",
    [BINARY_LESS] = "less",         [BINARY_LESS_EQUAL] = "less_equal",
};

const char *unary_function_name(enum unary_function function)
{
    return (unsigned)function < UNARY_FUNCTION_COUNT ? UNARY_NAMES[function] : "?";
}

const char *binary_function_name(enum binary_function function)
{
    return (unsigned)function < BINARY_FUNCTION_COUNT ? BINARY_NAMES[function] : "?";
}

uint64_t unary_flops(enum unary_function function)
{
    switch (function) {
    case UNARY_IDENTITY:
        return 0;
    case UNARY_SILU:
    case UNARY_LINEAR:
        return 2;
    case UNARY_HARD_SIGMOID:
        return 3;
    case UNARY_HARD_SILU:
    case UNARY_MISH:
        return 4;
    case UNARY_GELU_ERF:
        return 4;
    case UNARY_GELU_TANH:
        return 8;
    default:
        return 1;
    }
}

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

/* Shapes of the operands of an op. */
static const struct shape *input_shape(const struct graph *graph, const struct op *op, size_t input)
{
    return &graph->values[op->inputs[input]].shape;
}

static uint64_t output_elements(const struct graph *graph, const struct op *op)
{
    return (uint64_t)shape_elements(&graph->values[op->outputs[0]].shape);
}

static uint64_t input_elements(const struct graph *graph, const struct op *op)
{
    return (uint64_t)shape_elements(input_shape(graph, op, 0));
}

static bool refuse(struct error *error, const char *what, const char *why,
                   const struct shape *shape)
{
    char text[160];
    return error_set(error, ERROR_MODEL_SHAPE, what, "%s; its input is %s", why,
                     shape_format(text, sizeof text, shape));
}

/* ---- one shape rule and one FLOP rule per kind ---- */

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

static uint64_t conv_flops(const struct graph *graph, const struct op *op)
{
    const struct shape *w = &op->conv.weights->shape;
    const struct shape *grid = &graph->values[op->outputs[0]].shape;
    if (op->conv.transposed) /* every input cell meets every tap */
        grid = input_shape(graph, op, 0);
    uint64_t cells = 1;
    for (int i = 0; i < grid->rank - 1; i++)
        cells *= (uint64_t)grid->dims[i];
    return 2 * cells * (uint64_t)shape_elements(w);
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

static uint64_t matmul_flops(const struct graph *graph, const struct op *op)
{
    const struct shape *x = input_shape(graph, op, 0);
    return 2 * output_elements(graph, op) * (uint64_t)x->dims[x->rank - 1];
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

static uint64_t pool_flops(const struct graph *graph, const struct op *op)
{
    uint64_t window = 1;
    for (int i = 0; i < op->pool.spatial; i++)
        window *= (uint64_t)op->pool.window[i];
    return window * output_elements(graph, op);
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

static uint64_t affine_flops(const struct graph *graph, const struct op *op)
{
    return (uint64_t)((op->affine.scale != NULL) + (op->affine.shift != NULL)) *
           output_elements(graph, op);
}

static uint64_t unary_op_flops(const struct graph *graph, const struct op *op)
{
    return unary_flops(op->unary.function) * output_elements(graph, op);
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

static uint64_t elementwise_flops(const struct graph *graph, const struct op *op)
{
    return output_elements(graph, op);
}

/* max, subtract, exp, sum, divide */
static uint64_t softmax_flops(const struct graph *graph, const struct op *op)
{
    return 5 * output_elements(graph, op);
}

/* mean, subtract, square, sum, scale; gamma and beta on top */
static uint64_t normalise_flops(const struct graph *graph, const struct op *op)
{
    uint64_t each = 5 + (op->normalise.gamma != NULL) + (op->normalise.beta != NULL);
    return each * output_elements(graph, op);
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

static uint64_t reduce_flops(const struct graph *graph, const struct op *op)
{
    return input_elements(graph, op);
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

/* three interpolations of three operations each */
static uint64_t resize_flops(const struct graph *graph, const struct op *op)
{
    return op->resize.function == RESIZE_BILINEAR ? 9 * output_elements(graph, op) : 0;
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

void op_extra_shape(const struct graph *graph, const struct op *op, size_t output,
                    struct shape *shape)
{
    (void)output; /* only recurrent ops have several, and all of them are states */
    *shape = (struct shape){.rank = 2,
                            .dims = {input_shape(graph, op, 0)->dims[0], op->recurrent.units}};
}

/* Two products a step; then sums, functions and gating for each unit. */
static uint64_t recurrent_flops(const struct graph *graph, const struct op *op)
{
    const struct op_recurrent *cell = &op->recurrent;
    const struct shape *x = input_shape(graph, op, 0);
    uint64_t steps = (uint64_t)(x->dims[0] * x->dims[1]), units = (uint64_t)cell->units;
    uint64_t gates = (uint64_t)recurrent_gates(cell->cell);
    uint64_t each = cell->cell == CELL_LSTM ? 13 : cell->cell == CELL_GRU ? 13 : 2;
    return 2 * steps * ((uint64_t)x->dims[2] + units) * units * gates + each * steps * units;
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

/* every element is compared once, as for a maximum */
static uint64_t top_flops(const struct graph *graph, const struct op *op)
{
    return input_elements(graph, op);
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

/* two products over the pairs that causality and the window leave, and a softmax */
static uint64_t attention_flops(const struct graph *graph, const struct op *op)
{
    const struct shape *q = input_shape(graph, op, 0), *v = input_shape(graph, op, 2);
    int64_t steps = q->dims[1], keys = v->dims[1], window = op->attention.window;
    uint64_t pairs = 0;
    for (int64_t i = 0; i < steps; i++) {
        int64_t first = window > 0 && i - window + 1 > 0 ? i - window + 1 : 0;
        int64_t end = window > 0 && i + window < keys ? i + window : keys;
        end = op->attention.causal && i + 1 < end ? i + 1 : end;
        pairs += end > first ? (uint64_t)(end - first) : 0;
    }
    uint64_t channels = (uint64_t)(q->dims[3] + v->dims[3]);
    return (uint64_t)(q->dims[0] * q->dims[2]) * pairs * (2 * channels + 5);
}

static uint64_t no_flops(const struct graph *graph, const struct op *op)
{
    (void)graph;
    (void)op;
    return 0;
}

struct op_row {
    const char *name;
    bool (*shape)(const struct graph *, const struct op *, struct shape *, const char *,
                  struct error *);
    uint64_t (*flops)(const struct graph *, const struct op *);
    bool elementwise;
};

static const struct op_row ROWS[OP_KIND_COUNT] = {
    [OP_CONV] = {"conv", conv_shape, conv_flops, false},
    [OP_MATMUL] = {"matmul", matmul_shape, matmul_flops, false},
    [OP_POOL] = {"pool", pool_shape, pool_flops, false},
    [OP_AFFINE] = {"affine", affine_shape, affine_flops, true},
    [OP_UNARY] = {"unary", same_shape, unary_op_flops, true},
    [OP_BINARY] = {"binary", binary_shape, elementwise_flops, true},
    [OP_SOFTMAX] = {"softmax", same_shape, softmax_flops, false},
    [OP_NORMALISE] = {"normalise", same_shape, normalise_flops, false},
    [OP_REDUCE] = {"reduce", reduce_shape, reduce_flops, false},
    [OP_PAD] = {"pad", pad_shape, no_flops, false},
    [OP_SLICE] = {"slice", slice_shape, no_flops, false},
    [OP_CONCAT] = {"concat", concat_shape, no_flops, false},
    [OP_TRANSPOSE] = {"transpose", transpose_shape, no_flops, false},
    [OP_RESHAPE] = {"reshape", reshape_shape, no_flops, false},
    [OP_RESIZE] = {"resize", resize_shape, resize_flops, false},
    [OP_CONSTANT] = {"constant", constant_shape, no_flops, false},
    [OP_SELECT] = {"select", select_shape, elementwise_flops, true},
    [OP_GATHER] = {"gather", gather_shape, no_flops, false},
    [OP_RECURRENT] = {"recurrent", recurrent_shape, recurrent_flops, false},
    [OP_ATTENTION] = {"attention", attention_shape, attention_flops, false},
    [OP_CUMULATE] = {"cumulate", same_shape, elementwise_flops, false},
    [OP_TOP] = {"top", top_shape, top_flops, false},
};

const char *op_kind_name(enum op_kind kind)
{
    return (unsigned)kind < OP_KIND_COUNT ? ROWS[kind].name : "?";
}

bool op_elementwise(const struct op *op)
{
    return ROWS[op->kind].elementwise;
}

bool op_output_shape(const struct graph *graph, const struct op *op, struct shape *shape,
                     const char *what, struct error *error)
{
    char text[160];
    if (!ROWS[op->kind].shape(graph, op, shape, what, error))
        return false;
    if (shape_elements(shape) < 0)
        return error_set(error, ERROR_MODEL_SHAPE, what, "its output %s is too large",
                         shape_format(text, sizeof text, shape));
    return true;
}

size_t op_constants(const struct op *op, const struct constant **list)
{
    const struct constant *all[3] = {NULL, NULL, NULL};
    size_t count = 0;
    switch (op->kind) {
    case OP_CONV:
        all[0] = op->conv.weights, all[1] = op->conv.bias;
        break;
    case OP_MATMUL:
        all[0] = op->matmul.weights, all[1] = op->matmul.bias;
        break;
    case OP_AFFINE:
        all[0] = op->affine.scale, all[1] = op->affine.shift;
        break;
    case OP_BINARY:
        all[0] = op->binary.constant;
        break;
    case OP_NORMALISE:
        all[0] = op->normalise.gamma, all[1] = op->normalise.beta;
        break;
    case OP_CONSTANT:
        all[0] = op->constant.data;
        break;
    case OP_SELECT:
        all[0] = op->select.on_true, all[1] = op->select.on_false;
        break;
    case OP_GATHER:
        all[0] = op->gather.data, all[1] = op->gather.indices;
        break;
    case OP_RECURRENT:
        all[0] = op->recurrent.kernel, all[1] = op->recurrent.recurrent;
        all[2] = op->recurrent.bias;
        break;
    default:
        break;
    }
    for (int i = 0; i < 3; i++) {
        if (all[i])
            list[count++] = all[i];
    }
    return count;
}

uint64_t op_flops(const struct graph *graph, const struct op *op)
{
    uint64_t flops = ROWS[op->kind].flops(graph, op);
    for (size_t i = 0; i < op->post_count; i++) {
        const struct post *post = &op->posts[i];
        uint64_t each = post->kind == POST_UNARY ? unary_flops(post->unary.function) : 1;
        flops += each * output_elements(graph, op);
    }
    return flops;
}

static uint64_t value_bytes(const struct graph *graph, int value)
{
    const struct graph_value *v = &graph->values[value];
    return (uint64_t)shape_elements(&v->shape) * dtype_bytes(v->dtype);
}

uint64_t op_bytes(const struct graph *graph, const struct op *op)
{
    if (op->kind == OP_RESHAPE)
        return 0;
    const struct constant *constants[4];
    size_t constant_count = op_constants(op, constants);
    uint64_t bytes = 0;
    for (size_t i = 0; i < op->input_count; i++) {
        bool again = false; /* x * x reads x once */
        for (size_t j = 0; j < i; j++)
            again |= op->inputs[j] == op->inputs[i];
        bool part = op->kind == OP_SLICE || (op->kind == OP_GATHER && !op->gather.data && i == 0);
        if (part)
            bytes += value_bytes(graph, op->outputs[0]); /* reads only what it keeps */
        else if (!again)
            bytes += value_bytes(graph, op->inputs[i]);
    }
    for (size_t i = 0; i < constant_count; i++) {
        uint64_t rows = value_bytes(graph, op->outputs[0]);
        bool table = op->kind == OP_GATHER && constants[i] == op->gather.data;
        bytes += table && rows < constants[i]->bytes ? rows : constants[i]->bytes;
    }
    for (size_t i = 0; i < op->post_count; i++) {
        if (op->posts[i].kind == POST_BINARY)
            bytes += value_bytes(graph, op->posts[i].value);
    }
    for (size_t i = 0; i < op->output_count; i++)
        bytes += value_bytes(graph, op->outputs[i]);
    return bytes;
}
