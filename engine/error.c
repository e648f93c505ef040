#define _GNU_SOURCE /* vasprintf */
#include "engine/error.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer formatted texts are cut before they are cleaned: no reason needs more. */
#define TEXT_MAX 4096

bool error_set(struct error *error, enum error_code code, const char *what, const char *why, ...)
{
    if (error == NULL)
        return false;
    /* `what` and the arguments may point into *error itself (a reason wrapped in another) */
    char text[TEXT_MAX], name[sizeof error->what];
    text_clean(name, sizeof name, what != NULL ? what : "");
    va_list arguments;
    va_start(arguments, why);
    vsnprintf(text, sizeof text, why != NULL ? why : "", arguments);
    va_end(arguments);
    error->code = code;
    memcpy(error->what, name, sizeof name);
    text_clean(error->why, sizeof error->why, text);
    error->hint[0] = '\0';
    return false;
}

bool error_hint(struct error *error, const char *hint, ...)
{
    if (error == NULL)
        return false;
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, hint);
    vsnprintf(text, sizeof text, hint, arguments);
    va_end(arguments);
    text_clean(error->hint, sizeof error->hint, text);
    return false;
}

int error_exit_code(enum error_code code)
{
    switch (code) {
#define ERROR_CASE(name, number, exit_code)                                                        \
    case name:                                                                                     \
        return exit_code;
        ERROR_CODES(ERROR_CASE)
#undef ERROR_CASE
    }
    return 1;
}

bool error_code_known(int number)
{
    switch (number) {
#define ERROR_CASE(name, value, exit_code) case value:
        ERROR_CODES(ERROR_CASE)
#undef ERROR_CASE
        return true;
    }
    return false;
}

/* Bytes of the well-formed UTF-8 sequence at `s` that is fit for a terminal, 0 if there is none.
 * Overlong forms, surrogates and code points past U+10FFFF are malformed (Unicode 15, table 3-7). */
static size_t utf8_printable(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    size_t length = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                    : (s[0] & 0xf0) == 0xe0        ? 3
                    : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                   : 0;
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0; /* the terminating NUL ends up here too */
    }
    if (length == 2 && s[0] == 0xc2 && s[1] < 0xa0)
        return 0; /* C1 controls: U+009B is an escape sequence of its own */
    if (s[0] == 0xe0 && s[1] < 0xa0)
        return 0;
    if (s[0] == 0xed && s[1] > 0x9f)
        return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    if (length == 3) {
        uint32_t point = ((s[0] & 0xfu) << 12) | ((s[1] & 0x3fu) << 6) | (s[2] & 0x3fu);
        /* line separators and bidirectional overrides reorder what stands beside them */
        if ((point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069))
            return 0;
    }
    return length;
}

char *text_clean(char *out, size_t size, const char *text)
{
    if (size == 0)
        return out;
    const unsigned char *s = (const unsigned char *)text;
    size_t used = 0;
    while (*s != '\0') {
        size_t length = utf8_printable(s);
        if (length > 0) {
            if (used + length >= size)
                break;
            memcpy(out + used, s, length);
            used += length;
            s += length;
        } else {
            if (used + 4 >= size)
                break;
            snprintf(out + used, 5, "\\x%02x", *s);
            used += 4;
            s++;
        }
    }
    out[used] = '\0';
    return out;
}

/* The one function through which a small allocation that failed ends the process. */
static void *checked(void *pointer, size_t bytes)
{
    if (pointer == NULL && bytes != 0) {
        fprintf(stderr, "layertop: out of memory (%zu bytes)\n", bytes);
        abort();
    }
    return pointer;
}

void *xmalloc(size_t bytes)
{
    return checked(malloc(bytes != 0 ? bytes : 1), bytes);
}

void *xcalloc(size_t count, size_t bytes)
{
    if (count == 0 || bytes == 0)
        count = bytes = 1;
    return checked(calloc(count, bytes), bytes);
}

void *xrealloc(void *pointer, size_t bytes)
{
    return checked(realloc(pointer, bytes != 0 ? bytes : 1), bytes);
}

char *xstrdup(const char *text)
{
    return checked(strdup(text), strlen(text) + 1);
}

char *xasprintf(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return checked(length < 0 ? NULL : text, 1);
}
