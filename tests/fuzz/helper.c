/* What `make fuzz` needs besides the targets:
 *
 *   helper seeds FOLDER                          first inputs for every target, from tests/data and
 *                                                from the tables of the program itself
 *   helper add FILE TARGET SECONDS RUNS FINDINGS COMMIT
 *                                                add a run to the JSON of all runs */
#include "commands/command.h"
#include "commands/settings.h"
#include "engine/model.h"
#include "engine/stream.h"
#include "profiler/records.h"

#include <glob.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zip.h>
#include <zlib.h>

static const char *folder;

static void seed(const char *target, const char *source, const void *data, size_t size)
{
    char path[4096];
    const char *name = strrchr(source, '/');
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name ? name + 1 : source);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size) {
        perror(path);
        exit(1);
    }
    fclose(file);
}

static void seed_file(const char *target, const char *path, size_t most)
{
    char *data = malloc(most);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(data, 1, most, file) : 0;
    if (file)
        fclose(file);
    if (size > 0 && size < most)
        seed(target, path, data, size);
    free(data);
}

static void each(const char *pattern, void (*take)(const char *path))
{
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        take(found.gl_pathv[i]);
    globfree(&found);
}

/* The architecture out of an HDF5 file. */
static void take_h5(const char *path)
{
    seed_file("damaged", path, 24 << 10);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0 || H5Aexists(file, "model_config") <= 0)
        return;
    hid_t attribute = H5Aopen(file, "model_config", H5P_DEFAULT), type = H5Aget_type(attribute);
    if (H5Tis_variable_str(type) > 0) {
        char *text = NULL;
        if (H5Aread(attribute, type, &text) >= 0 && text != NULL)
            seed("architecture", path, text, strlen(text));
        H5free_memory(text);
    }
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
}

static void take_keras(const char *path)
{
    seed_file("archive", path, 16 << 10);
    seed_file("damaged", path, 24 << 10);
    zip_t *zip = zip_open(path, ZIP_RDONLY, NULL);
    zip_file_t *file = zip ? zip_fopen(zip, "config.json", 0) : NULL;
    char *text = malloc(1 << 20);
    zip_int64_t size = file ? zip_fread(file, text, 1 << 20) : 0;
    if (size > 0)
        seed("architecture", path, text, (size_t)size);
    free(text);
    if (zip)
        zip_discard(zip);
}

/* Demo models: their layers have drawn weights. The weights come first, as the target expects. */
static void take_demo(const char *path)
{
    gzFile file = gzopen(path, "rb");
    char *text = malloc(64 << 10);
    int size = file ? gzread(file, text, 64 << 10) : 0;
    if (file)
        gzclose(file);
    json_t *json = size > 0 ? json_loadb(text, (size_t)size, 0, NULL) : NULL;
    json_t *weights = json_object_get(json, "weights");
    if (weights != NULL) {
        json_t *seeded = json_pack("{s:O}", "weights", weights);
        json_object_update(seeded, json);
        char *out = json_dumps(seeded, JSON_COMPACT);
        seed("architecture", path, out, strlen(out));
        free(out);
        json_decref(seeded);
    }
    json_decref(json);
    free(text);
}

static void take_array(const char *path)
{
    seed_file("arrays", path, 8 << 10);
}

/* Programs of fuzz_hdf5.c: a group, a dataset, a list of names ... in every order. */
static void seed_hdf5(void)
{
    for (unsigned n = 0; n < 64; n++) {
        unsigned char program[96];
        char name[16];
        uint32_t random = n * 2654435761u + 1;
        for (size_t i = 0; i < sizeof program; i++) {
            random = random * 1664525u + 1013904223u;
            program[i] = (unsigned char)(random >> (n % 2 ? 24 : 28));
        }
        snprintf(name, sizeof name, "%u", n);
        seed("hdf5", name, program, sizeof program);
    }
}

static void seed_lines(void)
{
    char name[32];
    int number = 0;
    for (size_t i = 0; i < command_count(); i++) {
        for (const char *const *line = command_at(i)->examples; line && *line; line++) {
            snprintf(name, sizeof name, "%d", number++);
            seed("line", name, *line, strlen(*line));
        }
    }
    for (size_t i = 0; i < setting_count(); i++) {
        const char *line = setting_at(i)->example;
        snprintf(name, sizeof name, "%d", number++);
        seed("line", name, line, strlen(line));
    }
    static const char keys[] =
        "set batch\x01\x0b\x19\x1b[200~'a b' \"c\xc3\xa9\"\x1b[201~\x1b[D\x14\t\t\x1b[Z"
        "\x12se\x12\r\x1b[A\x1b[1;5D\x1f";
    seed("line", "keys", keys, sizeof keys - 1);
}

static void put_plain(struct stream_buffer *plain, enum stream_type type, const void *data,
                      size_t bytes)
{
    const uint8_t head[3] = {(uint8_t)type, (uint8_t)bytes, (uint8_t)(bytes >> 8)};
    stream_buffer_append(plain, head, sizeof head);
    stream_buffer_append(plain, data, bytes);
}

/* A little of everything that a worker says, framed and plain. */
static void seed_stream(void)
{
    static const char *const replies[] = {
        "{\"layers\":[{\"name\":\"a\",\"class\":\"Dense\"},{\"name\":\"b\",\"class\":\"ReLU\"}]}",
        "{\"device\":\"cpu\",\"batch\":32,\"layers\":[{\"layer\":0,\"name\":\"a\",\"flops\":10,"
        "\"bytes\":20},{\"layer\":1,\"name\":\"b\",\"fused_into\":\"a\"}],\"weights_bytes\":1}"};
    struct stream_buffer framed = {0}, plain = {0};
    struct record_writer writer = {0};
    struct record_header header = {
        .kind = RECORD_WINDOW, .device = -1, .session = 7, .time_ns = 9000000};
    struct record_window window = {.begin_ns = 1000,
                                   .timing = TIMING_CLOCK,
                                   .known = 0x3f,
                                   .wall_count = 2,
                                   .layer_count = 1,
                                   .ledger_steps = 2,
                                   .samples = 64,
                                   .rate_ns = 99,
                                   .class_ns = {1, 2, 3, 4, 5, 6},
                                   .wall_ns = 21};
    struct record_layer layer = {
        .layer = 0, .steps = 2, .kernels = 4, .sum_ns = 10, .min_ns = 1, .max_ns = 9};
    struct record_memory memory = {.category = {1, 2, 3, 4, 5}, .used = 6, .total = 7, .cupti = 8};
    struct record_device device = {.clock_mhz = 1000, .used = 1, .total = 2};
    struct histogram histogram;
    const float wall_ms[2] = {1, 2};
    histogram_init(&histogram);
    histogram_clear(&histogram);
    histogram_add(&histogram, 100, 2);
    stream_buffer_append(&framed, "\x40", 1);
    stream_buffer_append(&plain, "\xff", 1);
    stream_put_preamble(&framed);
    for (int i = 0; i < 2; i++) {
        stream_put(&framed, i ? STREAM_PLAN : STREAM_REPLY, 1, replies[i], strlen(replies[i]));
        put_plain(&plain, i ? STREAM_PLAN : STREAM_REPLY, replies[i], strlen(replies[i]));
    }
    for (int i = 0; i < 4; i++) {
        static const enum record_kind kinds[] = {RECORD_WINDOW, RECORD_MEMORY, RECORD_DEVICE,
                                                 RECORD_NOTE};
        header.kind = kinds[i];
        record_begin(&writer, &header);
        if (i == 0) {
            record_put_window(&writer, &window, wall_ms);
            record_put_layer(&writer, &layer, &histogram);
        } else if (i == 1) {
            record_put_memory(&writer, &memory);
        } else if (i == 2) {
            record_put_device(&writer, &device);
        } else {
            record_put_note(&writer, "no CUPTI");
        }
        stream_put(&framed, STREAM_RECORD, 0, writer.data, writer.bytes);
        put_plain(&plain, STREAM_RECORD, writer.data, writer.bytes);
    }
    seed("stream", "framed", framed.data + framed.start, stream_buffer_bytes(&framed));
    seed("stream", "plain", plain.data + plain.start, stream_buffer_bytes(&plain));
    stream_buffer_free(&framed);
    stream_buffer_free(&plain);
    free(writer.data);
}

static int seeds(void)
{
    mkdir(folder, 0777);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    each("tests/data/keras/*.h5", take_h5);
    each("tests/data/models/*.h5", take_h5);
    each("tests/data/keras/*.keras", take_keras);
    each("tests/data/models/*.keras", take_keras);
    each("share/layertop/demo/*/*.json.gz", take_demo);
    each("tests/data/arrays/*.np[yz]", take_array);
    seed_file("architecture", "tests/data/keras/tf215_nested.json", 64 << 10);
    seed_file("facts", "tests/data/doctor/healthy.json", 64 << 10);
    seed_file("facts", "tests/data/doctor/python.json", 64 << 10);
    seed_file("facts", "tests/data/doctor/process.json", 64 << 10);
    seed_file("facts", "tests/data/doctor/needs.so", 64 << 10);
    seed_hdf5();
    seed_lines();
    seed_stream();
    return 0;
}

/* Seconds and runs add up over the life of the file; findings and commit are the last run's. */
static int add(char **word)
{
    json_t *all = json_load_file(word[0], 0, NULL);
    if (all == NULL)
        all = json_object();
    json_t *old = json_object_get(all, word[1]);
    json_int_t seconds = json_integer_value(json_object_get(old, "seconds")) + atoll(word[2]);
    json_int_t runs = json_integer_value(json_object_get(old, "runs")) + atoll(word[3]);
    json_object_set_new(all, word[1],
                        json_pack("{s:I, s:I, s:I, s:s}", "seconds", seconds, "runs", runs,
                                  "findings", (json_int_t)atoll(word[4]), "commit", word[5]));
    int failed = json_dump_file(all, word[0], JSON_INDENT(2) | JSON_SORT_KEYS);
    FILE *file = fopen(word[0], "a");
    if (file) {
        fputc('\n', file);
        fclose(file);
    }
    json_decref(all);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "seeds") == 0) {
        folder = argv[2];
        return seeds();
    }
    if (argc == 8 && strcmp(argv[1], "add") == 0)
        return add(argv + 2);
    fprintf(stderr,
            "usage: helper seeds FOLDER | helper add FILE TARGET SECONDS RUNS FINDINGS COMMIT\n");
    return 2;
}
