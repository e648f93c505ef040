/* A range of device addresses that grows and shrinks in place: the bookkeeping, without CUDA.
 *
 * The addresses are reserved once, for more than the device could ever hold; physical memory is
 * mapped chunk by chunk from the start. Pointers into the range therefore stay valid when it grows,
 * in plans and in captured graphs. A growth that fails half-way gives back what it had taken, so
 * that the range is as before. The mapper does the real work: virtual memory management on a GPU
 * (vmm.h), a list in the tests.
 */
#ifndef LAYERTOP_ENGINE_CUDA_ARENA_H
#define LAYERTOP_ENGINE_CUDA_ARENA_H

#include "engine/error.h"
#include <stdint.h>

/* Physical memory. Offsets and bytes are multiples of the granularity. */
struct arena_mapper {
    void *context;
    /* Take physical memory; false with *error filled (ERROR_MEMORY). */
    bool (*take)(void *context, uint64_t bytes, uint64_t *handle, struct error *error);
    void (*give)(void *context, uint64_t bytes, uint64_t handle);
    bool (*map)(void *context, uint64_t address, uint64_t bytes, uint64_t handle,
                struct error *error);
    void (*unmap)(void *context, uint64_t address, uint64_t bytes);
};

struct arena_chunk {
    uint64_t offset, bytes, handle;
};

struct arena {
    const struct arena_mapper *mapper;
    uint64_t base;           /* first address */
    uint64_t reserved_bytes; /* addresses */
    uint64_t granularity;    /* of one mapping */
    uint64_t chunk_bytes;    /* largest single mapping; a multiple of the granularity */
    bool fixed_chunks;       /* every mapping is exactly chunk_bytes (a pool gives them) */
    uint64_t mapped_bytes;
    struct arena_chunk *chunks; /* in order of offset, without holes */
    size_t chunk_count, chunk_capacity;
};

void arena_init(struct arena *arena, const struct arena_mapper *mapper, uint64_t base,
                uint64_t reserved_bytes, uint64_t granularity, uint64_t chunk_bytes,
                bool fixed_chunks);
/* Unmap everything. The addresses are the caller's to free. */
void arena_clear(struct arena *arena);

/* Bytes that mapping at least `bytes` would hold: rounded up to whole mappings. */
uint64_t arena_rounded(const struct arena *arena, uint64_t bytes);

/* Map at least `bytes`; nothing happens if that much is mapped. On failure the arena is exactly as
 * before and *error is the mapper's (ERROR_MEMORY), or says that the addresses do not suffice. */
bool arena_grow(struct arena *arena, uint64_t bytes, struct error *error);

/* Unmap what lies beyond `bytes`. Contents below stay, but for those of a chunk that straddles the
 * limit: it is replaced by a smaller one, which only a caller who needs no contents may ask for
 * (`keep` false). Never fails: what cannot be replaced stays. */
void arena_shrink(struct arena *arena, uint64_t bytes, bool keep);

#endif
