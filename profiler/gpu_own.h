/* Device memory that the source of GPU activity (CUPTI) takes for itself on one device.
 *
 * It has two parts. The buffers made with a context CUPTI tells of (gpu_trace.own_bytes; none where
 * they lie in the host's memory, as we ask it to); they were measured with the context. What it
 * takes later it tells nobody: it reserves more buffers when kernels come faster than it reads their
 * times, and some versions never use one again. That is found from outside: NVML says what the
 * process holds, and what that grows by while steps run, beyond all that is known of, is CUPTI's.
 * The level from which it grows is that of the first sample, so that what NVML counts and we do not
 * (or the other way round) is in no part. Memory that a driver takes while steps run and that no
 * CUPTI record tells of would be counted here too. Pure; any thread.
 */
#ifndef LAYERTOP_PROFILER_GPU_OWN_H
#define LAYERTOP_PROFILER_GPU_OWN_H

#include <stdbool.h>
#include <stdint.h>

struct gpu_own {
    bool known, whole;   /* a level is known; it is of the whole device */
    int64_t level_bytes; /* that nothing known explains and that are not CUPTI's */
    uint64_t grown_bytes;
};

/* A sample of steps that run and memory that nobody changes: the process (`whole`: the device, which
 * nobody else uses) holds `held_bytes`, of which `explained_bytes` are known. */
void gpu_own_sample(struct gpu_own *own, bool whole, uint64_t held_bytes, uint64_t explained_bytes);

#endif
