#include "commands/complete.h"

#include "commands/parse.h"
#include "commands/workbench_private.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CANDIDATES_MAX 1000

void completion_add(struct command_completion *completion, const char *candidate)
{
    if (strncmp(candidate, completion->word, strlen(completion->word)) != 0 ||
        completion->count == CANDIDATES_MAX)
        return;
    for (size_t i = 0; i < completion->count; i++)
        if (strcmp(completion->candidates[i], candidate) == 0)
            return;
    completion->candidates =
        xrealloc(completion->candidates, (completion->count + 2) * sizeof *completion->candidates);
    completion->candidates[completion->count++] = xstrdup(candidate);
    completion->candidates[completion->count] = NULL;
}

void completion_add_settings(struct command_completion *completion)
{
    for (size_t i = 0; i < setting_count(); i++)
        completion_add(completion, setting_at(i)->name);
}

void completion_add_values(struct command_completion *completion, const struct setting *setting)
{
    for (const char *const *choice = setting->choices; choice && *choice; choice++)
        completion_add(completion, *choice);
    switch (setting->type) {
    case SETTING_BOOL:
        completion_add(completion, "on");
        completion_add(completion, "off");
        break;
    case SETTING_DEVICES:
        completion_add(completion, "cpu");
        completion_add(completion, "0");
        completion_add(completion, "0,1");
        completion_add(completion, "0,cpu");
        completion_add(completion, "gpu:0");
        break;
    case SETTING_SIZE:
    case SETTING_PARTS:
        completion_add(completion, "none");
        break;
    case SETTING_INTEGER:
        completion_add(completion, setting->value);
        break;
    case SETTING_TEXT:
        completion_add(completion, setting->value);
        completion_add_files(completion);
        break;
    case SETTING_CHOICE:
    case SETTING_TIME:
        break;
    }
}

/* "--warmup" of a usage, and what follows it there ("N", "" for nothing). NULL: no more. */
static char *next_option(const char **usage, char *value, size_t size)
{
    const char *at = strstr(*usage, "--");
    if (!at)
        return NULL;
    size_t length = strcspn(at, " ]|");
    const char *after = at + length;
    bool takes = after[0] == ' ' && after[1] != '[' && after[1] != '|' && after[1] != '-';
    snprintf(value, size, "%.*s", takes ? (int)strcspn(after + 1, " ]") : 0, after + takes);
    *usage = after;
    return xasprintf("%.*s", (int)length, at);
}

/* "time|order|name": the words of a value that is one of some. */
static void add_choices(struct command_completion *completion, const char *value)
{
    char *copy = xstrdup(value), *rest = copy, *word;
    while (strchr(value, '|') && (word = strsep(&rest, "|")) != NULL)
        completion_add(completion, word);
    free(copy);
}

/* What a command's usage says of options: their names, or after one of them its value's words. */
static void add_options(struct command_completion *completion, const struct command *command,
                        const char *before)
{
    char *option, value[128];
    bool wanted = false;
    for (const char *usage = command->usage; (option = next_option(&usage, value, sizeof value));) {
        if (*value && strcmp(option, before) == 0) {
            wanted = true;
            add_choices(completion, value);
        }
        free(option);
    }
    for (const char *usage = command->usage;
         !wanted && (option = next_option(&usage, value, sizeof value));) {
        completion_add(completion, option);
        free(option);
    }
}

void completion_add_files(struct command_completion *completion)
{
    const char *slash = strrchr(completion->word, '/');
    int prefix = slash ? (int)(slash - completion->word) + 1 : 0;
    char *folder = prefix ? xasprintf("%.*s", prefix, completion->word) : xstrdup("./");
    DIR *directory = opendir(folder);
    struct dirent *entry;
    while (directory && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.' && completion->word[prefix] != '.')
            continue;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *whole = xasprintf("%s%s", folder, entry->d_name);
        struct stat status;
        bool is_folder = stat(whole, &status) == 0 && S_ISDIR(status.st_mode);
        char *path =
            xasprintf("%.*s%s%s", prefix, completion->word, entry->d_name, is_folder ? "/" : "");
        completion_add(completion, path);
        free(path);
        free(whole);
    }
    if (directory)
        closedir(directory);
    free(folder);
}

void completion_add_layers(struct command_completion *completion)
{
    size_t index;
    json_t *layer, *layers = json_object_get(completion->workbench->model, "layers");
    json_array_foreach(layers, index, layer)
    {
        const char *path = json_string_value(json_object_get(layer, "path"));
        if (path)
            completion_add(completion, path);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **command_complete(struct workbench *workbench, const char *text, size_t cursor, size_t *start)
{
    struct parsed_cursor at;
    parse_cursor(text, cursor, &at);
    struct command_completion completion = {
        .workbench = workbench, .word = at.word, .quote = at.quote};
    if (at.argc == 0) {
        for (size_t i = 0; i < command_count(); i++)
            completion_add(&completion, command_at(i)->name);
        completion_add_settings(&completion);
    } else {
        bool is_setting;
        const struct command *command = command_resolve(at.argv[0], &is_setting, NULL);
        if (is_setting) {
            const struct setting *setting = setting_find(at.argv[0], NULL);
            if (at.argc == 1)
                completion_add_values(&completion, setting);
        } else if (command) {
            if (command->complete)
                command->complete(&completion, at.argc, at.argv);
            if (completion.count == 0 || at.word[0] == '-')
                add_options(&completion, command, at.argv[at.argc - 1]);
        }
    }
    if (completion.count > 1)
        qsort(completion.candidates, completion.count, sizeof *completion.candidates, by_name);
    /* what is put into the line must be read back as one word */
    for (size_t i = 0; i < completion.count; i++) {
        char *quoted = parse_quote(completion.candidates[i]);
        free(completion.candidates[i]);
        completion.candidates[i] = quoted;
    }
    *start = at.start;
    parsed_cursor_free(&at);
    if (!completion.candidates)
        completion.candidates = xcalloc(1, sizeof *completion.candidates);
    return completion.candidates;
}

void command_candidates_free(char **candidates)
{
    for (char **candidate = candidates; candidate && *candidate; candidate++)
        free(*candidate);
    free(candidates);
}
