/* Convolutions and products of bytes.
 *
 * oneDNN sums the products of bytes in 32 bits, multiplies each sum by the factor of its channel and
 * applies the post-ops to that in float32. The factor is step(x) step(w, k), which gives real units;
 * where all that follows goes through a scaling unchanged (relu, the addition of a shortcut) it also
 * holds 1 / step(y), so that nothing is left to do before the rounding to bytes. */
#include "engine/cpu/build.h"
#include "engine/cpu/quantise.h"

#include <stdlib.h>
#include <string.h>

/* An op in oneDNN's words. */
struct parts {
    struct dnn_window window;
    bool product; /* an inner product; else a convolution */
    bool grouped;
    struct view src, kernel, result;
    struct dnn_md *in, *weights, *plain, *bias, *out;
    const struct constant *weight_data, *bias_data;
    int64_t channels;
    int64_t inner; /* elements of the weights to one channel, side by side */
};

static const int64_t ones[2] = {1, 1}, none[2] = {0, 0};

/* Rows as the pixels of an image: from so many on a product is faster as a convolution. */
static void product_views(struct parts *parts, const struct op_matmul *matmul)
{
    int64_t width = matmul->weights->shape.dims[0], units = matmul->weights->shape.dims[1];
    parts->product = parts->src.dims[0] < ROWS_OF_PIXELS;
    parts->kernel = (struct view){
        .rank = parts->product ? 2 : 4, .dims = {units, width, 1, 1}, .strides = {1, units, 1, 1}};
    parts->window = (struct dnn_window){2, ones, ones, ones, none, none};
    if (!parts->product) {
        parts->src = view_pixels(&parts->src);
        parts->result = view_pixels(&parts->result);
    }
}

static struct parts parts_of(const struct graph *graph, const struct op *op,
                             const struct quantised *quantised)
{
    const struct shape *in = &graph->values[op->inputs[0]].shape;
    const struct shape *out = &graph->values[op->outputs[0]].shape;
    int value = op->outputs[0];
    struct parts parts = {.channels = out->dims[out->rank - 1], .inner = 1};
    if (op->kind == OP_CONV) {
        const struct op_conv *conv = &op->conv;
        parts.window = (struct dnn_window){conv->spatial,  conv->kernel,     conv->stride,
                                           conv->dilation, conv->pad_before, conv->pad_after};
        parts.grouped = conv->groups > 1;
        parts.src = view_channels(in);
        parts.result = view_channels(out);
        parts.kernel = view_kernel(conv);
        parts.weight_data = conv->weights;
        parts.bias_data = conv->bias;
    } else {
        parts.src = view_flat(in);
        parts.result = view_flat(out);
        parts.weight_data = op->matmul.weights;
        parts.bias_data = op->matmul.bias;
        product_views(&parts, &op->matmul);
    }
    struct view bias = {.rank = 1, .dims = {parts.channels}, .strides = {1}};
    dnnl_data_type_t type = quantised->stored[value] ? quantised->forms[value].type : dnnl_f32;
    parts.in = dnn_md_new(parts.src.rank, parts.src.dims, parts.src.strides,
                          quantised->forms[op->inputs[0]].type);
    parts.weights = dnn_md_new(parts.kernel.rank, parts.kernel.dims, NULL, dnnl_s8);
    parts.plain = dnn_md_new(parts.kernel.rank, parts.kernel.dims, parts.kernel.strides, dnnl_s8);
    parts.bias = parts.bias_data ? md_of_constant(&bias) : NULL;
    parts.out = dnn_md_new(parts.result.rank, parts.result.dims, parts.result.strides, type);
    return parts;
}

static void parts_free(struct parts *parts)
{
    dnn_md_free(parts->in);
    dnn_md_free(parts->weights);
    dnn_md_free(parts->plain);
    dnn_md_free(parts->bias);
    dnn_md_free(parts->out);
}

/* The primitive with these post-ops; NULL if oneDNN has none but its reference. `factors` NULL: any
 * will do, for nothing will run. */
static dnnl_primitive_desc_t make(struct device *device, const struct parts *parts,
                                  const struct dnn_post *posts, size_t count, const float *factors)
{
    float *any = NULL;
    if (!factors) {
        any = xmalloc((size_t)parts->channels * sizeof *any);
        for (int64_t k = 0; k < parts->channels; k++)
            any[k] = 0.5F;
        factors = any;
    }
    dnnl_primitive_attr_t attr =
        dnn_attributes_int8(posts, count, factors, parts->channels, parts->grouped);
    free(any);
    if (!attr)
        return NULL;
    dnnl_primitive_desc_t pd =
        parts->product ? dnn_inner_product(device->engine, attr, parts->in, parts->weights,
                                           parts->bias, parts->out)
                       : dnn_convolution(device->engine, attr, &parts->window, false, parts->in,
                                         parts->weights, parts->bias, parts->out);
    dnnl_primitive_attr_destroy(attr);
    if (pd && is_reference(pd)) {
        dnnl_primitive_desc_destroy(pd);
        return NULL;
    }
    return pd;
}

/* ---- posts of a result in bytes ---- */

/* What oneDNN does to the sums, in the units of `unit`. */
struct byte_posts {
    struct posts posts;
    float unit; /* the sums are told in: a step of the result, or 1 */
};

/* Do all posts commute with a scaling by a positive number? */
static bool scales(const struct graph *graph, const struct op *op,
                   const struct quantised *quantised)
{
    bool good = true;
    (void)graph;
    for (size_t i = 0; i < op->post_count; i++) {
        const struct post *post = &op->posts[i];
        if (post->kind == POST_UNARY)
            good &= post->unary.function == UNARY_RELU;
        else
            good &= post->binary == BINARY_ADD && quantised->stored[post->value];
    }
    return good;
}

static bool add_unary(struct byte_posts *out, struct op_unary unary)
{
    struct dnn_post words[2];
    if (unary.function == UNARY_RELU && unary.beta > 0)
        unary.beta /= out->unit;
    int count = dnn_unary(&unary, words);
    for (int i = 0; i < count; i++) {
        if (out->posts.count + 2 > DNN_POSTS_MAX ||
            !dnn_post_fits(out->posts.list, out->posts.count, &words[i]))
            return false;
        out->posts.list[out->posts.count++] = words[i];
    }
    return count >= 0;
}

static bool add_binary(struct byte_posts *out, const struct graph *graph, const struct op *op,
                       const struct quantised *quantised, const struct post *post)
{
    const struct value_form *form = &quantised->forms[post->value];
    struct dnn_post word = {.kind = DNN_SUM, .scale = form->step / out->unit, .type = form->type};
    if (!quantised->stored[post->value]) {
        word = (struct dnn_post){.kind = DNN_BINARY, .operand = out->posts.md};
        if (!dnn_binary(post->binary, &word.algorithm) ||
            !shape_equal(&graph->values[post->value].shape, &graph->values[op->outputs[0]].shape))
            return false;
    }
    out->posts.values[out->posts.count] = post->value;
    out->posts.list[out->posts.count++] = word;
    return true;
}

/* All of the op's posts, or false. out->posts.md is the caller's to free in any case. */
static bool make_byte_posts(struct byte_posts *out, const struct graph *graph, const struct op *op,
                            const struct quantised *quantised, const struct view *result)
{
    float step = quantised->forms[op->outputs[0]].step;
    *out = (struct byte_posts){.posts.md = md_of_constant(result), .unit = 1};
    bool whole = scales(graph, op, quantised), good = true;
    if (whole)
        out->unit = step;
    for (size_t i = 0; good && i < op->post_count; i++)
        good = op->posts[i].kind == POST_UNARY
                   ? add_unary(out, op->posts[i].unary)
                   : add_binary(out, graph, op, quantised, &op->posts[i]);
    struct op_unary last = {UNARY_LINEAR, 1 / step, 0};
    return good && (whole || add_unary(out, last));
}

/* ---- can it be done? ---- */

static bool pool_can_run(struct device *device, const struct graph *graph, const struct op *op,
                         const struct quantised *quantised)
{
    const struct op_pool *pool = &op->pool;
    struct dnn_window window = {pool->spatial, pool->window,     pool->stride,
                                NULL,          pool->pad_before, pool->pad_after};
    struct view src = view_channels(&graph->values[op->inputs[0]].shape);
    struct view dst = view_channels(&graph->values[op->outputs[0]].shape);
    dnnl_data_type_t type = quantised->forms[op->outputs[0]].type;
    struct dnn_md *in = dnn_md_new(src.rank, src.dims, src.strides, type);
    struct dnn_md *out = dnn_md_new(dst.rank, dst.dims, dst.strides, type);
    dnnl_primitive_attr_t attr = dnn_attributes(NULL, 0);
    dnnl_primitive_desc_t pd = dnn_pooling(device->engine, attr, pool->function, &window, in, out);
    bool good = pd && !is_reference(pd);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    dnn_md_free(in);
    dnn_md_free(out);
    return good;
}

static bool has(dnnl_primitive_desc_t pd)
{
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return pd != NULL;
}

bool int8_can_run(struct device *device, const struct graph *graph, int index,
                  const struct quantised *quantised)
{
    const struct op *op = &graph->ops[index];
    if (op->kind == OP_POOL)
        return pool_can_run(device, graph, op, quantised);
    if (!int8_computes(op))
        return true;
    struct parts parts = parts_of(graph, op, quantised);
    struct byte_posts bytes;
    const struct dnn_post sum = {.kind = DNN_SUM};
    bool good;
    if (quantised->stored[op->outputs[0]]) {
        good = make_byte_posts(&bytes, graph, op, quantised, &parts.result) &&
               has(make(device, &parts, bytes.posts.list, bytes.posts.count, NULL));
        dnn_md_free(bytes.posts.md);
    } else { /* its posts may be left to us, but for a shortcut that lies in the output */
        bool adds = op->post_count > 0 && op->posts[0].kind == POST_BINARY;
        good = has(make(device, &parts, NULL, 0, NULL)) &&
               (!adds || has(make(device, &parts, &sum, 1, NULL)));
    }
    parts_free(&parts);
    return good;
}

/* ---- the step ---- */

#define TAG_STEPS 0x51 /* of the steps of a weight's channels among its panels */

struct packing {
    int64_t count, channels, inner;
};

/* Bytes of two products must not overflow 16 bits where there is no VNNI: 2 x 255 x 63 does not. */
static float most_of_weights(void)
{
    return dnn_has_vnni() ? 127 : 63;
}

static void pack_steps(void *to, const float *data, const void *context)
{
    const struct packing *packing = context;
    own_weight_steps(data, packing->count, packing->channels, packing->inner, most_of_weights(),
                     to);
}

/* Steps of the weights' channels; NULL in a dry plan, or on failure, which is told. */
static const float *steps_of(struct builder *b, const struct parts *parts)
{
    size_t bytes = (size_t)parts->channels * sizeof(float);
    struct packing packing = {shape_elements(&parts->weight_data->shape), parts->channels,
                              parts->inner};
    if (b->plan->dry) {
        weights_want_panels(b->plan, parts->weight_data, TAG_STEPS, bytes);
        return NULL;
    }
    const float *steps = weights_panels(b->device, parts->weight_data, TAG_STEPS, bytes, pack_steps,
                                        &packing, b->error);
    b->failed |= !steps;
    if (steps)
        b->step->panels[b->step->panel_count++] = steps;
    return steps;
}

/* The factors of the channels and the bias in the units that oneDNN wants it in; both the step's. */
static void make_factors(struct builder *b, const struct parts *parts, const float *steps,
                         float unit)
{
    float in = b->plan->quantised->forms[b->op->inputs[0]].step;
    const float *bias = parts->bias_data ? parts->bias_data->data : NULL;
    float *factors = xmalloc(2 * (size_t)parts->channels * sizeof *factors);
    b->step->factors = factors;
    for (int64_t k = 0; k < parts->channels; k++) {
        factors[k] = in * steps[k] / unit;
        factors[parts->channels + k] = !bias                ? 0
                                       : dnn_bias_in_sums() ? bias[k] / (in * steps[k])
                                                            : bias[k] / unit;
    }
}

static void add_weights(struct builder *b, const struct parts *parts, const float *steps,
                        dnnl_primitive_desc_t pd)
{
    struct dnn_md *wanted = dnn_md_query(pd, dnnl_query_weights_md, 0);
    if (b->plan->dry)
        weights_want(b->plan, parts->weight_data, parts->plain, wanted);
    else
        builder_add_memory(b, DNNL_ARG_WEIGHTS,
                           weights_get_int8(b->device, parts->weight_data, parts->plain, wanted,
                                            steps, parts->channels, parts->inner, b->error));
    dnn_md_free(wanted);
}

static void add_arguments(struct builder *b, const struct parts *parts, const float *steps,
                          dnnl_primitive_desc_t pd)
{
    struct view row = {.rank = 1, .dims = {parts->channels}, .strides = {1}};
    struct dnn_md *vector = md_of_constant(&row);
    int in = b->op->inputs[0], factors = dnn_factors_argument();
    if (b->plan->quantised->stored[in])
        builder_add_value(b, DNNL_ARG_SRC, parts->in, in);
    else
        b->step->source = builder_add_scratch(b, DNNL_ARG_SRC, parts->in);
    add_weights(b, parts, steps, pd);
    if (parts->bias_data)
        builder_add_data(b, DNNL_ARG_BIAS, vector,
                         b->plan->dry ? NULL : b->step->factors + parts->channels);
    if (factors)
        builder_add_data(b, factors, vector, b->step->factors);
    builder_add_value(b, DNNL_ARG_DST, parts->out, b->op->outputs[0]);
    dnn_md_free(vector);
}

/* What happens before the primitive runs: a float32 input becomes bytes behind the scratchpad, and
 * bytes that are added to the sums lie where the result goes. */
static void prepare(struct builder *b, const struct posts *posts)
{
    struct step *step = b->step;
    int in = b->op->inputs[0];
    if (step->source) {
        step->source_form = b->plan->quantised->forms[in];
        step->source_from = plan_value(b->plan, b->part, in);
        step->source_count = shape_elements(shape_of_value(b, in));
        step->source_offset = (step->scratch_bytes + 63) & ~(size_t)63;
        step->scratch_bytes = step->source_offset + (size_t)step->source_count;
    }
    for (size_t i = 0; i < posts->count; i++) {
        const void *from = plan_value(b->plan, b->part, posts->values[i]);
        void *to = plan_value(b->plan, b->part, b->op->outputs[0]);
        if (posts->list[i].kind != DNN_SUM || from == to)
            continue;
        step->copy_from = from;
        step->copy_to = to;
        step->copy_bytes = (size_t)shape_elements(out_shape(b));
    }
}

bool build_int8(struct builder *b)
{
    const struct quantised *quantised = b->plan->quantised;
    struct parts parts = parts_of(b->graph, b->op, quantised);
    struct byte_posts bytes = {.unit = 1};
    bool stored = quantised->stored[b->op->outputs[0]];
    bool good = true;
    if (stored) {
        good = make_byte_posts(&bytes, b->graph, b->op, quantised, &parts.result);
        bytes.posts.taken = b->op->post_count;
    } else {
        bytes.posts = builder_posts(b, &parts.result, NULL, 0);
    }
    const float *steps = steps_of(b, &parts);
    if (steps)
        make_factors(b, &parts, steps, bytes.unit);
    dnnl_primitive_desc_t pd = NULL;
    if (good && !b->failed)
        pd = make(b->device, &parts, bytes.posts.list, bytes.posts.count, b->step->factors);
    if (!pd && !stored && !b->failed) { /* keep at most the shortcut that lies in the output */
        bytes.posts.count = bytes.posts.taken = bytes.posts.sums ? 1 : 0;
        pd = make(b->device, &parts, bytes.posts.list, bytes.posts.count, b->step->factors);
    }
    if (pd) {
        add_arguments(b, &parts, steps, pd);
        builder_finish(b, pd, &bytes.posts);
        prepare(b, &bytes.posts);
    }
    parts_free(&parts);
    dnn_md_free(bytes.posts.md);
    return pd != NULL;
}
