/* The current plan as the front sees it. */
#include "engine/session_private.h"

#include <stdio.h>
#include <string.h>

/* "onednn", or "onednn+own" where a layer's ops differ; NULL if nothing runs. */
static json_t *layer_impl(const struct graph *graph, const char *const *impls, int layer)
{
    char text[96] = "";
    for (size_t i = 0; i < graph->op_count; i++) {
        const char *name = impls != NULL ? impls[i] : NULL;
        if (graph->ops[i].layer != layer || name == NULL || strstr(text, name) != NULL)
            continue;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? "+" : "", name);
    }
    return text[0] != '\0' ? json_string(text) : json_null();
}

/* "int8", "fp32", or "int8+fp32" where the ops of a layer differ; NULL if none runs. */
static const char *layer_precision(const struct graph *graph, const char *const *precisions,
                                   int layer)
{
    bool bytes = false, floats = false;
    for (size_t i = 0; i < graph->op_count; i++) {
        if (graph->ops[i].layer != layer || precisions[i] == NULL)
            continue;
        bytes |= strcmp(precisions[i], "int8") == 0;
        floats |= strcmp(precisions[i], "int8") != 0;
    }
    return bytes && floats ? "int8+fp32" : bytes ? "int8" : floats ? "fp32" : NULL;
}

static const char *op_layer_name(const struct graph *graph, int op)
{
    if (op < 0 || (size_t)op >= graph->op_count || graph->ops[op].layer < 0)
        return "";
    return graph->model->layers[graph->ops[op].layer].name;
}

/* Layers that a GPU leaves to the CPU are told at once: they cost two copies each. */
static void note_fallback(struct session *session, const struct slot *slot,
                          const struct graph *graph, const char *const *impls)
{
    char names[256] = "";
    size_t count = 0;
    for (size_t i = 0; !session_is_cpu(slot->id) && i < graph->op_count; i++) {
        size_t used = strlen(names);
        if (impls[i] == NULL || strcmp(impls[i], "cpu") != 0)
            continue;
        if (count++ < 8)
            snprintf(names + used, sizeof names - used, "%s%.60s", used > 0 ? ", " : "",
                     op_layer_name(graph, (int)i));
    }
    if (count > 0)
        session_note(session, "fallback cpu: %zu op%s of %s %s on the CPU: %s%s", count,
                     count == 1 ? "" : "s", slot->id, count == 1 ? "runs" : "run", names,
                     count > 8 ? " ..." : "");
}

void session_publish_plan(struct session *session)
{
    const struct slot *slot = &session->slots[0];
    const struct graph *graph = session->graph;
    struct plan_memory memory = {0};
    slot->backend->plan_memory(slot->plan, &memory);
    const char *const *impls = slot->backend->plan_impls(slot->plan);
    for (size_t i = 0; i < session->slot_count; i++)
        note_fallback(session, &session->slots[i], graph,
                      session->slots[i].backend->plan_impls(session->slots[i].plan));
    const char *const *precisions =
        slot->backend->plan_precisions != NULL ? slot->backend->plan_precisions(slot->plan) : NULL;
    json_t *layers = graph_describe_layers(graph);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        json_t *row = json_array_get(layers, i);
        int layer = (int)json_integer_value(json_object_get(row, "layer"));
        json_object_set_new(row, "impl", layer_impl(graph, impls, layer));
        const char *precision =
            precisions != NULL ? layer_precision(graph, precisions, layer) : NULL;
        if (precision != NULL)
            json_object_set_new(row, "precision", json_string(precision));
    }
    uint64_t flops = 0, bytes = 0;
    for (size_t i = 0; i < graph->op_count; i++) {
        flops += graph->ops[i].flops;
        bytes += graph->ops[i].bytes;
    }
    json_t *devices = json_array();
    for (size_t i = 0; i < session->slot_count; i++)
        json_array_append_new(devices, json_string(session->slots[i].id));
    const char *source = session_timing_source(session, slot->id);
    json_decref(session->plan_json);
    session->plan_json = json_pack(
        "{s:s, s:o, s:I, s:s, s:b, s:b, s:s, s:{s:I, s:I, s:I, s:I, s:s, s:I}, s:I, s:I, s:o}",
        "device", slot->id, "devices", devices, "batch", (json_int_t)graph->batch, "precision",
        precision_name(session->settings.precision), "fusion", (int)session->settings.fusion,
        "graph", (int)session->settings.graph, "timing_source", source, "memory", "weights_bytes",
        (json_int_t)memory.weights_bytes, "arena_bytes", (json_int_t)memory.arena_bytes,
        "workspace_bytes", (json_int_t)memory.workspace_bytes, "peak_live_bytes",
        (json_int_t)memory.peak_live_bytes, "peak_layer", op_layer_name(graph, memory.peak_op),
        "planned_bytes", (json_int_t)session_planned_bytes(session, slot), "flops",
        (json_int_t)flops, "bytes", (json_int_t)bytes, "layers", layers);
    if (memory.slice > 0 && memory.slice < graph->batch)
        json_object_set_new(session->plan_json, "slice", json_integer(memory.slice));
    json_object_set_new(session->plan_json, "plan_ms", json_real(session->plan_ms));
    session->plan_waiting = session->plan_held;
    if (!session->plan_held)
        session->ports->plan(session->ports->context, session->plan_json);
}
