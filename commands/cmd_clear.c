#include "commands/table.h"

static void run_clear(struct execution *execution, int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    if (execution->sink && execution->sink->clear)
        execution->sink->clear(execution->sink->context);
    execution_done(execution);
}

const struct command command_clear = {
    .name = "clear",
    .usage = "clear",
    .summary = "forget the lines of the log",
    .help = "The numbers stay; so does the history.",
    .see = WORDS("history"),
    .examples = WORDS("clear"),
    .flags = COMMAND_INTERACTIVE,
    .run = run_clear,
};
