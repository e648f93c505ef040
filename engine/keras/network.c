/* The tree of a model: every (nested) model becomes a scope that knows its children, their calls and
 * an order in which these can be made. trace.c makes a flat list of calls of it. */
#include "engine/keras/reader.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool broken(struct reader *reader, const char *format, const char *name)
{
    return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name, format, name);
}

/* Keras 2 before 2.2.3 wrote a Sequential's config as the list of its layers. */
static json_t *model_layers(json_t *config)
{
    return json_is_array(config) ? config : json_object_get(config, "layers");
}

static bool is_sequential(json_t *object)
{
    json_t *config = json_object_get(object, "config");
    return json_is_array(config) || (json_object_get(config, "input_layers") == NULL &&
                                     json_object_get(config, "output_layers") == NULL);
}

static struct scope *scope_declare(struct reader *reader, json_t *object, const char *path,
                                   bool trainable, int depth);

/* Append a layer to the reply. */
static bool layer_declare(struct reader *reader, struct scope *scope, struct child *child)
{
    size_t count = json_array_size(reader->layers);
    if (count >= KERAS_LAYERS_MAX)
        return error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                         "the model has more than %d layers", KERAS_LAYERS_MAX);
    child->layer = (int)count;
    const char *class_name =
        child->is_op ? reader_print(reader, "ops.%s", child->class_name) : child->class_name;
    json_t *layer = json_pack("{s:s, s:s+, s:s, s:O, s:b, s:[]}", "name", child->name, "path",
                              scope->path, child->name, "class", class_name, "config",
                              child->config, "is_op", child->is_op, "weights");
    if (layer == NULL)
        return broken(reader, "the layer \"%s\" cannot be described", child->name);
    json_array_append_new(reader->layers, layer);
    return true;
}

static bool child_declare(struct reader *reader, struct scope *scope, struct child *child,
                          json_t *object, int depth)
{
    json_t *config = json_object_get(object, "config");
    child->object = object;
    child->layer = -1;
    const char *name = json_text(object, "name", json_text(config, "name", NULL));
    const char *class_name = json_text(object, "class_name", NULL);
    if (class_name == NULL || (!json_is_object(config) && !json_is_array(config)))
        return broken(reader, "a layer of \"%s\" has no class or no config",
                      scope->name[0] ? scope->name : "the model");
    if (name == NULL) /* a Sequential of Keras 2.0 has no name of its own */
        name = reader_print(reader, "%s_%zu", variables_snake(reader, class_name),
                            (size_t)(child - scope->children) + 1);
    child->name = reader_print(reader, "%s", name);
    if (child->name[0] == '\0' || strlen(child->name) > 1024)
        return broken(reader, "a layer of \"%s\" has no usable name", scope->name);
    if (json_object_get(scope->index, child->name) != NULL)
        return broken(reader, "two layers are called \"%s\"", child->name);
    json_object_set_new(scope->index, child->name, json_integer(child - scope->children));
    if (config_is_model(object)) {
        child->class_name = "Functional";
        child->config = json_object();
        child->scope =
            scope_declare(reader, object, reader_print(reader, "%s%s/", scope->path, child->name),
                          scope->trainable, depth + 1);
        return child->scope != NULL;
    }
    if (!json_is_object(config))
        return broken(reader, "the config of \"%s\" is a list", child->name);
    child->is_op = config_is_op(reader, object);
    child->config = config_normalise(reader, class_name, config, &child->class_name);
    child->is_input = strcmp(child->class_name, "InputLayer") == 0;
    const char *policy = json_text(child->config, "dtype", "");
    bool known;
    if (variables_quantised(child->class_name, child->config, &known) && !known)
        return error_set(
            reader->error, ERROR_MODEL_LAYERS, reader->files->name,
            "the layer \"%s\" (%s) is quantised to %.*s; int8, float8, GPTQ, AWQ and int4 are "
            "read, of Dense, EinsumDense and Embedding; save the model as it was before quantize()",
            child->name, child->class_name, (int)(strstr(policy, "_from_") - policy), policy);
    if (child->is_input &&
        (json_truth(child->config, "sparse", false) || json_truth(child->config, "ragged", false)))
        return error_set(reader->error, ERROR_MODEL_LAYERS, reader->files->name,
                         "the input \"%s\" is %s", child->name,
                         json_truth(child->config, "sparse", false) ? "sparse" : "ragged");
    return true;
}

/* A Sequential is a chain: each child takes what the one before it gives. */
static void sequential_connect(struct scope *scope)
{
    struct tensor_ref previous = {-1, 0, 0};
    for (size_t i = 0; i < scope->child_count; i++) {
        struct child *child = &scope->children[i];
        child->calls = xcalloc(1, sizeof *child->calls);
        child->call_count = 1;
        struct call *call = child->calls;
        call->args = json_array();
        call->kwargs = json_object();
        if (!child->is_input) {
            call->refs = xmalloc(sizeof *call->refs);
            call->refs[0] = previous;
            call->ref_count = call->arg_count = 1;
            json_array_append_new(call->args, json_pack("{s:i}", "tensor", 0));
        } else if (i == 0) {
            scope->inputs = xmalloc(sizeof *scope->inputs);
            scope->inputs[0] = (struct tensor_ref){0, 0, 0};
            scope->input_count = 1;
        }
        previous = (struct tensor_ref){(int)i, 0, 0};
    }
    if (scope->input_count == 0) {
        scope->inputs = xmalloc(sizeof *scope->inputs);
        scope->inputs[0] = (struct tensor_ref){-1, 0, 0};
        scope->input_count = 1;
    }
    scope->outputs = xmalloc(sizeof *scope->outputs);
    scope->output_names = xmalloc(sizeof *scope->output_names);
    scope->outputs[0] = previous;
    scope->output_names[0] =
        scope->child_count > 0 ? scope->children[scope->child_count - 1].name : scope->name;
    scope->output_count = 1;
}

/* How far a file's call numbers of a nested model lie above ours: the call inside the nested model
 * itself was counted as the first one by some writers. */
static int call_offset(const struct reader *reader, const struct child *child, bool listed_output)
{
    if (child->scope == NULL)
        return 0;
    bool list_form = reader->major < 3;
    for (size_t i = 0; i < child->call_count; i++) {
        json_t *node = json_array_get(json_object_get(child->object, "inbound_nodes"), i);
        list_form = !json_is_object(node) || json_object_get(node, "args") == NULL;
    }
    if (!list_form)
        return listed_output && !child->scope->sequential;
    if (!child->scope->sequential || !reader->tf)
        return 1;
    return child->scope->child_count > 0 && child->scope->children[0].is_input;
}

/* Bring call numbers to ours; where a writer broke its own habit, the range decides. */
static bool refs_shift(struct reader *reader, struct scope *scope, struct tensor_ref **refs,
                       size_t count, bool listed_output)
{
    int *low = xmalloc(scope->child_count * sizeof *low);
    int *high = xcalloc(scope->child_count, sizeof *high);
    for (size_t i = 0; i < scope->child_count; i++)
        low[i] = INT_MAX;
    for (size_t i = 0; i < count; i++) {
        int child = refs[i]->child;
        if (child < 0)
            continue;
        low[child] = refs[i]->call < low[child] ? refs[i]->call : low[child];
        high[child] = refs[i]->call > high[child] ? refs[i]->call : high[child];
    }
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) {
        int index = refs[i]->child;
        if (index < 0)
            continue;
        struct child *child = &scope->children[index];
        int calls = (int)child->call_count, offset = call_offset(reader, child, listed_output);
        if (child->scope != NULL && (low[index] < offset || high[index] - offset >= calls))
            offset = !offset;
        refs[i]->call -= offset;
        if (refs[i]->call < 0 || refs[i]->call >= calls)
            ok = broken(reader, "a call of \"%s\" is used that the model does not make",
                        child->name);
    }
    free(low);
    free(high);
    return ok;
}

static bool functional_connect(struct reader *reader, struct scope *scope, json_t *config)
{
    size_t total = 0;
    for (size_t i = 0; i < scope->child_count; i++) {
        struct child *child = &scope->children[i];
        if (!inbound_read(reader, scope, child))
            return false;
        if (tfop_is(child->class_name) && !tfop_normalise(reader, child))
            return false;
        if (child->is_input && child->call_count == 0) {
            child->calls = xrealloc(child->calls, sizeof *child->calls);
            child->calls[0] = (struct call){json_array(), json_object(), NULL, 0, 0};
            child->call_count = 1;
        }
        for (size_t j = 0; j < child->call_count; j++)
            total += child->calls[j].ref_count;
        if (total > KERAS_NODES_MAX)
            return broken(reader, "\"%s\" and those before it have too many inputs", child->name);
    }
    const char **names = NULL;
    bool ok = inbound_flatten(reader, scope, json_object_get(config, "input_layers"),
                              &scope->inputs, &names, &scope->input_count);
    free(names);
    if (!ok || !inbound_flatten(reader, scope, json_object_get(config, "output_layers"),
                                &scope->outputs, &scope->output_names, &scope->output_count))
        return false;
    struct tensor_ref **refs =
        xmalloc((total + scope->input_count + scope->output_count) * sizeof *refs);
    size_t count = 0;
    for (size_t i = 0; i < scope->child_count; i++) {
        for (size_t j = 0; j < scope->children[i].call_count; j++) {
            struct call *call = &scope->children[i].calls[j];
            for (size_t k = 0; k < call->ref_count; k++)
                refs[count++] = &call->refs[k];
        }
    }
    ok = refs_shift(reader, scope, refs, count, false);
    count = 0;
    for (size_t i = 0; i < scope->output_count; i++)
        refs[count++] = &scope->outputs[i];
    ok = ok && refs_shift(reader, scope, refs, count, true);
    free(refs);
    for (size_t i = 0; ok && i < scope->input_count; i++) {
        if (scope->inputs[i].child < 0 || !scope->children[scope->inputs[i].child].is_input)
            ok = broken(reader, "an input of \"%s\" is no input layer", scope->name);
    }
    return ok;
}

/* Sort the calls so that each comes after those it takes tensors from, else in the file's order. */
static bool scope_sort(struct reader *reader, struct scope *scope)
{
    size_t total = 0;
    int *first = xcalloc(scope->child_count + 1, sizeof *first);
    for (size_t i = 0; i < scope->child_count; i++) {
        first[i] = (int)total;
        total += scope->children[i].call_count;
    }
    int *owner = xmalloc(total * sizeof *owner), *stack = xmalloc(total * sizeof *stack);
    size_t *next = xcalloc(total, sizeof *next);
    char *state = xcalloc(total, 1); /* 0 new, 1 waits for its inputs, 2 done */
    for (size_t i = 0; i < scope->child_count; i++) {
        for (size_t j = 0; j < scope->children[i].call_count; j++)
            owner[first[i] + (int)j] = (int)i;
    }
    scope->order = xmalloc(2 * total * sizeof *scope->order);
    bool ok = true;
    for (size_t start = 0; ok && start < total; start++) {
        size_t depth = 0;
        if (state[start] == 0) {
            state[start] = 1;
            stack[depth++] = (int)start;
        }
        while (ok && depth > 0) {
            int at = stack[depth - 1], child = owner[at];
            struct call *call = &scope->children[child].calls[at - first[child]];
            if (next[at] == call->ref_count) {
                state[at] = 2;
                scope->order[2 * scope->order_count] = child;
                scope->order[2 * scope->order_count++ + 1] = at - first[child];
                depth--;
                continue;
            }
            struct tensor_ref ref = call->refs[next[at]++];
            int to = ref.child < 0 ? -1 : first[ref.child] + ref.call;
            if (to >= 0 && state[to] == 1)
                ok = broken(reader, "the layer \"%s\" takes its own output as input",
                            scope->children[child].name);
            if (to >= 0 && state[to] == 0) {
                state[to] = 1;
                stack[depth++] = to;
            }
        }
    }
    free(first);
    free(owner);
    free(stack);
    free(next);
    free(state);
    return ok;
}

static struct scope *scope_declare(struct reader *reader, json_t *object, const char *path,
                                   bool trainable, int depth)
{
    json_t *config = json_object_get(object, "config"), *layers = model_layers(config);
    size_t count = json_array_size(layers);
    if (depth > KERAS_NESTING_MAX || count > KERAS_LAYERS_MAX) {
        error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                  depth > KERAS_NESTING_MAX ? "models are nested more than %d deep"
                                            : "a model has more than %d layers",
                  depth > KERAS_NESTING_MAX ? KERAS_NESTING_MAX : KERAS_LAYERS_MAX);
        return NULL;
    }
    struct scope *scope = xcalloc(1, sizeof *scope);
    scope->path = path;
    scope->name =
        reader_print(reader, "%s", json_text(config, "name", json_text(object, "name", "model")));
    scope->sequential = is_sequential(object);
    scope->trainable =
        trainable && (json_is_array(config) || json_truth(config, "trainable", true));
    scope->children = xcalloc(count, sizeof *scope->children);
    scope->index = json_object();
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        scope->child_count++;
        ok = child_declare(reader, scope, &scope->children[i], json_array_get(layers, i), depth);
        struct child *child = &scope->children[i];
        /* op layers of Keras 2 get their class when their calls are known */
        if (ok && child->scope == NULL && !(child->is_input && depth > 0))
            ok = layer_declare(reader, scope, child);
    }
    if (ok && scope->sequential)
        sequential_connect(scope);
    else if (ok)
        ok = functional_connect(reader, scope, config);
    for (size_t i = 0; ok && i < scope->child_count; i++) {
        struct child *child = &scope->children[i];
        if (!child->is_op || child->layer < 0)
            continue;
        json_t *layer = json_array_get(reader->layers, (size_t)child->layer);
        json_object_set_new(layer, "class", json_sprintf("ops.%s", child->class_name));
        json_object_set(layer, "config", child->config);
        json_object_set_new(layer, "is_op", json_true());
    }
    if (ok && count == 0)
        ok = broken(reader, "the model \"%s\" has no layers", scope->name);
    ok = ok && scope_sort(reader, scope);
    if (!ok) {
        network_free(scope);
        return NULL;
    }
    return scope;
}

/* The batch_shape of an input that the file does not spell out as a layer: Keras 2 wrote it on the
 * first layer, and a Sequential may only say what it was built with. */
static json_t *find_input_shape(json_t *object, int depth)
{
    json_t *config = json_object_get(object, "config");
    static const char *const keys[] = {"batch_input_shape", "batch_shape", "build_input_shape"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *shape = json_object_get(config, keys[i]);
        if (json_is_array(shape))
            return shape;
    }
    json_t *built = json_object_get(json_object_get(object, "build_config"), "input_shape");
    if (json_is_array(built))
        return built;
    json_t *first = json_array_get(model_layers(config), 0);
    return first != NULL && depth < KERAS_NESTING_MAX ? find_input_shape(first, depth + 1) : NULL;
}

/* Put an InputLayer before a Sequential that has none; Keras does the same when it builds it. */
static bool input_insert(struct reader *reader, json_t *object)
{
    json_t *layers = model_layers(json_object_get(object, "config"));
    json_t *first = json_array_get(layers, 0);
    if (!is_sequential(object) || first == NULL ||
        strcmp(json_text(first, "class_name", ""), "InputLayer") == 0)
        return true;
    json_t *shape = find_input_shape(object, 0);
    json_t *batch = shape != NULL ? json_copy(shape) : json_array();
    if (shape == NULL && reader->files->shape != NULL) {
        for (int i = 0; i < reader->files->shape->rank; i++)
            json_array_append_new(batch, json_null());
    } else if (shape == NULL) {
        json_decref(batch);
        error_set(reader->error, ERROR_MODEL_SHAPE, reader->files->name,
                  "the model was saved without an input shape");
        return error_hint(reader->error, "load %s --shape 224,224,3", reader->files->name);
    }
    const char *dtype = json_text(json_object_get(first, "config"), "dtype", "float32");
    if (strcmp(json_text(first, "class_name", ""), "Embedding") != 0)
        dtype = "float32";
    const char *name = json_text(json_object_get(first, "config"), "name", "model");
    json_t *input =
        json_pack("{s:s, s:{s:s+, s:o, s:s}}", "class_name", "InputLayer", "config", "name",
                  reader->major < 3 ? name : "input", reader->major < 3 ? "_input" : "_layer",
                  "batch_shape", batch, "dtype", dtype);
    json_array_insert_new(layers, 0, input);
    return true;
}

bool network_declare(struct reader *reader)
{
    if (!config_is_model(reader->root))
        return error_set(reader->error, ERROR_MODEL_LAYERS, reader->files->name,
                         "\"%s\" is a subclassed model: the file does not say how its layers are "
                         "connected",
                         json_text(reader->root, "class_name", "?"));
    if (!input_insert(reader, reader->root))
        return false;
    reader->top = scope_declare(reader, reader->root, "", true, 0);
    return reader->top != NULL;
}

void network_free(struct scope *scope)
{
    if (scope == NULL)
        return;
    for (size_t i = 0; i < scope->child_count; i++) {
        struct child *child = &scope->children[i];
        for (size_t j = 0; j < child->call_count; j++) {
            json_decref(child->calls[j].args);
            json_decref(child->calls[j].kwargs);
            free(child->calls[j].refs);
        }
        free(child->calls);
        json_decref(child->config);
        network_free(child->scope);
    }
    free(scope->children);
    json_decref(scope->index);
    free(scope->inputs);
    free(scope->outputs);
    free(scope->output_names);
    free(scope->order);
    free(scope);
}
