/* The architecture of Keras 1 in the spelling of Keras 2. What the weights need is in convert.c.
 *
 * Only keys and classes change here; a class that Keras 2 no longer has (MaxoutDense, Highway,
 * SReLU ...) stays as it is and is refused by name later, with all others. */
#include "engine/keras/reader.h"

#include <string.h>

/* class (or its beginning, with "*"), key of Keras 1, key of Keras 2. Two sizes become one list. */
static const struct {
    const char *class_name, *from, *to;
} keys[] = {
    {"Dense", "output_dim", "units"},
    {"TimeDistributedDense", "output_dim", "units"},
    {"SimpleRNN", "output_dim", "units"},
    {"LSTM", "output_dim", "units"},
    {"GRU", "output_dim", "units"},
    {"LSTM", "inner_activation", "recurrent_activation"},
    {"GRU", "inner_activation", "recurrent_activation"},
    {"*", "nb_filter", "filters"},
    {"*", "filter_length", "kernel_size"},
    {"*", "kernel_dim1", "kernel_size"},
    {"*", "subsample_length", "strides"},
    {"*", "subsample", "strides"},
    {"*", "atrous_rate", "dilation_rate"},
    {"*", "border_mode", "padding"},
    {"*", "bias", "use_bias"},
    {"*", "pool_length", "pool_size"},
    {"MaxPooling1D", "stride", "strides"},
    {"AveragePooling1D", "stride", "strides"},
    {"UpSampling1D", "length", "size"},
    {"*", "p", "rate"},
    {"GaussianNoise", "sigma", "stddev"},
};

static const struct {
    const char *keras1, *keras2;
} classes[] = {
    {"Convolution1D", "Conv1D"},
    {"Convolution2D", "Conv2D"},
    {"Convolution3D", "Conv3D"},
    {"AtrousConvolution1D", "Conv1D"},
    {"AtrousConvolution2D", "Conv2D"},
    {"AtrousConv1D", "Conv1D"},
    {"AtrousConv2D", "Conv2D"},
    {"Deconvolution2D", "Conv2DTranspose"},
    {"SeparableConvolution2D", "SeparableConv2D"},
    {"SeparableConv2D", "SeparableConv2D"},
    {"TimeDistributedDense", "Dense"}, /* a Dense of Keras 2 works along the last axis anyway */
};

static const struct {
    const char *mode, *class_name;
} merges[] = {
    {"sum", "Add"},     {"mul", "Multiply"}, {"ave", "Average"},
    {"max", "Maximum"}, {"dot", "Dot"},      {"concat", "Concatenate"},
};

static void rename_key(json_t *config, const char *from, const char *to)
{
    json_t *value = json_object_get(config, from);
    if (value == NULL)
        return;
    if (json_object_get(config, to) == NULL)
        json_object_set(config, to, value);
    json_object_del(config, from);
}

/* Keys that were one number each and are a list now. */
static void join_keys(json_t *config, const char *const *from, int count, const char *to)
{
    json_t *list = json_array();
    for (int i = 0; i < count && json_object_get(config, from[i]) != NULL; i++)
        json_array_append(list, json_object_get(config, from[i]));
    if ((int)json_array_size(list) == count) {
        json_object_set(config, to, list);
        for (int i = 0; i < count; i++)
            json_object_del(config, from[i]);
    }
    json_decref(list);
}

static void rewrite_layer(json_t *object, bool theano, int depth);

/* A Merge layer becomes the layer of its mode; one with a mode of its own keeps its name. */
static void rewrite_merge(json_t *object, json_t *config)
{
    const char *mode = json_text(config, "mode", "");
    if (json_object_get(config, "layers") != NULL &&
        json_array_size(json_object_get(config, "layers")) > 0)
        return; /* branches inside a Sequential: refused by name */
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        if (strcmp(mode, merges[i].mode) != 0)
            continue;
        json_object_set_new(object, "class_name", json_string(merges[i].class_name));
        if (strcmp(mode, "concat") == 0)
            rename_key(config, "concat_axis", "axis");
        else if (strcmp(mode, "dot") == 0)
            rename_key(config, "dot_axes", "axes");
    }
    json_object_del(config, "mode");
}

/* [top, bottom, left, right], or two numbers for both ends. */
static void rewrite_padding(json_t *config)
{
    json_t *padding = json_object_get(config, "padding");
    if (json_array_size(padding) == 4)
        json_object_set_new(config, "padding",
                            json_pack("[[O,O],[O,O]]", json_array_get(padding, 0),
                                      json_array_get(padding, 1), json_array_get(padding, 2),
                                      json_array_get(padding, 3)));
}

static void rewrite_config(const char *class_name, json_t *object, json_t *config, bool theano)
{
    static const char *const kernel2[] = {"nb_row", "nb_col"};
    static const char *const kernel3[] = {"kernel_dim1", "kernel_dim2", "kernel_dim3"};
    const char *ordering = json_text(config, "dim_ordering", NULL);
    join_keys(config, kernel2, 2, "kernel_size");
    join_keys(config, kernel3, 3, "kernel_size");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(keys[i].class_name, "*") == 0 || strcmp(keys[i].class_name, class_name) == 0)
            rename_key(config, keys[i].from, keys[i].to);
    }
    if (ordering != NULL) {
        bool first = strcmp(ordering, "th") == 0 || (theano && strcmp(ordering, "default") == 0);
        json_object_set_new(config, "data_format",
                            json_string(first ? "channels_first" : "channels_last"));
        json_object_del(config, "dim_ordering");
    }
    if (strcmp(class_name, "ZeroPadding2D") == 0)
        rewrite_padding(config);
    /* what follows replaces the class, and class_name with it */
    if (strcmp(class_name, "Merge") == 0)
        rewrite_merge(object, config);
    else if (strcmp(class_name, "BatchNormalization") == 0 &&
             json_integer_value(json_object_get(config, "mode")) != 0)
        json_object_set_new(object, "class_name", /* statistics of a sample or a batch: refused */
                            json_string("BatchNormalization(mode!=0)"));
}

static void rewrite_list(json_t *layers, bool theano, int depth)
{
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer) rewrite_layer(layer, theano, depth + 1);
}

static void rewrite_layer(json_t *object, bool theano, int depth)
{
    json_t *config = json_object_get(object, "config");
    const char *class_name = json_text(object, "class_name", NULL);
    if (class_name == NULL || depth > KERAS_NESTING_MAX)
        return;
    if (json_is_array(config)) { /* a Sequential */
        rewrite_list(config, theano, depth);
        return;
    }
    if (json_is_array(json_object_get(config, "layers")) && strcmp(class_name, "Merge") != 0) {
        rewrite_list(json_object_get(config, "layers"), theano, depth);
        return;
    }
    if (json_is_object(json_object_get(config, "layer"))) /* Bidirectional, TimeDistributed */
        rewrite_layer(json_object_get(config, "layer"), theano, depth + 1);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strcmp(class_name, classes[i].keras1) == 0) {
            json_object_set_new(object, "class_name", json_string(classes[i].keras2));
            class_name = classes[i].keras2;
            break;
        }
    }
    if (json_is_object(config))
        rewrite_config(class_name, object, config, theano);
}

void keras1_rewrite(json_t *root, bool theano)
{
    rewrite_layer(root, theano, 0);
}
