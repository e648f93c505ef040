#include "support/vt_picture.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <vterm.h>

/* A cell in pixels, and where in it text stands. */
#define CELL_COLS     9
#define CELL_ROWS     18
#define BASELINE      14
#define MARGIN        6
#define FONT_SIZE     15
#define BACKGROUND    0x101418u
#define FOREGROUND    0xd0d0d0u
#define COLOUR_NUMBER 16

/* The sixteen colours that a terminal chooses itself. */
static const uint32_t palette[COLOUR_NUMBER] = {
    0x1c2024, 0xcc4444, 0x44aa44, 0xc4a000, 0x5588dd, 0xb070c0, 0x30a8b0, 0xd0d0d0,
    0x707070, 0xff6b6b, 0x7ce07c, 0xffe066, 0x8ab4ff, 0xe0a0f0, 0x66e0e8, 0xffffff};

struct look {
    uint32_t ink, paper;
    bool bold, underlined;
};

struct picture {
    struct vt *vt;
    VTermScreen *screen;
    FILE *out;
    int rows, cols;
};

static uint32_t colour(const struct picture *picture, VTermColor value, uint32_t usual)
{
    if (VTERM_COLOR_IS_DEFAULT_FG(&value) || VTERM_COLOR_IS_DEFAULT_BG(&value))
        return usual;
    if (VTERM_COLOR_IS_INDEXED(&value) && value.indexed.idx < COLOUR_NUMBER)
        return palette[value.indexed.idx];
    vterm_screen_convert_color_to_rgb(picture->screen, &value);
    return (uint32_t)value.rgb.red << 16 | (uint32_t)value.rgb.green << 8 | value.rgb.blue;
}

/* The character of a cell, and how it looks; 0 at the right half of a wide one. */
static uint32_t look_at(const struct picture *picture, int row, int col, struct look *look)
{
    VTermScreenCell cell;
    VTermPos at = {.row = row, .col = col};
    *look = (struct look){FOREGROUND, BACKGROUND, false, false};
    if (!vterm_screen_get_cell(picture->screen, at, &cell))
        return ' ';
    int cursor_row, cursor_col;
    bool cursor = vt_cursor_at(picture->vt, &cursor_row, &cursor_col) && row == cursor_row &&
                  col == cursor_col;
    bool reverse = (cell.attrs.reverse != 0) != cursor;
    uint32_t ink = colour(picture, cell.fg, FOREGROUND);
    uint32_t paper = colour(picture, cell.bg, BACKGROUND);
    *look = (struct look){.ink = reverse ? paper : ink,
                          .paper = reverse ? ink : paper,
                          .bold = cell.attrs.bold != 0,
                          .underlined = cell.attrs.underline != 0};
    return cell.chars[0] == (uint32_t)-1 ? 0 : cell.chars[0] == 0 ? ' ' : cell.chars[0];
}

static bool same_look(const struct look *a, const struct look *b)
{
    return a->ink == b->ink && a->bold == b->bold;
}

static int left_of(int col)
{
    return MARGIN + col * CELL_COLS;
}

static int top_of(int row)
{
    return MARGIN + row * CELL_ROWS;
}

/* ---- shapes: what no font draws the same ---- */

static bool is_shape(uint32_t point)
{
    return (point >= 0x2800 && point <= 0x28ff) || (point >= 0x2580 && point <= 0x2593) ||
           point == 0x2500 || point == 0x2502 || point == 0x2524;
}

static void put_box(FILE *out, double x, double y, double width, double height)
{
    fprintf(out, "M%g %gh%gv%gh%gz", x, y, width, height, -width);
}

static void put_braille(FILE *out, uint32_t point, int x, int y)
{
    static const int columns[8] = {0, 0, 0, 1, 1, 1, 0, 1}, rows[8] = {0, 1, 2, 0, 1, 2, 3, 3};
    for (int bit = 0; bit < 8; bit++) {
        if ((point - 0x2800) >> bit & 1)
            put_box(out, x + 1 + columns[bit] * 4.5, y + 1 + rows[bit] * 4.5, 3, 3);
    }
}

static void put_shape(FILE *out, uint32_t point, int x, int y)
{
    const double cols = CELL_COLS, rows = CELL_ROWS;
    if (point >= 0x2800)
        put_braille(out, point, x, y);
    else if (point == 0x2500)
        put_box(out, x, y + rows / 2, cols, 1);
    else if (point == 0x2502 || point == 0x2524)
        put_box(out, x + cols / 2, y, 1, rows);
    else if (point == 0x2580)
        put_box(out, x, y, cols, rows / 2);
    else if (point <= 0x2588)
        put_box(out, x, y + rows - rows * (point - 0x2580) / 8, cols, rows * (point - 0x2580) / 8);
    else if (point <= 0x258f)
        put_box(out, x, y, cols * (0x2590 - point) / 8, rows);
    else if (point == 0x2590)
        put_box(out, x + cols / 2, y, cols / 2, rows);
    else
        put_box(out, x, y, cols, rows);
    if (point == 0x2524)
        put_box(out, x, y + rows / 2, cols / 2, 1);
}

/* Shades are shapes that let the paper through. */
static double opacity(uint32_t point)
{
    return point >= 0x2591 && point <= 0x2593 ? (point - 0x2590) / 4.0 : 1;
}

/* ---- rows ---- */

static void put_papers(const struct picture *picture, int row)
{
    for (int col = 0, end; col < picture->cols; col = end) {
        struct look first, next;
        look_at(picture, row, col, &first);
        for (end = col + 1; end < picture->cols; end++) {
            look_at(picture, row, end, &next);
            if (next.paper != first.paper)
                break;
        }
        if (first.paper != BACKGROUND)
            fprintf(picture->out, "<path fill=\"#%06x\" d=\"M%d %dh%dv%dh%dz\"/>\n", first.paper,
                    left_of(col), top_of(row), (end - col) * CELL_COLS, CELL_ROWS,
                    (col - end) * CELL_COLS);
    }
}

static void put_shapes(const struct picture *picture, int row)
{
    for (int col = 0, end; col < picture->cols; col = end) {
        struct look first, next;
        uint32_t point = look_at(picture, row, col, &first);
        end = col + 1;
        if (!is_shape(point))
            continue;
        double shade = opacity(point);
        fprintf(picture->out, "<path fill=\"#%06x\"", first.ink);
        if (shade < 1)
            fprintf(picture->out, " opacity=\"%g\"", shade);
        fputs(" d=\"", picture->out);
        put_shape(picture->out, point, left_of(col), top_of(row));
        for (; end < picture->cols; end++) {
            point = look_at(picture, row, end, &next);
            if (!is_shape(point) || next.ink != first.ink || opacity(point) < shade ||
                opacity(point) > shade)
                break;
            put_shape(picture->out, point, left_of(end), top_of(row));
        }
        fputs("\"/>\n", picture->out);
    }
}

static void put_character(FILE *out, uint32_t point)
{
    if (point < 0x80 && strchr("<>&\"", (int)point) == NULL)
        fputc((int)point, out);
    else
        fprintf(out, "&#%u;", point);
}

static bool is_text(uint32_t point)
{
    return point != ' ' && point != 0 && !is_shape(point);
}

/* Words of one look; their length is given, so that every font keeps the columns. */
static void put_words(const struct picture *picture, int row)
{
    for (int col = 0, end; col < picture->cols; col = end) {
        struct look first, next;
        uint32_t point = look_at(picture, row, col, &first);
        end = col + 1;
        if (!is_text(point))
            continue;
        for (; end < picture->cols; end++) {
            point = look_at(picture, row, end, &next);
            if (!is_text(point) || !same_look(&first, &next))
                break;
        }
        fprintf(picture->out, "<text x=\"%d\" y=\"%d\" fill=\"#%06x\"%s textLength=\"%d\">",
                left_of(col), top_of(row) + BASELINE, first.ink,
                first.bold ? " font-weight=\"bold\"" : "", (end - col) * CELL_COLS);
        for (int i = col; i < end; i++)
            put_character(picture->out, look_at(picture, row, i, &next));
        fputs("</text>\n", picture->out);
    }
}

static void put_underlines(const struct picture *picture, int row)
{
    for (int col = 0; col < picture->cols; col++) {
        struct look look;
        look_at(picture, row, col, &look);
        if (look.underlined)
            fprintf(picture->out, "<path fill=\"#%06x\" d=\"M%d %dh%dv1h%dz\"/>\n", look.ink,
                    left_of(col), top_of(row) + CELL_ROWS - 2, CELL_COLS, -CELL_COLS);
    }
}

void vt_picture(struct vt *vt, FILE *out)
{
    struct picture picture = {.vt = vt, .screen = vt_screen(vt), .out = out};
    vt_size(vt, &picture.rows, &picture.cols);
    int width = 2 * MARGIN + picture.cols * CELL_COLS,
        height = 2 * MARGIN + picture.rows * CELL_ROWS;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" "
            "font-size=\"%d\">\n<path fill=\"#%06x\" d=\"M0 0h%dv%dh%dz\"/>\n",
            width, height, width, height, FONT_SIZE, BACKGROUND, width, height, -width);
    for (int row = 0; row < picture.rows; row++) {
        put_papers(&picture, row);
        put_shapes(&picture, row);
        put_words(&picture, row);
        put_underlines(&picture, row);
    }
    fputs("</svg>\n", out);
}
