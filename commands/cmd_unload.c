#include "commands/table.h"
#include "commands/workbench_private.h"

static void unloaded(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    workbench_loaded(execution->workbench, NULL, NULL);
    execution_print(execution, "unloaded");
    execution_done(execution);
}

static void run_unload(struct execution *execution, int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    execution_request(execution, "unload", NULL, unloaded);
}

const struct command command_unload = {
    .name = "unload",
    .usage = "unload",
    .summary = "forget the model and free its memory",
    .help = "",
    .see = WORDS("load"),
    .examples = WORDS("unload"),
    .flags = COMMAND_NEEDS_MODEL,
    .run = run_unload,
};
