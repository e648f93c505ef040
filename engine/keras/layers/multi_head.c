/* Attention with many heads: projections, the attention over any axes, and the projection back. */
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/attention.h"
#include "engine/keras/layers/table.h"
#include <math.h>
#include <string.h>

struct heads {
    int64_t count, groups; /* of the queries; of the keys and values */
    int64_t key_dim, value_dim;
    bool bias;
};

/* (..., d) to (..., heads, size): one matrix product over the layer's next kernel and bias. */
static int project(struct call *call, int x, int64_t heads, int64_t size, bool has_bias,
                   const char *name)
{
    if (x < 0 || call->low->failed)
        return -1;
    struct shape shape = *call_shape(call, x);
    if (shape.rank < 2 || shape.rank == TENSOR_RANK_MAX) {
        call_misfit(call, "an input of rank %d cannot be attended to", shape.rank);
        return -1;
    }
    int64_t channels = shape.dims[shape.rank - 1], width = heads * size;
    struct shape stored = {.rank = 3, .dims = {channels, heads, size}};
    struct shape matrix = {.rank = 2, .dims = {channels, width}};
    struct shape stored_bias = {.rank = 2, .dims = {heads, size}}, row = shape_of(1, &width);
    const struct constant *kernel = call_weight(call, name, &stored, &matrix);
    const struct constant *bias = has_bias ? call_weight(call, name, &stored_bias, &row) : NULL;
    int y = emit_matmul(call->low, x, kernel, bias);
    shape.dims[shape.rank - 1] = heads;
    shape.dims[shape.rank++] = size;
    return emit_reshape(call->low, y, &shape);
}

/* Which axes of (batch, ..., heads, channels) are attended over; Keras counts them in the input. */
struct axes {
    int rank; /* with heads and channels */
    int list[TENSOR_RANK_MAX];
    int count;
    int order[TENSOR_RANK_MAX]; /* batch, free..., attended..., heads, channels */
};

static bool read_axes(struct call *call, int rank, struct axes *axes)
{
    const json_t *given = json_object_get(call->config, "attention_axes");
    bool attended[TENSOR_RANK_MAX] = {false};
    *axes = (struct axes){.rank = rank};
    if (json_is_integer(given)) {
        axes->list[axes->count++] = config_axis(call, json_integer_value(given), rank - 1);
    } else if (json_is_array(given)) {
        for (size_t i = 0; i < json_array_size(given) && i < TENSOR_RANK_MAX; i++)
            axes->list[axes->count++] =
                config_axis(call, json_integer_value(json_array_get(given, i)), rank - 1);
    } else {
        for (int i = 1; i < rank - 2; i++)
            axes->list[axes->count++] = i;
    }
    for (int i = 0; i < axes->count; i++) {
        if (axes->list[i] < 1 || axes->list[i] >= rank - 2 || attended[axes->list[i]])
            return call_refuse(call, "it attends over the batch, the channels or an axis twice");
        attended[axes->list[i]] = true;
    }
    int at = 0;
    for (int i = 0; i < rank - 2; i++) {
        if (!attended[i])
            axes->order[at++] = i;
    }
    for (int i = 0; i < axes->count; i++)
        axes->order[at++] = axes->list[i];
    axes->order[rank - 2] = rank - 2;
    axes->order[rank - 1] = rank - 1;
    return !call->low->failed;
}

/* (batch, ..., heads, channels) as (batch and free, attended, heads, channels) */
static int gather_axes(struct call *call, int x, const struct axes *axes)
{
    if (x < 0 || call_shape(call, x)->rank != axes->rank) {
        call_misfit(call, "its query, key and value differ in rank");
        return -1;
    }
    int y = emit_transpose(call->low, x, axes->order);
    struct shape shape = *call_shape(call, y), out = {.rank = 4, .dims = {1, 1, 0, 0}};
    if (y < 0)
        return -1;
    for (int i = 0; i < axes->rank - 2; i++)
        out.dims[i >= axes->rank - 2 - axes->count] *= shape.dims[i];
    out.dims[2] = shape.dims[axes->rank - 2];
    out.dims[3] = shape.dims[axes->rank - 1];
    return emit_reshape(call->low, y, &out);
}

/* And back, for a result of the queries' shape but for its channels. */
static int scatter_axes(struct call *call, int x, int like, int64_t channels,
                        const struct axes *axes)
{
    struct shape shape = *call_shape(call, like), moved = {.rank = axes->rank};
    int back[TENSOR_RANK_MAX];
    shape.dims[axes->rank - 1] = channels;
    for (int i = 0; i < axes->rank; i++) {
        moved.dims[i] = shape.dims[axes->order[i]];
        back[axes->order[i]] = i;
    }
    return emit_transpose(call->low, emit_reshape(call->low, x, &moved), back);
}

/* An attention_mask: (batch axes..., [heads,] query axes..., key axes...), where missing batch axes
 * and the heads are inserted in front of the last ones. As (B or 1, H or 1, T, S). */
static int attention_mask(struct call *call, int mask, int q, int k, const struct axes *axes)
{
    if (mask < 0 || call->low->failed)
        return -1;
    const struct shape *qs = call_shape(call, q), *ks = call_shape(call, k);
    struct shape wide = *call_shape(call, mask), full, out = {.rank = 4, .dims = {1, 1, 1, 1}};
    int batch = axes->rank - 2 - axes->count, tail = 2 * axes->count, lead = wide.rank - tail;
    if (lead < 0 || lead > batch + 1 || batch + 1 + tail > TENSOR_RANK_MAX) {
        call_refuse(call, "an attention mask of rank %d is not supported here", wide.rank);
        return -1;
    }
    for (; lead < batch + 1; lead++) {
        memmove(wide.dims + lead + 1, wide.dims + lead, (size_t)tail * sizeof *wide.dims);
        wide.dims[lead] = 1;
        wide.rank++;
    }
    mask = emit_reshape(call->low, mask, &wide);
    if (wide.rank == 4)
        return mask;
    full = wide;
    for (int i = 0; i < batch; i++)
        full.dims[i] = qs->dims[axes->order[i]];
    for (int i = 0; i < axes->count; i++) {
        full.dims[batch + 1 + i] = qs->dims[axes->list[i]];
        full.dims[batch + 1 + axes->count + i] = ks->dims[axes->list[i]];
    }
    for (int i = 0; i < full.rank; i++) {
        int to = i < batch ? 0 : i == batch ? 1 : i <= batch + axes->count ? 2 : 3;
        out.dims[to] *= full.dims[i];
    }
    return emit_reshape(call->low, emit_broadcast(call->low, mask, &full), &out);
}

/* The scores (B, H, T, S) as (batch axes..., heads, query axes..., key axes...). */
static int scores_out(struct call *call, int scores, int q, int k, const struct axes *axes)
{
    struct shape out = {.rank = 0};
    const struct shape *qs = call_shape(call, q), *ks = call_shape(call, k);
    int batch = axes->rank - 2 - axes->count;
    if (batch + 1 + 2 * axes->count > TENSOR_RANK_MAX) {
        call_refuse(call, "its scores have too many axes");
        return -1;
    }
    for (int i = 0; i < batch; i++)
        out.dims[out.rank++] = qs->dims[axes->order[i]];
    out.dims[out.rank++] = qs->dims[axes->rank - 2];
    for (int i = 0; i < axes->count; i++)
        out.dims[out.rank++] = qs->dims[axes->list[i]];
    for (int i = 0; i < axes->count; i++)
        out.dims[out.rank++] = ks->dims[axes->list[i]];
    return emit_reshape(call->low, scores, &out);
}

/* The output projection: (..., heads, size) to (..., output axes). */
static int project_out(struct call *call, int x, const struct shape *output, bool has_bias)
{
    if (x < 0 || call->low->failed)
        return -1;
    struct shape shape = *call_shape(call, x), stored = {.rank = 2}, flat = shape;
    int64_t depth = shape.dims[shape.rank - 2] * shape.dims[shape.rank - 1];
    int64_t width = shape_elements(output);
    stored.dims[0] = shape.dims[shape.rank - 2];
    stored.dims[1] = shape.dims[shape.rank - 1];
    if (shape.rank - 2 + output->rank > TENSOR_RANK_MAX || output->rank > 4) {
        call_refuse(call, "its output has too many axes");
        return -1;
    }
    for (int i = 0; i < output->rank; i++)
        stored.dims[stored.rank++] = output->dims[i];
    struct shape matrix = {.rank = 2, .dims = {depth, width}}, row = shape_of(1, &width);
    const struct constant *kernel = call_weight(call, "attention_output", &stored, &matrix);
    const struct constant *bias =
        has_bias ? call_weight(call, "attention_output bias", output, &row) : NULL;
    flat.rank = shape.rank - 1;
    flat.dims[flat.rank - 1] = depth;
    int y = emit_matmul(call->low, emit_reshape(call->low, x, &flat), kernel, bias);
    shape.rank -= 2;
    for (int i = 0; i < output->rank; i++)
        shape.dims[shape.rank++] = output->dims[i];
    return emit_reshape(call->low, y, &shape);
}

/* The tensors of a call: query, value, key (the value if there is none). */
struct tensors {
    int query, value, key;
    bool has_key;
};

static struct tensors tensors_of(struct call *call)
{
    struct tensors t = {.query = op_operand(call, 0, "query"),
                        .value = op_operand(call, 1, "value")};
    t.key = op_tensor(call, op_argument(call, 2, "key"));
    t.has_key = t.key >= 0;
    if (!t.has_key)
        t.key = t.value;
    return t;
}

/* The steps' mask of an argument, which the call may also give by a keyword of its own. */
static int argument_mask(struct call *call, size_t position, const char *name, const char *keyword)
{
    const json_t *index = json_object_get(op_argument(call, position, name), "tensor");
    return json_is_integer(index)
               ? call_mask_named(call, keyword, (size_t)json_integer_value(index))
               : -1;
}

/* All masks that Keras joins: of the queries' and keys' steps, and the one that was given. */
static int join_masks(struct call *call, int q, int k, const struct axes *axes)
{
    size_t position = config_keras_major(call) < 3 ? 3 : 6;
    int given = op_argument(call, position, "attention_mask")
                    ? op_value(call, position, "attention_mask")
                    : -1; /* a tensor of the model, or a constant in the file */
    int mask = attention_mask(call, given, q, k, axes);
    int queries = argument_mask(call, 0, "query", "query_mask");
    int values = argument_mask(call, 1, "value", "value_mask");
    int keys = argument_mask(call, 2, "key", "key_mask");
    if ((queries >= 0 || values >= 0 || keys >= 0) && (axes->count != 1 || axes->rank != 4)) {
        call_refuse(call, "masked steps and attention over other axes than one");
        return -1;
    }
    mask = attention_both(call, mask, attention_steps(call, values, 3));
    mask = attention_both(call, mask, attention_steps(call, keys, 3));
    return attention_both(call, mask, attention_steps(call, queries, 2));
}

/* Both layers, from the projections on. */
static bool attend(struct call *call, const struct heads *heads, const struct shape *output)
{
    struct lowering *low = call->low;
    struct tensors t = tensors_of(call);
    struct axes axes;
    int q = project(call, t.query, heads->count, heads->key_dim, heads->bias, "query");
    int k = project(call, t.key, heads->groups, heads->key_dim, heads->bias, "key");
    bool gated = config_bool(call, "use_gate", false);
    int gate =
        gated ? project(call, t.query, heads->count, heads->value_dim, heads->bias, "gate") : -1;
    int v = project(call, t.value, heads->groups, heads->value_dim, heads->bias, "value");
    if (low->failed || !read_axes(call, call_shape(call, q)->rank, &axes))
        return false;
    bool scored = call_flag(call, "return_attention_scores");
    struct op_attention attention = {.scale = (float)(1 / sqrt((double)heads->key_dim)),
                                     .causal = call_flag(call, "use_causal_mask"),
                                     .window = config_int(call, "sliding_window", 0, 1)};
    int mask = join_masks(call, q, k, &axes), scores = -1;
    int y = lower_attention(call, gather_axes(call, q, &axes), gather_axes(call, k, &axes),
                            gather_axes(call, v, &axes), mask, -1, &attention,
                            config_keras_major(call) >= 3, scored ? &scores : NULL);
    y = scatter_axes(call, y, q, heads->value_dim, &axes);
    if (gated)
        y = emit_binary(low, BINARY_MULTIPLY, y, emit_unary(low, gate, UNARY_SIGMOID, 0, 0));
    y = project_out(call, y, output, heads->bias);
    if (!call_return(call, y))
        return false;
    if (!scored)
        return true;
    bool good = call_return(call, scores_out(call, scores, q, k, &axes));
    call_set_mask(call, 1, -1);
    return good;
}

bool lower_multi_head_attention(struct call *call)
{
    struct heads heads = {.count = config_int(call, "num_heads", 1, 1),
                          .key_dim = config_int(call, "key_dim", 1, 1),
                          .bias = config_bool(call, "use_bias", true)};
    heads.groups = heads.count;
    heads.value_dim = config_int(call, "value_dim", heads.key_dim, 1);
    struct shape output = {.rank = 1};
    const json_t *given = json_object_get(call->config, "output_shape");
    int query = op_operand(call, 0, "query");
    const struct shape *shape = call_shape(call, query);
    if (query < 0 || shape->rank < 1)
        return false;
    output.dims[0] = shape->dims[shape->rank - 1];
    if (json_is_array(given) && json_array_size(given) > 0) {
        output.rank = (int)json_array_size(given) > 4 ? 4 : (int)json_array_size(given);
        config_ints(call, "output_shape", output.rank, 1, 1, output.dims);
    } else if (json_is_integer(given)) {
        output.dims[0] = config_int(call, "output_shape", 1, 1);
    }
    return attend(call, &heads, &output);
}

bool lower_grouped_query_attention(struct call *call)
{
    struct heads heads = {.count = config_int(call, "num_query_heads", 1, 1),
                          .groups = config_int(call, "num_key_value_heads", 1, 1),
                          .key_dim = config_int(call, "head_dim", 1, 1),
                          .bias = config_bool(call, "use_bias", true)};
    heads.value_dim = heads.key_dim;
    if (heads.count % heads.groups != 0)
        return call_misfit(call, "%lld query heads do not divide into %lld groups",
                           (long long)heads.count, (long long)heads.groups);
    int query = op_operand(call, 0, "query");
    const struct shape *shape = call_shape(call, query);
    if (query < 0 || shape->rank != 3)
        return call_misfit(call, "its query should have rank 3");
    struct shape output = shape_of(1, &shape->dims[2]);
    return attend(call, &heads, &output);
}
