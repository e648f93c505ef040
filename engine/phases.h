/* Where the time goes until the first answer: a stopwatch for each part of it. Parts lie in one another
 * (an upload within the compilation that wants it); time counts for the innermost one only, so that
 * they add up. Engine thread; the session owns them and backends are handed a pointer, which may be
 * NULL. */
#ifndef LAYERTOP_ENGINE_PHASES_H
#define LAYERTOP_ENGINE_PHASES_H

#include "engine/clock.h"

/* name in the reply of `phases`, what it is called on the screen */
#define PHASES(X)                                                                                  \
    X(PHASE_READ, "read", "read the model")                                                        \
    X(PHASE_LOWER, "lower", "lower it to ops")                                                     \
    X(PHASE_LIBRARIES, "libraries", "find devices, open libraries")                                \
    X(PHASE_CONTEXT, "context", "open the device")                                                 \
    X(PHASE_MODULES, "modules", "load kernels")                                                    \
    X(PHASE_COMPILE, "compile", "compile the plan")                                                \
    X(PHASE_UPLOAD, "upload", "upload or pack weights")                                            \
    X(PHASE_ALLOCATE, "allocate", "allocate memory")                                               \
    X(PHASE_INPUT, "input", "make the input")                                                      \
    X(PHASE_TUNE, "tune", "measure kernels")

enum phase {
#define PHASE_ENUM(name, key, text) name,
    PHASES(PHASE_ENUM)
#undef PHASE_ENUM
        PHASE_COUNT
};

#define PHASES_DEEP 8

struct phases {
    int64_t spent_ns[PHASE_COUNT];
    enum phase open[PHASES_DEEP];
    int depth;        /* open ones; those beyond PHASES_DEEP count for the last of these */
    int64_t since_ns; /* when the innermost one went on */
};

/* The innermost open part gets what has passed. */
static inline void phases_settle(struct phases *phases)
{
    int64_t now_ns = clock_now_ns();
    int deep = phases->depth < PHASES_DEEP ? phases->depth : PHASES_DEEP;
    if (deep > 0)
        phases->spent_ns[phases->open[deep - 1]] += now_ns - phases->since_ns;
    phases->since_ns = now_ns;
}

static inline void phases_begin(struct phases *phases, enum phase phase)
{
    if (phases == NULL)
        return;
    phases_settle(phases);
    if (phases->depth < PHASES_DEEP)
        phases->open[phases->depth] = phase;
    phases->depth++;
}

static inline void phases_end(struct phases *phases)
{
    if (phases == NULL || phases->depth == 0)
        return;
    phases_settle(phases);
    phases->depth--;
}

#endif
