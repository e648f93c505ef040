/* Virtual memory management of the driver: the real mapper behind an arena.
 *
 * cuMemAddressReserve, cuMemCreate and cuMemMap are reached through the runtime, so that nothing
 * links libcuda. With `growth off` the physical memory is taken at once, in chunks of one size, and
 * kept in a pool from which the arenas are mapped.
 * Threads: the engine thread, with the device current.
 */
#ifndef LAYERTOP_ENGINE_CUDA_VMM_H
#define LAYERTOP_ENGINE_CUDA_VMM_H

#include "engine/cuda/arena.h"

#define VMM_CHUNK_BYTES      (256ull << 20) /* largest single mapping with growth on */
#define VMM_POOL_CHUNK_BYTES (64ull << 20)  /* of the pool with growth off */

struct vmm;

/* Open on CUDA ordinal `device`. NULL without touching *error when the device or driver has no
 * virtual memory management; NULL with *error filled when it has and a call fails. */
struct vmm *vmm_open(int device, struct error *error, bool *supported);
void vmm_close(struct vmm *vmm); /* gives the pool back; arenas must be closed before */

/* Take up to `bytes` (whole chunks) into the pool; from then on arenas live off the pool only. */
bool vmm_reserve(struct vmm *vmm, uint64_t bytes, struct error *error);
/* Physical bytes in the pool that no arena has mapped. */
uint64_t vmm_idle_bytes(const struct vmm *vmm);

/* Reserve addresses for `reserved_bytes` and set up an empty arena on them. */
bool vmm_arena_open(struct vmm *vmm, struct arena *arena, uint64_t reserved_bytes,
                    struct error *error);
void vmm_arena_close(struct vmm *vmm, struct arena *arena);

#endif
