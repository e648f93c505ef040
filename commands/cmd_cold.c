/* `cold`: where the time goes from nothing to the first answer, in a worker that was just started. */
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"
#include "engine/phases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEADY_STEPS 20
#define BAR_WIDTH    24
#define PARTS_MAX    (PHASE_COUNT + 5)

struct part {
    const char *key, *text;
    double ms;
};

struct cold {
    struct part parts[PARTS_MAX];
    size_t count;
    double first_ms, second_ms, steady_ms, tune_ms;
    json_t *load; /* the reply */
    bool live;    /* it was, and will be again */
};

static const struct {
    const char *key, *text;
} phase_names[] = {
#define PHASE_ROW(name, key, text) [name] = {key, text},
    PHASES(PHASE_ROW)
#undef PHASE_ROW
};

static void free_cold(void *state)
{
    struct cold *cold = state;
    json_decref(cold->load);
    free(cold);
}

static void add_part(struct cold *cold, const char *key, const char *text, double ms)
{
    if (cold->count < PARTS_MAX)
        cold->parts[cold->count++] = (struct part){key, text, ms};
}

static double total_of(const struct cold *cold)
{
    double sum = 0;
    for (size_t i = 0; i < cold->count; i++)
        sum += cold->parts[i].ms;
    return sum;
}

/* ---- what is told ---- */

static void print_parts(struct execution *execution, const struct cold *cold)
{
    bool utf8 = workbench_utf8(execution->workbench);
    double total = total_of(cold);
    for (size_t i = 0; i < cold->count; i++) {
        const struct part *part = &cold->parts[i];
        char time[FORMAT_SIZE], share[FORMAT_SIZE], bar[3 * BAR_WIDTH + 1];
        if (part->ms <= 0)
            continue;
        execution_print(execution, "  %-30s %9s %7s  %s", part->text,
                        format_time_ms(time, sizeof time, part->ms),
                        format_percent(share, sizeof share, part->ms / total),
                        format_bar(bar, sizeof bar, part->ms / total, BAR_WIDTH, utf8));
    }
}

static const struct part *largest_part(const struct cold *cold)
{
    const struct part *largest = &cold->parts[0];
    for (size_t i = 1; i < cold->count; i++)
        largest = cold->parts[i].ms > largest->ms ? &cold->parts[i] : largest;
    return largest;
}

static void fill(struct execution *execution, const struct cold *cold)
{
    json_t *parts = json_array(), *data = execution->data;
    double total = total_of(cold);
    for (size_t i = 0; i < cold->count; i++)
        json_array_append_new(parts, json_pack("{s:s, s:o, s:o}", "name", cold->parts[i].key, "ms",
                                               json_number(cold->parts[i].ms), "share",
                                               json_number(cold->parts[i].ms / total)));
    json_object_set(data, "device", json_object_get(execution->workbench->plan, "device"));
    json_object_set_new(data, "total_ms", json_number(total));
    json_object_set_new(data, "parts", parts);
    json_object_set_new(data, "first_ms", json_number(cold->first_ms));
    json_object_set_new(data, "second_ms", json_number(cold->second_ms));
    json_object_set_new(data, "steady_ms", json_number(cold->steady_ms));
    json_object_set_new(data, "tune_ms", json_number(cold->tune_ms));
}

static void tell(struct execution *execution)
{
    const struct cold *cold = execution->state;
    char total[FORMAT_SIZE], first[FORMAT_SIZE], second[FORMAT_SIZE], steady[FORMAT_SIZE],
        tune[FORMAT_SIZE], steps[FORMAT_SIZE];
    const char *device = json_string_value(json_object_get(execution->workbench->plan, "device"));
    execution_print(execution, "%s from nothing to the first answer on %s, in a new worker:",
                    format_time_ms(total, sizeof total, total_of(cold)), device ? device : "?");
    print_parts(execution, cold);
    execution_print(execution, "first step %s, second %s, later %s",
                    format_time_ms(first, sizeof first, cold->first_ms),
                    format_time_ms(second, sizeof second, cold->second_ms),
                    format_time_ms(steady, sizeof steady, cold->steady_ms));
    execution_print(execution,
                    "the first answer takes as long as %s later steps; the largest part: %s",
                    format_count(steps, sizeof steps, total_of(cold) / cold->steady_ms),
                    largest_part(cold)->text);
    if (cold->tune_ms > 0)
        execution_print(execution,
                        "measuring kernels (autotune) took %s more while it warmed up, after the "
                        "first answer",
                        format_time_ms(tune, sizeof tune, cold->tune_ms));
    fill(execution, cold);
}

/* ---- one request after another ---- */

static void resumed(struct execution *execution, const json_t *data, const struct error *error)
{
    execution->workbench->live = data != NULL;
    if (data)
        execution_done(execution);
    else
        execution_fail(execution, error);
}

static void finish(struct execution *execution)
{
    const struct cold *cold = execution->state;
    if (cold->live)
        execution_request(execution, "start", NULL, resumed);
    else
        execution_done(execution);
}

static void tuned(struct execution *execution, const json_t *data, const struct error *error)
{
    struct cold *cold = execution->state;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    cold->tune_ms = json_get_double(data, "tune_ms");
    tell(execution);
    finish(execution);
}

static void warmed(struct execution *execution, const json_t *reply, const struct error *error)
{
    struct cold *cold = execution->state;
    if (!reply) {
        execution_fail(execution, error);
        return;
    }
    workbench_ran(execution->workbench, reply);
    cold->steady_ms = json_get_double(json_object_get(reply, "wall_ms"), "median");
    execution_request(execution, "phases", NULL, tuned);
}

static void stepped(struct execution *execution, const json_t *reply, const struct error *error)
{
    struct cold *cold = execution->state;
    if (!reply) {
        execution_fail(execution, error);
        return;
    }
    const json_t *wall = json_object_get(reply, "wall_ms");
    cold->first_ms = json_get_double(reply, "first_ms");
    cold->second_ms = 2 * json_get_double(wall, "mean") - cold->first_ms;
    add_part(cold, "first_step", "run the first step", cold->first_ms);
    execution_request(execution, "run", json_pack("{s:i}", "steps", STEADY_STEPS), warmed);
}

/* What the parts of the load do not explain is told as such. */
static void divide_load(struct cold *cold, const json_t *phases, double load_ms)
{
    double rest = load_ms;
    for (int i = 0; i < PHASE_COUNT; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_ms", phase_names[i].key);
        double ms = json_get_double(phases, key);
        if (i == PHASE_TUNE) /* comes with later steps */
            continue;
        add_part(cold, phase_names[i].key, phase_names[i].text, ms);
        rest -= ms;
    }
    add_part(cold, "other", "the rest of loading", rest > 0 ? rest : 0);
}

static void divided(struct execution *execution, const json_t *data, const struct error *error)
{
    struct cold *cold = execution->state;
    const struct workbench *workbench = execution->workbench;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    double ready_ms = (double)(workbench->configured_ns - workbench->hello_ns) / 1e6;
    double load_ms = json_get_double(cold->load, "load_ms");
    add_part(cold, "process", "start the process",
             (double)(workbench->hello_ns - workbench->connect_ns) / 1e6);
    /* devices are looked for while the settings are told, and that is one of the phases */
    double looked_ms = json_get_double(data, "libraries_ms");
    add_part(cold, "settings", "tell it the settings",
             ready_ms > looked_ms ? ready_ms - looked_ms : 0);
    divide_load(cold, data, load_ms + (ready_ms < looked_ms ? ready_ms : looked_ms));
    execution_request(execution, "run", json_pack("{s:i, s:i}", "steps", 2, "warmup", 0), stepped);
}

static void loaded(struct execution *execution, const json_t *data, const struct error *error)
{
    struct cold *cold = execution->state;
    struct workbench *workbench = execution->workbench;
    if (!data) {
        workbench->live = cold->live;
        execution_fail(execution, error);
        return;
    }
    workbench_loaded(workbench, data, json_incref(workbench->load_arguments));
    cold->load = json_deep_copy(data);
    execution_request(execution, "phases", NULL, divided);
}

static void run_cold(struct execution *execution, int argc, char *const *argv)
{
    struct workbench *workbench = execution->workbench;
    struct error error = {0};
    (void)argc, (void)argv;
    if (workbench->replay.path) {
        error_set(&error, ERROR_COMMAND, "cold", "a recording is being played");
        error_hint(&error, "replay off");
        execution_fail(execution, &error);
        return;
    }
    struct cold *cold = xcalloc(1, sizeof *cold);
    execution->state = cold;
    execution->free_state = free_cold;
    cold->live = workbench->live;
    workbench->live = false; /* no step may come before the first */
    workbench_end_worker(workbench);
    execution_request(execution, "load", json_deep_copy(workbench->load_arguments), loaded);
}

const struct command command_cold = {
    .name = "cold",
    .usage = "cold",
    .summary = "the first answer in parts: process, reading, compiling, weights, first step",
    .help =
        "Ends the worker, starts another one and loads the model again, as a program does that is\n"
        "started for one prediction. Each moment until the first answer is in one part: starting "
        "the\n"
        "process, reading the model, lowering it to ops, finding devices and their libraries, "
        "opening\n"
        "the device (on a GPU its context), loading kernels, compiling the plan, uploading weights "
        "(on\n"
        "the CPU: packing them for the kernels), memory, the input, and the first step itself. "
        "Then a\n"
        "second step and 20 after a warm-up, for what it costs later. The file is read from the "
        "page\n"
        "cache if it was read before: from a disk it takes longer.\n"
        "JSON: total_ms, parts[] {name, ms, share}, first_ms, second_ms, steady_ms, tune_ms.",
    .json = "device total_ms parts[]{name ms share} first_ms second_ms steady_ms tune_ms",
    .see = WORDS("bench", "run", "warmup"),
    .examples = WORDS("cold"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 0,
    .run = run_cold,
};
