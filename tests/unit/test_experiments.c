/* Comparing, fitting, asking what if, and asserting: the arithmetic alone, and the commands on the CPU. */
#include "commands/expression.h"
#include "commands/pairs.h"
#include "commands/queueing.h"
#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- pairs ---- */

static void pairs_give_the_interval_of_wilcoxon(void **state)
{
    (void)state;
    double a[12], b[12];
    struct pairs_ratio ratio;
    for (int i = 0; i < 12; i++) {
        a[i] = 1;
        b[i] = exp(i + 1); /* logarithms 1, 2, ... 12 */
    }
    pairs_ratio(a, b, 5, &ratio);
    assert_true(fabs(log(ratio.ratio) - 3) < 1e-12);
    assert_true(isnan(ratio.low) && isnan(ratio.high));
    assert_false(pairs_differ(&ratio));
    pairs_ratio(a, b, 6, &ratio); /* the smallest Walsh average and the largest */
    assert_true(fabs(log(ratio.low) - 1) < 1e-12 && fabs(log(ratio.high) - 6) < 1e-12);
    /* ten pairs: the ninth smallest of 55; 1, 1.5, 2, 2, 2.5, 2.5, 3, 3, 3 */
    pairs_ratio(a, b, 10, &ratio);
    assert_true(fabs(log(ratio.ratio) - 5.5) < 1e-12);
    assert_true(fabs(log(ratio.low) - 3) < 1e-12 && fabs(log(ratio.high) - 8) < 1e-12);
    pairs_ratio(a, b, 0, &ratio);
    assert_true(isnan(ratio.ratio));
}

static void one_held_up_step_spoils_no_pair(void **state)
{
    (void)state;
    double a[10], b[10];
    struct pairs_ratio ratio;
    for (int i = 0; i < 10; i++) {
        a[i] = 10 + 0.01 * i;
        b[i] = a[i] * (2 + 0.001 * (i % 3));
    }
    b[4] *= 50;
    pairs_ratio(a, b, 10, &ratio);
    assert_true(ratio.ratio > 1.99 && ratio.ratio < 2.02 && ratio.low > 1.99);
    assert_true(pairs_differ(&ratio));
    for (int i = 0; i < 10; i++)
        b[i] = a[i] * (i % 2 ? 1.02 : 0.98);
    pairs_ratio(a, b, 10, &ratio);
    assert_false(pairs_differ(&ratio));
}

/* ---- expressions ---- */

static const char result[] =
    "{\"device\": \"cpu\", \"wall_ms\": {\"median\": 20.5, \"p95\": 31}, \"steady\": true, "
    "\"memory\": {\"planned_bytes\": 1048576}, \"note\": null, \"batch\": 8, "
    "\"layers\": [{\"name\": \"conv1\", \"time_ms\": 4.5}, {\"name\": \"a/b-c\", \"time_ms\": "
    "null}], \"empty\": [], \"rows\": [{\"name\": \"a\", \"ms\": 1, \"parts\": [{\"us\": 7}]}, "
    "{\"name\": \"b\", \"ms\": 3, \"parts\": [{\"us\": null}]}, {\"name\": \"c\", \"ms\": 5, "
    "\"parts\": "
    "[]}, {\"name\": \"d\", \"ms\": null, \"parts\": []}]}";

static void expressions_decide(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool holds;
    } cases[] = {
        {"wall_ms.median < 40", true},
        {"wall_ms.median < 20500us", false},
        {"wall_ms.median <= 20.5ms", true},
        {"wall_ms.p95 / wall_ms.median > 1.5 and steady == true", true},
        {"wall_ms.p95 - wall_ms.median * 1 < 10", false},
        {"memory.planned_bytes == 1MiB", true},
        {"memory.planned_bytes < 1MB", false},
        {"device == 'cpu'", true},
        {"device != \"cpu\" or batch == 8", true},
        {"not (batch == 8)", false},
        {"not batch == 7 and steady", true},
        {"layers[conv1].time_ms > 4", true},
        {"layers[0].time_ms == 4.5", true},
        {"layers[a/b-c].time_ms == null", true},
        {"note == null", true},
        {"batch != null", true},
        {"1 - 2 - 3 == -4", true},
        {"2 * (3 + 4) == 14", true},
        {"50% == 0.5", true},
        {"count(rows, ms > 2) == 2", true},
        {"count(rows, ms > 2 and not (name == 'c')) == 1", true},
        {"sum(rows, ms * 2) == 18 and min(rows, ms) == 1 and max(rows, ms + 1) == 6", true},
        {"top(rows, ms) == 'c' and top(rows, -ms) == 'a'", true},
        {"floor(wall_ms.median) == 20 and ceil(wall_ms.median / 2) == 11", true},
        {"count(empty, ms > 2) + sum(empty, (ms)) == 0", true},
        {"sum(rows, sum(parts, us)) == 7", true},
    };
    json_t *data = json_loads(result, 0, NULL);
    assert_non_null(data);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        char seen[200];
        bool holds;
        if (!expression_holds(cases[i].text, data, &holds, seen, sizeof seen, &error))
            fail_msg("%s: %s", cases[i].text, error.why);
        if (holds != cases[i].holds)
            fail_msg("%s: %s", cases[i].text, seen);
    }
    json_decref(data);
}

static void expressions_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "a value is missing"},
        {"wall_ms.median", "neither true nor false"},
        {"wall_ms", "neither true nor false"}, /* its median */
        {"layers", "more than one value"},
        {"wall_ms.medain < 4", "did you mean 'median'"},
        {"layers[conv2].time_ms < 4", "no layers[conv2]"},
        {"layers[9].time_ms < 4", "no layers[9]"},
        {"layers[conv1", "] is missing"},
        {"layers[a/b-c].time_ms < 4", "cannot be compared"},
        {"note < 4", "cannot be compared"},
        {"note + 1 < 4", "not known"},
        {"device < 4", "cannot be compared"},
        {"device + 1 < 4", "no number"},
        {"batch = 8", "operator is missing"},
        {"batch == 8 &&", "operator is missing"},
        {"(batch == 8", ") is missing"},
        {"batch == 'x", "a quote is open"},
        {"batch == 8xs", "no unit"},
        {"batch / 0 > 1", "no finite number"},
        {"batch < 3 and 4", "neither true nor false"},
        {"wall_ms.", "name is missing"},
        {"((((((((((((((((((((((((((((((((((((((((1", "too deep"},
        {"----------------------------------------1 < 0", "too deep"},
        {"count(rows, ms) > 0", "true or false"},
        {"sum(rows, name) > 0", "no number"},
        {"sum(rows, msec) > 0", "no msec; did you mean 'ms'"},
        {"sum(rows, ms / batch) == 0", "no batch"},
        {"sum(rows ms) > 0", "a , is missing"},
        {"sum(rows, ms", ") is missing"},
        {"sum(rows, ms 3) > 0", "operator is missing"},
        {"sum(batch, ms) > 0", "no list"},
        {"min(empty, ms) > 0", "cannot be compared"},
        {"floor(device) > 0", "only a number"},
        {"floor(batch > 0", ") is missing"},
    };
    json_t *data = json_loads(result, 0, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        char seen[200];
        bool holds;
        if (expression_holds(cases[i].text, data, &holds, seen, sizeof seen, &error))
            fail_msg("%s was decided", cases[i].text);
        if (!strstr(error.why, cases[i].why))
            fail_msg("%s: '%s' instead of '%s'", cases[i].text, error.why, cases[i].why);
        assert_true(*error.hint);
    }
    json_decref(data);
}

static void expressions_have_values(void **state)
{
    (void)state;
    struct error error = {0};
    json_t *data = json_loads(result, 0, NULL);
    json_t *number = expression_value("2 * wall_ms.median", data, &error);
    json_t *text = expression_value("top(rows, ms)", data, &error);
    json_t *truth = expression_value("batch > 4", data, &error);
    assert_true(json_number_value(number) == 41 && json_is_true(truth));
    assert_string_equal(json_string_value(text), "c");
    assert_null(expression_value("note", data, &error));
    assert_string_equal(error.why, "note is not known");
    assert_null(expression_value("max(empty, ms)", data, &error));
    assert_null(expression_value("batch 8", data, &error));
    assert_non_null(strstr(error.why, "operator is missing"));
    json_decref(number);
    json_decref(text);
    json_decref(truth);
    json_decref(data);
}

/* ---- the commands ---- */

/* Of the last command. New reference. */
static json_t *last_data(const char *arguments)
{
    char line[512];
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

static void assertions_end_a_script(void **state)
{
    (void)state;
    cli_expect_code(NULL, "-c 'assert batch == 1'", 1, "no command has had a result");
    cli_expect_code(NULL, DEMO "-c 'run 2; assert batch == 32; echo on'", 0, NULL);
    cli_expect_code(NULL, DEMO "-c 'run 2; assert batch == 31; echo on'", 6,
                    "error[E060]: assert: batch == 31 does not hold: batch is 32");
    cli_expect_code(NULL, DEMO "-c 'run 2; set batch 4; assert batch == 32'", 0, NULL);
    cli_expect_code(NULL, DEMO "-c 'run 2; assert btach == 32'", 1, "did you mean 'batch'");
    cli_expect_code(NULL, DEMO "-c 'run 2; whatif model=2x; assert batch == 32'", 1,
                    "assert, of whatif");
}

/* A bigger batch must not be slower per sample by much: what is tested is that both sides ran, in
 * pairs, and that the present settings came back. */
static void two_sides_run_in_turn(void **state)
{
    (void)state;
    json_t *data =
        last_data(DEMO "-c 'batch 8; ab batch=1 vs batch=16 fusion=off --rounds 6 --steps 4'");
    assert_int_equal(json_integer_value(json_object_get(data, "pairs")), 6);
    assert_int_equal(json_integer_value(json_object_get(data, "steps")), 4);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(data, "a"), "batch")), 1);
    const json_t *b = json_object_get(data, "b");
    assert_int_equal(json_integer_value(json_object_get(b, "batch")), 16);
    assert_true(json_is_false(json_object_get(json_object_get(b, "settings"), "fusion")));
    const json_t *interval = json_object_get(data, "speedup_interval");
    double low = json_number_value(json_array_get(interval, 0));
    double high = json_number_value(json_array_get(interval, 1));
    double speedup = json_number_value(json_object_get(data, "speedup"));
    assert_true(low > 0 && low <= speedup && speedup <= high);
    assert_true(json_array_size(json_object_get(data, "layers")) > 3);
    json_decref(data);
    data = last_data(DEMO
                     "-c 'batch 8; ab batch=1 vs batch=16 fusion=off --rounds 6 --steps 4; run 2'");
    assert_int_equal(json_integer_value(json_object_get(data, "batch")), 8);
    json_decref(data);
    cli_expect_code(NULL, DEMO "-c 'ab batch=1 batch=2 fusion=off'", 1, "belong together");
    cli_expect_code(NULL, DEMO "-c 'ab vs'", 1, "which settings");
    cli_expect_code(NULL, DEMO "-c 'ab theme=mono'", 1, "does not change how fast");
    cli_expect_code(NULL, DEMO "-c 'ab batch=0'", 1, "error[E011]");
    cli_expect_code(NULL, DEMO "-c 'ab batch=2 --rounds 3'", 1, "ab --rounds");
    cli_expect_code(NULL, DEMO "-c 'ab batch=2 --rounds'", 1, "needs a value");
    /* what one side cannot do is said with its words */
    cli_expect_code(NULL, DEMO "-c 'ab batch=2 devices=7'", 4, "with devices");
}

static void a_sweep_is_fitted(void **state)
{
    (void)state;
    json_t *data = last_data(DEMO "-c 'sweep batch 8,32,64 --steps 5; fit'");
    const json_t *fit = json_array_get(json_object_get(data, "devices"), 0);
    assert_string_equal(json_string_value(json_object_get(fit, "device")), "cpu");
    assert_int_equal(json_integer_value(json_object_get(fit, "points")), 3);
    assert_true(json_is_number(json_object_get(fit, "b_ms")));
    json_decref(data);
    cli_expect_code(NULL, DEMO "-c 'fit'", 1, "no sweep of batches");
    cli_expect_code(NULL, DEMO "-c 'sweep batch 1,2 --steps 2; fusion off; fit'", 1,
                    "no sweep of batches");
    cli_expect_code(NULL, DEMO "-c 'sweep threads 1,2 --steps 2; fit'", 1, "no sweep of batches");
    cli_expect_code(NULL, DEMO "-c 'sweep batch 1,2 --steps 2; batch 7; fit'", 0, NULL);
}

static void amdahl_is_kept(void **state)
{
    (void)state;
    json_t *data = last_data(DEMO "-c 'run 30; whatif model=4x'");
    double wall = json_number_value(json_object_get(data, "wall_ms"));
    const json_t *change = json_array_get(json_object_get(data, "changes"), 0);
    double model = json_number_value(json_object_get(change, "time_ms"));
    double derived = json_number_value(json_object_get(data, "derived_wall_ms"));
    assert_true(model > 0 && model <= wall * 1.001);
    assert_true(fabs(derived - (wall - 0.75 * model)) < 1e-6 * wall);
    double speedup = json_number_value(json_object_get(data, "speedup"));
    assert_true(fabs(speedup - wall / derived) < 1e-6 * speedup && speedup <= 4.001);
    json_decref(data);
    cli_expect_code(NULL, DEMO "-c 'whatif model=2x'", 1, "no step has been measured");
    cli_expect_code(NULL, DEMO "-c 'run 5; whatif nope=2x'", 1, "neither a measured layer");
    cli_expect_code(NULL, DEMO "-c 'run 5; whatif model'", 1, "not NAME=FACTORx");
    cli_expect_code(NULL, DEMO "-c 'run 5; whatif model=-2x'", 1, "not NAME=FACTORx");
    cli_expect_code(NULL, DEMO "-c 'run 5; whatif model=2x conv1=3x'", 1, "counts twice");
}

static void a_gap_is_told(void **state)
{
    (void)state;
    json_t *data = last_data(DEMO "-c 'run 5; gap 10s'");
    double model = json_number_value(json_object_get(data, "model_ms"));
    assert_true(fabs(json_number_value(json_object_get(data, "gap_ms")) - (10000 - model)) < 1e-3);
    json_decref(data);
    cli_expect_code(NULL, DEMO "-c 'gap 35ms'", 1, "no run of the present model");
    cli_expect_code(NULL, DEMO "-c 'run 2; batch 3; gap 35ms'", 1, "no run of the present");
    cli_expect_code(NULL, DEMO "-c 'run 2; gap 0'", 1, "not a time above 0");
}

/* ---- queues ---- */

static struct queueing_result serve(double step_ms, int64_t batch, double rate, double wait_ms)
{
    struct queueing_point point = {batch, {step_ms, step_ms, NAN, NAN, NAN, NAN}};
    struct queueing queueing = {.points = &point,
                                .count = 1,
                                .batch_max = batch,
                                .rate_per_s = rate,
                                .wait_ms = wait_ms,
                                .slo_ms = 30,
                                .requests = 200000,
                                .seed = 7};
    struct queueing_result served;
    queueing_simulate(&queueing, &served);
    return served;
}

/* M/D/1: mean latency = s + rho s / (2 (1 - rho)) (Pollaczek, Khinchine). */
static void one_at_a_time_is_a_textbook_queue(void **state)
{
    (void)state;
    for (double rho = 0.2; rho < 0.9; rho += 0.3) {
        struct queueing_result served = serve(10, 1, rho * 100, 0);
        double expected = 10 + rho * 10 / (2 * (1 - rho));
        assert_true(fabs(served.mean_ms - expected) < 0.03 * expected);
        assert_true(fabs(served.busy - rho) < 0.02);
        assert_true(fabs(served.in_flight - rho * 100 * expected * 1e-3) < 0.04);
        assert_true(fabs(served.capacity_per_s - 100) < 1e-6);
        assert_true(served.p50_ms >= 10 && served.p99_ms > served.p95_ms);
    }
}

static void batches_carry_what_single_steps_cannot(void **state)
{
    (void)state;
    struct queueing_result served = serve(10, 1, 150, 0); /* overloaded */
    assert_true(served.throughput_per_s < 101 && served.over_slo > 0.99);
    served = serve(10, 8, 150, 0);
    assert_true(fabs(served.throughput_per_s - 150) < 3 && served.over_slo < 0.01);
    assert_true(served.mean_batch > 1.2 && served.mean_batch < 3);
    struct queueing_result patient = serve(10, 8, 150, 15);
    assert_true(patient.mean_batch > served.mean_batch && patient.busy < served.busy);
}

static void a_service_is_simulated(void **state)
{
    (void)state;
    json_t *data = last_data(DEMO "-c 'sweep batch 1,4 --steps 5; serve --rate 10 --slo 1s'");
    assert_int_equal(json_integer_value(json_object_get(data, "batch_max")), 4);
    assert_true(json_is_false(json_object_get(data, "overloaded")));
    assert_true(json_number_value(json_object_get(data, "over_slo_share")) < 0.5);
    json_decref(data);
    cli_expect_code(NULL, DEMO "-c 'serve --rate 5'", 1, "has been measured");
    cli_expect_code(NULL, DEMO "-c 'run 2; serve --rate 0'", 1, "no rate");
    cli_expect_code(NULL, DEMO "-c 'run 2; serve --batch 4'", 1, "how many requests");
    cli_expect_code(NULL, DEMO "-c 'run 2; serve --rate 5 --batch 64'", 1, "only up to 32");
    cli_expect_code(NULL, DEMO "-c 'run 2; serve --rate 900000000'", 0, "more come than can");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_give_the_interval_of_wilcoxon),
        cmocka_unit_test(one_held_up_step_spoils_no_pair),
        cmocka_unit_test(expressions_decide),
        cmocka_unit_test(expressions_are_refused),
        cmocka_unit_test(expressions_have_values),
        cmocka_unit_test(assertions_end_a_script),
        cmocka_unit_test(two_sides_run_in_turn),
        cmocka_unit_test(a_sweep_is_fitted),
        cmocka_unit_test(amdahl_is_kept),
        cmocka_unit_test(a_gap_is_told),
        cmocka_unit_test(one_at_a_time_is_a_textbook_queue),
        cmocka_unit_test(batches_carry_what_single_steps_cannot),
        cmocka_unit_test(a_service_is_simulated),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
