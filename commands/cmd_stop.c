#include "commands/table.h"
#include "commands/workbench_private.h"

static void stopped(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    execution->workbench->live = false;
    execution_print(execution, "stopped");
    execution_done(execution);
}

static void run_stop(struct execution *execution, int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    if (!execution->workbench->engine) {
        /* nothing runs, and no worker need be started to stop it */
        execution->workbench->live = false;
        execution_print(execution, "stopped");
        execution_done(execution);
        return;
    }
    execution_request(execution, "stop", NULL, stopped);
}

const struct command command_stop = {
    .name = "stop",
    .usage = "stop",
    .summary = "stop the live steps; the numbers stay",
    .help = "",
    .see = WORDS("start"),
    .examples = WORDS("stop"),
    .run = run_stop,
};
