#include "engine/keras/receive.h"

#include <stdlib.h>
#include <string.h>

static bool bad(struct error *error, const char *file, const char *part)
{
    return error_set(error, ERROR_MODEL_BROKEN, file, "the reader's answer has no sound %s", part);
}

static bool text_take(json_t *object, const char *key, char **out)
{
    const char *text = json_string_value(json_object_get(object, key));
    *out = text != NULL ? xstrdup(text) : NULL;
    return text != NULL;
}

static bool shape_take(json_t *dims, struct shape *shape)
{
    *shape = (struct shape){0};
    if (!json_is_array(dims) || json_array_size(dims) > TENSOR_RANK_MAX)
        return false;
    shape->rank = (int)json_array_size(dims);
    for (int i = 0; i < shape->rank; i++) {
        json_t *dim = json_array_get(dims, (size_t)i);
        shape->dims[i] = json_integer_value(dim);
        if (!json_is_integer(dim) || shape->dims[i] < DIM_UNKNOWN)
            return false;
    }
    return true;
}

static bool weight_take(json_t *object, const struct keras_places *places,
                        struct model_weight *weight)
{
    json_t *place = json_object_get(object, "place");
    json_int_t offset = json_integer_value(json_object_get(object, "offset"));
    json_int_t bytes = json_integer_value(json_object_get(object, "bytes"));
    const char *dtype = json_string_value(json_object_get(object, "dtype"));
    if (!text_take(object, "name", &weight->name) || dtype == NULL ||
        !dtype_parse(dtype, &weight->dtype) ||
        !shape_take(json_object_get(object, "shape"), &weight->shape) || !json_is_integer(place) ||
        json_integer_value(place) < 0 || json_integer_value(place) >= (json_int_t)places->count)
        return false;
    struct keras_bytes mapped = places->items[json_integer_value(place)];
    int64_t elements = shape_elements(&weight->shape);
    int64_t size = (int64_t)dtype_bytes(weight->dtype);
    if (elements < 0 || elements > INT64_MAX / size || elements * size != bytes || offset < 0 ||
        (uint64_t)offset > mapped.size || (uint64_t)bytes > mapped.size - (uint64_t)offset)
        return false;
    /* an empty weight may lie in a place that does not exist */
    weight->data = mapped.data != NULL ? mapped.data + offset : (const unsigned char *)"";
    weight->bytes = (uint64_t)bytes;
    return true;
}

static bool layer_take(json_t *object, const struct keras_places *places, struct model *model,
                       struct model_layer *layer)
{
    json_t *config = json_object_get(object, "config");
    json_t *weights = json_object_get(object, "weights");
    size_t count = json_array_size(weights);
    layer->config = json_incref(config);
    layer->is_op = json_is_true(json_object_get(object, "is_op"));
    if (!text_take(object, "name", &layer->name) || !text_take(object, "path", &layer->path) ||
        !text_take(object, "class", &layer->class_name) || !json_is_object(config) ||
        !json_is_array(weights) || count > KERAS_WEIGHTS_MAX)
        return false;
    layer->weights = xcalloc(count, sizeof *layer->weights);
    for (size_t i = 0; i < count; i++) {
        struct model_weight *weight = &layer->weights[layer->weight_count++];
        if (!weight_take(json_array_get(weights, i), places, weight))
            return false;
        layer->parameters += (uint64_t)shape_elements(&weight->shape);
        model->weight_bytes += weight->bytes;
    }
    model->parameters += layer->parameters;
    return true;
}

/* Every {"tensor": i} must be an input of its node. */
static bool tensors_sound(json_t *value, size_t inputs)
{
    if (json_is_object(value)) {
        json_t *tensor = json_object_get(value, "tensor");
        if (json_is_integer(tensor) &&
            (json_integer_value(tensor) < 0 || (size_t)json_integer_value(tensor) >= inputs))
            return false;
        const char *key;
        json_t *item;
        json_object_foreach(value, key, item)
        {
            if (!tensors_sound(item, inputs))
                return false;
        }
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!tensors_sound(json_array_get(value, i), inputs))
            return false;
    }
    return true;
}

static bool ref_take(json_t *pair, size_t nodes, struct model_ref *ref)
{
    json_t *node = json_array_get(pair, 0), *output = json_array_get(pair, 1);
    if (!json_is_integer(node) || !json_is_integer(output) || json_integer_value(node) < 0 ||
        json_integer_value(node) >= (json_int_t)nodes || json_integer_value(output) < 0 ||
        json_integer_value(output) > KERAS_NODES_MAX)
        return false;
    *ref = (struct model_ref){(int)json_integer_value(node), (int)json_integer_value(output)};
    return true;
}

static bool node_take(json_t *object, const struct model *model, size_t index,
                      struct model_node *node)
{
    json_t *layer = json_object_get(object, "layer"), *call = json_object_get(object, "call");
    json_t *inputs = json_object_get(object, "inputs");
    node->args = json_incref(json_object_get(object, "args"));
    node->kwargs = json_incref(json_object_get(object, "kwargs"));
    if (!json_is_integer(layer) || json_integer_value(layer) < 0 ||
        json_integer_value(layer) >= (json_int_t)model->layer_count || !json_is_integer(call) ||
        json_integer_value(call) < 0 || json_integer_value(call) > KERAS_NODES_MAX ||
        !json_is_array(inputs) || !json_is_array(node->args) || !json_is_object(node->kwargs))
        return false;
    node->layer = (int)json_integer_value(layer);
    node->call = (int)json_integer_value(call);
    node->input_count = json_array_size(inputs);
    node->inputs = xcalloc(node->input_count, sizeof *node->inputs);
    for (size_t i = 0; i < node->input_count; i++) {
        if (!ref_take(json_array_get(inputs, i), index, &node->inputs[i])) /* lower nodes only */
            return false;
    }
    return tensors_sound(node->args, node->input_count) &&
           tensors_sound(node->kwargs, node->input_count);
}

static bool port_take(json_t *object, const struct model *model, const char *file,
                      struct model_port *port, struct error *error)
{
    const char *dtype = json_string_value(json_object_get(object, "dtype"));
    if (!text_take(object, "name", &port->name) || dtype == NULL ||
        !ref_take(json_object_get(object, "tensor"), model->node_count, &port->tensor) ||
        !shape_take(json_object_get(object, "shape"), &port->shape))
        return bad(error, file, "inputs or outputs");
    if (!dtype_parse(dtype, &port->dtype))
        return error_set(error, ERROR_MODEL_LAYERS, file, "the input \"%s\" is of type %s",
                         port->name, dtype);
    return true;
}

static bool ports_take(json_t *list, const struct model *model, const char *file,
                       struct model_port **ports, size_t *count, struct error *error)
{
    size_t total = json_array_size(list);
    if (total == 0 || total > KERAS_LAYERS_MAX)
        return bad(error, file, "inputs or outputs");
    *ports = xcalloc(total, sizeof **ports);
    for (size_t i = 0; i < total; i++) {
        if (!port_take(json_array_get(list, i), model, file, &(*ports)[(*count)++], error))
            return false;
    }
    return true;
}

static bool model_take(json_t *reply, const char *file, const struct keras_places *places,
                       struct model *model, struct error *error)
{
    json_t *layers = json_object_get(reply, "layers"), *nodes = json_object_get(reply, "nodes");
    size_t layer_count = json_array_size(layers), node_count = json_array_size(nodes);
    model->file = xstrdup(file);
    model->ignored = json_incref(json_object_get(reply, "ignored"));
    model->architecture = json_incref(json_object_get(reply, "architecture")); /* may be absent */
    if (!text_take(reply, "name", &model->name) || !text_take(reply, "format", &model->format) ||
        !text_take(reply, "writer", &model->writer) ||
        !text_take(reply, "keras_version", &model->keras_version) ||
        !text_take(reply, "backend", &model->backend) ||
        !text_take(reply, "dtype_policy", &model->dtype_policy) ||
        !text_take(reply, "preprocess", &model->preprocess) || !json_is_array(model->ignored) ||
        (model->architecture != NULL && !json_is_object(model->architecture)) ||
        layer_count > KERAS_LAYERS_MAX || node_count > KERAS_NODES_MAX)
        return bad(error, file, "header");
    model->layers = xcalloc(layer_count, sizeof *model->layers);
    for (size_t i = 0; i < layer_count; i++) {
        if (!layer_take(json_array_get(layers, i), places, model,
                        &model->layers[model->layer_count++]))
            return bad(error, file, "layers");
    }
    model->nodes = xcalloc(node_count, sizeof *model->nodes);
    for (size_t i = 0; i < node_count; i++) {
        if (!node_take(json_array_get(nodes, i), model, i, &model->nodes[model->node_count++]))
            return bad(error, file, "calls");
    }
    return ports_take(json_object_get(reply, "inputs"), model, file, &model->inputs,
                      &model->input_count, error) &&
           ports_take(json_object_get(reply, "outputs"), model, file, &model->outputs,
                      &model->output_count, error);
}

struct model *receive_model(json_t *reply, const char *file, const struct keras_places *places,
                            struct error *error)
{
    struct model *model = xcalloc(1, sizeof *model);
    if (!model_take(reply, file, places, model, error)) {
        model_free(model);
        return NULL;
    }
    return model;
}
