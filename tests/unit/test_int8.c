/* int8 on the CPU: ranges from histograms; convolutions and products of bytes against the reference
 * over the very numbers that the bytes stand for; what stays bytes between layers; and the session's
 * way from calibration to precision int8. */
#include "engine/backend.h"
#include "engine/calibration.h"
#include "engine/cpu/quantise.h"
#include "engine/session_private.h"
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

/* ---- ranges ---- */

static struct value_range range_of(const float *values, size_t count, enum calibration_method how)
{
    struct magnitudes *m = xcalloc(1, sizeof *m);
    for (size_t i = 0; i < count; i += 100) /* in pieces, so that the histogram widens */
        magnitudes_add(m, values + i, count - i < 100 ? count - i : 100);
    struct value_range range = magnitudes_range(m, how);
    free(m);
    return range;
}

static void minmax_keeps_the_largest_magnitude(void **state)
{
    (void)state;
    float values[1000];
    for (int i = 0; i < 1000; i++)
        values[i] = (float)i - 700;
    struct value_range range = range_of(values, 1000, CALIBRATION_MINMAX);
    assert_true(range.seen && range.least == -700 && range.most == 299 && range.bound == 700);
    float zeros[3] = {0, 0, 0};
    range = range_of(zeros, 3, CALIBRATION_MINMAX);
    assert_true(range.seen && range.bound == 0);
    assert_false(range_of(zeros, 0, CALIBRATION_MINMAX).seen);
    float odd[4] = {NAN, INFINITY, -2, 1};
    range = range_of(odd, 4, CALIBRATION_MINMAX);
    assert_true(range.least == -2 && range.most == 1 && range.bound == 2);
}

/* One of 100000 values is 1000 times as large as the others: percentile and entropy cut it. */
static void the_other_methods_cut_what_is_rare(void **state)
{
    (void)state;
    size_t count = 100000;
    float *values = xmalloc(count * sizeof *values);
    uint64_t random = 5;
    for (size_t i = 0; i < count; i++)
        values[i] = tiny_random(&random);
    values[31] = 1000;
    assert_true(range_of(values, count, CALIBRATION_MINMAX).bound == 1000);
    float percentile = range_of(values, count, CALIBRATION_PERCENTILE).bound;
    assert_true(percentile >= 0.99F && percentile < 2);
    /* the histogram's bins are 1000 / 2048 wide now: entropy cannot tell less than 128 of them */
    float entropy = range_of(values, count, CALIBRATION_ENTROPY).bound;
    assert_true(entropy >= 0.99F && entropy < 100);
    free(values);
}

/* Of evenly spread values nothing is cut. */
static void nothing_is_cut_of_an_even_spread(void **state)
{
    (void)state;
    float values[4096];
    for (int i = 0; i < 4096; i++)
        values[i] = (float)(i + 1) / 4096;
    for (int how = 0; how < CALIBRATION_METHODS; how++) {
        float bound = range_of(values, 4096, (enum calibration_method)how).bound;
        if (!(bound > 0.98F && bound <= 1))
            fail_msg("%s: %g", calibration_method_name((enum calibration_method)how),
                     (double)bound);
    }
}

static void bytes_are_the_nearest_steps(void **state)
{
    (void)state;
    const float x[8] = {0, 0.24F, 0.26F, -0.26F, 63.5F, 1000, -1000, NAN};
    int8_t s[8];
    uint8_t u[8];
    own_quantise(x, s, 8, &(struct value_form){dnnl_s8, 0.5F});
    own_quantise(x, u, 8, &(struct value_form){dnnl_u8, 0.5F});
    const int8_t want_s[8] = {0, 0, 1, -1, 127, 127, -128, -128};
    const uint8_t want_u[8] = {0, 0, 1, 0, 127, 255, 0, 0};
    assert_memory_equal(s, want_s, sizeof s);
    assert_memory_equal(u, want_u, sizeof u);
}

static void each_channel_has_its_step(void **state)
{
    (void)state;
    /* (2, 3) with the channel last; then (3, 2), the channel first */
    const float last[6] = {1, -4, 0, -2, 3, 0}, first[6] = {1, -2, -4, 3, 0, 0};
    float steps[3];
    int8_t q[6];
    own_weight_steps(last, 6, 3, 1, 2, steps);
    assert_true(steps[0] == 1 && steps[1] == 2 && steps[2] == 1);
    own_weight_steps(first, 6, 3, 2, 2, steps);
    assert_true(steps[0] == 1 && steps[1] == 2 && steps[2] == 1);
    own_quantise_weights(last, 6, 3, 1, steps, q);
    const int8_t want[6] = {1, -2, 0, -2, 2, 0}; /* 3 / 2 to even */
    assert_memory_equal(q, want, sizeof q);
}

/* ---- one op, exactly ---- */

static struct device *device;

static void fail_with(const char *text, const struct error *error)
{
    fail_msg("%s\nE%03d %s: %s", text, (int)error->code, error->what, error->why);
}

struct fixture {
    struct model *model;
    struct constant_pool *pool;
    struct graph *unfused, *graph;
    struct value_range *ranges;
    float *inputs[4];
    struct plan *plan;
};

struct watch {
    const struct graph *graph;
    struct magnitudes *values;
};

static void on_value(void *context, int value, const float *data, size_t elements)
{
    struct watch *watch = context;
    magnitudes_add(&watch->values[value], data, elements);
}

static void set_inputs(const struct fixture *f, struct plan *plan)
{
    for (size_t i = 0; i < f->graph->input_count; i++)
        memcpy(backend_cpu.plan_input(plan, i), f->inputs[i],
               (size_t)shape_elements(&f->graph->values[f->graph->inputs[i]].shape) *
                   sizeof(float));
}

static void run(struct plan *plan, const struct step_context *step)
{
    struct error error = {0};
    if (!backend_cpu.plan_run(plan, step, &error))
        fail_with("run", &error);
}

/* Lower, see the ranges of random inputs (`least` to 1) in fp32, and plan in int8. */
static struct fixture make(const char *text, int64_t batch, double least)
{
    struct error error = {0};
    struct fixture f = {.model = tiny_model(text), .pool = constant_pool_new()};
    const struct graph_options plain = {.batch = batch}, fused = {.batch = batch, .fusion = true};
    f.unfused = graph_lower(f.model, &plain, f.pool, &error);
    f.graph = f.unfused ? graph_lower(f.model, &fused, f.pool, &error) : NULL;
    struct plan_options options = {.precision = PRECISION_FP32};
    struct plan *floats = f.graph ? backend_cpu.plan_new(device, f.graph, &options, &error) : NULL;
    if (!floats)
        fail_with(text, &error);
    uint64_t random = 3;
    for (size_t i = 0; i < f.graph->input_count; i++) {
        int64_t count = shape_elements(&f.graph->values[f.graph->inputs[i]].shape);
        f.inputs[i] = xmalloc((size_t)count * sizeof(float));
        for (int64_t j = 0; j < count; j++) {
            double unit = ((double)tiny_random(&random) + 1) / 2;
            f.inputs[i][j] = (float)(least + (1 - least) * unit);
        }
    }
    struct watch watch = {f.graph, xcalloc(f.graph->value_count, sizeof *watch.values)};
    const struct step_context step = {.value = on_value, .context = &watch};
    set_inputs(&f, floats);
    run(floats, &step);
    backend_cpu.plan_free(floats);
    f.ranges = xcalloc(f.graph->value_count, sizeof *f.ranges);
    for (size_t i = 0; i < f.graph->value_count; i++)
        f.ranges[i] = magnitudes_range(&watch.values[i], CALIBRATION_MINMAX);
    free(watch.values);
    options = (struct plan_options){
        .precision = PRECISION_INT8, .ranges = f.ranges, .range_count = f.graph->value_count};
    f.plan = backend_cpu.plan_new(device, f.graph, &options, &error);
    if (!f.plan)
        fail_with(text, &error);
    set_inputs(&f, f.plan);
    return f;
}

static void drop(struct fixture *f)
{
    backend_cpu.plan_free(f->plan);
    for (size_t i = 0; i < f->graph->input_count; i++)
        free(f->inputs[i]);
    graph_free(f->graph);
    graph_free(f->unfused);
    backend_cpu.device_forget(device);
    constant_pool_free(f->pool);
    model_free(f->model);
    free(f->ranges);
}

/* How the ops of layer `name` compute. */
static const char *precision_of(const struct fixture *f, const char *name)
{
    const char *found = "none";
    for (size_t i = 0; i < f->graph->op_count; i++) {
        const char *precision = backend_cpu.plan_precisions(f->plan)[i];
        if (precision && strcmp(f->model->layers[f->graph->ops[i].layer].name, name) == 0)
            found = precision;
    }
    return found;
}

/* The numbers that bytes stand for. */
static void round_values(float *values, int64_t count, float step)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = rintf(values[i] / step) * step;
}

static double apart(const struct fixture *f, double **answers, double *most)
{
    const float *got = backend_cpu.plan_output(f->plan, 0);
    const double *want = answers[f->unfused->outputs[0]];
    int64_t count = shape_elements(&f->graph->values[f->graph->outputs[0]].shape);
    double difference = 0;
    *most = 1e-6;
    for (int64_t i = 0; i < count; i++) {
        *most = fmax(*most, fabs(want[i]));
        difference = fmax(difference, isnan((double)got[i]) ? (double)INFINITY
                                                            : fabs((double)got[i] - want[i]));
    }
    return difference;
}

/* A network of one op with weights: with the input and the weights rounded to the numbers that their
 * bytes stand for, it is the reference up to float32's own rounding. */
static void check_exactly(const char *text, int64_t batch, double least)
{
    struct fixture f = make(text, batch, least);
    const struct op *op = &f.unfused->ops[0];
    const struct constant *weights = op->kind == OP_CONV ? op->conv.weights : op->matmul.weights;
    int64_t count = shape_elements(&weights->shape);
    int64_t channels = weights->shape.dims[weights->shape.rank - 1];
    const struct step_context step = {.step = 1};
    run(f.plan, &step);
    run(f.plan, &step); /* the input is still there */
    if (strcmp(precision_of(&f, "y"), "int8") != 0) {
        print_message("fp32 here: %s\n", text);
        assert_false(dnn_has_vnni());
    } else {
        float *steps = xmalloc((size_t)channels * sizeof *steps);
        float *data = (float *)(uintptr_t)weights->data;
        float bound = f.ranges[f.graph->inputs[0]].bound;
        own_weight_steps(data, count, channels, 1, dnn_has_vnni() ? 127 : 63, steps);
        for (int64_t i = 0; i < count; i++)
            round_values(data + i, 1, steps[i % channels]);
        round_values(f.inputs[0], shape_elements(&f.graph->values[f.graph->inputs[0]].shape),
                     bound / (least < 0 ? 127 : 255));
        free(steps);
    }
    double most, **answers = reference_run(f.unfused, (const float *const *)f.inputs);
    double difference = apart(&f, answers, &most);
    if (!(difference <= 2e-5 * most))
        fail_msg("%s\noff by %g of %g", text, difference, most);
    reference_free(f.unfused, answers);
    drop(&f);
}

static void one_op_is_exact_in_its_steps(void **state)
{
    (void)state;
    static const char *const models[] = {
        "x = Input 17\ny = Dense(x) {'units': 9} kernel 17,9 bias 9\nout y\n",
        "x = Input 64\ny = Dense(x) {'units': 40, 'use_bias': false} kernel 64,40\nout y\n",
        "x = Input 70,32\ny = Dense(x) {'units': 24, 'activation': 'relu'} kernel 32,24 bias 24\n"
        "out y\n",
        "x = Input 9,8,5\ny = Conv2D(x) {'filters': 12, 'kernel_size': 3} kernel 3,3,5,12 bias 12\n"
        "out y\n",
        "x = Input 9,8,16\ny = Conv2D(x) {'filters': 32, 'kernel_size': 3, 'strides': 2, "
        "'padding': "
        "'same', 'activation': 'relu'} kernel 3,3,16,32 bias 32\nout y\n",
        "x = Input 7,7,64\ny = Conv2D(x) {'filters': 48, 'kernel_size': 1, 'activation': "
        "'sigmoid'} "
        "kernel 1,1,64,48 bias 48\nout y\n",
        "x = Input 10,10,32\ny = Conv2D(x) {'filters': 16, 'kernel_size': 3, 'dilation_rate': 2} "
        "kernel 3,3,32,16 bias 16\nout y\n",
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        check_exactly(models[i], 1, 0);
        if (dnn_has_vnni()) /* else oneDNN halves the weights of signed inputs */
            check_exactly(models[i], 3, -1);
    }
}

/* ---- chains ---- */

#define CHAIN_TOLERANCE 6e-2 /* root mean squares: a few roundings to 127 or 255 steps */

static double mean_error(const struct fixture *f, double **answers)
{
    const float *got = backend_cpu.plan_output(f->plan, 0);
    const double *want = answers[f->unfused->outputs[0]];
    int64_t count = shape_elements(&f->graph->values[f->graph->outputs[0]].shape);
    double difference = 0, whole = 1e-12;
    for (int64_t i = 0; i < count; i++) {
        difference += pow((double)got[i] - want[i], 2);
        whole += pow(want[i], 2);
    }
    return sqrt(difference / whole);
}

static void check_chain(const char *text, int64_t batch, double least, const char *const *bytes)
{
    struct fixture f = make(text, batch, least);
    const struct step_context step = {.step = 1};
    run(f.plan, &step);
    run(f.plan, &step);
    for (; dnn_has_vnni() && *bytes; bytes++) {
        if (strcmp(precision_of(&f, *bytes), "int8") != 0)
            fail_msg("%s\n%s is %s", text, *bytes, precision_of(&f, *bytes));
    }
    double **answers = reference_run(f.unfused, (const float *const *)f.inputs);
    double difference = mean_error(&f, answers);
    if (!(difference <= (dnn_has_vnni() ? CHAIN_TOLERANCE : 4 * CHAIN_TOLERANCE)))
        fail_msg("%s\noff by %g", text, difference);
    reference_free(f.unfused, answers);
    drop(&f);
}

/* Convolutions with shortcuts, pooling, padding, concatenation, all in bytes in between. */
static const char RESIDUAL[] =
    "x = Input 12,12,8\n"
    "a = Conv2D(x) {'filters': 16, 'kernel_size': 3, 'padding': 'same', 'activation': 'relu'} "
    "kernel 3,3,8,16 bias 16\n"
    "p = MaxPooling2D(a) {'pool_size': 2}\n"
    "b = Conv2D(p) {'filters': 16, 'kernel_size': 3, 'padding': 'same'} kernel 3,3,16,16 bias 16\n"
    "s = Add(b, p)\n"
    "r = ReLU(s) {'max_value': 6.0}\n"
    "c = Conv2D(r) {'filters': 16, 'kernel_size': 1, 'activation': 'relu'} kernel 1,1,16,16 bias "
    "16\n"
    "d = Concatenate(r, c) {'axis': -1}\n"
    "e = Conv2D(d) {'filters': 8, 'kernel_size': 1, 'activation': 'silu'} kernel 1,1,32,8 bias 8\n"
    "g = Conv2D(e) {'filters': 8, 'kernel_size': 3} kernel 3,3,8,8 bias 8\n"
    "f = Flatten(g)\n"
    "y = Dense(f) {'units': 10} kernel 128,10 bias 10\n"
    "out y\n";

/* A shortcut that is read again afterwards lies elsewhere than the sum. */
static const char LONG_SHORTCUT[] =
    "x = Input 8,8,16\n"
    "a = Conv2D(x) {'filters': 16, 'kernel_size': 1, 'activation': 'relu'} kernel 1,1,16,16 bias "
    "16\n"
    "b = Conv2D(a) {'filters': 16, 'kernel_size': 3, 'padding': 'same'} kernel 3,3,16,16 bias 16\n"
    "s = Add(b, a)\n"
    "c = Conv2D(s) {'filters': 16, 'kernel_size': 3, 'padding': 'same'} kernel 3,3,16,16 bias 16\n"
    "t = Add(c, a)\n"
    "y = Conv2D(t) {'filters': 4, 'kernel_size': 1} kernel 1,1,16,4 bias 4\n"
    "out y\n";

/* Values that float32 ops read stay float32. */
static const char MIXED[] =
    "x = Input 8,8,16\n"
    "a = Conv2D(x) {'filters': 16, 'kernel_size': 3} kernel 3,3,16,16 bias 16\n"
    "n = LayerNormalization(a) {} gamma 16 beta 16\n"
    "b = Conv2D(n) {'filters': 16, 'kernel_size': 1} kernel 1,1,16,16 bias 16\n"
    "m = Multiply(b, a)\n"
    "g = GlobalAveragePooling2D(m)\n"
    "h = Dense(g) {'units': 12, 'activation': 'softmax'} kernel 16,12 bias 12\n"
    "y = Dense(h) {'units': 5} kernel 12,5 bias 5\n"
    "out y\n";

static void chains_stay_in_bytes(void **state)
{
    (void)state;
    static const char *const residual[] = {"a", "p", "b", "c", "d", "e", "g", "y", NULL};
    static const char *const shortcut[] = {"a", "b", "c", "y", NULL};
    static const char *const mixed[] = {"a", "b", "y", NULL};
    check_chain(RESIDUAL, 1, -1, residual);
    check_chain(RESIDUAL, 5, 0, residual);
    check_chain(LONG_SHORTCUT, 3, -1, shortcut);
    check_chain(MIXED, 4, -1, mixed);
}

/* Bytes take less room, and a forecast knows it. */
static void the_arena_is_smaller(void **state)
{
    (void)state;
    struct error error = {0};
    struct fixture f = make(RESIDUAL, 16, -1);
    struct plan_memory bytes, floats, told;
    struct plan_options options = {.precision = PRECISION_FP32};
    struct plan *plain = backend_cpu.plan_new(device, f.graph, &options, &error);
    backend_cpu.plan_memory(f.plan, &bytes);
    backend_cpu.plan_memory(plain, &floats);
    if (dnn_has_vnni())
        assert_true(bytes.arena_bytes < floats.arena_bytes / 2);
    options = (struct plan_options){
        .precision = PRECISION_INT8, .ranges = f.ranges, .range_count = f.graph->value_count};
    assert_true(backend_cpu.plan_forecast(device, f.graph, &options, &told, &error));
    assert_int_equal(told.arena_bytes, bytes.arena_bytes);
    backend_cpu.plan_free(plain);
    /* ranges of another graph are no ranges */
    options.range_count--;
    assert_null(backend_cpu.plan_new(device, f.graph, &options, &error));
    assert_int_equal(error.code, ERROR_VALUE);
    drop(&f);
}

/* ---- the session ---- */

static void on_progress(void *context, uint64_t request, double fraction, const char *text)
{
    (void)context, (void)request, (void)fraction, (void)text;
}

static void on_plan(void *context, const json_t *plan)
{
    json_t **kept = context;
    json_decref(*kept);
    *kept = json_incref((json_t *)(uintptr_t)plan);
}

static json_t *plan_now;
static struct error last;

static json_t *ask(struct session *session, const char *verb, json_t *arguments)
{
    last = (struct error){0};
    json_t *reply = session_execute(session, 1, verb, arguments, &last);
    session_replied(session);
    json_decref(arguments);
    return reply;
}

static void expect(struct session *session, enum error_code code, const char *verb,
                   json_t *arguments)
{
    json_t *reply = ask(session, verb, arguments);
    json_decref(reply);
    if (last.code != code)
        fail_msg("%s: E%03d %s: %s", verb, (int)last.code, last.what, last.why);
}

static json_t *precision(const char *name)
{
    return json_pack("{s:s, s:s}", "key", "precision", "value", name);
}

static void the_session_wants_a_calibration_first(void **state)
{
    (void)state;
    atomic_bool cancel = false;
    struct worker_hooks hooks = {0};
    struct session_ports ports = {&plan_now, on_progress, on_plan, &cancel};
    struct session *session = session_new(&hooks, &ports);
    expect(session, ERROR_NONE, "configure",
           json_pack("{s:{s:[s], s:i}}", "settings", "devices", "cpu", "batch", 8));
    expect(session, ERROR_NO_MODEL, "set", precision("int8"));
    expect(session, ERROR_NO_MODEL, "calibrate", json_object());
    expect(session, ERROR_NONE, "load", json_pack("{s:s}", "path", "demo:mlp60"));
    expect(session, ERROR_VALUE, "set", precision("int8"));
    assert_string_equal(last.hint, "calibrate FILE.npy");
    expect(session, ERROR_INPUT, "calibrate", json_object()); /* no data, and random is not asked */
    assert_non_null(strstr(last.why, "--random"));
    expect(session, ERROR_NONE, "load", json_pack("{s:s}", "path", "demo:digits"));
    expect(session, ERROR_VALUE, "set", precision("int8"));
    assert_string_equal(last.hint, "calibrate");
    expect(session, ERROR_VALUE, "calibrate", json_pack("{s:s}", "method", "guess"));
    expect(session, ERROR_VALUE, "calibrate", json_pack("{s:i}", "rows", 0));
    json_t *reply = ask(session, "calibrate", json_pack("{s:i}", "rows", 50));
    assert_int_equal(json_integer_value(json_object_get(reply, "rows")), 50);
    assert_int_equal(json_integer_value(json_object_get(reply, "rows_in_source")), 128);
    assert_true(json_is_false(json_object_get(reply, "random")));
    json_decref(reply);
    expect(session, ERROR_NONE, "set", precision("int8"));
    assert_string_equal(json_string_value(json_object_get(plan_now, "precision")), "int8");
    expect(session, ERROR_NONE, "run", json_pack("{s:i}", "steps", 2));
    expect(session, ERROR_NONE, "plan", json_pack("{s:i}", "batch", 64));
    expect(session, ERROR_NONE, "proof", json_object());
    expect(session, ERROR_NONE, "set", json_pack("{s:s, s:i}", "key", "batch", "value", 32));
    /* other values than those of the calibration */
    expect(session, ERROR_VALUE, "set", json_pack("{s:s, s:b}", "key", "fusion", "value", 0));
    /* the plan follows new ranges, and another model has none */
    expect(session, ERROR_NONE, "calibrate", json_pack("{s:b}", "random", 1));
    expect(session, ERROR_VALUE, "load", json_pack("{s:s}", "path", "demo:mlp60"));
    expect(session, ERROR_NONE, "run", json_pack("{s:i}", "steps", 1)); /* the old one stays */
    expect(session, ERROR_NONE, "set", precision("fp32"));
    expect(session, ERROR_NONE, "set", json_pack("{s:s, s:b}", "key", "fusion", "value", 0));
    expect(session, ERROR_NONE, "calibrate", json_object());
    expect(session, ERROR_NONE, "set", precision("int8"));
    expect(session, ERROR_NONE, "run", json_pack("{s:i}", "steps", 1));
    session_free(session);
    json_decref(plan_now);
    plan_now = NULL;
}

static int open_device(void **state)
{
    (void)state;
    const struct device_options options = {.threads = 2};
    device = backend_cpu.device_open(&options, NULL, NULL);
    return device ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    backend_cpu.device_close(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minmax_keeps_the_largest_magnitude),
        cmocka_unit_test(the_other_methods_cut_what_is_rare),
        cmocka_unit_test(nothing_is_cut_of_an_even_spread),
        cmocka_unit_test(bytes_are_the_nearest_steps),
        cmocka_unit_test(each_channel_has_its_step),
        cmocka_unit_test(one_op_is_exact_in_its_steps),
        cmocka_unit_test(chains_stay_in_bytes),
        cmocka_unit_test(the_arena_is_smaller),
        cmocka_unit_test(the_session_wants_a_calibration_first),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
