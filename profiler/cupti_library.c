/* Where libcupti is, and what its error codes mean to a user. */
#ifdef LAYERTOP_CUDA_HEADERS
#include "profiler/cupti_api.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* never unmapped: a CUPTI that refused half-way may have left threads and hooks behind */
#define OPEN_FLAGS (RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)

static void note_tried(char *tried, size_t size, const char *path)
{
    size_t used = strlen(tried);
    if (used + 3 < size)
        snprintf(tried + used, size - used, "%s%s", used ? ", " : "", path);
}

/* Try each file that a shell pattern names */
static void *open_matches(const char *pattern, char *path, size_t path_size)
{
    glob_t found;
    void *library = NULL;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && !library; i++) {
            library = dlopen(found.gl_pathv[i], OPEN_FLAGS);
            if (library)
                snprintf(path, path_size, "%s", found.gl_pathv[i]);
        }
    }
    globfree(&found);
    return library;
}

/* PREFIX/bin/python3 -> PREFIX, in place */
static void prefix_of(char *file)
{
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(file, '/');
        if (slash)
            *slash = '\0';
    }
}

/* The prefix of the python3 on PATH as it is named there (a virtual environment, whose python3 is a
 * link and whose wheels lie beside it) and as it resolves (the installation behind it); "" if there
 * is none. Each holds PATH_MAX bytes. */
static void python_prefixes(char *named, char *resolved)
{
    char *path = xstrdup(getenv("PATH") ? getenv("PATH") : "");
    char *rest = path;
    bool found = false;
    for (char *folder = strsep(&rest, ":"); folder && !found; folder = strsep(&rest, ":")) {
        char *candidate = xasprintf("%s/python3", folder);
        found = folder[0] == '/' && strlen(candidate) < PATH_MAX && access(candidate, X_OK) == 0 &&
                realpath(candidate, resolved) != NULL;
        if (found)
            memcpy(named, candidate, strlen(candidate) + 1);
        free(candidate);
    }
    free(path);
    if (!found)
        named[0] = resolved[0] = '\0';
    prefix_of(named);
    prefix_of(resolved);
}

static void *search(int major, char *path, size_t path_size, char *tried, size_t tried_size)
{
    char name[32];
    snprintf(name, sizeof name, "libcupti.so.%d", major);
    note_tried(tried, tried_size, name);
    void *library = dlopen(name, OPEN_FLAGS);
    if (library) {
        snprintf(path, path_size, "%s", name);
        return library;
    }
    char named[PATH_MAX] = "", resolved[PATH_MAX] = "";
    python_prefixes(named, resolved);
    const struct {
        const char *root, *below;
    } places[] = {
        {getenv("CUDA_HOME"), "/lib64"},
        {getenv("CUDA_HOME"), "/extras/CUPTI/lib64"},
        {getenv("CUDA_HOME"), "/lib"},
        {"/usr/local/cuda", "/lib64"},
        {"/usr/local/cuda", "/extras/CUPTI/lib64"},
        {getenv("VIRTUAL_ENV"), "/lib*/python3*/site-packages/nvidia/cu*/lib"},
        {named, "/lib*/python3*/*-packages/nvidia/cu*/lib"},
        {resolved, "/lib*/python3*/*-packages/nvidia/cu*/lib"},
        {getenv("CONDA_PREFIX"), "/lib*/python3*/site-packages/nvidia/cu*/lib"},
        {getenv("HOME"), "/.local/lib/python3*/site-packages/nvidia/cu*/lib"},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0] && !library; i++) {
        if (!places[i].root || !*places[i].root)
            continue;
        char *pattern = xasprintf("%s%s/%s", places[i].root, places[i].below, name);
        note_tried(tried, tried_size, pattern);
        library = open_matches(pattern, path, path_size);
        free(pattern);
    }
    return library;
}

bool cupti_library_open(struct cupti_api *api, int major, char *tried, size_t size)
{
    *api = (struct cupti_api){.library = NULL};
    api->library = search(major, api->path, sizeof api->path, tried, size);
    if (!api->library)
        return false;
    bool whole = true;
    void *address;
/* POSIX hands out functions as data pointers; copying the bytes says so without a cast */
#define CUPTI_RESOLVE(member, name, optional)                                                      \
    address = dlsym(api->library, #name);                                                          \
    memcpy(&api->member, &address, sizeof address);                                                \
    whole = whole && (address || (optional));
    CUPTI_FUNCTIONS(CUPTI_RESOLVE)
#undef CUPTI_RESOLVE
    if (!whole)
        cupti_library_close(api);
    return whole;
}

void cupti_library_close(struct cupti_api *api)
{
    if (api->library)
        dlclose(api->library);
    api->library = NULL;
}

bool cupti_error(struct error *error, const struct cupti_api *api, const char *call,
                 CUptiResult result, const char *other)
{
    static const struct {
        int code;
        const char *why, *hint;
    } rows[] = {
        {15,
         "CUPTI could not start: the driver is older than this CUPTI, or libcupti is not the one "
         "of the CUDA in use",
         "set profile events"},
        {23, "CUPTI is disabled in this process (NVIDIA's tools may have done so)",
         "set profile events"},
        {26, "the GPU's counters are in use by another tool (DCGM holds them while it monitors)",
         "dcgmi profile --pause"},
        {27, "the driver does not support this kind of tracing on this GPU", "set profile events"},
        {33, "the GPU is virtual and its host does not allow tracing", "set profile events"},
        {35,
         "the driver allows tracing to administrators only "
         "(NVreg_RestrictProfilingToAdminUsers=1)",
         "set profile events"},
        {38, "another library in this process uses NVIDIA's old profiling interface",
         "set profile events"},
        {39,
         "another tool already traces this process (only one can: Nsight Systems, Nsight Compute, "
         "cuda-gdb, compute-sanitizer)",
         "set profile events"},
        {40, "the GPU is virtual and its host has not granted tracing to this guest",
         "set profile events"},
        {41, "the GPU runs in confidential computing mode, which forbids tracing",
         "set profile events"},
        {43, "CUPTI does not trace MIG slices with this driver", "set profile events"},
        {44, "CUPTI does not trace GPUs joined by SLI", "set profile events"},
        {45, "CUPTI does not trace under WSL with this driver", "set profile events"},
        {999, "CUPTI found no working NVIDIA driver", "devices"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].code != (int)result)
            continue;
        if (other && *other)
            error_set(error, ERROR_CUPTI, "CUPTI", "%s; it calls itself '%s' (%s: %d)", rows[i].why,
                      other, call, (int)result);
        else
            error_set(error, ERROR_CUPTI, "CUPTI", "%s (%s: %d)", rows[i].why, call, (int)result);
        return error_hint(error, "%s", rows[i].hint);
    }
    const char *text = NULL;
    if (!api->result_string || api->result_string(result, &text) != CUPTI_SUCCESS || !text)
        text = "an error without a name";
    error_set(error, ERROR_CUPTI, "CUPTI", "%s answered %s (%d)", call, text, (int)result);
    return error_hint(error, "set profile events");
}
#endif
