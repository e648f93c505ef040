/* The graph's own housekeeping. */
#include "engine/graph/graph.h"
#include <stdlib.h>

void graph_free(struct graph *graph)
{
    if (!graph)
        return;
    for (size_t i = 0; i < graph->op_count; i++) {
        free(graph->ops[i].inputs);
        free(graph->ops[i].posts);
        free(graph->ops[i].fused);
    }
    free(graph->ops);
    free(graph->values);
    free(graph->inputs);
    free(graph->outputs);
    free(graph->layer_shapes);
    free(graph);
}

int graph_storage(const struct graph *graph, int value)
{
    while (graph->values[value].alias_of >= 0)
        value = graph->values[value].alias_of;
    return value;
}
