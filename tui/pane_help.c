/* Help: made from the tables of keys, settings and commands, so that it cannot be out of date. */
#include "commands/command.h"
#include "tui/keys.h"
#include "tui/utf8.h"
#include "tui/view.h"

#include <stdio.h>
#include <string.h>

struct writer {
    struct canvas *canvas;
    struct rect rect;
    int top, line; /* line: of the help, not of the screen */
};

static void write_line(struct writer *writer, enum style style, int width, const char *left,
                       const char *right)
{
    int row = writer->line++ - writer->top, x = writer->rect.x;
    if (row < 0 || row >= writer->rect.rows)
        return;
    int cols = writer->rect.cols;
    if (width > 0) {
        canvas_text(writer->canvas, writer->rect.y + row, x + 2, width - 1, style, left);
        canvas_text(writer->canvas, writer->rect.y + row, x + 2 + width, cols - width - 2,
                    STYLE_NORMAL, right);
    } else {
        canvas_text(writer->canvas, writer->rect.y + row, x, cols, style, left);
    }
}

static void write_keys(struct writer *writer)
{
    write_line(writer, STYLE_TITLE, 0, "Keys", NULL);
    write_line(
        writer, STYLE_DIM, 0,
        "F-keys act everywhere; the others while the panes have the focus (Esc, or Tab on an "
        "empty line)",
        NULL);
    for (size_t i = 0; i < keys_count(); i++) {
        const struct key_binding *key = keys_at(i);
        char name[64];
        keys_all_names(key, name, sizeof name);
        if (keys_available(key))
            write_line(writer, STYLE_KEY, 14, name, key->summary);
    }
    write_line(writer, STYLE_NORMAL, 0, "", NULL);
    write_line(writer, STYLE_TITLE, 0, "At the prompt", NULL);
    for (const struct prompt_key *key = prompt_keys; key->name; key++)
        write_line(writer, STYLE_KEY, 14, key->name, key->summary);
}

int pane_help_draw(struct canvas *canvas, struct rect rect, int top)
{
    canvas_clip(canvas, rect);
    struct writer writer = {canvas, rect, top, 0};
    int usage = 12, name = 8;
    for (size_t i = 0; i < command_count(); i++) {
        int width = utf8_columns(command_at(i)->usage) + 2;
        usage = width > usage ? width : usage;
    }
    for (size_t i = 0; i < setting_count(); i++) {
        int width = utf8_columns(setting_at(i)->name) + 2;
        name = width > name ? width : name;
    }
    usage = usage > rect.cols / 2 ? rect.cols / 2 : usage;
    write_keys(&writer);
    write_line(&writer, STYLE_NORMAL, 0, "", NULL);
    write_line(&writer, STYLE_TITLE, 0, "Commands (help NAME tells more)", NULL);
    for (size_t i = 0; i < command_count(); i++)
        write_line(&writer, STYLE_HINT, usage, command_at(i)->usage, command_at(i)->summary);
    write_line(&writer, STYLE_NORMAL, 0, "", NULL);
    write_line(&writer, STYLE_TITLE, 0, "Settings (show NAME, set NAME VALUE)", NULL);
    for (size_t i = 0; i < setting_count(); i++)
        write_line(&writer, STYLE_HINT, name, setting_at(i)->name, setting_at(i)->summary);
    return writer.line;
}
