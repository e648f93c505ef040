/* The collector from end to end on the CPU: sums, windows, segments, settings, losses. */
#include "profiler/cupti.h"
#include "profiler/store_trace.h"
#include "tests/support/collector_bench.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void layers_sum_over_ops_and_steps(void **state)
{
    struct collector_bench *bench = *state;
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 7);
    for (int i = 0; i < 10; i++)
        collector_bench_step(bench, (uint64_t)i, (const int64_t[]){2 * MS, 3 * MS, (4 + i) * MS});
    bench->hooks->flush(bench->hooks->context);

    const struct store_segment *segment = store_segment_get(bench->store, 7);
    assert_non_null(segment);
    assert_int_equal(segment->steps, 10);
    assert_int_equal(segment->layer_count, 4);
    assert_string_equal(segment->timing_source, "clock");
    assert_int_equal(segment->dropped_records, 0);
    /* conv: 2 + 4 + i ms, mean 6 + 4.5 */
    assert_int_equal(segment->layers[1].count, 10);
    assert_true(fabs(segment->layers[1].mean - 10.5) < 1e-6);
    assert_true(fabs(segment->layers[1].sum - 105) < 1e-6);
    assert_true(fabs(segment->layers[1].min - 6) < 1e-6);
    assert_true(fabs(segment->layers[1].max - 15) < 1e-6);
    assert_true(fabs(segment->layers[1].p50 / 10 - 1) < 0.03);
    assert_true(fabs(segment->layers[3].mean - 3) < 1e-6);
    assert_true(fabs(segment->kernels[1] - 2) < 1e-9);
    assert_int_equal(segment->layers[0].count, 0);
    assert_true(isnan(segment->layers[0].mean));
    assert_int_equal(segment->layers[2].count, 0);
    /* the ledger: wall = 1 + (2 + 3 + 8.5) + 0.2 + 0.5, kernel 13.5, of which wall - traced is not
     * explained; gap and profiler share the 0.1 ms between ops */
    const struct ledger *ledger = &segment->ledger;
    assert_int_equal(ledger->steps, 10);
    assert_true(fabs(ledger->wall_ms - 15.2) < 1e-6);
    assert_true(fabs(ledger->class_ms[LEDGER_KERNEL] - 13.5) < 1e-6);
    double sum = ledger->unexplained_ms;
    for (int i = 0; i < LEDGER_CLASS_COUNT; i++)
        sum += ledger->class_ms[i];
    assert_true(fabs(sum - ledger->wall_ms) < 1e-6);
}

/* Once in a process, and only where it costs little beside what was measured */
static void memory_is_measured_after_a_long_run(void **state)
{
    struct collector_bench *bench = *state;
    const int64_t *ops = (const int64_t[]){MS, MS, MS};
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 7);
    collector_bench_step(bench, 1, ops);
    bench->hooks->flush(bench->hooks->context);
    assert_true(isnan(store_trace_get(bench->store, "cpu")->roof.bytes_per_s));
    bench->collector->segment_ns -= 3000 * MS;
    bench->hooks->flush(bench->hooks->context); /* nothing has run since */
    double measured = bench->collector->memory_per_s;
    assert_true(measured > 0);
    assert_true(fabs(store_trace_get(bench->store, "cpu")->roof.bytes_per_s / measured - 1) < 1e-6);
    assert_true(store_trace_get(bench->store, "cpu")->kernel_count > 0);
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 8);
    bench->collector->segment_ns -= 3000 * MS;
    collector_bench_step(bench, 2, ops);
    bench->hooks->flush(bench->hooks->context);
    assert_true(fabs(bench->collector->memory_per_s - measured) <= 0);
}

static void live_rows_show_the_last_second(void **state)
{
    struct collector_bench *bench = *state;
    for (int i = 0; i < 40; i++)
        collector_bench_step(bench, (uint64_t)i, (const int64_t[]){10 * MS, 20 * MS, 10 * MS});
    for (int i = 40; i < 100; i++)
        collector_bench_step(bench, (uint64_t)i, (const int64_t[]){15 * MS, 20 * MS, 15 * MS});
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_string_equal(row.label, "conv+relu");
    assert_string_equal(row.impl, "onednn");
    assert_int_equal(row.flops, 100);
    assert_true(fabs(row.time_ms - 30) < 1e-6);
    assert_true(fabs(row.share - 30 / (1 + 50 + 0.2 + 0.5)) < 1e-3);
    assert_true(fabs(row.kernels - 2) < 1e-9);
    assert_int_equal(row.total.count, 95); /* one in twenty goes unobserved */
    assert_true(fabs(row.total.mean - 26) < 1e-6);
    store_layer(bench->store, 2, &row);
    assert_int_equal(row.fused_into, 1);
    assert_true(isnan(row.time_ms));
    store_layer(bench->store, 0, &row);
    assert_true(isnan(row.time_ms));

    struct ledger ledger;
    store_ledger(bench->store, &ledger);
    assert_in_range(ledger.steps, 15, 25);
    assert_true(fabs(ledger.class_ms[LEDGER_KERNEL] - 50) < 1e-6);
    struct summary wall;
    store_wall(bench->store, &wall);
    assert_int_equal(wall.count, 100);
    assert_true(fabs(wall.max - 51.7) < 1e-4);
    double rate = series_last(store_series_get(bench->store, SERIES_THROUGHPUT_CPU));
    assert_true(fabs(rate - 8 / 0.0517) < 0.5);
    assert_true(series_last(store_series_get(bench->store, SERIES_MEMORY_USED)) > 1e5);
}

static void a_long_step_shows_layers_before_it_ends(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    int64_t t = bench->now;
    o->step_begin(o->context, 1, t);
    o->op_end(o->context, 0, INTERVAL_KERNEL, t, t + 300 * MS);
    o->op_end(o->context, 1, INTERVAL_KERNEL, t + 300 * MS, t + 900 * MS);
    o->op_end(o->context, 2, INTERVAL_KERNEL, t + 900 * MS, t + 1000 * MS);
    struct store_layer row;
    store_layer(bench->store, 3, &row);
    assert_true(fabs(row.time_ms - 600) < 1e-6);
    store_layer(bench->store, 1, &row);
    assert_true(isnan(row.time_ms)); /* its last op has only just run */
    /* a batch in slices runs an op again: the rest belongs to the same step */
    o->op_end(o->context, 1, INTERVAL_KERNEL, t + 1000 * MS, t + 1200 * MS);
    o->step_end(o->context, 1, t + 1200 * MS);
    bench->hooks->flush(bench->hooks->context);
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 400) < 1e-6);
    store_layer(bench->store, 3, &row);
    assert_int_equal(row.total.count, 1);
    assert_true(fabs(row.total.mean - 800) < 1e-6);
}

/* A step that is longer than a window and runs in slices: p95, extremes and the plot are of whole
 * steps, not of the slice that came first. */
static void slices_add_up_to_steps(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    int64_t t = bench->now;
    for (uint64_t step = 1; step <= 20; step++) {
        o->step_begin(o->context, step, t);
        /* some steps are not watched, to measure what watching costs */
        for (int slice = 0; slice < 4 && o->op_end != NULL; slice++) {
            o->op_end(o->context, 0, INTERVAL_KERNEL, t, t + 30 * MS);
            o->op_end(o->context, 1, INTERVAL_KERNEL, t + 30 * MS, t + 100 * MS);
            o->op_end(o->context, 2, INTERVAL_KERNEL, t + 100 * MS, t + 110 * MS);
            t += 110 * MS;
        }
        o->step_end(o->context, step, t);
    }
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 3, &row);
    assert_true(fabs(row.time_ms - 280) < 1e-6);
    assert_true(row.total.count > 5);
    assert_true(fabs(row.total.mean - 280) < 1e-6);
    assert_true(fabs(row.total.max - 280) < 1e-6);
    assert_true(fabs(row.total.p50 - 280) < 10); /* of a histogram */
    assert_true(fabs(series_last(row.series) - 280) < 1e-3);
}

static void segments_do_not_mix(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    const int64_t op_ns[] = {MS, MS, MS};
    collector_bench_step(bench, 1, op_ns);
    o->segment(o->context, 1);
    collector_bench_step(bench, 2, op_ns);
    collector_bench_step(bench, 3, op_ns);
    o->segment(o->context, 2);
    collector_bench_step(bench, 4, op_ns);
    o->segment(o->context, 0);
    assert_int_equal(store_segment_get(bench->store, 1)->steps, 2);
    assert_int_equal(store_segment_get(bench->store, 2)->steps, 1);
    assert_null(store_segment_get(bench->store, 3));
    assert_null(store_segment_get(bench->store, 0));
    struct ledger ledger;
    store_ledger(bench->store, &ledger);
    assert_int_equal(ledger.steps, 1);
}

static void a_copied_observer_serves_as_well(void **state)
{
    struct collector_bench *bench = *state;
    bench->use_copy = true;
    collector_bench_step(bench, 1, (const int64_t[]){2 * MS, 3 * MS, 4 * MS});
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 6) < 1e-6);
    json_t *off = json_string("off");
    bool restart;
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", off, &restart, NULL));
    json_decref(off);
    collector_bench_step(bench, 2, (const int64_t[]){2 * MS, 3 * MS, 4 * MS});
    bench->hooks->flush(bench->hooks->context);
    store_layer(bench->store, 1, &row);
    assert_int_equal(row.total.count, 1);
}

static void throughput_counts_what_lies_between_steps(void **state)
{
    struct collector_bench *bench = *state;
    for (int i = 0; i < 10; i++) {
        collector_bench_step(bench, (uint64_t)i, (const int64_t[]){MS, MS, MS}); /* 4.7 ms */
        bench->now += 5 * MS; /* inputs are made */
    }
    bench->hooks->flush(bench->hooks->context);
    double rate = series_last(store_series_get(bench->store, SERIES_THROUGHPUT_CPU));
    assert_true(fabs(rate / (80 / (10 * 0.0047 + 9 * 0.005)) - 1) < 1e-3);
    bench->now += 1000 * MS; /* a pause is no work */
    collector_bench_step(bench, 10, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    rate = series_last(store_series_get(bench->store, SERIES_THROUGHPUT_CPU));
    assert_true(fabs(rate / (8 / 0.0047) - 1) < 1e-3);
}

static void more_intervals_than_foreseen_make_room_for_the_next_step(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    o->segment(o->context, 9);
    for (uint64_t number = 1; number <= 2; number++) {
        int64_t t = bench->now;
        o->step_begin(o->context, number, t);
        for (int slice = 0; slice < 500; slice++)
            o->op_end(o->context, 1, INTERVAL_KERNEL, t + slice * 1000, t + slice * 1000 + 900);
        o->step_end(o->context, number, t + 500 * 1000);
        bench->now = t + 500 * 1000;
    }
    bench->hooks->flush(bench->hooks->context);
    const struct store_segment *segment = store_segment_get(bench->store, 9);
    assert_int_equal(segment->steps, 2);
    assert_int_equal(segment->layers[3].count, 2);
    assert_true(fabs(segment->layers[3].mean - 0.45) < 1e-6);
    assert_int_equal(segment->ledger.steps, 1); /* the first one had lost some: it is not shown */
    assert_true(fabs(segment->ledger.class_ms[LEDGER_KERNEL] - 0.45) < 1e-6);
    assert_int_equal(segment->dropped_records, 1);
}

static void an_interrupted_step_leaves_nothing(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    o->step_begin(o->context, 1, bench->now);
    o->op_end(o->context, 0, INTERVAL_KERNEL, bench->now, bench->now + 50 * MS);
    bench->now += 60 * MS;
    collector_bench_step(bench, 2, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 2) < 1e-6);
}

static void off_still_counts_steps(void **state)
{
    struct collector_bench *bench = *state;
    json_t *off = json_string("off");
    bool restart = true;
    struct error error = {.code = ERROR_NONE};
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", off, &restart, &error));
    assert_false(restart);
    json_decref(off);
    assert_null(collector_bench_observer(bench)->op_begin);
    assert_null(collector_bench_observer(bench)->op_end);
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "cpu"), "off");
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 5);
    collector_bench_step(bench, 1, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    const struct store_segment *segment = store_segment_get(bench->store, 5);
    assert_int_equal(segment->steps, 1);
    assert_int_equal(segment->ledger.steps, 0);
    assert_int_equal(segment->layers[1].count, 0);
    assert_string_equal(store_timing_source(bench->store), "off");
}

/* Observed steps take 1 % longer: the store is told so, live and of a run, and which steps they were
 * changes nothing else. */
static void what_observing_costs_is_measured(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    const struct worker_hooks *hooks = bench->hooks;
    struct store_cost cost;
    store_cost(bench->store, &cost);
    assert_true(isnan(cost.share));
    for (uint32_t segment = 0; segment <= 3; segment += 3) {
        hooks->weigh(hooks->context, segment != 0);
        o->segment(o->context, segment);
        int unobserved = 0;
        for (uint64_t i = 1; i <= 200; i++) {
            int64_t t = bench->now;
            o->step_begin(o->context, i + segment * 1000, t);
            int64_t length = o->op_end ? 30300 * MS / 1000 : 30 * MS;
            assert_int_equal(o->op_end == NULL, o->launches == NULL);
            unobserved += o->op_end == NULL;
            for (int op = 0; op < 3 && o->op_end; op++)
                o->op_end(o->context, op, INTERVAL_KERNEL, t, t + 5 * MS);
            bench->now = t + length;
            o->step_end(o->context, i + segment * 1000, bench->now);
        }
        hooks->flush(hooks->context);
        assert_int_equal(unobserved, segment ? 50 : 10);
        store_cost(bench->store, &cost);
        assert_true(fabs(cost.share - 0.01) < 2e-3);
        assert_true(cost.pairs >= (segment ? 48 : 9));
    }
    const struct store_segment *run = store_segment_get(bench->store, 3);
    assert_int_equal(run->steps, 200);
    assert_int_equal(run->layers[3].count, 150);
    assert_int_equal(run->ledger.steps, 150);
    assert_true(fabs(run->cost.share - 0.01) < 2e-3);
    assert_int_equal(run->dropped_records, 0);
}

static void settings_are_checked(void **state)
{
    struct collector_bench *bench = *state;
    struct error error = {.code = ERROR_NONE};
    bool restart;
    json_t *wrong = json_string("fast");
    assert_false(
        bench->hooks->configure(bench->hooks->context, "profile", wrong, &restart, &error));
    assert_int_equal(error.code, ERROR_VALUE);
    assert_string_not_equal(error.hint, "");
    json_decref(wrong);
    json_t *automatic = json_string("auto");
    assert_true(
        bench->hooks->configure(bench->hooks->context, "profile", automatic, &restart, &error));
    json_decref(automatic);
    if (!cupti_driver_present()) { /* kept for a machine that has one */
        json_t *cupti = json_string("cupti");
        assert_true(
            bench->hooks->configure(bench->hooks->context, "profile", cupti, &restart, &error));
        json_decref(cupti);
#ifdef LAYERTOP_CUDA_HEADERS
        assert_non_null(strstr(store_note(bench->store), "no NVIDIA driver"));
#else
        assert_non_null(strstr(store_note(bench->store), "CUPTI"));
#endif
    }
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "cpu"), "clock");
}

static void lost_frames_are_counted(void **state)
{
    struct collector_bench *bench = *state;
    const int64_t op_ns[] = {MS, MS, MS};
    collector_bench_step(bench, 1, op_ns);
    bench->hooks->flush(bench->hooks->context);
    uint64_t before = store_dropped(bench->store);
    bench->refuse = true;
    collector_bench_step(bench, 2, op_ns);
    bench->hooks->flush(bench->hooks->context);
    bench->refuse = false;
    collector_bench_step(bench, 3, op_ns);
    bench->hooks->flush(bench->hooks->context);
    assert_true(store_dropped(bench->store) > before);
}

static void memory_is_told_by_category(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    o->memory(o->context, "cpu", MEMORY_WEIGHTS, 1000);
    o->memory(o->context, "cpu", MEMORY_ACTIVATIONS, 2000);
    o->memory(o->context, "gpu:0", MEMORY_ACTIVATIONS, 999999);
    collector_bench_step(bench, 1, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    assert_true(series_last(store_series_get(bench->store, SERIES_MEMORY_WEIGHTS)) == 1000);
    assert_true(series_last(store_series_get(bench->store, SERIES_MEMORY_ACTIVATIONS)) == 2000);
    assert_true(isnan(series_last(store_series_get(bench->store, SERIES_MEMORY_WORKSPACE))));
}

static void events_report_after_the_step(void **state)
{
    struct collector_bench *bench = *state;
    json_t *events = json_string("events");
    bool restart;
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", events, &restart, NULL));
    json_decref(events);
    json_t *plan = json_loads(collector_bench_plan, 0, NULL);
    json_object_set_new(plan, "device", json_string("gpu:0"));
    store_plan(bench->store, plan);
    json_decref(plan);
    const struct observer *o = collector_bench_observer(bench);
    o->plan(o->context, "gpu:0", &collector_bench_graph, NULL);
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "gpu:0"), "events");
    bench->now = collector_bench_now();
    o->segment(o->context, 3);
    for (int i = 0; i < 3; i++) {
        int64_t t = bench->now;
        o->step_begin(o->context, (uint64_t)i, t);
        for (int op = 0; op < 3; op++)
            o->op_end(o->context, op, INTERVAL_LAUNCH, t + op * MS, t + op * MS + MS / 2);
        o->step_end(o->context, (uint64_t)i, t + 10 * MS);
        for (int op = 0; op < 3; op++)
            o->device_time(o->context, op, (op + 1) * MS);
        bench->now = t + 10 * MS;
    }
    bench->hooks->flush(bench->hooks->context);
    const struct store_segment *segment = store_segment_on(bench->store, 3, "gpu:0");
    assert_non_null(segment);
    assert_null(store_segment_on(bench->store, 3, "cpu"));
    assert_int_equal(segment->layers[1].count, 3);
    assert_true(fabs(segment->layers[1].mean - 4) < 1e-6);
    assert_true(fabs(segment->layers[3].mean - 2) < 1e-6);
    assert_true(isnan(segment->ledger.class_ms[LEDGER_KERNEL]));
    assert_true(fabs(segment->ledger.class_ms[LEDGER_LAUNCH] - 1.5) < 0.01);
    assert_true(series_last(store_series_get(bench->store, SERIES_THROUGHPUT_GPU)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers_sum_over_ops_and_steps, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(memory_is_measured_after_a_long_run, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(live_rows_show_the_last_second, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_long_step_shows_layers_before_it_ends,
                                        collector_bench_setup, collector_bench_teardown),
        cmocka_unit_test_setup_teardown(slices_add_up_to_steps, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(segments_do_not_mix, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(throughput_counts_what_lies_between_steps,
                                        collector_bench_setup, collector_bench_teardown),
        cmocka_unit_test_setup_teardown(more_intervals_than_foreseen_make_room_for_the_next_step,
                                        collector_bench_setup, collector_bench_teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_step_leaves_nothing, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_copied_observer_serves_as_well, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(off_still_counts_steps, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(what_observing_costs_is_measured, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(settings_are_checked, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(lost_frames_are_counted, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(memory_is_told_by_category, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(events_report_after_the_step, collector_bench_setup,
                                        collector_bench_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
