/* Broken and malicious model files end in one clear error, soon, with bounded memory. */
#define _GNU_SOURCE /* memmem */
#include "engine/model.h"

#include <ftw.h>
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

#define DATA "tests/data/keras/"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

struct bytes {
    char *data;
    size_t size;
};

static struct bytes slurp(const char *path)
{
    struct bytes bytes = {0};
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    bytes.size = (size_t)ftell(file);
    rewind(file);
    bytes.data = malloc(bytes.size + 1);
    assert_int_equal(fread(bytes.data, 1, bytes.size, file), bytes.size);
    fclose(file);
    return bytes;
}

static const char *spill(const char *name, const void *data, size_t size)
{
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
    return path;
}

static const char *copy_of(const char *source, const char *name)
{
    struct bytes bytes = slurp(source);
    const char *path = spill(name, bytes.data, bytes.size);
    free(bytes.data);
    return path;
}

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Load; whatever the outcome, it comes soon and an error is one of the model's own. */
static struct model *try_load(const char *path, const char *weights, struct error *error)
{
    double start = seconds();
    struct model_options options = {.weights = weights};
    *error = (struct error){0};
    struct model *model = model_load(path, &options, error);
    assert_true(seconds() - start < 30); /* its own limit is 0.9 s of processor time */
    if (model == NULL) {
        assert_int_equal(error_exit_code(error->code), 3);
        assert_true(strlen(error->why) > 0);
        for (const char *c = error->why; *c != '\0'; c++)
            assert_true((unsigned char)*c >= 0x20);
    }
    return model;
}

static void must_fail(const char *path, const char *weights, enum error_code code, const char *why)
{
    struct error error;
    struct model *model = try_load(path, weights, &error);
    if (model != NULL)
        fail_msg("%s was loaded", path);
    if (error.code != code || strstr(error.why, why) == NULL)
        fail_msg("%s: E%03d %s, and not E%03d with \"%s\"", path, error.code, error.why, code, why);
}

static void truncations(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "seq_plain.h5", DATA "nested_frozen.keras",
                                        DATA "ops_mix.h5", DATA "shared_layer.keras"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct bytes bytes = slurp(files[i]);
        size_t parts = i < 2 ? 64 : 16;
        for (size_t part = 0; part < parts; part++) {
            struct error error;
            const char *path = spill("cut", bytes.data, bytes.size * part / parts);
            assert_null(try_load(path, NULL, &error));
        }
        free(bytes.data);
    }
}

static void bit_flips(void **state)
{
    (void)state;
    static const char *const files[] = {DATA "shared_layer.h5", DATA "shared_layer.keras",
                                        DATA "seq_plain_lzf.h5"};
    size_t refused = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct bytes bytes = slurp(files[i]);
        uint32_t random = 12345;
        for (int round = 0; round < 250; round++) {
            random = random * 1664525u + 1013904223u;
            /* the superblock and the first headers, then anywhere */
            size_t at = (random >> 8) % (round % 2 ? bytes.size : 2048);
            char bit = (char)(1 << (random >> 5 & 7));
            struct error error;
            bytes.data[at] ^= bit;
            struct model *model = try_load(spill("flip", bytes.data, bytes.size), NULL, &error);
            bytes.data[at] ^= bit;
            refused += model == NULL;
            model_free(model);
        }
        free(bytes.data);
    }
    assert_true(refused > 50);
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
        const char *path = copy_of(DATA "shared_layer.h5", "evil.h5");
        replace_kernel(path, cases[i].make);
        must_fail(path, NULL, cases[i].code, cases[i].why);
    }
}

/* The group of all weights may be a link too. */
static void hdf5_group_is_a_link(void **state)
{
    (void)state;
    const char *path = copy_of(DATA "shared_layer.h5", "evil.h5");
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    H5Ldelete(file, "model_weights", H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/", file, "model_weights", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    struct error error;
    assert_null(try_load(path, NULL, &error));
}

static void add_member(zip_t *zip, const char *name, const void *data, size_t size, bool deflate)
{
    zip_source_t *source = zip_source_buffer(zip, data, size, 0);
    zip_int64_t index = zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8);
    assert_true(index >= 0);
    zip_set_file_compression(zip, (zip_uint64_t)index, deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 1);
}

static const char *config_text = "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[]}}";

static void zip_bomb(void **state)
{
    (void)state;
    const char *path = in_folder("bomb.keras");
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    size_t size = 100u << 20;
    char *zeros = calloc(size, 1);
    add_member(zip, "config.json", config_text, strlen(config_text), true);
    add_member(zip, "model.weights.h5", zeros, size, true);
    assert_int_equal(zip_close(zip), 0);
    free(zeros);
    must_fail(path, NULL, ERROR_MODEL_REFUSED, "times its size");
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
        const char *path = in_folder("odd.keras");
        zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
        add_member(zip, "config.json", config_text, strlen(config_text), false);
        add_member(zip, cases[i].second, "not HDF5", 8, false);
        assert_int_equal(zip_close(zip), 0);
        if (cases[i].as != NULL) { /* libzip itself refuses to write a name twice */
            struct bytes bytes = slurp(path);
            char *at = bytes.data, *end = bytes.data + bytes.size;
            size_t length = strlen(cases[i].second);
            while ((at = memmem(at, (size_t)(end - at), cases[i].second, length)) != NULL)
                memcpy(at, cases[i].as, length);
            spill("odd.keras", bytes.data, bytes.size);
            free(bytes.data);
        }
        must_fail(path, NULL, cases[i].code, cases[i].why);
    }
}

/* An architecture that is never asked for its weights, because it fails before. */
static void json_fails(const char *text, enum error_code code, const char *why)
{
    char path[512];
    snprintf(path, sizeof path, "%s", spill("model.json", text, strlen(text)));
    must_fail(path, DATA "shared_layer.h5", code, why);
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
    snprintf(path, sizeof path, "%s", spill("lambda.json", text, strlen(text)));
    struct error error;
    struct model *model = try_load(path, DATA "ops_mix.h5", &error);
    assert_non_null(model);
    const struct model_layer *layer = &model->layers[model_find_layer(model, "l")];
    assert_string_equal(layer->class_name, "Lambda");
    assert_null(json_object_get(layer->config, "function"));
    assert_null(json_object_get(layer->config, "module"));
    model_free(model);
}

/* What names its shards by paths of its own choice is not followed anywhere. */
static void sharded_weights(void **state)
{
    (void)state;
    static const char text[] = "{\"metadata\":{\"total_size\":64},\"weight_map\":"
                               "{\"/layers/dense/vars\":\"../../../etc/passwd\"}}";
    char path[512];
    snprintf(path, sizeof path, "%s", spill("x.weights.json", text, sizeof text - 1));
    must_fail(DATA "tf215_nested.json", path, ERROR_MODEL_WEIGHTS, "shards");
}

static void no_model_at_all(void **state)
{
    (void)state;
    must_fail("/nonexistent/model.h5", NULL, ERROR_MODEL_FILE, "No such file");
    must_fail(spill("empty", "", 0), NULL, ERROR_MODEL_FILE, "empty");
    must_fail(spill("pickle", "\x80\x04xxxx", 6), NULL, ERROR_MODEL_FILE, "pickle");
    must_fail(spill("lfs", "version https://git-lfs.github.com/spec/v1\n", 43), NULL,
              ERROR_MODEL_FILE, "git lfs pull");
    must_fail(folder, NULL, ERROR_MODEL_FILE, "config.json");
    mkfifo(in_folder("fifo"), 0600);
    must_fail(in_folder("fifo"), NULL, ERROR_MODEL_FILE, "regular");
    H5Fclose(H5Fcreate(in_folder("other.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    must_fail(in_folder("other.h5"), NULL, ERROR_MODEL_FILE, "without a Keras model");
}

static int forget(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/layertop-test-XXXXXX");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(folder, forget, 8, FTW_DEPTH | FTW_PHYS);
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
    return cmocka_run_group_tests(tests, setup, teardown);
}
