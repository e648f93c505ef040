/* Which op each CUDA graph node was captured for. Any thread. A removed node answers until
 * NODES_KEPT others have been removed after it: kernels of its last launch may still come. */
#ifndef LAYERTOP_PROFILER_CUPTI_NODES_H
#define LAYERTOP_PROFILER_CUPTI_NODES_H

#include <stdint.h>

#define NODES_KEPT 65536

struct cupti_nodes;
struct cupti_nodes *cupti_nodes_new(void);
void cupti_nodes_free(struct cupti_nodes *nodes);
void cupti_nodes_set(struct cupti_nodes *nodes, uint64_t node, int op);
/* GPU_OP_NONE if the node is not known. */
int cupti_nodes_find(const struct cupti_nodes *nodes, uint64_t node);
void cupti_nodes_remove(struct cupti_nodes *nodes, uint64_t node);

#endif
