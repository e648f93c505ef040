#define _GNU_SOURCE
#include "engine/demo.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* Folders above the executable in which a source tree's share/ is looked for: build/ and the
 * deeper folders of the tests and of sanitizer builds. */
#define TREE_LEVELS 4

bool demo_is_name(const char *path)
{
    return strncasecmp(path, "demo:", 5) == 0;
}

char *demo_data_path(const char *relative)
{
    const char *data = getenv("LAYERTOP_DATA");
    if (data != NULL && data[0] != '\0') {
        char *path = xasprintf("%s/%s", data, relative);
        if (access(path, R_OK) == 0)
            return path;
        free(path);
        return NULL;
    }
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return NULL;
    program[length] = '\0';
    for (int level = 0; level <= TREE_LEVELS; level++) {
        char *slash = strrchr(program, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
        char *path = xasprintf("%s/share/layertop/%s", program, relative);
        /* beside the program itself lies nothing: ../share is one level up */
        if (level > 0 && access(path, R_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

/* ---- names ---- */

struct names {
    char **list;
    size_t count;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Entries of a data folder that end with `ending`, without it. */
static void add_names(struct names *names, const char *relative, const char *ending)
{
    char *path = demo_data_path(relative);
    DIR *folder = path != NULL ? opendir(path) : NULL;
    free(path);
    if (folder == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        size_t length = strlen(entry->d_name), tail = strlen(ending);
        if (entry->d_name[0] == '.' || length <= tail ||
            strcmp(entry->d_name + length - tail, ending) != 0)
            continue;
        char *name = xstrdup(entry->d_name);
        name[length - tail] = '\0';
        names->list = xrealloc(names->list, (names->count + 1) * sizeof *names->list);
        names->list[names->count++] = name;
    }
    closedir(folder);
}

json_t *demo_list(struct error *error)
{
    char *data = demo_data_path("demo");
    free(data);
    if (data == NULL) {
        error_set(error, ERROR_MODEL_FILE,
                  "demo:", "the folder share/layertop with the demo models was not found");
        error_hint(error, "LAYERTOP_DATA=/path/to/share/layertop layertop demo:digits");
        return NULL;
    }
    struct names names = {0};
    add_names(&names, "demo/applications", ".json.gz");
    add_names(&names, "demo/models", ".keras");
    if (names.count > 0)
        qsort(names.list, names.count, sizeof *names.list, compare_names);
    json_t *list = json_pack("[s]", "demo:digits");
    for (size_t i = 0; i < names.count; i++) {
        json_array_append_new(list, json_sprintf("demo:%s", names.list[i]));
        free(names.list[i]);
    }
    free(names.list);
    return list;
}

static void refuse(const char *name, struct error *error)
{
    json_t *list = demo_list(error), *item;
    if (list == NULL)
        return;
    char text[sizeof error->why] = "", near[64] = "";
    size_t index;
    json_array_foreach(list, index, item)
    {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, " %s", json_string_value(item) + strlen("demo:"));
        /* the first that goes on where the name ended */
        if (*near == '\0' && strlen(name) > strlen("demo:") &&
            strncasecmp(json_string_value(item), name, strlen(name)) == 0)
            snprintf(near, sizeof near, "%s", json_string_value(item));
    }
    json_decref(list);
    error_set(error, ERROR_MODEL_FILE, name, "the demo models are:%s", text);
    error_hint(error, "load %s", *near != '\0' ? near : "demo:digits");
}

char *demo_resolve(const char *path, struct error *error)
{
    if (!demo_is_name(path))
        return xstrdup(path);
    char name[64] = "";
    const char *typed = path + strlen("demo:");
    bool plain = typed[0] != '\0' && strlen(typed) < sizeof name;
    for (size_t i = 0; plain && typed[i] != '\0'; i++) {
        plain = isalnum((unsigned char)typed[i]) || typed[i] == '_' || typed[i] == '-';
        name[i] = (char)tolower((unsigned char)typed[i]);
    }
    static const char *const places[] = {"demo/%s/%s.h5", "demo/models/%s.keras",
                                         "demo/applications/%s.json.gz"};
    char *found = NULL;
    for (size_t i = 0; plain && found == NULL && i < sizeof places / sizeof *places; i++) {
        char relative[256];
        snprintf(relative, sizeof relative, places[i], name, name);
        found = demo_data_path(relative);
    }
    if (found == NULL)
        refuse(path, error);
    return found;
}

static char *digits_path(const char *path, const char *relative)
{
    if (!demo_is_name(path) || strcasecmp(path, "demo:digits") != 0)
        return NULL;
    return demo_data_path(relative);
}

char *demo_labels_path(const char *path)
{
    return digits_path(path, "demo/digits/labels.txt");
}

char *demo_calibration_path(const char *path)
{
    return digits_path(path, "demo/digits/train_x.npz");
}

char *demo_heldout_path(const char *path, bool labels)
{
    return digits_path(path, labels ? "demo/digits/heldout_y.npy" : "demo/digits/heldout_x.npy");
}
