/* `gap`: of the time that somebody measured around `predict`, what the model itself explains. */
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>

static void tell(struct execution *execution, double observed_ms)
{
    const json_t *run = execution->workbench->last_run;
    char a[FORMAT_SIZE], b[FORMAT_SIZE], share[FORMAT_SIZE];
    double wall = json_get_double(json_object_get(run, "wall_ms"), "median");
    double batch = json_get_double(run, "batch"), rest = observed_ms - wall;
    json_t *data = execution->data;
    execution->workbench->observed_ms = observed_ms;
    execution->workbench->observed_segment = execution->workbench->last_segment;
    json_object_set_new(data, "observed_ms", json_number(observed_ms));
    json_object_set_new(data, "model_ms", json_number(wall));
    json_object_set_new(data, "gap_ms", json_number(rest));
    json_object_set_new(data, "gap_share", json_number(rest / observed_ms));
    json_object_set_new(data, "batch", json_number(batch));
    json_object_set_new(data, "speedup_cap", json_number(rest > 0 ? observed_ms / wall : 1));
    execution_print(execution, "observed %s a call; the model takes %s here (batch %.0f, %s)",
                    format_time_ms(a, sizeof a, observed_ms), format_time_ms(b, sizeof b, wall),
                    batch, json_string_value(json_object_get(run, "device")));
    if (rest <= 0) {
        execution_print(execution,
                        "the model explains all of it: your program is as fast as layertop or "
                        "faster, on what it measures");
        execution_done(execution);
        return;
    }
    execution_print(execution, "%s of the call, %s, is not the model: framework, data, transfer",
                    format_percent(share, sizeof share, rest / observed_ms),
                    format_time_ms(a, sizeof a, rest));
    execution_print(execution, "without all of that it would be %.2f times as fast",
                    observed_ms / wall);
    if (rest / observed_ms > 0.5)
        execution_print(execution,
                        "in Keras: model(x, training=False) instead of predict() in a loop, or one "
                        "predict() of many samples");
    execution_done(execution);
}

static void run_gap(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    double observed_ms = NAN;
    (void)argc;
    bool ok = parse_time(argv[1], "gap", &observed_ms, &error);
    if (ok && !(observed_ms > 0))
        ok = error_set(&error, ERROR_VALUE, "gap", "'%s' is not a time above 0", argv[1]);
    if (!ok) {
        error_hint(&error, "run 50; gap 35ms");
    } else if (!execution->workbench->last_segment) {
        ok = error_set(&error, ERROR_COMMAND, "gap",
                       "no run of the present model, batch and settings to hold against it");
        error_hint(&error, "run 50; gap %s", argv[1]);
    }
    if (ok)
        tell(execution, observed_ms);
    else
        execution_fail(execution, &error);
}

const struct command command_gap = {
    .name = "gap",
    .usage = "gap TIME",
    .summary = "of your own latency, what the model explains and what it does not",
    .help =
        "TIME is what you measured around one call of predict() in your own program, with the "
        "same\n"
        "batch on the same machine. The last run is what the model alone takes in layertop's own\n"
        "engine; the rest is the framework's, the input pipeline's and the copies'. layertop does\n"
        "not measure your framework: its own engine may be faster or slower at single layers.",
    .json = "observed_ms model_ms gap_ms gap_share batch speedup_cap",
    .see = WORDS("run", "whatif", "bench"),
    .examples = WORDS("gap 35ms"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_gap,
};
