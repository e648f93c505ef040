/* The plain reference: every op as the shortest loop that is obviously right, in double precision.
 * Slow on purpose. Backends are held against it. */
#ifndef LAYERTOP_TESTS_SUPPORT_REFERENCE_H
#define LAYERTOP_TESTS_SUPPORT_REFERENCE_H

#include "engine/graph/graph.h"

/* Run a graph. inputs[i] are the model's inputs, dense. Returns value_count arrays (an alias has a
 * copy of its own); free with reference_free(). */
double **reference_run(const struct graph *graph, const float *const *inputs);
void reference_free(const struct graph *graph, double **values);

/* f(x) of a unary function. */
double reference_unary(const struct op_unary *unary, double x);

#endif
