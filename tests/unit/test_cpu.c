/* The CPU backend against the plain reference, op by op, fused and unfused. */
#include "engine/backend.h"
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

#define TOLERANCE      1e-5
#define TOLERANCE_BF16 4e-2 /* 8 bits of mantissa, through a few layers */

static float *random_input(const struct shape *shape, uint64_t *state, double scale)
{
    int64_t count = shape_elements(shape);
    float *data = xmalloc((size_t)(count + 1) * sizeof *data);
    for (int64_t i = 0; i < count; i++)
        data[i] = (float)(scale * (double)tiny_random(state));
    return data;
}

static void fail_with(const char *text, const struct error *error)
{
    fail_msg("%s\nE%03d %s: %s", text, (int)error->code, error->what, error->why);
}

/* Run a model on the CPU and compare every output with the reference over the unfused graph. */
static void check_at(const char *text, int64_t batch, bool fusion, double scale,
                     enum precision precision, double tolerance)
{
    struct error error = {0};
    struct model *model = tiny_model(text);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options plain = {.batch = batch},
                               wanted = {.batch = batch, .fusion = fusion};
    struct graph *unfused = graph_lower(model, &plain, pool, &error);
    struct graph *graph = unfused ? graph_lower(model, &wanted, pool, &error) : NULL;
    if (!graph)
        fail_with(text, &error);

    float *inputs[8];
    uint64_t state = 7;
    for (size_t i = 0; i < graph->input_count; i++)
        inputs[i] = random_input(&graph->values[graph->inputs[i]].shape, &state, scale);
    double **expected = reference_run(unfused, (const float *const *)inputs);

    const struct device_options options = {.threads = 2};
    struct device *device = backend_cpu.device_open(&options, NULL, &error);
    assert_non_null(device);
    const struct plan_options plan_options = {.precision = precision};
    struct plan *plan = backend_cpu.plan_new(device, graph, &plan_options, &error);
    if (!plan)
        fail_with(text, &error);
    for (size_t i = 0; i < graph->input_count; i++)
        memcpy(backend_cpu.plan_input(plan, i), inputs[i],
               (size_t)shape_elements(&graph->values[graph->inputs[i]].shape) * sizeof(float));
    for (uint64_t step = 1; step <= 2; step++) { /* inputs survive */
        const struct step_context context = {.step = step};
        if (!backend_cpu.plan_run(plan, &context, &error))
            fail_with(text, &error);
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        const float *got = backend_cpu.plan_output(plan, i);
        const double *want = expected[unfused->outputs[i]];
        int64_t count = shape_elements(&graph->values[graph->outputs[i]].shape);
        double most = 1e-6, apart = 0;
        for (int64_t j = 0; j < count; j++) {
            most = fmax(most, fabs(want[j]));
            apart = fmax(apart,
                         isnan((double)got[j]) ? (double)INFINITY : fabs((double)got[j] - want[j]));
        }
        if (!(apart <= tolerance * most)) {
            char *graph_text = graph_to_text(graph);
            fail_msg("%s\nbatch %d, fusion %d: %g away of %g\n%s", text, (int)batch, fusion, apart,
                     most, graph_text);
        }
    }
    backend_cpu.plan_free(plan);
    backend_cpu.device_close(device);
    reference_free(unfused, expected);
    for (size_t i = 0; i < graph->input_count; i++)
        free(inputs[i]);
    graph_free(graph);
    graph_free(unfused);
    constant_pool_free(pool);
    model_free(model);
}

static void check(const char *text, int64_t batch, bool fusion, double scale)
{
    check_at(text, batch, fusion, scale, PRECISION_FP32, TOLERANCE);
}

/* Set by the tests of bf16: everything that check_all() sees runs in bf16 too. */
static bool also_bf16;

static void check_all(const char *text)
{
    if (also_bf16) {
        check_at(text, 3, true, 1, PRECISION_BF16, TOLERANCE_BF16);
        check_at(text, 3, false, 1, PRECISION_BF16, TOLERANCE_BF16);
        return;
    }
    check(text, 1, true, 2);
    check(text, 3, true, 2);
    check(text, 3, false, 2);
}

/* ---- convolution ---- */

/* A convolution of every sort behind an input of `size` cells a side and C channels. */
static void check_conv(int spatial, int size, int channels, int filters, int kernel, int stride,
                       int dilation, int groups, const char *padding)
{
    char text[512], dims[32] = "", cells[32] = "";
    for (int i = 0; i < spatial; i++) {
        snprintf(dims + strlen(dims), sizeof dims - strlen(dims), "%d,", kernel);
        snprintf(cells + strlen(cells), sizeof cells - strlen(cells), "%d,", size + i);
    }
    snprintf(text, sizeof text,
             "x = Input %s%d\n"
             "y = Conv%dD(x) {'filters': %d, 'kernel_size': %d, 'strides': %d, "
             "'dilation_rate': %d, 'groups': %d, 'padding': '%s', 'activation': 'relu'} "
             "kernel %s%d,%d bias %d\nout y\n",
             cells, channels, spatial, filters, kernel, stride, dilation, groups, padding, dims,
             channels / groups, filters, filters);
    check(text, 2, true, 1);
}

static void convolutions_of_every_sort(void **state)
{
    (void)state;
    for (int spatial = 1; spatial <= 3; spatial++) {
        for (int kernel = 1; kernel <= 4; kernel++) {
            for (int stride = 1; stride <= 3; stride++) {
                check_conv(spatial, 7, 4, 6, kernel, stride, 1, 1, "same");
                check_conv(spatial, 7, 4, 6, kernel, stride, 1, 1, "valid");
            }
        }
        check_conv(spatial, 9, 4, 6, 3, 1, 2, 1, "same");
        check_conv(spatial, 9, 4, 6, 3, 1, 2, 1, "valid");
        check_conv(spatial, 7, 4, 6, 3, 2, 1, 2, "same");
        check_conv(spatial, 7, 16, 16, 3, 1, 1, 16, "same");
    }
    check_conv(2, 12, 16, 32, 3, 1, 1, 1, "same");
    check_conv(2, 13, 32, 64, 1, 2, 1, 1, "valid");
    check_conv(2, 11, 3, 17, 5, 2, 1, 1, "same");
    check_conv(1, 11, 3, 5, 3, 1, 2, 1, "causal");
}

static void depthwise_and_separable(void **state)
{
    (void)state;
    check_all("x = Input 8,9,16\n"
              "y = DepthwiseConv2D(x) {'kernel_size': 3, 'strides': 2, 'padding': 'same'} "
              "k 3,3,16,1 b 16\nout y\n");
    check_all("x = Input 8,9,5\n"
              "y = DepthwiseConv2D(x) {'kernel_size': 3, 'depth_multiplier': 3} "
              "k 3,3,5,3 b 15\nout y\n");
    check_all("x = Input 11,6\n"
              "y = DepthwiseConv1D(x) {'kernel_size': 4, 'padding': 'same', 'use_bias': false} "
              "k 4,6,1\nout y\n");
    check_all("x = Input 8,9,6\n"
              "y = SeparableConv2D(x) {'filters': 10, 'depth_multiplier': 2, 'kernel_size': 3, "
              "'padding': 'same', "
              "'activation': 'swish'} d 3,3,6,2 p 1,1,12,10 b 10\nout y\n");
}

static void transposed_convolutions(void **state)
{
    (void)state;
    for (int kernel = 1; kernel <= 4; kernel++) {
        for (int stride = 1; stride <= 3; stride++) {
            for (int same = 0; same <= 1; same++) {
                char text[400];
                snprintf(text, sizeof text,
                         "x = Input 5,6,4\n"
                         "y = Conv2DTranspose(x) {'filters': 7, 'kernel_size': %d, 'strides': %d, "
                         "'padding': '%s'} k %d,%d,7,4 b 7\n"
                         "n = BatchNormalization(y) {} g 7 b 7 m 7 variance 7\n"
                         "out n\n",
                         kernel, stride, same ? "same" : "valid", kernel, kernel);
                check_all(text);
            }
        }
    }
    check_all("x = Input 5,4\n"
              "y = Conv1DTranspose(x) {'filters': 3, 'kernel_size': 3, 'strides': 2, 'padding': "
              "'same', 'output_padding': 1} k 3,3,4 b 3\nout y\n");
}

static void channels_first(void **state)
{
    (void)state;
    check_all("x = Input 3,9,8\n"
              "c = Conv2D(x) {'filters': 8, 'kernel_size': 3, 'padding': 'same', 'data_format': "
              "'channels_first'} k 3,3,3,8 b 8\n"
              "n = BatchNormalization(c) {'axis': 1} g 8 b 8 m 8 variance 8\n"
              "r = ReLU(n)\n"
              "d = Conv2D(r) {'filters': 8, 'kernel_size': 3, 'padding': 'same', 'data_format': "
              "'channels_first'} k 3,3,8,8 b 8\n"
              "a = Add(d, r)\n"
              "p = MaxPooling2D(a) {'data_format': 'channels_first'}\n"
              "f = Flatten(p) {'data_format': 'channels_first'}\n"
              "out f\n");
}

/* ---- dense, pools, norms ---- */

static void dense_layers(void **state)
{
    (void)state;
    check_all("x = Input 33\ny = Dense(x) {'units': 17, 'activation': 'tanh'} k 33,17 b 17\nout y");
    check_all("x = Input 3,5,8\ny = Dense(x) {'units': 4, 'use_bias': false} k 8,4\nout y");
    check_all("x = Input 300\nd = Dense(x) {'units': 200} k 300,200 b 200\n"
              "n = BatchNormalization(d) {'scale': false} b 200 m 200 variance 200\n"
              "y = Softmax(n)\nout y");
    check_all("x = Input 4,6\ny = Input 6,5\nm = ops.Matmul(x, y)\nout m");
}

static void pools(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"MaxPooling", "AveragePooling"};
    for (int kind = 0; kind < 2; kind++) {
        for (int window = 2; window <= 3; window++) {
            for (int same = 0; same <= 1; same++) {
                char text[300];
                snprintf(text, sizeof text,
                         "x = Input 9,7,5\ny = %s2D(x) {'pool_size': %d, 'strides': 2, "
                         "'padding': '%s'}\nout y",
                         KINDS[kind], window, same ? "same" : "valid");
                check_all(text);
                snprintf(text, sizeof text,
                         "x = Input 9,5\ny = %s1D(x) {'pool_size': %d, 'padding': '%s'}\nout y",
                         KINDS[kind], window, same ? "same" : "valid");
                check_all(text);
            }
        }
    }
    check_all("x = Input 4,5,6,3\ny = MaxPooling3D(x) {}\nout y");
    check_all("x = Input 4,5,6,3\ny = AveragePooling3D(x) {'padding': 'same'}\nout y");
    check_all("x = Input 7,5,6\ny = GlobalAveragePooling2D(x)\nz = GlobalMaxPooling2D(x) "
              "{'keepdims': true}\nout y\nout z");
    check_all("x = Input 7,6\ny = GlobalAveragePooling1D(x)\nout y");
    check_all("x = Input 3,7,4,6\ny = GlobalMaxPooling3D(x)\nout y");
    check_all("x = Input 6,7,5\ny = GlobalAveragePooling2D(x) {'data_format': "
              "'channels_first'}\nout y");
}

/* oneDNN takes an addend of one channel for one that is broadcast. */
static void addends_of_one_channel(void **state)
{
    (void)state;
    check_all("x = Input 5,2,6,3\ny = Input 5,2,6,3\n"
              "p = ZeroPadding3D(x) {'padding': 2}\nq = ZeroPadding3D(y) {'padding': 2}\n"
              "a = Conv3D(p) {'filters': 1, 'kernel_size': [1, 3, 2], 'strides': [2, 1, 2], "
              "'padding': 'same', 'activation': 'softplus', 'use_bias': false} kernel 1,3,2,3,1\n"
              "b = Conv3D(q) {'filters': 1, 'kernel_size': [1, 3, 2], 'strides': [2, 1, 2], "
              "'padding': 'same', 'activation': 'softplus', 'use_bias': false} kernel 1,3,2,3,1\n"
              "c = Add(a, b)\nout c");
}

/* One float that all of a picture is added to is off by 4e-6 here. */
static void means_keep_their_digits(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {
        "x = Input 224,224,37\nr = Activation(x) {'activation': 'relu'}\n"
        "y = GlobalAveragePooling2D(r)\nout y",
        "x = Input 4099,16\nr = Activation(x) {'activation': 'relu'}\n"
        "y = ops.Sum(r) {'axis': [1, 2]}\nz = ops.Mean(r) {'axis': 1}\nout y\nout z",
        "x = Input 3,8191\nr = Activation(x) {'activation': 'relu'}\n"
        "y = ops.Mean(r) {'axis': -1, 'keepdims': true}\nz = ops.Max(r) {'axis': 1}\nout y\nout z",
    };
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
        check_at(TEXTS[i], 2, true, 2, PRECISION_FP32, 2e-7);
}

static void norms(void **state)
{
    (void)state;
    check_all("x = Input 6,5,7\ny = BatchNormalization(x) {} g 7 b 7 m 7 variance 7\nout y");
    check_all("x = Input 6,5,7\ny = BatchNormalization(x) {'axis': 2, 'center': false} g 5 m 5 "
              "variance 5\nout y");
    check_all("x = Input 6,32\ny = LayerNormalization(x) {'epsilon': 0.001} g 32 b 32\nout y");
    check_all("x = Input 6,8,5\ny = LayerNormalization(x) {'axis': [1, 2]} g 6,8 b 6,8\nout y");
    check_all("x = Input 6,32\ny = RMSNormalization(x) s 32\nout y");
    check_all("x = Input 6,32\ny = RMSNormalization(x) s 1\nout y"); /* built for one channel */
    check_all("x = Input 6,5,12\ny = GroupNormalization(x) {'groups': 3} g 12 b 12\nout y");
    check_all("x = Input 6,12\ny = UnitNormalization(x)\nout y");
    check_all("x = Input 6,5,3\ny = Normalization(x) {'mean': [1, 2, 3], 'variance': [4, 0.25, "
              "9]}\nz = Normalization(x) {'axis': null} m scalar variance scalar c scalar\n"
              "out y\nout z");
    check_all("x = Input 6,5,3\ny = Rescaling(x) {'scale': [1, 2, 3], 'offset': 1}\n"
              "z = LayerScale(y) g 3\nout z");
}

/* ---- elementwise ---- */

static void activations(void **state)
{
    (void)state;
    static const char *const NAMES[] = {
        "celu",           "elu",         "exponential", "gelu",       "glu",      "hard_shrink",
        "hard_sigmoid",   "hard_silu",   "hard_tanh",   "leaky_relu", "linear",   "log_sigmoid",
        "log_softmax",    "mish",        "relu",        "relu6",      "selu",     "sigmoid",
        "silu",           "soft_shrink", "softmax",     "softplus",   "softsign", "sparse_plus",
        "sparse_sigmoid", "squareplus",  "tanh",        "tanh_shrink"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char text[400];
        snprintf(text, sizeof text, "x = Input 5,16\ny = Activation(x) {'activation': '%s'}\nout y",
                 NAMES[i]);
        check(text, 3, true, 4);
        check(text, 3, false, 4);
        /* behind a convolution and before a residual addition */
        snprintf(text, sizeof text,
                 "x = Input 6,6,8\n"
                 "c = Conv2D(x) {'filters': 8, 'kernel_size': 3, 'padding': 'same', 'activation': "
                 "'%s'} k 3,3,8,8 b 8\na = Add(x, %s)\nr = ReLU(a)\nout r",
                 NAMES[i], strcmp(NAMES[i], "glu") == 0 ? "x" : "c");
        check(text, 2, true, 1);
    }
    check_all("x = Input 5,16\ny = ReLU(x) {'max_value': 1.5, 'negative_slope': 0.25, "
              "'threshold': 0.5}\nout y");
    check_all("x = Input 5,16\ny = ReLU(x) {'max_value': 1, 'negative_slope': 0.1}\n"
              "z = LeakyReLU(x)\nw = ELU(x) {'alpha': 0.5}\nout y\nout z\nout w");
    check_all("x = Input 5,4,6\ny = PReLU(x) {'shared_axes': [1]} a 1,4,6\nout y");
    /* what is left of a logarithm near 1 is small, and of one class nothing */
    for (int fusion = 0; fusion < 2; fusion++) {
        check("x = Input 5,1\ny = Activation(x) {'activation': 'log_softmax'}\nout y", 3, fusion,
              9);
        check("x = Input 5,16\na = ops.Maximum(x, 1.0)\ny = ops.Log(a)\nout y", 3, fusion, 1);
        check("x = Input 5,16\na = ops.Maximum(x, 1.0009765625)\ny = ops.Log(a)\nout y", 3, fusion,
              1);
    }
    check_all("x = Input 5,4,6\ny = Softmax(x) {'axis': 1}\nz = Softmax(x) {'axis': [1, 2]}\n"
              "out y\nout z");
}

static void merges(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"Add",     "Subtract", "Multiply",
                                        "Average", "Maximum",  "Minimum"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char text[300];
        snprintf(text, sizeof text, "x = Input 6,5,8\ny = Input 6,5,8\nz = %s(x, y)\nout z",
                 NAMES[i]);
        check_all(text);
        snprintf(text, sizeof text, "x = Input 6,5,8\ny = Input 1,1,8\nz = %s(x, y)\nout z",
                 NAMES[i]);
        check_all(text);
        snprintf(text, sizeof text, "x = Input 6,5,8\ny = Input 8\nz = %s(y, x)\nout z", NAMES[i]);
        check_all(text);
    }
    check_all("x = Input 6,1,8\ny = Input 1,5,1\nz = Multiply(x, y)\nout z");
    check_all("x = Input 6,5,8\ny = Input 6,5,3\nz = Concatenate(x, y, x)\nout z");
    check_all("x = Input 6,5,8\ny = Input 2,5,8\nz = Concatenate(x, y) {'axis': 1}\nout z");
    check_all("x = Input 6,8\ny = Input 5,8\nz = Dot(x, y) {'axes': [2, 2], 'normalize': true}\n"
              "out z");
    check_all("x = Input 6,8\ny = ops.Power(x, 2)\nz = ops.Subtract(1, y)\np = ops.Add(y, 1)\n"
              "w = ops.Divide(2, p)\nv = ops.Maximum(w, 0.5)\nout z\nout v");
    check_all("x = Input 4,3\ny = ops.Multiply(x, [1, 2, 3])\nz = ops.Subtract([[1], [2], [3], "
              "[4]], y)\nout z");
}

/* ---- moving ---- */

static void moves(void **state)
{
    (void)state;
    check_all("x = Input 5,6,3\ny = ZeroPadding2D(x) {'padding': [[1, 2], [0, 3]]}\nz = "
              "Cropping2D(y) {'cropping': [[1, 1], [0, 2]]}\nout y\nout z");
    check_all("x = Input 5,6\ny = ZeroPadding1D(x) {'padding': [1, 2]}\nz = Cropping1D(y)\nout z");
    check_all("x = Input 5,6,3\ny = UpSampling2D(x) {'size': [2, 3]}\nz = UpSampling2D(x) "
              "{'interpolation': 'bilinear'}\nout y\nout z");
    check_all("x = Input 8,7,3\ny = Resizing(x) {'height': 5, 'width': 11}\nz = Resizing(x) "
              "{'height': 3, 'width': 20, 'interpolation': 'nearest'}\nout y\nout z");
    check_all("x = Input 5,3\ny = UpSampling1D(x) {'size': 3}\nout y");
    check_all("x = Input 2,3,4,3\ny = UpSampling3D(x) {'size': [1, 2, 3]}\nout y");
    check_all("x = Input 5\ny = RepeatVector(x) {'n': 4}\nout y");
    check_all("x = Input 4,5,6\ny = Permute(x) {'dims': [3, 1, 2]}\nz = Reshape(y) "
              "{'target_shape': [-1, 10]}\nf = Flatten(z)\nout y\nout z\nout f");
    check_all("x = Input 6,8\ny = ops.GetItem(x, [{'class_name': '__slice__', 'config': {}}, "
              "{'class_name': '__slice__', 'config': {'start': -1, 'stop': null, 'step': -2}}, "
              "{'class_name': '__slice__', 'config': {'start': 1, 'stop': 7, 'step': 3}}])\nout y");
    check_all("x = Input 6,8\ny = ops.Mean(x, 1)\nz = ops.Max(x, [1, 2])\nw = ops.Std(x, -1)\n"
              "out y\nout z\nout w");
}

/* ---- whole blocks ---- */

static const char RESIDUAL[] =
    "x = Input 12,12,8\n"
    "p = ZeroPadding2D(x) {'padding': 1}\n"
    "c1 = Conv2D(p) {'filters': 8, 'kernel_size': 3} k 3,3,8,8 b 8\n"
    "n1 = BatchNormalization(c1) {} g 8 b 8 m 8 variance 8\n"
    "r1 = Activation(n1) {'activation': 'relu'}\n"
    "c2 = Conv2D(r1) {'filters': 8, 'kernel_size': 3, 'padding': 'same'} k 3,3,8,8 b 8\n"
    "n2 = BatchNormalization(c2) {} g 8 b 8 m 8 variance 8\n"
    "s = Conv2D(x) {'filters': 8, 'kernel_size': 1} k 1,1,8,8 b 8\n"
    "a = Add(s, n2)\n"
    "r2 = Activation(a) {'activation': 'relu'}\n"
    "q = ZeroPadding2D(r2) {'padding': [[1, 1], [1, 1]]}\n"
    "m = MaxPooling2D(q) {'pool_size': 3, 'strides': 2}\n"
    "g = GlobalAveragePooling2D(m)\n"
    "d = Dense(g) {'units': 10, 'activation': 'softmax'} k 8,10 b 10\n"
    "out d\n";

static void constants_and_broadcasts(void **state)
{
    (void)state;
    check_all("x = Input 3,4\ny = ops.Matmul([[1, -2, 0.5], [0, 3, 1]], x)\nout y\n");
    check_all("x = Input 3,4\ny = ops.Einsum([[1, -2, 3]], x) {'subscripts': 'ab,nbc->nac'}\n"
              "z = ops.Relu(y)\nout z\n");
}

/* From 64 rows on oneDNN convolves. */
static void products_of_many_rows(void **state)
{
    (void)state;
    check_all("x = Input 40,33\ny = Dense(x) {'units': 17, 'activation': 'relu'} k 33,17 b 17\n"
              "z = Dense(y) {'units': 33, 'use_bias': false} k 17,33\na = Add(z, x)\n"
              "r = ReLU(a)\ns = Dense(r) {'units': 1} k 33,1 b 1\nout r\nout s\n");
}

/* Weights that take long to read: our own kernel's, with AVX-512. */
static void layers_with_heavy_weights(void **state)
{
    (void)state;
    static const char text[] =
        "x = Input 8,8,128\n"
        "c = Conv2D(x) {'filters': 128, 'kernel_size': 3, 'padding': 'same', 'activation': 'gelu'} "
        "k 3,3,128,128 b 128\n"
        "p = Conv2D(c) {'filters': 128, 'kernel_size': 3, 'padding': 'same'} k 3,3,128,128 b 128\n"
        "a = Add(p, x)\nr = ReLU(a)\n"
        "d = Dense(r) {'units': 500, 'activation': 'silu'} k 128,500 b 500\n"
        "s = Conv2D(d) {'filters': 130, 'kernel_size': 1, 'strides': 2, 'use_bias': false} "
        "k 1,1,500,130\nout r\nout s\n";
    check(text, 1, true, 1);
    check(text, 3, false, 1);
}

/* Long sequences cross the blocks of queries (64) and of keys (512). */
static void attention_of_every_sort(void **state)
{
    (void)state;
    static const char *const OPTIONS[] = {"", ", use_causal_mask=true", ", attention_mask=m",
                                          ", attention_mask=m, use_causal_mask=true"};
    static const char *const CONFIGS[] = {"", ", 'sliding_window': 3", ", 'sliding_window': 40"};
    char text[1024];
    /* rounded to bf16, a comparison may turn out otherwise: no masks made from one */
    for (int option = 0; option < (also_bf16 ? 2 : 4); option++) {
        for (int config = 0; config < 3; config++) {
            snprintf(text, sizeof text,
                     "a = Input 70,5\nb = Input 600,5\nw = Input 70,600\n"
                     "m = ops.GreaterEqual(w, 0.9)\n"
                     "y = GroupedQueryAttention(a, b%s) {'head_dim': 3, 'num_query_heads': 4, "
                     "'num_key_value_heads': 2%s} q 5,4,3 qb 4,3 k 5,2,3 kb 2,3 v 5,2,3 vb 2,3 "
                     "o 4,3,5 ob 5\nout y\n",
                     OPTIONS[option], CONFIGS[config]);
            check_all(text);
        }
    }
    check_all("q = Input 9,2,4\nk = Input 11,2,4\nv = Input 11,2,3\nb = Input 2,9,11\n"
              "y = ops.DotProductAttention(q, k, v, b, null, 0.7) {'attn_logits_soft_cap': 1.5}\n"
              "out y\n");
    /* more queries than keys, some too far from any */
    check_all("a = Input 20,5\nb = Input 6,5\n"
              "y = MultiHeadAttention(a, b) {'num_heads': 2, 'key_dim': 3, 'sliding_window': 2} "
              "q 5,2,3 qb 2,3 k 5,2,3 kb 2,3 v 5,2,3 vb 2,3 o 2,3,5 ob 5\nout y\n");
}

/* Heads that fill vectors, panels and blocks and that do not; one block of queries or keys and
 * several; a bias or mask, causal or not. */
static void attention_of_every_size(void **state)
{
    (void)state;
    static const int SIZES[] = {64, 32, 16, 40, 33, 96, 3, 1, 130};
    static const int LENGTHS[][2] = {{1, 1},   {16, 16},  {33, 17},   {70, 64},
                                     {5, 130}, {64, 197}, {150, 600}, {80, 9}};
    static const char *const EXTRAS[] = {"null, null", "w, null", "null, m", "w, m"};
    int turn = 0;
    for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        for (size_t l = 0; l < sizeof LENGTHS / sizeof *LENGTHS; l++, turn++) {
            char text[512];
            int t = LENGTHS[l][0], k = LENGTHS[l][1], heads = 1 + turn % 3;
            snprintf(text, sizeof text,
                     "q = Input %d,%d,%d\nk = Input %d,%d,%d\nv = Input %d,%d,%d\n"
                     "w = Input 1,%d,%d\nm = ops.GreaterEqual(w, 0.5)\n"
                     "y = ops.DotProductAttention(q, k, v, %s, 0.3)%s\nout y\nout w\n",
                     t, 2 * heads, SIZES[s], k, heads, SIZES[s], k, heads, SIZES[(s + 2) % 9], t, k,
                     EXTRAS[turn / 5 % 4], turn % 2 ? " {'is_causal': true}" : "");
            check(text, 1 + turn % 2, true, 2);
        }
    }
}

static void running_sums_and_the_largest(void **state)
{
    (void)state;
    check_all("x = Input 5,7,3\ny = ops.Cumsum(x) {'axis': 2}\nz = ops.Cumprod(y) {'axis': -1}\n"
              "out y\nout z\n");
    check_all("x = Input 5,7\ny = ops.Cumsum(x) {'axis': 1, 'reverse': true, 'exclusive': true}\n"
              "out y\n");
    check_all("x = Input 5,7\ny = ops.Argmax(x) {'axis': 1}\nz = ops.Argmin(x) {'axis': -1, "
              "'keepdims': true}\nt = ops.Sort(x) {'axis': 1}\nout y\nout z\nout t\n");
    check("x = Input 9000\ny = ops.Argsort(x)\nout y\n", 5, true, 1); /* several threads */
}

static void whole_blocks(void **state)
{
    (void)state;
    check_all(RESIDUAL);
    /* squeeze and excite with MobileNetV3's spelled-out hard swish */
    check_all("x = Input 8,8,8\n"
              "c = Conv2D(x) {'filters': 16, 'kernel_size': 1} k 1,1,8,16 b 16\n"
              "h1 = ops.Add(c, 3.0)\nh2 = ReLU(h1) {'max_value': 6}\n"
              "h3 = ops.Multiply(h2, 0.16666666666666666)\nh = Multiply(c, h3)\n"
              "g = GlobalAveragePooling2D(h) {'keepdims': true}\n"
              "s = Conv2D(g) {'filters': 16, 'kernel_size': 1} k 1,1,16,16 b 16\n"
              "s1 = ops.Add(s, 3.0)\ns2 = ReLU(s1) {'max_value': 6}\n"
              "s3 = ops.Multiply(s2, 0.16666666666666666)\n"
              "y = Multiply(h, s3)\nout y");
    /* dense block: concat, then batch norm and relu before the convolution */
    check_all("x = Input 6,6,8\n"
              "n = BatchNormalization(x) {} g 8 b 8 m 8 variance 8\nr = ReLU(n)\n"
              "c = Conv2D(r) {'filters': 4, 'kernel_size': 3, 'padding': 'same'} k 3,3,8,4 b 4\n"
              "j = Concatenate(x, c)\n"
              "n2 = BatchNormalization(j) {} g 12 b 12 m 12 variance 12\nr2 = ReLU(n2)\nout r2");
    /* an Inception-ResNet sum, scaled */
    check_all("x = Input 6,6,8\n"
              "c = Conv2D(x) {'filters': 8, 'kernel_size': 1} k 1,1,8,8 b 8\n"
              "s = CustomScaleLayer(x, c) {'scale': 0.17}\nr = ReLU(s)\nout r");
}

static void no_op_models(void **state)
{
    (void)state;
    check_all("x = Input 6\ny = Dropout(x) {'rate': 0.5}\nout y");
    check_all("x = Input 6\ny = Dropout(x)\nz = ReLU(y)\nout y\nout z");
}

static void batch_statistics_and_mixing(void **state)
{
    (void)state;
    struct error error = {0};
    struct model *model = tiny_model("x = Input 6\ny = BatchNormalization(x) {} g 6 b 6 m 6 "
                                     "variance 6\nout y");
    json_object_set_new(model->nodes[1].kwargs, "training", json_true());
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options options = {.batch = 4, .fusion = true};
    struct graph *graph = graph_lower(model, &options, pool, &error);
    assert_non_null(graph);
    assert_true(graph->mixes_samples);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

/* ---- bf16 ---- */

static void bf16_is_close(void **state)
{
    struct error error = {0};
    const struct device_options options = {.threads = 1};
    struct device *device = backend_cpu.device_open(&options, NULL, &error);
    struct model *model = tiny_model("x = Input 4\ny = ReLU(x)\nout y");
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options graph_options = {.batch = 1};
    struct graph *graph = graph_lower(model, &graph_options, pool, &error);
    struct plan_options plan_options = {.precision = PRECISION_FP16};
    assert_null(backend_cpu.plan_new(device, graph, &plan_options, &error));
    assert_int_equal(error.code, ERROR_UNSUPPORTED);
    assert_string_equal(error.hint, "set precision fp32");
    plan_options.precision = PRECISION_BF16;
    struct plan *plan = backend_cpu.plan_new(device, graph, &plan_options, &error);
    bool supported = plan != NULL;
    if (plan)
        backend_cpu.plan_free(plan);
    else
        assert_int_equal(error.code, ERROR_UNSUPPORTED); /* this processor has none */
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
    backend_cpu.device_close(device);
    if (!supported)
        return;
    also_bf16 = true;
    attention_of_every_sort(state);
    whole_blocks(state);
    no_op_models(state);
    depthwise_and_separable(state);
    dense_layers(state);
    pools(state);
    merges(state);
    moves(state);
    also_bf16 = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_of_every_sort),
        cmocka_unit_test(depthwise_and_separable),
        cmocka_unit_test(transposed_convolutions),
        cmocka_unit_test(channels_first),
        cmocka_unit_test(dense_layers),
        cmocka_unit_test(pools),
        cmocka_unit_test(addends_of_one_channel),
        cmocka_unit_test(means_keep_their_digits),
        cmocka_unit_test(norms),
        cmocka_unit_test(activations),
        cmocka_unit_test(merges),
        cmocka_unit_test(moves),
        cmocka_unit_test(constants_and_broadcasts),
        cmocka_unit_test(attention_of_every_sort),
        cmocka_unit_test(attention_of_every_size),
        cmocka_unit_test(products_of_many_rows),
        cmocka_unit_test(layers_with_heavy_weights),
        cmocka_unit_test(running_sums_and_the_largest),
        cmocka_unit_test(whole_blocks),
        cmocka_unit_test(no_op_models),
        cmocka_unit_test(batch_statistics_and_mixing),
        cmocka_unit_test(bf16_is_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
