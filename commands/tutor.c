#include "commands/tutor.h"

#include "commands/course_file.h"
#include "commands/expression.h"
#include "commands/parse.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 78 /* an 80-column terminal shows the lines whole */

struct tutor {
    struct lesson_progress *progress;
    struct lesson *lesson;
    size_t at;       /* the item that is waited for */
    size_t hints;    /* of this item told so far */
    int tries;       /* answers given */
    json_t *results; /* name -> data of the step */
};

struct tutor *tutor_new(void)
{
    struct tutor *tutor = xcalloc(1, sizeof *tutor);
    tutor->progress = lesson_progress_new(NULL);
    tutor->results = json_object();
    return tutor;
}

void tutor_free(struct tutor *tutor)
{
    if (!tutor)
        return;
    lesson_progress_free(tutor->progress);
    lesson_free(tutor->lesson);
    json_decref(tutor->results);
    free(tutor);
}

struct lesson_progress *tutor_progress(struct tutor *tutor)
{
    return tutor->progress;
}

const struct lesson *tutor_lesson(const struct tutor *tutor)
{
    return tutor->lesson;
}

void tutor_start(struct tutor *tutor, struct lesson *lesson)
{
    lesson_free(tutor->lesson);
    tutor->lesson = lesson;
    tutor->at = tutor->hints = 0;
    tutor->tries = 0;
    json_object_clear(tutor->results);
}

const struct lesson_item *tutor_item(const struct tutor *tutor)
{
    return tutor->lesson ? &tutor->lesson->items[tutor->at] : NULL;
}

const json_t *tutor_results(const struct tutor *tutor)
{
    return tutor->results;
}

size_t tutor_place(const struct tutor *tutor, size_t *of)
{
    const struct lesson *lesson = tutor->lesson;
    size_t place = 0, count = 0;
    for (size_t i = 0; lesson && i < lesson->count; i++) {
        if (lesson->items[i].is_question != lesson->items[tutor->at].is_question)
            continue;
        count++;
        place += i <= tutor->at;
    }
    *of = count;
    return place;
}

/* ---- what it says ---- */

static char *filled(const struct tutor *tutor, const char *text)
{
    char *full = course_text_fill(text, tutor->results);
    char *lines = course_text_wrap(full, "", COLUMNS);
    free(full);
    return lines;
}

/* Add lines to lines. */
static void append(char **text, char *more)
{
    char *whole = xasprintf("%s%s%s", *text, **text && *more ? "\n" : "", more);
    free(*text);
    free(more);
    *text = whole;
}

/* "lesson 3", or the name of one that has no number. */
static char *label(const struct lesson *lesson, char *out, size_t size)
{
    if (lesson->number > 0)
        snprintf(out, size, "lesson %d", lesson->number);
    else
        snprintf(out, size, "lesson %s", lesson->id);
    return out;
}

char *tutor_text(const struct tutor *tutor)
{
    const struct lesson_item *item = tutor_item(tutor);
    char *text = xstrdup(""), place[128], name[80];
    size_t of, number = tutor_place(tutor, &of);
    if (!item)
        return text;
    if (item->say)
        append(&text, filled(tutor, item->say));
    snprintf(place, sizeof place, "[%s, %s %zu of %zu] ", label(tutor->lesson, name, sizeof name),
             item->is_question ? "question" : "step", number, of);
    if (!item->is_question) {
        append(&text, xasprintf("%stype: %s", place, item->command));
        return text;
    }
    append(&text, filled(tutor, item->ask));
    if (item->choices)
        append(&text, xasprintf("%stype: lesson check ANSWER (%s)", place, item->choices));
    else
        append(&text, xasprintf("%stype: lesson check %s%s%s", place, "ANSWER",
                                item->unit ? " in " : "", item->unit ? item->unit : ""));
    return text;
}

char *tutor_hint(struct tutor *tutor)
{
    const struct lesson_item *item = tutor_item(tutor);
    if (!item)
        return xstrdup("");
    if (tutor->hints < item->hint_count)
        return filled(tutor, item->hints[tutor->hints++]);
    if (!item->is_question)
        return xasprintf("type: %s", item->command);
    return xasprintf("by the keys that --json shows, the answer is %s", item->answer);
}

/* ---- going on ---- */

/* The next item; questions that this run does not decide are left out, which is told. False at the
 * end of the lesson. */
static bool advance(struct tutor *tutor, char **text)
{
    const struct lesson *lesson = tutor->lesson;
    tutor->hints = 0;
    while (++tutor->at < lesson->count) {
        const struct lesson_item *item = &lesson->items[tutor->at];
        json_t *answer = item->is_question ? lesson_answer(item, tutor->results) : NULL;
        bool decided = !item->is_question || answer;
        json_decref(answer);
        if (decided)
            return true;
        append(text, xstrdup("(a question is left out: your run does not decide it)"));
    }
    return false;
}

/* Keep that it is done. What could not be kept is said, not refused. */
static void finish(struct tutor *tutor, char **text)
{
    struct error error = {0};
    struct lesson *lesson = tutor->lesson;
    char name[80];
    if (lesson->ending)
        append(text, filled(tutor, lesson->ending));
    if (!lesson_progress_finish(tutor->progress, lesson->id, tutor->tries, &error))
        append(text, xasprintf("note: %s", error.why));
    char next[16];
    snprintf(next, sizeof next, "%d", lesson->number + 1);
    struct lesson *following = lesson->number > 0 ? lesson_find(next, NULL) : NULL;
    append(text, xasprintf("[%s is finished, %zu questions in %d answers] next: lesson %s%s",
                           label(lesson, name, sizeof name), lesson_questions(lesson), tutor->tries,
                           following ? "start " : "list", following ? next : ""));
    lesson_free(following);
    tutor->lesson = NULL;
    lesson_free(lesson);
}

static void go_on(struct tutor *tutor, char **text)
{
    if (advance(tutor, text))
        append(text, tutor_text(tutor));
    else
        finish(tutor, text);
}

bool tutor_check(struct tutor *tutor, const char *answer, json_t *data, char **text,
                 struct error *error)
{
    const struct lesson_item *item = tutor_item(tutor);
    const struct lesson *lesson = tutor->lesson;
    size_t of, number = tutor_place(tutor, &of);
    json_t *wanted = lesson_answer(item, tutor->results), *given;
    if (json_is_string(wanted) && !item->choices)
        given = json_string(answer);
    else
        given = lesson_read_answer(item, answer, tutor->results, error);
    if (!given) {
        error_hint(error, "lesson hint");
        json_decref(wanted);
        return false;
    }
    tutor->tries++;
    int grade = lesson_grade(item, given, wanted);
    json_object_set_new(data, "lesson", json_integer(lesson->number));
    json_object_set_new(data, "question", json_integer((json_int_t)number));
    json_object_set(data, "given", given);
    json_object_set_new(data, "right", json_boolean(grade == 0));
    json_decref(given);
    json_decref(wanted);
    if (grade == 0) {
        *text = xstrdup("right.");
        if (item->right)
            append(text, filled(tutor, item->right));
        go_on(tutor, text);
        return true;
    }
    char *hint = tutor_hint(tutor), what[128], name[80];
    snprintf(what, sizeof what, "%s, question %zu", label(lesson, name, sizeof name), number);
    for (char *at = hint; *at; at++)
        *at = *at == '\n' ? ' ' : *at;
    error_set(error, ERROR_ASSERT, what, "%s %s; %s", answer,
              !json_is_number(json_object_get(data, "given")) || item->choices ? "is not it"
              : grade < 0                                                      ? "is too low"
                                                                               : "is too high",
              hint);
    error_hint(error, "lesson hint");
    free(hint);
    return false;
}

/* ---- the learner's commands ---- */

/* A command in one spelling: the words of `set KEY VALUE` with the setting's own name, else the
 * command's name and its words. Caller frees; NULL for what is none. */
static char *spelled(int argc, char *const *argv)
{
    bool is_setting;
    const struct command *command = command_resolve(argv[0], &is_setting, NULL);
    if (!command)
        return NULL;
    bool sets = strcmp(command->name, "set") == 0;
    int first = 1;
    char *text;
    if (is_setting || command_is_of_setting(command, argc, argv)) {
        const struct setting *setting = setting_find(argv[0], NULL);
        text = xasprintf("set %s", setting ? setting->name : argv[0]);
    } else if (sets && argc > 1) {
        const struct setting *setting = setting_find(argv[1], NULL);
        text = xasprintf("set %s", setting ? setting->name : argv[1]);
        first = 2;
    } else {
        text = xstrdup(command->name);
    }
    for (int i = first; i < argc; i++) {
        char *longer = xasprintf("%s %s", text, argv[i]);
        free(text);
        text = longer;
    }
    return text;
}

static bool is_step(const struct lesson_item *item, const struct execution *execution)
{
    struct parsed_line line;
    struct error error;
    bool same = false;
    if (parse_line(item->command, &line, &error) && line.count == 1) {
        char *wanted = spelled(line.commands[0].argc, line.commands[0].argv);
        char *typed = spelled(execution->argc, execution->argv);
        same = wanted && typed && strcmp(wanted, typed) == 0;
        free(wanted);
        free(typed);
    }
    parsed_line_free(&line);
    return same;
}

/* Commands that ask about the lesson or the program, not about the model. */
static bool is_aside(const struct command *command)
{
    static const char *const asides[] = {"lesson",  "myths", "help", "clear",
                                         "history", "show",  "echo"};
    for (size_t i = 0; i < sizeof asides / sizeof *asides; i++)
        if (strcmp(command->name, asides[i]) == 0)
            return true;
    return false;
}

char *tutor_observe(struct tutor *tutor, const struct execution *execution)
{
    const struct lesson_item *item = tutor_item(tutor);
    char name[80];
    if (!item)
        return NULL;
    bool is_done = !item->is_question && is_step(item, execution);
    if (!is_done && is_aside(execution->command))
        return NULL;
    if (item->is_question)
        return tutor_text(tutor);
    if (!is_done)
        return xasprintf("[%s] waits for: %s", label(tutor->lesson, name, sizeof name),
                         item->command);
    if (item->name)
        json_object_set(tutor->results, item->name, execution->data);
    if (item->until) {
        json_t *done = expression_value(item->until, tutor->results, NULL);
        bool yes = json_is_true(done);
        json_decref(done);
        if (!yes)
            return xasprintf("[%s] not yet, type it again: %s",
                             label(tutor->lesson, name, sizeof name), item->command);
    }
    char *text = xstrdup("");
    if (item->see)
        append(&text, filled(tutor, item->see));
    go_on(tutor, &text);
    return text;
}
