/* The one place that knows how oneDNN's C API differs between 2.x and 3.x.
 *
 * Everything here is a thin wrapper: memory descriptors are always owned objects, primitive
 * descriptors are made in one call, and a post-op is plain data. Descriptors that a maker takes may
 * be freed as soon as it returns. Makers return NULL where oneDNN has no implementation or no
 * memory; dnn_status() says which.
 * Layouts are given as dims in oneDNN's logical order (N, C, spatial...) and strides in elements.
 * Threads: the engine thread.
 */
#ifndef LAYERTOP_ENGINE_CPU_DNNL_COMPAT_H
#define LAYERTOP_ENGINE_CPU_DNNL_COMPAT_H

#include "engine/graph/op.h"
#include <oneapi/dnnl/dnnl.h>

#define DNN_RANK_MAX  12
#define DNN_POSTS_MAX 16

struct dnn_md; /* a memory descriptor, owned by whoever made it */

/* `strides` NULL leaves the layout to the primitive (format_tag_any). */
struct dnn_md *dnn_md_new(int rank, const int64_t *dims, const int64_t *strides,
                          dnnl_data_type_t type);
/* A descriptor out of a primitive descriptor (dnnl_query_weights_md, ...scratchpad_md, ...). */
struct dnn_md *dnn_md_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what, int index);
struct dnn_md *dnn_md_clone(const struct dnn_md *md);
void dnn_md_free(struct dnn_md *md);
bool dnn_md_equal(const struct dnn_md *a, const struct dnn_md *b);
size_t dnn_md_bytes(const struct dnn_md *md);
/* A memory object over a caller's buffer (NULL: to be set later). NULL on failure. */
dnnl_memory_t dnn_memory_new(const struct dnn_md *md, dnnl_engine_t engine, void *data);

struct dnn_post {
    enum { DNN_SUM, DNN_ELTWISE, DNN_BINARY } kind;
    dnnl_alg_kind_t algorithm;
    float alpha, beta;
    const struct dnn_md *operand; /* DNN_BINARY */
    float scale;                  /* DNN_SUM: of what lies in the output; 0 stands for 1 */
    dnnl_data_type_t type;        /* DNN_SUM: what lies there, where it is not the output's type */
};

/* The elementwise function as at most two post-ops; 0 for the identity, -1 if oneDNN lacks it. */
int dnn_unary(const struct op_unary *unary, struct dnn_post out[2]);
/* False if oneDNN lacks the function. */
bool dnn_binary(enum binary_function function, dnnl_alg_kind_t *algorithm);

/* May `next` follow these post-ops? oneDNN 2.6 gives two elementwise post-ops of one algorithm the
 * constants of only one of them: leaky relu, addition, relu comes out wrong. */
bool dnn_post_fits(const struct dnn_post *posts, size_t count, const struct dnn_post *next);

/* Attributes with post-ops and a scratchpad that we own. NULL on failure. */
dnnl_primitive_attr_t dnn_attributes(const struct dnn_post *posts, size_t count);

/* The same for a product of int8 values with int8 weights: each sum is multiplied by the factor of
 * its channel before the post-ops. Is the bias
 * added to the sums, in their units (2.x), or to the products (3.x)? dnn_bias_in_sums(). 3.x wants the factors again when the primitive runs: as the
 * argument dnn_factors_argument(), 0 if it does not. `grouped` weights have an axis of groups in
 * front. */
dnnl_primitive_attr_t dnn_attributes_int8(const struct dnn_post *posts, size_t count,
                                          const float *factors, int64_t channels, bool grouped);
bool dnn_bias_in_sums(void);
int dnn_factors_argument(void);

struct dnn_window { /* per spatial axis */
    int spatial;
    const int64_t *kernel, *stride, *dilation, *before, *after; /* dilation 1 is dense */
};

dnnl_primitive_desc_t dnn_convolution(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                      const struct dnn_window *window, bool transposed,
                                      const struct dnn_md *src, const struct dnn_md *weights,
                                      const struct dnn_md *bias, const struct dnn_md *dst);
dnnl_primitive_desc_t dnn_matmul(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                 const struct dnn_md *src, const struct dnn_md *weights,
                                 const struct dnn_md *bias, const struct dnn_md *dst);
/* Weights (out, in): the primitive that GEMM-like layers with a constant matrix should use. */
dnnl_primitive_desc_t dnn_inner_product(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                        const struct dnn_md *src, const struct dnn_md *weights,
                                        const struct dnn_md *bias, const struct dnn_md *dst);
dnnl_primitive_desc_t dnn_pooling(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                  enum pool_function function, const struct dnn_window *window,
                                  const struct dnn_md *src, const struct dnn_md *dst);
dnnl_primitive_desc_t dnn_eltwise(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                  const struct dnn_post *function, const struct dnn_md *src,
                                  const struct dnn_md *dst);
dnnl_primitive_desc_t dnn_binary_op(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                    dnnl_alg_kind_t algorithm, const struct dnn_md *a,
                                    const struct dnn_md *b, const struct dnn_md *dst);
dnnl_primitive_desc_t dnn_softmax(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr, bool log,
                                  int axis, const struct dnn_md *src, const struct dnn_md *dst);
/* Over the last axis. Scale and shift are separate arguments (DNNL_ARG_SCALE, DNNL_ARG_SHIFT). */
dnnl_primitive_desc_t dnn_layer_norm(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                     float epsilon, bool scale, bool shift,
                                     const struct dnn_md *src, const struct dnn_md *dst);
dnnl_primitive_desc_t dnn_reorder(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                  const struct dnn_md *src, const struct dnn_md *dst);

/* oneDNN's name of the chosen implementation: "brgconv:avx512_core", "ref:any" ... */
const char *dnn_implementation(const_dnnl_primitive_desc_t pd);
/* Status of the last maker that returned NULL. */
dnnl_status_t dnn_status(void);

/* "oneDNN 2.6.3", and the instruction set it will use: "AVX512 AMX". */
const char *dnn_version_text(void);
const char *dnn_isa_name(void);
/* Does this machine have AVX-512 as of Skylake's servers? */
bool dnn_has_avx512(void);
/* Does it multiply bf16 in hardware? */
bool dnn_has_bf16(void);
/* Does it sum products of bytes exactly (VNNI)? Without, two of them may overflow 16 bits. */
bool dnn_has_vnni(void);
/* Has it tiles for that, and does the system let us use them? */
bool dnn_has_amx(void);

#endif
