/* Loops that only move numbers: pad, slice, concat, transpose, resize, constants. */
#include "engine/cpu/own.h"
#include <math.h>
#include <string.h>

static const struct shape *in_shape(const struct own_call *call, size_t input)
{
    return &call->graph->values[call->op->inputs[input]].shape;
}

static const struct shape *out_shape(const struct own_call *call)
{
    return &call->graph->values[call->op->outputs[0]].shape;
}

bool own_narrows(const struct op *op)
{
    return op->kind == OP_PAD || op->kind == OP_SLICE || op->kind == OP_CONCAT ||
           op->kind == OP_TRANSPOSE || op->kind == OP_AFFINE || op->kind == OP_UNARY ||
           op->kind == OP_BINARY || op->kind == OP_CONSTANT || op->kind == OP_ATTENTION ||
           op->kind == OP_NORMALISE ||
           (op->kind == OP_RESIZE && op->resize.function == RESIZE_NEAREST);
}

/* Element `index` of an array of elements of some size. */
static char *at(const struct own_call *call, const void *array, int64_t index)
{
    return (char *)(uintptr_t)array + (size_t)index * call->element_bytes;
}

static void copy(const struct own_call *call, char *to, const char *from, int64_t count)
{
    memcpy(to, from, (size_t)count * call->element_bytes);
}

static void copy_one(const struct own_call *call, char *to, const char *from)
{
    if (call->element_bytes == sizeof(float))
        memcpy(to, from, sizeof(float));
    else if (call->element_bytes == sizeof(uint16_t))
        memcpy(to, from, sizeof(uint16_t));
    else
        *to = *from;
}

static void fill(const struct own_call *call, char *to, int64_t count, float value)
{
    uint16_t half;
    if (call->element_bytes == 1) { /* bytes of an int8 plan: it pads with nothing but 0 */
        memset(to, 0, (size_t)count);
        return;
    }
    own_narrow(&value, &half, 1);
    for (int64_t i = 0; i < count; i++, to += call->element_bytes) {
        if (call->element_bytes == sizeof value)
            memcpy(to, &value, sizeof value);
        else
            memcpy(to, &half, sizeof half);
    }
}

/* One output row (all axes but the last) at a time; the last axis is a copy between two margins. */
void own_pad(const struct own_call *call)
{
    const struct op_pad *pad = &call->op->pad;
    const struct shape *in = in_shape(call, 0), *out = out_shape(call);
    int last = in->rank - 1;
    int64_t width = out->dims[last], rows = shape_elements(out) / width;
    int64_t copied = in->dims[last];
#pragma omp parallel for if (rows * width > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        char *y = at(call, call->output, row * width);
        int64_t rest = row, from = 0, stride = copied;
        bool inside = true;
        for (int i = last - 1; i >= 0; i--) {
            int64_t index = rest % out->dims[i] - pad->before[i];
            rest /= out->dims[i];
            inside &= index >= 0 && index < in->dims[i];
            from += index * stride;
            stride *= in->dims[i];
        }
        if (!inside) {
            fill(call, y, width, pad->value);
            continue;
        }
        fill(call, y, pad->before[last], pad->value);
        y = at(call, y, pad->before[last]);
        copy(call, y, at(call, call->inputs[0], from), copied);
        fill(call, at(call, y, copied), pad->after[last], pad->value);
    }
}

void own_slice(const struct own_call *call)
{
    const struct op_slice *slice = &call->op->slice;
    const struct shape *in = in_shape(call, 0), *out = out_shape(call);
    int last = in->rank - 1;
    if (last < 0) {
        copy_one(call, call->output, call->inputs[0]);
        return;
    }
    int64_t width = out->dims[last], rows = shape_elements(out) / width, step = slice->step[last];
#pragma omp parallel for if (rows * width > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        char *y = at(call, call->output, row * width);
        int64_t rest = row, from = slice->begin[last], stride = in->dims[last];
        for (int i = last - 1; i >= 0; i--) {
            from += (slice->begin[i] + rest % out->dims[i] * slice->step[i]) * stride;
            rest /= out->dims[i];
            stride *= in->dims[i];
        }
        if (step == 1) {
            copy(call, y, at(call, call->inputs[0], from), width);
            continue;
        }
        for (int64_t i = 0; i < width; i++)
            copy_one(call, at(call, y, i), at(call, call->inputs[0], from + i * step));
    }
}

/* Each input is `rows` runs; they land side by side in the output's rows. */
void own_concat(const struct own_call *call)
{
    const struct shape *out = out_shape(call);
    int axis = call->op->concat.axis;
    int64_t rows = 1, width = 1, offset = 0;
    for (int i = 0; i < out->rank; i++)
        *(i < axis ? &rows : &width) *= out->dims[i];
    for (size_t input = 0; input < call->op->input_count; input++) {
        const struct shape *in = in_shape(call, input);
        const void *x = call->inputs[input];
        int64_t run = shape_elements(in) / rows;
#pragma omp parallel for if (rows * run > OWN_PARALLEL)
        for (int64_t row = 0; row < rows; row++)
            copy(call, at(call, call->output, row * width + offset), at(call, x, row * run), run);
        offset += run;
    }
}

void own_transpose(const struct own_call *call)
{
    const struct shape *in = in_shape(call, 0), *out = out_shape(call);
    const int *permutation = call->op->transpose.permutation;
    int64_t strides[TENSOR_RANK_MAX], stride = 1, moved[TENSOR_RANK_MAX];
    int last = in->rank - 1;
    for (int i = last; i >= 0; i--) {
        strides[i] = stride;
        stride *= in->dims[i];
    }
    for (int i = 0; i <= last; i++)
        moved[i] = strides[permutation[i]];
    int64_t width = out->dims[last], rows = shape_elements(out) / width;
#pragma omp parallel for if (rows * width > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t rest = row, from = 0;
        for (int i = last - 1; i >= 0; i--) {
            from += rest % out->dims[i] * moved[i];
            rest /= out->dims[i];
        }
        char *y = at(call, call->output, row * width);
        for (int64_t i = 0; i < width; i++)
            copy_one(call, at(call, y, i), at(call, call->inputs[0], from + i * moved[last]));
    }
}

/* Cell of the input under output cell i: floor((i + 1/2) in / out), in integers. */
static int64_t nearest(int64_t i, int64_t in, int64_t out)
{
    return (2 * i + 1) * in / (2 * out);
}

static void resize_nearest(const struct own_call *call)
{
    const struct shape *in = in_shape(call, 0), *out = out_shape(call);
    int64_t height = out->dims[1], width = out->dims[2], channels = out->dims[3];
    int64_t rows = out->dims[0] * height;
#pragma omp parallel for if (rows * width * channels > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        int64_t line = row / height * in->dims[1] + nearest(row % height, in->dims[1], height);
        for (int64_t x = 0; x < width; x++) {
            int64_t cell = line * in->dims[2] + nearest(x, in->dims[2], width);
            copy(call, at(call, call->output, (row * width + x) * channels),
                 at(call, call->inputs[0], cell * channels), channels);
        }
    }
}

/* Where output cell i reads, with half-pixel centres: two cells and the share of the second. */
static void taps(int64_t i, int64_t in, int64_t out, int64_t *low, int64_t *high, float *share)
{
    double place = ((double)i + 0.5) * (double)in / (double)out - 0.5;
    place = place < 0 ? 0 : place;
    *low = (int64_t)place;
    *low = *low > in - 1 ? in - 1 : *low;
    *high = *low + 1 < in ? *low + 1 : in - 1;
    *share = (float)(place - (double)*low);
}

OWN_VECTOR static void blend(const float *a, const float *b, const float *c, const float *d,
                             float right, float down, float *y, int64_t channels)
{
    for (int64_t i = 0; i < channels; i++) {
        float top = a[i] + (b[i] - a[i]) * right;
        float bottom = c[i] + (d[i] - c[i]) * right;
        y[i] = top + (bottom - top) * down;
    }
}

static void resize_bilinear(const struct own_call *call)
{
    const struct shape *in = in_shape(call, 0), *out = out_shape(call);
    const float *from = call->inputs[0];
    float *to = call->output;
    int64_t height = out->dims[1], width = out->dims[2], channels = out->dims[3];
    int64_t rows = out->dims[0] * height;
#pragma omp parallel for if (rows * width * channels > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        const float *image = from + row / height * in->dims[1] * in->dims[2] * channels;
        int64_t top, bottom, left, right;
        float down, over;
        taps(row % height, in->dims[1], height, &top, &bottom, &down);
        const float *upper = image + top * in->dims[2] * channels;
        const float *lower = image + bottom * in->dims[2] * channels;
        for (int64_t x = 0; x < width; x++) {
            taps(x, in->dims[2], width, &left, &right, &over);
            blend(upper + left * channels, upper + right * channels, lower + left * channels,
                  lower + right * channels, over, down, to + (row * width + x) * channels,
                  channels);
        }
    }
}

void own_resize(const struct own_call *call)
{
    if (call->op->resize.function == RESIZE_NEAREST)
        resize_nearest(call);
    else
        resize_bilinear(call);
}

void own_constant(const struct own_call *call)
{
    const struct constant *constant = call->op->constant.data;
    int64_t count = shape_elements(&constant->shape);
    if (call->element_bytes == sizeof(float))
        memcpy(call->output, constant->data, (size_t)count * sizeof(float));
    else
        own_narrow(constant->data, call->output, count);
}
