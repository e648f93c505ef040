#include "engine/npy.h"

#include "engine/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

static const char magic[6] = "\x93NUMPY";
#define HEADER_TEXT_MAX (64u << 10)
#define MEMBERS_MAX     4096

/* ---- headers ---- */

/* NumPy's type strings; bfloat16 has none. */
static const struct {
    const char *text;
    enum dtype dtype;
} types[] = {
    {"<f4", DTYPE_F32}, {"<f8", DTYPE_F64},  {"<f2", DTYPE_F16}, {"|i1", DTYPE_I8},
    {"|u1", DTYPE_U8},  {"<i2", DTYPE_I16},  {"<u2", DTYPE_U16}, {"<i4", DTYPE_I32},
    {"<i8", DTYPE_I64}, {"|b1", DTYPE_BOOL},
};

/* The value's text behind 'key': in the header's Python literal, NULL if the key is not there. */
static const char *find_value(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        return NULL;
    at += strlen(key);
    at += strspn(at, " ");
    if (*at != ':')
        return NULL;
    at++;
    return at + strspn(at, " ");
}

static bool parse_shape(const char *text, struct shape *shape)
{
    if (*text++ != '(')
        return false;
    shape->rank = 0;
    for (;;) {
        text += strspn(text, " ");
        if (*text == ')')
            return true;
        char *end;
        errno = 0;
        long long dim = strtoll(text, &end, 10);
        if (end == text || errno != 0 || dim < 0 || shape->rank == TENSOR_RANK_MAX)
            return false;
        shape->dims[shape->rank++] = dim;
        text = end + strspn(end, " L");
        if (*text == ',')
            text++;
        else if (*text != ')')
            return false;
    }
}

/* The header's text: a Python dict with descr, fortran_order and shape. */
static bool parse_text(const char *text, const char *what, struct npy_array *out,
                       struct error *error)
{
    const char *descr = find_value(text, "'descr'"), *order = find_value(text, "'fortran_order'"),
               *shape = find_value(text, "'shape'");
    if (descr == NULL || order == NULL || shape == NULL || descr[0] != '\'')
        return error_set(error, ERROR_FILE, what, "its NumPy header cannot be read");
    size_t length = strcspn(descr + 1, "'");
    bool known = false;
    for (size_t i = 0; !known && i < sizeof types / sizeof *types; i++) {
        /* one-byte types may carry any byte order mark */
        known = length == 3 && strncmp(types[i].text + 1, descr + 2, 2) == 0 &&
                (types[i].text[0] == descr[1] || types[i].text[2] == '1' || descr[1] == '=');
        if (known)
            out->dtype = types[i].dtype;
    }
    if (!known)
        return error_set(
            error, ERROR_FILE, what,
            "it holds NumPy type %.*s; float16..64, int8..64, uint8, uint16 and bool in "
            "little endian can be read",
            (int)(length < 32 ? length : 32), descr + 1);
    if (!parse_shape(shape, &out->shape))
        return error_set(error, ERROR_FILE, what, "its shape is none of at most %d dimensions",
                         TENSOR_RANK_MAX);
    out->fortran = strncmp(order, "True", 4) == 0;
    return true;
}

bool npy_parse(const void *data, size_t bytes, const char *what, struct npy_array *out,
               struct error *error)
{
    const unsigned char *b = data;
    if (bytes < 10 || memcmp(b, magic, sizeof magic) != 0)
        return error_set(error, ERROR_FILE, what, "it is no NumPy file");
    size_t start = b[6] == 1 ? 10 : 12;
    if (b[6] < 1 || b[6] > 3 || bytes < start)
        return error_set(error, ERROR_FILE, what, "NumPy format %d.%d is not known", b[6], b[7]);
    size_t length = b[8] | (size_t)b[9] << 8;
    if (b[6] > 1)
        length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (length > HEADER_TEXT_MAX || length > bytes - start)
        return error_set(error, ERROR_FILE, what, "its NumPy header is cut short");
    char *text = xmalloc(length + 1);
    memcpy(text, b + start, length);
    text[length] = '\0';
    *out = (struct npy_array){.name = ""};
    bool good = parse_text(text, what, out, error);
    free(text);
    if (!good)
        return false;
    int64_t elements = shape_elements(&out->shape);
    size_t size = dtype_bytes(out->dtype), left = bytes - start - length;
    if (elements < 0 || (uint64_t)elements > left / size) {
        char shape[128];
        return error_set(error, ERROR_FILE, what,
                         "it is cut short: %zu bytes of data are too few "
                         "for shape %s of %s",
                         left, shape_format(shape, sizeof shape, &out->shape),
                         dtype_name(out->dtype));
    }
    out->data = b + start + length;
    out->bytes = (size_t)elements * size;
    return true;
}

size_t npy_header(char out[NPY_HEADER_MAX], enum dtype dtype, const struct shape *shape)
{
    const char *descr = "<f4";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].dtype == dtype)
            descr = types[i].text;
    }
    char dims[160] = "";
    for (int i = 0; i < shape->rank; i++) {
        size_t used = strlen(dims);
        snprintf(dims + used, sizeof dims - used, "%s%lld%s", i > 0 ? " " : "",
                 (long long)shape->dims[i], i + 1 < shape->rank || shape->rank == 1 ? "," : "");
    }
    int length = snprintf(out + 10, NPY_HEADER_MAX - 10,
                          "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, dims);
    size_t total = (10 + (size_t)length + 1 + 63) / 64 * 64;
    memset(out + 10 + length, ' ', total - 11 - (size_t)length);
    out[total - 1] = '\n';
    memcpy(out, magic, sizeof magic);
    out[6] = 1;
    out[7] = 0;
    out[8] = (char)((total - 10) & 0xff);
    out[9] = (char)((total - 10) >> 8);
    return total;
}

/* ---- reading ---- */

struct npy_file {
    void *map; /* of a .npy */
    size_t map_bytes;
    struct npy_array *arrays;
    void **members; /* unpacked members of a .npz, one per array */
    size_t count;
};

static bool fail_zip(const char *path, zip_t *zip, struct error *error)
{
    return error_set(error, ERROR_FILE, path, "%s", zip_strerror(zip));
}

static bool read_member(struct npy_file *file, const char *path, zip_t *zip, zip_uint64_t index,
                        struct error *error)
{
    zip_stat_t stat;
    if (zip_stat_index(zip, index, 0, &stat) != 0 || (stat.valid & ZIP_STAT_SIZE) == 0 ||
        (stat.valid & ZIP_STAT_NAME) == 0)
        return fail_zip(path, zip, error);
    void *data = malloc(stat.size > 0 ? (size_t)stat.size : 1);
    if (data == NULL)
        return error_set(error, ERROR_MEMORY, path, "no memory for the %llu bytes of %s",
                         (unsigned long long)stat.size, stat.name);
    file->members[file->count] = data;
    struct npy_array *array = &file->arrays[file->count++];
    zip_file_t *member = zip_fopen_index(zip, index, 0);
    zip_int64_t got = member != NULL ? zip_fread(member, data, stat.size) : -1;
    if (member != NULL)
        zip_fclose(member);
    if (got < 0 || (zip_uint64_t)got != stat.size)
        return error_set(error, ERROR_FILE, path, "its member %s cannot be unpacked", stat.name);
    if (!npy_parse(data, (size_t)got, path, array, error))
        return false;
    char *name = xstrdup(stat.name);
    size_t length = strlen(name);
    if (length > 4 && strcmp(name + length - 4, ".npy") == 0)
        name[length - 4] = '\0';
    array->name = name;
    return true;
}

static bool read_zip(struct npy_file *file, const char *path, struct error *error)
{
    int code;
    zip_t *zip = zip_open(path, ZIP_RDONLY, &code);
    if (zip == NULL) {
        zip_error_t reason;
        zip_error_init_with_code(&reason, code);
        error_set(error, ERROR_FILE, path, "%s", zip_error_strerror(&reason));
        zip_error_fini(&reason);
        return false;
    }
    zip_int64_t count = zip_get_num_entries(zip, 0);
    bool good = count > 0 && count <= MEMBERS_MAX;
    if (!good)
        error_set(error, ERROR_FILE, path, "a zip of %lld members is no .npz of inputs",
                  (long long)count);
    if (good) {
        file->arrays = xcalloc((size_t)count, sizeof *file->arrays);
        file->members = xcalloc((size_t)count, sizeof *file->members);
    }
    for (zip_int64_t i = 0; good && i < count; i++)
        good = read_member(file, path, zip, (zip_uint64_t)i, error);
    zip_discard(zip);
    return good;
}

static bool read_npy(struct npy_file *file, const char *path, int descriptor, size_t bytes,
                     struct error *error)
{
    void *map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (map == MAP_FAILED)
        return error_set(error, ERROR_FILE, path, "cannot be mapped: %s", strerror(errno));
    file->map = map;
    file->map_bytes = bytes;
    file->arrays = xcalloc(1, sizeof *file->arrays);
    file->count = 1;
    return npy_parse(map, bytes, path, &file->arrays[0], error);
}

struct npy_file *npy_open(const char *path, struct error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat stat;
    if (descriptor < 0 || fstat(descriptor, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        error_set(error, ERROR_FILE, path, "cannot be read: %s",
                  descriptor < 0 ? strerror(errno) : "not a regular file");
        if (descriptor >= 0)
            close(descriptor);
        return NULL;
    }
    char start[2] = "";
    ssize_t got = pread(descriptor, start, sizeof start, 0);
    struct npy_file *file = xcalloc(1, sizeof *file);
    bool good;
    if (got == 2 && memcmp(start, "PK", 2) == 0)
        good = read_zip(file, path, error);
    else if (got == 2 && memcmp(start, magic, 2) == 0)
        good = read_npy(file, path, descriptor, (size_t)stat.st_size, error);
    else
        good = error_set(error, ERROR_FILE, path, "it is neither .npy nor .npz");
    close(descriptor);
    if (good)
        return file;
    npy_close(file);
    return NULL;
}

size_t npy_count(const struct npy_file *file)
{
    return file->count;
}

const struct npy_array *npy_at(const struct npy_file *file, size_t index)
{
    return &file->arrays[index];
}

const struct npy_array *npy_find(const struct npy_file *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++) {
        if (strcmp(file->arrays[i].name, name) == 0)
            return &file->arrays[i];
    }
    return NULL;
}

void npy_close(struct npy_file *file)
{
    if (file == NULL)
        return;
    for (size_t i = 0; file->members != NULL && i < file->count; i++) {
        free(file->members[i]);
        if (file->arrays[i].name != NULL && file->arrays[i].name[0] != '\0')
            free((char *)(uintptr_t)file->arrays[i].name);
    }
    if (file->map != NULL)
        munmap(file->map, file->map_bytes);
    free(file->members);
    free(file->arrays);
    free(file);
}

/* ---- writing ---- */

bool npy_is_npz_name(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && strcasecmp(path + length - 4, ".npz") == 0;
}

static bool write_all(int descriptor, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t written = write(descriptor, at, bytes);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            at += written;
            bytes -= (size_t)written;
        }
    }
    return true;
}

static bool write_npy(const char *path, const char *temporary, const struct npy_array *array,
                      struct error *error)
{
    char header[NPY_HEADER_MAX];
    size_t length = npy_header(header, array->dtype, &array->shape);
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool good = descriptor >= 0 && write_all(descriptor, header, length) &&
                write_all(descriptor, array->data, array->bytes);
    int failure = errno;
    if (descriptor >= 0 && close(descriptor) != 0 && good) {
        good = false;
        failure = errno;
    }
    return good || output_file_fail(path, failure, error);
}

static bool write_npz(const char *temporary, const struct npy_array *arrays, size_t count,
                      struct error *error)
{
    int code;
    zip_t *zip = zip_open(temporary, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (zip == NULL)
        return error_set(error, ERROR_FILE, temporary, "cannot be written: %s", strerror(errno));
    char(*headers)[NPY_HEADER_MAX] = xcalloc(count, sizeof *headers);
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        zip_buffer_fragment_t parts[2] = {
            {(zip_uint8_t *)headers[i], npy_header(headers[i], arrays[i].dtype, &arrays[i].shape)},
            {(zip_uint8_t *)(uintptr_t)arrays[i].data, arrays[i].bytes}};
        char *name = xasprintf("%s.npy", arrays[i].name);
        zip_source_t *source =
            zip_source_buffer_fragment(zip, parts, arrays[i].bytes > 0 ? 2 : 1, 0);
        zip_int64_t index = source != NULL ? zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8) : -1;
        free(name);
        if (index < 0 && source != NULL)
            zip_source_free(source);
        /* stored, as numpy.savez does; the same data make the same file (1980-01-01) */
        good = index >= 0 &&
               zip_set_file_compression(zip, (zip_uint64_t)index, ZIP_CM_STORE, 0) == 0 &&
               zip_file_set_dostime(zip, (zip_uint64_t)index, 0, 0x21, 0) == 0;
    }
    if (good && zip_close(zip) == 0) {
        free(headers);
        return true;
    }
    error_set(error, ERROR_FILE, temporary, "cannot be written: %s", zip_strerror(zip));
    zip_discard(zip);
    free(headers);
    return false;
}

bool npy_write(const char *path, const struct npy_array *arrays, size_t count, struct error *error)
{
    struct output_file file;
    if (!output_file_begin(&file, path, error))
        return false;
    bool good;
    if (npy_is_npz_name(path))
        good = write_npz(file.temporary, arrays, count, error);
    else if (count == 1)
        good = write_npy(path, file.temporary, &arrays[0], error);
    else
        good = error_set(error, ERROR_VALUE, path,
                         "%zu outputs do not fit in one .npy; name a .npz", count);
    if (!good && error != NULL) /* not the name that it was written under */
        snprintf(error->what, sizeof error->what, "%s", path);
    return output_file_end(&file, good, error);
}
