/* `evaluate`: what the present precision costs in accuracy: against fp32, and against labels. */
#include "commands/complete.h"
#include "commands/evaluation.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void print_error(struct execution *execution, const char *what, const json_t *error)
{
    if (!json_is_object(error))
        return;
    execution_print(execution, "  %-10s  max error %.3g, mean %.3g; the largest of fp32 is %.3g",
                    what, json_get_double(error, "max"), json_get_double(error, "mean"),
                    json_get_double(error, "largest"));
    long long broken = (long long)json_integer_value(json_object_get(error, "broken"));
    if (broken > 0)
        execution_print(execution,
                        "  %-10s  %lld number%s left out: infinite or NaN, unlike fp32's", "",
                        broken, broken == 1 ? " is" : "s are");
}

void evaluation_print(struct execution *execution, const json_t *data)
{
    char share[FORMAT_SIZE], reference[FORMAT_SIZE];
    long long rows = (long long)json_integer_value(json_object_get(data, "rows"));
    long long skipped = (long long)json_integer_value(json_object_get(data, "rows_of_calibration"));
    double agreement = json_get_double(data, "agreement");
    double accuracy = json_get_double(data, "accuracy");
    execution_print(execution, "%s on %s against %s: %lld rows of %s",
                    json_string_value(json_object_get(data, "precision")),
                    json_string_value(json_object_get(data, "device")),
                    json_string_value(json_object_get(data, "reference")), rows,
                    json_string_value(json_object_get(data, "source")));
    if (isfinite(agreement))
        execution_print(execution, "  %-10s  %s of the rows have the class that fp32 gives them",
                        "agreement", format_percent(share, sizeof share, agreement));
    if (isfinite(accuracy))
        execution_print(execution, "  %-10s  %s right by the labels; fp32 %s", "accuracy",
                        format_percent(share, sizeof share, accuracy),
                        format_percent(reference, sizeof reference,
                                       json_get_double(data, "reference_accuracy")));
    print_error(execution, "logits", json_object_get(data, "logit_error"));
    print_error(execution, "outputs", json_object_get(data, "output_error"));
    if (skipped > 0)
        execution_print(execution, "  %lld rows that the calibration saw are left out", skipped);
}

static void evaluated(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    workbench_remember(execution->workbench, "evaluate", data);
    evaluation_print(execution, data);
    execution_done(execution);
}

static bool parse_arguments(json_t *arguments, int argc, char *const *argv, struct error *error)
{
    for (int i = 1; i < argc; i++) {
        int64_t rows;
        if (strcmp(argv[i], "--rows") == 0 && i + 1 < argc) {
            if (!parse_integer(argv[++i], 1, 1000000, "evaluate --rows", &rows, error))
                return false;
            json_object_set_new(arguments, "rows", json_integer(rows));
        } else if (argv[i][0] != '-' && !json_object_get(arguments, "input")) {
            json_object_set_new(arguments, "input", json_string(argv[i]));
        } else if (argv[i][0] != '-' && !json_object_get(arguments, "labels")) {
            json_object_set_new(arguments, "labels", json_string(argv[i]));
        } else {
            return error_set(error, ERROR_SYNTAX, "evaluate", "'%s' is not understood: %s", argv[i],
                             command_evaluate.usage);
        }
    }
    return true;
}

static void run_evaluate(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    json_t *arguments = json_object();
    if (!parse_arguments(arguments, argc, argv, &error)) {
        error_hint(&error, "help evaluate");
        json_decref(arguments);
        execution_fail(execution, &error);
        return;
    }
    execution_request(execution, "evaluate", arguments, evaluated);
}

static void complete_evaluate(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc, (void)argv;
    completion_add(completion, "--rows");
    completion_add_files(completion);
}

const struct command command_evaluate = {
    .name = "evaluate",
    .usage = "evaluate [FILE [LABELS]] [--rows N]",
    .summary = "the present precision against fp32 and labels, on your data: accuracy, errors",
    .help =
        "Rows of FILE (as for `predict`) run through the present plan and through fp32 on the CPU\n"
        "with the weights as they were loaded. agreement: rows whose likeliest class is the same;\n"
        "logits: what goes into the last softmax, where a CPU computes it in float32. LABELS is a\n"
        ".npy of class numbers, one a row, or of one-hot rows: then accuracy is shown for both.\n"
        "Without FILE: what was held out of demo:digits' training, else the file of `input`. Rows\n"
        "that `calibrate` saw do not count in int8. JSON: source, labels, rows, "
        "rows_of_calibration,\n"
        "device, precision, reference, classes, agreement, accuracy, reference_accuracy,\n"
        "output_error and logit_error {max, mean, largest: of fp32, broken: numbers left\n"
        "out because only one of both is finite}, evaluate_ms.",
    .json =
        "source labels rows rows_of_calibration device precision reference classes agreement "
        "accuracy reference_accuracy output_error{max mean largest broken} logit_error{max mean "
        "largest broken} evaluate_ms",
    .see = WORDS("calibrate", "prune", "ab"),
    .examples =
        WORDS("evaluate", "evaluate test_x.npy test_y.npy", "evaluate test_x.npy --rows 500"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 4,
    .run = run_evaluate,
    .complete = complete_evaluate,
};
