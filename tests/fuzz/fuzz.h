/* What the fuzz targets share.
 *
 * A target is LLVMFuzzerTestOneInput() in fuzz_NAME.c: it gives bytes to code that must stand any,
 * and looks at what comes back. A report of a sanitizer, more than a second or more than the
 * memory that run.sh allows is a finding, and so is a broken promise (fuzz_must). */
#ifndef LAYERTOP_TESTS_FUZZ_H
#define LAYERTOP_TESTS_FUZZ_H

#include "engine/model.h"

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's entry. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* End the run as a finding if a promise does not hold. */
#define fuzz_must(promise) ((promise) ? (void)0 : __builtin_trap())

/* A file without a name that holds data[size]. Writes "/proc/self/fd/N" into path[32]; returns N,
 * to be closed. */
int fuzz_file(const void *data, size_t size, char path[32]);

/* Load a model in this process; a failure must be an error of the model's own with words in it. A
 * model that came out is lowered to a graph too, and its weights are read. `weights` is a file for a
 * JSON architecture, or NULL. */
void fuzz_model(const char *path, const char *weights, bool recipe);

#endif
