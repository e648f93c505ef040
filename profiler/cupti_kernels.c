/* A hash table from name and shape to a number, open addressing. */
#include "profiler/cupti_kernels.h"

#include "profiler/demangle.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KERNELS_MAX 65536

struct entry {
    struct gpu_kernel shape; /* its name demangled */
    char *mangled;
};

struct cupti_kernels {
    pthread_mutex_t lock;  /* count and entries: they move when they grow */
    struct entry *entries; /* [count], number - 1 */
    uint32_t count, capacity;
    uint32_t *slots; /* numbers; 0: empty. The adding thread's alone */
    uint32_t slot_count;
};

struct cupti_kernels *cupti_kernels_new(void)
{
    struct cupti_kernels *kernels = xcalloc(1, sizeof *kernels);
    pthread_mutex_init(&kernels->lock, NULL);
    kernels->slot_count = 1024;
    kernels->slots = xcalloc(kernels->slot_count, sizeof *kernels->slots);
    return kernels;
}

void cupti_kernels_free(struct cupti_kernels *kernels)
{
    if (!kernels)
        return;
    for (uint32_t i = 0; i < kernels->count; i++) {
        free((void *)(uintptr_t)kernels->entries[i].shape.name);
        free(kernels->entries[i].mangled);
    }
    free(kernels->entries);
    free(kernels->slots);
    pthread_mutex_destroy(&kernels->lock);
    free(kernels);
}

static bool same_shape(const struct gpu_kernel *a, const struct gpu_kernel *b)
{
    return memcmp(a->grid, b->grid, sizeof a->grid) == 0 &&
           memcmp(a->block, b->block, sizeof a->block) == 0 && a->registers == b->registers &&
           a->shared_static_bytes == b->shared_static_bytes &&
           a->shared_dynamic_bytes == b->shared_dynamic_bytes;
}

/* FNV-1a over the shape and the first letters of the name: the rest is compared */
static uint32_t hash(const struct gpu_kernel *shape, const char *name)
{
    uint32_t value = 2166136261u;
    const uint32_t numbers[] = {shape->grid[0],
                                shape->grid[1],
                                shape->grid[2],
                                shape->block[0],
                                shape->block[1],
                                shape->block[2],
                                shape->registers,
                                shape->shared_static_bytes,
                                shape->shared_dynamic_bytes};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        value = (value ^ numbers[i]) * 16777619u;
    for (size_t i = 0; i < 64 && name[i]; i++)
        value = (value ^ (uint8_t)name[i]) * 16777619u;
    return value ^ value >> 15;
}

/* The slot that holds the kernel, or the empty one where it belongs */
static uint32_t *slot_of(struct cupti_kernels *kernels, const struct gpu_kernel *shape,
                         const char *mangled)
{
    for (uint32_t at = hash(shape, mangled);; at++) {
        uint32_t *slot = &kernels->slots[at & (kernels->slot_count - 1)];
        if (*slot == 0)
            return slot;
        const struct entry *entry = &kernels->entries[*slot - 1];
        if (same_shape(&entry->shape, shape) && strcmp(entry->mangled, mangled) == 0)
            return slot;
    }
}

static void slots_double(struct cupti_kernels *kernels)
{
    free(kernels->slots);
    kernels->slot_count *= 2;
    kernels->slots = xcalloc(kernels->slot_count, sizeof *kernels->slots);
    for (uint32_t i = 0; i < kernels->count; i++)
        *slot_of(kernels, &kernels->entries[i].shape, kernels->entries[i].mangled) = i + 1;
}

uint32_t cupti_kernels_add(struct cupti_kernels *kernels, const struct gpu_kernel *shape)
{
    const char *mangled = shape->name ? shape->name : "?";
    uint32_t *slot = slot_of(kernels, shape, mangled);
    if (*slot)
        return *slot;
    if (kernels->count == KERNELS_MAX)
        return 0;
    struct entry entry = {.shape = *shape, .mangled = xstrdup(mangled)};
    entry.shape.name = demangle(mangled);
    pthread_mutex_lock(&kernels->lock);
    if (kernels->count == kernels->capacity) {
        kernels->capacity = kernels->capacity ? kernels->capacity * 2 : 256;
        kernels->entries = xrealloc(kernels->entries, kernels->capacity * sizeof *kernels->entries);
    }
    kernels->entries[kernels->count++] = entry;
    uint32_t number = kernels->count;
    pthread_mutex_unlock(&kernels->lock);
    *slot = number;
    if (kernels->count * 2 > kernels->slot_count)
        slots_double(kernels);
    return number;
}

bool cupti_kernels_get(struct cupti_kernels *kernels, uint32_t number, struct gpu_kernel *out)
{
    pthread_mutex_lock(&kernels->lock);
    bool found = number > 0 && number <= kernels->count;
    if (found)
        *out = kernels->entries[number - 1].shape;
    pthread_mutex_unlock(&kernels->lock);
    return found;
}
