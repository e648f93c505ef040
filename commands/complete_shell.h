/* What a shell offers for the last word of a command line of the program: share/ has a script a shell
 * that asks `layertop --complete LINE`, so that what is offered comes from the tables and is right
 * for the version that is asked. Front's thread only. */
#ifndef LAYERTOP_COMMANDS_COMPLETE_SHELL_H
#define LAYERTOP_COMMANDS_COMPLETE_SHELL_H

#include "commands/workbench.h"

/* `line` is the command up to the cursor as it was typed, the program's name first. One a line: the
 * whole word, a tab, what it means ("" if nothing is known). A line that begins with a tab says that
 * the shell's own files are wanted too: "\tfiles", or "\tfiles keras h5" for those endings and
 * folders. Never NULL; to be freed. */
char *complete_shell(struct workbench *workbench, const char *line);

#endif
