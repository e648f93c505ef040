/* What other writers do differently: tf.keras 2.12 and 2.15, other number formats, other HDF5
 * habits. The tf2* files were written by those versions; hashes are those of their own arrays. */
#include "engine/model.h"
#include "support/hostile.h"

#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

#define DATA "tests/data/keras/"

static char path[64];

static struct model *load(const char *file, const char *weights)
{
    struct error error = {0};
    struct model_options options = {.weights = weights};
    struct model *model = model_load(file, &options, &error);
    if (model == NULL)
        fail_msg("%s: E%03d %s: %s", file, error.code, error.what, error.why);
    return model;
}

static const struct model_layer *layer(const struct model *model, const char *name)
{
    int index = model_find_layer(model, name);
    if (index < 0)
        fail_msg("no layer %s", name);
    return &model->layers[index];
}

/* FNV-1a, 64 bits. */
static uint64_t hash(const struct model_weight *weight)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (size_t i = 0; i < weight->bytes; i++)
        value = (value ^ ((const unsigned char *)weight->data)[i]) * 0x100000001b3u;
    return value;
}

static void assert_text(json_t *value, const char *expected)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    assert_string_equal(text, expected);
    free(text);
}

/* A nested Functional called twice (its calls are numbered from 1), a nested Sequential called
 * twice, and batch normalization frozen inside. */
static void tf_nested(void **state)
{
    (void)state;
    static const struct {
        const char *file, *weights, *format, *writer;
    } files[] = {
        {DATA "tf215_nested.h5", NULL, "h5", "tf.keras 2.15.0"},
        {DATA "tf212_nested.keras", NULL, "keras", "tf.keras 2.12.0"},
        {DATA "tf215_nested.json", DATA "tf215_nested.h5", "json+weights", "tf.keras 2.15.0"},
    };
    static const struct {
        const char *layer;
        size_t index;
        uint64_t hash;
    } weights[] = {
        {"inner/dense", 0, 0x26b5b69f7d8c94b4u},
        {"inner/dense", 1, 0xe193cd0332222ef2u},
        {"inner/batch_normalization", 0, 0xb7590dda2ddbe3eu},
        {"inner/batch_normalization", 1, 0x45e5098c90ac43f5u},
        {"inner/batch_normalization", 2, 0xdafa2ccfb5233b14u},
        {"inner/batch_normalization", 3, 0x51ac5f71ae7c3aeau},
        {"inner/dense_1", 0, 0x402f12616199eeu},
        {"inner/dense_1", 1, 0x29721c94f495d42bu},
        {"head/dense_2", 0, 0x7cd9301eb215613cu},
        {"head/dense_2", 1, 0x94c790ff712c66cu},
        {"head/dense_3", 0, 0x4700add131867acu},
        {"head/dense_3", 1, 0x164e5ea737bf483eu},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct model *model = load(files[i].file, files[i].weights);
        assert_string_equal(model->format, files[i].format);
        assert_string_equal(model->writer, files[i].writer);
        assert_int_equal(model->node_count, 14);
        assert_int_equal(model->outputs[0].tensor.node, 12);
        /* the last call of the inner model feeds the second call of the head */
        assert_int_equal(model->nodes[10].inputs[0].node, 7);
        assert_int_equal(model->nodes[10].call, 1);
        assert_text(model->nodes[13].args, "[[{\"tensor\":0},{\"tensor\":1}]]");
        for (size_t j = 0; j < sizeof weights / sizeof *weights; j++)
            assert_int_equal(hash(&layer(model, weights[j].layer)->weights[weights[j].index]),
                             weights[j].hash);
        model_free(model);
    }
}

static void tf_sequential(void **state)
{
    (void)state;
    struct model *model = load(DATA "tf215_seq.h5", NULL);
    assert_string_equal(model->inputs[0].name, "conv2d_input"); /* the file has no input layer */
    assert_int_equal(model->inputs[0].shape.dims[1], 8);
    json_t *config = layer(model, "conv2d")->config;
    assert_text(json_object_get(config, "padding"), "\"same\""); /* written as SAME */
    assert_text(json_object_get(config, "activation"), "\"silu\"");
    assert_text(json_object_get(layer(model, "batch_normalization")->config, "axis"), "3");
    json_t *slope = json_object_get(layer(model, "leaky_re_lu")->config, "negative_slope");
    assert_true(fabs(json_number_value(slope) - 0.2) < 1e-6);
    assert_int_equal(hash(&layer(model, "depthwise_conv2d")->weights[0]), 0xde0bacb77820016fu);
    assert_int_equal(hash(&layer(model, "dense")->weights[1]), 0xa5263e6e7b5ede8u);
    model_free(model);
}

static void tf_op_layers(void **state)
{
    (void)state;
    static const struct {
        const char *layer, *class_name, *args, *key, *value;
    } expected[] = {
        {"tf.math.multiply", "ops.Multiply", "[{\"tensor\":0},2.0]", NULL, NULL},
        {"tf.math.subtract", "ops.Subtract", "[1.0,{\"tensor\":0}]", NULL, NULL},
        {"tf.concat", "ops.Concatenate", "[[{\"tensor\":0},{\"tensor\":1}]]", "axis", "-1"},
        {"tf.math.reduce_mean", "ops.Mean", "[{\"tensor\":0}]", "keepdims", "true"},
        {"tf.compat.v1.transpose", "ops.Transpose", "[{\"tensor\":0}]", "axes", "[0,2,1]"},
        {"tf.linalg.matmul", "ops.Matmul", "[{\"tensor\":0},{\"tensor\":1}]", NULL, NULL},
        {"tf.split", "ops.Split", "[{\"tensor\":0}]", "indices_or_sections", "2"},
        {"tf.stack", "ops.Stack", "[[{\"tensor\":0},{\"tensor\":1}]]", "axis", "1"},
        {"tf.reshape", "ops.Reshape", "[{\"tensor\":0}]", "newshape", "[-1,48]"},
        {"tf.compat.v1.gather", "ops.Take", "[{\"tensor\":0},[0,2]]", "axis", "1"},
        {"tf.where", "ops.Where", "[{\"tensor\":0},{\"tensor\":1},{\"tensor\":2}]", NULL, NULL},
        {"tf.clip_by_value", "ops.Clip", "[{\"tensor\":0}]", "x_max", "1.0"},
        {"tf.nn.gelu", "ops.Gelu", "[{\"tensor\":0}]", "approximate", "false"},
        {"tf.image.resize", "ops.Resize", "[{\"tensor\":0}]", "size", "[3,3]"},
        {"tf.math.truediv_1", "ops.TrueDivide", "[2.0,{\"tensor\":0}]", NULL, NULL},
        {"tf.__operators__.getitem_1", "ops.GetItem",
         "[{\"tensor\":0},[{\"class_name\":\"__slice__\",\"config\":{\"start\":null,\"step\":null,"
         "\"stop\":null}},-1]]",
         NULL, NULL},
    };
    struct model *model = load(DATA "tf215_ops.h5", NULL);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct model_layer *op = layer(model, expected[i].layer);
        assert_string_equal(op->class_name, expected[i].class_name);
        assert_true(op->is_op);
        if (expected[i].key != NULL)
            assert_text(json_object_get(op->config, expected[i].key), expected[i].value);
        for (size_t j = 0; j < model->node_count; j++) {
            if (&model->layers[model->nodes[j].layer] != op)
                continue;
            assert_text(model->nodes[j].args, expected[i].args);
            assert_text(model->nodes[j].kwargs, "{}");
        }
    }
    model_free(model);
}

/* --- the same weights stored in other ways --------------------------------------------------- */

static void copy_file(const char *name)
{
    char buffer[65536];
    FILE *in = fopen(name, "rb"), *out = fopen(path, "wb");
    assert_non_null(in);
    assert_non_null(out);
    size_t size = fread(buffer, 1, sizeof buffer, in);
    assert_int_equal(fwrite(buffer, 1, size, out), size);
    fclose(in);
    fclose(out);
}

static void copy_sample(void)
{
    copy_file(DATA "shared_layer.h5");
}

/* Quarters are exact in every format that is tried. */
static float element(int i)
{
    return (float)(i - 7) * 0.25f;
}

/* Store the kernel of layer "dense" anew as `type`, which HDF5 converts floats to. */
static void store_kernel(hid_t type, hid_t create)
{
    copy_sample();
    float values[16];
    unsigned char halves[32];
    for (int i = 0; i < 16; i++) {
        values[i] = element(i);
        memcpy(halves + 2 * i, (char *)&values[i] + 2, 2); /* bfloat16: the upper half */
    }
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(file, "model_weights/dense/dense", H5P_DEFAULT);
    hid_t space = H5Screate_simple(2, (hsize_t[]){4, 4}, NULL);
    assert_true(H5Ldelete(group, "kernel", H5P_DEFAULT) >= 0);
    hid_t set = H5Dcreate2(group, "kernel", type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(set >= 0);
    bool opaque = H5Tget_class(type) == H5T_OPAQUE;
    assert_true(H5Dwrite(set, opaque ? type : H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                         opaque ? (void *)halves : (void *)values) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Gclose(group);
    H5Fclose(file);
}

static void assert_kernel(void)
{
    struct model *model = load(path, NULL);
    const struct model_weight *kernel = &layer(model, "dense")->weights[0];
    assert_int_equal(kernel->dtype, DTYPE_F32);
    for (int i = 0; i < 16; i++)
        assert_true(((const float *)kernel->data)[i] == element(i));
    model_free(model);
}

static hid_t half_type(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

static void number_formats(void **state)
{
    (void)state;
    hid_t half = half_type(), bfloat = H5Tcreate(H5T_OPAQUE, 2);
    const hid_t types[] = {H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_IEEE_F32BE,
                           H5T_IEEE_F64BE, half,           bfloat};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        store_kernel(types[i], H5P_DEFAULT);
        assert_kernel();
    }
    H5Tclose(half);
    H5Tclose(bfloat);
}

static void storage_formats(void **state)
{
    (void)state;
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 2, (hsize_t[]){3, 4});
    H5Pset_shuffle(create);
    H5Pset_deflate(create, 4);
    H5Pset_fletcher32(create);
    store_kernel(H5T_IEEE_F32LE, create);
    assert_kernel();
    H5Pclose(create);
    create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(create, H5D_COMPACT);
    store_kernel(H5T_IEEE_F32LE, create);
    assert_kernel();
    H5Pclose(create);
    /* bzip2 has a number and no decoder here: the reader says the number */
    create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 2, (hsize_t[]){4, 4});
    H5Pset_filter(create, 307, H5Z_FLAG_OPTIONAL, 0, NULL);
    store_kernel(H5T_IEEE_F32LE, create);
    H5Pclose(create);
    struct error error = {0};
    assert_null(model_load(path, NULL, &error));
    assert_int_equal(error.code, ERROR_MODEL_REFUSED);
    assert_non_null(strstr(error.why, "filter 307"));
}

/* Strings of fixed length that fill their cell: no NUL at the end. */
static void write_names(hid_t group, const char *name, const char *cells, size_t cell,
                        hsize_t count)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &count, NULL);
    H5Tset_size(type, cell);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    hid_t attribute = H5Acreate2(group, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0);
    H5Awrite(attribute, type, cells);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static void split_and_padded_names(void **state)
{
    (void)state;
    copy_sample();
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(file, "model_weights", H5P_DEFAULT);
    H5Adelete(group, "layer_names");
    write_names(group, "layer_names0", "input_layer\0\0dense\0\0\0\0\0\0\0\0", 13, 2);
    write_names(group, "layer_names1", "input_layer_1add\0\0\0\0\0\0\0\0\0\0", 13, 2);
    H5Adelete_by_name(group, "dense", "weight_names", H5P_DEFAULT);
    hid_t dense = H5Gopen2(group, "dense", H5P_DEFAULT);
    write_names(dense, "weight_names", "dense/kerneldense/bias\0\0", 12, 2);
    H5Gclose(dense);
    H5Gclose(group);
    H5Fclose(file);
    struct model *model = load(path, NULL);
    assert_int_equal(model->parameters, 20);
    assert_int_equal(hash(&layer(model, "dense")->weights[0]), 0xb35f7fcea816fafcu);
    model_free(model);
}

/* Old writers name no variable: the weights of a nested model are told apart by their order alone,
 * trainable ones first. In this file half of the model is frozen. */
static void names_that_say_nothing(void **state)
{
    (void)state;
    copy_file(DATA "nested_frozen.h5");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(file, "model_weights/base", H5P_DEFAULT);
    static const char *const order[] = {"conv2d_1/kernel",
                                        "conv2d_1/bias",
                                        "batch_normalization_1/gamma",
                                        "batch_normalization_1/beta",
                                        "conv2d/kernel",
                                        "conv2d/bias",
                                        "batch_normalization/gamma",
                                        "batch_normalization/beta",
                                        "batch_normalization/moving_mean",
                                        "batch_normalization/moving_variance",
                                        "batch_normalization_1/moving_mean",
                                        "batch_normalization_1/moving_variance"};
    char cells[12 * 8] = "";
    for (int i = 0; i < 12; i++) {
        char *name = cells + (size_t)i * 8;
        memcpy(name, "param_", 6);
        name[6] = (char)('a' + i);
        assert_true(H5Lmove(group, order[i], group, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    }
    H5Adelete(group, "weight_names");
    write_names(group, "weight_names", cells, 8, 12);
    H5Gclose(group);
    H5Fclose(file);
    struct model *model = load(path, NULL), *same = load(DATA "nested_frozen.h5", NULL);
    static const char *const layers[] = {"base/conv2d", "base/conv2d_1", "base/batch_normalization",
                                         "base/batch_normalization_1"};
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        const struct model_layer *a = layer(model, layers[i]), *b = layer(same, layers[i]);
        assert_int_equal(a->weight_count, b->weight_count);
        for (size_t j = 0; j < a->weight_count; j++) {
            assert_string_equal(a->weights[j].name, b->weights[j].name);
            assert_int_equal(hash(&a->weights[j]), hash(&b->weights[j]));
        }
    }
    model_free(same);
    model_free(model);
}

/* One member of an archive as a file. */
static void unpack(zip_t *zip, const char *member, const char *to)
{
    static char buffer[1 << 16];
    zip_file_t *file = zip_fopen(zip, member, 0);
    assert_non_null(file);
    zip_int64_t size = zip_fread(file, buffer, sizeof buffer);
    zip_fclose(file);
    FILE *out = fopen(to, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(buffer, 1, (size_t)size, out), size);
    fclose(out);
}

/* Put every group that holds variables at the root, under its path joined by backslashes. */
static herr_t fold(hid_t from, const char *name, const H5L_info_t *link, void *to)
{
    char folded[512];
    snprintf(folded, sizeof folded, "%s", name);
    char *end = strrchr(folded, '/');
    (void)link;
    if (end == NULL || strcmp(end, "/vars") != 0)
        return 0;
    *end = '\0';
    for (char *c = folded; (c = strchr(c, '/')) != NULL;)
        *c = '\\';
    hid_t group = H5Gcreate2(*(hid_t *)to, folded, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Ocopy(from, name, group, "vars", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Gclose(group);
    return 0;
}

/* tf.keras on Windows joined the paths inside the weights by backslashes. */
static void windows_paths(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "metadata.json", "model.weights.h5",
                                        "plain.h5"};
    char folder[] = "/tmp/layertop-windows-XXXXXX", files[4][96];
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 4; i++)
        snprintf(files[i], sizeof files[i], "%s/%s", folder, names[i]);
    zip_t *zip = zip_open(DATA "tf212_nested.keras", ZIP_RDONLY, NULL);
    unpack(zip, names[0], files[0]);
    unpack(zip, names[1], files[1]);
    unpack(zip, names[2], files[3]);
    zip_discard(zip);
    hid_t from = H5Fopen(files[3], H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t to = H5Fcreate(files[2], H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Lvisit(from, H5_INDEX_NAME, H5_ITER_INC, fold, &to) >= 0);
    assert_true(H5Lexists(to, "_layer_checkpoint_dependencies", H5P_DEFAULT) == 0);
    H5Fclose(to);
    H5Fclose(from);
    struct model *model = load(folder, NULL), *same = load(DATA "tf212_nested.keras", NULL);
    assert_int_equal(model->layer_count, same->layer_count);
    for (size_t i = 0; i < model->layer_count; i++) {
        const struct model_layer *a = &model->layers[i], *b = &same->layers[i];
        assert_int_equal(a->weight_count, b->weight_count);
        for (size_t j = 0; j < a->weight_count; j++)
            assert_int_equal(hash(&a->weights[j]), hash(&b->weights[j]));
    }
    model_free(same);
    model_free(model);
    for (int i = 0; i < 4; i++)
        unlink(files[i]);
    rmdir(folder);
}

/* MobileNetV3 of tf.keras calls its layers "expanded_conv/squeeze_excite/Conv", and HDF5 takes that
 * for a path: the group of one layer may lie in the group of another. */
static void slashes_in_names(void **state)
{
    (void)state;
    copy_sample();
    hostile_edit_config(path, "\"dense\"", "\"block/a/dense\"");
    hostile_edit_config(path, "\"add\"", "\"block\"");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t group = H5Gopen2(file, "model_weights", H5P_DEFAULT);
    H5Lmove(group, "add", group, "block", links, H5P_DEFAULT);
    H5Lmove(group, "dense", group, "block/a/dense", links, H5P_DEFAULT);
    hid_t dense = H5Gopen2(group, "block/a/dense", H5P_DEFAULT);
    H5Lmove(dense, "dense", dense, "block/a/dense", links, H5P_DEFAULT);
    H5Adelete(dense, "weight_names");
    write_names(dense, "weight_names", "block/a/dense/kernelblock/a/dense/bias\0\0", 20, 2);
    H5Adelete(group, "layer_names");
    write_names(group, "layer_names",
                "input_layer\0\0\0"
                "block/a/dense\0"
                "input_layer_1\0"
                "block\0\0\0\0\0\0\0\0\0",
                14, 4);
    H5Gclose(dense);
    H5Gclose(group);
    H5Pclose(links);
    H5Fclose(file);
    struct model *model = load(path, NULL);
    const struct model_layer *found = layer(model, "block/a/dense");
    assert_int_equal(found->weight_count, 2);
    assert_int_equal(hash(&found->weights[0]), 0xb35f7fcea816fafcu);
    assert_string_equal(found->weights[1].name, "bias");
    assert_int_equal(layer(model, "block")->weight_count, 0);
    json_t *outputs = json_pack("[s]", "block/a/dense");
    struct error error = {0};
    struct model *part = model_load(path, &(struct model_options){.outputs = outputs}, &error);
    assert_non_null(part);
    assert_string_equal(part->outputs[0].name, "block/a/dense");
    json_decref(outputs);
    model_free(part);
    model_free(model);
}

/* A user block moves every address in the file. */
static void user_block(void **state)
{
    (void)state;
    copy_sample();
    char moved[80];
    snprintf(moved, sizeof moved, "%s.moved", path);
    hid_t create = H5Pcreate(H5P_FILE_CREATE), from = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    H5Pset_userblock(create, 1024);
    hid_t to = H5Fcreate(moved, H5F_ACC_TRUNC, create, H5P_DEFAULT);
    assert_true(H5Ocopy(from, "model_weights", to, "model_weights", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    static const char *const names[] = {"model_config", "keras_version", "backend"};
    for (size_t i = 0; i < 3; i++) { /* the root's attributes */
        hid_t read = H5Aopen_by_name(from, "/", names[i], H5P_DEFAULT, H5P_DEFAULT);
        hid_t type = H5Aget_type(read), space = H5Aget_space(read);
        char *text = NULL;
        H5Aread(read, type, &text);
        hid_t write = H5Acreate_by_name(to, "/", names[i], type, space, H5P_DEFAULT, H5P_DEFAULT,
                                        H5P_DEFAULT);
        H5Awrite(write, type, &text);
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, &text);
        H5Aclose(write);
        H5Sclose(space);
        H5Tclose(type);
        H5Aclose(read);
    }
    H5Pclose(create);
    H5Fclose(from);
    H5Fclose(to);
    struct model *model = load(moved, NULL);
    assert_int_equal(hash(&layer(model, "dense")->weights[0]), 0xb35f7fcea816fafcu);
    model_free(model);
    unlink(moved);
}

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/layertop-test-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tf_nested),
        cmocka_unit_test(tf_sequential),
        cmocka_unit_test(tf_op_layers),
        cmocka_unit_test(number_formats),
        cmocka_unit_test(storage_formats),
        cmocka_unit_test(split_and_padded_names),
        cmocka_unit_test(names_that_say_nothing),
        cmocka_unit_test(windows_paths),
        cmocka_unit_test(slashes_in_names),
        cmocka_unit_test(user_block),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
