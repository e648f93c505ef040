/* `roof`: what the device can do at most, measured, and how near each layer comes to it. */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/layer_rows.h"
#include "commands/parse.h"
#include "commands/roofline.h"
#include "commands/table.h"
#include "commands/workbench_private.h"
#include "profiler/store_trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS       20 /* that are run where nothing was measured yet */
#define TOP_DEFAULT 10
#define TOP_MOST    26 /* letters */
#define PLOT_COLS   76
#define PLOT_ROWS   20
#define LABEL_WIDTH 32

struct roofing {
    json_t *ceilings; /* the engine's reply */
    int64_t top;
};

static void free_roofing(void *state)
{
    struct roofing *roofing = state;
    json_decref(roofing->ceilings);
    free(roofing);
}

/* ---- the ceilings ---- */

static const json_t *find(const json_t *list, const char *key, const char *value)
{
    size_t index;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)list, index, item)
    {
        const char *text = json_string_value(json_object_get(item, key));
        if (value && text && strcmp(text, value) == 0)
            return item;
    }
    return NULL;
}

static const char *precision_of(const struct workbench *workbench)
{
    return json_string_value(json_object_get(workbench_plan(workbench), "precision")) ?: "fp32";
}

static struct roofline read_ceilings(const json_t *ceilings, const char *precision)
{
    const json_t *memory = json_object_get(ceilings, "memory");
    return (struct roofline){
        .flops_per_s = json_get_double(
            find(json_object_get(ceilings, "compute"), "precision", precision), "flops_per_s"),
        .bytes_per_s = json_get_double(find(memory, "level", "memory"), "bytes_per_s"),
        .cache_bytes_per_s = json_get_double(find(memory, "level", "cache"), "bytes_per_s")};
}

/* What the maker promises, where the profiler could find it out: "of 989 T". */
static char *peak_text(double peak, char *out, size_t size)
{
    char number[FORMAT_SIZE];
    *out = '\0';
    if (peak > 0)
        snprintf(out, size, ", device peak %s", format_count(number, sizeof number, peak));
    return out;
}

static void tell_ceilings(struct execution *execution, const json_t *ceilings,
                          const char *precision)
{
    static const char *const classes[] = {"fp32", "tf32", "fp16", "bf16", "int8"};
    const struct store_trace *trace = store_trace_get(workbench_store(execution->workbench), NULL);
    const json_t *threads = json_object_get(ceilings, "threads");
    char count[40] = "", rate[FORMAT_SIZE], peak[64];
    size_t index;
    json_t *item;
    if (json_is_integer(threads))
        snprintf(count, sizeof count, ", %lld threads", (long long)json_integer_value(threads));
    execution_print(execution, "ceilings of %s%s, measured:",
                    json_string_value(json_object_get(ceilings, "device")), count);
    json_array_foreach(json_object_get(ceilings, "compute"), index, item)
    {
        const char *name = json_string_value(json_object_get(item, "precision"));
        double most = NAN;
        for (size_t k = 0; trace && k < sizeof classes / sizeof *classes && k < ROOF_CLASSES; k++)
            most = strcmp(classes[k], name) == 0 ? trace->roof.flops_per_s[k] : most;
        execution_print(execution, "  %-7s %10s FLOP/s   by %s%s%s", name,
                        format_count(rate, sizeof rate, json_get_double(item, "flops_per_s")),
                        json_string_value(json_object_get(item, "by")),
                        peak_text(most, peak, sizeof peak),
                        strcmp(name, precision) == 0 ? "  <- this plan" : "");
    }
    json_array_foreach(json_object_get(ceilings, "memory"), index, item)
    {
        const char *name = json_string_value(json_object_get(item, "level"));
        bool memory = strcmp(name, "memory") == 0;
        execution_print(execution, "  %-7s %10s byte/s   by %s%s", name,
                        format_count(rate, sizeof rate, json_get_double(item, "bytes_per_s")),
                        json_string_value(json_object_get(item, "by")),
                        peak_text(trace && memory && !json_is_integer(threads)
                                      ? trace->roof.bytes_per_s
                                      : (double)NAN,
                                  peak, sizeof peak));
    }
}

/* ---- the layers ---- */

struct placed {
    size_t row;
    struct roofline_place place;
};

static json_t *place_json(const struct layer_row *row, const struct roofline_place *place)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "name", row->name,
                     "class", row->class_name, "time_ms", json_number(row->time_ms), "share",
                     json_number(row->share), "intensity", json_number(place->intensity),
                     "flops_per_s", json_number(place->flops_per_s), "bytes_per_s",
                     json_number(place->bytes_per_s), "attainable_flops_per_s",
                     json_number(place->attainable), "roof_share", json_number(place->share),
                     "bound", roofline_bound_name(place->bound));
}

/* Measured layers, the slowest first, where they stand. */
static struct placed *place_layers(const struct layer_row *rows, size_t count,
                                   const struct roofline *roof, size_t *measured)
{
    struct placed *list = xcalloc(count + 1, sizeof *list);
    size_t *order = xcalloc(count + 1, sizeof *order);
    size_t heads = layer_rows_sort(rows, count, "time", order);
    *measured = 0;
    for (size_t i = 0; i < heads; i++) {
        const struct layer_row *row = &rows[order[i]];
        if (!(row->time_ms > 0))
            continue;
        list[*measured].row = order[i];
        roofline_place(roof, (double)row->flops, (double)row->bytes, row->time_ms,
                       &list[*measured].place);
        (*measured)++;
    }
    free(order);
    return list;
}

static void print_plot(struct execution *execution, const struct roofline *roof,
                       const struct placed *list, size_t count, size_t top)
{
    struct roofline_mark *marks = xcalloc(count + 1, sizeof *marks);
    for (size_t i = 0; i < count; i++)
        marks[i] = (struct roofline_mark){list[i].place.intensity, list[i].place.flops_per_s,
                                          i < top ? (char)('a' + i) : '*'};
    char *plot = roofline_draw(roof, marks, count, PLOT_COLS, PLOT_ROWS,
                               workbench_utf8(execution->workbench));
    char *rest = plot, *line;
    if (plot)
        execution_print(execution, " FLOP/s");
    while (rest && (line = strsep(&rest, "\n")) != NULL && *line)
        execution_print(execution, "%s", line);
    free(plot);
    free(marks);
}

static const char *advice(enum roofline_bound bound)
{
    switch (bound) {
    case BOUND_COMPUTE:
        return "fewer FLOPs or a lower precision make it faster";
    case BOUND_MEMORY:
        return "fewer bytes make it faster: fusion, a lower precision, smaller weights";
    case BOUND_CACHE:
        return "its data come out of the caches, and that is what bounds it";
    case BOUND_OVERHEAD:
        return "neither roof is near: launches, small or odd shapes; a larger batch, fusion, graph";
    case BOUND_UNKNOWN:
        break;
    }
    return "";
}

static void print_rows(struct execution *execution, const struct layer_row *rows,
                       const struct placed *list, size_t count, size_t top)
{
    char time[FORMAT_SIZE], share[FORMAT_SIZE], speed[FORMAT_SIZE], rate[FORMAT_SIZE],
        roof[FORMAT_SIZE], intensity[FORMAT_SIZE];
    execution_print(execution, "   %-*s %9s %7s %9s %9s %9s %8s  %s", LABEL_WIDTH, "layer", "time",
                    "share", "FLOP/byte", "FLOP/s", "byte/s", "of roof", "bound by");
    for (size_t i = 0; i < count && i < top; i++) {
        const struct layer_row *row = &rows[list[i].row];
        const struct roofline_place *place = &list[i].place;
        char label[4 * LABEL_WIDTH];
        snprintf(label, sizeof label, "%.*s", LABEL_WIDTH, row->label);
        snprintf(intensity, sizeof intensity, isfinite(place->intensity) ? "%.3g" : "-",
                 place->intensity);
        execution_print(
            execution, " %c %s%*s %9s %7s %9s %9s %9s %8s  %s", (int)('a' + i), label,
            LABEL_WIDTH - text_columns(label), "", format_time_ms(time, sizeof time, row->time_ms),
            format_percent(share, sizeof share, row->share), intensity,
            format_count(speed, sizeof speed, place->flops_per_s),
            format_count(rate, sizeof rate, place->bytes_per_s),
            format_percent(roof, sizeof roof, place->share), roofline_bound_name(place->bound));
    }
    if (count > top)
        execution_print(execution, " * %zu more", count - top);
}

/* How much of the layers' time each bound has. */
static void tell_bounds(struct execution *execution, const struct layer_row *rows,
                        const struct placed *list, size_t count)
{
    double sums[BOUND_COUNT] = {0}, all = 0;
    char time[FORMAT_SIZE], share[FORMAT_SIZE];
    json_t *bounds = json_object();
    for (size_t i = 0; i < count; i++) {
        sums[list[i].place.bound] += rows[list[i].row].time_ms;
        all += rows[list[i].row].time_ms;
    }
    for (int bound = 0; bound < BOUND_COUNT; bound++) {
        const char *name = roofline_bound_name((enum roofline_bound)bound);
        char key[32];
        snprintf(key, sizeof key, "%s_ms", name);
        json_object_set_new(bounds, key, json_number(sums[bound]));
        if (sums[bound] > 0 && bound != BOUND_UNKNOWN)
            execution_print(execution, "  %-8s  %9s  %6s of the layers: %s", name,
                            format_time_ms(time, sizeof time, sums[bound]),
                            format_percent(share, sizeof share, sums[bound] / all),
                            advice((enum roofline_bound)bound));
    }
    json_object_set_new(execution->data, "bounds", bounds);
}

static void tell(struct execution *execution)
{
    const struct roofing *roofing = execution->state;
    struct workbench *workbench = execution->workbench;
    const char *precision = precision_of(workbench);
    struct roofline roof = read_ceilings(roofing->ceilings, precision);
    uint32_t segment = workbench_state(workbench) == STATE_LIVE ? 0 : workbench->last_segment;
    double mean = segment ? json_get_double(json_object_get(workbench->last_run, "wall_ms"), "mean")
                          : (double)NAN;
    struct layer_row *rows;
    double wall_ms;
    size_t measured,
        count = layer_rows_read(workbench_store(workbench), segment, mean, &rows, &wall_ms);
    struct placed *list = place_layers(rows, count, &roof, &measured);
    json_t *layers = json_array();
    for (size_t i = 0; i < measured; i++)
        json_array_append_new(layers, place_json(&rows[list[i].row], &list[i].place));
    json_object_set(execution->data, "ceilings", roofing->ceilings);
    json_object_set_new(execution->data, "precision", json_string(precision));
    json_object_set_new(execution->data, "flops_per_s", json_number(roof.flops_per_s));
    json_object_set_new(execution->data, "bytes_per_s", json_number(roof.bytes_per_s));
    json_object_set_new(execution->data, "cache_bytes_per_s", json_number(roof.cache_bytes_per_s));
    json_object_set_new(execution->data, "ridge_flops_per_byte",
                        json_number(roof.flops_per_s / roof.bytes_per_s));
    json_object_set_new(execution->data, "layers", layers);
    tell_ceilings(execution, roofing->ceilings, precision);
    print_plot(execution, &roof, list, measured, (size_t)roofing->top);
    print_rows(execution, rows, list, measured, (size_t)roofing->top);
    tell_bounds(execution, rows, list, measured);
    if (measured == 0)
        execution_warn(execution, "no layer was timed: `profile auto` times them");
    free(list);
    free(rows);
    execution_done(execution);
}

/* ---- asking ---- */

static void ran(struct execution *execution, const json_t *reply, const struct error *error)
{
    if (!reply) {
        execution_fail(execution, error);
        return;
    }
    workbench_ran(execution->workbench, reply);
    tell(execution);
}

static void measured(struct execution *execution, const json_t *data, const struct error *error)
{
    struct roofing *roofing = execution->state;
    const struct workbench *workbench = execution->workbench;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    roofing->ceilings = json_deep_copy(data);
    workbench_remember(execution->workbench, "ceilings", data);
    if (workbench->last_segment || workbench_state(workbench) == STATE_LIVE)
        tell(execution);
    else
        execution_request(execution, "run", json_pack("{s:i}", "steps", STEPS), ran);
}

static void run_roof(struct execution *execution, int argc, char *const *argv)
{
    struct roofing *roofing = xcalloc(1, sizeof *roofing);
    struct error error = {0};
    bool good = true, again = false;
    roofing->top = TOP_DEFAULT;
    execution->state = roofing;
    execution->free_state = free_roofing;
    for (int i = 1; good && i < argc; i++) {
        if (strcmp(argv[i], "--again") == 0)
            again = true;
        else if (strcmp(argv[i], "--top") == 0 && i + 1 < argc)
            good = parse_integer(argv[++i], 1, TOP_MOST, "roof --top", &roofing->top, &error);
        else
            good = error_set(&error, ERROR_SYNTAX, "roof", "'%s' is not understood: %s", argv[i],
                             command_roof.usage);
    }
    if (good) {
        execution_request(execution, "ceilings", json_pack("{s:b}", "again", (int)again), measured);
        return;
    }
    error_hint(&error, "roof --top 20");
    execution_fail(execution, &error);
}

static void complete_roof(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc, (void)argv;
    completion_add(completion, "--top");
    completion_add(completion, "--again");
}

const struct command command_roof = {
    .name = "roof",
    .usage = "roof [--top N] [--again]",
    .summary = "the roofline: what the device can do, and how near each layer comes to it",
    .help =
        "The ceilings are measured at the first call, in a second or two, and kept: multiply-adds "
        "in\n"
        "registers and reads of memory and caches on the CPU, matrix products in each precision, "
        "and\n"
        "on a GPU a matrix times a vector for its memory. Layers are those of the last run, or of "
        "the\n"
        "last second while live; where there is none, 20 steps are run. Each is drawn at its FLOPs "
        "a\n"
        "byte (the least it has to move: in, weights, out) against the FLOP/s that it reaches, "
        "both\n"
        "logarithmic, the --top (10) slowest as letters; the roof is solid, that of the caches "
        "dashed.\n"
        "A layer is bound by what would take longest by itself, if that is at least 30 % of its "
        "time;\n"
        "else by overhead. What came faster than memory gives it came out of the caches.\n"
        "JSON: ceilings, flops_per_s, bytes_per_s, layers[] {intensity, flops_per_s, bytes_per_s,\n"
        "attainable_flops_per_s, roof_share, bound}, bounds {compute_ms, memory_ms, ...}.",
    .json = "ceilings{device threads compute[]{precision flops_per_s by} memory[]{level "
            "bytes_per_s by} took_ms} precision flops_per_s bytes_per_s cache_bytes_per_s "
            "ridge_flops_per_byte layers[]{name class time_ms share intensity flops_per_s "
            "bytes_per_s attainable_flops_per_s roof_share bound} bounds{unknown_ms compute_ms "
            "memory_ms cache_ms overhead_ms}",
    .see = WORDS("kernels", "layers", "whatif"),
    .examples = WORDS("roof", "roof --top 20"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 3,
    .run = run_roof,
    .complete = complete_roof,
};
