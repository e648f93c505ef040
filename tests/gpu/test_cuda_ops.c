/* The CUDA backend on a real GPU: every op against plain loops in double precision, on random
 * shapes, eager and replayed as a CUDA graph; then memory (tests/support/bench_memory.c).
 *
 *   test_cuda_ops [NAME]             all tests in strict float32, or those whose name begins so
 *   test_cuda_ops fp16|bf16 [NAME]   the ops in a half type, fewer cases
 *   test_cuda_ops precision          the tests of precisions, layouts and measured kernels
 *
 * Prints a TAP line per test. Exit code 0 if all passed, 1 if not, 4 without a GPU. The module is
 * found as the program finds it. Strict float32 must agree within 2e-5 of the largest value, fp16
 * within 5e-3, bf16 within 4e-2.
 */
#include "support/bench.h"
#include <stdio.h>
#include <string.h>

static struct device *shared; /* constants differ, so it forgets them between cases */
static enum precision precision = PRECISION_FP32;
static double tolerance = BENCH_FP32;

static bool in_half(void)
{
    return precision != PRECISION_FP32;
}

/* So many cases; a third of them in a half type, since the geometry is the same. */
static int cases(int count)
{
    return in_half() ? (count + 2) / 3 : count;
}

static void check(struct bench *b, const char *name)
{
    if (bench_why[0] == '\0') {
        bench_check(shared, b, name, precision, tolerance);
        bench_backend->device_forget(shared);
    }
    bench_free(b);
}

static void random_posts(struct bench *b, struct op *op, int extra)
{
    static const struct op_unary functions[] = {
        {UNARY_RELU, 0, 0}, {UNARY_RELU, 0, 6},    {UNARY_RELU, 0.2f, 0}, {UNARY_SILU, 0, 0},
        {UNARY_TANH, 0, 0}, {UNARY_SIGMOID, 0, 0}, {UNARY_GELU_ERF, 0, 0}};
    int form = (int)bench_roll(0, 4);
    if (extra >= 0 && form >= 2) {
        bench_post_binary(op, form == 4 ? BINARY_MULTIPLY : BINARY_ADD, extra);
    }
    if (form % 2 == 1) {
        const struct op_unary *u = &functions[bench_roll(0, 6)];
        bench_post_unary(op, u->function, u->alpha, u->beta);
    } else if (form == 2) {
        bench_post_unary(op, UNARY_RELU, 0, 0);
    }
    (void)b;
}

/* A convolution with random geometry; `kind`: 0 plain, 1 depthwise, 2 grouped, 3 transposed. */
static void conv_case(int spatial, int kind)
{
    int64_t batch = bench_roll(1, 4), channels = bench_roll(1, 20), outputs = bench_roll(1, 24),
            groups = 1;
    struct bench *b = bench_new(batch);
    struct shape x = {.rank = spatial + 2, .dims = {batch}},
                 y = {.rank = spatial + 2, .dims = {batch}};
    struct shape w = {.rank = spatial + 2};
    struct op_conv conv = {.spatial = spatial, .transposed = kind == 3};
    if (kind == 1) {
        channels = groups = bench_roll(1, 2) == 1 ? 4 * bench_roll(1, 6) : bench_roll(2, 9);
        outputs = channels * (bench_roll(1, 4) == 1 ? 2 : 1);
    } else if (kind == 2 || (kind == 3 && bench_roll(1, 3) == 1)) {
        groups = bench_roll(2, 4);
        channels = groups * bench_roll(1, 6);
        outputs = groups * bench_roll(1, 6);
    } else if (bench_roll(1, 2) == 1) { /* the sizes that libraries like */
        channels = 8 * bench_roll(1, 4);
        outputs = 8 * bench_roll(1, 4);
    }
    bool square = bench_roll(1, 3) > 1;
    for (int s = 0; s < spatial; s++) {
        bool same = square && s > 0;
        conv.kernel[s] = same ? conv.kernel[0] : bench_roll(1, 5);
        conv.stride[s] = same ? conv.stride[0] : bench_roll(1, 2);
        conv.dilation[s] = same ? conv.dilation[0] : bench_roll(1, 5) == 1 && kind != 3 ? 2 : 1;
        int64_t extent = (conv.kernel[s] - 1) * conv.dilation[s] + 1;
        conv.pad_before[s] = bench_roll(0, extent / 2);
        conv.pad_after[s] = bench_roll(0, extent / 2);
        int64_t in = bench_roll(extent, extent + 9);
        x.dims[1 + s] = in;
        y.dims[1 + s] = (in + conv.pad_before[s] + conv.pad_after[s] - extent) / conv.stride[s] + 1;
        if (kind == 3) {
            int64_t full = (in - 1) * conv.stride[s] + extent;
            y.dims[1 + s] = full - conv.pad_before[s] - conv.pad_after[s];
            if (y.dims[1 + s] < 1) {
                conv.pad_before[s] = conv.pad_after[s] = 0;
                y.dims[1 + s] = full;
            }
        }
        w.dims[s] = conv.kernel[s];
    }
    x.dims[spatial + 1] = channels;
    y.dims[spatial + 1] = outputs;
    w.dims[spatial] = kind == 3 ? outputs : channels / groups;
    w.dims[spatial + 1] = kind == 3 ? channels / groups : outputs;
    conv.groups = groups;
    conv.weights = bench_constant(b, w, 0.5f);
    conv.bias = bench_roll(1, 4) > 1 ? bench_constant(b, D(outputs), 0.5f) : NULL;
    int input = bench_input(b, x), extra = -1;
    if (bench_roll(1, 2) ==
        1) { /* a shortcut that dies here, and so lends its memory to the result */
        int second = bench_input(b, y);
        struct op *copy = bench_op(b, OP_UNARY, second, y);
        copy->unary = (struct op_unary){UNARY_NEGATIVE, 0, 0};
        extra = copy->outputs[0];
    }
    struct op *op = bench_op(b, OP_CONV, input, y);
    op->conv = conv;
    random_posts(b, op, extra);
    bench_output(b, op->outputs[0]);
    char name[200];
    snprintf(name, sizeof name,
             "conv %dd kind %d, batch %lld, %lld -> %lld, kernel %lld, stride %lld, posts %zu",
             spatial, kind, (long long)batch, (long long)channels, (long long)outputs,
             (long long)conv.kernel[0], (long long)conv.stride[0], op->post_count);
    check(b, name);
}

static void test_conv(void)
{
    for (int i = 0; i < cases(60); i++) {
        conv_case(2, 0);
    }
}

static void test_conv_depthwise(void)
{
    for (int i = 0; i < cases(60); i++) {
        conv_case(2, 1);
    }
}

static void test_conv_grouped(void)
{
    for (int i = 0; i < cases(20); i++) {
        conv_case(2, 2);
    }
}

static void test_conv_transposed(void)
{
    for (int i = 0; i < cases(25); i++) {
        conv_case(2, 3);
        conv_case(1, 3);
    }
}

static void test_conv_1d_3d(void)
{
    for (int i = 0; i < cases(12); i++) {
        conv_case(1, 0);
        conv_case(1, 1);
        conv_case(3, 0);
    }
}

/* Real sizes, where engines other than those of toy shapes are chosen. */
static void test_conv_real(void)
{
    static const int64_t rows[][7] = {
        /* batch, in, channels, outputs, kernel, stride, sum */
        {2, 224, 3, 64, 7, 2, 0},  {4, 56, 64, 64, 1, 1, 0},   {4, 56, 64, 64, 3, 1, 0},
        {4, 56, 64, 256, 1, 1, 1}, {4, 56, 256, 128, 1, 2, 0}, {2, 14, 256, 256, 3, 1, 1},
        {2, 7, 512, 512, 3, 1, 0}, {32, 28, 1, 32, 3, 1, 0},   {2, 112, 32, 16, 1, 1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int64_t *r = rows[i];
        int64_t pad = (r[4] - 1) / 2, out = (r[1] + 2 * pad - r[4]) / r[5] + 1;
        struct bench *b = bench_new(r[0]);
        int input = bench_input(b, D(r[0], r[1], r[1], r[2])), extra = -1;
        if (r[6]) {
            struct op *copy = bench_op(b, OP_UNARY, bench_input(b, D(r[0], out, out, r[3])),
                                       D(r[0], out, out, r[3]));
            copy->unary = (struct op_unary){UNARY_NEGATIVE, 0, 0};
            extra = copy->outputs[0];
        }
        struct op *op = bench_op(b, OP_CONV, input, D(r[0], out, out, r[3]));
        op->conv = (struct op_conv){.spatial = 2,
                                    .kernel = {r[4], r[4]},
                                    .stride = {r[5], r[5]},
                                    .dilation = {1, 1},
                                    .pad_before = {pad, pad},
                                    .pad_after = {pad, pad},
                                    .groups = 1,
                                    .weights = bench_constant(b, D(r[4], r[4], r[2], r[3]), 0.1f),
                                    .bias = bench_constant(b, D(r[3]), 0.5f)};
        if (extra >= 0) {
            bench_post_binary(op, BINARY_ADD, extra);
        }
        bench_post_unary(op, UNARY_RELU, 0, 0);
        bench_output(b, op->outputs[0]);
        char name[64];
        snprintf(name, sizeof name, "row %zu", i);
        check(b, name);
    }
}

static void test_matmul(void)
{
    static const int64_t rows[][3] = {
        {1, 100, 10}, {32, 784, 128}, {7, 33, 5}, {1, 1, 1}, {256, 512, 1000}};
    for (int i = 0; i < cases(40); i++) {
        int64_t n = i < 5 ? rows[i][0] : bench_roll(1, 40),
                c = i < 5 ? rows[i][1] : bench_roll(1, 70);
        int64_t k = i < 5 ? rows[i][2] : bench_roll(1, 70),
                more = i % 3 == 2 ? bench_roll(2, 5) : 1;
        struct bench *b = bench_new(n);
        struct shape x = more > 1 ? D(n, more, c) : D(n, c), y = more > 1 ? D(n, more, k) : D(n, k);
        int input = bench_input(b, x), extra = -1;
        if (bench_roll(1, 2) == 1) {
            struct op *copy = bench_op(b, OP_UNARY, bench_input(b, y), y);
            copy->unary = (struct op_unary){UNARY_NEGATIVE, 0, 0};
            extra = copy->outputs[0];
        }
        struct op *op = bench_op(b, OP_MATMUL, input, y);
        op->matmul.weights = bench_constant(b, D(c, k), 0.3f);
        op->matmul.bias = bench_roll(1, 3) > 1 ? bench_constant(b, D(k), 0.5f) : NULL;
        random_posts(b, op, extra);
        bench_output(b, op->outputs[0]);
        char name[96];
        snprintf(name, sizeof name, "dense %lld x %lld x %lld -> %lld, posts %zu", (long long)n,
                 (long long)more, (long long)c, (long long)k, op->post_count);
        check(b, name);
    }
    for (int i = 0; i < 6; i++) { /* batched: two inputs */
        int64_t n = bench_roll(1, 5), m = bench_roll(1, 9), c = bench_roll(1, 9),
                k = bench_roll(1, 9);
        struct bench *b = bench_new(n);
        int left = bench_input(b, D(n, I(2), m, c)), right = bench_input(b, D(n, I(2), c, k));
        struct op *op = bench_op(b, OP_MATMUL, left, D(n, I(2), m, k));
        op->inputs[op->input_count++] = right;
        bench_output(b, op->outputs[0]);
        check(b, "batched");
    }
}

static void test_pool(void)
{
    for (int i = 0; i < cases(40); i++) {
        int spatial = i % 4 == 0 ? 1 : i % 4 == 1 ? 3 : 2;
        int64_t batch = bench_roll(1, 4), channels = bench_roll(1, 12);
        struct bench *b = bench_new(batch);
        struct op_pool pool = {.function = i % 2 ? POOL_MAX : POOL_AVERAGE, .spatial = spatial};
        struct shape x = {.rank = spatial + 2, .dims = {batch}}, y = x;
        for (int s = 0; s < spatial; s++) {
            pool.window[s] = bench_roll(1, 4);
            pool.stride[s] = bench_roll(1, 3);
            pool.pad_before[s] = bench_roll(0, pool.window[s] - 1);
            pool.pad_after[s] = bench_roll(0, pool.window[s] - 1);
            x.dims[1 + s] = bench_roll(pool.window[s], 12);
            int64_t room = x.dims[1 + s] + pool.pad_before[s] - pool.window[s];
            y.dims[1 + s] = room / pool.stride[s] + 1; /* only windows that hold a real cell */
        }
        x.dims[spatial + 1] = y.dims[spatial + 1] = channels;
        struct op *op = bench_op(b, OP_POOL, bench_input(b, x), y);
        op->pool = pool;
        bench_output(b, op->outputs[0]);
        check(b, "pool");
    }
}

static void test_unary(void)
{
    for (int f = 0; f < UNARY_FUNCTION_COUNT; f++) {
        bool jumps = f == UNARY_THRESHOLD || f == UNARY_FLOOR || f == UNARY_CEIL ||
                     f == UNARY_ROUND || f == UNARY_TRUNCATE || f == UNARY_SIGN ||
                     f == UNARY_FLOAT8;
        if (in_half() && jumps) {
            continue; /* rounding the operand may change sides */
        }
        struct bench *b = bench_new(3);
        struct shape shape = f % 2 ? D(I(3), I(5), I(7)) : D(I(3), I(8), I(4));
        int input = bench_input(b, shape);
        struct op *before = bench_op(b, OP_UNARY, input, shape);
        bool positive = f == UNARY_LOG || f == UNARY_SQRT || f == UNARY_RSQRT;
        bool inside = f == UNARY_ASIN || f == UNARY_ACOS || f == UNARY_ATANH || f == UNARY_LOG1P ||
                      f == UNARY_TAN;
        before->unary = positive           ? (struct op_unary){UNARY_LINEAR, 0.9f, 1.5f}
                        : inside           ? (struct op_unary){UNARY_LINEAR, 0.9f, 0.0f}
                        : f == UNARY_ACOSH ? (struct op_unary){UNARY_LINEAR, 0.9f, 2.5f}
                                           : (struct op_unary){UNARY_LINEAR, 8.0f, 0.0f};
        struct op *op = bench_op(b, OP_UNARY, before->outputs[0], shape);
        float alpha = f == UNARY_HARD_SIGMOID ? 0.2f : f == UNARY_CLIP ? -1.0f : 0.3f;
        op->unary = (struct op_unary){(enum unary_function)f, alpha,
                                      f == UNARY_RELU   ? 6.0f
                                      : f == UNARY_CLIP ? 2.0f
                                                        : 0.5f};
        bench_output(b, op->outputs[0]);
        check(b, unary_function_name((enum unary_function)f));
    }
}

static void test_binary(void)
{
    for (int i = 0; i < cases(12 * BINARY_FUNCTION_COUNT); i++) {
        struct shape y = D(bench_roll(1, 4), bench_roll(1, 5), bench_roll(1, 5), bench_roll(1, 9)),
                     x = y, other = y;
        enum binary_function function = (enum binary_function)(i % BINARY_FUNCTION_COUNT);
        if (in_half() && function >= BINARY_EQUAL) {
            continue; /* comparisons jump */
        }
        for (int axis = 0; axis < 4; axis++) {
            int side = (int)bench_roll(0, 3);
            x.dims[axis] = side == 1 ? 1 : y.dims[axis];
            other.dims[axis] = side == 2 ? 1 : y.dims[axis];
        }
        struct bench *b = bench_new(y.dims[0]);
        int left = bench_input(b, x);
        bool divides = function == BINARY_DIVIDE || function == BINARY_FLOOR_DIVIDE ||
                       function == BINARY_MODULO;
        if (function == BINARY_POWER || divides) {
            struct op *lift = bench_op(b, OP_UNARY, left, x);
            lift->unary = (struct op_unary){UNARY_LINEAR, 0.5f, 1.5f};
            left = lift->outputs[0];
        }
        struct op *op;
        if (i % 2) {
            struct op *lift = bench_op(b, OP_UNARY, bench_input(b, other), other);
            lift->unary = (struct op_unary){UNARY_LINEAR, 0.5f, 1.5f};
            op = bench_op(b, OP_BINARY, left, y);
            op->inputs[op->input_count++] = lift->outputs[0];
        } else {
            op = bench_op(b, OP_BINARY, left, y);
            op->binary.constant = bench_constant(b, other, 1.0f);
            op->binary.swapped = i % 4 == 0 && function != BINARY_POWER;
            if (!op->binary.swapped && divides) { /* nothing near zero below */
                float *data = (float *)(uintptr_t)op->binary.constant->data;
                for (int64_t j = 0; j < shape_elements(&other); j++) {
                    data[j] = 1.5f + 0.5f * data[j];
                }
            }
        }
        op->binary.function = function;
        random_posts(b, op, -1);
        bench_output(b, op->outputs[0]);
        check(b, binary_function_name(function));
    }
}

static void test_affine(void)
{
    for (int i = 0; i < 8; i++) {
        int64_t channels = i % 2 ? 7 : 16;
        struct shape shape = D(I(3), I(4), I(5), channels);
        struct bench *b = bench_new(3);
        struct op *op = bench_op(b, OP_AFFINE, bench_input(b, shape), shape);
        op->affine.scale =
            i & 2 ? bench_constant(b, D(channels), 2.0f) : bench_constant(b, D(I(1)), 2.0f);
        op->affine.shift = i & 4 ? bench_constant(b, D(channels), 2.0f) : NULL;
        bench_output(b, op->outputs[0]);
        check(b, "affine");
    }
}

static void test_softmax(void)
{
    for (int i = 0; i < cases(16); i++) {
        struct shape shape = i == 0   ? D(I(4), I(5000))
                             : i == 1 ? D(I(1), I(1000))
                                      : D(bench_roll(1, 5), bench_roll(1, 6), bench_roll(1, 40));
        struct bench *b = bench_new(shape.dims[0]);
        struct op *op = bench_op(b, OP_SOFTMAX, bench_input(b, shape), shape);
        op->softmax.axis = i < 2 ? 1 : (int)bench_roll(1, 2);
        op->softmax.log = i % 3 == 0;
        bench_output(b, op->outputs[0]);
        check(b, "softmax");
    }
}

static void test_normalise(void)
{
    for (int i = 0; i < cases(12); i++) {
        struct shape shape =
            i == 0 ? D(I(3), I(4096))
                   /* two values that nearly agree would show their rounding magnified */
                   : D(bench_roll(1, 5), bench_roll(1, 6), bench_roll(in_half() ? 16 : 2, 40));
        struct bench *b = bench_new(shape.dims[0]);
        struct op *op = bench_op(b, OP_NORMALISE, bench_input(b, shape), shape);
        int axis = i == 0 ? 1 : i % 3 == 0 ? 1 : 2;
        struct shape scale = {.rank = shape.rank - axis};
        for (int j = axis; j < shape.rank; j++) {
            scale.dims[j - axis] = shape.dims[j];
        }
        op->normalise.axis = axis;
        op->normalise.epsilon = 1e-3f;
        op->normalise.rms = i % 4 == 3;
        op->normalise.gamma = i % 2 ? NULL : bench_constant(b, scale, 1.0f);
        op->normalise.beta = i % 5 ? bench_constant(b, scale, 1.0f) : NULL;
        bench_output(b, op->outputs[0]);
        check(b, "normalise");
    }
}

static void test_reduce(void)
{
    for (int i = 0; i < cases(40); i++) {
        struct shape x =
            i == 0 ? D(I(2), I(7), I(7), I(1280))
                   : D(bench_roll(1, 4), bench_roll(1, 9), bench_roll(1, 40), bench_roll(1, 9));
        struct shape y = {.rank = 0};
        struct bench *b = bench_new(x.dims[0]);
        struct op_reduce reduce = {.function = (enum reduce_function)(i % 4), .keepdims = i % 2};
        for (int axis = 0; axis < 4; axis++) {
            reduce.axes[axis] = i == 0 ? axis == 1 || axis == 2 : bench_roll(0, 1);
            if (!reduce.axes[axis] || reduce.keepdims) {
                y.dims[y.rank++] = reduce.axes[axis] ? 1 : x.dims[axis];
            }
        }
        struct op *op = bench_op(b, OP_REDUCE, bench_input(b, x), y);
        op->reduce = reduce;
        bench_output(b, op->outputs[0]);
        check(b, "reduce");
    }
}

static void test_moves(void)
{
    for (int i = 0; i < cases(30); i++) {
        struct shape x = D(bench_roll(1, 4), bench_roll(2, 6), bench_roll(2, 6), bench_roll(1, 9)),
                     y = x;
        struct bench *b = bench_new(x.dims[0]);
        int input = bench_input(b, x);
        struct op *op = bench_op(b,
                                 i % 3 == 0   ? OP_PAD
                                 : i % 3 == 1 ? OP_SLICE
                                              : OP_TRANSPOSE,
                                 input, y);
        for (int axis = 0; axis < 4; axis++) {
            if (op->kind == OP_PAD) {
                op->pad.before[axis] = axis > 0 ? bench_roll(0, 2) : 0;
                op->pad.after[axis] = axis > 0 ? bench_roll(0, 2) : 0;
                y.dims[axis] = x.dims[axis] + op->pad.before[axis] + op->pad.after[axis];
            } else if (op->kind == OP_SLICE) {
                bool flip = bench_roll(0, 3) == 0;
                if (!flip && bench_roll(0, 4) == 0) { /* one cell, again and again */
                    op->slice.begin[axis] = bench_roll(0, x.dims[axis] - 1);
                    y.dims[axis] = op->slice.size[axis] = bench_roll(1, 5);
                    continue;
                }
                op->slice.step[axis] = flip ? -1 : bench_roll(1, 2);
                op->slice.begin[axis] = flip ? x.dims[axis] - 1 : bench_roll(0, x.dims[axis] - 1);
                int64_t room = flip ? x.dims[axis] : x.dims[axis] - op->slice.begin[axis];
                int64_t step = flip ? 1 : op->slice.step[axis];
                y.dims[axis] = op->slice.size[axis] = (room + step - 1) / step;
            } else {
                static const int orders[][4] = {
                    {0, 3, 1, 2}, {0, 2, 1, 3}, {3, 2, 1, 0}, {0, 2, 3, 1}};
                op->transpose.permutation[axis] = orders[i / 3 % 4][axis];
                y.dims[axis] = x.dims[op->transpose.permutation[axis]];
            }
        }
        op->pad.value = op->kind == OP_PAD ? 0.5f : op->pad.value;
        b->values[op->outputs[0]].shape = y;
        bench_output(b, op->outputs[0]);
        check(b, op_kind_name(op->kind));
    }
}

/* Chosen by a condition of zeros and ones, with broadcasts, constants and functions behind. */
static void test_select(void)
{
    for (int i = 0; i < cases(24); i++) {
        struct shape y = D(bench_roll(1, 4), bench_roll(1, 5), bench_roll(1, 5),
                           i % 2 ? 8 * bench_roll(1, 2) : bench_roll(1, 9));
        struct shape sides[3] = {y, y, y};
        for (int axis = 0; axis < 4; axis++) {
            int side = (int)bench_roll(0, 5);
            if (side < 3) {
                sides[side].dims[axis] = 1;
            }
        }
        struct bench *b = bench_new(y.dims[0]);
        struct op *condition = bench_op(b, OP_UNARY, bench_input(b, sides[0]), sides[0]);
        condition->unary = (struct op_unary){UNARY_CLIP, 0.0f, 1.0f}; /* half of them are 0 */
        struct op *values[2] = {NULL, NULL};
        for (int j = 0; j < 2; j++) {
            if (i % 4 != j + 1) {
                values[j] = bench_op(b, OP_UNARY, bench_input(b, sides[1 + j]), sides[1 + j]);
                values[j]->unary = (struct op_unary){UNARY_LINEAR, 2.0f, 0.5f};
            }
        }
        struct op *op = bench_op(b, OP_SELECT, condition->outputs[0], y);
        for (int j = 0; j < 2; j++) {
            if (values[j] != NULL) {
                op->inputs[op->input_count++] = values[j]->outputs[0];
            } else if (j == 0) {
                op->select.on_true = bench_constant(b, sides[1], 1.0f);
            } else {
                op->select.on_false = bench_constant(b, sides[2], 1.0f);
            }
        }
        random_posts(b, op, -1);
        bench_output(b, op->outputs[0]);
        check(b, "select");
    }
}

static void test_constant(void)
{
    struct bench *b = bench_new(2);
    struct shape shape = D(I(2), I(3), I(8));
    struct op *op = bench_op(b, OP_CONSTANT, 0, shape);
    op->input_count = 0;
    op->constant.data = bench_constant(b, shape, 1.0f);
    struct op *sum = bench_op(b, OP_BINARY, bench_input(b, shape), shape);
    sum->inputs[sum->input_count++] = op->outputs[0];
    sum->binary.function = BINARY_ADD;
    bench_output(b, sum->outputs[0]);
    check(b, "constant");
}

static void test_concat(void)
{
    for (int i = 0; i < cases(12); i++) {
        int axis = (int)bench_roll(1, 3);
        struct shape shape = D(bench_roll(1, 3), bench_roll(1, 5), bench_roll(1, 5),
                               i % 2 ? 4 * bench_roll(1, 3) : bench_roll(1, 9));
        struct shape y = shape;
        struct bench *b = bench_new(shape.dims[0]);
        int parts[3];
        y.dims[axis] = 0;
        for (int j = 0; j < 3; j++) {
            struct shape part = shape;
            part.dims[axis] = i % 2 ? 4 * bench_roll(1, 3) : bench_roll(1, 5);
            y.dims[axis] += part.dims[axis];
            parts[j] = bench_input(b, part);
        }
        struct op *op = bench_op(b, OP_CONCAT, parts[0], y);
        op->inputs[1] = parts[1];
        op->inputs[2] = parts[2];
        op->input_count = 3;
        op->concat.axis = axis;
        random_posts(b, op, -1);
        bench_output(b, op->outputs[0]);
        check(b, "concat");
    }
}

static void test_resize(void)
{
    for (int i = 0; i < cases(12); i++) {
        struct shape x = D(bench_roll(1, 3), bench_roll(1, 9), bench_roll(1, 9), bench_roll(1, 5)),
                     y = x;
        struct bench *b = bench_new(x.dims[0]);
        y.dims[1] = i < 4 ? 2 * x.dims[1] : bench_roll(1, 20);
        y.dims[2] = i < 4 ? 2 * x.dims[2] : bench_roll(1, 20);
        struct op *op = bench_op(b, OP_RESIZE, bench_input(b, x), y);
        op->resize =
            (struct op_resize){i % 2 ? RESIZE_BILINEAR : RESIZE_NEAREST, y.dims[1], y.dims[2]};
        bench_output(b, op->outputs[0]);
        check(b, "resize");
    }
}

/* Rows by index: constant and computed tables, indices of every type, axes that both share. */
static void test_gather(void)
{
    for (int i = 0; i < cases(36); i++) {
        int64_t batch = bench_roll(1, 4), rows = i % 6 == 0 ? 5000 : bench_roll(1, 40);
        int64_t inner = i % 3 == 0 ? 8 * bench_roll(1, 3) : bench_roll(1, 9);
        struct bench *b = bench_new(batch);
        bool table = i % 2 == 0, common = !table && i % 4 == 1;
        struct shape data = table    ? D(rows, inner)
                            : common ? D(batch, I(3), rows, inner)
                                     : D(batch, rows, inner);
        struct shape ids = common ? D(batch, I(4)) : i % 5 == 4 ? D(I(3), I(2)) : D(batch, I(5));
        struct op_gather gather = {.axis = data.rank - 2, .batch_axes = common ? 1 : 0};
        struct shape y = {.rank = 0};
        for (int d = 0; d < gather.axis; d++) {
            y.dims[y.rank++] = data.dims[d];
        }
        for (int d = gather.batch_axes; d < ids.rank; d++) {
            y.dims[y.rank++] = ids.dims[d];
        }
        y.dims[y.rank++] = inner;
        int first = -1, second = -1;
        if (table) {
            gather.data = bench_constant(b, data, 1.0f);
        } else {
            struct op *copy = bench_op(b, OP_UNARY, bench_input(b, data), data);
            copy->unary = (struct op_unary){UNARY_NEGATIVE, 0, 0};
            first = copy->outputs[0];
        }
        if (i % 5 == 4 && !table) {
            struct constant *constant = (struct constant *)(uintptr_t)bench_constant(b, ids, 1.0f);
            for (int64_t j = 0; j < shape_elements(&ids); j++) {
                ((float *)(uintptr_t)constant->data)[j] = (float)bench_roll(-rows, rows - 1);
            }
            gather.indices = constant;
        } else {
            second = bench_input(b, ids);
            b->table_rows[second] = rows;
            b->values[second].dtype = i % 3 == 1 ? DTYPE_F32 : DTYPE_I32;
            b->values[second].exact = true; /* as graph_lower() says */
        }
        struct op *op = bench_op(b, OP_GATHER, first >= 0 ? first : second, y);
        if (first >= 0 && second >= 0) {
            op->inputs[op->input_count++] = second;
        }
        op->gather = gather;
        random_posts(b, op, -1);
        bench_output(b, op->outputs[0]);
        char name[96];
        snprintf(name, sizeof name, "gather %s%s of %lld rows of %lld", table ? "table" : "value",
                 common ? " shared" : "", (long long)rows, (long long)inner);
        check(b, name);
    }
}

/* An index outside ends the step with an error that names it, and the plan goes on. */
static void test_gather_outside(void)
{
    for (int i = 0; i < 2; i++) {
        struct error error = {0};
        struct bench *b = bench_new(2);
        int ids = bench_input(b, D(I(2), I(3)));
        b->values[ids].dtype = i ? DTYPE_I32 : DTYPE_F32;
        b->values[ids].exact = true;
        struct op *op = bench_op(b, OP_GATHER, ids, D(I(2), I(3), I(4)));
        op->gather.data = bench_constant(b, D(I(7), I(4)), 1.0f);
        bench_output(b, op->outputs[0]);
        struct plan_options options = bench_options;
        struct step_context context = {0};
        options.precision = precision;
        struct plan *plan =
            shared != NULL ? bench_backend->plan_new(shared, &b->graph, &options, &error) : NULL;
        static const double bad[] = {7, -8, 1e9, -1e9};
        for (int run = 0; plan != NULL && run < 8; run++) {
            void *host = bench_backend->plan_input(plan, 0);
            double index = run % 2 ? bad[run / 2] : run / 2 % 2 ? -7 : 6;
            i ? (void)(((int32_t *)host)[4] = (int32_t)index)
              : (void)(((float *)host)[4] = (float)index);
            bool good = bench_backend->plan_run(plan, &context, &error);
            if (good != (run % 2 == 0)) {
                bench_failed("index %g: %s", index, good ? "taken" : error.why);
            } else if (!good && (error.code != ERROR_INPUT ||
                                 strstr(error.why, "outside a table of 7 rows") == NULL)) {
                bench_failed("index %g: %s", index, error.why);
            }
        }
        if (plan == NULL) {
            bench_failed("plan_new: %s", error.why);
        }
        bench_backend->plan_free(plan);
        bench_backend->device_forget(shared);
        bench_free(b);
    }
}

static void test_cumulate(void)
{
    for (int i = 0; i < cases(32); i++) {
        struct shape shape = i == 0   ? D(I(3), I(1000))
                             : i == 1 ? D(I(2), I(300), I(5))
                                      : D(bench_roll(1, 4), bench_roll(1, 40), bench_roll(1, 70));
        struct bench *b = bench_new(shape.dims[0]);
        struct op *before = bench_op(b, OP_UNARY, bench_input(b, shape), shape);
        bool product = i % 4 == 3; /* of numbers near 1 */
        before->unary = product ? (struct op_unary){UNARY_LINEAR, 0.02f, 1.0f}
                                : (struct op_unary){UNARY_LINEAR, 1.0f, 0.0f};
        struct op *op = bench_op(b, OP_CUMULATE, before->outputs[0], shape);
        op->cumulate = (struct op_cumulate){.axis = i < 2 ? 1 : (int)bench_roll(0, 2),
                                            .product = product,
                                            .reverse = i / 2 % 2,
                                            .exclusive = i / 4 % 2};
        random_posts(b, op, -1);
        bench_output(b, op->outputs[0]);
        check(b, product ? "running product" : "running sum");
    }
}

/* The largest, the smallest, and where they are; whole numbers, so that many are equal. */
static void test_top(void)
{
    for (int i = 0; i < cases(40); i++) {
        int64_t n = i == 0 ? 5000 : i % 8 == 1 ? bench_roll(257, 600) : bench_roll(1, 70);
        int64_t count = i % 4 == 0 ? 1 : i % 4 == 1 ? n : bench_roll(1, n);
        struct shape x = i % 2 ? D(I(2), bench_roll(1, 3), n) : D(I(3), n), y = x;
        struct bench *b = bench_new(x.dims[0]);
        y.dims[y.rank - 1] = count;
        struct op *scale = bench_op(b, OP_UNARY, bench_input(b, x), x);
        scale->unary = (struct op_unary){UNARY_LINEAR, 20.0f, 0.0f};
        struct op *whole = bench_op(b, OP_UNARY, scale->outputs[0], x);
        whole->unary = (struct op_unary){in_half() ? UNARY_NEGATIVE : UNARY_ROUND, 0, 0};
        struct op *op = bench_op(b, OP_TOP, whole->outputs[0], y);
        op->top = (struct op_top){.count = count, .smallest = i / 2 % 2, .indices = i % 3 != 0};
        bench_output(b, op->outputs[0]);
        if (in_half()) { /* what is rounded differently lies elsewhere: the values alone */
            op->top.indices = false;
        }
        char name[64];
        snprintf(name, sizeof name, "the %lld %s%s of %lld", (long long)count,
                 op->top.smallest ? "smallest" : "largest", op->top.indices ? ", where" : "",
                 (long long)n);
        check(b, name);
    }
}

static void test_recurrent(void)
{
    char name[160];
    for (int i = 0; i < cases(BENCH_RECURRENT_CASES); i++) {
        check(bench_recurrent(i, name, sizeof name), name);
    }
}

static void test_attention(void)
{
    char name[160];
    for (int i = 0; i < cases(BENCH_ATTENTION_CASES); i++) {
        check(bench_attention(i, name, sizeof name), name);
    }
}

static void test_reshape_alias(void)
{
    struct bench *b = bench_new(2);
    int input = bench_input(b, D(I(2), I(3), I(4), I(5)));
    struct op *relu = bench_op(b, OP_UNARY, input, D(I(2), I(3), I(4), I(5)));
    relu->unary = (struct op_unary){UNARY_RELU, 0, 0};
    struct op *flat = bench_op(b, OP_RESHAPE, relu->outputs[0], D(I(2), I(60)));
    b->values[flat->outputs[0]].alias_of = relu->outputs[0];
    struct op *dense = bench_op(b, OP_MATMUL, flat->outputs[0], D(I(2), I(10)));
    dense->matmul.weights = bench_constant(b, D(I(60), I(10)), 0.3f);
    struct op *copy = bench_op(b, OP_RESHAPE, dense->outputs[0], D(I(2), I(5), I(2)));
    bench_output(b, flat->outputs[0]); /* an alias as an output */
    bench_output(b, copy->outputs[0]);
    check(b, "reshape");
}

static void test_integers(void)
{
    for (int i = 0; i < 2; i++) {
        struct bench *b = bench_new(4);
        struct shape shape = D(I(4), I(6), I(6), I(3));
        int input = bench_input(b, shape);
        b->values[input].dtype = i ? DTYPE_I32 : DTYPE_U8;
        struct op *op = bench_op(b, OP_AFFINE, input, shape);
        op->affine.scale = bench_constant(b, D(I(3)), 0.01f);
        op->affine.shift = bench_constant(b, D(I(3)), 1.0f);
        bench_output(b, op->outputs[0]);
        if (i) { /* the integers themselves are an output too */
            bench_output(b, input);
        }
        check(b, i ? "int32" : "uint8");
    }
}

static void test_network(void)
{
    bench_uncaptured = false;
    check(bench_network(8), "network");
    check(bench_network(1), "network");
    if (bench_uncaptured) {
        bench_failed("network: the CUDA graph was refused, see the comments");
    }
}

static void test_tf32(void)
{
    if (in_half()) {
        return;
    }
    struct bench *b = bench_network(8);
    bench_check(shared, b, "tf32", PRECISION_TF32, BENCH_TF32);
    bench_backend->device_forget(shared);
    bench_free(b);
}

static const struct bench_test op_tests[] = {{"conv", test_conv},
                                             {"conv_depthwise", test_conv_depthwise},
                                             {"conv_grouped", test_conv_grouped},
                                             {"conv_transposed", test_conv_transposed},
                                             {"conv_1d_3d", test_conv_1d_3d},
                                             {"conv_real", test_conv_real},
                                             {"matmul", test_matmul},
                                             {"pool", test_pool},
                                             {"unary", test_unary},
                                             {"binary", test_binary},
                                             {"affine", test_affine},
                                             {"softmax", test_softmax},
                                             {"normalise", test_normalise},
                                             {"reduce", test_reduce},
                                             {"moves", test_moves},
                                             {"select", test_select},
                                             {"constant", test_constant},
                                             {"concat", test_concat},
                                             {"resize", test_resize},
                                             {"recurrent", test_recurrent},
                                             {"attention", test_attention},
                                             {"gather", test_gather},
                                             {"gather_outside", test_gather_outside},
                                             {"cumulate", test_cumulate},
                                             {"top", test_top},
                                             {"reshape_alias", test_reshape_alias},
                                             {"integers", test_integers},
                                             {"network", test_network},
                                             {"tf32", test_tf32},
                                             {NULL, NULL}};

/* Run the tests of a list whose names begin with `wanted`; returns how many failed. */
static int run_list(const struct bench_test *list, const char *wanted, bool own_devices)
{
    int failures = 0;
    for (size_t i = 0; list[i].name != NULL; i++) {
        if (strncmp(list[i].name, wanted, strlen(wanted)) != 0) {
            continue;
        }
        bench_why[0] = '\0';
        random_seed(&bench_dice, 1000 + i);
        if (!own_devices && shared == NULL) {
            shared = bench_device(true, 0);
        }
        if (own_devices || shared != NULL) {
            list[i].run();
        }
        failures += bench_why[0] != '\0';
        printf(bench_why[0] != '\0' ? "not ok %s: %s\n" : "ok %s%s\n", list[i].name, bench_why);
        fflush(stdout);
    }
    return failures;
}

int main(int argc, char **argv)
{
    struct error error = {0};
    const char *wanted = argc > 1 ? argv[1] : "";
    bool only_precision = strcmp(wanted, "precision") == 0;
    if (strcmp(wanted, "fp16") == 0 || strcmp(wanted, "bf16") == 0) {
        precision = wanted[0] == 'f' ? PRECISION_FP16 : PRECISION_BF16;
        tolerance = wanted[0] == 'f' ? BENCH_FP16 : BENCH_BF16;
        wanted = argc > 2 ? argv[2] : "";
    }
    bench_backend = backend_cuda(&error);
    if (bench_backend == NULL) {
        printf("Bail out! %s: %s\n", error.what, error.why);
        return 4;
    }
    if (only_precision) {
        return run_list(bench_precision_tests, "", true) > 0;
    }
    int failures = run_list(op_tests, wanted, false);
    if (in_half()) {
        if (shared != NULL) {
            bench_backend->device_close(shared);
        }
        return failures > 0;
    }
    if (shared != NULL) {
        bench_backend->device_close(shared);
    }
    return failures + run_list(bench_memory_tests, wanted, true) > 0;
}
