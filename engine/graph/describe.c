/* What the layer table shows of a graph. */
#include "engine/graph/graph.h"
#include <stdlib.h>

static json_t *shape_text(const struct shape *shape)
{
    char text[200];
    return shape->rank < 0 ? json_null() : json_string(shape_format(text, sizeof text, shape));
}

/* Layer names are Keras's and may hold anything: make them valid UTF-8 for JSON. */
static json_t *name_text(const char *name)
{
    char text[512];
    json_t *string = json_string(name);
    return string ? string : json_string(text_clean(text, sizeof text, name));
}

json_t *graph_describe_layers(const struct graph *graph)
{
    const struct model *model = graph->model;
    size_t count = model->layer_count;
    json_t *list = json_array();
    json_t **ops = xcalloc(count + 1, sizeof *ops);
    json_t **fused = xcalloc(count + 1, sizeof *fused);
    uint64_t *flops = xcalloc(count + 1, sizeof *flops), *bytes = xcalloc(count + 1, sizeof *bytes);
    int *head = xmalloc((count + 1) * sizeof *head);
    for (size_t i = 0; i < count; i++) {
        ops[i] = json_array();
        fused[i] = json_array();
        head[i] = -1;
    }
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        json_array_append_new(ops[op->layer], json_string(op_kind_name(op->kind)));
        flops[op->layer] += op->flops;
        bytes[op->layer] += op->bytes;
        for (size_t j = 0; j < op->fused_count; j++) {
            int layer = op->fused[j];
            if (head[layer] < 0) { /* a layer called twice is named once */
                head[layer] = op->layer;
                json_array_append_new(fused[op->layer], name_text(model->layers[layer].path));
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        const struct model_layer *layer = &model->layers[i];
        bool own = json_array_size(ops[i]) > 0;
        json_t *into = own || head[i] < 0 ? json_null() : name_text(model->layers[head[i]].path);
        json_array_append_new(list, json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o}",
                                              "layer", (int)i, "name", name_text(layer->path),
                                              "class", name_text(layer->class_name), "fused_into",
                                              into, "fused", fused[i], "ops", ops[i], "flops",
                                              (json_int_t)flops[i], "bytes", (json_int_t)bytes[i],
                                              "output_shape", shape_text(&graph->layer_shapes[i])));
    }
    free(ops);
    free(fused);
    free(flops);
    free(bytes);
    free(head);
    return list;
}
