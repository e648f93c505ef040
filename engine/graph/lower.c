/* A model becomes a graph: every node's layer is looked up in the table and emits its ops. */
#include "engine/graph/lower.h"
#include "engine/graph/fuse.h"
#include "engine/graph/op_rules.h"
#include "engine/keras/layers/table.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Suggest what leaves the first unsupported layer out: ending at what it takes; or, for a class by
 * another name, saying so. */
static bool hint_around(const struct model *model, struct error *error)
{
    const char *file = model->file ? model->file : "FILE";
    for (size_t i = 0; i < model->node_count; i++) {
        const struct model_node *node = &model->nodes[i];
        const struct model_layer *layer = &model->layers[node->layer];
        if (layer_row_find(layer->class_name))
            continue;
        const struct model_layer *before = NULL;
        if (node->input_count > 0)
            before = &model->layers[model->nodes[node->inputs[0].node].layer];
        bool ends = before && strcmp(before->class_name, "InputLayer") != 0;
        if (layer->is_op) /* no class that could have another name */
            return ends ? error_hint(error, "load %s --outputs %s", file, before->path)
                        : error_hint(error, "load demo:");
        if (ends)
            return error_hint(error, "load %s --outputs %s, or --map %s=CLASS if it is a known one",
                              file, before->path, layer->class_name);
        return error_hint(error, "load %s --map %s=CLASS, if it is a known one by another name",
                          file, layer->class_name);
    }
    return error_hint(error, "load demo:");
}

/* Name every class of the model that has no row, all at once. */
static bool check_classes(const struct model *model, struct error *error)
{
    char why[900];
    size_t used = 0, layers = 0, classes = 0;
    bool *seen = xcalloc(model->layer_count + 1, sizeof *seen);
    for (size_t i = 0; i < model->layer_count; i++) {
        const struct model_layer *layer = &model->layers[i];
        if (seen[i] || layer_row_find(layer->class_name))
            continue;
        size_t count = 0;
        for (size_t j = i; j < model->layer_count; j++) {
            if (strcmp(model->layers[j].class_name, layer->class_name) == 0) {
                seen[j] = true;
                count++;
            }
        }
        layers += count;
        classes++;
        if (used < sizeof why - 160) {
            int wrote =
                count == 1 ? snprintf(why + used, sizeof why - used, "%s%.60s ('%.60s')",
                                      used ? ", " : "", layer->class_name, layer->path)
                           : snprintf(why + used, sizeof why - used, "%s%.60s x%zu (first '%.60s')",
                                      used ? ", " : "", layer->class_name, count, layer->path);
            used += (size_t)wrote;
        }
    }
    free(seen);
    if (classes == 0)
        return true;
    error_set(error, ERROR_MODEL_LAYERS, model->name ? model->name : "model",
              "%zu layer%s of %zu class%s cannot run here: %s", layers, layers == 1 ? "" : "s",
              classes, classes == 1 ? "" : "es", why);
    return hint_around(model, error);
}

/* A value for input `index` of the model. */
static int add_input(struct lowering *low, size_t index)
{
    struct graph *graph = low->graph;
    const struct model_port *port = &low->model->inputs[index];
    struct shape shape = port->shape;
    char text[160];
    snprintf(low->what, sizeof low->what, "input '%.100s'", port->name ? port->name : "");
    if (shape.rank < 1)
        return lowering_fail(low, ERROR_MODEL_SHAPE, "an input without a batch axis");
    shape.dims[0] = graph->batch;
    for (int i = 1; i < shape.rank; i++) {
        if (shape.dims[i] < 1) {
            lowering_fail(low, ERROR_MODEL_SHAPE, "its shape %s is open",
                          shape_format(text, sizeof text, &port->shape));
            error_hint(low->error, "load FILE --shape 224,224,3");
            return -1;
        }
    }
    if (shape_elements(&shape) < 0)
        return lowering_fail(low, ERROR_MODEL_SHAPE, "its shape %s is too large",
                             shape_format(text, sizeof text, &shape));
    if (graph->value_count == low->value_room) {
        low->value_room = low->value_room ? 2 * low->value_room : 64;
        graph->values = xrealloc(graph->values, low->value_room * sizeof *graph->values);
    }
    int value = (int)graph->value_count++;
    graph->values[value] = (struct graph_value){
        .shape = shape, .dtype = DTYPE_F32, .producer = -1, .alias_of = -1, .layer = low->layer};
    return value;
}

static void return_values(struct lowering *low, size_t node, int *values, int *masks, size_t count)
{
    low->node_values[node] = values;
    low->node_masks[node] = masks;
    low->node_value_counts[node] = count;
}

/* An InputLayer node that one of the model's inputs names. */
static bool lower_model_input(struct lowering *low, size_t node)
{
    for (size_t i = 0; i < low->model->input_count; i++) {
        if (low->model->inputs[i].tensor.node != (int)node)
            continue;
        int *values = xmalloc(sizeof *values);
        values[0] = add_input(low, i);
        low->graph->inputs[i] = values[0];
        int *masks = xmalloc(sizeof *masks);
        masks[0] = -1;
        return_values(low, node, values, masks, 1);
        return true;
    }
    return false;
}

static void note_shape(struct lowering *low, const struct call *call)
{
    struct shape *shape = &low->graph->layer_shapes[low->layer];
    if (shape->rank < 0 && call->output_count > 0)
        *shape = low->graph->values[call->outputs[0]].shape;
}

static void lower_node(struct lowering *low, size_t index)
{
    const struct model *model = low->model;
    const struct model_node *node = &model->nodes[index];
    const struct model_layer *layer = &model->layers[node->layer];
    low->layer = node->layer;
    snprintf(low->what, sizeof low->what, "%s '%.100s' (%.60s)",
             layer->is_op ? "operation" : "layer", layer->path, layer->class_name);

    if (node->input_count == 0 && lower_model_input(low, index)) {
        struct call call = {.outputs = low->node_values[index], .output_count = 1};
        if (!low->failed)
            note_shape(low, &call);
        return;
    }
    int *inputs = xmalloc((node->input_count + 1) * sizeof *inputs);
    int *masks = xmalloc((node->input_count + 1) * sizeof *masks);
    for (size_t i = 0; i < node->input_count; i++) {
        struct model_ref ref = node->inputs[i];
        if (ref.node < 0 || (size_t)ref.node >= index || ref.output < 0 ||
            (size_t)ref.output >= low->node_value_counts[ref.node]) {
            lowering_fail(low, ERROR_MODEL_BROKEN, "it takes output %d of a layer that has none",
                          ref.output);
            free(inputs);
            free(masks);
            return;
        }
        inputs[i] = low->node_values[ref.node][ref.output];
        masks[i] = low->node_masks[ref.node][ref.output];
        if (masks[i] >= 0 && mask_was_taken(low, index, ref))
            masks[i] = -1;
    }
    struct call call = {.low = low,
                        .row = layer_row_find(layer->class_name),
                        .layer = layer,
                        .node = node,
                        .config = layer->config,
                        .inputs = inputs,
                        .input_masks = masks,
                        .input_count = node->input_count};
    call.row->lower(&call);
    if (!low->failed && call.output_count == 0)
        lowering_fail(low, ERROR_MODEL_BROKEN, "it gives no output");
    if (!low->failed && call.next_weight != layer->weight_count)
        lowering_fail(low, ERROR_MODEL_WEIGHTS,
                      "the file has %zu weights for it and its configuration needs %zu",
                      layer->weight_count, call.next_weight);
    if (!low->failed)
        note_shape(low, &call);
    return_values(low, index, call.outputs, call.output_masks, call.output_count);
    free(inputs);
    free(masks);
}

static void bind_outputs(struct lowering *low)
{
    const struct model *model = low->model;
    for (size_t i = 0; i < model->output_count && !low->failed; i++) {
        struct model_ref ref = model->outputs[i].tensor;
        snprintf(low->what, sizeof low->what, "output %zu", i);
        if (ref.node < 0 || (size_t)ref.node >= model->node_count || ref.output < 0 ||
            (size_t)ref.output >= low->node_value_counts[ref.node])
            lowering_fail(low, ERROR_MODEL_BROKEN, "no layer makes it");
        else
            low->graph->outputs[i] = low->node_values[ref.node][ref.output];
    }
    for (size_t i = 0; i < model->input_count && !low->failed; i++) {
        if (low->graph->inputs[i] < 0)
            low->graph->inputs[i] = add_input(low, i); /* an input that nothing reads */
    }
}

/* Can every backend read this operand in float32 where the op's other values are narrower? */
static bool reads_exact(const struct op *op, size_t input)
{
    switch (op->kind) {
    case OP_GATHER: /* as indices */
        return input + 1 == op->input_count && !op->gather.indices;
    case OP_BINARY:
    case OP_SELECT:
    case OP_RESHAPE:
        return true;
    default:
        return false;
    }
}

/* Narrow floats hold no whole number past 256 (bfloat16) or 2048 (float16): what is looked up with a
 * model input stays as it is, if nothing stands against it. */
static void mark_exact(struct graph *graph)
{
    bool *wanted = xcalloc(graph->value_count + 1, sizeof *wanted);
    bool *barred = xcalloc(graph->value_count + 1, sizeof *barred);
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        for (size_t j = 0; j < op->input_count; j++) {
            int storage = graph_storage(graph, op->inputs[j]);
            wanted[storage] |= op->kind == OP_GATHER && reads_exact(op, j);
            barred[storage] |= !reads_exact(op, j);
        }
        for (size_t j = 0; j < op->post_count; j++) {
            if (op->posts[j].kind == POST_BINARY)
                barred[graph_storage(graph, op->posts[j].value)] = true;
        }
    }
    for (size_t i = 0; i < graph->output_count; i++)
        barred[graph_storage(graph, graph->outputs[i])] = true;
    for (size_t i = 0; i < graph->value_count; i++) {
        int storage = graph_storage(graph, (int)i);
        graph->values[i].exact =
            wanted[storage] && !barred[storage] && graph->values[storage].producer < 0;
    }
    free(wanted);
    free(barred);
}

/* Pictures of a model that takes bytes stay bytes on the host: a backend casts them, and a GPU is sent
 * a quarter. What is also an output is a float, as it always was. */
static void mark_bytes(struct graph *graph)
{
    for (size_t i = 0; i < graph->input_count; i++) {
        int value = graph->inputs[i];
        bool is_output = false;
        for (size_t j = 0; j < graph->output_count; j++)
            is_output |= graph_storage(graph, graph->outputs[j]) == value;
        if (graph->model->inputs[i].dtype == DTYPE_U8 && !is_output)
            graph->values[value].dtype = DTYPE_U8;
    }
}

/* Constants that a backend copies into a layout of its own may go after that; what other ops read
 * stays where it is. */
static bool keep_constants(const struct graph *graph, struct error *error)
{
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        const struct constant *constants[4];
        size_t count = op_constants(op, constants);
        bool copied = op->kind == OP_CONV || op->kind == OP_MATMUL || op->kind == OP_RECURRENT;
        for (size_t j = 0; j < count; j++) {
            bool small = constants[j]->shape.rank < 2; /* a bias */
            if ((!copied || small) && constants[j]->bytes > 0 &&
                !constant_keep(constants[j], error))
                return false;
        }
    }
    return true;
}

struct graph *graph_lower(const struct model *model, const struct graph_options *options,
                          struct constant_pool *pool, struct error *error)
{
    if (options->batch < 1 || options->batch > INT32_MAX) {
        error_set(error, ERROR_VALUE, "batch", "it must be at least 1");
        return NULL;
    }
    if (!check_classes(model, error))
        return NULL;
    struct graph *graph = xcalloc(1, sizeof *graph);
    graph->model = model;
    graph->batch = options->batch;
    graph->input_count = model->input_count;
    graph->output_count = model->output_count;
    graph->inputs = xmalloc((model->input_count + 1) * sizeof *graph->inputs);
    graph->outputs = xcalloc(model->output_count + 1, sizeof *graph->outputs);
    graph->layer_shapes = xcalloc(model->layer_count + 1, sizeof *graph->layer_shapes);
    for (size_t i = 0; i < model->input_count; i++)
        graph->inputs[i] = -1;
    for (size_t i = 0; i < model->layer_count; i++)
        graph->layer_shapes[i].rank = -1;

    struct lowering low = {.model = model, .graph = graph, .pool = pool, .error = error};
    low.node_values = xcalloc(model->node_count + 1, sizeof *low.node_values);
    low.node_masks = xcalloc(model->node_count + 1, sizeof *low.node_masks);
    low.node_value_counts = xcalloc(model->node_count + 1, sizeof *low.node_value_counts);
    mask_order_new(&low);
    for (size_t i = 0; i < model->node_count && !low.failed; i++)
        lower_node(&low, i);
    bind_outputs(&low);
    for (size_t i = 0; i < model->node_count; i++) {
        free(low.node_values[i]);
        free(low.node_masks[i]);
    }
    free(low.node_values);
    free(low.node_masks);
    free(low.mask_order);
    mask_free_all(&low);
    free(low.node_value_counts);

    if (low.failed || (options->fusion && !graph_fuse(graph, pool, error)) ||
        !keep_constants(graph, error)) {
        graph_free(graph);
        model_error_hint(error, model->file != NULL ? model->file : "FILE");
        return NULL;
    }
    mark_exact(graph);
    mark_bytes(graph);
    for (size_t i = 0; i < graph->op_count; i++) {
        struct op *op = &graph->ops[i];
        op->flops = op_flops(graph, op);
        op->bytes = op_bytes(graph, op);
    }
    return graph;
}
