#include "commands/complete.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"
#include "engine/demo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPEED_MIN 0.01
#define SPEED_MAX 1000.0

static void failed(struct execution *execution, const struct error *error)
{
    workbench_replay_off(execution->workbench);
    execution_fail(execution, error);
}

/* A script goes on when the recording has been played. */
static void tick(struct execution *execution)
{
    struct error error = {0};
    if (execution->workbench->live && execution->workbench->engine)
        return;
    if (execution->workbench->engine) {
        execution_done(execution);
        return;
    }
    error_set(&error, ERROR_WORKER, "replay", "%s", workbench_notice(execution->workbench));
    execution_fail(execution, &error);
}

static void started(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        failed(execution, error);
        return;
    }
    bool waits = strcmp(execution->argv[execution->argc - 1], "--wait") == 0;
    execution->workbench->live = true;
    if (execution->workbench->interactive && !waits)
        execution_done(execution);
    else
        execution->tick = tick;
}

static void loaded(struct execution *execution, const json_t *data, const struct error *error)
{
    struct workbench *workbench = execution->workbench;
    if (!data) {
        failed(execution, error);
        return;
    }
    workbench_loaded(workbench, data, json_pack("{s:s}", "path", workbench->replay.path));
    json_object_set_new(execution->data, "path", json_string(workbench->replay.path));
    json_object_set(execution->data, "model", json_object_get(data, "name"));
    execution_print(execution, "playing %s: %s, %zu layers", workbench->replay.path,
                    json_string_value(json_object_get(data, "name")) ?: "?",
                    json_array_size(json_object_get(data, "layers")));
    execution_request(execution, "start", NULL, started);
}

static bool parse_speed(const char *text, double *speed, struct error *error)
{
    char *end;
    *speed = 0;
    if (strcmp(text, "max") == 0)
        return true;
    *speed = strtod(text, &end);
    if (end != text && (*end == '\0' || strcmp(end, "x") == 0) && *speed >= SPEED_MIN &&
        *speed <= SPEED_MAX)
        return true;
    error_set(error, ERROR_VALUE, "replay --speed", "'%s' is neither 0.01 to 1000 nor max", text);
    return error_hint(error, "replay session.ltr --speed 4");
}

static void came_back(struct execution *execution, const json_t *data, const struct error *error)
{
    if (data)
        execution_done(execution);
    else
        execution_fail(execution, error);
}

/* Out of the recording: the model that was there before is loaded again by whatever is asked. */
static void left(struct execution *execution)
{
    struct workbench *workbench = execution->workbench;
    if (workbench->replay.path)
        return;
    execution->tick = NULL;
    if (workbench->load_arguments)
        execution_request(execution, "memory", NULL, came_back);
    else
        execution_done(execution);
}

static void leave(struct execution *execution)
{
    struct workbench *workbench = execution->workbench;
    struct error error = {0};
    if (!workbench->replay.path) {
        error_set(&error, ERROR_COMMAND, "replay off", "nothing is being played");
        execution_fail(execution, &error);
        return;
    }
    json_object_set_new(execution->data, "path", json_string(workbench->replay.path));
    execution_print(execution, "replay off");
    workbench_replay_off(workbench);
    execution->tick = left;
}

/* Begin a recording; demo:NAME is one that ships. */
static void play(struct execution *execution, const char *word, double speed)
{
    struct error error = {0};
    char *relative = demo_is_name(word) ? xasprintf("recordings/%s.ltr", word + 5) : NULL;
    char *path = !relative                                         ? xstrdup(word)
                 : strchr(relative, '.') == strrchr(relative, '.') ? demo_data_path(relative)
                                                                   : NULL;
    if (!path) {
        error_set(&error, ERROR_FILE, word, "no such recording ships");
        error_hint(&error, "replay demo:synthetic-gpu");
    } else if (access(path, R_OK) != 0) {
        error_set(&error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    } else {
        workbench_replay(execution->workbench, path, speed);
        execution_request(execution, "load", json_pack("{s:s}", "path", path), loaded);
    }
    if (error.code != ERROR_NONE)
        execution_fail(execution, &error);
    free(relative);
    free(path);
}

static void run_replay(struct execution *execution, int argc, char *const *argv)
{
    struct workbench *workbench = execution->workbench;
    struct error error = {0};
    double speed = 1;
    if (argc == 2 && strcmp(argv[1], "off") == 0) {
        leave(execution);
        return;
    }
    int words = argc - (strcmp(argv[argc - 1], "--wait") == 0);
    bool has_speed = words == 4 && strcmp(argv[2], "--speed") == 0;
    if (words != 2 && !has_speed) {
        error_set(&error, ERROR_SYNTAX, "replay", "'%s' is not understood: %s",
                  argv[argc > 2 ? 2 : 1], command_replay.usage);
        error_hint(&error, "replay session.ltr --speed 4");
    } else if (workbench->recording) {
        error_set(&error, ERROR_COMMAND, "replay", "a recording is being written");
        error_hint(&error, "record off");
    } else if (!has_speed || parse_speed(argv[3], &speed, &error)) {
        play(execution, argv[1], speed);
        return;
    }
    execution_fail(execution, &error);
}

static void complete_replay(struct command_completion *completion, int argc, char *const *argv)
{
    if (argc == 1) {
        completion_add(completion, "off");
        completion_add(completion, "demo:synthetic-gpu");
        completion_add_files(completion);
    } else if (strcmp(argv[argc - 1], "--speed") == 0) {
        completion_add(completion, "max");
    } else {
        completion_add(completion, "--speed");
        completion_add(completion, "--wait");
    }
}

const struct command command_replay = {
    .name = "replay",
    .usage = "replay FILE|off [--speed X] [--wait]",
    .summary = "play a recording as if it happened now; `replay off` comes back",
    .help =
        "FILE is a recording or the .part of one that was cut. X is 0.01 to 1000, or max. `stop` "
        "and\n"
        "`start` pause it; `set` of a value that was recorded jumps there, any other is refused "
        "with\n"
        "the list of those that were: nothing is computed. In a script, and with --wait, the next\n"
        "command waits for the end of the recording. No GPU and no model file are needed. "
        "demo:synthetic-gpu ships: "
        "a GPU\n"
        "run that was made up, to have something to look at where there is no GPU.",
    .json = "path model",
    .see = WORDS("record", "compare"),
    .examples = WORDS("replay session.ltr", "replay session.ltr --speed 4",
                      "replay demo:synthetic-gpu --wait", "replay off"),
    .arguments_min = 1,
    .arguments_max = 4,
    .run = run_replay,
    .complete = complete_replay,
};
