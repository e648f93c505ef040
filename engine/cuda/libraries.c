#define _GNU_SOURCE /* dlinfo */
#include "engine/cuda/libraries.h"
#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUDNN_OLDEST 90000
#define WHEELS       "/lib*/python3*/{site-packages,dist-packages}/nvidia/*/lib/"

/* One library being looked for. */
struct search {
    const char *const *sonames; /* newest first, NULL at the end */
    void *handle;
    char path[512];
    char tried[768]; /* the places, for the error */
    char why[256];   /* the linker's words about a file that is there and does not load */
};

static void note_tried(struct search *search, const char *place)
{
    size_t used = strlen(search->tried);
    if (strstr(search->tried, place) == NULL) {
        snprintf(search->tried + used, sizeof search->tried - used, "%s%s", used > 0 ? ", " : "",
                 place);
    }
}

static bool open_path(struct search *search, const char *path)
{
    search->handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (search->handle == NULL) {
        const char *why = dlerror();
        /* "cannot open shared object file" of the path itself says only that it is not there */
        if (path[0] == '/' && access(path, F_OK) == 0 && why != NULL) {
            snprintf(search->why, sizeof search->why, "%s", why);
        }
        return false;
    }
    struct link_map *map;
    bool known = dlinfo(search->handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0';
    snprintf(search->path, sizeof search->path, "%s", known ? map->l_name : path);
    return true;
}

/* Try every soname in `folder`, which may hold wildcards and ends in '/' (or is ""). */
static bool open_in(struct search *search, const char *folder)
{
    char pattern[PATH_MAX + 128];
    for (const char *const *name = search->sonames; *name != NULL; name++) {
        snprintf(pattern, sizeof pattern, "%s%s", folder, *name);
        if (folder[0] == '\0') {
            if (open_path(search, pattern)) {
                return true;
            }
            continue;
        }
        glob_t found;
        if (glob(pattern, GLOB_BRACE, NULL, &found) == 0) {
            for (size_t i = 0; i < found.gl_pathc && search->handle == NULL; i++) {
                open_path(search, found.gl_pathv[i]);
            }
        }
        globfree(&found);
        if (search->handle != NULL) {
            return true;
        }
    }
    return false;
}

/* Try a prefix's wheels: PREFIX/lib/python3.x/site-packages/nvidia/NAME/lib. */
static bool open_wheels(struct search *search, const char *prefix)
{
    char folder[PATH_MAX + 64], shown[PATH_MAX + 64];
    if (prefix == NULL || prefix[0] != '/') {
        return false;
    }
    snprintf(folder, sizeof folder, "%s" WHEELS, prefix);
    snprintf(shown, sizeof shown, "%s/lib/python3*/site-packages/nvidia", prefix);
    note_tried(search, shown);
    return open_in(search, folder);
}

/* The wheels of the python3 on PATH: as named there (a virtual environment's link) and as it
 * resolves (the installation behind it). */
static bool open_python_wheels(struct search *search)
{
    const char *path = getenv("PATH");
    char file[PATH_MAX], resolved[PATH_MAX];
    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/python3", (int)length, path);
        path += length + (path[length] == ':');
        if (length == 0 || access(file, X_OK) != 0) {
            continue;
        }
        const char *names[] = {file, realpath(file, resolved)};
        for (size_t i = 0; i < 2; i++) {
            char prefix[PATH_MAX];
            snprintf(prefix, sizeof prefix, "%s", names[i] != NULL ? names[i] : "");
            for (int up = 0; up < 2; up++) { /* PREFIX/bin/python3 -> PREFIX */
                char *slash = strrchr(prefix, '/');
                if (slash != NULL) {
                    *slash = '\0';
                }
            }
            if (open_wheels(search, prefix[0] != '\0' ? prefix : NULL)) {
                return true;
            }
        }
    }
    return false;
}

static bool search_all(struct search *search)
{
    char folder[PATH_MAX];

    note_tried(search, "the linker's search path");
    if (open_in(search, "")) {
        return true;
    }
    for (const char *list = getenv("LD_LIBRARY_PATH"); list != NULL && *list != '\0';) {
        size_t length = strcspn(list, ":");
        if (length > 0) {
            snprintf(folder, sizeof folder, "%.*s/", (int)length, list);
            note_tried(search, folder);
            if (open_in(search, folder)) {
                return true;
            }
        }
        list += length + (list[length] == ':');
    }
    const char *const homes[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda"};
    for (size_t i = 0; i < sizeof homes / sizeof homes[0]; i++) {
        if (homes[i] != NULL && homes[i][0] != '\0') {
            snprintf(folder, sizeof folder, "%s/lib64/", homes[i]);
            note_tried(search, folder);
            if (open_in(search, folder)) {
                return true;
            }
        }
    }
    char user[PATH_MAX] = "", pyenv[PATH_MAX] = "";
    if (getenv("HOME") != NULL) {
        snprintf(user, sizeof user, "%s/.local", getenv("HOME"));
        snprintf(pyenv, sizeof pyenv, "%s/.pyenv/versions/*", getenv("HOME"));
    }
    return open_wheels(search, getenv("VIRTUAL_ENV")) ||
           open_wheels(search, getenv("CONDA_PREFIX")) || open_python_wheels(search) ||
           open_wheels(search, user) || open_wheels(search, pyenv) ||
           open_wheels(search, "/usr/local") || open_wheels(search, "/usr");
}

/* Find one library or explain. `wheel` is what pip would install. */
static bool library_find(struct search *search, const char *name, const char *wheel,
                         struct error *error)
{
    if (search_all(search)) {
        return true;
    }
    if (search->why[0] != '\0') {
        error_set(error, ERROR_GPU, name, "found but does not load: %s", search->why);
    } else {
        error_set(error, ERROR_GPU, name, "%s was not found (tried %s)", search->sonames[0],
                  search->tried);
    }
    error_hint(error, "export LD_LIBRARY_PATH=/folder/with/%s, or: python3 -m pip install %s",
               search->sonames[0], wheel);
    return false;
}

static bool symbol_find(void *handle, const char *name, void *slot, const char *path,
                        struct error *error)
{
    void *symbol = dlsym(handle, name);
    if (symbol == NULL) {
        return error_set(error, ERROR_GPU, path, "it has no %s: too old", name);
    }
    memcpy(slot, &symbol, sizeof symbol); /* ISO C has no cast from object to function pointer */
    return true;
}

static bool cublaslt_open(struct libraries *out, struct error *error)
{
    static const char *const sonames[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
    struct search search = {.sonames = sonames};

    if (!library_find(&search, "cuBLASLt", "nvidia-cublas", error)) {
        return false;
    }
    snprintf(out->cublaslt_path, sizeof out->cublaslt_path, "%s", search.path);
#define FIND(name)                                                                                 \
    if (!symbol_find(search.handle, #name, &out->cublaslt.name, search.path, error)) {             \
        return false;                                                                              \
    }
    CUBLASLT_FUNCTIONS(FIND)
#undef FIND
    out->cublaslt_version = out->cublaslt.cublasLtGetVersion();
    /* cuDNN compiles fused kernels with NVRTC and looks for it by its bare name. Nothing is lost
     * without it but the engines that are compiled at run time, so a failure is no error. */
    bool twelve = strstr(search.path, "libcublasLt.so.12") != NULL;
    static const char *const nvrtc13[] = {"libnvrtc.so.13", NULL};
    static const char *const nvrtc12[] = {"libnvrtc.so.12", NULL};
    struct search nvrtc = {.sonames = twelve ? nvrtc12 : nvrtc13};
    search_all(&nvrtc);
    return true;
}

static bool cudnn_open(struct libraries *out, struct error *error)
{
    static const char *const sonames[] = {"libcudnn.so.9", NULL};
    struct search search = {.sonames = sonames};

    if (!library_find(&search, "cuDNN", "nvidia-cudnn-cu13", error)) {
        return false;
    }
    snprintf(out->cudnn_path, sizeof out->cudnn_path, "%s", search.path);
#define FIND(name)                                                                                 \
    if (!symbol_find(search.handle, #name, &out->cudnn.name, search.path, error)) {                \
        return false;                                                                              \
    }
    CUDNN_FUNCTIONS(FIND)
#undef FIND
    out->cudnn_version = out->cudnn.cudnnGetVersion();
    if (out->cudnn_version < CUDNN_OLDEST) {
        return error_set(error, ERROR_GPU, "cuDNN", "%s is version %zu, 9.0 or newer is needed",
                         search.path, out->cudnn_version);
    }
    return true;
}

static struct libraries libraries; /* engine thread only */

const struct libraries *libraries_found(void)
{
    return &libraries;
}

const struct libraries *libraries_open(struct error *error)
{
    static bool done, good;
    static struct error remembered;

    if (!done) {
        done = true;
        /* cuBLASLt first: cuDNN asks for it by name and then finds this one */
        good = cublaslt_open(&libraries, &remembered) && cudnn_open(&libraries, &remembered);
    }
    if (!good && error != NULL) {
        *error = remembered;
    }
    return good ? &libraries : NULL;
}
