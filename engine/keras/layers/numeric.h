/* What the op nodes that are made of others share. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_NUMERIC_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_NUMERIC_H

#include "engine/graph/lower.h"

/* The rows' parameter of lower_op_numeric() and lower_op_numeric_pair(). */
enum numeric_function {
    NUMERIC_SAME, /* of real numbers: copies, conjugates */
    NUMERIC_CBRT,
    NUMERIC_EXP2,
    NUMERIC_RADIANS,
    NUMERIC_DEGREES,
    NUMERIC_SIGN_BIT,
    NUMERIC_IS_MINUS_INFINITE,
    NUMERIC_IS_PLUS_INFINITE,
    NUMERIC_ANGLE, /* pi below 0 */
    NUMERIC_SINC,
    NUMERIC_ERFC,
    NUMERIC_NOT,
    NUMERIC_NAN_TO_NUMBER,
    NUMERIC_HYPOT,
    NUMERIC_LOG_ADD,
    NUMERIC_LOG2_ADD,
    NUMERIC_HEAVISIDE,
    NUMERIC_FMAX,
    NUMERIC_FMIN,
    NUMERIC_FMOD,
    NUMERIC_SHIFT_LEFT,
    NUMERIC_SHIFT_RIGHT,
    NUMERIC_AND,
    NUMERIC_OR,
    NUMERIC_XOR,
};

/* condition != 0 ? a : b, where a value of -1 is the number behind it. */
int numeric_choose(struct call *call, int condition, int a, double a_number, int b,
                   double b_number);
/* x with `number` where it is NaN. */
int numeric_without_nan(struct call *call, int x, double number);

#endif
