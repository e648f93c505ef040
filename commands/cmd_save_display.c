#include "commands/complete.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include "engine/output_file.h"

#include <stdlib.h>

static void run_save_display(struct execution *execution, int argc, char *const *argv)
{
    struct workbench *workbench = execution->workbench;
    struct error error = {0};
    (void)argc;
    if (!workbench->display_text) {
        error_set(&error, ERROR_UNSUPPORTED, "save-display", "there is no screen to save");
        execution_fail(execution, &error);
        return;
    }
    char *text = workbench->display_text(workbench->display_context);
    if (output_file_write(argv[1], text, &error)) {
        json_object_set_new(execution->data, "path", json_string(argv[1]));
        execution_print(execution, "screen written to %s", argv[1]);
        execution_done(execution);
    } else {
        execution_fail(execution, &error);
    }
    free(text);
}

static void complete_save_display(struct command_completion *completion, int argc,
                                  char *const *argv)
{
    (void)argv;
    if (argc == 1)
        completion_add_files(completion);
}

const struct command command_save_display = {
    .name = "save-display",
    .usage = "save-display FILE",
    .summary = "write the screen to a file, as text",
    .help = "",
    .json = "path",
    .see = WORDS("export"),
    .examples = WORDS("save-display screen.txt"),
    .flags = COMMAND_INTERACTIVE,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_save_display,
    .complete = complete_save_display,
};
