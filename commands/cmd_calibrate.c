/* `calibrate`: how far the model's values reach on real inputs, which int8 has to know. */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <string.h>

static const char *const methods[] = {"minmax", "percentile", "entropy"};

static void calibrated(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    workbench_remember(execution->workbench, "calibrate", data);
    char took[FORMAT_SIZE];
    execution_print(execution, "ranges of %lld values from %lld of %lld rows of %s, by %s, in %s",
                    (long long)json_integer_value(json_object_get(data, "values")),
                    (long long)json_integer_value(json_object_get(data, "rows")),
                    (long long)json_integer_value(json_object_get(data, "rows_in_source")),
                    json_string_value(json_object_get(data, "source")),
                    json_string_value(json_object_get(data, "method")),
                    format_time_ms(took, sizeof took, json_get_double(data, "calibrate_ms")));
    execution_print(execution,
                    "  now `precision int8` runs, and `ab precision=fp32 precision=int8` "
                    "measures it");
    execution_done(execution);
}

static bool parse_arguments(json_t *arguments, int argc, char *const *argv, struct error *error)
{
    for (int i = 1; i < argc; i++) {
        int64_t rows;
        if (strcmp(argv[i], "--rows") == 0 && i + 1 < argc) {
            if (!parse_integer(argv[++i], 1, 100000, "calibrate --rows", &rows, error))
                return false;
            json_object_set_new(arguments, "rows", json_integer(rows));
        } else if (strcmp(argv[i], "--method") == 0 && i + 1 < argc) {
            json_object_set_new(arguments, "method", json_string(argv[++i]));
        } else if (strcmp(argv[i], "--random") == 0) {
            json_object_set_new(arguments, "random", json_true());
        } else if (argv[i][0] != '-' && !json_object_get(arguments, "input")) {
            json_object_set_new(arguments, "input", json_string(argv[i]));
        } else {
            return error_set(error, ERROR_SYNTAX, "calibrate", "'%s' is not understood: %s",
                             argv[i], command_calibrate.usage);
        }
    }
    return true;
}

static void run_calibrate(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    json_t *arguments = json_object();
    if (!parse_arguments(arguments, argc, argv, &error)) {
        error_hint(&error, "help calibrate");
        json_decref(arguments);
        execution_fail(execution, &error);
        return;
    }
    execution_request(execution, "calibrate", arguments, calibrated);
}

static void complete_calibrate(struct command_completion *completion, int argc, char *const *argv)
{
    if (argc > 1 && strcmp(argv[argc - 1], "--method") == 0) {
        for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
            completion_add(completion, methods[i]);
        return;
    }
    completion_add(completion, "--rows");
    completion_add(completion, "--method");
    completion_add(completion, "--random");
    completion_add_files(completion);
}

const struct command command_calibrate = {
    .name = "calibrate",
    .usage = "calibrate [FILE] [--rows N] [--method minmax|percentile|entropy] [--random]",
    .summary = "how far the model's values reach on your data: what int8 has to know",
    .help =
        "Rows of FILE (as for `predict`) run through the model in fp32 on the CPU, and the range "
        "of\n"
        "every value is kept until another model is loaded. Without FILE: that of `input`, or\n"
        "demo:digits' own training pictures. Give inputs like those that the model will get, and\n"
        "measure accuracy on others. --rows N takes the first N (128). --method: minmax keeps the\n"
        "largest magnitude, percentile (the default) all but the largest ten thousandth, entropy\n"
        "what loses the least information. --random takes random inputs: good for timing alone.\n"
        "JSON: source, random, rows, rows_in_source, method, values, calibrate_ms.",
    .json = "source random rows rows_in_source method values calibrate_ms note",
    .see = WORDS("evaluate", "precision", "predict"),
    .examples = WORDS("calibrate", "calibrate train_x.npy --rows 256 --method entropy",
                      "calibrate --random"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 6,
    .run = run_calibrate,
    .complete = complete_calibrate,
};
