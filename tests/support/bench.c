#include "support/bench.h"
#include "support/reference.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct random bench_dice;
const struct backend *bench_backend;
char bench_why[1200];

void bench_failed(const char *format, ...)
{
    va_list arguments;
    if (bench_why[0] == '\0') {
        va_start(arguments, format);
        vsnprintf(bench_why, sizeof bench_why, format, arguments);
        va_end(arguments);
    }
}

int64_t bench_roll(int64_t low, int64_t high)
{
    return low + (int64_t)(random_next(&bench_dice) % (uint64_t)(high - low + 1));
}

float bench_float(void)
{
    return (float)((double)(random_next(&bench_dice) >> 11) / 9007199254740992.0 * 2.0 - 1.0);
}

struct shape bench_shape(int rank, ...)
{
    struct shape shape = {.rank = rank};
    va_list arguments;
    va_start(arguments, rank);
    for (int i = 0; i < rank; i++) {
        shape.dims[i] = va_arg(arguments, int64_t);
    }
    va_end(arguments);
    return shape;
}

struct bench *bench_new(int64_t batch)
{
    struct bench *b = calloc(1, sizeof *b);
    b->graph.batch = batch;
    b->graph.values = b->values;
    b->graph.ops = b->ops;
    b->graph.inputs = b->inputs;
    b->graph.outputs = b->outputs;
    return b;
}

void bench_free(struct bench *b)
{
    for (size_t i = 0; i < b->constant_count; i++) {
        free((void *)(uintptr_t)b->constants[i]->data);
        free(b->constants[i]);
    }
    free(b);
}

static int bench_value(struct bench *b, struct shape shape, int producer)
{
    int value = (int)b->graph.value_count++;
    b->values[value] = (struct graph_value){
        .shape = shape, .dtype = DTYPE_F32, .producer = producer, .alias_of = -1, .layer = -1};
    return value;
}

int bench_input(struct bench *b, struct shape shape)
{
    int value = bench_value(b, shape, -1);
    b->inputs[b->graph.input_count++] = value;
    return value;
}

struct op *bench_op(struct bench *b, enum op_kind kind, int x, struct shape out)
{
    int index = (int)b->graph.op_count++;
    struct op *op = &b->ops[index];
    op->kind = kind;
    op->inputs = b->op_inputs[index];
    op->inputs[0] = x;
    op->input_count = 1;
    op->outputs[0] = bench_value(b, out, index);
    op->output_count = 1;
    op->posts = b->posts[index];
    op->layer = -1;
    return op;
}

int bench_more(struct bench *b, struct op *op, struct shape out)
{
    int value = bench_value(b, out, (int)(op - b->ops));
    op->outputs[op->output_count++] = value;
    return value;
}

const struct constant *bench_constant(struct bench *b, struct shape shape, float scale)
{
    struct constant *constant = calloc(1, sizeof *constant);
    int64_t count = shape_elements(&shape);
    float *data = malloc((size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; i++) {
        data[i] = scale * bench_float();
    }
    constant->shape = shape;
    constant->data = data;
    constant->bytes = (uint64_t)count * sizeof *data;
    constant->owned = true;
    b->constants[b->constant_count++] = constant;
    return constant;
}

void bench_post_unary(struct op *op, enum unary_function function, float alpha, float beta)
{
    op->posts[op->post_count++] =
        (struct post){.kind = POST_UNARY, .unary = {function, alpha, beta}, .value = -1};
}

void bench_post_binary(struct op *op, enum binary_function function, int value)
{
    op->posts[op->post_count++] =
        (struct post){.kind = POST_BINARY, .binary = function, .value = value};
}

void bench_output(struct bench *b, int value)
{
    b->outputs[b->graph.output_count++] = value;
}

struct bench *bench_network(int64_t batch)
{
    struct bench *b = bench_new(batch);
    struct shape shape = D(batch, I(16), I(16), I(16));
    int now = bench_input(b, shape);
    for (int i = 0; i < 4; i++) {
        struct op *first = bench_op(b, OP_CONV, now, shape), *second;
        first->conv =
            (struct op_conv){.spatial = 2,
                             .kernel = {3, 3},
                             .stride = {1, 1},
                             .dilation = {1, 1},
                             .pad_before = {1, 1},
                             .pad_after = {1, 1},
                             .groups = 1,
                             .weights = bench_constant(b, D(I(3), I(3), I(16), I(16)), 0.1f),
                             .bias = bench_constant(b, D(I(16)), 0.1f)};
        bench_post_unary(first, UNARY_RELU, 0, 0);
        second = bench_op(b, OP_CONV, first->outputs[0], shape);
        second->conv = first->conv;
        second->conv.weights = bench_constant(b, D(I(3), I(3), I(16), I(16)), 0.1f);
        bench_post_binary(second, BINARY_ADD, now);
        bench_post_unary(second, i % 2 ? UNARY_SILU : UNARY_RELU, 0, 0);
        now = second->outputs[0];
    }
    struct op *mean = bench_op(b, OP_REDUCE, now, D(batch, I(16)));
    mean->reduce = (struct op_reduce){.function = REDUCE_MEAN, .axes = {false, true, true, false}};
    struct op *dense = bench_op(b, OP_MATMUL, mean->outputs[0], D(batch, I(10)));
    dense->matmul.weights = bench_constant(b, D(I(16), I(10)), 0.5f);
    dense->matmul.bias = bench_constant(b, D(I(10)), 0.5f);
    struct op *softmax = bench_op(b, OP_SOFTMAX, dense->outputs[0], D(batch, I(10)));
    softmax->softmax.axis = 1;
    bench_output(b, softmax->outputs[0]);
    return b;
}

struct device *bench_device(bool growth, uint64_t limit_bytes)
{
    struct error error = {0};
    struct device_options options = {.index = 0, .growth = growth, .limit_bytes = limit_bytes};
    struct device *device = bench_backend->device_open(&options, NULL, &error);
    if (device == NULL) {
        bench_failed("device_open: %s: %s", error.what, error.why);
    }
    return device;
}

double **bench_fill(const struct bench *b, struct plan *plan)
{
    float *copies[6] = {NULL};
    for (size_t i = 0; i < b->graph.input_count; i++) {
        const struct graph_value *value = &b->values[b->inputs[i]];
        int64_t count = shape_elements(&value->shape);
        void *host = bench_backend->plan_input(plan, i);
        copies[i] = malloc((size_t)(count > 0 ? count : 1) * sizeof(float));
        for (int64_t j = 0; j < count; j++) {
            int64_t rows = b->table_rows[b->inputs[i]];
            if (rows > 0) {
                int64_t row = bench_roll(-rows, rows - 1);
                copies[i][j] = (float)row;
                if (value->dtype == DTYPE_I32) {
                    ((int32_t *)host)[j] = (int32_t)row;
                } else {
                    ((float *)host)[j] = (float)row;
                }
            } else if (value->dtype == DTYPE_U8) {
                ((uint8_t *)host)[j] = (uint8_t)bench_roll(0, 255);
                copies[i][j] = ((uint8_t *)host)[j];
            } else if (value->dtype == DTYPE_I32) {
                ((int32_t *)host)[j] = (int32_t)bench_roll(-1000, 1000);
                copies[i][j] = (float)((int32_t *)host)[j];
            } else {
                ((float *)host)[j] = copies[i][j] = bench_float();
            }
        }
    }
    double **answers = reference_run(&b->graph, (const float *const *)copies);
    for (size_t i = 0; i < b->graph.input_count; i++) {
        free(copies[i]);
    }
    return answers;
}

void bench_compare(const struct bench *b, struct plan *plan, double **answers, double tolerance,
                   const char *name, int run)
{
    for (size_t i = 0; i < b->graph.output_count; i++) {
        int value = b->outputs[i];
        int64_t count = shape_elements(&b->values[value].shape), worst = 0;
        double largest = 1e-3, error = 0;
        for (int64_t j = 0; j < count; j++) {
            double got = b->values[value].dtype == DTYPE_I32
                             ? (double)((const int32_t *)bench_backend->plan_output(plan, i))[j]
                             : (double)((const float *)bench_backend->plan_output(plan, i))[j];
            largest = fmax(largest, fabs(answers[value][j]));
            double difference = fabs(got - answers[value][j]);
            if (!(difference <= error)) { /* a NaN too */
                error = difference;
                worst = j;
            }
        }
        if (!(error <= tolerance * largest)) {
            char shape[128];
            bench_failed(
                "%s: run %d, output %zu %s: element %lld differs by %g (largest %g); impl %s", name,
                run, i, shape_format(shape, sizeof shape, &b->values[value].shape),
                (long long)worst, error, largest,
                bench_backend->plan_impls(plan)[0] != NULL ? bench_backend->plan_impls(plan)[0]
                                                           : "alias");
        }
    }
}

bool bench_uncaptured;
struct plan_options bench_options = {.graph = true};

static void on_note(void *context, const char *text)
{
    bench_uncaptured = true;
    printf("# %s: %s\n", (const char *)context, text);
}

void bench_check(struct device *device, const struct bench *b, const char *name,
                 enum precision precision, double tolerance)
{
    struct error error = {0};
    struct plan_options options = bench_options;
    options.precision = precision;
    struct observer observer = {.context = (char *)(uintptr_t)name, .note = on_note};
    struct step_context context = {.observer = &observer};
    struct plan *plan = bench_backend->plan_new(device, &b->graph, &options, &error);
    if (plan == NULL) {
        bench_failed("%s: plan_new: %s: %s", name, error.what, error.why);
        return;
    }
    double **answers = bench_fill(b, plan);
    for (int run = 0; run < 3 && bench_why[0] == '\0'; run++) {
        context.step = (uint64_t)run;
        if (!bench_backend->plan_run(plan, &context, &error)) {
            bench_failed("%s: plan_run %d: %s: %s", name, run, error.what, error.why);
            break;
        }
        bench_compare(b, plan, answers, tolerance, name, run);
    }
    bench_backend->plan_free(plan);
    reference_free(&b->graph, answers);
}
