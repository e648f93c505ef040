/* An HDF5 file of any shape, and our walk through it. The bytes are a little program that makes the
 * file with the HDF5 library itself: groups, datasets of every type and layout, links of every kind
 * and attributes, under the names that a model's weights have. (Damaged HDF5 is fuzzed by
 * fuzz_damaged.c.) */
#include "tests/fuzz/fuzz.h"

#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct program {
    const uint8_t *data;
    size_t size, at;
};

static unsigned next(struct program *program)
{
    return program->at < program->size ? program->data[program->at++] : 0;
}

static const char *const names[] = {
    "model_weights",
    "layers",
    "_layer_checkpoint_dependencies",
    "dense",
    "dense_1",
    "vars",
    "0",
    "1",
    "2",
    "kernel:0",
    "bias:0",
    "bn",
    "functional",
    "a/b",
    ".",
    "x",
    "\x1b[2J",
    "top_level_model_weights",
};

static const char *name_of(struct program *program)
{
    return names[next(program) % (sizeof names / sizeof *names)];
}

static hid_t type_of(struct program *program)
{
    switch (next(program) % 13) {
    case 0:
        return H5Tcopy(H5T_IEEE_F64BE);
    case 1:
        return H5Tcopy(H5T_STD_I8LE);
    case 2:
        return H5Tcopy(H5T_STD_U64BE);
    case 3: {
        hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, next(program) % 2 ? H5T_VARIABLE : 1 + next(program));
        return type;
    }
    case 4:
        return H5Tcreate(H5T_OPAQUE, 1 + next(program) % 4);
    case 5:
        return H5Tcreate(H5T_COMPOUND, 8);
    case 6:
        return H5Tcopy(H5T_STD_REF_OBJ);
    case 7:
        return H5Tenum_create(H5T_NATIVE_INT8);
    case 8: {
        hsize_t dims[1] = {1 + next(program)};
        return H5Tarray_create2(H5T_IEEE_F32LE, 1, dims);
    }
    case 9:
        return H5Tvlen_create(H5T_IEEE_F32LE);
    default:
        return H5Tcopy(H5T_IEEE_F32LE);
    }
}

static hid_t space_of(struct program *program, int *rank, hsize_t dims[8])
{
    unsigned kind = next(program);
    *rank = (int)(kind % 9);
    for (int i = 0; i < *rank && i < 8; i++) {
        dims[i] = next(program) % 8;
        if (kind > 250) /* a claim that nothing backs */
            dims[i] <<= 28;
    }
    *rank = *rank > 8 ? 8 : *rank;
    return kind == 240 ? H5Screate(H5S_NULL) : H5Screate_simple(*rank, dims, NULL);
}

static void make_dataset(struct program *program, hid_t group)
{
    int rank;
    hsize_t dims[8], chunk[8];
    const char *name = name_of(program);
    hid_t type = type_of(program), space = space_of(program, &rank, dims);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    unsigned layout = next(program);
    for (int i = 0; i < rank; i++)
        chunk[i] = 1 + layout % 4;
    if (layout % 3 == 1 && rank > 0) {
        H5Pset_chunk(create, rank, chunk);
        if (layout & 64)
            H5Pset_shuffle(create);
        if (layout & 128)
            H5Pset_deflate(create, 1);
        if (layout & 32)
            H5Pset_fletcher32(create);
        if (layout & 16)
            H5Pset_scaleoffset(create, H5Z_SO_INT, 4);
    } else if (layout % 16 == 2) {
        H5Pset_external(create, "/etc/passwd", 0, 4096);
    } else if (layout % 16 == 5) {
        H5Pset_virtual(create, space, "/etc/passwd", "x", space);
    } else if (layout % 16 == 8) {
        H5Pset_layout(create, H5D_COMPACT);
    }
    hid_t dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (dataset >= 0 && H5Sget_simple_extent_npoints(space) < 4096 &&
        H5Tget_class(type) == H5T_FLOAT && layout % 16 != 2 && layout % 16 != 5) {
        float values[4096] = {1, 2, 3};
        H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    }
    if (dataset >= 0)
        H5Dclose(dataset);
    H5Pclose(create);
    H5Sclose(space);
    H5Tclose(type);
}

/* A list of names, as text or as anything else. */
static void make_attribute(struct program *program, hid_t object)
{
    static const char *const attributes[] = {"layer_names",  "weight_names", "weight_names0",
                                             "name",         "backend",      "nb_layers",
                                             "layer_names0", "dtype"};
    const char *name = attributes[next(program) % 8];
    hsize_t count = next(program) % 5;
    unsigned kind = next(program);
    char cells[5][32] = {{0}};
    hid_t space = H5Screate_simple(1, &count, NULL), type = H5Tcopy(H5T_C_S1);
    for (hsize_t i = 0; i < count; i++)
        strncpy(cells[i], name_of(program), sizeof cells[i] - 1);
    H5Tset_size(type, sizeof *cells);
    H5Tset_strpad(type, kind % 2 ? H5T_STR_NULLPAD : H5T_STR_SPACEPAD);
    hid_t odd = kind > 200 ? type_of(program) : -1;
    hid_t attribute =
        H5Acreate2(object, name, odd >= 0 ? odd : type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0 && odd < 0)
        H5Awrite(attribute, type, cells);
    if (attribute >= 0)
        H5Aclose(attribute);
    if (odd >= 0)
        H5Tclose(odd);
    H5Tclose(type);
    H5Sclose(space);
}

static void make(struct program *program, hid_t file)
{
    hid_t at = H5Gopen2(file, "/", H5P_DEFAULT);
    for (int steps = 0; program->at < program->size && steps < 200; steps++) {
        const char *name;
        hid_t next_group = -1;
        switch (next(program) % 9) {
        case 0:
        case 1:
            name = name_of(program);
            next_group = H5Gcreate2(at, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
            if (next_group < 0)
                next_group = H5Gopen2(at, name, H5P_DEFAULT);
            break;
        case 2:
            next_group = H5Gopen2(file, "/", H5P_DEFAULT);
            break;
        case 3:
        case 4:
            make_dataset(program, at);
            break;
        case 5:
        case 6:
            make_attribute(program, at);
            break;
        case 7: { /* hard links make cycles and diamonds */
            const char *from = name_of(program);
            H5Lcreate_hard(next(program) % 2 ? file : at, from, at, name_of(program), H5P_DEFAULT,
                           H5P_DEFAULT);
            break;
        }
        default:
            if (next(program) % 2)
                H5Lcreate_soft("/model_weights", at, name_of(program), H5P_DEFAULT, H5P_DEFAULT);
            else
                H5Lcreate_external("/etc/passwd", "/", at, name_of(program), H5P_DEFAULT,
                                   H5P_DEFAULT);
        }
        if (next_group >= 0) {
            H5Gclose(at);
            at = next_group;
        }
    }
    H5Gclose(at);
}

/* The models that the weights are for: a plain one, and one with a nested model and a class that
 * nobody knows (all its data are bound). */
#define DENSE(name)                                                                                \
    "{\"class_name\":\"Dense\",\"config\":{\"name\":\"" name "\",\"units\":3,\"trainable\":true}}"
#define INPUT                                                                                      \
    "{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"in\",\"batch_input_shape\":[null,3]}}"
#define MODEL(layers)                                                                              \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"m\",\"layers\":[" INPUT "," layers "]}" \
    "}"
static const char *const models[] = {
    MODEL(DENSE("dense") "," DENSE("dense_1")),
    MODEL("{\"class_name\":\"Functional\",\"config\":{\"name\":\"functional\",\"layers\":[" INPUT
          "," DENSE("dense") "]}},{\"class_name\":\"BatchNormalization\",\"config\":{\"name\":"
                             "\"bn\"}},{\"class_name\":\"X\",\"config\":{\"name\":\"x\"}}"),
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program program = {data, size, 0};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const char *text = models[next(&program) % 2];
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_core(access, 1 << 16, 0);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    hid_t file = H5Fcreate("made", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    make(&program, file);
    if (next(&program) % 2 == 0) { /* a whole model in one file */
        hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, strlen(text) + 1);
        hid_t attribute = H5Acreate2(file, "model_config", type, space, H5P_DEFAULT, H5P_DEFAULT);
        if (attribute >= 0) {
            H5Awrite(attribute, type, text);
            H5Aclose(attribute);
        }
        H5Tclose(type);
        H5Sclose(space);
    }
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    ssize_t bytes = H5Fget_file_image(file, NULL, 0);
    void *image = malloc(bytes > 0 ? (size_t)bytes : 1);
    if (bytes > 0)
        H5Fget_file_image(file, image, (size_t)bytes);
    H5Fclose(file);
    H5Pclose(access);
    if (bytes > 0) {
        char whole[32], model[32];
        int image_fd = fuzz_file(image, (size_t)bytes, whole);
        fuzz_model(whole, NULL, false);
        int model_fd = fuzz_file(text, strlen(text), model);
        fuzz_model(model, whole, false);
        close(model_fd);
        close(image_fd);
    }
    free(image);
    return 0;
}
