/* A Python environment: where it is, and where its packages lie. Nothing of it is run. */
#include "engine/probe/python.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL_FILE 65536

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Drop the last part of a path, in place. */
static bool cut_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return false;
    *slash = '\0';
    return true;
}

static void add_folder(struct environment *environment, const char *path)
{
    char real[PATH_MAX];
    if (environment->count == FOLDERS_MAX || !is_folder(path) || realpath(path, real) == NULL)
        return;
    for (size_t i = 0; i < environment->count; i++)
        if (strcmp(environment->folders[i], real) == 0)
            return; /* lib64 is a link to lib */
    snprintf(environment->folders[environment->count++], PATH_MAX, "%s", real);
}

static void add_matches(struct environment *environment, const char *prefix, const char *below)
{
    char pattern[PATH_MAX + 64];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s%s", prefix, below);
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            add_folder(environment, found.gl_pathv[i]);
    globfree(&found);
}

/* The folders below a prefix, in the order of Python's own search. Debian's packages lie elsewhere. */
static void add_prefix(struct environment *environment, const char *prefix)
{
    static const char *const places[] = {
        "/lib/python3*/site-packages", "/lib64/python3*/site-packages",
        "/local/lib/python3*/dist-packages", "/lib/python3*/dist-packages",
        "/lib/python3/dist-packages"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        add_matches(environment, prefix, places[i]);
}

/* "home = /usr/bin" in pyvenv.cfg -> value into out */
static bool find_setting(const char *text, const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    for (const char *at = text; at != NULL && *at != '\0';) {
        const char *rest = at + length;
        if (strncmp(at, name, length) == 0) {
            rest += strspn(rest, " \t");
            if (*rest == '=') {
                rest++;
                rest += strspn(rest, " \t");
                snprintf(out, size, "%.*s", (int)strcspn(rest, "\r\n"), rest);
                return true;
            }
        }
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    return false;
}

static void read_configuration(struct environment *environment)
{
    char path[PATH_MAX + 16], value[PATH_MAX], home[PATH_MAX];
    snprintf(path, sizeof path, "%s/pyvenv.cfg", environment->prefix);
    char *text = probe_read(path, SMALL_FILE);
    if (text == NULL)
        return;
    if (find_setting(text, "version", value, sizeof value) ||
        find_setting(text, "version_info", value, sizeof value))
        text_clean(environment->version, sizeof environment->version, value);
    if (find_setting(text, "include-system-site-packages", value, sizeof value) &&
        strcmp(value, "true") == 0 && find_setting(text, "home", home, sizeof home) &&
        home[0] == '/' && cut_last(home)) {
        environment->system = true;
        add_prefix(environment, home);
    }
    free(text);
}

/* ".../lib/python3.11/site-packages" -> "3.11" */
static void version_of_folder(struct environment *environment)
{
    const char *at = environment->count > 0 ? strstr(environment->folders[0], "/python3.") : NULL;
    if (environment->version[0] == '\0' && at != NULL)
        snprintf(environment->version, sizeof environment->version, "%.*s",
                 (int)strcspn(at + 7, "/"), at + 7);
}

static bool holds_packages(const char *folder)
{
    char pattern[PATH_MAX + 32];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/*.dist-info", folder);
    bool any = glob(pattern, GLOB_NOSORT, NULL, &found) == 0 && found.gl_pathc > 0;
    globfree(&found);
    return any;
}

/* The prefix of an interpreter: as it is named (a virtual environment's link), else as it resolves. */
static bool take_interpreter(struct environment *environment, const char *path)
{
    char real[PATH_MAX];
    const char *names[] = {path, realpath(path, real)};
    for (size_t i = 0; i < 2 && environment->count == 0; i++) {
        char prefix[PATH_MAX];
        if (names[i] == NULL || strlen(names[i]) >= sizeof prefix)
            continue;
        strcpy(prefix, names[i]);
        if (!cut_last(prefix) || !cut_last(prefix))
            continue;
        strcpy(environment->prefix, prefix);
        add_prefix(environment, prefix);
    }
    return environment->count > 0;
}

static bool take_folder(struct environment *environment, const char *path)
{
    char named[PATH_MAX + 16];
    snprintf(environment->prefix, sizeof environment->prefix, "%s", path);
    add_prefix(environment, path);
    if (environment->count > 0)
        return true;
    snprintf(named, sizeof named, "%s/bin/python3", path);
    if (holds_packages(path)) { /* site-packages itself, or of `pip install --target` */
        add_folder(environment, path);
        char *library = strstr(environment->prefix, "/lib/python3");
        if (library != NULL)
            *library = '\0';
        return true;
    }
    return access(named, F_OK) == 0 && take_interpreter(environment, named);
}

static bool open_environment(struct environment *environment, const char *path, struct error *error)
{
    struct stat status;
    char absolute[PATH_MAX], folder[PATH_MAX];
    memset(environment, 0, sizeof *environment);
    if (stat(path, &status) != 0)
        return error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    /* absolute, but with the names as they are: a virtual environment is its link */
    if (path[0] == '/')
        snprintf(absolute, sizeof absolute, "%s", path);
    else if (getcwd(folder, sizeof folder) == NULL ||
             snprintf(absolute, sizeof absolute, "%s/%s", folder, path) >= (int)sizeof absolute)
        return error_set(error, ERROR_FILE, path, "its name is too long");
    while (strlen(absolute) > 1 && absolute[strlen(absolute) - 1] == '/')
        absolute[strlen(absolute) - 1] = '\0';
    bool found = S_ISDIR(status.st_mode) ? take_folder(environment, absolute)
                                         : take_interpreter(environment, absolute);
    if (!found) {
        error_set(error, ERROR_FILE, path,
                  "it is no Python environment: there is no lib/python3*/site-packages below it");
        return error_hint(error, "doctor --python $VIRTUAL_ENV");
    }
    read_configuration(environment);
    version_of_folder(environment);
    return true;
}

/* What Keras 3 computes with: its variable, its file, its default. */
static void find_keras_backend(json_t *python)
{
    char path[PATH_MAX];
    char *variable = probe_environment("KERAS_BACKEND");
    char *home = probe_environment("KERAS_HOME");
    const char *backend = "tensorflow";
    json_t *file = NULL;
    if (home != NULL)
        snprintf(path, sizeof path, "%s/keras.json", home);
    else
        snprintf(path, sizeof path, "%s/.keras/keras.json",
                 getenv("HOME") != NULL ? getenv("HOME") : "");
    char *text = probe_read(path, SMALL_FILE);
    if (variable != NULL && *variable != '\0') {
        backend = variable;
        probe_set_text(python, "keras_backend_from", "KERAS_BACKEND");
    } else if (text != NULL && (file = json_loads(text, 0, NULL)) != NULL &&
               json_is_string(json_object_get(file, "backend"))) {
        backend = json_string_value(json_object_get(file, "backend"));
        probe_set_text(python, "keras_backend_from", path);
    } else {
        probe_set_text(python, "keras_backend_from", "default");
    }
    probe_set_text(python, "keras_backend", backend);
    json_decref(file);
    free(text);
    free(variable);
    free(home);
}

bool probe_python(json_t *record, const char *path, struct error *error)
{
    struct environment *environment = xcalloc(1, sizeof *environment);
    size_t all = 0;
    if (!open_environment(environment, path, error)) {
        free(environment);
        return false;
    }
    json_t *python = json_object(), *requires = json_object();
    json_t *packages = python_packages(environment, requires, &all);
    probe_set_text(python, "prefix", environment->prefix);
    if (environment->version[0] != '\0')
        probe_set_text(python, "version", environment->version);
    probe_set_text(python, "packages_folder", environment->folders[0]);
    json_object_set_new(python, "package_count", json_integer((json_int_t)all));
    json_object_set_new(python, "system_packages", json_boolean(environment->system));
    find_keras_backend(python);
    python_frameworks(record, environment, packages, requires);
    json_object_set_new(record, "python", python);
    json_object_set_new(record, "packages", packages);
    json_decref(requires);
    free(environment);
    return true;
}
