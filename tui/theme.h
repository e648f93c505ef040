/* Semantic colours. Whoever draws names what a cell means; a theme says how that looks on a
 * terminal with none, 8, 16, 256 or all colours. No theme assumes a dark background. Pure. */
#ifndef LAYERTOP_TUI_THEME_H
#define LAYERTOP_TUI_THEME_H

#include <stdbool.h>
#include <stdint.h>

enum style {
    STYLE_NORMAL,
    STYLE_DIM,     /* what matters less: borders, units, axes */
    STYLE_TITLE,   /* titles of panes */
    STYLE_VALUE,   /* the number one came for */
    STYLE_LABEL,   /* names of values */
    STYLE_HEADING, /* the heading row of a table */
    STYLE_ACCENT,  /* the program's name, the focused pane's title */
    STYLE_GOOD,    /* live, steady */
    STYLE_WARNING, /* believe with care */
    STYLE_ERROR,
    STYLE_HINT, /* a command to type */
    STYLE_ECHO, /* a command line that was typed */
    STYLE_PROMPT,
    STYLE_KEY,      /* names of keys in the bar */
    STYLE_MATCH,    /* what a search found */
    STYLE_HEAT_LOW, /* share of the time: low, middle, high */
    STYLE_HEAT_MIDDLE,
    STYLE_HEAT_HIGH,
    STYLE_SERIES_A, /* series of plots, classes of the ledger */
    STYLE_SERIES_B,
    STYLE_SERIES_C,
    STYLE_SERIES_D,
    STYLE_SERIES_E,
    STYLE_SERIES_F,
    STYLE_COUNT
};

enum { LOOK_BOLD = 1, LOOK_DIM = 2, LOOK_REVERSE = 4, LOOK_UNDERLINE = 8 };

/* How a style looks. */
struct look {
    int color;      /* colour number of the terminal, or -1: the default foreground */
    unsigned flags; /* LOOK_* */
};

/* The look of `style` in `theme` ("default", "mono", "colourblind"; unknown names are "default") on a
 * terminal with `colors` colours: 0 or "mono" gives attributes only, 2^24 gives 0xRRGGBB. The colours
 * of "colourblind" are those of Okabe and Ito (2008), told apart with every kind of colour vision. */
struct look theme_look(const char *theme, enum style style, int colors);

/* NULL-terminated names of the themes. */
extern const char *const theme_names[];

#endif
