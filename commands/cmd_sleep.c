#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

struct nap {
    int64_t start_ns, end_ns;
};

static void tick(struct execution *execution)
{
    const struct nap *nap = execution->state;
    int64_t now = workbench_now_ns(execution->workbench);
    if (now < nap->end_ns)
        return;
    json_object_set_new(execution->data, "slept_ms",
                        json_real((double)(now - nap->start_ns) / 1e6));
    execution_done(execution);
}

static void run_sleep(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    double milliseconds;
    (void)argc;
    if (!parse_time(argv[1], "sleep", &milliseconds, &error)) {
        error_hint(&error, "sleep 500ms");
        execution_fail(execution, &error);
        return;
    }
    struct nap *nap = xcalloc(1, sizeof *nap);
    nap->start_ns = workbench_now_ns(execution->workbench);
    nap->end_ns = nap->start_ns + (int64_t)(milliseconds * 1e6);
    execution->state = nap;
    execution->free_state = free;
    execution->tick = tick;
}

const struct command command_sleep = {
    .name = "sleep",
    .usage = "sleep TIME",
    .summary = "wait, for scripts: `start; sleep 5s; layers`",
    .help = "",
    .json = "slept_ms",
    .see = WORDS("watch"),
    .examples = WORDS("sleep 2s", "sleep 500ms"),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_sleep,
};
