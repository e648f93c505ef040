/* How fast large models load: files of 100 MB and of 1 GB, legacy .h5 and .keras, warm.
 *
 * usage: load LAYERTOP WORKDIR TABLE. Each file is written into WORKDIR, loaded several times and
 * removed. Two times are taken: "read", model_load() in this process (the confined child included),
 * and "load", what the command says of itself, which makes the first plan's weights too. TABLE gets
 * medians and minima as JSON. Exit 1: a bar is missed (100 MB in 150 ms, 1 GB at 1.5 GB/s). */
#include "engine/model.h"
#include "support/large_model.h"

#include <hdf5.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <zip.h>

#define TRIES_MAX 15

static const struct {
    const char *name;
    struct large_model model;
} files[] = {
    {"100 MB .h5", {1, 5000, false, 0}},
    {"100 MB .keras", {1, 5000, true, 0}},
    {"100 MB .keras at an odd byte", {1, 5000, true, 3}},
    {"1 GB .h5", {16, 4000, false, 0}},
    {"1 GB .keras", {16, 4000, true, 0}},
    {"1 GB .keras at an odd byte", {16, 4000, true, 3}},
};

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Milliseconds of model_load(), the freeing left out; NAN and a message if it fails. */
static double read_once(const char *path)
{
    struct error error = {0};
    double begin = now_ms();
    struct model *model = model_load(path, &(struct model_options){0}, &error);
    double took = now_ms() - begin;
    if (model == NULL)
        fprintf(stderr, "%s: E%03d %s: %s\n", path, error.code, error.what, error.why);
    model_free(model);
    return model != NULL ? took : NAN;
}

/* What `load` says. */
static double load_once(const char *program, const char *path)
{
    char command[1200], line[65536];
    double took = NAN;
    snprintf(command, sizeof command, "%s --json -c 'load %s' 2>/dev/null", program, path);
    FILE *pipe = popen(command, "r");
    while (pipe != NULL && fgets(line, sizeof line, pipe) != NULL) {
        const char *found = strstr(line, "\"load_ms\":");
        if (found != NULL)
            took = strtod(found + strlen("\"load_ms\":"), NULL);
    }
    if (pipe == NULL || pclose(pipe) != 0 || isnan(took))
        fprintf(stderr, "%s: no load_ms\n", command);
    return took;
}

static json_t *summary(double *times, size_t count)
{
    qsort(times, count, sizeof *times, compare);
    return json_pack("{s:f, s:f}", "median_ms", round(times[count / 2] * 100) / 100, "min_ms",
                     round(times[0] * 100) / 100);
}

/* Written, measured and removed. Returns what the table says of it, NULL if it does not load. */
static json_t *measure(const char *program, const char *folder, size_t index, int tries, bool *met)
{
    char path[1024];
    double reads[TRIES_MAX], loads[TRIES_MAX];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, files[index].model.archive ? "x.keras" : "x.h5");
    large_model_write(path, &files[index].model);
    bool good = stat(path, &status) == 0 && !isnan(read_once(path)); /* warm */
    for (int i = 0; good && i < tries; i++) { /* in turns: what disturbs one disturbs both */
        reads[i] = read_once(path);
        loads[i] = load_once(program, path);
        good = !isnan(reads[i]) && !isnan(loads[i]);
    }
    unlink(path);
    if (!good)
        return NULL;
    json_t *read = summary(reads, (size_t)tries), *load = summary(loads, (size_t)tries);
    double median_ms = loads[tries / 2], rate = (double)status.st_size / median_ms / 1e6;
    bool small = status.st_size < 200000000;
    *met = small ? median_ms <= 150 : rate >= 1.5;
    printf("%-28s read %7.2f ms, load %7.2f ms (best %.2f), %.2f GB/s%s\n", files[index].name,
           reads[tries / 2], median_ms, loads[0], rate, *met ? "" : "  MISSED");
    return json_pack("{s:s, s:I, s:i, s:o, s:o, s:f, s:b}", "file", files[index].name, "bytes",
                     (json_int_t)status.st_size, "tries", tries, "read", read, "load", load,
                     "load_gb_per_s", round(rate * 100) / 100, "met", *met);
}

static json_t *describe_machine(void)
{
    char line[256], name[256] = "";
    struct utsname system;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && name[0] == '\0' && fgets(line, sizeof line, file) != NULL)
        (void)sscanf(line, "model name : %255[^\n]", name);
    if (file != NULL)
        fclose(file);
    uname(&system);
    return json_pack("{s:s, s:I, s:s, s:s, s:s}", "cpu", name, "processors",
                     (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "system", system.release, "libzip",
                     zip_libzip_version(), "compiler", __VERSION__);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: load LAYERTOP WORKDIR TABLE\n");
        return 2;
    }
    int failed = 0;
    char date[32], hdf5[32];
    unsigned version[3];
    time_t now = time(NULL);
    json_t *rows = json_array();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        bool met = false;
        json_t *row = measure(argv[1], argv[2], i, files[i].model.layers > 1 ? 7 : 15, &met);
        if (row == NULL)
            return 1;
        failed += !met;
        json_array_append_new(rows, row);
    }
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    H5get_libversion(&version[0], &version[1], &version[2]);
    snprintf(hdf5, sizeof hdf5, "%u.%u.%u", version[0], version[1], version[2]);
    json_t *machine = describe_machine();
    json_object_set_new(machine, "hdf5", json_string(hdf5));
    json_t *table =
        json_pack("{s:s, s:s, s:s, s:o, s:s, s:o}", "command", "make bench-load", "date", date,
                  "layertop", LAYERTOP_VERSION, "machine", machine, "bars",
                  "100 MB in 150 ms, 1 GB at 1.5 GB/s: medians of load, warm", "files", rows);
    int written = json_dump_file(table, argv[3], JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(table);
    return failed > 0 || written != 0;
}
