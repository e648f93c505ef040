/* The screen: one loop around terminal, timer, worker and signals, in the front's one thread. It is
 * split in two files: screen.c holds the loop and the frame, actions.c what keys do to it. */
#ifndef LAYERTOP_TUI_SCREEN_H
#define LAYERTOP_TUI_SCREEN_H

#include "commands/command.h"
#include "tui/input.h"
#include "tui/layout.h"
#include "tui/lineedit.h"
#include "tui/log.h"
#include "tui/terminal.h"
#include "tui/view.h"

struct history;

struct screen {
    struct workbench *workbench;
    struct history *history; /* borrowed from the workbench */
    struct terminal *terminal;
    struct canvas *canvas;
    struct log *log;
    struct lineedit *editor, *search; /* the prompt's line, the pattern after '/' */
    struct input_decoder decoder;
    struct sink sink;

    int rows, cols;
    struct layout layout;
    struct layout_wish wish;
    bool
        unused; /* started without a model, and none has come: there is nothing but the log to see */
    bool details; /* somebody asked for those of the chosen layer */
    enum focus focus, focus_before_help;
    int selected, top, help_top, help_lines;
    size_t log_back;
    size_t answer;   /* lines since a command line, as long as its commands run */
    bool answered;   /* they have ended: what comes now belongs to nobody */
    int64_t held_ns; /* right end of the plots while somebody looks back, 0: now */
    struct order order;
    int followed;     /* layer that the selection stays on while rows move, -1: none was chosen */
    int followed_row; /* where it was in the last frame */
    double progress;  /* as in struct view */
    char progress_text[256];
    int64_t interrupt_ns; /* when Ctrl-C came and nothing was running; 0: not lately */

    bool not_found; /* no layer has the pattern */
    bool keyed;     /* a key came: draw at once */
    bool dirty;     /* something changed: draw on the next tick */
    bool suspend, gone;
    int end_signal; /* the signal that ends us, 0 if none */
    uint64_t store_seen, log_seen;
    enum run_state state_seen;
    int64_t drawn_ns, read_ns; /* of the last frame, of the last bytes from the terminal */
};

/* Fill a view of the present state; view_take() is called, view_drop() is the caller's. */
void screen_view(const struct screen *screen, struct view *view);

/* A key: edits, moves the focus, or submits a command line. */
void screen_key(void *screen, const struct input *key);

/* Write a line typed, or made by a key, into the log and hand it to the commands. */
void screen_submit(struct screen *screen, const char *line);

#endif
