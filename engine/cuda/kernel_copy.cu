#include "engine/cuda/chain.cuh"
#include <cuda_bf16.h>
#include <cuda_fp16.h>

/* y[i...] = x[...] or a value: pad, slice, flip, transpose. One thread per output element, writes
 * side by side. Grid: elements / 256. Bound by memory; a transpose's reads are spread and lean on
 * L2. */
template <typename Index>
__global__ void gather_kernel(const __grid_constant__ struct kernel_gather g, int64_t elements,
                              const float *__restrict__ x, float *__restrict__ y)
{
    int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= elements) {
        return;
    }
    Index rest = (Index)thread;
    int64_t offset = 0;
    bool inside = true;
    for (int axis = g.rank - 1; axis >= 0; axis--) {
        Index next = rest / (Index)g.dims[axis];
        int64_t at = (int64_t)(rest - next * (Index)g.dims[axis]) * g.step[axis] + g.begin[axis];
        rest = next;
        inside = inside && at >= 0 && at < g.limit[axis];
        offset += at * g.stride[axis];
    }
    y[thread] = inside ? x[offset] : g.value;
}

extern "C" int kernel_gather(const struct kernel_gather *gather, const float *x, float *y,
                             cudaStream_t stream)
{
    int64_t elements = 1;
    for (int i = 0; i < gather->rank; i++) {
        elements *= gather->dims[i];
    }
    unsigned blocks = blocks_for(elements, KERNEL_THREADS);
    if (elements == 0) {
        return cudaSuccess;
    }
    if (is_small(elements)) {
        gather_kernel<uint32_t><<<blocks, KERNEL_THREADS, 0, stream>>>(*gather, elements, x, y);
    } else {
        gather_kernel<int64_t><<<blocks, KERNEL_THREADS, 0, stream>>>(*gather, elements, x, y);
    }
    return cudaGetLastError();
}

/* One input of a concat: rows of `width` into rows of `pitch`. One thread per VEC elements.
 * Grid: rows * width / VEC / 256. Bound by memory. */
template <int VEC>
__global__ void copy_rows_kernel(int64_t elements, int64_t width, int64_t pitch,
                                 const float *__restrict__ x, float *__restrict__ y)
{
    int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (at >= elements) {
        return;
    }
    float value[VEC];
    load<VEC>(x + at, value);
    store<VEC>(y + at / width * pitch + at % width, value);
}

extern "C" int kernel_copy_rows(int64_t rows, int64_t width, int64_t pitch, const float *x,
                                float *y, cudaStream_t stream)
{
    int64_t elements = rows * width;
    if (elements == 0) {
        return cudaSuccess;
    }
    /* y is an address within a row: it is aligned only if what lies before it is */
    bool vector = width % 4 == 0 && pitch % 4 == 0 && (uintptr_t)y % 16 == 0;
    if (vector) {
        copy_rows_kernel<4>
            <<<blocks_for(elements / 4, KERNEL_THREADS), KERNEL_THREADS, 0, stream>>>(
                elements, width, pitch, x, y);
    } else {
        copy_rows_kernel<1><<<blocks_for(elements, KERNEL_THREADS), KERNEL_THREADS, 0, stream>>>(
            elements, width, pitch, x, y);
    }
    return cudaGetLastError();
}

/* A model input of another type, as float32, and an output back. One thread per element. */
template <typename From, typename To>
__global__ void cast_kernel(int64_t elements, const From *__restrict__ x, To *__restrict__ y)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < elements) {
        y[at] = (To)x[at];
    }
}

template <typename Other>
static void cast(bool to_float, int64_t elements, const void *x, void *y, cudaStream_t stream)
{
    unsigned blocks = blocks_for(elements, KERNEL_THREADS);
    if (elements == 0) {
        return;
    }
    if (to_float) {
        cast_kernel<<<blocks, KERNEL_THREADS, 0, stream>>>(elements, (const Other *)x, (float *)y);
    } else {
        cast_kernel<<<blocks, KERNEL_THREADS, 0, stream>>>(elements, (const float *)x, (Other *)y);
    }
}

static int cast_any(enum dtype dtype, bool to_float, int64_t elements, const void *x, void *y,
                    cudaStream_t stream)
{
    switch (dtype) {
    case DTYPE_F64:
        cast<double>(to_float, elements, x, y, stream);
        break;
    case DTYPE_F16:
        cast<__half>(to_float, elements, x, y, stream);
        break;
    case DTYPE_BF16:
        cast<__nv_bfloat16>(to_float, elements, x, y, stream);
        break;
    case DTYPE_I8:
        cast<int8_t>(to_float, elements, x, y, stream);
        break;
    case DTYPE_U8:
        cast<uint8_t>(to_float, elements, x, y, stream);
        break;
    case DTYPE_I16:
        cast<int16_t>(to_float, elements, x, y, stream);
        break;
    case DTYPE_U16:
        cast<uint16_t>(to_float, elements, x, y, stream);
        break;
    case DTYPE_I32:
        cast<int32_t>(to_float, elements, x, y, stream);
        break;
    case DTYPE_I64:
        cast<int64_t>(to_float, elements, x, y, stream);
        break;
    case DTYPE_BOOL:
        cast<bool>(to_float, elements, x, y, stream);
        break;
    default:
        return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}

extern "C" int kernel_to_float(enum dtype dtype, int64_t elements, const void *x, float *y,
                               cudaStream_t stream)
{
    return cast_any(dtype, true, elements, x, y, stream);
}

extern "C" int kernel_from_float(enum dtype dtype, int64_t elements, const float *x, void *y,
                                 cudaStream_t stream)
{
    return cast_any(dtype, false, elements, x, y, stream);
}
