/* CUPTI: see cupti.h. */
#include "profiler/cupti.h"

#include <unistd.h>

bool cupti_driver_present(void)
{
    return access("/proc/driver/nvidia/version", F_OK) == 0 ||
           access("/dev/nvidiactl", F_OK) == 0 ||
           access("/dev/dxg", F_OK) == 0; /* the last is WSL's */
}

const struct gpu_trace *cupti_open(const struct cupti_api *api, const char *raw,
                                   struct error *error)
{
    (void)api;
    (void)raw;
    error_set(error, ERROR_CUPTI, "CUPTI", "layertop was built without the CUDA headers");
    return NULL;
}
