/* `apply`: set what an advice of `advise` says. */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct application {
    char id[8];
    json_t *changes; /* of the advice: key -> value as typed */
    void *at;        /* iterator: the change under way */
    double cost_ms;
};

static void free_application(void *state)
{
    struct application *application = state;
    json_decref(application->changes);
    free(application);
}

static void change_next(struct execution *execution);

static void changed(struct workbench *workbench, void *context, const json_t *data,
                    const struct error *error)
{
    struct execution *execution = context;
    struct application *application = execution->state;
    (void)workbench;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    double cost_ms = json_get_double(data, "cost_ms");
    application->cost_ms += cost_ms > 0 ? cost_ms : 0;
    application->at = json_object_iter_next(application->changes, application->at);
    change_next(execution);
}

static void change_next(struct execution *execution)
{
    struct application *application = execution->state;
    struct error error = {0};
    if (!application->at) {
        execution_print(execution, "applied %s; `run 50; advise` says what is left",
                        application->id);
        json_object_set_new(execution->data, "id", json_string(application->id));
        json_object_set(execution->data, "changes", application->changes);
        json_object_set_new(execution->data, "cost_ms", json_number(application->cost_ms));
        execution_done(execution);
        return;
    }
    const char *key = json_object_iter_key(application->at);
    const char *text = json_string_value(json_object_iter_value(application->at));
    const struct setting *setting = setting_find(key, &error);
    json_t *value = setting ? setting_parse(setting, text, &error) : NULL;
    if (!value) {
        execution_fail(execution, &error);
        return;
    }
    execution_print(execution, "set %s %s", key, text);
    workbench_change(execution->workbench, setting, value, changed, execution);
}

static bool refuse(struct execution *execution, const char *id, const json_t *choice)
{
    struct error error = {0};
    const char *action = json_string_value(json_object_get(choice, "action"));
    char list[160] = "";
    const char *key;
    json_t *value;
    if (choice) {
        error_set(&error, ERROR_VALUE, "apply", "no setting does %s: %s", id,
                  action && *action ? action : "it is about the model");
        error_hint(&error, "advise --code keras");
    } else if (!execution->workbench->advice) {
        error_set(&error, ERROR_VALUE, "apply", "nothing was advised yet");
        error_hint(&error, "advise");
    } else {
        json_object_foreach(execution->workbench->advice, key, value)
        {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", key);
        }
        error_set(&error, ERROR_VALUE, "apply", "%s was not advised; %s", id,
                  *list ? list : "nothing was");
        error_hint(&error, "advise");
    }
    execution_fail(execution, &error);
    return false;
}

static void run_apply(struct execution *execution, int argc, char *const *argv)
{
    struct application *application = xcalloc(1, sizeof *application);
    (void)argc;
    execution->state = application;
    execution->free_state = free_application;
    snprintf(application->id, sizeof application->id, "%s", argv[1]);
    for (char *c = application->id; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    const json_t *choice = json_object_get(execution->workbench->advice, application->id);
    application->changes = json_deep_copy(json_object_get(choice, "changes"));
    if (json_object_size(application->changes) == 0) {
        refuse(execution, application->id, choice);
        return;
    }
    application->at = json_object_iter(application->changes);
    change_next(execution);
}

static void complete_apply(struct command_completion *completion, int argc, char *const *argv)
{
    const char *key;
    json_t *value;
    (void)argc, (void)argv;
    json_object_foreach(completion->workbench->advice, key, value)
    {
        if (json_object_size(json_object_get(value, "changes")) > 0)
            completion_add(completion, key);
    }
}

const struct command command_apply = {
    .name = "apply",
    .usage = "apply ID",
    .summary = "set what an advice says: `apply A05`",
    .help = "ID is one of the last `advise`. Its settings are changed as with `set`; what was "
            "advised\nand no setting does is said, with the lines that `advise --code keras` has.\n"
            "JSON: id, changes {KEY: VALUE}, cost_ms.",
    .json = "id changes{} cost_ms",
    .see = WORDS("advise", "set", "unset"),
    .examples = WORDS("apply A55"),
    .flags = COMMAND_NEEDS_MODEL,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_apply,
    .complete = complete_apply,
};
