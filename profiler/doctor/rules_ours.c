/* layertop itself: its GPU part, the libraries it opens, what it computes, where it is shown. */
#include "profiler/doctor/rules.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* CUDA 13 compiles for compute capability 7.5 and newer only (its release notes). */
#define CUDA_13           13000
#define CUDA_13_OLDEST    75
#define SMOKE_ERROR_MOST  1e-3 /* fp32 without TF32; sums in another order differ by less */
#define CLOCK_STEP_MOST   1000 /* ns */
#define SCREEN_ROWS_LEAST 24
#define SCREEN_COLUMNS    80

static bool known(int64_t value)
{
    return value != PROBE_NO_INT;
}

void doctor_check_gpu_part(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_gpu_part *part = &probes->gpu_part;
    if (part->found == ANSWER_UNKNOWN)
        return;
    if (part->found == ANSWER_NO) {
        doctor_say(finding, DOCTOR_FAIL, "layertop-cuda.so cannot be used: %s",
                   *part->why ? part->why : "it was not found");
        doctor_hint(finding, "make CUDA=1");
        return;
    }
    doctor_say(finding, DOCTOR_OK, "built with CUDA %lld.%lld for sm %s",
               (long long)(known(part->cuda_version) ? part->cuda_version / 1000 : 0),
               (long long)(known(part->cuda_version) ? part->cuda_version % 1000 / 10 : 0),
               *part->architectures ? part->architectures : "?");
}

void doctor_check_versions(const struct probes *probes, struct doctor_finding *finding)
{
    int64_t driver = probes->cuda.version, built = probes->gpu_part.cuda_version;
    if (!known(driver) || !known(built) || driver <= 0)
        return;
    long long d = driver / 1000, d2 = driver % 1000 / 10, b = built / 1000, b2 = built % 1000 / 10;
    if (d < b) {
        doctor_say(
            finding, DOCTOR_FAIL,
            "the driver knows CUDA up to %lld.%lld, this build is of CUDA %lld.%lld: a newer "
            "driver or an older toolkit is needed",
            d, d2, b, b2);
        doctor_hint(finding, "sudo apt-get install --only-upgrade nvidia-driver; sudo reboot");
    } else if (driver < built) {
        doctor_say(
            finding, DOCTOR_WARN,
            "the driver knows CUDA up to %lld.%lld, this build is of %lld.%lld: machine code "
            "runs, but what the driver has to compile may fail (222)",
            d, d2, b, b2);
        doctor_hint(finding, "sudo apt-get install --only-upgrade nvidia-driver; sudo reboot");
    } else {
        doctor_say(finding, DOCTOR_OK, "CUDA %lld.%lld in the driver, %lld.%lld in the build", d,
                   d2, b, b2);
    }
}

void doctor_check_toolkit_age(const struct probes *probes, struct doctor_finding *finding)
{
    if (!known(probes->gpu_part.cuda_version))
        return;
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (!known(gpu->architecture))
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (probes->gpu_part.cuda_version < CUDA_13 || gpu->architecture >= CUDA_13_OLDEST)
            continue;
        doctor_raise(finding, DOCTOR_FAIL);
        doctor_add(finding,
                   "gpu:%lld (%s) has compute capability %lld.%lld, and CUDA 13 serves 7.5 "
                   "and newer: it needs a build with CUDA 12",
                   (long long)gpu->index, gpu->name, (long long)(gpu->architecture / 10),
                   (long long)(gpu->architecture % 10));
        doctor_hint(finding, "make NVCC=/usr/local/cuda-12/bin/nvcc ARCH=%lld",
                    (long long)gpu->architecture);
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "yes");
}

/* Machine code (same major, not newer) in a list "75,90"? */
static bool has_machine_code(const char *list, int64_t architecture)
{
    for (const char *at = list; *at;) {
        char *end;
        long one = strtol(at, &end, 10);
        if (end == at)
            return false;
        if (one / 10 == architecture / 10 && one % 10 <= architecture % 10)
            return true;
        at = *end ? end + 1 : end;
    }
    return false;
}

void doctor_check_architectures(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_gpu_part *part = &probes->gpu_part;
    size_t good = 0, seen = 0;
    for (size_t i = 0; i < probes->gpus_count && *part->architectures; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (!known(gpu->architecture))
            continue;
        seen++;
        if (has_machine_code(part->architectures, gpu->architecture)) {
            good++;
            continue;
        }
        bool ptx = known(part->ptx) && part->ptx <= gpu->architecture;
        good += ptx;
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding, "gpu:%lld is sm_%lld, the build holds sm %s: %s", (long long)gpu->index,
                   (long long)gpu->architecture, part->architectures,
                   ptx ? "the driver compiles its PTX at the first start, which takes long"
                       : "nothing in it can run there (cuda error 209)");
        doctor_hint(finding, "make ARCH=%lld", (long long)gpu->architecture);
    }
    if (seen == 0)
        return;
    if (finding->state == DOCTOR_UNKNOWN)
        doctor_say(finding, DOCTOR_OK, "sm %s", part->architectures);
    else if (good == 0)
        doctor_raise(finding, DOCTOR_FAIL);
}

/* Which library of the three can be done without? */
static bool optional(const struct probe_library *library)
{
    return strcmp(library->name, "CUPTI") == 0;
}

static const char *package_of(const struct probe_library *library)
{
    static const char *const packages[][2] = {{"cuBLASLt", "nvidia-cublas"},
                                              {"cuDNN", "nvidia-cudnn-cu13"},
                                              {"CUPTI", "nvidia-cuda-cupti"}};
    for (size_t i = 0; i < sizeof packages / sizeof *packages; i++)
        if (strcmp(packages[i][0], library->name) == 0)
            return packages[i][1];
    return "nvidia-cuda-runtime";
}

void doctor_check_libraries(const struct probes *probes, struct doctor_finding *finding)
{
    char found[256] = "";
    for (size_t i = 0; i < probes->libraries_count; i++) {
        const struct probe_library *library = &probes->libraries[i];
        enum doctor_state bad = optional(library) ? DOCTOR_WARN : DOCTOR_FAIL;
        if (library->found == ANSWER_UNKNOWN)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (library->found == ANSWER_NO) {
            doctor_raise(finding, bad);
            doctor_add(finding, "%s was not found%s%s", library->name, *library->why ? ": " : "",
                       library->why);
            doctor_hint(finding, "pip install %s", package_of(library));
        } else if (known(library->built_major) && known(library->major) &&
                   library->major != library->built_major) {
            doctor_raise(finding, bad);
            doctor_add(finding, "%s is %s (%s), and %lld is needed", library->name,
                       library->version, library->path, (long long)library->built_major);
            doctor_hint(finding, "pip install %s", package_of(library));
        } else {
            size_t used = strlen(found);
            snprintf(found + used, sizeof found - used, "%s%s %s", used ? ", " : "", library->name,
                     library->version);
        }
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "%s", found);
}

void doctor_check_smoke(const struct probes *probes, struct doctor_finding *finding)
{
    char passed[256] = "";
    bool gpu = false;
    for (size_t i = 0; i < probes->smokes_count; i++) {
        const struct probe_smoke *smoke = &probes->smokes[i];
        gpu = gpu || strncmp(smoke->device, "gpu", 3) == 0;
        if (smoke->ran == ANSWER_UNKNOWN)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (smoke->ran == ANSWER_NO) {
            doctor_raise(finding, DOCTOR_FAIL);
            doctor_add(finding, "%s: the %s failed: %s", smoke->device, smoke->test,
                       *smoke->why ? smoke->why : "no reason was given");
        } else if (strcmp(smoke->test, "kernel") != 0 && !(smoke->error <= SMOKE_ERROR_MOST)) {
            doctor_raise(finding, DOCTOR_FAIL);
            doctor_add(finding, "%s: the %s is wrong: it differs from the CPU's by %.1e",
                       smoke->device, smoke->test, smoke->error);
        } else {
            size_t used = strlen(passed);
            snprintf(passed + used, sizeof passed - used, "%s%s %s", used ? ", " : "",
                     smoke->device, smoke->test);
            if (isfinite(smoke->error) && used + 64 < sizeof passed)
                snprintf(passed + strlen(passed), sizeof passed - strlen(passed), " (error %.0e)",
                         smoke->error);
        }
    }
    if (finding->state == DOCTOR_FAIL)
        doctor_hint(finding, "LAYERTOP_CUDA_MODULE= layertop -c devices; nvidia-smi -q -d ECC");
    else if (finding->state == DOCTOR_OK)
        doctor_say(finding, gpu ? DOCTOR_OK : DOCTOR_UNKNOWN, "%s%s", gpu ? "" : "no GPU: only ",
                   passed);
}

/* CUPTI's codes (cupti_result.h) in words. */
void doctor_check_tracing(const struct probes *probes, struct doctor_finding *finding)
{
    static const struct {
        int code;
        const char *why, *hint;
    } rows[] = {
        {15, "the driver is older than this CUPTI", "set profile events"},
        {26, "another tool holds the GPU's counters", "dcgmi profile --pause"},
        {33, "the GPU is virtual and its host forbids tracing", "set profile events"},
        {35, "the driver lets only administrators trace",
         "echo options nvidia NVreg_RestrictProfilingToAdminUsers=0 | sudo tee "
         "/etc/modprobe.d/nvidia-profiling.conf; sudo reboot"},
        {39, "another tool traces already: Nsight, cuda-gdb or compute-sanitizer",
         "set profile events"},
        {40, "the GPU is virtual and its host has not granted tracing", "set profile events"},
        {41, "confidential computing forbids tracing", "set profile events"},
        {43, "MIG slices are not traced by this driver", "set profile events"},
        {44, "GPUs joined by SLI are not traced", "set profile events"},
        {45, "WSL is not traced by this driver", "set profile events"},
    };
    const struct probe_tracing *tracing = &probes->tracing;
    if (tracing->tried != ANSWER_YES || !known(tracing->code))
        return;
    if (tracing->code == 0) {
        doctor_say(finding, DOCTOR_OK, "CUPTI traces");
        return;
    }
    const char *why = *tracing->why ? tracing->why : "it refuses";
    const char *hint = "set profile events";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].code == tracing->code) {
            why = rows[i].why;
            hint = rows[i].hint;
        }
    }
    doctor_say(finding, DOCTOR_WARN, "CUPTI answers %lld: %s; CUDA events time the layers instead",
               (long long)tracing->code, why);
    doctor_hint(finding, "%s", hint);
}

void doctor_check_counters(const struct probes *probes, struct doctor_finding *finding)
{
    if (probes->driver.admin_only_profiling == ANSWER_YES)
        doctor_say(finding, DOCTOR_INFO,
                   "the driver keeps hardware counters for administrators "
                   "(RmProfilingAdminOnly: 1); layer times do not need them");
    else if (probes->driver.admin_only_profiling == ANSWER_NO)
        doctor_say(finding, DOCTOR_OK, "any user may read them");
}

void doctor_check_cpus(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_host *host = &probes->host;
    if (!known(host->cpus_online) || !known(host->cpus_allowed))
        return;
    double may = (double)host->cpus_allowed;
    bool quota = host->cpus_quota > 0 && host->cpus_quota < may;
    if (quota)
        may = host->cpus_quota;
    if (may >= (double)host->cpus_online) {
        doctor_say(finding, DOCTOR_OK, "all %lld", (long long)host->cpus_online);
        return;
    }
    doctor_say(finding, DOCTOR_WARN,
               "%g of %lld CPUs (%s): the CPU's numbers, and what feeds a GPU, are those of a "
               "smaller machine",
               may, (long long)host->cpus_online,
               quota ? "cgroup cpu.max" : "the scheduler's affinity mask");
    doctor_hint(finding, quota ? "docker update --cpus %lld CONTAINER" : "taskset -pc 0-%lld $$",
                (long long)(quota ? host->cpus_online : host->cpus_online - 1));
}

void doctor_check_terminal(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_terminal *terminal = &probes->terminal;
    if (terminal->present == ANSWER_UNKNOWN)
        return;
    if (terminal->present == ANSWER_NO) {
        doctor_say(finding, DOCTOR_OK, "none: lines are printed instead of a screen");
        return;
    }
    if (!*terminal->type || strcmp(terminal->type, "dumb") == 0) {
        doctor_add(finding, "TERM is %s: there can be no screen",
                   *terminal->type ? "dumb" : "not set");
        doctor_hint(finding, "export TERM=xterm-256color");
    }
    if (terminal->utf8 == ANSWER_NO) {
        doctor_add(finding, "the locale is not UTF-8: plots are drawn in ASCII");
        doctor_hint(finding, "export LC_ALL=C.UTF-8");
    }
    if (known(terminal->rows) && known(terminal->columns) &&
        (terminal->rows < SCREEN_ROWS_LEAST || terminal->columns < SCREEN_COLUMNS)) {
        doctor_add(finding, "%lldx%lld cells are few: 80x24 show more",
                   (long long)terminal->columns, (long long)terminal->rows);
        doctor_hint(finding, "--plain");
    }
    if (*finding->what)
        doctor_raise(finding, DOCTOR_INFO);
    else
        doctor_say(finding, DOCTOR_OK, "%s, %lldx%lld", terminal->type,
                   (long long)(known(terminal->columns) ? terminal->columns : 0),
                   (long long)(known(terminal->rows) ? terminal->rows : 0));
}

void doctor_check_locking(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_host *host = &probes->host;
    if (host->folder_locks == ANSWER_UNKNOWN)
        return;
    if (host->folder_locks == ANSWER_YES) {
        doctor_say(finding, DOCTOR_OK, "this folder%s%s%s takes them",
                   *host->folder_system ? " (" : "", host->folder_system,
                   *host->folder_system ? ")" : "");
    } else if (strcmp(host->hdf5_locking, "FALSE") == 0 || strcmp(host->hdf5_locking, "0") == 0) {
        doctor_say(finding, DOCTOR_OK, "this folder takes none, and HDF5 is told not to ask");
    } else {
        doctor_say(
            finding, DOCTOR_FAIL,
            "this folder%s%s%s refuses file locks (%s): HDF5 then cannot open .h5 files here",
            *host->folder_system ? " is on " : "", host->folder_system,
            *host->folder_system ? " and" : "", host->lock_error);
        doctor_hint(finding, "export HDF5_USE_FILE_LOCKING=FALSE");
    }
}

void doctor_check_clock(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_host *host = &probes->host;
    if (!known(host->clock_step_ns))
        return;
    const char *source = *host->clock_source ? host->clock_source : "unknown";
    if (host->clock_step_ns <= CLOCK_STEP_MOST) {
        doctor_say(finding, DOCTOR_OK, "%s, steps of %lld ns", source,
                   (long long)host->clock_step_ns);
        return;
    }
    doctor_say(finding, DOCTOR_WARN,
               "its steps are %lld ns (source %s): times of single layers are coarse",
               (long long)host->clock_step_ns, source);
    doctor_hint(finding, "echo tsc | sudo tee "
                         "/sys/devices/system/clocksource/clocksource0/current_clocksource");
}
