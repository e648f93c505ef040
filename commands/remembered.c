/* Answers that later commands speak of: those of `calibrate`, `evaluate`, `predict` and `roof`. */
#include "commands/workbench_private.h"

#include <string.h>

/* What an answer holds for. Settings count but where the answer is about the model or the machine. */
static json_t *circumstances(const struct workbench *workbench, const char *verb)
{
    bool settings = strcmp(verb, "evaluate") == 0 || strcmp(verb, "predict") == 0;
    json_t *now = json_pack("{s:O?, s:I}", "model", workbench->load_arguments, "worker",
                            (json_int_t)workbench->connect_ns);
    if (settings)
        json_object_set_new(now, "settings", workbench_engine_settings(workbench));
    return now;
}

void workbench_remember(struct workbench *workbench, const char *verb, const json_t *data)
{
    if (!workbench->remembered)
        workbench->remembered = json_object();
    json_object_set_new(workbench->remembered, verb,
                        json_pack("{s:o, s:o}", "data", json_deep_copy(data), "of",
                                  circumstances(workbench, verb)));
}

const json_t *workbench_remembered(const struct workbench *workbench, const char *verb)
{
    const json_t *kept = json_object_get(workbench->remembered, verb);
    json_t *now = circumstances(workbench, verb);
    bool same = json_equal(now, json_object_get(kept, "of"));
    json_decref(now);
    return same ? json_object_get(kept, "data") : NULL;
}
