/* The part of CUDA's runtime that the GPU module calls, on the host: device memory is memory, the
 * stream is now, and a captured graph is a list of what was queued. No virtual memory management,
 * so that memory is taken in blocks as on a GPU without it. */
#include "tests/emulator/simt.h"
#include <chrono>
#include <cstdlib>
#include <vector>

#define DEVICE_BYTES ((size_t)4 << 30)

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};

struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};

struct CUevent_st {
    std::chrono::steady_clock::time_point time;
};

static CUgraph_st *captured; /* NULL: nothing is captured */
static size_t used;

void simt_queue(const std::function<void()> &work)
{
    if (captured != nullptr) {
        captured->work.push_back(work);
    } else {
        work();
    }
}

/* What may not be called while a graph is captured: it would break it on a GPU. */
static cudaError_t outside_of_capture()
{
    return captured != nullptr ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *property, int)
{
    memset(property, 0, sizeof *property);
    strcpy(property->name, "emulator");
    property->totalGlobalMem = DEVICE_BYTES;
    const char *last = strrchr("," LAYERTOP_CUDA_ARCHS, ',') + 1;
    property->major = atoi(last) / 10;
    property->minor = atoi(last) % 10;
    property->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr, int)
{
    *value = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **function, unsigned,
                                             unsigned long long,
                                             enum cudaDriverEntryPointQueryResult *found)
{
    *function = nullptr;
    *found = cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

const char *cudaGetErrorName(cudaError_t error)
{
    return error == cudaSuccess ? "cudaSuccess" : "an error of the emulator";
}

const char *cudaGetErrorString(cudaError_t)
{
    return "see runtime.cpp";
}

cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = DEVICE_BYTES - used;
    *total_bytes = DEVICE_BYTES;
    return cudaSuccess;
}

/* The size in front of the block; not zeroed, as on a GPU, but NaNs in every float type. */
cudaError_t cudaMalloc(void **address, size_t bytes)
{
    if (used + bytes > DEVICE_BYTES) {
        return cudaErrorMemoryAllocation;
    }
    char *block = (char *)aligned_alloc(256, (bytes + 511) / 256 * 256);
    if (block == nullptr) {
        return cudaErrorMemoryAllocation;
    }
    memcpy(block, &bytes, sizeof bytes);
    memset(block + 256, 0xff, bytes);
    used += bytes;
    *address = block + 256;
    return outside_of_capture();
}

cudaError_t cudaFree(void *address)
{
    if (address != nullptr) {
        size_t bytes;
        memcpy(&bytes, (char *)address - 256, sizeof bytes);
        used -= bytes;
        free((char *)address - 256);
    }
    return outside_of_capture();
}

cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned)
{
    /* a test wants to know that nothing is pinned */
    *address = getenv("EMULATOR_PINS_NOTHING") ? nullptr : malloc(bytes > 0 ? bytes : 1);
    return *address != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *address)
{
    free(address);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind)
{
    memcpy(to, from, bytes);
    return outside_of_capture();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t)
{
    simt_queue([=] { memcpy(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    simt_queue([=] { memset(to, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return outside_of_capture();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = (cudaStream_t)malloc(1);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return outside_of_capture();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, enum cudaStreamCaptureMode)
{
    captured = new CUgraph_st;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph)
{
    *graph = captured;
    captured = nullptr;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new CUgraphExec_st{graph->work};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t)
{
    for (const auto &work : exec->work) {
        work();
    }
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = new CUevent_st;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    event->time = std::chrono::steady_clock::now();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned)
{
    return cudaSuccess; /* what was queued before is done */
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    *ms = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return cudaSuccess;
}
}
