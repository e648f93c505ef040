#include "engine/cpu/layout.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/dnnl_compat.h"
#include "engine/graph/op_rules.h"
#include "engine/graph/slice.h"
#include <stdlib.h>
#include <unistd.h>

/* Measured on two cores of 2 MiB L2 each at batch 32 (processor time, the whole batch against
 * slices of 1, 2, 4, 8, 16): MobileNetV2 fp32 263 ms against 282, 248, 234, 239, 256; bf16 122
 * against 169, 133, 117, 112, 114; EfficientNetB0 fp32 442 against 556, 470, 430, 431; ResNet50
 * fp32 2037 against 2228, 2145, 2089, 2073. So: a slice whose average op reads and writes about as
 * much as the cores' L2 holds (4 in fp32, 8 in bf16), and only for networks that move much and
 * compute little: MobileNetV2 has 11 FLOPs for a byte of activations, ResNet50 76.
 * Where tiles compute (AMX), moving is what counts sooner: ResNet50 in bf16, 152 FLOPs a byte, at batch
 * 32 on both cores: 177 ms against 156 (4), 149 (8), 156 (16), medians of three. */
#define FLOPS_PER_BYTE_MOST  32
#define FLOPS_PER_BYTE_TILES 192
/* Every slice reads all weights again: at most this share of what its activations move. */
#define WEIGHTS_SHARE        8
#define WEIGHTS_SHARE_TILES  6

static uint64_t cache_bytes(void)
{
    long level2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return (uint64_t)(level2 > 0 ? level2 : 1 << 20) * (uint64_t)machine_physical_cores();
}

int64_t layout_fastest(const struct graph *graph, size_t element_bytes)
{
    uint64_t flops = 0, moved = 0, weights = 0, ops = 0;
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct constant *constants[4];
        const struct op *op = &graph->ops[i];
        size_t count = op_constants(op, constants);
        uint64_t own = 0;
        for (size_t c = 0; c < count; c++)
            own += constants[c]->bytes;
        flops += op->flops;
        moved += op->bytes - own;
        weights += own;
        ops += op->bytes > 0;
    }
    /* counted at fp32: in the elements of this plan, for one sample */
    uint64_t batch = (uint64_t)graph->batch;
    flops /= batch;
    moved = moved / sizeof(float) * element_bytes / batch;
    weights = weights / sizeof(float) * element_bytes;
    bool tiles = element_bytes <= 2 && dnn_has_amx();
    if (moved == 0 || flops / moved > (tiles ? FLOPS_PER_BYTE_TILES : FLOPS_PER_BYTE_MOST))
        return graph->batch;
    int64_t slice = 1;
    while (slice < graph->batch && moved / ops * (uint64_t)slice * 2 <= cache_bytes())
        slice *= 2;
    uint64_t share = tiles ? WEIGHTS_SHARE_TILES : WEIGHTS_SHARE;
    if (tiles && weights > moved * (uint64_t)slice / share)
        slice *= 2;
    if (slice * 2 > graph->batch || weights > moved * (uint64_t)slice / share)
        return graph->batch;
    return slice;
}

#define LINE 64

static uint64_t *place_ports(const struct graph *graph, const int *values, size_t count,
                             uint64_t *end)
{
    uint64_t *offsets = xcalloc(count + 1, sizeof *offsets);
    for (size_t i = 0; i < count; i++) {
        offsets[i] = *end;
        *end += (uint64_t)shape_elements(&graph->values[values[i]].shape) * sizeof(float);
        *end = (*end + LINE - 1) & ~(uint64_t)(LINE - 1);
    }
    return offsets;
}

bool layout_new(struct layout *out, const struct graph *graph, size_t element_bytes,
                const unsigned char *value_bytes, int slice, struct error *error)
{
    size_t moved_bytes = value_bytes ? 1 : element_bytes; /* of most elements */
    int64_t samples = slice > 0    ? slice
                      : slice == 0 ? layout_fastest(graph, moved_bytes)
                                   : graph->batch;
    *out = (struct layout){.slices = 1};
    if (samples < graph->batch)
        out->slice = graph_slice(graph, samples);
    if (out->slice) {
        out->slices = graph->batch / samples;
        if (graph->batch % samples > 0)
            out->rest = graph_slice(graph, graph->batch % samples);
    }
    bool ports = out->slice || element_bytes != sizeof(float);
    for (size_t i = 0; i < graph->input_count; i++)
        ports |= graph->values[graph->inputs[i]].dtype == DTYPE_U8;
    const struct memory_options options = {.alignment = LINE,
                                           .element_bytes = element_bytes,
                                           .value_bytes = value_bytes,
                                           .keep_inputs = !ports,
                                           .floats = true};
    out->memory = memory_plan_new(out->slice ? out->slice : graph, &options, error);
    if (out->memory && out->rest)
        out->rest_memory = memory_plan_new(out->rest, &options, error);
    if (!out->memory || (out->rest && !out->rest_memory)) {
        layout_free(out);
        return false;
    }
    out->arena_bytes = out->memory->arena_bytes;
    if (out->rest && out->rest_memory->arena_bytes > out->arena_bytes)
        out->arena_bytes = out->rest_memory->arena_bytes;
    if (ports) {
        out->input_offsets =
            place_ports(graph, graph->inputs, graph->input_count, &out->arena_bytes);
        out->output_offsets =
            place_ports(graph, graph->outputs, graph->output_count, &out->arena_bytes);
    }
    if (out->arena_bytes == 0)
        out->arena_bytes = LINE;
    return true;
}

void layout_free(struct layout *layout)
{
    memory_plan_free(layout->memory);
    memory_plan_free(layout->rest_memory);
    if (layout->slice)
        graph_free(layout->slice);
    if (layout->rest)
        graph_free(layout->rest);
    free(layout->input_offsets);
    free(layout->output_offsets);
    *layout = (struct layout){0};
}
