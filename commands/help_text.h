/* Longer texts for `help`: topics, and what each error number means. */
#ifndef LAYERTOP_COMMANDS_HELP_TEXT_H
#define LAYERTOP_COMMANDS_HELP_TEXT_H

#include <stddef.h>

struct help_text {
    const char *name; /* "grammar", "E040" */
    const char *summary;
    const char *text;
};

size_t help_topic_count(void);
const struct help_text *help_topic_at(size_t index);
size_t help_error_count(void);
const struct help_text *help_error_at(size_t index);

#endif
