/* Layers that make pictures larger or smaller: upsampling, resizing, cropping to the middle.
 *
 * Nearest and bilinear without antialiasing are an op of their own. All other filters are
 * separable: each axis is a product with a small matrix, row o holding the weights of the input
 * cells that output cell o is made of (Keras 3 and tf.image.resize: half-pixel centres, weights
 * renormalised where the filter looks over the edge).
 */
#include "engine/keras/layers/table.h"
#include <math.h>
#include <string.h>

/* Repeat along one axis: view the tensor as (outer, axis, 1, inner) and resize. */
static int repeat_axis(struct call *call, int x, int axis, int64_t times)
{
    if (x < 0 || times == 1)
        return x;
    struct shape shape = *call_shape(call, x);
    struct shape view = {.rank = 4, .dims = {1, shape.dims[axis], 1, 1}};
    for (int i = 0; i < shape.rank; i++) {
        if (i != axis)
            view.dims[i < axis ? 0 : 3] *= shape.dims[i];
    }
    int y = emit_reshape(call->low, x, &view);
    y = emit_resize(call->low, y, RESIZE_NEAREST, shape.dims[axis] * times, 1);
    shape.dims[axis] *= times;
    return emit_reshape(call->low, y, &shape);
}

static double triangle(double x)
{
    return fmax(0, 1 - x);
}

/* Keys's cubic convolution with a = -0.5 (Cubic convolution interpolation for digital image
 * processing, 1981). */
static double keys_cubic(double x)
{
    if (x >= 2)
        return 0;
    return x >= 1 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : (1.5 * x - 2.5) * x * x + 1;
}

static double lanczos(double x, double radius)
{
    const double pi = 3.14159265358979323846;
    if (x >= radius)
        return 0;
    if (x < 1e-9)
        return 1;
    return radius * sin(pi * x) * sin(pi * x / radius) / (pi * pi * x * x);
}

static double lanczos3(double x)
{
    return lanczos(x, 3);
}

static double lanczos5(double x)
{
    return lanczos(x, 5);
}

struct filter {
    const char *name;
    double (*weight)(double distance); /* in input cells, >= 0; NULL: overlap of the cells' areas */
    bool corners; /* cell o looks at o * in / out: before TensorFlow 2 and Keras 2.4 */
};

static const struct filter FILTERS[] = {
    {"bilinear", triangle, false}, {"bicubic", keys_cubic, false},
    {"lanczos3", lanczos3, false}, {"lanczos5", lanczos5, false},
    {"area", NULL, false},         {"bilinear by corners", triangle, true},
};

static const struct filter *filter_find(const char *name)
{
    for (size_t i = 0; i < sizeof FILTERS / sizeof *FILTERS; i++) {
        if (strcmp(FILTERS[i].name, name) == 0)
            return &FILTERS[i];
    }
    return NULL;
}

/* The weight of input cell `j` for output cell `o`, not yet normalised. `ratio` is in / out. */
static double cell_weight(const struct filter *filter, int64_t j, int64_t o, double ratio,
                          double widen)
{
    if (!filter->weight) {
        double left = (double)o * ratio, right = left + ratio;
        return fmax(0, fmin(right, (double)j + 1) - fmax(left, (double)j));
    }
    double centre = filter->corners ? (double)o * ratio : ((double)o + 0.5) * ratio - 0.5;
    return filter->weight(fabs(centre - (double)j) / widen);
}

/* The matrix (in, out) that resizes one axis. */
static const struct constant *axis_weights(struct call *call, const struct filter *filter,
                                           bool antialias, int64_t in, int64_t out)
{
    char role[96];
    snprintf(role, sizeof role, "resize %s%s %lld %lld", filter->name,
             antialias ? " antialias" : "", (long long)in, (long long)out);
    struct shape shape = {.rank = 2, .dims = {in, out}};
    float *data;
    const struct constant *weights = call_constant(call, role, &shape, &data);
    if (!weights || !data)
        return weights;
    double ratio = (double)in / (double)out, widen = antialias ? fmax(ratio, 1) : 1;
    for (int64_t o = 0; o < out; o++) {
        double sum = 0;
        for (int64_t j = 0; j < in; j++)
            sum += cell_weight(filter, j, o, ratio, widen);
        for (int64_t j = 0; j < in; j++)
            data[j * out + o] = (float)(cell_weight(filter, j, o, ratio, widen) / sum);
    }
    return weights;
}

/* (N, H, W, C) -> (N, height, width, C) by two products. */
static int resize_filtered(struct call *call, int x, const struct filter *filter, bool antialias,
                           int64_t height, int64_t width)
{
    if (x < 0)
        return -1;
    struct lowering *low = call->low;
    int64_t in_height = call_shape(call, x)->dims[1], in_width = call_shape(call, x)->dims[2];
    int y = emit_transpose(low, x, (int[]){0, 3, 1, 2}); /* (N, C, H, W) */
    if (width != in_width)
        y = emit_matmul(low, y, axis_weights(call, filter, antialias, in_width, width), NULL);
    if (height == in_height)
        return emit_transpose(low, y, (int[]){0, 2, 3, 1});
    y = emit_transpose(low, y, (int[]){0, 1, 3, 2}); /* (N, C, width, H) */
    y = emit_matmul(low, y, axis_weights(call, filter, antialias, in_height, height), NULL);
    return emit_transpose(low, y, (int[]){0, 3, 2, 1});
}

/* Resize (N, H, W, C) with the filter of this name. A value of its own, also if nothing changes. */
static int resize_pixels(struct call *call, int x, const char *interpolation, bool antialias,
                         int64_t height, int64_t width)
{
    if (x < 0)
        return -1;
    const struct shape shape = *call_shape(call, x);
    const struct filter *filter = filter_find(interpolation);
    bool nearest = strcmp(interpolation, "nearest") == 0;
    if (!filter && !nearest) {
        call_refuse(call, "interpolation '%.20s' is not supported", interpolation);
        return -1;
    }
    if (height == shape.dims[1] && width == shape.dims[2])
        return emit_reshape(call->low, x, &shape);
    bool shrinks = height < shape.dims[1] || width < shape.dims[2];
    if (nearest)
        return emit_resize(call->low, x, RESIZE_NEAREST, height, width);
    if (filter->weight == triangle && !filter->corners && !(antialias && shrinks))
        return emit_resize(call->low, x, RESIZE_BILINEAR, height, width);
    return resize_filtered(call, x, filter, antialias, height, width);
}

static int cut(struct call *call, int x, const int64_t *begin, const int64_t *size)
{
    struct shape shape = *call_shape(call, x);
    struct op_slice slice = {.size = {shape.dims[0], size[0], size[1], shape.dims[3]},
                             .begin = {0, begin[0], begin[1], 0},
                             .step = {1, 1, 1, 1}};
    return emit_slice(call->low, x, &slice);
}

/* The part of (height, width) cells in the middle of (N, H, W, C), with the target's aspect ratio.
 * Keras computes in double and truncates. */
static int crop_to_aspect(struct call *call, int x, int64_t height, int64_t width)
{
    if (x < 0)
        return -1;
    const struct shape *shape = call_shape(call, x);
    int64_t h = shape->dims[1], w = shape->dims[2];
    int64_t size[2] = {(int64_t)((double)(w * height) / (double)width),
                       (int64_t)((double)(h * width) / (double)height)};
    size[0] = size[0] > h ? h : size[0] < 1 ? 1 : size[0];
    size[1] = size[1] > w ? w : size[1] < 1 ? 1 : size[1];
    return cut(call, x, (int64_t[]){(h - size[0]) / 2, (w - size[1]) / 2}, size);
}

/* Pad (N, H, W, C) evenly to the target's aspect ratio. Keras pads one axis only, and as much behind
 * as in front. */
static int pad_to_aspect(struct call *call, int x, int64_t height, int64_t width, double value)
{
    if (x < 0)
        return -1;
    const struct shape *shape = call_shape(call, x);
    int64_t h = shape->dims[1], w = shape->dims[2];
    int64_t want_h = (int64_t)((double)(w * height) / (double)width);
    int64_t want_w = (int64_t)((double)(h * width) / (double)height);
    int64_t top = want_h > h ? (want_h - h) / 2 : 0;
    int64_t left = top == 0 && want_w > w ? (want_w - w) / 2 : 0;
    struct op_pad pad = {
        .before = {0, top, left, 0}, .after = {0, top, left, 0}, .value = (float)value};
    return top || left ? emit_pad(call->low, x, &pad) : x;
}

/* What Resizing and keras.ops.image.resize share. */
static int resize_as_asked(struct call *call, int x, int64_t height, int64_t width)
{
    const char *interpolation = config_string(call, "interpolation", "bilinear");
    bool antialias = config_bool(call, "antialias", false);
    bool first = config_channels_first(call);
    if (strcmp(config_string(call, "fill_mode", "constant"), "constant") != 0) {
        call_refuse(call, "only fill_mode 'constant' is supported");
        return -1;
    }
    if (first)
        x = emit_channels_last(call->low, x);
    if (config_bool(call, "crop_to_aspect_ratio", false))
        x = crop_to_aspect(call, x, height, width);
    else if (config_bool(call, "pad_to_aspect_ratio", false))
        x = pad_to_aspect(call, x, height, width, config_number(call, "fill_value", 0));
    int y = resize_pixels(call, x, interpolation, antialias, height, width);
    return first ? emit_channels_first(call->low, y) : y;
}

bool lower_upsampling(struct call *call)
{
    int spatial = call->row->parameter, x = image_input(call, spatial);
    int64_t size[SPATIAL_MAX];
    config_ints(call, "size", spatial, 2, 1, size);
    if (x < 0 || call->low->failed)
        return false;
    if (spatial == 2) {
        bool first = config_channels_first(call);
        if (first)
            x = emit_channels_last(call->low, x);
        const struct shape *shape = call_shape(call, x);
        const char *interpolation = config_string(call, "interpolation", "nearest");
        if (config_bool(call, "_asymmetric", false) && strcmp(interpolation, "bilinear") == 0)
            interpolation = "bilinear by corners";
        int y = resize_pixels(call, x, interpolation, false, shape->dims[1] * size[0],
                              shape->dims[2] * size[1]);
        return call_return(call, first ? emit_channels_first(call->low, y) : y);
    }
    int y = x;
    for (int i = 0; i < spatial; i++)
        y = repeat_axis(call, y, spatial_axis(call, i), size[i]);
    struct shape shape = *call_shape(call, y);
    return call_return(call, y == x ? emit_reshape(call->low, x, &shape) : y);
}

bool lower_resizing(struct call *call)
{
    int x = image_input(call, 2);
    int64_t height = config_int(call, "height", 1, 1), width = config_int(call, "width", 1, 1);
    if (x < 0 || call->low->failed)
        return false;
    return call_return(call, resize_as_asked(call, x, height, width));
}

bool lower_op_resize(struct call *call)
{
    int x = image_input(call, 2);
    int64_t size[SPATIAL_MAX] = {1, 1};
    config_ints(call, "size", 2, 1, 1, size);
    if (x < 0 || call->low->failed)
        return false;
    return call_return(call, resize_as_asked(call, x, size[0], size[1]));
}

/* The middle of a picture that is large enough; a smaller one is cropped to the target's aspect
 * ratio and resized. */
bool lower_center_crop(struct call *call)
{
    int x = image_input(call, 2);
    int64_t height = config_int(call, "height", 1, 1), width = config_int(call, "width", 1, 1);
    bool first = config_channels_first(call);
    if (x >= 0 && first)
        x = emit_channels_last(call->low, x);
    if (x < 0 || call->low->failed)
        return false;
    const struct shape shape = *call_shape(call, x);
    int64_t h = shape.dims[1] - height, w = shape.dims[2] - width;
    int y;
    if (h == 0 && w == 0)
        y = emit_reshape(call->low, x, &shape);
    else if (h >= 0 && w >= 0)
        y = cut(call, x, (int64_t[]){h / 2, w / 2}, (int64_t[]){height, width});
    else
        y = resize_pixels(call, crop_to_aspect(call, x, height, width), "bilinear", false, height,
                          width);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* When it does not train, RandomCrop of Keras 2 crops to the target's aspect ratio and resizes;
 * that of Keras 3 does nothing. */
bool lower_random_crop(struct call *call)
{
    if (config_keras_major(call) >= 3)
        return lower_identity(call);
    int x = image_input(call, 2);
    int64_t height = config_int(call, "height", 1, 1), width = config_int(call, "width", 1, 1);
    bool first = config_channels_first(call);
    if (x >= 0 && first)
        x = emit_channels_last(call->low, x);
    if (x < 0 || call->low->failed)
        return false;
    int y = resize_pixels(call, crop_to_aspect(call, x, height, width), "bilinear", false, height,
                          width);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

/* Stretch every channel of every picture to the whole range; a flat one stays as it is. */
bool lower_auto_contrast(struct call *call)
{
    struct lowering *low = call->low;
    int x = image_input(call, 2);
    const json_t *range = json_object_get(call->config, "value_range");
    double from = json_number_value(json_array_get(range, 0));
    double to = json_array_size(range) == 2 ? json_number_value(json_array_get(range, 1)) : 255;
    bool axes[TENSOR_RANK_MAX] = {false, true, true};
    if (x < 0)
        return false;
    int least = emit_reduce(low, x, REDUCE_MIN, axes, true);
    int most = emit_reduce(low, x, REDUCE_MAX, axes, true);
    int y = emit_binary(low, BINARY_DIVIDE, emit_binary(low, BINARY_SUBTRACT, x, least),
                        emit_binary(low, BINARY_SUBTRACT, most, least));
    y = emit_unary(low, y, UNARY_CLIP, 0, 1);
    y = emit_linear(low, y, to - from, from);
    int stretched = emit_binary(low, BINARY_GREATER, most, least);
    return call_return(call, emit_select(low, stretched, y, NULL, x, NULL));
}
