/* The lesson under way: where the learner is, what the steps measured, and the answers.
 *
 * A step is done when its command has been typed and has succeeded, by whatever words (`batch 8` and
 * `set batch 8` are the same); other commands in between are the learner's own business. The
 * dispatcher tells of every command that ended. Thread: the front's. */
#ifndef LAYERTOP_COMMANDS_TUTOR_H
#define LAYERTOP_COMMANDS_TUTOR_H

#include "commands/command.h"
#include "commands/lesson.h"
#include "commands/lesson_progress.h"

struct tutor;

struct tutor *tutor_new(void);
void tutor_free(struct tutor *tutor);

struct lesson_progress *tutor_progress(struct tutor *tutor);
/* The lesson under way, NULL if there is none. */
const struct lesson *tutor_lesson(const struct tutor *tutor);
/* Begin a lesson, which is the tutor's then. */
void tutor_start(struct tutor *tutor, struct lesson *lesson);
/* What is waited for; NULL without a lesson. */
const struct lesson_item *tutor_item(const struct tutor *tutor);
/* Its number among the steps, or among the questions, from 1; *of: how many there are. */
size_t tutor_place(const struct tutor *tutor, size_t *of);
/* The results of the steps so far, by name. */
const json_t *tutor_results(const struct tutor *tutor);

/* What stands on the screen while something is waited for: lines; "" without a lesson. Caller frees. */
char *tutor_text(const struct tutor *tutor);
/* The next hint of what is waited for, at its end the formula of the answer. Caller frees. */
char *tutor_hint(struct tutor *tutor);

/* Grade an answer. Right: true, *text what to say, up to what comes next, to be freed; the end of
 * the lesson is kept in the progress, and *finished set. Wrong: false with ERROR_ASSERT and a hint;
 * what cannot be read is ERROR_VALUE. `data` gets what --json shows. */
bool tutor_check(struct tutor *tutor, const char *answer, json_t *data, char **text,
                 struct error *error);

/* A command of the learner has ended without an error. What the lesson has to say to it, lines to be
 * freed, or NULL. */
char *tutor_observe(struct tutor *tutor, const struct execution *execution);

#endif
