#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

static void layer_free(struct model_layer *layer)
{
    free(layer->name);
    free(layer->path);
    free(layer->class_name);
    json_decref(layer->config);
    for (size_t i = 0; i < layer->weight_count; i++)
        free(layer->weights[i].name);
    free(layer->weights);
}

void model_free(struct model *model)
{
    if (model == NULL)
        return;
    for (size_t i = 0; i < model->layer_count; i++)
        layer_free(&model->layers[i]);
    for (size_t i = 0; i < model->node_count; i++) {
        free(model->nodes[i].inputs);
        json_decref(model->nodes[i].args);
        json_decref(model->nodes[i].kwargs);
    }
    for (size_t i = 0; i < model->input_count; i++)
        free(model->inputs[i].name);
    for (size_t i = 0; i < model->output_count; i++)
        free(model->outputs[i].name);
    free(model->layers);
    free(model->nodes);
    free(model->inputs);
    free(model->outputs);
    free(model->name);
    free(model->file);
    free(model->format);
    free(model->writer);
    free(model->keras_version);
    free(model->backend);
    free(model->dtype_policy);
    free(model->preprocess);
    json_decref(model->ignored);
    json_decref(model->architecture);
    if (model->storage != NULL)
        model->storage->release(model->storage);
    free(model);
}

bool model_error_hint(struct error *error, const char *file)
{
    if (error == NULL || error->hint[0] != '\0')
        return false;
    switch (error->code) {
    case ERROR_MODEL_FILE:
        return error_hint(error, "help load");
    case ERROR_MODEL_LAYERS:
        return error_hint(error, "load %s --outputs LAYER, to end before it", file);
    case ERROR_MODEL_BROKEN:
    case ERROR_MODEL_WEIGHTS:
    case ERROR_MODEL_REFUSED:
    case ERROR_MODEL_SHAPE:
        return error_hint(error, "in the Python that made it: model.save(\"model.keras\")");
    default:
        return false;
    }
}

int model_find_layer(const struct model *model, const char *name)
{
    int found = -1;
    for (size_t i = 0; i < model->layer_count; i++) {
        if (strcmp(model->layers[i].path, name) == 0)
            return (int)i;
        if (strcmp(model->layers[i].name, name) == 0)
            found = found == -1 ? (int)i : -2; /* a path may still decide */
    }
    return found >= 0 ? found : -1;
}

static json_t *describe_shape(const struct shape *shape)
{
    json_t *dims = json_array();
    for (int i = 0; i < shape->rank; i++)
        json_array_append_new(dims, shape->dims[i] == DIM_UNKNOWN ? json_null()
                                                                  : json_integer(shape->dims[i]));
    return dims;
}

static json_t *describe_ports(const struct model_port *ports, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "name", ports[i].name, "shape",
                                              describe_shape(&ports[i].shape), "dtype",
                                              dtype_name(ports[i].dtype)));
    return list;
}

json_t *model_describe(const struct model *model)
{
    json_int_t *calls = xcalloc(model->layer_count, sizeof *calls);
    for (size_t i = 0; i < model->node_count; i++)
        calls[model->nodes[i].layer]++;
    json_t *layers = json_array();
    for (size_t i = 0; i < model->layer_count; i++) {
        const struct model_layer *layer = &model->layers[i];
        json_array_append_new(
            layers, json_pack("{s:s, s:s, s:s, s:b, s:I, s:I}", "name", layer->name, "path",
                              layer->path, "class", layer->class_name, "is_op", layer->is_op,
                              "parameters", (json_int_t)layer->parameters, "calls", calls[i]));
    }
    free(calls);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O, s:I, s:I, s:o, s:o, s:o}",
                     "name", model->name, "file", model->file, "format", model->format, "writer",
                     model->writer, "keras_version", model->keras_version, "backend",
                     model->backend, "dtype_policy", model->dtype_policy, "preprocess",
                     model->preprocess != NULL ? model->preprocess : "", "ignored", model->ignored,
                     "parameters", (json_int_t)model->parameters, "weight_bytes",
                     (json_int_t)model->weight_bytes, "inputs",
                     describe_ports(model->inputs, model->input_count), "outputs",
                     describe_ports(model->outputs, model->output_count), "layers", layers);
}
