/* The functions of single elements, by the C library in double precision. */
#include "tests/support/reference_ops.h"
#include <math.h>

double reference_unary(const struct op_unary *unary, double x)
{
    double a = (double)unary->alpha, b = (double)unary->beta;
    double sigmoid = 1 / (1 + exp(-x)), softplus = x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    switch (unary->function) {
    case UNARY_RELU:
        x = x > 0 ? x : a * x;
        return b > 0 ? fmin(x, b) : x;
    case UNARY_SIGMOID:
        return sigmoid;
    case UNARY_TANH:
        return tanh(x);
    case UNARY_SILU:
        return x * sigmoid;
    case UNARY_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case UNARY_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UNARY_ELU:
        return x > 0 ? x : a * expm1(x);
    case UNARY_SELU:
        return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x));
    case UNARY_SOFTPLUS:
        return softplus;
    case UNARY_SOFTSIGN:
        return x / (1 + fabs(x));
    case UNARY_EXP:
        return exp(x);
    case UNARY_LOG:
        return log(x);
    case UNARY_SQRT:
        return sqrt(x);
    case UNARY_RSQRT:
        return 1 / sqrt(x);
    case UNARY_SQUARE:
        return x * x;
    case UNARY_ABS:
        return fabs(x);
    case UNARY_NEGATIVE:
        return -x;
    case UNARY_HARD_SIGMOID:
        return fmin(fmax(a * x + b, 0), 1);
    case UNARY_HARD_SILU:
        return x * fmin(fmax(x / 6 + 0.5, 0), 1);
    case UNARY_MISH:
        return x * tanh(softplus);
    case UNARY_CLIP:
        return fmin(fmax(x, a), b);
    case UNARY_LINEAR:
        return a * x + b;
    case UNARY_THRESHOLD:
        return x > a ? x : b;
    case UNARY_FLOOR:
        return floor(x);
    case UNARY_CEIL:
        return ceil(x);
    case UNARY_ROUND:
        return rint(x);
    case UNARY_TRUNCATE:
        return trunc(x);
    case UNARY_SIGN:
        return (double)((x > 0) - (x < 0));
    case UNARY_SIN:
        return sin(x);
    case UNARY_COS:
        return cos(x);
    case UNARY_TAN:
        return tan(x);
    case UNARY_ASIN:
        return asin(x);
    case UNARY_ACOS:
        return acos(x);
    case UNARY_ATAN:
        return atan(x);
    case UNARY_SINH:
        return sinh(x);
    case UNARY_COSH:
        return cosh(x);
    case UNARY_ASINH:
        return asinh(x);
    case UNARY_ACOSH:
        return acosh(x);
    case UNARY_ATANH:
        return atanh(x);
    case UNARY_EXPM1:
        return expm1(x);
    case UNARY_LOG1P:
        return log1p(x);
    case UNARY_ERF:
        return erf(x);
    case UNARY_FLOAT8: {
        int exponent; /* |x| = f 2^exponent, f in [1/2, 1); 4 bits of f count, none below 2^-9 */
        frexp(x, &exponent);
        double step = ldexp(1, exponent - 4 > -9 ? exponent - 4 : -9);
        return rint(x / step) * step;
    }
    default:
        return x;
    }
}

double reference_binary(enum binary_function function, double a, double b)
{
    switch (function) {
    case BINARY_ADD:
        return a + b;
    case BINARY_SUBTRACT:
        return a - b;
    case BINARY_MULTIPLY:
        return a * b;
    case BINARY_DIVIDE:
        return a / b;
    case BINARY_MAXIMUM:
        return fmax(a, b);
    case BINARY_MINIMUM:
        return fmin(a, b);
    case BINARY_EQUAL:
        return a == b;
    case BINARY_NOT_EQUAL:
        return a != b;
    case BINARY_GREATER:
        return a > b;
    case BINARY_GREATER_EQUAL:
        return a >= b;
    case BINARY_LESS:
        return a < b;
    case BINARY_LESS_EQUAL:
        return a <= b;
    case BINARY_FLOOR_DIVIDE:
        return floor(a / b);
    case BINARY_MODULO:
        return a - floor(a / b) * b;
    case BINARY_ATAN2:
        return atan2(a, b);
    default:
        return pow(a, b);
    }
}
