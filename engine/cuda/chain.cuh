/* Elementwise chains, the device's part: shared by the kernels that end in one. */
#ifndef LAYERTOP_ENGINE_CUDA_CHAIN_CUH
#define LAYERTOP_ENGINE_CUDA_CHAIN_CUH

#include "engine/cuda/element.cuh"
#include "engine/cuda/kernels.h"
#include "engine/graph/op.h"

/* a new function must not run as the identity */
static_assert(UNARY_FLOAT8 + 1 == UNARY_FUNCTION_COUNT, "a unary function is missing here");
static_assert(BINARY_ATAN2 + 1 == BINARY_FUNCTION_COUNT, "a binary function is missing here");

/* Out of line: inlined into every kernel and unrolled, the functions below would be megabytes. */
static __device__ __noinline__ float apply_rare_unary(int function, float x, float alpha,
                                                      float beta)
{
    switch (function) {
    case UNARY_SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    case UNARY_TANH:
        return tanhf(x);
    case UNARY_SILU:
        return x / (1.0f + expf(-x));
    case UNARY_GELU_ERF:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case UNARY_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case UNARY_ELU:
        return x > 0.0f ? x : alpha * expm1f(x);
    case UNARY_SELU:
        return 1.0507009873554805f * (x > 0.0f ? x : 1.6732632423543772f * expm1f(x));
    case UNARY_SOFTPLUS:
        return log1pf(expf(-fabsf(x))) + (x > 0.0f ? x : x <= 0.0f ? 0.0f : x);
    case UNARY_SOFTSIGN:
        return x / (1.0f + fabsf(x));
    case UNARY_EXP:
        return expf(x);
    case UNARY_LOG:
        return logf(x);
    case UNARY_SQRT:
        return sqrtf(x);
    case UNARY_RSQRT:
        return 1.0f / sqrtf(x);
    case UNARY_SQUARE:
        return x * x;
    case UNARY_ABS:
        return fabsf(x);
    case UNARY_NEGATIVE:
        return -x;
    case UNARY_HARD_SIGMOID: {
        float y = alpha * x + beta;
        return y < 0.0f ? 0.0f : y > 1.0f ? 1.0f : y;
    }
    case UNARY_HARD_SILU: {
        float y = x * (1.0f / 6.0f) + 0.5f;
        return x * (y < 0.0f ? 0.0f : y > 1.0f ? 1.0f : y);
    }
    case UNARY_MISH:
        return x * tanhf(log1pf(expf(-fabsf(x))) + (x > 0.0f ? x : 0.0f));
    case UNARY_CLIP:
        return x < alpha ? alpha : x > beta ? beta : x;
    case UNARY_THRESHOLD:
        return x > alpha ? x : beta;
    case UNARY_FLOOR:
        return floorf(x);
    case UNARY_CEIL:
        return ceilf(x);
    case UNARY_ROUND:
        return rintf(x);
    case UNARY_TRUNCATE:
        return truncf(x);
    case UNARY_SIGN:
        return (float)((x > 0) - (x < 0));
    case UNARY_SIN:
        return sinf(x);
    case UNARY_COS:
        return cosf(x);
    case UNARY_TAN:
        return tanf(x);
    case UNARY_ASIN:
        return asinf(x);
    case UNARY_ACOS:
        return acosf(x);
    case UNARY_ATAN:
        return atanf(x);
    case UNARY_SINH:
        return sinhf(x);
    case UNARY_COSH:
        return coshf(x);
    case UNARY_ASINH:
        return asinhf(x);
    case UNARY_ACOSH:
        return acoshf(x);
    case UNARY_ATANH:
        return atanhf(x);
    case UNARY_EXPM1:
        return expm1f(x);
    case UNARY_LOG1P:
        return log1pf(x);
    case UNARY_ERF:
        return erff(x);
    case UNARY_FLOAT8: { /* 3 bits of mantissa; below 2^-6 steps of 2^-9 */
        if (!(fabsf(x) >= 0.015625f))
            return rintf(x * 512.0f) / 512.0f;
        unsigned bits = __float_as_uint(x);
        return __int_as_float((int)((bits + 0x7FFFFu + (bits >> 20 & 1u)) & 0xFFF00000u));
    }
    default: /* UNARY_IDENTITY */
        return x;
    }
}

__device__ inline float apply_unary(int function, float x, float alpha, float beta)
{
    if (function == UNARY_RELU) {
        /* alpha 0 must not make -inf a NaN; a NaN stays one */
        float y = x > 0.0f ? x : alpha == 0.0f ? (x <= 0.0f ? 0.0f : x) : alpha * x;
        return beta > 0.0f && y > beta ? beta : y;
    }
    if (function == UNARY_LINEAR) {
        return alpha * x + beta;
    }
    return apply_rare_unary(function, x, alpha, beta);
}

static __device__ __noinline__ float apply_rare_binary(int function, float a, float b)
{
    switch (function) {
    case BINARY_SUBTRACT:
        return a - b;
    case BINARY_DIVIDE:
        return a / b;
    case BINARY_MAXIMUM: /* a NaN on either side stays */
        return a > b || a != a ? a : b;
    case BINARY_MINIMUM:
        return a < b || a != a ? a : b;
    case BINARY_EQUAL:
        return a == b;
    case BINARY_NOT_EQUAL:
        return a != b;
    case BINARY_GREATER:
        return a > b;
    case BINARY_GREATER_EQUAL:
        return a >= b;
    case BINARY_LESS:
        return a < b;
    case BINARY_LESS_EQUAL:
        return a <= b;
    case BINARY_FLOOR_DIVIDE:
        return floorf(a / b);
    case BINARY_MODULO: {
        float rest = fmodf(a, b);
        return rest != 0.0f && (rest < 0.0f) != (b < 0.0f) ? rest + b : rest;
    }
    case BINARY_ATAN2:
        return atan2f(a, b);
    default: /* BINARY_POWER */
        return powf(a, b);
    }
}

__device__ inline float apply_binary(int function, float a, float b)
{
    return function == BINARY_ADD        ? a + b
           : function == BINARY_MULTIPLY ? a * b
                                         : apply_rare_binary(function, a, b);
}

/* The operand at VEC neighbouring elements that begin at element i of the output. */
template <int VEC, typename Index>
__device__ inline void read_operand(const struct chain &chain, const struct operand &operand,
                                    Index i, float out[VEC])
{
    Index offset = i;
    bool broadcast = false;

    if (operand.mode == OPERAND_SCALAR) {
        offset = 0;
        broadcast = true;
    } else if (operand.mode == OPERAND_LAST) {
        offset = i % (Index)chain.dims[chain.rank - 1];
    } else if (operand.mode == OPERAND_STRIDED) {
        Index rest = i;
        offset = 0;
        for (int axis = chain.rank - 1; axis > 0; axis--) {
            Index extent = (Index)chain.dims[axis];
            Index next = rest / extent;
            offset += (rest - next * extent) * (Index)operand.strides[axis];
            rest = next;
        }
        offset += rest * (Index)operand.strides[0];
        broadcast = operand.strides[chain.rank - 1] == 0;
    }
    if (broadcast) {
        float one[1];
        load_any<1>(operand.dtype, operand.data, (int64_t)offset, one);
        for (int v = 0; v < VEC; v++) {
            out[v] = one[0];
        }
        return;
    }
    load_any<VEC>(operand.dtype, operand.data, (int64_t)offset, out);
}

/* Run the stages on VEC values that belong to elements i.. of the output. The branches are the same
 * for every thread, so they cost little beside the memory traffic. */
template <int VEC, typename Index>
__device__ inline void apply_chain(const struct chain &chain, Index i, float value[VEC])
{
    for (int s = 0; s < chain.count; s++) {
        const struct stage &stage = chain.stages[s];
        if (stage.kind == STAGE_UNARY) {
            for (int v = 0; v < VEC; v++) {
                value[v] = apply_unary(stage.function, value[v], stage.alpha, stage.beta);
            }
            continue;
        }
        float other[VEC];
        read_operand<VEC, Index>(chain, stage.operand, i, other);
        for (int v = 0; v < VEC; v++) {
            value[v] = stage.swapped ? apply_binary(stage.function, other[v], value[v])
                                     : apply_binary(stage.function, value[v], other[v]);
        }
    }
}

#define KERNEL_THREADS 256

static inline unsigned blocks_for(int64_t threads, int per_block)
{
    return (unsigned)((threads + per_block - 1) / per_block);
}

/* Below this every product of indices that a kernel forms fits 32 bits. */
static inline bool is_small(int64_t elements)
{
    return elements < ((int64_t)1 << 31);
}

#endif
