/* A running process: which CUDA libraries it has mapped, whether it holds a GPU. */
#include "engine/probe/probe.h"

#include "engine/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAPPED_MAX     64
#define MAPS_LINES_MAX 1000000

/* Libraries worth telling: the driver's, the toolkit's, and what frameworks link with them. */
static const char *const libraries[] = {"libcuda.so",       "libcudart.so",      "libcudnn.so",
                                        "libcublas.so",     "libcublasLt.so",    "libcufft.so",
                                        "libcurand.so",     "libcusolver.so",    "libcusparse.so",
                                        "libnvrtc.so",      "libnccl.so",        "libcupti.so",
                                        "libnvJitLink.so",  "libnvinfer.so",     "libtorch_cuda.so",
                                        "layertop-cuda.so", "xla_cuda_plugin.so"};

/* The library a path is of, without ".so"; false if it is none of them. */
static bool library_of(const char *path, char *name, size_t size, const char **version)
{
    const char *file = strrchr(path, '/');
    file = file != NULL ? file + 1 : path;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        size_t length = strlen(libraries[i]);
        if (strncmp(file, libraries[i], length) != 0 ||
            (file[length] != '\0' && file[length] != '.'))
            continue;
        snprintf(name, size, "%.*s", (int)(length - 3), libraries[i]);
        *version = file[length] == '.' ? file + length + 1 : "";
        return true;
    }
    return false;
}

static bool known_already(const json_t *mapped, const char *path)
{
    size_t index;
    const json_t *one;
    json_array_foreach(mapped, index, one)
    {
        const char *other = json_string_value(json_object_get(one, "path"));
        if (other != NULL && strcmp(other, path) == 0)
            return true;
    }
    return false;
}

/* One line of /proc/N/maps: "7f..-7f.. r-xp 00000000 08:01 123   /path (deleted)". */
static void take_line(json_t *mapped, char *line)
{
    char name[64];
    const char *version;
    char *path = strchr(line, '/');
    line[strcspn(line, "\n")] = '\0';
    if (path == NULL || json_array_size(mapped) == MAPPED_MAX)
        return;
    char *deleted = strstr(path, " (deleted)");
    if (deleted != NULL)
        *deleted = '\0';
    if (!library_of(path, name, sizeof name, &version) || known_already(mapped, path))
        return;
    json_t *one = json_object();
    probe_set_text(one, "library", name);
    probe_set_text(one, "version", version);
    probe_set_text(one, "path", path);
    json_object_set_new(one, "deleted", json_boolean(deleted != NULL));
    json_array_append_new(mapped, one);
}

static json_t *read_maps(int pid, json_t *process)
{
    char path[64];
    char *line = NULL;
    size_t room = 0;
    json_t *mapped = json_array();
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *file = fopen(path, "re");
    /* another user's may be opened and not read */
    bool any = file != NULL && getline(&line, &room, file) > 0;
    json_object_set_new(process, "maps_read", json_boolean(any));
    if (!any)
        probe_set_text(process, "why", "its memory map may not be read by this user");
    for (size_t i = 0; any && i < MAPS_LINES_MAX; i++) {
        take_line(mapped, line);
        if (getline(&line, &room, file) <= 0)
            break;
    }
    free(line);
    if (file != NULL)
        fclose(file);
    return mapped;
}

static void read_files(int pid, json_t *process)
{
    char folder[64], path[PATH_MAX], target[PATH_MAX];
    struct dirent *entry;
    int gpus = 0;
    snprintf(folder, sizeof folder, "/proc/%d/fd", pid);
    DIR *files = opendir(folder);
    json_object_set_new(process, "files_read", json_boolean(files != NULL));
    if (files == NULL) {
        if (json_object_get(process, "why") == NULL)
            probe_set_text(process, "why", "its open files may not be read by this user");
        return;
    }
    while ((entry = readdir(files)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length <= 0)
            continue;
        target[length] = '\0';
        gpus += (strncmp(target, "/dev/nvidia", 11) == 0 && isdigit((unsigned char)target[11])) ||
                strcmp(target, "/dev/dxg") == 0;
    }
    closedir(files);
    json_object_set_new(process, "gpu_files", json_integer(gpus));
}

static void read_environment(int pid, json_t *process)
{
    char path[64], *entry = NULL;
    size_t room = 0;
    ssize_t length;
    bool any = false;
    static const char variable[] = "CUDA_VISIBLE_DEVICES=";
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && (length = getdelim(&entry, &room, '\0', file)) > 0) {
        any = true;
        if (strncmp(entry, variable, sizeof variable - 1) == 0) {
            json_object_set_new(process, "visible_set", json_true());
            probe_set_text(process, "visible", entry + sizeof variable - 1);
        }
    }
    if (any && json_object_get(process, "visible_set") == NULL)
        json_object_set_new(process, "visible_set", json_false());
    json_object_set_new(process, "environment_read", json_boolean(any));
    free(entry);
    if (file != NULL)
        fclose(file);
}

/* What NVML says it holds, on all GPUs. */
static void sum_memory(const json_t *record, int pid, json_t *process)
{
    const json_t *holder, *holders = json_object_get(record, "holders");
    size_t index;
    json_int_t bytes = 0;
    bool known = json_array_size(json_object_get(record, "gpus")) > 0;
    json_array_foreach(holders, index, holder)
    {
        if (json_integer_value(json_object_get(holder, "pid")) != pid)
            continue;
        known = known && json_object_get(holder, "bytes") != NULL;
        bytes += json_integer_value(json_object_get(holder, "bytes"));
    }
    if (known)
        json_object_set_new(process, "gpu_bytes", json_integer(bytes));
}

bool probe_process(json_t *record, int pid, struct error *error)
{
    char path[64], name[64], user[64];
    snprintf(path, sizeof path, "/proc/%d", pid);
    if (pid <= 0 || access(path, F_OK) != 0) {
        snprintf(path, sizeof path, "process %d", pid);
        error_set(error, ERROR_VALUE, path, "there is no such process%s",
                  access("/proc/self", F_OK) == 0 ? "" : ": /proc is not mounted");
        return error_hint(error, "pgrep -af python");
    }
    process_describe(pid, name, sizeof name, user, sizeof user);
    json_t *process = json_pack("{s:i, s:s, s:s}", "pid", pid, "name", name, "user", user);
    json_t *mapped = read_maps(pid, process);
    read_files(pid, process);
    read_environment(pid, process);
    sum_memory(record, pid, process);
    if (access(path, F_OK) != 0) { /* it ended meanwhile: half of what was read would mislead */
        json_decref(process);
        json_decref(mapped);
        snprintf(path, sizeof path, "process %d", pid);
        error_set(error, ERROR_VALUE, path, "it ended while it was read");
        return error_hint(error, "pgrep -af python");
    }
    json_object_set_new(record, "process", process);
    json_object_set_new(record, "mapped", mapped);
    return true;
}
