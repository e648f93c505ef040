/* Keras files become models: graph, configs, and every byte of the weights.
 *
 * The files in tests/data/keras were written by Keras 3.16; the hashes are those that h5py gave for
 * the same arrays. */
#include "engine/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATA "tests/data/keras/"

static struct model *load(const char *path)
{
    struct error error = {0};
    struct model *model = model_load(path, NULL, &error);
    if (model == NULL)
        fail_msg("%s: E%03d %s: %s", path, error.code, error.what, error.why);
    return model;
}

/* FNV-1a, 64 bits. */
static uint64_t hash(const void *data, size_t size)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        value = (value ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return value;
}

static const struct model_layer *layer(const struct model *model, const char *path)
{
    int index = model_find_layer(model, path);
    if (index < 0)
        fail_msg("no layer %s", path);
    return &model->layers[index];
}

static void assert_weight(const struct model *model, const char *path, size_t index,
                          const char *name, const char *shape, uint64_t expected)
{
    char text[128];
    const struct model_layer *owner = layer(model, path);
    assert_true(index < owner->weight_count);
    const struct model_weight *weight = &owner->weights[index];
    assert_string_equal(weight->name, name);
    assert_int_equal(weight->dtype, DTYPE_F32);
    assert_string_equal(shape_format(text, sizeof text, &weight->shape), shape);
    assert_int_equal(hash(weight->data, weight->bytes), expected);
}

static void assert_json(json_t *value, const char *expected)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    assert_string_equal(text, expected);
    free(text);
}

/* One line a node: "dense#1(2:0)" is the second call of dense on output 0 of node 2. */
static void assert_graph(const struct model *model, const char *expected)
{
    char text[4096] = "";
    size_t used = 0;
    for (size_t i = 0; i < model->node_count; i++) {
        const struct model_node *node = &model->nodes[i];
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s#%d(", i ? " " : "",
                                 model->layers[node->layer].path, node->call);
        for (size_t j = 0; j < node->input_count; j++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%d:%d", j ? " " : "",
                                     node->inputs[j].node, node->inputs[j].output);
        used += (size_t)snprintf(text + used, sizeof text - used, ")");
    }
    assert_string_equal(text, expected);
}

static void sequential_in(const char *path, const char *format)
{
    struct model *model = load(path);
    assert_string_equal(model->format, format);
    assert_string_equal(model->writer, "Keras 3.16.0");
    assert_string_equal(model->name, "sequential");
    assert_graph(model, "input_layer#0() conv2d#0(0:0) max_pooling2d#0(1:0) flatten#0(2:0) "
                        "dense#0(3:0) dense_1#0(4:0)");
    assert_int_equal(model->input_count, 1);
    assert_int_equal(model->inputs[0].shape.dims[0], DIM_UNKNOWN);
    assert_int_equal(model->inputs[0].shape.dims[3], 3);
    assert_string_equal(model->outputs[0].name, "dense_1");
    assert_weight(model, "conv2d", 0, "kernel", "(3, 3, 3, 4)", 0xc822463d9b588bd2u);
    assert_weight(model, "conv2d", 1, "bias", "(4,)", 0x68405aaaa632e00cu);
    assert_weight(model, "dense", 0, "kernel", "(36, 5)", 0xf3a00a4023160943u);
    assert_weight(model, "dense", 1, "bias", "(5,)", 0xebdd725d7c3dd4d6u);
    assert_weight(model, "dense_1", 0, "kernel", "(5, 2)", 0xca03236ba3bf11f1u);
    assert_int_equal(model->parameters, 112 + 185 + 12);
    assert_int_equal(model->weight_bytes, 4 * (112 + 185 + 12));
    json_t *config = layer(model, "conv2d")->config;
    assert_json(json_object_get(config, "activation"), "\"relu\"");
    assert_json(json_object_get(config, "dtype"), "\"float32\"");
    assert_json(json_object_get(config, "kernel_size"), "[3,3]");
    assert_json(json_object_get(config, "_keras_major"), "3");
    assert_null(json_object_get(config, "kernel_initializer"));
    model_free(model);
}

static void sequential(void **state)
{
    (void)state;
    sequential_in(DATA "seq_plain.h5", "h5");
    sequential_in(DATA "seq_plain.keras", "keras");
}

static void shared_layer_and_dict_outputs(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "shared_layer.h5", DATA "shared_layer.keras"};
    for (size_t i = 0; i < 2; i++) {
        struct model *model = load(files[i]);
        assert_graph(model, "input_layer#0() dense#0(0:0) dense#1(1:0) input_layer_1#0() "
                            "dense#2(3:0) add#0(2:0 4:0)");
        assert_json(model->nodes[5].args, "[[{\"tensor\":0},{\"tensor\":1}]]");
        assert_int_equal(model->input_count, 2);
        assert_int_equal(model->inputs[1].tensor.node, 3);
        assert_int_equal(model->output_count, 2); /* sorted keys, whatever the file's order */
        assert_string_equal(model->outputs[0].name, "a");
        assert_string_equal(model->outputs[1].name, "s");
        assert_weight(model, "dense", 0, "kernel", "(4, 4)", 0xb35f7fcea816fafcu);
        assert_int_equal(model->parameters, 20);
        model_free(model);
    }
}

/* conv2d and batch_normalization are frozen: the HDF5 file lists the trainable weights first. */
static void nested_and_frozen(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "nested_frozen.h5", DATA "nested_frozen.keras"};
    for (size_t i = 0; i < 2; i++) {
        struct model *model = load(files[i]);
        assert_graph(model, "input_layer_1#0() base/conv2d#0(0:0) base/batch_normalization#0(1:0) "
                            "base/conv2d_1#0(2:0) base/batch_normalization_1#0(3:0) "
                            "global_max_pooling2d#0(4:0) dense#0(5:0)");
        assert_weight(model, "base/conv2d", 0, "kernel", "(3, 3, 3, 4)", 0x1b2d5e5f7fcaf085u);
        assert_weight(model, "base/conv2d", 1, "bias", "(4,)", 0xfdd0ae8c194a1986u);
        assert_weight(model, "base/batch_normalization", 0, "gamma", "(4,)", 0xa65fbf0daf7cfc50u);
        assert_weight(model, "base/batch_normalization", 1, "beta", "(4,)", 0x4aa303342b982a40u);
        assert_weight(model, "base/batch_normalization", 2, "moving_mean", "(4,)",
                      0xeb2a45766d42e0d2u);
        assert_weight(model, "base/batch_normalization", 3, "moving_variance", "(4,)",
                      0xb84651469eb5a56u);
        assert_weight(model, "base/conv2d_1", 0, "kernel", "(3, 3, 4, 4)", 0x7ac8d6e3b5f7c006u);
        assert_weight(model, "base/batch_normalization_1", 0, "gamma", "(4,)", 0x692680807b761657u);
        assert_weight(model, "base/batch_normalization_1", 3, "moving_variance", "(4,)",
                      0x7fc955c33918ab8eu);
        assert_weight(model, "dense", 0, "kernel", "(4, 2)", 0x8e1e17f6b1f617d3u);
        assert_int_equal(model_find_layer(model, "conv2d"), model_find_layer(model, "base/conv2d"));
        assert_int_equal(model_find_layer(model, "nothing"), -1);
        model_free(model);
    }
}

/* In HDF5 no module tells the op Add from the layer Add. */
static void op_nodes(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "ops_mix.h5", DATA "ops_mix.keras"};
    for (size_t i = 0; i < 2; i++) {
        struct model *model = load(files[i]);
        assert_int_equal(model->node_count, 27);
        assert_int_equal(model->parameters, 0);
        assert_string_equal(layer(model, "add")->class_name, "ops.Add");
        assert_true(layer(model, "add")->is_op);
        assert_false(layer(model, "input_layer")->is_op);
        assert_json(model->nodes[2].args, "[{\"tensor\":0},1]");
        assert_json(model->nodes[5].args, "[1,{\"tensor\":0}]");
        assert_json(model->nodes[6].args,
                    "[{\"tensor\":0},[{\"class_name\":\"__slice__\",\"config\":{\"start\":null,"
                    "\"step\":null,\"stop\":null}},{\"class_name\":\"__slice__\",\"config\":"
                    "{\"start\":1,\"step\":null,\"stop\":3}}]]");
        assert_int_equal(model->nodes[15].inputs[1].output, 1); /* the second half of a split */
        model_free(model);
    }
}

static void describes_itself(void **state)
{
    (void)state;
    struct model *model = load(DATA "nested_frozen.keras");
    json_t *about = model_describe(model);
    assert_json(json_object_get(about, "parameters"), "302");
    assert_json(json_object_get(about, "inputs"),
                "[{\"dtype\":\"float32\",\"name\":\"input_layer_1\",\"shape\":[null,6,6,3]}]");
    assert_json(json_array_get(json_object_get(about, "layers"), 1),
                "{\"calls\":1,\"class\":\"Conv2D\",\"is_op\":false,\"name\":\"conv2d\","
                "\"parameters\":112,\"path\":\"base/conv2d\"}");
    json_decref(about);
    model_free(model);
}

static void shape_binds_open_dims(void **state)
{
    (void)state;
    struct error error = {0};
    struct shape wrong = shape_of(2, (int64_t[]){8, 8});
    struct model_options options = {.shape = &wrong};
    assert_null(model_load(DATA "seq_plain.keras", &options, &error));
    assert_int_equal(error.code, ERROR_MODEL_SHAPE);
    struct shape right = shape_of(3, (int64_t[]){8, 8, 3});
    options.shape = &right;
    struct model *model = model_load(DATA "seq_plain.keras", &options, &error);
    assert_non_null(model);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequential),        cmocka_unit_test(shared_layer_and_dict_outputs),
        cmocka_unit_test(nested_and_frozen), cmocka_unit_test(op_nodes),
        cmocka_unit_test(describes_itself),  cmocka_unit_test(shape_binds_open_dims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
