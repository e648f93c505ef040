/* The framed stream between the front and a worker, and what a recording's journal holds.
 *
 *   stream := preamble frame*
 *   preamble (16 bytes): 12 magic bytes, u32 version
 *   frame:  u32 bytes of the payload
 *           u16 type (enum stream_type)
 *           u16 check: the low half of crc32 over the other 14 bytes before the crc
 *           u64 id: the request it belongs to, 0 if none
 *           u32 crc32 (zlib) of the payload
 *           payload
 * All numbers are little endian. `check` catches a damaged length at once, where waiting for bytes
 * that never come would look like a slow peer.
 *
 * Everything here is pure: bytes in, frames out, no descriptors, so a stream may arrive cut
 * anywhere. Up to STREAM_NOISE_MAX bytes before the preamble are skipped (a login shell's greeting
 * before a remote worker starts). Threads: a buffer and a decoder belong to one thread at a time.
 */
#ifndef LAYERTOP_ENGINE_STREAM_H
#define LAYERTOP_ENGINE_STREAM_H

#include "engine/error.h"
#include <jansson.h>
#include <stdint.h>

#define STREAM_VERSION        1
#define STREAM_MAGIC_BYTES    12
#define STREAM_PREAMBLE_BYTES 16
#define STREAM_HEADER_BYTES   20
#define STREAM_FRAME_MAX      (16u << 20)
#define STREAM_NOISE_MAX      (64u << 10)

enum stream_type {
    STREAM_HELLO = 1, /* JSON {version, stream, pid, host}: the worker's first frame */
    STREAM_REQUEST,   /* JSON {verb, arguments} */
    STREAM_CANCEL,    /* empty; id is the request to end */
    STREAM_REPLY,     /* JSON: the data of a reply */
    STREAM_FAILURE,   /* JSON {code, what, why, hint}: the error of a reply */
    STREAM_PROGRESS,  /* JSON {fraction, text} */
    STREAM_PLAN,      /* JSON: the plan object or null */
    STREAM_RECORD,    /* opaque: profiler/records.h */
    STREAM_LOG,       /* JSON {text} */
    STREAM_JOURNAL    /* only in a journal: JSON {time_ns, unix_ns, settings, model, plan} */
};

/* Bytes in a row: data[start, end). Append at the end, take from the start. */
struct stream_buffer {
    uint8_t *data;
    size_t start, end, capacity;
};

size_t stream_buffer_bytes(const struct stream_buffer *buffer);
void stream_buffer_append(struct stream_buffer *buffer, const void *data, size_t bytes);
void stream_buffer_consume(struct stream_buffer *buffer, size_t bytes);
void stream_buffer_free(struct stream_buffer *buffer);

/* Append the preamble / one frame / one frame with a JSON payload. A payload above
 * STREAM_FRAME_MAX, or JSON that cannot be written, is refused: false, nothing is appended. */
void stream_put_preamble(struct stream_buffer *buffer);
bool stream_put(struct stream_buffer *buffer, enum stream_type type, uint64_t id, const void *data,
                size_t bytes);
bool stream_put_json(struct stream_buffer *buffer, enum stream_type type, uint64_t id,
                     const json_t *json);

struct stream_frame {
    unsigned type; /* a type this version does not know is the caller's to skip */
    uint64_t id;
    const uint8_t *data; /* valid until the next call on the decoder */
    size_t bytes;
};

enum stream_result { STREAM_FRAME, STREAM_MORE, STREAM_BROKEN };

struct stream_decoder {
    struct stream_buffer in;
    size_t skipped; /* bytes of noise that were taken off before the preamble */
    size_t taken;   /* bytes of the frame handed out last */
    bool greeted;   /* the preamble was seen */
    struct error broken;
    char noise[256]; /* the end of the noise, for an error message */
};

void stream_decoder_init(struct stream_decoder *decoder);
void stream_decoder_free(struct stream_decoder *decoder);
void stream_decoder_feed(struct stream_decoder *decoder, const void *data, size_t bytes);
/* The next whole frame. STREAM_BROKEN with ERROR_STREAM for noise without end, another version, a
 * frame too large or a wrong checksum; it stays broken. */
enum stream_result stream_decoder_next(struct stream_decoder *decoder, struct stream_frame *frame,
                                       struct error *error);

/* Errors as JSON: {code, what, why, hint}. New reference. stream_error_parse() never leaves
 * ERROR_NONE behind: what it cannot read becomes ERROR_STREAM. */
json_t *stream_error_json(const struct error *error);
void stream_error_parse(const json_t *json, struct error *error);

/* The payload of a frame as JSON, NULL if it is none. New reference. */
json_t *stream_frame_json(const struct stream_frame *frame);

#endif
