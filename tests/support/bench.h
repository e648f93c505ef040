/* Graphs by hand, random shapes, and a backend held against the plain reference: what the tests of
 * the CUDA backend share. A test fails by bench_failed(); the first reason stands. */
#ifndef LAYERTOP_TESTS_SUPPORT_BENCH_H
#define LAYERTOP_TESTS_SUPPORT_BENCH_H

#include "engine/backend.h"
#include "engine/random.h"

#define BENCH_FP32   2e-5 /* of the largest value: strict float32 */
#define BENCH_TF32   4e-3
#define BENCH_FP16   5e-3
#define BENCH_BF16   4e-2
#define BENCH_VALUES 64
#define BENCH_OPS    32

struct bench {
    struct graph graph;
    struct graph_value values[BENCH_VALUES];
    struct op ops[BENCH_OPS];
    int op_inputs[BENCH_OPS][6];
    struct post posts[BENCH_OPS][16];
    int inputs[6], outputs[4];
    int64_t table_rows[BENCH_VALUES]; /* an input of whole numbers: rows of a table of so many */
    struct constant *constants[64];
    size_t constant_count;
};

extern struct random bench_dice;
extern const struct backend *bench_backend; /* under test */
extern char bench_why[1200];                /* why the test that runs fails; "" while it is good */

void bench_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Uniform in low..high; in -1..1. */
int64_t bench_roll(int64_t low, int64_t high);
float bench_float(void);

/* D(2, n, 3): a shape; integer literals as I(2). */
struct shape bench_shape(int rank, ...);
#define D(...) bench_shape((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), __VA_ARGS__)
#define I(x)   ((int64_t)(x))

struct bench *bench_new(int64_t batch);
void bench_free(struct bench *b);
int bench_input(struct bench *b, struct shape shape);
struct op *bench_op(struct bench *b, enum op_kind kind, int x, struct shape out);
/* Another output of an op; returns its value. */
int bench_more(struct bench *b, struct op *op, struct shape out);
const struct constant *bench_constant(struct bench *b, struct shape shape, float scale);
void bench_post_unary(struct op *op, enum unary_function function, float alpha, float beta);
void bench_post_binary(struct op *op, enum binary_function function, int value);
void bench_output(struct bench *b, int value);
/* Eight convolutions with shortcuts, pooling, a dense layer and softmax. */
struct bench *bench_network(int64_t batch);

/* A recurrent layer with the options and sizes of case `index`, and what to call it; the cases go
 * through every cell, option and way of computing. tests/support/bench_sequence.c */
#define BENCH_RECURRENT_CASES 80
struct bench *bench_recurrent(int index, char *name, size_t size);
/* Attention likewise: heads of their own and shared ones, masks, biases, windows, long and short. */
#define BENCH_ATTENTION_CASES 60
struct bench *bench_attention(int index, char *name, size_t size);

/* Device 0, or NULL and the test has failed. */
struct device *bench_device(bool growth, uint64_t limit_bytes);
/* Fill a plan's inputs with random values and compute the answers; free with
 * reference_free(&b->graph, answers). */
double **bench_fill(const struct bench *b, struct plan *plan);
/* Hold a plan's outputs against the answers. */
void bench_compare(const struct bench *b, struct plan *plan, double **answers, double tolerance,
                   const char *name, int run);
/* Compile, run three times (eager, captured, replayed) and compare. A plan that would not be captured
 * runs eagerly instead: that is printed as a comment and sets bench_uncaptured. */
extern bool bench_uncaptured;
/* What the plans of bench_check() are made with besides the precision; the default replays graphs. */
extern struct plan_options bench_options;
void bench_check(struct device *device, const struct bench *b, const char *name,
                 enum precision precision, double tolerance);

/* The tests of memory and observer, each with devices of its own. */
struct bench_test {
    const char *name;
    void (*run)(void);
};
extern const struct bench_test bench_memory_tests[]; /* ends with a NULL name */
/* Precisions, layouts, measured kernels, pictures: tests/support/bench_precision.c. */
extern const struct bench_test bench_precision_tests[];

#endif
