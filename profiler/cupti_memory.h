/* Device memory that is not our allocator's, told from CUPTI's memory records: see
 * cupti_decode.h for the method. Any thread. */
#ifndef LAYERTOP_PROFILER_CUPTI_MEMORY_H
#define LAYERTOP_PROFILER_CUPTI_MEMORY_H

#include <stdint.h>

struct cupti_memory;
struct cupti_memory *cupti_memory_new(void);
void cupti_memory_free(struct cupti_memory *memory);
void cupti_memory_allocated(struct cupti_memory *memory, uint64_t address, uint64_t bytes,
                            int64_t time_ns);
void cupti_memory_released(struct cupti_memory *memory, uint64_t address);
void cupti_memory_ours(struct cupti_memory *memory, int64_t delta_bytes, int64_t now_ns);
/* A pool (cudaMallocAsync; none of ours) holds so much now, whatever is allocated from it. Of two
 * tellings the later one counts; 0: it is gone. */
void cupti_memory_pool(struct cupti_memory *memory, uint64_t pool, uint64_t bytes, int64_t time_ns);
uint64_t cupti_memory_library_bytes(const struct cupti_memory *memory);

#endif
