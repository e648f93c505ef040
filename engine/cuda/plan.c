#include "engine/cuda/plan.h"
#include "engine/clock.h"
#include "engine/cuda/check.h"
#include "engine/cuda/feed.h"
#include "engine/cuda/run.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + DEVICE_ALIGNMENT - 1) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
}

void *plan_address(const struct plan *plan, int value)
{
    /* every value has its storage's offset, aliases too */
    return regions_address(&plan->device->regions, REGION_ARENA, plan->memory->offsets[value]);
}

void *plan_workspace(const struct plan *plan)
{
    return regions_address(&plan->device->regions, REGION_WORKSPACE, 0);
}

void *step_workspace(const struct plan *plan, const struct step *step)
{
    return (char *)plan_workspace(plan) + aligned(step->temporary_bytes);
}

const struct shape *plan_shape(const struct plan *plan, int value)
{
    return &plan->local.values[value].shape;
}

const struct shape *plan_model_shape(const struct plan *plan, int value)
{
    return &plan->graph->values[value].shape;
}

bool plan_widened(const struct plan *plan, int value)
{
    return !shape_equal(plan_shape(plan, value), plan_model_shape(plan, value));
}

uint64_t plan_value_bytes(const struct plan *plan, int value)
{
    int64_t elements = shape_elements(plan_shape(plan, value));
    return elements > 0 ? (uint64_t)elements * dtype_bytes(plan->storage[value]) : 0;
}

bool plan_overlap(const struct plan *plan, int a, int b)
{
    uint64_t a0 = plan->memory->offsets[a], b0 = plan->memory->offsets[b];
    return a0 < b0 + plan_value_bytes(plan, b) && b0 < a0 + plan_value_bytes(plan, a);
}

/* The name an error shows for an op: its layer's path. */
static void name_step(const struct graph *graph, struct step *step)
{
    const struct op *op = step->op;
    if (graph->model != NULL && op->layer >= 0 && (size_t)op->layer < graph->model->layer_count) {
        snprintf(step->layer, sizeof step->layer, "layer %s", graph->model->layers[op->layer].path);
    } else {
        snprintf(step->layer, sizeof step->layer, "op %d (%s)", step->index,
                 op_kind_name(op->kind));
    }
}

/* Make the op into a step of ours. */
static bool choose_step(struct plan *plan, struct step *step, struct error *error)
{
    bool taken = false;
    if (plan->int8 && !step_int8(plan, step, &taken, error)) {
        return false;
    }
    if (taken) {
        return true;
    }
    switch (step->op->kind) {
    case OP_CONV:
        return step_conv(plan, step, error);
    case OP_MATMUL:
        return step_matmul(plan, step, error);
    case OP_RECURRENT:
        return step_recurrent(plan, step, error);
    case OP_ATTENTION:
        return step_attention(plan, step, error);
    case OP_GATHER:
        return step_lookup(plan, step, error);
    case OP_CUMULATE:
        step_cumulate(plan, step);
        return true;
    case OP_TOP:
        step_top(plan, step);
        return true;
    default:
        return step_own(plan, step, error);
    }
}

/* What was begun and is not to be had. */
static void clear_step(struct plan *plan, struct step *step)
{
    if (step->free_data != NULL && step->data != NULL) {
        step->free_data(plan, step);
    }
    free(step->chains);
    *step = (struct step){.op = step->op, .index = step->index};
    name_step(plan->graph, step);
}

/* Is the plan still wanted, with so many ops done? */
static bool goes_on(const struct plan *plan, size_t done, struct error *error)
{
    const struct plan_options *options = &plan->options;
    size_t all = plan->graph->op_count;
    return options->goes_on == NULL || options->goes_on(options->context, done, all) ||
           error_set(error, ERROR_INTERRUPTED, "plan", "stopped at op %zu of %zu", done, all);
}

static bool make_step(struct plan *plan, size_t index, struct error *error)
{
    struct step *step = &plan->steps[index];
    const struct op *op = &plan->local.ops[index];
    struct error lacked = {0};

    step->op = op;
    step->index = (int)index;
    name_step(plan->graph, step);
    int output = op->outputs[0];
    if (plan->local.values[output].alias_of >= 0 && op->post_count == 0) {
        return true; /* the same bytes under another name */
    }
    bool good = choose_step(plan, step, &lacked);
    if (!good && lacked.code == ERROR_BACKEND_OP && plan->options.host != NULL) {
        clear_step(plan, step);
        good = step_host(plan, step, &lacked);
    }
    if (!good && error != NULL) {
        *error = lacked;
    }
    for (size_t i = 0; good && i < step->chain_count; i++) {
        chain_finish(&step->chains[i].chain);
    }
    if (good) {
        uint64_t temporary = aligned(step->temporary_bytes);
        uint64_t need = temporary + step->workspace_bytes;
        plan->workspace_bytes = need > plan->workspace_bytes ? need : plan->workspace_bytes;
        plan->temporary_bytes =
            temporary > plan->temporary_bytes ? temporary : plan->temporary_bytes;
        plan->impls[index] = step->impl;
        if (plan->int8 && step->impl != NULL) {
            plan->precisions[index] = step->bytes ? "int8" : "fp32";
        }
    }
    return good;
}

/* The caller's graph as the device holds it, and as memory is planned for. */
static void copy_graph(struct plan *plan, const struct graph *graph)
{
    plan->graph = graph;
    plan->local = *graph;
    plan->local.values = xcalloc(graph->value_count + 1, sizeof *graph->values);
    memcpy(plan->local.values, graph->values, graph->value_count * sizeof *graph->values);
    plan->storage = xcalloc(graph->value_count + 1, sizeof *plan->storage);
    storage_choose(plan);
}

static bool is_real(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_F64 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
}

static void make_port(struct plan *plan, struct port *port, int value, bool is_input)
{
    enum dtype dtype = plan->graph->values[value].dtype;
    const struct shape *shape = plan_model_shape(plan, value);

    port->value = value;
    port->dtype = is_real(dtype) ? DTYPE_F32 : dtype;
    port->elements = shape_elements(shape);
    port->bytes = (uint64_t)port->elements * dtype_bytes(port->dtype);
    port->staged = port->dtype != plan->storage[value] || plan_widened(plan, value);
    if (!port->staged) {
        return;
    }
    port->stage_offset = plan->arena_bytes;
    plan->arena_bytes += aligned(port->bytes);
    port->convert = is_input ? chain_convert(port->elements, port->dtype, plan->storage[value])
                             : chain_convert(port->elements, plan->storage[value], port->dtype);
    if (plan_widened(plan, value)) {
        port->convert.row = shape->dims[shape->rank - 1];
        port->convert.pitch = plan_shape(plan, value)->dims[shape->rank - 1];
    }
}

static bool make_ports(struct plan *plan)
{
    const struct graph *graph = plan->graph;
    plan->inputs = xcalloc(graph->input_count + 1, sizeof *plan->inputs);
    plan->outputs = xcalloc(graph->output_count + 1, sizeof *plan->outputs);
    for (size_t i = 0; i < graph->input_count; i++) {
        make_port(plan, &plan->inputs[i], graph->inputs[i], true);
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        make_port(plan, &plan->outputs[i], graph->outputs[i], false);
    }
    return true;
}

void *plan_host_alloc(const struct plan *plan, uint64_t bytes, struct error *error)
{
    void *memory = NULL;
    bytes = bytes > 0 ? bytes : 1;
    if (plan->options.pageable) {
        memory = malloc(bytes);
        if (memory == NULL) {
            error_set(error, ERROR_MEMORY, "host memory", "no memory for %.1f MiB",
                      (double)bytes / 1048576);
        }
    } else if (!CUDA_OK(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "pinned host memory",
                        error)) {
        memory = NULL;
    }
    if (memory != NULL) {
        memset(memory, 0, bytes);
    }
    return memory;
}

void plan_host_free(const struct plan *plan, void *memory)
{
    if (plan->options.pageable) {
        free(memory);
    } else {
        cudaFreeHost(memory);
    }
}

static bool make_hosts(const struct plan *plan, struct port *ports, size_t count,
                       struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        ports[i].host = plan_host_alloc(plan, ports[i].bytes, error);
        if (ports[i].host == NULL) {
            return false;
        }
    }
    return true;
}

static void free_hosts(const struct plan *plan, struct port *ports, size_t count)
{
    for (size_t i = 0; ports != NULL && i < count; i++) {
        plan_host_free(plan, ports[i].host);
    }
}

static bool pin_ports(struct plan *plan, struct error *error)
{
    if (!make_hosts(plan, plan->inputs, plan->graph->input_count, error) ||
        !make_hosts(plan, plan->outputs, plan->graph->output_count, error)) {
        return false;
    }
    return !plan->looks_up ||
           CUDA_OK(cudaHostAlloc((void **)&plan->fault, sizeof *plan->fault, cudaHostAllocMapped),
                   "pinned host memory", error);
}

/* Where events cannot be made, the host's clock times the ops instead. */
static void make_events(struct plan *plan)
{
    const struct observer *observer = plan->device->observer;
    struct error why = {0};
    if (!plan->options.op_events) {
        return;
    }
    plan->events = xcalloc(plan->graph->op_count + 1, sizeof *plan->events);
    for (size_t i = 0; i <= plan->graph->op_count; i++) {
        if (CUDA_OK(cudaEventCreate(&plan->events[i]), "events", &why)) {
            continue;
        }
        while (i-- > 0) {
            cudaEventDestroy(plan->events[i]);
        }
        free(plan->events);
        plan->events = NULL;
        plan->options.op_sync = true;
        if (observer != NULL && observer->note != NULL) {
            char *text = xasprintf("CUDA events cannot be made, so the host's clock times each op: "
                                   "%s",
                                   why.why);
            observer->note(observer->context, text);
            free(text);
        }
        return;
    }
}

/* Say in an out-of-memory error which layer holds the peak. */
static void blame_peak(const struct plan *plan, struct error *error)
{
    if (error == NULL || (error->code != ERROR_MEMORY && error->code != ERROR_MEMORY_LIMIT)) {
        return;
    }
    int peak = plan->memory->peak_op;
    const char *layer =
        peak >= 0 && (size_t)peak < plan->graph->op_count ? plan->steps[peak].layer : "the inputs";
    struct error first = *error;
    error_set(
        error, first.code, first.what,
        "%s; batch %lld needs weights %.0f, activations %.0f, workspace %.0f MiB, the peak is "
        "at %s",
        first.why, (long long)plan->graph->batch,
        (double)uploads_wanted_bytes(plan->device) / 1048576, (double)plan->arena_bytes / 1048576,
        (double)plan->workspace_bytes / 1048576, layer);
    if (first.hint[0] != '\0') {
        error_hint(error, "%s", first.hint);
    } else if (plan->graph->batch > 1) {
        error_hint(error, "set batch %lld", (long long)(plan->graph->batch / 2));
    }
}

/* Take the memory of the new plan beside that of the others, and fill the weights. */
static bool take_memory(struct plan *plan, struct error *error)
{
    struct device *device = plan->device;
    uint64_t bytes[REGION_COUNT], before;

    device_needs(device, bytes);
    before = bytes[REGION_WEIGHTS];
    bytes[REGION_WEIGHTS] = uploads_wanted_bytes(device);
    if (plan->arena_bytes > bytes[REGION_ARENA]) {
        bytes[REGION_ARENA] = plan->arena_bytes;
    }
    if (plan->workspace_bytes > bytes[REGION_WORKSPACE]) {
        bytes[REGION_WORKSPACE] = plan->workspace_bytes;
    }
    struct error failed = {0};
    phases_begin(device->phases, PHASE_ALLOCATE);
    bool good = regions_need(&device->regions, bytes, &failed);
    phases_end(device->phases);
    phases_begin(device->phases, PHASE_UPLOAD);
    good = good && uploads_commit(device, &failed);
    phases_end(device->phases);
    if (!good) {
        blame_peak(plan, &failed);
        if (error != NULL) {
            *error = failed;
        }
        uploads_cancel(device);
        regions_release(&device->regions, REGION_WEIGHTS, before);
        return false;
    }
    return true;
}

/* Let the regions need only what the remaining plans need. */
static void settle(struct device *device)
{
    uint64_t bytes[REGION_COUNT];
    device_needs(device, bytes);
    regions_release(&device->regions, REGION_ARENA, bytes[REGION_ARENA]);
    regions_release(&device->regions, REGION_WORKSPACE, bytes[REGION_WORKSPACE]);
    device_report(device);
}

/* How a precision stores activations on this GPU. */
static bool precision_storage(const struct device *device, enum precision precision,
                              enum dtype *dtype, struct error *error)
{
    int capability = device->compute_major * 10 + device->compute_minor;
    switch (precision) {
    case PRECISION_FP32:
    case PRECISION_TF32:
        *dtype = DTYPE_F32;
        return true;
    case PRECISION_FP16:
        *dtype = DTYPE_F16;
        return true;
    case PRECISION_BF16:
        *dtype = DTYPE_BF16;
        if (capability >= 80) {
            return true;
        }
        error_set(error, ERROR_UNSUPPORTED, "precision",
                  "bf16 needs a GPU of compute capability 8.0 or newer; %s has %d.%d", device->id,
                  device->compute_major, device->compute_minor);
        return error_hint(error, "set precision fp16");
    default: /* PRECISION_INT8 */
        *dtype = DTYPE_F32;
        if (capability >= 75) { /* the first whose tensor cores multiply bytes by cuBLASLt */
            return true;
        }
        error_set(error, ERROR_UNSUPPORTED, "precision",
                  "int8 needs a GPU of compute capability 7.5 or newer; %s has %d.%d", device->id,
                  device->compute_major, device->compute_minor);
        return error_hint(error, "set precision fp16");
    }
}

static bool check_ranges(const struct graph *graph, const struct plan_options *options,
                         struct error *error)
{
    if (options->precision != PRECISION_INT8 ||
        (options->ranges != NULL && options->range_count == graph->value_count)) {
        return true;
    }
    error_set(error, ERROR_VALUE, "precision int8",
              "the ranges of this model's values are not known yet");
    return error_hint(error, "calibrate FILE");
}

struct plan *plan_compile(struct device *device, const struct graph *graph,
                          const struct plan_options *options, struct error *error)
{
    enum dtype dtype;
    if (!precision_storage(device, options->precision, &dtype, error) ||
        !check_ranges(graph, options, error)) {
        return NULL;
    }
    if (!device_use(device, error)) {
        return NULL;
    }
    struct plan *plan = xcalloc(1, sizeof *plan);
    plan->device = device;
    plan->options = *options;
    plan->dtype = dtype;
    plan->int8 = options->precision == PRECISION_INT8;
    if (plan->int8) { /* what is not made of bytes is strict float32 */
        plan->options.precision = PRECISION_FP32;
        plan->precisions = xcalloc(graph->op_count + 1, sizeof *plan->precisions);
    }
    copy_graph(plan, graph);
    plan_entries_open(plan);
    plan->steps = xcalloc(graph->op_count + 1, sizeof *plan->steps);
    plan->impls = xcalloc(graph->op_count + 1, sizeof *plan->impls);
    struct memory_options memory = {.alignment = DEVICE_ALIGNMENT,
                                    .element_bytes = dtype_bytes(dtype)};
    plan->memory = memory_plan_new(&plan->local, &memory, error);
    bool good = plan->memory != NULL;
    if (good) {
        plan->arena_bytes = aligned(plan->memory->arena_bytes);
        make_ports(plan);
    }
    for (size_t i = 0; good && i < graph->op_count; i++) {
        good = goes_on(plan, i, error) && make_step(plan, i, error);
    }
    if (!good) {
        uploads_cancel(device);
        plan_free(plan);
        return NULL;
    }
    return plan;
}

struct plan *plan_new(struct device *device, const struct graph *graph,
                      const struct plan_options *options, struct error *error)
{
    if (!device_use(device, error)) {
        return NULL;
    }
    uint64_t free_before = device_free_bytes();
    struct plan *plan = plan_compile(device, graph, options, error);
    if (plan == NULL) {
        return NULL;
    }
    phases_begin(device->phases, PHASE_ALLOCATE);
    bool pinned = pin_ports(plan, error);
    phases_end(device->phases);
    if (!pinned) {
        uploads_cancel(device);
        plan_free(plan);
        return NULL;
    }
    make_events(plan);
    device_charge_context(device, free_before);
    /* a step of another plan may still run on memory that moves (without vmm) */
    if (!CUDA_OK(cudaStreamSynchronize(device->stream), device->id, error) ||
        !take_memory(plan, error)) {
        uploads_cancel(device);
        plan_free(plan);
        return NULL;
    }
    plan->next = device->plans;
    device->plans = plan;
    plan->generation = device->regions.generation;
    settle(device);
    return plan;
}

void plan_free(struct plan *plan)
{
    if (plan == NULL) {
        return;
    }
    struct device *device = plan->device;
    device_use(device, NULL);
    cudaStreamSynchronize(device->stream);
    replay_free(plan);
    for (struct plan **at = &device->plans; *at != NULL; at = &(*at)->next) {
        if (*at == plan) {
            *at = plan->next;
            settle(device);
            break;
        }
    }
    for (size_t i = 0; i < plan->graph->op_count; i++) {
        struct step *step = &plan->steps[i];
        if (step->free_data != NULL && step->data != NULL) {
            step->free_data(plan, step);
        }
        free(step->chains);
    }
    plan_feed(plan, NULL, NULL);
    free_hosts(plan, plan->inputs, plan->graph->input_count);
    free_hosts(plan, plan->outputs, plan->graph->output_count);
    cudaFreeHost(plan->fault);
    for (size_t i = 0; plan->events != NULL && i <= plan->graph->op_count; i++) {
        if (plan->events[i] != NULL) {
            cudaEventDestroy(plan->events[i]);
        }
    }
    tune_free(plan);
    plan_entries_close(plan);
    free(plan->events);
    free(plan->inputs);
    free(plan->outputs);
    free(plan->steps);
    free(plan->impls);
    free(plan->precisions);
    free(plan->local.values);
    free(plan->storage);
    memory_plan_free(plan->memory);
    free(plan);
}

void *plan_input(struct plan *plan, size_t index)
{
    return plan->inputs[index].host;
}

const void *plan_output(struct plan *plan, size_t index)
{
    return plan->outputs[index].host;
}

const char *const *plan_impls(const struct plan *plan)
{
    return plan->impls;
}

const char *const *plan_precisions(const struct plan *plan)
{
    return plan->precisions;
}

void plan_memory(const struct plan *plan, struct plan_memory *out)
{
    out->weights_bytes = plan->device->upload_bytes;
    uint64_t feed = feed_device_bytes(plan);
    out->arena_bytes = plan->arena_bytes + feed;
    out->workspace_bytes = plan->workspace_bytes;
    out->peak_op = plan->memory->peak_op;
    out->peak_live_bytes = plan->memory->peak_live_bytes;
    out->slice = 0;
    out->device_bytes =
        feed + regions_rounded(&plan->device->regions, REGION_WEIGHTS, out->weights_bytes) +
        regions_rounded(&plan->device->regions, REGION_ARENA, plan->arena_bytes) +
        regions_rounded(&plan->device->regions, REGION_WORKSPACE, out->workspace_bytes);
}

bool plan_forecast(struct device *device, const struct graph *graph,
                   const struct plan_options *options, struct plan_memory *out, struct error *error)
{
    if (!device_use(device, error)) {
        return false;
    }
    uint64_t free_before = device_free_bytes();
    uploads_mark(device);
    struct plan *plan = plan_compile(device, graph, options, error);
    if (plan == NULL) {
        return false;
    }
    /* what libraries loaded to answer stays loaded: it belongs to the context */
    device_charge_context(device, free_before);
    plan_memory(plan, out);
    out->weights_bytes = uploads_marked_bytes(device);
    out->device_bytes += regions_rounded(&device->regions, REGION_WEIGHTS, out->weights_bytes) -
                         regions_rounded(&device->regions, REGION_WEIGHTS, device->upload_bytes);
    uploads_cancel(device);
    plan_free(plan);
    return true;
}
