/* The rules of `advise` on made records: each fires, and just does not; what is planted is the first
 * advice; half of it is half the gain. tests/data/advise/cases.json changes a few facts of a healthy
 * record and says what is then found. */
#include "profiler/advise/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "tests/data/advise/"

static json_t *read_json(const char *name)
{
    char path[256];
    json_error_t error;
    snprintf(path, sizeof path, FOLDER "%s.json", name);
    json_t *json = json_load_file(path, 0, &error);
    if (!json)
        fail_msg("%s: %s", path, error.text);
    return json;
}

/* Set what stands at "layers.3.time_ms". */
static void set_at(json_t *record, const char *path, json_t *value)
{
    char part[64];
    for (json_t *at = record;;) {
        size_t length = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)length, path);
        bool last = path[length] == '\0', list = json_is_array(at);
        size_t index = list ? (size_t)atoi(part) : 0;
        if (list)
            assert_true(index < json_array_size(at));
        if (last && list)
            json_array_set(at, index, value);
        else if (last)
            json_object_set(at, part, value);
        if (last)
            return;
        at = list ? json_array_get(at, index) : json_object_get(at, part);
        assert_non_null(at);
        path += length + 1;
    }
}

static struct advise_facts *read_facts(const json_t *record)
{
    struct error error = {0};
    struct advise_facts *facts = advise_facts_from_json(record, &error);
    if (!facts)
        fail_msg("%s", error.why);
    return facts;
}

static const struct advise_result *result_of(const struct advise_report *report, const char *id)
{
    for (size_t i = 0; i < report->count; i++)
        if (strcmp(report->results[i].rule->id, id) == 0)
            return &report->results[i];
    fail_msg("there is no rule %s", id);
    return NULL;
}

static const char *text_of(const json_t *one, const char *key)
{
    return json_string_value(json_object_get(one, key));
}

/* What the record of a case, with `more` changed too, leads to. */
static void examine(const json_t *one, const json_t *more, struct advise_report *report)
{
    const char *path;
    json_t *record = read_json(text_of(one, "base")), *value;
    json_object_foreach(json_object_get(one, "set"), path, value) set_at(record, path, value);
    json_object_foreach((json_t *)(uintptr_t)more, path, value) set_at(record, path, value);
    struct advise_facts *facts = read_facts(record);
    advise_examine(facts, report);
    advise_facts_free(facts);
    json_decref(record);
}

static void check_case(const json_t *one)
{
    static struct advise_report report;
    const char *id = text_of(one, "id"), *state = text_of(one, "state");
    const char *what = text_of(one, "what"), *first = text_of(one, "first");
    char *text = json_dumps(one, JSON_COMPACT);
    examine(one, NULL, &report);
    const struct advise_result *result = result_of(&report, id);
    if (strcmp(advise_state_name(result->finding->state), state) != 0)
        fail_msg("%s: %s is %s: %s", text, id, advise_state_name(result->finding->state),
                 result->finding->what);
    if (what && !strstr(result->finding->what, what))
        fail_msg("%s: says '%s'", text, result->finding->what);
    bool advice = result->finding->state >= ADVISE_TRY;
    if (advice && !first)
        first = id;
    if (first && (report.advice == 0 || strcmp(report.results[0].rule->id, first) != 0))
        fail_msg("%s: the first advice is %s: %s", text, report.results[0].rule->id,
                 report.results[0].finding->what);
    if (advice && (!*result->finding->what ||
                   (!*result->finding->action && result->finding->change_count == 0)))
        fail_msg("%s: nothing says what to do", text);
    free(text);
}

static void every_case_is_told(void **state)
{
    (void)state;
    json_t *cases = read_json("cases"), *one;
    size_t index;
    json_array_foreach(cases, index, one) check_case(one);
    assert_true(index >= 110);
    json_decref(cases);
}

/* A rule that no case makes fire, or none makes hold, is not tested. */
static void every_rule_has_both_cases(void **state)
{
    (void)state;
    json_t *cases = read_json("cases"), *one;
    for (const struct advise_rule *rule = advise_rules; rule->id; rule++) {
        bool fires = false, holds = false;
        size_t index;
        json_array_foreach(cases, index, one)
        {
            if (strcmp(text_of(one, "id"), rule->id) != 0)
                continue;
            bool nothing = strcmp(text_of(one, "state"), "nothing") == 0;
            fires = fires || !nothing;
            holds = holds || nothing;
        }
        if (!fires || !holds)
            fail_msg("%s: fires %d, holds %d", rule->id, fires, holds);
    }
    json_decref(cases);
}

/* Halving a planted fault halves the predicted gain, within a quarter. */
static void half_a_fault_is_half_the_gain(void **state)
{
    (void)state;
    static struct advise_report report;
    json_t *cases = read_json("cases"), *one;
    size_t index, halved = 0;
    json_array_foreach(cases, index, one)
    {
        const json_t *half = json_object_get(one, "half");
        const char *id = text_of(one, "id");
        if (!half)
            continue;
        examine(one, NULL, &report);
        double whole_ms = result_of(&report, id)->finding->saved_ms;
        examine(one, half, &report);
        double half_ms = result_of(&report, id)->finding->saved_ms;
        if (fabs(half_ms / (whole_ms / 2) - 1) > 0.25)
            fail_msg("%s: %g ms, and %g ms for half of it", id, whole_ms, half_ms);
        halved++;
    }
    assert_true(halved >= 12);
    json_decref(cases);
}

static void healthy_runs_get_no_advice(void **state)
{
    (void)state;
    static const char *const bases[] = {"cpu", "gpu"};
    static struct advise_report report;
    for (size_t i = 0; i < 2; i++) {
        json_t *record = read_json(bases[i]);
        struct advise_facts *facts = read_facts(record);
        advise_examine(facts, &report);
        if (report.advice > 0)
            fail_msg("%s: %s %s", bases[i], report.results[0].rule->id,
                     report.results[0].finding->what);
        assert_true(fabs(report.step_ms - 10) < 1e-9);
        advise_facts_free(facts);
        json_decref(record);
    }
}

/* Of an empty record no rule knows anything, and none invents it. */
static void nothing_known_is_nothing_said(void **state)
{
    (void)state;
    static struct advise_report report;
    struct advise_facts *facts = advise_facts_new();
    advise_examine(facts, &report);
    assert_true(isnan(report.step_ms) && report.count == 0);
    facts->run.wall_ms = 10; /* and a step alone leads to no advice */
    advise_examine(facts, &report);
    assert_int_equal(report.advice, 0);
    advise_facts_free(facts);
}

/* Of a pipeline before the model starts, each way is predicted from the step's own parts; of those
 * that were tried the best one is kept, whatever was predicted. */
static void the_best_way_is_taken(void **state)
{
    (void)state;
    static struct advise_report report;
    char text[128];
    json_error_t why;
    json_t *one = json_loads(
        "{\"base\": \"gpu\", \"set\": {\"ledger.preprocess_ms\": 6, \"ledger.kernel_ms\": 3,"
        " \"pipeline\": {\"mode\": \"serial\", \"mapping\": \"picture\", \"parallel_calls\": 2,"
        " \"processors\": 4, \"prepare_ms\": 6, \"decode_ms\": 6, \"resize_ms\": 5,"
        " \"scale_ms\": 1}}}",
        0, &why);
    assert_non_null(one);
    examine(one, NULL, &report);
    const struct advise_finding *finding = result_of(&report, "A21")->finding;
    assert_int_equal(finding->state, ADVISE_GAIN);
    /* 12 ms of work, 4 ms of the rest: 4 + 12/4; max(4, 12/2); max(4, 12/4) */
    assert_int_equal(finding->way_count, 5);
    assert_true(fabs(finding->ways[0].saved_ms - 3) < 1e-9);
    assert_true(fabs(finding->ways[1].saved_ms - 4) < 1e-9);
    assert_true(fabs(finding->ways[2].saved_ms - 6) < 1e-9);
    assert_true(isnan(finding->ways[3].saved_ms) && isnan(finding->ways[4].saved_ms));
    advise_changes_text(finding->ways[4].changes, finding->ways[4].change_count, text, sizeof text);
    assert_string_equal(text, "preprocess_on gpu");
    assert_true(fabs(finding->saved_ms - 6) < 1e-9);
    advise_changes_text(finding->changes, finding->change_count, text, sizeof text);
    assert_string_equal(text, "pipeline overlap, parallel_calls 4");
    json_t *more = json_pack("{s:[{s:s, s:s, s:f, s:f, s:f}, {s:s, s:s, s:f, s:f, s:f}]}", "trials",
                             "id", "A21", "change", "pipeline overlap, parallel_calls 4", "speedup",
                             1.1, "low", 1.05, "high", 1.2, "id", "A21", "change", "mapping batch",
                             "speedup", 2.0, "low", 1.9, "high", 2.1);
    assert_non_null(more);
    json_array_append_new(json_object_get(more, "trials"),
                          json_pack("{s:s, s:s, s:f, s:f, s:f}", "id", "A21", "change",
                                    "pipeline overlap", "speedup", 0.9, "low", 0.8, "high", 0.95));
    examine(one, more, &report);
    finding = result_of(&report, "A21")->finding;
    advise_changes_text(finding->changes, finding->change_count, text, sizeof text);
    assert_string_equal(text, "mapping batch");
    assert_true(result_of(&report, "A21")->trial != NULL);
    assert_true(fabs(finding->saved_ms - 5) < 1e-9);
    json_decref(more);
    json_decref(one);
}

static void records_come_back(void **state)
{
    (void)state;
    static const char *const bases[] = {"cpu", "gpu"};
    for (size_t i = 0; i < 2; i++) {
        json_t *record = read_json(bases[i]);
        struct advise_facts *facts = read_facts(record);
        json_t *again = advise_facts_to_json(facts);
        assert_true(json_equal(record, again));
        json_t *line = json_pack("{s:{s:o}}", "data", "facts", again);
        struct advise_facts *inner = read_facts(line);
        assert_int_equal(inner->layers_count, facts->layers_count);
        advise_facts_free(inner);
        json_decref(line);
        advise_facts_free(facts);
        json_decref(record);
    }
}

static void bad_records_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *json, *why;
    } cases[] = {
        {"{}", "version"},
        {"[]", "version"},
        {"{\"version\": 7}", "version 7"},
        {"{\"version\": 1, \"run\": {\"wall_ms\": \"long\"}}", "'run.wall_ms' is not a number"},
        {"{\"version\": 1, \"settings\": 3}", "'settings' is not an object"},
        {"{\"version\": 1, \"settings\": {\"fusion\": 1}}", "'settings.fusion' is not true"},
        {"{\"version\": 1, \"layers\": [{}, {\"name\": 4}]}", "'layers[1].name' is not a text"},
        {"{\"version\": 1, \"points\": {}}", "'points' is not a list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        json_t *json = json_loads(cases[i].json, 0, NULL);
        assert_null(advise_facts_from_json(json, &error));
        if (!strstr(error.why, cases[i].why))
            fail_msg("%s: %s", cases[i].json, error.why);
        json_decref(json);
    }
}

/* Put another value in place of some numbers and texts. */
static void disturb(json_t *value, uint32_t *state)
{
    static const double odd[] = {0, -1, 1e-300, 1e300, 3, 1e9};
    const char *key;
    size_t index;
    json_t *member;
    json_object_foreach(value, key, member)
    {
        *state = *state * 1664525u + 1013904223u;
        bool hit = *state >> 29 == 0;
        if (hit && json_is_number(member) && strcmp(key, "version") != 0)
            json_object_set_new(value, key, json_real(odd[(*state >> 8) % 6]));
        else if (hit && json_is_string(member))
            json_object_set_new(value, key, json_string(*state & 64 ? "" : "\u00e9+\u00e9"));
        else
            disturb(member, state);
    }
    json_array_foreach(value, index, member) disturb(member, state);
}

/* A record comes from a file: whatever numbers stand there, every gain is one of its base. */
static void odd_numbers_harm_nothing(void **state)
{
    (void)state;
    static struct advise_report report;
    uint32_t seed = 1;
    json_t *cases = read_json("cases"), *one;
    size_t index;
    json_array_foreach(cases, index, one)
    {
        json_t *record = read_json(text_of(one, "base"));
        disturb(record, &seed);
        struct advise_facts *facts = read_facts(record);
        advise_examine(facts, &report);
        for (size_t i = 0; i < report.count; i++) {
            const struct advise_finding *finding = report.results[i].finding;
            if (finding->state != ADVISE_GAIN)
                continue;
            if (!(finding->saved_low_ms <= finding->saved_ms &&
                  finding->saved_ms <= finding->saved_high_ms &&
                  finding->saved_high_ms <= finding->base_ms))
                fail_msg("%s: saves %g (%g to %g) of %g", report.results[i].rule->id,
                         finding->saved_ms, finding->saved_low_ms, finding->saved_high_ms,
                         finding->base_ms);
        }
        json_t *again = advise_facts_to_json(facts);
        assert_non_null(again);
        json_decref(again);
        advise_facts_free(facts);
        json_decref(record);
    }
    json_decref(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_told),
        cmocka_unit_test(every_rule_has_both_cases),
        cmocka_unit_test(half_a_fault_is_half_the_gain),
        cmocka_unit_test(healthy_runs_get_no_advice),
        cmocka_unit_test(nothing_known_is_nothing_said),
        cmocka_unit_test(the_best_way_is_taken),
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(bad_records_are_named),
        cmocka_unit_test(odd_numbers_harm_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
