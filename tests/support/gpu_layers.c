/* Kernels and times of layers on the GPU, and what it costs to know them. */
#include "support/gpu_tests.h"

#include <math.h>
#include <string.h>

/* Every layer that is not folded into another and costs something has kernels and a time. */
static void check_layers(const struct context *context, struct outcome *outcome,
                         const char *settings, const char *source)
{
    int code;
    json_t *objects = gpu_layertop(
        context, &code, "-c 'devices 0; %s; batch 32; load demo:digits; run 200'", settings);
    const json_t *run = gpu_data(objects, "run", outcome);
    if (run) {
        const char *said = json_string_value(json_object_get(run, "timing_source"));
        if (!said || strcmp(said, source) != 0)
            outcome_fail(outcome, "timing source is %s, not %s", said ? said : "null", source);
        double sum = 0, wall = gpu_nested(run, "ledger", "wall_ms");
        size_t index;
        json_t *layer;
        int busy = 0;
        json_array_foreach(json_object_get(run, "layers"), index, layer)
        {
            const char *name = json_string_value(json_object_get(layer, "name"));
            if (json_is_string(json_object_get(layer, "fused_into")) ||
                gpu_number(layer, "flops") <= 0)
                continue;
            double time = gpu_number(layer, "time_ms"), kernels = gpu_number(layer, "kernels");
            if (!(time > 0))
                outcome_fail(outcome, "layer %s has no time", name);
            if (!(kernels >= 1))
                outcome_fail(outcome, "layer %s has no kernels", name);
            sum += time;
            busy++;
        }
        outcome_figure(outcome, "layers", busy);
        outcome_figure(outcome, "sum_of_layers_ms", sum);
        outcome_figure(outcome, "wall_ms", wall);
        outcome_figure(outcome, "unexplained_ms", gpu_nested(run, "ledger", "unexplained_ms"));
        outcome_figure(outcome, "throughput_per_s", gpu_number(run, "throughput_per_s"));
        if (busy == 0)
            outcome_fail(outcome, "no layer ran");
        if (!(sum <= wall * 1.001))
            outcome_fail(outcome, "the layers' %.3f ms do not fit in the wall's %.3f ms", sum,
                         wall);
        /* between the last copy's end and the host's waking up nothing is recorded */
        if (!(fabs(gpu_nested(run, "ledger", "unexplained_ms")) <= fmax(0.05 * wall, 0.03)))
            outcome_fail(outcome, "%.3f of %.3f ms unexplained",
                         gpu_nested(run, "ledger", "unexplained_ms"), wall);
    }
    json_decref(objects);
}

void gpu_test_layers_cupti(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile cupti; graph off", "cupti");
}

/* A plan that is not captured says so in a warning; one that is replayed launches once a step. */
void gpu_test_layers_cupti_graph(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile cupti; graph on", "cupti");
    char path[512], line[4096];
    snprintf(path, sizeof path, "%s/commands.txt", context->out);
    FILE *log = fopen(path, "r");
    bool here = false;
    while (log && fgets(line, sizeof line, log)) {
        here = line[0] == '[' ? strncmp(line + 1, context->test, strlen(context->test)) == 0 : here;
        if (here && strstr(line, "no CUDA graph"))
            outcome_fail(outcome, "the plan was not captured: %.600s",
                         strstr(line, "no CUDA graph"));
    }
    if (log)
        fclose(log);
}

void gpu_test_layers_cupti_unfused(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile cupti; graph off; fusion off", "cupti");
}

void gpu_test_layers_events(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile events; graph off", "events");
}

/* The profiler's cost: medians of alternating runs with CUPTI and with nothing. */
void gpu_test_profiler_cost(const struct context *context, struct outcome *outcome)
{
    double ratio[3] = {NAN, NAN, NAN};
    for (int pair = 0; pair < 3 && outcome->passed; pair++) {
        double wall[2] = {NAN, NAN};
        for (int which = 0; which < 2; which++) {
            json_t *objects = gpu_layertop(
                context, NULL, "demo:digits -c 'devices 0; profile %s; batch 32; run 500'",
                which ? "cupti" : "off");
            const json_t *run = gpu_data(objects, "run", outcome);
            wall[which] = gpu_nested(run, "wall_ms", "median");
            json_decref(objects);
        }
        ratio[pair] = wall[1] / wall[0];
    }
    for (int i = 0; i < 3; i++)
        for (int j = i + 1; j < 3; j++)
            if (ratio[j] < ratio[i]) {
                double swap = ratio[i];
                ratio[i] = ratio[j];
                ratio[j] = swap;
            }
    outcome_figure(outcome, "cupti_over_off_median", ratio[1]);
    outcome_figure(outcome, "cupti_over_off_min", ratio[0]);
    outcome_figure(outcome, "cupti_over_off_max", ratio[2]);
    if (!isfinite(ratio[1]))
        outcome_fail(outcome, "no figures");
}

/* Inputs that stay on the device: nothing is copied, so that it is no slower than with copies, and
 * what was measured before is measured again after it. */
void gpu_test_resident(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        gpu_layertop(context, NULL,
                     "-c 'devices 0; profile cupti; graph on; precision fp16; batch 64; load "
                     "demo:mobilenetv2; run 100; mem; run 100; mem'");
    const json_t *run = gpu_data(objects, "run", outcome);
    double copies = gpu_number(run, "throughput_per_s");
    double resident = gpu_number(run, "throughput_resident_per_s");
    const json_t *memory = gpu_data(objects, "mem", outcome);
    outcome_figure(outcome, "throughput_per_s", copies);
    outcome_figure(outcome, "throughput_resident_per_s", resident);
    outcome_figure(outcome, "free_bytes",
                   gpu_number(json_array_get(json_object_get(memory, "devices"), 0), "free_bytes"));
    if (run && !(resident >= 0.98 * copies))
        outcome_fail(outcome, "%.0f samples/s with resident inputs, %.0f with copies", resident,
                     copies);
    size_t index;
    json_t *layer;
    int timed = 0;
    json_array_foreach(json_object_get(run, "layers"), index, layer)
    {
        timed += gpu_number(layer, "kernels") >= 1;
    }
    if (run && timed < 20)
        outcome_fail(outcome, "after steps without CUPTI only %d layers have kernels", timed);
    json_decref(objects);
}
