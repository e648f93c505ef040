/* Weights in legacy HDF5: one group per top-level layer with an ordered list of names. For nested
 * models the list holds the trainable variables first, and then the others. */
#include "engine/keras/bind.h"

#include <stdlib.h>
#include <string.h>

/* Names are compared pairwise up to this many; larger groups are matched by order alone. */
#define MATCH_MAX 8192

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
        bool ok = bind_append(reader, &reader->h5, owner->layer, group, path, name);
        free(name);
        if (!ok)
            return false;
    }
    return true;
}

/* A layer that a nested model holds at several places has its weights in the list once. Leaves the
 * first of the slots that are called alike, in `once`, and fills first[slot] with its index there. */
static void slots_once(const struct slots *slots, struct slots *once, size_t *first)
{
    json_t *seen = json_object();
    once->items = xcalloc(slots->count, sizeof *once->items);
    for (size_t i = 0; i < slots->count; i++) {
        const struct variable *variable = &slots->items[i].variable;
        char *key = xasprintf("%s/%s/%s", variable->owner, variable->name, variable->path);
        json_t *known = json_object_get(seen, key);
        first[i] = known != NULL ? (size_t)json_integer_value(known) : once->count;
        if (known == NULL) {
            json_object_set_new(seen, key, json_integer((json_int_t)once->count));
            once->items[once->count++] = slots->items[i];
        }
        free(key);
    }
    json_decref(seen);
}

static bool bind_legacy_group(struct reader *reader, const struct child *child,
                              const struct slots *slots, hid_t group, json_t *files);

static json_t *slot_weights(const struct reader *reader, const struct slot *slot)
{
    return json_object_get(json_array_get(reader->layers, (size_t)slot->layer), "weights");
}

static bool bind_legacy_shared(struct reader *reader, const struct child *child,
                               const struct slots *slots, hid_t group, json_t *files)
{
    struct slots once = {0};
    size_t *first = xcalloc(slots->count, sizeof *first), known = 0;
    slots_once(slots, &once, first);
    bool ok = once.count == json_array_size(files)
                  ? bind_legacy_group(reader, child, &once, group, files)
                  : bind_count_error(reader, child->name, "nested model", json_array_size(files),
                                     slots->count);
    json_t **weights = xcalloc(once.count, sizeof *weights);
    for (size_t i = 0; ok && i < once.count; i++) { /* in the order of the slots, first to first */
        json_t *own = slot_weights(reader, &once.items[i]);
        weights[i] = json_incref(json_array_get(own, 0));
        json_array_remove(own, 0);
    }
    for (size_t i = 0; ok && i < slots->count; i++) {
        if (first[i] < known) {
            ok = bind_again(reader, slots->items[i].layer, weights[first[i]]);
        } else {
            json_array_append(slot_weights(reader, &slots->items[i]), weights[known++]);
        }
    }
    for (size_t i = 0; i < once.count; i++)
        json_decref(weights[i]);
    free(weights);
    free(first);
    bind_slots_free(&once);
    return ok;
}

static bool bind_legacy_group(struct reader *reader, const struct child *child,
                              const struct slots *slots, hid_t group, json_t *files)
{
    size_t count = json_array_size(files);
    const char *class_name = child->scope != NULL ? "nested model" : child->class_name;
    if (slots->count > count && child->scope != NULL && slots->unknown_count == 0)
        return bind_legacy_shared(reader, child, slots, group, files);
    if (slots->count > count || (slots->count < count && slots->unknown_count == 0))
        return bind_count_error(reader, child->name, class_name, count, slots->count);
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
        ok = bind_append(reader, &reader->h5, slots->items[i].layer, group,
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

bool bind_legacy(struct reader *reader)
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
        bind_collect(reader, child, reader->top->trainable, &slots);
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
        bind_slots_free(&slots);
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
