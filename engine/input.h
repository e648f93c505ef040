/* Data for a model's inputs, out of a file or a folder, row by row into host buffers.
 *
 *   .npy            one array for a model with one input
 *   .npz            several, by the inputs' names, or arr_0, arr_1 ... in the model's order
 *   .h5:DATASET     a dataset of an HDF5 file (one input)
 *   .png .jpg       one picture; a folder: all of its pictures, in order of their names
 *
 * Kinds are told by content. Pictures become grey or RGB by the channels of the model's input, are
 * resized to its height and width (bilinear, averaging when they shrink) and hold 0..255 unless the
 * model's family needs otherwise (`preprocess`). Arrays may leave out a channel axis of 1. Everything that
 * comes from a file is checked. Engine thread.
 */
#ifndef LAYERTOP_ENGINE_INPUT_H
#define LAYERTOP_ENGINE_INPUT_H

#include "engine/image.h"
#include "engine/model.h"

/* What the model takes, one per input: a row's shape (without the batch) and the dtype of the
 * buffers to be filled. */
struct input_port {
    const char *name;
    struct shape row;
    enum dtype dtype; /* DTYPE_F32, or an integer type or bool */
};

struct input;

/* Errors: ERROR_FILE, ERROR_INPUT. `preprocess` is one of image_preprocess(), it and `filter` are
 * applied to pictures only. */
struct input *input_open(const char *path, const struct input_port *ports, size_t port_count,
                         const char *preprocess, enum image_filter filter, struct error *error);
size_t input_rows(const struct input *input);
/* Where a row came from: a picture's file name, else "". Valid as long as the input. */
const char *input_source(const struct input *input, size_t row);
/* The path of a row's picture; NULL if rows are no pictures. */
const char *input_picture(const struct input *input, size_t row);
/* Rows [first, first + count) of one port into dense `out`. */
bool input_read(struct input *input, size_t port, size_t first, size_t count, void *out,
                struct error *error);
void input_free(struct input *input);

#endif
