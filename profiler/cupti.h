/* CUPTI activity as a source of kernels and copies (gpu_trace.h).
 *
 * Opened at run time, before any GPU context: libcupti.so.13 or .12 from the loader's path,
 * CUDA_HOME/{lib64,extras/CUPTI/lib64}, /usr/local/cuda, or NVIDIA's Python wheels. A build without
 * the CUDA headers knows no record layouts and says so.
 */
#ifndef LAYERTOP_PROFILER_CUPTI_H
#define LAYERTOP_PROFILER_CUPTI_H

#include "profiler/gpu_trace.h"

struct cupti_api; /* cupti_api.h: the functions used, so that a mock can stand in */

/* Subscribe, set attributes and callbacks, enable the kinds. `api` NULL opens the library. `raw`:
 * append every activity buffer to this file, or NULL. NULL with ERROR_CUPTI in a sentence that
 * says what stands in the way. Once per process and at a time. */
const struct gpu_trace *cupti_open(const struct cupti_api *api, const char *raw,
                                   struct error *error);

/* Is an NVIDIA driver loaded on this machine (so that a missing CUPTI is worth a word)? */
bool cupti_driver_present(void);

#endif
