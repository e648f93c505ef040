#include "profiler/replay.h"

#include "engine/clock.h"
#include "engine/probe/probe.h"
#include "profiler/records.h"
#include "profiler/scenes.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef LAYERTOP_VERSION
#define LAYERTOP_VERSION "unknown"
#endif

/* More is not produced while so much waits for the front. */
#define OUT_BYTES (1u << 20)

struct replay {
    int input, output;
    const char *path;
    double speed;
    const struct clock *clock;
    struct recording *recording;
    struct scenes scenes;
    struct error broken; /* the recording cannot be played */
    struct stream_buffer out;
    bool gone; /* the front takes nothing any more */

    bool loaded, playing;
    size_t scene;              /* that the front was told */
    size_t at;                 /* frame to be played next */
    int64_t told_ns;           /* when the front last heard where we are */
    int64_t start_ns, base_ns; /* our clock and the recorded one at the last start */
    uint32_t session, lost, recorded_lost;
};

static void send_json(struct replay *replay, enum stream_type type, uint64_t id, const json_t *json)
{
    stream_put_json(&replay->out, type, id, json);
}

static void send_log(struct replay *replay, json_t *line)
{
    send_json(replay, STREAM_LOG, 0, line);
    json_decref(line);
}

static const struct scene *current_scene(const struct replay *replay)
{
    return &replay->scenes.scenes[replay->scene];
}

/* A plan event, with the values of the scene. */
static void send_plan(struct replay *replay, const json_t *plan)
{
    json_t *whole = json_is_object(plan) ? json_copy((json_t *)(uintptr_t)plan) : json_null();
    if (json_is_object(whole))
        json_object_set(whole, "settings", current_scene(replay)->settings);
    send_json(replay, STREAM_PLAN, 0, whole);
    json_decref(whole);
}

static void say_hello(struct replay *replay)
{
    const json_t *recorded = replay->scenes.hello;
    const char *host = json_string_value(json_object_get(recorded, "host"));
    json_t *hello = json_pack("{s:s, s:i, s:i, s:s, s:s}", "version", LAYERTOP_VERSION, "stream",
                              STREAM_VERSION, "pid", (int)getpid(), "host", host ? host : "?",
                              "replay", replay->path);
    stream_put_preamble(&replay->out);
    send_json(replay, STREAM_HELLO, 0, hello);
    json_decref(hello);
}

/* ---- playing ---- */

/* Go on from frame `at`: what comes next is due now. */
static void play_from(struct replay *replay, size_t at)
{
    const struct scenes *scenes = &replay->scenes;
    replay->at = at;
    while (at < scenes->frame_count && scenes->frames[at].type != STREAM_RECORD)
        at++;
    replay->start_ns = clock_read_ns(replay->clock);
    replay->base_ns = at < scenes->frame_count ? scenes->frames[at].time_ns : 0;
    replay->recorded_lost = UINT32_MAX; /* not known: the next record says */
}

/* The recorded time on our clock. */
static int64_t our_time(const struct replay *replay, int64_t time_ns)
{
    double passed = (double)(time_ns - replay->base_ns);
    return replay->start_ns + (int64_t)(replay->speed > 0 ? passed / replay->speed : passed);
}

static void put64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* A record with our session and times; offsets as in records.h. */
static void send_record(struct replay *replay, uint8_t *data, size_t bytes)
{
    struct record_reader reader;
    struct record_header header;
    struct record_window window;
    const uint8_t *walls;
    if (!record_open(&reader, data, bytes, &header, NULL))
        return;
    if (replay->recorded_lost != UINT32_MAX)
        replay->lost += header.lost - replay->recorded_lost;
    replay->recorded_lost = header.lost;
    put32(data + 4, replay->session);
    put32(data + 8, 0); /* live */
    put32(data + 12, replay->lost);
    put64(data + 16, (uint64_t)our_time(replay, header.time_ns));
    if (header.kind == RECORD_WINDOW && record_get_window(&reader, &window, &walls, NULL))
        put64(data + RECORD_HEADER_BYTES, (uint64_t)our_time(replay, window.begin_ns));
    stream_put(&replay->out, STREAM_RECORD, 0, data, bytes);
}

static void send_request(struct replay *replay, const json_t *request)
{
    const char *verb = json_string_value(json_object_get(request, "verb"));
    const json_t *arguments = json_object_get(request, "arguments");
    const char *key = json_string_value(json_object_get(arguments, "key"));
    if (!verb)
        return;
    if (strcmp(verb, "set") == 0 && key) {
        char *value = scenes_value_text(json_object_get(arguments, "value"));
        send_log(replay, json_pack("{s:o}", "text", json_sprintf("recorded: %s %s", key, value)));
        free(value);
    } else if (strcmp(verb, "run") == 0) {
        send_log(replay, json_pack("{s:o}", "text",
                                   json_sprintf("recorded: run %lld",
                                                (long long)json_integer_value(
                                                    json_object_get(arguments, "steps")))));
    }
}

static void send_failure(struct replay *replay, const json_t *json)
{
    struct error error;
    stream_error_parse(json, &error);
    send_log(replay, json_pack("{s:o}", "text",
                               json_sprintf("recorded: error[E%03d]: %s: %s", (int)error.code,
                                            error.what, error.why)));
}

static void end_playing(struct replay *replay, const char *why)
{
    replay->playing = false;
    send_log(replay, json_pack("{s:s+, s:b}", "text", "the live run ended: ", why, "live", 0));
}

static void play_frame(struct replay *replay)
{
    const struct scene_frame *frame = &replay->scenes.frames[replay->at];
    uint8_t *data = xmalloc((size_t)frame->bytes + 1);
    struct error error;
    if (!recording_read(replay->recording, frame->offset, data, frame->bytes, &error)) {
        free(data);
        end_playing(replay, error.why);
        return;
    }
    struct stream_frame read = {frame->type, frame->id, data, frame->bytes};
    json_t *json = frame->type == STREAM_RECORD ? NULL : stream_frame_json(&read);
    replay->at++;
    switch (frame->type) {
    case STREAM_RECORD:
        send_record(replay, data, frame->bytes);
        break;
    case STREAM_PLAN:
        if (json_is_object(json))
            send_plan(replay, json);
        break;
    case STREAM_REQUEST:
        send_request(replay, json);
        break;
    case STREAM_FAILURE:
        send_failure(replay, json);
        break;
    case STREAM_LOG:
        if (json_is_string(json_object_get(json, "text")))
            send_log(replay, json_pack("{s:s+}", "text", "recorded: ",
                                       json_string_value(json_object_get(json, "text"))));
        break;
    default:
        break;
    }
    json_decref(json);
    free(data);
}

/* Tell the front where we are: once a second of its time, and when it changes by a leap. */
static void tell_position(struct replay *replay, bool leapt)
{
    const struct scenes *scenes = &replay->scenes;
    int64_t now_ns = clock_read_ns(replay->clock);
    if (scenes->frame_count == 0 || (!leapt && now_ns < replay->told_ns + 1000000000))
        return;
    const struct scene_frame *frames = scenes->frames;
    size_t at = replay->at < scenes->frame_count ? replay->at : scenes->frame_count - 1;
    int64_t begin_ns = frames[0].time_ns, end_ns = frames[scenes->frame_count - 1].time_ns;
    json_t *json =
        json_pack("{s:f, s:f}", "position_s", (double)(frames[at].time_ns - begin_ns) / 1e9,
                  "duration_s", (double)(end_ns - begin_ns) / 1e9);
    send_json(replay, STREAM_PROGRESS, 0, json);
    json_decref(json);
    replay->told_ns = now_ns;
}

/* Play what is due. Returns when the next frame is, CLOCK_NEVER if none is. */
static int64_t play(struct replay *replay)
{
    const struct scenes *scenes = &replay->scenes;
    while (replay->playing && stream_buffer_bytes(&replay->out) < OUT_BYTES) {
        if (replay->at >= scenes->frame_count) {
            tell_position(replay, true);
            end_playing(replay, "the recording is at its end");
            replay->at = 0;
            return CLOCK_NEVER;
        }
        const struct scene_frame *frame = &scenes->frames[replay->at];
        int64_t due_ns = our_time(replay, frame->time_ns);
        if (replay->speed > 0 && due_ns > clock_read_ns(replay->clock))
            return due_ns;
        if (frame->scene != replay->scene) {
            const struct scene *next = &scenes->scenes[frame->scene];
            if (!json_equal(next->model, current_scene(replay)->model)) {
                char why[256];
                const char *name = json_string_value(json_object_get(next->model, "name"));
                snprintf(why, sizeof why, "the recording goes on with another model: load %.100s",
                         name ? name : "?");
                end_playing(replay, why);
                replay->at = 0;
                return CLOCK_NEVER;
            }
            replay->scene = frame->scene;
            send_plan(replay, next->plan);
        }
        play_frame(replay);
    }
    return CLOCK_NEVER;
}

/* Jump to a scene; the front gets its plan at once. */
static void enter(struct replay *replay, size_t scene)
{
    replay->scene = scene;
    send_plan(replay, current_scene(replay)->plan);
    play_from(replay, current_scene(replay)->first);
    tell_position(replay, true);
}

/* ---- requests ---- */

static json_t *configure(struct replay *replay)
{
    const struct scenes *scenes = &replay->scenes;
    const json_t *devices = json_object_get(scenes->scenes[0].plan, "devices");
    char when[64] = "";
    struct tm broken_down;
    time_t seconds = (time_t)(scenes->unix_ns / 1000000000);
    if (seconds > 0 && gmtime_r(&seconds, &broken_down))
        strftime(when, sizeof when, " on %Y-%m-%d %H:%M UTC", &broken_down);
    const char *host = json_string_value(json_object_get(scenes->hello, "host"));
    return json_pack("{s:o, s:o}", "devices", devices ? json_deep_copy(devices) : json_array(),
                     "note",
                     json_sprintf("a recording of %s%s%s", host ? host : "an unknown host", when,
                                  scenes->whole ? "" : ", cut at its end"));
}

static bool names_model(const json_t *model, const char *path)
{
    const char *name = json_string_value(json_object_get(model, "name"));
    const char *file = json_string_value(json_object_get(model, "file"));
    return (name && strcmp(name, path) == 0) || (file && strcmp(file, path) == 0) ||
           (name && strncmp(path, "demo:", 5) == 0 && strcmp(name, path + 5) == 0);
}

static json_t *load(struct replay *replay, const json_t *arguments, size_t *scene,
                    struct error *error)
{
    const struct scenes *scenes = &replay->scenes;
    const char *path = json_string_value(json_object_get(arguments, "path"));
    const char *first = NULL;
    for (size_t i = 0; path && i < scenes->scene_count; i++) {
        json_t *model = scenes->scenes[i].model;
        if (!model)
            continue;
        first = first ? first : json_string_value(json_object_get(model, "name"));
        if (strcmp(path, replay->path) != 0 && !names_model(model, path))
            continue;
        *scene = i;
        return json_deep_copy(model);
    }
    if (!first) {
        error_set(error, ERROR_FILE, replay->path, "no model was loaded while it was recorded");
        error_hint(error, "replay off");
    } else {
        error_set(error, ERROR_VALUE, "load", "this is a recording of %s, which loads nothing else",
                  first);
        error_hint(error, "replay off");
    }
    return NULL;
}

static json_t *plan(const struct replay *replay, const json_t *arguments, struct error *error)
{
    const json_t *batch = json_object_get(arguments, "batch");
    long scene = (long)replay->scene;
    if (batch)
        scene = scenes_find(&replay->scenes, replay->scene, "batch", batch, error);
    if (scene < 0)
        return NULL;
    const json_t *found = replay->scenes.scenes[scene].plan;
    if (found)
        return json_deep_copy(found);
    error_set(error, ERROR_COMMAND, "plan", "the recording holds none");
    return NULL;
}

static json_t *memory(const struct replay *replay, struct error *error)
{
    static const char *const keys[] = {"weights_bytes", "arena_bytes", "workspace_bytes",
                                       "planned_bytes"};
    if (replay->scenes.memory)
        return json_deep_copy(replay->scenes.memory);
    const json_t *known = current_scene(replay)->plan;
    if (!known) {
        error_set(error, ERROR_COMMAND, "memory", "the recording holds no plan");
        return NULL;
    }
    json_t *device = json_object();
    json_object_set(device, "device", json_object_get(known, "device"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set(device, keys[i],
                        json_object_get(json_object_get(known, "memory"), keys[i]));
    return json_pack("{s:[o]}", "devices", device);
}

static json_t *set(struct replay *replay, const json_t *arguments, struct error *error)
{
    const char *key = json_string_value(json_object_get(arguments, "key"));
    const json_t *value = json_object_get(arguments, "value");
    long found = scenes_find(&replay->scenes, replay->scene, key ? key : "", value, error);
    if (found < 0)
        return NULL;
    bool moves = (size_t)found != replay->scene;
    double cost_ms = replay->scenes.scenes[found].cost_ms;
    if (moves)
        enter(replay, (size_t)found);
    return json_pack("{s:b, s:o, s:b}", "replanned", moves, "cost_ms",
                     isfinite(cost_ms) ? json_real(cost_ms) : json_null(), "restart", 0);
}

static json_t *execute(struct replay *replay, const char *verb, const json_t *arguments,
                       struct error *error)
{
    if (replay->broken.code != ERROR_NONE) {
        *error = replay->broken;
        return NULL;
    }
    if (strcmp(verb, "configure") == 0)
        return configure(replay);
    if (strcmp(verb, "unload") == 0) {
        replay->loaded = replay->playing = false;
        return json_object();
    }
    if (strcmp(verb, "devices") == 0)
        return replay->scenes.devices ? json_deep_copy(replay->scenes.devices)
                                      : json_pack("{s:[]}", "devices");
    if (strcmp(verb, "stop") == 0) {
        replay->playing = false;
        return json_object();
    }
    if (strcmp(verb, "run") == 0 || strcmp(verb, "predict") == 0 || strcmp(verb, "trim") == 0) {
        error_set(error, ERROR_UNSUPPORTED, verb, "a recording plays, it does not compute");
        error_hint(error, "replay off");
        return NULL;
    }
    if (strcmp(verb, "probe") == 0) { /* facts that were written down are the same everywhere */
        const char *file = json_string_value(json_object_get(arguments, "from"));
        json_t *read = file ? probe_file(file, error) : NULL;
        if (!file) {
            error_set(error, ERROR_UNSUPPORTED, verb, "a recording plays, it looks at no machine");
            error_hint(error, "replay off");
        }
        return read ? json_pack("{s:o}", "probes", read) : NULL;
    }
    if (!replay->loaded) {
        error_set(error, ERROR_NO_MODEL, verb, "no model is loaded");
        error_hint(error, "load %s", replay->path);
        return NULL;
    }
    if (strcmp(verb, "start") == 0) {
        replay->playing = true;
        play_from(replay, replay->at);
        return json_object();
    }
    if (strcmp(verb, "plan") == 0)
        return plan(replay, arguments, error);
    if (strcmp(verb, "memory") == 0)
        return memory(replay, error);
    if (strcmp(verb, "set") == 0)
        return set(replay, arguments, error);
    error_set(error, ERROR_UNSUPPORTED, verb, "a recording does not know it");
    return NULL;
}

static void answer(struct replay *replay, const struct stream_frame *frame)
{
    json_t *request = stream_frame_json(frame), *reply = NULL;
    const char *verb = json_string_value(json_object_get(request, "verb"));
    const json_t *arguments = json_object_get(request, "arguments");
    struct error error = {0};
    size_t scene = 0;
    bool loads = verb && strcmp(verb, "load") == 0 && replay->broken.code == ERROR_NONE;
    if (!verb)
        error_set(&error, ERROR_STREAM, "request", "it cannot be read");
    else
        reply = loads ? load(replay, arguments, &scene, &error)
                      : execute(replay, verb, arguments, &error);
    if (reply) {
        send_json(replay, STREAM_REPLY, frame->id, reply);
    } else {
        json_t *json = stream_error_json(&error);
        send_json(replay, STREAM_FAILURE, frame->id, json);
        json_decref(json);
    }
    if (loads && reply) { /* its plan follows the reply */
        replay->loaded = true;
        enter(replay, scene);
    }
    json_decref(reply);
    json_decref(request);
}

/* false once the front is gone. */
static bool read_requests(struct replay *replay, struct stream_decoder *decoder)
{
    uint8_t block[16384];
    ssize_t got = read(replay->input, block, sizeof block);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    stream_decoder_feed(decoder, block, (size_t)got);
    struct stream_frame frame;
    enum stream_result result;
    while ((result = stream_decoder_next(decoder, &frame, NULL)) == STREAM_FRAME)
        if (frame.type == STREAM_REQUEST) /* nothing takes long enough to be cancelled */
            answer(replay, &frame);
    return result == STREAM_MORE;
}

static void write_out(struct replay *replay)
{
    size_t bytes;
    while (!replay->gone && (bytes = stream_buffer_bytes(&replay->out)) > 0) {
        ssize_t written = write(replay->output, replay->out.data + replay->out.start, bytes);
        if (written > 0)
            stream_buffer_consume(&replay->out, (size_t)written);
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            replay->gone = true;
    }
}

int replay_main(int input_fd, int output_fd, const char *path, double speed,
                const struct clock *clock)
{
    struct replay replay = {
        .input = input_fd, .output = output_fd, .path = path, .speed = speed, .clock = clock};
    struct stream_decoder decoder;
    struct timespec now;
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    fcntl(input_fd, F_SETFL, fcntl(input_fd, F_GETFL) | O_NONBLOCK);
    fcntl(output_fd, F_SETFL, fcntl(output_fd, F_GETFL) | O_NONBLOCK);
    clock_gettime(CLOCK_REALTIME, &now);
    replay.session = ((uint32_t)now.tv_nsec * 2654435761u ^ (uint32_t)getpid()) | 1;
    replay.recording = recording_open(path, &replay.broken);
    if (replay.recording)
        scenes_read(&replay.scenes, replay.recording, &replay.broken);
    stream_decoder_init(&decoder);
    say_hello(&replay);
    bool reading = true;
    while (reading && !replay.gone) {
        int64_t until_ns = play(&replay);
        if (replay.playing)
            tell_position(&replay, false);
        write_out(&replay);
        bool pending = stream_buffer_bytes(&replay.out) > 0;
        if (replay.playing && !pending && until_ns == CLOCK_NEVER)
            until_ns = 0; /* there was more than fits at once */
        struct pollfd fds[] = {{.fd = replay.input, .events = POLLIN},
                               {.fd = pending ? replay.output : -1, .events = POLLOUT}};
        clock->wait(clock->context, fds, 2, until_ns);
        if (fds[0].revents)
            reading = read_requests(&replay, &decoder);
    }
    stream_decoder_free(&decoder);
    stream_buffer_free(&replay.out);
    scenes_free(&replay.scenes);
    recording_close(replay.recording);
    return 0;
}
