/* Series against a brute force that keeps every sample. */
#include "profiler/series.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S  INT64_C(1000000000)
#define MS INT64_C(1000000)

static const struct series_shape small = {.ring = 64, .bins = 32, .levels = 4, .base_ns = 100 * MS};

static uint32_t random_state = 1;
static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % bound;
}

struct brute {
    int64_t times[20000];
    float values[20000];
    size_t count;
};

/* Min, max, sum and count over [from, to) */
static struct series_cell brute_cell(const struct brute *all, int64_t from, int64_t to)
{
    double sum = 0;
    struct series_cell cell = {NAN, NAN, NAN, 0};
    for (size_t i = 0; i < all->count; i++) {
        if (all->times[i] < from || all->times[i] >= to)
            continue;
        cell.min = cell.count ? fminf(cell.min, all->values[i]) : all->values[i];
        cell.max = cell.count ? fmaxf(cell.max, all->values[i]) : all->values[i];
        sum += (double)all->values[i];
        cell.count++;
    }
    if (cell.count)
        cell.mean = (float)(sum / cell.count);
    return cell;
}

static void same(const struct series_cell *a, const struct series_cell *b)
{
    assert_int_equal(a->count, b->count);
    if (a->count == 0) {
        assert_true(isnan(a->min) && isnan(a->max) && isnan(a->mean));
        return;
    }
    assert_true(a->min == b->min);
    assert_true(a->max == b->max);
    assert_true(fabsf(a->mean - b->mean) <= 1e-4f * (1 + fabsf(b->mean)));
}

static void aligned_reads_are_exact_at_every_zoom(void **state)
{
    (void)state;
    static struct brute all;
    struct series *series = series_new(&small);
    int64_t time = 5 * S;
    for (int i = 0; i < 20000; i++) {
        time += random_below(60) * MS;
        if (random_below(200) == 0)
            time += 3 * S; /* a gap */
        float value = (float)random_below(100000) / 7.0f;
        series_push(series, time, 0, (double)value);
        all.times[all.count] = time;
        all.values[all.count++] = value;
        if (i % 37)
            continue;
        /* columns that begin where bins begin, over as far as a level reaches back */
        int64_t width = small.base_ns;
        for (size_t level = 0; level < small.levels; level++, width *= 4) {
            size_t columns = 1 + random_below((uint32_t)small.bins - 4);
            int64_t to = (time / width + 1) * width;
            int64_t from = to - (int64_t)columns * width;
            if (from < 0)
                continue;
            struct series_cell cells[64];
            series_read(series, from, to, columns, cells);
            for (size_t c = 0; c < columns; c++) {
                struct series_cell right =
                    brute_cell(&all, from + (int64_t)c * width, from + (int64_t)(c + 1) * width);
                same(&cells[c], &right);
            }
        }
    }
    series_free(series);
}

static void any_read_draws_each_sample_once(void **state)
{
    (void)state;
    static struct brute all;
    all.count = 0;
    struct series *series = series_new(&small);
    int64_t time = S;
    for (int i = 0; i < 5000; i++) {
        time += 1 + random_below(50) * MS;
        float value = (float)random_below(1000);
        series_push(series, time, 0, (double)value);
        all.times[all.count] = time;
        all.values[all.count++] = value;
    }
    for (int i = 0; i < 300; i++) {
        /* few columns, so that a level that is not wider than one reaches back far enough */
        int64_t span = (int64_t)(1 + random_below(150)) * S;
        size_t columns = 1 + random_below(7);
        int64_t to = time + 1;
        struct series_cell cells[64];
        series_read(series, to - span, to, columns, cells);
        uint64_t count = 0;
        for (size_t c = 0; c < columns; c++)
            count += cells[c].count;
        /* only the bin at the left edge may be cut */
        struct series_cell whole = brute_cell(&all, to - span, to);
        struct series_cell inner = brute_cell(&all, to - span + span / (int64_t)columns, to);
        assert_in_range(count, inner.count, whole.count);
    }
    series_free(series);
}

static void gaps_stay_gaps_and_spans_fill(void **state)
{
    (void)state;
    struct series *series = series_new(&small);
    struct series_cell cells[20];
    /* windows of 100 ms seen in columns of 25 ms */
    for (int i = 1; i <= 5; i++)
        series_push(series, S + i * 100 * MS, 100 * MS, i);
    series_push(series, 2 * S, 100 * MS, 9);
    series_read(series, S, S + 500 * MS, 20, cells);
    for (int i = 1; i < 20; i++) {
        assert_int_equal(cells[i].count, 1);
        assert_in_range((int)cells[i].mean, i / 4, i / 4 + 1);
    }
    series_read(series, S + 500 * MS, 2 * S + 100 * MS, 6, cells);
    assert_int_equal(cells[0].count, 1);
    assert_int_equal(cells[1].count, 0); /* nothing ran from 1.6 s to 1.9 s */
    assert_int_equal(cells[2].count, 0);
    assert_int_equal(cells[3].count, 0);
    assert_int_equal(cells[5].count, 1);
    series_read(series, 10 * S, 11 * S, 10, cells);
    for (int i = 0; i < 10; i++)
        assert_int_equal(cells[i].count, 0);
    series_free(series);
}

static void a_long_step_fills_the_bins_it_lasted(void **state)
{
    (void)state;
    struct series *series = series_new(&small);
    for (int i = 1; i <= 200; i++)
        series_push(series, i * 5 * S, 5 * S, i);
    struct series_cell cells[32];
    /* the ring reaches back 320 s, level 2 (1.6 s) 51 s; read 400 s, the coarsest reaches 204 s */
    series_read(series, 800 * S, 1000 * S, 31, cells);
    for (int i = 0; i < 31; i++)
        assert_true(cells[i].count > 0);
    series_read(series, 480 * S, 1000 * S, 20, cells);
    assert_int_equal(cells[0].count, 0); /* forgotten */
    assert_true(cells[19].count > 0);
    series_free(series);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

static void summaries_are_exact_over_the_ring(void **state)
{
    (void)state;
    struct series *series = series_new(&small);
    float values[64];
    struct summary summary;
    series_summary(series, S, S, &summary);
    assert_int_equal(summary.count, 0);
    assert_true(isnan(summary.mean) && isnan(summary.p95));
    assert_true(isnan(series_last(series)));
    for (int round = 0; round < 50; round++) {
        series_clear(series);
        int n = 1 + (int)random_below(60);
        double sum = 0;
        for (int i = 0; i < n; i++) {
            values[i] = (float)random_below(round % 2 ? 5 : 100000);
            sum += (double)values[i];
            series_push(series, S + i * 10 * MS, 0, (double)values[i]);
        }
        assert_true(series_last(series) == (double)values[n - 1]);
        qsort(values, (size_t)n, sizeof values[0], by_value);
        series_summary(series, 10 * S, 2 * S, &summary);
        assert_int_equal(summary.count, n);
        assert_true(fabs(summary.mean - sum / n) < 1e-6 * (1 + sum));
        assert_true(summary.min == (double)values[0]);
        assert_true(summary.max == (double)values[n - 1]);
        assert_true(summary.p50 == (double)values[(int)ceil(0.50 * n) - 1]);
        assert_true(summary.p95 == (double)values[(int)ceil(0.95 * n) - 1]);
    }
    /* beyond the ring the p95 is not known, the rest is */
    series_clear(series);
    for (int i = 0; i < 200; i++)
        series_push(series, S + i * 100 * MS, 0, i);
    series_summary(series, 30 * S, S + 200 * 100 * MS, &summary);
    assert_int_equal(summary.count, 200);
    assert_true(isnan(summary.p95));
    assert_true(summary.max == 199);
    assert_true(fabs(summary.mean - 99.5) < 1e-4);
    series_free(series);
}

static void odd_input_is_harmless(void **state)
{
    (void)state;
    struct series *series = series_new(&small);
    struct series_cell cells[8];
    series_push(series, S, 0, (double)NAN);
    series_push(series, S, 0, (double)INFINITY);
    series_push(series, S, 0, 1e300);
    assert_int_equal(series_time_ns(series), 0);
    series_push(series, -5, -7, 1);
    series_push(series, 10 * S, INT64_MAX, 2);
    series_push(series, 5 * S, S, 3); /* runs back: moved up */
    assert_int_equal(series_time_ns(series), 10 * S);
    series_push(series, INT64_MAX / 8, S, 4);
    series_read(series, 0, 0, 8, cells);
    series_read(series, S, 0, 8, cells);
    series_read(series, INT64_MIN, INT64_MAX, 8, cells);
    series_read(series, -S, INT64_MAX / 4, 8, cells);
    series_read(series, 0, 1, 8, cells);
    series_read(series, 0, S, 0, cells);
    series_read(NULL, 0, S, 8, cells);
    assert_int_equal(cells[0].count, 0);
    struct summary summary;
    series_summary(series, INT64_MAX, INT64_MAX, &summary);
    assert_int_equal(summary.count, 3); /* the first was moved up to 0, where the span begins */
    series_summary(NULL, S, S, &summary);
    series_free(series);
}

static void memory_is_bounded_by_the_shape(void **state)
{
    (void)state;
    assert_in_range(series_bytes(&small), 64 * 16 + 4 * 32 * 16, 64 * 16 + 4 * 32 * 16 + 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligned_reads_are_exact_at_every_zoom),
        cmocka_unit_test(any_read_draws_each_sample_once),
        cmocka_unit_test(gaps_stay_gaps_and_spans_fill),
        cmocka_unit_test(a_long_step_fills_the_bins_it_lasted),
        cmocka_unit_test(summaries_are_exact_over_the_ring),
        cmocka_unit_test(odd_input_is_harmless),
        cmocka_unit_test(memory_is_bounded_by_the_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
