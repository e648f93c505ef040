#include "engine/cuda/chain.cuh"
#include "engine/image.h"

/* The host multiplies and adds one after the other: so do these, whatever the compiler would fuse. */
#ifdef LAYERTOP_EMULATOR
#define times(a, b)  ((a) * (b))
#define timesd(a, b) ((a) * (b))
#else
#define times(a, b)  __fmul_rn(a, b)
#define timesd(a, b) __dmul_rn(a, b)
#endif

/* The input positions that one output position is made of: taps_new() of engine/image.c. */
struct taps {
    int first, count;
    double centre, reach, sum;
};

__device__ inline float raw_weight(const struct taps &taps, int j)
{
    double weight = 1 - fabs(j + 0.5 - taps.centre) / taps.reach;
    return weight > 0 ? (float)weight : 0.0f;
}

__device__ inline float weight_of(const struct taps &taps, int j)
{
    return taps.reach > 0 ? (float)((double)raw_weight(taps, j) / taps.sum) : 1.0f;
}

__device__ inline struct taps taps_of(int i, int out_size, int in_size, int filter)
{
    double step = (double)in_size / out_size;
    struct taps taps;
    taps.centre = timesd(i + 0.5, step);
    taps.reach = filter == IMAGE_NEAREST ? 0 : filter == IMAGE_ANTIALIAS && step > 1 ? step : 1;
    taps.sum = 0;
    if (filter == IMAGE_NEAREST) {
        taps.first = (int)taps.centre < in_size ? (int)taps.centre : in_size - 1;
        taps.count = 1;
        return taps;
    }
    int first = (int)floor(taps.centre - taps.reach), last = (int)ceil(taps.centre + taps.reach);
    taps.first = first < 0 ? 0 : first;
    taps.count = (last > in_size ? in_size : last) - taps.first;
    for (int j = 0; j < taps.count; j++) {
        taps.sum += (double)raw_weight(taps, taps.first + j);
    }
    return taps;
}

template <int C> __device__ inline void scale_pixel(int scale, float value[C])
{
    const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
    for (int c = 0; c < C && scale == SCALE_TF; c++) {
        value[c] = value[c] / 127.5f - 1;
    }
    for (int c = 0; c < C && scale == SCALE_UNIT; c++) {
        value[c] *= 1 / 255.0f;
    }
    if (scale == SCALE_CAFFE && C == 3) {
        float red = value[0];
        value[0] = value[C - 1] - 103.939f;
        value[C / 2] -= 116.779f;
        value[C - 1] = red - 123.68f;
    }
    for (int c = 0; c < C && scale == SCALE_TORCH && C == 3; c++) {
        value[c] = (value[c] / 255 - mean[c]) / deviation[c];
    }
}

/* Resize and scale. One thread per pixel of y, all its channels. Grid: batch * height * width / 256.
 * Each byte of a picture is read by the few threads around it, out of the caches: bound by memory
 * while a picture is about as large as the input, by arithmetic (in doubles, for the weights) when it
 * is much larger. */
template <int C>
__global__ void pictures_kernel(const __grid_constant__ struct kernel_pictures p,
                                const uint8_t *__restrict__ raw, float *__restrict__ y)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t pixels = (int64_t)p.height * p.width;
    if (at >= p.batch * pixels) {
        return;
    }
    int64_t sample = at / pixels;
    int pixel = (int)(at - sample * pixels);
    struct image_size size = ((const struct image_size *)raw)[sample];
    const uint8_t *from = raw + p.table_bytes + sample * (int64_t)p.slot_bytes;
    struct taps down = taps_of(pixel / p.width, p.height, size.height, p.filter);
    struct taps across = taps_of(pixel % p.width, p.width, size.width, p.filter);
    float value[C] = {};
    for (int i = 0; i < down.count; i++) {
        const uint8_t *row = from + ((int64_t)(down.first + i) * size.width + across.first) * C;
        float weight = weight_of(down, down.first + i), sum[C] = {};
        for (int j = 0; j < across.count; j++) {
            float share = weight_of(across, across.first + j);
            for (int c = 0; c < C; c++) {
                sum[c] += times(share, (float)row[j * C + c]);
            }
        }
        for (int c = 0; c < C; c++) {
            value[c] += times(weight, sum[c]);
        }
    }
    scale_pixel<C>(p.scale, value);
    for (int c = 0; c < C; c++) {
        y[at * C + c] = value[c];
    }
}

/* Sum over the block's threads, to all of them. */
__device__ inline double block_sum(double value, double *shared)
{
    __syncthreads();
    shared[threadIdx.x] = value;
    for (unsigned half = KERNEL_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            shared[threadIdx.x] += shared[threadIdx.x + half];
        }
    }
    __syncthreads();
    return shared[0];
}

/* per_image_standardization in place. A block per picture; three passes over its n values, of which
 * all but the first come out of the caches. Bound by memory. */
__global__ void standardize_kernel(int64_t n, float *__restrict__ y)
{
    __shared__ double shared[KERNEL_THREADS];
    float *values = y + (int64_t)blockIdx.x * n;
    double sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < n; i += KERNEL_THREADS) {
        sum += (double)values[i];
    }
    double mean = block_sum(sum, shared) / (double)n;
    for (int64_t i = threadIdx.x; i < n; i += KERNEL_THREADS) {
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    }
    double deviation = sqrt(block_sum(squares, shared) / (double)n), least = 1 / sqrt((double)n);
    float scale = (float)(1 / (deviation > least ? deviation : least));
    for (int64_t i = threadIdx.x; i < n; i += KERNEL_THREADS) {
        values[i] = times(values[i] - (float)mean, scale);
    }
}

extern "C" int kernel_pictures(const struct kernel_pictures *pictures, const void *raw, float *y,
                               cudaStream_t stream)
{
    int64_t pixels = (int64_t)pictures->height * pictures->width;
    unsigned blocks = blocks_for(pictures->batch * pixels, KERNEL_THREADS);
    if (pictures->channels == 1) {
        pictures_kernel<1>
            <<<blocks, KERNEL_THREADS, 0, stream>>>(*pictures, (const uint8_t *)raw, y);
    } else {
        pictures_kernel<3>
            <<<blocks, KERNEL_THREADS, 0, stream>>>(*pictures, (const uint8_t *)raw, y);
    }
    if (pictures->scale == SCALE_PER_IMAGE) {
        int64_t n = pixels * pictures->channels;
        standardize_kernel<<<(unsigned)pictures->batch, KERNEL_THREADS, 0, stream>>>(n, y);
    }
    return cudaGetLastError();
}
