#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

static void run_quit(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    int64_t code = 0;
    if (argc > 1 && !parse_integer(argv[1], 0, 255, "quit", &code, &error)) {
        error_hint(&error, "quit 0");
        execution_fail(execution, &error);
        return;
    }
    execution_done(execution);
    dispatch_quit(execution->workbench, argc > 1, (int)code);
}

const struct command command_quit = {
    .name = "quit",
    .aliases = WORDS("exit", "bye"),
    .usage = "quit [N]",
    .summary = "leave, with exit code N",
    .help = "",
    .see = WORDS("exit"),
    .examples = WORDS("quit", "exit 3"),
    .arguments_max = 1,
    .run = run_quit,
};
