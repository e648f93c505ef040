/* Recurrent layers step by step, in ordinary ops that all belong to the one layer: ConvLSTM, whose
 * product is a convolution, and cells with a function that is several ops. */
#include "engine/keras/layers/recurrent.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is the same for all steps. A state of -1 is zeros. */
struct unrolled {
    struct call *call;
    enum recurrent_cell cell;
    bool reset_after;
    int64_t units;
    int z;       /* (N, T, ..., gates * units): inputs times kernel, plus bias */
    int spatial; /* 0: cells; else the recurrent product is a convolution */
    struct op_conv conv;
    const struct constant *recurrent, *recurrent_bias; /* of a cell: (units, gates * units) */
    int h, c, out; /* out: of the step before, where masked steps repeat it */
    struct shape state_shape;
};

static int activation(struct unrolled *u, const char *key, const char *missing, int x)
{
    const json_t *value = json_object_get(u->call->config, key);
    json_t *usual = json_string(missing);
    int y = lower_activation(u->call, x, value ? value : usual);
    json_decref(usual);
    return y;
}

static int gate_function(struct unrolled *u, int x)
{
    bool old = config_keras_major(u->call) < 3;
    return activation(u, "recurrent_activation", old ? "hard_sigmoid" : "sigmoid", x);
}

/* Columns first * units .. (first + count) * units of the last axis. */
static int columns_of(struct unrolled *u, int x, int first, int count)
{
    const struct shape *shape = call_shape(u->call, x);
    struct op_slice slice = {.begin = {0}};
    if (x < 0)
        return -1;
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = shape->dims[i];
        slice.step[i] = 1;
    }
    slice.begin[shape->rank - 1] = first * u->units;
    slice.size[shape->rank - 1] = count * u->units;
    return emit_slice(u->call->low, x, &slice);
}

/* Time step t of (N, T, ...), without the axis. */
static int step_of(struct call *call, int x, int64_t t)
{
    const struct shape *shape = call_shape(call, x);
    struct op_slice slice = {.begin = {0}};
    struct shape without = {.rank = shape->rank - 1, .dims = {shape->dims[0]}};
    if (x < 0)
        return -1;
    for (int i = 0; i < shape->rank; i++) {
        slice.size[i] = i == 1 ? 1 : shape->dims[i];
        slice.step[i] = 1;
        if (i > 1)
            without.dims[i - 1] = shape->dims[i];
    }
    slice.begin[1] = t;
    return emit_reshape(call->low, emit_slice(call->low, x, &slice), &without);
}

/* State times the recurrent weights; -1 for a state of zeros. */
static int product(struct unrolled *u, int state)
{
    if (state < 0)
        return -1;
    if (u->spatial > 0)
        return emit_conv(u->call->low, state, &u->conv);
    return emit_matmul(u->call->low, state, u->recurrent, u->recurrent_bias);
}

static int plus(struct unrolled *u, int a, int b)
{
    return b < 0 ? a : emit_binary(u->call->low, BINARY_ADD, a, b);
}

static int times(struct unrolled *u, int a, int b)
{
    return emit_binary(u->call->low, BINARY_MULTIPLY, a, b);
}

static void lstm_step(struct unrolled *u, int z, int *h, int *c)
{
    z = plus(u, z, product(u, u->h));
    int in = gate_function(u, columns_of(u, z, 0, 1));
    int new = activation(u, "activation", "tanh", columns_of(u, z, 2, 1));
    *c = times(u, in, new);
    if (u->c >= 0)
        *c = plus(u, times(u, gate_function(u, columns_of(u, z, 1, 1)), u->c), *c);
    int out = gate_function(u, columns_of(u, z, 3, 1));
    *h = times(u, out, activation(u, "activation", "tanh", *c));
}

/* The part of a row of the recurrent weights that begins at a gate. */
static const struct constant *recurrent_columns(struct unrolled *u, int first, int count)
{
    const struct constant *all = u->recurrent;
    int64_t columns = all->shape.dims[1], width = count * u->units;
    struct shape shape = {.rank = 2, .dims = {u->units, width}};
    char role[64];
    float *data;
    snprintf(role, sizeof role, "recurrent %p %d %d", (const void *)all, first, count);
    const struct constant *part = call_constant(u->call, role, &shape, &data);
    for (int64_t i = 0; part && data && i < u->units; i++)
        memcpy(data + i * width, all->data + i * columns + first * u->units,
               (size_t)width * sizeof *data);
    return part;
}

static void gru_step(struct unrolled *u, int z, int *h)
{
    struct lowering *low = u->call->low;
    int update, candidate, h_product = -1;
    if (u->h < 0) { /* the first step starts from zeros: make them */
        u->h = emit_linear(low, columns_of(u, z, 0, 1), 0, 0);
    }
    if (u->reset_after) {
        h_product = product(u, u->h);
        int both = plus(u, columns_of(u, z, 0, 2), columns_of(u, h_product, 0, 2));
        update = gate_function(u, columns_of(u, both, 0, 1));
        candidate =
            times(u, gate_function(u, columns_of(u, both, 1, 1)), columns_of(u, h_product, 2, 1));
    } else {
        int both = emit_matmul(low, u->h, recurrent_columns(u, 0, 2), NULL);
        both = plus(u, columns_of(u, z, 0, 2), both);
        update = gate_function(u, columns_of(u, both, 0, 1));
        candidate = emit_matmul(low, times(u, gate_function(u, columns_of(u, both, 1, 1)), u->h),
                                recurrent_columns(u, 2, 1), NULL);
    }
    candidate = activation(u, "activation", "tanh", plus(u, columns_of(u, z, 2, 1), candidate));
    int rest = emit_linear(low, update, -1, 1);
    *h = plus(u, times(u, update, u->h), times(u, rest, candidate));
}

/* real != 0 ? a : b, where b may be zeros. */
static int choose(struct unrolled *u, int real, int a, int b)
{
    struct lowering *low = u->call->low;
    int rank = call_shape(u->call, a)->rank;
    return emit_select(low, real, a, NULL, b, b < 0 ? lowering_number(low, 0, rank) : NULL);
}

/* One step; its output. */
static int run_step(struct unrolled *u, const struct recurrent_run *run, int64_t t)
{
    struct call *call = u->call;
    int z = step_of(call, u->z, t), h = -1, c = -1;
    if (u->cell == CELL_LSTM)
        lstm_step(u, z, &h, &c);
    else if (u->cell == CELL_GRU)
        gru_step(u, z, &h);
    else
        h = activation(u, "activation", "tanh", plus(u, z, product(u, u->h)));
    int out = h;
    if (run->mask >= 0 && h >= 0) {
        struct shape wide = {.rank = call_shape(call, h)->rank,
                             .dims = {call_shape(call, h)->dims[0]}};
        for (int i = 1; i < wide.rank; i++)
            wide.dims[i] = 1;
        int real = emit_reshape(call->low, step_of(call, run->mask, t), &wide);
        out = choose(u, real, h, run->masked == MASKED_PREVIOUS ? u->out : -1);
        h = choose(u, real, h, u->h);
        if (run->masked == MASKED_STATE)
            out = h;
        if (u->cell == CELL_LSTM)
            c = choose(u, real, c, u->c);
    }
    u->h = h;
    u->c = c;
    u->out = out;
    return out;
}

static bool run_all(struct unrolled *u, const struct recurrent_run *run,
                    struct recurrent_result *result)
{
    struct call *call = u->call;
    int64_t steps = call_shape(call, u->z)->dims[1];
    int *outputs = xmalloc((size_t)steps * sizeof *outputs);
    u->out = -1;
    for (int64_t s = 0; s < steps && !call->low->failed; s++) {
        int out = run_step(u, run, run->backwards ? steps - 1 - s : s);
        if (out < 0)
            break;
        struct shape one = *call_shape(call, out);
        memmove(one.dims + 2, one.dims + 1, (size_t)(one.rank - 1) * sizeof *one.dims);
        one.dims[1] = 1;
        one.rank++;
        outputs[run->flipped ? steps - 1 - s : s] =
            run->sequences ? emit_reshape(call->low, out, &one) : out;
    }
    if (!call->low->failed)
        result->y = run->sequences ? emit_concat(call->low, outputs, (size_t)steps, 1) : u->out;
    free(outputs);
    if (run->want_states) {
        result->states[result->state_count++] = u->h;
        if (u->cell == CELL_LSTM)
            result->states[result->state_count++] = u->c;
    }
    return !call->low->failed;
}

bool unrolled_cell(struct call *call, const struct op_recurrent *op,
                   const struct recurrent_run *run, struct recurrent_result *result)
{
    struct lowering *low = call->low;
    struct unrolled u = {.call = call,
                         .cell = op->cell,
                         .reset_after = op->reset_after,
                         .units = op->units,
                         .recurrent = op->recurrent,
                         .h = run->state_count > 0 ? run->states[0] : -1,
                         .c = run->state_count > 1 ? run->states[1] : -1};
    const struct constant *bias = op->bias;
    if (bias && op->reset_after) { /* its rows */
        int64_t columns = bias->shape.dims[1];
        struct shape row = shape_of(1, &columns);
        float *first, *second;
        char role[64];
        snprintf(role, sizeof role, "bias %p", (const void *)op->bias);
        bias = call_constant(call, role, &row, &first);
        snprintf(role, sizeof role, "recurrent bias %p", (const void *)op->bias);
        u.recurrent_bias = call_constant(call, role, &row, &second);
        if (first)
            memcpy(first, op->bias->data, (size_t)columns * sizeof *first);
        if (second)
            memcpy(second, op->bias->data + columns, (size_t)columns * sizeof *second);
    }
    u.z = emit_matmul(low, run->x, op->kernel, bias);
    return !low->failed && run_all(&u, run, result);
}

/* ---- ConvLSTM ---- */

/* Geometry of the convolution of the inputs. */
static void input_conv(struct call *call, const struct shape *x, int spatial, struct op_conv *conv)
{
    conv->spatial = spatial;
    conv->groups = 1;
    config_ints(call, "kernel_size", spatial, 1, 1, conv->kernel);
    config_ints(call, "strides", spatial, 1, 1, conv->stride);
    config_ints(call, "dilation_rate", spatial, 1, 1, conv->dilation);
    padding_of(call, x, spatial, conv->kernel, conv->stride, conv->dilation, conv->pad_before,
               conv->pad_after);
}

/* The recurrent one: stride 1, and as large as the state. */
static void state_conv(int spatial, const int64_t *kernel, struct op_conv *conv)
{
    conv->spatial = spatial;
    conv->groups = 1;
    for (int i = 0; i < spatial; i++) {
        conv->kernel[i] = kernel[i];
        conv->stride[i] = conv->dilation[i] = 1;
        conv->pad_before[i] = (kernel[i] - 1) / 2;
        conv->pad_after[i] = kernel[i] - 1 - conv->pad_before[i];
    }
}

static bool conv_weights(struct call *call, int spatial, int64_t channels, int64_t filters,
                         struct op_conv *input, struct op_conv *state)
{
    struct shape kernel = {.rank = spatial + 2};
    int64_t columns = 4 * filters;
    struct shape bias = shape_of(1, &columns);
    for (int i = 0; i < spatial; i++)
        kernel.dims[i] = input->kernel[i];
    kernel.dims[spatial] = channels;
    kernel.dims[spatial + 1] = columns;
    input->weights = call_weight(call, "kernel", &kernel, NULL);
    kernel.dims[spatial] = filters;
    state->weights = call_weight(call, "recurrent_kernel", &kernel, NULL);
    if (config_bool(call, "use_bias", true))
        input->bias = call_weight(call, "bias", &bias, NULL);
    return !call->low->failed;
}

bool conv_lstm(struct call *call, int spatial, const struct recurrent_run *run,
               struct recurrent_result *result)
{
    struct lowering *low = call->low;
    bool first = config_channels_first(call);
    int x = run->x;
    if (x < 0 || call_shape(call, x)->rank != spatial + 3)
        return call_misfit(call, "its input should have rank %d", spatial + 3);
    if (first)
        x = emit_axis_to_end(low, x, 2);
    struct shape all = *call_shape(call, x), frames = {.rank = spatial + 2};
    frames.dims[0] = all.dims[0] * all.dims[1];
    memcpy(frames.dims + 1, all.dims + 2, (size_t)(spatial + 1) * sizeof *frames.dims);
    struct op_conv input = {.spatial = 0};
    int64_t filters = config_int(call, "filters", 1, 1);
    struct unrolled u = {
        .call = call, .cell = CELL_LSTM, .units = filters, .spatial = spatial, .h = -1, .c = -1};
    input_conv(call, &frames, spatial, &input);
    state_conv(spatial, input.kernel, &u.conv);
    if (!conv_weights(call, spatial, frames.dims[spatial + 1], filters, &input, &u.conv))
        return false;
    for (size_t i = 0; i < run->state_count && i < 2; i++)
        *(i ? &u.c : &u.h) = first ? emit_axis_to_end(low, run->states[i], 1) : run->states[i];
    int z = emit_conv(low, emit_reshape(low, x, &frames), &input);
    struct shape steps = {.rank = spatial + 3, .dims = {all.dims[0], all.dims[1]}};
    memcpy(steps.dims + 2, call_shape(call, z)->dims + 1,
           (size_t)(spatial + 1) * sizeof *steps.dims);
    u.z = emit_reshape(low, z, &steps);
    if (low->failed || !run_all(&u, run, result))
        return false;
    if (first) {
        result->y = emit_axis_from_end(low, result->y, run->sequences ? 2 : 1);
        for (size_t i = 0; i < result->state_count; i++)
            result->states[i] = emit_axis_from_end(low, result->states[i], 1);
    }
    return !low->failed;
}
