/* Sums of a window: see collector_window.h. */
#include "profiler/collector_window.h"

#include <stdlib.h>
#include <string.h>

void window_init(struct window *window)
{
    *window = (struct window){.layer_count = 0};
    window->wall_ms = xcalloc(WINDOW_WALLS, sizeof *window->wall_ms);
}

void window_free(struct window *window)
{
    free(window->wall_ms);
    free(window->layers);
    free(window->touched);
}

static void layer_clear(struct window_layer *layer)
{
    layer->steps = 0;
    layer->touched = false;
    layer->kernels_known = true;
    layer->kernels = 0;
    layer->sum_ns = layer->min_ns = layer->max_ns = 0;
}

void window_resize(struct window *window, size_t layer_count)
{
    free(window->layers);
    free(window->touched);
    window->layer_count = layer_count;
    window->layers = xcalloc(layer_count ? layer_count : 1, sizeof *window->layers);
    window->touched = xcalloc(layer_count ? layer_count : 1, sizeof *window->touched);
    window->touched_count = 0;
    for (size_t i = 0; i < layer_count; i++) {
        layer_clear(&window->layers[i]);
        histogram_init(&window->layers[i].histogram);
    }
    window_clear(window, window->totals.begin_ns);
}

void window_clear(struct window *window, int64_t begin_ns)
{
    for (size_t i = 0; i < window->touched_count; i++) {
        struct window_layer *layer = &window->layers[window->touched[i]];
        layer_clear(layer);
        histogram_clear(&layer->histogram);
    }
    window->touched_count = 0;
    window->totals = (struct record_window){.begin_ns = begin_ns, .known = 0xff};
}

bool window_empty(const struct window *window)
{
    const struct record_window *totals = &window->totals;
    return totals->wall_count == 0 && window->touched_count == 0 && totals->ledger_steps == 0 &&
           totals->samples == 0 && totals->dropped == 0 && totals->unmatched == 0 &&
           totals->untimed == 0;
}

bool window_full(const struct window *window)
{
    return window->totals.wall_count == WINDOW_WALLS;
}

void window_add_step(struct window *window, int64_t wall_ns)
{
    struct record_window *totals = &window->totals;
    if (window_full(window)) {
        totals->dropped++;
        return;
    }
    window->wall_ms[totals->wall_count++] = (float)((double)wall_ns * 1e-6);
}

void window_add_rate(struct window *window, uint64_t samples, int64_t rate_ns)
{
    window->totals.samples += samples;
    window->totals.rate_ns += rate_ns;
}

void window_add_ledger(struct window *window, const struct ledger_split *split, int64_t wall_ns,
                       unsigned known)
{
    struct record_window *totals = &window->totals;
    totals->ledger_steps++;
    totals->known &= known;
    totals->wall_ns += wall_ns;
    totals->unexplained_ns += ledger_unexplained_ns(split, wall_ns);
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
        totals->class_ns[c] += split->class_ns[c];
    for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++)
        totals->hidden_ns[c] += split->covered_ns[c] - split->class_ns[c];
}

void window_add_layer(struct window *window, size_t index, int64_t duration_ns, uint64_t kernels,
                      bool kernels_known, bool rest)
{
    struct window_layer *layer = &window->layers[index];
    if (!layer->touched) {
        layer->touched = true;
        window->touched[window->touched_count++] = (uint32_t)index;
    }
    layer->sum_ns += duration_ns;
    layer->kernels += kernels;
    layer->kernels_known = layer->kernels_known && kernels_known;
    if (rest)
        return;
    if (layer->steps == 0 || duration_ns < layer->min_ns)
        layer->min_ns = duration_ns;
    if (layer->steps == 0 || duration_ns > layer->max_ns)
        layer->max_ns = duration_ns;
    layer->steps++;
    histogram_add(&layer->histogram, histogram_bucket(duration_ns), 1);
}

void window_encode(struct window *window, const struct record_header *header,
                   enum timing_source timing, struct record_writer *writer)
{
    window->totals.timing = timing;
    window->totals.layer_count = (uint32_t)window->touched_count;
    record_begin(writer, header);
    record_put_window(writer, &window->totals, window->wall_ms);
    for (size_t i = 0; i < window->touched_count; i++) {
        const struct window_layer *layer = &window->layers[window->touched[i]];
        const struct record_layer record = {
            .layer = window->touched[i],
            .steps = layer->steps,
            .kernels = layer->kernels_known ? layer->kernels : RECORD_UNKNOWN,
            .sum_ns = layer->sum_ns,
            .min_ns = layer->min_ns,
            .max_ns = layer->max_ns,
        };
        record_put_layer(writer, &record, &layer->histogram);
    }
}
