/* Op nodes that look at an image through windows: pools, convolutions with a kernel of numbers,
 * patches; and those that cut images out or put a border round them. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <string.h>
#include <strings.h>

static void sizes(struct call *call, size_t position, const char *name, int count, int64_t missing,
                  int64_t *out)
{
    const json_t *given = op_argument(call, position, name);
    size_t have = json_array_size(given);
    for (int i = 0; i < count; i++) {
        const json_t *one = given;
        if (have == (size_t)count + 2) /* TensorFlow counts batch and channels too */
            one = json_array_get(given, (size_t)i + (config_channels_first(call) ? 2 : 1));
        else if (json_is_array(given))
            one = json_array_get(given, have == 1 ? 0 : (size_t)i);
        out[i] = given ? json_integer_value(one) : missing;
        if (out[i] < 1 || out[i] > INT32_MAX) {
            call_misfit(call, "its '%s' makes no sense", name);
            out[i] = 1;
        }
    }
}

/* MaxPool, or AveragePool (parameter 1). */
bool lower_op_pool(struct call *call)
{
    int x = op_operand(call, 0, "inputs"), spatial = call_shape(call, x)->rank - 2;
    bool first = config_channels_first(call);
    static const int64_t ones[SPATIAL_MAX] = {1, 1, 1};
    struct op_pool pool = {.function = call->row->parameter ? POOL_AVERAGE : POOL_MAX,
                           .spatial = spatial};
    if (x < 0 || spatial < 1 || spatial > SPATIAL_MAX)
        return call_misfit(call, "its input is no image");
    if (first)
        x = emit_channels_last(call->low, x);
    sizes(call, 1, "pool_size", spatial, 1, pool.window);
    memcpy(pool.stride, pool.window, sizeof pool.stride);
    if (op_argument(call, 2, "strides"))
        sizes(call, 2, "strides", spatial, 1, pool.stride);
    if (call->low->failed)
        return false;
    padding_of(call, call_shape(call, x), spatial, pool.window, pool.stride, ones, pool.pad_before,
               pool.pad_after);
    int y = emit_pool(call->low, x, &pool);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* A kernel of numbers for `spatial` axes. */
static const struct constant *kernel_of(struct call *call, size_t position, const char *name,
                                        int spatial)
{
    const json_t *given = op_argument(call, position, name);
    if (op_tensor(call, given) >= 0) {
        call_refuse(call, "a kernel that is computed is not supported");
        return NULL;
    }
    const struct constant *kernel = lower_json_constant(call, name, given);
    if (kernel && (spatial < 1 || spatial > SPATIAL_MAX || kernel->shape.rank != spatial + 2)) {
        call_misfit(call, "its kernel does not fit its input");
        return NULL;
    }
    return kernel;
}

/* x, channels last, through a kernel (k..., C, K), or (k..., C, m) if depthwise. */
static int convolve(struct call *call, int x, const struct constant *kernel, bool depthwise,
                    struct op_conv *conv)
{
    int spatial = conv->spatial;
    if (x < 0 || !kernel)
        return -1;
    int64_t channels = call_shape(call, x)->dims[spatial + 1];
    struct shape shape = kernel->shape;
    conv->weights = kernel;
    conv->groups = 1;
    if (depthwise) {
        float *data;
        shape.dims[spatial + 1] *= shape.dims[spatial];
        shape.dims[spatial] = 1;
        conv->groups = channels;
        conv->weights = call_constant(call, "depthwise kernel", &shape, &data);
        if (conv->weights && data)
            memcpy(data, kernel->data, (size_t)kernel->bytes);
    } else if (shape.dims[spatial] > 0 && channels % shape.dims[spatial] == 0) {
        conv->groups = channels / shape.dims[spatial];
    }
    memcpy(conv->kernel, kernel->shape.dims, (size_t)spatial * sizeof *conv->kernel);
    padding_of(call, call_shape(call, x), spatial, conv->kernel, conv->stride, conv->dilation,
               conv->pad_before, conv->pad_after);
    return emit_conv(call->low, x, conv);
}

/* Conv, DepthwiseConv (parameter 1), or SeparableConv (2). */
bool lower_op_conv(struct call *call)
{
    int x = op_operand(call, 0, "inputs"), spatial = call_shape(call, x)->rank - 2;
    bool first = config_channels_first(call), separable = call->row->parameter == 2;
    const char *name = separable ? "depthwise_kernel" : "kernel";
    const struct constant *kernel = kernel_of(call, 1, name, spatial), *point = NULL;
    if (separable)
        point = kernel_of(call, 2, "pointwise_kernel", spatial);
    if (x < 0 || !kernel || (separable && !point))
        return false;
    struct op_conv conv = {.spatial = spatial};
    sizes(call, 3, "strides", spatial, 1, conv.stride);
    sizes(call, 5, "dilation_rate", spatial, 1, conv.dilation);
    if (first)
        x = emit_channels_last(call->low, x);
    int y = convolve(call, x, kernel, call->row->parameter > 0, &conv);
    if (separable) {
        struct op_conv one = {.spatial = spatial};
        for (int i = 0; i < spatial; i++)
            one.stride[i] = one.dilation[i] = 1;
        y = convolve(call, y, point, false, &one);
    }
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* The kernel is (k..., K, C). */
bool lower_op_conv_transpose(struct call *call)
{
    int x = op_operand(call, 0, "inputs"), spatial = call_shape(call, x)->rank - 2;
    bool first = config_channels_first(call);
    const struct constant *kernel = kernel_of(call, 1, "kernel", spatial);
    const char *padding = config_string(call, "padding", "valid");
    bool same = strcasecmp(padding, "same") == 0;
    if (x < 0 || !kernel)
        return false;
    if (!same && strcasecmp(padding, "valid") != 0)
        return call_refuse(call, "padding '%.20s' is not supported", padding);
    if (first)
        x = emit_channels_last(call->low, x);
    struct op_conv conv = {.spatial = spatial, .groups = 1, .transposed = true, .weights = kernel};
    const json_t *extra = op_argument(call, 99, "output_padding");
    int64_t output_padding[SPATIAL_MAX];
    memcpy(conv.kernel, kernel->shape.dims, (size_t)spatial * sizeof *conv.kernel);
    sizes(call, 99, "strides", spatial, 1, conv.stride);
    sizes(call, 99, "dilation_rate", spatial, 1, conv.dilation);
    config_ints(call, "output_padding", spatial, 0, 0, output_padding);
    if (call->low->failed)
        return false;
    transposed_pads(&conv, call_shape(call, x), same, extra ? output_padding : NULL,
                    conv.pad_before, conv.pad_after);
    int y = emit_conv(call->low, x, &conv);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* ---- patches ---- */

#define TAPS_MOST 256

/* What every cell of a window sees at all places, side by side: (N, h, w, C) to (N, h', w', taps C).
 * Windows lie within the image. */
static int taps_of(struct call *call, int x, const int64_t *size, const int64_t *stride,
                   const int64_t *dilation)
{
    int parts[TAPS_MOST];
    size_t count = 0;
    if (x < 0 || call->low->failed)
        return -1;
    struct shape shape = *call_shape(call, x);
    for (int64_t tap = 0; tap < size[0] * size[1]; tap++) {
        const int64_t at[2] = {tap / size[1] * dilation[0], tap % size[1] * dilation[1]};
        struct op_slice slice = {.begin = {0}};
        for (int d = 0; d < 4; d++) {
            slice.size[d] = shape.dims[d];
            slice.step[d] = 1;
        }
        for (int d = 0; d < 2; d++) {
            int64_t room = shape.dims[d + 1] - (size[d] - 1) * dilation[d];
            if (room < 1) {
                call_misfit(call, "its window is larger than the image");
                return -1;
            }
            slice.begin[d + 1] = at[d];
            slice.step[d + 1] = stride[d];
            slice.size[d + 1] = (room - 1) / stride[d] + 1;
        }
        parts[count++] = emit_slice(call->low, x, &slice);
    }
    return emit_concat(call->low, parts, count, 3);
}

static bool is_image(struct call *call, int x, const int64_t *size)
{
    if (x >= 0 && call_shape(call, x)->rank == 4 && size[0] * size[1] <= TAPS_MOST)
        return true;
    return call_refuse(call, "patches of more than %d cells, or of what is no image", TAPS_MOST);
}

static int border(struct call *call, int x, const int64_t *before, const int64_t *after)
{
    struct op_pad pad = {.before = {0, before[0], before[1], 0},
                         .after = {0, after[0], after[1], 0}};
    bool any = before[0] > 0 || before[1] > 0 || after[0] > 0 || after[1] > 0;
    return any ? emit_pad(call->low, x, &pad) : x;
}

/* Patches of images of any data_format, the window's cells in front of the channels. */
bool lower_op_extract_patches(struct call *call)
{
    bool first = config_channels_first(call);
    int x = op_operand(call, 0, "images");
    int64_t size[2], stride[2], dilation[2], before[2], after[2];
    config_ints(call, "size", 2, 1, 1, size);
    memcpy(stride, size, sizeof stride);
    if (op_argument(call, 99, "strides"))
        config_ints(call, "strides", 2, 1, 1, stride);
    config_ints(call, "dilation_rate", 2, 1, 1, dilation);
    if (!is_image(call, x, size))
        return false;
    if (first)
        x = emit_channels_last(call->low, x);
    padding_of(call, call_shape(call, x), 2, size, stride, dilation, before, after);
    int y = taps_of(call, border(call, x, before, after), size, stride, dilation);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* (N, C, h, w) to (N, C taps, places): the channels in front of the window's cells. */
bool lower_op_unfold(struct call *call)
{
    struct lowering *low = call->low;
    int x = op_operand(call, 0, "x");
    int64_t size[2], stride[2], dilation[2], padding[2];
    config_ints(call, "kernel_size", 2, 1, 1, size);
    config_ints(call, "stride", 2, 1, 1, stride);
    config_ints(call, "dilation", 2, 1, 1, dilation);
    config_ints(call, "padding", 2, 0, 0, padding);
    if (!is_image(call, x, size))
        return false;
    int64_t batch = call_shape(call, x)->dims[0], channels = call_shape(call, x)->dims[1];
    x = border(call, emit_channels_last(low, x), padding, padding);
    int y = taps_of(call, x, size, stride, dilation);
    if (y < 0)
        return false;
    int64_t taps = size[0] * size[1];
    int64_t places = call_shape(call, y)->dims[1] * call_shape(call, y)->dims[2];
    struct shape apart = {.rank = 4, .dims = {batch, places, taps, channels}};
    struct shape together = {.rank = 3, .dims = {batch, channels * taps, places}};
    y = emit_transpose(low, emit_reshape(low, y, &apart), (int[]){0, 3, 2, 1});
    return call_return(call, emit_reshape(low, y, &together));
}

/* ---- borders ---- */

/* The border in front of and behind one spatial axis of size n, of which the configuration says two
 * of: before, after, target. False if that makes no sense. */
static bool border_of(struct call *call, const char *const keys[3], int64_t n, bool crop,
                      int64_t *before, int64_t *after)
{
    const json_t *given[3];
    int64_t said[3];
    for (int i = 0; i < 3; i++) {
        given[i] = json_object_get(call->config, keys[i]);
        said[i] = config_int(call, keys[i], 0, 0);
    }
    bool has_before = given[0] && !json_is_null(given[0]);
    bool has_after = given[1] && !json_is_null(given[1]);
    int64_t whole = crop ? n - said[2] : said[2] - n;
    *before = has_before ? said[0] : whole - said[1];
    *after = has_after ? said[1] : whole - *before;
    return *before >= 0 && *after >= 0 && (!crop || *before + *after < n);
}

static int cut_and_pad(struct call *call, int x, int axis, const int64_t cut[2],
                       const int64_t target[2])
{
    struct shape shape = *call_shape(call, x);
    struct op_slice slice = {.begin = {0}};
    struct op_pad pad = {.value = 0};
    for (int i = 0; i < shape.rank; i++) {
        slice.size[i] = shape.dims[i];
        slice.step[i] = 1;
    }
    bool cuts = false, pads = false;
    for (int i = 0; i < 2; i++) {
        int64_t n = shape.dims[axis + i], more = target[i] - n;
        slice.begin[axis + i] = cut[i];
        slice.size[axis + i] = more < 0 ? target[i] : n;
        pad.before[axis + i] = more > 0 ? more / 2 : 0;
        pad.after[axis + i] = more > 0 ? more - more / 2 : 0;
        cuts |= more < 0;
        pads |= more > 0;
    }
    x = cuts ? emit_slice(call->low, x, &slice) : x;
    x = pads ? emit_pad(call->low, x, &pad) : x;
    return cuts || pads ? x : emit_reshape(call->low, x, &shape);
}

/* TensorFlow: the middle of an image, (n - n fraction) / 2 cells from each side. */
bool lower_op_central_crop(struct call *call)
{
    int x = op_operand(call, 0, "images"), rank = call_shape(call, x)->rank;
    double fraction = config_number(call, "central_fraction", 1);
    int64_t cut[2], target[2];
    if (x < 0 || rank < 3 || !(fraction > 0 && fraction <= 1))
        return call_misfit(call, "it has no image, or no part of it");
    for (int i = 0; i < 2; i++) {
        int64_t n = call_shape(call, x)->dims[rank - 3 + i];
        cut[i] = (int64_t)(((double)n - (double)n * fraction) / 2);
        target[i] = n - 2 * cut[i];
    }
    return call_return(call, cut_and_pad(call, x, rank - 3, cut, target));
}

/* TensorFlow: cut in the middle or given a border all round, as the target size asks. */
bool lower_op_crop_or_pad(struct call *call)
{
    int x = op_operand(call, 0, "images"), rank = call_shape(call, x)->rank;
    int64_t cut[2], target[2] = {config_int(call, "target_height", 1, 1),
                                 config_int(call, "target_width", 1, 1)};
    if (x < 0 || rank < 3)
        return call_misfit(call, "its input is no image");
    for (int i = 0; i < 2; i++) {
        int64_t n = call_shape(call, x)->dims[rank - 3 + i];
        cut[i] = n > target[i] ? (n - target[i]) / 2 : 0;
    }
    return call_return(call, cut_and_pad(call, x, rank - 3, cut, target));
}

/* PadImages, or CropImages (parameter 1): two spatial axes of images with or without a batch. */
bool lower_op_border(struct call *call)
{
    static const char *const pads[2][3] = {{"top_padding", "bottom_padding", "target_height"},
                                           {"left_padding", "right_padding", "target_width"}};
    static const char *const crops[2][3] = {{"top_cropping", "bottom_cropping", "target_height"},
                                            {"left_cropping", "right_cropping", "target_width"}};
    int x = op_operand(call, 0, "images");
    struct shape shape = *call_shape(call, x);
    bool crop = call->row->parameter == 1;
    int axis = shape.rank - (config_channels_first(call) ? 2 : 3);
    struct op_pad pad = {.value = 0};
    struct op_slice slice = {.begin = {0}};
    if (x < 0 || shape.rank < 3)
        return call_misfit(call, "its input is no image");
    for (int i = 0; i < shape.rank; i++) {
        slice.size[i] = shape.dims[i];
        slice.step[i] = 1;
    }
    for (int i = 0; i < 2; i++) {
        int64_t before, after, n = shape.dims[axis + i];
        if (!border_of(call, crop ? crops[i] : pads[i], n, crop, &before, &after))
            return call_misfit(call, "its borders and its target size contradict each other");
        pad.before[axis + i] = slice.begin[axis + i] = before;
        pad.after[axis + i] = after;
        slice.size[axis + i] = n - before - after;
    }
    return call_return(call,
                       crop ? emit_slice(call->low, x, &slice) : emit_pad(call->low, x, &pad));
}
