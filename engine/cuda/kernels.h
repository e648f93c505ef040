/* Our own CUDA kernels, for what the libraries do badly or not at all.
 *
 * Every launcher queues one kernel on `stream` and returns cudaSuccess or the launch's error as an
 * int (a cudaError_t); nothing waits. Tensors are dense float32, channels last, 256-byte aligned.
 * Indices are 64-bit, or 32-bit where the whole tensor is known to be small enough.
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
    const float *data;
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
    int64_t dims[TENSOR_RANK_MAX];
    int64_t elements;
    bool vector; /* four neighbours at a time */
    struct operand x;
    int count;
    struct stage stages[CHAIN_STAGES_MAX];
};

/* Begin a chain for an output shape; the input is the output's shape unless changed. */
void chain_begin(struct chain *chain, const struct shape *shape);
/* An operand of shape `shape` (same rank, or rank 0 or 1 along the last axis) in this chain. */
struct operand chain_operand(const struct chain *chain, const struct shape *shape);
/* Merge axes, choose modes. Data pointers may be set or changed afterwards. */
void chain_finish(struct chain *chain);

/* y may be x or an operand of mode LINEAR. */
int kernel_chain(const struct chain *chain, float *y, cudaStream_t stream);

/* A convolution's geometry with three spatial axes; unused ones come first and are 1. */
struct kernel_conv {
    int64_t batch, in[3], out[3], in_channels, out_channels, groups;
    int64_t kernel[3], stride[3], dilation[3], pad[3]; /* pad: before */
    bool transposed;
};

/* Depthwise: weights (k..., 1, K), K = in_channels * multiplier; `chain` (bias, activation) is
 * applied to the result in registers. */
int kernel_depthwise(const struct kernel_conv *conv, const float *x, const float *weights, float *y,
                     const struct chain *chain, cudaStream_t stream);
/* Any convolution, slowly: what cuDNN has no engine for. weights (k..., C/groups, K), transposed:
 * (k..., K, C) with groups 1. */
int kernel_convolve(const struct kernel_conv *conv, const float *x, const float *weights, float *y,
                    cudaStream_t stream);

/* Pooling; geometry as above with in_channels == out_channels, kernel = window. */
int kernel_pool(const struct kernel_conv *pool, bool average, const float *x, float *y,
                cudaStream_t stream);
/* x (N, H, W, C) -> y (N, H', W', C), half-pixel centres. */
int kernel_resize(bool bilinear, int64_t batch, int64_t height, int64_t width, int64_t channels,
                  int64_t out_height, int64_t out_width, const float *x, float *y,
                  cudaStream_t stream);

/* Softmax of x (outer, n, inner) over n. */
int kernel_softmax(bool log, int64_t outer, int64_t n, int64_t inner, const float *x, float *y,
                   cudaStream_t stream);
/* Rows of n: (x - mean) / sqrt(var + epsilon) * gamma + beta, or x / sqrt(mean(x^2) + epsilon) when
 * rms; gamma and beta of n elements or NULL. */
int kernel_normalise(bool rms, float epsilon, int64_t rows, int64_t n, const float *x,
                     const float *gamma, const float *beta, float *y, cudaStream_t stream);

/* A reduction over some axes of x; adjacent axes of a kind are merged, kept and reduced ones are
 * listed with their extents and strides in x (elements). y is dense over the kept axes. */
struct kernel_reduce {
    int function; /* enum reduce_function */
    int kept_rank, reduced_rank;
    int64_t kept[TENSOR_RANK_MAX], kept_stride[TENSOR_RANK_MAX];
    int64_t reduced[TENSOR_RANK_MAX], reduced_stride[TENSOR_RANK_MAX];
};
int kernel_reduce(const struct kernel_reduce *reduce, const float *x, float *y,
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
int kernel_gather(const struct kernel_gather *gather, const float *x, float *y,
                  cudaStream_t stream);
/* Rows of `width` floats from x (dense) into y (row pitch `pitch` floats): one input of a concat. */
int kernel_copy_rows(int64_t rows, int64_t width, int64_t pitch, const float *x, float *y,
                     cudaStream_t stream);
/* Convert between float32 and the dtype a model's input or output has (truncating as C does). */
int kernel_to_float(enum dtype dtype, int64_t elements, const void *x, float *y,
                    cudaStream_t stream);
int kernel_from_float(enum dtype dtype, int64_t elements, const float *x, void *y,
                      cudaStream_t stream);

/* An empty kernel: proves that the module holds code for this GPU. */
int kernel_probe(cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
