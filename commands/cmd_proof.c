#include "commands/format.h"
#include "commands/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "-";
}

static void print_proof(struct execution *execution, const json_t *proof)
{
    char impls[128] = "";
    const char *name;
    json_t *ops;
    double error = json_get_double(proof, "error");
    json_object_foreach(json_object_get(proof, "impls"), name, ops)
    {
        size_t used = strlen(impls);
        snprintf(impls + used, sizeof impls - used, "%s%s %lld", used ? ", " : "", name,
                 (long long)json_integer_value(ops));
    }
    if (json_object_get(proof, "why"))
        execution_print(execution, "%s: not proven: %s", text(proof, "device"), text(proof, "why"));
    else if (isnan(error))
        execution_print(execution, "%s: outputs differ from those of the %s", text(proof, "device"),
                        text(proof, "reference"));
    else
        execution_print(
            execution, "%s: %lld kernels (%s) for %lld layers of %s at %s, error %.1e against %s",
            text(proof, "device"), (long long)json_integer_value(json_object_get(proof, "kernels")),
            impls, (long long)json_integer_value(json_object_get(proof, "layers")),
            text(proof, "model"), text(proof, "precision"), error, text(proof, "reference"));
}

static void proven(struct execution *execution, const json_t *data, const struct error *error)
{
    size_t index;
    json_t *proof;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    json_array_foreach(json_object_get(data, "devices"), index, proof)
        print_proof(execution, proof);
    execution_done(execution);
}

static void run_proof(struct execution *execution, int argc, char *const *argv)
{
    (void)argc, (void)argv;
    execution_request(execution, "proof", NULL, proven);
}

const struct command command_proof = {
    .name = "proof",
    .usage = "proof",
    .summary = "does the device compute this model? kernels, layers and the error",
    .help =
        "One sample runs on every device in use, and once on the CPU in fp32 without fusion; the\n"
        "error is the largest difference of any output, against the largest value of that output.\n"
        "`devices` keeps the last proof. JSON: devices[] {device, model, precision, reference,\n"
        "kernels, layers, impls, error}.",
    .json = "devices[]{device model precision reference kernels layers impls{} error}",
    .see = WORDS("doctor", "devices"),
    .examples = WORDS("proof"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .run = run_proof,
};
