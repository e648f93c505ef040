/* Constants on the device. */
#include "engine/cuda/check.h"
#include "engine/cuda/device.h"
#include <stdlib.h>

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + DEVICE_ALIGNMENT - 1) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
}

struct upload *upload_want(struct device *device, const struct constant *constant,
                           enum constant_form form)
{
    for (struct upload *upload = device->uploads; upload != NULL; upload = upload->next) {
        if (upload->constant == constant && upload->form == form) {
            upload->mark = device->upload_mark;
            return upload;
        }
    }
    struct upload *upload = xcalloc(1, sizeof *upload);
    upload->constant = constant;
    upload->form = form;
    upload->mark = device->upload_mark;
    upload->offset = uploads_wanted_bytes(device);
    upload->next = device->uploads;
    device->uploads = upload;
    return upload;
}

uint64_t uploads_wanted_bytes(const struct device *device)
{
    /* newest first, and each lies behind the one before it */
    const struct upload *last = device->uploads;
    return last == NULL ? 0 : last->offset + aligned(last->constant->bytes);
}

void uploads_mark(struct device *device)
{
    device->upload_mark++;
}

uint64_t uploads_marked_bytes(const struct device *device)
{
    uint64_t bytes = 0;
    for (const struct upload *upload = device->uploads; upload != NULL; upload = upload->next) {
        bytes += upload->mark == device->upload_mark ? aligned(upload->constant->bytes) : 0;
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

static bool copy_to_device(struct device *device, struct upload *upload, struct error *error)
{
    const struct constant *constant = upload->constant;
    void *address = regions_address(&device->regions, REGION_WEIGHTS, upload->offset);
    const float *data = constant_data(constant, error);
    float *turned = NULL;

    if (data == NULL && constant->bytes > 0) {
        return false;
    }
    if (upload->form == FORM_TRANSPOSED && constant->bytes > 0) {
        int64_t columns = constant->shape.dims[constant->shape.rank - 1];
        int64_t rows = shape_elements(&constant->shape) / columns;
        turned = malloc(constant->bytes);
        if (turned == NULL) {
            return error_set(error, ERROR_MEMORY, "weights",
                             "no %.0f MiB of host memory to reorder a filter",
                             (double)constant->bytes / 1048576);
        }
        transpose(turned, data, rows, columns);
        data = turned;
    }
    bool good = CUDA_OK(cudaMemcpy(address, data, constant->bytes, cudaMemcpyHostToDevice),
                        "weights", error);
    free(turned);
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
