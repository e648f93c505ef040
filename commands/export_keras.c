#include "commands/export_keras.h"

#include "commands/format.h"
#include "commands/workbench_private.h"

static void exported(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    char size[FORMAT_SIZE], took[FORMAT_SIZE];
    execution_print(execution, "wrote %s: %s in %s",
                    json_string_value(json_object_get(data, "path")),
                    format_bytes(size, sizeof size, json_get_double(data, "bytes")),
                    format_time_ms(took, sizeof took, json_get_double(data, "export_ms")));
    execution_done(execution);
}

void export_keras(struct execution *execution, const char *path)
{
    struct error error = {0};
    if (!execution->workbench->model) {
        error_set(&error, ERROR_NO_MODEL, "export keras", "no model is loaded");
        error_hint(&error, "load demo:digits");
        execution_fail(execution, &error);
        return;
    }
    execution_request(execution, "export", json_pack("{s:s}", "path", path), exported);
}
