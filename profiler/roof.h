/* The most that a device can do: FLOP/s by precision and bytes/s of its memory.
 *
 * Of a GPU it is computed from what NVML says of it (cores, highest clocks, width of the memory
 * bus) and NVIDIA's published rates per multiprocessor and clock. Of a CPU from its instruction set,
 * threads and the clock it runs at when one core works, which is measured; what its memory can do
 * is measured too, where there is time for it. A device under its highest clock cannot reach it. Any
 * thread.
 */
#ifndef LAYERTOP_PROFILER_ROOF_H
#define LAYERTOP_PROFILER_ROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROOF_CLASSES 5 /* enum precision of engine/backend.h, fixed by the records */

enum roof_source { ROOF_UNKNOWN, ROOF_DEVICE_PEAK, ROOF_SOURCE_COUNT };
/* "not known", "device peak". */
const char *roof_source_name(enum roof_source source);

struct roof {
    enum roof_source source;
    double flops_per_s[ROOF_CLASSES]; /* NaN: not known, or not possible */
    double bytes_per_s;
};

struct roof roof_unknown(void);

/* What NVML says; 0: it does not. */
struct gpu_specs {
    unsigned cores;        /* CUDA cores */
    unsigned sm_mhz;       /* highest */
    unsigned memory_mhz;   /* likewise; data moves twice a clock */
    unsigned bus_bits;     /* of the memory */
    unsigned major, minor; /* compute capability */
};
struct roof roof_gpu(const struct gpu_specs *specs);

/* Of a CPU with so many threads at that clock; `cpuinfo` is the text of /proc/cpuinfo. */
struct roof roof_cpu(const char *cpuinfo, int threads, double hertz);
/* Clocks a second of the calling thread's core, measured in about a millisecond; 0 where it is not
 * known how (no x86-64). */
double roof_clock(void);
/* Bytes a second that so many threads read together from ROOF_READ_BYTES, the best of some rounds:
 * a quarter of a second, most of it to make the memory. 0 if there is none to be had. */
#define ROOF_READ_BYTES (UINT64_C(256) << 20)
double roof_memory(int threads);

#endif
