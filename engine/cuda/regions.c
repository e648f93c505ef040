#include "engine/cuda/regions.h"
#include "engine/cuda/check.h"
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1024.0 * 1024.0)

uint64_t regions_system_bytes(uint64_t free_bytes, int compute_major)
{
    /* tensorflow/core/common_runtime/gpu/gpu_device.cc, MinSystemMemory */
    uint64_t mib = free_bytes < (2ull << 30) ? 225
                   : compute_major <= 6      ? 500
                   : compute_major == 7      ? 1050
                   : compute_major == 8      ? 1536
                                             : 1800;
    return mib << 20;
}

bool regions_open(struct regions *regions, int device, bool growth, uint64_t limit_bytes,
                  int compute_major, struct error *error)
{
    size_t free_bytes = 0, total_bytes = 0;
    bool supported;

    memset(regions, 0, sizeof *regions);
    regions->limit_bytes = limit_bytes;
    if (!CUDA_OK(cudaMemGetInfo(&free_bytes, &total_bytes), "device memory", error)) {
        return false;
    }
    regions->vmm = vmm_open(device, error, &supported);
    if (regions->vmm == NULL && supported) {
        return false;
    }
    uint64_t spared = regions_system_bytes(free_bytes, compute_major);
    uint64_t reserve = free_bytes > spared ? free_bytes - spared : 0;
    if (limit_bytes > 0 && reserve > limit_bytes) {
        reserve = limit_bytes;
    }
    if (!growth && regions->vmm != NULL) {
        if (!vmm_reserve(regions->vmm, reserve, error)) {
            error_hint(error, "set growth on");
            regions_close(regions);
            return false;
        }
    } else if (!growth) {
        regions->ballast_bytes = reserve;
        if (!CUDA_OK(cudaMalloc(&regions->ballast, reserve), "growth off", error)) {
            error_hint(error, "set growth on");
            return false;
        }
    }
    for (int i = 0; i < REGION_COUNT && regions->vmm != NULL; i++) {
        if (!vmm_arena_open(regions->vmm, &regions->region[i].arena, total_bytes, error)) {
            regions_close(regions);
            return false;
        }
    }
    return true;
}

static void free_blocks(struct region *region, size_t keep)
{
    while (region->block_count > keep) {
        cudaFree(region->blocks[--region->block_count].address);
    }
    if (keep == 0) {
        free(region->blocks);
        region->blocks = NULL;
    }
}

void regions_close(struct regions *regions)
{
    for (int i = 0; i < REGION_COUNT; i++) {
        if (regions->vmm != NULL) {
            vmm_arena_close(regions->vmm, &regions->region[i].arena);
        }
        free_blocks(&regions->region[i], 0);
    }
    vmm_close(regions->vmm);
    cudaFree(regions->ballast);
    memset(regions, 0, sizeof *regions);
}

static uint64_t blocks_bytes(const struct region *region)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < region->block_count; i++) {
        sum += region->blocks[i].bytes;
    }
    return sum;
}

uint64_t regions_held_bytes(const struct regions *regions, enum region_kind kind)
{
    const struct region *region = &regions->region[kind];
    return regions->vmm != NULL ? region->arena.mapped_bytes : blocks_bytes(region);
}

uint64_t regions_rounded(const struct regions *regions, enum region_kind kind, uint64_t bytes)
{
    return regions->vmm != NULL ? arena_rounded(&regions->region[kind].arena, bytes) : bytes;
}

uint64_t regions_room_bytes(const struct regions *regions, uint64_t free_bytes, uint64_t *largest)
{
    uint64_t room = 0, pool = regions->vmm != NULL ? vmm_idle_bytes(regions->vmm) : 0;
    bool pooled = regions->vmm != NULL && regions->region[REGION_ARENA].arena.fixed_chunks;
    for (int i = 0; i < REGION_COUNT; i++) {
        room += regions_held_bytes(regions, (enum region_kind)i);
    }
    if (regions->vmm == NULL) {
        *largest = UINT64_MAX; /* cudaMalloc: only a try would tell */
        return room + (regions->ballast != NULL ? regions->ballast_bytes : free_bytes);
    }
    /* mapped chunk by chunk: physical memory need not lie side by side */
    *largest = pooled ? pool : free_bytes;
    return room + *largest;
}

uint64_t regions_idle_bytes(const struct regions *regions)
{
    uint64_t idle = regions->ballast != NULL ? regions->ballast_bytes : 0;
    if (regions->vmm != NULL) {
        idle += vmm_idle_bytes(regions->vmm);
    }
    for (int i = 0; i < REGION_COUNT; i++) {
        uint64_t held = regions_held_bytes(regions, (enum region_kind)i);
        uint64_t needed = regions->region[i].needed_bytes;
        idle += held > needed ? held - needed : 0;
    }
    return idle;
}

void *regions_address(const struct regions *regions, enum region_kind kind, uint64_t offset)
{
    const struct region *region = &regions->region[kind];
    if (regions->vmm != NULL) {
        return (void *)(uintptr_t)(region->arena.base + offset);
    }
    for (size_t i = 0; i < region->block_count; i++) {
        if (offset < region->blocks[i].bytes) {
            return (char *)region->blocks[i].address + offset;
        }
        offset -= region->blocks[i].bytes;
    }
    return NULL;
}

static bool add_block(struct region *region, uint64_t bytes, struct error *error)
{
    void *address = NULL;
    if (!CUDA_OK(cudaMalloc(&address, bytes), "device memory", error)) {
        return false;
    }
    region->blocks = xrealloc(region->blocks, (region->block_count + 1) * sizeof *region->blocks);
    region->blocks[region->block_count++] = (struct region_block){address, bytes};
    return true;
}

/* Without vmm: weights get another block; the others are freed, tried, and rebuilt on failure. */
static bool grow_block(struct regions *regions, enum region_kind kind, uint64_t bytes,
                       struct error *error)
{
    struct region *region = &regions->region[kind];
    uint64_t held = blocks_bytes(region);
    if (held >= bytes) {
        return true;
    }
    if (kind == REGION_WEIGHTS) {
        return add_block(region, bytes - held, error);
    }
    free_blocks(region, 0);
    regions->generation++;
    if (add_block(region, bytes, error)) {
        return true;
    }
    struct error again;
    if (held > 0 && !add_block(region, held, &again)) {
        error_set(error, ERROR_MEMORY, "device memory",
                  "the old size (%.0f MiB) could not be taken back either: another process was "
                  "faster",
                  (double)held / MIB);
    }
    return false;
}

static bool grow(struct regions *regions, enum region_kind kind, uint64_t bytes,
                 struct error *error)
{
    if (regions->vmm != NULL) {
        return arena_grow(&regions->region[kind].arena, bytes, error);
    }
    if (regions->ballast == NULL) {
        return grow_block(regions, kind, bytes, error);
    }
    uint64_t held = regions_held_bytes(regions, kind);
    uint64_t more = bytes > held ? bytes - held : 0;
    if (more > regions->ballast_bytes) {
        error_set(error, ERROR_MEMORY, "device memory",
                  "%.0f MiB more were asked for; %.0f MiB are left of what was reserved at the "
                  "start (growth off)",
                  (double)more / MIB, (double)regions->ballast_bytes / MIB);
        return error_hint(error, "set growth on");
    }
    cudaFree(regions->ballast);
    regions->ballast = NULL;
    bool good = grow_block(regions, kind, bytes, error);
    regions->ballast_bytes -= good ? more : 0;
    /* another process may be faster: the reservation is then smaller, and nothing is lost */
    if (cudaMalloc(&regions->ballast, regions->ballast_bytes) != cudaSuccess) {
        cudaGetLastError();
        regions->ballast = NULL;
        regions->ballast_bytes = 0;
    }
    return good;
}

/* Take back a growth of the weights: nothing lives in what is beyond `bytes`. */
static void shrink_weights(struct regions *regions, uint64_t bytes)
{
    struct region *region = &regions->region[REGION_WEIGHTS];
    if (regions->vmm != NULL) {
        arena_shrink(&region->arena, bytes, true);
        return;
    }
    uint64_t held = blocks_bytes(region);
    while (region->block_count > 0 &&
           held - region->blocks[region->block_count - 1].bytes >= bytes) {
        held -= region->blocks[region->block_count - 1].bytes;
        free_blocks(region, region->block_count - 1);
    }
}

bool regions_need(struct regions *regions, const uint64_t bytes[REGION_COUNT], struct error *error)
{
    uint64_t sum = 0, held[REGION_COUNT];
    for (int i = 0; i < REGION_COUNT; i++) {
        held[i] = regions_held_bytes(regions, (enum region_kind)i);
        sum += bytes[i];
    }
    if (regions->limit_bytes > 0 && sum > regions->limit_bytes) {
        return error_set(error, ERROR_MEMORY_LIMIT, "limit",
                         "%.0f MiB are needed (weights %.0f, activations %.0f, workspace %.0f) and "
                         "the limit is %.0f MiB",
                         (double)sum / MIB, (double)bytes[REGION_WEIGHTS] / MIB,
                         (double)bytes[REGION_ARENA] / MIB, (double)bytes[REGION_WORKSPACE] / MIB,
                         (double)regions->limit_bytes / MIB);
    }
    for (int i = 0; i < REGION_COUNT; i++) {
        if (grow(regions, (enum region_kind)i, bytes[i], error)) {
            continue;
        }
        for (int back = i - 1; back >= 0; back--) {
            if (regions->vmm != NULL) {
                arena_shrink(&regions->region[back].arena, held[back], true);
            } else if (back == REGION_WEIGHTS) {
                shrink_weights(regions, held[back]);
            } /* a grown block without vmm serves the old plans as well: it stays */
        }
        return false;
    }
    for (int i = 0; i < REGION_COUNT; i++) {
        regions->region[i].needed_bytes = bytes[i];
    }
    return true;
}

void regions_release(struct regions *regions, enum region_kind kind, uint64_t bytes)
{
    regions->region[kind].needed_bytes = bytes;
    if (kind == REGION_WEIGHTS) {
        shrink_weights(regions, bytes);
    }
}

void regions_trim(struct regions *regions)
{
    for (int i = 0; i < REGION_COUNT; i++) {
        struct region *region = &regions->region[i];
        if (regions->vmm != NULL) {
            uint64_t held = region->arena.mapped_bytes;
            arena_shrink(&region->arena, region->needed_bytes, i == REGION_WEIGHTS);
            /* the addresses stay, but a captured graph may hold on to the memory behind them */
            regions->generation += region->arena.mapped_bytes != held;
        } else if (i != REGION_WEIGHTS && blocks_bytes(region) > region->needed_bytes) {
            uint64_t needed = region->needed_bytes;
            struct error ignored;
            free_blocks(region, 0);
            regions->generation++;
            if (needed > 0) {
                add_block(region, needed, &ignored); /* what was just freed is there */
            }
        }
    }
}
