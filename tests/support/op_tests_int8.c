/* Convolutions and products in bytes, exactly: with the input and the weights rounded to the numbers
 * that their bytes stand for, a plain reference gives the answer up to float32's rounding. The CPU's
 * int8 is held against the same numbers by tests/unit/test_int8.c. */
#include "engine/calibration.h"
#include "support/op_tests.h"
#include "support/reference.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BOUND 0.8F /* inputs go to 1: some are cut */

/* The op that multiplies bytes of the first input, NULL if there is none. */
static struct op *find_op(struct bench *b)
{
    for (size_t i = 0; i < b->graph.op_count; i++) {
        struct op *op = &b->ops[i];
        bool plain = op->kind == OP_CONV && !op->conv.transposed && op->conv.groups <= 1;
        bool product = op->kind == OP_MATMUL && op->matmul.weights != NULL;
        if ((plain || product) && op->inputs[0] == b->inputs[0]) {
            return op;
        }
    }
    return NULL;
}

static void round_input(float *x, int64_t count, bool positive)
{
    float step = BOUND / (positive ? 255.0F : 127.0F), inverse = 1 / step;
    for (int64_t i = 0; i < count; i++) {
        float q = rintf(x[i] * inverse);
        q = fminf(fmaxf(q, positive ? 0.0F : -128.0F), positive ? 255.0F : 127.0F);
        x[i] = q * step;
    }
}

/* The weights' bytes as numbers, in place of the weights. */
static void round_weights(struct bench *b, const struct constant **weights)
{
    const struct constant *rounded = bench_constant(b, (*weights)->shape, 0);
    const float *from = (*weights)->data;
    float *to = (float *)(uintptr_t)rounded->data;
    int64_t count = shape_elements(&rounded->shape);
    int64_t units = rounded->shape.dims[rounded->shape.rank - 1];
    for (int64_t k = 0; k < units; k++) {
        float most = 0;
        for (int64_t i = k; i < count; i += units) {
            most = fmaxf(most, fabsf(from[i]));
        }
        float step = most > 0 ? most / 127 : 1, inverse = 1 / step;
        for (int64_t i = k; i < count; i += units) {
            to[i] = rintf(from[i] * inverse) * step;
        }
    }
    *weights = rounded;
}

/* Fill the plan's inputs, and compute the answers. */
static double **fill(struct bench *b, struct op *op, bool positive, struct plan *plan)
{
    float *copies[6] = {NULL};
    for (size_t i = 0; i < b->graph.input_count; i++) {
        int64_t count = shape_elements(&b->values[b->inputs[i]].shape);
        size_t bytes = (size_t)count * sizeof(float);
        copies[i] = malloc(bytes);
        for (int64_t j = 0; j < count; j++) {
            copies[i][j] = positive ? fabsf(bench_float()) : bench_float();
        }
        memcpy(bench_backend->plan_input(plan, i), copies[i], bytes);
        if (i == 0 && op != NULL) {
            round_input(copies[0], count, positive);
        }
    }
    if (op != NULL) {
        round_weights(b, op->kind == OP_CONV ? &op->conv.weights : &op->matmul.weights);
    }
    double **answers = reference_run(&b->graph, (const float *const *)copies);
    for (size_t i = 0; i < b->graph.input_count; i++) {
        free(copies[i]);
    }
    return answers;
}

static bool computes_bytes(const struct plan *plan, size_t op)
{
    const char *precision = bench_backend->plan_precisions(plan)[op];
    return precision != NULL && strcmp(precision, "int8") == 0;
}

static void run_plan(struct bench *b, struct plan *plan, bool positive, const char *name)
{
    struct op *op = find_op(b);
    struct error error = {0};
    struct step_context context = {0};
    for (size_t i = 0; i < b->graph.op_count; i++) {
        if (computes_bytes(plan, i) != (&b->ops[i] == op)) {
            bench_failed("%s: op %zu does not compute as it should", name, i);
        }
    }
    double **answers = fill(b, op, positive, plan);
    for (int run = 0; run < 3 && bench_why[0] == '\0'; run++) {
        context.step = (uint64_t)run;
        if (!bench_backend->plan_run(plan, &context, &error)) {
            bench_failed("%s: plan_run %d: %s: %s", name, run, error.what, error.why);
            break;
        }
        bench_compare(b, plan, answers, BENCH_FP32, name, run);
    }
    reference_free(&b->graph, answers);
}

void op_tests_check_int8(struct bench *b, const char *name)
{
    struct error error = {0};
    bool positive = bench_roll(0, 1) == 1;
    struct value_range ranges[BENCH_VALUES];
    for (size_t i = 0; i < BENCH_VALUES; i++) {
        ranges[i] = (struct value_range){
            .seen = true, .least = positive ? 0 : -1, .most = 1, .bound = BOUND};
    }
    struct plan_options options = bench_options;
    options.precision = PRECISION_INT8;
    options.ranges = ranges;
    options.range_count = b->graph.value_count;
    struct plan *plan = bench_backend->plan_new(op_tests_device, &b->graph, &options, &error);
    if (plan == NULL) {
        bench_failed("%s: plan_new: %s: %s", name, error.what, error.why);
        return;
    }
    run_plan(b, plan, positive, name);
    bench_backend->plan_free(plan);
}

/* So many results that they are made in two parts, the second smaller. */
void op_test_parts(void)
{
    struct bench *b = bench_new(1030);
    struct op *op = bench_op(b, OP_MATMUL, bench_input(b, D(1030, 4)), D(1030, 4096));
    op->matmul.weights = bench_constant(b, D(4, 4096), 0.3f);
    bench_post_unary(op, UNARY_RELU, 0, 0);
    bench_output(b, op->outputs[0]);
    op_tests_check(b, "parts");
}
