/* Lowering, shapes, fusion and what is said about them. */
#include "engine/graph/graph.h"
#include "engine/keras/layers/table.h"
#include "tests/support/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct case_of_one {
    struct model *model;
    struct constant_pool *pool;
    struct graph *graph;
    struct error error;
};

static struct case_of_one lower(const char *text, int64_t batch, bool fusion)
{
    struct case_of_one one = {.model = tiny_model(text), .pool = constant_pool_new()};
    const struct graph_options options = {.batch = batch, .fusion = fusion};
    one.graph = graph_lower(one.model, &options, one.pool, &one.error);
    return one;
}

static void drop(struct case_of_one *one)
{
    graph_free(one->graph);
    constant_pool_free(one->pool);
    model_free(one->model);
}

static void expect_text(const char *text, bool fusion, const char *expected)
{
    struct case_of_one one = lower(text, 2, fusion);
    if (!one.graph)
        fail_msg("%s: %s", one.error.what, one.error.why);
    char *got = graph_to_text(one.graph);
    assert_string_equal(got, expected);
    free(got);
    drop(&one);
}

static void expect_error(const char *text, enum error_code code, const char *what, const char *why)
{
    struct case_of_one one = lower(text, 2, true);
    assert_null(one.graph);
    assert_int_equal(one.error.code, code);
    if (!strstr(one.error.what, what) || !strstr(one.error.why, why))
        fail_msg("got '%s: %s', expected '%s: %s'", one.error.what, one.error.why, what, why);
    drop(&one);
}

static const char BLOCK[] =
    "x = Input 12,12,8\n"
    "pad = ZeroPadding2D(x) {'padding': 1}\n"
    "c1 = Conv2D(pad) {'filters': 8, 'kernel_size': 3, 'use_bias': false} k 3,3,8,8\n"
    "n1 = BatchNormalization(c1) {} g 8 b 8 m 8 variance 8\n"
    "r1 = Activation(n1) {'activation': 'relu'}\n"
    "drop = Dropout(r1) {'rate': 0.5}\n"
    "c2 = Conv2D(drop) {'filters': 8, 'kernel_size': 3, 'padding': 'same'} k 3,3,8,8 b 8\n"
    "n2 = BatchNormalization(c2) {} g 8 b 8 m 8 variance 8\n"
    "s = Conv2D(x) {'filters': 8, 'kernel_size': 1} k 1,1,8,8 b 8\n"
    "a = Add(s, n2)\n"
    "r2 = Activation(a) {'activation': 'relu'}\n"
    "q = ZeroPadding2D(r2) {'padding': 1}\n"
    "m = MaxPooling2D(q) {'pool_size': 3, 'strides': 2}\n"
    "g = GlobalAveragePooling2D(m)\n"
    "d = Dense(g) {'units': 10, 'activation': 'softmax'} k 8,10 b 10\n"
    "out d\n";

static void unfused_text(void **state)
{
    (void)state;
    expect_text(BLOCK, false,
                "input %0:2x12x12x8\n"
                "%1:2x14x14x8 = pad(%0) pad=0:0,1:1,1:1,0:0  # pad\n"
                "%2:2x12x12x8 = conv(%1) k=3,3  # c1\n"
                "%3:2x12x12x8 = affine(%2) scale shift  # n1\n"
                "%4:2x12x12x8 = unary(%3) relu  # r1\n"
                "%5:2x12x12x8 = reshape(%4)  # drop\n"
                "%6:2x12x12x8 = conv(%5) k=3,3 pad=1:1,1:1 bias  # c2\n"
                "%7:2x12x12x8 = affine(%6) scale shift  # n2\n"
                "%8:2x12x12x8 = conv(%0) k=1,1 bias  # s\n"
                "%9:2x12x12x8 = binary(%8, %7) add  # a\n"
                "%10:2x12x12x8 = unary(%9) relu  # r2\n"
                "%11:2x14x14x8 = pad(%10) pad=0:0,1:1,1:1,0:0  # q\n"
                "%12:2x6x6x8 = pool(%11) max k=3,3 s=2,2  # m\n"
                "%13:2x8 = reduce(%12) mean axes=1,2  # g\n"
                "%14:2x10 = matmul(%13) w(8, 10) bias  # d\n"
                "%15:2x10 = softmax(%14) axis=1  # d\n"
                "output %15:2x10\n");
}

static void fused_text(void **state)
{
    (void)state;
    expect_text(BLOCK, true,
                "input %0:2x12x12x8\n"
                "%1:2x12x12x8 = conv(%0) k=3,3 pad=1:1,1:1 bias | relu  # c1+pad+n1+r1\n"
                "%2:2x12x12x8 = conv(%1) k=3,3 pad=1:1,1:1 bias  # c2+n2\n"
                "%3:2x12x12x8 = conv(%0) k=1,1 bias | add %2 | relu  # s+a+r2\n"
                "%4:2x6x6x8 = pool(%3) max k=3,3 s=2,2 pad=1:1,1:1  # m+q\n"
                "%5:2x8 = reduce(%4) mean axes=1,2  # g\n"
                "%6:2x10 = matmul(%5) w(8, 10) bias  # d\n"
                "%7:2x10 = softmax(%6) axis=1  # d\n"
                "output %7:2x10\n");
}

/* A value that somebody else reads, or that the model returns, stays. */
static void fusion_keeps_what_is_read(void **state)
{
    (void)state;
    expect_text("x = Input 4,4,8\n"
                "c = Conv2D(x) {'filters': 8, 'kernel_size': 1} k 1,1,8,8 b 8\n"
                "n = BatchNormalization(c) {} g 8 b 8 m 8 variance 8\n"
                "r = ReLU(n)\nout c\nout r\n",
                true,
                "input %0:2x4x4x8\n"
                "%1:2x4x4x8 = conv(%0) k=1,1 bias  # c\n"
                "%2:2x4x4x8 = affine(%1) scale shift | relu  # n+r\n"
                "output %1:2x4x4x8\noutput %2:2x4x4x8\n");
    /* padding before an average, or a maximum over negative values, is no padding of the pool */
    expect_text("x = Input 4,4,8\n"
                "q = ZeroPadding2D(x)\nm = MaxPooling2D(q) {'pool_size': 3}\nout m\n",
                true,
                "input %0:2x4x4x8\n"
                "%1:2x6x6x8 = pad(%0) pad=0:0,1:1,1:1,0:0  # q\n"
                "%2:2x2x2x8 = pool(%1) max k=3,3 s=3,3  # m\n"
                "output %2:2x2x2x8\n");
}

/* The later branch hosts the addition when the earlier one cannot; order stays executable. */
static void residual_order(void **state)
{
    (void)state;
    expect_text("x = Input 4,4,8\n"
                "c = Conv2D(x) {'filters': 8, 'kernel_size': 1} k 1,1,8,8 b 8\n"
                "m = MaxPooling2D(x) {'pool_size': 1}\n"
                "a = Add(c, m)\nout a\n",
                true,
                "input %0:2x4x4x8\n"
                "%1:2x4x4x8 = pool(%0) max k=1,1  # m\n"
                "%2:2x4x4x8 = conv(%0) k=1,1 bias | add %1  # c+a\n"
                "output %2:2x4x4x8\n");
}

static void spelled_out_hard_swish(void **state)
{
    (void)state;
    expect_text("x = Input 4,4,8\n"
                "c = Conv2D(x) {'filters': 8, 'kernel_size': 1} k 1,1,8,8 b 8\n"
                "h1 = ops.Add(c, 3.0)\nh2 = ReLU(h1) {'max_value': 6}\n"
                "h3 = ops.Multiply(h2, 0.16666666666666666)\nh = Multiply(c, h3)\nout h\n",
                true,
                "input %0:2x4x4x8\n"
                "%1:2x4x4x8 = conv(%0) k=1,1 bias | hard_silu  # c+h1+h2+h3+h\n"
                "output %1:2x4x4x8\n");
}

static void transposes_meet(void **state)
{
    (void)state;
    expect_text("x = Input 3,8,8\n"
                "c = Conv2D(x) {'filters': 4, 'kernel_size': 1, 'data_format': "
                "'channels_first'} k 1,1,3,4 b 4\n"
                "n = BatchNormalization(c) {'axis': 1} g 4 b 4 m 4 variance 4\n"
                "r = ReLU(n)\n"
                "p = MaxPooling2D(r) {'data_format': 'channels_first'}\nout p\n",
                true,
                "input %0:2x3x8x8\n"
                "%1:2x8x8x3 = transpose(%0) 0,2,3,1  # c\n"
                "%2:2x8x8x4 = conv(%1) k=1,1 bias | relu  # c+n+r\n"
                "%3:2x4x4x4 = pool(%2) max k=2,2 s=2,2  # p\n"
                "%4:2x4x4x4 = transpose(%3) 0,3,1,2  # p\n"
                "output %4:2x4x4x4\n");
}

static const json_t *layer_named(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *layer = json_array_get(list, i);
        if (strcmp(json_string_value(json_object_get(layer, "name")), name) == 0)
            return layer;
    }
    return NULL;
}

static void describes_layers(void **state)
{
    (void)state;
    struct case_of_one one = lower(BLOCK, 2, true);
    json_t *list = graph_describe_layers(one.graph);
    assert_int_equal(json_array_size(list), one.model->layer_count);
    const json_t *conv = layer_named(list, "c1"), *norm = layer_named(list, "n1");
    const json_t *dropout = layer_named(list, "drop");
    assert_string_equal(json_string_value(json_object_get(norm, "fused_into")), "c1");
    assert_int_equal(json_integer_value(json_object_get(norm, "flops")), 0);
    assert_true(json_is_null(json_object_get(conv, "fused_into")));
    assert_int_equal(json_array_size(json_object_get(conv, "fused")), 3);
    /* two multiply-adds per tap, and one relu an element */
    assert_int_equal(json_integer_value(json_object_get(conv, "flops")),
                     2LL * 2 * 12 * 12 * 8 * 8 * 9 + 2 * 12 * 12 * 8);
    assert_int_equal(json_integer_value(json_object_get(conv, "bytes")),
                     4LL * (2 * 2 * 12 * 12 * 8 + 3 * 3 * 8 * 8 + 8));
    assert_string_equal(json_string_value(json_object_get(conv, "output_shape")), "(2, 12, 12, 8)");
    assert_true(json_is_null(json_object_get(dropout, "fused_into")));
    assert_int_equal(json_array_size(json_object_get(dropout, "ops")), 0);
    assert_string_equal(json_string_value(json_object_get(dropout, "output_shape")),
                        "(2, 12, 12, 8)");
    json_decref(list);
    drop(&one);
}

/* The same constants at the same addresses for another batch size. */
static void constants_are_shared(void **state)
{
    (void)state;
    struct case_of_one one = lower(BLOCK, 2, true);
    uint64_t bytes = constant_pool_bytes(one.pool);
    const struct graph_options options = {.batch = 7, .fusion = true};
    struct graph *other = graph_lower(one.model, &options, one.pool, &one.error);
    assert_non_null(other);
    assert_int_equal(constant_pool_bytes(one.pool), bytes);
    assert_int_equal(other->op_count, one.graph->op_count);
    for (size_t i = 0; i < other->op_count; i++) {
        if (other->ops[i].kind == OP_CONV) {
            assert_ptr_equal(other->ops[i].conv.weights, one.graph->ops[i].conv.weights);
            assert_ptr_equal(other->ops[i].conv.bias, one.graph->ops[i].conv.bias);
        }
    }
    graph_free(other);
    drop(&one);
}

/* What was folded can be let go and is made again, bit by bit; what is kept stays. */
static void folded_weights_come_back(void **state)
{
    (void)state;
    struct case_of_one one = lower(BLOCK, 2, true);
    uint64_t bytes = constant_pool_bytes(one.pool);
    size_t released = 0;
    for (size_t i = 0; i < one.graph->op_count; i++) {
        if (one.graph->ops[i].kind != OP_CONV || one.graph->ops[i].conv.weights->origin == NULL)
            continue;
        const struct constant *weights = one.graph->ops[i].conv.weights;
        float *before = xmalloc(weights->bytes);
        memcpy(before, constant_data(weights, &one.error), weights->bytes);
        constant_release(weights);
        assert_null(weights->data);
        assert_true(constant_pool_bytes(one.pool) < bytes);
        constant_release(weights); /* twice is as once */
        const float *after = constant_keep(weights, &one.error);
        assert_non_null(after);
        assert_memory_equal(after, before, weights->bytes);
        constant_release(weights);
        assert_ptr_equal(weights->data, after);
        free(before);
        released++;
    }
    assert_true(released > 0);
    assert_int_equal(constant_pool_bytes(one.pool), bytes);
    drop(&one);
}

/* gamma (x - mean) / sqrt(variance + epsilon) + beta, by hand */
static void folding_is_exact(void **state)
{
    (void)state;
    struct case_of_one one = lower("x = Input 1,1,1\n"
                                   "c = Conv2D(x) {'filters': 1, 'kernel_size': 1} k 1,1,1,1 b 1\n"
                                   "n = BatchNormalization(c) {'epsilon': 0.25} g 1 b 1 m 1 "
                                   "variance 1\nout n\n",
                                   1, true);
    const struct model_weight *c = one.model->layers[1].weights;
    const struct model_weight *n = one.model->layers[2].weights;
#define W(weights, i) ((double)*(const float *)(weights)[i].data)
    double factor = W(n, 0) / sqrt(W(n, 3) + 0.25);
    double weight = W(c, 0) * factor, bias = (W(c, 1) - W(n, 2)) * factor + W(n, 1);
#undef W
    const struct op_conv *conv = &one.graph->ops[0].conv;
    assert_true(fabs((double)conv->weights->data[0] - weight) < 1e-7);
    assert_true(fabs((double)conv->bias->data[0] - bias) < 1e-7);
    drop(&one);
}

static void errors_name_their_layers(void **state)
{
    (void)state;
    expect_error("x = Input 4\ny = Lambda(x)\nz = Lambda(y)\nw = MyLayer(z)\nv = Dense(w) "
                 "{'units': 2} k 4,2 b 2\nout v\n",
                 ERROR_MODEL_LAYERS, "tiny",
                 "3 layers of 2 classes cannot run here: Lambda x2 (first 'y'), MyLayer ('w')");
    expect_error("x = Input 4\ny = Dense(x) {'units': 3} k 4,2 b 3\nout y\n", ERROR_MODEL_WEIGHTS,
                 "layer 'y' (Dense)",
                 "'kernel' has shape (4, 2) in the file, but the "
                 "configuration asks for (4, 3)");
    expect_error("x = Input 4\ny = Dense(x) {'units': 2} k 4,2\nout y\n", ERROR_MODEL_WEIGHTS,
                 "layer 'y' (Dense)", "'bias' of shape (2,) is missing");
    expect_error("x = Input 4\ny = Dense(x) {'units': 2} k 4,2 b 2 extra 3\nout y\n",
                 ERROR_MODEL_WEIGHTS, "layer 'y' (Dense)", "the file has 3 weights");
    expect_error("x = Input 4\ny = Activation(x) {'activation': 'magic'}\nout y\n",
                 ERROR_MODEL_LAYERS, "layer 'y' (Activation)", "'magic' is not supported");
    expect_error("x = Input 4,4,3\ny = Conv2D(x) {'filters': 2, 'kernel_size': 5} k 5,5,3,2 b 2\n"
                 "out y\n",
                 ERROR_MODEL_SHAPE, "layer 'y' (Conv2D)", "larger than the padded input");
    expect_error("x = Input 4\ny = Input 5\nz = Add(x, y)\nout z\n", ERROR_MODEL_SHAPE,
                 "layer 'z' (Add)", "do not broadcast");
    expect_error("x = Input 4\ny = Reshape(x) {'target_shape': [3]}\nout y\n", ERROR_MODEL_SHAPE,
                 "layer 'y' (Reshape)", "cannot reshape 8 elements");
    expect_error("x = Input -1,4\ny = ReLU(x)\nout y\n", ERROR_MODEL_SHAPE, "input 'x'",
                 "its shape (None, None, 4) is open");
    expect_error("x = Input 4,4,3\ny = Conv2D(x) {'filters': 'many', 'kernel_size': 1} k "
                 "1,1,3,2\nout y\n",
                 ERROR_MODEL_SHAPE, "layer 'y' (Conv2D)", "'filters'");
    expect_error("x = Input 4,4,3\ny = Conv2D(x) {'filters': 2, 'kernel_size': 1, 'groups': 2} k "
                 "1,1,3,2\nout y\n",
                 ERROR_MODEL_SHAPE, "layer 'y' (Conv2D)", "do not divide into 2 groups");
    expect_error("x = Input 4\ny = Add(x)\nout y\n", ERROR_MODEL_SHAPE, "layer 'y' (Add)",
                 "fewer than two");
}

static void mixing_is_seen(void **state)
{
    (void)state;
    struct case_of_one one = lower(BLOCK, 4, true);
    assert_false(one.graph->mixes_samples);
    drop(&one);
    static const char *const MIXERS[] = {
        "x = Input 4\ny = ops.Mean(x, 0)\nout y\n",
        "x = Input 4\ny = ops.Softmax(x, 0)\nout y\n",
        "x = Input 4\ny = ops.Reshape(x, [2, -1])\nout y\n",
        "x = Input 4\ny = ops.Transpose(x)\nout y\n",
        "x = Input 4\ny = ops.GetItem(x, 0)\nout y\n",
    };
    for (size_t i = 0; i < sizeof MIXERS / sizeof *MIXERS; i++) {
        struct case_of_one mixed = lower(MIXERS[i], 3, true);
        if (!mixed.graph)
            fail_msg("%s: %s", mixed.error.what, mixed.error.why);
        if (!mixed.graph->mixes_samples)
            fail_msg("%s does not mix samples?", MIXERS[i]);
        drop(&mixed);
    }
}

/* A layer called twice shares its weights and has its costs counted twice. */
static void shared_layers(void **state)
{
    (void)state;
    struct case_of_one one = lower("x = Input 6\ny = Input 6\n"
                                   "d = Dense(x) {'units': 5} k 6,5 b 5\ne = @d(y)\n"
                                   "z = Subtract(d, e)\nout z\n",
                                   2, true);
    assert_non_null(one.graph);
    json_t *list = graph_describe_layers(one.graph);
    const json_t *dense = layer_named(list, "d");
    assert_int_equal(json_array_size(json_object_get(dense, "ops")), 2);
    assert_true(json_integer_value(json_object_get(dense, "flops")) >= 2 * 2 * 2 * 6 * 5);
    json_decref(list);
    drop(&one);
}

static void table_is_sorted(void **state)
{
    (void)state;
    size_t count;
    const struct layer_row *rows = layer_rows(&count);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(layer_row_find(rows[i].class_name), &rows[i]);
        if (i > 0)
            assert_true(strcmp(rows[i - 1].class_name, rows[i].class_name) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unfused_text),
        cmocka_unit_test(fused_text),
        cmocka_unit_test(fusion_keeps_what_is_read),
        cmocka_unit_test(residual_order),
        cmocka_unit_test(spelled_out_hard_swish),
        cmocka_unit_test(transposes_meet),
        cmocka_unit_test(describes_layers),
        cmocka_unit_test(constants_are_shared),
        cmocka_unit_test(folded_weights_come_back),
        cmocka_unit_test(folding_is_exact),
        cmocka_unit_test(errors_name_their_layers),
        cmocka_unit_test(mixing_is_seen),
        cmocka_unit_test(shared_layers),
        cmocka_unit_test(table_is_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
