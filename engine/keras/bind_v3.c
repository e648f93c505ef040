/* Weights of Keras 3 and of tf.keras's .keras files: a container holds a group for each layer, named
 * by class and counter ("conv2d_1"), with its variables by number ("vars/0"). Writers counted in
 * different ways, so a layer is found by the name its group carries, else as the n-th of its class
 * that has data. */
#include "engine/keras/bind.h"

#include <stdlib.h>
#include <string.h>

#define DATA_DEPTH 8

/* A group of a container: "conv2d_3" is number 3 of class "conv2d". */
struct entry {
    const char *name;
    size_t stem; /* length of the class part */
    long number;
    char *label; /* the layer's name, which Keras writes since 3.6; NULL if absent */
    bool data;
};

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void entry_read(struct reader *reader, hid_t container, const char *name,
                       struct entry *entry)
{
    size_t length = strlen(name), digits = length;
    while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9')
        digits--;
    *entry = (struct entry){name, length, 0, NULL, false};
    if (digits > 1 && digits < length && length - digits < 10 && name[digits - 1] == '_') {
        entry->stem = digits - 1;
        entry->number = strtol(name + digits, NULL, 10);
    }
    hid_t group = h5_find_group(container, name, reader->error);
    if (group < 0)
        return;
    hid_t vars = h5_find_group(group, "vars", reader->error);
    if (vars >= 0) {
        entry->label = h5_text(vars, "name");
        H5Oclose(vars);
    }
    entry->data = h5_has_data(group, DATA_DEPTH);
    H5Oclose(group);
}

static struct entry *entries_read(struct reader *reader, hid_t container, json_t *names,
                                  size_t *count)
{
    *count = json_array_size(names);
    struct entry *entries = xcalloc(*count, sizeof *entries);
    for (size_t i = 0; i < *count; i++)
        entry_read(reader, container, json_string_value(json_array_get(names, i)), &entries[i]);
    qsort(entries, *count, sizeof *entries, compare_entries);
    return entries;
}

/* The group of a layer: by the name it carries, else the `rank`-th of its class with data. */
static const struct entry *entry_find(const struct entry *entries, size_t count, const char *snake,
                                      const char *layer, size_t rank)
{
    const struct entry *labelled = NULL, *ranked = NULL;
    size_t labels = 0, seen = 0, length = strlen(snake);
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        /* "conv_1" may be the second Conv or the only Conv_1 */
        bool whole = strcmp(entry->name, snake) == 0;
        if (!whole && (entry->stem != length || strncmp(entry->name, snake, length) != 0))
            continue;
        if (entry->label != NULL && strcmp(entry->label, layer) == 0) {
            labels++;
            labelled = entry;
        }
        if (entry->data && seen++ == rank)
            ranked = entry;
    }
    return labels == 1 ? labelled : ranked;
}

/* All datasets of a layer we do not know, by path. */
static bool bind_all(struct reader *reader, int layer, hid_t root, hid_t group, const char *path,
                     int depth)
{
    json_t *names = h5_names(group, KERAS_WEIGHTS_MAX);
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(names); i++) {
        if (reader->visits++ >= KERAS_WEIGHTS_MAX) { /* groups that hold each other in circles */
            ok = error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                           "its groups have more than %d members", KERAS_WEIGHTS_MAX);
            break;
        }
        const char *name = json_string_value(json_array_get(names, i));
        char *full = xasprintf("%s%s", path, name);
        hid_t object = h5_find(group, name, reader->error);
        ok = object >= 0;
        if (ok && H5Iget_type(object) == H5I_DATASET) {
            ok = bind_append(reader, layer, root, full, full);
        } else if (ok && H5Iget_type(object) == H5I_GROUP && depth > 0) {
            char *inner = xasprintf("%s/", full);
            ok = bind_all(reader, layer, root, object, inner, depth - 1);
            free(inner);
        }
        if (object >= 0)
            H5Oclose(object);
        free(full);
    }
    json_decref(names);
    return ok;
}

/* How many variables lie directly in a layer's group. */
static size_t own_variables(hid_t group)
{
    hid_t vars = h5_find_group(group, "vars", NULL);
    if (vars < 0)
        return 0;
    json_t *names = h5_names(vars, KERAS_WEIGHTS_MAX);
    size_t count = json_array_size(names);
    json_decref(names);
    H5Oclose(vars);
    return count;
}

static bool bind_v3_layer(struct reader *reader, const struct child *child,
                          const struct variables *list, hid_t group)
{
    size_t own = 0, held = own_variables(group);
    for (size_t i = 0; i < list->count; i++)
        own += strncmp(list->items[i].path, "vars/", 5) == 0;
    /* SpectralNormalization also keeps a copy of the kernel it wraps */
    if (held != own && !(own > 0 && own < list->count && held > own))
        return bind_count_error(reader, child->name, child->class_name, held, own);
    for (size_t i = 0; i < list->count; i++) {
        const char *path = list->items[i].path;
        /* attention's sublayers were private attributes before 3.0.3, and still are in GQA */
        const char *hidden = reader_print(reader, "_%s", path);
        if (!h5_has(group, path) && h5_has(group, hidden))
            path = hidden;
        if (!bind_append(reader, child->layer, group, path, list->items[i].name))
            return false;
    }
    return true;
}

static hid_t container_find(struct reader *reader, hid_t group)
{
    static const char *const names[] = {"layers", "_layer_checkpoint_dependencies"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hid_t container = h5_find_group(group, names[i], reader->error);
        if (container >= 0 || reader->error->code != ERROR_NONE)
            return container;
    }
    return -1;
}

static bool bind_scope(struct reader *reader, const struct scope *scope, hid_t group);

/* Does a layer or nested model have variables? Fills `slots`. */
static bool is_weighted(struct reader *reader, const struct child *child, struct slots *slots)
{
    bind_collect(reader, child, true, slots);
    return slots->count > 0;
}

static const char *class_of(const struct child *child)
{
    const char *class_name = json_text(child->object, "class_name", "");
    const char *package = strrchr(class_name, '>');
    if (strcmp(child->class_name, "GroupedQueryAttention") == 0)
        return child->class_name; /* the file names the public alias */
    return package != NULL ? package + 1 : class_name;
}

static bool bind_v3_child(struct reader *reader, const struct child *child, hid_t container,
                          const struct entry *entry)
{
    hid_t group = h5_find_group(container, entry->name, reader->error);
    if (group < 0)
        return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                         "the group of the layer \"%s\" is damaged", child->name);
    bool ok;
    if (child->scope != NULL) {
        ok = bind_scope(reader, child->scope, group);
    } else {
        struct variables list = {0};
        variables_append(reader, &list, child->class_name, child->config, "", true);
        ok = list.unknown ? bind_all(reader, child->layer, group, group, "", DATA_DEPTH)
                          : bind_v3_layer(reader, child, &list, group);
    }
    H5Oclose(group);
    return ok;
}

static bool bind_scope(struct reader *reader, const struct scope *scope, hid_t group)
{
    hid_t container = container_find(reader, group);
    json_t *names = container >= 0 ? h5_names(container, KERAS_LAYERS_MAX) : json_array();
    json_t *ranks = json_object();
    size_t count = 0;
    struct entry *entries = container >= 0 ? entries_read(reader, container, names, &count) : NULL;
    bool ok = reader->error->code == ERROR_NONE;
    for (size_t i = 0; ok && i < scope->child_count; i++) {
        const struct child *child = &scope->children[i];
        if (child->is_op || child->is_input)
            continue;
        struct slots slots = {0};
        bool weighted = is_weighted(reader, child, &slots);
        if (weighted || slots.unknown_count > 0) {
            const char *snake = variables_snake(reader, class_of(child));
            size_t rank = (size_t)json_integer_value(json_object_get(ranks, snake));
            const struct entry *entry = entry_find(entries, count, snake, child->name, rank);
            if (entry != NULL) {
                json_object_set_new(ranks, snake, json_integer((json_int_t)rank + 1));
                ok = bind_v3_child(reader, child, container, entry);
            } else if (weighted) {
                ok = bind_count_error(reader, child->name,
                                      child->scope ? "nested model" : child->class_name, 0,
                                      slots.count);
            }
        }
        bind_slots_free(&slots);
    }
    for (size_t i = 0; i < count; i++)
        free(entries[i].label);
    free(entries);
    json_decref(names);
    json_decref(ranks);
    if (container >= 0)
        H5Oclose(container);
    return ok;
}

bool bind_v3(struct reader *reader)
{
    return bind_scope(reader, reader->top, reader->h5.file);
}
