#include "commands/export_data.h"

#include "commands/format.h"
#include "commands/layer_rows.h"
#include "commands/measures.h"
#include "commands/workbench_private.h"

#include "engine/output_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERIES_SPAN_NS INT64_C(600000000000)
#define SERIES_CELLS   1200
#define TRACE_SPAN_NS  INT64_C(30000000000)
#define TRACE_CELLS    300
#define TRACE_PROCESS  1
#define TRACE_THREAD   1

/* ---- files ---- */

static void finish(struct execution *execution, const char *path, size_t things, const char *name,
                   bool ok, const struct error *error)
{
    if (!ok) {
        execution_fail(execution, error);
        return;
    }
    json_object_set_new(execution->data, "path", json_string(path));
    json_object_set_new(execution->data, name, json_integer((json_int_t)things));
    execution_print(execution, "wrote %s: %zu %s", path, things, name);
    execution_done(execution);
}

static void write_json(struct execution *execution, const char *path, json_t *whole, size_t things,
                       const char *name)
{
    struct error error = {0};
    struct output_file output;
    FILE *file = output_file_open(&output, path, &error);
    bool ok = file &&
              output_file_close(&output, file, json_dumpf(whole, file, JSON_COMPACT) == 0, &error);
    json_decref(whole);
    finish(execution, path, things, name, ok, &error);
}

/* The rows that `layers` would show now. */
static size_t read_rows(const struct workbench *workbench, struct layer_row **rows, double *wall_ms)
{
    uint32_t segment = workbench_state(workbench) == STATE_LIVE ? 0 : workbench->last_segment;
    double mean_ms =
        segment ? json_get_double(json_object_get(workbench->last_run, "wall_ms"), "mean") : NAN;
    return layer_rows_read(workbench_store(workbench), segment, mean_ms, rows, wall_ms);
}

/* ---- json ---- */

/* The unit stands in the key. */
static const char *const series_keys[SERIES_COUNT] = {
    [SERIES_STEP_MS] = "step_ms",
    [SERIES_THROUGHPUT_CPU] = "throughput_cpu_per_s",
    [SERIES_THROUGHPUT_GPU] = "throughput_gpu_per_s",
    [SERIES_MEMORY_WEIGHTS] = "memory_weights_bytes",
    [SERIES_MEMORY_ACTIVATIONS] = "memory_activations_bytes",
    [SERIES_MEMORY_WORKSPACE] = "memory_workspace_bytes",
    [SERIES_MEMORY_IDLE] = "memory_idle_bytes",
    [SERIES_MEMORY_OTHER] = "memory_other_bytes",
    [SERIES_MEMORY_CONTEXT] = "memory_context_bytes",
    [SERIES_MEMORY_CUPTI] = "memory_cupti_bytes",
    [SERIES_MEMORY_FOREIGN] = "memory_other_processes_bytes",
    [SERIES_MEMORY_FREE] = "memory_free_bytes",
    [SERIES_MEMORY_USED] = "memory_used_bytes",
    [SERIES_MEMORY_TOTAL] = "memory_total_bytes",
    [SERIES_LIBRARY_ALLOC] = "memory_libraries_bytes",
    [SERIES_GPU_CLOCK_MHZ] = "gpu_clock_mhz",
    [SERIES_GPU_TEMPERATURE_C] = "gpu_temperature_c",
    [SERIES_GPU_POWER_W] = "gpu_power_w",
    [SERIES_GPU_UTIL] = "gpu_util_share",
};

/* [[seconds before the newest, mean, min, max] ...], oldest first, without the gaps. */
static json_t *describe_series(const struct series *series, int64_t now_ns)
{
    json_t *points = json_array();
    struct series_cell *cells = xcalloc(SERIES_CELLS, sizeof *cells);
    series_read(series, now_ns - SERIES_SPAN_NS, now_ns + 1, SERIES_CELLS, cells);
    for (size_t i = 0; i < SERIES_CELLS; i++) {
        double seconds =
            -(double)SERIES_SPAN_NS / 1e9 * (double)(SERIES_CELLS - 1 - i) / SERIES_CELLS;
        if (cells[i].count > 0)
            json_array_append_new(points, json_pack("[f, o, o, o]", seconds,
                                                    json_number((double)cells[i].mean),
                                                    json_number((double)cells[i].min),
                                                    json_number((double)cells[i].max)));
    }
    free(cells);
    return points;
}

static json_t *or_null(json_t *value)
{
    return value ? json_incref(value) : json_null();
}

void export_json(struct execution *execution, const char *path)
{
    const struct workbench *workbench = execution->workbench;
    const struct store *store = workbench_store(workbench);
    struct layer_row *rows;
    struct summary wall;
    struct ledger ledger;
    struct store_cost cost;
    double wall_ms;
    size_t count = read_rows(workbench, &rows, &wall_ms);
    json_t *layers = json_array(), *series = json_object();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(layers, layer_row_json(rows, i));
    free(rows);
    for (int i = 0; i < SERIES_COUNT; i++)
        json_object_set_new(
            series, series_keys[i],
            describe_series(store_series_get(store, (enum store_series)i), store_time_ns(store)));
    store_wall(store, &wall);
    store_ledger(store, &ledger);
    store_cost(store, &cost);
    const char *source = store_timing_source(store);
    json_t *whole = json_object();
    json_object_set_new(whole, "v", json_integer(1));
    json_object_set(whole, "settings", workbench->settings);
    json_object_set_new(whole, "model", or_null(workbench->model));
    json_object_set_new(whole, "plan", or_null(workbench->plan));
    json_object_set_new(whole, "run",
                        or_null(workbench->last_segment ? workbench->last_run : NULL));
    json_object_set_new(whole, "timing_source", *source ? json_string(source) : json_null());
    json_object_set_new(whole, "wall_ms",
                        json_pack("{s:I, s:o, s:o, s:o, s:o, s:o}", "count", (json_int_t)wall.count,
                                  "median", json_number(wall.p50), "p95", json_number(wall.p95),
                                  "min", json_number(wall.min), "max", json_number(wall.max),
                                  "mean", json_number(wall.mean)));
    json_object_set_new(whole, "ledger", ledger_json(&ledger));
    cost_json(whole, &cost);
    json_object_set_new(whole, "layers", layers);
    json_object_set_new(whole, "series", series);
    write_json(execution, path, whole, count, "layers");
}

/* ---- csv ---- */

/* RFC 4180: in quotes if need be, with quotes doubled. */
static void put_text(FILE *file, const char *text)
{
    bool plain = strpbrk(text, ",\"\r\n") == NULL;
    fputs(plain ? "" : "\"", file);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', file);
        fputc(*text, file);
    }
    fputs(plain ? "" : "\"", file);
}

static void put_number(FILE *file, double value)
{
    fputc(',', file);
    if (isfinite(value))
        fprintf(file, "%.9g", value);
}

void export_csv(struct execution *execution, const char *path)
{
    struct error error = {0};
    struct output_file output;
    struct layer_row *rows;
    double wall_ms;
    size_t count = read_rows(execution->workbench, &rows, &wall_ms);
    FILE *file = output_file_open(&output, path, &error);
    bool ok = file != NULL;
    if (ok) {
        fputs("name,class,impl,time_ms,share,kernels,flops,bytes,fused_into\r\n", file);
        for (size_t i = 0; i < count; i++) {
            put_text(file, rows[i].name);
            fputc(',', file);
            put_text(file, rows[i].class_name);
            fputc(',', file);
            put_text(file, rows[i].impl ? rows[i].impl : "");
            put_number(file, rows[i].time_ms);
            put_number(file, rows[i].share);
            put_number(file, rows[i].kernels);
            put_number(file, rows[i].flops == UINT64_MAX ? (double)NAN : (double)rows[i].flops);
            put_number(file, rows[i].bytes == UINT64_MAX ? (double)NAN : (double)rows[i].bytes);
            fputc(',', file);
            put_text(file, rows[i].fused_into >= 0 ? rows[rows[i].fused_into].name : "");
            fputs("\r\n", file);
        }
        ok = output_file_close(&output, file, true, &error);
    }
    free(rows);
    finish(execution, path, count, "layers", ok, &error);
}

/* ---- chrome ---- */

static void add_span(json_t *events, const char *name, const char *category, double ts_us,
                     double dur_us)
{
    json_array_append_new(events, json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f}", "name", name,
                                            "cat", category, "ph", "X", "pid", TRACE_PROCESS, "tid",
                                            TRACE_THREAD, "ts", ts_us, "dur", dur_us));
}

static void add_name(json_t *events, const char *what, const char *name)
{
    json_array_append_new(events,
                          json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", what, "ph", "M", "pid",
                                    TRACE_PROCESS, "tid", TRACE_THREAD, "args", "name", name));
}

static void add_counter(json_t *events, const struct store *store, enum store_series which,
                        int64_t from_ns, int64_t to_ns)
{
    struct series_cell cells[TRACE_CELLS];
    const double cell_us = (double)TRACE_SPAN_NS / TRACE_CELLS / 1e3;
    series_read(store_series_get(store, which), from_ns, to_ns, TRACE_CELLS, cells);
    for (size_t i = 0; i < TRACE_CELLS; i++)
        if (cells[i].count > 0 && isfinite(cells[i].mean))
            json_array_append_new(
                events, json_pack("{s:s, s:s, s:i, s:i, s:f, s:{s:f}}", "name", series_keys[which],
                                  "ph", "C", "pid", TRACE_PROCESS, "tid", TRACE_THREAD, "ts",
                                  (double)i * cell_us, "args", "value", (double)cells[i].mean));
}

/* The mean step of each cell, and below it its layers in the model's order. Returns the steps. */
static size_t add_steps(json_t *events, const struct store *store, int64_t from_ns, int64_t to_ns)
{
    const double cell_us = (double)TRACE_SPAN_NS / TRACE_CELLS / 1e3;
    size_t count = store_layer_count(store), steps = 0;
    struct series_cell walls[TRACE_CELLS];
    struct series_cell *cells = xcalloc(count * TRACE_CELLS + 1, sizeof *cells);
    struct store_layer *layers = xcalloc(count + 1, sizeof *layers);
    series_read(store_series_get(store, SERIES_STEP_MS), from_ns, to_ns, TRACE_CELLS, walls);
    for (size_t k = 0; k < count; k++) {
        store_layer(store, k, &layers[k]);
        series_read(layers[k].series, from_ns, to_ns, TRACE_CELLS, cells + k * TRACE_CELLS);
    }
    double free_us = 0; /* a step longer than its cell pushes the next away */
    for (size_t i = 0; i < TRACE_CELLS; i++) {
        double ts_us = (double)i * cell_us, layer_us = ts_us;
        if (walls[i].count == 0 || !isfinite(walls[i].mean) || ts_us < free_us)
            continue;
        double wall_us = (double)walls[i].mean * 1e3, sum_us = 0;
        for (size_t k = 0; k < count; k++)
            if (layers[k].fused_into < 0 && cells[k * TRACE_CELLS + i].count > 0)
                sum_us += (double)cells[k * TRACE_CELLS + i].mean * 1e3;
        /* layers and walls are means over slightly different steps: a parent must hold its children */
        add_span(events, "step (mean)", "step", ts_us, fmax(wall_us, sum_us));
        free_us = ts_us + fmax(wall_us, sum_us);
        steps++;
        for (size_t k = 0; k < count; k++) {
            const struct series_cell *cell = &cells[k * TRACE_CELLS + i];
            if (layers[k].fused_into >= 0 || cell->count == 0 || !(cell->mean > 0))
                continue;
            add_span(events, layers[k].label, layers[k].class_name, layer_us,
                     (double)cell->mean * 1e3);
            layer_us += (double)cell->mean * 1e3;
        }
    }
    free(cells);
    free(layers);
    return steps;
}

void export_chrome(struct execution *execution, const char *path)
{
    static const enum store_series counters[] = {SERIES_MEMORY_WEIGHTS,   SERIES_MEMORY_ACTIVATIONS,
                                                 SERIES_MEMORY_WORKSPACE, SERIES_MEMORY_USED,
                                                 SERIES_THROUGHPUT_CPU,   SERIES_THROUGHPUT_GPU,
                                                 SERIES_GPU_POWER_W,      SERIES_GPU_CLOCK_MHZ};
    struct workbench *workbench = execution->workbench;
    const struct store *store = workbench_store(workbench);
    int64_t to_ns = store_time_ns(store) + 1, from_ns = to_ns - TRACE_SPAN_NS;
    json_t *events = json_array();
    const char *model = json_string_value(json_object_get(workbench->model, "name"));
    const char *device = json_string_value(json_object_get(workbench->plan, "device"));
    char *name = xasprintf("%s on %s", model ? model : "?", device ? device : "?");
    add_name(events, "process_name", name);
    free(name);
    name = xasprintf("mean step of each 100 ms, layers timed by %s", store_timing_source(store));
    add_name(events, "thread_name", name);
    free(name);
    size_t steps = add_steps(events, store, from_ns, to_ns);
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        add_counter(events, store, counters[i], from_ns, to_ns);
    if (steps == 0) {
        struct error error;
        error_set(&error, ERROR_COMMAND, "export chrome", "nothing is measured yet");
        error_hint(&error, "run 100");
        json_decref(events);
        execution_fail(execution, &error);
        return;
    }
    write_json(execution, path,
               json_pack("{s:s, s:o}", "displayTimeUnit", "ms", "traceEvents", events), steps,
               "steps");
}
