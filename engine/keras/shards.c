/* Weights that are cut into shards: a map in JSON, which says in which HDF5 files the variables of a
 * layer lie, and these files beside it (model.save_weights("x.weights.json", max_shard_size=...)).
 *
 * A file names no other file here: load.c opens what lies beside the map under Keras's own names
 * for shards, and what the map says must be among them. */
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>

bool shards_is_map(struct keras_bytes bytes)
{
    json_t *map = bytes.data == NULL ? NULL : json_read(bytes.data, bytes.size, "the map", NULL);
    bool is = json_is_object(json_object_get(map, "weight_map"));
    json_decref(map);
    return is;
}

/* Note that a shard is needed. */
static bool shard_want(struct reader *reader, json_t *name, bool *wanted)
{
    const struct keras_files *files = reader->files;
    const char *text = json_string_value(name);
    if (text == NULL || strchr(text, '/') != NULL || strchr(text, '\\') != NULL)
        return error_set(reader->error, ERROR_MODEL_REFUSED, files->name,
                         "the map of its shards names \"%s\", which is no file beside it",
                         text != NULL ? text : "?");
    for (size_t i = 0; i < files->shard_count; i++) {
        if (strcmp(files->shards[i].name, text) == 0) {
            wanted[i] = true;
            return true;
        }
    }
    return error_set(reader->error, ERROR_MODEL_WEIGHTS, files->name,
                     "its shard \"%s\" is not there; all shards lie beside their map, under the "
                     "names that Keras gave them",
                     text);
}

static bool map_read(struct reader *reader, json_t *map, bool *wanted)
{
    const char *key;
    json_t *value, *name;
    size_t i;
    json_object_foreach(map, key, value)
    {
        if (!json_is_array(value) && !shard_want(reader, value, wanted))
            return false;
        json_array_foreach(value, i, name)
        {
            if (!shard_want(reader, name, wanted))
                return false;
        }
    }
    return true;
}

static bool shard_open(struct reader *reader, size_t index)
{
    const struct keras_files *files = reader->files;
    struct h5 *h5 = &reader->shards[reader->shard_count];
    *h5 = (struct h5){.name = files->shards[index].name,
                      .image = files->shards[index].bytes,
                      .place = PLACE_SHARDS + (int)index,
                      .memory = files->memory};
    if (!h5_open(h5, reader->error))
        return false;
    reader->shard_count++;
    return h5_unfold(h5, reader->error);
}

bool shards_open(struct reader *reader, struct keras_bytes bytes)
{
    const struct keras_files *files = reader->files;
    json_t *map = json_read(bytes.data, bytes.size, files->name, reader->error);
    bool *wanted = xcalloc(files->shard_count, sizeof *wanted);
    bool ok = map != NULL && map_read(reader, json_object_get(map, "weight_map"), wanted);
    reader->shards = xcalloc(files->shard_count, sizeof *reader->shards);
    for (size_t i = 0; ok && i < files->shard_count; i++)
        ok = !wanted[i] || shard_open(reader, i);
    reader->layout = WEIGHTS_V3;
    free(wanted);
    json_decref(map);
    return ok;
}

void shards_close(struct reader *reader)
{
    for (size_t i = 0; i < reader->shard_count; i++)
        h5_close(&reader->shards[i]);
    free(reader->shards);
}
