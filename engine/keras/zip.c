/* The .keras archive: three members, found by exact name and never unpacked to disk.
 *
 * libzip reads the archive through a source of ours over the mapped file. That source also remembers
 * where libzip last read: so we learn where the bytes of an uncompressed member lie, and weights can
 * be used in place. */
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>
#include <zip.h>

/* Members an archive may list; a .keras file has three plus vocabularies. */
#define ENTRIES_MAX  100000
/* Compressed members may grow by this factor; random weights do not shrink at all. Small ones may be
 * all zeros, and JSON of a few MiB all blanks. */
#define RATIO_MAX    200
#define SMALL_BYTES  (64u << 20)
#define SMALL_JSON   (8u << 20)
/* Of a local header, without the name. */
#define HEADER_BYTES 30

struct window {
    struct keras_bytes bytes;
    size_t position;
    size_t last_read;
    zip_error_t error;
};

static zip_int64_t window_callback(void *state, void *data, zip_uint64_t length,
                                   zip_source_cmd_t command)
{
    struct window *window = state;
    switch (command) {
    case ZIP_SOURCE_OPEN:
        window->position = 0;
        return 0;
    case ZIP_SOURCE_READ: {
        size_t left = window->bytes.size - window->position;
        size_t n = length < left ? (size_t)length : left;
        memcpy(data, window->bytes.data + window->position, n);
        window->last_read = window->position;
        window->position += n;
        return (zip_int64_t)n;
    }
    case ZIP_SOURCE_SEEK: {
        zip_int64_t to = zip_source_seek_compute_offset(window->position, window->bytes.size, data,
                                                        length, &window->error);
        if (to < 0)
            return -1;
        window->position = (size_t)to;
        return 0;
    }
    case ZIP_SOURCE_TELL:
        return (zip_int64_t)window->position;
    case ZIP_SOURCE_STAT: {
        zip_stat_t *stat = data;
        zip_stat_init(stat);
        stat->size = window->bytes.size;
        stat->valid = ZIP_STAT_SIZE;
        return sizeof *stat;
    }
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&window->error, data, length);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_SEEKABLE;
    default:
        zip_error_set(&window->error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
}

/* The bytes of one member, its own header among them. */
struct span {
    size_t header, data, end;
};

struct archive {
    const struct keras_files *files;
    struct window window;
    zip_t *zip;
    struct span spans[3]; /* of the members read so far */
    size_t span_count;
};

/* Where a member's bytes begin: read the first and see where libzip went for it. */
static bool locate(struct archive *archive, zip_uint64_t index, const zip_stat_t *stat,
                   struct span *span)
{
    zip_file_t *file = zip_fopen_index(archive->zip, index, ZIP_FL_COMPRESSED);
    if (file == NULL)
        return false;
    unsigned char first[16];
    zip_uint64_t wanted = stat->comp_size < sizeof first ? stat->comp_size : sizeof first;
    zip_int64_t n = zip_fread(file, first, wanted);
    size_t offset = archive->window.last_read, size = archive->window.bytes.size;
    zip_fclose(file);
    if (n <= 0 || offset > size || stat->comp_size > size - offset ||
        memcmp(archive->window.bytes.data + offset, first, (size_t)n) != 0)
        return false;
    *span = (struct span){.data = offset, .end = offset + (size_t)stat->comp_size};
    return true;
}

static size_t number_at(const unsigned char *at, size_t bytes)
{
    size_t number = 0;
    for (size_t i = bytes; i-- > 0;)
        number = number << 8 | at[i];
    return number;
}

/* The header that ends where the member's bytes begin. */
static const unsigned char *local_header(struct archive *archive, struct span *span)
{
    size_t most = HEADER_BYTES + 2 * 65535;
    for (size_t back = HEADER_BYTES; back <= most && back <= span->data; back++) {
        const unsigned char *at = archive->window.bytes.data + span->data - back;
        if (memcmp(at, "PK\3\4", 4) == 0 &&
            HEADER_BYTES + number_at(at + 26, 2) + number_at(at + 28, 2) == back) {
            span->header = span->data - back;
            return at;
        }
    }
    return NULL;
}

/* Does the header before a member say what the directory at the end of the archive says? */
static bool headers_agree(const unsigned char *header, const char *name, const zip_stat_t *stat)
{
    size_t flags = number_at(header + 6, 2), size = number_at(header + 18, 4);
    size_t length = number_at(header + 26, 2);
    bool later = (flags & 8) != 0, large = size == UINT32_MAX; /* elsewhere, or in 64 bits */
    return (flags & 1) == 0 && number_at(header + 8, 2) == stat->comp_method &&
           (later || large || size == stat->comp_size) && length == strlen(name) &&
           memcmp(header + HEADER_BYTES, name, length) == 0;
}

/* Find a member's bytes, which must be its own. */
static bool member_find(struct archive *archive, zip_uint64_t index, const zip_stat_t *stat,
                        struct span *span, struct error *error)
{
    const char *file = archive->files->name;
    const char *name = zip_get_name(archive->zip, index, ZIP_FL_ENC_RAW);
    if (!locate(archive, index, stat, span))
        return error_set(error, ERROR_MODEL_BROKEN, file,
                         "the archive is damaged: \"%s\" lies outside of it", stat->name);
    const unsigned char *header = local_header(archive, span);
    if (header == NULL || name == NULL || !headers_agree(header, name, stat))
        return error_set(error, ERROR_MODEL_BROKEN, file,
                         "the archive is damaged: the two headers of \"%s\" differ", stat->name);
    for (size_t i = 0; i < archive->span_count; i++) {
        if (span->header < archive->spans[i].end && archive->spans[i].header < span->end)
            return error_set(error, ERROR_MODEL_REFUSED, file,
                             "\"%s\" and another member of the archive overlap", stat->name);
    }
    archive->spans[archive->span_count++] = *span;
    return true;
}

static bool inflate_member(struct archive *archive, zip_uint64_t index, const zip_stat_t *stat,
                           size_t small, struct zip_member *member, struct error *error)
{
    const char *name = archive->files->name;
    struct keras_memory *memory = archive->files->memory;
    if (stat->size > small && (stat->comp_size == 0 || stat->size / stat->comp_size > RATIO_MAX))
        return error_set(error, ERROR_MODEL_REFUSED, name,
                         "a member of the archive unpacks to %llu times its size",
                         (unsigned long long)(stat->comp_size ? stat->size / stat->comp_size : 0));
    size_t offset =
        stat->size > memory->limit ? SIZE_MAX : keras_memory_take(memory, (size_t)stat->size);
    if (offset == SIZE_MAX)
        return error_set(error, ERROR_MODEL_REFUSED, name,
                         "a member of the archive unpacks to %llu bytes, more than is read at most",
                         (unsigned long long)stat->size);
    zip_file_t *file = zip_fopen_index(archive->zip, index, 0);
    if (file == NULL)
        return error_set(error, ERROR_MODEL_BROKEN, name, "the archive is damaged: %s",
                         zip_strerror(archive->zip));
    size_t done = 0;
    zip_int64_t n = 1;
    while (done < stat->size &&
           (n = zip_fread(file, memory->data + offset + done, stat->size - done)) > 0)
        done += (size_t)n;
    /* the checksum is compared when the end is read */
    unsigned char beyond;
    bool whole = done == stat->size && zip_fread(file, &beyond, 1) == 0;
    zip_fclose(file);
    if (!whole)
        return error_set(error, ERROR_MODEL_BROKEN, name,
                         "the archive is damaged: a member does not unpack to what it promises");
    *member = (struct zip_member){true, false, offset, done};
    return true;
}

/* A member called for; `json`: of a few MiB at most. */
static bool member_read(struct archive *archive, zip_uint64_t index, struct zip_member *member,
                        bool json, struct error *error)
{
    const char *name = archive->files->name;
    struct span span;
    zip_stat_t stat;
    if (zip_stat_index(archive->zip, index, 0, &stat) != 0)
        return error_set(error, ERROR_MODEL_BROKEN, name, "the archive is damaged: %s",
                         zip_strerror(archive->zip));
    if (member->found)
        return error_set(error, ERROR_MODEL_REFUSED, name, "the archive holds \"%s\" twice",
                         stat.name);
    if (stat.encryption_method != ZIP_EM_NONE)
        return error_set(error, ERROR_MODEL_REFUSED, name, "\"%s\" is encrypted", stat.name);
    if (json && stat.size > KERAS_CONFIG_BYTES_MAX)
        return error_set(error, ERROR_MODEL_REFUSED, name,
                         "\"%s\" claims %llu bytes, more than is read at most", stat.name,
                         (unsigned long long)stat.size);
    if (stat.size == 0)
        return error_set(error, ERROR_MODEL_BROKEN, name, "\"%s\" is empty", stat.name);
    if (stat.comp_method != ZIP_CM_STORE && stat.comp_method != ZIP_CM_DEFLATE)
        return error_set(error, ERROR_MODEL_REFUSED, name,
                         "\"%s\" is compressed by method %d; only stored and deflate are read",
                         stat.name, stat.comp_method);
    if (!member_find(archive, index, &stat, &span, error))
        return false;
    if (stat.comp_method == ZIP_CM_DEFLATE)
        return inflate_member(archive, index, &stat, json ? SMALL_JSON : SMALL_BYTES, member,
                              error);
    if (stat.size != stat.comp_size)
        return error_set(error, ERROR_MODEL_BROKEN, name,
                         "the archive is damaged: \"%s\" has two sizes", stat.name);
    *member = (struct zip_member){true, true, span.data, (size_t)stat.size};
    return true;
}

/* The directory before "config.json" if a user packed the folder itself, else "". */
static bool find_prefix(zip_t *zip, zip_int64_t count, char *prefix, size_t size)
{
    prefix[0] = '\0';
    bool found = false;
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        if (name == NULL || strncmp(name, "__MACOSX/", 9) == 0)
            continue;
        if (strcmp(name, "config.json") == 0) {
            prefix[0] = '\0';
            return true;
        }
        const char *slash = strchr(name, '/');
        bool outside = strncmp(name, "../", 3) == 0 || name[0] == '/';
        if (slash != NULL && strcmp(slash, "/config.json") == 0 && !found && !outside &&
            (size_t)(slash - name) + 2 <= size) {
            memcpy(prefix, name, (size_t)(slash - name) + 1);
            prefix[slash - name + 1] = '\0';
            found = true;
        }
    }
    return found;
}

static bool members_read(struct archive *archive, struct zip_found *found, struct error *error)
{
    const char *what = archive->files->name;
    zip_int64_t count = zip_get_num_entries(archive->zip, 0);
    if (count > ENTRIES_MAX)
        return error_set(error, ERROR_MODEL_REFUSED, what, "the archive lists %lld members",
                         (long long)count);
    char prefix[256];
    if (!find_prefix(archive->zip, count, prefix, sizeof prefix))
        return error_set(error, ERROR_MODEL_FILE, what,
                         "a zip archive without config.json is no Keras model");
    size_t skip = strlen(prefix);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(archive->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        if (name == NULL || strncmp(name, prefix, skip) != 0)
            continue;
        name += skip;
        struct zip_member *member = NULL;
        if (strcmp(name, "config.json") == 0) {
            member = &found->config;
        } else if (strcmp(name, "metadata.json") == 0) {
            member = &found->metadata;
        } else if (strcmp(name, "model.weights.h5") == 0) {
            member = &found->weights;
        } else if (strcmp(name, "model.weights.npz") == 0 || strcmp(name, "states.npz") == 0) {
            found->npz = true;
        } else if (strncmp(name, "assets/", 7) == 0 && name[7] != '\0') {
            found->assets = true;
        }
        bool json = member != &found->weights;
        if (member != NULL && !member_read(archive, (zip_uint64_t)i, member, json, error))
            return false;
    }
    return true;
}

bool zip_read(const struct keras_files *files, struct zip_found *found, struct error *error)
{
    struct archive archive = {.files = files, .window.bytes = files->main};
    *found = (struct zip_found){0};
    zip_error_t cause;
    zip_error_init(&cause);
    zip_error_init(&archive.window.error);
    zip_source_t *source = zip_source_function_create(window_callback, &archive.window, &cause);
    if (source != NULL)
        archive.zip = zip_open_from_source(source, ZIP_RDONLY, &cause);
    bool ok = false;
    if (archive.zip == NULL) {
        error_set(error, ERROR_MODEL_BROKEN, files->name, "the zip archive is damaged: %s",
                  zip_error_strerror(&cause));
        zip_source_free(source);
    } else {
        ok = members_read(&archive, found, error);
        zip_discard(archive.zip);
    }
    zip_error_fini(&cause);
    return ok;
}
