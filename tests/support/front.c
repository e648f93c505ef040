#include "tests/support/front.h"
#include "engine/clock.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct engine *front_start(const char *program, const char *command)
{
    struct engine_options options = {.program = program, .worker_command = command};
    struct error error = {0};
    struct engine *engine = engine_start(&options, &error);
    if (engine == NULL)
        fail_msg("%s", error.why);
    return engine;
}

void front_wait(struct engine *engine,
                void (*handler)(void *context, const struct engine_event *event), void *context,
                const int *counter, int wanted)
{
    int64_t limit_ns = clock_now_ns() + FRONT_PATIENCE_NS;
    while (*counter < wanted) {
        struct pollfd descriptor = {.fd = engine_fd(engine), .events = POLLIN};
        if (engine_wants_write(engine))
            descriptor.events |= POLLOUT;
        poll(&descriptor, 1, 1000);
        engine_dispatch(engine, handler, context);
        if (clock_now_ns() > limit_ns)
            fail_msg("no answer");
    }
}
