/* The roofline: what bounds a layer, its drawing, and the ceilings of this machine. */
#include "commands/roofline.h"
#include "engine/cpu/ceilings.h"
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

/* 100 GFLOP/s, 10 GB/s of memory and 100 GB/s of caches: the ridge is at 10 FLOPs a byte. */
static const struct roofline roof = {100e9, 10e9, 100e9};

static void expect_place(double flops, double bytes, double time_ms, enum roofline_bound bound,
                         double share)
{
    struct roofline_place place;
    roofline_place(&roof, flops, bytes, time_ms, &place);
    if (place.bound != bound || fabs(place.share - share) > 1e-9)
        fail_msg("%g FLOPs, %g bytes, %g ms: %s, %g of its roof", flops, bytes, time_ms,
                 roofline_bound_name(place.bound), place.share);
}

static void what_takes_longest_bounds(void **state)
{
    (void)state;
    expect_place(1e9, 1e6, 12.5, BOUND_COMPUTE, 0.8);
    expect_place(1e6, 1e8, 20, BOUND_MEMORY, 0.5);
    expect_place(0, 1e8, 20, BOUND_MEMORY, 0.5); /* a copy has no FLOPs */
    expect_place(1e6, 1e8, 10 / ROOFLINE_NEAR * 1.01, BOUND_OVERHEAD, ROOFLINE_NEAR / 1.01);
    expect_place(1e6, 1e8, 10 / ROOFLINE_NEAR * 0.99, BOUND_MEMORY, ROOFLINE_NEAR / 0.99);
    /* 50 GB/s do not come out of memory */
    expect_place(1e6, 1e8, 2, BOUND_CACHE, 0.5);
    expect_place(1.5e8, 1e8, 2, BOUND_COMPUTE, 0.75);
}

static void what_is_reached_is_told(void **state)
{
    (void)state;
    struct roofline_place place;
    roofline_place(&roof, 2e8, 1e8, 20, &place);
    assert_true(fabs(place.intensity - 2) < 1e-12);
    assert_true(fabs(place.flops_per_s - 1e10) < 1);
    assert_true(fabs(place.bytes_per_s - 5e9) < 1);
    assert_true(fabs(place.attainable - 2e10) < 1);
    roofline_place(&roof, 2e8, 1e8, NAN, &place);
    assert_int_equal(place.bound, BOUND_UNKNOWN);
    assert_true(isnan(place.flops_per_s));
    roofline_place(&roof, 0, 0, 1, &place);
    assert_int_equal(place.bound, BOUND_UNKNOWN);
    struct roofline unknown = {NAN, 10e9, NAN};
    roofline_place(&unknown, 2e8, 1e8, 20, &place);
    assert_int_equal(place.bound, BOUND_UNKNOWN);
    assert_true(place.flops_per_s > 0); /* that is known all the same */
}

static void the_drawing_is_this(void **state)
{
    (void)state;
    static const struct roofline_mark marks[] = {
        {10, 90e9, 'a'}, {1, 2e9, 'b'}, {1, 2e9, 'c'}, {NAN, 1e9, 'x'}, {100, 3e9, 'd'}};
    static const char expected[] = "        |\n"
                                   "        |\n"
                                   "        |\n"
                                   "  100 G +        a-----------------\n"
                                   "        |     ...\n"
                                   "        |   ...\n"
                                   "        | ..\n"
                                   "   10 G +.\n"
                                   "        |\n"
                                   "        |b                d\n"
                                   "    1 G +\n"
                                   "        +--------------------------\n"
                                   "         1       10       100      1 k FLOP/byte\n";
    char *text = roofline_draw(&roof, marks, 5, 35, 13, false);
    assert_string_equal(text, expected);
    free(text);
    text = roofline_draw(&roof, marks, 5, 35, 13, true);
    assert_non_null(strstr(text, "100 G \u2524"));
    free(text);
    /* of any size, or none */
    for (int cols = 0; cols < 60; cols += 7)
        for (int rows = 0; rows < 30; rows++)
            free(roofline_draw(&roof, marks, 5, cols, rows, true));
    struct roofline unknown = {100e9, NAN, NAN};
    assert_null(roofline_draw(&unknown, marks, 5, 35, 13, false));
}

/* Of a machine that others use too, only what no machine is beyond. */
static void this_machine_has_ceilings(void **state)
{
    (void)state;
    double flops = ceiling_multiply_adds(1), memory = ceiling_read(1, 64 << 20);
    assert_true(flops > 1e8 && flops < 1e13);
    assert_true(memory > 1e7 && memory < 1e13);
    assert_true(ceiling_read(1, 0) >= 0);
    assert_true(ceiling_threads(3) == 3 && ceiling_threads(0) > 0);
}

static void layers_stand_under_the_roof(void **state)
{
    (void)state;
    struct cli_outcome outcome =
        cli_run(NULL, "--json " DEMO "-c 'batch 4; warmup 1; roof --top 3; roof; "
                      "assert flops_per_s > 0 and bytes_per_s > 0'");
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    const json_t *first = json_object_get(json_array_get(outcome.objects, 4), "data");
    const json_t *second = json_object_get(json_array_get(outcome.objects, 5), "data");
    size_t index, known = 0;
    json_t *layer;
    double sum = 0, bounds = 0;
    assert_true(json_array_size(cli_at(first, "layers")) > 5);
    json_array_foreach(cli_at(first, "layers"), index, layer)
    {
        double share = cli_number_at(layer, "roof_share");
        sum += cli_number_at(layer, "time_ms");
        known += share > 0;
        assert_true(isnan(share) || share < ROOFLINE_NEAR ||
                    strcmp(json_string_value(cli_at(layer, "bound")), "overhead") != 0);
    }
    assert_true(known > 5);
    static const char *const parts[] = {"compute_ms", "memory_ms", "cache_ms", "overhead_ms",
                                        "unknown_ms"};
    for (size_t i = 0; i < 5; i++) {
        char path[64];
        snprintf(path, sizeof path, "bounds.%s", parts[i]);
        bounds += cli_number_at(first, path);
    }
    assert_true(fabs(bounds - sum) < 1e-6 * sum);
    assert_true(cli_number_at(first, "ceilings.took_ms") > 0);
    /* kept for the session */
    assert_true(json_equal(cli_at(first, "ceilings"), cli_at(second, "ceilings")));
    cli_outcome_free(&outcome);
    cli_expect_code(NULL, DEMO "-c 'roof --what'", 1, "not understood");
    cli_expect_code(NULL, DEMO "-c 'roof --top 0'", 1, "roof --top");
    cli_expect_code(NULL, "-c roof", 1, "error[E012]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_takes_longest_bounds),   cmocka_unit_test(what_is_reached_is_told),
        cmocka_unit_test(the_drawing_is_this),         cmocka_unit_test(this_machine_has_ceilings),
        cmocka_unit_test(layers_stand_under_the_roof),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
