#include "commands/history.h"
#include "commands/parse.h"
#include "commands/table.h"

static void run_history(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    int64_t wanted = HISTORY_LINES;
    if (argc > 1 && !parse_integer(argv[1], 1, HISTORY_LINES, "history", &wanted, &error)) {
        error_hint(&error, "history 20");
        execution_fail(execution, &error);
        return;
    }
    const struct history *history = workbench_history(execution->workbench);
    size_t count = history_count(history);
    size_t first = count > (size_t)wanted ? count - (size_t)wanted : 0;
    json_t *lines = json_array();
    for (size_t i = first; i < count; i++) {
        char clean[4096];
        text_clean(clean, sizeof clean, history_at(history, i));
        json_array_append_new(lines, json_string(clean));
        execution_print(execution, "%4zu  %s", i + 1, clean);
    }
    json_object_set_new(execution->data, "lines", lines);
    execution_done(execution);
}

const struct command command_history = {
    .name = "history",
    .usage = "history [N]",
    .summary = "the lines typed, the last N of them",
    .help =
        "Kept in $XDG_STATE_HOME/layertop/history (~/.local/state/layertop/history). A line that\n"
        "begins with a blank is not kept.",
    .json = "lines[]",
    .see = WORDS("source"),
    .examples = WORDS("history", "history 20"),
    .arguments_max = 1,
    .run = run_history,
};
