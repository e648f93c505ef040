#include "tui/canvas.h"
#include "engine/error.h"
#include "tui/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct canvas *canvas_new(void)
{
    struct canvas *canvas = xcalloc(1, sizeof *canvas);
    canvas_reset(canvas, 1, 1, SYMBOLS_ASCII);
    return canvas;
}

void canvas_free(struct canvas *canvas)
{
    if (canvas == NULL)
        return;
    free(canvas->cells);
    free(canvas);
}

void canvas_reset(struct canvas *canvas, int rows, int cols, enum symbols symbols)
{
    rows = rows < 1 ? 1 : rows;
    cols = cols < 1 ? 1 : cols;
    if (canvas->cells == NULL || rows != canvas->rows || cols != canvas->cols) {
        canvas->rows = rows;
        canvas->cols = cols;
        canvas->cells =
            xrealloc(canvas->cells, (size_t)rows * (size_t)cols * sizeof *canvas->cells);
    }
    canvas->symbols = symbols;
    canvas->flags = 0;
    canvas->clip = (struct rect){0, 0, rows, cols};
    struct canvas_cell blank = {' ', 0, STYLE_NORMAL, 0};
    for (size_t i = 0; i < (size_t)rows * (size_t)cols; i++)
        canvas->cells[i] = blank;
}

void canvas_clip(struct canvas *canvas, struct rect rect)
{
    int bottom = rect.y + rect.rows, right = rect.x + rect.cols;
    rect.y = rect.y < 0 ? 0 : rect.y;
    rect.x = rect.x < 0 ? 0 : rect.x;
    bottom = bottom > canvas->rows ? canvas->rows : bottom;
    right = right > canvas->cols ? canvas->cols : right;
    rect.rows = bottom > rect.y ? bottom - rect.y : 0;
    rect.cols = right > rect.x ? right - rect.x : 0;
    canvas->clip = rect;
}

/* The ASCII character that stands for one of ours; others are left alone. */
static uint32_t ascii_like(uint32_t point)
{
    switch (point) {
    case 0x2013: /* – */
    case 0x2500: /* ─ */
    case 0x2504: /* ┄ */
    case 0x2212: /* − */
        return '-';
    case 0x00b7: /* · */
        return '.';
    case 0x2026: /* … */
        return '~';
    case 0x2502: /* │ */
    case 0x2524: /* ┤ */
        return '|';
    case 0x2514: /* └ */
    case 0x251c: /* ├ */
    case 0x252c: /* ┬ */
    case 0x2534: /* ┴ */
        return '+';
    case 0x00d7: /* × */
        return 'x';
    case 0x00b5: /* µ */
        return 'u';
    case 0x2022: /* • */
    case 0x25cf: /* ● */
        return '*';
    case 0x25b8: /* ▸ */
        return '>';
    case 0x25be: /* ▾ */
    case 0x2193: /* ↓ */
        return 'v';
    case 0x25b4: /* ▴ */
    case 0x2191: /* ↑ */
        return '^';
    case 0x23ce: /* ⏎ */
        return '|';
    case 0x00b0: /* ° */
        return ' ';
    case 0x2192: /* → */
        return '>';
    case 0x2265: /* ≥ */
        return '>';
    case 0x2264: /* ≤ */
        return '<';
    default:
        return point;
    }
}

static struct canvas_cell *cell_at(struct canvas *canvas, int y, int x)
{
    const struct rect *clip = &canvas->clip;
    if (y < clip->y || x < clip->x || y >= clip->y + clip->rows || x >= clip->x + clip->cols)
        return NULL;
    return &canvas->cells[(size_t)y * (size_t)canvas->cols + (size_t)x];
}

/* A wide character loses its other half when one half is overwritten. */
static void split_wide(struct canvas *canvas, int y, int x)
{
    struct canvas_cell *row = &canvas->cells[(size_t)y * (size_t)canvas->cols];
    if (row[x].point == 0 && x > 0)
        row[x - 1].point = ' ';
    if (x + 1 < canvas->cols && row[x + 1].point == 0)
        row[x + 1].point = ' ';
}

void canvas_put(struct canvas *canvas, int y, int x, uint32_t point, enum style style)
{
    struct canvas_cell *cell = cell_at(canvas, y, x);
    if (cell == NULL)
        return;
    if (canvas->symbols == SYMBOLS_ASCII && point >= 0x80)
        point = ascii_like(point);
    int width = utf8_width(point);
    if (width == 2 && cell_at(canvas, y, x + 1) == NULL)
        width = 0;
    split_wide(canvas, y, x);
    if (width == 2) {
        split_wide(canvas, y, x + 1);
        cell[1] = (struct canvas_cell){0, 0, (uint8_t)style, canvas->flags};
    }
    *cell = (struct canvas_cell){width == 0 ? ' ' : point, 0, (uint8_t)style, canvas->flags};
}

int canvas_text(struct canvas *canvas, int y, int x, int cols, enum style style, const char *text)
{
    size_t bytes = strlen(text);
    bool cut = utf8_columns(text) > cols;
    int room = cut ? cols - 1 : cols, used = 0;
    if (cols <= 0)
        return 0;
    while (bytes > 0) {
        uint32_t point;
        size_t length = utf8_decode(text, bytes, &point);
        text += length;
        bytes -= length;
        int width = utf8_width(point);
        if (width == 0) {
            struct canvas_cell *before = used > 0 ? cell_at(canvas, y, x + used - 1) : NULL;
            if (before != NULL && before->mark == 0 && point >= 0x300 && point < 0x2000)
                before->mark = point;
            continue;
        }
        if (used + width > room)
            break;
        canvas_put(canvas, y, x + used, point, style);
        used += width;
    }
    if (cut)
        canvas_put(canvas, y, x + used++, 0x2026, style);
    return used;
}

int canvas_textf(struct canvas *canvas, int y, int x, int cols, enum style style,
                 const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return canvas_text(canvas, y, x, cols, style, text);
}

void canvas_text_right(struct canvas *canvas, int y, int x, int cols, enum style style,
                       const char *text)
{
    int blank = cols - utf8_columns(text);
    canvas_text(canvas, y, x + (blank > 0 ? blank : 0), blank > 0 ? cols - blank : cols, style,
                text);
}

void canvas_fill(struct canvas *canvas, struct rect rect, uint32_t point, enum style style)
{
    for (int y = rect.y; y < rect.y + rect.rows; y++) {
        for (int x = rect.x; x < rect.x + rect.cols; x++)
            canvas_put(canvas, y, x, point, style);
    }
}

void canvas_bar(struct canvas *canvas, int y, int x, int cols, double fraction, enum style style)
{
    if (!(fraction > 0) || cols <= 0)
        return;
    fraction = fraction > 1 ? 1 : fraction;
    int eighths = (int)(fraction * cols * 8 + 0.5);
    eighths = eighths < 1 ? 1 : eighths; /* something is never nothing */
    for (int i = 0; i < cols && eighths > 0; i++, eighths -= 8) {
        uint32_t point = eighths >= 8 ? 0x2588 : 0x2590 - (uint32_t)eighths;
        if (canvas->symbols == SYMBOLS_ASCII)
            point = eighths >= 4 || i == 0 ? '#' : ' ';
        canvas_put(canvas, y, x + i, point, style);
    }
}

void canvas_flag(struct canvas *canvas, int y, int x, int cols, uint8_t flags)
{
    for (int i = 0; i < cols; i++) {
        struct canvas_cell *cell = cell_at(canvas, y, x + i);
        if (cell != NULL)
            cell->flags |= flags;
    }
}

char *canvas_to_text(const struct canvas *canvas)
{
    char *text = xmalloc((size_t)canvas->rows * ((size_t)canvas->cols * 8 + 1) + 1), *end = text;
    for (int y = 0; y < canvas->rows; y++) {
        const struct canvas_cell *row = &canvas->cells[(size_t)y * (size_t)canvas->cols];
        int last = canvas->cols;
        while (last > 0 && row[last - 1].point == ' ')
            last--;
        for (int x = 0; x < last; x++) {
            if (row[x].point != 0)
                end += utf8_encode(row[x].point, end);
            if (row[x].mark != 0)
                end += utf8_encode(row[x].mark, end);
        }
        *end++ = '\n';
    }
    *end = '\0';
    return text;
}
