/* Pictures as a part of the step: TensorFlow's own numbers, and what the ledger tells. The arrays of
 * tests/data/pictures/tensorflow.npz are made by tests/tools/make_pictures.py. */
#include "engine/clock.h"
#include "engine/npy.h"
#include "engine/pipeline.h"
#include "engine/session_private.h"
#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAYS  "tests/data/pictures/tensorflow.npz"
#define CLOSE   2e-4 /* of values up to 255 in float32 */
#define DIGITS  "demo:digits -c 'devices cpu' -c 'threads 1' -c 'batch 4' "
#define FOLDER  "share/layertop/demo/digits"
#define BATCH   5
#define SIDE    24
#define CHANNEL 3

/* ---- TensorFlow's rules ---- */

static void close_to(const struct npy_file *file, const char *name, const float *values,
                     double tolerance)
{
    const struct npy_array *array = npy_find(file, name);
    assert_non_null(array);
    for (size_t i = 0; i < (size_t)shape_elements(&array->shape); i++) {
        float want;
        memcpy(&want, (const char *)array->data + i * sizeof want, sizeof want);
        if (!(fabs((double)values[i] - (double)want) <= tolerance))
            fail_msg("%s: element %zu is %g, TensorFlow's %g", name, i, (double)values[i],
                     (double)want);
    }
}

static void resizing_is_tensorflows(void **state)
{
    (void)state;
    static const struct {
        enum image_filter filter;
        const char *name;
    } filters[] = {
        {IMAGE_ANTIALIAS, "antialias"}, {IMAGE_BILINEAR, "bilinear"}, {IMAGE_NEAREST, "nearest"}};
    static const int sizes[][2] = {{5, 4}, {20, 12}};
    struct error error;
    struct npy_file *file = npy_open(ARRAYS, &error);
    assert_non_null(file);
    const struct npy_array *picture = npy_find(file, "picture");
    uint8_t pixels[9 * 14 * 3];
    assert_int_equal(picture->bytes, sizeof pixels);
    memcpy(pixels, picture->data, sizeof pixels);
    const struct image image = {14, 9, 3, pixels};
    for (int f = 0; f < 3; f++) {
        for (int s = 0; s < 2; s++) {
            float out[20 * 12 * 3];
            char name[64];
            snprintf(name, sizeof name, "%s_%dx%d", filters[f].name, sizes[s][0], sizes[s][1]);
            image_resize(&image, sizes[s][0], sizes[s][1], filters[f].filter, out);
            close_to(file, name, out, CLOSE);
        }
    }
    npy_close(file);
}

static void scaling_is_tensorflows(void **state)
{
    (void)state;
    struct error error;
    struct npy_file *file = npy_open(ARRAYS, &error);
    assert_non_null(file);
    const uint8_t *pixels = npy_find(file, "picture")->data;
    float unit[9 * 14 * 3], standard[9 * 14 * 3], flat[12];
    for (size_t i = 0; i < 9 * 14 * 3; i++)
        unit[i] = standard[i] = pixels[i];
    for (size_t i = 0; i < 12; i++)
        flat[i] = 7;
    image_preprocess("unit", unit, 9 * 14, 3);
    close_to(file, "unit", unit, 1e-7);
    image_preprocess("per_image", standard, 9 * 14, 3);
    close_to(file, "per_image", standard, 1e-6);
    image_preprocess("per_image", flat, 4, 3); /* no deviation: nothing is divided by zero */
    close_to(file, "flat", flat, 1e-6);
    npy_close(file);
}

/* ---- batches ---- */

static struct pipeline *open_pipeline(bool overlap, bool batched, int threads, enum dtype dtype)
{
    static const char *const name = "pictures";
    struct error error = {0};
    const struct pipeline_options options = {
        .source = "",
        .made_width = 61,
        .made_height = 40,
        .seed = 3,
        .port = {.name = name, .row = {.rank = 3, .dims = {SIDE, SIDE, CHANNEL}}, .dtype = dtype},
        .batch = BATCH,
        .preprocess = "tf",
        .overlap = overlap,
        .batched = batched,
        .threads = threads};
    struct pipeline *pipeline = pipeline_new(&options, &error);
    if (pipeline == NULL)
        fail_msg("%s", error.why);
    return pipeline;
}

/* However it is done, the same batches come in the same order: 16 pictures, five a batch. */
static void every_way_makes_the_same_batches(void **state)
{
    (void)state;
    static float want[5][BATCH * SIDE * SIDE * CHANNEL], got[BATCH * SIDE * SIDE * CHANNEL];
    struct error error;
    struct pipeline *plain = open_pipeline(false, false, 1, DTYPE_F32);
    assert_int_equal(pipeline_pictures(plain), 16);
    for (int i = 0; i < 5; i++)
        assert_true(pipeline_next(plain, want[i], &error));
    pipeline_free(plain);
    assert_memory_not_equal(want[0], want[1], sizeof want[0]);
    /* the fourth batch begins with the sixteenth picture, and goes on with the first */
    size_t row = SIDE * SIDE * CHANNEL;
    assert_memory_equal(want[3] + row, want[0], 4 * row * sizeof(float));
    for (int way = 1; way < 8; way++) {
        struct pipeline *pipeline =
            open_pipeline((way & 1) != 0, (way & 2) != 0, (way & 4) != 0 ? 3 : 1, DTYPE_F32);
        for (int i = 0; i < 5; i++) {
            assert_true(pipeline_next(pipeline, got, &error));
            assert_memory_equal(got, want[i], sizeof got);
        }
        struct pipeline_times times = pipeline_times(pipeline, true);
        assert_true(times.batches >= 5 && times.stage_ns[0] > 0 && times.stage_ns[1] > 0 &&
                    times.stage_ns[2] > 0);
        pipeline_free(pipeline);
    }
}

static void bytes_get_the_nearest_level(void **state)
{
    (void)state;
    static uint8_t bytes[BATCH * SIDE * SIDE * CHANNEL];
    struct error error;
    struct pipeline *pipeline = open_pipeline(false, true, 2, DTYPE_U8);
    assert_true(pipeline_next(pipeline, bytes, &error));
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_true(bytes[i] <= 1); /* `tf` leaves -1..1 */
    pipeline_free(pipeline);
}

/* Raw batches: sizes, then the decoded bytes themselves; resized and scaled here, what the others are. */
static void raw_batches_hold_the_pictures(void **state)
{
    (void)state;
    static float want[BATCH * SIDE * SIDE * CHANNEL], row[SIDE * SIDE * CHANNEL];
    static const char *const name = "pictures";
    struct pipeline_options options = {.made_width = 61,
                                       .made_height = 40,
                                       .seed = 3,
                                       .source = "",
                                       .port = {.name = name,
                                                .row = {.rank = 3, .dims = {SIDE, SIDE, CHANNEL}},
                                                .dtype = DTYPE_F32},
                                       .batch = BATCH,
                                       .preprocess = "tf",
                                       .threads = 2,
                                       .raw = true};
    struct error error;
    struct pipeline *plain = open_pipeline(false, false, 1, DTYPE_F32);
    for (int overlap = 0; overlap < 2; overlap++) {
        options.overlap = overlap == 1;
        struct pipeline *pipeline = pipeline_new(&options, &error);
        assert_non_null(pipeline);
        size_t slot = pipeline_slot_bytes(pipeline), bytes = pipeline_batch_bytes(pipeline);
        assert_true(slot >= 61 * 40 * 3 && slot % PIPELINE_ALIGNMENT == 0);
        assert_int_equal(bytes, PIPELINE_ALIGNMENT + BATCH * slot);
        assert_false(pipeline_serves(plain, &options));
        uint8_t *raw = malloc(bytes);
        assert_true(pipeline_next(pipeline, raw, &error));
        const struct image_size *sizes = (const struct image_size *)(const void *)raw;
        if (overlap == 0)
            assert_true(pipeline_next(plain, want, &error));
        for (size_t i = 0; i < BATCH; i++) {
            assert_int_equal(sizes[i].width, 61);
            assert_int_equal(sizes[i].height, 40);
            const struct image image = {61, 40, 3, raw + PIPELINE_ALIGNMENT + i * slot};
            image_resize(&image, SIDE, SIDE, IMAGE_ANTIALIAS, row);
            image_preprocess("tf", row, (size_t)SIDE * SIDE, CHANNEL);
            assert_memory_equal(row, want + i * SIDE * SIDE * CHANNEL, sizeof row);
        }
        free(raw);
        pipeline_free(pipeline);
    }
    assert_int_equal(pipeline_slot_bytes(plain), 0);
    pipeline_free(plain);
}

/* ---- as part of the steps ---- */

static void the_ledger_shows_the_pipeline(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(
        NULL, DIGITS "--json -k -c 'run 5' -c 'picture 640x480' -c 'set pipeline serial' "
                     "-c 'run 5' -c 'picture 40x30' -c 'batch 512' -c 'set pipeline overlap' "
                     "-c 'run 5' -c 'set pipeline off' "
                     "-c 'run 5'");
    assert_int_equal(outcome.code, 0);
    const json_t *runs[4];
    size_t index, count = 0;
    json_t *object;
    json_array_foreach(outcome.objects, index, object)
    {
        if (strcmp(json_string_value(json_object_get(object, "cmd")), "run") == 0)
            runs[count++] = json_object_get(object, "data");
    }
    assert_int_equal(count, 4);
    for (int i = 0; i < 4; i += 3) {
        assert_true(cli_number_at(runs[i], "ledger.preprocess_ms") == 0);
        assert_null(json_object_get(runs[i], "pipeline"));
    }
    double prepare = cli_number_at(runs[1], "pipeline.prepare_ms");
    double preprocess = cli_number_at(runs[1], "ledger.preprocess_ms");
    assert_true(prepare > 1); /* four JPEGs of 640 x 480 */
    assert_true(preprocess > 0.9 * prepare && preprocess < 1.5 * prepare + 1);
    assert_true(cli_number_at(runs[1], "ledger.wall_ms") > preprocess);
    assert_true(cli_number_at(runs[1], "pipeline.decode_ms") > 0);
    assert_string_equal(json_string_value(cli_at(runs[2], "pipeline.mode")), "overlap");
    assert_true(cli_number_at(runs[2], "ledger.hidden_preprocess_ms") > 0);
    cli_outcome_free(&outcome);
}

static void it_is_refused_where_it_cannot_be(void **state)
{
    (void)state;
    cli_expect_code(NULL, "demo:dense -c 'devices cpu' -c 'threads 1' -c 'set pipeline serial'", 1,
                    "it makes pictures");
    cli_expect_code(NULL, DIGITS "-c 'set picture 0x5'", 1, "500x375");
    cli_expect_code(NULL, DIGITS "-c 'set picture 20x5x'", 1, "500x375");
    cli_expect_code(NULL, DIGITS "-c 'set mapping rows'", 1, "");
    cli_expect_code(NULL, DIGITS "-c 'set input " FOLDER "/heldout_x.npy' -c 'set pipeline serial'",
                    1, "names numbers");
    cli_expect_code(NULL, DIGITS "-c 'set pipeline serial' -c 'set preprocess_on gpu'", 1,
                    "set preprocess_on cpu");
    cli_expect_code(NULL, DIGITS "-c 'set preprocess_on gpu' -c 'set pipeline serial'", 1,
                    "runs on cpu");
    cli_expect_code(NULL, DIGITS "-c 'set preprocess_on tpu'", 1, "");
    /* what a model cannot have does not keep it from being loaded */
    cli_expect_code(NULL,
                    DIGITS "-c 'set pipeline overlap' -c 'load demo:dense' -c 'run 2' -c "
                           "'load demo:digits' -c 'run 2'",
                    0, "no pipeline here");
}

static void a_folder_feeds_it(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, DIGITS "--json -c 'set input " FOLDER
                                                      "' -c 'set pipeline serial' -c 'run 3' -c "
                                                      "'predict " FOLDER "/digit-7.png'");
    assert_int_equal(outcome.code, 0);
    const json_t *run = cli_object_of(&outcome, "run"),
                 *predict = cli_object_of(&outcome, "predict");
    assert_true(cli_number_at(run, "data.pipeline.pictures") >= 1);
    /* the steps of `predict` keep their own pictures */
    const json_t *prediction = json_array_get(cli_at(predict, "data.predictions"), 0);
    const json_t *best = json_array_get(cli_at(prediction, "top"), 0);
    assert_int_equal(json_integer_value(json_object_get(best, "class")), 7);
    cli_outcome_free(&outcome);
}

/* ---- in a session ---- */

static void no_progress(void *context, uint64_t id, double fraction, const char *text)
{
    (void)context;
    (void)id;
    (void)fraction;
    (void)text;
}

static void no_plan(void *context, const json_t *plan)
{
    (void)context;
    (void)plan;
}

/* Steals the arguments. */
static void ask(struct session *session, const char *verb, json_t *arguments)
{
    struct error error = {0};
    json_t *reply = session_execute(session, 1, verb, arguments, &error);
    if (reply == NULL)
        fail_msg("%s: %s: %s", verb, error.what, error.why);
    json_decref(reply);
    json_decref(arguments);
    session_replied(session);
}

static void set(struct session *session, const char *key, json_t *value)
{
    ask(session, "set", json_pack("{s:s, s:o}", "key", key, "value", value));
}

/* Batches since the pipeline was made or, if that was later, since the last `run`. */
static uint64_t batches(const struct session *session)
{
    return pipeline_times(session->pipeline, false).batches;
}

static void a_new_plan_does_not_decode_the_pictures_again(void **state)
{
    (void)state;
    static atomic_bool cancel;
    struct worker_hooks hooks = {0};
    struct session_ports ports = {NULL, no_progress, no_plan, &cancel};
    struct session *session = session_new(&hooks, &ports);
    ask(session, "configure",
        json_pack("{s:{s:[s], s:i, s:i}}", "settings", "devices", "cpu", "batch", 2, "threads", 1));
    ask(session, "load", json_pack("{s:s}", "path", "demo:digits"));
    set(session, "picture", json_string("40x40"));
    set(session, "pipeline", json_string("serial"));
    ask(session, "run", json_pack("{s:i, s:i}", "steps", 3, "warmup", 0));
    assert_int_equal(batches(session), 3);
    /* other plans, the same input */
    set(session, "fusion", json_false());
    set(session, "precision", json_string("bf16"));
    set(session, "prune", json_string("0.5"));
    assert_int_equal(batches(session), 3);
    const struct {
        const char *key;
        json_t *value;
    } others[] = {{"batch", json_integer(3)},
                  {"seed", json_integer(5)},
                  {"input", json_string("tests/data/digits")},
                  {"preprocess", json_string("unit")}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        ask(session, "run", json_pack("{s:i, s:i}", "steps", 3, "warmup", 0));
        assert_int_equal(batches(session), 3);
        set(session, others[i].key, others[i].value);
        if (batches(session) != 0)
            fail_msg("the pipeline took no notice of %s", others[i].key);
    }
    /* a load reads everything again: the folder may hold other pictures by now */
    ask(session, "run", json_pack("{s:i, s:i}", "steps", 3, "warmup", 0));
    ask(session, "load", json_pack("{s:s}", "path", "demo:digits"));
    assert_int_equal(batches(session), 0);
    ask(session, "unload", json_object());
    assert_null(session->pipeline);
    session_free(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resizing_is_tensorflows),
        cmocka_unit_test(scaling_is_tensorflows),
        cmocka_unit_test(every_way_makes_the_same_batches),
        cmocka_unit_test(bytes_get_the_nearest_level),
        cmocka_unit_test(raw_batches_hold_the_pictures),
        cmocka_unit_test(the_ledger_shows_the_pipeline),
        cmocka_unit_test(it_is_refused_where_it_cannot_be),
        cmocka_unit_test(a_folder_feeds_it),
        cmocka_unit_test(a_new_plan_does_not_decode_the_pictures_again),
    };
    return cmocka_run_group_tests_name("pipeline", tests, cli_make_folder, cli_remove_folder);
}
