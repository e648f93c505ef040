/* The workbench's link to its worker: requests and their replies, the start of a worker, its
 * replacement when a setting asks for one, and its death. */
#include "commands/workbench_private.h"

#include "commands/format.h"
#include "engine/journal.h"
#include "profiler/recording.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CANCEL_AGAIN_NS INT64_C(1000000000)

static bool connect_worker(struct workbench *workbench, bool reload, struct error *error);
static workbench_reply on_resumed;

/* ---- requests ---- */

static uint64_t submit(struct workbench *workbench, const char *verb, json_t *arguments,
                       workbench_reply *reply, void *context)
{
    workbench->pending =
        xrealloc(workbench->pending, (workbench->pending_count + 1) * sizeof *workbench->pending);
    struct pending *pending = &workbench->pending[workbench->pending_count++];
    *pending = (struct pending){.id = engine_submit(workbench->engine, verb, arguments),
                                .reply = reply,
                                .context = context};
    snprintf(pending->verb, sizeof pending->verb, "%s", verb);
    return workbench->last_id = pending->id;
}

static bool take_pending(struct workbench *workbench, uint64_t id, struct pending *out)
{
    for (size_t i = 0; i < workbench->pending_count; i++) {
        if (workbench->pending[i].id != id)
            continue;
        *out = workbench->pending[i];
        workbench->pending_count--;
        memmove(&workbench->pending[i], &workbench->pending[i + 1],
                (workbench->pending_count - i) * sizeof *workbench->pending);
        return true;
    }
    return false;
}

uint64_t workbench_request(struct workbench *workbench, const char *verb, json_t *arguments,
                           workbench_reply *reply, void *context)
{
    struct error error = {0};
    bool fresh = workbench->engine == NULL;
    bool replaces_model = strcmp(verb, "load") == 0 || strcmp(verb, "unload") == 0;
    if (!workbench->engine && !connect_worker(workbench, !replaces_model, &error)) {
        json_decref(arguments);
        reply(workbench, context, NULL, &error);
        return ++workbench->last_id;
    }
    bool resume = fresh && workbench->live && strcmp(verb, "load") == 0;
    uint64_t id = submit(workbench, verb, arguments, reply, context);
    /* a worker that was live goes on after a `load`; its successor has to be told */
    if (resume)
        submit(workbench, "start", NULL, on_resumed, NULL);
    return id;
}

void workbench_cancel(struct workbench *workbench)
{
    int64_t now_ns = workbench_now_ns(workbench);
    /* the worker does not react: the second time within a second it has to go */
    if (workbench->engine && workbench->cancel_ns &&
        now_ns - workbench->cancel_ns < CANCEL_AGAIN_NS)
        error_set(&workbench->connect_error, ERROR_INTERRUPTED, "worker", "killed");
    workbench->cancel_ns = now_ns;
    for (size_t i = 0; workbench->engine && i < workbench->pending_count; i++)
        engine_cancel(workbench->engine, workbench->pending[i].id);
}

/* ---- the worker's life ---- */

static void finish_change(struct workbench *workbench, const struct error *error);

static void connect_failed(struct workbench *workbench, const struct error *error)
{
    /* Interrupted is the user's wish, and the worker's own death has been told already. */
    if (workbench->connect_error.code == ERROR_NONE)
        workbench->connect_error = *error;
}

/* What a worker has to say about the devices it found; each worker says it again. */
static void tell_note(struct workbench *workbench, const char *note)
{
    if (!note || strncmp(note, workbench->note, sizeof workbench->note - 1) == 0)
        return;
    snprintf(workbench->note, sizeof workbench->note, "%s", note);
    if (workbench->current)
        execution_warn(workbench->current, "%s", note);
}

/* What the profiler has to say: why it times otherwise than was asked, for one. */
static void tell_record_note(struct workbench *workbench)
{
    const char *note = store_note(workbench->store);
    size_t size = sizeof workbench->record_note;
    if (!note[0] || strncmp(note, workbench->record_note, size - 1) == 0)
        return;
    snprintf(workbench->record_note, size, "%s", note);
    char text[512];
    text_clean(text, sizeof text, note);
    if (workbench->current)
        execution_warn(workbench->current, "%s", text);
    else if (workbench->sink)
        workbench->sink->line(workbench->sink->context, SINK_NOTE, text);
}

static void on_configured(struct workbench *workbench, void *context, const json_t *data,
                          const struct error *error)
{
    (void)context;
    struct error cause;
    if (!data) {
        cause = *error;
        if (cause.code == ERROR_WORKER) /* "configure" is no word of the user's */
            snprintf(cause.what, sizeof cause.what, "worker");
        connect_failed(workbench, &cause);
        return;
    }
    workbench->configured_ns = workbench_now_ns(workbench);
    json_decref(workbench->devices);
    workbench->devices = json_incref(json_object_get(data, "devices"));
    tell_note(workbench, json_string_value(json_object_get(data, "note")));
    if (workbench->change.restarting && !workbench->load_arguments)
        finish_change(workbench, NULL);
}

static void on_reloaded(struct workbench *workbench, void *context, const json_t *data,
                        const struct error *error)
{
    (void)context;
    if (!data) {
        connect_failed(workbench, error);
        return;
    }
    workbench_loaded(workbench, data, json_incref(workbench->load_arguments));
    if (workbench->change.restarting)
        finish_change(workbench, NULL);
    else if (workbench->current)
        execution_warn(workbench->current, "new worker, model loaded again: %.2f s",
                       (double)(workbench_now_ns(workbench) - workbench->connect_ns) / 1e9);
}

static void on_resumed(struct workbench *workbench, void *context, const json_t *data,
                       const struct error *error)
{
    (void)context;
    (void)error;
    if (!data)
        workbench->live = false;
}

static void on_devices(struct workbench *workbench, void *context, const json_t *data,
                       const struct error *error)
{
    (void)context;
    (void)error; /* the screen can do without names */
    json_decref(workbench->known_devices);
    workbench->known_devices = data ? json_deep_copy(json_object_get(data, "devices")) : NULL;
}

/* At the first plan on a GPU: its driver is awake, so asking for names costs little. */
static void ask_devices(struct workbench *workbench)
{
    const char *id = json_string_value(json_object_get(workbench->plan, "device"));
    if (!workbench->interactive || workbench->devices_asked || !id || strncmp(id, "gpu", 3) != 0)
        return;
    workbench->devices_asked = true;
    submit(workbench, "devices", NULL, on_devices, NULL);
}

json_t *workbench_engine_settings(const struct workbench *workbench)
{
    json_t *values = json_object();
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        if (setting->engine)
            json_object_set(values, setting->name,
                            json_object_get(workbench->settings, setting->name));
    }
    return values;
}

/* A calibration goes with its worker: the next one begins in fp32, and says so. */
static void leave_int8(struct workbench *workbench)
{
    const char *precision = json_string_value(json_object_get(workbench->settings, "precision"));
    const struct change *change = &workbench->change;
    bool asked = change->restarting && strcmp(change->setting->name, "precision") == 0;
    if (!precision || strcmp(precision, "int8") != 0 || workbench->replay.path || asked)
        return;
    json_object_set_new(workbench->settings, "precision", json_string("fp32"));
    if (workbench->current)
        execution_warn(workbench->current, "a new worker knows no calibration: precision is fp32 "
                                           "again until `calibrate` and `precision int8`");
}

static bool connect_worker(struct workbench *workbench, bool reload, struct error *error)
{
    leave_int8(workbench);
    struct engine_options options = {.program = workbench->program,
                                     .worker_command = workbench->worker_command,
                                     .replay = workbench->replay.path,
                                     .replay_speed = workbench->replay.speed,
                                     .last_id = workbench->last_id};
    if (options.replay)
        options.worker_command = NULL;
    workbench->connect_ns = workbench_now_ns(workbench);
    workbench->engine = engine_start(&options, error);
    if (!workbench->engine)
        return false;
    workbench->devices_asked = false;
    workbench->engine_ended = false;
    workbench->connect_error = (struct error){0};
    workbench->hello_ns = workbench->configured_ns = 0;
    workbench->notice[0] = '\0';
    engine_give_journal(workbench->engine, workbench->journal);
    workbench->journal = NULL;
    submit(workbench, "configure",
           json_pack("{s:o}", "settings", workbench_engine_settings(workbench)), on_configured,
           NULL);
    if (reload && workbench->load_arguments) {
        submit(workbench, "load", json_incref(workbench->load_arguments), on_reloaded, NULL);
        if (workbench->live)
            submit(workbench, "start", NULL, on_resumed, NULL);
    }
    return true;
}

static void stop_worker(struct workbench *workbench)
{
    workbench->journal = engine_take_journal(workbench->engine);
    engine_stop(workbench->engine);
    workbench->engine = NULL;
    workbench->engine_ended = false;
    store_ended(workbench->store);
}

/* Let the worker go. No reply of it will come any more: everybody who waits gets `error`, whose
 * `what`, if it is empty, becomes the request's. */
static void drop_worker(struct workbench *workbench, const struct error *error)
{
    struct pending *pending = workbench->pending;
    size_t count = workbench->pending_count;
    bool live = workbench->live;
    stop_worker(workbench);
    workbench->pending = NULL; /* whoever asks again asks the next worker */
    workbench->pending_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct error cause = *error;
        if (!*cause.what)
            memcpy(cause.what, pending[i].verb, sizeof pending[i].verb);
        if (pending[i].reply)
            pending[i].reply(workbench, pending[i].context, NULL, &cause);
    }
    free(pending);
    workbench->live = live; /* the next worker resumes what this one did not */
    workbench->connect_error = (struct error){0}; /* set again by what has just failed */
}

static void end_worker(struct workbench *workbench, const char *why)
{
    struct error ended = {0};
    error_set(&ended, ERROR_WORKER, "", "%s", why);
    if (workbench->engine)
        drop_worker(workbench, &ended);
}

void workbench_end_worker(struct workbench *workbench)
{
    end_worker(workbench, "it was ended");
}

/* Give the worker up: a change under way hears of it last, for it may start the next one. */
static void give_up(struct workbench *workbench, const struct error *error)
{
    struct error cause = *error;
    drop_worker(workbench, &cause);
    if (workbench->change.restarting && !workbench->restart_wanted)
        finish_change(workbench, &cause);
}

/* ---- recordings that are played ---- */

static void forget_model(struct workbench *workbench)
{
    workbench_loaded(workbench, NULL, NULL);
    store_reset(workbench->store);
}

void workbench_replay(struct workbench *workbench, const char *path, double speed)
{
    struct replaying *replay = &workbench->replay;
    end_worker(workbench, "it was ended for a recording");
    workbench->notice[0] = '\0';
    if (!replay->path) {
        replay->settings = json_deep_copy(workbench->settings);
        replay->load_arguments = json_incref(workbench->load_arguments);
        replay->live = workbench->live;
    }
    free(replay->path);
    json_decref(replay->progress);
    replay->progress = NULL;
    replay->path = xstrdup(path);
    replay->speed = speed;
    forget_model(workbench);
}

void workbench_replay_off(struct workbench *workbench)
{
    workbench->replay.leave = true;
}

static void leave_replay(struct workbench *workbench)
{
    struct replaying replay = workbench->replay;
    workbench->replay = (struct replaying){0};
    end_worker(workbench, "the recording was ended");
    workbench->notice[0] = '\0';
    forget_model(workbench);
    json_decref(workbench->settings);
    workbench->settings = replay.settings;
    workbench->load_arguments = replay.load_arguments;
    workbench->live = replay.live;
    json_decref(replay.progress);
    free(replay.path);
}

/* The scene that is played has values of its own; they show as ours. */
static void take_settings(struct workbench *workbench, const json_t *settings)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)settings, key, value)
    {
        const struct setting *setting = setting_find(key, NULL);
        if (setting && setting->engine && strcmp(setting->name, key) == 0)
            json_object_set(workbench->settings, key, value);
    }
}

/* After the events: what could not be done while the engine was calling us. */
static void settle_worker(struct workbench *workbench)
{
    struct error error = {0};
    if (workbench->replay.leave)
        leave_replay(workbench);
    if (workbench->engine && workbench->connect_error.code != ERROR_NONE) {
        give_up(workbench, &workbench->connect_error);
    } else if (workbench->engine && workbench->engine_ended) {
        error_set(&error, ERROR_WORKER, "worker", "%s", workbench->notice);
        give_up(workbench, &error);
    }
    if (workbench->restart_wanted) {
        workbench->restart_wanted = false;
        end_worker(workbench, "it was ended for a new one");
        if (!connect_worker(workbench, true, &error))
            finish_change(workbench, &error);
    }
}

static void on_ended(struct workbench *workbench, const char *why)
{
    if (workbench->engine_ended)
        return;
    workbench->engine_ended = true;
    snprintf(workbench->notice, sizeof workbench->notice, "worker ended: %.140s", why);
    if (workbench->sink && workbench->connect_error.code == ERROR_NONE)
        workbench->sink->line(workbench->sink->context, SINK_NOTE, workbench->notice);
}

/* A worker whose GPU is lost ends by itself, but no request may reach it any more. */
static void notice_lost(struct workbench *workbench, const struct error *error)
{
    if (error->code == ERROR_LOST && !workbench->replay.path)
        on_ended(workbench, "the GPU's context is lost");
}

static void show_progress(const struct execution *current, const struct sink *sink,
                          const json_t *progress)
{
    char text[512];
    const char *label = json_string_value(json_object_get(progress, "text"));
    double fraction = json_get_double(progress, "fraction");
    text_clean(text, sizeof text, label ? label : "");
    if (current && *current->progress_label) {
        char *whole = xasprintf("%s: %s", current->progress_label, text);
        fraction =
            current->progress_from + (isnan(fraction) ? 0 : fraction) * current->progress_span;
        sink->progress(sink->context, fraction, whole);
        free(whole);
    } else {
        sink->progress(sink->context, fraction, text);
    }
}

static void on_event(void *context, const struct engine_event *event)
{
    struct workbench *workbench = context;
    const struct sink *sink = workbench->current ? workbench->current->sink : workbench->sink;
    struct pending pending;
    struct error error;
    char text[512];
    /* a worker that is given up has nothing more to say */
    if (workbench->connect_error.code != ERROR_NONE && event->kind != ENGINE_EVENT_ENDED)
        return;
    switch (event->kind) {
    case ENGINE_EVENT_HELLO:
        workbench->hello_ns = workbench_now_ns(workbench);
        snprintf(workbench->hello, sizeof workbench->hello, "layertop %.60s on %.60s, process %lld",
                 json_string_value(json_object_get(event->json, "version")) ?: "?",
                 json_string_value(json_object_get(event->json, "host")) ?: "?",
                 (long long)json_integer_value(json_object_get(event->json, "pid")));
        break;
    case ENGINE_EVENT_REPLY:
        if (take_pending(workbench, event->id, &pending) && pending.reply)
            pending.reply(workbench, pending.context, event->json, &event->error);
        if (!event->json)
            notice_lost(workbench, &event->error);
        break;
    case ENGINE_EVENT_PROGRESS:
        if (event->id == 0 && workbench->replay.path) {
            json_decref(workbench->replay.progress);
            workbench->replay.progress = json_incref(event->json);
        } else if (sink && sink->progress)
            show_progress(workbench->current, sink, event->json);
        break;
    case ENGINE_EVENT_PLAN:
        json_decref(workbench->plan);
        workbench->plan = json_is_object(event->json) ? json_incref(event->json) : NULL;
        workbench->last_segment = 0;
        if (workbench->replay.path)
            take_settings(workbench, json_object_get(event->json, "settings"));
        store_plan(workbench->store, workbench->plan);
        ask_devices(workbench);
        break;
    case ENGINE_EVENT_RECORD:
        if (!store_feed(workbench->store, event->data, event->bytes, &error) &&
            !workbench->told_bad_record && sink) {
            char *line = xasprintf("note: a record of the worker is not understood: %s", error.why);
            sink->line(sink->context, SINK_WARNING, line);
            free(line);
            workbench->told_bad_record = true; /* the next ones will be as bad */
        }
        tell_record_note(workbench);
        break;
    case ENGINE_EVENT_LOG: {
        const char *line = json_string_value(json_object_get(event->json, "text"));
        if (json_object_get(event->json, "recording")) {
            if (sink)
                dispatch_show_error(sink, &event->error);
            break;
        }
        /* how the worker says that a live step failed and that it has stopped */
        if (line && strncmp(line, "the live run ended:", 19) == 0)
            workbench->live = false;
        if (sink) {
            char *whole = xasprintf("worker: %s", line ? line : "");
            sink->line(sink->context, SINK_NOTE, text_clean(text, sizeof text, whole));
            free(whole);
        }
        notice_lost(workbench, &event->error);
        break;
    }
    case ENGINE_EVENT_ENDED:
        on_ended(workbench, event->error.why);
        break;
    }
}

/* ---- settings ---- */

static void finish_change(struct workbench *workbench, const struct error *error)
{
    struct change change = workbench->change;
    workbench->change = (struct change){0};
    const char *key = change.setting->name;
    json_object_set(workbench->settings, key, error ? change.old : change.value);
    if (error) {
        change.reply(workbench, change.context, NULL, error);
        /* the plots go on with the old value, if they can */
        if (change.restarting && !change.fresh && workbench->live && !workbench->restart_wanted &&
            !workbench->engine)
            connect_worker(workbench, true, NULL);
    } else {
        double cost_ms = (double)(workbench_now_ns(workbench) - change.start_ns) / 1e6;
        json_t *data =
            json_pack("{s:s, s:O, s:f}", "key", key, "value", change.value, "cost_ms", cost_ms);
        if (change.restarting && !change.fresh)
            json_object_set_new(data, "note",
                                json_sprintf("new context %.2f s%s%s", cost_ms / 1e3,
                                             *change.note ? "; " : "", change.note));
        else if (*change.note)
            json_object_set_new(data, "note", json_string(change.note));
        change.reply(workbench, change.context, data, NULL);
        json_decref(data);
    }
    json_decref(change.value);
    json_decref(change.old);
}

static void begin_restart(struct workbench *workbench)
{
    workbench->change.restarting = true;
    workbench->restart_wanted = true;
    json_object_set(workbench->settings, workbench->change.setting->name, workbench->change.value);
}

static void on_set(struct workbench *workbench, void *context, const json_t *data,
                   const struct error *error)
{
    (void)context;
    if (!data) {
        finish_change(workbench, error);
        return;
    }
    const char *note = json_string_value(json_object_get(data, "note"));
    if (note)
        text_clean(workbench->change.note, sizeof workbench->change.note, note);
    if (json_is_true(json_object_get(data, "restart")))
        begin_restart(workbench);
    else
        finish_change(workbench, NULL);
}

static void begin_change(struct workbench *workbench, const struct setting *setting, json_t *value,
                         bool forced, workbench_reply *reply, void *context)
{
    workbench->change = (struct change){
        .active = true,
        .forced = forced,
        .setting = setting,
        .value = value,
        .old = json_incref(json_object_get(workbench->settings, setting->name)),
        .start_ns = workbench_now_ns(workbench),
        .reply = reply,
        .context = context,
    };
    if (!setting->engine) {
        finish_change(workbench, NULL);
    } else if (!workbench->engine) {
        workbench->change.fresh = true;
        begin_restart(workbench);
    } else {
        workbench_request(workbench, "set",
                          json_pack("{s:s, s:O, s:b}", "key", setting->name, "value", value,
                                    "force", (int)forced),
                          on_set, NULL);
    }
}

void workbench_change(struct workbench *workbench, const struct setting *setting, json_t *value,
                      workbench_reply *reply, void *context)
{
    begin_change(workbench, setting, value, false, reply, context);
}

void workbench_change_forced(struct workbench *workbench, const struct setting *setting,
                             json_t *value, workbench_reply *reply, void *context)
{
    begin_change(workbench, setting, value, true, reply, context);
}

/* ---- the loop ---- */

void workbench_dispatch(struct workbench *workbench)
{
    if (workbench->engine)
        engine_dispatch(workbench->engine, on_event, workbench);
    settle_worker(workbench);
    dispatch_run(workbench);
    settle_worker(workbench);
    /* what was just submitted leaves at once if the pipe takes it */
    if (workbench->engine && engine_wants_write(workbench->engine)) {
        engine_dispatch(workbench->engine, on_event, workbench);
        settle_worker(workbench);
        dispatch_run(workbench);
    }
}

bool link_close(struct workbench *workbench, struct error *error)
{
    if (workbench->engine)
        stop_worker(workbench);
    struct journal *journal = workbench->journal;
    workbench->journal = NULL;
    if (!journal)
        return true;
    /* the end of the program is the end of the recording; what fails leaves FILE.part behind */
    bool good = journal_close(journal, error);
    if (good && workbench->record_path) {
        char *part = xasprintf("%s.part", workbench->record_path);
        good = recording_pack(part, workbench->record_path, error);
        if (good)
            unlink(part);
        else
            error_hint(error, "replay %s", part);
        free(part);
    }
    return good;
}

void link_free(struct workbench *workbench)
{
    json_decref(workbench->change.value);
    json_decref(workbench->change.old);
    workbench->change = (struct change){0};
    link_close(workbench, NULL);
    free(workbench->record_path);
    json_decref(workbench->replay.settings);
    json_decref(workbench->replay.load_arguments);
    json_decref(workbench->replay.progress);
    free(workbench->replay.path);
    free(workbench->pending);
}
