/* The keys of a script as an xterm sends them. */
#ifndef LAYERTOP_TESTS_STAGE_KEYS_H
#define LAYERTOP_TESTS_STAGE_KEYS_H

#include <stddef.h>

/* The bytes of a key's name, NULL if there is no such key; valid until the next call. */
const char *stage_key(const char *name);

/* Replace \e \t \r \n \\ \xHH in place; returns the number of bytes. */
size_t stage_unescape(char *text);

#endif
