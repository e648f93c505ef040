#include "commands/complete.h"
#include "commands/course_file.h"
#include "commands/help_text.h"
#include "commands/parse.h"
#include "commands/settings_show.h"
#include "commands/table.h"
#include "commands/workbench_private.h"
#include "engine/demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void indented(struct execution *execution, const char *text)
{
    if (!*text)
        return;
    char *copy = xstrdup(text), *rest = copy, *line;
    while ((line = strsep(&rest, "\n")) != NULL)
        execution_print(execution, "  %s", line);
    free(copy);
}

/* The folder with tutorial.md: beside the data where layertop is installed, or in the source tree. NULL
 * if it is not there; to be freed. */
static char *documents_folder(void)
{
    static const char *const places[] = {"../doc/layertop/docs/tutorial.md",
                                         "../../docs/tutorial.md"};
    char *file = NULL, *whole;
    for (size_t i = 0; !file && i < sizeof places / sizeof *places; i++)
        file = demo_data_path(places[i]);
    whole = file ? realpath(file, NULL) : NULL;
    free(file);
    if (whole)
        *strrchr(whole, '/') = '\0';
    return whole;
}

static void overview(struct execution *execution)
{
    json_t *commands = json_array(), *settings = json_array(), *topics = json_array();
    char names[1024] = "";
    execution_print(execution, "commands (any unique beginning will do):");
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        execution_print(execution, "  %-12s %s", command->name, command->summary);
        json_array_append_new(commands, json_pack("{s:s, s:s, s:s}", "name", command->name, "usage",
                                                  command->usage, "summary", command->summary));
    }
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? " " : "", setting->name);
        json_array_append_new(
            settings, json_pack("{s:s, s:s}", "name", setting->name, "summary", setting->summary));
    }
    execution_print(execution, "settings (`batch 64` changes one, `show` shows all):");
    char *wrapped = course_text_wrap(names, "", 76);
    indented(execution, wrapped);
    free(wrapped);
    *names = '\0';
    for (size_t i = 0; i < help_topic_count(); i++) {
        const struct help_text *topic = help_topic_at(i);
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? " " : "", topic->name);
        json_array_append_new(
            topics, json_pack("{s:s, s:s}", "name", topic->name, "summary", topic->summary));
    }
    execution_print(execution, "more: help COMMAND, help SETTING, help E040, and help on %s",
                    names);
    char *documents = documents_folder();
    execution_print(execution, "to learn: lesson list, myths%s%s%s", documents ? ", and in " : "",
                    documents ? documents : "",
                    documents ? " tutorial.md, lecturers.md, commands.md" : "");
    json_object_set_new(execution->data, "documents",
                        documents ? json_string(documents) : json_null());
    free(documents);
    json_object_set_new(execution->data, "commands", commands);
    json_object_set_new(execution->data, "settings", settings);
    json_object_set_new(execution->data, "topics", topics);
}

static void describe_command(struct execution *execution, const struct command *command)
{
    json_t *examples = json_array();
    execution_print(execution, "%s", command->usage);
    execution_print(execution, "  %s", command->summary);
    indented(execution, command->help);
    for (const char *const *alias = command->aliases; alias && *alias; alias++)
        execution_print(execution, "  also: %s", *alias);
    for (const char *const *example = command->examples; *example; example++) {
        execution_print(execution, "  for example: %s", *example);
        json_array_append_new(examples, json_string(*example));
    }
    char see[128] = "";
    for (const char *const *word = command->see; word && *word; word++) {
        size_t used = strlen(see);
        snprintf(see + used, sizeof see - used, "%s%s", used ? ", " : "", *word);
    }
    if (*see)
        execution_print(execution, "  see also: %s", see);
    json_object_set_new(execution->data, "command",
                        json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", command->name, "usage",
                                  command->usage, "summary", command->summary, "help",
                                  command->help, "examples", examples));
}

static void describe_setting(struct execution *execution, const struct setting *setting)
{
    char range[256], value[256];
    setting_format(setting, workbench_setting(execution->workbench, setting->name), value,
                   sizeof value);
    setting_range(setting, range, sizeof range);
    execution_print(execution, "set %s VALUE", setting->name);
    execution_print(execution, "  %s", setting->summary);
    indented(execution, setting->help);
    execution_print(execution, "  now %s, default %s; %s", value, setting->value, range);
    for (const char *const *alias = setting->aliases; alias && *alias; alias++)
        execution_print(execution, "  also: %s", *alias);
    execution_print(execution, "  for example: %s", setting->example);
    json_object_set_new(execution->data, "setting",
                        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", setting->name,
                                  "summary", setting->summary, "help", setting->help, "default",
                                  setting->value, "range", range, "example", setting->example));
}

static void describe_text(struct execution *execution, const struct help_text *text)
{
    execution_print(execution, "%s: %s", text->name, text->summary);
    indented(execution, text->text);
    json_object_set_new(execution->data, "topic",
                        json_pack("{s:s, s:s, s:s}", "name", text->name, "summary", text->summary,
                                  "text", text->text));
}

static const struct setting *exact_setting(const char *word)
{
    for (size_t i = 0; i < setting_count(); i++)
        if (strcmp(setting_at(i)->name, word) == 0)
            return setting_at(i);
    return NULL;
}

static void run_help(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    if (argc == 1) {
        overview(execution);
        execution_done(execution);
        return;
    }
    const char *word = argv[1];
    /* "help set KEY" is about the setting, where a command has the same name */
    bool wants_setting = argc == 3 && strcmp(word, "set") == 0;
    if (wants_setting)
        word = argv[2];
    const struct help_text *text = NULL;
    for (size_t i = 0; i < help_topic_count(); i++)
        if (strcmp(help_topic_at(i)->name, word) == 0)
            text = help_topic_at(i);
    for (size_t i = 0; i < help_error_count(); i++)
        if (strcasecmp(help_error_at(i)->name, word) == 0)
            text = help_error_at(i);
    bool is_setting = wants_setting;
    const struct command *command = NULL;
    const struct setting *setting = wants_setting ? setting_find(word, &error) : NULL;
    if (!text && !wants_setting) {
        command = command_resolve(word, &is_setting, &error);
        setting = is_setting ? setting_find(word, NULL) : NULL;
    }
    if (text && !wants_setting) {
        describe_text(execution, text);
        /* `exit` is a topic and a command, `memory` a topic and another name of `mem` */
        if ((command = command_find(word, NULL)) != NULL && strcmp(command->name, "set") != 0)
            describe_command(execution, command);
    } else if (setting) {
        describe_setting(execution, setting);
    } else if (command && !is_setting) {
        describe_command(execution, command);
        if ((setting = exact_setting(command->name)) != NULL)
            describe_setting(execution, setting);
    } else {
        error_hint(&error, "help");
        execution_fail(execution, &error);
        return;
    }
    execution_done(execution);
}

static void complete_help(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc > 1) {
        if (argc == 2 && strcmp(argv[1], "set") == 0)
            completion_add_settings(completion);
        return;
    }
    for (size_t i = 0; i < command_count(); i++)
        completion_add(completion, command_at(i)->name);
    completion_add_settings(completion);
    for (size_t i = 0; i < help_topic_count(); i++)
        completion_add(completion, help_topic_at(i)->name);
    if (completion->word[0] == 'E')
        for (size_t i = 0; i < help_error_count(); i++)
            completion_add(completion, help_error_at(i)->name);
}

const struct command command_help = {
    .name = "help",
    .aliases = WORDS("?"),
    .usage = "help [COMMAND | SETTING | TOPIC | E040]",
    .summary = "what there is to type, or more about one thing",
    .help = "",
    .json =
        "documents commands[]{name usage summary} settings[]{name summary} topics[]{name summary} "
        "command{name usage summary help examples[]} setting{name summary help default range "
        "example} topic{name summary text}",
    .see = WORDS("show", "grammar", "json"),
    .examples = WORDS("help", "help run", "help set devices", "help E040"),
    .arguments_max = 2,
    .run = run_help,
    .complete = complete_help,
};
