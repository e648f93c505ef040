/* One op of a graph on the CPU, for a backend that lacks it (`fallback cpu`).
 *
 * A graph of that op alone, posts included, is compiled for the CPU: what the op reads becomes its
 * inputs, what it writes its outputs. The backend copies values in and out; a layer whose op runs
 * here says "cpu" for what runs it. Backends get these functions through plan_options.host, for they
 * are opened at run time and link nothing of the engine. Memory is the host's, outside every limit.
 * Threads: the engine thread.
 */
#ifndef LAYERTOP_ENGINE_HOST_OP_H
#define LAYERTOP_ENGINE_HOST_OP_H

#include "engine/backend.h"

struct host_op;

struct host_ops {
    /* `op` of `graph`, which must outlive it. NULL with the CPU's own error. */
    struct host_op *(*open)(const struct graph *graph, int op, struct error *error);
    void (*close)(struct host_op *host);
    /* The graph's values that it reads, each once, and their buffers: dense, of the host's dtype
     * (float32, or the value's integers). */
    size_t (*inputs)(const struct host_op *host, const int **values);
    void *(*input)(struct host_op *host, size_t index, enum dtype *dtype);
    bool (*run)(struct host_op *host, struct error *error);
    /* What it wrote for the op's output `index`, in the op's order. */
    const void *(*output)(const struct host_op *host, size_t index, enum dtype *dtype);
};

extern const struct host_ops host_ops;

#endif
