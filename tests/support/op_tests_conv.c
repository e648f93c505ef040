/* Convolutions of every kind, on random geometry and on real sizes. */
#include "support/op_tests.h"
#include <stdio.h>

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
    op_tests_posts(op, extra);
    bench_output(b, op->outputs[0]);
    char name[200];
    snprintf(name, sizeof name,
             "conv %dd kind %d, batch %lld, %lld -> %lld, kernel %lld, stride %lld, posts %zu",
             spatial, kind, (long long)batch, (long long)channels, (long long)outputs,
             (long long)conv.kernel[0], (long long)conv.stride[0], op->post_count);
    op_tests_check(b, name);
}

void op_test_conv(void)
{
    for (int i = 0; i < op_tests_cases(60); i++) {
        conv_case(2, 0);
    }
}

void op_test_conv_depthwise(void)
{
    for (int i = 0; i < op_tests_cases(60); i++) {
        conv_case(2, 1);
    }
}

void op_test_conv_grouped(void)
{
    for (int i = 0; i < op_tests_cases(20); i++) {
        conv_case(2, 2);
    }
}

void op_test_conv_transposed(void)
{
    for (int i = 0; i < op_tests_cases(25); i++) {
        conv_case(2, 3);
        conv_case(1, 3);
    }
}

void op_test_conv_1d_3d(void)
{
    for (int i = 0; i < op_tests_cases(12); i++) {
        conv_case(1, 0);
        conv_case(1, 1);
        conv_case(3, 0);
    }
}

/* Real sizes, where engines other than those of toy shapes are chosen. */
void op_test_conv_real(void)
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
        op_tests_check(b, name);
    }
}
