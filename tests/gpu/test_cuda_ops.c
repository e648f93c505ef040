/* The CUDA backend on a real GPU: every op against plain loops in double precision, on random
 * shapes, eager and replayed as a CUDA graph; then memory (tests/support/bench_memory.c).
 *
 *   test_cuda_ops [NAME]             all tests in strict float32, or those whose name begins so
 *   test_cuda_ops fp16|bf16 [NAME]   the ops in a half type, fewer cases
 *   test_cuda_ops int8 [NAME]        convolutions and products in bytes, fewer cases
 *   test_cuda_ops precision          the tests of precisions, layouts and measured kernels
 *
 * Prints a TAP line per test. Exit code 0 if all passed, 1 if not, 4 without a GPU. The module is
 * found as the program finds it. Strict float32 must agree within 2e-5 of the largest value, fp16
 * within 5e-3, bf16 within 4e-2.
 */
#include "support/op_tests.h"
#include <stdio.h>
#include <string.h>

static void op_test_matmul(void)
{
    static const int64_t rows[][3] = {
        {1, 100, 10}, {32, 784, 128}, {7, 33, 5}, {1, 1, 1}, {256, 512, 1000}};
    for (int i = 0; i < op_tests_cases(40); i++) {
        int64_t n = i < 5 ? rows[i][0] : bench_roll(1, 40),
                c = i < 5 ? rows[i][1] : bench_roll(1, 70);
        int64_t k = i < 5 ? rows[i][2] : bench_roll(1, 70),
                more = i % 3 == 2 ? bench_roll(2, 5) : 1;
        struct bench *b = bench_new(n);
        struct shape x = more > 1 ? D(n, more, c) : D(n, c), y = more > 1 ? D(n, more, k) : D(n, k);
        int input = bench_input(b, x), extra = -1;
        if (bench_roll(1, 2) == 1) {
            struct op *copy = bench_op(b, OP_UNARY, bench_input(b, y), y);
            copy->unary = (struct op_unary){UNARY_NEGATIVE, 0, 0};
            extra = copy->outputs[0];
        }
        struct op *op = bench_op(b, OP_MATMUL, input, y);
        op->matmul.weights = bench_constant(b, D(c, k), 0.3f);
        op->matmul.bias = bench_roll(1, 3) > 1 ? bench_constant(b, D(k), 0.5f) : NULL;
        op_tests_posts(op, extra);
        bench_output(b, op->outputs[0]);
        char name[96];
        snprintf(name, sizeof name, "dense %lld x %lld x %lld -> %lld, posts %zu", (long long)n,
                 (long long)more, (long long)c, (long long)k, op->post_count);
        op_tests_check(b, name);
    }
    for (int i = 0; i < 6; i++) { /* batched: two inputs */
        int64_t n = bench_roll(1, 5), m = bench_roll(1, 9), c = bench_roll(1, 9),
                k = bench_roll(1, 9);
        struct bench *b = bench_new(n);
        int left = bench_input(b, D(n, I(2), m, c)), right = bench_input(b, D(n, I(2), c, k));
        struct op *op = bench_op(b, OP_MATMUL, left, D(n, I(2), m, k));
        op->inputs[op->input_count++] = right;
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "batched");
    }
}

static void op_test_pool(void)
{
    for (int i = 0; i < op_tests_cases(40); i++) {
        int spatial = i % 4 == 0 ? 1 : i % 4 == 1 ? 3 : 2;
        int64_t batch = bench_roll(1, 4), channels = bench_roll(1, 12);
        struct bench *b = bench_new(batch);
        struct op_pool pool = {.function = i % 2 ? POOL_MAX : POOL_AVERAGE, .spatial = spatial};
        struct shape x = {.rank = spatial + 2, .dims = {batch}}, y = x;
        for (int s = 0; s < spatial; s++) {
            pool.window[s] = bench_roll(1, 4);
            pool.stride[s] = bench_roll(1, 3);
            pool.pad_before[s] = bench_roll(0, pool.window[s] - 1);
            pool.pad_after[s] = bench_roll(0, pool.window[s] - 1);
            x.dims[1 + s] = bench_roll(pool.window[s], 12);
            int64_t room = x.dims[1 + s] + pool.pad_before[s] - pool.window[s];
            y.dims[1 + s] = room / pool.stride[s] + 1; /* only windows that hold a real cell */
        }
        x.dims[spatial + 1] = y.dims[spatial + 1] = channels;
        struct op *op = bench_op(b, OP_POOL, bench_input(b, x), y);
        op->pool = pool;
        bench_output(b, op->outputs[0]);
        op_tests_check(b, "pool");
    }
}

static void op_test_recurrent(void)
{
    char name[160];
    for (int i = 0; i < op_tests_cases(BENCH_RECURRENT_CASES); i++) {
        op_tests_check(bench_recurrent(i, name, sizeof name), name);
    }
}

static void op_test_attention(void)
{
    char name[160];
    for (int i = 0; i < op_tests_cases(BENCH_ATTENTION_CASES); i++) {
        op_tests_check(bench_attention(i, name, sizeof name), name);
    }
}

static void op_test_integers(void)
{
    for (int i = 0; i < 2; i++) {
        struct bench *b = bench_new(4);
        struct shape shape = D(I(4), I(6), I(6), I(3));
        int input = bench_input(b, shape);
        b->values[input].dtype = i ? DTYPE_I32 : DTYPE_U8;
        struct op *op = bench_op(b, OP_AFFINE, input, shape);
        op->affine.scale = bench_constant(b, D(I(3)), 0.01f);
        op->affine.shift = bench_constant(b, D(I(3)), 1.0f);
        bench_output(b, op->outputs[0]);
        if (i) { /* the integers themselves are an output too */
            bench_output(b, input);
        }
        op_tests_check(b, i ? "int32" : "uint8");
    }
}

static void op_test_network(void)
{
    bench_uncaptured = false;
    op_tests_check(bench_network(8), "network");
    op_tests_check(bench_network(1), "network");
    if (bench_uncaptured) {
        bench_failed("network: the CUDA graph was refused, see the comments");
    }
}

static void op_test_tf32(void)
{
    if (op_tests_in_half()) {
        return;
    }
    struct bench *b = bench_network(8);
    bench_check(op_tests_device, b, "tf32", PRECISION_TF32, BENCH_TF32);
    bench_backend->device_forget(op_tests_device);
    bench_free(b);
}

static const struct bench_test op_tests[] = {{"conv", op_test_conv},
                                             {"conv_depthwise", op_test_conv_depthwise},
                                             {"conv_grouped", op_test_conv_grouped},
                                             {"conv_transposed", op_test_conv_transposed},
                                             {"conv_1d_3d", op_test_conv_1d_3d},
                                             {"conv_real", op_test_conv_real},
                                             {"matmul", op_test_matmul},
                                             {"pool", op_test_pool},
                                             {"unary", op_test_unary},
                                             {"binary", op_test_binary},
                                             {"affine", op_test_affine},
                                             {"softmax", op_test_softmax},
                                             {"normalise", op_test_normalise},
                                             {"reduce", op_test_reduce},
                                             {"moves", op_test_moves},
                                             {"select", op_test_select},
                                             {"constant", op_test_constant},
                                             {"concat", op_test_concat},
                                             {"resize", op_test_resize},
                                             {"recurrent", op_test_recurrent},
                                             {"attention", op_test_attention},
                                             {"gather", op_test_gather},
                                             {"gather_outside", op_test_gather_outside},
                                             {"cumulate", op_test_cumulate},
                                             {"top", op_test_top},
                                             {"reshape_alias", op_test_reshape_alias},
                                             {"integers", op_test_integers},
                                             {"network", op_test_network},
                                             {"tf32", op_test_tf32},
                                             {"pictures", op_test_pictures},
                                             {NULL, NULL}};

/* Ops of one kind with weights, as op_tests_check_int8() wants them. */
static const struct bench_test byte_tests[] = {{"conv", op_test_conv},
                                               {"conv_depthwise", op_test_conv_depthwise},
                                               {"conv_grouped", op_test_conv_grouped},
                                               {"conv_transposed", op_test_conv_transposed},
                                               {"conv_1d_3d", op_test_conv_1d_3d},
                                               {"conv_real", op_test_conv_real},
                                               {"matmul", op_test_matmul},
                                               {"parts", op_test_parts},
                                               {NULL, NULL}};

/* Run the tests of a list whose names begin with `wanted`; returns how many failed. */
static int run_list(const struct bench_test *list, const char *wanted, bool own_devices)
{
    int failures = 0;
    for (size_t i = 0; list[i].name != NULL; i++) {
        if (strncmp(list[i].name, wanted, strlen(wanted)) != 0) {
            continue;
        }
        bench_why[0] = '\0';
        random_seed(&bench_dice, 1000 + i);
        if (!own_devices && op_tests_device == NULL) {
            op_tests_device = bench_device(true, 0);
        }
        if (own_devices || op_tests_device != NULL) {
            list[i].run();
        }
        failures += bench_why[0] != '\0';
        printf(bench_why[0] != '\0' ? "not ok %s: %s\n" : "ok %s%s\n", list[i].name, bench_why);
        fflush(stdout);
    }
    return failures;
}

int main(int argc, char **argv)
{
    struct error error = {0};
    const char *wanted = argc > 1 ? argv[1] : "";
    bool only_precision = strcmp(wanted, "precision") == 0;
    if (strcmp(wanted, "fp16") == 0 || strcmp(wanted, "bf16") == 0) {
        op_tests_precision = wanted[0] == 'f' ? PRECISION_FP16 : PRECISION_BF16;
        op_tests_tolerance = wanted[0] == 'f' ? BENCH_FP16 : BENCH_BF16;
        wanted = argc > 2 ? argv[2] : "";
    }
    if (strcmp(wanted, "int8") == 0) {
        op_tests_precision = PRECISION_INT8;
        wanted = argc > 2 ? argv[2] : "";
    }
    bench_backend = backend_cuda(&error);
    if (bench_backend == NULL) {
        printf("Bail out! %s: %s\n", error.what, error.why);
        return 4;
    }
    if (only_precision) {
        return run_list(bench_precision_tests, "", true) > 0;
    }
    int failures =
        run_list(op_tests_precision == PRECISION_INT8 ? byte_tests : op_tests, wanted, false);
    if (op_tests_in_half()) {
        if (op_tests_device != NULL) {
            bench_backend->device_close(op_tests_device);
        }
        return failures > 0;
    }
    if (op_tests_device != NULL) {
        bench_backend->device_close(op_tests_device);
    }
    return failures + run_list(bench_memory_tests, wanted, true) > 0;
}
