/* Start a worker's process: pipes to its stdin, stdout and stderr, its own process group, and an
 * end of its own if this process dies. Threads: the client's. */
#ifndef LAYERTOP_ENGINE_SPAWN_H
#define LAYERTOP_ENGINE_SPAWN_H

#include "engine/error.h"
#include <sys/types.h>

struct spawned {
    pid_t pid;
    int pidfd;  /* readable once it ended; -1 on kernels without */
    int input;  /* write end of its stdin; non-blocking */
    int output; /* read end of its stdout; non-blocking */
    int log;    /* read end of its stderr; non-blocking */
};

/* Run argv[0] (a path, not searched for) with argv. Errors: ERROR_WORKER. */
bool spawn_worker(char *const argv[], struct spawned *out, struct error *error);

#endif
