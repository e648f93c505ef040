/* Recurrent layers and what wraps them: between recurrent.c (cells and layers) and wrapper.c
 * (Bidirectional, TimeDistributed). Private to the layers. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_RECURRENT_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_RECURRENT_H

#include "engine/keras/layers/table.h"

/* States of all the cells of a layer: two for each LSTM. */
#define RECURRENT_STATES_MAX 64

/* How a recurrent layer is run. */
struct recurrent_run {
    int x, mask; /* graph values; mask -1: none */
    int states[RECURRENT_STATES_MAX];
    size_t state_count; /* 0: they begin at zero */
    bool backwards, flipped;
    bool sequences, want_states;
    enum masked_output masked;
};

/* What came out: y, then the states in Keras's order. */
struct recurrent_result {
    int y;
    int states[RECURRENT_STATES_MAX];
    size_t state_count;
};

/* Is this a class that recurrent_layer() runs? */
bool recurrent_is_layer(const char *class_name);

/* What a masked step puts out: with `zero` zeros, else Keras 3 repeats the state that it kept and
 * Keras 2 the last output, which is zeros before the first real step. */
enum masked_output recurrent_masked(struct call *call, bool zero);

/* The options of a recurrent layer from its configuration. */
struct recurrent_run recurrent_options(struct call *call);

/* Emit a recurrent layer of the given class, whose configuration is call->config; takes its weights.
 * False on failure. */
bool recurrent_layer(struct call *call, const char *class_name, const struct recurrent_run *run,
                     struct recurrent_result *result);

/* unrolled.c: step by step in ordinary ops, where op_recurrent does not do: a cell whose weights are
 * in `op`, and ConvLSTM with so many spatial axes. */
bool unrolled_cell(struct call *call, const struct op_recurrent *op,
                   const struct recurrent_run *run, struct recurrent_result *result);
bool conv_lstm(struct call *call, int spatial, const struct recurrent_run *run,
               struct recurrent_result *result);

/* The tensors of the call's initial state, in order; how many, 0 for none. */
size_t recurrent_states_of(struct call *call, int *states);

/* The mask of the sequence as a value. Keras 3 looks only at an explicit one where the call has an
 * initial state too: it fills in the mask of a call with one tensor alone. */
int recurrent_mask(struct call *call, size_t states);

/* A call of a layer inside the call's layer: `config` and inputs are its own, the weights follow on. */
struct call inner_call(const struct call *call, const json_t *config);

#endif
