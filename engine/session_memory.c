/* What the session holds and would hold: measured, planned, and forecast without allocating. */
#include "engine/session_private.h"

#include "engine/cpu/layout.h"

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
    if (now == UINT64_MAX || session->baseline_bytes == UINT64_MAX)
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

/* The planner's view of a graph: the peak, and what lives there. */
static json_t *peak_json(const struct graph *graph, const struct memory_plan *plan)
{
    int values[16];
    size_t count = memory_plan_live(plan, graph, plan->peak_op, values, 16);
    json_t *live = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct graph_value *value = &graph->values[values[i]];
        char shape[128];
        const char *layer = value->layer >= 0 ? graph->model->layers[value->layer].name : "";
        json_array_append_new(live, json_pack("{s:s, s:s, s:I}", "layer", layer, "shape",
                                              shape_format(shape, sizeof shape, &value->shape),
                                              "bytes", (json_int_t)plan->sizes[values[i]]));
    }
    const char *peak = "";
    if (plan->peak_op >= 0 && (size_t)plan->peak_op < graph->op_count &&
        graph->ops[plan->peak_op].layer >= 0)
        peak = graph->model->layers[graph->ops[plan->peak_op].layer].name;
    return json_pack("{s:s, s:I, s:o}", "peak_layer", peak, "peak_live_bytes",
                     (json_int_t)plan->peak_live_bytes, "live", live);
}

/* What a plan would take: the graph that the planner looked at (a slice's, on the CPU), its memory
 * plan, and the bytes of the arena with all that lies in it. */
struct forecast {
    const struct graph *graph;
    const struct memory_plan *plan;
    uint64_t arena_bytes;
    struct layout layout; /* owns the rest */
};

static bool forecast_new(struct forecast *out, const struct slot *slot,
                         const struct settings *settings, const struct graph *graph,
                         struct error *error)
{
    bool half = settings->precision == PRECISION_FP16 || settings->precision == PRECISION_BF16;
    size_t element_bytes = half ? 2 : 4;
    *out = (struct forecast){.graph = graph};
    if (slot->backend == &backend_cpu) {
        if (!layout_new(&out->layout, graph, element_bytes, settings->slice, error))
            return false;
        out->graph = out->layout.slice != NULL ? out->layout.slice : graph;
        out->arena_bytes = out->layout.arena_bytes;
    } else {
        const struct memory_options options = {
            .alignment = 256, .element_bytes = element_bytes, .keep_inputs = true};
        out->layout.memory = memory_plan_new(graph, &options, error);
        if (out->layout.memory == NULL)
            return false;
        out->arena_bytes = out->layout.memory->arena_bytes;
    }
    out->plan = out->layout.memory;
    return true;
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
        json_array_append_new(
            devices, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "device",
                               slot->id, "total_bytes", session_bytes_json(memory.total_bytes),
                               "free_bytes", session_bytes_json(memory.free_bytes),
                               "used_by_us_bytes", session_bytes_json(memory.used_by_us_bytes),
                               "weights_bytes", session_bytes_json(memory.weights_bytes),
                               "arena_bytes", session_bytes_json(memory.arena_bytes),
                               "workspace_bytes", session_bytes_json(memory.workspace_bytes),
                               "idle_bytes", session_bytes_json(memory.idle_bytes), "context_bytes",
                               session_bytes_json(memory.context_bytes), "planned_bytes", planned));
    }
    json_t *reply = json_pack("{s:o}", "devices", devices);
    if (session->plan_json != NULL) {
        struct forecast forecast;
        if (!forecast_new(&forecast, &session->slots[0], &session->settings, session->graph,
                          error)) {
            json_decref(reply);
            return NULL;
        }
        json_object_set_new(reply, "plan", peak_json(forecast.graph, forecast.plan));
        layout_free(&forecast.layout);
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

/* A forecast: the graph for another batch and its arena, by the planner alone. Weights do not
 * depend on the batch; the workspace is the present plan's, the one term that is carried over. */
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
    struct graph_options options = {.batch = next.batch, .fusion = next.fusion};
    struct graph *graph = graph_lower(session->model, &options, session->pool, error);
    struct forecast forecast;
    if (graph == NULL || !forecast_new(&forecast, slot, &next, graph, error)) {
        if (graph != NULL)
            graph_free(graph);
        return NULL;
    }
    struct plan_memory present = {0};
    slot->backend->plan_memory(slot->plan, &present);
    /* what the present plan holds beside its arena: weights, constants, workspace */
    uint64_t beside = session_planned_bytes(session, slot) - present.arena_bytes;
    struct device_memory memory;
    memset(&memory, 0xff, sizeof memory);
    slot->backend->device_memory(slot->device, &memory, NULL);
    uint64_t planned = beside + forecast.arena_bytes, limit = slot->options.limit_bytes;
    json_t *fits = json_null();
    if (limit != 0 && planned > limit)
        fits = json_false();
    else if (memory.free_bytes != UINT64_MAX)
        fits = json_boolean(forecast.arena_bytes <= memory.free_bytes + present.arena_bytes);
    uint64_t flops = 0, bytes = 0;
    for (size_t i = 0; i < graph->op_count; i++) {
        flops += graph->ops[i].flops;
        bytes += graph->ops[i].bytes;
    }
    json_t *reply =
        json_pack("{s:s, s:I, s:s, s:b, s:b, s:{s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:o, s:o}",
                  "device", slot->id, "batch", (json_int_t)next.batch, "precision",
                  precision_name(session->settings.precision), "fusion", (int)next.fusion, "graph",
                  (int)next.graph, "memory", "weights_bytes", (json_int_t)present.weights_bytes,
                  "arena_bytes", (json_int_t)forecast.arena_bytes, "workspace_bytes",
                  (json_int_t)present.workspace_bytes, "peak_live_bytes",
                  (json_int_t)forecast.plan->peak_live_bytes, "planned_bytes", (json_int_t)planned,
                  "flops", (json_int_t)flops, "bytes", (json_int_t)bytes, "fits", fits, "layers",
                  graph_describe_layers(graph));
    json_t *peak = peak_json(forecast.graph, forecast.plan);
    json_object_set(json_object_get(reply, "memory"), "peak_layer",
                    json_object_get(peak, "peak_layer"));
    json_object_set(reply, "live", json_object_get(peak, "live"));
    json_decref(peak);
    layout_free(&forecast.layout);
    graph_free(graph);
    return reply;
}
