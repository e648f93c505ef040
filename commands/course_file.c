#include "commands/course_file.h"

#include "commands/expression.h"
#include "commands/format.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool course_file_fail(const char *path, int line, struct error *error, const char *format, ...)
{
    char why[512], what[160];
    va_list arguments;
    const char *name = strrchr(path, '/');
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    snprintf(what, sizeof what, "%.120s:%d", name ? name + 1 : path, line);
    return error_set(error, ERROR_FILE, what, "%s", why);
}

/* ---- lines ---- */

static char *trimmed(const char *text, size_t length)
{
    while (length > 0 && isspace((unsigned char)*text)) {
        text++;
        length--;
    }
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    return xasprintf("%.*s", (int)length, text);
}

static void add_entry(struct course_file *file, const char *line, size_t key, size_t colon,
                      int number)
{
    file->entries = xrealloc(file->entries, (file->count + 1) * sizeof *file->entries);
    file->entries[file->count++] =
        (struct course_entry){.key = trimmed(line, key),
                              .name = trimmed(line + key, colon - key),
                              .text = trimmed(line + colon + 1, strlen(line + colon + 1)),
                              .line = number};
}

static void go_on(struct course_entry *entry, const char *line)
{
    char *more = trimmed(line, strlen(line));
    char *whole = xasprintf("%s%s%s", entry->text, *entry->text && *more ? " " : "", more);
    free(entry->text);
    free(more);
    entry->text = whole;
}

static bool read_line(struct course_file *file, const char *line, const char *path, int number,
                      struct error *error)
{
    size_t blanks = strspn(line, " \t\r"), key = 0;
    if (line[blanks] == '\0' || line[0] == '#')
        return true;
    if (blanks > 0 && file->count == 0)
        return course_file_fail(path, number, error, "there is nothing that it could go on from");
    if (blanks > 0) {
        go_on(&file->entries[file->count - 1], line);
        return true;
    }
    while (islower((unsigned char)line[key]))
        key++;
    size_t colon = key + strspn(line + key, " ");
    while (isalnum((unsigned char)line[colon]) || line[colon] == '_')
        colon++;
    if (key == 0 || line[colon] != ':')
        return course_file_fail(path, number, error, "'%.40s' is not KEY: TEXT", line);
    add_entry(file, line, key, colon, number);
    return true;
}

bool course_file_parse(struct course_file *out, const char *text, const char *path,
                       struct error *error)
{
    char *copy = xstrdup(text), *rest = copy, *line;
    int number = 0;
    bool good = true;
    *out = (struct course_file){0};
    while (good && (line = strsep(&rest, "\n")) != NULL)
        good = read_line(out, line, path, ++number, error);
    free(copy);
    return good;
}

bool course_file_read(struct course_file *out, const char *path, struct error *error)
{
    struct stat status;
    FILE *file = fopen(path, "re");
    *out = (struct course_file){0};
    if (file && fstat(fileno(file), &status) == 0 &&
        (!S_ISREG(status.st_mode) || status.st_size > COURSE_FILE_BYTES)) {
        fclose(file);
        return error_set(error, ERROR_FILE, path, "that is no text of a lesson");
    }
    if (!file)
        return error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    char *text = xcalloc(1, COURSE_FILE_BYTES + 1);
    size_t bytes = fread(text, 1, COURSE_FILE_BYTES, file);
    bool good = !ferror(file);
    fclose(file);
    if (!good)
        error_set(error, ERROR_FILE, path, "cannot be read");
    else if (memchr(text, '\0', bytes))
        good = error_set(error, ERROR_FILE, path, "that is no text of a lesson");
    good = good && course_file_parse(out, text, path, error);
    free(text);
    return good;
}

void course_file_free(struct course_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        free(file->entries[i].key);
        free(file->entries[i].name);
        free(file->entries[i].text);
    }
    free(file->entries);
    *file = (struct course_file){0};
}

/* ---- texts ---- */

static char *value_text(const char *expression, const char *format, const json_t *results)
{
    char out[FORMAT_SIZE];
    json_t *value = expression_value(expression, results, NULL);
    double number = json_to_double(value);
    char *text;
    if (json_is_string(value))
        text = xstrdup(json_string_value(value));
    else if (!json_is_number(value))
        text = xstrdup(!value ? "?" : json_is_true(value) ? "yes" : "no");
    else if (strcmp(format, "ms") == 0)
        text = xstrdup(format_time_ms(out, sizeof out, number));
    else if (strcmp(format, "%") == 0)
        text = xstrdup(format_percent(out, sizeof out, number));
    else if (strcmp(format, "B") == 0)
        text = xstrdup(format_bytes(out, sizeof out, number));
    else if (strcmp(format, "n") == 0)
        text = xstrdup(format_count(out, sizeof out, number));
    else
        text = xasprintf("%.*g", number >= 1000 && number < 1e7 ? 7 : 4, number);
    json_decref(value);
    return text;
}

char *course_text_fill(const char *text, const json_t *results)
{
    char *out = xstrdup("");
    while (*text) {
        size_t plain = strcspn(text, "{");
        const char *end = strchr(text + plain, '}');
        if (!end)
            plain = strlen(text);
        char *value = NULL;
        if (end) {
            char *expression =
                xasprintf("%.*s", (int)(end - text - 1 - (long)plain), text + plain + 1);
            char *colon = strrchr(expression, ':');
            if (colon)
                *colon = '\0';
            value = value_text(expression, colon ? colon + 1 : "", results);
            free(expression);
        }
        char *longer = xasprintf("%s%.*s%s", out, (int)plain, text, value ? value : "");
        free(value);
        free(out);
        out = longer;
        text = end ? end + 1 : text + plain;
    }
    return out;
}

char *course_text_wrap(const char *text, const char *first, int columns)
{
    char *out = xstrdup(first);
    int indent = (int)strlen(first), used = text_columns(first);
    bool fresh = true; /* nothing stands on the line yet */
    while (*text) {
        size_t length = strcspn(text, " ");
        char *word = xasprintf("%.*s", (int)length, text), *longer;
        int width = text_columns(word);
        bool breaks = !fresh && used + 1 + width > columns;
        if (breaks)
            longer = xasprintf("%s\n%*s%s", out, indent, "", word);
        else
            longer = xasprintf("%s%s%s", out, fresh ? "" : " ", word);
        used = breaks ? indent + width : used + !fresh + width;
        fresh = false;
        free(out);
        free(word);
        out = longer;
        text += length + (text[length] == ' ');
    }
    return out;
}
