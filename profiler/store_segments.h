/* Aggregates of segments (one `run` each), exact: sums over every record that names the segment.
 * Private to profiler/store.c. The last STORE_SEGMENTS are kept. */
#ifndef LAYERTOP_PROFILER_STORE_SEGMENTS_H
#define LAYERTOP_PROFILER_STORE_SEGMENTS_H

#include "profiler/records.h"

#define STORE_SEGMENTS 16

struct segment;
struct segment_table {
    struct segment *segments[STORE_SEGMENTS]; /* oldest first */
    size_t count;
};

void segment_table_free(struct segment_table *table);
/* The aggregate of (segment, device); makes it, with layer_count rows, dropping the oldest if all
 * places are taken. */
struct segment *segment_table_open(struct segment_table *table, uint32_t segment, int device,
                                   size_t layer_count);
void segment_add_window(struct segment *segment, const struct record_window *window);
/* Layers beyond the count the segment was opened with are ignored. */
void segment_add_layer(struct segment *segment, const struct record_layer *layer,
                       const uint8_t *buckets);
/* What observing costs as known by now. */
void segment_set_cost(struct segment *segment, const struct store_cost *cost);
/* A sample of the device that came while the segment ran. */
void segment_add_sample(struct segment *segment, const struct record_device *sample);
void segment_add_lost(struct segment *segment, uint64_t records);
/* The first device seen in `segment`, or that of `device` if it is not NULL; NULL if there is
 * none. */
const struct store_segment *segment_table_get(const struct segment_table *table, uint32_t segment,
                                              const int *device);

/* The number of the newest, 0 if there is none. */
uint32_t segment_table_last(const struct segment_table *table);

/* Mean per step of summed ledger fields. */
void ledger_from_sums(struct ledger *out, uint64_t steps, const double *class_ns,
                      const double *hidden_ns, unsigned known, double unexplained_ns,
                      double wall_ns);

#endif
