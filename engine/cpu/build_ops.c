/* Which primitive runs which op: one function a kind, joined by one table. */
#include "engine/cpu/build.h"

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
struct view view_kernel(const struct op_conv *conv)
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
    if (build_own_conv(b))
        return true;
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
    struct posts posts = builder_posts(b, &dst, NULL, 0);
    dnnl_primitive_desc_t pd = builder_choose(b, make_conv, &parts, &posts, 0, true);
    if (pd) {
        builder_add_value(b, DNNL_ARG_SRC, parts.src, b->op->inputs[0]);
        builder_add_constant(b, DNNL_ARG_WEIGHTS, conv->weights, parts.plain, pd, true);
        if (conv->bias)
            builder_add_constant(b, DNNL_ARG_BIAS, conv->bias, parts.bias, pd, false);
        builder_add_value(b, DNNL_ARG_DST, parts.dst, b->op->outputs[0]);
        builder_finish(b, pd, &posts);
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
    bool pixels;   /* and the rows are pixels */
    struct dnn_md *src, *weights, *plain, *bias, *dst;
};

static dnnl_primitive_desc_t make_matmul(struct builder *b, const_dnnl_primitive_attr_t attr,
                                         const void *context)
{
    static const int64_t ones[2] = {1, 1}, none[2] = {0, 0};
    static const struct dnn_window window = {2, ones, ones, ones, none, none};
    const struct matmul_parts *parts = context;
    if (parts->pixels)
        return dnn_convolution(b->device->engine, attr, &window, false, parts->src, parts->weights,
                               parts->bias, parts->dst);
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

struct view view_pixels(const struct view *rows)
{
    int64_t width = rows->dims[1];
    return (struct view){.rank = 4,
                         .dims = {1, width, rows->dims[0], 1},
                         .strides = {rows->dims[0] * width, 1, width, width}};
}

static bool build_product(struct builder *b, bool pixels)
{
    const struct op_matmul *matmul = &b->op->matmul;
    const struct shape *in = shape_of_value(b, b->op->inputs[0]);
    struct matmul_parts parts = {.constant = matmul->weights != NULL, .pixels = pixels};
    struct view src, dst, weights, bias;
    if (parts.constant) {
        int64_t channels = matmul->weights->shape.dims[0], units = matmul->weights->shape.dims[1];
        src = view_flat(in);
        dst = view_flat(out_shape(b));
        weights = (struct view){
            .rank = pixels ? 4 : 2, .dims = {units, channels, 1, 1}, .strides = {1, units, 1, 1}};
        bias = (struct view){.rank = 1, .dims = {units}, .strides = {1}};
        if (pixels) {
            src = view_pixels(&src);
            dst = view_pixels(&dst);
        }
        parts.plain = md_of_constant(&weights);
        parts.weights = dnn_md_new(weights.rank, weights.dims, NULL, b->plan->type);
        parts.bias = matmul->bias ? md_of_constant(&bias) : NULL;
    } else {
        src = view_matrices(in);
        weights = view_matrices(shape_of_value(b, b->op->inputs[1]));
        dst = view_matrices(out_shape(b));
        parts.weights = md_of(b, &weights);
    }
    parts.src = md_of(b, &src);
    parts.dst = md_of(b, &dst);
    struct posts posts = builder_posts(b, &dst, NULL, 0);
    dnnl_primitive_desc_t pd = builder_choose(b, make_matmul, &parts, &posts, 0, !pixels);
    if (pd) {
        builder_add_value(b, DNNL_ARG_SRC, parts.src, b->op->inputs[0]);
        if (parts.constant)
            builder_add_constant(b, DNNL_ARG_WEIGHTS, matmul->weights, parts.plain, pd, true);
        else
            builder_add_value(b, DNNL_ARG_WEIGHTS, parts.weights, b->op->inputs[1]);
        if (matmul->bias)
            builder_add_constant(b, DNNL_ARG_BIAS, matmul->bias, parts.bias, pd, false);
        builder_add_value(b, DNNL_ARG_DST, parts.dst, b->op->outputs[0]);
        builder_finish(b, pd, &posts);
    }
    dnn_md_free(parts.src);
    dnn_md_free(parts.weights);
    dnn_md_free(parts.plain);
    dnn_md_free(parts.bias);
    dnn_md_free(parts.dst);
    dnn_md_free(posts.md);
    return pd != NULL;
}

static bool build_matmul(struct builder *b)
{
    const struct shape *in = shape_of_value(b, b->op->inputs[0]);
    bool pixels = b->op->matmul.weights != NULL &&
                  shape_elements(in) / in->dims[in->rank - 1] >= ROWS_OF_PIXELS;
    if (pixels && (build_own_matmul(b) || build_product(b, true)))
        return true;
    return build_product(b, false);
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

static bool build_simple(struct builder *b, builder_maker *make, struct simple_parts *parts,
                         const struct view *src, const struct view *dst,
                         const struct dnn_post *first, size_t first_count, bool accept_reference)
{
    parts->src = md_of_value(b, src, b->op->inputs[0]);
    parts->dst = md_of_value(b, dst, b->op->outputs[0]);
    struct posts posts = builder_posts(b, dst, first, first_count);
    dnnl_primitive_desc_t pd =
        builder_choose(b, make, parts, &posts, first_count, accept_reference);
    if (pd) {
        builder_add_value(b, DNNL_ARG_SRC, parts->src, b->op->inputs[0]);
        builder_add_value(b, DNNL_ARG_DST, parts->dst, b->op->outputs[0]);
        builder_finish(b, pd, &posts);
    }
    dnn_md_free(parts->src);
    dnn_md_free(parts->dst);
    dnn_md_free(posts.md);
    return pd != NULL;
}

static bool build_pool(struct builder *b)
{
    if (build_own_pool(b))
        return true;
    const struct op_pool *pool = &b->op->pool;
    struct simple_parts parts = {.pool = pool->function,
                                 .window = {pool->spatial, pool->window, pool->stride, NULL,
                                            pool->pad_before, pool->pad_after}};
    struct view src = view_channels(shape_of_value(b, b->op->inputs[0]));
    struct view dst = view_channels(out_shape(b));
    return build_simple(b, make_pool, &parts, &src, &dst, NULL, 0, true);
}

/* A mean or maximum over all the middle axes is a pooling with one window. oneDNN adds the whole
 * window up in one float: in float32 our own kernel takes the means, which keeps the digits. */
static bool build_reduce(struct builder *b)
{
    const struct op_reduce *reduce = &b->op->reduce;
    const struct shape *in = shape_of_value(b, b->op->inputs[0]);
    bool mean = reduce->function == REDUCE_MEAN && b->plan->type == dnnl_bf16;
    bool global = in->rank >= 3 && (mean || reduce->function == REDUCE_MAX);
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
    struct posts posts = builder_posts(b, &view, NULL, 0);
    dnnl_primitive_desc_t pd = builder_choose(b, make_binary, &parts, &posts, 0, false);
    if (pd) {
        builder_add_value(b, DNNL_ARG_SRC_0, parts.a, op->inputs[0]);
        builder_add_value(b, DNNL_ARG_SRC_1, parts.b, op->inputs[1]);
        builder_add_value(b, DNNL_ARG_DST, parts.dst, op->outputs[0]);
        builder_finish(b, pd, &posts);
    }
    dnn_md_free(parts.a);
    dnn_md_free(posts.md);
    return pd != NULL;
}

/* x * scale, then + shift as the first post. Rows shorter than a vector are ours. */
static bool build_affine(struct builder *b)
{
    const struct op_affine *affine = &b->op->affine;
    struct view view = view_flat(out_shape(b));
    struct view row = view_rows(1, view.dims[1]);
    const struct constant *first = affine->scale ? affine->scale : affine->shift;
    const struct constant *second = affine->scale ? affine->shift : NULL;
    if (!first || row.dims[1] < 16 || shape_elements(&first->shape) != row.dims[1] ||
        (second && shape_elements(&second->shape) != row.dims[1]))
        return false;
    struct binary_parts parts = {.algorithm = affine->scale ? dnnl_binary_mul : dnnl_binary_add,
                                 .a = md_of(b, &view),
                                 .b = md_of_constant(&row)};
    parts.dst = parts.a;
    struct dnn_post shift = {.kind = DNN_BINARY, .algorithm = dnnl_binary_add, .operand = parts.b};
    struct posts posts = builder_posts(b, &view, &shift, second ? 1 : 0);
    dnnl_primitive_desc_t pd =
        builder_choose(b, make_binary, &parts, &posts, second ? 1 : 0, false);
    if (pd) {
        builder_add_value(b, DNNL_ARG_SRC_0, parts.a, b->op->inputs[0]);
        builder_add_constant(b, DNNL_ARG_SRC_1, first, parts.b, pd, false);
        builder_add_value(b, DNNL_ARG_DST, parts.dst, b->op->outputs[0]);
        if (second)
            builder_add_constant(b, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, second,
                                 parts.b, pd, false);
        builder_finish(b, pd, &posts);
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
    struct posts posts = builder_posts(b, &view, NULL, 0);
    dnnl_primitive_desc_t pd = builder_choose(b, make_norm, &parts, &posts, 0, false);
    if (pd) {
        builder_add_value(b, DNNL_ARG_SRC, parts.src, b->op->inputs[0]);
        builder_add_value(b, DNNL_ARG_DST, parts.src, b->op->outputs[0]);
        if (op->gamma)
            builder_add_constant(b, DNNL_ARG_SCALE, op->gamma, vector, pd, false);
        if (op->beta)
            builder_add_constant(b, DNNL_ARG_SHIFT, op->beta, vector, pd, false);
        builder_finish(b, pd, &posts);
    }
    dnn_md_free(parts.src);
    dnn_md_free(vector);
    dnn_md_free(posts.md);
    return pd != NULL;
}

/* ---- the table ---- */

bool (*const BUILDERS_OF_KIND[OP_KIND_COUNT])(struct builder *b) = {
    [OP_CONV] = build_conv,           [OP_MATMUL] = build_matmul,       [OP_POOL] = build_pool,
    [OP_AFFINE] = build_affine,       [OP_UNARY] = build_unary,         [OP_BINARY] = build_binary,
    [OP_SOFTMAX] = build_softmax,     [OP_NORMALISE] = build_normalise, [OP_REDUCE] = build_reduce,
    [OP_TRANSPOSE] = build_transpose, [OP_RECURRENT] = build_recurrent,
};
