#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/demo.h"
#include "engine/labels.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void session_note(struct session *session, const char *format, ...)
{
    if (session->note[0] != '\0')
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(session->note, sizeof session->note, format, arguments);
    va_end(arguments);
}

bool session_cancelled(const struct session *session)
{
    return session->ports->cancel != NULL && atomic_load(session->ports->cancel);
}

void session_breathe(struct session *session, double fraction, const char *text)
{
    int64_t now_ns = clock_now_ns();
    if (now_ns - session->tick_ns >= 100000000) {
        session->tick_ns = now_ns;
        if (session->hooks->tick != NULL)
            session->hooks->tick(session->hooks->context);
    }
    if (now_ns - session->progress_ns >= 100000000) {
        session->progress_ns = now_ns;
        session->ports->progress(session->ports->context, session->request, fraction, text);
    }
}

void session_listen(struct session *session)
{
    if (session->hooks->observer != NULL)
        session->tap = *session->hooks->observer;
    /* the session stamps steps itself: one clock reading for the listener and for the reply */
    session->tap.step_begin = NULL;
    session->tap.step_end = NULL;
}

struct session *session_new(const struct worker_hooks *hooks, const struct session_ports *ports)
{
    struct session *session = xcalloc(1, sizeof *session);
    session->hooks = hooks;
    session->ports = ports;
    settings_init(&session->settings);
    session_listen(session);
    const char *sleep_ms = getenv("LAYERTOP_TEST_STEP_SLEEP");
    session->test_sleep_ms = sleep_ms != NULL ? atoi(sleep_ms) : 0;
    session->baseline_bytes = session->before_bytes = session_resident_bytes();
    return session;
}

void session_free(struct session *session)
{
    if (session == NULL)
        return;
    session_drop_model(session);
    session_close_devices(session);
    session_free_answers(session->answers);
    json_decref(session->ceilings);
    json_decref(session->oom);
    json_decref(session->proofs);
    free(session);
}

bool session_open(const struct session *session)
{
    return session->slot_count > 0;
}

void session_replied(struct session *session)
{
    session->plan_held = false;
    if (!session->plan_waiting)
        return;
    session->plan_waiting = false;
    if (session->plan_json != NULL)
        session->ports->plan(session->ports->context, session->plan_json);
}

static bool needs_model(const struct session *session, const char *verb, struct error *error)
{
    if (session->plan_json != NULL)
        return true;
    error_set(error, ERROR_NO_MODEL, verb, "no model is loaded");
    return error_hint(error, "load demo:digits");
}

/* The note collected while the request ran, into its reply. */
static json_t *with_note(struct session *session, json_t *reply)
{
    if (reply != NULL && session->note[0] != '\0')
        json_object_set_new(reply, "note", json_string(session->note));
    return reply;
}

/* ---- configure, set ---- */

/* The settings that profiler/ owns go to its hook. */
static bool is_profiler_setting(const char *key)
{
    return strcmp(key, "profile") == 0 || strcmp(key, "raw") == 0;
}

static bool configure_profiler(struct session *session, const char *key, const json_t *value,
                               bool *restart, struct error *error)
{
    const struct worker_hooks *hooks = session->hooks;
    *restart = false;
    return hooks->configure == NULL || hooks->configure(hooks->context, key, value, restart, error);
}

static json_t *do_configure(struct session *session, const json_t *arguments, struct error *error)
{
    struct settings next = session->settings;
    const char *key;
    json_t *value, *all = json_object_get(arguments, "settings");
    bool restart;
    json_object_foreach(all, key, value)
    {
        bool good = is_profiler_setting(key)
                        ? configure_profiler(session, key, value, &restart, error)
                        : settings_set(&next, key, value, error);
        if (!good)
            return NULL;
    }
    char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES];
    size_t count = 0;
    if (session->model != NULL) {
        error_set(error, ERROR_COMMAND, "configure", "a model is loaded already");
        return NULL;
    }
    if (!session_resolve(session, &next, ids, &count, error) ||
        !session_check_precision(session, &next, error))
        return NULL;
    session->settings = next;
    json_t *devices = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(devices, json_string(ids[i]));
    return json_pack("{s:o}", "devices", devices);
}

/* Does going from the present settings to `next` need a process without a CUDA context? */
static bool needs_restart(const struct session *session, const struct settings *next)
{
    const struct settings *now = &session->settings;
    return session_has_gpu(session) &&
           (now->growth != next->growth || now->limit_bytes != next->limit_bytes ||
            now->limit_share != next->limit_share || now->logical_count != next->logical_count ||
            now->logical_bytes != next->logical_bytes || now->device_count != next->device_count ||
            memcmp(now->devices, next->devices, sizeof now->devices) != 0);
}

/* A new fence below what the present plan holds would only fail after the restart. One that stands
 * refuses nothing here: the way from a plan that just fits to a smaller one is open. */
static bool check_limit(const struct session *session, const struct settings *next,
                        struct error *error)
{
    if (next->limit_bytes == 0 || next->limit_bytes == session->settings.limit_bytes ||
        session->plan_json == NULL)
        return true;
    uint64_t planned = session_planned_bytes(session, &session->slots[0]);
    if (planned <= next->limit_bytes)
        return true;
    error_set(error, ERROR_MEMORY_LIMIT, "set limit",
              "the present plan holds %.1f MiB, the limit would be %.1f MiB",
              (double)planned / 1048576, (double)next->limit_bytes / 1048576);
    return error_hint(error, "batch %lld", (long long)(next->batch > 1 ? next->batch / 2 : 1));
}

static bool only_for_gpus(const char *key)
{
    static const char *const keys[] = {"growth",   "graph",  "fallback",
                                       "autotune", "layout", "host_memory"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(key, keys[i]) == 0)
            return true;
    }
    return false;
}

/* A setting of the CPU's where only a GPU runs. */
static bool only_for_cpus(const struct session *session, const char *key)
{
    return strcmp(key, "slice") == 0 && session->slot_count == 1 && session_has_gpu(session);
}

/* How classes are called and how devices take turns: no plan depends on them. */
static bool only_for_predict(const char *key)
{
    return strcmp(key, "labels") == 0 || strcmp(key, "compare") == 0;
}

/* What pictures become. The first two also change an input that was made ready before the steps. */
static bool of_pipeline(const struct settings *settings, const char *key)
{
    if (strcmp(key, "preprocess") == 0 || strcmp(key, "interpolation") == 0)
        return settings->input[0] == '\0';
    return strcmp(key, "pipeline") == 0 || strcmp(key, "mapping") == 0 ||
           strcmp(key, "parallel_calls") == 0 || strcmp(key, "picture") == 0 ||
           strcmp(key, "preprocess_on") == 0;
}

/* A file of class names is read once, when it is named, so that a wrong one is told at once. */
static bool check_labels(const struct settings *settings, struct error *error)
{
    struct labels labels = {0};
    bool good = settings->labels[0] == '\0' || labels_read(settings->labels, &labels, error);
    labels_free(&labels);
    return good;
}

static json_t *set_reply(bool replanned, int64_t start_ns, bool restart)
{
    return json_pack("{s:b, s:f, s:b}", "replanned", (int)replanned, "cost_ms",
                     (double)(clock_now_ns() - start_ns) / 1e6, "restart", (int)restart);
}

/* `profile` may change who times the ops, and with it whether plans carry events. */
static json_t *set_profiler(struct session *session, const char *key, const json_t *value,
                            struct error *error)
{
    int64_t start_ns = clock_now_ns();
    bool restart = false, replanned = false;
    if (!configure_profiler(session, key, value, &restart, error))
        return NULL;
    if (!restart && session->plan_json != NULL && strcmp(key, "profile") == 0) {
        struct settings same = session->settings;
        replanned = true;
        if (!session_apply(session, &same, error))
            return NULL;
    }
    return set_reply(replanned, start_ns, restart);
}

static json_t *do_set(struct session *session, const json_t *arguments, struct error *error)
{
    const char *key = json_string_value(json_object_get(arguments, "key"));
    const json_t *value = json_object_get(arguments, "value");
    if (key == NULL || value == NULL) {
        error_set(error, ERROR_SYNTAX, "set", "needs a setting and a value");
        return NULL;
    }
    if (is_profiler_setting(key))
        return set_profiler(session, key, value, error);
    int64_t start_ns = clock_now_ns();
    struct settings next = session->settings;
    char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES];
    size_t count;
    if (!settings_set(&next, key, value, error) || !check_limit(session, &next, error))
        return NULL;
    if (strcmp(key, "labels") == 0 && !check_labels(&next, error))
        return NULL;
    if (memcmp(&next, &session->settings, sizeof next) == 0)
        return set_reply(false, start_ns, false);
    if (of_pipeline(&next, key)) {
        if (!session_set_pipeline(session, &next, error))
            return NULL;
        if (next.pipeline == PIPELINE_OFF && strcmp(key, "pipeline") != 0 && session->model != NULL)
            session_note(session, "%s is stored: it takes effect with `pipeline serial`", key);
        return set_reply(false, start_ns, false);
    }
    if (only_for_predict(key)) {
        session->settings = next;
        return set_reply(false, start_ns, false);
    }
    if (needs_restart(session, &next)) {
        if (!session_resolve(session, &next, ids, &count, error))
            return NULL;
        return set_reply(false, start_ns, true);
    }
    bool had_model = session->model != NULL;
    /* growth and graph mean nothing to the CPU, and slice nothing to a GPU: no plan is spent */
    bool idle = only_for_gpus(key) ? !session_has_gpu(session) : only_for_cpus(session, key);
    if (idle) {
        session->settings = next;
        if (had_model)
            session_note(session, "%s is stored: it takes effect on %s", key,
                         only_for_gpus(key) ? "a GPU" : "the CPU");
        return set_reply(false, start_ns, false);
    }
    session->force = json_is_true(json_object_get(arguments, "force"));
    bool applied = session_apply(session, &next, error);
    session->force = false;
    if (!applied && error->code == ERROR_INTERRUPTED)
        error_set(error, ERROR_INTERRUPTED, key,
                  "stopped while it was planned; the value before "
                  "stays");
    return applied ? set_reply(had_model, start_ns, false) : NULL;
}

/* ---- load, unload, devices, start, stop ---- */

static bool parse_shape(const json_t *list, struct shape *shape, struct error *error)
{
    if (!json_is_array(list) || json_array_size(list) > TENSOR_RANK_MAX)
        return error_set(error, ERROR_VALUE, "shape", "it is a list of at most %d sizes",
                         TENSOR_RANK_MAX);
    shape->rank = (int)json_array_size(list);
    for (int i = 0; i < shape->rank; i++) {
        const json_t *dim = json_array_get(list, (size_t)i);
        bool open = json_is_null(dim) || json_integer_value(dim) == DIM_UNKNOWN;
        if (!open && (!json_is_integer(dim) || json_integer_value(dim) < 1))
            return error_set(error, ERROR_VALUE, "shape", "a size is an integer above 0");
        shape->dims[i] = open ? DIM_UNKNOWN : json_integer_value(dim);
    }
    return true;
}

/* A model's outputs get their shapes by lowering; without the batch's own size, as Keras tells them. */
static void describe_output_shapes(const struct session *session, json_t *outputs)
{
    const struct graph *graph = session->graph;
    for (size_t i = 0; graph != NULL && i < graph->output_count; i++) {
        const struct shape *shape = &graph->values[graph->outputs[i]].shape;
        json_t *dims = json_array();
        for (int d = 0; d < shape->rank; d++)
            json_array_append_new(dims, d == 0 && shape->dims[0] == graph->batch
                                            ? json_null()
                                            : json_integer((json_int_t)shape->dims[d]));
        json_object_set_new(json_array_get(outputs, i), "shape", dims);
    }
}

/* Ctrl-C while a model was read or planned. */
static json_t *stopped_load(const struct session *session, struct error *error)
{
    if (session->model != NULL)
        error_set(error, ERROR_INTERRUPTED, "load", "stopped; %.100s stays loaded",
                  session->model->name);
    else
        error_set(error, ERROR_INTERRUPTED, "load", "stopped; no model is loaded");
    return NULL;
}

static json_t *do_load(struct session *session, const json_t *arguments, struct error *error)
{
    int64_t start_ns = clock_now_ns();
    const char *path = json_string_value(json_object_get(arguments, "path"));
    const json_t *dims = json_object_get(arguments, "shape");
    struct shape shape;
    struct model_options options = {.weights =
                                        json_string_value(json_object_get(arguments, "weights"))};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    options.unconfined = true; /* the filter does not know the sanitizers' own system calls */
#endif
    if (path == NULL || path[0] == '\0') {
        error_set(error, ERROR_VALUE, "load", "needs a file");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    if (session->settings.precision == PRECISION_INT8) { /* before a large file is read */
        error_set(
            error, ERROR_VALUE, "load",
            "precision is int8, and a calibration goes with its model: the next one begins in "
            "another precision");
        error_hint(error, "precision fp32; load %s", path);
        return NULL;
    }
    options.cancel = session->ports->cancel;
    options.map = json_object_get(arguments, "map");
    options.outputs = json_object_get(arguments, "outputs");
    if (dims != NULL && !json_is_null(dims)) {
        if (!parse_shape(dims, &shape, error))
            return NULL;
        options.shape = &shape;
    }
    options.recipe = demo_is_name(path);
    char *file = demo_resolve(path, error);
    if (file == NULL)
        return NULL;
    session_breathe(session, NAN, "reading the model");
    session->before_bytes = session_resident_bytes();
    bool was_live = session->live;
    phases_begin(&session->phases, PHASE_READ);
    struct model *model = model_load(file, &options, error);
    phases_end(&session->phases);
    free(file);
    if (model == NULL)
        return error->code == ERROR_INTERRUPTED ? stopped_load(session, error) : NULL;
    if (session_cancelled(session)) { /* what follows takes longest; the model before stays */
        model_free(model);
        return stopped_load(session, error);
    }
    session->plan_held = true; /* the front wants the model before its plan */
    if (!session_adopt(session, model, path, error))
        return error->code == ERROR_INTERRUPTED ? stopped_load(session, error) : NULL;
    session->live = was_live;
    session->told_labels = false;
    json_t *reply = model_describe(session->model);
    describe_output_shapes(session, json_object_get(reply, "outputs"));
    if (demo_is_name(path)) {
        json_object_set_new(reply, "file", json_string(path));
        json_object_set_new(reply, "format", json_string("demo"));
    }
    json_object_set_new(reply, "load_ms", json_real((double)(clock_now_ns() - start_ns) / 1e6));
    return reply;
}

static json_t *do_demos(struct session *session, const json_t *arguments, struct error *error)
{
    (void)session;
    (void)arguments;
    json_t *models = demo_list(error);
    return models != NULL ? json_pack("{s:o}", "models", models) : NULL;
}

static json_t *do_unload(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    if (!needs_model(session, "unload", error))
        return NULL;
    session_drop_model(session);
    return json_object();
}

static json_t *do_devices(struct session *session, const json_t *arguments, struct error *error)
{
    (void)error;
    json_t *list = session_list_devices(session), *device;
    if (json_is_true(json_object_get(arguments, "quiet")))
        session->note[0] = '\0';
    size_t index;
    json_array_foreach(list, index, device)
    {
        const char *id = json_string_value(json_object_get(device, "id"));
        json_object_set_new(device, "proof", session_proof_of(session, id != NULL ? id : ""));
    }
    return json_pack("{s:o}", "devices", list);
}

static json_t *do_start(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    if (!needs_model(session, "start", error))
        return NULL;
    session->live = true;
    session->slice_start_ns = clock_now_ns();
    return json_object();
}

static json_t *do_stop(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    (void)error;
    session->live = false;
    if (session->hooks->flush != NULL && session->plan_json != NULL)
        session->hooks->flush(session->hooks->context);
    return json_object();
}

/* Milliseconds of each part of making ready, since the process began. */
static json_t *do_phases(struct session *session, const json_t *arguments, struct error *error)
{
    static const char *const names[] = {
#define PHASE_NAME(name, key, text) [name] = key "_ms",
        PHASES(PHASE_NAME)
#undef PHASE_NAME
    };
    (void)arguments;
    (void)error;
    json_t *reply = json_object();
    for (int i = 0; i < PHASE_COUNT; i++)
        json_object_set_new(reply, names[i], json_real((double)session->phases.spent_ns[i] / 1e6));
    return reply;
}

/* The front keeps the journal itself; what reaches here is the GPU's part of it. */
static json_t *do_record(struct session *session, const json_t *arguments, struct error *error)
{
    bool restart;
    json_t *raw = json_object_get(arguments, "raw");
    if (!configure_profiler(session, "raw", raw != NULL ? raw : json_null(), &restart, error))
        return NULL;
    return json_object();
}

/* ---- dispatch ---- */

static const struct verb {
    const char *name;
    json_t *(*execute)(struct session *session, const json_t *arguments, struct error *error);
} verbs[] = {
    {"configure", do_configure},
    {"set", do_set},
    {"load", do_load},
    {"demos", do_demos},
    {"unload", do_unload},
    {"plan", session_do_plan},
    {"devices", do_devices},
    {"proof", session_do_proof},
    {"agree", session_do_agree},
    {"ceilings", session_do_ceilings},
    {"nosync", session_do_nosync},
    {"phases", do_phases},
    {"probe", session_do_probe},
    {"run", session_do_run},
    {"start", do_start},
    {"stop", do_stop},
    {"predict", session_do_predict},
    {"calibrate", session_do_calibrate},
    {"evaluate", session_do_evaluate},
    {"sparsity", session_do_sparsity},
    {"memory", session_do_memory},
    {"trim", session_do_trim},
    {"largest", session_do_largest},
    {"oom", session_do_oom},
    {"record", do_record},
    {"export", session_do_export},
};

json_t *session_execute(struct session *session, uint64_t id, const char *verb,
                        const json_t *arguments, struct error *error)
{
    session->request = id;
    session->progress_ns = clock_now_ns();
    session->note[0] = '\0';
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, verb) != 0)
            continue;
        json_t *reply = with_note(session, verbs[i].execute(session, arguments, error));
        session->request = 0;
        return reply;
    }
    error_set(error, ERROR_UNKNOWN_COMMAND, verb, "the engine has no such request");
    return NULL;
}
