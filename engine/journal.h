/* The journal of a recording: the framed stream itself, appended to FILE.part while it runs.
 *
 * It opens with a preamble and one JOURNAL frame (times, model, plan), then holds every frame as it
 * came from the worker, and the requests that were sent, each with its checksum: cut at any byte it
 * still plays to its last whole frame. The client writes it on the front's machine, so a recording
 * of a remote worker lands where the user is.
 * Threads: the client's.
 */
#ifndef LAYERTOP_ENGINE_JOURNAL_H
#define LAYERTOP_ENGINE_JOURNAL_H

#include "engine/stream.h"

struct journal;

/* Create `path`.part, which must not exist yet, and write its first frames. `settings` (the engine's
 * at this moment), `model` (a load reply) and `plan` (a plan event) may be NULL. Errors: ERROR_FILE. */
struct journal *journal_new(const char *path, const json_t *hello, const json_t *settings,
                            const json_t *model, const json_t *plan, struct error *error);

/* Append one frame. The first write error ends the writing; journal_broke() and journal_close() tell
 * of it. */
void journal_frame(struct journal *journal, enum stream_type type, uint64_t id, const void *data,
                   size_t bytes);
void journal_json(struct journal *journal, enum stream_type type, uint64_t id, const json_t *json);
/* Write out what is buffered: it is small, so call it once a dispatch. */
void journal_flush(struct journal *journal);

/* Has the writing ended since this was asked last? Then *error becomes ERROR_FILE. */
bool journal_broke(struct journal *journal, struct error *error);

/* {path, frames, bytes} so far. New reference. */
json_t *journal_describe(const struct journal *journal);

/* Flush, sync, close, free. false with ERROR_FILE if anything could not be written. */
bool journal_close(struct journal *journal, struct error *error);

/* Take the journal out of a client, to hand it to the client of the next worker: a change of the
 * devices needs a fresh process and must not cut the recording. NULL if nothing is recorded. */
struct engine;
struct journal *engine_take_journal(struct engine *engine);
/* Go on with it (NULL: nothing to do). The engine owns it from now on. */
void engine_give_journal(struct engine *engine, struct journal *journal);

#endif
