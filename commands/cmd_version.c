#include "commands/table.h"
#include "commands/workbench_private.h"

#ifndef LAYERTOP_VERSION
#define LAYERTOP_VERSION "unknown"
#endif

static void run_version(struct execution *execution, int argc, char *const *argv)
{
    const char *worker = execution->workbench->hello;
    (void)argc;
    (void)argv;
    json_object_set_new(execution->data, "version", json_string(LAYERTOP_VERSION));
    json_object_set_new(execution->data, "worker", *worker ? json_string(worker) : json_null());
    execution_print(execution, "layertop %s", LAYERTOP_VERSION);
    if (*worker)
        execution_print(execution, "worker: %s", worker);
    execution_done(execution);
}

const struct command command_version = {
    .name = "version",
    .usage = "version",
    .summary = "which layertop this is, and which worker it talks to",
    .help = "",
    .json = "version worker",
    .see = WORDS("devices"),
    .examples = WORDS("version"),
    .run = run_version,
};
