/* Segments: see store_segments.h. */
#include "profiler/store_segments.h"

#include <math.h>
#include <stdlib.h>

struct segment_layer {
    uint64_t steps, kernel_steps;
    double sum_ns, kernels;
    int64_t min_ns, max_ns;
    struct histogram_sparse histogram;
};

struct segment {
    struct store_segment public;
    int device;
    struct segment_layer *layers;
    struct summary *summaries;
    double *kernels;
    double class_ns[LEDGER_CLASS_COUNT];
    double hidden_ns[LEDGER_INTERVAL_CLASSES];
    double unexplained_ns, wall_ns;
    uint64_t ledger_steps;
    unsigned known;
    bool stale; /* public must be computed anew */
};

static void segment_free(struct segment *segment)
{
    for (size_t i = 0; i < segment->public.layer_count; i++)
        free(segment->layers[i].histogram.cells);
    free(segment->layers);
    free(segment->summaries);
    free(segment->kernels);
    free(segment);
}

void segment_table_free(struct segment_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        segment_free(table->segments[i]);
    table->count = 0;
}

struct segment *segment_table_open(struct segment_table *table, uint32_t segment, int device,
                                   size_t layer_count)
{
    for (size_t i = table->count; i-- > 0;) {
        struct segment *known = table->segments[i];
        if (known->public.segment == segment && known->device == device)
            return known;
    }
    if (table->count == STORE_SEGMENTS) {
        segment_free(table->segments[0]);
        for (size_t i = 1; i < STORE_SEGMENTS; i++)
            table->segments[i - 1] = table->segments[i];
        table->count--;
    }
    struct segment *made = xcalloc(1, sizeof *made);
    made->device = device;
    made->known = ~0u;
    made->layers = xcalloc(layer_count ? layer_count : 1, sizeof *made->layers);
    made->summaries = xcalloc(layer_count ? layer_count : 1, sizeof *made->summaries);
    made->kernels = xcalloc(layer_count ? layer_count : 1, sizeof *made->kernels);
    made->public = (struct store_segment){
        .segment = segment,
        .timing_source = "",
        .layer_count = layer_count,
        .layers = made->summaries,
        .kernels = made->kernels,
        .cost = {0, NAN, NAN, NAN},
    };
    marks_clear(&made->public.marks);
    made->stale = true;
    table->segments[table->count++] = made;
    return made;
}

void segment_add_window(struct segment *segment, const struct record_window *window)
{
    segment->public.steps += window->wall_count;
    segment->public.timing_source = timing_source_name(window->timing);
    segment->public.dropped_records += window->dropped + window->unmatched + window->untimed;
    segment->ledger_steps += window->ledger_steps;
    if (window->ledger_steps)
        segment->known &= window->known;
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
        segment->class_ns[c] += (double)window->class_ns[c];
    for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++)
        segment->hidden_ns[c] += (double)window->hidden_ns[c];
    segment->unexplained_ns += (double)window->unexplained_ns;
    segment->wall_ns += (double)window->wall_ns;
    segment->stale = true;
}

void segment_add_layer(struct segment *segment, const struct record_layer *layer,
                       const uint8_t *buckets)
{
    if (layer->layer >= segment->public.layer_count)
        return;
    struct segment_layer *sum = &segment->layers[layer->layer];
    sum->sum_ns += (double)layer->sum_ns;
    segment->stale = true;
    if (layer->kernels != RECORD_UNKNOWN) {
        sum->kernels += (double)layer->kernels;
        sum->kernel_steps += layer->steps;
    }
    if (layer->steps == 0)
        return;
    if (sum->steps == 0 || layer->min_ns < sum->min_ns)
        sum->min_ns = layer->min_ns;
    if (sum->steps == 0 || layer->max_ns > sum->max_ns)
        sum->max_ns = layer->max_ns;
    sum->steps += layer->steps;
    for (uint32_t i = 0; i < layer->bucket_count; i++) {
        struct histogram_cell cell = record_bucket(buckets, i);
        histogram_sparse_add(&sum->histogram, cell.bucket, cell.count);
    }
}

void segment_set_cost(struct segment *segment, const struct store_cost *cost)
{
    segment->public.cost = *cost;
}

void segment_add_sample(struct segment *segment, const struct record_device *sample)
{
    marks_add(&segment->public.marks, sample);
}

void segment_add_lost(struct segment *segment, uint64_t records)
{
    segment->public.dropped_records += records;
}

void ledger_from_sums(struct ledger *out, uint64_t steps, const double *class_ns,
                      const double *hidden_ns, unsigned known, double unexplained_ns,
                      double wall_ns)
{
    double scale = steps ? 1e-6 / (double)steps : (double)NAN;
    out->steps = steps;
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
        out->class_ms[c] = known & (1u << c) ? class_ns[c] * scale : (double)NAN;
    /* what lies behind kernels is only known where their own intervals are */
    for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++)
        out->hidden_ms[c] =
            known & (1u << LEDGER_KERNEL) && known & (1u << c) ? hidden_ns[c] * scale : (double)NAN;
    out->unexplained_ms = unexplained_ns * scale;
    out->wall_ms = wall_ns * scale;
}

static double clamp(double value, double low, double high)
{
    return fmin(fmax(value, low), high);
}

static void segment_compute(struct segment *segment)
{
    for (size_t i = 0; i < segment->public.layer_count; i++) {
        const struct segment_layer *sum = &segment->layers[i];
        double steps = (double)sum->steps;
        struct summary *out = &segment->summaries[i];
        *out = (struct summary){0, NAN, NAN, NAN, NAN, NAN, NAN};
        segment->kernels[i] =
            sum->kernel_steps ? sum->kernels / (double)sum->kernel_steps : (double)NAN;
        if (sum->steps == 0)
            continue;
        out->count = sum->steps;
        out->sum = sum->sum_ns * 1e-6;
        out->mean = out->sum / steps;
        out->min = (double)sum->min_ns * 1e-6;
        out->max = (double)sum->max_ns * 1e-6;
        out->p50 =
            clamp(histogram_sparse_quantile_ns(&sum->histogram, 0.50) * 1e-6, out->min, out->max);
        out->p95 =
            clamp(histogram_sparse_quantile_ns(&sum->histogram, 0.95) * 1e-6, out->min, out->max);
    }
    ledger_from_sums(&segment->public.ledger, segment->ledger_steps, segment->class_ns,
                     segment->hidden_ns, segment->known, segment->unexplained_ns, segment->wall_ns);
    segment->stale = false;
}

const struct store_segment *segment_table_get(const struct segment_table *table, uint32_t segment,
                                              const int *device)
{
    for (size_t i = 0; i < table->count; i++) {
        struct segment *found = table->segments[i];
        if (found->public.segment != segment || (device && found->device != *device))
            continue;
        if (found->stale)
            segment_compute(found);
        return &found->public;
    }
    return NULL;
}

uint32_t segment_table_last(const struct segment_table *table)
{
    return table->count > 0 ? table->segments[table->count - 1]->public.segment : 0;
}
