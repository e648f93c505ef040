/* Commands without a prompt: those of -c, of -f files and of a standard input that is no terminal,
 * in their order, each submitted when the one before has ended. */
#ifndef LAYERTOP_COMMANDS_SCRIPT_H
#define LAYERTOP_COMMANDS_SCRIPT_H

#include "commands/workbench.h"

struct script_piece {
    const char *line; /* one command line, or NULL: */
    int fd;           /* lines read from here until its end; read as it comes, never ahead */
};

/* Run the pieces and return the exit code of the program. The first SIGINT cancels the running
 * command, a second one within a second ends the program (130); SIGTERM ends it (143). Both
 * handlers are put back. */
int script_run(struct workbench *workbench, const struct script_piece *pieces, size_t count);

#endif
