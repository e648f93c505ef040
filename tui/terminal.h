/* The terminal: opened on /dev/tty, put into the state a screen needs, shown canvases, and put back
 * as it was whatever happens, a crash included. It takes from ncurses what is known of each kind of
 * terminal (terminfo); which cells changed is known from the canvases themselves, so that a frame is
 * one write and costs a third. Keys are decoded by input.c. What anybody prints on descriptors 1 and 2 while the screen is
 * shown comes out of terminal_noise_fd(). One terminal at a time, one thread. */
#ifndef LAYERTOP_TUI_TERMINAL_H
#define LAYERTOP_TUI_TERMINAL_H

#include "engine/error.h"
#include "tui/canvas.h"

struct terminal;

/* Is there a terminal at /dev/tty of a known kind that can move its cursor? */
bool terminal_possible(void);

/* NULL with ERROR_UNSUPPORTED if there is no terminal or it cannot move its cursor. Sets LC_CTYPE
 * from the environment. */
struct terminal *terminal_open(struct error *error);
/* Put everything back. With `gone` nothing is written any more: the terminal went away. */
void terminal_close(struct terminal *terminal, bool gone);

int terminal_fd(const struct terminal *terminal);       /* keys, not blocking */
int terminal_noise_fd(const struct terminal *terminal); /* what was printed, not blocking */
/* The size the terminal has now. */
void terminal_size(struct terminal *terminal, int *rows, int *cols);
/* The symbols its locale and kind allow: what `set symbols auto` means. */
enum symbols terminal_symbols(const struct terminal *terminal);

/* Colours of a theme; `color` false or NO_COLOR in the environment: attributes only. */
void terminal_set_theme(struct terminal *terminal, const char *theme, bool color);
void terminal_set_mouse(struct terminal *terminal, bool on);
/* The terminal said that it knows synchronized output (mode 2026): frames come in one piece. */
void terminal_set_sync(struct terminal *terminal, bool known);

/* Show a canvas of the terminal's size with the cursor at y, x (y < 0: hidden), sending what
 * differs from what is there. Returns false if the terminal takes no output now: try again later. */
bool terminal_show(struct terminal *terminal, const struct canvas *canvas, int y, int x);
/* Forget what is there: the next frame is sent whole. */
void terminal_redraw(struct terminal *terminal);
/* Leave the screen to the shell and come back. */
void terminal_suspend(struct terminal *terminal);
void terminal_resume(struct terminal *terminal);
void terminal_bell(struct terminal *terminal);

#endif
