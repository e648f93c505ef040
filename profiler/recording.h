/* A recording on disk: the journal of engine/journal.h (FILE.part, perhaps cut), or the HDF5 file
 * that it becomes. Both hold the same bytes of the framed stream; the HDF5 file also holds them as
 * tables for other programs:
 *
 *   attributes    layertop_recording (format, 1) · layertop_version · host · recorded_unix_ns
 *                 whole (0: the journal was cut or damaged at its end)
 *   /stream       u8[bytes], gzip: the journal as it was written
 *   /settings     text, JSON: the settings when the recording began
 *   /model        text, JSON: the reply of the first `load`;   /plan: the first plan
 *   /layers       {index, name, class, parameters}, of that model
 *   /windows      {time_ns, begin_ns, device, segment, steps, samples, rate_ns, wall_ns,
 *                  unexplained_ns, kernel_ns, copy_ns, profiler_ns, launch_ns, preprocess_ns, gap_ns}
 *   /window_layers {window, layer, steps, kernels, sum_ns, min_ns, max_ns}: `window` is a row above
 *   /walls        {window, wall_ms}: every step
 *   /memory       {time_ns, device, weights, activations, workspace, idle, context, used, total,
 *                  library, cupti}
 *   /devices      {time_ns, device, clock_mhz, temperature_c, power_w, util, used, total, ours,
 *                  throttle}
 *   /commands     {time_ns, verb, arguments, ok, answer}: what was asked, and how it went
 *
 * Times are the worker's clock in nanoseconds, memory is bytes; not known: NaN, or -1 in integers.
 * Threads: one at a time (HDF5).
 */
#ifndef LAYERTOP_PROFILER_RECORDING_H
#define LAYERTOP_PROFILER_RECORDING_H

#include "engine/stream.h"

struct recording;

/* Open a journal or an HDF5 recording for reading. NULL with ERROR_FILE: it cannot be read, is cut
 * (HDF5), or is no recording. A journal that is cut opens: it holds what it holds. */
struct recording *recording_open(const char *path, struct error *error);
void recording_close(struct recording *recording);

/* Bytes of the stream; and read some of them: false with ERROR_FILE if that fails. */
uint64_t recording_bytes(const struct recording *recording);
bool recording_read(struct recording *recording, uint64_t offset, void *out, size_t bytes,
                    struct error *error);

/* Call `handler` for each whole frame in order, with the offset of its payload in the stream, until
 * it returns false. Ends at the first cut or damaged frame: *whole tells (may be NULL). false with
 * ERROR_FILE if the bytes cannot be read or are no recording. */
bool recording_walk(struct recording *recording,
                    bool (*handler)(void *context, const struct stream_frame *frame,
                                    uint64_t offset),
                    void *context, bool *whole, struct error *error);

/* Write the HDF5 file `path` from the journal `part`: into a temporary file beside it, renamed at
 * the end. `part` stays. false with ERROR_FILE, and then `path` is as it was. */
bool recording_pack(const char *part, const char *path, struct error *error);

#endif
