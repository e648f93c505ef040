/* Models that ship as an architecture with a recipe for their weights (demo:NAME).
 *
 * The file is gzipped JSON: {"name", "constructor", "keras_version", "preprocess", "config": what
 * to_json() wrote, "weights": {PATH: [[name, shape, offset, amplitude]...]}}. Element i of a
 * variable is offset + amplitude * u, where
 *
 *   u = (splitmix64(fnv1a64("PATH/NAME") + i * 0x9E3779B97F4A7C15) >> 40) / 2^23 - 1
 *
 * so that the weights are the same on every machine and take no room in the repository.
 * tests/tools/make_demos.py writes these files and chooses the amplitudes.
 *
 * splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
 * FNV-1a: draft-eastlake-fnv.
 */
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Inflate a whole gzip file of at most KERAS_CONFIG_BYTES_MAX bytes. Caller frees. */
static char *inflate_all(struct keras_bytes bytes, size_t *size)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)bytes.data, .avail_in = (uInt)bytes.size};
    if (bytes.size > KERAS_CONFIG_BYTES_MAX || inflateInit2(&stream, 15 + 16) != Z_OK)
        return NULL;
    size_t room = 1u << 20;
    char *text = xmalloc(room);
    int state;
    do {
        if (stream.total_out == room) {
            room *= 2;
            text = xrealloc(text, room);
        }
        stream.next_out = (Bytef *)text + stream.total_out;
        stream.avail_out = (uInt)(room - stream.total_out);
        state = inflate(&stream, Z_NO_FLUSH);
    } while (state == Z_OK && stream.total_out <= KERAS_CONFIG_BYTES_MAX);
    *size = stream.total_out;
    inflateEnd(&stream);
    if (state == Z_STREAM_END)
        return text;
    free(text);
    return NULL;
}

bool recipe_is(struct keras_bytes bytes)
{
    return bytes.size >= 2 && bytes.data[0] == 0x1f && bytes.data[1] == 0x8b;
}

bool recipe_open(struct reader *reader)
{
    const char *name = reader->files->name;
    size_t size = 0;
    char *text = inflate_all(reader->files->main, &size);
    if (text == NULL)
        return error_set(reader->error, ERROR_MODEL_BROKEN, name,
                         "the compressed architecture is damaged");
    json_t *file = json_read(text, size, name, reader->error);
    free(text);
    if (file == NULL)
        return false;
    reader->format = "demo";
    reader->root = json_incref(json_object_get(file, "config"));
    reader->recipe = json_incref(json_object_get(file, "weights"));
    reader->version = xstrdup(json_text(file, "keras_version", ""));
    reader->preprocess = xstrdup(json_text(file, "preprocess", ""));
    reader->layout = WEIGHTS_RECIPE;
    json_decref(file);
    if (!json_is_object(reader->root) || !json_is_object(reader->recipe))
        return error_set(reader->error, ERROR_MODEL_BROKEN, name,
                         "it holds no architecture with a recipe for its weights");
    return true;
}

static uint64_t fnv1a64(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

static void draw(float *out, size_t count, uint64_t key, float offset, float amplitude)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t z = key + (uint64_t)i * UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        z ^= z >> 31;
        out[i] = offset + amplitude * ((float)(z >> 40) / 8388608.0f - 1.0f);
    }
}

/* One variable: [name, shape, offset, amplitude] → a weight of the reply. */
static json_t *weight_draw(struct reader *reader, const char *path, json_t *variable)
{
    const char *name = json_string_value(json_array_get(variable, 0));
    json_t *dims = json_array_get(variable, 1);
    uint64_t count = 1;
    size_t axis;
    json_t *dim;
    if (name == NULL || !json_is_array(dims) || json_array_size(dims) > TENSOR_RANK_MAX)
        return NULL;
    json_array_foreach(dims, axis, dim)
    {
        json_int_t value = json_integer_value(dim);
        if (value < 1 || (uint64_t)value > (UINT64_C(1) << 40) / count)
            return NULL;
        count *= (uint64_t)value;
    }
    size_t at = keras_memory_take(reader->files->memory, count * sizeof(float));
    if (at == SIZE_MAX) {
        error_set(reader->error, ERROR_MODEL_REFUSED, reader->files->name,
                  "its recipe asks for more weights than a demo model may have");
        return NULL;
    }
    uint64_t key = fnv1a64(UINT64_C(0xcbf29ce484222325), path);
    key = fnv1a64(fnv1a64(key, "/"), name);
    draw((float *)(void *)(reader->files->memory->data + at), count, key,
         (float)json_number_value(json_array_get(variable, 2)),
         (float)json_number_value(json_array_get(variable, 3)));
    return json_pack("{s:s, s:s, s:O, s:i, s:I, s:I}", "name", name, "dtype", "float32", "shape",
                     dims, "place", (int)PLACE_MEMORY, "offset", (json_int_t)at, "bytes",
                     (json_int_t)(count * sizeof(float)));
}

bool recipe_bind(struct reader *reader)
{
    size_t index, i;
    json_t *layer, *variable;
    json_array_foreach(reader->layers, index, layer)
    {
        const char *path = json_text(layer, "path", "");
        json_array_foreach(json_object_get(reader->recipe, path), i, variable)
        {
            json_t *weight = weight_draw(reader, path, variable);
            if (weight == NULL)
                return reader->error->code != ERROR_NONE
                           ? false
                           : error_set(reader->error, ERROR_MODEL_BROKEN, reader->files->name,
                                       "the recipe of layer %s is malformed", path);
            json_array_append_new(json_object_get(layer, "weights"), weight);
        }
    }
    return true;
}
