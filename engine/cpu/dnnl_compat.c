#include "engine/cpu/dnnl_compat.h"
#include "engine/error.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 3.0 made memory descriptors opaque and removed operation descriptors. */
#if DNNL_VERSION_MAJOR >= 3
#define DNN_3 1
struct dnn_md {
    dnnl_memory_desc_t md;
};
#define MD(m) ((const_dnnl_memory_desc_t)((m) ? (m)->md : NULL))
#else
#define DNN_3 0
struct dnn_md {
    dnnl_memory_desc_t md;
};
#define MD(m) ((m) ? &(m)->md : NULL)
#endif

static dnnl_status_t last_status;

dnnl_status_t dnn_status(void)
{
    return last_status;
}

/* ---- memory ---- */

struct dnn_md *dnn_md_new(int rank, const int64_t *dims, const int64_t *strides,
                          dnnl_data_type_t type)
{
    struct dnn_md *md = xcalloc(1, sizeof *md);
    dnnl_dims_t d = {0}, s = {0};
    for (int i = 0; i < rank; i++) {
        d[i] = dims[i];
        s[i] = strides ? strides[i] : 0;
    }
#if DNN_3
    last_status =
        strides ? dnnl_memory_desc_create_with_strides(&md->md, rank, d, type, s)
                : dnnl_memory_desc_create_with_tag(&md->md, rank, d, type, dnnl_format_tag_any);
#else
    last_status = strides
                      ? dnnl_memory_desc_init_by_strides(&md->md, rank, d, type, s)
                      : dnnl_memory_desc_init_by_tag(&md->md, rank, d, type, dnnl_format_tag_any);
#endif
    if (last_status == dnnl_success)
        return md;
    free(md);
    return NULL;
}

struct dnn_md *dnn_md_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what, int index)
{
    struct dnn_md *md = xcalloc(1, sizeof *md);
#if DNN_3
    const_dnnl_memory_desc_t found = dnnl_primitive_desc_query_md(pd, what, index);
    if (found)
        last_status = dnnl_memory_desc_clone(&md->md, found);
    if (found && last_status == dnnl_success)
        return md;
#else
    const dnnl_memory_desc_t *found = dnnl_primitive_desc_query_md(pd, what, index);
    if (found) {
        md->md = *found;
        return md;
    }
#endif
    free(md);
    return NULL;
}

struct dnn_md *dnn_md_clone(const struct dnn_md *md)
{
    struct dnn_md *copy = xcalloc(1, sizeof *copy);
#if DNN_3
    dnnl_memory_desc_clone(&copy->md, md->md);
#else
    copy->md = md->md;
#endif
    return copy;
}

void dnn_md_free(struct dnn_md *md)
{
#if DNN_3
    if (md)
        dnnl_memory_desc_destroy(md->md);
#endif
    free(md);
}

bool dnn_md_equal(const struct dnn_md *a, const struct dnn_md *b)
{
    return dnnl_memory_desc_equal(MD(a), MD(b)) != 0;
}

size_t dnn_md_bytes(const struct dnn_md *md)
{
    return md ? dnnl_memory_desc_get_size(MD(md)) : 0;
}

dnnl_memory_t dnn_memory_new(const struct dnn_md *md, dnnl_engine_t engine, void *data)
{
    dnnl_memory_t memory = NULL;
    last_status = dnnl_memory_create(&memory, MD(md), engine, data);
    return last_status == dnnl_success ? memory : NULL;
}

/* ---- functions ---- */

static struct dnn_post eltwise(dnnl_alg_kind_t algorithm, float alpha, float beta)
{
    return (struct dnn_post){
        .kind = DNN_ELTWISE, .algorithm = algorithm, .alpha = alpha, .beta = beta};
}

int dnn_unary(const struct op_unary *unary, struct dnn_post out[2])
{
    float alpha = unary->alpha, beta = unary->beta;
    switch (unary->function) {
    case UNARY_IDENTITY:
        return 0;
    case UNARY_RELU:
        if (beta > 0 && alpha == 0) {
            out[0] = eltwise(dnnl_eltwise_clip, 0, beta);
            return 1;
        }
        out[0] = eltwise(dnnl_eltwise_relu, alpha, 0);
        out[1] = eltwise(dnnl_eltwise_clip, -FLT_MAX, beta);
        return beta > 0 ? 2 : 1;
    case UNARY_SIGMOID:
        out[0] = eltwise(dnnl_eltwise_logistic, 0, 0);
        return 1;
    case UNARY_TANH:
        out[0] = eltwise(dnnl_eltwise_tanh, 0, 0);
        return 1;
    case UNARY_SILU:
        out[0] = eltwise(dnnl_eltwise_swish, 1, 0);
        return 1;
    case UNARY_GELU_ERF:
        out[0] = eltwise(dnnl_eltwise_gelu_erf, 0, 0);
        return 1;
    case UNARY_GELU_TANH:
        out[0] = eltwise(dnnl_eltwise_gelu_tanh, 0, 0);
        return 1;
    case UNARY_ELU:
        out[0] = eltwise(dnnl_eltwise_elu, alpha, 0);
        return 1;
    case UNARY_SELU: /* the constants of Klambauer et al. 2017, as Keras spells them */
        out[0] = eltwise(dnnl_eltwise_elu, 1.6732632423543772F, 0);
        out[1] = eltwise(dnnl_eltwise_linear, 1.0507009873554805F, 0);
        return 2;
    case UNARY_SOFTPLUS: /* 3.x scales by alpha, 2.x has no parameter */
        out[0] = eltwise(dnnl_eltwise_soft_relu, DNN_3 ? 1 : 0, 0);
        return 1;
    case UNARY_EXP:
        out[0] = eltwise(dnnl_eltwise_exp, 0, 0);
        return 1;
    case UNARY_SQRT:
        out[0] = eltwise(dnnl_eltwise_sqrt, 0, 0);
        return 1;
    case UNARY_SQUARE:
        out[0] = eltwise(dnnl_eltwise_square, 0, 0);
        return 1;
    case UNARY_ABS:
        out[0] = eltwise(dnnl_eltwise_abs, 0, 0);
        return 1;
    case UNARY_NEGATIVE:
        out[0] = eltwise(dnnl_eltwise_linear, -1, 0);
        return 1;
    case UNARY_HARD_SIGMOID: /* 2.6 has none: a line, cut at 0 and 1 */
        out[0] = eltwise(dnnl_eltwise_linear, alpha, beta);
        out[1] = eltwise(dnnl_eltwise_clip, 0, 1);
        return 2;
    case UNARY_HARD_SILU: /* 3.x takes the line's slope and offset, 2.x fixes them */
        out[0] = eltwise(dnnl_eltwise_hardswish, DNN_3 ? 1.0F / 6 : 0, DNN_3 ? 0.5F : 0);
        return 1;
    case UNARY_MISH:
        out[0] = eltwise(dnnl_eltwise_mish, 0, 0);
        return 1;
    case UNARY_CLIP:
        out[0] = eltwise(dnnl_eltwise_clip, fmaxf(alpha, -FLT_MAX), fminf(beta, FLT_MAX));
        return 1;
    case UNARY_LINEAR:
        out[0] = eltwise(dnnl_eltwise_linear, alpha, beta);
        return 1;
    default: /* softsign, rsqrt (their pow is slow), threshold; log (theirs is 1e-6 off near 1) */
        return -1;
    }
}

bool dnn_binary(enum binary_function function, dnnl_alg_kind_t *algorithm)
{
    static const dnnl_alg_kind_t KINDS[BINARY_FUNCTION_COUNT] = {
        [BINARY_ADD] = dnnl_binary_add,       [BINARY_SUBTRACT] = dnnl_binary_sub,
        [BINARY_MULTIPLY] = dnnl_binary_mul,  [BINARY_DIVIDE] = dnnl_binary_div,
        [BINARY_MAXIMUM] = dnnl_binary_max,   [BINARY_MINIMUM] = dnnl_binary_min,
        [BINARY_POWER] = dnnl_alg_kind_undef,
    };
    *algorithm = KINDS[function];
    return *algorithm != dnnl_alg_kind_undef;
}

bool dnn_post_fits(const struct dnn_post *posts, size_t count, const struct dnn_post *next)
{
    for (size_t i = 0; i < count && next->kind == DNN_ELTWISE; i++) {
        if (posts[i].kind == DNN_ELTWISE && posts[i].algorithm == next->algorithm &&
            (posts[i].alpha != next->alpha || posts[i].beta != next->beta))
            return false;
    }
    return true;
}

static bool append(dnnl_post_ops_t posts, const struct dnn_post *post)
{
#if DNN_3
    float scale = post->scale != 0 ? post->scale : 1;
    if (post->kind == DNN_SUM)
        last_status = dnnl_post_ops_append_sum(posts, scale, 0, post->type);
    else if (post->kind == DNN_ELTWISE)
        last_status = dnnl_post_ops_append_eltwise(posts, post->algorithm, post->alpha, post->beta);
#else
    float scale = post->scale != 0 ? post->scale : 1;
    if (post->kind == DNN_SUM)
        last_status = dnnl_post_ops_append_sum_v2(posts, scale, post->type);
    else if (post->kind == DNN_ELTWISE)
        last_status =
            dnnl_post_ops_append_eltwise(posts, 1, post->algorithm, post->alpha, post->beta);
#endif
    else
        last_status = dnnl_post_ops_append_binary(posts, post->algorithm, MD(post->operand));
    return last_status == dnnl_success;
}

dnnl_primitive_attr_t dnn_attributes(const struct dnn_post *posts, size_t count)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t list = NULL;
    last_status = dnnl_primitive_attr_create(&attr);
    if (last_status != dnnl_success)
        return NULL;
    bool ok =
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
        dnnl_post_ops_create(&list) == dnnl_success;
    for (size_t i = 0; ok && i < count; i++)
        ok = append(list, &posts[i]);
    ok = ok && dnnl_primitive_attr_set_post_ops(attr, list) == dnnl_success;
    if (list)
        dnnl_post_ops_destroy(list);
    if (ok)
        return attr;
    dnnl_primitive_attr_destroy(attr);
    return NULL;
}

dnnl_primitive_attr_t dnn_attributes_int8(const struct dnn_post *posts, size_t count,
                                          const float *factors, int64_t channels, bool grouped)
{
    dnnl_primitive_attr_t attr = dnn_attributes(posts, count);
    if (!attr)
        return NULL;
#if DNN_3
    (void)factors, (void)channels;
    last_status = dnnl_primitive_attr_set_scales_mask(attr, DNNL_ARG_WEIGHTS, grouped ? 3 : 1);
#else
    (void)grouped;
    last_status = dnnl_primitive_attr_set_output_scales(attr, channels, 1 << 1, factors);
#endif
    if (last_status == dnnl_success)
        return attr;
    dnnl_primitive_attr_destroy(attr);
    return NULL;
}

bool dnn_bias_in_sums(void)
{
    return !DNN_3;
}

int dnn_factors_argument(void)
{
#if DNN_3
    return DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS;
#else
    return 0;
#endif
}

/* ---- primitive descriptors ---- */

/* oneDNN counts dilation from 0 */
static void geometry(const struct dnn_window *window, dnnl_dims_t stride, dnnl_dims_t dilation,
                     dnnl_dims_t before, dnnl_dims_t after)
{
    for (int i = 0; i < window->spatial; i++) {
        stride[i] = window->stride[i];
        dilation[i] = window->dilation ? window->dilation[i] - 1 : 0;
        before[i] = window->before[i];
        after[i] = window->after[i];
    }
}

#if !DNN_3
static dnnl_primitive_desc_t finish(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                    dnnl_status_t status, const_dnnl_op_desc_t op)
{
    dnnl_primitive_desc_t pd = NULL;
    last_status = status;
    if (status == dnnl_success)
        last_status = dnnl_primitive_desc_create(&pd, op, attr, engine, NULL);
    return last_status == dnnl_success ? pd : NULL;
}
#else
static dnnl_primitive_desc_t checked(dnnl_status_t status, dnnl_primitive_desc_t pd)
{
    last_status = status;
    return status == dnnl_success ? pd : NULL;
}
#endif

dnnl_primitive_desc_t dnn_convolution(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                      const struct dnn_window *window, bool transposed,
                                      const struct dnn_md *src, const struct dnn_md *weights,
                                      const struct dnn_md *bias, const struct dnn_md *dst)
{
    dnnl_dims_t stride, dilation, before, after;
    geometry(window, stride, dilation, before, after);
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status =
        transposed ? dnnl_deconvolution_forward_primitive_desc_create(
                         &pd, engine, dnnl_forward_inference, dnnl_deconvolution_direct, MD(src),
                         MD(weights), MD(bias), MD(dst), stride, dilation, before, after, attr)
                   : dnnl_convolution_forward_primitive_desc_create(
                         &pd, engine, dnnl_forward_inference, dnnl_convolution_direct, MD(src),
                         MD(weights), MD(bias), MD(dst), stride, dilation, before, after, attr);
    return checked(status, pd);
#else
    if (transposed) {
        dnnl_deconvolution_desc_t op;
        dnnl_status_t status = dnnl_dilated_deconvolution_forward_desc_init(
            &op, dnnl_forward_inference, dnnl_deconvolution_direct, MD(src), MD(weights), MD(bias),
            MD(dst), stride, dilation, before, after);
        return finish(engine, attr, status, &op);
    }
    dnnl_convolution_desc_t op;
    dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(
        &op, dnnl_forward_inference, dnnl_convolution_direct, MD(src), MD(weights), MD(bias),
        MD(dst), stride, dilation, before, after);
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_matmul(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                 const struct dnn_md *src, const struct dnn_md *weights,
                                 const struct dnn_md *bias, const struct dnn_md *dst)
{
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_matmul_primitive_desc_create(&pd, engine, MD(src), MD(weights),
                                                             MD(bias), MD(dst), attr);
    return checked(status, pd);
#else
    dnnl_matmul_desc_t op;
    dnnl_status_t status = dnnl_matmul_desc_init(&op, MD(src), MD(weights), MD(bias), MD(dst));
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_inner_product(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                        const struct dnn_md *src, const struct dnn_md *weights,
                                        const struct dnn_md *bias, const struct dnn_md *dst)
{
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_inner_product_forward_primitive_desc_create(
        &pd, engine, dnnl_forward_inference, MD(src), MD(weights), MD(bias), MD(dst), attr);
    return checked(status, pd);
#else
    dnnl_inner_product_desc_t op;
    dnnl_status_t status = dnnl_inner_product_forward_desc_init(
        &op, dnnl_forward_inference, MD(src), MD(weights), MD(bias), MD(dst));
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_pooling(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                  enum pool_function function, const struct dnn_window *window,
                                  const struct dnn_md *src, const struct dnn_md *dst)
{
    dnnl_dims_t stride, dilation, before, after, kernel;
    dnnl_alg_kind_t algorithm =
        function == POOL_MAX ? dnnl_pooling_max : dnnl_pooling_avg_exclude_padding;
    geometry(window, stride, dilation, before, after);
    for (int i = 0; i < window->spatial; i++)
        kernel[i] = window->kernel[i];
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_pooling_forward_primitive_desc_create(
        &pd, engine, dnnl_forward_inference, algorithm, MD(src), MD(dst), stride, kernel, dilation,
        before, after, attr);
    return checked(status, pd);
#else
    dnnl_pooling_desc_t op;
    dnnl_status_t status = dnnl_pooling_forward_desc_init(
        &op, dnnl_forward_inference, algorithm, MD(src), MD(dst), stride, kernel, before, after);
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_eltwise(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                  const struct dnn_post *function, const struct dnn_md *src,
                                  const struct dnn_md *dst)
{
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_eltwise_forward_primitive_desc_create(
        &pd, engine, dnnl_forward_inference, function->algorithm, MD(src), MD(dst), function->alpha,
        function->beta, attr);
    return checked(status, pd);
#else
    (void)dst; /* 2.x: the same layout */
    dnnl_eltwise_desc_t op;
    dnnl_status_t status = dnnl_eltwise_forward_desc_init(
        &op, dnnl_forward_inference, function->algorithm, MD(src), function->alpha, function->beta);
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_binary_op(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                    dnnl_alg_kind_t algorithm, const struct dnn_md *a,
                                    const struct dnn_md *b, const struct dnn_md *dst)
{
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status =
        dnnl_binary_primitive_desc_create(&pd, engine, algorithm, MD(a), MD(b), MD(dst), attr);
    return checked(status, pd);
#else
    dnnl_binary_desc_t op;
    dnnl_status_t status = dnnl_binary_desc_init(&op, algorithm, MD(a), MD(b), MD(dst));
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_softmax(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr, bool log,
                                  int axis, const struct dnn_md *src, const struct dnn_md *dst)
{
    dnnl_alg_kind_t algorithm = log ? dnnl_softmax_log : dnnl_softmax_accurate;
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_softmax_forward_primitive_desc_create(
        &pd, engine, dnnl_forward_inference, algorithm, MD(src), MD(dst), axis, attr);
    return checked(status, pd);
#else
    dnnl_softmax_v2_desc_t op;
    dnnl_status_t status = dnnl_softmax_v2_forward_desc_init(&op, dnnl_forward_inference, algorithm,
                                                             MD(src), MD(dst), axis);
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_layer_norm(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                     float epsilon, bool scale, bool shift,
                                     const struct dnn_md *src, const struct dnn_md *dst)
{
    unsigned flags = (scale ? dnnl_use_scale : 0U) | (shift ? dnnl_use_shift : 0U);
#if DNN_3
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_layer_normalization_forward_primitive_desc_create(
        &pd, engine, dnnl_forward_inference, MD(src), MD(dst), NULL, epsilon, flags, attr);
    return checked(status, pd);
#else
    (void)dst;
    dnnl_layer_normalization_desc_t op;
    dnnl_status_t status = dnnl_layer_normalization_forward_desc_init(
        &op, dnnl_forward_inference, MD(src), NULL, epsilon, flags);
    return finish(engine, attr, status, &op);
#endif
}

dnnl_primitive_desc_t dnn_reorder(dnnl_engine_t engine, const_dnnl_primitive_attr_t attr,
                                  const struct dnn_md *src, const struct dnn_md *dst)
{
    dnnl_primitive_desc_t pd = NULL;
    last_status = dnnl_reorder_primitive_desc_create(&pd, MD(src), engine, MD(dst), engine, attr);
    return last_status == dnnl_success ? pd : NULL;
}

/* ---- facts ---- */

const char *dnn_implementation(const_dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name) != dnnl_success)
        return "";
    return name ? name : "";
}

const char *dnn_version_text(void)
{
    static char text[48];
    const dnnl_version_t *version = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d", version->major, version->minor, version->patch);
    return text;
}

/* A value of the enumeration holds the bits of what it includes: newer sets than we know of still
 * count as the best that we do. */
static bool includes(int isa)
{
    return ((int)dnnl_get_effective_cpu_isa() & isa) == isa;
}

const char *dnn_isa_name(void)
{
    static const struct {
        int isa;
        const char *name;
    } SETS[] = {
        {dnnl_cpu_isa_avx512_core_amx, "AVX512 AMX"},
        {dnnl_cpu_isa_avx512_core_bf16, "AVX512 BF16"},
        {dnnl_cpu_isa_avx512_core_vnni, "AVX512 VNNI"},
        {dnnl_cpu_isa_avx512_core, "AVX512"},
        {dnnl_cpu_isa_avx2_vnni, "AVX2 VNNI"},
        {dnnl_cpu_isa_avx2, "AVX2"},
        {dnnl_cpu_isa_avx, "AVX"},
        {dnnl_cpu_isa_sse41, "SSE4.1"},
    };
    for (size_t i = 0; i < sizeof SETS / sizeof *SETS; i++) {
        if (includes(SETS[i].isa))
            return SETS[i].name;
    }
    return "generic";
}

bool dnn_has_avx512(void)
{
    return includes(dnnl_cpu_isa_avx512_core);
}

bool dnn_has_bf16(void)
{
    return includes(dnnl_cpu_isa_avx512_core_bf16);
}

bool dnn_has_vnni(void)
{
    return includes(dnnl_cpu_isa_avx512_core_vnni) || includes(dnnl_cpu_isa_avx2_vnni);
}

bool dnn_has_amx(void)
{
    return includes(dnnl_cpu_isa_avx512_core_amx);
}
