/* One op becomes one step: a oneDNN primitive with post-ops where there is a good one, else our
 * own loop. A reference implementation inside oneDNN counts as "no good one" if we have a loop. */
#include "engine/cpu/cpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the building of one step carries around. */
struct builder {
    struct plan *plan;
    struct device *device;
    const struct graph *graph;
    const struct op *op;
    struct step *step;
    struct error *error;
    bool failed; /* out of memory: not "no such primitive" */
};

/* A shape as oneDNN sees it: logical dims and strides. */
struct view {
    int rank;
    int64_t dims[TENSOR_RANK_MAX], strides[TENSOR_RANK_MAX];
};

/* ---- views ---- */

/* (N, spatial..., C) row-major, in the logical order N, C, spatial... */
static struct view view_channels(const struct shape *shape)
{
    struct view view = {.rank = shape->rank};
    int64_t stride = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        int at = i == 0 ? 0 : i == shape->rank - 1 ? 1 : i + 1;
        view.dims[at] = shape->dims[i];
        view.strides[at] = stride;
        stride *= shape->dims[i];
    }
    return view;
}

static struct view view_rows(int64_t rows, int64_t width)
{
    return (struct view){.rank = 2, .dims = {rows, width}, .strides = {width, 1}};
}

/* All but the last axis joined. */
static struct view view_flat(const struct shape *shape)
{
    int64_t width = shape->rank > 0 ? shape->dims[shape->rank - 1] : 1;
    return view_rows(shape_elements(shape) / width, width);
}

/* Of an activation, and of a constant as it lies in the pool. */
static struct dnn_md *md_of(const struct builder *b, const struct view *view)
{
    return dnn_md_new(view->rank, view->dims, view->strides, b->plan->type);
}

static struct dnn_md *md_of_constant(const struct view *view)
{
    return dnn_md_new(view->rank, view->dims, view->strides, dnnl_f32);
}

static const struct shape *shape_of_value(const struct builder *b, int value)
{
    return &b->graph->values[value].shape;
}

static const struct shape *out_shape(const struct builder *b)
{
    return shape_of_value(b, b->op->outputs[0]);
}

/* ---- arguments ---- */

static void add_argument(struct builder *b, int id, dnnl_memory_t memory, bool owned)
{
    struct step *step = b->step;
    if (!memory || step->argument_count == STEP_ARGUMENTS) {
        b->failed = true;
        return;
    }
    step->arguments[step->argument_count] = (dnnl_exec_arg_t){id, memory};
    step->owned[step->argument_count++] = owned;
}

static void add_data(struct builder *b, int id, const struct dnn_md *md, void *data)
{
    add_argument(b, id, dnn_memory_new(md, b->device->engine, data), true);
}

static void add_value(struct builder *b, int id, const struct dnn_md *md, int value)
{
    add_data(b, id, md, plan_value(b->plan, value));
}

/* A constant, reordered into what the primitive chose for `what`. */
static void add_constant(struct builder *b, int id, const struct constant *constant,
                         const struct dnn_md *plain, const_dnnl_primitive_desc_t pd, bool chosen)
{
    struct dnn_md *wanted = chosen ? dnn_md_query(pd, dnnl_query_weights_md, 0) : NULL;
    add_argument(b, id, weights_get(b->device, constant, plain, wanted, b->error), false);
    dnn_md_free(wanted);
}

/* ---- posts ---- */

/* The posts of an op in oneDNN's words. */
struct posts {
    struct dnn_post list[DNN_POSTS_MAX];
    int values[DNN_POSTS_MAX]; /* second operand of a binary */
    size_t count;
    size_t taken;      /* posts of the op that the list covers */
    struct dnn_md *md; /* of every binary operand, which has the shape of the result */
    bool sums;         /* the result is added to what lies in the output already */
};

static bool in_place(const struct builder *b, int value)
{
    return plan_value(b->plan, value) == plan_value(b->plan, b->op->outputs[0]);
}

/* Translate as many posts as oneDNN has words for, after `first`, posts the primitive needs for
 * itself. */
static struct posts make_posts(struct builder *b, const struct view *result,
                               const struct dnn_post *first, size_t first_count)
{
    struct posts posts = {.md = md_of(b, result)};
    const struct op *op = b->op;
    for (size_t i = 0; i < first_count; i++)
        posts.list[posts.count++] = first[i];
    for (; posts.taken < op->post_count; posts.taken++) {
        const struct post *post = &op->posts[posts.taken];
        if (posts.count + 2 > DNN_POSTS_MAX)
            break;
        if (post->kind == POST_UNARY) {
            struct dnn_post unary[2];
            int count = dnn_unary(&post->unary, unary);
            bool fits = count >= 0;
            for (int j = 0; j < count; j++)
                fits &= dnn_post_fits(posts.list, posts.count, &unary[j]);
            if (!fits)
                break;
            for (int j = 0; j < count; j++)
                posts.list[posts.count++] = unary[j];
            continue;
        }
        struct dnn_post binary = {.kind = DNN_BINARY, .operand = posts.md};
        if (!dnn_binary(post->binary, &binary.algorithm) ||
            !shape_equal(shape_of_value(b, post->value), out_shape(b)))
            break;
        if (in_place(b, post->value)) {
            binary = (struct dnn_post){.kind = DNN_SUM};
            posts.sums = true;
        }
        posts.values[posts.count] = post->value;
        posts.list[posts.count++] = binary;
    }
    return posts;
}

/* What makes a primitive descriptor of the op's kind with given attributes. */
typedef dnnl_primitive_desc_t maker(struct builder *b, const_dnnl_primitive_attr_t attr,
                                    const void *context);

static bool is_reference(const_dnnl_primitive_desc_t pd)
{
    const char *name = dnn_implementation(pd);
    return strncmp(name, "ref", 3) == 0 || strncmp(name, "simple:ref", 10) == 0;
}

static dnnl_primitive_desc_t try_posts(struct builder *b, maker *make, const void *context,
                                       const struct posts *posts, size_t count)
{
    dnnl_primitive_attr_t attr = dnn_attributes(posts->list, count);
    if (!attr)
        return NULL;
    dnnl_primitive_desc_t pd = make(b, attr, context);
    dnnl_primitive_attr_destroy(attr);
    return pd;
}

/* The best primitive descriptor: with all posts; if that is slow or missing, without, and the posts
 * in a loop of ours. `own_count` are posts the primitive cannot do without. */
static dnnl_primitive_desc_t choose(struct builder *b, maker *make, const void *context,
                                    struct posts *posts, size_t own_count, bool accept_reference)
{
    dnnl_primitive_desc_t fused = try_posts(b, make, context, posts, posts->count);
    if (fused && !is_reference(fused))
        return fused;
    if (!posts->sums && posts->count > own_count) {
        dnnl_primitive_desc_t plain = try_posts(b, make, context, posts, own_count);
        if (plain && (!is_reference(plain) || !fused)) {
            if (fused)
                dnnl_primitive_desc_destroy(fused);
            posts->count = own_count;
            posts->taken = 0;
            fused = plain;
        } else if (plain) {
            dnnl_primitive_desc_destroy(plain);
        }
    }
    if (fused && is_reference(fused) && !accept_reference) {
        dnnl_primitive_desc_destroy(fused);
        return NULL;
    }
    return fused;
}

/* Make the primitive; add post operands and the scratchpad. Consumes pd. */
static bool finish(struct builder *b, dnnl_primitive_desc_t pd, const struct posts *posts)
{
    struct step *step = b->step;
    for (size_t i = 0; i < posts->count; i++) {
        if (posts->list[i].kind == DNN_BINARY && posts->list[i].operand == posts->md)
            add_value(b, DNNL_ARG_ATTR_MULTIPLE_POST_OP((int)i) | DNNL_ARG_SRC_1, posts->md,
                      posts->values[i]);
    }
    struct dnn_md *scratch = dnn_md_query(pd, dnnl_query_scratchpad_md, 0);
    step->scratch_bytes = dnn_md_bytes(scratch);
    if (step->scratch_bytes > 0) {
        step->scratch = dnn_memory_new(scratch, b->device->engine, NULL);
        add_argument(b, DNNL_ARG_SCRATCHPAD, step->scratch, true);
    }
    dnn_md_free(scratch);
    b->failed |= dnnl_primitive_create(&step->primitive, pd) != dnnl_success;
    dnnl_primitive_desc_destroy(pd);
    step->posts = b->op->posts + posts->taken;
    step->post_count = b->op->post_count - posts->taken;
    step->impl = "onednn";
    return !b->failed;
}

/* ---- convolution ---- */

struct conv_parts {
    struct dnn_window window;
    bool transposed;
    struct dnn_md *src, *weights, *plain, *bias, *dst;
};

static dnnl_primitive_desc_t make_conv(struct builder *b, const_dnnl_primitive_attr_t attr,
                                       const void *context)
{
    const struct conv_parts *parts = context;
    return dnn_convolution(b->device->engine, attr, &parts->window, parts->transposed, parts->src,
                           parts->weights, parts->bias, parts->dst);
}

/* Keras's (k..., C/g, K), or (k..., K, C) if transposed, as [g,] out, in, k... */
static struct view view_kernel(const struct op_conv *conv)
{
    const struct shape *w = &conv->weights->shape;
    int spatial = conv->spatial, first = conv->groups > 1;
    int64_t last = w->dims[spatial + 1], before = w->dims[spatial];
    int64_t out = conv->transposed ? before : last, in = conv->transposed ? last : before;
    struct view view = {.rank = spatial + 2 + first};
    if (first) {
        view.dims[0] = conv->groups;
        view.strides[0] = out / conv->groups;
        out /= conv->groups;
    }
    view.dims[first] = out;
    view.strides[first] = conv->transposed ? last : 1;
    view.dims[first + 1] = in;
    view.strides[first + 1] = conv->transposed ? 1 : last;
    int64_t stride = last * before;
    for (int i = spatial - 1; i >= 0; i--) {
        view.dims[first + 2 + i] = w->dims[i];
        view.strides[first + 2 + i] = stride;
        stride *= w->dims[i];
    }
    return view;
}

static bool build_conv(struct builder *b)
{
    const struct op_conv *conv = &b->op->conv;
    struct view src = view_channels(shape_of_value(b, b->op->inputs[0]));
    struct view dst = view_channels(out_shape(b)), kernel = view_kernel(conv);
    struct view bias = {.rank = 1, .dims = {dst.dims[1]}, .strides = {1}};
    struct conv_parts parts = {.window = {conv->spatial, conv->kernel, conv->stride, conv->dilation,
                                          conv->pad_before, conv->pad_after},
                               .transposed = conv->transposed,
                               .src = md_of(b, &src),
                               .weights = dnn_md_new(kernel.rank, kernel.dims, NULL, b->plan->type),
                               .plain = md_of_constant(&kernel),
                               .bias = conv->bias ? md_of_constant(&bias) : NULL,
                               .dst = md_of(b, &dst)};
    struct posts posts = make_posts(b, &dst, NULL, 0);
    dnnl_primitive_desc_t pd = choose(b, make_conv, &parts, &posts, 0, true);
    if (pd) {
        add_value(b, DNNL_ARG_SRC, parts.src, b->op->inputs[0]);
        add_constant(b, DNNL_ARG_WEIGHTS, conv->weights, parts.plain, pd, true);
        if (conv->bias)
            add_constant(b, DNNL_ARG_BIAS, conv->bias, parts.bias, pd, false);
        add_value(b, DNNL_ARG_DST, parts.dst, b->op->outputs[0]);
        finish(b, pd, &posts);
    }
    dnn_md_free(parts.src);
    dnn_md_free(parts.weights);
    dnn_md_free(parts.plain);
    dnn_md_free(parts.bias);
    dnn_md_free(parts.dst);
    dnn_md_free(posts.md);
    return pd != NULL;
}

/* ---- matmul ---- */

struct matmul_parts {
    bool constant; /* the matrix is a weight */
    struct dnn_md *src, *weights, *plain, *bias, *dst;
};

static dnnl_primitive_desc_t make_matmul(struct builder *b, const_dnnl_primitive_attr_t attr,
                                         const void *context)
{
    const struct matmul_parts *parts = context;
    if (parts->constant)
        return dnn_inner_product(b->device->engine, attr, parts->src, parts->weights, parts->bias,
                                 parts->dst);
    return dnn_matmul(b->device->engine, attr, parts->src, parts->weights, parts->bias, parts->dst);
}

/* (batch axes joined, rows, columns) */
static struct view view_matrices(const struct shape *shape)
{
    int64_t rows = shape->dims[shape->rank - 2], columns = shape->dims[shape->rank - 1];
    return (struct view){.rank = 3,
                         .dims = {shape_elements(shape) / (rows * columns), rows, columns},
                         .strides = {rows * columns, columns, 1}};
}

static bool build_matmul(struct builder *b)
{
    const struct op_matmul *matmul = &b->op->matmul;
    const struct shape *in = shape_of_value(b, b->op->inputs[0]);
    struct matmul_parts parts = {.constant = matmul->weights != NULL};
    struct view src, dst, weights, bias;
    if (parts.constant) {
        int64_t channels = matmul->weights->shape.dims[0], units = matmul->weights->shape.dims[1];
        src = view_flat(in);
        dst = view_flat(out_shape(b));
        weights = (struct view){.rank = 2, .dims = {units, channels}, .strides = {1, units}};
        bias = (struct view){.rank = 1, .dims = {units}, .strides = {1}};
        parts.plain = md_of_constant(&weights);
        parts.weights = dnn_md_new(2, weights.dims, NULL, b->plan->type);
        parts.bias = matmul->bias ? md_of_constant(&bias) : NULL;
    } else {
        src = view_matrices(in);
        weights = view_matrices(shape_of_value(b, b->op->inputs[1]));
        dst = view_matrices(out_shape(b));
        parts.weights = md_of(b, &weights);
    }
    parts.src = md_of(b, &src);
    parts.dst = md_of(b, &dst);
    struct posts posts = make_posts(b, &dst, NULL, 0);
    dnnl_primitive_desc_t pd = choose(b, make_matmul, &parts, &posts, 0, true);
    if (pd) {
        add_value(b, DNNL_ARG_SRC, parts.src, b->op->inputs[0]);
        if (parts.constant)
            add_constant(b, DNNL_ARG_WEIGHTS, matmul->weights, parts.plain, pd, true);
        else
            add_value(b, DNNL_ARG_WEIGHTS, parts.weights, b->op->inputs[1]);
        if (matmul->bias)
            add_constant(b, DNNL_ARG_BIAS, matmul->bias, parts.bias, pd, false);
        add_value(b, DNNL_ARG_DST, parts.dst, b->op->outputs[0]);
        finish(b, pd, &posts);
    }
    dnn_md_free(parts.src);
    dnn_md_free(parts.weights);
    dnn_md_free(parts.plain);
    dnn_md_free(parts.bias);
    dnn_md_free(parts.dst);
    dnn_md_free(posts.md);
    return pd != NULL;
}

/* ---- ops with one input, one output and no constants ---- */

struct simple_parts {
    struct dnn_md *src, *dst;
    enum pool_function pool;
    struct dnn_window window;
    struct dnn_post function; /* eltwise */
    int axis;
    bool log;
};

static dnnl_primitive_desc_t make_pool(struct builder *b, const_dnnl_primitive_attr_t attr,
                                       const void *context)
{
    const struct simple_parts *parts = context;
    return dnn_pooling(b->device->engine, attr, parts->pool, &parts->window, parts->src,
                       parts->dst);
}

static dnnl_primitive_desc_t make_eltwise(struct builder *b, const_dnnl_primitive_attr_t attr,
                                          const void *context)
{
    const struct simple_parts *parts = context;
    return dnn_eltwise(b->device->engine, attr, &parts->function, parts->src, parts->dst);
}

static dnnl_primitive_desc_t make_softmax(struct builder *b, const_dnnl_primitive_attr_t attr,
                                          const void *context)
{
    const struct simple_parts *parts = context;
    return dnn_softmax(b->device->engine, attr, parts->log, parts->axis, parts->src, parts->dst);
}

static dnnl_primitive_desc_t make_reorder(struct builder *b, const_dnnl_primitive_attr_t attr,
                                          const void *context)
{
    const struct simple_parts *parts = context;
    return dnn_reorder(b->device->engine, attr, parts->src, parts->dst);
}

static bool build_simple(struct builder *b, maker *make, struct simple_parts *parts,
                         const struct view *src, const struct view *dst,
                         const struct dnn_post *first, size_t first_count, bool accept_reference)
{
    parts->src = md_of(b, src);
    parts->dst = md_of(b, dst);
    struct posts posts = make_posts(b, dst, first, first_count);
    dnnl_primitive_desc_t pd = choose(b, make, parts, &posts, first_count, accept_reference);
    if (pd) {
        add_value(b, DNNL_ARG_SRC, parts->src, b->op->inputs[0]);
        add_value(b, DNNL_ARG_DST, parts->dst, b->op->outputs[0]);
        finish(b, pd, &posts);
    }
    dnn_md_free(parts->src);
    dnn_md_free(parts->dst);
    dnn_md_free(posts.md);
    return pd != NULL;
}

static bool build_pool(struct builder *b)
{
    const struct op_pool *pool = &b->op->pool;
    struct simple_parts parts = {.pool = pool->function,
                                 .window = {pool->spatial, pool->window, pool->stride, NULL,
                                            pool->pad_before, pool->pad_after}};
    struct view src = view_channels(shape_of_value(b, b->op->inputs[0]));
    struct view dst = view_channels(out_shape(b));
    return build_simple(b, make_pool, &parts, &src, &dst, NULL, 0, true);
}

/* A mean or maximum over all the middle axes is a pooling with one window. */
static bool build_reduce(struct builder *b)
{
    const struct op_reduce *reduce = &b->op->reduce;
    const struct shape *in = shape_of_value(b, b->op->inputs[0]);
    bool global =
        in->rank >= 3 && (reduce->function == REDUCE_MEAN || reduce->function == REDUCE_MAX);
    for (int i = 0; i < in->rank; i++)
        global &= reduce->axes[i] == (i > 0 && i < in->rank - 1);
    if (!global)
        return false;
    int64_t batch = in->dims[0], channels = in->dims[in->rank - 1];
    struct shape image = {.rank = 4, .dims = {batch, 1, 1, channels}};
    struct shape point = image;
    image.dims[1] = in->dims[1];
    image.dims[2] = shape_elements(in) / batch / channels / in->dims[1];
    static const int64_t none[2] = {0, 0}, ones[2] = {1, 1};
    struct simple_parts parts = {.pool = reduce->function == REDUCE_MEAN ? POOL_AVERAGE : POOL_MAX,
                                 .window = {2, image.dims + 1, ones, NULL, none, none}};
    struct view src = view_channels(&image), dst = view_channels(&point);
    return build_simple(b, make_pool, &parts, &src, &dst, NULL, 0, false);
}

static bool build_unary(struct builder *b)
{
    struct dnn_post words[2];
    int count = dnn_unary(&b->op->unary, words);
    if (count < 1)
        return false;
    struct simple_parts parts = {.function = words[0]};
    struct view view = view_flat(out_shape(b));
    return build_simple(b, make_eltwise, &parts, &view, &view, words + 1, (size_t)count - 1, false);
}

static bool build_softmax(struct builder *b)
{
    const struct shape *shape = out_shape(b);
    int axis = b->op->softmax.axis;
    int64_t outer = 1, inner = 1, width = shape->dims[axis];
    for (int i = 0; i < shape->rank; i++)
        *(i < axis ? &outer : &inner) *= i == axis ? 1 : shape->dims[i];
    struct simple_parts parts = {.axis = 1, .log = b->op->softmax.log};
    struct view view = {
        .rank = 3, .dims = {outer, width, inner}, .strides = {width * inner, inner, 1}};
    if (inner == 1)
        view = view_rows(outer, width);
    return build_simple(b, make_softmax, &parts, &view, &view, NULL, 0, true);
}

static bool build_transpose(struct builder *b)
{
    const struct shape *in = shape_of_value(b, b->op->inputs[0]), *out = out_shape(b);
    struct view src = {.rank = out->rank}, dst = {.rank = out->rank};
    int64_t strides[TENSOR_RANK_MAX], stride = 1, out_stride = 1;
    for (int i = in->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= in->dims[i];
    }
    for (int i = out->rank - 1; i >= 0; i--) {
        src.dims[i] = dst.dims[i] = out->dims[i];
        src.strides[i] = strides[b->op->transpose.permutation[i]];
        dst.strides[i] = out_stride;
        out_stride *= out->dims[i];
    }
    struct simple_parts parts = {.axis = 0};
    return build_simple(b, make_reorder, &parts, &src, &dst, NULL, 0, false);
}

/* ---- two operands ---- */

struct binary_parts {
    dnnl_alg_kind_t algorithm;
    struct dnn_md *a, *b, *dst;
};

static dnnl_primitive_desc_t make_binary(struct builder *b, const_dnnl_primitive_attr_t attr,
                                         const void *context)
{
    const struct binary_parts *parts = context;
    return dnn_binary_op(b->device->engine, attr, parts->algorithm, parts->a, parts->b, parts->dst);
}

/* Only equal shapes: broadcasting is ours, oneDNN's falls back to its reference. */
static bool build_binary(struct builder *b)
{
    struct binary_parts parts;
    const struct op *op = b->op;
    if (op->binary.constant || !dnn_binary(op->binary.function, &parts.algorithm) ||
        !shape_equal(shape_of_value(b, op->inputs[0]), shape_of_value(b, op->inputs[1])))
        return false;
    struct view view = view_flat(out_shape(b));
    parts.a = md_of(b, &view);
    parts.b = parts.dst = parts.a;
    struct posts posts = make_posts(b, &view, NULL, 0);
    dnnl_primitive_desc_t pd = choose(b, make_binary, &parts, &posts, 0, false);
    if (pd) {
        add_value(b, DNNL_ARG_SRC_0, parts.a, op->inputs[0]);
        add_value(b, DNNL_ARG_SRC_1, parts.b, op->inputs[1]);
        add_value(b, DNNL_ARG_DST, parts.dst, op->outputs[0]);
        finish(b, pd, &posts);
    }
    dnn_md_free(parts.a);
    dnn_md_free(posts.md);
    return pd != NULL;
}

/* x * scale, then + shift as the first post. */
static bool build_affine(struct builder *b)
{
    const struct op_affine *affine = &b->op->affine;
    struct view view = view_flat(out_shape(b));
    struct view row = view_rows(1, view.dims[1]);
    const struct constant *first = affine->scale ? affine->scale : affine->shift;
    const struct constant *second = affine->scale ? affine->shift : NULL;
    if (!first || shape_elements(&first->shape) != row.dims[1] ||
        (second && shape_elements(&second->shape) != row.dims[1]))
        return false;
    struct binary_parts parts = {.algorithm = affine->scale ? dnnl_binary_mul : dnnl_binary_add,
                                 .a = md_of(b, &view),
                                 .b = md_of_constant(&row)};
    parts.dst = parts.a;
    struct dnn_post shift = {.kind = DNN_BINARY, .algorithm = dnnl_binary_add, .operand = parts.b};
    struct posts posts = make_posts(b, &view, &shift, second ? 1 : 0);
    dnnl_primitive_desc_t pd = choose(b, make_binary, &parts, &posts, second ? 1 : 0, false);
    if (pd) {
        add_value(b, DNNL_ARG_SRC_0, parts.a, b->op->inputs[0]);
        add_constant(b, DNNL_ARG_SRC_1, first, parts.b, pd, false);
        add_value(b, DNNL_ARG_DST, parts.dst, b->op->outputs[0]);
        if (second)
            add_constant(b, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, second, parts.b, pd,
                         false);
        finish(b, pd, &posts);
    }
    dnn_md_free(parts.a);
    dnn_md_free(parts.b);
    dnn_md_free(posts.md);
    return pd != NULL;
}

/* ---- layer norm ---- */

struct norm_parts {
    float epsilon;
    bool scale, shift;
    struct dnn_md *src;
};

static dnnl_primitive_desc_t make_norm(struct builder *b, const_dnnl_primitive_attr_t attr,
                                       const void *context)
{
    const struct norm_parts *parts = context;
    return dnn_layer_norm(b->device->engine, attr, parts->epsilon, parts->scale, parts->shift,
                          parts->src, parts->src);
}

static bool build_normalise(struct builder *b)
{
    const struct op_normalise *op = &b->op->normalise;
    const struct shape *shape = out_shape(b);
    if (op->rms)
        return false;
    int64_t width = 1;
    for (int i = op->axis; i < shape->rank; i++)
        width *= shape->dims[i];
    struct view view = view_rows(shape_elements(shape) / width, width);
    struct view row = {.rank = 1, .dims = {width}, .strides = {1}};
    struct norm_parts parts = {.epsilon = op->epsilon,
                               .scale = op->gamma != NULL,
                               .shift = op->beta != NULL,
                               .src = md_of(b, &view)};
    struct dnn_md *vector = md_of_constant(&row);
    struct posts posts = make_posts(b, &view, NULL, 0);
    dnnl_primitive_desc_t pd = choose(b, make_norm, &parts, &posts, 0, false);
    if (pd) {
        add_value(b, DNNL_ARG_SRC, parts.src, b->op->inputs[0]);
        add_value(b, DNNL_ARG_DST, parts.src, b->op->outputs[0]);
        if (op->gamma)
            add_constant(b, DNNL_ARG_SCALE, op->gamma, vector, pd, false);
        if (op->beta)
            add_constant(b, DNNL_ARG_SHIFT, op->beta, vector, pd, false);
        finish(b, pd, &posts);
    }
    dnn_md_free(parts.src);
    dnn_md_free(vector);
    dnn_md_free(posts.md);
    return pd != NULL;
}

/* ---- the table ---- */

static bool (*const BUILDERS[OP_KIND_COUNT])(struct builder *b) = {
    [OP_CONV] = build_conv,           [OP_MATMUL] = build_matmul,       [OP_POOL] = build_pool,
    [OP_AFFINE] = build_affine,       [OP_UNARY] = build_unary,         [OP_BINARY] = build_binary,
    [OP_SOFTMAX] = build_softmax,     [OP_NORMALISE] = build_normalise, [OP_REDUCE] = build_reduce,
    [OP_TRANSPOSE] = build_transpose,
};

static void build_own(struct builder *b, own_kernel *kernel)
{
    struct step *step = b->step;
    const struct op *op = b->op;
    step->own = kernel;
    step->widened = b->plan->type == dnnl_bf16 && !own_moves(op);
    step->call = (struct own_call){.graph = b->graph,
                                   .op = op,
                                   .inputs = xmalloc((op->input_count + 1) * sizeof(void *)),
                                   .output = plan_value(b->plan, op->outputs[0]),
                                   .element_bytes = dnnl_data_type_size(b->plan->type)};
    for (size_t i = 0; i < op->input_count; i++)
        step->call.inputs[i] = plan_value(b->plan, op->inputs[i]);
    step->posts = op->posts;
    step->post_count = op->post_count;
    step->impl = "own";
}

/* Room for float32 copies of what our loops read and write in a bfloat16 plan: the result, then
 * the inputs or the operand of a post. */
static void reserve_copies(struct builder *b)
{
    struct step *step = b->step;
    if (b->plan->type != dnnl_bf16 || (!step->widened && step->post_count == 0))
        return;
    size_t elements = (size_t)shape_elements(out_shape(b)), most = 0;
    size_t inputs = 0;
    for (size_t i = 0; step->widened && i < b->op->input_count; i++)
        inputs += (size_t)shape_elements(shape_of_value(b, b->op->inputs[i]));
    for (size_t i = 0; i < step->post_count; i++) {
        if (step->posts[i].kind == POST_BINARY)
            most = (size_t)shape_elements(shape_of_value(b, step->posts[i].value));
    }
    size_t bytes = (elements + (inputs > most ? inputs : most)) * sizeof(float);
    if (bytes > step->scratch_bytes)
        step->scratch_bytes = bytes;
}

bool step_build(struct plan *plan, int index, struct error *error)
{
    const struct graph *graph = plan->graph;
    const struct op *op = &graph->ops[index];
    const struct model_layer *layer = &graph->model->layers[op->layer];
    struct builder b = {.plan = plan,
                        .device = plan->device,
                        .graph = graph,
                        .op = op,
                        .step = &plan->steps[index],
                        .error = error};
    if (op->kind == OP_RESHAPE)
        return true;
    if (error)
        error->code = ERROR_NONE;
    if (BUILDERS[op->kind] && BUILDERS[op->kind](&b)) {
        if (!b.failed) {
            reserve_copies(&b);
            return true;
        }
        if (error && error->code != ERROR_NONE)
            return false;
        return error_set(error, ERROR_MEMORY, layer->path, "oneDNN cannot make its primitive");
    }
    own_kernel *kernel = own_kernel_of(op);
    if (kernel) {
        build_own(&b, kernel);
        reserve_copies(&b);
        return true;
    }
    return error_set(error, ERROR_BACKEND_OP, layer->path,
                     "the CPU cannot run this %s (%s; %s says %d)", layer->class_name,
                     op_kind_name(op->kind), dnn_version_text(), (int)dnn_status());
}

void step_free(struct step *step)
{
    for (int i = 0; i < step->argument_count; i++) {
        if (step->owned[i])
            dnnl_memory_destroy(step->arguments[i].memory);
    }
    if (step->primitive)
        dnnl_primitive_destroy(step->primitive);
    free(step->call.inputs);
}
