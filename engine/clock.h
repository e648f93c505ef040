/* The one clock of layertop: CLOCK_MONOTONIC in nanoseconds. Host stamps, CUPTI (through its
 * timestamp callback) and NVML samples all use it. Any thread. */
#ifndef LAYERTOP_ENGINE_CLOCK_H
#define LAYERTOP_ENGINE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
