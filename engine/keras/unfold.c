/* Weights that tf.keras 2.12 to 2.14 wrote on Windows: paths were joined by backslashes, which mean
 * nothing to HDF5, so that every group lies at the root under its whole path,
 * "_layer_checkpoint_dependencies\dense". */
#include "engine/keras/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 100000

/* The same file with room for more links, in memory of its own and under a name of its own, by
 * which HDF5 tells such files apart. The data stay where they are: views into the mapping remain
 * right. */
static hid_t open_copy(const struct h5 *h5)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    char name[32];
    snprintf(name, sizeof name, "copy-%d", h5->place);
    if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
        H5Pset_file_image(access, (void *)(uintptr_t)h5->image.data, h5->image.size) >= 0 &&
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        file = H5Fopen(name, H5F_ACC_RDWR, access);
    if (access >= 0)
        H5Pclose(access);
    return file;
}

/* Give each group a second link, where its name says. Parents come before what they hold. */
static bool link_all(hid_t file, json_t *names)
{
    hid_t create = H5Pcreate(H5P_LINK_CREATE);
    bool ok = create >= 0 && H5Pset_create_intermediate_group(create, 1) >= 0;
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name)
    {
        char *path = xstrdup(json_string_value(name));
        bool folded = false;
        for (char *c = path; (c = strchr(c, '\\')) != NULL; folded = true)
            *c = '/';
        /* by what it is, not by its name, which might lead to another file */
        hid_t group = folded ? h5_find(file, json_string_value(name), NULL) : -1;
        ok =
            ok && (!folded || (group >= 0 && H5Olink(group, file, path, create, H5P_DEFAULT) >= 0));
        if (group >= 0)
            H5Oclose(group);
        free(path);
    }
    if (create >= 0)
        H5Pclose(create);
    return ok;
}

bool h5_unfold(struct h5 *h5, struct error *error)
{
    json_t *names = h5_names(h5->file, NAMES_MAX), *name;
    bool folded = false, ok = true;
    size_t i;
    json_array_foreach(names, i, name) folded |= strchr(json_string_value(name), '\\') != NULL;
    if (folded) {
        hid_t copy = open_copy(h5);
        ok = copy >= 0 && link_all(copy, names);
        if (ok) {
            H5Fclose(h5->file);
            h5->file = copy;
        } else {
            if (copy >= 0)
                H5Fclose(copy);
            error_set(error, ERROR_MODEL_BROKEN, h5->name,
                      "its weights lie under the paths of Windows, which cannot be followed");
        }
    }
    json_decref(names);
    return ok;
}
