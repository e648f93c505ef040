/* Elements of device memory as float32 and back: arithmetic is in float32 whatever is stored. */
#ifndef LAYERTOP_ENGINE_CUDA_ELEMENT_CUH
#define LAYERTOP_ENGINE_CUDA_ELEMENT_CUH

#include "engine/tensor.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>

__device__ inline float to_float(float x)
{
    return x;
}

__device__ inline float to_float(__half x)
{
    return __half2float(x);
}

__device__ inline float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <typename T> __device__ inline T from_float(float x);

template <> __device__ inline float from_float<float>(float x)
{
    return x;
}

template <> __device__ inline __half from_float<__half>(float x)
{
    return __float2half_rn(x);
}

template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* VEC elements that one load or store moves: 2 to 16 bytes. */
template <typename T, int VEC> struct __align__(sizeof(T) * VEC) pack
{
    T element[VEC];
};

/* `from` is aligned to VEC elements; more than 16 bytes are several loads. */
template <int VEC, typename T> __device__ inline void load(const T *from, float value[VEC])
{
    constexpr int PART = VEC * sizeof(T) > 16 ? 16 / sizeof(T) : VEC;
#pragma unroll
    for (int p = 0; p < VEC / PART; p++) {
        pack<T, PART> part = reinterpret_cast<const pack<T, PART> *>(from)[p];
#pragma unroll
        for (int v = 0; v < PART; v++) {
            value[p * PART + v] = to_float(part.element[v]);
        }
    }
}

template <int VEC, typename T> __device__ inline void store(T *to, const float value[VEC])
{
    constexpr int PART = VEC * sizeof(T) > 16 ? 16 / sizeof(T) : VEC;
#pragma unroll
    for (int p = 0; p < VEC / PART; p++) {
        pack<T, PART> part;
#pragma unroll
        for (int v = 0; v < PART; v++) {
            part.element[v] = from_float<T>(value[p * PART + v]);
        }
        reinterpret_cast<pack<T, PART> *>(to)[p] = part;
    }
}

/* One element of a type that only inputs and outputs of a model have. */
static __device__ __noinline__ float load_rare(int dtype, const void *data, int64_t at)
{
    switch (dtype) {
    case DTYPE_F64:
        return (float)((const double *)data)[at];
    case DTYPE_I8:
        return (float)((const int8_t *)data)[at];
    case DTYPE_U8:
        return (float)((const uint8_t *)data)[at];
    case DTYPE_I16:
        return (float)((const int16_t *)data)[at];
    case DTYPE_U16:
        return (float)((const uint16_t *)data)[at];
    case DTYPE_I32:
        return (float)((const int32_t *)data)[at];
    case DTYPE_I64:
        return (float)((const int64_t *)data)[at];
    default: /* DTYPE_BOOL */
        return ((const uint8_t *)data)[at] != 0 ? 1.0f : 0.0f;
    }
}

/* Integers are truncated as C does. */
static __device__ __noinline__ void store_rare(int dtype, void *data, int64_t at, float value)
{
    switch (dtype) {
    case DTYPE_F64:
        ((double *)data)[at] = (double)value;
        break;
    case DTYPE_I8:
        ((int8_t *)data)[at] = (int8_t)value;
        break;
    case DTYPE_U8:
        ((uint8_t *)data)[at] = (uint8_t)value;
        break;
    case DTYPE_I16:
        ((int16_t *)data)[at] = (int16_t)value;
        break;
    case DTYPE_U16:
        ((uint16_t *)data)[at] = (uint16_t)value;
        break;
    case DTYPE_I32:
        ((int32_t *)data)[at] = (int32_t)value;
        break;
    case DTYPE_I64:
        ((int64_t *)data)[at] = (int64_t)value;
        break;
    default: /* DTYPE_BOOL */
        ((uint8_t *)data)[at] = value != 0.0f;
    }
}

/* VEC neighbours from element `at` on, of a type that is the same for every thread. */
template <int VEC>
__device__ inline void load_any(int dtype, const void *data, int64_t at, float value[VEC])
{
    if (dtype == DTYPE_F32) {
        load<VEC>((const float *)data + at, value);
    } else if (dtype == DTYPE_F16) {
        load<VEC>((const __half *)data + at, value);
    } else if (dtype == DTYPE_BF16) {
        load<VEC>((const __nv_bfloat16 *)data + at, value);
    } else if (dtype == DTYPE_U8 && VEC > 1) { /* pictures */
        pack<uint8_t, VEC> bytes =
            *reinterpret_cast<const pack<uint8_t, VEC> *>((const uint8_t *)data + at);
#pragma unroll
        for (int v = 0; v < VEC; v++) {
            value[v] = (float)bytes.element[v];
        }
    } else {
        for (int v = 0; v < VEC; v++) {
            value[v] = load_rare(dtype, data, at + v);
        }
    }
}

template <int VEC>
__device__ inline void store_any(int dtype, void *data, int64_t at, const float value[VEC])
{
    if (dtype == DTYPE_F32) {
        store<VEC>((float *)data + at, value);
    } else if (dtype == DTYPE_F16) {
        store<VEC>((__half *)data + at, value);
    } else if (dtype == DTYPE_BF16) {
        store<VEC>((__nv_bfloat16 *)data + at, value);
    } else {
        for (int v = 0; v < VEC; v++) {
            store_rare(dtype, data, at + v, value[v]);
        }
    }
}

/* Call launch(T()) with the type that activations are stored as; an int error if it is none. */
template <typename Launch> static int with_type(enum dtype dtype, Launch launch)
{
    switch (dtype) {
    case DTYPE_F32:
        launch(float());
        break;
    case DTYPE_F16:
        launch(__half());
        break;
    case DTYPE_BF16:
        launch(__nv_bfloat16());
        break;
    default:
        return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}

#endif
