/* Installed distributions, by their *.dist-info: METADATA for name and version, RECORD for files that
 * should be there. Both may be broken or enormous: lines are bounded, and what is not read is not
 * believed. Sources: PyPA, "Core metadata specifications", "Recording installed projects". */
#include "engine/probe/python.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define METADATA_BYTES (256u << 10)
#define RECORD_BYTES   (32u << 20)
#define PACKAGES_MAX   64 /* of the record */

/* Frameworks and what NVIDIA ships for them. */
static bool matters(const char *name)
{
    static const char *const names[] = {
        "torch",         "jax",        "jaxlib",     "keras",          "tf-keras",
        "keras-nightly", "tensorflow", "tf-nightly", "tf-nightly-cpu", "intel-tensorflow"};
    static const char *const begins[] = {"nvidia-",        "jax-cuda",         "tensorflow-cpu",
                                         "tensorflow-gpu", "tensorflow-intel", "tensorrt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(begins[i], name, strlen(begins[i])) == 0)
            return true;
    return false;
}

/* A name as PyPI compares it: small letters, runs of - _ . as one -. */
static void normalise(char *name)
{
    char *out = name;
    for (const char *at = name; *at != '\0'; at++) {
        bool mark = *at == '-' || *at == '_' || *at == '.';
        if (mark && out > name && out[-1] == '-')
            continue;
        *out++ = mark ? '-' : (char)tolower((unsigned char)*at);
    }
    *out = '\0';
}

/* A header's value out of METADATA, whose headers end at the first empty line. */
static bool find_header(const char *text, const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    for (const char *at = text; *at != '\0' && *at != '\n' && *at != '\r';) {
        if (strncmp(at, name, length) == 0 && at[length] == ':') {
            at += length + 1;
            at += strspn(at, " \t");
            char *copy = xasprintf("%.*s", (int)strcspn(at, "\r\n"), at);
            text_clean(out, size, copy);
            free(copy);
            return *out != '\0';
        }
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    return false;
}

/* "Requires-Dist: nvidia-cudnn-cu12==9.1.0.70; platform_system == ..." into {name: version}. */
static void find_requirements(const char *text, const char *package, json_t *requires)
{
    static const char header[] = "Requires-Dist: nvidia-";
    json_t *list = NULL;
    for (const char *at = strstr(text, header); at != NULL; at = strstr(at + 1, header)) {
        char name[64], version[64];
        const char *start = at + sizeof header - 1 - strlen("nvidia-");
        size_t length = strcspn(start, " =<>!~;[(\r\n");
        if (length >= sizeof name || strncmp(start + length, "==", 2) != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)length, start);
        normalise(name);
        start += length + 2;
        length = strspn(start, "0123456789.");
        if (length == 0 || length >= sizeof version)
            continue;
        snprintf(version, sizeof version, "%.*s", (int)length, start);
        if (list == NULL)
            list = json_object();
        json_object_set_new(list, name, json_string(version));
    }
    if (list != NULL)
        json_object_set_new(requires, package, list);
}

/* Shared libraries of RECORD that are not on disk. "nvidia/cudnn/lib/libcudnn.so.9,sha256=..,1234" */
static json_int_t count_missing(const char *folder, const char *record, char *first, size_t size)
{
    json_int_t missing = 0;
    for (const char *at = record; *at != '\0';) {
        size_t line = strcspn(at, "\n"), length = strcspn(at, ",\n");
        char name[1024], path[PATH_MAX + 1024];
        const char *entry = at;
        at += line + (at[line] == '\n');
        /* quoted, absolute and climbing names are not those of libraries */
        if (length == 0 || length >= sizeof name || entry[0] == '"' || entry[0] == '/' ||
            entry[0] == '.')
            continue;
        snprintf(name, sizeof name, "%.*s", (int)length, entry);
        const char *extension = strstr(name, ".so");
        if (extension == NULL || (extension[3] != '\0' && extension[3] != '.') ||
            strstr(name, "..") != NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (access(path, F_OK) == 0)
            continue;
        if (missing++ == 0)
            text_clean(first, size, name);
    }
    return missing;
}

/* "torch-2.6.0+cu126.dist-info" -> name and version: for a METADATA that cannot be read. */
static bool split_folder(const char *entry, char *name, size_t name_size, char *version,
                         size_t version_size)
{
    const char *end = strstr(entry, ".dist-info");
    const char *dash = end; /* not the one of "dist-info" */
    while (dash != NULL && dash > entry && *dash != '-')
        dash--;
    if (end == NULL || dash == entry)
        return false;
    char *copy = xasprintf("%.*s", (int)(dash - entry), entry);
    text_clean(name, name_size, copy);
    free(copy);
    copy = xasprintf("%.*s", (int)(end - dash - 1), dash + 1);
    text_clean(version, version_size, copy);
    free(copy);
    return true;
}

static void take_package(json_t *packages, json_t *requires, const char *folder, const char *entry)
{
    char path[PATH_MAX + 512], name[128] = "", version[64] = "", missing[512] = "";
    if (!split_folder(entry, name, sizeof name, version, sizeof version))
        return;
    snprintf(path, sizeof path, "%s/%s/METADATA", folder, entry);
    /* the folder's name says enough to pass over the hundreds that do not matter */
    normalise(name);
    if (!matters(name) || json_array_size(packages) == PACKAGES_MAX ||
        python_package_version(packages, name) != NULL)
        return;
    char *text = probe_read(path, METADATA_BYTES);
    char told[64];
    bool whole = text != NULL && find_header(text, "Name", told, sizeof told) &&
                 find_header(text, "Version", told, sizeof told);
    if (whole)
        snprintf(version, sizeof version, "%s", told);
    if (text != NULL)
        find_requirements(text, name, requires);
    free(text);
    json_t *package = json_object();
    probe_set_text(package, "name", name);
    probe_set_text(package, "version", version);
    snprintf(path, sizeof path, "%s/%s/RECORD", folder, entry);
    char *record = probe_read(path, RECORD_BYTES);
    json_int_t count = record != NULL ? count_missing(folder, record, missing, sizeof missing) : 0;
    if (!whole && count++ == 0)
        snprintf(missing, sizeof missing, "%.256s/METADATA", entry);
    if (record != NULL || !whole)
        json_object_set_new(package, "missing_files", json_integer(count));
    if (missing[0] != '\0')
        probe_set_text(package, "missing", missing);
    free(record);
    json_array_append_new(packages, package);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t read_folder(json_t *packages, json_t *requires, const char *folder)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;
    char **names = NULL;
    size_t count = 0;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        size_t length = strlen(entry->d_name);
        if (length <= 10 || strcmp(entry->d_name + length - 10, ".dist-info") != 0)
            continue;
        names = xrealloc(names, (count + 1) * sizeof *names);
        names[count++] = xstrdup(entry->d_name);
    }
    if (directory != NULL)
        closedir(directory);
    if (count > 0)
        qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        take_package(packages, requires, folder, names[i]);
        free(names[i]);
    }
    free(names);
    return count;
}

json_t *python_packages(const struct environment *environment, json_t *requires, size_t *all)
{
    json_t *packages = json_array();
    *all = 0;
    for (size_t i = 0; i < environment->count; i++)
        *all += read_folder(packages, requires, environment->folders[i]);
    return packages;
}

const char *python_package_version(const json_t *packages, const char *name)
{
    size_t index;
    const json_t *package;
    json_array_foreach(packages, index, package)
    {
        const char *other = json_string_value(json_object_get(package, "name"));
        if (other != NULL && strcmp(other, name) == 0)
            return json_string_value(json_object_get(package, "version"));
    }
    return NULL;
}
