/* Steps whose inputs stay on the device, back to back, waited for once: what the device can do when
 * nothing comes from the host.
 *
 * The memory plan lets later values lie where an input lay, as soon as that was read for the last
 * time. Such inputs are kept aside, in the plan's own type, and put back before each step: a copy
 * within the device, at its memory's speed. */
#include "engine/clock.h"
#include "engine/cuda/check.h"
#include "engine/cuda/run.h"
#include <stdlib.h>

#define SPARE_BYTES (UINT64_C(64) << 20) /* of the device's free memory, left alone */

/* An input that the plan writes over, and where it is kept. */
struct kept {
    void *place, *copy;
    uint64_t bytes;
};

static bool is_written(const struct plan *plan, int input)
{
    for (size_t i = 0; i < plan->graph->op_count; i++) {
        if (plan->steps[i].impl != NULL &&
            plan_overlap(plan, input, plan->steps[i].op->outputs[0])) {
            return true;
        }
    }
    return false;
}

/* Memory for the copies, all or nothing: never the last of what a limit or other processes leave. */
static bool keep_inputs(const struct plan *plan, struct kept *kept, size_t *count,
                        struct error *error)
{
    const struct regions *regions = &plan->device->regions;
    uint64_t wanted = 0, held = 0, available = device_free_bytes();
    bool good = true;

    *count = 0;
    for (size_t i = 0; i < plan->graph->input_count; i++) {
        int value = plan->inputs[i].value;
        if (is_written(plan, value)) {
            kept[*count].place = plan_address(plan, value);
            kept[*count].copy = NULL;
            kept[*count].bytes = plan_value_bytes(plan, value);
            wanted += kept[(*count)++].bytes;
        }
    }
    for (int kind = 0; kind < REGION_COUNT; kind++) {
        held += regions->region[kind].needed_bytes;
    }
    if (regions->limit_bytes > 0 && held + wanted > regions->limit_bytes) {
        return error_set(error, ERROR_MEMORY_LIMIT, "inputs",
                         "the limit leaves no room to keep %.1f MiB of inputs beside the plan",
                         (double)wanted / 1048576);
    }
    if (wanted > 0 && wanted + SPARE_BYTES > available) {
        return error_set(error, ERROR_MEMORY, "inputs",
                         "no room to keep %.1f MiB of inputs beside the plan: %.1f MiB are free",
                         (double)wanted / 1048576, (double)available / 1048576);
    }
    for (size_t i = 0; good && i < *count; i++) {
        good = CUDA_OK(cudaMalloc(&kept[i].copy, kept[i].bytes), "inputs", error);
    }
    return good;
}

static bool copy_kept(const struct plan *plan, const struct kept *kept, size_t count, bool aside,
                      struct error *error)
{
    cudaStream_t stream = plan->device->stream;
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        good = CUDA_OK(cudaMemcpyAsync(aside ? kept[i].copy : kept[i].place,
                                       aside ? kept[i].place : kept[i].copy, kept[i].bytes,
                                       cudaMemcpyDeviceToDevice, stream),
                       "inputs", error);
    }
    return good;
}

static bool queue_steps(struct plan *plan, const struct kept *kept, size_t count, size_t steps,
                        const struct step_context *context, struct error *error)
{
    bool good = true;
    for (size_t i = 0; good && i < steps; i++) {
        if (context->cancel != NULL &&
            atomic_load_explicit(context->cancel, memory_order_relaxed)) {
            return error_set(error, ERROR_INTERRUPTED, "step", "interrupted");
        }
        good = copy_kept(plan, kept, count, false, error) && run_launch(plan, context, error);
    }
    return good;
}

/* Also after a failure: nothing may still run when the caller goes on. */
static bool wait_for(const struct plan *plan, bool good, struct error *error)
{
    struct error later;
    return CUDA_OK(cudaStreamSynchronize(plan->device->stream), "step", good ? error : &later) &&
           good;
}

bool plan_repeat(struct plan *plan, size_t steps, const atomic_bool *cancel, int64_t *total_ns,
                 struct error *error)
{
    const struct step_context context = {.cancel = cancel};
    size_t inputs = plan->graph->input_count, count;
    if (!device_use(plan->device, error)) {
        return false;
    }
    struct kept *kept = xcalloc(inputs + 1, sizeof *kept);
    bool good = keep_inputs(plan, kept, &count, error);
    bool queued = good;
    for (size_t i = 0; good && i < inputs; i++) {
        good = run_copy_in(plan, &plan->inputs[i], error);
    }
    good = good && copy_kept(plan, kept, count, true, error);
    /* the first one by itself: what is captured or loaded lazily is none of their time */
    good = good && queue_steps(plan, kept, count, 1, &context, error);
    if (queued) {
        good = wait_for(plan, good, error);
    }
    int64_t start_ns = clock_now_ns();
    if (good) {
        good = queue_steps(plan, kept, count, steps, &context, error);
        good = wait_for(plan, good, error);
    }
    *total_ns = clock_now_ns() - start_ns;
    for (size_t i = 0; i < count; i++) {
        cudaFree(kept[i].copy);
    }
    cudaGetLastError();
    free(kept);
    return good;
}
