/* Who reads a mask too late. From Keras 3.10 on MultiHeadAttention takes the masks off the tensors
 * it is called with, and they are the model's own: whatever Keras runs after it and reads the same
 * tensor sees no mask. A residual connection around an attention so loses the mask that its
 * embedding made. Which call runs first follows from the graph (keras/src/ops/function.py):
 * calls far from the outputs first, and of two at one distance the one met later on the way up from
 * the outputs. Calls inside nested models are ranked as if they stood in the model itself. */
#include "engine/graph/lower.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAJOR_THAT_TAKES 3
#define MINOR_THAT_TAKES 10

static bool takes_masks(const struct model *model, size_t node)
{
    return strcmp(model->layers[model->nodes[node].layer].class_name, "MultiHeadAttention") == 0;
}

static bool release_takes_masks(const struct model *model)
{
    int major, minor;
    return model->keras_version && sscanf(model->keras_version, "%d.%d", &major, &minor) == 2 &&
           major == MAJOR_THAT_TAKES && minor >= MINOR_THAT_TAKES;
}

/* The nodes that the outputs need, each after those that it reads, walked from the outputs in their
 * order. Returns how many. */
static size_t walk_up(const struct model *model, int *order)
{
    size_t *next =
        xcalloc(model->node_count + 1, sizeof *next); /* input to look at, counted from 1 */
    int *stack = xmalloc((model->node_count + 1) * sizeof *stack);
    size_t used = 0, depth = 0;
    for (size_t i = 0; i < model->output_count; i++) {
        int root = model->outputs[i].tensor.node;
        if (root < 0 || (size_t)root >= model->node_count || next[root] > 0)
            continue;
        stack[depth++] = root;
        next[root] = 1;
        while (depth > 0) {
            int at = stack[depth - 1];
            const struct model_node *node = &model->nodes[at];
            if (next[at] > node->input_count) {
                order[used++] = at;
                depth--;
                continue;
            }
            int up = node->inputs[next[at]++ - 1].node;
            if (up >= 0 && up < at && next[up] == 0) {
                stack[depth++] = up;
                next[up] = 1;
            }
        }
    }
    free(stack);
    free(next);
    return used;
}

/* Distances from the outputs: a layer's earlier calls lie no nearer than its later ones. The rank of
 * a node tells those of one distance apart. */
static void measure(const struct model *model, struct mask_order *order)
{
    int *up = xmalloc((model->node_count + 1) * sizeof *up), met = 0;
    int *of_layer = xcalloc(model->layer_count + 1, sizeof *of_layer);
    for (size_t i = 0; i < model->node_count; i++)
        order[i] = (struct mask_order){.distance = 0, .rank = -1};
    for (size_t i = walk_up(model, up); i-- > 0;) {
        const struct model_node *node = &model->nodes[up[i]];
        struct mask_order *own = &order[up[i]];
        if (own->rank < 0)
            own->rank = met++;
        if (own->distance < of_layer[node->layer])
            own->distance = of_layer[node->layer];
        of_layer[node->layer] = own->distance;
        for (size_t j = 0; j < node->input_count; j++) {
            int to = node->inputs[j].node;
            if (to < 0 || to >= up[i])
                continue;
            if (order[to].rank < 0)
                order[to].rank = met++;
            if (order[to].distance <= own->distance)
                order[to].distance = own->distance + 1;
        }
    }
    free(of_layer);
    free(up);
}

void mask_order_new(struct lowering *low)
{
    const struct model *model = low->model;
    int first = -1;
    if (!release_takes_masks(model))
        return;
    struct mask_order *order = xmalloc((model->node_count + 1) * sizeof *order);
    measure(model, order);
    for (size_t i = model->node_count; i-- > 0;) {
        order[i].next_taker = first;
        if (takes_masks(model, i))
            first = (int)i;
    }
    if (first < 0) {
        free(order);
        return;
    }
    low->mask_order = order;
    low->mask_taker = first;
}

/* The tensor itself: these layers hand on what they get when nobody trains. */
static struct model_ref same_tensor(const struct model *model, struct model_ref ref)
{
    static const char *const SAME[] = {
        "Dropout",          "SpatialDropout1D", "SpatialDropout2D",
        "SpatialDropout3D", "GaussianDropout",  "GaussianNoise",
        "AlphaDropout",     "Identity",         "ActivityRegularization"};
    for (;;) {
        const struct model_node *node = &model->nodes[ref.node];
        const struct model_layer *layer = &model->layers[node->layer];
        bool same = false;
        for (size_t i = 0; i < sizeof SAME / sizeof *SAME; i++)
            same |= strcmp(layer->class_name, SAME[i]) == 0;
        const char *activation = json_string_value(json_object_get(layer->config, "activation"));
        same |= strcmp(layer->class_name, "Activation") == 0 && activation &&
                strcmp(activation, "linear") == 0;
        if (!same || node->input_count == 0 || node->inputs[0].node < 0 ||
            node->inputs[0].node >= ref.node)
            return ref;
        ref = node->inputs[0];
    }
}

/* A layer that computes in another type gets a copy of the tensor, and takes the mask off that. */
static bool copies(const struct model *model, size_t taker, struct model_ref ref)
{
    const json_t *own = json_object_get(model->layers[model->nodes[taker].layer].config, "dtype");
    const json_t *other =
        json_object_get(model->layers[model->nodes[ref.node].layer].config, "dtype");
    return own && other && !json_equal(own, other);
}

static bool runs_before(const struct mask_order *a, const struct mask_order *b)
{
    if (a->rank < 0 || b->rank < 0)
        return false;
    return a->distance != b->distance ? a->distance > b->distance : a->rank < b->rank;
}

bool mask_was_taken(const struct lowering *low, size_t node, struct model_ref ref)
{
    const struct model *model = low->model;
    const struct mask_order *order = low->mask_order;
    if (!order)
        return false;
    ref = same_tensor(model, ref);
    for (int i = low->mask_taker; i >= 0; i = order[i].next_taker) {
        if (!runs_before(&order[i], &order[node]) || copies(model, (size_t)i, ref))
            continue;
        for (size_t j = 0; j < model->nodes[i].input_count; j++) {
            struct model_ref given = model->nodes[i].inputs[j];
            if (given.node < 0 || given.node >= i)
                continue;
            given = same_tensor(model, given);
            if (given.node == ref.node && given.output == ref.output)
                return true;
        }
    }
    return false;
}
