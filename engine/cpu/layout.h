/* How a plan of the CPU lies in memory: in how many slices a step runs, and what the arena holds.
 * Pure: nothing is allocated but the description, so that a forecast costs nothing and says what a
 * plan would take. Threads: the engine thread. */
#ifndef LAYERTOP_ENGINE_CPU_LAYOUT_H
#define LAYERTOP_ENGINE_CPU_LAYOUT_H

#include "engine/graph/memory.h"

struct layout {
    struct graph *slice, *rest; /* NULL: the batch runs at once; it divides into whole slices */
    int64_t slices;             /* whole ones; 1 if the batch runs at once */
    struct memory_plan *memory; /* of the slice, or of the graph itself */
    struct memory_plan *rest_memory;
    /* The host's inputs (float32 or bytes) and outputs lie behind the planned arena: where no value
     * of the plan is their whole batch, or none is of their type. NULL: they are the values
     * themselves. */
    uint64_t *input_offsets, *output_offsets;
    uint64_t arena_bytes; /* all of this */
};

/* `element_bytes` of an activation: 4, or 2 for bf16. `value_bytes`, if it is not NULL: of the
 * elements of each value, where those of an int8 plan differ; inputs and outputs have 4. `slice`: samples wanted in a slice, 0 for as
 * many as are fastest, -1 for never. On failure *out needs no layout_free(). Errors:
 * ERROR_MEMORY. */
bool layout_new(struct layout *out, const struct graph *graph, size_t element_bytes,
                const unsigned char *value_bytes, int slice, struct error *error);
void layout_free(struct layout *layout);

/* The samples in a slice that `slice 0` stands for; graph->batch if slicing does not pay. */
int64_t layout_fastest(const struct graph *graph, size_t element_bytes);

#endif
