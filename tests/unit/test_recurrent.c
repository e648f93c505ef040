/* Recurrent layers on the CPU against the reference loops, option by option. */
#include "engine/backend.h"
#include "engine/cpu/dnnl_compat.h"
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

/* A model under test: its text, which may ask for extra keyword arguments of the layer "r". */
struct subject {
    char text[1024];
    const char *kwargs; /* JSON, or NULL; {"tensor": i} counts the inputs of the call */
    int64_t batch;
    enum precision precision;
    int slice;
    int threads;
};

static struct model *model_of(const struct subject *subject)
{
    struct model *model = tiny_model(subject->text);
    for (size_t i = 0; i < model->node_count && subject->kwargs; i++) {
        if (strcmp(model->layers[model->nodes[i].layer].name, "r") != 0)
            continue;
        json_t *kwargs = json_loads(subject->kwargs, 0, NULL);
        assert_non_null(kwargs);
        json_object_update(model->nodes[i].kwargs, kwargs);
        json_decref(kwargs);
        while (json_array_size(model->nodes[i].args) > 1) /* they are keyword arguments now */
            json_array_remove(model->nodes[i].args, 1);
    }
    for (size_t i = 0; i < model->layer_count; i++) { /* large sums would end in chaos */
        const struct model_layer *layer = &model->layers[i];
        for (size_t w = 0; w < layer->weight_count; w++) {
            float *data = (float *)(uintptr_t)layer->weights[w].data;
            int64_t count = shape_elements(&layer->weights[w].shape);
            for (int64_t j = 0; j < count && count > 1000; j++)
                data[j] *= 0.1F;
        }
    }
    for (size_t i = 0; i < model->output_count;
         i++) { /* "out r" asks for output 0, "r" for 1 ... */
        const struct model_port *port = &model->outputs[i];
        for (size_t j = 0; j < i; j++)
            model->outputs[i].tensor.output += model->outputs[j].tensor.node == port->tensor.node;
    }
    return model;
}

static float *random_input(const struct shape *shape, uint64_t *state, bool mask)
{
    int64_t count = shape_elements(shape);
    float *data = xmalloc((size_t)(count + 1) * sizeof *data);
    for (int64_t i = 0; i < count; i++) {
        float value = tiny_random(state);
        data[i] = mask ? (float)(value > -0.3F) : value;
    }
    return data;
}

/* Inputs of rank 2 with the name "m" are masks. */
static void check(const struct subject *subject)
{
    double tolerance = subject->precision == PRECISION_BF16 ? 5e-2 : 1e-5;
    struct error error = {0};
    struct model *model = model_of(subject);
    struct constant_pool *pool = constant_pool_new();
    for (int fusion = 0; fusion < 2; fusion++) {
        const struct graph_options options = {.batch = subject->batch, .fusion = fusion};
        struct graph *graph = graph_lower(model, &options, pool, &error);
        if (!graph)
            fail_msg("%s\n%s: %s", subject->text, error.what, error.why);
        float *inputs[8];
        uint64_t state = 7;
        for (size_t i = 0; i < graph->input_count; i++)
            inputs[i] = random_input(&graph->values[graph->inputs[i]].shape, &state,
                                     strcmp(model->inputs[i].name, "m") == 0);
        double **expected = reference_run(graph, (const float *const *)inputs);
        const struct device_options device_options = {.threads = subject->threads};
        struct device *device = backend_cpu.device_open(&device_options, NULL, &error);
        const struct plan_options plan_options = {.precision = subject->precision,
                                                  .slice = subject->slice};
        struct plan *plan = backend_cpu.plan_new(device, graph, &plan_options, &error);
        if (!plan)
            fail_msg("%s\n%s: %s", subject->text, error.what, error.why);
        for (size_t i = 0; i < graph->input_count; i++)
            memcpy(backend_cpu.plan_input(plan, i), inputs[i],
                   (size_t)shape_elements(&graph->values[graph->inputs[i]].shape) * sizeof(float));
        for (uint64_t step = 1; step <= 2; step++) {
            const struct step_context context = {.step = step};
            assert_true(backend_cpu.plan_run(plan, &context, &error));
        }
        for (size_t i = 0; i < graph->output_count; i++) {
            const float *got = backend_cpu.plan_output(plan, i);
            const double *want = expected[graph->outputs[i]];
            int64_t count = shape_elements(&graph->values[graph->outputs[i]].shape);
            double most = 1e-6, apart = 0;
            for (int64_t j = 0; j < count; j++) {
                most = fmax(most, fabs(want[j]));
                apart = fmax(apart, isnan((double)got[j]) ? (double)INFINITY
                                                          : fabs((double)got[j] - want[j]));
            }
            if (!(apart <= tolerance * most))
                fail_msg("%s\noutput %zu, batch %d: %g away of %g\n%s", subject->text, i,
                         (int)subject->batch, apart, most, graph_to_text(graph));
        }
        backend_cpu.plan_free(plan);
        backend_cpu.device_close(device);
        reference_free(graph, expected);
        for (size_t i = 0; i < graph->input_count; i++)
            free(inputs[i]);
        graph_free(graph);
    }
    constant_pool_free(pool);
    model_free(model);
}

struct kind {
    const char *class_name, *config;
    int gates;
    const char *bias; /* its shape in units of columns */
};

static const struct kind KINDS[] = {
    {"SimpleRNN", "", 1, "%d"},
    {"LSTM", "", 4, "%d"},
    {"GRU", ", 'reset_after': true", 3, "2,%d"},
    {"GRU", ", 'reset_after': false", 3, "%d"},
};
#define KIND_COUNT (sizeof KINDS / sizeof *KINDS)

/* "r = LSTM(x...) {...} kernel C,4H recurrent_kernel H,4H bias 4H" */
static void layer_text(char *out, size_t size, const struct kind *kind, const char *arguments,
                       int features, int units, const char *options)
{
    char bias[32];
    int columns = kind->gates * units;
    snprintf(bias, sizeof bias, kind->bias, columns);
    snprintf(out, size,
             "r = %s(%s) {'units': %d%s%s} kernel %d,%d recurrent_kernel %d,%d bias %s\n",
             kind->class_name, arguments, units, kind->config, options, features, columns, units,
             columns, bias);
}

static void every_cell_and_size(void **state)
{
    (void)state;
    static const struct {
        int batch, steps, features, units;
    } SIZES[] = {{1, 1, 1, 1},    {1, 5, 3, 16},   {7, 4, 5, 17}, {13, 3, 20, 33},
                 {2, 130, 4, 80}, {40, 30, 3, 160}}; /* more than fits into the buffer at once */
    for (size_t k = 0; k < KIND_COUNT; k++) {
        for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
            for (int threads = i == 5 ? 2 : 1; threads <= (i == 5 ? 2 : 3); threads++) {
                struct subject s = {.batch = SIZES[i].batch, .threads = threads};
                char layer[512];
                layer_text(layer, sizeof layer, &KINDS[k], "x", SIZES[i].features, SIZES[i].units,
                           i % 2 ? ", 'return_sequences': true" : "");
                snprintf(s.text, sizeof s.text, "x = Input %d,%d\n%sout r\n", SIZES[i].steps,
                         SIZES[i].features, layer);
                check(&s);
            }
        }
    }
}

static void many_units_are_shared_out(void **state)
{
    (void)state;
    for (size_t k = 0; k < KIND_COUNT; k++) {
        for (int threads = 1; threads <= 4; threads += 3) {
            struct subject s = {.batch = 20, .threads = threads};
            char layer[512];
            layer_text(layer, sizeof layer, &KINDS[k], "x", 9, 40,
                       ", 'return_sequences': true, 'return_state': true");
            snprintf(s.text, sizeof s.text, "x = Input 6,9\n%sout r\nout r\n", layer);
            check(&s);
        }
    }
}

static void every_option(void **state)
{
    (void)state;
    static const char *const OPTIONS[] = {
        ", 'go_backwards': true",
        ", 'go_backwards': true, 'return_sequences': true",
        ", 'return_state': true",
        ", 'return_sequences': true, 'return_state': true, 'stateful': true",
        ", 'unroll': true, 'return_sequences': true",
        ", 'activation': 'relu', 'recurrent_activation': 'hard_sigmoid'",
        ", 'activation': 'softsign', 'recurrent_activation': 'softplus'",
        ", 'activation': 'linear', 'return_sequences': true",
        ", 'activation': 'elu', 'recurrent_activation': 'hard_sigmoid', '_keras_major': 2",
    };
    for (size_t k = 0; k < KIND_COUNT; k++) {
        for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
            struct subject s = {.batch = 3, .threads = 2};
            char layer[512];
            bool states = strstr(OPTIONS[i], "return_state") != NULL;
            layer_text(layer, sizeof layer, &KINDS[k], "x", 4, 19, OPTIONS[i]);
            snprintf(s.text, sizeof s.text, "x = Input 5,4\n%sout r\n%s%s", layer,
                     states ? "out r\n" : "", states && KINDS[k].gates == 4 ? "out r\n" : "");
            check(&s);
        }
    }
}

static void masks_and_initial_states(void **state)
{
    (void)state;
    static const char *const OPTIONS[] = {
        ", 'return_sequences': true",
        "",
        ", 'return_sequences': true, 'go_backwards': true",
        ", 'return_sequences': true, 'zero_output_for_mask': true",
        ", 'return_sequences': true, '_keras_major': 2",
        ", 'return_sequences': true, 'unroll': true, 'zero_output_for_mask': true",
    };
    for (size_t k = 0; k < KIND_COUNT; k++) {
        bool lstm = KINDS[k].gates == 4;
        for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
            struct subject s = {.batch = 8, .threads = 2};
            char layer[512];
            s.kwargs = lstm ? "{\"mask\": {\"tensor\": 1}, \"initial_state\": [{\"tensor\": 2}, "
                              "{\"tensor\": 3}]}"
                            : "{\"mask\": {\"tensor\": 1}, \"initial_state\": {\"tensor\": 2}}";
            layer_text(layer, sizeof layer, &KINDS[k], lstm ? "x, m, h, c" : "x, m, h", 4, 18,
                       OPTIONS[i]);
            snprintf(s.text, sizeof s.text,
                     "x = Input 6,4\nm = Input 6\nh = Input 18\nc = Input 18\n%sout r\n", layer);
            check(&s);
        }
    }
}

/* What a masked step puts out, by hand: one unit, a recurrence that only adds. */
static void masked_steps_put_out_what_keras_does(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        float expected[4]; /* x 1 2 3 4, of which 2 and 4 are real; h begins at 10 */
    } CASES[] = {
        {"'_keras_major': 3", {10, 12, 12, 16}},
        {"'_keras_major': 2", {0, 12, 12, 16}},
        {"'_keras_major': 3, 'unroll': true", {0, 12, 12, 16}},
        {"'_keras_major': 3, 'zero_output_for_mask': true", {0, 12, 0, 16}},
        {"'_keras_major': 2, 'go_backwards': true", {14, 14, 16, 16}},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct subject s = {.batch = 1,
                            .kwargs = "{\"mask\": {\"tensor\": 1}, \"initial_state\": "
                                      "[{\"tensor\": 2}]}"};
        snprintf(s.text, sizeof s.text,
                 "x = Input 4,1\nm = Input 4\nh = Input 1\n"
                 "r = SimpleRNN(x, m, h) {'units': 1, 'activation': 'linear', 'use_bias': false, "
                 "'return_sequences': true, %s} kernel 1,1 recurrent_kernel 1,1\nout r\n",
                 CASES[i].options);
        struct model *model = model_of(&s);
        struct error error = {0};
        for (int w = 0; w < 2; w++)
            *(float *)(uintptr_t)model->layers[3].weights[w].data = 1;
        struct constant_pool *pool = constant_pool_new();
        const struct graph_options options = {.batch = 1, .fusion = true};
        struct graph *graph = graph_lower(model, &options, pool, &error);
        assert_non_null(graph);
        const struct device_options device_options = {.threads = 1};
        struct device *device = backend_cpu.device_open(&device_options, NULL, &error);
        const struct plan_options plan_options = {.precision = PRECISION_FP32};
        struct plan *plan = backend_cpu.plan_new(device, graph, &plan_options, &error);
        static const float x[] = {1, 2, 3, 4}, m[] = {0, 1, 0, 1}, h[] = {10};
        memcpy(backend_cpu.plan_input(plan, 0), x, sizeof x);
        memcpy(backend_cpu.plan_input(plan, 1), m, sizeof m);
        memcpy(backend_cpu.plan_input(plan, 2), h, sizeof h);
        const struct step_context context = {.step = 1};
        assert_true(backend_cpu.plan_run(plan, &context, &error));
        const float *got = backend_cpu.plan_output(plan, 0);
        for (int t = 0; t < 4; t++)
            assert_float_equal(got[t], CASES[i].expected[t], 0);
        backend_cpu.plan_free(plan);
        backend_cpu.device_close(device);
        graph_free(graph);
        constant_pool_free(pool);
        model_free(model);
    }
}

/* The weights of a cuDNN layer, turned round by hand, in the ordinary layer. */
static void cudnn_weights_are_turned(void **state)
{
    (void)state;
    static const struct {
        const char *cudnn, *plain;
        int gates;
    } CASES[] = {
        {"CuDNNLSTM(x) {'units': 3, 'return_sequences': true}",
         "LSTM(x) {'units': 3, 'return_sequences': true}", 4},
        {"CuDNNGRU(x) {'units': 3, 'return_sequences': true}",
         "GRU(x) {'units': 3, 'return_sequences': true, 'reset_after': true}", 3},
        {"LSTM(x) {'units': 3, 'return_sequences': true}",
         "LSTM(x) {'units': 3, 'return_sequences': true}", 4},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        int gates = CASES[i].gates, columns = 3 * gates;
        char text[512];
        struct error error = {0};
        struct model *models[2];
        struct graph *graphs[2];
        double **values[2];
        snprintf(text, sizeof text,
                 "x = Input 4,2\nr = %s kernel 2,%d recurrent_kernel 3,%d bias %d\nout r\n",
                 CASES[i].cudnn, columns, columns, 2 * columns);
        models[0] = tiny_model(text);
        snprintf(text, sizeof text,
                 "x = Input 4,2\nr = %s kernel 2,%d recurrent_kernel 3,%d bias %s%d\nout r\n",
                 CASES[i].plain, columns, columns, gates == 3 ? "2," : "", columns);
        models[1] = tiny_model(text);
        const struct model_weight *from = models[0]->layers[1].weights;
        const struct model_weight *to = models[1]->layers[1].weights;
        for (int w = 0; w < 2; w++) {
            int in = w == 0 ? 2 : 3;
            for (int g = 0; g < gates; g++) {
                /* numpy: k.T.reshape(k.shape, order="F") of the gate's columns */
                float flat[9];
                for (int r = 0; r < in; r++)
                    for (int c = 0; c < 3; c++)
                        flat[r * 3 + c] = ((const float *)from[w].data)[r * columns + g * 3 + c];
                for (int c = 0; c < 3; c++)
                    for (int r = 0; r < in; r++)
                        ((float *)(uintptr_t)to[w].data)[r * columns + g * 3 + c] =
                            flat[c * in + r];
            }
        }
        for (int k = 0; k < columns; k++) {
            const float *old = from[2].data;
            float *new = (float *)(uintptr_t)to[2].data;
            if (gates == 4) {
                new[k] = old[k] + old[columns + k];
            } else {
                new[k] = old[k];
                new[columns + k] = old[columns + k];
            }
        }
        float x[2 * 4 * 2];
        uint64_t random = 3;
        for (size_t j = 0; j < sizeof x / sizeof *x; j++)
            x[j] = tiny_random(&random);
        const float *const inputs[] = {x};
        struct constant_pool *pools[2];
        for (int j = 0; j < 2; j++) {
            const struct graph_options options = {.batch = 2};
            pools[j] = constant_pool_new();
            graphs[j] = graph_lower(models[j], &options, pools[j], &error);
            if (!graphs[j])
                fail_msg("%s: %s", error.what, error.why);
            values[j] = reference_run(graphs[j], inputs);
        }
        for (int j = 0; j < 2 * 4 * 3; j++)
            assert_true(fabs(values[0][graphs[0]->outputs[0]][j] -
                             values[1][graphs[1]->outputs[0]][j]) < 1e-6);
        for (int j = 0; j < 2; j++) {
            reference_free(graphs[j], values[j]);
            graph_free(graphs[j]);
            constant_pool_free(pools[j]);
            model_free(models[j]);
        }
    }
}

#define LSTM_JSON "{'class_name': 'LSTM', 'config': {'units': 6%s}}"

static void both_directions(void **state)
{
    (void)state;
    static const char *const MERGES[] = {"'concat'", "'sum'", "'mul'", "'ave'", "null"};
    for (size_t i = 0; i < sizeof MERGES / sizeof *MERGES; i++) {
        for (int sequences = 0; sequences < 2; sequences++) {
            struct subject s = {.batch = 3, .threads = 2, .kwargs = "{\"mask\": {\"tensor\": 1}}"};
            char layer[128];
            snprintf(layer, sizeof layer, LSTM_JSON,
                     sequences ? ", 'return_sequences': true, 'return_state': true" : "");
            snprintf(s.text, sizeof s.text,
                     "x = Input 5,4\nm = Input 5\n"
                     "r = Bidirectional(x, m) {'merge_mode': %s, 'layer': %s} kernel 4,24 "
                     "recurrent_kernel 6,24 bias 24 kernel 4,24 recurrent_kernel 6,24 bias 24\n"
                     "out r\n%s",
                     MERGES[i], layer, sequences ? "out r\nout r\nout r\nout r\n" : "");
            check(&s);
        }
    }
}

static void stacked_cells(void **state)
{
    (void)state;
    static const char *const OPTIONS[] = {
        "", ", 'return_sequences': true, 'return_state': true",
        ", 'go_backwards': true, 'return_sequences': true, 'return_state': true"};
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++) {
        struct subject s = {.batch = 3, .threads = 2, .kwargs = "{\"mask\": {\"tensor\": 1}}"};
        snprintf(s.text, sizeof s.text,
                 "x = Input 5,4\nm = Input 5\n"
                 "r = RNN(x, m) {'cell': {'class_name': 'StackedRNNCells', 'config': {'cells': "
                 "[{'class_name': 'LSTMCell', 'config': {'units': 6}}, {'class_name': 'GRUCell', "
                 "'config': {'units': 5}}]}}%s} kernel 4,24 recurrent_kernel 6,24 bias 24 "
                 "kernel 6,15 recurrent_kernel 5,15 bias 2,15\n"
                 "out r\n%s",
                 OPTIONS[i], i > 0 ? "out r\nout r\nout r\n" : "");
        check(&s);
    }
}

static void in_bf16_and_in_slices(void **state)
{
    (void)state;
    for (size_t k = 0; k < KIND_COUNT; k++) {
        struct subject s = {.batch = 5, .threads = 2, .slice = 2};
        char layer[512];
        bool lstm = KINDS[k].gates == 4;
        layer_text(layer, sizeof layer, &KINDS[k], "x", 4, 20,
                   ", 'return_sequences': true, 'return_state': true");
        snprintf(s.text, sizeof s.text, "x = Input 6,4\n%sout r\nout r\n%s", layer,
                 lstm ? "out r\n" : "");
        check(&s);
        struct error error = {0};
        const struct device_options options = {.threads = 1};
        struct device *device = backend_cpu.device_open(&options, NULL, &error);
        struct subject bf16 = s;
        bf16.precision = PRECISION_BF16;
        struct constant_pool *pool = constant_pool_new();
        struct model *model = model_of(&bf16);
        const struct graph_options graph_options = {.batch = 1};
        struct graph *graph = graph_lower(model, &graph_options, pool, &error);
        const struct plan_options plan_options = {.precision = PRECISION_BF16};
        struct plan *plan = backend_cpu.plan_new(device, graph, &plan_options, &error);
        bool can = plan != NULL;
        if (plan)
            backend_cpu.plan_free(plan);
        graph_free(graph);
        constant_pool_free(pool);
        model_free(model);
        backend_cpu.device_close(device);
        if (can)
            check(&bf16);
    }
}

/* In bf16 the products are of their own kernels: whole blocks of 32 or 16 samples and what is left of
 * them, features and units that fill the depth of a product and that do not, masks and states. */
static void in_bf16_of_every_size(void **state)
{
    (void)state;
    static const int sizes[][3] = {{16, 32, 64}, {37, 64, 40}, {1, 5, 33},
                                   {20, 33, 32}, {48, 96, 17}, {33, 32, 256}};
    for (size_t k = 0; k < KIND_COUNT && dnn_has_bf16(); k++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct subject s = {.batch = sizes[i][0], .threads = 2, .precision = PRECISION_BF16};
            char layer[512];
            layer_text(layer, sizeof layer, &KINDS[k], i % 2 ? "x, m" : "x", sizes[i][1],
                       sizes[i][2],
                       i % 3 ? ", 'return_sequences': true" : ", 'return_state': true");
            if (i % 2)
                s.kwargs = "{\"mask\": {\"tensor\": 1}}";
            snprintf(s.text, sizeof s.text, "x = Input 6,%d\n%s%sout r\n", sizes[i][1],
                     i % 2 ? "m = Input 6\n" : "", layer);
            check(&s);
        }
    }
}

static void what_cannot_run_is_named(void **state)
{
    (void)state;
    static const char *const CASES[][2] = {
        {"r = RNN(x) {'cell': {'class_name': 'MyCell', 'config': {}}}",
         "'MyCell' is not supported"},
        {"r = LSTM(x) {'units': 2} k 4,8 r 2,8 b 7", "'bias' has shape (7,)"},
        {"r = Bidirectional(x) {'layer': {'class_name': 'Dense', 'config': {}}}",
         "'Dense' is not supported"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char text[512];
        struct error error = {0};
        snprintf(text, sizeof text, "x = Input 5,4\n%s\nout r\n", CASES[i][0]);
        struct model *model = tiny_model(text);
        struct constant_pool *pool = constant_pool_new();
        const struct graph_options options = {.batch = 2};
        assert_null(graph_lower(model, &options, pool, &error));
        if (!strstr(error.what, "'r'") || !strstr(error.why, CASES[i][1]))
            fail_msg("%s: %s", error.what, error.why);
        constant_pool_free(pool);
        model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_and_size),
        cmocka_unit_test(many_units_are_shared_out),
        cmocka_unit_test(every_option),
        cmocka_unit_test(masks_and_initial_states),
        cmocka_unit_test(masked_steps_put_out_what_keras_does),
        cmocka_unit_test(cudnn_weights_are_turned),
        cmocka_unit_test(both_directions),
        cmocka_unit_test(stacked_cells),
        cmocka_unit_test(in_bf16_and_in_slices),
        cmocka_unit_test(in_bf16_of_every_size),
        cmocka_unit_test(what_cannot_run_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
