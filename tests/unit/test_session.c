/* The session with the real reader and the CPU backend: requests in, replies and events out. */
#include "engine/clock.h"
#include "engine/session_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a listener that counts ---- */

struct bench {
    struct session *session;
    struct session_ports ports;
    struct worker_hooks hooks;
    struct observer observer;
    atomic_bool cancel;
    int cancel_after_steps;

    char
        log[4096]; /* what happened, a letter each: P plan, p no plan, S segment, s step, F flush */
    const struct graph *graph;
    const char *const *impls;
    uint32_t segment;
    uint64_t steps, segment_steps, ops, last_step;
    int64_t begun_ns, in_ops_ns;
    double unexplained_ms; /* of the last step: wall minus its ops */
    json_t *plan;
    int progress;
    uint64_t next_id;
    struct error error;
};

static void note(struct bench *bench, char what)
{
    size_t used = strlen(bench->log);
    if (used + 1 < sizeof bench->log)
        bench->log[used] = what;
}

static void on_plan(void *context, const char *device, const struct graph *graph,
                    const char *const *impls)
{
    struct bench *bench = context;
    assert_string_equal(device, "cpu");
    bench->graph = graph;
    bench->impls = impls;
    note(bench, graph != NULL ? 'O' : 'o');
}

static void on_segment(void *context, uint32_t segment)
{
    struct bench *bench = context;
    bench->segment = segment;
    note(bench, 'S');
}

static void on_step_begin(void *context, uint64_t step, int64_t start_ns)
{
    struct bench *bench = context;
    assert_non_null(bench->graph); /* nobody runs what the listener was not told of */
    assert_true(step > bench->last_step);
    bench->last_step = step;
    bench->begun_ns = start_ns;
    bench->in_ops_ns = 0;
}

static void on_step_end(void *context, uint64_t step, int64_t end_ns)
{
    struct bench *bench = context;
    assert_true(step == bench->last_step);
    bench->steps++;
    bench->segment_steps += bench->segment != 0;
    bench->unexplained_ms = (double)(end_ns - bench->begun_ns - bench->in_ops_ns) / 1e6;
    if (bench->cancel_after_steps > 0 && --bench->cancel_after_steps == 0)
        atomic_store(&bench->cancel, true);
}

static void on_op_end(void *context, int op, enum interval_class class, int64_t start_ns,
                      int64_t end_ns)
{
    struct bench *bench = context;
    (void)class;
    assert_true(op >= 0 && (size_t)op < bench->graph->op_count);
    bench->ops++;
    bench->in_ops_ns += end_ns - start_ns;
}

static void on_flush(void *context)
{
    note(context, 'F');
}

static void on_progress(void *context, uint64_t id, double fraction, const char *text)
{
    struct bench *bench = context;
    (void)id;
    (void)text;
    assert_true(isnan(fraction) || (fraction >= 0 && fraction <= 1));
    bench->progress++;
}

static void on_plan_event(void *context, const json_t *plan)
{
    struct bench *bench = context;
    json_decref(bench->plan);
    bench->plan = plan != NULL ? json_deep_copy(plan) : NULL;
    note(bench, plan != NULL ? 'P' : 'p');
}

static struct bench *bench_new(void)
{
    struct bench *bench = xcalloc(1, sizeof *bench);
    bench->observer = (struct observer){.context = bench,
                                        .plan = on_plan,
                                        .segment = on_segment,
                                        .step_begin = on_step_begin,
                                        .step_end = on_step_end,
                                        .op_end = on_op_end};
    bench->hooks =
        (struct worker_hooks){.context = bench, .observer = &bench->observer, .flush = on_flush};
    bench->ports = (struct session_ports){bench, on_progress, on_plan_event, &bench->cancel};
    bench->session = session_new(&bench->hooks, &bench->ports);
    return bench;
}

static void bench_free(struct bench *bench)
{
    session_free(bench->session);
    assert_null(bench->plan);
    free(bench);
}

/* Execute; arguments as JSON text with ' for ". Returns a new reference or NULL. */
static json_t *ask(struct bench *bench, const char *verb, const char *arguments)
{
    char *text = xstrdup(arguments);
    for (char *at = text; *at != '\0'; at++)
        *at = *at == '\'' ? '"' : *at;
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    bench->error = (struct error){0};
    json_t *reply = session_execute(bench->session, ++bench->next_id, verb, json, &bench->error);
    session_replied(bench->session);
    assert_int_equal(reply == NULL, bench->error.code != ERROR_NONE);
    json_decref(json);
    free(text);
    return reply;
}

static void expect_ok(struct bench *bench, const char *verb, const char *arguments)
{
    json_t *reply = ask(bench, verb, arguments);
    if (reply == NULL)
        fail_msg("%s %s: %s: %s", verb, arguments, bench->error.what, bench->error.why);
    json_decref(reply);
}

static void expect_error(struct bench *bench, enum error_code code, const char *verb,
                         const char *arguments)
{
    json_t *reply = ask(bench, verb, arguments);
    if (reply != NULL || bench->error.code != code)
        fail_msg("%s %s: code %d, %s", verb, arguments, bench->error.code, bench->error.why);
}

static double number_at(const json_t *json, const char *key, const char *inner)
{
    json = json_object_get(json, key);
    if (inner != NULL)
        json = json_object_get(json, inner);
    assert_true(json_is_number(json));
    return json_number_value(json);
}

static struct bench *with_model(void)
{
    struct bench *bench = bench_new();
    expect_ok(bench, "configure", "{'settings': {'devices': ['cpu'], 'batch': 4, 'threads': 1}}");
    expect_ok(bench, "load", "{'path': 'share/layertop/demo/digits/digits.h5'}");
    return bench;
}

/* ---- tests ---- */

static void nothing_runs_without_a_model(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    const char *verbs[] = {"run", "start", "predict", "plan", "unload"};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        expect_error(bench, ERROR_NO_MODEL, verbs[i], "{}");
    expect_ok(bench, "stop", "{}");
    expect_ok(bench, "memory", "{}");
    expect_ok(bench, "trim", "{}");
    expect_error(bench, ERROR_UNKNOWN_COMMAND, "fly", "{}");
    assert_false(session_open(bench->session));
    bench_free(bench);
}

static void a_load_tells_the_model_then_its_plan(void **state)
{
    (void)state;
    struct bench *bench = bench_new();
    expect_ok(bench, "configure", "{'settings': {'devices': ['cpu'], 'batch': 4, 'threads': 1}}");
    json_t *request = json_pack("{s:s}", "path", "share/layertop/demo/digits/digits.h5");
    struct error error = {0};
    json_t *reply = session_execute(bench->session, 9, "load", request, &error);
    assert_non_null(reply);
    assert_null(bench->plan); /* it follows the reply */
    session_replied(bench->session);
    assert_non_null(bench->plan);
    assert_true(number_at(reply, "load_ms", NULL) > 0);
    assert_string_equal(json_string_value(json_object_get(reply, "name")), "digits");
    const json_t *layers = json_object_get(bench->plan, "layers");
    assert_int_equal(json_array_size(layers), json_array_size(json_object_get(reply, "layers")));
    assert_true(number_at(bench->plan, "memory", "planned_bytes") >=
                number_at(bench->plan, "memory", "arena_bytes"));
    assert_true(number_at(bench->plan, "flops", NULL) > 1e6);
    bool named = false;
    for (size_t i = 0; i < json_array_size(layers); i++)
        named |= json_is_string(json_object_get(json_array_get(layers, i), "impl"));
    assert_true(named);
    json_decref(reply);
    json_decref(request);
    bench_free(bench);
}

static void a_run_counts_what_it_measures(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    memset(bench->log, 0, sizeof bench->log);
    bench->steps = 0;
    json_t *reply = ask(bench, "run", "{'steps': 40, 'warmup': 3}");
    assert_true(number_at(reply, "steps", NULL) == 40);
    assert_true(number_at(reply, "warmup", NULL) == 3);
    assert_true(number_at(reply, "segment", NULL) == (double)bench->next_id);
    assert_int_equal(bench->steps, 43);
    assert_int_equal(bench->segment_steps, 40);
    assert_int_equal(bench->segment, 0);
    /* the records of the steps precede the reply */
    assert_int_equal(bench->log[strlen(bench->log) - 1], 'F');
    double min = number_at(reply, "wall_ms", "min"), median = number_at(reply, "wall_ms", "median");
    double p95 = number_at(reply, "wall_ms", "p95"), mean = number_at(reply, "wall_ms", "mean");
    assert_true(0 < min && min <= median && median <= p95);
    /* back to back: no more samples in the time than the steps themselves allow */
    double rate = number_at(reply, "throughput_per_s", NULL);
    assert_true(rate <= 4 / (mean / 1e3) * 1.0001 && rate > 4 / (mean / 1e3) * 0.1);
    assert_true(json_is_boolean(json_object_get(reply, "steady")));
    assert_true(number_at(reply, "preempted_steps", NULL) <= 40);
    assert_true(number_at(reply, "memory", "planned_bytes") > 0);
    json_decref(reply);
    reply = ask(bench, "run", "{'steps': 2, 'warmup': 0}");
    assert_true(json_is_null(json_object_get(reply, "steady")));
    json_decref(reply);
    expect_error(bench, ERROR_VALUE, "run", "{'steps': 0}");
    expect_error(bench, ERROR_VALUE, "run", "{'steps': 1, 'warmup': -1}");
    bench_free(bench);
}

static void a_cancelled_run_stops(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    bench->cancel_after_steps = 5;
    expect_error(bench, ERROR_INTERRUPTED, "run", "{'steps': 1000000, 'warmup': 0}");
    assert_non_null(strstr(bench->error.why, "after 5 of 1000000"));
    atomic_store(&bench->cancel, false);
    expect_ok(bench, "run", "{'steps': 1, 'warmup': 0}");
    bench_free(bench);
}

static void what_no_interval_explains_shows(void **state)
{
    (void)state;
    setenv("LAYERTOP_TEST_STEP_SLEEP", "20", 1);
    struct bench *bench = with_model();
    unsetenv("LAYERTOP_TEST_STEP_SLEEP");
    json_t *reply = ask(bench, "run", "{'steps': 2, 'warmup': 0}");
    assert_true(bench->unexplained_ms >= 19);
    assert_true(number_at(reply, "wall_ms", "min") >= 20);
    json_decref(reply);
    bench_free(bench);
}

static void a_set_replans_and_a_refused_one_does_not(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    json_t *reply = ask(bench, "set", "{'key': 'batch', 'value': 8}");
    assert_true(json_is_true(json_object_get(reply, "replanned")));
    assert_true(json_is_false(json_object_get(reply, "restart")));
    json_decref(reply);
    assert_true(number_at(bench->plan, "batch", NULL) == 8);

    const struct graph *kept = bench->graph;
    static const struct {
        enum error_code code;
        const char *arguments;
    } refused[] = {
        {ERROR_VALUE, "{'key': 'batch', 'value': 0}"},
        {ERROR_VALUE, "{'key': 'batch', 'value': 65537}"},
        {ERROR_VALUE, "{'key': 'batch', 'value': 'many'}"},
        {ERROR_VALUE, "{'key': 'precision', 'value': 'fp7'}"},
        {ERROR_UNSUPPORTED, "{'key': 'precision', 'value': 'tf32'}"},
        {ERROR_VALUE, "{'key': 'precision', 'value': 'int8'}"}, /* not calibrated */
        {ERROR_VALUE, "{'key': 'devices', 'value': ['tpu']}"},
        {ERROR_VALUE, "{'key': 'devices', 'value': []}"},
        {ERROR_VALUE, "{'key': 'devices', 'value': ['cpu', '/CPU:0']}"},
        {ERROR_VALUE, "{'key': 'logical', 'value': {'count': 0, 'bytes': 5}}"},
        {ERROR_VALUE, "{'key': 'logical', 'value': '2x4GiB'}"},
        {ERROR_VALUE, "{'key': 'compare', 'value': 'sometimes'}"},
        {ERROR_VALUE, "{'key': 'limit', 'value': -1}"},
        {ERROR_VALUE, "{'key': 'limit', 'value': '101%'}"},
        {ERROR_MEMORY_LIMIT, "{'key': 'limit', 'value': 1000}"},
        {ERROR_VALUE, "{'key': 'threads', 'value': -1}"},
        {ERROR_VALUE, "{'key': 'fusion', 'value': 3}"},
        {ERROR_VALUE, "{'key': 'fallback', 'value': 'gpu'}"},
        {ERROR_FILE, "{'key': 'input', 'value': 'tests/absent.npy'}"},
        {ERROR_INPUT, "{'key': 'input', 'value': 'tests/data/arrays/float32.npy'}"},
        {ERROR_UNKNOWN_COMMAND, "{'key': 'colour', 'value': 1}"},
        {ERROR_SYNTAX, "{'key': 'batch'}"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        expect_error(bench, refused[i].code, "set", refused[i].arguments);
    assert_ptr_equal(bench->graph, kept);
    assert_true(number_at(bench->plan, "batch", NULL) == 8);
    expect_ok(bench, "run", "{'steps': 1, 'warmup': 0}");
    /* the kept values are the old ones: setting them again changes nothing */
    reply = ask(bench, "set", "{'key': 'batch', 'value': 8}");
    assert_true(json_is_false(json_object_get(reply, "replanned")));
    json_decref(reply);
    bench_free(bench);
}

static void a_batch_past_the_limit_keeps_the_old_plan(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    expect_ok(bench, "set", "{'key': 'limit', 'value': 4194304}");
    expect_error(bench, ERROR_MEMORY_LIMIT, "set", "{'key': 'batch', 'value': 4096}");
    assert_non_null(bench->plan);
    assert_true(number_at(bench->plan, "batch", NULL) == 4);
    expect_ok(bench, "run", "{'steps': 2, 'warmup': 0}");
    json_t *reply = ask(bench, "plan", "{'batch': 4096}");
    assert_true(json_is_false(json_object_get(reply, "fits")));
    json_decref(reply);
    /* two plans do not fit beside each other, but one in the other's place does */
    expect_ok(bench, "set", "{'key': 'batch', 'value': 32}");
    expect_ok(bench, "set", "{'key': 'batch', 'value': 33}");
    expect_ok(bench, "run", "{'steps': 1, 'warmup': 0}");
    bench_free(bench);
}

/* A plan may come to stick out above a fence that stands (constants computed while it was made):
 * only a fence that is new is held against it, so that a smaller batch leads back. */
static void a_standing_limit_refuses_no_smaller_batch(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    expect_ok(bench, "set", "{'key': 'batch', 'value': 64}");
    uint64_t planned = session_planned_bytes(bench->session, &bench->session->slots[0]);
    bench->session->settings.limit_bytes = planned - 1;
    expect_ok(bench, "set", "{'key': 'batch', 'value': 2}");
    expect_ok(bench, "run", "{'steps': 1, 'warmup': 0}");
    char limit[80];
    planned = session_planned_bytes(bench->session, &bench->session->slots[0]);
    snprintf(limit, sizeof limit, "{'key': 'limit', 'value': %llu}",
             (unsigned long long)(planned - 1));
    expect_error(bench, ERROR_MEMORY_LIMIT, "set", limit);
    bench_free(bench);
}

/* A listener may stop listening to ops between two steps: from then on nobody calls it for them. */
static void what_is_not_listened_to_is_not_told(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    expect_ok(bench, "run", "{'steps': 1, 'warmup': 0}");
    uint64_t ops = bench->ops;
    assert_true(ops > 0);
    bench->observer.op_end = NULL;
    expect_ok(bench, "run", "{'steps': 3, 'warmup': 0}");
    assert_int_equal(bench->ops, ops);
    assert_null(bench->session->tap.op_end);
    bench->observer.op_end = on_op_end;
    expect_ok(bench, "run", "{'steps': 3, 'warmup': 0}");
    assert_int_equal(bench->ops, 4 * ops);
    bench_free(bench);
}

static void a_forecast_is_what_the_plan_becomes(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    json_t *forecast = ask(bench, "plan", "{'batch': 50}");
    assert_true(number_at(bench->plan, "batch", NULL) == 4);
    expect_ok(bench, "set", "{'key': 'batch', 'value': 50}");
    assert_true(number_at(forecast, "memory", "arena_bytes") ==
                number_at(bench->plan, "memory", "arena_bytes"));
    assert_true(number_at(forecast, "memory", "peak_live_bytes") ==
                number_at(bench->plan, "memory", "peak_live_bytes"));
    assert_true(number_at(forecast, "flops", NULL) == number_at(bench->plan, "flops", NULL));
    json_decref(forecast);
    json_t *memory = ask(bench, "memory", "{}");
    const json_t *device = json_array_get(json_object_get(memory, "devices"), 0);
    assert_true(number_at(device, "arena_bytes", NULL) ==
                number_at(bench->plan, "memory", "arena_bytes"));
    assert_true(json_array_size(json_object_get(json_object_get(memory, "plan"), "live")) > 0);
    json_decref(memory);
    bench_free(bench);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* (what a sanitizer keeps for itself is resident too) */
static double held_as_planned(struct bench *bench)
{
    json_t *reply = ask(bench, "run", "{'steps': 2, 'warmup': 1}");
    double planned = number_at(reply, "memory", "planned_bytes");
    double measured = number_at(reply, "memory", "measured_bytes");
    double allowed = 0.01 * planned > 8 << 20 ? 0.01 * planned : 8 << 20;
    if (fabs(measured - planned) > allowed)
        fail_msg("planned %.0f, measured %.0f", planned, measured);
    json_decref(reply);
    return planned;
}

static void a_plan_is_held_against_resident_memory(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    expect_ok(bench, "set", "{'key': 'slice', 'value': 'off'}");
    expect_ok(bench, "set", "{'key': 'batch', 'value': 2048}");
    double whole = held_as_planned(bench);
    assert_true(whole > 64e6);
    /* in slices: less, and as planned and forecast too */
    expect_ok(bench, "set", "{'key': 'slice', 'value': 100}");
    assert_int_equal(json_integer_value(json_object_get(bench->plan, "slice")), 100);
    double sliced = held_as_planned(bench);
    assert_true(sliced < whole / 2);
    json_t *reply = ask(bench, "plan", "{}");
    assert_true(number_at(reply, "memory", "planned_bytes") == sliced);
    json_decref(reply);
    expect_error(bench, ERROR_VALUE, "set", "{'key': 'slice', 'value': 'some'}");
    bench_free(bench);
}
#endif

static void live_steps_go_on_between_requests(void **state)
{
    (void)state;
    struct bench *bench = with_model();
    expect_ok(bench, "start", "{}");
    struct error error = {0};
    for (int i = 0; i < 5; i++)
        assert_true(session_step(bench->session, &error));
    assert_int_equal(bench->segment, 0);
    expect_ok(bench, "run", "{'steps': 2, 'warmup': 0}");
    expect_ok(bench, "set", "{'key': 'batch', 'value': 2}");
    assert_true(session_live(bench->session));
    assert_true(session_step(bench->session, &error));
    expect_ok(bench, "load", "{'path': 'tests/data/keras/seq_plain.h5'}");
    assert_true(session_live(bench->session));
    assert_true(session_step(bench->session, &error));
    expect_error(bench, ERROR_MODEL_FILE, "load", "{'path': 'tests/absent.h5'}");
    assert_true(session_step(bench->session, &error)); /* the old model is still there */
    expect_ok(bench, "stop", "{}");
    assert_false(session_live(bench->session));
    expect_ok(bench, "unload", "{}");
    assert_null(bench->plan);
    assert_true(session_open(bench->session));
    bench_free(bench);
}

static void random_inputs_depend_on_the_seed_alone(void **state)
{
    (void)state;
    const char *seeds[] = {"{'key': 'seed', 'value': 5}", "{'key': 'seed', 'value': 6}",
                           "{'key': 'seed', 'value': 5}"};
    double sums[3] = {0};
    struct bench *bench = with_model();
    for (int i = 0; i < 3; i++) {
        expect_ok(bench, "set", seeds[i]);
        const struct slot *slot = &bench->session->slots[0];
        const float *values = slot->backend->plan_input(slot->plan, 0);
        for (size_t j = 0; j < 4 * 784; j++) {
            assert_true(values[j] >= 0 && values[j] < 1);
            sums[i] += (double)values[j] * (double)(j % 7);
        }
    }
    assert_true(sums[0] > 0 && sums[0] == sums[2] && sums[0] != sums[1]);
    /* rows of a file begin again when they are fewer than the batch */
    expect_ok(bench, "set", "{'key': 'input', 'value': 'tests/data/arrays/rows.h5:x'}");
    const struct slot *slot = &bench->session->slots[0];
    const float *values = slot->backend->plan_input(slot->plan, 0);
    assert_true(values[784 + 1] == (784 + 1) % 256);
    assert_memory_equal(values, values + 2 * 784, 2 * 784 * sizeof *values);
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_runs_without_a_model),
        cmocka_unit_test(a_load_tells_the_model_then_its_plan),
        cmocka_unit_test(a_run_counts_what_it_measures),
        cmocka_unit_test(a_cancelled_run_stops),
        cmocka_unit_test(what_no_interval_explains_shows),
        cmocka_unit_test(a_set_replans_and_a_refused_one_does_not),
        cmocka_unit_test(a_batch_past_the_limit_keeps_the_old_plan),
        cmocka_unit_test(a_standing_limit_refuses_no_smaller_batch),
        cmocka_unit_test(what_is_not_listened_to_is_not_told),
        cmocka_unit_test(a_forecast_is_what_the_plan_becomes),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(a_plan_is_held_against_resident_memory),
#endif
        cmocka_unit_test(live_steps_go_on_between_requests),
        cmocka_unit_test(random_inputs_depend_on_the_seed_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
