/* Our own convolutions and products by weights in float32 against plain loops: sizes that fill parts,
 * panels, tiles and blocks and that do not, for so many threads. */
#include "engine/cpu/own.h"
#include "tests/support/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static float *random_floats(int64_t count)
{
    float *data = test_malloc((size_t)(count + 1) * sizeof *data);
    for (int64_t i = 0; i < count; i++)
        data[i] = bench_float();
    return data;
}

/* One case: axes of the input, the convolution, and what happens to its sums. */
struct subject {
    int64_t samples, size[2], channels, units;
    int64_t kernel, stride, dilation, pad; /* of both axes, the first of which has one tap less */
    enum unary_function function;
    float most;
    bool bias, adds, matmul;
    int threads;
};

static double exactly(const struct subject *s, double x)
{
    switch (s->function) {
    case UNARY_RELU:
        return fmin(fmax(x, 0), (double)s->most);
    case UNARY_SILU:
        return x / (1 + exp(-x));
    case UNARY_SIGMOID:
        return 1 / (1 + exp(-x));
    case UNARY_GELU_ERF:
        return x * erfc(-x / sqrt(2)) / 2;
    case UNARY_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UNARY_HARD_SILU:
        return x * fmin(fmax(x / 6 + 0.5, 0), 1);
    default:
        return x;
    }
}

/* The sum of output `unit` of pixel (n, row, column). */
static double sum_at(const struct subject *s, const struct op_conv *conv, const float *x,
                     const float *weights, const int64_t *pixel, int64_t unit)
{
    double sum = 0;
    for (int64_t tap = 0; tap < conv->kernel[0] * conv->kernel[1]; tap++) {
        int64_t kr = tap / conv->kernel[1], kc = tap % conv->kernel[1];
        int64_t row = pixel[1] * s->stride + kr * s->dilation - s->pad;
        int64_t column = pixel[2] * s->stride + kc * s->dilation - s->pad;
        if (row < 0 || row >= s->size[0] || column < 0 || column >= s->size[1])
            continue;
        const float *from = x + ((pixel[0] * s->size[0] + row) * s->size[1] + column) * s->channels;
        for (int64_t c = 0; c < s->channels; c++)
            sum += (double)from[c] * (double)weights[(tap * s->channels + c) * s->units + unit];
    }
    return sum;
}

static void check(const struct subject *s)
{
    struct op_conv conv = {.spatial = 2,
                           .kernel = {s->kernel > 1 ? s->kernel - 1 : 1, s->kernel},
                           .stride = {s->stride, s->stride},
                           .dilation = {s->dilation, s->dilation},
                           .pad_before = {s->pad, s->pad},
                           .pad_after = {s->pad, s->pad},
                           .groups = 1};
    int64_t to[2];
    for (int i = 0; i < 2; i++)
        to[i] = (s->size[i] + 2 * s->pad - (conv.kernel[i] - 1) * s->dilation - 1) / s->stride + 1;
    int64_t pixels = s->samples * to[0] * to[1], taps = conv.kernel[0] * conv.kernel[1];
    struct constant constant = {.shape = D(conv.kernel[0], conv.kernel[1], s->channels, s->units)};
    conv.weights = &constant;
    struct graph_value values[2] = {
        {.shape = D(s->samples, s->size[0], s->size[1], s->channels)},
        {.shape = D(s->samples, to[0], to[1], s->units)},
    };
    int inputs[] = {0};
    struct op op = {.kind = OP_CONV, .inputs = inputs, .input_count = 1, .outputs = {1}};
    op.conv = conv;
    if (s->matmul) {
        op.kind = OP_MATMUL;
        conv.spatial = 0;
    }
    struct graph graph = {.values = values, .value_count = 2, .ops = &op, .op_count = 1};
    float *x = random_floats(shape_elements(&values[0].shape));
    float *weights = random_floats(taps * s->channels * s->units);
    float *bias = random_floats(s->units), *y = random_floats(pixels * s->units);
    double *want = test_malloc((size_t)(pixels * s->units) * sizeof *want);
    for (int64_t i = 0; i < pixels * s->units; i++) {
        int64_t unit = i % s->units, pixel = i / s->units;
        const int64_t at[3] = {pixel / (to[0] * to[1]), pixel / to[1] % to[0], pixel % to[1]};
        want[i] = sum_at(s, &op.conv, x, weights, at, unit) + (s->bias ? (double)bias[unit] : 0) +
                  (s->adds ? (double)y[i] : 0);
    }
    omp_set_num_threads(s->threads);
    size_t room = own_product.scratch_bytes(&conv, &values[0].shape, &values[1].shape, s->threads);
    int64_t columns = (s->units + 15) / 16 * 16;
    size_t packed_bytes = (size_t)(columns * (1 + taps * s->channels)) * sizeof(float);
    void *scratch = aligned_alloc(64, room), *packed = aligned_alloc(64, packed_bytes);
    own_product.pack(&conv, weights, s->bias ? bias : NULL, packed);
    const void *from[] = {x};
    struct own_call call = {.graph = &graph,
                            .op = &op,
                            .inputs = from,
                            .output = y,
                            .element_bytes = sizeof(float),
                            .scratch = scratch,
                            .packed = packed,
                            .tail = {s->adds ? y : NULL, s->function, s->most}};
    own_product.run(&call);
    double tolerance = 1e-6 * (4 + sqrt((double)(taps * s->channels)));
    for (int64_t i = 0; i < pixels * s->units; i++) {
        double right = exactly(s, want[i]);
        if (!(fabs((double)y[i] - right) <= tolerance * (1 + fabs(want[i]))))
            fail_msg("%lld x %lld x %lld, %lld channels, %lld units, kernel %lld stride %lld "
                     "dilation %lld pad %lld, %s, %d threads: %lld is %g and not %g",
                     (long long)s->samples, (long long)s->size[0], (long long)s->size[1],
                     (long long)s->channels, (long long)s->units, (long long)s->kernel,
                     (long long)s->stride, (long long)s->dilation, (long long)s->pad,
                     unary_function_name(s->function), s->threads, (long long)i, (double)y[i],
                     right);
    }
    free(scratch);
    free(packed);
    test_free(want);
    test_free(y);
    test_free(bias);
    test_free(weights);
    test_free(x);
}

/* Compiled for AVX-512 alone: without, there is nothing to hold against anything. */
static bool supported(void)
{
    if (!own_has_avx512())
        print_message("# no AVX-512 here: oneDNN computes\n");
    return own_has_avx512();
}

static void convolutions_of_every_sort(void **state)
{
    (void)state;
    static const enum unary_function FUNCTIONS[] = {UNARY_IDENTITY, UNARY_RELU,     UNARY_GELU_ERF,
                                                    UNARY_SILU,     UNARY_SIGMOID,  UNARY_GELU_TANH,
                                                    UNARY_RELU,     UNARY_HARD_SILU};
    for (int i = 0; supported() && i < 240; i++) {
        int64_t kernel = bench_roll(1, 3), dilation = bench_roll(1, 2);
        struct subject s = {.samples = bench_roll(1, 3),
                            .size = {bench_roll(5, 12), bench_roll(5, 12)},
                            .channels = 2 * bench_roll(1, i % 8 == 0 ? 220 : 40),
                            .units = bench_roll(1, 150),
                            .kernel = kernel,
                            .stride = bench_roll(1, 3),
                            .dilation = dilation,
                            .pad = bench_roll(0, kernel - 1),
                            .function = FUNCTIONS[i % 8],
                            .most = i % 16 == 1 ? 6 : INFINITY,
                            .bias = i % 3 != 0,
                            .adds = i % 5 < 2,
                            .threads = 1 + i % 5};
        check(&s);
    }
}

static void products_of_every_size(void **state)
{
    (void)state;
    for (int i = 0; supported() && i < 60; i++) {
        struct subject s = {.samples = bench_roll(1, 90),
                            .size = {1, 1},
                            .channels = 2 * bench_roll(1, 300),
                            .units = bench_roll(1, 200),
                            .kernel = 1,
                            .stride = 1,
                            .dilation = 1,
                            .most = INFINITY,
                            .bias = i % 2,
                            .adds = i % 3 == 0,
                            .matmul = true,
                            .threads = 1 + i % 4};
        check(&s);
    }
    /* more pixels than a block has */
    struct subject large = {.samples = 700,
                            .size = {1, 1},
                            .channels = 300,
                            .units = 33,
                            .kernel = 1,
                            .stride = 1,
                            .dilation = 1,
                            .most = INFINITY,
                            .matmul = true,
                            .threads = 1};
    if (supported())
        check(&large);
}

/* What is no number or infinite comes through a rectifier as it does through oneDNN's. */
static void no_number_stays(void **state)
{
    (void)state;
    float x[2] = {NAN, 1}, weights[32], y[16], packed[16 * 3];
    for (int i = 0; i < 32; i++)
        weights[i] = 1;
    struct constant constant = {.shape = D(2, 16)};
    struct op_conv conv = {.groups = 1, .weights = &constant};
    struct graph_value values[2] = {{.shape = D(1, 2)}, {.shape = D(1, 16)}};
    int inputs[] = {0};
    struct op op = {.kind = OP_MATMUL, .inputs = inputs, .input_count = 1, .outputs = {1}};
    struct graph graph = {.values = values, .value_count = 2, .ops = &op, .op_count = 1};
    if (!supported())
        return;
    omp_set_num_threads(1);
    void *scratch =
        aligned_alloc(64, own_product.scratch_bytes(&conv, &values[0].shape, &values[1].shape, 1));
    const void *from[] = {x};
    struct own_call call = {.graph = &graph,
                            .op = &op,
                            .inputs = from,
                            .output = y,
                            .element_bytes = sizeof(float),
                            .scratch = scratch,
                            .packed = packed,
                            .tail = {NULL, UNARY_RELU, INFINITY}};
    own_product.pack(&conv, weights, NULL, packed);
    own_product.run(&call);
    assert_true(isnan(y[0]) && isnan(y[15]));
    x[0] = -INFINITY;
    own_product.run(&call);
    assert_true(y[0] == 0 && y[15] == 0);
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_of_every_sort),
        cmocka_unit_test(products_of_every_size),
        cmocka_unit_test(no_number_stays),
    };
    return cmocka_run_group_tests_name("product", tests, NULL, NULL);
}
