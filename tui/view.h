/* What panes are drawn from: a snapshot of everything they may look at, taken once a frame. A pane
 * is a pure function of (canvas, rectangle, view), so that a test can make a view by hand and read
 * the picture as text. Everything is borrowed for the frame. */
#ifndef LAYERTOP_TUI_VIEW_H
#define LAYERTOP_TUI_VIEW_H

#include "commands/workbench.h"
#include "tui/canvas.h"
#include "tui/layout.h"
#include "tui/log.h"
#include "tui/order.h"

#define VIEW_PLOTTED 4

enum focus { FOCUS_PROMPT, FOCUS_PANES, FOCUS_SEARCH, FOCUS_HELP };

enum sort_key { SORT_TIME, SORT_ORDER, SORT_NAME, SORT_FLOPS, SORT_BYTES, SORT_COUNT };
/* As the setting `sort` names them; NULL-terminated. */
extern const char *const sort_names[];

struct view {
    const struct store *store;
    const struct order *order;  /* what SORT_TIME goes by; NULL: time_ms of now */
    struct store_layer *layers; /* by view_take(): all layers, in model order */
    size_t layer_count;
    int *rows;    /* by view_take(): indices into layers of the table's rows, sorted by `sort` */
    int *by_time; /* the same rows by time */
    size_t row_count;
    int plotted[VIEW_PLOTTED]; /* by view_take(): layers in the plot of layer time, a, b, c, d */
    size_t plotted_count;
    const json_t *model, *plan; /* NULL: none */
    enum run_state state;
    struct replay_state replay;
    const char *recording; /* the file that a recording goes to, NULL: none */
    const char *notice;    /* "" or why the worker is gone */
    const char *model_name;
    char devices[64];     /* of the plan, else the setting */
    char device_name[96]; /* "NVIDIA H200, driver 580.65", "" if not known */
    char precision[16];
    int64_t batch;
    bool growth, fusion, graph;
    double limit_bytes; /* fence of the setting `limit` or NAN */
    double loading_s;   /* how long a load has been going on, NAN if none is */

    int64_t now_ns; /* right end of the plots when ago_ns is 0 */
    int64_t span_ns, ago_ns;
    enum sort_key sort;
    enum focus focus;
    int selected, top;  /* rows of the layer table */
    const char *search; /* "" : nothing is searched */

    const struct log *log;
    size_t log_back; /* lines scrolled back */
    size_t answer;   /* lines of the log that the last command line gave, with itself */
    double progress; /* 0..1, NAN: not known; below 0: nothing is going on */
    const char *progress_text;
};

/* Colours of the plotted layers, beside their letters in the table too. */
extern const enum style view_plot_styles[VIEW_PLOTTED];

/* Read the layers of view->store and sort the rows of the table: all layers but those that are folded
 * into another. Times that are not known come last, in model order. The layers that are plotted are
 * the chosen one while the panes have the focus, then those that cost most. view_drop() frees all. */
void view_take(struct view *view);
void view_drop(struct view *view);

/* Bring `selected` and `top` into [0, count) and the selected row into `rows` rows. */
void view_clamp_rows(int *selected, int *top, size_t count, int rows);

/* Rows of layers that the table shows in a rectangle. */
int pane_layers_rows(struct rect rect);

void pane_header_draw(struct canvas *canvas, struct rect rect, const struct view *view);
/* What a screen says that is too small for panes. */
void pane_small_draw(struct canvas *canvas, struct rect rect, const struct view *view);
void pane_layers_draw(struct canvas *canvas, struct rect rect, const struct view *view);
/* What is known of the chosen layer. */
void pane_detail_draw(struct canvas *canvas, struct rect rect, const struct view *view);
void pane_layer_time_draw(struct canvas *canvas, struct rect rect, const struct view *view);
void pane_memory_draw(struct canvas *canvas, struct rect rect, const struct view *view);
void pane_throughput_draw(struct canvas *canvas, struct rect rect, const struct view *view);
void pane_log_draw(struct canvas *canvas, struct rect rect, const struct view *view);
/* Rows that the last `lines` lines of the log take on `cols` columns; counts no further than 1000. */
int pane_log_rows(const struct log *log, size_t lines, int cols);
/* The key bar, or progress while there is some. */
void pane_bar_draw(struct canvas *canvas, struct rect rect, const struct view *view);
/* Everything of a layout but the prompt and help. */
void panes_draw(struct canvas *canvas, const struct layout *layout, const struct view *view);

/* Help, made from the tables of keys, commands and settings. `top` is the first line shown; returns
 * the number of lines there are. */
int pane_help_draw(struct canvas *canvas, struct rect rect, int top);

#endif
