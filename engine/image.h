/* Pictures: PNG and JPEG decoded to 8-bit, made grey or RGB, resized, as Keras does it.
 *
 * Grey is ITU-R BT.601 luma (0.299, 0.587, 0.114), as in Pillow's convert("L"); an alpha channel is
 * dropped, 16 bits are scaled to 8. Resizing has half-pixel centres, as tf.image.resize of TensorFlow 2.
 * Pure but for reading the file; thread-safe.
 */
#ifndef LAYERTOP_ENGINE_IMAGE_H
#define LAYERTOP_ENGINE_IMAGE_H

#include "engine/error.h"
#include "engine/tensor.h"
#include <stdint.h>

struct image {
    int width, height, channels; /* 1 or 3 */
    uint8_t *pixels;             /* rows from the top, channels together */
};

struct image_size {
    int32_t width, height;
};

/* Decode a file by its content. channels: 1 or 3. ERROR_FILE. */
bool image_read(const char *path, int channels, struct image *out, struct error *error);
/* Decode bytes; `what` names them in errors. */
bool image_decode(const void *data, size_t bytes, const char *what, int channels, struct image *out,
                  struct error *error);
void image_free(struct image *image);

enum image_filter {
    IMAGE_ANTIALIAS, /* bilinear; when shrinking, the triangle widens with the scale, so that every
                        pixel counts: tf.image.resize(antialias=True), Pillow's BILINEAR */
    IMAGE_BILINEAR,  /* of the four neighbours: tf.image.resize as it is called mostly */
    IMAGE_NEAREST    /* keras.utils.load_img as it is called mostly */
};

/* Resize into out[height][width][channels], values 0..255. */
void image_resize(const struct image *image, int width, int height, enum image_filter filter,
                  float *out);

/* Scale values 0..255 in place, over the `pixels` pixels of one picture. Keras's preprocess_input:
 * "tf" x/127.5 - 1; "caffe" BGR minus the ImageNet means; "torch" scaled to 0..1, then ImageNet's
 * mean and deviation; "none". TensorFlow's: "unit" x/255, convert_image_dtype of 8-bit pictures;
 * "per_image" (x - mean) / max(deviation, 1 / sqrt(n)) over the n values of the picture,
 * per_image_standardization. "caffe" and "torch" are for 3 channels, and leave grey as it is. */
void image_preprocess(const char *mode, float *values, size_t pixels, int channels);

/* Values as elements of an integer type, each the nearest level. */
void image_store(const float *values, size_t count, void *out, enum dtype dtype);

/* As a JPEG, quality 1..100; *data is the caller's to free. ERROR_MEMORY. */
bool image_encode_jpeg(const struct image *image, int quality, void **data, size_t *bytes,
                       struct error *error);

#endif
