/* Which container is it? Told by content, never by name. */
#include "engine/keras/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char hdf5_magic[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

/* An HDF5 file may begin with a user block of 512, 1024, 2048 ... bytes. */
static bool is_hdf5(struct keras_bytes bytes)
{
    for (size_t at = 0; at + 8 <= bytes.size && at <= (1u << 24); at = at == 0 ? 512 : 2 * at) {
        if (memcmp(bytes.data + at, hdf5_magic, 8) == 0)
            return true;
    }
    return false;
}

static bool begins(struct keras_bytes bytes, const char *text)
{
    size_t length = strlen(text);
    return bytes.size >= length && memcmp(bytes.data, text, length) == 0;
}

static bool is_json(struct keras_bytes bytes)
{
    size_t at = bytes.size >= 3 && memcmp(bytes.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < bytes.size && strchr(" \t\r\n", bytes.data[at]) != NULL && bytes.data[at] != '\0')
        at++;
    return at < bytes.size && bytes.data[at] == '{';
}

static void version_set(struct reader *reader, const char *version)
{
    free(reader->version);
    reader->version = xstrdup(version != NULL ? version : "");
}

/* Does some call in the file have Keras 3's form? */
static bool has_new_calls(json_t *layers)
{
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer)
    {
        json_t *node = json_array_get(json_object_get(layer, "inbound_nodes"), 0);
        if (node != NULL)
            return json_object_get(node, "args") != NULL;
        if (json_object_get(json_object_get(layer, "config"), "batch_shape") != NULL)
            return true;
    }
    return false;
}

static bool is_theano(const struct reader *reader)
{
    return reader->backend != NULL && strcmp(reader->backend, "theano") == 0;
}

/* Decide which Keras wrote it. */
static bool writer_decide(struct reader *reader)
{
    int major = 0, minor = 0;
    if (sscanf(reader->version, "%d.%d", &major, &minor) < 1 || major < 0)
        major = 0;
    if (major == 0 && reader->version[0] == '0')
        major = 1; /* Keras 0.3; keras_core 0.1 wrote .keras files in Keras 3's form */
    json_t *config = json_object_get(reader->root, "config");
    bool new_calls = has_new_calls(json_object_get(config, "layers"));
    if (new_calls)
        major = 3;
    else if (reader->version[0] == '\0')
        major = 2;
    if (major == 1 && reader->layout != WEIGHTS_LEGACY)
        return error_set(reader->error, ERROR_MODEL_WEIGHTS, reader->files->name,
                         "its architecture is of Keras %s, and its weights are not",
                         reader->version);
    if (major == 1) {
        reader->keras1 = true;
        keras1_rewrite(reader->root, is_theano(reader));
    }
    reader->major = major >= 3 ? 3 : 2;
    reader->tf = reader->major == 2 &&
                 (strstr(reader->version, "-tf") != NULL || reader->version[0] == '\0' ||
                  minor >= 4 || reader->layout == WEIGHTS_V3);
    return true;
}

/* The JSON of an architecture must name a class and its config. */
/* Does the file bring its weights along, and did the user name others? Taking either would be a
 * guess. */
static bool weights_twice(struct reader *reader)
{
    if (reader->files->weights.data == NULL || reader->files->folder)
        return false;
    error_set(reader->error, ERROR_MODEL_WEIGHTS, reader->files->name,
              "it holds its own weights; --weights goes with an architecture in JSON");
    error_hint(reader->error, "load %s", reader->files->name);
    return true;
}

static bool root_check(struct reader *reader)
{
    if (!json_is_object(reader->root))
        return error_set(reader->error, ERROR_MODEL_FILE, reader->files->name,
                         "its configuration describes no model");
    if (json_object_get(reader->root, "modelTopology") != NULL ||
        json_object_get(reader->root, "weightsManifest") != NULL)
        return error_set(reader->error, ERROR_MODEL_FILE, reader->files->name,
                         "this is a TensorFlow.js model; save it as .keras or .h5 from Python");
    if (json_is_object(json_object_get(reader->root, "weight_map"))) {
        error_set(reader->error, ERROR_MODEL_FILE, reader->files->name,
                  "it is the map of a model's weights; the architecture (model.to_json()) is "
                  "needed too");
        return error_hint(reader->error, "load model.json --weights %s", reader->files->name);
    }
    if (json_text(reader->root, "class_name", NULL) == NULL ||
        json_object_get(reader->root, "config") == NULL)
        return error_set(reader->error, ERROR_MODEL_FILE, reader->files->name,
                         "its configuration describes no model");
    return true;
}

static bool weights_open(struct reader *reader, struct keras_bytes image, int place, size_t offset)
{
    reader->h5.name = reader->files->name;
    reader->h5.image = image;
    reader->h5.place = place;
    reader->h5.offset = offset;
    reader->h5.memory = reader->files->memory;
    return h5_open(&reader->h5, reader->error);
}

/* What wrote the weights decides how kernels lie, not what wrote the architecture. */
static void backend_read(struct reader *reader)
{
    if (reader->layout != WEIGHTS_LEGACY)
        return;
    hid_t group = H5Oopen(reader->h5.file, reader->weights_root, H5P_DEFAULT);
    char *backend = group >= 0 ? h5_text(group, "backend") : NULL;
    if (backend != NULL) {
        free(reader->backend);
        reader->backend = backend;
    }
    if (group >= 0)
        H5Oclose(group);
}

/* Is there such a group? A link that leads out of the file is an error. */
static bool holds(struct reader *reader, const char *path)
{
    hid_t group =
        reader->error->code == ERROR_NONE ? h5_find(reader->h5.file, path, reader->error) : -1;
    if (group >= 0)
        H5Oclose(group);
    return group >= 0;
}

/* Tell the two kinds of weights apart. */
static bool layout_detect(struct reader *reader)
{
    if (!h5_unfold(&reader->h5, reader->error))
        return false;
    hid_t file = reader->h5.file;
    hid_t root = H5Oopen(file, "/", H5P_DEFAULT);
    bool legacy =
        root >= 0 && (H5Aexists(root, "layer_names") > 0 || H5Aexists(root, "layer_names0") > 0);
    bool old = root >= 0 && H5Aexists(root, "nb_layers") > 0;
    if (root >= 0)
        H5Oclose(root);
    if (legacy) {
        reader->layout = WEIGHTS_LEGACY;
        reader->weights_root = "/";
    } else if (holds(reader, "model_weights")) {
        reader->layout = WEIGHTS_LEGACY;
        reader->weights_root = "/model_weights";
    } else if (holds(reader, "layers") || holds(reader, "_layer_checkpoint_dependencies") ||
               holds(reader, "vars")) {
        reader->layout = WEIGHTS_V3;
    } else if (reader->error->code != ERROR_NONE) {
        return false;
    } else {
        return error_set(
            reader->error, ERROR_MODEL_FILE, reader->files->name,
            old ? "its weights were written by Keras 1.0 or older, without the names of the layers"
                : "an HDF5 file without a Keras model or weights");
    }
    backend_read(reader);
    return true;
}

static bool open_hdf5(struct reader *reader)
{
    reader->format = "h5";
    if (!weights_open(reader, reader->files->main, PLACE_MAIN, 0))
        return false;
    hid_t root = H5Oopen(reader->h5.file, "/", H5P_DEFAULT);
    if (root < 0)
        return error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                         "the HDF5 file is truncated or damaged");
    char *config = h5_text(root, "model_config"), *version = h5_text(root, "keras_version");
    bool has_config = H5Aexists(root, "model_config") > 0;
    reader->backend = h5_text(root, "backend");
    if (H5Aexists(root, "training_config") > 0)
        json_array_append_new(reader->ignored, json_string("loss and metrics (compile() is not "
                                                           "needed to predict)"));
    H5Oclose(root);
    if (h5_has(reader->h5.file, "optimizer_weights"))
        json_array_append_new(reader->ignored, json_string("optimizer state"));
    bool ok = false;
    if (config == NULL && has_config) {
        error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                  "its configuration cannot be read; the file is damaged");
    } else if (config == NULL) {
        if (layout_detect(reader)) {
            error_set(reader->error, ERROR_MODEL_FILE, reader->files->name,
                      "it holds weights but no model; the architecture (model.to_json()) is "
                      "needed too");
            error_hint(reader->error, "load model.json --weights %s", reader->files->name);
        }
    } else {
        reader->root = json_read(config, strlen(config), reader->files->name, reader->error);
        version_set(reader, version);
        ok = reader->root != NULL && root_check(reader) && layout_detect(reader);
    }
    free(config);
    free(version);
    return ok;
}

/* metadata.json and the version in it. */
static void metadata_read(struct reader *reader, const void *text, size_t size)
{
    json_t *metadata = json_read(text, size, "metadata.json", NULL);
    version_set(reader, json_text(metadata, "keras_version", NULL));
    json_decref(metadata);
}

static bool open_zip(struct reader *reader)
{
    const struct keras_files *files = reader->files;
    struct zip_found found;
    reader->format = "keras";
    if (!zip_read(files, &found, reader->error))
        return false;
    const unsigned char *from[] = {files->memory->data, files->main.data};
    reader->root = json_read(from[found.config.stored] + found.config.offset, found.config.size,
                             files->name, reader->error);
    if (reader->root == NULL || !root_check(reader))
        return false;
    version_set(reader, NULL);
    if (found.metadata.found)
        metadata_read(reader, from[found.metadata.stored] + found.metadata.offset,
                      found.metadata.size);
    if (json_object_size(json_object_get(reader->root, "compile_config")) > 0)
        json_array_append_new(reader->ignored, json_string("loss and metrics (compile() is not "
                                                           "needed to predict)"));
    if (found.assets)
        json_array_append_new(reader->ignored, json_string("assets (vocabularies)"));
    if (!found.weights.found)
        return error_set(reader->error, found.npz ? ERROR_MODEL_REFUSED : ERROR_MODEL_BROKEN,
                         files->name,
                         found.npz ? "its weights are a pickle (.npz), which is never loaded; save "
                                     "the model again with Keras 3"
                                   : "the archive holds no model.weights.h5");
    struct keras_bytes image = {from[found.weights.stored] + found.weights.offset,
                                found.weights.size};
    return weights_open(reader, image, found.weights.stored ? PLACE_MAIN : PLACE_MEMORY,
                        found.weights.offset) &&
           layout_detect(reader);
}

static bool open_json(struct reader *reader)
{
    const struct keras_files *files = reader->files;
    reader->format = files->folder ? "folder" : "json+weights";
    struct keras_bytes text = files->main;
    if (begins(text, "\xef\xbb\xbf")) {
        text.data += 3;
        text.size -= 3;
    }
    reader->root = json_read(text.data, text.size, files->name, reader->error);
    if (reader->root == NULL || !root_check(reader))
        return false;
    version_set(reader, json_text(reader->root, "keras_version", NULL));
    reader->backend = xstrdup(json_text(reader->root, "backend", ""));
    if (files->metadata.data != NULL)
        metadata_read(reader, files->metadata.data, files->metadata.size);
    if (files->weights.data == NULL)
        return !files->folder || error_set(reader->error, ERROR_MODEL_WEIGHTS, files->name,
                                           "the folder holds no model.weights.h5 (and no "
                                           "model.weights.json)");
    if (is_json(files->weights) && shards_is_map(files->weights))
        return shards_open(reader, files->weights);
    if (!is_hdf5(files->weights))
        return error_set(reader->error, ERROR_MODEL_FILE, files->name,
                         "its weights file is no HDF5 file");
    return weights_open(reader, files->weights, PLACE_WEIGHTS, 0) && layout_detect(reader);
}

/* Is it an ONNX ModelProto as exporters write it? Its first fields are ir_version (1, a number) and
 * producer_name (2, a text), in protobuf's wire format; onnx/onnx.proto. */
static bool is_onnx(struct keras_bytes bytes)
{
    const unsigned char *at = (const unsigned char *)bytes.data;
    if (bytes.size < 8 || at[0] != 0x08 || at[1] > 64 || at[2] != 0x12 || at[3] == 0 || at[3] > 64)
        return false;
    for (size_t i = 4; i < 4 + (size_t)at[3] && i < bytes.size; i++)
        if (at[i] < 0x20 || at[i] > 0x7e)
            return false;
    return true;
}

/* Say what a file is that is no Keras model. */
static bool refuse(struct reader *reader)
{
    struct keras_bytes bytes = reader->files->main;
    const char *why = "it is no Keras model (.keras, .h5 or an architecture in JSON)";
    if (begins(bytes, "version https://git-lfs"))
        why = "it is a Git LFS pointer; fetch the file itself with `git lfs pull`";
    else if (begins(bytes, "\x80\x02") || begins(bytes, "\x80\x03") || begins(bytes, "\x80\x04") ||
             begins(bytes, "\x80\x05"))
        why = "it is a Python pickle, which is never loaded";
    else if (bytes.size >= 8 && memcmp(bytes.data + 4, "TFL3", 4) == 0)
        why = "it is a TensorFlow Lite model; Keras models are read";
    else if (is_onnx(bytes))
        why = "it is an ONNX model; layertop reads the Keras model that it was made from";
    else if (begins(bytes, "<!DOCTYPE") || begins(bytes, "<html"))
        why = "it is a web page; the download went wrong";
    else if (bytes.size == 0)
        why = "it is empty";
    return error_set(reader->error, ERROR_MODEL_FILE, reader->files->name, "%s", why);
}

bool source_open(struct reader *reader)
{
    struct keras_bytes bytes = reader->files->main;
    bool zip = begins(bytes, "PK\3\4") || begins(bytes, "PK\5\6");
    bool ok = (zip || is_hdf5(bytes)) && weights_twice(reader) ? false
              : zip                                            ? open_zip(reader)
              : is_hdf5(bytes)                                 ? open_hdf5(reader)
              : is_json(bytes)                                 ? open_json(reader)
              : reader->files->recipe && recipe_is(bytes)
                  ? recipe_open(reader) && root_check(reader)
                  : refuse(reader);
    if (reader->version == NULL)
        version_set(reader, NULL);
    return ok && writer_decide(reader);
}
