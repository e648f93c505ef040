/* TensorFlow symbols in Keras 2 models, rewritten as the op nodes that Keras 3 would write.
 *
 * tf.keras saved a bare TensorFlow call as a layer: TFOpLambda {"function": "math.add"} with the
 * first argument as the node's input and the rest in kwargs under TensorFlow's names. A row of the
 * table below says which op it is, which parameters are tensors, and what the others are called in
 * the config of the Keras 3 op. */
#include "engine/keras/reader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tfop {
    const char *symbol;   /* TensorFlow's name without "tf." */
    const char *op;       /* Keras 3 op class */
    const char *tensors;  /* its tensor parameters in the order of the op's arguments */
    const char *config;   /* "tf_name" or "tf_name=keras_name", separated by spaces */
    const char *defaults; /* TensorFlow's defaults where Keras 3 has others, as JSON */
};

static const struct tfop tfops[] = {
    {"__operators__.add", "Add", "x y", "", NULL},
    {"math.add", "Add", "x y", "", NULL},
    {"math.subtract", "Subtract", "x y", "", NULL},
    {"math.multiply", "Multiply", "x y", "", NULL},
    {"math.divide", "Divide", "x y", "", NULL},
    {"math.truediv", "TrueDivide", "x y", "", NULL},
    {"__operators__.truediv", "TrueDivide", "x y", "", NULL},
    {"math.floordiv", "FloorDivide", "x y", "", NULL},
    {"math.floormod", "Mod", "x y", "", NULL},
    {"math.mod", "Mod", "x y", "", NULL},
    {"math.pow", "Power", "x y", "", NULL},
    {"math.maximum", "Maximum", "x y", "", NULL},
    {"math.minimum", "Minimum", "x y", "", NULL},
    {"math.greater", "Greater", "x y", "", NULL},
    {"math.greater_equal", "GreaterEqual", "x y", "", NULL},
    {"math.less", "Less", "x y", "", NULL},
    {"math.less_equal", "LessEqual", "x y", "", NULL},
    {"math.equal", "Equal", "x y", "", NULL},
    {"math.not_equal", "NotEqual", "x y", "", NULL},
    {"__operators__.eq", "Equal", "self other", "", NULL},
    {"__operators__.ne", "NotEqual", "self other", "", NULL},
    {"math.logical_and", "LogicalAnd", "x y", "", NULL},
    {"math.logical_or", "LogicalOr", "x y", "", NULL},
    {"math.logical_not", "LogicalNot", "x", "", NULL},
    {"math.square", "Square", "x", "", NULL},
    {"math.sqrt", "Sqrt", "x", "", NULL},
    {"math.rsqrt", "Rsqrt", "x", "", NULL},
    {"math.exp", "Exp", "x", "", NULL},
    {"math.expm1", "Expm1", "x", "", NULL},
    {"math.log", "Log", "x", "", NULL},
    {"math.log1p", "Log1p", "x", "", NULL},
    {"math.abs", "Absolute", "x", "", NULL},
    {"math.negative", "Negative", "x", "", NULL},
    {"math.sign", "Sign", "x", "", NULL},
    {"math.sin", "Sin", "x", "", NULL},
    {"math.cos", "Cos", "x", "", NULL},
    {"math.floor", "Floor", "x", "", NULL},
    {"math.ceil", "Ceil", "x", "", NULL},
    {"math.round", "Round", "x", "", NULL},
    {"math.reciprocal", "Reciprocal", "x", "", NULL},
    {"math.erf", "Erf", "x", "", NULL},
    {"math.sigmoid", "Sigmoid", "x", "", NULL},
    {"math.tanh", "Tanh", "x", "", NULL},
    {"math.softplus", "Softplus", "features", "", NULL},
    {"math.reduce_mean", "Mean", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_sum", "Sum", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_max", "Max", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_min", "Min", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_prod", "Prod", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_std", "Std", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_variance", "Var", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_any", "Any", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_all", "All", "input_tensor", "axis keepdims", NULL},
    {"math.reduce_logsumexp", "Logsumexp", "input_tensor", "axis keepdims", NULL},
    {"math.argmax", "Argmax", "input", "axis output_type", "{\"axis\": 0}"},
    {"math.argmin", "Argmin", "input", "axis output_type", "{\"axis\": 0}"},
    {"math.cumsum", "Cumsum", "x", "axis exclusive reverse", "{\"axis\": 0}"},
    {"math.l2_normalize", "Normalize", "x", "axis epsilon", "{\"order\": 2, \"epsilon\": 1e-12}"},
    {"nn.l2_normalize", "Normalize", "x", "axis epsilon", "{\"order\": 2, \"epsilon\": 1e-12}"},
    {"linalg.l2_normalize", "Normalize", "x", "axis epsilon", "{\"order\": 2, \"epsilon\": 1e-12}"},
    {"linalg.matmul", "Matmul", "a b", "transpose_a transpose_b", NULL},
    {"__operators__.matmul", "Matmul", "x y", "", NULL},
    {"nn.relu", "Relu", "features", "", NULL},
    {"nn.relu6", "Relu6", "features", "", NULL},
    {"nn.silu", "Silu", "features", "", NULL},
    {"nn.swish", "Silu", "features", "", NULL},
    {"nn.elu", "Elu", "features", "", NULL},
    {"nn.selu", "Selu", "features", "", NULL},
    {"nn.softplus", "Softplus", "features", "", NULL},
    {"nn.softsign", "Softsign", "features", "", NULL},
    {"nn.sigmoid", "Sigmoid", "x", "", NULL},
    {"nn.tanh", "Tanh", "x", "", NULL},
    {"nn.gelu", "Gelu", "features", "approximate", "{\"approximate\": false}"},
    {"nn.leaky_relu", "LeakyRelu", "features", "alpha=negative_slope", "{\"negative_slope\": 0.2}"},
    {"nn.softmax", "Softmax", "logits", "axis", "{\"axis\": -1}"},
    {"nn.log_softmax", "LogSoftmax", "logits", "axis", "{\"axis\": -1}"},
    {"identity_n", "IdentityN", "input", "", NULL},
    {"nn.bias_add", "Add", "value bias", "", NULL},
    {"nn.depth_to_space", "DepthToSpace", "input", "block_size data_format", NULL},
    {"nn.space_to_depth", "SpaceToDepth", "input", "block_size data_format", NULL},
    {"nn.avg_pool2d", "AveragePool", "input", "ksize=pool_size strides padding data_format", NULL},
    {"nn.max_pool2d", "MaxPool", "input", "ksize=pool_size strides padding data_format", NULL},
    {"nn.avg_pool", "AveragePool", "input", "ksize=pool_size strides padding data_format", NULL},
    {"nn.max_pool", "MaxPool", "input", "ksize=pool_size strides padding data_format", NULL},
    {"nn.conv2d", "Conv", "input filters", "strides padding data_format dilations=dilation_rate",
     NULL},
    {"reshape", "Reshape", "tensor", "shape=newshape", NULL},
    {"concat", "Concatenate", "values", "axis", NULL},
    {"stack", "Stack", "values", "axis", "{\"axis\": 0}"},
    {"unstack", "Unstack", "value", "num axis", "{\"axis\": 0}"},
    {"split", "Split", "value", "num_or_size_splits=indices_or_sections axis", "{\"axis\": 0}"},
    {"expand_dims", "ExpandDims", "input", "axis", NULL},
    {"squeeze", "Squeeze", "input", "axis", "{\"axis\": null}"},
    {"compat.v1.squeeze", "Squeeze", "input", "axis", "{\"axis\": null}"},
    {"transpose", "Transpose", "a", "perm=axes", "{\"axes\": null}"},
    {"compat.v1.transpose", "Transpose", "a", "perm=axes", "{\"axes\": null}"},
    {"tile", "Tile", "input", "multiples=repeats", NULL},
    {"repeat", "Repeat", "input", "repeats axis", "{\"axis\": null}"},
    {"pad", "Pad", "tensor constant_values", "paddings=pad_width mode", "{\"mode\": \"constant\"}"},
    {"compat.v1.pad", "Pad", "tensor constant_values", "paddings=pad_width mode",
     "{\"mode\": \"constant\"}"},
    {"where", "Where", "condition x y", "", NULL},
    {"cast", "Cast", "x", "dtype", NULL},
    {"convert_to_tensor", "StopGradient", "value", "", NULL},
    {"identity", "StopGradient", "input", "", NULL},
    {"stop_gradient", "StopGradient", "input", "", NULL},
    {"gather", "Take", "params indices", "axis", "{\"axis\": 0}"},
    {"compat.v1.gather", "Take", "params indices", "axis", "{\"axis\": 0}"},
    {"broadcast_to", "BroadcastTo", "input", "shape", NULL},
    {"clip_by_value", "Clip", "t", "clip_value_min=x_min clip_value_max=x_max", NULL},
    {"reverse", "Flip", "tensor", "axis", NULL},
    {"roll", "Roll", "input", "shift axis", NULL},
    {"image.resize", "Resize", "images", "size method=interpolation antialias",
     "{\"interpolation\": \"bilinear\"}"},
    {"zeros_like", "ZerosLike", "input", "dtype", NULL},
    {"ones_like", "OnesLike", "input", "dtype", NULL},
    {"compat.v1.floor_div", "FloorDivide", "x y", "", NULL},
    {"math.floor_div", "FloorDivide", "x y", "", NULL},
    {"math.tan", "Tan", "x", "", NULL},
    {"math.asin", "Arcsin", "x", "", NULL},
    {"math.acos", "Arccos", "x", "", NULL},
    {"math.atan", "Arctan", "x", "", NULL},
    {"math.atan2", "Arctan2", "y x", "", NULL},
    {"math.sinh", "Sinh", "x", "", NULL},
    {"math.cosh", "Cosh", "x", "", NULL},
    {"math.asinh", "Arcsinh", "x", "", NULL},
    {"math.acosh", "Arccosh", "x", "", NULL},
    {"math.atanh", "Arctanh", "x", "", NULL},
    {"math.rint", "Round", "x", "", NULL},
    {"math.log_sigmoid", "LogSigmoid", "x", "", NULL},
    {"math.softsign", "Softsign", "features", "", NULL},
    {"math.logical_xor", "LogicalXor", "x y", "", NULL},
    {"math.squared_difference", "SquaredDifference", "x y", "", NULL},
    {"math.divide_no_nan", "DivideNoNan", "x y", "", NULL},
    {"math.multiply_no_nan", "MultiplyNoNan", "x y", "", NULL},
    {"math.xlogy", "Xlogy", "x y", "", NULL},
    {"math.is_nan", "Isnan", "x", "", NULL},
    {"math.is_inf", "Isinf", "x", "", NULL},
    {"math.is_finite", "Isfinite", "x", "", NULL},
    {"math.add_n", "AddN", "inputs", "", NULL},
    {"math.accumulate_n", "AddN", "inputs", "", NULL},
    {"math.reduce_euclidean_norm", "Norm", "input_tensor", "axis keepdims", NULL},
    {"math.cumprod", "Cumprod", "x", "axis exclusive reverse", "{\"axis\": 0}"},
    {"math.top_k", "TopK", "input", "k", "{\"k\": 1}"},
    {"nn.top_k", "TopK", "input", "k", "{\"k\": 1}"},
    {"norm", "Norm", "tensor", "ord axis keepdims", NULL},
    {"compat.v1.norm", "Norm", "tensor", "ord axis keepdims", NULL},
    {"linalg.norm", "Norm", "tensor", "ord axis keepdims", NULL},
    {"sort", "Sort", "values", "axis direction", "{\"axis\": -1}"},
    {"argsort", "Argsort", "values", "axis direction", "{\"axis\": -1}"},
    {"tensordot", "Tensordot", "a b", "axes", NULL},
    {"linalg.tensordot", "Tensordot", "a b", "axes", NULL},
    {"linalg.diag_part", "Diagonal", "input", "", "{\"axis1\": -2, \"axis2\": -1}"},
    {"linalg.trace", "Trace", "x", "", "{\"axis1\": -2, \"axis2\": -1}"},
    {"linalg.band_part", "BandPart", "input", "num_lower num_upper", NULL},
    {"linalg.matrix_transpose", "Swapaxes", "a", "", "{\"axis1\": -2, \"axis2\": -1}"},
    {"compat.v1.nn.conv2d", "Conv", "input filter",
     "strides padding data_format dilations=dilation_rate", NULL},
    {"nn.depthwise_conv2d", "DepthwiseConv", "input filter",
     "strides padding data_format dilations=dilation_rate", NULL},
    {"compat.v1.nn.depthwise_conv2d", "DepthwiseConv", "input filter",
     "strides padding data_format rate=dilation_rate dilations=dilation_rate", NULL},
    {"shape", "Shape", "input", "", NULL},
    {"compat.v1.shape", "Shape", "input", "", NULL},
    {"range", "Arange", "start limit delta", "", NULL},
    {"image.flip_left_right", "Flip", "image", "", "{\"axis\": -2}"},
    {"image.flip_up_down", "Flip", "image", "", "{\"axis\": -3}"},
    {"image.transpose", "Swapaxes", "image", "", "{\"axis1\": -3, \"axis2\": -2}"},
    {"image.rot90", "Rot90", "image", "k", "{\"axes\": [-3, -2]}"},
    {"image.adjust_brightness", "Add", "image delta", "", NULL},
    {"image.central_crop", "CentralCrop", "image", "central_fraction", NULL},
    {"image.crop_to_bounding_box", "CropImages", "image",
     "offset_height=top_cropping offset_width=left_cropping target_height target_width", NULL},
    {"image.pad_to_bounding_box", "PadImages", "image",
     "offset_height=top_padding offset_width=left_padding target_height target_width", NULL},
    {"image.resize_with_crop_or_pad", "CropOrPad", "image", "target_height target_width", NULL},
    {"image.rgb_to_grayscale", "RGBToGrayscale", "images", "", NULL},
    {"image.grayscale_to_rgb", "GrayToRGB", "images", "", NULL},
    {"one_hot", "OneHot", "indices", "depth=num_classes axis dtype on_value off_value",
     "{\"axis\": -1}"},
};

bool tfop_is(const char *class_name)
{
    static const char *const names[] = {"TFOpLambda",  "SlicingOpLambda",  "TensorFlowOpLayer",
                                        "ClassMethod", "InstanceProperty", "InstanceMethod"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(class_name, names[i]) == 0)
            return true;
    }
    return false;
}

/* Parameters that change nothing in what is computed. */
static bool is_harmless(const char *parameter)
{
    static const char *const names[] = {"name",   "use_cudnn_on_gpu", "validate_indices", "sorted",
                                        "stable", "out_type",         "optimize"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(parameter, names[i]) == 0)
            return true;
    }
    return false;
}

static const struct tfop *find_symbol(const char *symbol)
{
    for (size_t i = 0; i < sizeof tfops / sizeof *tfops; i++) {
        if (strcmp(tfops[i].symbol, symbol) == 0)
            return &tfops[i];
    }
    return NULL;
}

/* Cut the next word off a list; false at its end. */
static bool next_word(const char **list, char *word, size_t size)
{
    *list += strspn(*list, " ");
    size_t length = strcspn(*list, " ");
    if (length == 0 || length >= size)
        return false;
    memcpy(word, *list, length);
    word[length] = '\0';
    *list += length;
    return true;
}

/* TensorFlow gives the sizes of the parts, Keras 3 where to cut. */
static json_t *sizes_to_cuts(json_t *sizes)
{
    if (!json_is_array(sizes))
        return json_incref(sizes);
    json_t *cuts = json_array();
    json_int_t at = 0;
    for (size_t i = 0; i + 1 < json_array_size(sizes); i++) {
        json_int_t size = json_integer_value(json_array_get(sizes, i));
        if (size < 0 || size > INT32_MAX) { /* -1: what is left; Keras cannot say that */
            json_decref(cuts);
            return json_incref(sizes);
        }
        json_array_append_new(cuts, json_integer(at += size));
    }
    return cuts;
}

static json_t *lower_case(json_t *value)
{
    char *text = xstrdup(json_string_value(value));
    for (char *c = text; *c != '\0'; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    json_t *lower = json_string(text);
    free(text);
    return lower;
}

/* A parameter's value in Keras 3's words. */
static json_t *translate(const char *op, const char *key, json_t *value)
{
    if (strcmp(key, "indices_or_sections") == 0)
        return sizes_to_cuts(value);
    if (strcmp(key, "data_format") == 0 && json_is_string(value))
        return json_string(json_string_value(value)[0] == 'N' && json_string_value(value)[1] == 'C'
                               ? "channels_first"
                               : "channels_last");
    if ((strcmp(key, "padding") == 0 || strcmp(key, "mode") == 0) && json_is_string(value))
        return lower_case(value);
    /* tf: x * rsqrt(max(sum, epsilon)); Keras 3 squares its epsilon */
    if (strcmp(op, "Normalize") == 0 && strcmp(key, "epsilon") == 0 && json_is_number(value))
        return json_real(sqrt(fabs(json_number_value(value))));
    return json_incref(value);
}

/* Take one call of `op`: fills `config`, replaces the call's args and kwargs. */
static void rewrite(const struct tfop *op, struct call *call, json_t *config)
{
    json_t *given = json_copy(call->kwargs);
    const char *list = op->tensors;
    char word[64];
    if (next_word(&list, word, sizeof word) && json_object_get(given, word) == NULL)
        json_object_set(given, word, json_array_get(call->args, 0));
    json_t *args = json_array();
    for (list = op->tensors; next_word(&list, word, sizeof word);) {
        json_t *value = json_object_get(given, word);
        if (value != NULL)
            json_array_append(args, value);
        json_object_del(given, word);
    }
    json_t *defaults = op->defaults != NULL ? json_loads(op->defaults, 0, NULL) : json_object();
    const char *key;
    json_t *value;
    json_object_foreach(defaults, key, value)
        json_object_set_new(config, key, translate(op->op, key, value));
    json_decref(defaults);
    for (list = op->config; next_word(&list, word, sizeof word);) {
        char *equals = strchr(word, '=');
        const char *to = equals != NULL ? equals + 1 : word;
        if (equals != NULL)
            *equals = '\0';
        value = json_object_get(given, word);
        if (value != NULL)
            json_object_set_new(config, to, translate(op->op, to, value));
        json_object_del(given, word);
    }
    json_decref(call->args);
    json_decref(call->kwargs);
    call->args = args;
    /* what is left and says something is not understood, and stays visible */
    void *next;
    json_object_foreach_safe(given, next, key, value)
    {
        if (json_is_null(value) || json_is_false(value) || is_harmless(key) ||
            (json_is_integer(value) && json_integer_value(value) == 0))
            json_object_del(given, key);
    }
    call->kwargs = given;
}

/* x[...]: slice_spec is a list of {"start", "stop", "step"}, numbers, null and ellipsis. */
static void rewrite_slice(struct call *call)
{
    json_t *spec = json_object_get(call->kwargs, "slice_spec"), *key = json_array(), *item;
    json_t *one =
        json_is_array(spec) ? json_incref(spec) : json_pack("[O]", spec ? spec : json_null());
    size_t i;
    json_array_foreach(one, i, item)
    {
        bool slice = json_is_object(item) && json_object_get(item, "class_name") == NULL &&
                     json_object_get(item, "tensor") == NULL;
        json_array_append_new(
            key, slice ? json_pack("{s:s, s:O}", "class_name", "__slice__", "config", item)
                       : json_incref(item));
    }
    json_decref(one);
    json_array_append_new(call->args, key);
    json_object_del(call->kwargs, "slice_spec");
}

/* einsum(equation, *inputs) */
static void rewrite_einsum(struct call *call, json_t *config)
{
    json_object_set(config, "subscripts", json_object_get(call->kwargs, "equation"));
    json_decref(call->args);
    call->args = json_incref(json_object_get(call->kwargs, "inputs"));
    json_object_clear(call->kwargs);
}

bool tfop_normalise(struct reader *reader, struct child *child)
{
    json_t *config = json_pack("{s:s, s:i}", "name", child->name, "_keras_major", 2);
    json_t *given = json_object_get(child->object, "config");
    const char *op = NULL;
    const char *symbol = json_text(given, "function", json_text(given, "symbol", "?"));
    bool raw = strcmp(child->class_name, "TensorFlowOpLayer") == 0, named = true;
    if (raw) {
        symbol = tfnode_name(reader, child);
        named = symbol != NULL;
        if (!named)
            symbol = json_text(json_object_get(given, "node_def"), "op", "TensorFlowOpLayer");
    }
    if (!named) {
        op = reader_print(reader, "tf.%s", symbol);
    } else if (raw && strcmp(symbol, "einsum") == 0) {
        rewrite_einsum(&child->calls[0], config);
        op = "Einsum";
    } else if (strcmp(symbol, "__operators__.getitem") == 0 ||
               strcmp(child->class_name, "SlicingOpLambda") == 0) {
        for (size_t i = 0; i < child->call_count; i++)
            rewrite_slice(&child->calls[i]);
        op = "GetItem";
    } else {
        const struct tfop *row = find_symbol(symbol);
        for (size_t i = 0; row != NULL && i < child->call_count; i++) {
            json_t *mine = json_copy(config);
            rewrite(row, &child->calls[i], mine);
            const char *left = json_object_iter_key(json_object_iter(child->calls[i].kwargs));
            if (left != NULL) {
                error_set(reader->error, ERROR_MODEL_LAYERS, child->name,
                          "the parameter \"%s\" of tf.%s is not supported", left, symbol);
                json_decref(mine);
                json_decref(config);
                return false;
            }
            bool same = i == 0 || json_equal(mine, child->config);
            json_decref(child->config);
            child->config = mine;
            if (!same) {
                json_decref(config);
                return error_set(reader->error, ERROR_MODEL_LAYERS, child->name,
                                 "tf.%s is called twice with different parameters", symbol);
            }
        }
        op = row != NULL ? row->op : reader_print(reader, "tf.%s", symbol);
        if (row != NULL && child->call_count > 0) {
            json_decref(config);
            config = json_incref(child->config);
        }
    }
    json_decref(child->config);
    child->config = config;
    child->class_name = reader_print(reader, "%s", op);
    child->is_op = true;
    for (size_t i = 0; i < child->call_count; i++)
        child->calls[i].arg_count = child->calls[i].ref_count;
    return true;
}
