/* Op nodes of Keras that are made of several of ours: each with an input and what NumPy answers. */
#include "engine/backend.h"
#include "engine/graph/constant.h"
#include "engine/graph/graph.h"
#include "support/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MOST 40
#define INF  ((double)INFINITY)

/* Batch 1. The input x is `x`; the output y has `count` elements. */
struct row {
    const char *text;
    double x[MOST], y[MOST];
    size_t count;
};

static void check(const struct row *row)
{
    struct error error = {0};
    struct model *model = tiny_model(row->text);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options wanted = {.batch = 1, .fusion = true};
    struct graph *graph = graph_lower(model, &wanted, pool, &error);
    const struct device_options options = {.threads = 1};
    struct device *device = backend_cpu.device_open(&options, NULL, &error);
    const struct plan_options plan_options = {.precision = PRECISION_FP32};
    struct plan *plan =
        graph && device ? backend_cpu.plan_new(device, graph, &plan_options, &error) : NULL;
    if (!plan)
        fail_msg("%s\nE%03d %s: %s", row->text, (int)error.code, error.what, error.why);
    const struct shape *in = &graph->values[graph->inputs[0]].shape;
    for (int64_t i = 0; i < shape_elements(in); i++)
        ((float *)backend_cpu.plan_input(plan, 0))[i] = (float)row->x[i];
    const struct step_context context = {.step = 1};
    if (!backend_cpu.plan_run(plan, &context, &error))
        fail_msg("%s\nE%03d %s: %s", row->text, (int)error.code, error.what, error.why);
    const struct shape *out = &graph->values[graph->outputs[0]].shape;
    const float *got = backend_cpu.plan_output(plan, 0);
    if (shape_elements(out) != (int64_t)row->count)
        fail_msg("%s: %lld elements, not %zu", row->text, (long long)shape_elements(out),
                 row->count);
    for (size_t i = 0; i < row->count; i++) {
        double want = row->y[i], have = (double)got[i];
        bool same = isnan(want)   ? isnan(have) != 0
                    : isinf(want) ? have == want
                                  : fabs(have - want) <= 1e-6 * fmax(1, fabs(want));
        if (!same)
            fail_msg("%s: element %zu is %.9g, not %.9g", row->text, i, have, want);
    }
    backend_cpu.plan_free(plan);
    backend_cpu.device_close(device);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

#define ONE(op) "x = Input 4\ny = ops." op "\nout y"

static void elements(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {ONE("Cbrt(x)"), {-8, 0, 27, 1e-3}, {-2, 0, 3, 0.1}, 4},
        {ONE("Exp2(x)"), {-2, 0, 0.5, 20}, {0.25, 1, 1.4142135623730951, 1048576}, 4},
        {"x = Input 4\ny = ops.Threshold(x) {'threshold': 0.5, 'default_value': -2}\nout y\n",
         {0.25, 0.5, 0.75, -3},
         {-2, -2, 0.75, -2},
         4},
        {"x = Input 4\ny = ops.Threshold(x) {'threshold_value': 0.5, 'value': -2}\nout y\n",
         {0.25, 0.5, 0.75, -3},
         {-2, -2, 0.75, -2},
         4}, /* as Keras 3.10 wrote it */
        {ONE("Hypot(x, 4.0)"), {3, -3, 0, 3e30}, {5, 5, 4, 3e30}, 4},
        {ONE("Hypot(x, 0.0)"), {3, -3, 0, 1}, {3, 3, 0, 1}, 4},
        {ONE("Logaddexp(x, 1000.0)"),
         {1000, -INF, INF, 999},
         {1000.6931471805599, 1000, INF, 1000.3132616875182},
         4},
        {ONE("Logaddexp2(x, 3.0)"),
         {3, -INF, 4, 1},
         {4, 3, 4.584962500721156, 3.321928094887362},
         4},
        {ONE("Heaviside(x, 0.25)"), {-1, 0, 2, INF}, {0, 0.25, 1, 1}, 4},
        {ONE("Sinc(x)"), {0, 1, 0.5, -1.5}, {1, 0, 0.6366197723675814, -0.2122065907891938}, 4},
        {ONE("Signbit(x)"), {-0.0, 0, -3, INF}, {1, 0, 1, 0}, 4},
        {ONE("Isposinf(x)"), {INF, -INF, NAN, 1}, {1, 0, 0, 0}, 4},
        {ONE("Isneginf(x)"), {INF, -INF, NAN, 1}, {0, 1, 0, 0}, 4},
        {ONE("Angle(x)"), {-2, 0, 2, -1}, {3.141592653589793, 0, 0, 3.141592653589793}, 4},
        {ONE("NanToNum(x) {'nan': 1.5, 'posinf': 9, 'neginf': null}"),
         {INF, -INF, NAN, 1},
         {9, -3.4028234663852886e38, 1.5, 1},
         4},
        {ONE("Fmod(x, 3.0)"), {-7, 7, 2, -2}, {-1, 1, 2, -2}, 4},
        {ONE("Fmax(x, 0.5)"), {NAN, 1, -1, INF}, {0.5, 1, 0.5, INF}, 4},
        {ONE("Fmin(x, '?')"), {3, 1, -1, INF}, {3, 1, -1, INF}, 4},
        {ONE("Isclose(x, 1.0)"), {1.000009, 1.00002, NAN, INF}, {1, 0, 0, 0}, 4},
        {ONE("AllClose(x, 1.0, 0.1)"), {1.05, 0.95, 1, 1}, {1}, 1},
        {ONE("BitwiseAnd(x, 12)"), {10, -1, 5, -16}, {8, 12, 4, 0}, 4},
        {ONE("BitwiseOr(x, 12)"), {10, -1, 5, -16}, {14, -1, 13, -4}, 4},
        {ONE("BitwiseXor(x, -1)"), {10, -1, 5, 16777215}, {-11, 0, -6, -16777216}, 4},
        {ONE("BitwiseInvert(x)"), {10, -1, 5, 0}, {-11, 0, -6, -1}, 4},
        {ONE("BitwiseRightShift(x, 2)"), {10, -1, 5, -16}, {2, -1, 1, -4}, 4},
        {ONE("SaturateCast(x) {'dtype': 'int8'}"), {200, -200, 1.9, -1.9}, {127, -128, 1, -1}, 4},
        {ONE("IsIn(x, [2, 4]) {'invert': false}"), {1, 2, 3, 4}, {0, 1, 0, 1}, 4},
        {ONE("Digitize(x, [0, 1, 2])"), {-1, 0, 1.5, 2}, {0, 1, 2, 3}, 4},
        {ONE("SearchSorted([0, 1, 2], x) {'side': 'left'}"), {-1, 0, 1.5, 2}, {0, 0, 2, 2}, 4},
        {ONE("SearchSorted([0, 1, 2], x) {'side': 'right'}"), {-1, 0, 1.5, 2}, {0, 1, 2, 3}, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
}

#define TWO(op) "x = Input 2,3\ny = ops." op "\nout y"

static void axes(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {TWO("Nanmean(x) {'axis': [2]}"), {1, NAN, 3, NAN, NAN, 6}, {2, 6}, 2},
        {TWO("Nansum(x) {'axis': [1]}"), {1, NAN, 3, NAN, NAN, 6}, {1, 0, 9}, 3},
        {TWO("Nanmax(x) {'axis': [1]}"), {1, NAN, 3, NAN, NAN, 6}, {1, NAN, 6}, 3},
        {TWO("Nanmin(x) {'axis': [1]}"), {1, NAN, 3, NAN, NAN, 6}, {1, NAN, 3}, 3},
        {TWO("Nanvar(x) {'axis': [2]}"), {1, NAN, 3, 4, 8, NAN}, {1, 4}, 2},
        {TWO("Nanstd(x) {'axis': [1, 2]}"), {1, NAN, 3, NAN, NAN, 5}, {1.632993161855452}, 1},
        {TWO("Nanprod(x) {'axis': [2]}"), {2, NAN, 3, NAN, NAN, 6}, {6, 6}, 2},
        {TWO("Nancumsum(x) {'axis': 2}"), {1, NAN, 3, NAN, 5, 6}, {1, 1, 4, 0, 5, 11}, 6},
        {TWO("Nanargmax(x) {'axis': 2}"), {1, NAN, 3, NAN, 7, 6}, {2, 1}, 2},
        {TWO("Nanargmin(x) {'axis': 2}"), {1, NAN, 3, NAN, 7, 6}, {0, 2}, 2},
        {TWO("Ptp(x) {'axis': 2}"), {1, 5, 3, -2, 7, 6}, {4, 9}, 2},
        {TWO("CountNonzero(x) {'axis': [2]}"), {1, 0, 3, 0, 0, 6}, {2, 1}, 2},
        {TWO("Median(x) {'axis': 1, 'keepdims': true}"), {1, 5, 3, 2, 7, 6}, {1.5, 6, 4.5}, 3},
        {TWO("Quantile(x, 0.3) {'axis': [1, 2], 'method': 'linear'}"),
         {5, 1, 4, 0, 3, 2},
         {1.5},
         1},
        {TWO("Quantile(x, 0.3) {'axis': [1, 2], 'method': 'lower'}"), {5, 1, 4, 0, 3, 2}, {1}, 1},
        {TWO("Quantile(x, 0.3) {'axis': [1, 2], 'method': 'higher'}"), {5, 1, 4, 0, 3, 2}, {2}, 1},
        {TWO("Quantile(x, 0.1) {'axis': [1, 2], 'method': 'midpoint'}"),
         {5, 1, 4, 0, 3, 2},
         {0.5},
         1},
        {TWO("Quantile(x, 0.35) {'axis': [1, 2], 'method': 'nearest'}"),
         {5, 1, 4, 0, 3, 2},
         {2},
         1},
        {TWO("Percentile(x, [50, 100]) {'axis': [2]}"), {5, 1, 4, 0, 3, 2}, {4, 2, 5, 3}, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
    check(&(struct row){
        "x = Input 3\ny = ops.MultiHot(x) {'num_classes': 4}\nout y", {0, 3, 3}, {1, 0, 0, 1}, 4});
}

static void moves(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {TWO("Diff(x) {'n': 2, 'axis': -1}"), {1, 2, 4, 0, 5, 5}, {1, -5}, 2},
        {TWO("Diff(x) {'n': 1, 'axis': 1}"), {1, 2, 4, 0, 5, 5}, {-1, 3, 1}, 3},
        {TWO("Hstack([x, x])"), {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}, 12},
        {TWO("Dstack([x, x])"), {1, 2, 3, 4, 5, 6}, {1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6}, 12},
        {TWO("Append(x, [7, 8])"), {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6, 7, 8}, 8},
        {TWO("Ravel(x)"), {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}, 6},
        {TWO("Fliplr(x)"), {1, 2, 3, 4, 5, 6}, {4, 5, 6, 1, 2, 3}, 6},
        {TWO("ArraySplit(x, 2) {'axis': 2}"), {1, 2, 3, 4, 5, 6}, {1, 2, 4, 5}, 4},
        {TWO("Hsplit(x, 2)"), {1, 2, 3, 4, 5, 6}, {1, 2, 3}, 3},
        {TWO("Trapezoid(x) {'dx': 2.0, 'axis': -1}"), {1, 2, 3, 4, 5, 6}, {8, 20}, 2},
        {TWO("Trapezoid(x, [0, 1, 3]) {'axis': 2}"), {1, 2, 3, 4, 5, 6}, {6.5, 15.5}, 2},
        {TWO("Cross(x, [0, 0, 1])"), {1, 2, 3, 4, 5, 6}, {2, -1, 0, 5, -4, 0}, 6},
        {TWO("Linspace(x, 6.0) {'num': 3, 'axis': 1}"),
         {0, 2, 4, 6, 6, 6},
         {0, 2, 4, 6, 6, 6, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6},
         18},
        {TWO("Linspace(x, 8.0) {'num': 2, 'axis': -1, 'endpoint': false}"),
         {0, 2, 4, 6, 8, 4},
         {0, 4, 2, 5, 4, 6, 6, 7, 8, 8, 4, 6},
         12},
        {TWO("ExtractSequences(x) {'sequence_length': 2, 'sequence_stride': 1}"),
         {1, 2, 3, 4, 5, 6},
         {1, 2, 2, 3, 4, 5, 5, 6},
         8},
        {TWO("SliceUpdate(x, [0, 1, 1], [[[7, 8]]])"), {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 7, 8}, 6},
        {TWO("Select([x, x], [x, x], -1.0)"), {1, 0, 3, 0, 5, 6}, {1, -1, 3, -1, 5, 6}, 6},
        {TWO("Ndim(x)"), {0}, {3}, 1},
        {TWO("CDist(x, x)"), {0, 0, 0, 1, 2, 2}, {0, 3, 3, 0}, 4},
        {"x = Input 4,2\ny = ops.Fold(x) {'output_size': [2, 3], 'kernel_size': 2}\nout y",
         {1, 2, 3, 4, 5, 6, 7, 8},
         {1, 5, 4, 5, 13, 8},
         6},
        {"x = Input 3,1\ny = ops.AdaptiveAveragePool(x) {'output_size': 2}\nout y",
         {1, 2, 6},
         {1.5, 4},
         2},
        {"x = Input 3,1\ny = ops.AdaptiveMaxPool(x) {'output_size': [2]}\nout y",
         {1, 2, 6},
         {2, 6},
         2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
}

/* What would make tables of any size is refused before it does. */
static void tables_are_bounded(void **state)
{
    (void)state;
    static const char *const texts[] = {
        TWO("Linspace(x, 6.0) {'num': 2000000000}"),
        TWO("MultiHot(x) {'num_classes': 2000000000}"),
        "x = Input 4,2\ny = ops.Fold(x) {'output_size': [40000, 40000], 'kernel_size': 2}\nout y",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error error = {0};
        struct model *model = tiny_model(texts[i]);
        struct constant_pool *pool = constant_pool_new();
        const struct graph_options wanted = {.batch = 1, .fusion = true};
        assert_null(graph_lower(model, &wanted, pool, &error));
        assert_true(error.code == ERROR_MODEL_LAYERS || error.code == ERROR_MODEL_SHAPE);
        constant_pool_free(pool);
        model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements),
        cmocka_unit_test(axes),
        cmocka_unit_test(moves),
        cmocka_unit_test(tables_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
