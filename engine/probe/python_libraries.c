/* Where a shared library would be found, by the linker's rules: DT_RPATH of who asks (unless it has a
 * DT_RUNPATH), LD_LIBRARY_PATH, DT_RUNPATH, the system's folders. Frameworks also look into NVIDIA's
 * wheels beside them, Conda's python into lib of its environment. Source: ld.so(8). */
#include "engine/probe/elf.h"
#include "engine/probe/python.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL_FILE  65536
#define PLACES_MAX  128 /* of one list */
#define CONFIG_DEEP 4   /* includes within includes */

static bool try_folder(const char *folder, const char *soname, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", folder, soname);
    return access(out, F_OK) == 0;
}

/* Try every part of "A:B:C"; $ORIGIN is the folder of `user`. */
static bool try_list(const char *list, const char *user, const char *soname, char *out, size_t size)
{
    char origin[PATH_MAX] = "";
    if (list == NULL)
        return false;
    if (user != NULL)
        snprintf(origin, sizeof origin, "%.*s", (int)(strrchr(user, '/') - user), user);
    for (int i = 0; i < PLACES_MAX && *list != '\0'; i++) {
        size_t length = strcspn(list, ":");
        char folder[2 * PATH_MAX];
        size_t skip = 0;
        folder[0] = '\0';
        if (strncmp(list, "$ORIGIN", 7) == 0)
            skip = 7;
        else if (strncmp(list, "${ORIGIN}", 9) == 0)
            skip = 9;
        if (length > 0 && length < PATH_MAX && skip <= length)
            snprintf(folder, sizeof folder, "%s%.*s", skip > 0 ? origin : "", (int)(length - skip),
                     list + skip);
        if (folder[0] != '\0' && try_folder(folder, soname, out, size))
            return true;
        list += length + (list[length] == ':');
    }
    return false;
}

static bool try_pattern(const char *pattern, const char *soname, char *out, size_t size)
{
    char whole[PATH_MAX + 128];
    glob_t found;
    snprintf(whole, sizeof whole, "%s/%s", pattern, soname);
    bool any = glob(whole, 0, NULL, &found) == 0 && found.gl_pathc > 0;
    if (any)
        snprintf(out, size, "%s", found.gl_pathv[0]);
    globfree(&found);
    return any;
}

/* /etc/ld.so.conf and what it includes. */
static bool try_configuration(const char *file, const char *soname, char *out, size_t size,
                              int depth)
{
    char *text = probe_read(file, SMALL_FILE), *rest = text, *line;
    bool found = false;
    while (!found && text != NULL && (line = strsep(&rest, "\n")) != NULL) {
        line += strspn(line, " \t");
        line[strcspn(line, " \t#\r")] = strncmp(line, "include", 7) == 0 ? ' ' : '\0';
        if (strncmp(line, "include ", 8) == 0 && depth < CONFIG_DEEP) {
            glob_t files;
            if (glob(line + 8 + strspn(line + 8, " \t"), 0, NULL, &files) != 0)
                files.gl_pathc = 0;
            for (size_t i = 0; i < files.gl_pathc && !found; i++)
                found = try_configuration(files.gl_pathv[i], soname, out, size, depth + 1);
            if (files.gl_pathc > 0)
                globfree(&files);
        } else if (*line == '/') {
            found = try_folder(line, soname, out, size);
        }
    }
    free(text);
    return found;
}

static bool try_system(const char *soname, char *out, size_t size)
{
    static const char *const folders[] = {"/lib/x86_64-linux-gnu",
                                          "/usr/lib/x86_64-linux-gnu",
                                          "/lib/aarch64-linux-gnu",
                                          "/usr/lib/aarch64-linux-gnu",
                                          "/lib64",
                                          "/usr/lib64",
                                          "/lib",
                                          "/usr/lib"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (try_folder(folders[i], soname, out, size))
            return true;
    return try_configuration("/etc/ld.so.conf", soname, out, size, 0);
}

/* NVIDIA's wheels of the environment: nvidia/cudnn/lib, since CUDA 13 also nvidia/cu13/lib. */
static bool try_wheels(const struct environment *environment, const char *soname, char *out,
                       size_t size)
{
    for (size_t i = 0; i < environment->count; i++) {
        char pattern[PATH_MAX + 32];
        snprintf(pattern, sizeof pattern, "%s/nvidia/*/lib", environment->folders[i]);
        if (try_pattern(pattern, soname, out, size))
            return true;
    }
    return false;
}

/* The libraries of a Conda environment: its python's own search path names them. */
static bool try_conda(const struct environment *environment, const char *soname, char *out,
                      size_t size)
{
    char folder[PATH_MAX + 16];
    snprintf(folder, sizeof folder, "%s/conda-meta", environment->prefix);
    if (access(folder, F_OK) != 0)
        return false;
    snprintf(folder, sizeof folder, "%s/lib", environment->prefix);
    return try_folder(folder, soname, out, size);
}

/* Copies that no search leads to, worth naming. */
static bool try_elsewhere(const char *soname, char *out, size_t size)
{
    static const char *const patterns[] = {"/usr/local/cuda*/lib64",
                                           "/usr/local/cuda*/targets/*/lib", "/opt/cuda*/lib64",
                                           "/usr/local/cudnn*/lib*"};
    const char *home = getenv("CUDA_HOME");
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/lib64", home != NULL ? home : "");
    if (home != NULL && try_folder(folder, soname, out, size))
        return true;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (try_pattern(patterns[i], soname, out, size))
            return true;
    return false;
}

/* ".../nvidia/cudnn/lib/libcudnn.so.9" -> the version of nvidia-cudnn-cu12 */
static const char *version_of_wheel(const json_t *packages, const char *path)
{
    const char *at = strstr(path, "/nvidia/");
    size_t index;
    const json_t *package;
    char begin[128];
    if (at == NULL)
        return NULL;
    snprintf(begin, sizeof begin, "nvidia-%.*s", (int)strcspn(at + 8, "/"), at + 8);
    for (char *mark = begin; *mark != '\0'; mark++)
        *mark = *mark == '_' ? '-' : *mark;
    json_array_foreach(packages, index, package)
    {
        const char *name = json_string_value(json_object_get(package, "name"));
        size_t length = strlen(begin);
        if (strncmp(name, begin, length) == 0 &&
            (name[length] == '\0' || strncmp(name + length, "-cu", 3) == 0))
            return json_string_value(json_object_get(package, "version"));
    }
    return NULL;
}

void python_find_library(json_t *need, const struct environment *environment,
                         const json_t *packages, const char *soname, const char *user,
                         const struct elf_needs *needs)
{
    char path[PATH_MAX + 128] = "", wheel[PATH_MAX + 128] = "", text[PATH_MAX + 128];
    const char *how = NULL;
    char *variable = probe_environment("LD_LIBRARY_PATH");
    bool has_runpath = needs != NULL && needs->runpath != NULL;
    if (strchr(soname, '/') != NULL) { /* a path, not a name: nothing is searched */
        json_object_set_new(need, "found", json_boolean(access(soname, F_OK) == 0));
        free(variable);
        return;
    }
    bool has_wheel = try_wheels(environment, soname, wheel, sizeof wheel);
    if (needs != NULL && !has_runpath && try_list(needs->rpath, user, soname, path, sizeof path))
        how = "rpath";
    else if (try_list(variable, NULL, soname, path, sizeof path))
        how = "LD_LIBRARY_PATH";
    else if (has_runpath && try_list(needs->runpath, user, soname, path, sizeof path))
        how = "rpath";
    else if (try_conda(environment, soname, path, sizeof path))
        how = "conda";
    else if (try_system(soname, path, sizeof path))
        how = "system";
    else if (has_wheel)
        how = "wheel";
    free(variable);
    json_object_set_new(need, "found", json_boolean(how != NULL));
    if (how == NULL && !try_elsewhere(soname, path, sizeof path))
        return;
    if (how != NULL && strcmp(how, "wheel") == 0)
        snprintf(path, sizeof path, "%s", wheel);
    /* "lib/../../nvidia" says little */
    char *real = realpath(path, NULL);
    snprintf(text, sizeof text, "%s", real != NULL ? real : path);
    free(real);
    probe_set_text(need, "path", text);
    probe_set_text(need, "how", how);
    probe_set_text(need, "package_version", version_of_wheel(packages, text));
    json_object_set_new(need, "shadows",
                        json_boolean(how != NULL && has_wheel && strstr(text, "/nvidia/") == NULL));
}
