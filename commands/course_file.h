/* The plain text that lessons and myths are written in.
 *
 *   # a comment
 *   key: text, which goes on
 *     in lines that begin with a blank
 *   key NAME: text
 *
 * Keys are small letters; blank lines mean nothing; the lines of a text are joined by one blank each.
 * What the keys mean is their reader's business (lesson.h, myth.h). */
#ifndef LAYERTOP_COMMANDS_COURSE_FILE_H
#define LAYERTOP_COMMANDS_COURSE_FILE_H

#include "engine/error.h"

#include <jansson.h>
#include <stddef.h>

#define COURSE_FILE_BYTES (256u << 10) /* a longer one is none */

struct course_entry {
    char *key, *name, *text; /* name: "" if there is none */
    int line;                /* where it begins, from 1 */
};

struct course_file {
    struct course_entry *entries;
    size_t count;
};

/* Read a text, or a file. ERROR_FILE, its `what` being PATH:LINE. Free with course_file_free() in both
 * cases. */
bool course_file_parse(struct course_file *out, const char *text, const char *path,
                       struct error *error);
bool course_file_read(struct course_file *out, const char *path, struct error *error);
void course_file_free(struct course_file *file);

/* An error of that line. Always false. */
bool course_file_fail(const char *path, int line, struct error *error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The text with {EXPRESSION} replaced by its value over `results` (expression.h); {EXPRESSION:ms} as a
 * time, :% as a share, :B as bytes, :n as a count, else with four digits. "?" for what is not known.
 * Caller frees. */
char *course_text_fill(const char *text, const json_t *results);

/* The text in lines of at most `columns`, broken at blanks; the first begins with `first`, the others
 * with as many blanks as it has bytes. Caller frees. */
char *course_text_wrap(const char *text, const char *first, int columns);

#endif
