/* The arithmetic of fusion. */
#include "engine/graph/fuse_rules.h"
#include "engine/graph/constant.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_unary(const struct op *op, enum unary_function function)
{
    return op->kind == OP_UNARY && op->unary.function == function && op->post_count == 0;
}

/* linear(linear(x)) is linear; clip(x + 3, 0, 6) / 6 is clip(x / 6 + 1/2, 0, 1). */
bool fuse_unary_chain(struct fuser *f, int index)
{
    struct graph *graph = f->graph;
    const struct op *op = &graph->ops[index];
    if (!is_unary(op, UNARY_LINEAR))
        return false;
    int producer = fuse_sole_producer(f, op->inputs[0]);
    if (producer < 0)
        return false;
    struct op *before = &graph->ops[producer];
    if (is_unary(before, UNARY_LINEAR)) {
        before->unary.beta = before->unary.beta * op->unary.alpha + op->unary.beta;
        before->unary.alpha *= op->unary.alpha;
        fuse_take_output(f, producer, index);
        return true;
    }
    float scale = op->unary.alpha;
    if (!is_unary(before, UNARY_RELU) || before->unary.alpha != 0 || op->unary.beta != 0 ||
        !(before->unary.beta > 0) || fabsf(scale * before->unary.beta - 1) > 1e-6F)
        return false;
    int first = fuse_sole_producer(f, before->inputs[0]);
    if (first < 0 || !is_unary(&graph->ops[first], UNARY_LINEAR))
        return false;
    struct op_unary *unary = &graph->ops[first].unary;
    unary->function = UNARY_HARD_SIGMOID;
    unary->alpha *= scale;
    unary->beta *= scale;
    fuse_take_output(f, first, producer);
    fuse_take_output(f, first, index);
    return true;
}

/* x * sigmoid(x) is silu, x * hard_sigmoid(x) hard_silu. */
bool fuse_gate(struct fuser *f, int index)
{
    struct graph *graph = f->graph;
    struct op *op = &graph->ops[index];
    if (op->kind != OP_BINARY || op->binary.function != BINARY_MULTIPLY || op->input_count != 2 ||
        op->post_count > 0)
        return false;
    for (int which = 0; which < 2; which++) {
        int gate = fuse_sole_producer(f, op->inputs[which]), x = op->inputs[1 - which];
        if (gate < 0 || graph->ops[gate].inputs[0] != x)
            continue;
        const struct op *unary = &graph->ops[gate];
        enum unary_function function;
        if (is_unary(unary, UNARY_SIGMOID))
            function = UNARY_SILU;
        else if (is_unary(unary, UNARY_HARD_SIGMOID) &&
                 fabsf(unary->unary.alpha - 1.0F / 6) < 1e-6F &&
                 fabsf(unary->unary.beta - 0.5F) < 1e-6F)
            function = UNARY_HARD_SILU;
        else
            continue;
        graph->ops[gate].unary = (struct op_unary){.function = function};
        fuse_take_output(f, gate, index);
        return true;
    }
    return false;
}

/* ---- affine ops into what comes before ---- */

static bool is_affine(const struct op *op)
{
    return op->post_count == 0 && (op->kind == OP_AFFINE || is_unary(op, UNARY_LINEAR));
}

static double element(const struct constant *constant, int64_t channel, double missing)
{
    if (!constant)
        return missing;
    return (double)constant->data[shape_elements(&constant->shape) == 1 ? 0 : channel];
}

static double scale_of(const struct op *op, int64_t channel)
{
    return op->kind == OP_UNARY ? (double)op->unary.alpha : element(op->affine.scale, channel, 1);
}

static double shift_of(const struct op *op, int64_t channel)
{
    return op->kind == OP_UNARY ? (double)op->unary.beta : element(op->affine.shift, channel, 0);
}

/* A key that says exactly what was computed from what: constants never move in their pool. */
static char *fold_key(const char *role, const void *a, const void *b, const struct op *guest)
{
    if (guest->kind == OP_UNARY)
        return xasprintf("fold %s %p %p %a %a", role, a, b, (double)guest->unary.alpha,
                         (double)guest->unary.beta);
    return xasprintf("fold %s %p %p %p %p", role, a, b, (const void *)guest->affine.scale,
                     (const void *)guest->affine.shift);
}

/* Find or make; *data is NULL if it need not be filled. NULL sets failed. */
static const struct constant *fold_constant(struct fuser *f, char *key, const struct shape *shape,
                                            float **data)
{
    *data = NULL;
    const struct constant *constant = constant_find(f->pool, key);
    if (!constant)
        constant = constant_new(f->pool, key, shape, data, f->error);
    if (!constant)
        f->failed = true;
    free(key);
    return constant;
}

/* weights[..., k, (c)] * scale[k]; `inner` elements follow each k. */
static const struct constant *fold_weights(struct fuser *f, const struct constant *weights,
                                           const struct op *guest, int64_t channels, int64_t inner)
{
    bool same = true;
    for (int64_t k = 0; k < channels && same; k++)
        same = scale_of(guest, k) == 1;
    if (same)
        return weights;
    char *key = fold_key("w", weights, NULL, guest);
    const struct constant *folded = constant_find(f->pool, key);
    if (!folded) {
        double *scale = xmalloc((size_t)channels * sizeof *scale);
        for (int64_t k = 0; k < channels; k++)
            scale[k] = scale_of(guest, k);
        folded = constant_scaled(f->pool, key, weights, scale, channels, inner, f->error);
        free(scale);
    }
    free(key);
    if (!folded)
        f->failed = true;
    return folded;
}

/* bias[k] * scale[k] + shift[k], NULL if that is 0 and there was none */
static const struct constant *fold_bias(struct fuser *f, const struct constant *bias,
                                        const void *owner, const struct op *guest, int64_t channels)
{
    float *data;
    bool zero = bias == NULL;
    for (int64_t k = 0; k < channels && zero; k++)
        zero = shift_of(guest, k) == 0;
    if (zero)
        return NULL;
    struct shape shape = shape_of(1, &channels);
    const struct constant *folded =
        fold_constant(f, fold_key("b", bias, owner, guest), &shape, &data);
    for (int64_t k = 0; folded && data && k < channels; k++)
        data[k] = (float)(element(bias, k, 0) * scale_of(guest, k) + shift_of(guest, k));
    return folded;
}

/* Two per-channel ops in a row become one. */
static void join_affine(struct fuser *f, struct op *host, const struct op *guest, int64_t channels)
{
    float *s, *t;
    struct shape shape = shape_of(1, &channels);
    const void *a = host->kind == OP_AFFINE ? (const void *)host->affine.scale : NULL;
    const void *b = host->kind == OP_AFFINE ? (const void *)host->affine.shift : NULL;
    char first[96] = "";
    if (host->kind == OP_UNARY)
        snprintf(first, sizeof first, "%a %a", (double)host->unary.alpha, (double)host->unary.beta);
    char scale_role[128], shift_role[128];
    snprintf(scale_role, sizeof scale_role, "s%lld %s", (long long)channels, first);
    snprintf(shift_role, sizeof shift_role, "t%lld %s", (long long)channels, first);
    const struct constant *scale = fold_constant(f, fold_key(scale_role, a, b, guest), &shape, &s);
    const struct constant *shift = fold_constant(f, fold_key(shift_role, a, b, guest), &shape, &t);
    if (!scale || !shift)
        return;
    for (int64_t k = 0; k < channels; k++) {
        if (s)
            s[k] = (float)(scale_of(host, k) * scale_of(guest, k));
        if (t)
            t[k] = (float)(shift_of(host, k) * scale_of(guest, k) + shift_of(guest, k));
    }
    host->kind = OP_AFFINE;
    host->affine = (struct op_affine){.scale = scale, .shift = shift};
}

bool fuse_affine(struct fuser *f, int index)
{
    struct graph *graph = f->graph;
    const struct op *op = &graph->ops[index];
    if (!is_affine(op))
        return false;
    int producer = fuse_sole_producer(f, op->inputs[0]);
    if (producer < 0 || graph->ops[producer].post_count > 0)
        return false;
    struct op *host = &graph->ops[producer];
    const struct shape *out = &graph->values[op->outputs[0]].shape;
    int64_t channels = out->rank > 0 ? out->dims[out->rank - 1] : 1;
    if (host->kind == OP_CONV) {
        const struct constant *weights = host->conv.weights;
        int64_t inner = host->conv.transposed ? weights->shape.dims[weights->shape.rank - 1] : 1;
        const void *owner = weights;
        host->conv.bias = fold_bias(f, host->conv.bias, owner, op, channels);
        host->conv.weights = fold_weights(f, weights, op, channels, inner);
    } else if (host->kind == OP_MATMUL && host->matmul.weights) {
        const struct constant *weights = host->matmul.weights;
        host->matmul.bias = fold_bias(f, host->matmul.bias, weights, op, channels);
        host->matmul.weights = fold_weights(f, weights, op, channels, 1);
    } else if (is_affine(host) && !(host->kind == OP_UNARY && op->kind == OP_UNARY)) {
        join_affine(f, host, op, channels);
    } else {
        return false;
    }
    if (f->failed)
        return false;
    fuse_take_output(f, producer, index);
    return true;
}

/* ---- padding ---- */

/* Can this op's result never be negative? */
static bool never_negative(const struct op *op)
{
    const struct op_unary *last = NULL;
    if (op->post_count > 0 && op->posts[op->post_count - 1].kind == POST_UNARY)
        last = &op->posts[op->post_count - 1].unary;
    else if (op->post_count == 0 && op->kind == OP_UNARY)
        last = &op->unary;
    if (!last)
        return false;
    return (last->function == UNARY_RELU && last->alpha == 0) || last->function == UNARY_SIGMOID ||
           last->function == UNARY_HARD_SIGMOID || last->function == UNARY_SQUARE ||
           last->function == UNARY_ABS || last->function == UNARY_EXP ||
           last->function == UNARY_SOFTPLUS || (last->function == UNARY_CLIP && last->alpha >= 0);
}

bool fuse_pad(struct fuser *f, int index)
{
    struct graph *graph = f->graph;
    struct op *op = &graph->ops[index];
    bool conv = op->kind == OP_CONV && !op->conv.transposed;
    bool pool = op->kind == OP_POOL && op->pool.function == POOL_MAX;
    int producer = conv || pool ? fuse_sole_producer(f, op->inputs[0]) : -1;
    if (producer < 0 || graph->ops[producer].kind != OP_PAD)
        return false;
    const struct op *pad = &graph->ops[producer];
    int spatial = conv ? op->conv.spatial : op->pool.spatial;
    if (pad->pad.value != 0 || pad->pad.before[0] || pad->pad.after[0] ||
        pad->pad.before[spatial + 1] || pad->pad.after[spatial + 1])
        return false;
    int64_t *before = conv ? op->conv.pad_before : op->pool.pad_before;
    int64_t *after = conv ? op->conv.pad_after : op->pool.pad_after;
    if (pool) { /* its own padding is -infinity: the same only over values >= 0 */
        int source = graph->values[pad->inputs[0]].producer;
        if (source < 0 || !never_negative(&graph->ops[source]))
            return false;
        for (int i = 0; i < spatial; i++) {
            if (before[i] + pad->pad.before[i + 1] >= op->pool.window[i] ||
                after[i] + pad->pad.after[i + 1] >= op->pool.window[i])
                return false;
        }
    }
    for (int i = 0; i < spatial; i++) {
        before[i] += pad->pad.before[i + 1];
        after[i] += pad->pad.after[i + 1];
    }
    int in = pad->inputs[0], out = pad->outputs[0];
    fuse_absorb(f, index, producer);
    fuse_replace(f, out, in);
    return true;
}
