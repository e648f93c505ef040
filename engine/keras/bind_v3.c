/* Weights of Keras 3 and of tf.keras's .keras files: a container holds a group for each layer, named
 * by class and counter ("conv2d_1"), with its variables by number ("vars/0"). Writers counted in
 * different ways, so a layer is found by the name its group carries, else as the n-th of its class
 * that has data. Where the weights are cut into shards, a group may lie in several files, each with
 * a part of what it holds. */
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

/* ---- one group in all the files that have it ---- */

static size_t file_count(const struct reader *reader)
{
    return reader->shards != NULL ? reader->shard_count : 1;
}

static struct h5 *file_at(struct reader *reader, size_t i)
{
    return reader->shards != NULL ? &reader->shards[i] : &reader->h5;
}

/* Fills to[file]: `path` below from[file] (NULL: below the file itself), -1 where it is not.
 * NULL if it is nowhere. Close with groups_close(). */
static hid_t *groups_find(struct reader *reader, const hid_t *from, const char *path)
{
    size_t count = file_count(reader);
    hid_t *to = xcalloc(count + 1, sizeof *to);
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        hid_t parent = from != NULL ? from[i] : file_at(reader, i)->file;
        to[i] = parent >= 0 ? h5_find_group(parent, path, reader->error) : -1;
        any |= to[i] >= 0;
    }
    if (any)
        return to;
    free(to);
    return NULL;
}

static void groups_close(const struct reader *reader, hid_t *groups)
{
    for (size_t i = 0; groups != NULL && i < file_count(reader); i++) {
        if (groups[i] >= 0)
            H5Oclose(groups[i]);
    }
    free(groups);
}

/* The names in the group, each once. */
static json_t *groups_names(const struct reader *reader, const hid_t *groups, size_t most)
{
    size_t count = groups != NULL ? file_count(reader) : 0;
    if (count == 1)
        return h5_names(groups[0], most);
    json_t *names = json_array(), *seen = json_object(), *name;
    for (size_t i = 0; i < count; i++) {
        json_t *own = groups[i] >= 0 ? h5_names(groups[i], most) : json_array();
        size_t j;
        json_array_foreach(own, j, name)
        {
            const char *text = json_string_value(name);
            if (json_object_get(seen, text) == NULL && json_array_size(names) < most)
                json_array_append(names, name);
            json_object_set_new(seen, text, json_true());
        }
        json_decref(own);
    }
    json_decref(seen);
    return names;
}

/* Read dataset `path` of the group, from the file that has it, as the next weight of a layer. */
static bool groups_append(struct reader *reader, int layer, const hid_t *groups, const char *path,
                          const char *name)
{
    size_t at = 0, count = file_count(reader);
    for (size_t i = 0; i < count; i++) { /* where it is nowhere, some file says so */
        if (groups[at] < 0 || (groups[i] >= 0 && count > 1 && h5_has(groups[i], path)))
            at = i;
    }
    return bind_append(reader, file_at(reader, at), layer, groups[at], path, name);
}

static bool groups_have(const struct reader *reader, const hid_t *groups, const char *path)
{
    for (size_t i = 0; i < file_count(reader); i++) {
        if (groups[i] >= 0 && h5_has(groups[i], path))
            return true;
    }
    return false;
}

/* ---- entries ---- */

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void entry_read(struct reader *reader, const hid_t *container, const char *name,
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
    hid_t *groups = groups_find(reader, container, name);
    if (groups == NULL)
        return;
    hid_t *vars = groups_find(reader, groups, "vars");
    for (size_t i = 0; i < file_count(reader); i++) {
        if (vars != NULL && vars[i] >= 0 && entry->label == NULL)
            entry->label = h5_text(vars[i], "name");
        entry->data |= groups[i] >= 0 && h5_has_data(groups[i], DATA_DEPTH);
    }
    groups_close(reader, vars);
    groups_close(reader, groups);
}

static struct entry *entries_read(struct reader *reader, const hid_t *container, json_t *names,
                                  size_t *count)
{
    *count = json_array_size(names);
    struct entry *entries = xcalloc(*count, sizeof *entries);
    for (size_t i = 0; i < *count; i++)
        entry_read(reader, container, json_string_value(json_array_get(names, i)), &entries[i]);
    qsort(entries, *count, sizeof *entries, compare_entries);
    return entries;
}

/* The group of a layer: by the name it carries, else (`by_rank`) the `rank`-th of its class with
 * data. */
static const struct entry *entry_find(const struct entry *entries, size_t count, const char *snake,
                                      const char *layer, size_t rank, bool by_rank)
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
    return labels == 1 ? labelled : by_rank ? ranked : NULL;
}

/* All datasets of a layer we do not know, by path, of one file. */
static bool bind_all(struct reader *reader, struct h5 *h5, int layer, hid_t root, hid_t group,
                     const char *path, int depth)
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
            ok = bind_append(reader, h5, layer, root, full, full);
        } else if (ok && H5Iget_type(object) == H5I_GROUP && depth > 0) {
            char *inner = xasprintf("%s/", full);
            ok = bind_all(reader, h5, layer, root, object, inner, depth - 1);
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
static size_t own_variables(struct reader *reader, const hid_t *groups)
{
    hid_t *vars = groups_find(reader, groups, "vars");
    json_t *names = groups_names(reader, vars, KERAS_WEIGHTS_MAX);
    size_t count = json_array_size(names);
    json_decref(names);
    groups_close(reader, vars);
    return count;
}

/* For each variable of a layer one more than the number under which it was bound at another place, 0
 * if it was not. In the arena. */
static size_t *places_shared(struct reader *reader, const struct object_mark *layer,
                             const struct variables *list)
{
    size_t *places = reader_alloc(reader, (list->count + 1) * sizeof *places), first;
    memset(places, 0, (list->count + 1) * sizeof *places);
    for (size_t i = 0; i <= list->object_count; i++) {
        const struct object_mark *mark = i > 0 ? &list->objects[i - 1] : layer;
        for (size_t j = 0; shared_find(reader, mark, &first) && j < mark->count; j++)
            places[mark->first + j] = first + j + 1;
    }
    return places;
}

/* The variables of a layer, from its group or, where that lacks them or there is none (NULL), as they
 * were bound at another place. */
static bool bind_v3_layer(struct reader *reader, const struct child *child,
                          const struct variables *list, const hid_t *groups)
{
    struct object_mark whole = shared_mark(reader, child->object, 0, list->count);
    size_t *places = places_shared(reader, &whole, list), base = shared_next(reader);
    size_t own = 0, owed = 0, held = groups != NULL ? own_variables(reader, groups) : 0;
    for (size_t i = 0; i < list->count; i++) {
        bool direct = strncmp(list->items[i].path, "vars/", 5) == 0;
        own += direct;
        owed += (direct || groups == NULL) && places[i] == 0;
    }
    /* SpectralNormalization also keeps a copy of the kernel it wraps */
    bool copied = own > 0 && own < list->count && held > own;
    if (groups == NULL ? owed > 0 : held != own && !copied && !(held == 0 && owed == 0))
        return bind_count_error(reader, child->name, child->class_name, held,
                                groups != NULL ? own : list->count);
    for (size_t i = 0; i < list->count; i++) {
        const char *path = list->items[i].path;
        /* attention's sublayers were private attributes before 3.0.3, and still are in GQA */
        const char *hidden = reader_print(reader, "_%s", path);
        bool there = groups != NULL && groups_have(reader, groups, path);
        if (groups != NULL && !there && groups_have(reader, groups, hidden)) {
            path = hidden;
            there = true;
        }
        if (places[i] != 0 && !there) {
            if (!shared_append(reader, child->layer, places[i] - 1))
                return false;
            continue;
        }
        if (!groups_append(reader, child->layer, groups, path, list->items[i].name))
            return false;
        shared_keep(reader, child->layer);
    }
    for (size_t i = 0; i < list->object_count; i++)
        shared_note(reader, &list->objects[i], base);
    shared_note(reader, &whole, base);
    return true;
}

static hid_t *container_find(struct reader *reader, const hid_t *groups)
{
    static const char *const names[] = {"layers", "_layer_checkpoint_dependencies"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hid_t *container = groups_find(reader, groups, names[i]);
        if (container != NULL || reader->error->code != ERROR_NONE)
            return container;
    }
    return NULL;
}

static bool bind_scope(struct reader *reader, const struct scope *scope, const hid_t *container);

/* Does a layer or nested model have variables? Fills `slots`. */
static bool is_weighted(struct reader *reader, const struct child *child, struct slots *slots)
{
    bind_collect(reader, child, true, slots);
    return slots->count > 0;
}

/* Were all variables of a layer or nested model bound at other places? */
static bool is_shared(struct reader *reader, const struct child *child, size_t count)
{
    struct object_mark whole = shared_mark(reader, child->object, 0, count);
    size_t first;
    if (count == 0 || shared_find(reader, &whole, &first))
        return true;
    if (child->scope == NULL) {
        struct variables list = {0};
        variables_append(reader, &list, child->class_name, child->config, "", true);
        const size_t *places = places_shared(reader, &whole, &list);
        for (size_t i = 0; i < list.count; i++) {
            if (places[i] == 0)
                return false;
        }
        return !list.unknown;
    }
    bool all = true;
    for (size_t i = 0; all && i < child->scope->child_count; i++) {
        struct slots slots = {0};
        is_weighted(reader, &child->scope->children[i], &slots);
        all = is_shared(reader, &child->scope->children[i], slots.count);
        bind_slots_free(&slots);
    }
    return all;
}

static const char *class_of(const struct child *child)
{
    const char *class_name = json_text(child->object, "class_name", "");
    const char *package = strrchr(class_name, '>');
    if (strcmp(child->class_name, "GroupedQueryAttention") == 0)
        return child->class_name; /* the file names the public alias */
    return package != NULL ? package + 1 : class_name;
}

/* A layer or nested model in its group, or (NULL) with the weights of other places alone. */
static bool bind_v3_child(struct reader *reader, const struct child *child, const hid_t *container,
                          const struct entry *entry, const struct slots *slots)
{
    hid_t *groups = entry != NULL ? groups_find(reader, container, entry->name) : NULL;
    if (entry != NULL && groups == NULL)
        return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                         "the group of the layer \"%s\" is damaged", child->name);
    struct object_mark whole = shared_mark(reader, child->object, 0, slots->count);
    size_t base = shared_next(reader), first;
    bool ok = true;
    if (child->scope != NULL && groups == NULL && slots->unknown_count == 0 &&
        shared_find(reader, &whole, &first)) {
        for (size_t i = 0; ok && i < slots->count; i++)
            ok = shared_append(reader, slots->items[i].layer, first + i);
        shared_note(reader, &whole, base);
    } else if (child->scope != NULL) {
        hid_t *inner = groups != NULL ? container_find(reader, groups) : NULL;
        ok = bind_scope(reader, child->scope, inner);
        groups_close(reader, inner);
        whole.count = shared_next(reader) - base;
        shared_note(reader, &whole, base);
    } else {
        struct variables list = {0};
        variables_append(reader, &list, child->class_name, child->config, "", true);
        for (size_t i = 0; ok && list.unknown && i < file_count(reader); i++)
            ok = groups[i] < 0 || bind_all(reader, file_at(reader, i), child->layer, groups[i],
                                           groups[i], "", DATA_DEPTH);
        ok = ok && (list.unknown || bind_v3_layer(reader, child, &list, groups));
    }
    groups_close(reader, groups);
    return ok;
}

/* The children of a model in its container, which is NULL if the file has none. */
static bool bind_scope(struct reader *reader, const struct scope *scope, const hid_t *container)
{
    json_t *names = groups_names(reader, container, KERAS_LAYERS_MAX);
    json_t *ranks = json_object();
    size_t count = 0;
    struct entry *entries = entries_read(reader, container, names, &count);
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
            bool shared = weighted && is_shared(reader, child, slots.count);
            const struct entry *entry =
                entry_find(entries, count, snake, child->name, rank, !shared);
            if (entry != NULL || shared) {
                if (entry != NULL && entry->data)
                    json_object_set_new(ranks, snake, json_integer((json_int_t)rank + 1));
                ok = bind_v3_child(reader, child, container, entry, &slots);
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
    return ok;
}

bool bind_v3(struct reader *reader)
{
    hid_t *container = container_find(reader, NULL);
    shared_open(reader);
    bool ok = bind_scope(reader, reader->top, container);
    shared_close(reader);
    groups_close(reader, container);
    return ok;
}
