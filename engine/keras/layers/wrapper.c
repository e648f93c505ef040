/* Layers that run another layer: forwards and backwards, or on every time step. */
#include "engine/keras/layers/recurrent.h"
#include <stdlib.h>
#include <string.h>

/* ---- Bidirectional ---- */

struct direction {
    const char *class_name;
    const json_t *config;
    struct recurrent_run run;
    struct recurrent_result result;
};

/* Read one direction's layer. The backward one is the forward one turned round unless the file has
 * its own. */
static bool read_direction(struct call *call, struct direction *direction, const json_t *object)
{
    direction->class_name = json_string_value(json_object_get(object, "class_name"));
    direction->config = json_object_get(object, "config");
    if (!direction->class_name || !recurrent_is_layer(direction->class_name))
        return call_refuse(call, "its layer '%.60s' is not supported",
                           direction->class_name ? direction->class_name : "(no name)");
    struct call inner = inner_call(call, direction->config);
    direction->run = recurrent_options(&inner);
    return !call->low->failed;
}

static bool run_direction(struct call *call, struct direction *direction)
{
    struct call inner = inner_call(call, direction->config);
    bool ok = recurrent_layer(&inner, direction->class_name, &direction->run, &direction->result);
    call->next_weight = inner.next_weight;
    return ok;
}

/* y and y_rev joined as merge_mode says. */
static int merged(struct call *call, const char *mode, int a, int b)
{
    struct lowering *low = call->low;
    int both[2] = {a, b};
    if (strcmp(mode, "concat") == 0)
        return emit_concat(low, both, 2, call_shape(call, a)->rank - 1);
    if (strcmp(mode, "sum") == 0)
        return emit_binary(low, BINARY_ADD, a, b);
    if (strcmp(mode, "mul") == 0)
        return emit_binary(low, BINARY_MULTIPLY, a, b);
    if (strcmp(mode, "ave") == 0)
        return emit_linear(low, emit_binary(low, BINARY_ADD, a, b), 0.5, 0);
    call_refuse(call, "its merge_mode '%.40s' is not supported", mode);
    return -1;
}

bool lower_bidirectional(struct call *call)
{
    struct direction forward = {.config = NULL}, backward = {.config = NULL};
    const json_t *layer = json_object_get(call->config, "layer");
    const json_t *turned = json_object_get(call->config, "backward_layer");
    bool own = json_is_object(turned);
    if (!read_direction(call, &forward, layer) ||
        !read_direction(call, &backward, own ? turned : layer))
        return false;
    if (!own)
        backward.run.backwards = !forward.run.backwards;
    int states[RECURRENT_STATES_MAX];
    size_t count = recurrent_states_of(call, states), half = count / 2;
    struct direction *both[2] = {&forward, &backward};
    for (int i = 0; i < 2; i++) {
        struct recurrent_run *run = &both[i]->run;
        run->x = call_input(call, 0);
        run->mask = recurrent_mask(call, count);
        run->state_count = half;
        memcpy(run->states, states + (size_t)i * half, half * sizeof *states);
        run->flipped = i == 1;
        /* forced upon both layers by all but keras.io 2.0 to 2.3 */
        struct call inner = inner_call(call, both[i]->config);
        if (!config_bool(call, "_keep_masked_output", false))
            run->masked = recurrent_masked(&inner, run->sequences);
        if (!run_direction(call, both[i]))
            return false;
    }
    int y = forward.result.y, back = backward.result.y;
    const json_t *mode = json_object_get(call->config, "merge_mode");
    bool apart = json_is_null(mode) && mode;
    int mask = forward.run.sequences ? mask_of_input(call, 0) : -1;
    if (!call_return(
            call, apart ? y : merged(call, config_string(call, "merge_mode", "concat"), y, back)))
        return false;
    call_set_mask(call, 0, mask);
    if (apart && call_return(call, back))
        call_set_mask(call, 1, mask);
    for (int i = 0; i < 2; i++) {
        for (size_t j = 0; j < both[i]->result.state_count; j++)
            call_return(call, both[i]->result.states[j]);
    }
    return true;
}
