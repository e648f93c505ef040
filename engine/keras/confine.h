/* Running a function in a short-lived child that can do nothing but compute and answer. */
#ifndef LAYERTOP_ENGINE_KERAS_CONFINE_H
#define LAYERTOP_ENGINE_KERAS_CONFINE_H

#include "engine/error.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct confine_limits {
    const char *name;      /* for messages */
    uint64_t memory_bytes; /* on top of what is mapped now */
    uint64_t file_bytes;   /* the largest file it may grow (the memory file) */
    int64_t cpu_ns, wall_ns;
    int keep;                  /* the one descriptor the child keeps, or -1 */
    const atomic_bool *cancel; /* true: the child is killed, ERROR_INTERRUPTED; or NULL */
};

/* Fork; in the child drop every descriptor, limit resources, allow only the system calls of plain
 * computing, and run `work`, whose JSON is sent back. Returns that JSON here, or NULL and *error if
 * the child crashed, broke a limit or sent none. The caller's mappings are visible to `work`.
 * `work` gets filtered = false where the kernel refused the system-call filter. */
json_t *confine_run(json_t *(*work)(void *data, bool filtered), void *data,
                    const struct confine_limits *limits, struct error *error);

#endif
