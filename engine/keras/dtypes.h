/* Of which type the outputs of a model are, as Keras has it.
 *
 * All values are computed as floating-point numbers here. What Keras gives as integers or booleans
 * (an argmax, a category, a comparison, whole numbers that were only moved) is told by following the
 * types from the inputs through every call. Widths of floating-point types are not told apart. */
#ifndef LAYERTOP_ENGINE_KERAS_DTYPES_H
#define LAYERTOP_ENGINE_KERAS_DTYPES_H

#include "engine/model.h"

/* Fill in outputs[].dtype: DTYPE_F32 for all that is no integer and no boolean in Keras. */
void dtypes_infer(struct model *model);

#endif
