#include "engine/cuda/arena.h"
#include <stdlib.h>
#include <string.h>

void arena_init(struct arena *arena, const struct arena_mapper *mapper, uint64_t base,
                uint64_t reserved_bytes, uint64_t granularity, uint64_t chunk_bytes,
                bool fixed_chunks)
{
    memset(arena, 0, sizeof *arena);
    arena->mapper = mapper;
    arena->base = base;
    arena->reserved_bytes = reserved_bytes;
    arena->granularity = granularity;
    arena->chunk_bytes = chunk_bytes;
    arena->fixed_chunks = fixed_chunks;
}

uint64_t arena_rounded(const struct arena *arena, uint64_t bytes)
{
    uint64_t unit = arena->fixed_chunks ? arena->chunk_bytes : arena->granularity;
    return (bytes + unit - 1) / unit * unit;
}

/* Take and map one chunk at the end. */
static bool append(struct arena *arena, uint64_t bytes, struct error *error)
{
    const struct arena_mapper *mapper = arena->mapper;
    uint64_t handle, offset = arena->mapped_bytes;

    if (!mapper->take(mapper->context, bytes, &handle, error)) {
        return false;
    }
    if (!mapper->map(mapper->context, arena->base + offset, bytes, handle, error)) {
        mapper->give(mapper->context, bytes, handle);
        return false;
    }
    if (arena->chunk_count == arena->chunk_capacity) {
        arena->chunk_capacity = arena->chunk_capacity > 0 ? 2 * arena->chunk_capacity : 16;
        arena->chunks = xrealloc(arena->chunks, arena->chunk_capacity * sizeof *arena->chunks);
    }
    arena->chunks[arena->chunk_count++] =
        (struct arena_chunk){.offset = offset, .bytes = bytes, .handle = handle};
    arena->mapped_bytes += bytes;
    return true;
}

static void drop_last(struct arena *arena)
{
    const struct arena_mapper *mapper = arena->mapper;
    const struct arena_chunk *last = &arena->chunks[--arena->chunk_count];

    mapper->unmap(mapper->context, arena->base + last->offset, last->bytes);
    mapper->give(mapper->context, last->bytes, last->handle);
    arena->mapped_bytes = last->offset;
}

void arena_clear(struct arena *arena)
{
    while (arena->chunk_count > 0) {
        drop_last(arena);
    }
    free(arena->chunks);
    arena->chunks = NULL;
    arena->chunk_capacity = 0;
}

bool arena_grow(struct arena *arena, uint64_t bytes, struct error *error)
{
    uint64_t wanted = arena_rounded(arena, bytes);
    size_t before = arena->chunk_count;

    if (wanted < bytes || wanted > arena->reserved_bytes) {
        return error_set(error, ERROR_MEMORY, "device memory",
                         "%.0f MiB were asked for; the device cannot hold more than %.0f MiB",
                         (double)bytes / 1048576, (double)arena->reserved_bytes / 1048576);
    }
    while (arena->mapped_bytes < wanted) {
        uint64_t missing = wanted - arena->mapped_bytes;
        uint64_t next = missing < arena->chunk_bytes ? missing : arena->chunk_bytes;
        if (!append(arena, next, error)) {
            while (arena->chunk_count > before) {
                drop_last(arena);
            }
            return false;
        }
    }
    return true;
}

void arena_shrink(struct arena *arena, uint64_t bytes, bool keep)
{
    uint64_t wanted = arena_rounded(arena, bytes);

    while (arena->chunk_count > 0) {
        struct arena_chunk *last = &arena->chunks[arena->chunk_count - 1];
        if (last->offset >= wanted) {
            drop_last(arena);
            continue;
        }
        if (keep || arena->fixed_chunks || last->offset + last->bytes <= wanted) {
            return;
        }
        /* take the smaller piece before letting the larger one go: if that fails nothing is lost */
        const struct arena_mapper *mapper = arena->mapper;
        uint64_t handle, part = wanted - last->offset;
        if (!mapper->take(mapper->context, part, &handle, NULL)) {
            return;
        }
        uint64_t address = arena->base + last->offset;
        struct arena_chunk old = *last;
        mapper->unmap(mapper->context, address, old.bytes);
        if (mapper->map(mapper->context, address, part, handle, NULL)) {
            mapper->give(mapper->context, old.bytes, old.handle);
            last->bytes = part;
            last->handle = handle;
        } else {
            mapper->give(mapper->context, part, handle);
            if (!mapper->map(mapper->context, address, old.bytes, old.handle, NULL)) {
                mapper->give(mapper->context, old.bytes, old.handle);
                arena->chunk_count--;
                arena->mapped_bytes = old.offset;
                return;
            }
        }
        arena->mapped_bytes = last->offset + last->bytes;
        return;
    }
}
