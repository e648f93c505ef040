/* What a precision and pruned weights cost: zeros where they belong, and figures on held-out digits
 * that the calibration did not see. */
#include "engine/npy.h"
#include "engine/prune.h"
#include "engine/session_private.h"
#include "tests/support/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELDOUT "share/layertop/demo/digits/heldout_x.npy"
#define LABELS  "share/layertop/demo/digits/heldout_y.npy"
#define TRAIN   "share/layertop/demo/digits/train_x.npz"

/* ---- zeros ---- */

static size_t zeros_in(const float *values, size_t count)
{
    size_t zeros = 0;
    for (size_t i = 0; i < count; i++)
        zeros += values[i] == 0;
    return zeros;
}

static void the_smallest_become_zero(void **state)
{
    (void)state;
    float few[6] = {3, -1, 2, -4, 1, 5};
    prune_smallest(few, 6, 0.34); /* two of six */
    const float want[6] = {3, 0, 2, -4, 0, 5};
    assert_memory_equal(few, want, sizeof few);
    float equal[4] = {1, -1, 1, 1};
    prune_smallest(equal, 4, 0.5);
    const float first[4] = {0, 0, 1, 1};
    assert_memory_equal(equal, first, sizeof equal);
    prune_smallest(equal, 4, 0);
    assert_int_equal(zeros_in(equal, 4), 2);
    prune_smallest(equal, 4, 1);
    assert_int_equal(zeros_in(equal, 4), 4);
    size_t count = 10007;
    float *many = xmalloc(count * sizeof *many);
    uint64_t random = 1;
    for (size_t i = 0; i < count; i++)
        many[i] = tiny_random(&random) * 1e-3F;
    prune_smallest(many, count, 0.7);
    assert_int_equal(zeros_in(many, count), 7004);
    float least = INFINITY;
    for (size_t i = 0; i < count; i++)
        least = many[i] != 0 ? fminf(least, fabsf(many[i])) : least;
    assert_true(least > 0.68e-3F && least < 0.72e-3F); /* of evenly spread ones */
    free(many);
}

static void two_of_four_along_an_axis(void **state)
{
    (void)state;
    /* (6, 2): the first four of each column, and two that are left over */
    struct shape shape = {.rank = 2, .dims = {6, 2}};
    float weights[12] = {1, 9, -3, 8, 2, -7, 4, 6, 0.5F, 1, 0.25F, 2};
    prune_two_of_four(weights, &shape, 0);
    const float want[12] = {0, 9, -3, 8, 0, 0, 4, 0, 0.5F, 1, 0.25F, 2};
    assert_memory_equal(weights, want, sizeof weights);
    struct sparsity sparsity = {0};
    sparsity_count(weights, &shape, 0, &sparsity);
    assert_int_equal(sparsity.elements, 12);
    assert_int_equal(sparsity.zeros, 4);
    assert_int_equal(sparsity.fours, 2);
    assert_int_equal(sparsity.two_of_four, 2);
    weights[2] = weights[3] = 0; /* of the last axis there is no group of four */
    struct sparsity last = {0};
    sparsity_count(weights, &shape, 1, &last);
    assert_int_equal(last.fours, 0);
    float row[8] = {1, 2, 3, 4, 8, 7, 6, 5};
    struct shape rows = {.rank = 2, .dims = {1, 8}};
    prune_two_of_four(row, &rows, 1);
    const float kept[8] = {0, 0, 3, 4, 8, 7, 0, 0};
    assert_memory_equal(row, kept, sizeof row);
}

/* ---- the session ---- */

static atomic_bool cancel;
static struct error last_error;

static void on_progress(void *context, uint64_t request, double fraction, const char *text)
{
    (void)context, (void)request, (void)fraction, (void)text;
}

static void on_plan(void *context, const json_t *plan)
{
    (void)context, (void)plan;
}

static json_t *ask(struct session *session, enum error_code code, const char *verb,
                   json_t *arguments)
{
    last_error = (struct error){0};
    json_t *reply = session_execute(session, 1, verb, arguments, &last_error);
    session_replied(session);
    json_decref(arguments);
    if (last_error.code != code)
        fail_msg("%s: E%03d %s: %s", verb, (int)last_error.code, last_error.what, last_error.why);
    return reply;
}

static void expect(struct session *session, enum error_code code, const char *verb,
                   json_t *arguments)
{
    json_decref(ask(session, code, verb, arguments));
}

static void set(struct session *session, const char *key, const char *value)
{
    expect(session, ERROR_NONE, "set", json_pack("{s:s, s:s}", "key", key, "value", value));
}

static double number(const json_t *reply, const char *key)
{
    const json_t *value = json_object_get(reply, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static const struct worker_hooks hooks;
static const struct session_ports ports = {NULL, on_progress, on_plan, &cancel};

static struct session *with_digits(void)
{
    struct session *session = session_new(&hooks, &ports);
    expect(session, ERROR_NONE, "configure",
           json_pack("{s:{s:[s], s:i}}", "settings", "devices", "cpu", "batch", 8));
    expect(session, ERROR_NONE, "load", json_pack("{s:s}", "path", "demo:digits"));
    return session;
}

static json_t *data(const char *input, const char *labels)
{
    json_t *arguments = json_pack("{s:s}", "input", input);
    if (labels)
        json_object_set_new(arguments, "labels", json_string(labels));
    return arguments;
}

/* The bar: within one point of fp32, by every method, on scans that neither training nor calibration
 * saw. */
static void int8_reads_the_digits(void **state)
{
    (void)state;
    static const char *const methods[] = {"minmax", "percentile", "entropy"};
    struct session *session = with_digits();
    for (size_t i = 0; i < 3; i++) {
        set(session, "precision", "fp32");
        expect(session, ERROR_NONE, "calibrate", json_pack("{s:s}", "method", methods[i]));
        set(session, "precision", "int8");
        json_t *reply = ask(session, ERROR_NONE, "evaluate", json_object());
        double accuracy = number(reply, "accuracy"), fp32 = number(reply, "reference_accuracy");
        if (!(fp32 > 0.98 && accuracy >= fp32 - 0.01 && number(reply, "agreement") >= 0.99))
            fail_msg("%s: %g of %g", methods[i], accuracy, fp32);
        assert_true(number(reply, "rows") == 100 && number(reply, "rows_of_calibration") == 0);
        const json_t *logits = json_object_get(reply, "logit_error");
        assert_true(number(logits, "max") > 0 && number(logits, "max") < 2);
        assert_true(number(logits, "mean") < number(logits, "max"));
        json_decref(reply);
    }
    session_free(session);
}

static void rows_of_the_calibration_do_not_count(void **state)
{
    (void)state;
    struct session *session = with_digits();
    json_t *some = data(HELDOUT, NULL);
    json_object_set_new(some, "rows", json_integer(30));
    expect(session, ERROR_NONE, "calibrate", some);
    json_t *reply = ask(session, ERROR_NONE, "evaluate", data(HELDOUT, LABELS));
    assert_true(number(reply, "rows") == 100); /* in fp32 there is nothing to flatter */
    json_decref(reply);
    set(session, "precision", "int8");
    reply = ask(session, ERROR_NONE, "evaluate", data(HELDOUT, LABELS));
    assert_true(number(reply, "rows") == 70 && number(reply, "rows_of_calibration") == 30);
    assert_true(number(reply, "accuracy") > 0.95);
    json_decref(reply);
    expect(session, ERROR_NONE, "calibrate", data(HELDOUT, NULL));
    expect(session, ERROR_INPUT, "evaluate", data(HELDOUT, LABELS));
    expect(session, ERROR_NONE, "evaluate", data(TRAIN, NULL));
    expect(session, ERROR_INPUT, "evaluate", data(TRAIN, LABELS)); /* 128 rows, 100 labels */
    expect(session, ERROR_FILE, "evaluate", data("tests/absent.npy", NULL));
    session_free(session);
}

static void labels_may_be_one_hot(void **state)
{
    (void)state;
    char path[] = "/tmp/layertop-labels-XXXXXX.npy";
    int descriptor = mkstemps(path, 4);
    assert_true(descriptor >= 0);
    close(descriptor);
    struct npy_file *file = npy_open(LABELS, NULL);
    assert_non_null(file);
    const unsigned char *labels = npy_at(file, 0)->data;
    float hot[1000] = {0};
    for (int i = 0; i < 100; i++)
        hot[10 * i + labels[i]] = 1;
    npy_close(file);
    struct npy_array array = {.name = "",
                              .dtype = DTYPE_F32,
                              .shape = {.rank = 2, .dims = {100, 10}},
                              .data = hot,
                              .bytes = sizeof hot};
    assert_true(npy_write(path, &array, 1, NULL));
    struct session *session = with_digits();
    json_t *reply = ask(session, ERROR_NONE, "evaluate", data(HELDOUT, path));
    assert_true(number(reply, "accuracy") > 0.98);
    json_decref(reply);
    session_free(session);
    unlink(path);
}

static void what_is_not_finite_is_counted(void **state)
{
    (void)state;
    const float a[] = {1, NAN, INFINITY, NAN, INFINITY, -INFINITY, 2};
    const float reference[] = {1.5F, 3, 4, NAN, INFINITY, INFINITY, INFINITY};
    struct difference difference = {0};
    session_compare(&difference, a, reference, 7);
    assert_int_equal(difference.broken, 4);
    assert_int_equal(difference.count, 3);
    assert_true(difference.most == 0.5 && difference.sum == 0.5 && difference.largest == 1.5);
}

static void weights_are_pruned_and_come_back(void **state)
{
    (void)state;
    struct session *session = with_digits();
    json_t *reply = ask(session, ERROR_NONE, "sparsity", json_object());
    assert_true(number(reply, "zero_share") < 0.01);
    json_decref(reply);
    set(session, "prune", "0.4");
    reply = ask(session, ERROR_NONE, "sparsity", json_object());
    assert_true(fabs(number(reply, "zero_share") - 0.4) < 0.001);
    assert_true(json_array_size(json_object_get(reply, "layers")) == 6);
    json_decref(reply);
    reply = ask(session, ERROR_NONE, "evaluate", json_object());
    assert_true(number(json_object_get(reply, "output_error"), "max") > 1e-3);
    assert_string_equal(json_string_value(json_object_get(reply, "reference")),
                        "cpu, fp32, not pruned");
    assert_true(number(reply, "reference_accuracy") > 0.98);
    json_decref(reply);
    /* pruned and in bytes */
    expect(session, ERROR_NONE, "calibrate", json_object());
    set(session, "precision", "int8");
    expect(session, ERROR_NONE, "run", json_pack("{s:i}", "steps", 2));
    /* what is exported has the zeros, and another model is pruned too */
    char path[] = "/tmp/layertop-pruned-XXXXXX.keras";
    int descriptor = mkstemps(path, 6);
    assert_true(descriptor >= 0);
    close(descriptor);
    unlink(path);
    set(session, "prune", "2:4");
    expect(session, ERROR_NONE, "export", json_pack("{s:s}", "path", path));
    set(session, "precision", "fp32");
    set(session, "prune", "off");
    reply = ask(session, ERROR_NONE, "evaluate", json_object());
    assert_true(number(json_object_get(reply, "output_error"), "max") == 0);
    json_decref(reply);
    expect(session, ERROR_NONE, "load", json_pack("{s:s}", "path", path));
    reply = ask(session, ERROR_NONE, "sparsity", json_object());
    assert_true(number(reply, "two_of_four_share") == 1);
    json_decref(reply);
    set(session, "prune", "90%");
    expect(session, ERROR_NONE, "load", json_pack("{s:s}", "path", "demo:digits"));
    reply = ask(session, ERROR_NONE, "sparsity", json_object());
    assert_true(fabs(number(reply, "zero_share") - 0.9) < 0.001);
    json_decref(reply);
    for (size_t i = 0; i < 4; i++) {
        static const char *const wrong[] = {"1", "-0.1", "half", "4:8"};
        expect(session, ERROR_VALUE, "set",
               json_pack("{s:s, s:s}", "key", "prune", "value", wrong[i]));
    }
    session_free(session);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_become_zero),
        cmocka_unit_test(two_of_four_along_an_axis),
        cmocka_unit_test(int8_reads_the_digits),
        cmocka_unit_test(rows_of_the_calibration_do_not_count),
        cmocka_unit_test(labels_may_be_one_hot),
        cmocka_unit_test(what_is_not_finite_is_counted),
        cmocka_unit_test(weights_are_pruned_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
