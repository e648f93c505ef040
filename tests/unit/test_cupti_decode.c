/* CUPTI's records made into events, without a GPU: synthetic activity buffers through the real
 * cuptiActivityGetNextRecord (it needs no driver). */
#include "profiler/cupti.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef LAYERTOP_CUDA_HEADERS
static void without_headers_there_are_no_records(void **state)
{
    (void)state;
    struct error error = {.code = ERROR_NONE};
    assert_null(cupti_open(NULL, NULL, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_headers_there_are_no_records)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
#include "profiler/cupti_decode.h"
#include "tests/support/activity.h"

#include <stdio.h>

static struct cupti_api real;

static int open_real(void **state)
{
    (void)state;
    char tried[700] = "";
    if (!cupti_library_open(&real, 13, tried, sizeof tried))
        fprintf(stderr, "no libcupti.so.13 here (%s): only the mock is tested\n", tried);
    return 0;
}

/* With the toolkit's library its own walker is used */
static struct cupti_decoder *decoder_new(void)
{
    return cupti_decoder_new(real.next_record ? real.next_record : activity_walk, false);
}

/* Decode some records as one buffer */
static bool decode(struct cupti_decoder *decoder, const struct activity *records, size_t count)
{
    static _Alignas(8) uint8_t buffer[1 << 18];
    memset(buffer, 0, sizeof buffer);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(at + records[i].bytes <= sizeof buffer);
        memcpy(buffer + at, records[i].data, records[i].bytes);
        at += records[i].bytes;
    }
    return cupti_decoder_buffer(decoder, buffer, at);
}

static uint32_t random_state = 12345;
static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % bound;
}

#define STEPS 6
#define OPS   9

struct aggregate {
    int64_t kernel_ns[STEPS][OPS];
    uint64_t kernels, copies, copy_bytes, untagged;
};

static void aggregate_take(struct cupti_decoder *decoder, struct aggregate *sum)
{
    size_t count;
    const struct gpu_event *events = cupti_decoder_events(decoder, &count);
    for (size_t i = 0; i < count; i++) {
        const struct gpu_event *event = &events[i];
        if (event->tag == 0) {
            sum->untagged++;
            continue;
        }
        if (event->kind == GPU_EVENT_COPY) {
            sum->copies++;
            sum->copy_bytes += event->bytes;
            continue;
        }
        sum->kernels++;
        sum->kernel_ns[gpu_tag_step(event->tag)][event->op] += event->end_ns - event->start_ns;
    }
    cupti_decoder_clear(decoder);
}

static void order_and_splitting_do_not_matter(void **state)
{
    (void)state;
    struct activity *records = calloc(STEPS * OPS * 8, sizeof *records);
    size_t count = 0;
    uint32_t id = 1;
    struct aggregate expected = {.kernels = 0};
    for (int step = 0; step < STEPS; step++) {
        for (int op = 0; op < OPS; op++) {
            int launches = 1 + (step + op) % 2;
            for (int k = 0; k < launches; k++, id++) {
                int64_t start = 1000000 + id * 1000;
                int64_t length = 10 + (op * 31 + step * 7 + k) % 500;
                records[count++] = activity_link(id, gpu_tag((uint64_t)step, op));
                records[count++] = activity_call(id);
                records[count++] = activity_kernel(id, start, start + length, 0);
                expected.kernel_ns[step][op] += length;
                expected.kernels++;
            }
        }
        records[count++] = activity_link(id, gpu_tag((uint64_t)step, GPU_OP_NONE));
        records[count++] = activity_copy(id, 1000000 + id * 1000, 1000000 + id * 1000 + 50, 4096);
        expected.copies++;
        expected.copy_bytes += 4096;
        id++;
    }
    for (int round = 0; round < 50; round++) {
        for (size_t i = count - 1; i > 0; i--) {
            size_t j = random_below((uint32_t)i + 1);
            struct activity swap = records[i];
            records[i] = records[j];
            records[j] = swap;
        }
        struct cupti_decoder *decoder = decoder_new();
        struct aggregate sum = {.kernels = 0};
        /* at most one flush lies between two parts of one launch: each is waited for that long */
        size_t flush_at = random_below((uint32_t)count);
        bool flushed = false;
        for (size_t at = 0; at < count;) {
            size_t part = 1 + random_below(40);
            if (part > count - at)
                part = count - at;
            assert_true(decode(decoder, records + at, part));
            at += part;
            if (!flushed && at >= flush_at) {
                cupti_decoder_flushed(decoder);
                flushed = true;
            }
            aggregate_take(decoder, &sum);
        }
        assert_memory_equal(&sum, &expected, sizeof sum);
        struct gpu_losses losses;
        cupti_decoder_losses(decoder, &losses);
        assert_int_equal(losses.dropped + losses.untimed, 0);
        cupti_decoder_free(decoder);
    }
    free(records);
}

static void kernels_long_after_their_launch_are_joined(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    struct activity link = activity_link(7, gpu_tag(3, 4));
    assert_true(decode(decoder, &link, 1));
    for (int i = 0; i < 30; i++)
        cupti_decoder_flushed(decoder);
    struct activity late = activity_kernel(7, 100, 300, 0);
    assert_true(decode(decoder, &late, 1));
    size_t count;
    const struct gpu_event *events = cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 1);
    assert_int_equal(events[0].op, 4);
    assert_int_equal(gpu_tag_step(events[0].tag), 3);
    cupti_decoder_free(decoder);
}

static void what_is_never_joined_is_counted(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    struct activity lonely = activity_kernel(9, 100, 300, 0);
    struct activity untimed = activity_kernel(10, 0, 0, 0);
    struct activity backwards = activity_kernel(11, 500, 499, 0);
    struct activity link = activity_link(11, gpu_tag(1, 1));
    size_t count;
    decode(decoder, &lonely, 1);
    decode(decoder, &untimed, 1);
    decode(decoder, &link, 1);
    decode(decoder, &backwards, 1);
    const struct gpu_event *events = cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 1);
    assert_int_equal(events[0].start_ns, events[0].end_ns);
    cupti_decoder_clear(decoder);
    cupti_decoder_flushed(decoder);
    cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 0);
    cupti_decoder_flushed(decoder);
    events = cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 1);
    assert_int_equal(events[0].tag, 0);
    struct gpu_losses losses;
    cupti_decoder_losses(decoder, &losses);
    assert_int_equal(cupti_decoder_untagged(decoder), 1);
    assert_int_equal(losses.untimed, 1);
    assert_int_equal(losses.dropped, 0);
    cupti_decoder_free(decoder);
}

/* One event a launch, placed by its time: its correlation may be another's */
static void whole_graphs_are_one_event(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    struct activity records[] = {activity_link(7, gpu_tag(3, 2)), activity_graph(7, 100, 900),
                                 activity_graph(8, 0, 0), activity_graph(9, 2000, 1999)};
    assert_true(decode(decoder, records, 4));
    size_t count;
    const struct gpu_event *events = cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 2);
    assert_int_equal(events[0].kind, GPU_EVENT_GRAPH);
    assert_int_equal(events[0].tag, 0);
    assert_int_equal(events[0].op, GPU_OP_NONE);
    assert_int_equal(events[0].end_ns - events[0].start_ns, 800);
    assert_int_equal(events[1].end_ns - events[1].start_ns, 0);
    struct gpu_losses losses;
    cupti_decoder_losses(decoder, &losses);
    assert_int_equal(losses.untimed, 1);
    assert_int_equal(losses.dropped, 0);
    cupti_decoder_free(decoder);
}

static void a_broken_buffer_is_one_loss(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    struct activity records[] = {activity_link(1, gpu_tag(0, 2)), activity_kernel(1, 10, 20, 0),
                                 activity_kernel(2, 10, 20, 0)};
    records[2].data[0] = 0xee; /* no such kind */
    records[2].data[1] = 0xee;
    assert_false(decode(decoder, records, 3));
    size_t count;
    cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 1);
    struct gpu_losses losses;
    cupti_decoder_losses(decoder, &losses);
    assert_int_equal(losses.dropped, 1);
    cupti_decoder_free(decoder);
}

static void graph_nodes_name_their_op(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    cupti_decoder_node(decoder, 100, 5); /* captured */
    cupti_decoder_node_cloned(decoder, 200, 100);
    cupti_decoder_node_cloned(decoder, 300, 100); /* a second executable */
    cupti_decoder_node_cloned(decoder, 301, 999); /* clone of a node of no op */
    cupti_decoder_node_gone(decoder, 100);
    cupti_decoder_node_gone(decoder, 200);
    struct activity records[] = {activity_kernel(40, 10, 30, 200), activity_kernel(40, 30, 35, 300),
                                 activity_kernel(40, 40, 45, 301),
                                 activity_link(40, gpu_tag(8, GPU_OP_NONE))};
    assert_true(decode(decoder, records, 4));
    size_t count;
    const struct gpu_event *events = cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 3);
    assert_int_equal(events[0].op, 5); /* a node that is gone still answers for its last launch */
    assert_int_equal(events[1].op, 5);
    assert_int_equal(events[2].op, GPU_OP_NONE);
    assert_int_equal(gpu_tag_step(events[2].tag), 8);
    cupti_decoder_free(decoder);
}

static void many_nodes_come_and_go(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    for (uint64_t n = 1; n <= 300000; n++) {
        cupti_decoder_node(decoder, n, (int)(n % 1000));
        if (n > 5000)
            cupti_decoder_node_gone(decoder, n - 5000);
    }
    struct activity records[] = {activity_kernel(1, 10, 30, 300000),
                                 activity_kernel(1, 10, 30, 295001)};
    decode(decoder, records, 2);
    size_t count;
    const struct gpu_event *events = cupti_decoder_events(decoder, &count);
    assert_int_equal(count, 2);
    assert_int_equal(events[0].op, 0);
    assert_int_equal(events[1].op, 1);
    cupti_decoder_free(decoder);
}

static void allocations_of_libraries_are_told_from_ours(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    int64_t now = 5000000000;
    struct activity records[] = {activity_allocation(false, 0x1000, 1 << 20, now),
                                 activity_allocation(false, 0x9000, 64 << 20, now),
                                 activity_allocation(false, 0x20000, 3 << 20, now)};
    cupti_decoder_ours(decoder, (64 << 20) - 100, now); /* told before the record is decoded */
    assert_true(decode(decoder, records, 3));
    assert_int_equal(cupti_decoder_library_bytes(decoder), 4 << 20);
    cupti_decoder_ours(decoder, 3 << 20, now + 1000000); /* and after */
    assert_int_equal(cupti_decoder_library_bytes(decoder), 1 << 20);
    struct activity freed[] = {activity_allocation(true, 0x9000, 64 << 20, now),
                               activity_allocation(true, 0x1000, 1 << 20, now)};
    decode(decoder, freed, 2);
    assert_int_equal(cupti_decoder_library_bytes(decoder), 0);
    cupti_decoder_free(decoder);
}

/* What a pool holds counts once, whatever is allocated from it, and in whatever order it is told */
static void pools_of_libraries_count_as_a_whole(void **state)
{
    (void)state;
    struct cupti_decoder *decoder = decoder_new();
    int64_t now = 5000000000;
    struct activity first[] = {activity_allocation(false, 0x1000, 1 << 20, now),
                               activity_pooled(false, 0xa, 32 << 20, now + 2),
                               activity_pooled(false, 0xa, 64 << 20, now + 9),
                               activity_pooled(false, 0xa, 48 << 20, now + 5), /* older */
                               activity_pooled(false, 0xb, 2 << 20, now + 3)};
    assert_true(decode(decoder, first, 5));
    assert_int_equal(cupti_decoder_library_bytes(decoder), 67 << 20);
    struct activity then[] = {activity_pooled(true, 0xa, 64 << 20, now + 10), /* kept by the pool */
                              activity_pool(false, 0xa, 16 << 20, now + 20),
                              activity_pool(true, 0xb, 2 << 20, now + 21)};
    assert_true(decode(decoder, then, 3));
    assert_int_equal(cupti_decoder_library_bytes(decoder), 17 << 20);
    for (uint64_t pool = 100; pool < 300; pool++) { /* more than are remembered */
        struct activity one = activity_pool(false, pool, 1 << 20, now + 30);
        assert_true(decode(decoder, &one, 1));
    }
    assert_in_range(cupti_decoder_library_bytes(decoder), 17 << 20, 100 << 20);
    cupti_decoder_free(decoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_splitting_do_not_matter),
        cmocka_unit_test(kernels_long_after_their_launch_are_joined),
        cmocka_unit_test(what_is_never_joined_is_counted),
        cmocka_unit_test(whole_graphs_are_one_event),
        cmocka_unit_test(a_broken_buffer_is_one_loss),
        cmocka_unit_test(graph_nodes_name_their_op),
        cmocka_unit_test(many_nodes_come_and_go),
        cmocka_unit_test(allocations_of_libraries_are_told_from_ours),
        cmocka_unit_test(pools_of_libraries_count_as_a_whole),
    };
    return cmocka_run_group_tests(tests, open_real, NULL);
}
#endif
