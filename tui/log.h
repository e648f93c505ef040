/* The log: the last lines of text that commands, libraries and keys left behind. Bounded. One
 * thread: the front's. */
#ifndef LAYERTOP_TUI_LOG_H
#define LAYERTOP_TUI_LOG_H

#include "commands/sink.h"
#include <stdint.h>

#define LOG_LINES 2000

struct log;
struct log *log_new(void);
void log_free(struct log *log);

/* Append a line (copied, cleaned of control characters, tabs become blanks). A line equal to the
 * one before it is counted there instead when it is no echo: "… (3 times)". */
void log_add(struct log *log, enum sink_style style, const char *text);
void log_clear(struct log *log);

size_t log_count(const struct log *log);
/* Line 0 is the oldest one kept. *repeats is how often it came. */
const char *log_line(const struct log *log, size_t index, enum sink_style *style,
                     unsigned *repeats);
/* Changes with every line. */
uint64_t log_generation(const struct log *log);

/* Feed raw bytes of a descriptor that libraries print on; each full line is added as a note. */
void log_feed(struct log *log, const char *bytes, size_t count);

#endif
