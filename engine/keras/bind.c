/* Which dataset of the weights file is which variable.
 *
 * Legacy HDF5 (Keras 1, 2, tf.keras and `save("x.h5")` of Keras 3): one group per top-level layer
 * with an ordered list of names; for nested models the list holds the trainable variables first and
 * then the others. Keras 3 weights: groups named by class and counter, variables by number. */
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>

/* Names are compared pairwise up to this many; larger groups are matched by order alone. */
#define MATCH_MAX  8192
#define DATA_DEPTH 8

static bool weights_error(struct reader *reader, const char *layer, const char *class_name,
                          size_t held, size_t wanted)
{
    return error_set(reader->error, ERROR_MODEL_WEIGHTS, reader->files->name,
                     "the file holds %zu weight%s for the layer \"%s\" (%s), and its config asks "
                     "for %zu",
                     held, held == 1 ? "" : "s", layer, class_name, wanted);
}

static json_t *layer_weights(struct reader *reader, int layer)
{
    return json_object_get(json_array_get(reader->layers, (size_t)layer), "weights");
}

/* Read one dataset as the next weight of a layer. */
static bool weight_append(struct reader *reader, int layer, hid_t group, const char *path,
                          const char *name)
{
    if (reader->weight_count++ >= KERAS_WEIGHTS_MAX)
        return error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                         "the model has more than %d weights", KERAS_WEIGHTS_MAX);
    json_t *weight = h5_weight(&reader->h5, group, path, name, reader->error);
    if (weight == NULL) {
        /* the file, not the dataset, is what the user knows */
        struct error cause = *reader->error;
        return error_set(
            reader->error, cause.code, reader->files->name, "weight \"%s\" of layer \"%s\": %s",
            path, json_text(json_array_get(reader->layers, (size_t)layer), "path", "?"), cause.why);
    }
    json_array_append_new(layer_weights(reader, layer), weight);
    return true;
}

/* --- legacy HDF5 ---------------------------------------------------------------------------- */

/* An expected variable and the reply's layer it belongs to. */
struct slot {
    struct variable variable;
    int layer;
};

struct slots {
    struct slot *items;
    size_t count, capacity;
    const struct child **unknown; /* layers whose variables are not known */
    size_t unknown_count, unknown_capacity;
};

static void slots_collect(struct reader *reader, const struct child *child, bool trainable,
                          struct slots *slots)
{
    if (child->scope != NULL) {
        for (size_t i = 0; i < child->scope->child_count; i++)
            slots_collect(reader, &child->scope->children[i], child->scope->trainable, slots);
        return;
    }
    if (child->is_op || child->is_input)
        return;
    struct variables list = {0};
    variables_append(reader, &list, child->class_name, child->config, "", trainable);
    if (list.unknown) {
        if (slots->unknown_count == slots->unknown_capacity) {
            slots->unknown_capacity = slots->unknown_capacity ? 2 * slots->unknown_capacity : 8;
            slots->unknown =
                xrealloc(slots->unknown, slots->unknown_capacity * sizeof *slots->unknown);
        }
        slots->unknown[slots->unknown_count++] = child;
        return;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (slots->count == slots->capacity) {
            slots->capacity = slots->capacity ? 2 * slots->capacity : 16;
            slots->items = xrealloc(slots->items, slots->capacity * sizeof *slots->items);
        }
        slots->items[slots->count++] = (struct slot){list.items[i], child->layer};
    }
}

static void slots_free(struct slots *slots)
{
    free(slots->items);
    free(slots->unknown);
}

/* Does the last component of a weight's path, without ":0", say this variable? */
static bool name_is(const char *path, const char *name)
{
    const char *last = strrchr(path, '/');
    last = last != NULL ? last + 1 : path;
    size_t length = strcspn(last, ":");
    if (strlen(name) == length && strncmp(last, name, length) == 0)
        return true;
    /* Keras 3 calls a depthwise kernel just that, a kernel */
    return strcmp(name, "depthwise_kernel") == 0 && length == 6 && strncmp(last, "kernel", 6) == 0;
}

/* Is `name` (which may itself hold slashes) among the path's components? */
static bool path_has(const char *path, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = path; (at = strstr(at, name)) != NULL; at++) {
        if ((at == path || at[-1] == '/') && at[length] == '/')
            return true;
    }
    return false;
}

/* Match by names alone: every slot must have exactly one candidate. */
static bool match_names(const struct slots *slots, json_t *files, size_t *chosen)
{
    size_t count = json_array_size(files);
    if (count > MATCH_MAX || slots->count > MATCH_MAX)
        return false;
    char *used = xcalloc(count, 1);
    bool ok = true;
    for (size_t i = 0; ok && i < slots->count; i++) {
        const struct variable *variable = &slots->items[i].variable;
        size_t owned = 0, named = 0, owned_at = 0, named_at = 0;
        for (size_t j = 0; j < count; j++) {
            const char *path = json_string_value(json_array_get(files, j));
            if (!name_is(path, variable->name))
                continue;
            named++;
            named_at = j;
            if (path_has(path, variable->owner)) {
                owned++;
                owned_at = j;
            }
        }
        ok = owned == 1 || (owned == 0 && named == 1);
        chosen[i] = owned == 1 ? owned_at : named_at;
        ok = ok && !used[chosen[i]];
        if (ok)
            used[chosen[i]] = 1;
    }
    free(used);
    return ok;
}

/* Match by Keras's order: trainable variables first. A name that contradicts is an error. */
static bool match_order(const struct slots *slots, json_t *files, size_t *chosen)
{
    if (slots->unknown_count > 0 || slots->count != json_array_size(files))
        return false;
    size_t next = 0;
    for (int frozen = 0; frozen < 2; frozen++) {
        for (size_t i = 0; i < slots->count; i++) {
            if (slots->items[i].variable.trainable == !frozen)
                chosen[i] = next++;
        }
    }
    for (size_t i = 0; i < slots->count; i++) {
        const char *path = json_string_value(json_array_get(files, chosen[i]));
        if (name_is(path, slots->items[i].variable.name))
            continue;
        for (size_t j = 0; j < slots->count; j++) {
            if (name_is(path, slots->items[j].variable.name))
                return false; /* the name of another variable of this very group */
        }
    }
    return true;
}

/* What is left of a group goes to the layers of unknown class, by name if there are several. */
static bool bind_leftovers(struct reader *reader, const struct slots *slots, hid_t group,
                           json_t *files, const char *used)
{
    size_t i;
    json_t *file;
    json_array_foreach(files, i, file)
    {
        const char *path = json_string_value(file);
        const struct child *owner = slots->unknown_count > 0 ? slots->unknown[0] : NULL;
        for (size_t j = 0; j < slots->unknown_count; j++) {
            if (path_has(path, slots->unknown[j]->name))
                owner = slots->unknown[j];
        }
        if (used[i] || owner == NULL)
            continue;
        const char *last = strrchr(path, '/');
        char *name = xstrdup(last != NULL ? last + 1 : path);
        name[strcspn(name, ":")] = '\0';
        bool ok = weight_append(reader, owner->layer, group, path, name);
        free(name);
        if (!ok)
            return false;
    }
    return true;
}

static bool bind_legacy_group(struct reader *reader, const struct child *child,
                              const struct slots *slots, hid_t group, json_t *files)
{
    size_t count = json_array_size(files);
    const char *class_name = child->scope != NULL ? "nested model" : child->class_name;
    if (slots->count > count || (slots->count < count && slots->unknown_count == 0))
        return weights_error(reader, child->name, class_name, count, slots->count);
    size_t *chosen = xcalloc(slots->count, sizeof *chosen);
    char *used = xcalloc(count, 1);
    bool ok = match_names(slots, files, chosen) || match_order(slots, files, chosen);
    if (!ok)
        error_set(reader->error, ERROR_MODEL_WEIGHTS, reader->files->name,
                  "the weights of the layer \"%s\" (%s) cannot be told apart: their names and "
                  "their order do not agree with its config",
                  child->name, class_name);
    for (size_t i = 0; ok && i < slots->count; i++) {
        used[chosen[i]] = 1;
        ok = weight_append(reader, slots->items[i].layer, group,
                           json_string_value(json_array_get(files, chosen[i])),
                           slots->items[i].variable.name);
    }
    ok = ok && bind_leftovers(reader, slots, group, files, used);
    free(chosen);
    free(used);
    return ok;
}

/* The names of a group's weights; an absent group has none. */
static json_t *group_weights(struct reader *reader, hid_t root, const char *layer, hid_t *group)
{
    *group = h5_find_group(root, layer, reader->error);
    if (*group < 0)
        return reader->error->code == ERROR_NONE ? json_array() : NULL;
    json_t *files = h5_texts(*group, "weight_names");
    if (files == NULL)
        error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                  "the list of weights of the layer \"%s\" is missing or damaged", layer);
    return files;
}

/* Is every group with weights called like a layer of the model? Then names decide, else order (a
 * weights file may come from a model whose layers were called otherwise). */
static bool names_agree(const struct reader *reader, json_t *groups)
{
    size_t i;
    json_t *group;
    json_array_foreach(groups, i, group)
    {
        if (json_object_get(reader->top->index, json_string_value(group)) == NULL)
            return false;
    }
    return true;
}

/* The groups that hold weights, in the file's order. */
static json_t *weighted_groups(struct reader *reader, hid_t root)
{
    json_t *names = h5_texts(root, "layer_names"), *kept = json_array(), *name;
    if (names == NULL)
        error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                  "the list of layers of the weights is missing or damaged");
    size_t i;
    json_array_foreach(names, i, name)
    {
        hid_t group;
        json_t *files = group_weights(reader, root, json_string_value(name), &group);
        if (json_array_size(files) > 0)
            json_array_append(kept, name);
        json_decref(files);
        if (group >= 0)
            H5Oclose(group);
        if (files == NULL)
            break;
    }
    json_decref(names);
    if (reader->error->code != ERROR_NONE) {
        json_decref(kept);
        return NULL;
    }
    return kept;
}

static bool bind_legacy(struct reader *reader)
{
    hid_t root = h5_find_group(reader->h5.file, reader->weights_root, reader->error);
    if (root < 0)
        return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                         "the group of the weights is missing or damaged");
    json_t *groups = weighted_groups(reader, root);
    bool ok = groups != NULL, by_name = ok && names_agree(reader, groups);
    size_t next = 0;
    for (size_t i = 0; ok && i < reader->top->child_count; i++) {
        const struct child *child = &reader->top->children[i];
        struct slots slots = {0};
        slots_collect(reader, child, reader->top->trainable, &slots);
        const char *name = child->name;
        bool wanted = slots.count > 0 || slots.unknown_count > 0;
        if (!by_name && slots.count > 0)
            name = next < json_array_size(groups)
                       ? json_string_value(json_array_get(groups, next++))
                       : child->name;
        hid_t group = -1;
        json_t *files = NULL;
        if (wanted || by_name) {
            files = group_weights(reader, root, name, &group);
            ok = files != NULL && bind_legacy_group(reader, child, &slots, group, files);
        }
        json_decref(files);
        if (group >= 0)
            H5Oclose(group);
        slots_free(&slots);
    }
    if (ok && !by_name && next < json_array_size(groups))
        ok = error_set(reader->error, ERROR_MODEL_WEIGHTS, reader->files->name,
                       "the file holds weights for the layer \"%s\", and the model has no layer "
                       "for them",
                       json_string_value(json_array_get(groups, next)));
    json_decref(groups);
    H5Oclose(root);
    return ok;
}

/* --- Keras 3 weights ------------------------------------------------------------------------ */

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
        const char *name = json_string_value(json_array_get(names, i));
        char *full = xasprintf("%s%s", path, name);
        hid_t object = h5_find(group, name, reader->error);
        ok = object >= 0;
        if (ok && H5Iget_type(object) == H5I_DATASET) {
            ok = weight_append(reader, layer, root, full, full);
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
        return weights_error(reader, child->name, child->class_name, held, own);
    for (size_t i = 0; i < list->count; i++) {
        const char *path = list->items[i].path;
        /* attention's sublayers were private attributes before 3.0.3, and still are in GQA */
        const char *hidden = reader_print(reader, "_%s", path);
        if (!h5_has(group, path) && h5_has(group, hidden))
            path = hidden;
        if (!weight_append(reader, child->layer, group, path, list->items[i].name))
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

static bool bind_v3(struct reader *reader, const struct scope *scope, hid_t group);

/* Does a layer or nested model have variables? `sure` is false if its class is not known. */
static bool is_weighted(struct reader *reader, const struct child *child, struct slots *slots)
{
    slots_collect(reader, child, true, slots);
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
        ok = bind_v3(reader, child->scope, group);
    } else {
        struct variables list = {0};
        variables_append(reader, &list, child->class_name, child->config, "", true);
        ok = list.unknown ? bind_all(reader, child->layer, group, group, "", DATA_DEPTH)
                          : bind_v3_layer(reader, child, &list, group);
    }
    H5Oclose(group);
    return ok;
}

static bool bind_v3(struct reader *reader, const struct scope *scope, hid_t group)
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
                ok = weights_error(reader, child->name,
                                   child->scope ? "nested model" : child->class_name, 0,
                                   slots.count);
            }
        }
        slots_free(&slots);
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

bool bind_weights(struct reader *reader)
{
    switch (reader->layout) {
    case WEIGHTS_LEGACY:
        return bind_legacy(reader);
    case WEIGHTS_V3:
        return bind_v3(reader, reader->top, reader->h5.file);
    case WEIGHTS_RECIPE:
        return recipe_bind(reader);
    case WEIGHTS_NONE:
        break;
    }
    return true;
}
