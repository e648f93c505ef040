#define _GNU_SOURCE /* stpcpy */
#include "support/hostile.h"

#include "engine/graph/constant.h"
#include "engine/model.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

#define CPU_SECONDS_MAX  1.0
#define CHILD_KIB_MAX    (512L << 10)
#define WALL_SECONDS_MAX 30 /* on a machine that does other things too */
#define REPORT_EXIT      "97"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* A report ends the child with a code that nothing else ends with. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__ubsan_default_options(void);
const char *__asan_default_options(void)
{
    return "exitcode=" REPORT_EXIT;
}
const char *__ubsan_default_options(void)
{
    return "exitcode=" REPORT_EXIT;
}

char hostile_folder[64];

int hostile_make_folder(void **state)
{
    (void)state;
    snprintf(hostile_folder, sizeof hostile_folder, "/tmp/layertop-test-XXXXXX");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return mkdtemp(hostile_folder) == NULL;
}

static int forget(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

int hostile_remove_folder(void **state)
{
    (void)state;
    return nftw(hostile_folder, forget, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- files ---- */

const char *hostile_path(const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", hostile_folder, name);
    return path;
}

struct hostile_bytes hostile_read(const char *path)
{
    struct hostile_bytes bytes = {0};
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    bytes.size = (size_t)ftell(file);
    rewind(file);
    bytes.data = malloc(bytes.size + 1);
    assert_int_equal(fread(bytes.data, 1, bytes.size, file), bytes.size);
    fclose(file);
    return bytes;
}

const char *hostile_write(const char *name, const void *data, size_t size)
{
    const char *path = hostile_path(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

const char *hostile_write_text(const char *name, const char *text)
{
    return hostile_write(name, text, strlen(text));
}

const char *hostile_copy(const char *source, const char *name)
{
    struct hostile_bytes bytes = hostile_read(source);
    const char *path = hostile_write(name, bytes.data, bytes.size);
    free(bytes.data);
    return path;
}

void hostile_edit_config(const char *path, const char *from, const char *to)
{
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t attribute = H5Aopen(file, "model_config", H5P_DEFAULT), type = H5Aget_type(attribute);
    char *text = NULL;
    assert_true(H5Aread(attribute, type, &text) >= 0);
    size_t room = strlen(text) * (strlen(to) + 1) + 1;
    char *made = calloc(1, room), *at = made;
    for (const char *c = text; *c != '\0';) {
        if (strncmp(c, from, strlen(from)) == 0) {
            at = stpcpy(at, to);
            c += strlen(from);
        } else {
            *at++ = *c++;
        }
    }
    if (strcmp(text, made) == 0)
        fail_msg("'%s' does not stand in the configuration of %s", from, path);
    assert_true(H5Awrite(attribute, type, &made) >= 0);
    H5free_memory(text);
    free(made);
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
}

void hostile_add_member(struct zip *zip, const char *name, const void *data, size_t size,
                        bool deflate)
{
    zip_source_t *source = zip_source_buffer(zip, data, size, 0);
    zip_int64_t index = zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8);
    assert_true(index >= 0);
    zip_set_file_compression(zip, (zip_uint64_t)index, deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 1);
}

static struct hostile_bytes read_member(zip_t *zip, const char *name)
{
    zip_stat_t stat;
    assert_int_equal(zip_stat(zip, name, 0, &stat), 0);
    struct hostile_bytes bytes = {malloc(stat.size + 1), stat.size};
    zip_file_t *file = zip_fopen(zip, name, 0);
    assert_int_equal(zip_fread(file, bytes.data, bytes.size), bytes.size);
    zip_fclose(file);
    return bytes;
}

const char *hostile_edit_weights(const char *source, void (*edit)(hid_t file))
{
    static const char *const names[] = {"metadata.json", "config.json", "model.weights.h5"};
    struct hostile_bytes members[3];
    zip_t *from = zip_open(source, ZIP_RDONLY, NULL);
    assert_non_null(from);
    for (size_t i = 0; i < 3; i++)
        members[i] = read_member(from, names[i]);
    zip_discard(from);
    const char *inner = hostile_write("edited.weights.h5", members[2].data, members[2].size);
    hid_t file = H5Fopen(inner, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    edit(file);
    H5Fclose(file);
    free(members[2].data);
    members[2] = hostile_read(inner);
    const char *path = hostile_path("edited.keras");
    zip_t *to = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    for (size_t i = 0; i < 3; i++)
        hostile_add_member(to, names[i], members[i].data, members[i].size, false);
    assert_int_equal(zip_close(to), 0);
    for (size_t i = 0; i < 3; i++)
        free(members[i].data);
    return path;
}

/* ---- what a refusal is ---- */

struct effort {
    double wall, cpu; /* seconds, of this process and its children */
};

static double seconds_of(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static struct effort effort_now(void)
{
    struct timespec wall;
    struct rusage self, children;
    clock_gettime(CLOCK_MONOTONIC, &wall);
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return (struct effort){(double)wall.tv_sec + (double)wall.tv_nsec / 1e9,
                           seconds_of(&self.ru_utime) + seconds_of(&self.ru_stime) +
                               seconds_of(&children.ru_utime) + seconds_of(&children.ru_stime)};
}

static void check_effort(const char *path, const struct effort *before)
{
    struct effort after = effort_now();
    struct rusage children;
    getrusage(RUSAGE_CHILDREN, &children); /* ru_maxrss: of the largest child so far */
    if (after.wall - before->wall > WALL_SECONDS_MAX)
        fail_msg("%s took %.1f s", path, after.wall - before->wall);
    if (SANITIZED)
        return;
    if (after.cpu - before->cpu > CPU_SECONDS_MAX)
        fail_msg("%s took %.2f s of processor time", path, after.cpu - before->cpu);
    if (children.ru_maxrss > CHILD_KIB_MAX)
        fail_msg("%s took %ld MiB in its reader", path, children.ru_maxrss >> 10);
}

static void check_error(const char *path, const struct error *error)
{
    if (error_exit_code(error->code) != 3 || error->why[0] == '\0')
        fail_msg("%s: E%03d \"%s\" is no model's error", path, error->code, error->why);
    if (error->hint[0] == '\0')
        fail_msg("%s: E%03d \"%s\" has no hint", path, error->code, error->why);
    const char *const texts[] = {error->what, error->why, error->hint};
    for (size_t i = 0; i < 3; i++) {
        for (const char *c = texts[i]; *c != '\0'; c++)
            assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
    }
}

static bool is_report(const struct error *error)
{
    return SANITIZED && strstr(error->why, "(exit " REPORT_EXIT ")") != NULL;
}

static bool works(const char *path, const char *weights, struct error *error)
{
    struct effort before = effort_now();
    struct model_options options = {.weights = weights};
    *error = (struct error){0};
    struct model *model = model_load(path, &options, error);
    struct constant_pool *pool = constant_pool_new();
    struct graph *graph =
        model ? graph_lower(model, &(struct graph_options){.batch = 2}, pool, error) : NULL;
    bool ok = graph != NULL;
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
    check_effort(path, &before);
    if (!ok)
        check_error(path, error);
    return ok;
}

bool hostile_works(const char *path, const char *weights, struct error *error)
{
    bool ok = works(path, weights, error);
    if (!ok && is_report(error))
        fail_msg("%s: a sanitizer's report in its reader", path);
    return ok;
}

bool hostile_works_but_for_hdf5(const char *path, size_t *reports, struct error *error)
{
    bool ok = works(path, NULL, error);
    *reports += !ok && is_report(error);
    return ok;
}

void hostile_must_fail(const char *path, const char *weights, enum error_code code, const char *why)
{
    struct error error;
    if (hostile_works(path, weights, &error))
        fail_msg("%s was taken (%s)", path, why);
    if (error.code != code || strstr(error.why, why) == NULL)
        fail_msg("%s: E%03d %s, and not E%03d with \"%s\"", path, error.code, error.why, code, why);
}
