/* What the files python*.c share; nobody else includes this. */
#ifndef LAYERTOP_ENGINE_PROBE_PYTHON_H
#define LAYERTOP_ENGINE_PROBE_PYTHON_H

#include "engine/probe/probe.h"
#include <limits.h>

#define FOLDERS_MAX 16

/* An environment: its prefix and the folders its packages lie in, its own first. */
struct environment {
    char prefix[PATH_MAX];
    char folders[FOLDERS_MAX][PATH_MAX];
    size_t count;
    bool system; /* packages of the installation behind a virtual environment count as well */
    char version[32];
};

/* python_packages.c. {name, version, missing_files, missing} of each distribution that matters here;
 * *all becomes how many there are of any kind. `requires` gets "nvidia-...==..." lines of their
 * metadata: {package: {required name: version}}. New reference. */
json_t *python_packages(const struct environment *environment, json_t *requires, size_t *all);
/* The version of a package, NULL if it is not there. */
const char *python_package_version(const json_t *packages, const char *name);

/* python_frameworks.c. Adds "frameworks" and "needs". */
void python_frameworks(json_t *record, const struct environment *environment,
                       const json_t *packages, const json_t *requires);

/* python_libraries.c. The place of a library for one that asks for it: fills `need` with found, how,
 * path, package_version, shadows. `user` is the asking library's path or NULL, `needs` what it says
 * of itself or NULL. */
struct elf_needs;
void python_find_library(json_t *need, const struct environment *environment,
                         const json_t *packages, const char *soname, const char *user,
                         const struct elf_needs *needs);

#endif
