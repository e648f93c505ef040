/* The worker: the process that holds the session (the real engine) and answers the stream.
 *
 * Two threads. The I/O thread owns the descriptors: it reads frames into a request queue, flips the
 * cancel flag, and drains the outbox. The engine thread owns the session, the devices and the
 * plans: it executes requests in order and, between requests, runs live steps. They meet in the
 * queue and the outbox (mutex + condition). Replies are never dropped; records are dropped, and
 * counted, when more than 4 MiB wait.
 */
#ifndef LAYERTOP_ENGINE_WORKER_H
#define LAYERTOP_ENGINE_WORKER_H

#include "engine/observer.h"
#include <jansson.h>

/* What profiler/ hangs into the worker. All calls come on the engine thread. */
struct worker_hooks {
    void *context;
    const struct observer *observer;
    /* Called once: `emit` queues one opaque record frame; any thread may call it. It returns false
     * if the frame was dropped. */
    void (*attach)(void *context, bool (*emit)(void *emit_context, const void *data, size_t bytes),
                   void *emit_context);
    /* The settings profiler/ owns ("profile": auto|cupti|events|clock|off, "raw": FILE or null for
     * raw CUPTI buffers), before any GPU is touched and on each change. Sets *restart if the change
     * needs a fresh process. */
    bool (*configure)(void *context, const char *key, const json_t *value, bool *restart,
                      struct error *error);
    /* "cupti", "events", "clock" or "off": which source times the ops of `device`. */
    const char *(*timing_source)(void *context, const char *device);
    /* From the next segment on: is it to be found out what listening costs? The listener then lets
     * more steps pass unheard than it does by itself. */
    void (*weigh)(void *context, bool asked);
    /* Until it is called again with false: whole steps run that nobody is told of, between two
     * segments. What listens by itself has to be off. */
    void (*rest)(void *context, bool resting);
    /* At least every 100 ms between ops of long work and, with a device open, for three seconds
     * after the last work: then the idle worker sleeps. */
    void (*tick)(void *context);
    /* Wait until every record of finished steps was emitted (before the reply of `run`). */
    void (*flush)(void *context);
    void (*close)(void *context);
    /* Add what profiler/ knows to a probe record (engine/probe/probe.h); may be NULL. */
    void (*probe)(void *context, json_t *record);
    /* Add to the object of one device in a reply to `memory` what profiler/ knows (engine.h); may be
     * NULL. */
    void (*memory)(void *context, const char *device, json_t *answer);
};

/* Serve until the stream ends. Moves the stream to private descriptors and points 1 and 2 at a log
 * pipe whose lines become LOG events. Returns the exit code of the process. */
int worker_main(int input_fd, int output_fd, const struct worker_hooks *hooks);

#endif
