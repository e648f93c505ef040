/* Op nodes that work element by element and are made of others: roots and powers, logarithms of sums,
 * what is no number, the bits of whole numbers. */
#include "engine/graph/constant.h"
#include "engine/keras/layers/arguments.h"
#include "engine/keras/layers/numeric.h"
#include "engine/keras/layers/table.h"
#include <float.h>
#include <math.h>
#include <string.h>

#define LN_2 0.6931471805599453
#define PI   3.141592653589793
/* float32 holds every whole number of so many bits and a sign. */
#define BITS 24

/* x FUNCTION number, or swapped. */
static int with(struct call *call, enum binary_function function, int x, double number,
                bool swapped)
{
    if (x < 0 || call->low->failed)
        return -1;
    const struct constant *constant = lowering_number(call->low, number, call_shape(call, x)->rank);
    return emit_binary_constant(call->low, function, x, constant, swapped);
}

static int is_nan(struct call *call, int x)
{
    return emit_binary(call->low, BINARY_NOT_EQUAL, x, x);
}

int numeric_choose(struct call *call, int condition, int a, double a_number, int b, double b_number)
{
    struct lowering *low = call->low;
    if (condition < 0 || low->failed)
        return -1;
    int rank = call_shape(call, condition)->rank;
    const struct constant *x = a < 0 ? lowering_number(low, a_number, rank) : NULL;
    const struct constant *y = b < 0 ? lowering_number(low, b_number, rank) : NULL;
    return emit_select(low, condition, a, x, b, y);
}

int numeric_without_nan(struct call *call, int x, double number)
{
    return numeric_choose(call, is_nan(call, x), -1, number, x, 0);
}

/* ---- of one operand ---- */

static int same(struct call *call, int x)
{
    struct shape shape = *call_shape(call, x);
    return emit_reshape(call->low, x, &shape);
}

static int unary_of(struct call *call, int x)
{
    struct lowering *low = call->low;
    switch ((enum numeric_function)call->row->parameter) {
    case NUMERIC_CBRT: {
        int size = with(call, BINARY_POWER, emit_unary(low, x, UNARY_ABS, 0, 0), 1.0 / 3, false);
        return emit_binary(low, BINARY_MULTIPLY, size, emit_unary(low, x, UNARY_SIGN, 0, 0));
    }
    case NUMERIC_EXP2:
        return with(call, BINARY_POWER, x, 2, true);
    case NUMERIC_RADIANS:
        return emit_linear(low, x, PI / 180, 0);
    case NUMERIC_DEGREES:
        return emit_linear(low, x, 180 / PI, 0);
    case NUMERIC_SIGN_BIT: { /* 1 / -0 is below 0 */
        int below = with(call, BINARY_LESS, x, 0, false);
        int inverse = with(call, BINARY_LESS, with(call, BINARY_DIVIDE, x, 1, true), 0, false);
        return numeric_choose(call, x, below, 0, inverse, 0);
    }
    case NUMERIC_IS_MINUS_INFINITE:
        return with(call, BINARY_EQUAL, x, (double)-INFINITY, false);
    case NUMERIC_IS_PLUS_INFINITE:
        return with(call, BINARY_EQUAL, x, (double)INFINITY, false);
    case NUMERIC_ANGLE:
        return numeric_choose(call, with(call, BINARY_LESS, x, 0, false), -1, PI, -1, 0);
    case NUMERIC_SINC: { /* sin(pi x) / (pi x) */
        int turns = emit_linear(low, x, PI, 0);
        int y = emit_binary(low, BINARY_DIVIDE, emit_unary(low, turns, UNARY_SIN, 0, 0), turns);
        return numeric_choose(call, x, y, 0, -1, 1);
    }
    case NUMERIC_ERFC:
        return emit_linear(low, emit_unary(low, x, UNARY_ERF, 0, 0), -1, 1);
    case NUMERIC_NOT: /* of a whole number in two's complement */
        return emit_linear(low, x, -1, -1);
    case NUMERIC_NAN_TO_NUMBER: {
        double most = config_number(call, "posinf", (double)FLT_MAX);
        double least = config_number(call, "neginf", (double)-FLT_MAX);
        int y = numeric_without_nan(call, x, config_number(call, "nan", 0));
        y = numeric_choose(call, with(call, BINARY_EQUAL, x, (double)INFINITY, false), -1, most, y,
                           0);
        return numeric_choose(call, with(call, BINARY_EQUAL, x, (double)-INFINITY, false), -1,
                              least, y, 0);
    }
    default:
        return same(call, x);
    }
}

bool lower_op_numeric(struct call *call)
{
    return call_return(call, unary_of(call, op_operand(call, 0, "x")));
}

/* To whole numbers: those outside the type become the nearest inside. */
bool lower_op_saturate_cast(struct call *call)
{
    int x = op_operand(call, 0, "x");
    const char *name = config_string(call, "dtype", "float32");
    bool without_sign = strncmp(name, "uint", 4) == 0;
    if (strcmp(name, "bool") == 0)
        return call_return(call, with(call, BINARY_NOT_EQUAL, x, 0, false));
    if (!without_sign && strncmp(name, "int", 3) != 0)
        return call_return(call, same(call, x));
    const char *digits = name + (without_sign ? 4 : 3);
    double bits = strcmp(digits, "8") == 0 ? 8 : strcmp(digits, "16") == 0 ? 16 : 31;
    double most = exp2(without_sign || bits == 31 ? bits : bits - 1) - 1;
    x = emit_unary(call->low, x, UNARY_CLIP, without_sign ? 0 : -most - 1, most);
    return call_return(call, emit_unary(call->low, x, UNARY_TRUNCATE, 0, 0));
}

/* ---- of two operands ---- */

/* max + log(1 + base^-|x - y|), where infinities of one sign stay what they are. */
static int log_of_sum(struct call *call, int x, int y, bool two)
{
    struct lowering *low = call->low;
    int most = emit_binary(low, BINARY_MAXIMUM, x, y);
    int apart = emit_unary(low, emit_binary(low, BINARY_SUBTRACT, x, y), UNARY_ABS, 0, 0);
    int less = emit_unary(low, emit_linear(low, apart, two ? -LN_2 : -1, 0), UNARY_EXP, 0, 0);
    int more = emit_linear(low, emit_unary(low, less, UNARY_LOG1P, 0, 0), two ? 1 / LN_2 : 1, 0);
    int alike =
        numeric_choose(call, emit_binary(low, BINARY_EQUAL, x, y), -1, two ? 1 : LN_2, more, 0);
    return emit_binary(low, BINARY_ADD, most, alike);
}

/* The larger part times sqrt(1 + ratio^2): squares of large numbers would overflow. */
static int hypotenuse(struct call *call, int x, int y)
{
    struct lowering *low = call->low;
    x = emit_unary(low, x, UNARY_ABS, 0, 0);
    y = emit_unary(low, y, UNARY_ABS, 0, 0);
    int most = emit_binary(low, BINARY_MAXIMUM, x, y);
    int ratio = emit_binary(low, BINARY_DIVIDE, emit_binary(low, BINARY_MINIMUM, x, y), most);
    int factor = emit_linear(low, emit_unary(low, ratio, UNARY_SQUARE, 0, 0), 1, 1);
    int long_side =
        emit_binary(low, BINARY_MULTIPLY, most, emit_unary(low, factor, UNARY_SQRT, 0, 0));
    return numeric_choose(call, most, long_side, 0, -1, 0);
}

/* Bit i of a whole number is floor(x / 2^i) mod 2, below 0 too; the last one is the sign. */
static int bits_of(struct call *call, int x)
{
    struct lowering *low = call->low;
    struct shape shape = *call_shape(call, x), row = {.rank = shape.rank + 1};
    if (x < 0 || shape.rank == TENSOR_RANK_MAX) {
        call_refuse(call, "its operands have too many axes");
        return -1;
    }
    for (int i = 0; i < shape.rank; i++)
        row.dims[i] = 1;
    row.dims[shape.rank] = BITS + 1;
    shape.dims[shape.rank++] = 1;
    char role[] = "places 0";
    role[7] = (char)('0' + shape.rank);
    float *data;
    const struct constant *places = call_constant(call, role, &row, &data);
    for (int i = 0; places && data && i <= BITS; i++)
        data[i] = exp2f((float)i);
    x = emit_reshape(low, x, &shape);
    x = emit_binary_constant(low, BINARY_FLOOR_DIVIDE, x, places, false);
    return with(call, BINARY_MODULO, x, 2, false);
}

static int bitwise(struct call *call, enum binary_function function, int x, int y)
{
    int64_t count = BITS + 1;
    struct shape row = shape_of(1, &count);
    bool axes[TENSOR_RANK_MAX] = {false};
    float *data;
    int bits = emit_binary(call->low, function, bits_of(call, x), bits_of(call, y));
    const struct constant *values = call_constant(call, "values", &row, &data);
    for (int i = 0; values && data && i <= BITS; i++)
        data[i] = i < BITS ? exp2f((float)i) : -exp2f((float)BITS);
    if (bits < 0)
        return -1;
    axes[call_shape(call, bits)->rank - 1] = true;
    bits = emit_affine(call->low, bits, values, NULL);
    return emit_reduce(call->low, bits, REDUCE_SUM, axes, false);
}

static int power_of_two(struct call *call, int x)
{
    return with(call, BINARY_POWER, x, 2, true);
}

/* The larger (or smaller) one; of a number and what is none, the number. */
static int number_of(struct call *call, enum binary_function function, int x, int y)
{
    int both = emit_binary(call->low, function, x, y);
    int right = numeric_choose(call, is_nan(call, y), x, 0, both, 0);
    return numeric_choose(call, is_nan(call, x), y, 0, right, 0);
}

static int binary_of(struct call *call, int x, int y)
{
    struct lowering *low = call->low;
    switch ((enum numeric_function)call->row->parameter) {
    case NUMERIC_HYPOT:
        return hypotenuse(call, x, y);
    case NUMERIC_LOG_ADD:
    case NUMERIC_LOG2_ADD:
        return log_of_sum(call, x, y, call->row->parameter == NUMERIC_LOG2_ADD);
    case NUMERIC_HEAVISIDE: /* y where x is 0 */
        return numeric_choose(call, with(call, BINARY_EQUAL, x, 0, false), y, 0,
                              with(call, BINARY_GREATER, x, 0, false), 0);
    case NUMERIC_FMAX:
        return number_of(call, BINARY_MAXIMUM, x, y);
    case NUMERIC_FMIN:
        return number_of(call, BINARY_MINIMUM, x, y);
    case NUMERIC_FMOD: { /* the sign of x */
        int rest = emit_binary(low, BINARY_MODULO, emit_unary(low, x, UNARY_ABS, 0, 0),
                               emit_unary(low, y, UNARY_ABS, 0, 0));
        return emit_binary(low, BINARY_MULTIPLY, rest, emit_unary(low, x, UNARY_SIGN, 0, 0));
    }
    case NUMERIC_SHIFT_LEFT:
        return emit_binary(low, BINARY_MULTIPLY, x, power_of_two(call, y));
    case NUMERIC_SHIFT_RIGHT:
        return emit_binary(low, BINARY_FLOOR_DIVIDE, x, power_of_two(call, y));
    case NUMERIC_AND:
        return bitwise(call, BINARY_MINIMUM, x, y);
    case NUMERIC_OR:
        return bitwise(call, BINARY_MAXIMUM, x, y);
    case NUMERIC_XOR:
        return bitwise(call, BINARY_NOT_EQUAL, x, y);
    default:
        return -1;
    }
}

/* The operands are x1 and x2, those of bits x and y. */
bool lower_op_numeric_pair(struct call *call)
{
    bool old = op_argument(call, 0, "x1") != NULL;
    int x = op_value(call, 0, old ? "x1" : "x");
    return call_return(call, binary_of(call, x, op_value(call, 1, old ? "x2" : "y")));
}

/* |x - y| <= atol + rtol |y|, or both the same infinity; AllClose (parameter 1): everywhere. */
bool lower_op_is_close(struct call *call)
{
    struct lowering *low = call->low;
    const json_t *relative = op_argument(call, 2, "rtol"), *absolute = op_argument(call, 3, "atol");
    double rtol = relative ? json_number_value(relative) : 1e-5;
    double atol = absolute ? json_number_value(absolute) : 1e-8;
    if ((relative && !json_is_number(relative)) || (absolute && !json_is_number(absolute)))
        return call_refuse(call, "its tolerances are computed from the inputs");
    int x = op_value(call, 0, "x1"), y = op_value(call, 1, "x2");
    int apart = emit_unary(low, emit_binary(low, BINARY_SUBTRACT, x, y), UNARY_ABS, 0, 0);
    int size = emit_unary(low, y, UNARY_ABS, 0, 0);
    int close = emit_binary(low, BINARY_LESS_EQUAL, apart, emit_linear(low, size, rtol, atol));
    int finite = with(call, BINARY_LESS, size, (double)INFINITY, false);
    close = emit_binary(low, BINARY_MINIMUM, close, finite);
    close = emit_binary(low, BINARY_MAXIMUM, close, emit_binary(low, BINARY_EQUAL, x, y));
    if (config_bool(call, "equal_nan", false))
        close = emit_binary(low, BINARY_MAXIMUM, close,
                            emit_binary(low, BINARY_MINIMUM, is_nan(call, x), is_nan(call, y)));
    if (call->row->parameter == 1 && close >= 0) {
        bool axes[TENSOR_RANK_MAX] = {false};
        for (int i = 0; i < call_shape(call, close)->rank; i++)
            axes[i] = true;
        close = emit_reduce(low, close, REDUCE_MIN, axes, false);
    }
    return call_return(call, close);
}

/* The first of several conditions that is true chooses. */
bool lower_op_select(struct call *call)
{
    int conditions[32], choices[32];
    size_t count = op_operands(call, 0, "condlist", conditions, 32);
    const json_t *given = op_argument(call, 2, "default");
    if (count == 0 || op_operands(call, 1, "choicelist", choices, 32) != count)
        return call_misfit(call, "it has not as many choices as conditions");
    int y = given ? op_value(call, 2, "default")
                  : emit_constant(call->low, lowering_number(call->low, 0, 0));
    for (size_t i = count; i-- > 0;)
        y = emit_select(call->low, conditions[i], choices[i], NULL, y, NULL);
    return call_return(call, y);
}
