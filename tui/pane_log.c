/* The log above the prompt, the bar below it, and all panes together. */
#include "tui/keys.h"
#include "tui/utf8.h"
#include "tui/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PIECES 64 /* rows of a line at most */

static enum style style_of(enum sink_style style)
{
    switch (style) {
    case SINK_NOTE:
        return STYLE_DIM;
    case SINK_WARNING:
        return STYLE_WARNING;
    case SINK_ERROR:
        return STYLE_ERROR;
    case SINK_HINT:
        return STYLE_HINT;
    case SINK_ECHO:
        return STYLE_ECHO;
    case SINK_TEXT:
        break;
    }
    return STYLE_NORMAL;
}

/* Bytes of `text` that fit into `cols` columns, broken after a blank where there is one. */
static size_t fitting(const char *text, int cols)
{
    size_t bytes = strlen(text), used = 0, blank = 0;
    int width = 0;
    while (used < bytes) {
        uint32_t point;
        size_t length = utf8_decode(text + used, bytes - used, &point);
        if (width + utf8_width(point) > cols)
            return blank > used / 2 ? blank : used > 0 ? used : length;
        width += utf8_width(point);
        used += length;
        if (point == ' ')
            blank = used;
    }
    return used;
}

static void line_text(const struct log *log, size_t index, char *out, size_t size,
                      enum sink_style *style)
{
    unsigned repeats;
    const char *text = log_line(log, index, style, &repeats);
    if (repeats > 1)
        snprintf(out, size, "%s (%u times)", text, repeats);
    else
        snprintf(out, size, "%s%s", *style == SINK_ECHO ? "> " : "", text);
}

/* Where the rows of a line begin, as many as fit into starts[]; *end is behind the last one. */
static size_t break_line(const char *text, int cols, size_t starts[PIECES], size_t *end)
{
    size_t pieces = 0, at = 0;
    do {
        starts[pieces++] = at;
        at += fitting(text + at, cols - (at > 0 ? 2 : 0));
    } while (text[at] != '\0' && pieces < PIECES);
    *end = at;
    return pieces;
}

int pane_log_rows(const struct log *log, size_t lines, int cols)
{
    char text[2100];
    enum sink_style style;
    size_t starts[PIECES], end, count = log_count(log), first = count > lines ? count - lines : 0;
    int rows = 0;
    for (size_t i = first; i < count && rows < 1000; i++) {
        line_text(log, i, text, sizeof text, &style);
        rows += (int)break_line(text, cols, starts, &end);
    }
    return rows;
}

void pane_log_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    char text[2100];
    enum sink_style style;
    canvas_clip(canvas, rect);
    for (int x = 0; x < rect.cols; x++)
        canvas_put(canvas, rect.y, rect.x + x, 0x2500, STYLE_DIM);
    size_t count = log_count(view->log), back = view->log_back < count ? view->log_back : count;
    if (view->log_back > 0 && rect.cols > 40)
        canvas_textf(canvas, rect.y, rect.x + 2, rect.cols - 2, STYLE_DIM,
                     " %zu lines further down, End ", back);
    size_t hidden = 0; /* lines above */
    int y = rect.rows; /* from below: rows of the newest line first */
    for (size_t i = count - back; i-- > 0 && y > 1;) {
        line_text(view->log, i, text, sizeof text, &style);
        size_t starts[PIECES], at, pieces = break_line(text, rect.cols, starts, &at);
        hidden = i + (pieces + 1 > (size_t)y);
        for (size_t k = pieces; k-- > 0 && y > 1;) {
            size_t end = k + 1 < pieces ? starts[k + 1] : at;
            canvas_textf(canvas, rect.y + --y, rect.x + (k > 0 ? 2 : 0), rect.cols, style_of(style),
                         "%.*s", (int)(end - starts[k]), text + starts[k]);
        }
    }
    size_t typed = view->answer < count ? count - view->answer + 1 : 0; /* up to the command line */
    if (back == 0 && typed > 0 && hidden > typed && rect.cols > 40)
        canvas_textf(canvas, rect.y, rect.x + 2, rect.cols - 2, STYLE_DIM,
                     " %zu line%s further up, PgUp ", hidden - typed,
                     hidden - typed > 1 ? "s" : "");
}

static void draw_progress(struct canvas *canvas, struct rect rect, const struct view *view)
{
    int x = rect.x;
    if (!isnan(view->progress)) {
        int bar = rect.cols / 4;
        canvas_fill(canvas, (struct rect){rect.y, x, 1, bar}, 0xb7, STYLE_DIM);
        canvas_bar(canvas, rect.y, x, bar, view->progress, STYLE_GOOD);
        x += bar + 1;
        x += canvas_textf(canvas, rect.y, x, 6, STYLE_VALUE, "%3.0f %%", view->progress * 100) + 1;
    }
    x += canvas_text(canvas, rect.y, x, rect.x + rect.cols - x - 18, STYLE_NORMAL,
                     view->progress_text);
    canvas_text(canvas, rect.y, x + 2, rect.x + rect.cols - x - 2, STYLE_DIM, "Ctrl-C cancels");
}

void pane_bar_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    canvas_clip(canvas, rect);
    if (view->progress >= 0 || isnan(view->progress)) {
        draw_progress(canvas, rect, view);
        return;
    }
    int x = rect.x, end = rect.x + rect.cols;
    if (rect.cols < LAYOUT_GOOD_COLS || canvas->rows < LAYOUT_GOOD_ROWS) {
        char text[64];
        snprintf(text, sizeof text, "better at %dx%d, this is %dx%d", LAYOUT_GOOD_COLS,
                 LAYOUT_GOOD_ROWS, canvas->cols, canvas->rows);
        int width = utf8_columns(text);
        canvas_text(canvas, rect.y, end - width, width, STYLE_WARNING, text);
        end -= width + 1;
    }
    for (size_t i = 0; i < keys_count(); i++) {
        const struct key_binding *key = keys_at(i);
        char name[16];
        if (!keys_in_bar(key, view->focus))
            continue;
        keys_name(key, view->focus, name, sizeof name);
        int width = utf8_columns(name) + 1 + utf8_columns(key->label) + 2;
        if (x + width - 2 > end)
            break;
        x += canvas_text(canvas, rect.y, x, end - x, STYLE_KEY, name) + 1;
        x += canvas_text(canvas, rect.y, x, end - x, STYLE_DIM, key->label) + 2;
    }
}

void panes_draw(struct canvas *canvas, const struct layout *layout, const struct view *view)
{
    static void (*const plots[LAYOUT_PLOTS])(struct canvas *, struct rect, const struct view *) = {
        pane_layer_time_draw, pane_memory_draw, pane_throughput_draw};
    if (layout->too_small) {
        if (layout->header.rows > 0)
            pane_small_draw(canvas, layout->header, view);
        return;
    }
    pane_header_draw(canvas, layout->header, view);
    if (layout->table.rows > 0)
        pane_layers_draw(canvas, layout->table, view);
    if (layout->detail.rows > 0)
        pane_detail_draw(canvas, layout->detail, view);
    for (int i = 0; i < LAYOUT_PLOTS; i++) {
        if (layout->plots[i].rows > 0)
            plots[i](canvas, layout->plots[i], view);
    }
    pane_log_draw(canvas, layout->log, view);
    pane_bar_draw(canvas, layout->bar, view);
}
