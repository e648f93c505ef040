/* What the session holds and would hold: measured, planned, and forecast without allocating. */
#include "engine/session_private.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *session_bytes_json(uint64_t bytes)
{
    return bytes == UINT64_MAX ? json_null() : json_integer((json_int_t)bytes);
}

uint64_t session_resident_bytes(void)
{
    /* what was freed is not held: give it back before it is counted */
    malloc_trim(0);
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return UINT64_MAX;
    char line[256];
    unsigned long long kib = 0;
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL)
        found = sscanf(line, "RssAnon: %llu kB", &kib) == 1;
    fclose(file);
    return found ? kib * 1024 : UINT64_MAX;
}

void session_rebase(struct session *session, uint64_t read_bytes)
{
    uint64_t now = session_resident_bytes();
    uint64_t model = read_bytes > session->before_bytes ? read_bytes - session->before_bytes : 0;
    if (now != UINT64_MAX && session->before_bytes != UINT64_MAX)
        session->baseline_bytes = now > model ? now - model : 0;
}

uint64_t session_planned_bytes(const struct session *session, const struct slot *slot)
{
    struct plan_memory memory = {0};
    slot->backend->plan_memory(slot->plan, &memory);
    uint64_t bytes = memory.weights_bytes + memory.arena_bytes + memory.workspace_bytes;
    /* computed constants lie in host memory, where a GPU's figures do not look */
    if (slot->backend == &backend_cpu)
        bytes += constant_pool_bytes(session->pool);
    return bytes;
}

/* From outside our allocator: what the process's memory grew by (CPU) or the device's (GPU). */
static uint64_t measured_bytes(const struct session *session, const struct slot *slot,
                               const struct device_memory *memory)
{
    if (slot->backend != &backend_cpu) {
        if (memory->used_by_us_bytes == UINT64_MAX)
            return UINT64_MAX;
        uint64_t context = memory->context_bytes == UINT64_MAX ? 0 : memory->context_bytes;
        return memory->used_by_us_bytes > context ? memory->used_by_us_bytes - context : 0;
    }
    uint64_t now = session_resident_bytes();
    /* logical devices share the process: what each of them took cannot be told from outside */
    /* nor can what the pipeline's decoders take */
    if (now == UINT64_MAX || session->baseline_bytes == UINT64_MAX || slot->tap != NULL ||
        session->pipeline != NULL)
        return UINT64_MAX;
    return now > session->baseline_bytes ? now - session->baseline_bytes : 0;
}

json_t *session_memory_json(struct session *session, const struct slot *slot)
{
    struct device_memory memory;
    memset(&memory, 0xff, sizeof memory); /* not known */
    slot->backend->device_memory(slot->device, &memory, NULL);
    return json_pack("{s:I, s:o, s:o}", "planned_bytes",
                     (json_int_t)session_planned_bytes(session, slot), "measured_bytes",
                     session_bytes_json(measured_bytes(session, slot, &memory)), "context_bytes",
                     session_bytes_json(memory.context_bytes));
}

/* A tensor alive at the peak. */
struct live {
    const struct graph *graph;
    int value;
    uint64_t bytes;
    enum dtype dtype;
};

static int larger_first(const void *a, const void *b)
{
    const struct live *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static enum dtype dtype_in_plan(const struct forecast *forecast, enum dtype dtype)
{
    if (dtype != DTYPE_F32)
        return dtype;
    return forecast->precision == PRECISION_FP16   ? DTYPE_F16
           : forecast->precision == PRECISION_BF16 ? DTYPE_BF16
                                                   : DTYPE_F32;
}

/* The whole batch's inputs or outputs that lie beside the planned values. */
static size_t add_ports(const struct graph *graph, const int *values, size_t count,
                        struct live *out, size_t have)
{
    for (size_t i = 0; i < count && have < 2 * LIVE_MAX; i++)
        out[have++] = (struct live){graph, values[i], session_value_bytes(graph, values[i]),
                                    session_host_dtype(graph->values[values[i]].dtype)};
    return have;
}

static size_t find_live(const struct forecast *forecast, struct live *out)
{
    const struct graph *graph = forecast->planned;
    const struct memory_plan *plan = forecast->layout.memory;
    int values[LIVE_MAX];
    size_t count = memory_plan_live(plan, graph, plan->peak_op, values, LIVE_MAX);
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = plan->sizes[values[i]];
        enum dtype dtype = dtype_in_plan(forecast, graph->values[values[i]].dtype);
        if (forecast->precision == PRECISION_INT8 &&
            bytes == (uint64_t)shape_elements(&graph->values[values[i]].shape))
            dtype = DTYPE_I8;
        out[i] = (struct live){graph, values[i], bytes, dtype};
    }
    graph = forecast->graph;
    if (forecast->layout.input_offsets != NULL)
        count = add_ports(graph, graph->inputs, graph->input_count, out, count);
    if (forecast->layout.output_offsets != NULL)
        count = add_ports(graph, graph->outputs, graph->output_count, out, count);
    qsort(out, count, sizeof *out, larger_first);
    return count;
}

json_t *session_peak_json(const struct forecast *forecast, size_t most)
{
    const struct graph *graph = forecast->planned;
    const struct memory_plan *plan = forecast->layout.memory;
    struct live live[2 * LIVE_MAX];
    size_t count = find_live(forecast, live);
    json_t *list = json_array();
    for (size_t i = 0; i < count && i < most; i++) {
        const struct graph_value *value = &live[i].graph->values[live[i].value];
        char shape[128];
        const char *layer = value->layer >= 0 ? graph->model->layers[value->layer].name : "";
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I}", "layer", layer, "shape",
                                              shape_format(shape, sizeof shape, &value->shape),
                                              "dtype", dtype_name(live[i].dtype), "bytes",
                                              (json_int_t)live[i].bytes));
    }
    const char *peak = "";
    if (plan->peak_op >= 0 && (size_t)plan->peak_op < graph->op_count &&
        graph->ops[plan->peak_op].layer >= 0)
        peak = graph->model->layers[graph->ops[plan->peak_op].layer].name;
    return json_pack("{s:s, s:I, s:o}", "peak_layer", peak, "peak_live_bytes",
                     (json_int_t)plan->peak_live_bytes, "live", list);
}

json_t *session_do_memory(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    json_t *devices = json_array();
    for (size_t i = 0; i < session->slot_count; i++) {
        const struct slot *slot = &session->slots[i];
        struct device_memory memory;
        memset(&memory, 0xff, sizeof memory);
        if (!slot->backend->device_memory(slot->device, &memory, error)) {
            json_decref(devices);
            return NULL;
        }
        json_t *planned = slot->plan != NULL
                              ? session_bytes_json(session_planned_bytes(session, slot))
                              : json_null();
        uint64_t limit = slot->options.limit_bytes, others = UINT64_MAX;
        bool known = memory.total_bytes != UINT64_MAX && memory.free_bytes != UINT64_MAX &&
                     memory.used_by_us_bytes != UINT64_MAX &&
                     memory.total_bytes - memory.free_bytes >= memory.used_by_us_bytes;
        if (known) /* what is neither free nor ours */
            others = memory.total_bytes - memory.free_bytes - memory.used_by_us_bytes;
        json_t *answer =
            json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:n, s:n, s:o, s:o, s:o, s:o}",
                      "device", slot->id, "total_bytes", session_bytes_json(memory.total_bytes),
                      "free_bytes", session_bytes_json(memory.free_bytes), "used_by_us_bytes",
                      session_bytes_json(memory.used_by_us_bytes), "weights_bytes",
                      session_bytes_json(memory.weights_bytes), "arena_bytes",
                      session_bytes_json(memory.arena_bytes), "workspace_bytes",
                      session_bytes_json(memory.workspace_bytes), "idle_bytes",
                      session_bytes_json(memory.idle_bytes), "context_bytes",
                      session_bytes_json(memory.context_bytes), "library_bytes", "cupti_bytes",
                      "planned_bytes", planned, "others_bytes", session_bytes_json(others),
                      "limit_bytes", limit != 0 ? session_bytes_json(limit) : json_null(),
                      "processes", session_processes_json(slot));
        if (session->hooks->memory != NULL)
            session->hooks->memory(session->hooks->context, slot->id, answer);
        json_array_append_new(devices, answer);
    }
    json_t *reply = json_pack("{s:o}", "devices", devices);
    if (session->plan_json != NULL) {
        struct forecast forecast;
        if (!session_forecast(session, &session->slots[0], &session->settings,
                              session->slots[0].samples, false, &forecast, error)) {
            json_decref(reply);
            return NULL;
        }
        json_object_set_new(reply, "plan", session_peak_json(&forecast, LIVE_MAX));
        session_forecast_free(&forecast);
    }
    return reply;
}

json_t *session_do_trim(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    (void)error;
    uint64_t freed = 0;
    for (size_t i = 0; i < session->slot_count; i++) {
        const struct slot *slot = &session->slots[i];
        struct device_memory before = {0}, after = {0};
        slot->backend->device_memory(slot->device, &before, NULL);
        slot->backend->device_trim(slot->device);
        slot->backend->device_memory(slot->device, &after, NULL);
        if (before.idle_bytes != UINT64_MAX && before.idle_bytes > after.idle_bytes)
            freed += before.idle_bytes - after.idle_bytes;
    }
    malloc_trim(0);
    return json_pack("{s:I}", "freed_bytes", (json_int_t)freed);
}

/* The fence and the free memory of a forecast against what it needs. */
static void add_fit(json_t *reply, const struct forecast *forecast, const struct memory_room *room)
{
    bool known = room->limit_bytes != 0 || room->free_bytes != UINT64_MAX;
    enum fit fit = session_fit(forecast, room);
    json_object_set_new(reply, "fits", known ? json_boolean(fit == FIT_YES) : json_null());
    json_object_set_new(reply, "limit_bytes",
                        room->limit_bytes != 0 ? session_bytes_json(room->limit_bytes)
                                               : json_null());
    json_object_set_new(reply, "room_bytes", session_bytes_json(room->free_bytes));
}

json_t *session_do_plan(struct session *session, const json_t *arguments, struct error *error)
{
    const json_t *wanted = json_object_get(arguments, "batch");
    struct settings next = session->settings;
    if (wanted != NULL && !settings_set(&next, "batch", wanted, error))
        return NULL;
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "plan", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    const struct slot *slot = &session->slots[0];
    struct forecast forecast;
    size_t first, members;
    session_group(session->slots, session->slot_count, 0, &first, &members);
    int64_t share = session_share(next.batch, members, 0); /* the first device has the most */
    if (!session_forecast(session, slot, &next, share, true, &forecast, error))
        return NULL;
    struct memory_room room;
    session_room(slot, slot->options.limit_bytes, 0, &room);
    const struct graph *graph = forecast.graph;
    uint64_t flops = 0, bytes = 0, planned = forecast.fenced_bytes;
    for (size_t i = 0; i < graph->op_count; i++) {
        flops += graph->ops[i].flops;
        bytes += graph->ops[i].bytes;
    }
    if (slot->backend == &backend_cpu)
        planned += constant_pool_bytes(session->pool);
    json_t *reply = json_pack(
        "{s:s, s:I, s:s, s:b, s:b, s:{s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:o}", "device", slot->id,
        "batch", (json_int_t)next.batch, "precision", precision_name(session->settings.precision),
        "fusion", (int)next.fusion, "graph", (int)next.graph, "memory", "weights_bytes",
        (json_int_t)forecast.memory.weights_bytes, "arena_bytes",
        (json_int_t)forecast.memory.arena_bytes, "workspace_bytes",
        (json_int_t)forecast.memory.workspace_bytes, "peak_live_bytes",
        (json_int_t)forecast.memory.peak_live_bytes, "planned_bytes", (json_int_t)planned, "flops",
        (json_int_t)flops, "bytes", (json_int_t)bytes, "layers", graph_describe_layers(graph));
    add_fit(reply, &forecast, &room);
    if (forecast.memory.slice > 0 && forecast.memory.slice < graph->batch)
        json_object_set_new(reply, "slice", json_integer(forecast.memory.slice));
    json_t *peak = session_peak_json(&forecast, LIVE_MAX);
    json_object_set(json_object_get(reply, "memory"), "peak_layer",
                    json_object_get(peak, "peak_layer"));
    json_object_set(reply, "live", json_object_get(peak, "live"));
    json_decref(peak);
    session_forecast_free(&forecast);
    return reply;
}
