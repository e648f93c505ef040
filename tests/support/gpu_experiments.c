/* The experiments, advice, the pipeline and lessons where there is a GPU to experiment with. */
#include "support/gpu_tests.h"

#include "commands/lesson.h"

#include <math.h>
#include <string.h>

/* The `at`-th data of a command, NULL if it did not come so often; 0 is the first. */
static const json_t *data_at(const json_t *objects, const char *command, size_t at)
{
    size_t index, seen = 0;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, "cmd"));
        if (name && strcmp(name, command) == 0 && seen++ == at)
            return json_object_get(object, "data");
    }
    return NULL;
}

/* The member of a list whose `key` is `value`. */
static const json_t *find(const json_t *list, const char *key, const char *value)
{
    size_t index;
    json_t *item;
    json_array_foreach(list, index, item)
    {
        const char *text = json_string_value(json_object_get(item, key));
        if (text && strcmp(text, value) == 0)
            return item;
    }
    return NULL;
}

/* Half precision: cuDNN multiplies less than a layer counts in float32 (Winograd). What fits in the
 * caches may pass the memory's roof, so that only most layers have to stay under it. */
void gpu_test_roof(const struct context *context, struct outcome *outcome)
{
    static const char *const precisions[] = {"fp32", "tf32", "fp16", "bf16"};
    json_t *objects = gpu_layertop(context, NULL,
                                   "demo:resnet50 -c 'devices 0; profile cupti; precision fp16; "
                                   "batch 128; run 30; roof'");
    const json_t *roof = gpu_data(objects, "roof", outcome);
    const json_t *ceilings = json_object_get(roof, "ceilings");
    double rate[4];
    for (int i = 0; i < 4; i++) {
        const json_t *row = find(json_object_get(ceilings, "compute"), "precision", precisions[i]);
        rate[i] = gpu_number(row, "flops_per_s");
        outcome_figure(outcome, precisions[i], rate[i]);
        if (roof && !(rate[i] > 0))
            outcome_fail(outcome, "%s has no measured ceiling", precisions[i]);
    }
    const json_t *memory = find(json_object_get(ceilings, "memory"), "level", "memory");
    double bytes = gpu_number(memory, "bytes_per_s");
    outcome_figure(outcome, "bytes_per_s", bytes);
    if (roof && !(bytes > 1e10))
        outcome_fail(outcome, "the memory's ceiling is %g byte/s", bytes);
    if (roof && !(rate[2] > 1.5 * rate[0]))
        outcome_fail(outcome, "fp16 reaches %g FLOP/s, fp32 %g: no tensor cores, or copies timed",
                     rate[2], rate[0]);
    size_t index, placed = 0, above = 0;
    double most = 0;
    json_t *layer;
    json_array_foreach(json_object_get(roof, "layers"), index, layer)
    {
        double share = gpu_number(layer, "roof_share");
        placed += share > 0;
        above += share > 1.1;
        most = fmax(most, share);
    }
    outcome_figure(outcome, "layers", (double)placed);
    outcome_figure(outcome, "layers_above", (double)above);
    outcome_figure(outcome, "roof_share_max", most);
    if (roof && placed < 20)
        outcome_fail(outcome, "only %zu layers have a place under the roof", placed);
    if (roof && 5 * above > placed)
        outcome_fail(outcome,
                     "%zu of %zu layers stand above the roof, the first at %.2f of it: the "
                     "ceilings were measured too low",
                     above, placed, most);
    json_decref(objects);
}

void gpu_test_cold(const struct context *context, struct outcome *outcome)
{
    static const char *const wanted[] = {"read",   "context",  "modules",   "compile",
                                         "upload", "allocate", "first_step"};
    json_t *objects = gpu_layertop(context, NULL, "demo:resnet50 -c 'devices 0; batch 8; cold'");
    const json_t *cold = gpu_data(objects, "cold", outcome);
    const json_t *parts = json_object_get(cold, "parts");
    double total = gpu_number(cold, "total_ms"), sum = 0;
    size_t index;
    json_t *part;
    json_array_foreach(parts, index, part)
    {
        sum += gpu_number(part, "ms");
        outcome_figure(outcome, json_string_value(json_object_get(part, "name")),
                       gpu_number(part, "ms"));
    }
    outcome_figure(outcome, "total_ms", total);
    outcome_figure(outcome, "steady_ms", gpu_number(cold, "steady_ms"));
    for (size_t i = 0; cold && i < sizeof wanted / sizeof *wanted; i++)
        if (!(gpu_number(find(parts, "name", wanted[i]), "ms") > 0))
            outcome_fail(outcome, "%s took no time: its stopwatch is not pressed on a GPU",
                         wanted[i]);
    if (cold && !(fabs(sum - total) <= 1e-3 * total))
        outcome_fail(outcome, "the parts are %.1f ms, the total %.1f ms", sum, total);
    if (cold && !(gpu_number(cold, "first_ms") > gpu_number(cold, "steady_ms")))
        outcome_fail(outcome, "the first step takes no longer than the later ones");
    if (cold && !(gpu_number(find(parts, "name", "other"), "ms") <= 0.2 * total))
        outcome_fail(outcome, "%.1f of %.1f ms have no name",
                     gpu_number(find(parts, "name", "other"), "ms"), total);
    json_decref(objects);
}

/* A clock that does not wait must see less; were inputs copied from pageable memory, the call would
 * wait for them. */
void gpu_test_nosync(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        gpu_layertop(context, NULL, "demo:resnet50 -c 'devices 0; batch 64; bench --nosync'");
    const json_t *bench = gpu_data(objects, "bench", outcome);
    double returned = gpu_number(bench, "returned_ms"), wall = gpu_number(bench, "wall_ms");
    outcome_figure(outcome, "returned_ms", returned);
    outcome_figure(outcome, "wall_ms", wall);
    outcome_figure(outcome, "ratio", gpu_number(bench, "ratio"));
    if (bench && !json_is_true(json_object_get(bench, "applies")))
        outcome_fail(outcome, "the trap is said not to be there on a GPU");
    if (bench && !(returned < wall && gpu_number(bench, "ratio") > 2))
        outcome_fail(outcome, "a call comes back after %.3f of %.3f ms: it waits for the GPU",
                     returned, wall);
    json_decref(objects);
}

/* What CUPTI and the libraries take is no part of the context, and CUPTI's is gone without it. */
void gpu_test_memory_parts(const struct context *context, struct outcome *outcome)
{
    static const char *const keys[] = {"cupti_bytes", "library_bytes", "context_bytes"};
    json_t *objects = gpu_layertop(context, NULL,
                                   "demo:resnet50 -c 'devices 0; profile cupti; batch 8; run 200; "
                                   "mem; profile off; run 20; mem'");
    gpu_data(objects, "mem", outcome);
    const json_t *traced = gpu_memory_at(objects, 0), *plain = gpu_memory_at(objects, 1);
    for (int i = 0; i < 3; i++) {
        double bytes = gpu_number(traced, keys[i]);
        outcome_figure(outcome, keys[i], bytes);
        if (traced && !(bytes > (i == 1 ? -1 : 0)))
            outcome_fail(outcome, "%s is not known while CUPTI traces", keys[i]);
    }
    outcome_figure(outcome, "context_without_cupti_bytes", gpu_number(plain, "context_bytes"));
    if (plain && gpu_number(plain, "cupti_bytes") > 0)
        outcome_fail(outcome, "%.0f bytes are CUPTI's without CUPTI",
                     gpu_number(plain, "cupti_bytes"));
    double apart = fabs(gpu_number(traced, "context_bytes") - gpu_number(plain, "context_bytes"));
    if (outcome->passed && !(apart <= fmax(0.1 * gpu_number(plain, "context_bytes"), 64 << 20)))
        outcome_fail(outcome,
                     "the context has %.0f bytes more or less with CUPTI: what it takes is "
                     "counted as the context's",
                     apart);
    json_decref(objects);
}

/* Pictures as a part of the step: made in front of it, then behind the step before. */
void gpu_test_pipeline(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        gpu_layertop(context, NULL,
                     "demo:resnet50 -c 'devices 0; profile cupti; batch 16; parallel_calls 8; "
                     "picture 500x375; pipeline serial; "
                     "run 30; pipeline overlap; run 30; pipeline off; run 30'");
    gpu_data(objects, "run", outcome);
    double wall[3], hidden[3], preprocess[3];
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"serial", "overlap", "off"};
        const json_t *run = data_at(objects, "run", i);
        wall[i] = gpu_nested(run, "wall_ms", "median");
        preprocess[i] = gpu_nested(run, "ledger", "preprocess_ms");
        hidden[i] = gpu_nested(run, "ledger", "hidden_preprocess_ms");
        json_object_set_new(outcome->figures, names[i],
                            json_pack("{s:f, s:f, s:f}", "wall_ms", wall[i], "preprocess_ms",
                                      preprocess[i], "hidden_preprocess_ms", hidden[i]));
    }
    if (outcome->passed && !(preprocess[0] > 0 && preprocess[2] <= 0))
        outcome_fail(outcome, "preprocess is %.3f ms with a pipeline and %.3f ms without",
                     preprocess[0], preprocess[2]);
    if (outcome->passed && !(wall[0] > wall[2] && wall[0] - wall[2] > 0.5 * preprocess[0]))
        outcome_fail(outcome, "a step of %.3f ms is no longer than one without pictures, %.3f ms",
                     wall[0], wall[2]);
    if (outcome->passed && !(hidden[1] > 0 && wall[1] < wall[0]))
        outcome_fail(outcome, "nothing is hidden: %.3f ms overlapped against %.3f ms in a row",
                     wall[1], wall[0]);
    json_decref(objects);
}

/* The same pictures resized and scaled on the GPU: the host only decodes, and bytes are copied. */
void gpu_test_pictures(const struct context *context, struct outcome *outcome)
{
    static const char *const names[] = {"cpu_serial", "gpu_serial", "gpu_overlap"};
    json_t *objects = gpu_layertop(
        context, NULL,
        "demo:resnet50 -c 'devices 0; profile cupti; batch 64; parallel_calls 8; picture 224x224; "
        "pipeline serial; run 20; preprocess_on gpu; run 20; pipeline overlap; run 20'");
    gpu_data(objects, "run", outcome);
    for (size_t i = 0; i < 3 && outcome->passed; i++) {
        const json_t *run = data_at(objects, "run", i),
                     *pipeline = json_object_get(run, "pipeline");
        json_object_set_new(outcome->figures, names[i], json_deep_copy(pipeline));
        if (i == 0)
            continue;
        double bytes = gpu_number(pipeline, "copied_bytes");
        if (!(bytes > 64.0 * 224 * 224 * 3 && bytes < 1.01 * 64 * 224 * 224 * 3))
            outcome_fail(outcome, "%s: %.0f bytes are copied, not a quarter of the floats",
                         names[i], bytes);
        if (!(gpu_number(pipeline, "copy_ms") > 0 && gpu_number(pipeline, "gpu_ms") > 0))
            outcome_fail(outcome, "%s: the device's clocks do not run", names[i]);
        if (!(gpu_number(pipeline, "gpu_ms") <
              gpu_number(json_object_get(data_at(objects, "run", 0), "pipeline"), "resize_ms")))
            outcome_fail(outcome, "%s: the GPU resizes more slowly than the CPU", names[i]);
    }
    outcome_figure(outcome, "hidden_copy_ms",
                   gpu_nested(data_at(objects, "run", 2), "ledger", "hidden_copy_ms"));
    json_decref(objects);
}

/* Copies of a step are as `host_memory` says, and pageable ones take longer. */
void gpu_test_host_memory(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(
        context, NULL,
        "demo:resnet50 -c 'devices 0; profile cupti; batch 64; run 50; host_memory pageable; run "
        "50'");
    gpu_data(objects, "run", outcome);
    double rate[2] = {NAN, NAN};
    for (size_t i = 0; i < 2 && outcome->passed; i++) {
        size_t index;
        json_t *copy;
        bool pageable = i == 1;
        json_array_foreach(json_object_get(data_at(objects, "run", i), "copies"), index, copy)
        {
            /* the largest is the batch of pictures */
            if (gpu_number(copy, "bytes_per_step") > 1e6 &&
                json_is_true(json_object_get(copy, "pageable")) == pageable)
                rate[i] = gpu_number(copy, "bytes_per_s");
        }
        outcome_figure(outcome, pageable ? "pageable_bytes_per_s" : "pinned_bytes_per_s", rate[i]);
        if (!(rate[i] > 0))
            outcome_fail(outcome, "host_memory %s: no such copy was seen",
                         pageable ? "pageable" : "pinned");
    }
    if (outcome->passed && !(rate[0] > rate[1]))
        outcome_fail(outcome, "pinned memory is copied at %.3g, pageable at %.3g byte/s", rate[0],
                     rate[1]);
    json_decref(objects);
}

/* Do the layers with weights say that they compute in bytes, and the others that they do not? */
static void check_bytes(const json_t *layers, struct outcome *outcome)
{
    size_t index, bytes = 0;
    json_t *layer;
    json_array_foreach(json_object_get(layers, "layers"), index, layer)
    {
        const char *precision = json_string_value(json_object_get(layer, "precision"));
        const char *class = json_string_value(json_object_get(layer, "class"));
        bool weights = class && (strcmp(class, "Conv2D") == 0 || strcmp(class, "Dense") == 0);
        bool counted = precision && strncmp(precision, "int8", 4) == 0;
        bytes += counted;
        if (counted != weights)
            outcome_fail(outcome, "layer %s (%s) computes in %s",
                         json_string_value(json_object_get(layer, "name")), class ? class : "null",
                         precision ? precision : "null");
    }
    outcome_figure(outcome, "layers_in_bytes", (double)bytes);
}

/* cuBLASLt's kernels of bytes by their names ("i8i32", "s8", "imma"), as CUPTI saw them. */
static void check_kernels(const json_t *kernels, struct outcome *outcome)
{
    static const char *const words[] = {"i8", "s8", "imma", "I8", "IMMA"};
    size_t index, found = 0, own = 0;
    json_t *row, *names = json_array();
    json_array_foreach(json_object_get(kernels, "kernels"), index, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        bool products = false;
        for (size_t i = 0; name && i < sizeof words / sizeof words[0]; i++)
            products |= strstr(name, words[i]) != NULL;
        found += products;
        own += name && strstr(name, "quantise") != NULL;
        if (name)
            json_array_append_new(names, json_string(name));
    }
    json_object_set_new(outcome->figures, "kernels", names);
    if (kernels && found == 0)
        outcome_fail(outcome, "no kernel has the name of a product of bytes");
    if (kernels && own == 0)
        outcome_fail(outcome, "no kernel of ours made bytes");
}

/* int8: the digits' accuracy within a point of float32's and the kernels those of bytes; then a
 * network of the usual size, as fast as it is. */
void gpu_test_int8(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        gpu_layertop(context, NULL,
                     "-c 'devices 0; profile cupti; load demo:digits; calibrate; precision int8; "
                     "run 30; layers; kernels; evaluate'");
    const json_t *evaluate = gpu_data(objects, "evaluate", outcome);
    double accuracy = gpu_number(evaluate, "accuracy");
    double reference = gpu_number(evaluate, "reference_accuracy");
    outcome_figure(outcome, "accuracy", accuracy);
    outcome_figure(outcome, "reference_accuracy", reference);
    outcome_figure(outcome, "agreement", gpu_number(evaluate, "agreement"));
    outcome_figure(outcome, "output_error", gpu_nested(evaluate, "output_error", "max"));
    if (evaluate && !(accuracy >= reference - 0.01))
        outcome_fail(outcome, "the accuracy is %.3f, in float32 %.3f", accuracy, reference);
    check_bytes(gpu_data(objects, "layers", outcome), outcome);
    check_kernels(gpu_data(objects, "kernels", outcome), outcome);
    json_decref(objects);
    objects =
        gpu_layertop(context, NULL,
                     "demo:resnet50 -c 'devices 0; profile off; batch 64; calibrate --random; "
                     "run 30; precision fp16; run 30; precision int8; run 30'");
    gpu_data(objects, "run", outcome);
    double ms[3];
    for (size_t i = 0; i < 3; i++)
        ms[i] = gpu_nested(data_at(objects, "run", i), "wall_ms", "median");
    outcome_figure(outcome, "fp32_ms", ms[0]);
    outcome_figure(outcome, "fp16_ms", ms[1]);
    outcome_figure(outcome, "int8_ms", ms[2]);
    outcome_figure(outcome, "speedup_over_fp32", ms[0] / ms[2]);
    json_decref(objects);
}

/* Sixty tiny layers launched one by one: the first advice is to launch them at once, and trying it
 * shows a gain. */
void gpu_test_advise(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(context, NULL,
                                   "demo:mlp60 -c 'devices 0; profile cupti; batch 1; graph off; "
                                   "run 300; advise; advise --try --rounds 6'");
    gpu_data(objects, "advise", outcome);
    const json_t *advise = data_at(objects, "advise", 0), *tried = data_at(objects, "advise", 1);
    const char *first = json_string_value(json_object_get(advise, "first"));
    const json_t *advice = find(json_object_get(advise, "advice"), "id", first ? first : "");
    outcome_figure(outcome, "step_ms", gpu_number(advise, "step_ms"));
    outcome_figure(outcome, "advice", (double)json_array_size(json_object_get(advise, "advice")));
    if (first)
        json_object_set_new(outcome->figures, "first", json_string(first));
    outcome_figure(outcome, "predicted", gpu_number(advice, "speedup"));
    if (outcome->passed && !first)
        outcome_fail(outcome, "nothing is advised for sixty layers launched one by one");
    size_t index, faster = 0;
    json_t *trial;
    json_array_foreach(json_object_get(tried, "tried"), index, trial)
    {
        const char *change = json_string_value(json_object_get(trial, "change"));
        const char *verdict = json_string_value(json_object_get(trial, "verdict"));
        double speedup = gpu_number(trial, "speedup");
        outcome_figure(outcome, change ? change : "?", speedup);
        faster += verdict && strcmp(verdict, "faster") == 0;
        if (verdict && strcmp(verdict, "failed") == 0)
            outcome_fail(outcome, "trying %s failed: %s", change,
                         json_string_value(json_object_get(trial, "error")));
    }
    if (outcome->passed && faster == 0)
        outcome_fail(outcome, "of %zu advised changes none was measured to be faster", index);
    json_decref(objects);
}

/* The commands of every lesson, one worker for all: what a class types must not fail on a GPU. */
void gpu_test_lessons(const struct context *context, struct outcome *outcome)
{
    struct error error = {0};
    char path[512];
    json_t *files = lesson_files(&error), *file;
    size_t index, commands = 0;
    snprintf(path, sizeof path, "%s/lessons.lt", context->work);
    FILE *script = fopen(path, "w");
    if (!files || !script)
        outcome_fail(outcome, "no lessons: %s", files ? path : error.why);
    json_array_foreach(files, index, file)
    {
        struct lesson *lesson = lesson_read(json_string_value(file), &error);
        if (!lesson) {
            outcome_fail(outcome, "%s: %s", error.what, error.why);
            continue;
        }
        for (size_t i = 0; script && i < lesson->count; i++)
            if (lesson->items[i].command) {
                fprintf(script, "%s\n", lesson->items[i].command);
                commands++;
            }
        lesson_free(lesson);
    }
    if (script)
        fclose(script);
    int code = 0;
    json_t *objects = outcome->passed ? gpu_layertop(context, &code, "-c 'devices 0' -f '%s'", path)
                                      : json_array();
    size_t done = 0;
    json_array_foreach(objects, index, file)
    {
        done += json_is_true(json_object_get(file, "ok"));
    }
    outcome_figure(outcome, "lesson_commands", (double)commands);
    outcome_figure(outcome, "commands_done", (double)done);
    if (outcome->passed && code != 0) {
        const json_t *last = json_array_get(objects, json_array_size(objects) - 1);
        const json_t *why = json_object_get(last, "error");
        const char *message = json_string_value(json_object_get(why, "message"));
        outcome_fail(outcome, "after %zu commands %s exits %d: %s", done,
                     json_string_value(json_object_get(last, "cmd")), code,
                     message ? message : "no message");
    }
    json_decref(objects);
    json_decref(files);
}
