/* A line editor that is a value: keys in, text and cursor out. It knows no terminal, no file and no
 * command; who holds it draws it, fills its history and finds its completions. Always valid UTF-8.
 *
 * Keys (the Emacs subset that shells taught):
 *   Left Right Ctrl-B Ctrl-F        a character     Home End Ctrl-A Ctrl-E     ends of the line
 *   Alt-B Alt-F Ctrl-Left/Right     a word          Up Down Ctrl-P Ctrl-N      history
 *   Backspace Delete Ctrl-H Ctrl-D  delete          Alt-< Alt->                ends of the history
 *   Ctrl-W Alt-Backspace            kill the word before, Alt-D the word after
 *   Ctrl-K Ctrl-U                   kill to the end, to the start
 *   Ctrl-Y                          yank            Ctrl-T                     swap two characters
 *   Ctrl-_ Alt-/                    undo, kills too Ctrl-R                     search the history
 *   Tab Shift-Tab                   complete        Ctrl-G Escape              leave search or list
 *   Enter                           accept          Ctrl-D on an empty line    end
 * A pasted newline is kept as one character; who accepts the line runs its parts in turn.
 */
#ifndef LAYERTOP_TUI_LINEEDIT_H
#define LAYERTOP_TUI_LINEEDIT_H

#include "tui/input.h"

#define LINEEDIT_BYTES 16384 /* longer input is not taken */

enum lineedit_result {
    LINEEDIT_IGNORED,  /* not a key of the editor: the holder may use it */
    LINEEDIT_CHANGED,  /* draw again */
    LINEEDIT_ACCEPT,   /* Enter: take the text with lineedit_take() */
    LINEEDIT_END,      /* Ctrl-D on an empty line */
    LINEEDIT_COMPLETE, /* Tab: find candidates and call lineedit_offer() */
    LINEEDIT_BELL      /* nothing to do here */
};

struct lineedit;
struct lineedit *lineedit_new(void);
void lineedit_free(struct lineedit *editor);

enum lineedit_result lineedit_key(struct lineedit *editor, const struct input *key);

const char *lineedit_text(const struct lineedit *editor);
size_t lineedit_cursor(const struct lineedit *editor); /* byte offset */
/* Replace the text (cut at LINEEDIT_BYTES, malformed bytes become U+FFFD), cursor at the end. */
void lineedit_set(struct lineedit *editor, const char *text);
/* Empty the line and hand out what stood there; to be freed. The undo list is dropped too. */
char *lineedit_take(struct lineedit *editor);

/* The history, oldest first. The editor keeps copies. The last line added again is not doubled. */
void lineedit_history_add(struct lineedit *editor, const char *line);

/* Is a reverse search going on, and for what? "" at its start. */
bool lineedit_searching(const struct lineedit *editor, const char **pattern, bool *failed);

/* Candidates (NULL-terminated, copied) for the word that starts at byte `start`. One: it is
 * completed, with a blank after it unless it ends in '/' or '='. Several: their common prefix is
 * filled in, and if that adds nothing the list opens; Tab and Shift-Tab then walk through it. */
void lineedit_offer(struct lineedit *editor, size_t start, char *const *candidates);
/* The open list: its candidates, and the chosen one or -1. NULL when it is closed. */
char *const *lineedit_list(const struct lineedit *editor, size_t *count, int *chosen);

#endif
