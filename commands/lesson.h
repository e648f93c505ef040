/* A lesson: what to type, what to see, and questions that the learner's own run answers.
 *
 * Lessons are files NN-name.lesson in the data folder's lessons/ (course_file.h says how they are
 * written); a lecturer's own may lie anywhere. Their keys, in this order:
 *
 *   title: TEXT        goal: TEXT        minutes: N
 *   synthetic: TEXT    it plays a recording that was made up, not measured; the text says so
 *   then, as often as wanted, steps and questions in the order they come:
 *   say: TEXT          told before the next step or question
 *   step [NAME]: LINE  a command to type; its result is kept as NAME for the expressions below
 *   until: EXPRESSION  over the results: the step is done when this is true, not sooner
 *   see: TEXT          told when the step is done
 *   ask: TEXT          a question
 *   when: EXPRESSION   it is left out if this is not true of the learner's run, or cannot be decided
 *   answer: EXPRESSION over the results (commands/expression.h): a number, a text, or what is true
 *                      or false, which is answered by yes or no
 *   within: N% or N    how far off a number may be, of the answer or as it is; 2%
 *   unit: UNIT         of a number without one: ms, %, MiB, x, ...
 *   choices: A, B, C   the words that a text is one of
 *   hint: TEXT         of the step or question above; each `lesson hint` tells the next
 *   right: TEXT        told after the right answer
 *   end: TEXT          told at the end
 *
 * Texts other than titles may hold {EXPRESSION} (course_text_fill()). What a lesson says must be true on every
 * machine, so numbers in it are expressions over the learner's results. */
#ifndef LAYERTOP_COMMANDS_LESSON_H
#define LAYERTOP_COMMANDS_LESSON_H

#include "engine/error.h"

#include <jansson.h>
#include <stddef.h>

struct lesson_item {
    bool is_question;
    char *say; /* texts are NULL where there is none */
    char *command, *name, *until, *see;
    char *ask, *when, *answer, *unit, *choices, *right;
    double within; /* of the answer if `relative`, else as it is */
    bool relative;
    char **hints;
    size_t hint_count;
};

struct lesson {
    char *id;   /* the file's name without its ending */
    int number; /* its digits, 0 if there are none */
    char *title, *goal, *synthetic, *ending;
    int minutes;
    struct lesson_item *items;
    size_t count;
};

/* Read a lesson. NULL with ERROR_FILE that names the line. */
struct lesson *lesson_read(const char *path, struct error *error);
struct lesson *lesson_parse(const char *text, const char *path, struct error *error);
void lesson_free(struct lesson *lesson);
size_t lesson_questions(const struct lesson *lesson);

/* The files of the lessons that ship, in their order: an array of paths. New reference; NULL with
 * ERROR_FILE where the data folder is not found. */
json_t *lesson_files(struct error *error);
/* The lesson of that number, name, or file. NULL with an error that says which there are. */
struct lesson *lesson_find(const char *word, struct error *error);

/* The right answer over the results, a new reference; NULL where they do not decide it. */
json_t *lesson_answer(const struct lesson_item *question, const json_t *results);
/* A number as a learner writes it: 12, 12 ms, 8.5 k, 30 %, 1.2x, 2 * 6, in the unit of the question
 * if it names none. NULL with ERROR_VALUE. */
json_t *lesson_read_answer(const struct lesson_item *question, const char *text,
                           const json_t *results, struct error *error);
/* -1 the given is too low, 1 too high or another word, 0 right. */
int lesson_grade(const struct lesson_item *question, const json_t *given, const json_t *wanted);

#endif
