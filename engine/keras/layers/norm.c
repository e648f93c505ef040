/* Normalisations. Those with stored statistics become one affine op, its constants computed in
 * double precision. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The statistics of a Normalization over several axes: a picture of 2300 x 2300 pixels in colour has so many */
#define PLACES_MAX (1 << 24)

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

int lower_inverse_deviation(struct call *call, int x, const bool *axes, double epsilon,
                            int *centred)
{
    struct lowering *low = call->low;
    int far = emit_binary(low, BINARY_SUBTRACT, x, emit_reduce(low, x, REDUCE_MEAN, axes, true));
    int variance = emit_unary(low, far, UNARY_SQUARE, 0, 0);
    variance = emit_reduce(low, variance, REDUCE_MEAN, axes, true);
    if (centred)
        *centred = far;
    return emit_unary(low, emit_linear(low, variance, 1, epsilon), UNARY_RSQRT, 0, 0);
}

/* training=True: the statistics are those of this very batch */
static int batch_statistics(struct call *call, int x, int axis, double epsilon)
{
    bool axes[TENSOR_RANK_MAX] = {false};
    for (int i = 0; i < call_shape(call, x)->rank; i++)
        axes[i] = i != axis;
    int centred, inverse = lower_inverse_deviation(call, x, axes, epsilon, &centred);
    return emit_binary(call->low, BINARY_MULTIPLY, centred, inverse);
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

/* The sizes of the chosen axes, in their order. */
static struct shape chosen_shape(const struct shape *shape, const bool *chosen)
{
    struct shape sizes = {.rank = 0};
    for (int i = 0; i < shape->rank; i++) {
        if (chosen[i])
            sizes.dims[sizes.rank++] = shape->dims[i];
    }
    return sizes;
}

/* x * scale + shift, with an element of the vectors for each place of the chosen axes together. */
static int affine_over(struct call *call, int x, const bool *chosen, const struct constant *scale,
                       const struct constant *shift)
{
    struct lowering *low = call->low;
    int permutation[TENSOR_RANK_MAX], back[TENSOR_RANK_MAX];
    if (x < 0 || low->failed)
        return -1;
    int count = axes_to_end(chosen, call_shape(call, x)->rank, permutation, back);
    x = emit_transpose(low, x, permutation);
    struct shape moved = *call_shape(call, x), flat = moved;
    while (count > 1 && flat.rank > moved.rank - count + 1) {
        flat.rank--;
        flat.dims[flat.rank - 1] *= flat.dims[flat.rank];
    }
    x = emit_affine(low, emit_reshape(low, x, &flat), scale, shift);
    return emit_transpose(low, emit_reshape(low, x, &moved), back);
}

/* RMSNormalization built for one channel: its scale holds for every width it is called with. */
static const struct constant *one_scale(struct call *call, const char *name, int64_t width)
{
    struct shape one = {.rank = 1, .dims = {1}}, wide = shape_of(1, &width);
    const struct model_weight *stored = call_raw_weight(call, name, &one);
    char role[48];
    float *data = NULL;
    snprintf(role, sizeof role, "scale %lld", (long long)width);
    const struct constant *scale = stored ? call_constant(call, role, &wide, &data) : NULL;
    for (int64_t i = 0; data && i < width; i++)
        data[i] = (float)weight_element(stored, 0);
    return scale;
}

/* Layer and RMS normalisation, over any set of axes. */
static bool normalise_axes(struct call *call, bool rms, double epsilon, const char *gamma_name,
                           bool has_gamma, bool has_beta)
{
    int x = call_input(call, 0), permutation[TENSOR_RANK_MAX], back[TENSOR_RANK_MAX];
    if (x < 0)
        return false;
    struct shape shape = *call_shape(call, x);
    bool chosen[TENSOR_RANK_MAX] = {false};
    chosen_axes(call, shape.rank, chosen);
    struct shape weights = chosen_shape(&shape, chosen);
    struct op_normalise normalise = {.epsilon = (float)epsilon, .rms = rms};
    normalise.axis = shape.rank - axes_to_end(chosen, shape.rank, permutation, back);
    bool one = rms && weights.rank == 1 && call->next_weight < call->layer->weight_count &&
               shape_elements(&call->layer->weights[call->next_weight].shape) == 1;
    if (one && weights.dims[0] > 1)
        normalise.gamma = one_scale(call, gamma_name, weights.dims[0]);
    else
        normalise.gamma = has_gamma ? call_weight(call, gamma_name, &weights, NULL) : NULL;
    normalise.beta = has_beta ? call_weight(call, "beta", &weights, NULL) : NULL;
    if (call->low->failed)
        return false;
    int y = emit_normalise(call->low, emit_transpose(call->low, x, permutation), &normalise);
    return call_return(call, emit_transpose(call->low, y, back));
}

/* LayerNormalization(rms_scaling=True) divides by the deviation, not by the root mean square, and does
 * not subtract the mean. */
static bool divide_by_deviation(struct call *call)
{
    int x = call_input(call, 0);
    if (x < 0)
        return false;
    bool chosen[TENSOR_RANK_MAX] = {false};
    chosen_axes(call, call_shape(call, x)->rank, chosen);
    struct shape weights = chosen_shape(call_shape(call, x), chosen);
    const struct model_weight *gamma = call_raw_weight(call, "gamma", &weights);
    int64_t count = shape_elements(&weights);
    struct shape vector = shape_of(1, &count);
    float *s = NULL;
    const struct constant *scale = gamma ? call_constant(call, "gamma", &vector, &s) : NULL;
    for (int64_t i = 0; s && i < count; i++)
        s[i] = (float)weight_element(gamma, (size_t)i);
    if (call->low->failed)
        return false;
    double epsilon = config_number(call, "epsilon", 1e-3);
    int inverse = lower_inverse_deviation(call, x, chosen, epsilon, NULL);
    int y = emit_binary(call->low, BINARY_MULTIPLY, x, inverse);
    return call_return(call, affine_over(call, y, chosen, scale, NULL));
}

bool lower_layer_normalization(struct call *call)
{
    if (config_bool(call, "rms_scaling", false))
        return divide_by_deviation(call);
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

/* The numbers of a nested list, in order; -1 if there are other things in it or more than `capacity`. */
static int64_t numbers_of(const json_t *value, double *out, int64_t used, int64_t capacity)
{
    if (!json_is_array(value)) {
        if (!json_is_number(value) || used >= capacity)
            return -1;
        out[used] = json_number_value(value);
        return used + 1;
    }
    for (size_t i = 0; i < json_array_size(value) && used >= 0; i++)
        used = numbers_of(json_array_get(value, i), out, used, capacity);
    return used;
}

/* One statistic of `total` elements, one for each place of the axes `kept`: from the configuration (a number,
 * or a nested list over all these axes or the last of them) or from the file, where it has the shape `stored`. */
static bool statistic(struct call *call, const char *key, int64_t total, const struct shape *kept,
                      const struct shape *stored, double *out)
{
    const json_t *value = json_object_get(call->config, key);
    if (!value || json_is_null(value)) {
        const struct model_weight *weight = call_raw_weight(call, key, stored);
        for (int64_t i = 0; weight && i < total; i++)
            out[i] = weight_element(weight, stored->rank ? (size_t)i : 0);
        return weight != NULL;
    }
    int64_t count = numbers_of(value, out, 0, total), fits = 1;
    for (int i = kept->rank; i > 0 && fits < count; i--)
        fits *= kept->dims[i - 1];
    if (count < 1 || fits != count)
        return call_misfit(call, "'%s' is not a list of numbers for its %lld places", key,
                           (long long)total);
    for (int64_t i = count; i < total; i++)
        out[i] = out[i % count];
    return true;
}

bool lower_normalization(struct call *call)
{
    int x = call_input(call, 0);
    const json_t *key = json_object_get(call->config, "axis");
    if (x < 0 || call_shape(call, x)->rank < 1)
        return false;
    struct shape shape = *call_shape(call, x), scalar = {.rank = 0};
    bool whole = json_is_null(key) || (json_is_array(key) && json_array_size(key) == 0);
    bool chosen[TENSOR_RANK_MAX] = {false};
    if (whole)
        chosen[shape.rank - 1] = true;
    else
        chosen_axes(call, shape.rank, chosen);
    struct shape kept = chosen_shape(&shape, chosen);
    int64_t total = shape_elements(&kept);
    if (total > PLACES_MAX)
        return call_refuse(call,
                           "its statistics have %lld elements, more than %d are not supported",
                           (long long)total, PLACES_MAX);
    struct shape vector = shape_of(1, &total);
    double *mean = xcalloc((size_t)total, sizeof *mean);
    double *variance = xcalloc((size_t)total, sizeof *variance);
    bool ok = statistic(call, "mean", total, &kept, whole ? &scalar : &kept, mean) &&
              statistic(call, "variance", total, &kept, whole ? &scalar : &kept, variance);
    call_skip_weights(call); /* the count of samples seen */

    float *s = NULL, *t = NULL;
    const struct constant *scale = ok ? call_constant(call, "scale", &vector, &s) : NULL;
    const struct constant *shift = ok ? call_constant(call, "shift", &vector, &t) : NULL;
    bool invert = config_bool(call, "invert", false);
    for (int64_t i = 0; s && t && i < total; i++) {
        double deviation = fmax(sqrt(variance[i]), 1e-7); /* Keras's guard against constants */
        s[i] = (float)(invert ? deviation : 1 / deviation);
        t[i] = (float)(invert ? mean[i] : -mean[i] / deviation);
    }
    free(mean);
    free(variance);
    return call_return(call, affine_over(call, x, chosen, scale, shift));
}
