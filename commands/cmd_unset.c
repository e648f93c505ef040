#include "commands/complete.h"
#include "commands/settings_show.h"
#include "commands/table.h"

static void run_unset(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    (void)argc;
    const struct setting *setting = setting_find(argv[1], &error);
    if (!setting) {
        execution_fail(execution, &error);
        return;
    }
    setting_answer_alias(execution, setting, argv[1]);
    setting_change(execution, setting, setting->value);
}

static void complete_unset(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1)
        completion_add_settings(completion);
}

const struct command command_unset = {
    .name = "unset",
    .usage = "unset KEY",
    .summary = "put a setting back to its default",
    .help = "",
    .json = "key value cost_ms note",
    .see = WORDS("set", "show"),
    .examples = WORDS("unset batch"),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_unset,
    .complete = complete_unset,
};
