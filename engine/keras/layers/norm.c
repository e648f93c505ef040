/* Normalisations. Those with stored statistics become one affine op, its constants computed in
 * double precision. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int lower_affine_axis(struct call *call, int x, int axis, const struct constant *scale,
                      const struct constant *shift)
{
    if (x < 0 || call->low->failed)
        return -1;
    x = emit_axis_to_end(call->low, x, axis);
    x = emit_affine(call->low, x, scale, shift);
    return emit_axis_from_end(call->low, x, axis);
}

/* The only entry of "axis", which may be an integer or a list of one. */
static int single_axis(struct call *call, int rank)
{
    const json_t *axis = json_object_get(call->config, "axis");
    if (json_array_size(axis) > 1) {
        call_refuse(call, "several axes are not supported");
        return 0;
    }
    if (json_is_array(axis))
        axis = json_array_get(axis, 0);
    return config_axis(call, json_is_integer(axis) ? json_integer_value(axis) : -1, rank);
}

/* training=True: the statistics are those of this very batch */
static int batch_statistics(struct call *call, int x, int axis, double epsilon)
{
    struct lowering *low = call->low;
    bool axes[TENSOR_RANK_MAX] = {false};
    for (int i = 0; i < call_shape(call, x)->rank; i++)
        axes[i] = i != axis;
    int centred =
        emit_binary(low, BINARY_SUBTRACT, x, emit_reduce(low, x, REDUCE_MEAN, axes, true));
    int variance = emit_unary(low, centred, UNARY_SQUARE, 0, 0);
    variance = emit_reduce(low, variance, REDUCE_MEAN, axes, true);
    variance = emit_unary(low, emit_linear(low, variance, 1, epsilon), UNARY_RSQRT, 0, 0);
    return emit_binary(low, BINARY_MULTIPLY, centred, variance);
}

bool lower_batch_normalization(struct call *call)
{
    int x = call_input(call, 0);
    if (x < 0 || call_shape(call, x)->rank < 2)
        return call_misfit(call, "its input has no channel axis");
    double epsilon = config_number(call, "epsilon", 1e-3);
    int axis = single_axis(call, call_shape(call, x)->rank);
    int64_t channels = call_shape(call, x)->dims[axis];
    struct shape vector = shape_of(1, &channels);
    bool has_gamma = config_bool(call, "scale", true), has_beta = config_bool(call, "center", true);
    const struct model_weight *gamma = has_gamma ? call_raw_weight(call, "gamma", &vector) : NULL;
    const struct model_weight *beta = has_beta ? call_raw_weight(call, "beta", &vector) : NULL;
    const struct model_weight *mean = call_raw_weight(call, "moving_mean", &vector);
    const struct model_weight *variance = call_raw_weight(call, "moving_variance", &vector);
    if (call->low->failed)
        return false;
    if (config_bool(call, "renorm", false))
        call_skip_weights(call); /* only training looks at the renormalisation's own statistics */

    bool training = call_flag(call, "training");
    float *s, *t;
    const struct constant *scale = call_constant(call, training ? "gamma" : "scale", &vector, &s);
    const struct constant *shift = call_constant(call, training ? "beta" : "shift", &vector, &t);
    for (int64_t i = 0; s && t && i < channels; i++) {
        double g = gamma ? weight_element(gamma, (size_t)i) : 1;
        double b = beta ? weight_element(beta, (size_t)i) : 0;
        double factor = g / sqrt(weight_element(variance, (size_t)i) + epsilon);
        s[i] = (float)(training ? g : factor);
        t[i] = (float)(training ? b : b - weight_element(mean, (size_t)i) * factor);
    }
    if (training)
        x = batch_statistics(call, x, axis, epsilon);
    return call_return(call, lower_affine_axis(call, x, axis, scale, shift));
}

/* A permutation that moves the chosen axes to the end, and its inverse. Returns how many. */
static int axes_to_end(const bool *chosen, int rank, int *permutation, int *back)
{
    int used = 0, count = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < rank; i++) {
            if (chosen[i] == (pass == 1)) {
                permutation[used++] = i;
                count += pass;
            }
        }
    }
    for (int i = 0; i < rank; i++)
        back[permutation[i]] = i;
    return count;
}

/* Read "axis" (an integer or a list) into flags. */
static void chosen_axes(struct call *call, int rank, bool *chosen)
{
    const json_t *axis = json_object_get(call->config, "axis");
    size_t count = json_is_array(axis) ? json_array_size(axis) : 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(axis) ? json_array_get(axis, i) : axis;
        chosen[config_axis(call, json_is_integer(one) ? json_integer_value(one) : -1, rank)] = true;
    }
}

/* Layer and RMS normalisation, over any set of axes. */
static bool normalise_axes(struct call *call, bool rms, double epsilon, const char *gamma_name,
                           bool has_gamma, bool has_beta)
{
    int x = call_input(call, 0), permutation[TENSOR_RANK_MAX], back[TENSOR_RANK_MAX];
    if (x < 0)
        return false;
    struct shape shape = *call_shape(call, x), weights = {.rank = 0};
    bool chosen[TENSOR_RANK_MAX] = {false};
    chosen_axes(call, shape.rank, chosen);
    for (int i = 0; i < shape.rank; i++) {
        if (chosen[i])
            weights.dims[weights.rank++] = shape.dims[i];
    }
    struct op_normalise normalise = {.epsilon = (float)epsilon, .rms = rms};
    normalise.axis = shape.rank - axes_to_end(chosen, shape.rank, permutation, back);
    normalise.gamma = has_gamma ? call_weight(call, gamma_name, &weights, NULL) : NULL;
    normalise.beta = has_beta ? call_weight(call, "beta", &weights, NULL) : NULL;
    if (call->low->failed)
        return false;
    int y = emit_normalise(call->low, emit_transpose(call->low, x, permutation), &normalise);
    return call_return(call, emit_transpose(call->low, y, back));
}

bool lower_layer_normalization(struct call *call)
{
    if (config_bool(call, "rms_scaling", false))
        return call_refuse(call, "rms_scaling is not supported");
    return normalise_axes(call, false, config_number(call, "epsilon", 1e-3), "gamma",
                          config_bool(call, "scale", true), config_bool(call, "center", true));
}

bool lower_rms_normalization(struct call *call)
{
    return normalise_axes(call, true, config_number(call, "epsilon", 1e-6), "scale", true, false);
}

bool lower_group_normalization(struct call *call)
{
    struct lowering *low = call->low;
    int x = call_input(call, 0);
    if (x < 0 || call_shape(call, x)->rank < 2)
        return call_misfit(call, "its input has no channel axis");
    int axis = single_axis(call, call_shape(call, x)->rank);
    x = emit_axis_to_end(low, x, axis);
    struct shape shape = *call_shape(call, x);
    int64_t channels = shape.dims[shape.rank - 1];
    int64_t groups = config_int(call, "groups", 32, -1);
    if (groups < 1)
        groups = channels;
    if (channels % groups)
        return call_misfit(call, "%lld channels do not divide into %lld groups",
                           (long long)channels, (long long)groups);
    struct shape vector = shape_of(1, &channels);
    const struct constant *gamma =
        config_bool(call, "scale", true) ? call_weight(call, "gamma", &vector, NULL) : NULL;
    const struct constant *beta =
        config_bool(call, "center", true) ? call_weight(call, "beta", &vector, NULL) : NULL;

    /* (N, cells, groups, C / groups): normalise each group over its cells and channels */
    int64_t cells = shape_elements(&shape) / shape.dims[0] / channels;
    struct shape split = {.rank = 4, .dims = {shape.dims[0], cells, groups, channels / groups}};
    static const int swap[4] = {0, 2, 1, 3};
    struct op_normalise normalise = {.axis = 2,
                                     .epsilon = (float)config_number(call, "epsilon", 1e-3)};
    int y = emit_transpose(low, emit_reshape(low, x, &split), swap);
    y = emit_transpose(low, emit_normalise(low, y, &normalise), swap);
    y = emit_reshape(low, y, &shape);
    if (gamma || beta)
        y = emit_affine(low, y, gamma, beta);
    return call_return(call, emit_axis_from_end(low, y, axis));
}

bool lower_unit_normalization(struct call *call)
{
    struct lowering *low = call->low;
    int x = call_input(call, 0);
    bool axes[TENSOR_RANK_MAX] = {false};
    if (x < 0)
        return false;
    chosen_axes(call, call_shape(call, x)->rank, axes);
    int norm = emit_unary(low, x, UNARY_SQUARE, 0, 0);
    norm = emit_reduce(low, norm, REDUCE_SUM, axes, true);
    norm = emit_unary(low, norm, UNARY_CLIP, 1e-12, (double)INFINITY);
    norm = emit_unary(low, norm, UNARY_RSQRT, 0, 0);
    return call_return(call, emit_binary(low, BINARY_MULTIPLY, x, norm));
}

/* One statistic: from the configuration (a number or a nested list) or from the file. */
static bool statistic(struct call *call, const char *key, int64_t channels,
                      const struct shape *stored, double *out)
{
    const json_t *value = json_object_get(call->config, key);
    if (!value || json_is_null(value)) {
        const struct model_weight *weight = call_raw_weight(call, key, stored);
        for (int64_t i = 0; weight && i < channels; i++)
            out[i] = weight_element(weight, stored->rank ? (size_t)i : 0);
        return weight != NULL;
    }
    while (json_array_size(value) == 1) /* [[[a, b, c]]] */
        value = json_array_get(value, 0);
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count != 1 && (int64_t)count != channels)
        return call_misfit(call, "'%s' has %zu entries for %lld channels", key, count,
                           (long long)channels);
    for (int64_t i = 0; i < channels; i++) {
        const json_t *one = json_is_array(value) ? json_array_get(value, (size_t)i) : value;
        if (!json_is_number(one))
            return call_misfit(call, "'%s' is not a list of numbers", key);
        out[i] = json_number_value(one);
    }
    return true;
}

bool lower_normalization(struct call *call)
{
    int x = call_input(call, 0);
    const json_t *key = json_object_get(call->config, "axis");
    if (x < 0 || call_shape(call, x)->rank < 1)
        return false;
    struct shape shape = *call_shape(call, x);
    bool whole = key && (json_is_null(key) || (json_is_array(key) && json_array_size(key) == 0));
    int axis = whole ? shape.rank - 1 : single_axis(call, shape.rank);
    int64_t channels = shape.dims[axis];
    struct shape vector = shape_of(whole ? 0 : 1, &channels), wide = shape_of(1, &channels);
    double *mean = xcalloc((size_t)channels, sizeof *mean);
    double *variance = xcalloc((size_t)channels, sizeof *variance);
    bool ok = statistic(call, "mean", channels, &vector, mean) &&
              statistic(call, "variance", channels, &vector, variance);
    call_skip_weights(call); /* the count of samples seen */

    float *s = NULL, *t = NULL;
    const struct constant *scale = ok ? call_constant(call, "scale", &wide, &s) : NULL;
    const struct constant *shift = ok ? call_constant(call, "shift", &wide, &t) : NULL;
    bool invert = config_bool(call, "invert", false);
    for (int64_t i = 0; s && t && i < channels; i++) {
        double deviation = fmax(sqrt(variance[i]), 1e-7); /* Keras's guard against constants */
        s[i] = (float)(invert ? deviation : 1 / deviation);
        t[i] = (float)(invert ? mean[i] : -mean[i] / deviation);
    }
    free(mean);
    free(variance);
    return call_return(call, lower_affine_axis(call, x, axis, scale, shift));
}
