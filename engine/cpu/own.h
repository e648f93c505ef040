/* Our own CPU loops, for what oneDNN lacks or does slowly: copies, broadcasts, odd functions.
 *
 * A kernel gets dense arrays in the shapes of the graph: float32, or bfloat16 where own_narrows()
 * says so. Big ones are shared out over the OpenMP threads. Threads: the
 * engine thread calls.
 */
#ifndef LAYERTOP_ENGINE_CPU_OWN_H
#define LAYERTOP_ENGINE_CPU_OWN_H

#include "engine/graph/graph.h"

/* What a convolution of ours does to its sums: bias, then an addend of the result's shape (may lie
 * where the result goes), then a function. */
struct own_tail {
    const void *addend; /* of the kernel's type; NULL: none */
    enum unary_function function;
    float most; /* UNARY_RELU: the upper bound, infinite if there is none */
};

struct own_call {
    const struct graph *graph;
    const struct op *op;
    const void **inputs; /* one per op input */
    void *output;
    size_t element_bytes; /* 4: float32; 2: bfloat16, own_narrows() only; 1: of an int8 plan, what
                             only moves */
    struct own_outside *outside;
    void *more_outputs[OP_OUTPUTS_MAX - 1]; /* NULL where there is none */
    void *scratch;                          /* what the builder asked for, 64-byte aligned */
    void *private;                          /* the kernel's own, freed with the step */
    const void *packed; /* convolutions: weights and bias as own_conv.pack laid them */
    struct own_tail tail;
};

/* What an index pointed at, if it lay outside. */
struct own_outside {
    bool happened;
    float index;
    int64_t rows;
};

typedef void own_kernel(const struct own_call *call);

/* The kernel of an op without its posts, NULL if there is none. */
own_kernel *own_kernel_of(const struct op *op);

/* What the kernel of a filled call wants to work in, for so many threads. */
size_t own_scratch_bytes(const struct own_call *call, int threads);

/* Does the kernel take bfloat16 values as they lie in the arena? Those that only move numbers do,
 * and the elementwise ones, which widen a few hundred at a time in the first-level cache. */
bool own_narrows(const struct op *op);

/* bfloat16 to float32 and back (to nearest, ties to even); a row in one thread. */
void own_widen(const uint16_t *from, float *to, int64_t count);
void own_narrow(const float *from, uint16_t *to, int64_t count);
void own_widen_row(const uint16_t *from, float *to, int64_t count);
void own_narrow_row(const float *from, uint16_t *to, int64_t count);

/* y = post(y) in place over the shape of y; `operand` is the second operand of a binary post. Both
 * of element_bytes. */
void own_post(const struct post *post, void *y, const struct shape *shape, const void *operand,
              const struct shape *operand_shape, size_t element_bytes);

/* The kernels, by file: own.c */
own_kernel own_affine, own_unary, own_binary;
/* own_move.c */
own_kernel own_pad, own_slice, own_concat, own_transpose, own_resize, own_constant;
/* own_reduce.c, own_normalise.c */
own_kernel own_reduce, own_normalise;
size_t own_reduce_scratch(const struct own_call *call);
/* own_gather.c */
own_kernel own_select, own_gather;
/* recurrent.c */
own_kernel own_recurrent;

/* y = f(x) over a row, in one thread. */
void own_unary_row(const struct op_unary *unary, const float *x, float *y, int64_t count);

/* A convolution of ours. Weights and bias (NULL: 0) are packed once into `bytes`. */
struct own_conv {
    size_t element_bytes; /* of the plans that it is for. 4: float32; 2: bfloat16 */
    /* 0 if this convolution is not one for the kernel, else the size of the packed constants. */
    size_t (*bytes)(const struct op_conv *conv, const struct shape *in, const struct shape *out);
    void (*pack)(const struct op_conv *conv, const float *weights, const float *bias, void *to);
    own_kernel *run;
    /* Room that a call of so many threads needs; NULL: none. */
    size_t (*scratch_bytes)(const struct op_conv *conv, const struct shape *in,
                            const struct shape *out, int threads);
};

/* own_depthwise.c: AVX512_BF16; own_pointwise.c: AMX; own_product.c: float32, AVX512. */
extern const struct own_conv own_depthwise, own_pointwise, own_product;

/* The posts of an op as a tail, without the place of the addend; *value is the graph value that is
 * added, -1 if none is. false: they do not fit. */
bool own_tail_of(const struct op *op, struct own_tail *tail, int *value);

/* May kernels for these instructions run here? They are compiled on x86-64 alone. What oneDNN would
 * use counts, so that its ONEDNN_MAX_CPU_ISA limits us too. */
bool own_has_avx512(void);
bool own_has_avx512_bf16(void);
bool own_has_amx_bf16(void);

#if defined(__x86_64__) && defined(__GNUC__)
#define OWN_AVX512 1
#endif

/* own_order.c */
own_kernel own_cumulate, own_top;
/* own_attention.c */
own_kernel own_attention;
size_t own_attention_scratch(const struct own_call *call, int threads);

/* Below this many elements one thread is faster than waking the others. */
#define OWN_PARALLEL 32768

/* Vector loops get an AVX2 twin chosen at start. Sanitizers cannot run the resolver. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define OWN_VECTOR __attribute__((optimize("O3"), target_clones("avx2", "default")))
#else
#define OWN_VECTOR
#endif

/* The same with sixteen lanes where there are any, for loops that compute more than they move. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define OWN_WIDE_VECTOR __attribute__((optimize("O3"), target_clones("avx512f", "avx2", "default")))
#else
#define OWN_WIDE_VECTOR
#endif
#define OWN_LANES 16

#endif
