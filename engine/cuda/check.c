#define _GNU_SOURCE /* dlinfo */
#include "engine/cuda/check.h"
#include "engine/cuda/nvml.h"
#include "engine/visible.h"
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "cudaMalloc(&p, n)" -> "cudaMalloc" */
static const char *call_name(char *out, size_t size, const char *call)
{
    snprintf(out, size, "%.*s", (int)strcspn(call, "( "), call);
    return out;
}

bool cuda_sticky(int status)
{
    switch (status) {
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorUnknown: /* what a GPU that fell off the bus answers */
        return true;
    default:
        return false;
    }
}

bool cuda_check(int status, const char *call, const char *what, struct error *error)
{
    if (status == cudaSuccess) {
        return true;
    }
    char name[96];
    call_name(name, sizeof name, call);
    const char *code = cudaGetErrorName((cudaError_t)status);
    const char *meaning = cudaGetErrorString((cudaError_t)status);
    enum error_code kind = ERROR_CUDA;

    /* a failed call leaves its code behind for the next cudaGetLastError(); this one is reported */
    cudaGetLastError();
    if (status == cudaErrorMemoryAllocation) {
        size_t free_bytes = 0, total_bytes = 0;
        kind = ERROR_MEMORY;
        if (cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess) {
            return error_set(error, kind, what, "%s: %s (%d): %s; %.0f MiB of %.0f MiB are free",
                             name, code, status, meaning, (double)free_bytes / 1048576,
                             (double)total_bytes / 1048576);
        }
    }
    if (status == cudaErrorDevicesUnavailable || status == cudaErrorDeviceUninitialized) {
        kind = ERROR_DEVICE;
    }
    if (cuda_sticky(status)) {
        kind = ERROR_LOST;
    }
    error_set(error, kind, what, "%s: %s (%d): %s%s", name, code, status, meaning,
              cuda_sticky(status) ? "; the GPU's context is lost with all that is in it: the next "
                                    "command begins with a new worker"
                                  : "");
    if (status == cudaErrorDevicesUnavailable) {
        error_set(error, kind, what,
                  "%s: %s (%d): the GPU is in exclusive mode and another process holds it", name,
                  code, status);
        error_hint(error, "nvidia-smi");
    } else if (status == cudaErrorNoKernelImageForDevice) {
        error_set(error, ERROR_GPU, what,
                  "%s: %s (%d): layertop-cuda.so was built for sm " LAYERTOP_CUDA_ARCHS
                  " and holds no code for this GPU's architecture",
                  name, code, status);
        error_hint(error, "nvidia-smi --query-gpu=compute_cap --format=csv; make ARCH=75,80,90");
    }
    return false;
}

bool cudnn_check(const struct libraries *libraries, cudnnStatus_t status, const char *call,
                 const char *what, struct error *error)
{
    if (status == CUDNN_STATUS_SUCCESS) {
        return true;
    }
    char name[96], last[512] = "";
    libraries->cudnn.cudnnGetLastErrorString(last, sizeof last);
    return error_set(error, ERROR_CUDA, what, "%s: %s (%d)%s%s", call_name(name, sizeof name, call),
                     libraries->cudnn.cudnnGetErrorString(status), (int)status,
                     last[0] != '\0' ? ": " : "", last);
}

bool cublaslt_check(cublasStatus_t status, const char *call, const char *what, struct error *error)
{
    static const struct {
        cublasStatus_t status;
        const char *name;
    } names[] = {
        {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED: the library did not start"},
        {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED: out of memory inside cuBLAS"},
        {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE: a parameter is not accepted"},
        {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH: not on this architecture"},
        {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED: the kernel failed"},
        {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR"},
        {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED: no kernel for this problem"},
    };
    if (status == CUBLAS_STATUS_SUCCESS) {
        return true;
    }
    const char *text = "unknown status";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].status == status) {
            text = names[i].name;
        }
    }
    char name[96];
    enum error_code kind = status == CUBLAS_STATUS_ALLOC_FAILED ? ERROR_MEMORY : ERROR_CUDA;
    return error_set(error, kind, what, "%s: %s (%d)", call_name(name, sizeof name, call), text,
                     (int)status);
}

/* Is this libcuda.so.1 the toolkit's stub, which links and does nothing? */
static bool is_stub(void *driver)
{
    struct link_map *map;
    char resolved[4096];
    return dlinfo(driver, RTLD_DI_LINKMAP, &map) == 0 && map->l_name != NULL &&
           realpath(map->l_name, resolved) != NULL && strstr(resolved, "/stubs/") != NULL;
}

static bool no_driver(const char *linker_says, struct error *error)
{
    bool nodes = access("/dev/nvidiactl", F_OK) == 0;
    error_set(error, ERROR_GPU, "NVIDIA driver",
              "libcuda.so.1 was not found in the linker's search path%s%s (%s)",
              nodes
                  ? ", although /dev/nvidiactl is there: the driver's libraries are not in this "
                    "container"
                  : "; /dev/nvidiactl is not there either: no driver is loaded, or this container "
                    "was started without GPUs",
              getenv("LD_LIBRARY_PATH") != NULL ? " or LD_LIBRARY_PATH" : "",
              linker_says != NULL ? linker_says : "no reason given");
    error_hint(error, "nvidia-smi");
    return false;
}

static bool no_device(int code, struct error *error)
{
    const char *variable = getenv("CUDA_VISIBLE_DEVICES");
    char text[512];
    struct visible visible;

    struct nvml_gpu gpus[VISIBLE_MAX];
    const char *uuids[VISIBLE_MAX];

    /* the driver answers 100 both for a machine without GPUs and for one whose GPUs are hidden;
     * NVML sees hidden ones too */
    int known = variable != NULL ? nvml_list(gpus, VISIBLE_MAX) : 0;
    for (int i = 0; i < known; i++) {
        uuids[i] = gpus[i].uuid;
    }
    visible_parse(&visible, variable, uuids, (size_t)known);
    visible_describe(text, sizeof text, &visible, variable);
    if (visible.restricted) {
        error_set(error, ERROR_DEVICE, "GPU", "%s%s (driver: %d)",
                  text[0] != '\0' ? text : "no GPU answers; CUDA_VISIBLE_DEVICES is ",
                  text[0] != '\0' ? "" : variable, code);
        error_hint(error, "unset CUDA_VISIBLE_DEVICES");
        return false;
    }
    error_set(error, ERROR_GPU, "GPU", "the driver is installed and finds no GPU (%d)%s", code,
              access("/dev/nvidia0", F_OK) == 0 ? "" : "; /dev/nvidia0 is not there");
    error_hint(error, "nvidia-smi");
    return false;
}

/* The sentence for what cuInit() answered. */
static bool init_failed(int code, struct error *error)
{
    const char *why = NULL, *hint = "nvidia-smi";
    switch (code) {
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_DEVICE:
        return no_device(code, error);
    case CUDA_ERROR_STUB_LIBRARY:
        why = "libcuda.so.1 is the CUDA toolkit's stub, not a driver";
        hint = "unset LD_LIBRARY_PATH";
        break;
    case cudaErrorInsufficientDriver: /* the runtime's number: a shim that answers for it */
        why = "the driver is older than this build needs, or this container was started without "
              "GPUs";
        break;
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        why = "the driver's library and its kernel module have different versions: reboot, or "
              "reload the module";
        hint = "cat /proc/driver/nvidia/version";
        break;
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        why = "a forward-compatibility libcuda.so.1 is in use, which this GPU does not support";
        hint = "unset LD_LIBRARY_PATH";
        break;
    case CUDA_ERROR_SYSTEM_NOT_READY:
        why = "the NVSwitch fabric is not ready: the fabric manager does not run";
        hint = "systemctl status nvidia-fabricmanager";
        break;
    case CUDA_ERROR_OPERATING_SYSTEM:
        why = "the operating system refused the driver (permissions of /dev/nvidia*?)";
        hint = "ls -l /dev/nvidia*";
        break;
    case CUDA_ERROR_UNKNOWN:
        why =
            "the driver failed without a reason; often /dev/nvidia-uvm is missing, or the machine "
            "was suspended";
        hint = "ls -l /dev/nvidia-uvm";
        break;
    default:
        why = "the driver did not start";
    }
    error_set(error, ERROR_GPU, "NVIDIA driver", "%s (cuInit: %d)", why, code);
    error_hint(error, "%s", hint);
    return false;
}

static bool too_old(int version, struct error *error)
{
    error_set(error, ERROR_GPU, "NVIDIA driver",
              "it supports CUDA %d.%d, and this build needs %d.%d: a newer driver, or a build with "
              "an older toolkit",
              version / 1000, version % 1000 / 10, CUDART_VERSION / 1000,
              CUDART_VERSION % 1000 / 10);
    return error_hint(error, "nvidia-smi");
}

/* A libcuda.so.1 that is no driver: it lacks what every driver has. */
static bool no_functions(void *driver, struct error *error)
{
    struct link_map *map;
    bool known = dlinfo(driver, RTLD_DI_LINKMAP, &map) == 0 && map->l_name != NULL;
    error_set(error, ERROR_GPU, "NVIDIA driver",
              "%s is no driver's library: it has no cuInit, cuDriverGetVersion or cuDeviceGetCount",
              known ? map->l_name : "libcuda.so.1");
    return error_hint(error, "unset LD_LIBRARY_PATH");
}

bool cuda_probe(struct error *error)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (driver == NULL) {
        return no_driver(dlerror(), error);
    }
    if (is_stub(driver)) {
        return init_failed(CUDA_ERROR_STUB_LIBRARY, error);
    }
    __typeof__(&cuInit) init;
    __typeof__(&cuDriverGetVersion) get_version;
    __typeof__(&cuDeviceGetCount) get_count;
    *(void **)&init = dlsym(driver, "cuInit");
    *(void **)&get_version = dlsym(driver, "cuDriverGetVersion");
    *(void **)&get_count = dlsym(driver, "cuDeviceGetCount");
    if (init == NULL || get_version == NULL || get_count == NULL) {
        return no_functions(driver, error);
    }
    /* the driver's own words first: the runtime, which comes with us, would only repeat them */
    int version = 0, count = 0, code = (int)init(0);
    if (code != CUDA_SUCCESS) {
        return init_failed(code, error);
    }
    if (get_version(&version) == CUDA_SUCCESS && version / 1000 < CUDART_VERSION / 1000) {
        return too_old(version, error);
    }
    if (get_count(&count) == CUDA_SUCCESS && count == 0) {
        return no_device(CUDA_ERROR_NO_DEVICE, error);
    }
    return true;
}

bool cuda_probe_runtime(struct error *error)
{
    int version = 0, count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    cudaGetLastError();
    if (status == cudaErrorInsufficientDriver) {
        cudaDriverGetVersion(&version);
        return too_old(version, error);
    }
    if (status == cudaErrorCallRequiresNewerDriver) {
        error_set(error, ERROR_GPU, "NVIDIA driver",
                  "it lacks calls that this build's CUDA %d.%d makes (%d): a newer driver, or a "
                  "build with an older toolkit",
                  CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10, (int)status);
        return error_hint(error, "nvidia-smi");
    }
    if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
        return no_device(cudaErrorNoDevice, error);
    }
    if (status != cudaSuccess) {
        cuda_check((int)status, "cudaGetDeviceCount", "NVIDIA driver", error);
        if (error != NULL) {
            error->code = ERROR_GPU;
        }
        return false;
    }
    return true;
}
