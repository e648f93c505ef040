/* The models of an actor. */
#include "support/actor.h"

#include <stdio.h>
#include <string.h>

static struct actor_layer *add(struct actor_model *model, const char *class_name, int fused_into,
                               const char *shape)
{
    struct actor_layer *layer = &model->layers[model->count++];
    memset(layer, 0, sizeof *layer);
    layer->class_name = class_name;
    layer->fused_into = fused_into;
    snprintf(layer->shape, sizeof layer->shape, "%s", shape);
    return layer;
}

static void cost(struct actor_layer *layer, double parameters, double flops, double bytes,
                 double microseconds)
{
    layer->parameters = parameters;
    layer->flops = flops;
    layer->bytes = bytes;
    layer->microseconds = microseconds;
}

#define NAME(layer, ...) snprintf((layer)->name, sizeof(layer)->name, __VA_ARGS__)

static void make_digits(struct actor_model *model)
{
    static const struct {
        const char *name, *class_name, *shape;
        int fused_into;
        double parameters, flops, bytes, microseconds;
    } rows[] = {
        {"image", "InputLayer", "28, 28, 1", -1, 0, 0, 0, 0},
        {"rescaling", "Rescaling", "28, 28, 1", -1, 0, 784, 6272, 0.4},
        {"conv1", "Conv2D", "28, 28, 12", -1, 120, 169344, 41000, 3.1},
        {"bn1", "BatchNormalization", "28, 28, 12", 2, 48, 0, 0, 0},
        {"relu1", "ReLU", "28, 28, 12", 2, 0, 0, 0, 0},
        {"conv2", "Conv2D", "28, 28, 16", -1, 1744, 2709504, 87000, 9.5},
        {"bn2", "BatchNormalization", "28, 28, 16", 5, 64, 0, 0, 0},
        {"relu2", "ReLU", "28, 28, 16", 5, 0, 0, 0, 0},
        {"pool1", "MaxPooling2D", "14, 14, 16", -1, 0, 12544, 62000, 1.7},
        {"conv3", "Conv2D", "14, 14, 32", -1, 4640, 1806336, 38000, 6.2},
        {"bn3", "BatchNormalization", "14, 14, 32", 9, 128, 0, 0, 0},
        {"relu3", "ReLU", "14, 14, 32", 9, 0, 0, 0, 0},
        {"pool2", "MaxPooling2D", "7, 7, 32", -1, 0, 6272, 31000, 0.9},
        {"flatten", "Flatten", "1568", -1, 0, 0, 0, 0},
        {"dropout", "Dropout", "1568", -1, 0, 0, 0, 0},
        {"dense1", "Dense", "32", -1, 50208, 100352, 212000, 2.4},
        {"relu4", "ReLU", "32", 15, 0, 0, 0, 0},
        {"predictions", "Dense", "10", -1, 330, 640, 1500, 0.6},
        {"softmax", "Softmax", "10", -1, 0, 50, 80, 0.3},
    };
    model->name = "digits";
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct actor_layer *layer =
            add(model, rows[i].class_name, rows[i].fused_into, rows[i].shape);
        NAME(layer, "%s", rows[i].name);
        cost(layer, rows[i].parameters, rows[i].flops, rows[i].bytes, rows[i].microseconds);
    }
}

static void make_deep(struct actor_model *model)
{
    model->name = "deep_residual_network_v2_with_squeeze_and_excitation";
    NAME(add(model, "InputLayer", -1, "224, 224, 3"), "input_1");
    for (int block = 1; block <= 35; block++) {
        int side = 112 >> (block / 9), channels = 64 << (block / 9);
        double pixels = (double)side * side * channels;
        char shape[40];
        snprintf(shape, sizeof shape, "%d, %d, %d", side, side, channels);
        int head = model->count;
        struct actor_layer *conv = add(model, "Conv2D", -1, shape);
        NAME(conv, "stage%d_block%02d_convolution", block / 9 + 1, block);
        cost(conv, 9.0 * channels * channels, 18.0 * pixels * channels, pixels * 8,
             20 + block * 37 % 50);
        NAME(add(model, "BatchNormalization", head, shape), "stage%d_block%02d_bn", block / 9 + 1,
             block);
        NAME(add(model, "ReLU", head, shape), "stage%d_block%02d_relu", block / 9 + 1, block);
        struct actor_layer *sum = add(model, "Add", -1, shape);
        NAME(sum, "stage%d_block%02d_add", block / 9 + 1, block);
        cost(sum, 0, pixels, pixels * 12, 2 + block * 11 % 7);
    }
    struct actor_layer *dense = add(model, "Dense", -1, "1000");
    NAME(dense, "predictions");
    cost(dense, 513000, 1024000, 2100000, 4);
}

static void make_names(struct actor_model *model)
{
    static const char *const names[] = {
        "\u7573\u307f\u8fbc\u307f\u5c64\uff11", /* wide */
        "cafe\u0301_couche",                    /* a combining accent */
        "\U0001f680_rocket",                    /* beyond the first plane */
        "\033[31mred\033[0m \033]0;title\007",  /* colours, a title */
        "a\ttab, a\nnewline and a \x7f",        /* control characters */
        "\u202eright to left\u202c",            /* turns the rest of the line */
        "zero\u200bwidth\u200djoin",            /* nothing to see */
        "\u2588\u2588 looks like a bar",        /* blocks of our own */
        "an_endless_name_that_goes_on_and_on_over_all_columns_of_any_table_and_then_still_a_bit",
        "\uc2e0\uacbd\ub9dd \u6a21\u578b \u043c\u043e\u0434\u0435\u043b\u044c", /* three scripts */
        "layer with blanks  and 'quotes'",
        "-",
    };
    model->name = "\u795e\u7d4c\u7db2\u30e2\u30c7\u30eb";
    NAME(add(model, "InputLayer", -1, "8"), "input");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct actor_layer *layer = add(model, "Dense", -1, "64");
        NAME(layer, "%s", names[i]);
        cost(layer, 4160, 8192, 17000, 12 - (double)i * 0.8);
    }
}

bool actor_model_make(const char *path, struct actor_model *model)
{
    model->count = 0;
    if (strcmp(path, "demo:digits") == 0)
        make_digits(model);
    else if (strcmp(path, "demo:deep") == 0)
        make_deep(model);
    else if (strcmp(path, "demo:names") == 0)
        make_names(model);
    return model->count > 0;
}
