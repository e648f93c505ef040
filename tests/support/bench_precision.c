/* The CUDA backend's precisions, layouts and measured kernels, on graphs by hand: pictures that are
 * cast, normalised and padded at once; convolutions channels first; and that measuring changes
 * neither answers nor memory, and is remembered. */
#include "support/bench.h"
#include "support/reference.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct {
    enum precision precision;
    double tolerance;
} precisions[] = {{PRECISION_FP32, BENCH_FP32},
                  {PRECISION_TF32, BENCH_TF32},
                  {PRECISION_FP16, BENCH_FP16},
                  {PRECISION_BF16, BENCH_BF16}};
#define PRECISIONS (sizeof precisions / sizeof precisions[0])

/* Run a graph in every precision on a device of its own. */
static void check_all(struct bench *(*make)(void), const char *name)
{
    for (size_t i = 0; i < PRECISIONS && bench_why[0] == '\0'; i++) {
        struct device *device = bench_device(true, 0);
        struct bench *b = make();
        char text[96];
        snprintf(text, sizeof text, "%s, %s", name, precision_name(precisions[i].precision));
        if (device != NULL) {
            bench_check(device, b, text, precisions[i].precision, precisions[i].tolerance);
            bench_backend->device_close(device);
        }
        bench_free(b);
    }
}

static struct op *add_conv(struct bench *b, int x, int64_t channels, struct shape y, int64_t kernel,
                           int64_t stride, int64_t before, int64_t after)
{
    struct op *op = bench_op(b, OP_CONV, x, y);
    op->conv =
        (struct op_conv){.spatial = 2,
                         .kernel = {kernel, kernel},
                         .stride = {stride, stride},
                         .dilation = {1, 1},
                         .pad_before = {before, before},
                         .pad_after = {after, after},
                         .groups = 1,
                         .weights = bench_constant(b, D(kernel, kernel, channels, y.dims[3]), 0.3f),
                         .bias = bench_constant(b, D(y.dims[3]), 0.5f)};
    bench_post_unary(op, UNARY_RELU, 0, 0);
    return op;
}

/* Bytes 0..255 as a network takes them: rescaled, then a convolution of stride 2 with padding behind
 * only. */
static struct bench *make_picture(void)
{
    struct bench *b = bench_new(3);
    struct shape picture = D(I(3), I(32), I(30), I(3));
    int input = bench_input(b, picture);
    b->values[input].dtype = DTYPE_U8;
    struct op *scale = bench_op(b, OP_UNARY, input, picture);
    scale->unary = (struct op_unary){UNARY_LINEAR, 1.0f / 127.5f, -1.0f};
    struct op *conv = add_conv(b, scale->outputs[0], 3, D(I(3), I(16), I(15), I(16)), 3, 2, 0, 1);
    bench_output(b, conv->outputs[0]);
    return b;
}

/* The same by mean and deviation, then a pad of its own in front of the convolution. */
static struct bench *make_padded_picture(void)
{
    struct bench *b = bench_new(2);
    struct shape picture = D(I(2), I(16), I(16), I(3)), wide = D(I(2), I(18), I(18), I(3));
    int input = bench_input(b, picture);
    b->values[input].dtype = DTYPE_U8;
    struct op *scale = bench_op(b, OP_AFFINE, input, picture);
    scale->affine.scale = bench_constant(b, D(I(3)), 0.02f);
    scale->affine.shift = bench_constant(b, D(I(3)), 1.0f);
    struct op *pad = bench_op(b, OP_PAD, scale->outputs[0], wide);
    for (int axis = 1; axis <= 2; axis++) {
        pad->pad.before[axis] = pad->pad.after[axis] = 1;
    }
    struct op *conv = add_conv(b, pad->outputs[0], 3, D(I(2), I(16), I(16), I(24)), 3, 1, 0, 0);
    bench_output(b, conv->outputs[0]);
    return b;
}

/* float32 straight into a convolution: it is filled up on the way in. */
static struct bench *make_float_picture(void)
{
    struct bench *b = bench_new(2);
    int input = bench_input(b, D(I(2), I(20), I(20), I(3)));
    struct op *conv = add_conv(b, input, 3, D(I(2), I(20), I(20), I(32)), 5, 1, 2, 2);
    bench_output(b, conv->outputs[0]);
    return b;
}

/* One that is read twice, once not by a convolution: it must keep its shape. */
static struct bench *make_shared_picture(void)
{
    struct bench *b = bench_new(2);
    struct shape picture = D(I(2), I(12), I(12), I(3));
    int input = bench_input(b, picture);
    struct op *conv = add_conv(b, input, 3, picture, 3, 1, 1, 1);
    struct op *sum = bench_op(b, OP_BINARY, conv->outputs[0], picture);
    sum->inputs[sum->input_count++] = input;
    sum->binary.function = BINARY_ADD;
    bench_output(b, sum->outputs[0]);
    return b;
}

static void test_pictures(void)
{
    check_all(make_picture, "picture");
    check_all(make_padded_picture, "padded picture");
    check_all(make_float_picture, "float picture");
    check_all(make_shared_picture, "shared picture");
}

static struct bench *make_network(void)
{
    return bench_network(8);
}

/* Depthwise, 1x1 and grouped ones beside the network's. */
static struct bench *make_mixed(void)
{
    struct bench *b = bench_new(4);
    struct shape shape = D(I(4), I(14), I(14), I(32));
    int input = bench_input(b, shape);
    struct op *depthwise = add_conv(b, input, 1, shape, 3, 1, 1, 1);
    depthwise->conv.groups = 32;
    struct op *grouped = add_conv(b, depthwise->outputs[0], 8, shape, 3, 1, 1, 1);
    grouped->conv.groups = 4;
    struct op *point =
        add_conv(b, grouped->outputs[0], 32, D(I(4), I(14), I(14), I(24)), 1, 1, 0, 0);
    bench_output(b, point->outputs[0]);
    return b;
}

static void test_layouts(void)
{
    for (int first = 0; first < 2; first++) {
        bench_options.channels_first = first;
        check_all(make_network, first ? "network nchw" : "network nhwc");
        check_all(make_mixed, first ? "mixed nchw" : "mixed nhwc");
        check_all(make_picture, first ? "picture nchw" : "picture nhwc");
    }
    bench_options.channels_first = false;
}

static bool run_and_compare(struct bench *b, struct plan *plan, double **answers, int count,
                            double tolerance, const char *name)
{
    struct step_context context = {0};
    struct error error = {0};
    for (int run = 0; run < count && bench_why[0] == '\0'; run++) {
        if (!bench_backend->plan_run(plan, &context, &error)) {
            bench_failed("%s: plan_run %d: %s: %s", name, run, error.what, error.why);
            break;
        }
        bench_compare(b, plan, answers, tolerance, name, run);
    }
    return bench_why[0] == '\0';
}

/* Measure until there is nothing left; how many pauses that took. */
static int tune_all(struct bench *b, struct plan *plan, double **answers, double tolerance,
                    const char *name)
{
    int pauses = 0;
    time_t end = time(NULL) + 60;
    while (bench_backend->plan_tune(plan, 20000000)) {
        pauses++;
        if (!run_and_compare(b, plan, answers, 1, tolerance, name)) { /* in the middle of it too */
            break;
        }
        if (time(NULL) > end) {
            bench_failed("%s: measuring does not end", name);
            break;
        }
    }
    return pauses;
}

/* Answers stay, memory stays, and a second start (a new device) finds all measured. */
static void check_tuning(enum precision precision, double tolerance)
{
    struct plan_options options = {.precision = precision, .graph = true, .autotune = true};
    int pauses[2] = {0, 0};
    char name[48];
    for (int start = 0; start < 2 && bench_why[0] == '\0'; start++) {
        struct error error = {0};
        struct device *device = bench_device(true, 0);
        struct bench *b = bench_network(8);
        struct plan *plan =
            device != NULL ? bench_backend->plan_new(device, &b->graph, &options, &error) : NULL;
        snprintf(name, sizeof name, "tuning %s, start %d", precision_name(precision), start + 1);
        if (plan == NULL) {
            bench_failed("%s: plan_new: %s: %s", name, error.what, error.why);
        } else {
            struct plan_memory before = {0}, after = {0};
            double **answers = bench_fill(b, plan);
            bench_backend->plan_memory(plan, &before);
            run_and_compare(b, plan, answers, 5, tolerance, name);
            pauses[start] = tune_all(b, plan, answers, tolerance, name);
            run_and_compare(b, plan, answers, 4, tolerance, name);
            bench_backend->plan_memory(plan, &after);
            if (after.workspace_bytes != before.workspace_bytes ||
                after.arena_bytes != before.arena_bytes) {
                bench_failed("%s: measuring changed the plan's memory", name);
            }
            reference_free(&b->graph, answers);
            bench_backend->plan_free(plan);
        }
        if (device != NULL) {
            bench_backend->device_close(device);
        }
        bench_free(b);
    }
    printf("# tuning %s: %d pauses, %d after a restart\n", precision_name(precision), pauses[0],
           pauses[1]);
    if (pauses[0] == 0) {
        bench_failed("tuning %s: nothing was measured", precision_name(precision));
    }
    if (pauses[1] > 0) {
        bench_failed("tuning %s: measured again after a restart, in %d pauses",
                     precision_name(precision), pauses[1]);
    }
}

static void test_tuning(void)
{
    char folder[] = "/tmp/layertop-tune-XXXXXX", command[64];
    if (mkdtemp(folder) == NULL) {
        bench_failed("no folder for the plan cache");
        return;
    }
    setenv("XDG_CACHE_HOME", folder, 1);
    for (size_t i = 0; i < PRECISIONS; i++) {
        check_tuning(precisions[i].precision, precisions[i].tolerance);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) {
        bench_failed("%s stays behind", folder);
    }
}

/* Weights that no half number holds are an error that names the way out, and bf16 holds them. */
static void test_too_large(void)
{
    struct device *device = bench_device(true, 0);
    struct error error = {0};
    struct plan_options options = {.precision = PRECISION_FP16};
    struct bench *b = bench_network(2);
    ((float *)(uintptr_t)b->constants[0]->data)[5] = 1e6f;
    struct plan *plan =
        device != NULL ? bench_backend->plan_new(device, &b->graph, &options, &error) : NULL;
    if (plan != NULL) {
        bench_failed("a weight of 1e6 became fp16");
        bench_backend->plan_free(plan);
    } else if (device != NULL &&
               (error.code != ERROR_UNSUPPORTED || strcmp(error.hint, "set precision bf16") != 0)) {
        bench_failed("a weight of 1e6: %s: %s (%s)", error.what, error.why, error.hint);
    }
    options.precision = PRECISION_BF16;
    plan = device != NULL ? bench_backend->plan_new(device, &b->graph, &options, &error) : NULL;
    if (device != NULL && plan == NULL) {
        bench_failed("bf16 after that: %s: %s", error.what, error.why);
    }
    if (plan != NULL) {
        bench_backend->plan_free(plan);
    }
    if (device != NULL) {
        bench_backend->device_close(device);
    }
    bench_free(b);
}

const struct bench_test bench_precision_tests[] = {{"pictures", test_pictures},
                                                   {"layouts", test_layouts},
                                                   {"too_large", test_too_large},
                                                   {"tuning", test_tuning},
                                                   {NULL, NULL}};
