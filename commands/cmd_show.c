#include "commands/complete.h"
#include "commands/settings_show.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <string.h>

char *setting_range(const struct setting *setting, char *out, size_t size)
{
    size_t used = 0;
    char least[32], most[32];
    *out = '\0';
    switch (setting->type) {
    case SETTING_BOOL:
        snprintf(out, size, "on, off");
        return out;
    case SETTING_SIZE:
        snprintf(out, size, "a size (512MiB), a percentage (40%%) or none");
        return out;
    case SETTING_PARTS:
        snprintf(out, size, "devices and their size (2x4GiB), or none");
        return out;
    case SETTING_TIME:
        setting_format_time((double)setting->minimum, least, sizeof least);
        setting_format_time((double)setting->maximum, most, sizeof most);
        snprintf(out, size, "%s to %s", least, most);
        return out;
    case SETTING_DEVICES:
        snprintf(out, size, "auto, cpu, 0, gpu:0, a UUID, or a list of them");
        return out;
    case SETTING_INTEGER:
        used = (size_t)snprintf(out, size, "%lld to %lld", (long long)setting->minimum,
                                (long long)setting->maximum);
        break;
    case SETTING_TEXT:
        snprintf(out, size, "a file, or %s", setting->value);
        return out;
    case SETTING_CHOICE:
        break;
    }
    for (const char *const *choice = setting->choices; choice && *choice && used < size; choice++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", *choice);
    return out;
}

static json_t *describe(const struct setting *setting, const json_t *value)
{
    json_t *initial = setting_parse(setting, setting->value, NULL);
    return json_pack("{s:s, s:O, s:o, s:s}", "key", setting->name, "value", value, "default",
                     initial, "summary", setting->summary);
}

static void run_show(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    char value[256], range[256];
    if (argc > 1) {
        const struct setting *setting = setting_find(argv[1], &error);
        if (!setting) {
            execution_fail(execution, &error);
            return;
        }
        setting_answer_alias(execution, setting, argv[1]);
        const json_t *now = workbench_setting(execution->workbench, setting->name);
        json_t *description = describe(setting, now);
        json_object_update(execution->data, description);
        json_decref(description);
        setting_format(setting, now, value, sizeof value);
        execution_print(execution, "%s %s", setting->name, value);
        execution_print(execution, "  %s", setting->summary);
        execution_print(execution, "  default %s; %s", setting->value,
                        setting_range(setting, range, sizeof range));
        execution_done(execution);
        return;
    }
    json_t *list = json_array();
    bool all_defaults = true;
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        const json_t *now = workbench_setting(execution->workbench, setting->name);
        json_t *description = describe(setting, now);
        bool is_default = json_equal(now, json_object_get(description, "default"));
        json_array_append_new(list, description);
        all_defaults = all_defaults && is_default;
        setting_format(setting, now, value, sizeof value);
        execution_print(execution, "%c %-10s %-14s %s", is_default ? ' ' : '*', setting->name,
                        value, setting->summary);
    }
    execution_print(execution, "  (%s)",
                    all_defaults ? "all at their defaults" : "* differs from the default");
    json_object_set_new(execution->data, "settings", list);
    execution_done(execution);
}

static void complete_show(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1)
        completion_add_settings(completion);
}

const struct command command_show = {
    .name = "show",
    .aliases = WORDS("info", "get"),
    .usage = "show [KEY]",
    .summary = "show one setting or all of them",
    .help = "",
    .json = "settings[]{key value[] default summary} key value default summary",
    .see = WORDS("set", "config"),
    .examples = WORDS("show", "show batch"),
    .arguments_max = 1,
    .run = run_show,
    .complete = complete_show,
};
