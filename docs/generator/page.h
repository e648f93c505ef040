/* The reference and the manual page, written from the tables that the program runs by (`make docs`).
 * A tool of the build, not linked into the program. */
#ifndef LAYERTOP_DOCS_GENERATOR_PAGE_H
#define LAYERTOP_DOCS_GENERATOR_PAGE_H

#include <stdio.h>

/* docs/commands.md */
void write_reference(FILE *out);
/* share/man/man1/layertop.1 */
void write_manual(FILE *out);

#endif
