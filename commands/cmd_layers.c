#define _GNU_SOURCE /* strcasestr */
#include "commands/complete.h"
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

#define BAR_WIDTH     12
#define LABEL_WIDTH   40
#define BY_WIDTH      8
#define BY_WIDTH_INT8 13 /* "onednn int8" */

static const char *const sort_keys[] = {"time", "order", "name", "flops", "bytes"};

/* "onednn", and in an int8 plan "onednn int8". */
static const char *by_text(const struct layer_row *row, char *out, size_t size)
{
    const char *impl = *row->impl ? row->impl : "-";
    snprintf(out, size, "%s%s%s", impl, row->precision ? " " : "",
             row->precision ? row->precision : "");
    return out;
}

static void print_table(struct execution *execution, const struct layer_row *rows,
                        const size_t *order, size_t shown, int by_width)
{
    int width = 5;
    bool utf8 = workbench_utf8(execution->workbench);
    for (size_t i = 0; i < shown; i++) {
        int columns = text_columns(rows[order[i]].label);
        width = columns > width ? columns : width;
    }
    if (width > LABEL_WIDTH)
        width = LABEL_WIDTH;
    execution_print(execution, "%-*s  %-18s %-*s %9s %7s  %-*s %7s %9s %9s %11s", width, "layer",
                    "class", by_width, "by", "time", "share", BAR_WIDTH, "", "kernels", "FLOPs",
                    "bytes", "FLOP/s");
    for (size_t i = 0; i < shown; i++) {
        const struct layer_row *row = &rows[order[i]];
        char time[FORMAT_SIZE], share[FORMAT_SIZE], kernels[FORMAT_SIZE], flops[FORMAT_SIZE],
            bytes[FORMAT_SIZE], speed[FORMAT_SIZE], bar[3 * BAR_WIDTH + 1], by[64];
        bool timed = isfinite(row->time_ms) && row->time_ms > 0;
        if (isfinite(row->kernels))
            snprintf(kernels, sizeof kernels, "%.*f", row->kernels == floor(row->kernels) ? 0 : 1,
                     row->kernels);
        else
            snprintf(kernels, sizeof kernels, "-");
        format_bar(bar, sizeof bar, row->share, BAR_WIDTH, utf8);
        int label_pad = width - text_columns(row->label);
        int bar_pad = BAR_WIDTH - text_columns(bar);
        execution_print(
            execution, "%s%*s  %-18.18s %-*s %9s %7s  %s%*s %7s %9s %9s %11s", row->label,
            label_pad > 0 ? label_pad : 0, "", row->class_name, by_width,
            by_text(row, by, sizeof by), format_time_ms(time, sizeof time, row->time_ms),
            format_percent(share, sizeof share, row->share), bar, bar_pad > 0 ? bar_pad : 0, "",
            kernels, format_count(flops, sizeof flops, row->flops ? (double)row->flops : NAN),
            format_bytes(bytes, sizeof bytes, row->bytes ? (double)row->bytes : NAN),
            format_count(speed, sizeof speed,
                         timed && row->flops ? (double)row->flops / row->time_ms * 1e3 : NAN));
    }
}

static bool parse_arguments(int argc, char *const *argv, const char **sort, int64_t *top,
                            const char **filter, struct error *error)
{
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--top") == 0 && has_value) {
            if (!parse_integer(argv[++i], 1, 1000000, "layers --top", top, error))
                return error_hint(error, "layers --top 10");
        } else if (strcmp(argv[i], "--filter") == 0 && has_value) {
            *filter = argv[++i];
        } else if (strcmp(argv[i], "--sort") == 0 && has_value) {
            *sort = NULL;
            i++;
            for (size_t k = 0; k < sizeof sort_keys / sizeof *sort_keys; k++)
                if (strcmp(sort_keys[k], argv[i]) == 0)
                    *sort = sort_keys[k];
            if (!*sort) {
                error_set(error, ERROR_VALUE, "layers --sort",
                          "'%s' is none of time, order, name, flops, bytes", argv[i]);
                return error_hint(error, "layers --sort time");
            }
        } else {
            error_set(error, ERROR_SYNTAX, "layers", "'%s' is not understood: %s", argv[i],
                      command_layers.usage);
            return error_hint(error, "help layers");
        }
    }
    return true;
}

/* Rows whose name, class or implementation holds `text`, letters' case ignored. */
static size_t keep_matching(const struct layer_row *rows, size_t *order, size_t count,
                            const char *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const struct layer_row *row = &rows[order[i]];
        if (strcasestr(row->label, text) || strcasestr(row->class_name, text) ||
            (row->impl && strcasestr(row->impl, text)))
            order[kept++] = order[i];
    }
    return kept;
}

/* How old the oldest of the shown live figures is, in seconds: between bursts they are kept. */
static double oldest_age_s(const struct store *store)
{
    double oldest = NAN;
    for (size_t i = 0; i < store_layer_count(store); i++) {
        struct store_layer layer;
        store_layer(store, i, &layer);
        double age = (double)(store_time_ns(store) - layer.time_ns) * 1e-9;
        if (layer.time_ns > 0 && !(age <= oldest))
            oldest = age > 0 ? age : 0;
    }
    return oldest;
}

static void print_sum(struct execution *execution, double sum_ms, double wall_ms,
                      const char *source, double age_s)
{
    const struct store_trace *trace = store_trace_get(workbench_store(execution->workbench), NULL);
    char sum[FORMAT_SIZE], wall[FORMAT_SIZE], age[FORMAT_SIZE], traced[192] = "";
    if (trace && trace->bursts)
        trace_report_text(trace, traced, sizeof traced);
    bool old = trace && trace->bursts && isfinite(age_s);
    execution_print(execution, "%s in layers of %s wall per step, %s%s%s%s%s%s",
                    format_time_ms(sum, sizeof sum, sum_ms),
                    format_time_ms(wall, sizeof wall, wall_ms), source ? "timed by " : "not timed",
                    source ? source : "", *traced ? ": " : "", traced, old ? ", as of before " : "",
                    old ? format_time_ms(age, sizeof age, age_s * 1e3) : "");
}

static void run_layers(struct execution *execution, int argc, char *const *argv)
{
    struct workbench *workbench = execution->workbench;
    struct error error = {0};
    const char *sort = "time", *filter = NULL;
    int64_t top = INT64_MAX;
    if (!parse_arguments(argc, argv, &sort, &top, &filter, &error)) {
        execution_fail(execution, &error);
        return;
    }
    const struct store *store = workbench_store(workbench);
    uint32_t segment = workbench_state(workbench) == STATE_LIVE ? 0 : workbench->last_segment;
    double mean_ms =
        segment ? json_get_double(json_object_get(workbench->last_run, "wall_ms"), "mean") : NAN;
    struct layer_row *rows;
    double wall_ms, sum_ms = 0;
    size_t count = layer_rows_read(store, segment, mean_ms, &rows, &wall_ms);
    bool mixed = layer_rows_precisions(rows, count, workbench_plan(workbench));
    size_t *order = xcalloc(count + 1, sizeof *order);
    size_t heads = layer_rows_sort(rows, count, sort, order);
    if (filter)
        heads = keep_matching(rows, order, heads, filter);
    size_t shown = heads < (uint64_t)top ? heads : (size_t)top;
    bool measured = false;
    for (size_t i = 0; i < count; i++) {
        measured = measured || isfinite(rows[i].time_ms);
        sum_ms += isfinite(rows[i].time_ms) ? rows[i].time_ms : 0;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < shown; i++)
        json_array_append_new(list, layer_row_json(rows, order[i]));
    const char *source = store_timing_source(store);
    bool timed = measured && *source && strcmp(source, "off") != 0;
    json_object_set_new(execution->data, "timing_source",
                        timed ? json_string(source) : json_null());
    json_object_set_new(execution->data, "wall_ms", json_number(wall_ms));
    json_object_set_new(execution->data, "layers_ms", json_number(measured ? sum_ms : NAN));
    struct store_cost cost;
    store_cost(store, &cost);
    cost_json(execution->data, timed ? &cost : NULL);
    json_object_set_new(execution->data, "layers", list);
    double age_s = segment || !measured ? (double)NAN : oldest_age_s(store);
    json_object_set_new(execution->data, "age_s", json_number(age_s));
    trace_report_json(execution->data, store_trace_get(store, NULL));
    struct marks marks;
    marks_find(store, segment, &marks);
    marks_report_json(execution->data, &marks);
    marks_report_warn(execution, &marks);
    trace_report_warn(execution, store_trace_get(store, NULL));
    print_table(execution, rows, order, shown, mixed ? BY_WIDTH_INT8 : BY_WIDTH);
    if (shown < heads)
        execution_print(execution, "  and %zu more", heads - shown);
    if (measured)
        print_sum(execution, sum_ms, wall_ms, timed ? source : NULL, age_s);
    if (timed)
        cost_print(execution, &cost);
    if (!measured)
        execution_warn(execution, "nothing is measured yet: `run` or `start`");
    free(order);
    free(rows);
    execution_done(execution);
}

static void complete_layers(struct command_completion *completion, int argc, char *const *argv)
{
    if (argc > 1 && strcmp(argv[argc - 1], "--sort") == 0) {
        for (size_t i = 0; i < sizeof sort_keys / sizeof *sort_keys; i++)
            completion_add(completion, sort_keys[i]);
        return;
    }
    completion_add(completion, "--sort");
    completion_add(completion, "--top");
    completion_add(completion, "--filter");
}

const struct command command_layers = {
    .name = "layers",
    .usage = "layers [--sort time|order|name|flops|bytes] [--top N] [--filter TEXT]",
    .summary = "the layer table: where the time of a step goes",
    .help =
        "Means per step: of the last `run`, or of the last second while it is live. A layer that\n"
        "is fused into another is shown in its head's row (conv1+bn1+relu1); one that costs\n"
        "nothing has no time. --filter keeps rows whose name, class or implementation holds TEXT.\n"
        "In int8, `by` also says whether a layer computes in int8 or, where that does not exist, "
        "in fp32.\n"
        "`order` is the model's. Shares are of the wall time, so they add up "
        "to less than all.\n"
        "Where clocks were held down or others used the GPU, the numbers are marked, as by `run`.",
    .json = "timing_source wall_ms layers_ms profiler_cost_share profiler_cost_interval "
            "profiler_cost_pairs layers[]{name class impl time_ms share kernels flops bytes "
            "fused[]} age_s tracing{detail steps graphs graph_ms burst_cost} throttle[] "
            "other_processes copies[]{kind pageable per_step bytes_per_step time_ms bytes_per_s} "
            "overhead[] lost{dropped unmatched untimed}",
    .see = WORDS("kernels", "whatif", "model", "run"),
    .examples = WORDS("layers", "layers --top 10", "layers --sort flops", "layers --filter conv2d"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 6,
    .run = run_layers,
    .complete = complete_layers,
};
