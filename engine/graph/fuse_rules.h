/* Between fuse.c (the driver, posts, dropping) and fuse_rules.c (the arithmetic rules). Private. */
#ifndef LAYERTOP_ENGINE_GRAPH_FUSE_RULES_H
#define LAYERTOP_ENGINE_GRAPH_FUSE_RULES_H

#include "engine/error.h"
#include "engine/graph/graph.h"

#define FUSE_OUTPUT 1000000 /* added to the uses of a model output, which is never fused away */

struct fuser {
    struct graph *graph;
    struct constant_pool *pool;
    struct error *error;
    bool *dead; /* per op */
    int *uses;  /* per value: readers among the living ops */
    bool failed;
};

/* The op that makes a value which has exactly one reader and is no model output; else -1. */
int fuse_sole_producer(const struct fuser *f, int value);
/* Every reader of `old` reads `new`. */
void fuse_replace(struct fuser *f, int old, int new);
/* Op `guest` dies; its layers are written into `host`. */
void fuse_absorb(struct fuser *f, int host, int guest);
/* The same, and host writes guest's output. */
void fuse_take_output(struct fuser *f, int host, int guest);

/* The rules: try to change the graph at this op, true if it did. */
bool fuse_unary_chain(struct fuser *f, int op);
bool fuse_gate(struct fuser *f, int op);
bool fuse_affine(struct fuser *f, int op);
bool fuse_pad(struct fuser *f, int op);

#endif
