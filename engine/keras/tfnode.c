/* Raw TensorFlow nodes, which tf.keras 2.0 to 2.3 kept as layers (TensorFlowOpLayer): the node's
 * inputs by position, some of them constants of the file, and its attributes in the form of a protocol
 * buffer. A row says of which call in tfop.c a node is the raw form, and what its inputs and attributes
 * are called there. */
#include "engine/keras/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node_row {
    const char *raw, *symbol;
    const char *inputs;     /* by position; "*name" takes a list of what the others leave */
    const char *attributes; /* "raw=name", "raw=" to leave one out; others keep their names */
};

static const struct node_row rows[] = {
    {"Abs", "math.abs", "x", ""},
    {"Acos", "math.acos", "x", ""},
    {"Acosh", "math.acosh", "x", ""},
    {"Add", "math.add", "x y", ""},
    {"AddN", "math.add_n", "*inputs", ""},
    {"AddV2", "math.add", "x y", ""},
    {"All", "math.reduce_all", "input_tensor axis", "keep_dims=keepdims"},
    {"Any", "math.reduce_any", "input_tensor axis", "keep_dims=keepdims"},
    {"ArgMax", "math.argmax", "input axis", "output_type=output_type"},
    {"ArgMin", "math.argmin", "input axis", "output_type=output_type"},
    {"Asin", "math.asin", "x", ""},
    {"Asinh", "math.asinh", "x", ""},
    {"Atan", "math.atan", "x", ""},
    {"Atan2", "math.atan2", "y x", ""},
    {"Atanh", "math.atanh", "x", ""},
    {"AvgPool", "nn.avg_pool2d", "input", ""},
    {"BatchMatMul", "linalg.matmul", "a b", "adj_x=transpose_a adj_y=transpose_b"},
    {"BatchMatMulV2", "linalg.matmul", "a b", "adj_x=transpose_a adj_y=transpose_b"},
    {"BatchMatMulV3", "linalg.matmul", "a b", "adj_x=transpose_a adj_y=transpose_b"},
    {"BiasAdd", "nn.bias_add", "value bias", ""},
    {"BroadcastTo", "broadcast_to", "input shape", ""},
    {"Cast", "cast", "x", "DstT=dtype Truncate="},
    {"Ceil", "math.ceil", "x", ""},
    {"ClipByValue", "clip_by_value", "t clip_value_min clip_value_max", ""},
    {"Concat", "concat", "axis *values", ""},
    {"ConcatV2", "concat", "*values axis", ""},
    {"Conv2D", "nn.conv2d", "input filters", ""},
    {"Cos", "math.cos", "x", ""},
    {"Cosh", "math.cosh", "x", ""},
    {"Cumprod", "math.cumprod", "x axis", ""},
    {"Cumsum", "math.cumsum", "x axis", ""},
    {"DepthToSpace", "nn.depth_to_space", "input", ""},
    {"DepthwiseConv2dNative", "nn.depthwise_conv2d", "input filter", ""},
    {"Div", "math.divide", "x y", ""},
    {"DivNoNan", "math.divide_no_nan", "x y", ""},
    {"Einsum", "einsum", "*inputs", ""},
    {"Elu", "nn.elu", "features", ""},
    {"Equal", "math.equal", "x y", "incompatible_shape_error="},
    {"Erf", "math.erf", "x", ""},
    {"EuclideanNorm", "math.reduce_euclidean_norm", "input_tensor axis", "keep_dims=keepdims"},
    {"Exp", "math.exp", "x", ""},
    {"ExpandDims", "expand_dims", "input axis", ""},
    {"Expm1", "math.expm1", "x", ""},
    {"Floor", "math.floor", "x", ""},
    {"FloorDiv", "math.floordiv", "x y", ""},
    {"FloorMod", "math.floormod", "x y", ""},
    {"Gather", "gather", "params indices", "validate_indices="},
    {"GatherV2", "gather", "params indices axis", ""},
    {"Greater", "math.greater", "x y", ""},
    {"GreaterEqual", "math.greater_equal", "x y", ""},
    {"Identity", "identity", "input", ""},
    {"IdentityN", "identity_n", "*input", ""},
    {"IsFinite", "math.is_finite", "x", ""},
    {"IsInf", "math.is_inf", "x", ""},
    {"IsNan", "math.is_nan", "x", ""},
    {"LeakyRelu", "nn.leaky_relu", "features", ""},
    {"Less", "math.less", "x y", ""},
    {"LessEqual", "math.less_equal", "x y", ""},
    {"Log", "math.log", "x", ""},
    {"Log1p", "math.log1p", "x", ""},
    {"LogSoftmax", "nn.log_softmax", "logits", ""},
    {"LogicalAnd", "math.logical_and", "x y", ""},
    {"LogicalNot", "math.logical_not", "x", ""},
    {"LogicalOr", "math.logical_or", "x y", ""},
    {"MatMul", "linalg.matmul", "a b", ""},
    {"MatrixBandPart", "linalg.band_part", "input num_lower num_upper", ""},
    {"Max", "math.reduce_max", "input_tensor axis", "keep_dims=keepdims"},
    {"MaxPool", "nn.max_pool2d", "input", ""},
    {"Maximum", "math.maximum", "x y", ""},
    {"Mean", "math.reduce_mean", "input_tensor axis", "keep_dims=keepdims"},
    {"Min", "math.reduce_min", "input_tensor axis", "keep_dims=keepdims"},
    {"Minimum", "math.minimum", "x y", ""},
    {"MirrorPad", "pad", "tensor paddings", ""},
    {"Mul", "math.multiply", "x y", ""},
    {"MulNoNan", "math.multiply_no_nan", "x y", ""},
    {"Neg", "math.negative", "x", ""},
    {"NotEqual", "math.not_equal", "x y", "incompatible_shape_error="},
    {"OneHot", "one_hot", "indices depth on_value off_value", ""},
    {"OnesLike", "ones_like", "input", ""},
    {"Pack", "stack", "*values", ""},
    {"Pad", "pad", "tensor paddings", ""},
    {"PadV2", "pad", "tensor paddings constant_values", ""},
    {"Pow", "math.pow", "x y", ""},
    {"Prod", "math.reduce_prod", "input_tensor axis", "keep_dims=keepdims"},
    {"Range", "range", "start limit delta", ""},
    {"RealDiv", "math.truediv", "x y", ""},
    {"Reciprocal", "math.reciprocal", "x", ""},
    {"Relu", "nn.relu", "features", ""},
    {"Relu6", "nn.relu6", "features", ""},
    {"Reshape", "reshape", "tensor shape", ""},
    {"ResizeBilinear", "image.resize", "images size", "half_pixel_centers="},
    {"ResizeNearestNeighbor", "image.resize", "images size", "half_pixel_centers="},
    {"ReverseV2", "reverse", "tensor axis", ""},
    {"Rint", "math.rint", "x", ""},
    {"Roll", "roll", "input shift axis", ""},
    {"Round", "math.round", "x", ""},
    {"Rsqrt", "math.rsqrt", "x", ""},
    {"Select", "where", "condition x y", ""},
    {"SelectV2", "where", "condition x y", ""},
    {"Selu", "nn.selu", "features", ""},
    {"Shape", "shape", "input", ""},
    {"Sigmoid", "math.sigmoid", "x", ""},
    {"Sign", "math.sign", "x", ""},
    {"Sin", "math.sin", "x", ""},
    {"Sinh", "math.sinh", "x", ""},
    {"Slice", "__operators__.getitem", "x begin size", ""},
    {"Softmax", "nn.softmax", "logits", ""},
    {"Softplus", "nn.softplus", "features", ""},
    {"Softsign", "nn.softsign", "features", ""},
    {"SpaceToDepth", "nn.space_to_depth", "input", ""},
    {"Split", "split", "axis value", "num_split=num_or_size_splits"},
    {"SplitV", "split", "value num_or_size_splits axis", "num_split="},
    {"Sqrt", "math.sqrt", "x", ""},
    {"Square", "math.square", "x", ""},
    {"SquaredDifference", "math.squared_difference", "x y", ""},
    {"Squeeze", "squeeze", "input", "squeeze_dims=axis"},
    {"StopGradient", "stop_gradient", "input", ""},
    {"StridedSlice", "__operators__.getitem", "x begin end strides", ""},
    {"Sub", "math.subtract", "x y", ""},
    {"Sum", "math.reduce_sum", "input_tensor axis", "keep_dims=keepdims"},
    {"Tan", "math.tan", "x", ""},
    {"Tanh", "math.tanh", "x", ""},
    {"Tile", "tile", "input multiples", ""},
    {"TopKV2", "math.top_k", "input k", ""},
    {"Transpose", "transpose", "a perm", ""},
    {"Unpack", "unstack", "value", ""},
    {"Xlogy", "math.xlogy", "x y", ""},
    {"ZerosLike", "zeros_like", "input", ""},
};

static const struct node_row *find_row(const char *raw)
{
    for (size_t i = 0; raw != NULL && i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].raw, raw) == 0)
            return &rows[i];
    }
    return NULL;
}

/* ---- attributes ---- */

/* 64-bit integers are written as text. */
static json_int_t integer_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return text != NULL ? strtoll(text, NULL, 10) : json_integer_value(value);
}

static json_t *type_of(const char *type)
{
    static const char *const types[][2] = {
        {"DT_FLOAT", "float32"}, {"DT_DOUBLE", "float64"}, {"DT_HALF", "float16"},
        {"DT_INT32", "int32"},   {"DT_INT64", "int64"},    {"DT_BFLOAT16", "bfloat16"},
        {"DT_UINT8", "uint8"},   {"DT_INT8", "int8"},      {"DT_INT16", "int16"},
        {"DT_UINT16", "uint16"}, {"DT_BOOL", "bool"},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i][0], type) == 0)
            return json_string(types[i][1]);
    }
    return json_string(type);
}

/* Bytes, in base 64. */
static json_t *text_of(const char *coded)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[256];
    size_t length = 0, bits = 0;
    unsigned held = 0;
    for (; *coded != '\0' && *coded != '=' && length + 1 < sizeof text; coded++) {
        const char *digit = strchr(digits, *coded);
        if (digit == NULL)
            return json_null();
        held = (held << 6 | (unsigned)(digit - digits)) & 0xFFFF;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            text[length++] = (char)(held >> bits & 0xFF);
        }
    }
    return json_stringn(text, length);
}

/* {"b": true}, {"i": "3"}, {"f": 0.2}, {"s": base 64}, {"type": "DT_FLOAT"}, {"list": {"i": [...]}} as a
 * value. */
static json_t *attribute_value(const json_t *attribute)
{
    const json_t *list = json_object_get(attribute, "list"), *item;
    const char *text = json_text(attribute, "s", NULL), *type = json_text(attribute, "type", NULL);
    if (text != NULL)
        return text_of(text);
    if (type != NULL)
        return type_of(type);
    if (json_object_get(attribute, "i") != NULL)
        return json_integer(integer_of(json_object_get(attribute, "i")));
    if (json_object_get(attribute, "f") != NULL)
        return json_incref(json_object_get(attribute, "f"));
    if (list == NULL)
        return json_boolean(json_truth(attribute, "b", false));
    json_t *values = json_array();
    size_t i;
    json_array_foreach(json_object_get(list, "i"), i, item)
        json_array_append_new(values, json_integer(integer_of(item)));
    return values;
}

/* What an attribute is called in the call: NULL where it says nothing there. */
static const char *attribute_name(struct reader *reader, const struct node_row *row,
                                  const char *name, const json_t *attribute)
{
    size_t length = strlen(name);
    for (const char *at = row->attributes; (at = strstr(at, name)) != NULL; at++) {
        if ((at == row->attributes || at[-1] == ' ') && at[length] == '=') {
            size_t to = strcspn(at + length + 1, " ");
            return to > 0 ? reader_print(reader, "%.*s", (int)to, at + length + 1) : NULL;
        }
    }
    /* the types of its inputs, how many there are, what TensorFlow noted for itself */
    return json_object_get(attribute, "type") != NULL || strcmp(name, "N") == 0 || name[0] == '_'
               ? NULL
               : name;
}

static void add_attributes(struct reader *reader, const struct node_row *row, json_t *given,
                           json_t *attributes)
{
    const char *key;
    json_t *attribute;
    json_object_foreach(attributes, key, attribute)
    {
        const char *name = attribute_name(reader, row, key, attribute);
        json_t *value = name != NULL ? attribute_value(attribute) : NULL;
        const char *text = json_string_value(value);
        bool silent = (json_is_array(value) && json_array_size(value) == 0) ||
                      (text != NULL && strcmp(text, "NHWC") == 0);
        if (value != NULL && !silent)
            json_object_set(given, name, value);
        json_decref(value);
    }
}

/* ---- inputs ---- */

/* All inputs by position: tensors of the model, and the file's constants where they stood. */
static json_t *all_inputs(const struct call *call, json_t *constants)
{
    json_t *first = json_array_get(call->args, 0), *inputs = json_array();
    bool many = json_is_array(first);
    size_t tensors = many ? json_array_size(first) : 1, next = 0;
    size_t count = tensors + json_object_size(constants);
    for (size_t i = 0; i < count; i++) {
        char position[24];
        snprintf(position, sizeof position, "%zu", i);
        json_t *value = json_object_get(constants, position);
        json_t *config = json_object_get(value, "config");
        if (config != NULL) /* {"class_name": "__numpy__", "config": {"value": ...}} */
            value = json_object_get(config, "value");
        if (value != NULL)
            json_array_append(inputs, value);
        else if (next < tensors)
            json_array_append(inputs, many ? json_array_get(first, next++) : (next++, first));
    }
    return inputs;
}

/* Give every input its name; false if there are more or fewer than names. */
static bool name_inputs(const struct node_row *row, const json_t *inputs, json_t *given)
{
    size_t names = 1, at = 0, count = json_array_size(inputs);
    for (const char *c = row->inputs; *c != '\0'; c++)
        names += *c == ' ';
    for (const char *word = row->inputs; *word != '\0'; word += strspn(word, " ")) {
        size_t length = strcspn(word, " "), take = 1;
        bool list = *word == '*';
        char name[32];
        if (list && count + 1 >= names)
            take = count + 1 - names;
        if (at + take > count || length >= sizeof name)
            return false;
        memcpy(name, word + list, length - list);
        name[length - list] = '\0';
        json_t *value = list ? json_array() : json_incref(json_array_get(inputs, at));
        for (size_t i = 0; list && i < take; i++)
            json_array_append(value, json_array_get(inputs, at + i));
        json_object_set_new(given, name, value);
        at += take;
        word += length;
    }
    return at == count;
}

/* ---- slices ---- */

static json_t *slice_part(json_t *start, json_t *stop, json_t *step)
{
    return json_pack("{s:O, s:O, s:O}", "start", start, "stop", stop, "step", step);
}

/* x[begin:begin + size], where a size of -1 goes to the end. */
static bool slice_sizes(json_t *given, json_t *spec)
{
    json_t *begins = json_object_get(given, "begin"), *sizes = json_object_get(given, "size");
    size_t i;
    json_t *begin;
    json_array_foreach(begins, i, begin)
    {
        json_t *size = json_array_get(sizes, i);
        if (!json_is_integer(begin) || !json_is_integer(size))
            return false;
        json_int_t at = json_integer_value(begin), count = json_integer_value(size);
        if (at < 0 || at > INT32_MAX || count < -1 || count > INT32_MAX)
            return false;
        json_t *stop = count < 0 ? json_null() : json_integer(at + count);
        json_array_append_new(spec, slice_part(begin, stop, json_null()));
        json_decref(stop);
    }
    return json_is_array(begins) && json_array_size(sizes) == json_array_size(begins);
}

/* x[begin:end:strides], with a bit for each part in the masks. */
static bool slice_strides(json_t *given, json_t *spec)
{
    static const char *const names[] = {"begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask",
                                        "shrink_axis_mask"};
    json_t *begins = json_object_get(given, "begin"), *ends = json_object_get(given, "end");
    json_t *strides = json_object_get(given, "strides"), *begin;
    json_int_t masks[5];
    size_t i;
    for (i = 0; i < 5; i++)
        masks[i] = json_integer_value(json_object_get(given, names[i]));
    json_array_foreach(begins, i, begin)
    {
        json_t *end = json_array_get(ends, i), *stride = json_array_get(strides, i);
        bool bit[5];
        for (size_t j = 0; j < 5; j++)
            bit[j] = i < 62 && (masks[j] >> i & 1) != 0;
        if (end == NULL || stride == NULL)
            return false;
        if (bit[2])
            json_array_append_new(spec,
                                  json_pack("{s:s, s:{}}", "class_name", "__ellipsis__", "config"));
        else if (bit[3])
            json_array_append_new(spec, json_null());
        else if (bit[4])
            json_array_append(spec, begin);
        else
            json_array_append_new(
                spec, slice_part(bit[0] ? json_null() : begin, bit[1] ? json_null() : end, stride));
    }
    return json_is_array(begins);
}

const char *tfnode_name(struct reader *reader, struct child *child)
{
    json_t *config = json_object_get(child->object, "config");
    json_t *node = json_object_get(config, "node_def");
    const char *raw = json_text(node, "op", NULL);
    const struct node_row *row = find_row(raw);
    struct call *call = &child->calls[0];
    if (row == NULL || child->call_count != 1)
        return NULL;
    json_t *inputs = all_inputs(call, json_object_get(config, "constants"));
    json_t *given = json_object(), *attributes = json_object_get(node, "attr");
    bool good = name_inputs(row, inputs, given);
    json_decref(inputs);
    add_attributes(reader, row, given, attributes);
    if (strncmp(raw, "Resize", 6) == 0) { /* by corners, as TensorFlow 1 did: not among our ways */
        good = good && json_truth(json_object_get(attributes, "half_pixel_centers"), "b", false);
        json_object_set_new(
            given, "method",
            json_string(strcmp(raw, "ResizeBilinear") == 0 ? "bilinear" : "nearest"));
    }
    if (strcmp(row->symbol, "__operators__.getitem") == 0) {
        json_t *spec = json_array(), *x = json_incref(json_object_get(given, "x"));
        good = good && (raw[1] == 'l' ? slice_sizes(given, spec) : slice_strides(given, spec));
        json_object_clear(given);
        json_object_set_new(given, "slice_spec", spec);
        json_decref(call->args);
        call->args = json_pack("[o]", x != NULL ? x : json_null());
    }
    if (!good) {
        json_decref(given);
        return NULL;
    }
    json_decref(call->kwargs);
    call->kwargs = given;
    return row->symbol;
}
