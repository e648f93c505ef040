/* Pictures: PNG and JPEG decoded to 8-bit, made grey or RGB, resized, as Keras does it.
 *
 * Grey is ITU-R BT.601 luma (0.299, 0.587, 0.114), as in Pillow's convert("L"); an alpha channel is
 * dropped, 16 bits are scaled to 8. Resizing is bilinear with half-pixel centres; when shrinking, the
 * triangle widens with the scale, so that every pixel counts: tf.image.resize and
 * keras.ops.image.resize with antialias=True, and Pillow's BILINEAR.
 * Pure but for reading the file; thread-safe.
 */
#ifndef LAYERTOP_ENGINE_IMAGE_H
#define LAYERTOP_ENGINE_IMAGE_H

#include "engine/error.h"
#include <stdint.h>

struct image {
    int width, height, channels; /* 1 or 3 */
    uint8_t *pixels;             /* rows from the top, channels together */
};

/* Decode a file by its content. channels: 1 or 3. ERROR_FILE. */
bool image_read(const char *path, int channels, struct image *out, struct error *error);
/* Decode bytes; `what` names them in errors. */
bool image_decode(const void *data, size_t bytes, const char *what, int channels, struct image *out,
                  struct error *error);
void image_free(struct image *image);

/* Resize into out[height][width][channels], values 0..255. */
void image_resize(const struct image *image, int width, int height, float *out);

/* Keras's preprocess_input on values 0..255, in place over `pixels` pixels: "tf" x/127.5 - 1;
 * "caffe" BGR minus the ImageNet means; "torch" scaled to 0..1, then ImageNet's mean and deviation;
 * "none". "caffe" and "torch" are for 3 channels, and leave grey as it is. */
void image_preprocess(const char *mode, float *values, size_t pixels, int channels);

#endif
