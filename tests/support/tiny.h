/* Models written down in a few lines, for tests of the graph and the backends.
 *
 *   x = Input 8,8,3
 *   c = Conv2D(x) {'filters': 4, 'kernel_size': 3} kernel 3,3,3,4 bias 4
 *   a = ops.Add(c, 3.0)
 *   y = Concatenate(a, c) {'axis': -1}
 *   out y
 *
 * One line a layer: NAME = CLASS(ARGUMENTS) {CONFIG} WEIGHT SHAPE... Single quotes stand for double
 * ones. Arguments are names of earlier lines, lists of
 * them, or JSON, as keywords too (use_causal_mask=true). Calling a layer of an earlier
 * line again: NAME = @LAYER(ARGUMENTS). Weights are random from a fixed seed; those named
 * *variance are positive.
 */
#ifndef LAYERTOP_TESTS_SUPPORT_TINY_H
#define LAYERTOP_TESTS_SUPPORT_TINY_H

#include "engine/model.h"

/* Ends the test program on a malformed text. Free with model_free(). */
struct model *tiny_model(const char *text);

/* Uniform in -1..1 from a running state. */
float tiny_random(uint64_t *state);

#endif
