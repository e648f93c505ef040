#include "commands/compare_recordings.h"

#include "commands/compare_report.h"
#include "commands/format.h"
#include "commands/workbench_private.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of what lies one after the other neighbours are alike; means of longer stretches are not, and that
 * is what the interval supposes. Each has at least so many windows. */
#define SLICES        20
#define SLICE_WINDOWS 2

struct played {
    const char *path; /* of argv */
    char name[128], device[64], precision[16];
    double batch;
    size_t layer_count;
    struct trial_layer *layers;
    double *layer_ms; /* mean step of each */
    double *slices;   /* [layer * SLICES + i]; NaN: none */
    double walls[SLICES];
    size_t slice_count;
    double wall_ms; /* mean */
};

struct playing {
    struct played sides[2];
    int at;
    size_t top;
    int64_t start_ns;
};

static void free_playing(void *state)
{
    struct playing *playing = state;
    for (int s = 0; s < 2; s++) {
        struct played *side = &playing->sides[s];
        for (size_t i = 0; i < side->layer_count; i++) {
            free(side->layers[i].name);
            free(side->layers[i].class_name);
            free(side->layers[i].shape);
            free(side->layers[i].label);
        }
        free(side->layers);
        free(side->layer_ms);
        free(side->slices);
    }
    free(playing);
}

bool compare_is_recording(const char *name)
{
    static const char *const endings[] = {".ltr", ".part"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t length = strlen(name), tail = strlen(endings[i]);
        if (length > tail && strcmp(name + length - tail, endings[i]) == 0)
            return true;
    }
    return false;
}

/* ---- what was played ---- */

/* Means of equal stretches of a series; returns how many. */
static size_t read_slices(const struct series *series, int64_t from_ns, int64_t to_ns, double *out)
{
    struct series_cell cells[SLICES];
    size_t columns = SLICES, windows = 0, count = 0;
    series_read(series, from_ns, to_ns, columns, cells);
    for (size_t i = 0; i < columns; i++)
        windows += cells[i].count;
    if (windows < SLICES * SLICE_WINDOWS) {
        columns = windows / SLICE_WINDOWS > 0 ? windows / SLICE_WINDOWS : 1;
        series_read(series, from_ns, to_ns, columns, cells);
    }
    for (size_t i = 0; i < columns; i++)
        if (cells[i].count > 0 && cells[i].mean > 0)
            out[count++] = (double)cells[i].mean;
    return count;
}

static void copy_text(char *out, size_t size, const json_t *object, const char *key)
{
    snprintf(out, size, "%s", json_string_value(json_object_get(object, key)) ?: "-");
}

/* The last stretch with one plan, as the store has it now. */
static void keep(const struct workbench *workbench, struct played *side, int64_t start_ns)
{
    const struct store *store = workbench_store(workbench);
    int64_t from_ns = store_plan_time_ns(store), to_ns = store_time_ns(store) + 1;
    struct summary wall;
    from_ns = from_ns > start_ns ? from_ns + 1 : start_ns;
    copy_text(side->name, sizeof side->name, workbench_model(workbench), "name");
    copy_text(side->device, sizeof side->device, workbench_plan(workbench), "device");
    copy_text(side->precision, sizeof side->precision, workbench_plan(workbench), "precision");
    side->batch = json_get_double(workbench_plan(workbench), "batch");
    store_wall(store, &wall);
    side->wall_ms = wall.mean;
    side->slice_count =
        read_slices(store_series_get(store, SERIES_STEP_MS), from_ns, to_ns, side->walls);
    side->layer_count = store_layer_count(store);
    side->layers = xcalloc(side->layer_count + 1, sizeof *side->layers);
    side->layer_ms = xcalloc(side->layer_count + 1, sizeof *side->layer_ms);
    side->slices = xcalloc(side->layer_count * SLICES + 1, sizeof *side->slices);
    for (size_t i = 0; i < side->layer_count; i++) {
        struct store_layer layer;
        store_layer(store, i, &layer);
        side->layers[i] =
            (struct trial_layer){.name = xstrdup(layer.name),
                                 .class_name = xstrdup(layer.class_name),
                                 .shape = xstrdup(layer.output_shape ? layer.output_shape : ""),
                                 .label = xstrdup(layer.label)};
        bool timed = layer.fused_into < 0 && layer.total.count > 0;
        side->layer_ms[i] = timed ? layer.total.mean : (double)NAN;
        double *slices = &side->slices[i * SLICES];
        size_t count = timed ? read_slices(layer.series, from_ns, to_ns, slices) : 0;
        for (; count < SLICES; count++)
            slices[count] = NAN;
    }
}

/* ---- what is told ---- */

/* Times of a sample, so that batches may differ. */
static void times_of(const struct played side[2], const double *a, const double *b,
                     struct pairs_ratio *out)
{
    double x[SLICES], y[SLICES];
    size_t a_count = 0, b_count = 0;
    for (size_t i = 0; i < SLICES; i++) {
        if (isfinite(a[i]))
            x[a_count++] = a[i] / side[0].batch;
        if (isfinite(b[i]))
            y[b_count++] = b[i] / side[1].batch;
    }
    samples_ratio(x, a_count, y, b_count, out);
}

static void layer_times(const void *context, size_t a, size_t b, struct pairs_ratio *out)
{
    const struct playing *playing = context;
    times_of(playing->sides, &playing->sides[0].slices[a * SLICES],
             &playing->sides[1].slices[b * SLICES], out);
}

static void tell_side(struct execution *execution, const struct played *side, int which)
{
    char time[FORMAT_SIZE], rate[FORMAT_SIZE];
    double rate_per_s = side->batch / side->wall_ms * 1e3;
    execution_print(execution, "  %c  %s: %s on %s, batch %.0f, %s  %9s a step  %9s samples/s",
                    'A' + which, side->path, side->name, side->device, side->batch, side->precision,
                    format_time_ms(time, sizeof time, side->wall_ms),
                    format_count(rate, sizeof rate, rate_per_s));
    json_object_set_new(execution->data, which ? "b" : "a",
                        json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:I}", "file", side->path,
                                  "name", side->name, "device", side->device, "precision",
                                  side->precision, "batch", json_number(side->batch), "wall_ms",
                                  json_number(side->wall_ms), "throughput_per_s",
                                  json_number(rate_per_s), "slices",
                                  (json_int_t)side->slice_count));
}

static void tell(struct execution *execution)
{
    struct playing *playing = execution->state;
    struct compare_side side[2];
    struct pairs_ratio times;
    double walls[2][SLICES];
    for (int s = 0; s < 2; s++) {
        const struct played *played = &playing->sides[s];
        side[s] = (struct compare_side){played->layers, played->layer_ms, played->layer_count};
        for (size_t i = 0; i < SLICES; i++)
            walls[s][i] = i < played->slice_count ? played->walls[i] : (double)NAN;
    }
    times_of(playing->sides, walls[0], walls[1], &times);
    execution_print(execution, "two recordings, each in up to %d stretches of time", SLICES);
    tell_side(execution, &playing->sides[0], 0);
    tell_side(execution, &playing->sides[1], 1);
    execution_print(execution,
                    "%s: B has %.3f times A's speed, 95 %% interval %.3f to %.3f, by sample",
                    compare_verdict(&times), 1 / times.ratio, 1 / times.high, 1 / times.low);
    json_object_set_new(execution->data, "recordings", json_true());
    json_object_set_new(execution->data, "speedup", json_number(1 / times.ratio));
    json_object_set_new(execution->data, "speedup_interval", compare_interval_json(&times));
    json_object_set_new(execution->data, "verdict", json_string(compare_verdict(&times)));
    json_object_set_new(execution->data, "agreement", json_null());
    compare_report_layers(execution, side, layer_times, playing, playing->top);
    execution_print(execution, "they were made at different times: what drifted between them is in "
                               "these figures too");
    execution_done(execution);
}

/* ---- playing one after the other ---- */

static void play(struct execution *execution);

static void failed(struct execution *execution, const struct error *error)
{
    workbench_replay_off(execution->workbench);
    execution_fail(execution, error);
}

static void came_back(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data)
        execution_warn(execution, "the model before could not be loaded again: %s", error->why);
    tell(execution);
}

/* Out of the recordings: the model that was there before is loaded again by whatever is asked. */
static void left(struct execution *execution)
{
    struct workbench *workbench = execution->workbench;
    if (workbench->replay.path)
        return;
    execution->tick = NULL;
    if (workbench->load_arguments)
        execution_request(execution, "memory", NULL, came_back);
    else
        tell(execution);
}

static void wait_for_end(struct execution *execution)
{
    struct playing *playing = execution->state;
    struct workbench *workbench = execution->workbench;
    struct error error = {0};
    if (workbench->live && workbench->engine)
        return;
    execution->tick = NULL;
    if (!workbench->engine) {
        error_set(&error, ERROR_WORKER, "compare", "%s", workbench_notice(workbench));
        failed(execution, &error);
        return;
    }
    keep(workbench, &playing->sides[playing->at], playing->start_ns);
    if (playing->at++ == 0) {
        play(execution);
        return;
    }
    workbench_replay_off(workbench);
    execution->tick = left;
}

static void started(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        failed(execution, error);
        return;
    }
    execution->workbench->live = true;
    execution->tick = wait_for_end;
}

static void loaded(struct execution *execution, const json_t *data, const struct error *error)
{
    struct workbench *workbench = execution->workbench;
    if (!data) {
        failed(execution, error);
        return;
    }
    workbench_loaded(workbench, data, json_pack("{s:s}", "path", workbench->replay.path));
    execution_request(execution, "start", NULL, started);
}

static void play(struct execution *execution)
{
    struct playing *playing = execution->state;
    const char *path = playing->sides[playing->at].path;
    playing->start_ns = workbench_now_ns(execution->workbench);
    workbench_replay(execution->workbench, path, 0);
    execution->workbench->live = false;
    execution_request(execution, "load", json_pack("{s:s}", "path", path), loaded);
}

void compare_recordings(struct execution *execution, const char *a, const char *b, size_t top)
{
    struct playing *playing = xcalloc(1, sizeof *playing);
    struct error error = {0};
    playing->sides[0].path = a;
    playing->sides[1].path = b;
    playing->top = top;
    execution->state = playing;
    execution->free_state = free_playing;
    for (int s = 0; s < 2; s++) {
        const char *path = playing->sides[s].path;
        if (access(path, R_OK) == 0)
            continue;
        error_set(&error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
        execution_fail(execution, &error);
        return;
    }
    if (execution->workbench->recording) {
        error_set(&error, ERROR_COMMAND, "compare", "a recording is being written");
        error_hint(&error, "record off");
        execution_fail(execution, &error);
        return;
    }
    play(execution);
}
