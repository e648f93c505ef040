/* The collector listens to the engine's observer in the worker and turns calls, CUPTI activity and
 * NVML samples into windows of records (records.h), closed at the front's frame rate (100 ms).
 * It lives on the engine thread; CUPTI's decoder and the NVML sampler are threads of their own that
 * meet it in queues. Its own time inside steps is measured and reported as class PROFILER. */
#ifndef LAYERTOP_PROFILER_COLLECTOR_H
#define LAYERTOP_PROFILER_COLLECTOR_H

#include "engine/worker.h"

struct collector;
struct collector *collector_new(void);
/* The hooks to hand to worker_main(); they belong to the collector. */
const struct worker_hooks *collector_hooks(struct collector *collector);
void collector_free(struct collector *collector);

#endif
