/* `advise` and `apply` as a user types them: on the CPU, on a recording of a GPU, on facts of another
 * machine. */
#include "engine/error.h"
#include "engine/host_load.h"
#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPU "tests/data/recordings/synthetic-gpu.ltr"

static const json_t *with_id(const json_t *list, const char *id)
{
    size_t index;
    json_t *one;
    json_array_foreach((json_t *)(uintptr_t)list, index, one)
    {
        if (strcmp(json_string_value(json_object_get(one, "id")), id) == 0)
            return one;
    }
    return NULL;
}

/* The healthy record of the CPU with one fact changed, as a file. */
static char *facts_with(const char *section, const char *key, json_t *value)
{
    json_t *record = json_load_file("tests/data/advise/cpu.json", 0, NULL);
    assert_non_null(record);
    json_object_set_new(json_object_get(record, section), key, value);
    char *path = xasprintf("%s/facts.json", cli_folder);
    assert_int_equal(json_dump_file(record, path, 0), 0);
    json_decref(record);
    return path;
}

static void a_run_is_judged(void **state)
{
    (void)state;
    /* nothing was measured: it measures by itself */
    struct cli_outcome out = cli_run(NULL, "--json " DEMO "-c advise -c 'assert step_ms > 0'");
    assert_int_equal(out.code, 0);
    const json_t *data = cli_at(cli_object_of(&out, "advise"), "data");
    size_t index;
    const json_t *warning; /* that there is no GPU was told when the device was chosen */
    json_array_foreach(cli_at(cli_object_of(&out, "advise"), "warn"), index, warning)
    {
        assert_null(strstr(json_string_value(warning), "no GPU"));
    }
    static const char *const lists[] = {"advice", "consequences", "notes", "asks"};
    for (size_t i = 0; i < 4; i++)
        assert_true(json_is_array(cli_at(data, lists[i])));
    const json_t *ask = with_id(cli_at(data, "asks"), "A05"); /* no sweep yet: no guess */
    assert_non_null(ask);
    assert_non_null(strstr(json_string_value(cli_at(ask, "run_first")), "sweep batch"));
    assert_string_equal(json_string_value(cli_at(data, "facts.plan.model")), "digits");
    assert_true(cli_number_at(data, "facts.run.steps") >= 10);
    assert_true(cli_number_at(data, "facts.run.first_ms") > 0);
    assert_true(cli_number_at(data, "facts.device.cores") >= 1);
    assert_true(json_array_size(cli_at(data, "facts.layers")) > 10);
    cli_outcome_free(&out);
}

static void a_sweep_answers_the_question(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "--json " DEMO "-c 'sweep batch 1,2 --steps 3; batch 1; run 10; advise'");
    assert_int_equal(out.code, 0);
    const json_t *data = cli_at(cli_object_of(&out, "advise"), "data");
    assert_null(with_id(cli_at(data, "asks"), "A05"));
    assert_int_equal(json_array_size(cli_at(data, "facts.points")), 2);
    cli_outcome_free(&out);
}

static void a_change_is_tried_and_taken_back(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "--json " DEMO "-c 'batch 16; fusion off; run 30' -c 'advise --try "
                      "--rounds 6' -c 'show fusion' -c 'run 10' -c advise");
    assert_int_equal(out.code, 0);
    size_t index;
    json_t *object;
    const json_t *first = NULL;
    json_array_foreach(out.objects, index, object)
    {
        if (!first && strcmp(json_string_value(cli_at(object, "cmd")), "advise") == 0)
            first = cli_at(object, "data");
    }
    const json_t *trial = with_id(cli_at(first, "tried"), "A33");
    assert_non_null(trial);
    assert_true(cli_number_at(trial, "predicted") > 1);
    assert_true(cli_number_at(trial, "speedup") > 0.2);
    assert_int_equal(cli_number_at(trial, "pairs"), 6);
    /* what it measured is remembered while model and settings stay */
    const json_t *data = cli_at(cli_object_of(&out, "advise"), "data");
    assert_non_null(with_id(cli_at(data, "facts.trials"), "A33"));
    assert_true(json_is_false(cli_at(data, "facts.settings.fusion")));
    cli_outcome_free(&out);
}

/* Pictures that are decoded before the model starts cost more than such a model: every way to mend it
 * is tried, and one can be kept. */
static void a_pipeline_that_holds_the_model_up_is_mended(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "--json " DEMO "-c 'batch 8; picture 160x120; pipeline overlap; run 15' "
                      "-c 'advise --try --rounds 6' -c 'show pipeline'");
    assert_int_equal(out.code, 0);
    size_t index, tried = 0;
    json_t *trial;
    json_array_foreach(cli_at(cli_object_of(&out, "advise"), "data.tried"), index, trial)
    {
        const char *change = json_string_value(cli_at(trial, "change"));
        if (strcmp(json_string_value(cli_at(trial, "id")), "A21") != 0)
            continue;
        tried++;
        assert_true(strstr(change, "pipeline overlap") || strstr(change, "mapping batch") ||
                    strstr(change, "parallel_calls"));
        assert_true(cli_number_at(trial, "speedup") > 0);
    }
    assert_true(tried >= 1); /* with one processor no other thread helps */
    assert_string_equal(json_string_value(cli_at(cli_object_of(&out, "show"), "data.value")),
                        "overlap");
    cli_outcome_free(&out);

    out = cli_run(NULL, "--json " DEMO "-c 'batch 8; picture 160x120; pipeline serial; run 15' "
                        "-c 'advise --code keras' -c 'apply A21'");
    assert_int_equal(out.code, 0);
    const json_t *keras = with_id(cli_at(cli_object_of(&out, "advise"), "data.code"), "A21");
    static const char *const lines[] = {"prefetch", "num_parallel_calls", "batch(batch_size)"};
    for (size_t i = 0; i < 3; i++)
        assert_non_null(strstr(json_string_value(cli_at(keras, "keras")), lines[i]));
    assert_true(json_object_size(cli_at(cli_object_of(&out, "apply"), "data.changes")) > 0);
    cli_outcome_free(&out);
}

/* What other commands found out is among the facts: calibration, zeros, rows, what a step may take. */
static void what_was_asked_before_counts(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "--json " DEMO
                      "-c 'batch 64; calibrate --rows 40; prune 0.9 --untimed; evaluate; run "
                      "12; predict share/layertop/demo/digits/heldout_x.npy; advise --slo 1us'");
    assert_int_equal(out.code, 0);
    const json_t *data = cli_at(cli_object_of(&out, "advise"), "data");
    assert_true(json_is_true(cli_at(data, "facts.accuracy.calibrated")));
    assert_true(cli_number_at(data, "facts.weights.zero_share") > 0.85);
    assert_true(cli_number_at(data, "facts.run.predicted_rows") == 100);
    const json_t *filled = with_id(cli_at(data, "advice"), "A13"); /* 100 rows as 64 and 36 */
    assert_non_null(filled);
    assert_non_null(strstr(json_string_value(cli_at(filled, "action")), "batch 50"));
    const json_t *answers = with_id(cli_at(data, "advice"), "A28");
    assert_non_null(answers);
    assert_string_equal(json_string_value(cli_at(answers, "changes.prune")), "off");
    assert_non_null(with_id(cli_at(data, "notes"), "A46"));
    assert_non_null(with_id(cli_at(data, "asks"), "A07")); /* no sweep: which batch would do? */
    cli_outcome_free(&out);
    out = cli_run(NULL, "--json " DEMO "-c 'evaluate; calibrate --rows 40; load demo:digits; "
                        "run 12; advise'");
    assert_int_equal(out.code, 0);
    data = cli_at(cli_object_of(&out, "advise"), "data"); /* none of it is of this plan any more */
    assert_null(json_object_get(cli_at(data, "facts.accuracy"), "agreement"));
    assert_true(json_is_false(cli_at(data, "facts.accuracy.calibrated")));
    cli_outcome_free(&out);
    cli_expect_code(NULL, DEMO "-c 'advise --slo soon'", 1, "advise --slo");
}

static void an_advice_is_applied(void **state)
{
    (void)state;
    char *path = facts_with("settings", "threads", json_real(2));
    char *line = xasprintf("--json " DEMO
                           "-c 'threads 1; advise --from %s; apply a59' -c 'advise --from %s'",
                           path, path);
    struct cli_outcome out = cli_run(NULL, line);
    assert_int_equal(out.code, 0);
    const json_t *applied = cli_at(cli_object_of(&out, "apply"), "data");
    assert_string_equal(json_string_value(cli_at(applied, "id")), "A59");
    assert_string_equal(json_string_value(cli_at(applied, "changes.threads")), "0");
    const json_t *data = cli_at(cli_object_of(&out, "advise"), "data");
    assert_string_equal(json_string_value(cli_at(data, "first")), "A59");
    cli_outcome_free(&out);
    free(line);
    cli_expect_code(NULL, DEMO "-c 'apply A59'", 1, "nothing was advised yet");
    line = xasprintf(DEMO "-c 'advise --from %s; apply A01'", path);
    cli_expect_code(NULL, line, 1, "A01 was not advised; A59");
    free(line);
    free(path);
    path = facts_with("run", "observed_ms", json_real(90)); /* nothing that a setting does */
    line = xasprintf(DEMO "-c 'advise --from %s; apply A51'", path);
    cli_expect_code(NULL, line, 1, "no setting does A51");
    free(line);
    free(path);
}

static void a_script_gets_its_lines(void **state)
{
    (void)state;
    char *path = facts_with("settings", "precision", json_string("fp32"));
    char *line = xasprintf("--json --no-tui -c 'advise --code keras --from %s'", path);
    struct cli_outcome out = cli_run(NULL, line);
    assert_int_equal(out.code, 0);
    const json_t *code = cli_at(cli_object_of(&out, "advise"), "data.code");
    assert_non_null(
        strstr(json_string_value(cli_at(with_id(code, "A55"), "keras")), "mixed_bfloat16"));
    cli_outcome_free(&out);
    free(line);
    free(path);
}

static void a_recording_is_judged(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "--json --replay " GPU " --speed max -c 'sleep 700ms; advise'");
    assert_int_equal(out.code, 0);
    const json_t *data = cli_at(cli_object_of(&out, "advise"), "data");
    assert_string_equal(json_string_value(cli_at(data, "facts.device.kind")), "gpu");
    const json_t *throttled = with_id(cli_at(data, "advice"), "A15");
    assert_non_null(throttled);
    assert_non_null(strstr(json_string_value(cli_at(throttled, "what")), "power cap"));
    assert_true(cli_number_at(data, "facts.ledger.kernel_ms") > 0.1);
    cli_outcome_free(&out);
}

static void wrong_words_are_named(void **state)
{
    (void)state;
    cli_expect_code(NULL, "--no-tui -c advise", 1, "no model is loaded");
    cli_expect_code(NULL, DEMO "-c 'advise --tyr'", 1, "none of --try");
    cli_expect_code(NULL, DEMO "-c 'advise --code torch'", 1, "is not keras");
    cli_expect_code(NULL, DEMO "-c 'advise --rounds 2'", 1, "advise --rounds");
    cli_expect_code(NULL, "--no-tui -c 'advise --from none.json'", 1, "none.json");
    cli_expect_code(NULL, "--no-tui -c 'advise --from tests/data/advise/cpu.json --try'", 1,
                    "cannot be tried");
    cli_write_file("broken.json", "{\"version\": 1, \"run\": {\"wall_ms\": \"long\"}}");
    char *line = xasprintf("--no-tui -c 'advise --from %s/broken.json'", cli_folder);
    cli_expect_code(NULL, line, 1, "'run.wall_ms' is not a number");
    free(line);
}

/* The thread that waited longest counts, and one that is new from its beginning. */
static void the_worst_thread_waits_for_all(void **state)
{
    (void)state;
    static struct host_load before, after;
    before.count = 2;
    before.threads[0].thread = 7;
    before.threads[0].waited_ns = 1000;
    before.threads[1].thread = 8;
    before.threads[1].waited_ns = 5000;
    after = before;
    after.threads[0].waited_ns = 1400;
    after.threads[1].waited_ns = 5100;
    assert_int_equal(host_load_waited_ns(&before, &after), 400);
    after.count = 3;
    after.threads[2].thread = 9;
    after.threads[2].waited_ns = 900;
    assert_int_equal(host_load_waited_ns(&before, &after), 900);
    after.count = -1;
    assert_int_equal(host_load_waited_ns(&before, &after), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_judged),
        cmocka_unit_test(a_sweep_answers_the_question),
        cmocka_unit_test(a_change_is_tried_and_taken_back),
        cmocka_unit_test(a_pipeline_that_holds_the_model_up_is_mended),
        cmocka_unit_test(what_was_asked_before_counts),
        cmocka_unit_test(an_advice_is_applied),
        cmocka_unit_test(a_script_gets_its_lines),
        cmocka_unit_test(a_recording_is_judged),
        cmocka_unit_test(wrong_words_are_named),
        cmocka_unit_test(the_worst_thread_waits_for_all),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
