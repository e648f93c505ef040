/* Words and values out of typed text. Pure functions.
 *
 * Grammar of a line: commands separated by ';', words by blanks; '#' at the start of a word begins
 * a comment; words are quoted as in sh ('...' verbatim, "..." with \" \\ \$ \`, \x outside quotes).
 * There is no expansion of any kind. */
#ifndef LAYERTOP_COMMANDS_PARSE_H
#define LAYERTOP_COMMANDS_PARSE_H

#include "engine/error.h"
#include <stdint.h>

struct parsed_command {
    int argc;
    char **argv; /* NULL-terminated */
};

struct parsed_line {
    size_t count;
    struct parsed_command *commands; /* without empty ones */
};

/* Split a line. On ERROR_SYNTAX (an open quote, a lone backslash at the end) the commands before
 * the broken one are still in *out. Free with parsed_line_free() in both cases. */
bool parse_line(const char *text, struct parsed_line *out, struct error *error);
void parsed_line_free(struct parsed_line *line);

/* Write `word` so that parse_line() reads it back as one word. Caller frees. */
char *parse_quote(const char *word);

/* The word under the cursor, for completion: the words before it in the same command, the word's
 * text up to the cursor with its quotes taken off, the byte offset where it starts, and the quote
 * it is inside of (0, '\'' or '"'). */
struct parsed_cursor {
    int argc;
    char **argv;
    char *word;
    size_t start;
    char quote;
};
void parse_cursor(const char *text, size_t cursor, struct parsed_cursor *out);
void parsed_cursor_free(struct parsed_cursor *cursor);

/* Numbers; the whole text must be used. All fail with ERROR_VALUE, `what` naming the value. */
bool parse_integer(const char *text, int64_t minimum, int64_t maximum, const char *what,
                   int64_t *out, struct error *error);
/* "512MiB", "4G", "1.5GB", "8192": KiB MiB GiB TiB (K M G T) are powers of 1024, kB MB GB TB of
 * 1000. */
bool parse_size(const char *text, const char *what, uint64_t *bytes, struct error *error);
/* "25ms", "1.5s", "2min", "300us", "10" (milliseconds). */
bool parse_time(const char *text, const char *what, double *milliseconds, struct error *error);
/* "0,1,4": integers >= 0, at least one. Returns their number, 0 on an error. */
size_t parse_list(const char *text, const char *what, int64_t *out, size_t capacity,
                  struct error *error);
/* "A..B" (step 1), "A..B+K", "A..BxK" with 1 <= A <= B, K >= 1 (x: K >= 2): fills out[] with the
 * values, B included only if it is hit. A plain integer is a range of one. Returns their number,
 * 0 on an error; more than `capacity` values is an error. */
size_t parse_range(const char *text, const char *what, int64_t *out, size_t capacity,
                   struct error *error);
/* One device in any spelling: "0" "gpu:0" "GPU:0" "/GPU:0" "/device:GPU:0" "gpu" "cpu" "cpu:0", a
 * UUID "GPU-..." or "MIG-...". Writes "cpu", "gpu:N" or the UUID into out[size]. */
bool parse_device(const char *text, char *out, size_t size, struct error *error);

/* Edits (insert, delete, replace, swap of neighbours) between two words, letters' case ignored. */
size_t edit_distance(const char *a, const char *b);
/* The candidate nearest to `word` within distance 2 and half the word's length; NULL if none. */
const char *nearest_word(const char *word, const char *const *candidates, size_t count);

#endif
