/* A model as a list of calls: its scope is run once with tensors as symbols. A call of a layer emits
 * a node; a call of a nested model runs that model's scope, so nested models are inlined. */
#include "engine/keras/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool broken(struct reader *reader, const char *format, const char *name)
{
    return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name, format, name);
}

struct symbol {
    int node, output;
};

/* What a call gave: outputs of one node, or a list (nested models and inputs). */
struct result {
    int node; /* -1: see list */
    struct symbol *list;
    size_t count;
};

static bool resolve(struct reader *reader, const struct scope *scope, struct result *results,
                    const int *first, const struct symbol *inputs, struct tensor_ref ref,
                    struct symbol *symbol)
{
    if (ref.child < 0) {
        *symbol = inputs[0];
        return true;
    }
    struct result *result = &results[first[ref.child] + ref.call];
    if (result->node >= 0) {
        *symbol = (struct symbol){result->node, ref.output};
        return true;
    }
    if ((size_t)ref.output >= result->count)
        return broken(reader, "an output of \"%s\" is used that it does not have",
                      scope->children[ref.child].name);
    *symbol = result->list[ref.output];
    return true;
}

/* What a layer is called with. In Keras 2 a call of a nested model with training=True is one of its
 * layers too, and what a layer's own call says comes first. In Keras 3 what `predict` says comes
 * first, and that is training=False for every layer, whatever its call says. */
static json_t *kwargs_of(const struct reader *reader, const struct child *child,
                         const struct call *call, bool training)
{
    bool given = json_object_get(call->kwargs, "training") != NULL;
    bool overruled = given && reader->major >= 3;
    bool handed_on = training && !given && reader->major < 3;
    if (child->is_op || (!overruled && !handed_on))
        return json_incref(call->kwargs);
    json_t *kwargs = json_copy(call->kwargs);
    if (overruled)
        json_object_del(kwargs, "training");
    else
        json_object_set_new(kwargs, "training", json_true());
    return kwargs;
}

static bool node_emit(struct reader *reader, const struct child *child, const struct call *call,
                      const struct symbol *inputs, bool training, int *node)
{
    size_t count = json_array_size(reader->nodes);
    if (count >= KERAS_NODES_MAX)
        return error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                         "the model makes more than %d calls", KERAS_NODES_MAX);
    json_t *list = json_array();
    for (size_t i = 0; i < call->ref_count; i++)
        json_array_append_new(list, json_pack("[i,i]", inputs[i].node, inputs[i].output));
    json_t *layer = json_array_get(reader->layers, (size_t)child->layer);
    json_int_t number = json_integer_value(json_object_get(layer, "calls"));
    json_object_set_new(layer, "calls", json_integer(number + 1));
    json_t *kwargs = kwargs_of(reader, child, call, training);
    json_array_append_new(reader->nodes,
                          json_pack("{s:i, s:I, s:o, s:O, s:o}", "layer", child->layer, "call",
                                    number, "inputs", list, "args", call->args, "kwargs", kwargs));
    *node = (int)count;
    return true;
}

static bool scope_run(struct reader *reader, const struct scope *scope, const struct symbol *inputs,
                      size_t input_count, bool training, int depth, struct symbol *outputs);

static bool call_run(struct reader *reader, const struct scope *scope, const struct child *child,
                     const struct call *call, const struct symbol *tensors, bool training,
                     int depth, struct result *result)
{
    if (child->scope == NULL)
        return node_emit(reader, child, call, tensors, training, &result->node);
    result->node = -1;
    if (call->arg_count != child->scope->input_count)
        return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                         "the nested model \"%s\" has %zu inputs and is called with %zu",
                         child->name, child->scope->input_count, call->arg_count);
    result->count = child->scope->output_count;
    result->list = xcalloc(result->count, sizeof *result->list);
    (void)scope;
    return scope_run(reader, child->scope, tensors, call->arg_count,
                     training || json_is_true(json_object_get(call->kwargs, "training")), depth + 1,
                     result->list);
}

/* Which input of its scope is this input layer? */
static int input_position(const struct scope *scope, int child)
{
    for (size_t i = 0; i < scope->input_count; i++) {
        if (scope->inputs[i].child == child)
            return (int)i;
    }
    return -1;
}

static bool scope_run(struct reader *reader, const struct scope *scope, const struct symbol *inputs,
                      size_t input_count, bool training, int depth, struct symbol *outputs)
{
    int *first = xcalloc(scope->child_count + 1, sizeof *first);
    for (size_t i = 0; i < scope->child_count; i++)
        first[i + 1] = first[i] + (int)scope->children[i].call_count;
    size_t total = (size_t)first[scope->child_count], widest = 1;
    for (size_t i = 0; i < scope->order_count; i++) {
        size_t refs = scope->children[scope->order[2 * i]].calls[scope->order[2 * i + 1]].ref_count;
        widest = refs > widest ? refs : widest;
    }
    struct result *results = xcalloc(total, sizeof *results);
    struct symbol *tensors = xcalloc(widest, sizeof *tensors);
    bool ok = true;
    for (size_t i = 0; ok && i < scope->order_count; i++) {
        int index = scope->order[2 * i], number = scope->order[2 * i + 1];
        const struct child *child = &scope->children[index];
        const struct call *call = &child->calls[number];
        struct result *result = &results[first[index] + number];
        int position = child->is_input && depth > 0 ? input_position(scope, index) : -1;
        if (child->is_input && depth > 0) {
            result->node = -1;
            result->count = position >= 0 && (size_t)position < input_count ? 1 : 0;
            result->list = xcalloc(1, sizeof *result->list);
            if (result->count == 1)
                result->list[0] = inputs[position];
            continue;
        }
        for (size_t j = 0; ok && j < call->ref_count; j++)
            ok = resolve(reader, scope, results, first, inputs, call->refs[j], &tensors[j]);
        ok = ok && call_run(reader, scope, child, call, tensors, training, depth, result);
    }
    for (size_t i = 0; ok && i < scope->output_count; i++)
        ok = resolve(reader, scope, results, first, inputs, scope->outputs[i], &outputs[i]);
    for (size_t i = 0; i < total; i++)
        free(results[i].list);
    free(results);
    free(tensors);
    free(first);
    return ok;
}

/* --- the model's own inputs and outputs --------------------------------------------------- */

static bool port_append(struct reader *reader, json_t *list, const char *name, struct symbol tensor,
                        json_t *shape, const char *dtype)
{
    json_t *port = json_pack("{s:s, s:[i,i], s:O, s:s}", "name", name, "tensor", tensor.node,
                             tensor.output, "shape", shape, "dtype", dtype);
    if (port == NULL)
        return broken(reader, "the port \"%s\" cannot be described", name);
    json_array_append_new(list, port);
    return true;
}

/* Check and complete an input's shape: its batch is open, other open dims may be bound by the
 * user. */
static json_t *input_shape(struct reader *reader, const struct child *child, bool first)
{
    json_t *given = json_object_get(child->config, "batch_shape"), *shape = json_array();
    const struct shape *bound = first ? reader->files->shape : NULL;
    size_t rank = json_array_size(given);
    bool ok = json_is_array(given) && rank >= 1 && rank <= TENSOR_RANK_MAX;
    /* the user may leave the batch out */
    size_t skip = bound != NULL && (size_t)bound->rank + 1 == rank ? 1 : 0;
    if (ok && bound != NULL && (size_t)bound->rank + skip != rank) {
        char text[256];
        error_set(reader->error, ERROR_MODEL_SHAPE, reader->files->name,
                  "the shape %s does not fit the input \"%s\", which has %zu dimensions",
                  shape_format(text, sizeof text, bound), child->name, rank);
        json_decref(shape);
        return NULL;
    }
    for (size_t i = 0; ok && i < rank; i++) {
        json_t *dim = json_array_get(given, i);
        json_int_t value = json_is_integer(dim) ? json_integer_value(dim) : DIM_UNKNOWN;
        ok = json_is_null(dim) || (json_is_integer(dim) && value > 0 && value <= INT32_MAX);
        if (i == 0)
            value = DIM_UNKNOWN;
        else if (value == DIM_UNKNOWN && bound != NULL)
            value = bound->dims[i - skip];
        json_array_append_new(shape, json_integer(value));
    }
    if (!ok) {
        json_decref(shape);
        broken(reader, "the input \"%s\" has no usable shape", child->name);
        return NULL;
    }
    return shape;
}

bool network_trace(struct reader *reader, json_t **inputs, json_t **outputs)
{
    struct scope *top = reader->top;
    struct symbol *symbols = xcalloc(top->output_count, sizeof *symbols);
    bool ok = scope_run(reader, top, NULL, 0, false, 0, symbols);
    json_t *none = json_array();
    for (size_t i = 0; ok && i < top->output_count; i++)
        ok = port_append(reader, *outputs, top->output_names[i], symbols[i], none, "float32");
    json_decref(none);
    free(symbols);
    for (size_t i = 0; ok && i < top->input_count; i++) {
        struct child *child = &top->children[top->inputs[i].child];
        struct symbol symbol = {-1, 0};
        json_t *node;
        size_t index;
        json_array_foreach(reader->nodes, index, node)
        {
            if (json_integer_value(json_object_get(node, "layer")) == child->layer) {
                symbol.node = (int)index;
                break;
            }
        }
        json_t *shape = input_shape(reader, child, i == 0);
        ok = shape != NULL && port_append(reader, *inputs, child->name, symbol, shape,
                                          json_text(child->config, "dtype", "float32"));
        json_decref(shape);
    }
    return ok;
}
