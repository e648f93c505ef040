/* Hostile .keras archives: what the zip says of itself, what unpacks to far more, and links inside the
 * weights. (Damage by cutting and flipping, and links in .h5 files, are in test_keras_hostile.c.) */
#include "support/hostile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>
#include <zlib.h>

#include <cmocka.h>

#define DATA "tests/data/keras/"

/* ---- an archive written by hand ---- */

/* A member as the two headers that an archive has of it may tell of it. */
struct told {
    const char *name, *local_name;
    unsigned flags, local_flags;
    unsigned method, local_method;
    size_t size, local_size;
    const void *data;
};

struct buffer {
    unsigned char *data;
    size_t size;
};

static void put(struct buffer *to, const void *data, size_t size)
{
    to->data = realloc(to->data, to->size + size);
    assert_non_null(to->data);
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void put_number(struct buffer *to, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++, number >>= 8)
        put(to, &(unsigned char){(unsigned char)number}, 1);
}

/* What both headers have in common, from the flags on. */
static void put_facts(struct buffer *to, const struct told *member, bool local)
{
    const char *name = local ? member->local_name : member->name;
    size_t size = local ? member->local_size : member->size;
    put_number(to, local ? member->local_flags : member->flags, 2);
    put_number(to, local ? member->local_method : member->method, 2);
    put_number(to, 0x5b000000, 4); /* a day of 2025 */
    put_number(to, crc32(0, member->data, (uInt)member->size), 4);
    put_number(to, size, 4);
    put_number(to, size, 4);
    put_number(to, strlen(name), 2);
    put_number(to, 0, 2);
}

/* The header before the data, and the data. Returns where it begins. */
static size_t put_local(struct buffer *to, const struct told *member)
{
    size_t at = to->size;
    put(to, "PK\3\4\24\0", 6);
    put_facts(to, member, true);
    put(to, member->local_name, strlen(member->local_name));
    put(to, member->data, member->size);
    return at;
}

static void put_central(struct buffer *to, const struct told *member, size_t at)
{
    put(to, "PK\1\2\24\0\24\0", 8);
    put_facts(to, member, false);
    put_number(to, 0, 2 + 2 + 2 + 4);
    put_number(to, at, 4);
    put(to, member->name, strlen(member->name));
}

static void put_end(struct buffer *to, size_t central, unsigned count)
{
    size_t size = to->size - central;
    put(to, "PK\5\6\0\0\0\0", 8);
    put_number(to, count, 2);
    put_number(to, count, 2);
    put_number(to, size, 4);
    put_number(to, central, 4);
    put_number(to, 0, 2);
}

static const char *buffer_write(struct buffer *buffer)
{
    const char *path = hostile_write("made.keras", buffer->data, buffer->size);
    free(buffer->data);
    return path;
}

#define CONFIG "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[]}}"

/* Both headers alike. */
static struct told honest(const char *name, const void *data, size_t size)
{
    return (struct told){name, name, 0, 0, 0, 0, size, size, data};
}

/* ---- what the zip says of itself ---- */

static void members_that_are_encrypted(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "metadata.json", "model.weights.h5"};
    for (size_t i = 0; i < 3; i++) {
        const char *path = hostile_path("secret.keras");
        zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
        for (size_t j = 0; j < 3; j++)
            hostile_add_member(zip, names[j], CONFIG, strlen(CONFIG), false);
        assert_int_equal(zip_file_set_encryption(zip, i, ZIP_EM_TRAD_PKWARE, "secret"), 0);
        assert_int_equal(zip_close(zip), 0);
        hostile_must_fail(path, NULL, ERROR_MODEL_REFUSED, "is encrypted");
    }
}

/* An archive tells of each member twice; a scanner may have believed the other one. */
static void headers_that_differ(void **state)
{
    (void)state;
    for (int wrong = 0; wrong < 5; wrong++) {
        struct buffer buffer = {0};
        struct told config = honest("config.json", CONFIG, strlen(CONFIG));
        struct told weights = honest("model.weights.h5", "not HDF5", 8);
        if (wrong == 1)
            config.local_name = "confiG.json";
        if (wrong == 2)
            weights.local_method = 8;
        if (wrong == 3)
            weights.local_flags = 1;
        if (wrong == 4)
            weights.local_size = 7;
        size_t first = put_local(&buffer, &config), second = put_local(&buffer, &weights);
        size_t central = buffer.size;
        put_central(&buffer, &config, first);
        put_central(&buffer, &weights, second);
        put_end(&buffer, central, 2);
        hostile_must_fail(buffer_write(&buffer), NULL, ERROR_MODEL_BROKEN,
                          wrong == 0 ? "HDF5" : "headers");
    }
}

/* One member inside the bytes of another (David Fifield's "a better zip bomb"). */
static void members_that_overlap(void **state)
{
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        struct buffer inner = {0}, outer = {0};
        struct told weights = honest("model.weights.h5", "not HDF5", 8);
        put(&inner, CONFIG, strlen(CONFIG));
        size_t at = put_local(&inner, &weights), end = inner.size - (whole ? 0 : 4);
        struct told config = honest("config.json", inner.data, end);
        size_t first = put_local(&outer, &config);
        size_t second = outer.size - end + at;
        put(&outer, inner.data + end, inner.size - end);
        size_t central = outer.size;
        put_central(&outer, &config, first);
        put_central(&outer, &weights, second);
        put_end(&outer, central, 2);
        free(inner.data);
        hostile_must_fail(buffer_write(&outer), NULL, ERROR_MODEL_REFUSED, "overlap");
    }
}

/* A name that points outside is a name like any other: nothing is ever unpacked to disk. */
static void names_that_point_outside(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"../", "/", "C:\\", "..\\"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        char name[2][64];
        snprintf(name[0], sizeof name[0], "%sconfig.json", prefixes[i]);
        snprintf(name[1], sizeof name[1], "%smodel.weights.h5", prefixes[i]);
        struct buffer buffer = {0};
        struct told members[2] = {honest(name[0], CONFIG, strlen(CONFIG)),
                                  honest(name[1], "not HDF5", 8)};
        size_t first = put_local(&buffer, &members[0]), second = put_local(&buffer, &members[1]);
        size_t central = buffer.size;
        put_central(&buffer, &members[0], first);
        put_central(&buffer, &members[1], second);
        put_end(&buffer, central, 2);
        hostile_must_fail(buffer_write(&buffer), NULL, ERROR_MODEL_FILE, "config.json");
    }
}

/* ---- what unpacks to far more ---- */

static const char *pack(const char *config, size_t config_size, const void *weights, size_t size)
{
    const char *path = hostile_path("packed.keras");
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    hostile_add_member(zip, "config.json", config, config_size, true);
    hostile_add_member(zip, "model.weights.h5", weights, size, true);
    assert_int_equal(zip_close(zip), 0);
    return path;
}

/* A configuration of 60 MiB, all of it blanks, in 60 KiB. */
static void configuration_bomb(void **state)
{
    (void)state;
    size_t size = 60u << 20;
    char *blanks = malloc(size);
    memset(blanks, ' ', size);
    memcpy(blanks + size - strlen(CONFIG), CONFIG, strlen(CONFIG));
    hostile_must_fail(pack(blanks, size, "not HDF5", 8), NULL, ERROR_MODEL_REFUSED,
                      "times its size");
    free(blanks);
}

/* Zeros, in chunks of HDF5's deflate, in an archive that is deflated again: each step within its own
 * bounds. */
static void nested_bomb(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", hostile_path("inner.weights.h5"));
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t links = H5Pcreate(H5P_LINK_CREATE), create = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t dims[2] = {5, 1 << 22}, chunk[2] = {1, 1 << 22};
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_chunk(create, 2, chunk);
    H5Pset_deflate(create, 9);
    hid_t space = H5Screate_simple(2, dims, NULL);
    hid_t set =
        H5Dcreate2(file, "layers/dense/vars/0", H5T_IEEE_F32LE, space, links, create, H5P_DEFAULT);
    float *zeros = calloc(dims[0] * dims[1], sizeof *zeros);
    for (size_t i = 0; i < dims[0] * dims[1]; i += 4096) /* not more than is believed */
        zeros[i] = (float)i * 0.37F;
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    free(zeros);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(create);
    H5Pclose(links);
    H5Fclose(file);
    static const char config[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"s\",\"layers\":["
        "{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"x\",\"batch_shape\":[null,5]}},"
        "{\"class_name\":\"Dense\",\"config\":{\"name\":\"a\",\"trainable\":true,\"use_bias\":"
        "false,"
        "\"units\":4194304}}]}}";
    struct hostile_bytes bytes = hostile_read(path);
    hostile_must_fail(pack(config, strlen(config), bytes.data, bytes.size), NULL,
                      ERROR_MODEL_BROKEN, "larger than is read at most");
    free(bytes.data);
}

/* Forty layers whose kernels are one and the same: what is planned for them would be forty times what
 * the file has. */
static void one_dataset_for_many(void **state)
{
    (void)state;
    char path[512], name[64], *config = NULL;
    size_t size;
    FILE *text = open_memstream(&config, &size);
    snprintf(path, sizeof path, "%s", hostile_path("shared.weights.h5"));
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t space = H5Screate_simple(2, (hsize_t[]){256, 256}, NULL);
    hid_t set = H5Dcreate2(file, "layers/dense/vars/0", H5T_IEEE_F32LE, space, links, H5P_DEFAULT,
                           H5P_DEFAULT);
    float *numbers = calloc(256 * 256, sizeof *numbers);
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers) >= 0);
    free(numbers);
    fprintf(text, "{\"class_name\":\"Sequential\",\"keras_version\":\"3.9.2\",\"config\":{\"name\":"
                  "\"s\",\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"name\":\"x\","
                  "\"batch_shape\":[null,256]}}");
    for (int i = 0; i < 40; i++) {
        fprintf(text,
                ",{\"class_name\":\"Dense\",\"config\":{\"name\":\"d%d\",\"trainable\":true,"
                "\"use_bias\":false,\"units\":256}}",
                i);
        snprintf(name, sizeof name, "layers/dense_%d/vars/0", i);
        if (i > 0)
            assert_true(
                H5Lcreate_hard(file, "layers/dense/vars/0", file, name, links, H5P_DEFAULT) >= 0);
    }
    fprintf(text, "]}}");
    fclose(text);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(links);
    H5Fclose(file);
    char model[512];
    snprintf(model, sizeof model, "%s", hostile_write_text("shared.json", config));
    hostile_must_fail(model, path, ERROR_MODEL_REFUSED, "more than the file");
    struct hostile_bytes bytes = hostile_read(path);
    hostile_must_fail(pack(config, size, bytes.data, bytes.size), NULL, ERROR_MODEL_REFUSED,
                      "more than the file");
    free(bytes.data);
    free(config);
}

/* ---- links inside the weights ---- */

#define KERNEL "layers/dense/vars/0"

static void soft_link(hid_t file)
{
    H5Ldelete(file, KERNEL, H5P_DEFAULT);
    H5Lcreate_soft("/layers/dense/vars/1", file, KERNEL, H5P_DEFAULT, H5P_DEFAULT);
}

static void soft_link_to_itself(hid_t file)
{
    H5Ldelete(file, KERNEL, H5P_DEFAULT);
    H5Lcreate_soft("/" KERNEL, file, KERNEL, H5P_DEFAULT, H5P_DEFAULT);
}

static void external_link(hid_t file)
{
    H5Ldelete(file, KERNEL, H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/" KERNEL, file, KERNEL, H5P_DEFAULT, H5P_DEFAULT);
}

static void group_is_a_soft_link(hid_t file)
{
    H5Lmove(file, "layers/dense", file, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/elsewhere", file, "layers/dense", H5P_DEFAULT, H5P_DEFAULT);
}

static void group_is_an_external_link(hid_t file)
{
    H5Ldelete(file, "layers/dense", H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/layers/dense", file, "layers/dense", H5P_DEFAULT,
                       H5P_DEFAULT);
}

static void all_weights_are_an_external_link(hid_t file)
{
    H5Ldelete(file, "layers", H5P_DEFAULT);
    H5Lcreate_external("/etc/passwd", "/layers", file, "layers", H5P_DEFAULT, H5P_DEFAULT);
}

static void all_weights_are_a_soft_link(hid_t file)
{
    H5Ldelete(file, "layers", H5P_DEFAULT);
    H5Lcreate_soft("/layers", file, "layers", H5P_DEFAULT, H5P_DEFAULT);
}

static void variables_are_their_own_group(hid_t file)
{
    H5Ldelete(file, KERNEL, H5P_DEFAULT);
    H5Lcreate_hard(file, "layers", file, KERNEL, H5P_DEFAULT, H5P_DEFAULT);
}

static void external_storage(hid_t file)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(2, (hsize_t[]){4, 4}, NULL);
    H5Ldelete(file, KERNEL, H5P_DEFAULT);
    H5Pset_external(create, "/etc/passwd", 0, 64);
    H5Dclose(H5Dcreate2(file, KERNEL, H5T_IEEE_F32LE, space, H5P_DEFAULT, create, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(create);
}

static void virtual_dataset(hid_t file)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(2, (hsize_t[]){4, 4}, NULL);
    H5Ldelete(file, KERNEL, H5P_DEFAULT);
    H5Pset_virtual(create, space, "/etc/passwd", "x", space);
    H5Dclose(H5Dcreate2(file, KERNEL, H5T_IEEE_F32LE, space, H5P_DEFAULT, create, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(create);
}

static void kernel_of_another_shape(hid_t file)
{
    hid_t space = H5Screate_simple(2, (hsize_t[]){4, 5}, NULL);
    H5Ldelete(file, KERNEL, H5P_DEFAULT);
    H5Dclose(
        H5Dcreate2(file, KERNEL, H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}

static void no_bias(hid_t file)
{
    H5Ldelete(file, "layers/dense/vars/1", H5P_DEFAULT);
}

static void one_weight_more(hid_t file)
{
    H5Lcreate_hard(file, "layers/dense/vars/1", file, "layers/dense/vars/2", H5P_DEFAULT,
                   H5P_DEFAULT);
}

static void weights_that_lead_elsewhere(void **state)
{
    (void)state;
    static const struct {
        void (*edit)(hid_t file);
        enum error_code code;
        const char *why;
    } cases[] = {
        {soft_link, ERROR_MODEL_REFUSED, "soft link"},
        {soft_link_to_itself, ERROR_MODEL_REFUSED, "soft link"},
        {external_link, ERROR_MODEL_REFUSED, "external link"},
        {group_is_a_soft_link, ERROR_MODEL_REFUSED, "soft link"},
        {group_is_an_external_link, ERROR_MODEL_REFUSED, "external link"},
        {all_weights_are_an_external_link, ERROR_MODEL_REFUSED, "external link"},
        {all_weights_are_a_soft_link, ERROR_MODEL_REFUSED, "soft link"},
        {variables_are_their_own_group, ERROR_MODEL_BROKEN, "dataset is expected"},
        {external_storage, ERROR_MODEL_REFUSED, "external storage"},
        {virtual_dataset, ERROR_MODEL_REFUSED, "virtual"},
        {kernel_of_another_shape, ERROR_MODEL_BROKEN, "holds 0 of them"},
        {no_bias, ERROR_MODEL_WEIGHTS, "holds 1 weight"},
        {one_weight_more, ERROR_MODEL_WEIGHTS, "holds 3 weights"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        hostile_must_fail(hostile_edit_weights(DATA "shared_layer.keras", cases[i].edit), NULL,
                          cases[i].code, cases[i].why);
}

static void leave(hid_t file)
{
    (void)file;
}

/* The helpers themselves break nothing. */
static void untouched(void **state)
{
    (void)state;
    struct error error;
    assert_true(
        hostile_works(hostile_edit_weights(DATA "shared_layer.keras", leave), NULL, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_that_are_encrypted),
        cmocka_unit_test(headers_that_differ),
        cmocka_unit_test(members_that_overlap),
        cmocka_unit_test(names_that_point_outside),
        cmocka_unit_test(configuration_bomb),
        cmocka_unit_test(nested_bomb),
        cmocka_unit_test(one_dataset_for_many),
        cmocka_unit_test(weights_that_lead_elsewhere),
        cmocka_unit_test(untouched),
    };
    return cmocka_run_group_tests(tests, hostile_make_folder, hostile_remove_folder);
}
