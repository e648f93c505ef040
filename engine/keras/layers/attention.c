/* Attention in its parts, and the layers that have one head. */
#include "engine/keras/layers/attention.h"
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What Keras adds to masked scores where it keeps them. */
#define LARGE 1e9

/* ---- masks ---- */

int attention_both(struct call *call, int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return emit_binary(call->low, BINARY_MULTIPLY, a, b);
}

int attention_steps(struct call *call, int mask, int axis)
{
    if (mask < 0 || call->low->failed)
        return -1;
    struct shape shape = {.rank = 4, .dims = {1, 1, 1, 1}};
    const struct shape *given = call_shape(call, mask);
    if (given->rank != 2) {
        call_refuse(call, "a mask of rank %d over its steps is not supported", given->rank);
        return -1;
    }
    shape.dims[0] = given->dims[0];
    shape.dims[axis] = given->dims[1];
    return emit_reshape(call->low, mask, &shape);
}

/* ---- scores that somebody wants to see ---- */

/* What causality and the window leave, as a constant (1, 1, T, S) of two values; NULL without either. */
static const struct constant *band(struct call *call, const struct op_attention *attention,
                                   int64_t steps, int64_t keys, float seen, float unseen)
{
    float *data;
    struct shape shape = {.rank = 4, .dims = {1, 1, steps, keys}};
    if (!attention->causal && attention->window == 0)
        return NULL;
    const struct constant *constant =
        call_constant(call, seen > 0 ? "seen" : "band", &shape, &data);
    for (int64_t i = 0; constant && data && i < steps * keys; i++) {
        int64_t t = i / keys, s = i % keys;
        bool real = (!attention->causal || s <= t) &&
                    (attention->window == 0 || llabs(t - s) < attention->window);
        data[i] = real ? seen : unseen;
    }
    return constant;
}

static int heads_first(struct call *call, int x)
{
    static const int swap[4] = {0, 2, 1, 3};
    return emit_transpose(call->low, x, swap);
}

/* Keys or values of fewer heads, each repeated for its queries: (N, S, G, D) to (N, S, H, D). */
static int repeat_heads(struct call *call, int x, int64_t heads)
{
    struct shape shape = *call_shape(call, x), split = {.rank = 5};
    if (x < 0 || shape.dims[2] == heads)
        return x;
    int64_t times = heads / shape.dims[2];
    split = (struct shape){.rank = 5,
                           .dims = {shape.dims[0], shape.dims[1], shape.dims[2], 1, shape.dims[3]}};
    int y = emit_reshape(call->low, x, &split);
    split.dims[3] = times;
    y = emit_broadcast(call->low, y, &split);
    shape.dims[2] = heads;
    return emit_reshape(call->low, y, &shape);
}

/* Scores after the softmax as (N, H, T, S): attention in its parts. */
static int weights_of(struct call *call, int scores, int mask, int bias,
                      const struct op_attention *attention, bool zeroed)
{
    struct lowering *low = call->low;
    if (scores < 0 || low->failed)
        return -1;
    struct shape shape = *call_shape(call, scores);
    if (attention->soft_cap > 0) {
        scores = emit_linear(low, scores, 1 / (double)attention->soft_cap, 0);
        scores = emit_linear(low, emit_unary(low, scores, UNARY_TANH, 0, 0),
                             (double)attention->soft_cap, 0);
    }
    if (bias >= 0)
        scores = emit_binary(low, BINARY_ADD, scores, bias);
    if (mask >= 0)
        scores = emit_binary(low, BINARY_ADD, scores, emit_linear(low, mask, LARGE, -LARGE));
    int64_t steps = shape.dims[2], keys = shape.dims[3];
    const struct constant *hidden = band(call, attention, steps, keys, 0, (float)-LARGE);
    if (hidden)
        scores = emit_binary_constant(low, BINARY_ADD, scores, hidden, false);
    int weights = emit_softmax(low, scores, 3, false);
    if (!zeroed || mask < 0)
        return weights;
    weights = emit_binary(low, BINARY_MULTIPLY, weights, mask);
    const struct constant *seen = band(call, attention, steps, keys, 1, 0);
    return seen ? emit_binary_constant(low, BINARY_MULTIPLY, weights, seen, false) : weights;
}

/* weights (N, H, T, S) times values (N, S, H, V), as (N, T, H, V) */
static int combine(struct call *call, int weights, int v)
{
    return heads_first(call, emit_matmul_values(call->low, weights, heads_first(call, v)));
}

int lower_attention(struct call *call, int q, int k, int v, int mask, int bias,
                    const struct op_attention *attention, bool zeroed, int *scores)
{
    if (call->low->failed || q < 0 || k < 0 || v < 0)
        return -1;
    if (!scores)
        return emit_attention(call->low, q, k, v, mask, bias, attention);
    static const int columns[4] = {0, 2, 3, 1};
    int64_t heads = call_shape(call, q)->dims[2];
    k = emit_transpose(call->low, repeat_heads(call, k, heads), columns);
    v = repeat_heads(call, v, heads);
    int y = emit_matmul_values(call->low, heads_first(call, q), k);
    y = emit_linear(call->low, y, (double)attention->scale, 0);
    *scores = weights_of(call, y, mask, bias, attention, zeroed);
    return combine(call, *scores, v);
}

/* ---- one head ---- */

/* A scalar weight as a number. */
static double scalar(struct call *call, const char *name)
{
    struct shape shape = {.rank = 0};
    const struct model_weight *weight = call_raw_weight(call, name, &shape);
    return weight ? weight_element(weight, 0) : 1;
}

/* (batch..., steps, channels) as (batch, steps, 1, channels) */
static int one_head(struct call *call, int x)
{
    const struct shape *shape = call_shape(call, x);
    if (x < 0 || shape->rank < 3) {
        call_misfit(call, "its inputs should have at least rank 3");
        return -1;
    }
    int64_t steps = shape->dims[shape->rank - 2], channels = shape->dims[shape->rank - 1];
    struct shape out = {.rank = 4,
                        .dims = {shape_elements(shape) / steps / channels, steps, 1, channels}};
    return emit_reshape(call->low, x, &out);
}

/* scale . tanh(q + k) as (N, 1, T, S), from (N, T, 1, d) and (N, S, 1, d): all pairs are formed. */
static int additive_scores(struct call *call, int q, int k, const struct constant *scale,
                           double inner, double outer)
{
    struct lowering *low = call->low;
    bool channels[TENSOR_RANK_MAX] = {false};
    if (q < 0 || k < 0)
        return -1;
    struct shape keys = *call_shape(call, k), out;
    keys.dims[2] = keys.dims[1];
    keys.dims[1] = 1;
    int sum = emit_binary(low, BINARY_ADD, q, emit_reshape(low, k, &keys));
    if (inner != 1)
        sum = emit_linear(low, sum, inner, 0);
    sum = emit_unary(low, sum, UNARY_TANH, 0, 0);
    if (scale)
        sum = emit_affine(low, sum, scale, NULL);
    channels[3] = true;
    sum = emit_reduce(low, sum, REDUCE_SUM, channels, false);
    if (outer != 1)
        sum = emit_linear(low, sum, outer, 0);
    if (sum < 0)
        return -1;
    out = (struct shape){.rank = 4,
                         .dims = {keys.dims[0], 1, call_shape(call, sum)->dims[1], keys.dims[2]}};
    return emit_reshape(low, sum, &out);
}

/* Scores (N, 1, T, S) in the shape of the layer's inputs: (batch..., T, S). */
static int plain_scores(struct call *call, int scores, int q)
{
    struct shape shape = *call_shape(call, q);
    if (scores < 0)
        return -1;
    shape.dims[shape.rank - 1] = call_shape(call, scores)->dims[3];
    return emit_reshape(call->low, scores, &shape);
}

/* Attention and AdditiveAttention (parameter 1): [query, value] or [query, value, key]. */
bool lower_attention_layer(struct call *call)
{
    struct lowering *low = call->low;
    const json_t *list = op_argument(call, 0, "inputs");
    size_t count = json_is_array(list) ? json_array_size(list) : 0;
    int q = call_input(call, 0), v = call_input(call, 1);
    int k = count > 2 ? call_input(call, 2) : v;
    bool additive = call->row->parameter == 1;
    bool concat = strcmp(config_string(call, "score_mode", "dot"), "concat") == 0;
    bool scaled = config_bool(call, "use_scale", additive);
    if (q < 0 || k < 0 || call_shape(call, q)->rank < 3 || call_shape(call, v)->rank < 2)
        return call_misfit(call, "its inputs should have at least rank 3");
    struct shape out = *call_shape(call, q);
    int64_t channels = out.dims[out.rank - 1];
    struct shape vector = shape_of(1, &channels);
    out.dims[out.rank - 1] = call_shape(call, v)->dims[call_shape(call, v)->rank - 1];
    const struct constant *scales =
        additive && scaled ? call_weight(call, "scale", &vector, NULL) : NULL;
    double scale = !additive && scaled ? scalar(call, "scale") : 1;
    double outer = !additive && concat ? scalar(call, "concat_score_weight") : 1;
    struct op_attention attention = {.scale = (float)scale,
                                     .causal = call_flag(call, "use_causal_mask")};
    int queries = call_mask(call, 0), mask = attention_steps(call, call_mask(call, 1), 3),
        scores = -1;
    bool scored = call_flag(call, "return_attention_scores");
    int heads = one_head(call, q), values = one_head(call, v), keys = one_head(call, k), y;
    if (additive || concat) {
        scores = additive_scores(call, heads, keys, scales, scale, outer);
        scores = weights_of(call, scores, mask, -1, &attention, false);
        y = combine(call, scores, values);
    } else {
        y = lower_attention(call, heads, keys, values, mask, -1, &attention, false,
                            scored ? &scores : NULL);
    }
    y = emit_reshape(low, y, &out);
    if (queries >= 0 && y >= 0) {
        struct shape wide = *call_shape(call, queries);
        wide.dims[wide.rank++] = 1;
        y = emit_binary(low, BINARY_MULTIPLY, y, emit_reshape(low, queries, &wide));
    }
    if (!call_return(call, y))
        return false;
    if (!scored)
        return true;
    bool good = call_return(call, plain_scores(call, scores, q));
    call_set_mask(call, 1, -1);
    return good;
}

/* ---- the op ---- */

/* dot_product_attention(query, key, value, bias, mask, scale, is_causal, ...) */
bool lower_op_attention(struct call *call)
{
    int q = op_operand(call, 0, "query"), k = op_operand(call, 1, "key");
    int v = op_operand(call, 2, "value");
    const json_t *bias = op_argument(call, 3, "bias"), *mask = op_argument(call, 4, "mask");
    const json_t *scale = op_argument(call, 5, "scale");
    if (q < 0 || call_shape(call, q)->rank != 4)
        return call_misfit(call, "its query should have rank 4");
    double usual = 1 / sqrt((double)call_shape(call, q)->dims[3]);
    struct op_attention attention = {
        .scale = (float)(json_is_number(scale) ? json_number_value(scale) : usual),
        .causal = config_bool(call, "is_causal", false) || call_flag(call, "is_causal"),
        .soft_cap = (float)config_number(call, "attn_logits_soft_cap", 0)};
    return call_return(call, lower_attention(call, q, k, v, mask ? op_value(call, 4, "mask") : -1,
                                             bias ? op_value(call, 3, "bias") : -1, &attention,
                                             false, NULL));
}
