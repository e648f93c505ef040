/* The table of layers: which function lowers which Keras class.
 *
 * A newcomer adds a layer with one function in a file of its family and one row in table.c. Op nodes
 * (keras.ops) are rows whose name starts with "ops.".
 */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_TABLE_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_TABLE_H

#include "engine/graph/lower.h"

struct layer_row {
    const char *class_name; /* canonical Keras 3 spelling */
    /* Emit the ops of one call and call_return() each output. The return value is not looked at:
     * failure is low->failed. */
    bool (*lower)(struct call *call);
    int parameter; /* the row's own: spatial rank, function ... */
};

/* NULL for a class that cannot run here. Rows are sorted by class name. */
const struct layer_row *layer_row_find(const char *class_name);
/* Does the output of this class have the mask of the first input (what Keras calls supports_masking,
 * where the class has no rule of its own)? */
bool layer_passes_mask(const char *class_name);
/* All rows, for listings. */
const struct layer_row *layer_rows(size_t *count);

/* ---- shared between families ---- */

/* Apply an activation in any of Keras's spellings: NULL or null, "relu", {"class_name":
 * "function", "config": "relu6"}, or a layer object ({"class_name": "LeakyReLU", "config": {}}). */
int lower_activation(struct call *call, int x, const json_t *activation);
/* The same as one function, if it is one: false for those that are composed of several ops. */
bool activation_unary(struct call *call, const json_t *activation, struct op_unary *function);
/* The "activation" of the call's configuration. */
int lower_own_activation(struct call *call, int x);
/* Does this activation look along an axis (softmax), so that it must see the layer's own layout? */
bool activation_needs_axis(const json_t *activation);

/* Read strides-like geometry and Keras's padding into before and after. Keras: SAME gives
 * ceil(n / stride) outputs, with the odd cell of padding at the end; causal pads in front. */
void padding_of(struct call *call, const struct shape *x, int spatial, const int64_t *window,
                const int64_t *stride, const int64_t *dilation, int64_t *before, int64_t *after);

/* The crop of a transposed convolution of x, channels last, whose kernel, stride and dilation are set.
 * Keras crops the full one, of (n - 1) s + extent cells, to its own output size. Where the stride is
 * larger than the kernel the output ends in cells that only the bias reaches: a negative `after`.
 * `output_padding` may be NULL. */
void transposed_pads(const struct op_conv *conv, const struct shape *x, bool same,
                     const int64_t *output_padding, int64_t *before, int64_t *after);

/* Input 0, which must have `spatial` spatial axes; -1 and an error if it has not. */
int image_input(struct call *call, int spatial);
/* The axis of spatial dimension `i`, by the layer's data_format. */
int spatial_axis(struct call *call, int i);

/* x * scale[c] + shift[c] along any axis. */
int lower_affine_axis(struct call *call, int x, int axis, const struct constant *scale,
                      const struct constant *shift);

/* 1 / sqrt(variance + epsilon) over the axes, which stay as axes of 1; *centred, if asked: x less its mean. */
int lower_inverse_deviation(struct call *call, int x, const bool *axes, double epsilon,
                            int *centred);

/* The function with a number as second operand (first if swapped). */
int lower_binary_number(struct call *call, enum binary_function function, int x, double number,
                        bool swapped);

/* A float constant from a JSON number or nested list; rank 0 for a number. Keyed by role. */
const struct constant *lower_json_constant(struct call *call, const char *role,
                                           const json_t *value);

/* Reflect, symmetric or edge padding by the counts of `pad`. */
int lower_mirror_pad(struct call *call, int x, const struct op_pad *pad, const char *mode);
/* Keras's sparsemax along an axis. */
int lower_sparsemax(struct call *call, int x, int axis);

/* The rows' functions, by file. */
bool lower_conv(struct call *call); /* conv.c; parameter: spatial rank */
bool lower_depthwise(struct call *call);
bool lower_separable(struct call *call);
bool lower_conv_transpose(struct call *call);
bool lower_input(struct call *call); /* core.c */
bool lower_identity(struct call *call);
bool lower_dense(struct call *call);
bool lower_flatten(struct call *call);
bool lower_reshape(struct call *call);
bool lower_permute(struct call *call);
bool lower_repeat_vector(struct call *call);
bool lower_rescaling(struct call *call);
bool lower_layer_scale(struct call *call);
bool lower_custom_scale(struct call *call);
bool lower_activation_layer(struct call *call); /* activation.c */
bool lower_relu(struct call *call);
bool lower_leaky_relu(struct call *call);
bool lower_elu(struct call *call);
bool lower_prelu(struct call *call);
bool lower_thresholded_relu(struct call *call);
bool lower_softmax(struct call *call);
bool lower_batch_normalization(struct call *call); /* norm.c */
bool lower_layer_normalization(struct call *call);
bool lower_rms_normalization(struct call *call);
bool lower_group_normalization(struct call *call);
bool lower_unit_normalization(struct call *call);
bool lower_normalization(struct call *call);
bool lower_pooling(struct call *call); /* pool.c; parameter: spatial rank, + 8 for average */
bool lower_global_pooling(struct call *call);
bool lower_adaptive_pooling(struct call *call);
bool lower_op_adaptive_pool(struct call *call); /* parameter: 8 for average */
bool lower_zero_padding(struct call *call);     /* pad.c; parameter: spatial rank */
bool lower_cropping(struct call *call);
bool lower_upsampling(struct call *call); /* resize.c; parameter: spatial rank */
bool lower_resizing(struct call *call);
bool lower_center_crop(struct call *call);
bool lower_op_resize(struct call *call);
bool lower_random_crop(struct call *call);
bool lower_auto_contrast(struct call *call);
bool lower_locally_connected(struct call *call); /* local.c; parameter: spatial rank */
bool lower_category_encoding(struct call *call); /* category.c */
bool lower_discretization(struct call *call);
bool lower_integer_lookup(struct call *call);
bool lower_merge(struct call *call); /* merge.c; parameter: enum merge_kind */
bool lower_concatenate(struct call *call);
bool lower_dot(struct call *call);
bool lower_recurrent(struct call *call);        /* recurrent.c */
bool lower_time_distributed(struct call *call); /* distributed.c */
bool lower_spectral_normalization(struct call *call);
bool lower_bidirectional(struct call *call); /* wrapper.c */
bool lower_embedding(struct call *call);     /* embedding.c */
bool lower_reversible_embedding(struct call *call);
bool lower_masking(struct call *call);
bool lower_op_binary(struct call *call);     /* ops.c; parameter: enum binary_function */
bool lower_op_unary(struct call *call);      /* parameter: enum unary_function */
bool lower_op_activation(struct call *call); /* parameter: none, by class name */
bool lower_op_softmax(struct call *call);    /* parameter: 1 for the logarithm */
bool lower_op_clip(struct call *call);
bool lower_op_reduce(struct call *call); /* parameter: enum reduce_function, + 8 var, + 16 std */
bool lower_op_reshape(struct call *call);
bool lower_op_expand_dims(struct call *call);
bool lower_op_squeeze(struct call *call);
bool lower_op_transpose(struct call *call);
bool lower_op_swapaxes(struct call *call);
bool lower_op_concatenate(struct call *call);
bool lower_op_stack(struct call *call);
bool lower_op_split(struct call *call);
bool lower_op_get_item(struct call *call);
bool lower_op_pad(struct call *call);
bool lower_einsum_dense(struct call *call);         /* einsum_dense.c */
bool lower_multi_head_attention(struct call *call); /* multi_head.c */
bool lower_grouped_query_attention(struct call *call);
bool lower_attention_layer(struct call *call); /* attention.c; parameter: 1 for AdditiveAttention */
bool lower_op_attention(struct call *call);
bool lower_op_matmul(struct call *call); /* ops_product.c */
bool lower_op_einsum(struct call *call);
bool lower_op_dot(struct call *call);
bool lower_op_inner(struct call *call);
bool lower_op_tensordot(struct call *call);
bool lower_op_outer(struct call *call);
bool lower_op_vdot(struct call *call);
bool lower_op_take(struct call *call); /* ops_move.c */
bool lower_op_take_along_axis(struct call *call);
bool lower_op_one_hot(struct call *call);
bool lower_op_tile(struct call *call);
bool lower_op_repeat(struct call *call);
bool lower_op_broadcast_to(struct call *call);
bool lower_op_flip(struct call *call);
bool lower_op_roll(struct call *call);
bool lower_op_moveaxis(struct call *call);
bool lower_op_unstack(struct call *call);
bool lower_op_slice(struct call *call);
bool lower_op_depth_space(struct call *call);
bool lower_op_arg(struct call *call); /* ops_order.c */
bool lower_op_top_k(struct call *call);
bool lower_op_sort(struct call *call);
bool lower_op_cumulate(struct call *call);
bool lower_op_sparsemax(struct call *call);
bool lower_op_threshold(struct call *call);
bool lower_op_prod(struct call *call);
bool lower_op_logsumexp(struct call *call);
bool lower_op_average(struct call *call);
bool lower_op_moments(struct call *call);
bool lower_op_norm(struct call *call);
bool lower_op_normalize(struct call *call);
bool lower_op_where(struct call *call); /* ops_nn.c */
bool lower_op_cast(struct call *call);
bool lower_op_logical_not(struct call *call);
bool lower_op_logical_xor(struct call *call);
bool lower_op_reciprocal(struct call *call);
bool lower_op_round(struct call *call);
bool lower_op_log_base(struct call *call);
bool lower_op_like(struct call *call);
bool lower_op_full(struct call *call);
bool lower_op_batch_norm(struct call *call);
bool lower_op_layer_norm(struct call *call);
bool lower_op_triangle(struct call *call); /* ops_matrix.c; parameter: 1 for the lower one */
bool lower_op_band_part(struct call *call);
bool lower_op_diagonal(struct call *call); /* parameter: 1 for its sum */
bool lower_op_rot90(struct call *call);
bool lower_op_no_nan(struct call *call); /* parameter: 0 quotient, 1 product, 2 x log(y) */
bool lower_op_squared_difference(struct call *call);
bool lower_op_add_n(struct call *call);
bool lower_op_identity_n(struct call *call);
bool lower_op_is(struct call *call); /* parameter: 0 NaN, 1 infinite, 2 finite */
bool lower_op_grayscale(struct call *call);
bool lower_op_gray_to_rgb(struct call *call);
bool lower_op_shape(struct call *call);
bool lower_op_arange(struct call *call);
bool lower_op_pool(struct call *call); /* ops_window.c */
bool lower_op_conv(struct call *call);
bool lower_op_conv_transpose(struct call *call);
bool lower_op_extract_patches(struct call *call);
bool lower_op_unfold(struct call *call);
bool lower_op_border(struct call *call); /* parameter: 1 to crop */
bool lower_op_central_crop(struct call *call);
bool lower_op_crop_or_pad(struct call *call);
bool lower_op_numeric(struct call *call); /* ops_numeric.c; parameter: enum numeric_function */
bool lower_op_numeric_pair(struct call *call);
bool lower_op_saturate_cast(struct call *call);
bool lower_op_is_close(struct call *call); /* parameter: 1 for everywhere */
bool lower_op_select(struct call *call);
bool lower_op_stack_along(struct call *call); /* ops_join.c; parameter: the axis */
bool lower_op_append(struct call *call);
bool lower_op_ravel(struct call *call);
bool lower_op_flip_axis(struct call *call);
bool lower_op_split_along(struct call *call);
bool lower_op_diff(struct call *call);
bool lower_op_trapezoid(struct call *call);
bool lower_op_cross(struct call *call);
bool lower_op_linspace(struct call *call); /* parameter: 1 for powers */
bool lower_op_size(struct call *call);     /* parameter: 1 for the number of axes */
bool lower_op_extract_sequences(struct call *call);
bool lower_op_slice_update(struct call *call);
bool lower_op_fold(struct call *call);
bool lower_op_nan_reduce(struct call *call); /* ops_statistics.c; parameter: see there */
bool lower_op_spread(struct call *call);
bool lower_op_quantile(struct call *call);
bool lower_op_digitize(struct call *call);
bool lower_op_search_sorted(struct call *call);
bool lower_op_is_in(struct call *call);
bool lower_op_in_top_k(struct call *call);
bool lower_op_multi_hot(struct call *call);
bool lower_op_distances(struct call *call);

#endif
