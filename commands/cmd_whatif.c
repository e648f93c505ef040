/* `whatif`: what a faster layer or part would bring to the step, by Amdahl's law on measured shares. */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/layer_rows.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANGES_MAX 16

struct change_of_part {
    char name[128];
    double time_ms, factor; /* 2: twice as fast */
};

struct step_times {
    double wall_ms;
    struct layer_row *rows;
    size_t count;
    const struct ledger *ledger; /* NULL: none */
};

/* The last `run`, or what is live. */
static bool read_times(struct workbench *workbench, struct step_times *out, struct error *error)
{
    const struct store *store = workbench_store(workbench);
    const struct store_segment *segment =
        workbench->last_segment ? store_segment_get(store, workbench->last_segment) : NULL;
    double mean =
        segment ? json_get_double(json_object_get(workbench->last_run, "wall_ms"), "mean") : NAN;
    out->count = layer_rows_read(store, segment ? workbench->last_segment : 0, mean, &out->rows,
                                 &out->wall_ms);
    out->ledger = segment && segment->ledger.steps > 0 ? &segment->ledger : NULL;
    if (out->ledger) /* of the very steps whose layers were timed */
        out->wall_ms = out->ledger->wall_ms;
    if (isfinite(out->wall_ms) && out->wall_ms > 0)
        return true;
    free(out->rows);
    error_set(error, ERROR_COMMAND, "whatif", "no step has been measured yet");
    return error_hint(error, "run 50; whatif model=2x");
}

/* The time of `name`: a layer, all layers ("model"), or a part of the ledger. NaN: none of them. */
static double part_time(const struct step_times *times, const char *name)
{
    double sum = 0;
    bool model = strcmp(name, "model") == 0;
    for (size_t i = 0; i < times->count; i++) {
        const struct layer_row *row = &times->rows[i];
        const char *slash = strrchr(row->name, '/');
        if (model && isfinite(row->time_ms))
            sum += row->time_ms;
        else if (!model && (strcmp(row->name, name) == 0 || strcmp(row->label, name) == 0 ||
                            (slash && strcmp(slash + 1, name) == 0)))
            return row->fused_into >= 0 ? times->rows[row->fused_into].time_ms : row->time_ms;
    }
    if (model)
        return sum;
    for (int c = 0; times->ledger && c < LEDGER_CLASS_COUNT; c++) {
        if (strcmp(ledger_class_name((enum ledger_class)c), name) == 0)
            return times->ledger->class_ms[c];
    }
    return NAN;
}

static bool parse_change(const struct step_times *times, const char *word,
                         struct change_of_part *out, struct error *error)
{
    const char *equals = strrchr(word, '=');
    char *end = NULL;
    if (equals && equals > word) {
        out->factor = strtod(equals + 1, &end);
        if (*end == 'x')
            end++;
    }
    if (!end || end == equals + 1 || *end || !(out->factor > 0) || !isfinite(out->factor)) {
        error_set(error, ERROR_SYNTAX, "whatif", "'%s' is not NAME=FACTORx", word);
        return error_hint(error, "whatif model=2x");
    }
    snprintf(out->name, sizeof out->name, "%.*s", (int)(equals - word), word);
    out->time_ms = part_time(times, out->name);
    if (isfinite(out->time_ms))
        return true;
    error_set(error, ERROR_VALUE, "whatif",
              "%s is neither a measured layer nor model, kernel, copy, launch, preprocess, gap",
              out->name);
    return error_hint(error, "layers");
}

/* What remains of the step, and of it if the parts took no time at all. */
static void tell(struct execution *execution, const struct step_times *times,
                 const struct change_of_part *changes, size_t count)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], share[FORMAT_SIZE];
    double wall = times->wall_ms, left = wall, least = wall;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct change_of_part *change = &changes[i];
        left -= change->time_ms * (1 - 1 / change->factor);
        least -= change->time_ms;
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o}", "name", change->name,
                                              "time_ms", json_number(change->time_ms), "share",
                                              json_number(change->time_ms / wall), "factor",
                                              json_number(change->factor)));
        execution_print(execution, "  %s: %s, %s of the step, %g times as fast", change->name,
                        format_time_ms(a, sizeof a, change->time_ms),
                        format_percent(share, sizeof share, change->time_ms / wall),
                        change->factor);
    }
    double cap = least > 0 ? wall / least : (double)INFINITY;
    execution_print(execution, "a step of %s would take %s: %.3f times as fast (derived)",
                    format_time_ms(a, sizeof a, wall), format_time_ms(b, sizeof b, left),
                    wall / left);
    if (isfinite(cap))
        execution_print(execution, "and no more than %.3f times if that took no time at all", cap);
    json_object_set_new(execution->data, "changes", list);
    json_object_set_new(execution->data, "wall_ms", json_number(wall));
    json_object_set_new(execution->data, "derived_wall_ms", json_number(left));
    json_object_set_new(execution->data, "speedup", json_number(wall / left));
    json_object_set_new(execution->data, "speedup_cap", json_number(cap));
    json_object_set_new(execution->data, "source", json_string("derived"));
}

/* The parts must not share time: a layer is a part of the model, and both of the kernels. */
static bool apart(const struct step_times *times, const struct change_of_part *changes,
                  size_t count, struct error *error)
{
    double sum = 0;
    bool whole = false;
    for (size_t i = 0; i < count; i++) {
        whole |= strcmp(changes[i].name, "model") == 0 || strcmp(changes[i].name, "kernel") == 0;
        sum += changes[i].time_ms;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(changes[i].name, changes[j].name) == 0)
                whole = true;
        }
    }
    bool layers = false;
    for (size_t i = 0; i < count; i++) {
        for (size_t r = 0; r < times->count; r++)
            layers |= strcmp(times->rows[r].name, changes[i].name) == 0;
    }
    if (count < 2 || (!(whole && layers) && sum <= times->wall_ms * 1.02))
        return true;
    error_set(error, ERROR_VALUE, "whatif",
              "these parts hold one another: their time counts twice");
    return error_hint(error, "whatif %s=%gx", changes[0].name, changes[0].factor);
}

static void run_whatif(struct execution *execution, int argc, char *const *argv)
{
    struct change_of_part changes[CHANGES_MAX];
    struct step_times times;
    struct error error = {0};
    size_t count = 0;
    if (!read_times(execution->workbench, &times, &error)) {
        execution_fail(execution, &error);
        return;
    }
    bool ok = true;
    for (int i = 1; ok && i < argc && count < CHANGES_MAX; i++)
        ok = parse_change(&times, argv[i], &changes[count], &error) && ++count;
    ok = ok && apart(&times, changes, count, &error);
    if (ok) {
        tell(execution, &times, changes, count);
        execution_done(execution);
    } else {
        execution_fail(execution, &error);
    }
    free(times.rows);
}

static void complete_whatif(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc, (void)argv;
    completion_add(completion, "model=2x");
    completion_add(completion, "copy=2x");
    completion_add(completion, "preprocess=2x");
    completion_add_layers(completion);
}

const struct command command_whatif = {
    .name = "whatif",
    .usage = "whatif NAME=FACTORx...",
    .summary = "what a faster layer or part would bring to the whole step (Amdahl)",
    .help =
        "NAME: a layer, model (all layers) or a part of the ledger: kernel, copy, launch,\n"
        "preprocess, gap. The shares are those of the last run, or of the last second while live.\n"
        "New step = wall - sum of time (1 - 1 / factor); the result is derived, not measured: the\n"
        "freed time is supposed to vanish from the step. The cap is the step without the parts.",
    .json = "changes[]{} wall_ms derived_wall_ms speedup speedup_cap source",
    .see = WORDS("layers", "gap", "fit"),
    .examples = WORDS("whatif model=10x", "whatif preprocess=4x copy=2x"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = CHANGES_MAX,
    .run = run_whatif,
    .complete = complete_whatif,
};
