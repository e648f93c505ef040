/* NVML, opened at run time, sampled by a thread of its own at 5 Hz.
 *
 * A call into NVML may hang for seconds (a GPU that fell off the bus, a driver reset): nobody ever
 * waits for the thread. Samples meet the engine thread in a queue; nvml_close() leaves a thread
 * that does not answer behind.
 */
#ifndef LAYERTOP_PROFILER_NVML_H
#define LAYERTOP_PROFILER_NVML_H

#include "profiler/records.h"
#include "profiler/roof.h"

struct nvml_sample {
    int device; /* nvidia-smi's index (PCI order) */
    int64_t time_ns;
    struct record_device values;
};

/* The few functions of libnvidia-ml.so.1 that are used, by NVML's own prototypes (0 = success).
 * Optional ones may be NULL. */
struct nvml_process {
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};
struct nvml_utilization {
    unsigned gpu, memory;
};
struct nvml_memory {
    unsigned long long total, free, used;
};
struct nvml_api {
    int (*init)(void);
    int (*shutdown)(void);
    int (*device_count)(unsigned *count);
    int (*device_by_index)(unsigned index, void **device);
    int (*clock)(void *device, unsigned type, unsigned *mhz);
    int (*temperature)(void *device, unsigned sensor, unsigned *celsius);
    int (*power)(void *device, unsigned *milliwatt);
    int (*utilization)(void *device, struct nvml_utilization *out);
    int (*memory)(void *device, struct nvml_memory *out);
    int (*processes)(void *device, unsigned *count, struct nvml_process *infos);
    int (*throttle)(void *device, unsigned long long *reasons);
    int (*max_clock)(void *device, unsigned type, unsigned *mhz);
    int (*bus_width)(void *device, unsigned *bits);
    int (*cores)(void *device, unsigned *count);
    int (*capability)(void *device, int *major, int *minor);
};

struct nvml;
/* Start the sampler. `api` NULL: libnvidia-ml.so.1. NULL if there is no such library. */
struct nvml *nvml_open(const struct nvml_api *api);
/* Next sample, oldest first; false if there is none. Never blocks. */
bool nvml_take(struct nvml *nvml, struct nvml_sample *sample);
/* What the device can do at most; false while that is not known. Never blocks. */
bool nvml_specs(struct nvml *nvml, int device, struct gpu_specs *out);
/* A sentence on what NVML refused, once for each: it could not start, or a device was lost. False if
 * there is nothing new. Never blocks. */
bool nvml_trouble(struct nvml *nvml, char *out, size_t size);
/* Pause sampling while nothing runs: an idle program wakes nobody. Never blocks. */
void nvml_sleep(struct nvml *nvml, bool asleep);
/* Stop the thread; waits for it at most 100 ms. NULL is allowed. */
void nvml_close(struct nvml *nvml);

#endif
