/* From the journal to HDF5: one walk over the frames, tables that grow as it goes. */
#include "engine/hdf5.h"
#include "profiler/recording.h"

#include "profiler/records.h"

#include "engine/output_file.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef LAYERTOP_VERSION
#define LAYERTOP_VERSION "unknown"
#endif

#define FORMAT      1
#define CHUNK_ROWS  1024
#define CHUNK_BYTES (256u << 10)
#define GZIP        4

/* ---- rows ---- */

struct window_row {
    int64_t time_ns, begin_ns, device, segment, steps, samples, rate_ns, wall_ns, unexplained_ns;
    int64_t class_ns[LEDGER_CLASS_COUNT];
};
struct layer_row {
    int64_t window, layer, steps, kernels, sum_ns, min_ns, max_ns;
};
struct wall_row {
    int64_t window;
    double wall_ms;
};
struct memory_row {
    int64_t time_ns, device, category[RECORD_MEMORY_CATEGORIES], used, total, library, cupti;
};
struct device_row {
    int64_t time_ns, device;
    double clock_mhz, temperature_c, power_w, util;
    int64_t used, total, ours, throttle;
};
struct model_row {
    int64_t index, parameters;
    char *name, *class_name;
};
struct command_row {
    int64_t time_ns, ok;
    char *verb, *arguments, *answer;
};

enum kind { INTEGER, REAL, TEXT };
struct field {
    const char *name;
    size_t offset;
    enum kind kind;
};

#define FIELD(row, member, kind)                                                                   \
    {                                                                                              \
#member, offsetof(struct row, member), kind                                                \
    }

static const struct field window_fields[] = {
    FIELD(window_row, time_ns, INTEGER),
    FIELD(window_row, begin_ns, INTEGER),
    FIELD(window_row, device, INTEGER),
    FIELD(window_row, segment, INTEGER),
    FIELD(window_row, steps, INTEGER),
    FIELD(window_row, samples, INTEGER),
    FIELD(window_row, rate_ns, INTEGER),
    FIELD(window_row, wall_ns, INTEGER),
    FIELD(window_row, unexplained_ns, INTEGER),
    {"kernel_ns", offsetof(struct window_row, class_ns[LEDGER_KERNEL]), INTEGER},
    {"copy_ns", offsetof(struct window_row, class_ns[LEDGER_COPY]), INTEGER},
    {"profiler_ns", offsetof(struct window_row, class_ns[LEDGER_PROFILER]), INTEGER},
    {"launch_ns", offsetof(struct window_row, class_ns[LEDGER_LAUNCH]), INTEGER},
    {"preprocess_ns", offsetof(struct window_row, class_ns[LEDGER_PREPROCESS]), INTEGER},
    {"gap_ns", offsetof(struct window_row, class_ns[LEDGER_GAP]), INTEGER},
};
static const struct field layer_fields[] = {
    FIELD(layer_row, window, INTEGER), FIELD(layer_row, layer, INTEGER),
    FIELD(layer_row, steps, INTEGER),  FIELD(layer_row, kernels, INTEGER),
    FIELD(layer_row, sum_ns, INTEGER), FIELD(layer_row, min_ns, INTEGER),
    FIELD(layer_row, max_ns, INTEGER),
};
static const struct field wall_fields[] = {
    FIELD(wall_row, window, INTEGER),
    FIELD(wall_row, wall_ms, REAL),
};
static const struct field memory_fields[] = {
    FIELD(memory_row, time_ns, INTEGER),
    FIELD(memory_row, device, INTEGER),
    {"weights", offsetof(struct memory_row, category[0]), INTEGER},
    {"activations", offsetof(struct memory_row, category[1]), INTEGER},
    {"workspace", offsetof(struct memory_row, category[2]), INTEGER},
    {"idle", offsetof(struct memory_row, category[3]), INTEGER},
    {"context", offsetof(struct memory_row, category[4]), INTEGER},
    FIELD(memory_row, used, INTEGER),
    FIELD(memory_row, total, INTEGER),
    FIELD(memory_row, library, INTEGER),
    FIELD(memory_row, cupti, INTEGER),
};
static const struct field device_fields[] = {
    FIELD(device_row, time_ns, INTEGER), FIELD(device_row, device, INTEGER),
    FIELD(device_row, clock_mhz, REAL),  FIELD(device_row, temperature_c, REAL),
    FIELD(device_row, power_w, REAL),    FIELD(device_row, util, REAL),
    FIELD(device_row, used, INTEGER),    FIELD(device_row, total, INTEGER),
    FIELD(device_row, ours, INTEGER),    FIELD(device_row, throttle, INTEGER),
};
static const struct field model_fields[] = {
    FIELD(model_row, index, INTEGER),
    FIELD(model_row, name, TEXT),
    {"class", offsetof(struct model_row, class_name), TEXT},
    FIELD(model_row, parameters, INTEGER),
};
static const struct field command_fields[] = {
    FIELD(command_row, time_ns, INTEGER), FIELD(command_row, verb, TEXT),
    FIELD(command_row, arguments, TEXT),  FIELD(command_row, ok, INTEGER),
    FIELD(command_row, answer, TEXT),
};

/* ---- tables ---- */

struct table {
    hid_t type, dataset;
    size_t row_bytes, count; /* rows that wait in `rows` */
    hsize_t written;
    char *rows;
};

enum table_name { WINDOWS, WINDOW_LAYERS, WALLS, MEMORY, DEVICES, LAYERS, COMMANDS, TABLES };

struct pack {
    hid_t file;
    struct table tables[TABLES];
    int64_t time_ns;
    json_t *model, *plan, *settings, *hello;
    int64_t unix_ns;
    int64_t windows;
    json_t *asked; /* id as text -> [time_ns, request] */
    bool failed;
};

static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static hid_t chunked(hsize_t chunk)
{
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 1, &chunk);
    H5Pset_shuffle(list);
    H5Pset_deflate(list, GZIP);
    return list;
}

static void table_open(struct pack *pack, enum table_name which, const char *name,
                       const struct field *fields, size_t field_count, size_t row_bytes)
{
    struct table *table = &pack->tables[which];
    hid_t text = text_type();
    hsize_t none = 0, any = H5S_UNLIMITED;
    hid_t space = H5Screate_simple(1, &none, &any), list = chunked(CHUNK_ROWS);
    *table = (struct table){.row_bytes = row_bytes, .rows = xmalloc(row_bytes * CHUNK_ROWS)};
    table->type = H5Tcreate(H5T_COMPOUND, row_bytes);
    for (size_t i = 0; i < field_count; i++)
        H5Tinsert(table->type, fields[i].name, fields[i].offset,
                  fields[i].kind == INTEGER ? H5T_NATIVE_INT64
                  : fields[i].kind == REAL  ? H5T_NATIVE_DOUBLE
                                            : text);
    table->dataset =
        H5Dcreate2(pack->file, name, table->type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    pack->failed = pack->failed || table->dataset < 0;
    H5Pclose(list);
    H5Sclose(space);
    H5Tclose(text);
}

static void append(struct pack *pack, hid_t dataset, hid_t type, hsize_t written, hsize_t count,
                   const void *data)
{
    hsize_t total = written + count;
    bool ok = H5Dset_extent(dataset, &total) >= 0;
    hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(1, &count, NULL);
    ok = ok && H5Sselect_hyperslab(space, H5S_SELECT_SET, &written, NULL, &count, NULL) >= 0 &&
         H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, data) >= 0;
    H5Sclose(memory);
    H5Sclose(space);
    pack->failed = pack->failed || !ok;
}

static void table_flush(struct pack *pack, enum table_name which)
{
    struct table *table = &pack->tables[which];
    if (table->count > 0 && !pack->failed)
        append(pack, table->dataset, table->type, table->written, table->count, table->rows);
    for (size_t i = 0; i < table->count; i++) {
        char *row = table->rows + i * table->row_bytes;
        if (which == LAYERS) {
            free(((struct model_row *)(void *)row)->name);
            free(((struct model_row *)(void *)row)->class_name);
        } else if (which == COMMANDS) {
            free(((struct command_row *)(void *)row)->verb);
            free(((struct command_row *)(void *)row)->arguments);
            free(((struct command_row *)(void *)row)->answer);
        }
    }
    table->written += table->count;
    table->count = 0;
}

static void table_add(struct pack *pack, enum table_name which, const void *row)
{
    struct table *table = &pack->tables[which];
    memcpy(table->rows + table->count++ * table->row_bytes, row, table->row_bytes);
    if (table->count == CHUNK_ROWS)
        table_flush(pack, which);
}

static void table_close(struct pack *pack, enum table_name which)
{
    struct table *table = &pack->tables[which];
    table_flush(pack, which);
    if (table->dataset >= 0)
        pack->failed = H5Dclose(table->dataset) < 0 || pack->failed;
    H5Tclose(table->type);
    free(table->rows);
}

/* ---- frames ---- */

static int64_t known(uint64_t value)
{
    return value > INT64_MAX ? -1 : (int64_t)value;
}

static void add_window(struct pack *pack, struct record_reader *reader,
                       const struct record_header *header)
{
    struct record_window window;
    const uint8_t *walls, *buckets;
    struct record_layer layer;
    if (!record_get_window(reader, &window, &walls, NULL))
        return;
    struct window_row row = {.time_ns = header->time_ns,
                             .begin_ns = window.begin_ns,
                             .device = header->device,
                             .segment = header->segment,
                             .steps = window.wall_count,
                             .samples = known(window.samples),
                             .rate_ns = window.rate_ns,
                             .wall_ns = window.wall_ns,
                             .unexplained_ns = window.unexplained_ns};
    for (int i = 0; i < LEDGER_CLASS_COUNT; i++)
        row.class_ns[i] = window.known & (1u << i) ? window.class_ns[i] : -1;
    for (uint32_t i = 0; i < window.wall_count; i++)
        table_add(pack, WALLS, &(struct wall_row){pack->windows, record_wall_ms(walls, i)});
    for (uint32_t i = 0; i < window.layer_count && record_get_layer(reader, &layer, &buckets, NULL);
         i++)
        table_add(pack, WINDOW_LAYERS,
                  &(struct layer_row){pack->windows, layer.layer, layer.steps, known(layer.kernels),
                                      layer.sum_ns, layer.min_ns, layer.max_ns});
    table_add(pack, WINDOWS, &row);
    pack->windows++;
}

static void add_record(struct pack *pack, const struct stream_frame *frame)
{
    struct record_reader reader;
    struct record_header header;
    struct record_memory memory;
    struct record_device device;
    if (!record_open(&reader, frame->data, frame->bytes, &header, NULL))
        return;
    pack->time_ns = header.time_ns;
    if (header.kind == RECORD_WINDOW) {
        add_window(pack, &reader, &header);
    } else if (header.kind == RECORD_MEMORY && record_get_memory(&reader, &memory, NULL)) {
        struct memory_row row = {
            header.time_ns,      header.device,       {0},
            known(memory.used),  known(memory.total), known(memory.library),
            known(memory.cupti),
        };
        for (int i = 0; i < RECORD_MEMORY_CATEGORIES; i++)
            row.category[i] = known(memory.category[i]);
        table_add(pack, MEMORY, &row);
    } else if (header.kind == RECORD_DEVICE && record_get_device(&reader, &device, NULL)) {
        table_add(pack, DEVICES,
                  &(struct device_row){header.time_ns, header.device, (double)device.clock_mhz,
                                       (double)device.temperature_c, (double)device.power_w,
                                       (double)device.util, known(device.used), known(device.total),
                                       known(device.ours), known(device.throttle)});
    }
}

static void keep(json_t **slot, json_t *json)
{
    if (!*slot && json_is_object(json))
        *slot = json_incref(json);
}

static char *dump(const json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    return text ? text : xstrdup("");
}

static void add_answer(struct pack *pack, const struct stream_frame *frame, json_t *answer)
{
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)frame->id);
    json_t *asked = json_object_get(pack->asked, id);
    const json_t *request = json_array_get(asked, 1);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    if (!verb)
        return;
    if (frame->type == STREAM_REPLY && strcmp(verb, "load") == 0)
        keep(&pack->model, answer);
    table_add(pack, COMMANDS,
              &(struct command_row){json_integer_value(json_array_get(asked, 0)),
                                    frame->type == STREAM_REPLY, xstrdup(verb),
                                    dump(json_object_get(request, "arguments")), dump(answer)});
    json_object_del(pack->asked, id);
}

static bool add_frame(void *context, const struct stream_frame *frame, uint64_t offset)
{
    struct pack *pack = context;
    char id[24];
    (void)offset;
    if (frame->type == STREAM_RECORD) {
        add_record(pack, frame);
        return !pack->failed;
    }
    json_t *json = stream_frame_json(frame);
    switch (frame->type) {
    case STREAM_HELLO:
        keep(&pack->hello, json);
        json_object_clear(pack->asked); /* a fresh worker counts anew */
        break;
    case STREAM_JOURNAL:
        keep(&pack->model, json_object_get(json, "model"));
        keep(&pack->plan, json_object_get(json, "plan"));
        keep(&pack->settings, json_object_get(json, "settings"));
        pack->unix_ns = json_integer_value(json_object_get(json, "unix_ns"));
        pack->time_ns = json_integer_value(json_object_get(json, "time_ns"));
        break;
    case STREAM_PLAN:
        keep(&pack->plan, json);
        break;
    case STREAM_REQUEST:
        snprintf(id, sizeof id, "%llu", (unsigned long long)frame->id);
        if (json)
            json_object_set_new(pack->asked, id,
                                json_pack("[I, O]", (json_int_t)pack->time_ns, json));
        break;
    case STREAM_REPLY:
    case STREAM_FAILURE:
        add_answer(pack, frame, json);
        break;
    default:
        break;
    }
    json_decref(json);
    return !pack->failed;
}

/* ---- the file ---- */

static void put_attribute(struct pack *pack, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(pack->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    pack->failed = pack->failed || attribute < 0 || H5Awrite(attribute, type, value) < 0;
    H5Aclose(attribute);
    H5Sclose(space);
}

static void put_integer(struct pack *pack, const char *name, int64_t value)
{
    put_attribute(pack, name, H5T_NATIVE_INT64, &value);
}

static void put_text(struct pack *pack, const char *name, const char *value)
{
    hid_t type = text_type();
    put_attribute(pack, name, type, &value);
    H5Tclose(type);
}

static void put_json(struct pack *pack, const char *name, const json_t *json)
{
    if (!json)
        return;
    char *text = dump(json);
    hid_t type = text_type(), space = H5Screate(H5S_SCALAR);
    hid_t dataset =
        H5Dcreate2(pack->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    pack->failed = pack->failed || dataset < 0 ||
                   H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, &text) < 0;
    H5Dclose(dataset);
    H5Sclose(space);
    H5Tclose(type);
    free(text);
}

/* The journal's bytes as they are, so that a replay shows exactly what was seen. */
static bool put_stream(struct pack *pack, struct recording *part, struct error *error)
{
    hsize_t none = 0, any = H5S_UNLIMITED;
    hid_t space = H5Screate_simple(1, &none, &any), list = chunked(CHUNK_BYTES);
    hid_t dataset =
        H5Dcreate2(pack->file, "stream", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    uint64_t at = 0, bytes = recording_bytes(part);
    uint8_t *block = xmalloc(CHUNK_BYTES);
    bool ok = true;
    pack->failed = pack->failed || dataset < 0;
    while (ok && !pack->failed && at < bytes) {
        size_t count = bytes - at < CHUNK_BYTES ? (size_t)(bytes - at) : CHUNK_BYTES;
        ok = recording_read(part, at, block, count, error);
        if (ok)
            append(pack, dataset, H5T_NATIVE_UINT8, at, count, block);
        at += count;
    }
    free(block);
    pack->failed = H5Dclose(dataset) < 0 || pack->failed;
    H5Pclose(list);
    H5Sclose(space);
    return ok;
}

static void put_model(struct pack *pack)
{
    size_t index;
    json_t *layer;
    json_array_foreach(json_object_get(pack->model, "layers"), index, layer)
    {
        const char *name = json_string_value(json_object_get(layer, "name"));
        const char *class_name = json_string_value(json_object_get(layer, "class"));
        table_add(pack, LAYERS,
                  &(struct model_row){
                      (int64_t)index, json_integer_value(json_object_get(layer, "parameters")),
                      xstrdup(name ? name : ""), xstrdup(class_name ? class_name : "")});
    }
}

#define OPEN(which, name, fields, row)                                                             \
    table_open(&pack, which, name, fields, sizeof fields / sizeof *fields, sizeof(struct row))

static bool fill(const char *path, const char *temporary, struct recording *part,
                 struct error *error)
{
    struct pack pack = {.asked = json_object()};
    bool whole = false;
    pack.file = H5Fcreate(temporary, H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
    if (pack.file < 0) {
        json_decref(pack.asked);
        return output_file_fail(path, errno, error);
    }
    OPEN(WINDOWS, "windows", window_fields, window_row);
    OPEN(WINDOW_LAYERS, "window_layers", layer_fields, layer_row);
    OPEN(WALLS, "walls", wall_fields, wall_row);
    OPEN(MEMORY, "memory", memory_fields, memory_row);
    OPEN(DEVICES, "devices", device_fields, device_row);
    OPEN(LAYERS, "layers", model_fields, model_row);
    OPEN(COMMANDS, "commands", command_fields, command_row);
    bool ok = recording_walk(part, add_frame, &pack, &whole, error);
    if (ok) {
        put_model(&pack);
        put_json(&pack, "model", pack.model);
        put_json(&pack, "plan", pack.plan);
        put_json(&pack, "settings", pack.settings);
        put_integer(&pack, "layertop_recording", FORMAT);
        put_integer(&pack, "recorded_unix_ns", pack.unix_ns);
        put_integer(&pack, "whole", whole);
        put_text(&pack, "layertop_version", LAYERTOP_VERSION);
        const char *host = json_string_value(json_object_get(pack.hello, "host"));
        put_text(&pack, "host", host ? host : "");
        ok = put_stream(&pack, part, error);
    }
    for (int i = 0; i < TABLES; i++)
        table_close(&pack, (enum table_name)i);
    pack.failed = H5Fclose(pack.file) < 0 || pack.failed;
    json_decref(pack.asked);
    json_decref(pack.model);
    json_decref(pack.plan);
    json_decref(pack.settings);
    json_decref(pack.hello);
    if (ok && pack.failed)
        ok = output_file_fail(path, 0, error);
    return ok;
}

bool recording_pack(const char *part, const char *path, struct error *error)
{
    struct output_file file;
    hdf5_prepare();
    if (!output_file_begin(&file, path, error))
        return false;
    struct recording *recording = recording_open(part, error);
    bool ok = recording && fill(path, file.temporary, recording, error);
    if (recording)
        recording_close(recording);
    return output_file_end(&file, ok, error);
}
