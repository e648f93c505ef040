#include "engine/image.h"

#include "engine/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
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

/* RGB to grey in place, with Pillow's fixed-point luma. */
static void reduce_to_grey(struct image *image)
{
    size_t count = (size_t)image->width * (size_t)image->height;
    uint8_t *p = image->pixels;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *in = p + 3 * i;
        p[i] = (uint8_t)((in[0] * 19595u + in[1] * 38470u + in[2] * 7471u + 0x8000u) >> 16);
    }
    image->channels = 1;
}

/* libpng and libjpeg report an error by a call that must not return. */
struct png_failure {
    jmp_buf back;
    char text[128];
};

static void png_failed(png_structp png, png_const_charp text)
{
    struct png_failure *failure = png_get_error_ptr(png);
    snprintf(failure->text, sizeof failure->text, "%s", text);
    longjmp(failure->back, 1);
}

static void png_message(png_structp png, png_const_charp text)
{
    (void)png; /* warnings of damaged but readable pictures */
    (void)text;
}

struct png_bytes {
    const uint8_t *data;
    size_t left;
};

static void png_read(png_structp png, png_bytep out, png_size_t bytes)
{
    struct png_bytes *from = png_get_io_ptr(png);
    if (bytes > from->left)
        png_error(png, "it ends too early");
    memcpy(out, from->data, bytes);
    from->data += bytes;
    from->left -= bytes;
}

/* Every kind of PNG as 8-bit RGB. 16 bits are scaled and no gamma is applied; alpha is dropped, so that nothing is blended with a background. */
static void png_to_rgb(png_structp png, png_infop info)
{
    png_set_expand(png); /* palettes, less than 8 bits, transparent colours */
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

static bool decode_png(const void *data, size_t bytes, const char *what, int channels,
                       struct image *out, struct error *error)
{
    struct png_failure failure = {0};
    struct png_bytes from = {data, bytes};
    /* changed between setjmp and longjmp: they must not live in registers */
    png_bytep *volatile rows = NULL;
    png_infop volatile info = NULL;
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &failure, png_failed, png_message);
    if (png == NULL)
        return error_set(error, ERROR_MEMORY, what, "libpng does not start");
    volatile bool good = false;
    if (setjmp(failure.back) == 0) {
        png_infop fresh = png_create_info_struct(png);
        info = fresh;
        png_set_read_fn(png, &from, png_read);
        png_set_user_limits(png, SIDE_MAX, SIDE_MAX);
        png_read_info(png, fresh);
        png_to_rgb(png, fresh);
        uint32_t height = png_get_image_height(png, fresh);
        if (png_get_rowbytes(png, fresh) != 3 * (size_t)png_get_image_width(png, fresh))
            png_error(png, "its rows are of an unknown kind");
        if (allocate(out, png_get_image_width(png, fresh), height, 3, what, error)) {
            rows = xcalloc(height, sizeof *rows);
            for (uint32_t y = 0; y < height; y++)
                rows[y] = out->pixels + (size_t)y * (size_t)out->width * 3;
            png_read_image(png, rows);
            good = true;
        }
    } else {
        image_free(out);
        error_set(error, ERROR_FILE, what, "broken PNG: %s", failure.text);
    }
    png_infop made = info;
    png_destroy_read_struct(&png, made != NULL ? &made : NULL, NULL);
    free(rows);
    if (good && channels == 1)
        reduce_to_grey(out);
    return good;
}

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

bool image_encode_jpeg(const struct image *image, int quality, void **data, size_t *bytes,
                       struct error *error)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_failure failure = {0};
    unsigned char *out = NULL;
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = jpeg_failed;
    failure.manager.output_message = jpeg_message;
    if (setjmp(failure.back) != 0) {
        jpeg_destroy_compress(&jpeg);
        return error_set(error, ERROR_MEMORY, "picture", "%s", failure.text);
    }
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &out, &size);
    jpeg.image_width = (JDIMENSION)image->width;
    jpeg.image_height = (JDIMENSION)image->height;
    jpeg.input_components = image->channels;
    jpeg.in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, quality, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        size_t stride = (size_t)image->width * (size_t)image->channels;
        JSAMPROW row = image->pixels + jpeg.next_scanline * stride;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    *data = out;
    *bytes = size;
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

/* The input positions that one output position is made of, and their weights. */
struct taps {
    int first, count;
    float *weights;
};

/* A triangle around the position's centre, one pixel to each side, or when shrinking with antialias
 * as wide as the step between two of them; what sticks out at an edge is left out. */
static struct taps *taps_new(int out_size, int in_size, enum image_filter filter)
{
    double step = (double)in_size / out_size;
    double reach = filter == IMAGE_ANTIALIAS && step > 1 ? step : 1;
    size_t most = (size_t)(2 * reach) + 3;
    struct taps *taps = xmalloc((size_t)out_size * (sizeof *taps + most * sizeof(float)));
    float *weights = (float *)(void *)(taps + out_size);
    for (int i = 0; i < out_size; i++, weights += most) {
        double centre = (i + 0.5) * step, sum = 0;
        if (filter == IMAGE_NEAREST) {
            taps[i] = (struct taps){(int)centre < in_size ? (int)centre : in_size - 1, 1, weights};
            weights[0] = 1;
            continue;
        }
        int first = (int)floor(centre - reach), last = (int)ceil(centre + reach);
        first = first < 0 ? 0 : first;
        last = last > in_size ? in_size : last;
        taps[i] = (struct taps){first, 0, weights};
        for (int j = first; j < last && (size_t)taps[i].count < most; j++) {
            double weight = 1 - fabs(j + 0.5 - centre) / reach;
            sum += weights[taps[i].count++] = weight > 0 ? (float)weight : 0;
        }
        for (int j = 0; j < taps[i].count; j++)
            weights[j] = (float)(weights[j] / sum);
    }
    return taps;
}

/* Row `y` at the new width. */
static void squeeze(const struct image *image, int y, const struct taps *across, int width,
                    float *restrict to)
{
    size_t channels = (size_t)image->channels;
    const uint8_t *from = image->pixels + (size_t)y * (size_t)image->width * channels;
    for (int x = 0; x < width; x++, to += channels) {
        const uint8_t *pixel = from + (size_t)across[x].first * channels;
        const float *weights = across[x].weights;
        if (channels == 3) {
            float red = 0, green = 0, blue = 0;
            for (int j = 0; j < across[x].count; j++, pixel += 3) {
                red += weights[j] * pixel[0];
                green += weights[j] * pixel[1];
                blue += weights[j] * pixel[2];
            }
            to[0] = red;
            to[1] = green;
            to[2] = blue;
        } else {
            float sum = 0;
            for (int j = 0; j < across[x].count; j++)
                sum += weights[j] * pixel[j];
            to[0] = sum;
        }
    }
}

static void add_row(const float *restrict from, float weight, size_t count, float *restrict to)
{
    for (size_t i = 0; i < count; i++)
        to[i] += weight * from[i];
}

void image_resize(const struct image *image, int width, int height, enum image_filter filter,
                  float *out)
{
    size_t channels = (size_t)image->channels, row = (size_t)width * channels;
    struct taps *across = taps_new(width, image->width, filter);
    struct taps *down = taps_new(height, image->height, filter);
    /* input rows squeezed to the new width, the last few of them, each once; then columns */
    int keep = 1, squeezed = 0;
    for (int y = 0; y < height; y++)
        keep = down[y].count > keep ? down[y].count : keep;
    float *rows = xmalloc((size_t)keep * row * sizeof *rows);
    for (int y = 0; y < height; y++, out += row) {
        int end = down[y].first + down[y].count;
        squeezed = squeezed < down[y].first ? down[y].first : squeezed;
        for (; squeezed < end; squeezed++)
            squeeze(image, squeezed, across, width, rows + (size_t)(squeezed % keep) * row);
        memset(out, 0, row * sizeof *out);
        for (int j = 0; j < down[y].count; j++)
            add_row(rows + (size_t)((down[y].first + j) % keep) * row, down[y].weights[j], row,
                    out);
    }
    free(rows);
    free(across);
    free(down);
}

static void standardize(float *values, size_t count)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i];
    double mean = sum / (double)count;
    for (size_t i = 0; i < count; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    double deviation = sqrt(squares / (double)count), least = 1 / sqrt((double)count);
    float scale = (float)(1 / (deviation > least ? deviation : least));
    for (size_t i = 0; i < count; i++)
        values[i] = (values[i] - (float)mean) * scale;
}

void image_preprocess(const char *mode, float *p, size_t pixels, int channels)
{
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};
    if (strcmp(mode, "tf") == 0) {
        for (size_t i = 0; i < pixels * (size_t)channels; i++)
            p[i] = p[i] / 127.5f - 1;
    } else if (strcmp(mode, "caffe") == 0 && channels == 3) {
        for (size_t i = 0; i < pixels; i++, p += 3) {
            float red = p[0];
            p[0] = p[2] - 103.939f;
            p[1] -= 116.779f;
            p[2] = red - 123.68f;
        }
    } else if (strcmp(mode, "torch") == 0 && channels == 3) {
        for (size_t i = 0; i < pixels; i++, p += 3) {
            for (int c = 0; c < 3; c++)
                p[c] = (p[c] / 255 - mean[c]) / deviation[c];
        }
    } else if (strcmp(mode, "unit") == 0) {
        for (size_t i = 0; i < pixels * (size_t)channels; i++)
            p[i] *= 1 / 255.0f;
    } else if (strcmp(mode, "per_image") == 0) {
        standardize(p, pixels * (size_t)channels);
    }
}

void image_store(const float *values, size_t count, void *out, enum dtype dtype)
{
    for (size_t i = 0; i < count; i++)
        convert_write((char *)out + i * dtype_bytes(dtype), dtype, (double)values[i] + 0.5);
}
