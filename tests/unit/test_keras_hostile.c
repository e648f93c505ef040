/* Broken and malicious containers (HDF5, zip, JSON) end in one clear error, soon, with bounded
 * memory. (Honest containers with wrong models in them are in test_keras_negative.c.) */
#define _GNU_SOURCE /* memmem */
#include "support/hostile.h"

#include "engine/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zip.h>

#include <cmocka.h>

#define DATA "tests/data/keras/"

static void truncations(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "seq_plain.h5", DATA "nested_frozen.keras",
                                        DATA "ops_mix.h5", DATA "shared_layer.keras"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct hostile_bytes bytes = hostile_read(files[i]);
        size_t parts = i < 2 ? 64 : 16;
        for (size_t part = 0; part < parts; part++) {
            struct error error;
            const char *path = hostile_write("cut", bytes.data, bytes.size * part / parts);
            assert_false(hostile_works(path, NULL, &error));
        }
        free(bytes.data);
    }
}

static void bit_flips(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "shared_layer.h5", DATA "shared_layer.keras",
                                        DATA "seq_plain_lzf.h5"};
    size_t refused = 0, reports = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct hostile_bytes bytes = hostile_read(files[i]);
        uint32_t random = 12345;
        for (int round = 0; round < 250; round++) {
            random = random * 1664525u + 1013904223u;
            /* the superblock and the first headers, then anywhere */
            size_t at = (random >> 8) % (round % 2 ? bytes.size : 2048);
            char bit = (char)(1 << (random >> 5 & 7));
            struct error error;
            bytes.data[at] ^= bit;
            const char *path = hostile_write("flip", bytes.data, bytes.size);
            refused += strstr(files[i], ".h5") ? !hostile_works_but_for_hdf5(path, &reports, &error)
                                               : !hostile_works(path, NULL, &error);
            bytes.data[at] ^= bit;
        }
        free(bytes.data);
    }
    assert_true(refused > 50);
    assert_true(reports < 20); /* of 500 */
}

/* Replace the kernel of the first Dense of shared_layer.h5 by something else. */
static void replace_kernel(const char *path, void (*make)(hid_t group, const char *name))
{
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    hid_t group = H5Gopen2(file, "model_weights/dense/dense", H5P_DEFAULT);
    assert_true(group >= 0);
    assert_true(H5Ldelete(group, "kernel", H5P_DEFAULT) >= 0);
    make(group, "kernel");
    H5Gclose(group);
    H5Fclose(file);
}

static const hsize_t kernel_dims[2] = {4, 4};

static void make_external_link(hid_t group, const char *name)
{
    H5Lcreate_external("/etc/passwd", "/model_weights", group, name, H5P_DEFAULT, H5P_DEFAULT);
}

static void make_soft_link(hid_t group, const char *name)
{
    H5Lcreate_soft("/model_weights/dense/dense/bias", group, name, H5P_DEFAULT, H5P_DEFAULT);
}

static void make_dataset(hid_t group, const char *name, hid_t type, int rank, const hsize_t *dims,
                         hid_t create)
{
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(create);
}

static void make_external_storage(hid_t group, const char *name)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(create, "/etc/passwd", 0, 64);
    make_dataset(group, name, H5T_IEEE_F32LE, 2, kernel_dims, create);
}

static void make_virtual(hid_t group, const char *name)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, kernel_dims, NULL);
    H5Pset_virtual(create, space, "/etc/passwd", "x", space);
    H5Sclose(space);
    make_dataset(group, name, H5T_IEEE_F32LE, 2, kernel_dims, create);
}

/* Claims 2^60 bytes and stores none. */
static void make_huge(hid_t group, const char *name)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[2] = {4, 4}, dims[2] = {(hsize_t)1 << 29, (hsize_t)1 << 29};
    H5Pset_chunk(create, 2, chunk);
    make_dataset(group, name, H5T_IEEE_F32LE, 2, dims, create);
}

static void make_string(hid_t group, const char *name)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    make_dataset(group, name, type, 2, kernel_dims, H5Pcreate(H5P_DATASET_CREATE));
    H5Tclose(type);
}

static void make_group(hid_t group, const char *name)
{
    H5Gclose(H5Gcreate2(group, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

static void make_nothing(hid_t group, const char *name)
{
    (void)group;
    (void)name;
}

static void hdf5_reaches_outside(void **state)
{
    (void)state;
    static const struct {
        void (*make)(hid_t, const char *);
        enum error_code code;
        const char *why;
    } cases[] = {
        {make_external_link, ERROR_MODEL_REFUSED, "external link"},
        {make_soft_link, ERROR_MODEL_REFUSED, "soft link"},
        {make_external_storage, ERROR_MODEL_REFUSED, "external storage"},
        {make_virtual, ERROR_MODEL_REFUSED, "virtual"},
        {make_huge, ERROR_MODEL_BROKEN, "claims"},
        {make_string, ERROR_MODEL_REFUSED, "no kind of weight"},
        {make_group, ERROR_MODEL_BROKEN, "dataset is expected"},
        {make_nothing, ERROR_MODEL_WEIGHTS, "lacks"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = hostile_copy(DATA "shared_layer.h5", "evil.h5");
        replace_kernel(path, cases[i].make);
        hostile_must_fail(path, NULL, cases[i].code, cases[i].why);
    }
}

/* The group of all weights may be a link too. */
static void hdf5_group_is_a_link(void **state)
{
    (void)state;
    const char *path = hostile_copy(DATA "shared_layer.h5", "evil.h5");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    H5Ldelete(file, "model_weights", H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/", file, "model_weights", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    struct error error;
    assert_false(hostile_works(path, NULL, &error));
}

static const char *config_text = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[]}}";

static void zip_bomb(void **state)
{
    (void)state;
    const char *path = hostile_path("bomb.keras");
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    size_t size = 100u << 20;
    char *zeros = calloc(size, 1);
    hostile_add_member(zip, "config.json", config_text, strlen(config_text), true);
    hostile_add_member(zip, "model.weights.h5", zeros, size, true);
    assert_int_equal(zip_close(zip), 0);
    free(zeros);
    hostile_must_fail(path, NULL, ERROR_MODEL_REFUSED, "times its size");
}

static void zip_oddities(void **state)
{
    (void)state;
    static const struct {
        const char *second, *as;
        enum error_code code;
        const char *why;
    } cases[] = {
        {"config.jsoX", "config.json", ERROR_MODEL_REFUSED, "twice"},
        {"model.weights.npz", NULL, ERROR_MODEL_REFUSED, "pickle"},
        {"../../etc/passwd", NULL, ERROR_MODEL_BROKEN, "no model.weights.h5"},
        {"model.weights.h5", NULL, ERROR_MODEL_BROKEN, "HDF5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = hostile_path("odd.keras");
        zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
        hostile_add_member(zip, "config.json", config_text, strlen(config_text), false);
        hostile_add_member(zip, cases[i].second, "not HDF5", 8, false);
        assert_int_equal(zip_close(zip), 0);
        if (cases[i].as != NULL) { /* libzip itself refuses to write a name twice */
            struct hostile_bytes bytes = hostile_read(path);
            char *at = bytes.data, *end = bytes.data + bytes.size;
            size_t length = strlen(cases[i].second);
            while ((at = memmem(at, (size_t)(end - at), cases[i].second, length)) != NULL)
                memcpy(at, cases[i].as, length);
            hostile_write("odd.keras", bytes.data, bytes.size);
            free(bytes.data);
        }
        hostile_must_fail(path, NULL, cases[i].code, cases[i].why);
    }
}

/* An architecture that is never asked for its weights, because it fails before. */
static void json_fails(const char *text, enum error_code code, const char *why)
{
    char path[512];
    snprintf(path, sizeof path, "%s", hostile_write("model.json", text, strlen(text)));
    hostile_must_fail(path, DATA "shared_layer.h5", code, why);
}

#define LAYER(name, class, inbound)                                                                \
    "{\"name\":\"" name "\",\"class_name\":\"" class "\",\"config\":{\"name\":\"" name "\","       \
                                                     "\"trainable\":true,\"batch_input_shape\":["  \
                                                     "null,4]},\"inbound_nodes\":" inbound "}"
#define MODEL(layers, outputs)                                                                     \
    "{\"class_name\":\"Functional\",\"keras_version\":\"2.15.0\",\"config\":{\"name\":\"m\","      \
    "\"layers\":[" layers "],\"input_layers\":[[\"x\",0,0]],\"output_layers\":" outputs "}}"

static void json_graphs(void **state)
{
    (void)state;
    json_fails(
        MODEL(LAYER("x", "InputLayer", "[]") "," LAYER("a", "ReLU", "[[[\"b\",0,0,{}]]]") "," LAYER(
                  "b", "ReLU", "[[[\"a\",0,0,{}]]]"),
              "[[\"b\",0,0]]"),
        ERROR_MODEL_BROKEN, "its own output");
    json_fails(MODEL(LAYER("x", "InputLayer", "[]") "," LAYER("a", "ReLU", "[[[\"q\",0,0,{}]]]"),
                     "[[\"a\",0,0]]"),
               ERROR_MODEL_BROKEN, "no such layer");
    json_fails(MODEL(LAYER("x", "InputLayer", "[]") "," LAYER("a", "ReLU", "[[[\"x\",7,0,{}]]]"),
                     "[[\"a\",0,0]]"),
               ERROR_MODEL_BROKEN, "does not make");
    json_fails(MODEL(LAYER("x", "InputLayer", "[]") "," LAYER("x", "ReLU", "[[[\"x\",0,0,{}]]]"),
                     "[[\"x\",0,0]]"),
               ERROR_MODEL_BROKEN, "two layers");
    json_fails(MODEL(LAYER("x", "InputLayer", "[]"), "[[\"\\u001b[2Jx\",0,0]]"), ERROR_MODEL_BROKEN,
               "\\x1b[2Jx");
    json_fails(MODEL("{\"name\":3}", "[]"), ERROR_MODEL_BROKEN, "no class");
    json_fails("{\"class_name\":\"Mine\",\"config\":{}}", ERROR_MODEL_LAYERS, "subclassed");
    json_fails("{\"modelTopology\":{}}", ERROR_MODEL_FILE, "TensorFlow.js");
    json_fails("{\"class_name\":\"Sequential\",\"config\":{\"layers\":[]}}", ERROR_MODEL_BROKEN,
               "no layers");
    json_fails("{\"class_name\": Nan}", ERROR_MODEL_BROKEN, "no JSON");
}

static void json_depth(void **state)
{
    (void)state;
    char text[4096] = "{\"class_name\":\"Functional\",\"config\":";
    memset(text + strlen(text), '[', 2000);
    json_fails(text, ERROR_MODEL_BROKEN, "levels deep");
}

/* Models nested in models, each called twice, would make 2^30 calls. */
static void json_exponential(void **state)
{
    (void)state;
    char *text = strdup(LAYER("a", "ReLU", "[[[\"x\",0,0,{}]]]"));
    for (int i = 0; i < 30; i++) {
        char *outer = NULL;
        assert_true(asprintf(&outer,
                             "{\"class_name\":\"Functional\",\"name\":\"m\",\"config\":{\"name\":"
                             "\"m\",\"layers\":[%s,%s],\"input_layers\":[[\"x\",0,0]],"
                             "\"output_layers\":[[\"%s\",%d,0]]},\"inbound_nodes\":"
                             "[[[\"x\",0,0,{}]],[[\"x\",0,0,{}]]]}",
                             LAYER("x", "InputLayer", "[]"), text, i ? "m" : "a", i ? 2 : 0) > 0);
        free(text);
        text = outer;
    }
    json_fails(text, ERROR_MODEL_REFUSED, "calls");
    free(text);
}

/* A Lambda stays a layer that nobody can run; its code is not even kept. */
static void lambda_is_opaque(void **state)
{
    (void)state;
    const char *text = MODEL(
        LAYER("x", "InputLayer", "[]") ",{\"name\":\"l\",\"class_name\":\"Lambda\",\"config\":"
                                       "{\"name\":\"l\",\"function\":[\"4wEAAA==\",null,null],"
                                       "\"function_type\":\"lambda\",\"module\":\"os\"},"
                                       "\"inbound_nodes\":[[[\"x\",0,0,{}]]]}",
        "[[\"l\",0,0]]");
    char path[512];
    snprintf(path, sizeof path, "%s", hostile_write("lambda.json", text, strlen(text)));
    struct error error;
    const struct model_options options = {.weights = DATA "ops_mix.h5"};
    struct model *model = model_load(path, &options, &error);
    assert_non_null(model);
    const struct model_layer *layer = &model->layers[model_find_layer(model, "l")];
    assert_string_equal(layer->class_name, "Lambda");
    assert_null(json_object_get(layer->config, "function"));
    assert_null(json_object_get(layer->config, "module"));
    model_free(model);
    hostile_must_fail(path, DATA "ops_mix.h5", ERROR_MODEL_LAYERS, "Lambda");
}

/* What names its shards by paths of its own choice is not followed anywhere. */
static void sharded_weights(void **state)
{
    (void)state;
    static const char text[] = "{\"metadata\":{\"total_size\":64},\"weight_map\":"
                               "{\"/layers/dense/vars\":\"../../../etc/passwd\"}}";
    char path[512];
    snprintf(path, sizeof path, "%s", hostile_write("x.weights.json", text, sizeof text - 1));
    hostile_must_fail(DATA "tf215_nested.json", path, ERROR_MODEL_REFUSED, "no file beside it");
}

static void no_model_at_all(void **state)
{
    (void)state;
    hostile_must_fail("/nonexistent/model.h5", NULL, ERROR_MODEL_FILE, "No such file");
    hostile_must_fail(hostile_write("empty", "", 0), NULL, ERROR_MODEL_FILE, "empty");
    hostile_must_fail(hostile_write("model.onnx", "\x08\x07\x12\x07pytorch\x1a\x03", 13), NULL,
                      ERROR_MODEL_FILE, "ONNX");
    hostile_must_fail(hostile_write("pickle", "\x80\x04xxxx", 6), NULL, ERROR_MODEL_FILE, "pickle");
    hostile_must_fail(hostile_write("lfs", "version https://git-lfs.github.com/spec/v1\n", 43),
                      NULL, ERROR_MODEL_FILE, "git lfs pull");
    hostile_must_fail(hostile_folder, NULL, ERROR_MODEL_FILE, "config.json");
    mkfifo(hostile_path("fifo"), 0600);
    hostile_must_fail(hostile_path("fifo"), NULL, ERROR_MODEL_FILE, "regular");
    H5Fclose(H5Fcreate(hostile_path("other.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    hostile_must_fail(hostile_path("other.h5"), NULL, ERROR_MODEL_FILE, "without a Keras model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncations),
        cmocka_unit_test(bit_flips),
        cmocka_unit_test(hdf5_reaches_outside),
        cmocka_unit_test(hdf5_group_is_a_link),
        cmocka_unit_test(zip_bomb),
        cmocka_unit_test(zip_oddities),
        cmocka_unit_test(json_graphs),
        cmocka_unit_test(json_depth),
        cmocka_unit_test(json_exponential),
        cmocka_unit_test(lambda_is_opaque),
        cmocka_unit_test(sharded_weights),
        cmocka_unit_test(no_model_at_all),
    };
    return cmocka_run_group_tests(tests, hostile_make_folder, hostile_remove_folder);
}
