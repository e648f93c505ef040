/* Pictures in, classes out: what `predict` makes of drawings, families of models and class names. */
#include "engine/convert.h"
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

static void expect_error(struct room *room, enum error_code code, const char *verb,
                         const char *arguments)
{
    json_t *reply = ask(room, verb, arguments);
    if (reply != NULL || room->error.code != code)
        fail_msg("%s %s: code %d, %s", verb, arguments, room->error.code, room->error.why);
}

static struct room *room_new(void)
{
    struct room *room = xcalloc(1, sizeof *room);
    room->ports = (struct session_ports){room, no_progress, no_plan, &room->cancel};
    room->session = session_new(&room->hooks, &room->ports);
    setenv("LAYERTOP_DATA", "share/layertop", 1);
    return room;
}

static struct room *room_with(const char *model)
{
    struct room *room = room_new();
    char load[256];
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

/* ---- arrays ---- */

static void digits_are_recognised(void **state)
{
    (void)state;
    struct room *room = room_new();
    setenv("LAYERTOP_DATA", "share/layertop", 1);
    expect_ok(room, "configure", "{'settings': {'devices': ['cpu'], 'batch': 3, 'threads': 1}}");
    json_t *model = ask(room, "load", "{'path': 'demo:DIGITS'}");
    assert_string_equal(json_string_value(json_object_get(model, "file")), "demo:DIGITS");
    json_decref(model);
    json_t *reply = ask(room, "predict", "{'input': 'share/layertop/demo/digits', 'top': 2}");
    unsetenv("LAYERTOP_DATA");
    assert_true(json_integer_value(json_object_get(reply, "rows")) == 10);
    const json_t *predictions = json_object_get(reply, "predictions");
    for (size_t i = 0; i < 10; i++) {
        char name[32];
        const json_t *row = json_array_get(predictions, i);
        const json_t *best = json_array_get(json_object_get(row, "top"), 0);
        snprintf(name, sizeof name, "digit-%zu.png", i);
        assert_string_equal(json_string_value(json_object_get(row, "source")), name);
        assert_true(json_integer_value(json_object_get(best, "class")) == (json_int_t)i);
        assert_true(json_number_value(json_object_get(best, "probability")) > 0.5);
        assert_int_equal(atoi(json_string_value(json_object_get(best, "label"))), (int)i);
        assert_int_equal(json_array_size(json_object_get(row, "top")), 2);
    }
    json_decref(reply);
    room_free(room);
}

/* 100 rows in batches of 32: the last one is padded and cut. */
static void the_last_batch_is_cut(void **state)
{
    (void)state;
    struct room *room = room_with("share/layertop/demo/digits/digits.h5");
    char folder[] = "/tmp/layertop-test-XXXXXX", path[2][64], request[256];
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%d.npy", folder, i);
        expect_ok(room, "set",
                  i == 0 ? "{'key': 'batch', 'value': 32}" : "{'key': 'batch', 'value': 100}");
        snprintf(request, sizeof request,
                 "{'input': 'share/layertop/demo/digits/heldout_x.npy', 'output': '%s'}", path[i]);
        expect_ok(room, "predict", request);
    }
    struct npy_file *a = npy_open(path[0], NULL), *b = npy_open(path[1], NULL);
    struct npy_file *labels = npy_open("share/layertop/demo/digits/heldout_y.npy", NULL);
    assert_int_equal(npy_at(a, 0)->shape.dims[0], 100);
    assert_int_equal(npy_at(a, 0)->shape.dims[1], 10);
    const float *x = npy_at(a, 0)->data, *y = npy_at(b, 0)->data;
    int right = 0;
    for (size_t i = 0; i < 1000; i++)
        assert_true(fabsf(x[i] - y[i]) < 1e-5f);
    for (size_t i = 0; i < 100; i++) {
        size_t best = 0;
        for (size_t j = 1; j < 10; j++)
            best = x[i * 10 + j] > x[i * 10 + best] ? j : best;
        const unsigned char *label = (const unsigned char *)npy_at(labels, 0)->data +
                                     i * (size_t)(npy_at(labels, 0)->bytes / 100);
        right += best == label[0];
    }
    assert_true(right >= 97);
    npy_close(a);
    npy_close(b);
    npy_close(labels);
    unlink(path[0]);
    unlink(path[1]);
    rmdir(folder);
    expect_error(room, ERROR_FILE, "predict", "{'input': 'tests/absent.npy'}");
    expect_error(room, ERROR_INPUT, "predict", "{'input': 'tests/data/arrays/float32.npy'}");
    expect_error(room, ERROR_FILE, "predict",
                 "{'input': 'share/layertop/demo/digits/digit-1.png', 'output': '/no/x.npy'}");
    expect_ok(room, "run", "{'steps': 1, 'warmup': 0}");
    room_free(room);
}

/* The largest difference between the arrays of two files; fails if shapes or names differ. */
static double difference(const char *path_a, const char *path_b)
{
    struct error error;
    struct npy_file *a = npy_open(path_a, &error), *b = npy_open(path_b, &error);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(npy_count(a), npy_count(b));
    double worst = 0;
    for (size_t i = 0; i < npy_count(a); i++) {
        const struct npy_array *x = npy_at(a, i), *y = npy_find(b, x->name);
        assert_non_null(y);
        assert_true(shape_equal(&x->shape, &y->shape));
        for (size_t j = 0; j < x->bytes / 4; j++) {
            double one = convert_read((const char *)x->data + 4 * j, DTYPE_F32);
            double other = convert_read((const char *)y->data + 4 * j, DTYPE_F32);
            worst = fmax(worst, fabs(one - other));
        }
    }
    npy_close(a);
    npy_close(b);
    return worst;
}

/* tests/data/mixing was written by Keras: centred subtracts the batch's mean, which 5 rows in
 * batches of 3 must not be padded for; two has two inputs by name and two outputs. */
static void predictions_are_those_of_keras(void **state)
{
    (void)state;
    struct room *room = room_new();
    char out[64], request[256];
    expect_ok(room, "configure", "{'settings': {'devices': ['cpu'], 'batch': 3, 'threads': 1}}");
    expect_ok(room, "load", "{'path': 'tests/data/mixing/centred.keras'}");
    snprintf(out, sizeof out, "/tmp/layertop-test-%d.npy", (int)getpid());
    snprintf(request, sizeof request, "{'input': 'tests/data/mixing/x.npy', 'output': '%s'}", out);
    expect_ok(room, "predict", request);
    assert_true(difference("tests/data/mixing/y.npy", out) < 1e-6);
    unlink(out);
    expect_error(room, ERROR_VALUE, "predict",
                 "{'input': 'tests/data/mixing/x.npy', 'output': '/tmp/layertop-test.txt'}");
    expect_error(room, ERROR_FILE, "predict",
                 "{'input': 'tests/data/mixing/x.npy', 'output': '/nonexistent/out.npy'}");
    assert_string_equal(room->error.what, "/nonexistent/out.npy"); /* the name that was typed */
    expect_ok(room, "load", "{'path': 'tests/data/mixing/two.keras'}");
    snprintf(request, sizeof request, "{'input': 'tests/data/mixing/two_in.npz', 'output': '%s'}",
             out);
    expect_error(room, ERROR_VALUE, "predict", request); /* two outputs in one .npy */
    snprintf(out, sizeof out, "/tmp/layertop-test-%d.npz", (int)getpid());
    snprintf(request, sizeof request, "{'input': 'tests/data/mixing/two_in.npz', 'output': '%s'}",
             out);
    expect_ok(room, "predict", request);
    assert_true(difference("tests/data/mixing/two_out.npz", out) < 1e-6);
    unlink(out);
    expect_error(room, ERROR_INPUT, "predict", "{'input': 'tests/data/mixing/x.npy'}");
    room_free(room);
}

/* A graph that mixes the samples of a batch need not mix when there is one alone: 3 rows in batches
 * of 2 once wrote the third behind the memory of the first two. */
static void last_row_alone(void **state)
{
    (void)state;
    struct room *room = room_new();
    char out[64], request[256];
    expect_ok(room, "configure", "{'settings': {'devices': ['cpu'], 'batch': 2, 'threads': 1}}");
    expect_ok(room, "load", "{'path': 'tests/data/models/int4_inputs.keras'}");
    snprintf(out, sizeof out, "/tmp/layertop-test-%d.npy", (int)getpid());
    snprintf(request, sizeof request,
             "{'input': 'tests/data/mixing/rounded_x.npy', 'output': '%s'}", out);
    for (int i = 0; i < 20; i++) { /* it went well most of the time */
        expect_ok(room, "predict", request);
        assert_true(difference("tests/data/mixing/rounded_y.npy", out) < 1e-6);
    }
    unlink(out);
    room_free(room);
}

static void integers_stay_integers(void **state)
{
    (void)state;
    struct room *room = room_new();
    char out[64], request[256], header[128] = "";
    expect_ok(room, "configure", "{'settings': {'devices': ['cpu'], 'batch': 2, 'threads': 1}}");
    expect_ok(room, "load", "{'path': 'tests/data/models/discret.h5'}");
    snprintf(out, sizeof out, "/tmp/layertop-test-%d.npy", (int)getpid());
    snprintf(request, sizeof request,
             "{'input': 'tests/data/arrays/discret_x.npy', 'output': '%s'}", out);
    json_t *reply = ask(room, "predict", request);
    json_t *first = json_array_get(json_object_get(reply, "outputs"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "dtype")), "int32");
    assert_true(difference("tests/data/arrays/discret_y.npy", out) < 1e-6);
    FILE *file = fopen(out, "rb");
    assert_non_null(file);
    assert_int_equal(fread(header, 1, sizeof header - 1, file), sizeof header - 1);
    fclose(file);
    assert_non_null(strstr(header + 10, "'<i4'"));
    json_decref(reply);
    unlink(out);
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
        cmocka_unit_test(digits_are_recognised),
        cmocka_unit_test(the_last_batch_is_cut),
        cmocka_unit_test(predictions_are_those_of_keras),
        cmocka_unit_test(last_row_alone),
        cmocka_unit_test(integers_stay_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
