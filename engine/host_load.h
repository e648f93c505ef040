/* What else goes on on this machine while something is measured: threads of this process that wait for
 * a processor, and pages that have to come from disk. Linux counts both; nothing is sampled. One
 * thread, the caller's. */
#ifndef LAYERTOP_ENGINE_HOST_LOAD_H
#define LAYERTOP_ENGINE_HOST_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#define HOST_LOAD_THREADS 512 /* more are not looked at */

struct host_load {
    int count; /* of threads; -1: the kernel does not tell */
    int64_t faults;
    struct {
        int thread;
        int64_t waited_ns; /* runnable, and without a processor, since it began */
    } threads[HOST_LOAD_THREADS];
};

/* Read the counters of now: a file a thread, some ten microseconds each. */
void host_load_read(struct host_load *out);

/* How long the worst thread waited in between: as all threads of a step wait for the last one, the
 * step is at least so much longer. -1: not known. */
int64_t host_load_waited_ns(const struct host_load *before, const struct host_load *after);

#endif
