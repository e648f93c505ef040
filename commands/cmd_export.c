/* export KIND FILE: what is loaded or measured, for other programs. */
#include "commands/complete.h"
#include "commands/export_data.h"
#include "commands/export_keras.h"
#include "commands/parse.h"
#include "commands/table.h"

#include <string.h>

static const struct {
    const char *name;
    void (*start)(struct execution *execution, const char *path);
} kinds[] = {
    {"keras", export_keras},
    {"json", export_json},
    {"csv", export_csv},
    {"chrome", export_chrome},
};

#define KIND_COUNT (sizeof kinds / sizeof *kinds)

static void run_export(struct execution *execution, int argc, char *const *argv)
{
    (void)argc;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (strcmp(kinds[i].name, argv[1]) == 0) {
            kinds[i].start(execution, argv[2]);
            return;
        }
    }
    const char *names[KIND_COUNT];
    for (size_t i = 0; i < KIND_COUNT; i++)
        names[i] = kinds[i].name;
    const char *near = nearest_word(argv[1], names, KIND_COUNT);
    struct error error = {0};
    error_set(&error, ERROR_VALUE, "export", "'%s' is nothing that can be exported: %s", argv[1],
              command_export.usage);
    error_hint(&error, near ? "export %s %s" : "help export", near, argv[2]);
    execution_fail(execution, &error);
}

static void complete_export(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    for (size_t i = 0; argc == 1 && i < KIND_COUNT; i++)
        completion_add(completion, kinds[i].name);
    if (argc > 1)
        completion_add_files(completion);
}

const struct command command_export = {
    .name = "export",
    .usage = "export keras|json|csv|chrome FILE",
    .summary = "write the model for Keras, or what was measured for other programs",
    .help =
        "keras: the loaded model, demo models too, as FILE.keras or FILE.h5 with the very\n"
        "weights that run here, so that Keras can be asked for the same predictions. The\n"
        "model lies with the worker: so does this file.\n"
        "json: settings, plan, the last run, layers, ledger and series. csv: the layer table.\n"
        "chrome: a trace for Perfetto (ui.perfetto.dev): the mean step of each 100 ms of the last\n"
        "30 s with its layers, and counters. After a `replay` they hold what was played.",
    .json = "path parameters bytes export_ms layers steps",
    .see = WORDS("record", "save-display", "load"),
    .examples = WORDS("export keras model.keras", "export keras model.h5", "export csv layers.csv",
                      "export chrome trace.json"),
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_export,
    .complete = complete_export,
};
