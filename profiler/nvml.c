/* The NVML sampler: see nvml.h. */
#include "profiler/nvml.h"

#include "engine/clock.h"
#include "engine/cpu/cpu.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PERIOD_NS     200000000
#define QUEUE         256
#define DEVICES_MAX   64
#define PROCESSES_MAX 128

#define CLOCK_SM        1  /* NVML_CLOCK_SM */
#define CLOCK_MEMORY    2  /* NVML_CLOCK_MEM */
#define DEVICE_LOST     15 /* NVML_ERROR_GPU_IS_LOST */
#define TEMPERATURE_GPU 0  /* NVML_TEMPERATURE_GPU */

/* Shared by the thread and its owner; whoever leaves last frees it */
struct nvml {
    struct nvml_api api;
    void *library;
    pthread_mutex_t lock; /* held for copying only, never across a call into NVML */
    pthread_cond_t wake;
    struct nvml_sample queue[QUEUE];
    size_t head, count;
    struct gpu_specs specs[DEVICES_MAX];
    unsigned specs_count;
    char trouble[256]; /* not yet told; "" if there is none */
    bool stop, asleep, ended;
    atomic_int owners;
};

static void nvml_release(struct nvml *nvml)
{
    if (atomic_fetch_sub(&nvml->owners, 1) != 1)
        return;
    pthread_mutex_destroy(&nvml->lock);
    pthread_cond_destroy(&nvml->wake);
    free(nvml);
}

static void complain(struct nvml *nvml, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void complain(struct nvml *nvml, const char *format, ...)
{
    va_list arguments;
    pthread_mutex_lock(&nvml->lock);
    va_start(arguments, format);
    vsnprintf(nvml->trouble, sizeof nvml->trouble, format, arguments);
    va_end(arguments);
    pthread_mutex_unlock(&nvml->lock);
}

/* What NVML's codes mean when it does not start at all */
static const char *start_failure(int code)
{
    switch (code) {
    case 4:
        return "this user may not ask NVML";
    case 9:
        return "the NVIDIA driver is not loaded";
    case 18:
        return "NVML and the driver's kernel module have different versions (after an update: "
               "reboot)";
    default:
        return "NVML did not start";
    }
}

/* Who has memory there. In a container the driver may know us by another pid, or not say how much
 * anybody holds; then one of them is us. */
static void sample_processes(const struct nvml_api *api, void *device, struct record_device *out)
{
    struct nvml_process infos[PROCESSES_MAX];
    unsigned count = PROCESSES_MAX;
    if (!api->processes || api->processes(device, &count, infos) != 0)
        return;
    bool found = false, sized = true;
    uint64_t others = 0, tenants = 0;
    for (unsigned i = 0; i < count && i < PROCESSES_MAX; i++) {
        bool known = infos[i].used_bytes != ~0ull;
        if (infos[i].pid == (unsigned)getpid()) {
            found = true;
            if (known)
                out->ours = infos[i].used_bytes;
            continue;
        }
        tenants++;
        sized = sized && known;
        others += known ? infos[i].used_bytes : 0;
    }
    out->tenants = tenants > 0 && !found ? tenants - 1 : tenants;
    if (found && sized)
        out->others = others;
}

/* False if the device is lost. */
static bool sample_device(const struct nvml_api *api, void *device, struct record_device *out)
{
    unsigned value = 0;
    struct nvml_utilization utilization = {0, 0};
    struct nvml_memory memory = {0, 0, 0};
    unsigned long long throttle = 0;
    *out = (struct record_device){.clock_mhz = NAN,
                                  .temperature_c = NAN,
                                  .power_w = NAN,
                                  .util = NAN,
                                  .used = RECORD_UNKNOWN,
                                  .total = RECORD_UNKNOWN,
                                  .ours = RECORD_UNKNOWN,
                                  .throttle = RECORD_UNKNOWN,
                                  .others = RECORD_UNKNOWN,
                                  .tenants = RECORD_UNKNOWN};
    int clock = api->clock ? api->clock(device, CLOCK_SM, &value) : -1;
    if (clock == DEVICE_LOST)
        return false;
    if (clock == 0)
        out->clock_mhz = (float)value;
    if (api->temperature && api->temperature(device, TEMPERATURE_GPU, &value) == 0)
        out->temperature_c = (float)value;
    if (api->power && api->power(device, &value) == 0)
        out->power_w = (float)value * 1e-3f;
    if (api->utilization && api->utilization(device, &utilization) == 0)
        out->util = (float)utilization.gpu * 0.01f;
    if (api->memory && api->memory(device, &memory) == 0) {
        out->used = memory.used;
        out->total = memory.total;
    }
    sample_processes(api, device, out);
    if (api->throttle && api->throttle(device, &throttle) == 0)
        out->throttle = throttle;
    return true;
}

static void read_specs(const struct nvml_api *api, void *device, struct gpu_specs *out)
{
    unsigned value = 0;
    int major = 0, minor = 0;
    *out = (struct gpu_specs){.cores = 0};
    if (api->cores && api->cores(device, &value) == 0)
        out->cores = value;
    if (api->max_clock && api->max_clock(device, CLOCK_SM, &value) == 0)
        out->sm_mhz = value;
    if (api->max_clock && api->max_clock(device, CLOCK_MEMORY, &value) == 0)
        out->memory_mhz = value;
    if (api->bus_width && api->bus_width(device, &value) == 0)
        out->bus_bits = value;
    if (api->capability && api->capability(device, &major, &minor) == 0 && major > 0) {
        out->major = (unsigned)major;
        out->minor = (unsigned)minor;
    }
}

/* Sleep until the next sample is due; false when the thread must end */
static bool wait_turn(struct nvml *nvml)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PERIOD_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&nvml->lock);
    while (!nvml->stop && nvml->asleep)
        pthread_cond_wait(&nvml->wake, &nvml->lock);
    while (!nvml->stop && pthread_cond_timedwait(&nvml->wake, &nvml->lock, &until) == 0 &&
           !nvml->asleep)
        continue;
    bool go = !nvml->stop;
    pthread_mutex_unlock(&nvml->lock);
    return go;
}

static void *sampler(void *argument)
{
    struct nvml *nvml = argument;
    unsigned count = 0;
    void *devices[DEVICES_MAX] = {NULL};
    machine_unbind_thread();
    int code = nvml->api.init();
    if (code == 0)
        code = nvml->api.device_count(&count);
    if (code != 0)
        complain(nvml, "clocks, power and temperature are not known: %s (NVML: %d)",
                 start_failure(code), code);
    if (code == 0) {
        count = count < DEVICES_MAX ? count : DEVICES_MAX;
        for (unsigned i = 0; i < count; i++) {
            if (nvml->api.device_by_index(i, &devices[i]) != 0)
                devices[i] = NULL;
            struct gpu_specs specs = {.cores = 0};
            if (devices[i])
                read_specs(&nvml->api, devices[i], &specs);
            pthread_mutex_lock(&nvml->lock);
            nvml->specs[i] = specs;
            nvml->specs_count = i + 1;
            pthread_mutex_unlock(&nvml->lock);
        }
        do {
            for (unsigned i = 0; i < count; i++) {
                if (!devices[i])
                    continue;
                struct nvml_sample sample = {.device = (int)i};
                if (!sample_device(&nvml->api, devices[i], &sample.values)) {
                    complain(nvml,
                             "gpu:%u is lost: the driver cannot reach it any more (NVML: %d). It "
                             "comes back with a reset or a reboot",
                             i, DEVICE_LOST);
                    devices[i] = NULL; /* what is not known now is one last sample */
                }
                sample.time_ns = clock_now_ns();
                pthread_mutex_lock(&nvml->lock);
                if (nvml->count == QUEUE) { /* nobody listens: the newest ones matter */
                    nvml->head = (nvml->head + 1) % QUEUE;
                    nvml->count--;
                }
                nvml->queue[(nvml->head + nvml->count++) % QUEUE] = sample;
                pthread_mutex_unlock(&nvml->lock);
            }
        } while (wait_turn(nvml));
        if (nvml->api.shutdown)
            nvml->api.shutdown();
    }
    pthread_mutex_lock(&nvml->lock);
    nvml->ended = true;
    pthread_cond_broadcast(&nvml->wake);
    pthread_mutex_unlock(&nvml->lock);
    nvml_release(nvml);
    return NULL;
}

/* POSIX hands out functions as data pointers; a union says so without a cast */
static bool resolve(void *library, const char *name, void *slot)
{
    void *address = dlsym(library, name);
    memcpy(slot, &address, sizeof address);
    return address != NULL;
}

static bool api_load(struct nvml *nvml)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return false;
    struct nvml_api *api = &nvml->api;
    bool whole = resolve(library, "nvmlInit_v2", &api->init) &&
                 resolve(library, "nvmlDeviceGetCount_v2", &api->device_count) &&
                 resolve(library, "nvmlDeviceGetHandleByIndex_v2", &api->device_by_index);
    resolve(library, "nvmlShutdown", &api->shutdown);
    resolve(library, "nvmlDeviceGetClockInfo", &api->clock);
    resolve(library, "nvmlDeviceGetTemperature", &api->temperature);
    resolve(library, "nvmlDeviceGetPowerUsage", &api->power);
    resolve(library, "nvmlDeviceGetUtilizationRates", &api->utilization);
    resolve(library, "nvmlDeviceGetMemoryInfo", &api->memory);
    resolve(library, "nvmlDeviceGetComputeRunningProcesses_v3", &api->processes);
    resolve(library, "nvmlDeviceGetMaxClockInfo", &api->max_clock);
    resolve(library, "nvmlDeviceGetMemoryBusWidth", &api->bus_width);
    resolve(library, "nvmlDeviceGetNumGpuCores", &api->cores);
    resolve(library, "nvmlDeviceGetCudaComputeCapability", &api->capability);
    if (!resolve(library, "nvmlDeviceGetCurrentClocksEventReasons", &api->throttle))
        resolve(library, "nvmlDeviceGetCurrentClocksThrottleReasons", &api->throttle);
    if (!whole)
        dlclose(library);
    return whole;
}

struct nvml *nvml_open(const struct nvml_api *api)
{
    struct nvml *nvml = xcalloc(1, sizeof *nvml);
    if (api) {
        nvml->api = *api;
    } else if (!api_load(nvml)) {
        free(nvml);
        return NULL;
    }
    pthread_mutex_init(&nvml->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&nvml->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    atomic_init(&nvml->owners, 2);
    pthread_t thread;
    if (pthread_create(&thread, NULL, sampler, nvml) != 0) {
        atomic_store(&nvml->owners, 1);
        nvml_release(nvml);
        return NULL;
    }
    pthread_detach(thread);
    return nvml;
}

bool nvml_take(struct nvml *nvml, struct nvml_sample *sample)
{
    pthread_mutex_lock(&nvml->lock);
    bool any = nvml->count > 0;
    if (any) {
        *sample = nvml->queue[nvml->head];
        nvml->head = (nvml->head + 1) % QUEUE;
        nvml->count--;
    }
    pthread_mutex_unlock(&nvml->lock);
    return any;
}

bool nvml_trouble(struct nvml *nvml, char *out, size_t size)
{
    pthread_mutex_lock(&nvml->lock);
    bool any = nvml->trouble[0] != '\0';
    if (any)
        snprintf(out, size, "%s", nvml->trouble);
    nvml->trouble[0] = '\0';
    pthread_mutex_unlock(&nvml->lock);
    return any;
}

bool nvml_specs(struct nvml *nvml, int device, struct gpu_specs *out)
{
    pthread_mutex_lock(&nvml->lock);
    bool known = device >= 0 && (unsigned)device < nvml->specs_count;
    if (known)
        *out = nvml->specs[device];
    pthread_mutex_unlock(&nvml->lock);
    return known;
}

void nvml_sleep(struct nvml *nvml, bool asleep)
{
    pthread_mutex_lock(&nvml->lock);
    if (nvml->asleep != asleep) {
        nvml->asleep = asleep;
        pthread_cond_broadcast(&nvml->wake);
    }
    pthread_mutex_unlock(&nvml->lock);
}

void nvml_close(struct nvml *nvml)
{
    if (!nvml)
        return;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&nvml->lock);
    nvml->stop = true;
    pthread_cond_broadcast(&nvml->wake);
    while (!nvml->ended && pthread_cond_timedwait(&nvml->wake, &nvml->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&nvml->lock);
    nvml_release(nvml);
}
