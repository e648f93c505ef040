/* The calm order of the layer table. */
#include "tui/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define SECOND ORDER_PERIOD_NS

static uint32_t seed;

/* -1 .. 1 */
static double noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (double)(1u << 23) - 1;
}

static void the_first_look_sorts(void **state)
{
    (void)state;
    struct order order = {0};
    static const double times[] = {1, NAN, 5, 3, NAN};
    static const int places[] = {2, 3, 0, 1, 4}; /* what is not known: last, in model order */
    order_look(&order, times, 5, "plan", 1);
    assert_memory_equal(order.places, places, sizeof places);
    order_clear(&order);
}

/* Ten layers, a tenth apart, each off by up to a tenth: nobody moves for long. */
static void noise_moves_nothing(void **state)
{
    (void)state;
    struct order order = {0};
    int before[10], changes = 0;
    seed = 1;
    for (int second = 0; second < 300; second++) {
        double times[10];
        for (int i = 0; i < 10; i++)
            times[i] = (2 - 0.1 * i) * (1 + 0.1 * noise());
        order_look(&order, times, 10, "plan", second * SECOND);
        /* the first seconds may still find out */
        changes += second > 20 && memcmp(before, order.places, sizeof before) != 0;
        memcpy(before, order.places, sizeof before);
    }
    assert_true(changes <= 3);
    order_clear(&order);
}

static void a_real_change_shows_soon(void **state)
{
    (void)state;
    struct order order = {0};
    seed = 2;
    for (int second = 0; second < 40; second++) {
        bool changed = second >= 20;
        double times[] = {3 * (1 + 0.05 * noise()), (changed ? 6 : 2) * (1 + 0.05 * noise())};
        order_look(&order, times, 2, "plan", second * SECOND);
        if (second == 19)
            assert_int_equal(order.places[0], 0);
        if (second == 25)
            assert_int_equal(order.places[0], 1);
    }
    order_clear(&order);
}

/* The first steps of a model prepare things: what they took is soon forgotten. */
static void a_wild_beginning_is_forgotten(void **state)
{
    (void)state;
    struct order order = {0};
    for (int second = 0; second < 5; second++) {
        double times[] = {second == 0 ? 400 : 1, 20, 30};
        order_look(&order, times, 3, "plan", second * SECOND);
    }
    assert_int_equal(order.places[0], 2);
    assert_int_equal(order.places[1], 1);
    assert_int_equal(order.places[2], 0);
    order_clear(&order);
}

/* On a machine in turmoil the table still has an order. */
static void what_is_far_apart_is_sorted(void **state)
{
    (void)state;
    struct order order = {0};
    seed = 3;
    for (int second = 0; second < 60; second++) {
        double times[] = {10 * (1 + 0.5 * noise()), 30 * (1 + 0.5 * noise())};
        order_look(&order, second == 0 ? (const double[]){30, 10} : times, 2, "plan",
                   second * SECOND);
        if (second > 15)
            assert_int_equal(order.places[0], 1);
    }
    order_clear(&order);
}

static void what_is_equal_stays(void **state)
{
    (void)state;
    struct order order = {0};
    for (int second = 0; second < 50; second++) {
        double times[] = {1, second == 0 ? 0.5 : 1.01};
        order_look(&order, times, 2, "plan", second * SECOND);
        assert_int_equal(order.places[0], 0);
    }
    order_clear(&order);
}

static void another_plan_begins_anew(void **state)
{
    (void)state;
    struct order order = {0};
    order_look(&order, (const double[]){3, 1}, 2, "plan", 0);
    order_look(&order, (const double[]){1, 3}, 2, "plan", SECOND / 2); /* too soon */
    assert_int_equal(order.places[0], 0);
    order_look(&order, (const double[]){1, 3}, 2, "other plan", SECOND / 2);
    assert_int_equal(order.places[0], 1);
    /* nothing was known of this one: the first time that comes counts at once */
    order_look(&order, (const double[]){NAN, NAN, NAN}, 3, "third", SECOND);
    order_look(&order, (const double[]){1, 2, 3}, 3, "third", SECOND + 1);
    assert_int_equal(order.places[0], 2);
    order_clear(&order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_look_sorts),
        cmocka_unit_test(noise_moves_nothing),
        cmocka_unit_test(a_real_change_shows_soon),
        cmocka_unit_test(what_is_equal_stays),
        cmocka_unit_test(another_plan_begins_anew),
        cmocka_unit_test(a_wild_beginning_is_forgotten),
        cmocka_unit_test(what_is_far_apart_is_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
