/* Masks: who makes them, who passes them on, who reads them, and that nobody else pays for them. */
#include "engine/backend.h"
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

struct fixture {
    struct model *model;
    struct constant_pool *pool;
    struct graph *graph;
};

static struct fixture lower_model(struct model *model, bool fusion)
{
    struct error error = {0};
    struct fixture f = {.model = model, .pool = constant_pool_new()};
    const struct graph_options options = {.batch = BATCH, .fusion = fusion};
    f.graph = graph_lower(f.model, &options, f.pool, &error);
    if (!f.graph)
        fail_msg("%s: %s", error.what, error.why);
    return f;
}

static void drop(struct fixture *f)
{
    graph_free(f->graph);
    constant_pool_free(f->pool);
    model_free(f->model);
}

static int count_ops(const char *text, enum op_kind kind, bool fusion)
{
    struct fixture f = lower_model(tiny_model(text), fusion);
    int count = 0;
    for (size_t i = 0; i < f.graph->op_count; i++)
        count += f.graph->ops[i].kind == kind;
    drop(&f);
    return count;
}

/* Run on the CPU; also holds it against the reference. Output 0 into out[]. */
static bool run_model(struct model *model, const float *const *inputs, float *out, size_t capacity,
                      struct error *error)
{
    struct fixture f = lower_model(model, true);
    const struct device_options options = {.threads = 2};
    struct device *device = backend_cpu.device_open(&options, NULL, error);
    const struct plan_options plan_options = {.precision = PRECISION_FP32};
    struct plan *plan = backend_cpu.plan_new(device, f.graph, &plan_options, error);
    assert_non_null(plan);
    for (size_t i = 0; i < f.graph->input_count; i++)
        memcpy(backend_cpu.plan_input(plan, i), inputs[i],
               (size_t)shape_elements(&f.graph->values[f.graph->inputs[i]].shape) * sizeof(float));
    const struct step_context context = {.step = 1};
    bool ok = backend_cpu.plan_run(plan, &context, error);
    size_t count = (size_t)shape_elements(&f.graph->values[f.graph->outputs[0]].shape);
    assert_true(count <= capacity);
    if (ok) {
        double **expected = reference_run(f.graph, inputs);
        memcpy(out, backend_cpu.plan_output(plan, 0), count * sizeof *out);
        for (size_t i = 0; i < count; i++)
            assert_true(fabs((double)out[i] - expected[f.graph->outputs[0]][i]) < 1e-5);
        reference_free(f.graph, expected);
    }
    backend_cpu.plan_free(plan);
    backend_cpu.device_close(device);
    drop(&f);
    return ok;
}

static const float STEPS[BATCH * 3] = {1, 0, 2, 0, 0, 3}; /* token ids; 0 is padding */

/* Rows of the table of "Embedding ... embeddings 5,2", as tiny_model() draws them. */
static const float *table_of(const struct model *model)
{
    return (const float *)model->layers[1].weights[0].data;
}

static void the_mean_is_over_real_steps(void **state)
{
    (void)state;
    struct error error = {0};
    struct model *model = tiny_model("x = Input 3\n"
                                     "e = Embedding(x) {'input_dim': 5, 'output_dim': 2, "
                                     "'mask_zero': true} embeddings 5,2\n"
                                     "d = Dropout(e) {'rate': 0.5}\n"
                                     "m = GlobalAveragePooling1D(d)\nout m\n");
    const float *const inputs[] = {STEPS};
    float table[10], out[4];
    memcpy(table, table_of(model), sizeof table);
    assert_true(run_model(model, inputs, out, 4, &error));
    for (int c = 0; c < 2; c++) {
        assert_float_equal(out[c], (table[2 + c] + table[4 + c]) / 2, 1e-6);
        assert_float_equal(out[2 + c], table[6 + c], 1e-6);
    }
}

#define EMBED                                                                                      \
    "x = Input 3\n"                                                                                \
    "e = Embedding(x) {'input_dim': 5, 'output_dim': 2, 'mask_zero': true} embeddings 5,2\n"

static void a_mask_that_nobody_reads_costs_nothing(void **state)
{
    (void)state;
    for (int fusion = 0; fusion < 2; fusion++) {
        assert_int_equal(
            count_ops(EMBED "d = Dense(e) {'units': 2} k 2,2 b 2\nout d\n", OP_BINARY, fusion), 0);
        assert_int_equal(
            count_ops(EMBED "m = GlobalAveragePooling1D(e)\nout m\n", OP_SELECT, fusion), 1);
        /* dropped on the way */
        assert_int_equal(count_ops(EMBED
                                   "c = Conv1D(e) {'filters': 2, 'kernel_size': 1} k 1,2,2 b 2\n"
                                   "m = GlobalAveragePooling1D(c)\nout m\n",
                                   OP_SELECT, fusion),
                         0);
        assert_int_equal(count_ops(EMBED "c = Reshape(e) {'target_shape': [3, 2]}\n"
                                         "m = GlobalAveragePooling1D(c)\nout m\n",
                                   OP_SELECT, fusion),
                         0);
        /* the maximum never looks */
        assert_int_equal(count_ops(EMBED "m = GlobalMaxPooling1D(e)\nout m\n", OP_SELECT, fusion),
                         0);
    }
}

static void the_time_belongs_to_the_maker(void **state)
{
    (void)state;
    struct fixture f =
        lower_model(tiny_model(EMBED "m = GlobalAveragePooling1D(e)\nout m\n"), false);
    bool seen = false;
    for (size_t i = 0; i < f.graph->op_count; i++) {
        const struct op *op = &f.graph->ops[i];
        if (op->kind != OP_BINARY || op->binary.function != BINARY_NOT_EQUAL)
            continue;
        assert_string_equal(f.model->layers[op->layer].name, "e");
        seen = true;
    }
    assert_true(seen);
    drop(&f);
}

/* Two masked embeddings, joined: the mean tells which steps were counted. */
static void merges_join_their_masks(void **state)
{
    (void)state;
    struct error error = {0};
    /* sample 0: steps 0 and 1 are real in the first, 0 in the second */
    static const float a[] = {1, 1, 0, 1, 1, 1}, b[] = {1, 0, 0, 1, 1, 1};
    static const struct {
        const char *join;
        int major;
        int steps; /* that count in sample 0 */
        const char *config;
    } CASES[] = {{"Add", 3, 2, ""},
                 {"Add", 2, 1, ""},
                 {"Add", 3, 3, ", '_merge_masked': true"},
                 {"Concatenate", 3, 2, ""},
                 {"Concatenate", 2, 1, ""},
                 {"Concatenate", 3, 3, ", '_merge_masked': true"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "x = Input 3\ny = Input 3\n"
                 "e = Embedding(x) {'input_dim': 5, 'output_dim': 1, 'mask_zero': true} "
                 "embeddings 5,1\nf = @e(y)\n"
                 "j = %s(e, f) {'_keras_major': %d%s}\n"
                 "n = Dense(j) {'units': 1} kernel %d,1 bias 1\n"
                 "m = GlobalAveragePooling1D(n)\nout m\n",
                 CASES[i].join, CASES[i].major, CASES[i].config, CASES[i].join[0] == 'A' ? 1 : 2);
        struct model *model = tiny_model(text);
        /* the dense layer adds the features up */
        float *kernel = (float *)(uintptr_t)model->layers[4].weights[0].data;
        float *bias = (float *)(uintptr_t)model->layers[4].weights[1].data;
        const float *table = (const float *)model->layers[2].weights[0].data;
        float zero = table[0], one = table[1];
        bool add = CASES[i].join[0] == 'A';
        kernel[0] = 1;
        if (!add)
            kernel[1] = 1;
        bias[0] = 0;
        const float *const inputs[] = {a, b};
        float out[2];
        assert_true(run_model(model, inputs, out, 2, &error));
        float both = 2 * one, mixed = one + zero;
        float expected = CASES[i].steps == 3   ? (both + mixed + 2 * zero) / 3
                         : CASES[i].steps == 2 ? (both + mixed) / 2
                                               : both;
        assert_float_equal(out[0], expected, 1e-5);
    }
}

/* What is masked in one factor is what the other is there, and in both of them 0; before Keras 3.4
 * and in Keras 2 nobody looked. */
static void products_look_past_their_masks(void **state)
{
    (void)state;
    struct error error = {0};
    static const float a[] = {1, 0, 2, 1, 1, 1}, b[] = {3, 4, 0, 1, 1, 1}, c[] = {0, 0, 5, 1, 1, 1};
    static const struct {
        const char *join, *other, *config;
        int major;
    } CASES[] = {{"Multiply", "f", "", 3},
                 {"Multiply", "y", "", 3},
                 {"Multiply", "f", ", '_merge_masked': true", 3},
                 {"Multiply", "f", "", 2},
                 {"Maximum", "f", "", 3},
                 {"Minimum", "y", "", 3}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char text[1024];
        bool masked = CASES[i].other[0] == 'f', heeds = CASES[i].major == 3 && !CASES[i].config[0];
        snprintf(text, sizeof text,
                 "x = Input 3\ny = Input 3%s\n"
                 "e = Embedding(x) {'input_dim': 6, 'output_dim': 1, 'mask_zero': true} "
                 "embeddings 6,1\n%s"
                 "j = %s(e, %s) {'_keras_major': %d%s}\nout j\n",
                 masked ? "" : ",1", masked ? "f = @e(y)\n" : "", CASES[i].join, CASES[i].other,
                 CASES[i].major, CASES[i].config);
        for (int round = 0; round < 2; round++) {
            const float *second = round ? c : b;
            const float *const inputs[] = {a, second};
            struct model *model = tiny_model(text);
            const float *table = (const float *)model->layers[2].weights[0].data;
            float expected[3], out[6];
            for (int t = 0; t < 3; t++) {
                bool real_p = a[t] != 0, real_q = !masked || second[t] != 0;
                float p = table[(int)a[t]], q = masked ? table[(int)second[t]] : second[t];
                float both = CASES[i].join[1] == 'u'   ? p * q
                             : CASES[i].join[1] == 'a' ? fmaxf(p, q)
                                                       : fminf(p, q);
                expected[t] = both;
                if (heeds && !(real_p && real_q))
                    expected[t] = real_q ? q : real_p ? p : CASES[i].join[1] == 'u' ? 0 : q;
            }
            assert_true(run_model(model, inputs, out, 6, &error));
            for (int t = 0; t < 3; t++) {
                if (CASES[i].join[1] != 'u' && a[t] == 0 && masked && second[t] == 0)
                    continue; /* nobody obeys it: it is masked */
                assert_float_equal(out[t], expected[t], 1e-6);
            }
        }
    }
}

static void an_unmasked_input_ends_the_mask_of_keras_3(void **state)
{
    (void)state;
    static const char TEXT[] = "x = Input 3\ny = Input 3,2\n"
                               "e = Embedding(x) {'input_dim': 5, 'output_dim': 2, "
                               "'mask_zero': true} embeddings 5,2\n"
                               "j = Add(e, y) {'_keras_major': %d}\n"
                               "m = GlobalAveragePooling1D(j)\nout m\n";
    char text[512];
    for (int major = 2; major <= 3; major++) {
        snprintf(text, sizeof text, TEXT, major);
        assert_int_equal(count_ops(text, OP_SELECT, true), major == 2);
    }
}

static void joined_steps_join_their_masks(void **state)
{
    (void)state;
    struct error error = {0};
    static const float ids[] = {1, 0, 2, 0}, plain[] = {1, 2, 3, 4, 5, 6};
    const float *const inputs[] = {ids, plain};
    float out[2];
    struct model *model = tiny_model("x = Input 2\ny = Input 3,1\n"
                                     "e = Embedding(x) {'input_dim': 5, 'output_dim': 1, "
                                     "'mask_zero': true} embeddings 5,1\n"
                                     "j = Concatenate(e, y) {'axis': 1}\n"
                                     "m = GlobalAveragePooling1D(j)\nout m\n");
    float one = ((const float *)model->layers[2].weights[0].data)[1];
    float two = ((const float *)model->layers[2].weights[0].data)[2];
    assert_true(run_model(model, inputs, out, 2, &error));
    assert_float_equal(out[0], (one + 1 + 2 + 3) / 4, 1e-5);
    assert_float_equal(out[1], (two + 4 + 5 + 6) / 4, 1e-5);
}

static void masking_zeroes_and_masks(void **state)
{
    (void)state;
    struct error error = {0};
    static const float x[] = {1, 2, -1, -1, 3, -1, -1, -1, -1, -1, 5, 6};
    const float *const inputs[] = {x};
    float out[12];
    assert_true(run_model(tiny_model("x = Input 3,2\ny = Masking(x) {'mask_value': -1}\nout y\n"),
                          inputs, out, 12, &error));
    static const float zeroed[] = {1, 2, 0, 0, 3, -1, 0, 0, 0, 0, 5, 6};
    for (int i = 0; i < 12; i++)
        assert_float_equal(out[i], zeroed[i], 0);
    assert_true(run_model(tiny_model("x = Input 3,2\ny = Masking(x) {'mask_value': -1}\n"
                                     "m = GlobalAveragePooling1D(y)\nout m\n"),
                          inputs, out, 12, &error));
    static const float means[] = {2, 0.5F, 5, 6};
    for (int i = 0; i < 4; i++)
        assert_float_equal(out[i], means[i], 1e-6);
}

/* keras.layers.Layer.__call__(x, mask=...): a Keras 3 file has the tensor among the arguments. */
static void an_explicit_mask_wins(void **state)
{
    (void)state;
    struct error error = {0};
    static const float flags[] = {0, 1, 1, 1, 0, 0};
    struct model *model = tiny_model("x = Input 3\nf = Input 3\n"
                                     "e = Embedding(x) {'input_dim': 5, 'output_dim': 1, "
                                     "'mask_zero': true} embeddings 5,1\n"
                                     "m = GlobalAveragePooling1D(e, f)\nout m\n");
    struct model_node *node = &model->nodes[3];
    json_array_remove(node->args, 1);
    json_object_set_new(node->kwargs, "mask", json_pack("{s:i}", "tensor", 1));
    const float *table = (const float *)model->layers[2].weights[0].data;
    float zero = table[0], two = table[2];
    const float *const inputs[] = {STEPS, flags};
    float out[2];
    assert_true(run_model(model, inputs, out, 2, &error));
    assert_float_equal(out[0], (zero + two) / 2, 1e-6);
    assert_float_equal(out[1], zero, 1e-6);
}

static void softmax_gives_masked_cells_no_share(void **state)
{
    (void)state;
    struct error error = {0};
    static const float x[] = {1, 1, 1, 1, 2, 3}, flags[] = {1, 0, 1, 0, 0, 0};
    const float *const inputs[] = {x, flags};
    struct model *model = tiny_model("x = Input 3\nf = Input 3\ns = Softmax(x, f)\nout s\n");
    json_array_remove(model->nodes[2].args, 1);
    json_object_set_new(model->nodes[2].kwargs, "mask", json_pack("{s:i}", "tensor", 1));
    float out[6];
    assert_true(run_model(model, inputs, out, 6, &error));
    static const float expected[] = {0.5F, 0, 0.5F, 0, 0, 0};
    for (int i = 0; i < 6; i++)
        assert_float_equal(out[i], expected[i], 1e-6);
}

/* MultiHeadAttention over an embedding, and what `after` makes of both, as a release wrote it. */
static struct model *written_by(const char *release, const char *after)
{
    char text[1024];
    snprintf(text, sizeof text,
             "x = Input 3\n"
             "e = Embedding(x) {'input_dim': 5, 'output_dim': 1, 'mask_zero': true} "
             "embeddings 5,1\n"
             "h = Dropout(e) {'rate': 0.5}\n"
             "a = MultiHeadAttention(e, e) {'num_heads': 1, 'key_dim': 1} "
             "q 1,1,1 qb 1,1 k 1,1,1 kb 1,1 v 1,1,1 vb 1,1 o 1,1,1 ob 1\n%s",
             after);
    struct model *model = tiny_model(text);
    free(model->keras_version);
    model->keras_version = xstrdup(release);
    return model;
}

/* Is the mean that `after` ends with taken over the real steps of `sum` (text that ends with it)? */
static bool mean_is_masked(const char *release, const char *sum, const char *mean)
{
    struct error error = {0};
    const float *const inputs[] = {STEPS};
    float steps[6], means[2];
    assert_true(run_model(written_by(release, sum), inputs, steps, 6, &error));
    assert_true(run_model(written_by(release, mean), inputs, means, 2, &error));
    double real = ((double)steps[0] + (double)steps[2]) / 2;
    double all = ((double)steps[0] + (double)steps[1] + (double)steps[2]) / 3;
    assert_true(fabs(real - all) > 1e-3);
    bool masked = fabs((double)means[0] - real) < 1e-5;
    assert_true(masked || fabs((double)means[0] - all) < 1e-5);
    return masked;
}

static void attention_takes_the_masks_off_what_it_reads(void **state)
{
    (void)state;
    static const char *const SUMS[] = {"s = Add(e, a)\n", "s = Add(h, a)\n"};
    for (int i = 0; i < 2; i++) {
        char sum[64], mean[96];
        snprintf(sum, sizeof sum, "%sout s\n", SUMS[i]);
        snprintf(mean, sizeof mean, "%sm = GlobalAveragePooling1D(s)\nout m\n", SUMS[i]);
        assert_true(mean_is_masked("3.8.0", sum, mean));
        assert_true(mean_is_masked("3.9.2", sum, mean));
        assert_false(mean_is_masked("3.10.0", sum, mean));
        assert_false(mean_is_masked("3.15.1", sum, mean));
    }
    /* who is farther from the outputs runs first, and of two at one distance the later output */
    static const char *const EARLY = "m = GlobalAveragePooling1D(e)\nr = ReLU(m) "
                                     "{'negative_slope': 1}\nout r\nout a\n";
    static const char *const LATE = "m = GlobalAveragePooling1D(e)\nr = ReLU(a) "
                                    "{'negative_slope': 1}\nout m\nout r\n";
    assert_true(mean_is_masked("3.15.1", "out e\nout a\n", EARLY));
    assert_false(mean_is_masked("3.15.1", "out e\nout a\n", LATE));
    assert_false(
        mean_is_masked("3.15.1", "out e\n", "m = GlobalAveragePooling1D(e)\nout m\nout a\n"));
}

/* A mask that was an array when the model was built lies in the file, as numbers. */
static void a_constant_attention_mask_is_heeded(void **state)
{
    (void)state;
    struct error error = {0};
    struct model *model = tiny_model("x = Input 3,1\n"
                                     "y = MultiHeadAttention(x, x) {'num_heads': 1, 'key_dim': 1} "
                                     "q 1,1,1 qb 1,1 k 1,1,1 kb 1,1 v 1,1,1 vb 1,1 o 1,1,1 ob 1\n"
                                     "out y\n");
    json_t *only_the_second =
        json_pack("[[b, b, b], [b, b, b], [b, b, b]]", 0, 1, 0, 0, 1, 0, 0, 1, 0);
    json_object_set_new(model->nodes[1].kwargs, "attention_mask",
                        json_pack("{s:s, s:{s:o, s:s}}", "class_name", "__numpy__", "config",
                                  "value", only_the_second, "dtype", "bool"));
    float weights[8], out[6];
    for (int i = 0; i < 8; i++)
        weights[i] = *(const float *)model->layers[1].weights[i].data;
    static const float x[BATCH * 3] = {1, 5, 2, -3, 4, 7};
    const float *const inputs[] = {x};
    assert_true(run_model(model, inputs, out, 6, &error));
    for (int i = 0; i < 6; i++) {
        float value = x[i / 3 * 3 + 1] * weights[4] + weights[5];
        assert_float_equal(out[i], value * weights[6] + weights[7], 1e-5);
    }
}

static void an_index_outside_is_an_error(void **state)
{
    (void)state;
    float out[12];
    static const float below[] = {1, -5, 0, 0, 0, 4};
    const float *const good[] = {below};
    struct error error = {0};
    struct model *model = tiny_model(EMBED "out e\n");
    float first = table_of(model)[0];
    assert_true(run_model(model, good, out, 12, &error)); /* -5 counts from the end */
    assert_float_equal(out[2], first, 0);
    static const float OUTSIDE[] = {5, -6, NAN, INFINITY, 1e30F};
    for (size_t i = 0; i < sizeof OUTSIDE / sizeof *OUTSIDE; i++) {
        float ids[BATCH * 3] = {0, 1, 2, 3, 4, OUTSIDE[i]};
        const float *const inputs[] = {ids};
        assert_false(run_model(tiny_model(EMBED "out e\n"), inputs, out, 12, &error));
        assert_int_equal(error.code, ERROR_INPUT);
        assert_string_equal(error.what, "e");
        assert_non_null(strstr(error.why, "outside a table of 5 rows"));
    }
}

/* bfloat16 holds no whole number past 256: token ids must not pass through it. */
static void token_ids_survive_bf16(void **state)
{
    (void)state;
    struct error error = {0};
    struct model *model = tiny_model("x = Input 3\n"
                                     "e = Embedding(x) {'input_dim': 1000, 'output_dim': 2, "
                                     "'mask_zero': true} embeddings 1000,2\n"
                                     "m = GlobalAveragePooling1D(e)\nout e\nout m\n");
    float *table = (float *)(uintptr_t)model->layers[1].weights[0].data;
    for (int i = 0; i < 2000; i++) /* exact in bfloat16, another for each of eight neighbours */
        table[i] = (float)(i / 2 % 8);
    struct fixture f = lower_model(model, true);
    const struct device_options options = {.threads = 1};
    struct device *device = backend_cpu.device_open(&options, NULL, &error);
    const struct plan_options plan_options = {.precision = PRECISION_BF16};
    struct plan *plan = backend_cpu.plan_new(device, f.graph, &plan_options, &error);
    static const float ids[BATCH * 3] = {257, 0, 999, 0, 0, 515};
    if (plan) {
        memcpy(backend_cpu.plan_input(plan, 0), ids, sizeof ids);
        const struct step_context context = {.step = 1};
        assert_true(backend_cpu.plan_run(plan, &context, &error));
        const float *rows = backend_cpu.plan_output(plan, 0);
        for (int i = 0; i < BATCH * 3; i++)
            assert_float_equal(rows[2 * i], (float)((int)ids[i] % 8), 0);
        const float *means = backend_cpu.plan_output(plan, 1);
        assert_float_equal(means[0], 4, 0);
        assert_float_equal(means[2], 3, 0);
        backend_cpu.plan_free(plan);
    } else {
        assert_int_equal(error.code, ERROR_UNSUPPORTED); /* a processor without bf16 */
    }
    backend_cpu.device_close(device);
    drop(&f);
    /* a computed id is refused */
    f = lower_model(tiny_model("x = Input 3\na = ops.Add(x, 1.0)\n"
                               "e = Embedding(a) {'input_dim': 1000, 'output_dim': 2} "
                               "embeddings 1000,2\nout e\n"),
                    true);
    device = backend_cpu.device_open(&options, NULL, &error);
    assert_null(backend_cpu.plan_new(device, f.graph, &plan_options, &error));
    assert_int_equal(error.code, ERROR_UNSUPPORTED);
    backend_cpu.device_close(device);
    drop(&f);
}

static void a_reversible_embedding_goes_back(void **state)
{
    (void)state;
    struct error error = {0};
    struct model *model = tiny_model("x = Input 3,2\n"
                                     "r = ReversibleEmbedding(x) {'input_dim': 5, 'output_dim': 2, "
                                     "'logit_soft_cap': 2.0} embeddings 5,2\nout r\n");
    json_object_set_new(model->nodes[1].kwargs, "reverse", json_true());
    float table[10], out[30];
    memcpy(table, table_of(model), sizeof table);
    static const float x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const float *const inputs[] = {x};
    assert_true(run_model(model, inputs, out, 30, &error));
    for (int i = 0; i < 5; i++) {
        double logit = (double)(1 * table[2 * i] + 2 * table[2 * i + 1]);
        assert_true(fabs(2 * tanh(logit / 2) - (double)out[i]) < 1e-5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mean_is_over_real_steps),
        cmocka_unit_test(a_mask_that_nobody_reads_costs_nothing),
        cmocka_unit_test(the_time_belongs_to_the_maker),
        cmocka_unit_test(merges_join_their_masks),
        cmocka_unit_test(products_look_past_their_masks),
        cmocka_unit_test(an_unmasked_input_ends_the_mask_of_keras_3),
        cmocka_unit_test(joined_steps_join_their_masks),
        cmocka_unit_test(masking_zeroes_and_masks),
        cmocka_unit_test(an_explicit_mask_wins),
        cmocka_unit_test(softmax_gives_masked_cells_no_share),
        cmocka_unit_test(attention_takes_the_masks_off_what_it_reads),
        cmocka_unit_test(a_constant_attention_mask_is_heeded),
        cmocka_unit_test(an_index_outside_is_an_error),
        cmocka_unit_test(token_ids_survive_bf16),
        cmocka_unit_test(a_reversible_embedding_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
