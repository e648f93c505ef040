/* What makes a measurement less worth believing: clocks held down, other processes on the GPU.
 *
 * Pure. Bits are NVML's clocks event reasons (NVML API reference, nvmlClocksEventReasons).
 */
#ifndef LAYERTOP_PROFILER_MARKS_H
#define LAYERTOP_PROFILER_MARKS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct record_device;

/* What NVML's samples said while something was measured. */
struct marks {
    uint64_t samples;  /* 0: nothing is known */
    uint64_t throttle; /* all reasons seen, as bits; UINT64_MAX if none was told */
    uint64_t tenants;  /* the most other processes; UINT64_MAX if never told */
};

void marks_clear(struct marks *marks);
void marks_add(struct marks *marks, const struct record_device *sample);

/* Reasons that slow the clocks down against the user's will; not those of idling or of settings. */
uint64_t marks_throttled(const struct marks *marks);
/* ["sw_power_cap", ...] of those; null if not known. New reference. */
json_t *marks_throttle_json(const struct marks *marks);
/* "power cap, too hot; 2 other processes on the GPU" into out[size], "" if all is well; returns
 * out. */
char *marks_text(const struct marks *marks, char *out, size_t size);

#endif
