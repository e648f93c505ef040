#include "commands/format.h"
#include "commands/layer_rows.h"
#include "commands/measures.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/trace_report.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_DEFAULT 20
#define STEPS_MAX     10000000
#define TOP_LAYERS    3

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "-";
}

static void copy_key(json_t *to, const json_t *from, const char *key)
{
    json_t *value = json_object_get(from, key);
    json_object_set(to, key, value ? value : json_null());
}

/* {median, p90, ...}, {planned_bytes, ...}: every key of the contract is there, known or not. */
static void copy_part(json_t *to, const json_t *from, const char *key, const char *const *names)
{
    json_t *part = json_object();
    const json_t *source = json_object_get(from, key);
    for (; *names; names++)
        copy_key(part, source, *names);
    json_object_set_new(to, key, part);
}

/* The source of the layers' times, or NULL if nothing timed them. */
static const char *timing_source(const struct store *store, const struct store_segment *segment)
{
    const char *source = segment ? segment->timing_source : store_timing_source(store);
    return source && *source && strcmp(source, "off") != 0 ? source : NULL;
}

static void fill_data(json_t *data, const json_t *reply, const struct store_segment *segment,
                      const char *source, const struct layer_row *rows, size_t count)
{
    static const char *const wall[] = {"median", "p90", "p95", "p99", "min", "mean", NULL};
    static const char *const memory[] = {"planned_bytes", "measured_bytes", "context_bytes", NULL};
    static const char *const plain[] = {"device", "batch",  "precision", "steps",
                                        "warmup", "steady", NULL};
    for (const char *const *key = plain; *key; key++)
        copy_key(data, reply, *key);
    copy_part(data, reply, "wall_ms", wall);
    copy_key(data, reply, "throughput_per_s");
    copy_key(data, reply, "throughput_resident_per_s");
    json_object_set_new(data, "timing_source", source ? json_string(source) : json_null());
    copy_part(data, reply, "memory", memory);
    if (json_object_get(reply, "concurrent"))
        copy_key(data, reply, "concurrent");
    if (json_object_get(reply, "pipeline"))
        copy_key(data, reply, "pipeline");
    json_object_set_new(data, "ledger", ledger_json(segment ? &segment->ledger : NULL));
    cost_json(data, segment ? &segment->cost : NULL);
    marks_report_json(data, segment ? &segment->marks : NULL);
    json_t *layers = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(layers, layer_row_json(rows, i));
    json_object_set_new(data, "layers", layers);
}

static void print_device(struct execution *execution, const json_t *reply)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE], d[FORMAT_SIZE];
    const json_t *wall = json_object_get(reply, "wall_ms");
    const json_t *memory = json_object_get(reply, "memory");
    execution_print(execution, "  wall        %s median, %s p95, %s min per step",
                    format_time_ms(a, sizeof a, json_get_double(wall, "median")),
                    format_time_ms(b, sizeof b, json_get_double(wall, "p95")),
                    format_time_ms(c, sizeof c, json_get_double(wall, "min")));
    double rate = json_get_double(reply, "throughput_per_s");
    double resident = json_get_double(reply, "throughput_resident_per_s");
    bool copies = strncmp(text(reply, "device"), "gpu", 3) == 0;
    execution_print(execution, "  throughput  %s samples/s%s%s%s", format_count(a, sizeof a, rate),
                    copies ? ", " : "", copies ? format_count(b, sizeof b, resident) : "",
                    copies ? " with resident inputs" : "");
    double planned = json_get_double(memory, "planned_bytes");
    double measured = json_get_double(memory, "measured_bytes");
    double context = json_get_double(memory, "context_bytes");
    execution_print(execution, "  memory      %s planned, %s measured (%s)%s%s",
                    format_bytes(a, sizeof a, planned), format_bytes(b, sizeof b, measured),
                    format_deviation(c, sizeof c, planned, measured),
                    context > 0 ? ", context " : "",
                    context > 0 ? format_bytes(d, sizeof d, context) : "");
}

/* What a step's pictures cost, and how much of it the step waited for. */
static void print_pipeline(struct execution *execution, const json_t *pipeline)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE], d[FORMAT_SIZE], e[FORMAT_SIZE];
    if (!pipeline)
        return;
    long long threads = (long long)json_integer_value(json_object_get(pipeline, "parallel_calls"));
    execution_print(execution,
                    "  pipeline    %s a step to prepare, %s of it waited for (%s, %lld thread%s)",
                    format_time_ms(a, sizeof a, json_get_double(pipeline, "prepare_ms")),
                    format_time_ms(b, sizeof b, json_get_double(pipeline, "wait_ms")),
                    text(pipeline, "mode"), threads, threads == 1 ? "" : "s");
    if (strcmp(text(pipeline, "preprocess_on"), "gpu") == 0) {
        execution_print(execution,
                        "              decode %s; copy %s in %s, resize and scale %s on the GPU",
                        format_time_ms(a, sizeof a, json_get_double(pipeline, "decode_ms")),
                        format_bytes(b, sizeof b, json_get_double(pipeline, "copied_bytes")),
                        format_time_ms(c, sizeof c, json_get_double(pipeline, "copy_ms")),
                        format_time_ms(d, sizeof d, json_get_double(pipeline, "gpu_ms")));
        return;
    }
    execution_print(execution, "              decode %s, resize %s, scale %s",
                    format_time_ms(c, sizeof c, json_get_double(pipeline, "decode_ms")),
                    format_time_ms(d, sizeof d, json_get_double(pipeline, "resize_ms")),
                    format_time_ms(e, sizeof e, json_get_double(pipeline, "scale_ms")));
}

/* The same device while the other worked too. */
static void print_race(struct execution *execution, const json_t *race)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE];
    double wall = json_get_double(json_object_get(race, "wall_ms"), "median");
    if (race)
        execution_print(execution, "  both at once  %s median, %s samples/s: %.2f times as long",
                        format_time_ms(a, sizeof a, wall),
                        format_count(b, sizeof b, json_get_double(race, "throughput_per_s")),
                        json_get_double(race, "slowdown"));
}

/* What devices that share the batches do together. */
static void print_split(struct execution *execution, const json_t *split)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE];
    double wall = json_get_double(json_object_get(split, "wall_ms"), "median");
    if (split)
        execution_print(execution,
                        " %lld devices together: %s median per step of %lld, %s samples/s",
                        (long long)json_integer_value(json_object_get(split, "devices")),
                        format_time_ms(a, sizeof a, wall),
                        (long long)json_integer_value(json_object_get(split, "batch")),
                        format_count(b, sizeof b, json_get_double(split, "throughput_per_s")));
}

static void print_top(struct execution *execution, uint32_t segment, double mean_ms)
{
    struct layer_row *rows;
    double wall_ms;
    char time[FORMAT_SIZE], share[FORMAT_SIZE];
    size_t count =
        layer_rows_read(workbench_store(execution->workbench), segment, mean_ms, &rows, &wall_ms);
    size_t *order = xcalloc(count + 1, sizeof *order);
    size_t heads = layer_rows_sort(rows, count, "time", order);
    for (size_t i = 0; i < heads && i < TOP_LAYERS; i++) {
        const struct layer_row *row = &rows[order[i]];
        if (!isfinite(row->time_ms))
            break;
        execution_print(execution, "  %-10s  %8s  %6s  %s (%s%s%s)", i == 0 ? "slowest" : "",
                        format_time_ms(time, sizeof time, row->time_ms),
                        format_percent(share, sizeof share, row->share), row->label,
                        row->class_name, *row->impl ? ", " : "", row->impl);
    }
    free(order);
    free(rows);
}

static void print_text(struct execution *execution, const json_t *reply,
                       const struct store_segment *segment, const char *source)
{
    const json_t *devices = json_object_get(reply, "per_device");
    json_t *steady = json_object_get(reply, "steady");
    execution_print(execution, "%lld steps of %lld samples, %s on %s, layers %s%s%s",
                    (long long)json_integer_value(json_object_get(reply, "steps")),
                    (long long)json_integer_value(json_object_get(reply, "batch")),
                    text(reply, "precision"), text(reply, "device"),
                    source ? "timed by " : "not timed", source ? source : "",
                    json_is_true(steady) ? ", steady" : "");
    if (json_array_size(devices) > 1) {
        size_t index;
        json_t *device;
        json_array_foreach((json_t *)(uintptr_t)devices, index, device)
        {
            execution_print(execution, " %s, %lld samples", text(device, "device"),
                            (long long)json_integer_value(json_object_get(device, "batch")));
            print_device(execution, device);
            print_race(execution, json_object_get(device, "concurrent"));
        }
        print_split(execution, json_object_get(reply, "split"));
    } else {
        print_device(execution, reply);
    }
    print_pipeline(execution, json_object_get(reply, "pipeline"));
    if (segment && segment->ledger.steps > 0)
        ledger_print(execution, &segment->ledger);
    if (segment)
        cost_print(execution, &segment->cost);
    print_top(execution, execution->workbench->last_segment,
              json_get_double(json_object_get(reply, "wall_ms"), "mean"));
    if (json_is_false(steady))
        execution_warn(execution,
                       "not steady: the steps' times drift or scatter; run more of them");
    if (segment)
        marks_report_warn(execution, &segment->marks);
    const struct store_trace *trace = store_trace_get(workbench_store(execution->workbench), NULL);
    uint64_t told = trace ? trace->dropped + trace->unmatched + trace->untimed : 0;
    trace_report_warn(execution, trace);
    if (segment && segment->dropped_records > told)
        execution_warn(execution, "%llu records were dropped on the way: layer times are partial",
                       (unsigned long long)(segment->dropped_records - told));
}

/* --require: what a script insists on. */
static bool check_required(unsigned require, const json_t *reply, const char *source,
                           struct error *error)
{
    const char *device = text(reply, "device");
    if ((require & REQUIRE_GPU) && strncmp(device, "gpu:", 4) != 0) {
        error_set(error, ERROR_REQUIRE, "--require gpu", "it ran on %s", device);
        return error_hint(error, "devices");
    }
    if ((require & REQUIRE_CUPTI) && (!source || strcmp(source, "cupti") != 0)) {
        error_set(error, ERROR_REQUIRE, "--require cupti", "layers were %s%s",
                  source ? "timed by " : "not timed", source ? source : "");
        return error_hint(error, "help profile");
    }
    if ((require & REQUIRE_STEADY) && !json_is_true(json_object_get(reply, "steady"))) {
        error_set(error, ERROR_UNSTEADY, "--require steady", "the steps' times drift or scatter");
        return error_hint(error, "run 500 --warmup 100");
    }
    return true;
}

/* One device's numbers, of its own segment, into `data`. */
static void fill_device(const struct store *store, json_t *data, const json_t *reply)
{
    uint32_t number = (uint32_t)json_integer_value(json_object_get(reply, "segment"));
    const struct store_segment *segment = store_segment_get(store, number);
    double wall_ms, mean_ms = json_get_double(json_object_get(reply, "wall_ms"), "mean");
    struct layer_row *rows;
    size_t count = layer_rows_read(store, number, mean_ms, &rows, &wall_ms);
    fill_data(data, reply, segment, timing_source(store, segment), rows, count);
    free(rows);
}

static void ran(struct execution *execution, const json_t *reply, const struct error *why)
{
    struct workbench *workbench = execution->workbench;
    if (!reply) {
        execution_fail(execution, why);
        return;
    }
    workbench_ran(workbench, reply);
    const struct store *store = workbench_store(workbench);
    json_t *device, *devices = json_object_get(reply, "per_device");
    size_t index;
    fill_device(store, execution->data, reply);
    if (json_array_size(devices) > 1) {
        json_t *list = json_array();
        json_array_foreach(devices, index, device)
        {
            json_t *data = json_object();
            fill_device(store, data, device);
            json_array_append_new(list, data);
        }
        json_object_set_new(execution->data, "per_device", list);
    }
    trace_report_json(execution->data, store_trace_get(store, NULL));
    const char *note = store_note(store);
    json_object_set_new(execution->data, "note", *note ? json_string(note) : json_null());
    if (json_object_get(reply, "split"))
        copy_key(execution->data, reply, "split");
    const struct store_segment *segment = store_segment_get(store, workbench->last_segment);
    const char *source = timing_source(store, segment);
    print_text(execution, reply, segment, source);
    struct error error = {0};
    if (check_required(workbench->require, reply, source, &error))
        execution_done(execution);
    else
        execution_fail(execution, &error);
}

static void run_run(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    int64_t steps = STEPS_DEFAULT, warmup = -1;
    const json_t *setting = workbench_setting(execution->workbench, "warmup");
    if (json_is_integer(setting))
        warmup = json_integer_value(setting);
    bool ok = true, has_steps = false, cost = false;
    for (int i = 1; ok && i < argc; i++) {
        if (strcmp(argv[i], "--warmup") == 0 && i + 1 < argc) {
            ok = parse_integer(argv[++i], 0, STEPS_MAX, "run --warmup", &warmup, &error);
        } else if (strcmp(argv[i], "--cost") == 0) {
            cost = true;
        } else if (!has_steps && argv[i][0] != '-') {
            ok = parse_integer(argv[i], 1, STEPS_MAX, "run", &steps, &error);
            has_steps = true;
        } else {
            ok = error_set(&error, ERROR_SYNTAX, "run", "'%s' is not understood: %s", argv[i],
                           command_run.usage);
        }
    }
    if (!ok) {
        error_hint(&error, "run 100");
        execution_fail(execution, &error);
        return;
    }
    json_t *arguments = json_pack("{s:I}", "steps", (json_int_t)steps);
    if (warmup >= 0)
        json_object_set_new(arguments, "warmup", json_integer(warmup));
    if (cost)
        json_object_set_new(arguments, "cost", json_true());
    execution_request(execution, "run", arguments, ran);
}

const struct command command_run = {
    .name = "run",
    .usage = "run [N] [--warmup N] [--cost]",
    .summary = "measure N steps (20) after warming up",
    .help =
        "Wall is the host's clock from input ready to output on the host, synchronised each step;\n"
        "making the input is not in it. Throughput counts the samples over the time of all N\n"
        "steps. On a GPU more steps follow, for a second at most, whose inputs stay in its memory\n"
        "and which are waited for once: throughput_resident_per_s, what other benches call\n"
        "throughput; on the CPU nothing is copied, and it is the same number. `layers` shows the "
        "whole table afterwards. Several devices: per_device[] has "
        "each,\n"
        "split what those that share the batches do together, concurrent what each does while the\n"
        "other works too (`help compare`).\n"
        "In a run of some seconds one step in twenty goes without the profiler, which tells what "
        "it\n"
        "costs; --cost makes it one in four, for an answer from a shorter run. On a GPU that is\n"
        "timed by CUPTI or events the cost is not known.",
    .json = "device batch precision steps warmup steady wall_ms{median p90 p95 p99 min mean} "
            "throughput_per_s throughput_resident_per_s timing_source memory{planned_bytes "
            "measured_bytes context_bytes} ledger{preprocess_ms copy_ms launch_ms kernel_ms gap_ms "
            "profiler_ms unexplained_ms wall_ms hidden_copy_ms hidden_launch_ms "
            "hidden_preprocess_ms hidden_profiler_ms} profiler_cost_share profiler_cost_interval "
            "profiler_cost_pairs throttle other_processes layers[]{name class impl time_ms share "
            "kernels flops bytes fused[] fused_into} tracing{detail steps graphs graph_ms "
            "burst_cost} copies[] overhead[] lost{dropped unmatched untimed} note pipeline{mode "
            "mapping parallel_calls pictures preprocess prepare_ms wait_ms decode_ms resize_ms "
            "scale_ms bytes} per_device[]{} split{} concurrent{}",
    .see = WORDS("layers", "ledger", "ab", "warmup", "assert"),
    .examples = WORDS("run", "run 100", "run 200 --warmup 50", "run 1000 --cost"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 4,
    .run = run_run,
};
