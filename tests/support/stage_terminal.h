/* The terminal of a stage: this process's own controlling terminal, with libvterm behind it. What the
 * screen writes is read by a thread; before anybody looks, a mark is sent through the terminal, so
 * that a look sees all that was written before it and nothing depends on how fast anything is. */
#ifndef LAYERTOP_TESTS_STAGE_TERMINAL_H
#define LAYERTOP_TESTS_STAGE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct stage_terminal;

/* Make this process the leader of a session with a terminal of this size. Once a process; NULL if it
 * fails. */
struct stage_terminal *stage_terminal_new(int rows, int cols);

/* Type, and wait until the bytes can be read. False if they do not arrive. */
bool stage_terminal_type(struct stage_terminal *terminal, const char *bytes, size_t count);
void stage_terminal_resize(struct stage_terminal *terminal, int rows, int cols);
void stage_terminal_size(const struct stage_terminal *terminal, int *rows, int *cols);

/* Take in all that was written until now: a terminal that lags behind is not drawn to. */
void stage_terminal_catch_up(struct stage_terminal *terminal);

/* Does a row hold this text? */
bool stage_terminal_holds(struct stage_terminal *terminal, const char *text);
/* Write where the cursor is and all rows; with `looks` then a letter for each cell that is not plain,
 * and what the letters mean. */
void stage_terminal_text(struct stage_terminal *terminal, FILE *out, bool looks);
/* Is the screen of before shown again, with its cursor? */
bool stage_terminal_restored(struct stage_terminal *terminal);

#endif
