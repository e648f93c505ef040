/* Layers whose weights are quantised (what model.quantize() of Keras 3 writes).
 *
 * int8: Keras rounds the inputs to integers too, row by row, multiplies integers and divides by both
 * scales; the same is emitted here in floating point, where the products are exact.
 * int4: two integers of a row a byte, with a scale for each output (and a zero for each block of inputs;
 * Keras 3.12 packed two rows instead, which Keras 3.15 does not reload either): the
 * kernel is made whole again and everything goes on in floating point, as in Keras, unless the file
 * has the inputs rounded as well.
 * gptq and awq: integers of 2, 3, 4 or 8 bits with a scale and a zero for each output and block of
 * inputs, made whole in the same way; awq divides each input's row by a scale of its own.
 * float8: inputs and kernel are divided by their scales, rounded to float8_e4m3fn and multiplied
 * again. The histories that training keeps to choose the scales are not looked at. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_QUANTISED_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_QUANTISED_H

#include "engine/graph/lower.h"

enum quantised_mode {
    QUANTISED_NONE,
    QUANTISED_INT8,
    QUANTISED_INT4,
    QUANTISED_GPTQ, /* and AWQ */
    QUANTISED_FLOAT8
};

/* What the layer's policy says. (The reader refuses every other quantisation.) */
enum quantised_mode quantised_mode(struct call *call);

/* Is the shape of the kernel in the file another than the layer's? */
bool quantised_packed(struct call *call);

/* The kernel of an int4, gptq, awq or float8 layer as floating-point numbers of shape `kernel`, and its bias
 * (NULL without) of shape `bias`, read as `wide`: all the layer's weights are taken. */
const struct constant *quantised_kernel(struct call *call, const struct shape *kernel);
const struct constant *quantised_bias(struct call *call, const struct shape *bias,
                                      const struct shape *wide);
/* The rows of an int4 embedding, (rows, width). */
const struct constant *quantised_rows(struct call *call, const struct shape *table);
/* What the input of such a layer becomes, and what to divide the product by: -1 for
 * nothing. `axes` are those that the product sums. */
int quantised_operand(struct call *call, int x, const bool *axes, int *scale);

/* The input as integers, -127 to 127 along the axes that the product sums; *scale is what they were
 * multiplied by, in the input's shape with 1 for those axes, or -1 if the file quantises its
 * weights alone. -1 on failure. */
int quantised_input(struct call *call, int x, const bool *axes, int *scale);

/* y divided by the weights' scale, the layer's last weight, whose shape in the file is `stored` and
 * which is read as `wide`, and by the input's scale unless that is -1. */
int quantised_result(struct call *call, int y, int scale, const struct shape *stored,
                     const struct shape *wide);

#endif
