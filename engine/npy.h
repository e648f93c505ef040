/* NumPy's array files: .npy (format 1.0 to 3.0) and .npz (a zip of them, through libzip).
 *
 * Reading: kinds are told by content; a .npy is mapped, the members of a .npz are unpacked. Every
 * header is checked against the bytes that are there. Little-endian data only; Fortran order is
 * told, not turned. Writing: C order, members of a .npz stored; into a temporary file that is
 * renamed, so a file is whole or absent. Thread-safe on different objects.
 */
#ifndef LAYERTOP_ENGINE_NPY_H
#define LAYERTOP_ENGINE_NPY_H

#include "engine/error.h"
#include "engine/tensor.h"

struct npy_array {
    const char *name; /* the member's name without ".npy"; "" in a .npy */
    enum dtype dtype;
    struct shape shape;
    bool fortran;
    const void *data; /* may be unaligned */
    size_t bytes;
};

/* Read the header at data[bytes]: fills dtype, shape, fortran, and points data and bytes at what
 * follows. Pure. `what` names the file in the error (ERROR_FILE). uint32 and uint64 data are
 * refused as types no model takes. */
bool npy_parse(const void *data, size_t bytes, const char *what, struct npy_array *out,
               struct error *error);

/* The header that precedes an array's data, padded to 64 bytes; returns its length, at most
 * NPY_HEADER_MAX. */
#define NPY_HEADER_MAX 256
size_t npy_header(char out[NPY_HEADER_MAX], enum dtype dtype, const struct shape *shape);

struct npy_file;
struct npy_file *npy_open(const char *path, struct error *error);
size_t npy_count(const struct npy_file *file);
/* Valid as long as the file. */
const struct npy_array *npy_at(const struct npy_file *file, size_t index);
/* By name, NULL if there is none. */
const struct npy_array *npy_find(const struct npy_file *file, const char *name);
void npy_close(struct npy_file *file);

/* Does the name end in .npz? */
bool npy_is_npz_name(const char *path);
/* Write one array as .npy, or any number by their names as .npz (told by the path's ending).
 * ERROR_FILE. */
bool npy_write(const char *path, const struct npy_array *arrays, size_t count, struct error *error);

#endif
