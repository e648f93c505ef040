/* Two models against each other: which layer is which, what is said of their times, and how far their
 * outputs agree, held against the outputs themselves. And the habits of `bench`. */
#include "commands/layer_match.h"
#include "commands/pairs.h"
#include "engine/npy.h"
#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELDOUT "share/layertop/demo/digits/heldout_x.npy"

/* ---- which layer is which ---- */

static void layers_match_by_name_then_by_kind(void **state)
{
    (void)state;
    static const struct match_layer a[] = {{"input", "InputLayer", "(32, 8)"},
                                           {"conv2d", "Conv2D", "(32, 8, 8, 4)"},
                                           {"conv2d_1", "Conv2D", "(32, 4, 4, 8)"},
                                           {"odd", "Dropout", "(32, 4)"},
                                           {"head", "Dense", "(32, 10)"}};
    static const struct match_layer b[] = {{"input", "InputLayer", "(32, 8)"},
                                           {"conv2d_5", "Conv2D", "(32, 8, 8, 4)"},
                                           {"more", "Dense", "(32, 4)"},
                                           {"conv2d_6", "Conv2D", "(32, 4, 4, 8)"},
                                           {"head", "Dense", "(32, 5)"}};
    static const int partners[] = {0, 1, 3, -1, 4};
    static const enum layer_match ways[] = {MATCH_NAME, MATCH_KIND, MATCH_KIND, MATCH_NONE,
                                            MATCH_NAME};
    int partner[5];
    enum layer_match how[5];
    layer_match(a, 5, b, 5, partner, how);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(partner[i], partners[i]);
        assert_int_equal(how[i], ways[i]);
    }
}

/* Order is kept: the second of two alike is not taken for the first of the others. */
static void kinds_keep_their_order(void **state)
{
    (void)state;
    static const struct match_layer a[] = {{"a1", "Dense", "(1, 4)"},
                                           {"a2", "ReLU", "(1, 4)"},
                                           {"a3", "Dense", "(1, 4)"},
                                           {"a4", "Dense", ""}};
    static const struct match_layer b[] = {
        {"b1", "ReLU", "(1, 4)"}, {"b2", "Dense", "(1, 4)"}, {"b3", "Dense", ""}};
    static const int partners[] = {-1, 0, 1, -1};
    int partner[4];
    enum layer_match how[4];
    layer_match(a, 4, b, 3, partner, how);
    for (int i = 0; i < 4; i++)
        assert_int_equal(partner[i], partners[i]);
    layer_match(a, 0, b, 3, partner, how);
    layer_match(a, 4, b, 0, partner, how);
    assert_int_equal(partner[1], -1);
}

/* ---- samples that are no pairs ---- */

static void samples_give_the_interval_of_mann_and_whitney(void **state)
{
    (void)state;
    double a[10], b[10];
    struct pairs_ratio ratio;
    for (int i = 0; i < 10; i++) {
        a[i] = exp(0.1 * i);
        b[i] = exp(i + 1); /* shifts 0.1, 0.2 ... 10 */
    }
    samples_ratio(a, 3, b, 3, &ratio);
    assert_true(isfinite(ratio.ratio) && isnan(ratio.low) && isnan(ratio.high));
    samples_ratio(a, 4, b, 4, &ratio); /* P(U = 0) is 1 in 70 */
    assert_true(fabs(log(ratio.low) - 0.7) < 1e-9 && fabs(log(ratio.high) - 4) < 1e-9);
    /* the tables' critical U of 10 and 10 is 23, of 5 and 8 it is 6 */
    samples_ratio(a, 10, b, 10, &ratio);
    assert_true(fabs(log(ratio.ratio) - 5.05) < 1e-9);
    assert_true(fabs(log(ratio.low) - 2.4) < 1e-9 && fabs(log(ratio.high) - 7.7) < 1e-9);
    samples_ratio(a, 5, b, 8, &ratio);
    assert_true(fabs(log(ratio.low) - 1.7) < 1e-9);
    samples_ratio(a, 0, b, 8, &ratio);
    assert_true(isnan(ratio.ratio));
}

/* ---- the commands ---- */

/* Of the last command. New reference. */
static json_t *last_data(const char *arguments)
{
    char line[1024];
    snprintf(line, sizeof line, "--json %s", arguments);
    struct cli_outcome outcome = cli_run(NULL, line);
    if (outcome.code != 0)
        fail_msg("%s: %s", line, outcome.errors);
    json_t *last = json_array_get(outcome.objects, json_array_size(outcome.objects) - 1);
    json_t *data = json_incref(json_object_get(last, "data"));
    cli_outcome_free(&outcome);
    assert_non_null(data);
    return data;
}

static const char *text_at(const json_t *object, const char *path)
{
    return json_string_value(cli_at(object, path));
}

static void models_run_in_turn(void **state)
{
    (void)state;
    json_t *data = last_data(
        "-c 'devices cpu; warmup 1; batch 4; compare demo:digits demo:cnn --rounds 6 --steps 3'");
    assert_int_equal(cli_number_at(data, "pairs"), 6);
    assert_int_equal(cli_number_at(data, "steps"), 3);
    assert_string_equal(text_at(data, "a.file"), "demo:digits");
    assert_string_equal(text_at(data, "b.file"), "demo:cnn");
    assert_int_equal(cli_number_at(data, "b.batch"), 4);
    assert_true(cli_number_at(data, "a.parameters") > 60000);
    assert_true(cli_number_at(data, "b.flops") > 1000);
    double low = json_number_value(json_array_get(cli_at(data, "speedup_interval"), 0));
    double high = json_number_value(json_array_get(cli_at(data, "speedup_interval"), 1));
    double speedup = cli_number_at(data, "speedup");
    assert_true(low > 0 && low <= speedup && speedup <= high);
    assert_string_equal(text_at(data, "verdict"), low > 1    ? "faster"
                                                  : high < 1 ? "slower"
                                                             : "no difference");
    json_decref(data);
}

/* Each layer is its own twin, and the outputs are the same to the bit. */
static void a_model_agrees_with_itself(void **state)
{
    (void)state;
    json_t *data =
        last_data(DEMO "-c 'warmup 1; batch 4; compare demo:digits --rounds 6 --steps 3'");
    const json_t *output = json_array_get(cli_at(data, "agreement.outputs"), 0);
    assert_int_equal(cli_number_at(data, "agreement.rows"), 100); /* what was held out */
    assert_true(cli_number_at(output, "same_class_share") == 1);
    assert_true(cli_number_at(output, "difference_max") == 0);
    assert_true(cli_number_at(output, "divergence") == 0);
    size_t index;
    json_t *layer;
    assert_true(json_array_size(cli_at(data, "layers")) > 5);
    json_array_foreach(cli_at(data, "layers"), index, layer)
    {
        assert_string_equal(text_at(layer, "a"), text_at(layer, "b"));
        assert_string_equal(text_at(layer, "matched"), "name");
        assert_true(cli_number_at(layer, "a_ms") > 0 && cli_number_at(layer, "speedup") > 0);
    }
    assert_true(cli_number_at(data, "only_a.layers") == 0);
    json_decref(data);
}

/* What was there before is there again: the model with its options, or none. */
static void the_model_before_comes_back(void **state)
{
    (void)state;
    json_t *data =
        last_data(DEMO "-c 'warmup 1; batch 2; compare demo:cnn demo:mlp60 --rounds 6 --steps 1; "
                       "layers'");
    bool found = false;
    size_t index;
    json_t *layer;
    json_array_foreach(cli_at(data, "layers"), index, layer) found |=
        strcmp(text_at(layer, "name"), "predictions") == 0;
    assert_true(found);
    json_decref(data);
    cli_expect_code(
        NULL, "-c 'devices cpu; warmup 1; compare demo:cnn demo:cnn --rounds 6 --steps 1; run 1'",
        1, "error[E012]");
    cli_expect_code(NULL, DEMO "-c 'compare demo:nope; run 1'", 3, "demo:nope");
    cli_expect_code(NULL, DEMO "-k -c 'compare demo:nope' -c 'run 1; assert batch == 32'", 3, NULL);
}

static float *read_rows(const char *name, size_t *rows)
{
    char path[512];
    struct error error;
    snprintf(path, sizeof path, "%s/%s", cli_folder, name);
    struct npy_file *file = npy_open(path, &error);
    assert_non_null(file);
    const struct npy_array *array = npy_at(file, 0);
    *rows = (size_t)array->shape.dims[0];
    assert_int_equal(array->shape.dims[1], 10);
    float *copy = malloc(array->bytes);
    memcpy(copy, array->data, array->bytes);
    npy_close(file);
    return copy;
}

static size_t largest(const float *row)
{
    size_t best = 0;
    for (size_t i = 1; i < 10; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

/* The same figures out of two files of predictions. */
static void agreement_is_that_of_the_predictions(void **state)
{
    (void)state;
    char line[1024];
    snprintf(line, sizeof line,
             "-c 'devices cpu; load demo:digits; predict " HELDOUT " %s/a.npy; load demo:cnn; "
             "predict " HELDOUT " %s/b.npy'",
             cli_folder, cli_folder);
    cli_expect_code(NULL, line, 0, NULL);
    json_t *data = last_data("-c 'devices cpu; warmup 1; input " HELDOUT
                             "; compare demo:digits demo:cnn --rounds 6 --steps 1'");
    size_t rows, others;
    float *a = read_rows("a.npy", &rows), *b = read_rows("b.npy", &others);
    assert_int_equal(rows, others);
    size_t same = 0;
    double nats = 0, most = 0, square = 0;
    for (size_t r = 0; r < rows; r++) {
        const float *p = a + 10 * r, *q = b + 10 * r;
        same += largest(p) == largest(q);
        for (size_t i = 0; i < 10; i++) {
            double apart = fabs((double)p[i] - (double)q[i]);
            most = fmax(most, apart);
            square += apart * apart;
            if (p[i] > 0)
                nats += (double)p[i] * log((double)p[i] / fmax((double)q[i], 1e-12));
        }
    }
    const json_t *output = json_array_get(cli_at(data, "agreement.outputs"), 0);
    assert_int_equal(cli_number_at(data, "agreement.rows"), rows);
    assert_true(json_is_false(cli_at(data, "agreement.random")));
    double share = (double)same / (double)rows;
    assert_true(share > 0 && share < 1); /* the two are no twins */
    assert_true(fabs(cli_number_at(output, "same_class_share") - share) < 1e-9);
    nats /= (double)rows;
    assert_true(fabs(cli_number_at(output, "divergence") - nats) < 1e-4 * nats);
    assert_true(fabs(cli_number_at(output, "difference_max") - most) < 1e-5);
    double rms = sqrt(square / (10 * (double)rows));
    assert_true(fabs(cli_number_at(output, "difference_rms") - rms) < 1e-5);
    json_decref(data);
    free(a);
    free(b);
}

static void what_cannot_be_compared_is_said(void **state)
{
    (void)state;
    cli_expect_code(NULL, "-c 'compare demo:digits'", 1, "which two models");
    cli_expect_code(NULL, "-c 'compare a b c'", 1, "two models are compared");
    cli_expect_code(NULL, "-c 'compare a b --rounds 2'", 1, "compare --rounds");
    cli_expect_code(NULL, "-c 'compare a b --rounds'", 1, "needs a value");
    cli_expect_code(NULL, "-c 'compare a b --what 2'", 1, "not understood");
    /* the setting of the name is still there */
    cli_expect_code(NULL, "-c 'compare concurrent; compare'", 0, NULL);
    json_t *data = last_data(
        "-c 'devices cpu; warmup 1; batch 2; compare demo:digits demo:mlp60 --rounds 6 --steps 1'");
    assert_string_equal(text_at(data, "agreement.why"), "the two models take different inputs");
    json_decref(data);
}

static void recordings_are_held_against_each_other(void **state)
{
    (void)state;
    static const char digits[] = "tests/data/recordings/digits.ltr";
    char line[512];
    snprintf(line, sizeof line, DEMO "-c 'compare %s %s'", digits, digits);
    json_t *data = last_data(line);
    assert_true(json_is_true(cli_at(data, "recordings")));
    /* stretches begin where the playing did, a little apart */
    assert_true(fabs(cli_number_at(data, "speedup") - 1) < 0.2);
    assert_string_equal(text_at(data, "verdict"), "no difference");
    assert_true(cli_number_at(data, "a.slices") > 4);
    assert_true(cli_number_at(data, "a.batch") == 64);
    assert_true(json_array_size(cli_at(data, "layers")) > 5);
    json_decref(data);
    /* eight samples in a longer step than 64: what differs is told, and the model comes back */
    snprintf(line, sizeof line,
             DEMO "-c 'compare %s tests/data/recordings/synthetic-gpu.ltr; "
                  "assert speedup < 0.5; run 1; assert batch == 32'",
             digits);
    cli_expect_code(NULL, line, 0, NULL);
    cli_expect_code(NULL, DEMO "-c 'compare nope.ltr neither.ltr'", 1, "nope.ltr");
    snprintf(line, sizeof line, DEMO "-c 'compare %s demo:digits'", digits);
    cli_expect_code(NULL, line, 1, "a recording and a model");
}

/* ---- bench ---- */

static void habits_are_held_against_the_right_way(void **state)
{
    (void)state;
    json_t *data = last_data(DEMO "-c 'warmup 1; batch 8; bench --reuse --rounds 6 --steps 2'");
    assert_string_equal(text_at(data, "habit"), "recreate");
    assert_int_equal(cli_number_at(data, "pairs"), 6);
    double load = cli_number_at(data, "load_ms"), first = cli_number_at(data, "first_step_ms");
    double call = cli_number_at(data, "recreate_ms"), reuse = cli_number_at(data, "reuse_ms");
    assert_true(load > 0 && first > 0 && reuse > 0 && call >= load);
    assert_true(cli_number_at(data, "ratio") > 0 && json_is_boolean(cli_at(data, "differ")));
    json_decref(data);
    data = last_data(DEMO "-c 'warmup 1; batch 8; bench --single --rounds 6 --steps 2'");
    assert_string_equal(text_at(data, "habit"), "single");
    assert_int_equal(cli_number_at(data, "batch"), 8);
    assert_true(cli_number_at(data, "loop_ms") > 0 && cli_number_at(data, "batch_ms") > 0);
    json_decref(data);
    data = last_data(DEMO "-c 'bench --nosync'");
    assert_true(json_is_false(cli_at(data, "applies")));
    json_decref(data);
    cli_expect_code(NULL, DEMO "-c 'batch 1; bench --single'", 1, "nothing is batched");
    cli_expect_code(NULL, DEMO "-c 'bench --rounds 8'", 1, "which habit");
    cli_expect_code(NULL, DEMO "-c 'bench --single --nosync'", 1, "one habit at a time");
    cli_expect_code(NULL, DEMO "-c 'bench --fast'", 1, "not understood");
    cli_expect_code(NULL, DEMO "-c 'bench --single --steps 0'", 1, "bench --steps");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_match_by_name_then_by_kind),
        cmocka_unit_test(kinds_keep_their_order),
        cmocka_unit_test(models_run_in_turn),
        cmocka_unit_test(a_model_agrees_with_itself),
        cmocka_unit_test(the_model_before_comes_back),
        cmocka_unit_test(agreement_is_that_of_the_predictions),
        cmocka_unit_test(what_cannot_be_compared_is_said),
        cmocka_unit_test(samples_give_the_interval_of_mann_and_whitney),
        cmocka_unit_test(recordings_are_held_against_each_other),
        cmocka_unit_test(habits_are_held_against_the_right_way),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
