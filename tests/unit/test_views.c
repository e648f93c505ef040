/* Weights are used where the file has them: which of them are views into its mapping, which are copied
 * because no float lies there, and that nothing is lost where they begin at an odd byte. */
#include "engine/graph/constant.h"
#include "support/hostile.h"
#include "support/large_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WIDTH 600 /* 1.4 MB a kernel: large enough to be made when it is read */

static const char *path;

static struct model *load(const char *file)
{
    struct error error = {0};
    struct model *model = model_load(file, &(struct model_options){0}, &error);
    if (model == NULL)
        fail_msg("%s: E%03d %s: %s", file, error.code, error.what, error.why);
    return model;
}

/* Does the mapping that holds this address belong to a file of this name? */
static bool lies_in(const void *address, const char *name)
{
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t begin, end;
        if (sscanf(line, "%lx-%lx", &begin, &end) == 2 && (uintptr_t)address >= begin &&
            (uintptr_t)address < end)
            found = strstr(line, name) != NULL;
    }
    fclose(maps);
    return found;
}

static void contiguous_floats_are_views(void **state)
{
    (void)state;
    for (unsigned phase = 0; phase <= 8; phase++) { /* the last: a legacy .h5 */
        path = hostile_path(phase < 8 ? "view.keras" : "view.h5");
        large_model_write(path, &(struct large_model){2, WIDTH, phase < 8, phase});
        struct model *model = load(path);
        for (size_t i = 1; i <= 2; i++) {
            const struct model_layer *layer = &model->layers[i];
            assert_int_equal(layer->weight_count, 2);
            for (size_t j = 0; j < 2; j++)
                assert_true(lies_in(layer->weights[j].data, path));
            assert_int_equal((uintptr_t)layer->weights[0].data % 8, phase % 8);
        }
        model_free(model);
    }
}

/* The kernel's numbers as a plan reads them: a view at a place for floats, else a copy that goes when
 * it is not needed. */
static void odd_bytes_lose_nothing(void **state)
{
    (void)state;
    for (unsigned phase = 0; phase < 8; phase++) {
        struct error error = {0};
        path = hostile_path("odd.keras");
        large_model_write(path, &(struct large_model){2, WIDTH, true, phase});
        struct model *model = load(path);
        struct constant_pool *pool = constant_pool_new();
        struct graph *graph = graph_lower(model, &(struct graph_options){.batch = 1}, pool, &error);
        assert_non_null(graph);
        int seen = 0;
        uint64_t before = constant_pool_bytes(pool); /* the biases at odd bytes */
        assert_true(before <= 2 * WIDTH * sizeof(float));
        for (size_t i = 0; i < graph->op_count; i++) {
            if (graph->ops[i].kind != OP_MATMUL)
                continue;
            const struct constant *kernel = graph->ops[i].matmul.weights;
            for (int turn = 0; turn < 2; turn++) { /* made, and made again */
                const float *data = constant_data(kernel, &error);
                assert_non_null(data);
                assert_int_equal((uintptr_t)data % sizeof(float), 0);
                assert_true(lies_in(data, path) == (phase % sizeof(float) == 0));
                for (size_t k = 0; k < WIDTH * WIDTH; k++)
                    assert_true(data[k] == large_model_value(k));
                constant_release(kernel);
            }
            assert_int_equal(constant_pool_bytes(pool), before);
            seen++;
        }
        assert_int_equal(seen, 2);
        constant_pool_trim(pool);
        graph_free(graph);
        constant_pool_free(pool);
        model_free(model);
    }
}

/* ---- what is copied ---- */

enum storage { CHUNKED, COMPACT, HALF, DOUBLE, SWAPPED, STORAGES };

static enum storage storage;

static void store_otherwise(hid_t file)
{
    static const char name[] = "layers/dense/vars/0";
    float numbers[16];
    hid_t type = H5Tcopy(storage == DOUBLE    ? H5T_IEEE_F64LE
                         : storage == SWAPPED ? H5T_IEEE_F32BE
                                              : H5T_IEEE_F32LE);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(2, (hsize_t[]){4, 4}, NULL);
    for (int i = 0; i < 16; i++)
        numbers[i] = (float)i * 0.25F;
    if (storage == CHUNKED) {
        H5Pset_chunk(create, 2, (hsize_t[]){2, 4});
        H5Pset_deflate(create, 1);
    } else if (storage == COMPACT) {
        H5Pset_layout(create, H5D_COMPACT);
    } else if (storage == HALF) {
        H5Tset_fields(type, 15, 10, 5, 0, 10);
        H5Tset_size(type, 2);
        H5Tset_ebias(type, 15);
    }
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(create);
    H5Tclose(type);
}

static void other_storage_is_copied(void **state)
{
    (void)state;
    for (storage = CHUNKED; storage < STORAGES; storage++) {
        path = hostile_edit_weights("tests/data/keras/shared_layer.keras", store_otherwise);
        struct model *model = load(path);
        const struct model_layer *dense = &model->layers[model_find_layer(model, "dense")];
        assert_true(lies_in(dense->weights[0].data, "memfd:layertop-weights"));
        assert_true(lies_in(dense->weights[1].data, path)); /* the bias is as it was */
        for (size_t i = 0; i < 16; i++)
            assert_true(weight_element(&dense->weights[0], i) == (double)i * 0.25);
        model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contiguous_floats_are_views),
        cmocka_unit_test(odd_bytes_lose_nothing),
        cmocka_unit_test(other_storage_is_copied),
    };
    return cmocka_run_group_tests(tests, hostile_make_folder, hostile_remove_folder);
}
