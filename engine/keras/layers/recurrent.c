/* SimpleRNN, LSTM and GRU in every spelling, and RNN over their cells. */
#include "engine/keras/layers/recurrent.h"
#include "engine/graph/constant.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *class_name;
    enum recurrent_cell cell;
    bool layer; /* else a cell for RNN */
    bool cudnn;
} CLASSES[] = {
    {"SimpleRNN", CELL_SIMPLE, true, false}, {"LSTM", CELL_LSTM, true, false},
    {"GRU", CELL_GRU, true, false},          {"CuDNNLSTM", CELL_LSTM, true, true},
    {"CuDNNGRU", CELL_GRU, true, true},      {"SimpleRNNCell", CELL_SIMPLE, false, false},
    {"LSTMCell", CELL_LSTM, false, false},   {"GRUCell", CELL_GRU, false, false},
};
#define CLASS_COUNT (sizeof CLASSES / sizeof *CLASSES)

static size_t class_find(const char *class_name)
{
    size_t i = 0;
    while (i < CLASS_COUNT && strcmp(CLASSES[i].class_name, class_name) != 0)
        i++;
    return i;
}

/* Spatial axes of ConvLSTM1D to 3D, 0 for another class. */
static int conv_rank(const char *class_name)
{
    if (strncmp(class_name, "ConvLSTM", 8) != 0 || class_name[8] < '1' || class_name[8] > '3')
        return 0;
    return class_name[8] - '0';
}

bool recurrent_is_layer(const char *class_name)
{
    size_t i = class_find(class_name);
    return strcmp(class_name, "RNN") == 0 || conv_rank(class_name) > 0 ||
           (i < CLASS_COUNT && CLASSES[i].layer);
}

struct call inner_call(const struct call *call, const json_t *config)
{
    struct call inner = *call;
    inner.config = config;
    inner.input_masks = NULL;
    inner.outputs = NULL;
    inner.output_masks = NULL;
    inner.output_count = 0;
    return inner;
}

/* ---- weights ---- */

/* What cuDNN keeps for each gate, seen as (in, units) in row-major order, is the matrix (units, in)
 * that it multiplies from the left: turn each gate's round. */
static const struct constant *cudnn_matrix(struct call *call, const char *name, int64_t in,
                                           int64_t units, int64_t gates)
{
    int64_t dims[2] = {in, units * gates};
    struct shape shape = shape_of(2, dims);
    char role[64];
    float *data;
    snprintf(role, sizeof role, "cudnn %zu", call->next_weight);
    const struct model_weight *weight = call_raw_weight(call, name, &shape);
    const struct constant *turned = weight ? call_constant(call, role, &shape, &data) : NULL;
    for (int64_t i = 0; turned && data && i < in; i++) {
        for (int64_t g = 0; g < gates; g++) {
            for (int64_t j = 0; j < units; j++) {
                int64_t flat = j * in + i; /* within the gate's columns, read row by row */
                int64_t from = flat / units * units * gates + g * units + flat % units;
                data[i * units * gates + g * units + j] =
                    (float)weight_element(weight, (size_t)from);
            }
        }
    }
    return turned;
}

/* cuDNN has two biases: LSTM adds them up, GRU keeps them as the rows of (2, columns). */
static const struct constant *cudnn_bias(struct call *call, enum recurrent_cell cell,
                                         int64_t columns)
{
    int64_t length = 2 * columns, dims[2] = {2, columns};
    struct shape flat = shape_of(1, &length);
    struct shape as = cell == CELL_LSTM ? shape_of(1, &columns) : shape_of(2, dims);
    if (cell != CELL_LSTM)
        return call_weight(call, "bias", &flat, &as);
    char role[64];
    float *data;
    snprintf(role, sizeof role, "cudnn %zu", call->next_weight);
    const struct model_weight *weight = call_raw_weight(call, "bias", &flat);
    const struct constant *sum = weight ? call_constant(call, role, &as, &data) : NULL;
    for (int64_t i = 0; sum && data && i < columns; i++)
        data[i] = (float)(weight_element(weight, (size_t)i) +
                          weight_element(weight, (size_t)(columns + i)));
    return sum;
}

/* A file may hold the weights of a cuDNN layer for one of the ordinary class: they show it by a bias
 * of twice the length. */
static bool holds_cudnn(const struct call *call, enum recurrent_cell cell, int64_t columns)
{
    size_t third = call->next_weight + 2;
    if (cell == CELL_SIMPLE || third >= call->layer->weight_count)
        return false;
    const struct model_weight *bias = &call->layer->weights[third];
    return bias->shape.rank == 1 && bias->shape.dims[0] == 2 * columns;
}

static void take_weights(struct call *call, struct op_recurrent *op, int64_t features, bool cudnn)
{
    int64_t gates = recurrent_gates(op->cell), columns = gates * op->units;
    int64_t kernel_dims[2] = {features, columns}, recurrent_dims[2] = {op->units, columns};
    int64_t bias_dims[2] = {2, columns};
    if (cudnn || holds_cudnn(call, op->cell, columns)) {
        op->reset_after = op->cell == CELL_GRU;
        op->kernel = cudnn_matrix(call, "kernel", features, op->units, gates);
        op->recurrent = cudnn_matrix(call, "recurrent_kernel", op->units, op->units, gates);
        op->bias = cudnn_bias(call, op->cell, columns);
        return;
    }
    struct shape kernel = shape_of(2, kernel_dims), recurrent = shape_of(2, recurrent_dims);
    struct shape bias = op->reset_after ? shape_of(2, bias_dims) : shape_of(1, &columns);
    op->kernel = call_weight(call, "kernel", &kernel, NULL);
    op->recurrent = call_weight(call, "recurrent_kernel", &recurrent, NULL);
    if (config_bool(call, "use_bias", true))
        op->bias = call_weight(call, "bias", &bias, NULL);
}

/* ---- cells ---- */

/* False for a function that is several ops. */
static bool function_of(struct call *call, const char *key, const char *missing,
                        struct op_unary *function)
{
    const json_t *value = json_object_get(call->config, key);
    json_t *usual = json_string(missing);
    bool one = activation_unary(call, value ? value : usual, function);
    json_decref(usual);
    return one;
}

/* One cell over the sequence; `call` has the cell's configuration. */
static bool run_cell(struct call *call, size_t class, const struct recurrent_run *run,
                     struct recurrent_result *result)
{
    struct lowering *low = call->low;
    enum recurrent_cell cell = CLASSES[class].cell;
    bool old = config_keras_major(call) < 3 && !CLASSES[class].cudnn;
    struct op_recurrent op = {.cell = cell,
                              .units = config_int(call, "units", 1, 1),
                              .backwards = run->backwards,
                              .flipped = run->flipped,
                              .sequences = run->sequences,
                              .states = run->want_states,
                              .has_mask = run->mask >= 0,
                              .has_state = run->state_count > 0,
                              .masked = run->masked};
    bool one = function_of(call, "activation", "tanh", &op.activation);
    if (cell != CELL_SIMPLE) /* written by all but the first of Keras 2 */
        one &=
            function_of(call, "recurrent_activation", old ? "hard_sigmoid" : "sigmoid", &op.gate);
    if (cell == CELL_GRU)
        op.reset_after = config_bool(call, "reset_after", !old);
    if (low->failed)
        return false;
    const struct shape *x = call_shape(call, run->x);
    if (x->rank != 3)
        return call_misfit(call, "its input has rank %d and should have 3", x->rank);
    take_weights(call, &op, x->dims[2], CLASSES[class].cudnn);
    if (low->failed)
        return false;
    int inputs[4] = {run->x}, outputs[3];
    size_t count = 1, wanted = cell == CELL_LSTM ? 2 : 1;
    if (op.has_mask)
        inputs[count++] = run->mask;
    if (op.has_state && run->state_count != wanted)
        return call_misfit(call, "it is given %zu initial states and has %zu", run->state_count,
                           wanted);
    for (size_t i = 0; i < run->state_count; i++)
        inputs[count++] = run->states[i];
    if (!one)
        return unrolled_cell(call, &op, run, result);
    size_t given = emit_recurrent(low, inputs, count, &op, outputs);
    if (given == 0)
        return false;
    result->y = outputs[0];
    result->state_count = given - 1;
    for (size_t i = 1; i < given; i++)
        result->states[i - 1] = outputs[i];
    return true;
}

/* Cells on top of each other run as layers on top of each other: at a masked step all of them keep
 * their states, and what a lower one puts out then is not looked at. */
struct stack {
    const json_t *cells[RECURRENT_STATES_MAX / 2];
    size_t count;
    bool reverse_states;
};

static bool collect(struct call *call, const json_t *cell, struct stack *stack)
{
    const char *class_name = json_string_value(json_object_get(cell, "class_name"));
    const json_t *config = json_object_get(cell, "config");
    const json_t *cells = json_object_get(config, "cells");
    if (class_name && strcmp(class_name, "StackedRNNCells") == 0) {
        if (json_is_true(json_object_get(config, "reverse_state_order")))
            stack->reverse_states = true;
        for (size_t i = 0; i < json_array_size(cells); i++) {
            if (!collect(call, json_array_get(cells, i), stack))
                return false;
        }
        return true;
    }
    if (stack->count == sizeof stack->cells / sizeof *stack->cells)
        return call_refuse(call, "more than %zu cells on top of each other", stack->count);
    if (!class_name || class_find(class_name) == CLASS_COUNT)
        return call_refuse(call, "its cell '%.60s' is not supported",
                           class_name ? class_name : "(no name)");
    stack->cells[stack->count++] = cell;
    return true;
}

static size_t states_of_class(size_t class)
{
    return CLASSES[class].cell == CELL_LSTM ? 2 : 1;
}

/* Where the states of cell `index` begin among all. */
static size_t states_before(const struct stack *stack, size_t index)
{
    size_t before = 0;
    for (size_t i = 0; i < stack->count; i++) {
        bool earlier = stack->reverse_states ? i > index : i < index;
        const char *name = json_string_value(json_object_get(stack->cells[i], "class_name"));
        before += earlier ? states_of_class(class_find(name)) : 0;
    }
    return before;
}

static bool run_stack(struct call *call, const struct stack *stack, const struct recurrent_run *run,
                      struct recurrent_result *result)
{
    int x = run->x;
    for (size_t i = 0; i < stack->count; i++) {
        struct recurrent_run one = *run;
        struct recurrent_result given = {.y = -1};
        bool top = i + 1 == stack->count;
        size_t class =
            class_find(json_string_value(json_object_get(stack->cells[i], "class_name")));
        size_t first = states_before(stack, i), own = states_of_class(class);
        one.x = x;
        if (!top) {
            one.sequences = true;
            one.flipped = one.backwards; /* as its input */
            one.masked = MASKED_STATE;
        }
        if (run->state_count > 0) {
            if (first + own > run->state_count)
                return call_misfit(call, "it is given %zu initial states, too few",
                                   run->state_count);
            one.state_count = own;
            memcpy(one.states, run->states + first, own * sizeof *one.states);
        }
        struct call inner = inner_call(call, json_object_get(stack->cells[i], "config"));
        if (!run_cell(&inner, class, &one, &given))
            return false;
        call->next_weight = inner.next_weight;
        x = given.y;
        memcpy(result->states + first, given.states, given.state_count * sizeof *given.states);
        result->state_count += given.state_count;
    }
    result->y = x;
    return true;
}

/* ---- layers ---- */

enum masked_output recurrent_masked(struct call *call, bool zero)
{
    bool three = config_keras_major(call) >= 3, unroll = config_bool(call, "unroll", false);
    if (three && unroll) /* zero_output_for_mask is not looked at */
        return MASKED_PREVIOUS;
    return zero ? MASKED_ZERO : three ? MASKED_STATE : MASKED_PREVIOUS;
}

struct recurrent_run recurrent_options(struct call *call)
{
    struct recurrent_run run = {.x = -1,
                                .mask = -1,
                                .backwards = config_bool(call, "go_backwards", false),
                                .sequences = config_bool(call, "return_sequences", false),
                                .want_states = config_bool(call, "return_state", false)};
    run.masked = recurrent_masked(call, config_bool(call, "zero_output_for_mask", false));
    return run;
}

/* (N, T, ...) to (T, N, ...) and back. */
static int swap_time(struct call *call, int x)
{
    int permutation[TENSOR_RANK_MAX], rank = call_shape(call, x)->rank;
    for (int i = 0; i < rank; i++)
        permutation[i] = i < 2 && rank > 1 ? 1 - i : i;
    return x < 0 ? -1 : emit_transpose(call->low, x, permutation);
}

static bool run_layer(struct call *call, const char *class_name, const struct recurrent_run *run,
                      struct recurrent_result *result)
{
    size_t class = class_find(class_name);
    struct recurrent_run flat = *run;
    *result = (struct recurrent_result){.y = -1};
    if (call->low->failed)
        return false;
    if (flat.mask >= 0 && call_shape(call, flat.mask)->rank > 2) {
        /* a step is real if any of it is */
        bool axes[TENSOR_RANK_MAX] = {false};
        for (int i = 2; i < call_shape(call, flat.mask)->rank; i++)
            axes[i] = true;
        flat.mask = emit_reduce(call->low, flat.mask, REDUCE_MAX, axes, false);
    }
    if (class < CLASS_COUNT)
        return run_cell(call, class, &flat, result);
    if (conv_rank(class_name) > 0)
        return conv_lstm(call, conv_rank(class_name), &flat, result);
    struct stack stack = {.count = 0};
    const json_t *cell = json_object_get(call->config, "cell");
    if (json_is_array(cell)) { /* RNN([cell, ...]) of Keras 2 */
        for (size_t i = 0; i < json_array_size(cell); i++) {
            if (!collect(call, json_array_get(cell, i), &stack))
                return false;
        }
    } else if (!collect(call, cell, &stack)) {
        return false;
    }
    if (stack.count == 0)
        return call_refuse(call, "it has no cell");
    return run_stack(call, &stack, &flat, result);
}

/* With `time_major` (Keras 2) the sequence comes and goes with its steps in front of its samples, and
 * so does its mask. */
bool recurrent_layer(struct call *call, const char *class_name, const struct recurrent_run *run,
                     struct recurrent_result *result)
{
    struct recurrent_run turned = *run;
    if (!config_bool(call, "time_major", false))
        return run_layer(call, class_name, run, result);
    turned.x = swap_time(call, run->x);
    turned.mask = swap_time(call, run->mask);
    if (!run_layer(call, class_name, &turned, result))
        return false;
    if (run->sequences)
        result->y = swap_time(call, result->y);
    return result->y >= 0;
}

/* Every tensor of a nest of lists, in order. */
static void flatten(struct call *call, const json_t *value, int *states, size_t *count)
{
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            flatten(call, json_array_get(value, i), states, count);
        return;
    }
    const json_t *index = json_object_get(value, "tensor");
    if (!json_is_integer(index))
        call_refuse(call, "an initial state that is no tensor of the model is not supported");
    else if (*count < RECURRENT_STATES_MAX)
        states[(*count)++] = call_input(call, (size_t)json_integer_value(index));
    else
        call_refuse(call, "too many initial states");
}

size_t recurrent_states_of(struct call *call, int *states)
{
    size_t count = 0;
    if (!call->node)
        return 0;
    const json_t *value = json_object_get(call->node->kwargs, "initial_state");
    const json_t *second = json_array_get(call->node->args, 1);
    if (!value)
        value = second;
    if (json_object_get(call->node->kwargs, "constants"))
        call_refuse(call, "the cells of Keras take no constants, and those of others do not run");
    if (value && !json_is_null(value))
        flatten(call, value, states, &count);
    return count;
}

int recurrent_mask(struct call *call, size_t states)
{
    bool said = call->node && json_object_get(call->node->kwargs, "mask");
    return said || states == 0 || config_keras_major(call) < 3 ? call_mask(call, 0) : -1;
}

bool lower_recurrent(struct call *call)
{
    struct recurrent_run run = recurrent_options(call);
    struct recurrent_result result;
    run.x = call_input(call, 0);
    run.state_count = recurrent_states_of(call, run.states);
    run.mask = recurrent_mask(call, run.state_count);
    if (!recurrent_layer(call, call->row->class_name, &run, &result) ||
        !call_return(call, result.y))
        return false;
    if (run.sequences)
        call_set_mask(call, 0, mask_of_input(call, 0));
    for (size_t i = 0; i < result.state_count; i++)
        call_return(call, result.states[i]);
    return true;
}
