/* Files that appear whole or not at all: written beside their name, then renamed. A disk that is full
 * costs the new file and never the old one. Only files are replaced: renamed onto /dev/null, one
 * would take the device away from the whole machine. Any thread.
 */
#ifndef LAYERTOP_ENGINE_OUTPUT_FILE_H
#define LAYERTOP_ENGINE_OUTPUT_FILE_H

#include "engine/error.h"

#include <stdio.h>

struct output_file {
    const char *path; /* as it was named; borrowed */
    char *target;     /* behind symbolic links, which stay links */
    char *temporary;  /* what is written; nothing is there at first */
};

/* Choose the names; nothing is made yet. Errors: ERROR_FILE where something stands that is no
 * regular file. */
bool output_file_begin(struct output_file *file, const char *path, struct error *error);

/* What was written takes its place, on the disk and not only in memory; or, unless `good`, is removed
 * and *error, which the writer filled, stays. Frees the names. Errors: ERROR_FILE. */
bool output_file_end(struct output_file *file, bool good, struct error *error);

/* The same for who writes a stream, which is opened and closed here; `good` is what the writer knows,
 * the stream's own errors are asked for. Waits for no disk. NULL or false: ERROR_FILE. */
FILE *output_file_open(struct output_file *file, const char *path, struct error *error);
bool output_file_close(struct output_file *file, FILE *stream, bool good, struct error *error);

/* Say that a file cannot be written, and why by an errno; 0: not known. Always false. */
bool output_file_fail(const char *path, int cause, struct error *error);

/* Write a text to `path`, whole or not at all. ERROR_FILE. */
bool output_file_write(const char *path, const char *text, struct error *error);

#endif
