/* Names of the ops, and what they cost: FLOPs and bytes. */
#include "engine/graph/op_rules.h"

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
    [UNARY_FLOAT8] = "float8",
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

/* ---- one FLOP rule per kind ---- */

/* Shape of an operand of an op. */
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

static uint64_t matmul_flops(const struct graph *graph, const struct op *op)
{
    const struct shape *x = input_shape(graph, op, 0);
    return 2 * output_elements(graph, op) * (uint64_t)x->dims[x->rank - 1];
}

static uint64_t pool_flops(const struct graph *graph, const struct op *op)
{
    uint64_t window = 1;
    for (int i = 0; i < op->pool.spatial; i++)
        window *= (uint64_t)op->pool.window[i];
    return window * output_elements(graph, op);
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

static uint64_t reduce_flops(const struct graph *graph, const struct op *op)
{
    return input_elements(graph, op);
}

/* three interpolations of three operations each */
static uint64_t resize_flops(const struct graph *graph, const struct op *op)
{
    return op->resize.function == RESIZE_BILINEAR ? 9 * output_elements(graph, op) : 0;
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

/* every element is compared once, as for a maximum */
static uint64_t top_flops(const struct graph *graph, const struct op *op)
{
    return input_elements(graph, op);
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
    uint64_t (*flops)(const struct graph *, const struct op *);
    bool elementwise;
};

static const struct op_row ROWS[OP_KIND_COUNT] = {
    [OP_CONV] = {"conv", conv_flops, false},
    [OP_MATMUL] = {"matmul", matmul_flops, false},
    [OP_POOL] = {"pool", pool_flops, false},
    [OP_AFFINE] = {"affine", affine_flops, true},
    [OP_UNARY] = {"unary", unary_op_flops, true},
    [OP_BINARY] = {"binary", elementwise_flops, true},
    [OP_SOFTMAX] = {"softmax", softmax_flops, false},
    [OP_NORMALISE] = {"normalise", normalise_flops, false},
    [OP_REDUCE] = {"reduce", reduce_flops, false},
    [OP_PAD] = {"pad", no_flops, false},
    [OP_SLICE] = {"slice", no_flops, false},
    [OP_CONCAT] = {"concat", no_flops, false},
    [OP_TRANSPOSE] = {"transpose", no_flops, false},
    [OP_RESHAPE] = {"reshape", no_flops, false},
    [OP_RESIZE] = {"resize", resize_flops, false},
    [OP_CONSTANT] = {"constant", no_flops, false},
    [OP_SELECT] = {"select", elementwise_flops, true},
    [OP_GATHER] = {"gather", no_flops, false},
    [OP_RECURRENT] = {"recurrent", recurrent_flops, false},
    [OP_ATTENTION] = {"attention", attention_flops, false},
    [OP_CUMULATE] = {"cumulate", elementwise_flops, false},
    [OP_TOP] = {"top", top_flops, false},
};

const char *op_kind_name(enum op_kind kind)
{
    return (unsigned)kind < OP_KIND_COUNT ? ROWS[kind].name : "?";
}

bool op_elementwise(const struct op *op)
{
    return ROWS[op->kind].elementwise;
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
