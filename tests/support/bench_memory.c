/* The CUDA backend's memory and what its observer hears: rollback, the wall, limit, growth off,
 * sharing of weights, and the plan against a measurement from outside. */
#include "support/bench.h"
#include "support/reference.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static struct device_memory memory_of(struct device *device)
{
    struct device_memory memory;
    struct error error = {0};
    memset(&memory, 0, sizeof memory);
    if (!bench_backend->device_memory(device, &memory, &error)) {
        bench_failed("device_memory: %s: %s", error.what, error.why);
    }
    return memory;
}

/* A plan that needs `bytes` of activations: a copy of one large tensor. */
static struct bench *large(uint64_t bytes)
{
    int64_t rows = (int64_t)(bytes / 2 / 4096);
    struct bench *b = bench_new(rows);
    struct op *op = bench_op(b, OP_TRANSPOSE, bench_input(b, D(rows, I(1024))), D(rows, I(1024)));
    op->transpose.permutation[1] = 1;
    bench_output(b, op->outputs[0]);
    return b;
}

static void expect_error(struct device *device, const struct bench *b, enum error_code code,
                         const char *what)
{
    struct error error = {0};
    struct plan_options options = {.precision = PRECISION_FP32};
    struct plan *plan = bench_backend->plan_new(device, &b->graph, &options, &error);
    if (plan != NULL) {
        bench_failed("%s: plan_new went well", what);
        bench_backend->plan_free(plan);
    } else if (error.code != code) {
        bench_failed("%s: E%03d instead of E%03d: %s: %s", what, (int)error.code, (int)code,
                     error.what, error.why);
    }
}

/* Past the wall and back: the old plan still gives the same numbers. */
static void test_rollback(void)
{
    struct device *device = bench_device(true, 0);
    struct error error = {0};
    struct bench *b = bench_network(4), *wall;
    struct plan_options options = {.precision = PRECISION_FP32, .graph = true};
    struct step_context context = {0};
    struct plan *plan =
        device != NULL ? bench_backend->plan_new(device, &b->graph, &options, &error) : NULL;
    if (plan != NULL) {
        double **v = bench_fill(b, plan);
        struct device_memory before = memory_of(device);
        for (int run = 0; run < 3; run++) {
            if (!bench_backend->plan_run(plan, &context, &error)) {
                bench_failed("plan_run: %s: %s", error.what, error.why);
            }
        }
        /* host memory of that size is not pinned: the copy's input would be; so fence by limit */
        wall = large(before.total_bytes / 64);
        struct plan *good = bench_backend->plan_new(device, &wall->graph, &options, &error);
        if (good == NULL) {
            bench_failed("a plan of 1/64 of the memory: %s: %s", error.what, error.why);
        }
        bench_compare(b, plan, v, BENCH_FP32, "before", 0);
        bench_backend->plan_free(good);
        if (!bench_backend->plan_run(plan, &context, &error)) {
            bench_failed("plan_run after growth: %s: %s", error.what, error.why);
        }
        bench_compare(b, plan, v, BENCH_FP32, "after growth", 1);
        struct device_memory idle = memory_of(device);
        if (idle.idle_bytes < before.total_bytes / 80) {
            bench_failed("growth on keeps freed memory until trim, %llu bytes are idle",
                         (unsigned long long)idle.idle_bytes);
        }
        bench_backend->device_trim(device);
        struct device_memory trimmed = memory_of(device);
        if (trimmed.idle_bytes > 16u << 20) {
            bench_failed("%llu bytes are idle after trim", (unsigned long long)trimmed.idle_bytes);
        }
        if (!bench_backend->plan_run(plan, &context, &error)) {
            bench_failed("plan_run after trim: %s: %s", error.what, error.why);
        }
        bench_compare(b, plan, v, BENCH_FP32, "after trim", 2);
        bench_free(wall);
        bench_backend->plan_free(plan);
        reference_free(&b->graph, v);
    } else if (device != NULL) {
        bench_failed("plan_new: %s: %s", error.what, error.why);
    }
    bench_free(b);
    bench_backend->device_close(device);
}

/* More activations than the GPU has: values between ops, so that no host buffer is as large. */
static struct bench *beyond(uint64_t bytes)
{
    struct bench *b = bench_new(1);
    int64_t width = (int64_t)(bytes / 4 / 4096);
    int input = bench_input(b, D(I(1), I(4096), I(1)));
    struct op *spread = bench_op(b, OP_BINARY, input, D(I(1), I(4096), width));
    spread->binary.constant = bench_constant(b, D(I(1), I(1), width), 1.0f);
    spread->binary.function = BINARY_MULTIPLY;
    struct op *sum = bench_op(b, OP_REDUCE, spread->outputs[0], D(I(1), I(4096)));
    sum->reduce = (struct op_reduce){.function = REDUCE_SUM, .axes = {false, false, true}};
    bench_output(b, sum->outputs[0]);
    return b;
}

static void test_wall(void)
{
    struct device *device = bench_device(true, 0);
    if (device == NULL) {
        return;
    }
    struct device_memory before = memory_of(device);
    struct bench *b = beyond(before.total_bytes + (before.total_bytes >> 2)),
                 *small = bench_network(2);
    expect_error(device, b, ERROR_MEMORY, "5/4 of the memory");
    struct device_memory after = memory_of(device);
    if (after.arena_bytes != before.arena_bytes || after.weights_bytes != before.weights_bytes) {
        bench_failed("a refused plan leaves %llu bytes of arena, %llu of weights",
                     (unsigned long long)after.arena_bytes,
                     (unsigned long long)after.weights_bytes);
    }
    /* the device gave back what it had mapped on the way */
    if (after.free_bytes + (256u << 20) < before.free_bytes) {
        bench_failed("%llu bytes were free before, %llu after",
                     (unsigned long long)before.free_bytes, (unsigned long long)after.free_bytes);
    }
    bench_check(device, small, "after the wall", PRECISION_FP32, BENCH_FP32);
    bench_free(small);
    bench_free(b);
    bench_backend->device_close(device);
}

static void test_limit(void)
{
    struct device *device = bench_device(true, 64u << 20);
    if (device == NULL) {
        return;
    }
    struct bench *b = beyond(80u << 20), *small = bench_network(2);
    expect_error(device, b, ERROR_MEMORY_LIMIT, "80 MiB past a limit of 64 MiB");
    bench_check(device, small, "below the limit", PRECISION_FP32, BENCH_FP32);
    bench_free(small);
    bench_free(b);
    bench_backend->device_close(device);
}

static void test_growth_off(void)
{
    struct device *device = bench_device(false, 0);
    if (device == NULL) {
        return;
    }
    struct device_memory memory = memory_of(device);
    uint64_t idle = memory.idle_bytes;
    if (idle < memory.total_bytes / 4 && idle < memory.free_bytes) {
        bench_failed("growth off reserved only %llu bytes", (unsigned long long)idle);
    }
    struct bench *b = bench_network(4),
                 *wall = beyond(memory.total_bytes + (memory.total_bytes >> 2));
    bench_check(device, b, "growth off", PRECISION_FP32, BENCH_FP32);
    expect_error(device, wall, ERROR_MEMORY, "5/4 of the memory, growth off");
    bench_check(device, b, "growth off, after the wall", PRECISION_FP32, BENCH_FP32);
    bench_free(wall);
    bench_free(b);
    bench_backend->device_close(device);
}

/* Two batch sizes of one model share their weights. */
static void test_sharing(void)
{
    struct device *device = bench_device(true, 0);
    struct error error = {0};
    struct plan_options options = {.precision = PRECISION_FP32};
    if (device == NULL) {
        return;
    }
    struct bench *a = bench_network(2), *b = bench_network(3);
    for (size_t i = 0; i < a->graph.op_count; i++) { /* b gets a's constants */
        if (a->ops[i].kind == OP_CONV) {
            b->ops[i].conv = a->ops[i].conv;
        } else if (a->ops[i].kind == OP_MATMUL) {
            b->ops[i].matmul = a->ops[i].matmul;
        }
    }
    struct plan *first = bench_backend->plan_new(device, &a->graph, &options, &error);
    uint64_t one = memory_of(device).weights_bytes;
    struct plan *second = bench_backend->plan_new(device, &b->graph, &options, &error);
    uint64_t two = memory_of(device).weights_bytes;
    if (first == NULL || second == NULL) {
        bench_failed("plan_new: %s: %s", error.what, error.why);
    } else if (one == 0 || one != two) {
        bench_failed("weights take %llu bytes for one plan and %llu for two",
                     (unsigned long long)one, (unsigned long long)two);
    }
    bench_backend->plan_free(first);
    bench_backend->plan_free(second);
    bench_check(device, a, "first", PRECISION_FP32, BENCH_FP32);
    bench_check(device, b, "second", PRECISION_FP32, BENCH_FP32);
    bench_free(a);
    bench_free(b);
    bench_backend->device_close(device);
}

struct heard {
    int begins, ends, copies, steps;
    int64_t device_ns;
    int device_ops;
    uint32_t launches;
};

static void hear_step(void *context, uint64_t step, int64_t start_ns)
{
    (void)step;
    (void)start_ns;
    ((struct heard *)context)->steps++;
}
static void hear_begin(void *context, int op)
{
    (void)op;
    ((struct heard *)context)->begins++;
}
static void hear_end(void *context, int op, enum interval_class class, int64_t start, int64_t end)
{
    (void)op;
    if (class != INTERVAL_LAUNCH || end < start) {
        bench_failed("op_end of class %d, %lld ns", (int)class, (long long)(end - start));
    }
    ((struct heard *)context)->ends++;
}
static void hear_interval(void *context, enum interval_class class, int op, uint64_t bytes,
                          int64_t start, int64_t end)
{
    (void)op;
    (void)start;
    (void)end;
    ((struct heard *)context)->copies += class == INTERVAL_COPY && bytes > 0;
}
static void hear_device(void *context, int op, int64_t duration_ns)
{
    (void)op;
    ((struct heard *)context)->device_ops++;
    ((struct heard *)context)->device_ns += duration_ns;
}
static void hear_launches(void *context, int op, uint32_t kernels)
{
    (void)op;
    ((struct heard *)context)->launches += kernels;
}

static void test_observer(void)
{
    struct heard heard = {0};
    struct observer observer = {.context = &heard,
                                .step_begin = hear_step,
                                .op_begin = hear_begin,
                                .op_end = hear_end,
                                .interval = hear_interval,
                                .device_time = hear_device,
                                .launches = hear_launches};
    struct error error = {0};
    struct plan_options options = {.precision = PRECISION_FP32, .graph = true, .op_events = true};
    struct step_context context = {.observer = &observer};
    struct device *device = bench_device(true, 0);
    if (device == NULL) {
        return;
    }
    struct bench *b = bench_network(4);
    int ops = (int)b->graph.op_count;
    struct plan *plan = bench_backend->plan_new(device, &b->graph, &options, &error);
    if (plan == NULL) {
        bench_failed("plan_new: %s: %s", error.what, error.why);
    } else if (!bench_backend->plan_run(plan, &context, &error) ||
               !bench_backend->plan_run(plan, &context, &error)) {
        bench_failed("plan_run: %s: %s", error.what, error.why);
    } else if (heard.begins != 2 * ops || heard.ends != 2 * ops || heard.copies != 4 ||
               heard.steps != 2 || heard.device_ops != 2 * ops || heard.device_ns <= 0 ||
               heard.launches < (uint32_t)(2 * ops)) {
        bench_failed(
            "2 steps of %d ops: %d begins, %d ends, %d copies, %d steps, %d device times (%lld "
            "ns), %u launches",
            ops, heard.begins, heard.ends, heard.copies, heard.steps, heard.device_ops,
            (long long)heard.device_ns, heard.launches);
    }
    bench_backend->plan_free(plan);
    atomic_bool cancel = true;
    context.cancel = &cancel;
    options.op_events = false;
    plan = bench_backend->plan_new(device, &b->graph, &options, &error);
    if (plan != NULL &&
        (bench_backend->plan_run(plan, &context, &error) || error.code != ERROR_INTERRUPTED)) {
        bench_failed("a cancelled step went on");
    }
    bench_backend->plan_free(plan);
    bench_free(b);
    bench_backend->device_close(device);
}

/* Planned against measured from outside, where NVML or the driver tells. */
static void test_outside(void)
{
    struct device *device = bench_device(true, 0);
    struct error error = {0};
    struct plan_options options = {.precision = PRECISION_FP32, .graph = true};
    struct step_context context = {0};
    if (device == NULL) {
        return;
    }
    struct bench *b = large(1u << 30);
    uint64_t before = memory_of(device).free_bytes;
    struct plan *plan = bench_backend->plan_new(device, &b->graph, &options, &error);
    if (plan == NULL || !bench_backend->plan_run(plan, &context, &error)) {
        bench_failed("%s: %s", error.what, error.why);
    } else {
        struct plan_memory planned;
        bench_backend->plan_memory(plan, &planned);
        uint64_t after = memory_of(device).free_bytes;
        double wanted =
            (double)(planned.arena_bytes + planned.weights_bytes + planned.workspace_bytes);
        double measured = (double)before - (double)after;
        double slack = fmax(8.0 * 1048576, 0.01 * wanted);
        if (fabs(measured - wanted) > slack) {
            bench_failed("planned %.1f MiB, the GPU's free memory fell by %.1f MiB",
                         wanted / 1048576, measured / 1048576);
        }
    }
    bench_backend->plan_free(plan);
    bench_free(b);
    bench_backend->device_close(device);
}

const struct bench_test bench_memory_tests[] = {{"observer", test_observer},
                                                {"rollback", test_rollback},
                                                {"wall", test_wall},
                                                {"limit", test_limit},
                                                {"growth_off", test_growth_off},
                                                {"sharing", test_sharing},
                                                {"outside", test_outside},
                                                {NULL, NULL}};
