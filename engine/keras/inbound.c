/* The calls of a layer: "inbound_nodes" in the two forms Keras has written.
 *
 * Keras 3 writes {"args": [...], "kwargs": {...}} with tensors as {"class_name": "__keras_tensor__",
 * "config": {"keras_history": [layer, call, output]}}. Keras 1, 2 and tf-keras write a list of
 * [layer, call, output, kwargs]. Both become args and kwargs whose tensors are {"tensor": index}. */
#include "engine/keras/reader.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    struct reader *reader;
    struct scope *scope;
    const char *layer; /* for messages */
    struct call *call;
    size_t capacity;
};

static int child_find(const struct scope *scope, const char *name)
{
    json_t *index = json_object_get(scope->index, name);
    return index != NULL ? (int)json_integer_value(index) : -1;
}

/* Is this ["_CONSTANT_VALUE", -1, value, ...]? */
static bool is_constant(const json_t *value)
{
    const char *word = json_string_value(json_array_get(value, 0));
    return json_array_size(value) >= 3 && word != NULL && strcmp(word, "_CONSTANT_VALUE") == 0;
}

/* Is this [layer name, call, output] or, with `four`, perhaps a fourth member? */
static bool is_leaf(const json_t *value, bool four)
{
    size_t size = json_array_size(value);
    return json_is_array(value) && (size == 3 || (four && size == 4)) &&
           json_is_string(json_array_get(value, 0)) && json_is_integer(json_array_get(value, 1)) &&
           json_is_integer(json_array_get(value, 2));
}

static bool ref_read(struct reader *reader, struct scope *scope, const json_t *leaf,
                     const char *layer, struct tensor_ref *ref)
{
    const char *name = json_string_value(json_array_get(leaf, 0));
    json_int_t call = json_integer_value(json_array_get(leaf, 1));
    json_int_t output = json_integer_value(json_array_get(leaf, 2));
    int child = child_find(scope, name);
    if (child < 0)
        return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                         "\"%s\" takes its input from \"%s\", and there is no such layer", layer,
                         name);
    if (call < 0 || call > KERAS_NODES_MAX || output < 0 || output > KERAS_NODES_MAX)
        return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                         "\"%s\" takes output %lld of call %lld of \"%s\"", layer,
                         (long long)output, (long long)call, name);
    *ref = (struct tensor_ref){child, (int)call, (int)output};
    return true;
}

/* Note a tensor; returns {"tensor": index}. */
static json_t *tensor_note(struct walk *walk, const json_t *leaf)
{
    struct call *call = walk->call;
    if (call->ref_count == walk->capacity) {
        walk->capacity = walk->capacity ? 2 * walk->capacity : 4;
        call->refs = xrealloc(call->refs, walk->capacity * sizeof *call->refs);
    }
    if (!ref_read(walk->reader, walk->scope, leaf, walk->layer, &call->refs[call->ref_count]))
        return NULL;
    return json_pack("{s:I}", "tensor", (json_int_t)call->ref_count++);
}

static json_t *walk_value(struct walk *walk, json_t *value, bool list_form);

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The members of an object in the order in which Keras flattens it. Free the array. */
static const char **sorted_keys(json_t *object, size_t *count)
{
    const char **keys = xcalloc(json_object_size(object), sizeof *keys);
    const char *key;
    json_t *value;
    *count = 0;
    json_object_foreach(object, key, value) keys[(*count)++] = key;
    qsort(keys, *count, sizeof *keys, compare_keys);
    return keys;
}

static json_t *walk_members(struct walk *walk, json_t *object, bool sorted, bool list_form)
{
    json_t *out = json_object();
    size_t count = 0;
    const char **keys = sorted_keys(object, &count);
    if (!sorted) {
        const char *key;
        json_t *value;
        count = 0;
        json_object_foreach(object, key, value) keys[count++] = key;
    }
    for (size_t i = 0; out != NULL && i < count; i++) {
        json_t *item = walk_value(walk, json_object_get(object, keys[i]), list_form);
        if (item == NULL) {
            json_decref(out);
            out = NULL;
        } else {
            json_object_set_new(out, keys[i], item);
        }
    }
    free(keys);
    return out;
}

static json_t *walk_items(struct walk *walk, json_t *list, bool list_form)
{
    json_t *out = json_array();
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value)
    {
        json_t *item = walk_value(walk, value, list_form);
        if (item == NULL) {
            json_decref(out);
            return NULL;
        }
        json_array_append_new(out, item);
    }
    return out;
}

/* An object with a class: a tensor, a constant, a slice or something no prediction may need. */
static json_t *walk_object(struct walk *walk, const char *class_name, json_t *value, bool list_form)
{
    json_t *config = json_object_get(value, "config");
    if (strcmp(class_name, "__keras_tensor__") == 0) {
        json_t *history = json_object_get(config, "keras_history");
        if (is_leaf(history, false))
            return tensor_note(walk, history);
        error_set(walk->reader->error, ERROR_MODEL_BROKEN, walk->reader->files->name,
                  "an input of \"%s\" does not say where it comes from", walk->layer);
        return NULL;
    }
    if (strcmp(class_name, "__lambda__") == 0 || strcmp(class_name, "__typespec__") == 0) {
        error_set(walk->reader->error, ERROR_MODEL_REFUSED, walk->reader->files->name,
                  "an argument of \"%s\" is Python code (%s), which is never run", walk->layer,
                  class_name);
        return NULL;
    }
    if (strcmp(class_name, "__tuple__") == 0 || strcmp(class_name, "TensorShape") == 0)
        return walk_value(walk, json_object_get(value, "items"), list_form);
    if (strcmp(class_name, "__tensor__") == 0 || strcmp(class_name, "__numpy__") == 0) {
        json_t *constant = json_object_get(config, "value");
        json_t *dtype = json_object_get(config, "dtype");
        return json_pack("{s:s, s:{s:O, s:O}}", "class_name", "__numpy__", "config", "value",
                         constant != NULL ? constant : json_null(), "dtype",
                         dtype != NULL ? dtype : json_null());
    }
    size_t length = strlen(class_name);
    if (length > 6 && strcmp(class_name + length - 6, "Policy") == 0)
        return json_string(json_text(config, "name", "float32"));
    json_t *members =
        json_is_object(config) ? walk_members(walk, config, false, list_form) : json_object();
    return members == NULL ? NULL
                           : json_pack("{s:s, s:o}", "class_name", class_name, "config", members);
}

/* A value of args or kwargs. In list form a tensor is a bare triple, recognised by the layer's
 * name. */
static json_t *walk_value(struct walk *walk, json_t *value, bool list_form)
{
    if (value == NULL)
        return json_null();
    if (json_is_array(value)) {
        if (list_form && is_leaf(value, false) &&
            child_find(walk->scope, json_string_value(json_array_get(value, 0))) >= 0)
            return tensor_note(walk, value);
        if (list_form && is_constant(value))
            return walk_value(walk, json_array_get(value, 2), list_form);
        return walk_items(walk, value, list_form);
    }
    if (!json_is_object(value))
        return json_incref(value);
    const char *class_name = json_text(value, "class_name", NULL);
    if (class_name != NULL)
        return walk_object(walk, class_name, value, list_form);
    return walk_members(walk, value, true, list_form);
}

/* kwargs that say nothing. */
static void drop_defaults(json_t *kwargs)
{
    static const char *const names[] = {"mask", "training", "name"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(kwargs, names[i]);
        bool silent = json_is_null(value) || (i == 1 && json_is_false(value)) ||
                      (i == 2 && json_is_string(value));
        if (value != NULL && silent)
            json_object_del(kwargs, names[i]);
    }
}

static bool kwargs_read(struct walk *walk, json_t *kwargs, bool list_form)
{
    walk->call->arg_count = walk->call->ref_count;
    if (!json_is_object(kwargs)) {
        walk->call->kwargs = json_object();
        return true;
    }
    json_t *kept = json_copy(kwargs);
    drop_defaults(kept);
    walk->call->kwargs = walk_members(walk, kept, false, list_form);
    json_decref(kept);
    return walk->call->kwargs != NULL;
}

static json_t *first_kwargs(json_t *node)
{
    if (is_constant(node) || is_leaf(node, true))
        return json_array_get(node, 3);
    size_t i;
    json_t *item;
    json_array_foreach(node, i, item)
    {
        json_t *found = first_kwargs(item);
        if (found != NULL)
            return found;
    }
    const char *key;
    json_object_foreach(node, key, item)
    {
        json_t *found = first_kwargs(item);
        if (found != NULL)
            return found;
    }
    return NULL;
}

/* A nest of [layer, call, output, kwargs] without the kwargs. */
static json_t *walk_nest(struct walk *walk, json_t *node)
{
    if (is_constant(node))
        return walk_value(walk, json_array_get(node, 2), true);
    if (is_leaf(node, true))
        return tensor_note(walk, node);
    if (json_is_array(node)) {
        json_t *out = json_array();
        size_t i;
        json_t *value;
        json_array_foreach(node, i, value)
        {
            json_t *item = walk_nest(walk, value);
            if (item == NULL) {
                json_decref(out);
                return NULL;
            }
            json_array_append_new(out, item);
        }
        return out;
    }
    if (json_is_object(node) && json_object_get(node, "_TYPE") == NULL) {
        json_t *out = json_object();
        size_t count;
        const char **keys = sorted_keys(node, &count);
        for (size_t i = 0; out != NULL && i < count; i++) {
            json_t *item = walk_nest(walk, json_object_get(node, keys[i]));
            if (item == NULL) {
                json_decref(out);
                out = NULL;
            } else {
                json_object_set_new(out, keys[i], item);
            }
        }
        free(keys);
        return out;
    }
    error_set(walk->reader->error, ERROR_MODEL_BROKEN, walk->reader->files->name,
              "the inputs of \"%s\" cannot be understood", walk->layer);
    return NULL;
}

static bool is_recurrent(const char *class_name)
{
    return strstr(class_name, "RNN") != NULL || strstr(class_name, "LSTM") != NULL ||
           strstr(class_name, "GRU") != NULL || strcmp(class_name, "Bidirectional") == 0;
}

/* Keras 2 lists the initial state (and constants) of a recurrent layer beside its input. */
static void split_states(struct call *call, json_t *config)
{
    json_t *list = json_array_get(call->args, 0);
    size_t size = json_array_size(list);
    if (size < 2)
        return;
    size_t constants = 0;
    json_t *wanted = json_object_get(config, "num_constants");
    if (json_is_integer(wanted) && json_integer_value(wanted) > 0 &&
        (size_t)json_integer_value(wanted) < size)
        constants = (size_t)json_integer_value(wanted);
    json_t *states = json_array(), *rest = json_array();
    for (size_t i = 1; i < size; i++)
        json_array_append(i < size - constants ? states : rest, json_array_get(list, i));
    json_t *args = json_array();
    json_array_append(args, json_array_get(list, 0));
    json_decref(call->args);
    call->args = args;
    call->arg_count = 1;
    if (json_array_size(states) > 0)
        json_object_set(call->kwargs, "initial_state", states);
    if (constants > 0)
        json_object_set(call->kwargs, "constants", rest);
    json_decref(states);
    json_decref(rest);
}

static bool call_read_list(struct walk *walk, struct child *child, json_t *node)
{
    json_t *nest = walk_nest(walk, node);
    if (nest == NULL)
        return false;
    /* Ordinary layers write a single input as a list of one; op layers keep the structure. */
    if (json_is_array(nest) && json_array_size(nest) == 1 && !tfop_is(child->class_name) &&
        !is_leaf(node, true)) {
        json_t *only = json_incref(json_array_get(nest, 0));
        json_decref(nest);
        nest = only;
    }
    walk->call->args = json_array();
    json_array_append_new(walk->call->args, nest);
    if (!kwargs_read(walk, first_kwargs(node), true))
        return false;
    if (is_recurrent(child->class_name))
        split_states(walk->call, child->config);
    return true;
}

bool inbound_read(struct reader *reader, struct scope *scope, struct child *child)
{
    json_t *nodes = json_object_get(child->object, "inbound_nodes");
    size_t count = json_array_size(nodes);
    if (count > KERAS_NODES_MAX)
        return error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                         "\"%s\" is called %zu times", child->name, count);
    child->calls = xcalloc(count, sizeof *child->calls);
    child->call_count = count;
    for (size_t i = 0; i < count; i++) {
        json_t *node = json_array_get(nodes, i);
        struct walk walk = {reader, scope, child->name, &child->calls[i], 0};
        json_t *args = json_object_get(node, "args");
        if (json_is_array(args)) {
            child->calls[i].args = walk_items(&walk, args, false);
            if (child->calls[i].args == NULL ||
                !kwargs_read(&walk, json_object_get(node, "kwargs"), false))
                return false;
        } else if (!call_read_list(&walk, child, node)) {
            return false;
        }
        /* an input layer has a call without inputs in some files and none in others */
        if (child->is_input && child->calls[i].ref_count > 0)
            return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                             "the input layer \"%s\" has inputs of its own", child->name);
    }
    return true;
}

struct flat {
    struct reader *reader;
    struct scope *scope;
    struct tensor_ref *refs;
    const char **names;
    size_t count, capacity;
};

static bool flatten(struct flat *flat, json_t *tree, const char *key)
{
    if (is_leaf(tree, false)) {
        if (flat->count == flat->capacity) {
            flat->capacity = flat->capacity ? 2 * flat->capacity : 4;
            flat->refs = xrealloc(flat->refs, flat->capacity * sizeof *flat->refs);
            flat->names = xrealloc(flat->names, flat->capacity * sizeof *flat->names);
        }
        const char *name = key != NULL ? key : json_string_value(json_array_get(tree, 0));
        flat->names[flat->count] = reader_print(flat->reader, "%s", name);
        return ref_read(flat->reader, flat->scope, tree, flat->scope->name,
                        &flat->refs[flat->count++]);
    }
    if (json_is_array(tree)) {
        size_t i;
        json_t *item;
        json_array_foreach(tree, i, item)
        {
            if (!flatten(flat, item, key))
                return false;
        }
        return true;
    }
    if (json_is_object(tree)) {
        size_t count;
        const char **keys = sorted_keys(tree, &count);
        bool ok = true;
        for (size_t i = 0; ok && i < count; i++)
            ok = flatten(flat, json_object_get(tree, keys[i]), keys[i]);
        free(keys);
        return ok;
    }
    return error_set(flat->reader->error, ERROR_MODEL_BROKEN, flat->reader->files->name,
                     "the inputs or outputs of \"%s\" cannot be understood", flat->scope->name);
}

bool inbound_flatten(struct reader *reader, struct scope *scope, json_t *tree,
                     struct tensor_ref **refs, const char ***names, size_t *count)
{
    struct flat flat = {.reader = reader, .scope = scope};
    bool ok = flatten(&flat, tree, NULL);
    *refs = flat.refs;
    *names = flat.names;
    *count = flat.count;
    return ok;
}
