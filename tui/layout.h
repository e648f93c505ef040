/* Where everything stands: a pure function of the screen's size and a few wishes. For every size
 * from 1 x 1 on, the rectangles lie inside the screen and no two of them overlap. */
#ifndef LAYERTOP_TUI_LAYOUT_H
#define LAYERTOP_TUI_LAYOUT_H

#include "tui/canvas.h"

/* Below this size everything still works, but the screen says that it needs more room. */
#define LAYOUT_GOOD_ROWS 24
#define LAYOUT_GOOD_COLS 80
/* Below this size there is a line that says so and the prompt, and nothing else. */
#define LAYOUT_MIN_ROWS  10
#define LAYOUT_MIN_COLS  40

#define LAYOUT_DETAIL_ROWS 6 /* at most */

#define LAYOUT_HIDDEN_ROWS 2

#define LAYOUT_PLOTS 3 /* layer time, memory, throughput: dropped from the last on */

struct layout_wish {
    bool notice;     /* there is a notice: the header gets a row for it */
    bool wide_table; /* the table takes the room of the plots */
    bool tall_log;   /* the log takes half of the screen */
    bool detail;     /* details of a layer below the table */
    int answer;      /* rows of the last answer: if more than LAYOUT_HIDDEN_ROWS of them would be
                        hidden, the log takes up to half of the screen */
};

struct layout { /* a rectangle without rows is not shown */
    struct rect header, table, detail, plots[LAYOUT_PLOTS], log, prompt, bar;
    bool too_small; /* header holds the message, everything else but the prompt is empty */
    bool cramped;   /* smaller than good */
};

void layout_compute(int rows, int cols, const struct layout_wish *wish, struct layout *out);

#endif
