/* Facts for `doctor`, without a verdict: what this machine, a Python environment or a process is
 * like, as far as this process may see it.
 *
 * Each function adds sections to one JSON object, the probe record; its members are listed in
 * profiler/doctor/probes.h, which reads it. What cannot be found out is left out. Nothing here runs
 * a foreign program, changes anything, or believes a file: what is read is bounded, and a broken file
 * is an error or a missing fact. Engine thread.
 */
#ifndef LAYERTOP_ENGINE_PROBE_PROBE_H
#define LAYERTOP_ENGINE_PROBE_PROBE_H

#include "engine/error.h"
#include <jansson.h>

/* "host", "driver", "nodes", "cuda", "nvml", "environment", "gpus" and "holders". Calls cuInit(),
 * which creates no context. */
void probe_machine(json_t *record);
/* "python", "frameworks", "needs" and "packages" of an environment: `path` is its folder, its
 * interpreter or a folder of packages. ERROR_FILE if it is none. */
bool probe_python(json_t *record, const char *path, struct error *error);
/* "process" and "mapped". ERROR_VALUE if there is no such process. Its GPU memory is taken from the
 * record's "holders". */
bool probe_process(json_t *record, int pid, struct error *error);
/* A record that was written to a file: its JSON, unjudged. ERROR_FILE or ERROR_INPUT. */
json_t *probe_file(const char *path, struct error *error);

/* What a GPU does while it computes: adds load_* of nvidia-smi's GPU `index` to its object of
 * "gpus". Call it several times: throttle reasons add up, the rest is the highest seen. */
void probe_gpu_load(json_t *gpu, int index);

/* ---- between the files of this folder ---- */

void probe_gpus(json_t *record); /* "nvml", "gpus", "holders" */

/* The value of a variable as this process was started with it (we set some ourselves): "" if it was
 * set to nothing, NULL if it was not. Caller frees. */
char *probe_environment(const char *name);
/* The first `most` bytes of a file, terminated; NULL if it cannot be read. Caller frees. */
char *probe_read(const char *path, size_t most);
/* errno as its name: "EACCES". */
const char *probe_errno(int code);
/* object[key] = text, with control characters cleaned; nothing for NULL. */
void probe_set_text(json_t *object, const char *key, const char *text);

#endif
