#include "commands/oom_report.h"

#include "commands/format.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define HOLDERS 5

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "-";
}

static char *bytes_at(const json_t *object, const char *key, char *out)
{
    return format_bytes(out, FORMAT_SIZE, json_get_double(object, key));
}

static void print_sizes(struct execution *execution, const json_t *report)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE], d[FORMAT_SIZE];
    const json_t *memory = json_object_get(report, "memory");
    execution_print(execution, "batch %lld, %s on %s: %s",
                    (long long)json_integer_value(json_object_get(report, "batch")),
                    text(report, "precision"), text(report, "device"), text(report, "message"));
    execution_print(execution, "  asked    %10s  weights %s, activations %s, workspace %s",
                    bytes_at(report, "asked_bytes", a), bytes_at(memory, "weights_bytes", b),
                    bytes_at(memory, "arena_bytes", c), bytes_at(memory, "workspace_bytes", d));
    execution_print(
        execution, "  free     %10s  largest block %s%s%s", bytes_at(report, "free_bytes", a),
        bytes_at(report, "largest_block_bytes", b),
        json_is_integer(json_object_get(report, "limit_bytes")) ? ", the limit is " : "",
        json_is_integer(json_object_get(report, "limit_bytes")) ? bytes_at(report, "limit_bytes", c)
                                                                : "");
}

static void print_holders(struct execution *execution, const json_t *report)
{
    char bytes[FORMAT_SIZE];
    size_t index;
    json_t *process;
    int told = 0;
    json_array_foreach(json_object_get(report, "processes"), index, process)
    {
        if (!json_is_true(json_object_get(process, "ours")) && told++ < HOLDERS)
            execution_print(execution, "  held     %10s  by pid %lld (%s, %s)",
                            bytes_at(process, "bytes", bytes),
                            (long long)json_integer_value(json_object_get(process, "pid")),
                            text(process, "name"), text(process, "user"));
    }
}

void oom_report_print(struct execution *execution, const json_t *report)
{
    char bytes[FORMAT_SIZE], line[256] = "";
    size_t index;
    json_t *tensor, *batch;
    const char *precision;
    print_sizes(execution, report);
    execution_print(execution, "  most is live at %s", text(report, "layer"));
    json_array_foreach(json_object_get(report, "live"), index, tensor)
        execution_print(execution, "           %10s  %s %s %s", bytes_at(tensor, "bytes", bytes),
                        text(tensor, "layer"), text(tensor, "shape"), text(tensor, "dtype"));
    print_holders(execution, report);
    json_object_foreach(json_object_get(report, "fits"), precision, batch)
    {
        size_t used = strlen(line);
        snprintf(line + used, sizeof line - used, "%s%lld at %s", used ? ", " : "",
                 (long long)json_integer_value(batch), precision);
    }
    if (*line)
        execution_print(execution, "  largest batch that fits: %s", line);
}

static void reported(struct execution *execution, const json_t *report, const struct error *error)
{
    struct error first = execution->error;
    (void)error; /* no report: a worker of another version, or a recording */
    if (report) {
        json_object_set(execution->data, "oom", (json_t *)(uintptr_t)report);
        oom_report_print(execution, report);
    }
    execution_fail(execution, &first);
}

void oom_report_fail(struct execution *execution, const struct error *error)
{
    bool memory = error->code == ERROR_MEMORY || error->code == ERROR_MEMORY_LIMIT;
    if (!memory || !execution->workbench->engine || execution->workbench->replay.path) {
        execution_fail(execution, error);
        return;
    }
    execution->error = *error;
    execution_request(execution, "oom", NULL, reported);
}
