/* The collector where kernels run elsewhere and are told of late: a made-up GPU. */
#include "profiler/records.h"
#include "tests/support/collector_bench.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct {
    struct gpu_event events[4096];
    size_t count, taken;
    bool lacking; /* the last kernel and the copy never come */
    uint64_t flushes;
    uint64_t stack[4];
    int depth;
    struct gpu_losses losses;
    bool dead, closed;
    int64_t ours;
} gpu;

static void gpu_push(void *context, uint64_t tag)
{
    (void)context;
    gpu.stack[gpu.depth++] = tag;
}
static void gpu_pop(void *context)
{
    (void)context;
    assert_true(gpu.depth-- > 0);
}
static size_t gpu_take(void *context, struct gpu_event *events, size_t capacity)
{
    (void)context;
    size_t ready = gpu.flushes ? gpu.count - gpu.taken : 0;
    size_t count = ready < capacity ? ready : capacity;
    memcpy(events, gpu.events + gpu.taken, count * sizeof *events);
    gpu.taken += count;
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
    return true;
}
static void gpu_losses(void *context, struct gpu_losses *out)
{
    (void)context;
    *out = gpu.losses;
}
static uint64_t gpu_library(void *context)
{
    (void)context;
    return 12345;
}
static void gpu_ours(void *context, int64_t delta)
{
    (void)context;
    gpu.ours += delta;
}
static uint64_t gpu_own_bytes(void *context)
{
    (void)context;
    return 600;
}
static bool gpu_alive(void *context, char *why, size_t size)
{
    (void)context;
    snprintf(why, size, "it fell over");
    return !gpu.dead;
}
static void gpu_close(void *context)
{
    (void)context;
    gpu.closed = true;
}

static const struct gpu_trace gpu_trace_table = {
    .push = gpu_push,
    .pop = gpu_pop,
    .take = gpu_take,
    .flushes = gpu_flushes,
    .flush = gpu_flush,
    .losses = gpu_losses,
    .library_bytes = gpu_library,
    .ours = gpu_ours,
    .own_bytes = gpu_own_bytes,
    .alive = gpu_alive,
    .close = gpu_close,
};

static int setup_gpu(void **state)
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
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "gpu:0"), "cupti");
    bench->now = collector_bench_now();
    return 0;
}

static void gpu_work(enum gpu_event_kind kind, uint64_t tag, int op, int64_t start, int64_t end)
{
    gpu.events[gpu.count++] =
        (struct gpu_event){.tag = tag, .op = op, .start_ns = start, .end_ns = end, .kind = kind};
}

/* Ops launch in 0.1 ms each from 1 ms on; their kernels run 1, 2, 3 ms from 1.05 ms on, back to
 * back; a copy of 0.5 ms follows; the step ends at 8 ms */
static void gpu_step(struct collector_bench *bench, uint64_t number, bool tagged)
{
    const struct observer *o = collector_bench_observer(bench);
    int64_t t = bench->now;
    o->step_begin(o->context, number, t);
    assert_int_equal(gpu_tag_step(gpu.stack[0]), (uint32_t)number);
    int64_t at = t + MS + MS / 20;
    for (int op = 0; op < 3; op++) {
        o->op_begin(o->context, op);
        assert_int_equal(gpu_tag_op(gpu.stack[1]), op);
        if (!gpu.lacking || op < 2)
            gpu_work(GPU_EVENT_KERNEL, tagged ? gpu.stack[1] : 0, op, at, at + (op + 1) * MS);
        at += (op + 1) * MS;
        o->launches(o->context, op, 1);
        o->op_end(o->context, op, INTERVAL_LAUNCH, t + MS + op * MS / 10,
                  t + MS + (op + 1) * MS / 10);
    }
    if (!gpu.lacking)
        gpu_work(GPU_EVENT_COPY, gpu.stack[0], GPU_OP_NONE, at, at + MS / 2);
    o->interval(o->context, INTERVAL_COPY, -1, 100, t + 2 * MS, t + 8 * MS);
    gpu_work(GPU_EVENT_OVERHEAD, 0, GPU_OP_NONE, at + MS / 2, at + MS * 7 / 10);
    o->step_end(o->context, number, t + 8 * MS);
    assert_int_equal(gpu.depth, 0);
    bench->now = t + 8 * MS;
}

static void check_gpu_segment(const struct store_segment *segment, uint64_t steps)
{
    assert_non_null(segment);
    assert_string_equal(segment->timing_source, "cupti");
    assert_int_equal(segment->steps, steps);
    assert_int_equal(segment->ledger.steps, steps);
    assert_int_equal(segment->layers[1].count, steps);
    assert_true(fabs(segment->layers[1].mean - 4) < 1e-6); /* ops 0 and 2: 1 + 3 ms */
    assert_true(fabs(segment->layers[3].mean - 2) < 1e-6);
    assert_true(fabs(segment->kernels[1] - 2) < 1e-9);
    const double *ms = segment->ledger.class_ms;
    assert_true(fabs(ms[LEDGER_KERNEL] - 6) < 1e-6);
    assert_true(fabs(ms[LEDGER_COPY] - 0.5) < 1e-6);     /* the device's, not the host's wait */
    assert_true(fabs(ms[LEDGER_PROFILER] - 0.2) < 0.01); /* CUPTI's own */
    /* launch is seen for 0.05 ms; the rest is hidden behind the first kernel */
    assert_true(fabs(ms[LEDGER_LAUNCH] - 0.05) < 0.01);
    assert_true(fabs(segment->ledger.hidden_ms[LEDGER_LAUNCH] - 0.25) < 0.01);
    assert_true(fabs(segment->ledger.hidden_ms[LEDGER_KERNEL]) < 1e-9);
    assert_true(fabs(segment->ledger.wall_ms - 8) < 1e-6);
    double sum = segment->ledger.unexplained_ms;
    for (int i = 0; i < LEDGER_CLASS_COUNT; i++)
        sum += ms[i];
    assert_true(fabs(sum - 8) < 1e-6);
}

static void kernels_that_come_late_find_their_step(void **state)
{
    struct collector_bench *bench = *state;
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 4);
    for (int i = 0; i < 20; i++)
        gpu_step(bench, UINT32_MAX - 10 + (uint64_t)i, true); /* the tag's low 32 bits wrap */
    assert_null(store_segment_on(bench->store, 9, "gpu:0"));
    bench->hooks->flush(bench->hooks->context);
    check_gpu_segment(store_segment_get(bench->store, 4), 20);
    assert_int_equal(store_segment_get(bench->store, 4)->dropped_records, 0);
    assert_true(series_last(store_series_get(bench->store, SERIES_LIBRARY_ALLOC)) == 12345);
}

static void kernels_without_a_tag_are_placed_by_time(void **state)
{
    struct collector_bench *bench = *state;
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 5);
    for (int i = 0; i < 5; i++)
        gpu_step(bench, 100 + (uint64_t)i, false);
    bench->hooks->flush(bench->hooks->context);
    check_gpu_segment(store_segment_get(bench->store, 5), 5);
    /* steps back to back, each with a last kernel just before the next one begins */
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 6);
    for (int i = 0; i < 5; i++) {
        gpu_step(bench, 200 + (uint64_t)i, false);
        gpu_work(GPU_EVENT_KERNEL, 0, 1, bench->now - 3000, bench->now - 1000);
    }
    bench->hooks->flush(bench->hooks->context);
    const struct summary *dense = &store_segment_get(bench->store, 6)->layers[3];
    assert_int_equal(dense->count, 5);
    assert_true(fabs(dense->min - 2.002) < 1e-6);
    assert_true(fabs(dense->max - 2.002) < 1e-6);
}

static void live_steps_wait_for_their_flush(void **state)
{
    struct collector_bench *bench = *state;
    for (int i = 0; i < 20; i++) {
        gpu_step(bench, (uint64_t)i, true);
        gpu.flushes++; /* as the decoder does by itself */
    }
    struct store_layer row;
    store_layer(bench->store, 3, &row);
    assert_true(fabs(row.time_ms - 2) < 1e-6);
    assert_in_range(row.total.count, 8, 19); /* windows of 100 ms hold 12 steps; the rest waits */
}

static void a_step_that_lacks_kernels_is_given_up_on_once(void **state)
{
    struct collector_bench *bench = *state;
    gpu.lacking = true;
    for (int i = 0; i < 60; i++) {
        gpu_step(bench, (uint64_t)i, true);
        gpu.flushes++;
        bench->hooks->tick(bench->hooks->context);
    }
    struct store_layer row;
    store_layer(bench->store, 3, &row);
    /* the first waited for 40 flushes, the others knew better */
    assert_true(row.total.count > 15);
    assert_true(fabs(row.time_ms - 2) < 1e-6);
}

/* The captured step says how many kernels there are; replays launch them without a word. One was
 * interrupted between. */
static void replays_of_a_graph_are_waited_for(void **state)
{
    struct collector_bench *bench = *state;
    bench->use_copy = true;
    const struct observer *o = collector_bench_observer(bench);
    gpu_step(bench, 1, true);
    o->step_begin(o->context, 2, bench->now);
    bench->now += MS;
    o->segment(o->context, 8);
    assert_int_equal(gpu.depth, 0);
    for (uint64_t number = 3; number < 8; number++) {
        int64_t t = bench->now;
        o->step_begin(o->context, number, t);
        for (int op = 0; op < 2; op++)
            gpu_work(GPU_EVENT_KERNEL, 0, op, t + (op + 1) * MS, t + (op + 2) * MS);
        o->step_end(o->context, number, t + 5 * MS);
        gpu.flushes += 5; /* the last kernel's buffer is held back for so long */
        bench->hooks->tick(bench->hooks->context);
        /* it starts a microsecond before the next step does, and is still of this one */
        gpu_work(GPU_EVENT_KERNEL, 0, 2, t + 5 * MS - 1000, t + 6 * MS - 1000);
        gpu.flushes++;
        bench->hooks->tick(bench->hooks->context);
        bench->now = t + 5 * MS;
    }
    bench->hooks->flush(bench->hooks->context);
    const struct store_segment *segment = store_segment_get(bench->store, 8);
    assert_non_null(segment);
    assert_int_equal(segment->layers[1].count, 5);
    assert_true(fabs(segment->layers[1].mean - 2) < 1e-6);
    assert_true(fabs(segment->ledger.class_ms[LEDGER_KERNEL] - 3) < 1e-6);
    assert_int_equal(segment->dropped_records, 0);
}

static void losses_are_told(void **state)
{
    struct collector_bench *bench = *state;
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 6);
    gpu_step(bench, 1, true);
    gpu.losses = (struct gpu_losses){.dropped = 2, .untimed = 4};
    gpu_work(GPU_EVENT_KERNEL, gpu_tag(77, 1), 1, 5, 6);      /* of no step we know */
    gpu_work(GPU_EVENT_KERNEL, 0, GPU_OP_NONE, 50000, 60000); /* before any step: no loss */
    gpu_work(GPU_EVENT_KERNEL, 0, GPU_OP_NONE, bench->now - MS, bench->now - MS / 2); /* of no op */
    bench->hooks->flush(bench->hooks->context);
    assert_int_equal(store_segment_get(bench->store, 6)->dropped_records, 2 + 4 + 1 + 1);
}

static void a_dead_source_falls_back_and_says_so(void **state)
{
    struct collector_bench *bench = *state;
    gpu_step(bench, 1, true);
    gpu.dead = true;
    bench->hooks->tick(bench->hooks->context);
    assert_true(gpu.closed);
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "gpu:0"), "events");
    assert_non_null(strstr(store_note(bench->store), "it fell over"));
    assert_null(collector_bench_observer(bench)->op_begin);
}

static void our_allocations_are_told_to_the_source(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    o->memory(o->context, "gpu:0", MEMORY_WEIGHTS, 1000);
    o->memory(o->context, "gpu:0", MEMORY_WEIGHTS, 1500);
    o->memory(o->context, "gpu:0", MEMORY_CONTEXT, 9999);
    assert_int_equal(gpu.ours, 1500);
}

/* NVML saw `ours` bytes of this process, long after the allocator spoke. */
static void sample(struct collector_bench *bench, uint64_t ours, uint64_t used, uint64_t tenants)
{
    struct nvml_sample sample = {
        .time_ns = bench->now,
        .values = {.used = used, .ours = ours, .tenants = tenants, .others = RECORD_UNKNOWN}};
    collector_sample_memory(bench->collector, &sample);
}

static uint64_t own_now(struct collector_bench *bench)
{
    struct record_memory memory;
    collector_read_memory(bench->collector, 0, &memory);
    return memory.cupti;
}

/* What it sets aside it says; what it takes later is what the process has grown by */
static void what_cupti_takes_is_told_apart(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    o->memory(o->context, "gpu:0", MEMORY_WEIGHTS, 1000);
    o->memory(o->context, "gpu:0", MEMORY_CONTEXT, 50000);
    assert_int_equal(own_now(bench), 600);
    sample(bench, 60000, RECORD_UNKNOWN, 1); /* before any step */
    gpu_step(bench, 1, true);
    sample(bench, 61000, RECORD_UNKNOWN, 1); /* the level */
    gpu_step(bench, 2, true);
    sample(bench, 66000, RECORD_UNKNOWN, 1);
    assert_int_equal(own_now(bench), 600 + 5000);
    sample(bench, 99000, RECORD_UNKNOWN, 1); /* no step since: the engine is at something */
    assert_int_equal(own_now(bench), 600 + 5000);
    gpu_step(bench, 3, true);
    sample(bench, 64000, RECORD_UNKNOWN, 1); /* it gave some back */
    assert_int_equal(own_now(bench), 600 + 3000);
    /* what we take ourselves is not its own */
    o->memory(o->context, "gpu:0", MEMORY_WEIGHTS, 3000);
    bench->collector->memory[1].changed_ns = bench->now;
    gpu_step(bench, 4, true);
    sample(bench, 70000, RECORD_UNKNOWN, 1); /* too soon to be sure what it holds */
    assert_int_equal(own_now(bench), 600 + 3000);
    bench->now += 1000 * MS;
    gpu_step(bench, 5, true);
    sample(bench, 66000, RECORD_UNKNOWN, 1);
    assert_int_equal(own_now(bench), 600 + 3000);
    /* a driver that does not name us is believed where nobody else is there */
    gpu_step(bench, 6, true);
    sample(bench, RECORD_UNKNOWN, 900000, 0);
    assert_int_equal(own_now(bench), 600 + 3000);
    gpu_step(bench, 7, true);
    sample(bench, RECORD_UNKNOWN, 901000, 0);
    assert_int_equal(own_now(bench), 600 + 4000);
    gpu_step(bench, 8, true);
    sample(bench, RECORD_UNKNOWN, 990000, 1);
    assert_int_equal(own_now(bench), 600 + 4000);
    bench->hooks->flush(bench->hooks->context);
    const struct store *store = bench->store;
    assert_true(series_last(store_series_get(store, SERIES_MEMORY_CUPTI)) == 4600);
    assert_true(series_last(store_series_get(store, SERIES_MEMORY_CONTEXT)) == 50000 - 600 - 12345);
    json_t *answer =
        json_pack("{s:i, s:n, s:n}", "context_bytes", 50000, "library_bytes", "cupti_bytes");
    bench->hooks->memory(bench->hooks->context, "gpu:0", answer);
    assert_int_equal(json_integer_value(json_object_get(answer, "cupti_bytes")), 4600);
    assert_int_equal(json_integer_value(json_object_get(answer, "library_bytes")), 12345);
    assert_int_equal(json_integer_value(json_object_get(answer, "context_bytes")),
                     50000 - 600 - 12345);
    json_decref(answer);
}

static void without_cupti_it_takes_nothing(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    json_t *answer = json_pack("{s:n, s:n, s:n}", "context_bytes", "library_bytes", "cupti_bytes");
    bench->hooks->memory(bench->hooks->context, "cpu", answer);
    assert_true(json_is_null(json_object_get(answer, "cupti_bytes")));
    bench->collector->trace = NULL;
    o->memory(o->context, "gpu:0", MEMORY_CONTEXT, 50000);
    assert_int_equal(own_now(bench), 0);
    bench->hooks->memory(bench->hooks->context, "gpu:0", answer);
    assert_int_equal(json_integer_value(json_object_get(answer, "cupti_bytes")), 0);
    assert_true(json_is_null(json_object_get(answer, "library_bytes")));
    assert_true(json_is_null(json_object_get(answer, "context_bytes")));
    json_decref(answer);
    bench->collector->trace = &gpu_trace_table;
}

static void cupti_cannot_leave_a_live_context(void **state)
{
    struct collector_bench *bench = *state;
    bool restart = false;
    json_t *clock = json_string("clock");
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", clock, &restart, NULL));
    json_decref(clock);
    assert_true(restart);
    assert_false(gpu.closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replays_of_a_graph_are_waited_for, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(kernels_that_come_late_find_their_step, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(kernels_without_a_tag_are_placed_by_time, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(live_steps_wait_for_their_flush, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_step_that_lacks_kernels_is_given_up_on_once, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(losses_are_told, setup_gpu, collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_dead_source_falls_back_and_says_so, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(our_allocations_are_told_to_the_source, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(what_cupti_takes_is_told_apart, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(without_cupti_it_takes_nothing, setup_gpu,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(cupti_cannot_leave_a_live_context, setup_gpu,
                                        collector_bench_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
