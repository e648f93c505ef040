/* The three regions of device memory that layertop holds: weights, activations, workspace.
 *
 * With virtual memory management each is an arena that grows and shrinks in place. Without (vGPU,
 * WSL) activations and workspace are one cudaMalloc block each, which moves when it grows (free,
 * try, and take the old size again on failure), and weights are a list of blocks. `generation`
 * counts moves: who keeps addresses compares it.
 *
 * `limit_bytes` fences the sum of what is needed in the three, not the context. With growth off the
 * memory that TensorFlow would reserve is taken at the start.
 * Threads: the engine thread, with the device current and its stream idle.
 */
#ifndef LAYERTOP_ENGINE_CUDA_REGIONS_H
#define LAYERTOP_ENGINE_CUDA_REGIONS_H

#include "engine/cuda/vmm.h"

enum region_kind { REGION_WEIGHTS, REGION_ARENA, REGION_WORKSPACE, REGION_COUNT };

struct region_block {
    void *address;
    uint64_t bytes;
};

struct region {
    struct arena arena;          /* with vmm */
    struct region_block *blocks; /* without: one, or the list of the weights */
    size_t block_count;
    uint64_t needed_bytes; /* by what lives in it now */
};

struct regions {
    struct vmm *vmm; /* NULL: not supported here */
    struct region region[REGION_COUNT];
    uint64_t limit_bytes;   /* 0: none */
    uint64_t ballast_bytes; /* growth off without vmm: held back until it is needed */
    void *ballast;
    uint64_t generation;
};

/* What TensorFlow leaves free on a device with `free_bytes` (its MinSystemMemory), bytes. */
uint64_t regions_system_bytes(uint64_t free_bytes, int compute_major);

/* Set up on the current device (CUDA ordinal `device`). */
bool regions_open(struct regions *regions, int device, bool growth, uint64_t limit_bytes,
                  int compute_major, struct error *error);
void regions_close(struct regions *regions);

/* Make `bytes[kind]` available in every region, all or nothing. Errors: ERROR_MEMORY_LIMIT,
 * ERROR_MEMORY with what was asked for and what is free; all regions are then as before. */
bool regions_need(struct regions *regions, const uint64_t bytes[REGION_COUNT], struct error *error);
/* Say that less is needed now. Memory is kept until regions_trim(), but for weights that were just
 * added and are taken back. */
void regions_release(struct regions *regions, enum region_kind kind, uint64_t bytes);
/* Give back what is not needed (growth on). */
void regions_trim(struct regions *regions);

/* Address of byte `offset`; in the weights region the offset must be one that a growth began at, or
 * lie within that growth. */
void *regions_address(const struct regions *regions, enum region_kind kind, uint64_t offset);

/* Bytes that a region of `bytes` would hold: whole mappings. */
uint64_t regions_rounded(const struct regions *regions, enum region_kind kind, uint64_t bytes);
/* What the regions may fill: what they hold, what is kept for them, and with growth on what the
 * device has free. *largest: the largest single block to be had now, UINT64_MAX if not known. */
uint64_t regions_room_bytes(const struct regions *regions, uint64_t free_bytes, uint64_t *largest);

/* Physical bytes held in a region, and bytes held in all that nothing needs. */
uint64_t regions_held_bytes(const struct regions *regions, enum region_kind kind);
uint64_t regions_idle_bytes(const struct regions *regions);

#endif
