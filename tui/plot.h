/* Plots in a rectangle of cells: lines and stacked areas over time, and sparklines.
 *
 * A plot is drawn into a grid of dots, 2 x 4 a cell in braille, 2 x 2 in quadrant blocks, 1 x 2 in
 * ASCII. Each column of dots shows everything that fell into its time: the span from minimum to
 * maximum, so that a spike survives any zoom. A column without data is a gap.
 * Pure: values come as arrays, one element a column of dots, oldest first.
 */
#ifndef LAYERTOP_TUI_PLOT_H
#define LAYERTOP_TUI_PLOT_H

#include "profiler/store.h"
#include "tui/canvas.h"
#include "tui/units.h"

#define PLOT_TRACES 10

enum plot_kind { PLOT_LINES, PLOT_STACKED };

struct plot_trace {
    const char *name;  /* in the legend */
    const char *brief; /* the same where room is short; may be NULL */
    enum style style;
    const struct series_cell *cells; /* plot_columns() of them; NULL: no data at all */
};

struct plot {
    enum plot_kind kind;
    const char *title;
    enum unit unit;
    double now;             /* shown in the title; NaN: not known */
    struct summary summary; /* min, mean, p95, max of the title; NaN members are left out */
    struct plot_trace traces[PLOT_TRACES]; /* a stack is built from the first one upwards */
    size_t trace_count;
    bool legend;       /* a low plot shows the legend in place of the time axis */
    double limit;      /* a dotted line, NaN: none; stretches the axis only if the data are
                               above half of it */
    int64_t span_ns;   /* width of the time axis */
    int64_t ago_ns;    /* age of its right end */
    const char *empty; /* what to say while there are no data */
};

/* Columns of cells a plot of `cols` columns leaves for the data, and dots in them. */
int plot_body_cols(int cols);
size_t plot_columns(enum symbols symbols, int cols);

void plot_draw(struct canvas *canvas, struct rect rect, const struct plot *plot);

/* The smallest 1, 2 or 5 times a power of ten that is at least `least`; 1 if that is no positive
 * number. */
double plot_tick(double least);

/* One row of `cols` cells showing `cells` (one per column: sparkline_columns()) scaled to their
 * maximum. A gap is a blank. */
size_t sparkline_columns(enum symbols symbols, int cols);
void sparkline_draw(struct canvas *canvas, int y, int x, int cols, enum style style,
                    const struct series_cell *cells);

#endif
