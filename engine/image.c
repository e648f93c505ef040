#include "engine/image.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h> /* before jpeglib.h, which needs FILE */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jpeglib.h>
#include <png.h>

#define SIDE_MAX   32768
#define PIXELS_MAX (1 << 28)

void image_free(struct image *image)
{
    free(image->pixels);
    image->pixels = NULL;
}

static bool allocate(struct image *image, uint32_t width, uint32_t height, int channels,
                     const char *what, struct error *error)
{
    if (width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX ||
        (uint64_t)width * height > PIXELS_MAX)
        return error_set(error, ERROR_FILE, what, "a picture of %u x %u pixels is too large", width,
                         height);
    image->width = (int)width;
    image->height = (int)height;
    image->channels = channels;
    image->pixels = malloc((size_t)width * height * (size_t)channels);
    return image->pixels != NULL ||
           error_set(error, ERROR_MEMORY, what, "no memory for %u x %u pixels", width, height);
}

/* From `from` channels (1, 3 or 4, the last being alpha) to the image's own, in place: the pixels
 * never grow. */
static void reduce_channels(struct image *image, int from, int to)
{
    size_t count = (size_t)image->width * (size_t)image->height;
    uint8_t *p = image->pixels;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *in = p + i * (size_t)from;
        uint8_t *out = p + i * (size_t)to;
        if (to == 3) {
            memmove(out, in, 3);
        } else {
            /* Pillow's fixed-point luma */
            out[0] = (uint8_t)((in[0] * 19595u + in[1] * 38470u + in[2] * 7471u + 0x8000u) >> 16);
        }
    }
    image->channels = to;
}

static bool decode_png(const void *data, size_t bytes, const char *what, int channels,
                       struct image *out, struct error *error)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&png, data, bytes))
        return error_set(error, ERROR_FILE, what, "broken PNG: %s", png.message);
    /* alpha is read and then dropped, so that nothing is blended with a background */
    png.format = PNG_FORMAT_RGBA;
    if (!allocate(out, png.width, png.height, 4, what, error)) {
        png_image_free(&png);
        return false;
    }
    if (!png_image_finish_read(&png, NULL, out->pixels, 0, NULL)) {
        image_free(out);
        return error_set(error, ERROR_FILE, what, "broken PNG: %s", png.message);
    }
    reduce_channels(out, 4, channels);
    return true;
}

/* libjpeg reports an error by a call that must not return. */
struct jpeg_failure {
    struct jpeg_error_mgr manager;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
};

static void jpeg_failed(j_common_ptr jpeg)
{
    struct jpeg_failure *failure = (struct jpeg_failure *)jpeg->err;
    jpeg->err->format_message(jpeg, failure->text);
    longjmp(failure->back, 1);
}

static void jpeg_message(j_common_ptr jpeg)
{
    (void)jpeg; /* warnings of damaged but readable pictures */
}

static bool decode_jpeg(const void *data, size_t bytes, const char *what, int channels,
                        struct image *out, struct error *error)
{
    struct jpeg_decompress_struct jpeg;
    struct jpeg_failure failure = {0};
    /* read after longjmp: it must not live in a register */
    struct image *volatile image = out;
    out->pixels = NULL;
    jpeg.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = jpeg_failed;
    failure.manager.output_message = jpeg_message;
    if (setjmp(failure.back) != 0) {
        jpeg_destroy_decompress(&jpeg);
        image_free(image);
        return error_set(error, ERROR_FILE, what, "broken JPEG: %s", failure.text);
    }
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, data, (unsigned long)bytes);
    jpeg_read_header(&jpeg, TRUE);
    if (jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK) {
        jpeg_destroy_decompress(&jpeg);
        return error_set(error, ERROR_FILE, what, "a CMYK JPEG is not supported");
    }
    jpeg.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&jpeg);
    if (!allocate(image, jpeg.output_width, jpeg.output_height, channels, what, error)) {
        jpeg_destroy_decompress(&jpeg);
        return false;
    }
    size_t stride = (size_t)jpeg.output_width * (size_t)channels;
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = image->pixels + jpeg.output_scanline * stride;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return true;
}

bool image_decode(const void *data, size_t bytes, const char *what, int channels, struct image *out,
                  struct error *error)
{
    const uint8_t *b = data;
    *out = (struct image){0};
    if (bytes > 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0)
        return decode_png(data, bytes, what, channels, out, error);
    if (bytes > 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff)
        return decode_jpeg(data, bytes, what, channels, out, error);
    return error_set(error, ERROR_FILE, what, "it is neither PNG nor JPEG");
}

bool image_read(const char *path, int channels, struct image *out, struct error *error)
{
    *out = (struct image){0};
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat stat;
    if (descriptor < 0)
        return error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    void *map = MAP_FAILED;
    if (fstat(descriptor, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size > 0)
        map = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    close(descriptor);
    if (map == MAP_FAILED)
        return error_set(error, ERROR_FILE, path, "it is no picture");
    bool good = image_decode(map, (size_t)stat.st_size, path, channels, out, error);
    munmap(map, (size_t)stat.st_size);
    return good;
}

/* Two neighbours of an output position and the weight of the second. */
static void taps(int out, int out_size, int in_size, int *low, int *high, float *weight)
{
    float at = ((float)out + 0.5f) * ((float)in_size / (float)out_size) - 0.5f;
    if (at < 0)
        at = 0;
    *low = (int)at < in_size - 1 ? (int)at : in_size - 1;
    *high = *low + 1 < in_size ? *low + 1 : in_size - 1;
    *weight = at - (float)*low;
}

void image_resize(const struct image *image, int width, int height, float *out)
{
    size_t channels = (size_t)image->channels, stride = (size_t)image->width * channels;
    for (int y = 0; y < height; y++) {
        int y0, y1, x0, x1;
        float wy, wx;
        taps(y, height, image->height, &y0, &y1, &wy);
        const uint8_t *upper = image->pixels + (size_t)y0 * stride;
        const uint8_t *lower = image->pixels + (size_t)y1 * stride;
        for (int x = 0; x < width; x++) {
            taps(x, width, image->width, &x0, &x1, &wx);
            for (size_t c = 0; c < channels; c++) {
                float a = upper[(size_t)x0 * channels + c], b = upper[(size_t)x1 * channels + c];
                float d = lower[(size_t)x0 * channels + c], e = lower[(size_t)x1 * channels + c];
                float top = a + (b - a) * wx, bottom = d + (e - d) * wx;
                *out++ = top + (bottom - top) * wy;
            }
        }
    }
}

void image_preprocess(const char *mode, float *p, size_t pixels)
{
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
    for (size_t i = 0; i < pixels; i++, p += 3) {
        if (strcmp(mode, "tf") == 0) {
            for (int c = 0; c < 3; c++)
                p[c] = p[c] / 127.5f - 1;
        } else if (strcmp(mode, "caffe") == 0) {
            float red = p[0];
            p[0] = p[2] - 103.939f;
            p[1] -= 116.779f;
            p[2] = red - 123.68f;
        } else if (strcmp(mode, "torch") == 0) {
            for (int c = 0; c < 3; c++)
                p[c] = (p[c] / 255 - mean[c]) / deviation[c];
        }
    }
}
