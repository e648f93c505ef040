/* Elementwise loops: per channel, unary, binary with broadcasting, and posts. */
#include "engine/cpu/own.h"
#include "engine/cpu/own_bf16.h"
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
    case OP_CONSTANT:
        return own_constant;
    case OP_SELECT:
        return own_select;
    case OP_GATHER:
        return own_gather;
    case OP_ATTENTION:
        return own_attention;
    case OP_CUMULATE:
        return own_cumulate;
    case OP_TOP:
        return own_top;
    default:
        return NULL;
    }
}

size_t own_scratch_bytes(const struct own_call *call, int threads)
{
    switch (call->op->kind) {
    case OP_ATTENTION:
        return own_attention_scratch(call, threads);
    case OP_REDUCE:
        return own_reduce_scratch(call);
    default:
        return 0;
    }
}

/* Elements that are widened at a time: 2 KiB of float32. */
#define BLOCK 512

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

/* float8_e4m3fn: 3 bits of mantissa; below 2^-6 steps of 2^-9. */
static float float8(float x)
{
    uint32_t bits;
    if (!(fabsf(x) >= 0x1p-6F))
        return rintf(x * 512) / 512;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7FFFF + (bits >> 20 & 1)) & 0xFFF00000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline __attribute__((always_inline)) float apply(enum unary_function function, float alpha,
                                                         float beta, float x)
{
    switch (function) {
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
    case UNARY_FLOOR:
        return floorf(x);
    case UNARY_CEIL:
        return ceilf(x);
    case UNARY_ROUND:
        return rintf(x);
    case UNARY_TRUNCATE:
        return truncf(x);
    case UNARY_SIGN:
        return (float)((x > 0) - (x < 0));
    case UNARY_SIN:
        return sinf(x);
    case UNARY_COS:
        return cosf(x);
    case UNARY_TAN:
        return tanf(x);
    case UNARY_ASIN:
        return asinf(x);
    case UNARY_ACOS:
        return acosf(x);
    case UNARY_ATAN:
        return atanf(x);
    case UNARY_SINH:
        return sinhf(x);
    case UNARY_COSH:
        return coshf(x);
    case UNARY_ASINH:
        return asinhf(x);
    case UNARY_ACOSH:
        return acoshf(x);
    case UNARY_ATANH:
        return atanhf(x);
    case UNARY_EXPM1:
        return expm1f(x);
    case UNARY_LOG1P:
        return log1pf(x);
    case UNARY_ERF:
        return erff(x);
    case UNARY_FLOAT8:
        return float8(x);
    default:
        return x;
    }
}

/* One loop a function, so that those without calls become vectors. */
#define EACH(name)                                                                                 \
    case name:                                                                                     \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] = apply(name, alpha, beta, x[i]);                                                 \
        break

OWN_VECTOR void own_unary_row(const struct op_unary *unary, const float *x, float *y, int64_t n)
{
    float alpha = unary->alpha, beta = unary->beta;
    switch (unary->function) {
        EACH(UNARY_SQRT);
        EACH(UNARY_RSQRT);
        EACH(UNARY_SQUARE);
        EACH(UNARY_ABS);
        EACH(UNARY_NEGATIVE);
        EACH(UNARY_SOFTSIGN);
        EACH(UNARY_HARD_SIGMOID);
        EACH(UNARY_HARD_SILU);
        EACH(UNARY_CLIP);
        EACH(UNARY_LINEAR);
        EACH(UNARY_THRESHOLD);
        EACH(UNARY_RELU);
    default:
        for (int64_t i = 0; i < n; i++)
            y[i] = apply(unary->function, alpha, beta, x[i]);
        break;
    }
}

static void unary_loop(const struct op_unary *unary, const void *x, void *y, int64_t count,
                       size_t element_bytes)
{
    bool fast = element_bytes != sizeof(float) && own_bf16_has_unary(unary);
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t at = 0; at < count; at += BLOCK) {
        int64_t n = count - at < BLOCK ? count - at : BLOCK;
        if (fast) {
            own_bf16_unary(unary, (const uint16_t *)x + at, (uint16_t *)y + at, n);
            continue;
        }
        if (element_bytes == sizeof(float)) {
            own_unary_row(unary, (const float *)x + at, (float *)y + at, n);
            continue;
        }
        float wide[BLOCK];
        own_widen_row((const uint16_t *)x + at, wide, n);
        own_unary_row(unary, wide, wide, n);
        own_narrow_row(wide, (uint16_t *)y + at, n);
    }
}

void own_unary(const struct own_call *call)
{
    const struct shape *shape = &call->graph->values[call->op->outputs[0]].shape;
    unary_loop(&call->op->unary, call->inputs[0], call->output, shape_elements(shape),
               call->element_bytes);
}

/* ---- binary ---- */

/* The rest with the sign of the divisor; exact, unlike u - floor(u / v) v. */
static float modulo(float u, float v)
{
    float rest = fmodf(u, v);
    return rest != 0 && (rest < 0) != (v < 0) ? rest + v : rest;
}

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
    case BINARY_EQUAL:
        ROW(u == v ? 1.0F : 0.0F);
        break;
    case BINARY_NOT_EQUAL:
        ROW(u != v ? 1.0F : 0.0F);
        break;
    case BINARY_GREATER:
        ROW(u > v ? 1.0F : 0.0F);
        break;
    case BINARY_GREATER_EQUAL:
        ROW(u >= v ? 1.0F : 0.0F);
        break;
    case BINARY_LESS:
        ROW(u < v ? 1.0F : 0.0F);
        break;
    case BINARY_LESS_EQUAL:
        ROW(u <= v ? 1.0F : 0.0F);
        break;
    case BINARY_FLOOR_DIVIDE:
        ROW(floorf(u / v));
        break;
    case BINARY_MODULO:
        ROW(modulo(u, v));
        break;
    case BINARY_ATAN2:
        ROW(atan2f(u, v));
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

/* An array of float32 or bfloat16. */
struct operand {
    const void *data;
    const struct shape *shape;
    size_t element_bytes;
    bool fast; /* both operands and the result are bfloat16, and own_bf16_binary() does it */
};

static const void *element(const struct operand *operand, int64_t index)
{
    return (const char *)operand->data + (size_t)index * operand->element_bytes;
}

/* Elements as float32: themselves, or widened into `wide`. */
static const float *floats(const struct operand *operand, int64_t index, int64_t count, float *wide)
{
    if (operand->element_bytes == sizeof(float))
        return element(operand, index);
    own_widen_row(element(operand, index), wide, count);
    return wide;
}

/* y[0..n) from a[a_at, +as...] and b[b_at, +bs...] */
static void binary_span(enum binary_function function, const struct operand *a, int64_t a_at,
                        int64_t as, const struct operand *b, int64_t b_at, int64_t bs, void *y,
                        size_t y_bytes, int64_t n)
{
    if (a->element_bytes == sizeof(float) && b->element_bytes == sizeof(float) &&
        y_bytes == sizeof(float)) {
        binary_row(function, element(a, a_at), as, element(b, b_at), bs, y, n);
        return;
    }
    if (a->fast) {
        struct own_rows u = {element(a, a_at), as, 0}, v = {element(b, b_at), bs, 0};
        own_bf16_binary(function, &u, &v, y, n, 1);
        return;
    }
    float a_wide[BLOCK], b_wide[BLOCK], result[BLOCK];
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t count = n - at < BLOCK ? n - at : BLOCK;
        binary_row(function, floats(a, a_at + at * as, as ? count : 1, a_wide), as,
                   floats(b, b_at + at * bs, bs ? count : 1, b_wide), bs, result, count);
        own_narrow_row(result, (uint16_t *)y + at, count);
    }
}

/* The same over `rows` rows of bfloat16, which are neighbours in the last axis but one. */
static void binary_span_rows(enum binary_function function, const struct operand *a, int64_t a_at,
                             const struct walk *walk, const struct operand *b, int64_t b_at,
                             uint16_t *y, int64_t rows)
{
    int inner = walk->rank - 1;
    struct own_rows u = {element(a, a_at), walk->a[inner], inner > 0 ? walk->a[inner - 1] : 0};
    struct own_rows v = {element(b, b_at), walk->b[inner], inner > 0 ? walk->b[inner - 1] : 0};
    own_bf16_binary(function, &u, &v, y, walk->dims[inner], rows);
}

/* Rows from `first` on: the outer indices count up like an odometer. */
static void binary_rows(enum binary_function function, const struct walk *walk,
                        const struct operand *a, const struct operand *b, char *y, size_t y_bytes,
                        int64_t first, int64_t count)
{
    int inner = walk->rank - 1;
    int64_t n = walk->dims[inner], rest = first, a_at = 0, b_at = 0, index[TENSOR_RANK_MAX];
    for (int i = inner - 1; i >= 0; i--) {
        index[i] = rest % walk->dims[i];
        rest /= walk->dims[i];
        a_at += index[i] * walk->a[i];
        b_at += index[i] * walk->b[i];
    }
    for (int64_t row = first, step; row < first + count; row += step) {
        char *to = y + (size_t)(row * n) * y_bytes;
        step = 1;
        if (a->fast) {
            int64_t left = walk->dims[inner - 1] - index[inner - 1];
            step = left < first + count - row ? left : first + count - row;
            binary_span_rows(function, a, a_at, walk, b, b_at, (uint16_t *)(void *)to, step);
        } else {
            binary_span(function, a, a_at, walk->a[inner], b, b_at, walk->b[inner], to, y_bytes, n);
        }
        for (int i = inner - 1, by = (int)step; i >= 0; i--, by = 1) {
            a_at += walk->a[i] * by;
            b_at += walk->b[i] * by;
            if ((index[i] += by) < walk->dims[i])
                break;
            index[i] = 0;
            a_at -= walk->a[i] * walk->dims[i];
            b_at -= walk->b[i] * walk->dims[i];
        }
    }
}

/* A thread takes about so many elements at a time. */
#define PIECE 8192

static void binary_loop(enum binary_function function, struct operand *a, const struct operand *b,
                        void *y, const struct shape *shape, size_t y_bytes)
{
    a->fast = a->element_bytes == sizeof(uint16_t) && b->element_bytes == sizeof(uint16_t) &&
              y_bytes == sizeof(uint16_t) && own_bf16_has_binary(function);
    struct walk walk = plan_walk(shape, a->shape, b->shape);
    int inner = walk.rank - 1;
    int64_t n = walk.dims[inner], elements = shape_elements(shape), rows = elements / n;
    if (rows == 1) { /* one long row: cut it */
#pragma omp parallel for if (elements > OWN_PARALLEL)
        for (int64_t at = 0; at < n; at += PIECE)
            binary_span(function, a, at * walk.a[0], walk.a[0], b, at * walk.b[0], walk.b[0],
                        (char *)y + (size_t)at * y_bytes, y_bytes, n - at < PIECE ? n - at : PIECE);
        return;
    }
    int64_t piece = n < PIECE ? PIECE / n : 1;
#pragma omp parallel for if (elements > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row += piece)
        binary_rows(function, &walk, a, b, y, y_bytes, row,
                    rows - row < piece ? rows - row : piece);
}

void own_binary(const struct own_call *call)
{
    const struct graph *graph = call->graph;
    const struct op_binary *binary = &call->op->binary;
    const struct constant *constant = binary->constant;
    const struct shape *shape = &graph->values[call->op->outputs[0]].shape;
    struct operand x = {call->inputs[0], &graph->values[call->op->inputs[0]].shape,
                        call->element_bytes, false};
    struct operand other = {constant ? constant->data : call->inputs[1],
                            constant ? &constant->shape : &graph->values[call->op->inputs[1]].shape,
                            constant ? sizeof(float) : call->element_bytes, false};
    bool swapped = constant && binary->swapped;
    binary_loop(binary->function, swapped ? &other : &x, swapped ? &x : &other, call->output, shape,
                call->element_bytes);
}

void own_post(const struct post *post, void *y, const struct shape *shape, const void *operand,
              const struct shape *operand_shape, size_t element_bytes)
{
    if (post->kind == POST_UNARY) {
        unary_loop(&post->unary, y, y, shape_elements(shape), element_bytes);
        return;
    }
    struct operand x = {y, shape, element_bytes, false};
    const struct operand other = {operand, operand_shape, element_bytes, false};
    binary_loop(post->binary, &x, &other, y, shape, element_bytes);
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

static bool per_channel(const struct constant *constant)
{
    return !constant || shape_elements(&constant->shape) > 1;
}

void own_affine(const struct own_call *call)
{
    const struct op_affine *affine = &call->op->affine;
    const struct shape *shape = &call->graph->values[call->op->outputs[0]].shape;
    int64_t channels = shape->dims[shape->rank - 1], count = shape_elements(shape);
    const float *scale = affine->scale ? affine->scale->data : NULL;
    const float *shift = affine->shift ? affine->shift->data : NULL;
    bool many_scales = per_channel(affine->scale), many_shifts = per_channel(affine->shift);
    /* few channels make short rows: write the constants out over several pixels */
    float wide_scale[BLOCK], wide_shift[BLOCK];
    int64_t width = channels;
    if (channels <= BLOCK) {
        width = BLOCK / channels * channels;
        for (int64_t i = 0; i < width; i++) {
            wide_scale[i] = scale ? scale[many_scales ? i % channels : 0] : 1;
            wide_shift[i] = shift ? shift[many_shifts ? i % channels : 0] : 0;
        }
    }
    bool narrow = call->element_bytes != sizeof(float);
#pragma omp parallel for if (count > OWN_PARALLEL)
    for (int64_t row = 0; row < (count + width - 1) / width; row++) {
        int64_t end = count - row * width < width ? count - row * width : width;
        float s[BLOCK], t[BLOCK], wide[BLOCK];
        for (int64_t at = 0; at < end; at += BLOCK) {
            int64_t n = end - at < BLOCK ? end - at : BLOCK, from = row * width + at;
            const float *x = (const float *)call->inputs[0] + from;
            float *y = (float *)call->output + from;
            if (narrow) {
                own_widen_row((const uint16_t *)call->inputs[0] + from, wide, n);
                x = y = wide;
            }
            if (channels <= BLOCK) {
                affine_row(x, scale ? wide_scale : NULL, shift ? wide_shift : NULL, y, n);
            } else {
                for (int64_t i = 0; i < n; i++) {
                    s[i] = scale ? scale[many_scales ? at + i : 0] : 1;
                    t[i] = shift ? shift[many_shifts ? at + i : 0] : 0;
                }
                affine_row(x, s, t, y, n);
            }
            if (narrow)
                own_narrow_row(wide, (uint16_t *)call->output + from, n);
        }
    }
}
