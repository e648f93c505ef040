/* Record frames: what goes in comes out, and nothing that is cut or flipped does any harm. */
#include "profiler/records.h"
#include "profiler/store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t random_state = 7;
static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % bound;
}

static struct record_header header_of(enum record_kind kind)
{
    return (struct record_header){.kind = kind,
                                  .device = 3,
                                  .session = 0xdeadbeef,
                                  .segment = 12,
                                  .lost = 2,
                                  .time_ns = 123456789012345};
}

static void write_window(struct record_writer *writer, uint32_t layers, uint32_t walls)
{
    struct record_header header = header_of(RECORD_WINDOW);
    struct record_window window = {.begin_ns = 123456700000000,
                                   .timing = TIMING_CUPTI,
                                   .known = 0x3f,
                                   .wall_count = walls,
                                   .layer_count = layers,
                                   .ledger_steps = walls,
                                   .samples = 320,
                                   .rate_ns = 99000000,
                                   .class_ns = {1, 2, 3, 4, 5, 6},
                                   .hidden_ns = {7, 8, 9, 10, 11},
                                   .unexplained_ns = -12,
                                   .wall_ns = 13,
                                   .dropped = 14,
                                   .unmatched = 15,
                                   .untimed = 16};
    float *wall_ms = calloc(walls + 1, sizeof *wall_ms);
    for (uint32_t i = 0; i < walls; i++)
        wall_ms[i] = (float)i * 0.5f;
    struct histogram histogram;
    histogram_init(&histogram);
    record_begin(writer, &header);
    record_put_window(writer, &window, wall_ms);
    for (uint32_t i = 0; i < layers; i++) {
        struct record_layer layer = {.layer = i,
                                     .steps = walls,
                                     .kernels = i ? i * 3 : RECORD_UNKNOWN,
                                     .sum_ns = 1000 * i,
                                     .min_ns = 10,
                                     .max_ns = 900};
        histogram_clear(&histogram);
        histogram_add(&histogram, (int)i, walls);
        histogram_add(&histogram, 500, 1);
        record_put_layer(writer, &layer, &histogram);
    }
    free(wall_ms);
}

static void a_window_comes_back_as_it_was(void **state)
{
    (void)state;
    struct record_writer writer = {.data = NULL};
    write_window(&writer, 5, 7);
    struct record_reader reader;
    struct record_header header;
    struct record_window window;
    struct record_layer layer;
    const uint8_t *wall_ms, *buckets;
    assert_true(record_open(&reader, writer.data, writer.bytes, &header, NULL));
    struct record_header wanted = header_of(RECORD_WINDOW);
    assert_int_equal(header.kind, wanted.kind);
    assert_int_equal(header.device, wanted.device);
    assert_int_equal(header.session, wanted.session);
    assert_int_equal(header.segment, wanted.segment);
    assert_int_equal(header.lost, wanted.lost);
    assert_int_equal(header.time_ns, wanted.time_ns);
    assert_true(record_get_window(&reader, &window, &wall_ms, NULL));
    assert_int_equal(window.timing, TIMING_CUPTI);
    assert_int_equal(window.class_ns[LEDGER_GAP], 6);
    assert_int_equal(window.hidden_ns[LEDGER_LAUNCH], 10);
    assert_int_equal(window.unexplained_ns, -12);
    assert_int_equal(window.untimed, 16);
    assert_true(record_wall_ms(wall_ms, 6) == 3.0);
    for (uint32_t i = 0; i < window.layer_count; i++) {
        assert_true(record_get_layer(&reader, &layer, &buckets, NULL));
        assert_int_equal(layer.layer, i);
        assert_int_equal(layer.kernels, i ? i * 3 : RECORD_UNKNOWN);
        assert_int_equal(layer.bucket_count, 2);
        assert_int_equal(record_bucket(buckets, 0).bucket, i);
        assert_int_equal(record_bucket(buckets, 1).count, 1);
    }
    assert_int_equal(reader.at, reader.bytes);
    free(writer.data);
}

static void other_kinds_come_back(void **state)
{
    (void)state;
    struct record_writer writer = {.data = NULL};
    struct record_reader reader;
    struct record_header header = header_of(RECORD_MEMORY);
    struct record_memory memory = {
        .category = {1, 2, 3, RECORD_UNKNOWN, 5}, .used = 6, .total = 7, .cupti = 8};
    struct record_memory memory_back;
    record_begin(&writer, &header);
    record_put_memory(&writer, &memory);
    assert_true(record_open(&reader, writer.data, writer.bytes, &header, NULL));
    assert_true(record_get_memory(&reader, &memory_back, NULL));
    assert_memory_equal(&memory, &memory_back, sizeof memory);
    /* a frame of a writer that did not know the last field */
    assert_true(record_open(&reader, writer.data, writer.bytes - 8, &header, NULL));
    assert_true(record_get_memory(&reader, &memory_back, NULL));
    assert_int_equal(memory_back.total, 7);
    assert_int_equal(memory_back.cupti, RECORD_UNKNOWN);

    header = header_of(RECORD_DEVICE);
    struct record_device device = {.clock_mhz = 1980,
                                   .temperature_c = NAN,
                                   .power_w = 412.5f,
                                   .util = 0.5f,
                                   .used = 1,
                                   .total = 2,
                                   .ours = RECORD_UNKNOWN,
                                   .throttle = 4};
    struct record_device device_back;
    record_begin(&writer, &header);
    record_put_device(&writer, &device);
    assert_true(record_open(&reader, writer.data, writer.bytes, &header, NULL));
    assert_true(record_get_device(&reader, &device_back, NULL));
    assert_true(device_back.clock_mhz == 1980 && device_back.power_w == 412.5f);
    assert_true(isnan(device_back.temperature_c));
    assert_int_equal(device_back.throttle, 4);

    header = header_of(RECORD_NOTE);
    char text[64];
    record_begin(&writer, &header);
    record_put_note(&writer, "no \x1b[31mCUPTI");
    assert_true(record_open(&reader, writer.data, writer.bytes, &header, NULL));
    assert_true(record_get_note(&reader, text, sizeof text, NULL));
    assert_string_equal(text, "no \\x1b[31mCUPTI"); /* it may come from another machine */

    header = header_of(RECORD_COST);
    struct store_cost cost = {.pairs = 12, .share = 0.5, .low = -0.25, .high = 0.75}, cost_back;
    record_begin(&writer, &header);
    record_put_cost(&writer, &cost);
    assert_true(record_open(&reader, writer.data, writer.bytes, &header, NULL));
    assert_true(record_get_cost(&reader, &cost_back, NULL));
    assert_memory_equal(&cost, &cost_back, sizeof cost);
    cost = (struct store_cost){.pairs = 3, .share = NAN, .low = NAN, .high = NAN};
    record_begin(&writer, &header);
    record_put_cost(&writer, &cost);
    assert_true(record_open(&reader, writer.data, writer.bytes, &header, NULL));
    assert_true(record_get_cost(&reader, &cost_back, NULL));
    assert_true(cost_back.pairs == 3 && isnan(cost_back.share));
    cost.share = 0.5; /* of no interval */
    record_begin(&writer, &header);
    record_put_cost(&writer, &cost);
    assert_true(record_open(&reader, writer.data, writer.bytes, &header, NULL));
    assert_false(record_get_cost(&reader, &cost_back, NULL));
    free(writer.data);
}

static void another_version_is_refused(void **state)
{
    (void)state;
    struct record_writer writer = {.data = NULL};
    write_window(&writer, 1, 1);
    writer.data[0] = RECORD_VERSION + 1;
    struct record_reader reader;
    struct record_header header;
    struct error error = {.code = ERROR_NONE};
    assert_false(record_open(&reader, writer.data, writer.bytes, &header, &error));
    assert_int_equal(error.code, ERROR_STREAM);
    free(writer.data);
}

static void values_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct record_writer writer = {.data = NULL};
    struct store *store = store_new();
    json_t *model = json_loads("{\"layers\": [{\"name\": \"a\", \"class\": \"Dense\"}]}", 0, NULL);
    store_model(store, model);
    json_decref(model);
    write_window(&writer, 1, 2);
    assert_true(store_feed(store, writer.data, writer.bytes, NULL));
    write_window(&writer, 2, 2); /* names layer 1 of 1 */
    struct error error = {.code = ERROR_NONE};
    uint64_t generation = store_generation(store);
    assert_false(store_feed(store, writer.data, writer.bytes, &error));
    assert_int_equal(error.code, ERROR_STREAM);
    assert_int_equal(store_generation(store), generation);
    assert_false(store_feed(store, NULL, 0, &error));
    store_free(store);
    free(writer.data);
}

/* Fuzz-like: every cut, and many flips, through the whole store. The sanitizers are the judge. */
static void cuts_and_flips_do_no_harm(void **state)
{
    (void)state;
    struct record_writer writer = {.data = NULL};
    struct store *store = store_new();
    json_t *model =
        json_loads("{\"layers\": [{\"name\": \"a\"}, {\"name\": \"b\"}, {}, {}, {}]}", 0, NULL);
    store_model(store, model);
    json_decref(model);
    write_window(&writer, 5, 9);
    size_t whole = writer.bytes;
    size_t taken = 0;
    for (size_t cut = 0; cut < whole; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1); /* so that reading past its end is seen */
        memcpy(copy, writer.data, cut);
        assert_false(store_feed(store, copy, cut, NULL));
        free(copy);
    }
    for (int round = 0; round < 20000; round++) {
        uint8_t *copy = malloc(whole);
        memcpy(copy, writer.data, whole);
        for (uint32_t flips = 1 + random_below(4); flips > 0; flips--)
            copy[random_below((uint32_t)whole)] ^= (uint8_t)(1u << random_below(8));
        if (round % 3 == 0)
            memset(copy + random_below((uint32_t)whole - 8), 0xff, 8);
        copy[0] = RECORD_VERSION;
        if (round % 2)
            copy[1] = (uint8_t)(1 + random_below(6));
        taken += store_feed(store, copy, whole, NULL);
        free(copy);
    }
    assert_true(taken > 100);
    struct store_layer layer;
    struct ledger ledger;
    struct summary wall;
    struct series_cell cells[50];
    for (size_t i = 0; i < store_layer_count(store); i++)
        store_layer(store, i, &layer);
    store_ledger(store, &ledger);
    store_wall(store, &wall);
    for (int i = 0; i < SERIES_COUNT; i++)
        series_read(store_series_get(store, (enum store_series)i), 0, INT64_MAX / 4, 50, cells);
    store_segment_get(store, 12);
    store_free(store);
    free(writer.data);
}

static void quantiles_are_within_three_percent(void **state)
{
    (void)state;
    for (double ns = 40; ns < 1e12; ns *= 1.013) {
        double middle = histogram_value_ns(histogram_bucket((int64_t)ns));
        assert_true(fabs(middle / floor(ns) - 1) < 0.03);
    }
    assert_int_equal(histogram_bucket(-5), 0);
    assert_int_equal(histogram_bucket(INT64_MAX), HISTOGRAM_BUCKETS - 1);
    struct histogram dense;
    struct histogram_sparse sparse = {.cells = NULL};
    histogram_init(&dense);
    assert_true(isnan(histogram_quantile_ns(&dense, 0.5)));
    assert_true(isnan(histogram_sparse_quantile_ns(&sparse, 0.5)));
    for (int i = 0; i < 3000; i++) {
        int64_t ns = 1000 + random_below(1000000);
        histogram_add(&dense, histogram_bucket(ns), 1);
        histogram_sparse_add(&sparse, histogram_bucket(ns), 1);
    }
    for (double q = 0; q <= 1; q += 0.05)
        assert_true(histogram_quantile_ns(&dense, q) == histogram_sparse_quantile_ns(&sparse, q));
    assert_true(fabs(histogram_quantile_ns(&dense, 0.95) / 951000 - 1) < 0.05);
    free(sparse.cells);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_comes_back_as_it_was),
        cmocka_unit_test(other_kinds_come_back),
        cmocka_unit_test(another_version_is_refused),
        cmocka_unit_test(values_that_cannot_be_are_refused),
        cmocka_unit_test(cuts_and_flips_do_no_harm),
        cmocka_unit_test(quantiles_are_within_three_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
