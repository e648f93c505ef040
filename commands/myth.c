#include "commands/myth.h"

#include "commands/course_file.h"
#include "commands/parse.h"
#include "engine/demo.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The command with {data} replaced by the data folder, as words of one line. */
static char *with_folder(const char *command)
{
    const char *mark = strstr(command, "{data}");
    char *demo = mark ? demo_data_path("demo") : NULL;
    if (!demo)
        return xstrdup(command);
    *strrchr(demo, '/') = '\0';
    size_t blank = strcspn(mark, " ");
    char *path =
        xasprintf("%s%.*s", demo, (int)(blank - strlen("{data}")), mark + strlen("{data}"));
    char *word = parse_quote(path);
    char *line = xasprintf("%.*s%s%s", (int)(mark - command), command, word, mark + blank);
    free(word);
    free(path);
    free(demo);
    return line;
}

static bool add_command(struct myth *myth, const struct course_entry *entry, const char *path,
                        struct error *error)
{
    struct parsed_line line;
    bool one = parse_line(entry->text, &line, NULL) && line.count == 1;
    parsed_line_free(&line);
    if (!one)
        return course_file_fail(path, entry->line, error, "'%s' is not one command", entry->text);
    myth->commands = xrealloc(myth->commands, (myth->count + 1) * sizeof *myth->commands);
    myth->commands[myth->count++] = with_folder(entry->text);
    return true;
}

static bool add_entry(struct myths *myths, const struct course_entry *entry, const char *path,
                      struct error *error)
{
    if (strcmp(entry->key, "myth") == 0) {
        myths->list = xrealloc(myths->list, (myths->count + 1) * sizeof *myths->list);
        myths->list[myths->count++] =
            (struct myth){.id = xstrdup(entry->name),
                          .number = atoi(entry->name + strcspn(entry->name, "0123456789")),
                          .belief = xstrdup(entry->text)};
        return myths->list[myths->count - 1].number > 0 ||
               course_file_fail(path, entry->line, error, "the myth has no number");
    }
    struct myth *myth = myths->count ? &myths->list[myths->count - 1] : NULL;
    char **place = !myth                              ? NULL
                   : strcmp(entry->key, "truth") == 0 ? &myth->truth
                   : strcmp(entry->key, "see") == 0   ? &myth->see
                                                      : NULL;
    if (place && !*place) {
        *place = xstrdup(entry->text);
        return true;
    }
    if (myth && strcmp(entry->key, "try") == 0)
        return add_command(myth, entry, path, error);
    return course_file_fail(path, entry->line, error, "%s means nothing here", entry->key);
}

static bool from_file(struct myths *out, const struct course_file *file, const char *path,
                      struct error *error)
{
    bool good = true;
    for (size_t i = 0; good && i < file->count; i++)
        good = add_entry(out, &file->entries[i], path, error);
    for (size_t i = 0; good && i < out->count; i++) {
        const struct myth *myth = &out->list[i];
        if (!myth->truth || !myth->see || myth->count == 0)
            good =
                error_set(error, ERROR_FILE, path, "%s has no truth, no try or no see", myth->id);
    }
    return good;
}

bool myths_parse(struct myths *out, const char *text, const char *path, struct error *error)
{
    struct course_file file;
    *out = (struct myths){0};
    bool good = course_file_parse(&file, text, path, error) && from_file(out, &file, path, error);
    course_file_free(&file);
    return good;
}

bool myths_read(struct myths *out, struct error *error)
{
    struct course_file file = {0};
    char *path = demo_data_path("myths.text");
    *out = (struct myths){0};
    if (!path) {
        error_set(error, ERROR_FILE, "myths", "the file share/layertop/myths.text was not found");
        return error_hint(error, "LAYERTOP_DATA=/path/to/share/layertop layertop");
    }
    bool good = course_file_read(&file, path, error) && from_file(out, &file, path, error);
    course_file_free(&file);
    free(path);
    return good;
}

void myths_free(struct myths *myths)
{
    for (size_t i = 0; i < myths->count; i++) {
        struct myth *myth = &myths->list[i];
        for (size_t k = 0; k < myth->count; k++)
            free(myth->commands[k]);
        free(myth->commands);
        free(myth->id);
        free(myth->belief);
        free(myth->truth);
        free(myth->see);
    }
    free(myths->list);
    *myths = (struct myths){0};
}

const struct myth *myths_find(const struct myths *myths, const char *word, struct error *error)
{
    const char *digits = word + (tolower((unsigned char)*word) == 'w');
    bool number = *digits && strspn(digits, "0123456789") == strlen(digits);
    for (size_t i = 0; number && i < myths->count; i++)
        if (myths->list[i].number == atoi(digits))
            return &myths->list[i];
    error_set(error, ERROR_VALUE, "myths", "there is no myth '%s', but %zu others", word,
              myths->count);
    error_hint(error, "myths");
    return NULL;
}
