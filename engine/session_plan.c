/* Devices and plans of the session: what is open, what is compiled, and how one replaces another
 * without losing the old on failure. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/host_op.h"
#include "engine/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool session_has_gpu(const struct session *session)
{
    for (size_t i = 0; i < session->slot_count; i++) {
        if (session->slots[i].backend != &backend_cpu)
            return true;
    }
    return false;
}

/* ---- which devices ---- */

json_t *session_list_devices(struct session *session)
{
    json_t *list = json_array();
    struct error error = {0};
    if (!backend_cpu.devices(list, &error))
        session_note(session, "%s: %s", error.what, error.why);
    const struct backend *cuda = backend_cuda(&error);
    if (cuda == NULL || !cuda->devices(list, &error))
        session_note(session, "no GPU: %s", error.why);
    return list;
}

static const json_t *find_device(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *device = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(device, "id"));
        const char *uuid = json_string_value(json_object_get(device, "uuid"));
        /* a UUID may be cut short where that is unique enough for the user, as CUDA allows */
        if ((id != NULL && strcmp(id, name) == 0) ||
            (uuid != NULL && strncmp(name, "GPU-", 4) == 0 && strlen(name) > 6 &&
             strncasecmp(uuid, name, strlen(name)) == 0))
            return device;
    }
    return NULL;
}

/* The first usable GPU of the list, or the CPU. */
static const char *auto_device(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *device = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(device, "id"));
        if (id != NULL && strncmp(id, "gpu:", 4) == 0 &&
            json_is_true(json_object_get(device, "usable")))
            return id;
    }
    return "cpu";
}

static bool refuse_device(const char *name, const json_t *device, struct error *error)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    struct error gpu;
    if (device != NULL) {
        const char *why = json_string_value(json_object_get(device, "why"));
        error_set(error, ERROR_DEVICE, name, "it cannot be used: %s",
                  why != NULL ? why : "no reason is known");
    } else if (strcmp(name, "cpu") != 0 && backend_cuda(&gpu) == NULL) {
        error_set(error, gpu.code != ERROR_NONE ? gpu.code : ERROR_GPU, name, "%s", gpu.why);
    } else if (visible != NULL) {
        error_set(error, ERROR_DEVICE, name,
                  "there is no such device among those that "
                  "CUDA_VISIBLE_DEVICES=%s leaves visible",
                  visible);
    } else {
        error_set(error, ERROR_DEVICE, name, "there is no such device");
    }
    return error_hint(error, "devices");
}

/* The devices of a kind lie side by side, in the order they were named. */
static void side_by_side(char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES], size_t count)
{
    char sorted[SESSION_SLOTS_MAX][DEVICE_ID_BYTES];
    size_t used = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            if ((session_is_cpu(ids[i]) == session_is_cpu(ids[0])) == (pass == 0))
                memcpy(sorted[used++], ids[i], DEVICE_ID_BYTES);
        }
    }
    memcpy(ids, sorted, count * sizeof *sorted);
}

/* "gpu:0" becomes "gpu:0.0", "gpu:0.1" ... with `logical`. */
static bool make_logical(const struct settings *settings,
                         char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES], size_t *count,
                         struct error *error)
{
    size_t each = (size_t)settings->logical_count, all = *count * each;
    if (each == 0)
        return true;
    if (all > SESSION_SLOTS_MAX) {
        error_set(error, ERROR_VALUE, "set logical", "%zu devices at once are too many: at most %d",
                  all, SESSION_SLOTS_MAX);
        return error_hint(error, "set logical none");
    }
    for (size_t i = all; i-- > 0;) {
        char whole[DEVICE_ID_BYTES];
        memcpy(whole, ids[i / each], DEVICE_ID_BYTES);
        snprintf(ids[i], DEVICE_ID_BYTES, "%.50s.%zu", whole, i % each);
    }
    *count = all;
    return true;
}

bool session_resolve(struct session *session, const struct settings *settings,
                     char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES], size_t *count,
                     struct error *error)
{
    bool only_cpu = settings->device_count == 1 && strcmp(settings->devices[0], "cpu") == 0;
    bool automatic = settings->device_count == 0;
    *count = 0;
    if (only_cpu) { /* asks no driver */
        snprintf(ids[(*count)++], DEVICE_ID_BYTES, "cpu");
        return make_logical(settings, ids, count, error);
    }
    if (session->slot_count > 0 && settings->device_count == session->settings.device_count &&
        settings->logical_count == session->settings.logical_count &&
        memcmp(settings->devices, session->settings.devices, sizeof settings->devices) == 0) {
        for (; *count < session->slot_count; ++*count)
            memcpy(ids[*count], session->slots[*count].id, DEVICE_ID_BYTES);
        return true;
    }
    bool noted = session->note[0] != '\0';
    phases_begin(&session->phases, PHASE_LIBRARIES);
    json_t *list = session_list_devices(session);
    phases_end(&session->phases);
    bool good = true;
    if (automatic) {
        snprintf(ids[(*count)++], DEVICE_ID_BYTES, "%s", auto_device(list));
        /* nobody asked for a GPU: one clause will do */
        char *more = noted ? NULL : strchr(session->note, ';');
        if (more != NULL)
            snprintf(more, sizeof session->note - (size_t)(more - session->note),
                     "; running on the CPU (`devices` says more)");
        if (session->told_auto && !noted)
            session->note[0] = '\0';
        session->told_auto = true;
    }
    for (size_t i = 0; good && i < settings->device_count; i++) {
        const json_t *device = find_device(list, settings->devices[i]);
        good = device != NULL && !json_is_false(json_object_get(device, "usable"));
        if (good)
            snprintf(ids[(*count)++], DEVICE_ID_BYTES, "%s",
                     json_string_value(json_object_get(device, "id")));
        else
            refuse_device(settings->devices[i], device, error);
    }
    json_decref(list);
    if (good)
        side_by_side(ids, *count);
    return good && make_logical(settings, ids, count, error);
}

/* ---- opening ---- */

/* The fence in bytes for a device: a share is of its total memory. */
static uint64_t limit_bytes(struct session *session, const struct settings *settings,
                            const char *id)
{
    if (settings->logical_count > 0)
        return settings->logical_bytes;
    if (settings->limit_share <= 0)
        return settings->limit_bytes;
    json_t *list = session_list_devices(session);
    const json_t *device = find_device(list, id);
    double total = (double)json_integer_value(json_object_get(device, "total_bytes"));
    json_decref(list);
    return (uint64_t)(total * settings->limit_share);
}

static struct device_options device_options(struct session *session,
                                            const struct settings *settings, const char *id)
{
    bool gpu = !session_is_cpu(id);
    return (struct device_options){.index = gpu ? atoi(id + strlen("gpu:")) : 0,
                                   .threads = gpu ? 0 : settings->threads,
                                   .growth = !gpu || settings->growth,
                                   .limit_bytes = limit_bytes(session, settings, id),
                                   .phases = &session->phases};
}

static bool same_options(const struct device_options *a, const struct device_options *b)
{
    return a->index == b->index && a->threads == b->threads && a->growth == b->growth &&
           a->limit_bytes == b->limit_bytes;
}

/* An open device that serves, taken over without its plan, or a new one. */
static bool open_slot(struct session *session, const struct settings *settings, const char *id,
                      struct slot *out, struct error *error)
{
    struct device_options options = device_options(session, settings, id);
    for (size_t i = 0; i < session->slot_count; i++) {
        const struct slot *slot = &session->slots[i];
        if (strcmp(slot->id, id) == 0 && same_options(&slot->options, &options)) {
            *out = *slot;
            out->plan = NULL;
            out->part = NULL;
            return true;
        }
    }
    *out = (struct slot){.options = options};
    snprintf(out->id, sizeof out->id, "%s", id);
    out->backend = session_is_cpu(id) ? &backend_cpu : backend_cuda(error);
    if (out->backend == NULL)
        return false;
    if (strchr(id, '.') != NULL)
        out->tap = memory_tap_new(session, id);
    phases_begin(&session->phases, PHASE_CONTEXT);
    out->device = out->backend->device_open(
        &options, out->tap != NULL ? &out->tap->observer : &session->tap, error);
    phases_end(&session->phases);
    if (out->device == NULL)
        memory_tap_free(out->tap);
    return out->device != NULL;
}

static bool device_in_use(const struct slot *slots, size_t count, const struct device *device)
{
    for (size_t i = 0; i < count; i++) {
        if (slots[i].device == device)
            return true;
    }
    return false;
}

static void close_slot(struct slot *slot)
{
    slot->backend->device_close(slot->device);
    memory_tap_free(slot->tap);
    slot->device = NULL;
    slot->tap = NULL;
}

/* Close the devices of `slots` that `others` do not use. */
static void close_slots(struct slot *slots, size_t count, const struct slot *others,
                        size_t other_count)
{
    for (size_t i = 0; i < count; i++) {
        if (slots[i].device != NULL && !device_in_use(others, other_count, slots[i].device))
            close_slot(&slots[i]);
    }
}

static void free_plans(struct slot *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slots[i].plan != NULL)
            slots[i].backend->plan_free(slots[i].plan);
        slots[i].plan = NULL;
    }
}

static void free_parts(struct slot *slots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slots[i].part != NULL)
            graph_free(slots[i].part);
        slots[i].part = NULL;
    }
}

/* ---- planning ---- */

const char *session_timing_source(const struct session *session, const char *id)
{
    const struct worker_hooks *hooks = session->hooks;
    const char *source =
        hooks->timing_source != NULL ? hooks->timing_source(hooks->context, id) : NULL;
    return source != NULL ? source : "off";
}

bool session_follow_timing(struct session *session, struct error *error)
{
    const char *planned = json_string_value(json_object_get(session->plan_json, "timing_source"));
    if (planned == NULL || session->slot_count == 0 ||
        strcmp(planned, session_timing_source(session, session->slots[0].id)) == 0)
        return true;
    struct settings same = session->settings;
    return session_apply(session, &same, error);
}

/* Plans of `count` devices are made, one after the other. */
struct planning {
    struct session *session;
    size_t index, count;
};

/* The backend's look up between two ops: tell how far it is, and whether it is still wanted. */
static bool planning_goes_on(void *context, size_t done, size_t all)
{
    const struct planning *planning = context;
    struct session *session = planning->session;
    double part = all > 0 ? (double)done / (double)all : 0;
    if (session->request == 0)
        return true; /* between requests: nobody waits */
    session_breathe(session, ((double)planning->index + part) / (double)planning->count,
                    session->bringing_back ? "bringing the plan before back" : "planning");
    return session->bringing_back || !session_cancelled(session);
}

static bool make_plans(struct session *session, const struct settings *settings,
                       struct graph *graph, struct slot *slots, size_t count, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        struct planning planning = {session, i, count};
        const char *source = session_timing_source(session, slots[i].id);
        struct plan_options options = {.precision = settings->precision,
                                       .graph = settings->graph,
                                       .slice = settings->slice,
                                       .autotune = settings->autotune,
                                       .channels_first = settings->channels_first,
                                       .pageable = settings->pageable,
                                       .force = session->force,
                                       .host = settings->fallback ? &host_ops : NULL,
                                       .op_events = strcmp(source, "events") == 0,
                                       .op_sync = strcmp(source, "clock") == 0,
                                       .goes_on = planning_goes_on,
                                       .context = &planning};
        session_give_ranges(session, settings->fusion, &options);
        const struct graph *share = slots[i].part != NULL ? slots[i].part : graph;
        phases_begin(&session->phases, PHASE_COMPILE);
        slots[i].plan = slots[i].backend->plan_new(slots[i].device, share, &options, error);
        phases_end(&session->phases);
        constant_pool_trim(session->pool);
        if (slots[i].plan == NULL) {
            free_plans(slots, i);
            return false;
        }
    }
    phases_begin(&session->phases, PHASE_INPUT);
    bool filled = session_fill_inputs(session, settings, graph, slots, count, error);
    phases_end(&session->phases);
    if (!filled)
        free_plans(slots, count);
    return filled;
}

void session_observe(struct session *session, const struct slot *slot)
{
    const struct observer *observer = session->hooks->observer;
    if (session->observed == slot)
        return;
    session->observed = slot;
    if (observer == NULL || observer->plan == NULL || slot == NULL)
        return;
    observer->plan(observer->context, slot->id, session_slot_graph(session, slot),
                   slot->backend->plan_impls(slot->plan));
    if (observer->samples != NULL && slot->part != NULL)
        observer->samples(observer->context, (uint64_t)session->graph->batch);
    if (observer->implementations != NULL && slot->backend->plan_names != NULL)
        observer->implementations(observer->context, slot->backend->plan_names(slot->plan));
}

/* The listener may hold the graph and the names of all current plans: take them back before they
 * are freed. */
static void unobserve(struct session *session)
{
    const struct observer *observer = session->hooks->observer;
    if (session->observed != NULL && session->hooks->flush != NULL)
        session->hooks->flush(session->hooks->context);
    for (size_t i = 0; i < session->slot_count; i++) {
        if (observer != NULL && observer->plan != NULL && session->slots[i].plan != NULL)
            observer->plan(observer->context, session->slots[i].id, NULL, NULL);
    }
    session->observed = NULL;
}

/* Put new slots in the place of the present ones, which have no plans any more. */
static void install(struct session *session, struct graph *graph, const struct slot *slots,
                    size_t count)
{
    struct graph *old = session->graph;
    free_parts(session->slots, session->slot_count);
    memcpy(session->slots, slots, count * sizeof *slots);
    session->slot_count = count;
    session->graph = graph;
    session->live_slot = 0;
    session->slice_start_ns = clock_now_ns();
    if (old != graph)
        graph_free(old);
}

/* Plans for `next` beside the present ones; if memory does not allow that, in their place, and the
 * present ones come back when that fails too. */
static bool replan(struct session *session, const struct settings *next, struct graph *graph,
                   struct slot *slots, size_t count, struct error *error)
{
    if (make_plans(session, next, graph, slots, count, error)) {
        unobserve(session);
        free_plans(session->slots, session->slot_count);
        return true;
    }
    if (!session_out_of_memory(error) || session->plan_json == NULL ||
        error->code == ERROR_INTERRUPTED)
        return false;
    unobserve(session);
    free_plans(session->slots, session->slot_count);
    if (make_plans(session, next, graph, slots, count, error))
        return true;
    struct error lost;
    session->bringing_back = true;
    bool back = make_plans(session, &session->settings, session->graph, session->slots,
                           session->slot_count, &lost);
    session->bringing_back = false;
    if (!back) {
        session_note(session, "the plan before could not be restored: %s", lost.why);
        session->live = false;
        json_decref(session->plan_json);
        session->plan_json = NULL;
        session->ports->plan(session->ports->context, NULL);
    } else {
        session_observe(session, &session->slots[0]);
    }
    return false;
}

bool session_build(struct session *session, const struct settings *next, struct error *error)
{
    char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES];
    size_t count = 0, opened = 0;
    struct slot slots[SESSION_SLOTS_MAX] = {0};
    if (!session_resolve(session, next, ids, &count, error) ||
        !session_check_precision(session, next, error))
        return false;
    int64_t start_ns = clock_now_ns();
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        good = open_slot(session, next, ids[i], &slots[i], error);
        /* nobody asked for the GPU by name: the CPU will do */
        if (!good && next->device_count == 0 && !session_is_cpu(ids[i])) {
            session_note(session, "%s cannot be used (%s); running on the CPU", ids[i], error->why);
            *error = (struct error){0};
            good = open_slot(session, next, "cpu", &slots[i], error);
        }
        opened += good;
    }
    bool relower = session->graph == NULL || session->graph->batch != next->batch ||
                   session->settings.fusion != next->fusion;
    struct graph *graph = session->graph;
    if (good && relower) {
        struct graph_options options = {.batch = next->batch, .fusion = next->fusion};
        phases_begin(&session->phases, PHASE_LOWER);
        graph = graph_lower(session->model, &options, session->pool, error);
        phases_end(&session->phases);
        good = graph != NULL;
    }
    if (good) {
        good = session_split(session, next, graph, slots, count, error) &&
               (session->force || session_admit(session, next, slots, count, error)) &&
               replan(session, next, graph, slots, count, error);
        if (!good && session_out_of_memory(error))
            session_tell_oom(session, next, slots, count, error);
    }
    if (good) {
        close_slots(session->slots, session->slot_count, slots, count);
        install(session, graph, slots, count);
        session->plan_ms = (double)(clock_now_ns() - start_ns) / 1e6;
        return true;
    }
    free_parts(slots, count);
    close_slots(slots, opened, session->slots, session->slot_count);
    if (graph != NULL && graph != session->graph)
        graph_free(graph);
    return false;
}

bool session_apply(struct session *session, const struct settings *next, struct error *error)
{
    if (session->model == NULL) {
        char ids[SESSION_SLOTS_MAX][DEVICE_ID_BYTES];
        size_t count;
        if (!session_resolve(session, next, ids, &count, error) ||
            !session_check_precision(session, next, error))
            return false;
        session->settings = *next;
        return true;
    }
    const struct settings *now = &session->settings;
    bool same_weights =
        now->prune == next->prune && now->prune_structured == next->prune_structured;
    if (!(same_weights ? session_build(session, next, error)
                       : session_reweigh(session, next, error)))
        return false;
    session->settings = *next;
    session_renew_pipeline(session);
    session_publish_plan(session);
    session_observe(session, &session->slots[0]);
    return true;
}

void session_drop_plans(struct session *session)
{
    unobserve(session);
    free_plans(session->slots, session->slot_count);
    free_parts(session->slots, session->slot_count);
    for (size_t i = 0; i < session->slot_count; i++)
        session->slots[i].backend->device_forget(session->slots[i].device);
}

void session_close_devices(struct session *session)
{
    close_slots(session->slots, session->slot_count, NULL, 0);
    session->slot_count = 0;
}
