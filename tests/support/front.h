/* The front's end of a worker, for tests that hold real worker processes: start one, and dispatch its
 * events until enough of them came. A test fails by cmocka.
 */
#ifndef LAYERTOP_TESTS_SUPPORT_FRONT_H
#define LAYERTOP_TESTS_SUPPORT_FRONT_H

#include "engine/engine.h"

#define FRONT_PATIENCE_NS INT64_C(60000000000) /* machines under load */

/* `program` runs with --worker, or `command` (may be NULL) as of --worker-command. */
struct engine *front_start(const char *program, const char *command);

/* Dispatch to `handler` until *counter, which it counts up, reaches `wanted`. */
void front_wait(struct engine *engine,
                void (*handler)(void *context, const struct engine_event *event), void *context,
                const int *counter, int wanted);

#endif
