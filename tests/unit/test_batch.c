/* `batch max`: the line through measured steps, and the three numbers as a script gets them. */
#include "commands/batch_fit.h"
#include "tests/support/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- the line ---- */

static void a_line_is_found_again(void **state)
{
    (void)state;
    struct batch_point points[8];
    struct batch_fit fit;
    for (int i = 0; i < 8; i++)
        points[i] = (struct batch_point){1 << i, 1.2 + 0.08 * (1 << i)};
    batch_fit(points, 8, &fit);
    assert_true(fabs(fit.a_ms - 1.2) < 1e-9 && fabs(fit.b_ms - 0.08) < 1e-9);
    assert_true(fit.r2 > 0.999999);
    int measured;
    /* B / (1.2 + 0.08 B) >= 0.95 / 0.08 from 285 on */
    assert_int_equal(batch_knee(&fit, points, 8, 65536, &measured), 285);
    assert_false(measured);
    assert_int_equal(batch_knee(&fit, points, 8, 100, &measured), 100);
    /* 1.2 + 0.08 B <= 25 up to 297 */
    assert_int_equal(batch_within(&fit, 25.001, 65536), 297);
    assert_int_equal(batch_within(&fit, 25.001, 64), 64);
    assert_int_equal(batch_within(&fit, 1.25, 64), 0);
}

static void what_is_no_line_is_measured(void **state)
{
    (void)state;
    struct batch_point points[] = {{1, 1}, {2, 5}, {4, 2}, {8, 30}, {16, 8}, {32, 17}};
    struct batch_fit fit;
    int measured;
    batch_fit(points, 6, &fit);
    assert_true(fit.r2 < 0.9);
    assert_int_equal(batch_knee(&fit, points, 6, 64, &measured), 4); /* 2 a ms, as the best */
    assert_true(measured);
    batch_fit(points, 1, &fit);
    assert_true(isnan(fit.a_ms) && isnan(fit.b_ms));
    assert_int_equal(batch_knee(&fit, points, 1, 64, &measured), 1);
    assert_int_equal(batch_knee(&fit, points, 0, 64, &measured), 0);
}

/* ---- the command ---- */

#define DEMO "demo:digits -k -c 'devices cpu; threads 1; limit 4MiB; batch 8' "

static void dry_computes_and_runs_nothing(void **state)
{
    (void)state;
    int code;
    json_t *out = program_objects(DEMO "-c 'batch max --dry; batch'", &code);
    assert_int_equal(code, 0);
    assert_string_equal(json_string_value(program_at(out, 5, "cmd")), "batch");
    double fits = program_number(out, 5, "data.fits");
    assert_true(fits > 8 && fits < 1000);
    assert_true(json_is_false(program_at(out, 5, "data.next_fits")));
    assert_true(program_number(out, 5, "data.planned_bytes") <= 4 << 20);
    assert_true(program_number(out, 5, "data.next_bytes") > 4 << 20);
    assert_int_equal(json_array_size(program_at(out, 5, "data.points")), 0);
    assert_true(json_is_null(program_at(out, 5, "data.knee")));
    assert_true(json_is_null(program_at(out, 5, "data.proof")));
    json_decref(out);
}

static void the_proof_runs_and_is_refused(void **state)
{
    (void)state;
    int code;
    json_t *out = program_objects(DEMO "-c 'batch max --prove --slo 10s; show batch'", &code);
    assert_int_equal(code, 0);
    double fits = program_number(out, 5, "data.fits");
    assert_true(program_number(out, 5, "data.proof.batch") == fits);
    assert_true(json_is_true(program_at(out, 5, "data.proof.next_refused")));
    assert_true(program_number(out, 5, "data.proof.measured_bytes") > 0);
    double knee = program_number(out, 5, "data.knee");
    assert_true(knee >= 1 && knee <= fits);
    assert_true(program_number(out, 5, "data.within_slo") == fits);
    assert_true(program_number(out, 5, "data.recommended") == knee);
    assert_true(json_array_size(program_at(out, 5, "data.points")) >= 4);
    /* the batch is as it was */
    assert_true(program_number(out, 6, "data.value") == 8 ||
                program_number(out, 6, "data.batch") == 8);
    json_decref(out);
}

static void what_is_not_meant_is_refused(void **state)
{
    (void)state;
    int code;
    json_t *out = program_objects(
        DEMO "-c 'limit none; batch max --dry; batch max --dry --slo 5ms; batch max --headroom "
             "200%; batch max 5; batch 99999999; batch 16'",
        &code);
    for (size_t i = 7; i <= 10; i++)
        assert_true(json_is_false(program_at(out, i, "ok")));
    assert_string_equal(json_string_value(program_at(out, 11, "cmd")), "set");
    assert_true(json_is_true(program_at(out, 11, "ok")));
    json_decref(out);
}

/* The wall as a script sees it: exit 5, the report, and the old batch runs on. */
static void the_wall_exits_five_with_a_report(void **state)
{
    (void)state;
    int code;
    json_t *out = program_objects(DEMO "-c 'batch 60000; batch 60000 --force; run 1; oom'", &code);
    assert_int_equal(code, 5);
    assert_string_equal(json_string_value(program_at(out, 5, "error.code")), "E041");
    assert_string_equal(json_string_value(program_at(out, 6, "error.code")), "E040");
    for (size_t i = 5; i <= 6; i++) {
        assert_true(program_number(out, i, "data.oom.batch") == 60000);
        assert_true(program_number(out, i, "data.oom.fits.fp32") >= 8);
        assert_true(program_number(out, i, "data.oom.live.0.bytes") > 0);
    }
    assert_true(json_is_false(program_at(out, 6, "data.oom.forecast")));
    assert_true(program_number(out, 7, "data.batch") == 8);
    assert_true(program_number(out, 8, "data.asked_bytes") > 4 << 20);
    json_decref(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_found_again),
        cmocka_unit_test(what_is_no_line_is_measured),
        cmocka_unit_test(dry_computes_and_runs_nothing),
        cmocka_unit_test(the_proof_runs_and_is_refused),
        cmocka_unit_test(what_is_not_meant_is_refused),
        cmocka_unit_test(the_wall_exits_five_with_a_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
