/* What moves values: pads, slices, turns, joins, resizes, looks up, sums on and sorts. */
#include "support/op_tests.h"
#include <stdio.h>
#include <string.h>

void op_test_moves(void)
{
    for (int i = 0; i < op_tests_cases(30); i++) {
        struct shape x = D(bench_roll(1, 4), bench_roll(2, 6), bench_roll(2, 6), bench_roll(1, 9)),
                     y = x;
        struct bench *b = bench_new(x.dims[0]);
        int input = bench_input(b, x);
        struct op *op = bench_op(b,
                                 i % 3 == 0   ? OP_PAD
                                 : i % 3 == 1 ? OP_SLICE
                                              : OP_TRANSPOSE,
                                 input, y);
        for (int axis = 0; axis < 4; axis++) {
            if (op->kind == OP_PAD) {
                op->pad.before[axis] = axis > 0 ? bench_roll(0, 2) : 0;
                op->pad.after[axis] = axis > 0 ? bench_roll(0, 2) : 0;
                y.dims[axis] = x.dims[axis] + op->pad.before[axis] + op->pad.after[axis];
            } else if (op->kind == OP_SLICE) {
                bool flip = bench_roll(0, 3) == 0;
                if (!flip && bench_roll(0, 4) == 0) { /* one cell, again and again */
                    op->slice.begin[axis] = bench_roll(0, x.dims[axis] - 1);
                    y.dims[axis] = op->slice.size[axis] = bench_roll(1, 5);
                    continue;
                }
                op->slice.step[axis] = flip ? -1 : bench_roll(1, 2);
                op->slice.begin[axis] = flip ? x.dims[axis] - 1 : bench_roll(0, x.dims[axis] - 1);
                int64_t room = flip ? x.dims[axis] : x.dims[axis] - op->slice.begin[axis];
                int64_t step = flip ? 1 : op->slice.step[axis];
                y.dims[axis] = op->slice.size[axis] = (room + step - 1) / step;
            } else {
                static const int orders[][4] = {
                    {0, 3, 1, 2}, {0, 2, 1, 3}, {3, 2, 1, 0}, {0, 2, 3, 1}};
                op->transpose.permutation[axis] = orders[i / 3 % 4][axis];
                y.dims[axis] = x.dims[op->transpose.permutation[axis]];
            }
        }
        op->pad.value = op->kind == OP_PAD ? 0.5f : op->pad.value;
        b->values[op->outputs[0]].shape = y;
        bench_output(b, op->outputs[0]);
        op_tests_check(b, op_kind_name(op->kind));
    }
}

void op_test_constant(void)
{
    struct bench *b = bench_new(2);
    struct shape shape = D(I(2), I(3), I(8));
    struct op *op = bench_op(b, OP_CONSTANT, 0, shape);
    op->input_count = 0;
    op->constant.data = bench_constant(b, shape, 1.0f);
    struct op *sum = bench_op(b, OP_BINARY, bench_input(b, shape), shape);
    sum->inputs[sum->input_count++] = op->outputs[0];
    sum->binary.function = BINARY_ADD;
    bench_output(b, sum->outputs[0]);
    op_tests_check(b, "constant");
}

void op_test_concat(void)
{
    for (int i = 0; i < op_tests_cases(12); i++) {
        int axis = (int)bench_roll(1, 3);
        struct shape shape = D(bench_roll(1, 3), bench_roll(1, 5), bench_roll(1, 5),
                               i % 2 ? 4 * bench_roll(1, 3) : bench_roll(1, 9));
        struct shape y = shape;
        struct bench *b = bench_new(shape.dims[0]);
        int parts[3];
        y.dims[axis] = 0;
        for (int j = 0; j < 3; j++) {
            struct shape part = shape;
            part.dims[axis] = i % 2 ? 4 * bench_roll(1, 3) : bench_roll(1, 5);
            y.dims[axis] += part.dims[axis];
            parts[j] = bench_input(b, part);
        }
        struct op *op = bench_op(b, OP_CONCAT, parts[0], y);
        op->inputs[1] = parts[1];
        op->inputs[2] = parts[2];
        op->input_count = 3;
        op->concat.axis = axis;
        op_tests_posts(op, -1);
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "concat");
    }
}

void op_test_resize(void)
{
    for (int i = 0; i < op_tests_cases(12); i++) {
        struct shape x = D(bench_roll(1, 3), bench_roll(1, 9), bench_roll(1, 9), bench_roll(1, 5)),
                     y = x;
        struct bench *b = bench_new(x.dims[0]);
        y.dims[1] = i < 4 ? 2 * x.dims[1] : bench_roll(1, 20);
        y.dims[2] = i < 4 ? 2 * x.dims[2] : bench_roll(1, 20);
        struct op *op = bench_op(b, OP_RESIZE, bench_input(b, x), y);
        op->resize =
            (struct op_resize){i % 2 ? RESIZE_BILINEAR : RESIZE_NEAREST, y.dims[1], y.dims[2]};
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "resize");
    }
}

/* Rows by index: constant and computed tables, indices of every type, axes that both share. */
void op_test_gather(void)
{
    for (int i = 0; i < op_tests_cases(36); i++) {
        int64_t batch = bench_roll(1, 4), rows = i % 6 == 0 ? 5000 : bench_roll(1, 40);
        int64_t inner = i % 3 == 0 ? 8 * bench_roll(1, 3) : bench_roll(1, 9);
        struct bench *b = bench_new(batch);
        bool table = i % 2 == 0, common = !table && i % 4 == 1;
        struct shape data = table    ? D(rows, inner)
                            : common ? D(batch, I(3), rows, inner)
                                     : D(batch, rows, inner);
        struct shape ids = common ? D(batch, I(4)) : i % 5 == 4 ? D(I(3), I(2)) : D(batch, I(5));
        struct op_gather gather = {.axis = data.rank - 2, .batch_axes = common ? 1 : 0};
        struct shape y = {.rank = 0};
        for (int d = 0; d < gather.axis; d++) {
            y.dims[y.rank++] = data.dims[d];
        }
        for (int d = gather.batch_axes; d < ids.rank; d++) {
            y.dims[y.rank++] = ids.dims[d];
        }
        y.dims[y.rank++] = inner;
        int first = -1, second = -1;
        if (table) {
            gather.data = bench_constant(b, data, 1.0f);
        } else {
            struct op *copy = bench_op(b, OP_UNARY, bench_input(b, data), data);
            copy->unary = (struct op_unary){UNARY_NEGATIVE, 0, 0};
            first = copy->outputs[0];
        }
        if (i % 5 == 4 && !table) {
            struct constant *constant = (struct constant *)(uintptr_t)bench_constant(b, ids, 1.0f);
            for (int64_t j = 0; j < shape_elements(&ids); j++) {
                ((float *)(uintptr_t)constant->data)[j] = (float)bench_roll(-rows, rows - 1);
            }
            gather.indices = constant;
        } else {
            second = bench_input(b, ids);
            b->table_rows[second] = rows;
            b->values[second].dtype = i % 3 == 1 ? DTYPE_F32 : DTYPE_I32;
            b->values[second].exact = true; /* as graph_lower() says */
        }
        struct op *op = bench_op(b, OP_GATHER, first >= 0 ? first : second, y);
        if (first >= 0 && second >= 0) {
            op->inputs[op->input_count++] = second;
        }
        op->gather = gather;
        op_tests_posts(op, -1);
        bench_output(b, op->outputs[0]);
        char name[96];
        snprintf(name, sizeof name, "gather %s%s of %lld rows of %lld", table ? "table" : "value",
                 common ? " shared" : "", (long long)rows, (long long)inner);
        op_tests_check(b, name);
    }
}

/* An index outside ends the step with an error that names it, and the plan goes on. */
void op_test_gather_outside(void)
{
    for (int i = 0; i < 2; i++) {
        struct error error = {0};
        struct bench *b = bench_new(2);
        int ids = bench_input(b, D(I(2), I(3)));
        b->values[ids].dtype = i ? DTYPE_I32 : DTYPE_F32;
        b->values[ids].exact = true;
        struct op *op = bench_op(b, OP_GATHER, ids, D(I(2), I(3), I(4)));
        op->gather.data = bench_constant(b, D(I(7), I(4)), 1.0f);
        bench_output(b, op->outputs[0]);
        struct plan_options options = bench_options;
        struct step_context context = {0};
        options.precision = op_tests_precision;
        struct plan *plan =
            op_tests_device != NULL
                ? bench_backend->plan_new(op_tests_device, &b->graph, &options, &error)
                : NULL;
        static const double bad[] = {7, -8, 1e9, -1e9};
        for (int run = 0; plan != NULL && run < 8; run++) {
            void *host = bench_backend->plan_input(plan, 0);
            double index = run % 2 ? bad[run / 2] : run / 2 % 2 ? -7 : 6;
            i ? (void)(((int32_t *)host)[4] = (int32_t)index)
              : (void)(((float *)host)[4] = (float)index);
            bool good = bench_backend->plan_run(plan, &context, &error);
            if (good != (run % 2 == 0)) {
                bench_failed("index %g: %s", index, good ? "taken" : error.why);
            } else if (!good && (error.code != ERROR_INPUT ||
                                 strstr(error.why, "outside a table of 7 rows") == NULL)) {
                bench_failed("index %g: %s", index, error.why);
            }
        }
        if (plan == NULL) {
            bench_failed("plan_new: %s", error.why);
        }
        bench_backend->plan_free(plan);
        bench_backend->device_forget(op_tests_device);
        bench_free(b);
    }
}

void op_test_cumulate(void)
{
    for (int i = 0; i < op_tests_cases(32); i++) {
        struct shape shape = i == 0   ? D(I(3), I(1000))
                             : i == 1 ? D(I(2), I(300), I(5))
                                      : D(bench_roll(1, 4), bench_roll(1, 40), bench_roll(1, 70));
        struct bench *b = bench_new(shape.dims[0]);
        struct op *before = bench_op(b, OP_UNARY, bench_input(b, shape), shape);
        bool product = i % 4 == 3; /* of numbers near 1 */
        before->unary = product ? (struct op_unary){UNARY_LINEAR, 0.02f, 1.0f}
                                : (struct op_unary){UNARY_LINEAR, 1.0f, 0.0f};
        struct op *op = bench_op(b, OP_CUMULATE, before->outputs[0], shape);
        op->cumulate = (struct op_cumulate){.axis = i < 2 ? 1 : (int)bench_roll(0, 2),
                                            .product = product,
                                            .reverse = i / 2 % 2,
                                            .exclusive = i / 4 % 2};
        op_tests_posts(op, -1);
        bench_output(b, op->outputs[0]);
        op_tests_check(b, product ? "running product" : "running sum");
    }
}

/* The largest, the smallest, and where they are; whole numbers, so that many are equal. */
void op_test_top(void)
{
    for (int i = 0; i < op_tests_cases(40); i++) {
        int64_t n = i == 0 ? 5000 : i % 8 == 1 ? bench_roll(257, 600) : bench_roll(1, 70);
        int64_t count = i % 4 == 0 ? 1 : i % 4 == 1 ? n : bench_roll(1, n);
        struct shape x = i % 2 ? D(I(2), bench_roll(1, 3), n) : D(I(3), n), y = x;
        struct bench *b = bench_new(x.dims[0]);
        y.dims[y.rank - 1] = count;
        struct op *scale = bench_op(b, OP_UNARY, bench_input(b, x), x);
        scale->unary = (struct op_unary){UNARY_LINEAR, 20.0f, 0.0f};
        struct op *whole = bench_op(b, OP_UNARY, scale->outputs[0], x);
        whole->unary = (struct op_unary){op_tests_in_half() ? UNARY_NEGATIVE : UNARY_ROUND, 0, 0};
        struct op *op = bench_op(b, OP_TOP, whole->outputs[0], y);
        op->top = (struct op_top){.count = count, .smallest = i / 2 % 2, .indices = i % 3 != 0};
        bench_output(b, op->outputs[0]);
        if (op_tests_in_half()) { /* what is rounded differently lies elsewhere: the values alone */
            op->top.indices = false;
        }
        char name[64];
        snprintf(name, sizeof name, "the %lld %s%s of %lld", (long long)count,
                 op->top.smallest ? "smallest" : "largest", op->top.indices ? ", where" : "",
                 (long long)n);
        op_tests_check(b, name);
    }
}

void op_test_reshape_alias(void)
{
    struct bench *b = bench_new(2);
    int input = bench_input(b, D(I(2), I(3), I(4), I(5)));
    struct op *relu = bench_op(b, OP_UNARY, input, D(I(2), I(3), I(4), I(5)));
    relu->unary = (struct op_unary){UNARY_RELU, 0, 0};
    struct op *flat = bench_op(b, OP_RESHAPE, relu->outputs[0], D(I(2), I(60)));
    b->values[flat->outputs[0]].alias_of = relu->outputs[0];
    struct op *dense = bench_op(b, OP_MATMUL, flat->outputs[0], D(I(2), I(10)));
    dense->matmul.weights = bench_constant(b, D(I(60), I(10)), 0.3f);
    struct op *copy = bench_op(b, OP_RESHAPE, dense->outputs[0], D(I(2), I(5), I(2)));
    bench_output(b, flat->outputs[0]); /* an alias as an output */
    bench_output(b, copy->outputs[0]);
    op_tests_check(b, "reshape");
}
