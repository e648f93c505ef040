/* One table of settings: parser, completion, `set`, `show`, help and the prompt come from it. */
#ifndef LAYERTOP_COMMANDS_SETTINGS_H
#define LAYERTOP_COMMANDS_SETTINGS_H

#include "engine/error.h"
#include <jansson.h>
#include <stdint.h>

enum setting_type {
    SETTING_CHOICE,
    SETTING_BOOL, /* on|off */
    SETTING_INTEGER,
    SETTING_SIZE,  /* bytes: 512MiB, 40%, none */
    SETTING_PARTS, /* 2x4GiB, none */
    SETTING_TIME,  /* milliseconds: 25ms, 1.5s, none */
    SETTING_DEVICES,
    SETTING_TEXT
};

struct setting {
    const char *name;
    const char *const *aliases; /* TensorFlow's names: answered once with ours; NULL-terminated */
    enum setting_type type;
    const char *const *choices; /* NULL-terminated */
    int64_t minimum, maximum;
    const char *value; /* default, as typed */
    bool engine;       /* forwarded to the worker; else the front's own */
    bool for_gpus; /* means nothing to the CPU: stored, with a note, on a machine without a GPU */
    const char *unit;
    const char *summary; /* one line */
    const char *help;
    const char *example; /* a command line that parses */
};

/* JSON values: CHOICE and TEXT strings, BOOL booleans, INTEGER integers (or the string "auto" where
 * that is a choice), SIZE null for none, integer bytes, or a string "40%"; PARTS null for none or {"count", "bytes"}; TIME null for none or
 * milliseconds; DEVICES "auto" or an array of "cpu", "gpu:N" and UUIDs. */
size_t setting_count(void);
const struct setting *setting_at(size_t index);
/* By exact name, alias or unique prefix. NULL with ERROR_UNKNOWN_COMMAND and did-you-mean. */
const struct setting *setting_find(const char *word, struct error *error);
/* Parse and range-check text into its JSON value; NULL with ERROR_VALUE. New reference. */
json_t *setting_parse(const struct setting *setting, const char *text, struct error *error);
/* A time in the largest unit that is exact ("33ms", "24h"), so that it can be typed. Returns out. */
char *setting_format_time(double milliseconds, char *out, size_t size);
/* The value as the user types it, into out[size]; returns out. */
char *setting_format(const struct setting *setting, const json_t *value, char *out, size_t size);

#endif
