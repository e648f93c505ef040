/* The table of settings: what is typed, what it becomes, and how it is shown again. */
#include "commands/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_json(const char *name, const char *text, const char *json)
{
    struct error error = {0};
    const struct setting *setting = setting_find(name, &error);
    assert_non_null(setting);
    json_t *value = setting_parse(setting, text, &error);
    if (!value)
        fail_msg("%s %s: %s", name, text, error.why);
    char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(dump, json);
    free(dump);
    json_decref(value);
}

static void expect_refused(const char *name, const char *text)
{
    struct error error = {0};
    json_t *value = setting_parse(setting_find(name, NULL), text, &error);
    if (value)
        fail_msg("%s takes '%s'", name, text);
    assert_int_equal(error.code, ERROR_VALUE);
    assert_true(error.why[0]);
    assert_int_equal(error_exit_code(error.code), 1);
}

static void every_setting_is_complete(void **state)
{
    (void)state;
    assert_true(setting_count() >= 15);
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        struct error error = {0};
        char shown[128];
        assert_true(setting->name && setting->summary && setting->help && setting->example);
        assert_true(setting->summary[0]);
        assert_ptr_equal(setting_find(setting->name, NULL), setting);
        json_t *value = setting_parse(setting, setting->value, &error);
        if (!value)
            fail_msg("%s: default '%s': %s", setting->name, setting->value, error.why);
        /* what is shown can be typed, and means the same */
        setting_format(setting, value, shown, sizeof shown);
        json_t *again = setting_parse(setting, shown, &error);
        if (!again || !json_equal(value, again))
            fail_msg("%s: '%s' is shown as '%s'", setting->name, setting->value, shown);
        json_decref(again);
        json_decref(value);
        for (const char *const *alias = setting->aliases; alias && *alias; alias++)
            assert_ptr_equal(setting_find(*alias, NULL), setting);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(setting->name, setting_at(j)->name);
    }
}

static void the_contract_defaults(void **state)
{
    (void)state;
    static const char *const defaults[][2] = {
        {"devices", "auto"},   {"batch", "32"},    {"precision", "fp32"}, {"growth", "on"},
        {"fusion", "on"},      {"graph", "on"},    {"profile", "auto"},   {"limit", "none"},
        {"fallback", "error"}, {"autotune", "on"}, {"layout", "nhwc"}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        const struct setting *setting = setting_find(defaults[i][0], NULL);
        assert_non_null(setting);
        assert_string_equal(setting->value, defaults[i][1]);
        assert_true(setting->engine);
    }
}

static void values_become_json(void **state)
{
    (void)state;
    expect_json("batch", "64", "64");
    expect_json("batch", "65536", "65536");
    expect_json("growth", "off", "false");
    expect_json("growth", "True", "true");
    expect_json("precision", "bf16", "\"bf16\"");
    expect_json("precision", "mixed_float16", "\"fp16\"");
    expect_json("precision", "float32", "\"fp32\"");
    expect_json("precision", "b", "\"bf16\"");
    expect_json("autotune", "off", "false");
    expect_json("layout", "NCHW", "\"nchw\"");
    expect_json("layout", "channels_last", "\"nhwc\"");
    expect_json("limit", "none", "null");
    expect_json("limit", "4GiB", "4294967296");
    expect_json("limit", "40%", "\"40%\"");
    expect_json("threads", "auto", "0");
    expect_json("warmup", "auto", "\"auto\"");
    expect_json("warmup", "5", "5");
    expect_json("devices", "auto", "\"auto\"");
    expect_json("devices", "0", "[\"gpu:0\"]");
    expect_json("devices", "/GPU:1,cpu", "[\"gpu:1\",\"cpu\"]");
    expect_json("devices", "0, 1", "[\"gpu:0\",\"gpu:1\"]");
    expect_json("input", "x.npy", "\"x.npy\"");
}

static void values_out_of_range_are_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"batch", "0"},     {"batch", "-1"},     {"batch", "many"},    {"batch", "65537"},
        {"batch", "auto"},  {"growth", "maybe"}, {"precision", "fp8"}, {"precision", "f"},
        {"limit", "0"},     {"limit", "101%"},   {"limit", "-5%"},     {"limit", "x"},
        {"devices", "0,0"}, {"devices", "x"},    {"devices", ""},      {"devices", "0,"},
        {"devices", "-1"},  {"input", ""},       {"refresh", "1ms"},   {"refresh", "11s"},
        {"seed", "-1"},     {"profile", "gpu"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(bad[i][0], bad[i][1]);
}

static void names_are_found_by_prefix_and_nearness(void **state)
{
    (void)state;
    struct error error = {0};
    assert_ptr_equal(setting_find("prec", NULL), setting_find("precision", NULL));
    assert_ptr_equal(setting_find("batch_size", NULL), setting_find("batch", NULL));
    assert_ptr_equal(setting_find("memory_growth", NULL), setting_find("growth", NULL));
    assert_ptr_equal(setting_find("visible_devices", NULL), setting_find("devices", NULL));
    assert_null(setting_find("gr", &error)); /* growth, graph */
    assert_int_equal(error.code, ERROR_UNKNOWN_COMMAND);
    assert_non_null(strstr(error.why, "could be: growth, graph"));
    assert_null(setting_find("batsch", &error));
    assert_non_null(strstr(error.why, "did you mean 'batch'"));
    assert_null(setting_find("", &error));
    assert_null(setting_find("zzzzzz", &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_setting_is_complete),
        cmocka_unit_test(the_contract_defaults),
        cmocka_unit_test(values_become_json),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(names_are_found_by_prefix_and_nearness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
