#include "commands/workbench_private.h"

#include "commands/format.h"
#include "commands/tutor.h"

#include <langinfo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct workbench *workbench_new(const struct workbench_options *options, struct error *error)
{
    struct workbench *workbench = xcalloc(1, sizeof *workbench);
    workbench->program = options->program ? xstrdup(options->program) : NULL;
    workbench->worker_command = options->worker_command ? xstrdup(options->worker_command) : NULL;
    workbench->keep_going = options->keep_going;
    workbench->interactive = options->interactive;
    workbench->require = options->require;
    workbench->clock = options->clock ? options->clock : &clock_system;
    workbench->store = store_new();
    store_set_clock(workbench->store, workbench->clock);
    workbench->settings = json_object();
    workbench->aliases_answered = json_object();
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        json_t *value = setting_parse(setting, setting->value, error);
        if (!value) {
            workbench_free(workbench);
            return NULL;
        }
        json_object_set_new(workbench->settings, setting->name, value);
    }
    return workbench;
}

bool workbench_close(struct workbench *workbench, struct error *error)
{
    dispatch_free(workbench);
    return link_close(workbench, error);
}

void workbench_free(struct workbench *workbench)
{
    if (!workbench)
        return;
    dispatch_free(workbench);
    link_free(workbench);
    if (workbench->history)
        history_free(workbench->history);
    tutor_free(workbench->tutor);
    store_free(workbench->store);
    json_decref(workbench->settings);
    json_decref(workbench->aliases_answered);
    json_decref(workbench->model);
    json_decref(workbench->plan);
    json_decref(workbench->known_devices);
    json_decref(workbench->load_arguments);
    json_decref(workbench->last_run);
    json_decref(workbench->last_result);
    json_decref(workbench->last_sweep);
    json_decref(workbench->tried);
    json_decref(workbench->remembered);
    json_decref(workbench->advice);
    json_decref(workbench->devices);
    free(workbench->program);
    free(workbench->worker_command);
    free(workbench);
}

void workbench_set_sink(struct workbench *workbench, const struct sink *sink)
{
    workbench->sink = sink;
}

struct history *workbench_history(struct workbench *workbench)
{
    if (!workbench->history)
        workbench->history = history_new(NULL);
    return workbench->history;
}

void workbench_set_display(struct workbench *workbench, char *(*text)(void *context), void *context)
{
    workbench->display_text = text;
    workbench->display_context = context;
}

/* ---- what is known ---- */

void workbench_loaded(struct workbench *workbench, const json_t *model, json_t *arguments)
{
    json_decref(workbench->model);
    json_decref(workbench->load_arguments);
    workbench->model = model ? json_deep_copy(model) : NULL;
    workbench->load_arguments = model ? arguments : NULL;
    if (!model) {
        json_decref(arguments);
        workbench->live = false;
    }
    json_decref(workbench->remembered); /* what was calibrated went with the model before */
    workbench->remembered = NULL;
    /* the plan of the model before; the new one is on its way */
    json_decref(workbench->plan);
    workbench->plan = NULL;
    workbench->last_segment = 0;
    store_model(workbench->store, workbench->model);
}

void workbench_ran(struct workbench *workbench, const json_t *reply)
{
    json_decref(workbench->last_run);
    workbench->last_run = json_deep_copy(reply);
    workbench->last_segment = (uint32_t)json_integer_value(json_object_get(reply, "segment"));
}

/* What the time of a step depends on, besides its batch. New reference. */
static json_t *bearings(const struct workbench *workbench)
{
    json_t *settings = workbench_engine_settings(workbench);
    json_object_del(settings, "batch");
    return json_pack("{s:o, s:O?}", "settings", settings, "model", workbench->load_arguments);
}

void workbench_swept(struct workbench *workbench, json_t *points)
{
    json_decref(workbench->last_sweep);
    workbench->last_sweep =
        json_pack("{s:O, s:o}", "points", points, "bearings", bearings(workbench));
}

const json_t *workbench_sweep(const struct workbench *workbench)
{
    json_t *now = bearings(workbench);
    bool same = json_equal(now, json_object_get(workbench->last_sweep, "bearings"));
    json_decref(now);
    return same ? json_object_get(workbench->last_sweep, "points") : NULL;
}

/* As bearings(), and the batch. */
static json_t *place(const struct workbench *workbench)
{
    json_t *settings = workbench_engine_settings(workbench);
    return json_pack("{s:o, s:O?}", "settings", settings, "model", workbench->load_arguments);
}

void workbench_tried(struct workbench *workbench, json_t *trial)
{
    json_t *trials = (json_t *)(uintptr_t)workbench_trials(workbench);
    if (!trials) {
        json_decref(workbench->tried);
        workbench->tried = json_pack("{s:[], s:o}", "trials", "bearings", place(workbench));
        trials = json_object_get(workbench->tried, "trials");
    }
    json_array_append(trials, trial);
}

const json_t *workbench_trials(const struct workbench *workbench)
{
    json_t *now = place(workbench);
    bool same = json_equal(now, json_object_get(workbench->tried, "bearings"));
    json_decref(now);
    return same ? json_object_get(workbench->tried, "trials") : NULL;
}

int workbench_fd(const struct workbench *workbench)
{
    return workbench->engine ? engine_fd(workbench->engine) : -1;
}

bool workbench_wants_write(const struct workbench *workbench)
{
    return workbench->engine && engine_wants_write(workbench->engine);
}

int workbench_timeout_ms(const struct workbench *workbench)
{
    if (workbench->restart_wanted || workbench->replay.leave ||
        workbench->connect_error.code != ERROR_NONE ||
        (!workbench->current && workbench->queue_count > 0 && !workbench->quitting))
        return 0;
    return dispatch_ticking(workbench) ? 50 : -1;
}

const struct clock *workbench_clock(const struct workbench *workbench)
{
    return workbench->clock;
}

const struct store *workbench_store(const struct workbench *workbench)
{
    return workbench->store;
}

const json_t *workbench_model(const struct workbench *workbench)
{
    return workbench->model;
}

const json_t *workbench_plan(const struct workbench *workbench)
{
    return workbench->plan;
}

enum run_state workbench_state(const struct workbench *workbench)
{
    if (!workbench->engine && workbench->notice[0])
        return STATE_DEAD;
    for (size_t i = 0; i < workbench->pending_count; i++)
        if (strcmp(workbench->pending[i].verb, "load") == 0)
            return STATE_LOADING;
    for (size_t i = 0; i < workbench->pending_count; i++)
        if (strcmp(workbench->pending[i].verb, "run") == 0 ||
            strcmp(workbench->pending[i].verb, "predict") == 0)
            return STATE_RUNNING;
    return workbench->live && workbench->engine ? STATE_LIVE : STATE_IDLE;
}

const char *workbench_notice(const struct workbench *workbench)
{
    return workbench->notice;
}

const json_t *workbench_setting(const struct workbench *workbench, const char *name)
{
    return json_object_get(workbench->settings, name);
}

const json_t *workbench_device(const struct workbench *workbench)
{
    const char *id = json_string_value(json_object_get(workbench->plan, "device"));
    size_t index;
    json_t *device;
    json_array_foreach(workbench->known_devices, index, device)
    {
        const char *other = json_string_value(json_object_get(device, "id"));
        if (id && other && strcmp(id, other) == 0)
            return device;
    }
    return NULL;
}

bool workbench_has_gpu(const struct workbench *workbench)
{
    size_t index;
    json_t *device;
    json_array_foreach(workbench->devices, index, device)
    {
        const char *id = json_string_value(device);
        if (id && strcmp(id, "cpu") != 0)
            return true;
    }
    return false;
}

bool workbench_utf8(const struct workbench *workbench)
{
    const char *symbols = json_string_value(workbench_setting(workbench, "symbols"));
    if (symbols && strcmp(symbols, "auto") != 0)
        return strcmp(symbols, "utf8") == 0;
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static const char *setting_text(const struct workbench *workbench, const char *name, char *out,
                                size_t size)
{
    return setting_format(setting_find(name, NULL), workbench_setting(workbench, name), out, size);
}

char *workbench_prompt(const struct workbench *workbench, const char *name, char *out, size_t size)
{
    char device[80], batch[32], precision[32], clean[64];
    const char *planned = json_string_value(json_object_get(workbench->plan, "device"));
    const char *model = json_string_value(json_object_get(workbench->model, "name"));
    bool dead = workbench_state(workbench) == STATE_DEAD;
    setting_text(workbench, "devices", device, sizeof device);
    if (planned && !strchr(device, ','))
        text_clean(device, sizeof device, planned);
    setting_text(workbench, "batch", batch, sizeof batch);
    setting_text(workbench, "precision", precision, sizeof precision);
    snprintf(out, size, "layertop[%s%s %s b%s %s%s]> ", workbench->replay.path ? "replay " : "",
             name    ? name
             : model ? text_clean(clean, sizeof clean, model)
                     : "no model",
             device, batch, precision, dead ? " dead" : "");
    return out;
}

const char *workbench_recording(const struct workbench *workbench)
{
    return workbench->recording ? workbench->record_path : NULL;
}

void workbench_replay_state(const struct workbench *workbench, struct replay_state *out)
{
    const struct replaying *replay = &workbench->replay;
    bool told = json_is_object(replay->progress);
    *out = (struct replay_state){
        .path = replay->path,
        .speed = replay->speed,
        .position_s = told ? json_get_double(replay->progress, "position_s") : NAN,
        .duration_s = told ? json_get_double(replay->progress, "duration_s") : NAN,
    };
}

bool workbench_quitting(const struct workbench *workbench)
{
    return workbench->quitting;
}

int workbench_exit_code(const struct workbench *workbench)
{
    return workbench->exit_code;
}
