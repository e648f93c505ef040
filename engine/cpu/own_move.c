/* Loops that only move numbers: pad, slice, concat, transpose, resize. */
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

static void fill(float *y, int64_t count, float value)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = value;
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
        float *y = call->output + row * width;
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
            fill(y, width, pad->value);
            continue;
        }
        fill(y, pad->before[last], pad->value);
        memcpy(y + pad->before[last], call->inputs[0] + from, (size_t)copied * sizeof *y);
        fill(y + pad->before[last] + copied, pad->after[last], pad->value);
    }
}

void own_slice(const struct own_call *call)
{
    const struct op_slice *slice = &call->op->slice;
    const struct shape *in = in_shape(call, 0), *out = out_shape(call);
    int last = in->rank - 1;
    if (last < 0) {
        call->output[0] = call->inputs[0][0];
        return;
    }
    int64_t width = out->dims[last], rows = shape_elements(out) / width, step = slice->step[last];
#pragma omp parallel for if (rows * width > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        float *y = call->output + row * width;
        int64_t rest = row, from = slice->begin[last], stride = in->dims[last];
        for (int i = last - 1; i >= 0; i--) {
            from += (slice->begin[i] + rest % out->dims[i] * slice->step[i]) * stride;
            rest /= out->dims[i];
            stride *= in->dims[i];
        }
        if (step == 1) {
            memcpy(y, call->inputs[0] + from, (size_t)width * sizeof *y);
            continue;
        }
        for (int64_t i = 0; i < width; i++)
            y[i] = call->inputs[0][from + i * step];
    }
}

/* Each input is `rows` runs; they land side by side in the output's rows. */
void own_concat(const struct own_call *call)
{
    const struct shape *out = out_shape(call);
    int axis = call->op->concat.axis;
    int64_t rows = 1, width = 1, at = 0;
    for (int i = 0; i < out->rank; i++)
        *(i < axis ? &rows : &width) *= out->dims[i];
    for (size_t input = 0; input < call->op->input_count; input++) {
        const struct shape *in = in_shape(call, input);
        const float *x = call->inputs[input];
        int64_t run = shape_elements(in) / rows;
#pragma omp parallel for if (rows * run > OWN_PARALLEL)
        for (int64_t row = 0; row < rows; row++)
            memcpy(call->output + row * width + at, x + row * run, (size_t)run * sizeof *x);
        at += run;
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
        float *y = call->output + row * width;
        for (int64_t i = 0; i < width; i++)
            y[i] = call->inputs[0][from + i * moved[last]];
    }
}

/* Where output cell i reads, with half-pixel centres: the two cells and the share of the second. */
static void taps(int64_t i, int64_t in, int64_t out, int64_t *low, int64_t *high, float *share)
{
    double at = ((double)i + 0.5) * (double)in / (double)out - 0.5;
    at = at < 0 ? 0 : at;
    *low = (int64_t)at;
    *low = *low > in - 1 ? in - 1 : *low;
    *high = *low + 1 < in ? *low + 1 : in - 1;
    *share = (float)(at - (double)*low);
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

void own_resize(const struct own_call *call)
{
    const struct shape *in = in_shape(call, 0), *out = out_shape(call);
    int64_t height = out->dims[1], width = out->dims[2], channels = out->dims[3];
    bool nearest = call->op->resize.function == RESIZE_NEAREST;
    int64_t rows = out->dims[0] * height;
#pragma omp parallel for if (rows * width * channels > OWN_PARALLEL)
    for (int64_t row = 0; row < rows; row++) {
        const float *image = call->inputs[0] + row / height * in->dims[1] * in->dims[2] * channels;
        int64_t top, bottom, left, right;
        float down, over;
        taps(row % height, in->dims[1], height, &top, &bottom, &down);
        if (nearest) /* floor((i + 1/2) in / out), in integers */
            top = (2 * (row % height) + 1) * in->dims[1] / (2 * height);
        for (int64_t x = 0; x < width; x++) {
            float *y = call->output + (row * width + x) * channels;
            if (nearest) {
                left = (2 * x + 1) * in->dims[2] / (2 * width);
                memcpy(y, image + (top * in->dims[2] + left) * channels,
                       (size_t)channels * sizeof *y);
                continue;
            }
            taps(x, in->dims[2], width, &left, &right, &over);
            const float *upper = image + top * in->dims[2] * channels;
            const float *lower = image + bottom * in->dims[2] * channels;
            blend(upper + left * channels, upper + right * channels, lower + left * channels,
                  lower + right * channels, over, down, y, channels);
        }
    }
}
