/* What a terminal sends, turned into keys: a pure decoder of bytes, so that it can be tested and
 * fuzzed, and the same for the screen and for the line-mode prompt. It knows the sequences of xterm
 * and its descendants (tmux, screen, rxvt, the Linux console among them), bracketed paste, SGR mouse
 * reports and the replies to the questions that terminal.c asks. Unknown sequences are swallowed
 * whole. One thread. */
#ifndef LAYERTOP_TUI_INPUT_H
#define LAYERTOP_TUI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum input_code {
    INPUT_CHAR, /* `point`; Ctrl-A is INPUT_CHAR 1, with the names below for the usual ones */
    INPUT_ENTER,
    INPUT_TAB,
    INPUT_BACKTAB,
    INPUT_ESCAPE,
    INPUT_BACKSPACE,
    INPUT_DELETE,
    INPUT_INSERT,
    INPUT_UP,
    INPUT_DOWN,
    INPUT_LEFT,
    INPUT_RIGHT,
    INPUT_HOME,
    INPUT_END,
    INPUT_PAGE_UP,
    INPUT_PAGE_DOWN,
    INPUT_F1, /* F2 is INPUT_F1 + 1, up to F12 */
    INPUT_F12 = INPUT_F1 + 11,
    INPUT_PRESS,    /* mouse button `point` (0 left, 1 middle, 2 right) at y, x */
    INPUT_WHEEL_UP, /* at y, x */
    INPUT_WHEEL_DOWN,
    INPUT_SYNC_MODE, /* DECRQM reply for mode 2026: point is 1 if the terminal knows it */
};

struct input {
    enum input_code code;
    uint32_t point;
    bool alt, control, shift; /* alt: ESC came before; the others only with named keys */
    bool pasted;              /* came between paste brackets: text, whatever it is */
    int y, x;
};

#define CONTROL(letter) ((uint32_t)(letter)&31u)

struct input_decoder {
    unsigned char bytes[64];
    size_t count;
    bool paste;
};

typedef void input_handler(void *context, const struct input *input);

/* Decode bytes and call `handler` for every key that is complete. */
void input_feed(struct input_decoder *decoder, const char *bytes, size_t count,
                input_handler *handler, void *context);
/* Is a sequence unfinished? Then input_flush() should come about 25 ms later: an ESC alone is the
 * Escape key, and only time tells it from the start of a sequence. */
bool input_pending(const struct input_decoder *decoder);
void input_flush(struct input_decoder *decoder, input_handler *handler, void *context);

#endif
