/* `load --outputs`: a model that ends at layers the user names. What they do not need is left out of
 * the reply, so that a layer that cannot run is no obstacle behind them. */
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>

/* A layer by its path, or by its name if only one is called so. -1 and an error if there is none. */
static int layer_find(struct reader *reader, const char *wanted)
{
    int found = -1, count = 0;
    size_t i;
    json_t *layer;
    json_array_foreach(reader->layers, i, layer)
    {
        if (strcmp(json_text(layer, "path", ""), wanted) == 0)
            return (int)i;
        if (strcmp(json_text(layer, "name", ""), wanted) == 0) {
            found = (int)i;
            count++;
        }
    }
    if (count == 1)
        return found;
    error_set(reader->error, ERROR_MODEL_LAYERS, reader->files->name,
              count == 0 ? "it has no layer \"%s\" to end at"
                         : "several layers are called \"%s\"; give the path of one",
              wanted);
    error_hint(reader->error, "load %s; model summary", reader->files->name);
    return -1;
}

/* A nested model by its path ("base/inner") or its name: the first that is called so. */
static const struct scope *model_find(const struct scope *scope, const char *wanted)
{
    size_t length = strlen(wanted);
    for (size_t i = 0; i < scope->child_count; i++) {
        const struct child *child = &scope->children[i];
        if (child->scope == NULL)
            continue;
        const char *path = child->scope->path;
        if (strcmp(child->name, wanted) == 0 ||
            (strncmp(path, wanted, length) == 0 && strcmp(path + length, "/") == 0))
            return child->scope;
        const struct scope *inner = model_find(child->scope, wanted);
        if (inner != NULL)
            return inner;
    }
    return NULL;
}

/* The layer that makes output `at` of a nested model, -1 if that is an input of its own; *output: which
 * of the layer's. */
static int model_end(const struct scope *scope, size_t at, int *output)
{
    for (;;) {
        struct tensor_ref ref = scope->outputs[at];
        const struct child *child = ref.child >= 0 ? &scope->children[ref.child] : NULL;
        if (child == NULL || child->scope == NULL) {
            *output = ref.output;
            return child != NULL ? child->layer : -1;
        }
        scope = child->scope;
        at = (size_t)ref.output;
        if (at >= scope->output_count)
            return -1;
    }
}

/* The last call of a layer, -1 and an error if nothing calls it. */
static int node_find(struct reader *reader, int layer, const char *wanted)
{
    int found = -1;
    size_t i;
    json_t *node;
    if (layer < 0)
        return -1;
    json_array_foreach(reader->nodes, i, node)
    {
        if (json_integer_value(json_object_get(node, "layer")) == layer)
            found = (int)i;
    }
    if (found < 0)
        error_set(reader->error, ERROR_MODEL_LAYERS, reader->files->name,
                  "nothing calls the layer \"%s\"", wanted);
    return found;
}

static json_int_t ref_node(json_t *ref)
{
    return json_integer_value(json_array_get(ref, 0));
}

/* Mark what the wanted calls are made of: nodes are in topological order. */
static void mark(json_t *nodes, bool *needed)
{
    for (size_t i = json_array_size(nodes); i-- > 0;) {
        size_t j;
        json_t *ref;
        if (!needed[i])
            continue;
        json_array_foreach(json_object_get(json_array_get(nodes, i), "inputs"), j, ref)
        {
            json_int_t from = ref_node(ref);
            if (from >= 0 && (size_t)from < i)
                needed[from] = true;
        }
    }
}

/* Keep what is marked; map[i] is the new index of item i, -1 if it went. */
static json_t *keep(json_t *items, const bool *marked, int *map)
{
    json_t *kept = json_array(), *item;
    size_t i;
    json_array_foreach(items, i, item)
    {
        map[i] = marked[i] ? (int)json_array_size(kept) : -1;
        if (marked[i])
            json_array_append(kept, item);
    }
    return kept;
}

static void renumber(json_t *nodes, json_t *inputs, const int *node_map, const int *layer_map)
{
    size_t i, j;
    json_t *node, *ref, *port;
    json_array_foreach(nodes, i, node)
    {
        json_int_t layer = json_integer_value(json_object_get(node, "layer"));
        json_object_set_new(node, "layer", json_integer(layer_map[layer]));
        json_array_foreach(json_object_get(node, "inputs"), j, ref)
            json_array_set_new(ref, 0, json_integer(node_map[ref_node(ref)]));
    }
    for (i = json_array_size(inputs); i-- > 0;) {
        port = json_array_get(inputs, i);
        ref = json_object_get(port, "tensor");
        json_int_t from = ref_node(ref);
        if (from < 0 || node_map[from] < 0)
            json_array_remove(inputs, i);
        else
            json_array_set_new(ref, 0, json_integer(node_map[from]));
    }
}

/* End the model at what is called so: a layer, or every output of a nested model. */
static bool end_at(struct reader *reader, const char *wanted, bool *needed, json_t *ports)
{
    const struct scope *scope = model_find(reader->top, wanted);
    size_t count = scope != NULL ? scope->output_count : 1;
    for (size_t i = 0; i < count; i++) {
        int output = 0,
            layer = scope != NULL ? model_end(scope, i, &output) : layer_find(reader, wanted);
        int node = node_find(reader, layer, wanted);
        if (node < 0 && reader->error->code == ERROR_NONE)
            error_set(reader->error, ERROR_MODEL_LAYERS, reader->files->name,
                      "the model \"%s\" ends at its own input", wanted);
        if (node < 0)
            return false;
        const char *name =
            count == 1 ? wanted
                       : json_text(json_array_get(reader->layers, (size_t)layer), "path", wanted);
        needed[node] = true;
        json_array_append_new(ports, json_pack("{s:s, s:[i,i], s:[], s:s}", "name", name, "tensor",
                                               node, output, "shape", "dtype", "float32"));
    }
    return true;
}

bool network_cut(struct reader *reader, json_t *inputs, json_t *outputs)
{
    json_t *wanted = reader->files->outputs, *ports = json_array(), *name;
    size_t node_count = json_array_size(reader->nodes), i;
    size_t layer_count = json_array_size(reader->layers);
    bool *needed = xcalloc(node_count + 1, sizeof *needed);
    bool *used = xcalloc(layer_count + 1, sizeof *used), ok = true;
    int *node_map = xcalloc(node_count + 1, sizeof *node_map);
    int *layer_map = xcalloc(layer_count + 1, sizeof *layer_map);
    json_array_foreach(wanted, i, name)
    {
        ok = end_at(reader, json_string_value(name), needed, ports);
        if (!ok)
            break;
    }
    if (ok) {
        mark(reader->nodes, needed);
        for (i = 0; i < node_count; i++) {
            json_t *node = json_array_get(reader->nodes, i);
            if (needed[i])
                used[json_integer_value(json_object_get(node, "layer"))] = true;
        }
        json_t *nodes = keep(reader->nodes, needed, node_map);
        json_t *layers = keep(reader->layers, used, layer_map);
        renumber(nodes, inputs, node_map, layer_map);
        json_array_foreach(ports, i, name)
        {
            json_t *ref = json_object_get(name, "tensor");
            json_array_set_new(ref, 0, json_integer(node_map[ref_node(ref)]));
        }
        json_decref(reader->nodes);
        json_decref(reader->layers);
        reader->nodes = nodes;
        reader->layers = layers;
        json_array_clear(outputs);
        json_array_extend(outputs, ports);
    }
    json_decref(ports);
    free(needed);
    free(used);
    free(node_map);
    free(layer_map);
    return ok;
}
