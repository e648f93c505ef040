#include "commands/complete.h"
#include "commands/format.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <string.h>

static void recorded(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    struct workbench *workbench = execution->workbench;
    workbench->recording = execution->state == NULL; /* the state marks `off` */
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    const char *path = json_string_value(json_object_get(data, "path"));
    char bytes[FORMAT_SIZE];
    if (workbench->recording)
        execution_print(execution, "recording to %s", path ? path : "?");
    else
        execution_print(execution, "recorded %s: %lld frames, %s", path ? path : "?",
                        (long long)json_integer_value(json_object_get(data, "frames")),
                        format_bytes(bytes, sizeof bytes, json_get_double(data, "bytes")));
    execution_done(execution);
}

static void run_record(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    const char *path = NULL;
    bool raw = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--raw") == 0)
            raw = true;
        else if (!path)
            path = argv[i];
        else
            error_set(&error, ERROR_SYNTAX, "record", "'%s' is one too many: %s", argv[i],
                      command_record.usage);
    }
    if (!path && error.code == ERROR_NONE)
        error_set(&error, ERROR_SYNTAX, "record", "it needs a file: %s", command_record.usage);
    if (error.code != ERROR_NONE) {
        error_hint(&error, "record session.ltr");
        execution_fail(execution, &error);
        return;
    }
    bool off = strcmp(path, "off") == 0;
    json_t *arguments =
        off ? json_pack("{s:b}", "off", 1)
            : json_pack("{s:s, s:o}", "path", path, "settings",
                        workbench_engine_settings(execution->workbench));
    if (raw && !off)
        json_object_set_new(arguments, "raw", json_true());
    execution->state = off ? execution : NULL;
    execution_request(execution, "record", arguments, recorded);
}

static void complete_record(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    completion_add(completion, "--raw");
    if (argc == 1) {
        completion_add(completion, "off");
        completion_add_files(completion);
    }
}

const struct command command_record = {
    .name = "record",
    .usage = "record FILE|off [--raw]",
    .summary = "record everything measured into a file, until `record off`",
    .help = "While it runs, FILE.part is written; it plays even if it is cut. --raw also keeps "
            "CUPTI's\n"
            "own buffers.",
    .examples = WORDS("record session.ltr", "record off"),
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run_record,
    .complete = complete_record,
};
