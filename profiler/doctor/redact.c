#include "profiler/doctor/redact.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_LEAST  2  /* letters of a name worth hiding: "a" would hide every article */
#define TOKEN_LEAST 16 /* characters of what looks like a secret */
#define UUID_KEPT   4
#define DEPTH_MAX   64

struct buffer {
    char *text;
    size_t used, room;
};

static void add(struct buffer *buffer, const char *text, size_t length)
{
    if (buffer->used + length + 1 > buffer->room) {
        buffer->room = 2 * (buffer->used + length + 1);
        buffer->text = xrealloc(buffer->text, buffer->room);
    }
    memcpy(buffer->text + buffer->used, text, length);
    buffer->used += length;
    buffer->text[buffer->used] = '\0';
}

static bool in_word(char letter)
{
    return isalnum((unsigned char)letter) || letter == '_';
}

/* Length of a name that stands here as a word, else 0. */
static size_t name_at(const char *at, const char *before, const char *name)
{
    size_t length = name ? strlen(name) : 0;
    if (length < NAME_LEAST || strncmp(at, name, length) != 0 || in_word(at[length]) ||
        (before && in_word(*before)))
        return 0;
    return length;
}

static bool is_public_name(const char *name)
{
    return !name || strcmp(name, "root") == 0 || strcmp(name, "localhost") == 0;
}

/* "/home/NAME" and "/Users/NAME": the length of NAME. */
static size_t home_at(const char *at, size_t *prefix)
{
    static const char *const roots[] = {"/home/", "/Users/", "/export/home/"};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        *prefix = strlen(roots[i]);
        if (strncmp(at, roots[i], *prefix) == 0)
            return strcspn(at + *prefix, "/: \t\n\"'`,;)");
    }
    return 0;
}

static size_t token_length(const char *at)
{
    size_t length = 0;
    while (in_word(at[length]) || at[length] == '-' || at[length] == '+' || at[length] == '/' ||
           at[length] == '=' || at[length] == '.')
        length++;
    return length;
}

/* Secrets that say what they are by how they begin. */
static size_t secret_at(const char *at, const char *before)
{
    static const char *const begins[] = {"hf_",    "ghp_",  "gho_",  "ghs_", "github_pat_",
                                         "glpat-", "xoxb-", "sk-",   "AKIA", "ASIA",
                                         "eyJ",    "pypi-", "nvapi-"};
    if (before && in_word(*before))
        return 0;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        size_t length = token_length(at);
        if (strncmp(at, begins[i], strlen(begins[i])) == 0 && length >= TOKEN_LEAST)
            return length;
    }
    return 0;
}

/* "token=VALUE", "password: VALUE": the length up to VALUE; 0 if none. */
static size_t key_at(const char *at, const char *before)
{
    static const char *const keys[] = {"token",  "password", "passwd", "secret", "api_key",
                                       "apikey", "api-key",  "key",    "auth"};
    if (before && isalpha((unsigned char)*before))
        return 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t length = strlen(keys[i]);
        if (strncasecmp(at, keys[i], length) != 0)
            continue;
        if (at[length] == '=')
            return length + 1;
        if (at[length] == ':' && at[length + 1] == ' ')
            return length + 2;
    }
    return 0;
}

/* A UUID's tail after "GPU-1f2e": hexadecimal digits and dashes to the end. */
static size_t uuid_at(const char *at, const char *before, size_t *kept)
{
    static const char *const begins[] = {"GPU-", "MIG-GPU-", "MIG-"};
    if (before && in_word(*before))
        return 0;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        size_t length = strlen(begins[i]), digits;
        if (strncmp(at, begins[i], length) != 0)
            continue;
        digits = strspn(at + length, "0123456789abcdefABCDEF-");
        *kept = length + UUID_KEPT;
        return digits > UUID_KEPT ? length + digits : 0;
    }
    return 0;
}

/* "https://user:password@host": the length of "user:password". */
static size_t credentials_at(const char *at, const char *start)
{
    if (at - start < 3 || strncmp(at - 3, "://", 3) != 0)
        return 0;
    size_t length = strcspn(at, "/ \t\n\"'@");
    return at[length] == '@' ? length : 0;
}

/* "name@host.tld" */
static size_t mail_at(const char *at, const char *before)
{
    size_t name = 0, host;
    if (before && (in_word(*before) || *before == '.' || *before == '@'))
        return 0;
    while (in_word(at[name]) || at[name] == '.' || at[name] == '-' || at[name] == '+')
        name++;
    if (name == 0 || at[name] != '@')
        return 0;
    host =
        strspn(at + name + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");
    return memchr(at + name + 1, '.', host) ? name + 1 + host : 0;
}

/* Four numbers up to 255 with dots between. Wheels of CUDA have such versions (9.1.0.70): what begins
 * with less than 26 is taken for one, but for the private network 10. */
static size_t address_at(const char *at, const char *before)
{
    const char *end = at;
    int first = atoi(at);
    if (first != 10 && first < 26)
        return 0;
    if (before && (in_word(*before) || *before == '.' || *before == '-' || *before == '='))
        return 0;
    for (int i = 0; i < 4; i++) {
        char *next;
        if (!isdigit((unsigned char)*end))
            return 0;
        unsigned long number = strtoul(end, &next, 10);
        if (number > 255 || next - end > 3 || (i < 3 && *next != '.'))
            return 0;
        end = next + (i < 3);
    }
    return in_word(*end) || *end == '.' ? 0 : (size_t)(end - at);
}

char *redact_text(const char *text, const struct redaction *redaction)
{
    struct buffer out = {0};
    add(&out, "", 0);
    const char *home = redaction->home && strlen(redaction->home) > 1 ? redaction->home : NULL;
    const char *user = is_public_name(redaction->user) ? NULL : redaction->user;
    const char *host = is_public_name(redaction->host) ? NULL : redaction->host;
    for (const char *at = text; *at;) {
        const char *before = at > text ? at - 1 : NULL;
        size_t length, prefix = 0, kept = 0;
        if ((length = name_at(at, before, home)) > 0) {
            add(&out, "~", 1);
        } else if ((length = home_at(at, &prefix)) > 0) {
            add(&out, at, prefix);
            add(&out, "USER", 4);
            length += prefix;
        } else if ((length = secret_at(at, before)) > 0) {
            add(&out, "TOKEN", 5);
        } else if ((prefix = key_at(at, before)) > 0) {
            length = prefix + strcspn(at + prefix, " \t\n\"'&,;)");
            add(&out, at, prefix);
            if (length > prefix)
                add(&out, "SECRET", 6);
        } else if ((length = uuid_at(at, before, &kept)) > 0) {
            add(&out, at, kept);
            add(&out, "...", 3);
        } else if ((length = credentials_at(at, text)) > 0) {
            add(&out, "SECRET", 6);
        } else if ((length = mail_at(at, before)) > 0) {
            add(&out, "MAIL", 4);
        } else if ((length = name_at(at, before, user)) > 0) {
            add(&out, "USER", 4);
        } else if ((length = name_at(at, before, host)) > 0) {
            add(&out, "HOST", 4);
        } else if ((length = address_at(at, before)) > 0) {
            add(&out, "ADDRESS", 7);
        } else {
            add(&out, at, length = 1);
        }
        at += length;
    }
    return out.text;
}

/* Members that hold no more than a version, even where it looks like an address. */
static bool is_version(const char *key)
{
    return strcmp(key, "version") == 0 || strcmp(key, "package_version") == 0 ||
           strcmp(key, "module_version") == 0 || strcmp(key, "cudnn") == 0;
}

/* Members that are names by themselves, whatever they say. */
static const char *name_of_member(const char *key, const char *text)
{
    if (!*text || is_public_name(text))
        return NULL;
    if (strcmp(key, "user") == 0)
        return "USER";
    if (strcmp(key, "host") == 0)
        return "HOST";
    if (strcmp(key, "home") == 0)
        return "~";
    return NULL;
}

static json_t *redact_value(const json_t *json, const struct redaction *redaction, int depth)
{
    const char *key;
    size_t index;
    json_t *value, *out;
    if (depth > DEPTH_MAX)
        return json_null();
    if (json_is_string(json)) {
        char *text = redact_text(json_string_value(json), redaction);
        out = json_string(text);
        free(text);
        return out ? out : json_null();
    }
    if (json_is_array(json)) {
        out = json_array();
        json_array_foreach(json, index, value)
            json_array_append_new(out, redact_value(value, redaction, depth + 1));
        return out;
    }
    if (!json_is_object(json))
        return json_deep_copy(json);
    out = json_object();
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        const char *name =
            json_is_string(value) ? name_of_member(key, json_string_value(value)) : NULL;
        json_object_set_new(out, key,
                            name              ? json_string(name)
                            : is_version(key) ? json_deep_copy(value)
                                              : redact_value(value, redaction, depth + 1));
    }
    return out;
}

json_t *redact_json(const json_t *json, const struct redaction *redaction)
{
    return redact_value(json, redaction, 0);
}
