#include "commands/complete.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS_DEFAULT 2
#define SECONDS_MIN     0.1
#define SECONDS_MAX     86400

/* Waits, then puts the command and itself in front of the queue: each round is two commands of
 * their own, so that Ctrl-C and an error end it as they end a script. */
struct watch {
    int64_t due_ns;
    double seconds;
    char *line;
};

static void free_watch(void *state)
{
    struct watch *watch = state;
    free(watch->line);
    free(watch);
}

static void tick(struct execution *execution)
{
    const struct watch *watch = execution->state;
    struct workbench *workbench = execution->workbench;
    if (workbench->interactive && workbench->queue_count > 0) {
        execution_done(execution); /* something else was typed */
        return;
    }
    if (workbench_now_ns(execution->workbench) < watch->due_ns)
        return;
    size_t position = 0;
    char *word = parse_quote(watch->line);
    char *again = xasprintf("watch --then %s %g", word, watch->seconds);
    /* as deep as it is itself, not deeper: nothing of it is an echo of a file */
    dispatch_insert(workbench, watch->line, execution->sink, workbench->current_depth, &position);
    dispatch_insert(workbench, again, execution->sink, workbench->current_depth, &position);
    free(again);
    free(word);
    execution_done(execution);
}

static bool parse_arguments(int argc, char *const *argv, double *seconds, struct error *error)
{
    struct parsed_line line;
    double milliseconds;
    *seconds = SECONDS_DEFAULT;
    if (argc > 2) {
        /* a bare number is seconds here, as in watch(1) */
        bool bare = strspn(argv[2], "0123456789.") == strlen(argv[2]);
        if (!parse_time(argv[2], "watch", &milliseconds, error))
            return error_hint(error, "watch layers 5");
        *seconds = bare ? milliseconds : milliseconds / 1000;
        if (*seconds < SECONDS_MIN || *seconds > SECONDS_MAX) {
            error_set(error, ERROR_VALUE, "watch", "'%s' is not between 0.1 s and a day", argv[2]);
            return error_hint(error, "watch layers 5");
        }
    }
    bool ok = parse_line(argv[1], &line, error);
    if (ok && line.count == 0)
        ok = error_set(error, ERROR_SYNTAX, "watch", "which command? %s", command_watch.usage);
    for (size_t i = 0; ok && i < line.count; i++) {
        const struct command *command = command_find(line.commands[i].argv[0], error);
        ok = command != NULL;
        if (command == &command_watch)
            ok = error_set(error, ERROR_VALUE, "watch", "it does not watch itself");
    }
    parsed_line_free(&line);
    return ok;
}

static void run_watch(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    double seconds;
    bool then = argc > 2 && strcmp(argv[1], "--then") == 0; /* not the first round */
    if (!parse_arguments(argc - then, argv + then, &seconds, &error)) {
        execution_fail(execution, &error);
        return;
    }
    struct watch *watch = xcalloc(1, sizeof *watch);
    watch->line = xstrdup(argv[1 + then]);
    watch->seconds = seconds;
    watch->due_ns = then ? workbench_now_ns(execution->workbench) + (int64_t)(seconds * 1e9) : 0;
    execution->state = watch;
    execution->free_state = free_watch;
    execution->tick = tick;
}

static void complete_watch(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    for (size_t i = 0; argc == 1 && i < command_count(); i++)
        completion_add(completion, command_at(i)->name);
}

const struct command command_watch = {
    .name = "watch",
    .usage = "watch CMD [SEC]",
    .summary = "run a command again and again, until Ctrl-C or the next command typed",
    .help = "CMD is one word: quote it if it has blanks. SEC is the pause between two rounds (2).\n"
            "In a script it goes on until an error or Ctrl-C.",
    .see = WORDS("layers", "start"),
    .examples = WORDS("watch layers", "watch 'layers --top 3' 5", "watch mem 500ms"),
    .arguments_min = 1,
    .arguments_max = 3,
    .run = run_watch,
    .complete = complete_watch,
};
