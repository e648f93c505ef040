/* An NVML without a GPU: libnvidia-ml.so.1 for LD_LIBRARY_PATH, so that what is asked of it can be
 * tested. Two GPUs: index 0 is in exclusive mode and held by process 1, nearly full, slowed by its
 * power cap and linked at half width; index 1 has MIG on, without an instance, and answers no other
 * question. FAKE_NVML_INIT: what nvmlInit_v2() answers (0). Built by the test that uses it: cc
 * -shared -fPIC. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_SUPPORTED 3
#define EXPORT        __attribute__((visibility("default"))) int

struct memory {
    unsigned long long total, free, used;
};
struct pci {
    char legacy[16];
    unsigned domain, bus, device, pci_device, pci_subsystem;
    char bus_id[32];
};
struct process {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

static int gpus[2];

/* Answer for GPU 0 alone. */
#define FIRST_ONLY(device)                                                                         \
    if ((device) != &gpus[0])                                                                      \
    return NOT_SUPPORTED

/* a function that gives GPU 0 one number */
#define NUMBER(name, type, value)                                                                  \
    EXPORT name(void *device, type *out);                                                          \
    EXPORT name(void *device, type *out)                                                           \
    {                                                                                              \
        FIRST_ONLY(device);                                                                        \
        *out = (value);                                                                            \
        return 0;                                                                                  \
    }

NUMBER(nvmlDeviceGetComputeMode, int, 3)
NUMBER(nvmlDeviceGetPersistenceMode, int, 0)
NUMBER(nvmlDeviceGetDisplayActive, int, 0)
NUMBER(nvmlDeviceGetVirtualizationMode, int, 2)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, 4)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, 4)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, 4)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, 8)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, 16)

int nvmlInit_v2(void);
int nvmlSystemGetDriverVersion(char *out, unsigned size);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *out, unsigned size);
int nvmlDeviceGetUUID(void *device, char *out, unsigned size);
int nvmlDeviceGetPciInfo_v3(void *device, struct pci *out);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *out);
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor);
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later);
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **part);
int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *out);
int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected,
                              unsigned *pending, unsigned *failed);
int nvmlDeviceGetCpuAffinity(void *device, unsigned words, unsigned long *out);
int nvmlDeviceGetClockInfo(void *device, int type, unsigned *out);
int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned *out);
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *out);

EXPORT nvmlInit_v2(void)
{
    const char *code = getenv("FAKE_NVML_INIT");
    return code != NULL ? atoi(code) : 0;
}

EXPORT nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    snprintf(out, size, "580.95.05");
    return 0;
}

EXPORT nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = 2;
    return 0;
}

EXPORT nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = &gpus[index < 2 ? index : 0];
    return index < 2 ? 0 : 2;
}

EXPORT nvmlDeviceGetName(void *device, char *out, unsigned size)
{
    snprintf(out, size, "Fake GPU %d", device == &gpus[1]);
    return 0;
}

EXPORT nvmlDeviceGetUUID(void *device, char *out, unsigned size)
{
    FIRST_ONLY(device);
    snprintf(out, size, "GPU-01234567-89ab-cdef-0123-456789abcdef");
    return 0;
}

EXPORT nvmlDeviceGetPciInfo_v3(void *device, struct pci *out)
{
    FIRST_ONLY(device);
    memset(out, 0, sizeof *out);
    out->bus = 0x18;
    return 0;
}

EXPORT nvmlDeviceGetMemoryInfo(void *device, struct memory *out)
{
    FIRST_ONLY(device);
    *out = (struct memory){16ULL << 30, 1ULL << 30, 15ULL << 30};
    return 0;
}

EXPORT nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    FIRST_ONLY(device);
    *major = 8;
    *minor = 6;
    return 0;
}

EXPORT nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later)
{
    *now = *later = device == &gpus[1];
    return 0;
}

EXPORT nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **part)
{
    (void)device, (void)index, (void)part;
    return 6; /* not found */
}

EXPORT nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *out)
{
    FIRST_ONLY(device);
    *out = type == 1 && counter == 0 ? 7 : 0;
    return 0;
}

EXPORT nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected,
                                 unsigned *pending, unsigned *failed)
{
    FIRST_ONLY(device);
    *corrected = *uncorrected = *failed = 0;
    *pending = 1;
    return 0;
}

EXPORT nvmlDeviceGetCpuAffinity(void *device, unsigned words, unsigned long *out)
{
    FIRST_ONLY(device);
    memset(out, 0, words * sizeof *out); /* none of ours is near */
    return 0;
}

EXPORT nvmlDeviceGetClockInfo(void *device, int type, unsigned *out)
{
    FIRST_ONLY(device);
    *out = type == 1 ? 1200 : 5000;
    return 0;
}

EXPORT nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned *out)
{
    FIRST_ONLY(device);
    *out = type == 1 ? 1800 : 5000;
    return 0;
}

EXPORT nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *out)
{
    FIRST_ONLY(device);
    out[0] = (struct process){.pid = 1, .used = 14ULL << 30};
    *count = 1;
    return 0;
}
