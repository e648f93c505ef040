/* Models that contradict themselves: one thing in an honest file is made wrong, and what comes is one
 * clear error, from the reader or from the lowering, soon and with bounded memory. (What damages the
 * container is in test_keras_hostile.c.) */
#define _GNU_SOURCE /* stpcpy */
#include "engine/graph/constant.h"
#include "engine/model.h"

#include <ftw.h>
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#define DATA "tests/data/keras/"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Load and lower; NULL is never returned without an error that has words and no escapes. */
static bool works(const char *path, const char *weights, struct error *error)
{
    struct model_options options = {.weights = weights};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    options.unconfined = true;
#endif
    *error = (struct error){0};
    struct model *model = model_load(path, &options, error);
    struct constant_pool *pool = constant_pool_new();
    struct graph *graph =
        model ? graph_lower(model, &(struct graph_options){.batch = 2}, pool, error) : NULL;
    bool ok = graph != NULL;
    if (!ok) {
        assert_int_equal(error_exit_code(error->code), 3);
        assert_true(strlen(error->why) > 0);
        const char *const texts[] = {error->what, error->why, error->hint};
        for (size_t i = 0; i < 3; i++) {
            for (const char *c = texts[i]; *c != '\0'; c++)
                assert_true((unsigned char)*c >= 0x20);
        }
    }
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
    return ok;
}

static void must_fail(const char *path, const char *weights, enum error_code code, const char *why)
{
    struct error error;
    if (works(path, weights, &error))
        fail_msg("%s was taken (%s)", path, why);
    if (error.code != code || strstr(error.why, why) == NULL)
        fail_msg("E%03d %s, and not E%03d with \"%s\"", error.code, error.why, code, why);
}

/* ---- architectures without weights: only numbers can be wrong ---- */

#define CHAIN(class_name, config)                                                                  \
    "{\"class_name\":\"Sequential\",\"keras_version\":\"3.9.2\",\"config\":{\"name\":\"s\","       \
    "\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"x\",\"batch_shape\":[null," \
    "8,8,4]}},{\"class_name\":\"" class_name "\",\"config\":{\"name\":\"a\",\"trainable\":true,"   \
    "\"dtype\":\"float32\"" config "}}]}}"

static const char *spill(const char *name, const char *text)
{
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
    return path;
}

static void wrong_numbers(void **state)
{
    (void)state;
    static const char *const texts[] = {
        CHAIN("UpSampling2D", ",\"size\":[2147483647,2147483647]"),
        CHAIN("UpSampling2D", ",\"size\":[4611686018427387904,4]"),
        CHAIN("UpSampling2D", ",\"size\":[0,1]"),
        CHAIN("UpSampling2D", ",\"size\":[NaN,1]"),
        CHAIN("ZeroPadding2D", ",\"padding\":[[9223372036854775807,9223372036854775807],[0,0]]"),
        CHAIN("ZeroPadding2D", ",\"padding\":[[-9,0],[0,0]]"),
        CHAIN("Cropping2D", ",\"cropping\":[[4,4],[0,0]]"),
        CHAIN("Cropping2D", ",\"cropping\":[[-9223372036854775808,0],[0,0]]"),
        CHAIN("MaxPooling2D", ",\"pool_size\":[0,0]"),
        CHAIN("MaxPooling2D", ",\"pool_size\":[2,2],\"strides\":[0,1]"),
        CHAIN("MaxPooling2D", ",\"pool_size\":[9,9],\"padding\":\"valid\""),
        CHAIN("AveragePooling2D", ",\"pool_size\":[4294967297,4294967297],\"padding\":\"same\","
                                  "\"strides\":[-1,-1]"),
        CHAIN("Reshape", ",\"target_shape\":[-1,-1]"),
        CHAIN("Reshape", ",\"target_shape\":[5,5]"),
        CHAIN("Reshape", ",\"target_shape\":[4294967296,4294967296]"),
        CHAIN("Reshape", ",\"target_shape\":[0]"),
        CHAIN("Reshape", ",\"target_shape\":[1,1,1,1,1,1,1,1,1,1,256]"),
        CHAIN("Permute", ",\"dims\":[1,1,2]"),
        CHAIN("Permute", ",\"dims\":[1,2,9]"),
        CHAIN("RepeatVector", ",\"n\":1099511627776"),
        CHAIN("Softmax", ",\"axis\":9"),
        CHAIN("Softmax", ",\"axis\":[1,-99]"),
        CHAIN("Resizing", ",\"height\":0,\"width\":4"),
        CHAIN("Resizing", ",\"height\":4611686018427387904,\"width\":4611686018427387904"),
        CHAIN("CenterCrop", ",\"height\":-1,\"width\":4"),
        CHAIN("Activation", ",\"activation\":\"\\u001b[2J\""),
        CHAIN("Activation", ",\"activation\":{\"class_name\":7}"),
        CHAIN("UnitNormalization", ",\"axis\":[0,1,2,3,4,5,6,7,8,9]"),
        CHAIN("Mine\\u001b[2J", ""),
        CHAIN("TimeDistributed", ""),
        CHAIN("TimeDistributed", ",\"layer\":{\"class_name\":\"Mine\",\"config\":{}}"),
        CHAIN("Bidirectional", ",\"layer\":{\"class_name\":[]}"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error error;
        if (works(spill("model.json", texts[i]), NULL, &error))
            fail_msg("taken: %s", texts[i] + 160);
    }
    struct error error;
    assert_true(works(spill("model.json", CHAIN("UpSampling2D", ",\"size\":[2,2]")), NULL, &error));
}

/* ---- whole files with one thing wrong ---- */

/* Copy shared_layer.h5, with `from` in its configuration replaced by `to` wherever it stands. */
static const char *edited(const char *from, const char *to)
{
    static char path[512];
    char buffer[4096];
    snprintf(path, sizeof path, "%s", in_folder("edited.h5"));
    FILE *in = fopen(DATA "shared_layer.h5", "rb"), *out = fopen(path, "wb");
    assert_true(in != NULL && out != NULL);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, in)) > 0;)
        assert_int_equal(fwrite(buffer, 1, n, out), n);
    fclose(in);
    fclose(out);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t attribute = H5Aopen(file, "model_config", H5P_DEFAULT), type = H5Aget_type(attribute);
    char *text = NULL, *made = calloc(1, 1 << 16), *at = made;
    assert_true(H5Aread(attribute, type, &text) >= 0);
    for (const char *c = text; *c != '\0';) {
        if (from != NULL && strncmp(c, from, strlen(from)) == 0) {
            at = stpcpy(at, to);
            c += strlen(from);
        } else {
            *at++ = *c++;
        }
    }
    assert_true(from == NULL || strcmp(text, made) != 0);
    assert_true(H5Awrite(attribute, type, &made) >= 0);
    H5free_memory(text);
    free(made);
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
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
        must_fail(edited(cases[i].from, cases[i].to), NULL, cases[i].code, cases[i].why);
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
    must_fail(path, NULL, ERROR_MODEL_WEIGHTS, "lacks");
    for (hsize_t count = 1; count <= 3; count += 2) { /* one too few, one too many */
        path = edited(NULL, NULL);
        group = open_group(path, &file);
        name_weights(group, names, count);
        H5Gclose(group);
        H5Fclose(file);
        must_fail(path, NULL, ERROR_MODEL_WEIGHTS, "asks for 2");
    }
    path =
        edited(NULL, NULL); /* the group of a layer is a soft link to another file's idea of it */
    group = open_group(path, &file);
    H5Gclose(group);
    H5Ldelete(file, "model_weights/dense", H5P_DEFAULT);
    H5Lcreate_soft("/model_weights/add", file, "model_weights/dense", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    must_fail(path, NULL, ERROR_MODEL_REFUSED, "soft link");
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
    must_fail(path, NULL, ERROR_MODEL_BROKEN, "");
}

/* Groups that hold each other many times over: a walk through all paths would never end. */
static void links_in_circles(void **state)
{
    (void)state;
    char path[512], name[16];
    snprintf(path, sizeof path, "%s", in_folder("circle.weights.h5"));
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
    assert_false(works(spill("model.json", CHAIN("Dense", ",\"units\":3")), path, &error));
}

/* A million layers, and what all that was above took. */
static void million_layers(void **state)
{
    (void)state;
    FILE *file = fopen(in_folder("million.json"), "wb");
    assert_non_null(file);
    fputs("{\"class_name\":\"Sequential\",\"config\":[", file);
    for (int i = 0; i < 1000000; i++)
        fputs("{\"class_name\":\"ReLU\",\"config\":{}},", file);
    fputs("{\"class_name\":\"ReLU\",\"config\":{}}]}", file);
    fclose(file);
    struct error error;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct rusage before, after;
    getrusage(RUSAGE_CHILDREN, &before);
    assert_false(works(in_folder("million.json"), NULL, &error));
    getrusage(RUSAGE_CHILDREN, &after);
    double seconds = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
                     (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e6;
    assert_true(seconds < 10);                   /* the reader's own limit: 0.9 s and 60 ms a MiB */
    assert_true(after.ru_maxrss < (700L << 10)); /* the largest of all children so far, in KiB */
#else
    (void)error;
#endif
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
        cmocka_unit_test(wrong_numbers),    cmocka_unit_test(wrong_config),
        cmocka_unit_test(wrong_weights),    cmocka_unit_test(chunk_bomb),
        cmocka_unit_test(links_in_circles), cmocka_unit_test(million_layers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
