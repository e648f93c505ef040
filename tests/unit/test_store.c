/* The store, fed with records as a worker would send them. */
#include "engine/clock.h"
#include "profiler/records.h"
#include "profiler/series.h"
#include "profiler/store.h"
#include "profiler/store_layers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define S  INT64_C(1000000000)

static const char *const model_text =
    "{\"layers\": [{\"name\": \"a\", \"class\": \"Conv2D\", \"parameters\": 5},"
    "{\"name\": \"bn\", \"path\": \"base/bn\", \"class\": \"BatchNormalization\"},"
    "{\"name\": \"b\", \"class\": \"Dense\", \"parameters\": 6}]}";

static json_t *plan_of(const char *device, int batch)
{
    return json_pack("{s:s, s:i, s:s, s:s, s:[{s:i, s:s, s:s, s:s, s:i, s:i, s:[s]},"
                     "{s:i, s:s, s:s}, {s:i, s:s, s:s, s:i}]}",
                     "device", device, "batch", batch, "precision", "fp32", "timing_source",
                     "clock", "layers", "layer", 0, "name", "a", "impl", "onednn", "output_shape",
                     "(8, 4)", "flops", 1000, "bytes", 200, "fused", "bn", "layer", 1, "name", "bn",
                     "fused_into", "a", "layer", 2, "name", "b", "impl", "own", "flops", 7);
}

struct sender {
    struct store *store;
    struct record_writer writer;
    struct record_header header;
};

static int setup(void **state)
{
    struct sender *sender = calloc(1, sizeof *sender);
    sender->store = store_new();
    sender->header = (struct record_header){.kind = RECORD_WINDOW, .device = RECORD_CPU};
    json_t *model = json_loads(model_text, 0, NULL);
    store_model(sender->store, model);
    json_decref(model);
    json_t *plan = plan_of("cpu", 8);
    store_plan(sender->store, plan);
    json_decref(plan);
    *state = sender;
    return 0;
}

static int teardown(void **state)
{
    struct sender *sender = *state;
    store_free(sender->store);
    free(sender->writer.data);
    free(sender);
    return 0;
}

/* A window of `steps` steps of 10 ms that ends at `time`: layer 0 takes a_ms, layer 2 takes 1 ms */
static void window_of(struct sender *sender, int64_t time, int64_t span, uint32_t steps,
                      double a_ms)
{
    float wall_ms[64];
    for (uint32_t i = 0; i < steps; i++)
        wall_ms[i] = 10;
    struct record_window record = {.begin_ns = time - span,
                                   .timing = TIMING_CLOCK,
                                   .known = 0x3f,
                                   .wall_count = steps,
                                   .layer_count = 2,
                                   .ledger_steps = steps,
                                   .samples = steps * 8,
                                   .rate_ns = steps * 10 * MS,
                                   .class_ns = {steps * 8 * MS, 0, 0, 0, 0, steps * 1 * MS},
                                   .hidden_ns = {0, steps * 3 * MS, 0, steps * 2 * MS, 0},
                                   .unexplained_ns = steps * 1 * MS,
                                   .wall_ns = steps * 10 * MS};
    struct histogram histogram;
    histogram_init(&histogram);
    sender->header.kind = RECORD_WINDOW;
    sender->header.time_ns = time;
    record_begin(&sender->writer, &sender->header);
    record_put_window(&sender->writer, &record, wall_ms);
    for (uint32_t i = 0; i < 2; i++) {
        int64_t ns = i ? MS : (int64_t)(a_ms * 1e6);
        histogram_clear(&histogram);
        histogram_add(&histogram, histogram_bucket(ns), steps);
        struct record_layer layer = {.layer = i * 2,
                                     .steps = steps,
                                     .kernels = steps * (i + 1),
                                     .sum_ns = ns * steps,
                                     .min_ns = ns,
                                     .max_ns = ns};
        record_put_layer(&sender->writer, &layer, &histogram);
    }
    struct error error = {.code = ERROR_NONE};
    if (!store_feed(sender->store, sender->writer.data, sender->writer.bytes, &error))
        fail_msg("%s", error.why);
}

static void window(struct sender *sender, int64_t time, uint32_t steps, double a_ms)
{
    window_of(sender, time, 100 * MS, steps, a_ms);
}

static void rows_come_from_model_and_plan(void **state)
{
    struct sender *sender = *state;
    struct store_layer row;
    assert_int_equal(store_layer_count(sender->store), 3);
    store_layer(sender->store, 0, &row);
    assert_string_equal(row.label, "a+bn");
    assert_string_equal(row.class_name, "Conv2D");
    assert_string_equal(row.output_shape, "(8, 4)");
    assert_string_equal(row.fused[0], "bn");
    assert_null(row.fused[1]);
    assert_int_equal(row.parameters, 5);
    assert_int_equal(row.flops, 1000);
    assert_true(isnan(row.time_ms) && isnan(row.kernels) && isnan(row.share));
    assert_int_equal(row.total.count, 0);
    store_layer(sender->store, 1, &row);
    assert_string_equal(row.name, "base/bn");
    assert_int_equal(row.fused_into, 0);
    store_layer(sender->store, 99, &row);
    assert_string_equal(row.name, "");
    assert_string_equal(store_timing_source(sender->store), "clock");
    store_model(sender->store, NULL);
    assert_int_equal(store_layer_count(sender->store), 0);
}

static void the_last_second_is_a_second(void **state)
{
    struct sender *sender = *state;
    for (int i = 1; i <= 20; i++)
        window(sender, i * 100 * MS, 10, i <= 10 ? 2 : 4);
    struct store_layer row;
    store_layer(sender->store, 0, &row);
    assert_true(fabs(row.time_ms - 4) < 1e-9);
    assert_true(fabs(row.share - 0.4) < 1e-9);
    assert_true(fabs(row.kernels - 1) < 1e-9);
    assert_true(fabs(row.total.mean - 3) < 1e-9);
    assert_int_equal(row.total.count, 200);
    assert_true(fabs(row.total.p50 / 2 - 1) < 0.03);
    assert_true(fabs(row.total.p95 / 4 - 1) < 0.03);
    struct ledger ledger;
    store_ledger(sender->store, &ledger);
    assert_int_equal(ledger.steps, 100);
    assert_true(fabs(ledger.class_ms[LEDGER_KERNEL] - 8) < 1e-9);
    assert_true(fabs(ledger.unexplained_ms - 1) < 1e-9);
    assert_true(fabs(ledger.hidden_ms[LEDGER_COPY] - 3) < 1e-9);
    assert_true(fabs(ledger.hidden_ms[LEDGER_LAUNCH] - 2) < 1e-9);
    assert_int_equal(store_time_ns(sender->store), 2 * S);
    struct series_cell cells[20];
    store_layer(sender->store, 0, &row);
    series_read(row.series, 1, 2 * S + 1, 20, cells);
    for (int i = 0; i < 20; i++)
        assert_true(cells[i].mean == (i < 10 ? 2 : 4));
    series_read(store_series_get(sender->store, SERIES_STEP_MS), 1, 2 * S + 1, 20, cells);
    for (int i = 0; i < 20; i++)
        assert_int_equal(cells[i].count, 10);
    assert_true(fabs(series_last(store_series_get(sender->store, SERIES_THROUGHPUT_CPU)) - 800) <
                1e-3);
}

static void a_new_plan_starts_statistics_anew(void **state)
{
    struct sender *sender = *state;
    struct store_layer row;
    struct summary wall;
    window(sender, S, 5, 2);
    json_t *plan = plan_of("cpu", 8);
    store_plan(sender->store, plan); /* the same one again: they stay */
    json_decref(plan);
    store_layer(sender->store, 0, &row);
    assert_int_equal(row.total.count, 5);
    plan = plan_of("cpu", 16);
    store_plan(sender->store, plan);
    json_decref(plan);
    store_layer(sender->store, 0, &row);
    assert_int_equal(row.total.count, 0);
    assert_true(isnan(row.time_ms));
    assert_true(series_last(row.series) == 2); /* the plot shows before and after */
    store_wall(sender->store, &wall);
    assert_int_equal(wall.count, 0);
    window(sender, 2 * S, 5, 3);
    store_wall(sender->store, &wall);
    assert_int_equal(wall.count, 5);
    assert_true(fabs(wall.p95 - 10) < 1e-9);
    store_reset(sender->store);
    store_wall(sender->store, &wall);
    assert_int_equal(wall.count, 0);
    store_layer(sender->store, 0, &row);
    assert_true(isnan(series_last(row.series)));
}

static void another_device_does_not_touch_the_rows(void **state)
{
    struct sender *sender = *state;
    window(sender, S, 5, 2);
    sender->header.device = 0;
    window(sender, 2 * S, 5, 7);
    sender->header.device = 1;
    window(sender, 2 * S + MS, 5, 7);
    struct store_layer row;
    store_layer(sender->store, 0, &row);
    assert_true(fabs(row.time_ms - 2) < 1e-9);
    /* two GPUs at once add up */
    assert_true(fabs(series_last(store_series_get(sender->store, SERIES_THROUGHPUT_GPU)) - 1600) <
                1e-3);
    assert_true(fabs(series_last(store_series_get(sender->store, SERIES_THROUGHPUT_CPU)) - 800) <
                1e-3);
}

static void segments_are_exact_and_the_oldest_go(void **state)
{
    struct sender *sender = *state;
    for (uint32_t segment = 1; segment <= 20; segment++) {
        sender->header.segment = segment;
        window(sender, (int64_t)segment * S, segment, 2);
        window(sender, (int64_t)segment * S + 100 * MS, segment, 4);
    }
    assert_null(store_segment_get(sender->store, 4));
    const struct store_segment *segment = store_segment_get(sender->store, 5);
    assert_non_null(segment);
    assert_int_equal(segment->steps, 10);
    assert_int_equal(segment->layer_count, 3);
    assert_true(fabs(segment->layers[0].mean - 3) < 1e-9);
    assert_true(fabs(segment->layers[0].sum - 30) < 1e-9);
    assert_true(fabs(segment->kernels[2] - 2) < 1e-9);
    assert_true(isnan(segment->kernels[1]));
    assert_true(fabs(segment->ledger.class_ms[LEDGER_GAP] - 1) < 1e-9);
    assert_int_equal(segment->ledger.steps, 10);
    struct ledger ledger;
    store_ledger(sender->store, &ledger); /* of live steps, and there were none */
    assert_int_equal(ledger.steps, 0);
}

/* Steps of two seconds: a sample of memory at the end of each, and no gap between them. */
static void memory_of_long_steps_has_no_gaps(void **state)
{
    struct sender *sender = *state;
    struct series_cell cells[40];
    struct error error;
    struct record_memory memory = {.category = {1, 1, 1, 0, 0},
                                   .used = 100,
                                   .total = 1000,
                                   .library = RECORD_UNKNOWN,
                                   .cupti = RECORD_UNKNOWN};
    for (int64_t step = 1; step <= 5; step++) {
        int64_t time = step * 2000 * MS;
        window_of(sender, time, 2000 * MS, 1, 1);
        sender->header.kind = RECORD_MEMORY;
        record_begin(&sender->writer, &sender->header);
        record_put_memory(&sender->writer, &memory);
        assert_true(store_feed(sender->store, sender->writer.data, sender->writer.bytes, &error));
    }
    series_read(store_series_get(sender->store, SERIES_MEMORY_USED), 4000 * MS, 10000 * MS, 40,
                cells);
    for (int i = 0; i < 40; i++)
        assert_true(cells[i].count > 0);
}

static void memory_knows_what_is_not_known(void **state)
{
    struct sender *sender = *state;
    struct record_memory memory = {.category = {100, 200, RECORD_UNKNOWN, 0, RECORD_UNKNOWN},
                                   .used = 1000,
                                   .total = 5000,
                                   .library = RECORD_UNKNOWN,
                                   .cupti = RECORD_UNKNOWN};
    sender->header.kind = RECORD_MEMORY;
    sender->header.time_ns = S;
    record_begin(&sender->writer, &sender->header);
    record_put_memory(&sender->writer, &memory);
    assert_true(store_feed(sender->store, sender->writer.data, sender->writer.bytes, NULL));
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_WEIGHTS)) == 100);
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_OTHER)) == 700);
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_TOTAL)) == 5000);
    assert_true(isnan(series_last(store_series_get(sender->store, SERIES_MEMORY_WORKSPACE))));
    assert_true(isnan(series_last(store_series_get(sender->store, SERIES_LIBRARY_ALLOC))));
    assert_true(isnan(series_last(store_series_get(sender->store, SERIES_MEMORY_CUPTI))));
}

static void samples_tell_who_else_is_there(void **state)
{
    struct sender *sender = *state;
    json_t *plan =
        json_pack("{s:s, s:s, s:i}", "device", "gpu:0", "timing_source", "cupti", "batch", 8);
    store_plan(sender->store, plan);
    json_decref(plan);
    struct record_device device = {.clock_mhz = 1000,
                                   .temperature_c = 50,
                                   .power_w = 100,
                                   .util = 0.5f,
                                   .used = 1000,
                                   .total = 5000,
                                   .ours = 600,
                                   .throttle = 0x4,
                                   .others = RECORD_UNKNOWN,
                                   .tenants = 1};
    sender->header = (struct record_header){.kind = RECORD_DEVICE,
                                            .device = 0,
                                            .session = sender->header.session,
                                            .segment = 7,
                                            .time_ns = S};
    record_begin(&sender->writer, &sender->header);
    record_put_device(&sender->writer, &device);
    assert_true(store_feed(sender->store, sender->writer.data, sender->writer.bytes, NULL));
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_FREE)) == 4000);
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_FOREIGN)) == 400);
    struct marks marks;
    store_marks(sender->store, &marks);
    assert_int_equal(marks.tenants, 1);
    const struct store_segment *segment = store_segment_get(sender->store, 7);
    assert_non_null(segment);
    assert_int_equal(marks_throttled(&segment->marks), 0x4);
    /* weights, context and the others are told apart; what is left has no name */
    struct record_memory memory = {.category = {100, 50, 20, 10, 300},
                                   .used = RECORD_UNKNOWN,
                                   .total = RECORD_UNKNOWN,
                                   .library = 30,
                                   .cupti = 25};
    sender->header.kind = RECORD_MEMORY;
    record_begin(&sender->writer, &sender->header);
    record_put_memory(&sender->writer, &memory);
    assert_true(store_feed(sender->store, sender->writer.data, sender->writer.bytes, NULL));
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_CONTEXT)) == 270);
    assert_true(series_last(store_series_get(sender->store, SERIES_LIBRARY_ALLOC)) == 30);
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_CUPTI)) == 25);
    assert_true(series_last(store_series_get(sender->store, SERIES_MEMORY_OTHER)) == 95);
}

/* A frame of a writer that did not know the last fields ends before them. */
static void an_older_sample_is_read(void **state)
{
    struct sender *sender = *state;
    struct record_device device = {.used = 10, .total = 20, .tenants = 3, .others = 4}, back;
    struct record_reader reader;
    struct record_header header;
    sender->header.kind = RECORD_DEVICE;
    record_begin(&sender->writer, &sender->header);
    record_put_device(&sender->writer, &device);
    assert_true(
        record_open(&reader, sender->writer.data, sender->writer.bytes - 16, &header, NULL));
    assert_true(record_get_device(&reader, &back, NULL));
    assert_int_equal(back.total, 20);
    assert_int_equal(back.tenants, RECORD_UNKNOWN);
    assert_int_equal(back.others, RECORD_UNKNOWN);
}

static void another_worker_starts_now(void **state)
{
    struct sender *sender = *state;
    int64_t now = clock_now_ns();
    sender->header.session = 5;
    window(sender, now - 10 * MS, 5, 2); /* ours: no shift */
    assert_int_equal(store_time_ns(sender->store), now - 10 * MS);
    store_ended(sender->store);
    sender->header.session = 6;
    window(sender, 17 * S, 5, 2); /* another host's clock */
    assert_true(store_time_ns(sender->store) >= now);
    assert_true(store_time_ns(sender->store) < now + 10 * S);
    int64_t before = store_time_ns(sender->store);
    window(sender, 18 * S, 5, 2);
    assert_int_equal(store_time_ns(sender->store), before + S);
    window(sender, S, 5, 2); /* a recording that starts anew goes on, it does not go back */
    assert_int_equal(store_time_ns(sender->store), before + S);
    window(sender, INT64_MAX / 5, 5, 2); /* nonsense does not carry the axis away */
    assert_true(store_time_ns(sender->store) < now + 60 * S);
}

static void losses_add_up(void **state)
{
    struct sender *sender = *state;
    sender->header.session = 9;
    window(sender, clock_now_ns(), 1, 2);
    assert_int_equal(store_dropped(sender->store), 0);
    sender->header.lost = 3;
    window(sender, clock_now_ns(), 1, 2);
    window(sender, clock_now_ns(), 1, 2);
    assert_int_equal(store_dropped(sender->store), 3);
    sender->header.session = 10; /* a fresh worker counts from 0 */
    sender->header.lost = 0;
    window(sender, clock_now_ns(), 1, 2);
    assert_int_equal(store_dropped(sender->store), 3);
}

static void every_series_and_class_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < SERIES_COUNT; i++) {
        assert_non_null(store_series_name((enum store_series)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(store_series_name((enum store_series)i),
                                    store_series_name((enum store_series)j));
    }
    assert_string_equal(store_series_name(SERIES_COUNT), "?");
}

static void a_store_before_anything_answers(void **state)
{
    (void)state;
    struct store *store = store_new();
    struct store_layer row;
    struct ledger ledger;
    struct summary wall;
    store_layer(store, 0, &row);
    store_ledger(store, &ledger);
    store_wall(store, &wall);
    assert_int_equal(ledger.steps, 0);
    assert_int_equal(wall.count, 0);
    assert_string_equal(store_timing_source(store), "");
    assert_string_equal(store_note(store), "");
    assert_int_equal(store_time_ns(store), 0);
    store_plan(store, NULL);
    store_ended(store);
    store_reset(store);
    store_free(store);
    store_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_come_from_model_and_plan, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_second_is_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_plan_starts_statistics_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(another_device_does_not_touch_the_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(segments_are_exact_and_the_oldest_go, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_of_long_steps_has_no_gaps, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_knows_what_is_not_known, setup, teardown),
        cmocka_unit_test_setup_teardown(samples_tell_who_else_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_sample_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(another_worker_starts_now, setup, teardown),
        cmocka_unit_test_setup_teardown(losses_add_up, setup, teardown),
        cmocka_unit_test(every_series_and_class_has_a_name),
        cmocka_unit_test(a_store_before_anything_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
