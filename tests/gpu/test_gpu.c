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
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/npy.h"
#include "support/vt.h"

struct context {
    const char *layertop, *data, *out, *content, *commit, *program_dir;
    char work[256];  /* a scratch folder */
    json_t *devices; /* data of the `devices` command */
};

struct outcome {
    bool passed;
    char why[600];
    json_t *figures; /* object */
};

struct gpu_test {
    const char *name;
    void (*run)(const struct context *context, struct outcome *outcome);
};

static void fail(struct outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void fail(struct outcome *outcome, const char *format, ...)
{
    if (!outcome->passed)
        return; /* the first reason stands */
    outcome->passed = false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(outcome->why, sizeof outcome->why, format, arguments);
    va_end(arguments);
}

static void figure(struct outcome *outcome, const char *key, double value)
{
    json_object_set_new(outcome->figures, key, isfinite(value) ? json_real(value) : json_null());
}

/* Run `layertop --json ARGS` with a shell; returns the array of its objects, *code its exit code. */
static json_t *layertop(const struct context *context, int *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static json_t *layertop(const struct context *context, int *code, const char *format, ...)
{
    char arguments[4096], command[8192];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(command, sizeof command, "timeout 120 '%s' --json %s 2>>'%s/stderr.txt' </dev/null",
             context->layertop, arguments, context->out);
    json_t *objects = json_array();
    FILE *pipe = popen(command, "r");
    char *line = NULL;
    size_t capacity = 0;
    while (pipe && getline(&line, &capacity, pipe) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        if (object)
            json_array_append_new(objects, object);
    }
    free(line);
    int status = pipe ? pclose(pipe) : -1;
    if (code)
        *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return objects;
}

/* data of the last object of a command, NULL if it failed or never came (borrowed). */
static const json_t *data_of(const json_t *objects, const char *command, struct outcome *outcome)
{
    const json_t *found = NULL;
    size_t index;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, "cmd"));
        if (name && strcmp(name, command) == 0)
            found = object;
    }
    if (!found) {
        fail(outcome, "no result of '%s'", command);
        return NULL;
    }
    if (!json_is_true(json_object_get(found, "ok"))) {
        const json_t *error = json_object_get(found, "error");
        fail(outcome, "'%s' failed: %s", command,
             json_string_value(json_object_get(error, "message")));
        return NULL;
    }
    return json_object_get(found, "data");
}

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

/* Read a dataset of reference.h5 as doubles; the caller frees. */
static double *reference(const struct context *context, const char *dataset, size_t *count)
{
    char path[512];
    snprintf(path, sizeof path, "%s/digits/reference.h5", context->data);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t set = file < 0 ? -1 : H5Dopen2(file, dataset, H5P_DEFAULT);
    double *values = NULL;
    if (set >= 0) {
        hid_t space = H5Dget_space(set);
        *count = (size_t)H5Sget_simple_extent_npoints(space);
        H5Sclose(space);
        values = calloc(*count, sizeof *values);
        if (H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
            free(values);
            values = NULL;
        }
        H5Dclose(set);
    }
    if (file >= 0)
        H5Fclose(file);
    return values;
}

/* max|y - y64| / max|y64| of `predict` on the reference inputs with `settings` before it. */
static void check_answers(const struct context *context, struct outcome *outcome, const char *model,
                          const char *settings, double tolerance)
{
    char output[512];
    snprintf(output, sizeof output, "%s/answer.npy", context->work);
    unlink(output);
    int code;
    json_t *objects =
        layertop(context, &code, "%s -c 'devices 0; %s' -c 'predict %s/digits/reference.h5:x %s'",
                 model, settings, context->data, output);
    data_of(objects, "predict", outcome);
    json_decref(objects);
    size_t count = 0;
    double *expected = reference(context, "y64", &count);
    struct error error = {0};
    struct npy_file *file = NULL;
    if (!expected) {
        fail(outcome, "no float64 answers in %s/digits/reference.h5", context->data);
    } else if (outcome->passed && (file = npy_open(output, &error)) == NULL) {
        fail(outcome, "%s: %s", error.what, error.why);
    } else if (outcome->passed) {
        double worst = 0, scale = 1e-6;
        const struct npy_array *answer = npy_at(file, 0);
        const float *values = answer->data;
        if (shape_elements(&answer->shape) != (int64_t)count || answer->dtype != DTYPE_F32)
            fail(outcome, "the answer has another shape or dtype than the reference");
        for (size_t i = 0; outcome->passed && i < count; i++) {
            worst = fmax(worst, fabs((double)values[i] - expected[i]));
            scale = fmax(scale, fabs(expected[i]));
            if (!isfinite(values[i]))
                fail(outcome, "answer %zu is not finite", i);
        }
        figure(outcome, "max_error", worst / scale);
        if (worst / scale > tolerance)
            fail(outcome, "error %.3g against float64, allowed %.3g", worst / scale, tolerance);
    }
    if (file)
        npy_close(file);
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
            fail(outcome, "%s: %s", id, json_string_value(json_object_get(device, "why")));
    }
    if (!usable)
        fail(outcome, "`devices` lists no usable GPU");
}

static void test_answers_h5(const struct context *context, struct outcome *outcome)
{
    char model[512];
    snprintf(model, sizeof model, "'%s/digits.h5'", getenv("LAYERTOP_DIGITS"));
    check_answers(context, outcome, model, "precision fp32", 2e-5);
}

static void test_answers_keras(const struct context *context, struct outcome *outcome)
{
    char model[512];
    snprintf(model, sizeof model, "'%s/digits.keras'", getenv("LAYERTOP_DIGITS"));
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

/* --- kernels per layer ---------------------------------------------------------------------- */

/* Every layer that is not folded into another and costs something has kernels and a time. */
static void check_layers(const struct context *context, struct outcome *outcome,
                         const char *settings, const char *source)
{
    int code;
    json_t *objects =
        layertop(context, &code, "demo:digits -c 'devices 0; %s; batch 32; run 200'", settings);
    const json_t *run = data_of(objects, "run", outcome);
    if (run) {
        const char *said = json_string_value(json_object_get(run, "timing_source"));
        if (!said || strcmp(said, source) != 0)
            fail(outcome, "timing source is %s, not %s", said ? said : "null", source);
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
                fail(outcome, "layer %s has no time", name);
            if (!(kernels >= 1))
                fail(outcome, "layer %s has no kernels", name);
            sum += time;
            busy++;
        }
        figure(outcome, "layers", busy);
        figure(outcome, "sum_of_layers_ms", sum);
        figure(outcome, "wall_ms", wall);
        figure(outcome, "unexplained_ms", nested(run, "ledger", "unexplained_ms"));
        figure(outcome, "throughput_per_s", number(run, "throughput_per_s"));
        if (busy == 0)
            fail(outcome, "no layer ran");
        if (!(sum <= wall * 1.001))
            fail(outcome, "the layers' %.3f ms do not fit in the wall's %.3f ms", sum, wall);
        if (!(fabs(nested(run, "ledger", "unexplained_ms")) <= 0.05 * wall))
            fail(outcome, "%.3f of %.3f ms unexplained", nested(run, "ledger", "unexplained_ms"),
                 wall);
    }
    json_decref(objects);
}

static void test_layers_cupti(const struct context *context, struct outcome *outcome)
{
    check_layers(context, outcome, "profile cupti; graph off", "cupti");
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
    double ratio[5];
    for (int pair = 0; pair < 5; pair++) {
        double wall[2] = {NAN, NAN};
        for (int which = 0; which < 2; which++) {
            json_t *objects =
                layertop(context, NULL, "demo:digits -c 'devices 0; profile %s; batch 32; run 500'",
                         which ? "cupti" : "off");
            const json_t *run = data_of(objects, "run", outcome);
            wall[which] = nested(run, "wall_ms", "median");
            json_decref(objects);
        }
        ratio[pair] = wall[1] / wall[0];
    }
    for (int i = 0; i < 5; i++)
        for (int j = i + 1; j < 5; j++)
            if (ratio[j] < ratio[i]) {
                double swap = ratio[i];
                ratio[i] = ratio[j];
                ratio[j] = swap;
            }
    figure(outcome, "cupti_over_off_median", ratio[2]);
    figure(outcome, "cupti_over_off_min", ratio[0]);
    figure(outcome, "cupti_over_off_max", ratio[4]);
    if (!isfinite(ratio[2]))
        fail(outcome, "no figures");
}

/* --- memory --------------------------------------------------------------------------------- */

static void test_memory_plan(const struct context *context, struct outcome *outcome)
{
    json_t *objects = layertop(
        context, NULL, "demo:digits -c 'devices 0; profile off; growth on; batch 4096; run 5'");
    const json_t *run = data_of(objects, "run", outcome);
    double planned = nested(run, "memory", "planned_bytes");
    double measured = nested(run, "memory", "measured_bytes");
    figure(outcome, "planned_bytes", planned);
    figure(outcome, "measured_bytes", measured);
    figure(outcome, "context_bytes", nested(run, "memory", "context_bytes"));
    double allowed = fmax(0.01 * planned, 8 << 20);
    if (outcome->passed && !(fabs(planned - measured) <= allowed))
        fail(outcome, "planned %.0f, measured %.0f bytes", planned, measured);
    json_decref(objects);
}

static void test_growth_off(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        layertop(context, NULL, "demo:digits -c 'devices 0; growth off; batch 8; run 5; mem'");
    const json_t *memory = data_of(objects, "mem", outcome);
    const json_t *device = json_array_get(json_object_get(memory, "devices"), 0);
    double idle = number(device, "idle_bytes"), total = number(device, "total_bytes");
    figure(outcome, "idle_bytes", idle);
    figure(outcome, "total_bytes", total);
    if (outcome->passed && !(idle > 0.5 * total))
        fail(outcome, "growth off reserved only %.0f of %.0f bytes", idle, total);
    json_decref(objects);
}

static void test_limit(const struct context *context, struct outcome *outcome)
{
    int code;
    json_t *objects =
        layertop(context, &code,
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
        fail(outcome, "a batch past the limit exits %d, not 5", code);
    if (runs != 2)
        fail(outcome, "the old plan did not go on running: %zu of 2 runs", runs);
    json_decref(objects);
}

/* --- the screen ----------------------------------------------------------------------------- */

static void test_screen(const struct context *context, struct outcome *outcome)
{
    const char *const argv[] = {context->layertop, "demo:digits", NULL};
    struct vt *vt = vt_start(40, 140, argv, NULL);
    if (!vt || !vt_wait(vt, "live", 15000))
        fail(outcome, "no live screen within 15 s");
    if (vt && outcome->passed) {
        vt_type(vt, "devices cpu,0\r");
        if (!vt_wait(vt, "GPU", 20000))
            fail(outcome, "no GPU on the screen after `devices cpu,0`");
        vt_type(vt, "devices 0\r");
        vt_pump(vt, 3000);
        vt_type(vt, "batch 4\r");
        if (!vt_wait(vt, "b4", 3000))
            fail(outcome, "`batch 4` did not reach the prompt within 3 s");
        vt_pump(vt, 1500);
        char path[512];
        snprintf(path, sizeof path, "%s/gpu-screen.txt", context->out);
        FILE *file = fopen(path, "w");
        const char *text = vt_text(vt);
        if (file) {
            fputs(text, file);
            fclose(file);
        }
        if (!strstr(text, "cupti"))
            fail(outcome, "the screen does not name cupti as its timing source");
    }
    if (vt)
        vt_free(vt);
}

/* --- recording ------------------------------------------------------------------------------ */

static void test_raw_recording(const struct context *context, struct outcome *outcome)
{
    json_t *objects = layertop(context, NULL,
                               "demo:digits -c 'devices 0; profile cupti; graph off; batch 8' "
                               "-c 'record %s/gpu-recording --raw; run 20; record off'",
                               context->out);
    const json_t *record = data_of(objects, "record", outcome);
    const char *path = json_string_value(json_object_get(record, "path"));
    struct stat status;
    char raw[700];
    snprintf(raw, sizeof raw, "%s/gpu-recording.raw", context->out);
    if (outcome->passed && (!path || stat(path, &status) != 0 || status.st_size == 0))
        fail(outcome, "no recording at %s", path ? path : "null");
    if (outcome->passed && (stat(raw, &status) != 0 || status.st_size < 1000))
        fail(outcome, "no raw CUPTI buffers at %s", raw);
    if (outcome->passed)
        figure(outcome, "raw_bytes", (double)status.st_size);
    json_decref(objects);
}

static void test_worker_killed(const struct context *context, struct outcome *outcome)
{
    const char *const argv[] = {context->layertop, "demo:digits", NULL};
    struct vt *vt = vt_start(30, 120, argv, NULL);
    if (!vt || !vt_wait(vt, "live", 15000))
        fail(outcome, "no live screen within 15 s");
    if (vt && outcome->passed) {
        char command[160];
        snprintf(command, sizeof command, "pkill -9 -P %d", (int)vt_pid(vt));
        if (system(command) != 0)
            fail(outcome, "no worker to kill");
        if (!vt_wait(vt, "worker ended: signal 9", 3000))
            fail(outcome, "the screen does not say that the worker ended");
        vt_type(vt, "start\r");
        vt_pump(vt, 6000);
        const char *text = vt_text(vt);
        if (!strstr(text, "gpu:0"))
            fail(outcome, "the next command did not bring the GPU back");
    }
    if (vt)
        vt_free(vt);
}

/* --- programs of their own ------------------------------------------------------------------ */

static FILE *program(const struct context *context, const char *name)
{
    char command[700];
    snprintf(command, sizeof command, "timeout 300 '%s/%s' 2>>'%s/stderr.txt'",
             context->program_dir, name, context->out);
    return popen(command, "r");
}

static void test_ops(const struct context *context, struct outcome *outcome)
{
    FILE *pipe = program(context, "test_cuda_ops");
    char line[600];
    double passed = 0, failed = 0;
    json_t *rows = json_array();
    while (pipe && fgets(line, sizeof line, pipe)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "ok ", 3) == 0)
            passed++;
        else if (strncmp(line, "not ok ", 7) == 0) {
            failed++;
            fail(outcome, "%s", line + 7);
        } else
            continue;
        json_array_append_new(rows, json_string(line));
    }
    int status = pipe ? pclose(pipe) : -1;
    figure(outcome, "passed", passed);
    figure(outcome, "failed", failed);
    json_object_set_new(outcome->figures, "rows", rows);
    if (status != 0)
        fail(outcome, "test_cuda_ops ended with status %d after %.0f tests", status, passed);
    if (passed == 0)
        fail(outcome, "test_cuda_ops ran no test");
}

static void test_probe(const struct context *context, struct outcome *outcome)
{
    FILE *pipe = program(context, "probe_cupti");
    json_t *figures = pipe ? json_loadf(pipe, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    int status = pipe ? pclose(pipe) : -1;
    if (!figures)
        fail(outcome, "probe_cupti printed no JSON (status %d)", status);
    else
        json_object_set(outcome->figures, "probe", figures);
    if (status != 0)
        fail(outcome, "probe_cupti ended with status %d", status);
    json_decref(figures);
}

/* riskiest first: facts that later design hangs on, then the plain path, then the rest */
static const struct gpu_test tests[] = {
    {"device_usable", test_device_usable},
    {"cupti_probe", test_probe},
    {"answers_keras_fp32", test_answers_keras},
    {"answers_h5_fp32", test_answers_h5},
    {"answers_unfused_fp32", test_answers_unfused},
    {"answers_tf32", test_answers_tf32},
    {"layers_have_kernels_cupti", test_layers_cupti},
    {"layers_have_kernels_cupti_unfused", test_layers_cupti_unfused},
    {"layers_have_times_events", test_layers_events},
    {"cuda_ops", test_ops},
    {"memory_plan_against_outside", test_memory_plan},
    {"growth_off_reserves", test_growth_off},
    {"limit_keeps_old_plan", test_limit},
    {"raw_recording", test_raw_recording},
    {"live_screen", test_screen},
    {"worker_killed_on_gpu", test_worker_killed},
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
    json_t *objects = layertop(&context, &code, "-c devices -c version");
    context.devices = json_deep_copy(data_of(objects, "devices", &listing));
    json_object_set(result, "devices", json_object_get(context.devices, "devices"));
    const json_t *version = data_of(objects, "version", &listing);
    if (version)
        json_object_set_new(result, "versions", json_deep_copy(version));

    int failed = 0, number_of = 0;
    for (size_t i = 0; i < TEST_COUNT; i++) {
        if (!chosen(tests[i].name, argc - at, argv + at))
            continue;
        struct outcome outcome = {.passed = true, .figures = json_object()};
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        tests[i].run(&context, &outcome);
        clock_gettime(CLOCK_MONOTONIC, &end);
        double seconds =
            (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
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
