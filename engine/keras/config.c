/* Class names and config keys of every writer in the spelling of Keras 3. */
#include "engine/keras/layers/classes.h"
#include "engine/keras/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What other writers call a Keras 3 class. Custom objects that the applications and well-known
 * packages ship are listed too; nothing is ever looked up by module. */
static const struct {
    const char *alias, *canonical;
} aliases[] = {
    {"BatchNormalizationV1", "BatchNormalization"},
    {"BatchNormalizationV2", "BatchNormalization"},
    {"SyncBatchNormalization", "BatchNormalization"},
    {"FixedBatchNormalization", "BatchNormalization"},
    {"UnifiedLSTM", "LSTM"},
    {"LSTMV2", "LSTM"},
    {"UnifiedGRU", "GRU"},
    {"GRUV2", "GRU"},
    {"GroupQueryAttention", "GroupedQueryAttention"},
    {"Convolution1D", "Conv1D"},
    {"Convolution2D", "Conv2D"},
    {"Convolution3D", "Conv3D"},
    {"SeparableConvolution1D", "SeparableConv1D"},
    {"SeparableConvolution2D", "SeparableConv2D"},
    {"Convolution1DTranspose", "Conv1DTranspose"},
    {"Convolution2DTranspose", "Conv2DTranspose"},
    {"Convolution3DTranspose", "Conv3DTranspose"},
    {"Deconvolution2D", "Conv2DTranspose"},
    {"AvgPool1D", "AveragePooling1D"},
    {"AvgPool2D", "AveragePooling2D"},
    {"AvgPool3D", "AveragePooling3D"},
    {"MaxPool1D", "MaxPooling1D"},
    {"MaxPool2D", "MaxPooling2D"},
    {"MaxPool3D", "MaxPooling3D"},
    {"GlobalAvgPool1D", "GlobalAveragePooling1D"},
    {"GlobalAvgPool2D", "GlobalAveragePooling2D"},
    {"GlobalAvgPool3D", "GlobalAveragePooling3D"},
    {"GlobalMaxPool1D", "GlobalMaxPooling1D"},
    {"GlobalMaxPool2D", "GlobalMaxPooling2D"},
    {"GlobalMaxPool3D", "GlobalMaxPooling3D"},
    {"FixedDropout", "Dropout"},
};

/* Activations by another name. */
static const struct {
    const char *alias, *canonical;
} activation_aliases[] = {
    {"swish", "silu"},
    {"swish_v1", "silu"},
    {"swish_v2", "silu"},
    {"softmax_v2", "softmax"},
    {"hard_swish", "hard_silu"},
    {"relu_6", "relu6"},
    {"logsoftmax", "log_softmax"},
};

static json_t *normalise_value(struct reader *reader, json_t *value, int depth);

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Needed to train, or to look something up by module; no prediction depends on them. */
static bool key_is_dropped(const char *key)
{
    static const char *const keys[] = {
        "activity_regularizer",
        "build_config",
        "compile_config",
        "registered_name",
        "shared_object_id",
        "module",
        "function",
        "function_type",
        "output_shape_type",
        "output_shape_module",
        "defaults",
        "closure",
        "code",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(key, keys[i]) == 0)
            return true;
    }
    return ends_with(key, "_initializer") || ends_with(key, "_regularizer") ||
           ends_with(key, "_constraint");
}

static const char *canonical_class(const struct reader *reader, const char *class_name)
{
    /* "package>Name" is a registered custom object */
    const char *package = strrchr(class_name, '>');
    if (package != NULL && package[1] != '\0')
        class_name = package + 1;
    const char *mapped = json_text(reader->files->map, class_name, NULL);
    if (mapped != NULL) { /* the user knows better */
        json_object_set_new(reader->mapped, class_name, json_true());
        class_name = mapped;
    }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        if (strcmp(class_name, aliases[i].alias) == 0)
            return aliases[i].canonical;
    }
    return class_name;
}

static json_t *activation_name(const char *name)
{
    const char *package = strrchr(name, '>');
    if (package != NULL && package[1] != '\0')
        name = package + 1;
    for (size_t i = 0; i < sizeof activation_aliases / sizeof *activation_aliases; i++) {
        if (strcmp(name, activation_aliases[i].alias) == 0)
            return json_string(activation_aliases[i].canonical);
    }
    return json_string(name);
}

/* A name, a function {"class_name": "function", "config": name}, or a layer. */
static json_t *normalise_activation(struct reader *reader, json_t *value, int depth)
{
    if (value == NULL || json_is_null(value))
        return json_string("linear");
    if (json_is_string(value))
        return activation_name(json_string_value(value));
    const char *class_name = json_text(value, "class_name", NULL);
    if (class_name == NULL)
        return normalise_value(reader, value, depth + 1);
    json_t *config = json_object_get(value, "config");
    if (json_is_string(config))
        return activation_name(json_string_value(config));
    if (strcmp(class_name, "function") == 0)
        return activation_name(json_text(value, "registered_name", "function"));
    return normalise_value(reader, value, depth + 1);
}

/* A dtype policy in any form, as its name. */
static json_t *normalise_dtype(json_t *value)
{
    for (int i = 0; i < 4 && json_is_object(value); i++) {
        json_t *config = json_object_get(value, "config");
        json_t *inner = json_object_get(config, "name");
        if (inner == NULL)
            inner = json_object_get(config, "default_policy");
        if (inner == NULL) /* QuantizedDTypePolicy {mode, source_name} */
            return json_sprintf("%s_from_%s", json_text(config, "mode", "unknown"),
                                json_text(config, "source_name", "float32"));
        value = inner;
    }
    return json_is_string(value) ? json_incref(value) : json_null();
}

/* Old Python types that JSON had no word for. */
static json_t *normalise_special(struct reader *reader, json_t *value, int depth)
{
    const char *class_name = json_text(value, "class_name", "");
    if (strcmp(class_name, "__tuple__") == 0 || strcmp(class_name, "TensorShape") == 0 ||
        strcmp(class_name, "ListWrapper") == 0)
        return normalise_value(reader, json_object_get(value, "items"), depth + 1);
    /* tf.keras 2.12 to 2.14 wrapped ReLU's numbers */
    if (strcmp(class_name, "__numpy__") == 0 || strcmp(class_name, "__tensor__") == 0)
        return normalise_value(reader, json_object_get(json_object_get(value, "config"), "value"),
                               depth + 1);
    if (strcmp(json_text(value, "type", ""), "ndarray") == 0)
        return normalise_value(reader, json_object_get(value, "value"), depth + 1);
    return NULL;
}

static json_t *normalise_list(struct reader *reader, json_t *value, int depth)
{
    json_t *list = json_array();
    size_t i;
    json_t *item;
    json_array_foreach(value, i, item)
        json_array_append_new(list, normalise_value(reader, item, depth + 1));
    return list;
}

/* Any value inside a config: nested layers become canonical objects. */
static json_t *normalise_value(struct reader *reader, json_t *value, int depth)
{
    if (value == NULL || depth > KERAS_JSON_DEPTH_MAX)
        return json_null();
    if (json_is_array(value))
        return normalise_list(reader, value, depth);
    if (!json_is_object(value))
        return json_incref(value);
    json_t *special = normalise_special(reader, value, depth);
    if (special != NULL)
        return special;
    const char *class_name = json_text(value, "class_name", NULL);
    json_t *config = json_object_get(value, "config");
    if (class_name != NULL && (json_is_object(config) || json_is_array(config))) {
        if (ends_with(class_name, "Policy") || ends_with(class_name, "PolicyV1") ||
            ends_with(class_name, "PolicyMap"))
            return normalise_dtype(value);
        const char *canonical;
        json_t *object = json_object();
        json_t *inner = json_is_object(config)
                            ? config_normalise(reader, class_name, config, &canonical)
                            : normalise_list(reader, config, depth);
        json_object_set_new(object, "class_name", json_string(canonical_class(reader, class_name)));
        json_object_set_new(object, "config", inner);
        static const char *const kept[] = {"inbound_nodes", "shared_object_id"};
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
            json_t *item = json_object_get(value, kept[i]);
            if (item != NULL)
                json_object_set(object, kept[i], item);
        }
        return object;
    }
    json_t *object = json_object();
    const char *key;
    json_t *item;
    json_object_foreach(value, key, item)
        json_object_set_new(object, key, normalise_value(reader, item, depth + 1));
    return object;
}

static void rename_key(json_t *config, const char *from, const char *to)
{
    json_t *value = json_object_get(config, from);
    if (value == NULL)
        return;
    if (json_object_get(config, to) == NULL)
        json_object_set(config, to, value);
    json_object_del(config, from);
}

/* keras.io up to 2.3.1 and TensorFlow 1 sample an upsampled image at i * in / out, without the half
 * pixel. "2.2.4-tf" was written by TensorFlow 1.13 to 2.1, which did both; most of it was 1.x. */
static bool resize_is_asymmetric(const struct reader *reader)
{
    int major = 0, minor = 0, patch = 0;
    if (sscanf(reader->version, "%d.%d.%d", &major, &minor, &patch) < 2 || major != 2)
        return false;
    return reader->tf ? minor < 3 : minor < 4;
}

static void normalise_keras2(struct reader *reader, const char *class_name, json_t *config)
{
    if (strcmp(class_name, "LeakyReLU") == 0)
        rename_key(config, "alpha", "negative_slope");
    if (strcmp(class_name, "GRU") == 0 && json_object_get(config, "reset_after") == NULL)
        json_object_set_new(config, "reset_after", json_false());
    if (strstr(class_name, "Transpose") != NULL || strncmp(class_name, "Depthwise", 9) == 0) {
        json_object_del(config, "groups"); /* written by TensorFlow, honoured by nobody */
        if (strncmp(class_name, "Depthwise", 9) == 0)
            json_object_del(config, "filters");
    }
    if (strcmp(class_name, "Bidirectional") == 0 && !reader->tf) /* keras.io 2.0 to 2.3 */
        json_object_set_new(config, "_keep_masked_output", json_true());
    if (strcmp(class_name, "UpSampling2D") == 0 && resize_is_asymmetric(reader) &&
        strcmp(json_text(config, "interpolation", "nearest"), "nearest") != 0)
        json_object_set_new(config, "_asymmetric", json_true());
}

static void normalise_input(json_t *config)
{
    rename_key(config, "batch_input_shape", "batch_shape");
    json_t *shape = json_object_get(config, "shape");
    if (json_object_get(config, "batch_shape") == NULL && json_is_array(shape)) {
        json_t *batch = json_array();
        json_t *size = json_object_get(config, "batch_size");
        json_array_append(batch, size != NULL ? size : json_null());
        json_array_extend(batch, shape);
        json_object_set_new(config, "batch_shape", batch);
    }
}

/* The scaling Lambda of InceptionResNetV2 is known by its name and its argument; its code is not
 * read: x0 + scale * x1. */
static bool lambda_is_scale(const char *class_name, json_t *config)
{
    const char *name = json_text(config, "name", "");
    json_t *arguments = json_object_get(config, "arguments");
    return strcmp(class_name, "Lambda") == 0 &&
           (strncmp(name, "block35_", 8) == 0 || strncmp(name, "block17_", 8) == 0 ||
            strncmp(name, "block8_", 7) == 0) &&
           json_object_size(arguments) == 1 && json_is_number(json_object_get(arguments, "scale"));
}

/* Keras 3.0 to 3.3 multiplied and compared what lay outside the masks like all else, and what a layer
 * made of several tensors had no mask (Layer.__call__ of 3.3.3 asks the first argument for its mask,
 * which a list has not; 3.4.1 asks each). */
static bool merges_masked_values(const struct reader *reader, const char *class_name)
{
    static const char *const classes[] = {"Add",     "Subtract", "Multiply",   "Average",
                                          "Maximum", "Minimum",  "Concatenate"};
    int minor = 0;
    if (sscanf(reader->version, "3.%d", &minor) != 1 || minor >= 4)
        return false;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(class_name, classes[i]) == 0)
            return true;
    return false;
}

json_t *config_normalise(struct reader *reader, const char *class_name, json_t *config,
                         const char **canonical)
{
    *canonical = reader_print(reader, "%s", canonical_class(reader, class_name));
    json_t *out = json_object();
    const char *key;
    json_t *value;
    json_object_foreach(config, key, value)
    {
        if (key_is_dropped(key))
            continue;
        if (ends_with(key, "activation"))
            json_object_set_new(out, key, normalise_activation(reader, value, 0));
        else if (strcmp(key, "dtype") == 0 || strcmp(key, "dtype_policy") == 0)
            json_object_set_new(out, "dtype", normalise_dtype(value));
        else
            json_object_set_new(out, key, normalise_value(reader, value, 0));
    }
    if (lambda_is_scale(class_name, config)) {
        *canonical = "CustomScaleLayer";
        json_object_set(out, "scale",
                        json_object_get(json_object_get(config, "arguments"), "scale"));
        json_object_del(out, "arguments");
    }
    json_t *padding = json_object_get(out, "padding");
    if (json_is_string(padding)) {
        char *lower = xstrdup(json_string_value(padding));
        for (char *c = lower; *c != '\0'; c++)
            *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
        json_object_set_new(out, "padding", json_string(lower));
        free(lower);
    }
    json_t *axis = json_object_get(out, "axis");
    if (strcmp(*canonical, "BatchNormalization") == 0 && json_array_size(axis) == 1) {
        json_t *only = json_incref(json_array_get(axis, 0));
        json_object_set_new(out, "axis", only);
    }
    if (strcmp(*canonical, "InputLayer") == 0)
        normalise_input(out);
    if (reader->major < 3)
        normalise_keras2(reader, *canonical, out);
    json_object_set_new(out, "_keras_major", json_integer(reader->major < 3 ? 2 : 3));
    if (reader->major >= 3 && merges_masked_values(reader, *canonical))
        json_object_set_new(out, "_merge_masked", json_true());
    return out;
}

/* A layer of the table, or a cell inside one. */
static bool class_runs(const char *class_name)
{
    static const char *const cells[] = {"SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells"};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        if (strcmp(class_name, cells[i]) == 0)
            return true;
    }
    return layer_class_runs(class_name);
}

bool config_map_check(struct reader *reader)
{
    const char *key;
    json_t *value;
    json_object_foreach(reader->files->map, key, value)
    {
        const char *to = json_string_value(value) != NULL ? json_string_value(value) : "?";
        const char *known = to;
        for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
            if (strcmp(to, aliases[i].alias) == 0)
                known = aliases[i].canonical;
        }
        if (!class_runs(known)) {
            error_set(reader->error, ERROR_VALUE, reader->files->name,
                      "--map %s=%s: \"%s\" is no layer of Keras that runs here", key, to, to);
            return error_hint(reader->error, "load %s --map %s=Dense", reader->files->name, key);
        }
        if (json_object_get(reader->mapped, key) == NULL) {
            error_set(reader->error, ERROR_VALUE, reader->files->name,
                      "--map %s=%s: the model has no layer of the class \"%s\"", key, to, key);
            return error_hint(reader->error, "load %s", reader->files->name);
        }
    }
    return true;
}

bool config_is_model(json_t *object)
{
    json_t *config = json_object_get(object, "config");
    if (json_is_array(config)) /* Sequential before 2.2.3 */
        return strcmp(json_text(object, "class_name", ""), "Sequential") == 0;
    return json_is_array(json_object_get(config, "layers"));
}

bool config_is_op(const struct reader *reader, json_t *object)
{
    const char *class_name = json_text(object, "class_name", "");
    if (strcmp(class_name, "InputLayer") == 0 || config_is_model(object))
        return false;
    const char *module = json_text(object, "module", NULL);
    if (module != NULL)
        return strstr(module, ".ops.") != NULL || ends_with(module, ".ops") ||
               strstr(module, ".activations") != NULL;
    /* A Keras 3 HDF5 file has no modules, and ops share class names with layers; but no op writes
     * whether it is trainable, and every layer does but these, which no op is called like. */
    static const char *const silent[] = {"Discretization",   "HashedCrossing",
                                         "Pipeline",         "SpatialDropout1D",
                                         "SpatialDropout2D", "SpatialDropout3D"};
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        if (strcmp(class_name, silent[i]) == 0)
            return false;
    }
    json_t *config = json_object_get(object, "config");
    return reader->major >= 3 && json_object_get(config, "trainable") == NULL;
}
