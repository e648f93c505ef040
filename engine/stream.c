#define _GNU_SOURCE /* memmem */
#include "engine/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* A byte that is no ASCII, a name, and line ends that a terminal in between would mangle. */
static const uint8_t magic[STREAM_MAGIC_BYTES] = "\x8fLAYERTOP\r\n\x1a";

/* ---- bytes ---- */

size_t stream_buffer_bytes(const struct stream_buffer *buffer)
{
    return buffer->end - buffer->start;
}

void stream_buffer_append(struct stream_buffer *buffer, const void *data, size_t bytes)
{
    if (bytes == 0)
        return;
    if (buffer->capacity - buffer->end < bytes && buffer->start > 0) {
        memmove(buffer->data, buffer->data + buffer->start, stream_buffer_bytes(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (buffer->capacity - buffer->end < bytes) {
        size_t capacity = buffer->capacity > 0 ? buffer->capacity : 4096;
        while (capacity - buffer->end < bytes)
            capacity *= 2;
        buffer->data = xrealloc(buffer->data, capacity);
        buffer->capacity = capacity;
    }
    memcpy(buffer->data + buffer->end, data, bytes);
    buffer->end += bytes;
}

void stream_buffer_consume(struct stream_buffer *buffer, size_t bytes)
{
    buffer->start += bytes;
    if (buffer->start < buffer->end)
        return;
    buffer->start = buffer->end = 0;
    /* one large plan must not keep its megabytes for ever */
    if (buffer->capacity > (1u << 20)) {
        free(buffer->data);
        buffer->data = NULL;
        buffer->capacity = 0;
    }
}

void stream_buffer_free(struct stream_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct stream_buffer){0};
}

static void store_le(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load_le(const uint8_t *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

/* ---- writing ---- */

/* The check over a header with its check field taken as zero. */
static uint16_t header_check(const uint8_t header[STREAM_HEADER_BYTES])
{
    uint8_t copy[16];
    memcpy(copy, header, sizeof copy);
    copy[6] = copy[7] = 0;
    return (uint16_t)crc32(0, copy, sizeof copy);
}

void stream_put_preamble(struct stream_buffer *buffer)
{
    uint8_t bytes[STREAM_PREAMBLE_BYTES];
    memcpy(bytes, magic, sizeof magic);
    store_le(bytes + sizeof magic, STREAM_VERSION, 4);
    stream_buffer_append(buffer, bytes, sizeof bytes);
}

bool stream_put(struct stream_buffer *buffer, enum stream_type type, uint64_t id, const void *data,
                size_t bytes)
{
    if (bytes > STREAM_FRAME_MAX)
        return false;
    uint8_t header[STREAM_HEADER_BYTES];
    store_le(header, bytes, 4);
    store_le(header + 4, type, 2);
    store_le(header + 8, id, 8);
    store_le(header + 6, header_check(header), 2);
    store_le(header + 16, bytes > 0 ? crc32(0, data, (uInt)bytes) : 0, 4);
    stream_buffer_append(buffer, header, sizeof header);
    stream_buffer_append(buffer, data, bytes);
    return true;
}

bool stream_put_json(struct stream_buffer *buffer, enum stream_type type, uint64_t id,
                     const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL)
        return false;
    bool fits = stream_put(buffer, type, id, text, strlen(text));
    free(text);
    return fits;
}

/* ---- reading ---- */

void stream_decoder_init(struct stream_decoder *decoder)
{
    *decoder = (struct stream_decoder){0};
}

void stream_decoder_free(struct stream_decoder *decoder)
{
    stream_buffer_free(&decoder->in);
}

void stream_decoder_feed(struct stream_decoder *decoder, const void *data, size_t bytes)
{
    if (decoder->broken.code == ERROR_NONE)
        stream_buffer_append(&decoder->in, data, bytes);
}

/* Take `bytes` of noise off, keeping its end for a message. */
static void skip_noise(struct stream_decoder *decoder, size_t bytes)
{
    const uint8_t *data = decoder->in.data + decoder->in.start;
    const size_t room = sizeof decoder->noise - 1;
    size_t old = strlen(decoder->noise);
    for (size_t i = bytes > room ? bytes - room : 0; i < bytes; i++) {
        if (old == room) {
            memmove(decoder->noise, decoder->noise + 1, room - 1);
            old--;
        }
        decoder->noise[old++] = data[i] == '\0' ? ' ' : (char)data[i];
    }
    decoder->noise[old] = '\0';
    decoder->skipped += bytes;
    stream_buffer_consume(&decoder->in, bytes);
}

static enum stream_result find_preamble(struct stream_decoder *decoder)
{
    size_t bytes = stream_buffer_bytes(&decoder->in);
    const uint8_t *data = decoder->in.data + decoder->in.start;
    const uint8_t *found = bytes > 0 ? memmem(data, bytes, magic, sizeof magic) : NULL;
    /* without the whole magic, its first bytes may stand at the end */
    size_t keep = bytes < sizeof magic - 1 ? bytes : sizeof magic - 1;
    while (found == NULL && keep > 0 && memcmp(data + bytes - keep, magic, keep) != 0)
        keep--;
    size_t noise = found != NULL ? (size_t)(found - data) : bytes - keep;
    if (decoder->skipped + noise > STREAM_NOISE_MAX) {
        skip_noise(decoder, noise);
        error_set(&decoder->broken, ERROR_STREAM, "stream",
                  "no layertop worker answered within %u KiB of other output, which ends: %.200s",
                  STREAM_NOISE_MAX >> 10, decoder->noise);
        return STREAM_BROKEN;
    }
    if (noise > 0)
        skip_noise(decoder, noise);
    if (stream_buffer_bytes(&decoder->in) < STREAM_PREAMBLE_BYTES)
        return STREAM_MORE;
    uint64_t version = load_le(decoder->in.data + decoder->in.start + sizeof magic, 4);
    if (version != STREAM_VERSION) {
        error_set(
            &decoder->broken, ERROR_STREAM, "stream",
            "the other side speaks stream version %u, this layertop speaks %u; both ends must "
            "be the same layertop",
            (unsigned)version, STREAM_VERSION);
        return STREAM_BROKEN;
    }
    stream_buffer_consume(&decoder->in, STREAM_PREAMBLE_BYTES);
    decoder->greeted = true;
    return STREAM_FRAME;
}

static enum stream_result next_frame(struct stream_decoder *decoder, struct stream_frame *frame)
{
    if (!decoder->greeted) {
        enum stream_result result = find_preamble(decoder);
        if (result != STREAM_FRAME)
            return result;
    }
    size_t bytes = stream_buffer_bytes(&decoder->in);
    if (bytes < STREAM_HEADER_BYTES)
        return STREAM_MORE;
    const uint8_t *header = decoder->in.data + decoder->in.start;
    uint64_t payload = load_le(header, 4);
    if (load_le(header + 6, 2) != header_check(header)) {
        error_set(&decoder->broken, ERROR_STREAM, "stream", "a frame's header is damaged");
        return STREAM_BROKEN;
    }
    if (payload > STREAM_FRAME_MAX) {
        error_set(&decoder->broken, ERROR_STREAM, "stream",
                  "a frame of %llu bytes is larger than the %u MiB that a frame may have",
                  (unsigned long long)payload, STREAM_FRAME_MAX >> 20);
        return STREAM_BROKEN;
    }
    if (bytes - STREAM_HEADER_BYTES < payload)
        return STREAM_MORE;
    const uint8_t *data = header + STREAM_HEADER_BYTES;
    if (load_le(header + 16, 4) != (payload > 0 ? crc32(0, data, (uInt)payload) : 0)) {
        error_set(&decoder->broken, ERROR_STREAM, "stream", "a frame's checksum is wrong");
        return STREAM_BROKEN;
    }
    *frame = (struct stream_frame){.type = (unsigned)load_le(header + 4, 2),
                                   .id = load_le(header + 8, 8),
                                   .data = data,
                                   .bytes = (size_t)payload};
    decoder->taken = STREAM_HEADER_BYTES + (size_t)payload;
    return STREAM_FRAME;
}

enum stream_result stream_decoder_next(struct stream_decoder *decoder, struct stream_frame *frame,
                                       struct error *error)
{
    if (decoder->taken > 0) {
        stream_buffer_consume(&decoder->in, decoder->taken);
        decoder->taken = 0;
    }
    enum stream_result result =
        decoder->broken.code == ERROR_NONE ? next_frame(decoder, frame) : STREAM_BROKEN;
    if (result == STREAM_BROKEN && error != NULL)
        *error = decoder->broken;
    return result;
}

/* ---- JSON payloads ---- */

json_t *stream_frame_json(const struct stream_frame *frame)
{
    return json_loadb((const char *)frame->data, frame->bytes, JSON_DECODE_ANY, NULL);
}

json_t *stream_error_json(const struct error *error)
{
    return json_pack("{s:i, s:s, s:s, s:s}", "code", (int)error->code, "what", error->what, "why",
                     error->why, "hint", error->hint);
}

/* The text of a key, "" if there is none. */
static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text != NULL ? text : "";
}

void stream_error_parse(const json_t *json, struct error *error)
{
    json_int_t code = json_integer_value(json_object_get(json, "code"));
    const char *why = text_of(json, "why");
    if (code <= 0 || code > INT32_MAX || !error_code_known((int)code)) {
        error_set(error, ERROR_STREAM, "reply", "an error of unknown kind: %s", why);
        return;
    }
    error_set(error, (enum error_code)code, text_of(json, "what"), "%s", why);
    if (text_of(json, "hint")[0] != '\0')
        error_hint(error, "%s", text_of(json, "hint"));
}
