/* Convolutions of any rank. Kernels are HWIO whatever the data format. */
#include "engine/keras/layers/table.h"
#include <string.h>
#include <strings.h>

void padding_of(struct call *call, const struct shape *x, int spatial, const int64_t *window,
                const int64_t *stride, const int64_t *dilation, int64_t *before, int64_t *after)
{
    const char *padding = config_string(call, "padding", "valid");
    for (int i = 0; i < spatial; i++) {
        int64_t extent = (window[i] - 1) * dilation[i] + 1;
        before[i] = after[i] = 0;
        if (strcasecmp(padding, "same") == 0) {
            int64_t size = x->dims[i + 1];
            int64_t out = (size + stride[i] - 1) / stride[i];
            int64_t total = (out - 1) * stride[i] + extent - size;
            if (total < 0)
                total = 0;
            before[i] = total / 2;
            after[i] = total - total / 2;
        } else if (strcasecmp(padding, "causal") == 0 && spatial == 1) {
            before[i] = extent - 1;
        } else if (strcasecmp(padding, "valid") != 0) {
            call_refuse(call, "padding '%.20s' is not supported", padding);
            return;
        }
    }
}

/* What all convolutions read first. Returns the channels-last input, -1 on failure. */
static int read_geometry(struct call *call, int spatial, struct op_conv *conv)
{
    int x = call_input(call, 0);
    if (x >= 0 && call_shape(call, x)->rank != spatial + 2) {
        call_misfit(call, "its input has rank %d and should have %d", call_shape(call, x)->rank,
                    spatial + 2);
        return -1;
    }
    *conv = (struct op_conv){.spatial = spatial, .groups = 1};
    if (config_channels_first(call))
        x = emit_channels_last(call->low, x);
    config_ints(call, "kernel_size", spatial, 1, 1, conv->kernel);
    config_ints(call, "strides", spatial, 1, 1, conv->stride);
    config_ints(call, "dilation_rate", spatial, 1, 1, conv->dilation);
    if (x >= 0 && call_shape(call, x)->dims[spatial + 1] < 1)
        call_misfit(call, "its input has no channels");
    return call->low->failed ? -1 : x;
}

static struct shape kernel_shape(const struct op_conv *conv, int64_t in, int64_t out)
{
    struct shape shape = {.rank = conv->spatial + 2};
    for (int i = 0; i < conv->spatial; i++)
        shape.dims[i] = conv->kernel[i];
    shape.dims[conv->spatial] = in;
    shape.dims[conv->spatial + 1] = out;
    return shape;
}

static const struct constant *read_bias(struct call *call, int64_t channels)
{
    if (!config_bool(call, "use_bias", true))
        return NULL;
    struct shape shape = shape_of(1, &channels);
    return call_weight(call, "bias", &shape, NULL);
}

/* The activation, and back to the layer's own layout. */
static bool finish(struct call *call, int y)
{
    bool first = config_channels_first(call);
    bool late = first && activation_needs_axis(json_object_get(call->config, "activation"));
    if (late)
        return call_return(call, lower_own_activation(call, emit_channels_first(call->low, y)));
    y = lower_own_activation(call, y);
    return call_return(call, first ? emit_channels_first(call->low, y) : y);
}

bool lower_conv(struct call *call)
{
    struct op_conv conv;
    int spatial = call->row->parameter;
    int x = read_geometry(call, spatial, &conv);
    int64_t filters = config_int(call, "filters", 1, 1);
    conv.groups = config_int(call, "groups", 1, 1);
    if (x < 0)
        return false;
    int64_t channels = call_shape(call, x)->dims[spatial + 1];
    if (channels % conv.groups || filters % conv.groups)
        return call_misfit(call, "%lld channels and %lld filters do not divide into %lld groups",
                           (long long)channels, (long long)filters, (long long)conv.groups);
    struct shape shape = kernel_shape(&conv, channels / conv.groups, filters);
    conv.weights = call_weight(call, "kernel", &shape, NULL);
    conv.bias = read_bias(call, filters);
    padding_of(call, call_shape(call, x), spatial, conv.kernel, conv.stride, conv.dilation,
               conv.pad_before, conv.pad_after);
    return finish(call, emit_conv(call->low, x, &conv));
}

/* The depthwise half: kernel (k..., C, m) is stored as (k..., 1, C * m), the same bytes. */
static int depthwise(struct call *call, int x, struct op_conv *conv, const char *name)
{
    int spatial = conv->spatial;
    int64_t multiplier = config_int(call, "depth_multiplier", 1, 1);
    if (x < 0)
        return -1;
    int64_t channels = call_shape(call, x)->dims[spatial + 1];
    conv->groups = channels;
    struct shape shape = kernel_shape(conv, channels, multiplier);
    struct shape as = kernel_shape(conv, 1, channels * multiplier);
    conv->weights = call_weight(call, name, &shape, &as);
    padding_of(call, call_shape(call, x), spatial, conv->kernel, conv->stride, conv->dilation,
               conv->pad_before, conv->pad_after);
    return call->low->failed ? -1 : x;
}

bool lower_depthwise(struct call *call)
{
    struct op_conv conv;
    int x = read_geometry(call, call->row->parameter, &conv);
    x = depthwise(call, x, &conv, "kernel");
    if (x < 0)
        return false;
    conv.bias = read_bias(call, conv.weights->shape.dims[conv.spatial + 1]);
    return finish(call, emit_conv(call->low, x, &conv));
}

bool lower_separable(struct call *call)
{
    struct op_conv conv;
    int spatial = call->row->parameter;
    int x = read_geometry(call, spatial, &conv);
    int64_t filters = config_int(call, "filters", 1, 1);
    x = depthwise(call, x, &conv, "depthwise_kernel");
    if (x < 0)
        return false;
    x = emit_conv(call->low, x, &conv);
    struct op_conv point = {.spatial = spatial, .groups = 1};
    for (int i = 0; i < spatial; i++)
        point.kernel[i] = point.stride[i] = point.dilation[i] = 1;
    struct shape shape = kernel_shape(&point, conv.weights->shape.dims[spatial + 1], filters);
    point.weights = call_weight(call, "pointwise_kernel", &shape, NULL);
    point.bias = read_bias(call, filters);
    return finish(call, call->low->failed ? -1 : emit_conv(call->low, x, &point));
}

void transposed_pads(const struct op_conv *conv, const struct shape *x, bool same,
                     const int64_t *output_padding, int64_t *before, int64_t *after)
{
    for (int i = 0; i < conv->spatial; i++) {
        int64_t n = x->dims[i + 1], s = conv->stride[i];
        int64_t extent = (conv->kernel[i] - 1) * conv->dilation[i] + 1;
        int64_t full = (n - 1) * s + extent, out;
        before[i] = 0;
        if (output_padding) {
            int64_t pad = same ? extent / 2 : 0;
            out = full - 2 * pad + output_padding[i];
            if (same) {
                int64_t length = extent + extent % 2 - 2 + output_padding[i];
                int64_t half = (length + 1) / 2;
                before[i] = extent - 1 - (half < extent - 1 ? half : extent - 1);
            }
        } else if (same) {
            out = n * s;
            before[i] = extent > s ? (extent - s) / 2 : 0;
        } else {
            out = n * s + (extent > s ? extent - s : 0);
        }
        after[i] = full - before[i] - out;
    }
}

bool lower_conv_transpose(struct call *call)
{
    struct op_conv conv;
    int spatial = call->row->parameter;
    int x = read_geometry(call, spatial, &conv);
    int64_t filters = config_int(call, "filters", 1, 1), output_padding[SPATIAL_MAX];
    const char *padding = config_string(call, "padding", "valid");
    bool same = strcasecmp(padding, "same") == 0;
    if (x < 0)
        return false;
    if (!same && strcasecmp(padding, "valid") != 0)
        return call_refuse(call, "padding '%.20s' is not supported", padding);
    const json_t *extra = json_object_get(call->config, "output_padding");
    bool padded = extra && !json_is_null(extra);
    config_ints(call, "output_padding", spatial, 0, 0, output_padding);
    struct shape shape = kernel_shape(&conv, filters, call_shape(call, x)->dims[spatial + 1]);
    conv.transposed = true;
    conv.weights = call_weight(call, "kernel", &shape, NULL);
    conv.bias = read_bias(call, filters);
    transposed_pads(&conv, call_shape(call, x), same, padded ? output_padding : NULL,
                    conv.pad_before, conv.pad_after);
    return finish(call, call->low->failed ? -1 : emit_conv(call->low, x, &conv));
}
