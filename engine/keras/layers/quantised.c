/* Keras: keras/src/quantizers (abs_max_quantize) and the _int8_call of its layers. */
#include "engine/keras/layers/quantised.h"
#include "engine/graph/constant.h"

#include <math.h>
#include <string.h>

enum quantised_mode quantised_mode(struct call *call)
{
    const char *policy = config_string(call, "dtype", "");
    return strncmp(policy, "int8_from_", 10) == 0     ? QUANTISED_INT8
           : strncmp(policy, "int4/", 5) == 0         ? QUANTISED_INT4
           : strncmp(policy, "int4_from_", 10) == 0   ? QUANTISED_INT4
           : strncmp(policy, "gptq/", 5) == 0         ? QUANTISED_GPTQ
           : strncmp(policy, "awq/", 4) == 0          ? QUANTISED_GPTQ
           : strncmp(policy, "float8_from_", 12) == 0 ? QUANTISED_FLOAT8
                                                      : QUANTISED_NONE;
}

bool quantised_packed(struct call *call)
{
    return quantised_mode(call) == QUANTISED_INT4 || quantised_mode(call) == QUANTISED_GPTQ;
}

/* The configuration of what rounds the input; *given: the file says something about it. */
static const json_t *rounding(struct call *call, bool *given)
{
    const json_t *whole = json_object_get(call->config, "quantization_config");
    const json_t *config = json_object_get(whole, "config");
    *given = json_is_object(config) && json_object_get(config, "activation_quantizer") != NULL;
    return json_object_get(json_object_get(config, "activation_quantizer"), "config");
}

int quantised_input(struct call *call, int x, const bool *axes, int *scale)
{
    struct lowering *low = call->low;
    bool given;
    const json_t *config = rounding(call, &given);
    const json_t *range = json_object_get(config, "value_range");
    const json_t *epsilon = json_object_get(config, "epsilon");
    double most = 127, least = -127;
    *scale = -1;
    if (given && !json_is_object(config))
        return x; /* weights alone */
    if (json_array_size(range) == 2) {
        least = json_number_value(json_array_get(range, 0));
        most = json_number_value(json_array_get(range, 1));
    }
    if (!(least >= -128 && least < most && most > 0 && most <= 127)) {
        call_misfit(call, "its quantizer's value_range is no range of 8-bit integers");
        return -1;
    }
    int largest = emit_reduce(low, emit_unary(low, x, UNARY_ABS, 0, 0), REDUCE_MAX, axes, true);
    largest =
        emit_linear(low, largest, 1, json_is_number(epsilon) ? json_number_value(epsilon) : 1e-7);
    if (largest < 0)
        return -1;
    const struct constant *top = lowering_number(low, most, call_shape(call, largest)->rank);
    *scale = emit_binary_constant(low, BINARY_DIVIDE, largest, top, true);
    int whole = emit_unary(low, emit_binary(low, BINARY_MULTIPLY, x, *scale), UNARY_ROUND, 0, 0);
    return emit_unary(low, whole, UNARY_CLIP, least, most);
}

int quantised_result(struct call *call, int y, int scale, const struct shape *stored,
                     const struct shape *wide)
{
    const struct constant *own = call_weight(call, "scale", stored, wide);
    if (call->low->failed)
        return -1;
    y = emit_binary_constant(call->low, BINARY_DIVIDE, y, own, false);
    return scale < 0 ? y : emit_binary(call->low, BINARY_DIVIDE, y, scale);
}

/* ---- int4 ---- */

/* Does the policy, "int4/128_from_float32", name blocks? "int4_from_float32" has none. */
static bool has_blocks(struct call *call)
{
    const char *policy = config_string(call, "dtype", "");
    return strncmp(policy, "int4/", 5) == 0 && strncmp(policy, "int4/-1_", 8) != 0;
}

/* Number `at` of a row of packed integers: the even ones are the low nibbles. */
static double nibble(const struct model_weight *packed, size_t row, size_t row_bytes, size_t at)
{
    unsigned byte = (unsigned)weight_element(packed, row * row_bytes + at / 2) & 0xFF;
    int value = (int)(at % 2 ? byte >> 4 : byte & 15);
    return value > 7 ? value - 16 : value;
}

/* The weight of the layer at a place; its shape is checked by who reads it. */
static const struct model_weight *weight_at(struct call *call, size_t index)
{
    if (index >= call->layer->weight_count) {
        call_misfit(call, "its file lacks a part of its quantised weights");
        return NULL;
    }
    return &call->layer->weights[index];
}

static bool weight_has(const struct model_weight *weight, int64_t rows, int64_t columns)
{
    const struct shape *shape = &weight->shape;
    return columns == 0 ? shape->rank == 1 && shape->dims[0] == rows
                        : shape->rank == 2 && shape->dims[0] == rows && shape->dims[1] == columns;
}

/* Where the weights behind kernel and bias begin. */
static size_t extras_at(const struct call *call, size_t extras)
{
    return call->layer->weight_count - extras;
}

/* rows x columns integers, times a scale a column or, less a zero, times one a block of rows. */
static const struct constant *unpack_kernel(struct call *call, const struct shape *kernel)
{
    bool blocks = has_blocks(call);
    size_t first = extras_at(call, blocks ? 3 : 1);
    const struct model_weight *packed = weight_at(call, 0), *scale = weight_at(call, first);
    const struct model_weight *zero = blocks ? weight_at(call, first + 1) : NULL;
    const struct model_weight *block = blocks ? weight_at(call, first + 2) : NULL;
    if (!packed || !scale || (blocks && (!zero || !block)) || packed->shape.rank != 2)
        return NULL;
    int64_t rows = packed->shape.dims[0], total = shape_elements(kernel);
    int64_t columns = rows > 0 ? total / rows : 0;
    int64_t groups = scale->shape.rank == 2 ? scale->shape.dims[0] : 1;
    bool fits = columns * rows == total && packed->shape.dims[1] == (columns + 1) / 2 &&
                weight_has(scale, blocks ? groups : columns, blocks ? columns : 0) &&
                (!blocks || (weight_has(zero, groups, columns) && weight_has(block, rows, 0)));
    if (!fits || packed->dtype != DTYPE_I8) {
        call_misfit(call, "its packed kernel does not fit its configuration");
        return NULL;
    }
    float *data;
    const struct constant *made = call_constant(call, "unpacked kernel", kernel, &data);
    for (int64_t i = 0; made && data && i < total; i++) {
        int64_t row = i / columns, column = i % columns;
        double value = nibble(packed, (size_t)row, (size_t)(columns + 1) / 2, (size_t)column);
        if (!blocks) {
            data[i] = (float)value / (float)weight_element(scale, (size_t)column);
            continue;
        }
        int64_t group = (int64_t)weight_element(block, (size_t)row);
        size_t at = (size_t)((group < 0 || group >= groups ? 0 : group) * columns + column);
        data[i] = (float)(value - weight_element(zero, at)) * (float)weight_element(scale, at);
    }
    return made;
}

const struct constant *quantised_rows(struct call *call, const struct shape *table)
{
    bool blocks = has_blocks(call);
    const struct model_weight *packed = weight_at(call, 0), *scale = weight_at(call, 1);
    const struct model_weight *zero = blocks ? weight_at(call, 2) : NULL;
    const struct model_weight *block = blocks ? weight_at(call, 3) : NULL;
    int64_t rows = table->dims[0], width = table->dims[1];
    if (!packed || !scale || (blocks && (!zero || !block)))
        return NULL;
    int64_t groups = blocks && scale->shape.rank == 2 ? scale->shape.dims[1] : 0;
    bool fits = weight_has(packed, rows, (width + 1) / 2) && weight_has(scale, rows, groups) &&
                (!blocks || (weight_has(zero, rows, groups) && weight_has(block, width, 0)));
    if (!fits || packed->dtype != DTYPE_I8 || (blocks && groups == 0)) {
        call_misfit(call, "its packed rows do not fit its configuration");
        return NULL;
    }
    float *data;
    const struct constant *made = call_constant(call, "unpacked rows", table, &data);
    for (int64_t i = 0; made && data && i < rows * width; i++) {
        int64_t row = i / width, column = i % width;
        double value = nibble(packed, (size_t)row, (size_t)(width + 1) / 2, (size_t)column);
        if (!blocks) {
            data[i] = (float)value / (float)weight_element(scale, (size_t)row);
            continue;
        }
        int64_t group = (int64_t)weight_element(block, (size_t)column);
        size_t at = (size_t)(row * groups + (group < 0 || group >= groups ? 0 : group));
        data[i] = (float)(value - weight_element(zero, at)) * (float)weight_element(scale, at);
    }
    call_skip_weights(call);
    return made;
}

/* ---- gptq and awq ---- */

/* Integer of `bits` for output `column` and input `row` of a transposed kernel: several outputs a
 * byte, from its low bits on. */
static double packed_integer(const struct model_weight *packed, int64_t rows, int64_t row,
                             int64_t column, int bits)
{
    int64_t each = 8 / bits;
    unsigned byte = (unsigned)weight_element(packed, (size_t)(column / each * rows + row));
    return (double)(byte >> (column % each * bits) & ((1U << bits) - 1));
}

/* Keras: keras/src/layers/core/dense.py, _gptq_call and _awq_call. The last weights are kernel, scale,
 * zero, (awq: scales of the inputs,) block of each input. */
static const struct constant *unpack_gptq(struct call *call, const struct shape *kernel)
{
    const char *policy = config_string(call, "dtype", "");
    bool awq = policy[0] == 'a';
    int bits = policy[awq ? 4 : 5] - '0';
    size_t extras = awq ? 5 : 4;
    if (call->layer->weight_count < extras) {
        call_misfit(call, "its file lacks a part of its quantised weights");
        return NULL;
    }
    const struct model_weight *part = &call->layer->weights[call->layer->weight_count - extras];
    const struct model_weight *packed = part, *scale = part + 1, *zero = part + 2;
    const struct model_weight *inputs = awq ? part + 3 : NULL, *block = part + extras - 1;
    int64_t columns = scale->shape.dims[0], groups = scale->shape.dims[1],
            rows = block->shape.dims[0];
    if (packed->shape.rank == 2 && packed->shape.dims[0] == columns)
        bits = 8; /* one a byte: 3 bits, and 2 before Keras 3.16 */
    bool known = bits == 2 || bits == 4 || bits == 8;
    int64_t each = known ? 8 / bits : 1;
    bool fits = known && scale->shape.rank == 2 && groups > 0 && rows > 0 && columns > 0 &&
                packed->dtype == DTYPE_U8 && rows <= shape_elements(kernel) &&
                rows * columns == shape_elements(kernel) &&
                weight_has(packed, (columns + each - 1) / each, rows) &&
                weight_has(zero, columns, groups) && weight_has(block, rows, 0) &&
                (!awq || weight_has(inputs, rows, 0));
    if (!fits) {
        call_misfit(call, "its packed kernel does not fit its configuration");
        return NULL;
    }
    float *data;
    const struct constant *made = call_constant(call, "unpacked kernel", kernel, &data);
    for (int64_t i = 0; made && data && i < rows * columns; i++) {
        int64_t row = i / columns, column = i % columns;
        int64_t group = (int64_t)weight_element(block, (size_t)row);
        size_t at = (size_t)(column * groups + (group < 0 || group >= groups ? 0 : group));
        double value = packed_integer(packed, rows, row, column, bits) - weight_element(zero, at);
        data[i] = (float)value * (float)weight_element(scale, at);
        if (awq)
            data[i] /= (float)weight_element(inputs, (size_t)row);
    }
    return made;
}

/* ---- float8 ---- */

#define FLOAT8_EXTRAS                                                                              \
    6 /* inputs: scale, history; kernel: the same; gradients of outputs: the same */
#define FLOAT8_MOST 448.0

static double float8_scale(struct call *call, size_t index)
{
    const struct model_weight *scale = weight_at(call, extras_at(call, FLOAT8_EXTRAS) + index);
    if (!scale)
        return 1;
    double value = shape_elements(&scale->shape) == 1 ? weight_element(scale, 0) : 0;
    if (!(value > 0))
        call_misfit(call, "a scale of its float8 weights is no positive number");
    return value > 0 ? value : 1;
}

/* The nearest number of float8_e4m3fn. */
static float to_float8(float x)
{
    float size = fabsf(x);
    int exponent = 0;
    frexpf(size, &exponent);
    float step = ldexpf(1, exponent - 4 > -9 ? exponent - 4 : -9);
    return size <= (float)FLOAT8_MOST ? rintf(x / step) * step
           : isnan(x)                 ? x
                                      : copysignf((float)FLOAT8_MOST, x);
}

static const struct constant *round_kernel(struct call *call, const struct shape *kernel)
{
    float *data, scale = (float)float8_scale(call, 2);
    const struct model_weight *stored = weight_at(call, 0);
    if (!stored || !shape_equal(&stored->shape, kernel)) {
        call_misfit(call, "its kernel does not fit its configuration");
        return NULL;
    }
    const struct constant *made = call_constant(call, "float8 kernel", kernel, &data);
    for (int64_t i = 0; made && data && i < shape_elements(kernel); i++)
        data[i] = to_float8((float)weight_element(stored, (size_t)i) / scale) * scale;
    return made;
}

const struct constant *quantised_kernel(struct call *call, const struct shape *kernel)
{
    enum quantised_mode mode = quantised_mode(call);
    return mode == QUANTISED_INT4   ? unpack_kernel(call, kernel)
           : mode == QUANTISED_GPTQ ? unpack_gptq(call, kernel)
                                    : round_kernel(call, kernel);
}

/* Keras rounds the bias of a float8 layer that computes in float32 to bfloat16. */
static float to_bfloat16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (!isnan(x))
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

const struct constant *quantised_bias(struct call *call, const struct shape *bias,
                                      const struct shape *wide)
{
    float *data;
    const struct model_weight *stored = weight_at(call, quantised_mode(call) != QUANTISED_GPTQ);
    bool rounded = quantised_mode(call) == QUANTISED_FLOAT8 &&
                   strstr(config_string(call, "dtype", ""), "_from_float32") != NULL;
    if (!stored || !shape_equal(&stored->shape, bias)) {
        call_misfit(call, "its bias does not fit its configuration");
        return NULL;
    }
    const struct constant *made = call_constant(call, "quantised bias", wide, &data);
    for (int64_t i = 0; made && data && i < shape_elements(bias); i++) {
        data[i] = (float)weight_element(stored, (size_t)i);
        if (rounded)
            data[i] = to_bfloat16(data[i]);
    }
    return made;
}

int quantised_operand(struct call *call, int x, const bool *axes, int *scale)
{
    struct lowering *low = call->low;
    bool given;
    *scale = -1;
    if (quantised_mode(call) == QUANTISED_INT4)
        return !has_blocks(call) && json_is_object(rounding(call, &given))
                   ? quantised_input(call, x, axes, scale)
                   : x;
    if (quantised_mode(call) == QUANTISED_GPTQ)
        return x;
    double own = float8_scale(call, 0);
    const struct constant *number = lowering_number(low, own, call_shape(call, x)->rank);
    x = emit_binary_constant(low, BINARY_DIVIDE, x, number, false);
    x = emit_unary(low, x, UNARY_CLIP, -FLOAT8_MOST, FLOAT8_MOST);
    return emit_linear(low, emit_unary(low, x, UNARY_FLOAT8, 0, 0), own, 0);
}
