/* Our own bfloat16 kernels against the plain reference: odd sizes, tails, borders, every function
 * that they finish with. On processors without AVX512_BF16 there is nothing to test, and without
 * AMX the pointwise kernel is oneDNN's. */
#include "engine/backend.h"
#include "engine/cpu/own_bf16.h"
#include "tests/support/reference.h"
#include "tests/support/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Weights and result are rounded to 8 bits of mantissa; the inputs here have no more. */
#define TOLERANCE 2e-2

static struct device *device;

/* Run `text` in bf16 and hold its one output against the reference; `kernel` is what must run the op
 * of layer `y`, NULL: anything. */
static void check(const char *text, int64_t batch, const char *kernel)
{
    struct error error = {0};
    struct model *model = tiny_model(text);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options plain = {.batch = batch}, fused = {.batch = batch, .fusion = true};
    struct graph *unfused = graph_lower(model, &plain, pool, &error);
    struct graph *graph = unfused ? graph_lower(model, &fused, pool, &error) : NULL;
    const struct plan_options options = {.precision = PRECISION_BF16};
    struct plan *plan = graph ? backend_cpu.plan_new(device, graph, &options, &error) : NULL;
    if (!plan)
        fail_msg("%s\nE%03d %s: %s", text, (int)error.code, error.what, error.why);
    for (size_t i = 0; kernel && i < graph->op_count; i++) {
        const char *impl = backend_cpu.plan_impls(plan)[i];
        if (strcmp(model->layers[graph->ops[i].layer].name, "y") == 0 && impl &&
            strcmp(impl, kernel) != 0)
            fail_msg("%s\nis run by %s", text, impl);
    }

    float *inputs[4];
    uint64_t state = 11;
    for (size_t i = 0; i < graph->input_count; i++) {
        int64_t count = shape_elements(&graph->values[graph->inputs[i]].shape);
        inputs[i] = xmalloc((size_t)count * sizeof *inputs[i]);
        for (int64_t j = 0; j < count; j++)
            inputs[i][j] = roundf(64 * tiny_random(&state)) / 32;
        memcpy(backend_cpu.plan_input(plan, i), inputs[i], (size_t)count * sizeof *inputs[i]);
    }
    double **answers = reference_run(unfused, (const float *const *)inputs);
    const struct step_context step = {.step = 1};
    if (!backend_cpu.plan_run(plan, &step, &error) || !backend_cpu.plan_run(plan, &step, &error))
        fail_msg("%s\nE%03d %s: %s", text, (int)error.code, error.what, error.why);
    const float *got = backend_cpu.plan_output(plan, 0);
    const double *want = answers[unfused->outputs[0]];
    int64_t count = shape_elements(&graph->values[graph->outputs[0]].shape);
    double most = 1e-6, apart = 0;
    for (int64_t j = 0; j < count; j++) {
        most = fmax(most, fabs(want[j]));
        apart =
            fmax(apart, isnan((double)got[j]) ? (double)INFINITY : fabs((double)got[j] - want[j]));
    }
    if (!(apart <= TOLERANCE * most))
        fail_msg("%s\noff by %g of %g", text, apart, most);

    for (size_t i = 0; i < graph->input_count; i++)
        free(inputs[i]);
    reference_free(unfused, answers);
    backend_cpu.plan_free(plan);
    graph_free(graph);
    graph_free(unfused);
    backend_cpu.device_forget(device);
    constant_pool_free(pool);
    model_free(model);
}

static bool supported(void)
{
    return own_has_avx512_bf16();
}

static const char *const FUNCTIONS[] = {"linear",  "relu",      "relu6", "swish",
                                        "sigmoid", "hard_silu", "gelu"};
#define FUNCTION_COUNT (sizeof FUNCTIONS / sizeof *FUNCTIONS)

/* ---- depthwise ---- */

static void depthwise_of_every_sort(void **state)
{
    (void)state;
    static const int channels[] = {16, 17, 32, 47, 64, 96, 300};
    static const int widths[] = {3, 7, 8, 13, 16};
    size_t turn = 0;
    for (size_t c = 0; supported() && c < sizeof channels / sizeof *channels; c++) {
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            for (int kernel = 3; kernel <= 7; kernel += 2) {
                for (int stride = 1; stride <= 2; stride++, turn++) {
                    char text[400];
                    int n = channels[c];
                    snprintf(text, sizeof text,
                             "x = Input %d,%d,%d\n"
                             "y = DepthwiseConv2D(x) {'kernel_size': %d, 'strides': %d, 'padding': "
                             "'%s', 'activation': '%s'} k %d,%d,%d,1 b %d\nout y\n",
                             kernel + (int)(turn % 3), widths[w] < kernel ? kernel : widths[w], n,
                             kernel, stride, turn % 4 == 3 ? "valid" : "same",
                             FUNCTIONS[turn % FUNCTION_COUNT], kernel, kernel, n, n);
                    check(text, 1 + (int64_t)(turn % 3), "own");
                }
            }
        }
    }
}

static void depthwise_tails(void **state)
{
    (void)state;
    if (!supported())
        return;
    check("x = Input 6,10,48\n"
          "y = DepthwiseConv2D(x) {'kernel_size': 5, 'padding': 'same', 'use_bias': false} "
          "k 5,5,48,1\n"
          "a = Add(y, x) {}\nr = ReLU(a)\nout r\n",
          2, "own");
    /* not the kernel's: dilated, several results a channel, few channels */
    check("x = Input 9,10,32\n"
          "y = DepthwiseConv2D(x) {'kernel_size': 3, 'dilation_rate': 2} k 3,3,32,1 b 32\nout y\n",
          2, "onednn");
    check("x = Input 9,10,16\n"
          "y = DepthwiseConv2D(x) {'kernel_size': 3, 'depth_multiplier': 2} k 3,3,16,2 b 32\n"
          "out y\n",
          2, "onednn");
}

/* ---- pointwise ---- */

static const char *pointwise_kernel(void)
{
    return own_has_amx_bf16() ? "own" : "onednn";
}

static void pointwise_of_every_sort(void **state)
{
    (void)state;
    static const int channels[] = {16, 20, 24, 32, 40, 80, 112, 144, 240, 320};
    static const int units[] = {1, 15, 16, 17, 32, 33, 48, 70};
    static const int sides[][2] = {{1, 1}, {3, 5}, {4, 4}, {4, 8}, {7, 7}};
    size_t turn = 0;
    for (size_t c = 0; supported() && c < sizeof channels / sizeof *channels; c++) {
        for (size_t u = 0; u < sizeof units / sizeof *units; u++, turn++) {
            const int *side = sides[turn % (sizeof sides / sizeof *sides)];
            char text[400];
            snprintf(text, sizeof text,
                     "x = Input %d,%d,%d\n"
                     "y = Conv2D(x) {'filters': %d, 'kernel_size': 1, 'activation': '%s'} "
                     "kernel 1,1,%d,%d bias %d\nout y\n",
                     side[0], side[1], channels[c], units[u], FUNCTIONS[turn % FUNCTION_COUNT],
                     channels[c], units[u], units[u]);
            check(text, 1 + (int64_t)(turn % 3), pointwise_kernel());
        }
    }
}

static void pointwise_tails(void **state)
{
    (void)state;
    if (!supported())
        return;
    for (int units = 24; units <= 40; units += 8) { /* a shortcut, with and without a function */
        char text[400];
        for (int relu = 0; relu <= 1; relu++) {
            snprintf(text, sizeof text,
                     "x = Input 5,7,%d\n"
                     "e = Conv2D(x) {'filters': 64, 'kernel_size': 1, 'activation': 'relu'} "
                     "kernel 1,1,%d,64 bias 64\n"
                     "y = Conv2D(e) {'filters': %d, 'kernel_size': 1, 'use_bias': false} "
                     "kernel 1,1,64,%d\n"
                     "a = Add(y, x) {}\nr = %s(a)\nout r\n",
                     units, units, units, units, relu ? "ReLU" : "Flatten");
            check(text, 3, pointwise_kernel());
        }
    }
    check("x = Input 40,32\n"
          "y = Conv1D(x) {'filters': 20, 'kernel_size': 1} kernel 1,32,20 bias 20\nout y\n",
          2, pointwise_kernel());
    check("x = Input 5,7,768\n"
          "y = Conv2D(x) {'filters': 700, 'kernel_size': 1, 'strides': 2} "
          "kernel 1,1,768,700 bias 700\n"
          "out y\n",
          3, pointwise_kernel());
    check("x = Input 13,15,640\n" /* weights larger than the cache, several groups of pixels */
          "y = Conv2D(x) {'filters': 820, 'kernel_size': 1} "
          "kernel 1,1,640,820 bias 820\nout y\n",
          7, pointwise_kernel());
    /* not the kernel's: 34 channels have no even divisor near 32; a stride in one axis */
    check("x = Input 5,7,34\n"
          "y = Conv2D(x) {'filters': 8, 'kernel_size': 1} kernel 1,1,34,8 bias 8\nout y\n",
          2, "onednn");
    check("x = Input 9,32\n"
          "y = Conv1D(x) {'filters': 32, 'kernel_size': 1, 'strides': 2} kernel 1,32,32 bias 32\n"
          "out y\n",
          2, "onednn");
}

/* ---- elementwise and pooling ---- */

static void pools_of_every_sort(void **state)
{
    (void)state;
    static const int channels[] = {3, 31, 32, 33, 80};
    for (size_t c = 0; supported() && c < sizeof channels / sizeof *channels; c++) {
        for (int window = 2; window <= 3; window++) {
            for (int same = 0; same <= 1; same++) {
                char text[400];
                snprintf(text, sizeof text,
                         "x = Input 9,8,%d\n"
                         "y = MaxPooling2D(x) {'pool_size': %d, 'strides': %d, 'padding': '%s'}\n"
                         "r = Activation(y) {'activation': 'swish'}\nout r\n",
                         channels[c], window, 1 + window % 2, same ? "same" : "valid");
                check(text, 2, "own");
            }
        }
    }
    if (supported()) /* all below zero: what surrounds the image must not win */
        check("x = Input 5,5,32\nl = Rescaling(x) {'scale': 1.0, 'offset': -4.0}\n"
              "y = MaxPooling2D(l) {'pool_size': 3, 'strides': 2, 'padding': 'same'}\nout y\n",
              2, "own");
}

static void elementwise_of_every_sort(void **state)
{
    (void)state;
    static const char *const merges[] = {"Multiply", "Add", "Subtract", "Maximum", "Minimum"};
    static const char *const shapes[] = {"5,7,%d", "1,1,%d", "5,1,%d", "1,7,%d", "5,7,1", "1,1,1"};
    static const int channels[] = {5, 32, 47, 96};
    size_t turn = 0;
    for (size_t m = 0; supported() && m < sizeof merges / sizeof *merges; m++) {
        for (size_t t = 0; t < sizeof shapes / sizeof *shapes; t++, turn++) {
            char text[400], shape[32];
            int n = channels[turn % (sizeof channels / sizeof *channels)];
            snprintf(shape, sizeof shape, shapes[t], n);
            for (int swapped = 0; swapped <= 1; swapped++) {
                snprintf(text, sizeof text,
                         "x = Input 5,7,%d\ng = Input %s\ny = %s(%s) {}\nout y\n", n, shape,
                         merges[m], swapped ? "g, x" : "x, g");
                check(text, 3, NULL);
            }
        }
    }
}

/* What is left of a convolution of oneDNN's is a pass of ours. */
static void functions_after_onednn(void **state)
{
    (void)state;
    for (size_t i = 0; supported() && i < FUNCTION_COUNT; i++) {
        char text[400];
        snprintf(text, sizeof text,
                 "x = Input 9,11,3\n"
                 "y = Conv2D(x) {'filters': 19, 'kernel_size': 3, 'activation': '%s'} "
                 "kernel 3,3,3,19 bias 19\nout y\n",
                 FUNCTIONS[i]);
        check(text, 3, "onednn");
    }
}

static double exactly(const struct op_unary *unary, double v)
{
    switch (unary->function) {
    case UNARY_SILU:
        return v / (1 + exp(-v));
    case UNARY_SIGMOID:
        return 1 / (1 + exp(-v));
    case UNARY_GELU_ERF:
        return v * 0.5 * erfc(-v * sqrt(0.5));
    case UNARY_GELU_TANH:
        return v * 0.5 * (1 + tanh(sqrt(2 / 3.14159265358979) * (v + 0.044715 * v * v * v)));
    default:
        return v * fmin(fmax(v / 6 + 0.5, 0), 1);
    }
}

/* Every bfloat16 there is: no further from the function than rounding and 2^-11 of it. */
static void functions_are_exact_enough(void **state)
{
    (void)state;
    static const struct op_unary functions[] = {{.function = UNARY_SILU},
                                                {.function = UNARY_SIGMOID},
                                                {.function = UNARY_HARD_SILU},
                                                {.function = UNARY_GELU_ERF},
                                                {.function = UNARY_GELU_TANH}};
    for (size_t f = 0; supported() && f < sizeof functions / sizeof *functions; f++) {
        for (uint32_t first = 0; first < 1 << 16; first += 64) {
            uint16_t x[64], y[64];
            float wide_x[64], wide_y[64];
            for (uint32_t i = 0; i < 64; i++)
                x[i] = (uint16_t)(first + i);
            own_bf16_unary(&functions[f], x, y, 64);
            own_widen_row(x, wide_x, 64);
            own_widen_row(y, wide_y, 64);
            for (int i = 0; i < 64; i++) {
                double v = (double)wide_x[i], want = exactly(&functions[f], v);
                /* gelu: what is left of Phi far out is not worth its digits */
                double least = f < 3 ? 1e-35 : 1e-6;
                if (isfinite(v) && !(fabs((double)wide_y[i] - want) <=
                                     fabs(want) * (1.0 / 256 + 1.0 / 2048) + least))
                    fail_msg("%s(%g) is %g and not %g", unary_function_name(functions[f].function),
                             v, (double)wide_y[i], want);
            }
        }
    }
}

/* Heads that fill tiles and that do not, one block of keys and several, fewer and more keys than a
 * block of queries; the keys of a head are packed once for all its queries. */
static void attention_of_every_sort(void **state)
{
    (void)state;
    static const int sizes[] = {64, 32, 16, 40, 33, 96, 3};
    static const int lengths[][2] = {{1, 1}, {16, 16}, {33, 17}, {70, 64}, {64, 197}, {49, 700}};
    static const char *const options[] = {"", " {'is_causal': true}"};
    size_t turn = 0;
    for (size_t s = 0; supported() && s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++, turn++) {
            char text[512];
            int t = lengths[l][0], k = lengths[l][1], heads = 1 + (int)(turn % 3);
            snprintf(text, sizeof text,
                     "q = Input %d,%d,%d\nk = Input %d,%d,%d\nv = Input %d,%d,%d\n"
                     "y = ops.DotProductAttention(q, k, v)%s\nout y\n",
                     t, 2 * heads, sizes[s], k, heads, sizes[s], k, heads, sizes[(s + 2) % 7],
                     options[turn % 2]);
            check(text, 1 + (int64_t)(turn % 2), NULL);
        }
    }
}

/* Many rows by weights: the pointwise kernel's where the channels suit it. */
static void products_of_every_sort(void **state)
{
    (void)state;
    static const int sizes[][3] = {{64, 32, 17}, {70, 48, 33}, {65, 160, 64}, {197, 320, 1000}};
    for (size_t i = 0; supported() && i < sizeof sizes / sizeof *sizes; i++) {
        char text[400];
        int rows = sizes[i][0], channels = sizes[i][1], units = sizes[i][2];
        for (size_t f = 0; f < FUNCTION_COUNT; f++) {
            snprintf(
                text, sizeof text,
                "x = Input %d,%d\ny = Dense(x) {'units': %d, 'activation': '%s'} k %d,%d b %d\n"
                "out y\n",
                rows, channels, units, FUNCTIONS[f], channels, units, units);
            check(text, 1 + (int64_t)(f % 2), pointwise_kernel());
        }
        snprintf(text, sizeof text,
                 "x = Input %d,%d\nd = Dense(x) {'units': %d} k %d,%d b %d\n"
                 "y = Dense(d) {'units': %d} k %d,%d b %d\na = Add(y, x) {}\nout a\n",
                 rows, channels, units, channels, units, units, channels, units, channels,
                 channels);
        check(text, 2, units % 2 == 0 ? pointwise_kernel() : NULL);
    }
}

static void normalisations(void **state)
{
    (void)state;
    static const int widths[] = {1, 5, 16, 47, 768, 1030, 2500};
    for (size_t i = 0; supported() && i < sizeof widths / sizeof *widths; i++) {
        char text[400];
        int n = widths[i];
        snprintf(text, sizeof text,
                 "x = Input 6,%d\ns = Rescaling(x) {'scale': 1.0, 'offset': 3.0}\n"
                 "y = LayerNormalization(s) {'epsilon': 0.001} g %d b %d\nout y\n",
                 n, n, n);
        check(text, 3, NULL);
        snprintf(text, sizeof text, "x = Input 6,%d\ny = RMSNormalization(x) {} g %d\nout y\n", n,
                 n);
        check(text, 3, "own");
    }
}

/* Functions far out: nothing overflows into NaN, zero stays zero. */
static void functions_saturate(void **state)
{
    (void)state;
    static const char *const names[] = {"swish", "hard_silu", "gelu"};
    for (size_t i = 0; supported() && i < sizeof names / sizeof *names; i++) {
        char text[400];
        snprintf(text, sizeof text,
                 "x = Input 4,8,32\nl = Rescaling(x) {'scale': 200.0}\n"
                 "y = Conv2D(l) {'filters': 32, 'kernel_size': 1, 'activation': '%s'} "
                 "kernel 1,1,32,32 bias 32\nout y\n",
                 names[i]);
        check(text, 2, NULL);
    }
}

static int start(void **state)
{
    (void)state;
    struct error error = {0};
    const struct device_options options = {.threads = 2};
    device = backend_cpu.device_open(&options, NULL, &error);
    return device == NULL;
}

static int end(void **state)
{
    (void)state;
    backend_cpu.device_close(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depthwise_of_every_sort),    cmocka_unit_test(depthwise_tails),
        cmocka_unit_test(pointwise_of_every_sort),    cmocka_unit_test(pointwise_tails),
        cmocka_unit_test(pools_of_every_sort),        cmocka_unit_test(elementwise_of_every_sort),
        cmocka_unit_test(functions_are_exact_enough), cmocka_unit_test(functions_after_onednn),
        cmocka_unit_test(functions_saturate),         cmocka_unit_test(attention_of_every_sort),
        cmocka_unit_test(products_of_every_sort),     cmocka_unit_test(normalisations),
    };
    return cmocka_run_group_tests(tests, start, end);
}
