/* HDF5, opened from memory so that a file can name no other file.
 *
 * The library reads an image that is already mapped: the core driver gets it through callbacks that
 * hand out the mapping itself instead of copies. Only hard links are followed; soft and external
 * links, virtual datasets, external storage and filters other than deflate, shuffle, fletcher32 and
 * LZF are refused (CVE-2026-1669 and its kin read other files of the host through those). */
#include "engine/hdf5.h"
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>

#define NAMES_MAX          100000
#define TEXT_BYTES_MAX     (256u << 20)
#define PATH_COMPONENT_MAX 1024
#define DATA_VISITS_MAX    8192

static void *image_malloc(size_t size, H5FD_file_image_op_t op, void *udata)
{
    (void)op;
    struct keras_bytes *image = udata;
    return size == image->size ? (void *)(uintptr_t)image->data : NULL;
}

static void *image_memcpy(void *to, const void *from, size_t size, H5FD_file_image_op_t op,
                          void *udata)
{
    (void)op;
    (void)udata;
    (void)size;
    return to == from ? to : NULL;
}

static void *image_realloc(void *pointer, size_t size, H5FD_file_image_op_t op, void *udata)
{
    (void)pointer;
    (void)size;
    (void)op;
    (void)udata;
    return NULL; /* a file opened for reading never grows */
}

static herr_t image_free(void *pointer, H5FD_file_image_op_t op, void *udata)
{
    (void)pointer;
    (void)op;
    (void)udata;
    return 0;
}

static void *image_udata_copy(void *udata)
{
    return udata;
}

static herr_t image_udata_free(void *udata)
{
    (void)udata;
    return 0;
}

bool h5_open(struct h5 *h5, struct error *error)
{
    hdf5_prepare();
    H5PLset_loading_state(0);
    lzf_register();
    H5FD_file_image_callbacks_t callbacks = {
        image_malloc,     image_memcpy,     image_realloc, image_free,
        image_udata_copy, image_udata_free, &h5->image,
    };
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    char name[32]; /* by which HDF5 tells files in memory apart */
    snprintf(name, sizeof name, "model-%d", h5->place);
    h5->file = -1;
    if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
        H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
        H5Pset_file_image(access, (void *)(uintptr_t)h5->image.data, h5->image.size) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        h5->file = H5Fopen(name, H5F_ACC_RDONLY, access);
    if (access >= 0)
        H5Pclose(access);
    if (h5->file < 0)
        return error_set(error, ERROR_MODEL_BROKEN, h5->name,
                         "the HDF5 file is truncated or damaged");
    return true;
}

void h5_close(struct h5 *h5)
{
    if (h5->image.data != NULL && h5->file >= 0)
        H5Fclose(h5->file);
    h5->file = -1;
}

/* One path component; -1 with error->code unchanged if it is simply not there. */
static hid_t find_component(hid_t parent, const char *name, struct error *error)
{
    H5L_info_t info;
    if (H5Lexists(parent, name, H5P_DEFAULT) <= 0)
        return -1;
    if (H5Lget_info(parent, name, &info, H5P_DEFAULT) < 0) {
        error_set(error, ERROR_MODEL_BROKEN, name, "the HDF5 file is damaged at this link");
        return -1;
    }
    if (info.type != H5L_TYPE_HARD) {
        error_set(error, ERROR_MODEL_REFUSED, name,
                  "the file holds %s link here; no Keras file does",
                  info.type == H5L_TYPE_EXTERNAL ? "an external"
                  : info.type == H5L_TYPE_SOFT   ? "a soft"
                                                 : "a user-defined");
        return -1;
    }
    hid_t object = H5Oopen(parent, name, H5P_DEFAULT);
    if (object < 0)
        error_set(error, ERROR_MODEL_BROKEN, name, "the HDF5 file is damaged at this object");
    return object;
}

hid_t h5_find(hid_t parent, const char *path, struct error *error)
{
    hid_t at = -1;
    char name[PATH_COMPONENT_MAX];
    while (*path != '\0') {
        size_t length = strcspn(path, "/");
        if (length >= sizeof name)
            break;
        memcpy(name, path, length);
        name[length] = '\0';
        path += length;
        path += strspn(path, "/");
        if (length == 0 || strcmp(name, ".") == 0)
            continue;
        hid_t next = find_component(at >= 0 ? at : parent, name, error);
        if (at >= 0)
            H5Oclose(at);
        if (next < 0)
            return -1;
        at = next;
    }
    if (at < 0) /* "/" or "": the parent itself */
        at = H5Oopen(parent, ".", H5P_DEFAULT);
    return at;
}

hid_t h5_find_group(hid_t parent, const char *path, struct error *error)
{
    hid_t object = h5_find(parent, path, error);
    if (object >= 0 && H5Iget_type(object) != H5I_GROUP && H5Iget_type(object) != H5I_FILE) {
        H5Oclose(object);
        error_set(error, ERROR_MODEL_BROKEN, path, "a group is expected here");
        return -1;
    }
    return object;
}

bool h5_has(hid_t parent, const char *path)
{
    hid_t object = h5_find(parent, path, NULL);
    if (object >= 0)
        H5Oclose(object);
    return object >= 0;
}

/* Append the strings of one attribute. Fixed-length strings may fill their cell without a NUL. */
static bool texts_append(hid_t object, const char *name, json_t *list)
{
    if (H5Aexists(object, name) <= 0)
        return false;
    bool ok = false;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    hid_t type = attribute >= 0 ? H5Aget_type(attribute) : -1;
    hid_t space = attribute >= 0 ? H5Aget_space(attribute) : -1;
    hssize_t count = space >= 0 ? H5Sget_simple_extent_npoints(space) : -1;
    size_t cell = type >= 0 ? H5Tget_size(type) : 0;
    if (count == 0) {
        ok = true; /* an empty list is stored as float64: look at the count before the type */
    } else if (count > 0 && count <= NAMES_MAX && H5Tget_class(type) == H5T_STRING) {
        ok = true;
        if (H5Tis_variable_str(type) > 0) {
            char **texts = xcalloc((size_t)count, sizeof *texts);
            if (H5Aread(attribute, type, texts) >= 0) {
                for (hssize_t i = 0; ok && i < count; i++)
                    ok = json_array_append_new(list, json_string(texts[i] ? texts[i] : "")) == 0;
                H5Dvlen_reclaim(type, space, H5P_DEFAULT, texts);
            } else {
                ok = false;
            }
            free(texts);
        } else if (cell > 0 && cell <= TEXT_BYTES_MAX / (size_t)count) {
            char *texts = xmalloc((size_t)count * cell);
            ok = H5Aread(attribute, type, texts) >= 0;
            bool spaces = H5Tget_strpad(type) == H5T_STR_SPACEPAD;
            for (hssize_t i = 0; ok && i < count; i++) {
                const char *text = texts + (size_t)i * cell;
                size_t length = strnlen(text, cell);
                while (spaces && length > 0 && text[length - 1] == ' ')
                    length--;
                ok = json_array_append_new(list, json_stringn(text, length)) == 0;
            }
            free(texts);
        } else {
            ok = false;
        }
    }
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    return ok;
}

json_t *h5_texts(hid_t object, const char *name)
{
    json_t *list = json_array();
    if (H5Aexists(object, name) > 0) {
        if (texts_append(object, name, list))
            return list;
        json_decref(list);
        return NULL;
    }
    /* Keras splits a list of more than 64512 bytes into NAME0, NAME1, ... */
    char part[64];
    int parts = 0;
    for (; parts < 4096; parts++) {
        snprintf(part, sizeof part, "%s%d", name, parts);
        if (!texts_append(object, part, list))
            break;
    }
    if (parts > 0)
        return list;
    json_decref(list);
    return NULL;
}

char *h5_text(hid_t object, const char *name)
{
    json_t *list = json_array();
    char *text = NULL;
    if (texts_append(object, name, list) && json_array_size(list) == 1)
        text = xstrdup(json_string_value(json_array_get(list, 0)));
    json_decref(list);
    return text;
}

struct names {
    json_t *list;
    size_t most;
};

static herr_t names_append(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    (void)group;
    (void)info;
    struct names *names = data;
    if (json_array_size(names->list) >= names->most)
        return 1;
    json_array_append_new(names->list, json_string(name)); /* not UTF-8: no Keras name */
    return 0;
}

json_t *h5_names(hid_t group, size_t most)
{
    struct names names = {json_array(), most};
    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, names_append, &names);
    return names.list;
}

/* `visits` is how many more objects may be looked at: hard links can hold groups in circles, and
 * then there are more paths than anybody can walk. */
static bool has_data(hid_t group, int depth, size_t *visits)
{
    bool found = false;
    json_t *names = h5_names(group, NAMES_MAX);
    for (size_t i = 0; !found && i < json_array_size(names) && *visits > 0; i++) {
        hid_t child = h5_find(group, json_string_value(json_array_get(names, i)), NULL);
        --*visits;
        if (child < 0)
            continue;
        if (H5Iget_type(child) == H5I_DATASET)
            found = true;
        else if (H5Iget_type(child) == H5I_GROUP && depth > 0)
            found = has_data(child, depth - 1, visits);
        H5Oclose(child);
    }
    json_decref(names);
    return found;
}

bool h5_has_data(hid_t group, int depth)
{
    size_t visits = DATA_VISITS_MAX;
    return has_data(group, depth, &visits);
}

/* The dtype that a file's type becomes, and the HDF5 type to read it with. bfloat16 is an opaque
 * type of two bytes (h5py has no better) and is decoded by us. */
static bool type_understand(hid_t dataset, hid_t type, enum dtype *dtype, hid_t *memory)
{
    size_t size = H5Tget_size(type);
    switch (H5Tget_class(type)) {
    case H5T_FLOAT:
        *dtype = DTYPE_F32;
        *memory = H5T_NATIVE_FLOAT;
        return size == 2 || size == 4 || size == 8;
    case H5T_INTEGER: {
        bool has_sign = H5Tget_sign(type) != H5T_SGN_NONE;
        *dtype = size == 1   ? (has_sign ? DTYPE_I8 : DTYPE_U8)
                 : size == 2 ? (has_sign ? DTYPE_I16 : DTYPE_U16)
                 : size == 4 ? (has_sign ? DTYPE_I32 : DTYPE_I64)
                             : DTYPE_I64;
        *memory = *dtype == DTYPE_I8    ? H5T_NATIVE_INT8
                  : *dtype == DTYPE_U8  ? H5T_NATIVE_UINT8
                  : *dtype == DTYPE_I16 ? H5T_NATIVE_INT16
                  : *dtype == DTYPE_U16 ? H5T_NATIVE_UINT16
                  : *dtype == DTYPE_I32 ? H5T_NATIVE_INT32
                                        : H5T_NATIVE_INT64;
        return size == 1 || size == 2 || size == 4 || size == 8;
    }
    case H5T_ENUM: /* h5py's bool */
        *dtype = DTYPE_BOOL;
        *memory = type;
        return size == 1;
    case H5T_OPAQUE: {
        char *name = h5_text(dataset, "dtype");
        bool bf16 = size == 2 && (name == NULL || strcmp(name, "bfloat16") == 0);
        free(name);
        *dtype = DTYPE_F32;
        *memory = type;
        return bf16;
    }
    default:
        return false;
    }
}

/* Refuse storage that reaches outside of this file, and claims that its bytes cannot back. */
static bool storage_check(struct h5 *h5, hid_t dataset, uint64_t bytes, const char *path,
                          bool *contiguous, struct error *error)
{
    hid_t list = H5Dget_create_plist(dataset);
    if (list < 0)
        return error_set(error, ERROR_MODEL_BROKEN, path, "the HDF5 file is damaged here");
    H5D_layout_t layout = H5Pget_layout(list);
    int external = H5Pget_external_count(list), filters = H5Pget_nfilters(list);
    H5Z_filter_t bad = 0;
    for (int i = 0; i < filters && bad == 0; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t id =
            H5Pget_filter2(list, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
        if (id != H5Z_FILTER_DEFLATE && id != H5Z_FILTER_SHUFFLE && id != H5Z_FILTER_FLETCHER32 &&
            id != LZF_FILTER)
            bad = id < 0 ? -1 : id;
    }
    H5Pclose(list);
    hsize_t stored = H5Dget_storage_size(dataset);
    *contiguous = layout == H5D_CONTIGUOUS && filters == 0;
    if (external != 0)
        return error_set(error, ERROR_MODEL_REFUSED, path,
                         "its data lie in another file (HDF5 external storage)");
    if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED && layout != H5D_COMPACT)
        return error_set(error, ERROR_MODEL_REFUSED, path,
                         "a virtual dataset may name other files and is not read");
    if (bad != 0)
        return error_set(error, ERROR_MODEL_REFUSED, path,
                         "compressed by HDF5 filter %d, which is not read", (int)bad);
    uint64_t most = layout == H5D_CHUNKED ? (uint64_t)stored * 1000 : (uint64_t)stored;
    if (bytes > most || stored > h5->image.size)
        return error_set(error, ERROR_MODEL_BROKEN, path,
                         "the dataset claims %llu bytes, and the file holds %llu of them",
                         (unsigned long long)bytes, (unsigned long long)stored);
    return true;
}

/* Read into the memory file; returns the offset there. */
static bool decode(struct h5 *h5, hid_t dataset, hid_t memory_type, size_t elements, bool bf16,
                   size_t element_bytes, size_t *offset)
{
    *offset = keras_memory_take(h5->memory, elements * element_bytes);
    if (*offset == SIZE_MAX)
        return false;
    unsigned char *to = h5->memory->data + *offset;
    if (!bf16)
        return H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) >= 0;
    /* the two bytes are the upper half of a float32; widen from the end, in place */
    if (H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0)
        return false;
    for (size_t i = elements; i-- > 0;) {
        unsigned char half[2] = {to[2 * i], to[2 * i + 1]};
        memcpy(to + 4 * i, (unsigned char[4]){0, 0, half[0], half[1]}, 4);
    }
    return true;
}

static bool shape_read(hid_t dataset, struct shape *shape)
{
    hid_t space = H5Dget_space(dataset);
    hsize_t dims[H5S_MAX_RANK];
    int rank = space >= 0 ? H5Sget_simple_extent_dims(space, dims, NULL) : -1;
    bool null = space < 0 || H5Sget_simple_extent_type(space) == H5S_NULL;
    if (space >= 0)
        H5Sclose(space);
    if (rank < 0 || rank > TENSOR_RANK_MAX || null)
        return false;
    shape->rank = rank;
    for (int i = 0; i < rank; i++) {
        if (dims[i] > INT64_MAX)
            return false;
        shape->dims[i] = (int64_t)dims[i];
    }
    return shape_elements(shape) >= 0;
}

static json_t *dataset_read(struct h5 *h5, hid_t dataset, const char *path, const char *name,
                            struct error *error)
{
    struct shape shape;
    if (!shape_read(dataset, &shape)) {
        error_set(error, ERROR_MODEL_BROKEN, path,
                  "the dataset has no usable shape (at most %d dimensions are read)",
                  TENSOR_RANK_MAX);
        return NULL;
    }
    hid_t type = H5Dget_type(dataset), memory_type = -1;
    enum dtype dtype = DTYPE_F32;
    json_t *weight = NULL;
    bool contiguous = false;
    if (type < 0 || !type_understand(dataset, type, &dtype, &memory_type)) {
        error_set(error, ERROR_MODEL_REFUSED, path, "its element type is no kind of weight");
    } else {
        size_t elements = (size_t)shape_elements(&shape), bytes = elements * dtype_bytes(dtype);
        uint64_t claimed = (uint64_t)elements * H5Tget_size(type);
        if (storage_check(h5, dataset, claimed, path, &contiguous, error)) {
            int place = h5->place;
            haddr_t address = contiguous && elements > 0 ? H5Dget_offset(dataset) : HADDR_UNDEF;
            size_t offset = 0;
            bool ok = true;
            /* in an archive they begin at any byte, and are looked at where they are all the same */
            if (address != HADDR_UNDEF && H5Tget_class(type) != H5T_OPAQUE &&
                H5Tequal(type, memory_type) > 0 && address <= h5->image.size &&
                bytes <= h5->image.size - address) {
                offset = h5->offset + (size_t)address;
            } else if (elements > 0) {
                place = PLACE_MEMORY;
                ok = decode(h5, dataset, memory_type, elements, H5Tget_class(type) == H5T_OPAQUE,
                            dtype_bytes(dtype), &offset);
            }
            if (ok) {
                json_t *dims = json_array();
                for (int i = 0; i < shape.rank; i++)
                    json_array_append_new(dims, json_integer(shape.dims[i]));
                weight = json_pack("{s:s, s:s, s:o, s:i, s:I, s:I}", "name", name, "dtype",
                                   dtype_name(dtype), "shape", dims, "place", place, "offset",
                                   (json_int_t)offset, "bytes", (json_int_t)bytes);
            } else {
                error_set(error, ERROR_MODEL_BROKEN, path,
                          "the data of this weight are damaged or larger than is read at most");
            }
        }
    }
    if (type >= 0)
        H5Tclose(type);
    return weight;
}

json_t *h5_weight(struct h5 *h5, hid_t parent, const char *path, const char *name,
                  struct error *error)
{
    struct error cause = {0};
    hid_t object = h5_find(parent, path, &cause);
    json_t *weight = NULL;
    if (object < 0) {
        if (cause.code == ERROR_NONE)
            error_set(&cause, ERROR_MODEL_WEIGHTS, path, "the file lacks this weight");
        if (error != NULL)
            *error = cause;
        return NULL;
    }
    if (H5Iget_type(object) == H5I_DATASET)
        weight = dataset_read(h5, object, path, name, error);
    else
        error_set(error, ERROR_MODEL_BROKEN, path, "a dataset is expected here");
    H5Oclose(object);
    return weight;
}
