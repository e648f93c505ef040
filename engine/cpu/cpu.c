/* The CPU backend: the device, its plans, and their steps. */
#include "engine/cpu/cpu.h"
#include "engine/clock.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- memory ---- */

void device_tell(const struct device *device, enum memory_category category, uint64_t bytes)
{
    const struct observer *observer = device->observer;
    if (observer && observer->memory)
        observer->memory(observer->context, "cpu", category, bytes);
}

#define MIB (1024.0 * 1024.0)

/* What the three categories hold. */
static uint64_t device_held(const struct device *device)
{
    return device->weights_bytes + device->arena_bytes + device->scratch_bytes;
}

size_t device_scratch_needed(const struct device *device)
{
    size_t needed = 0;
    for (const struct plan *plan = device->plans; plan; plan = plan->next)
        needed = plan->scratch_bytes > needed ? plan->scratch_bytes : needed;
    return needed;
}

bool device_admit(struct device *device, uint64_t bytes, const char *what, struct error *error)
{
    if (device->limit_bytes > 0 && device_held(device) + bytes > device->limit_bytes)
        weights_collect(device);
    uint64_t held = device_held(device);
    if (device->limit_bytes > 0 && held + bytes > device->limit_bytes) {
        error_set(error, ERROR_MEMORY_LIMIT, what,
                  "%.1f MiB more would pass the limit of %.1f MiB (%.1f MiB in use)",
                  (double)bytes / MIB, (double)device->limit_bytes / MIB, (double)held / MIB);
        return error_hint(error, "set limit none");
    }
    if (bytes < (1 << 20))
        return true; /* not worth asking the kernel */
    uint64_t available = machine_available_bytes();
    if (bytes <= available)
        return true;
    error_set(error, ERROR_MEMORY, what, "%.1f MiB are needed and %.1f MiB are available",
              (double)bytes / MIB, (double)available / MIB);
    return error_hint(error, "set batch 1");
}

/* How much the system may give to who asks whatever is free: what is available, within the limit. */
static uint64_t most_bytes(struct device *device)
{
    uint64_t most = machine_available_bytes(), limit = device->limit_bytes;
    if (limit > 0)
        weights_collect(device);
    uint64_t held = device_held(device), left = limit > held ? limit - held : 0;
    return limit > 0 && left < most ? left : most;
}

/* Pages for one category: refused by us if they do not fit, by the system with `force`. */
static void *take_pages(struct device *device, size_t bytes, size_t more,
                        const struct plan_options *options, const char *what, struct error *error)
{
    uint64_t most = UINT64_MAX;
    if (options->force)
        most = most_bytes(device) + (bytes - more);
    else if (!device_admit(device, more, what, error))
        return NULL;
    return pages_new(bytes, most, what, options, error);
}

/* Let the scratchpad hold `bytes`. */
static bool scratch_grow(struct device *device, size_t bytes, const struct plan_options *options,
                         struct error *error)
{
    if (bytes <= device->scratch_bytes)
        return true;
    phases_begin(device->phases, PHASE_ALLOCATE);
    void *scratch =
        take_pages(device, bytes, bytes - device->scratch_bytes, options, "workspace", error);
    phases_end(device->phases);
    if (!scratch)
        return false;
    pages_free(device->scratch, device->scratch_bytes);
    device->scratch = scratch;
    device->scratch_bytes = bytes;
    device_tell(device, MEMORY_WORKSPACE, bytes);
    return true;
}

/* ---- device ---- */

static bool cpu_devices(json_t *list, struct error *error)
{
    char name[128], clean[256];
    (void)error;
    machine_cpu_name(name, sizeof name);
    json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:i, s:s, s:s, s:I, s:I}", "id", "cpu",
                                          "name", text_clean(clean, sizeof clean, name), "usable",
                                          1, "threads", machine_physical_cores(), "isa",
                                          dnn_isa_name(), "library", dnn_version_text(),
                                          "total_bytes", (json_int_t)machine_total_bytes(),
                                          "free_bytes", (json_int_t)machine_available_bytes()));
    return true;
}

/* Test hook: LAYERTOP_TEST_SLOW_LAYER=NAME:MILLISECONDS makes the first op of that layer (path or
 * name) busy-wait so much longer inside its interval, so that a test can ask whether the right
 * layer turns slow. */
static void read_slow_layer(struct device *device)
{
    const char *text = getenv("LAYERTOP_TEST_SLOW_LAYER");
    const char *colon = text ? strrchr(text, ':') : NULL;
    if (!colon)
        return;
    device->slow_layer = xasprintf("%.*s", (int)(colon - text), text);
    device->slow_ns = (int64_t)(strtod(colon + 1, NULL) * 1e6);
}

static void cpu_device_close(struct device *device)
{
    weights_forget(device);
    pages_free(device->scratch, device->scratch_bytes);
    if (device->stream)
        dnnl_stream_destroy(device->stream);
    if (device->engine)
        dnnl_engine_destroy(device->engine);
    free(device->slow_layer);
    free(device);
}

static struct device *cpu_device_open(const struct device_options *options,
                                      const struct observer *observer, struct error *error)
{
    struct device *device = xcalloc(1, sizeof *device);
    device->observer = observer;
    device->phases = options->phases;
    device->limit_bytes = options->limit_bytes;
    device->threads = options->threads > 0 ? options->threads : machine_physical_cores();
    omp_set_num_threads(device->threads);
    if (dnnl_engine_create(&device->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&device->stream, device->engine, dnnl_stream_default_flags) !=
            dnnl_success) {
        cpu_device_close(device);
        error_set(error, ERROR_DEVICE, "cpu", "%s cannot be started", dnn_version_text());
        return NULL;
    }
    read_slow_layer(device);
    return device;
}

static bool cpu_device_memory(struct device *device, struct device_memory *out, struct error *error)
{
    (void)error;
    *out = (struct device_memory){.total_bytes = machine_total_bytes(),
                                  .free_bytes = machine_available_bytes(),
                                  .used_by_us_bytes = machine_anonymous_bytes(),
                                  .weights_bytes = device->weights_bytes,
                                  .arena_bytes = device->arena_bytes,
                                  .workspace_bytes = device->scratch_bytes};
    out->room_bytes = out->free_bytes + device_held(device);
    out->largest_bytes = out->free_bytes; /* pages of a process need not lie side by side */
    return true;
}

/* What no plan needs is given back: of the scratchpad its end, whose pages are our own. */
static void scratch_shrink(struct device *device)
{
    size_t needed = device_scratch_needed(device), page = 4096;
    size_t keep = (needed + page - 1) & ~(page - 1);
    size_t held = (device->scratch_bytes + page - 1) & ~(page - 1);
    if (needed == device->scratch_bytes)
        return;
    if (held > keep)
        munmap((char *)device->scratch + keep, held - keep);
    if (keep == 0)
        device->scratch = NULL;
    device->scratch_bytes = needed;
    device_tell(device, MEMORY_WORKSPACE, device->scratch_bytes);
}

static void cpu_device_trim(struct device *device)
{
    weights_collect(device);
    scratch_shrink(device);
}

/* ---- plans ---- */

void *plan_value(const struct plan *plan, const struct part *part, int value)
{
    return plan->arena + part->memory->offsets[value];
}

void plan_free_parts(struct plan *plan)
{
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; plan->parts[p].steps && i < plan->graph->op_count; i++)
            step_free(&plan->parts[p].steps[i]);
        free(plan->parts[p].steps);
        plan->parts[p].steps = NULL;
    }
}

static void cpu_plan_free(struct plan *plan)
{
    struct device *device = plan->device;
    for (struct plan **at = &device->plans; *at; at = &(*at)->next) {
        if (*at == plan) {
            *at = plan->next;
            break;
        }
    }
    plan_free_parts(plan);
    free((void *)plan->impls);
    free((void *)plan->names);
    free((void *)plan->precisions);
    quantised_free(plan->quantised);
    if (plan->arena) {
        pages_free(plan->arena, plan->arena_bytes);
        device->arena_bytes -= plan->arena_bytes;
        device_tell(device, MEMORY_ACTIVATIONS, device->arena_bytes);
    }
    layout_free(&plan->layout);
    free(plan);
    /* one plan took another's place: nothing of the old one stays. With none left the weights are
     * kept for the next */
    if (device->plans)
        cpu_device_trim(device);
}

bool cpu_precision(enum precision precision, dnnl_data_type_t *type, struct error *error)
{
    *type = precision == PRECISION_BF16 ? dnnl_bf16 : dnnl_f32;
    if (precision == PRECISION_FP32 || precision == PRECISION_INT8 ||
        (precision == PRECISION_BF16 && dnn_has_bf16()))
        return true;
    if (precision == PRECISION_BF16)
        error_set(error, ERROR_UNSUPPORTED, "precision",
                  "this processor (%s) does not multiply bf16 in hardware, and without that it is "
                  "slower than fp32",
                  dnn_isa_name());
    else
        error_set(error, ERROR_UNSUPPORTED, "precision",
                  "the CPU computes in fp32, bf16 or int8, not %s", precision_name(precision));
    return error_hint(error, "set precision fp32");
}

bool plan_quantise(struct plan *plan, const struct plan_options *options, struct error *error)
{
    if (options->precision != PRECISION_INT8)
        return true;
    plan->quantised = quantise_graph(plan->device, plan->graph, options, error);
    plan->precisions = xcalloc(plan->graph->op_count + 1, sizeof *plan->precisions);
    return plan->quantised != NULL;
}

static bool make_arena(struct plan *plan, const struct plan_options *options, struct error *error)
{
    struct device *device = plan->device;
    if (!layout_new(&plan->layout, plan->graph, dnnl_data_type_size(plan->type),
                    plan->quantised ? plan->quantised->value_bytes : NULL, options->slice, error))
        return false;
    size_t bytes = plan->layout.arena_bytes;
    phases_begin(device->phases, PHASE_ALLOCATE);
    plan->arena = take_pages(device, bytes, bytes, options, "activations", error);
    phases_end(device->phases);
    if (!plan->arena)
        return false;
    plan->arena_bytes = bytes;
    device->arena_bytes += bytes;
    device_tell(device, MEMORY_ACTIVATIONS, device->arena_bytes);
    return true;
}

/* The test hook: the head op of the slow layer, in the first slice of a step. */
static void slow_down(struct plan *plan)
{
    const struct graph *graph = plan->graph;
    for (size_t i = 0; plan->device->slow_layer && i < graph->op_count; i++) {
        const struct model_layer *layer = &graph->model->layers[graph->ops[i].layer];
        if (strcmp(layer->path, plan->device->slow_layer) == 0 ||
            strcmp(layer->name, plan->device->slow_layer) == 0) {
            plan->slow_op = (int)i;
            plan->slow_ns = plan->device->slow_ns;
            return;
        }
    }
}

/* Is the plan still wanted, with so many ops of a part done? */
static bool goes_on(const struct plan_options *options, size_t done, size_t all,
                    struct error *error)
{
    return !options->goes_on || options->goes_on(options->context, done, all) ||
           error_set(error, ERROR_INTERRUPTED, "plan", "stopped at op %zu of %zu", done, all);
}

bool plan_make_part(struct plan *plan, struct part *part, const struct graph *graph,
                    const struct memory_plan *memory, const struct plan_options *options,
                    struct error *error)
{
    *part = (struct part){.graph = graph,
                          .memory = memory,
                          .steps = xcalloc(graph->op_count + 1, sizeof *part->steps)};
    for (size_t i = 0; i < graph->op_count; i++) {
        if (!goes_on(options, i, graph->op_count, error) || !step_build(plan, part, (int)i, error))
            return false;
        if (part->steps[i].scratch_bytes > plan->scratch_bytes)
            plan->scratch_bytes = part->steps[i].scratch_bytes;
    }
    return true;
}

static struct plan *cpu_plan_new(struct device *device, const struct graph *graph,
                                 const struct plan_options *options, struct error *error)
{
    dnnl_data_type_t type;
    if (!cpu_precision(options->precision, &type, error))
        return NULL;
    struct plan *plan = xcalloc(1, sizeof *plan);
    plan->device = device;
    plan->graph = graph;
    plan->type = type;
    plan->impls = xcalloc(graph->op_count + 1, sizeof *plan->impls);
    plan->names = xcalloc(graph->op_count + 1, sizeof *plan->names);
    plan->next = device->plans;
    device->plans = plan;
    omp_set_num_threads(device->threads); /* primitives are made for this many */
    const struct layout *layout = &plan->layout;
    bool ok = plan_quantise(plan, options, error) && make_arena(plan, options, error) &&
              plan_make_part(plan, &plan->parts[0], layout->slice ? layout->slice : graph,
                             layout->memory, options, error) &&
              (!layout->rest || plan_make_part(plan, &plan->parts[1], layout->rest,
                                               layout->rest_memory, options, error));
    for (size_t i = 0; ok && i < graph->op_count; i++) {
        plan->impls[i] = plan->parts[0].steps[i].impl;
        plan->names[i] = plan->parts[0].steps[i].name;
        if (plan->precisions && plan->impls[i])
            plan->precisions[i] = plan->quantised->ops[i] ? "int8" : "fp32";
    }
    if (!ok || !scratch_grow(device, plan->scratch_bytes, options, error)) {
        cpu_plan_free(plan);
        return NULL;
    }
    slow_down(plan);
    return plan;
}

static void *cpu_plan_input(struct plan *plan, size_t index)
{
    if (plan->layout.input_offsets)
        return plan->arena + plan->layout.input_offsets[index];
    return plan_value(plan, &plan->parts[0], plan->graph->inputs[index]);
}

static const void *cpu_plan_output(struct plan *plan, size_t index)
{
    if (plan->layout.output_offsets)
        return plan->arena + plan->layout.output_offsets[index];
    return plan_value(plan, &plan->parts[0], plan->graph->outputs[index]);
}

/* ---- steps ---- */

static int64_t elements_of(const struct part *part, int value)
{
    return shape_elements(&part->graph->values[value].shape);
}

/* Where the float32 copies of a widened step lie. */
static float *copies_of(const struct plan *plan, const struct step *step)
{
    return (float *)(void *)((char *)plan->device->scratch + step->own_scratch_bytes);
}

/* Our loop over float32 copies of bfloat16 values; the result is left in the scratchpad. */
static void run_widened(const struct plan *plan, const struct part *part, const struct step *step,
                        const struct op *op, struct own_outside *outside)
{
    float *result = copies_of(plan, step);
    float *next = result + elements_of(part, op->outputs[0]);
    struct own_call call = step->call;
    for (size_t i = 1; i < op->output_count; i++) {
        call.more_outputs[i - 1] = next;
        next += elements_of(part, op->outputs[i]);
    }
    const void *inputs[16];
    const void **list = op->input_count > 16 ? xmalloc(op->input_count * sizeof *list) : inputs;
    for (size_t i = 0; i < op->input_count; i++) {
        int64_t count = elements_of(part, op->inputs[i]);
        list[i] = next;
        if (part->graph->values[op->inputs[i]].exact)
            list[i] = step->call.inputs[i];
        else
            own_widen(step->call.inputs[i], next, count);
        next += count;
    }
    call.inputs = list;
    call.scratch = plan->device->scratch;
    call.outside = outside;
    call.output = result;
    call.element_bytes = sizeof(float);
    step->own(&call);
    for (size_t i = 1; i < op->output_count; i++)
        own_narrow(call.more_outputs[i - 1], step->call.more_outputs[i - 1],
                   elements_of(part, op->outputs[i]));
    if (list != inputs)
        free(list);
}

/* Posts that the primitive could not take: on what lies in the output, or on the float32 result of
 * a widened step, which then goes there. */
static void run_posts(const struct plan *plan, const struct part *part, const struct step *step,
                      const struct op *op)
{
    const struct graph *graph = part->graph;
    int out = op->outputs[0];
    int64_t count = elements_of(part, out);
    float *wide = copies_of(plan, step);
    void *result = step->widened ? wide : plan_value(plan, part, out);
    size_t element_bytes = step->widened ? sizeof(float) : dnnl_data_type_size(plan->type);
    for (size_t i = 0; i < step->post_count; i++) {
        const struct post *post = &step->posts[i];
        const struct shape *shape = NULL;
        const void *operand = NULL;
        if (post->kind == POST_BINARY) {
            shape = &graph->values[post->value].shape;
            operand = plan_value(plan, part, post->value);
            if (step->widened) {
                own_widen(operand, wide + count, shape_elements(shape));
                operand = wide + count;
            }
        }
        own_post(post, result, &graph->values[out].shape, operand, shape, element_bytes);
    }
    if (step->widened)
        own_narrow(wide, plan_value(plan, part, out), count);
}

/* What a primitive of bytes reads that is not in its place yet. */
static void make_bytes(const struct plan *plan, const struct step *step)
{
    if (step->source) {
        char *bytes = (char *)plan->device->scratch + step->source_offset;
        dnnl_memory_set_data_handle(step->source, bytes);
        own_quantise(step->source_from, bytes, step->source_count, &step->source_form);
    }
    if (step->copy_bytes > 0)
        memcpy(step->copy_to, step->copy_from, step->copy_bytes);
}

static bool run_step(const struct plan *plan, const struct part *part, int index,
                     struct error *error)
{
    struct step *step = &part->steps[index];
    const struct op *op = &part->graph->ops[index];
    struct own_outside outside = {false};
    if (step->primitive) {
        if (step->scratch)
            dnnl_memory_set_data_handle(step->scratch, plan->device->scratch);
        make_bytes(plan, step);
        dnnl_status_t status = dnnl_primitive_execute(step->primitive, plan->device->stream,
                                                      step->argument_count, step->arguments);
        if (status != dnnl_success)
            return error_set(error, status == dnnl_out_of_memory ? ERROR_MEMORY : ERROR_BACKEND_OP,
                             plan->graph->model->layers[op->layer].path,
                             "oneDNN failed with status %d", (int)status);
    } else if (step->widened) {
        run_widened(plan, part, step, op, &outside);
    } else if (step->own) {
        struct own_call call = step->call;
        call.scratch = plan->device->scratch;
        call.outside = &outside;
        step->own(&call);
    }
    if (outside.happened)
        return error_set(error, ERROR_INPUT, plan->graph->model->layers[op->layer].path,
                         "the index %g points outside a table of %lld rows", (double)outside.index,
                         (long long)outside.rows);
    if (step->widened || step->post_count > 0)
        run_posts(plan, part, step, op);
    return true;
}

/* Bytes of the host, pictures, as the plan's floats. */
static void cast_bytes(const struct plan *plan, const uint8_t *host, void *inside, int64_t elements,
                       bool exact)
{
    float wide[512];
    if (plan->type == dnnl_f32 || exact) {
        for (int64_t i = 0; i < elements; i++)
            ((float *)inside)[i] = host[i];
        return;
    }
    for (int64_t at = 0; at < elements; at += 512) {
        int64_t count = elements - at < 512 ? elements - at : 512;
        for (int64_t i = 0; i < count; i++)
            wide[i] = host[at + i];
        own_narrow_row(wide, (uint16_t *)inside + at, count);
    }
}

/* The samples from `first` on of the host's buffers into the part's inputs, or out of its
 * outputs. */
static void convert_ports(const struct plan *plan, const struct part *part, int64_t first, bool in,
                          const struct observer *observer)
{
    const struct graph *graph = part->graph;
    const uint64_t *offsets = in ? plan->layout.input_offsets : plan->layout.output_offsets;
    size_t count = in ? graph->input_count : graph->output_count;
    for (size_t i = 0; offsets && i < count; i++) {
        int value = in ? graph->inputs[i] : graph->outputs[i];
        int64_t elements = elements_of(part, value);
        float *host = (float *)(void *)(plan->arena + offsets[i]);
        host += elements / graph->batch * first;
        void *inside = plan_value(plan, part, value);
        int64_t start_ns = observer && observer->interval ? clock_now_ns() : 0;
        if (in && graph->values[value].dtype == DTYPE_U8)
            cast_bytes(plan,
                       (const uint8_t *)plan->arena + offsets[i] + elements / graph->batch * first,
                       inside, elements, graph->values[value].exact);
        else if (plan->type == dnnl_f32 || graph->values[value].exact)
            memcpy(in ? inside : host, in ? host : inside, (size_t)elements * sizeof *host);
        else if (in)
            own_narrow(host, inside, elements);
        else
            own_widen(inside, host, elements);
        if (observer && observer->interval)
            observer->interval(observer->context, INTERVAL_COPY, -1,
                               (uint64_t)elements * (4 + dnnl_data_type_size(plan->type)), start_ns,
                               clock_now_ns());
    }
}

/* Show a value to whoever looks: float32 ones only. */
static void show_value(const struct plan *plan, const struct part *part, int value,
                       const struct step_context *context)
{
    bool floats = plan->type == dnnl_f32 && !(plan->quantised && plan->quantised->stored[value]);
    if (context->value && floats)
        context->value(context->context, value, plan_value(plan, part, value),
                       (size_t)elements_of(part, value));
}

static bool run_part(const struct plan *plan, const struct part *part, int64_t first,
                     const struct step_context *context, struct error *error)
{
    const struct observer *observer = context->observer;
    convert_ports(plan, part, first, true, observer);
    for (size_t i = 0; i < part->graph->input_count; i++)
        show_value(plan, part, part->graph->inputs[i], context);
    for (size_t i = 0; i < part->graph->op_count; i++) {
        const struct step *step = &part->steps[i];
        if (!step->impl)
            continue;
        if (context->cancel && atomic_load_explicit(context->cancel, memory_order_relaxed))
            return error_set(error, ERROR_INTERRUPTED, "step", "it was cancelled");
        if (observer && observer->op_begin)
            observer->op_begin(observer->context, (int)i);
        int64_t start_ns = observer && observer->op_end ? clock_now_ns() : 0;
        if (!run_step(plan, part, (int)i, error))
            return false;
        if (first == 0 && plan->slow_ns > 0 && plan->slow_op == (int)i) {
            for (int64_t end_ns = clock_now_ns() + plan->slow_ns; clock_now_ns() < end_ns;)
                ;
        }
        if (observer && observer->op_end)
            observer->op_end(observer->context, (int)i, INTERVAL_KERNEL, start_ns, clock_now_ns());
        if (observer && observer->launches)
            observer->launches(observer->context, (int)i,
                               1 + (uint32_t)step->post_count + (step->source != NULL));
        for (size_t j = 0; j < part->graph->ops[i].output_count; j++)
            show_value(plan, part, part->graph->ops[i].outputs[j], context);
    }
    convert_ports(plan, part, first, false, observer);
    return true;
}

static bool cpu_plan_run(struct plan *plan, const struct step_context *context, struct error *error)
{
    const struct observer *observer = context->observer;
    const struct part *whole = &plan->parts[0], *rest = &plan->parts[1];
    omp_set_num_threads(plan->device->threads);
    if (observer && observer->step_begin)
        observer->step_begin(observer->context, context->step, clock_now_ns());
    for (int64_t i = 0; i < plan->layout.slices; i++) {
        if (!run_part(plan, whole, i * whole->graph->batch, context, error))
            return false;
    }
    if (rest->steps &&
        !run_part(plan, rest, plan->layout.slices * whole->graph->batch, context, error))
        return false;
    if (observer && observer->step_end)
        observer->step_end(observer->context, context->step, clock_now_ns());
    return true;
}

static const char *const *cpu_plan_names(const struct plan *plan)
{
    return plan->names;
}

static const char *const *cpu_plan_precisions(const struct plan *plan)
{
    return plan->precisions;
}

static const char *const *cpu_plan_impls(const struct plan *plan)
{
    return plan->impls;
}

static void cpu_plan_memory(const struct plan *plan, struct plan_memory *out)
{
    *out = (struct plan_memory){.weights_bytes = plan->device->weights_bytes,
                                .arena_bytes = plan->arena_bytes,
                                .workspace_bytes = plan->device->scratch_bytes,
                                .device_bytes = device_held(plan->device),
                                .peak_op = plan->layout.memory->peak_op,
                                .peak_live_bytes = plan->layout.memory->peak_live_bytes,
                                .slice = plan->parts[0].graph->batch};
}

const struct backend backend_cpu = {
    .abi = BACKEND_ABI,
    .name = "cpu",
    .devices = cpu_devices,
    .device_open = cpu_device_open,
    .device_close = cpu_device_close,
    .device_memory = cpu_device_memory,
    .device_trim = cpu_device_trim,
    .device_forget = weights_forget,
    .plan_new = cpu_plan_new,
    .plan_free = cpu_plan_free,
    .plan_input = cpu_plan_input,
    .plan_output = cpu_plan_output,
    .plan_run = cpu_plan_run,
    .plan_impls = cpu_plan_impls,
    .plan_names = cpu_plan_names,
    .plan_precisions = cpu_plan_precisions,
    .plan_memory = cpu_plan_memory,
    .plan_forecast = cpu_plan_forecast,
    .device_processes = cpu_device_processes,
};
