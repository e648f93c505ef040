/* Between build.c (what all steps share) and build_ops.c (one function an op kind). Private. */
#ifndef LAYERTOP_ENGINE_CPU_BUILD_H
#define LAYERTOP_ENGINE_CPU_BUILD_H

#include "engine/cpu/cpu.h"

/* What the building of one step carries around. */
struct builder {
    struct plan *plan;
    struct device *device;
    const struct part *part;
    const struct graph *graph; /* the part's */
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
struct view view_channels(const struct shape *shape);
struct view view_rows(int64_t rows, int64_t width);
/* Rows as the pixels of one image, one below the other. */
struct view view_pixels(const struct view *rows);
/* The weights of a convolution: [groups,] out, in, spatial... */
struct view view_kernel(const struct op_conv *conv);
/* All but the last axis joined. */
struct view view_flat(const struct shape *shape);
/* Of an activation, and of a constant as it lies in the pool. Free with dnn_md_free(). */
struct dnn_md *md_of(const struct builder *b, const struct view *view);
struct dnn_md *md_of_constant(const struct view *view);
/* Of a value, in bytes if an int8 plan stores it so. */
struct dnn_md *md_of_value(const struct builder *b, const struct view *view, int value);
const struct shape *shape_of_value(const struct builder *b, int value);
const struct shape *out_shape(const struct builder *b);

/* ---- arguments: failures set b->failed ---- */

void builder_add_value(struct builder *b, int id, const struct dnn_md *md, int value);
void builder_add_memory(struct builder *b, int id, dnnl_memory_t memory); /* not the step's own */
void builder_add_data(struct builder *b, int id, const struct dnn_md *md, void *data);
/* Memory whose place in the scratchpad is set when the step runs. */
dnnl_memory_t builder_add_scratch(struct builder *b, int id, const struct dnn_md *md);
/* A constant; `chosen`: reordered into what the primitive wants for its weights. */
void builder_add_constant(struct builder *b, int id, const struct constant *constant,
                          const struct dnn_md *plain, const_dnnl_primitive_desc_t pd, bool chosen);

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

/* Translate as many posts as oneDNN has words for, after `first`, posts the primitive needs for
 * itself. posts.md is the caller's to free. */
struct posts builder_posts(struct builder *b, const struct view *result,
                           const struct dnn_post *first, size_t first_count);

/* What makes a primitive descriptor of the op's kind with given attributes. */
typedef dnnl_primitive_desc_t builder_maker(struct builder *b, const_dnnl_primitive_attr_t attr,
                                            const void *context);

/* The best primitive descriptor: with all posts; if that is slow or missing, without, and the posts
 * in a loop of ours. `own_count` are posts the primitive cannot do without. NULL if there is none,
 * or only oneDNN's slow reference and that is not accepted. */
dnnl_primitive_desc_t builder_choose(struct builder *b, builder_maker *make, const void *context,
                                     struct posts *posts, size_t own_count, bool accept_reference);
/* Make the primitive; add post operands and the scratchpad. Consumes pd. */
void builder_finish(struct builder *b, dnnl_primitive_desc_t pd, const struct posts *posts);

/* One of our own loops runs the op, and its posts one after another. */
void builder_use_own(struct builder *b, own_kernel *kernel);
/* Scratchpad for the float32 copies that such a step may need in a bfloat16 plan, behind its own. */
void builder_reserve_copies(struct builder *b);

/* Is it one of oneDNN's slow loops? */
bool is_reference(const_dnnl_primitive_desc_t pd);

/* From so many rows on a product with weights is faster as a 1x1 convolution: of 197 rows, 768
 * channels and 3072 units, oneDNN 2.6 does 144 GFLOP/s in float32 on one core against 111 for its
 * inner product; of 64 rows 119 against 111, of 32 rows they are alike. */
#define ROWS_OF_PIXELS 64

/* build_int8.c: an op that the plan's `quantised` computes in int8. false: oneDNN cannot. */
bool build_int8(struct builder *b);

/* recurrent.c */
bool build_recurrent(struct builder *b);

/* build_own.c: false if the op is no convolution that one of our kernels does better. */
bool build_own_conv(struct builder *b);
/* The same of a product with weights, and of pooling. */
bool build_own_matmul(struct builder *b);
bool build_own_pool(struct builder *b);

/* build_ops.c, per op kind: false if oneDNN has nothing (good) for it; NULL where it never has. */
extern bool (*const BUILDERS_OF_KIND[OP_KIND_COUNT])(struct builder *b);

#endif
