/* Models that contradict themselves: one thing in an honest file is made wrong, and what comes is one
 * clear error, from the reader or from the lowering, soon and with bounded memory. (What damages the
 * container is in test_keras_hostile.c.) */
#include "support/hostile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#define DATA "tests/data/keras/"

/* ---- architectures without weights: only numbers can be wrong ---- */

static void wrong_numbers(void **state)
{
    (void)state;
    static const char *const texts[] = {
        HOSTILE_CHAIN("UpSampling2D", ",\"size\":[2147483647,2147483647]"),
        HOSTILE_CHAIN("UpSampling2D", ",\"size\":[4611686018427387904,4]"),
        HOSTILE_CHAIN("UpSampling2D", ",\"size\":[0,1]"),
        HOSTILE_CHAIN("UpSampling2D", ",\"size\":[NaN,1]"),
        HOSTILE_CHAIN("ZeroPadding2D",
                      ",\"padding\":[[9223372036854775807,9223372036854775807],[0,0]]"),
        HOSTILE_CHAIN("ZeroPadding2D", ",\"padding\":[[-9,0],[0,0]]"),
        HOSTILE_CHAIN("Cropping2D", ",\"cropping\":[[4,4],[0,0]]"),
        HOSTILE_CHAIN("Cropping2D", ",\"cropping\":[[-9223372036854775808,0],[0,0]]"),
        HOSTILE_CHAIN("MaxPooling2D", ",\"pool_size\":[0,0]"),
        HOSTILE_CHAIN("MaxPooling2D", ",\"pool_size\":[2,2],\"strides\":[0,1]"),
        HOSTILE_CHAIN("MaxPooling2D", ",\"pool_size\":[9,9],\"padding\":\"valid\""),
        HOSTILE_CHAIN("AveragePooling2D",
                      ",\"pool_size\":[4294967297,4294967297],\"padding\":\"same\","
                      "\"strides\":[-1,-1]"),
        HOSTILE_CHAIN("Reshape", ",\"target_shape\":[-1,-1]"),
        HOSTILE_CHAIN("Reshape", ",\"target_shape\":[5,5]"),
        HOSTILE_CHAIN("Reshape", ",\"target_shape\":[4294967296,4294967296]"),
        HOSTILE_CHAIN("Reshape", ",\"target_shape\":[0]"),
        HOSTILE_CHAIN("Reshape", ",\"target_shape\":[1,1,1,1,1,1,1,1,1,1,256]"),
        HOSTILE_CHAIN("Permute", ",\"dims\":[1,1,2]"),
        HOSTILE_CHAIN("Permute", ",\"dims\":[1,2,9]"),
        HOSTILE_CHAIN("RepeatVector", ",\"n\":1099511627776"),
        HOSTILE_CHAIN("Softmax", ",\"axis\":9"),
        HOSTILE_CHAIN("Softmax", ",\"axis\":[1,-99]"),
        HOSTILE_CHAIN("Resizing", ",\"height\":0,\"width\":4"),
        HOSTILE_CHAIN("Resizing", ",\"height\":4611686018427387904,\"width\":4611686018427387904"),
        HOSTILE_CHAIN("CenterCrop", ",\"height\":-1,\"width\":4"),
        HOSTILE_CHAIN("Activation", ",\"activation\":\"\\u001b[2J\""),
        HOSTILE_CHAIN("Activation", ",\"activation\":{\"class_name\":7}"),
        HOSTILE_CHAIN("UnitNormalization", ",\"axis\":[0,1,2,3,4,5,6,7,8,9]"),
        HOSTILE_CHAIN("Mine\\u001b[2J", ""),
        HOSTILE_CHAIN("TimeDistributed", ""),
        HOSTILE_CHAIN("TimeDistributed", ",\"layer\":{\"class_name\":\"Mine\",\"config\":{}}"),
        HOSTILE_CHAIN("Bidirectional", ",\"layer\":{\"class_name\":[]}"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error error;
        if (hostile_works(hostile_write_text("model.json", texts[i]), NULL, &error))
            fail_msg("taken: %s", texts[i] + 160);
    }
    struct error error;
    assert_true(hostile_works(
        hostile_write_text("model.json", HOSTILE_CHAIN("UpSampling2D", ",\"size\":[2,2]")), NULL,
        &error));
}

/* ---- whole files with one thing wrong ---- */

/* A copy of shared_layer.h5, with `from` (unless NULL) in its configuration replaced by `to`. */
static const char *edited(const char *from, const char *to)
{
    const char *path = hostile_copy(DATA "shared_layer.h5", "edited.h5");
    if (from != NULL)
        hostile_edit_config(path, from, to);
    return path;
}

static void wrong_config(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        enum error_code code;
        const char *why;
    } cases[] = {
        {"\"units\": 4", "\"units\": 5", ERROR_MODEL_WEIGHTS, "(4, 5)"},
        {"\"units\": 4", "\"units\": NaN", ERROR_MODEL_SHAPE, "units"},
        {"\"units\": 4", "\"units\": -4", ERROR_MODEL_SHAPE, "units"},
        {"\"units\": 4", "\"units\": 4611686018427387904", ERROR_MODEL_SHAPE, "units"},
        {"\"use_bias\": true", "\"use_bias\": false", ERROR_MODEL_WEIGHTS, "asks for 1"},
        {"\"class_name\": \"Dense\"", "\"class_name\": \"Mine\"", ERROR_MODEL_LAYERS, "Mine"},
        {"[\"dense\", 0, 0]", "[\"dense\", 0, 7]", ERROR_MODEL_BROKEN, "output 7"},
        {"[\"dense\", 0, 0]", "[\"dense\", 0, -1]", ERROR_MODEL_BROKEN, ""},
        {"[null, 4]", "[null, 5]", ERROR_MODEL_WEIGHTS, "(5, 4)"},
        {"[null, 4]", "[null, -4]", ERROR_MODEL_BROKEN, "shape"},
        {"[null, 4]", "[null, 4611686018427387904]", ERROR_MODEL_BROKEN, "shape"},
        {"\"name\": \"dense\"", "\"name\": \"\\u001b]0;x\\u0007\"", ERROR_MODEL_BROKEN, ""},
        {"\"sparse\": false", "\"sparse\": true", ERROR_MODEL_LAYERS, "sparse"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        hostile_must_fail(edited(cases[i].from, cases[i].to), NULL, cases[i].code, cases[i].why);
}

/* The numbers of a convolution, whose weights are there. */
static void wrong_convolutions(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"\"filters\": 4", "\"filters\": 5"},
        {"\"filters\": 4", "\"filters\": 0"},
        {"\"filters\": 4", "\"filters\": 4.5"},
        {"\"filters\": 4", "\"filters\": \"4\""},
        {"\"kernel_size\": [3, 3]", "\"kernel_size\": [3, 0]"},
        {"\"kernel_size\": [3, 3]", "\"kernel_size\": [3, 3, 3]"},
        {"\"kernel_size\": [3, 3]", "\"kernel_size\": [9223372036854775807, 3]"},
        {"\"strides\": [1, 1]", "\"strides\": [0, 1]"},
        {"\"strides\": [1, 1]", "\"strides\": [-1, 1]"},
        {"\"strides\": [1, 1]", "\"strides\": NaN"},
        {"\"dilation_rate\": [1, 1]", "\"dilation_rate\": [0, 1]"},
        {"\"dilation_rate\": [1, 1]", "\"dilation_rate\": [4611686018427387904, 1]"},
        {"\"groups\": 1", "\"groups\": 2"},
        {"\"groups\": 1", "\"groups\": 0"},
        {"\"groups\": 1", "\"groups\": -3"},
        {"\"pool_size\": [2, 2]", "\"pool_size\": [Infinity, 2]"},
        {"[null, 8, 8, 3]", "[null, 8, 8]"},
        {"[null, 8, 8, 3]", "[null, 8, 8, 3, 1, 1, 1, 1, 1, 1]"},
        {"[null, 8, 8, 3]", "[null, 8, -8, 3]"},
        {"[null, 8, 8, 3]", "[null, 2147483648, 2147483648, 3]"},
        {"\"padding\": \"valid\"", "\"padding\": \"full\\u001b[2J\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = hostile_copy(DATA "seq_plain.h5", "edited.h5");
        struct error error;
        hostile_edit_config(path, cases[i][0], cases[i][1]);
        if (hostile_works(path, NULL, &error))
            fail_msg("taken: %s", cases[i][1]);
    }
}

/* What a configuration names is never looked for: no vocabulary, no saved model, no code. */
static void names_of_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        {HOSTILE_CHAIN("IntegerLookup", ",\"vocabulary\":\"/etc/passwd\""), "vocabulary"},
        {HOSTILE_CHAIN("IntegerLookup", ",\"vocabulary\":\"../../etc/passwd\""), "vocabulary"},
        {HOSTILE_CHAIN("IntegerLookup", ",\"vocabulary\":\"http://169.254.169.254/\""),
         "vocabulary"},
        {HOSTILE_CHAIN("IntegerLookup", ",\"vocabulary\":[\"/etc/passwd\"]"), "vocabulary"},
        {HOSTILE_CHAIN("StringLookup", ",\"vocabulary\":\"/etc/passwd\""), "StringLookup"},
        {HOSTILE_CHAIN("TextVectorization", ",\"vocabulary\":\"/etc/passwd\""),
         "TextVectorization"},
        {HOSTILE_CHAIN("TFSMLayer", ",\"filepath\":\"/etc\""), "TFSMLayer"},
        {HOSTILE_CHAIN("TorchModuleWrapper", ",\"module\":\"gASVAA==\""), "TorchModuleWrapper"},
        {HOSTILE_CHAIN("FlaxLayer", ",\"module\":\"gASVAA==\""), "FlaxLayer"},
        {HOSTILE_CHAIN("JaxLayer", ",\"call_fn\":{\"class_name\":\"__lambda__\"}"), "JaxLayer"},
        {HOSTILE_CHAIN("Lambda", ",\"function\":{\"class_name\":\"__lambda__\",\"config\":{"
                                 "\"code\":\"4wEA\"}}"),
         "Lambda"},
        {HOSTILE_CHAIN("Activation", ",\"activation\":{\"class_name\":\"__lambda__\",\"config\":"
                                     "{\"code\":\"4wEA\"}}"),
         "__lambda__"},
        {HOSTILE_CHAIN("get_file", ",\"origin\":\"http://169.254.169.254/\""), "get_file"},
        {HOSTILE_CHAIN("keras.utils>get_file", ",\"origin\":\"file:///etc/passwd\""), "get_file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        hostile_must_fail(hostile_write_text("model.json", cases[i].text), NULL, ERROR_MODEL_LAYERS,
                          cases[i].why);
}

/* A sound model whose every name would take the terminal over: it runs, and no byte of what is
 * printed is one of those. */
static void names_that_command(void **state)
{
    (void)state;
    const char *program = getenv("LAYERTOP_BIN");
    static const char text[] =
        "{\"class_name\":\"Sequential\",\"keras_version\":\"3.9.2\\u001b[2J\",\"backend\":\""
        "\\u009b31m\",\"config\":{\"name\":\"s\\u001b]0;x\\u0007\",\"layers\":[{\"class_name\":"
        "\"InputLayer\",\"config\":{\"name\":\"x\\u001b[2J\",\"batch_shape\":[null,4]}},{"
        "\"class_name\":\"ReLU\",\"config\":{\"name\":\"a\\r\\n\\u001b[2J\\u202e\",\"trainable\":"
        "true,\"dtype\":\"float32\\u001b[2J\"}}]}}";
    static const char *const modes[] = {"--plain", "--json", "--no-tui"};
    char command[1024];
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        snprintf(command, sizeof command,
                 "%s %s -c 'load %s; model summary; layers; run 2; layers; mem; show' 2>&1",
                 program != NULL ? program : "build/layertop", modes[i],
                 hostile_write_text("names.json", text));
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        size_t printed = 0;
        for (int c, before = 0; (c = fgetc(pipe)) != EOF; before = c, printed++) {
            if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ||
                (before == 0xc2 && c >= 0x80 && c < 0xa0))
                fail_msg("%s prints byte %02x", modes[i], (unsigned)c);
        }
        assert_true(printed > 1000);
        assert_int_equal(pclose(pipe), 0);
    }
}

/* Open the group of the layer's weights in a fresh copy. */
static hid_t open_group(const char *path, hid_t *file)
{
    *file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(*file, "model_weights/dense", H5P_DEFAULT);
    assert_true(group >= 0);
    return group;
}

static void name_weights(hid_t group, const char **names, hsize_t count)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &count, NULL);
    H5Tset_size(type, H5T_VARIABLE);
    H5Adelete(group, "weight_names");
    hid_t list = H5Acreate2(group, "weight_names", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(list, type, names) >= 0);
    H5Aclose(list);
    H5Sclose(space);
    H5Tclose(type);
}

static void wrong_weights(void **state)
{
    (void)state;
    hid_t file;
    const char *names[] = {"dense/kernel", "dense/bias", "dense/kernel"};
    const char *path = edited(NULL, NULL);
    hid_t group = open_group(path, &file);
    H5Ldelete(group, "dense/bias", H5P_DEFAULT);
    H5Gclose(group);
    H5Fclose(file);
    hostile_must_fail(path, NULL, ERROR_MODEL_WEIGHTS, "lacks");
    for (hsize_t count = 1; count <= 3; count += 2) { /* one too few, one too many */
        path = edited(NULL, NULL);
        group = open_group(path, &file);
        name_weights(group, names, count);
        H5Gclose(group);
        H5Fclose(file);
        hostile_must_fail(path, NULL, ERROR_MODEL_WEIGHTS, "asks for 2");
    }
    path =
        edited(NULL, NULL); /* the group of a layer is a soft link to another file's idea of it */
    group = open_group(path, &file);
    H5Gclose(group);
    H5Ldelete(file, "model_weights/dense", H5P_DEFAULT);
    H5Lcreate_soft("/model_weights/add", file, "model_weights/dense", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    hostile_must_fail(path, NULL, ERROR_MODEL_REFUSED, "soft link");
}

/* One chunk that inflates to 128 MiB out of 128 KiB. */
static void chunk_bomb(void **state)
{
    (void)state;
    hid_t file;
    const char *path = edited(NULL, NULL);
    hid_t group = open_group(path, &file), create = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t dims[2] = {8192, 4096}, origin[2] = {0, 0};
    size_t size = (size_t)(dims[0] * dims[1]) * sizeof(float);
    uLongf packed = compressBound(size);
    unsigned char *zeros = calloc(size, 1), *data = malloc(packed);
    assert_int_equal(compress2(data, &packed, zeros, size, 1), Z_OK);
    free(zeros);
    H5Ldelete(group, "dense/kernel", H5P_DEFAULT);
    H5Pset_chunk(create, 2, dims);
    H5Pset_deflate(create, 1);
    hid_t space = H5Screate_simple(2, dims, NULL);
    hid_t set =
        H5Dcreate2(group, "dense/kernel", H5T_IEEE_F32LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(H5Dwrite_chunk(set, H5P_DEFAULT, 0, origin, packed, data) >= 0);
    free(data);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(create);
    H5Gclose(group);
    H5Fclose(file);
    hostile_must_fail(path, NULL, ERROR_MODEL_BROKEN, "");
}

/* Groups that hold each other many times over: a walk through all paths would never end. */
static void links_in_circles(void **state)
{
    (void)state;
    char path[512], name[16];
    snprintf(path, sizeof path, "%s", hostile_path("circle.weights.h5"));
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t layers = H5Gcreate2(file, "layers", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t group = H5Gcreate2(layers, "dense", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "g%d", i);
        H5Lcreate_hard(layers, "dense", group, name, H5P_DEFAULT, H5P_DEFAULT);
    }
    H5Gclose(group);
    H5Gclose(layers);
    H5Fclose(file);
    struct error error;
    assert_false(hostile_works(
        hostile_write_text("model.json", HOSTILE_CHAIN("Dense", ",\"units\":3")), path, &error));
}

static void million_layers(void **state)
{
    (void)state;
    FILE *file = fopen(hostile_path("million.json"), "wb");
    assert_non_null(file);
    fputs("{\"class_name\":\"Sequential\",\"config\":[", file);
    for (int i = 0; i < 1000000; i++)
        fputs("{\"class_name\":\"ReLU\",\"config\":{}},", file);
    fputs("{\"class_name\":\"ReLU\",\"config\":{}}]}", file);
    fclose(file);
    hostile_must_fail(hostile_path("million.json"), NULL, ERROR_MODEL_REFUSED, "layers");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_numbers),      cmocka_unit_test(wrong_config),
        cmocka_unit_test(wrong_convolutions), cmocka_unit_test(names_of_files),
        cmocka_unit_test(names_that_command), cmocka_unit_test(wrong_weights),
        cmocka_unit_test(chunk_bomb),         cmocka_unit_test(links_in_circles),
        cmocka_unit_test(million_layers),
    };
    return cmocka_run_group_tests(tests, hostile_make_folder, hostile_remove_folder);
}
