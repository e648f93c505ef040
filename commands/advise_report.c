#include "commands/advise_report.h"

#include "commands/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- for programs ---- */

static json_t *text_or_null(const char *text)
{
    return *text ? json_string(text) : json_null();
}

static json_t *changes_json(const struct advise_set *set, size_t count)
{
    json_t *changes = json_object();
    for (size_t i = 0; i < count; i++)
        json_object_set_new(changes, set[i].key, json_string(set[i].value));
    return changes;
}

/* What --try tries, with what each is predicted to bring. */
static json_t *ways_json(const struct advise_finding *finding)
{
    json_t *ways = json_array();
    for (size_t i = 0; i < finding->way_count; i++) {
        const struct advise_way *way = &finding->ways[i];
        bool gain = way->saved_ms > 0;
        json_array_append_new(
            ways,
            json_pack("{s:o, s:o, s:o}", "changes", changes_json(way->changes, way->change_count),
                      "saved_ms", json_number(gain ? way->saved_ms : (double)NAN), "speedup",
                      json_number(gain ? advise_speedup(finding, way->saved_ms) : (double)NAN)));
    }
    return ways;
}

static json_t *layers_json(const struct advise_facts *facts, const struct advise_finding *finding)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < finding->layer_count; i++)
        json_array_append_new(layers, json_string(facts->layers[finding->layers[i]].name));
    return layers;
}

static json_t *result_json(const struct advise_facts *facts, const struct advise_result *result)
{
    const struct advise_finding *finding = result->finding;
    bool gain = finding->saved_ms > 0;
    json_t *one = json_pack("{s:s, s:s, s:s, s:f, s:s}", "id", result->rule->id, "title",
                            result->rule->title, "state", advise_state_name(finding->state), "sure",
                            finding->sure, "what", finding->what);
    json_object_set_new(one, "base_ms", json_number(gain ? finding->base_ms : (double)NAN));
    json_object_set_new(one, "saved_ms", json_number(gain ? finding->saved_ms : (double)NAN));
    json_object_set_new(one, "saved_range_ms",
                        gain ? json_pack("[f, f]", finding->saved_low_ms, finding->saved_high_ms)
                             : json_null());
    json_object_set_new(
        one, "speedup",
        json_number(gain ? advise_speedup(finding, finding->saved_ms) : (double)NAN));
    json_object_set_new(
        one, "speedup_range",
        gain ? json_pack("[o, o]", json_number(advise_speedup(finding, finding->saved_low_ms)),
                         json_number(advise_speedup(finding, finding->saved_high_ms)))
             : json_null());
    json_object_set_new(one, "formula", text_or_null(finding->formula));
    json_object_set_new(one, "action", text_or_null(finding->action));
    json_object_set_new(one, "changes", changes_json(finding->changes, finding->change_count));
    json_object_set_new(one, "ways", ways_json(finding));
    json_object_set_new(one, "layers", layers_json(facts, finding));
    json_object_set_new(one, "keras", text_or_null(finding->keras));
    json_object_set_new(one, "run_first", text_or_null(finding->ask));
    json_object_set_new(one, "because", result->of ? json_string(result->of->id) : json_null());
    json_object_set_new(one, "measured", json_boolean(result->trial != NULL));
    return one;
}

void advise_report_json(json_t *data, const struct advise_facts *facts,
                        const struct advise_report *report)
{
    static const struct {
        const char *name;
        enum advise_state from, to;
    } lists[] = {{"advice", ADVISE_TRY, ADVISE_GAIN},
                 {"consequences", ADVISE_CONSEQUENCE, ADVISE_CONSEQUENCE},
                 {"notes", ADVISE_NOTE, ADVISE_NOTE},
                 {"asks", ADVISE_ASK, ADVISE_ASK}};
    json_object_set_new(data, "step_ms", json_number(report->step_ms));
    json_object_set_new(
        data, "first", report->advice > 0 ? json_string(report->results[0].rule->id) : json_null());
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
        json_t *list = json_array();
        for (size_t i = 0; i < report->count; i++) {
            enum advise_state state = report->results[i].finding->state;
            if (state >= lists[k].from && state <= lists[k].to)
                json_array_append_new(list, result_json(facts, &report->results[i]));
        }
        json_object_set_new(data, lists[k].name, list);
    }
    json_object_set_new(data, "facts", advise_facts_to_json(facts));
}

json_t *advise_report_choices(const struct advise_report *report)
{
    json_t *choices = json_object();
    for (size_t i = 0; i < report->count; i++) {
        const struct advise_result *result = &report->results[i];
        if (result->finding->state < ADVISE_CONSEQUENCE)
            continue;
        json_object_set_new(
            choices, result->rule->id,
            json_pack("{s:s, s:s, s:o}", "title", result->rule->title, "action",
                      result->finding->action, "changes",
                      changes_json(result->finding->changes, result->finding->change_count)));
    }
    return choices;
}

/* ---- for people ---- */

static void print_head(struct execution *execution, const struct advise_facts *facts,
                       const struct advise_report *report)
{
    char time[FORMAT_SIZE];
    execution_print(execution, "%s on %s, batch %.0f, %s: a step takes %s",
                    *facts->plan.model ? facts->plan.model : "the model", facts->device.id,
                    facts->settings.batch, facts->settings.precision,
                    format_time_ms(time, sizeof time, report->step_ms));
}

static void print_gain(struct execution *execution, size_t number,
                       const struct advise_result *result)
{
    const struct advise_finding *finding = result->finding;
    char saved[FORMAT_SIZE], low[FORMAT_SIZE], high[FORMAT_SIZE], base[FORMAT_SIZE];
    format_time_ms(saved, sizeof saved, finding->saved_ms);
    format_time_ms(low, sizeof low, finding->saved_low_ms);
    format_time_ms(high, sizeof high, finding->saved_high_ms);
    format_time_ms(base, sizeof base, finding->base_ms);
    execution_print(execution,
                    "%2zu. %s %s: saves %s of %s (%s to %s), %.2f times as fast; %s %.0f %%",
                    number, result->rule->id, result->rule->title, saved, base, low, high,
                    advise_speedup(finding, finding->saved_ms),
                    result->trial ? "measured, sure" : "sure", finding->sure * 100);
}

/* The ways that were not taken; those that were tried are told beside what came out. */
static void print_ways(struct execution *execution, const struct advise_result *result)
{
    const struct advise_finding *finding = result->finding;
    char taken[256], other[256], gain[48];
    advise_changes_text(finding->changes, finding->change_count, taken, sizeof taken);
    for (size_t i = 0; i < finding->way_count && !result->trial; i++) {
        const struct advise_way *way = &finding->ways[i];
        advise_changes_text(way->changes, way->change_count, other, sizeof other);
        if (strcmp(taken, other) == 0)
            continue;
        snprintf(gain, sizeof gain, "only measuring tells");
        if (way->saved_ms > 0)
            snprintf(gain, sizeof gain, "%.2f times as fast",
                     advise_speedup(finding, way->saved_ms));
        execution_print(execution, "      or: set %s: %s", other, gain);
    }
}

static void print_rest(struct execution *execution, const struct advise_result *result)
{
    const struct advise_finding *finding = result->finding;
    char changes[256];
    execution_print(execution, "      %s", finding->what);
    if (*finding->formula)
        execution_print(execution, "      by: %s", finding->formula);
    if (*advise_changes_text(finding->changes, finding->change_count, changes, sizeof changes))
        execution_print(execution, "      do: set %s%s%s", changes, *finding->action ? "; " : "",
                        finding->action);
    else if (*finding->action)
        execution_print(execution, "      do: %s", finding->action);
    print_ways(execution, result);
}

static void print_advice(struct execution *execution, const struct advise_report *report)
{
    const char *kept = NULL;
    for (size_t i = 0; i < report->advice; i++) {
        const struct advise_result *result = &report->results[i];
        if (result->finding->state == ADVISE_GAIN)
            print_gain(execution, i + 1, result);
        else
            execution_print(execution, "%2zu. %s %s: %s; sure %.0f %%", i + 1, result->rule->id,
                            result->rule->title,
                            result->finding->state == ADVISE_RISK
                                ? "no time to gain, but not to be relied on"
                                : "may gain; only measuring tells how much",
                            result->finding->sure * 100);
        print_rest(execution, result);
        if (!kept && result->finding->change_count > 0)
            kept = result->rule->id;
        for (size_t k = 0; k < report->count; k++)
            if (report->results[k].finding->state == ADVISE_CONSEQUENCE &&
                report->results[k].of == result->rule)
                execution_print(execution, "      follows from it: %s %s",
                                report->results[k].rule->id, report->results[k].rule->title);
    }
    execution_print(execution, "%s to gain above %g %%",
                    report->advice > 0 ? "nothing else" : "nothing", ADVISE_GAIN_LEAST * 100);
    if (kept)
        execution_print(execution,
                        "`advise --try` measures them, `apply %s` keeps one, `advise --code keras` "
                        "says it in Python",
                        kept);
}

void advise_report_print(struct execution *execution, const struct advise_facts *facts,
                         const struct advise_report *report)
{
    print_head(execution, facts, report);
    print_advice(execution, report);
    for (size_t i = 0; i < report->count; i++) {
        const struct advise_result *result = &report->results[i];
        const struct advise_finding *finding = result->finding;
        if (finding->state == ADVISE_NOTE)
            execution_print(execution, "  note  %s %s: %s%s%s", result->rule->id,
                            result->rule->title, finding->what, *finding->action ? ": " : "",
                            finding->action);
        else if (finding->state == ADVISE_ASK)
            execution_print(execution, "  not known  %s %s: %s; run first: %s", result->rule->id,
                            result->rule->title, finding->what, finding->ask);
    }
    execution_print(execution, "layertop measures its own engine: `gap TIME` says how much of your "
                               "program's time it explains");
}

void advise_report_code(struct execution *execution, const struct advise_report *report)
{
    json_t *code = json_array();
    for (size_t i = 0; i < report->advice; i++) {
        const struct advise_result *result = &report->results[i];
        if (!*result->finding->keras)
            continue;
        execution_print(execution, "# %s %s", result->rule->id, result->rule->title);
        execution_print(execution, "%s", result->finding->keras);
        json_array_append_new(
            code, json_pack("{s:s, s:s}", "id", result->rule->id, "keras", result->finding->keras));
    }
    if (json_array_size(code) == 0)
        execution_print(execution, "# nothing to change in a script");
    json_object_set_new(execution->data, "code", code);
}
