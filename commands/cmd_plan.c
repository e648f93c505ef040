#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <stdio.h>
#include <string.h>

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "-";
}

static void planned(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    const json_t *memory = json_object_get(data, "memory");
    static const struct {
        const char *label, *key;
    } terms[] = {{"weights", "weights_bytes"},
                 {"activations", "arena_bytes"},
                 {"workspace", "workspace_bytes"},
                 {"planned", "planned_bytes"}};
    char number[FORMAT_SIZE], other[FORMAT_SIZE];
    execution_print(execution, "batch %lld, %s on %s: %s FLOPs, %s moved per step",
                    (long long)json_integer_value(json_object_get(data, "batch")),
                    text(data, "precision"), text(data, "device"),
                    format_count(number, sizeof number, json_get_double(data, "flops")),
                    format_bytes(other, sizeof other, json_get_double(data, "bytes")));
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
        execution_print(execution, "  %-12s %10s", terms[i].label,
                        format_bytes(number, sizeof number, json_get_double(memory, terms[i].key)));
    if (json_is_string(json_object_get(memory, "peak_layer")))
        execution_print(
            execution, "  most is live at %s: %s", text(memory, "peak_layer"),
            format_bytes(number, sizeof number, json_get_double(memory, "peak_live_bytes")));
    if (json_is_boolean(json_object_get(data, "fits")))
        execution_print(execution, "  %s",
                        json_is_true(json_object_get(data, "fits")) ? "it fits"
                                                                    : "it does not fit");
    execution_done(execution);
}

static void run_plan(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    json_t *arguments = json_object();
    int64_t batch;
    if (argc > 1) {
        const struct setting *setting = setting_find("batch", NULL);
        if (!parse_integer(argv[1], setting->minimum, setting->maximum, "plan", &batch, &error)) {
            error_hint(&error, "plan 64");
            json_decref(arguments);
            execution_fail(execution, &error);
            return;
        }
        json_object_set_new(arguments, "batch", json_integer(batch));
    }
    execution_request(execution, "plan", arguments, planned);
}

const struct command command_plan = {
    .name = "plan",
    .usage = "plan [BATCH]",
    .summary = "what a batch would need: memory and arithmetic, without running it",
    .help = "",
    .examples = WORDS("plan", "plan 256"),
    .flags = COMMAND_NEEDS_MODEL,
    .arguments_max = 1,
    .run = run_plan,
};
