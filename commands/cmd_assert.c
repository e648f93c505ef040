/* `assert`: what a script or a CI job insists on, over the result of the last command that has one. */
#include "commands/expression.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *joined(int argc, char *const *argv)
{
    char *text = xstrdup(argv[1]);
    for (int i = 2; i < argc; i++) {
        char *longer = xasprintf("%s %s", text, argv[i]);
        free(text);
        text = longer;
    }
    return text;
}

static void run_assert(struct execution *execution, int argc, char *const *argv)
{
    const struct workbench *workbench = execution->workbench;
    struct error error = {0};
    char seen[256];
    bool holds;
    if (!workbench->last_result) {
        error_set(&error, ERROR_COMMAND, "assert", "no command has had a result yet");
        error_hint(&error, "run 20; assert 'wall_ms.median < 40'");
        execution_fail(execution, &error);
        return;
    }
    char *text = joined(argc, argv);
    bool good = expression_holds(text, workbench->last_result, &holds, seen, sizeof seen, &error);
    if (good) {
        json_object_set_new(execution->data, "expression", json_string(text));
        json_object_set_new(execution->data, "holds", json_boolean(holds));
        json_object_set_new(execution->data, "of", json_string(workbench->last_result_of));
        if (!holds) {
            error_set(&error, ERROR_ASSERT, "assert", "%.160s does not hold: %s", text, seen);
            error_hint(&error, "help %s", workbench->last_result_of);
        }
    }
    if (!good && error.code == ERROR_VALUE)
        snprintf(error.what, sizeof error.what, "assert, of %s", workbench->last_result_of);
    if (good && holds) {
        execution_print(execution, "holds: %s", *seen ? seen : text);
        execution_done(execution);
    } else {
        execution_fail(execution, &error);
    }
    free(text);
}

const struct command command_assert = {
    .name = "assert",
    .usage = "assert EXPRESSION",
    .summary = "end a script with exit code 6 unless this is true of the last result",
    .help =
        "EXPRESSION speaks about the keys that --json shows of the last command that measured or\n"
        "told something (run, ab, sweep, fit, plan, mem, predict, ...): comparisons < <= > >= == "
        "!=\n"
        "of keys, numbers with units (25ms, 512MiB, 5%), texts, true and false; + - * / and "
        "brackets;\n"
        "and, or, not; floor(X), ceil(X). layers[conv1].time_ms picks by name, points[0].batch by\n"
        "number; count(layers, share > 5%), sum, min, max and top (a name) reckon with the keys "
        "of\n"
        "each element of a list. What is not known is an error and never passes; `x != null` "
        "asks.\n"
        "Of percentiles (wall_ms) the median counts where none is named.\n"
        "Quote the whole where it holds texts or brackets.\n"
        "Exit codes: 6 it is false, 1 it cannot be decided.",
    .json = "expression holds of",
    .see = WORDS("run", "exit"),
    .examples = WORDS("assert 'wall_ms.median < 40'", "assert throughput_per_s >= 100",
                      "assert 'count(layers, share > 90%) == 0'",
                      "assert \"device == 'cpu' and wall_ms.p95 < 1.5 * wall_ms.median\""),
    .arguments_min = 1,
    .arguments_max = -1,
    .run = run_assert,
};
