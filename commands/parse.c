#include "commands/parse.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct builder {
    char *text;
    size_t length, capacity;
};

static void builder_add(struct builder *builder, char c)
{
    if (builder->length + 2 > builder->capacity) {
        builder->capacity = builder->capacity ? 2 * builder->capacity : 32;
        builder->text = xrealloc(builder->text, builder->capacity);
    }
    builder->text[builder->length++] = c;
    builder->text[builder->length] = '\0';
}

static char *builder_take(struct builder *builder)
{
    char *text = builder->text ? builder->text : xstrdup("");
    *builder = (struct builder){0};
    return text;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Read one word from *at (not at a blank, ';' or end) up to `end`; moves *at behind it. *quote is
 * the quote left open, or '\\' for a lone backslash at the end. */
static char *read_word(const char **at, const char *end, char *quote)
{
    struct builder builder = {0};
    const char *p = *at;
    *quote = 0;
    for (; p < end; p++) {
        if (*quote == '\'') {
            if (*p == '\'')
                *quote = 0;
            else
                builder_add(&builder, *p);
        } else if (*quote == '"') {
            if (*p == '"')
                *quote = 0;
            else if (*p == '\\' && p + 1 < end && strchr("\"\\$`", p[1]))
                builder_add(&builder, *++p);
            else
                builder_add(&builder, *p);
        } else if (*p == '\'' || *p == '"') {
            *quote = *p;
        } else if (*p == '\\') {
            if (p + 1 == end) {
                *quote = '\\';
                p++;
                break;
            }
            builder_add(&builder, *++p);
        } else if (is_blank(*p) || *p == ';') {
            break;
        } else {
            builder_add(&builder, *p);
        }
    }
    *at = p;
    return builder_take(&builder);
}

static void command_add(struct parsed_command *command, char *word)
{
    command->argv = xrealloc(command->argv, (size_t)(command->argc + 2) * sizeof(*command->argv));
    command->argv[command->argc++] = word;
    command->argv[command->argc] = NULL;
}

static void command_clear(struct parsed_command *command)
{
    for (int i = 0; i < command->argc; i++)
        free(command->argv[i]);
    free(command->argv);
    *command = (struct parsed_command){0};
}

static void line_add(struct parsed_line *line, struct parsed_command *command)
{
    if (command->argc == 0)
        return;
    line->commands = xrealloc(line->commands, (line->count + 1) * sizeof(*line->commands));
    line->commands[line->count++] = *command;
    *command = (struct parsed_command){0};
}

bool parse_line(const char *text, struct parsed_line *out, struct error *error)
{
    const char *p = text, *end = text + strlen(text);
    struct parsed_command command = {0};
    *out = (struct parsed_line){0};
    while (p < end) {
        if (is_blank(*p)) {
            p++;
        } else if (*p == ';') {
            line_add(out, &command);
            p++;
        } else if (*p == '#') {
            while (p < end && *p != '\n')
                p++;
        } else {
            char quote;
            const char *start = p;
            char *word = read_word(&p, end, &quote);
            command_add(&command, word);
            if (quote) {
                command_clear(&command);
                if (quote == '\\')
                    return error_set(error, ERROR_SYNTAX, text, "a backslash ends the line");
                return error_set(error, ERROR_SYNTAX, text, "the quote %c before '%.20s' is open",
                                 quote, start + (*start == quote));
            }
        }
    }
    line_add(out, &command);
    return true;
}

void parsed_line_free(struct parsed_line *line)
{
    for (size_t i = 0; i < line->count; i++)
        command_clear(&line->commands[i]);
    free(line->commands);
    *line = (struct parsed_line){0};
}

char *parse_quote(const char *word)
{
    bool plain = *word != '\0';
    for (const char *p = word; *p; p++)
        if (is_blank(*p) || strchr("'\"\\;#$`*?", *p))
            plain = false;
    if (plain)
        return xstrdup(word);
    struct builder builder = {0};
    builder_add(&builder, '\'');
    for (const char *p = word; *p; p++) {
        if (*p != '\'') {
            builder_add(&builder, *p);
            continue;
        }
        for (const char *q = "'\\''"; *q; q++)
            builder_add(&builder, *q);
    }
    builder_add(&builder, '\'');
    return builder_take(&builder);
}

void parse_cursor(const char *text, size_t cursor, struct parsed_cursor *out)
{
    size_t length = strlen(text);
    const char *p = text, *end = text + (cursor < length ? cursor : length);
    struct parsed_command command = {0};
    *out = (struct parsed_cursor){.start = (size_t)(end - text)};
    while (p < end) {
        if (is_blank(*p)) {
            p++;
        } else if (*p == ';') {
            command_clear(&command);
            p++;
        } else if (*p == '#') {
            p = end; /* nothing completes in a comment */
            command_clear(&command);
            command_add(&command, xstrdup("#"));
        } else {
            const char *start = p;
            char quote;
            char *word = read_word(&p, end, &quote);
            if (p == end) {
                out->word = word;
                out->start = (size_t)(start - text);
                out->quote = quote == '\\' ? 0 : quote;
            } else {
                command_add(&command, word);
            }
        }
    }
    if (!out->word)
        out->word = xstrdup("");
    out->argc = command.argc;
    out->argv = command.argv;
}

void parsed_cursor_free(struct parsed_cursor *cursor)
{
    struct parsed_command command = {.argc = cursor->argc, .argv = cursor->argv};
    command_clear(&command);
    free(cursor->word);
    *cursor = (struct parsed_cursor){0};
}

/* ---- values ---- */

bool parse_integer(const char *text, int64_t minimum, int64_t maximum, const char *what,
                   int64_t *out, struct error *error)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool starts = isdigit((unsigned char)text[text[0] == '-' || text[0] == '+']);
    if (!starts || *end || errno || value < minimum || value > maximum)
        return error_set(error, ERROR_VALUE, what, "'%s' is not an integer from %lld to %lld", text,
                         (long long)minimum, (long long)maximum);
    *out = value;
    return true;
}

/* A non-negative decimal number at the start of text; no hex, no inf, no sign. */
static bool read_number(const char *text, double *value, const char **rest)
{
    size_t digits = 0, length = 0;
    bool point = false;
    for (; text[length]; length++) {
        if (isdigit((unsigned char)text[length]))
            digits++;
        else if (text[length] == '.' && !point)
            point = true;
        else
            break;
    }
    if (digits == 0 || length > 40)
        return false;
    char copy[48];
    memcpy(copy, text, length);
    copy[length] = '\0';
    *value = strtod(copy, NULL);
    *rest = text + length;
    while (**rest == ' ')
        (*rest)++;
    return isfinite(*value);
}

bool parse_size(const char *text, const char *what, uint64_t *bytes, struct error *error)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {
        {"", 1},         {"B", 1},      {"K", 0x1p10},   {"KiB", 0x1p10}, {"M", 0x1p20},
        {"MiB", 0x1p20}, {"G", 0x1p30}, {"GiB", 0x1p30}, {"T", 0x1p40},   {"TiB", 0x1p40},
        {"kB", 1e3},     {"MB", 1e6},   {"GB", 1e9},     {"TB", 1e12},
    };
    double value;
    const char *rest;
    if (read_number(text, &value, &rest)) {
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            if (strcasecmp(rest, units[i].unit) != 0)
                continue;
            double product = floor(value * units[i].factor + 0.5);
            if (product > 0x1p60)
                break;
            *bytes = (uint64_t)product;
            return true;
        }
    }
    error_set(error, ERROR_VALUE, what, "'%s' is not a size: a number with B, KiB, MiB, GiB or TiB",
              text);
    return error_hint(error, "512MiB");
}

bool parse_time(const char *text, const char *what, double *milliseconds, struct error *error)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1},      {"ms", 1},    {"s", 1e3},   {"us", 1e-3},
                 {"min", 6e4}, {"h", 3.6e6}, {"ns", 1e-6}, {"\xc2\xb5s", 1e-3}};
    double value;
    const char *rest;
    if (read_number(text, &value, &rest)) {
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            if (strcmp(rest, units[i].unit) != 0)
                continue;
            double product = value * units[i].factor;
            if (product > 1e12)
                break;
            *milliseconds = product;
            return true;
        }
    }
    error_set(error, ERROR_VALUE, what, "'%s' is not a time: a number with us, ms, s or min", text);
    return error_hint(error, "25ms");
}

/* Digits up to a delimiter; false if there are none or too many. */
static bool read_integer(const char **at, int64_t *value)
{
    const char *p = *at;
    int64_t sum = 0;
    if (!isdigit((unsigned char)*p))
        return false;
    for (; isdigit((unsigned char)*p); p++) {
        if (sum > (INT64_C(1) << 53))
            return false;
        sum = sum * 10 + (*p - '0');
    }
    *at = p;
    *value = sum;
    return true;
}

size_t parse_list(const char *text, const char *what, int64_t *out, size_t capacity,
                  struct error *error)
{
    const char *p = text;
    size_t count = 0;
    for (;;) {
        int64_t value;
        if (!read_integer(&p, &value) || (*p && *p != ',')) {
            error_set(error, ERROR_VALUE, what, "'%s' is not a list of numbers like 0,1", text);
            return 0;
        }
        if (count == capacity) {
            error_set(error, ERROR_VALUE, what, "'%s' has more than %zu entries", text, capacity);
            return 0;
        }
        out[count++] = value;
        if (!*p)
            return count;
        p++;
    }
}

size_t parse_range(const char *text, const char *what, int64_t *out, size_t capacity,
                   struct error *error)
{
    const char *p = text;
    int64_t from, to, step = 1;
    bool multiply = false;
    bool ok = read_integer(&p, &from);
    to = ok ? from : 0;
    if (ok && *p) {
        ok = strncmp(p, "..", 2) == 0;
        p += ok ? 2 : 0;
        ok = ok && read_integer(&p, &to);
        if (ok && (*p == 'x' || *p == '+')) {
            multiply = *p++ == 'x';
            ok = read_integer(&p, &step);
        }
    }
    if (!ok || *p || from < 1 || to < from || step < (multiply ? 2 : 1)) {
        error_set(error, ERROR_VALUE, what, "'%s' is not a range: A..B, A..B+K or A..BxK", text);
        error_hint(error, "1..256x2");
        return 0;
    }
    size_t count = 0;
    for (int64_t value = from; value <= to; value = multiply ? value * step : value + step) {
        if (count == capacity) {
            error_set(error, ERROR_VALUE, what, "'%s' has more than %zu values", text, capacity);
            return 0;
        }
        out[count++] = value;
        if (multiply ? value > to / step : value > to - step)
            break;
    }
    return count;
}

bool parse_device(const char *text, char *out, size_t size, struct error *error)
{
    static const char *const prefixes[] = {"/physical_device:", "/device:", "/"};
    const char *p = text;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (strncasecmp(p, prefixes[i], strlen(prefixes[i])) == 0) {
            p += strlen(prefixes[i]);
            break;
        }
    }
    if (strcasecmp(p, "cpu") == 0 || strcasecmp(p, "cpu:0") == 0) {
        snprintf(out, size, "cpu");
        return true;
    }
    if (strcasecmp(p, "gpu") == 0) {
        snprintf(out, size, "gpu:0");
        return true;
    }
    bool is_uuid = p == text && (strncmp(p, "GPU-", 4) == 0 || strncmp(p, "MIG-", 4) == 0) && p[4];
    for (const char *q = p; is_uuid && *q; q++)
        is_uuid = isalnum((unsigned char)*q) || *q == '-' || *q == '/';
    if (is_uuid && strlen(p) < size) {
        snprintf(out, size, "%s", p);
        return true;
    }
    if (strncasecmp(p, "gpu:", 4) == 0)
        p += 4;
    int64_t index;
    if (read_integer(&p, &index) && !*p && index < 1024) {
        snprintf(out, size, "gpu:%d", (int)index);
        return true;
    }
    error_set(error, ERROR_VALUE, "devices",
              "'%s' is no device: an index, gpu:N, a UUID, cpu or auto", text);
    if (strcmp(text, "-1") == 0 || strcasecmp(text, "none") == 0 || !*text)
        return error_hint(error, "devices cpu");
    return error_hint(error, "devices");
}

/* ---- near words ---- */

size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    size_t la = strlen(a), lb = strlen(b);
    if (la > LONGEST || lb > LONGEST)
        return la > lb ? la : lb;
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *previous = rows[1], *current = rows[2];
    for (size_t j = 0; j <= lb; j++)
        previous[j] = j;
    for (size_t i = 1; i <= la; i++) {
        current[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
            size_t best = previous[j - 1] + (ca != cb);
            if (previous[j] + 1 < best)
                best = previous[j] + 1;
            if (current[j - 1] + 1 < best)
                best = current[j - 1] + 1;
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                cb == tolower((unsigned char)a[i - 2]) && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            current[j] = best;
        }
        size_t *oldest = before;
        before = previous;
        previous = current;
        current = oldest;
    }
    return previous[lb];
}

const char *nearest_word(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t best_distance = 3, length = strlen(word);
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        if (distance < best_distance && 2 * distance <= length) { /* half of it is right */
            best = candidates[i];
            best_distance = distance;
        }
    }
    return best;
}
