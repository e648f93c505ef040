/* What probe_cupti's experiments stand on: CUPTI opened and counting, a device and a kernel. All of it
 * is for one program, hence all of it is here.
 */
#ifndef LAYERTOP_TESTS_GPU_PROBE_CUPTI_CUH
#define LAYERTOP_TESTS_GPU_PROBE_CUPTI_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <jansson.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

extern "C" {
#include "engine/clock.h"
#include "profiler/cupti.h"
#include "profiler/cupti_api.h"
}

static struct cupti_api api;

#define CUDA(call)                                                                                 \
    do {                                                                                           \
        cudaError_t result_ = (call);                                                              \
        if (result_ != cudaSuccess) {                                                              \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(result_));                       \
            exit(3);                                                                               \
        }                                                                                          \
    } while (0)
#define CUPTI(call)                                                                                \
    do {                                                                                           \
        CUptiResult result_ = (call);                                                              \
        if (result_ != CUPTI_SUCCESS) {                                                            \
            fprintf(stderr, "%s: CUPTI answered %d\n", #call, (int)result_);                       \
            exit(4);                                                                               \
        }                                                                                          \
    } while (0)

/* One block that does a little work, so that a launch is a few microseconds. */
extern "C" __global__ void probe_kernel(float *data, int rounds)
{
    float x = data[threadIdx.x];
    for (int i = 0; i < rounds; i++)
        x = x * 1.000001f + 0.5f;
    data[threadIdx.x] = x;
}

/* ---------------------------------------------------------------- buffers and counts */

struct counts {
    std::map<int, uint64_t> records;
    uint64_t zero_times = 0, buffers = 0, bytes = 0;
    std::map<uint32_t, uint64_t> external;              /* correlation id -> our id */
    std::vector<std::pair<uint32_t, uint64_t>> kernels; /* correlation id, node id */
    std::vector<uint32_t> copies, calls;
    std::map<uint64_t, uint64_t> allocations; /* bytes -> how many */
    bool keep = true;
};
static counts seen;
static std::mutex seen_lock;

static void CUPTIAPI on_request(uint8_t **buffer, size_t *size, size_t *max_records)
{
    *size = 1 << 20;
    *buffer = (uint8_t *)aligned_alloc(4096, *size);
    *max_records = 0;
}

static void count_record(const CUpti_Activity *record)
{
    seen.records[(int)record->kind]++;
    switch ((int)record->kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const CUpti_ActivityKernel10 *kernel = (const CUpti_ActivityKernel10 *)record;
        seen.zero_times += kernel->start == 0 && kernel->end == 0;
        if (seen.keep)
            seen.kernels.push_back({kernel->correlationId, kernel->graphNodeId});
        break;
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
        const CUpti_ActivityExternalCorrelation *link =
            (const CUpti_ActivityExternalCorrelation *)record;
        if (seen.keep)
            seen.external[link->correlationId] = link->externalId;
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY:
        seen.copies.push_back(((const CUpti_ActivityMemcpy6 *)record)->correlationId);
        break;
    case CUPTI_ACTIVITY_KIND_MEMORY2: {
        const CUpti_ActivityMemory4 *memory = (const CUpti_ActivityMemory4 *)record;
        if (memory->memoryOperationType == CUPTI_ACTIVITY_MEMORY_OPERATION_TYPE_ALLOCATION)
            seen.allocations[memory->bytes]++;
        break;
    }
    default:
        break;
    }
}

static void CUPTIAPI on_complete(CUcontext, uint32_t, uint8_t *buffer, size_t, size_t valid)
{
    std::lock_guard<std::mutex> guard(seen_lock);
    CUpti_Activity *record = nullptr;
    seen.buffers++;
    seen.bytes += valid;
    while (valid > 0 && api.next_record(buffer, valid, &record) == CUPTI_SUCCESS)
        count_record(record);
    free(buffer);
}

static uint64_t CUPTIAPI timestamp(void)
{
    return (uint64_t)clock_now_ns();
}

static std::atomic<int> current_op{-1};
static std::atomic<bool> in_instantiate{false};
static std::map<uint64_t, int> node_op;
static uint64_t created_in_capture, created_in_instantiate, created_elsewhere, cloned, updated,
    destroyed;

static uint64_t id_of(CUgraphNode node)
{
    uint64_t id = 0;
    return node && api.graph_node_id(node, &id) == CUPTI_SUCCESS ? id : 0;
}

static void CUPTIAPI on_callback(void *, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                                 const void *data)
{
    if (domain != CUPTI_CB_DOMAIN_RESOURCE)
        return;
    const CUpti_GraphData *graph =
        (const CUpti_GraphData *)((const CUpti_ResourceData *)data)->resourceDescriptor;
    switch ((int)id) {
    case CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED:
        if (in_instantiate)
            created_in_instantiate++;
        else if (current_op >= 0) {
            created_in_capture++;
            node_op[id_of(graph->node)] = current_op;
        } else
            created_elsewhere++;
        break;
    case CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED: {
        cloned++;
        auto original = node_op.find(id_of(graph->originalNode));
        if (original != node_op.end())
            node_op[id_of(graph->node)] = original->second;
        break;
    }
    case CUPTI_CBID_RESOURCE_GRAPH_NODE_UPDATED:
        updated++;
        break;
    case CUPTI_CBID_RESOURCE_GRAPHNODE_DESTROY_STARTING:
        destroyed++;
        break;
    default:
        break;
    }
}

static void attribute(CUpti_ActivityAttribute which, size_t value, size_t size)
{
    CUPTI(api.set_attribute(which, &size, &value));
}

static CUpti_SubscriberHandle subscriber;

static void open_cupti(void)
{
    char tried[700] = "";
    if (!cupti_library_open(&api, 13, tried, sizeof tried) &&
        !cupti_library_open(&api, 12, tried, sizeof tried)) {
        fprintf(stderr, "no libcupti: %s\n", tried);
        exit(4);
    }
    char other[65] = "";
    CUpti_SubscriberParams params = {CUpti_SubscriberParams_STRUCT_SIZE, "layertop probe", other,
                                     64};
    CUptiResult result = api.subscribe(&subscriber, on_callback, nullptr, &params);
    if (result != CUPTI_SUCCESS) {
        fprintf(stderr, "cuptiSubscribe: %d %s\n", (int)result, other);
        exit(4);
    }
    CUPTI(api.register_timestamp(timestamp));
    CUPTI(api.register_callbacks(on_request, on_complete));
}

static const CUpti_CallbackId runtime_calls[] = {
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernelExC_v11060,
    CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_v10000,
    CUPTI_RUNTIME_TRACE_CBID_cudaMemcpyAsync_v3020,
};
static const CUpti_CallbackId driver_calls[] = {
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx,
    CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch,
    CUPTI_DRIVER_TRACE_CBID_cuMemcpyHtoDAsync_v2,
};

static void enable_calls(bool runtime, bool driver)
{
    for (CUpti_CallbackId id : runtime_calls)
        if (runtime)
            CUPTI(api.enable_runtime(id, 1));
    for (CUpti_CallbackId id : driver_calls)
        if (driver)
            CUPTI(api.enable_driver(id, 1));
}

static float *device_data;
static cudaStream_t stream;

static void open_device(void)
{
    CUDA(cudaSetDevice(0));
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA(cudaMalloc((void **)&device_data, 1 << 20));
    CUDA(cudaMemset(device_data, 0, 1 << 20));
    probe_kernel<<<1, 32, 0, stream>>>(device_data, 10);
    CUDA(cudaStreamSynchronize(stream));
}

static void forget(void)
{
    CUDA(cudaDeviceSynchronize());
    CUPTI(api.flush_all(0));
    std::lock_guard<std::mutex> guard(seen_lock);
    bool keep = seen.keep;
    seen = counts();
    seen.keep = keep;
}

static void settle(void)
{
    CUDA(cudaDeviceSynchronize());
    CUPTI(api.flush_all(0));
    CUPTI(api.flush_all(0));
}

static void set(json_t *out, const char *key, double value)
{
    json_object_set_new(out, key, json_real(value));
}
static void set(json_t *out, const char *key, uint64_t value)
{
    json_object_set_new(out, key, json_integer((json_int_t)value));
}

/* Kernels (or copies) whose correlation id has an external id of [first, last] */
static uint64_t joined(uint64_t first, uint64_t last)
{
    uint64_t count = 0;
    for (auto &kernel : seen.kernels) {
        auto link = seen.external.find(kernel.first);
        count += link != seen.external.end() && link->second >= first && link->second <= last;
    }
    return count;
}

#endif
