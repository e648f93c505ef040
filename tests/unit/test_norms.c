/* Normalisations whose arithmetic is easily taken for another, in numbers worked out here. */
#include "engine/graph/graph.h"
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

#define BATCH 2

/* The model's answer to x, into y[count]; frees the model. */
static void answer(struct model *model, const float *x, double *y, size_t count)
{
    struct error error = {0};
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options options = {.batch = BATCH};
    struct graph *graph = graph_lower(model, &options, pool, &error);
    if (!graph)
        fail_msg("%s: %s", error.what, error.why);
    double **values = reference_run(graph, &x);
    assert_int_equal(shape_elements(&graph->values[graph->outputs[0]].shape), count);
    memcpy(y, values[graph->outputs[0]], count * sizeof *y);
    reference_free(graph, values);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

/* Keras subtracts no mean then, although it divides by the deviation from it. */
static void rms_scaling_divides_by_the_deviation(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {
        "x = Input 4\ny = LayerNormalization(x) {'rms_scaling': true, 'epsilon': 0.5} gamma 4\n"
        "out y\n",
        "x = Input 4\ny = ops.LayerNorm(x) {'rms_scaling': true, 'epsilon': 0.5}\nout y\n",
    };
    static const float x[] = {1, 2, 3, 6, 0, 0, 0, 4};
    static const double variance[BATCH] = {3.5, 3};
    for (int op = 0; op < 2; op++) {
        struct model *model = tiny_model(TEXTS[op]);
        float gamma[4] = {1, 1, 1, 1};
        double y[8];
        if (op == 0)
            memcpy(gamma, model->layers[1].weights[0].data, sizeof gamma);
        answer(model, x, y, 8);
        for (int i = 0; i < 8; i++)
            assert_true(fabs(y[i] - (double)x[i] / sqrt(variance[i / 4] + 0.5) *
                                        (double)gamma[i % 4]) < 1e-6);
    }
}

/* Over several axes gamma has an element for each of their places, wherever the axes are. */
static void rms_scaling_over_several_axes(void **state)
{
    (void)state;
    struct model *model = tiny_model("x = Input 2,2,2\ny = LayerNormalization(x) {'axis': [1, 3], "
                                     "'rms_scaling': true, 'epsilon': 0} gamma 2,2\nout y\n");
    static const float x[] = {1, 5, 2, 6, 3, 7, 4, 8, 1, 5, 2, 6, 3, 7, 4, 8};
    float gamma[4];
    double y[16];
    memcpy(gamma, model->layers[1].weights[0].data, sizeof gamma);
    answer(model, x, y, 16);
    for (int i = 0; i < 16; i++) { /* 1 5 3 7 and 2 6 4 8 have a variance of 5 */
        double g = (double)gamma[i / 4 % 2 * 2 + i % 2];
        assert_true(fabs(y[i] - (double)x[i] / sqrt(5) * g) < 1e-6);
    }
}

static const float PICTURES[BATCH * 8] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 8, 2, 7, 3, 6, 4};

static void statistics_of_the_file_over_several_axes(void **state)
{
    (void)state;
    struct model *model = tiny_model("x = Input 2,2,2\ny = Normalization(x) {'axis': [1, 3]} "
                                     "mean 2,2 variance 2,2 count scalar\nout y\n");
    float mean[4], variance[4];
    double y[16];
    memcpy(mean, model->layers[1].weights[0].data, sizeof mean);
    memcpy(variance, model->layers[1].weights[1].data, sizeof variance);
    answer(model, PICTURES, y, 16);
    for (int i = 0; i < 16; i++) {
        int place = i / 4 % 2 * 2 + i % 2;
        double expected =
            ((double)PICTURES[i] - (double)mean[place]) / sqrt((double)variance[place]);
        assert_true(fabs(y[i] - expected) < 1e-5 * fmax(fabs(expected), 1));
    }
}

/* Written out, they may have axes of 1 where others are, and leave out the first of those kept. */
static void statistics_written_out_over_several_axes(void **state)
{
    (void)state;
    struct model *model = tiny_model(
        "x = Input 2,2,2\ny = Normalization(x) {'axis': [1, 3], 'mean': [[[1, 2]], [[3, 4]]], "
        "'variance': [4, 16]}\nout y\n");
    static const double mean[] = {1, 2, 3, 4}, variance[] = {4, 16};
    double y[16];
    answer(model, PICTURES, y, 16);
    for (int i = 0; i < 16; i++) {
        double expected =
            ((double)PICTURES[i] - mean[i / 4 % 2 * 2 + i % 2]) / sqrt(variance[i % 2]);
        assert_true(fabs(y[i] - expected) < 1e-6);
    }
}

static void statistics_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const char *const WRONG[] = {"[1, 2, 3]", "[[1, 2, 3, 4], [1]]", "['a', 1]", "[]"};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "x = Input 2,2,2\ny = Normalization(x) {'axis': [1, 3], 'mean': %s, 'variance': "
                 "1}\nout y\n",
                 WRONG[i]);
        struct error error = {0};
        struct model *model = tiny_model(text);
        struct constant_pool *pool = constant_pool_new();
        const struct graph_options options = {.batch = BATCH};
        assert_null(graph_lower(model, &options, pool, &error));
        assert_non_null(strstr(error.why, "'mean'"));
        constant_pool_free(pool);
        model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_scaling_divides_by_the_deviation),
        cmocka_unit_test(rms_scaling_over_several_axes),
        cmocka_unit_test(statistics_of_the_file_over_several_axes),
        cmocka_unit_test(statistics_written_out_over_several_axes),
        cmocka_unit_test(statistics_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
