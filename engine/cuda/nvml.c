#include "engine/cuda/nvml.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* From the NVML API reference, declared here because the toolkit's nvml.h is not everywhere. */
struct nvml_memory_info {
    unsigned long long total, free, used;
};
struct nvml_pci_info {
    char legacy[16];
    unsigned domain, bus, device, pci_device, pci_subsystem;
    char bus_id[32];
};
struct nvml_process_info {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};
#define NVML_PROCESSES_MAX 1024

static struct {
    int (*init)(void);
    int (*driver)(char *, unsigned);
    int (*count)(unsigned *);
    int (*handle)(unsigned, void **);
    int (*name)(void *, char *, unsigned);
    int (*uuid)(void *, char *, unsigned);
    int (*pci)(void *, struct nvml_pci_info *);
    int (*memory)(void *, struct nvml_memory_info *);
    int (*processes)(void *, unsigned *, struct nvml_process_info *);
    int (*drawers)(void *, unsigned *, struct nvml_process_info *);
} nvml;

static bool nvml_open(void)
{
    static bool done, good; /* engine thread only */
    static const struct {
        const char *symbol;
        void *slot;
    } table[] = {
        {"nvmlInit_v2", &nvml.init},
        {"nvmlSystemGetDriverVersion", &nvml.driver},
        {"nvmlDeviceGetCount_v2", &nvml.count},
        {"nvmlDeviceGetHandleByIndex_v2", &nvml.handle},
        {"nvmlDeviceGetName", &nvml.name},
        {"nvmlDeviceGetUUID", &nvml.uuid},
        {"nvmlDeviceGetPciInfo_v3", &nvml.pci},
        {"nvmlDeviceGetMemoryInfo", &nvml.memory},
        {"nvmlDeviceGetComputeRunningProcesses_v3", &nvml.processes},
        {"nvmlDeviceGetGraphicsRunningProcesses_v3", &nvml.drawers},
    };
    if (done) {
        return good;
    }
    done = true;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return false;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        void *symbol = dlsym(library, table[i].symbol);
        memcpy(table[i].slot, &symbol, sizeof symbol);
        bool optional =
            table[i].slot == (void *)&nvml.processes || table[i].slot == (void *)&nvml.drawers;
        if (symbol == NULL && !optional) {
            return false;
        }
    }
    good = nvml.init() == 0;
    return good;
}

int nvml_list(struct nvml_gpu *gpus, int capacity)
{
    unsigned count = 0;
    if (!nvml_open() || nvml.count(&count) != 0) {
        return 0;
    }
    int found = 0;
    for (unsigned i = 0; i < count && found < capacity; i++) {
        struct nvml_gpu *gpu = &gpus[found];
        struct nvml_pci_info pci;
        void *handle;
        memset(gpu, 0, sizeof *gpu);
        memset(&pci, 0, sizeof pci);
        /* a GPU that fell off the bus keeps its index and answers nothing */
        if (nvml.handle(i, &handle) != 0 || nvml.pci(handle, &pci) != 0) {
            continue;
        }
        gpu->index = (int)i;
        gpu->domain = pci.domain;
        gpu->bus = pci.bus;
        gpu->slot = pci.device;
        nvml.name(handle, gpu->name, sizeof gpu->name);
        nvml.uuid(handle, gpu->uuid, sizeof gpu->uuid);
        found++;
    }
    return found;
}

bool nvml_memory(int index, uint64_t *total_bytes, uint64_t *free_bytes, uint64_t *used_bytes)
{
    struct nvml_memory_info info;
    void *handle;
    if (!nvml_open() || nvml.handle((unsigned)index, &handle) != 0 ||
        nvml.memory(handle, &info) != 0) {
        return false;
    }
    *total_bytes = info.total;
    *free_bytes = info.free;
    *used_bytes = info.used;
    return true;
}

/* Append what one of NVML's two lists says; a process of both is kept once. */
static size_t add_processes(void *handle,
                            int (*list)(void *, unsigned *, struct nvml_process_info *),
                            struct device_process *out, size_t count, size_t capacity)
{
    unsigned found = NVML_PROCESSES_MAX;
    struct nvml_process_info *infos = xcalloc(NVML_PROCESSES_MAX, sizeof *infos);
    bool good = list != NULL && list(handle, &found, infos) == 0;
    for (unsigned i = 0; good && i < found && i < NVML_PROCESSES_MAX; i++) {
        bool known = false;
        for (size_t j = 0; j < count && !known; j++) {
            known = out[j].pid == (int)infos[i].pid;
        }
        /* all ones, NVML's "not available", are our "not known" as well */
        if (!known && count < capacity) {
            out[count++] = (struct device_process){(int)infos[i].pid, infos[i].used};
        }
    }
    free(infos);
    return count;
}

size_t nvml_processes(int index, struct device_process *out, size_t capacity)
{
    void *handle;
    if (!nvml_open() || nvml.handle((unsigned)index, &handle) != 0) {
        return 0;
    }
    size_t count = add_processes(handle, nvml.processes, out, 0, capacity);
    return add_processes(handle, nvml.drawers, out, count, capacity);
}

bool nvml_process_memory(int index, uint64_t *used_bytes)
{
    struct device_process *list = xcalloc(NVML_PROCESSES_MAX, sizeof *list);
    size_t count = nvml_processes(index, list, NVML_PROCESSES_MAX);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (list[i].pid == (int)getpid() && list[i].bytes != UINT64_MAX) {
            *used_bytes = list[i].bytes;
            found = true;
        }
    }
    free(list);
    return found;
}

const char *nvml_driver(void)
{
    static char version[96];
    if (version[0] == '\0' && (!nvml_open() || nvml.driver(version, sizeof version) != 0)) {
        version[0] = '\0';
    }
    return version;
}
