/* calibrate: the model's values on real inputs, in float32, so that int8 knows how far they reach.
 *
 * What was seen is remembered row by row: an accuracy that is measured on rows of the calibration
 * would flatter. */
#include "engine/session_private.h"

#include "engine/calibration.h"
#include "engine/clock.h"
#include "engine/demo.h"
#include "engine/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_DEFAULT 128 /* ranges hardly move beyond a hundred; NVIDIA's recipe takes 500 */
#define ROWS_MOST    100000
#define BATCH_MOST   32 /* rows that are computed at once */

struct calibration {
    struct value_range *ranges; /* of the values of the graph */
    size_t count;
    bool fusion; /* of which graph */
    enum calibration_method method;
    uint64_t *rows; /* what was seen, sorted */
    size_t row_count;
};

void session_forget_calibration(struct calibration *calibration)
{
    if (calibration == NULL)
        return;
    free(calibration->ranges);
    free(calibration->rows);
    free(calibration);
}

void session_give_ranges(const struct session *session, bool fusion, struct plan_options *options)
{
    const struct calibration *calibration = session->calibration;
    if (calibration == NULL || calibration->fusion != fusion)
        return;
    options->ranges = calibration->ranges;
    options->range_count = calibration->count;
}

/* ---- rows that were seen ---- */

uint64_t session_row_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (; bytes > 0;) { /* eight bytes at a time, as splitmix64 stirs them */
        uint64_t word = 0;
        size_t taken = bytes < sizeof word ? bytes : sizeof word;
        memcpy(&word, at, taken);
        hash = (hash ^ word) * UINT64_C(0xbf58476d1ce4e5b9);
        hash ^= hash >> 31;
        at += taken;
        bytes -= taken;
    }
    return hash;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

bool session_calibrated_on(const struct session *session, uint64_t hash)
{
    const struct calibration *calibration = session->calibration;
    return calibration != NULL && calibration->row_count > 0 &&
           bsearch(&hash, calibration->rows, calibration->row_count, sizeof hash, by_number) !=
               NULL;
}

/* ---- the run ---- */

struct calibrating {
    struct session *session;
    struct slot slot; /* a CPU of its own */
    struct graph *graph;
    struct input *input; /* NULL: random */
    struct magnitudes *values;
    struct calibration *out;
    size_t rows;
};

static void on_value(void *context, int value, const float *data, size_t elements)
{
    struct calibrating *c = context;
    magnitudes_add(&c->values[value], data, elements);
}

/* Rows [first, first + count) of the data; what is missing of a batch repeats them, which widens no
 * range. */
static bool give_rows(struct calibrating *c, size_t first, size_t count, struct error *error)
{
    const struct graph *graph = c->graph;
    size_t batch = (size_t)graph->batch;
    struct settings random = c->session->settings;
    uint64_t *hashes = c->out->rows + first;
    random.input[0] = '\0';
    random.seed += first;
    if (c->input == NULL && !session_fill_inputs(c->session, &random, graph, &c->slot, 1, error))
        return false;
    for (size_t j = 0; j < count; j++)
        hashes[j] = 0;
    for (size_t i = 0; i < graph->input_count; i++) {
        char *in = c->slot.backend->plan_input(c->slot.plan, i);
        size_t row = session_value_bytes(graph, graph->inputs[i]) / batch;
        if (c->input != NULL && !input_read(c->input, i, first, count, in, error))
            return false;
        for (size_t j = 0; j < count; j++)
            hashes[j] = session_row_hash(hashes[j], in + j * row, row);
        for (size_t j = count; j < batch; j++)
            memcpy(in + j * row, in + j % count * row, row);
    }
    return true;
}

static bool run_rows(struct calibrating *c, struct error *error)
{
    struct session *session = c->session;
    struct step_context step = {.cancel = session->ports->cancel, .value = on_value, .context = c};
    size_t batch = (size_t)c->graph->batch;
    for (size_t first = 0; first < c->rows; first += batch) {
        size_t count = c->rows - first < batch ? c->rows - first : batch;
        char text[64];
        if (!give_rows(c, first, count, error) ||
            !c->slot.backend->plan_run(c->slot.plan, &step, error))
            return false;
        snprintf(text, sizeof text, "calibrating: row %zu of %zu", first + count, c->rows);
        session_breathe(session, (double)(first + count) / (double)c->rows, text);
        if (session_cancelled(session))
            return error_set(error, ERROR_INTERRUPTED, "calibrate", "stopped after %zu of %zu rows",
                             first + count, c->rows);
    }
    return true;
}

static bool make_plan(struct calibrating *c, struct error *error)
{
    struct session *session = c->session;
    struct device_options device = {.threads = session->settings.threads, .growth = true};
    static const struct observer nobody = {0};
    int64_t batch = c->rows < BATCH_MOST ? (int64_t)c->rows : BATCH_MOST;
    struct graph_options lowering = {.batch = batch, .fusion = session->settings.fusion};
    struct plan_options options = {.precision = PRECISION_FP32};
    c->slot = (struct slot){.id = "cpu", .backend = &backend_cpu, .samples = batch};
    c->graph = graph_lower(session->model, &lowering, session->pool, error);
    if (c->graph == NULL)
        return false;
    c->slot.device = backend_cpu.device_open(&device, &nobody, error);
    if (c->slot.device == NULL)
        return false;
    c->slot.plan = backend_cpu.plan_new(c->slot.device, c->graph, &options, error);
    return c->slot.plan != NULL;
}

static void calibrating_free(struct calibrating *c)
{
    if (c->slot.plan != NULL)
        backend_cpu.plan_free(c->slot.plan);
    if (c->slot.device != NULL)
        backend_cpu.device_close(c->slot.device);
    if (c->graph != NULL)
        graph_free(c->graph);
    if (c->input != NULL)
        input_free(c->input);
    free(c->values);
    session_forget_calibration(c->out);
}

/* The ranges of everything, in place of those before. */
static size_t keep_ranges(struct calibrating *c, enum calibration_method method)
{
    struct calibration *out = c->out;
    size_t seen = 0;
    out->count = c->graph->value_count;
    out->ranges = xcalloc(out->count + 1, sizeof *out->ranges);
    for (size_t i = 0; i < out->count; i++) {
        out->ranges[i] = magnitudes_range(&c->values[i], method);
        seen += out->ranges[i].seen;
    }
    out->fusion = c->session->settings.fusion;
    out->method = method;
    out->row_count = c->rows;
    qsort(out->rows, out->row_count, sizeof *out->rows, by_number);
    session_forget_calibration(c->session->calibration);
    c->session->calibration = out;
    c->out = NULL;
    return seen;
}

/* ---- the request ---- */

/* The file to calibrate on: the one given, that of `input`, or what comes with the demo model. NULL
 * is random data, or an error. Caller frees. */
static char *find_data(const struct session *session, const json_t *arguments, bool random,
                       struct error *error)
{
    const char *given = json_string_value(json_object_get(arguments, "input"));
    if (random && given == NULL)
        return NULL;
    if (random) {
        error_set(error, ERROR_SYNTAX, "calibrate", "a file and --random: which of them?");
        error_hint(error, "calibrate FILE");
        return NULL;
    }
    if (given != NULL && given[0] != '\0')
        return xstrdup(given);
    if (session->settings.input[0] != '\0')
        return xstrdup(session->settings.input);
    char *own = demo_calibration_path(session->model_path);
    if (own == NULL) {
        error_set(error, ERROR_INPUT, "calibrate",
                  "no data: how far the values reach is seen on inputs like those that the model "
                  "will get; --random takes random ones, which tell nothing about accuracy");
        error_hint(error, "calibrate FILE.npy");
    }
    return own;
}

static bool read_arguments(const json_t *arguments, int64_t *rows, enum calibration_method *method,
                           struct error *error)
{
    const json_t *wanted = json_object_get(arguments, "rows");
    const char *name = json_string_value(json_object_get(arguments, "method"));
    *rows = wanted != NULL ? json_integer_value(wanted) : ROWS_DEFAULT;
    *method = CALIBRATION_PERCENTILE;
    if (*rows < 1 || *rows > ROWS_MOST)
        return error_set(error, ERROR_VALUE, "calibrate", "rows are 1..%d", ROWS_MOST);
    if (name != NULL && !calibration_method_parse(name, method)) {
        error_set(error, ERROR_VALUE, "calibrate", "'%.40s' is none of minmax, percentile, entropy",
                  name);
        return error_hint(error, "calibrate --method percentile");
    }
    return true;
}

/* An int8 plan that is there follows the new ranges. */
static bool follow(struct session *session, struct error *error)
{
    struct settings same = session->settings;
    return same.precision != PRECISION_INT8 || session_apply(session, &same, error);
}

static json_t *calibrate(struct calibrating *c, const char *path, int64_t rows,
                         enum calibration_method method, struct error *error)
{
    struct session *session = c->session;
    int64_t start_ns = clock_now_ns();
    size_t all = (size_t)rows;
    if (path != NULL) {
        c->input = session_open_input(session, &session->settings, session->graph, path, error);
        if (c->input == NULL)
            return NULL;
        all = input_rows(c->input);
    }
    c->rows = (size_t)rows < all ? (size_t)rows : all;
    c->values = calloc(session->graph->value_count + 1, sizeof *c->values);
    c->out = xcalloc(1, sizeof *c->out);
    c->out->rows = xcalloc(c->rows + BATCH_MOST, sizeof *c->out->rows);
    if (c->values == NULL) {
        error_set(error, ERROR_MEMORY, "calibrate", "no memory for the ranges of %zu values",
                  session->graph->value_count);
        return NULL;
    }
    if (!make_plan(c, error) || !run_rows(c, error))
        return NULL;
    size_t seen = keep_ranges(c, method);
    if (!follow(session, error))
        return NULL;
    if (path == NULL)
        session_note(session, "calibrated on random inputs: the ranges are those of random "
                              "inputs, and accuracy on real ones is not known");
    return json_pack("{s:s, s:b, s:I, s:I, s:s, s:I, s:f}", "source",
                     path != NULL ? path : "random", "random", (int)(path == NULL), "rows",
                     (json_int_t)c->rows, "rows_in_source", (json_int_t)all, "method",
                     calibration_method_name(method), "values", (json_int_t)seen, "calibrate_ms",
                     (double)(clock_now_ns() - start_ns) / 1e6);
}

json_t *session_do_calibrate(struct session *session, const json_t *arguments, struct error *error)
{
    int64_t rows;
    enum calibration_method method;
    bool random = json_is_true(json_object_get(arguments, "random"));
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "calibrate", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    if (!read_arguments(arguments, &rows, &method, error))
        return NULL;
    char *path = find_data(session, arguments, random, error);
    if (path == NULL && (!random || json_object_get(arguments, "input") != NULL))
        return NULL;
    struct calibrating c = {.session = session};
    json_t *reply = calibrate(&c, path, rows, method, error);
    calibrating_free(&c);
    free(path);
    return reply;
}

bool session_check_precision(const struct session *session, const struct settings *settings,
                             struct error *error)
{
    if (settings->precision != PRECISION_INT8)
        return true;
    if (session->model == NULL) {
        error_set(error, ERROR_NO_MODEL, "precision int8",
                  "the ranges of a model's values have to be known first, and no model is loaded");
        return error_hint(error, "load demo:digits; calibrate; precision int8");
    }
    const struct calibration *calibration = session->calibration;
    if (calibration != NULL && calibration->fusion == settings->fusion)
        return true;
    char *own = demo_calibration_path(session->model_path);
    bool data = own != NULL || session->settings.input[0] != '\0';
    free(own);
    if (calibration != NULL)
        error_set(error, ERROR_VALUE, "precision int8",
                  "the calibration is of the graph with fusion %s, which has other values",
                  calibration->fusion ? "on" : "off");
    else
        error_set(error, ERROR_VALUE, "precision int8",
                  "how far this model's values reach is not known: a calibration on inputs like "
                  "those that it will get finds out");
    return error_hint(error, data ? "calibrate" : "calibrate FILE.npy");
}
