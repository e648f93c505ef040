/* One op becomes one step: a oneDNN primitive with post-ops where there is a good one, else our
 * own loop. A reference implementation inside oneDNN counts as "no good one" if we have a loop. */
#include "engine/cpu/build.h"
#include "engine/cpu/own_bf16.h"
#include "engine/cpu/quantise.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- views ---- */

/* (N, spatial..., C) row-major, in the logical order N, C, spatial... */
struct view view_channels(const struct shape *shape)
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

struct view view_rows(int64_t rows, int64_t width)
{
    return (struct view){.rank = 2, .dims = {rows, width}, .strides = {width, 1}};
}

/* All but the last axis joined. */
struct view view_flat(const struct shape *shape)
{
    int64_t width = shape->rank > 0 ? shape->dims[shape->rank - 1] : 1;
    return view_rows(shape_elements(shape) / width, width);
}

/* Of an activation, and of a constant as it lies in the pool. */
struct dnn_md *md_of(const struct builder *b, const struct view *view)
{
    return dnn_md_new(view->rank, view->dims, view->strides, b->plan->type);
}

struct dnn_md *md_of_constant(const struct view *view)
{
    return dnn_md_new(view->rank, view->dims, view->strides, dnnl_f32);
}

static bool in_bytes(const struct builder *b, int value)
{
    return b->plan->quantised && b->plan->quantised->stored[value];
}

struct dnn_md *md_of_value(const struct builder *b, const struct view *view, int value)
{
    if (!in_bytes(b, value))
        return md_of(b, view);
    return dnn_md_new(view->rank, view->dims, view->strides, b->plan->quantised->forms[value].type);
}

const struct shape *shape_of_value(const struct builder *b, int value)
{
    return &b->graph->values[value].shape;
}

const struct shape *out_shape(const struct builder *b)
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

void builder_add_memory(struct builder *b, int id, dnnl_memory_t memory)
{
    add_argument(b, id, memory, false);
}

void builder_add_data(struct builder *b, int id, const struct dnn_md *md, void *data)
{
    add_argument(b, id, dnn_memory_new(md, b->device->engine, data), true);
}

dnnl_memory_t builder_add_scratch(struct builder *b, int id, const struct dnn_md *md)
{
    dnnl_memory_t memory = dnn_memory_new(md, b->device->engine, NULL);
    add_argument(b, id, memory, true);
    return memory;
}

void builder_add_value(struct builder *b, int id, const struct dnn_md *md, int value)
{
    builder_add_data(b, id, md, plan_value(b->plan, b->part, value));
}

/* A constant, reordered into what the primitive chose for `what`. */
void builder_add_constant(struct builder *b, int id, const struct constant *constant,
                          const struct dnn_md *plain, const_dnnl_primitive_desc_t pd, bool chosen)
{
    struct dnn_md *wanted = chosen ? dnn_md_query(pd, dnnl_query_weights_md, 0) : NULL;
    if (b->plan->dry)
        weights_want(b->plan, constant, plain, wanted);
    else
        add_argument(b, id, weights_get(b->device, constant, plain, wanted, b->error), false);
    dnn_md_free(wanted);
}

/* ---- posts ---- */

static bool in_place(const struct builder *b, int value)
{
    return plan_value(b->plan, b->part, value) == plan_value(b->plan, b->part, b->op->outputs[0]);
}

/* Is a pass of our own over the result faster than oneDNN's post-op? So it is in bf16, where ours
 * need not be as exact, for functions with an exponential. */
static bool slow_in_onednn(const struct builder *b, const struct op_unary *unary)
{
    return b->plan->type == dnnl_bf16 && own_bf16_has_unary(unary) &&
           (unary->function == UNARY_SILU || unary->function == UNARY_SIGMOID ||
            unary->function == UNARY_GELU_ERF || unary->function == UNARY_GELU_TANH);
}

/* Translate as many posts as oneDNN has words for, after `first`, posts the primitive needs for
 * itself. */
struct posts builder_posts(struct builder *b, const struct view *result,
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
        if (post->kind == POST_UNARY && slow_in_onednn(b, &post->unary))
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
        } else if (op->kind == OP_CONV && result->dims[1] == 1) {
            /* an operand of one channel looks broadcast over channels, and the convolution by gemm
             * of oneDNN 2.6 reads it wrongly then */
            break;
        }
        posts.values[posts.count] = post->value;
        posts.list[posts.count++] = binary;
    }
    return posts;
}

bool is_reference(const_dnnl_primitive_desc_t pd)
{
    const char *name = dnn_implementation(pd);
    return strncmp(name, "ref", 3) == 0 || strncmp(name, "simple:ref", 10) == 0;
}

static dnnl_primitive_desc_t try_posts(struct builder *b, builder_maker *make, const void *context,
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
dnnl_primitive_desc_t builder_choose(struct builder *b, builder_maker *make, const void *context,
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
void builder_finish(struct builder *b, dnnl_primitive_desc_t pd, const struct posts *posts)
{
    struct step *step = b->step;
    for (size_t i = 0; i < posts->count; i++) {
        if (posts->list[i].kind == DNN_BINARY && posts->list[i].operand == posts->md)
            builder_add_value(b, DNNL_ARG_ATTR_MULTIPLE_POST_OP((int)i) | DNNL_ARG_SRC_1, posts->md,
                              posts->values[i]);
    }
    struct dnn_md *scratch = dnn_md_query(pd, dnnl_query_scratchpad_md, 0);
    step->scratch_bytes = dnn_md_bytes(scratch);
    if (step->scratch_bytes > 0) {
        step->scratch = builder_add_scratch(b, DNNL_ARG_SCRATCHPAD, scratch);
    }
    dnn_md_free(scratch);
    if (!b->plan->dry)
        b->failed |= dnnl_primitive_create(&step->primitive, pd) != dnnl_success;
    step->name = xstrdup(dnn_implementation(pd));
    dnnl_primitive_desc_destroy(pd);
    step->posts = b->op->posts + posts->taken;
    step->post_count = b->op->post_count - posts->taken;
    step->impl = "onednn";
}

/* ---- a step ---- */

/* Is one of the operands float32 whatever the plan's precision? */
static bool reads_exact(const struct builder *b)
{
    bool exact = false;
    for (size_t i = 0; i < b->op->input_count; i++)
        exact |= b->graph->values[b->op->inputs[i]].exact;
    return exact && b->plan->type != dnnl_f32;
}

/* An index that was rounded would point at another row. */
static bool check_indices(const struct builder *b)
{
    const struct op_gather *gather = &b->op->gather;
    if (b->op->kind != OP_GATHER || b->plan->type == dnnl_f32 || gather->indices || reads_exact(b))
        return true;
    const struct shape *data =
        gather->data ? &gather->data->shape : shape_of_value(b, b->op->inputs[0]);
    if (data->dims[gather->axis] <= 256)
        return true;
    error_set(b->error, ERROR_UNSUPPORTED, b->graph->model->layers[b->op->layer].path,
              "it looks up one of %lld rows by a computed number, which bf16 would round",
              (long long)data->dims[gather->axis]);
    return error_hint(b->error, "set precision fp32");
}

void builder_use_own(struct builder *b, own_kernel *kernel)
{
    struct step *step = b->step;
    const struct op *op = b->op;
    step->own = kernel;
    step->widened = b->plan->type == dnnl_bf16 && (!own_narrows(op) || reads_exact(b));
    step->call = (struct own_call){
        .graph = b->graph,
        .op = op,
        .inputs = xmalloc((op->input_count + 1) * sizeof(void *)),
        .output = plan_value(b->plan, b->part, op->outputs[0]),
        .element_bytes = in_bytes(b, op->outputs[0]) ? 1 : dnnl_data_type_size(b->plan->type),
        .private = step->call.private};
    for (size_t i = 1; i < op->output_count; i++)
        step->call.more_outputs[i - 1] = plan_value(b->plan, b->part, op->outputs[i]);
    for (size_t i = 0; i < op->input_count; i++)
        step->call.inputs[i] = plan_value(b->plan, b->part, op->inputs[i]);
    size_t scratch = own_scratch_bytes(&step->call, b->device->threads);
    step->scratch_bytes = scratch > step->scratch_bytes ? scratch : step->scratch_bytes;
    step->own_scratch_bytes =
        (scratch + 63) & ~(size_t)63; /* copies of a widened step come behind */
    step->posts = op->posts;
    step->post_count = op->post_count;
    step->impl = "own";
}

/* Room for float32 copies of what a widened step reads and writes: the result, then the inputs or
 * the operand of a post. */
void builder_reserve_copies(struct builder *b)
{
    struct step *step = b->step;
    if (!step->widened)
        return;
    size_t elements = 0, inputs = 0, most = 0;
    for (size_t i = 0; i < b->op->output_count; i++)
        elements += (size_t)shape_elements(shape_of_value(b, b->op->outputs[i]));
    for (size_t i = 0; i < b->op->input_count; i++)
        inputs += (size_t)shape_elements(shape_of_value(b, b->op->inputs[i]));
    for (size_t i = 0; i < step->post_count; i++) {
        if (step->posts[i].kind != POST_BINARY)
            continue;
        size_t operand = (size_t)shape_elements(shape_of_value(b, step->posts[i].value));
        most = operand > most ? operand : most;
    }
    size_t bytes = (elements + (inputs > most ? inputs : most)) * sizeof(float);
    bytes += step->own_scratch_bytes;
    if (bytes > step->scratch_bytes)
        step->scratch_bytes = bytes;
}

bool step_build(struct plan *plan, struct part *part, int index, struct error *error)
{
    const struct graph *graph = part->graph;
    const struct op *op = &graph->ops[index];
    const struct model_layer *layer = &graph->model->layers[op->layer];
    struct builder b = {.plan = plan,
                        .device = plan->device,
                        .part = part,
                        .graph = graph,
                        .op = op,
                        .step = &part->steps[index],
                        .error = error};
    if (op->kind == OP_RESHAPE)
        return true;
    if (error)
        error->code = ERROR_NONE;
    if (!check_indices(&b))
        return false;
    bool bytes = plan->quantised && plan->quantised->ops[index] && int8_computes(op);
    bool (*build)(struct builder *) = bytes ? build_int8 : BUILDERS_OF_KIND[op->kind];
    if (!reads_exact(&b) && build && build(&b)) {
        if (!b.failed)
            return true;
        if (error && error->code != ERROR_NONE)
            return false;
        return error_set(error, ERROR_MEMORY, layer->path, "oneDNN cannot make its primitive");
    }
    own_kernel *kernel = own_kernel_of(op);
    if (kernel) {
        builder_use_own(&b, kernel);
        builder_reserve_copies(&b);
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
    free(step->call.private);
    free(step->factors);
    free(step->name);
}
