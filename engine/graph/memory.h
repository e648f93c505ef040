/* The memory plan: one arena for all activations of a graph, by liveness.
 *
 * Lifetimes come from the execution order of the ops; aliases share storage; a binary or unary op
 * (and a post-op sum) may write over an input that dies there. Offsets are chosen greedily by size
 * over the known lifetimes (as TensorFlow Lite does: largest first, lowest offset that does not
 * collide in time). Pure: no allocation happens here, so a plan costs nothing on any device.
 */
#ifndef LAYERTOP_ENGINE_GRAPH_MEMORY_H
#define LAYERTOP_ENGINE_GRAPH_MEMORY_H

#include "engine/graph/graph.h"

#define MEMORY_NONE UINT64_MAX

struct memory_plan {
    uint64_t *offsets; /* per graph value, bytes from the arena's start; an alias has its owner's */
    uint64_t *sizes;   /* per graph value, bytes without rounding; 0 for an alias */
    uint64_t arena_bytes;
    uint64_t peak_live_bytes; /* lower bound: the largest sum of live values over time */
    int peak_op;              /* op during which peak_live_bytes is reached */
};

struct memory_options {
    uint64_t alignment;               /* of every offset, a power of two (CPU 64, GPU 256) */
    size_t element_bytes;             /* of a float value: 4, or 2 for fp16 and bf16 */
    const unsigned char *value_bytes; /* of an element of each value, by its number; NULL:
                                         element_bytes for all */
    bool keep_inputs; /* model inputs stay valid over the whole step (CPU: host writes them
                               in place and a step may be repeated on them) */
    bool floats;      /* inputs of another type are floats inside, cast when they come (CPU) */
};

struct memory_plan *memory_plan_new(const struct graph *graph, const struct memory_options *options,
                                    struct error *error);
void memory_plan_free(struct memory_plan *plan);

/* The values live during op `op`, largest first, into values[capacity]; returns how many. */
size_t memory_plan_live(const struct memory_plan *plan, const struct graph *graph, int op,
                        int *values, size_t capacity);

#endif
