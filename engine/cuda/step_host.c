/* Ops that this part lacks, run on the CPU (`fallback cpu`): values to the host, the op there, its
 * results back. The step waits for the GPU in its middle, so that its plan cannot be one CUDA graph. */
#include "engine/convert.h"
#include "engine/cuda/check.h"
#include "engine/cuda/narrow.h"
#include "engine/cuda/plan.h"
#include "engine/host_op.h"
#include <stdlib.h>
#include <string.h>

struct host_step {
    const struct host_ops *ops;
    struct host_op *op;
    void *stage; /* as the device stores a value; as large as the largest */
    size_t stage_bytes;
};

static size_t elements_of(const struct plan *plan, int value)
{
    return (size_t)shape_elements(plan_shape(plan, value));
}

static void host_step_free(struct plan *plan, struct step *step)
{
    struct host_step *host = step->data;
    (void)plan;
    host->ops->close(host->op);
    free(host->stage);
    free(host);
}

/* From the device's form into the host's. */
static bool copy_value_in(struct plan *plan, const struct step *step, size_t index, int value,
                          struct error *error)
{
    struct host_step *host = step->data;
    enum dtype wanted, stored = plan->storage[value];
    void *to = host->ops->input(host->op, index, &wanted);
    size_t count = elements_of(plan, value), each = dtype_bytes(stored);

    if (!CUDA_OK(cudaMemcpyAsync(host->stage, plan_address(plan, value), count * each,
                                 cudaMemcpyDeviceToHost, plan->device->stream),
                 step->layer, error) ||
        !CUDA_OK(cudaStreamSynchronize(plan->device->stream), step->layer, error)) {
        return false;
    }
    if (stored == wanted) {
        memcpy(to, host->stage, count * each);
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        convert_write((char *)to + i * dtype_bytes(wanted), wanted,
                      convert_read((const char *)host->stage + i * each, stored));
    }
    return true;
}

static bool copy_value_out(struct plan *plan, const struct step *step, size_t index,
                           struct error *error)
{
    struct host_step *host = step->data;
    int value = step->op->outputs[index];
    enum dtype made, stored = plan->storage[value];
    const void *from = host->ops->output(host->op, index, &made);
    size_t count = elements_of(plan, value), bytes = count * dtype_bytes(stored);

    if (stored == made) {
        memcpy(host->stage, from, bytes);
    } else if (made == DTYPE_F32 && (stored == DTYPE_F16 || stored == DTYPE_BF16)) {
        narrow_many(from, host->stage, stored, count);
    } else {
        float *floats = host->stage; /* integers are stored as the plan's type */
        for (size_t i = 0; i < count && stored == DTYPE_F32; i++) {
            floats[i] = (float)convert_read((const char *)from + i * dtype_bytes(made), made);
        }
    }
    return CUDA_OK(cudaMemcpyAsync(plan_address(plan, value), host->stage, bytes,
                                   cudaMemcpyHostToDevice, plan->device->stream),
                   step->layer, error) &&
           CUDA_OK(cudaStreamSynchronize(plan->device->stream), step->layer, error);
}

static bool host_step_run(struct plan *plan, struct step *step, void *target, struct error *error)
{
    struct host_step *host = step->data;
    const int *values;
    size_t count = host->ops->inputs(host->op, &values);

    (void)target; /* the first output itself: nothing comes behind */
    for (size_t i = 0; i < count; i++) {
        if (!copy_value_in(plan, step, i, values[i], error)) {
            return false;
        }
    }
    bool good = host->ops->run(host->op, error);
    for (size_t i = 0; i < step->op->output_count && good; i++) {
        good = copy_value_out(plan, step, i, error);
    }
    return good;
}

static void make_room(struct plan *plan, struct host_step *host, int value)
{
    size_t bytes = elements_of(plan, value) * sizeof(double);
    host->stage_bytes = bytes > host->stage_bytes ? bytes : host->stage_bytes;
}

bool step_host(struct plan *plan, struct step *step, struct error *error)
{
    const struct host_ops *ops = plan->options.host;
    const int *values;
    struct host_op *op = ops->open(plan->graph, step->index, error);

    if (op == NULL) {
        return false;
    }
    struct host_step *host = xcalloc(1, sizeof *host);
    *host = (struct host_step){.ops = ops, .op = op};
    step->data = host;
    step->free_data = host_step_free;
    bool plain = true;
    for (size_t i = 0; i < step->op->output_count; i++) {
        int output = step->op->outputs[i];
        enum dtype made;
        ops->output(op, i, &made);
        plain = plain && !plan_widened(plan, output) &&
                (made == DTYPE_F32 || plan->storage[output] == DTYPE_F32);
        make_room(plan, host, output);
    }
    size_t count = ops->inputs(op, &values);
    for (size_t i = 0; i < count; i++) {
        make_room(plan, host, values[i]);
        plain = plain && !plan_widened(plan, values[i]);
    }
    host->stage = malloc(host->stage_bytes + 1);
    if (host->stage == NULL) {
        return error_set(error, ERROR_MEMORY, step->layer, "no host memory for its copies");
    }
    if (!plain) {
        return step_lacks(step, "values that the CPU cannot take over", error);
    }
    step->run = host_step_run;
    step->impl = "cpu";
    plan->replay_refused = true;
    return true;
}
