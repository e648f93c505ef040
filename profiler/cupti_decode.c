/* Decoding and joining of activity records: see cupti_decode.h. */
#ifdef LAYERTOP_CUDA_HEADERS
#include "profiler/cupti_decode.h"

#include "profiler/cupti_kernels.h"
#include "profiler/cupti_memory.h"
#include "profiler/cupti_nodes.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_FLUSHES 2

/* Records only ever grow at their end: what is read here lies where it has lain since CUDA 12, so
 * records of another CUPTI can be read as these. */
_Static_assert(offsetof(CUpti_ActivityKernel10, start) == 16, "kernel record");
_Static_assert(offsetof(CUpti_ActivityKernel10, end) == 24, "kernel record");
_Static_assert(offsetof(CUpti_ActivityKernel10, correlationId) == 92, "kernel record");
_Static_assert(offsetof(CUpti_ActivityKernel10, graphNodeId) == 144, "kernel record");
_Static_assert(offsetof(CUpti_ActivityKernel10, registersPerThread) == 6, "kernel record");
_Static_assert(offsetof(CUpti_ActivityKernel10, gridX) == 52, "kernel record");
_Static_assert(offsetof(CUpti_ActivityKernel10, dynamicSharedMemory) == 80, "kernel record");
_Static_assert(offsetof(CUpti_ActivityKernel10, name) == 104, "kernel record");
_Static_assert(offsetof(CUpti_ActivityMemcpy6, copyKind) == 4, "memcpy record");
_Static_assert(offsetof(CUpti_ActivityMemcpy6, bytes) == 8, "memcpy record");
_Static_assert(offsetof(CUpti_ActivityMemcpy6, start) == 16, "memcpy record");
_Static_assert(offsetof(CUpti_ActivityMemcpy6, end) == 24, "memcpy record");
_Static_assert(offsetof(CUpti_ActivityMemcpy6, correlationId) == 44, "memcpy record");
_Static_assert(offsetof(CUpti_ActivityMemset4, bytes) == 8, "memset record");
_Static_assert(offsetof(CUpti_ActivityMemset4, start) == 16, "memset record");
_Static_assert(offsetof(CUpti_ActivityMemset4, end) == 24, "memset record");
_Static_assert(offsetof(CUpti_ActivityMemset4, correlationId) == 44, "memset record");
_Static_assert(offsetof(CUpti_ActivityExternalCorrelation, externalKind) == 4, "correlation");
_Static_assert(offsetof(CUpti_ActivityExternalCorrelation, externalId) == 8, "correlation");
_Static_assert(offsetof(CUpti_ActivityExternalCorrelation, correlationId) == 16, "correlation");
_Static_assert(offsetof(CUpti_ActivityGraphTrace2, start) == 8, "graph record");
_Static_assert(offsetof(CUpti_ActivityGraphTrace2, end) == 16, "graph record");
_Static_assert(offsetof(CUpti_ActivityMemory4, memoryOperationType) == 4, "memory record");
_Static_assert(offsetof(CUpti_ActivityMemory4, memoryKind) == 8, "memory record");
_Static_assert(offsetof(CUpti_ActivityMemory4, address) == 16, "memory record");
_Static_assert(offsetof(CUpti_ActivityMemory4, bytes) == 24, "memory record");
_Static_assert(offsetof(CUpti_ActivityMemory4, timestamp) == 32, "memory record");
_Static_assert(offsetof(CUpti_ActivityOverhead3, objectId) == 12, "overhead record");
_Static_assert(offsetof(CUpti_ActivityOverhead3, start) == 24, "overhead record");
_Static_assert(offsetof(CUpti_ActivityOverhead3, end) == 32, "overhead record");
_Static_assert(offsetof(CUpti_ActivityOverhead3, overheadData) == 48, "overhead record");

struct correlation {
    uint32_t id; /* 0: empty; CUPTI counts from 1 */
    uint64_t tag;
};

struct waiting_event {
    struct gpu_event event;
    uint32_t correlation;
    uint32_t flushes; /* lived through */
};

struct cupti_decoder {
    __typeof__(cuptiActivityGetNextRecord) *next_record;
    bool owns_pointers;
    atomic_uint thread;
    struct correlation *correlations; /* [CUPTI_CORRELATIONS], slot = id modulo its length: ids are
                                         handed out in order, so no two recent ones meet */
    struct waiting_event *waiting;
    size_t waiting_count, waiting_capacity;
    struct gpu_event *events;
    size_t event_count, event_capacity;
    struct cupti_kernels *kernels;
    struct cupti_nodes *nodes;
    struct cupti_memory *memory;
    struct gpu_losses losses;
    uint64_t untagged, linked;
};

struct cupti_decoder *cupti_decoder_new(__typeof__(cuptiActivityGetNextRecord) *next_record,
                                        bool owns_pointers)
{
    struct cupti_decoder *decoder = xcalloc(1, sizeof *decoder);
    decoder->next_record = next_record;
    decoder->owns_pointers = owns_pointers;
    decoder->correlations = xcalloc(CUPTI_CORRELATIONS, sizeof *decoder->correlations);
    decoder->kernels = cupti_kernels_new();
    decoder->nodes = cupti_nodes_new();
    decoder->memory = cupti_memory_new();
    return decoder;
}

void cupti_decoder_free(struct cupti_decoder *decoder)
{
    if (!decoder)
        return;
    free(decoder->correlations);
    free(decoder->waiting);
    free(decoder->events);
    cupti_kernels_free(decoder->kernels);
    cupti_nodes_free(decoder->nodes);
    cupti_memory_free(decoder->memory);
    free(decoder);
}

void cupti_decoder_thread(struct cupti_decoder *decoder, uint32_t thread)
{
    atomic_store(&decoder->thread, thread);
}

static void event_ready(struct cupti_decoder *decoder, const struct gpu_event *event)
{
    if (decoder->event_count == decoder->event_capacity) {
        decoder->event_capacity = decoder->event_capacity ? decoder->event_capacity * 2 : 1024;
        decoder->events =
            xrealloc(decoder->events, decoder->event_capacity * sizeof *decoder->events);
    }
    decoder->events[decoder->event_count++] = *event;
}

static void event_wait(struct cupti_decoder *decoder, const struct gpu_event *event,
                       uint32_t correlation)
{
    if (decoder->waiting_count == decoder->waiting_capacity) {
        decoder->waiting_capacity = decoder->waiting_capacity ? decoder->waiting_capacity * 2 : 256;
        decoder->waiting =
            xrealloc(decoder->waiting, decoder->waiting_capacity * sizeof *decoder->waiting);
    }
    decoder->waiting[decoder->waiting_count++] = (struct waiting_event){*event, correlation, 0};
}

static bool correlate(const struct cupti_decoder *decoder, struct gpu_event *event,
                      uint32_t correlation)
{
    const struct correlation *known = &decoder->correlations[correlation % CUPTI_CORRELATIONS];
    if (correlation == 0 || known->id != correlation)
        return false;
    event->tag = known->tag;
    if (event->op == GPU_OP_NONE)
        event->op = gpu_tag_op(known->tag);
    return true;
}

/* A kernel or copy: `node` is its graph node, 0 outside graphs; `detail` and `bytes` as in its event */
static void add_work(struct cupti_decoder *decoder, enum gpu_event_kind kind, uint32_t detail,
                     uint64_t start, uint64_t end, uint64_t bytes, uint32_t correlation,
                     uint64_t node)
{
    if (start == 0 && end == 0) {
        decoder->losses.untimed++;
        return;
    }
    if (end < start)
        end = start; /* GPU times are rounded when they are mapped onto the host's */
    struct gpu_event event = {
        .op = node ? cupti_nodes_find(decoder->nodes, node) : GPU_OP_NONE,
        .start_ns = (int64_t)start,
        .end_ns = (int64_t)end,
        .kind = kind,
        .detail = detail,
        .bytes = bytes,
    };
    /* graph launches have had wrong correlation ids (CUDA 13.0): the node names the op, and the
     * time the step, since each step is synchronised before it ends */
    if (event.op != GPU_OP_NONE || correlate(decoder, &event, correlation))
        event_ready(decoder, &event);
    else
        event_wait(decoder, &event, correlation);
}

/* Names are CUPTI's, for as long as their module lives: they are copied at first sight */
static uint32_t kernel_number(struct cupti_decoder *decoder, const CUpti_ActivityKernel10 *record)
{
    const struct gpu_kernel shape = {
        .name = record->name,
        .grid = {(uint32_t)record->gridX, (uint32_t)record->gridY, (uint32_t)record->gridZ},
        .block = {(uint32_t)record->blockX, (uint32_t)record->blockY, (uint32_t)record->blockZ},
        .registers = record->registersPerThread,
        .shared_static_bytes = (uint32_t)record->staticSharedMemory,
        .shared_dynamic_bytes = (uint32_t)record->dynamicSharedMemory,
    };
    return cupti_kernels_add(decoder->kernels, &shape);
}

/* One launch of a whole graph. Its correlation id is not trusted (see above): its time says which
 * step launched it. */
static void add_graph(struct cupti_decoder *decoder, const CUpti_ActivityGraphTrace2 *record)
{
    if (record->start == 0 && record->end == 0) {
        decoder->losses.untimed++;
        return;
    }
    struct gpu_event event = {
        .op = GPU_OP_NONE,
        .start_ns = (int64_t)record->start,
        .end_ns = (int64_t)(record->end > record->start ? record->end : record->start),
        .kind = GPU_EVENT_GRAPH,
    };
    event_ready(decoder, &event);
}

static void add_overhead(struct cupti_decoder *decoder, const CUpti_ActivityOverhead3 *record)
{
    if (record->objectKind == CUPTI_ACTIVITY_OBJECT_THREAD && record->start < record->end &&
        record->objectId.pt.threadId == atomic_load(&decoder->thread)) {
        struct gpu_event event = {
            .op = GPU_OP_NONE,
            .start_ns = (int64_t)record->start,
            .end_ns = (int64_t)record->end,
            .kind = GPU_EVENT_OVERHEAD,
            .detail = (uint32_t)record->overheadKind,
        };
        event_ready(decoder, &event);
    }
    if (decoder->owns_pointers)
        free(record->overheadData);
}

static void add_memory(struct cupti_decoder *decoder, const CUpti_ActivityMemory4 *record)
{
    if (record->memoryKind != CUPTI_ACTIVITY_MEMORY_KIND_DEVICE)
        return;
    /* what comes out of a pool is in the pool's size; a pool of another process is not ours */
    if (record->memoryPoolConfig.memoryPoolType != CUPTI_ACTIVITY_MEMORY_POOL_TYPE_INVALID) {
        if (record->memoryPoolConfig.memoryPoolType == CUPTI_ACTIVITY_MEMORY_POOL_TYPE_LOCAL)
            cupti_memory_pool(decoder->memory, record->memoryPoolConfig.address,
                              record->memoryPoolConfig.pool.size, (int64_t)record->timestamp);
        return;
    }
    if (record->memoryOperationType == CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION)
        cupti_memory_allocated(decoder->memory, record->address, record->bytes,
                               (int64_t)record->timestamp);
    else if (record->memoryOperationType == CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_RELEASE)
        cupti_memory_released(decoder->memory, record->address);
}

static void add_pool(struct cupti_decoder *decoder, const CUpti_ActivityMemoryPool3 *record)
{
    bool gone =
        record->memoryPoolOperationType == CUPTI_ACTIVITY_MEMORY_POOL_OPERATION_TYPE_DESTROYED;
    if (record->memoryPoolType == CUPTI_ACTIVITY_MEMORY_POOL_TYPE_LOCAL)
        cupti_memory_pool(decoder->memory, record->address, gone ? 0 : record->size,
                          (int64_t)record->timestamp);
}

/* GCC warns of casts that raise alignment; CUPTI aligns its records to 8 bytes */
#define RECORD_AS(type, record) ((const type *)(const void *)(record))

static void add_record(struct cupti_decoder *decoder, const CUpti_Activity *record)
{
    switch ((int)record->kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const CUpti_ActivityKernel10 *kernel = RECORD_AS(CUpti_ActivityKernel10, record);
        add_work(decoder, GPU_EVENT_KERNEL, kernel_number(decoder, kernel), kernel->start,
                 kernel->end, 0, kernel->correlationId, kernel->graphNodeId);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
        const CUpti_ActivityMemcpy6 *copy = RECORD_AS(CUpti_ActivityMemcpy6, record);
        add_work(decoder, GPU_EVENT_COPY,
                 gpu_copy_detail(copy->copyKind, copy->srcKind, copy->dstKind), copy->start,
                 copy->end, copy->bytes, copy->correlationId, copy->graphNodeId);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
        const CUpti_ActivityMemset4 *set = RECORD_AS(CUpti_ActivityMemset4, record);
        add_work(decoder, GPU_EVENT_COPY, gpu_copy_detail(GPU_COPY_SET, 0, set->memoryKind),
                 set->start, set->end, set->bytes, set->correlationId, set->graphNodeId);
        break;
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
        const CUpti_ActivityExternalCorrelation *link =
            RECORD_AS(CUpti_ActivityExternalCorrelation, record);
        if (link->externalKind != CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0)
            break;
        decoder->correlations[link->correlationId % CUPTI_CORRELATIONS] =
            (struct correlation){link->correlationId, link->externalId};
        decoder->linked++;
        break;
    }
    case CUPTI_ACTIVITY_KIND_GRAPH_TRACE:
        add_graph(decoder, RECORD_AS(CUpti_ActivityGraphTrace2, record));
        break;
    case CUPTI_ACTIVITY_KIND_OVERHEAD:
        add_overhead(decoder, RECORD_AS(CUpti_ActivityOverhead3, record));
        break;
    case CUPTI_ACTIVITY_KIND_MEMORY2:
        add_memory(decoder, RECORD_AS(CUpti_ActivityMemory4, record));
        break;
    case CUPTI_ACTIVITY_KIND_MEMORY_POOL:
        add_pool(decoder, RECORD_AS(CUpti_ActivityMemoryPool3, record));
        break;
    default:
        break;
    }
}

/* Hand on the waiting events whose correlation has come; those that have waited too long go on
 * without */
static void retry_waiting(struct cupti_decoder *decoder, bool flushed)
{
    size_t kept = 0;
    for (size_t i = 0; i < decoder->waiting_count; i++) {
        struct waiting_event *one = &decoder->waiting[i];
        if (correlate(decoder, &one->event, one->correlation)) {
            event_ready(decoder, &one->event);
        } else if (flushed && ++one->flushes >= WAIT_FLUSHES) {
            decoder->untagged++;
            event_ready(decoder, &one->event);
        } else {
            decoder->waiting[kept++] = *one;
        }
    }
    decoder->waiting_count = kept;
}

bool cupti_decoder_buffer(struct cupti_decoder *decoder, uint8_t *buffer, size_t valid)
{
    CUpti_Activity *record = NULL;
    CUptiResult result = CUPTI_SUCCESS;
    while (valid > 0 && (result = decoder->next_record(buffer, valid, &record)) == CUPTI_SUCCESS)
        add_record(decoder, record);
    retry_waiting(decoder, false);
    if (result == CUPTI_SUCCESS || result == CUPTI_ERROR_MAX_LIMIT_REACHED)
        return true;
    decoder->losses.dropped++;
    return false;
}

void cupti_decoder_flushed(struct cupti_decoder *decoder)
{
    retry_waiting(decoder, true);
}

const struct gpu_event *cupti_decoder_events(const struct cupti_decoder *decoder, size_t *count)
{
    *count = decoder->event_count;
    return decoder->events;
}

void cupti_decoder_clear(struct cupti_decoder *decoder)
{
    decoder->event_count = 0;
}

void cupti_decoder_drops(struct cupti_decoder *decoder, uint64_t records)
{
    decoder->losses.dropped += records;
}

void cupti_decoder_losses(const struct cupti_decoder *decoder, struct gpu_losses *out)
{
    *out = decoder->losses;
}

uint64_t cupti_decoder_untagged(const struct cupti_decoder *decoder)
{
    return decoder->untagged;
}

uint64_t cupti_decoder_linked(const struct cupti_decoder *decoder)
{
    return decoder->linked;
}

bool cupti_decoder_kernel(struct cupti_decoder *decoder, uint32_t number, struct gpu_kernel *out)
{
    return cupti_kernels_get(decoder->kernels, number, out);
}

void cupti_decoder_node(struct cupti_decoder *decoder, uint64_t node, int op)
{
    cupti_nodes_set(decoder->nodes, node, op);
}

void cupti_decoder_node_cloned(struct cupti_decoder *decoder, uint64_t node, uint64_t original)
{
    int op = cupti_nodes_find(decoder->nodes, original);
    if (op != GPU_OP_NONE)
        cupti_nodes_set(decoder->nodes, node, op);
}

void cupti_decoder_node_gone(struct cupti_decoder *decoder, uint64_t node)
{
    cupti_nodes_remove(decoder->nodes, node);
}

void cupti_decoder_ours(struct cupti_decoder *decoder, int64_t bytes, int64_t now_ns)
{
    cupti_memory_ours(decoder->memory, bytes, now_ns);
}

uint64_t cupti_decoder_library_bytes(const struct cupti_decoder *decoder)
{
    return cupti_memory_library_bytes(decoder->memory);
}
#endif
