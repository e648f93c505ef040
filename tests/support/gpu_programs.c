/* GPU tests that are programs of their own, and what they and recordings leave behind. */
#include "support/gpu_tests.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_SECONDS 110
#define OPS_SECONDS   120
#define HALF_SECONDS  60

static void run_ops(const struct context *context, struct outcome *outcome, const char *which,
                    double seconds)
{
    FILE *pipe = gpu_program(context, "test_cuda_ops", which, seconds);
    char line[600];
    double passed = 0, failed = 0;
    json_t *rows = json_array();
    while (pipe && fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "ok ", 3) == 0)
            passed++;
        else if (strncmp(line, "not ok ", 7) == 0) {
            failed++;
            outcome_fail(outcome, "%s", line + 7);
        } else if (strncmp(line, "Bail out!", 9) == 0)
            outcome_fail(outcome, "%s", line);
        else if (line[0] != '#' || json_array_size(rows) > 200)
            continue;
        json_array_append_new(rows, json_string(line));
    }
    int status = pipe ? pclose(pipe) : -1;
    outcome_figure(outcome, "passed", passed);
    outcome_figure(outcome, "failed", failed);
    json_object_set_new(outcome->figures, "rows", rows);
    if (status != 0)
        outcome_fail(outcome, "test_cuda_ops ended with status %d after %.0f tests", status,
                     passed);
    if (passed == 0)
        outcome_fail(outcome, "test_cuda_ops ran no test");
}

void gpu_test_ops(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "", OPS_SECONDS);
}

void gpu_test_ops_fp16(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "fp16", HALF_SECONDS);
}

void gpu_test_ops_bf16(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "bf16", HALF_SECONDS);
}

void gpu_test_ops_int8(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "int8", HALF_SECONDS);
}

void gpu_test_precision(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "precision", OPS_SECONDS);
}

void gpu_test_probe(const struct context *context, struct outcome *outcome)
{
    char budget[32];
    double left = context->deadline - gpu_now();
    snprintf(budget, sizeof budget, "all %.0f", fmin(left, PROBE_SECONDS) - 35);
    FILE *pipe = gpu_program(context, "probe_cupti", budget, PROBE_SECONDS);
    json_t *figures = pipe ? json_loadf(pipe, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    int status = pipe ? pclose(pipe) : -1;
    if (!figures)
        outcome_fail(outcome, "probe_cupti printed no JSON (status %d)", status);
    else
        json_object_set(outcome->figures, "probe", figures);
    if (status != 0)
        outcome_fail(outcome, "probe_cupti ended with status %d", status);
    json_decref(figures);
}

/* cuDNN's own description of this GPU, into OUT/cudnn-deviceprop.json: with it engines can be chosen
 * where there is no GPU (tests/data/cuda). */
void gpu_test_deviceprop(const struct context *context, struct outcome *outcome)
{
    FILE *pipe = gpu_program(context, "probe_cudnn", "", 60);
    json_t *properties = pipe ? json_loadf(pipe, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    int status = pipe ? pclose(pipe) : -1;
    char path[512];
    snprintf(path, sizeof path, "%s/cudnn-deviceprop.json", context->out);
    outcome_figure(outcome, "keys", (double)json_object_size(properties));
    if (json_object_size(properties) == 0)
        outcome_fail(outcome, "probe_cudnn printed no JSON (status %d)", status);
    else if (json_dump_file(properties, path, JSON_INDENT(1) | JSON_PRESERVE_ORDER) != 0)
        outcome_fail(outcome, "%s cannot be written", path);
    json_decref(properties);
}

void gpu_test_raw_recording(const struct context *context, struct outcome *outcome)
{
    char path[700], raw[720];
    snprintf(path, sizeof path, "%s/gpu-recording.ltr", context->out);
    snprintf(raw, sizeof raw, "%s.cupti", path);
    unlink(path);
    unlink(raw);
    json_t *objects =
        gpu_layertop(context, NULL,
                     "-c 'devices 0; profile cupti; graph off; batch 8; load demo:digits' "
                     "-c 'record %s --raw; run 20; record off'",
                     path);
    struct stat status;
    gpu_data(objects, "record", outcome);
    if (outcome->passed && (stat(path, &status) != 0 || status.st_size == 0))
        outcome_fail(outcome, "no recording at %s", path);
    if (outcome->passed && (stat(raw, &status) != 0 || status.st_size < 1000))
        outcome_fail(outcome, "no raw CUPTI buffers at %s", raw);
    if (outcome->passed)
        outcome_figure(outcome, "raw_bytes", (double)status.st_size);
    json_decref(objects);
}
