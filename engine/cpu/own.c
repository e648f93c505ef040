/* Elementwise loops: per channel, unary, binary with broadcasting, and posts. */
#include "engine/cpu/own.h"
#include <math.h>
#include <string.h>

own_kernel *own_kernel_of(const struct op *op)
{
    switch (op->kind) {
    case OP_AFFINE:
        return own_affine;
    case OP_UNARY:
        return own_unary;
    case OP_BINARY:
        return own_binary;
    case OP_REDUCE:
        return own_reduce;
    case OP_NORMALISE:
        return own_normalise;
    case OP_PAD:
        return own_pad;
    case OP_SLICE:
        return own_slice;
    case OP_CONCAT:
        return own_concat;
    case OP_TRANSPOSE:
        return own_transpose;
    case OP_RESIZE:
        return own_resize;
    default:
        return NULL;
    }
}

/* ---- unary ---- */

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static float softplus(float x)
{
    return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
}

static float clip(float x, float least, float most)
{
    return x < least ? least : x > most ? most : x;
}

static float apply(const struct op_unary *unary, float x)
{
    float alpha = unary->alpha, beta = unary->beta;
    switch (unary->function) {
    case UNARY_RELU:
        x = x > 0 ? x : alpha * x;
        return beta > 0 && x > beta ? beta : x;
    case UNARY_SIGMOID:
        return sigmoid(x);
    case UNARY_TANH:
        return tanhf(x);
    case UNARY_SILU:
        return x * sigmoid(x);
    case UNARY_GELU_ERF:
        return 0.5F * x * (1 + erff(x * 0.70710678118654752F));
    case UNARY_GELU_TANH:
        return 0.5F * x * (1 + tanhf(0.79788456080286536F * (x + 0.044715F * x * x * x)));
    case UNARY_ELU:
        return x > 0 ? x : alpha * expm1f(x);
    case UNARY_SELU:
        return 1.0507009873554805F * (x > 0 ? x : 1.6732632423543772F * expm1f(x));
    case UNARY_SOFTPLUS:
        return softplus(x);
    case UNARY_SOFTSIGN:
        return x / (1 + fabsf(x));
    case UNARY_EXP:
        return expf(x);
    case UNARY_LOG:
        return logf(x);
    case UNARY_SQRT:
        return sqrtf(x);
    case UNARY_RSQRT:
        return 1 / sqrtf(x);
    case UNARY_SQUARE:
        return x * x;
    case UNARY_ABS:
        return fabsf(x);
    case UNARY_NEGATIVE:
        return -x;
    case UNARY_HARD_SIGMOID:
        return clip(alpha * x + beta, 0, 1);
    case UNARY_HARD_SILU:
        return x * clip(x / 6 + 0.5F, 0, 1);
    case UNARY_MISH:
        return x * tanhf(softplus(x));
    case UNARY_CLIP:
        return clip(x, alpha, beta);
    case UNARY_LINEAR:
        return alpha * x + beta;
    case UNARY_THRESHOLD:
        return x > alpha ? x : beta;
    default:
        return x;
    }
}

static void unary_loop(const struct op_unary *unary, const float *x, float *y, int64_t count)
{
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t i = 0; i < count; i++)
        y[i] = apply(unary, x[i]);
}

void own_unary(const struct own_call *call)
{
    const struct shape *shape = &call->graph->values[call->op->outputs[0]].shape;
    unary_loop(&call->op->unary, call->inputs[0], call->output, shape_elements(shape));
}

/* ---- binary ---- */

/* One row: each operand moves by 0 or 1. */
#define ROW(expression)                                                                            \
    do {                                                                                           \
        if (as == 1 && bs == 1) {                                                                  \
            for (int64_t i = 0; i < n; i++) {                                                      \
                float u = a[i], v = b[i];                                                          \
                y[i] = (expression);                                                               \
            }                                                                                      \
        } else if (as == 1) {                                                                      \
            float v = b[0];                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                      \
                float u = a[i];                                                                    \
                y[i] = (expression);                                                               \
            }                                                                                      \
        } else {                                                                                   \
            float u = a[0];                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                      \
                float v = b[i * bs];                                                               \
                y[i] = (expression);                                                               \
            }                                                                                      \
        }                                                                                          \
    } while (0)

OWN_VECTOR static void binary_row(enum binary_function function, const float *a, int64_t as,
                                  const float *b, int64_t bs, float *y, int64_t n)
{
    switch (function) {
    case BINARY_ADD:
        ROW(u + v);
        break;
    case BINARY_SUBTRACT:
        ROW(u - v);
        break;
    case BINARY_MULTIPLY:
        ROW(u * v);
        break;
    case BINARY_DIVIDE:
        ROW(u / v);
        break;
    case BINARY_MAXIMUM:
        ROW(u > v ? u : v);
        break;
    case BINARY_MINIMUM:
        ROW(u < v ? u : v);
        break;
    default:
        ROW(powf(u, v));
        break;
    }
}

/* Shapes with neighbouring axes joined where both operands run alike. */
struct walk {
    int rank;
    int64_t dims[TENSOR_RANK_MAX], a[TENSOR_RANK_MAX], b[TENSOR_RANK_MAX]; /* strides */
};

static struct walk plan_walk(const struct shape *y, const struct shape *a, const struct shape *b)
{
    struct walk walk = {.rank = 0};
    int64_t a_step = 1, b_step = 1;
    int64_t dims[TENSOR_RANK_MAX], as[TENSOR_RANK_MAX], bs[TENSOR_RANK_MAX];
    for (int i = y->rank - 1; i >= 0; i--) { /* innermost first */
        int64_t a_stride = a->dims[i] == 1 ? 0 : a_step, b_stride = b->dims[i] == 1 ? 0 : b_step;
        a_step *= a->dims[i];
        b_step *= b->dims[i];
        if (y->dims[i] == 1)
            continue;
        int last = walk.rank - 1;
        if (walk.rank > 0 && a_stride == as[last] * dims[last] &&
            b_stride == bs[last] * dims[last]) {
            dims[last] *= y->dims[i];
            continue;
        }
        dims[walk.rank] = y->dims[i];
        as[walk.rank] = a_stride;
        bs[walk.rank++] = b_stride;
    }
    for (int i = 0; i < walk.rank; i++) {
        walk.dims[i] = dims[walk.rank - 1 - i];
        walk.a[i] = as[walk.rank - 1 - i];
        walk.b[i] = bs[walk.rank - 1 - i];
    }
    if (walk.rank == 0) {
        walk.rank = 1;
        walk.dims[0] = 1;
    }
    return walk;
}

static void binary_loop(enum binary_function function, const float *a, const struct shape *a_shape,
                        const float *b, const struct shape *b_shape, float *y,
                        const struct shape *shape)
{
    struct walk walk = plan_walk(shape, a_shape, b_shape);
    int inner = walk.rank - 1;
    int64_t n = walk.dims[inner], rows = shape_elements(shape) / n;
    if (rows == 1 && n > OWN_PARALLEL) { /* one long row: cut it */
        int64_t piece = 8192;
        int64_t pieces = (n + piece - 1) / piece;
#pragma omp parallel for
        for (int64_t i = 0; i < pieces; i++) {
            int64_t at = i * piece, count = n - at < piece ? n - at : piece;
            binary_row(function, a + at * walk.a[0], walk.a[0], b + at * walk.b[0], walk.b[0],
                       y + at, count);
        }
        return;
    }
#pragma omp parallel for if (rows * n > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t rest = row, a_at = 0, b_at = 0;
        for (int i = inner - 1; i >= 0; i--) {
            int64_t index = rest % walk.dims[i];
            rest /= walk.dims[i];
            a_at += index * walk.a[i];
            b_at += index * walk.b[i];
        }
        binary_row(function, a + a_at, walk.a[inner], b + b_at, walk.b[inner], y + row * n, n);
    }
}

void own_binary(const struct own_call *call)
{
    const struct graph *graph = call->graph;
    const struct op_binary *binary = &call->op->binary;
    const struct shape *shape = &graph->values[call->op->outputs[0]].shape;
    const struct shape *x_shape = &graph->values[call->op->inputs[0]].shape;
    const float *x = call->inputs[0];
    if (!binary->constant)
        binary_loop(binary->function, x, x_shape, call->inputs[1],
                    &graph->values[call->op->inputs[1]].shape, call->output, shape);
    else if (binary->swapped)
        binary_loop(binary->function, binary->constant->data, &binary->constant->shape, x, x_shape,
                    call->output, shape);
    else
        binary_loop(binary->function, x, x_shape, binary->constant->data, &binary->constant->shape,
                    call->output, shape);
}

void own_post(const struct post *post, float *y, const struct shape *shape, const float *operand,
              const struct shape *operand_shape)
{
    if (post->kind == POST_UNARY)
        unary_loop(&post->unary, y, y, shape_elements(shape));
    else
        binary_loop(post->binary, y, shape, operand, operand_shape, y, shape);
}

/* ---- affine ---- */

OWN_VECTOR static void affine_row(const float *x, const float *scale, const float *shift, float *y,
                                  int64_t channels)
{
    if (scale && shift) {
        for (int64_t c = 0; c < channels; c++)
            y[c] = x[c] * scale[c] + shift[c];
    } else if (scale) {
        for (int64_t c = 0; c < channels; c++)
            y[c] = x[c] * scale[c];
    } else if (shift) {
        for (int64_t c = 0; c < channels; c++)
            y[c] = x[c] + shift[c];
    } else {
        memmove(y, x, (size_t)channels * sizeof *y);
    }
}

#define PATTERN 512

static bool per_channel(const struct constant *constant)
{
    return !constant || shape_elements(&constant->shape) > 1;
}

void own_affine(const struct own_call *call)
{
    const struct op_affine *affine = &call->op->affine;
    const struct shape *shape = &call->graph->values[call->op->outputs[0]].shape;
    int64_t channels = shape->dims[shape->rank - 1], rows = shape_elements(shape) / channels;
    const float *x = call->inputs[0];
    float *y = call->output;
    const float *scale = affine->scale ? affine->scale->data : NULL;
    const float *shift = affine->shift ? affine->shift->data : NULL;
    if (!per_channel(affine->scale) || !per_channel(affine->shift)) { /* single numbers */
        bool one_scale = !per_channel(affine->scale), one_shift = !per_channel(affine->shift);
#pragma omp parallel for if (rows * channels > OWN_PARALLEL)
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t c = 0; c < channels; c++) {
                float s = scale ? scale[one_scale ? 0 : c] : 1;
                float t = shift ? shift[one_shift ? 0 : c] : 0;
                y[row * channels + c] = x[row * channels + c] * s + t;
            }
        }
        return;
    }
    /* few channels make short rows: write the constants out over several pixels */
    float wide_scale[PATTERN], wide_shift[PATTERN];
    int64_t repeats = channels < PATTERN ? PATTERN / channels : 1;
    if (repeats > 1) {
        for (int64_t i = 0; i < repeats * channels; i++) {
            wide_scale[i] = scale ? scale[i % channels] : 1;
            wide_shift[i] = shift ? shift[i % channels] : 0;
        }
        scale = scale ? wide_scale : NULL;
        shift = shift ? wide_shift : NULL;
    }
    int64_t width = repeats * channels, count = rows * channels;
    int64_t wide_rows = (count + width - 1) / width;
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t row = 0; row < wide_rows; row++) {
        int64_t at = row * width;
        affine_row(x + at, scale, shift, y + at, count - at < width ? count - at : width);
    }
}
