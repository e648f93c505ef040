#include "engine/graph/fuse.h"
#include "engine/graph/fuse_rules.h"
#include "engine/graph/op_rules.h"
#include <stdlib.h>
#include <string.h>

/* ---- bookkeeping ---- */

static void count_uses(struct fuser *f)
{
    const struct graph *graph = f->graph;
    memset(f->uses, 0, graph->value_count * sizeof *f->uses);
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        if (f->dead[i])
            continue;
        for (size_t j = 0; j < op->input_count; j++)
            f->uses[op->inputs[j]]++;
        for (size_t j = 0; j < op->post_count; j++) {
            if (op->posts[j].kind == POST_BINARY)
                f->uses[op->posts[j].value]++;
        }
    }
    for (size_t i = 0; i < graph->output_count; i++)
        f->uses[graph->outputs[i]] += FUSE_OUTPUT;
}

int fuse_sole_producer(const struct fuser *f, int value)
{
    int producer = f->graph->values[value].producer;
    return producer >= 0 && f->uses[value] == 1 ? producer : -1;
}

void fuse_replace(struct fuser *f, int old, int new)
{
    struct graph *graph = f->graph;
    for (size_t i = 0; i < graph->op_count; i++) {
        struct op *op = &graph->ops[i];
        if (f->dead[i])
            continue;
        for (size_t j = 0; j < op->input_count; j++) {
            if (op->inputs[j] == old)
                op->inputs[j] = new;
        }
        for (size_t j = 0; j < op->post_count; j++) {
            if (op->posts[j].kind == POST_BINARY && op->posts[j].value == old)
                op->posts[j].value = new;
        }
        if (op->kind == OP_RESHAPE)
            graph->values[op->outputs[0]].alias_of = op->inputs[0];
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        if (graph->outputs[i] == old)
            graph->outputs[i] = new;
    }
    count_uses(f);
}

static void add_fused(struct op *host, int layer)
{
    if (layer == host->layer)
        return;
    size_t at = 0;
    while (at < host->fused_count && host->fused[at] < layer)
        at++;
    if (at < host->fused_count && host->fused[at] == layer)
        return;
    host->fused = xrealloc(host->fused, (host->fused_count + 1) * sizeof *host->fused);
    memmove(host->fused + at + 1, host->fused + at, (host->fused_count - at) * sizeof *host->fused);
    host->fused[at] = layer;
    host->fused_count++;
}

void fuse_absorb(struct fuser *f, int host, int guest)
{
    struct op *to = &f->graph->ops[host];
    const struct op *from = &f->graph->ops[guest];
    add_fused(to, from->layer);
    for (size_t i = 0; i < from->fused_count; i++)
        add_fused(to, from->fused[i]);
    f->dead[guest] = true;
}

void fuse_take_output(struct fuser *f, int host, int guest)
{
    int value = f->graph->ops[guest].outputs[0];
    fuse_absorb(f, host, guest);
    f->graph->ops[host].outputs[0] = value;
    f->graph->values[value].producer = host;
    count_uses(f);
}

/* Let op `from` run in slot `to`, whose own op is dead. */
static void move_op(struct fuser *f, int from, int to)
{
    struct graph *graph = f->graph;
    struct op op = graph->ops[to];
    graph->ops[to] = graph->ops[from];
    graph->ops[from] = op;
    f->dead[from] = true;
    f->dead[to] = false;
    for (size_t i = 0; i < graph->ops[to].output_count; i++)
        graph->values[graph->ops[to].outputs[i]].producer = to;
}

/* ---- dropping ---- */

static bool is_model_input(const struct fuser *f, int value)
{
    return f->graph->values[value].producer < 0;
}

/* Ops that change nothing. The value behind a model output keeps an op of its own if it would
 * otherwise be a model input. */
static bool drop_noop(struct fuser *f, int index)
{
    struct graph *graph = f->graph;
    struct op *op = &graph->ops[index];
    int in = op->inputs[0], out = op->outputs[0];
    if (op->post_count > 0)
        return false;
    bool nothing =
        op->kind == OP_UNARY &&
        (op->unary.function == UNARY_IDENTITY ||
         (op->unary.function == UNARY_LINEAR && op->unary.alpha == 1 && op->unary.beta == 0));
    if (op->kind == OP_RESHAPE)
        nothing = shape_equal(&graph->values[in].shape, &graph->values[out].shape);
    if (nothing && !(f->uses[out] >= FUSE_OUTPUT && is_model_input(f, in))) {
        f->dead[index] = true;
        fuse_replace(f, out, in);
        return true;
    }
    int producer = graph->values[in].producer;
    if (op->kind == OP_RESHAPE && producer >= 0 && graph->ops[producer].kind == OP_RESHAPE) {
        op->inputs[0] = graph->ops[producer].inputs[0]; /* a reshape of a reshape */
        graph->values[out].alias_of = op->inputs[0];
        count_uses(f);
        return true;
    }
    return false;
}

static bool undone(const struct op *first, const struct op *second, int rank)
{
    for (int i = 0; i < rank; i++) {
        if (first->transpose.permutation[second->transpose.permutation[i]] != i)
            return false;
    }
    return true;
}

/* The transpose that makes this value and nothing else reads, or -1. */
static int sole_transpose(const struct fuser *f, int value)
{
    int producer = fuse_sole_producer(f, value);
    return producer >= 0 && f->graph->ops[producer].kind == OP_TRANSPOSE ? producer : -1;
}

/* Let elementwise op `index` run before the transpose in slot `early`: its result takes the value
 * of the transpose's output, which gets the shape of before. */
static void swap_with_transpose(struct fuser *f, int index, int early)
{
    struct graph *graph = f->graph;
    struct op transpose = graph->ops[early], op = graph->ops[index];
    int middle = transpose.outputs[0], end = op.outputs[0];
    graph->values[middle].shape = graph->values[transpose.inputs[0]].shape;
    graph->values[middle].layer = op.layer;
    op.outputs[0] = middle;
    transpose.inputs[0] = middle;
    transpose.outputs[0] = end;
    graph->ops[early] = op;
    graph->ops[index] = transpose;
    graph->values[middle].producer = early;
    graph->values[end].producer = index;
    count_uses(f);
}

/* Pairs of transposes that undo each other go; elementwise ops are moved in front of a transpose,
 * so that channels-first models meet their pairs. */
static bool move_transpose(struct fuser *f, int index)
{
    struct graph *graph = f->graph;
    struct op *op = &graph->ops[index];
    int first = sole_transpose(f, op->inputs[0]);
    int producer = graph->values[op->inputs[0]].producer;
    if (op->kind == OP_TRANSPOSE && producer >= 0 && graph->ops[producer].kind == OP_TRANSPOSE &&
        undone(&graph->ops[producer], op, graph->values[op->inputs[0]].shape.rank)) {
        int in = graph->ops[producer].inputs[0], out = op->outputs[0];
        if (f->uses[out] >= FUSE_OUTPUT && is_model_input(f, in))
            return false;
        f->dead[index] = true;
        fuse_replace(f, out, in);
        return true;
    }
    if (first < 0 || op->post_count > 0)
        return false;
    if (op->kind == OP_UNARY) {
        op->inputs[0] = graph->ops[first].inputs[0];
        swap_with_transpose(f, index, first);
        return true;
    }
    if (op->kind != OP_BINARY || op->input_count != 2)
        return false;
    int second = sole_transpose(f, op->inputs[1]);
    const struct shape *a = &graph->values[op->inputs[0]].shape;
    if (second < 0 || !shape_equal(a, &graph->values[op->inputs[1]].shape) ||
        memcmp(graph->ops[first].transpose.permutation, graph->ops[second].transpose.permutation,
               (size_t)a->rank * sizeof(int)) != 0)
        return false;
    op->inputs[0] = graph->ops[first].inputs[0];
    op->inputs[1] = graph->ops[second].inputs[0];
    f->dead[first < second ? first : second] = true;
    swap_with_transpose(f, index, first < second ? second : first);
    return true;
}

/* ---- posts ---- */

static bool holds_posts(const struct op *op)
{
    return op->kind == OP_CONV || op->kind == OP_MATMUL || op_elementwise(op);
}

/* May this host carry one more post of the kind? See fuse.h for the pattern. */
static bool has_room(const struct op *host, bool binary)
{
    if (!holds_posts(host))
        return false;
    if (host->kind != OP_CONV && host->kind != OP_MATMUL)
        return host->post_count < FUSE_POSTS_MOST;
    size_t unaries = 0, binaries = 0;
    for (size_t i = 0; i < host->post_count; i++) {
        binaries += host->posts[i].kind == POST_BINARY;
        unaries = host->posts[i].kind == POST_BINARY ? 0 : unaries + 1;
    }
    return binary ? binaries == 0 : unaries == 0;
}

static void add_post(struct op *host, struct post post)
{
    host->posts = xrealloc(host->posts, (host->post_count + 1) * sizeof *host->posts);
    host->posts[host->post_count++] = post;
}

/* May the guest's own posts follow behind? */
static bool room_for_posts(const struct op *host, const struct op *guest)
{
    if (host->kind == OP_CONV || host->kind == OP_MATMUL)
        return guest->post_count == 0;
    return host->post_count + guest->post_count < FUSE_POSTS_MOST;
}

static bool unary_to_post(struct fuser *f, int index)
{
    struct op *op = &f->graph->ops[index];
    if (op->kind != OP_UNARY)
        return false;
    int producer = fuse_sole_producer(f, op->inputs[0]);
    if (producer < 0 || !has_room(&f->graph->ops[producer], false) ||
        !room_for_posts(&f->graph->ops[producer], op))
        return false;
    add_post(&f->graph->ops[producer], (struct post){.kind = POST_UNARY, .unary = op->unary});
    for (size_t i = 0; i < op->post_count; i++)
        add_post(&f->graph->ops[producer], op->posts[i]);
    fuse_take_output(f, producer, index);
    return true;
}

/* How good a host is the producer of operand `which`? 0 if it is none. */
static int host_rank(const struct fuser *f, const struct op *op, int which)
{
    const struct graph *graph = f->graph;
    int producer = fuse_sole_producer(f, op->inputs[which]);
    if (producer < 0 || !has_room(&graph->ops[producer], true) ||
        !shape_equal(&graph->values[op->inputs[0]].shape, &graph->values[op->inputs[1]].shape))
        return 0;
    bool commutes = op->binary.function == BINARY_ADD || op->binary.function == BINARY_MULTIPLY ||
                    op->binary.function == BINARY_MAXIMUM || op->binary.function == BINARY_MINIMUM;
    if (which == 1 && !commutes)
        return 0;
    bool heavy = graph->ops[producer].kind == OP_CONV || graph->ops[producer].kind == OP_MATMUL;
    if (heavy && op->binary.function != BINARY_ADD && op->binary.function != BINARY_MULTIPLY)
        return 0;
    return (heavy ? 1 << 24 : 0) + producer + 1;
}

static bool binary_to_post(struct fuser *f, int index)
{
    struct graph *graph = f->graph;
    struct op *op = &graph->ops[index];
    if (op->kind != OP_BINARY || op->input_count != 2 || op->post_count > 0)
        return false;
    int first = host_rank(f, op, 0), second = host_rank(f, op, 1);
    if (first == 0 && second == 0)
        return false;
    int which = second > first;
    int host = graph->values[op->inputs[which]].producer, other = op->inputs[1 - which];
    int other_producer = graph->values[other].producer;
    add_post(&graph->ops[host],
             (struct post){.kind = POST_BINARY, .binary = op->binary.function, .value = other});
    fuse_take_output(f, host, index);
    if (other_producer > host) /* the other operand comes later: so does the host */
        move_op(f, host, index);
    return true;
}

/* Both, so that one walk in execution order fills a host's posts in their order. */
static bool to_post(struct fuser *f, int index)
{
    return unary_to_post(f, index) || binary_to_post(f, index);
}

/* ---- driver ---- */

typedef bool (*rule)(struct fuser *f, int op);

/* Apply a rule until nothing changes. */
static bool sweep(struct fuser *f, rule apply)
{
    bool any = false;
    for (bool changed = true; changed && !f->failed;) {
        changed = false;
        for (size_t i = 0; i < f->graph->op_count && !f->failed; i++) {
            if (!f->dead[i] && f->graph->ops[i].input_count > 0 && apply(f, (int)i))
                changed = any = true;
        }
    }
    return any;
}

/* Ops whose result nobody reads. */
static void drop_unused(struct fuser *f)
{
    for (size_t i = f->graph->op_count; i-- > 0;) {
        const struct op *op = &f->graph->ops[i];
        bool read = false;
        for (size_t j = 0; j < op->output_count; j++)
            read |= f->uses[op->outputs[j]] > 0;
        if (!f->dead[i] && !read) {
            f->dead[i] = true;
            count_uses(f);
        }
    }
}

/* Throw dead ops and unread values out and number the rest anew. */
static void compact(struct fuser *f)
{
    struct graph *graph = f->graph;
    int *renamed = xmalloc((graph->value_count + 1) * sizeof *renamed);
    bool *kept = xcalloc(graph->value_count + 1, sizeof *kept);
    size_t ops = 0, values = 0;
    for (size_t i = 0; i < graph->op_count; i++) {
        struct op *op = &graph->ops[i];
        if (f->dead[i]) {
            free(op->inputs);
            free(op->posts);
            free(op->fused);
            continue;
        }
        for (size_t j = 0; j < op->output_count; j++) {
            kept[op->outputs[j]] = true;
            graph->values[op->outputs[j]].producer = (int)ops;
        }
        graph->ops[ops++] = *op;
    }
    for (size_t i = 0; i < graph->input_count; i++)
        kept[graph->inputs[i]] = true;
    for (size_t i = 0; i < graph->value_count; i++) {
        renamed[i] = (int)values;
        if (kept[i])
            graph->values[values++] = graph->values[i];
    }
    for (size_t i = 0; i < values; i++) {
        if (graph->values[i].alias_of >= 0)
            graph->values[i].alias_of = renamed[graph->values[i].alias_of];
    }
    for (size_t i = 0; i < ops; i++) {
        struct op *op = &graph->ops[i];
        for (size_t j = 0; j < op->input_count; j++)
            op->inputs[j] = renamed[op->inputs[j]];
        for (size_t j = 0; j < op->post_count; j++)
            op->posts[j].value =
                op->posts[j].kind == POST_BINARY ? renamed[op->posts[j].value] : -1;
        for (size_t j = 0; j < op->output_count; j++)
            op->outputs[j] = renamed[op->outputs[j]];
    }
    for (size_t i = 0; i < graph->input_count; i++)
        graph->inputs[i] = renamed[graph->inputs[i]];
    for (size_t i = 0; i < graph->output_count; i++)
        graph->outputs[i] = renamed[graph->outputs[i]];
    graph->op_count = ops;
    graph->value_count = values;
    free(renamed);
    free(kept);
}

bool graph_fuse(struct graph *graph, struct constant_pool *pool, struct error *error)
{
    struct fuser f = {.graph = graph, .pool = pool, .error = error};
    f.dead = xcalloc(graph->op_count + 1, sizeof *f.dead);
    f.uses = xcalloc(graph->value_count + 1, sizeof *f.uses);
    count_uses(&f);
    sweep(&f, drop_noop);
    drop_unused(&f);
    while (sweep(&f, move_transpose))
        drop_unused(&f);
    static const rule RULES[] = {fuse_unary_chain, fuse_gate, fuse_affine,
                                 fuse_pad,         to_post,   fuse_pad};
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++)
        sweep(&f, RULES[i]);
    sweep(&f, drop_noop);
    drop_unused(&f);
    compact(&f);
    free(f.dead);
    free(f.uses);
    return !f.failed;
}
