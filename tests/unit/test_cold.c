/* The way to the first answer, in parts: the stopwatch, and what `cold` tells of a new worker. */
#include "engine/phases.h"
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
#include <time.h>

static void sleep_ms(int milliseconds)
{
    struct timespec time = {0, milliseconds * 1000000L};
    nanosleep(&time, NULL);
}

/* Time in an inner part is not in the outer one, and all of it is in one of them. */
static void parts_add_up(void **state)
{
    (void)state;
    struct phases phases = {0};
    int64_t start_ns = clock_now_ns();
    phases_begin(&phases, PHASE_COMPILE);
    sleep_ms(5);
    phases_begin(&phases, PHASE_UPLOAD);
    sleep_ms(10);
    phases_end(&phases);
    sleep_ms(5);
    phases_end(&phases);
    int64_t all_ns = clock_now_ns() - start_ns;
    sleep_ms(5); /* in none */
    phases_begin(&phases, PHASE_INPUT);
    phases_end(&phases);
    int64_t sum_ns = phases.spent_ns[PHASE_COMPILE] + phases.spent_ns[PHASE_UPLOAD];
    assert_true(phases.spent_ns[PHASE_COMPILE] >= 10000000);
    assert_true(phases.spent_ns[PHASE_UPLOAD] >= 10000000);
    assert_true(sum_ns <= all_ns); /* nothing counts twice */
    assert_int_equal(phases.spent_ns[PHASE_READ], 0);
    assert_int_equal(phases.depth, 0);
    phases_end(&phases); /* one too many is none */
    phases_begin(NULL, PHASE_READ);
    phases_end(NULL);
    for (int i = 0; i < 2 * PHASES_DEEP; i++)
        phases_begin(&phases, PHASE_READ);
    for (int i = 0; i < 2 * PHASES_DEEP; i++)
        phases_end(&phases);
    assert_int_equal(phases.depth, 0);
}

static void the_first_answer_is_told_in_parts(void **state)
{
    (void)state;
    struct cli_outcome outcome =
        cli_run(NULL, "--json " DEMO "-c 'batch 4; run 1; cold; run 1; assert batch == 4'");
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    const json_t *data = json_object_get(cli_object_of(&outcome, "cold"), "data");
    double sum = 0, shares = 0, read_ms = NAN, step_ms = NAN, process_ms = NAN;
    size_t index;
    json_t *part;
    json_array_foreach(cli_at(data, "parts"), index, part)
    {
        const char *name = json_string_value(cli_at(part, "name"));
        double ms = cli_number_at(part, "ms");
        assert_true(ms >= 0);
        sum += ms;
        shares += cli_number_at(part, "share");
        read_ms = strcmp(name, "read") == 0 ? ms : read_ms;
        step_ms = strcmp(name, "first_step") == 0 ? ms : step_ms;
        process_ms = strcmp(name, "process") == 0 ? ms : process_ms;
    }
    assert_true(read_ms > 0 && step_ms > 0 && process_ms > 0);
    assert_true(fabs(sum - cli_number_at(data, "total_ms")) < 1e-6 * sum);
    assert_true(fabs(shares - 1) < 1e-6);
    assert_true(step_ms == cli_number_at(data, "first_ms"));
    assert_true(cli_number_at(data, "second_ms") > 0 && cli_number_at(data, "steady_ms") > 0);
    assert_true(cli_number_at(data, "tune_ms") == 0);
    cli_outcome_free(&outcome);
    cli_expect_code(NULL, "-c cold", 1, "error[E012]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(the_first_answer_is_told_in_parts),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
