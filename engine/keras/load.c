/* model_load: open and map the files here, read them in a confined child, check its answer. */
#define _GNU_SOURCE /* memfd_create */
#include "engine/keras/confine.h"
#include "engine/keras/dtypes.h"
#include "engine/keras/receive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Decoded and inflated data may have this many times the bytes of the files, plus a little. */
#define DECODED_FACTOR      32
#define DECODED_BYTES_MIN   (UINT64_C(64) << 20)
#define DECODED_BYTES_MAX   (UINT64_C(64) << 30)
/* The largest drawn model (ConvNeXtXLarge) has 1.4 GB of weights. */
#define RECIPE_BYTES_MAX    (UINT64_C(4) << 30)
#define RECIPE_CPU_NS       INT64_C(20000000000)
/* With what the child has of its parent it stays below 512 MiB. */
#define READER_MEMORY_BYTES (UINT64_C(448) << 20)

/* Processor time: the longest an honest description takes, and what decoding takes on top. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define READER_CPU_NS INT64_C(9000000000)
#else
#define READER_CPU_NS INT64_C(900000000)
#endif
#define READER_CPU_NS_PER_MIB INT64_C(60000000)

struct storage {
    struct model_storage base;
    struct keras_places places;
};

static void unmap(struct keras_bytes *bytes)
{
    if (bytes->data != NULL && bytes->size > 0)
        munmap((void *)(uintptr_t)bytes->data, bytes->size);
    *bytes = (struct keras_bytes){0};
}

static void storage_release(struct model_storage *base)
{
    struct storage *storage = (struct storage *)base;
    for (size_t i = 0; i < storage->places.count; i++)
        unmap(&storage->places.items[i]);
    free(storage->places.items);
    free(storage);
}

static void shards_unmap(struct keras_files *files)
{
    for (size_t i = 0; i < files->shard_count; i++) {
        unmap(&files->shards[i].bytes);
        free(files->shards[i].name);
    }
    free(files->shards);
    files->shards = NULL;
    files->shard_count = 0;
}

static uint64_t files_bytes(const struct keras_files *files)
{
    uint64_t bytes = files->main.size + files->weights.size;
    for (size_t i = 0; i < files->shard_count; i++)
        bytes += files->shards[i].bytes.size;
    return bytes;
}

/* Map a regular file. `dir` is AT_FDCWD or a folder; an absent file is no error if `optional`. */
static bool map_file(int dir, const char *path, bool optional, const char *name,
                     struct keras_bytes *bytes, struct error *error)
{
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (fd < 0 && optional && errno == ENOENT)
        return true;
    if (fd < 0 || fstat(fd, &status) != 0) {
        error_set(error, ERROR_MODEL_FILE, name, "%s%s%s", optional ? path : "",
                  optional ? ": " : "", strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (!S_ISREG(status.st_mode)) {
        close(fd);
        return error_set(error, ERROR_MODEL_FILE, name, "it is no regular file");
    }
    bytes->size = (size_t)status.st_size;
    bytes->data = (const unsigned char *)"";
    if (bytes->size > 0) {
        void *data = mmap(NULL, bytes->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            *bytes = (struct keras_bytes){0};
            error_set(error, ERROR_MODEL_FILE, name, "it cannot be mapped: %s", strerror(errno));
        } else {
            bytes->data = data;
        }
    }
    close(fd);
    return bytes->data != NULL;
}

/* Map what lies beside a map of weights under Keras's names for shards: "x_00000.weights.h5" and on
 * for "x.weights.json". What the map itself says is for the child to read. */
static bool map_shards(int dir, const char *map, const char *name, struct keras_files *files,
                       struct error *error)
{
    const char *slash = strrchr(map, '/');
    const char *base = slash != NULL ? slash + 1 : map;
    size_t stem = strlen(base);
    static const char *const ends[] = {".json", ".weights"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t length = strlen(ends[i]);
        if (stem > length && strncmp(base + stem - length, ends[i], length) == 0)
            stem -= length;
    }
    files->shards = xcalloc(KERAS_SHARDS_MAX, sizeof *files->shards);
    while (files->shard_count < KERAS_SHARDS_MAX) {
        struct keras_shard *shard = &files->shards[files->shard_count];
        char *path = xasprintf("%.*s_%05zu.weights.h5", (int)(base - map + (ptrdiff_t)stem), map,
                               files->shard_count);
        bool ok = map_file(dir, path, true, name, &shard->bytes, error);
        if (shard->bytes.data != NULL) {
            shard->name = xstrdup(path + (base - map));
            files->shard_count++;
        }
        free(path);
        if (!ok || shard->bytes.data == NULL)
            return ok;
    }
    return true;
}

static bool is_object(struct keras_bytes bytes)
{
    size_t at = 0;
    while (at < bytes.size && strchr(" \t\r\n", bytes.data[at]) != NULL && bytes.data[at] != '\0')
        at++;
    return at < bytes.size && bytes.data[at] == '{';
}

/* Map the weights of a folder: one file, or a map and its shards. */
static bool map_folder_weights(int dir, const char *path, struct keras_files *files,
                               struct error *error)
{
    if (!map_file(dir, "model.weights.h5", true, path, &files->weights, error) ||
        files->weights.data != NULL)
        return files->weights.data != NULL;
    return map_file(dir, "model.weights.json", true, path, &files->weights, error) &&
           (files->weights.data == NULL ||
            map_shards(dir, "model.weights.json", path, files, error));
}

static bool map_folder(int dir, const char *path, struct keras_files *files, struct error *error)
{
    files->folder = true;
    if (faccessat(dir, "saved_model.pb", F_OK, 0) == 0 &&
        faccessat(dir, "config.json", F_OK, 0) != 0) {
        error_set(error, ERROR_MODEL_FILE, path,
                  "it is a TensorFlow SavedModel; save the model as .keras or .h5 from Python");
        return error_hint(error, "model.save(\"model.keras\")");
    }
    if (!map_file(dir, "config.json", true, path, &files->main, error))
        return false;
    if (files->main.data == NULL)
        return error_set(error, ERROR_MODEL_FILE, path,
                         "the folder holds no config.json, so it is no Keras model");
    return map_file(dir, "metadata.json", true, path, &files->metadata, error) &&
           map_folder_weights(dir, path, files, error);
}

/* The weights that the user names: a file, a map of shards, or a folder that holds either. */
static bool map_weights(const char *path, struct keras_files *files, struct error *error)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return map_file(AT_FDCWD, path, false, path, &files->weights, error) &&
               (!is_object(files->weights) || map_shards(AT_FDCWD, path, path, files, error));
    bool ok = map_folder_weights(dir, path, files, error);
    close(dir);
    if (ok && files->weights.data == NULL)
        ok = error_set(error, ERROR_MODEL_FILE, path,
                       "the folder holds no model.weights.h5 and no model.weights.json");
    return ok;
}

static bool map_all(const char *path, const struct model_options *options,
                    struct keras_files *files, struct error *error)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return error_set(error, ERROR_MODEL_FILE, path, "%s", strerror(errno));
    bool ok;
    if (S_ISDIR(status.st_mode)) {
        int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
            return error_set(error, ERROR_MODEL_FILE, path, "%s", strerror(errno));
        ok = map_folder(dir, path, files, error);
        close(dir);
    } else {
        ok = map_file(AT_FDCWD, path, false, path, &files->main, error);
    }
    if (ok && options != NULL && options->weights != NULL) {
        unmap(&files->weights);
        shards_unmap(files);
        ok = map_weights(options->weights, files, error);
    }
    return ok;
}

static bool memory_open(struct keras_memory *memory, const struct keras_files *files,
                        struct error *error)
{
    uint64_t bytes = files_bytes(files);
    uint64_t limit = bytes > DECODED_BYTES_MAX / DECODED_FACTOR
                         ? DECODED_BYTES_MAX
                         : bytes * DECODED_FACTOR + DECODED_BYTES_MIN;
    if (files->recipe && recipe_is(files->main))
        limit = RECIPE_BYTES_MAX;
    *memory = (struct keras_memory){.limit = limit, .data = MAP_FAILED};
    memory->fd = memfd_create("layertop-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory->fd >= 0)
        memory->data = mmap(NULL, memory->limit, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                            memory->fd, 0);
    if (memory->data == MAP_FAILED)
        return error_set(error, ERROR_MEMORY, files->name, "no memory for decoded weights: %s",
                         strerror(errno));
    return true;
}

static void memory_close(struct keras_memory *memory)
{
    if (memory->data != NULL && memory->data != MAP_FAILED)
        munmap(memory->data, memory->limit);
    if (memory->fd >= 0)
        close(memory->fd);
}

/* What the child left in the memory file, read-only; sealed, so that nothing can change it. */
static bool memory_map(struct keras_memory *memory, const char *name, struct keras_bytes *bytes,
                       struct error *error)
{
    struct stat status;
    munmap(memory->data, memory->limit);
    memory->data = NULL;
    if (fstat(memory->fd, &status) != 0 ||
        fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
        return error_set(error, ERROR_MEMORY, name, "the decoded weights cannot be sealed: %s",
                         strerror(errno));
    if (status.st_size == 0)
        return true;
    void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, memory->fd, 0);
    if (data == MAP_FAILED)
        return error_set(error, ERROR_MEMORY, name, "the decoded weights cannot be mapped: %s",
                         strerror(errno));
    *bytes = (struct keras_bytes){data, (size_t)status.st_size};
    return true;
}

/* The reader's answer: the model, or {"error": ...}. */
static json_t *read_reply(void *data, bool filtered)
{
    struct error error = {0};
    json_t *reply = keras_read(data, &error);
    if (reply == NULL)
        return json_pack("{s:{s:i, s:s, s:s, s:s}}", "error", "code", (int)error.code, "what",
                         error.what, "why", error.why, "hint", error.hint);
    if (!filtered)
        json_array_append_new(json_object_get(reply, "ignored"),
                              json_string("system-call filter (refused by this system; the file "
                                          "was read under resource limits only)"));
    return reply;
}

static bool reply_failed(json_t *reply, const char *name, struct error *error)
{
    json_t *cause = json_object_get(reply, "error");
    if (cause == NULL)
        return false;
    int code = (int)json_integer_value(json_object_get(cause, "code"));
    error_set(error,
              error_code_known(code) && code != ERROR_NONE ? (enum error_code)code
                                                           : ERROR_MODEL_BROKEN,
              name, "%s", json_text(cause, "why", ""));
    const char *hint = json_text(cause, "hint", "");
    if (hint[0] != '\0')
        error_hint(error, "%s", hint);
    return true;
}

static json_t *run_reader(struct keras_files *files, const struct model_options *options,
                          struct error *error)
{
    if (options != NULL && options->unconfined)
        return read_reply(files, true);
    int64_t mib = (int64_t)(files_bytes(files) >> 20);
    struct confine_limits limits = {
        .name = files->name,
        .memory_bytes = READER_MEMORY_BYTES,
        .file_bytes = files->memory->limit,
        .cpu_ns = READER_CPU_NS + mib * READER_CPU_NS_PER_MIB,
        .wall_ns = INT64_C(30000000000) + mib * 200000000, /* a cold network file system */
        .keep = files->memory->fd,
        .cancel = options != NULL ? options->cancel : NULL,
    };
    if (files->recipe && recipe_is(files->main))
        limits.cpu_ns += RECIPE_CPU_NS;
    return confine_run(read_reply, files, &limits, error);
}

/* The mappings live as long as the model. */
static void places_take(struct keras_places *places, struct keras_files *files)
{
    places->count = PLACE_SHARDS + files->shard_count;
    places->items = xcalloc(places->count, sizeof *places->items);
    places->items[PLACE_MAIN] = files->main;
    places->items[PLACE_WEIGHTS] = files->weights;
    for (size_t i = 0; i < files->shard_count; i++) {
        places->items[PLACE_SHARDS + i] = files->shards[i].bytes;
        files->shards[i].bytes = (struct keras_bytes){0};
    }
    shards_unmap(files);
}

struct model *model_load(const char *path, const struct model_options *options, struct error *error)
{
    struct keras_memory memory = {.fd = -1};
    struct keras_files files = {.name = path, .memory = &memory};
    struct storage *storage = xcalloc(1, sizeof *storage);
    storage->base.release = storage_release;
    if (options != NULL) {
        files.shape = options->shape;
        files.recipe = options->recipe;
        files.map = (json_t *)(uintptr_t)options->map;
        files.outputs = (json_t *)(uintptr_t)options->outputs;
    }
    struct model *model = NULL;
    json_t *reply = NULL;
    if (map_all(path, options, &files, error) && memory_open(&memory, &files, error))
        reply = run_reader(&files, options, error);
    places_take(&storage->places, &files);
    if (reply != NULL && !reply_failed(reply, path, error) &&
        memory_map(&memory, path, &storage->places.items[PLACE_MEMORY], error))
        model = receive_model(reply, path, &storage->places, error);
    json_decref(reply);
    memory_close(&memory);
    unmap(&files.metadata);
    if (model != NULL) {
        model->storage = &storage->base;
        dtypes_infer(model);
    } else {
        storage_release(&storage->base);
        model_error_hint(error, path);
    }
    return model;
}
