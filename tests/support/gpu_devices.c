#include "support/gpu_tests.h"

#include <math.h>

void gpu_test_proof(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        gpu_layertop(context, NULL, "demo:resnet50 -c 'devices 0; batch 8; proof; devices'");
    const json_t *proof =
        json_array_get(json_object_get(gpu_data(objects, "proof", outcome), "devices"), 0);
    double error = gpu_number(proof, "error");
    outcome_figure(outcome, "kernels", gpu_number(proof, "kernels"));
    outcome_figure(outcome, "error", error);
    if (outcome->passed && !(error <= 1e-4))
        outcome_fail(outcome, "an error of %g against the CPU", error);
    if (outcome->passed && !(gpu_number(proof, "kernels") >= 50))
        outcome_fail(outcome, "%.0f kernels", gpu_number(proof, "kernels"));
    json_decref(objects);
}

/* CPU and GPU in turns and at once: both have numbers, and both at once are slower or as fast. */
void gpu_test_compare(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        gpu_layertop(context, NULL,
                     "-c 'devices cpu,0; compare concurrent; batch 32; load demo:digits; run 50'");
    const json_t *run = gpu_data(objects, "run", outcome);
    for (size_t i = 0; i < 2 && outcome->passed; i++) {
        const json_t *device = json_array_get(json_object_get(run, "per_device"), i);
        double slowdown = gpu_nested(device, "concurrent", "slowdown");
        outcome_figure(outcome, i == 0 ? "slowdown_cpu" : "slowdown_gpu", slowdown);
        if (!(slowdown > 0.5 && slowdown < 100))
            outcome_fail(outcome, "device %zu is %g times as slow beside the other", i, slowdown);
    }
    json_decref(objects);
}
