#define _GNU_SOURCE /* memfd_create */
#include "tests/fuzz/fuzz.h"

#include "engine/graph/constant.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Weights, drawn or decoded, end here: a file may grow no further. */
#define DECODED_BYTES_MAX (32u << 20)

int fuzz_file(const void *data, size_t size, char path[32])
{
    int fd = memfd_create("fuzz", 0);
    fuzz_must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static void limit_files(void)
{
    static bool done;
    if (done)
        return;
    struct rlimit limit = {DECODED_BYTES_MAX, DECODED_BYTES_MAX};
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_IGN);
    done = true;
}

/* Errors of a model reach the terminal: they have words, and no control characters. */
static void check_error(const struct error *error)
{
    fuzz_must(error_exit_code(error->code) == 3 || error->code == ERROR_MEMORY);
    fuzz_must(error->why[0] != '\0');
    const char *const texts[] = {error->what, error->why, error->hint};
    for (size_t i = 0; i < 3; i++) {
        for (const char *c = texts[i]; *c != '\0'; c++)
            fuzz_must((unsigned char)*c >= 0x20 && *c != 0x7f);
    }
}

static void lower(const struct model *model)
{
    struct error error = {0};
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options options = {.batch = 2, .fusion = true};
    struct graph *graph = graph_lower(model, &options, pool, &error);
    if (graph == NULL)
        check_error(&error);
    graph_free(graph);
    constant_pool_free(pool);
}

void fuzz_model(const char *path, const char *weights, bool recipe)
{
    struct error error = {0};
    const struct model_options options = {.unconfined = true, .weights = weights, .recipe = recipe};
    limit_files();
    struct model *model = model_load(path, &options, &error);
    if (model == NULL) {
        check_error(&error);
        return;
    }
    volatile unsigned char last = 0;
    for (size_t i = 0; i < model->layer_count; i++) {
        for (size_t j = 0; j < model->layers[i].weight_count; j++) {
            const struct model_weight *weight = &model->layers[i].weights[j];
            if (weight->bytes > 0)
                last ^= ((const unsigned char *)weight->data)[weight->bytes - 1];
        }
    }
    (void)last;
    json_t *description = model_describe(model);
    fuzz_must(description != NULL);
    json_decref(description);
    lower(model);
    model_free(model);
}
