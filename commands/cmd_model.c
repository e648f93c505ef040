#include "commands/complete.h"
#include "commands/format.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <string.h>

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* What the current plan says of layer `index` of the model, or NULL without a plan. */
static const json_t *planned_layer(const struct workbench *workbench, size_t index)
{
    return json_array_get(json_object_get(workbench->plan, "layers"), index);
}

/* Shape of the layer `name` at the present batch, "" if there is no plan. */
static const char *planned_shape(const struct workbench *workbench, const char *name)
{
    size_t index;
    json_t *layer;
    json_array_foreach(json_object_get(workbench->plan, "layers"), index,
                       layer) if (strcmp(text(layer, "name"), name) ==
                                  0) return text(layer, "output_shape");
    return "";
}

static void print_ports(struct execution *execution, const char *label, const json_t *ports)
{
    size_t index, dimension;
    json_t *port, *value;
    json_array_foreach((json_t *)(uintptr_t)ports, index, port)
    {
        const json_t *shape = json_object_get(port, "shape");
        char list[128] = "(";
        if (json_is_string(shape))
            snprintf(list, sizeof list, "%s", json_string_value(shape));
        json_array_foreach((json_t *)(uintptr_t)shape, dimension, value)
        {
            size_t used = strlen(list);
            if (json_is_integer(value) && json_integer_value(value) >= 0)
                snprintf(list + used, sizeof list - used, "%s%lld", dimension ? ", " : "",
                         (long long)json_integer_value(value));
            else
                snprintf(list + used, sizeof list - used, "%s?", dimension ? ", " : "");
        }
        if (json_is_array(shape))
            snprintf(list + strlen(list), sizeof list - strlen(list), ")");
        if (strcmp(list, "()") == 0) /* the file need not say what comes out */
            snprintf(list, sizeof list, "%s",
                     planned_shape(execution->workbench, text(port, "name")));
        execution_print(execution, "%-8s %s %s %s", label, text(port, "name"), list,
                        text(port, "dtype"));
    }
}

static void summarise(struct execution *execution)
{
    const struct workbench *workbench = execution->workbench;
    const json_t *model = workbench->model;
    char number[FORMAT_SIZE], bytes[FORMAT_SIZE];
    size_t index;
    json_t *layer, *layers = json_object_get(model, "layers");
    execution_print(execution, "%s: %s, written by %s", text(model, "name"), text(model, "format"),
                    text(model, "writer"));
    int width = 5;
    json_array_foreach(layers, index, layer)
    {
        int columns = text_columns(text(layer, "path"));
        width = columns > width ? columns : width;
    }
    width = width > 40 ? 40 : width;
    execution_print(execution, "%-*s  %-22s %-24s %10s", width, "layer", "class", "output",
                    "parameters");
    json_array_foreach(layers, index, layer)
    {
        const json_t *planned = planned_layer(workbench, index);
        double parameters = json_get_double(layer, "parameters");
        const char *shape = text(planned, "output_shape");
        int pad = width - text_columns(text(layer, "path"));
        execution_print(execution, "%s%*s  %-22.22s %-24s %10s", text(layer, "path"),
                        pad > 0 ? pad : 0, "", text(layer, "class"), *shape ? shape : "-",
                        format_count(number, sizeof number, parameters));
    }
    print_ports(execution, "input", json_object_get(model, "inputs"));
    print_ports(execution, "output", json_object_get(model, "outputs"));
    execution_print(execution, "%zu layers, %s parameters, %s of weights", json_array_size(layers),
                    format_count(number, sizeof number, json_get_double(model, "parameters")),
                    format_bytes(bytes, sizeof bytes, json_get_double(model, "weight_bytes")));
    json_object_update(execution->data, (json_t *)(uintptr_t)model);
    execution_done(execution);
}

static void list_words(const json_t *array, char *out, size_t size)
{
    size_t index, used = 0;
    json_t *word;
    *out = '\0';
    json_array_foreach((json_t *)(uintptr_t)array, index,
                       word) if (json_is_string(word) && used < size) used +=
        (size_t)snprintf(out + used, size - used, "%s%s", index ? "+" : "",
                         json_string_value(word));
}

/* One layer an output line: what it became. */
static void show_graph(struct execution *execution)
{
    const struct workbench *workbench = execution->workbench;
    json_t *layer, *layers = json_object_get(workbench->plan, "layers");
    struct error error;
    size_t index;
    if (!layers) {
        error_set(&error, ERROR_COMMAND, "model graph", "there is no plan yet");
        error_hint(&error, "run");
        execution_fail(execution, &error);
        return;
    }
    execution_print(execution, "%-28s %-18s %-24s %s", "layer", "class", "output", "runs as");
    json_array_foreach(layers, index, layer)
    {
        char ops[256], runs[320];
        const char *head = text(layer, "fused_into"), *impl = text(layer, "impl");
        list_words(json_object_get(layer, "ops"), ops, sizeof ops);
        if (*head)
            snprintf(runs, sizeof runs, "part of %s", head);
        else if (!*ops)
            snprintf(runs, sizeof runs, "nothing to do");
        else
            snprintf(runs, sizeof runs, "%s%s%s", ops, *impl ? " by " : "", impl);
        execution_print(execution, "%-28s %-18s %-24s %s", text(layer, "name"),
                        text(layer, "class"), text(layer, "output_shape"), runs);
    }
    json_object_set(execution->data, "layers", layers);
    execution_done(execution);
}

static void show_layer(struct execution *execution, const char *name)
{
    const struct workbench *workbench = execution->workbench;
    size_t index, found = 0, matches = 0;
    json_t *layer, *layers = json_object_get(workbench->model, "layers");
    struct error error;
    json_array_foreach(layers, index, layer)
    {
        bool is_path = strcmp(text(layer, "path"), name) == 0;
        if (!is_path && strcmp(text(layer, "name"), name) != 0)
            continue;
        found = index;
        matches++;
        if (is_path) {
            matches = 1;
            break;
        }
    }
    if (matches != 1) {
        error_set(&error, ERROR_VALUE, "model layer",
                  matches ? "'%s' names several layers: use the path" : "no layer is called '%s'",
                  name);
        error_hint(&error, "model summary");
        execution_fail(execution, &error);
        return;
    }
    layer = json_array_get(layers, found);
    const json_t *planned = planned_layer(workbench, found);
    char a[FORMAT_SIZE], b[FORMAT_SIZE], list[256];
    json_object_update(execution->data, layer);
    execution_print(execution, "%s: %s", text(layer, "path"), text(layer, "class"));
    execution_print(execution, "  parameters %s",
                    format_count(a, sizeof a, json_get_double(layer, "parameters")));
    if (planned) {
        double flops = json_get_double(planned, "flops"), bytes = json_get_double(planned, "bytes");
        json_object_set(execution->data, "plan", (json_t *)(uintptr_t)planned);
        execution_print(execution, "  output     %s", text(planned, "output_shape"));
        execution_print(execution, "  per step   %s FLOPs, %s moved, %.2f FLOP/byte",
                        format_count(a, sizeof a, flops), format_bytes(b, sizeof b, bytes),
                        bytes > 0 ? flops / bytes : 0);
        list_words(json_object_get(planned, "ops"), list, sizeof list);
        if (*list)
            execution_print(execution, "  ops        %s%s%s", list,
                            *text(planned, "impl") ? " by " : "", text(planned, "impl"));
        if (*text(planned, "fused_into"))
            execution_print(execution, "  runs inside %s", text(planned, "fused_into"));
        list_words(json_object_get(planned, "fused"), list, sizeof list);
        if (*list)
            execution_print(execution, "  runs also  %s", list);
    }
    execution_done(execution);
}

static void run_model(struct execution *execution, int argc, char *const *argv)
{
    struct error error;
    if (argc == 1 || strcmp(argv[1], "summary") == 0) {
        summarise(execution);
    } else if (strcmp(argv[1], "graph") == 0 && argc == 2) {
        show_graph(execution);
    } else if (strcmp(argv[1], "layer") == 0 && argc == 3) {
        show_layer(execution, argv[2]);
    } else {
        error_set(&error, ERROR_SYNTAX, "model", "'%s' is not understood: %s", argv[1],
                  command_model.usage);
        error_hint(&error, "help model");
        execution_fail(execution, &error);
    }
}

static void complete_model(struct command_completion *completion, int argc, char *const *argv)
{
    if (argc == 2 && strcmp(argv[1], "layer") == 0) {
        completion_add_layers(completion);
    } else if (argc == 1) {
        completion_add(completion, "summary");
        completion_add(completion, "layer");
        completion_add(completion, "graph");
    }
}

const struct command command_model = {
    .name = "model",
    .usage = "model [summary | layer NAME | graph]",
    .summary = "what the model is made of",
    .help =
        "summary: the layers as Keras lists them. layer: one of them, with its arithmetic at the\n"
        "present batch. graph: what each layer became, and who runs it.",
    .json = "name file format writer keras_version backend dtype_policy preprocess ignored[] "
            "parameters weight_bytes inputs[]{name shape[] dtype} outputs[]{name shape[] dtype} "
            "layers[]{name path class is_op parameters calls layer fused_into fused[] ops[] flops "
            "bytes output_shape impl} load_ms path class is_op calls plan{layer name class "
            "fused_into fused[] ops[] flops bytes output_shape impl}",
    .see = WORDS("layers", "plan", "load"),
    .examples = WORDS("model", "model layer conv1", "model graph"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 2,
    .run = run_model,
    .complete = complete_model,
};
