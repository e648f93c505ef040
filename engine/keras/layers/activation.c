/* Activations: the layers, and the strings and objects inside other layers' configurations. */
#include "engine/keras/layers/table.h"
#include <float.h>
#include <stdlib.h>
#include <string.h>

static int softplus_negated(struct call *call, int x)
{
    /* log(sigmoid(x)) = -softplus(-x) */
    x = emit_unary(call->low, x, UNARY_NEGATIVE, 0, 0);
    x = emit_unary(call->low, x, UNARY_SOFTPLUS, 0, 0);
    return emit_unary(call->low, x, UNARY_NEGATIVE, 0, 0);
}

/* An argument of an op node. A layer that names the activation leaves it as it is. */
static double argument(struct call *call, const char *name, double otherwise)
{
    bool op = call->row && strncmp(call->row->class_name, "ops.", strlen("ops.")) == 0;
    return op ? config_number(call, name, otherwise) : otherwise;
}

static int soft_shrink(struct call *call, int x)
{
    /* x - clip(x, -threshold, threshold) */
    double threshold = argument(call, "threshold", 0.5);
    return emit_binary(call->low, BINARY_SUBTRACT, x,
                       emit_unary(call->low, x, UNARY_CLIP, -threshold, threshold));
}

static int hard_shrink(struct call *call, int x)
{
    /* keep what is beyond the threshold on either side */
    double threshold = argument(call, "threshold", 0.5);
    int above = emit_unary(call->low, x, UNARY_THRESHOLD, threshold, 0);
    int below = emit_unary(call->low, x, UNARY_NEGATIVE, 0, 0);
    below = emit_unary(call->low, below, UNARY_THRESHOLD, threshold, 0);
    return emit_binary(call->low, BINARY_SUBTRACT, above, below);
}

static int tanh_shrink(struct call *call, int x)
{
    return emit_binary(call->low, BINARY_SUBTRACT, x, emit_unary(call->low, x, UNARY_TANH, 0, 0));
}

static int squareplus(struct call *call, int x)
{
    /* (x + sqrt(x^2 + b)) / 2 */
    double b = argument(call, "b", 4);
    int root = emit_unary(call->low, x, UNARY_SQUARE, 0, 0);
    root = emit_unary(call->low, emit_linear(call->low, root, 1, b), UNARY_SQRT, 0, 0);
    return emit_linear(call->low, emit_binary(call->low, BINARY_ADD, root, x), 0.5, 0);
}

static int sparse_plus(struct call *call, int x)
{
    /* 0 up to -1, (x + 1)^2 / 4 up to 1, then x */
    int bend = emit_linear(call->low, emit_unary(call->low, x, UNARY_CLIP, -1, 1), 0.5, 0.5);
    bend = emit_unary(call->low, bend, UNARY_SQUARE, 0, 0);
    int line = emit_unary(call->low, emit_linear(call->low, x, 1, -1), UNARY_RELU, 0, 0);
    return emit_binary(call->low, BINARY_ADD, bend, line);
}

static int glu(struct call *call, int x)
{
    const struct shape *shape = call_shape(call, x);
    int axis = config_axis(call, (json_int_t)argument(call, "axis", -1), shape->rank);
    if (x < 0 || axis < 1 || shape->dims[axis] % 2) {
        call_misfit(call, "glu halves an axis whose size is odd, or the batch");
        return -1;
    }
    struct op_slice slice = {.begin = {0}};
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = shape->dims[i];
        slice.step[i] = 1;
    }
    slice.size[axis] /= 2;
    int a = emit_slice(call->low, x, &slice);
    slice.begin[axis] = slice.size[axis];
    int b = emit_unary(call->low, emit_slice(call->low, x, &slice), UNARY_SIGMOID, 0, 0);
    return emit_binary(call->low, BINARY_MULTIPLY, a, b);
}

static int softmax_last(struct call *call, int x, bool log)
{
    int rank = call_shape(call, x)->rank;
    return x < 0 || rank < 1 ? -1 : emit_softmax(call->low, x, rank - 1, log);
}

static int softmax(struct call *call, int x)
{
    return softmax_last(call, x, false);
}

static int sparsemax(struct call *call, int x)
{
    int rank = call_shape(call, x)->rank;
    return x < 0 || rank < 1 ? -1 : lower_sparsemax(call, x, rank - 1);
}

static int log_softmax(struct call *call, int x)
{
    return softmax_last(call, x, true);
}

static int hard_sigmoid(struct call *call, int x)
{
    /* Keras changed the slope from 0.2 to 1/6 in version 3 */
    double slope = config_keras_major(call) < 3 ? 0.2 : 1.0 / 6;
    return emit_unary(call->low, x, UNARY_HARD_SIGMOID, slope, 0.5);
}

static int celu(struct call *call, int x)
{
    /* alpha elu(x / alpha) */
    double alpha = argument(call, "alpha", 1);
    if (alpha == 1)
        return emit_unary(call->low, x, UNARY_ELU, 1, 0);
    if (!(alpha > 0)) {
        call_misfit(call, "celu's alpha is not positive");
        return -1;
    }
    x = emit_unary(call->low, emit_linear(call->low, x, 1 / alpha, 0), UNARY_ELU, 1, 0);
    return emit_linear(call->low, x, alpha, 0);
}

/* Either one function, or a way to compose it. */
static const struct activation {
    const char *name;
    enum unary_function function;
    float alpha, beta;
    int (*compose)(struct call *call, int x);
    bool axis; /* looks along the last axis */
} ACTIVATIONS[] = {
    {"celu", 0, 0, 0, celu, false},
    {"elu", UNARY_ELU, 1, 0, NULL, false},
    {"exponential", UNARY_EXP, 0, 0, NULL, false},
    {"gelu", UNARY_GELU_ERF, 0, 0, NULL, false},
    {"glu", 0, 0, 0, glu, true},
    {"hard_shrink", 0, 0, 0, hard_shrink, false},
    {"hard_sigmoid", 0, 0, 0, hard_sigmoid, false},
    {"hard_silu", UNARY_HARD_SILU, 0, 0, NULL, false},
    {"hard_swish", UNARY_HARD_SILU, 0, 0, NULL, false},
    {"hard_tanh", UNARY_CLIP, -1, 1, NULL, false},
    {"leaky_relu", UNARY_RELU, 0.2F, 0, NULL, false},
    {"linear", UNARY_IDENTITY, 0, 0, NULL, false},
    {"log_sigmoid", 0, 0, 0, softplus_negated, false},
    {"log_softmax", 0, 0, 0, log_softmax, true},
    {"mish", UNARY_MISH, 0, 0, NULL, false},
    {"relu", UNARY_RELU, 0, 0, NULL, false},
    {"relu6", UNARY_RELU, 0, 6, NULL, false},
    {"selu", UNARY_SELU, 0, 0, NULL, false},
    {"sigmoid", UNARY_SIGMOID, 0, 0, NULL, false},
    {"silu", UNARY_SILU, 0, 0, NULL, false},
    {"soft_shrink", 0, 0, 0, soft_shrink, false},
    {"softmax", 0, 0, 0, softmax, true},
    {"softmax_v2", 0, 0, 0, softmax, true},
    {"sparsemax", 0, 0, 0, sparsemax, true},
    {"softplus", UNARY_SOFTPLUS, 0, 0, NULL, false},
    {"softsign", UNARY_SOFTSIGN, 0, 0, NULL, false},
    {"sparse_plus", 0, 0, 0, sparse_plus, false},
    {"sparse_sigmoid", UNARY_HARD_SIGMOID, 0.5F, 0.5F, NULL, false},
    {"squareplus", 0, 0, 0, squareplus, false},
    {"swish", UNARY_SILU, 0, 0, NULL, false},
    {"swish_v1", UNARY_SILU, 0, 0, NULL, false},
    {"tanh", UNARY_TANH, 0, 0, NULL, false},
    {"tanh_shrink", 0, 0, 0, tanh_shrink, false},
};

static const struct activation *find(const char *name)
{
    for (size_t i = 0; i < sizeof ACTIVATIONS / sizeof *ACTIVATIONS; i++) {
        if (strcmp(ACTIVATIONS[i].name, name) == 0)
            return &ACTIVATIONS[i];
    }
    return NULL;
}

/* The name in {"class_name": "function", "config": "relu6"}, or NULL for a layer object. */
static const char *function_name(const json_t *activation)
{
    if (json_is_string(activation))
        return json_string_value(activation);
    const json_t *config = json_object_get(activation, "config");
    return json_string_value(config);
}

bool activation_needs_axis(const json_t *activation)
{
    const char *name = function_name(activation);
    const struct activation *entry = name ? find(name) : NULL;
    return entry ? entry->axis : activation && !json_is_null(activation);
}

/* An activation that is a layer of its own: {"class_name": "LeakyReLU", "config": {...}}. */
static int activation_object(struct call *call, int x, const json_t *activation)
{
    const char *class_name = json_string_value(json_object_get(activation, "class_name"));
    const struct layer_row *row = class_name ? layer_row_find(class_name) : NULL;
    if (!row || call->node == NULL) {
        call_refuse(call, "its activation '%.60s' is not supported",
                    class_name ? class_name : "(no name)");
        return -1;
    }
    struct call inner = *call;
    inner.row = row;
    inner.node = NULL;
    inner.config = json_object_get(activation, "config");
    inner.inputs = &x;
    inner.input_count = 1;
    inner.input_masks = NULL;
    inner.outputs = NULL;
    inner.output_masks = NULL;
    inner.output_count = 0;
    row->lower(&inner);
    call->next_weight = inner.next_weight;
    int y = inner.output_count == 1 ? inner.outputs[0] : -1;
    free(inner.outputs);
    free(inner.output_masks);
    return y;
}

int lower_activation(struct call *call, int x, const json_t *activation)
{
    if (!activation || json_is_null(activation) || x < 0)
        return x;
    const char *name = function_name(activation);
    if (!name)
        return activation_object(call, x, activation);
    const struct activation *entry = find(name);
    if (!entry) {
        call_refuse(call, "its activation '%.60s' is not supported", name);
        return -1;
    }
    if (entry->compose)
        return entry->compose(call, x);
    if (entry->function == UNARY_IDENTITY)
        return x;
    return emit_unary(call->low, x, entry->function, entry->alpha, entry->beta);
}

bool activation_unary(struct call *call, const json_t *activation, struct op_unary *function)
{
    *function = (struct op_unary){.function = UNARY_IDENTITY};
    if (!activation || json_is_null(activation))
        return true;
    const char *name = function_name(activation);
    const struct activation *entry = name ? find(name) : NULL;
    if (!entry || (entry->compose && entry->compose != hard_sigmoid && entry->compose != celu))
        return false;
    *function = (struct op_unary){entry->function, entry->alpha, entry->beta};
    if (entry->compose == hard_sigmoid) {
        double slope = config_keras_major(call) < 3 ? 0.2 : 1.0 / 6;
        *function = (struct op_unary){UNARY_HARD_SIGMOID, (float)slope, 0.5F};
    } else if (entry->compose == celu) {
        *function = (struct op_unary){UNARY_ELU, 1, 0};
    }
    return true;
}

int lower_own_activation(struct call *call, int x)
{
    return lower_activation(call, x, json_object_get(call->config, "activation"));
}

/* A layer that does nothing still has an op, so that it has a row of its own with fusion off. */
static bool return_visible(struct call *call, int x, int y)
{
    if (y >= 0 && x == y) {
        struct shape same = *call_shape(call, x);
        y = emit_reshape(call->low, x, &same);
    }
    return call_return(call, y);
}

bool lower_activation_layer(struct call *call)
{
    int x = call_input(call, 0);
    return return_visible(call, x, lower_own_activation(call, x));
}

bool lower_op_activation(struct call *call)
{
    /* "ops.HardSigmoid" is the activation "hard_sigmoid" */
    char name[64];
    size_t used = 0;
    for (const char *at = call->row->class_name + strlen("ops."); *at && used < 60; at++) {
        bool upper = *at >= 'A' && *at <= 'Z';
        if (upper && used > 0)
            name[used++] = '_';
        name[used++] = (char)(upper ? *at - 'A' + 'a' : *at);
    }
    name[used] = '\0';
    json_t *text = json_string(name);
    int x = call_input(call, 0);
    int y = lower_activation(call, x, text);
    json_decref(text);
    return return_visible(call, x, y);
}

/* x >= top: top; x > threshold: x; else slope (x - threshold) */
static int general_relu(struct call *call, int x, double slope, double top, double threshold)
{
    struct lowering *low = call->low;
    if (threshold == 0)
        return emit_unary(low, x, UNARY_RELU, slope, top);
    int y = emit_unary(low, x, UNARY_THRESHOLD, threshold, 0);
    if (top > 0)
        y = emit_unary(low, y, UNARY_CLIP, (double)-FLT_MAX, top);
    if (slope == 0)
        return y;
    int below =
        emit_unary(low, emit_linear(low, x, 1, -threshold), UNARY_CLIP, (double)-FLT_MAX, 0);
    return emit_binary(low, BINARY_ADD, y, emit_linear(low, below, slope, 0));
}

bool lower_relu(struct call *call)
{
    double top = config_number(call, "max_value", -1);
    double slope = config_number(call, "negative_slope", 0);
    double threshold = config_number(call, "threshold", 0);
    if (top == 0) /* everything above 0 is cut off, which `beta` 0 cannot say */
        return call_refuse(call, "max_value 0 is not supported");
    return call_return(
        call, general_relu(call, call_input(call, 0), slope, top < 0 ? 0 : top, threshold));
}

bool lower_leaky_relu(struct call *call)
{
    /* the layer's default is 0.3, that of keras.ops 0.2: the row says which */
    double slope = config_number(call, "negative_slope", call->row->parameter / 10.0);
    return call_return(call, emit_unary(call->low, call_input(call, 0), UNARY_RELU, slope, 0));
}

bool lower_elu(struct call *call)
{
    double alpha = config_number(call, "alpha", 1);
    return call_return(call, emit_unary(call->low, call_input(call, 0), UNARY_ELU, alpha, 0));
}

bool lower_thresholded_relu(struct call *call)
{
    double theta = config_number(call, "theta", 1);
    return call_return(call, emit_unary(call->low, call_input(call, 0), UNARY_THRESHOLD, theta, 0));
}

/* Before Keras 3.11 its settings had other names. */
bool lower_op_threshold(struct call *call)
{
    double threshold = config_number(call, "threshold", config_number(call, "threshold_value", 0));
    double otherwise = config_number(call, "default_value", config_number(call, "value", 0));
    return call_return(
        call, emit_unary(call->low, call_input(call, 0), UNARY_THRESHOLD, threshold, otherwise));
}

bool lower_prelu(struct call *call)
{
    int x = call_input(call, 0);
    if (x < 0)
        return false;
    struct shape shape = *call_shape(call, x);
    struct shape as = shape;
    as.dims[0] = 1;
    const json_t *shared = json_object_get(call->config, "shared_axes");
    for (size_t i = 0; i < json_array_size(shared); i++) {
        int axis = config_axis(call, json_integer_value(json_array_get(shared, i)), shape.rank);
        as.dims[axis] = 1;
    }
    shape.rank--;
    memcpy(shape.dims, as.dims + 1, (size_t)shape.rank * sizeof *shape.dims);
    const struct constant *alpha = call_weight(call, "alpha", &shape, &as);
    /* relu(x) + alpha min(x, 0) */
    int below = emit_unary(call->low, x, UNARY_CLIP, (double)-FLT_MAX, 0);
    below = emit_binary_constant(call->low, BINARY_MULTIPLY, below, alpha, false);
    int above = emit_unary(call->low, x, UNARY_RELU, 0, 0);
    return call_return(call, emit_binary(call->low, BINARY_ADD, above, below));
}

/* Over one axis, or over several together: those are moved to the end and flattened. */
static int softmax_axes(struct call *call, int x, const json_t *axes, bool log)
{
    struct lowering *low = call->low;
    struct shape shape = *call_shape(call, x);
    bool chosen[TENSOR_RANK_MAX] = {false};
    size_t count = json_is_array(axes) ? json_array_size(axes) : 1;
    int axis = shape.rank - 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(axes) ? json_array_get(axes, i) : axes;
        axis = config_axis(call, json_is_integer(one) ? json_integer_value(one) : -1, shape.rank);
        chosen[axis] = true;
    }
    if (count == 1)
        return emit_softmax(low, x, axis, log);
    int permutation[TENSOR_RANK_MAX], back[TENSOR_RANK_MAX], used = 0;
    struct shape flat = {.rank = 0};
    int64_t joint = 1;
    for (int i = 0; i < shape.rank; i++) {
        if (!chosen[i]) {
            flat.dims[flat.rank++] = shape.dims[i];
            permutation[used++] = i;
        }
    }
    for (int i = 0; i < shape.rank; i++) {
        if (chosen[i]) {
            joint *= shape.dims[i];
            permutation[used++] = i;
        }
    }
    flat.dims[flat.rank++] = joint;
    for (int i = 0; i < shape.rank; i++)
        back[permutation[i]] = i;
    x = emit_transpose(low, x, permutation);
    struct shape moved = *call_shape(call, x);
    x = emit_softmax(low, emit_reshape(low, x, &flat), flat.rank - 1, log);
    return emit_transpose(low, emit_reshape(low, x, &moved), back);
}

bool lower_softmax(struct call *call)
{
    int x = call_input(call, 0);
    const json_t *axis = json_object_get(call->config, "axis");
    bool log = call->row->parameter == 1;
    if (x < 0 || call_shape(call, x)->rank < 1)
        return false;
    int mask = call_mask(call, 0), rank = call_shape(call, x)->rank;
    if (mask < 0)
        return call_return(call, softmax_axes(call, x, axis, log));
    /* what is masked gets no share, even where all is masked (Keras 3) */
    struct lowering *low = call->low;
    x = emit_select(low, mask, x, NULL, -1, lowering_number(low, -1e9, rank));
    int y = softmax_axes(call, x, axis, log);
    if (config_keras_major(call) >= 3)
        y = emit_select(low, mask, y, NULL, -1, lowering_number(low, 0, rank));
    return call_return(call, y);
}
