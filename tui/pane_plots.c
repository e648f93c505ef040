/* The plots: time of the layers that cost most, memory, throughput of CPU and GPU. */
#include "tui/plot.h"
#include "tui/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Columns of one series over the time the view shows. Column borders stand still while time goes on,
 * so that a value stays in its column. */
static struct series_cell *read_series(const struct view *view, const struct series *series,
                                       size_t count)
{
    struct series_cell *cells = xcalloc(count, sizeof *cells);
    int64_t column = view->span_ns / (int64_t)count, to = view->now_ns - view->ago_ns;
    if (series == NULL || column <= 0)
        return cells;
    to = to - to % column + (view->ago_ns == 0 ? column : 0); /* the newest value is in sight */
    series_read(series, to - column * (int64_t)count, to, count, cells);
    return cells;
}

static void begin(struct plot *plot, const struct view *view, enum plot_kind kind,
                  const char *title, enum unit unit)
{
    memset(plot, 0, sizeof *plot);
    plot->kind = kind;
    plot->title = title;
    plot->unit = unit;
    plot->now = plot->limit = NAN;
    plot->summary = (struct summary){0, NAN, NAN, NAN, NAN, NAN, NAN};
    plot->span_ns = view->span_ns;
    plot->ago_ns = view->ago_ns;
    plot->legend = true;
    plot->empty = view->state == STATE_LIVE ? "waiting for data"
                  : view->model == NULL     ? "no data"
                                            : "no data: start";
}

/* The numbers of the title: those of one series over the time shown. */
static void summarise(struct plot *plot, const struct view *view, const struct series *series)
{
    series_summary(series, view->span_ns, view->now_ns - view->ago_ns, &plot->summary);
    plot->now = plot->summary.count > 0 ? series_last(series) : NAN;
}

static void add(struct plot *plot, struct canvas *canvas, struct rect rect, const struct view *view,
                const char *name, const char *brief, enum style style, const struct series *series)
{
    size_t count = plot_columns(canvas->symbols, rect.cols);
    if (plot->trace_count == PLOT_TRACES || count == 0)
        return;
    plot->traces[plot->trace_count++] =
        (struct plot_trace){name, brief, style, read_series(view, series, count)};
}

static void finish(struct canvas *canvas, struct rect rect, struct plot *plot)
{
    plot_draw(canvas, rect, plot);
    for (size_t i = 0; i < plot->trace_count; i++) {
        const void *cells = plot->traces[i].cells;
        free((void *)(uintptr_t)cells); /* made by read_series() for this frame */
    }
}

void pane_layer_time_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    canvas_clip(canvas, rect);
    struct plot plot;
    begin(&plot, view, PLOT_LINES, "layer time", UNIT_MS);
    plot.legend = false; /* the letters stand in the layer table */
    for (size_t i = 0; i < view->plotted_count; i++) {
        const struct store_layer *layer = &view->layers[view->plotted[i]];
        if (i == 0 && layer->series != NULL)
            summarise(&plot, view, layer->series);
        add(&plot, canvas, rect, view, layer->name, NULL, view_plot_styles[i], layer->series);
    }
    finish(canvas, rect, &plot);
}

#define TITLE_COLS_FREE  56 /* beside so much there is room for the numbers */
#define TITLE_COLS_LIMIT 76

/* What no area shows stands in the title: what is free, and the limit. */
static void memory_title(char *out, size_t size, const struct view *view, bool gpu, int cols)
{
    char bytes[32];
    double unused = series_last(store_series_get(view->store, SERIES_MEMORY_FREE));
    int used = snprintf(out, size, "%s", gpu ? "GPU memory" : "memory");
    if (gpu && !isnan(unused) && cols >= TITLE_COLS_FREE)
        used += snprintf(out + used, size - (size_t)used, ", %s free",
                         unit_bytes(bytes, sizeof bytes, unused));
    if (gpu && !isnan(view->limit_bytes) && cols >= TITLE_COLS_LIMIT)
        snprintf(out + used, size - (size_t)used, ", limit %s",
                 unit_bytes(bytes, sizeof bytes, view->limit_bytes));
}

void pane_memory_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    static const struct {
        enum store_series series;
        const char *name, *brief;
        enum style style;
    } parts[] = {
        {SERIES_MEMORY_WEIGHTS, "weights", "wts", STYLE_SERIES_A},
        {SERIES_MEMORY_ACTIVATIONS, "activations", "act", STYLE_SERIES_B},
        {SERIES_MEMORY_WORKSPACE, "workspace", "wsp", STYLE_SERIES_C},
        {SERIES_MEMORY_IDLE, "idle", "idle", STYLE_SERIES_D},
        {SERIES_MEMORY_CONTEXT, "context", "ctx", STYLE_SERIES_E},
        {SERIES_LIBRARY_ALLOC, "libraries", "lib", STYLE_SERIES_B},
        {SERIES_MEMORY_CUPTI, "CUPTI", "cpt", STYLE_SERIES_C},
        {SERIES_MEMORY_FOREIGN, "other processes", "prc", STYLE_SERIES_F},
        {SERIES_MEMORY_OTHER, "other", "oth", STYLE_SERIES_D},
    };
    canvas_clip(canvas, rect);
    struct plot plot;
    bool gpu = strncmp(view->devices, "gpu", 3) == 0;
    char title[96];
    memory_title(title, sizeof title, view, gpu, rect.cols);
    begin(&plot, view, PLOT_STACKED, title, UNIT_BYTES);
    const struct series *used = store_series_get(view->store, SERIES_MEMORY_USED);
    summarise(&plot, view, used);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const struct series *series = store_series_get(view->store, parts[i].series);
        if (!isnan(series_last(series)) && series_last(series) > 0)
            add(&plot, canvas, rect, view, parts[i].name, parts[i].brief, parts[i].style, series);
    }
    plot.limit = series_last(store_series_get(view->store, SERIES_MEMORY_TOTAL));
    if (!isnan(view->limit_bytes))
        plot.limit = view->limit_bytes;
    finish(canvas, rect, &plot);
}

void pane_throughput_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    canvas_clip(canvas, rect);
    struct plot plot;
    begin(&plot, view, PLOT_LINES, "throughput", UNIT_PER_SECOND);
    const struct series *cpu = store_series_get(view->store, SERIES_THROUGHPUT_CPU);
    const struct series *gpu = store_series_get(view->store, SERIES_THROUGHPUT_GPU);
    bool on_cpu = strncmp(view->devices, "cpu", 3) == 0 || isnan(series_last(gpu));
    summarise(&plot, view, on_cpu ? cpu : gpu);
    add(&plot, canvas, rect, view, "CPU", NULL, STYLE_SERIES_A, cpu);
    if (!isnan(series_last(gpu)))
        add(&plot, canvas, rect, view, "GPU", NULL, STYLE_SERIES_B, gpu);
    finish(canvas, rect, &plot);
}
