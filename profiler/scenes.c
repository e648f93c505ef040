#include "profiler/scenes.h"

#include "profiler/records.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCENES_MAX UINT16_MAX

struct asked { /* a request without a reply */
    uint64_t id;
    size_t frame;
    json_t *json; /* {verb, arguments} */
};

struct reading {
    struct scenes *scenes;
    struct asked *asked;
    size_t asked_count;
    json_t *next_plan; /* came while a `set` was under way, or NULL */
    size_t next_frame; /* of that plan */
    int64_t time_ns;
};

static struct scene *last_scene(struct scenes *scenes)
{
    return &scenes->scenes[scenes->scene_count - 1];
}

/* Begin a scene at `frame` (steals settings); what stands behind that frame already moves into it. */
static void begin_scene(struct scenes *scenes, size_t frame, json_t *settings, json_t *model,
                        json_t *plan, double cost_ms)
{
    struct scene *before = scenes->scene_count > 0 ? last_scene(scenes) : NULL;
    bool same = before && json_equal(before->settings, settings) &&
                (before->model == model || json_equal(before->model, model));
    if (same || scenes->scene_count == SCENES_MAX) {
        json_decref(settings);
        return;
    }
    scenes->scenes = xrealloc(scenes->scenes, (scenes->scene_count + 1) * sizeof *scenes->scenes);
    struct scene *scene = &scenes->scenes[scenes->scene_count++];
    *scene = (struct scene){.first = frame,
                            .settings = settings,
                            .model = json_incref(model),
                            .plan = json_incref(plan),
                            .cost_ms = cost_ms};
    for (size_t i = frame; i < scenes->frame_count; i++) {
        struct scene_frame *moved = &scenes->frames[i];
        if (moved->type == STREAM_RECORD) {
            scenes->scenes[moved->scene].records--;
            scene->records++;
        }
        moved->scene = (uint16_t)(scenes->scene_count - 1);
    }
}

/* What a plan says about settings, for a recording that does not say itself. */
static void settings_of_plan(json_t *settings, const json_t *plan)
{
    static const char *const keys[] = {"batch", "precision", "fusion", "graph"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(plan, keys[i]);
        if (value && !json_object_get(settings, keys[i]))
            json_object_set(settings, keys[i], value);
    }
    json_t *devices = json_object_get(plan, "devices");
    if (json_is_array(devices) && !json_object_get(settings, "devices"))
        json_object_set(settings, "devices", devices);
}

static void begin_recording(struct scenes *scenes, size_t frame, const json_t *start)
{
    json_t *plan = json_object_get(start, "plan"), *model = json_object_get(start, "model");
    json_t *settings = json_deep_copy(json_object_get(start, "settings")) ?: json_object();
    if (json_is_object(plan))
        settings_of_plan(settings, plan);
    scenes->unix_ns = json_integer_value(json_object_get(start, "unix_ns"));
    begin_scene(scenes, frame, settings, json_is_object(model) ? model : NULL,
                json_is_object(plan) ? plan : NULL, NAN);
}

/* A request succeeded: does a scene begin with it? */
static void answered(struct reading *reading, const struct asked *asked, json_t *reply)
{
    struct scenes *scenes = reading->scenes;
    struct scene *now = last_scene(scenes);
    const char *verb = json_string_value(json_object_get(asked->json, "verb"));
    json_t *arguments = json_object_get(asked->json, "arguments");
    const char *key = json_string_value(json_object_get(arguments, "key"));
    if (!verb)
        return;
    if (strcmp(verb, "set") == 0 && key && !json_is_true(json_object_get(reply, "restart"))) {
        json_t *settings = json_deep_copy(now->settings);
        json_t *cost = json_object_get(reply, "cost_ms");
        json_object_set(settings, key, json_object_get(arguments, "value"));
        /* records of the plan before may come up to the new plan */
        begin_scene(scenes, reading->next_plan ? reading->next_frame : asked->frame, settings,
                    now->model, reading->next_plan ? reading->next_plan : now->plan,
                    json_is_number(cost) ? json_number_value(cost) : NAN);
    } else if (strcmp(verb, "configure") == 0) { /* a fresh worker */
        json_t *settings = json_deep_copy(json_object_get(arguments, "settings"));
        if (settings)
            begin_scene(scenes, asked->frame, settings, now->model, NULL, NAN);
    } else if (strcmp(verb, "load") == 0) {
        begin_scene(scenes, asked->frame, json_deep_copy(now->settings), reply, NULL, NAN);
    } else if (strcmp(verb, "devices") == 0) {
        json_decref(scenes->devices);
        scenes->devices = json_incref(reply);
    } else if (strcmp(verb, "memory") == 0) {
        json_decref(scenes->memory);
        scenes->memory = json_incref(reply);
    }
}

static bool is_set(const struct asked *asked)
{
    const char *verb = json_string_value(json_object_get(asked->json, "verb"));
    return verb && strcmp(verb, "set") == 0;
}

static void take_answer(struct reading *reading, const struct stream_frame *frame, json_t *json)
{
    for (size_t i = reading->asked_count; i-- > 0;) {
        struct asked asked = reading->asked[i];
        if (asked.id != frame->id)
            continue;
        reading->asked_count--;
        memmove(&reading->asked[i], &reading->asked[i + 1],
                (reading->asked_count - i) * sizeof *reading->asked);
        if (frame->type == STREAM_REPLY && json_is_object(json))
            answered(reading, &asked, json);
        if (is_set(&asked)) {
            json_decref(reading->next_plan);
            reading->next_plan = NULL;
        }
        json_decref(asked.json);
        return;
    }
}

static void take_plan(struct reading *reading, json_t *plan)
{
    struct scene *scene = last_scene(reading->scenes);
    if (!json_is_object(plan))
        return;
    for (size_t i = 0; i < reading->asked_count; i++) {
        if (!is_set(&reading->asked[i]))
            continue;
        /* it comes before the reply that begins the scene it belongs to */
        json_decref(reading->next_plan);
        reading->next_plan = json_incref(plan);
        reading->next_frame = reading->scenes->frame_count - 1;
        return;
    }
    if (!scene->plan) {
        scene->plan = json_incref(plan);
        settings_of_plan(scene->settings, plan);
    }
}

static bool take_frame(void *context, const struct stream_frame *frame, uint64_t offset)
{
    struct reading *reading = context;
    struct scenes *scenes = reading->scenes;
    json_t *json = frame->type == STREAM_RECORD ? NULL : stream_frame_json(frame);
    size_t index = scenes->frame_count;
    if ((index & (index - 1)) == 0)
        scenes->frames = xrealloc(scenes->frames, (index ? 2 * index : 1) * sizeof *scenes->frames);
    if (scenes->scene_count == 0 && frame->type != STREAM_JOURNAL)
        begin_recording(scenes, index, NULL);
    else if (frame->type == STREAM_JOURNAL && (scenes->scene_count == 0 || index <= 1)) {
        /* the first frame may be the worker's hello */
        if (scenes->scene_count > 0) {
            struct scene *empty = last_scene(scenes);
            json_decref(empty->settings);
            scenes->scene_count--;
        }
        begin_recording(scenes, 0, json);
    }
    scenes->frames[index] = (struct scene_frame){.offset = offset,
                                                 .bytes = (uint32_t)frame->bytes,
                                                 .type = (uint16_t)frame->type,
                                                 .scene = (uint16_t)(scenes->scene_count - 1),
                                                 .id = frame->id,
                                                 .time_ns = reading->time_ns};
    scenes->frame_count++;
    struct record_reader reader;
    struct record_header header;
    switch (frame->type) {
    case STREAM_HELLO:
        json_decref(scenes->hello);
        scenes->hello = json_incref(json);
        /* a fresh worker counts its requests anew */
        while (reading->asked_count > 0)
            json_decref(reading->asked[--reading->asked_count].json);
        break;
    case STREAM_REQUEST:
        reading->asked =
            xrealloc(reading->asked, (reading->asked_count + 1) * sizeof *reading->asked);
        reading->asked[reading->asked_count++] =
            (struct asked){.id = frame->id, .frame = index, .json = json_incref(json)};
        break;
    case STREAM_REPLY:
    case STREAM_FAILURE:
        take_answer(reading, frame, json);
        break;
    case STREAM_PLAN:
        take_plan(reading, json);
        break;
    case STREAM_RECORD:
        last_scene(scenes)->records++;
        if (record_open(&reader, frame->data, frame->bytes, &header, NULL)) {
            reading->time_ns = header.time_ns;
            scenes->frames[index].time_ns = header.time_ns;
        }
        break;
    default:
        break;
    }
    json_decref(json);
    return true;
}

bool scenes_read(struct scenes *scenes, struct recording *recording, struct error *error)
{
    *scenes = (struct scenes){0};
    struct reading reading = {.scenes = scenes};
    bool ok = recording_walk(recording, take_frame, &reading, &scenes->whole, error);
    for (size_t i = 0; i < reading.asked_count; i++)
        json_decref(reading.asked[i].json);
    free(reading.asked);
    json_decref(reading.next_plan);
    if (ok && scenes->frame_count == 0)
        ok = error_set(error, ERROR_FILE, "recording", "it was cut before its first frame");
    /* what stands before the first record belongs to its time, not to zero */
    size_t first = 0;
    while (first < scenes->frame_count && scenes->frames[first].type != STREAM_RECORD)
        first++;
    for (size_t i = 0; i < first && first < scenes->frame_count; i++)
        scenes->frames[i].time_ns = scenes->frames[first].time_ns;
    return ok;
}

void scenes_free(struct scenes *scenes)
{
    for (size_t i = 0; i < scenes->scene_count; i++) {
        json_decref(scenes->scenes[i].settings);
        json_decref(scenes->scenes[i].model);
        json_decref(scenes->scenes[i].plan);
    }
    free(scenes->scenes);
    free(scenes->frames);
    json_decref(scenes->hello);
    json_decref(scenes->devices);
    json_decref(scenes->memory);
    *scenes = (struct scenes){0};
}

/* ---- values ---- */

char *scenes_value_text(const json_t *value)
{
    size_t index;
    json_t *item;
    char *text = xstrdup("");
    if (!json_is_array(value)) {
        free(text);
        if (json_is_boolean(value))
            return xstrdup(json_is_true(value) ? "on" : "off");
        if (json_is_string(value))
            return xstrdup(json_string_value(value));
        if (json_is_null(value) || !value)
            return xstrdup("none");
        return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    }
    json_array_foreach((json_t *)(uintptr_t)value, index, item)
    {
        char *longer = xasprintf("%s%s%s", text, index ? "," : "", json_string_value(item) ?: "?");
        free(text);
        text = longer;
    }
    return text;
}

/* `devices auto` on a machine that chose the CPU is also an answer to `devices cpu`. */
static bool same_value(const struct scene *scene, const char *key, const json_t *value)
{
    json_t *recorded = json_object_get(scene->settings, key);
    if (recorded && json_equal(recorded, value))
        return true;
    return strcmp(key, "devices") == 0 && json_is_array(value) &&
           json_equal(json_object_get(scene->plan, "devices"), value);
}

/* Settings other than `key` in which two scenes differ; *first is one of them. */
static size_t differences(const struct scene *a, const struct scene *b, const char *key,
                          const char **first)
{
    const char *name;
    json_t *value;
    size_t count = 0;
    json_object_foreach(a->settings, name, value)
    {
        json_t *other = json_object_get(b->settings, name);
        if (strcmp(name, key) == 0 || !other || json_equal(value, other))
            continue;
        *first = name;
        count++;
    }
    return count;
}

long scenes_find(const struct scenes *scenes, size_t now, const char *key, const json_t *value,
                 struct error *error)
{
    const struct scene *current = &scenes->scenes[now];
    const char *other = NULL, *closest_other = NULL;
    const struct scene *closest = NULL;
    size_t closest_count = SIZE_MAX;
    char what[64], *list = xstrdup(""), *hint = NULL;
    json_t *listed = json_array();
    for (size_t i = 0; i < scenes->scene_count; i++) {
        const struct scene *scene = &scenes->scenes[i];
        size_t index;
        json_t *known, *recorded = json_object_get(scene->settings, key);
        if (scene->model && current->model && !json_equal(scene->model, current->model))
            continue;
        size_t count = differences(current, scene, key, &other);
        if (same_value(scene, key, value)) {
            if (count == 0) {
                free(list);
                free(hint);
                json_decref(listed);
                return (long)i;
            }
            if (count < closest_count) {
                closest = scene;
                closest_count = count;
                closest_other = other;
            }
        }
        bool is_new = recorded != NULL;
        json_array_foreach(listed, index, known) is_new = is_new && !json_equal(known, recorded);
        if (!is_new)
            continue;
        char *text = scenes_value_text(recorded);
        char *longer = xasprintf("%s%s%s", list, *list ? ", " : "", text);
        if (!hint && !same_value(current, key, recorded))
            hint = xasprintf("set %s %s", key, text);
        free(text);
        free(list);
        list = longer;
        json_array_append(listed, recorded);
    }
    char *wanted = scenes_value_text(value);
    snprintf(what, sizeof what, "set %.50s", key);
    if (closest) {
        char *text = scenes_value_text(json_object_get(closest->settings, closest_other));
        error_set(error, ERROR_VALUE, what, "%s was recorded with %s %s only", wanted,
                  closest_other, text);
        error_hint(error, "set %s %s", closest_other, text);
        free(text);
    } else {
        error_set(error, ERROR_VALUE, what, "'%s' was not recorded; there is %s", wanted,
                  *list ? list : "nothing about it");
        error_hint(error, "%s", hint ? hint : "replay off");
    }
    free(wanted);
    free(list);
    free(hint);
    json_decref(listed);
    return -1;
}
