#define _GNU_SOURCE /* memmem */
#include "support/large_model.h"

#include <hdf5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

/* Both a test and a bench come here: neither can go on. */
static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "large model: cannot %s\n", what);
    abort();
}

float large_model_value(size_t i)
{
    return (float)(i % 1009) / 1009 - 0.5f;
}

static void write_text(hid_t object, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text));
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    must(H5Awrite(attribute, type, text) >= 0, "write an attribute");
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

/* Names in cells of one length, as Keras writes layer_names and weight_names. */
static void write_names(hid_t object, const char *name, const char *cells, size_t cell,
                        size_t count)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    hid_t space = H5Screate_simple(1, (hsize_t[]){count}, NULL);
    H5Tset_size(type, cell);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    must(H5Awrite(attribute, type, cells) >= 0, "write names");
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static void write_array(hid_t file, const char *path, int rank, size_t width, const float *data)
{
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    hid_t space = H5Screate_simple(rank, (hsize_t[]){width, width}, NULL);
    H5Pset_create_intermediate_group(links, 1);
    hid_t set = H5Dcreate2(file, path, H5T_IEEE_F32LE, space, links, H5P_DEFAULT, H5P_DEFAULT);
    must(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0,
         "write weights");
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(links);
}

/* In Keras 2's words, or Keras 3's. Free it. */
static char *describe(const struct large_model *model)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fprintf(out,
            "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"large\", \"layers\": ["
            "{\"class_name\": \"InputLayer\", \"config\": {\"%s\": [null, %zu], \"dtype\": "
            "\"float32\", \"sparse\": false, \"name\": \"features\"}}",
            model->archive ? "batch_shape" : "batch_input_shape", model->width);
    for (size_t i = 0; i < model->layers; i++)
        fprintf(
            out,
            ", {\"class_name\": \"Dense\", \"config\": {\"name\": \"dense%03zu\", \"trainable\": "
            "true, \"dtype\": \"float32\", \"units\": %zu, \"activation\": \"relu\", "
            "\"use_bias\": true}}",
            i, model->width);
    fprintf(out, "]}}");
    must(fclose(out) == 0, "describe a model");
    return text;
}

#define CELL 48 /* of a name */

static void write_names_of_layers(hid_t file, const struct large_model *model)
{
    char *names = calloc(model->layers, CELL);
    hid_t weights = H5Gopen2(file, "model_weights", H5P_DEFAULT);
    for (size_t i = 0; i < model->layers; i++) {
        char inner[2][CELL] = {"", ""};
        snprintf(names + i * CELL, CELL, "dense%03zu", i);
        snprintf(inner[0], CELL, "dense%03zu/kernel:0", i);
        snprintf(inner[1], CELL, "dense%03zu/bias:0", i);
        hid_t layer = H5Gopen2(weights, names + i * CELL, H5P_DEFAULT);
        write_names(layer, "weight_names", inner[0], CELL, 2);
        H5Gclose(layer);
    }
    write_names(weights, "layer_names", names, CELL, model->layers);
    H5Gclose(weights);
    free(names);
}

static void write_hdf5(const char *path, const struct large_model *model)
{
    size_t elements = model->width * model->width;
    float *data = malloc(elements * sizeof *data);
    must(data != NULL, "find memory");
    for (size_t i = 0; i < elements; i++)
        data[i] = large_model_value(i);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    must(file >= 0, "create a file");
    for (size_t i = 0; i < model->layers; i++) {
        for (int bias = 0; bias < 2; bias++) {
            char name[96], number[24] = "";
            if (i > 0)
                snprintf(number, sizeof number, "_%zu", i);
            if (model->archive)
                snprintf(name, sizeof name, "layers/dense%s/vars/%d", number, bias);
            else
                snprintf(name, sizeof name, "model_weights/dense%03zu/dense%03zu/%s:0", i, i,
                         bias ? "bias" : "kernel");
            write_array(file, name, bias ? 1 : 2, model->width, data);
        }
    }
    if (!model->archive) {
        char *config = describe(model);
        write_text(file, "keras_version", "2.15.0");
        write_text(file, "backend", "tensorflow");
        write_text(file, "model_config", config);
        write_names_of_layers(file, model);
        free(config);
    }
    must(H5Fclose(file) >= 0, "close a file");
    free(data);
}

static void add(zip_t *zip, const char *name, zip_source_t *source)
{
    zip_int64_t index = zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8);
    must(index >= 0 && zip_set_file_compression(zip, (zip_uint64_t)index, ZIP_CM_STORE, 0) == 0,
         "add to an archive");
}

/* Where the data of a stored member begin: behind its name, which stands first in its header. */
static size_t place_of(const char *path, const char *name)
{
    unsigned char head[65536];
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(head, 1, sizeof head, file) : 0;
    const unsigned char *at = memmem(head, size, name, strlen(name));
    must(at != NULL && at - head >= 30, "find a member");
    fclose(file);
    return (size_t)(at - head) + strlen(name) + at[-2] + 256u * at[-1];
}

static void write_archive(const char *path, const char *weights, const struct large_model *model)
{
    char *config = describe(model), *padded = calloc(1, strlen(config) + 16);
    size_t blanks = 0, place = 0;
    do { /* JSON may end in blanks: they move what follows */
        sprintf(padded, "%s%*s", config, (int)blanks, "");
        zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
        must(zip != NULL, "create an archive");
        static const char metadata[] = "{\"keras_version\": \"3.9.2\"}";
        add(zip, "metadata.json", zip_source_buffer(zip, metadata, sizeof metadata - 1, 0));
        add(zip, "config.json", zip_source_buffer(zip, padded, strlen(padded), 0));
        bool last = place > 0 && (place + blanks) % 8 == model->phase % 8;
        add(zip, "model.weights.h5",
            last ? zip_source_file(zip, weights, 0, -1) : zip_source_buffer(zip, "x", 1, 0));
        must(zip_close(zip) == 0, "write an archive");
        if (last)
            break;
        if (place == 0)
            place = place_of(path, "model.weights.h5");
        else
            blanks++;
    } while (blanks < 9);
    must(place_of(path, "model.weights.h5") % 8 == model->phase % 8, "place the weights");
    free(padded);
    free(config);
}

void large_model_write(const char *path, const struct large_model *model)
{
    if (!model->archive) {
        write_hdf5(path, model);
        return;
    }
    char weights[512];
    snprintf(weights, sizeof weights, "%s.weights", path);
    write_hdf5(weights, model);
    write_archive(path, weights, model);
    unlink(weights);
}
