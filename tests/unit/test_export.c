/* Exported models, read again: the same layers, the same weights bit by bit, the same answers. */
#include "engine/demo.h"
#include "engine/keras/export.h"
#include "tests/support/modelcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/layertop-export-XXXXXX");
    setenv("LAYERTOP_DATA", "share/layertop", 1);
    return mkdtemp(folder) == NULL;
}

/* How many files lie in the folder. */
static size_t count_files(void)
{
    size_t count = 0;
    DIR *open = opendir(folder);
    const struct dirent *entry;
    while ((entry = readdir(open)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(open);
    return count;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* fails if a test or an export left something */
}

static struct model *load(const char *path)
{
    struct model_options options = {.recipe = demo_is_name(path)};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    options.unconfined = true;
#endif
    struct error error = {0};
    char *file = demo_resolve(path, &error);
    struct model *model = file != NULL ? model_load(file, &options, &error) : NULL;
    if (model == NULL)
        fail_msg("%s: %s: %s", path, error.what, error.why);
    free(file);
    return model;
}

static void assert_same_layer(const struct model_layer *a, const struct model_layer *b)
{
    assert_string_equal(a->path, b->path);
    assert_string_equal(a->class_name, b->class_name);
    assert_int_equal(a->weight_count, b->weight_count);
    for (size_t i = 0; i < a->weight_count; i++) {
        assert_true(shape_equal(&a->weights[i].shape, &b->weights[i].shape));
        assert_int_equal(a->weights[i].bytes, b->weights[i].bytes);
        assert_memory_equal(a->weights[i].data, b->weights[i].data, a->weights[i].bytes);
    }
}

/* Write `model` as FOLDER/again`ending` and hold what is read from there against it. */
static void assert_survives(const struct model *model, const char *ending, const char *io)
{
    char path[128];
    struct error error = {0};
    snprintf(path, sizeof path, "%s/again%s", folder, ending);
    if (!keras_export(model, path, NULL, NULL, &error))
        fail_msg("%s as %s: %s: %s", model->file, ending, error.what, error.why);
    assert_int_equal(count_files(), 1);
    struct model *again = load(path);
    assert_string_equal(again->format, strcmp(ending, ".keras") == 0 ? "keras" : "h5");
    assert_string_equal(again->keras_version, model->keras_version);
    assert_int_equal(again->layer_count, model->layer_count);
    assert_int_equal(again->node_count, model->node_count);
    assert_int_equal(again->parameters, model->parameters);
    for (size_t i = 0; i < model->layer_count; i++)
        assert_same_layer(&again->layers[i], &model->layers[i]);
    model_free(again);
    double worst = 0;
    if (io != NULL && !model_check(path, io, true, &worst, &error))
        fail_msg("%s: %s", path, error.why);
    if (worst > 1e-5)
        fail_msg("%s as %s is off by %g", model->file, ending, worst);
    unlink(path);
}

/* nested models with frozen layers, op nodes, shared layers, wrappers of Keras 2, demo recipes */
static void what_was_written_is_read_again(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"tests/data/keras/nested_frozen.h5", "tests/data/models/nested_frozen.io.h5"},
        {"tests/data/keras/nested_frozen.keras", "tests/data/models/nested_frozen.io.h5"},
        {"tests/data/keras/seq_plain.h5", "tests/data/models/seq_plain.io.h5"},
        {"tests/data/keras/seq_plain.keras", "tests/data/models/seq_plain.io.h5"},
        {"tests/data/keras/shared_layer.h5", "tests/data/models/shared_layer.io.h5"},
        {"tests/data/keras/shared_layer.keras", "tests/data/models/shared_layer.io.h5"},
        {"tests/data/keras/ops_mix.keras", NULL},
        {"tests/data/models/hswish_v3.keras", "tests/data/models/hswish_v3.io.h5"},
        {"tests/data/models/nested_twice.h5", "tests/data/models/nested_twice.io.h5"},
        {"tests/data/models/norm_adapt.keras", "tests/data/models/norm_adapt.io.h5"},
        {"tests/data/models/sepconv2d.keras", "tests/data/models/sepconv2d.io.h5"},
        {"demo:digits", NULL},
        {"demo:mobilenetv2", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *model = load(cases[i][0]);
        assert_survives(model, ".h5", cases[i][1]);
        assert_survives(model, ".keras", cases[i][1]);
        model_free(model);
    }
}

/* The values of a top-level layer's weights in the order of its weight_names, which is all that Keras
 * goes by. Returns how many. */
static size_t values_in_order(hid_t file, const char *layer, float *out, size_t most)
{
    hid_t root = H5Gopen2(file, "model_weights", H5P_DEFAULT);
    hid_t group = H5Gopen2(root, layer, H5P_DEFAULT);
    hid_t attribute = H5Aopen(group, "weight_names", H5P_DEFAULT);
    hid_t space = H5Aget_space(attribute), type = H5Aget_type(attribute);
    hssize_t count = H5Sget_simple_extent_npoints(space);
    char **names = calloc((size_t)count + 1, sizeof *names);
    size_t used = 0;
    if (count > 0) {
        assert_true(H5Tis_variable_str(type) > 0);
        assert_true(H5Aread(attribute, type, names) >= 0);
    }
    for (hssize_t i = 0; i < count; i++) {
        hid_t dataset = H5Dopen2(group, names[i], H5P_DEFAULT);
        hid_t extent = H5Dget_space(dataset);
        size_t points = (size_t)H5Sget_simple_extent_npoints(extent);
        assert_true(used + points <= most);
        assert_true(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, out + used) >=
                    0);
        used += points;
        H5Sclose(extent);
        H5Dclose(dataset);
        H5free_memory(names[i]);
    }
    free(names);
    H5Tclose(type);
    H5Sclose(space);
    H5Aclose(attribute);
    H5Gclose(group);
    H5Gclose(root);
    return used;
}

/* Half of the nested model is frozen, so trainable variables come first. */
static void weights_stand_in_kerass_order(void **state)
{
    (void)state;
    const char *keras = "tests/data/keras/nested_frozen.h5";
    char path[128];
    float theirs[4096], ours[4096];
    struct error error = {0};
    size_t total = 0;
    snprintf(path, sizeof path, "%s/ordered.h5", folder);
    struct model *model = load(keras);
    assert_true(keras_export(model, path, NULL, NULL, &error));
    hid_t a = H5Fopen(keras, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t b = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    const json_t *layers =
        json_object_get(json_object_get(model->architecture, "config"), "layers");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *config = json_object_get(json_array_get(layers, i), "config");
        const char *layer = json_string_value(json_object_get(config, "name"));
        size_t count = values_in_order(a, layer, theirs, 4096);
        assert_int_equal(values_in_order(b, layer, ours, 4096), count);
        assert_memory_equal(ours, theirs, count * sizeof *ours);
        total += count;
    }
    assert_int_equal(total, model->parameters);
    H5Fclose(a);
    H5Fclose(b);
    model_free(model);
    unlink(path);
}

static void keras_2_stays_in_its_own_format(void **state)
{
    (void)state;
    static const char *const files[] = {"tf215_nested.h5", "tf215_seq.h5", "tf215_ops.h5"};
    char path[128];
    snprintf(path, sizeof path, "%s/model.keras", folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[64];
        struct error error = {0};
        snprintf(from, sizeof from, "tests/data/keras/%s", files[i]);
        struct model *model = load(from);
        assert_false(keras_export(model, path, NULL, NULL, &error));
        assert_int_equal(error.code, ERROR_UNSUPPORTED);
        assert_non_null(strstr(error.hint, ".h5"));
        assert_int_equal(count_files(), 0);
        assert_survives(model, ".h5", NULL);
        model_free(model);
    }
}

static bool stop(void *context, double fraction)
{
    *(double *)context = fraction;
    return fraction < 0.5;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_failed_export_leaves_what_was_there(void **state)
{
    (void)state;
    static const char *const endings[] = {".h5", ".keras"};
    struct model *model = load("tests/data/keras/seq_plain.h5");
    for (size_t i = 0; i < 2; i++) {
        char path[128], text[8] = "";
        struct error error = {0};
        double fraction = 0;
        snprintf(path, sizeof path, "%s/old%s", folder, endings[i]);
        write_text(path, "old");
        assert_false(keras_export(model, path, stop, &fraction, &error));
        assert_int_equal(error.code, ERROR_INTERRUPTED);
        assert_true(fraction >= 0.5 && fraction <= 1);
        assert_int_equal(count_files(), 1);
        FILE *file = fopen(path, "r");
        assert_int_equal(fread(text, 1, sizeof text, file), 3);
        fclose(file);
        assert_string_equal(text, "old");
        unlink(path);
        snprintf(path, sizeof path, "%s/nowhere/model%s", folder, endings[i]);
        error = (struct error){0};
        assert_false(keras_export(model, path, NULL, NULL, &error));
        assert_int_equal(error.code, ERROR_FILE);
        assert_non_null(strstr(error.why, "No such file"));
    }
    struct error error = {0};
    assert_false(keras_export(model, "model.onnx", NULL, NULL, &error));
    assert_int_equal(error.code, ERROR_VALUE);
    assert_int_equal(count_files(), 0);
    model_free(model);
}

/* The weights are views into the very file that is replaced. */
static void a_model_can_be_written_over_its_file(void **state)
{
    (void)state;
    char path[128];
    struct error error = {0};
    snprintf(path, sizeof path, "%s/model.h5", folder);
    struct model *first = load("tests/data/keras/nested_frozen.h5");
    assert_true(keras_export(first, path, NULL, NULL, &error));
    struct model *model = load(path);
    assert_true(keras_export(model, path, NULL, NULL, &error));
    struct model *again = load(path);
    for (size_t i = 0; i < model->layer_count; i++) {
        assert_same_layer(&first->layers[i], &model->layers[i]);
        assert_same_layer(&again->layers[i], &model->layers[i]);
    }
    model_free(first);
    model_free(model);
    model_free(again);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read_again),
        cmocka_unit_test(weights_stand_in_kerass_order),
        cmocka_unit_test(keras_2_stays_in_its_own_format),
        cmocka_unit_test(a_failed_export_leaves_what_was_there),
        cmocka_unit_test(a_model_can_be_written_over_its_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
