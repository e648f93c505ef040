/* Made-up CUPTI activity records, for tests of what reads them. Times are in nanoseconds.
 */
#ifndef LAYERTOP_TESTS_SUPPORT_ACTIVITY_H
#define LAYERTOP_TESTS_SUPPORT_ACTIVITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef LAYERTOP_CUDA_HEADERS
#include "profiler/cupti_api.h"

/* One record of any kind as bytes. */
struct activity {
    size_t bytes;
    _Alignas(8) uint8_t data[256];
};

/* A kernel; node is 0 outside graphs. */
struct activity activity_kernel(uint32_t correlation, int64_t start, int64_t end, uint64_t node);

struct activity activity_copy(uint32_t correlation, int64_t start, int64_t end, uint64_t bytes);

/* What says that a correlation belongs to a tag. */
struct activity activity_link(uint32_t correlation, uint64_t tag);

/* One launch of a graph that is recorded as a whole. */
struct activity activity_graph(uint32_t correlation, int64_t start, int64_t end);

/* A call of the runtime. */
struct activity activity_call(uint32_t correlation);

/* Device memory allocated, or released, at a time. */
struct activity activity_allocation(bool release, uint64_t address, uint64_t bytes, int64_t time);
/* An allocation from a pool (or its release), which holds `pool_bytes` then; a pool that was trimmed
 * to so many bytes, or destroyed. */
struct activity activity_pooled(bool release, uint64_t pool, uint64_t pool_bytes, int64_t time);
struct activity activity_pool(bool destroyed, uint64_t pool, uint64_t bytes, int64_t time);

/* What cuptiActivityGetNextRecord does, for machines without the library: knows the sizes of the
 * kinds above. */
CUptiResult CUPTIAPI activity_walk(uint8_t *buffer, size_t valid, CUpti_Activity **record);
#endif

#endif
