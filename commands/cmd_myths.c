/* `myths`: what articles believe, what is true, and the experiment that shows it on this machine. */
#include "commands/complete.h"
#include "commands/course_file.h"
#include "commands/myth.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 78

static void print_wrapped(struct execution *execution, const char *first, const char *text)
{
    char *lines = course_text_wrap(text, first, COLUMNS);
    execution_print(execution, "%s", lines);
    free(lines);
}

static void list(struct execution *execution, const struct myths *myths)
{
    json_t *all = json_array();
    for (size_t i = 0; i < myths->count; i++) {
        const struct myth *myth = &myths->list[i];
        char *first = xasprintf("%s  ", myth->id);
        print_wrapped(execution, first, myth->belief);
        json_array_append_new(all, json_pack("{s:s, s:s}", "id", myth->id, "belief", myth->belief));
        free(first);
    }
    execution_print(execution, "each is wrong: `myths 9` says why, `myths 9 --run` shows it here");
    json_object_set_new(execution->data, "myths", all);
}

static void show(struct execution *execution, const struct myth *myth)
{
    json_t *commands = json_array();
    char *first = xasprintf("%s, believed: ", myth->id);
    print_wrapped(execution, first, myth->belief);
    print_wrapped(execution, "true: ", myth->truth);
    execution_print(execution, "the experiment:");
    for (size_t i = 0; i < myth->count; i++) {
        execution_print(execution, "  %s", myth->commands[i]);
        json_array_append_new(commands, json_string(myth->commands[i]));
    }
    print_wrapped(execution, "look at: ", myth->see);
    json_object_set_new(execution->data, "id", json_string(myth->id));
    json_object_set_new(execution->data, "belief", json_string(myth->belief));
    json_object_set_new(execution->data, "truth", json_string(myth->truth));
    json_object_set_new(execution->data, "commands", commands);
    json_object_set_new(execution->data, "see", json_string(myth->see));
    free(first);
}

/* Its commands come before what is queued behind this one. */
static void submit(struct execution *execution, const struct myth *myth)
{
    struct workbench *workbench = execution->workbench;
    size_t position = 0;
    for (size_t i = 0; i < myth->count; i++)
        dispatch_insert(workbench, myth->commands[i], execution->sink, workbench->current_depth + 1,
                        &position);
}

static bool answer(struct execution *execution, const struct myths *myths, int argc,
                   char *const *argv, struct error *error)
{
    if (argc == 1) {
        list(execution, myths);
        return true;
    }
    const struct myth *myth = myths_find(myths, argv[1], error);
    if (!myth)
        return false;
    bool runs = argc == 3 && strcmp(argv[2], "--run") == 0;
    if (argc == 3 && !runs) {
        error_set(error, ERROR_SYNTAX, "myths", "'%s' is not understood: %s", argv[2],
                  command_myths.usage);
        return error_hint(error, "myths %s --run", argv[1]);
    }
    show(execution, myth);
    if (runs)
        submit(execution, myth);
    else
        execution_print(execution, "type: myths %d --run", myth->number);
    return true;
}

static void run_myths(struct execution *execution, int argc, char *const *argv)
{
    struct myths myths;
    struct error error = {0};
    if (myths_read(&myths, &error) && answer(execution, &myths, argc, argv, &error))
        execution_done(execution);
    else
        execution_fail(execution, &error);
    myths_free(&myths);
}

static void complete_myths(struct command_completion *completion, int argc, char *const *argv)
{
    struct myths myths;
    (void)argv;
    if (argc == 2)
        completion_add(completion, "--run");
    if (argc != 1)
        return;
    if (myths_read(&myths, NULL))
        for (size_t i = 0; i < myths.count; i++)
            completion_add(completion, myths.list[i].id);
    myths_free(&myths);
}

const struct command command_myths = {
    .name = "myths",
    .usage = "myths [N [--run]]",
    .summary = "wrong beliefs about inference, why they are wrong, and experiments that show it",
    .help = "`myths` lists them, `myths 9` says what is true and which commands show it, and "
            "`myths 9\n"
            "--run` runs these. An experiment loads a demo model of its own, which stays, and puts "
            "the\n"
            "settings that it changes back to their defaults. JSON: myths[] {id, belief}, or id, "
            "belief,\n"
            "truth, commands[], see.",
    .json = "myths[]{id belief} id belief truth commands[] see",
    .see = WORDS("lesson"),
    .examples = WORDS("myths", "myths W09", "myths 9 --run"),
    .arguments_max = 2,
    .run = run_myths,
    .complete = complete_myths,
};
