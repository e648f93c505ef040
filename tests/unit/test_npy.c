/* Array files and pictures: what NumPy and Pillow wrote is read, what we write NumPy's rules hold
 * for, and nothing that is cut or damaged is believed. The files in tests/data/arrays were written
 * by NumPy 2, h5py and Pillow. */
#include "engine/convert.h"
#include "engine/image.h"
#include "engine/input.h"
#include "engine/npy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA     "tests/data/arrays/"
#define PICTURES "tests/data/pictures/"

static void assert_close(double got, double wanted, double tolerance)
{
    if (!(fabs(got - wanted) <= tolerance))
        fail_msg("%.9g is not %.9g", got, wanted);
}

/* ---- .npy and .npz ---- */

static void arrays_of_numpy_are_read(void **state)
{
    (void)state;
    struct error error = {0};
    struct npy_file *file = npy_open(DATA "float32.npy", &error);
    assert_non_null(file);
    const struct npy_array *array = npy_at(file, 0);
    assert_int_equal(array->dtype, DTYPE_F32);
    assert_int_equal(array->shape.rank, 3);
    assert_int_equal(array->shape.dims[2], 4);
    assert_int_equal(array->bytes, 24 * 4);
    assert_close(convert_read((const char *)array->data + 23 * 4, DTYPE_F32), 23.0 / 7, 1e-6);
    npy_close(file);

    file = npy_open(DATA "scalar_i64.npy", &error);
    assert_int_equal(npy_at(file, 0)->shape.rank, 0);
    assert_true(convert_read(npy_at(file, 0)->data, DTYPE_I64) == -7);
    npy_close(file);

    file = npy_open(DATA "fortran_f64.npy", &error);
    assert_true(npy_at(file, 0)->fortran);
    npy_close(file);

    file = npy_open(DATA "two.npz", &error);
    assert_int_equal(npy_count(file), 2);
    assert_int_equal(npy_find(file, "right")->dtype, DTYPE_I32);
    assert_true(convert_read((const char *)npy_find(file, "right")->data + 12, DTYPE_I32) == 4);
    assert_null(npy_find(file, "middle"));
    npy_close(file);
}

static void what_cannot_be_read_says_so(void **state)
{
    (void)state;
    struct error error = {0};
    assert_null(npy_open(DATA "big_endian.npy", &error));
    assert_non_null(strstr(error.why, ">f4"));
    assert_null(npy_open(DATA "strings.npy", &error));
    assert_non_null(strstr(error.why, "<U2"));
    assert_null(npy_open(DATA "rgb.png", &error));
    assert_int_equal(error.code, ERROR_FILE);
    assert_null(npy_open(DATA "absent.npy", &error));
    assert_non_null(strstr(error.why, "No such file"));
    assert_null(npy_open("tests/data", &error));
    assert_non_null(strstr(error.why, "regular"));
}

static void half_precision_is_exact(void **state)
{
    (void)state;
    struct npy_file *file = npy_open(DATA "half.npy", NULL);
    const struct npy_array *array = npy_at(file, 0);
    const double wanted[] = {0, 1, -2.5, 65504, 5.9604644775390625e-08, INFINITY};
    for (size_t i = 0; i < 6; i++)
        assert_true(convert_read((const char *)array->data + 2 * i, DTYPE_F16) == wanted[i]);
    assert_true(isnan(convert_read((const char *)array->data + 12, DTYPE_F16)));
    npy_close(file);
}

static void every_cut_header_is_refused(void **state)
{
    (void)state;
    unsigned char bytes[512];
    FILE *in = fopen(DATA "float32.npy", "rb");
    size_t length = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    struct npy_array array;
    struct error error;
    assert_true(npy_parse(bytes, length, "x", &array, &error));
    for (size_t cut = 0; cut < length; cut++) {
        unsigned char *copy = malloc(cut + 1); /* its end is where a sanitizer looks */
        memcpy(copy, bytes, cut);
        assert_false(npy_parse(copy, cut, "x", &array, &error));
        free(copy);
    }
    /* damaged bytes: never a crash, and never more data than there are */
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        unsigned char copy[512];
        memcpy(copy, bytes, length);
        for (int i = 0; i < 3; i++) {
            seed = seed * 1103515245u + 12345u;
            copy[(seed >> 8) % 128] = (unsigned char)(seed >> 20);
        }
        if (npy_parse(copy, length, "x", &array, &error))
            assert_true((const unsigned char *)array.data + array.bytes <= copy + length);
    }
}

static void a_shape_that_overflows_is_refused(void **state)
{
    (void)state;
    const char *texts[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }",
        "{'descr': '<f4', 'fortran_order': False, }",
        "{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,), }",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        unsigned char bytes[256] = "\x93NUMPY\x01\x00";
        struct npy_array array;
        struct error error = {0};
        bytes[8] = (unsigned char)strlen(texts[i]);
        memcpy(bytes + 10, texts[i], strlen(texts[i]));
        assert_false(npy_parse(bytes, sizeof bytes, "x", &array, &error));
        assert_int_equal(error.code, ERROR_FILE);
    }
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    float values[6] = {1, 2, 3, 4, 5, 6};
    int64_t numbers[2] = {-1, INT64_MAX};
    struct npy_array arrays[2] = {
        {.name = "arr_0", .dtype = DTYPE_F32, .data = values, .bytes = sizeof values},
        {.name = "arr_1", .dtype = DTYPE_I64, .data = numbers, .bytes = sizeof numbers}};
    arrays[0].shape = shape_of(2, (int64_t[]){2, 3});
    arrays[1].shape = shape_of(1, (int64_t[]){2});
    char folder[] = "/tmp/layertop-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    struct error error = {0};

    snprintf(path, sizeof path, "%s/one.npy", folder);
    assert_true(npy_write(path, arrays, 1, &error));
    struct stat stat_buffer;
    stat(path, &stat_buffer);
    /* the data begin at a multiple of 64, as the format asks for */
    assert_int_equal((stat_buffer.st_size - (long)sizeof values) % 64, 0);
    struct npy_file *file = npy_open(path, &error);
    assert_memory_equal(npy_at(file, 0)->data, values, sizeof values);
    assert_true(shape_equal(&npy_at(file, 0)->shape, &arrays[0].shape));
    npy_close(file);
    assert_false(npy_write(path, arrays, 2, &error));
    assert_int_equal(error.code, ERROR_VALUE);
    unlink(path);

    snprintf(path, sizeof path, "%s/two.npz", folder);
    assert_true(npy_write(path, arrays, 2, &error));
    file = npy_open(path, &error);
    assert_memory_equal(npy_find(file, "arr_1")->data, numbers, sizeof numbers);
    assert_true(shape_equal(&npy_find(file, "arr_0")->shape, &arrays[0].shape));
    npy_close(file);
    unlink(path);
    /* neither the good nor the refused writes left anything behind */
    assert_int_equal(rmdir(folder), 0);

    assert_false(npy_write("/nowhere/x.npy", arrays, 1, &error));
    assert_int_equal(error.code, ERROR_FILE);
}

/* ---- conversion ---- */

static void integers_saturate(void **state)
{
    (void)state;
    uint8_t byte;
    int32_t word;
    convert_write(&byte, DTYPE_U8, 300);
    assert_int_equal(byte, 255);
    convert_write(&byte, DTYPE_U8, -5);
    assert_int_equal(byte, 0);
    convert_write(&byte, DTYPE_U8, (double)NAN);
    assert_int_equal(byte, 0);
    convert_write(&word, DTYPE_I32, 1e30);
    assert_int_equal(word, INT32_MAX);
    uint16_t bf16 = 0x3fc0;
    assert_true(convert_read(&bf16, DTYPE_BF16) == 1.5);
}

/* ---- pictures ---- */

/* rgb.png: pixel (y, x) is 40 y + 10 x + {0, 5, 10} */
static void pictures_are_decoded(void **state)
{
    (void)state;
    struct image image;
    struct error error = {0};
    assert_true(image_read(DATA "rgb.png", 3, &image, &error));
    assert_int_equal(image.width, 7);
    assert_int_equal(image.height, 5);
    assert_int_equal(image.pixels[(1 * 7 + 2) * 3 + 1], 65);
    image_free(&image);
    assert_true(image_read(DATA "rgb.png", 1, &image, &error));
    assert_int_equal(image.pixels[0], 4); /* Pillow's values */
    assert_int_equal(image.pixels[7 + 3], 74);
    image_free(&image);
    assert_true(image_read(DATA "grey.png", 3, &image, &error));
    assert_int_equal(image.pixels[3], 14);
    assert_int_equal(image.pixels[5], 14);
    image_free(&image);
    assert_true(image_read(DATA "rgb.jpg", 3, &image, &error));
    assert_close(image.pixels[(1 * 7 + 0) * 3], 40, 3);
    image_free(&image);
    assert_false(image_read(DATA "rows.h5", 3, &image, &error));
    assert_int_equal(error.code, ERROR_FILE);
}

static void cut_and_damaged_pictures_are_refused(void **state)
{
    (void)state;
    const char *files[] = {DATA "rgb.png", DATA "rgb.jpg"};
    for (size_t f = 0; f < 2; f++) {
        unsigned char bytes[2048];
        FILE *in = fopen(files[f], "rb");
        size_t length = fread(bytes, 1, sizeof bytes, in);
        fclose(in);
        for (size_t cut = 0; cut < length; cut++) {
            struct image image;
            struct error error = {0};
            unsigned char *copy = malloc(cut + 1);
            memcpy(copy, bytes, cut);
            /* libjpeg fills a cut picture up; it must only stay in bounds */
            if (image_decode(copy, cut, "x", 3, &image, &error))
                image_free(&image);
            else
                assert_int_equal(error.code, ERROR_FILE);
            free(copy);
        }
        unsigned seed = 7;
        for (int round = 0; round < 3000; round++) {
            struct image image;
            unsigned char copy[2048];
            memcpy(copy, bytes, length);
            seed = seed * 1103515245u + 12345u;
            copy[(seed >> 8) % length] = (unsigned char)(seed >> 20);
            if (image_decode(copy, length, "x", 1, &image, NULL))
                image_free(&image);
        }
    }
}

/* 40 y + 10 x in 16 bits with a gamma, the same in colour under a transparent first column, and a
 * palette. */
static void every_kind_of_png_becomes_rgb(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        uint8_t wanted[2][3]; /* of pixels (1, 0) and (1, 3) */
    } cases[] = {
        {PICTURES "grey16.png", {{40, 40, 40}, {70, 70, 70}}},
        {PICTURES "rgba.png", {{40, 45, 50}, {70, 75, 80}}},
        {PICTURES "palette.png", {{10, 20, 30}, {0, 0, 0}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct image image;
        struct error error = {0};
        assert_true(image_read(cases[i].file, 3, &image, &error));
        assert_int_equal(image.channels, 3);
        assert_memory_equal(image.pixels + (size_t)(4 + 0) * 3, cases[i].wanted[0], 3);
        assert_memory_equal(image.pixels + (size_t)(4 + 3) * 3, cases[i].wanted[1], 3);
        image_free(&image);
        assert_true(image_read(cases[i].file, 1, &image, &error));
        assert_int_equal(image.channels, 1);
        image_free(&image);
    }
}

/* Grey levels 0..7 in one row, to 3: each is the mean of what lies around it. */
static void shrinking_averages(void **state)
{
    (void)state;
    uint8_t levels[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct image image = {.width = 8, .height = 1, .channels = 1, .pixels = levels};
    float out[8], wide[8];
    image_resize(&image, 3, 1, IMAGE_ANTIALIAS, out);
    assert_close((double)out[0], 1.1052632, 1e-5); /* 21 / 19 */
    assert_close((double)out[1], 3.5, 1e-5);
    assert_close((double)out[2], 5.8947368, 1e-5);
    image = (struct image){.width = 4, .height = 1, .channels = 1, .pixels = levels};
    image_resize(&image, 8, 1, IMAGE_ANTIALIAS, wide);
    const double enlarged[8] = {0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3};
    for (size_t i = 0; i < 8; i++)
        assert_close((double)wide[i], enlarged[i], 1e-6);
}

static void resizing_is_what_keras_computes(void **state)
{
    (void)state;
    /* keras.ops.image.resize(..., (3, 4), interpolation="bilinear", antialias=True) */
    const double wanted[3][4] = {{22.380953, 37.942856, 56.342850, 71.904762},
                                 {85.238098, 100.800000, 119.200000, 134.761917},
                                 {148.095230, 163.657135, 182.057129, 197.619050}};
    struct image image;
    float out[3 * 4 * 3];
    assert_true(image_read(DATA "rgb.png", 3, &image, NULL));
    image_resize(&image, 4, 3, IMAGE_ANTIALIAS, out);
    for (size_t y = 0; y < 3; y++) {
        for (size_t x = 0; x < 4; x++)
            assert_close((double)out[(y * 4 + x) * 3], wanted[y][x], 1e-4);
    }
    float same[5 * 7 * 3];
    image_resize(&image, 7, 5, IMAGE_ANTIALIAS, same);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        assert_true(same[i] == (float)image.pixels[i]);
    image_free(&image);
}

static void families_are_preprocessed_as_keras_does(void **state)
{
    (void)state;
    float tf[3] = {0, 127.5f, 255}, caffe[3] = {10, 20, 30}, torch[3] = {255, 0, 127.5f};
    image_preprocess("tf", tf, 1, 3);
    assert_close((double)tf[0], -1, 0);
    assert_close((double)tf[2], 1, 0);
    image_preprocess("caffe", caffe, 1, 3);
    assert_close((double)caffe[0], 30 - 103.939, 1e-4);
    assert_close((double)caffe[2], 10 - 123.68, 1e-4);
    image_preprocess("torch", torch, 1, 3);
    assert_close((double)torch[0], (1 - 0.485) / 0.229, 1e-5);
    image_preprocess("none", tf, 1, 3);
    assert_close((double)tf[0], -1, 0);
}

/* ---- inputs of a model ---- */

static struct input *open_one(const char *path, int rank, const int64_t *row, enum dtype dtype,
                              struct error *error)
{
    struct input_port port = {.name = "x", .row = shape_of(rank, row), .dtype = dtype};
    return input_open(path, &port, 1, "none", IMAGE_ANTIALIAS, error);
}

static void inputs_come_from_every_kind(void **state)
{
    (void)state;
    struct error error = {0};
    float rows[2 * 28 * 28];
    struct input *input = open_one(DATA "fortran_f64.npy", 2, (int64_t[]){3, 4}, DTYPE_F32, &error);
    assert_int_equal(input_rows(input), 2);
    assert_true(input_read(input, 0, 1, 1, rows, &error));
    for (int i = 0; i < 12; i++)
        assert_close((double)rows[i], (12 + i) / 7.0, 1e-6);
    input_free(input);

    /* a channel axis of 1 is the model's affair */
    input = open_one(DATA "rows.h5:x", 3, (int64_t[]){28, 28, 1}, DTYPE_F32, &error);
    assert_int_equal(input_rows(input), 2);
    assert_true(input_read(input, 0, 1, 1, rows, &error));
    assert_true(rows[5] == (float)((784 + 5) % 256));
    assert_false(input_read(input, 0, 2, 1, rows, &error));
    input_free(input);

    int32_t words[784];
    input = open_one(DATA "rows.h5:x", 2, (int64_t[]){28, 28}, DTYPE_I32, &error);
    assert_true(input_read(input, 0, 0, 1, words, &error));
    assert_int_equal(words[300], 300 % 256);
    input_free(input);

    float picture[5 * 7 * 3];
    input = open_one(DATA, 3, (int64_t[]){5, 7, 3}, DTYPE_F32, &error);
    assert_int_equal(input_rows(input), 3);
    assert_string_equal(input_source(input, 0), "grey.png");
    assert_string_equal(input_source(input, 2), "rgb.png");
    assert_true(input_read(input, 0, 2, 1, picture, &error));
    assert_true(picture[4] == 15);
    input_free(input);

    struct input_port ports[2] = {
        {.name = "right", .row = shape_of(1, (int64_t[]){2}), .dtype = DTYPE_I32},
        {.name = "left", .row = shape_of(2, (int64_t[]){3, 4}), .dtype = DTYPE_F32}};
    input = input_open(DATA "two.npz", ports, 2, "none", IMAGE_ANTIALIAS, &error);
    assert_true(input_read(input, 0, 1, 1, words, &error));
    assert_int_equal(words[1], 4);
    assert_true(input_read(input, 1, 0, 2, rows, &error));
    assert_close((double)rows[23], 23 / 7.0, 1e-6);
    input_free(input);
    ports[0].name = "a";
    ports[1].name = "b"; /* by number, and arr_1 has another shape than b takes */
    assert_null(input_open(DATA "plain.npz", ports, 2, "none", IMAGE_ANTIALIAS, &error));
    assert_int_equal(error.code, ERROR_INPUT);
}

static void inputs_that_do_not_fit_say_how(void **state)
{
    (void)state;
    struct error error = {0};
    assert_null(open_one(DATA "float32.npy", 2, (int64_t[]){3, 5}, DTYPE_F32, &error));
    assert_int_equal(error.code, ERROR_INPUT);
    assert_string_equal(error.why, "its shape is (2, 3, 4), input x takes (None, 3, 5)");
    assert_null(open_one(DATA "scalar_i64.npy", 1, (int64_t[]){1}, DTYPE_F32, &error));
    assert_null(open_one(DATA "rgb.png", 2, (int64_t[]){5, 7}, DTYPE_F32, &error));
    assert_int_equal(error.code, ERROR_INPUT);
    assert_null(open_one(DATA "rows.h5", 2, (int64_t[]){28, 28}, DTYPE_F32, &error));
    assert_non_null(strstr(error.why, "dataset"));
    assert_null(open_one(DATA "rows.h5:nope", 2, (int64_t[]){28, 28}, DTYPE_F32, &error));
    assert_int_equal(error.code, ERROR_FILE);
    assert_null(open_one(DATA "rows.h5:names", 1, (int64_t[]){1}, DTYPE_F32, &error));
    assert_int_equal(error.code, ERROR_FILE);
    assert_null(open_one("tests/unit", 3, (int64_t[]){5, 7, 3}, DTYPE_F32, &error));
    assert_non_null(strstr(error.why, "no .png"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_of_numpy_are_read),
        cmocka_unit_test(what_cannot_be_read_says_so),
        cmocka_unit_test(half_precision_is_exact),
        cmocka_unit_test(every_cut_header_is_refused),
        cmocka_unit_test(a_shape_that_overflows_is_refused),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(integers_saturate),
        cmocka_unit_test(pictures_are_decoded),
        cmocka_unit_test(cut_and_damaged_pictures_are_refused),
        cmocka_unit_test(every_kind_of_png_becomes_rgb),
        cmocka_unit_test(shrinking_averages),
        cmocka_unit_test(resizing_is_what_keras_computes),
        cmocka_unit_test(families_are_preprocessed_as_keras_does),
        cmocka_unit_test(inputs_come_from_every_kind),
        cmocka_unit_test(inputs_that_do_not_fit_say_how),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
