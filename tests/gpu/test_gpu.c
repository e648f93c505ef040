/* make test-gpu: what only a machine with an NVIDIA GPU can show.
 *
 *   test_gpu --list                      the names of all tests
 *   test_gpu --unverified DIR CONTENT    the text of UNVERIFIED.md: tests of the list that no
 *                                        DIR/gpu-*.json shows as passed at this content
 *   test_gpu --layertop BIN --data DIR --out DIR --content HASH --commit NAME [TEST...]
 *
 * Runs the tests, prints TAP, and writes OUT/gpu-DATE.json: date, device (name, UUID, driver),
 * versions, commit, the content hash of engine/cuda and profiler, and one row a test with its
 * figures. Nothing else writes these files. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <hdf5.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/npy.h"
#include "engine/random.h"
#include "support/gpu.h"
#include "support/gpu_devices.h"
#include "support/gpu_profiler.h"
#include "support/vt.h"

struct gpu_test {
    const char *name;
    void (*run)(const struct context *context, struct outcome *outcome);
};

/* All tests together; a run on a borrowed machine is ended after ten minutes. */
#define SECONDS_TOTAL 520
#define PROBE_SECONDS 110
#define OPS_SECONDS   120
#define HALF_SECONDS  60

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double nested(const json_t *object, const char *outer, const char *inner)
{
    return number(json_object_get(object, outer), inner);
}

/* --- answers ------------------------------------------------------------------------------- */

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

static void test_device_usable(const struct context *context, struct outcome *outcome)
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

static void test_answers_h5(const struct context *context, struct outcome *outcome)
{
    char model[512];
    snprintf(model, sizeof model, "%s/digits.h5", getenv("LAYERTOP_DIGITS"));
    check_answers(context, outcome, model, "precision fp32", 2e-5);
}

static void test_answers_keras(const struct context *context, struct outcome *outcome)
{
    char model[512];
    snprintf(model, sizeof model, "%s/digits.keras", getenv("LAYERTOP_DIGITS"));
    check_answers(context, outcome, model, "precision fp32", 2e-5);
}

static void test_answers_unfused(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "fusion off; precision fp32", 2e-5);
}

static void test_answers_tf32(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "precision tf32", 2e-3);
}

static void test_answers_fp16(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "precision fp16", 5e-3);
}

static void test_answers_bf16(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "precision bf16", 4e-2);
}

static void test_answers_nchw(const struct context *context, struct outcome *outcome)
{
    check_answers(context, outcome, "demo:digits", "layout nchw; precision fp16", 5e-3);
    if (outcome->passed)
        check_answers(context, outcome, "demo:digits", "layout nchw; precision fp32", 2e-5);
}

/* Measured kernels give the answers that the heuristics' give, and a second start measures nothing:
 * the plan cache is below OUT for the time of this test. */
static void test_autotune(const struct context *context, struct outcome *outcome)
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
static void test_graph_answers(const struct context *context, struct outcome *outcome)
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

/* --- kernels per layer ---------------------------------------------------------------------- */

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
        double sum = 0, wall = nested(run, "ledger", "wall_ms");
        size_t index;
        json_t *layer;
        int busy = 0;
        json_array_foreach(json_object_get(run, "layers"), index, layer)
        {
            const char *name = json_string_value(json_object_get(layer, "name"));
            if (json_is_string(json_object_get(layer, "fused_into")) || number(layer, "flops") <= 0)
                continue;
            double time = number(layer, "time_ms"), kernels = number(layer, "kernels");
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
        outcome_figure(outcome, "unexplained_ms", nested(run, "ledger", "unexplained_ms"));
        outcome_figure(outcome, "throughput_per_s", number(run, "throughput_per_s"));
        if (busy == 0)
            outcome_fail(outcome, "no layer ran");
        if (!(sum <= wall * 1.001))
            outcome_fail(outcome, "the layers' %.3f ms do not fit in the wall's %.3f ms", sum,
                         wall);
        /* between the last copy's end and the host's waking up nothing is recorded */
        if (!(fabs(nested(run, "ledger", "unexplained_ms")) <= fmax(0.05 * wall, 0.03)))
            outcome_fail(outcome, "%.3f of %.3f ms unexplained",
                         nested(run, "ledger", "unexplained_ms"), wall);
    }
    json_decref(objects);
}

static void test_layers_cupti(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile cupti; graph off", "cupti");
}

/* A plan that is not captured says so in a warning; one that is replayed launches once a step. */
static void test_layers_cupti_graph(const struct context *context, struct outcome *outcome)
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

static void test_layers_cupti_unfused(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile cupti; graph off; fusion off", "cupti");
}

static void test_layers_events(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile events; graph off", "events");
}

/* The profiler's cost: medians of alternating runs with CUPTI and with nothing. */
static void test_profiler_cost(const struct context *context, struct outcome *outcome)
{
    double ratio[3] = {NAN, NAN, NAN};
    for (int pair = 0; pair < 3 && outcome->passed; pair++) {
        double wall[2] = {NAN, NAN};
        for (int which = 0; which < 2; which++) {
            json_t *objects = gpu_layertop(
                context, NULL, "demo:digits -c 'devices 0; profile %s; batch 32; run 500'",
                which ? "cupti" : "off");
            const json_t *run = gpu_data(objects, "run", outcome);
            wall[which] = nested(run, "wall_ms", "median");
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

/* --- memory --------------------------------------------------------------------------------- */

static void test_memory_plan(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(
        context, NULL, "demo:digits -c 'devices 0; profile off; growth on; batch 4096; run 5'");
    const json_t *run = gpu_data(objects, "run", outcome);
    double planned = nested(run, "memory", "planned_bytes");
    double measured = nested(run, "memory", "measured_bytes");
    outcome_figure(outcome, "planned_bytes", planned);
    outcome_figure(outcome, "measured_bytes", measured);
    outcome_figure(outcome, "context_bytes", nested(run, "memory", "context_bytes"));
    double allowed = fmax(0.01 * planned, 8 << 20);
    if (outcome->passed && !(fabs(planned - measured) <= allowed))
        outcome_fail(outcome, "planned %.0f, measured %.0f bytes", planned, measured);
    json_decref(objects);
}

static void test_growth_off(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(
        context, NULL, "-c 'devices 0; growth off; batch 8; load demo:digits; run 5; mem'");
    const json_t *memory = gpu_data(objects, "mem", outcome);
    const json_t *device = json_array_get(json_object_get(memory, "devices"), 0);
    double idle = number(device, "idle_bytes"), total = number(device, "total_bytes");
    outcome_figure(outcome, "idle_bytes", idle);
    outcome_figure(outcome, "total_bytes", total);
    if (outcome->passed && !(idle > 0.5 * total))
        outcome_fail(outcome, "growth off reserved only %.0f of %.0f bytes", idle, total);
    json_decref(objects);
}

static void test_limit(const struct context *context, struct outcome *outcome)
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

/* --- the screen ----------------------------------------------------------------------------- */

static void test_screen(const struct context *context, struct outcome *outcome)
{
    const char *const argv[] = {context->layertop, "demo:digits", NULL};
    struct vt *vt = vt_start(40, 140, argv, NULL);
    if (!vt || !vt_wait(vt, "live", 40000))
        outcome_fail(outcome, "no live screen within 40 s: %.1500s", vt ? vt_text(vt) : "no pty");
    if (vt && outcome->passed) {
        vt_type(vt, "devices cpu,0\r");
        if (!vt_wait(vt, "GPU|gpu:0", 40000))
            outcome_fail(outcome, "no GPU on the screen after `devices cpu,0`");
        vt_type(vt, "devices 0\r");
        vt_pump(vt, 3000);
        if (!vt_wait(vt, "cupti", 30000))
            outcome_fail(outcome, "the screen does not name cupti as its timing source");
        vt_type(vt, "batch 4\r");
        if (!vt_wait(vt, "b4", 10000))
            outcome_fail(outcome, "`batch 4` did not reach the prompt within 10 s");
        vt_pump(vt, 1500);
        char path[512];
        snprintf(path, sizeof path, "%s/gpu-screen.txt", context->out);
        FILE *file = fopen(path, "w");
        const char *text = vt_text(vt);
        if (file) {
            fputs(text, file);
            fclose(file);
        }
    }
    if (vt)
        vt_free(vt);
}

/* --- recording ------------------------------------------------------------------------------ */

static void test_raw_recording(const struct context *context, struct outcome *outcome)
{
    char path[700], raw[720];
    snprintf(path, sizeof path, "%s/gpu-recording", context->out);
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

/* The first process whose parent is `parent`, 0 if there is none (not every machine has pkill, nor
 * every kernel /proc/PID/task/PID/children). */
static pid_t child_of(pid_t parent)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    pid_t found = 0;
    while (processes && !found && (entry = readdir(processes))) {
        char path[300], text[512] = "";
        int of = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = atoi(entry->d_name) > 0 ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        const char *after = strrchr(text, ')'); /* pid (name) state ppid */
        if (after && sscanf(after + 1, " %*c %d", &of) == 1 && of == parent)
            found = atoi(entry->d_name);
    }
    if (processes)
        closedir(processes);
    return found;
}

static void test_worker_killed(const struct context *context, struct outcome *outcome)
{
    const char *const argv[] = {context->layertop, "demo:digits", NULL};
    struct vt *vt = vt_start(30, 120, argv, NULL);
    if (!vt || !vt_wait(vt, "live", 40000))
        outcome_fail(outcome, "no live screen within 40 s: %.1500s", vt ? vt_text(vt) : "no pty");
    if (vt && outcome->passed) {
        pid_t worker = child_of(vt_pid(vt));
        if (worker <= 0 || kill(worker, SIGKILL) != 0)
            outcome_fail(outcome, "no worker to kill");
        if (!vt_wait(vt, "worker ended: signal 9", 3000))
            outcome_fail(outcome, "the screen does not say that the worker ended");
        vt_type(vt, "start\r");
        /* the header's state, not a word of the log */
        if (!vt_wait(vt, "digits +[^ ]+ live", 40000) || !vt_wait(vt, "gpu:0", 5000))
            outcome_fail(outcome, "`start` did not bring the GPU back: %.1500s", vt_text(vt));
    }
    if (vt)
        vt_free(vt);
}

/* --- programs of their own ------------------------------------------------------------------ */

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

/* The largest value's place in a row, and by how much it leads. */
static size_t first_of(const double *row, size_t width, double *margin)
{
    size_t best = 0;
    double second = -INFINITY;
    for (size_t i = 1; i < width; i++)
        best = row[i] > row[best] ? i : best;
    for (size_t i = 0; i < width; i++)
        second = i != best && row[i] > second ? row[i] : second;
    *margin = row[best] - second;
    return best;
}

/* How many of the five largest of one row are among those of the other. */
static int overlap_of(const double *a, const float *b, size_t width)
{
    int both = 0;
    for (size_t i = 0; i < width; i++) {
        size_t above_a = 0, above_b = 0;
        for (size_t j = 0; j < width; j++) {
            above_a += a[j] > a[i];
            above_b += b[j] > b[i];
        }
        both += above_a < 5 && above_b < 5;
    }
    return both;
}

/* `predict` of four random pictures on a device, as floats; NULL and the outcome says why. */
static float *network_answers(const struct context *context, struct outcome *outcome,
                              const char *model, const char *settings, const char *pictures,
                              size_t count)
{
    char output[512];
    snprintf(output, sizeof output, "%s/network.npy", context->work);
    unlink(output);
    json_t *objects = gpu_layertop(context, NULL, "-c '%s; batch 4; load %s; predict %s %s'",
                                   settings, model, pictures, output);
    gpu_data(objects, "predict", outcome);
    json_decref(objects);
    struct error error = {0};
    struct npy_file *file = outcome->passed ? npy_open(output, &error) : NULL;
    float *copy = NULL;
    if (outcome->passed && file == NULL)
        outcome_fail(outcome, "%s: %s", error.what, error.why);
    else if (file && (npy_at(file, 0)->dtype != DTYPE_F32 ||
                      shape_elements(&npy_at(file, 0)->shape) != (int64_t)count))
        outcome_fail(outcome, "the answer has another shape or dtype than foreseen");
    else if (file)
        copy = memcpy(malloc(count * sizeof *copy), npy_at(file, 0)->data, count * sizeof *copy);
    if (file)
        npy_close(file);
    return copy;
}

static bool write_pictures(const char *path)
{
    struct random dice;
    int64_t dims[] = {4, 224, 224, 3};
    struct npy_array array = {.name = "", .dtype = DTYPE_F32, .shape = shape_of(4, dims)};
    size_t count = (size_t)shape_elements(&array.shape);
    float *values = malloc(count * sizeof *values);
    random_seed(&dice, 11);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(random_next(&dice) % 256);
    array.data = values;
    array.bytes = count * sizeof *values;
    bool good = npy_write(path, &array, 1, NULL);
    free(values);
    return good;
}

/* Whole networks against our own CPU in float32, which real Keras was held against: the largest
 * difference, the five best classes, and the best one where it leads by twice the tolerance. */
static void test_networks(const struct context *context, struct outcome *outcome)
{
    static const char *const models[] = {"demo:mobilenetv2", "demo:resnet50",
                                         "demo:efficientnetb0"};
    static const struct {
        const char *name;
        double tolerance;
    } precisions[] = {{"fp32", 1e-4}, {"tf32", 1e-2}, {"fp16", 3e-2}, {"bf16", 1e-1}};
    enum { ROWS = 4, WIDTH = 1000, COUNT = ROWS * WIDTH };
    char pictures[300], settings[64], key[64];
    snprintf(pictures, sizeof pictures, "%s/pictures.npy", context->work);
    if (!write_pictures(pictures))
        outcome_fail(outcome, "%s cannot be written", pictures);
    for (size_t m = 0; m < 3 && outcome->passed; m++) {
        float *cpu = network_answers(context, outcome, models[m], "devices cpu; precision fp32",
                                     pictures, COUNT);
        double *expected = malloc(COUNT * sizeof *expected);
        for (size_t i = 0; cpu && i < COUNT; i++)
            expected[i] = (double)cpu[i];
        for (size_t p = 0; cpu && p < 4; p++) {
            snprintf(settings, sizeof settings, "devices 0; precision %s", precisions[p].name);
            float *gpu = network_answers(context, outcome, models[m], settings, pictures, COUNT);
            if (!gpu)
                break;
            snprintf(key, sizeof key, "%s %s", models[m] + 5, precisions[p].name);
            outcome_compare(outcome, gpu, expected, COUNT, precisions[p].tolerance, key);
            int least = 5;
            double largest = 0;
            for (size_t i = 0; i < COUNT; i++)
                largest = fmax(largest, expected[i]);
            for (size_t row = 0; row < ROWS; row++) {
                const double *wanted = expected + row * WIDTH;
                double margin;
                size_t best = first_of(wanted, WIDTH, &margin), got = 0;
                for (size_t i = 1; i < WIDTH; i++)
                    got = gpu[row * WIDTH + i] > gpu[row * WIDTH + got] ? i : got;
                if (margin > 2 * precisions[p].tolerance * largest && got != best)
                    outcome_fail(outcome, "%s: picture %zu is class %zu, not %zu", key, row, got,
                                 best);
                int overlap = overlap_of(wanted, gpu + row * WIDTH, WIDTH);
                least = overlap < least ? overlap : least;
            }
            snprintf(key, sizeof key, "%s %s top5", models[m] + 5, precisions[p].name);
            outcome_figure(outcome, key, least);
            free(gpu);
        }
        free(expected);
        free(cpu);
    }
}

static void test_ops(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "", OPS_SECONDS);
}

static void test_ops_fp16(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "fp16", HALF_SECONDS);
}

static void test_ops_bf16(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "bf16", HALF_SECONDS);
}

static void test_precision(const struct context *context, struct outcome *outcome)
{
    run_ops(context, outcome, "precision", OPS_SECONDS);
}

static void test_probe(const struct context *context, struct outcome *outcome)
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
static void test_deviceprop(const struct context *context, struct outcome *outcome)
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

/* the plain path first, riskiest facts next, what takes longest last: time may run out */
static const struct gpu_test tests[] = {
    {"device_usable", test_device_usable},
    {"cudnn_deviceprop", test_deviceprop},
    {"answers_keras_fp32", test_answers_keras},
    {"answers_h5_fp32", test_answers_h5},
    {"graph_on_equals_off", test_graph_answers},
    {"answers_unfused_fp32", test_answers_unfused},
    {"answers_tf32", test_answers_tf32},
    {"answers_fp16", test_answers_fp16},
    {"answers_bf16", test_answers_bf16},
    {"answers_nchw", test_answers_nchw},
    {"autotune_on_off_cached", test_autotune},
    {"layers_have_kernels_cupti", test_layers_cupti},
    {"layers_have_kernels_cupti_graph", test_layers_cupti_graph},
    {"layers_have_kernels_cupti_unfused", test_layers_cupti_unfused},
    {"layers_have_times_events", test_layers_events},
    {"switches_lose_no_records", gpu_test_switch},
    {"bursts_refresh_layers", gpu_test_bursts},
    {"kernel_counts_are_the_engines", gpu_test_kernel_counts},
    {"ledger_explains_steps", gpu_test_ledger},
    {"spin_kernels_take_their_clocks", gpu_test_spin},
    {"repeats_agree_with_events", gpu_test_repeat},
    {"graph_launches_agree_with_events", gpu_test_launch},
    {"cuda_ops", test_ops},
    {"cuda_ops_fp16", test_ops_fp16},
    {"cuda_ops_bf16", test_ops_bf16},
    {"pictures_layouts_tuning", test_precision},
    {"networks_all_precisions", test_networks},
    {"memory_plan_against_outside", test_memory_plan},
    {"growth_off_reserves", test_growth_off},
    {"limit_keeps_old_plan", test_limit},
    {"out_of_memory_a_thousand_times", gpu_test_oom_thousand},
    {"out_of_memory_forced", gpu_test_oom_forced},
    {"logical_devices_share_batches", gpu_test_logical},
    {"batch_max_is_exact", gpu_test_batch_max},
    {"batch_max_beside_a_ballast", gpu_test_batch_max_ballast},
    {"compare_concurrent", gpu_test_compare},
    {"proof_against_cpu", gpu_test_proof},
    {"raw_recording", test_raw_recording},
    {"live_screen", test_screen},
    {"screens_of_a_session", gpu_test_screens},
    {"a_million_replayed_kernels", gpu_test_million},
    {"worker_killed_on_gpu", test_worker_killed},
    {"cupti_probe", test_probe},
    {"profiler_cost", test_profiler_cost},
};
#define TEST_COUNT (sizeof tests / sizeof *tests)

/* what no single GPU can show */
static const char *const out_of_reach[] = {
    "several GPUs split the batches",
    "architectures other than the one tested",
    "a GPU in MIG mode, behind vGPU, or in confidential computing",
};

/* Has `test` passed in one of the results at `content`? */
static bool verified(const char *folder, const char *content, const char *test)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;
    bool found = false;
    while (directory && !found && (entry = readdir(directory))) {
        if (strncmp(entry->d_name, "gpu-", 4) != 0 || !strstr(entry->d_name, ".json"))
            continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        json_t *result = json_load_file(path, 0, NULL);
        const char *of = json_string_value(json_object_get(result, "content"));
        size_t index;
        json_t *row;
        if (of && strcmp(of, content) == 0)
            json_array_foreach(json_object_get(result, "tests"), index, row)
            {
                const char *name = json_string_value(json_object_get(row, "name"));
                if (name && strcmp(name, test) == 0 && json_is_true(json_object_get(row, "passed")))
                    found = true;
            }
        json_decref(result);
    }
    if (directory)
        closedir(directory);
    return found;
}

static int print_unverified(const char *folder, const char *content)
{
    printf("# Not yet seen on a GPU\n\n");
    printf("Written by `make unverified`: the tests of `make test-gpu` that have not passed at the "
           "present content\nof `engine/cuda` and `profiler`. Whatever stands here is not known to "
           "work.\n\n");
    for (size_t i = 0; i < TEST_COUNT; i++)
        if (!verified(folder, content, tests[i].name))
            printf("- %s\n", tests[i].name);
    printf("\n## Out of reach\n\nWhat no single GPU can show.\n\n");
    for (size_t i = 0; i < sizeof out_of_reach / sizeof *out_of_reach; i++)
        printf("~ %s\n", out_of_reach[i]);
    return 0;
}

static bool chosen(const char *name, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 0;
}

int main(int argc, char **argv)
{
    struct context context = {.content = "", .commit = "", .out = ".", .data = "."};
    char here[512];
    ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
    here[length > 0 ? length : 0] = 0;
    char *slash = strrchr(here, '/');
    if (slash)
        *slash = 0;
    context.program_dir = here;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < TEST_COUNT; i++)
            puts(tests[i].name);
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "--unverified") == 0)
        return print_unverified(argv[2], argv[3]);
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        const char **slot = strcmp(argv[at], "--layertop") == 0  ? &context.layertop
                            : strcmp(argv[at], "--data") == 0    ? &context.data
                            : strcmp(argv[at], "--out") == 0     ? &context.out
                            : strcmp(argv[at], "--content") == 0 ? &context.content
                            : strcmp(argv[at], "--commit") == 0  ? &context.commit
                                                                 : NULL;
        if (!slot)
            break;
        *slot = argv[at + 1];
    }
    if (!context.layertop) {
        fprintf(stderr, "usage: test_gpu --list | --unverified DIR CONTENT | --layertop BIN ...\n");
        return 2;
    }
    snprintf(context.work, sizeof context.work, "%s/work-XXXXXX", context.out);
    if (!mkdtemp(context.work)) {
        fprintf(stderr, "test_gpu: %s: %s\n", context.work, strerror(errno));
        return 2;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);

    context.deadline = gpu_now() + SECONDS_TOTAL;
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    char date[32], path[700];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_t *result =
        json_pack("{s:s, s:s, s:s, s:s, s:[]}", "date", date, "command", "make test-gpu", "commit",
                  context.commit, "content", context.content, "tests");
    int code;
    struct outcome listing = {.passed = true, .figures = json_object()};
    gpu_begin(&context, "devices");
    json_t *objects = gpu_layertop(&context, &code, "-c devices -c version");
    context.devices = json_deep_copy(gpu_data(objects, "devices", &listing));
    json_object_set(result, "devices", json_object_get(context.devices, "devices"));
    const json_t *version = gpu_data(objects, "version", &listing);
    gpu_explain(&context, &listing);
    if (!listing.passed)
        printf("# devices: %s\n", listing.why);
    if (version)
        json_object_set_new(result, "versions", json_deep_copy(version));

    int failed = 0, number_of = 0;
    for (size_t i = 0; i < TEST_COUNT; i++) {
        if (!chosen(tests[i].name, argc - at, argv + at))
            continue;
        struct outcome outcome = {.passed = true, .figures = json_object()};
        double begin = gpu_now();
        gpu_begin(&context, tests[i].name);
        if (begin + 5 < context.deadline)
            tests[i].run(&context, &outcome);
        else
            outcome_fail(&outcome, "not run: the %d s for all tests are over", SECONDS_TOTAL);
        gpu_explain(&context, &outcome);
        double seconds = gpu_now() - begin;
        char *figures = json_dumps(outcome.figures, JSON_COMPACT);
        printf("%sok %d - %s # %.1f s %s%s%s\n", outcome.passed ? "" : "not ", ++number_of,
               tests[i].name, seconds, outcome.why, outcome.why[0] ? " " : "", figures);
        fflush(stdout);
        free(figures);
        failed += !outcome.passed;
        json_t *row = json_pack("{s:s, s:b, s:f, s:o}", "name", tests[i].name, "passed",
                                outcome.passed, "seconds", seconds, "figures", outcome.figures);
        if (!outcome.passed)
            json_object_set_new(row, "why", json_string(outcome.why));
        json_array_append_new(json_object_get(result, "tests"), row);
        /* written after every test: a machine may be taken away in the middle */
        strftime(date, sizeof date, "%Y%m%dT%H%M%SZ", &utc);
        snprintf(path, sizeof path, "%s/gpu-%s.json", context.out, date);
        json_dump_file(result, path, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    }
    printf("1..%d\n", number_of);
    printf("%d passed, %d failed\n", number_of - failed, failed);
    json_decref(objects);
    json_decref(result);
    json_decref(context.devices);
    json_decref(listing.figures);
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'", context.work);
    if (system(command) != 0)
        return 2;
    return failed != 0;
}
