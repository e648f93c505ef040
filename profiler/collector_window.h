/* A window: what the collector sums up between two records (100 ms). Private to the collector;
 * engine thread. Adding costs no allocation; only window_resize() allocates. */
#ifndef LAYERTOP_PROFILER_COLLECTOR_WINDOW_H
#define LAYERTOP_PROFILER_COLLECTOR_WINDOW_H

#include "profiler/records.h"

#define WINDOW_WALLS 4096 /* steps in one window at most; a full window is closed early */

struct window_layer {
    uint32_t steps;
    bool touched, kernels_known;
    uint64_t kernels;
    int64_t sum_ns, min_ns, max_ns;
    struct histogram histogram;
};

struct window {
    struct record_window totals; /* begin_ns, known, ledger sums, losses; counts are filled late */
    float *wall_ms;              /* [WINDOW_WALLS] */
    struct window_layer *layers;
    size_t layer_count;
    uint32_t *touched; /* layers with anything in them */
    size_t touched_count;
};

void window_init(struct window *window);
void window_free(struct window *window);
/* Forget everything and make room for `layer_count` layers. */
void window_resize(struct window *window, size_t layer_count);
/* Begin a new window at begin_ns. */
void window_clear(struct window *window, int64_t begin_ns);
/* Has nothing worth a record been added? */
bool window_empty(const struct window *window);
bool window_full(const struct window *window);

void window_add_step(struct window *window, int64_t wall_ns);
/* Samples that were done in `rate_ns`, and what came between them. */
void window_add_rate(struct window *window, uint64_t samples, int64_t rate_ns);
void window_add_ledger(struct window *window, const struct ledger_split *split, int64_t wall_ns,
                       unsigned known);
/* Time of a layer in one step. rest: this adds to a step that was counted before. */
void window_add_layer(struct window *window, size_t layer, int64_t duration_ns, uint64_t kernels,
                      bool kernels_known, bool rest);
/* Append the record; header->kind must be RECORD_WINDOW. */
void window_encode(struct window *window, const struct record_header *header,
                   enum timing_source timing, struct record_writer *writer);

#endif
