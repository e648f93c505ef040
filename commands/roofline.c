#include "commands/roofline.h"

#include "engine/error.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 9 /* columns of the labels on the left, with their axis */
#define DOTS_X 2 /* of a cell, in braille */
#define DOTS_Y 4

const char *roofline_bound_name(enum roofline_bound bound)
{
    static const char *const names[BOUND_COUNT] = {"unknown", "compute", "memory", "cache",
                                                   "overhead"};
    return names[bound];
}

void roofline_place(const struct roofline *roof, double flops, double bytes, double time_ms,
                    struct roofline_place *out)
{
    double seconds = time_ms / 1e3;
    *out = (struct roofline_place){NAN, NAN, NAN, NAN, NAN, BOUND_UNKNOWN};
    if (!(seconds > 0))
        return;
    out->flops_per_s = flops / seconds;
    out->bytes_per_s = bytes / seconds;
    out->intensity = bytes > 0 ? flops / bytes : (double)NAN;
    if (!(roof->flops_per_s > 0) || !(roof->bytes_per_s > 0) || !(flops > 0 || bytes > 0))
        return;
    double computing = flops / roof->flops_per_s, moving = bytes / roof->bytes_per_s;
    enum roofline_bound slow = BOUND_MEMORY;
    if (moving > ROOFLINE_CACHE * seconds && roof->cache_bytes_per_s > 0) {
        moving = bytes / roof->cache_bytes_per_s;
        slow = BOUND_CACHE;
    }
    double least = fmax(computing, moving);
    out->attainable = flops / least;
    out->share = least / seconds;
    out->bound = out->share < ROOFLINE_NEAR ? BOUND_OVERHEAD
                 : computing >= moving      ? BOUND_COMPUTE
                                            : slow;
}

/* ---- drawing ---- */

struct drawing {
    int cols, rows;    /* of the body */
    double left, low;  /* logarithms (10) at the left and lower edge */
    double wide, high; /* decades */
    bool utf8;
    uint8_t *dots; /* braille bits of each cell; with ASCII: a character */
    char *letters;
};

static size_t cell(const struct drawing *drawing, int row, int col)
{
    return (size_t)row * (size_t)drawing->cols + (size_t)col;
}

/* Which of `size` steps a value falls into; -1: outside. */
static int step_of(double value, double from, double decades, int size)
{
    double at = (log10(value) - from) / decades * size;
    return isfinite(at) && at >= 0 && at < size ? (int)at : -1;
}

static void put_dot(struct drawing *drawing, int x, int y, bool flat)
{
    static const uint8_t bits[DOTS_Y][DOTS_X] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    size_t at = cell(drawing, y / DOTS_Y, x / DOTS_X);
    drawing->dots[at] = drawing->utf8 ? drawing->dots[at] | bits[y % DOTS_Y][x % DOTS_X]
                                      : (uint8_t)(flat ? '-' : '.');
}

/* The roof over each column of dots; a dashed one leaves out every other pair. */
static void draw_roof(struct drawing *drawing, double flops_per_s, double bytes_per_s, bool dashed)
{
    int columns = drawing->cols * DOTS_X, heights = drawing->rows * DOTS_Y;
    for (int x = 0; x < columns && bytes_per_s > 0; x++) {
        double intensity = pow(10, drawing->left + (x + 0.5) / columns * drawing->wide);
        double memory = intensity * bytes_per_s;
        int y = step_of(fmin(flops_per_s, memory), drawing->low, drawing->high, heights);
        bool left_out = dashed && (memory >= flops_per_s || x % 4 >= 2);
        if (y >= 0 && !left_out)
            put_dot(drawing, x, heights - 1 - y, memory >= flops_per_s);
    }
}

static void draw_marks(struct drawing *drawing, const struct roofline_mark *marks, size_t count)
{
    for (size_t i = count; i-- > 0;) { /* the first over the others */
        int col = step_of(marks[i].intensity, drawing->left, drawing->wide, drawing->cols);
        int row = step_of(marks[i].flops_per_s, drawing->low, drawing->high, drawing->rows);
        if (col >= 0 && row >= 0)
            drawing->letters[cell(drawing, drawing->rows - 1 - row, col)] = marks[i].letter;
    }
}

/* "1", "100", "10 k", "1 T" for a power of ten. */
static char *decade_text(int decade, char *out, size_t size)
{
    static const char *const units[] = {"", " k", " M", " G", " T", " P", " E"};
    if (decade < 0 || decade >= 21) {
        snprintf(out, size, decade < 0 ? "%g" : "%.0e", pow(10, decade));
        return out;
    }
    snprintf(out, size, "%.0f%s", pow(10, decade % 3), units[decade / 3]);
    return out;
}

/* A decade whose line lies in this row, INT_MIN if none does. */
static int decade_in_row(const struct drawing *drawing, int row)
{
    for (int decade = (int)ceil(drawing->low); decade <= drawing->low + drawing->high; decade++) {
        double up = (decade - drawing->low) / drawing->high * drawing->rows;
        if ((int)up == drawing->rows - 1 - row)
            return decade;
    }
    return INT32_MIN;
}

static void add_row(const struct drawing *drawing, FILE *out, int row)
{
    char label[32] = "";
    int decade = decade_in_row(drawing, row), blanks = 0;
    if (decade != INT32_MIN)
        decade_text(decade, label, sizeof label);
    fprintf(out, "%*s %s", MARGIN - 2, label,
            drawing->utf8         ? decade != INT32_MIN ? "\u2524" : "\u2502"
            : decade != INT32_MIN ? "+"
                                  : "|");
    for (int col = 0; col < drawing->cols; col++) {
        size_t at = cell(drawing, row, col);
        char letter = drawing->letters[at];
        uint8_t dots = drawing->dots[at];
        if (!letter && !dots) {
            blanks++;
            continue;
        }
        fprintf(out, "%*s", blanks, "");
        blanks = 0;
        if (letter || !drawing->utf8)
            fputc(letter ? letter : dots, out);
        else /* U+2800 and its bits, as UTF-8 */
            fprintf(out, "\xe2%c%c", 0xa0 | dots >> 6, 0x80 | (dots & 0x3f));
    }
    fputc('\n', out);
}

static void add_axis(const struct drawing *drawing, FILE *out)
{
    char line[512] = "", label[32];
    memset(line, ' ', sizeof line - 1);
    fprintf(out, "%*s%s", MARGIN - 1, "", drawing->utf8 ? "\u2514" : "+");
    for (int col = 0; col < drawing->cols; col++)
        fputs(drawing->utf8 ? "\u2500" : "-", out);
    fputc('\n', out);
    int last = 0;
    for (int decade = (int)ceil(drawing->left); decade <= drawing->left + drawing->wide; decade++) {
        int col = (int)((decade - drawing->left) / drawing->wide * drawing->cols) + MARGIN;
        int length = (int)strlen(decade_text(decade, label, sizeof label));
        if (col + length >= (int)sizeof line - 1 || col > drawing->cols + MARGIN)
            break;
        memcpy(line + col, label, (size_t)length);
        last = col + length;
    }
    line[last] = '\0';
    fprintf(out, "%s FLOP/byte\n", line);
}

/* Whole decades around all that is to be seen: marks, the ridge, and a decade beside it. */
static void choose_axes(struct drawing *drawing, const struct roofline *roof,
                        const struct roofline_mark *marks, size_t count)
{
    double ridge = log10(roof->flops_per_s / roof->bytes_per_s), top = log10(roof->flops_per_s);
    double left = ridge - 1, right = ridge + 1, low = top - 2;
    for (size_t i = 0; i < count; i++) {
        if (!(marks[i].intensity > 0) || !(marks[i].flops_per_s > 0))
            continue;
        left = fmin(left, log10(marks[i].intensity));
        right = fmax(right, log10(marks[i].intensity));
        low = fmin(low, log10(marks[i].flops_per_s));
        top = fmax(top, log10(marks[i].flops_per_s));
    }
    drawing->left = floor(left);
    drawing->wide = ceil(right + 1e-9) - drawing->left;
    drawing->low = floor(low);
    drawing->high = ceil(top + 0.1) - drawing->low;
}

char *roofline_draw(const struct roofline *roof, const struct roofline_mark *marks, size_t count,
                    int cols, int rows, bool utf8)
{
    struct drawing drawing = {.cols = cols - MARGIN, .rows = rows - 2, .utf8 = utf8};
    char *text = NULL;
    size_t bytes = 0;
    if (!(roof->flops_per_s > 0) || !(roof->bytes_per_s > 0) || drawing.cols < 10 ||
        drawing.rows < 4 || cols > 400)
        return NULL;
    size_t cells = (size_t)drawing.cols * (size_t)drawing.rows;
    drawing.dots = xcalloc(cells, sizeof *drawing.dots);
    drawing.letters = xcalloc(cells, sizeof *drawing.letters);
    choose_axes(&drawing, roof, marks, count);
    draw_roof(&drawing, roof->flops_per_s, roof->cache_bytes_per_s, true);
    draw_roof(&drawing, roof->flops_per_s, roof->bytes_per_s, false);
    draw_marks(&drawing, marks, count);
    FILE *out = open_memstream(&text, &bytes);
    for (int row = 0; out && row < drawing.rows; row++)
        add_row(&drawing, out, row);
    if (out) {
        add_axis(&drawing, out);
        fclose(out);
    }
    free(drawing.dots);
    free(drawing.letters);
    return text;
}
