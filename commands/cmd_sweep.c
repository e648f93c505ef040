/* `sweep`: one `run` for each value of a setting, a table of them, and the old value back. */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_DEFAULT 20
#define STEPS_MAX     10000000
#define VALUES_MAX    256
#define BAR_WIDTH     20
/* The knee: the smallest value that gives this share of the best throughput. */
#define KNEE_SHARE    0.95

enum metric { METRIC_THROUGHPUT, METRIC_LATENCY, METRIC_MEMORY };
static const char *const metric_words[] = {"thr", "lat", "mem"};

struct sweep {
    const struct setting *setting;
    json_t *values[VALUES_MAX];
    size_t count, at; /* at: of the value under way */
    int64_t steps, warmup;
    enum metric metric;
    json_t *points;     /* array, as in `data` */
    json_t *old;        /* the value to go back to */
    struct error error; /* that ends the command once the old value is back */
    bool ended;         /* by running out of memory */
};

static void free_sweep(void *state)
{
    struct sweep *sweep = state;
    for (size_t i = 0; i < sweep->count; i++)
        json_decref(sweep->values[i]);
    json_decref(sweep->points);
    json_decref(sweep->old);
    free(sweep);
}

static char *value_text(const struct sweep *sweep, const json_t *value, char *out, size_t size)
{
    return setting_format(sweep->setting, value, out, size);
}

/* ---- the table ---- */

static double point_number(const json_t *point, enum metric metric)
{
    switch (metric) {
    case METRIC_THROUGHPUT:
        return json_get_double(point, "throughput_per_s");
    case METRIC_LATENCY:
        return json_get_double(json_object_get(point, "wall_ms"), "median");
    case METRIC_MEMORY:
        return json_get_double(json_object_get(point, "memory"), "planned_bytes");
    }
    return NAN;
}

static const json_t *point_value(const json_t *point)
{
    const json_t *batch = json_object_get(point, "batch");
    return batch ? batch : json_object_get(point, "value");
}

/* The point with the best number of `metric`: the most throughput, else the least. NULL if none. */
static const json_t *best_point(const struct sweep *sweep, enum metric metric)
{
    const json_t *best = NULL;
    size_t index;
    json_t *point;
    json_array_foreach(sweep->points, index, point)
    {
        double number = point_number(point, metric),
               champion = best ? point_number(best, metric) : NAN;
        bool better = metric == METRIC_THROUGHPUT ? number > champion : number < champion;
        if (isfinite(number) && (!best || better))
            best = point;
    }
    return best;
}

/* Batch, threads ...: the smallest number with nearly the best throughput. NULL for words. */
static const json_t *knee_point(const struct sweep *sweep)
{
    const json_t *best = best_point(sweep, METRIC_THROUGHPUT), *knee = NULL;
    size_t index;
    json_t *point;
    json_array_foreach(sweep->points, index, point)
    {
        const json_t *value = point_value(point);
        if (!json_is_integer(value) || point_number(point, METRIC_THROUGHPUT) <
                                           KNEE_SHARE * point_number(best, METRIC_THROUGHPUT))
            continue;
        if (!knee || json_integer_value(value) < json_integer_value(point_value(knee)))
            knee = point;
    }
    return knee;
}

static void print_table(struct execution *execution, const struct sweep *sweep, const json_t *knee,
                        const json_t *best)
{
    char value[80], median[FORMAT_SIZE], p95[FORMAT_SIZE], rate[FORMAT_SIZE], memory[FORMAT_SIZE];
    char bar[3 * BAR_WIDTH + 1];
    int width = text_columns(sweep->setting->name);
    double most = 0;
    size_t index;
    json_t *point;
    json_array_foreach(sweep->points, index, point)
    {
        int columns = text_columns(value_text(sweep, point_value(point), value, sizeof value));
        width = columns > width ? columns : width;
        most = fmax(most, point_number(point, sweep->metric));
    }
    execution_print(execution, "%*s  %9s  %9s  %12s  %9s", width, sweep->setting->name, "median",
                    "p95", "samples/s", "planned");
    json_array_foreach(sweep->points, index, point)
    {
        const json_t *wall = json_object_get(point, "wall_ms");
        double share = most > 0 ? point_number(point, sweep->metric) / most : NAN;
        format_bar(bar, sizeof bar, share, BAR_WIDTH, workbench_utf8(execution->workbench));
        int pad = BAR_WIDTH - text_columns(bar);
        const char *mark = point == knee ? "knee" : point == best ? "best" : "";
        value_text(sweep, point_value(point), value, sizeof value);
        execution_print(execution, "%*s%s  %9s  %9s  %12s  %9s  %s%*s%s%s",
                        width - text_columns(value), "", value,
                        format_time_ms(median, sizeof median, json_get_double(wall, "median")),
                        format_time_ms(p95, sizeof p95, json_get_double(wall, "p95")),
                        format_count(rate, sizeof rate, point_number(point, METRIC_THROUGHPUT)),
                        format_bytes(memory, sizeof memory, point_number(point, METRIC_MEMORY)),
                        bar, *mark ? pad : 0, "", *mark ? "  " : "", mark);
    }
}

static void summarise(struct execution *execution, const struct sweep *sweep)
{
    char value[80], rate[FORMAT_SIZE], time[FORMAT_SIZE], memory[FORMAT_SIZE];
    const char *name = sweep->setting->name;
    const json_t *knee = knee_point(sweep), *best = best_point(sweep, sweep->metric);
    if (strcmp(name, "batch") == 0)
        workbench_swept(execution->workbench, sweep->points);
    print_table(execution, sweep, knee, best);
    json_object_set(execution->data, "knee",
                    knee ? (json_t *)(uintptr_t)point_value(knee) : json_null());
    json_object_set(execution->data, "best",
                    best ? (json_t *)(uintptr_t)point_value(best) : json_null());
    if (knee)
        execution_print(execution,
                        "knee at %s %s: %s samples/s, at least 95 %% of the best, %s a step", name,
                        value_text(sweep, point_value(knee), value, sizeof value),
                        format_count(rate, sizeof rate, point_number(knee, METRIC_THROUGHPUT)),
                        format_time_ms(time, sizeof time, point_number(knee, METRIC_LATENCY)));
    if (best && (!knee || sweep->metric != METRIC_THROUGHPUT))
        execution_print(execution, "%s at %s %s: %s samples/s, %s a step, %s planned",
                        sweep->metric == METRIC_THROUGHPUT ? "fastest"
                        : sweep->metric == METRIC_LATENCY  ? "shortest step"
                                                           : "least memory",
                        name, value_text(sweep, point_value(best), value, sizeof value),
                        format_count(rate, sizeof rate, point_number(best, METRIC_THROUGHPUT)),
                        format_time_ms(time, sizeof time, point_number(best, METRIC_LATENCY)),
                        format_bytes(memory, sizeof memory, point_number(best, METRIC_MEMORY)));
}

/* ---- one value after another ---- */

static void restored(struct workbench *workbench, void *context, const json_t *data,
                     const struct error *error)
{
    struct execution *execution = context;
    struct sweep *sweep = execution->state;
    char value[80];
    if (!data && !workbench->engine) /* the next worker is configured with the old value */
        json_object_set(workbench->settings, sweep->setting->name, sweep->old);
    else if (!data)
        execution_warn(execution, "%s could not be set back to %s: %s", sweep->setting->name,
                       value_text(sweep, sweep->old, value, sizeof value), error->why);
    if (json_array_size(sweep->points) > 0)
        summarise(execution, sweep);
    if (sweep->error.code != ERROR_NONE)
        execution_fail(execution, &sweep->error);
    else
        execution_done(execution);
}

static void restore(struct execution *execution)
{
    struct sweep *sweep = execution->state;
    struct workbench *workbench = execution->workbench;
    execution->progress_label[0] = '\0';
    if (json_equal(json_object_get(workbench->settings, sweep->setting->name), sweep->old))
        restored(workbench, execution, json_null(), NULL);
    else
        workbench_change(workbench, sweep->setting, json_incref(sweep->old), restored, execution);
}

/* A value could not be set or run: out of memory is an answer, anything else an error. */
static void stumble(struct execution *execution, const struct error *error)
{
    struct sweep *sweep = execution->state;
    char value[80];
    bool memory = error->code == ERROR_MEMORY || error->code == ERROR_MEMORY_LIMIT;
    value_text(sweep, sweep->values[sweep->at], value, sizeof value);
    if (memory && sweep->at > 0) {
        execution_warn(execution, "the sweep ends at %s %s: %s", sweep->setting->name, value,
                       error->why);
        json_object_set_new(execution->data, "ended",
                            json_pack("{s:O, s:o, s:s}", "value", sweep->values[sweep->at], "code",
                                      json_sprintf("E%03d", (int)error->code), "message",
                                      error->why));
    } else {
        sweep->error = *error;
    }
    restore(execution);
}

static void next_value(struct execution *execution);

static void ran(struct execution *execution, const json_t *reply, const struct error *why)
{
    static const char *const keys[] = {"device",  "precision",        "steps", "steady",
                                       "wall_ms", "throughput_per_s", "memory"};
    struct sweep *sweep = execution->state;
    if (!reply) {
        stumble(execution, why);
        return;
    }
    json_t *point = json_object();
    bool batch = strcmp(sweep->setting->name, "batch") == 0;
    json_object_set(point, batch ? "batch" : "value", sweep->values[sweep->at]);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set_new(point, keys[i],
                            json_incref(json_object_get(reply, keys[i])) ?: json_null());
    if (json_object_get(reply, "per_device"))
        json_object_set(point, "per_device", json_object_get(reply, "per_device"));
    json_array_append_new(sweep->points, point);
    sweep->at++;
    next_value(execution);
}

static void changed(struct workbench *workbench, void *context, const json_t *data,
                    const struct error *error)
{
    struct execution *execution = context;
    struct sweep *sweep = execution->state;
    if (!data) {
        stumble(execution, error);
        return;
    }
    /* Ctrl-C while no request was open to carry it */
    if (workbench->interrupted) {
        error_set(&sweep->error, ERROR_INTERRUPTED, "sweep", "interrupted");
        restore(execution);
        return;
    }
    json_t *arguments = json_pack("{s:I}", "steps", (json_int_t)sweep->steps);
    if (sweep->warmup >= 0)
        json_object_set_new(arguments, "warmup", json_integer(sweep->warmup));
    execution_request(execution, "run", arguments, ran);
}

static void next_value(struct execution *execution)
{
    struct sweep *sweep = execution->state;
    char value[80];
    if (sweep->at == sweep->count) {
        restore(execution);
        return;
    }
    value_text(sweep, sweep->values[sweep->at], value, sizeof value);
    snprintf(execution->progress_label, sizeof execution->progress_label,
             "sweep %s %.60s, %zu of %zu", sweep->setting->name, value, sweep->at + 1,
             sweep->count);
    execution->progress_from = (double)sweep->at / (double)sweep->count;
    execution->progress_span = 1 / (double)sweep->count;
    if (execution->sink && execution->sink->progress)
        execution->sink->progress(execution->sink->context, execution->progress_from,
                                  execution->progress_label);
    workbench_change(execution->workbench, sweep->setting, json_incref(sweep->values[sweep->at]),
                     changed, execution);
}

/* ---- the words ---- */

static bool add_value(struct sweep *sweep, json_t *value, struct error *error)
{
    if (value && sweep->count < VALUES_MAX) {
        sweep->values[sweep->count++] = value;
        return true;
    }
    if (value)
        error_set(error, ERROR_VALUE, "sweep", "more than %d values", VALUES_MAX);
    json_decref(value);
    return false;
}

/* "1..64x2", "1,2,8", "fp32,bf16", "cpu,0": each value must be one that `set` takes. */
static bool add_values(struct sweep *sweep, const char *text, struct error *error)
{
    const struct setting *setting = sweep->setting;
    char number[32];
    if (setting->type == SETTING_INTEGER && strstr(text, "..")) {
        int64_t values[VALUES_MAX];
        size_t count = parse_range(text, "sweep", values, VALUES_MAX, error);
        bool ok = count > 0 || error_hint(error, "sweep %s 1..8x2", setting->name);
        for (size_t i = 0; ok && i < count; i++) {
            snprintf(number, sizeof number, "%lld", (long long)values[i]);
            ok = add_value(sweep, setting_parse(setting, number, error), error);
        }
        return ok;
    }
    char *copy = xstrdup(text), *rest = copy, *item;
    bool ok = true;
    while (ok && (item = strsep(&rest, ",")) != NULL)
        ok = add_value(sweep, setting_parse(setting, item, error), error);
    free(copy);
    return ok;
}

static bool parse_option(struct sweep *sweep, const char *option, const char *value,
                         struct error *error)
{
    if (strcmp(option, "--steps") == 0)
        return parse_integer(value, 1, STEPS_MAX, "sweep --steps", &sweep->steps, error) ||
               error_hint(error, "sweep batch 1..64x2 --steps 50");
    if (strcmp(option, "--metric") != 0) {
        error_set(error, ERROR_SYNTAX, "sweep", "'%s' is not understood: %s", option,
                  command_sweep.usage);
        return error_hint(error, "help sweep");
    }
    for (size_t i = 0; i < sizeof metric_words / sizeof *metric_words; i++) {
        if (strcmp(metric_words[i], value) == 0) {
            sweep->metric = (enum metric)i;
            return true;
        }
    }
    error_set(error, ERROR_VALUE, "sweep --metric", "'%s' is none of thr, lat, mem", value);
    return error_hint(error, "sweep batch 1..64x2 --metric thr");
}

static bool parse_arguments(struct sweep *sweep, int argc, char *const *argv, struct error *error)
{
    sweep->setting = setting_find(argv[1], error);
    if (!sweep->setting)
        return false;
    if (!sweep->setting->engine) {
        error_set(error, ERROR_VALUE, "sweep", "%s does not change how fast anything runs",
                  sweep->setting->name);
        return error_hint(error, "sweep batch 1..64x2");
    }
    for (int i = 2; i < argc; i++) {
        bool option = argv[i][0] == '-' && argv[i][1] == '-';
        if (option && i + 1 == argc) {
            error_set(error, ERROR_SYNTAX, "sweep", "%s needs a value", argv[i]);
            return error_hint(error, "help sweep");
        }
        if (option ? !parse_option(sweep, argv[i], argv[i + 1], error)
                   : !add_values(sweep, argv[i], error))
            return false;
        i += option;
    }
    if (sweep->count == 0) {
        error_set(error, ERROR_SYNTAX, "sweep", "which values of %s? %s", sweep->setting->name,
                  command_sweep.usage);
        return error_hint(error, "sweep batch 1..64x2");
    }
    return true;
}

static void run_sweep(struct execution *execution, int argc, char *const *argv)
{
    struct workbench *workbench = execution->workbench;
    struct sweep *sweep = xcalloc(1, sizeof *sweep);
    struct error error = {0};
    sweep->steps = STEPS_DEFAULT;
    sweep->warmup = -1;
    sweep->points = json_array();
    execution->state = sweep;
    execution->free_state = free_sweep;
    const json_t *warmup = workbench_setting(workbench, "warmup");
    if (json_is_integer(warmup))
        sweep->warmup = json_integer_value(warmup);
    if (!parse_arguments(sweep, argc, argv, &error)) {
        execution_fail(execution, &error);
        return;
    }
    sweep->old = json_incref(json_object_get(workbench->settings, sweep->setting->name));
    json_object_set_new(execution->data, "setting", json_string(sweep->setting->name));
    json_object_set_new(execution->data, "metric", json_string(metric_words[sweep->metric]));
    json_object_set(execution->data, "points", sweep->points);
    next_value(execution);
}

static void complete_sweep(struct command_completion *completion, int argc, char *const *argv)
{
    const char *before = argv[argc - 1];
    if (argc == 1) {
        for (size_t i = 0; i < setting_count(); i++)
            if (setting_at(i)->engine)
                completion_add(completion, setting_at(i)->name);
        return;
    }
    if (strcmp(before, "--metric") == 0) {
        for (size_t i = 0; i < sizeof metric_words / sizeof *metric_words; i++)
            completion_add(completion, metric_words[i]);
        return;
    }
    const struct setting *setting = setting_find(argv[1], NULL);
    if (argc == 2 && setting && strcmp(setting->name, "batch") == 0)
        completion_add(completion, "1..64x2");
    else if (argc == 2 && setting)
        completion_add_values(completion, setting);
    completion_add(completion, "--steps");
    completion_add(completion, "--metric");
}

const struct command command_sweep = {
    .name = "sweep",
    .usage = "sweep KEY VALUES [--steps N] [--metric thr|lat|mem]",
    .summary = "run each value of a setting: a table, the best and the knee",
    .help =
        "VALUES: A..BxK multiplies, A..B+K adds, or a list (1,2,8 or fp32,bf16). Each value is "
        "set,\n"
        "warmed up and measured for N steps (20); the old value comes back at the end. The knee "
        "is\n"
        "the smallest value with at least 95 % of the best throughput: beyond it latency grows "
        "and\n"
        "little is gained. Running out of memory ends the sweep with what was measured before.\n"
        "--metric says what the bars show: throughput, the median step or planned memory.",
    .json = "setting metric points[]{batch device precision steps steady wall_ms{median p95 p90 "
            "p99 min mean} throughput_per_s memory{planned_bytes measured_bytes context_bytes} "
            "value} knee best",
    .see = WORDS("fit", "ab", "batch"),
    .examples = WORDS("sweep batch 1..64x2", "sweep batch 8..32+8 --steps 100 --metric lat",
                      "sweep threads 1,2", "sweep precision fp32,bf16"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = -1,
    .run = run_sweep,
    .complete = complete_sweep,
};
