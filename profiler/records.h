/* Record frames: what the collector in the worker says and the store in the front reads.
 *
 * A frame is opaque to the stream that carries it. Everything is little endian and unaligned; a
 * frame may grow at its end (readers ignore what follows what they know) and unknown kinds are
 * skipped; a change of meaning is a new RECORD_VERSION, which old readers refuse.
 *
 *   header, 24 bytes, starts every frame
 *     u8  version   RECORD_VERSION
 *     u8  kind      enum record_kind
 *     i16 device    -1 the CPU, N = gpu:N
 *     u32 session   random per worker and never 0, so that a reader notices another clock
 *     u32 segment   0 live, else the id of the request that runs the steps
 *     u32 lost      frames the worker could not queue, since its start (mod 2^32)
 *     i64 time_ns   the worker's clock_now_ns() when the record was closed
 *
 *   RECORD_WINDOW: what happened since the window before it
 *     i64 begin_ns · u8 timing · u8 known (bit per ledger class whose time was measured) · u16 0
 *     u32 wall_count · u32 layer_count · u32 ledger_steps · u64 samples · i64 rate_ns
 *     i64 class_ns[6] · i64 hidden_ns[5] · i64 unexplained_ns · i64 wall_ns
 *     u64 dropped · u64 unmatched · u64 untimed            (of this window)
 *     f32 wall_ms[wall_count]      every finished step, in order
 *     layer_count times: u32 layer · u32 steps · u64 kernels (UINT64_MAX: not known)
 *       i64 sum_ns · i64 min_ns · i64 max_ns · u32 bucket_count
 *       bucket_count times: u16 bucket (ascending) · u32 count
 *   RECORD_MEMORY
 *     u64 category[5] (enum memory_category) · u64 used · u64 total · u64 library
 *     u64 cupti (what CUPTI holds itself, in none of the others): frames of an older writer end
 *     before it, and there the context holds a part of it
 *   RECORD_DEVICE: one NVML sample
 *     f32 clock_mhz · f32 temperature_c · f32 power_w · f32 util (0..1) · u64 used · u64 total
 *     u64 ours · u64 throttle (nvmlClocksEventReasons bits)
 *     u64 others (bytes of other processes) · u64 tenants (how many they are): frames of an older
 *     writer end before these
 *   RECORD_TRACE: kernels, copies and losses since the plan or segment began (record_trace.h)
 *   RECORD_NOTE: u16 bytes · text, UTF-8: why a source of timing is not the one that was asked for
 *   RECORD_COST: what observing costs, as known by now in this segment
 *     u32 pairs · f32 share · f32 low · f32 high           (store.h, struct store_cost)
 *
 * Unknown values are NaN and UINT64_MAX. Times are nanoseconds, memory is bytes.
 * Encoding and decoding are pure; a writer or reader belongs to one thread.
 */
#ifndef LAYERTOP_PROFILER_RECORDS_H
#define LAYERTOP_PROFILER_RECORDS_H

#include "profiler/histogram.h"
#include "profiler/ledger.h"

#define RECORD_VERSION           1
#define RECORD_HEADER_BYTES      24
#define RECORD_CPU               (-1)
#define RECORD_UNKNOWN           UINT64_MAX
#define RECORD_MEMORY_CATEGORIES 5 /* MEMORY_CATEGORY_COUNT, fixed by the format */

enum record_kind {
    RECORD_WINDOW = 1,
    RECORD_MEMORY,
    RECORD_DEVICE,
    RECORD_NOTE,
    RECORD_TRACE,
    RECORD_COST
};

enum timing_source { TIMING_OFF, TIMING_CLOCK, TIMING_EVENTS, TIMING_CUPTI, TIMING_COUNT };
/* "off", "clock", "events", "cupti". */
const char *timing_source_name(enum timing_source source);

struct record_header {
    enum record_kind kind;
    int device;
    uint32_t session, segment, lost;
    int64_t time_ns;
};

struct record_window {
    int64_t begin_ns;
    enum timing_source timing;
    unsigned known; /* 1 << class: its time in class_ns was measured */
    uint32_t wall_count, layer_count;
    uint32_t ledger_steps; /* steps summed in the ledger fields below */
    uint64_t samples;      /* of the finished steps */
    int64_t rate_ns;       /* time those samples took, back to back */
    int64_t class_ns[LEDGER_CLASS_COUNT];
    int64_t hidden_ns[LEDGER_INTERVAL_CLASSES]; /* covered by a class of higher priority */
    int64_t unexplained_ns, wall_ns;
    uint64_t dropped, unmatched,
        untimed; /* records CUPTI or we lost, could not join, had no time */
};

struct record_layer {
    uint32_t layer; /* model layer */
    uint32_t steps;
    uint64_t kernels;
    int64_t sum_ns, min_ns, max_ns;
    uint32_t bucket_count;
};

struct record_memory {
    uint64_t category[RECORD_MEMORY_CATEGORIES];
    uint64_t used, total, library;
    uint64_t cupti; /* device memory that CUPTI takes itself */
};

struct record_device {
    float clock_mhz, temperature_c, power_w, util;
    uint64_t used, total, ours, throttle;
    uint64_t others, tenants; /* bytes of other processes, and how many they are */
};

/* A growing buffer. All zero is a valid empty one; free `data` at the end. */
struct record_writer {
    uint8_t *data;
    size_t bytes, capacity;
};

/* Start a frame (forgets the one before). */
void record_begin(struct record_writer *writer, const struct record_header *header);
/* The fixed part and the walls; exactly window->layer_count record_put_layer() must follow. */
void record_put_window(struct record_writer *writer, const struct record_window *window,
                       const float *wall_ms);
/* bucket_count is taken from the histogram's non-empty buckets, not from layer. */
void record_put_layer(struct record_writer *writer, const struct record_layer *layer,
                      const struct histogram *histogram);
void record_put_memory(struct record_writer *writer, const struct record_memory *memory);
void record_put_device(struct record_writer *writer, const struct record_device *device);
void record_put_note(struct record_writer *writer, const char *text);
void record_put_cost(struct record_writer *writer, const struct store_cost *cost);

struct record_reader {
    const uint8_t *data;
    size_t bytes, at;
};

/* Every reader function returns false with ERROR_STREAM when the frame is cut, contradicts itself
 * or is of another version. */
bool record_open(struct record_reader *reader, const void *data, size_t bytes,
                 struct record_header *header, struct error *error);
/* *wall_ms points to wall_count unaligned floats inside the frame: use record_wall_ms(). */
bool record_get_window(struct record_reader *reader, struct record_window *window,
                       const uint8_t **wall_ms, struct error *error);
double record_wall_ms(const uint8_t *wall_ms, size_t index);
/* *buckets points to bucket_count packed cells: use record_bucket(). */
bool record_get_layer(struct record_reader *reader, struct record_layer *layer,
                      const uint8_t **buckets, struct error *error);
struct histogram_cell record_bucket(const uint8_t *buckets, size_t index);
bool record_get_memory(struct record_reader *reader, struct record_memory *memory,
                       struct error *error);
bool record_get_device(struct record_reader *reader, struct record_device *device,
                       struct error *error);
bool record_get_cost(struct record_reader *reader, struct store_cost *cost, struct error *error);
/* A copy of the text, cleaned for a terminal, into out[size]. */
bool record_get_note(struct record_reader *reader, char *out, size_t size, struct error *error);

#endif
