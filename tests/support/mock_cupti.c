#include "tests/support/mock_cupti.h"

#ifdef LAYERTOP_CUDA_HEADERS
#include "engine/clock.h"
#include "engine/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct mock_cupti mock_cupti = {.lock = PTHREAD_MUTEX_INITIALIZER};

static CUptiResult CUPTIAPI mock_version(uint32_t *version)
{
    *version = 130001;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_subscribe(CUpti_SubscriberHandle *handle,
                                           CUpti_CallbackFunc callback, void *context,
                                           CUpti_SubscriberParams *params)
{
    *handle = NULL;
    mock_cupti.callback = callback;
    mock_cupti.callback_context = context;
    if (mock_cupti.other)
        snprintf(params->oldSubscriberName, params->oldSubscriberSize, "%s", mock_cupti.other);
    return mock_cupti.subscribe_result;
}
static CUptiResult CUPTIAPI mock_unsubscribe(CUpti_SubscriberHandle handle)
{
    (void)handle;
    mock_cupti.unsubscribed++;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_enable_callback(uint32_t enable, CUpti_SubscriberHandle handle,
                                                 CUpti_CallbackDomain domain, CUpti_CallbackId id)
{
    (void)enable, (void)handle, (void)domain, (void)id;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_thread_id(CUpti_ActivityThreadIdType type)
{
    (void)type;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_attribute(CUpti_ActivityAttribute attribute, size_t *size,
                                           void *value)
{
    (void)size, (void)value;
    bool pinned = attribute == CUPTI_ACTIVITY_ATTR_MEM_ALLOCATION_TYPE_HOST_PINNED;
    return pinned && mock_cupti.unpinned ? CUPTI_ERROR_NOT_SUPPORTED : CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_get_attribute(CUpti_ActivityAttribute attribute, size_t *size,
                                               void *value)
{
    assert_int_equal(*size, sizeof(size_t));
    size_t number = attribute == CUPTI_ACTIVITY_ATTR_DEVICE_BUFFER_SIZE ? 3200000 : 3;
    memcpy(value, &number, sizeof number);
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_timestamp(CUpti_TimestampCallbackFunc function)
{
    int64_t before = clock_now_ns();
    int64_t stamp = (int64_t)function();
    assert_in_range(stamp, before, clock_now_ns());
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_register(CUpti_BuffersCallbackRequestFunc request,
                                          CUpti_BuffersCallbackCompleteFunc complete)
{
    mock_cupti.request = request;
    mock_cupti.complete = complete;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_enable(CUpti_ActivityKind kind)
{
    mock_cupti.enabled++;
    CUptiResult result =
        kind == mock_cupti.refused_kind ? CUPTI_ERROR_NOT_COMPATIBLE : mock_cupti.enable_result;
    mock_cupti.on[kind] = mock_cupti.on[kind] || result == CUPTI_SUCCESS;
    /* with whole graphs recorded, their kernels are not */
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE] &&
                 mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    return result;
}
static CUptiResult CUPTIAPI mock_disable(CUpti_ActivityKind kind)
{
    mock_cupti.on[kind] = false;
    mock_cupti.disabled++;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_enable_call(CUpti_CallbackId id, uint8_t enable)
{
    (void)id;
    if (mock_cupti.call_result == CUPTI_SUCCESS)
        mock_cupti.calls += enable ? 1 : -1;
    return mock_cupti.call_result;
}

/* Into as many buffers as it takes. Under the lock. */
static void deliver(void)
{
    for (size_t i = 0; i < mock_cupti.pending_count;) {
        uint8_t *data;
        size_t size, most, at = 0;
        mock_cupti.request(&data, &size, &most);
        if (!data)
            return;
        for (; i < mock_cupti.pending_count && at + mock_cupti.pending[i].bytes <= size; i++) {
            memcpy(data + at, mock_cupti.pending[i].data, mock_cupti.pending[i].bytes);
            at += mock_cupti.pending[i].bytes;
        }
        mock_cupti.complete(NULL, 0, data, size, at);
    }
}
static CUptiResult CUPTIAPI mock_flush(uint32_t flag)
{
    pthread_mutex_lock(&mock_cupti.lock);
    mock_cupti.flushes++;
    if (!mock_cupti.withhold || flag) {
        deliver();
        mock_cupti.pending_count = 0;
    }
    pthread_mutex_unlock(&mock_cupti.lock);
    return (CUptiResult)atomic_load(&mock_cupti.flush_result);
}
static CUptiResult CUPTIAPI mock_dropped(CUcontext context, uint32_t stream, size_t *dropped)
{
    (void)context, (void)stream;
    pthread_mutex_lock(&mock_cupti.lock);
    *dropped = mock_cupti.dropped;
    mock_cupti.dropped = 0;
    pthread_mutex_unlock(&mock_cupti.lock);
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_push(CUpti_ExternalCorrelationKind kind, uint64_t id)
{
    assert_int_equal(kind, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0);
    mock_cupti.stack[mock_cupti.depth++] = id;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_pop(CUpti_ExternalCorrelationKind kind, uint64_t *id)
{
    (void)kind;
    *id = 0;
    if (mock_cupti.depth == 0)
        mock_cupti.surplus++;
    else
        *id = mock_cupti.stack[--mock_cupti.depth];
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_node_id(CUgraphNode node, uint64_t *id)
{
    *id = (uint64_t)(uintptr_t)node;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_string(CUptiResult result, const char **text)
{
    (void)result;
    *text = "CUPTI_ERROR_MOCK";
    return CUPTI_SUCCESS;
}

const struct cupti_api mock_cupti_api = {
    .get_version = mock_version,
    .subscribe = mock_subscribe,
    .unsubscribe = mock_unsubscribe,
    .enable_callback = mock_enable_callback,
    .set_thread_id_type = mock_thread_id,
    .set_attribute = mock_attribute,
    .get_attribute = mock_get_attribute,
    .register_timestamp = mock_timestamp,
    .register_callbacks = mock_register,
    .enable = mock_enable,
    .disable = mock_disable,
    .enable_runtime = mock_enable_call,
    .enable_driver = mock_enable_call,
    .flush_all = mock_flush,
    .next_record = activity_walk,
    .dropped = mock_dropped,
    .push = mock_push,
    .pop = mock_pop,
    .graph_node_id = mock_node_id,
    .result_string = mock_string,
};

int mock_cupti_reset(void **state)
{
    (void)state;
    mock_cupti.subscribe_result = mock_cupti.enable_result = CUPTI_SUCCESS;
    mock_cupti.call_result = CUPTI_SUCCESS;
    atomic_store(&mock_cupti.flush_result, CUPTI_SUCCESS);
    mock_cupti.refused_kind = CUPTI_ACTIVITY_KIND_INVALID;
    mock_cupti.other = NULL;
    mock_cupti.withhold = mock_cupti.unpinned = false;
    mock_cupti.dropped = mock_cupti.pending_count = 0;
    mock_cupti.enabled = mock_cupti.disabled = mock_cupti.flushes = mock_cupti.unsubscribed = 0;
    mock_cupti.depth = mock_cupti.surplus = mock_cupti.calls = 0;
    mock_cupti.next_correlation = 1;
    memset(mock_cupti.on, 0, sizeof mock_cupti.on);
    return 0;
}

/* Under the lock. */
static void add(struct activity activity)
{
    if (mock_cupti.pending_count == mock_cupti.capacity) {
        mock_cupti.capacity = mock_cupti.capacity ? 2 * mock_cupti.capacity : 64;
        mock_cupti.pending =
            xrealloc(mock_cupti.pending, mock_cupti.capacity * sizeof *mock_cupti.pending);
    }
    mock_cupti.pending[mock_cupti.pending_count++] = activity;
}

void mock_cupti_add(struct activity activity)
{
    pthread_mutex_lock(&mock_cupti.lock);
    add(activity);
    pthread_mutex_unlock(&mock_cupti.lock);
}

uint32_t mock_cupti_correlation(void)
{
    pthread_mutex_lock(&mock_cupti.lock);
    uint32_t id = mock_cupti.next_correlation++;
    if (mock_cupti.depth)
        add(activity_link(id, mock_cupti.stack[mock_cupti.depth - 1]));
    pthread_mutex_unlock(&mock_cupti.lock);
    return id;
}

void mock_cupti_launch(int64_t start, int64_t end)
{
    mock_cupti_add(activity_kernel(mock_cupti_correlation(), start, end, 0));
}
#endif
