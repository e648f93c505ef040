/* Encoding and bounds-checked decoding of record frames: the layout is in records.h. */
#include "profiler/records.h"

#include "profiler/record_bytes.h"

#include <math.h>
#include <string.h>

#define BUCKET_BYTES 6

const char *timing_source_name(enum timing_source source)
{
    static const char *const names[TIMING_COUNT] = {"off", "clock", "events", "cupti"};
    return source < TIMING_COUNT ? names[source] : "?";
}

void record_begin(struct record_writer *writer, const struct record_header *header)
{
    writer->bytes = 0;
    put(writer, RECORD_VERSION, 1);
    put(writer, header->kind, 1);
    put(writer, (uint64_t)header->device, 2);
    put(writer, header->session, 4);
    put(writer, header->segment, 4);
    put(writer, header->lost, 4);
    put(writer, (uint64_t)header->time_ns, 8);
}

void record_put_window(struct record_writer *writer, const struct record_window *window,
                       const float *wall_ms)
{
    put(writer, (uint64_t)window->begin_ns, 8);
    put(writer, window->timing, 1);
    put(writer, window->known, 1);
    put(writer, 0, 2);
    put(writer, window->wall_count, 4);
    put(writer, window->layer_count, 4);
    put(writer, window->ledger_steps, 4);
    put(writer, window->samples, 8);
    put(writer, (uint64_t)window->rate_ns, 8);
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
        put(writer, (uint64_t)window->class_ns[c], 8);
    for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++)
        put(writer, (uint64_t)window->hidden_ns[c], 8);
    put(writer, (uint64_t)window->unexplained_ns, 8);
    put(writer, (uint64_t)window->wall_ns, 8);
    put(writer, window->dropped, 8);
    put(writer, window->unmatched, 8);
    put(writer, window->untimed, 8);
    for (uint32_t i = 0; i < window->wall_count; i++)
        put_float(writer, wall_ms[i]);
}

void record_put_layer(struct record_writer *writer, const struct record_layer *layer,
                      const struct histogram *histogram)
{
    put(writer, layer->layer, 4);
    put(writer, layer->steps, 4);
    put(writer, layer->kernels, 8);
    put(writer, (uint64_t)layer->sum_ns, 8);
    put(writer, (uint64_t)layer->min_ns, 8);
    put(writer, (uint64_t)layer->max_ns, 8);
    size_t length_at = writer->bytes;
    put(writer, 0, 4);
    uint32_t buckets = 0;
    for (int i = histogram->low; i <= histogram->high; i++) {
        if (histogram->counts[i] == 0)
            continue;
        put(writer, (uint64_t)i, 2);
        put(writer, histogram->counts[i], 4);
        buckets++;
    }
    for (size_t i = 0; i < 4; i++)
        writer->data[length_at + i] = (uint8_t)(buckets >> (8 * i));
}

void record_put_memory(struct record_writer *writer, const struct record_memory *memory)
{
    for (int c = 0; c < RECORD_MEMORY_CATEGORIES; c++)
        put(writer, memory->category[c], 8);
    put(writer, memory->used, 8);
    put(writer, memory->total, 8);
    put(writer, memory->library, 8);
    put(writer, memory->cupti, 8);
}

void record_put_device(struct record_writer *writer, const struct record_device *device)
{
    put_float(writer, device->clock_mhz);
    put_float(writer, device->temperature_c);
    put_float(writer, device->power_w);
    put_float(writer, device->util);
    put(writer, device->used, 8);
    put(writer, device->total, 8);
    put(writer, device->ours, 8);
    put(writer, device->throttle, 8);
    put(writer, device->others, 8);
    put(writer, device->tenants, 8);
}

void record_put_note(struct record_writer *writer, const char *text)
{
    size_t bytes = strlen(text);
    if (bytes > 1024)
        bytes = 1024;
    put(writer, bytes, 2);
    memcpy(reserve(writer, bytes), text, bytes);
}

void record_put_cost(struct record_writer *writer, const struct store_cost *cost)
{
    put(writer, cost->pairs, 4);
    put_float(writer, (float)cost->share);
    put_float(writer, (float)cost->low);
    put_float(writer, (float)cost->high);
}

static bool broken(struct error *error, const char *why)
{
    return error_set(error, ERROR_STREAM, "record", "%s", why);
}

bool record_open(struct record_reader *reader, const void *data, size_t bytes,
                 struct record_header *header, struct error *error)
{
    *reader = (struct record_reader){.data = data, .bytes = bytes};
    const uint8_t *at = take(reader, RECORD_HEADER_BYTES);
    if (!at)
        return broken(error, "shorter than its header");
    if (at[0] != RECORD_VERSION)
        return error_set(error, ERROR_STREAM, "record", "is of version %d, this build reads %d",
                         at[0], RECORD_VERSION);
    *header = (struct record_header){
        .kind = at[1],
        .device = (int16_t)load(at + 2, 2),
        .session = (uint32_t)load(at + 4, 4),
        .segment = (uint32_t)load(at + 8, 4),
        .lost = (uint32_t)load(at + 12, 4),
        .time_ns = (int64_t)load(at + 16, 8),
    };
    if (header->device < RECORD_CPU)
        return broken(error, "names no device");
    return true;
}

bool record_get_window(struct record_reader *reader, struct record_window *window,
                       const uint8_t **wall_ms, struct error *error)
{
    const size_t fixed = 8 + 4 + 4 * 3 + 8 * 2 + 8 * LEDGER_CLASS_COUNT +
                         8 * LEDGER_INTERVAL_CLASSES + 8 * 2 + 8 * 3;
    const uint8_t *at = take(reader, fixed);
    if (!at)
        return broken(error, "a window is cut short");
    *window = (struct record_window){
        .begin_ns = (int64_t)load(at, 8),
        .timing = at[8],
        .known = at[9],
        .wall_count = (uint32_t)load(at + 12, 4),
        .layer_count = (uint32_t)load(at + 16, 4),
        .ledger_steps = (uint32_t)load(at + 20, 4),
        .samples = load(at + 24, 8),
        .rate_ns = (int64_t)load(at + 32, 8),
    };
    at += 40;
    bool sane = duration_sane(window->rate_ns) && window->rate_ns >= 0;
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++, at += 8) {
        window->class_ns[c] = (int64_t)load(at, 8);
        sane = sane && duration_sane(window->class_ns[c]) && window->class_ns[c] >= 0;
    }
    for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++, at += 8) {
        window->hidden_ns[c] = (int64_t)load(at, 8);
        sane = sane && duration_sane(window->hidden_ns[c]) && window->hidden_ns[c] >= 0;
    }
    window->unexplained_ns = (int64_t)load(at, 8);
    window->wall_ns = (int64_t)load(at + 8, 8);
    window->dropped = load(at + 16, 8);
    window->unmatched = load(at + 24, 8);
    window->untimed = load(at + 32, 8);
    sane = sane && duration_sane(window->unexplained_ns) && duration_sane(window->wall_ns) &&
           window->wall_ns >= 0 && window->samples < UINT64_C(1) << 53;
    if (!sane)
        return broken(error, "a window holds durations that cannot be");
    if (window->timing >= TIMING_COUNT)
        return broken(error, "a window has an unknown source of timing");
    *wall_ms = take(reader, (size_t)window->wall_count * 4);
    if (!*wall_ms)
        return broken(error, "a window is cut short");
    for (uint32_t i = 0; i < window->wall_count; i++) {
        double wall = record_wall_ms(*wall_ms, i);
        if (!(wall >= 0 && wall < 1e12))
            return broken(error, "a window holds durations that cannot be");
    }
    return true;
}

double record_wall_ms(const uint8_t *wall_ms, size_t index)
{
    return (double)load_float(wall_ms + 4 * index);
}

bool record_get_layer(struct record_reader *reader, struct record_layer *layer,
                      const uint8_t **buckets, struct error *error)
{
    const uint8_t *at = take(reader, 44);
    if (!at)
        return broken(error, "a layer is cut short");
    *layer = (struct record_layer){
        .layer = (uint32_t)load(at, 4),
        .steps = (uint32_t)load(at + 4, 4),
        .kernels = load(at + 8, 8),
        .sum_ns = (int64_t)load(at + 16, 8),
        .min_ns = (int64_t)load(at + 24, 8),
        .max_ns = (int64_t)load(at + 32, 8),
        .bucket_count = (uint32_t)load(at + 40, 4),
    };
    if (layer->bucket_count > HISTOGRAM_BUCKETS)
        return broken(error, "a layer has too many buckets");
    if (!duration_sane(layer->sum_ns) || !duration_sane(layer->min_ns) ||
        !duration_sane(layer->max_ns) || layer->sum_ns < 0 ||
        (layer->steps && (layer->min_ns < 0 || layer->min_ns > layer->max_ns)) ||
        (layer->kernels != RECORD_UNKNOWN && layer->kernels >= UINT64_C(1) << 53))
        return broken(error, "a layer holds durations that cannot be");
    *buckets = take(reader, (size_t)layer->bucket_count * BUCKET_BYTES);
    if (!*buckets)
        return broken(error, "a layer is cut short");
    int last = -1;
    for (uint32_t i = 0; i < layer->bucket_count; i++) {
        int bucket = record_bucket(*buckets, i).bucket;
        if (bucket <= last || bucket >= HISTOGRAM_BUCKETS)
            return broken(error, "a histogram is out of order");
        last = bucket;
    }
    return true;
}

struct histogram_cell record_bucket(const uint8_t *buckets, size_t index)
{
    const uint8_t *at = buckets + index * BUCKET_BYTES;
    return (struct histogram_cell){.bucket = (uint16_t)load(at, 2),
                                   .count = (uint32_t)load(at + 2, 4)};
}

bool record_get_memory(struct record_reader *reader, struct record_memory *memory,
                       struct error *error)
{
    const uint8_t *at = take(reader, 8 * (RECORD_MEMORY_CATEGORIES + 3));
    if (!at)
        return broken(error, "a memory sample is cut short");
    for (int c = 0; c < RECORD_MEMORY_CATEGORIES; c++, at += 8)
        memory->category[c] = load(at, 8);
    memory->used = load(at, 8);
    memory->total = load(at + 8, 8);
    memory->library = load(at + 16, 8);
    memory->cupti = RECORD_UNKNOWN;
    if (reader->bytes - reader->at >= 8 && (at = take(reader, 8)) != NULL)
        memory->cupti = load(at, 8);
    return true;
}

bool record_get_device(struct record_reader *reader, struct record_device *device,
                       struct error *error)
{
    const uint8_t *at = take(reader, 4 * 4 + 8 * 4);
    if (!at)
        return broken(error, "a device sample is cut short");
    *device = (struct record_device){
        .clock_mhz = load_float(at),
        .temperature_c = load_float(at + 4),
        .power_w = load_float(at + 8),
        .util = load_float(at + 12),
        .used = load(at + 16, 8),
        .total = load(at + 24, 8),
        .ours = load(at + 32, 8),
        .throttle = load(at + 40, 8),
        .others = RECORD_UNKNOWN,
        .tenants = RECORD_UNKNOWN,
    };
    if (reader->bytes - reader->at >= 16 && (at = take(reader, 16)) != NULL) {
        device->others = load(at, 8);
        device->tenants = load(at + 8, 8);
    }
    return true;
}

bool record_get_cost(struct record_reader *reader, struct store_cost *cost, struct error *error)
{
    const uint8_t *at = take(reader, 4 * 4);
    if (!at)
        return broken(error, "a cost is cut short");
    *cost = (struct store_cost){
        .pairs = load(at, 4),
        .share = (double)load_float(at + 4),
        .low = (double)load_float(at + 8),
        .high = (double)load_float(at + 12),
    };
    /* all three are known or none is; an infinite one is no share of anything */
    bool none = isnan(cost->share) && isnan(cost->low) && isnan(cost->high);
    if (!none && !(cost->low <= cost->share && cost->share <= cost->high && isfinite(cost->low) &&
                   isfinite(cost->high)))
        return broken(error, "a cost holds shares that cannot be");
    return true;
}

bool record_get_note(struct record_reader *reader, char *out, size_t size, struct error *error)
{
    const uint8_t *at = take(reader, 2);
    size_t bytes = at ? (size_t)load(at, 2) : 0;
    const uint8_t *text = at ? take(reader, bytes) : NULL;
    if (!text)
        return broken(error, "a note is cut short");
    char copy[1025];
    if (bytes > sizeof copy - 1)
        bytes = sizeof copy - 1;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    text_clean(out, size, copy);
    return true;
}
