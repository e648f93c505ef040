/* The rules of `doctor` on made records: each fires, and just does not; the root cause is named once.
 * tests/data/doctor/cases.json changes a few facts of a healthy record and says what is then found. */
#include "profiler/doctor/redact.h"
#include "profiler/doctor/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "tests/data/doctor/"

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

/* Set what stands at "gpus.0.free_bytes". */
static void set_at(json_t *record, const char *path, json_t *value)
{
    char part[64];
    json_t *at = record;
    for (;;) {
        size_t length = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)length, path);
        bool last = path[length] == '\0';
        if (json_is_array(at)) {
            size_t index = (size_t)atoi(part);
            assert_true(index < json_array_size(at));
            if (last)
                json_array_set(at, index, value);
            at = json_array_get(at, index);
        } else {
            if (!last && !json_object_get(at, part))
                json_object_set_new(at, part, json_object());
            if (last)
                json_object_set(at, part, value);
            at = json_object_get(at, part);
        }
        if (last)
            return;
        path += length + 1;
    }
}

static const struct doctor_result *result_of(const struct doctor_diagnosis *diagnosis,
                                             const char *id)
{
    for (size_t i = 0; i < diagnosis->count; i++)
        if (strcmp(diagnosis->results[i].rule->id, id) == 0)
            return &diagnosis->results[i];
    return NULL;
}

static struct probes *read_probes(const json_t *record)
{
    struct error error = {0};
    struct probes *probes = probes_from_json(record, &error);
    if (!probes)
        fail_msg("%s", error.why);
    return probes;
}

static void check_case(const json_t *one)
{
    const char *rule = json_string_value(json_object_get(one, "rule")), *path;
    const char *state = json_string_value(json_object_get(one, "state"));
    const char *root = json_string_value(json_object_get(one, "root"));
    const char *what = json_string_value(json_object_get(one, "what"));
    static struct doctor_diagnosis diagnosis;
    json_t *record = read_json(json_string_value(json_object_get(one, "base"))), *value;
    char *text = json_dumps(one, JSON_COMPACT);
    json_object_foreach(json_object_get(one, "set"), path, value) set_at(record, path, value);
    struct probes *probes = read_probes(record);
    doctor_examine(probes, &diagnosis);
    const struct doctor_result *result = result_of(&diagnosis, rule);
    assert_non_null(result);
    if (strcmp(doctor_state_name(result->finding->state), state) != 0)
        fail_msg("%s: %s is %s: %s", text, rule, doctor_state_name(result->finding->state),
                 result->finding->what);
    if (what && !strstr(result->finding->what, what))
        fail_msg("%s: says '%s'", text, result->finding->what);
    bool bad = strcmp(state, "fail") == 0 || strcmp(state, "warn") == 0;
    if (bad && !*result->finding->hint)
        fail_msg("%s: no hint", text);
    if (strcmp(state, "unknown") != 0) {
        const char *found = diagnosis.root ? diagnosis.root->rule->id : "none";
        if (strcmp(found, root ? root : "none") != 0)
            fail_msg("%s: the root cause is %s: %s", text, found, diagnosis.root->finding->what);
    }
    free(probes);
    free(text);
    json_decref(record);
}

static void every_case_is_told(void **state)
{
    (void)state;
    json_t *cases = read_json("cases"), *one;
    size_t index;
    json_array_foreach(cases, index, one) check_case(one);
    assert_true(index >= 150);
    json_decref(cases);
}

/* A rule that no case makes fire, or none makes hold, is not tested. */
static void every_rule_has_both_cases(void **state)
{
    (void)state;
    json_t *cases = read_json("cases"), *one;
    for (const struct doctor_rule *rule = doctor_rules; rule->id; rule++) {
        bool fires = false, holds = false;
        size_t index;
        json_array_foreach(cases, index, one)
        {
            const char *found = json_string_value(json_object_get(one, "state"));
            if (strcmp(json_string_value(json_object_get(one, "rule")), rule->id) != 0)
                continue;
            fires = fires || strcmp(found, "fail") == 0 || strcmp(found, "warn") == 0 ||
                    strcmp(found, "info") == 0;
            holds = holds || strcmp(found, "ok") == 0;
        }
        if (!fires || !holds)
            fail_msg("%s: fires %d, holds %d", rule->id, fires, holds);
    }
    json_decref(cases);
}

static void ids_are_unique_and_causes_exist(void **state)
{
    (void)state;
    for (const struct doctor_rule *rule = doctor_rules; rule->id; rule++) {
        assert_int_equal(strlen(rule->id), 3);
        assert_true(rule->confidence > 0 && rule->confidence <= 1);
        for (const struct doctor_rule *other = rule + 1; other->id; other++)
            assert_string_not_equal(rule->id, other->id);
        for (const char *at = rule->causes; *at; at += strcspn(at, " "), at += *at == ' ') {
            bool known = false;
            for (const struct doctor_rule *other = doctor_rules; other->id; other++)
                known = known || strncmp(other->id, at, 3) == 0;
            if (!known)
                fail_msg("%s causes '%s'", rule->id, at);
        }
    }
}

/* Healthy records have no failure, no warning and nothing unexplained; nothing known is no failure. */
static void the_healthy_are_healthy(void **state)
{
    (void)state;
    static const char *const names[] = {"healthy", "python", "process"};
    static struct doctor_diagnosis diagnosis;
    for (size_t i = 0; i < 3; i++) {
        json_t *record = read_json(names[i]);
        struct probes *probes = read_probes(record);
        doctor_examine(probes, &diagnosis);
        assert_null(diagnosis.root);
        for (size_t k = 0; k < diagnosis.count; k++)
            if (diagnosis.findings[k].state > DOCTOR_INFO)
                fail_msg("%s: %s is %s", names[i], diagnosis.results[k].rule->id,
                         doctor_state_name(diagnosis.findings[k].state));
        free(probes);
        json_decref(record);
    }
    struct probes *nothing = probes_new();
    doctor_examine(nothing, &diagnosis);
    assert_null(diagnosis.root);
    for (size_t k = 0; k < diagnosis.count; k++)
        assert_int_equal(diagnosis.findings[k].state, DOCTOR_UNKNOWN);
    free(nothing);
}

/* Without a driver one thing is the matter, and everything else is said to follow from it. */
static void consequences_are_told_as_such(void **state)
{
    (void)state;
    static struct doctor_diagnosis diagnosis;
    json_t *record = read_json("healthy");
    static const char *const gone[] = {"nodes.0.state", "nodes.1.state", "nodes.2.state"};
    set_at(record, "driver.module_loaded", json_false());
    for (size_t i = 0; i < 3; i++) {
        json_t *name = json_string("ENOENT");
        set_at(record, gone[i], name);
        json_decref(name);
    }
    set_at(record, "cuda.found", json_false());
    json_object_del(record, "gpus");
    json_object_del(record, "smokes");
    json_object_del(record, "nvml");
    struct probes *probes = read_probes(record);
    probes->cuda.init_code = PROBE_NO_INT;
    doctor_examine(probes, &diagnosis);
    assert_string_equal(diagnosis.root->rule->id, "D01");
    static const char *const follow[] = {"D02", "D03"}, *const unknown[] = {"D04", "D09", "D14"};
    for (size_t i = 0; i < 2; i++) {
        const struct doctor_result *result = result_of(&diagnosis, follow[i]);
        assert_int_equal(result->finding->state, DOCTOR_CONSEQUENCE);
        assert_string_equal(result->of->id, "D01");
    }
    for (size_t i = 0; i < 3; i++) {
        const struct doctor_result *result = result_of(&diagnosis, unknown[i]);
        assert_int_equal(result->finding->state, DOCTOR_UNKNOWN);
        assert_string_equal(result->of->id, "D01");
    }
    for (size_t k = 0, failures = 0; k < diagnosis.count; k++) {
        failures += diagnosis.findings[k].state == DOCTOR_FAIL;
        assert_true(failures <= 1);
    }
    free(probes);
    json_decref(record);
}

static void a_record_survives_the_way_there_and_back(void **state)
{
    (void)state;
    static const char *const names[] = {"healthy", "python", "process"};
    for (size_t i = 0; i < 3; i++) {
        json_t *record = read_json(names[i]);
        struct probes *probes = read_probes(record);
        json_t *written = probes_to_json(probes);
        struct probes *again = read_probes(written);
        json_t *twice = probes_to_json(again);
        assert_true(json_equal(written, twice));
        json_t *line = json_pack("{s:i, s:{s:o}}", "v", 1, "data", "probes", written);
        struct probes *unwrapped = read_probes(line);
        assert_int_equal(unwrapped->gpus[0].architecture, probes->gpus[0].architecture);
        free(unwrapped);
        free(again);
        free(probes);
        json_decref(line);
        json_decref(twice);
        json_decref(record);
    }
}

static void broken_records_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"[]", "no \"version\""},
        {"{}", "no \"version\""},
        {"{\"version\": \"1\"}", "no \"version\""},
        {"{\"version\": 2}", "it has version 2"},
        {"{\"version\": 1, \"host\": 3}", "'host' is not an object"},
        {"{\"version\": 1, \"gpus\": {}}", "'gpus' is not a list"},
        {"{\"version\": 1, \"gpus\": [{}, 3]}", "'gpus[1]' is not an object"},
        {"{\"version\": 1, \"gpus\": [{}, {\"free_bytes\": \"x\"}]}",
         "'gpus[1].free_bytes' is not an integer"},
        {"{\"version\": 1, \"host\": {\"wsl\": 1}}", "'host.wsl' is not true or false"},
        {"{\"version\": 1, \"host\": {\"kernel\": []}}", "'host.kernel' is not a text"},
        {"{\"version\": 1, \"host\": {\"cpus_quota\": \"2\"}}",
         "'host.cpus_quota' is not a number"},
        {"{\"version\": 1, \"libraries\": [{},{},{},{},{},{},{},{},{}]}", "at most 8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct error error = {0};
        json_t *json = json_loads(rows[i].text, 0, NULL);
        assert_null(probes_from_json(json, &error));
        assert_int_equal(error.code, ERROR_INPUT);
        if (!strstr(error.why, rows[i].why))
            fail_msg("%s: %s", rows[i].text, error.why);
        json_decref(json);
    }
    /* terminal escapes do not come through, long texts are cut, nulls and strangers are passed over */
    char *longer = malloc(5001);
    memset(longer, 'x', 5000);
    longer[5000] = '\0';
    json_t *json = json_pack("{s:i, s:{s:s, s:s, s:n, s:i}, s:[]}", "version", 1, "host", "kernel",
                             "6\x1b[31m", "system", longer, "wsl", "stranger", 1, "strangers");
    struct probes *probes = read_probes(json);
    assert_string_equal(probes->host.kernel, "6\\x1b[31m");
    assert_int_equal(strlen(probes->host.system), PROBE_TEXT_BYTES - 1);
    assert_int_equal(probes->host.wsl, ANSWER_UNKNOWN);
    free(probes);
    free(longer);
    json_decref(json);
}

/* Values at the ends of their types must not break a rule. */
static void wild_values_are_borne(void **state)
{
    (void)state;
    static struct doctor_diagnosis diagnosis;
    static const int64_t wild[] = {INT64_MIN + 1, -1, 0, 1, INT64_MAX};
    for (size_t w = 0; w < sizeof wild / sizeof *wild; w++) {
        json_t *record = read_json("healthy"), *section, *one, *value;
        const char *name, *key;
        size_t index;
        json_object_foreach(record, name, section)
        {
            json_array_foreach(section, index, one) json_object_foreach(one, key, value)
            {
                if (json_is_integer(value))
                    json_integer_set(value, wild[w]);
                else if (json_is_real(value))
                    json_real_set(value, (double)wild[w] * 1e300);
            }
            if (json_is_object(section))
                json_object_foreach(section, key, value) if (json_is_integer(value))
                    json_integer_set(value, wild[w]);
        }
        struct probes *probes = read_probes(record);
        doctor_examine(probes, &diagnosis);
        free(probes);
        json_decref(record);
    }
}

/* Texts are cut between characters, else JSON would refuse them and a check were lost. */
static void texts_are_cut_between_characters(void **state)
{
    (void)state;
    char wide[2001] = "";
    for (size_t shift = 0; shift < 4; shift++) {
        struct doctor_finding finding = {.state = DOCTOR_UNKNOWN};
        memset(wide, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof wide; i += 3)
            memcpy(wide + i, "\xe2\x82\xac", 4); /* a euro */
        doctor_say(&finding, DOCTOR_FAIL, "%s", wide);
        doctor_add(&finding, "%s", wide);
        doctor_hint(&finding, "%s", wide);
        json_t *what = json_string(finding.what), *hint = json_string(finding.hint);
        assert_non_null(what);
        assert_non_null(hint);
        assert_true(strlen(finding.what) > sizeof finding.what - 5);
        json_decref(what);
        json_decref(hint);
        finding = (struct doctor_finding){.state = DOCTOR_UNKNOWN};
        doctor_add(&finding, "begin");
        doctor_add(&finding, "%s", wide);
        what = json_string(finding.what);
        assert_non_null(what);
        json_decref(what);
    }
}

static void names_and_secrets_are_taken_out(void **state)
{
    (void)state;
    static const struct redaction redaction = {"alice", "gpu01", "/home/alice"};
    static const char *const rows[][2] = {
        {"/home/alice/venv/bin/python", "~/venv/bin/python"},
        {"/home/bob/x and /Users/carol", "/home/USER/x and /Users/USER"},
        {"alice on gpu01, malice, gpu012, alice2", "USER on HOST, malice, gpu012, alice2"},
        {"GPU-8f3a1c2d-1111-2222-3333-444455556666", "GPU-8f3a..."},
        {"CUDA_VISIBLE_DEVICES=GPU-8f3a", "CUDA_VISIBLE_DEVICES=GPU-8f3a"},
        {"MIG-8f3a1c2d-1111-2222-3333-444455556666,0", "MIG-8f3a...,0"},
        {"hf_abcdefghijklmnopqrstuvwxyz", "TOKEN"},
        {"export X=ghp_0123456789abcdef0123;", "export X=TOKEN;"},
        {"--token=abc --key=q password: hunter2", "--token=SECRET --key=SECRET password: SECRET"},
        {"https://alice:pw@host.example/x", "https://SECRET@host.example/x"},
        {"mail alice.b@example.org now", "mail MAIL now"},
        {"at 192.168.1.17 or 10.0.0.1:80", "at ADDRESS or ADDRESS:80"},
        {"driver 580.95.05, cuDNN 9.1.0.70", "driver 580.95.05, cuDNN 9.1.0.70"},
        {"monkey=1 and keyboard", "monkey=1 and keyboard"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = redact_text(rows[i][0], &redaction);
        assert_string_equal(text, rows[i][1]);
        free(text);
    }
    /* root and short names are in every text */
    static const struct redaction public = {"root", "a", "/"};
    char *text = redact_text("/root is a home of root", &public);
    assert_string_equal(text, "/root is a home of root");
    free(text);
    json_t *record = read_json("python"), *clean = redact_json(record, &redaction);
    char *whole = json_dumps(clean, JSON_COMPACT);
    static const char *const secrets[] = {"alice", "gpu01", "1c2d", "bob"};
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        assert_null(strstr(whole, secrets[i]));
    assert_non_null(strstr(whole, "GPU-8f3a..."));
    assert_non_null(strstr(whole, "580.95.05"));
    /* and it is a record still */
    struct probes *probes = read_probes(clean);
    assert_int_equal(probes->gpus_count, 1);
    free(probes);
    free(whole);
    json_decref(clean);
    json_decref(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_told),
        cmocka_unit_test(every_rule_has_both_cases),
        cmocka_unit_test(ids_are_unique_and_causes_exist),
        cmocka_unit_test(the_healthy_are_healthy),
        cmocka_unit_test(consequences_are_told_as_such),
        cmocka_unit_test(a_record_survives_the_way_there_and_back),
        cmocka_unit_test(broken_records_are_refused),
        cmocka_unit_test(wild_values_are_borne),
        cmocka_unit_test(texts_are_cut_between_characters),
        cmocka_unit_test(names_and_secrets_are_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
