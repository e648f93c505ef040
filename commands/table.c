#include "commands/table.h"

#include "commands/parse.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
#define COMMAND_ROW(name) &command_##name,
    COMMANDS(COMMAND_ROW)
#undef COMMAND_ROW
};

#define COMMAND_COUNT (sizeof commands / sizeof *commands)

size_t command_count(void)
{
    return COMMAND_COUNT;
}

const struct command *command_at(size_t index)
{
    return commands[index];
}

static const struct command *exactly(const char *word)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, word) == 0)
            return commands[i];
        for (const char *const *alias = commands[i]->aliases; alias && *alias; alias++)
            if (strcmp(*alias, word) == 0)
                return commands[i];
    }
    return NULL;
}

static const struct command *by_prefix(const char *word, char *list, size_t size, int *matches)
{
    const struct command *found = NULL;
    *list = '\0';
    *matches = 0;
    for (size_t i = 0; *word && i < COMMAND_COUNT; i++) {
        if (strncmp(commands[i]->name, word, strlen(word)) != 0)
            continue;
        size_t used = strlen(list);
        snprintf(list + used, size - used, "%s%s", *matches ? ", " : "", commands[i]->name);
        found = commands[i];
        (*matches)++;
    }
    return found;
}

/* The nearest of all names and other names, as our own name; NULL: none is near. */
static const char *nearest_name(const char *word)
{
    const char *names[4 * COMMAND_COUNT + 256], *ours[4 * COMMAND_COUNT + 256];
    const size_t capacity = sizeof names / sizeof *names;
    size_t count = 0;
    for (size_t i = 0; i < COMMAND_COUNT + setting_count() && count < capacity; i++) {
        const struct command *command = i < COMMAND_COUNT ? commands[i] : NULL;
        const struct setting *setting = command ? NULL : setting_at(i - COMMAND_COUNT);
        const char *const *alias = command ? command->aliases : setting->aliases;
        ours[count] = names[count] = command ? command->name : setting->name;
        for (count++; alias && *alias && count < capacity; alias++, count++) {
            ours[count] = command ? command->name : setting->name;
            names[count] = *alias;
        }
    }
    const char *near = nearest_word(word, names, count);
    for (size_t i = 0; near && i < count; i++)
        if (names[i] == near)
            return ours[i];
    return NULL;
}

const struct command *command_resolve(const char *word, bool *is_setting, struct error *error)
{
    char list[256];
    int matches;
    struct error why;
    *is_setting = false;
    const struct command *found = exactly(word);
    if (found)
        return found;
    for (size_t i = 0; i < setting_count(); i++)
        *is_setting = *is_setting || strcmp(setting_at(i)->name, word) == 0;
    if (*is_setting)
        return &command_set;
    found = by_prefix(word, list, sizeof list, &matches);
    if (matches == 1)
        return found;
    if (matches > 1) {
        error_set(error, ERROR_UNKNOWN_COMMAND, word, "ambiguous command, could be: %s", list);
        error_hint(error, "help");
        return NULL;
    }
    *is_setting = setting_find(word, &why) != NULL;
    if (*is_setting)
        return &command_set;
    if (strstr(why.why, "ambiguous")) {
        if (error)
            *error = why;
        error_hint(error, "show");
        return NULL;
    }
    const char *near = nearest_name(word);
    error_set(error, ERROR_UNKNOWN_COMMAND, word,
              near ? "unknown command; did you mean '%s'?" : "unknown command", near);
    error_hint(error, "%s", near ? near : "help");
    return NULL;
}

const struct command *command_find(const char *word, struct error *error)
{
    bool is_setting;
    return command_resolve(word, &is_setting, error);
}
