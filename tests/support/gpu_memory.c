/* GPU memory: the plan against the outside, growth, the limit, and giving back. */
#include "support/gpu_tests.h"

#include <math.h>
#include <string.h>

void gpu_test_memory_plan(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(
        context, NULL, "demo:digits -c 'devices 0; profile off; growth on; batch 4096; run 5'");
    const json_t *run = gpu_data(objects, "run", outcome);
    double planned = gpu_nested(run, "memory", "planned_bytes");
    double measured = gpu_nested(run, "memory", "measured_bytes");
    outcome_figure(outcome, "planned_bytes", planned);
    outcome_figure(outcome, "measured_bytes", measured);
    outcome_figure(outcome, "context_bytes", gpu_nested(run, "memory", "context_bytes"));
    double allowed = fmax(0.01 * planned, 8 << 20);
    if (outcome->passed && !(fabs(planned - measured) <= allowed))
        outcome_fail(outcome, "planned %.0f, measured %.0f bytes", planned, measured);
    json_decref(objects);
}

void gpu_test_growth_off(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(
        context, NULL, "-c 'devices 0; growth off; batch 8; load demo:digits; run 5; mem'");
    const json_t *memory = gpu_data(objects, "mem", outcome);
    const json_t *device = json_array_get(json_object_get(memory, "devices"), 0);
    double idle = gpu_number(device, "idle_bytes"), total = gpu_number(device, "total_bytes");
    outcome_figure(outcome, "idle_bytes", idle);
    outcome_figure(outcome, "total_bytes", total);
    if (outcome->passed && !(idle > 0.5 * total))
        outcome_fail(outcome, "growth off reserved only %.0f of %.0f bytes", idle, total);
    json_decref(objects);
}

void gpu_test_limit(const struct context *context, struct outcome *outcome)
{
    int code;
    json_t *objects = gpu_layertop(
        context, &code,
        "demo:digits -k -c 'devices 0; limit 256MiB; batch 8; run 5; batch 65536; run 5'");
    size_t runs = 0, index;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, "cmd"));
        if (name && strcmp(name, "run") == 0 && json_is_true(json_object_get(object, "ok")))
            runs++;
    }
    if (code != 5)
        outcome_fail(outcome, "a batch past the limit exits %d, not 5", code);
    if (runs != 2)
        outcome_fail(outcome, "the old plan did not go on running: %zu of 2 runs", runs);
    json_decref(objects);
}

/* What a large batch took stays ours until `mem trim`, which gives it to the device again. */
void gpu_test_trim(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(context, NULL,
                                   "-c 'devices 0; profile off; growth on; batch 64; load "
                                   "demo:resnet50; run 5; batch 1; run 5; mem; mem trim; mem'");
    gpu_data(objects, "run", outcome);
    const json_t *before = gpu_memory_at(objects, 0), *after = gpu_memory_at(objects, 2);
    double idle = gpu_number(before, "idle_bytes"), left = gpu_number(after, "idle_bytes");
    double gained = gpu_number(after, "free_bytes") - gpu_number(before, "free_bytes");
    outcome_figure(outcome, "idle_bytes", idle);
    outcome_figure(outcome, "idle_after_bytes", left);
    outcome_figure(outcome, "free_gained_bytes", gained);
    if (outcome->passed && !(idle > 100 << 20))
        outcome_fail(outcome, "after batch 64 only %.0f bytes are idle: nothing was kept", idle);
    if (outcome->passed && !(left <= 4 << 20))
        outcome_fail(outcome, "after `mem trim` %.0f bytes are idle", left);
    if (outcome->passed && !(gained >= 0.95 * (idle - left)))
        outcome_fail(outcome, "`mem trim` gave %.0f of %.0f bytes to the device", gained, idle);
    json_decref(objects);
}
