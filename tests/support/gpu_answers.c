/* What the GPU computes for the digits: against float64 answers, in every precision, layout and way to
 * launch. */
#include "support/gpu_tests.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_answers(const struct context *context, struct outcome *outcome, const char *model,
                          const char *settings, double tolerance)
{
    size_t count = 0;
    double *expected = gpu_reference(context, "y64", &count);
    if (!expected)
        outcome_fail(outcome, "no float64 answers in %s/digits/reference.h5", context->data);
    float *values = expected ? gpu_answers(context, outcome, model, settings, "", count) : NULL;
    if (values)
        outcome_compare(outcome, values, expected, count, tolerance, "max_error");
    free(values);
    free(expected);
}

void gpu_test_device_usable(const struct context *context, struct outcome *outcome)
{
    size_t index;
    json_t *device;
    bool usable = false;
    json_array_foreach(json_object_get(context->devices, "devices"), index, device)
    {
        const char *id = json_string_value(json_object_get(device, "id"));
        if (id && strncmp(id, "gpu:", 4) == 0 && json_is_true(json_object_get(device, "usable")))
            usable = true;
        else if (id && strncmp(id, "gpu:", 4) == 0)
            outcome_fail(outcome, "%s: %s", id, json_string_value(json_object_get(device, "why")));
    }
    const char *note = json_string_value(json_object_get(context->devices, "note"));
    if (!usable)
        outcome_fail(outcome, "`devices` lists no usable GPU: %s", note ? note : "without a word");
}

void gpu_test_answers_h5(const struct context *context, struct outcome *outcome)
{
    char model[512];
    snprintf(model, sizeof model, "%s/digits.h5", getenv("LAYERTOP_DIGITS"));
    check_answers(context, outcome, model, "precision fp32", 2e-5);
}

void gpu_test_answers_keras(const struct context *context, struct outcome *outcome)
{
    char model[512];
    snprintf(model, sizeof model, "%s/digits.keras", getenv("LAYERTOP_DIGITS"));
    check_answers(context, outcome, model, "precision fp32", 2e-5);
}

void gpu_test_answers_unfused(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "fusion off; precision fp32", 2e-5);
}

void gpu_test_answers_tf32(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "precision tf32", 2e-3);
}

void gpu_test_answers_fp16(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "precision fp16", 5e-3);
}

void gpu_test_answers_bf16(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "precision bf16", 4e-2);
}

void gpu_test_answers_nchw(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "layout nchw; precision fp16", 5e-3);
    if (outcome->passed)
        check_answers(context, outcome, "demo:digits", "layout nchw; precision fp32", 2e-5);
}

/* Measured kernels give the answers that the heuristics' give, and a second start measures nothing:
 * the plan cache is below OUT for the time of this test. */
void gpu_test_autotune(const struct context *context, struct outcome *outcome)
{
    static const char *const settings[] = {"precision tf32; autotune off",
                                           "precision tf32; autotune on",
                                           "precision tf32; autotune on"};
    char folder[300], command[700];
    size_t count = 0;
    double *expected = gpu_reference(context, "y64", &count);
    const char *before = getenv("XDG_CACHE_HOME");
    char *kept = before ? strdup(before) : NULL;
    snprintf(folder, sizeof folder, "%s/cache", context->work);
    setenv("XDG_CACHE_HOME", folder, 1);
    for (int i = 0; i < 3 && expected && outcome->passed; i++) {
        double begin = gpu_now();
        float *values =
            gpu_answers(context, outcome, "demo:digits", settings[i], "run 20; ", count);
        outcome_figure(outcome,
                       i == 0   ? "off_s"
                       : i == 1 ? "on_s"
                                : "on_again_s",
                       gpu_now() - begin);
        if (values)
            outcome_compare(outcome, values, expected, count, 2e-3,
                            i == 0   ? "off"
                            : i == 1 ? "on"
                                     : "on_again");
        free(values);
    }
    snprintf(command, sizeof command, "ls '%s'/layertop/plans/*.plan >/dev/null 2>&1", folder);
    if (outcome->passed && system(command) != 0)
        outcome_fail(outcome, "nothing was kept in %s/layertop/plans", folder);
    if (kept)
        setenv("XDG_CACHE_HOME", kept, 1);
    else
        unsetenv("XDG_CACHE_HOME");
    free(kept);
    free(expected);
}

/* Replayed, the same kernels run on the same memory: the answers are those of eager launches. */
void gpu_test_graph_answers(const struct context *context, struct outcome *outcome)
{
    size_t count = 0;
    double *expected = gpu_reference(context, "y64", &count);
    float *eager = NULL, *replayed = NULL;
    if (!expected)
        outcome_fail(outcome, "no float64 answers in %s/digits/reference.h5", context->data);
    else
        eager = gpu_answers(context, outcome, "demo:digits", "graph off", "run 5; ", count);
    if (eager)
        replayed = gpu_answers(context, outcome, "demo:digits", "graph on", "run 5; ", count);
    if (replayed) {
        outcome_compare(outcome, replayed, expected, count, 2e-5, "max_error");
        for (size_t i = 0; i < count; i++)
            expected[i] = (double)eager[i];
        outcome_compare(outcome, replayed, expected, count, 1e-6, "graph_on_against_off");
    }
    free(expected);
    free(eager);
    free(replayed);
}
