/* Wrong beliefs about inference that articles spread, each with what is true, and an experiment that
 * shows it here.
 *
 * They are one file, myths.text in the data folder (course_file.h):
 *
 *   myth W01: TEXT     what is believed
 *   truth: TEXT
 *   try: LINE          a command of the experiment, in order; {data} stands for the data folder
 *   see: TEXT          what to look for in what it shows
 *
 * An experiment runs on every machine, loads its own model, and leaves the settings as it found them. */
#ifndef LAYERTOP_COMMANDS_MYTH_H
#define LAYERTOP_COMMANDS_MYTH_H

#include "engine/error.h"
#include <stddef.h>

struct myth {
    char *id;   /* "W01" */
    int number; /* 1 */
    char *belief, *truth, *see;
    char **commands;
    size_t count;
};

struct myths {
    struct myth *list;
    size_t count;
};

/* Read those that ship. ERROR_FILE that names the line. Free with myths_free() in both cases. */
bool myths_read(struct myths *out, struct error *error);
bool myths_parse(struct myths *out, const char *text, const char *path, struct error *error);
void myths_free(struct myths *myths);
/* "W09", "w9" or "9"; NULL with an error that says how to see them all. */
const struct myth *myths_find(const struct myths *myths, const char *word, struct error *error);

#endif
