#define _GNU_SOURCE /* scandir, alphasort */
#include "engine/input.h"
#include "engine/hdf5.h"

#include "engine/convert.h"
#include "engine/image.h"
#include "engine/npy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum input_kind { INPUT_ARRAYS, INPUT_DATASET, INPUT_PICTURES };

struct input {
    enum input_kind kind;
    size_t rows;
    size_t port_count;
    struct input_port *ports;
    char preprocess[16];
    enum image_filter filter;

    struct npy_file *arrays;
    const struct npy_array **array; /* per port */

    hid_t file, dataset;
    int dataset_rank;

    char **pictures; /* paths */
};

static int64_t row_elements(const struct input *input, size_t port)
{
    return shape_elements(&input->ports[port].row);
}

/* Do the dims behind the rows fit a port? A channel axis of 1 may be left out, and surplus axes of 1
 * at the end are allowed: only the order of the elements counts. */
static bool fits(const struct shape *row, const int64_t *dims, int rank)
{
    int i = 0, j = 0;
    while (i < row->rank && j < rank && row->dims[i] == dims[j]) {
        i++;
        j++;
    }
    while (i < row->rank && row->dims[i] == 1)
        i++;
    while (j < rank && dims[j] == 1)
        j++;
    return i == row->rank && j == rank;
}

static bool misfit(const char *path, const struct input_port *port, const struct shape *got,
                   struct error *error)
{
    char wanted[128], found[128];
    struct shape full = {.rank = port->row.rank + 1};
    full.dims[0] = DIM_UNKNOWN;
    memcpy(full.dims + 1, port->row.dims, (size_t)port->row.rank * sizeof *full.dims);
    return error_set(error, ERROR_INPUT, path, "its shape is %s, input %s takes %s",
                     shape_format(found, sizeof found, got), port->name,
                     shape_format(wanted, sizeof wanted, &full));
}

/* ---- arrays ---- */

/* The array for a port: the only one, by name, or by number. */
static const struct npy_array *pick_array(const struct input *input, size_t port)
{
    if (input->port_count == 1 && npy_count(input->arrays) == 1)
        return npy_at(input->arrays, 0);
    const struct npy_array *array = npy_find(input->arrays, input->ports[port].name);
    char number[32];
    snprintf(number, sizeof number, "arr_%zu", port);
    return array != NULL ? array : npy_find(input->arrays, number);
}

static bool open_arrays(struct input *input, const char *path, struct error *error)
{
    input->arrays = npy_open(path, error);
    if (input->arrays == NULL)
        return false;
    input->array = xcalloc(input->port_count, sizeof(struct npy_array *));
    for (size_t i = 0; i < input->port_count; i++) {
        const struct npy_array *array = pick_array(input, i);
        if (array == NULL)
            return error_set(error, ERROR_INPUT, path, "it has no array %s or arr_%zu",
                             input->ports[i].name, i);
        const struct shape *shape = &array->shape;
        if (shape->rank < 1 || !fits(&input->ports[i].row, shape->dims + 1, shape->rank - 1))
            return misfit(path, &input->ports[i], shape, error);
        if (i > 0 && (size_t)shape->dims[0] != input->rows)
            return error_set(error, ERROR_INPUT, path, "its arrays have %zu and %lld rows",
                             input->rows, (long long)shape->dims[0]);
        input->rows = (size_t)shape->dims[0];
        input->array[i] = array;
    }
    return true;
}

static void read_array(const struct input *input, size_t port, size_t first, size_t count,
                       char *out)
{
    const struct npy_array *array = input->array[port];
    enum dtype to = input->ports[port].dtype;
    size_t row = (size_t)row_elements(input, port), size = dtype_bytes(array->dtype);
    if (!array->fortran) {
        convert_many((const char *)array->data + first * row * size, array->dtype, out, to,
                     count * row);
        return;
    }
    /* Fortran order: the first axis runs fastest */
    const struct shape *shape = &array->shape;
    for (size_t i = 0; i < count * row; i++) {
        size_t index = first * row + i, offset = 0, stride = 1, place[TENSOR_RANK_MAX];
        for (int axis = shape->rank - 1; axis >= 0; axis--) {
            place[axis] = index % (size_t)shape->dims[axis];
            index /= (size_t)shape->dims[axis];
        }
        for (int axis = 0; axis < shape->rank; axis++) {
            offset += place[axis] * stride;
            stride *= (size_t)shape->dims[axis];
        }
        convert_write(out + i * dtype_bytes(to), to,
                      convert_read((const char *)array->data + offset * size, array->dtype));
    }
}

/* ---- an HDF5 dataset ---- */

static const char hdf5_magic[8] = "\x89HDF\r\n\x1a\n";

/* Does the file begin with these bytes? */
static bool begins_with(const char *path, const char *bytes, size_t length)
{
    char start[16] = "";
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool same = descriptor >= 0 && read(descriptor, start, length) == (ssize_t)length &&
                memcmp(start, bytes, length) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return same;
}

/* FILE:DATASET, or NULL. The caller frees *file. */
static const char *split_dataset(const char *path, char **file)
{
    for (const char *colon = strchr(path, ':'); colon != NULL; colon = strchr(colon + 1, ':')) {
        *file = xstrdup(path);
        (*file)[colon - path] = '\0';
        if (colon[1] != '\0' && begins_with(*file, hdf5_magic, sizeof hdf5_magic))
            return colon + 1;
        free(*file);
    }
    *file = NULL;
    return NULL;
}

static bool open_dataset(struct input *input, const char *path, const char *file, const char *name,
                         struct error *error)
{
    if (input->port_count != 1)
        return error_set(error, ERROR_INPUT, path,
                         "a dataset feeds one input, the model has %zu; use an .npz",
                         input->port_count);
    hdf5_prepare();
    input->file = H5Fopen(file, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (input->file < 0)
        return error_set(error, ERROR_FILE, path, "%s cannot be opened as HDF5", file);
    if (H5Lexists(input->file, name, H5P_DEFAULT) > 0)
        input->dataset = H5Dopen2(input->file, name, H5P_DEFAULT);
    if (input->dataset < 0)
        return error_set(error, ERROR_FILE, path, "%s has no dataset %s", file, name);
    hid_t type = H5Dget_type(input->dataset), space = H5Dget_space(input->dataset);
    H5T_class_t class = type >= 0 ? H5Tget_class(type) : H5T_NO_CLASS;
    int rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    hsize_t dims[TENSOR_RANK_MAX];
    struct shape shape = {0};
    bool good = (class == H5T_INTEGER || class == H5T_FLOAT) && rank >= 1 &&
                rank <= TENSOR_RANK_MAX && H5Sget_simple_extent_dims(space, dims, NULL) == rank;
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (!good)
        return error_set(error, ERROR_FILE, path, "it is no array of numbers");
    shape.rank = rank;
    for (int i = 0; i < rank; i++)
        shape.dims[i] = (int64_t)dims[i];
    if (!fits(&input->ports[0].row, shape.dims + 1, rank - 1))
        return misfit(path, &input->ports[0], &shape, error);
    input->rows = (size_t)dims[0];
    input->dataset_rank = rank;
    return true;
}

/* HDF5 converts to float and int64 by itself; narrower integers go through int64. */
static bool read_dataset(const struct input *input, size_t first, size_t count, void *out,
                         struct error *error)
{
    const struct input_port *port = &input->ports[0];
    size_t elements = count * (size_t)row_elements(input, 0);
    bool direct = port->dtype == DTYPE_F32 || port->dtype == DTYPE_I64;
    void *buffer = direct ? out : malloc(elements * sizeof(int64_t));
    if (buffer == NULL)
        return error_set(error, ERROR_MEMORY, "input", "no memory for %zu values", elements);
    hsize_t start[TENSOR_RANK_MAX] = {first}, block[TENSOR_RANK_MAX];
    hid_t space = H5Dget_space(input->dataset);
    bool good = space >= 0 && H5Sget_simple_extent_dims(space, block, NULL) == input->dataset_rank;
    block[0] = count;
    good = good && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, block, NULL) >= 0;
    hid_t memory = good ? H5Screate_simple(input->dataset_rank, block, NULL) : -1;
    hid_t type = port->dtype == DTYPE_F32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT64;
    good = memory >= 0 && H5Dread(input->dataset, type, memory, space, H5P_DEFAULT, buffer) >= 0;
    if (memory >= 0)
        H5Sclose(memory);
    if (space >= 0)
        H5Sclose(space);
    if (good && !direct)
        convert_many(buffer, DTYPE_I64, out, port->dtype, elements);
    if (!direct)
        free(buffer);
    return good || error_set(error, ERROR_FILE, "input",
                             "rows %zu to %zu of the dataset cannot be "
                             "read",
                             first, first + count - 1);
}

/* ---- pictures ---- */

static int is_picture(const struct dirent *entry)
{
    const char *ending = strrchr(entry->d_name, '.');
    return ending != NULL && entry->d_name[0] != '.' &&
           (strcasecmp(ending, ".png") == 0 || strcasecmp(ending, ".jpg") == 0 ||
            strcasecmp(ending, ".jpeg") == 0);
}

/* Pictures need an input (height, width, 1 or 3). */
static bool check_picture_port(const struct input *input, const char *path, struct error *error)
{
    const struct shape *row = &input->ports[0].row;
    char shape[128];
    if (input->port_count == 1 && row->rank == 3 && row->dims[2] == 1 &&
        (strcmp(input->preprocess, "caffe") == 0 || strcmp(input->preprocess, "torch") == 0)) {
        error_set(error, ERROR_INPUT, path,
                  "preprocess %s is for colours, and the model takes grey pictures",
                  input->preprocess);
        return error_hint(error, "set preprocess none");
    }
    if (input->port_count == 1 && row->rank == 3 && (row->dims[2] == 1 || row->dims[2] == 3))
        return true;
    return error_set(error, ERROR_INPUT, path,
                     "pictures need one input of height, width and 1 or 3 channels; input %s takes "
                     "%s a row",
                     input->ports[0].name, shape_format(shape, sizeof shape, row));
}

static bool open_folder(struct input *input, const char *path, struct error *error)
{
    struct dirent **entries;
    int count = scandir(path, &entries, is_picture, alphasort);
    if (count < 0)
        return error_set(error, ERROR_FILE, path, "cannot be listed: %s", strerror(errno));
    input->pictures = xcalloc((size_t)count + 1, sizeof *input->pictures);
    for (int i = 0; i < count; i++) {
        input->pictures[input->rows++] = xasprintf("%s/%s", path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return count > 0 || error_set(error, ERROR_INPUT, path, "no .png or .jpg file is in it");
}

static bool read_picture(const struct input *input, size_t row, char *out, struct error *error)
{
    const struct input_port *port = &input->ports[0];
    int height = (int)port->row.dims[0], width = (int)port->row.dims[1];
    int channels = (int)port->row.dims[2];
    struct image image;
    if (!image_read(input->pictures[row], channels, &image, error))
        return false;
    size_t pixels = (size_t)height * (size_t)width;
    float *values = port->dtype == DTYPE_F32 ? (float *)(void *)out
                                             : xmalloc(pixels * (size_t)channels * sizeof *values);
    image_resize(&image, width, height, input->filter, values);
    image_free(&image);
    image_preprocess(input->preprocess, values, pixels, channels);
    if (port->dtype != DTYPE_F32) {
        image_store(values, pixels * (size_t)channels, out, port->dtype);
        free(values);
    }
    return true;
}

/* ---- the whole ---- */

static bool open_kind(struct input *input, const char *path, struct error *error)
{
    struct stat stat_buffer;
    char *file;
    const char *dataset = split_dataset(path, &file);
    if (dataset != NULL) {
        input->kind = INPUT_DATASET;
        bool good = open_dataset(input, path, file, dataset, error);
        free(file);
        return good;
    }
    if (stat(path, &stat_buffer) != 0)
        return error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    if (S_ISDIR(stat_buffer.st_mode)) {
        input->kind = INPUT_PICTURES;
        return check_picture_port(input, path, error) && open_folder(input, path, error);
    }
    if (begins_with(path, "\x89PNG", 4) || begins_with(path, "\xff\xd8\xff", 3)) {
        input->kind = INPUT_PICTURES;
        input->pictures = xcalloc(2, sizeof *input->pictures);
        input->pictures[0] = xstrdup(path);
        input->rows = 1;
        return check_picture_port(input, path, error);
    }
    if (begins_with(path, hdf5_magic, sizeof hdf5_magic)) {
        error_set(error, ERROR_INPUT, path, "an HDF5 file needs the name of a dataset");
        return error_hint(error, "predict %s:DATASET", path);
    }
    input->kind = INPUT_ARRAYS;
    return open_arrays(input, path, error);
}

struct input *input_open(const char *path, const struct input_port *ports, size_t port_count,
                         const char *preprocess, enum image_filter filter, struct error *error)
{
    struct input *input = xcalloc(1, sizeof *input);
    input->file = input->dataset = -1;
    input->port_count = port_count;
    input->ports = xcalloc(port_count, sizeof *ports);
    memcpy(input->ports, ports, port_count * sizeof *ports);
    snprintf(input->preprocess, sizeof input->preprocess, "%s", preprocess);
    input->filter = filter;
    bool good = open_kind(input, path, error);
    if (good && input->rows == 0)
        good = error_set(error, ERROR_INPUT, path, "it holds no rows");
    if (good)
        return input;
    input_free(input);
    return NULL;
}

size_t input_rows(const struct input *input)
{
    return input->rows;
}

const char *input_source(const struct input *input, size_t row)
{
    if (input->kind != INPUT_PICTURES)
        return "";
    const char *slash = strrchr(input->pictures[row], '/');
    return slash != NULL ? slash + 1 : input->pictures[row];
}

const char *input_picture(const struct input *input, size_t row)
{
    return input->kind == INPUT_PICTURES ? input->pictures[row] : NULL;
}

bool input_read(struct input *input, size_t port, size_t first, size_t count, void *out,
                struct error *error)
{
    size_t row_bytes = (size_t)row_elements(input, port) * dtype_bytes(input->ports[port].dtype);
    bool good = true;
    switch (input->kind) {
    case INPUT_ARRAYS:
        read_array(input, port, first, count, out);
        break;
    case INPUT_DATASET:
        good = read_dataset(input, first, count, out, error);
        break;
    case INPUT_PICTURES:
        for (size_t i = 0; good && i < count; i++)
            good = read_picture(input, first + i, (char *)out + i * row_bytes, error);
        break;
    }
    return good;
}

void input_free(struct input *input)
{
    if (input == NULL)
        return;
    if (input->arrays != NULL)
        npy_close(input->arrays);
    if (input->dataset >= 0)
        H5Dclose(input->dataset);
    if (input->file >= 0)
        H5Fclose(input->file);
    for (size_t i = 0; input->pictures != NULL && input->pictures[i] != NULL; i++)
        free(input->pictures[i]);
    free(input->pictures);
    free(input->array);
    free(input->ports);
    free(input);
}
