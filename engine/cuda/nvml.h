/* The few questions to NVML that the engine itself has: which index nvidia-smi gives a GPU, and how
 * much of a GPU's memory is in use seen from outside. (The profiler samples NVML on its own.)
 *
 * Everything here may be unknown: on a machine without libnvidia-ml.so.1 the counts are 0.
 */
#ifndef LAYERTOP_ENGINE_CUDA_NVML_H
#define LAYERTOP_ENGINE_CUDA_NVML_H

#include "engine/backend.h"

struct nvml_gpu {
    int index;     /* nvidia-smi's */
    char uuid[96]; /* "GPU-..." */
    char name[96];
    unsigned domain, bus, slot; /* PCI */
};

/* GPUs of the machine (of the container), in nvidia-smi's order, into gpus[capacity]; returns how
 * many there are. 0 if NVML is not there. Opens NVML on the first call. */
int nvml_list(struct nvml_gpu *gpus, int capacity);

/* Memory of GPU `index` over all processes; false if not known. */
bool nvml_memory(int index, uint64_t *total_bytes, uint64_t *free_bytes, uint64_t *used_bytes);

/* Memory this process holds on GPU `index`, its context included; false if not known (NVML counts
 * no processes on this machine, or they carry other ids in this container). */
bool nvml_process_memory(int index, uint64_t *used_bytes);

/* Processes that hold memory on GPU `index`, for computing or drawing, into out[capacity]; returns
 * how many. NVML's ids are those of the namespace it runs in. */
size_t nvml_processes(int index, struct device_process *out, size_t capacity);

/* The driver's version, "580.95.05"; "" if not known. */
const char *nvml_driver(void);

#endif
