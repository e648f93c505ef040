#include "engine/cuda/vmm.h"
#include "engine/cuda/check.h"
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

/* every function is in drivers since CUDA 10.2 */
#define VMM_FUNCTIONS(X)                                                                           \
    X(cuDeviceGetAttribute)                                                                        \
    X(cuMemGetAllocationGranularity)                                                               \
    X(cuMemAddressReserve)                                                                         \
    X(cuMemAddressFree)                                                                            \
    X(cuMemCreate)                                                                                 \
    X(cuMemRelease)                                                                                \
    X(cuMemMap)                                                                                    \
    X(cuMemUnmap)                                                                                  \
    X(cuMemSetAccess)
#define VMM_VERSION 10020

struct vmm {
#define VMM_MEMBER(name) __typeof__(&name) name;
    VMM_FUNCTIONS(VMM_MEMBER)
    struct arena_mapper mapper;
    int device;
    uint64_t granularity;
    bool pooled;
    uint64_t *pool; /* handles of VMM_POOL_CHUNK_BYTES each */
    size_t pool_count, pool_capacity;
};

static bool entry_point(const char *name, void *slot)
{
    void *function = NULL;
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    cudaError_t status =
        cudaGetDriverEntryPointByVersion(name, &function, VMM_VERSION, cudaEnableDefault, &found);
    if (status != cudaSuccess || found != cudaDriverEntryPointSuccess || function == NULL) {
        cudaGetLastError();
        return false;
    }
    memcpy(slot, &function, sizeof function);
    return true;
}

static CUmemAllocationProp properties(const struct vmm *vmm)
{
    CUmemAllocationProp property;
    memset(&property, 0, sizeof property);
    property.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    property.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    property.location.id = vmm->device;
    return property;
}

static bool create(struct vmm *vmm, uint64_t bytes, uint64_t *handle, struct error *error)
{
    CUmemAllocationProp property = properties(vmm);
    CUmemGenericAllocationHandle taken;
    if (!CUDA_OK(vmm->cuMemCreate(&taken, bytes, &property, 0), "device memory", error)) {
        return false;
    }
    *handle = taken;
    return true;
}

static bool vmm_take(void *context, uint64_t bytes, uint64_t *handle, struct error *error)
{
    struct vmm *vmm = context;
    if (!vmm->pooled) {
        return create(vmm, bytes, handle, error);
    }
    if (vmm->pool_count == 0) {
        error_set(error, ERROR_MEMORY, "device memory",
                  "all that was reserved at the start (growth off) is in use");
        return error_hint(error, "set growth on");
    }
    *handle = vmm->pool[--vmm->pool_count];
    return true;
}

static void vmm_give(void *context, uint64_t bytes, uint64_t handle)
{
    struct vmm *vmm = context;
    (void)bytes;
    if (vmm->pooled) {
        vmm->pool[vmm->pool_count++] = handle; /* capacity was sized for all of them */
    } else {
        vmm->cuMemRelease(handle);
    }
}

static bool vmm_map(void *context, uint64_t address, uint64_t bytes, uint64_t handle,
                    struct error *error)
{
    struct vmm *vmm = context;
    CUmemAccessDesc access;
    memset(&access, 0, sizeof access);
    access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access.location.id = vmm->device;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (!CUDA_OK(vmm->cuMemMap(address, bytes, 0, handle, 0), "device memory", error)) {
        return false;
    }
    if (!CUDA_OK(vmm->cuMemSetAccess(address, bytes, &access, 1), "device memory", error)) {
        vmm->cuMemUnmap(address, bytes);
        return false;
    }
    return true;
}

static void vmm_unmap(void *context, uint64_t address, uint64_t bytes)
{
    struct vmm *vmm = context;
    vmm->cuMemUnmap(address, bytes);
}

struct vmm *vmm_open(int device, struct error *error, bool *supported)
{
    struct vmm *vmm = xcalloc(1, sizeof *vmm);
    int has = 0;

    *supported = false;
    vmm->device = device;
    vmm->mapper = (struct arena_mapper){
        .context = vmm, .take = vmm_take, .give = vmm_give, .map = vmm_map, .unmap = vmm_unmap};
#define VMM_FIND(name)                                                                             \
    if (!entry_point(#name, &vmm->name)) {                                                         \
        goto none;                                                                                 \
    }
    VMM_FUNCTIONS(VMM_FIND)
    if (vmm->cuDeviceGetAttribute(&has, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                  device) != CUDA_SUCCESS ||
        !has) {
        goto none;
    }
    *supported = true;
    CUmemAllocationProp property = properties(vmm);
    size_t granularity = 0;
    if (!CUDA_OK(vmm->cuMemGetAllocationGranularity(&granularity, &property,
                                                    CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                 "device memory", error)) {
        goto none;
    }
    vmm->granularity = granularity;
    return vmm;
none:
    free(vmm);
    return NULL;
}

void vmm_close(struct vmm *vmm)
{
    if (vmm == NULL) {
        return;
    }
    for (size_t i = 0; i < vmm->pool_count; i++) {
        vmm->cuMemRelease(vmm->pool[i]);
    }
    free(vmm->pool);
    free(vmm);
}

bool vmm_reserve(struct vmm *vmm, uint64_t bytes, struct error *error)
{
    vmm->pool_capacity = bytes / VMM_POOL_CHUNK_BYTES;
    vmm->pool = xcalloc(vmm->pool_capacity + 1, sizeof *vmm->pool);
    while (vmm->pool_count < vmm->pool_capacity) {
        if (!create(vmm, VMM_POOL_CHUNK_BYTES, &vmm->pool[vmm->pool_count], error)) {
            while (vmm->pool_count > 0) {
                vmm->cuMemRelease(vmm->pool[--vmm->pool_count]);
            }
            return false;
        }
        vmm->pool_count++;
    }
    vmm->pooled = true;
    return true;
}

uint64_t vmm_idle_bytes(const struct vmm *vmm)
{
    return vmm->pool_count * VMM_POOL_CHUNK_BYTES;
}

bool vmm_arena_open(struct vmm *vmm, struct arena *arena, uint64_t reserved_bytes,
                    struct error *error)
{
    /* the pool's chunk is a multiple of every granularity in use (2 MiB), so it serves both modes */
    uint64_t unit = VMM_POOL_CHUNK_BYTES;
    CUdeviceptr base = 0;

    reserved_bytes = (reserved_bytes + unit - 1) / unit * unit;
    if (!CUDA_OK(vmm->cuMemAddressReserve(&base, reserved_bytes, 0, 0, 0), "device addresses",
                 error)) {
        return false;
    }
    arena_init(arena, &vmm->mapper, base, reserved_bytes, vmm->granularity,
               vmm->pooled ? VMM_POOL_CHUNK_BYTES : VMM_CHUNK_BYTES, vmm->pooled);
    return true;
}

void vmm_arena_close(struct vmm *vmm, struct arena *arena)
{
    if (arena->base != 0) {
        arena_clear(arena);
        vmm->cuMemAddressFree(arena->base, arena->reserved_bytes);
        arena->base = 0;
    }
}
