#define _GNU_SOURCE /* mkdir of each part of a path */
#include "commands/complete.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include "engine/output_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* $XDG_CONFIG_HOME/layertop/init.lt, where an interactive start looks. NULL if there is no home. */
static char *init_path(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && *config == '/')
        return xasprintf("%s/layertop/init.lt", config);
    if (home && *home == '/')
        return xasprintf("%s/.config/layertop/init.lt", home);
    return NULL;
}

/* "set batch 64" for each setting that is not what it is by default. Array of strings. */
static json_t *changed_lines(const struct workbench *workbench)
{
    json_t *lines = json_array();
    char value[512];
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        json_t *usual = setting_parse(setting, setting->value, NULL);
        const json_t *now = workbench_setting(workbench, setting->name);
        if (!json_equal(usual, (json_t *)(uintptr_t)now)) {
            char *word = parse_quote(setting_format(setting, now, value, sizeof value));
            json_array_append_new(lines, json_sprintf("set %s %s", setting->name, word));
            free(word);
        }
        json_decref(usual);
    }
    return lines;
}

static bool make_folders(const char *path, struct error *error)
{
    char *copy = xstrdup(path);
    bool ok = true;
    for (char *slash = strchr(copy + 1, '/'); ok && slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            ok = error_set(error, ERROR_FILE, copy, "cannot be made: %s", strerror(errno));
        *slash = '/';
    }
    free(copy);
    return ok;
}

static bool save(const char *path, const json_t *lines, struct error *error)
{
    struct output_file output;
    FILE *file = make_folders(path, error) ? output_file_open(&output, path, error) : NULL;
    if (!file)
        return false;
    size_t index;
    json_t *line;
    fputs("# written by `config save`; commands, run at interactive starts\n", file);
    json_array_foreach((json_t *)(uintptr_t)lines, index, line)
        fprintf(file, "%s\n", json_string_value(line));
    bool ok = fflush(file) == 0 && fsync(fileno(file)) == 0;
    return output_file_close(&output, file, ok, error);
}

static void run_config(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    bool saves = argc > 1 && strcmp(argv[1], "save") == 0;
    size_t index;
    json_t *line;
    if (argc > 1 && !saves && strcmp(argv[1], "show") != 0) {
        error_set(&error, ERROR_SYNTAX, "config", "'%s' is not understood: %s", argv[1],
                  command_config.usage);
        error_hint(&error, "config show");
        execution_fail(execution, &error);
        return;
    }
    char *path = init_path();
    json_t *lines = changed_lines(execution->workbench);
    if (!path)
        error_set(&error, ERROR_FILE, "config", "neither XDG_CONFIG_HOME nor HOME names a folder");
    else if (saves && execution->workbench->replay.path)
        error_set(&error, ERROR_COMMAND, "config save", "the settings are those of a recording");
    else if (saves)
        save(path, lines, &error);
    json_object_set_new(execution->data, "path", path ? json_string(path) : json_null());
    json_object_set(execution->data, "settings", lines);
    if (error.code == ERROR_NONE) {
        execution_print(execution, "%s %s%s", saves ? "wrote" : "#", path,
                        json_array_size(lines) ? ""
                        : saves                ? ": nothing differs from the defaults"
                                               : " would say nothing: all defaults");
        json_array_foreach(lines, index, line)
            execution_print(execution, "%s", json_string_value(line));
        execution_done(execution);
    } else {
        execution_fail(execution, &error);
    }
    json_decref(lines);
    free(path);
}

static void complete_config(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1) {
        completion_add(completion, "save");
        completion_add(completion, "show");
    }
}

const struct command command_config = {
    .name = "config",
    .usage = "config [save|show]",
    .summary = "the settings that differ from the defaults, and keep them",
    .help =
        "save writes them as commands to $XDG_CONFIG_HOME/layertop/init.lt (~/.config), which "
        "runs\n"
        "at interactive starts, before the model is loaded. Lines of your own there are replaced.",
    .json = "path settings[]",
    .see = WORDS("source", "show"),
    .examples = WORDS("config", "config save"),
    .arguments_max = 1,
    .run = run_config,
    .complete = complete_config,
};
