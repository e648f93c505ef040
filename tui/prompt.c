#include "tui/prompt.h"
#include "commands/command.h"
#include "tui/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What a character of the text looks like: never a control character. */
static uint32_t visible(uint32_t point)
{
    return point == '\n' ? 0x23ce : point;
}

static int visible_width(uint32_t point)
{
    return utf8_width(visible(point));
}

static int columns_of(const char *text, size_t bytes)
{
    int columns = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t point;
        at += utf8_decode(text + at, bytes - at, &point);
        columns += visible_width(point);
    }
    return columns;
}

#define NAME_LEAST 5 /* columns of a shortened name: "mo…v2" */
#define SAID_LEAST 7 /* columns of what stands in brackets: "mob…p32" */

/* Where even the shortest name leaves no room (many devices, few columns): the beginning and the end
 * of all that stands in the brackets, or nothing. */
static void shorten_all(char *prompt, int columns, size_t size)
{
    char said[320], shorter[320];
    const char *open = strchr(prompt, '['), *close = strrchr(prompt, ']');
    int room = columns - utf8_columns("[]> ");
    if (open == NULL || close == NULL || room < SAID_LEAST) {
        snprintf(prompt, size, "> ");
        return;
    }
    snprintf(said, sizeof said, "%.*s", (int)(close - open - 1), open + 1);
    snprintf(prompt, size, "[%s]> ", utf8_shorten(said, room, shorter, sizeof shorter));
}

char *prompt_text(const struct workbench *workbench, int columns, char *out, size_t size)
{
    const char *model = json_string_value(json_object_get(workbench_model(workbench), "name"));
    char clean[256], name[256];
    workbench_prompt(workbench, NULL, out, size);
    int surplus = utf8_columns(out) - columns;
    if (surplus <= 0)
        return out;
    text_clean(clean, sizeof clean, model != NULL ? model : "");
    /* all that is not the name */
    workbench_prompt(workbench, "", out, size);
    int room = columns - utf8_columns(out);
    const char *bracket = strchr(out, '[');
    int program = bracket != NULL ? (int)(bracket - out) : 0;
    bool without_program = room < NAME_LEAST;
    room += without_program ? program : 0;
    if (room < NAME_LEAST) {
        workbench_prompt(workbench, NULL, out, size);
        shorten_all(out, columns, size);
        return out;
    }
    workbench_prompt(workbench, utf8_shorten(clean, room, name, sizeof name), out, size);
    if (without_program)
        memmove(out, out + program, strlen(out + program) + 1);
    return out;
}

int prompt_draw(struct canvas *canvas, struct rect rect, const char *prompt,
                const struct lineedit *editor, bool dim)
{
    canvas_clip(canvas, rect);
    const char *pattern, *text = lineedit_text(editor);
    char searching[320];
    bool failed;
    if (lineedit_searching(editor, &pattern, &failed)) {
        snprintf(searching, sizeof searching, "%s '%s': ", failed ? "no line has" : "search",
                 pattern);
        prompt = searching;
    }
    size_t bytes = strlen(text), cursor = lineedit_cursor(editor);
    int x = rect.x +
            canvas_text(canvas, rect.y, rect.x, rect.cols, dim ? STYLE_DIM : STYLE_PROMPT, prompt);
    int room = rect.x + rect.cols - x;
    if (room < 1)
        return rect.x + rect.cols - 1;
    /* skip whole characters at the left until the cursor has a cell */
    int before = columns_of(text, cursor), skip = 0;
    size_t at = 0;
    bool cut = before >= room;
    while (at < bytes && before - skip >= room - cut) {
        uint32_t point;
        at += utf8_decode(text + at, bytes - at, &point);
        skip += visible_width(point);
    }
    if (cut)
        canvas_put(canvas, rect.y, x, 0x2026, STYLE_DIM);
    int cursor_x = x + cut + before - skip;
    x += cut;
    while (at < bytes) {
        uint32_t point;
        at += utf8_decode(text + at, bytes - at, &point);
        int width = visible_width(point);
        if (width == 0)
            continue;
        if (x + width > rect.x + rect.cols)
            break;
        canvas_put(canvas, rect.y, x, visible(point),
                   point == '\n' ? STYLE_WARNING
                   : dim         ? STYLE_DIM
                                 : STYLE_NORMAL);
        x += width;
    }
    return cursor_x < rect.x + rect.cols ? cursor_x : rect.x + rect.cols - 1;
}

bool prompt_list_draw(struct canvas *canvas, struct rect rect, const struct lineedit *editor)
{
    size_t count;
    int chosen;
    char *const *candidates = lineedit_list(editor, &count, &chosen);
    if (candidates == NULL)
        return false;
    canvas_clip(canvas, rect);
    canvas_fill(canvas, rect, ' ', STYLE_NORMAL);
    /* pages: the first candidate of the page that holds the chosen one */
    size_t first = 0;
    int used = 0;
    for (size_t i = 0; i < count && chosen >= 0 && i <= (size_t)chosen; i++) {
        int width = utf8_columns(candidates[i]) + 2;
        if (used + width > rect.cols - 2 && used > 0) {
            first = i;
            used = 0;
        }
        used += width;
    }
    int x = rect.x;
    for (size_t i = first; i < count; i++) {
        int width = utf8_columns(candidates[i]) + 2;
        if (x + width > rect.x + rect.cols - 2 && i > first) {
            canvas_put(canvas, rect.y, rect.x + rect.cols - 1, 0x2026, STYLE_DIM);
            break;
        }
        canvas_text(canvas, rect.y, x, rect.x + rect.cols - x, STYLE_HINT, candidates[i]);
        if ((int)i == chosen)
            canvas_flag(canvas, rect.y, x, width - 2, CELL_REVERSE);
        x += width;
    }
    return true;
}

bool prompt_complete(struct lineedit *editor, struct workbench *workbench)
{
    size_t start = lineedit_cursor(editor);
    char **candidates =
        command_complete(workbench, lineedit_text(editor), lineedit_cursor(editor), &start);
    bool any = candidates != NULL && candidates[0] != NULL;
    lineedit_offer(editor, start, candidates);
    command_candidates_free(candidates);
    return any;
}
