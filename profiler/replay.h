/* The replay worker: it plays a recording over the same stream as a worker that computes.
 *
 *   load     of the recording itself, or of a model in it, is answered from the recording
 *   start    plays from where it stands, with the pacing of the record divided by `speed`; at its
 *            end it says so as a live run that ended does, and the next start begins anew
 *   set      of a value that was recorded jumps to that scene; any other is refused with the list
 *   plan, devices, memory  what was recorded; run, predict, trim are refused
 *
 * Records get our times and our session; a recorded `run` plays as live steps. PLAN events carry
 * `settings`, the values of the scene, so that the front can show them as its own.
 * A recording that cannot be opened answers each request with that error.
 */
#ifndef LAYERTOP_PROFILER_REPLAY_H
#define LAYERTOP_PROFILER_REPLAY_H

#include "engine/clock.h"

/* Serve until the stream ends; returns the exit code of the process. `speed` 1 is the recorded
 * pace by `clock`, 0 as fast as it goes. */
int replay_main(int input_fd, int output_fd, const char *path, double speed,
                const struct clock *clock);

#endif
