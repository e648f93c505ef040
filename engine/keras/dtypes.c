#include "engine/keras/dtypes.h"

#include <stdlib.h>
#include <string.h>

enum rule {
    RULE_FLOAT,    /* whatever comes in (the rule of what has no row) */
    RULE_FIRST,    /* as the first tensor */
    RULE_SUM,      /* as the first tensor, but whole numbers of at least 32 bits */
    RULE_PROMOTE,  /* as all tensors and numbers together */
    RULE_CHOOSE,   /* as those behind the first */
    RULE_BOOL,     /* a truth */
    RULE_INDEX,    /* a place along an axis */
    RULE_SIZE,     /* sizes of axes, or places in them */
    RULE_TOP,      /* values, then places */
    RULE_OWN,      /* what "dtype" says; else as the first tensor */
    RULE_OWN_REAL, /* what "dtype" says; else real */
    RULE_OWN_FILL, /* what "dtype" says; else as the number is written */
    RULE_CATEGORY, /* whole numbers in output mode "int" */
    RULE_INNER,    /* as the wrapped layer */
};

static const struct {
    const char *class_name;
    enum rule rule;
} ROWS[] = {
    {"Add", RULE_PROMOTE},
    {"CategoryEncoding", RULE_OWN_REAL},
    {"Concatenate", RULE_PROMOTE},
    {"Cropping1D", RULE_FIRST},
    {"Cropping2D", RULE_FIRST},
    {"Cropping3D", RULE_FIRST},
    {"Discretization", RULE_CATEGORY},
    {"Dot", RULE_PROMOTE},
    {"Dropout", RULE_FIRST},
    {"Flatten", RULE_FIRST},
    {"GlobalMaxPooling1D", RULE_FIRST},
    {"GlobalMaxPooling2D", RULE_FIRST},
    {"GlobalMaxPooling3D", RULE_FIRST},
    {"Identity", RULE_FIRST},
    {"InputLayer", RULE_OWN_REAL},
    {"IntegerLookup", RULE_CATEGORY},
    {"MaxPooling1D", RULE_FIRST},
    {"MaxPooling2D", RULE_FIRST},
    {"MaxPooling3D", RULE_FIRST},
    {"Maximum", RULE_PROMOTE},
    {"Minimum", RULE_PROMOTE},
    {"Multiply", RULE_PROMOTE},
    {"Permute", RULE_FIRST},
    {"RepeatVector", RULE_FIRST},
    {"Reshape", RULE_FIRST},
    {"SpatialDropout1D", RULE_FIRST},
    {"SpatialDropout2D", RULE_FIRST},
    {"SpatialDropout3D", RULE_FIRST},
    {"Subtract", RULE_PROMOTE},
    {"TimeDistributed", RULE_INNER},
    {"UpSampling1D", RULE_FIRST},
    {"UpSampling3D", RULE_FIRST},
    {"ZeroPadding1D", RULE_FIRST},
    {"ZeroPadding2D", RULE_FIRST},
    {"ZeroPadding3D", RULE_FIRST},
    {"ops.Abs", RULE_FIRST},
    {"ops.Absolute", RULE_FIRST},
    {"ops.AdaptiveMaxPool", RULE_FIRST},
    {"ops.Add", RULE_PROMOTE},
    {"ops.AddN", RULE_PROMOTE},
    {"ops.All", RULE_BOOL},
    {"ops.AllClose", RULE_BOOL},
    {"ops.Amax", RULE_FIRST},
    {"ops.Amin", RULE_FIRST},
    {"ops.Any", RULE_BOOL},
    {"ops.Append", RULE_PROMOTE},
    {"ops.Arange", RULE_OWN_FILL},
    {"ops.Argmax", RULE_INDEX},
    {"ops.Argmin", RULE_INDEX},
    {"ops.Argsort", RULE_SIZE},
    {"ops.Array", RULE_OWN},
    {"ops.ArraySplit", RULE_FIRST},
    {"ops.BandPart", RULE_FIRST},
    {"ops.BitwiseAnd", RULE_PROMOTE},
    {"ops.BitwiseInvert", RULE_FIRST},
    {"ops.BitwiseLeftShift", RULE_PROMOTE},
    {"ops.BitwiseNot", RULE_FIRST},
    {"ops.BitwiseOr", RULE_PROMOTE},
    {"ops.BitwiseRightShift", RULE_PROMOTE},
    {"ops.BitwiseXor", RULE_PROMOTE},
    {"ops.BroadcastTo", RULE_FIRST},
    {"ops.Cast", RULE_OWN},
    {"ops.Clip", RULE_PROMOTE},
    {"ops.Concatenate", RULE_PROMOTE},
    {"ops.Conj", RULE_FIRST},
    {"ops.Conjugate", RULE_FIRST},
    {"ops.ConvertToTensor", RULE_OWN},
    {"ops.Copy", RULE_FIRST},
    {"ops.CountNonzero", RULE_SIZE},
    {"ops.CropImages", RULE_FIRST},
    {"ops.CropOrPad", RULE_FIRST},
    {"ops.Cross", RULE_PROMOTE},
    {"ops.Cumprod", RULE_OWN},
    {"ops.Cumsum", RULE_OWN},
    {"ops.DepthToSpace", RULE_FIRST},
    {"ops.Diagonal", RULE_FIRST},
    {"ops.Diff", RULE_FIRST},
    {"ops.Digitize", RULE_SIZE},
    {"ops.Dot", RULE_PROMOTE},
    {"ops.Dsplit", RULE_FIRST},
    {"ops.Dstack", RULE_PROMOTE},
    {"ops.Einsum", RULE_PROMOTE},
    {"ops.EmptyLike", RULE_FIRST},
    {"ops.Equal", RULE_BOOL},
    {"ops.ExpandDims", RULE_FIRST},
    {"ops.ExtractSequences", RULE_FIRST},
    {"ops.Fabs", RULE_FIRST},
    {"ops.Flip", RULE_FIRST},
    {"ops.Fliplr", RULE_FIRST},
    {"ops.Flipud", RULE_FIRST},
    {"ops.FloorDivide", RULE_PROMOTE},
    {"ops.Fmax", RULE_PROMOTE},
    {"ops.Fmin", RULE_PROMOTE},
    {"ops.Fmod", RULE_PROMOTE},
    {"ops.Fold", RULE_FIRST},
    {"ops.Full", RULE_OWN_FILL},
    {"ops.FullLike", RULE_OWN},
    {"ops.GetItem", RULE_FIRST},
    {"ops.Greater", RULE_BOOL},
    {"ops.GreaterEqual", RULE_BOOL},
    {"ops.Hsplit", RULE_FIRST},
    {"ops.Hstack", RULE_PROMOTE},
    {"ops.Identity", RULE_FIRST},
    {"ops.Imag", RULE_FIRST},
    {"ops.InTopK", RULE_BOOL},
    {"ops.Inner", RULE_PROMOTE},
    {"ops.IsIn", RULE_BOOL},
    {"ops.Isclose", RULE_BOOL},
    {"ops.Isfinite", RULE_BOOL},
    {"ops.Isinf", RULE_BOOL},
    {"ops.Isnan", RULE_BOOL},
    {"ops.Isneginf", RULE_BOOL},
    {"ops.Isposinf", RULE_BOOL},
    {"ops.Isreal", RULE_BOOL},
    {"ops.LeftShift", RULE_PROMOTE},
    {"ops.Less", RULE_BOOL},
    {"ops.LessEqual", RULE_BOOL},
    {"ops.LogicalAnd", RULE_BOOL},
    {"ops.LogicalNot", RULE_BOOL},
    {"ops.LogicalOr", RULE_BOOL},
    {"ops.LogicalXor", RULE_BOOL},
    {"ops.Matmul", RULE_PROMOTE},
    {"ops.Max", RULE_FIRST},
    {"ops.Maximum", RULE_PROMOTE},
    {"ops.Min", RULE_FIRST},
    {"ops.Minimum", RULE_PROMOTE},
    {"ops.Mod", RULE_PROMOTE},
    {"ops.Moveaxis", RULE_FIRST},
    {"ops.MultiHot", RULE_OWN_REAL},
    {"ops.Multiply", RULE_PROMOTE},
    {"ops.NanToNum", RULE_FIRST},
    {"ops.Nanargmax", RULE_INDEX},
    {"ops.Nanargmin", RULE_INDEX},
    {"ops.Nancumprod", RULE_OWN},
    {"ops.Nancumsum", RULE_OWN},
    {"ops.Nanmax", RULE_FIRST},
    {"ops.Nanmin", RULE_FIRST},
    {"ops.Nanprod", RULE_SUM},
    {"ops.Nansum", RULE_SUM},
    {"ops.Ndim", RULE_SIZE},
    {"ops.Negative", RULE_FIRST},
    {"ops.NotEqual", RULE_BOOL},
    {"ops.OneHot", RULE_OWN_REAL},
    {"ops.OnesLike", RULE_OWN},
    {"ops.Outer", RULE_PROMOTE},
    {"ops.Pad", RULE_FIRST},
    {"ops.PadImages", RULE_FIRST},
    {"ops.Power", RULE_PROMOTE},
    {"ops.Prod", RULE_SUM},
    {"ops.Ptp", RULE_FIRST},
    {"ops.Ravel", RULE_FIRST},
    {"ops.Real", RULE_FIRST},
    {"ops.Relu", RULE_FIRST},
    {"ops.Relu6", RULE_FIRST},
    {"ops.Repeat", RULE_FIRST},
    {"ops.Reshape", RULE_FIRST},
    {"ops.RightShift", RULE_PROMOTE},
    {"ops.Roll", RULE_FIRST},
    {"ops.Rot90", RULE_FIRST},
    {"ops.Round", RULE_FIRST},
    {"ops.SaturateCast", RULE_OWN},
    {"ops.SearchSorted", RULE_SIZE},
    {"ops.Select", RULE_CHOOSE},
    {"ops.Shape", RULE_SIZE},
    {"ops.Sign", RULE_FIRST},
    {"ops.Signbit", RULE_BOOL},
    {"ops.Size", RULE_SIZE},
    {"ops.Slice", RULE_FIRST},
    {"ops.SliceUpdate", RULE_FIRST},
    {"ops.Sort", RULE_FIRST},
    {"ops.SpaceToDepth", RULE_FIRST},
    {"ops.Split", RULE_FIRST},
    {"ops.Square", RULE_FIRST},
    {"ops.Squeeze", RULE_FIRST},
    {"ops.Stack", RULE_PROMOTE},
    {"ops.StopGradient", RULE_FIRST},
    {"ops.Subtract", RULE_PROMOTE},
    {"ops.Sum", RULE_SUM},
    {"ops.Swapaxes", RULE_FIRST},
    {"ops.Take", RULE_FIRST},
    {"ops.TakeAlongAxis", RULE_FIRST},
    {"ops.Tensordot", RULE_PROMOTE},
    {"ops.Tile", RULE_FIRST},
    {"ops.TopK", RULE_TOP},
    {"ops.Trace", RULE_FIRST},
    {"ops.Transpose", RULE_FIRST},
    {"ops.Tril", RULE_FIRST},
    {"ops.Triu", RULE_FIRST},
    {"ops.Unstack", RULE_FIRST},
    {"ops.Vdot", RULE_PROMOTE},
    {"ops.Vsplit", RULE_FIRST},
    {"ops.Vstack", RULE_PROMOTE},
    {"ops.Where", RULE_CHOOSE},
    {"ops.ZerosLike", RULE_OWN},
};

static int compare(const void *name, const void *row)
{
    return strcmp(name, *(const char *const *)row);
}

static enum rule rule_of(const char *class_name)
{
    const void *row = bsearch(class_name, ROWS, sizeof ROWS / sizeof *ROWS, sizeof *ROWS, compare);
    return row != NULL
               ? ROWS[((const char *)row - (const char *)ROWS) / (ptrdiff_t)sizeof *ROWS].rule
               : RULE_FLOAT;
}

static bool is_real(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_F64 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
}

static bool is_unsigned(enum dtype dtype)
{
    return dtype == DTYPE_U8 || dtype == DTYPE_U16;
}

/* Keras: the narrowest type that holds both. */
static enum dtype promote(enum dtype a, enum dtype b)
{
    if (a == b)
        return a;
    if (is_real(a) || is_real(b))
        return DTYPE_F32;
    if (a == DTYPE_BOOL || b == DTYPE_BOOL)
        return a == DTYPE_BOOL ? b : a;
    size_t a_bytes = dtype_bytes(a), b_bytes = dtype_bytes(b);
    if (is_unsigned(a) == is_unsigned(b))
        return a_bytes > b_bytes ? a : b;
    enum dtype plain = is_unsigned(a) ? b : a, more = is_unsigned(a) ? a : b;
    if (dtype_bytes(plain) > dtype_bytes(more))
        return plain;
    return more == DTYPE_U8 ? DTYPE_I16 : DTYPE_I32;
}

struct inference {
    const struct model *model;
    enum dtype (*nodes)[2]; /* of each node's outputs: the first, and all others */
};

static enum dtype input_of(const struct inference *all, const struct model_node *node, size_t index)
{
    if (index >= node->input_count)
        return DTYPE_F32;
    struct model_ref ref = node->inputs[index];
    return all->nodes[ref.node][ref.output > 0];
}

/* What an argument adds to a promotion: tensors their type; Python's own numbers only whether they
 * are real. *any: something was found. */
static void promote_value(const struct inference *all, const struct model_node *node,
                          const json_t *value, enum dtype *dtype, bool *any, bool *real)
{
    const json_t *tensor = json_object_get(value, "tensor"), *item;
    const json_t *config = json_object_get(value, "config");
    size_t i;
    if (json_is_integer(tensor)) {
        enum dtype own = input_of(all, node, (size_t)json_integer_value(tensor));
        *dtype = *any ? promote(*dtype, own) : own;
        *any = true;
    } else if (json_is_object(config)) { /* an array with a type of its own */
        enum dtype own = DTYPE_F32;
        const char *name = json_string_value(json_object_get(config, "dtype"));
        if (name != NULL && dtype_parse(name, &own)) {
            own = is_real(own) ? DTYPE_F32 : own;
            *dtype = *any ? promote(*dtype, own) : own;
            *any = true;
        } else {
            promote_value(all, node, json_object_get(config, "value"), dtype, any, real);
        }
    } else if (json_is_array(value)) {
        json_array_foreach((json_t *)(uintptr_t)value, i, item)
            promote_value(all, node, item, dtype, any, real);
    } else {
        *real |= json_is_real(value);
    }
}

static enum dtype promote_args(const struct inference *all, const struct model_node *node,
                               size_t first)
{
    enum dtype dtype = DTYPE_F32;
    bool any = false, real = false;
    const char *key;
    json_t *value;
    for (size_t i = first; i < json_array_size(node->args); i++)
        promote_value(all, node, json_array_get(node->args, i), &dtype, &any, &real);
    json_object_foreach(node->kwargs, key, value)
    {
        if (strncmp(key, "x", 1) == 0 || strncmp(key, "operand", 7) == 0)
            promote_value(all, node, value, &dtype, &any, &real);
    }
    if (!any && !real && first > 0)
        return DTYPE_I32; /* numbers alone, all of them whole */
    return real ? DTYPE_F32 : dtype;
}

/* The type that "dtype" names, in the configuration or as an argument. */
static bool named(const struct model_node *node, const json_t *config, size_t position,
                  const char *key, enum dtype *dtype)
{
    const json_t *value = json_object_get(config, key);
    if (!json_is_string(value))
        value = json_object_get(node->kwargs, key);
    if (!json_is_string(value))
        value = json_array_get(node->args, position);
    if (!json_is_string(value) || !dtype_parse(json_string_value(value), dtype))
        return false; /* no type of ours: what it would have been */
    if (is_real(*dtype))
        *dtype = DTYPE_F32;
    return true;
}

static enum dtype whole_or_real(const json_t *value)
{
    for (; json_is_array(value) || json_is_object(value);)
        value = json_is_array(value) ? json_array_get(value, 0)
                                     : json_object_get(json_object_get(value, "config"), "value");
    return json_is_integer(value) ? DTYPE_I32 : json_is_boolean(value) ? DTYPE_BOOL : DTYPE_F32;
}

/* How categories are numbered: Keras 3 counts in 32 bits, others and lookups in 64. */
static enum dtype category(const char *class_name, const json_t *config, bool old)
{
    const char *mode = json_string_value(json_object_get(config, "output_mode"));
    if (mode != NULL && strcmp(mode, "int") != 0)
        return DTYPE_F32;
    return old || strcmp(class_name, "IntegerLookup") == 0 ? DTYPE_I64 : DTYPE_I32;
}

static void infer(const struct inference *all, const struct model_node *node,
                  const char *class_name, const json_t *config, enum dtype *out)
{
    bool old = json_integer_value(json_object_get(config, "_keras_major")) < 3;
    enum dtype index = old ? DTYPE_I64 : DTYPE_I32, first = input_of(all, node, 0);
    const json_t *inner = json_object_get(config, "layer");
    out[0] = out[1] = DTYPE_F32;
    switch (rule_of(class_name)) {
    case RULE_FLOAT:
        break;
    case RULE_FIRST:
        out[0] = out[1] = first;
        break;
    case RULE_SUM:
        out[0] = is_real(first) || dtype_bytes(first) >= 4 ? first : DTYPE_I32;
        named(node, config, SIZE_MAX, "dtype", &out[0]);
        break;
    case RULE_PROMOTE:
        out[0] = promote_args(all, node, 0);
        break;
    case RULE_CHOOSE:
        out[0] = promote_args(all, node, 1);
        break;
    case RULE_BOOL:
        out[0] = DTYPE_BOOL;
        break;
    case RULE_INDEX:
        out[0] = index;
        named(node, config, SIZE_MAX, "output_type", &out[0]);
        break;
    case RULE_SIZE:
        out[0] = DTYPE_I32;
        named(node, config, SIZE_MAX, "out_type", &out[0]);
        break;
    case RULE_TOP:
        out[0] = first;
        out[1] = DTYPE_I32;
        break;
    case RULE_OWN:
        out[0] = first;
        named(node, config, 1, "dtype", &out[0]);
        break;
    case RULE_OWN_REAL:
        named(node, config, SIZE_MAX, "dtype", &out[0]);
        break;
    case RULE_OWN_FILL:
        out[0] = whole_or_real(json_array_get(node->args, 0));
        named(node, config, SIZE_MAX, "dtype", &out[0]);
        break;
    case RULE_CATEGORY:
        out[0] = category(class_name, config, old);
        break;
    case RULE_INNER:
        class_name = json_string_value(json_object_get(inner, "class_name"));
        if (class_name != NULL && rule_of(class_name) != RULE_INNER)
            infer(all, node, class_name, json_object_get(inner, "config"), out);
        break;
    }
}

void dtypes_infer(struct model *model)
{
    struct inference all = {.model = model,
                            .nodes = xcalloc(model->node_count + 1, sizeof *all.nodes)};
    for (size_t i = 0; i < model->node_count; i++) {
        const struct model_layer *layer = &model->layers[model->nodes[i].layer];
        infer(&all, &model->nodes[i], layer->class_name, layer->config, all.nodes[i]);
    }
    for (size_t i = 0; i < model->output_count; i++) {
        struct model_ref ref = model->outputs[i].tensor;
        model->outputs[i].dtype = all.nodes[ref.node][ref.output > 0];
    }
    free(all.nodes);
}
