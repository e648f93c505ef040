/* The collector from end to end: a made-up graph and a scripted sequence of observer calls go in at
 * one end, the store answers at the other. */
#include "engine/clock.h"
#include "profiler/collector.h"
#include "profiler/collector_private.h"
#include "profiler/cupti.h"
#include "profiler/records.h"
#include "profiler/store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

/* Four layers: input (no op), conv (ops 0 and 2: shared), relu fused into conv, dense (op 1). */
static struct model_layer model_layers[4];
static struct model model = {.layers = model_layers, .layer_count = 4};
static struct op ops[3] = {{.layer = 1}, {.layer = 3}, {.layer = 1}};
static struct graph graph = {.model = &model, .batch = 8, .ops = ops, .op_count = 3};

static const char *const model_text =
    "{\"layers\": [{\"name\": \"in\", \"class\": \"InputLayer\", \"parameters\": 0},"
    "{\"name\": \"conv\", \"class\": \"Conv2D\", \"parameters\": 10},"
    "{\"name\": \"relu\", \"class\": \"ReLU\", \"parameters\": 0},"
    "{\"name\": \"dense\", \"class\": \"Dense\", \"parameters\": 20}]}";
static const char *const plan_text =
    "{\"device\": \"cpu\", \"batch\": 8, \"precision\": \"fp32\", \"fusion\": true, \"layers\": ["
    "{\"layer\": 0, \"name\": \"in\", \"flops\": 0, \"bytes\": 0, \"output_shape\": \"(8, 4)\"},"
    "{\"layer\": 1, \"name\": \"conv\", \"flops\": 100, \"bytes\": 50, \"impl\": \"onednn\","
    " \"fused\": [\"relu\"]},"
    "{\"layer\": 2, \"name\": \"relu\", \"fused_into\": \"conv\", \"flops\": 0, \"bytes\": 0},"
    "{\"layer\": 3, \"name\": \"dense\", \"flops\": 7, \"bytes\": 9, \"impl\": \"onednn\"}]}";

struct bench {
    struct collector *collector;
    const struct worker_hooks *hooks;
    struct store *store;
    struct observer copy; /* taken before anything was configured, as the session does */
    bool use_copy;
    int frames;
    bool refuse;
    int64_t now;
};

static bool emit(void *context, const void *data, size_t bytes)
{
    struct bench *bench = context;
    struct error error = {.code = ERROR_NONE};
    if (bench->refuse)
        return false;
    bench->frames++;
    if (!store_feed(bench->store, data, bytes, &error))
        fail_msg("%s", error.why);
    return true;
}

static const struct observer *observer(const struct bench *bench)
{
    return bench->use_copy ? &bench->copy : bench->hooks->observer;
}

static void feed_json(struct store *store, void (*feed)(struct store *, const json_t *),
                      const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    feed(store, json);
    json_decref(json);
}

/* Scripted steps lie ahead of the real clock, so that the collector's own stamps, which are real,
 * never reach into them however slow the machine is */
static int64_t scripted_now(void)
{
    return clock_now_ns() + 100000 * MS;
}

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->store = store_new();
    bench->collector = collector_new();
    bench->hooks = collector_hooks(bench->collector);
    bench->copy = *bench->hooks->observer;
    bench->hooks->attach(bench->hooks->context, emit, bench);
    feed_json(bench->store, store_model, model_text);
    feed_json(bench->store, store_plan, plan_text);
    observer(bench)->plan(observer(bench)->context, "cpu", &graph, NULL);
    bench->now = scripted_now();
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    bench->hooks->close(bench->hooks->context);
    collector_free(bench->collector);
    store_free(bench->store);
    free(bench);
    return 0;
}

/* One step: 1 ms before the first op, ops of the given lengths with 0.1 ms between, 0.5 ms after */
static void step(struct bench *bench, uint64_t number, const int64_t *op_ns)
{
    const struct observer *o = observer(bench);
    int64_t t = bench->now;
    o->step_begin(o->context, number, t);
    t += 1 * MS;
    for (int op = 0; op < 3; op++) {
        if (o->op_begin)
            o->op_begin(o->context, op);
        if (o->op_end)
            o->op_end(o->context, op, INTERVAL_KERNEL, t, t + op_ns[op]);
        if (o->launches)
            o->launches(o->context, op, 1);
        t += op_ns[op] + MS / 10;
    }
    t += MS / 2 - MS / 10;
    o->step_end(o->context, number, t);
    bench->now = t;
}

static void layers_sum_over_ops_and_steps(void **state)
{
    struct bench *bench = *state;
    observer(bench)->segment(observer(bench)->context, 7);
    for (int i = 0; i < 10; i++)
        step(bench, (uint64_t)i, (const int64_t[]){2 * MS, 3 * MS, (4 + i) * MS});
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

static void live_rows_show_the_last_second(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 40; i++)
        step(bench, (uint64_t)i, (const int64_t[]){10 * MS, 20 * MS, 10 * MS});
    for (int i = 40; i < 100; i++)
        step(bench, (uint64_t)i, (const int64_t[]){15 * MS, 20 * MS, 15 * MS});
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_string_equal(row.label, "conv+relu");
    assert_string_equal(row.impl, "onednn");
    assert_int_equal(row.flops, 100);
    assert_true(fabs(row.time_ms - 30) < 1e-6);
    assert_true(fabs(row.share - 30 / (1 + 50 + 0.2 + 0.5)) < 1e-3);
    assert_true(fabs(row.kernels - 2) < 1e-9);
    assert_int_equal(row.total.count, 100);
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
    struct bench *bench = *state;
    const struct observer *o = observer(bench);
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

static void segments_do_not_mix(void **state)
{
    struct bench *bench = *state;
    const struct observer *o = observer(bench);
    const int64_t op_ns[] = {MS, MS, MS};
    step(bench, 1, op_ns);
    o->segment(o->context, 1);
    step(bench, 2, op_ns);
    step(bench, 3, op_ns);
    o->segment(o->context, 2);
    step(bench, 4, op_ns);
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
    struct bench *bench = *state;
    bench->use_copy = true;
    step(bench, 1, (const int64_t[]){2 * MS, 3 * MS, 4 * MS});
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 6) < 1e-6);
    json_t *off = json_string("off");
    bool restart;
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", off, &restart, NULL));
    json_decref(off);
    step(bench, 2, (const int64_t[]){2 * MS, 3 * MS, 4 * MS});
    bench->hooks->flush(bench->hooks->context);
    store_layer(bench->store, 1, &row);
    assert_int_equal(row.total.count, 1);
}

static void throughput_counts_what_lies_between_steps(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 10; i++) {
        step(bench, (uint64_t)i, (const int64_t[]){MS, MS, MS}); /* 4.7 ms */
        bench->now += 5 * MS;                                    /* inputs are made */
    }
    bench->hooks->flush(bench->hooks->context);
    double rate = series_last(store_series_get(bench->store, SERIES_THROUGHPUT_CPU));
    assert_true(fabs(rate / (80 / (10 * 0.0047 + 9 * 0.005)) - 1) < 1e-3);
    bench->now += 1000 * MS; /* a pause is no work */
    step(bench, 10, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    rate = series_last(store_series_get(bench->store, SERIES_THROUGHPUT_CPU));
    assert_true(fabs(rate / (8 / 0.0047) - 1) < 1e-3);
}

static void more_intervals_than_foreseen_make_room_for_the_next_step(void **state)
{
    struct bench *bench = *state;
    const struct observer *o = observer(bench);
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
    struct bench *bench = *state;
    const struct observer *o = observer(bench);
    o->step_begin(o->context, 1, bench->now);
    o->op_end(o->context, 0, INTERVAL_KERNEL, bench->now, bench->now + 50 * MS);
    bench->now += 60 * MS;
    step(bench, 2, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    struct store_layer row;
    store_layer(bench->store, 1, &row);
    assert_true(fabs(row.time_ms - 2) < 1e-6);
}

static void off_still_counts_steps(void **state)
{
    struct bench *bench = *state;
    json_t *off = json_string("off");
    bool restart = true;
    struct error error = {.code = ERROR_NONE};
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", off, &restart, &error));
    assert_false(restart);
    json_decref(off);
    assert_null(observer(bench)->op_begin);
    assert_null(observer(bench)->op_end);
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "cpu"), "off");
    observer(bench)->segment(observer(bench)->context, 5);
    step(bench, 1, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    const struct store_segment *segment = store_segment_get(bench->store, 5);
    assert_int_equal(segment->steps, 1);
    assert_int_equal(segment->ledger.steps, 0);
    assert_int_equal(segment->layers[1].count, 0);
    assert_string_equal(store_timing_source(bench->store), "off");
}

static void settings_are_checked(void **state)
{
    struct bench *bench = *state;
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
    struct bench *bench = *state;
    const int64_t op_ns[] = {MS, MS, MS};
    step(bench, 1, op_ns);
    bench->hooks->flush(bench->hooks->context);
    uint64_t before = store_dropped(bench->store);
    bench->refuse = true;
    step(bench, 2, op_ns);
    bench->hooks->flush(bench->hooks->context);
    bench->refuse = false;
    step(bench, 3, op_ns);
    bench->hooks->flush(bench->hooks->context);
    assert_true(store_dropped(bench->store) > before);
}

static void memory_is_told_by_category(void **state)
{
    struct bench *bench = *state;
    const struct observer *o = observer(bench);
    o->memory(o->context, "cpu", MEMORY_WEIGHTS, 1000);
    o->memory(o->context, "cpu", MEMORY_ACTIVATIONS, 2000);
    o->memory(o->context, "gpu:0", MEMORY_ACTIVATIONS, 999999);
    step(bench, 1, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    assert_true(series_last(store_series_get(bench->store, SERIES_MEMORY_WEIGHTS)) == 1000);
    assert_true(series_last(store_series_get(bench->store, SERIES_MEMORY_ACTIVATIONS)) == 2000);
    assert_true(isnan(series_last(store_series_get(bench->store, SERIES_MEMORY_WORKSPACE))));
}

static void events_report_after_the_step(void **state)
{
    struct bench *bench = *state;
    json_t *events = json_string("events");
    bool restart;
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", events, &restart, NULL));
    json_decref(events);
    json_t *plan = json_loads(plan_text, 0, NULL);
    json_object_set_new(plan, "device", json_string("gpu:0"));
    store_plan(bench->store, plan);
    json_decref(plan);
    const struct observer *o = observer(bench);
    o->plan(o->context, "gpu:0", &graph, NULL);
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "gpu:0"), "events");
    bench->now = scripted_now();
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

/* ---------------------------------------------------------------- a made-up GPU */

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
    .alive = gpu_alive,
    .close = gpu_close,
};

static int setup_gpu(void **state)
{
    setup(state);
    struct bench *bench = *state;
    memset(&gpu, 0, sizeof gpu);
    bench->collector->trace = &gpu_trace_table;
    json_t *plan = json_loads(plan_text, 0, NULL);
    json_object_set_new(plan, "device", json_string("gpu:0"));
    store_plan(bench->store, plan);
    json_decref(plan);
    observer(bench)->plan(observer(bench)->context, "gpu:0", &graph, NULL);
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "gpu:0"), "cupti");
    bench->now = scripted_now();
    return 0;
}

static void gpu_work(enum gpu_event_kind kind, uint64_t tag, int op, int64_t start, int64_t end)
{
    gpu.events[gpu.count++] =
        (struct gpu_event){.tag = tag, .op = op, .start_ns = start, .end_ns = end, .kind = kind};
}

/* Ops launch in 0.1 ms each from 1 ms on; their kernels run 1, 2, 3 ms from 1.05 ms on, back to
 * back; a copy of 0.5 ms follows; the step ends at 8 ms */
static void gpu_step(struct bench *bench, uint64_t number, bool tagged)
{
    const struct observer *o = observer(bench);
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
    assert_true(fabs(segment->ledger.wall_ms - 8) < 1e-6);
    double sum = segment->ledger.unexplained_ms;
    for (int i = 0; i < LEDGER_CLASS_COUNT; i++)
        sum += ms[i];
    assert_true(fabs(sum - 8) < 1e-6);
}

static void kernels_that_come_late_find_their_step(void **state)
{
    struct bench *bench = *state;
    observer(bench)->segment(observer(bench)->context, 4);
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
    struct bench *bench = *state;
    observer(bench)->segment(observer(bench)->context, 5);
    for (int i = 0; i < 5; i++)
        gpu_step(bench, 100 + (uint64_t)i, false);
    bench->hooks->flush(bench->hooks->context);
    check_gpu_segment(store_segment_get(bench->store, 5), 5);
    /* steps back to back, each with a last kernel just before the next one begins */
    observer(bench)->segment(observer(bench)->context, 6);
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
    struct bench *bench = *state;
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
    struct bench *bench = *state;
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
    struct bench *bench = *state;
    bench->use_copy = true;
    const struct observer *o = observer(bench);
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
    struct bench *bench = *state;
    observer(bench)->segment(observer(bench)->context, 6);
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
    struct bench *bench = *state;
    gpu_step(bench, 1, true);
    gpu.dead = true;
    bench->hooks->tick(bench->hooks->context);
    assert_true(gpu.closed);
    assert_string_equal(bench->hooks->timing_source(bench->hooks->context, "gpu:0"), "events");
    assert_non_null(strstr(store_note(bench->store), "it fell over"));
    assert_null(observer(bench)->op_begin);
}

static void our_allocations_are_told_to_the_source(void **state)
{
    struct bench *bench = *state;
    const struct observer *o = observer(bench);
    o->memory(o->context, "gpu:0", MEMORY_WEIGHTS, 1000);
    o->memory(o->context, "gpu:0", MEMORY_WEIGHTS, 1500);
    o->memory(o->context, "gpu:0", MEMORY_CONTEXT, 9999);
    assert_int_equal(gpu.ours, 1500);
}

static void cupti_cannot_leave_a_live_context(void **state)
{
    struct bench *bench = *state;
    bool restart = false;
    json_t *clock = json_string("clock");
    assert_true(bench->hooks->configure(bench->hooks->context, "profile", clock, &restart, NULL));
    json_decref(clock);
    assert_true(restart);
    assert_false(gpu.closed);
}

/* ---------------------------------------------------------------- NVML */

static atomic_int nvml_hang;
static int nvml_ok(void)
{
    return 0;
}
static int nvml_count(unsigned *count)
{
    *count = 2;
    return 0;
}
static int nvml_handle(unsigned index, void **device)
{
    static char devices[2];
    *device = &devices[index];
    return 0;
}
static int nvml_clock(void *device, unsigned type, unsigned *mhz)
{
    (void)device, (void)type;
    *mhz = 1755;
    while (atomic_load(&nvml_hang))
        usleep(1000);
    return 0;
}
static int nvml_power(void *device, unsigned *milliwatt)
{
    (void)device, (void)milliwatt;
    return 3; /* not supported */
}
static int nvml_processes(void *device, unsigned *count, struct nvml_process *infos)
{
    (void)device;
    infos[0] = (struct nvml_process){.pid = 1, .used_bytes = 5};
    infos[1] = (struct nvml_process){.pid = (unsigned)getpid(), .used_bytes = 77};
    *count = 2;
    return 0;
}
static const struct nvml_api nvml_table = {.init = nvml_ok,
                                           .shutdown = nvml_ok,
                                           .device_count = nvml_count,
                                           .device_by_index = nvml_handle,
                                           .clock = nvml_clock,
                                           .power = nvml_power,
                                           .processes = nvml_processes};

static void nvml_samples_come_by_queue(void **state)
{
    (void)state;
    struct nvml *nvml = nvml_open(&nvml_table);
    assert_non_null(nvml);
    struct nvml_sample sample;
    int64_t until = clock_now_ns() + 2000 * MS;
    while (!nvml_take(nvml, &sample) && clock_now_ns() < until)
        usleep(1000);
    assert_int_equal(sample.device, 0);
    assert_true(sample.values.clock_mhz == 1755);
    assert_true(isnan(sample.values.power_w));
    assert_true(isnan(sample.values.util));
    assert_int_equal(sample.values.ours, 77);
    assert_int_equal(sample.values.used, RECORD_UNKNOWN);
    nvml_close(nvml);
}

static void a_hung_nvml_blocks_nobody(void **state)
{
    (void)state;
    atomic_store(&nvml_hang, 1);
    struct nvml *nvml = nvml_open(&nvml_table);
    usleep(20000);
    struct nvml_sample sample;
    int64_t start = clock_now_ns();
    assert_false(nvml_take(nvml, &sample));
    nvml_sleep(nvml, true);
    nvml_sleep(nvml, false);
    nvml_close(nvml);
    assert_true(clock_now_ns() - start < 1000 * MS);
    atomic_store(&nvml_hang, 0);
    usleep(50000); /* the thread that was left behind ends by itself */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers_sum_over_ops_and_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(live_rows_show_the_last_second, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_step_shows_layers_before_it_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(segments_do_not_mix, setup, teardown),
        cmocka_unit_test_setup_teardown(throughput_counts_what_lies_between_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(more_intervals_than_foreseen_make_room_for_the_next_step,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_step_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_copied_observer_serves_as_well, setup, teardown),
        cmocka_unit_test_setup_teardown(replays_of_a_graph_are_waited_for, setup_gpu, teardown),
        cmocka_unit_test_setup_teardown(off_still_counts_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(settings_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_frames_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_is_told_by_category, setup, teardown),
        cmocka_unit_test_setup_teardown(events_report_after_the_step, setup, teardown),
        cmocka_unit_test_setup_teardown(kernels_that_come_late_find_their_step, setup_gpu,
                                        teardown),
        cmocka_unit_test_setup_teardown(kernels_without_a_tag_are_placed_by_time, setup_gpu,
                                        teardown),
        cmocka_unit_test_setup_teardown(live_steps_wait_for_their_flush, setup_gpu, teardown),
        cmocka_unit_test_setup_teardown(a_step_that_lacks_kernels_is_given_up_on_once, setup_gpu,
                                        teardown),
        cmocka_unit_test_setup_teardown(losses_are_told, setup_gpu, teardown),
        cmocka_unit_test_setup_teardown(a_dead_source_falls_back_and_says_so, setup_gpu, teardown),
        cmocka_unit_test_setup_teardown(our_allocations_are_told_to_the_source, setup_gpu,
                                        teardown),
        cmocka_unit_test_setup_teardown(cupti_cannot_leave_a_live_context, setup_gpu, teardown),
        cmocka_unit_test(nvml_samples_come_by_queue),
        cmocka_unit_test(a_hung_nvml_blocks_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
