/* Which variables a layer class has, from its config, in the order of Keras's layer.weights.
 *
 * A new layer with plain variables is one row of `plain`. Wrappers and layers made of layers follow
 * below it. Paths are those of a Keras 3 weights file (saving_lib: attribute names, and for lists
 * the class in snake case with a counter). */
#include "engine/keras/bind.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row lists variables; after the name may stand "!" (never trainable) and then a condition:
 * "?key" unless the key is false, "+key" only if it is true, "-key" only if it is false. */
struct plain {
    const char *class_name, *variables;
};
static const struct plain plain[] = {
    {"Dense", "kernel bias?use_bias"},
    {"EinsumDense", "kernel bias+bias_axes"},
    {"Embedding", "embeddings"},
    {"ReversibleEmbedding", "embeddings reverse_embeddings-tie_weights"},
    {"Conv1D", "kernel bias?use_bias"},
    {"Conv2D", "kernel bias?use_bias"},
    {"Conv3D", "kernel bias?use_bias"},
    {"Conv1DTranspose", "kernel bias?use_bias"},
    {"Conv2DTranspose", "kernel bias?use_bias"},
    {"Conv3DTranspose", "kernel bias?use_bias"},
    {"DepthwiseConv1D", "depthwise_kernel bias?use_bias"},
    {"DepthwiseConv2D", "depthwise_kernel bias?use_bias"},
    {"SeparableConv1D", "depthwise_kernel pointwise_kernel bias?use_bias"},
    {"SeparableConv2D", "depthwise_kernel pointwise_kernel bias?use_bias"},
    {"LocallyConnected1D", "kernel bias?use_bias"},
    {"LocallyConnected2D", "kernel bias?use_bias"},
    {"BatchNormalization", "gamma?scale beta?center moving_mean! moving_variance! "
                           "moving_stddev!+renorm renorm_mean!+renorm renorm_stddev!+renorm"},
    {"GroupNormalization", "gamma?scale beta?center"},
    {"InstanceNormalization", "gamma?scale beta?center"},
    {"RMSNormalization", "scale"},
    {"PReLU", "alpha"},
    {"LayerScale", "gamma"},
    {"AdditiveAttention", "scale?use_scale"},
    {"SimpleRNNCell", "kernel recurrent_kernel bias?use_bias"},
    {"LSTMCell", "kernel recurrent_kernel bias?use_bias"},
    {"GRUCell", "kernel recurrent_kernel bias?use_bias"},
    {"CuDNNLSTM", "kernel recurrent_kernel bias"},
    {"CuDNNGRU", "kernel recurrent_kernel bias"},
};

/* Recurrent layers keep their variables in a cell. */
static const char *const cell_layers[] = {"SimpleRNN",  "LSTM",       "GRU",
                                          "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"};

/* Layers that never have variables. */
static const char *const weightless[] = {
    "InputLayer",
    "Activation",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "ThresholdedReLU",
    "Softmax",
    "Flatten",
    "Reshape",
    "Permute",
    "RepeatVector",
    "Identity",
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "Masking",
    "Lambda",
    "Add",
    "Subtract",
    "Multiply",
    "Average",
    "Maximum",
    "Minimum",
    "Concatenate",
    "Dot",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "UnitNormalization",
    "Rescaling",
    "Resizing",
    "CenterCrop",
    "CategoryEncoding",
    "Discretization",
    "IntegerLookup",
    "CustomScaleLayer",
    "StochasticDepth",
};

struct walk {
    struct reader *reader;
    struct variables *list;
};

static void append(struct walk *walk, const char *name, const char *owner, const char *path,
                   size_t number, bool trainable)
{
    struct variables *list = walk->list;
    if (list->count >= KERAS_WEIGHTS_MAX)
        return;
    if ((list->count & (list->count - 1)) == 0) { /* full at each power of two */
        struct variable *more =
            reader_alloc(walk->reader, (list->count ? 2 * list->count : 1) * sizeof *more);
        if (list->count > 0)
            memcpy(more, list->items, list->count * sizeof *more);
        list->items = more;
    }
    list->items[list->count++] =
        (struct variable){reader_print(walk->reader, "%s", name), owner,
                          reader_print(walk->reader, "%svars/%zu", path, number), trainable};
}

const char *variables_snake(struct reader *reader, const char *class_name)
{
    size_t length = strlen(class_name);
    char *out = reader_alloc(reader, 2 * length + 1);
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)class_name[i];
        if (!isalnum(c) && c != '_')
            continue;
        bool upper = isupper(c) != 0;
        unsigned char before = i > 0 ? (unsigned char)class_name[i - 1] : 0;
        unsigned char after = (unsigned char)class_name[i + 1];
        /* (.)([A-Z][a-z]+) and ([a-z])([A-Z]) get an underscore between their groups */
        if (upper && i > 0 && (islower(after) || islower(before)) && used > 0 &&
            out[used - 1] != '_')
            out[used++] = '_';
        out[used++] = (char)tolower(c);
    }
    out[used] = '\0';
    return out;
}

static void walk_layer(struct walk *walk, const char *class_name, json_t *config, const char *path,
                       bool trainable, int depth);

/* A wrapped layer object at `key`, whose group is `path`. */
static void walk_object(struct walk *walk, json_t *object, const char *path, bool trainable,
                        int depth)
{
    const char *class_name = json_text(object, "class_name", NULL);
    if (class_name == NULL) {
        walk->list->unknown = true;
        return;
    }
    struct variables *list = walk->list;
    size_t first = list->count;
    walk_layer(walk, class_name, json_object_get(object, "config"), path, trainable, depth + 1);
    if (list->count == first)
        return;
    if ((list->object_count & (list->object_count - 1)) == 0) { /* full at each power of two */
        struct object_mark *more = reader_alloc(
            walk->reader, (list->object_count ? 2 * list->object_count : 1) * sizeof *more);
        if (list->object_count > 0)
            memcpy(more, list->objects, list->object_count * sizeof *more);
        list->objects = more;
    }
    list->objects[list->object_count++] =
        shared_mark(walk->reader, object, first, list->count - first);
}

/* A list of layer objects, kept under `path` by class and counter. */
static void walk_list(struct walk *walk, json_t *objects, const char *path, bool trainable,
                      int depth)
{
    json_t *counters = json_object(), *object;
    size_t i;
    json_array_foreach(objects, i, object)
    {
        const char *snake = variables_snake(walk->reader, json_text(object, "class_name", ""));
        json_int_t n = json_integer_value(json_object_get(counters, snake));
        json_object_set_new(counters, snake, json_integer(n + 1));
        const char *child =
            n == 0 ? reader_print(walk->reader, "%s%s/", path, snake)
                   : reader_print(walk->reader, "%s%s_%lld/", path, snake, (long long)n);
        walk_object(walk, object, child, trainable, depth);
    }
    json_decref(counters);
}

static void walk_attention(struct walk *walk, json_t *config, const char *path, bool trainable)
{
    static const char *const parts[] = {"query", "key", "gate", "value", "output"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(parts[i], "gate") == 0 && !json_truth(config, "use_gate", false))
            continue;
        const char *owner = i == 4 ? "attention_output" : parts[i];
        const char *group = reader_print(walk->reader, "%s%s_dense/", path, parts[i]);
        append(walk, "kernel", owner, group, 0, trainable);
        if (json_truth(config, "use_bias", true))
            append(walk, "bias", owner, group, 1, trainable);
    }
}

/* Layers whose variables do not fit a row. */
static bool walk_special(struct walk *walk, const char *class_name, json_t *config,
                         const char *path, const char *name, bool trainable, int depth)
{
    struct reader *reader = walk->reader;
    if (strcmp(class_name, "LayerNormalization") == 0) {
        bool rms = json_truth(config, "rms_scaling", false);
        size_t n = 0;
        if (rms || json_truth(config, "scale", true))
            append(walk, "gamma", name, path, n++, trainable);
        if (!rms && json_truth(config, "center", true))
            append(walk, "beta", name, path, n, trainable);
    } else if (strcmp(class_name, "Normalization") == 0) {
        static const char *const names[] = {"mean", "variance", "count"};
        for (size_t i = 0; i < 3 && !json_truth(config, "mean", false); i++)
            append(walk, names[i], name, path, i, false);
    } else if (strcmp(class_name, "Attention") == 0) {
        size_t n = 0;
        if (json_truth(config, "use_scale", false))
            append(walk, "scale", name, path, n++, trainable);
        if (strcmp(json_text(config, "score_mode", "dot"), "concat") == 0)
            append(walk, "concat_score_weight", name, path, n, trainable);
    } else if (strcmp(class_name, "MultiHeadAttention") == 0 ||
               strcmp(class_name, "GroupedQueryAttention") == 0) {
        walk_attention(walk, config, path, trainable);
    } else if (strcmp(class_name, "Bidirectional") == 0) {
        json_t *forward = json_object_get(config, "layer");
        json_t *backward = json_object_get(config, "backward_layer");
        walk_object(walk, forward, reader_print(reader, "%sforward_layer/", path), trainable,
                    depth);
        walk_object(walk, json_is_object(backward) ? backward : forward,
                    reader_print(reader, "%sbackward_layer/", path), trainable, depth);
    } else if (strcmp(class_name, "TimeDistributed") == 0 || strcmp(class_name, "Wrapper") == 0) {
        walk_object(walk, json_object_get(config, "layer"), reader_print(reader, "%slayer/", path),
                    trainable, depth);
    } else if (strcmp(class_name, "SpectralNormalization") == 0) {
        walk_object(walk, json_object_get(config, "layer"), reader_print(reader, "%slayer/", path),
                    trainable, depth);
        append(walk, "vector_u", name, path, 1, false);
    } else if (strcmp(class_name, "RNN") == 0) {
        walk_object(walk, json_object_get(config, "cell"), reader_print(reader, "%scell/", path),
                    trainable, depth);
    } else if (strcmp(class_name, "StackedRNNCells") == 0) {
        walk_list(walk, json_object_get(config, "cells"), reader_print(reader, "%scells/", path),
                  trainable, depth);
    } else if (json_is_array(json_object_get(config, "layers"))) { /* a whole model in a wrapper */
        walk_list(walk, json_object_get(config, "layers"), reader_print(reader, "%slayers/", path),
                  trainable, depth);
    } else {
        return false;
    }
    return true;
}

/* One word of a row, with its condition cut off; false if the config says there is no such
 * variable. */
static bool word_applies(char *word, json_t *config, bool *frozen)
{
    size_t length = strcspn(word, "!?+-");
    char *rest = word + length;
    *frozen = *rest == '!';
    rest += *frozen;
    const char mark = *rest;
    const char *key = mark != '\0' ? rest + 1 : "";
    bool applies = mark == '?'   ? json_truth(config, key, true)
                   : mark == '+' ? json_truth(config, key, false)
                   : mark == '-' ? !json_truth(config, key, true)
                                 : true;
    word[length] = '\0';
    return applies;
}

static bool walk_plain(struct walk *walk, const struct plain *table, size_t count,
                       const char *class_name, json_t *config, const char *path, const char *name,
                       bool trainable)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].class_name, class_name) != 0)
            continue;
        char row[256], *save = NULL;
        snprintf(row, sizeof row, "%s", table[i].variables);
        size_t n = 0;
        for (char *word = strtok_r(row, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
            bool frozen;
            if (word_applies(word, config, &frozen))
                append(walk, word, name, path, n++, trainable && !frozen);
        }
        return true;
    }
    return false;
}

static bool is_listed(const char *const *list, size_t count, const char *class_name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i], class_name) == 0)
            return true;
    }
    return false;
}

/* Layers with quantised weights hold more than those, and integers are not trained. By the policy's
 * name up to "_from_"; "*" is a number. The order is that of Keras's variable_serialization_spec. */
#define FLOAT8_VARIABLES                                                                           \
    " inputs_scale inputs_amax_history kernel_scale kernel_amax_history outputs_grad_scale "       \
    "outputs_grad_amax_history"
static const struct quantised {
    const char *policy;
    struct plain row;
} quantised[] = {
    {"int8", {"Dense", "kernel! bias?use_bias kernel_scale!"}},
    {"int8", {"EinsumDense", "kernel! bias+bias_axes kernel_scale!"}},
    {"int8", {"Embedding", "embeddings! embeddings_scale!"}},
    {"int4/-1", {"Dense", "kernel! bias?use_bias kernel_scale!"}},
    {"int4", {"Dense", "kernel! bias?use_bias kernel_scale!"}},
    {"int4/-1", {"EinsumDense", "kernel! bias+bias_axes kernel_scale!"}},
    {"int4", {"EinsumDense", "kernel! bias+bias_axes kernel_scale!"}},
    {"int4/-1", {"Embedding", "embeddings! embeddings_scale!"}},
    {"int4", {"Embedding", "embeddings! embeddings_scale!"}},
    {"int4/*", {"Dense", "kernel! bias?use_bias kernel_scale! kernel_zero! g_idx!"}},
    {"int4/*", {"EinsumDense", "kernel! bias+bias_axes kernel_scale! kernel_zero! g_idx!"}},
    {"int4/*", {"Embedding", "embeddings! embeddings_scale! embeddings_zero! g_idx!"}},
    {"gptq/*", {"Dense", "bias?use_bias kernel! kernel_scale! kernel_zero! g_idx!"}},
    {"gptq/*", {"EinsumDense", "bias+bias_axes kernel! kernel_scale! zero_point! g_idx!"}},
    {"awq/*", {"Dense", "bias?use_bias kernel! kernel_scale! kernel_zero! awq_scales! g_idx!"}},
    {"awq/*",
     {"EinsumDense", "bias+bias_axes kernel! kernel_scale! zero_point! awq_scales! g_idx!"}},
    {"float8", {"Dense", "kernel bias?use_bias" FLOAT8_VARIABLES}},
    {"float8", {"EinsumDense", "kernel bias+bias_axes" FLOAT8_VARIABLES}},
};

/* The row of a class under a policy, NULL if it has none. */
static const struct plain *quantised_row(const char *class_name, const char *policy)
{
    const char *from = strstr(policy, "_from_");
    size_t length = from != NULL ? (size_t)(from - policy) : 0;
    for (size_t i = 0; i < sizeof quantised / sizeof *quantised; i++) {
        const char *wanted = quantised[i].policy;
        size_t stem = strcspn(wanted, "*");
        bool any = wanted[stem] == '*' && length > stem && policy[stem] != '-';
        if (strcmp(quantised[i].row.class_name, class_name) == 0 &&
            strncmp(policy, wanted, stem) == 0 && (any || length == strlen(wanted)))
            return &quantised[i].row;
    }
    return NULL;
}

bool variables_quantised(const char *class_name, json_t *config, bool *known)
{
    const char *policy = json_text(config, "dtype", "");
    *known = quantised_row(class_name, policy) != NULL;
    *known |= is_listed(weightless, sizeof weightless / sizeof *weightless, class_name);
    return strstr(policy, "_from_") != NULL;
}

/* Keras 1 kept the matrices of every gate apart, unless it was asked to favour GPUs. */
static bool walk_gates(struct walk *walk, const char *class_name, json_t *config, const char *name,
                       const char *path, bool trainable)
{
    const char *gates = strcmp(class_name, "LSTM") == 0  ? "icfo"
                        : strcmp(class_name, "GRU") == 0 ? "zrh"
                                                         : NULL;
    if (gates == NULL || strcmp(json_text(config, "consume_less", ""), "gpu") == 0)
        return false;
    for (size_t i = 0; gates[i] != '\0'; i++) {
        for (size_t part = 0; part < 3; part++)
            append(walk, reader_print(walk->reader, "%c_%c", "WUb"[part], gates[i]), name, path,
                   3 * i + part, trainable);
    }
    return true;
}

static void walk_layer(struct walk *walk, const char *class_name, json_t *config, const char *path,
                       bool trainable, int depth)
{
    bool known, integers = variables_quantised(class_name, config, &known);
    if (depth > KERAS_NESTING_MAX || (integers && !known)) {
        walk->list->unknown = true;
        return;
    }
    const char *name = reader_print(walk->reader, "%s", json_text(config, "name", class_name));
    trainable = trainable && json_truth(config, "trainable", true);
    const struct plain *row = quantised_row(class_name, json_text(config, "dtype", ""));
    if (integers && row != NULL &&
        walk_plain(walk, row, 1, class_name, config, path, name, trainable))
        return;
    if (is_listed(cell_layers, sizeof cell_layers / sizeof *cell_layers, class_name)) {
        const char *cell = reader_print(walk->reader, "%scell/", path);
        if (walk->reader->keras1 && walk_gates(walk, class_name, config, name, cell, trainable))
            return;
        append(walk, "kernel", name, cell, 0, trainable);
        append(walk, "recurrent_kernel", name, cell, 1, trainable);
        if (json_truth(config, "use_bias", true))
            append(walk, "bias", name, cell, 2, trainable);
        return;
    }
    if (walk_plain(walk, plain, sizeof plain / sizeof *plain, class_name, config, path, name,
                   trainable) ||
        walk_special(walk, class_name, config, path, name, trainable, depth))
        return;
    /* Random* layers of Keras 2 may own a generator state: whatever the file has for them */
    if (!is_listed(weightless, sizeof weightless / sizeof *weightless, class_name))
        walk->list->unknown = true;
}

void variables_append(struct reader *reader, struct variables *list, const char *class_name,
                      json_t *config, const char *path, bool trainable)
{
    struct walk walk = {reader, list};
    walk_layer(&walk, class_name, config, path, trainable, 0);
}
