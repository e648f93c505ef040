/* Opening CUPTI in the order it asks for, and what it calls back about graph nodes. */
#ifdef LAYERTOP_CUDA_HEADERS
#include "profiler/cupti_private.h"

#include "engine/clock.h"

static uint64_t node_id(struct cupti *c, CUgraphNode node)
{
    uint64_t id = 0;
    if (!node || !c->api.graph_node_id || c->api.graph_node_id(node, &id) != CUPTI_SUCCESS)
        return 0;
    return id;
}

/* Nodes that stream capture makes belong to the op whose calls are being captured; an instantiated
 * graph holds clones of them. Nodes made outside ops (instantiation makes some too) belong to none */
static void on_resource(struct cupti *c, CUpti_CallbackId id, const CUpti_ResourceData *resource)
{
    const CUpti_GraphData *graph = resource->resourceDescriptor;
    int op = atomic_load(&c->current_op);
    if (!graph)
        return;
    switch (id) {
    case CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED:
        if (op != GPU_OP_NONE)
            cupti_decoder_node(c->decoder, node_id(c, graph->node), op);
        break;
    case CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED:
        cupti_decoder_node_cloned(c->decoder, node_id(c, graph->node),
                                  node_id(c, graph->originalNode));
        break;
    case CUPTI_CBID_RESOURCE_GRAPHNODE_DESTROY_STARTING:
        cupti_decoder_node_gone(c->decoder, node_id(c, graph->node));
        break;
    default:
        break;
    }
}

static void CUPTIAPI on_callback(void *context, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                                 const void *data)
{
    struct cupti *c = context;
    if (domain == CUPTI_CB_DOMAIN_RESOURCE && data)
        on_resource(c, id, data);
    else if (domain == CUPTI_CB_DOMAIN_STATE && id == CUPTI_CBID_STATE_FATAL_ERROR)
        atomic_store(&c->failed, true);
}

static uint64_t CUPTIAPI timestamp(void)
{
    return (uint64_t)clock_now_ns();
}

static const struct {
    CUpti_ActivityKind kind;
    bool optional; /* without it a figure is not known; without the others there are no layers */
} kinds[] = {
    {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, false},
    {CUPTI_ACTIVITY_KIND_MEMCPY, false},
    {CUPTI_ACTIVITY_KIND_MEMSET, true},
    {CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, false},
    {CUPTI_ACTIVITY_KIND_OVERHEAD, true},
    {CUPTI_ACTIVITY_KIND_MEMORY2, true},
    {CUPTI_ACTIVITY_KIND_MEMORY_POOL, true},
};

/* External correlation records come for API calls that are recorded: record the calls that put work
 * on a stream, and no others */
static const CUpti_CallbackId runtime_calls[] = {
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_v7000,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernel_ptsz_v7000,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernelExC_v11060,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchKernelExC_ptsz_v11060,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchCooperativeKernel_v9000,
    CUPTI_RUNTIME_TRACE_CBID_cudaLaunchCooperativeKernel_ptsz_v9000,
    CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_v10000,
    CUPTI_RUNTIME_TRACE_CBID_cudaGraphLaunch_ptsz_v10000,
    CUPTI_RUNTIME_TRACE_CBID_cudaMemcpy_v3020,
    CUPTI_RUNTIME_TRACE_CBID_cudaMemcpyAsync_v3020,
    CUPTI_RUNTIME_TRACE_CBID_cudaMemcpyAsync_ptsz_v7000,
    CUPTI_RUNTIME_TRACE_CBID_cudaMemset_v3020,
    CUPTI_RUNTIME_TRACE_CBID_cudaMemsetAsync_v3020,
    CUPTI_RUNTIME_TRACE_CBID_cudaMemsetAsync_ptsz_v7000,
};
static const CUpti_CallbackId driver_calls[] = {
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz,
    CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel,
    CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch,
    CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch_ptsz,
    CUPTI_DRIVER_TRACE_CBID_cuMemcpyHtoDAsync_v2,
    CUPTI_DRIVER_TRACE_CBID_cuMemcpyDtoHAsync_v2,
    CUPTI_DRIVER_TRACE_CBID_cuMemcpyDtoDAsync_v2,
    CUPTI_DRIVER_TRACE_CBID_cuMemcpyAsync,
    CUPTI_DRIVER_TRACE_CBID_cuMemsetD8Async,
    CUPTI_DRIVER_TRACE_CBID_cuMemsetD32Async,
};

static CUptiResult record_calls(struct cupti *c, bool on)
{
    CUptiResult result = CUPTI_SUCCESS;
    for (size_t i = 0; i < sizeof runtime_calls / sizeof runtime_calls[0]; i++)
        if (result == CUPTI_SUCCESS)
            result = c->api.enable_runtime(runtime_calls[i], on);
    for (size_t i = 0; i < sizeof driver_calls / sizeof driver_calls[0]; i++)
        if (result == CUPTI_SUCCESS)
            result = c->api.enable_driver(driver_calls[i], on);
    return result;
}

static CUptiResult record_all_calls(struct cupti *c, bool on)
{
    CUptiResult (*CUPTIAPI change)(CUpti_ActivityKind) = on ? c->api.enable : c->api.disable;
    CUptiResult result = change(CUPTI_ACTIVITY_KIND_RUNTIME);
    return result == CUPTI_SUCCESS ? change(CUPTI_ACTIVITY_KIND_DRIVER) : result;
}

static bool enable_calls(struct cupti *c, struct error *error)
{
    if (c->api.enable_runtime && c->api.enable_driver && record_calls(c, true) == CUPTI_SUCCESS)
        return true;
    /* an older CUPTI can only record all calls or none, and one may not know a call of the list */
    c->widened = true;
    CUptiResult result = record_all_calls(c, true);
    return result == CUPTI_SUCCESS ||
           cupti_error(error, &c->api, "cuptiActivityEnable", result, "");
}

void cupti_widen(struct cupti *c)
{
    c->widened = true;
    (void)c->api.enable(CUPTI_ACTIVITY_KIND_RUNTIME);
    (void)c->api.enable(CUPTI_ACTIVITY_KIND_DRIVER);
}

/* What only observed steps leave beside kernels and graphs */
static void record_rest(struct cupti *c, bool on)
{
    static const CUpti_ActivityKind rest[] = {CUPTI_ACTIVITY_KIND_MEMCPY,
                                              CUPTI_ACTIVITY_KIND_MEMSET,
                                              CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        (void)(on ? c->api.enable(rest[i]) : c->api.disable(rest[i]));
    (void)(c->widened ? record_all_calls(c, on) : record_calls(c, on));
}

bool cupti_switch(struct cupti *c, enum gpu_detail detail)
{
    if (c->detail == GPU_DETAIL_OFF)
        record_rest(c, true);
    /* with whole graphs on, no record comes for their nodes: never both */
    if (c->graph_kind)
        (void)c->api.disable(CUPTI_ACTIVITY_KIND_GRAPH_TRACE);
    c->graph_kind = false;
    if (detail == GPU_DETAIL_NODES)
        return c->api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) == CUPTI_SUCCESS;
    if (c->detail == GPU_DETAIL_NODES)
        (void)c->api.disable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    if (detail == GPU_DETAIL_WHOLE)
        c->graph_kind = c->api.enable(CUPTI_ACTIVITY_KIND_GRAPH_TRACE) == CUPTI_SUCCESS;
    else
        record_rest(c, false);
    return true;
}

void cupti_disable(struct cupti *c)
{
    if (c->graph_kind)
        (void)c->api.disable(CUPTI_ACTIVITY_KIND_GRAPH_TRACE);
    if (c->widened) {
        (void)c->api.disable(CUPTI_ACTIVITY_KIND_RUNTIME);
        (void)c->api.disable(CUPTI_ACTIVITY_KIND_DRIVER);
    }
    /* each by itself: they are of no kind, and a call that is still recorded asks for buffers */
    if (c->api.enable_runtime && c->api.enable_driver)
        (void)record_calls(c, false);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        (void)c->api.disable(kinds[i].kind);
}

static CUptiResult subscribe(struct cupti *c, char *other, size_t size)
{
    if (!c->api.subscribe)
        return c->api.subscribe_old(&c->subscriber, on_callback, c);
    CUpti_SubscriberParams params = {
        .structSize = CUpti_SubscriberParams_STRUCT_SIZE,
        .subscriberName = "layertop",
        .oldSubscriberName = other,
        .oldSubscriberSize = size,
    };
    return c->api.subscribe(&c->subscriber, on_callback, c, &params);
}

/* A setting that makes CUPTI lighter; where it is not known CUPTI works all the same */
static bool set_flag(struct cupti *c, CUpti_ActivityAttribute attribute)
{
    uint8_t value = 1;
    size_t size = sizeof value;
    return c->api.set_attribute(attribute, &size, &value) == CUPTI_SUCCESS;
}

static bool get_size(struct cupti *c, CUpti_ActivityAttribute attribute, uint64_t *out)
{
    size_t value = 0, size = sizeof value;
    bool good =
        c->api.get_attribute && c->api.get_attribute(attribute, &size, &value) == CUPTI_SUCCESS;
    *out = value;
    return good;
}

/* The buffers that CUPTI makes with a context, where they lie in its device's memory */
static uint64_t buffers_in_device(struct cupti *c, bool pinned)
{
    uint64_t bytes, count;
    if (pinned)
        return 0;
    if (!get_size(c, CUPTI_ACTIVITY_ATTR_DEVICE_BUFFER_SIZE, &bytes) ||
        !get_size(c, CUPTI_ACTIVITY_ATTR_DEVICE_BUFFER_PRE_ALLOCATE_VALUE, &count))
        return UINT64_MAX;
    return bytes * count;
}

bool cupti_start(struct cupti *c, CUpti_BuffersCallbackRequestFunc request,
                 CUpti_BuffersCallbackCompleteFunc complete, CUptiResult *refused,
                 struct error *error)
{
    char other[CUPTI_OLD_SUBSCRIBER_NAME_MIN_LEN + 1] = "";
    *refused = subscribe(c, other, CUPTI_OLD_SUBSCRIBER_NAME_MIN_LEN);
    if (*refused != CUPTI_SUCCESS)
        return cupti_error(error, &c->api, "cuptiSubscribe", *refused, other);
    c->api.set_thread_id_type(CUPTI_ACTIVITY_THREAD_ID_TYPE_SYSTEM);
    /* CUPTI's own buffers must not lie in the device memory whose limit we explore */
    bool pinned = set_flag(c, CUPTI_ACTIVITY_ATTR_MEM_ALLOCATION_TYPE_HOST_PINNED);
    c->own_bytes = buffers_in_device(c, pinned);
    (void)set_flag(c, CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER);
    const char *call = "cuptiActivityRegisterTimestampCallback";
    *refused = c->api.register_timestamp ? c->api.register_timestamp(timestamp)
                                         : CUPTI_ERROR_NOT_SUPPORTED;
    if (*refused == CUPTI_SUCCESS) {
        call = "cuptiActivityRegisterCallbacks";
        *refused = c->api.register_callbacks(request, complete);
    }
    const CUpti_CallbackId nodes[] = {CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED,
                                      CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED,
                                      CUPTI_CBID_RESOURCE_GRAPHNODE_DESTROY_STARTING};
    for (size_t i = 0; i < 3 && *refused == CUPTI_SUCCESS; i++) {
        call = "cuptiEnableCallback";
        *refused = c->api.enable_callback(1, c->subscriber, CUPTI_CB_DOMAIN_RESOURCE, nodes[i]);
    }
    if (*refused == CUPTI_SUCCESS)
        (void)c->api.enable_callback(1, c->subscriber, CUPTI_CB_DOMAIN_STATE,
                                     CUPTI_CBID_STATE_FATAL_ERROR);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && *refused == CUPTI_SUCCESS; i++) {
        call = "cuptiActivityEnable";
        CUptiResult result = c->api.enable(kinds[i].kind);
        *refused = kinds[i].optional ? CUPTI_SUCCESS : result;
    }
    if (*refused == CUPTI_SUCCESS && enable_calls(c, error))
        return true;
    if (*refused != CUPTI_SUCCESS)
        cupti_error(error, &c->api, call, *refused, "");
    cupti_disable(c);
    (void)c->api.unsubscribe(c->subscriber);
    return false;
}

bool cupti_raw_open(struct cupti *c, const char *path, uint32_t version, struct error *error)
{
    static const struct {
        uint32_t kind, bytes;
    } sizes[] = {
        {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, sizeof(CUpti_ActivityKernel10)},
        {CUPTI_ACTIVITY_KIND_MEMCPY, sizeof(CUpti_ActivityMemcpy6)},
        {CUPTI_ACTIVITY_KIND_MEMSET, sizeof(CUpti_ActivityMemset4)},
        {CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, sizeof(CUpti_ActivityExternalCorrelation)},
        {CUPTI_ACTIVITY_KIND_OVERHEAD, sizeof(CUpti_ActivityOverhead3)},
        {CUPTI_ACTIVITY_KIND_MEMORY2, sizeof(CUpti_ActivityMemory4)},
        {CUPTI_ACTIVITY_KIND_MEMORY_POOL, sizeof(CUpti_ActivityMemoryPool3)},
        {CUPTI_ACTIVITY_KIND_GRAPH_TRACE, sizeof(CUpti_ActivityGraphTrace2)},
        {CUPTI_ACTIVITY_KIND_RUNTIME, sizeof(CUpti_ActivityAPI)},
        {CUPTI_ACTIVITY_KIND_DRIVER, sizeof(CUpti_ActivityAPI)},
    };
    c->raw = fopen(path, "ae");
    if (!c->raw)
        return error_set(error, ERROR_FILE, path, "cannot be opened for writing: %m");
    uint32_t head[2] = {version, sizeof sizes / sizeof sizes[0]};
    fwrite("LTCUPTI1", 8, 1, c->raw);
    fwrite(head, sizeof head, 1, c->raw);
    fwrite(sizes, sizeof sizes, 1, c->raw);
    return true;
}
#endif
