#include "commands/complete.h"
#include "commands/oom_report.h"
#include "commands/table.h"

#include <string.h>

static void told(struct execution *execution, const json_t *report, const struct error *error)
{
    if (!report) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)report);
    oom_report_print(execution, report);
    execution_done(execution);
}

static void run_oom(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    if (argc > 1 && strcmp(argv[1], "explain") != 0) {
        error_set(&error, ERROR_SYNTAX, "oom", "'%s' is not understood: %s", argv[1],
                  command_oom.usage);
        error_hint(&error, "oom");
        execution_fail(execution, &error);
        return;
    }
    execution_request(execution, "oom", NULL, told);
}

static void complete_oom(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1)
        completion_add(completion, "explain");
}

const struct command command_oom = {
    .name = "oom",
    .usage = "oom [explain]",
    .summary = "the last time memory ran out: what was asked, what is free, what fits",
    .help =
        "Asked are weights, activations and workspace of the batch that was refused; free is what\n"
        "a plan may fill: the limit, or what the device has left. Then the layer with the most\n"
        "alive and its five largest tensors, other processes that hold memory, and the largest\n"
        "batch that fits at this and at lower precision. JSON: device, batch, precision, "
        "forecast,\n"
        "cause (limit or memory), asked_bytes, free_bytes, limit_bytes, largest_block_bytes,\n"
        "message, layer, live[], memory, processes[], fits{}. A failed command has it in data.oom.",
    .json = "device batch precision forecast cause asked_bytes free_bytes limit_bytes "
            "largest_block_bytes message layer live[]{} memory{} processes[]{} fits{}",
    .see = WORDS("mem", "plan", "batch"),
    .examples = WORDS("oom", "oom explain"),
    .arguments_max = 1,
    .run = run_oom,
    .complete = complete_oom,
};
