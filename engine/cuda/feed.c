#include "engine/cuda/feed.h"
#include "engine/cuda/check.h"
#include <stdlib.h>
#include <string.h>

#define BUFFERS_MAX 2

/* A batch on its way. */
struct buffer {
    void *host, *device;
    cudaEvent_t begin, end; /* of its copy */
};

struct feed {
    struct kernel_pictures kernel;
    uint64_t bytes;
    size_t count; /* of buffers */
    struct buffer buffers[BUFFERS_MAX];
    cudaStream_t copies;        /* the device's own stream unless `ahead` */
    cudaEvent_t begin, end;     /* of the kernels */
    uint64_t sent;              /* batches */
    const struct buffer *timed; /* of the step under way */
    struct picture_times times;
};

static void feed_free(struct plan *plan, struct feed *feed)
{
    struct device *device = plan->device;
    if (feed == NULL) {
        return;
    }
    cudaStreamSynchronize(device->stream);
    if (feed->copies != NULL && feed->copies != device->stream) {
        cudaStreamSynchronize(feed->copies);
        cudaStreamDestroy(feed->copies);
    }
    for (size_t i = 0; i < feed->count; i++) {
        struct buffer *buffer = &feed->buffers[i];
        plan_host_free(plan, buffer->host);
        if (buffer->device != NULL) {
            cudaFree(buffer->device);
            device->feed_bytes -= feed->bytes;
        }
        if (buffer->begin != NULL) {
            cudaEventDestroy(buffer->begin);
        }
        if (buffer->end != NULL) {
            cudaEventDestroy(buffer->end);
        }
    }
    if (feed->begin != NULL) {
        cudaEventDestroy(feed->begin);
    }
    if (feed->end != NULL) {
        cudaEventDestroy(feed->end);
    }
    cudaGetLastError();
    free(feed);
}

/* The fence counts what the feed takes too. */
static bool inside_limit(const struct device *device, uint64_t wanted, struct error *error)
{
    const struct regions *regions = &device->regions;
    uint64_t held = device->feed_bytes + wanted;
    for (int kind = 0; kind < REGION_COUNT; kind++) {
        held += regions->region[kind].needed_bytes;
    }
    return regions->limit_bytes == 0 || held <= regions->limit_bytes ||
           error_set(error, ERROR_MEMORY_LIMIT, "pictures",
                     "the limit leaves no room for %.1f MiB of pictures beside the plan",
                     (double)wanted / 1048576);
}

static bool make_buffer(struct plan *plan, struct feed *feed, struct error *error)
{
    struct buffer *buffer = &feed->buffers[feed->count++];
    buffer->host = plan_host_alloc(plan, feed->bytes, error);
    if (buffer->host == NULL ||
        !CUDA_OK(cudaMalloc(&buffer->device, feed->bytes), "pictures", error)) {
        return false;
    }
    plan->device->feed_bytes += feed->bytes;
    return CUDA_OK(cudaEventCreate(&buffer->begin), "pictures", error) &&
           CUDA_OK(cudaEventCreate(&buffer->end), "pictures", error);
}

static enum kernel_scale scale_of(const char *preprocess)
{
    static const char *const names[] = {
        [SCALE_NONE] = "none",   [SCALE_TF] = "tf",     [SCALE_CAFFE] = "caffe",
        [SCALE_TORCH] = "torch", [SCALE_UNIT] = "unit", [SCALE_PER_IMAGE] = "per_image"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], preprocess) == 0) {
            return (enum kernel_scale)i;
        }
    }
    return SCALE_NONE;
}

static struct feed *feed_new(struct plan *plan, const struct picture_feed *options,
                             struct error *error)
{
    const struct shape *shape = plan_model_shape(plan, plan->inputs[0].value);
    size_t count = options->ahead ? 2 : 1;
    struct feed *feed = xcalloc(1, sizeof *feed);
    feed->bytes = options->batch_bytes;
    feed->kernel = (struct kernel_pictures){
        .batch = shape->dims[0],
        .height = (int)shape->dims[1],
        .width = (int)shape->dims[2],
        .channels = (int)shape->dims[3],
        .filter = (int)options->filter,
        .scale = (int)scale_of(options->preprocess),
        .table_bytes = options->batch_bytes - (uint64_t)shape->dims[0] * options->slot_bytes,
        .slot_bytes = options->slot_bytes};
    bool good = inside_limit(plan->device, count * feed->bytes, error);
    while (good && feed->count < count) {
        good = make_buffer(plan, feed, error);
    }
    good = good && CUDA_OK(cudaEventCreate(&feed->begin), "pictures", error) &&
           CUDA_OK(cudaEventCreate(&feed->end), "pictures", error);
    feed->copies = plan->device->stream;
    if (good && options->ahead) {
        good = CUDA_OK(cudaStreamCreateWithFlags(&feed->copies, cudaStreamNonBlocking), "pictures",
                       error);
        feed->copies = good ? feed->copies : plan->device->stream;
    }
    if (!good) {
        feed_free(plan, feed);
        return NULL;
    }
    return feed;
}

bool plan_feed(struct plan *plan, const struct picture_feed *options, struct error *error)
{
    struct feed *fresh = NULL;
    if (!device_use(plan->device, error)) {
        return false;
    }
    if (options != NULL) {
        const struct shape *shape = plan_model_shape(plan, plan->inputs[0].value);
        if (shape->rank != 4 || (shape->dims[3] != 1 && shape->dims[3] != 3) ||
            plan->inputs[0].dtype != DTYPE_F32) {
            return error_set(error, ERROR_UNSUPPORTED, "preprocess_on gpu",
                             "the kernels make float32 pictures, and the input is of %s",
                             dtype_name(plan->inputs[0].dtype));
        }
        fresh = feed_new(plan, options, error);
        if (fresh == NULL) {
            return false;
        }
    }
    if (plan->feed != fresh) {
        feed_free(plan, plan->feed);
        plan->feed = fresh;
        device_report(plan->device);
    }
    return true;
}

/* Batches lie in the buffers by turns. */
static struct buffer *buffer_of(struct feed *feed, uint64_t number)
{
    return &feed->buffers[number % feed->count];
}

void *plan_feed_room(struct plan *plan)
{
    return plan->feed != NULL ? buffer_of(plan->feed, plan->feed->sent + 1)->host : NULL;
}

bool plan_feed_send(struct plan *plan, struct error *error)
{
    struct feed *feed = plan->feed;
    struct buffer *buffer = buffer_of(feed, feed->sent + 1);
    if (!device_use(plan->device, error) ||
        !CUDA_OK(cudaEventRecord(buffer->begin, feed->copies), "pictures", error) ||
        !CUDA_OK(cudaMemcpyAsync(buffer->device, buffer->host, feed->bytes, cudaMemcpyHostToDevice,
                                 feed->copies),
                 "pictures", error) ||
        !CUDA_OK(cudaEventRecord(buffer->end, feed->copies), "pictures", error)) {
        return false;
    }
    feed->sent++;
    return true;
}

bool feed_launch(struct plan *plan, float *to, struct error *error)
{
    struct feed *feed = plan->feed;
    cudaStream_t stream = plan->device->stream;
    if (feed == NULL || feed->sent == 0) {
        return error_set(error, ERROR_CUDA, "pictures", "no batch of them was sent");
    }
    const struct buffer *buffer = buffer_of(feed, feed->sent);
    feed->timed = buffer;
    return CUDA_OK(cudaStreamWaitEvent(stream, buffer->end, 0), "pictures", error) &&
           CUDA_OK(cudaEventRecord(feed->begin, stream), "pictures", error) &&
           CUDA_OK(kernel_pictures(&feed->kernel, buffer->device, to, stream), "pictures", error) &&
           CUDA_OK(cudaEventRecord(feed->end, stream), "pictures", error);
}

void feed_finish(struct plan *plan)
{
    struct feed *feed = plan->feed;
    float copy_ms, device_ms;
    if (feed == NULL || feed->timed == NULL) {
        return;
    }
    if (cudaEventElapsedTime(&copy_ms, feed->timed->begin, feed->timed->end) == cudaSuccess &&
        cudaEventElapsedTime(&device_ms, feed->begin, feed->end) == cudaSuccess) {
        feed->times.batches++;
        feed->times.copied_bytes += feed->bytes;
        feed->times.copy_ns += (int64_t)((double)copy_ms * 1e6);
        feed->times.device_ns += (int64_t)((double)device_ms * 1e6);
    }
    cudaGetLastError();
    feed->timed = NULL;
}

struct picture_times plan_feed_times(struct plan *plan, bool reset)
{
    struct picture_times times = {0};
    if (plan->feed != NULL) {
        times = plan->feed->times;
        if (reset) {
            plan->feed->times = (struct picture_times){0};
        }
    }
    return times;
}

uint64_t feed_device_bytes(const struct plan *plan)
{
    return plan->feed != NULL ? plan->feed->count * plan->feed->bytes : 0;
}
