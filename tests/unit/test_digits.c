/* The demo model against Keras: every layer of both files, fused and not, within 1e-5 of the float64
 * answers, and the pictures read as what they are. */
#include "engine/backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER    "share/layertop/demo/digits/"
#define REFERENCE "tests/data/digits/reference.h5"
#define TOLERANCE 1e-5

/* A dataset as doubles, NULL if there is none of that name. Caller frees. */
static double *read_dataset(const char *name, size_t *count)
{
    hid_t file = H5Fopen(REFERENCE, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    double *values = NULL;
    if (set >= 0) {
        hid_t space = H5Dget_space(set);
        *count = (size_t)H5Sget_simple_extent_npoints(space);
        H5Sclose(space);
        values = calloc(*count, sizeof *values);
        assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
        H5Dclose(set);
    }
    H5Fclose(file);
    return values;
}

/* The model's outputs for the first `batch` reference pictures; the caller frees. */
static float *outputs(const struct model *model, bool fusion, int64_t batch, size_t *count)
{
    struct error error = {0};
    struct constant_pool *pool = constant_pool_new();
    struct graph_options options = {.batch = batch, .fusion = fusion};
    struct graph *graph = graph_lower(model, &options, pool, &error);
    if (graph == NULL)
        fail_msg("%s: %s", error.what, error.why);
    struct device_options device_options = {.threads = 1};
    struct device *device = backend_cpu.device_open(&device_options, NULL, &error);
    assert_non_null(device);
    struct plan_options plan_options = {.precision = PRECISION_FP32};
    struct plan *plan = backend_cpu.plan_new(device, graph, &plan_options, &error);
    if (plan == NULL)
        fail_msg("%s: %s", error.what, error.why);
    size_t given = 0;
    double *x = read_dataset("x", &given);
    float *in = backend_cpu.plan_input(plan, 0);
    for (int64_t i = 0; i < batch * 28 * 28; i++)
        in[i] = (float)x[i];
    free(x);
    struct step_context step = {.observer = NULL};
    if (!backend_cpu.plan_run(plan, &step, &error))
        fail_msg("%s: %s", error.what, error.why);
    const struct graph_value *value = &graph->values[graph->outputs[0]];
    *count = (size_t)shape_elements(&value->shape);
    float *out = malloc(*count * sizeof *out);
    memcpy(out, backend_cpu.plan_output(plan, 0), *count * sizeof *out);
    backend_cpu.plan_free(plan);
    backend_cpu.device_close(device);
    graph_free(graph);
    constant_pool_free(pool);
    return out;
}

/* max|y - y64| / max|y64| */
static double relative_error(const float *y, const double *y64, size_t count)
{
    double worst = 0, scale = 1e-6;
    for (size_t i = 0; i < count; i++) {
        worst = fmax(worst, isfinite(y[i]) ? fabs((double)y[i] - y64[i]) : INFINITY);
        scale = fmax(scale, fabs(y64[i]));
    }
    return worst / scale;
}

static struct model *load(const char *path)
{
    struct error error = {0};
    struct model_options options = {.unconfined = true};
    struct model *model = model_load(path, &options, &error);
    if (model == NULL)
        fail_msg("%s: %s", error.what, error.why);
    return model;
}

static void check(const char *path)
{
    struct model *model = load(path);
    size_t count, expected, compared = 0;
    double *y64 = read_dataset("y64", &expected);
    for (int fusion = 0; fusion < 2; fusion++) {
        float *y = outputs(model, fusion, 16, &count);
        assert_int_equal(count, expected);
        double error = relative_error(y, y64, count);
        if (error > TOLERANCE)
            fail_msg("%s: error %.3g", path, error);
        free(y);
    }
    free(y64);
    /* the softmax of a sure classifier hides errors: end the model at each of its layers */
    for (size_t i = 0; i < model->node_count; i++) {
        char name[200];
        snprintf(name, sizeof name, "layers/%s", model->layers[model->nodes[i].layer].name);
        double *layer64 = read_dataset(name, &expected);
        if (layer64 == NULL || model->nodes[i].input_count == 0) {
            free(layer64);
            continue;
        }
        model->outputs[0].tensor = (struct model_ref){(int)i, 0};
        for (int fusion = 0; fusion < 2; fusion++) {
            float *y = outputs(model, fusion, 1, &count);
            assert_int_equal(count, expected);
            double error = relative_error(y, layer64, count);
            if (error > TOLERANCE)
                fail_msg("%s, layer %s: error %.3g", path, name + 7, error);
            free(y);
        }
        free(layer64);
        compared++;
    }
    assert_int_equal(compared, 22); /* all but the input */
    model_free(model);
}

static void every_layer_of_the_h5_file(void **state)
{
    (void)state;
    check(FOLDER "digits.h5");
}

static void every_layer_of_the_keras_file(void **state)
{
    (void)state;
    check(FOLDER "digits.keras");
}

/* `predict PICTURE`: the digit is the most likely class. */
static void expect_digit(const char *picture, int digit)
{
    const char *program = getenv("LAYERTOP_BIN");
    char command[512], *line = NULL;
    size_t capacity = 0;
    snprintf(command, sizeof command,
             "timeout 60 %s demo:digits --json -c 'devices cpu; predict %s' 2>/dev/null </dev/null",
             program != NULL ? program : "build/layertop", picture);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    json_t *last = NULL;
    while (getline(&line, &capacity, pipe) > 0) {
        json_decref(last);
        last = json_loads(line, 0, NULL);
    }
    free(line);
    assert_int_equal(pclose(pipe), 0);
    json_t *predictions = json_object_get(json_object_get(last, "data"), "predictions");
    json_t *first = json_array_get(json_object_get(json_array_get(predictions, 0), "top"), 0);
    char digits[16];
    snprintf(digits, sizeof digits, "%d", digit);
    if (json_integer_value(json_object_get(first, "class")) != digit)
        fail_msg("%s was not read as %d", picture, digit);
    assert_string_equal(json_string_value(json_object_get(first, "label")), digits);
    json_decref(last);
}

static void pictures_are_read(void **state)
{
    (void)state;
    for (int digit = 0; digit < 10; digit++) {
        char picture[128];
        snprintf(picture, sizeof picture, FOLDER "digit-%d.png", digit);
        expect_digit(picture, digit);
    }
    /* large, black on white, drawn by hand */
    expect_digit("tests/data/digits/drawn-3.png", 3);
    expect_digit("tests/data/digits/drawn-7.png", 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_of_the_h5_file),
        cmocka_unit_test(every_layer_of_the_keras_file),
        cmocka_unit_test(pictures_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
