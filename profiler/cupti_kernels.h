/* The kernels that were seen: each name with its launch shape once. The decoder's thread adds, any
 * thread looks up. What was found stays as it is until the table is freed. */
#ifndef LAYERTOP_PROFILER_CUPTI_KERNELS_H
#define LAYERTOP_PROFILER_CUPTI_KERNELS_H

#include "profiler/gpu_trace.h"

struct cupti_kernels;
struct cupti_kernels *cupti_kernels_new(void);
void cupti_kernels_free(struct cupti_kernels *kernels);

/* The number (from 1 on) of the kernel that `shape` describes, by its mangled name; 0 if there is
 * no room for more. `shape` and its name are copied. */
uint32_t cupti_kernels_add(struct cupti_kernels *kernels, const struct gpu_kernel *shape);
/* false if there is no such number. */
bool cupti_kernels_get(struct cupti_kernels *kernels, uint32_t number, struct gpu_kernel *out);

#endif
