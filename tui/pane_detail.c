/* What is known of the chosen layer, below the table. */
#include "tui/units.h"
#include "tui/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A row: its name, dim, then text as far as it fits. */
static void draw_line(struct canvas *canvas, struct rect rect, int row, const char *name,
                      const char *text)
{
    if (row >= rect.rows)
        return;
    canvas_text(canvas, rect.y + row, rect.x, rect.cols, STYLE_LABEL, name);
    canvas_text(canvas, rect.y + row, rect.x + 6, rect.cols - 6, STYLE_NORMAL, text);
}

static void draw_title(struct canvas *canvas, struct rect rect, const struct store_layer *layer)
{
    int x = rect.x, end = rect.x + rect.cols;
    x += canvas_text(canvas, rect.y, x, rect.cols, STYLE_TITLE, layer->label) + 2;
    x += canvas_text(canvas, rect.y, x, end - x, STYLE_DIM, layer->class_name) + 1;
    for (; x < end; x++)
        canvas_put(canvas, rect.y, x, 0x2500, STYLE_DIM);
}

static void shape_text(char *out, size_t size, const struct store_layer *layer)
{
    char kernels[48] = "";
    if (!isnan(layer->kernels))
        snprintf(kernels, sizeof kernels, ", %.3g kernel%s", layer->kernels,
                 layer->kernels == 1 ? "" : "s");
    snprintf(out, size, "%.60s%s%.40s%s", layer->output_shape,
             layer->impl[0] != '\0' ? "  by " : "", layer->impl, kernels);
}

/* All in the unit of the longest. */
static void time_text(char *out, size_t size, const struct store_layer *layer)
{
    const struct summary *total = &layer->total;
    char mean[32], p95[32], most[32], least[32];
    const char *unit;
    double factor;
    if (total->count == 0) {
        snprintf(out, size, "none was measured");
        return;
    }
    unit_scale(UNIT_MS, total->max, &factor, &unit);
    snprintf(out, size, "mean %s  p95 %s  min %s  max %s %s",
             unit_number(mean, sizeof mean, total->mean / factor),
             unit_number(p95, sizeof p95, total->p95 / factor),
             unit_number(least, sizeof least, total->min / factor),
             unit_number(most, sizeof most, total->max / factor), unit);
}

static void work_text(char *out, size_t size, const struct store_layer *layer)
{
    char flops[32], bytes[32], parameters[32];
    snprintf(out, size, "%s flop  %s  %s params",
             unit_count(flops, sizeof flops, (double)layer->flops),
             unit_bytes(bytes, sizeof bytes, (double)layer->bytes),
             unit_count(parameters, sizeof parameters, (double)layer->parameters));
}

static void rate_text(char *out, size_t size, const struct store_layer *layer)
{
    char flops[32], bytes[32], intensity[32];
    double seconds = layer->time_ms / 1e3;
    if (!(seconds > 0)) { /* nor if it is not known */
        snprintf(out, size, "\u2013");
        return;
    }
    int used = snprintf(out, size, "%sflop/s  %s/s",
                        unit_count(flops, sizeof flops, (double)layer->flops / seconds),
                        unit_bytes(bytes, sizeof bytes, (double)layer->bytes / seconds));
    if (layer->bytes > 0 && used > 0 && (size_t)used < size)
        snprintf(
            out + used, size - (size_t)used, "  %s flop/B",
            unit_number(intensity, sizeof intensity, (double)layer->flops / (double)layer->bytes));
}

static void fused_text(char *out, size_t size, const struct store_layer *layer)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; layer->fused != NULL && layer->fused[i] != NULL && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? ", " : "", layer->fused[i]);
    if (out[0] == '\0')
        snprintf(out, size, "with nothing");
}

void pane_detail_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    char text[512];
    canvas_clip(canvas, rect);
    if (view->selected < 0 || (size_t)view->selected >= view->row_count)
        return;
    struct store_layer whole; /* the view's has no quantiles */
    store_layer(view->store, (size_t)view->rows[view->selected], &whole);
    const struct store_layer *layer = &whole;
    static const struct {
        const char *name;
        void (*write)(char *out, size_t size, const struct store_layer *layer);
    } lines[LAYOUT_DETAIL_ROWS - 1] = {{"shape", shape_text},
                                       {"time", time_text},
                                       {"work", work_text},
                                       {"rate", rate_text},
                                       {"fused", fused_text}};
    draw_title(canvas, rect, layer);
    for (int i = 0; i < LAYOUT_DETAIL_ROWS - 1; i++) {
        lines[i].write(text, sizeof text, layer);
        draw_line(canvas, rect, i + 1, lines[i].name, text);
    }
}
