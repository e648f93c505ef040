#include "tui/plot.h"
#include "engine/error.h"
#include "tui/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUTTER       6  /* five columns for a number, one for the axis */
#define GUTTER_LEAST 24 /* narrower plots have no axis */
#define TITLE_PIECES 5
#define LEGEND_LEAST 6 /* a name cut to fewer says less than its brief form */

/* Dots of a body of rows x cols cells. Votes tell which trace a cell belongs to. */
struct grid {
    int rows, cols; /* cells */
    int dx, dy;     /* dots a cell */
    uint8_t *dots;
    uint8_t (*votes)[PLOT_TRACES];
};

static void dots_of(enum symbols symbols, int *dx, int *dy)
{
    *dx = symbols == SYMBOLS_ASCII ? 1 : 2;
    *dy = symbols == SYMBOLS_BRAILLE ? 4 : 2;
}

int plot_body_cols(int cols)
{
    return cols < GUTTER_LEAST ? cols : cols - GUTTER - 1;
}

size_t plot_columns(enum symbols symbols, int cols)
{
    int dx, dy, body = plot_body_cols(cols);
    dots_of(symbols, &dx, &dy);
    return body > 0 ? (size_t)(body * dx) : 0;
}

double plot_tick(double least)
{
    if (!(least > 0) || isinf(least))
        return 1;
    double decade = pow(10, floor(log10(least)));
    static const double steps[] = {1, 2, 5};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        /* a hair of tolerance: 0.3 / 0.1 is 2.9999999999999996 */
        if (least <= steps[i] * decade * (1 + 1e-9))
            return steps[i] * decade;
    }
    return 10 * decade;
}

static void grid_dot(struct grid *grid, int x, int y_up, size_t trace)
{
    static const uint8_t braille[4][2] = {{1, 8}, {2, 16}, {4, 32}, {64, 128}};
    int height = grid->rows * grid->dy;
    if (x < 0 || y_up < 0 || x >= grid->cols * grid->dx || y_up >= height)
        return;
    int y = height - 1 - y_up;
    size_t cell = (size_t)(y / grid->dy) * (size_t)grid->cols + (size_t)(x / grid->dx);
    int row = y % grid->dy, column = x % grid->dx;
    grid->dots[cell] |= grid->dy == 4   ? braille[row][column]
                        : grid->dx == 2 ? (uint8_t)(1 << (2 * row + column))
                                        : (uint8_t)(1 << row);
    if (grid->votes[cell][trace] < 255)
        grid->votes[cell][trace]++;
}

static uint32_t grid_symbol(const struct grid *grid, size_t cell)
{
    /* bits: upper left, upper right, lower left, lower right */
    static const uint16_t quadrants[16] = {' ',    0x2598, 0x259d, 0x2580, 0x2596, 0x258c,
                                           0x259e, 0x259b, 0x2597, 0x259a, 0x2590, 0x259c,
                                           0x2584, 0x2599, 0x259f, 0x2588};
    if (grid->dy == 4)
        return 0x2800u + grid->dots[cell];
    if (grid->dx == 2)
        return quadrants[grid->dots[cell] & 15];
    return (uint32_t) " '.:"[grid->dots[cell] & 3];
}

/* Height in dots of a value: rows of dots 0 .. height - 1. */
static int height_of(double value, double top, int height)
{
    double y = value / top * (height - 1);
    return !(y > 0) ? 0 : y > height - 1 ? height - 1 : (int)(y + 0.5);
}

static void draw_line(struct grid *grid, const struct series_cell *cells, size_t count,
                      size_t trace, double top)
{
    int height = grid->rows * grid->dy, before = -1;
    for (size_t i = 0; i < count; i++) {
        if (cells[i].count == 0) {
            before = -1;
            continue;
        }
        int low = height_of((double)cells[i].min, top, height);
        int high = height_of((double)cells[i].max, top, height);
        int mean = height_of((double)cells[i].mean, top, height);
        if (before >= 0) { /* no holes between neighbours */
            low = before + 1 < low ? before + 1 : low;
            high = before - 1 > high ? before - 1 : high;
        }
        for (int y = low; y <= high; y++)
            grid_dot(grid, (int)i, y, trace);
        before = mean;
    }
}

static void draw_stack(struct grid *grid, const struct plot *plot, size_t count, double top)
{
    int height = grid->rows * grid->dy;
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        int from = 0;
        for (size_t t = 0; t < plot->trace_count; t++) {
            const struct series_cell *cells = plot->traces[t].cells;
            if (cells == NULL || cells[i].count == 0 || !(cells[i].mean > 0))
                continue;
            sum += (double)cells[i].mean;
            int to = height_of(sum, top, height) + 1;
            for (int y = from; y < to; y++)
                grid_dot(grid, (int)i, y, t);
            from = to > from ? to : from;
        }
    }
}

static int compare_values(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The value that the axis must reach; NaN without data. That is the largest one, unless a few columns
 * tower over the others: a start-up spike must not flatten everything after it. Those are cut and
 * marked, and the title still tells the maximum. */
static double reach(const struct plot *plot, size_t count)
{
    double *tops = xcalloc(count, sizeof *tops);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        double top = 0;
        bool any = false;
        for (size_t t = 0; t < plot->trace_count; t++) {
            const struct series_cell *cells = plot->traces[t].cells;
            if (cells == NULL || cells[i].count == 0)
                continue;
            any = true;
            top = plot->kind == PLOT_STACKED ? top + (double)cells[i].mean
                                             : fmax(top, (double)cells[i].max);
        }
        if (any)
            tops[used++] = top;
    }
    qsort(tops, used, sizeof *tops, compare_values);
    double most = used > 0 ? tops[used - 1] : NAN;
    double usual = used > 0 ? tops[(used - 1) * 9 / 10] : NAN;
    if (plot->kind == PLOT_LINES && used >= 10 && most > 3 * usual && usual > 0)
        most = 1.25 * usual;
    free(tops);
    return most;
}

/* "now 0.81  min 0.80  mean 0.81  p95 0.92  max 1.40 ms", as much of it as fits. */
static int draw_numbers(struct canvas *canvas, int y, int x, int cols, const struct plot *plot)
{
    const char *const names[TITLE_PIECES] = {"now", "min", "mean", "p95", "max"};
    static const int wanted[TITLE_PIECES] = {0, 3, 4, 2, 1}; /* most wanted first */
    const struct summary *s = &plot->summary;
    const double values[TITLE_PIECES] = {plot->now, s->min, s->mean, s->p95, s->max};
    char texts[TITLE_PIECES][32];
    bool shown[TITLE_PIECES] = {false};
    double top = 0, factor;
    const char *unit;
    for (int i = 0; i < TITLE_PIECES; i++)
        top = fmax(top, isnan(values[i]) ? 0 : values[i]);
    unit_scale(plot->unit, top, &factor, &unit);
    int room = cols - 1 - utf8_columns(unit), used = 0;
    for (int k = 0; k < TITLE_PIECES; k++) {
        int i = wanted[k];
        if (isnan(values[i]))
            continue;
        unit_number(texts[i], sizeof texts[i], values[i] / factor);
        int width = (int)strlen(names[i]) + 1 + utf8_columns(texts[i]) + (used > 0 ? 2 : 0);
        if (used + width > room)
            break;
        used += width;
        shown[i] = true;
    }
    if (used == 0)
        return 0;
    int start = x;
    for (int i = 0; i < TITLE_PIECES; i++) {
        if (!shown[i])
            continue;
        x += x > start ? 2 : 0;
        x += canvas_text(canvas, y, x, 8, STYLE_LABEL, names[i]) + 1;
        x += canvas_text(canvas, y, x, 12, i == 0 ? STYLE_VALUE : STYLE_NORMAL, texts[i]);
    }
    x += 1 + canvas_text(canvas, y, x + 1, 6, STYLE_LABEL, unit);
    return x - start;
}

static void draw_title(struct canvas *canvas, struct rect rect, const struct plot *plot)
{
    int end = rect.x + rect.cols;
    int x = rect.x + canvas_text(canvas, rect.y, rect.x, rect.cols, STYLE_TITLE, plot->title) + 1;
    int used = draw_numbers(canvas, rect.y, x + 1, end - x - 1, plot);
    if (used > 0)
        x += used + 2;
    for (; x < end; x++)
        canvas_put(canvas, rect.y, x, 0x2500, STYLE_DIM);
}

/* Letters and names of the traces. Names that do not fit all are cut to the same width, or give way
 * to their brief forms. */
static void draw_legend(struct canvas *canvas, int y, int x, int cols, const struct plot *plot,
                        bool brief)
{
    int count = (int)plot->trace_count, wanted = 2 * (count - 1), end = x + cols;
    const char *names[PLOT_TRACES];
    for (int i = 0; i < count; i++) {
        names[i] = plot->traces[i].name;
        wanted += 2 + utf8_columns(names[i]);
    }
    bool crowded = wanted > cols && (cols - 2 * (count - 1)) / count - 2 < LEGEND_LEAST;
    for (int i = 0; i < count && wanted > cols && (brief || crowded); i++) {
        wanted -= utf8_columns(names[i]);
        names[i] = plot->traces[i].brief != NULL ? plot->traces[i].brief : names[i];
        wanted += utf8_columns(names[i]);
    }
    int most = wanted <= cols ? cols : (cols - 2 * (count - 1)) / count - 2;
    bool some = most < 2; /* not even two letters of each: the first ones as a whole */
    most = some ? cols : most;
    for (int i = 0; i < count && x < end; i++) {
        if (some && x + 2 + utf8_columns(names[i]) > end)
            break;
        canvas_put(canvas, y, x, 'a' + (uint32_t)i, plot->traces[i].style);
        canvas_flag(canvas, y, x, 1, CELL_BOLD);
        int room = most < end - x - 2 ? most : end - x - 2;
        x += 2 + canvas_text(canvas, y, x + 2, room, plot->traces[i].style, names[i]) + 2;
    }
}

static void format_ago(char *out, size_t size, double seconds)
{
    if (seconds < 0.0005)
        snprintf(out, size, "now");
    else if (seconds < 120)
        snprintf(out, size, "%gs", seconds);
    else if (seconds < 7200)
        snprintf(out, size, "%gm", seconds / 60);
    else
        snprintf(out, size, "%gh", seconds / 3600);
}

/* Seconds (minutes, hours) ago under the body. */
static void draw_time_axis(struct canvas *canvas, int y, int x, int cols, const struct plot *plot)
{
    double span = (double)plot->span_ns / 1e9, ago = (double)plot->ago_ns / 1e9;
    char left[32], right[32];
    format_ago(left, sizeof left - 4, ago + span);
    strcat(left, " ago");
    format_ago(right, sizeof right, ago);
    int right_cols = utf8_columns(right), left_cols = utf8_columns(left);
    canvas_text(canvas, y, x, cols, STYLE_DIM, left);
    canvas_text_right(canvas, y, x + cols - right_cols, right_cols, STYLE_DIM, right);
    int free_from = left_cols + 1, free_to = cols - right_cols - 1;
    double unit = ago + span >= 7200 ? 3600 : ago + span >= 120 ? 60 : 1;
    double step = plot_tick(span / unit * 12 / cols) * unit;
    for (double t = ceil(ago / step) * step; t < ago + span; t += step) {
        char text[32];
        format_ago(text, sizeof text, t);
        int width = utf8_columns(text);
        int at = cols - 1 - (int)((t - ago) / span * cols + 0.5) - width / 2;
        if (t > ago && at >= free_from && at + width <= free_to)
            canvas_text(canvas, y, x + at, width, STYLE_DIM, text);
    }
}

/* The value axis: a tick every `every` rows, `step` apart, from 0 in the last row on. */
struct axis {
    int every;
    double step, top; /* top: value of the first row */
};

/* The tightest axis of 1-2-5 steps that reaches `most`. */
static struct axis axis_for(double most, int rows, enum unit unit)
{
    struct axis best = {1, 1, 0};
    double factor;
    const char *name;
    unit_scale(unit, most, &factor, &name);
    for (int every = rows <= 4 ? 1 : 2; every <= (rows <= 4 ? 2 : 4) && every < rows; every++) {
        double ticks = (double)(rows - 1) / every;
        double step = plot_tick(most / factor / ticks) * factor;
        /* fewer ticks only for a picture that is a good deal larger */
        if (best.top == 0 || step * ticks < best.top * 0.75)
            best = (struct axis){every, step, step * ticks};
    }
    if (best.top == 0)
        best = (struct axis){1, most, most};
    return best;
}

static void draw_value_axis(struct canvas *canvas, struct rect body, const struct axis *axis,
                            enum unit unit)
{
    double factor;
    const char *name;
    for (int y = 0; y < body.rows; y++)
        canvas_put(canvas, body.y + y, body.x - 1, 0x2502, STYLE_DIM);
    if (axis == NULL)
        return;
    unit_scale(unit, axis->top, &factor, &name);
    for (int row = 0; row < body.rows; row += axis->every) {
        char text[32];
        int y = body.y + body.rows - 1 - row;
        snprintf(text, sizeof text, "%.4g", axis->step * (row / axis->every) / factor);
        canvas_text_right(canvas, y, body.x - GUTTER, GUTTER - 1, STYLE_DIM, text);
        canvas_put(canvas, y, body.x - 1, 0x2524, STYLE_DIM);
    }
}

/* A letter at the right end of each trace, at the height of its last value; a is never hidden. */
static void draw_letters(struct canvas *canvas, struct rect body, const struct plot *plot,
                         size_t columns, double top)
{
    int rows[PLOT_TRACES];
    double sum = 0;
    for (size_t t = 0; t < plot->trace_count; t++) {
        const struct series_cell *cells = plot->traces[t].cells;
        const struct series_cell *last = cells != NULL ? &cells[columns - 1] : NULL;
        if (last != NULL && last->count == 0 && columns > 1)
            last--; /* the newest window is still open */
        rows[t] = -1;
        if (last == NULL || last->count == 0)
            continue;
        double value = (double)last->mean;
        if (plot->kind == PLOT_STACKED) { /* the middle of its band */
            sum += value;
            value = sum - value / 2;
        }
        rows[t] = body.rows - 1 - height_of(value, top, body.rows);
    }
    for (size_t t = plot->trace_count; t-- > 0;) {
        if (rows[t] >= 0)
            canvas_put(canvas, body.y + rows[t], body.x + body.cols, 'a' + (uint32_t)t,
                       plot->traces[t].style);
    }
}

static void draw_body(struct canvas *canvas, struct rect body, const struct plot *plot,
                      size_t columns, double top)
{
    struct grid grid = {body.rows, body.cols, 0, 0, NULL, NULL};
    size_t count = (size_t)body.rows * (size_t)body.cols;
    dots_of(canvas->symbols, &grid.dx, &grid.dy);
    grid.dots = xcalloc(count, 1);
    grid.votes = xcalloc(count, sizeof *grid.votes);
    if (plot->kind == PLOT_STACKED) {
        draw_stack(&grid, plot, columns, top);
    } else {
        for (size_t t = 0; t < plot->trace_count; t++) {
            if (plot->traces[t].cells != NULL)
                draw_line(&grid, plot->traces[t].cells, columns, t, top);
        }
    }
    int limit = !isnan(plot->limit) && plot->limit <= top
                    ? body.rows - 1 - height_of(plot->limit, top, body.rows)
                    : -1;
    for (int y = 0; y < body.rows; y++) {
        for (int x = 0; x < body.cols; x++) {
            size_t cell = (size_t)y * (size_t)body.cols + (size_t)x;
            if (grid.dots[cell] != 0) {
                size_t best = 0;
                for (size_t t = 1; t < plot->trace_count; t++)
                    best = grid.votes[cell][t] > grid.votes[cell][best] ? t : best;
                /* without colours and fine dots a letter tells the areas apart */
                bool letter = plot->kind == PLOT_STACKED && canvas->symbols == SYMBOLS_ASCII;
                canvas_put(canvas, body.y + y, body.x + x,
                           letter ? 'a' + (uint32_t)best : grid_symbol(&grid, cell),
                           plot->traces[best].style);
            } else if (y == limit) {
                canvas_put(canvas, body.y + y, body.x + x, 0x2504, STYLE_WARNING);
            }
        }
    }
    free(grid.dots);
    free(grid.votes);
}

/* An arrow where a value is above the axis. */
static void mark_cut(struct canvas *canvas, struct rect body, const struct plot *plot,
                     size_t columns, double top)
{
    size_t dots = columns / (size_t)body.cols;
    for (size_t t = 0; t < plot->trace_count; t++) {
        const struct series_cell *cells = plot->traces[t].cells;
        for (size_t i = 0; cells != NULL && i < columns; i++) {
            if (cells[i].count > 0 && (double)cells[i].max > top * 1.001)
                canvas_put(canvas, body.y, body.x + (int)(i / dots), 0x25b4, plot->traces[t].style);
        }
    }
}

void plot_draw(struct canvas *canvas, struct rect rect, const struct plot *plot)
{
    if (rect.rows < 1 || rect.cols < 8)
        return;
    draw_title(canvas, rect, plot);
    int gutter = rect.cols < GUTTER_LEAST ? 0 : GUTTER;
    bool time_axis = rect.rows >= 4, legend = rect.rows >= 7 && plot->trace_count > 1;
    struct rect body = {rect.y + 1 + legend, rect.x + gutter, rect.rows - 1 - legend - time_axis,
                        plot_body_cols(rect.cols)};
    if (body.rows < 1 || body.cols < 1)
        return;
    size_t columns = plot_columns(canvas->symbols, rect.cols);
    if (legend)
        draw_legend(canvas, rect.y + 1, body.x, body.cols, plot, false);
    if (time_axis && !legend && plot->legend && plot->trace_count > 1)
        draw_legend(canvas, rect.y + rect.rows - 1, body.x, body.cols + 1, plot, true);
    else if (time_axis) /* a low plot has one row for both: the legend says more */
        draw_time_axis(canvas, rect.y + rect.rows - 1, body.x, body.cols, plot);
    double top = reach(plot, columns);
    if (isnan(top)) {
        if (gutter > 0)
            draw_value_axis(canvas, body, NULL, plot->unit);
        const char *empty = plot->empty != NULL ? plot->empty : "no data";
        int blank = (body.cols - utf8_columns(empty)) / 2;
        canvas_text(canvas, body.y + body.rows / 2, body.x + (blank > 0 ? blank : 0), body.cols,
                    STYLE_DIM, empty);
        return;
    }
    if (!isnan(plot->limit) && plot->limit > top && plot->limit < 2 * top)
        top = plot->limit;
    struct axis axis = axis_for(top > 0 ? top : 1, body.rows, plot->unit);
    if (gutter > 0)
        draw_value_axis(canvas, body, &axis, plot->unit);
    draw_body(canvas, body, plot, columns, axis.top);
    if (plot->kind == PLOT_LINES)
        mark_cut(canvas, body, plot, columns, axis.top);
    if (gutter > 0 && plot->trace_count > 1)
        draw_letters(canvas, body, plot, columns, axis.top);
}

size_t sparkline_columns(enum symbols symbols, int cols)
{
    (void)symbols; /* one column a cell in every set */
    return cols > 0 ? (size_t)cols : 0;
}

void sparkline_draw(struct canvas *canvas, int y, int x, int cols, enum style style,
                    const struct series_cell *cells)
{
    double top = 0;
    for (int i = 0; i < cols; i++) {
        if (cells[i].count > 0)
            top = fmax(top, (double)cells[i].max);
    }
    for (int i = 0; i < cols; i++) {
        if (cells[i].count == 0)
            continue;
        int level = top > 0 ? (int)((double)cells[i].mean / top * 7 + 0.5) : 0;
        level = level < 0 ? 0 : level > 7 ? 7 : level;
        uint32_t point = canvas->symbols == SYMBOLS_ASCII ? (uint32_t) "_..-=+*#"[level]
                                                          : 0x2581u + (uint32_t)level;
        canvas_put(canvas, y, x + i, point, style);
    }
}
