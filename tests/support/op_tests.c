#include "support/op_tests.h"

struct device *op_tests_device;
enum precision op_tests_precision = PRECISION_FP32;
double op_tests_tolerance = BENCH_FP32;

bool op_tests_in_half(void)
{
    return op_tests_precision != PRECISION_FP32;
}

int op_tests_cases(int count)
{
    return op_tests_in_half() ? (count + 2) / 3 : count;
}

void op_tests_check(struct bench *b, const char *name)
{
    if (bench_why[0] == '\0') {
        if (op_tests_precision == PRECISION_INT8) {
            op_tests_check_int8(b, name);
        } else {
            bench_check(op_tests_device, b, name, op_tests_precision, op_tests_tolerance);
        }
        bench_backend->device_forget(op_tests_device);
    }
    bench_free(b);
}

void op_tests_posts(struct op *op, int extra)
{
    static const struct op_unary functions[] = {
        {UNARY_RELU, 0, 0}, {UNARY_RELU, 0, 6},    {UNARY_RELU, 0.2f, 0}, {UNARY_SILU, 0, 0},
        {UNARY_TANH, 0, 0}, {UNARY_SIGMOID, 0, 0}, {UNARY_GELU_ERF, 0, 0}};
    int form = (int)bench_roll(0, 4);
    if (extra >= 0 && form >= 2) {
        bench_post_binary(op, form == 4 ? BINARY_MULTIPLY : BINARY_ADD, extra);
    }
    if (form % 2 == 1) {
        const struct op_unary *u = &functions[bench_roll(0, 6)];
        bench_post_unary(op, u->function, u->alpha, u->beta);
    } else if (form == 2) {
        bench_post_unary(op, UNARY_RELU, 0, 0);
    }
}
