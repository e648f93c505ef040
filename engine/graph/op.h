/* The small set of ops that every Keras layer is lowered to.
 *
 * Activations are dense, row-major and channels-last: (batch, spatial..., channels). Weights keep
 * Keras's own layout (HWIO for convolutions, (in, out) for dense layers); a backend reorders them
 * once. An op computes
 *     y = post[n-1](... post[0](op(inputs, constants)))
 * into one output value (recurrent and attention ops may have several).
 *
 * FLOPs count a multiply-add as two. Bytes are the analytic minimum: inputs + constants + outputs,
 * each moved once.
 */
#ifndef LAYERTOP_ENGINE_GRAPH_OP_H
#define LAYERTOP_ENGINE_GRAPH_OP_H

#include "engine/error.h"
#include "engine/tensor.h"

#define SPATIAL_MAX    3
#define OP_OUTPUTS_MAX 4

/* kind, name: the shape rule is a row in op_shape.c, FLOPs and bytes are one in op.c */
#define OP_KINDS(X)                                                                                \
    X(OP_CONV, "conv")                                                                             \
    X(OP_MATMUL, "matmul")                                                                         \
    X(OP_POOL, "pool")                                                                             \
    X(OP_AFFINE, "affine")                                                                         \
    X(OP_UNARY, "unary")                                                                           \
    X(OP_BINARY, "binary")                                                                         \
    X(OP_SOFTMAX, "softmax")                                                                       \
    X(OP_NORMALISE, "normalise")                                                                   \
    X(OP_REDUCE, "reduce")                                                                         \
    X(OP_PAD, "pad")                                                                               \
    X(OP_SLICE, "slice")                                                                           \
    X(OP_CONCAT, "concat")                                                                         \
    X(OP_TRANSPOSE, "transpose")                                                                   \
    X(OP_RESHAPE, "reshape")                                                                       \
    X(OP_RESIZE, "resize")                                                                         \
    X(OP_CONSTANT, "constant")                                                                     \
    X(OP_SELECT, "select")                                                                         \
    X(OP_GATHER, "gather")                                                                         \
    X(OP_RECURRENT, "recurrent")                                                                   \
    X(OP_ATTENTION, "attention")                                                                   \
    X(OP_CUMULATE, "cumulate")                                                                     \
    X(OP_TOP, "top")

enum op_kind {
#define OP_ENUM(kind, name) kind,
    OP_KINDS(OP_ENUM)
#undef OP_ENUM
        OP_KIND_COUNT
};

enum unary_function {
    UNARY_IDENTITY,
    UNARY_RELU, /* max(x, 0) + alpha * min(x, 0), clipped to `beta` above if beta > 0 */
    UNARY_SIGMOID,
    UNARY_TANH,
    UNARY_SILU,
    UNARY_GELU_ERF,
    UNARY_GELU_TANH,
    UNARY_ELU, /* x < 0: alpha (e^x - 1) */
    UNARY_SELU,
    UNARY_SOFTPLUS,
    UNARY_SOFTSIGN,
    UNARY_EXP,
    UNARY_LOG,
    UNARY_SQRT,
    UNARY_RSQRT,
    UNARY_SQUARE,
    UNARY_ABS,
    UNARY_NEGATIVE,
    UNARY_HARD_SIGMOID, /* clip(alpha x + beta, 0, 1): Keras 3 1/6, 0.5; Keras 2 0.2, 0.5 */
    UNARY_HARD_SILU,    /* x clip(x/6 + 0.5, 0, 1) */
    UNARY_MISH,
    UNARY_CLIP,      /* clip(x, alpha, beta) */
    UNARY_LINEAR,    /* alpha x + beta */
    UNARY_THRESHOLD, /* x > alpha ? x : beta */
    UNARY_FLOOR,
    UNARY_CEIL,
    UNARY_ROUND,    /* halves to even */
    UNARY_TRUNCATE, /* towards 0 */
    UNARY_SIGN,
    UNARY_SIN,
    UNARY_COS,
    UNARY_TAN,
    UNARY_ASIN,
    UNARY_ACOS,
    UNARY_ATAN,
    UNARY_SINH,
    UNARY_COSH,
    UNARY_ASINH,
    UNARY_ACOSH,
    UNARY_ATANH,
    UNARY_EXPM1,
    UNARY_LOG1P,
    UNARY_ERF,
    UNARY_FLOAT8, /* to the nearest number of float8_e4m3fn, halves to even; up to 448 */
    UNARY_FUNCTION_COUNT
};

enum binary_function {
    BINARY_ADD,
    BINARY_SUBTRACT,
    BINARY_MULTIPLY,
    BINARY_DIVIDE,
    BINARY_MAXIMUM,
    BINARY_MINIMUM,
    BINARY_POWER,
    BINARY_EQUAL, /* comparisons give 1 or 0; a NaN equals nothing */
    BINARY_NOT_EQUAL,
    BINARY_GREATER,
    BINARY_GREATER_EQUAL,
    BINARY_LESS,
    BINARY_LESS_EQUAL,
    BINARY_FLOOR_DIVIDE, /* floor(a / b) */
    BINARY_MODULO,       /* a - floor(a / b) b: the sign of b */
    BINARY_ATAN2,
    BINARY_FUNCTION_COUNT
};

enum pool_function { POOL_MAX, POOL_AVERAGE /* divides by the number of real cells */ };
enum reduce_function { REDUCE_MEAN, REDUCE_SUM, REDUCE_MAX, REDUCE_MIN };
enum resize_function { RESIZE_NEAREST, RESIZE_BILINEAR };

/* A constant tensor, made by the lowering from weights (perhaps folded) and kept for the model's
 * life, so that plans for other batch sizes share it and a backend can key reordered or uploaded
 * copies by its address. Always float32 and contiguous. Owned by a constant_pool. */
struct constant {
    struct shape shape;
    const float *data;
    uint64_t bytes;
    bool owned;                     /* data was computed; false: a view into the model's weights */
    struct constant_origin *origin; /* of what can be made again, see constant_data(); or NULL */
};

/* How a constant that was computed from another is computed again after its release. */
struct constant_origin {
    const float *(*make)(const struct constant *constant, struct error *error);
    void (*release)(const struct constant *constant);
    bool kept; /* somebody holds the address of the data: release() does nothing */
};

/* The data of a constant whose data may have been released: made again if need be. NULL on
 * ERROR_MEMORY. Weights of OP_CONV, OP_MATMUL and OP_RECURRENT are read through this; those of other
 * ops are kept by graph_lower(). */
static inline const float *constant_data(const struct constant *constant, struct error *error)
{
    if (constant->data != NULL || constant->origin == NULL)
        return constant->data;
    return constant->origin->make(constant, error);
}

/* As constant_data(), for who holds the address: the data stay until the pool dies. */
static inline const float *constant_keep(const struct constant *constant, struct error *error)
{
    if (constant->origin != NULL)
        constant->origin->kept = true;
    return constant_data(constant, error);
}

/* Somebody has a copy in a layout of its own: free the data if they can be made again. */
static inline void constant_release(const struct constant *constant)
{
    if (constant->origin != NULL && !constant->origin->kept)
        constant->origin->release(constant);
}

struct op_conv { /* x (N, spatial..., C) -> (N, spatial'..., K) */
    int spatial; /* 1..3 */
    int64_t kernel[SPATIAL_MAX], stride[SPATIAL_MAX], dilation[SPATIAL_MAX];
    int64_t pad_before[SPATIAL_MAX], pad_after[SPATIAL_MAX];
    int64_t groups;  /* groups == C with C/groups == 1 is depthwise, K = C * multiplier */
    bool transposed; /* adjoint of the convolution; weights (k..., K, C/groups), pads crop y */
    const struct constant *weights; /* (k..., C/groups, K) */
    const struct constant *bias;    /* (K) or NULL */
};

struct op_matmul {                  /* x (..., C) -> (..., K) */
    const struct constant *weights; /* (C, K); NULL: second input value, batched over equal dims */
    const struct constant *bias;    /* (K) or NULL */
};

struct op_pool {
    enum pool_function function;
    int spatial;
    int64_t window[SPATIAL_MAX], stride[SPATIAL_MAX];
    int64_t pad_before[SPATIAL_MAX], pad_after[SPATIAL_MAX];
};

struct op_affine { /* y = x * scale + shift over the last axis; each (C) or (1) or NULL */
    const struct constant *scale;
    const struct constant *shift;
};

struct op_unary {
    enum unary_function function;
    float alpha, beta;
};

struct op_binary { /* NumPy broadcasting; the lowering has made the ranks equal */
    enum binary_function function;
    const struct constant *constant; /* second operand if not a value, else NULL */
    bool swapped;                    /* compute constant OP x */
};

struct op_softmax {
    int axis; /* 0..rank-1 */
    bool log;
};

struct op_normalise { /* over the trailing axes from `axis` on: (x - mean) / sqrt(var + epsilon) */
    int axis;
    float epsilon;
    bool rms;                            /* no mean: x / sqrt(mean(x^2) + epsilon) */
    const struct constant *gamma, *beta; /* shape of the normalised axes, or NULL */
};

struct op_reduce {
    enum reduce_function function;
    bool axes[TENSOR_RANK_MAX];
    bool keepdims;
};

struct op_pad {
    int64_t before[TENSOR_RANK_MAX], after[TENSOR_RANK_MAX];
    float value;
};

struct op_slice { /* y[i...] = x[begin + i * step ...]; a step of 0 repeats one cell */
    int64_t begin[TENSOR_RANK_MAX], size[TENSOR_RANK_MAX], step[TENSOR_RANK_MAX];
};

struct op_concat {
    int axis;
};

struct op_transpose {
    int permutation[TENSOR_RANK_MAX]; /* y.dims[i] = x.dims[permutation[i]] */
};

struct op_resize { /* spatial axes 1 and 2; half-pixel centres, no antialiasing */
    enum resize_function function;
    int64_t height, width;
};

struct op_constant { /* no inputs: a constant where an op takes only values */
    const struct constant *data;
};

/* y = condition != 0 ? a : b, NumPy broadcasting over equal ranks. Inputs: the condition, then those
 * of a and b that are no constants. */
struct op_select {
    const struct constant *on_true, *on_false; /* NULL: an input value */
};

/* y[before..., i..., after...] = data[before..., indices[i...], after...], where `before` are the
 * axes of the data in front of `axis`; the first `batch_axes` of them are shared with the indices.
 * Inputs: the data, then the indices, those that are no constants. Indices are whole numbers; a
 * negative one counts from the end, and one outside is an error of the step. */
struct op_gather {
    int axis;
    int batch_axes;
    const struct constant *data, *indices;
};

/* What a masked step of a recurrent layer puts out. Its state is kept in any case. */
enum masked_output {
    MASKED_STATE,    /* the state it kept */
    MASKED_PREVIOUS, /* the same, but zeros before the first real step */
    MASKED_ZERO,
};

/* One layer in one direction. x (N, T, C) -> y (N, T, H), or (N, H) without `sequences`; then, with
 * `states`, the last h (N, H) and for LSTM the last c (N, H). In columns of H units each, with
 * z = x kernel + bias and u = h recurrent of the step before:
 *   simple  h = f(z + u)
 *   LSTM    i, f, g, o = z + u; c = gate(f) c + gate(i) f(g); h = gate(o) f(c)
 *   GRU     z, r = gate(z + u); g = f(z + r u), or with `reset_after` unset f(z + (r h) recurrent);
 *           h = z h + (1 - z) g. With `reset_after` the second row of the bias is added to u.
 * Inputs: x, then if they are there the mask (N, T), h (N, H) and for LSTM c (N, H); states begin
 * at zero without. */
enum recurrent_cell { CELL_SIMPLE, CELL_LSTM, CELL_GRU };

struct op_recurrent {
    enum recurrent_cell cell;
    bool reset_after;
    int64_t units;
    struct op_unary activation, gate;
    const struct constant *kernel;    /* (C, H gates) */
    const struct constant *recurrent; /* (H, H gates) */
    const struct constant *bias;      /* (H gates), GRU with reset_after (2, H gates); or NULL */
    bool backwards;                   /* from the last step to the first */
    bool flipped;                     /* y in the reverse order of the steps */
    bool sequences, states, has_mask, has_state;
    enum masked_output masked;
};

/* Gates of a cell: 1, 4 or 3. */
static inline int recurrent_gates(enum recurrent_cell cell)
{
    return cell == CELL_SIMPLE ? 1 : cell == CELL_LSTM ? 4 : 3;
}

struct op_cumulate { /* running sums or products along an axis */
    int axis;
    bool product;
    bool reverse;   /* from the end */
    bool exclusive; /* without the element itself */
};

/* The `count` largest along the last axis, the largest first; of equal ones the first comes first. */
struct op_top {
    int64_t count;
    bool smallest; /* the smallest, the smallest first */
    bool indices;  /* where they are, instead of what they are */
};

/* Scaled dot product attention: queries (N, T, H, D), keys (N, S, G, D) and values (N, S, G, V) give
 * (N, T, H, V), where query head h reads key head h G / H. Then, if there are any, a mask and a
 * bias, of (N or 1, H or 1, T or 1, S or 1) each.
 *     score = scale q.k;  score = soft_cap tanh(score / soft_cap);  score += bias
 * Where the mask is 0, a causal key comes later than its query, or the two are `window` or more
 * steps apart, the score is a very negative number: a query without any key left attends to all of
 * them alike, as in Keras. The scores are never stored. */
struct op_attention {
    float scale;
    float soft_cap; /* 0: none */
    int64_t window; /* 0: none */
    bool causal;
    bool mask, bias; /* the inputs behind q, k and v */
};

/* A function applied to the op's result in place before it is stored. */
struct post {
    enum { POST_UNARY, POST_BINARY } kind;
    struct op_unary unary;
    enum binary_function binary; /* result OP value; never swapped */
    int value;                   /* graph value of the second operand; broadcast like OP_BINARY */
};

struct op {
    enum op_kind kind;
    int *inputs; /* graph values */
    size_t input_count;
    int outputs[OP_OUTPUTS_MAX]; /* graph values */
    size_t output_count;
    union {
        struct op_conv conv;
        struct op_matmul matmul;
        struct op_pool pool;
        struct op_affine affine;
        struct op_unary unary;
        struct op_binary binary;
        struct op_softmax softmax;
        struct op_normalise normalise;
        struct op_reduce reduce;
        struct op_pad pad;
        struct op_slice slice;
        struct op_concat concat;
        struct op_transpose transpose;
        struct op_resize resize;
        struct op_constant constant;
        struct op_select select;
        struct op_gather gather;
        struct op_recurrent recurrent;
        struct op_attention attention;
        struct op_cumulate cumulate;
        struct op_top top;
    };
    struct post *posts;
    size_t post_count;
    int layer;  /* head: the model layer whose row shows this op's time */
    int *fused; /* model layers folded into this op, in model order, without the head */
    size_t fused_count;
    uint64_t flops;
    uint64_t bytes;
};

const char *op_kind_name(enum op_kind kind);
const char *unary_function_name(enum unary_function function);
const char *binary_function_name(enum binary_function function);

#endif
