/* Constants on the device. */
#include "engine/cuda/check.h"
#include "engine/cuda/device.h"
#include "engine/cuda/int8.h"
#include "engine/cuda/narrow.h"
#include <stdlib.h>
#include <string.h>

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + DEVICE_ALIGNMENT - 1) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
}

static bool same_kind(const struct upload_kind *a, const struct upload_kind *b)
{
    return a->form == b->form && a->dtype == b->dtype && a->channels == b->channels;
}

/* Axes of a filter as seen here: (taps, depth, outputs). */
static int64_t depth_of(const struct constant *constant)
{
    return constant->shape.rank >= 2 ? constant->shape.dims[constant->shape.rank - 2] : 1;
}

struct upload *upload_want(struct device *device, const struct constant *constant,
                           struct upload_kind kind)
{
    if (kind.form == FORM_PLAIN || kind.channels == depth_of(constant)) {
        kind.channels = 0;
    }
    for (struct upload *upload = device->uploads; upload != NULL; upload = upload->next) {
        if (upload->constant == constant && same_kind(&upload->kind, &kind)) {
            upload->mark = device->upload_mark;
            return upload;
        }
    }
    struct upload *upload = xcalloc(1, sizeof *upload);
    upload->constant = constant;
    upload->mark = device->upload_mark;
    upload->kind = kind;
    upload->dtype = kind.dtype;
    upload->bytes = constant->bytes / sizeof(float) * dtype_bytes(kind.dtype);
    if (kind.channels > 0) {
        upload->bytes = upload->bytes / (uint64_t)depth_of(constant) * (uint64_t)kind.channels;
    }
    if (kind.form == FORM_INT8) {
        upload->bytes = int8_layout_of(&constant->shape).bytes;
    }
    upload->offset = uploads_wanted_bytes(device);
    upload->next = device->uploads;
    device->uploads = upload;
    return upload;
}

struct upload *upload_plain(struct device *device, const struct constant *constant)
{
    return upload_want(device, constant,
                       (struct upload_kind){.form = FORM_PLAIN, .dtype = DTYPE_F32});
}

uint64_t uploads_wanted_bytes(const struct device *device)
{
    /* newest first, and each lies behind the one before it */
    const struct upload *last = device->uploads;
    return last == NULL ? 0 : last->offset + aligned(last->bytes);
}

void uploads_mark(struct device *device)
{
    device->upload_mark++;
}

uint64_t uploads_marked_bytes(const struct device *device)
{
    uint64_t bytes = 0;
    for (const struct upload *upload = device->uploads; upload != NULL; upload = upload->next) {
        bytes += upload->mark == device->upload_mark ? aligned(upload->bytes) : 0;
    }
    return bytes;
}

/* to[column][row] = from[row][column], in tiles that stay in the cache. */
static void transpose(float *to, const float *from, int64_t rows, int64_t columns)
{
    enum { TILE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += TILE) {
        int64_t r1 = r0 + TILE < rows ? r0 + TILE : rows;
        for (int64_t c0 = 0; c0 < columns; c0 += TILE) {
            int64_t c1 = c0 + TILE < columns ? c0 + TILE : columns;
            for (int64_t c = c0; c < c1; c++) {
                for (int64_t r = r0; r < r1; r++) {
                    to[c * rows + r] = from[r * columns + c];
                }
            }
        }
    }
}

/* (taps, depth, outputs) -> (outputs, taps, wide) or (outputs, wide, taps): zeros behind `depth`. */
static void arrange_filter(float *to, const float *from, int64_t taps, int64_t depth,
                           int64_t outputs, int64_t wide, bool channels_first)
{
    int64_t tap_stride = channels_first ? 1 : wide, depth_stride = channels_first ? taps : 1;
    memset(to, 0, (size_t)(outputs * taps * wide) * sizeof *to);
    for (int64_t k = 0; k < outputs; k++, to += taps * wide) {
        for (int64_t t = 0; t < taps; t++) {
            for (int64_t c = 0; c < depth; c++) {
                to[t * tap_stride + c * depth_stride] = from[(t * depth + c) * outputs + k];
            }
        }
    }
}

/* The constant's data in the upload's form, as floats unless that says otherwise; *made is what the
 * caller frees. */
static const void *arrange(const struct upload *upload, const float *data, void **made)
{
    const struct constant *constant = upload->constant;
    int64_t elements = shape_elements(&constant->shape), depth = depth_of(constant);
    int64_t wide = upload->kind.channels > 0 ? upload->kind.channels : depth;
    bool first = upload->kind.form == FORM_CHANNELS_FIRST;

    if (upload->kind.form == FORM_PLAIN || elements == 0) {
        return data;
    }
    if (upload->kind.form == FORM_INT8) {
        *made = int8_weights(&constant->shape, data);
        return *made;
    }
    int64_t columns = constant->shape.dims[constant->shape.rank - 1], rows = elements / columns;
    float *to = malloc((size_t)(elements / depth * wide) * sizeof *to);
    *made = to;
    if (to != NULL && (first || wide != depth)) {
        arrange_filter(to, data, rows / depth, depth, columns, wide, first);
    } else if (to != NULL) {
        transpose(to, data, rows, columns);
    }
    return to;
}

static bool no_host_memory(const struct constant *constant, struct error *error)
{
    return error_set(error, ERROR_MEMORY, "weights",
                     "no %.0f MiB of host memory to reorder a filter",
                     (double)constant->bytes / 1048576);
}

/* As half numbers; frees *made and puts its own memory there. */
static const void *narrow(const struct upload *upload, const float *data, void **made,
                          struct error *error)
{
    size_t count = (size_t)(upload->bytes / dtype_bytes(upload->dtype));
    void *halves = malloc(upload->bytes);
    char shape[128];

    if (halves == NULL) {
        no_host_memory(upload->constant, error);
        return NULL;
    }
    size_t lost = narrow_many(data, halves, upload->dtype, count);
    free(*made);
    *made = halves;
    if (lost > 0) {
        error_set(error, ERROR_UNSUPPORTED, "precision",
                  "%zu weights of a constant of shape %s are too large for %s", lost,
                  shape_format(shape, sizeof shape, &upload->constant->shape),
                  dtype_name(upload->dtype));
        error_hint(error, "set precision %s", upload->dtype == DTYPE_F16 ? "bf16" : "tf32");
        return NULL;
    }
    return halves;
}

static bool copy_to_device(struct device *device, struct upload *upload, struct error *error)
{
    const struct constant *constant = upload->constant;
    void *address = regions_address(&device->regions, REGION_WEIGHTS, upload->offset);
    const float *data = constant_data(constant, error);
    void *made = NULL;
    bool good = false;

    if (data == NULL && constant->bytes > 0) {
        return false;
    }
    const void *bytes = arrange(upload, data, &made);
    if (bytes == NULL && constant->bytes > 0) {
        return no_host_memory(constant, error);
    }
    if (bytes != NULL && dtype_bytes(upload->dtype) == 2 && constant->bytes > 0) {
        bytes = narrow(upload, bytes, &made, error);
    }
    if (bytes != NULL || constant->bytes == 0) {
        good = CUDA_OK(cudaMemcpy(address, bytes, upload->bytes, cudaMemcpyHostToDevice), "weights",
                       error);
    }
    free(made);
    if (good) {
        upload->address = address;
    }
    return good;
}

bool uploads_commit(struct device *device, struct error *error)
{
    for (struct upload *upload = device->uploads; upload != NULL; upload = upload->next) {
        if (upload->address == NULL && !copy_to_device(device, upload, error)) {
            return false;
        }
    }
    /* a copy from pageable memory returns when the host's part is done, and our stream does not wait
     * for the default one */
    if (!CUDA_OK(cudaDeviceSynchronize(), "weights", error)) {
        return false;
    }
    device->upload_bytes = uploads_wanted_bytes(device);
    return true;
}

void uploads_cancel(struct device *device)
{
    while (device->uploads != NULL && device->uploads->offset >= device->upload_bytes) {
        struct upload *upload = device->uploads;
        device->uploads = upload->next;
        free(upload);
    }
}
