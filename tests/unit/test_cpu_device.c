/* A CPU device with a plan: what its listener hears, what it shares, how it ends, what is too large. */
#include "engine/backend.h"
#include "tests/support/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

static const char RESIDUAL[] =
    "x = Input 12,12,8\n"
    "c1 = Conv2D(x) {'filters': 8, 'kernel_size': 3, 'padding': 'same'} k 3,3,8,8 b 8\n"
    "r1 = Activation(c1) {'activation': 'relu'}\n"
    "c2 = Conv2D(r1) {'filters': 8, 'kernel_size': 3, 'padding': 'same'} k 3,3,8,8 b 8\n"
    "a = Add(c1, c2)\n"
    "g = GlobalAveragePooling2D(a)\n"
    "d = Dense(g) {'units': 10, 'activation': 'softmax'} k 8,10 b 10\n"
    "out d\n";

struct heard {
    int begins, ends, last;
    int64_t until_ns, total_ns;
    bool overlap;
    uint64_t bytes[MEMORY_CATEGORY_COUNT];
};

static void hear_begin(void *context, int op)
{
    struct heard *heard = context;
    heard->begins++;
    heard->last = op;
}

static void hear_end(void *context, int op, enum interval_class class, int64_t start_ns,
                     int64_t end_ns)
{
    struct heard *heard = context;
    heard->ends += op == heard->last && class == INTERVAL_KERNEL;
    heard->overlap |= start_ns < heard->until_ns || end_ns < start_ns;
    heard->until_ns = end_ns;
    heard->total_ns += end_ns - start_ns;
}

static void hear_memory(void *context, const char *device, enum memory_category category,
                        uint64_t bytes_now)
{
    struct heard *heard = context;
    assert_string_equal(device, "cpu");
    heard->bytes[category] = bytes_now;
}

static void the_observer_hears_each_op(void **state)
{
    (void)state;
    struct error error = {0};
    struct heard heard = {0};
    const struct observer observer = {
        .context = &heard, .op_begin = hear_begin, .op_end = hear_end, .memory = hear_memory};
    struct model *model = tiny_model(RESIDUAL);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options options = {.batch = 2, .fusion = true};
    struct graph *graph = graph_lower(model, &options, pool, &error);
    const struct device_options device_options = {.threads = 1};
    setenv("LAYERTOP_TEST_SLOW_LAYER", "c2:20", 1);
    struct device *device = backend_cpu.device_open(&device_options, &observer, &error);
    unsetenv("LAYERTOP_TEST_SLOW_LAYER");
    const struct plan_options plan_options = {.precision = PRECISION_FP32};
    struct plan *plan = backend_cpu.plan_new(device, graph, &plan_options, &error);
    assert_non_null(plan);
    int active = 0;
    for (size_t i = 0; i < graph->op_count; i++)
        active += backend_cpu.plan_impls(plan)[i] != NULL;
    const struct step_context step = {.observer = &observer, .step = 1};
    assert_true(backend_cpu.plan_run(plan, &step, &error));
    assert_int_equal(heard.begins, active);
    assert_int_equal(heard.ends, active);
    assert_false(heard.overlap);
    assert_true(heard.total_ns >= 20 * 1000 * 1000); /* the slow layer's own interval */

    struct plan_memory memory;
    backend_cpu.plan_memory(plan, &memory);
    assert_true(memory.arena_bytes >= memory.peak_live_bytes);
    assert_int_equal(heard.bytes[MEMORY_ACTIVATIONS], memory.arena_bytes);
    assert_int_equal(heard.bytes[MEMORY_WEIGHTS], memory.weights_bytes);

    /* a second plan shares the weights */
    struct plan *again = backend_cpu.plan_new(device, graph, &plan_options, &error);
    assert_non_null(again);
    assert_int_equal(heard.bytes[MEMORY_WEIGHTS], memory.weights_bytes);
    backend_cpu.plan_free(again);

    const atomic_bool cancel = true;
    const struct step_context cancelled = {.step = 2, .cancel = &cancel};
    assert_false(backend_cpu.plan_run(plan, &cancelled, &error));
    assert_int_equal(error.code, ERROR_INTERRUPTED);
    backend_cpu.plan_free(plan);
    assert_int_equal(heard.bytes[MEMORY_ACTIVATIONS], 0);
    backend_cpu.device_forget(device);
    assert_int_equal(heard.bytes[MEMORY_WEIGHTS], 0);
    backend_cpu.device_close(device);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

static void too_large_is_an_error(void **state)
{
    (void)state;
    struct error error = {0};
    struct model *model = tiny_model(RESIDUAL);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options options = {.batch = 1000000000, .fusion = true};
    struct graph *graph = graph_lower(model, &options, pool, &error);
    assert_non_null(graph);
    const struct device_options device_options = {.threads = 1};
    struct device *device = backend_cpu.device_open(&device_options, NULL, &error);
    const struct plan_options plan_options = {.precision = PRECISION_FP32};
    assert_null(backend_cpu.plan_new(device, graph, &plan_options, &error));
    assert_int_equal(error.code, ERROR_MEMORY);
    backend_cpu.device_close(device);

    const struct device_options fenced = {.threads = 1, .limit_bytes = 1 << 20};
    device = backend_cpu.device_open(&fenced, NULL, &error);
    assert_null(backend_cpu.plan_new(device, graph, &plan_options, &error));
    assert_int_equal(error.code, ERROR_MEMORY_LIMIT);
    backend_cpu.device_close(device);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_observer_hears_each_op),
        cmocka_unit_test(too_large_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
