/* What a shared library says that it needs, read from the file and not loaded.
 *
 * For 64-bit little-endian ELF (x86-64, AArch64). Every offset is checked against the file, every
 * string and list is bounded: a broken file gives what could be read before the damage, or an error.
 * Source: System V ABI, chapters 4 and 5 (gABI). Any thread.
 */
#ifndef LAYERTOP_ENGINE_PROBE_ELF_H
#define LAYERTOP_ENGINE_PROBE_ELF_H

#include "engine/error.h"

#define ELF_NEEDED_MAX 128

struct elf_needs {
    char *needed[ELF_NEEDED_MAX]; /* DT_NEEDED, in order */
    size_t needed_count;
    char *soname;  /* NULL: none */
    char *rpath;   /* DT_RPATH, NULL: none */
    char *runpath; /* DT_RUNPATH, NULL: none; with one, DT_RPATH counts nothing */
};

/* Fill *out (free it with elf_needs_free). ERROR_FILE if the file cannot be read, ERROR_INPUT if it
 * is no shared library of this kind or contradicts itself; *out is then empty. */
bool elf_read(const char *path, struct elf_needs *out, struct error *error);
void elf_needs_free(struct elf_needs *needs);

#endif
