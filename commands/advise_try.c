#include "commands/advise_try.h"

#include "commands/advise_report.h"
#include "commands/format.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void try_next(struct execution *execution);

static struct advise_order *order_of(const struct execution *execution)
{
    return execution->state;
}

/* Settings that only count in another place than a pair of turns. */
static bool can_try(const struct advise_finding *finding, const struct advise_way *way)
{
    for (size_t i = 0; i < way->change_count; i++)
        if (strcmp(way->changes[i].key, "warmup") == 0)
            return false;
    return finding->state == ADVISE_GAIN || finding->state == ADVISE_TRY;
}

/* What came out, beside what was predicted. */
static void keep(struct execution *execution, const struct pairs_ratio *times,
                 const struct error *error)
{
    struct advise_order *order = order_of(execution);
    const struct advise_result *result = &order->report->results[order->at];
    const struct advise_finding *finding = result->finding;
    const struct advise_way *way = &finding->ways[order->way];
    char change[ADVISE_TEXT_BYTES];
    bool gain = finding->state == ADVISE_GAIN && way->saved_ms > 0;
    json_t *trial =
        json_pack("{s:s, s:s, s:s}", "id", result->rule->id, "title", result->rule->title, "change",
                  advise_changes_text(way->changes, way->change_count, change, sizeof change));
    json_object_set_new(trial, "predicted",
                        json_number(gain ? advise_speedup(finding, way->saved_ms) : (double)NAN));
    json_object_set_new(trial, "predicted_range",
                        gain ? json_pack("[o, o]",
                                         json_number(advise_speedup(finding, way->saved_low_ms)),
                                         json_number(advise_speedup(finding, way->saved_high_ms)))
                             : json_null());
    json_object_set_new(trial, "speedup", json_number(1 / times->ratio));
    json_object_set_new(trial, "low", json_number(1 / times->high));
    json_object_set_new(trial, "high", json_number(1 / times->low));
    json_object_set_new(trial, "pairs", json_integer((json_int_t)order->trials.done));
    json_object_set_new(trial, "verdict",
                        json_string(error                  ? "failed"
                                    : !pairs_differ(times) ? "no difference"
                                    : times->ratio < 1     ? "faster"
                                                           : "slower"));
    json_object_set_new(trial, "error", error ? json_string(error->why) : json_null());
    json_array_append(order->tried, trial);
    if (!error)
        workbench_tried(execution->workbench, trial);
    json_decref(trial);
}

static void ended(struct execution *execution, struct trials *trials, const struct error *error)
{
    struct advise_order *order = order_of(execution);
    struct pairs_ratio times = {NAN, NAN, NAN};
    struct error why = error ? *error : (struct error){0};
    if (!error)
        trials_ratio(trials, &times);
    if (!error || error->code != ERROR_INTERRUPTED)
        keep(execution, &times, error ? &why : NULL);
    trials_clear(trials);
    memset(trials, 0, sizeof *trials);
    if (why.code == ERROR_INTERRUPTED) {
        order->end(execution, &why);
        return;
    }
    order->way++;
    try_next(execution);
}

static bool prepare(struct advise_order *order, const struct advise_way *way, struct error *error)
{
    order->trials.rounds = order->rounds;
    order->trials.end = ended;
    for (size_t i = 0; i < way->change_count; i++) {
        char word[96];
        snprintf(word, sizeof word, "%s=%s", way->changes[i].key, way->changes[i].value);
        if (!trial_side_parse(&order->trials.side[1], word, "advise --try", error))
            return false;
    }
    return true;
}

static void finish(struct execution *execution)
{
    struct advise_order *order = order_of(execution);
    size_t index;
    json_t *trial;
    json_array_foreach(order->tried, index, trial)
    {
        struct advise_trial *out = advise_add_trial(order->facts);
        snprintf(out->id, sizeof out->id, "%s", json_string_value(json_object_get(trial, "id")));
        snprintf(out->change, sizeof out->change, "%s",
                 json_string_value(json_object_get(trial, "change")));
        out->speedup = json_get_double(trial, "speedup");
        out->low = json_get_double(trial, "low");
        out->high = json_get_double(trial, "high");
        out->predicted = json_get_double(trial, "predicted");
    }
    advise_examine(order->facts, order->report);
    order->end(execution, NULL);
}

/* From where the order stands on, the next way that can be tried; NULL: there is none. */
static const struct advise_way *next_way(struct advise_order *order)
{
    for (; order->at < order->report->advice; order->at++, order->way = 0) {
        const struct advise_finding *finding = order->report->results[order->at].finding;
        for (; order->way < finding->way_count; order->way++)
            if (can_try(finding, &finding->ways[order->way]))
                return &finding->ways[order->way];
    }
    return NULL;
}

static void try_next(struct execution *execution)
{
    struct advise_order *order = order_of(execution);
    struct pairs_ratio nothing = {NAN, NAN, NAN};
    struct error error = {0};
    const struct advise_way *way;
    while ((way = next_way(order)) != NULL) {
        if (prepare(order, way, &error)) {
            trials_start(execution, &order->trials);
            return;
        }
        keep(execution, &nothing, &error);
        trials_clear(&order->trials);
        memset(&order->trials, 0, sizeof order->trials);
        order->way++;
    }
    finish(execution);
}

void advise_try_start(struct execution *execution)
{
    struct advise_order *order = order_of(execution);
    order->at = order->way = 0;
    order->tried = json_array();
    try_next(execution);
}

void advise_try_print(struct execution *execution)
{
    struct advise_order *order = order_of(execution);
    size_t index;
    json_t *trial;
    if (json_array_size(order->tried) == 0)
        execution_print(execution, "nothing that a setting could change was advised");
    json_array_foreach(order->tried, index, trial)
    {
        const char *id = json_string_value(json_object_get(trial, "id"));
        const char *change = json_string_value(json_object_get(trial, "change"));
        const char *why = json_string_value(json_object_get(trial, "error"));
        double predicted = json_get_double(trial, "predicted");
        char before[48] = "no prediction";
        if (isfinite(predicted))
            snprintf(before, sizeof before, "predicted %.2f times", predicted);
        if (why)
            execution_print(execution, "tried %s, %s: %s", id, change, why);
        else
            execution_print(execution,
                            "tried %s, %s: %s, measured %.3f times as fast (95 %% interval %.3f to "
                            "%.3f): %s",
                            id, change, before, json_get_double(trial, "speedup"),
                            json_get_double(trial, "low"), json_get_double(trial, "high"),
                            json_string_value(json_object_get(trial, "verdict")));
    }
    json_object_set(execution->data, "tried", order->tried);
}
