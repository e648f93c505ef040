/* The two HDF5 files that Keras reads: the legacy whole model, and the weights of an archive. */
#include "engine/hdf5.h"
#include "engine/keras/export_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An attribute holds 64 KiB; longer lists go on in NAME1, NAME2 ... A string takes 16 bytes. */
#define NAMES_PER_ATTRIBUTE 2000

/* Text of any length: HDF5 keeps it outside of the attribute. Negative: failed. */
static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static bool put_strings(hid_t object, const char *name, hid_t space, const void *values)
{
    hid_t type = text_type();
    hid_t attribute = type >= 0 && space >= 0
                          ? H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT)
                          : -1;
    bool good = attribute >= 0 && H5Awrite(attribute, type, values) >= 0;
    if (attribute >= 0)
        good = H5Aclose(attribute) >= 0 && good;
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    return good;
}

static bool put_text(hid_t object, const char *name, const char *text)
{
    return put_strings(object, name, H5Screate(H5S_SCALAR), &text);
}

static bool put_texts(hid_t object, const char *name, const char *const *texts, size_t count)
{
    if (count <= NAMES_PER_ATTRIBUTE) {
        hsize_t size = count;
        return put_strings(object, name, H5Screate_simple(1, &size, NULL), texts);
    }
    bool good = true;
    for (size_t chunk = 0; good && chunk * NAMES_PER_ATTRIBUTE < count; chunk++) {
        size_t from = chunk * NAMES_PER_ATTRIBUTE, left = count - from;
        hsize_t size = left < NAMES_PER_ATTRIBUTE ? left : NAMES_PER_ATTRIBUTE;
        char *numbered = xasprintf("%s%zu", name, chunk);
        good = put_strings(object, numbered, H5Screate_simple(1, &size, NULL), texts + from);
        free(numbered);
    }
    return good;
}

/* A group below `parent`, with those that its path names. */
static hid_t make_group(hid_t parent, const char *path)
{
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    hid_t group = -1;
    if (links >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0)
        group = H5Gcreate2(parent, path, links, H5P_DEFAULT, H5P_DEFAULT);
    if (links >= 0)
        H5Pclose(links);
    return group;
}

/* The group at `path`, made if it is not there. */
static hid_t find_group(hid_t parent, const char *path)
{
    char *part = xstrdup(path);
    bool there = true;
    for (char *slash = part; there && slash != NULL; slash = strchr(slash + 1, '/')) {
        if (slash == part)
            continue;
        *slash = '\0';
        there = H5Lexists(parent, part, H5P_DEFAULT) > 0;
        *slash = '/';
    }
    there = there && H5Lexists(parent, part, H5P_DEFAULT) > 0;
    free(part);
    return there ? H5Gopen2(parent, path, H5P_DEFAULT) : make_group(parent, path);
}

static hid_t h5_type(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return H5T_IEEE_F32LE;
    case DTYPE_F64:
        return H5T_IEEE_F64LE;
    case DTYPE_I8:
        return H5T_STD_I8LE;
    case DTYPE_U8:
    case DTYPE_BOOL:
        return H5T_STD_U8LE;
    case DTYPE_I16:
        return H5T_STD_I16LE;
    case DTYPE_U16:
        return H5T_STD_U16LE;
    case DTYPE_I32:
        return H5T_STD_I32LE;
    case DTYPE_I64:
        return H5T_STD_I64LE;
    case DTYPE_F16:
    case DTYPE_BF16:
    case DTYPE_COUNT:
        break; /* the reader makes float32 of them */
    }
    return -1;
}

static bool put_weight(hid_t parent, const char *path, const struct model_weight *weight)
{
    hsize_t dims[TENSOR_RANK_MAX];
    for (int i = 0; i < weight->shape.rank; i++)
        dims[i] = (hsize_t)weight->shape.dims[i];
    hid_t type = h5_type(weight->dtype);
    hid_t space = weight->shape.rank == 0 ? H5Screate(H5S_SCALAR)
                                          : H5Screate_simple(weight->shape.rank, dims, NULL);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    bool good =
        type >= 0 && space >= 0 && links >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0;
    hid_t dataset =
        good ? H5Dcreate2(parent, path, type, space, links, H5P_DEFAULT, H5P_DEFAULT) : -1;
    good = dataset >= 0 && (weight->bytes == 0 || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL,
                                                           H5P_DEFAULT, weight->data) >= 0);
    if (dataset >= 0)
        good = H5Dclose(dataset) >= 0 && good;
    if (links >= 0)
        H5Pclose(links);
    if (space >= 0)
        H5Sclose(space);
    return good;
}

/* Tell how far it is; false if nobody wants to go on. */
static bool go_on(struct export_plan *plan, const struct export_weight *weight, struct error *error)
{
    plan->written_bytes += weight->weight->bytes;
    double all = (double)plan->model->weight_bytes;
    double fraction = all > 0 ? (double)plan->written_bytes / all : 1;
    if (plan->progress == NULL || plan->progress(plan->context, fraction < 1 ? fraction : 1))
        return true;
    return error_set(error, ERROR_INTERRUPTED, "export keras", "stopped");
}

/* One group of the legacy file: the trainable variables first, and then the others. */
static bool write_group(struct export_plan *plan, hid_t root, const struct export_group *from,
                        struct error *error)
{
    hid_t group = find_group(root, from->name); /* "a" may be there already for "a/b" */
    const char **names = xcalloc(from->count + 1, sizeof *names);
    size_t count = 0;
    bool good = group >= 0;
    for (int frozen = 0; good && frozen < 2; frozen++) {
        for (size_t i = from->first; good && i < from->first + from->count; i++) {
            const struct export_weight *weight = &plan->weights[i];
            if (weight->trainable == (bool)frozen || weight->legacy[0] == '\0')
                continue;
            names[count++] = weight->legacy;
            good = put_weight(group, weight->legacy, weight->weight) && go_on(plan, weight, error);
        }
    }
    good = good && put_texts(group, "weight_names", names, count);
    free(names);
    if (group >= 0)
        H5Gclose(group);
    return good;
}

static bool write_legacy(struct export_plan *plan, hid_t file, struct error *error)
{
    const struct model *model = plan->model;
    const char *backend = model->backend[0] != '\0' ? model->backend : "tensorflow";
    char *architecture = export_architecture(plan, false);
    bool good = architecture != NULL && put_text(file, "keras_version", export_version(plan)) &&
                put_text(file, "backend", backend) && put_text(file, "model_config", architecture);
    free(architecture);
    hid_t root = good ? make_group(file, "model_weights") : -1;
    good = root >= 0 && put_text(root, "keras_version", export_version(plan)) &&
           put_text(root, "backend", backend);
    const char **names = xcalloc(plan->group_count + 1, sizeof *names);
    for (size_t i = 0; good && i < plan->group_count; i++) {
        names[i] = plan->groups[i].name;
        good = write_group(plan, root, &plan->groups[i], error);
    }
    good = good && put_texts(root, "layer_names", names, plan->group_count);
    free(names);
    if (root >= 0)
        H5Gclose(root);
    return good;
}

static bool write_numbered(struct export_plan *plan, hid_t file, struct error *error)
{
    hid_t layers = make_group(file, "layers"); /* by this it is known, even without weights */
    bool good = layers >= 0 && H5Gclose(layers) >= 0;
    for (size_t i = 0; good && i < plan->weight_count; i++) {
        const struct export_weight *weight = &plan->weights[i];
        good = put_weight(file, weight->numbered, weight->weight) && go_on(plan, weight, error);
        bool first =
            good && weight->label != NULL && strcmp(strrchr(weight->numbered, '/'), "/0") == 0;
        if (!first)
            continue;
        char *path = xstrdup(weight->numbered);
        *strrchr(path, '/') = '\0';
        hid_t group = H5Gopen2(file, path, H5P_DEFAULT);
        good = group >= 0 && put_text(group, "name", weight->label);
        if (group >= 0)
            H5Gclose(group);
        free(path);
    }
    return good;
}

bool export_h5(struct export_plan *plan, const char *path, bool archive, struct error *error)
{
    struct error mine = {0};
    hdf5_prepare();
    errno = 0;
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    bool good = file >= 0 &&
                (archive ? write_numbered(plan, file, &mine) : write_legacy(plan, file, &mine));
    if (file >= 0)
        good = H5Fclose(file) >= 0 && good;
    if (good)
        return true;
    if (mine.code != ERROR_NONE && error != NULL)
        *error = mine;
    else
        error_set(error, ERROR_FILE, path, "cannot be written: %s",
                  errno != 0 ? strerror(errno) : "HDF5 refused it");
    return false;
}
