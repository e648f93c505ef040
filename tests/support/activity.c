#include "tests/support/activity.h"

#ifdef LAYERTOP_CUDA_HEADERS
#include <string.h>

static size_t record_size(CUpti_ActivityKind kind)
{
    switch ((int)kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
        return sizeof(CUpti_ActivityKernel10);
    case CUPTI_ACTIVITY_KIND_MEMCPY:
        return sizeof(CUpti_ActivityMemcpy6);
    case CUPTI_ACTIVITY_KIND_MEMSET:
        return sizeof(CUpti_ActivityMemset4);
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION:
        return sizeof(CUpti_ActivityExternalCorrelation);
    case CUPTI_ACTIVITY_KIND_RUNTIME:
        return sizeof(CUpti_ActivityAPI);
    case CUPTI_ACTIVITY_KIND_OVERHEAD:
        return sizeof(CUpti_ActivityOverhead3);
    case CUPTI_ACTIVITY_KIND_MEMORY2:
        return sizeof(CUpti_ActivityMemory4);
    case CUPTI_ACTIVITY_KIND_MEMORY_POOL:
        return sizeof(CUpti_ActivityMemoryPool3);
    case CUPTI_ACTIVITY_KIND_GRAPH_TRACE:
        return sizeof(CUpti_ActivityGraphTrace2);
    default:
        return 0;
    }
}

CUptiResult CUPTIAPI activity_walk(uint8_t *buffer, size_t valid, CUpti_Activity **record)
{
    uint8_t *next = buffer;
    if (*record) {
        CUpti_ActivityKind kind;
        memcpy(&kind, *record, sizeof kind);
        next = (uint8_t *)*record + record_size(kind);
    }
    if (next + 4 > buffer + valid)
        return CUPTI_ERROR_MAX_LIMIT_REACHED;
    CUpti_ActivityKind kind;
    memcpy(&kind, next, sizeof kind);
    size_t size = record_size(kind);
    if (size == 0)
        return CUPTI_ERROR_INVALID_KIND;
    if (next + size > buffer + valid)
        return CUPTI_ERROR_MAX_LIMIT_REACHED;
    *record = (CUpti_Activity *)(void *)next;
    return CUPTI_SUCCESS;
}

static struct activity activity_of(const void *record, size_t bytes)
{
    struct activity activity = {.bytes = bytes};
    memcpy(activity.data, record, bytes);
    return activity;
}

struct activity activity_kernel(uint32_t correlation, int64_t start, int64_t end, uint64_t node)
{
    CUpti_ActivityKernel10 record;
    memset(&record, 0, sizeof record);
    record.kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    record.correlationId = correlation;
    record.start = (uint64_t)start;
    record.end = (uint64_t)end;
    record.graphNodeId = node;
    return activity_of(&record, sizeof record);
}

struct activity activity_copy(uint32_t correlation, int64_t start, int64_t end, uint64_t bytes)
{
    CUpti_ActivityMemcpy6 record;
    memset(&record, 0, sizeof record);
    record.kind = CUPTI_ACTIVITY_KIND_MEMCPY;
    record.correlationId = correlation;
    record.start = (uint64_t)start;
    record.end = (uint64_t)end;
    record.bytes = bytes;
    return activity_of(&record, sizeof record);
}

struct activity activity_link(uint32_t correlation, uint64_t tag)
{
    CUpti_ActivityExternalCorrelation record;
    memset(&record, 0, sizeof record);
    record.kind = CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION;
    record.externalKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
    record.externalId = tag;
    record.correlationId = correlation;
    return activity_of(&record, sizeof record);
}

struct activity activity_graph(uint32_t correlation, int64_t start, int64_t end)
{
    CUpti_ActivityGraphTrace2 record;
    memset(&record, 0, sizeof record);
    record.kind = CUPTI_ACTIVITY_KIND_GRAPH_TRACE;
    record.correlationId = correlation;
    record.start = (uint64_t)start;
    record.end = (uint64_t)end;
    return activity_of(&record, sizeof record);
}

struct activity activity_call(uint32_t correlation)
{
    CUpti_ActivityAPI record;
    memset(&record, 0, sizeof record);
    record.kind = CUPTI_ACTIVITY_KIND_RUNTIME;
    record.correlationId = correlation;
    return activity_of(&record, sizeof record);
}

struct activity activity_allocation(bool release, uint64_t address, uint64_t bytes, int64_t time)
{
    CUpti_ActivityMemory4 record;
    memset(&record, 0, sizeof record);
    record.kind = CUPTI_ACTIVITY_KIND_MEMORY2;
    record.memoryOperationType = release ? CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_RELEASE
                                         : CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION;
    record.memoryKind = CUPTI_ACTIVITY_MEMORY_KIND_DEVICE;
    record.address = address;
    record.bytes = bytes;
    record.timestamp = (uint64_t)time;
    return activity_of(&record, sizeof record);
}

struct activity activity_pooled(bool release, uint64_t pool, uint64_t pool_bytes, int64_t time)
{
    CUpti_ActivityMemory4 record;
    struct activity activity = activity_allocation(release, 0x77000, 4096, time);
    memcpy(&record, activity.data, sizeof record);
    record.memoryPoolConfig.memoryPoolType = CUPTI_ACTIVITY_MEMORY_POOL_TYPE_LOCAL;
    record.memoryPoolConfig.address = pool;
    record.memoryPoolConfig.pool.size = pool_bytes;
    return activity_of(&record, sizeof record);
}

struct activity activity_pool(bool destroyed, uint64_t pool, uint64_t bytes, int64_t time)
{
    CUpti_ActivityMemoryPool3 record;
    memset(&record, 0, sizeof record);
    record.kind = CUPTI_ACTIVITY_KIND_MEMORY_POOL;
    record.memoryPoolOperationType = destroyed ? CUPTI_ACTIVITY_MEMORY_POOL_OPERATION_TYPE_DESTROYED
                                               : CUPTI_ACTIVITY_MEMORY_POOL_OPERATION_TYPE_TRIMMED;
    record.memoryPoolType = CUPTI_ACTIVITY_MEMORY_POOL_TYPE_LOCAL;
    record.address = pool;
    record.size = bytes;
    record.timestamp = (uint64_t)time;
    return activity_of(&record, sizeof record);
}
#endif
