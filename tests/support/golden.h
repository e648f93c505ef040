/* Pictures as text, held against files in tests/golden/. UPDATE=1 in the environment rewrites them. */
#ifndef LAYERTOP_TESTS_GOLDEN_H
#define LAYERTOP_TESTS_GOLDEN_H

#include <stdbool.h>

/* Fails the running cmocka test if `text` differs from tests/golden/NAME.txt, showing both. */
void golden_check(const char *name, const char *text);

/* Is `text` what the file holds? If not, both are printed. */
bool golden_same(const char *path, const char *text);

/* The whole file, or "" if there is none; to be freed. */
char *golden_read(const char *path);
/* Print a title and a text, line by line. */
void golden_print(const char *title, const char *text);

#endif
