#include "commands/complete.h"
#include "commands/format.h"
#include "commands/table.h"

#include <stdio.h>
#include <string.h>

static void print_row(struct execution *execution, const char *label, const json_t *object,
                      const char *key)
{
    char bytes[FORMAT_SIZE];
    double value = json_get_double(object, key);
    if (value == value) /* not NaN: known */
        execution_print(execution, "  %-12s %10s", label, format_bytes(bytes, sizeof bytes, value));
}

static void shown(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    size_t index;
    json_t *device, *value;
    char bytes[FORMAT_SIZE];
    json_array_foreach(json_object_get(data, "devices"), index, device)
    {
        const char *name = json_string_value(json_object_get(device, "device"));
        execution_print(execution, "%s", name ? name : "?");
        print_row(execution, "total", device, "total_bytes");
        print_row(execution, "free", device, "free_bytes");
        print_row(execution, "used by us", device, "used_by_us_bytes");
        print_row(execution, "weights", device, "weights_bytes");
        print_row(execution, "activations", device, "arena_bytes");
        print_row(execution, "workspace", device, "workspace_bytes");
        print_row(execution, "idle", device, "idle_bytes");
        print_row(execution, "context", device, "context_bytes");
        print_row(execution, "libraries", device, "library_bytes");
        print_row(execution, "CUPTI's own", device, "cupti_bytes");
        print_row(execution, "planned", device, "planned_bytes");
        print_row(execution, "limit", device, "limit_bytes");
        print_row(execution, "others", device, "others_bytes");
    }
    const json_t *plan = json_object_get(data, "plan");
    const char *peak = json_string_value(json_object_get(plan, "peak_layer"));
    if (peak) {
        execution_print(
            execution, "most is live at %s: %s", peak,
            format_bytes(bytes, sizeof bytes, json_get_double(plan, "peak_live_bytes")));
        json_array_foreach(json_object_get(plan, "live"), index, value)
        {
            const char *layer = json_string_value(json_object_get(value, "layer"));
            const char *shape = json_string_value(json_object_get(value, "shape"));
            execution_print(execution, "  %10s  %s %s",
                            format_bytes(bytes, sizeof bytes, json_get_double(value, "bytes")),
                            layer ? layer : "?", shape ? shape : "");
        }
    }
    execution_done(execution);
}

/* Who holds memory there, ourselves marked. */
static void print_who(struct execution *execution, const json_t *device)
{
    char bytes[FORMAT_SIZE];
    size_t index;
    json_t *process;
    const json_t *processes = json_object_get(device, "processes");
    const char *name = json_string_value(json_object_get(device, "device"));
    execution_print(execution, "%s", name ? name : "?");
    if (!json_is_array(processes))
        execution_print(execution, "  the backend cannot tell");
    else if (json_array_size(processes) == 0)
        execution_print(execution, "  nobody, as far as this container can see");
    json_array_foreach(processes, index, process)
    {
        const char *program = json_string_value(json_object_get(process, "name"));
        const char *user = json_string_value(json_object_get(process, "user"));
        bool ours = json_is_true(json_object_get(process, "ours"));
        execution_print(execution, "  %10s  pid %-8lld %s%s%s%s",
                        format_bytes(bytes, sizeof bytes, json_get_double(process, "bytes")),
                        (long long)json_integer_value(json_object_get(process, "pid")),
                        program && *program ? program : "not in sight", user && *user ? ", " : "",
                        user ? user : "", ours ? ", ours" : "");
    }
}

static void who(struct execution *execution, const json_t *data, const struct error *error)
{
    size_t index;
    json_t *device;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_t *list = json_array();
    json_array_foreach(json_object_get(data, "devices"), index, device)
    {
        print_who(execution, device);
        json_array_append_new(list,
                              json_pack("{s:O?, s:O?}", "device", json_object_get(device, "device"),
                                        "processes", json_object_get(device, "processes")));
    }
    json_object_set_new(execution->data, "devices", list);
    execution_done(execution);
}

static void trimmed(struct execution *execution, const json_t *data, const struct error *error)
{
    char bytes[FORMAT_SIZE];
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    execution_print(execution, "gave %s back",
                    format_bytes(bytes, sizeof bytes, json_get_double(data, "freed_bytes")));
    execution_done(execution);
}

static void run_mem(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    if (argc == 1) {
        execution_request(execution, "memory", NULL, shown);
    } else if (strcmp(argv[1], "trim") == 0) {
        execution_request(execution, "trim", NULL, trimmed);
    } else if (strcmp(argv[1], "who") == 0) {
        execution_request(execution, "memory", NULL, who);
    } else {
        error_set(&error, ERROR_SYNTAX, "mem", "'%s' is not understood: %s", argv[1],
                  command_mem.usage);
        error_hint(&error, "mem trim");
        execution_fail(execution, &error);
    }
}

static void complete_mem(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1) {
        completion_add(completion, "trim");
        completion_add(completion, "who");
    }
}

const struct command command_mem = {
    .name = "mem",
    .aliases = WORDS("memory"),
    .usage = "mem [who|trim]",
    .summary = "what memory is used for; `mem who`: by which processes; `mem trim` gives idle back",
    .help =
        "weights, activations (the arena of the plan), workspace and idle are our own "
        "allocator's;\n"
        "context and used are measured from outside it. On a GPU that CUPTI traces, libraries is\n"
        "what was allocated by others than us, by its records, and CUPTI's own what it holds\n"
        "itself: what it says it sets aside in a context, and what the process grows by while\n"
        "steps run and nothing else explains. Below, what is live at the peak. `mem who`\n"
        "lists the processes that hold memory: on a GPU as NVML tells, on the CPU ours and the\n"
        "largest. `mem trim` gives back what no plan needs.",
    .json = "devices[]{device total_bytes free_bytes used_by_us_bytes weights_bytes arena_bytes "
            "workspace_bytes idle_bytes context_bytes library_bytes cupti_bytes planned_bytes "
            "others_bytes limit_bytes processes[]{pid name user bytes ours}} plan{peak_layer "
            "peak_live_bytes live[]{layer shape dtype bytes}} freed_bytes",
    .see = WORDS("plan", "oom", "growth", "limit"),
    .examples = WORDS("mem", "mem who", "mem trim"),
    .flags = COMMAND_RESULT,
    .arguments_max = 1,
    .run = run_mem,
    .complete = complete_mem,
};
