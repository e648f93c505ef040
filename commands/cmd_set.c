#include "commands/complete.h"
#include "commands/evaluation.h"
#include "commands/format.h"
#include "commands/oom_report.h"
#include "commands/settings_show.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <string.h>

void setting_answer_alias(struct execution *execution, const struct setting *setting,
                          const char *word)
{
    struct workbench *workbench = execution->workbench;
    for (const char *const *alias = setting->aliases; alias && *alias; alias++) {
        if (strcmp(*alias, word) != 0 || json_object_get(workbench->aliases_answered, word))
            continue;
        json_object_set_new(workbench->aliases_answered, word, json_true());
        execution_warn(execution, "%s is called %s here", word, setting->name);
    }
}

/* ---- int8 says what it costs ---- */

#define ROWS_SHOWN 200 /* enough for a first look; `evaluate` takes all */

static void evaluated(struct execution *execution, const json_t *data, const struct error *error)
{
    if (data) {
        workbench_remember(execution->workbench, "evaluate", data);
        json_object_set_new(execution->data, "evaluation", json_deep_copy(data));
        evaluation_print(execution, data);
    } else {
        execution_print(execution, "what it costs in accuracy is not measured: %s (%s)", error->why,
                        *error->hint ? error->hint : "evaluate FILE.npy LABELS.npy");
    }
    execution_done(execution);
}

static bool wants_evaluation(const struct workbench *workbench, const struct setting *setting)
{
    const char *value = json_string_value(workbench_setting(workbench, setting->name));
    return strcmp(setting->name, "precision") == 0 && value && strcmp(value, "int8") == 0 &&
           workbench_model(workbench) && !workbench->replay.path &&
           workbench_state(workbench) != STATE_LIVE;
}

static void changed(struct workbench *workbench, void *context, const json_t *data,
                    const struct error *error)
{
    struct execution *execution = context;
    char value[256], cost[FORMAT_SIZE];
    if (!data) {
        oom_report_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    const struct setting *setting =
        setting_find(json_string_value(json_object_get(data, "key")), NULL);
    if (setting->for_gpus && !json_object_get(execution->data, "note") &&
        !workbench_has_gpu(workbench))
        json_object_set_new(execution->data, "note",
                            json_string("stored: it takes effect on a GPU"));
    const char *note = json_string_value(json_object_get(execution->data, "note"));
    double cost_ms = json_get_double(data, "cost_ms");
    setting_format(setting, workbench_setting(workbench, setting->name), value, sizeof value);
    bool costs = cost_ms >= 1 && setting->engine;
    execution_print(execution, "%s %s%s%s%s%s%s", setting->name, value, note ? ": " : "",
                    note ? note : "", costs ? " (" : "",
                    costs ? format_time_ms(cost, sizeof cost, cost_ms) : "", costs ? ")" : "");
    if (wants_evaluation(workbench, setting))
        execution_request(execution, "evaluate", json_pack("{s:i}", "rows", ROWS_SHOWN), evaluated);
    else
        execution_done(execution);
}

static void change(struct execution *execution, const struct setting *setting, const char *text,
                   bool forced)
{
    struct error error = {0};
    json_t *value = setting_parse(setting, text, &error);
    if (!value) {
        execution_fail(execution, &error);
        return;
    }
    /* TensorFlow renumbers what it sees; who comes from there must not measure the wrong GPU */
    if (setting->type == SETTING_DEVICES && json_array_size(value) == 1) {
        const char *device = json_string_value(json_array_get(value, 0));
        if (strncmp(device, "gpu:", 4) == 0 && strcmp(device, "gpu:0") != 0 &&
            !json_object_get(execution->workbench->aliases_answered, "devices 0")) {
            json_object_set_new(execution->workbench->aliases_answered, "devices 0", json_true());
            execution_warn(execution,
                           "%s keeps nvidia-smi's number here; TensorFlow would call it GPU:0 once "
                           "the others are hidden",
                           device);
        }
    }
    if (forced)
        workbench_change_forced(execution->workbench, setting, value, changed, execution);
    else
        workbench_change(execution->workbench, setting, value, changed, execution);
}

void setting_change(struct execution *execution, const struct setting *setting, const char *text)
{
    change(execution, setting, text, false);
}

/* `devices 0 1` is `devices 0,1`; values of TEXT may hold blanks. */
char *setting_join(const struct setting *setting, int argc, char *const *argv)
{
    char *whole = xstrdup(argc > 0 ? argv[0] : "");
    for (int i = 1; i < argc; i++) {
        size_t length = strlen(whole);
        bool comma = setting->type == SETTING_DEVICES && length > 0 && whole[length - 1] != ',' &&
                     argv[i][0] != ',';
        char *longer = xasprintf(
            "%s%s%s", whole, setting->type == SETTING_DEVICES ? comma ? "," : "" : " ", argv[i]);
        free(whole);
        whole = longer;
    }
    return whole;
}

static void run_set(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    const struct setting *setting = setting_find(argv[1], &error);
    if (!setting) {
        execution_fail(execution, &error);
        return;
    }
    setting_answer_alias(execution, setting, argv[1]);
    bool equals = argc > 2 && strcmp(argv[2], "=") == 0;
    bool forced = argc > 3 && setting->engine && strcmp(argv[argc - 1], "--force") == 0;
    argc -= forced;
    if (argc == 2 || (equals && argc == 3)) {
        error_set(&error, ERROR_SYNTAX, "set", "%s needs a value", setting->name);
        error_hint(&error, "%s", setting->example);
        execution_fail(execution, &error);
        return;
    }
    if (argc > 3 + equals && setting->type != SETTING_DEVICES && setting->type != SETTING_TEXT) {
        error_set(&error, ERROR_SYNTAX, "set", "%s takes one value, '%s' is one too many",
                  setting->name, argv[3 + equals]);
        error_hint(&error, "set %s %s", setting->name, argv[2 + equals]);
        execution_fail(execution, &error);
        return;
    }
    char *text = setting_join(setting, argc - 2 - equals, argv + 2 + equals);
    change(execution, setting, text, forced);
    free(text);
}

static void complete_set(struct command_completion *completion, int argc, char *const *argv)
{
    if (argc == 1) {
        completion_add_settings(completion);
    } else if (argc == 2) {
        const struct setting *setting = setting_find(argv[1], NULL);
        if (setting)
            completion_add_values(completion, setting);
    }
}

const struct command command_set = {
    .name = "set",
    .usage = "set KEY VALUE [--force]",
    .summary = "change a setting; `KEY VALUE` alone does the same",
    .help =
        "A value that is refused keeps the old one. `show` lists all settings, `help KEY` says\n"
        "what one means. TensorFlow's names (batch_size, memory_growth, ...) work too.\n"
        "What would not fit into memory is refused before anything runs, with a report (`help "
        "oom`);\n"
        "with --force the memory is really asked for, and the system's or the driver's own error "
        "is\n"
        "the answer. Either way the old value stays and runs on.",
    .json = "key value cost_ms note",
    .see = WORDS("show", "unset", "apply"),
    .examples = WORDS("set batch 64", "set devices 0,1", "batch 64", "batch 512 --force"),
    .arguments_min = 1,
    .arguments_max = -1,
    .run = run_set,
    .complete = complete_set,
};
