/* A recursive descent over the text; nothing is kept but the place in it. */
#include "commands/expression.h"

#include "commands/parse.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32
#define WORD_MAX  128

enum kind { KIND_NULL, KIND_NUMBER, KIND_TEXT, KIND_TRUTH };

struct value {
    enum kind kind;
    double number;
    bool truth;
    char text[WORD_MAX];
    char path[WORD_MAX]; /* as written, "" if it is none: for messages */
};

struct reader {
    const char *text, *at;
    const json_t *data;
    int depth;
    char *seen;
    size_t seen_size;
    bool unknown; /* what went wrong is that something is not known */
    struct error *error;
};

static bool read_or(struct reader *r, struct value *out);

static bool bad(struct reader *r, const char *what)
{
    size_t column = (size_t)(r->at - r->text) + 1;
    if (*r->at)
        error_set(r->error, ERROR_SYNTAX, "assert", "%s at '%.24s' (column %zu)", what, r->at,
                  column);
    else
        error_set(r->error, ERROR_SYNTAX, "assert", "%s at its end", what);
    return error_hint(r->error, "assert 'wall_ms.median < 40 and steady == true'");
}

static void skip_blanks(struct reader *r)
{
    while (isspace((unsigned char)*r->at))
        r->at++;
}

/* The word or sign is next: take it. Words end where no name goes on. */
static bool take(struct reader *r, const char *token)
{
    size_t length = strlen(token);
    skip_blanks(r);
    if (strncmp(r->at, token, length) != 0)
        return false;
    if (isalpha((unsigned char)*token) &&
        (isalnum((unsigned char)r->at[length]) || r->at[length] == '_'))
        return false;
    r->at += length;
    return true;
}

/* ---- atoms ---- */

static void from_json(struct value *out, const json_t *json)
{
    out->kind = KIND_NULL;
    if (json_is_number(json)) {
        out->kind = KIND_NUMBER;
        out->number = json_number_value(json);
    } else if (json_is_boolean(json)) {
        out->kind = KIND_TRUTH;
        out->truth = json_is_true(json);
    } else if (json_is_string(json)) {
        out->kind = KIND_TEXT;
        snprintf(out->text, sizeof out->text, "%s", json_string_value(json));
    }
}

static const json_t *element(const json_t *list, const char *name)
{
    char *end;
    unsigned long index = strtoul(name, &end, 10);
    if (*name && !*end)
        return json_array_get(list, index);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(item, "name"))
                             ?: json_string_value(json_object_get(item, "id"));
        if (id && strcmp(id, name) == 0)
            return item;
    }
    return NULL;
}

static bool copy_word(struct reader *r, char *out, const char *from, size_t length)
{
    if (length >= WORD_MAX)
        return bad(r, "a word is too long");
    memcpy(out, from, length);
    out[length] = '\0';
    return true;
}

static bool missing(struct reader *r, const json_t *object, const char *path, const char *name)
{
    const char *near = NULL, *key;
    json_t *item;
    const char *keys[64];
    size_t count = 0;
    json_object_foreach((json_t *)(uintptr_t)object, key, item)
    {
        if (count < sizeof keys / sizeof *keys)
            keys[count++] = key;
    }
    near = nearest_word(name, keys, count);
    error_set(r->error, ERROR_VALUE, "assert", "the last result has no %s%s%s%s", path,
              near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return error_hint(r->error, "run 20; assert 'wall_ms.median < 40'");
}

/* What the path at the reader stands for, NULL where it is not known; the path as written. */
static bool find_path(struct reader *r, const json_t **found, char *path)
{
    const char *start = r->at;
    const json_t *json = r->data;
    char name[WORD_MAX];
    bool bracket = false, known = true;
    do {
        const char *from = r->at;
        if (bracket) {
            while (*r->at && *r->at != ']')
                r->at++;
        } else {
            while (isalnum((unsigned char)*r->at) || *r->at == '_')
                r->at++;
        }
        if (r->at == from)
            return bad(r, "a name is missing");
        if (!copy_word(r, name, from, (size_t)(r->at - from)))
            return false;
        if (bracket && *r->at != ']')
            return bad(r, "a ] is missing");
        r->at += bracket;
        const json_t *next =
            json_is_array(json) ? element(json, name) : json_object_get(json, name);
        if (!next && !json_is_null(json))
            return copy_word(r, path, start, (size_t)(r->at - start)) &&
                   missing(r, json, path, name);
        known = known && next;
        json = next ? next : json;
        bracket = *r->at == '[';
    } while ((*r->at == '.' || *r->at == '[') && *r->at++);
    *found = known ? json : NULL;
    return copy_word(r, path, start, (size_t)(r->at - start));
}

static bool read_path(struct reader *r, struct value *out)
{
    const json_t *json;
    char path[WORD_MAX];
    if (!find_path(r, &json, path))
        return false;
    if (json_is_object(json) && json_is_number(json_object_get(json, "median")))
        json = json_object_get(json, "median"); /* `wall_ms < 5` is about the median */
    from_json(out, json);
    memcpy(out->path, path, sizeof path);
    return !(json_is_object(json) || json_is_array(json)) ||
           bad(r, "that is more than one value: name one of its parts");
}

static bool read_number(struct reader *r, struct value *out)
{
    static const struct {
        const char *name;
        double factor;
    } UNITS[] = {{"us", 1e-3},  {"ms", 1},       {"s", 1e3},      {"min", 6e4},    {"%", 1e-2},
                 {"KiB", 1024}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"kB", 1e3},
                 {"MB", 1e6},   {"GB", 1e9},     {"TB", 1e12}};
    char *end;
    out->kind = KIND_NUMBER;
    out->number = strtod(r->at, &end);
    r->at = end;
    size_t length = 0;
    while (isalpha((unsigned char)r->at[length]))
        length++;
    length += r->at[0] == '%';
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS && length; i++) {
        if (strlen(UNITS[i].name) == length && strncmp(UNITS[i].name, r->at, length) == 0) {
            out->number *= UNITS[i].factor;
            r->at += length;
            return true;
        }
    }
    return length == 0 || bad(r, "that is no unit");
}

static bool read_sum(struct reader *r, struct value *out);
static bool read_function(struct reader *r, struct value *out, bool *is_one);

static bool read_atom(struct reader *r, struct value *out)
{
    bool is_function;
    *out = (struct value){.kind = KIND_NULL};
    skip_blanks(r);
    if (*r->at == '\'' || *r->at == '"') {
        char quote = *r->at++;
        const char *from = r->at;
        while (*r->at && *r->at != quote)
            r->at++;
        out->kind = KIND_TEXT;
        if (*r->at != quote)
            return bad(r, "a quote is open");
        return copy_word(r, out->text, from, (size_t)(r->at++ - from));
    }
    if (isdigit((unsigned char)*r->at) || (*r->at == '.' && isdigit((unsigned char)r->at[1])))
        return read_number(r, out);
    if (take(r, "-")) {
        if (++r->depth > DEPTH_MAX)
            return bad(r, "it is too deep");
        if (!read_atom(r, out))
            return false;
        r->depth--;
        out->number = -out->number;
        r->unknown = out->kind == KIND_NULL;
        return out->kind == KIND_NUMBER || bad(r, "only a number can be negative");
    }
    if (take(r, "true") || take(r, "false")) {
        out->kind = KIND_TRUTH;
        out->truth = r->at[-2] == 'u';
        return true;
    }
    if (take(r, "null"))
        return true;
    if (!read_function(r, out, &is_function) || is_function)
        return is_function;
    if (isalpha((unsigned char)*r->at) || *r->at == '_')
        return read_path(r, out);
    return bad(r, "a value is missing");
}

/* ---- arithmetic ---- */

static bool arithmetic(struct reader *r, struct value *left, char sign, const struct value *right)
{
    if (left->kind != KIND_NUMBER || right->kind != KIND_NUMBER) {
        const struct value *wrong = left->kind != KIND_NUMBER ? left : right;
        r->unknown = wrong->kind == KIND_NULL;
        error_set(r->error, ERROR_VALUE, "assert", "%s is %s, and no number to reckon with",
                  *wrong->path ? wrong->path : "a value",
                  wrong->kind == KIND_NULL ? "not known" : "text or true or false");
        return error_hint(r->error, "run 20; assert 'wall_ms.median < 40'");
    }
    left->number = sign == '+'   ? left->number + right->number
                   : sign == '-' ? left->number - right->number
                   : sign == '*' ? left->number * right->number
                                 : left->number / right->number;
    left->path[0] = '\0';
    return isfinite(left->number) || bad(r, "that is no finite number");
}

static bool read_factor(struct reader *r, struct value *out)
{
    if (!take(r, "("))
        return read_atom(r, out);
    if (++r->depth > DEPTH_MAX)
        return bad(r, "it is too deep");
    bool good = read_or(r, out) && (take(r, ")") || bad(r, "a ) is missing"));
    r->depth--;
    return good;
}

static bool read_product(struct reader *r, struct value *out)
{
    if (!read_factor(r, out))
        return false;
    for (;;) {
        struct value right;
        char sign = take(r, "*") ? '*' : take(r, "/") ? '/' : '\0';
        if (!sign)
            return true;
        if (!read_factor(r, &right) || !arithmetic(r, out, sign, &right))
            return false;
    }
}

static bool read_sum(struct reader *r, struct value *out)
{
    if (!read_product(r, out))
        return false;
    for (;;) {
        struct value right;
        char sign = take(r, "+") ? '+' : take(r, "-") ? '-' : '\0';
        if (!sign)
            return true;
        if (!read_product(r, &right) || !arithmetic(r, out, sign, &right))
            return false;
    }
}

/* ---- truth ---- */

static void write_value(char *out, size_t size, const struct value *value)
{
    if (value->kind == KIND_NUMBER)
        snprintf(out, size, "%.6g", value->number);
    else if (value->kind == KIND_TEXT)
        snprintf(out, size, "'%s'", value->text);
    else
        snprintf(out, size, "%s",
                 value->kind == KIND_NULL ? "null"
                 : value->truth           ? "true"
                                          : "false");
}

static void note(struct reader *r, const struct value *value)
{
    if (!*value->path || r->seen_size == 0)
        return;
    char text[WORD_MAX + 4];
    size_t used = strlen(r->seen);
    write_value(text, sizeof text, value);
    snprintf(r->seen + used, r->seen_size - used, "%s%s is %s", used ? ", " : "", value->path,
             text);
}

/* -1, 0, 1 in *order; false if the two cannot be compared. */
static bool order_of(struct reader *r, const struct value *a, const struct value *b, bool equality,
                     int *order)
{
    if (equality && (a->kind == KIND_NULL || b->kind == KIND_NULL)) {
        *order = a->kind != b->kind; /* x == null asks whether it is known */
        return true;
    }
    if (a->kind != b->kind || a->kind == KIND_NULL || (!equality && a->kind == KIND_TRUTH)) {
        const struct value *path = *a->path ? a : b;
        char left[WORD_MAX + 4], right[WORD_MAX + 4];
        r->unknown = a->kind == KIND_NULL || b->kind == KIND_NULL;
        write_value(left, sizeof left, a);
        write_value(right, sizeof right, b);
        error_set(r->error, ERROR_VALUE, "assert", "%s%s%s cannot be compared with %s",
                  *path->path ? path->path : "", *path->path ? ": " : "", left, right);
        return error_hint(r->error, "run 20; assert 'wall_ms.median < 40'");
    }
    if (a->kind == KIND_NUMBER)
        *order = (a->number > b->number) - (a->number < b->number);
    else if (a->kind == KIND_TEXT)
        *order = strcmp(a->text, b->text);
    else
        *order = a->truth != b->truth;
    return true;
}

static bool read_comparison(struct reader *r, struct value *out)
{
    static const char *const signs[] = {"<=", ">=", "==", "!=", "<", ">"};
    struct value right;
    if (!read_sum(r, out))
        return false;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (!take(r, signs[i]))
            continue;
        int order = 0;
        if (!read_sum(r, &right) || !order_of(r, out, &right, i == 2 || i == 3, &order))
            return false;
        note(r, out);
        note(r, &right);
        bool truth = i == 0   ? order <= 0
                     : i == 1 ? order >= 0
                     : i == 2 ? order == 0
                     : i == 3 ? order != 0
                     : i == 4 ? order < 0
                              : order > 0;
        *out = (struct value){.kind = KIND_TRUTH, .truth = truth};
        return true;
    }
    return true;
}

static bool truth_of(struct reader *r, const struct value *value)
{
    if (value->kind == KIND_TRUTH)
        return true;
    return bad(r, "that is neither true nor false");
}

static bool read_not(struct reader *r, struct value *out)
{
    bool negate = false;
    while (take(r, "not"))
        negate = !negate;
    if (!read_comparison(r, out))
        return false;
    if (negate && !truth_of(r, out))
        return false;
    out->truth = out->truth != negate;
    return true;
}

static bool read_chain(struct reader *r, struct value *out, const char *word,
                       bool (*part)(struct reader *, struct value *))
{
    if (!part(r, out))
        return false;
    while (take(r, word)) {
        struct value right;
        if (!truth_of(r, out) || !part(r, &right) || !truth_of(r, &right))
            return false;
        out->truth = *word == 'a' ? out->truth && right.truth : out->truth || right.truth;
    }
    return true;
}

static bool read_and(struct reader *r, struct value *out)
{
    return read_chain(r, out, "and", read_not);
}

static bool read_or(struct reader *r, struct value *out)
{
    return read_chain(r, out, "or", read_and);
}

/* ---- functions ---- */

/* The bracket that closes what begins at `text`, or its end. */
static const char *closing_bracket(const char *text)
{
    int depth = 0;
    char quote = '\0';
    for (; *text; text++) {
        if (quote)
            quote = *text == quote ? '\0' : quote;
        else if (*text == '\'' || *text == '"')
            quote = *text;
        else if (*text == '(' || *text == '[')
            depth++;
        else if ((*text == ')' || *text == ']') && depth-- == 0)
            break;
    }
    return text;
}

enum fold { FOLD_COUNT, FOLD_SUM, FOLD_MIN, FOLD_MAX, FOLD_TOP };

/* Take the value of one element, which is `name`, into what the list has come to. */
static bool fold_value(struct reader *r, enum fold fold, const struct value *value,
                       const char *name, double *best, struct value *out)
{
    if (fold == FOLD_COUNT) {
        if (value->kind != KIND_TRUTH)
            return bad(r, "count() wants what is true or false");
        out->number += value->truth;
        return true;
    }
    if (value->kind != KIND_NUMBER)
        return bad(r, "that is no number");
    bool first = out->kind == KIND_NULL;
    if (fold == FOLD_SUM)
        out->number += value->number;
    else if (fold != FOLD_TOP && (first || (fold == FOLD_MIN) == (value->number < out->number)))
        out->number = value->number;
    else if (fold == FOLD_TOP && (first || value->number > *best))
        snprintf(out->text, sizeof out->text, "%s", name ? name : "?");
    *best = first || value->number > *best ? value->number : *best;
    out->kind = fold == FOLD_TOP ? KIND_TEXT : KIND_NUMBER;
    return true;
}

/* LIST, EXPRESSION ): of the elements for which it is known. */
static bool read_fold(struct reader *r, enum fold fold, struct value *out)
{
    const json_t *list, *outer = r->data;
    char path[WORD_MAX];
    size_t seen_size = r->seen_size, index;
    double best = 0;
    skip_blanks(r);
    if (!find_path(r, &list, path))
        return false;
    if (!json_is_array(list))
        return bad(r, "that is no list");
    if (!take(r, ","))
        return bad(r, "a , is missing");
    const char *body = r->at, *end = closing_bracket(body);
    int depth = r->depth + 1;
    if (depth > DEPTH_MAX)
        return bad(r, "it is too deep");
    *out = (struct value){.kind = fold <= FOLD_SUM ? KIND_NUMBER : KIND_NULL};
    r->seen_size = 0;
    bool good = true;
    for (index = 0; good && index < json_array_size(list); index++) {
        const json_t *item = json_array_get(list, index);
        struct value value;
        r->at = body;
        r->data = item;
        r->depth = depth;
        r->unknown = false;
        good = read_or(r, &value);
        skip_blanks(r);
        if (good && r->at != end)
            good = bad(r, "an operator is missing");
        if (good && value.kind == KIND_NULL)
            continue;
        if (good)
            good = fold_value(r, fold, &value, json_string_value(json_object_get(item, "name")),
                              &best, out);
        else
            good = r->unknown;
    }
    r->data = outer;
    r->depth = depth - 1;
    r->seen_size = seen_size;
    if (!good)
        return false;
    r->unknown = false;
    r->at = end;
    if (r->error)
        *r->error = (struct error){0}; /* of elements that are not known */
    return take(r, ")") || bad(r, "a ) is missing");
}

static bool read_rounded(struct reader *r, bool up, struct value *out)
{
    if (++r->depth > DEPTH_MAX)
        return bad(r, "it is too deep");
    if (!read_sum(r, out))
        return false;
    r->depth--;
    if (out->kind != KIND_NUMBER) {
        r->unknown = out->kind == KIND_NULL;
        return bad(r, "only a number can be rounded");
    }
    out->number = up ? ceil(out->number) : floor(out->number);
    out->path[0] = '\0';
    return take(r, ")") || bad(r, "a ) is missing");
}

static bool read_function(struct reader *r, struct value *out, bool *is_one)
{
    static const char *const folds[] = {"count(", "sum(", "min(", "max(", "top("};
    *is_one = true;
    for (size_t i = 0; i < sizeof folds / sizeof *folds; i++) {
        size_t length = strlen(folds[i]);
        if (strncmp(r->at, folds[i], length) == 0) {
            r->at += length;
            *is_one = read_fold(r, (enum fold)i, out);
            return *is_one;
        }
    }
    bool up = strncmp(r->at, "ceil(", 5) == 0, down = strncmp(r->at, "floor(", 6) == 0;
    if (up || down) {
        r->at += up ? 5 : 6;
        *is_one = read_rounded(r, up, out);
        return *is_one;
    }
    *is_one = false;
    return true;
}

json_t *expression_value(const char *text, const json_t *data, struct error *error)
{
    struct value value;
    struct reader r = {.text = text, .at = text, .data = data, .error = error};
    if (!read_or(&r, &value))
        return NULL;
    skip_blanks(&r);
    if (*r.at) {
        bad(&r, "an operator is missing");
        return NULL;
    }
    if (value.kind == KIND_NUMBER)
        return json_real(value.number);
    if (value.kind == KIND_TEXT)
        return json_string(value.text);
    if (value.kind == KIND_TRUTH)
        return json_boolean(value.truth);
    error_set(error, ERROR_VALUE, "assert", "%s is not known", *value.path ? value.path : "it");
    return NULL;
}

bool expression_holds(const char *text, const json_t *data, bool *holds, char *seen, size_t size,
                      struct error *error)
{
    struct value value;
    struct reader r = {
        .text = text, .at = text, .data = data, .seen = seen, .seen_size = size, .error = error};
    if (size)
        seen[0] = '\0';
    if (!read_or(&r, &value))
        return false;
    skip_blanks(&r);
    if (*r.at)
        return bad(&r, "an operator is missing");
    if (!truth_of(&r, &value))
        return false;
    *holds = value.truth;
    return true;
}
