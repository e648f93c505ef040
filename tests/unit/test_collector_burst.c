/* The collector over replays of a graph, on a made-up GPU that records nodes or whole graphs, one
 * millisecond of scripted time a step. */
#include "profiler/records.h"
#include "tests/support/collector_bench.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct {
    struct gpu_event events[1 << 16];
    size_t count, taken, flushed; /* flushed: of the events, those that may be taken */
    uint64_t flushes;
    enum gpu_detail detail;
    unsigned switches, offs;
    bool stuck;             /* no switch succeeds */
    bool blind;             /* no kernels after the first pause */
    bool nothing;           /* whole graphs leave no record */
    unsigned nodes, wholes; /* steps under each */
} gpu;

static void gpu_push(void *context, uint64_t tag)
{
    (void)context, (void)tag;
}
static void gpu_pop(void *context)
{
    (void)context;
}
static size_t gpu_take(void *context, struct gpu_event *events, size_t capacity)
{
    (void)context;
    size_t ready = gpu.flushed - gpu.taken;
    size_t count = ready < capacity ? ready : capacity;
    memcpy(events, gpu.events + gpu.taken, count * sizeof *events);
    gpu.taken += count;
    if (gpu.taken == gpu.count)
        gpu.taken = gpu.count = gpu.flushed = 0;
    return count;
}
static uint64_t gpu_flushes(void *context)
{
    (void)context;
    return gpu.flushes;
}
static bool gpu_flush(void *context, int64_t limit_ns)
{
    (void)context, (void)limit_ns;
    gpu.flushes++;
    gpu.flushed = gpu.count;
    return true;
}
static bool gpu_detail(void *context, enum gpu_detail detail, int64_t limit_ns)
{
    assert_int_not_equal(detail, gpu.detail);
    if (gpu.stuck)
        return false;
    gpu_flush(context, limit_ns);
    gpu.switches += detail != GPU_DETAIL_OFF && gpu.detail != GPU_DETAIL_OFF;
    gpu.offs += detail == GPU_DETAIL_OFF;
    gpu.detail = detail;
    return true;
}
static void gpu_losses(void *context, struct gpu_losses *out)
{
    (void)context;
    *out = (struct gpu_losses){.dropped = 0};
}
static uint64_t gpu_library(void *context)
{
    (void)context;
    return 0;
}
static bool gpu_alive(void *context, char *why, size_t size)
{
    (void)context, (void)why, (void)size;
    return true;
}
static void gpu_close(void *context)
{
    (void)context;
}

static const struct gpu_trace gpu_trace_table = {
    .push = gpu_push,
    .pop = gpu_pop,
    .take = gpu_take,
    .flushes = gpu_flushes,
    .detail = gpu_detail,
    .flush = gpu_flush,
    .losses = gpu_losses,
    .library_bytes = gpu_library,
    .alive = gpu_alive,
    .close = gpu_close,
};

static void gpu_work(enum gpu_event_kind kind, int op, int64_t start, int64_t end)
{
    assert_true(gpu.count < sizeof gpu.events / sizeof *gpu.events);
    gpu.events[gpu.count++] =
        (struct gpu_event){.op = op, .start_ns = start, .end_ns = end, .kind = kind};
}

/* A step of 1 ms: kernels of 0.2, 0.3 and 0.2 ms from 0.1 ms on, 0.05 ms between them */
static void run_step(struct collector_bench *bench, uint64_t number, bool captured)
{
    static const int64_t lengths[] = {MS / 5, MS * 3 / 10, MS / 5};
    const struct observer *o = collector_bench_observer(bench);
    int64_t t = bench->now, at = t + MS / 10, first = at;
    bool nodes = gpu.detail == GPU_DETAIL_NODES;
    o->step_begin(o->context, number, t);
    for (int op = 0; op < 3; op++) {
        if (captured) {
            o->op_begin(o->context, op);
            o->launches(o->context, op, 1);
            o->op_end(o->context, op, INTERVAL_LAUNCH, t + op * 1000, t + op * 1000 + 500);
        }
        if (nodes && !(gpu.blind && gpu.switches))
            gpu_work(GPU_EVENT_KERNEL, op, at, at + lengths[op]);
        at += lengths[op] + MS / 20;
    }
    if (gpu.detail == GPU_DETAIL_WHOLE && !gpu.nothing)
        gpu_work(GPU_EVENT_GRAPH, GPU_OP_NONE, first, at - MS / 20);
    nodes ? gpu.nodes++ : gpu.wholes++;
    o->step_end(o->context, number, t + MS);
    bench->now = t + MS;
    if (number % 50 == 0) {
        gpu_flush(NULL, 0);
        gpu_flush(NULL, 0);
        bench->hooks->tick(bench->hooks->context);
    }
}

static int setup(void **state)
{
    collector_bench_setup(state);
    struct collector_bench *bench = *state;
    memset(&gpu, 0, sizeof gpu);
    bench->collector->trace = &gpu_trace_table;
    json_t *plan = json_loads(collector_bench_plan, 0, NULL);
    json_object_set_new(plan, "device", json_string("gpu:0"));
    store_plan(bench->store, plan);
    json_decref(plan);
    collector_bench_observer(bench)->plan(collector_bench_observer(bench)->context, "gpu:0",
                                          &collector_bench_graph, NULL);
    bench->now = collector_bench_now();
    return 0;
}

static void replay(struct collector_bench *bench, uint64_t from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        run_step(bench, from + i, false);
}

static void nodes_are_traced_in_bursts(void **state)
{
    struct collector_bench *bench = *state;
    run_step(bench, 1, true);
    run_step(bench, 2, true);
    replay(bench, 3, 5000);
    assert_true(gpu.wholes > 4000);
    assert_true(gpu.nodes > 60);
    assert_in_range(gpu.switches, 10, 24);
    /* the figures are those of the nodes, and there have been some twice a second */
    struct store_layer row;
    bench->hooks->flush(bench->hooks->context);
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 0.4) < 1e-6);
    assert_true(fabs(row.kernels - 2) < 1e-9);
    assert_in_range(row.total.count, 50, gpu.nodes);
    assert_true(store_time_ns(bench->store) - row.time_ns < 700 * MS);
    /* a figure stands for the time since the one before: between bursts lies no gap */
    struct series_cell cells[20];
    series_read(row.series, row.time_ns - 2000 * MS, row.time_ns, 20, cells);
    for (int i = 0; i < 20; i++)
        assert_true(cells[i].count > 0 && fabs((double)cells[i].mean - 0.4) < 1e-3);
    struct ledger ledger;
    store_ledger(bench->store, &ledger);
    assert_true(fabs(ledger.class_ms[LEDGER_KERNEL] - 0.7) < 1e-6);
    assert_true(fabs(ledger.class_ms[LEDGER_GAP] - 0.1) < 1e-3);
    /* every step has its wall, and throughput counts those of whole graphs: 8 samples a ms */
    struct summary wall;
    store_wall(bench->store, &wall);
    assert_int_equal(wall.count, 5002);
    struct summary rate;
    series_summary(store_series_get(bench->store, SERIES_THROUGHPUT_GPU), 4000 * MS, bench->now,
                   &rate);
    assert_true(fabs(rate.mean / 8000 - 1) < 0.02);
    assert_int_equal(store_dropped(bench->store), 0);
}

/* To learn what observing costs, CUPTI leaves some blocks of steps alone: their samples count, their
 * layers do not, and bursts go on after them */
static void steps_without_cupti_tell_what_it_costs(void **state)
{
    struct collector_bench *bench = *state;
    bench->collector->cost_asked = true;
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 0);
    run_step(bench, 1, true);
    replay(bench, 2, 4000);
    assert_true(gpu.offs >= 20);
    assert_true(bench->collector->cost.count >= 10);
    assert_true(gpu.nodes > 60);
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 0.4) < 1e-6);
    assert_true(fabs(row.kernels - 2) < 1e-9);
    struct summary rate;
    series_summary(store_series_get(bench->store, SERIES_THROUGHPUT_GPU), 3000 * MS, bench->now,
                   &rate);
    assert_true(fabs(rate.mean / 8000 - 1) < 0.03);
    struct summary wall;
    store_wall(bench->store, &wall);
    assert_int_equal(wall.count, 4001);
    assert_int_equal(store_dropped(bench->store), 0);
    /* another plan begins with CUPTI on, wherever it was left */
    while (gpu.detail != GPU_DETAIL_OFF)
        replay(bench, 10000 + gpu.nodes + gpu.wholes, 1);
    collector_bench_observer(bench)->plan(collector_bench_observer(bench)->context, "gpu:0",
                                          &collector_bench_graph, NULL);
    assert_int_equal(gpu.detail, GPU_DETAIL_NODES);
}

/* Steps that nobody is told of run with CUPTI off, and leave nothing behind */
static void cupti_rests_while_nobody_is_told(void **state)
{
    struct collector_bench *bench = *state;
    run_step(bench, 1, true);
    replay(bench, 2, 100);
    enum gpu_detail before = gpu.detail;
    bench->hooks->rest(bench->hooks->context, true);
    assert_int_equal(gpu.detail, GPU_DETAIL_OFF);
    bench->hooks->rest(bench->hooks->context, false);
    assert_int_equal(gpu.detail, before);
    replay(bench, 200, 100);
    bench->hooks->flush(bench->hooks->context);
    assert_int_equal(store_dropped(bench->store), 0);
    /* where events time the ops there is nothing to switch off */
    bench->collector->source = TIMING_EVENTS;
    bench->hooks->rest(bench->hooks->context, true);
    assert_int_equal(gpu.detail, before);
    bench->collector->source = TIMING_CUPTI;
}

/* However few steps a run has, its first are traced node by node */
static void a_run_begins_with_a_burst(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    run_step(bench, 1, true);
    replay(bench, 2, 200);
    assert_int_equal(gpu.detail, GPU_DETAIL_WHOLE);
    for (uint32_t segment = 1; segment < 4; segment++) {
        o->segment(o->context, segment);
        replay(bench, 1000 * segment + 1, segment);
        bench->hooks->flush(bench->hooks->context);
        const struct store_segment *run = store_segment_get(bench->store, segment);
        assert_non_null(run);
        assert_int_equal(run->steps, segment);
        assert_in_range(run->layers[1].count, 1, segment);
        assert_true(fabs(run->layers[1].mean - 0.4) < 1e-6);
        assert_int_equal(run->ledger.steps, run->layers[1].count);
        o->segment(o->context, 0);
        replay(bench, 1000 * segment + 100, 100);
    }
}

/* Where the switch fails once, it is tried again; another plan begins with nodes */
static void a_switch_that_fails_is_tried_again(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    run_step(bench, 1, true);
    gpu.stuck = true;
    replay(bench, 2, 100);
    assert_int_equal(gpu.detail, GPU_DETAIL_NODES);
    gpu.stuck = false;
    replay(bench, 102, 10);
    assert_int_equal(gpu.detail, GPU_DETAIL_WHOLE);
    gpu.stuck = true;
    o->plan(o->context, "gpu:0", &collector_bench_graph, NULL);
    gpu.stuck = false;
    run_step(bench, 200, true);
    assert_int_equal(gpu.detail, GPU_DETAIL_NODES);
}

static void a_blind_cupti_is_paused_no_more_and_says_so(void **state)
{
    struct collector_bench *bench = *state;
    gpu.blind = true;
    run_step(bench, 1, true);
    replay(bench, 2, 8000);
    assert_int_equal(gpu.detail, GPU_DETAIL_NODES);
    assert_non_null(strstr(store_note(bench->store), "no kernels after a pause"));
    unsigned before = gpu.switches;
    replay(bench, 8002, 2000);
    assert_int_equal(gpu.switches, before);
}

/* A CUPTI that does not record whole graphs: the host's clock counts the samples */
static void without_graph_records_the_host_counts(void **state)
{
    struct collector_bench *bench = *state;
    gpu.nothing = true;
    run_step(bench, 1, true);
    replay(bench, 2, 8000);
    struct summary rate;
    series_summary(store_series_get(bench->store, SERIES_THROUGHPUT_GPU), 3000 * MS, bench->now,
                   &rate);
    assert_true(rate.count > 0);
    assert_true(fabs(rate.mean / 8000 - 1) < 0.05);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 0.4) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nodes_are_traced_in_bursts, setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(steps_without_cupti_tell_what_it_costs, setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(cupti_rests_while_nobody_is_told, setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_run_begins_with_a_burst, setup, collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_switch_that_fails_is_tried_again, setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_blind_cupti_is_paused_no_more_and_says_so, setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(without_graph_records_the_host_counts, setup,
                                        collector_bench_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
