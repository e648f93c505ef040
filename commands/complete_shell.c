#include "commands/complete_shell.h"

#include "commands/command.h"
#include "commands/options.h"
#include "commands/parse.h"
#include "engine/demo.h"

#include <stdio.h>
#include <string.h>

#define MODEL_FILES "\tfiles keras h5 hdf5 json\n"

struct offer {
    char *text;
    size_t used, size;
};

static void add(struct offer *offer, const char *text)
{
    size_t length = strlen(text);
    if (offer->used + length + 1 > offer->size) {
        offer->size = 2 * (offer->used + length) + 256;
        offer->text = xrealloc(offer->text, offer->size);
    }
    memcpy(offer->text + offer->used, text, length + 1);
    offer->used += length;
}

static void add_word(struct offer *offer, const char *typed, const char *prefix, const char *word,
                     const char *meaning)
{
    char *whole = xasprintf("%s%s", prefix, word);
    /* a line break would be another word, a tab the meaning: such names are not offered */
    if (strncmp(whole, typed, strlen(typed)) == 0 && !strpbrk(whole, "\t\n")) {
        add(offer, whole);
        add(offer, "\t");
        add(offer, meaning);
        add(offer, "\n");
    }
    free(whole);
}

/* Of the word that names a command or a setting. */
static const char *meaning_of(const char *word)
{
    for (size_t i = 0; i < command_count(); i++)
        if (strcmp(command_at(i)->name, word) == 0)
            return command_at(i)->summary;
    for (size_t i = 0; i < setting_count(); i++)
        if (strcmp(setting_at(i)->name, word) == 0)
            return setting_at(i)->summary;
    return "";
}

/* Candidates for the end of `line`, commands as at the prompt, each as the whole line; without
 * `options` those that begin with a dash are left out. The only one that there is, or NULL; to be
 * freed. */
static char *add_commands(struct workbench *workbench, struct offer *offer, const char *line,
                          bool options)
{
    size_t start, count = 0;
    struct parsed_cursor at;
    parse_cursor(line, strlen(line), &at);
    bool first = at.argc == 0;
    parsed_cursor_free(&at);
    char **words = command_complete(workbench, line, strlen(line), &start);
    char *before = xasprintf("%.*s", (int)start, line);
    while (words[count])
        count++;
    for (size_t i = 0; i < count; i++) {
        if (!options && words[i][0] == '-')
            continue;
        char *whole = xasprintf("%s%s", before, words[i]);
        add_word(offer, "", "", whole, first ? meaning_of(words[i]) : "");
        free(whole);
    }
    char *only = count == 1 ? xasprintf("%s%s", before, words[0]) : NULL;
    free(before);
    command_candidates_free(words);
    return only;
}

/* A shell that is left with one candidate closes the quote behind it: where more than options may
 * follow, that is offered at once. */
static void offer_commands(struct workbench *workbench, struct offer *offer, const char *line)
{
    char *only = add_commands(workbench, offer, line, true);
    if (!only)
        return;
    char *longer = xasprintf("%s ", only);
    free(add_commands(workbench, offer, longer, false));
    free(longer);
    free(only);
}

/* "steady,gp": the last of the words that commas separate, and none twice. */
static void offer_words(struct offer *offer, const struct program_option *option, const char *typed)
{
    const char *comma = strrchr(typed, ',');
    char *before = xasprintf("%.*s", comma ? (int)(comma - typed) + 1 : 0, typed);
    for (const char *const *word = option->words; word && *word; word++)
        if (!strstr(before, *word))
            add_word(offer, typed, before, *word, "");
    free(before);
}

static void offer_value(struct workbench *workbench, struct offer *offer,
                        const struct program_option *option, const char *typed)
{
    switch (option->value) {
    case OPTION_LINE:
        offer_commands(workbench, offer, typed);
        break;
    case OPTION_RECORDING:
        add_word(offer, typed, "", "demo:synthetic-gpu", "a GPU run that was made up");
        add(offer, "\tfiles ltr part\n");
        break;
    case OPTION_FILE:
        add(offer, "\tfiles\n");
        break;
    case OPTION_WORDS:
        offer_words(offer, option, typed);
        break;
    case OPTION_NOTHING:
    case OPTION_TEXT:
        break;
    }
}

static void offer_options(struct offer *offer, const char *typed)
{
    for (size_t i = 0; i < program_option_count(); i++) {
        const struct program_option *option = program_option_at(i);
        char letter[3] = {'-', option->letter, '\0'};
        if (!option->summary)
            continue;
        if (option->letter)
            add_word(offer, typed, "", letter, option->summary);
        if (option->name)
            add_word(offer, typed, "--", option->name, option->summary);
    }
}

/* Before anything is typed the models that ship are one word, so that files can be seen. */
static void offer_models(struct offer *offer, const char *typed)
{
    size_t index;
    json_t *name, *names = *typed ? demo_list(NULL) : NULL;
    if (!*typed)
        add_word(offer, typed, "", "demo:", "models that come with layertop");
    json_array_foreach(names, index, name)
    {
        add_word(offer, typed, "", json_string_value(name), "");
    }
    json_decref(names);
    add(offer, MODEL_FILES);
}

/* Was a model named among the words before? */
static bool has_model(const struct parsed_cursor *at)
{
    for (int i = 1; i < at->argc; i++) {
        const struct program_option *option = program_option_find(at->argv[i]);
        if (option && option->argument)
            i++;
        else if (at->argv[i][0] != '-')
            return true;
    }
    return false;
}

char *complete_shell(struct workbench *workbench, const char *line)
{
    struct offer offer = {0};
    struct parsed_cursor at;
    parse_cursor(line, strlen(line), &at);
    add(&offer, "");
    const struct program_option *option =
        at.argc > 1 ? program_option_find(at.argv[at.argc - 1]) : NULL;
    if (at.argc == 0)
        ; /* the program's own name: the shell knows it */
    else if (option && option->argument)
        offer_value(workbench, &offer, option, at.word);
    else if (at.word[0] == '-' && !at.quote)
        offer_options(&offer, at.word);
    else if (!has_model(&at))
        offer_models(&offer, at.word);
    parsed_cursor_free(&at);
    return offer.text;
}
