/* The program as a script sees it: its JSON objects. LAYERTOP_BIN names the binary (default
 * build/layertop). */
#ifndef LAYERTOP_TESTS_SUPPORT_PROGRAM_H
#define LAYERTOP_TESTS_SUPPORT_PROGRAM_H

#include <jansson.h>

/* Run `layertop ARGUMENTS --json` by sh, standard error thrown away; an array of the objects it
 * printed. *code (may be NULL) becomes its exit code. */
json_t *program_objects(const char *arguments, int *code);
/* "data.memory.planned_bytes" of object `index`; NULL if there is none. */
json_t *program_at(const json_t *objects, size_t index, const char *path);
/* The same as a number, NaN if it is none. */
double program_number(const json_t *objects, size_t index, const char *path);

#endif
