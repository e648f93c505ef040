#define _GNU_SOURCE /* ppoll */
#include "engine/clock.h"

#include <poll.h>

static int64_t system_now_ns(void *context)
{
    (void)context;
    return clock_now_ns();
}

static int system_wait(void *context, struct pollfd *fds, size_t count, int64_t until_ns)
{
    (void)context;
    if (until_ns == CLOCK_NEVER)
        return ppoll(fds, (nfds_t)count, NULL, NULL);
    int64_t left_ns = until_ns - clock_now_ns();
    left_ns = left_ns > 0 ? left_ns : 0;
    struct timespec left = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
    return ppoll(fds, (nfds_t)count, &left, NULL);
}

const struct clock clock_system = {.now_ns = system_now_ns, .wait = system_wait};
