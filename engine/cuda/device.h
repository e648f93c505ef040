/* A CUDA device: the process's context on one GPU, its stream, library handles and memory.
 *
 * Constants are uploaded once per device and shared by its plans, keyed by their address and form.
 * Threads: the engine thread; every entry makes the device current first.
 */
#ifndef LAYERTOP_ENGINE_CUDA_DEVICE_H
#define LAYERTOP_ENGINE_CUDA_DEVICE_H

#include "engine/backend.h"
#include "engine/cuda/libraries.h"
#include "engine/cuda/regions.h"
#include <cuda_runtime_api.h>

#define DEVICE_ALIGNMENT 256 /* of every tensor; what vector loads and TMA descriptors ask for */

enum constant_form {
    FORM_PLAIN,          /* as in the graph */
    FORM_TRANSPOSED,     /* (rows, last) -> (last, rows): HWIO filters as KRSC for cuDNN */
    FORM_CHANNELS_FIRST, /* (taps, depth, last) -> (last, depth, taps): as KCRS */
    FORM_INT8,           /* bytes with their steps and sums: int8.h; of DTYPE_I8 */
};

/* A constant as one user of it wants it on the device. */
struct upload_kind {
    enum constant_form form;
    enum dtype dtype; /* DTYPE_F32, DTYPE_F16, DTYPE_BF16 or DTYPE_I8 */
    int64_t channels; /* of filters: `depth` filled up to so many with zeros; 0: as it is */
};

/* A constant's copy on the device. */
struct upload {
    const struct constant *constant;
    struct upload_kind kind;
    enum dtype dtype; /* kind.dtype */
    uint64_t offset;  /* in the weights region */
    uint64_t bytes;   /* there */
    void *address;    /* NULL until uploads_commit() */
    unsigned mark;    /* of the last compilation that wanted it */
    struct upload *next;
};

struct conv_entry;
struct matmul_entry;

struct device {
    int index;                       /* nvidia-smi's */
    int ordinal;                     /* CUDA's */
    char id[16];                     /* "gpu:0" */
    const struct observer *observer; /* may be NULL */
    struct phases *phases;           /* may be NULL */
    const struct libraries *libraries;
    int compute_major, compute_minor, multiprocessors;
    cudaStream_t stream;
    cudnnHandle_t cudnn;
    cublasLtHandle_t cublaslt;
    struct regions regions;
    struct upload *uploads;     /* newest first; those without address are not committed */
    uint64_t upload_bytes;      /* of the committed ones, with alignment */
    unsigned upload_mark;       /* of the compilation under way */
    uint64_t context_bytes;     /* UINT64_MAX if not known */
    uint64_t used_before_bytes; /* of the whole GPU before the context; UINT64_MAX if not known */
    uint64_t feed_bytes;        /* pictures on their way into plans (feed.h) */
    struct plan *plans;         /* all of this device, linked by plan->next */
    struct conv_entry *conv_entries;
    struct matmul_entry *matmul_entries;
};

bool devices_list(json_t *list, struct error *error);
struct device *device_open(const struct device_options *options, const struct observer *observer,
                           struct error *error);
void device_close(struct device *device);
bool device_memory(struct device *device, struct device_memory *out, struct error *error);
size_t device_processes(struct device *device, struct device_process *out, size_t capacity);
void device_trim(struct device *device);
void device_forget(struct device *device);

/* Make the device current on this thread. */
bool device_use(const struct device *device, struct error *error);
/* Free bytes of the GPU now (0 if the driver does not say), and: what has gone since `free_before`,
 * while no region changed, was taken by modules and libraries that load lazily, so it belongs to
 * the context. */
uint64_t device_free_bytes(void);
void device_charge_context(struct device *device, uint64_t free_before);
/* Tell the observer what the regions hold now. */
void device_report(struct device *device);
/* What the live plans need together. */
void device_needs(const struct device *device, uint64_t bytes[REGION_COUNT]);

/* The copy of a constant, made or found. Not on the device before uploads_commit(). upload_plain()
 * is the constant as it is, in float32. */
struct upload *upload_want(struct device *device, const struct constant *constant,
                           struct upload_kind kind);
struct upload *upload_plain(struct device *device, const struct constant *constant);
/* Bytes of the weights region with all wanted copies in it. */
uint64_t uploads_wanted_bytes(const struct device *device);
/* Copy what was wanted and is not there yet; the region has grown to uploads_wanted_bytes().
 * ERROR_UNSUPPORTED if a value is too large for the half type. */
bool uploads_commit(struct device *device, struct error *error);
/* Forget what was wanted and not committed. */
void uploads_cancel(struct device *device);
/* Begin to count what is wanted; the bytes wanted since, old and new ones, with alignment. */
void uploads_mark(struct device *device);
uint64_t uploads_marked_bytes(const struct device *device);

#endif
