/* One reading, from mapped bytes to the reply. */
#define _GNU_SOURCE /* vasprintf */
#include "engine/keras/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct arena {
    struct arena *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
};

#define ARENA_BYTES (64u << 10)

void *reader_alloc(struct reader *reader, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    struct arena *arena = reader->arena;
    if (arena == NULL || arena->size - arena->used < bytes) {
        size_t size = bytes > ARENA_BYTES ? bytes : ARENA_BYTES;
        arena = xmalloc(sizeof *arena + size);
        *arena = (struct arena){.next = reader->arena, .size = size};
        reader->arena = arena;
    }
    void *taken = arena->bytes + arena->used;
    arena->used += bytes;
    return taken;
}

char *reader_print(struct reader *reader, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    char *kept = reader_alloc(reader, (size_t)(length > 0 ? length : 0) + 1);
    snprintf(kept, (size_t)(length > 0 ? length : 0) + 1, "%s", length > 0 ? text : "");
    if (length >= 0)
        free(text);
    return kept;
}

void reader_release(struct reader *reader)
{
    while (reader->arena != NULL) {
        struct arena *next = reader->arena->next;
        free(reader->arena);
        reader->arena = next;
    }
}

size_t keras_memory_take(struct keras_memory *memory, size_t bytes)
{
    size_t at = (memory->used + 63) & ~(size_t)63;
    if (at > memory->limit || bytes > memory->limit - at ||
        ftruncate(memory->fd, (off_t)(at + bytes)) != 0)
        return SIZE_MAX;
    memory->used = at + bytes;
    return at;
}

/* The dtype policy of the first layer that has one. */
static const char *policy(json_t *layers)
{
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer)
    {
        const char *dtype = json_text(json_object_get(layer, "config"), "dtype", NULL);
        if (dtype != NULL && strcmp(json_text(layer, "class", ""), "InputLayer") != 0)
            return dtype;
    }
    return "float32";
}

static json_t *describe(struct reader *reader, json_t *inputs, json_t *outputs)
{
    char writer[128];
    if (reader->version[0] == '\0')
        snprintf(writer, sizeof writer, "unknown");
    else
        snprintf(writer, sizeof writer, "%s %s", reader->tf ? "tf.keras" : "Keras",
                 reader->version);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O, s:O, s:O, s:O, s:O}", "name",
                     reader->top->name, "format", reader->format, "writer", writer, "keras_version",
                     reader->version, "backend", reader->backend != NULL ? reader->backend : "",
                     "dtype_policy", policy(reader->layers), "preprocess",
                     reader->preprocess != NULL ? reader->preprocess : "", "ignored",
                     reader->ignored, "layers", reader->layers, "nodes", reader->nodes, "inputs",
                     inputs, "outputs", outputs);
}

json_t *keras_read(const struct keras_files *files, struct error *error)
{
    struct error mine = {0};
    struct reader reader = {
        .files = files,
        .error = &mine,
        .format = "",
        .ignored = json_array(),
        .mapped = json_object(),
        .layers = json_array(),
        .nodes = json_array(),
    };
    json_t *inputs = json_array(), *outputs = json_array(), *reply = NULL;
    json_t *architecture = NULL;
    bool opened = source_open(&reader);
    if (opened && files->outputs == NULL &&
        json_dumpb(reader.root, NULL, 0, JSON_COMPACT) <= KERAS_KEPT_BYTES_MAX)
        architecture = json_deep_copy(reader.root); /* the tree below is changed by its readers */
    if (opened && network_declare(&reader) && config_map_check(&reader) &&
        network_trace(&reader, &inputs, &outputs) && bind_weights(&reader) &&
        weights_convert(&reader) &&
        (files->outputs == NULL || network_cut(&reader, inputs, outputs)))
        reply = describe(&reader, inputs, outputs);
    if (reply != NULL && architecture != NULL)
        json_object_set(reply, "architecture", architecture);
    json_decref(architecture);
    if (reply == NULL && mine.code == ERROR_NONE)
        error_set(&mine, ERROR_MODEL_BROKEN, files->name, "its text is not UTF-8");
    if (reply == NULL && error != NULL) {
        char name[sizeof mine.what];
        *error = mine;
        /* errors of the HDF5 file name the object; the user knows the file */
        if (strcmp(mine.what, text_clean(name, sizeof name, files->name)) != 0)
            error_set(error, mine.code, files->name, "\"%s\": %s", mine.what, mine.why);
    }
    h5_close(&reader.h5);
    shards_close(&reader);
    network_free(reader.top);
    json_decref(reader.root);
    json_decref(reader.ignored);
    json_decref(reader.mapped);
    json_decref(reader.layers);
    json_decref(reader.nodes);
    json_decref(inputs);
    json_decref(outputs);
    free(reader.version);
    free(reader.backend);
    free(reader.preprocess);
    json_decref(reader.recipe);
    reader_release(&reader);
    return reply;
}
