/* Wrappers that run another layer. TimeDistributed: a layer or a whole model on every time step; the
 * steps are folded into the batch, so that what is wrapped sees more samples and nothing else.
 * SpectralNormalization: the layer with the kernel that training left normalised. */
#include "engine/keras/layers/recurrent.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NESTING_MOST 8

/* Run one wrapped layer on graph values; its first output, -1 on failure. */
static int run_inner(struct call *call, const char *class_name, const json_t *config,
                     const char *scope, const int *inputs, const int *masks, size_t count,
                     json_t *args)
{
    const struct layer_row *row = layer_row_find(class_name);
    if (!row) {
        call_refuse(call, "the layer '%.60s' that it wraps is not supported", class_name);
        return -1;
    }
    json_t *kwargs = json_object();
    if (call_flag(call, "training"))
        json_object_set_new(kwargs, "training", json_true());
    const struct model_node node = {.args = args, .kwargs = kwargs};
    struct call inner = inner_call(call, config);
    inner.row = row;
    inner.scope = scope;
    inner.node = &node;
    inner.inputs = inputs;
    inner.input_masks = masks;
    inner.input_count = count;
    row->lower(&inner);
    int y = inner.output_count > 0 && !call->low->failed ? inner.outputs[0] : -1;
    call->next_weight = inner.next_weight;
    free(inner.outputs);
    free(inner.output_masks);
    json_decref(kwargs);
    return y;
}

/* ---- a model ---- */

/* What the layers of a wrapped model gave so far. */
struct inner_model {
    struct call *call;
    const char *path; /* of the model, below the wrapper */
    json_t *values;   /* name → array of the values of its calls */
};

static bool is_reference(const json_t *value)
{
    return json_array_size(value) >= 3 && json_is_string(json_array_get(value, 0)) &&
           json_is_integer(json_array_get(value, 1)) && json_is_integer(json_array_get(value, 2));
}

/* [name, call, output] as a graph value. Call numbers of nested models begin at 0 or 1, as their
 * writers had it. */
static int resolve(struct inner_model *model, const json_t *reference)
{
    const char *name = json_string_value(json_array_get(reference, 0));
    const json_t *calls = json_object_get(model->values, name);
    json_int_t index = json_integer_value(json_array_get(reference, 1));
    size_t count = json_array_size(calls);
    if (json_integer_value(json_array_get(reference, 2)) != 0 || count == 0) {
        call_refuse(model->call,
                    "the model that it wraps uses an output of '%.60s' that is not "
                    "there yet",
                    name);
        return -1;
    }
    if (index < 0 || (size_t)index >= count)
        index = (json_int_t)count - 1;
    return (int)json_integer_value(json_array_get(calls, (size_t)index));
}

/* The arguments of an inner call, tensors as {"tensor": i}; their values are appended to inputs. */
static json_t *arguments(struct inner_model *model, const json_t *value, int *inputs, size_t *count)
{
    const char *class_name = json_string_value(json_object_get(value, "class_name"));
    const json_t *reference = NULL;
    if (class_name && strcmp(class_name, "__keras_tensor__") == 0)
        reference = json_object_get(json_object_get(value, "config"), "keras_history");
    else if (is_reference(value))
        reference = value;
    if (reference) {
        if (*count == 16) {
            call_refuse(model->call, "a layer of the model that it wraps has too many inputs");
            return json_null();
        }
        inputs[*count] = resolve(model, reference);
        return json_pack("{s:i}", "tensor", (int)(*count)++);
    }
    if (!json_is_array(value))
        return json_deep_copy(value);
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(value); i++)
        json_array_append_new(list, arguments(model, json_array_get(value, i), inputs, count));
    return list;
}

static int run_model(struct call *call, const json_t *config, const char *path, int x, int depth);

static int run_member(struct inner_model *model, const json_t *layer, const int *inputs,
                      size_t count, json_t *args, int depth)
{
    const json_t *config = json_object_get(layer, "config");
    const char *class_name = json_string_value(json_object_get(layer, "class_name"));
    const char *name = json_string_value(json_object_get(config, "name"));
    char op[80], path[512];
    if (!class_name) {
        call_misfit(model->call, "a layer of the model that it wraps has no class");
        return -1;
    }
    snprintf(path, sizeof path, "%s/%.100s", model->path, name ? name : "");
    if (json_is_array(config) || json_is_array(json_object_get(config, "layers"))) {
        if (count == 1 && strlen(path) + 128 < sizeof path)
            return run_model(model->call, config, path, inputs[0], depth + 1);
        call_refuse(model->call, "the models that it wraps are nested too deep or joined");
        return -1;
    }
    /* ops have no trainable, see config.c */
    bool is_op = !json_object_get(config, "trainable") && !json_object_get(config, "dtype") &&
                 config_keras_major(model->call) >= 3;
    snprintf(op, sizeof op, "ops.%.70s", class_name);
    return run_inner(model->call, is_op ? op : class_name, config, path, inputs, NULL, count, args);
}

/* One layer of a model with all its calls; `previous` is what came before in a chain, -1 if the model
 * says itself what goes where. */
static int run_layer(struct inner_model *model, const json_t *layer, int previous, int depth)
{
    const char *class_name = json_string_value(json_object_get(layer, "class_name"));
    const json_t *config = json_object_get(layer, "config");
    const char *name = json_string_value(json_object_get(config, "name"));
    const json_t *nodes = json_object_get(layer, "inbound_nodes");
    size_t first_weight = model->call->next_weight;
    int y = -1;
    if (class_name && strcmp(class_name, "InputLayer") == 0)
        return previous;
    json_t *values = json_array();
    for (size_t i = 0; i < (previous >= 0 ? 1 : json_array_size(nodes)); i++) {
        int inputs[16] = {previous};
        size_t count = previous >= 0;
        const json_t *node = json_array_get(nodes, i);
        const json_t *given = json_object_get(node, "args");
        json_t *args = previous >= 0 ? json_pack("[{s:i}]", "tensor", 0)
                                     : arguments(model, given ? given : node, inputs, &count);
        model->call->next_weight = first_weight; /* a layer called again has the same weights */
        y = model->call->low->failed ? -1 : run_member(model, layer, inputs, count, args, depth);
        json_decref(args);
        json_array_append_new(values, json_integer(y));
    }
    if (name)
        json_object_set_new(model->values, name, values);
    else
        json_decref(values);
    return y;
}

static const json_t *only_reference(const json_t *ports)
{
    while (json_array_size(ports) == 1 && !is_reference(ports))
        ports = json_array_get(ports, 0);
    return is_reference(ports) ? ports : NULL;
}

static int run_model(struct call *call, const json_t *config, const char *path, int x, int depth)
{
    const json_t *layers = json_is_array(config) ? config : json_object_get(config, "layers");
    const json_t *in = json_object_get(config, "input_layers");
    const json_t *out = json_object_get(config, "output_layers");
    struct inner_model model = {.call = call, .path = path, .values = json_object()};
    int y = x;
    if (depth > NESTING_MOST)
        call_refuse(call, "the models that it wraps are nested too deep");
    if (in && (!only_reference(in) || !only_reference(out)))
        call_refuse(call, "a wrapped model with several inputs or outputs is not supported");
    else if (in)
        json_object_set_new(model.values, json_string_value(json_array_get(only_reference(in), 0)),
                            json_pack("[i]", x));
    for (size_t i = 0; i < json_array_size(layers) && !call->low->failed; i++) {
        int given = run_layer(&model, json_array_get(layers, i), in ? -1 : y, depth);
        y = in ? y : given;
    }
    if (in && !call->low->failed)
        y = resolve(&model, only_reference(out));
    json_decref(model.values);
    return call->low->failed ? -1 : y;
}

/* ---- the layer ---- */

bool lower_time_distributed(struct call *call)
{
    struct lowering *low = call->low;
    const json_t *layer = json_object_get(call->config, "layer");
    const json_t *config = json_object_get(layer, "config");
    const char *class_name = json_string_value(json_object_get(layer, "class_name"));
    int x = call_input(call, 0), mask = mask_of_input(call, 0);
    if (x < 0 || call_shape(call, x)->rank < 3)
        return call_misfit(call, "its input has no time axis");
    struct shape all = *call_shape(call, x), folded = {.rank = all.rank - 1};
    folded.dims[0] = all.dims[0] * all.dims[1];
    memcpy(folded.dims + 1, all.dims + 2, (size_t)(all.rank - 2) * sizeof *folded.dims);
    /* a mask of more than the steps is the wrapped layer's too */
    int inner_mask = -1, value = mask >= 0 && all.rank > 3 ? mask_value(low, mask) : -1;
    if (value >= 0 && call_shape(call, value)->rank > 2) {
        struct shape steps = *call_shape(call, value);
        steps.dims[1] *= steps.dims[0];
        memmove(steps.dims, steps.dims + 1, (size_t)--steps.rank * sizeof *steps.dims);
        inner_mask = mask_reshape(call, mask, &steps);
    }
    x = emit_reshape(low, x, &folded);
    int y;
    if (json_is_array(config) || json_is_array(json_object_get(config, "layers"))) {
        y = run_model(call, config, "", x, 0);
    } else {
        json_t *args = json_pack("[{s:i}]", "tensor", 0);
        y = run_inner(call, class_name ? class_name : "(no name)", config, "", &x, &inner_mask, 1,
                      args);
        json_decref(args);
    }
    if (y < 0 || low->failed)
        return false;
    struct shape out = *call_shape(call, y);
    if (out.rank + 1 > TENSOR_RANK_MAX || out.dims[0] != folded.dims[0])
        return call_refuse(call, "the layer that it wraps changes the number of samples");
    memmove(out.dims + 2, out.dims + 1, (size_t)(out.rank - 1) * sizeof *out.dims);
    out.rank++;
    out.dims[0] = all.dims[0];
    out.dims[1] = all.dims[1];
    if (!call_return(call, emit_reshape(low, y, &out)))
        return false;
    call_set_mask(call, 0, mask);
    return true;
}

bool lower_spectral_normalization(struct call *call)
{
    const json_t *layer = json_object_get(call->config, "layer");
    const char *class_name = json_string_value(json_object_get(layer, "class_name"));
    int x = call_input(call, 0), mask = -1;
    if (x < 0)
        return false;
    json_t *args = json_pack("[{s:i}]", "tensor", 0);
    int y = run_inner(call, class_name ? class_name : "(no name)", json_object_get(layer, "config"),
                      "", &x, &mask, 1, args);
    json_decref(args);
    call_skip_weights(call); /* the vector of the power iteration only serves training */
    return y >= 0 && call_return(call, y);
}
