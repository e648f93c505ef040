#include "tests/support/collector_bench.h"
#include "engine/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct model_layer model_layers[4];
static struct model model = {.layers = model_layers, .layer_count = 4};
static struct op ops[3] = {{.layer = 1}, {.layer = 3}, {.layer = 1}};
struct graph collector_bench_graph = {.model = &model, .batch = 8, .ops = ops, .op_count = 3};

static const char *const model_text =
    "{\"layers\": [{\"name\": \"in\", \"class\": \"InputLayer\", \"parameters\": 0},"
    "{\"name\": \"conv\", \"class\": \"Conv2D\", \"parameters\": 10},"
    "{\"name\": \"relu\", \"class\": \"ReLU\", \"parameters\": 0},"
    "{\"name\": \"dense\", \"class\": \"Dense\", \"parameters\": 20}]}";
const char *const collector_bench_plan =
    "{\"device\": \"cpu\", \"batch\": 8, \"precision\": \"fp32\", \"fusion\": true, \"layers\": ["
    "{\"layer\": 0, \"name\": \"in\", \"flops\": 0, \"bytes\": 0, \"output_shape\": \"(8, 4)\"},"
    "{\"layer\": 1, \"name\": \"conv\", \"flops\": 100, \"bytes\": 50, \"impl\": \"onednn\","
    " \"fused\": [\"relu\"]},"
    "{\"layer\": 2, \"name\": \"relu\", \"fused_into\": \"conv\", \"flops\": 0, \"bytes\": 0},"
    "{\"layer\": 3, \"name\": \"dense\", \"flops\": 7, \"bytes\": 9, \"impl\": \"onednn\"}]}";

static bool emit(void *context, const void *data, size_t bytes)
{
    struct collector_bench *bench = context;
    struct error error = {.code = ERROR_NONE};
    if (bench->refuse)
        return false;
    bench->frames++;
    if (!store_feed(bench->store, data, bytes, &error))
        fail_msg("%s", error.why);
    return true;
}

const struct observer *collector_bench_observer(const struct collector_bench *bench)
{
    return bench->use_copy ? &bench->copy : bench->hooks->observer;
}

static void feed_json(struct store *store, void (*feed)(struct store *, const json_t *),
                      const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    feed(store, json);
    json_decref(json);
}

int64_t collector_bench_now(void)
{
    return clock_now_ns() + 100000 * MS;
}

int collector_bench_setup(void **state)
{
    struct collector_bench *bench = calloc(1, sizeof *bench);
    bench->store = store_new();
    bench->collector = collector_new();
    bench->hooks = collector_hooks(bench->collector);
    bench->copy = *bench->hooks->observer;
    bench->hooks->attach(bench->hooks->context, emit, bench);
    feed_json(bench->store, store_model, model_text);
    feed_json(bench->store, store_plan, collector_bench_plan);
    collector_bench_observer(bench)->plan(collector_bench_observer(bench)->context, "cpu",
                                          &collector_bench_graph, NULL);
    bench->now = collector_bench_now();
    *state = bench;
    return 0;
}

int collector_bench_teardown(void **state)
{
    struct collector_bench *bench = *state;
    bench->hooks->close(bench->hooks->context);
    collector_free(bench->collector);
    store_free(bench->store);
    free(bench);
    return 0;
}

void collector_bench_step(struct collector_bench *bench, uint64_t number, const int64_t *op_ns)
{
    const struct observer *o = collector_bench_observer(bench);
    int64_t t = bench->now;
    o->step_begin(o->context, number, t);
    t += 1 * MS;
    for (int op = 0; op < 3; op++) {
        if (o->op_begin)
            o->op_begin(o->context, op);
        if (o->op_end)
            o->op_end(o->context, op, INTERVAL_KERNEL, t, t + op_ns[op]);
        if (o->launches)
            o->launches(o->context, op, 1);
        t += op_ns[op] + MS / 10;
    }
    t += MS / 2 - MS / 10;
    o->step_end(o->context, number, t);
    bench->now = t;
}
