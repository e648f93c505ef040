#include "engine/cuda/device.h"
#include "engine/cuda/check.h"
#include "engine/cuda/conv.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/matmul.h"
#include "engine/cuda/nvml.h"
#include "engine/cuda/plan.h"
#include "engine/visible.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One GPU of the machine as both sides know it. */
struct known {
    int index;   /* nvidia-smi's, -1 if the driver shows a GPU that NVML does not */
    int ordinal; /* CUDA's, -1 if hidden */
    char uuid[96], name[256], pci[32];
};

struct machine {
    struct known gpus[VISIBLE_MAX];
    size_t count;
    struct visible visible;
    char variable[512]; /* what visible_describe() says, or "" */
};

static void format_uuid(char *out, size_t size, const cudaUUID_t *uuid)
{
    const unsigned char *b = (const unsigned char *)uuid->bytes;
    snprintf(out, size, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
             b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
}

static struct known *find_pci(struct machine *machine, const char *pci)
{
    for (size_t i = 0; i < machine->count; i++) {
        if (strcmp(machine->gpus[i].pci, pci) == 0) {
            return &machine->gpus[i];
        }
    }
    return NULL;
}

/* Join NVML's list (every GPU, nvidia-smi's indices) with CUDA's (the visible ones). */
static bool machine_read(struct machine *machine, struct error *error)
{
    struct nvml_gpu listed[VISIBLE_MAX];
    const char *uuids[VISIBLE_MAX];
    const char *variable = getenv("CUDA_VISIBLE_DEVICES");
    int count = 0;

    memset(machine, 0, sizeof *machine);
    int known = nvml_list(listed, VISIBLE_MAX);
    for (int i = 0; i < known; i++) {
        struct known *gpu = &machine->gpus[machine->count++];
        gpu->index = listed[i].index;
        gpu->ordinal = -1;
        snprintf(gpu->uuid, sizeof gpu->uuid, "%s", listed[i].uuid);
        snprintf(gpu->name, sizeof gpu->name, "%s", listed[i].name);
        snprintf(gpu->pci, sizeof gpu->pci, "%04x:%02x:%02x.0", listed[i].domain, listed[i].bus,
                 listed[i].slot);
        uuids[i] = gpu->uuid;
    }
    visible_parse(&machine->visible, variable, uuids, (size_t)known);
    visible_describe(machine->variable, sizeof machine->variable, &machine->visible, variable);
    if (!CUDA_OK(cudaGetDeviceCount(&count), "GPU", error)) {
        return false;
    }
    for (int ordinal = 0; ordinal < count && ordinal < VISIBLE_MAX; ordinal++) {
        struct cudaDeviceProp property;
        char pci[32];
        if (!CUDA_OK(cudaGetDeviceProperties(&property, ordinal), "GPU", error)) {
            return false;
        }
        snprintf(pci, sizeof pci, "%04x:%02x:%02x.0", (unsigned)property.pciDomainID,
                 (unsigned)property.pciBusID, (unsigned)property.pciDeviceID);
        struct known *gpu = find_pci(machine, pci);
        if (gpu == NULL && machine->count < VISIBLE_MAX) {
            /* without NVML: the variable's own indices, or PCI order, which is nvidia-smi's */
            gpu = &machine->gpus[machine->count++];
            int parsed = (size_t)ordinal < machine->visible.count
                             ? machine->visible.indices[ordinal]
                             : VISIBLE_UNKNOWN;
            gpu->index = parsed != VISIBLE_UNKNOWN ? parsed : ordinal;
            snprintf(gpu->pci, sizeof gpu->pci, "%s", pci);
        }
        if (gpu == NULL) {
            break;
        }
        gpu->ordinal = ordinal;
        snprintf(gpu->name, sizeof gpu->name, "%s", property.name);
        format_uuid(gpu->uuid, sizeof gpu->uuid, &property.uuid);
    }
    return true;
}

/* Does the module hold machine code (same major, not newer) or PTX for this architecture? */
static bool architecture_built(int major, int minor)
{
    for (const char *at = LAYERTOP_CUDA_ARCHS; *at != '\0';) {
        char *end;
        long arch = strtol(at, &end, 10);
        bool machine_code = arch / 10 == major && arch % 10 <= minor;
        bool last = *end == '\0'; /* the last one also carries PTX, see mk/cuda.mk */
        if (machine_code || (last && arch <= major * 10 + minor)) {
            return true;
        }
        at = last ? end : end + 1;
    }
    return false;
}

/* Why a visible GPU cannot be used, into why[size]; "" if it can. */
static void usable_why(char *why, size_t size, int ordinal, const struct cudaDeviceProp *property)
{
    int mode = 0;
    why[0] = '\0';
    cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, ordinal);
    if (mode == cudaComputeModeProhibited) {
        snprintf(why, size,
                 "its compute mode is PROHIBITED (an administrator's nvidia-smi -c 0 "
                 "changes it)");
    } else if (!architecture_built(property->major, property->minor)) {
        snprintf(why, size,
                 "it is sm_%d%d and layertop-cuda.so was built for sm " LAYERTOP_CUDA_ARCHS
                 ": make ARCH=%d%d",
                 property->major, property->minor, property->major, property->minor);
    }
}

static json_t *describe(const struct known *gpu, const char *variable)
{
    struct cudaDeviceProp property;
    uint64_t total_bytes, free_bytes, used_bytes;
    char why[640], id[16];
    int driver = 0;

    snprintf(id, sizeof id, "gpu:%d", gpu->index);
    json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "id", id, "name", gpu->name, "uuid",
                               gpu->uuid, "pci", gpu->pci);
    if (object == NULL) { /* a name that is no UTF-8 */
        return json_pack("{s:s, s:b, s:s}", "id", id, "usable", 0, "why", "its name is not text");
    }
    if (nvml_memory(gpu->index, &total_bytes, &free_bytes, &used_bytes)) {
        json_object_set_new(object, "total_bytes", json_integer((json_int_t)total_bytes));
        json_object_set_new(object, "free_bytes", json_integer((json_int_t)free_bytes));
    }
    if (nvml_driver()[0] != '\0') {
        json_object_set_new(object, "driver", json_string(nvml_driver()));
    } else if (cudaDriverGetVersion(&driver) == cudaSuccess) {
        char text[32];
        snprintf(text, sizeof text, "CUDA %d.%d", driver / 1000, driver % 1000 / 10);
        json_object_set_new(object, "driver", json_string(text));
    }
    if (gpu->ordinal < 0) {
        snprintf(why, sizeof why, "hidden: %s",
                 variable[0] != '\0' ? variable : "CUDA_VISIBLE_DEVICES does not name it");
    } else if (cudaGetDeviceProperties(&property, gpu->ordinal) != cudaSuccess) {
        snprintf(why, sizeof why, "the driver does not describe it");
    } else {
        char capability[16];
        snprintf(capability, sizeof capability, "%d.%d", property.major, property.minor);
        json_object_set_new(object, "compute_capability", json_string(capability));
        json_object_set_new(object, "multiprocessors", json_integer(property.multiProcessorCount));
        if (json_object_get(object, "total_bytes") == NULL) {
            json_object_set_new(object, "total_bytes",
                                json_integer((json_int_t)property.totalGlobalMem));
        }
        usable_why(why, sizeof why, gpu->ordinal, &property);
    }
    json_object_set_new(object, "usable", json_boolean(why[0] == '\0'));
    if (why[0] != '\0') {
        json_object_set_new(object, "why", json_string(why));
    }
    const struct libraries *libraries = libraries_open(NULL);
    if (libraries != NULL) {
        size_t dnn = libraries->cudnn_version, blas = libraries->cublaslt_version;
        char text[96];
        snprintf(text, sizeof text, "cuDNN %zu.%zu.%zu, cuBLASLt %zu.%zu", dnn / 10000,
                 dnn / 100 % 100, dnn % 100, blas / 10000, blas / 100 % 100);
        json_object_set_new(object, "library", json_string(text));
    }
    return object;
}

bool devices_list(json_t *list, struct error *error)
{
    struct machine machine;
    if (!machine_read(&machine, error)) {
        return false;
    }
    for (size_t i = 0; i < machine.count; i++) {
        json_array_append_new(list, describe(&machine.gpus[i], machine.variable));
    }
    return true;
}

/* The GPU with nvidia-smi's index, visible and usable, or an error that says what stands against
 * it. */
static bool find_gpu(int index, struct known *out, struct cudaDeviceProp *property,
                     struct error *error)
{
    struct machine machine;
    char name[32], why[512];

    snprintf(name, sizeof name, "gpu:%d", index);
    if (!machine_read(&machine, error)) {
        return false;
    }
    const struct known *gpu = NULL;
    for (size_t i = 0; i < machine.count; i++) {
        if (machine.gpus[i].index == index) {
            gpu = &machine.gpus[i];
        }
    }
    if (gpu == NULL) {
        error_set(error, ERROR_DEVICE, name, "there is no such GPU; this machine has %zu",
                  machine.count);
        return error_hint(error, "devices");
    }
    if (gpu->ordinal < 0) {
        const char *variable = getenv("CUDA_VISIBLE_DEVICES");
        error_set(error, ERROR_DEVICE, name, "it is hidden: %s%s",
                  machine.variable[0] != '\0' ? machine.variable : "CUDA_VISIBLE_DEVICES=",
                  machine.variable[0] != '\0' || variable == NULL ? "" : variable);
        return error_hint(error, "unset CUDA_VISIBLE_DEVICES");
    }
    if (!CUDA_OK(cudaGetDeviceProperties(property, gpu->ordinal), name, error)) {
        return false;
    }
    usable_why(why, sizeof why, gpu->ordinal, property);
    if (why[0] != '\0') {
        return error_set(error, ERROR_DEVICE, name, "%s", why);
    }
    *out = *gpu;
    return true;
}

bool device_use(const struct device *device, struct error *error)
{
    return CUDA_OK(cudaSetDevice(device->ordinal), device->id, error);
}

/* Our own kernels, and the libraries' handles, which load theirs. */
static bool modules_open(struct device *device, struct error *error)
{
    return CUDA_OK(kernel_probe(device->stream), device->id, error) &&
           CUDA_OK(cudaStreamSynchronize(device->stream), device->id, error) &&
           CUDNN_OK(device->libraries, cudnnCreate(&device->cudnn), device->id, error) &&
           CUDNN_OK(device->libraries, cudnnSetStream(device->cudnn, device->stream), device->id,
                    error) &&
           CUBLASLT_OK(device->libraries, cublasLtCreate(&device->cublaslt), device->id, error);
}

/* Context, stream and library handles: everything that takes memory besides our regions. */
static bool context_open(struct device *device, struct error *error)
{
    bool good = device_use(device, error) && CUDA_OK(cudaFree(NULL), device->id, error) &&
                CUDA_OK(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking),
                        device->id, error);
    phases_begin(device->phases, PHASE_MODULES);
    good = good && modules_open(device, error);
    phases_end(device->phases);
    return good;
}

struct device *device_open(const struct device_options *options, const struct observer *observer,
                           struct error *error)
{
    struct known gpu;
    struct cudaDeviceProp property;
    uint64_t total, free_bytes, before = UINT64_MAX, after = UINT64_MAX;

    if (!find_gpu(options->index, &gpu, &property, error)) {
        return NULL;
    }
    struct device *device = xcalloc(1, sizeof *device);
    device->index = options->index;
    device->ordinal = gpu.ordinal;
    snprintf(device->id, sizeof device->id, "gpu:%d", options->index);
    device->observer = observer;
    device->phases = options->phases;
    device->compute_major = property.major;
    device->compute_minor = property.minor;
    device->multiprocessors = property.multiProcessorCount;
    phases_begin(device->phases, PHASE_LIBRARIES);
    device->libraries = libraries_open(error);
    phases_end(device->phases);
    if (device->libraries == NULL) {
        free(device);
        return NULL;
    }
    if (!nvml_memory(device->index, &total, &free_bytes, &before)) {
        before = UINT64_MAX;
    }
    if (!context_open(device, error)) {
        device_close(device);
        return NULL;
    }
    if (!nvml_memory(device->index, &total, &free_bytes, &after)) {
        after = UINT64_MAX;
    }
    device->used_before_bytes = before;
    device->context_bytes = before != UINT64_MAX && after != UINT64_MAX && after >= before
                                ? after - before
                                : UINT64_MAX;
    if (!regions_open(&device->regions, device->ordinal, options->growth, options->limit_bytes,
                      property.major, error)) {
        device_close(device);
        return NULL;
    }
    device_report(device);
    return device;
}

void device_close(struct device *device)
{
    if (device == NULL) {
        return;
    }
    cudaSetDevice(device->ordinal);
    if (device->stream != NULL) {
        cudaStreamSynchronize(device->stream);
    }
    device_forget(device);
    conv_entries_free(device);
    matmul_entries_free(device);
    if (device->cudnn != NULL) {
        device->libraries->cudnn.cudnnDestroy(device->cudnn);
    }
    if (device->cublaslt != NULL) {
        device->libraries->cublaslt.cublasLtDestroy(device->cublaslt);
    }
    regions_close(&device->regions);
    if (device->stream != NULL) {
        cudaStreamDestroy(device->stream);
    }
    cudaGetLastError();
    free(device);
}

bool device_memory(struct device *device, struct device_memory *out, struct error *error)
{
    size_t free_bytes = 0, total_bytes = 0;
    uint64_t total, unused, used;

    if (!device_use(device, error) ||
        !CUDA_OK(cudaMemGetInfo(&free_bytes, &total_bytes), device->id, error)) {
        return false;
    }
    out->total_bytes = total_bytes;
    out->free_bytes = free_bytes;
    out->used_by_us_bytes = UINT64_MAX;
    if (!nvml_process_memory(device->index, &out->used_by_us_bytes) &&
        device->used_before_bytes != UINT64_MAX &&
        nvml_memory(device->index, &total, &unused, &used) && used >= device->used_before_bytes) {
        out->used_by_us_bytes = used - device->used_before_bytes;
    }
    const struct region *region = device->regions.region;
    out->weights_bytes = region[REGION_WEIGHTS].needed_bytes;
    out->arena_bytes = region[REGION_ARENA].needed_bytes + device->feed_bytes;
    out->workspace_bytes = region[REGION_WORKSPACE].needed_bytes;
    out->idle_bytes = regions_idle_bytes(&device->regions);
    out->context_bytes = device->context_bytes;
    out->room_bytes = regions_room_bytes(&device->regions, free_bytes, &out->largest_bytes);
    return true;
}

size_t device_processes(struct device *device, struct device_process *out, size_t capacity)
{
    return nvml_processes(device->index, out, capacity);
}

uint64_t device_free_bytes(void)
{
    size_t free_bytes = 0, total_bytes = 0;
    if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return free_bytes;
}

void device_charge_context(struct device *device, uint64_t free_before)
{
    uint64_t now = device_free_bytes();
    if (device->context_bytes != UINT64_MAX && now > 0 && now < free_before) {
        device->context_bytes += free_before - now;
    }
}

void device_report(struct device *device)
{
    const struct observer *observer = device->observer;
    if (observer == NULL || observer->memory == NULL) {
        return;
    }
    const struct region *region = device->regions.region;
    observer->memory(observer->context, device->id, MEMORY_WEIGHTS,
                     region[REGION_WEIGHTS].needed_bytes);
    observer->memory(observer->context, device->id, MEMORY_ACTIVATIONS,
                     region[REGION_ARENA].needed_bytes + device->feed_bytes);
    observer->memory(observer->context, device->id, MEMORY_WORKSPACE,
                     region[REGION_WORKSPACE].needed_bytes);
    observer->memory(observer->context, device->id, MEMORY_IDLE,
                     regions_idle_bytes(&device->regions));
    if (device->context_bytes != UINT64_MAX) {
        observer->memory(observer->context, device->id, MEMORY_CONTEXT, device->context_bytes);
    }
}

void device_needs(const struct device *device, uint64_t bytes[REGION_COUNT])
{
    bytes[REGION_WEIGHTS] = device->upload_bytes;
    bytes[REGION_ARENA] = 0;
    bytes[REGION_WORKSPACE] = 0;
    for (const struct plan *plan = device->plans; plan != NULL; plan = plan->next) {
        if (plan->arena_bytes > bytes[REGION_ARENA]) {
            bytes[REGION_ARENA] = plan->arena_bytes;
        }
        if (plan->workspace_bytes > bytes[REGION_WORKSPACE]) {
            bytes[REGION_WORKSPACE] = plan->workspace_bytes;
        }
    }
}

void device_trim(struct device *device)
{
    if (device_use(device, NULL) && cudaStreamSynchronize(device->stream) == cudaSuccess) {
        regions_trim(&device->regions);
        device_report(device);
    }
}

void device_forget(struct device *device)
{
    while (device->uploads != NULL) {
        struct upload *upload = device->uploads;
        device->uploads = upload->next;
        free(upload);
    }
    device->upload_bytes = 0;
    if (device->regions.vmm != NULL || device->regions.region[REGION_WEIGHTS].block_count > 0) {
        regions_release(&device->regions, REGION_WEIGHTS, 0);
        device_report(device);
    }
}
