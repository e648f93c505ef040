/* Which lessons a user has finished: $XDG_STATE_HOME/layertop/lessons, JSON of mode 0600.
 *
 * Where there is no file to be had, progress lives as long as the program: that is no error, as with
 * the history of the prompt. A file that cannot be read counts as none, and is replaced. */
#ifndef LAYERTOP_COMMANDS_LESSON_PROGRESS_H
#define LAYERTOP_COMMANDS_LESSON_PROGRESS_H

#include "engine/error.h"
#include <jansson.h>

struct lesson_progress;

/* NULL: the usual place; "": nothing on disk. Never NULL. */
struct lesson_progress *lesson_progress_new(const char *path);
void lesson_progress_free(struct lesson_progress *progress);

bool lesson_progress_has(const struct lesson_progress *progress, const char *id);
/* How many answers its questions took, of the best time; 0: not finished. */
int lesson_progress_tries(const struct lesson_progress *progress, const char *id);
/* A lesson is finished. False with ERROR_FILE if that could not be written down. */
bool lesson_progress_finish(struct lesson_progress *progress, const char *id, int tries,
                            struct error *error);
/* Forget one, or all if id is NULL. */
bool lesson_progress_forget(struct lesson_progress *progress, const char *id, struct error *error);

#endif
