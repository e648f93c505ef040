/* Pictures in, classes out: what `predict` makes of drawings, families of models and class names. */
#include "engine/demo.h"
#include "engine/labels.h"
#include "engine/npy.h"
#include "engine/session_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

/* ---- a session without listeners ---- */

struct room {
    struct session *session;
    struct session_ports ports;
    struct worker_hooks hooks;
    atomic_bool cancel;
    struct error error;
};

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

/* Ask; arguments with ' for ". NULL: room->error says why. */
static json_t *ask(struct room *room, const char *verb, const char *arguments)
{
    char *text = xstrdup(arguments);
    for (char *c = text; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *parsed = json_loads(text, 0, NULL);
    assert_non_null(parsed);
    room->error = (struct error){0};
    json_t *reply = session_execute(room->session, 1, verb, parsed, &room->error);
    session_replied(room->session);
    if (reply == NULL)
        assert_int_not_equal(room->error.code, ERROR_NONE);
    json_decref(parsed);
    free(text);
    return reply;
}

static void expect_ok(struct room *room, const char *verb, const char *arguments)
{
    json_t *reply = ask(room, verb, arguments);
    if (reply == NULL)
        fail_msg("%s %s: %s: %s", verb, arguments, room->error.what, room->error.why);
    json_decref(reply);
}

static struct room *room_with(const char *model)
{
    struct room *room = xcalloc(1, sizeof *room);
    char load[256];
    room->ports = (struct session_ports){room, no_progress, no_plan, &room->cancel};
    room->session = session_new(&room->hooks, &room->ports);
    setenv("LAYERTOP_DATA", "share/layertop", 1);
    expect_ok(room, "configure", "{'settings': {'devices': ['cpu'], 'batch': 2, 'threads': 1}}");
    snprintf(load, sizeof load, "{'path': '%s'}", model);
    expect_ok(room, "load", load);
    return room;
}

static void room_free(struct room *room)
{
    session_free(room->session);
    free(room);
}

static const json_t *best_of(const json_t *reply, size_t row)
{
    const json_t *rows = json_object_get(reply, "predictions");
    return json_array_get(json_object_get(json_array_get(rows, row), "top"), 0);
}

static const char *text_at(const json_t *object, const char *outer, const char *inner)
{
    return json_string_value(json_object_get(json_object_get(object, outer), inner));
}

/* ---- pictures ---- */

/* 200 x 200 pixels in colour, for a model that takes 28 x 28 grey ones */
static void large_drawings_are_read(void **state)
{
    (void)state;
    struct room *room = room_with("demo:digits");
    json_t *reply = ask(room, "predict", "{'input': 'tests/data/digits'}");
    assert_non_null(reply);
    const int wanted[] = {3, 7};
    for (size_t i = 0; i < 2; i++) {
        const json_t *best = best_of(reply, i);
        assert_int_equal(json_integer_value(json_object_get(best, "class")), wanted[i]);
        assert_true(json_number_value(json_object_get(best, "probability")) > 0.9);
    }
    assert_string_equal(text_at(reply, "preprocess", "mode"), "none");
    assert_string_equal(text_at(reply, "preprocess", "source"), "model");
    json_decref(reply);
    room_free(room);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_bad_picture_is_named(void **state)
{
    (void)state;
    char folder[] = "/tmp/layertop-predict-XXXXXX", path[64], request[128];
    assert_non_null(mkdtemp(folder));
    struct room *room = room_with("demo:digits");
    snprintf(request, sizeof request, "{'input': '%s'}", folder);
    assert_null(ask(room, "predict", request));
    assert_int_equal(room->error.code, ERROR_INPUT); /* no picture in it */
    snprintf(path, sizeof path, "%s/cut.png", folder);
    write_file(path, "\x89PNG\r\n\x1a\n and no more");
    assert_null(ask(room, "predict", request));
    assert_int_equal(room->error.code, ERROR_FILE);
    assert_non_null(strstr(room->error.what, "cut.png"));
    unlink(path);
    snprintf(path, sizeof path, "%s/words.jpg", folder);
    write_file(path, "no picture");
    assert_null(ask(room, "predict", request));
    assert_non_null(strstr(room->error.what, "words.jpg"));
    unlink(path);
    rmdir(folder);
    room_free(room);
}

static void the_setting_scales_pictures(void **state)
{
    (void)state;
    struct room *room = room_with("demo:digits");
    expect_ok(room, "set", "{'key': 'preprocess', 'value': 'TF'}");
    json_t *reply = ask(room, "predict", "{'input': 'tests/data/digits/drawn-3.png'}");
    assert_string_equal(text_at(reply, "preprocess", "mode"), "tf");
    assert_string_equal(text_at(reply, "preprocess", "source"), "setting");
    /* the network has a scaling of its own: scaled twice, nothing is left to be read */
    assert_true(json_number_value(json_object_get(best_of(reply, 0), "probability")) < 0.9);
    json_decref(reply);
    expect_ok(room, "set", "{'key': 'preprocess', 'value': 'caffe'}");
    assert_null(ask(room, "predict", "{'input': 'tests/data/digits/drawn-3.png'}"));
    assert_int_equal(room->error.code, ERROR_INPUT); /* means of colours, for a grey picture */
    assert_null(ask(room, "set", "{'key': 'preprocess', 'value': 'vgg'}"));
    assert_int_equal(room->error.code, ERROR_VALUE);
    expect_ok(room, "set", "{'key': 'preprocess', 'value': 'auto'}");
    reply = ask(room, "predict", "{'input': 'tests/data/digits/drawn-3.png'}");
    assert_string_equal(text_at(reply, "preprocess", "source"), "model");
    json_decref(reply);
    room_free(room);
}

/* ---- families ---- */

static void families_are_known_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *recipe, *class_name, *mode, *source;
        int64_t channels;
    } cases[] = {
        {"vgg16", "", "Conv2D", "caffe", "name", 3},
        {"resnet50", "", "Conv2D", "caffe", "name", 3},
        {"resnet50v2", "", "Conv2D", "tf", "name", 3},
        {"mobilenetv2_1.00_224", "", "Conv2D", "tf", "name", 3},
        {"inception_v3", "", "Conv2D", "tf", "name", 3},
        {"densenet121", "", "Conv2D", "torch", "name", 3},
        {"NASNet", "", "Conv2D", "tf", "name", 3},
        {"vgg16", "", "Conv2D", "none", "model", 1},
        {"vgg16", "", "Rescaling", "none", "model", 3},
        {"efficientnetb0", "", "Normalization", "none", "model", 3},
        {"resnet50like", "", "Conv2D", "none", "unknown", 3},
        {"sequential", "", "Conv2D", "none", "unknown", 3},
        {"vgg16", "torch", "Conv2D", "torch", "recipe", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model_layer layer = {.class_name = (char *)(uintptr_t)cases[i].class_name};
        struct model_port port = {.shape = {.rank = 4, .dims = {-1, 224, 224, cases[i].channels}}};
        struct model model = {.name = (char *)(uintptr_t)cases[i].name,
                              .preprocess = (char *)(uintptr_t)cases[i].recipe,
                              .layers = &layer,
                              .layer_count = 1,
                              .inputs = &port,
                              .input_count = 1};
        struct session session = {.model = &model};
        const char *source;
        assert_string_equal(session_preprocess(&session, &session.settings, &source),
                            cases[i].mode);
        assert_string_equal(source, cases[i].source);
    }
}

/* ---- class names ---- */

static void labels_are_lines(void **state)
{
    (void)state;
    char path[] = "/tmp/layertop-labels-XXXXXX";
    int descriptor = mkstemp(path);
    const char text[] = "cat\r\n\nd\033[2Jog\n\n\n";
    assert_int_equal(write(descriptor, text, sizeof text - 1), sizeof text - 1);
    struct labels labels;
    struct error error = {0};
    assert_true(labels_read(path, &labels, &error));
    assert_int_equal(labels.count, 3);
    assert_string_equal(labels.names[0], "cat");
    assert_string_equal(labels.names[1], "");
    assert_string_equal(labels.names[2], "d\\x1b[2Jog");
    labels_free(&labels);
    assert_int_equal(ftruncate(descriptor, 0), 0);
    assert_false(labels_read(path, &labels, &error));
    assert_int_equal(error.code, ERROR_FILE);
    assert_int_equal(ftruncate(descriptor, 5), 0); /* NULs */
    assert_false(labels_read(path, &labels, &error));
    assert_false(labels_read("/tmp", &labels, &error));
    assert_false(labels_read("/nonexistent/labels", &labels, &error));
    close(descriptor);
    unlink(path);
}

static void many_classes_get_five_and_a_note_once(void **state)
{
    (void)state;
    char path[] = "/tmp/layertop-labels-XXXXXX", request[128];
    struct room *room = room_with("demo:mobilenetv2");
    json_t *reply = ask(room, "predict", "{'input': 'tests/data/pictures/rgba.png'}");
    assert_non_null(reply);
    const json_t *first = json_array_get(json_object_get(reply, "predictions"), 0);
    assert_int_equal(json_array_size(json_object_get(first, "top")), 5);
    assert_null(json_object_get(best_of(reply, 0), "label"));
    assert_non_null(strstr(json_string_value(json_object_get(reply, "note")), "labels FILE"));
    assert_string_equal(text_at(reply, "preprocess", "mode"), "tf");
    assert_string_equal(text_at(reply, "preprocess", "source"), "recipe");
    json_decref(reply);
    reply = ask(room, "predict", "{'input': 'tests/data/pictures/rgba.png', 'top': 1}");
    assert_null(json_object_get(reply, "note"));
    json_decref(reply);

    FILE *file = fdopen(mkstemp(path), "w");
    for (int i = 0; i < 1000; i++)
        fprintf(file, "thing %d\n", i);
    fclose(file);
    snprintf(request, sizeof request, "{'key': 'labels', 'value': '%s'}", path);
    reply = ask(room, "set", request);
    assert_true(json_is_false(json_object_get(reply, "replanned")));
    json_decref(reply);
    reply = ask(room, "predict", "{'input': 'tests/data/pictures/rgba.png'}");
    const json_t *best = best_of(reply, 0);
    char wanted[32];
    snprintf(wanted, sizeof wanted, "thing %lld",
             (long long)json_integer_value(json_object_get(best, "class")));
    assert_string_equal(json_string_value(json_object_get(best, "label")), wanted);
    json_decref(reply);
    assert_null(ask(room, "set", "{'key': 'labels', 'value': '/nonexistent'}"));
    assert_int_equal(room->error.code, ERROR_FILE);
    assert_string_equal(room->session->settings.labels, path); /* the old one stays */
    unlink(path);
    room_free(room);
}

/* oneDNN's and cuDNN's ReLU make 0 of what Keras would hand on: that must not go unsaid */
static void nans_in_the_input_are_told(void **state)
{
    (void)state;
    enum { ROWS = 5, PIXELS = 28 * 28 };
    static float images[ROWS * PIXELS];
    struct npy_array array = {.name = "",
                              .dtype = DTYPE_F32,
                              .shape = {.rank = 4, .dims = {ROWS, 28, 28, 1}},
                              .data = images,
                              .bytes = sizeof images};
    char folder[] = "/tmp/layertop-predict-XXXXXX", path[64], request[128];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.npy", folder);
    snprintf(request, sizeof request, "{'input': '%s'}", path);
    struct room *room = room_with("demo:digits");
    for (int nans = 0; nans <= 2; nans++) {
        assert_true(npy_write(path, &array, 1, &room->error));
        json_t *reply = ask(room, "predict", request); /* in batches of two, the last is padded */
        assert_non_null(reply);
        const char *note = json_string_value(json_object_get(reply, "note"));
        if (nans == 0)
            assert_null(note);
        else
            assert_non_null(strstr(note, nans == 1 ? "1 value that is not a number"
                                                   : "2 values that are not numbers"));
        json_decref(reply);
        images[ROWS * PIXELS - 1 - nans] = (float)NAN;
    }
    unlink(path);
    rmdir(folder);
    room_free(room);
}

/* Ctrl-C in a command: the old model stays, and the words are the command's, not a step's */
static void an_interrupt_is_the_commands(void **state)
{
    (void)state;
    struct room *room = room_with("demo:digits");
    atomic_store(&room->cancel, true);
    assert_null(ask(room, "predict", "{'input': 'tests/data/digits'}"));
    assert_int_equal(room->error.code, ERROR_INTERRUPTED);
    assert_string_equal(room->error.what, "predict");
    assert_non_null(strstr(room->error.why, "stopped after 0 of 2 rows"));
    assert_null(ask(room, "load", "{'path': 'demo:cnn'}"));
    assert_int_equal(room->error.code, ERROR_INTERRUPTED);
    assert_string_equal(room->session->model_path, "demo:digits");
    atomic_store(&room->cancel, false);
    expect_ok(room, "load", "{'path': 'demo:cnn'}");
    room_free(room);
}

/* ---- export ---- */

static void an_export_is_told(void **state)
{
    (void)state;
    char path[] = "/tmp/layertop-export-XXXXXX.h5", request[128];
    close(mkstemps(path, 3));
    snprintf(request, sizeof request, "{'path': '%s'}", path);
    struct room *room = room_with("demo:digits");
    json_t *reply = ask(room, "export", request);
    assert_non_null(reply);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(json_integer_value(json_object_get(reply, "bytes")), status.st_size);
    assert_null(json_object_get(reply, "note"));
    json_decref(reply);
    /* operations without modules: Keras itself could not read this file */
    expect_ok(room, "load", "{'path': 'tests/data/models/se_block.h5'}");
    reply = ask(room, "export", request);
    assert_null(json_object_get(reply, "note")); /* layers only */
    json_decref(reply);
    expect_ok(room, "load", "{'path': 'tests/data/models/hswish_v3.h5'}");
    reply = ask(room, "export", request);
    assert_non_null(strstr(json_string_value(json_object_get(reply, "note")), ".keras"));
    json_decref(reply);
    expect_ok(room, "unload", "{}");
    assert_null(ask(room, "export", request));
    assert_int_equal(room->error.code, ERROR_NO_MODEL);
    assert_null(ask(room, "export", "{}"));
    unlink(path);
    room_free(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_drawings_are_read),
        cmocka_unit_test(a_bad_picture_is_named),
        cmocka_unit_test(the_setting_scales_pictures),
        cmocka_unit_test(families_are_known_by_name),
        cmocka_unit_test(labels_are_lines),
        cmocka_unit_test(an_export_is_told),
        cmocka_unit_test(many_classes_get_five_and_a_note_once),
        cmocka_unit_test(nans_in_the_input_are_told),
        cmocka_unit_test(an_interrupt_is_the_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
