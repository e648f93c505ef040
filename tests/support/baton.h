/* A clock that stands still until a test moves it, for the two processes of a screen under test: the
 * test holds the baton, the worker follows it over a socket. Both see the same time, and the test
 * knows when the worker has nothing more to do at that time. One thread on either side. */
#ifndef LAYERTOP_TESTS_BATON_H
#define LAYERTOP_TESTS_BATON_H

#include "engine/clock.h"

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#define BATON_SOCKET "LAYERTOP_TEST_BATON" /* environment variable: the socket's path */

/* ---- the test's side ---- */

struct baton {
    int listener, peer; /* peer -1: no worker has called */
    uint64_t serial;
    pid_t worker;            /* that called last */
    int64_t worker_until_ns; /* when it has something to do by itself, CLOCK_NEVER: never */
};

/* Listen at `path`, which workers find in BATON_SOCKET. False if that fails. */
bool baton_open(struct baton *baton, const char *path);
void baton_close(struct baton *baton);
/* Tell the worker the time and wait until it has read everything, done what is due and written what
 * the pipe takes. `fds` are those of the front's loop: false if one of them is ready before a worker
 * has called, which is how one that cannot start shows. */
bool baton_pass(struct baton *baton, int64_t now_ns, struct pollfd *fds, size_t count);

/* ---- the worker's side ---- */

/* The clock of a worker: connects to BATON_SOCKET; the process ends if nobody is there. */
const struct clock *baton_follow(void);

#endif
