/* A canvas: a grid of cells that panes draw into and the terminal shows. Nothing here knows a
 * terminal, so a test can draw and read the result as text.
 *
 * Coordinates are absolute (row y from the top, column x from the left); what falls outside the clip
 * rectangle is dropped, so a pane cannot damage its neighbours. One thread.
 */
#ifndef LAYERTOP_TUI_CANVAS_H
#define LAYERTOP_TUI_CANVAS_H

#include "tui/theme.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rect {
    int y, x, rows, cols;
};

/* What plots and bars are made of; each set works wherever the ones after it do. */
enum symbols { SYMBOLS_BRAILLE, SYMBOLS_BLOCK, SYMBOLS_ASCII };

enum { CELL_REVERSE = 1, CELL_BOLD = 2 };

struct canvas_cell {
    uint32_t point; /* code point; 0: the right half of a wide character */
    uint32_t mark;  /* a combining character over it, or 0 */
    uint8_t style;  /* enum style */
    uint8_t flags;  /* CELL_* */
};

struct canvas {
    int rows, cols;
    enum symbols symbols; /* with ASCII, typographic characters become their ASCII likes */
    struct rect clip;
    uint8_t flags; /* CELL_* added to every cell that is put */
    struct canvas_cell *cells;
};

struct canvas *canvas_new(void);
void canvas_free(struct canvas *canvas);
/* Give it a size (at least 1 x 1) and blank cells, and the whole of it as clip. */
void canvas_reset(struct canvas *canvas, int rows, int cols, enum symbols symbols);
/* Limit drawing to `rect` (cut to the canvas). */
void canvas_clip(struct canvas *canvas, struct rect rect);

/* Put one character. Control characters become a blank. A wide one that would be cut is a blank. */
void canvas_put(struct canvas *canvas, int y, int x, uint32_t point, enum style style);
/* Put text in at most `cols` columns; text that does not fit ends in an ellipsis. Returns the columns
 * used. Malformed UTF-8 shows as U+FFFD. */
int canvas_text(struct canvas *canvas, int y, int x, int cols, enum style style, const char *text);
/* The same for printf-like text of at most 511 bytes. */
int canvas_textf(struct canvas *canvas, int y, int x, int cols, enum style style,
                 const char *format, ...) __attribute__((format(printf, 6, 7)));
/* Right-aligned in exactly `cols` columns. */
void canvas_text_right(struct canvas *canvas, int y, int x, int cols, enum style style,
                       const char *text);
void canvas_fill(struct canvas *canvas, struct rect rect, uint32_t point, enum style style);
/* A horizontal bar over `cols` columns filled to fraction 0..1, in eighths where the symbols allow. */
void canvas_bar(struct canvas *canvas, int y, int x, int cols, double fraction, enum style style);
/* Set CELL_* on cells that are already drawn. */
void canvas_flag(struct canvas *canvas, int y, int x, int cols, uint8_t flags);

/* The screen as text: rows ended by newlines, blanks at the ends of rows cut. To be freed. */
char *canvas_to_text(const struct canvas *canvas);

#endif
