/* What the GPU tests share: running the program, time that is bounded, and a failure that explains
 * itself on a machine nobody can come back to. */
#ifndef LAYERTOP_TESTS_SUPPORT_GPU_H
#define LAYERTOP_TESTS_SUPPORT_GPU_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct context {
    const char *layertop, *data, *out, *content, *commit, *program_dir;
    const char *test; /* that runs now */
    char work[256];   /* a scratch folder */
    json_t *devices;  /* data of the `devices` command */
    double deadline;  /* gpu_now() at which all tests must be over */
    long stderr_from; /* where in OUT/stderr.txt the present test began */
};

struct outcome {
    bool passed;
    char why[4000];
    json_t *figures; /* object */
};

/* Seconds, monotonic. */
double gpu_now(void);

/* A member as a number, and one of a member; NaN if it is none. */
double gpu_number(const json_t *object, const char *key);
double gpu_nested(const json_t *object, const char *outer, const char *inner);

/* The first reason stands. */
void outcome_fail(struct outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A number for the result; null if it is not finite. */
void outcome_figure(struct outcome *outcome, const char *key, double value);

/* Run `layertop --json ARGS` with a shell, no longer than 100 s or until the deadline; returns the
 * array of its objects (the caller's), *code its exit code. OUT/commands.txt keeps command and
 * output, OUT/stderr.txt what it complained of. */
json_t *gpu_layertop(const struct context *context, int *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* data of the last object of a command, NULL if it failed or never came (borrowed); the outcome
 * then says why, with the warnings that came before. */
const json_t *gpu_data(const json_t *objects, const char *command, struct outcome *outcome);
/* The device of the `mem` that is number `at` among the objects; NULL if it is not there. */
const json_t *gpu_memory_at(const json_t *objects, size_t at);
/* Start NAME of the folder of this program, for at most `seconds`; pclose() it. */
FILE *gpu_program(const struct context *context, const char *name, const char *arguments,
                  double seconds);

/* A dataset of DATA/digits/reference.h5 as doubles; NULL if it is not there. The caller frees. */
double *gpu_reference(const struct context *context, const char *dataset, size_t *count);
/* The answers of `predict` on the reference inputs, as `count` floats; NULL if there are none, and
 * the outcome says why. `settings` come before the model is loaded (so that no second context is
 * made), the commands of `before` ("run 5; ") just before `predict`. The caller frees. */
float *gpu_answers(const struct context *context, struct outcome *outcome, const char *model,
                   const char *settings, const char *before, size_t count);
/* The figure `key` is max|values - expected| / max|expected|; the outcome fails above `tolerance`. */
void outcome_compare(struct outcome *outcome, const float *values, const double *expected,
                     size_t count, double tolerance, const char *key);

/* Before and after each test: the second appends to the reason of a failure the last lines of the
 * program's stderr and of cuDNN's log, and removes the log. */
void gpu_begin(struct context *context, const char *test);
void gpu_explain(const struct context *context, struct outcome *outcome);

#endif
