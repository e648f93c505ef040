/* The ledger against a brute force over every nanosecond, and by hand. */
#include "profiler/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t random_state = 99;
static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % bound;
}

static int64_t sum_of(const struct ledger_split *split)
{
    int64_t sum = 0;
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
        sum += split->class_ns[c];
    return sum;
}

#define SPAN 400

static void brute(const struct ledger_interval *intervals, size_t count, struct ledger_split *out)
{
    *out = (struct ledger_split){.first_ns = 0};
    int first = SPAN, last = 0;
    for (size_t i = 0; i < count; i++) {
        if (intervals[i].end_ns <= intervals[i].start_ns)
            continue;
        first = intervals[i].start_ns < first ? (int)intervals[i].start_ns : first;
        last = intervals[i].end_ns > last ? (int)intervals[i].end_ns : last;
    }
    if (first >= last)
        return;
    out->first_ns = first;
    out->last_ns = last;
    for (int t = first; t < last; t++) {
        int best = LEDGER_GAP;
        for (int c = LEDGER_INTERVAL_CLASSES - 1; c >= 0; c--) {
            for (size_t i = 0; i < count; i++) {
                if (intervals[i].class == c && intervals[i].start_ns <= t &&
                    t < intervals[i].end_ns) {
                    out->covered_ns[c]++;
                    best = c;
                    break;
                }
            }
        }
        out->class_ns[best]++;
    }
}

static void classes_partition_the_traced_interval(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct ledger_interval intervals[40], copy[40];
        size_t count = random_below(40);
        int64_t cursor = 0;
        for (size_t i = 0; i < count; i++) {
            /* some rounds ordered as a host reports them, some wild, some empty or backwards */
            int64_t start = round % 2 ? random_below(SPAN - 1) : cursor % (SPAN - 1);
            int64_t end = start + random_below(round % 3 ? 20 : 200);
            end = end < SPAN ? end : SPAN;
            cursor = end;
            if (random_below(30) == 0)
                end = start - 3;
            intervals[i] =
                (struct ledger_interval){start, end, (int)random_below(LEDGER_INTERVAL_CLASSES)};
        }
        memcpy(copy, intervals, sizeof copy);
        struct ledger_split split, right;
        ledger_partition(intervals, count, &split);
        brute(copy, count, &right);
        assert_memory_equal(&split, &right, sizeof split);
        assert_int_equal(sum_of(&split), split.last_ns - split.first_ns);
    }
}

static void priority_is_kernel_copy_profiler_launch_preprocess(void **state)
{
    (void)state;
    struct ledger_interval intervals[] = {{0, 100, LEDGER_PREPROCESS}, {10, 90, LEDGER_LAUNCH},
                                          {20, 80, LEDGER_PROFILER},   {30, 70, LEDGER_COPY},
                                          {40, 60, LEDGER_KERNEL},     {110, 120, LEDGER_KERNEL}};
    struct ledger_split split;
    ledger_partition(intervals, 6, &split);
    for (int c = 0; c <= LEDGER_PREPROCESS; c++)
        assert_int_equal(split.class_ns[c], c == LEDGER_KERNEL ? 30 : 20);
    assert_int_equal(split.class_ns[LEDGER_GAP], 10);
    assert_int_equal(split.covered_ns[LEDGER_LAUNCH] - split.class_ns[LEDGER_LAUNCH], 60);
}

static void unexplained_is_signed(void **state)
{
    (void)state;
    struct ledger_interval intervals[] = {{100, 200, LEDGER_KERNEL}, {250, 300, LEDGER_KERNEL}};
    struct ledger_split split;
    ledger_partition(intervals, 2, &split);
    assert_int_equal(ledger_unexplained_ns(&split, 260), 60);
    assert_int_equal(ledger_unexplained_ns(&split, 200), 0);
    assert_int_equal(ledger_unexplained_ns(&split, 150), -50); /* clocks that disagree show */
    ledger_partition(NULL, 0, &split);
    assert_int_equal(ledger_unexplained_ns(&split, 70), 70);
}

static void classes_have_names(void **state)
{
    (void)state;
    assert_string_equal(ledger_class_name(LEDGER_KERNEL), "kernel");
    assert_string_equal(ledger_class_name(LEDGER_GAP), "gap");
    assert_string_equal(ledger_class_name((enum ledger_class)99), "?");
}

/* Device events appended after host intervals, thousands of them: the sort must not go quadratic */
static void big_unordered_steps_are_sorted(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct ledger_interval *intervals = calloc(2 * N, sizeof *intervals);
    for (int i = 0; i < N; i++) {
        intervals[i] = (struct ledger_interval){1000 + i * 10, 1000 + i * 10 + 8, LEDGER_KERNEL};
        intervals[N + i] = (struct ledger_interval){i * 10, i * 10 + 4, LEDGER_LAUNCH};
    }
    struct ledger_split split;
    ledger_partition(intervals, 2 * N, &split);
    assert_int_equal(split.class_ns[LEDGER_KERNEL], N * 8);
    assert_int_equal(sum_of(&split), 1000 + (N - 1) * 10 + 8);
    free(intervals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_partition_the_traced_interval),
        cmocka_unit_test(priority_is_kernel_copy_profiler_launch_preprocess),
        cmocka_unit_test(unexplained_is_signed),
        cmocka_unit_test(classes_have_names),
        cmocka_unit_test(big_unordered_steps_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
