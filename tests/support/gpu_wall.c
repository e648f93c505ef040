/* Memory up to the wall and past it, on the GPU: out of memory a thousand times, the largest batch, also
 * beside a ballast, and logical devices. */
#include "support/gpu_tests.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

static const char *const held[] = {"weights_bytes", "arena_bytes", "workspace_bytes", "idle_bytes"};

/* A script of `before`, then `line` so many times, then `after`: objects of all its commands. */
static json_t *run_script(const struct context *context, int *code, const char *before,
                          const char *line, int times, const char *after)
{
    char path[400];
    snprintf(path, sizeof path, "%s/wall.lt", context->work);
    FILE *file = fopen(path, "w");
    if (file) {
        fprintf(file, "%s\n", before);
        for (int i = 0; i < times; i++)
            fprintf(file, "%s\n", line);
        fprintf(file, "%s\n", after);
        fclose(file);
    }
    return gpu_layertop(context, code, "-k -f '%s'", path);
}

/* Every refusal came, and what we hold is what we held, to the byte. */
static void check_walls(const json_t *objects, int code, int times, double device_slack,
                        struct outcome *outcome)
{
    size_t index;
    json_t *object;
    int refused = 0, runs = 0;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, "cmd"));
        bool good = json_is_true(json_object_get(object, "ok"));
        refused += name && !good && (strcmp(name, "set") == 0 || strcmp(name, "batch") == 0);
        runs += name && good && strcmp(name, "run") == 0;
    }
    outcome_figure(outcome, "refused", refused);
    if (refused != times)
        outcome_fail(outcome, "%d of %d batches past the wall were refused", refused, times);
    if (runs != 2)
        outcome_fail(outcome, "%d of 2 runs went well: the old plan does not survive", runs);
    if (code != 5)
        outcome_fail(outcome, "it exits %d, not 5", code);
    const json_t *before = gpu_memory_at(objects, 0), *after = gpu_memory_at(objects, 1);
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        if (!(fabs(gpu_number(after, held[i]) - gpu_number(before, held[i])) <= 0))
            outcome_fail(outcome, "%s went from %.0f to %.0f: memory leaks when it runs out",
                         held[i], gpu_number(before, held[i]), gpu_number(after, held[i]));
    double lost = gpu_number(before, "free_bytes") - gpu_number(after, "free_bytes");
    outcome_figure(outcome, "device_free_lost_bytes", lost);
    if (!(lost <= device_slack))
        outcome_fail(outcome, "the device has %.0f bytes less free: the driver's memory leaks",
                     lost);
}

void gpu_test_oom_thousand(const struct context *context, struct outcome *outcome)
{
    int code;
    json_t *objects =
        run_script(context, &code,
                   "devices 0; profile off; limit 64MiB; batch 8; load demo:digits; run 5; mem",
                   "batch 65536", 1000, "run 5; mem");
    check_walls(objects, code, 1000, 0, outcome);
    json_decref(objects);
}

/* The forecast overruled: the driver's own refusal. What its modules take at first stays taken. */
void gpu_test_oom_forced(const struct context *context, struct outcome *outcome)
{
    int code;
    json_t *objects = run_script(context, &code,
                                 "devices 0; profile off; batch 8; load demo:resnet50; run 5; mem",
                                 "batch 65536 --force", 20, "run 5; mem");
    check_walls(objects, code, 20, 4 << 20, outcome);
    json_decref(objects);
}

static void check_max(const struct context *context, const char *settings, const char *key,
                      struct outcome *outcome)
{
    json_t *objects = gpu_layertop(
        context, NULL, "-c 'devices 0; profile off; %s; load demo:resnet50; batch max --prove'",
        settings);
    const json_t *answer = gpu_data(objects, "batch", outcome);
    const json_t *proof = json_object_get(answer, "proof");
    outcome_figure(outcome, key, gpu_number(answer, "fits"));
    if (answer && !(gpu_number(answer, "fits") >= 1))
        outcome_fail(outcome, "%s: nothing fits", settings);
    if (answer && !(fabs(gpu_number(proof, "batch") - gpu_number(answer, "fits")) <= 0))
        outcome_fail(outcome, "%s: %g fits, %g was proved", settings, gpu_number(answer, "fits"),
                     gpu_number(proof, "batch"));
    if (answer && !json_is_true(json_object_get(proof, "next_refused")))
        outcome_fail(outcome, "%s: one more than %g fits too, so the answer is too small", settings,
                     gpu_number(answer, "fits"));
    json_decref(objects);
}

void gpu_test_batch_max(const struct context *context, struct outcome *outcome)
{
    static const char *const limits[] = {"limit 1GiB", "limit 4GiB", "limit 16GiB"};
    for (int i = 0; i < 3; i++)
        check_max(context, limits[i], limits[i], outcome);
}

/* Another process leaves 4 GiB really free. */
void gpu_test_batch_max_ballast(const struct context *context, struct outcome *outcome)
{
    FILE *ballast = gpu_program(context, "probe_cupti", "ballast 4096 40", 60);
    json_t *holds = ballast ? json_loadf(ballast, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    double available = gpu_number(holds, "free_bytes");
    outcome_figure(outcome, "free_bytes", available);
    if (!(available > 3.5 * 1073741824 && available < 4.5 * 1073741824))
        outcome_fail(outcome, "the ballast leaves %.0f bytes free, not 4 GiB", available);
    else
        check_max(context, "limit none", "beside a ballast", outcome);
    json_decref(holds);
    if (ballast)
        pclose(ballast);
}

void gpu_test_logical(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(context, NULL,
                                   "-c 'devices 0; profile off; logical 2x4GiB; batch 32; load "
                                   "demo:mobilenetv2; run 20; mem'");
    const json_t *run = gpu_data(objects, "run", outcome);
    const json_t *devices = json_object_get(run, "per_device");
    outcome_figure(outcome, "devices", (double)json_array_size(devices));
    if (run && json_array_size(devices) != 2)
        outcome_fail(outcome, "`logical 2x4GiB` runs on %zu devices, not two",
                     json_array_size(devices));
    json_decref(objects);
}
