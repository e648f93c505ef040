/* The memory plan: over random graphs every op finds its inputs where they were written. */
#include "engine/graph/memory.h"
#include "engine/graph/op_rules.h"
#include "tests/support/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MOST 64

static uint64_t state;

static int pick(int below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (uint64_t)below);
}

static int add_value(struct graph *graph, int64_t elements, int producer, int alias_of)
{
    int value = (int)graph->value_count++;
    graph->values[value] = (struct graph_value){.shape = {.rank = 2, .dims = {1, elements}},
                                                .dtype = DTYPE_F32,
                                                .producer = producer,
                                                .alias_of = alias_of};
    return value;
}

static int64_t size_of(const struct graph *graph, int value)
{
    return graph->values[value].shape.dims[1];
}

/* Another value of the same size, or -1. */
static int twin(const struct graph *graph, int value)
{
    for (int tries = 0; tries < 20; tries++) {
        int other = pick((int)graph->value_count);
        if (size_of(graph, other) == size_of(graph, value))
            return other;
    }
    return -1;
}

/* Ops of all the shapes the planner tells apart, reading anything made before. */
static struct graph *random_graph(int ops)
{
    struct graph *graph = xcalloc(1, sizeof *graph);
    graph->batch = 1;
    graph->values = xcalloc(VALUES_MOST + 8, sizeof *graph->values);
    graph->ops = xcalloc((size_t)ops, sizeof *graph->ops);
    graph->inputs = xcalloc(4, sizeof *graph->inputs);
    graph->outputs = xcalloc(4, sizeof *graph->outputs);
    graph->input_count = 1 + (size_t)pick(2);
    for (size_t i = 0; i < graph->input_count; i++)
        graph->inputs[i] = add_value(graph, 1 + pick(300), -1, -1);
    for (int i = 0; i < ops; i++) {
        struct op *op = &graph->ops[graph->op_count++];
        op->inputs = xcalloc(2, sizeof *op->inputs);
        int last = (int)graph->value_count - 1;
        op->inputs[0] = pick(3) ? last : pick(last + 1);
        op->input_count = 1;
        op->output_count = 1;
        int64_t size = size_of(graph, op->inputs[0]);
        int other = twin(graph, op->inputs[0]);
        switch (pick(5)) {
        case 0:
            op->kind = OP_UNARY;
            break;
        case 1:
            op->kind = OP_BINARY;
            op->inputs[1] = other >= 0 ? other : op->inputs[0];
            op->input_count = 2;
            break;
        case 2:
            op->kind = OP_RESHAPE;
            break;
        case 3:
            op->kind = OP_POOL;
            size = 1 + pick(300);
            break;
        default:
            op->kind = OP_CONV;
            other = pick(last + 1);
            size = size_of(graph, other);
            op->posts = xcalloc(1, sizeof *op->posts);
            op->posts[0] = (struct post){.kind = POST_BINARY, .binary = BINARY_ADD, .value = other};
            op->post_count = 1;
        }
        op->outputs[0] = add_value(graph, size, i, op->kind == OP_RESHAPE ? op->inputs[0] : -1);
    }
    graph->output_count = 1 + (size_t)pick(2);
    for (size_t i = 0; i < graph->output_count; i++)
        graph->outputs[i] = i == 0 ? (int)graph->value_count - 1 : pick((int)graph->value_count);
    return graph;
}

/* Who wrote each byte last. */
struct arena {
    int *owner;
    const struct graph *graph;
    const struct memory_plan *plan;
};

static void write_value(struct arena *arena, int value)
{
    int storage = graph_storage(arena->graph, value);
    for (uint64_t i = 0; i < arena->plan->sizes[storage]; i++)
        arena->owner[arena->plan->offsets[storage] + i] = storage;
}

static void still_holds(const struct arena *arena, int value, const char *when, int op)
{
    int storage = graph_storage(arena->graph, value);
    assert_int_equal(arena->plan->offsets[value], arena->plan->offsets[storage]);
    for (uint64_t i = 0; i < arena->plan->sizes[storage]; i++) {
        if (arena->owner[arena->plan->offsets[storage] + i] != storage)
            fail_msg("value %d is overwritten by %d %s op %d", storage,
                     arena->owner[arena->plan->offsets[storage] + i], when, op);
    }
}

static bool overlap(const struct memory_plan *plan, int a, int b)
{
    return plan->offsets[a] < plan->offsets[b] + plan->sizes[b] &&
           plan->offsets[b] < plan->offsets[a] + plan->sizes[a];
}

/* Only an elementwise op may write over its inputs, and a convolution over the operand it adds;
 * and only over exactly the same bytes. */
static void check_in_place(const struct arena *arena, const struct op *op)
{
    int out = op->outputs[0];
    for (size_t i = 0; i < op->input_count + op->post_count; i++) {
        int value = i < op->input_count ? op->inputs[i] : op->posts[i - op->input_count].value;
        int in = graph_storage(arena->graph, value);
        if (!overlap(arena->plan, in, out))
            continue;
        assert_true(i < op->input_count ? op_elementwise(op) : op->kind == OP_CONV);
        assert_int_equal(arena->plan->offsets[in], arena->plan->offsets[out]);
        assert_int_equal(arena->plan->sizes[in], arena->plan->sizes[out]);
    }
}

static double check_plan(const struct graph *graph, const struct memory_options *options)
{
    struct error error = {0};
    struct memory_plan *plan = memory_plan_new(graph, options, &error);
    assert_non_null(plan);
    assert_true(plan->arena_bytes >= plan->peak_live_bytes);
    struct arena arena = {
        .owner = xmalloc((plan->arena_bytes + 1) * sizeof(int)), .graph = graph, .plan = plan};
    memset(arena.owner, -1, (plan->arena_bytes + 1) * sizeof(int));
    for (size_t i = 0; i < graph->value_count; i++) {
        assert_int_equal(plan->offsets[i] % options->alignment, 0);
        assert_true(plan->offsets[i] + plan->sizes[i] <= plan->arena_bytes);
    }
    for (size_t i = 0; i < graph->input_count; i++)
        write_value(&arena, graph->inputs[i]);
    for (int i = 0; i < (int)graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        for (size_t j = 0; j < op->input_count; j++)
            still_holds(&arena, op->inputs[j], "before", i);
        for (size_t j = 0; j < op->post_count; j++)
            still_holds(&arena, op->posts[j].value, "before", i);
        if (op->kind == OP_RESHAPE)
            continue;
        check_in_place(&arena, op);
        write_value(&arena, op->outputs[0]);
    }
    for (size_t i = 0; i < graph->output_count; i++)
        still_holds(&arena, graph->outputs[i], "after", -1);
    for (size_t i = 0; i < graph->input_count && options->keep_inputs; i++)
        still_holds(&arena, graph->inputs[i], "after", -1);

    /* the live values of the peak come largest first and add up to the peak, or more: values that
     * share storage in place are both named */
    int live[VALUES_MOST + 8];
    size_t count = memory_plan_live(plan, graph, plan->peak_op, live, VALUES_MOST + 8);
    for (size_t i = 1; i < count; i++)
        assert_true(plan->sizes[live[i - 1]] >= plan->sizes[live[i]]);
    assert_true(memory_plan_live(plan, graph, plan->peak_op, live, 2) <= 2);
    double ratio = (double)plan->arena_bytes / (double)plan->peak_live_bytes;
    memory_plan_free(plan);
    free(arena.owner);
    return ratio;
}

static void random_graphs(void **unused)
{
    (void)unused;
    double sum = 0, worst = 0;
    int count = 3000;
    for (int i = 0; i < count; i++) {
        state = (uint64_t)i * 7919 + 1;
        struct graph *graph = random_graph(2 + pick(VALUES_MOST - 4));
        const struct memory_options options = {.alignment = (uint64_t)1 << (2 + pick(7)),
                                               .element_bytes = pick(2) ? 4 : 2,
                                               .keep_inputs = pick(2)};
        double ratio = check_plan(graph, &options);
        sum += ratio;
        worst = ratio > worst ? ratio : worst;
        graph_free(graph);
    }
    print_message("arena over the largest live sum: mean %.3f, worst %.3f\n", sum / count, worst);
    assert_true(sum / count < 1.35); /* small values and alignment up to 256 cost the most */
}

/* A chain of unary ops runs in the storage of its input, or in one more if that is kept. */
static void chains_run_in_place(void **unused)
{
    (void)unused;
    struct error error = {0};
    struct model *model = tiny_model("x = Input 64\na = Activation(x) {'activation': 'tanh'}\n"
                                     "b = Activation(a) {'activation': 'tanh'}\n"
                                     "c = Activation(b) {'activation': 'tanh'}\nout c\n");
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options graph_options = {.batch = 4};
    struct graph *graph = graph_lower(model, &graph_options, pool, &error);
    struct memory_options options = {.alignment = 64, .element_bytes = 4};
    struct memory_plan *plan = memory_plan_new(graph, &options, &error);
    assert_int_equal(plan->arena_bytes, 4 * 64 * 4);
    memory_plan_free(plan);
    options.keep_inputs = true;
    plan = memory_plan_new(graph, &options, &error);
    assert_int_equal(plan->arena_bytes, 2 * 4 * 64 * 4);
    memory_plan_free(plan);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

/* Is the sum of the model's two convolutions written where its shortcut lay? */
static bool sum_in_place(const char *text)
{
    struct error error = {0};
    struct model *model = tiny_model(text);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options graph_options = {.batch = 1, .fusion = true};
    struct graph *graph = graph_lower(model, &graph_options, pool, &error);
    const struct memory_options options = {.alignment = 64, .element_bytes = 4};
    struct memory_plan *plan = memory_plan_new(graph, &options, &error);
    assert_int_equal(graph->op_count, 2);
    bool same = plan->offsets[graph->ops[1].outputs[0]] == plan->offsets[graph->ops[0].outputs[0]];
    memory_plan_free(plan);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
    return same;
}

static void residual_in_place(void **unused)
{
    (void)unused;
    assert_true(sum_in_place("x = Input 8,8,16\n"
                             "a = Conv2D(x) {'filters': 16, 'kernel_size': 1} k 1,1,16,16 b 16\n"
                             "b = Conv2D(x) {'filters': 16, 'kernel_size': 1} k 1,1,16,16 b 16\n"
                             "c = Add(a, b)\nr = ReLU(c)\nout r\n"));
    /* here b reads a as its input too, so it may not be overwritten */
    assert_false(sum_in_place("x = Input 8,8,16\n"
                              "a = Conv2D(x) {'filters': 16, 'kernel_size': 1} k 1,1,16,16 b 16\n"
                              "b = Conv2D(a) {'filters': 16, 'kernel_size': 1} k 1,1,16,16 b 16\n"
                              "c = Add(a, b)\nr = ReLU(c)\nout r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs),
        cmocka_unit_test(chains_run_in_place),
        cmocka_unit_test(residual_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
