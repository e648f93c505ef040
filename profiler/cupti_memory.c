/* Which device allocations are a library's. */
#include "profiler/cupti_memory.h"

#include "engine/error.h"

#include <pthread.h>
#include <stdlib.h>

#define CLAIMS         64
#define CLAIM_NS       INT64_C(1000000000)
#define ROUNDING_BYTES (UINT64_C(2) << 20)
#define BLOCKS_MAX     65536 /* live allocations that are remembered */
#define POOLS_MAX      64

struct claim { /* our allocator grew by this much */
    uint64_t bytes;
    int64_t time_ns;
};
struct block {
    uint64_t address, bytes;
    int64_t time_ns;
};

struct pool {
    uint64_t address, bytes;
    int64_t time_ns;
};

struct cupti_memory {
    pthread_mutex_t lock;
    struct claim claims[CLAIMS];
    size_t claim_at;
    struct block *blocks; /* live, of libraries */
    size_t count, capacity;
    struct pool pools[POOLS_MAX];
    size_t pool_count;
    uint64_t library_bytes; /* of blocks and pools */
};

struct cupti_memory *cupti_memory_new(void)
{
    struct cupti_memory *memory = xcalloc(1, sizeof *memory);
    pthread_mutex_init(&memory->lock, NULL);
    return memory;
}

void cupti_memory_free(struct cupti_memory *memory)
{
    pthread_mutex_destroy(&memory->lock);
    free(memory->blocks);
    free(memory);
}

static bool matches(uint64_t claimed, int64_t claimed_ns, uint64_t bytes, int64_t time_ns)
{
    int64_t apart = claimed_ns > time_ns ? claimed_ns - time_ns : time_ns - claimed_ns;
    return claimed && bytes >= claimed && bytes - claimed <= ROUNDING_BYTES && apart <= CLAIM_NS;
}

static void block_remove(struct cupti_memory *memory, size_t index)
{
    memory->library_bytes -= memory->blocks[index].bytes;
    memory->blocks[index] = memory->blocks[--memory->count];
}

void cupti_memory_allocated(struct cupti_memory *memory, uint64_t address, uint64_t bytes,
                            int64_t time_ns)
{
    pthread_mutex_lock(&memory->lock);
    bool ours = false;
    for (size_t i = 0; i < CLAIMS && !ours; i++) {
        if (!matches(memory->claims[i].bytes, memory->claims[i].time_ns, bytes, time_ns))
            continue;
        memory->claims[i].bytes = 0;
        ours = true;
    }
    if (!ours && memory->count < BLOCKS_MAX) {
        if (memory->count == memory->capacity) {
            memory->capacity = memory->capacity ? memory->capacity * 2 : 64;
            memory->blocks = xrealloc(memory->blocks, memory->capacity * sizeof *memory->blocks);
        }
        memory->blocks[memory->count++] = (struct block){address, bytes, time_ns};
        memory->library_bytes += bytes;
    }
    pthread_mutex_unlock(&memory->lock);
}

void cupti_memory_released(struct cupti_memory *memory, uint64_t address)
{
    pthread_mutex_lock(&memory->lock);
    for (size_t i = memory->count; i-- > 0;) {
        if (memory->blocks[i].address != address)
            continue;
        block_remove(memory, i);
        break;
    }
    pthread_mutex_unlock(&memory->lock);
}

void cupti_memory_ours(struct cupti_memory *memory, int64_t delta_bytes, int64_t now_ns)
{
    if (delta_bytes <= 0)
        return; /* a release is known by its address, or it was never counted */
    uint64_t bytes = (uint64_t)delta_bytes;
    pthread_mutex_lock(&memory->lock);
    /* the record may have been decoded before the allocator spoke */
    bool found = false;
    for (size_t i = memory->count; i-- > 0 && !found;) {
        if (matches(bytes, now_ns, memory->blocks[i].bytes, memory->blocks[i].time_ns)) {
            block_remove(memory, i);
            found = true;
        }
    }
    if (!found) {
        memory->claims[memory->claim_at] = (struct claim){bytes, now_ns};
        memory->claim_at = (memory->claim_at + 1) % CLAIMS;
    }
    pthread_mutex_unlock(&memory->lock);
}

void cupti_memory_pool(struct cupti_memory *memory, uint64_t pool, uint64_t bytes, int64_t time_ns)
{
    pthread_mutex_lock(&memory->lock);
    size_t at = 0;
    while (at < memory->pool_count && memory->pools[at].address != pool)
        at++;
    if (at == memory->pool_count && at < POOLS_MAX)
        memory->pools[memory->pool_count++] = (struct pool){pool, 0, time_ns};
    /* records come in no order */
    if (at < memory->pool_count && time_ns >= memory->pools[at].time_ns) {
        memory->library_bytes += bytes - memory->pools[at].bytes;
        memory->pools[at].bytes = bytes;
        memory->pools[at].time_ns = time_ns;
    }
    pthread_mutex_unlock(&memory->lock);
}

uint64_t cupti_memory_library_bytes(const struct cupti_memory *memory)
{
    /* the lock is no part of the value */
    pthread_mutex_t *lock = &((struct cupti_memory *)(uintptr_t)memory)->lock;
    pthread_mutex_lock(lock);
    uint64_t bytes = memory->library_bytes;
    pthread_mutex_unlock(lock);
    return bytes;
}
