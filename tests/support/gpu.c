#include "support/gpu.h"

#include "engine/npy.h"

#include <glob.h>
#include <hdf5.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMAND_SECONDS 100
#define STDERR_BYTES    1200 /* of a failure's stderr go into its reason */
#define LOG_BYTES       800  /* and of each of cuDNN's logs */

static int last_exit; /* of the program, for the reason of a failure */

double gpu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double gpu_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

double gpu_nested(const json_t *object, const char *outer, const char *inner)
{
    return gpu_number(json_object_get(object, outer), inner);
}

void outcome_fail(struct outcome *outcome, const char *format, ...)
{
    if (!outcome->passed)
        return;
    outcome->passed = false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(outcome->why, sizeof outcome->why, format, arguments);
    va_end(arguments);
}

void outcome_figure(struct outcome *outcome, const char *key, double value)
{
    json_object_set_new(outcome->figures, key, isfinite(value) ? json_real(value) : json_null());
}

/* Whole seconds that a command may take, at least 1 (0 would be no limit). */
static int seconds_left(const struct context *context, double most)
{
    double left = context->deadline - gpu_now();
    left = left < most ? left : most;
    return left > 1 ? (int)left : 1;
}

json_t *gpu_layertop(const struct context *context, int *code, const char *format, ...)
{
    char arguments[4096], command[8192], path[512];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    /* -k: a process that hangs in the driver does not listen to a mere TERM. autotune off: kernels
     * are counted and timed, and those that are only measured are none of a step's */
    snprintf(command, sizeof command,
             "timeout -k 5 %d '%s' --json -c 'autotune off' %s 2>>'%s/stderr.txt' </dev/null",
             seconds_left(context, COMMAND_SECONDS), context->layertop, arguments, context->out);
    snprintf(path, sizeof path, "%s/commands.txt", context->out);
    FILE *log = fopen(path, "a");
    if (log)
        fprintf(log, "[%s] layertop --json %s\n", context->test ? context->test : "", arguments);
    json_t *objects = json_array();
    double begin = gpu_now();
    FILE *pipe = popen(command, "r");
    char *line = NULL;
    size_t capacity = 0;
    while (pipe && getline(&line, &capacity, pipe) > 0) {
        if (log)
            fputs(line, log);
        json_t *object = json_loads(line, 0, NULL);
        if (object)
            json_array_append_new(objects, object);
    }
    free(line);
    int status = pipe ? pclose(pipe) : -1;
    int exited = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (log) {
        fprintf(log, "= %d after %.1f s\n", exited, gpu_now() - begin);
        fclose(log);
    }
    last_exit = exited;
    if (code)
        *code = exited;
    return objects;
}

/* Append to the reason of a failure, as far as there is room. */
static void append(struct outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct outcome *outcome, const char *format, ...)
{
    size_t used = strlen(outcome->why);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(outcome->why + used, sizeof outcome->why - used, format, arguments);
    va_end(arguments);
}

static void append_warnings(const json_t *objects, struct outcome *outcome)
{
    size_t index, at;
    json_t *object, *warning;
    json_array_foreach(objects, index, object)
    {
        json_array_foreach(json_object_get(object, "warn"), at, warning)
        {
            const char *text = json_string_value(warning);
            if (text && !strstr(outcome->why, text))
                append(outcome, "; warned: %s", text);
        }
    }
}

const json_t *gpu_data(const json_t *objects, const char *command, struct outcome *outcome)
{
    const json_t *found = NULL, *failed = NULL;
    size_t index;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, "cmd"));
        if (name && strcmp(name, command) == 0)
            found = object;
        if (json_is_false(json_object_get(object, "ok")))
            failed = object;
    }
    if (found && json_is_true(json_object_get(found, "ok")))
        return json_object_get(found, "data");
    if (!outcome->passed)
        return NULL;
    if (!failed) {
        outcome_fail(outcome, "no result of '%s' (exit %d%s)", command, last_exit,
                     last_exit == 124 || last_exit == 137 ? ", out of time" : "");
    } else { /* what a command failed at is why those after it did not come */
        const json_t *error = json_object_get(failed, "error");
        const char *code = json_string_value(json_object_get(error, "code"));
        const char *message = json_string_value(json_object_get(error, "message"));
        outcome_fail(outcome, "'%s' failed: %s: %s",
                     json_string_value(json_object_get(failed, "cmd")), code ? code : "no code",
                     message ? message : "no message");
    }
    append_warnings(objects, outcome);
    return NULL;
}

const json_t *gpu_memory_at(const json_t *objects, size_t at)
{
    size_t index, seen = 0;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, "cmd"));
        if (name && strcmp(name, "mem") == 0 && seen++ == at)
            return json_array_get(json_object_get(json_object_get(object, "data"), "devices"), 0);
    }
    return NULL;
}

FILE *gpu_program(const struct context *context, const char *name, const char *arguments,
                  double seconds)
{
    char command[1500];
    snprintf(command, sizeof command, "timeout -k 5 %d '%s/%s' %s 2>>'%s/stderr.txt' </dev/null",
             seconds_left(context, seconds), context->program_dir, name, arguments, context->out);
    return popen(command, "r");
}

/* The last bytes of a file from `from` on, whole lines joined by " | "; "" if there are none. */
static void tail(const char *path, long from, char *out, size_t size)
{
    FILE *file = fopen(path, "r");
    out[0] = '\0';
    if (!file)
        return;
    fseek(file, 0, SEEK_END);
    long end = ftell(file), begin = end - (long)size + 1;
    bool cut = begin > from;
    begin = cut ? begin : from;
    fseek(file, begin, SEEK_SET);
    size_t got = fread(out, 1, (size_t)(end > begin ? end - begin : 0), file);
    fclose(file);
    out[got] = '\0';
    char *newline = strchr(out, '\n');
    if (cut && newline)
        memmove(out, newline + 1, strlen(newline + 1) + 1);
    for (char *at = out; *at; at++) {
        if (*at == '\n')
            *at = at[1] ? '|' : '\0';
        if (*at < ' ' && *at)
            *at = ' ';
    }
}

void gpu_begin(struct context *context, const char *test)
{
    char path[512];
    context->test = test;
    snprintf(path, sizeof path, "%s/stderr.txt", context->out);
    FILE *file = fopen(path, "a");
    if (file) {
        fprintf(file, "--- %s\n", test);
        context->stderr_from = ftell(file);
        fclose(file);
    }
    /* read by cuDNN when it is loaded; %i is the process */
    snprintf(path, sizeof path, "%s/cudnn-%%i.log", context->work);
    setenv("CUDNN_LOGLEVEL_DBG", "1", 1);
    setenv("CUDNN_LOGDEST_DBG", path, 1);
}

void gpu_explain(const struct context *context, struct outcome *outcome)
{
    char path[512], text[STDERR_BYTES];
    if (!outcome->passed) {
        snprintf(path, sizeof path, "%s/stderr.txt", context->out);
        tail(path, context->stderr_from, text, sizeof text);
        if (text[0])
            append(outcome, "; stderr: %s", text);
    }
    glob_t logs;
    snprintf(path, sizeof path, "%s/cudnn-*.log", context->work);
    if (glob(path, 0, NULL, &logs) == 0) {
        for (size_t i = 0; i < logs.gl_pathc; i++) {
            tail(logs.gl_pathv[i], 0, text, LOG_BYTES);
            if (!outcome->passed && text[0])
                append(outcome, "; cuDNN: %s", text);
            unlink(logs.gl_pathv[i]);
        }
    }
    globfree(&logs);
}

double *gpu_reference(const struct context *context, const char *dataset, size_t *count)
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

float *gpu_answers(const struct context *context, struct outcome *outcome, const char *model,
                   const char *settings, const char *before, size_t count)
{
    char output[512];
    snprintf(output, sizeof output, "%s/answer.npy", context->work);
    unlink(output);
    json_t *objects = gpu_layertop(
        context, NULL, "-c 'devices 0; %s; load %s; %spredict %s/digits/reference.h5:x %s'",
        settings, model, before, context->data, output);
    gpu_data(objects, "predict", outcome);
    json_decref(objects);
    struct error error = {0};
    struct npy_file *file = outcome->passed ? npy_open(output, &error) : NULL;
    float *copy = NULL;
    if (outcome->passed && file == NULL) {
        outcome_fail(outcome, "%s: %s", error.what, error.why);
    } else if (file) {
        const struct npy_array *answer = npy_at(file, 0);
        if (shape_elements(&answer->shape) != (int64_t)count || answer->dtype != DTYPE_F32) {
            outcome_fail(outcome, "the answer has another shape or dtype than the reference");
        } else {
            copy = malloc(count * sizeof *copy);
            memcpy(copy, answer->data, count * sizeof *copy);
        }
    }
    if (file)
        npy_close(file);
    return copy;
}

/* max|y - y64| / max|y64| of the answers. */
void outcome_compare(struct outcome *outcome, const float *values, const double *expected,
                     size_t count, double tolerance, const char *key)
{
    double worst = 0, scale = 1e-6;
    for (size_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs((double)values[i] - expected[i]));
        scale = fmax(scale, fabs(expected[i]));
        if (!isfinite(values[i]))
            outcome_fail(outcome, "answer %zu is not finite", i);
    }
    outcome_figure(outcome, key, worst / scale);
    if (worst / scale > tolerance)
        outcome_fail(outcome, "%s is %.3g, allowed %.3g", key, worst / scale, tolerance);
}
