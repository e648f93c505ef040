/* `lesson`: lessons on the learner's own runs: what to type, what to see, questions and their answers. */
#include "commands/complete.h"
#include "commands/course_file.h"
#include "commands/table.h"
#include "commands/tutor.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const verbs[] = {"list", "start", "hint", "check", "reset"};

static struct tutor *tutor_of(struct workbench *workbench)
{
    if (!workbench->tutor)
        workbench->tutor = tutor_new();
    return workbench->tutor;
}

static void list(struct execution *execution)
{
    struct error error = {0};
    struct tutor *tutor = tutor_of(execution->workbench);
    const struct lesson *now = tutor_lesson(tutor);
    json_t *files = lesson_files(&error), *lessons = json_array(), *path;
    size_t index, finished = 0;
    if (!files) {
        json_decref(lessons);
        execution_fail(execution, &error);
        return;
    }
    json_array_foreach(files, index, path)
    {
        struct lesson *lesson = lesson_read(json_string_value(path), &error);
        if (!lesson) {
            execution_warn(execution, "%s: %s", error.what, error.why);
            continue;
        }
        bool done = lesson_progress_has(tutor_progress(tutor), lesson->id);
        bool under_way = now && strcmp(now->id, lesson->id) == 0;
        finished += done;
        execution_print(execution, "%3d  %-8s  %2d min  %s%s", lesson->number,
                        under_way ? "begun"
                        : done    ? "finished"
                                  : "",
                        lesson->minutes, lesson->title,
                        lesson->synthetic ? " (with a synthetic recording)" : "");
        json_array_append_new(lessons,
                              json_pack("{s:i, s:s, s:s, s:s, s:i, s:i, s:b, s:b}", "number",
                                        lesson->number, "id", lesson->id, "title", lesson->title,
                                        "goal", lesson->goal, "minutes", lesson->minutes,
                                        "questions", (int)lesson_questions(lesson), "synthetic",
                                        lesson->synthetic != NULL, "finished", done));
        lesson_free(lesson);
    }
    execution_print(execution, "%zu of %zu finished; type: lesson start 1", finished,
                    json_array_size(lessons));
    json_object_set_new(execution->data, "lessons", lessons);
    json_decref(files);
    execution_done(execution);
}

/* What is waited for, as JSON. */
static void tell_waiting(struct execution *execution)
{
    const struct tutor *tutor = tutor_of(execution->workbench);
    const struct lesson *lesson = tutor_lesson(tutor);
    const struct lesson_item *item = tutor_item(tutor);
    size_t of, place = tutor_place(tutor, &of);
    json_object_set_new(execution->data, "lesson",
                        lesson ? json_integer(lesson->number) : json_null());
    if (!item)
        return;
    char *ask = item->is_question ? course_text_fill(item->ask, tutor_results(tutor)) : NULL;
    json_object_set_new(execution->data, "id", json_string(lesson->id));
    json_object_set_new(execution->data, "kind",
                        json_string(item->is_question ? "question" : "step"));
    json_object_set_new(execution->data, "number", json_integer((json_int_t)place));
    json_object_set_new(execution->data, "of", json_integer((json_int_t)of));
    json_object_set_new(execution->data, "command",
                        item->is_question ? json_null() : json_string(item->command));
    json_object_set_new(execution->data, "question", ask ? json_string(ask) : json_null());
    free(ask);
}

static void show(struct execution *execution)
{
    char *text = tutor_text(tutor_of(execution->workbench));
    execution_print(execution, "%s", text);
    tell_waiting(execution);
    free(text);
    execution_done(execution);
}

/* Settings that are not as they were at the start would change what a lesson shows. */
static void tell_settings(struct execution *execution)
{
    char names[256] = "", value[128];
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        if (!setting->engine)
            continue;
        setting_format(setting, workbench_setting(execution->workbench, setting->name), value,
                       sizeof value);
        json_t *usual = setting_parse(setting, setting->value, NULL);
        char text[128];
        setting_format(setting, usual, text, sizeof text);
        json_decref(usual);
        size_t used = strlen(names);
        if (strcmp(value, text) != 0)
            snprintf(names + used, sizeof names - used, "%s%s", used ? "; unset " : "unset ",
                     setting->name);
    }
    if (*names)
        execution_warn(execution, "lessons begin from the default settings: %s", names);
}

static void start(struct execution *execution, const char *word)
{
    struct error error = {0};
    struct tutor *tutor = tutor_of(execution->workbench);
    struct lesson *lesson = lesson_find(word, &error);
    if (!lesson) {
        execution_fail(execution, &error);
        return;
    }
    char *goal = course_text_wrap(lesson->goal, "", 78);
    execution_print(execution, "%s\n%s", lesson->title, goal);
    free(goal);
    if (lesson->synthetic) {
        char *synthetic = course_text_wrap(lesson->synthetic, "synthetic, not measured: ", 78);
        execution_print(execution, "%s", synthetic);
        free(synthetic);
    }
    tell_settings(execution);
    if (execution->workbench->display_text) /* there is a screen */
        execution_print(execution, "Esc L makes this log taller, : comes back to the prompt");
    tutor_start(tutor, lesson);
    show(execution);
}

static bool want_lesson(struct execution *execution, struct error *error)
{
    if (tutor_item(tutor_of(execution->workbench)))
        return true;
    error_set(error, ERROR_COMMAND, "lesson", "no lesson is under way");
    return error_hint(error, "lesson start 1");
}

static void hint(struct execution *execution)
{
    struct error error = {0};
    if (!want_lesson(execution, &error)) {
        execution_fail(execution, &error);
        return;
    }
    char *text = tutor_hint(tutor_of(execution->workbench));
    execution_print(execution, "hint: %s", text);
    json_object_set_new(execution->data, "hint", json_string(text));
    free(text);
    execution_done(execution);
}

static void check(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    struct tutor *tutor = tutor_of(execution->workbench);
    if (!want_lesson(execution, &error)) {
        execution_fail(execution, &error);
        return;
    }
    const struct lesson_item *item = tutor_item(tutor);
    if (!item->is_question || argc < 3) {
        if (item->is_question)
            error_set(&error, ERROR_SYNTAX, "lesson check", "what is the answer? %s", item->ask);
        else
            error_set(&error, ERROR_COMMAND, "lesson check", "no question is open, but a step");
        error_hint(&error, "%s", item->is_question ? "lesson hint" : item->command);
        execution_fail(execution, &error);
        return;
    }
    char *answer = xstrdup(argv[2]), *text = NULL;
    for (int i = 3; i < argc; i++) {
        char *longer = xasprintf("%s %s", answer, argv[i]);
        free(answer);
        answer = longer;
    }
    bool right = tutor_check(tutor, answer, execution->data, &text, &error);
    free(answer);
    if (right) {
        execution_print(execution, "%s", text);
        json_object_set_new(execution->data, "finished", json_boolean(tutor_lesson(tutor) == NULL));
        execution_done(execution);
    } else {
        execution_fail(execution, &error);
    }
    free(text);
}

static void reset(struct execution *execution, const char *word)
{
    struct error error = {0};
    struct tutor *tutor = tutor_of(execution->workbench);
    struct lesson *lesson = word ? lesson_find(word, &error) : NULL;
    if (word && !lesson) {
        execution_fail(execution, &error);
        return;
    }
    if (lesson_progress_forget(tutor_progress(tutor), lesson ? lesson->id : NULL, &error)) {
        if (!lesson)
            tutor_start(tutor, NULL);
        execution_print(execution, "%s forgotten", lesson ? lesson->title : "all lessons are");
        execution_done(execution);
    } else {
        execution_fail(execution, &error);
    }
    lesson_free(lesson);
}

static void run_lesson(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    const char *verb = argc > 1 ? argv[1] : NULL;
    if (!verb && tutor_item(tutor_of(execution->workbench))) {
        show(execution);
    } else if (!verb || strcmp(verb, "list") == 0) {
        list(execution);
    } else if (strcmp(verb, "start") == 0 && argc == 3) {
        start(execution, argv[2]);
    } else if (strcmp(verb, "hint") == 0 && argc == 2) {
        hint(execution);
    } else if (strcmp(verb, "check") == 0) {
        check(execution, argc, argv);
    } else if (strcmp(verb, "reset") == 0 && argc <= 3) {
        reset(execution, argc == 3 ? argv[2] : NULL);
    } else {
        error_set(&error, ERROR_SYNTAX, "lesson", "'%s' is not understood: %s", verb,
                  command_lesson.usage);
        error_hint(&error, strcmp(verb, "start") == 0 ? "lesson start 1" : "lesson list");
        execution_fail(execution, &error);
    }
}

static void complete_lesson(struct command_completion *completion, int argc, char *const *argv)
{
    if (argc == 1) {
        for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
            completion_add(completion, verbs[i]);
        return;
    }
    bool names = argc == 2 && (strcmp(argv[1], "start") == 0 || strcmp(argv[1], "reset") == 0);
    json_t *files = names ? lesson_files(NULL) : NULL, *path;
    size_t index;
    json_array_foreach(files, index, path)
    {
        char number[16];
        const char *base = strrchr(json_string_value(path), '/') + 1;
        snprintf(number, sizeof number, "%d", atoi(base));
        completion_add(completion, number);
    }
    json_decref(files);
}

const struct command command_lesson = {
    .name = "lesson",
    .usage = "lesson [list | start N|FILE | hint | check ANSWER | reset [N]]",
    .summary = "learn on your own runs: what to type, what to see, questions that are graded",
    .help =
        "`lesson start 1` says what to type; a step is done when you have typed it. Questions are\n"
        "about your own run: `lesson check ANSWER` takes a number (with a unit if you like: 12 ms, "
        "30 %,\n"
        "8.5 k), a word or a sum (2 * 1.2), and grades it with a stated tolerance; a wrong answer\n"
        "ends a script with code 6. `lesson hint` tells more, and at last the formula. `lesson` "
        "alone\n"
        "shows what is waited for. What you have finished is kept in $XDG_STATE_HOME/layertop/"
        "lessons;\n"
        "`lesson reset` forgets it. A lesson is a text file: `lesson start ./mine.lesson` begins "
        "your own.",
    .json = "lessons[]{number id title goal minutes questions synthetic finished} lesson id kind "
            "number of command question hint",
    .see = WORDS("myths"),
    .examples = WORDS("lesson", "lesson list", "lesson start 3", "lesson hint", "lesson check 12ms",
                      "lesson reset 3"),
    .arguments_max = -1,
    .run = run_lesson,
    .complete = complete_lesson,
};
