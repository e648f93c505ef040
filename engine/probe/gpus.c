/* Every GPU as NVML sees it: no context, no CUDA, and no permission but to open the nodes. */
#include "engine/probe/probe.h"

#include "engine/cpu/cpu.h"
#include "engine/processes.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GPUS_MAX        16 /* of the record */
#define HOLDERS_MAX     128
#define PROCESSES_MAX   1024
#define MIG_MAX         64
#define PROCESSORS_MAX  1024
#define CLOCK_SM        1 /* nvmlClockType_t */
#define ECC_UNCORRECTED 1
#define ECC_VOLATILE    0

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
struct nvml_confidential {
    unsigned environment, feature, dev_tools;
};

/* member, NVML's name, arguments */
#define NVML_FUNCTIONS(X)                                                                          \
    X(init, nvmlInit_v2, (void))                                                                   \
    X(driver, nvmlSystemGetDriverVersion, (char *, unsigned))                                      \
    X(count, nvmlDeviceGetCount_v2, (unsigned *))                                                  \
    X(handle, nvmlDeviceGetHandleByIndex_v2, (unsigned, void **))                                  \
    X(name, nvmlDeviceGetName, (void *, char *, unsigned))                                         \
    X(uuid, nvmlDeviceGetUUID, (void *, char *, unsigned))                                         \
    X(pci, nvmlDeviceGetPciInfo_v3, (void *, struct nvml_pci_info *))                              \
    X(memory, nvmlDeviceGetMemoryInfo, (void *, struct nvml_memory_info *))                        \
    X(capability, nvmlDeviceGetCudaComputeCapability, (void *, int *, int *))                      \
    X(compute_mode, nvmlDeviceGetComputeMode, (void *, int *))                                     \
    X(mig_mode, nvmlDeviceGetMigMode, (void *, unsigned *, unsigned *))                            \
    X(mig_handle, nvmlDeviceGetMigDeviceHandleByIndex, (void *, unsigned, void **))                \
    X(persistence, nvmlDeviceGetPersistenceMode, (void *, int *))                                  \
    X(display, nvmlDeviceGetDisplayActive, (void *, int *))                                        \
    X(ecc, nvmlDeviceGetTotalEccErrors, (void *, int, int, unsigned long long *))                  \
    X(remapped, nvmlDeviceGetRemappedRows,                                                         \
      (void *, unsigned *, unsigned *, unsigned *, unsigned *))                                    \
    X(virtual_mode, nvmlDeviceGetVirtualizationMode, (void *, int *))                              \
    X(confidential, nvmlSystemGetConfComputeState, (struct nvml_confidential *))                   \
    X(affinity, nvmlDeviceGetCpuAffinity, (void *, unsigned, unsigned long *))                     \
    X(clock, nvmlDeviceGetClockInfo, (void *, int, unsigned *))                                    \
    X(clock_max, nvmlDeviceGetMaxClockInfo, (void *, int, unsigned *))                             \
    X(reasons, nvmlDeviceGetCurrentClocksEventReasons, (void *, unsigned long long *))             \
    X(reasons_old, nvmlDeviceGetCurrentClocksThrottleReasons, (void *, unsigned long long *))      \
    X(generation, nvmlDeviceGetCurrPcieLinkGeneration, (void *, unsigned *))                       \
    X(generation_max, nvmlDeviceGetMaxPcieLinkGeneration, (void *, unsigned *))                    \
    X(width, nvmlDeviceGetCurrPcieLinkWidth, (void *, unsigned *))                                 \
    X(width_max, nvmlDeviceGetMaxPcieLinkWidth, (void *, unsigned *))                              \
    X(computing, nvmlDeviceGetComputeRunningProcesses_v3,                                          \
      (void *, unsigned *, struct nvml_process_info *))                                            \
    X(drawing, nvmlDeviceGetGraphicsRunningProcesses_v3,                                           \
      (void *, unsigned *, struct nvml_process_info *))

static struct {
#define NVML_MEMBER(member, symbol, arguments) int(*member) arguments;
    NVML_FUNCTIONS(NVML_MEMBER)
#undef NVML_MEMBER
} nvml;

/* 0: not tried, 1: no library, 2: there; engine thread only */
static int nvml_state;
static int nvml_code;

static bool nvml_open(void)
{
    if (nvml_state == 0) {
        void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
        nvml_state = library != NULL ? 2 : 1;
#define NVML_FIND(member, symbol, arguments)                                                       \
    {                                                                                              \
        void *address = library != NULL ? dlsym(library, #symbol) : NULL;                          \
        memcpy(&nvml.member, &address, sizeof address);                                            \
    }
        NVML_FUNCTIONS(NVML_FIND)
#undef NVML_FIND
        nvml_code = nvml.init != NULL ? nvml.init() : -1;
    }
    return nvml_state == 2 && nvml_code == 0 && nvml.count != NULL && nvml.handle != NULL;
}

static void set_count(json_t *object, const char *key, bool known, unsigned long long value)
{
    if (known)
        json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void set_answer(json_t *object, const char *key, bool known, bool value)
{
    if (known)
        json_object_set_new(object, key, json_boolean(value));
}

static void describe_who(json_t *gpu, void *device)
{
    char text[96];
    struct nvml_pci_info pci;
    int major, minor;
    if (nvml.name != NULL && nvml.name(device, text, sizeof text) == 0)
        probe_set_text(gpu, "name", text);
    if (nvml.uuid != NULL && nvml.uuid(device, text, sizeof text) == 0)
        probe_set_text(gpu, "uuid", text);
    memset(&pci, 0, sizeof pci);
    if (nvml.pci != NULL && nvml.pci(device, &pci) == 0) {
        char path[128];
        snprintf(text, sizeof text, "%04x:%02x:%02x.0", pci.domain, pci.bus, pci.device);
        probe_set_text(gpu, "pci", text);
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", text);
        char *node = probe_read(path, 16);
        if (node != NULL && atoi(node) >= 0)
            json_object_set_new(gpu, "numa_node", json_integer(atoi(node)));
        free(node);
    }
    if (nvml.capability != NULL && nvml.capability(device, &major, &minor) == 0)
        json_object_set_new(gpu, "architecture", json_integer(major * 10 + minor));
}

static void describe_use(json_t *gpu, void *device)
{
    struct nvml_memory_info memory = {0, 0, 0};
    int mode = 0;
    unsigned now, later, instances = 0;
    bool known = nvml.memory != NULL && nvml.memory(device, &memory) == 0;
    set_count(gpu, "total_bytes", known, memory.total);
    set_count(gpu, "used_bytes", known, memory.used);
    set_count(gpu, "free_bytes", known, memory.free);
    known = nvml.compute_mode != NULL && nvml.compute_mode(device, &mode) == 0;
    set_count(gpu, "compute_mode", known, (unsigned)mode);
    if (nvml.mig_mode != NULL && nvml.mig_mode(device, &now, &later) == 0) {
        void *part;
        json_object_set_new(gpu, "mig_mode", json_integer(now));
        for (unsigned i = 0; i < MIG_MAX && now == 1 && nvml.mig_handle != NULL; i++)
            instances += nvml.mig_handle(device, i, &part) == 0;
        set_count(gpu, "mig_instances", now == 1 && nvml.mig_handle != NULL, instances);
    }
    known = nvml.persistence != NULL && nvml.persistence(device, &mode) == 0;
    set_answer(gpu, "persistence", known, mode == 1);
    known = nvml.display != NULL && nvml.display(device, &mode) == 0;
    set_answer(gpu, "display", known, mode == 1);
}

static void describe_health(json_t *gpu, void *device)
{
    unsigned long long errors = 0;
    unsigned corrected, uncorrected, pending = 0, failed = 0;
    int mode = 0;
    struct nvml_confidential state = {0, 0, 0};
    bool known = nvml.ecc != NULL && nvml.ecc(device, ECC_UNCORRECTED, ECC_VOLATILE, &errors) == 0;
    set_count(gpu, "ecc_uncorrected", known, errors);
    known = nvml.remapped != NULL &&
            nvml.remapped(device, &corrected, &uncorrected, &pending, &failed) == 0;
    set_answer(gpu, "remap_pending", known, pending != 0);
    set_answer(gpu, "remap_failed", known, failed != 0);
    known = nvml.virtual_mode != NULL && nvml.virtual_mode(device, &mode) == 0;
    set_answer(gpu, "virtual_gpu", known, mode == 2); /* passed through whole, it is not */
    known = nvml.confidential != NULL && nvml.confidential(&state) == 0;
    set_answer(gpu, "confidential", known, state.feature != 0);
}

static void describe_place(json_t *gpu, void *device)
{
    unsigned value = 0;
    unsigned long near[PROCESSORS_MAX / (8 * sizeof(unsigned long))] = {0};
    unsigned char allowed[PROCESSORS_MAX];
    bool known = nvml.clock_max != NULL && nvml.clock_max(device, CLOCK_SM, &value) == 0;
    set_count(gpu, "clock_max_mhz", known, value);
    known = nvml.generation_max != NULL && nvml.generation_max(device, &value) == 0;
    set_count(gpu, "pcie_generation_max", known, value);
    known = nvml.width_max != NULL && nvml.width_max(device, &value) == 0;
    set_count(gpu, "pcie_width_max", known, value);
    unsigned words = sizeof near / sizeof *near;
    if (nvml.affinity != NULL && nvml.affinity(device, words, near) == 0 &&
        machine_allowed_processors(allowed, PROCESSORS_MAX) > 0) {
        int shared = 0;
        for (size_t cpu = 0; cpu < PROCESSORS_MAX; cpu++)
            shared +=
                allowed[cpu] && (near[cpu / (8 * sizeof *near)] >> (cpu % (8 * sizeof *near)) & 1);
        json_object_set_new(gpu, "cpus_shared", json_integer(shared));
    }
}

static void add_holders(json_t *holders, unsigned index, void *device,
                        int (*list)(void *, unsigned *, struct nvml_process_info *))
{
    unsigned count = PROCESSES_MAX;
    struct nvml_process_info *infos = xcalloc(PROCESSES_MAX, sizeof *infos);
    if (list == NULL || list(device, &count, infos) != 0)
        count = 0;
    for (unsigned i = 0; i < count && i < PROCESSES_MAX && json_array_size(holders) < HOLDERS_MAX;
         i++) {
        char name[64], user[64];
        size_t k;
        json_t *other;
        bool twice = false; /* in both lists */
        json_array_foreach(holders, k, other) twice =
            twice || (json_integer_value(json_object_get(other, "pid")) == infos[i].pid &&
                      json_integer_value(json_object_get(other, "gpu")) == index);
        if (twice)
            continue;
        process_describe((int)infos[i].pid, name, sizeof name, user, sizeof user);
        json_t *holder =
            json_pack("{s:i, s:i, s:s, s:s, s:b}", "gpu", (int)index, "pid", (int)infos[i].pid,
                      "name", name, "user", user, "ours", infos[i].pid == (unsigned)getpid());
        if (infos[i].used != UINT64_MAX)
            json_object_set_new(holder, "bytes", json_integer((json_int_t)infos[i].used));
        json_array_append_new(holders, holder);
    }
    free(infos);
}

void probe_gpus(json_t *record)
{
    bool good = nvml_open();
    json_t *library = json_pack("{s:b}", "found", nvml_state == 2);
    json_t *gpus = json_array(), *holders = json_array();
    char version[96];
    unsigned count = 0;
    if (nvml_state == 2)
        json_object_set_new(library, "init_code", json_integer(nvml_code));
    if (good && nvml.driver != NULL && nvml.driver(version, sizeof version) == 0)
        probe_set_text(library, "version", version);
    if (good && nvml.count(&count) != 0)
        count = 0;
    for (unsigned i = 0; i < count && i < GPUS_MAX; i++) {
        void *device;
        json_t *gpu = json_pack("{s:i}", "index", (int)i);
        if (nvml.handle(i, &device) == 0) {
            describe_who(gpu, device);
            describe_use(gpu, device);
            describe_health(gpu, device);
            describe_place(gpu, device);
            add_holders(holders, i, device, nvml.computing);
            add_holders(holders, i, device, nvml.drawing);
        }
        json_array_append_new(gpus, gpu);
    }
    json_object_set_new(record, "nvml", library);
    json_object_set_new(record, "gpus", gpus);
    json_object_set_new(record, "holders", holders);
}

/* Keep the larger one. */
static void raise_count(json_t *object, const char *key, bool known, unsigned value)
{
    if (known && (json_int_t)value > json_integer_value(json_object_get(object, key)))
        json_object_set_new(object, key, json_integer(value));
}

void probe_gpu_load(json_t *gpu, int index)
{
    void *device;
    unsigned value = 0;
    unsigned long long reasons;
    if (gpu == NULL || !nvml_open() || nvml.handle((unsigned)index, &device) != 0)
        return;
    int (*list)(void *, unsigned long long *) =
        nvml.reasons != NULL ? nvml.reasons : nvml.reasons_old;
    json_object_set_new(gpu, "loaded", json_true());
    if (list != NULL && list(device, &reasons) == 0) {
        json_int_t before = json_integer_value(json_object_get(gpu, "load_throttle"));
        json_object_set_new(gpu, "load_throttle", json_integer(before | (json_int_t)reasons));
    }
    bool known = nvml.clock != NULL && nvml.clock(device, CLOCK_SM, &value) == 0;
    set_count(gpu, "load_clock_mhz", known, value); /* the last: throttling takes time */
    known = nvml.generation != NULL && nvml.generation(device, &value) == 0;
    raise_count(gpu, "load_pcie_generation", known, value);
    known = nvml.width != NULL && nvml.width(device, &value) == 0;
    raise_count(gpu, "load_pcie_width", known, value);
}
