/* Pictures as text, held against files in tests/golden/. UPDATE=1 in the environment rewrites them. */
#ifndef LAYERTOP_TESTS_GOLDEN_H
#define LAYERTOP_TESTS_GOLDEN_H

/* Fails the running cmocka test if `text` differs from tests/golden/NAME.txt, showing both. */
void golden_check(const char *name, const char *text);

#endif
