/* The lines typed at the prompt: bounded, without duplicates, kept in a file of mode 0600
 * ($XDG_STATE_HOME/layertop/history, else ~/.local/state/layertop/history).
 *
 * A line typed again moves to the end. Lines that begin with a space are not kept. Where there is no
 * file to be had, lines live as long as the program: that is no error. A disk without room is one,
 * told once; what the file holds stays. */
#ifndef LAYERTOP_COMMANDS_HISTORY_H
#define LAYERTOP_COMMANDS_HISTORY_H

#include "engine/error.h"

#include <stdbool.h>
#include <stddef.h>

#define HISTORY_LINES 1000

struct history;

/* Read `path`; NULL: the usual place; "": keep nothing on disk. Never NULL. */
struct history *history_new(const char *path);
/* Writes what is not yet written. */
void history_free(struct history *history);

/* Append a line to memory and to the file. Empty lines, and those with a leading space, are
 * ignored. False with ERROR_FILE the first time that the disk has no room. */
bool history_add(struct history *history, const char *line, struct error *error);
size_t history_count(const struct history *history);
/* 0 is the oldest. Valid until the next history_add(). */
const char *history_at(const struct history *history, size_t index);
/* Write the whole file anew through a temporary file and rename. */
bool history_save(struct history *history);

#endif
