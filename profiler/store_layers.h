/* The rows of the layer table inside the store: one per Keras layer, in model order. Names and what
 * the plan says of a layer, totals since the plan changed, the last second, and a time series.
 * Private to profiler/store.c; at most STORE_LAYER_BYTES of measurements a layer, allocated when
 * the first time of that layer arrives. */
#ifndef LAYERTOP_PROFILER_STORE_LAYERS_H
#define LAYERTOP_PROFILER_STORE_LAYERS_H

#include "profiler/records.h"

#define STORE_LAYER_BYTES 16384

/* Windows of the last second, to answer "mean over the last second". All zero is empty. */
#define RECENT_WINDOWS 16
#define RECENT_SPAN_NS INT64_C(1000000000)
struct recent_window {
    int64_t time_ns;
    double sum_ns;
    uint32_t count;
    uint32_t reserved;
    double kernels; /* NaN: not known */
};
struct recent {
    struct recent_window windows[RECENT_WINDOWS];
    uint32_t head, used;
};
/* Add a window; windows of the same time are merged. */
void recent_add(struct recent *recent, int64_t time_ns, double sum_ns, uint32_t count,
                double kernels);
/* Mean per step over the second before the newest window, NaN if nothing was counted. `kernels`
 * may be NULL. */
double recent_mean_ns(const struct recent *recent, double *kernels);

struct layer_row;
struct layer_table {
    struct layer_row *rows;
    size_t count;
};

/* Rows of a load reply (its layers[]); NULL makes an empty table. Frees what was there. */
void layer_table_model(struct layer_table *table, const json_t *model);
/* What a plan says of each layer. Makes the rows if no model did. */
void layer_table_plan(struct layer_table *table, const json_t *plan);
/* Forget totals and the last second; `series` also the plots. */
void layer_table_reset(struct layer_table *table, bool series);
void layer_table_free(struct layer_table *table);

/* Add what a window says of a layer. layer->layer must be below table->count. `bursts`: layers are
 * measured now and then, and a value stands for the time since the one before. */
void layer_table_add(struct layer_table *table, int64_t time_ns, int64_t span_ns, bool bursts,
                     const struct record_layer *layer, const uint8_t *buckets);
/* Fill *out; wall_ms is the mean wall of a step over the last second, NaN if not known. Without
 * `quantiles` those of the total are NaN. */
void layer_table_get(const struct layer_table *table, size_t index, double wall_ms, bool quantiles,
                     struct store_layer *out);

#endif
