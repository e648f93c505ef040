/* A batch in slices through the whole network: the same numbers, times and kernels that add up,
 * and memory as forecast. */
#include "engine/backend.h"
#include "engine/cpu/layout.h"
#include "engine/graph/slice.h"
#include "tests/support/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

/* Every op kind that a slice has a word about, and one aliased, one in-place and two outputs. */
static const char *const MODELS[] = {
    "x = Input 8,8,3\nc = Conv2D(x) {'filters': 16, 'kernel_size': 3, 'padding': 'same'} "
    "kernel 3,3,3,16 bias 16\nr = ReLU(c)\n"
    "g = GlobalAveragePooling2D(r) {'keepdims': true}\nm = Multiply(r, g)\n"
    "a = Add(m, c)\np = MaxPooling2D(a)\nf = Flatten(p)\n"
    "d = Dense(f) {'units': 5, 'activation': 'softmax'} kernel 256,5 bias 5\nout d\nout p",
    "x = Input 6,4\nt = Permute(x) {'dims': [2, 1]}\ns = Softmax(t)\nout s",
    "x = Input 6,6,4\nz = ZeroPadding2D(x)\nc = Cropping2D(z) {'cropping': 2}\n"
    "u = UpSampling2D(c)\nn = LayerNormalization(u) {'axis': -1} g 4 b 4\n"
    "j = Concatenate(u, n)\nout j",
    "x = Input 6\ny = Dropout(x) {'rate': 0.5}\nz = ReLU(y)\nout y\nout z",
};
#define MODEL_COUNT (sizeof MODELS / sizeof *MODELS)

struct fixture {
    struct model *model;
    struct constant_pool *pool;
    struct graph *graph;
    struct device *device;
};

static struct fixture open_fixture(const char *text, int64_t batch, bool fusion,
                                   const struct observer *observer)
{
    struct error error = {0};
    struct fixture f = {.model = tiny_model(text), .pool = constant_pool_new()};
    const struct graph_options options = {.batch = batch, .fusion = fusion};
    const struct device_options device = {.threads = 2};
    f.graph = graph_lower(f.model, &options, f.pool, &error);
    if (!f.graph)
        fail_msg("%s\n%s: %s", text, error.what, error.why);
    f.device = backend_cpu.device_open(&device, observer, &error);
    assert_non_null(f.device);
    return f;
}

static void close_fixture(struct fixture *f)
{
    backend_cpu.device_forget(f->device);
    backend_cpu.device_close(f->device);
    graph_free(f->graph);
    constant_pool_free(f->pool);
    model_free(f->model);
}

static struct plan *plan_of(const struct fixture *f, enum precision precision, int slice)
{
    struct error error = {0};
    const struct plan_options options = {.precision = precision, .slice = slice};
    struct plan *plan = backend_cpu.plan_new(f->device, f->graph, &options, &error);
    if (!plan)
        fail_msg("%s: %s", error.what, error.why);
    return plan;
}

static size_t bytes_of(const struct graph *graph, int value)
{
    return (size_t)shape_elements(&graph->values[value].shape) * sizeof(float);
}

static void fill(const struct fixture *f, struct plan *plan)
{
    uint64_t state = 11;
    for (size_t i = 0; i < f->graph->input_count; i++) {
        float *in = backend_cpu.plan_input(plan, i);
        size_t count = bytes_of(f->graph, f->graph->inputs[i]) / sizeof *in;
        for (size_t j = 0; j < count; j++)
            in[j] = tiny_random(&state);
    }
}

static void run(struct plan *plan, const struct observer *observer, uint64_t step)
{
    struct error error = {0};
    const struct step_context context = {.observer = observer, .step = step};
    if (!backend_cpu.plan_run(plan, &context, &error))
        fail_msg("%s: %s", error.what, error.why);
}

/* A slice of a graph is the graph that the model is lowered to for so many samples. */
static void a_slice_is_the_smaller_graph(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODEL_COUNT; i++) {
        for (int fusion = 0; fusion < 2; fusion++) {
            struct error error = {0};
            struct fixture f = open_fixture(MODELS[i], 7, fusion, NULL);
            const struct graph_options options = {.batch = 3, .fusion = fusion};
            struct graph *want = graph_lower(f.model, &options, f.pool, &error);
            struct graph *got = graph_slice(f.graph, 3);
            assert_non_null(got);
            char *want_text = graph_to_text(want), *got_text = graph_to_text(got);
            assert_string_equal(got_text, want_text);
            for (size_t op = 0; op < want->op_count; op++) {
                assert_int_equal(got->ops[op].flops, want->ops[op].flops);
                assert_int_equal(got->ops[op].bytes, want->ops[op].bytes);
            }
            free(want_text);
            free(got_text);
            graph_free(want);
            graph_free(got);
            close_fixture(&f);
        }
    }
}

static void check_outputs(const char *text, int64_t batch, int slice, enum precision precision)
{
    struct fixture f = open_fixture(text, batch, true, NULL);
    struct plan *whole = plan_of(&f, precision, -1), *sliced = plan_of(&f, precision, slice);
    struct plan_memory memory;
    backend_cpu.plan_memory(sliced, &memory);
    assert_int_equal(memory.slice, slice < batch ? slice : batch);
    fill(&f, whole);
    fill(&f, sliced);
    run(whole, NULL, 1);
    for (uint64_t step = 1; step <= 2; step++) { /* inputs survive */
        run(sliced, NULL, step);
        for (size_t i = 0; i < f.graph->output_count; i++)
            assert_memory_equal(backend_cpu.plan_output(sliced, i),
                                backend_cpu.plan_output(whole, i),
                                bytes_of(f.graph, f.graph->outputs[i]));
    }
    backend_cpu.plan_free(sliced);
    backend_cpu.plan_free(whole);
    close_fixture(&f);
}

static void outputs_are_the_same(void **state)
{
    (void)state;
    struct fixture f = open_fixture(MODELS[0], 1, true, NULL);
    const struct plan_options options = {.precision = PRECISION_BF16};
    struct plan *plan = backend_cpu.plan_new(f.device, f.graph, &options, NULL);
    bool bf16 = plan != NULL;
    if (bf16)
        backend_cpu.plan_free(plan);
    close_fixture(&f);
    for (size_t i = 0; i < MODEL_COUNT; i++) {
        check_outputs(MODELS[i], 6, 2, PRECISION_FP32);
        check_outputs(MODELS[i], 7, 3, PRECISION_FP32); /* one sample is left over */
        check_outputs(MODELS[i], 3, 1, PRECISION_FP32);
        check_outputs(MODELS[i], 3, 8, PRECISION_FP32); /* larger than the batch: not sliced */
        if (bf16)
            check_outputs(MODELS[i], 7, 3, PRECISION_BF16);
    }
}

static void samples_that_mix_are_never_sliced(void **state)
{
    (void)state;
    struct error error = {0};
    struct fixture f = open_fixture("x = Input 6\ny = ReLU(x)\nout y", 4, true, NULL);
    f.graph->mixes_samples = true;
    assert_null(graph_slice(f.graph, 2));
    struct plan *plan = plan_of(&f, PRECISION_FP32, 2);
    struct plan_memory memory;
    backend_cpu.plan_memory(plan, &memory);
    assert_int_equal(memory.slice, 4);
    backend_cpu.plan_free(plan);
    close_fixture(&f);

    /* statistics over the batch */
    struct model *model = tiny_model("x = Input 6\ny = BatchNormalization(x) {} g 6 b 6 m 6 "
                                     "variance 6\nout y");
    json_object_set_new(model->nodes[1].kwargs, "training", json_true());
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options options = {.batch = 4, .fusion = true};
    struct graph *graph = graph_lower(model, &options, pool, &error);
    assert_non_null(graph);
    assert_null(graph_slice(graph, 2));
    graph->mixes_samples = false; /* the ops themselves say it too */
    assert_null(graph_slice(graph, 2));
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

struct heard {
    int64_t last_end_ns, spent_ns, begin_ns, end_ns;
    int ends[64];
    unsigned kernels;
    bool overlap;
};

static void hear_span(struct heard *heard, int64_t start_ns, int64_t end_ns)
{
    heard->overlap |= start_ns < heard->last_end_ns || end_ns < start_ns;
    heard->last_end_ns = end_ns;
    heard->spent_ns += end_ns - start_ns;
}

static void hear_op(void *context, int op, enum interval_class class, int64_t start_ns,
                    int64_t end_ns)
{
    struct heard *heard = context;
    assert_int_equal(class, INTERVAL_KERNEL);
    hear_span(heard, start_ns, end_ns);
    heard->ends[op]++;
}

static void hear_interval(void *context, enum interval_class class, int op, uint64_t bytes,
                          int64_t start_ns, int64_t end_ns)
{
    assert_int_equal(class, INTERVAL_COPY);
    assert_true(op == -1 && bytes > 0);
    hear_span(context, start_ns, end_ns);
}

static void hear_launches(void *context, int op, uint32_t kernels)
{
    (void)op;
    ((struct heard *)context)->kernels += kernels;
}

static void hear_begin(void *context, uint64_t step, int64_t start_ns)
{
    (void)step;
    ((struct heard *)context)->begin_ns = start_ns;
}

static void hear_end(void *context, uint64_t step, int64_t end_ns)
{
    (void)step;
    ((struct heard *)context)->end_ns = end_ns;
}

/* Each op is heard once a slice, intervals follow one another inside the step. */
static void times_add_up(void **state)
{
    (void)state;
    struct heard heard = {0};
    const struct observer observer = {.context = &heard,
                                      .step_begin = hear_begin,
                                      .step_end = hear_end,
                                      .op_end = hear_op,
                                      .interval = hear_interval,
                                      .launches = hear_launches};
    struct fixture f = open_fixture(MODELS[0], 7, true, NULL);
    struct plan *plan = plan_of(&f, PRECISION_FP32, 2);
    fill(&f, plan);
    run(plan, NULL, 1);
    run(plan, &observer, 2);
    assert_false(heard.overlap);
    assert_true(heard.spent_ns > 0 && heard.spent_ns <= heard.end_ns - heard.begin_ns);
    assert_true(heard.last_end_ns <= heard.end_ns);
    unsigned active = 0;
    for (size_t i = 0; i < f.graph->op_count; i++) {
        bool runs = backend_cpu.plan_impls(plan)[i] != NULL;
        assert_int_equal(heard.ends[i], runs ? 4 : 0); /* 2 + 2 + 2 + 1 samples */
        active += runs;
    }
    assert_true(heard.kernels >= active * 4 && heard.kernels % 4 == 0);
    backend_cpu.plan_free(plan);
    close_fixture(&f);
}

/* What layout_new() says beforehand is what the plan takes, and a slice takes less. */
static void memory_is_as_forecast(void **state)
{
    (void)state;
    struct error error = {0};
    struct fixture f = open_fixture(MODELS[0], 16, true, NULL);
    uint64_t arena[2];
    for (int i = 0; i < 2; i++) {
        int slice = i == 0 ? -1 : 3;
        struct layout layout;
        struct plan_memory memory;
        assert_true(layout_new(&layout, f.graph, sizeof(float), NULL, slice, &error));
        struct plan *plan = plan_of(&f, PRECISION_FP32, slice);
        backend_cpu.plan_memory(plan, &memory);
        assert_int_equal(memory.arena_bytes, layout.arena_bytes);
        assert_int_equal(memory.peak_live_bytes, layout.memory->peak_live_bytes);
        arena[i] = memory.arena_bytes;
        backend_cpu.plan_free(plan);
        layout_free(&layout);
    }
    assert_true(arena[1] < arena[0]);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slice_is_the_smaller_graph),
        cmocka_unit_test(outputs_are_the_same),
        cmocka_unit_test(samples_that_mix_are_never_sliced),
        cmocka_unit_test(times_add_up),
        cmocka_unit_test(memory_is_as_forecast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
