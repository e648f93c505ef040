/* The input pipeline: encoded pictures become the batches of the steps, as a program that predicts
 * from files makes them. Three stages: decode (PNG or JPEG to 8-bit), resize, and scale (the
 * preprocessing of the model's family, and the cast to the input's type).
 *
 * The pictures lie in memory, encoded: reading files is not part of it. They come from `input`, or
 * are made up: JPEGs (quality 90) with smooth waves and some noise. A batch begins where the last
 * one ended, and after the last picture comes the first.
 *
 * A raw batch is for a device that resizes and scales by itself: a table of struct image_size, one a
 * picture, filled up to PIPELINE_ALIGNMENT bytes, then a slot of equal size for each picture's 8-bit
 * pixels.
 *
 * Threads: those that it is told to use, its own; it is asked by one thread.
 */
#ifndef LAYERTOP_ENGINE_PIPELINE_H
#define LAYERTOP_ENGINE_PIPELINE_H

#include "engine/image.h"
#include "engine/input.h"

#define PIPELINE_STAGES    3
#define PIPELINE_THREADS   64
#define PIPELINE_ALIGNMENT 256 /* of a raw batch's table and slots */
/* What is kept of a folder: the first pictures of it. */
#define PIPELINE_PICTURES  1024
#define PIPELINE_BYTES     ((size_t)512 << 20)

struct pipeline_options {
    struct input *input; /* of pictures; NULL: made-up ones. Needed by pipeline_new() only */
    const char *source;  /* names that input; "": made-up ones */
    int made_width, made_height; /* of made-up pictures */
    uint64_t seed;
    struct input_port port; /* the model's input: height, width and 1 or 3 channels */
    size_t batch;
    const char *preprocess; /* of image_preprocess() */
    enum image_filter filter;
    bool overlap; /* prepare the next batch while the caller does something else */
    bool batched; /* each stage over the whole batch; else each picture through all stages */
    int threads;  /* that prepare a batch: 1..PIPELINE_THREADS */
    bool raw;     /* decode only: batches as said above */
};

struct pipeline;

/* Every picture is decoded once, so that a broken one is told now. ERROR_FILE, ERROR_INPUT (the model
 * takes no pictures, or the file holds none), ERROR_MEMORY. */
struct pipeline *pipeline_new(const struct pipeline_options *options, struct error *error);
void pipeline_free(struct pipeline *pipeline);

/* Would pipeline_new() make the same again, as long as the source holds the same pictures? */
bool pipeline_serves(const struct pipeline *pipeline, const struct pipeline_options *options);

/* The next batch, dense, into `out` of batch rows: prepared now, or (overlap) waited for and copied;
 * then the one after it is begun. */
bool pipeline_next(struct pipeline *pipeline, void *out, struct error *error);

/* Overlap: would pipeline_next() return without waiting? */
bool pipeline_ready(struct pipeline *pipeline);

/* What the threads behind `overlap` have been doing since start_ns (clock_now_ns()): the interval is
 * cut off at start_ns and at now. false: nothing. */
bool pipeline_behind(struct pipeline *pipeline, int64_t start_ns, int64_t *begin_ns,
                     int64_t *end_ns);

/* Sums over the batches since the last reset. */
struct pipeline_times {
    uint64_t batches;
    int64_t stage_ns[PIPELINE_STAGES]; /* decode, resize, scale: of all threads together; raw:
                                          decode, copying into the slots, none */
    int64_t prepare_ns;                /* from a batch's begin to its end */
    int64_t wait_ns;                   /* that pipeline_next() took */
};
struct pipeline_times pipeline_times(struct pipeline *pipeline, bool reset);

size_t pipeline_pictures(const struct pipeline *pipeline);
/* Bytes of a batch, and of a raw one's slot (0: it is not raw). */
size_t pipeline_batch_bytes(const struct pipeline *pipeline);
size_t pipeline_slot_bytes(const struct pipeline *pipeline);
/* Bytes of its pictures and buffers. */
size_t pipeline_bytes(const struct pipeline *pipeline);
/* A batch of rows that the caller may use as it likes. */
void *pipeline_room(struct pipeline *pipeline);

#endif
