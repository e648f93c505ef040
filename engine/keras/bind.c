/* Which dataset of the weights file is which variable.
 *
 * Legacy HDF5 (Keras 1, 2, tf.keras and `save("x.h5")` of Keras 3) and the weights of Keras 3 go two
 * ways; this file is what they share. */
#include "engine/keras/bind.h"

#include <stdlib.h>

/* Layers at several places may have so many times the bytes that there are. */
#define SHARED_TIMES_MAX 64

bool bind_count_error(struct reader *reader, const char *layer, const char *class_name, size_t held,
                      size_t wanted)
{
    return error_set(reader->error, ERROR_MODEL_WEIGHTS, reader->files->name,
                     "the file holds %zu weight%s for the layer \"%s\" (%s), and its config asks "
                     "for %zu",
                     held, held == 1 ? "" : "s", layer, class_name, wanted);
}

static json_t *layer_weights(const struct reader *reader, int layer)
{
    return json_object_get(json_array_get(reader->layers, (size_t)layer), "weights");
}

/* What there is of bytes: of the files, and of what was decoded. Weights that share theirs, by links
 * to one dataset, would make a small file a model of any size. */
static uint64_t bytes_held(const struct reader *reader)
{
    const struct keras_files *files = reader->files;
    uint64_t bytes = files->main.size + files->weights.size + files->memory->used;
    for (size_t i = 0; i < files->shard_count; i++)
        bytes += files->shards[i].bytes.size;
    return bytes;
}

bool bind_append(struct reader *reader, struct h5 *h5, int layer, hid_t group, const char *path,
                 const char *name)
{
    if (reader->weight_count++ >= KERAS_WEIGHTS_MAX)
        return error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                         "the model has more than %d weights", KERAS_WEIGHTS_MAX);
    json_t *weight = h5_weight(h5, group, path, name, reader->error);
    if (weight == NULL) {
        /* the file, not the dataset, is what the user knows */
        struct error cause = *reader->error;
        return error_set(
            reader->error, cause.code, reader->files->name, "weight \"%s\" of layer \"%s\": %s",
            path, json_text(json_array_get(reader->layers, (size_t)layer), "path", "?"), cause.why);
    }
    reader->weight_bytes += (uint64_t)json_integer_value(json_object_get(weight, "bytes"));
    json_array_append_new(layer_weights(reader, layer), weight);
    if (reader->weight_bytes > bytes_held(reader))
        return error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                         "its weights claim %llu bytes, more than the file has: some share theirs",
                         (unsigned long long)reader->weight_bytes);
    return true;
}

json_t *bind_last(const struct reader *reader, int layer)
{
    json_t *weights = layer_weights(reader, layer);
    return json_array_get(weights, json_array_size(weights) - 1);
}

bool bind_again(struct reader *reader, int layer, json_t *weight)
{
    reader->shared_bytes += (uint64_t)json_integer_value(json_object_get(weight, "bytes"));
    if (reader->weight_count++ >= KERAS_WEIGHTS_MAX ||
        reader->shared_bytes / SHARED_TIMES_MAX > bytes_held(reader))
        return error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                         "its layers share so much that their weights claim %llu bytes more than "
                         "the file has",
                         (unsigned long long)reader->shared_bytes);
    /* a copy, as each may be converted */
    json_array_append_new(layer_weights(reader, layer), json_deep_copy(weight));
    return true;
}

void bind_collect(struct reader *reader, const struct child *child, bool trainable,
                  struct slots *slots)
{
    if (child->scope != NULL) {
        for (size_t i = 0; i < child->scope->child_count; i++)
            bind_collect(reader, &child->scope->children[i], child->scope->trainable, slots);
        return;
    }
    if (child->is_op || child->is_input)
        return;
    struct variables list = {0};
    variables_append(reader, &list, child->class_name, child->config, "", trainable);
    if (list.unknown) {
        if (slots->unknown_count == slots->unknown_capacity) {
            slots->unknown_capacity = slots->unknown_capacity ? 2 * slots->unknown_capacity : 8;
            slots->unknown =
                xrealloc(slots->unknown, slots->unknown_capacity * sizeof *slots->unknown);
        }
        slots->unknown[slots->unknown_count++] = child;
        return;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (slots->count == slots->capacity) {
            slots->capacity = slots->capacity ? 2 * slots->capacity : 16;
            slots->items = xrealloc(slots->items, slots->capacity * sizeof *slots->items);
        }
        slots->items[slots->count++] = (struct slot){list.items[i], child->layer};
    }
}

void bind_slots_free(struct slots *slots)
{
    free(slots->items);
    free(slots->unknown);
}

/* An architecture alone is a model if none of its layers has parameters. */
static bool bind_none(struct reader *reader)
{
    const char *name = reader->files->name;
    for (size_t i = 0; i < reader->top->child_count; i++) {
        struct slots slots = {0};
        bind_collect(reader, &reader->top->children[i], true, &slots);
        bool wanted = slots.count > 0;
        bind_slots_free(&slots);
        if (wanted) {
            error_set(reader->error, ERROR_MODEL_WEIGHTS, name,
                      "it holds an architecture without weights, and the layer \"%s\" has some",
                      reader->top->children[i].name);
            return error_hint(reader->error, "load %s --weights model.weights.h5", name);
        }
    }
    return true;
}

bool bind_weights(struct reader *reader)
{
    switch (reader->layout) {
    case WEIGHTS_LEGACY:
        return bind_legacy(reader);
    case WEIGHTS_V3:
        return bind_v3(reader);
    case WEIGHTS_RECIPE:
        return recipe_bind(reader);
    case WEIGHTS_NONE:
        break;
    }
    return bind_none(reader);
}
