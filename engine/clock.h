/* The one clock of layertop: CLOCK_MONOTONIC in nanoseconds. Host stamps, CUPTI (through its
 * timestamp callback) and NVML samples all use it. Any thread.
 *
 * Loops that wait for a time, the screen's and the replay worker's, take a `struct clock`: with
 * clock_system time passes by itself; with a clock of the caller's it passes when the caller says
 * so, and what such a loop shows depends on nothing but its inputs. */
#ifndef LAYERTOP_ENGINE_CLOCK_H
#define LAYERTOP_ENGINE_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct pollfd;

static inline int64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#define CLOCK_NEVER INT64_MAX

struct clock {
    void *context;
    int64_t (*now_ns)(void *context);
    /* As poll(), with an end instead of a timeout: returns 0 once now_ns() has reached `until_ns`
     * (CLOCK_NEVER: waits for a descriptor only). */
    int (*wait)(void *context, struct pollfd *fds, size_t count, int64_t until_ns);
};

/* clock_now_ns() and poll(). */
extern const struct clock clock_system;

static inline int64_t clock_read_ns(const struct clock *clock)
{
    return clock->now_ns(clock->context);
}

#endif
