#include "commands/lesson.h"

#include "commands/course_file.h"
#include "commands/expression.h"
#include "commands/parse.h"
#include "engine/demo.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define ENDING         ".lesson"
#define WITHIN_DEFAULT 0.02

/* ---- reading ---- */

struct reading {
    const char *path;
    struct lesson *lesson;
    char *say; /* waits for the next item */
    struct error *error;
};

static struct lesson_item *new_item(struct reading *reading, bool is_question)
{
    struct lesson *lesson = reading->lesson;
    lesson->items = xrealloc(lesson->items, (lesson->count + 1) * sizeof *lesson->items);
    struct lesson_item *item = &lesson->items[lesson->count++];
    *item = (struct lesson_item){.is_question = is_question,
                                 .say = reading->say,
                                 .within = WITHIN_DEFAULT,
                                 .relative = true};
    reading->say = NULL;
    return item;
}

/* A text that may stand once. */
static bool keep(struct reading *reading, const struct course_entry *entry, char **place)
{
    if (*place)
        return course_file_fail(reading->path, entry->line, reading->error, "%s stands twice",
                                entry->key);
    if (!*entry->text)
        return course_file_fail(reading->path, entry->line, reading->error, "%s is empty",
                                entry->key);
    *place = xstrdup(entry->text);
    return true;
}

static bool read_within(struct reading *reading, const struct course_entry *entry,
                        struct lesson_item *item)
{
    char *end;
    item->within = strtod(entry->text, &end);
    item->relative = *end == '%';
    end += *end == '%';
    if (end == entry->text || *end || !(item->within >= 0))
        return course_file_fail(reading->path, entry->line, reading->error,
                                "'%s' is neither N%% nor N", entry->text);
    item->within *= item->relative ? 0.01 : 1;
    return true;
}

static bool read_of_lesson(struct reading *reading, const struct course_entry *entry, bool *known)
{
    struct lesson *lesson = reading->lesson;
    const struct {
        const char *key;
        char **place;
    } texts[] = {{"title", &lesson->title},
                 {"goal", &lesson->goal},
                 {"synthetic", &lesson->synthetic},
                 {"say", &reading->say},
                 {"end", &lesson->ending}};
    *known = true;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(entry->key, texts[i].key) == 0)
            return keep(reading, entry, texts[i].place);
    if (strcmp(entry->key, "minutes") == 0) {
        lesson->minutes = atoi(entry->text);
        return lesson->minutes > 0 || course_file_fail(reading->path, entry->line, reading->error,
                                                       "'%s' is no number of minutes", entry->text);
    }
    if (strcmp(entry->key, "step") == 0 || strcmp(entry->key, "ask") == 0) {
        struct lesson_item *item = new_item(reading, entry->key[0] == 'a');
        if (!item->is_question && *entry->name)
            item->name = xstrdup(entry->name);
        return keep(reading, entry, item->is_question ? &item->ask : &item->command);
    }
    *known = false;
    return true;
}

static bool read_of_item(struct reading *reading, const struct course_entry *entry)
{
    struct lesson *lesson = reading->lesson;
    struct lesson_item *item = lesson->count ? &lesson->items[lesson->count - 1] : NULL;
    const struct {
        const char *key;
        bool of_question;
        char **place;
    } texts[] = {{"until", false, item ? &item->until : NULL},
                 {"see", false, item ? &item->see : NULL},
                 {"when", true, item ? &item->when : NULL},
                 {"answer", true, item ? &item->answer : NULL},
                 {"unit", true, item ? &item->unit : NULL},
                 {"choices", true, item ? &item->choices : NULL},
                 {"right", true, item ? &item->right : NULL}};
    for (size_t i = 0; item && i < sizeof texts / sizeof *texts; i++)
        if (strcmp(entry->key, texts[i].key) == 0 && texts[i].of_question == item->is_question)
            return keep(reading, entry, texts[i].place);
    if (item && item->is_question && strcmp(entry->key, "within") == 0)
        return read_within(reading, entry, item);
    if (item && strcmp(entry->key, "hint") == 0) {
        item->hints = xrealloc(item->hints, (item->hint_count + 1) * sizeof *item->hints);
        item->hints[item->hint_count++] = xstrdup(entry->text);
        return true;
    }
    return course_file_fail(reading->path, entry->line, reading->error, "%s means nothing here",
                            entry->key);
}

/* What every lesson must have. */
static bool check(struct reading *reading, int line)
{
    const struct lesson *lesson = reading->lesson;
    const char *what = !lesson->title                  ? "title"
                       : !lesson->goal                 ? "goal"
                       : lesson->count == 0            ? "step"
                       : reading->say                  ? "step after the last say"
                       : lesson_questions(lesson) == 0 ? "ask"
                                                       : NULL;
    for (size_t i = 0; !what && i < lesson->count; i++) {
        struct parsed_line parsed = {0};
        struct error error;
        const struct lesson_item *item = &lesson->items[i];
        if (item->is_question)
            what = item->answer ? NULL : "answer";
        else if (!parse_line(item->command, &parsed, &error) || parsed.count != 1)
            what = "step that is one command";
        if (!item->is_question)
            parsed_line_free(&parsed);
    }
    return !what ||
           course_file_fail(reading->path, line, reading->error, "the lesson has no %s", what);
}

static struct lesson *from_file(const struct course_file *file, const char *path,
                                struct error *error)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    struct reading reading = {
        .path = path, .lesson = xcalloc(1, sizeof *reading.lesson), .error = error};
    bool good = true, known;
    reading.lesson->id = xstrdup(base);
    char *ending = strstr(reading.lesson->id, ENDING);
    if (ending)
        *ending = '\0';
    reading.lesson->number = atoi(base);
    for (size_t i = 0; good && i < file->count; i++) {
        good = read_of_lesson(&reading, &file->entries[i], &known);
        if (good && !known)
            good = read_of_item(&reading, &file->entries[i]);
    }
    good = good && check(&reading, file->count ? file->entries[file->count - 1].line : 1);
    free(reading.say);
    if (good)
        return reading.lesson;
    lesson_free(reading.lesson);
    return NULL;
}

struct lesson *lesson_parse(const char *text, const char *path, struct error *error)
{
    struct course_file file;
    struct lesson *lesson = NULL;
    if (course_file_parse(&file, text, path, error))
        lesson = from_file(&file, path, error);
    course_file_free(&file);
    return lesson;
}

struct lesson *lesson_read(const char *path, struct error *error)
{
    struct course_file file;
    struct lesson *lesson = NULL;
    if (course_file_read(&file, path, error))
        lesson = from_file(&file, path, error);
    course_file_free(&file);
    return lesson;
}

void lesson_free(struct lesson *lesson)
{
    if (!lesson)
        return;
    for (size_t i = 0; i < lesson->count; i++) {
        struct lesson_item *item = &lesson->items[i];
        char *texts[] = {item->say,  item->command, item->name, item->until,
                         item->see,  item->ask,     item->when, item->answer,
                         item->unit, item->choices, item->right};
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            free(texts[k]);
        for (size_t k = 0; k < item->hint_count; k++)
            free(item->hints[k]);
        free(item->hints);
    }
    free(lesson->items);
    free(lesson->id);
    free(lesson->title);
    free(lesson->goal);
    free(lesson->synthetic);
    free(lesson->ending);
    free(lesson);
}

size_t lesson_questions(const struct lesson *lesson)
{
    size_t count = 0;
    for (size_t i = 0; i < lesson->count; i++)
        count += lesson->items[i].is_question;
    return count;
}

/* ---- finding ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

json_t *lesson_files(struct error *error)
{
    char *folder = demo_data_path("lessons"), *paths[100];
    DIR *directory = folder ? opendir(folder) : NULL;
    const struct dirent *entry;
    size_t count = 0;
    if (!directory) {
        error_set(error, ERROR_FILE, "lesson", "the folder share/layertop/lessons was not found");
        error_hint(error, "LAYERTOP_DATA=/path/to/share/layertop layertop");
        free(folder);
        return NULL;
    }
    while ((entry = readdir(directory)) != NULL && count < sizeof paths / sizeof *paths) {
        size_t length = strlen(entry->d_name), tail = strlen(ENDING);
        if (entry->d_name[0] != '.' && length > tail &&
            strcmp(entry->d_name + length - tail, ENDING) == 0)
            paths[count++] = xasprintf("%s/%s", folder, entry->d_name);
    }
    closedir(directory);
    free(folder);
    if (count > 0)
        qsort(paths, count, sizeof *paths, by_path);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, json_string(paths[i]));
        free(paths[i]);
    }
    return list;
}

/* Does a word name the lesson of this file: its number, or the name with or without it? */
static bool is_named(const char *path, const char *word)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t length = strlen(base) - strlen(ENDING), digits = strspn(base, "0123456789");
    bool number = *word && strspn(word, "0123456789") == strlen(word);
    if (number)
        return digits > 0 && atoi(base) == atoi(word);
    const char *name = base + digits + (base[digits] == '-');
    return (strncmp(base, word, length) == 0 && word[length] == '\0') ||
           (strncmp(name, word, length - (size_t)(name - base)) == 0 &&
            strlen(word) == length - (size_t)(name - base));
}

struct lesson *lesson_find(const char *word, struct error *error)
{
    size_t index;
    json_t *path;
    size_t length = strlen(word), tail = strlen(ENDING);
    if (strchr(word, '/') || (length > tail && strcmp(word + length - tail, ENDING) == 0))
        return lesson_read(word, error);
    json_t *files = lesson_files(error);
    if (!files)
        return NULL;
    struct lesson *lesson = NULL;
    bool found = false;
    json_array_foreach(files, index, path)
    {
        if (!found && is_named(json_string_value(path), word)) {
            lesson = lesson_read(json_string_value(path), error);
            found = true;
        }
    }
    if (!found) {
        error_set(error, ERROR_VALUE, "lesson", "there is no lesson '%s', but %zu others", word,
                  json_array_size(files));
        error_hint(error, "lesson list");
    }
    json_decref(files);
    return lesson;
}

/* ---- answers ---- */

json_t *lesson_answer(const struct lesson_item *question, const json_t *results)
{
    if (question->when) {
        json_t *asked = expression_value(question->when, results, NULL);
        bool yes = json_is_true(asked);
        json_decref(asked);
        if (!yes)
            return NULL;
    }
    json_t *answer = expression_value(question->answer, results, NULL);
    if (!json_is_boolean(answer))
        return answer;
    json_t *word = json_string(json_is_true(answer) ? "yes" : "no");
    json_decref(answer);
    return word;
}

/* What a number in this unit is in what the keys hold (milliseconds, bytes, shares); 0: no unit. */
static double unit_factor(const char *unit, size_t length)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = {{"us", 1e-3},  {"ms", 1},      {"s", 1e3},      {"min", 6e4},     {"%", 1e-2},
                 {"B", 1},      {"KiB", 1024},  {"MiB", 0x1p20}, {"GiB", 0x1p30},  {"TiB", 0x1p40},
                 {"kB", 1e3},   {"MB", 1e6},    {"GB", 1e9},     {"TB", 1e12},     {"k", 1e3},
                 {"M", 1e6},    {"G", 1e9},     {"T", 1e12},     {"x", 1},         {"B/s", 1},
                 {"GB/s", 1e9}, {"MB/s", 1e6},  {"TB/s", 1e12},  {"/s", 1},        {"samples/s", 1},
                 {"k/s", 1e3},  {"FLOP/B", 1},  {"FLOP/s", 1},   {"GFLOP/s", 1e9}, {"samples", 1},
                 {"calls", 1},  {"kernels", 1}, {"layers", 1},   {"waves", 1}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].name) == length && strncmp(units[i].name, unit, length) == 0)
            return units[i].factor;
    return 0;
}

static json_t *read_word(const struct lesson_item *question, const char *text, struct error *error)
{
    char *copy = xstrdup(question->choices), *rest = copy, *word;
    json_t *found = NULL;
    while (!found && (word = strsep(&rest, ",")) != NULL) {
        word += strspn(word, " ");
        if (strcasecmp(word, text) == 0)
            found = json_string(word);
    }
    free(copy);
    if (!found)
        error_set(error, ERROR_VALUE, "lesson check", "'%s' is none of %s", text,
                  question->choices);
    return found;
}

json_t *lesson_read_answer(const struct lesson_item *question, const char *text,
                           const json_t *results, struct error *error)
{
    char *end;
    if (question->choices)
        return read_word(question, text, error);
    double number = strtod(text, &end);
    const char *unit = end + strspn(end, " ");
    size_t length = strcspn(unit, " ");
    if (end != text && isfinite(number)) {
        double factor = 1;
        if (length > 0)
            factor = unit_factor(unit, length);
        else if (question->unit)
            factor = unit_factor(question->unit, strlen(question->unit));
        if (factor > 0 && unit[length] == '\0')
            return json_real(number * factor);
    }
    json_t *value = expression_value(text, results, error);
    if (value && (json_is_number(value) || json_is_string(value)))
        return value;
    json_decref(value);
    error_set(error, ERROR_VALUE, "lesson check", "'%s' is no %s", text,
              question->unit ? "number with or without a unit" : "answer");
    return NULL;
}

int lesson_grade(const struct lesson_item *question, const json_t *given, const json_t *wanted)
{
    if (json_is_string(wanted))
        return json_is_string(given) &&
                       strcasecmp(json_string_value(given), json_string_value(wanted)) == 0
                   ? 0
                   : 1;
    double want = json_number_value(wanted), got = json_number_value(given);
    double room = question->relative ? question->within * fabs(want) : question->within;
    if (!json_is_number(given))
        return 1;
    return fabs(got - want) <= room * (1 + 1e-9) ? 0 : got < want ? -1 : 1;
}
