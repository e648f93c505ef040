/* Out of memory as a feature: what a batch needs is known before it runs, the largest batch is right
 * to the sample, and running into the wall costs nothing. */
#include "engine/session_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct bench {
    struct session *session;
    struct session_ports ports;
    struct worker_hooks hooks;
    atomic_bool cancel;
    json_t *plan;
    uint64_t next_id;
    struct error error;
};

static void on_progress(void *context, uint64_t id, double fraction, const char *text)
{
    (void)context, (void)id, (void)fraction, (void)text;
}

static void on_plan(void *context, const json_t *plan)
{
    struct bench *bench = context;
    json_decref(bench->plan);
    bench->plan = plan != NULL ? json_deep_copy(plan) : NULL;
}

static json_t *ask(struct bench *bench, const char *verb, json_t *arguments)
{
    bench->error = (struct error){0};
    json_t *reply =
        session_execute(bench->session, ++bench->next_id, verb, arguments, &bench->error);
    session_replied(bench->session);
    json_decref(arguments);
    return reply;
}

static void must(struct bench *bench, const char *verb, json_t *arguments)
{
    json_t *reply = ask(bench, verb, arguments);
    if (reply == NULL)
        fail_msg("%s: %s: %s", verb, bench->error.what, bench->error.why);
    json_decref(reply);
}

static bool set(struct bench *bench, const char *key, json_t *value, bool force)
{
    json_t *reply =
        ask(bench, "set",
            json_pack("{s:s, s:o, s:b}", "key", key, "value", value, "force", (int)force));
    json_decref(reply);
    return reply != NULL;
}

static struct bench *with_model(const char *path, int batch)
{
    struct bench *bench = xcalloc(1, sizeof *bench);
    bench->ports = (struct session_ports){bench, on_progress, on_plan, &bench->cancel};
    bench->session = session_new(&bench->hooks, &bench->ports);
    must(bench, "configure",
         json_pack("{s:{s:[s], s:i, s:i}}", "settings", "devices", "cpu", "batch", batch, "threads",
                   1));
    must(bench, "load", json_pack("{s:s}", "path", path));
    return bench;
}

static void bench_free(struct bench *bench)
{
    session_free(bench->session);
    free(bench);
}

static json_int_t integer(const json_t *json, const char *key, const char *inner)
{
    json = json_object_get(json, key);
    if (inner != NULL)
        json = json_object_get(json, inner);
    assert_true(json_is_integer(json));
    return json_integer_value(json);
}

#define DIGITS "share/layertop/demo/digits/digits.h5"

/* ---- the forecast is what the plan then is ---- */

static void check_forecasts(const char *path, const char *precision, const int *batches,
                            size_t count)
{
    struct bench *bench = with_model(path, 3);
    if (!set(bench, "precision", json_string(precision), false))
        count = 0; /* this processor has none */
    for (size_t i = 0; i < count; i++) {
        json_t *forecast = ask(bench, "plan", json_pack("{s:i}", "batch", batches[i]));
        assert_non_null(forecast);
        assert_true(set(bench, "batch", json_integer(batches[i]), false));
        static const char *const terms[] = {"weights_bytes", "arena_bytes", "workspace_bytes",
                                            "planned_bytes", "peak_live_bytes"};
        for (size_t j = 0; j < sizeof terms / sizeof *terms; j++) {
            json_int_t said = integer(forecast, "memory", terms[j]);
            json_int_t is = integer(bench->plan, "memory", terms[j]);
            if (said != is)
                fail_msg("%s batch %d: %s: said %lld, is %lld", path, batches[i], terms[j],
                         (long long)said, (long long)is);
        }
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(forecast, "memory"), "peak_layer")),
            json_string_value(
                json_object_get(json_object_get(bench->plan, "memory"), "peak_layer")));
        /* what lives at the peak is the peak, as far as the list goes */
        json_int_t sum = 0;
        size_t index;
        json_t *tensor;
        json_array_foreach(json_object_get(forecast, "live"), index, tensor) sum +=
            integer(tensor, "bytes", NULL);
        assert_true(sum > 0);
        json_decref(forecast);
    }
    bench_free(bench);
}

static void a_forecast_is_what_the_plan_is(void **state)
{
    (void)state;
    check_forecasts(DIGITS, "fp32", (const int[]){1, 2, 17, 256, 4, 64}, 6);
    check_forecasts("demo:cnn", "fp32", (const int[]){1, 32, 5}, 3);
    check_forecasts("demo:mobilenetv2", "fp32", (const int[]){1, 16, 7}, 3);
    check_forecasts("demo:mobilenetv2", "bf16", (const int[]){16, 3}, 2);
}

/* ---- the wall ---- */

static void the_largest_batch_is_right_to_the_sample(void **state)
{
    (void)state;
    static const json_int_t limits[] = {3 << 20, 5000000, 8 << 20};
    struct bench *bench = with_model(DIGITS, 1);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        assert_true(set(bench, "limit", json_integer(limits[i]), false));
        json_t *largest = ask(bench, "largest", json_object());
        json_int_t fits = integer(largest, "fits", NULL);
        assert_true(fits > 1 && fits < 65536);
        assert_true(integer(largest, "planned_bytes", NULL) <= limits[i]);
        assert_true(integer(largest, "next_bytes", NULL) > limits[i]);
        assert_true(set(bench, "batch", json_integer(fits), false));
        assert_false(set(bench, "batch", json_integer(fits + 1), false));
        assert_int_equal(bench->error.code, ERROR_MEMORY_LIMIT);
        char hint[64];
        snprintf(hint, sizeof hint, "batch %lld", (long long)fits);
        assert_string_equal(bench->error.hint, hint);
        /* the same from the other side: with the forecast overruled the system refuses it */
        assert_false(set(bench, "batch", json_integer(fits + 1000), true));
        assert_int_equal(bench->error.code, ERROR_MEMORY);
        assert_non_null(strstr(bench->error.why, "Cannot allocate memory"));
        assert_int_equal(integer(bench->plan, "batch", NULL), fits);
        must(bench, "run", json_pack("{s:i, s:i}", "steps", 1, "warmup", 0));
        json_decref(largest);
        assert_true(set(bench, "batch", json_integer(1), false));
    }
    /* room to leave alone */
    json_t *all = ask(bench, "largest", json_object());
    json_t *some = ask(bench, "largest", json_pack("{s:i}", "headroom_bytes", 4 << 20));
    json_t *half = ask(bench, "largest", json_pack("{s:f}", "headroom_share", 0.5));
    assert_true(integer(some, "fits", NULL) < integer(all, "fits", NULL));
    assert_int_equal(integer(some, "fits", NULL), integer(half, "fits", NULL));
    assert_int_equal(integer(half, "headroom_bytes", NULL), 4 << 20);
    json_decref(all);
    json_decref(some);
    json_decref(half);
    bench_free(bench);
}

/* A batch that is cut into slices needs less than a smaller one that is not: the search must not
 * stop at the first wall. */
static void slices_do_not_hide_a_larger_batch(void **state)
{
    (void)state;
    struct bench *bench = with_model("demo:mobilenetv2", 1);
    json_t *small = ask(bench, "plan", json_pack("{s:i}", "batch", 7));
    json_t *large = ask(bench, "plan", json_pack("{s:i}", "batch", 24));
    if (integer(small, "memory", "arena_bytes") > integer(large, "memory", "arena_bytes")) {
        json_int_t limit = integer(large, "memory", "planned_bytes");
        assert_true(set(bench, "limit", json_integer(limit), false));
        json_t *largest = ask(bench, "largest", json_object());
        assert_true(integer(largest, "fits", NULL) >= 24);
        json_decref(largest);
    }
    json_decref(small);
    json_decref(large);
    bench_free(bench);
}

static void the_report_has_the_facts(void **state)
{
    (void)state;
    struct bench *bench = with_model(DIGITS, 4);
    json_t *none = ask(bench, "oom", json_object());
    assert_null(none);
    assert_true(set(bench, "limit", json_integer(4 << 20), false));
    assert_false(set(bench, "batch", json_integer(60000), false));
    assert_string_equal(bench->error.what, "batch 60000");
    assert_non_null(strstr(bench->error.why, "refused before running: it needs"));
    json_t *report = ask(bench, "oom", json_object());
    assert_non_null(report);
    assert_int_equal(integer(report, "batch", NULL), 60000);
    assert_true(json_is_true(json_object_get(report, "forecast")));
    assert_string_equal(json_string_value(json_object_get(report, "cause")), "limit");
    assert_int_equal(integer(report, "free_bytes", NULL), 4 << 20);
    assert_int_equal(integer(report, "asked_bytes", NULL),
                     integer(report, "memory", "weights_bytes") +
                         integer(report, "memory", "arena_bytes") +
                         integer(report, "memory", "workspace_bytes"));
    assert_true(json_string_length(json_object_get(report, "layer")) > 0);
    const json_t *live = json_object_get(report, "live");
    assert_in_range(json_array_size(live), 1, 5);
    for (size_t i = 1; i < json_array_size(live); i++)
        assert_true(integer(json_array_get(live, i - 1), "bytes", NULL) >=
                    integer(json_array_get(live, i), "bytes", NULL));
    assert_true(json_is_array(json_object_get(report, "processes")));
    assert_true(integer(report, "fits", "fp32") >= 4);
    json_decref(report);
    /* a limit below one sample: no batch can be named */
    assert_true(set(bench, "batch", json_integer(1), false));
    assert_false(set(bench, "limit", json_integer(1000), false));
    bench_free(bench);
}

static void two_hundred_times_out_of_memory_leave_nothing(void **state)
{
    (void)state;
    struct bench *bench = with_model(DIGITS, 8);
    assert_true(set(bench, "limit", json_integer(3 << 20), false));
    uint64_t before = 0;
    for (int i = 0; i < 200; i++) {
        assert_false(set(bench, "batch", json_integer(20000 + i), i % 2 != 0));
        assert_int_equal(bench->error.code, i % 2 ? ERROR_MEMORY : ERROR_MEMORY_LIMIT);
        assert_int_equal(integer(bench->plan, "batch", NULL), 8);
        if (i == 20)
            before = session_resident_bytes();
    }
    uint64_t after = session_resident_bytes();
#ifdef __SANITIZE_ADDRESS__
    uint64_t most = 8 << 20; /* AddressSanitizer keeps what was freed; it looks for leaks itself */
#else
    uint64_t most = 512 << 10;
#endif
    if (after > before + most)
        fail_msg("180 failures left %llu bytes", (unsigned long long)(after - before));
    must(bench, "run", json_pack("{s:i, s:i}", "steps", 2, "warmup", 0));
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forecast_is_what_the_plan_is),
        cmocka_unit_test(the_largest_batch_is_right_to_the_sample),
        cmocka_unit_test(slices_do_not_hide_a_larger_batch),
        cmocka_unit_test(the_report_has_the_facts),
        cmocka_unit_test(two_hundred_times_out_of_memory_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
