/* Model files that must be refused: making them in a folder of this process, and what a refusal is.
 *
 * Every load is confined, as a user's is, and under a sanitizer too: there a report of it in the
 * reading child counts as a failure of the running test. Everything here fails that test rather than
 * return an error. */
#ifndef LAYERTOP_TESTS_HOSTILE_H
#define LAYERTOP_TESTS_HOSTILE_H

#include "engine/error.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>

struct zip;

/* Setup and teardown of a group: make and remove the folder; quiet the HDF5 library. */
int hostile_make_folder(void **state);
int hostile_remove_folder(void **state);
extern char hostile_folder[64];

struct hostile_bytes {
    char *data; /* to be freed */
    size_t size;
};

/* A path in the folder; four of them are valid at a time. */
const char *hostile_path(const char *name);
struct hostile_bytes hostile_read(const char *path);
/* Write a file of the folder; returns its path. */
const char *hostile_write(const char *name, const void *data, size_t size);
const char *hostile_write_text(const char *name, const char *text);
const char *hostile_copy(const char *source, const char *name);

/* Replace `from` by `to` wherever it stands in the configuration of an .h5 file. */
void hostile_edit_config(const char *path, const char *from, const char *to);
/* A copy of a .keras file whose weights `edit` has changed; all its members are stored. */
const char *hostile_edit_weights(const char *source, void (*edit)(hid_t file));
/* Add a member to an archive being written; `data` lives until zip_close(). */
void hostile_add_member(struct zip *zip, const char *name, const void *data, size_t size,
                        bool deflate);

/* Load and lower `path` (with `weights`, or NULL). false: the error has a model's code, a reason and
 * one hint, and no text of it holds a control character. Either way: less than a second of processor
 * time, and at most 512 MiB resident in the reading child. */
bool hostile_works(const char *path, const char *weights, struct error *error);

/* The same for a file whose own structure is damaged, which libhdf5 (1.10.8 at least) reads past the
 * ends of its buffers: that is what the reader is confined for. A sanitizer's report in it counts in
 * *reports and fails nothing. */
bool hostile_works_but_for_hdf5(const char *path, size_t *reports, struct error *error);

/* It must be refused with this code, and `why` must stand in the reason. */
void hostile_must_fail(const char *path, const char *weights, enum error_code code,
                       const char *why);

/* A chain x -> a of one layer, as JSON: class and members of the layer's config (",\"units\":3"). */
#define HOSTILE_CHAIN(class_name, config)                                                          \
    "{\"class_name\":\"Sequential\",\"keras_version\":\"3.9.2\",\"config\":{\"name\":\"s\","       \
    "\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"x\",\"batch_shape\":[null," \
    "8,8,4]}},{\"class_name\":\"" class_name "\",\"config\":{\"name\":\"a\",\"trainable\":true,"   \
    "\"dtype\":\"float32\"" config "}}]}}"

#endif
