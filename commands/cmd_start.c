#include "commands/table.h"
#include "commands/workbench_private.h"

static void started(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    execution->workbench->live = true;
    execution_print(execution, "live");
    execution_done(execution);
}

static void run_start(struct execution *execution, int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    execution_request(execution, "start", NULL, started);
}

const struct command command_start = {
    .name = "start",
    .aliases = WORDS("top", "live"),
    .usage = "start",
    .summary = "run steps one after another until `stop`, live on the screen",
    .help = "",
    .see = WORDS("stop", "run", "watch"),
    .examples = WORDS("start"),
    .flags = COMMAND_NEEDS_MODEL,
    .run = run_start,
};
