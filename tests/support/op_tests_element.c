/* What works element by element or row by row: functions of one and two values, scales, softmax,
 * normalisation, sums, choices. */
#include "support/op_tests.h"

void op_test_unary(void)
{
    for (int f = 0; f < UNARY_FUNCTION_COUNT; f++) {
        bool jumps = f == UNARY_THRESHOLD || f == UNARY_FLOOR || f == UNARY_CEIL ||
                     f == UNARY_ROUND || f == UNARY_TRUNCATE || f == UNARY_SIGN ||
                     f == UNARY_FLOAT8;
        if (op_tests_in_half() && jumps) {
            continue; /* rounding the operand may change sides */
        }
        struct bench *b = bench_new(3);
        struct shape shape = f % 2 ? D(I(3), I(5), I(7)) : D(I(3), I(8), I(4));
        int input = bench_input(b, shape);
        struct op *before = bench_op(b, OP_UNARY, input, shape);
        bool positive = f == UNARY_LOG || f == UNARY_SQRT || f == UNARY_RSQRT;
        bool inside = f == UNARY_ASIN || f == UNARY_ACOS || f == UNARY_ATANH || f == UNARY_LOG1P ||
                      f == UNARY_TAN;
        before->unary = positive           ? (struct op_unary){UNARY_LINEAR, 0.9f, 1.5f}
                        : inside           ? (struct op_unary){UNARY_LINEAR, 0.9f, 0.0f}
                        : f == UNARY_ACOSH ? (struct op_unary){UNARY_LINEAR, 0.9f, 2.5f}
                                           : (struct op_unary){UNARY_LINEAR, 8.0f, 0.0f};
        struct op *op = bench_op(b, OP_UNARY, before->outputs[0], shape);
        float alpha = f == UNARY_HARD_SIGMOID ? 0.2f : f == UNARY_CLIP ? -1.0f : 0.3f;
        op->unary = (struct op_unary){(enum unary_function)f, alpha,
                                      f == UNARY_RELU   ? 6.0f
                                      : f == UNARY_CLIP ? 2.0f
                                                        : 0.5f};
        bench_output(b, op->outputs[0]);
        op_tests_check(b, unary_function_name((enum unary_function)f));
    }
}

void op_test_binary(void)
{
    for (int i = 0; i < op_tests_cases(12 * BINARY_FUNCTION_COUNT); i++) {
        struct shape y = D(bench_roll(1, 4), bench_roll(1, 5), bench_roll(1, 5), bench_roll(1, 9)),
                     x = y, other = y;
        enum binary_function function = (enum binary_function)(i % BINARY_FUNCTION_COUNT);
        if (op_tests_in_half() && function >= BINARY_EQUAL) {
            continue; /* comparisons jump */
        }
        for (int axis = 0; axis < 4; axis++) {
            int side = (int)bench_roll(0, 3);
            x.dims[axis] = side == 1 ? 1 : y.dims[axis];
            other.dims[axis] = side == 2 ? 1 : y.dims[axis];
        }
        struct bench *b = bench_new(y.dims[0]);
        int left = bench_input(b, x);
        bool divides = function == BINARY_DIVIDE || function == BINARY_FLOOR_DIVIDE ||
                       function == BINARY_MODULO;
        if (function == BINARY_POWER || divides) {
            struct op *lift = bench_op(b, OP_UNARY, left, x);
            lift->unary = (struct op_unary){UNARY_LINEAR, 0.5f, 1.5f};
            left = lift->outputs[0];
        }
        struct op *op;
        if (i % 2) {
            struct op *lift = bench_op(b, OP_UNARY, bench_input(b, other), other);
            lift->unary = (struct op_unary){UNARY_LINEAR, 0.5f, 1.5f};
            op = bench_op(b, OP_BINARY, left, y);
            op->inputs[op->input_count++] = lift->outputs[0];
        } else {
            op = bench_op(b, OP_BINARY, left, y);
            op->binary.constant = bench_constant(b, other, 1.0f);
            op->binary.swapped = i % 4 == 0 && function != BINARY_POWER;
            if (!op->binary.swapped && divides) { /* nothing near zero below */
                float *data = (float *)(uintptr_t)op->binary.constant->data;
                for (int64_t j = 0; j < shape_elements(&other); j++) {
                    data[j] = 1.5f + 0.5f * data[j];
                }
            }
        }
        op->binary.function = function;
        op_tests_posts(op, -1);
        bench_output(b, op->outputs[0]);
        op_tests_check(b, binary_function_name(function));
    }
}

void op_test_affine(void)
{
    for (int i = 0; i < 8; i++) {
        int64_t channels = i % 2 ? 7 : 16;
        struct shape shape = D(I(3), I(4), I(5), channels);
        struct bench *b = bench_new(3);
        struct op *op = bench_op(b, OP_AFFINE, bench_input(b, shape), shape);
        op->affine.scale =
            i & 2 ? bench_constant(b, D(channels), 2.0f) : bench_constant(b, D(I(1)), 2.0f);
        op->affine.shift = i & 4 ? bench_constant(b, D(channels), 2.0f) : NULL;
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "affine");
    }
}

void op_test_softmax(void)
{
    for (int i = 0; i < op_tests_cases(16); i++) {
        struct shape shape = i == 0   ? D(I(4), I(5000))
                             : i == 1 ? D(I(1), I(1000))
                                      : D(bench_roll(1, 5), bench_roll(1, 6), bench_roll(1, 40));
        struct bench *b = bench_new(shape.dims[0]);
        struct op *op = bench_op(b, OP_SOFTMAX, bench_input(b, shape), shape);
        op->softmax.axis = i < 2 ? 1 : (int)bench_roll(1, 2);
        op->softmax.log = i % 3 == 0;
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "softmax");
    }
}

void op_test_normalise(void)
{
    for (int i = 0; i < op_tests_cases(12); i++) {
        struct shape shape =
            i == 0 ? D(I(3), I(4096))
                   /* two values that nearly agree would show their rounding magnified */
                   : D(bench_roll(1, 5), bench_roll(1, 6),
                       bench_roll(op_tests_in_half() ? 16 : 2, 40));
        struct bench *b = bench_new(shape.dims[0]);
        struct op *op = bench_op(b, OP_NORMALISE, bench_input(b, shape), shape);
        int axis = i == 0 ? 1 : i % 3 == 0 ? 1 : 2;
        struct shape scale = {.rank = shape.rank - axis};
        for (int j = axis; j < shape.rank; j++) {
            scale.dims[j - axis] = shape.dims[j];
        }
        op->normalise.axis = axis;
        op->normalise.epsilon = 1e-3f;
        op->normalise.rms = i % 4 == 3;
        op->normalise.gamma = i % 2 ? NULL : bench_constant(b, scale, 1.0f);
        op->normalise.beta = i % 5 ? bench_constant(b, scale, 1.0f) : NULL;
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "normalise");
    }
}

void op_test_reduce(void)
{
    for (int i = 0; i < op_tests_cases(40); i++) {
        struct shape x =
            i == 0 ? D(I(2), I(7), I(7), I(1280))
                   : D(bench_roll(1, 4), bench_roll(1, 9), bench_roll(1, 40), bench_roll(1, 9));
        struct shape y = {.rank = 0};
        struct bench *b = bench_new(x.dims[0]);
        struct op_reduce reduce = {.function = (enum reduce_function)(i % 4), .keepdims = i % 2};
        for (int axis = 0; axis < 4; axis++) {
            reduce.axes[axis] = i == 0 ? axis == 1 || axis == 2 : bench_roll(0, 1);
            if (!reduce.axes[axis] || reduce.keepdims) {
                y.dims[y.rank++] = reduce.axes[axis] ? 1 : x.dims[axis];
            }
        }
        struct op *op = bench_op(b, OP_REDUCE, bench_input(b, x), y);
        op->reduce = reduce;
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "reduce");
    }
}

/* Chosen by a condition of zeros and ones, with broadcasts, constants and functions behind. */
void op_test_select(void)
{
    for (int i = 0; i < op_tests_cases(24); i++) {
        struct shape y = D(bench_roll(1, 4), bench_roll(1, 5), bench_roll(1, 5),
                           i % 2 ? 8 * bench_roll(1, 2) : bench_roll(1, 9));
        struct shape sides[3] = {y, y, y};
        for (int axis = 0; axis < 4; axis++) {
            int side = (int)bench_roll(0, 5);
            if (side < 3) {
                sides[side].dims[axis] = 1;
            }
        }
        struct bench *b = bench_new(y.dims[0]);
        struct op *condition = bench_op(b, OP_UNARY, bench_input(b, sides[0]), sides[0]);
        condition->unary = (struct op_unary){UNARY_CLIP, 0.0f, 1.0f}; /* half of them are 0 */
        struct op *values[2] = {NULL, NULL};
        for (int j = 0; j < 2; j++) {
            if (i % 4 != j + 1) {
                values[j] = bench_op(b, OP_UNARY, bench_input(b, sides[1 + j]), sides[1 + j]);
                values[j]->unary = (struct op_unary){UNARY_LINEAR, 2.0f, 0.5f};
            }
        }
        struct op *op = bench_op(b, OP_SELECT, condition->outputs[0], y);
        for (int j = 0; j < 2; j++) {
            if (values[j] != NULL) {
                op->inputs[op->input_count++] = values[j]->outputs[0];
            } else if (j == 0) {
                op->select.on_true = bench_constant(b, sides[1], 1.0f);
            } else {
                op->select.on_false = bench_constant(b, sides[2], 1.0f);
            }
        }
        op_tests_posts(op, -1);
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "select");
    }
}
