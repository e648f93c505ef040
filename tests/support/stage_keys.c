#include "support/stage_keys.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *bytes;
} keys[] = {
    {"Enter", "\r"},     {"Tab", "\t"},         {"BackTab", "\033[Z"}, {"Esc", "\033"},
    {"Space", " "},      {"Backspace", "\177"}, {"Delete", "\033[3~"}, {"Up", "\033[A"},
    {"Down", "\033[B"},  {"Right", "\033[C"},   {"Left", "\033[D"},    {"Home", "\033[H"},
    {"End", "\033[F"},   {"PgUp", "\033[5~"},   {"PgDn", "\033[6~"},   {"F1", "\033OP"},
    {"F2", "\033OQ"},    {"F3", "\033OR"},      {"F4", "\033OS"},      {"F5", "\033[15~"},
    {"F6", "\033[17~"},  {"F7", "\033[18~"},    {"F8", "\033[19~"},    {"F9", "\033[20~"},
    {"F10", "\033[21~"}, {"F11", "\033[23~"},   {"F12", "\033[24~"},
};

const char *stage_key(const char *name)
{
    static char bytes[8];
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(name, keys[i].name) == 0)
            return keys[i].bytes;
    bytes[1] = bytes[2] = '\0';
    if (length == 3 && strncmp(name, "C-", 2) == 0)
        bytes[0] = (char)(name[2] & 31);
    else if (length == 3 && strncmp(name, "M-", 2) == 0)
        memcpy(bytes, (const char[]){'\033', name[2]}, 2);
    else if (length == 1)
        bytes[0] = name[0];
    else
        return NULL;
    return bytes;
}

size_t stage_unescape(char *text)
{
    char *out = text;
    for (const char *at = text; *at != '\0'; at++) {
        if (*at != '\\' || at[1] == '\0') {
            *out++ = *at;
            continue;
        }
        switch (*++at) {
        case 'e':
            *out++ = '\033';
            break;
        case 't':
            *out++ = '\t';
            break;
        case 'r':
            *out++ = '\r';
            break;
        case 'n':
            *out++ = '\n';
            break;
        case 'x':
            if (at[1] != '\0' && at[2] != '\0') {
                *out++ = (char)strtol((const char[]){at[1], at[2], '\0'}, NULL, 16);
                at += 2;
            }
            break;
        default:
            *out++ = *at;
        }
    }
    *out = '\0';
    return (size_t)(out - text);
}
