#include "commands/complete.h"
#include "commands/format.h"
#include "commands/settings_show.h"
#include "commands/table.h"

#include <stdio.h>
#include <string.h>

static const char *text(const json_t *object, const char *key, const char *otherwise)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : otherwise;
}

static void details(const json_t *device, char *out, size_t size)
{
    char total[FORMAT_SIZE], available[FORMAT_SIZE];
    size_t used = 0;
    double total_bytes = json_get_double(device, "total_bytes");
    double threads = json_get_double(device, "threads");
    *out = '\0';
    if (total_bytes > 0)
        used += (size_t)snprintf(
            out + used, size - used, "%s, %s free", format_bytes(total, sizeof total, total_bytes),
            format_bytes(available, sizeof available, json_get_double(device, "free_bytes")));
    if (threads > 0 && used < size)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%.0f threads", used ? ", " : "", threads);
    static const char *const keys[] = {"isa",    "library", "compute_capability",
                                       "driver", "pci",     "uuid"};
    static const char *const labels[] = {"", "", "compute capability ", "driver ", "", ""};
    for (size_t i = 0; i < sizeof keys / sizeof *keys && used < size; i++) {
        const json_t *value = json_object_get(device, keys[i]);
        if (json_is_string(value) && *json_string_value(value))
            used += (size_t)snprintf(out + used, size - used, "%s%s%s", used ? ", " : "", labels[i],
                                     json_string_value(value));
        else if (json_is_number(value))
            used += (size_t)snprintf(out + used, size - used, "%s%s%g", used ? ", " : "", labels[i],
                                     json_number_value(value));
    }
}

/* What was last seen to run there: a list of devices proves nothing by itself. */
static void print_proof(struct execution *execution, const json_t *device)
{
    const json_t *proof = json_object_get(device, "proof");
    double error = json_get_double(proof, "error");
    if (json_is_object(proof) && error == error) /* not NaN */
        execution_print(execution,
                        "                 proof: %lld kernels of %s at %s, error %.1e against %s",
                        (long long)json_integer_value(json_object_get(proof, "kernels")),
                        text(proof, "model", "?"), text(proof, "precision", "?"), error,
                        text(proof, "reference", "?"));
    else if (json_is_object(proof))
        execution_print(execution, "                 proof: failed: %s",
                        text(proof, "why", "the outputs differ"));
    else
        execution_print(execution, "                 proof: never (`proof`, with a model loaded)");
}

static void listed(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    size_t index;
    json_t *device;
    char line[512];
    json_array_foreach(json_object_get(data, "devices"), index, device)
    {
        bool usable = json_is_true(json_object_get(device, "usable"));
        details(device, line, sizeof line);
        execution_print(execution, "%-6s %-9s %s", text(device, "id", "?"),
                        usable ? "usable" : "unusable", text(device, "name", ""));
        if (*line)
            execution_print(execution, "                 %s", line);
        if (usable)
            print_proof(execution, device);
        if (!usable && json_is_string(json_object_get(device, "why")))
            execution_print(execution, "                 %s", text(device, "why", ""));
    }
    execution_done(execution);
}

static void run_devices(struct execution *execution, int argc, char *const *argv)
{
    if (strcmp(argv[0], "list_physical_devices") == 0)
        execution_warn(execution, "%s is called devices here", argv[0]);
    if (argc == 1 || strcmp(argv[1], "-l") == 0) {
        execution_request(execution, "devices", NULL, listed);
        return;
    }
    const struct setting *setting = setting_find("devices", NULL);
    char *value = setting_join(setting, argc - 1, argv + 1);
    setting_change(execution, setting, value);
    free(value);
}

static void complete_devices(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1)
        completion_add_values(completion, setting_find("devices", NULL));
}

const struct command command_devices = {
    .name = "devices",
    .aliases = WORDS("list_physical_devices", "gpus"),
    .usage = "devices [DEVICE,...]",
    .summary = "list the devices, or set where the model runs",
    .help =
        "Without a word: every device, whether it is usable, and why not; proof is what `proof`\n"
        "last saw there: kernels that ran and their error. With a word, the same as\n"
        "`set devices`; `help set devices` says which words are understood.",
    .json = "key value[] cost_ms devices[]{id name usable threads isa library total_bytes "
            "free_bytes proof} note",
    .see = WORDS("doctor", "proof"),
    .examples = WORDS("devices", "devices 0", "devices cpu"),
    .flags = COMMAND_RESULT,
    .arguments_max = -1,
    .run = run_devices,
    .complete = complete_devices,
};
