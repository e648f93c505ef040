/* Constants in the layouts that primitives ask for: one copy each, shared by all plans. */
#include "engine/cpu/cpu.h"
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Touching 100 MB in pages of 4 KiB takes longer than reordering them. */
#define HUGE ((size_t)2 << 20)

struct weight_copy {
    const struct constant *constant;
    struct dnn_md *md; /* NULL: packed by one of our own kernels */
    dnnl_memory_t memory;
    const struct own_conv *packer;
    const struct constant *bias; /* packed with the weights */
    uint64_t tag;                /* of weights_panels(), else 0 */
    void *data;                  /* NULL if the constant itself is used */
    size_t bytes;
    struct weight_copy *next;
};

static void copy_free(struct weight_copy *copy)
{
    dnn_md_free(copy->md);
    if (copy->memory)
        dnnl_memory_destroy(copy->memory);
    free(copy->data);
    free(copy);
}

/* Run one reorder from the constant into copy->memory. */
static bool reorder(struct device *device, const struct dnn_md *plain, const void *data,
                    struct weight_copy *copy)
{
    bool ok = false;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t from = dnn_memory_new(plain, device->engine, (void *)(uintptr_t)data);
    dnnl_primitive_desc_t pd = dnn_reorder(device->engine, NULL, plain, copy->md);
    if (from && pd && dnnl_primitive_create(&primitive, pd) == dnnl_success) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, copy->memory}};
        ok = dnnl_primitive_execute(primitive, device->stream, 2, arguments) == dnnl_success &&
             dnnl_stream_wait(device->stream) == dnnl_success;
    }
    if (primitive)
        dnnl_primitive_destroy(primitive);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (from)
        dnnl_memory_destroy(from);
    return ok;
}

/* Memory of its own for a copy. */
static bool copy_room(struct device *device, struct weight_copy *copy, size_t bytes,
                      struct error *error)
{
    void *room; /* of any size, which aligned_alloc does not promise */
    if (!device_admit(device, bytes, "weights", error))
        return false;
    if (posix_memalign(&room, bytes >= HUGE ? HUGE : 64, bytes + 64) != 0)
        return error_set(error, ERROR_MEMORY, "weights", "no memory for %zu bytes", bytes);
    copy->data = room;
    copy->bytes = bytes;
    /* whole ones only: nothing beyond the copy becomes resident */
    madvise(copy->data, copy->bytes & ~(HUGE - 1), MADV_HUGEPAGE);
    return true;
}

static void copy_keep(struct device *device, struct weight_copy *copy)
{
    constant_release(copy->constant); /* not the model's own, and not what a primitive reads */
    copy->next = device->copies;
    device->copies = copy;
    device->weights_bytes += copy->bytes;
    device_tell(device, MEMORY_WEIGHTS, device->weights_bytes);
}

static dnnl_memory_t get(struct device *device, const struct constant *constant,
                         const struct dnn_md *plain, const struct dnn_md *wanted,
                         struct error *error)
{
    if (!wanted)
        wanted = plain;
    for (struct weight_copy *copy = device->copies; copy; copy = copy->next) {
        if (copy->constant == constant && copy->md && dnn_md_equal(copy->md, wanted))
            return copy->memory;
    }
    bool same = dnn_md_equal(plain, wanted);
    const float *data = same ? constant_keep(constant, error) : constant_data(constant, error);
    if (!data)
        return NULL;
    struct weight_copy *copy = xcalloc(1, sizeof *copy);
    copy->constant = constant;
    copy->md = dnn_md_clone(wanted);
    if (!same && !copy_room(device, copy, dnn_md_bytes(wanted), error)) {
        copy_free(copy);
        return NULL;
    }
    copy->memory =
        dnn_memory_new(copy->md, device->engine, same ? (void *)(uintptr_t)data : copy->data);
    if (!copy->memory || (!same && !reorder(device, plain, data, copy))) {
        copy_free(copy);
        error_set(error, ERROR_MEMORY, "weights", "oneDNN cannot reorder %" PRIu64 " bytes",
                  constant->bytes);
        return NULL;
    }
    copy_keep(device, copy);
    return copy->memory;
}

dnnl_memory_t weights_get_int8(struct device *device, const struct constant *constant,
                               const struct dnn_md *plain, const struct dnn_md *wanted,
                               const float *steps, int64_t channels, int64_t inner,
                               struct error *error)
{
    for (struct weight_copy *copy = device->copies; copy; copy = copy->next) {
        if (copy->constant == constant && copy->md && dnn_md_equal(copy->md, wanted))
            return copy->memory;
    }
    const float *data = constant_data(constant, error);
    int64_t count = shape_elements(&constant->shape);
    int8_t *bytes = data ? malloc((size_t)count) : NULL;
    if (!bytes) {
        if (data)
            error_set(error, ERROR_MEMORY, "weights", "no memory for %" PRId64 " bytes", count);
        return NULL;
    }
    phases_begin(device->phases, PHASE_UPLOAD);
    own_quantise_weights(data, count, channels, inner, steps, bytes);
    struct weight_copy *copy = xcalloc(1, sizeof *copy);
    copy->constant = constant;
    copy->md = dnn_md_clone(wanted);
    bool good = copy_room(device, copy, dnn_md_bytes(wanted), error);
    if (good) {
        copy->memory = dnn_memory_new(copy->md, device->engine, copy->data);
        good = copy->memory && reorder(device, plain, bytes, copy);
        if (!good)
            error_set(error, ERROR_MEMORY, "weights", "oneDNN cannot reorder %" PRId64 " bytes",
                      count);
    }
    phases_end(device->phases);
    free(bytes);
    if (!good) {
        copy_free(copy);
        return NULL;
    }
    copy_keep(device, copy);
    return copy->memory;
}

dnnl_memory_t weights_get(struct device *device, const struct constant *constant,
                          const struct dnn_md *plain, const struct dnn_md *wanted,
                          struct error *error)
{
    phases_begin(device->phases, PHASE_UPLOAD);
    dnnl_memory_t memory = get(device, constant, plain, wanted, error);
    phases_end(device->phases);
    return memory;
}

const void *weights_packed(struct device *device, const struct op_conv *conv,
                           const struct own_conv *packer, size_t bytes, struct error *error)
{
    for (struct weight_copy *copy = device->copies; copy; copy = copy->next) {
        if (copy->constant == conv->weights && copy->packer == packer && copy->bias == conv->bias)
            return copy->data;
    }
    const float *data = constant_data(conv->weights, error);
    if (!data)
        return NULL;
    struct weight_copy *copy = xcalloc(1, sizeof *copy);
    *copy = (struct weight_copy){.constant = conv->weights, .bias = conv->bias, .packer = packer};
    if (!copy_room(device, copy, bytes, error)) {
        copy_free(copy);
        return NULL;
    }
    phases_begin(device->phases, PHASE_UPLOAD);
    packer->pack(conv, data, conv->bias ? conv->bias->data : NULL, copy->data);
    phases_end(device->phases);
    copy_keep(device, copy);
    return copy->data;
}

const void *weights_panels(struct device *device, const struct constant *constant, uint64_t tag,
                           size_t bytes,
                           void (*pack)(void *to, const float *data, const void *context),
                           const void *context, struct error *error)
{
    for (struct weight_copy *copy = device->copies; copy; copy = copy->next) {
        if (copy->constant == constant && copy->tag == tag)
            return copy->data;
    }
    const float *data = constant_data(constant, error);
    if (!data)
        return NULL;
    struct weight_copy *copy = xcalloc(1, sizeof *copy);
    *copy = (struct weight_copy){.constant = constant, .tag = tag};
    if (!copy_room(device, copy, bytes, error)) {
        copy_free(copy);
        return NULL;
    }
    phases_begin(device->phases, PHASE_UPLOAD);
    pack(copy->data, data, context);
    phases_end(device->phases);
    copy_keep(device, copy);
    return copy->data;
}

/* ---- who needs a copy ---- */

static bool step_reads(const struct step *step, const struct weight_copy *copy)
{
    if (copy->packer)
        return step->call.packed == copy->data;
    for (int i = 0; i < step->panel_count && copy->tag > 0; i++) {
        if (step->panels[i] == copy->data)
            return true;
    }
    for (int i = 0; i < step->argument_count; i++) {
        if (step->arguments[i].memory == copy->memory)
            return true;
    }
    return false;
}

static bool plan_reads(const struct plan *plan, const struct weight_copy *copy)
{
    for (size_t p = 0; p < 2; p++) {
        const struct step *steps = plan->parts[p].steps;
        for (size_t i = 0; steps && i < plan->graph->op_count; i++) {
            if (step_reads(&steps[i], copy))
                return true;
        }
    }
    return false;
}

uint64_t weights_collect(struct device *device)
{
    uint64_t freed = 0;
    for (struct weight_copy **at = &device->copies; *at;) {
        struct weight_copy *copy = *at;
        bool read = false;
        for (const struct plan *plan = device->plans; plan && !read; plan = plan->next)
            read = plan_reads(plan, copy);
        if (read) {
            at = &copy->next;
            continue;
        }
        *at = copy->next;
        freed += copy->bytes;
        device->weights_bytes -= copy->bytes;
        copy_free(copy);
    }
    if (freed > 0)
        device_tell(device, MEMORY_WEIGHTS, device->weights_bytes);
    return freed;
}

void weights_forget(struct device *device)
{
    for (struct weight_copy *copy = device->copies, *next; copy; copy = next) {
        next = copy->next;
        copy_free(copy);
    }
    device->copies = NULL;
    device->weights_bytes = 0;
    device_tell(device, MEMORY_WEIGHTS, 0);
}
