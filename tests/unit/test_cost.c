/* What observing costs: made-up steps with a known cost in them. */
#include "profiler/cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

/* Steps of `step_ns`, `share` longer where they are observed, until `ratios` ratios came. Returns how
 * many steps went unobserved, and how many were made. */
static uint64_t feed(struct cost *cost, int64_t step_ns, double share, size_t ratios,
                     uint64_t *steps)
{
    uint64_t unwatched = 0;
    size_t came = 0;
    cost_step(cost, -1);
    for (*steps = 0; came < ratios; ++*steps) {
        int64_t ns = cost->unwatched ? step_ns : (int64_t)((double)step_ns * (1 + share));
        if (*steps % 7 == 3)
            ns += 3 * step_ns; /* another program on the processor */
        unwatched += cost->unwatched;
        came += cost_step(cost, ns);
    }
    return unwatched;
}

static void a_known_cost_is_found(void **state)
{
    (void)state;
    static const struct {
        int64_t step_ns;
        double share;
        unsigned watched;
    } rows[] = {
        {MS / 10, 0.05, COST_WATCHED}, {MS, 0.01, COST_WATCHED}, {MS, 0, COST_WATCHED_PAIR}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cost cost;
        struct store_cost found;
        uint64_t steps, unwatched;
        cost_reset(&cost, rows[i].watched);
        unwatched = feed(&cost, rows[i].step_ns, rows[i].share, 30, &steps);
        cost_read(&cost, &found);
        assert_int_equal(found.pairs, 30);
        assert_true(fabs(found.share - rows[i].share) < 1e-4);
        assert_true(found.low <= found.share && found.share <= found.high);
        double part = (double)unwatched / (double)steps;
        assert_true(fabs(part * (rows[i].watched + 1) - 1) < 0.15);
    }
}

static void what_is_done_now_and_then_is_added(void **state)
{
    (void)state;
    struct cost cost;
    struct store_cost found;
    uint64_t steps;
    cost_reset(&cost, COST_WATCHED);
    feed(&cost, MS, 0, 10, &steps);
    cost_round(&cost, cost.watched_ns / 50);
    cost_read(&cost, &found);
    assert_true(fabs(found.share - 0.02) < 1e-4);
    assert_true(fabs(found.low - 0.02) < 1e-4 && fabs(found.high - 0.02) < 1e-4);
}

static void drift_is_no_cost(void **state)
{
    (void)state;
    struct cost cost;
    struct store_cost found;
    cost_reset(&cost, COST_WATCHED_PAIR);
    cost_step(&cost, -1);
    for (int i = 0; i < 3000; i++)
        cost_step(&cost, MS + i * 100); /* 30 % slower at the end */
    cost_read(&cost, &found);
    assert_true(found.pairs > 20);
    assert_true(fabs(found.share) < 2e-3 && found.low < 0 && found.high > 0);
}

/* Most steps are quick, some are much longer, at random: that is no cost either */
static void scatter_is_no_cost(void **state)
{
    (void)state;
    struct cost cost;
    struct store_cost found;
    uint32_t dice = 1;
    double sum = 0;
    for (int round = 0; round < 400; round++) {
        cost_reset(&cost, COST_WATCHED_PAIR);
        cost_step(&cost, -1);
        for (int i = 0; i < 300; i++) {
            dice = dice * 1664525u + 1013904223u;
            int64_t luck = (dice >> 16) % 100;
            cost_step(&cost, (30 + luck * luck * luck / 10000) * MS);
        }
        cost_read(&cost, &found);
        sum += found.share;
    }
    assert_true(fabs(sum / 400) < 0.02); /* the steps' mean is 40 % above their median */
}

static void few_pairs_tell_nothing(void **state)
{
    (void)state;
    struct cost cost;
    struct store_cost found;
    uint64_t steps;
    for (size_t ratios = 0; ratios <= 7; ratios++) {
        cost_reset(&cost, COST_WATCHED_PAIR);
        feed(&cost, 40 * MS, 0.01, ratios, &steps);
        cost_read(&cost, &found);
        assert_int_equal(found.pairs, ratios);
        assert_int_equal(isnan(found.share), ratios < 6);
        assert_int_equal(isnan(found.low) && isnan(found.high), ratios < 6);
    }
}

/* Order statistics: of 10 the second and the ninth, of 20 the sixth and the fifteenth (any table of
 * the sign test) */
static void the_interval_is_the_sign_tests(void **state)
{
    (void)state;
    struct cost cost;
    struct store_cost found;
    cost_reset(&cost, COST_WATCHED);
    for (int i = 0; i < 10; i++)
        cost.ratios[cost.count++] = (i * 7) % 10;
    cost_read(&cost, &found);
    assert_true(found.low == 1 && found.high == 8 && found.share == 4.5);
    cost.count = 0;
    for (int i = 0; i < 20; i++)
        cost.ratios[cost.count++] = (i * 7) % 20;
    cost_read(&cost, &found);
    assert_true(found.low == 5 && found.high == 14 && found.share == 9.5);
}

static void a_pause_parts_pairs(void **state)
{
    (void)state;
    struct cost cost;
    uint64_t steps;
    cost_reset(&cost, COST_WATCHED_PAIR);
    feed(&cost, 40 * MS, 0, 3, &steps);
    while (!cost.unwatched)
        cost_step(&cost, 40 * MS);
    cost_step(&cost, -1);
    assert_false(cost.unwatched);
    assert_int_equal(cost.count, 3);
    for (int i = 0; i < COST_WATCHED_PAIR; i++)
        assert_false(cost_step(&cost, 40 * MS)); /* no block lies before these */
    assert_true(cost.unwatched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_cost_is_found),
        cmocka_unit_test(what_is_done_now_and_then_is_added),
        cmocka_unit_test(drift_is_no_cost),
        cmocka_unit_test(scatter_is_no_cost),
        cmocka_unit_test(few_pairs_tell_nothing),
        cmocka_unit_test(the_interval_is_the_sign_tests),
        cmocka_unit_test(a_pause_parts_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
