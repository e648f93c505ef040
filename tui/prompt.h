/* The prompt row: draws a line editor and its list of candidates. Pure but for prompt_complete(). */
#ifndef LAYERTOP_TUI_PROMPT_H
#define LAYERTOP_TUI_PROMPT_H

#include "commands/workbench.h"
#include "tui/canvas.h"
#include "tui/lineedit.h"

/* The prompt in at most so many columns: what does not fit is taken from the middle of the model's
 * name, then the program's name goes, then what is in the middle of the brackets, and at last all
 * but "> ". */
char *prompt_text(const struct workbench *workbench, int columns, char *out, size_t size);

/* Draw `prompt` and the text into one row, scrolled so that the cursor is in sight. A newline in the text shows
 * as a return sign. Returns the cursor's column. `dim`: the prompt has not the focus. */
int prompt_draw(struct canvas *canvas, struct rect rect, const char *prompt,
                const struct lineedit *editor, bool dim);

/* Draw the open list of candidates into a row, the chosen one in sight. False if none is open. */
bool prompt_list_draw(struct canvas *canvas, struct rect rect, const struct lineedit *editor);

/* Ask the commands for candidates and offer them. Returns false if there are none. */
bool prompt_complete(struct lineedit *editor, struct workbench *workbench);

#endif
