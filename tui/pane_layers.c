/* The layer table: one row a layer that runs, what was fused into it in its name. */
#include "tui/plot.h"
#include "tui/units.h"
#include "tui/utf8.h"
#include "tui/view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int pane_layers_rows(struct rect rect)
{
    return rect.rows > 1 ? rect.rows - 1 : 0;
}

enum column_id {
    COLUMN_MARK, /* the letter of the layer's line in the plot */
    COLUMN_NAME,
    COLUMN_TIME,
    COLUMN_SHARE,
    COLUMN_BAR,
    COLUMN_P95,
    COLUMN_IMPL,
    COLUMN_RATE,
    COLUMN_KERNELS,
    COLUMN_SHAPE,
    COLUMN_TREND,
    COLUMN_COUNT
};

struct column {
    const char *title;
    int width, most; /* columns at least and, when there is room to spare, at most */
    int name_least;  /* shown if this much is left for the name */
    bool right;
};

/* clang-format off */
static const struct column columns[COLUMN_COUNT] = {
    [COLUMN_MARK] = {"", 1, 1, 12, false},
    [COLUMN_NAME] = {"layer", 12, 0, 0, false},
    [COLUMN_TIME] = {"time", 8, 8, 10, true},
    [COLUMN_SHARE] = {"share", 6, 6, 12, true},
    [COLUMN_BAR] = {"", 6, 16, 14, false},
    [COLUMN_P95] = {"p95", 7, 7, 20, true},
    [COLUMN_IMPL] = {"by", 8, 8, 22, false},
    [COLUMN_RATE] = {"flop/s", 6, 6, 22, true},
    [COLUMN_KERNELS] = {"k", 3, 3, 24, true},
    [COLUMN_SHAPE] = {"output", 14, 18, 26, false},
    [COLUMN_TREND] = {"trend", 6, 20, 16, false},
};
/* clang-format on */

/* Widths of the columns that fit, 0 for the others. */
static void fit_columns(int cols, int name_wanted, int widths[COLUMN_COUNT])
{
    static const enum column_id by_importance[] = {
        COLUMN_TIME, COLUMN_MARK, COLUMN_SHARE, COLUMN_BAR,   COLUMN_TREND,
        COLUMN_P95,  COLUMN_IMPL, COLUMN_RATE,  COLUMN_SHAPE, COLUMN_KERNELS};
    int left = cols;
    memset(widths, 0, COLUMN_COUNT * sizeof widths[0]);
    for (size_t i = 0; i < sizeof by_importance / sizeof by_importance[0]; i++) {
        const struct column *column = &columns[by_importance[i]];
        if (left - column->width - 1 < column->name_least)
            continue;
        widths[by_importance[i]] = column->width;
        left -= column->width + 1;
    }
    widths[COLUMN_NAME] = left;
    static const enum column_id greedy[] = {COLUMN_SHAPE, COLUMN_BAR, COLUMN_TREND};
    for (size_t i = 0; i < 3; i++) {
        enum column_id id = greedy[i];
        int spare = widths[COLUMN_NAME] - name_wanted;
        if (widths[id] == 0 || spare <= 0)
            continue;
        int more = columns[id].most - widths[id];
        more = more < spare ? more : spare;
        widths[id] += more;
        widths[COLUMN_NAME] -= more;
    }
}

static void draw_heading(struct canvas *canvas, struct rect rect, const int widths[COLUMN_COUNT],
                         const char *unit, const struct view *view, size_t shown, size_t count)
{
    int x = rect.x;
    for (int i = 0; i < COLUMN_COUNT; i++) {
        if (widths[i] == 0)
            continue;
        char title[32];
        bool timed = i == COLUMN_TIME || i == COLUMN_P95;
        bool sorted = (i == COLUMN_TIME && view->sort == SORT_TIME) ||
                      (i == COLUMN_NAME && view->sort == SORT_NAME);
        snprintf(title, sizeof title, "%s%s%s%s", sorted ? "\u25be" : "", columns[i].title,
                 timed ? " " : "", timed ? unit : "");
        canvas_fill(canvas, (struct rect){rect.y, x, 1, widths[i]}, ' ', STYLE_HEADING);
        if (columns[i].right)
            canvas_text_right(canvas, rect.y, x, widths[i], STYLE_HEADING, title);
        else
            canvas_text(canvas, rect.y, x, widths[i], STYLE_HEADING, title);
        if (i == COLUMN_NAME) {
            char where[64] = "";
            if (shown < count)
                snprintf(where, sizeof where, "%d-%d of %zu", view->top + 1, view->top + (int)shown,
                         count);
            if (view->sort != SORT_TIME && view->sort != SORT_NAME)
                snprintf(where + strlen(where), sizeof where - strlen(where), " by %s",
                         sort_names[view->sort]);
            if (utf8_columns(where) + 7 <= widths[i])
                canvas_text_right(canvas, rect.y, x + 7, widths[i] - 7, STYLE_HEADING, where);
        }
        x += widths[i];
        if (x < rect.x + rect.cols)
            canvas_put(canvas, rect.y, x, ' ', STYLE_HEADING);
        x++;
    }
}

static enum style heat(double share)
{
    return share >= 0.25 ? STYLE_HEAT_HIGH : share >= 0.08 ? STYLE_HEAT_MIDDLE : STYLE_HEAT_LOW;
}

static void draw_name(struct canvas *canvas, int y, int x, int cols, const char *label,
                      const char *search, bool dim)
{
    canvas_text(canvas, y, x, cols, dim ? STYLE_DIM : STYLE_NORMAL, label);
    const char *match = search[0] != '\0' ? strstr(label, search) : NULL;
    if (match == NULL)
        return;
    char before[256];
    snprintf(before, sizeof before, "%.*s", (int)(match - label), label);
    int at = utf8_columns(before);
    if (at < cols)
        canvas_text(canvas, y, x + at, cols - at, STYLE_MATCH, search);
}

/* The number and its decimals in the table's unit; an en dash for what is not known. */
static void format_time(char *out, size_t size, double ms, double factor, double top)
{
    if (isnan(ms))
        snprintf(out, size, "\u2013");
    else
        snprintf(out, size, "%.*f", top / factor >= 1000 ? 1 : 2, ms / factor);
}

struct table {
    int widths[COLUMN_COUNT];
    double factor, top_ms, top_share;
    const char *unit;
};

static void draw_row(struct canvas *canvas, int y, int x, const struct table *table, int index,
                     const struct view *view)
{
    struct store_layer whole; /* the view's has no quantiles */
    store_layer(view->store, (size_t)index, &whole);
    const struct store_layer *layer = &whole;
    bool free_layer = isnan(layer->time_ms);
    for (int i = 0; i < COLUMN_COUNT; i++) {
        int width = table->widths[i];
        char text[64] = "";
        enum style style = STYLE_NORMAL;
        if (width == 0)
            continue;
        switch ((enum column_id)i) {
        case COLUMN_MARK:
            for (size_t k = 0; k < view->plotted_count; k++) {
                if (view->plotted[k] == index)
                    canvas_put(canvas, y, x, 'a' + (uint32_t)k, view_plot_styles[k]);
            }
            break;
        case COLUMN_NAME:
            draw_name(canvas, y, x, width, layer->label, view->search, free_layer);
            break;
        case COLUMN_TIME:
            format_time(text, sizeof text, layer->time_ms, table->factor, table->top_ms);
            style = free_layer ? STYLE_DIM : STYLE_VALUE;
            break;
        case COLUMN_SHARE:
            unit_share(text, sizeof text, layer->share);
            style = isnan(layer->share) ? STYLE_DIM : heat(layer->share);
            break;
        case COLUMN_BAR:
            if (table->top_share > 0)
                canvas_bar(canvas, y, x, width, layer->share / table->top_share,
                           heat(layer->share));
            break;
        case COLUMN_P95:
            format_time(text, sizeof text, layer->total.p95, table->factor, table->top_ms);
            style = isnan(layer->total.p95) ? STYLE_DIM : STYLE_NORMAL;
            break;
        case COLUMN_IMPL:
            snprintf(text, sizeof text, "%.63s", layer->impl);
            style = STYLE_DIM;
            break;
        case COLUMN_RATE:
            if (!free_layer && layer->time_ms > 0 && layer->flops > 0)
                unit_count(text, sizeof text, (double)layer->flops / layer->time_ms * 1e3);
            break;
        case COLUMN_KERNELS:
            if (!isnan(layer->kernels))
                snprintf(text, sizeof text, "%.3g", layer->kernels);
            style = STYLE_DIM;
            break;
        case COLUMN_SHAPE:
            snprintf(text, sizeof text, "%.63s", layer->output_shape);
            style = STYLE_DIM;
            break;
        case COLUMN_TREND: {
            size_t count = sparkline_columns(canvas->symbols, width);
            struct series_cell *cells = xcalloc(count, sizeof *cells);
            int64_t to = view->now_ns - view->ago_ns, column = view->span_ns / (int64_t)count;
            to -= to % (column > 0 ? column : 1); /* columns keep their data while time goes on */
            if (layer->series != NULL && column > 0)
                series_read(layer->series, to - column * (int64_t)count, to, count, cells);
            sparkline_draw(canvas, y, x, width, STYLE_SERIES_A, cells);
            free(cells);
            break;
        }
        case COLUMN_COUNT:
            break;
        }
        if (columns[i].right)
            canvas_text_right(canvas, y, x, width, style, text);
        else if (text[0] != '\0')
            canvas_text(canvas, y, x, width, style, text);
        x += width + 1;
    }
}

/* Show a row as chosen: its words and numbers, not its pictures. */
static void flag_row(struct canvas *canvas, int y, int x, const int widths[COLUMN_COUNT])
{
    for (int i = 0; i < COLUMN_COUNT; i++) {
        if (widths[i] == 0)
            continue;
        bool picture = i == COLUMN_MARK || i == COLUMN_BAR || i == COLUMN_TREND;
        if (!picture) /* and the blank that follows, unless a picture does */
            canvas_flag(canvas, y, x, widths[i] + (i == COLUMN_SHARE ? 0 : 1), CELL_REVERSE);
        x += widths[i] + 1;
    }
}

void pane_layers_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    canvas_clip(canvas, rect);
    struct table table = {.top_ms = 0};
    int name_wanted = 12;
    for (size_t i = 0; i < view->row_count; i++) {
        const struct store_layer *layer = &view->layers[view->rows[i]];
        table.top_ms = fmax(table.top_ms, isnan(layer->time_ms) ? 0 : layer->time_ms);
        table.top_share = fmax(table.top_share, isnan(layer->share) ? 0 : layer->share);
        if (layer->label_bytes > (size_t)name_wanted) {
            int width = utf8_columns(layer->label);
            name_wanted = width > name_wanted ? width : name_wanted;
        }
    }
    table.factor = 1;
    table.unit = "ms";
    if (table.top_ms > 0)
        unit_scale(UNIT_MS, table.top_ms < 1e-3 ? 1e-3 : table.top_ms, &table.factor, &table.unit);
    fit_columns(rect.cols, name_wanted, table.widths);
    int rows = pane_layers_rows(rect), shown = (int)view->row_count - view->top;
    shown = shown > rows ? rows : shown < 0 ? 0 : shown;
    draw_heading(canvas, rect, table.widths, table.unit, view, (size_t)shown, view->row_count);
    for (int i = 0; i < shown; i++) {
        int y = rect.y + 1 + i;
        draw_row(canvas, y, rect.x, &table, view->rows[view->top + i], view);
        if ((view->focus == FOCUS_PANES || view->focus == FOCUS_SEARCH) &&
            view->top + i == view->selected)
            flag_row(canvas, y, rect.x, table.widths);
    }
    if (view->row_count == 0 && rows > 2) {
        const char *text =
            view->state == STATE_LOADING ? "loading the model" : "no model yet: load demo:digits";
        canvas_text(canvas, rect.y + 2, rect.x + 2, rect.cols - 2, STYLE_DIM, text);
    }
}
