/* Panes drawn from a store that was fed by hand: pictures as text, at a time that stands still. */
#include "commands/command.h"
#include "profiler/records.h"
#include "support/golden.h"
#include "tui/keys.h"
#include "tui/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS INT64_C(1000000)

static const char model_text[] =
    "{\"name\": \"digits\", \"layers\": ["
    "{\"name\": \"image\", \"class\": \"InputLayer\", \"parameters\": 0},"
    "{\"name\": \"conv1\", \"class\": \"Conv2D\", \"parameters\": 320},"
    "{\"name\": \"bn1\", \"class\": \"BatchNormalization\", \"parameters\": 128},"
    "{\"name\": \"relu1\", \"class\": \"ReLU\", \"parameters\": 0},"
    "{\"name\": \"pool1\", \"class\": \"MaxPooling2D\", \"parameters\": 0},"
    "{\"name\": \"flatten\", \"class\": \"Flatten\", \"parameters\": 0},"
    "{\"name\": \"dense\", \"class\": \"Dense\", \"parameters\": 62730}]}";

static const char plan_text[] =
    "{\"device\": \"cpu\", \"batch\": 32, \"precision\": \"fp32\", \"fusion\": true,"
    " \"timing_source\": \"clock\", \"memory\": {\"planned_bytes\": 4000000}, \"layers\": ["
    "{\"layer\": 0, \"name\": \"image\", \"flops\": 0, \"bytes\": 0, \"output_shape\": \"(32, 28, "
    "28, 1)\"},"
    "{\"layer\": 1, \"name\": \"conv1\", \"flops\": 14450688, \"bytes\": 3312128, \"impl\": "
    "\"onednn\", \"output_shape\": \"(32, 28, 28, 32)\", \"fused\": [\"bn1\", \"relu1\"]},"
    "{\"layer\": 2, \"name\": \"bn1\", \"fused_into\": \"conv1\", \"flops\": 0, \"bytes\": 0},"
    "{\"layer\": 3, \"name\": \"relu1\", \"fused_into\": \"conv1\", \"flops\": 0, \"bytes\": 0},"
    "{\"layer\": 4, \"name\": \"pool1\", \"flops\": 802816, \"bytes\": 4014080, \"impl\": "
    "\"onednn\", \"output_shape\": \"(32, 14, 14, 32)\"},"
    "{\"layer\": 5, \"name\": \"flatten\", \"flops\": 0, \"bytes\": 0, \"output_shape\": \"(32, "
    "6272)\"},"
    "{\"layer\": 6, \"name\": \"dense\", \"flops\": 4014720, \"bytes\": 1054976, \"impl\": "
    "\"onednn\", \"output_shape\": \"(32, 10)\"}]}";

struct bench {
    struct store *store;
    json_t *model, *plan;
    struct log *log;
};

/* One window of 100 ms that ends at `time_ns`: ten steps of the three layers that cost something. */
static void feed_window(struct store *store, int64_t time_ns, double scale)
{
    static const struct {
        uint32_t layer;
        double ms;
    } layers[] = {{1, 0.50}, {4, 0.08}, {6, 0.15}};
    struct record_writer writer = {0};
    struct record_header header = {.kind = RECORD_WINDOW,
                                   .device = RECORD_CPU,
                                   /* session 0 keeps its own clock */ .time_ns = time_ns};
    double step_ms = 0.80 * scale;
    float walls[10];
    for (int i = 0; i < 10; i++)
        walls[i] = (float)(step_ms * (i == 9 ? 1.2 : 1));
    struct record_window window = {
        .begin_ns = time_ns - 100 * MS,
        .timing = TIMING_CLOCK,
        .known = 63,
        .wall_count = 10,
        .layer_count = 3,
        .ledger_steps = 10,
        .samples = 320,
        .rate_ns = (int64_t)(10 * step_ms * 1e6),
        .class_ns = {[LEDGER_KERNEL] = (int64_t)(7.3 * scale * 1e6),
                     [LEDGER_PROFILER] = (int64_t)(0.1 * scale * 1e6),
                     [LEDGER_PREPROCESS] = (int64_t)(0.2 * scale * 1e6),
                     [LEDGER_GAP] = (int64_t)(0.3 * scale * 1e6)},
        .unexplained_ns = (int64_t)(0.1 * scale * 1e6),
        .wall_ns = (int64_t)(8.0 * scale * 1e6),
    };
    record_begin(&writer, &header);
    record_put_window(&writer, &window, walls);
    for (int i = 0; i < 3; i++) {
        int64_t ns = (int64_t)(layers[i].ms * scale * 1e6);
        struct histogram histogram;
        histogram_init(&histogram);
        histogram_add(&histogram, histogram_bucket(ns), 10);
        struct record_layer layer = {.layer = layers[i].layer,
                                     .steps = 10,
                                     .kernels = 10,
                                     .sum_ns = ns * 10,
                                     .min_ns = ns,
                                     .max_ns = ns};
        record_put_layer(&writer, &layer, &histogram);
    }
    struct error error = {0};
    if (!store_feed(store, writer.data, writer.bytes, &error))
        fail_msg("%s", error.why);
    header.kind = RECORD_MEMORY;
    struct record_memory memory = {
        .category = {1000000, 2000000, 500000, 0, RECORD_UNKNOWN},
        .used = 6000000,
        .total = UINT64_C(24000000000),
        .library = RECORD_UNKNOWN,
        .cupti = RECORD_UNKNOWN,
    };
    record_begin(&writer, &header);
    record_put_memory(&writer, &memory);
    if (!store_feed(store, writer.data, writer.bytes, &error))
        fail_msg("%s", error.why);
    free(writer.data);
}

static int setup(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->store = store_new();
    bench->model = json_loads(model_text, 0, NULL);
    bench->plan = json_loads(plan_text, 0, NULL);
    bench->log = log_new();
    *state = bench;
    return bench->model != NULL && bench->plan != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    store_free(bench->store);
    json_decref(bench->model);
    json_decref(bench->plan);
    log_free(bench->log);
    free(bench);
    return 0;
}

/* A minute of data: slow, a gap of five seconds, then fast; ends at store_time_ns(). */
static void feed_minute(struct bench *bench)
{
    store_model(bench->store, bench->model);
    store_plan(bench->store, bench->plan);
    for (int i = 1; i <= 600; i++) {
        if (i > 300 && i < 350)
            continue;
        feed_window(bench->store, i * 100 * MS, i <= 300 ? 2.0 : 1.0);
    }
    log_add(bench->log, SINK_ECHO, "load demo:digits");
    log_add(bench->log, SINK_TEXT, "loaded digits: 7 layers");
    log_add(bench->log, SINK_ECHO, "batch 32");
    log_add(bench->log, SINK_ERROR, "error[E012]: run: no model is loaded");
    log_add(bench->log, SINK_HINT, "hint: load demo:digits");
    log_add(bench->log, SINK_NOTE, "again");
    log_add(bench->log, SINK_NOTE, "again");
    log_add(bench->log, SINK_TEXT, "\033[31mno escape gets through\t|");
}

static struct view view_of(const struct bench *bench)
{
    struct view view = {
        .store = bench->store,
        .model = bench->model,
        .plan = bench->plan,
        .state = STATE_LIVE,
        .notice = "",
        .model_name = "digits",
        .devices = "cpu",
        .precision = "fp32",
        .batch = 32,
        .growth = true,
        .fusion = true,
        .graph = true,
        .limit_bytes = NAN,
        .now_ns = store_time_ns(bench->store),
        .span_ns = 60 * 1000 * MS,
        .sort = SORT_TIME,
        .focus = FOCUS_PROMPT,
        .search = "",
        .log = bench->log,
        .progress = -1,
        .progress_text = "",
    };
    return view;
}

static char *draw(struct view *view, int rows, int cols, enum symbols symbols)
{
    struct canvas *canvas = canvas_new();
    struct layout layout;
    layout_compute(rows, cols, &(struct layout_wish){.notice = view->notice[0] != '\0'}, &layout);
    canvas_reset(canvas, rows, cols, symbols);
    view_take(view);
    view_clamp_rows(&view->selected, &view->top, view->row_count, pane_layers_rows(layout.table));
    panes_draw(canvas, &layout, view);
    view_drop(view);
    char *text = canvas_to_text(canvas);
    canvas_free(canvas);
    return text;
}

static void check(struct view *view, int rows, int cols, enum symbols symbols, const char *name)
{
    char *text = draw(view, rows, cols, symbols);
    golden_check(name, text);
    free(text);
}

static void live_screens_match_their_pictures(void **state)
{
    struct bench *bench = *state;
    feed_minute(bench);
    struct view view = view_of(bench);
    check(&view, 24, 80, SYMBOLS_BRAILLE, "panes_80x24");
    check(&view, 24, 80, SYMBOLS_ASCII, "panes_80x24_ascii");
    check(&view, 40, 120, SYMBOLS_BRAILLE, "panes_120x40");
    check(&view, 18, 60, SYMBOLS_BLOCK, "panes_60x18_block");
}

static void an_empty_screen_says_what_to_do(void **state)
{
    struct bench *bench = *state;
    struct view view = view_of(bench);
    view.model = view.plan = NULL;
    view.model_name = NULL;
    view.state = STATE_IDLE;
    view.now_ns = 1000 * MS;
    char *text = draw(&view, 24, 80, SYMBOLS_BRAILLE);
    assert_non_null(strstr(text, "no model"));
    assert_non_null(strstr(text, "load demo:digits"));
    assert_null(strstr(text, "nan"));
    free(text);
}

static void states_are_told(void **state)
{
    struct bench *bench = *state;
    feed_minute(bench);
    struct view view = view_of(bench);
    view.notice = "worker ended: signal 9";
    view.state = STATE_DEAD;
    view.focus = FOCUS_PANES;
    view.search = "ool";
    view.selected = 1;
    view.sort = SORT_ORDER;
    view.progress = 0.25;
    view.progress_text = "planning";
    check(&view, 24, 80, SYMBOLS_BRAILLE, "panes_80x24_dead");
}

static void a_gpu_is_named(void **state)
{
    struct bench *bench = *state;
    feed_minute(bench);
    struct view view = view_of(bench);
    strcpy(view.devices, "gpu:0");
    strcpy(view.device_name, "NVIDIA H200, driver 580.65.06");
    char *text = draw(&view, 40, 120, SYMBOLS_BRAILLE);
    assert_non_null(strstr(text, "gpu:0  NVIDIA H200, driver 580.65.06  batch 32  fp32"));
    assert_non_null(strstr(text, "GPU memory"));
    free(text);
    text = draw(&view, 24, 80, SYMBOLS_BRAILLE); /* no room: what matters less goes */
    assert_null(strstr(text, "580.65"));
    assert_non_null(strstr(text, "gpu:0  batch 32  fp32"));
    free(text);
}

/* A second of a GPU's memory in which each part is there. */
static void feed_gpu_memory(struct store *store, int64_t now_ns)
{
    struct record_writer writer = {0};
    struct record_header header = {.kind = RECORD_DEVICE, .device = 0};
    struct record_device device = {.clock_mhz = NAN,
                                   .temperature_c = NAN,
                                   .power_w = NAN,
                                   .util = NAN,
                                   .used = 70 << 20,
                                   .total = 100 << 20,
                                   .ours = 50 << 20,
                                   .throttle = RECORD_UNKNOWN,
                                   .others = 15 << 20,
                                   .tenants = 1};
    struct record_memory memory = {
        .category = {8 << 20, 9 << 20, 7 << 20, 6 << 20, 16 << 20},
        .used = RECORD_UNKNOWN,
        .total = RECORD_UNKNOWN,
        .library = 5 << 20,
        .cupti = 4 << 20,
    };
    for (int i = 0; i < 20; i++) {
        header.time_ns = now_ns - (20 - i) * 100 * MS;
        header.kind = RECORD_DEVICE;
        record_begin(&writer, &header);
        record_put_device(&writer, &device);
        assert_true(store_feed(store, writer.data, writer.bytes, NULL));
        header.kind = RECORD_MEMORY;
        record_begin(&writer, &header);
        record_put_memory(&writer, &memory);
        assert_true(store_feed(store, writer.data, writer.bytes, NULL));
    }
    free(writer.data);
}

/* All that may hold memory on a GPU has an area; what is free, and the limit, stand in the title. */
static void each_part_of_gpu_memory_is_drawn(void **state)
{
    struct bench *bench = *state;
    json_object_set_new(bench->plan, "device", json_string("gpu:0"));
    store_model(bench->store, bench->model);
    store_plan(bench->store, bench->plan);
    feed_gpu_memory(bench->store, 60000 * MS);
    struct view view = view_of(bench);
    strcpy(view.devices, "gpu:0");
    view.span_ns = 2000 * MS;
    view.limit_bytes = 90 << 20;
    struct canvas *canvas = canvas_new();
    canvas_reset(canvas, 24, 130, SYMBOLS_ASCII);
    pane_memory_draw(canvas, (struct rect){0, 0, 24, 130}, &view);
    char *text = canvas_to_text(canvas);
    golden_check("pane_gpu_memory_130x24_ascii", text);
    free(text);
    canvas_free(canvas);
}

static void rows_sort_and_fold(void **state)
{
    struct bench *bench = *state;
    feed_minute(bench);
    struct view view = view_of(bench);
    static const struct {
        enum sort_key sort;
        const char *first;
    } cases[] = {{SORT_TIME, "conv1"},
                 {SORT_ORDER, "image"},
                 {SORT_NAME, "conv1"},
                 {SORT_FLOPS, "conv1"},
                 {SORT_BYTES, "pool1"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        view.sort = cases[i].sort;
        view_take(&view);
        assert_int_equal(view.row_count, 5); /* seven layers, two of them folded */
        assert_string_equal(view.layers[view.rows[0]].name, cases[i].first);
        view_drop(&view);
    }
    view.sort = SORT_TIME; /* what is not known comes last */
    view_take(&view);
    assert_string_equal(view.layers[view.rows[1]].name, "dense");
    assert_true(isnan(view.layers[view.rows[4]].time_ms));
    view_drop(&view);
}

static void rows_stay_in_sight(void **state)
{
    (void)state;
    for (int rows = 0; rows < 8; rows++) {
        for (int count = 0; count < 12; count++) {
            for (int selected = -3; selected < 15; selected++) {
                for (int top = -3; top < 15; top++) {
                    int s = selected, t = top;
                    view_clamp_rows(&s, &t, (size_t)count, rows);
                    assert_true(s >= 0 && (s < count || count == 0));
                    assert_true(t >= 0 && (t < count || count == 0));
                    assert_true(s >= t && (rows == 0 || s < t + rows));
                }
            }
        }
    }
}

static void keys_make_command_lines(void **state)
{
    struct bench *bench = *state;
    feed_minute(bench);
    struct view view = view_of(bench);
    static const struct {
        uint32_t letter;
        const char *line;
    } cases[] = {
        {'+', "batch 64"},       {'=', "batch 64"},
        {'-', "batch 16"},       {' ', "stop"},
        {'s', "set sort order"}, {']', "set span 120s"},
        {'[', "set span 30s"},   {'p', "precision tf32"},
        {'f', "fusion off"},     {'G', "growth off"},
        {'q', "quit"},           {'r', "run 100"},
        {'S', "show"},           {'x', "explain 'conv1'"},
    };
    view_take(&view);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct input key = {.code = INPUT_CHAR, .point = cases[i].letter};
        const struct key_binding *binding = keys_find(&key, FOCUS_PANES);
        assert_non_null(binding);
        assert_null(keys_find(&key, FOCUS_PROMPT)); /* there it is a letter */
        char *line = keys_command(binding, &view);
        assert_string_equal(line, cases[i].line);
        free(line);
    }
    view.batch = 1;
    struct input minus = {.code = INPUT_CHAR, .point = '-'};
    assert_null(keys_command(keys_find(&minus, FOCUS_PANES), &view));
    for (size_t i = 0; i < keys_count(); i++) { /* each F-key has a letter, no key two meanings */
        const struct key_binding *a = keys_at(i);
        assert_true(a->letter != 0);
        assert_true(a->summary[0] != '\0');
        for (size_t k = 0; k < i; k++) {
            const struct key_binding *b = keys_at(k);
            assert_true(a->letter != b->letter);
            assert_true(a->function == 0 || a->function != b->function);
            assert_true(a->named == INPUT_CHAR || a->named != b->named);
        }
    }
    view_drop(&view);
}

static void help_is_made_from_the_tables(void **state)
{
    (void)state;
    struct canvas *canvas = canvas_new();
    canvas_reset(canvas, 300, 100, SYMBOLS_BRAILLE);
    int lines = pane_help_draw(canvas, (struct rect){0, 0, 300, 100}, 0);
    assert_true(lines > 60 && lines < 300);
    char *text = canvas_to_text(canvas);
    for (size_t i = 0; i < command_count(); i++) {
        char start[24]; /* the rest may be cut */
        snprintf(start, sizeof start, "%s", command_at(i)->summary);
        if (strstr(text, start) == NULL)
            fail_msg("no help for %s", command_at(i)->name);
    }
    for (size_t i = 0; i < setting_count(); i++)
        assert_non_null(strstr(text, setting_at(i)->name));
    free(text);
    canvas_free(canvas);
}

static void the_log_wraps_and_scrolls(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 2500; i++) {
        char text[64];
        snprintf(text, sizeof text, "line %d", i);
        log_add(bench->log, SINK_TEXT, text);
    }
    assert_int_equal(log_count(bench->log), LOG_LINES);
    log_feed(bench->log, "half a li", 9);
    assert_int_equal(log_count(bench->log), LOG_LINES);
    assert_string_equal(log_line(bench->log, LOG_LINES - 1, NULL, NULL), "line 2499");
    log_feed(bench->log, "ne\nand a longer one that does not fit\n", 38);
    struct canvas *canvas = canvas_new();
    struct view view = view_of(bench);
    canvas_reset(canvas, 5, 20, SYMBOLS_ASCII);
    pane_log_draw(canvas, (struct rect){0, 0, 5, 20}, &view);
    char *text = canvas_to_text(canvas);
    assert_string_equal(text, "--------------------\nline 2499\nhalf a line\n"
                              "and a longer one\n  that does not fit\n");
    free(text);
    view.log_back = 2;
    canvas_reset(canvas, 5, 20, SYMBOLS_ASCII);
    pane_log_draw(canvas, (struct rect){0, 0, 5, 20}, &view);
    text = canvas_to_text(canvas);
    assert_string_equal(text, "--------------------\nline 2496\nline 2497\nline 2498\nline 2499\n");
    free(text);
    canvas_free(canvas);
}

/* Every size draws without touching what is outside, whatever the state. */
static void any_size_can_be_drawn(void **state)
{
    struct bench *bench = *state;
    feed_minute(bench);
    struct view view = view_of(bench);
    view.focus = FOCUS_PANES;
    for (int rows = 1; rows <= 60; rows += rows < 30 ? 1 : 7) {
        for (int cols = 1; cols <= 200; cols += cols < 90 ? 3 : 17) {
            view.notice = rows % 2 == 0 ? "worker ended: signal 9" : "";
            free(draw(&view, rows, cols, (enum symbols)(cols % 3)));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(live_screens_match_their_pictures, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_screen_says_what_to_do, setup, teardown),
        cmocka_unit_test_setup_teardown(states_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gpu_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(each_part_of_gpu_memory_is_drawn, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_sort_and_fold, setup, teardown),
        cmocka_unit_test(rows_stay_in_sight),
        cmocka_unit_test_setup_teardown(keys_make_command_lines, setup, teardown),
        cmocka_unit_test(help_is_made_from_the_tables),
        cmocka_unit_test_setup_teardown(the_log_wraps_and_scrolls, setup, teardown),
        cmocka_unit_test_setup_teardown(any_size_can_be_drawn, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
