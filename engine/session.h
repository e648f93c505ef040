/* The session: the real engine behind the worker. It holds the settings, the model, the devices and
 * the current plans, and executes the verbs of engine.h.
 *
 * Everything on the engine thread; only the `cancel` flag is set by another.
 */
#ifndef LAYERTOP_ENGINE_SESSION_H
#define LAYERTOP_ENGINE_SESSION_H

#include "engine/worker.h"
#include <stdatomic.h>

/* What a session says besides the reply of a request. */
struct session_ports {
    void *context;
    /* Progress of request `id`: fraction 0..1, or NaN if it cannot be told. */
    void (*progress)(void *context, uint64_t id, double fraction, const char *text);
    /* The current plan changed; `plan` is borrowed, JSON null if there is none any more. */
    void (*plan)(void *context, const json_t *plan);
    const atomic_bool *cancel; /* set: end the request under way */
};

struct session;

/* `hooks` and `ports` must outlive the session. Touches no device. */
struct session *session_new(const struct worker_hooks *hooks, const struct session_ports *ports);
/* Frees plans, devices and model, in that order. */
void session_free(struct session *session);

/* Execute one request (borrows `arguments`). Returns the reply's data as a new reference, or NULL
 * and fills *error. */
json_t *session_execute(struct session *session, uint64_t id, const char *verb,
                        const json_t *arguments, struct error *error);

/* Plan anew if another source times the ops than when the plans were made (CUPTI gave up): they then
 * carry events, or wait after each op. False with *error if that cannot be planned; the plans stay. */
bool session_follow_timing(struct session *session, struct error *error);

/* The reply of session_execute() is on its way: a plan event that has to follow it may go too. */
void session_replied(struct session *session);

/* Is it running live? Then session_step() runs one step and returns. A step that fails ends the
 * live run and fills *error. */
bool session_live(const struct session *session);
bool session_step(struct session *session, struct error *error);

/* Is a device open? Only then does anybody need ticks while nothing runs. */
bool session_open(const struct session *session);

#endif
