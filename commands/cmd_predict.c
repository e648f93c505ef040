#include "commands/complete.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <string.h>

static void shape_text(const json_t *shape, char *out, size_t size)
{
    size_t used = 0, index;
    json_t *dimension;
    if (json_is_string(shape)) {
        snprintf(out, size, "%s", json_string_value(shape));
        return;
    }
    used += (size_t)snprintf(out, size, "(");
    json_array_foreach((json_t *)(uintptr_t)shape, index, dimension) if (used < size) used +=
        (size_t)snprintf(out + used, size - used, "%s%lld", index ? ", " : "",
                         (long long)json_integer_value(dimension));
    if (used < size)
        snprintf(out + used, size - used, ")");
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "-";
}

static void class_text(const json_t *class, char *out, size_t size)
{
    const json_t *label = json_object_get(class, "label");
    char share[FORMAT_SIZE];
    format_percent(share, sizeof share, json_get_double(class, "probability"));
    if (json_is_string(label))
        snprintf(out, size, "%s (%s)", json_string_value(label), share);
    else
        snprintf(out, size, "class %lld (%s)",
                 (long long)json_integer_value(json_object_get(class, "class")), share);
}

/* One line a picture: its name, then the likeliest classes. */
static void print_predictions(struct execution *execution, json_t *predictions)
{
    size_t index, rank;
    json_t *prediction, *class;
    int width = 0;
    json_array_foreach(predictions, index, prediction)
    {
        int columns = text_columns(text(prediction, "source"));
        width = columns > width ? columns : width;
    }
    json_array_foreach(predictions, index, prediction)
    {
        char line[512] = "", one[160];
        int pad = width - text_columns(text(prediction, "source"));
        json_array_foreach(json_object_get(prediction, "top"), rank, class)
        {
            size_t used = strlen(line);
            class_text(class, one, sizeof one);
            snprintf(line + used, sizeof line - used, "%s%s", rank ? ", " : "", one);
        }
        execution_print(execution, "  %s%*s  %s", text(prediction, "source"), pad, "", line);
    }
}

/* How pictures were scaled, and why so. */
static void print_preprocess(struct execution *execution, const json_t *preprocess)
{
    static const char *const reasons[][2] = {
        {"setting", "`set preprocess`"},
        {"recipe", "the demo model's own"},
        {"model", "the model scales by itself or takes no colours"},
        {"name", "as Keras does for models of this name"},
        {"unknown", "nothing says how; if the model needs it: `set preprocess tf`"},
    };
    if (!json_is_object(preprocess))
        return;
    const char *mode = text(preprocess, "mode"), *source = text(preprocess, "source");
    const char *reason = source;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (strcmp(source, reasons[i][0]) == 0)
            reason = reasons[i][1];
    if (strcmp(mode, "none") == 0)
        execution_print(execution, "  pictures stay 0..255 (%s)", reason);
    else
        execution_print(execution, "  pictures scaled as %s (%s)", mode, reason);
}

static void predicted(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    workbench_remember(execution->workbench, "predict", data);
    char took[FORMAT_SIZE], shape[128];
    size_t index;
    json_t *output;
    execution_print(execution, "predicted %lld rows in %s",
                    (long long)json_integer_value(json_object_get(data, "rows")),
                    format_time_ms(took, sizeof took, json_get_double(data, "predict_ms")));
    json_array_foreach(json_object_get(data, "outputs"), index, output)
    {
        shape_text(json_object_get(output, "shape"), shape, sizeof shape);
        execution_print(execution, "  %s %s %s", text(output, "name"), shape,
                        text(output, "dtype"));
    }
    json_t *written = json_object_get(data, "written");
    if (json_is_string(written))
        execution_print(execution, "  written to %s", json_string_value(written));
    print_preprocess(execution, json_object_get(data, "preprocess"));
    print_predictions(execution, json_object_get(data, "predictions"));
    execution_done(execution);
}

static void run_predict(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    json_t *arguments = json_object();
    bool ok = true;
    for (int i = 1; ok && i < argc; i++) {
        int64_t top;
        if (strcmp(argv[i], "--top") == 0 && i + 1 < argc) {
            ok = parse_integer(argv[++i], 1, 1000, "predict --top", &top, &error);
            if (ok)
                json_object_set_new(arguments, "top", json_integer(top));
        } else if (!json_object_get(arguments, "input")) {
            json_object_set_new(arguments, "input", json_string(argv[i]));
        } else if (!json_object_get(arguments, "output")) {
            json_object_set_new(arguments, "output", json_string(argv[i]));
        } else {
            ok = error_set(&error, ERROR_SYNTAX, "predict", "'%s' is one too many: %s", argv[i],
                           command_predict.usage);
        }
    }
    if (!ok) {
        error_hint(&error, "help predict");
        json_decref(arguments);
        execution_fail(execution, &error);
        return;
    }
    execution_request(execution, "predict", arguments, predicted);
}

static void complete_predict(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    completion_add(completion, "--top");
    completion_add_files(completion);
}

const struct command command_predict = {
    .name = "predict",
    .usage = "predict IN [OUT] [--top N]",
    .summary = "predict from a file, and write the outputs",
    .help =
        "IN: .npy, .npz (inputs by name, or arr_0, arr_1, ... in the model's order), an HDF5\n"
        "dataset (FILE.h5:NAME), a PNG or JPEG, or a folder of them. OUT: .npy for one output,\n"
        ".npz for several (arr_0, ... in the model's order). The data are cut into rows of\n"
        "`batch`, as Keras does. Pictures are resized and scaled as the model's family needs it\n"
        "(help preprocess); `labels FILE` names the classes. Paths are the worker's.",
    .json = "rows predict_ms outputs[]{name shape[] dtype} written predictions[]{source "
            "top[]{class probability label}} preprocess{mode source}",
    .see = WORDS("input", "labels", "preprocess", "load"),
    .examples = WORDS("predict x.npy y.npy", "predict cat.jpg --top 3"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = 4,
    .run = run_predict,
    .complete = complete_predict,
};
