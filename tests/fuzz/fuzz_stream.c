/* The stream between front and worker: frames cut anywhere, their JSON, and the records in them as
 * the store takes them. The first byte says how the rest is cut. */
#include "tests/fuzz/fuzz.h"

#include "engine/stream.h"
#include "profiler/store.h"

#include <string.h>

static void take(struct store *store, const struct stream_frame *frame)
{
    struct error error = {0};
    if (frame->type == STREAM_RECORD) {
        if (!store_feed(store, frame->data, frame->bytes, &error))
            fuzz_must(error.code == ERROR_STREAM);
        return;
    }
    json_t *json = stream_frame_json(frame);
    if (frame->type == STREAM_FAILURE) {
        stream_error_parse(json, &error);
        fuzz_must(error.code != ERROR_NONE);
    } else if (frame->type == STREAM_REPLY) {
        store_model(store, json);
    } else if (frame->type == STREAM_PLAN) {
        store_plan(store, json);
    }
    json_decref(json);
}

/* What the screen asks of a store. */
static void look_at(const struct store *store)
{
    struct store_layer layer;
    struct ledger ledger;
    struct summary wall;
    struct marks marks;
    struct series_cell cells[64];
    for (size_t i = 0; i < store_layer_count(store); i++)
        store_layer(store, i, &layer);
    store_ledger(store, &ledger);
    store_wall(store, &wall);
    store_marks(store, &marks);
    int64_t now_ns = store_time_ns(store);
    for (int i = 0; i < SERIES_COUNT; i++) {
        const struct series *series = store_series_get(store, (enum store_series)i);
        if (series != NULL)
            series_read(series, 0, now_ns, 64, cells);
    }
}

/* Frames carry checksums, which no mutation survives: read a second time, the bytes are payloads. */
static void feed_plain(struct store *store, const uint8_t *data, size_t size)
{
    while (size > 3) {
        size_t bytes = (size_t)data[1] | (size_t)data[2] << 8;
        const struct stream_frame frame = {data[0], 0, data + 3,
                                           bytes < size - 3 ? bytes : size - 3};
        take(store, &frame);
        data += 3 + frame.bytes;
        size -= 3 + frame.bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t step = data[0] ? data[0] : size;
    struct store *store = store_new();
    struct stream_decoder decoder;
    stream_decoder_init(&decoder);
    enum stream_result result = STREAM_MORE;
    for (size_t at = 1; at < size && result != STREAM_BROKEN; at += step) {
        struct stream_frame frame;
        struct error error = {0};
        stream_decoder_feed(&decoder, data + at, step < size - at ? step : size - at);
        while ((result = stream_decoder_next(&decoder, &frame, &error)) == STREAM_FRAME)
            take(store, &frame);
        fuzz_must(result != STREAM_BROKEN || error.code == ERROR_STREAM);
    }
    stream_decoder_free(&decoder);
    feed_plain(store, data + 1, size - 1);
    look_at(store);
    store_free(store);
    return 0;
}
