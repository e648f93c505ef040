/* The state of each GPU: who may use it, who does, and how fast it can go. */
#include "profiler/doctor/rules.h"

#include <stdio.h>
#include <string.h>

#define COMPUTE_PROHIBITED 2 /* nvmlComputeMode_t */
#define COMPUTE_EXCLUSIVE  3

/* Starting points, to be calibrated on real machines. */
#define FREE_SHARE_LEAST   0.10
#define HIDDEN_BYTES_LEAST (INT64_C(300) << 20) /* a context takes about as much */

/* NVML's clock event reasons that cost speed (nvml.h: nvmlClocksEventReason...). */
static const struct {
    int64_t bit;
    const char *name;
} throttles[] = {
    {0x0004, "its power cap"},
    {0x0008, "a hardware slowdown"},
    {0x0020, "its temperature"},
    {0x0040, "its temperature (in hardware)"},
    {0x0080, "the power brake of the machine"},
};

static bool known(int64_t value)
{
    return value != PROBE_NO_INT;
}

static double gib(int64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* Does somebody else hold GPU `index`? The first such, or NULL. */
static const struct probe_holder *other_holder(const struct probes *probes, int64_t index)
{
    for (size_t i = 0; i < probes->holders_count; i++)
        if (probes->holders[i].gpu == index && probes->holders[i].ours != ANSWER_YES)
            return &probes->holders[i];
    return NULL;
}

void doctor_check_compute_mode(const struct probes *probes, struct doctor_finding *finding)
{
    size_t usable = 0, seen = 0;
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        const struct probe_holder *holder = other_holder(probes, gpu->index);
        if (!known(gpu->compute_mode))
            continue;
        seen++;
        if (gpu->compute_mode == COMPUTE_PROHIBITED) {
            doctor_add(finding, "gpu:%lld is in mode PROHIBITED: nobody may compute on it",
                       (long long)gpu->index);
        } else if (gpu->compute_mode == COMPUTE_EXCLUSIVE && holder) {
            doctor_add(finding,
                       "gpu:%lld is in mode EXCLUSIVE_PROCESS and process %lld (%s, %s) holds it",
                       (long long)gpu->index, (long long)holder->pid,
                       *holder->name ? holder->name : "?", *holder->user ? holder->user : "?");
        } else {
            usable++;
            continue;
        }
        doctor_hint(finding, "sudo nvidia-smi -i %lld -c 0", (long long)gpu->index);
    }
    if (seen == 0)
        return;
    if (usable == seen)
        doctor_say(finding, DOCTOR_OK, "%s may be shared", seen == 1 ? "the GPU" : "every GPU");
    else
        doctor_raise(finding, usable > 0 ? DOCTOR_WARN : DOCTOR_FAIL);
}

void doctor_check_mig(const struct probes *probes, struct doctor_finding *finding)
{
    size_t usable = 0, seen = 0;
    const struct probe_gpu *sliced = NULL;
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (!known(gpu->mig_mode))
            continue;
        seen++;
        if (gpu->mig_mode == 1 && gpu->mig_instances == 0) {
            doctor_add(finding,
                       "MIG is on at gpu:%lld and it has no instance: nothing can run there",
                       (long long)gpu->index);
            doctor_hint(finding, "sudo nvidia-smi mig -i %lld -cgi 0 -C    (or -i %lld -mig 0)",
                        (long long)gpu->index, (long long)gpu->index);
            continue;
        }
        usable++;
        if (gpu->mig_mode == 1)
            sliced = gpu;
    }
    if (seen == 0)
        return;
    if (usable < seen) {
        doctor_raise(finding, usable > 0 ? DOCTOR_WARN : DOCTOR_FAIL);
    } else if (sliced) {
        doctor_say(finding, DOCTOR_INFO,
                   "gpu:%lld is cut into %lld instances: CUDA shows one, and utilisation is not "
                   "reported",
                   (long long)sliced->index,
                   (long long)(known(sliced->mig_instances) ? sliced->mig_instances : 1));
        doctor_hint(finding, "export CUDA_VISIBLE_DEVICES=MIG-...    (nvidia-smi -L lists them)");
    } else {
        doctor_say(finding, DOCTOR_OK, "off");
    }
}

void doctor_check_health(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (known(gpu->ecc_uncorrected) || gpu->remap_pending != ANSWER_UNKNOWN)
            doctor_raise(finding, DOCTOR_OK);
        if (gpu->remap_failed == ANSWER_YES) {
            doctor_add(finding,
                       "gpu:%lld could not remap broken rows of its memory: it has to be replaced",
                       (long long)gpu->index);
            doctor_raise(finding, DOCTOR_FAIL);
            doctor_hint(finding, "nvidia-smi -q -i %lld -d ROW_REMAPPER", (long long)gpu->index);
        }
        if (known(gpu->ecc_uncorrected) && gpu->ecc_uncorrected > 0) {
            doctor_add(finding,
                       "gpu:%lld has had %lld uncorrected memory errors since the driver "
                       "was loaded: results may be wrong",
                       (long long)gpu->index, (long long)gpu->ecc_uncorrected);
            doctor_raise(finding, DOCTOR_FAIL);
            doctor_hint(finding, "sudo nvidia-smi -i %lld -r", (long long)gpu->index);
        }
        if (gpu->remap_pending == ANSWER_YES) {
            doctor_add(finding, "gpu:%lld waits for a reset to remap broken rows of its memory",
                       (long long)gpu->index);
            doctor_raise(finding, DOCTOR_WARN);
            doctor_hint(finding, "sudo nvidia-smi -i %lld -r", (long long)gpu->index);
        }
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "no uncorrected memory errors");
}

void doctor_check_virtual(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (gpu->virtual_gpu != ANSWER_UNKNOWN || gpu->confidential != ANSWER_UNKNOWN)
            doctor_raise(finding, DOCTOR_OK);
        if (gpu->virtual_gpu == ANSWER_YES)
            doctor_add(finding,
                       "gpu:%lld is virtual: its host decides whether CUPTI may trace, and "
                       "shares its time with others",
                       (long long)gpu->index);
        if (gpu->confidential == ANSWER_YES)
            doctor_add(finding,
                       "gpu:%lld is in confidential computing mode: CUPTI does not trace, "
                       "and copies are encrypted",
                       (long long)gpu->index);
        if (gpu->virtual_gpu == ANSWER_YES || gpu->confidential == ANSWER_YES) {
            doctor_raise(finding, DOCTOR_WARN);
            doctor_hint(finding, "set profile events");
        }
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "neither");
}

static void list_holders(const struct probes *probes, int64_t index, struct doctor_finding *finding)
{
    int listed = 0;
    for (size_t i = 0; i < probes->holders_count && listed < 3; i++) {
        const struct probe_holder *holder = &probes->holders[i];
        if (holder->gpu != index || holder->ours == ANSWER_YES || !known(holder->bytes))
            continue;
        doctor_add(finding, "%.1f GiB are held by process %lld (%s, %s)", gib(holder->bytes),
                   (long long)holder->pid, *holder->name ? holder->name : "?",
                   *holder->user ? holder->user : "?");
        if (listed++ == 0)
            doctor_hint(finding, "ps -fp %lld    (its owner can end it)", (long long)holder->pid);
    }
}

void doctor_check_memory(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (!known(gpu->free_bytes) || !known(gpu->total_bytes) || gpu->total_bytes <= 0)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if ((double)gpu->free_bytes >= FREE_SHARE_LEAST * (double)gpu->total_bytes)
            continue;
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding,
                   "only %.1f of %.1f GiB of gpu:%lld are free; what then fails often calls "
                   "itself a cuDNN or cuBLAS that cannot start",
                   gib(gpu->free_bytes), gib(gpu->total_bytes), (long long)gpu->index);
        list_holders(probes, gpu->index, finding);
        doctor_hint(finding, "nvidia-smi");
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "%.1f of %.1f GiB of gpu:%lld",
                   gib(probes->gpus[0].free_bytes), gib(probes->gpus[0].total_bytes),
                   (long long)probes->gpus[0].index);
}

void doctor_check_hidden_holders(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        int64_t listed = 0;
        bool complete = known(gpu->used_bytes);
        for (size_t k = 0; k < probes->holders_count; k++) {
            if (probes->holders[k].gpu != gpu->index)
                continue;
            complete = complete && known(probes->holders[k].bytes);
            if (known(probes->holders[k].bytes))
                listed += probes->holders[k].bytes;
        }
        if (!complete)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        /* what the driver itself takes of an idle GPU is below the threshold */
        if (gpu->used_bytes - listed <= HIDDEN_BYTES_LEAST + gpu->total_bytes / 100)
            continue;
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding,
                   "%.1f GiB of gpu:%lld are in use by processes that are not listed: of "
                   "another container, a desktop, MPS, or one that hangs as it ends",
                   gib(gpu->used_bytes - listed), (long long)gpu->index);
        doctor_hint(finding, "sudo fuser -v /dev/nvidia%lld    (on the host)",
                    (long long)gpu->index);
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "none");
}

void doctor_check_persistence(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (gpu->persistence == ANSWER_UNKNOWN)
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (gpu->persistence == ANSWER_YES || gpu->display == ANSWER_YES)
            continue;
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding,
                   "gpu:%lld is shut down whenever nobody uses it: each first start takes "
                   "longer",
                   (long long)gpu->index);
        doctor_hint(finding, "sudo nvidia-smi -pm 1");
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "the GPU stays up between programs");
}

void doctor_check_throttle(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (gpu->loaded != ANSWER_YES || !known(gpu->load_throttle))
            continue;
        doctor_raise(finding, DOCTOR_OK);
        for (size_t k = 0; k < sizeof throttles / sizeof *throttles; k++) {
            if (!(gpu->load_throttle & throttles[k].bit))
                continue;
            doctor_raise(finding, DOCTOR_WARN);
            doctor_add(finding, "gpu:%lld is slowed by %s", (long long)gpu->index,
                       throttles[k].name);
            doctor_hint(finding, "nvidia-smi -q -i %lld -d PERFORMANCE,POWER,TEMPERATURE",
                        (long long)gpu->index);
        }
        if (finding->state == DOCTOR_WARN && known(gpu->load_clock_mhz) &&
            known(gpu->clock_max_mhz))
            doctor_add(finding, "%lld of %lld MHz", (long long)gpu->load_clock_mhz,
                       (long long)gpu->clock_max_mhz);
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "nothing slows them down");
    else if (finding->state == DOCTOR_UNKNOWN)
        doctor_say(finding, DOCTOR_UNKNOWN, "nothing computed on a GPU while they were read");
}

void doctor_check_pcie(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (gpu->loaded != ANSWER_YES || !known(gpu->load_pcie_generation) ||
            !known(gpu->pcie_generation_max) || !known(gpu->load_pcie_width) ||
            !known(gpu->pcie_width_max))
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (gpu->load_pcie_generation >= gpu->pcie_generation_max &&
            gpu->load_pcie_width >= gpu->pcie_width_max)
            continue;
        doctor_raise(finding, DOCTOR_WARN);
        /* a generation doubles the speed of a lane */
        double share = (double)gpu->load_pcie_width / (double)gpu->pcie_width_max;
        for (int64_t g = gpu->load_pcie_generation; g < gpu->pcie_generation_max && g < 16; g++)
            share /= 2;
        doctor_add(finding,
                   "gpu:%lld runs at PCIe %lld x%lld where it can %lld x%lld: copies reach "
                   "about %.0f %% of what they could",
                   (long long)gpu->index, (long long)gpu->load_pcie_generation,
                   (long long)gpu->load_pcie_width, (long long)gpu->pcie_generation_max,
                   (long long)gpu->pcie_width_max, share * 100);
        doctor_hint(finding, "sudo lspci -vv -s %s | grep Lnk", *gpu->pci ? gpu->pci : "BUS:DEV.0");
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "full generation and width");
    else if (finding->state == DOCTOR_UNKNOWN)
        doctor_say(finding, DOCTOR_UNKNOWN,
                   "nothing computed on a GPU while it was read, and an idle link slows down");
}

void doctor_check_numa(const struct probes *probes, struct doctor_finding *finding)
{
    for (size_t i = 0; i < probes->gpus_count; i++) {
        const struct probe_gpu *gpu = &probes->gpus[i];
        if (!known(gpu->cpus_shared))
            continue;
        doctor_raise(finding, DOCTOR_OK);
        if (gpu->cpus_shared > 0)
            continue;
        doctor_raise(finding, DOCTOR_WARN);
        doctor_add(finding,
                   "this process may not run on any CPU near gpu:%lld: copies and launches "
                   "cross to another socket",
                   (long long)gpu->index);
        if (known(gpu->numa_node) && gpu->numa_node >= 0)
            doctor_hint(finding, "numactl --cpunodebind=%lld --membind=%lld layertop",
                        (long long)gpu->numa_node, (long long)gpu->numa_node);
        else
            doctor_hint(finding, "nvidia-smi topo -m");
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "this process may run on them");
}
