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
#include "tests/support/mock_cupti.h"

#include <stdio.h>
#include <unistd.h>

static void kernels_arrive_with_their_op(void **state)
{
    (void)state;
    struct error error = {.code = ERROR_NONE};
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, &error);
    assert_non_null(trace);
    assert_true(mock_cupti.enabled >= 6);
    trace->push(trace->context, gpu_tag(70000000001, GPU_OP_NONE));
    mock_cupti_launch(10, 20);
    trace->push(trace->context, gpu_tag(70000000001, 3));
    mock_cupti_launch(20, 50);
    mock_cupti_launch(60, 70);
    trace->pop(trace->context);
    trace->pop(trace->context);
    assert_int_equal(mock_cupti.depth + mock_cupti.surplus, 0);
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
    assert_int_equal(mock_cupti.unsubscribed, 1);
    assert_true(mock_cupti.disabled >= 6);
}

/* A worker may go on without CUPTI (events take over): nothing is recorded any more, and what CUPTI
 * asks for all the same it does not get. */
static void nothing_is_recorded_behind_it(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    assert_true(mock_cupti.calls > 0);
    trace->close(trace->context);
    assert_int_equal(mock_cupti.calls, 0);
    for (int kind = 0; kind < MOCK_CUPTI_KINDS; kind++)
        assert_false(mock_cupti.on[kind]);
    uint8_t *data = (uint8_t *)&mock_cupti;
    size_t size = 1, most = 1;
    mock_cupti.request(&data, &size, &most);
    assert_null(data);
    mock_cupti.complete(NULL, 0, data, 0, 0);
}

/* A CUPTI that gives correlations only where whole kinds are recorded is asked for those */
static void missing_correlations_widen_the_calls(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    int before = mock_cupti.enabled;
    for (int i = 0; i < 100; i++)
        mock_cupti_launch(10 + i, 11 + i); /* nothing is pushed: no links */
    for (int i = 0; i < 5; i++)
        assert_true(trace->flush(trace->context, 2000000000));
    trace->close(trace->context);
    assert_int_equal(mock_cupti.enabled, before + 2);
    mock_cupti_reset(NULL);
    trace = cupti_open(&mock_cupti_api, NULL, NULL);
    for (int i = 0; i < 100; i++) {
        trace->push(trace->context, gpu_tag(1, i % 2 ? 3 : GPU_OP_NONE));
        mock_cupti_launch(10 + i, 11 + i);
        trace->pop(trace->context);
        mock_cupti_launch(10 + i, 11 + i);
    }
    for (int i = 0; i < 5; i++)
        assert_true(trace->flush(trace->context, 2000000000));
    trace->close(trace->context);
    assert_int_equal(mock_cupti.enabled, before);
}

/* What only adds a figure, or only spares records, may be refused */
static void lesser_refusals_are_borne(void **state)
{
    (void)state;
    struct error error = {.code = ERROR_NONE};
    mock_cupti.refused_kind = CUPTI_ACTIVITY_KIND_MEMORY2;
    mock_cupti.call_result = CUPTI_ERROR_INVALID_PARAMETER;
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, &error);
    assert_non_null(trace);
    assert_int_equal(mock_cupti.enabled, 7 + 2);
    trace->close(trace->context);
    assert_int_equal(mock_cupti.disabled, 7 + 2);
    mock_cupti.refused_kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    assert_null(cupti_open(&mock_cupti_api, NULL, &error));
    assert_int_equal(error.code, ERROR_CUPTI);
}

/* Its buffers lie in the host's memory; where they cannot, it says how large they are. */
static void its_own_memory_is_told(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    assert_int_equal(trace->own_bytes(trace->context), 0);
    trace->close(trace->context);
    mock_cupti.unpinned = true;
    trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_int_equal(trace->own_bytes(trace->context), 3 * 3200000);
    trace->close(trace->context);
    struct cupti_api older = mock_cupti_api;
    older.get_attribute = NULL;
    trace = cupti_open(&older, NULL, NULL);
    assert_int_equal(trace->own_bytes(trace->context), UINT64_MAX);
    trace->close(trace->context);
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
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    usleep(120000);
    assert_int_equal(mock_cupti.flushes, 0); /* nothing runs: nobody is woken */
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
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    pthread_mutex_lock(&mock_cupti.lock);
    mock_cupti.dropped = 17;
    pthread_mutex_unlock(&mock_cupti.lock);
    trace->push(trace->context, gpu_tag(1, GPU_OP_NONE));
    mock_cupti_launch(0, 0);
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
        mock_cupti.subscribe_result = (CUptiResult)rows[i].code;
        mock_cupti.other = rows[i].code == 39 ? "CUPTI for nsys" : NULL;
        struct error error = {.code = ERROR_NONE};
        assert_null(cupti_open(&mock_cupti_api, NULL, &error));
        assert_int_equal(error.code, ERROR_CUPTI);
        if (!strstr(error.why, rows[i].word))
            fail_msg("%d: %s", rows[i].code, error.why);
        assert_string_not_equal(error.hint, "");
        if (rows[i].code == 39)
            assert_non_null(strstr(error.why, "nsys"));
    }
    /* a refusal after subscribing leaves no subscriber behind */
    mock_cupti_reset(NULL);
    mock_cupti.enable_result = CUPTI_ERROR_INSUFFICIENT_PRIVILEGES;
    assert_null(cupti_open(&mock_cupti_api, NULL, NULL));
    assert_int_equal(mock_cupti.unsubscribed, 1);
}

static void a_fatal_error_is_noticed(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    char why[100] = "";
    assert_true(trace->alive(trace->context, why, sizeof why));
    mock_cupti.callback(mock_cupti.callback_context, CUPTI_CB_DOMAIN_STATE,
                        CUPTI_CBID_STATE_FATAL_ERROR, NULL);
    assert_false(trace->alive(trace->context, why, sizeof why));
    assert_string_not_equal(why, "");
    trace->close(trace->context);
}

/* Nodes, whole graphs, nodes: never both; what ran before is in the queue when it is switched */
static void graphs_are_recorded_by_node_or_as_wholes(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    assert_true(mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    trace->push(trace->context, gpu_tag(1, 3));
    mock_cupti_launch(10, 20);
    trace->pop(trace->context);
    assert_true(trace->detail(trace->context, GPU_DETAIL_WHOLE, 2000000000));
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_true(mock_cupti.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    struct gpu_event events[8];
    assert_int_equal(trace->take(trace->context, events, 8), 1);
    assert_true(trace->detail(trace->context, GPU_DETAIL_NODES, 2000000000));
    assert_true(mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    /* off: nothing of a step is recorded, and nothing is asked of CUPTI */
    assert_true(trace->detail(trace->context, GPU_DETAIL_OFF, 2000000000));
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_MEMCPY]);
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION]);
    trace->push(trace->context, gpu_tag(1, 3));
    assert_int_equal(mock_cupti.depth, 0);
    trace->pop(trace->context);
    assert_true(trace->detail(trace->context, GPU_DETAIL_WHOLE, 2000000000));
    assert_true(mock_cupti.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    assert_true(mock_cupti.on[CUPTI_ACTIVITY_KIND_MEMCPY]);
    assert_true(trace->detail(trace->context, GPU_DETAIL_OFF, 2000000000));
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_GRAPH_TRACE]);
    assert_true(trace->detail(trace->context, GPU_DETAIL_NODES, 2000000000));
    assert_true(mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    assert_true(mock_cupti.on[CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION]);
    /* a CUPTI without that kind still leaves kernels alone between the bursts */
    mock_cupti.refused_kind = CUPTI_ACTIVITY_KIND_GRAPH_TRACE;
    assert_true(trace->detail(trace->context, GPU_DETAIL_WHOLE, 2000000000));
    assert_false(mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    /* one that does not record kernels again is given up */
    char why[100] = "";
    mock_cupti.refused_kind = CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL;
    assert_true(trace->alive(trace->context, why, sizeof why));
    assert_false(trace->detail(trace->context, GPU_DETAIL_NODES, 2000000000));
    assert_false(trace->alive(trace->context, why, sizeof why));
    assert_non_null(strstr(why, "after a pause"));
    trace->close(trace->context);
    for (int kind = 0; kind < 64; kind++)
        assert_false(mock_cupti.on[kind]);
}

static void capture_maps_nodes(void **state)
{
    (void)state;
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
    assert_non_null(trace);
    static char nodes[4];
    CUpti_GraphData data = {.node = (CUgraphNode)(void *)&nodes[0]};
    CUpti_ResourceData resource = {.resourceDescriptor = &data};
    trace->push(trace->context, gpu_tag(1, GPU_OP_NONE));
    trace->push(trace->context, gpu_tag(1, 6));
    mock_cupti.callback(mock_cupti.callback_context, CUPTI_CB_DOMAIN_RESOURCE,
                        CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, &resource);
    trace->pop(trace->context);
    data.originalNode = data.node;
    data.node = (CUgraphNode)(void *)&nodes[1];
    mock_cupti.callback(mock_cupti.callback_context, CUPTI_CB_DOMAIN_RESOURCE,
                        CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED, &resource); /* inside instantiate */
    mock_cupti.callback(mock_cupti.callback_context, CUPTI_CB_DOMAIN_RESOURCE,
                        CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED, &resource);
    trace->pop(trace->context);
    mock_cupti_add(activity_kernel(50, 1, 2, (uint64_t)(uintptr_t)&nodes[1]));
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
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, path, NULL);
    assert_non_null(trace);
    trace->push(trace->context, gpu_tag(1, 2));
    mock_cupti_launch(10, 20);
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
    assert_null(cupti_open(&mock_cupti_api, "/nonexistent/raw", &error));
    assert_int_equal(error.code, ERROR_FILE);
}

static void run_one_launch(const struct gpu_trace *trace)
{
    trace->push(trace->context, gpu_tag(1, 2));
    mock_cupti_launch(10, 20);
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
    const struct gpu_trace *trace = cupti_open(&mock_cupti_api, NULL, NULL);
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
        cmocka_unit_test_setup(kernels_arrive_with_their_op, mock_cupti_reset),
        cmocka_unit_test_setup(nothing_is_recorded_behind_it, mock_cupti_reset),
        cmocka_unit_test_setup(missing_correlations_widen_the_calls, mock_cupti_reset),
        cmocka_unit_test_setup(lesser_refusals_are_borne, mock_cupti_reset),
        cmocka_unit_test_setup(its_own_memory_is_told, mock_cupti_reset),
        cmocka_unit_test(wheels_of_a_virtual_environment_are_found),
        cmocka_unit_test_setup(flushes_run_by_themselves_while_steps_do, mock_cupti_reset),
        cmocka_unit_test_setup(drops_are_counted, mock_cupti_reset),
        cmocka_unit_test_setup(refusals_become_sentences, mock_cupti_reset),
        cmocka_unit_test_setup(a_fatal_error_is_noticed, mock_cupti_reset),
        cmocka_unit_test_setup(graphs_are_recorded_by_node_or_as_wholes, mock_cupti_reset),
        cmocka_unit_test_setup(capture_maps_nodes, mock_cupti_reset),
        cmocka_unit_test_setup(raw_buffers_are_kept, mock_cupti_reset),
        cmocka_unit_test_setup(raw_buffers_begin_and_end_while_cupti_runs, mock_cupti_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
