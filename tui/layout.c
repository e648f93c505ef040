#include "tui/layout.h"

#define PLOT_ROWS 4 /* the least: title, two rows of data, time axis */

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* Share `rows` among as many plots of at least `least` rows as fit; the first get what is left. */
static void stack_plots(struct layout *out, struct rect room, int least)
{
    int count = clamp(room.rows / least, 0, LAYOUT_PLOTS);
    int y = room.y, left = room.rows;
    for (int i = 0; i < count; i++) {
        int rows = (left + (count - i) - 1) / (count - i);
        out->plots[i] = (struct rect){y, room.x, rows, room.cols};
        y += rows;
        left -= rows;
    }
}

/* Side by side under a table that is as wide as the screen. */
static void line_up_plots(struct layout *out, struct rect room)
{
    int count = clamp(room.cols / 28, 1, LAYOUT_PLOTS);
    int x = room.x, left = room.cols - (count - 1);
    for (int i = 0; i < count; i++) {
        int cols = (left + (count - i) - 1) / (count - i);
        out->plots[i] = (struct rect){room.y, x, room.rows, cols};
        x += cols + 1;
        left -= cols;
    }
}

/* A heading and two layers stay above. */
static void split_table(struct layout *out)
{
    int rows = clamp(out->table.rows - 3, 0, LAYOUT_DETAIL_ROWS);
    if (rows < 2)
        return;
    out->table.rows -= rows;
    out->detail =
        (struct rect){out->table.y + out->table.rows, out->table.x, rows, out->table.cols};
}

void layout_compute(int rows, int cols, const struct layout_wish *wish, struct layout *out)
{
    *out = (struct layout){0};
    rows = rows < 1 ? 1 : rows;
    cols = cols < 1 ? 1 : cols;
    out->cramped = rows < LAYOUT_GOOD_ROWS || cols < LAYOUT_GOOD_COLS;
    out->prompt = (struct rect){rows - 1, 0, 1, cols};
    if (rows < LAYOUT_MIN_ROWS || cols < LAYOUT_MIN_COLS) {
        out->too_small = true;
        out->header = (struct rect){0, 0, rows - 1, cols};
        return;
    }
    out->bar = (struct rect){rows - 1, 0, 1, cols};
    out->prompt.y = rows - 2;

    int header = (rows >= 20 ? 3 : 2) + (wish->notice ? 1 : 0);
    out->header = (struct rect){0, 0, header, cols};

    int log = wish->tall_log ? rows / 2 : clamp(rows / 5, 2, 14);
    if (!out->cramped && wish->answer + 1 > log + LAYOUT_HIDDEN_ROWS && log < rows / 2)
        log = clamp(wish->answer + 1, log, rows / 2); /* below the log's rule */
    log = clamp(log, 2, rows - 2 - header - 2);       /* a heading and a layer stay */
    int body = rows - 2 - header - log;
    out->log = (struct rect){header + body, 0, log, cols};

    struct rect room = {header, 0, body, cols};
    if (wish->wide_table) {
        out->table = room;
    } else if (cols >= LAYOUT_GOOD_COLS && body >= PLOT_ROWS) {
        int plots = clamp(cols * 42 / 100, 32, 110);
        out->table = (struct rect){room.y, 0, body, cols - plots - 1};
        stack_plots(out, (struct rect){room.y, cols - plots, body, plots}, PLOT_ROWS);
    } else if (body >= 11) {
        out->table = (struct rect){room.y, 0, body - 5, cols};
        line_up_plots(out, (struct rect){room.y + body - 5, 0, 5, cols});
    } else {
        out->table = room;
    }
    if (wish->detail)
        split_table(out);
}
