/* Layers and models that a model holds in several places: a file of Keras 3 has their weights at the
 * first of these alone, and an .h5 file once in the list of the nested model that holds them all. */
#include "engine/model.h"
#include "support/hostile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- models of 2 features, in a few lines ---- */

#define TENSOR(name)                                                                               \
    "{\"class_name\":\"__keras_tensor__\",\"config\":{\"shape\":[null,2],\"dtype\":\"float32\","   \
    "\"keras_history\":[\"" name "\",0,0]}}"
#define CALL(from) "\"inbound_nodes\":[{\"args\":[" TENSOR(from) "],\"kwargs\":{}}]"
#define INPUT(name)                                                                                \
    "{\"module\":\"keras.layers\",\"class_name\":\"InputLayer\",\"name\":\"" name "\",\"config\":" \
    "{\"name\":\"" name "\",\"batch_shape\":[null,2]},\"inbound_nodes\":[]},"
/* `id`: "" or ID(n), which Keras adds from the second place on */
#define ID(n) "\"shared_object_id\":" #n ","
#define OBJECT(class_name, name, config, id)                                                       \
    "{\"module\":\"keras.layers\",\"class_name\":\"" class_name "\",\"name\":\"" name "\"," id     \
    "\"config\":{\"name\":\"" name "\",\"trainable\":true" config "}"
#define DENSE(name, id)       OBJECT("Dense", name, ",\"units\":2", id)
#define LAYER(name, id, from) DENSE(name, id) "," CALL(from) "}"
#define INSIDE(name, layers, last)                                                                 \
    OBJECT("Functional", name,                                                                     \
           ",\"layers\":[" INPUT(name "_in") layers "],\"input_layers\":[\"" name                  \
                                             "_in\",0,0],\"output_layers\":[\"" last "\",0,0]",
#define MODEL(name, layers, last, id, from) INSIDE(name, layers, last) id) "," CALL(from) "}"
#define WHOLE(layers, last)                                                                        \
    "{\"module\":\"keras\",\"class_name\":\"Functional\",\"keras_version\":\"3.15.1\",\"config\":" \
    "{\"name\":\"m\",\"layers\":[" INPUT("x") layers "],\"input_layers\":[\"x\",0,0],"             \
                                                     "\"output_layers\":[\"" last "\",0,0]}}"

/* The weights of a Dense layer, each of them `value`. */
static void put_dense(hid_t file, const char *group, const char *kernel, const char *bias,
                      float value)
{
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    for (int rank = 2; rank > 0; rank--) {
        char path[128];
        float numbers[4] = {value, value, value, value};
        snprintf(path, sizeof path, "%s/%s", group, rank == 2 ? kernel : bias);
        hid_t space = H5Screate_simple(rank, (hsize_t[]){2, 2}, NULL);
        hid_t set = H5Dcreate2(file, path, H5T_IEEE_F32LE, space, links, H5P_DEFAULT, H5P_DEFAULT);
        assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers) >= 0);
        H5Dclose(set);
        H5Sclose(space);
    }
    H5Pclose(links);
}

/* The groups hold 1, 2, 3 ... in this order; their names by label too, where there are any. */
static const char *put_archive(const char *const *groups, const char *const *labels)
{
    static char path[512];
    snprintf(path, sizeof path, "%s", hostile_path("shared.weights.h5"));
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    for (size_t i = 0; groups[i] != NULL; i++) {
        char vars[128];
        snprintf(vars, sizeof vars, "%s/vars", groups[i]);
        put_dense(file, vars, "0", "1", (float)i + 1);
        if (labels == NULL)
            continue;
        hid_t group = H5Gopen2(file, vars, H5P_DEFAULT), space = H5Screate(H5S_SCALAR);
        hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        hid_t name = H5Acreate2(group, "name", type, space, H5P_DEFAULT, H5P_DEFAULT);
        assert_true(H5Awrite(name, type, &labels[i]) >= 0);
        H5Aclose(name);
        H5Tclose(type);
        H5Sclose(space);
        H5Gclose(group);
    }
    H5Fclose(file);
    return path;
}

static void assert_value(const struct model *model, const char *path, float value)
{
    int index = model_find_layer(model, path);
    if (index < 0)
        fail_msg("no layer %s", path);
    const struct model_layer *layer = &model->layers[index];
    if (layer->weight_count != 2 || *(const float *)layer->weights[0].data != value ||
        *(const float *)layer->weights[1].data != value)
        fail_msg("%s has %zu weights of %g, not 2 of %g", path, layer->weight_count,
                 layer->weight_count ? (double)*(const float *)layer->weights[0].data : 0,
                 (double)value);
}

static struct model *load(const char *config, const char *weights)
{
    struct error error = {0};
    struct model_options options = {.weights = weights};
    char file[512];
    snprintf(file, sizeof file, "%s", hostile_write_text("shared.json", config));
    struct model *model = model_load(file, &options, &error);
    if (model == NULL)
        fail_msg("E%03d %s: %s", error.code, error.what, error.why);
    return model;
}

/* ---- tests ---- */

/* x -> a [s, p] -> s -> q: the group of s is inside a, and q's is the second "dense" of the model,
 * which Keras counts as "dense_1" and a reader without labels takes for the first with data. */
static void layer_inside_and_outside(void **state)
{
    (void)state;
    static const char config[] =
        WHOLE(MODEL("a", LAYER("s", "", "a_in") "," LAYER("p", "", "s"), "p", "",
                    "x") "," LAYER("s", ID(7), "a") "," LAYER("q", "", "s"),
              "q");
    static const char *const groups[] = {"layers/functional/layers/dense",
                                         "layers/functional/layers/dense_1", "layers/dense_1",
                                         NULL};
    static const char *const labels[] = {"s", "p", "q"};
    for (int labelled = 0; labelled < 2; labelled++) {
        struct model *model = load(config, put_archive(groups, labelled ? labels : NULL));
        assert_value(model, "a/s", 1);
        assert_value(model, "a/p", 2);
        assert_value(model, "s", 1);
        assert_value(model, "q", 3);
        model_free(model);
    }
}

#define BASE(id, from) MODEL("base", LAYER("d", "", "base_in"), "d", id, from)

/* A model directly and inside two others, one of which is inside the other as well. */
static void model_in_models(void **state)
{
    (void)state;
#define MIDDLE(id, id2, from)                                                                      \
    MODEL("middle", LAYER("e", "", "middle_in") "," BASE(id, "e"), "base", id2, from)
    static const char config[] = WHOLE(
        BASE(ID(5), "x") "," MIDDLE(ID(5), ID(6), "base") "," MODEL(
            "top", LAYER("f", "", "top_in") "," MIDDLE(ID(5), ID(6), "f"), "middle", "", "middle"),
        "top");
    static const char *const groups[] = {"layers/functional/layers/dense",
                                         "layers/functional_1/layers/dense",
                                         "layers/functional_2/layers/dense", NULL};
    struct model *model = load(config, put_archive(groups, NULL));
    assert_value(model, "base/d", 1);
    assert_value(model, "middle/e", 2);
    assert_value(model, "middle/base/d", 1);
    assert_value(model, "top/f", 3);
    assert_value(model, "top/middle/e", 2);
    assert_value(model, "top/middle/base/d", 1);
    model_free(model);
}

/* First inside TimeDistributed, whose variables are all its own here, then as it is. */
static void model_in_a_wrapper(void **state)
{
    (void)state;
    static const char config[] =
        WHOLE(OBJECT("TimeDistributed", "t", ",\"layer\":" DENSE("d", "") "}",
                     "") "," CALL("x") "}," LAYER("d", ID(9), "t"),
              "d");
    static const char *const groups[] = {"layers/time_distributed/layer", NULL};
    struct model *model = load(config, put_archive(groups, NULL));
    assert_value(model, "t", 1);
    assert_value(model, "d", 1);
    model_free(model);
}

/* Two towers of layers that are called alike: a third place cannot say which of them it is. */
static void nobody_guesses(void **state)
{
    (void)state;
#define TOWER(name, from) MODEL(name, LAYER("d", "", name "_in"), "d", "", from)
    static const char config[] =
        WHOLE(TOWER("a", "x") "," TOWER("b", "a") "," LAYER("d", ID(9), "b"), "d");
    static const char *const groups[] = {"layers/functional/layers/dense",
                                         "layers/functional_1/layers/dense", NULL};
    char file[512];
    snprintf(file, sizeof file, "%s", hostile_write_text("towers.json", config));
    hostile_must_fail(file, put_archive(groups, NULL), ERROR_MODEL_WEIGHTS,
                      "0 weights for the layer \"d\"");
}

/* An .h5 file lists what a nested model shares within itself once, trainable weights first. */
static void within_one_group(void **state)
{
    (void)state;
    static const char config[] =
        WHOLE(MODEL("o",
                    TOWER("a", "o_in") "," MODEL(
                        "b", LAYER("e", "", "b_in") "," LAYER("d", "", "e"), "d", "", "a"),
                    "b", "", "x"),
              "o");
    char path[512];
    snprintf(path, sizeof path, "%s", hostile_path("legacy.h5"));
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put_dense(file, "o/d", "kernel", "bias", 1);
    put_dense(file, "o/e", "kernel", "bias", 2);
    static const char names[4][16] = {"d/kernel", "d/bias", "e/kernel", "e/bias"};
    hid_t type = H5Tcopy(H5T_C_S1), group = H5Gopen2(file, "o", H5P_DEFAULT);
    H5Tset_size(type, sizeof names[0]);
    hid_t one = H5Screate_simple(1, (hsize_t[]){1}, NULL);
    hid_t four = H5Screate_simple(1, (hsize_t[]){4}, NULL);
    hid_t layers = H5Acreate2(file, "layer_names", type, one, H5P_DEFAULT, H5P_DEFAULT);
    hid_t weights = H5Acreate2(group, "weight_names", type, four, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(layers, type, "o\0              ") >= 0);
    assert_true(H5Awrite(weights, type, names) >= 0);
    H5Aclose(layers);
    H5Aclose(weights);
    H5Sclose(one);
    H5Sclose(four);
    H5Tclose(type);
    H5Gclose(group);
    H5Fclose(file);
    struct model *model = load(config, path);
    assert_value(model, "o/a/d", 1);
    assert_value(model, "o/b/e", 2);
    assert_value(model, "o/b/d", 1);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer_inside_and_outside), cmocka_unit_test(model_in_models),
        cmocka_unit_test(model_in_a_wrapper),       cmocka_unit_test(nobody_guesses),
        cmocka_unit_test(within_one_group),
    };
    return cmocka_run_group_tests(tests, hostile_make_folder, hostile_remove_folder);
}
