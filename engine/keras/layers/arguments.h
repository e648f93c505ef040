/* Arguments of an op node (keras.ops): positional, by keyword, or in the node's configuration. A
 * tensor of the model is {"tensor": index into the node's inputs}. Failures are sticky, as all of a
 * lowering's. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_ARGUMENTS_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_ARGUMENTS_H

#include "engine/graph/lower.h"

/* Argument by position or name; NULL if missing or null. */
const json_t *op_argument(const struct call *call, size_t position, const char *name);
/* The graph value of an argument, -1 (and no error) if it is no tensor. */
int op_tensor(struct call *call, const json_t *value);
/* A required tensor argument. */
int op_operand(struct call *call, size_t position, const char *name);
/* A tensor argument that may be numbers too: those become a constant in the graph. */
int op_value(struct call *call, size_t position, const char *name);
/* The tensors of a list argument (concatenate, stack). Returns how many; 0 on failure. */
size_t op_operands(struct call *call, size_t position, const char *name, int *values,
                   size_t capacity);
/* An integer argument; `missing` if it is missing or null. */
int64_t op_integer(struct call *call, size_t position, const char *name, int64_t missing);

/* A number that is written down, or that follows from the shapes alone (a size of TensorFlow's
 * tf.shape): false if it depends on the inputs. */
bool op_number(struct call *call, const json_t *value, double *number);
/* A list of sizes in which some, or the list itself, may be computed so; new reference, NULL if it is
 * no list. */
json_t *op_sizes(struct call *call, const json_t *value);

/* Which axes an argument names: a number, a list, or nothing for all of them. Whether it was given. */
bool op_axes(struct call *call, size_t position, const char *name, int rank, bool *axes);

#endif
