/* Where the results of commands go: the screen's log, plain text, JSON lines, a test's buffer.
 * A command never prints; it fills its result and the sink renders it. */
#ifndef LAYERTOP_COMMANDS_SINK_H
#define LAYERTOP_COMMANDS_SINK_H

#include "engine/error.h"
#include <jansson.h>

enum sink_style { SINK_TEXT, SINK_NOTE, SINK_WARNING, SINK_ERROR, SINK_HINT, SINK_ECHO };

struct sink {
    void *context;
    /* One line of text without newline, already clean of control characters. */
    void (*line)(void *context, enum sink_style style, const char *text);
    /* A command ended. `data` may be NULL; `warnings` is an array of strings; `error` NULL if ok.
     * The human text of the result has already gone through line(), except in JSON mode, where
     * line() gets notes only and this is what prints the object. NULL member: nothing to do. */
    void (*result)(void *context, const char *command, const json_t *data, const json_t *warnings,
                   const struct error *error);
    /* Progress of long work: fraction 0..1 or NaN, text; fraction < 0 ends it. May be NULL. */
    void (*progress)(void *context, double fraction, const char *text);
    /* `clear`: forget the lines shown so far. May be NULL. */
    void (*clear)(void *context);
};

/* Text sink: output to stdout, notes and errors to stderr. JSON sink: one object a line on stdout,
 * everything else on stderr. Both flush after each line. */
struct sink *sink_text_new(void);
struct sink *sink_json_new(void);
void sink_free(struct sink *sink);
/* What both do after a line. Where standard output cannot take it, standard error says why, unless
 * the reader has just gone away. */
void sink_flush_output(void);

#endif
