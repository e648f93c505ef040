/* `kernels`: what ran below the layers, how fast, and against which roof. */
#define _GNU_SOURCE /* strcasestr, qsort_r */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/measures.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/trace_report.h"
#include "commands/workbench_private.h"

#include "engine/backend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_WIDTH  44
#define LAYER_WIDTH 24

struct listing {
    const struct store_trace *trace;
    double roof_flops, roof_bytes; /* of the plan's precision; NaN: not known */
    size_t *order;
    size_t count;
};

/* The share of the roof that bounds it: of arithmetic or of memory, whichever is nearer. */
static double roof_share(const struct listing *listing, const struct store_kernel *kernel)
{
    double flops = kernel->flops_per_s / listing->roof_flops;
    double bytes = kernel->bytes_per_s / listing->roof_bytes;
    return fmax(flops, bytes); /* the one that is known where the other is NaN */
}

static const char *roof_bound(const struct listing *listing, const struct store_kernel *kernel)
{
    double flops = kernel->flops_per_s / listing->roof_flops;
    double bytes = kernel->bytes_per_s / listing->roof_bytes;
    if (isnan(flops) && isnan(bytes))
        return NULL;
    return isnan(bytes) || flops >= bytes ? "arithmetic" : "memory";
}

static json_t *numbers(const uint32_t *list)
{
    return json_pack("[i, i, i]", (int)list[0], (int)list[1], (int)list[2]);
}

static json_t *kernel_json(const struct listing *listing, const struct store_kernel *kernel,
                           const char *layer)
{
    const struct gpu_kernel *shape = &kernel->shape;
    json_t *row = json_object();
    json_object_set_new(row, "layer", layer ? json_string(layer) : json_null());
    json_object_set_new(row, "name", *kernel->name ? json_string(kernel->name) : json_null());
    json_object_set_new(row, "per_step", json_number(kernel->per_step));
    json_object_set_new(row, "mean_ms", json_number(kernel->mean_ms));
    json_object_set_new(row, "min_ms", json_number(kernel->min_ms));
    json_object_set_new(row, "max_ms", json_number(kernel->max_ms));
    json_object_set_new(row, "time_ms", json_number(kernel->step_ms));
    json_object_set_new(row, "grid", kernel->launched ? numbers(shape->grid) : json_null());
    json_object_set_new(row, "block", kernel->launched ? numbers(shape->block) : json_null());
    json_object_set_new(row, "registers",
                        kernel->launched ? json_integer(shape->registers) : json_null());
    json_object_set_new(row, "shared_bytes",
                        kernel->launched ? json_integer((json_int_t)shape->shared_static_bytes +
                                                        shape->shared_dynamic_bytes)
                                         : json_null());
    json_object_set_new(row, "flops", json_bytes(kernel->flops));
    json_object_set_new(row, "bytes", json_bytes(kernel->bytes));
    json_object_set_new(row, "flops_per_s", json_number(kernel->flops_per_s));
    json_object_set_new(row, "bytes_per_s", json_number(kernel->bytes_per_s));
    json_object_set_new(row, "roof_share", json_number(roof_share(listing, kernel)));
    const char *bound = roof_bound(listing, kernel);
    json_object_set_new(row, "bound", bound ? json_string(bound) : json_null());
    return row;
}

/* Longest first; equal ones in the order they came. */
static int compare(const void *a, const void *b, void *context)
{
    const struct store_trace *trace = context;
    size_t ia = *(const size_t *)a, ib = *(const size_t *)b;
    double ta = trace->kernels[ia].step_ms, tb = trace->kernels[ib].step_ms;
    return ta > tb ? -1 : ta < tb ? 1 : ia < ib ? -1 : ia > ib;
}

/* A demangled name without its parameters, and without "void ": what a table has room for. */
static void short_name(const char *name, char *out, size_t size)
{
    if (strncmp(name, "void ", 5) == 0)
        name += 5;
    int depth = 0;
    size_t used = 0;
    for (; *name && used + 1 < size; name++) {
        if (*name == '<' || *name == '(')
            depth++;
        if (depth == 0 || strchr("<>", *name))
            out[used++] = *name;
        if ((*name == '>' || *name == ')') && depth > 0)
            depth--;
        if (*name == '(' && depth == 1 && used > 0 && name[1] != 'a') /* "(anonymous" goes on */
            break;
    }
    out[used] = '\0';
}

static void print_rows(struct execution *execution, const struct listing *listing, size_t shown)
{
    const struct store *store = workbench_store(execution->workbench);
    bool launched = false;
    for (size_t i = 0; i < listing->count; i++)
        launched = launched || listing->trace->kernels[listing->order[i]].launched;
    execution_print(execution, "%-*s  %-*s %5s %9s %9s %s%12s %12s %6s", LAYER_WIDTH, "layer",
                    NAME_WIDTH, launched ? "kernel" : "implementation", "a step", "mean", "time",
                    launched ? "            grid         block  regs   shared " : "", "FLOP/s",
                    "bytes/s", "roof");
    for (size_t i = 0; i < shown; i++) {
        const struct store_kernel *kernel = &listing->trace->kernels[listing->order[i]];
        const struct gpu_kernel *shape = &kernel->shape;
        char name[NAME_WIDTH + 1], mean[FORMAT_SIZE], time[FORMAT_SIZE], flops[FORMAT_SIZE],
            bytes[FORMAT_SIZE], roof[FORMAT_SIZE], shared[FORMAT_SIZE], launch[96] = "";
        struct store_layer layer = {.label = "-"};
        if (kernel->layer >= 0)
            store_layer(store, (size_t)kernel->layer, &layer);
        short_name(*kernel->name ? kernel->name : "-", name, sizeof name);
        if (launched) {
            char grid[24], block[24];
            snprintf(grid, sizeof grid, "%ux%ux%u", shape->grid[0], shape->grid[1], shape->grid[2]);
            snprintf(block, sizeof block, "%ux%ux%u", shape->block[0], shape->block[1],
                     shape->block[2]);
            double all = (double)shape->shared_static_bytes + shape->shared_dynamic_bytes;
            snprintf(launch, sizeof launch, "%16s %13s %5u %8s ", grid, block, shape->registers,
                     format_bytes(shared, sizeof shared, all));
        }
        execution_print(execution, "%-*.*s  %-*s %5.4g %9s %9s %s%12s %12s %6s", LAYER_WIDTH,
                        LAYER_WIDTH, layer.label, NAME_WIDTH, name, kernel->per_step,
                        format_time_ms(mean, sizeof mean, kernel->mean_ms),
                        format_time_ms(time, sizeof time, kernel->step_ms), launch,
                        format_count(flops, sizeof flops, kernel->flops_per_s),
                        format_count(bytes, sizeof bytes, kernel->bytes_per_s),
                        format_percent(roof, sizeof roof, roof_share(listing, kernel)));
    }
}

static void print_roof(struct execution *execution, const struct listing *listing)
{
    char flops[FORMAT_SIZE], bytes[FORMAT_SIZE];
    format_count(flops, sizeof flops, listing->roof_flops);
    format_count(bytes, sizeof bytes, listing->roof_bytes);
    const char *source = roof_source_name(listing->trace->roof.source);
    bool knows_flops = isfinite(listing->roof_flops), knows_bytes = isfinite(listing->roof_bytes);
    const char *device = json_string_value(json_object_get(execution->data, "device"));
    bool cpu = device && strncmp(device, "cpu", 3) == 0;
    if (knows_flops && knows_bytes)
        execution_print(execution, "roof: %sFLOP/s (%s), %sB/s (%s)", flops, source, bytes,
                        cpu ? "measured: reads of 256 MiB by all threads" : source);
    else if (knows_flops)
        execution_print(execution,
                        "roof: %sFLOP/s (%s); the memory's bytes/s are not known, so shares are of "
                        "arithmetic alone%s",
                        flops, source, cpu ? " (a run of two seconds measures them)" : "");
    else if (knows_bytes)
        execution_print(execution,
                        "roof: %sB/s (%s); FLOP/s are not known at this precision, so shares are "
                        "of memory alone",
                        bytes, source);
    else
        execution_print(execution, "roof: not known of this device");
}

static void print_rest(struct execution *execution, const struct listing *listing)
{
    const struct store_trace *trace = listing->trace;
    char text[160], a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE];
    for (size_t i = 0; i < trace->copy_count; i++) {
        const struct store_copy *copy = &trace->copies[i];
        execution_print(execution, "copy %s: %.4g a step, %s in %s (%sB/s)", copy->kind,
                        copy->per_step, format_bytes(a, sizeof a, copy->bytes_per_step),
                        format_time_ms(b, sizeof b, copy->step_ms),
                        format_count(c, sizeof c,
                                     copy->step_ms > 0 ? copy->bytes_per_step / copy->step_ms * 1e3
                                                       : (double)NAN));
    }
    for (size_t i = 0; i < trace->overhead_count; i++)
        execution_print(execution, "CUPTI %s: %llu times, %s in all", trace->overheads[i].kind,
                        (unsigned long long)trace->overheads[i].count,
                        format_time_ms(a, sizeof a, trace->overheads[i].total_ms));
    trace_report_text(trace, text, sizeof text);
    execution_print(execution, "timed by %s, %s", trace->timing_source, text);
    print_roof(execution, listing);
}

/* The roof for the precision of the plan. */
static void find_roof(const struct workbench *workbench, struct listing *listing)
{
    const char *name = json_string_value(json_object_get(workbench_plan(workbench), "precision"));
    enum precision precision;
    const struct roof *roof = &listing->trace->roof;
    listing->roof_bytes = roof->bytes_per_s;
    listing->roof_flops =
        name && precision_parse(name, &precision) ? roof->flops_per_s[precision] : (double)NAN;
}

static bool layer_matches(const struct store *store, const struct store_kernel *kernel,
                          const char *wanted)
{
    if (!wanted)
        return true;
    struct store_layer layer;
    if (kernel->layer < 0)
        return false;
    store_layer(store, (size_t)kernel->layer, &layer);
    if (strcmp(layer.name, wanted) == 0)
        return true;
    for (const char *const *fused = layer.fused; fused && *fused; fused++)
        if (strcmp(*fused, wanted) == 0)
            return true;
    return false;
}

static bool layer_exists(const struct store *store, const char *wanted)
{
    for (size_t i = 0; i < store_layer_count(store); i++) {
        struct store_layer layer;
        store_layer(store, i, &layer);
        if (strcmp(layer.name, wanted) == 0)
            return true;
    }
    return false;
}

static bool parse_arguments(const struct store *store, int argc, char *const *argv,
                            const char **layer, int64_t *top, struct error *error)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--top") == 0 && i + 1 < argc) {
            if (!parse_integer(argv[++i], 1, 1000000, "kernels --top", top, error))
                return error_hint(error, "kernels --top 10");
        } else if (argv[i][0] != '-' && !*layer) {
            *layer = argv[i];
        } else {
            error_set(error, ERROR_SYNTAX, "kernels", "'%s' is not understood: %s", argv[i],
                      command_kernels.usage);
            return error_hint(error, "help kernels");
        }
    }
    if (*layer && !layer_exists(store, *layer)) {
        error_set(error, ERROR_VALUE, "kernels", "the model has no layer '%s'", *layer);
        return error_hint(error, "layers --sort order");
    }
    return true;
}

static void run_kernels(struct execution *execution, int argc, char *const *argv)
{
    struct workbench *workbench = execution->workbench;
    const struct store *store = workbench_store(workbench);
    struct error error = {0};
    const char *wanted = NULL;
    int64_t top = INT64_MAX;
    if (!parse_arguments(store, argc, argv, &wanted, &top, &error)) {
        execution_fail(execution, &error);
        return;
    }
    struct listing listing = {.trace = store_trace_get(store, NULL)};
    const json_t *device = json_object_get(workbench_plan(workbench), "device");
    json_object_set_new(execution->data, "device", device ? json_deep_copy(device) : json_null());
    json_t *rows = json_array();
    json_object_set_new(execution->data, "kernels", rows);
    struct marks marks;
    bool live = workbench_state(workbench) == STATE_LIVE;
    marks_find(store, live ? 0 : workbench->last_segment, &marks);
    marks_report_json(execution->data, &marks);
    if (!listing.trace) {
        json_object_set_new(execution->data, "timing_source", json_null());
        trace_report_json(execution->data, NULL);
        execution_warn(execution, "nothing is measured yet: `run` or `start`");
        execution_done(execution);
        return;
    }
    find_roof(workbench, &listing);
    listing.order = xcalloc(listing.trace->kernel_count + 1, sizeof *listing.order);
    for (size_t i = 0; i < listing.trace->kernel_count; i++)
        if (layer_matches(store, &listing.trace->kernels[i], wanted))
            listing.order[listing.count++] = i;
    qsort_r(listing.order, listing.count, sizeof *listing.order, compare,
            (void *)(uintptr_t)listing.trace);
    size_t shown = listing.count < (uint64_t)top ? listing.count : (size_t)top;
    for (size_t i = 0; i < shown; i++) {
        const struct store_kernel *kernel = &listing.trace->kernels[listing.order[i]];
        struct store_layer layer = {.name = NULL};
        if (kernel->layer >= 0)
            store_layer(store, (size_t)kernel->layer, &layer);
        json_array_append_new(rows, kernel_json(&listing, kernel, layer.name));
    }
    json_object_set_new(execution->data, "timing_source",
                        json_string(listing.trace->timing_source));
    json_object_set_new(execution->data, "roof",
                        json_pack("{s:s, s:o, s:o}", "source",
                                  roof_source_name(listing.trace->roof.source), "flops_per_s",
                                  json_number(listing.roof_flops), "bytes_per_s",
                                  json_number(listing.roof_bytes)));
    trace_report_json(execution->data, listing.trace);
    print_rows(execution, &listing, shown);
    if (shown < listing.count)
        execution_print(execution, "  and %zu more", listing.count - shown);
    print_rest(execution, &listing);
    marks_report_warn(execution, &marks);
    trace_report_warn(execution, listing.trace);
    free(listing.order);
    execution_done(execution);
}

static void complete_kernels(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    completion_add(completion, "--top");
}

const struct command command_kernels = {
    .name = "kernels",
    .usage = "kernels [LAYER] [--top N]",
    .summary = "what ran below the layers, and how near the roof",
    .help =
        "On a GPU every kernel with its launch shape, as CUPTI saw it; on the CPU, and where "
        "device\n"
        "events time the ops, the implementation of each op. Means per step, of the last `run` or\n"
        "since the live steps began. FLOP/s and bytes/s are the op's least work over the time of\n"
        "all its kernels, on the row of the longest. The roof is what the device can do at most\n"
        "in this precision; the share is of the bound that is nearer. On the CPU the "
        "bytes/s\n"
        "of the memory are measured once, after a run of two seconds; before it the share is of\n"
        "arithmetic alone. Replayed CUDA graphs are traced kernel by kernel in bursts.",
    .json = "device kernels[]{layer name per_step mean_ms min_ms max_ms time_ms grid[] block[] "
            "registers shared_bytes flops bytes flops_per_s bytes_per_s roof_share bound} "
            "throttle[] other_processes timing_source tracing{detail steps graphs graph_ms "
            "burst_cost} roof{source flops_per_s bytes_per_s} copies[]{kind pageable per_step "
            "bytes_per_step time_ms bytes_per_s} overhead[] lost{dropped unmatched untimed}",
    .see = WORDS("layers", "roof", "profile"),
    .examples = WORDS("kernels", "kernels --top 10", "kernels conv1"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 3,
    .run = run_kernels,
    .complete = complete_kernels,
};
