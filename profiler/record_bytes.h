/* Little-endian bytes of record frames: what encoders and decoders of records share. */
#ifndef LAYERTOP_PROFILER_RECORD_BYTES_H
#define LAYERTOP_PROFILER_RECORD_BYTES_H

#include "profiler/records.h"

#include <string.h>

static inline uint8_t *reserve(struct record_writer *writer, size_t bytes)
{
    if (writer->bytes + bytes > writer->capacity) {
        writer->capacity = (writer->bytes + bytes) * 2;
        writer->data = xrealloc(writer->data, writer->capacity);
    }
    uint8_t *at = writer->data + writer->bytes;
    writer->bytes += bytes;
    return at;
}

static inline void put(struct record_writer *writer, uint64_t value, size_t bytes)
{
    uint8_t *at = reserve(writer, bytes);
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline void put_float(struct record_writer *writer, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(writer, bits, 4);
}

static inline uint64_t load(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static inline float load_float(const uint8_t *at)
{
    uint32_t bits = (uint32_t)load(at, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The next `bytes` bytes, or NULL if the frame ends before */
static inline const uint8_t *take(struct record_reader *reader, size_t bytes)
{
    if (bytes > reader->bytes - reader->at)
        return NULL;
    const uint8_t *at = reader->data + reader->at;
    reader->at += bytes;
    return at;
}

/* Values that no honest worker sends, kept small enough that sums of them cannot overflow */
static inline bool duration_sane(int64_t ns)
{
    return ns > -(INT64_C(1) << 53) && ns < INT64_C(1) << 53;
}

#endif
