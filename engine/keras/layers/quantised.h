/* Layers whose weights are 8-bit integers (what model.quantize("int8") of Keras 3 writes).
 *
 * Keras rounds the inputs to integers too, row by row, multiplies integers and divides by both
 * scales; the same is emitted here in floating point, where the products are exact. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_QUANTISED_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_QUANTISED_H

#include "engine/graph/lower.h"

/* Does the layer's policy say int8? (The reader refuses every other quantisation.) */
bool quantised_is(struct call *call);

/* The input as integers, -127 to 127 along the axes that the product sums; *scale is what they were
 * multiplied by, in the input's shape with 1 for those axes, or -1 if the file quantises its
 * weights alone. -1 on failure. */
int quantised_input(struct call *call, int x, const bool *axes, int *scale);

/* y divided by the weights' scale, the layer's last weight, whose shape in the file is `stored` and
 * which is read as `wide`, and by the input's scale unless that is -1. */
int quantised_result(struct call *call, int y, int scale, const struct shape *stored,
                     const struct shape *wide);

#endif
