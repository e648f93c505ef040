/* UTF-8 and the width of characters on a terminal, independent of the locale so that drawing is the
 * same in a test and on a screen. Any thread. */
#ifndef LAYERTOP_TUI_UTF8_H
#define LAYERTOP_TUI_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT 0xfffdu

/* Decode one character of text[0..bytes) into *point; returns the bytes it took (at least 1 unless
 * `bytes` is 0). A malformed byte gives UTF8_REPLACEMENT and counts one byte. */
size_t utf8_decode(const char *text, size_t bytes, uint32_t *point);

/* Encode a code point (U+FFFD if it is none) into out; returns 1 to 4. Not terminated. */
size_t utf8_encode(uint32_t point, char out[4]);

/* Columns of a code point: 0 for combining and control characters, 2 for East Asian wide ones and
 * emoji (Unicode 15, EastAsianWidth.txt, whole blocks), else 1. */
int utf8_width(uint32_t point);

/* Columns of a terminated string. */
int utf8_columns(const char *text);

/* `text` in at most so many columns: if it is too wide, its beginning and its end with an ellipsis
 * between them. Into out[size], always terminated; returns out. */
char *utf8_shorten(const char *text, int columns, char *out, size_t size);

#endif
