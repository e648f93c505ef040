/* Our own CUDA kernels, for what the libraries do badly or not at all.
 *
 * Every launcher queues one kernel on `stream` and returns cudaSuccess or the launch's error as an
 * int (a cudaError_t); nothing waits. Tensors are dense, channels last, 256-byte aligned. `dtype` is
 * how activations are stored: DTYPE_F32, DTYPE_F16 or DTYPE_BF16 (another one is
 * cudaErrorInvalidValue); all arithmetic is in float32, and so are the constants. Indices are
 * 64-bit, or 32-bit where the whole tensor is known to be small enough.
 */
#ifndef LAYERTOP_ENGINE_CUDA_KERNELS_H
#define LAYERTOP_ENGINE_CUDA_KERNELS_H

#include "engine/tensor.h"
#include <driver_types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHAIN_STAGES_MAX 12

/* How a tensor is read at an element of the output. */
enum operand_mode {
    OPERAND_LINEAR,  /* same shape: data[i] */
    OPERAND_SCALAR,  /* data[0] */
    OPERAND_LAST,    /* along the last axis: data[i % last] */
    OPERAND_STRIDED, /* any broadcast */
};

struct operand {
    const void *data;
    int dtype; /* enum dtype, any of them */
    int mode;
    int64_t strides[TENSOR_RANK_MAX]; /* per output axis, elements; 0 where it is broadcast */
};

enum stage_kind { STAGE_UNARY, STAGE_BINARY };

struct stage {
    int kind;
    int function; /* enum unary_function or enum binary_function */
    float alpha, beta;
    bool swapped; /* operand OP x */
    struct operand operand;
};

/* y = stages[n-1](... stages[0](x)), element by element. chain_finish() merges axes and fills the
 * modes from dims and strides; `x` is not read where another kernel makes the value. */
struct chain {
    int rank;
    int dtype; /* of y, any of them */
    int64_t dims[TENSOR_RANK_MAX];
    int64_t elements;
    int vector;         /* neighbours at a time: 1, 4 or 8 */
    int64_t row, pitch; /* pitch 0, or y has rows of `pitch`: `row` elements, then zeros */
    struct operand x;
    bool select; /* x != 0 chooses between two operands before the stages run on the chosen one */
    struct operand chosen[2]; /* where it is not 0; where it is */
    int count;
    struct stage stages[CHAIN_STAGES_MAX];
};

/* Begin a chain for an output shape; the input is the output's shape unless changed. Everything is
 * float32 until told otherwise. */
void chain_begin(struct chain *chain, const struct shape *shape);
/* An operand of shape `shape` (same rank, or rank 0 or 1 along the last axis) in this chain. */
struct operand chain_operand(const struct chain *chain, const struct shape *shape);
/* A chain without stages: `elements` of one type as another. */
struct chain chain_convert(int64_t elements, enum dtype from, enum dtype to);
/* Merge axes, choose modes. Data pointers may be set or changed afterwards. */
void chain_finish(struct chain *chain);

/* y may be x or an operand of mode LINEAR. */
int kernel_chain(const struct chain *chain, void *y, cudaStream_t stream);

/* A convolution's geometry with three spatial axes; unused ones come first and are 1. */
struct kernel_conv {
    int64_t batch, in[3], out[3], in_channels, out_channels, groups;
    int64_t real_channels; /* of x, the others are zeros that filters do not have; 0: all */
    int64_t kernel[3], stride[3], dilation[3], pad[3]; /* pad: before */
    bool transposed;
};

/* Depthwise: weights (k..., 1, K) in float32, K = in_channels * multiplier; `chain` (bias,
 * activation) is applied to the result in registers. */
int kernel_depthwise(enum dtype dtype, const struct kernel_conv *conv, const void *x,
                     const float *weights, void *y, const struct chain *chain, cudaStream_t stream);
/* Any convolution, slowly: what cuDNN has no engine for. weights (k..., C/groups, K) in float32,
 * transposed: (k..., K, C/groups). */
int kernel_convolve(enum dtype dtype, const struct kernel_conv *conv, const void *x,
                    const float *weights, void *y, cudaStream_t stream);

/* Float32 as rows of bytes for a product (engine/cuda/int8.h): one row for each cell of a convolution's
 * output, the x that its window sees (depth: taps * channels), filled to `pitch` bytes, a multiple of
 * 4. A plain product is a convolution of one tap. positive: 0..255, stored as q - 128; else
 * -128..127. Rows from `first` on; behind the last of `rows` come zeros. */
struct kernel_quantise {
    struct kernel_conv conv;
    int64_t rows, depth, pitch;
    float inverse; /* 1 / step */
    bool positive;
};
int kernel_quantise(const struct kernel_quantise *quantise, int64_t first, int64_t rows,
                    const float *x, void *to, cudaStream_t stream);
/* y[first + row][k] = chain((sums[row][k] + shift * weights[k]) * step * steps[k]), y (all, units);
 * sums (rows, wide), weights: the sum of each channel's. Aligned to 16 bytes. */
struct kernel_dequantise {
    int64_t units, wide;
    int32_t shift;
    float step;
};
int kernel_dequantise(const struct kernel_dequantise *dequantise, int64_t first, int64_t rows,
                      const int32_t *sums, const float *steps, const int32_t *weights, float *y,
                      const struct chain *chain, cudaStream_t stream);

/* Pooling; geometry as above with in_channels == out_channels, kernel = window. */
int kernel_pool(enum dtype dtype, const struct kernel_conv *pool, bool average, const void *x,
                void *y, cudaStream_t stream);
/* x (N, H, W, C) -> y (N, H', W', C), half-pixel centres. */
int kernel_resize(enum dtype dtype, bool bilinear, int64_t batch, int64_t height, int64_t width,
                  int64_t channels, int64_t out_height, int64_t out_width, const void *x, void *y,
                  cudaStream_t stream);

/* Softmax of x (outer, n, inner) over n. */
int kernel_softmax(enum dtype dtype, bool log, int64_t outer, int64_t n, int64_t inner,
                   const void *x, void *y, cudaStream_t stream);
/* Rows of n: (x - mean) / sqrt(var + epsilon) * gamma + beta, or x / sqrt(mean(x^2) + epsilon) when
 * rms; gamma and beta of n float32 elements or NULL. */
int kernel_normalise(enum dtype dtype, bool rms, float epsilon, int64_t rows, int64_t n,
                     const void *x, const float *gamma, const float *beta, void *y,
                     cudaStream_t stream);

/* A reduction over some axes of x; adjacent axes of a kind are merged, kept and reduced ones are
 * listed with their extents and strides in x (elements). y is dense over the kept axes. */
struct kernel_reduce {
    int function; /* enum reduce_function */
    int kept_rank, reduced_rank;
    int64_t kept[TENSOR_RANK_MAX], kept_stride[TENSOR_RANK_MAX];
    int64_t reduced[TENSOR_RANK_MAX], reduced_stride[TENSOR_RANK_MAX];
};
int kernel_reduce(enum dtype dtype, const struct kernel_reduce *reduce, const void *x, void *y,
                  cudaStream_t stream);

/* y[i...] = x[sum over axes of (i * step + begin) * stride], or `value` where i * step + begin
 * leaves 0..limit-1: pad, slice, flip and transpose. */
struct kernel_gather {
    int rank;
    int64_t dims[TENSOR_RANK_MAX]; /* of y */
    int64_t begin[TENSOR_RANK_MAX], step[TENSOR_RANK_MAX], limit[TENSOR_RANK_MAX];
    int64_t stride[TENSOR_RANK_MAX];
    float value;
};
int kernel_gather(enum dtype dtype, const struct kernel_gather *gather, const void *x, void *y,
                  cudaStream_t stream);
/* Rows of `width` elements from x (dense) into y (rows of `pitch`): one input of a concat. */
int kernel_copy_rows(enum dtype dtype, int64_t rows, int64_t width, int64_t pitch, const void *x,
                     void *y, cudaStream_t stream);
/* y (n, b, a) = x (n, a, b): channels last to channels first, and back. */
int kernel_turn(enum dtype dtype, int64_t n, int64_t a, int64_t b, const void *x, void *y,
                cudaStream_t stream);

/* y (groups, outer, picked, inner) = rows of data (groups, outer, rows, inner), named by whole numbers
 * of any type (groups, picked); a negative one counts from the end. For one that lies outside, y gets
 * zeros and *fault becomes kernel_fault(tag, the number): `fault` is memory of the host that the
 * device sees (cudaHostAlloc), and `tag` must not be 0. */
struct kernel_lookup {
    int64_t groups, outer, rows, picked, inner;
    int index_dtype; /* enum dtype */
    uint32_t tag;
};
int kernel_lookup(enum dtype dtype, const struct kernel_lookup *lookup, const void *data,
                  const void *index, void *y, uint64_t *fault, cudaStream_t stream);

/* Running sums or products of x (outer, n, inner) over n. */
struct kernel_cumulate {
    int64_t outer, n, inner;
    bool product, reverse, exclusive;
};
int kernel_cumulate(enum dtype dtype, const struct kernel_cumulate *cumulate, const void *x,
                    void *y, cudaStream_t stream);

/* The `count` largest or smallest of each row of n, in order, or where they are; equal ones by their
 * place, a NaN as larger than any number. y is stored as `dtype` of this struct. */
#define KERNEL_TOP_FEW 8 /* so many are searched for one after the other, more by counting */
struct kernel_top {
    int64_t rows, n, count;
    bool smallest, indices;
    int dtype; /* enum dtype, of y */
};
int kernel_top(enum dtype dtype, const struct kernel_top *top, const void *x, void *y,
               cudaStream_t stream);

/* Raw pictures (engine/pipeline.h) as y (batch, height, width, channels) in float32, resized and
 * scaled by the rules of engine/image.h, sum for sum: the results are the CPU's. */
enum kernel_scale { SCALE_NONE, SCALE_TF, SCALE_CAFFE, SCALE_TORCH, SCALE_UNIT, SCALE_PER_IMAGE };
struct kernel_pictures {
    int64_t batch;
    int height, width, channels; /* channels: 1 or 3 */
    int filter, scale;           /* enum image_filter, enum kernel_scale */
    uint64_t table_bytes, slot_bytes;
};
int kernel_pictures(const struct kernel_pictures *pictures, const void *raw, float *y,
                    cudaStream_t stream);

/* An empty kernel: proves that the module holds code for this GPU. */
int kernel_probe(cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
