/* A GPU that is none: a module for LAYERTOP_CUDA_MODULE, so that what the session does with a
 * second device can be tested without one. It has gpu:0 and gpu:2 (64 MiB each) and gpu:1 (unusable),
 * takes a millisecond a step, and puts the device's number of steps into every output. With autotune
 * a plan has three pauses to measure in, each of which counts as a million steps.
 *
 * Built by the tests that use it (tests/support/fake_gpu.c). FAKE_GPU_BROKEN: opening a device fails. FAKE_GPU_NO_ROOM: inputs cannot be kept
 * beside a plan. FAKE_GPU_LOST=N: each context is lost in its step N. In a process that
 * has fake_gpu_kernel() and fake_gpu_copy() (tests/unit/test_synthetic.c) a step tells its observer of
 * every op, and these of what a GPU would have done for it: a kernel an op, one after the other, and a
 * copy for each input and output. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "engine/backend.h"
#include "engine/clock.h"
#include "engine/cuda_module.h"
#include "engine/host_op.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOTAL_BYTES (UINT64_C(64) << 20)
#define STEP_NS     1000000

struct device {
    uint64_t limit_bytes, held_bytes, steps, repeated;
};

struct plan {
    struct device *device;
    const struct graph *graph;
    uint64_t arena_bytes;
    bool autotune;
    int pauses;
    void **values;
    const char **impls;
    const struct host_ops *host;
    struct host_op **hosts; /* ops that it lacks */
    struct timespec until;  /* the step under way is done */
};

static bool devices(json_t *list, struct error *error)
{
    (void)error;
    json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:I}", "id", "gpu:0", "name",
                                          "Fake", "usable", 1, "uuid", "GPU-fa4e0000",
                                          "total_bytes", (json_int_t)TOTAL_BYTES));
    json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:s}", "id", "gpu:1", "name",
                                          "Fake", "usable", 0, "why", "it is in exclusive use",
                                          "uuid", "GPU-fa4e1111"));
    json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:I}", "id", "gpu:2", "name",
                                          "Fake", "usable", 1, "uuid", "GPU-fa4e2222",
                                          "total_bytes", (json_int_t)TOTAL_BYTES));
    return true;
}

static struct device *device_open(const struct device_options *options,
                                  const struct observer *observer, struct error *error)
{
    (void)observer;
    if (getenv("FAKE_GPU_BROKEN") != NULL) {
        error_set(error, ERROR_CUDA, "gpu:0", "the driver is too old");
        return NULL;
    }
    struct device *device = xcalloc(1, sizeof *device);
    device->limit_bytes = options->limit_bytes != 0 ? options->limit_bytes : TOTAL_BYTES;
    return device;
}

static void device_close(struct device *device)
{
    free(device);
}

static bool device_memory(struct device *device, struct device_memory *out, struct error *error)
{
    (void)error;
    out->total_bytes = TOTAL_BYTES;
    out->context_bytes = 1 << 20;
    out->used_by_us_bytes = device->held_bytes + out->context_bytes;
    out->free_bytes = TOTAL_BYTES - out->used_by_us_bytes;
    out->weights_bytes = out->workspace_bytes = out->idle_bytes = 0;
    out->arena_bytes = device->held_bytes;
    out->room_bytes = out->free_bytes + device->held_bytes;
    out->largest_bytes = out->free_bytes;
    return true;
}

static void device_nothing(struct device *device)
{
    (void)device;
}

static void plan_free(struct plan *plan)
{
    for (size_t i = 0; i < plan->graph->value_count; i++)
        free(plan->values[i]);
    for (size_t i = 0; i < plan->graph->op_count; i++) {
        if (plan->hosts[i] != NULL)
            plan->host->close(plan->hosts[i]);
    }
    free(plan->hosts);
    plan->device->held_bytes -= plan->arena_bytes;
    free(plan->values);
    free(plan->impls);
    free(plan);
}

static struct plan *plan_new(struct device *device, const struct graph *graph,
                             const struct plan_options *options, struct error *error)
{
    const char *lacks = getenv("FAKE_GPU_LACKS"); /* the name of a kind of op */
    struct plan *plan = xcalloc(1, sizeof *plan);
    plan->autotune = options->autotune;
    plan->device = device;
    plan->graph = graph;
    plan->host = options->host;
    plan->hosts = xcalloc(graph->op_count, sizeof *plan->hosts);
    plan->values = xcalloc(graph->value_count, sizeof *plan->values);
    plan->impls = xcalloc(graph->op_count, sizeof *plan->impls);
    for (size_t i = 0; i < graph->op_count; i++)
        plan->impls[i] = "fake";
    for (size_t i = 0; i < graph->value_count; i++)
        plan->arena_bytes += (uint64_t)shape_elements(&graph->values[i].shape) * 4;
    device->held_bytes += plan->arena_bytes;
    if (device->held_bytes > device->limit_bytes) {
        plan_free(plan);
        error_set(error, ERROR_MEMORY, "activations", "the fake GPU is full");
        return NULL;
    }
    for (size_t i = 0; i < graph->value_count; i++)
        plan->values[i] = xcalloc((size_t)shape_elements(&graph->values[i].shape), 8);
    for (size_t i = 0; lacks != NULL && i < graph->op_count; i++) {
        if (strcmp(op_kind_name(graph->ops[i].kind), lacks) != 0)
            continue;
        error_set(error, ERROR_BACKEND_OP, "fake", "the fake GPU has no %s", lacks);
        plan->hosts[i] = plan->host != NULL ? plan->host->open(graph, (int)i, error) : NULL;
        plan->impls[i] = "cpu";
        if (plan->hosts[i] == NULL) {
            plan_free(plan);
            return NULL;
        }
    }
    return plan;
}

static void *plan_input(struct plan *plan, size_t index)
{
    return plan->values[plan->graph->inputs[index]];
}

static const void *plan_output(struct plan *plan, size_t index)
{
    return plan->values[plan->graph->outputs[index]];
}

/* ---- a step as CUPTI would see it ---- */

#define KERNELS_NS 800000 /* all kernels of a step; what is left of it are copies and gaps */
#define COPY_NS    40000

typedef void kernel_function(const char *name, const uint32_t *grid, int64_t start_ns,
                             int64_t end_ns);
typedef void copy_function(bool in, uint64_t bytes, int64_t start_ns, int64_t end_ns);

static void *function(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

static uint64_t port_bytes(const struct plan *plan, int value)
{
    return (uint64_t)shape_elements(&plan->graph->values[value].shape) * 4;
}

static int64_t tell_copy(const struct observer *observer, copy_function *copy, bool in,
                         uint64_t bytes, int64_t at)
{
    copy(in, bytes, at, at + COPY_NS);
    if (observer->interval != NULL)
        observer->interval(observer->context, INTERVAL_COPY, -1, bytes, at, at + COPY_NS / 4);
    return at + COPY_NS;
}

static void tell(const struct plan *plan, const struct observer *observer)
{
    kernel_function *kernel = (kernel_function *)(uintptr_t)function("fake_gpu_kernel");
    copy_function *copy = (copy_function *)(uintptr_t)function("fake_gpu_copy");
    const struct graph *graph = plan->graph;
    int64_t at = clock_now_ns(), each = KERNELS_NS / (int64_t)(graph->op_count + 1);
    if (observer == NULL || kernel == NULL || copy == NULL)
        return;
    for (size_t i = 0; i < graph->input_count; i++)
        at = tell_copy(observer, copy, true, port_bytes(plan, graph->inputs[i]), at);
    for (size_t i = 0; i < graph->op_count; i++) {
        char name[64];
        int64_t now = clock_now_ns();
        const uint32_t grid[] = {(uint32_t)i + 1, 2, 1};
        snprintf(name, sizeof name, "fake_%s", op_kind_name(graph->ops[i].kind));
        if (observer->op_begin != NULL)
            observer->op_begin(observer->context, (int)i);
        kernel(name, grid, at, at + each);
        at += each + 2000;
        if (observer->launches != NULL)
            observer->launches(observer->context, (int)i, 1);
        if (observer->op_end != NULL)
            observer->op_end(observer->context, (int)i, INTERVAL_LAUNCH, now, clock_now_ns());
    }
    for (size_t i = 0; i < graph->output_count; i++)
        at = tell_copy(observer, copy, false, port_bytes(plan, graph->outputs[i]), at);
}

static bool plan_launch(struct plan *plan, const struct step_context *step, struct error *error)
{
    if (step->cancel != NULL && atomic_load(step->cancel))
        return error_set(error, ERROR_INTERRUPTED, "step", "it was cancelled");
    clock_gettime(CLOCK_MONOTONIC, &plan->until);
    plan->until.tv_nsec += STEP_NS;
    plan->until.tv_sec += plan->until.tv_nsec / 1000000000;
    plan->until.tv_nsec %= 1000000000;
    tell(plan, step->observer);
    return true;
}

/* Values in, the op on the CPU, its outputs out. */
static bool run_host(struct plan *plan, size_t op, struct error *error)
{
    const int *values;
    enum dtype dtype;
    struct host_op *host = plan->hosts[op];
    size_t count = plan->host->inputs(host, &values);
    for (size_t i = 0; i < count; i++) {
        void *in = plan->host->input(host, i, &dtype);
        int64_t elements = shape_elements(&plan->graph->values[values[i]].shape);
        memcpy(in, plan->values[values[i]], (size_t)elements * dtype_bytes(dtype));
    }
    if (!plan->host->run(host, error))
        return false;
    for (size_t i = 0; i < plan->graph->ops[op].output_count; i++) {
        int out = plan->graph->ops[op].outputs[i];
        const void *result = plan->host->output(host, i, &dtype);
        int64_t elements = shape_elements(&plan->graph->values[out].shape);
        memcpy(plan->values[out], result, (size_t)elements * dtype_bytes(dtype));
    }
    return true;
}

static bool plan_wait(struct plan *plan, const struct step_context *step, struct error *error)
{
    (void)step;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &plan->until, NULL);
    const char *lost = getenv("FAKE_GPU_LOST"); /* the step in which it falls off the bus */
    if (lost != NULL && plan->device->steps + 1 >= strtoull(lost, NULL, 10))
        return error_set(error, ERROR_LOST, "step", "the fake GPU fell off the bus");
    plan->device->steps++;
    for (size_t i = 0; i < plan->graph->output_count; i++) {
        float *out = plan->values[plan->graph->outputs[i]];
        int64_t count = shape_elements(&plan->graph->values[plan->graph->outputs[i]].shape);
        for (int64_t j = 0; j < count; j++)
            out[j] = (float)plan->device->steps;
    }
    for (size_t i = 0; i < plan->graph->op_count; i++) {
        if (plan->hosts[i] != NULL && !run_host(plan, i, error))
            return false;
    }
    return true;
}

static bool plan_run(struct plan *plan, const struct step_context *step, struct error *error)
{
    return plan_launch(plan, step, error) && plan_wait(plan, step, error);
}

static bool plan_tune(struct plan *plan, int64_t budget_ns)
{
    if (!plan->autotune || plan->pauses == 3 || budget_ns <= 0)
        return false;
    plan->device->steps += 1000000;
    return ++plan->pauses < 3;
}

/* Half the time of a step: what it would copy is not copied. */
static bool plan_repeat(struct plan *plan, size_t steps, const atomic_bool *cancel,
                        int64_t *total_ns, struct error *error)
{
    if (getenv("FAKE_GPU_NO_ROOM") != NULL)
        return error_set(error, ERROR_MEMORY, "inputs", "there is no room for them");
    if (cancel != NULL && atomic_load(cancel))
        return error_set(error, ERROR_INTERRUPTED, "step", "it was cancelled");
    *total_ns = (int64_t)steps * STEP_NS / 2;
    plan->device->repeated += steps;
    return true;
}

static const char *const *plan_impls(const struct plan *plan)
{
    return plan->impls;
}

static void plan_memory(const struct plan *plan, struct plan_memory *out)
{
    *out = (struct plan_memory){.arena_bytes = plan->arena_bytes, .peak_op = -1};
}

static bool plan_forecast(struct device *device, const struct graph *graph,
                          const struct plan_options *options, struct plan_memory *out,
                          struct error *error)
{
    (void)device, (void)options, (void)error;
    *out = (struct plan_memory){.peak_op = -1};
    for (size_t i = 0; i < graph->value_count; i++)
        out->arena_bytes += (uint64_t)shape_elements(&graph->values[i].shape) * 4;
    out->device_bytes = out->arena_bytes;
    return true;
}

static const struct backend backend = {.abi = BACKEND_ABI,
                                       .name = "cuda",
                                       .devices = devices,
                                       .device_open = device_open,
                                       .device_close = device_close,
                                       .device_memory = device_memory,
                                       .device_trim = device_nothing,
                                       .device_forget = device_nothing,
                                       .plan_new = plan_new,
                                       .plan_free = plan_free,
                                       .plan_input = plan_input,
                                       .plan_output = plan_output,
                                       .plan_run = plan_run,
                                       .plan_launch = plan_launch,
                                       .plan_wait = plan_wait,
                                       .plan_tune = plan_tune,
                                       .plan_repeat = plan_repeat,
                                       .plan_impls = plan_impls,
                                       .plan_memory = plan_memory,
                                       .plan_forecast = plan_forecast};

const struct backend *layertop_backend_cuda(struct error *error);

__attribute__((visibility("default"))) const struct backend *
layertop_backend_cuda(struct error *error)
{
    (void)error;
    return &backend;
}

json_t *layertop_cuda_facts(void);

__attribute__((visibility("default"))) json_t *layertop_cuda_facts(void)
{
    return json_pack("{s:{s:i, s:s, s:i}, s:[]}", "gpu_part", "cuda_version", 13000,
                     "architectures", "90", "ptx", 90, "libraries");
}
