/* The two faces of an interactive layertop: the screen (tui_run) and the line-mode prompt
 * (plain_run). Both are loops of the front's one thread around a workbench; both set the workbench's
 * sink to themselves before they submit anything, and neither knows what a command does.
 *
 * The screen needs a terminal at /dev/tty; the prompt needs nothing but descriptors 0, 1 and 2.
 */
#ifndef LAYERTOP_TUI_TUI_H
#define LAYERTOP_TUI_TUI_H

#include "commands/workbench.h"

struct tui_options {
    /* Command lines to submit once the sink is ours: the model to load, those of -c. May be NULL when
     * command_count is 0. Borrowed for the call. */
    const char *const *commands;
    size_t command_count;
    const char *then; /* one more if the last of them went well: `start`; or NULL */
};

/* Can a screen be shown here: standard input and output are terminals, /dev/tty opens, and TERM names
 * a kind that can move its cursor? If not, plain_run() is the thing to call. */
bool tui_possible(void);

/* Show the screen until `quit`, the end of the terminal or SIGTERM, then put the terminal back as
 * it was, a crash included. Descriptors 1 and 2 go to the log pane meanwhile and are restored.
 * Returns the exit code of the program: workbench_exit_code(), 1 with a line on standard error if
 * the terminal cannot be used, 128 + N after a signal N. */
int tui_run(struct workbench *workbench, const struct tui_options *options);

/* Read command lines from standard input, with the small line editor if it is a terminal that can
 * move its cursor, and write results to standard output and notes to standard error: no escape
 * sequences but the editor's, for dumb terminals, screen readers and `-i` behind a pipe. Ends as
 * tui_run() does, and at the end of the input once the last command has ended. */
int plain_run(struct workbench *workbench, const struct tui_options *options);

#endif
