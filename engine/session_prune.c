/* Pruned weights: copies of a model's kernels with zeros take the place of those in the file, for as
 * long as the setting `prune` says so; and how many zeros there are. */
#include "engine/session_private.h"

#include "engine/prune.h"

#include <stdlib.h>
#include <string.h>

struct pruned_weight {
    struct model_weight *weight;
    const void *original;
    float *data;
};

struct pruning {
    struct pruned_weight *list;
    size_t count;
};

/* Kernels of convolutions and dense layers. The few weights of a depthwise kernel are left alone: a
 * channel has hardly more than it needs. */
static bool is_kernel(const struct model_layer *layer, const struct model_weight *weight)
{
    bool product =
        strstr(layer->class_name, "Conv") != NULL || strstr(layer->class_name, "Dense") != NULL;
    bool kernel =
        strcmp(weight->name, "kernel") == 0 || strcmp(weight->name, "pointwise_kernel") == 0;
    return product && kernel && strstr(layer->class_name, "Depthwise") == NULL &&
           weight->dtype == DTYPE_F32 && weight->shape.rank >= 2;
}

/* The axis that is summed over. */
static int input_axis(const struct model_layer *layer, const struct model_weight *weight)
{
    if (strcmp(layer->class_name, "EinsumDense") == 0)
        return 0;
    bool transposed = strstr(layer->class_name, "Transpose") != NULL;
    return weight->shape.rank - (transposed ? 1 : 2);
}

void session_use_pruned(const struct pruning *pruning, bool pruned)
{
    for (size_t i = 0; pruning != NULL && i < pruning->count; i++) {
        struct pruned_weight *one = &pruning->list[i];
        one->weight->data = pruned ? one->data : one->original;
    }
}

void session_prune_free(struct pruning *pruning)
{
    for (size_t i = 0; pruning != NULL && i < pruning->count; i++)
        free(pruning->list[i].data);
    if (pruning != NULL)
        free(pruning->list);
    free(pruning);
}

/* One kernel, pruned and put in its place. */
static bool prune_weight(struct pruning *pruning, const struct model_layer *layer,
                         struct model_weight *weight, const struct settings *settings,
                         struct error *error)
{
    float *data = malloc((size_t)weight->bytes + 64);
    if (data == NULL)
        return error_set(error, ERROR_MEMORY, "prune", "no memory for a copy of %s", layer->path);
    memcpy(data, weight->data, (size_t)weight->bytes);
    if (settings->prune_structured)
        prune_two_of_four(data, &weight->shape, input_axis(layer, weight));
    else
        prune_smallest(data, (size_t)shape_elements(&weight->shape), settings->prune);
    pruning->list = xrealloc(pruning->list, (pruning->count + 1) * sizeof *pruning->list);
    pruning->list[pruning->count++] = (struct pruned_weight){weight, weight->data, data};
    weight->data = data;
    return true;
}

bool session_prune(struct model *model, const struct settings *settings, struct pruning **out,
                   struct error *error)
{
    *out = NULL;
    if (settings->prune <= 0)
        return true;
    struct pruning *pruning = xcalloc(1, sizeof *pruning);
    bool good = true;
    for (size_t i = 0; good && i < model->layer_count; i++) {
        struct model_layer *layer = &model->layers[i];
        for (size_t j = 0; good && j < layer->weight_count; j++) {
            if (is_kernel(layer, &layer->weights[j]))
                good = prune_weight(pruning, layer, &layer->weights[j], settings, error);
        }
    }
    if (good) {
        *out = pruning;
        return true;
    }
    session_use_pruned(pruning, false);
    session_prune_free(pruning);
    return false;
}

/* ---- sparsity ---- */

static json_t *share(uint64_t part, uint64_t all)
{
    return all > 0 ? json_real((double)part / (double)all) : json_null();
}

static json_t *sparsity_json(const struct sparsity *sparsity)
{
    return json_pack("{s:I, s:I, s:o, s:o}", "weights", (json_int_t)sparsity->elements, "zeros",
                     (json_int_t)sparsity->zeros, "zero_share",
                     share(sparsity->zeros, sparsity->elements), "two_of_four_share",
                     share(sparsity->two_of_four, sparsity->fours));
}

static void add(struct sparsity *all, const struct sparsity *one)
{
    all->elements += one->elements;
    all->zeros += one->zeros;
    all->fours += one->fours;
    all->two_of_four += one->two_of_four;
}

json_t *session_do_sparsity(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    if (session->model == NULL) {
        error_set(error, ERROR_NO_MODEL, "sparsity", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    struct sparsity all = {0};
    json_t *layers = json_array();
    for (size_t i = 0; i < session->model->layer_count; i++) {
        const struct model_layer *layer = &session->model->layers[i];
        struct sparsity own = {0};
        for (size_t j = 0; j < layer->weight_count; j++) {
            const struct model_weight *weight = &layer->weights[j];
            if (is_kernel(layer, weight))
                sparsity_count(weight->data, &weight->shape, input_axis(layer, weight), &own);
        }
        if (own.elements == 0)
            continue;
        json_t *row = sparsity_json(&own);
        json_object_set_new(row, "name", json_string(layer->path));
        json_object_set_new(row, "class", json_string(layer->class_name));
        json_array_append_new(layers, row);
        add(&all, &own);
    }
    json_t *reply = sparsity_json(&all);
    json_object_set_new(reply, "layers", layers);
    return reply;
}
