/* CUPTI without a GPU: a mock of the function table for everything that can go wrong. The records
 * themselves are test_cupti_decode's. */
#include "engine/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef LAYERTOP_CUDA_HEADERS
#include "profiler/cupti.h"

static void a_build_without_headers_says_so(void **state)
{
    (void)state;
    struct error error = {.code = ERROR_NONE};
    assert_null(cupti_open(NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_CUPTI);
    assert_non_null(strstr(error.why, "built without CUPTI"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_build_without_headers_says_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
#include "profiler/cupti.h"
#include "profiler/cupti_decode.h"
#include "tests/support/activity.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* ---------------------------------------------------------------- a mock of CUPTI */

static struct {
    CUptiResult subscribe_result, enable_result, flush_result, call_result;
    CUpti_ActivityKind refused_kind;
    const char *other;
    CUpti_CallbackFunc callback;
    void *callback_context;
    CUpti_BuffersCallbackRequestFunc request;
    CUpti_BuffersCallbackCompleteFunc complete;
    size_t dropped;
    pthread_mutex_t lock;
    struct activity pending[512]; /* records that the next flush delivers */
    size_t pending_count;
    uint64_t stack[8];
    int depth;
    uint32_t next_correlation;
    int enabled, disabled, flushes, unsubscribed;
    bool withhold;
    bool on[64]; /* kinds that are enabled */
} mock = {.lock = PTHREAD_MUTEX_INITIALIZER};

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
    mock.callback = callback;
    mock.callback_context = context;
    if (mock.other)
        snprintf(params->oldSubscriberName, params->oldSubscriberSize, "%s", mock.other);
    return mock.subscribe_result;
}
static CUptiResult CUPTIAPI mock_unsubscribe(CUpti_SubscriberHandle handle)
{
    (void)handle;
    mock.unsubscribed++;
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
    (void)attribute, (void)size, (void)value;
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
    mock.request = request;
    mock.complete = complete;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_enable(CUpti_ActivityKind kind)
{
    mock.enabled++;
    CUptiResult result =
        kind == mock.refused_kind ? CUPTI_ERROR_NOT_COMPATIBLE : mock.enable_result;
    mock.on[kind] = mock.on[kind] || result == CUPTI_SUCCESS;
    /* with whole graphs recorded, their kernels are not */
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE] &&
                 mock.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    return result;
}
static CUptiResult CUPTIAPI mock_disable(CUpti_ActivityKind kind)
{
    mock.on[kind] = false;
    mock.disabled++;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_enable_call(CUpti_CallbackId id, uint8_t enable)
{
    (void)id, (void)enable;
    return mock.call_result;
}
static CUptiResult CUPTIAPI mock_flush(uint32_t flag)
{
    pthread_mutex_lock(&mock.lock);
    mock.flushes++;
    if (mock.pending_count && (!mock.withhold || flag)) {
        uint8_t *data;
        size_t size, max, at = 0;
        mock.request(&data, &size, &max);
        if (data) {
            for (size_t i = 0; i < mock.pending_count; i++) {
                memcpy(data + at, mock.pending[i].data, mock.pending[i].bytes);
                at += mock.pending[i].bytes;
            }
            mock.complete(NULL, 0, data, size, at);
        }
        mock.pending_count = 0;
    }
    pthread_mutex_unlock(&mock.lock);
    return mock.flush_result;
}
static CUptiResult CUPTIAPI mock_dropped(CUcontext context, uint32_t stream, size_t *dropped)
{
    (void)context, (void)stream;
    pthread_mutex_lock(&mock.lock);
    *dropped = mock.dropped;
    mock.dropped = 0;
    pthread_mutex_unlock(&mock.lock);
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_push(CUpti_ExternalCorrelationKind kind, uint64_t id)
{
    assert_int_equal(kind, CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0);
    mock.stack[mock.depth++] = id;
    return CUPTI_SUCCESS;
}
static CUptiResult CUPTIAPI mock_pop(CUpti_ExternalCorrelationKind kind, uint64_t *id)
{
    (void)kind;
    assert_true(mock.depth > 0);
    *id = mock.stack[--mock.depth];
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

static struct cupti_api mock_api = {
    .get_version = mock_version,
    .subscribe = mock_subscribe,
    .unsubscribe = mock_unsubscribe,
    .enable_callback = mock_enable_callback,
    .set_thread_id_type = mock_thread_id,
    .set_attribute = mock_attribute,
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

static int mock_reset(void **state)
{
    (void)state;
    mock.subscribe_result = mock.enable_result = mock.flush_result = CUPTI_SUCCESS;
    mock.call_result = CUPTI_SUCCESS;
    mock.refused_kind = CUPTI_ACTIVITY_KIND_INVALID;
    mock.other = NULL;
    mock.dropped = mock.pending_count = 0;
    mock.depth = mock.enabled = mock.disabled = mock.flushes = mock.unsubscribed = 0;
    mock.next_correlation = 1;
    mock.withhold = false;
    memset(mock.on, 0, sizeof mock.on);
    return 0;
}

/* What a launch leaves behind: its correlation with the top of the stack, the call, the kernel */
static void launch(int64_t start, int64_t end)
{
    pthread_mutex_lock(&mock.lock);
    uint32_t id = mock.next_correlation++;
    if (mock.depth)
        mock.pending[mock.pending_count++] = activity_link(id, mock.stack[mock.depth - 1]);
    mock.pending[mock.pending_count++] = activity_kernel(id, start, end, 0);
    pthread_mutex_unlock(&mock.lock);
}

static void kernels_arrive_with_their_op(void **state)
{
    (void)state;
    struct error error = {.code = ERROR_NONE};
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, &error);
    assert_non_null(trace);
    assert_true(mock.enabled >= 6);
    trace->push(trace->context, gpu_tag(70000000001, GPU_OP_NONE));
    launch(10, 20);
    trace->push(trace->context, gpu_tag(70000000001, 3));
    launch(20, 50);
    launch(60, 70);
    trace->pop(trace->context);
    trace->pop(trace->context);
    assert_int_equal(mock.depth, 0);
    assert_true(trace->flush(trace->context, 2000000000));
    struct gpu_event events[8];
    assert_int_equal(trace->take(trace->context, events, 8), 3);
    assert_int_equal(events[0].op, GPU_OP_NONE);
    assert_int_equal(events[1].op, 3);
    assert_int_equal(gpu_tag_step(events[1].tag), (uint32_t)70000000001);
    assert_int_equal(events[2].end_ns - events[2].start_ns, 10);
    assert_int_equal(trace->take(trace->context, events, 8), 0);
    char why[100];
    assert_true(trace->alive(trace->context, why, sizeof why));
    trace->close(trace->context);
    assert_int_equal(mock.unsubscribed, 1);
    assert_true(mock.disabled >= 6);
}

/* A CUPTI that gives correlations only where whole kinds are recorded is asked for those */
static void missing_correlations_widen_the_calls(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, NULL);
    assert_non_null(trace);
    int before = mock.enabled;
    for (int i = 0; i < 100; i++)
        launch(10 + i, 11 + i); /* nothing is pushed: no links */
    for (int i = 0; i < 5; i++)
        assert_true(trace->flush(trace->context, 2000000000));
    trace->close(trace->context);
    assert_int_equal(mock.enabled, before + 2);
    mock_reset(NULL);
    trace = cupti_open(&mock_api, NULL, NULL);
    for (int i = 0; i < 100; i++) {
        trace->push(trace->context, gpu_tag(1, i % 2 ? 3 : GPU_OP_NONE));
        launch(10 + i, 11 + i);
        trace->pop(trace->context);
        launch(10 + i, 11 + i);
    }
    for (int i = 0; i < 5; i++)
        assert_true(trace->flush(trace->context, 2000000000));
    trace->close(trace->context);
    assert_int_equal(mock.enabled, before);
}

/* What only adds a figure, or only spares records, may be refused */
static void lesser_refusals_are_borne(void **state)
{
    (void)state;
    struct error error = {.code = ERROR_NONE};
    mock.refused_kind = CUPTI_ACTIVITY_KIND_MEMORY2;
    mock.call_result = CUPTI_ERROR_INVALID_PARAMETER;
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, &error);
    assert_non_null(trace);
    assert_int_equal(mock.enabled, 7 + 2);
    trace->close(trace->context);
    assert_int_equal(mock.disabled, 7 + 2);
    mock.refused_kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    assert_null(cupti_open(&mock_api, NULL, &error));
    assert_int_equal(error.code, ERROR_CUPTI);
}

/* A virtual environment's python3 is a link to one that knows nothing of the environment's wheels */
static void wheels_of_a_virtual_environment_are_found(void **state)
{
    (void)state;
    char folder[] = "/tmp/layertop-venv-XXXXXX", command[1024], tried[2048] = "";
    assert_non_null(mkdtemp(folder));
    snprintf(
        command, sizeof command,
        "mkdir -p %s/bin %s/base/bin %s/lib/python3.12/site-packages/nvidia/cu13/lib && "
        "cp /bin/true %s/base/bin/python3.12 && ln -s %s/base/bin/python3.12 %s/bin/python3 && "
        "echo no library >%s/lib/python3.12/site-packages/nvidia/cu13/lib/libcupti.so.77",
        folder, folder, folder, folder, folder, folder, folder);
    assert_int_equal(system(command), 0);
    char *before = strdup(getenv("PATH")), path[4096];
    snprintf(path, sizeof path, "%s/bin:%s", folder, before);
    setenv("PATH", path, 1);
    struct cupti_api api;
    assert_false(cupti_library_open(&api, 77, tried, sizeof tried));
    setenv("PATH", before, 1);
    free(before);
    snprintf(path, sizeof path, "%s/lib*/python3*/*-packages/nvidia/cu*/lib/libcupti.so.77",
             folder);
    assert_non_null(strstr(tried, path));
    snprintf(path, sizeof path, "%s/base/lib*/python3", folder);
    assert_non_null(strstr(tried, path));
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void flushes_run_by_themselves_while_steps_do(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, NULL);
    assert_non_null(trace);
    usleep(120000);
    assert_int_equal(mock.flushes, 0); /* nothing runs: nobody is woken */
    for (int i = 0; i < 4; i++) {
        trace->push(trace->context, gpu_tag((uint64_t)i, GPU_OP_NONE));
        trace->pop(trace->context);
        usleep(60000);
    }
    assert_in_range(trace->flushes(trace->context), 2, 8);
    trace->close(trace->context);
}

static void drops_are_counted(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, NULL);
    assert_non_null(trace);
    pthread_mutex_lock(&mock.lock);
    mock.dropped = 17;
    pthread_mutex_unlock(&mock.lock);
    trace->push(trace->context, gpu_tag(1, GPU_OP_NONE));
    launch(0, 0);
    trace->pop(trace->context);
    struct gpu_losses losses = {.dropped = 0};
    for (int i = 0; i < 25; i++)
        assert_true(trace->flush(trace->context, 2000000000));
    trace->losses(trace->context, &losses);
    assert_int_equal(losses.dropped, 17);
    assert_int_equal(losses.untimed, 1);
    trace->close(trace->context);
}

static void refusals_become_sentences(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *word;
    } rows[] = {
        {39, "another tool"}, {35, "administrators"},    {15, "older"},        {999, "driver"},
        {33, "virtual"},      {40, "virtual"},           {41, "confidential"}, {43, "MIG"},
        {45, "WSL"},          {7777, "CUPTI_ERROR_MOCK"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mock.subscribe_result = (CUptiResult)rows[i].code;
        mock.other = rows[i].code == 39 ? "CUPTI for nsys" : NULL;
        struct error error = {.code = ERROR_NONE};
        assert_null(cupti_open(&mock_api, NULL, &error));
        assert_int_equal(error.code, ERROR_CUPTI);
        if (!strstr(error.why, rows[i].word))
            fail_msg("%d: %s", rows[i].code, error.why);
        assert_string_not_equal(error.hint, "");
        if (rows[i].code == 39)
            assert_non_null(strstr(error.why, "nsys"));
    }
    /* a refusal after subscribing leaves no subscriber behind */
    mock_reset(NULL);
    mock.enable_result = CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
    assert_null(cupti_open(&mock_api, NULL, NULL));
    assert_int_equal(mock.unsubscribed, 1);
}

static void a_fatal_error_is_noticed(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, NULL);
    assert_non_null(trace);
    char why[100] = "";
    assert_true(trace->alive(trace->context, why, sizeof why));
    mock.callback(mock.callback_context, CUPTI_CB_DOMAIN_STATE, CUPTI_CBID_STATE_FATAL_ERROR, NULL);
    assert_false(trace->alive(trace->context, why, sizeof why));
    assert_string_not_equal(why, "");
    trace->close(trace->context);
}

/* Nodes, whole graphs, nodes: never both; what ran before is in the queue when it is switched */
static void graphs_are_recorded_by_node_or_as_wholes(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, NULL);
    assert_non_null(trace);
    assert_true(mock.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    trace->push(trace->context, gpu_tag(1, 3));
    launch(10, 20);
    trace->pop(trace->context);
    assert_true(trace->detail(trace->context, GPU_DETAIL_WHOLE, 2000000000));
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_true(mock.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    struct gpu_event events[8];
    assert_int_equal(trace->take(trace->context, events, 8), 1);
    assert_true(trace->detail(trace->context, GPU_DETAIL_NODES, 2000000000));
    assert_true(mock.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    /* off: nothing of a step is recorded, and nothing is asked of CUPTI */
    assert_true(trace->detail(trace->context, GPU_DETAIL_OFF, 2000000000));
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_MEMCPY]);
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION]);
    trace->push(trace->context, gpu_tag(1, 3));
    assert_int_equal(mock.depth, 0);
    trace->pop(trace->context);
    assert_true(trace->detail(trace->context, GPU_DETAIL_WHOLE, 2000000000));
    assert_true(mock.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    assert_true(mock.on[CUPTI_ACTIVITY_KIND_MEMCPY]);
    assert_true(trace->detail(trace->context, GPU_DETAIL_OFF, 2000000000));
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    assert_true(trace->detail(trace->context, GPU_DETAIL_NODES, 2000000000));
    assert_true(mock.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_true(mock.on[CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION]);
    /* a CUPTI without that kind still leaves kernels alone between the bursts */
    mock.refused_kind = CUPTI_ACTIVITY_KIND_GRAPH_TRACE;
    assert_true(trace->detail(trace->context, GPU_DETAIL_WHOLE, 2000000000));
    assert_false(mock.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    /* one that does not record kernels again is given up */
    char why[100] = "";
    mock.refused_kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    assert_true(trace->alive(trace->context, why, sizeof why));
    assert_false(trace->detail(trace->context, GPU_DETAIL_NODES, 2000000000));
    assert_false(trace->alive(trace->context, why, sizeof why));
    assert_non_null(strstr(why, "after a pause"));
    trace->close(trace->context);
    for (int kind = 0; kind < 64; kind++)
        assert_false(mock.on[kind]);
}

static void capture_maps_nodes(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, NULL);
    assert_non_null(trace);
    static char nodes[4];
    CUpti_GraphData data = {.node = (CUgraphNode)(void *)&nodes[0]};
    CUpti_ResourceData resource = {.resourceDescriptor = &data};
    trace->push(trace->context, gpu_tag(1, GPU_OP_NONE));
    trace->push(trace->context, gpu_tag(1, 6));
    mock.callback(mock.callback_context, CUPTI_CB_DOMAIN_RESOURCE,
                  CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, &resource);
    trace->pop(trace->context);
    data.originalNode = data.node;
    data.node = (CUgraphNode)(void *)&nodes[1];
    mock.callback(mock.callback_context, CUPTI_CB_DOMAIN_RESOURCE,
                  CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, &resource); /* inside instantiate */
    mock.callback(mock.callback_context, CUPTI_CB_DOMAIN_RESOURCE,
                  CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED, &resource);
    trace->pop(trace->context);
    pthread_mutex_lock(&mock.lock);
    mock.pending[mock.pending_count++] = activity_kernel(50, 1, 2, (uint64_t)(uintptr_t)&nodes[1]);
    pthread_mutex_unlock(&mock.lock);
    assert_true(trace->flush(trace->context, 2000000000));
    struct gpu_event event;
    assert_int_equal(trace->take(trace->context, &event, 1), 1);
    assert_int_equal(event.op, 6);
    trace->close(trace->context);
}

static void raw_buffers_are_kept(void **state)
{
    (void)state;
    char path[] = "/tmp/layertop-raw-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    const struct gpu_trace *trace = cupti_open(&mock_api, path, NULL);
    assert_non_null(trace);
    trace->push(trace->context, gpu_tag(1, 2));
    launch(10, 20);
    trace->pop(trace->context);
    assert_true(trace->flush(trace->context, 2000000000));
    trace->close(trace->context);
    char bytes[4096];
    ssize_t length = read(fd, bytes, sizeof bytes);
    size_t head = 8 + 8 + 10 * 8;
    size_t records = sizeof(CUpti_ActivityKernel10) + sizeof(CUpti_ActivityExternalCorrelation);
    assert_int_equal(length, head + 16 + records);
    assert_memory_equal(bytes, "LTCUPTI1", 8);
    uint64_t valid;
    memcpy(&valid, bytes + head, sizeof valid);
    assert_int_equal(valid, records);
    close(fd);
    unlink(path);
    struct error error = {.code = ERROR_NONE};
    assert_null(cupti_open(&mock_api, "/nonexistent/raw", &error));
    assert_int_equal(error.code, ERROR_FILE);
}

static void run_one_launch(const struct gpu_trace *trace)
{
    trace->push(trace->context, gpu_tag(1, 2));
    launch(10, 20);
    trace->pop(trace->context);
    assert_true(trace->flush(trace->context, 2000000000));
}

/* A context lives: CUPTI stays as it is, only the file comes and goes */
static void raw_buffers_begin_and_end_while_cupti_runs(void **state)
{
    (void)state;
    char path[] = "/tmp/layertop-raw-XXXXXX";
    struct error error = {.code = ERROR_NONE};
    close(mkstemp(path));
    const struct gpu_trace *trace = cupti_open(&mock_api, NULL, NULL);
    run_one_launch(trace);
    assert_true(trace->raw(trace->context, path, &error));
    run_one_launch(trace);
    assert_true(trace->raw(trace->context, NULL, &error));
    run_one_launch(trace);
    assert_false(trace->raw(trace->context, "/nonexistent/raw", &error));
    assert_int_equal(error.code, ERROR_FILE);
    run_one_launch(trace);
    trace->close(trace->context);
    FILE *file = fopen(path, "r");
    fseek(file, 0, SEEK_END);
    size_t records = sizeof(CUpti_ActivityKernel10) + sizeof(CUpti_ActivityExternalCorrelation);
    assert_int_equal(ftell(file), 8 + 8 + 10 * 8 + 16 + records);
    fclose(file);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(kernels_arrive_with_their_op, mock_reset),
        cmocka_unit_test_setup(missing_correlations_widen_the_calls, mock_reset),
        cmocka_unit_test_setup(lesser_refusals_are_borne, mock_reset),
        cmocka_unit_test(wheels_of_a_virtual_environment_are_found),
        cmocka_unit_test_setup(flushes_run_by_themselves_while_steps_do, mock_reset),
        cmocka_unit_test_setup(drops_are_counted, mock_reset),
        cmocka_unit_test_setup(refusals_become_sentences, mock_reset),
        cmocka_unit_test_setup(a_fatal_error_is_noticed, mock_reset),
        cmocka_unit_test_setup(graphs_are_recorded_by_node_or_as_wholes, mock_reset),
        cmocka_unit_test_setup(capture_maps_nodes, mock_reset),
        cmocka_unit_test_setup(raw_buffers_are_kept, mock_reset),
        cmocka_unit_test_setup(raw_buffers_begin_and_end_while_cupti_runs, mock_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
