/* From CUPTI to CUDA events to the host's clock: a scripted CUPTI and a scripted NVML play every
 * failure, and each must end in the expected source, with a sentence of its own. */
#include "profiler/nvml.h"
#include "profiler/store_trace.h"
#include "tests/support/collector_bench.h"
#include "tests/support/mock_cupti.h"

#include "engine/clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- a scripted NVML */

static atomic_int nvml_start, nvml_answer; /* codes; 0: well */

static int nvml_init(void)
{
    return nvml_start;
}
static int nvml_stop(void)
{
    return 0;
}
static int nvml_count(unsigned *count)
{
    *count = 1;
    return 0;
}
static int nvml_handle(unsigned index, void **device)
{
    (void)index;
    *device = &nvml_start;
    return 0;
}
static int nvml_clock(void *device, unsigned type, unsigned *mhz)
{
    (void)device, (void)type;
    *mhz = 1755;
    return nvml_answer;
}
static const struct nvml_api scripted_nvml = {.init = nvml_init,
                                              .shutdown = nvml_stop,
                                              .device_count = nvml_count,
                                              .device_by_index = nvml_handle,
                                              .clock = nvml_clock};

static void use_gpu(struct collector_bench *bench)
{
    json_t *plan = json_loads(collector_bench_plan, 0, NULL);
    json_object_set_new(plan, "device", json_string("gpu:0"));
    store_plan(bench->store, plan);
    json_decref(plan);
    collector_bench_observer(bench)->plan(collector_bench_observer(bench)->context, "gpu:0",
                                          &collector_bench_graph, NULL);
}

static const char *source_of(struct collector_bench *bench)
{
    return bench->hooks->timing_source(bench->hooks->context, "gpu:0");
}

static void wait_for_note(struct collector_bench *bench, const char *word)
{
    int64_t until = clock_now_ns() + 5000 * MS;
    while (!strstr(store_note(bench->store), word) && clock_now_ns() < until) {
        bench->hooks->flush(bench->hooks->context);
        usleep(2000);
    }
    if (!strstr(store_note(bench->store), word))
        fail_msg("no note of '%s': %s", word, store_note(bench->store));
}

static void a_silent_nvml_says_why(void **state)
{
    struct collector_bench *bench = *state;
    bench->collector->nvml_api = &scripted_nvml;
    nvml_start = 18;
    use_gpu(bench);
    wait_for_note(bench, "reboot");
    nvml_start = 0;
}

static void a_vanished_device_says_so_once(void **state)
{
    struct collector_bench *bench = *state;
    bench->collector->nvml_api = &scripted_nvml;
    use_gpu(bench);
    nvml_answer = 15;
    wait_for_note(bench, "gpu:0 is lost");
    const struct series *clock = store_series_get(bench->store, SERIES_GPU_CLOCK_MHZ);
    struct summary summary;
    series_summary(clock, 10000 * MS, clock_now_ns(), &summary);
    assert_true(summary.count == 0 || summary.max <= 1755);
    nvml_answer = 0;
    /* the layers go on as they did */
    assert_string_equal(source_of(bench), "events");
}

/* ---------------------------------------------------------------- events that tell nothing */

static void gpu_step(struct collector_bench *bench, uint64_t number, bool events, bool synced)
{
    const struct observer *o = collector_bench_observer(bench);
    int64_t t = bench->now;
    o->step_begin(o->context, number, t);
    for (int op = 0; op < 3; op++) {
        o->launches(o->context, op, 1);
        o->op_end(o->context, op, synced ? INTERVAL_KERNEL : INTERVAL_LAUNCH, t + MS + op * MS,
                  t + MS + (op + 1) * MS);
    }
    for (int op = 0; op < 3 && events; op++)
        o->device_time(o->context, op, 2 * MS);
    o->step_end(o->context, number, t + 5 * MS);
    bench->now = t + 5 * MS;
}

static void dumb_events_fall_back_to_the_clock(void **state)
{
    struct collector_bench *bench = *state;
    bench->use_copy = true;
    use_gpu(bench);
    assert_string_equal(source_of(bench), "events");
    for (uint64_t i = 0; i < 20; i++)
        gpu_step(bench, i, true, false);
    assert_string_equal(source_of(bench), "events");
    for (uint64_t i = 20; i < 23; i++)
        gpu_step(bench, i, false, false);
    assert_string_equal(source_of(bench), "clock");
    assert_non_null(strstr(store_note(bench->store), "told nothing"));
    /* the session plans anew and waits after each op: the host's clock times them */
    use_gpu(bench);
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 5);
    for (uint64_t i = 30; i < 40; i++)
        gpu_step(bench, i, false, true);
    bench->hooks->flush(bench->hooks->context);
    const struct store_segment *run = store_segment_get(bench->store, 5);
    assert_non_null(run);
    assert_string_equal(run->timing_source, "clock");
    assert_true(fabs(run->layers[1].mean - 2) < 1e-6);
    assert_true(isnan(run->ledger.class_ms[LEDGER_LAUNCH]));
    assert_true(fabs(run->ledger.class_ms[LEDGER_KERNEL] - 3) < 1e-6);
}

#ifdef LAYERTOP_CUDA_HEADERS
#include "profiler/cupti_api.h"

static bool configure(struct collector_bench *bench, const char *profile, struct error *error)
{
    bool restart = false;
    json_t *value = json_string(profile);
    bool good = bench->hooks->configure(bench->hooks->context, "profile", value, &restart, error);
    json_decref(value);
    assert_false(restart);
    return good;
}

static int setup_cupti(void **state)
{
    collector_bench_setup(state);
    struct collector_bench *bench = *state;
    mock_cupti_reset(NULL);
    bench->collector->cupti_api = &mock_cupti_api;
    bench->use_copy = true;
    return 0;
}

/* Refused when it is opened, each in its own words; asked for by name it is an error */
static void every_refusal_has_its_sentence(void **state)
{
    (void)state;
    static const struct {
        int subscribe, enable;
        const char *word;
    } rows[] = {{15, 0, "older"},
                {23, 0, "disabled"},
                {26, 0, "DCGM"},
                {27, 0, "not support"},
                {33, 0, "host does"},
                {35, 0, "administrators"},
                {0, 35, "administrators"},
                {38, 0, "old profiling"},
                {39, 0, "nsys"},
                {40, 0, "guest"},
                {41, 0, "confidential"},
                {43, 0, "MIG"},
                {44, 0, "SLI"},
                {45, 0, "WSL"},
                {999, 0, "no working"},
                {4711, 0, "MOCK"}};
    char told[16][512];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        void *one = NULL;
        setup_cupti(&one);
        struct collector_bench *bench = one;
        mock_cupti.subscribe_result = (CUptiResult)rows[i].subscribe;
        mock_cupti.enable_result = (CUptiResult)rows[i].enable;
        mock_cupti.other = rows[i].subscribe == 39 ? "nsys" : NULL;
        assert_true(configure(bench, "auto", NULL));
        use_gpu(bench);
        assert_string_equal(source_of(bench), "events");
        snprintf(told[i], sizeof told[i], "%s", store_note(bench->store));
        if (!strstr(told[i], rows[i].word))
            fail_msg("%d: %s", rows[i].subscribe, told[i]);
        assert_non_null(strstr(told[i], "CUDA events"));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(told[k], told[i]);
        struct error error = {.code = ERROR_NONE};
        collector_bench_teardown(&one);
        /* before any GPU is touched: who asks for CUPTI gets the reason as an error */
        setup_cupti(&one);
        bench = one;
        mock_cupti.subscribe_result = (CUptiResult)rows[i].subscribe;
        mock_cupti.enable_result = (CUptiResult)rows[i].enable;
        mock_cupti.other = rows[i].subscribe == 39 ? "nsys" : NULL;
        assert_false(configure(bench, "cupti", &error));
        assert_int_equal(error.code, ERROR_CUPTI);
        assert_non_null(strstr(told[i], error.why));
        assert_string_not_equal(error.hint, "");
        collector_bench_teardown(&one);
    }
}

static void a_working_cupti_times_the_ops(void **state)
{
    struct collector_bench *bench = *state;
    assert_true(configure(bench, "auto", NULL));
    use_gpu(bench);
    assert_string_equal(source_of(bench), "cupti");
    assert_string_equal(store_note(bench->store), "");
}

/* A driver that fell over under it, or CUPTI that ended itself: events from the next plan on */
static void a_cupti_that_fails_later_gives_way_to_events(void **state)
{
    struct collector_bench *bench = *state;
    configure(bench, "auto", NULL);
    use_gpu(bench);
    mock_cupti.callback(mock_cupti.callback_context, CUPTI_CB_DOMAIN_STATE,
                        CUPTI_CBID_STATE_FATAL_ERROR, NULL);
    bench->hooks->tick(bench->hooks->context);
    assert_string_equal(source_of(bench), "events");
    assert_non_null(strstr(store_note(bench->store), "fatal error"));
    /* it is not opened again while the context lives, and `profile events` asks for no restart */
    assert_true(configure(bench, "events", NULL));
    assert_string_equal(source_of(bench), "events");
}

static void a_cupti_that_keeps_its_records_gives_way_to_events(void **state)
{
    struct collector_bench *bench = *state;
    configure(bench, "auto", NULL);
    use_gpu(bench);
    atomic_store(&mock_cupti.flush_result, CUPTI_ERROR_UNKNOWN);
    int64_t until = clock_now_ns() + 10000 * MS;
    while (strcmp(source_of(bench), "cupti") == 0 && clock_now_ns() < until) {
        gpu_step(bench, 1, false, false);
        bench->hooks->flush(bench->hooks->context);
        bench->hooks->tick(bench->hooks->context);
    }
    assert_string_equal(source_of(bench), "events");
    assert_non_null(strstr(store_note(bench->store), "refuses to hand over"));
}

static void losses_are_counted_by_kind(void **state)
{
    struct collector_bench *bench = *state;
    configure(bench, "auto", NULL);
    use_gpu(bench);
    collector_bench_observer(bench)->segment(collector_bench_observer(bench)->context, 2);
    int64_t t = bench->now = clock_now_ns();
    pthread_mutex_lock(&mock_cupti.lock);
    mock_cupti.dropped = 5;
    pthread_mutex_unlock(&mock_cupti.lock);
    mock_cupti_add(activity_kernel(1, 0, 0, 0));
    mock_cupti_add(activity_kernel(2, t + MS, t + 2 * MS, 0));
    mock_cupti_add(activity_link(2, gpu_tag(1, 1)));
    gpu_step(bench, 1, false, false);
    /* the decoder asks for drops with every twentieth flush */
    int64_t until = clock_now_ns() + 10000 * MS;
    const struct store_trace *trace = NULL;
    while (clock_now_ns() < until && !(trace && trace->dropped == 5)) {
        bench->collector->trace->flush(bench->collector->trace->context, 100 * MS);
        gpu_step(bench, 2, false, false);
        bench->hooks->flush(bench->hooks->context);
        trace = store_trace_get(bench->store, "gpu:0");
    }
    assert_non_null(trace);
    assert_int_equal(trace->dropped, 5);
    assert_int_equal(trace->untimed, 1);
    assert_string_equal(source_of(bench), "cupti");
    assert_true(store_segment_get(bench->store, 2)->dropped_records >= 6);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_silent_nvml_says_why, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_vanished_device_says_so_once, collector_bench_setup,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(dumb_events_fall_back_to_the_clock, collector_bench_setup,
                                        collector_bench_teardown),
#ifdef LAYERTOP_CUDA_HEADERS
        cmocka_unit_test(every_refusal_has_its_sentence),
        cmocka_unit_test_setup_teardown(a_working_cupti_times_the_ops, setup_cupti,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_cupti_that_fails_later_gives_way_to_events, setup_cupti,
                                        collector_bench_teardown),
        cmocka_unit_test_setup_teardown(a_cupti_that_keeps_its_records_gives_way_to_events,
                                        setup_cupti, collector_bench_teardown),
        cmocka_unit_test_setup_teardown(losses_are_counted_by_kind, setup_cupti,
                                        collector_bench_teardown),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
