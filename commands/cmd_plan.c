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

static void print_live(struct execution *execution, const json_t *data)
{
    char bytes[FORMAT_SIZE];
    size_t index;
    json_t *tensor;
    json_array_foreach(json_object_get(data, "live"), index, tensor)
        execution_print(execution, "    %10s  %s %s %s",
                        format_bytes(bytes, sizeof bytes, json_get_double(tensor, "bytes")),
                        text(tensor, "layer"), text(tensor, "shape"), text(tensor, "dtype"));
}

/* Against the limit, or against what the device has left. */
static void print_fit(struct execution *execution, const json_t *data)
{
    char room[FORMAT_SIZE];
    const json_t *fits = json_object_get(data, "fits");
    bool limited = json_is_integer(json_object_get(data, "limit_bytes"));
    double bytes = json_get_double(data, limited ? "limit_bytes" : "room_bytes");
    if (json_is_boolean(fits))
        execution_print(execution, "  it %s into %s%s",
                        json_is_true(fits) ? "fits" : "does not fit",
                        format_bytes(room, sizeof room, bytes),
                        limited ? " (the limit)" : " that plans may fill");
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
    print_live(execution, data);
    print_fit(execution, data);
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
    .help = "Computed before anything runs, and exact: the planner places every tensor, and the "
            "backend\n"
            "says which workspace and which copies of the weights its kernels will want. `most is "
            "live`\n"
            "names the layer at the peak; below it are the tensors alive there, by the layer that "
            "made\n"
            "them. Where the CPU slices the batch, they are those of a slice. JSON: memory\n"
            "{weights_bytes, arena_bytes, workspace_bytes, planned_bytes, peak_live_bytes, "
            "peak_layer},\n"
            "live[] {layer, shape, dtype, bytes}, fits, limit_bytes, room_bytes, layers[].",
    .json = "device batch precision fusion graph memory{weights_bytes arena_bytes workspace_bytes "
            "peak_live_bytes planned_bytes peak_layer} flops bytes layers[]{layer name class "
            "fused_into fused[] ops[] flops bytes output_shape impl} fits limit_bytes room_bytes "
            "live[]{layer shape dtype bytes} slice devices[] timing_source plan_ms",
    .see = WORDS("mem", "batch", "oom"),
    .examples = WORDS("plan", "plan 256"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 1,
    .run = run_plan,
};
