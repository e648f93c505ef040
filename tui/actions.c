/* What keys do to the screen. */
#include "commands/history.h"
#include "engine/clock.h"
#include "tui/keys.h"
#include "tui/prompt.h"
#include "tui/screen.h"

#include <stdlib.h>
#include <string.h>

void screen_submit(struct screen *screen, const char *line)
{
    log_add(screen->log, SINK_ECHO, line);
    screen->log_back = 0;
    screen->answer = 1;
    screen->answered = false;
    command_submit(screen->workbench, line);
}

static void remember_line(struct screen *screen, const char *line)
{
    struct error error;
    char text[sizeof error.what + sizeof error.why + 16];
    if (history_add(screen->history, line, &error))
        return;
    snprintf(text, sizeof text, "note: %s: %s", error.what, error.why);
    log_add(screen->log, SINK_WARNING, text);
}

/* Take the prompt's line; each of its lines runs in turn and is remembered. */
static void accept_line(struct screen *screen)
{
    char *text = lineedit_take(screen->editor), *rest = text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (line[strspn(line, " ")] == '\0')
            continue;
        screen_submit(screen, line);
        if (line[0] == ' ')
            continue; /* as shells do: not kept */
        remember_line(screen, line);
        lineedit_history_add(screen->editor, line);
    }
    free(text);
}

/* Ctrl-C: the running command first, then the line, then the program. */
static void interrupt(struct screen *screen)
{
    int64_t now = clock_read_ns(workbench_clock(screen->workbench));
    if (command_cancel(screen->workbench)) {
        log_add(screen->log, SINK_NOTE, "cancelling");
        screen->interrupt_ns = now;
        return;
    }
    if (lineedit_text(screen->editor)[0] != '\0') {
        free(lineedit_take(screen->editor));
        return;
    }
    bool again = screen->interrupt_ns != 0 && now - screen->interrupt_ns < 1000000000;
    screen->interrupt_ns = now;
    if (again) {
        screen->focus = FOCUS_PROMPT;
        lineedit_set(screen->editor, "quit");
        log_add(screen->log, SINK_HINT, "Enter ends layertop, Ctrl-C goes on");
    } else {
        log_add(screen->log, SINK_NOTE,
                "nothing is running; Ctrl-C again, or q in the panes, to quit");
    }
}

static void scroll_log(struct screen *screen, int lines)
{
    size_t most = log_count(screen->log);
    if (lines < 0 && screen->log_back < (size_t)-lines)
        screen->log_back = 0;
    else
        screen->log_back += (size_t)(int64_t)lines;
    if (screen->log_back >= most)
        screen->log_back = most > 0 ? most - 1 : 0;
}

/* Choose the next row (from `from` on, wrapping) whose label holds the pattern. */
static void search_rows(struct screen *screen, int from)
{
    const char *pattern = lineedit_text(screen->search);
    struct view view;
    screen->not_found = false;
    if (pattern[0] == '\0')
        return;
    screen_view(screen, &view);
    screen->not_found = true;
    for (size_t i = 0; i < view.row_count; i++) {
        size_t row = ((size_t)from + i) % view.row_count;
        if (strstr(view.layers[view.rows[row]].label, pattern) != NULL) {
            screen->selected = (int)row;
            screen->not_found = false;
            break;
        }
    }
    view_drop(&view);
}

/* Look back, or on: what is looked at stands still while time goes on. */
static void pan(struct screen *screen, double spans)
{
    struct view view;
    screen_view(screen, &view);
    int64_t ago_ns = view.ago_ns + (int64_t)(spans * (double)view.span_ns);
    screen->held_ns = ago_ns > 0 ? view.now_ns - ago_ns : 0;
    view_drop(&view);
}

static void run_binding(struct screen *screen, const struct key_binding *key)
{
    int page = pane_layers_rows(screen->layout.table);
    struct view view;
    char *line;
    switch (key->action) {
    case KEY_COMMAND:
        screen_view(screen, &view);
        line = keys_command(key, &view);
        view_drop(&view);
        if (line != NULL)
            screen_submit(screen, line);
        free(line);
        break;
    case KEY_HELP:
        screen->focus_before_help = screen->focus;
        screen->focus = FOCUS_HELP;
        screen->help_top = 0;
        break;
    case KEY_SEARCH:
        screen->focus = FOCUS_SEARCH;
        screen->not_found = false;
        lineedit_set(screen->search, "");
        break;
    case KEY_SEARCH_NEXT:
        search_rows(screen, screen->selected + 1);
        break;
    case KEY_PROMPT:
        screen->focus = FOCUS_PROMPT;
        break;
    case KEY_UP:
        screen->selected--;
        break;
    case KEY_DOWN:
        screen->selected++;
        break;
    case KEY_PAGE_UP:
        screen->selected -= page;
        screen->top -= page;
        break;
    case KEY_PAGE_DOWN:
        screen->selected += page;
        screen->top += page;
        break;
    case KEY_TOP:
        screen->selected = 0;
        break;
    case KEY_BOTTOM:
        screen->selected = 1 << 30;
        break;
    case KEY_PAN_BACK:
        pan(screen, 0.25);
        break;
    case KEY_PAN_ON:
        pan(screen, -0.25);
        break;
    case KEY_PAN_LIVE:
        screen->held_ns = 0;
        break;
    case KEY_DETAILS:
        screen->details = !screen->details;
        break;
    case KEY_WIDE_TABLE:
        screen->wish.wide_table = !screen->wish.wide_table;
        break;
    case KEY_TALL_LOG:
        screen->wish.tall_log = !screen->wish.tall_log;
        break;
    }
}

static bool contains(struct rect rect, int y, int x)
{
    return y >= rect.y && y < rect.y + rect.rows && x >= rect.x && x < rect.x + rect.cols;
}

static void mouse(struct screen *screen, const struct input *key)
{
    const struct layout *layout = &screen->layout;
    int step = key->code == INPUT_WHEEL_UP ? -3 : 3;
    if (key->code != INPUT_PRESS) {
        if (screen->focus == FOCUS_HELP) {
            screen->help_top += step;
        } else if (contains(layout->table, key->y, key->x)) {
            screen->selected += step;
            screen->top += step;
        } else {
            scroll_log(screen, -step);
        }
        return;
    }
    if (screen->focus == FOCUS_HELP || key->point != 0)
        return;
    if (contains(layout->prompt, key->y, key->x) || contains(layout->log, key->y, key->x)) {
        screen->focus = FOCUS_PROMPT;
    } else if (contains(layout->table, key->y, key->x)) {
        if (key->y == layout->table.y) {
            struct input sort = {.code = INPUT_CHAR, .point = 's'};
            run_binding(screen, keys_find(&sort, FOCUS_PANES));
        } else {
            int row = screen->top + key->y - layout->table.y - 1;
            if (screen->focus == FOCUS_PANES && row == screen->selected)
                screen->details = !screen->details; /* the chosen row again */
            screen->focus = FOCUS_PANES;
            screen->selected = row;
        }
    }
}

static void help_key(struct screen *screen, const struct input *key)
{
    int page = screen->rows > 2 ? screen->rows - 2 : 1;
    if (key->code == INPUT_UP || (key->code == INPUT_CHAR && key->point == 'k'))
        screen->help_top--;
    else if (key->code == INPUT_DOWN || (key->code == INPUT_CHAR && key->point == 'j'))
        screen->help_top++;
    else if (key->code == INPUT_PAGE_UP)
        screen->help_top -= page;
    else if (key->code == INPUT_PAGE_DOWN || (key->code == INPUT_CHAR && key->point == ' '))
        screen->help_top += page;
    else if (key->code == INPUT_HOME)
        screen->help_top = 0;
    else if (key->code == INPUT_END)
        screen->help_top = screen->help_lines;
    else
        screen->focus = screen->focus_before_help;
}

static void search_key(struct screen *screen, const struct input *key)
{
    if (key->code == INPUT_ENTER) {
        screen->focus = FOCUS_PANES;
    } else if (key->code == INPUT_ESCAPE ||
               (key->code == INPUT_BACKSPACE && lineedit_text(screen->search)[0] == '\0')) {
        lineedit_set(screen->search, "");
        screen->focus = FOCUS_PANES;
    } else if (lineedit_key(screen->search, key) == LINEEDIT_CHANGED) {
        search_rows(screen, 0);
    }
}

static void prompt_key(struct screen *screen, const struct input *key)
{
    size_t count;
    int chosen;
    bool open = lineedit_list(screen->editor, &count, &chosen) != NULL ||
                lineedit_searching(screen->editor, NULL, NULL);
    bool empty = lineedit_text(screen->editor)[0] == '\0';
    if (!open && !key->pasted && (key->code == INPUT_ESCAPE || (key->code == INPUT_TAB && empty))) {
        screen->focus = FOCUS_PANES;
        screen->answer = 0; /* read: the panes get their room back */
        return;
    }
    if (key->code == INPUT_PAGE_UP || key->code == INPUT_PAGE_DOWN) {
        int page = screen->layout.log.rows > 2 ? screen->layout.log.rows - 2 : 1;
        scroll_log(screen, key->code == INPUT_PAGE_UP ? page : -page);
        return;
    }
    if (key->code == INPUT_END && screen->log_back > 0)
        screen->log_back = 0;
    switch (lineedit_key(screen->editor, key)) {
    case LINEEDIT_ACCEPT:
        accept_line(screen);
        break;
    case LINEEDIT_END:
        screen_submit(screen, "quit");
        break;
    case LINEEDIT_COMPLETE:
        if (!prompt_complete(screen->editor, screen->workbench))
            terminal_bell(screen->terminal);
        break;
    case LINEEDIT_BELL:
        terminal_bell(screen->terminal);
        break;
    case LINEEDIT_IGNORED:
    case LINEEDIT_CHANGED:
        break;
    }
}

void screen_key(void *context, const struct input *key)
{
    struct screen *screen = context;
    const struct key_binding *binding = NULL;
    screen->keyed = true;
    if (key->code == INPUT_SYNC_MODE) {
        terminal_set_sync(screen->terminal, key->point != 0);
        return;
    }
    if (key->code >= INPUT_PRESS) {
        mouse(screen, key);
        return;
    }
    if (key->pasted && screen->focus != FOCUS_SEARCH) {
        screen->focus = FOCUS_PROMPT; /* pasted text is never a key */
        lineedit_key(screen->editor, key);
        return;
    }
    if (key->code == INPUT_CHAR && !key->alt && key->point == CONTROL('C')) {
        interrupt(screen);
        return;
    }
    if (key->code == INPUT_CHAR && !key->alt && key->point == CONTROL('L')) {
        terminal_redraw(screen->terminal);
        return;
    }
    if (key->code == INPUT_CHAR && !key->alt && key->point == CONTROL('Z')) {
        screen->suspend = true;
        return;
    }
    if (screen->focus == FOCUS_HELP) {
        help_key(screen, key);
        return;
    }
    binding = keys_find(key, screen->focus);
    if (binding != NULL) {
        run_binding(screen, binding);
        return;
    }
    switch (screen->focus) {
    case FOCUS_PROMPT:
        prompt_key(screen, key);
        break;
    case FOCUS_SEARCH:
        search_key(screen, key);
        break;
    case FOCUS_PANES:
        if (key->code == INPUT_ESCAPE || key->code == INPUT_TAB)
            screen->focus = FOCUS_PROMPT;
        else if (key->code == INPUT_CHAR && key->point == CONTROL('D'))
            screen_submit(screen, "quit");
        break;
    case FOCUS_HELP:
        break;
    }
}
