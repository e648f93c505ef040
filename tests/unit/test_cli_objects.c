/* The objects of --json: one for each command, with all that the contract promises. */
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
#include <unistd.h>

static void every_command_is_one_object(void **state)
{
    (void)state;
    struct cli_outcome outcome =
        cli_run(NULL, "--json -k -c 'echo a; foo; batch 0; \"open' -c 'symbols ascii; help; show "
                      "batch; version; sleep 1ms; history; clear'");
    assert_int_equal(outcome.code, 1);
    static const char *const commands[] = {"echo", "foo",     "set",   "",        "set",  "help",
                                           "show", "version", "sleep", "history", "clear"};
    assert_int_equal(json_array_size(outcome.objects), 11);
    for (size_t i = 0; i < 11; i++) {
        const json_t *object = json_array_get(outcome.objects, i);
        assert_int_equal(json_integer_value(cli_at(object, "v")), 1);
        assert_string_equal(json_string_value(cli_at(object, "cmd")), commands[i]);
        assert_true(json_is_array(cli_at(object, "warn")));
        assert_int_equal(json_is_true(cli_at(object, "ok")), i == 0 || i > 3);
        if (i == 0 || i > 3) {
            assert_true(json_is_object(cli_at(object, "data")));
            assert_null(json_object_get(object, "error"));
        }
    }
    const json_t *object = json_array_get(outcome.objects, 2);
    assert_string_equal(json_string_value(cli_at(object, "error.code")), "E011");
    assert_non_null(strstr(json_string_value(cli_at(object, "error.message")), "set batch"));
    assert_string_equal(json_string_value(cli_at(object, "error.hint")), "batch 64");
    cli_outcome_free(&outcome);
}

static void set_tells_key_value_and_cost(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, "demo:digits --json -k -c 'devices cpu; batch_size "
                                               "8; growth off; limit 1GiB; mapping batch' -c "
                                               "'batch 0; show batch'");
    assert_int_equal(outcome.code, 1);
    const json_t *batch = json_array_get(outcome.objects, 2);
    assert_string_equal(json_string_value(cli_at(batch, "cmd")), "set");
    assert_string_equal(json_string_value(cli_at(batch, "data.key")), "batch");
    assert_int_equal(cli_number_at(batch, "data.value"), 8);
    assert_true(cli_number_at(batch, "data.cost_ms") >= 0);
    assert_int_equal(json_array_size(cli_at(batch, "warn")), 1);
    const json_t *growth = json_array_get(outcome.objects, 3);
    assert_true(json_is_false(cli_at(growth, "data.value")));
    assert_true(json_is_string(cli_at(growth, "data.note"))); /* stored: no GPU in use */
    assert_int_equal(cli_number_at(json_array_get(outcome.objects, 4), "data.value"), 1 << 30);
    /* stored: no pipeline runs */
    assert_true(json_is_string(cli_at(json_array_get(outcome.objects, 5), "data.note")));
    /* a refused value keeps the old one */
    assert_int_equal(cli_number_at(cli_object_of(&outcome, "show"), "data.value"), 8);
    cli_outcome_free(&outcome);
}

static void check_layers(const json_t *layers, double wall_ms)
{
    size_t index, fused = 0, heads = 0;
    json_t *layer;
    double sum_ms = 0;
    json_array_foreach((json_t *)(uintptr_t)layers, index, layer)
    {
        json_t *time = cli_at(layer, "time_ms"), *share = cli_at(layer, "share");
        assert_true(json_is_string(cli_at(layer, "name")));
        assert_true(json_is_string(cli_at(layer, "class")));
        assert_true(json_is_string(cli_at(layer, "impl")) || json_is_null(cli_at(layer, "impl")));
        assert_true(json_is_number(cli_at(layer, "kernels")) ||
                    json_is_null(cli_at(layer, "kernels")));
        assert_true(json_is_integer(cli_at(layer, "flops")));
        assert_true(json_is_integer(cli_at(layer, "bytes")));
        if (json_object_get(layer, "fused_into")) {
            assert_true(json_is_null(time));
            assert_true(json_is_null(share));
            fused++;
        } else if (json_is_number(time)) {
            sum_ms += json_number_value(time);
            assert_true(fabs(json_number_value(share) - json_number_value(time) / wall_ms) < 0.01);
        }
        heads += json_object_get(layer, "fused") != NULL;
    }
    assert_true(fused > 0 && heads > 0);
    assert_true(sum_ms > 0.5 * wall_ms && sum_ms < 1.01 * wall_ms);
}

static void run_gives_all_of_the_contract(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, DEMO "--json -c 'batch 4; run 30 --warmup 5'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = cli_at(cli_object_of(&outcome, "run"), "data");
    assert_string_equal(json_string_value(cli_at(data, "device")), "cpu");
    assert_int_equal(cli_number_at(data, "batch"), 4);
    assert_string_equal(json_string_value(cli_at(data, "precision")), "fp32");
    assert_int_equal(cli_number_at(data, "steps"), 30);
    assert_int_equal(cli_number_at(data, "warmup"), 5);
    assert_true(json_is_boolean(cli_at(data, "steady")));
    assert_true(cli_number_at(data, "wall_ms.min") > 0);
    assert_true(cli_number_at(data, "wall_ms.median") >= cli_number_at(data, "wall_ms.min"));
    assert_true(cli_number_at(data, "wall_ms.p90") >= cli_number_at(data, "wall_ms.median"));
    assert_true(cli_number_at(data, "wall_ms.p95") >= cli_number_at(data, "wall_ms.p90"));
    assert_true(cli_number_at(data, "throughput_per_s") > 0);
    assert_string_equal(json_string_value(cli_at(data, "timing_source")), "clock");
    assert_true(cli_number_at(data, "memory.planned_bytes") > 0);
    cli_at(data, "memory.measured_bytes");
    cli_at(data, "memory.context_bytes");
    static const char *const classes[] = {"preprocess_ms", "copy_ms", "launch_ms",
                                          "kernel_ms",     "gap_ms",  "profiler_ms",
                                          "unexplained_ms"};
    double sum_ms = 0, wall_ms = cli_number_at(data, "ledger.wall_ms");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        sum_ms += cli_number_at(cli_at(data, "ledger"), classes[i]);
    assert_true(fabs(sum_ms - wall_ms) < 1e-6 * wall_ms + 1e-9);
    assert_true(cli_number_at(data, "ledger.hidden_launch_ms") >= 0);
    assert_true(cli_number_at(data, "ledger.hidden_copy_ms") >= 0);
    assert_true(json_is_null(cli_at(data, "profiler_cost_share"))); /* too short to tell */
    assert_true(json_is_null(cli_at(data, "profiler_cost_interval")));
    assert_int_equal(json_array_size(cli_at(data, "layers")), 23);
    assert_string_equal(
        json_string_value(cli_at(json_array_get(cli_at(data, "layers"), 3), "name")), "bn1");
    assert_string_equal(
        json_string_value(cli_at(json_array_get(cli_at(data, "layers"), 3), "fused_into")),
        "conv1");
    check_layers(cli_at(data, "layers"), wall_ms);
    cli_outcome_free(&outcome);
}

static void the_profilers_own_cost_is_told(void **state)
{
    (void)state;
    struct cli_outcome outcome =
        cli_run(NULL, DEMO "--json -c 'batch 64; run 500 --warmup 5 --cost; layers --top 1'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = cli_at(cli_object_of(&outcome, "run"), "data");
    double share = cli_number_at(data, "profiler_cost_share");
    const json_t *interval = cli_at(data, "profiler_cost_interval");
    assert_true(cli_number_at(data, "profiler_cost_pairs") >= 6);
    assert_true(json_number_value(json_array_get(interval, 0)) <= share);
    assert_true(json_number_value(json_array_get(interval, 1)) >= share);
    assert_true(cli_number_at(cli_at(cli_object_of(&outcome, "layers"), "data"),
                              "profiler_cost_share") == share);
    cli_outcome_free(&outcome);
    outcome = cli_run(NULL, DEMO "--json -c 'profile off; run 500 --warmup 5 --cost'");
    assert_int_equal(outcome.code, 0);
    assert_true(json_is_null(cli_at(cli_object_of(&outcome, "run"), "data.profiler_cost_share")));
    cli_outcome_free(&outcome);
}

static void what_is_not_measured_is_null(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, DEMO "--json -c 'profile off; run 3'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = cli_at(cli_object_of(&outcome, "run"), "data");
    assert_true(json_is_null(cli_at(data, "timing_source")));
    assert_true(json_is_null(cli_at(data, "ledger.kernel_ms")));
    assert_true(cli_number_at(data, "wall_ms.median") > 0);
    assert_true(json_is_null(cli_at(json_array_get(cli_at(data, "layers"), 2), "time_ms")));
    assert_null(strstr(outcome.output, "NaN"));
    cli_outcome_free(&outcome);
}

static void commands_about_the_model(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(
        NULL, DEMO "--json -c 'model; model layer conv2; model graph; plan 64; mem; run 3; layers "
                   "--top 2; devices; unload'");
    assert_int_equal(outcome.code, 0);
    assert_string_equal(json_string_value(cli_at(cli_object_of(&outcome, "load"), "data.name")),
                        "digits");
    const json_t *shape =
        cli_at(json_array_get(cli_at(cli_object_of(&outcome, "load"), "data.outputs"), 0), "shape");
    assert_int_equal(json_array_size(shape), 2);
    assert_true(json_is_null(json_array_get(shape, 0))); /* any batch */
    assert_int_equal(json_integer_value(json_array_get(shape, 1)), 10);
    assert_int_equal(cli_number_at(cli_object_of(&outcome, "plan"), "data.batch"), 64);
    assert_true(cli_number_at(cli_object_of(&outcome, "plan"), "data.memory.planned_bytes") > 0);
    const json_t *layers = cli_at(cli_object_of(&outcome, "layers"), "data.layers");
    assert_int_equal(json_array_size(layers), 2);
    assert_true(cli_number_at(json_array_get(layers, 0), "time_ms") >=
                cli_number_at(json_array_get(layers, 1), "time_ms"));
    assert_true(json_array_size(cli_at(cli_object_of(&outcome, "devices"), "data.devices")) >= 1);
    cli_outcome_free(&outcome);
    outcome = cli_run(NULL, "--json -c 'load demo:'");
    assert_int_equal(outcome.code, 0);
    const json_t *models = cli_at(cli_object_of(&outcome, "load"), "data.models");
    assert_true(json_array_size(models) > 10);
    assert_string_equal(json_string_value(json_array_get(models, 0)), "demo:digits");
    cli_outcome_free(&outcome);
}

static void a_sweep_measures_each_value(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(
        NULL, DEMO "--json -c 'batch 4; sweep batch 1..8x2 --steps 5 --metric lat; show batch'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = cli_at(cli_object_of(&outcome, "sweep"), "data");
    assert_string_equal(json_string_value(cli_at(data, "setting")), "batch");
    assert_int_equal(json_array_size(cli_at(data, "points")), 4);
    double best = 0;
    for (size_t i = 0; i < 4; i++) {
        const json_t *point = json_array_get(cli_at(data, "points"), i);
        assert_int_equal(cli_number_at(point, "batch"), 1 << i);
        assert_int_equal(cli_number_at(point, "steps"), 5);
        assert_true(cli_number_at(point, "wall_ms.median") >= cli_number_at(point, "wall_ms.min"));
        assert_true(cli_number_at(point, "wall_ms.p95") >= cli_number_at(point, "wall_ms.median"));
        assert_true(cli_number_at(point, "memory.planned_bytes") > 0);
        best = fmax(best, cli_number_at(point, "throughput_per_s"));
    }
    /* the knee is the first with 95 % of the best */
    for (size_t i = 0; i < 4; i++) {
        const json_t *point = json_array_get(cli_at(data, "points"), i);
        if (cli_number_at(point, "throughput_per_s") < 0.95 * best)
            continue;
        assert_int_equal(cli_number_at(data, "knee"), 1 << i);
        break;
    }
    assert_true(cli_number_at(data, "best") >= 1); /* by --metric lat */
    assert_int_equal(cli_number_at(cli_object_of(&outcome, "show"), "data.value"), 4);
    cli_outcome_free(&outcome);
    outcome = cli_run(NULL, DEMO "--json -c 'sweep precision fp32,bf16 --steps 3'");
    data = cli_at(cli_object_of(&outcome, "sweep"), "data");
    assert_int_equal(outcome.code, 0);
    assert_string_equal(
        json_string_value(cli_at(json_array_get(cli_at(data, "points"), 1), "value")), "bf16");
    assert_true(json_is_null(cli_at(data, "knee")));
    cli_outcome_free(&outcome);
}

static void a_sweep_ends_where_memory_does(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(
        NULL, DEMO "--json -c 'batch 4; limit 2MiB; sweep batch 4..64x2 --steps 2; show batch'");
    assert_int_equal(outcome.code, 0);
    const json_t *sweep = cli_object_of(&outcome, "sweep");
    assert_int_equal(json_array_size(cli_at(sweep, "data.points")), 3);
    assert_int_equal(cli_number_at(sweep, "data.ended.value"), 32);
    assert_string_equal(json_string_value(cli_at(sweep, "data.ended.code")), "E041");
    assert_int_equal(json_array_size(cli_at(sweep, "warn")), 1);
    assert_int_equal(cli_number_at(cli_object_of(&outcome, "show"), "data.value"), 4);
    cli_outcome_free(&outcome);
    /* without a single point there is nothing to show */
    cli_expect_code(NULL, DEMO "-c 'batch 4; limit 2MiB; sweep batch 64'", 5, "error[E041]");
    cli_expect_code(NULL, DEMO "-c 'sweep batch 1,foo'", 1, "error[E011]");
    cli_expect_code(NULL, DEMO "-c 'sweep refresh 50ms'", 1, "error[E011]: sweep: refresh");
}

static void layers_are_filtered(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, DEMO "--json -c 'run 3; layers --filter conv2d'");
    assert_int_equal(outcome.code, 0);
    const json_t *layers = cli_at(cli_object_of(&outcome, "layers"), "data.layers");
    assert_int_equal(json_array_size(layers), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(json_string_value(cli_at(json_array_get(layers, i), "class")),
                            "Conv2D");
    cli_outcome_free(&outcome);
}

static void live_steps_fill_the_table(void **state)
{
    (void)state;
    struct cli_outcome outcome =
        cli_run(NULL, DEMO "--json -c 'start; sleep 700ms; layers; stop; start; stop'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = cli_at(cli_object_of(&outcome, "layers"), "data");
    assert_true(cli_number_at(data, "wall_ms") > 0);
    assert_true(cli_number_at(data, "layers_ms") > 0);
    cli_outcome_free(&outcome);
}

static void predictions(void **state)
{
    (void)state;
    char arguments[512], header[128];
    /* x.npy: two images of zeros, float32 (2, 28, 28, 1) */
    snprintf(arguments, sizeof arguments, "%s/x.npy", cli_folder);
    FILE *file = fopen(arguments, "w");
    assert_non_null(file);
    snprintf(header, sizeof header, "%-117s\n",
             "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 28, 28, 1), }");
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file);
    fwrite(header, 1, 118, file);
    for (int i = 0; i < 2 * 28 * 28; i++)
        fwrite("\0\0\0\0", 1, 4, file);
    fclose(file);
    snprintf(arguments, sizeof arguments, DEMO "--json -c 'predict %s/x.npy %s/y.npy --top 2'",
             cli_folder, cli_folder);
    struct cli_outcome outcome = cli_run(NULL, arguments);
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    const json_t *data = cli_at(cli_object_of(&outcome, "predict"), "data");
    assert_int_equal(cli_number_at(data, "rows"), 2);
    assert_int_equal(json_array_size(cli_at(data, "outputs")), 1);
    cli_outcome_free(&outcome);
    snprintf(arguments, sizeof arguments, "%s/y.npy", cli_folder);
    assert_int_equal(access(arguments, R_OK), 0);
    cli_expect_code(NULL, DEMO "-c 'predict /nonexistent.npy'", 1, "error[E01");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_is_one_object),
        cmocka_unit_test(set_tells_key_value_and_cost),
        cmocka_unit_test(run_gives_all_of_the_contract),
        cmocka_unit_test(the_profilers_own_cost_is_told),
        cmocka_unit_test(what_is_not_measured_is_null),
        cmocka_unit_test(commands_about_the_model),
        cmocka_unit_test(a_sweep_measures_each_value),
        cmocka_unit_test(a_sweep_ends_where_memory_does),
        cmocka_unit_test(layers_are_filtered),
        cmocka_unit_test(live_steps_fill_the_table),
        cmocka_unit_test(predictions),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
