/* Weights in shards: where they are found, and what a map of shards may not say. That they are the
 * right ones is held against Keras in test_models. */
#include "engine/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA       "tests/data/models/sharded/"
#define MEMBERS    7
#define BYTES_MOST 65536

static const char *const members[MEMBERS] = {"config.json",
                                             "metadata.json",
                                             "model.weights.json",
                                             "model_00000.weights.h5",
                                             "model_00001.weights.h5",
                                             "model_00002.weights.h5",
                                             "model_00003.weights.h5"};

static struct model *load(const char *path, const char *weights, struct error *error)
{
    struct model_options options = {.weights = weights};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    options.unconfined = true;
#endif
    memset(error, 0, sizeof *error);
    return model_load(path, &options, error);
}

static size_t read_all(const char *path, char *out)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(out, 1, BYTES_MOST - 1, file);
    out[size] = '\0';
    fclose(file);
    return size;
}

/* A copy of the folder in which one member is cut to its share of `cut`, and the map says `to` where
 * it said `from`. */
static const char *copy_folder(const char *member, double cut, const char *from, const char *to)
{
    static char folder[64];
    static char bytes[BYTES_MOST];
    snprintf(folder, sizeof folder, "/tmp/layertop-shards-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < MEMBERS; i++) {
        char path[256];
        snprintf(path, sizeof path, DATA "%s", members[i]);
        size_t size = read_all(path, bytes);
        bool is_map = strcmp(members[i], "model.weights.json") == 0;
        char *at = is_map && from != NULL ? strstr(bytes, from) : NULL;
        if (strcmp(members[i], member) == 0)
            size = (size_t)((double)size * cut);
        if (size == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, members[i]);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        if (at != NULL)
            fprintf(file, "%.*s%s%s", (int)(at - bytes), bytes, to, at + strlen(from));
        else
            assert_int_equal(fwrite(bytes, 1, size, file), size);
        fclose(file);
    }
    return folder;
}

static void remove_folder(const char *folder)
{
    char path[256];
    for (size_t i = 0; i < MEMBERS; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, members[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void found_from_everywhere(void **state)
{
    (void)state;
    static const char *const ways[][2] = {
        {DATA, NULL}, {DATA "config.json", DATA "model.weights.json"}, {DATA "config.json", DATA}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct error error;
        struct model *model = load(ways[i][0], ways[i][1], &error);
        if (model == NULL)
            fail_msg("%s: %s", error.what, error.why);
        assert_int_equal(model->parameters, 401);
        model_free(model);
    }
}

static void map_alone_is_no_model(void **state)
{
    (void)state;
    struct error error;
    assert_null(load(DATA "model.weights.json", NULL, &error));
    assert_int_equal(error.code, ERROR_MODEL_FILE);
    assert_non_null(strstr(error.hint, "--weights"));
}

/* Nothing outside of the folder, nothing that is not there, nothing that is broken. */
static void maps_are_not_believed(void **state)
{
    (void)state;
    static const struct {
        const char *member;
        double cut;
        const char *from, *to;
        enum error_code code;
        const char *why;
    } cases[] = {
        {"model_00002.weights.h5", 0, NULL, NULL, ERROR_MODEL_WEIGHTS, "model_00002.weights.h5"},
        {"model_00002.weights.h5", 0.5, NULL, NULL, ERROR_MODEL_BROKEN, "truncated"},
        {"", 1, "\"model_00001", "\"../model_00001", ERROR_MODEL_REFUSED, "no file beside it"},
        {"", 1, "\"model_00001", "\"/etc/model_00001", ERROR_MODEL_REFUSED, "no file beside it"},
        {"", 1, "model_00003.weights.h5", "model_00009.weights.h5", ERROR_MODEL_WEIGHTS, "00009"},
        {"", 1, "\"model_00001.weights.h5\"", "17", ERROR_MODEL_REFUSED, "no file beside it"},
        {"model.weights.json", 0.5, NULL, NULL, ERROR_MODEL_FILE, "no HDF5 file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = copy_folder(cases[i].member, cases[i].cut, cases[i].from, cases[i].to);
        struct error error;
        struct model *model = load(folder, NULL, &error);
        remove_folder(folder);
        if (model != NULL || error.code != cases[i].code || !strstr(error.why, cases[i].why))
            fail_msg("case %zu: E%03d %s: %s", i, (int)error.code, error.what, error.why);
    }
}

/* A shard that its map does not name is an older model's. */
static void stray_shards_are_left(void **state)
{
    (void)state;
    const char *folder = copy_folder("", 1, NULL, NULL);
    char path[256];
    struct error error;
    snprintf(path, sizeof path, "%s/model_00004.weights.h5", folder);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs("no HDF5 at all", file);
    fclose(file);
    struct model *model = load(folder, NULL, &error);
    unlink(path);
    remove_folder(folder);
    if (model == NULL)
        fail_msg("%s: %s", error.what, error.why);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_from_everywhere),
        cmocka_unit_test(map_alone_is_no_model),
        cmocka_unit_test(maps_are_not_believed),
        cmocka_unit_test(stray_shards_are_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
