/* Files that appear whole or not at all are written beside their name and renamed. That must replace
 * files only: renamed onto /dev/null, it would take the device away from the whole machine. Any
 * thread.
 */
#ifndef LAYERTOP_ENGINE_OUTPUT_FILE_H
#define LAYERTOP_ENGINE_OUTPUT_FILE_H

#include "engine/error.h"

/* The name to rename onto so that `path` holds the new file: behind symbolic links if there is a file
 * behind them, which stay links. The caller frees it. NULL with ERROR_FILE where something stands
 * that is no regular file. */
char *output_file_target(const char *path, struct error *error);

/* Write a text to `path`, whole or not at all. ERROR_FILE. */
bool output_file_write(const char *path, const char *text, struct error *error);

#endif
