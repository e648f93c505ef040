#include "support/actor.h"

#include "engine/stream.h"
#include "profiler/records.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS         INT64_C(1000000)
#define WINDOW_NS  (100 * MS)
#define MIB        1048576.0
#define BATCH_MOST 4096

struct actor {
    int input, output;
    const struct clock *clock;
    struct stream_buffer out;
    struct actor_model model; /* count 0: none */
    json_t *settings, *plan;
    bool live;
    uint64_t run_id; /* of the request, 0: no run */
    int64_t run_steps, run_done;
    int64_t due_ns; /* of the next window, CLOCK_NEVER: nothing runs */
};

/* ---- what it costs ---- */

static int64_t batch_of(const struct actor *actor)
{
    int64_t batch = json_integer_value(json_object_get(actor->settings, "batch"));
    return batch > 0 ? batch : 32;
}

static const char *word_of(const struct actor *actor, const char *key, const char *otherwise)
{
    const char *word = json_string_value(json_object_get(actor->settings, key));
    return word != NULL ? word : otherwise;
}

static bool on_gpu(const struct actor *actor)
{
    const char *first =
        json_string_value(json_array_get(json_object_get(actor->settings, "devices"), 0));
    return first != NULL && strncmp(first, "gpu", 3) == 0;
}

/* Between -1 and 1, up and down in `period` windows. */
static double wave(int64_t window, int64_t period)
{
    int64_t at = window % period;
    double up = (double)(2 * at) / (double)period;
    return up < 1 ? 2 * up - 1 : 3 - 2 * up;
}

/* Of a step in this window. */
static int64_t layer_ns(const struct actor *actor, int index, int64_t window)
{
    const struct actor_layer *layer = &actor->model.layers[index];
    double precision = strcmp(word_of(actor, "precision", "fp32"), "bf16") == 0 ? 0.6 : 1;
    double ns = 1000 * (2 + layer->microseconds * (double)batch_of(actor) * precision);
    ns /= on_gpu(actor) ? 20 : 1;
    return (int64_t)(ns * (1 + 0.1 * wave(window + index * 7, 40 + index % 5)));
}

static bool runs(const struct actor_layer *layer)
{
    return layer->fused_into < 0 && layer->microseconds > 0;
}

static int64_t step_ns(const struct actor *actor, int64_t window)
{
    int64_t sum = 0;
    for (int i = 0; i < actor->model.count; i++)
        sum += runs(&actor->model.layers[i]) ? layer_ns(actor, i, window) : 0;
    return sum + sum / 20 + 30000; /* gaps, and what is done before the first layer */
}

static double planned_bytes(const struct actor *actor, double *weights, double *arena)
{
    *weights = *arena = 0;
    for (int i = 0; i < actor->model.count; i++) {
        const struct actor_layer *layer = &actor->model.layers[i];
        *weights += 4 * layer->parameters;
        *arena = layer->bytes > *arena ? layer->bytes : *arena;
    }
    *arena *= (double)batch_of(actor);
    return *weights + *arena + MIB;
}

/* ---- what it says ---- */

static void send_json(struct actor *actor, enum stream_type type, uint64_t id, json_t *json)
{
    stream_put_json(&actor->out, type, id, json);
    json_decref(json);
}

static json_t *clean_name(const char *name)
{
    char text[1024];
    json_t *json = json_string(name);
    return json != NULL ? json : json_string(text_clean(text, sizeof text, name));
}

static json_t *describe_model(const struct actor *actor, const char *path)
{
    json_t *layers = json_array();
    double parameters = 0;
    for (int i = 0; i < actor->model.count; i++) {
        const struct actor_layer *layer = &actor->model.layers[i];
        json_array_append_new(layers,
                              json_pack("{s:o, s:o, s:s, s:I}", "name", clean_name(layer->name),
                                        "path", clean_name(layer->name), "class", layer->class_name,
                                        "parameters", (json_int_t)layer->parameters));
        parameters += layer->parameters;
    }
    return json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:o}", "name", actor->model.name, "file", path,
                     "format", "demo", "parameters", parameters, "weight_bytes", 4 * parameters,
                     "load_ms", 12.5, "layers", layers);
}

static json_t *describe_plan(const struct actor *actor)
{
    const int64_t batch = batch_of(actor);
    double weights, arena, planned = planned_bytes(actor, &weights, &arena);
    const char *device = on_gpu(actor) ? "gpu:0" : "cpu";
    json_t *layers = json_array();
    for (int i = 0; i < actor->model.count; i++) {
        const struct actor_layer *layer = &actor->model.layers[i];
        json_t *fused = json_array(),
               *into = layer->fused_into < 0
                           ? json_null()
                           : clean_name(actor->model.layers[layer->fused_into].name);
        for (int k = i + 1; k < actor->model.count; k++)
            if (actor->model.layers[k].fused_into == i)
                json_array_append_new(fused, clean_name(actor->model.layers[k].name));
        json_array_append_new(
            layers,
            json_pack("{s:i, s:o, s:s, s:o, s:o, s:I, s:I, s:s, s:o}", "layer", i, "name",
                      clean_name(layer->name), "class", layer->class_name, "fused_into", into,
                      "fused", fused, "flops", (json_int_t)layer->flops * batch, "bytes",
                      (json_int_t)layer->bytes * batch, "impl",
                      !runs(layer)    ? ""
                      : on_gpu(actor) ? "cudnn"
                                      : "onednn",
                      "output_shape", json_sprintf("(%lld, %s)", (long long)batch, layer->shape)));
    }
    return json_pack("{s:s, s:[s], s:I, s:s, s:b, s:b, s:s, s:f, s:{s:f, s:f, s:f, s:f}, s:o}",
                     "device", device, "devices", device, "batch", (json_int_t)batch, "precision",
                     word_of(actor, "precision", "fp32"), "fusion", 1, "graph", 1, "timing_source",
                     on_gpu(actor) ? "cupti" : "clock", "plan_ms", 3.0, "memory", "planned_bytes",
                     planned, "weights_bytes", weights, "arena_bytes", arena, "workspace_bytes",
                     MIB, "layers", layers);
}

static void replan(struct actor *actor)
{
    json_decref(actor->plan);
    actor->plan = actor->model.count > 0 ? describe_plan(actor) : json_null();
    send_json(actor, STREAM_PLAN, 0, json_incref(actor->plan));
}

static void put_record(struct actor *actor, struct record_writer *writer)
{
    stream_put(&actor->out, STREAM_RECORD, 0, writer->data, writer->bytes);
}

/* One window of `steps` steps that ends at `time_ns`. */
static void put_window(struct actor *actor, int64_t time_ns, int64_t steps)
{
    const int64_t number = time_ns / WINDOW_NS;
    struct record_writer writer = {0};
    /* session 0: its times are the front's */
    struct record_header header = {.kind = RECORD_WINDOW,
                                   .device = on_gpu(actor) ? 0 : RECORD_CPU,
                                   .segment = (uint32_t)actor->run_id,
                                   .time_ns = time_ns};
    struct record_layer layers[ACTOR_LAYERS];
    uint32_t count = 0;
    int64_t busy = 0, wall = step_ns(actor, number);
    for (int i = 0; i < actor->model.count; i++) {
        if (!runs(&actor->model.layers[i]))
            continue;
        int64_t ns = layer_ns(actor, i, number);
        layers[count++] = (struct record_layer){.layer = (uint32_t)i,
                                                .steps = (uint32_t)steps,
                                                .kernels = (uint64_t)steps,
                                                .sum_ns = ns * steps,
                                                .min_ns = ns,
                                                .max_ns = ns};
        busy += ns;
    }
    float *walls = xcalloc((size_t)steps, sizeof *walls);
    for (int64_t i = 0; i < steps; i++)
        walls[i] = (float)((double)wall / 1e6);
    struct record_window window = {
        .begin_ns = time_ns - WINDOW_NS,
        .timing = on_gpu(actor) ? TIMING_CUPTI : TIMING_CLOCK,
        .known = 63,
        .wall_count = (uint32_t)steps,
        .layer_count = count,
        .ledger_steps = (uint32_t)steps,
        .samples = (uint64_t)(steps * batch_of(actor)),
        .rate_ns = wall * steps,
        .class_ns = {[LEDGER_KERNEL] = busy * steps,
                     [LEDGER_PREPROCESS] = 20000 * steps,
                     [LEDGER_GAP] = (wall - busy - 25000) * steps},
        .unexplained_ns = 5000 * steps,
        .wall_ns = wall * steps,
    };
    record_begin(&writer, &header);
    record_put_window(&writer, &window, walls);
    for (uint32_t i = 0; i < count; i++) {
        struct histogram histogram;
        histogram_init(&histogram);
        histogram_add(&histogram, histogram_bucket(layers[i].min_ns), (uint32_t)steps);
        record_put_layer(&writer, &layers[i], &histogram);
    }
    put_record(actor, &writer);
    double weights, arena;
    planned_bytes(actor, &weights, &arena);
    struct record_memory memory = {
        .category = {(uint64_t)weights, (uint64_t)arena, (uint64_t)MIB, 0,
                     (uint64_t)((on_gpu(actor) ? 51 : 60) * MIB)},
        .used = (uint64_t)(weights + arena + 61 * MIB),
        .total = on_gpu(actor) ? UINT64_C(150000000000) : UINT64_C(16000000000),
        .library = on_gpu(actor) ? (uint64_t)(12 * MIB) : RECORD_UNKNOWN,
        .cupti = on_gpu(actor) ? (uint64_t)(9 * MIB) : RECORD_UNKNOWN,
    };
    header.kind = RECORD_MEMORY;
    record_begin(&writer, &header);
    record_put_memory(&writer, &memory);
    put_record(actor, &writer);
    if (on_gpu(actor)) {
        struct record_device device = {.clock_mhz = 1980,
                                       .temperature_c = 61,
                                       .power_w = 412,
                                       .util = 0.97f,
                                       .used = memory.used,
                                       .total = memory.total,
                                       .ours = memory.used};
        header.kind = RECORD_DEVICE;
        record_begin(&writer, &header);
        record_put_device(&writer, &device);
        put_record(actor, &writer);
    }
    free(walls);
    free(writer.data);
}

/* ---- what it does ---- */

static void answer(struct actor *actor, uint64_t id, json_t *reply)
{
    send_json(actor, STREAM_REPLY, id, reply);
}

static void refuse(struct actor *actor, uint64_t id, enum error_code code, const char *what,
                   const char *why, const char *hint)
{
    struct error error;
    error_set(&error, code, what, "%s", why);
    if (hint != NULL)
        error_hint(&error, "%s", hint);
    send_json(actor, STREAM_FAILURE, id, stream_error_json(&error));
}

static void end_run(struct actor *actor)
{
    double ms = (double)step_ns(actor, 0) / 1e6, weights, arena;
    double planned = planned_bytes(actor, &weights, &arena);
    answer(
        actor, actor->run_id,
        json_pack("{s:I, s:s, s:I, s:s, s:I, s:i, s:b, s:{s:f, s:f, s:f, s:f, s:f}, s:f, s:{s:f, "
                  "s:f, s:f}}",
                  "segment", (json_int_t)actor->run_id, "device", on_gpu(actor) ? "gpu:0" : "cpu",
                  "batch", (json_int_t)batch_of(actor), "precision",
                  word_of(actor, "precision", "fp32"), "steps", (json_int_t)actor->run_steps,
                  "warmup", 3, "steady", 1, "wall_ms", "median", ms, "p90", ms * 1.08, "p95",
                  ms * 1.1, "min", ms * 0.9, "mean", ms, "throughput_per_s",
                  (double)batch_of(actor) / ms * 1e3, "memory", "planned_bytes", planned,
                  "measured_bytes", planned * 1.001, "context_bytes", 0.0));
    actor->run_id = 0;
    actor->due_ns = actor->live ? actor->due_ns : CLOCK_NEVER;
}

/* What is due now: a window of live steps, or of a run's. */
static void play(struct actor *actor)
{
    while (actor->due_ns <= clock_read_ns(actor->clock)) {
        int64_t steps = WINDOW_NS / step_ns(actor, actor->due_ns / WINDOW_NS);
        steps = steps > 0 ? steps : 1;
        if (actor->run_id != 0 && steps > actor->run_steps - actor->run_done)
            steps = actor->run_steps - actor->run_done;
        put_window(actor, actor->due_ns, steps);
        actor->due_ns += WINDOW_NS;
        if (actor->run_id == 0)
            continue;
        actor->run_done += steps;
        send_json(actor, STREAM_PROGRESS, actor->run_id,
                  json_pack("{s:f, s:o}", "fraction",
                            (double)actor->run_done / (double)actor->run_steps, "text",
                            json_sprintf("step %lld of %lld", (long long)actor->run_done,
                                         (long long)actor->run_steps)));
        if (actor->run_done >= actor->run_steps)
            end_run(actor);
    }
}

static void begin_windows(struct actor *actor)
{
    int64_t now = clock_read_ns(actor->clock);
    actor->due_ns = now - now % WINDOW_NS + WINDOW_NS;
}

static void load(struct actor *actor, uint64_t id, const json_t *arguments)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));
    struct actor_model model = {0};
    if (path == NULL || !actor_model_make(path, &model)) {
        refuse(actor, id, ERROR_MODEL_FILE, path != NULL ? path : "load",
               "cannot be opened: No such file or directory", "load demo:digits");
        return;
    }
    actor->model = model;
    answer(actor, id, describe_model(actor, path));
    replan(actor);
}

static void set(struct actor *actor, uint64_t id, const json_t *arguments)
{
    const char *key = json_string_value(json_object_get(arguments, "key"));
    json_t *value = json_object_get(arguments, "value");
    if (strcmp(key, "batch") == 0 && json_integer_value(value) > BATCH_MOST) {
        refuse(actor, id, ERROR_MEMORY, "batch",
               "the activations of conv2 need 97 GiB, 15 GiB are free", "batch 4096");
        return;
    }
    json_object_set(actor->settings, key, value);
    if (actor->model.count > 0)
        replan(actor);
    answer(actor, id, json_pack("{s:b, s:f, s:b}", "replanned", 1, "cost_ms", 3.0, "restart", 0));
}

static json_t *describe_devices(void)
{
    return json_pack("{s:[{s:s, s:s, s:b, s:f, s:f, s:i}, {s:s, s:s, s:b, s:f, s:f, s:s}]}",
                     "devices", "id", "cpu", "name", "Actor CPU", "usable", 1, "total_bytes", 16e9,
                     "free_bytes", 12e9, "threads", 8, "id", "gpu:0", "name", "Actor GPU H1",
                     "usable", 1, "total_bytes", 150e9, "free_bytes", 149e9, "driver", "580.65");
}

static json_t *describe_memory(const struct actor *actor)
{
    double weights, arena, planned = planned_bytes(actor, &weights, &arena);
    json_t *context = json_null(), *library = json_null(), *cupti = json_null();
    if (on_gpu(actor)) {
        context = json_real(39 * MIB);
        library = json_real(12 * MIB);
        cupti = json_real(9 * MIB);
    }
    return json_pack("{s:[{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:o}], s:{s:s, "
                     "s:f, s:[{s:s, s:s, s:f}]}}",
                     "devices", "device", on_gpu(actor) ? "gpu:0" : "cpu", "total_bytes", 16e9,
                     "free_bytes", 12e9, "used_by_us_bytes", planned, "weights_bytes", weights,
                     "arena_bytes", arena, "workspace_bytes", MIB, "idle_bytes", 0.0,
                     "planned_bytes", planned, "context_bytes", context, "library_bytes", library,
                     "cupti_bytes", cupti, "plan", "peak_layer", "conv2", "peak_live_bytes", arena,
                     "live", "layer", "conv1", "shape", "(32, 28, 28, 12)", "bytes", arena / 2);
}

static void act(struct actor *actor, uint64_t id, const char *verb, const json_t *arguments)
{
    bool needs_model = strcmp(verb, "start") == 0 || strcmp(verb, "run") == 0 ||
                       strcmp(verb, "plan") == 0 || strcmp(verb, "memory") == 0;
    if (needs_model && actor->model.count == 0) {
        refuse(actor, id, ERROR_NO_MODEL, verb, "no model is loaded", "load demo:digits");
    } else if (strcmp(verb, "configure") == 0) {
        json_object_update(actor->settings, json_object_get(arguments, "settings"));
        answer(actor, id, json_pack("{s:[s]}", "devices", on_gpu(actor) ? "gpu:0" : "cpu"));
    } else if (strcmp(verb, "load") == 0) {
        load(actor, id, arguments);
    } else if (strcmp(verb, "unload") == 0) {
        actor->model.count = 0;
        actor->live = false;
        actor->due_ns = CLOCK_NEVER;
        replan(actor);
        answer(actor, id, json_object());
    } else if (strcmp(verb, "set") == 0) {
        set(actor, id, arguments);
    } else if (strcmp(verb, "start") == 0 || strcmp(verb, "run") == 0) {
        if (actor->due_ns == CLOCK_NEVER)
            begin_windows(actor);
        actor->live = actor->live || strcmp(verb, "start") == 0;
        if (strcmp(verb, "run") == 0) {
            actor->run_id = id;
            actor->run_steps = json_integer_value(json_object_get(arguments, "steps"));
            actor->run_done = 0;
        } else {
            answer(actor, id, json_object());
        }
    } else if (strcmp(verb, "stop") == 0) {
        actor->live = false;
        actor->due_ns = CLOCK_NEVER;
        answer(actor, id, json_object());
    } else if (strcmp(verb, "devices") == 0) {
        answer(actor, id, describe_devices());
    } else if (strcmp(verb, "memory") == 0) {
        answer(actor, id, describe_memory(actor));
    } else if (strcmp(verb, "plan") == 0) {
        answer(actor, id, json_deep_copy(actor->plan));
    } else {
        refuse(actor, id, ERROR_UNSUPPORTED, verb, "an actor does not do that", NULL);
    }
}

/* ---- the loop ---- */

static void read_frame(struct actor *actor, const struct stream_frame *frame)
{
    if (frame->type == STREAM_CANCEL && actor->run_id != 0) {
        refuse(actor, actor->run_id, ERROR_INTERRUPTED, "run", "cancelled", NULL);
        actor->run_id = 0;
        actor->due_ns = actor->live ? actor->due_ns : CLOCK_NEVER;
    }
    if (frame->type != STREAM_REQUEST)
        return;
    json_t *request = stream_frame_json(frame);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    act(actor, frame->id, verb != NULL ? verb : "", json_object_get(request, "arguments"));
    json_decref(request);
}

/* false once the front is gone. */
static bool read_all(struct actor *actor, struct stream_decoder *decoder)
{
    uint8_t block[65536];
    struct stream_frame frame;
    ssize_t got = read(actor->input, block, sizeof block);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    stream_decoder_feed(decoder, block, (size_t)got);
    while (stream_decoder_next(decoder, &frame, NULL) == STREAM_FRAME)
        read_frame(actor, &frame);
    return true;
}

static bool write_all(struct actor *actor)
{
    size_t bytes;
    while ((bytes = stream_buffer_bytes(&actor->out)) > 0) {
        ssize_t written = write(actor->output, actor->out.data + actor->out.start, bytes);
        if (written <= 0)
            return errno == EAGAIN || errno == EINTR;
        stream_buffer_consume(&actor->out, (size_t)written);
    }
    return true;
}

int actor_main(int input_fd, int output_fd, const struct clock *clock)
{
    struct actor actor = {.input = input_fd,
                          .output = output_fd,
                          .clock = clock,
                          .settings = json_object(),
                          .due_ns = CLOCK_NEVER};
    struct stream_decoder decoder;
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    fcntl(input_fd, F_SETFL, fcntl(input_fd, F_GETFL) | O_NONBLOCK);
    fcntl(output_fd, F_SETFL, fcntl(output_fd, F_GETFL) | O_NONBLOCK);
    stream_decoder_init(&decoder);
    stream_put_preamble(&actor.out);
    send_json(&actor, STREAM_HELLO, 0,
              json_pack("{s:s, s:i, s:i, s:s}", "version", "test", "stream", STREAM_VERSION, "pid",
                        4242, "host", "stage"));
    bool going = true;
    while (going && write_all(&actor)) {
        bool pending = stream_buffer_bytes(&actor.out) > 0;
        struct pollfd fds[] = {{.fd = actor.input, .events = POLLIN},
                               {.fd = pending ? actor.output : -1, .events = POLLOUT}};
        clock->wait(clock->context, fds, 2, actor.due_ns);
        play(&actor);
        if (fds[0].revents != 0)
            going = read_all(&actor, &decoder);
    }
    stream_decoder_free(&decoder);
    stream_buffer_free(&actor.out);
    json_decref(actor.settings);
    json_decref(actor.plan);
    return 0;
}
