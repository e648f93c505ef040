/* A running process: does it use a GPU, and what with? */
#include "engine/visible.h"
#include "profiler/doctor/rules.h"

#include <stdio.h>
#include <string.h>

static const struct probe_mapped *find_mapped(const struct probes *probes, const char *library)
{
    for (size_t i = 0; i < probes->mapped_count; i++)
        if (strcmp(probes->mapped[i].library, library) == 0)
            return &probes->mapped[i];
    return NULL;
}

static void not_permitted(const struct probes *probes, struct doctor_finding *finding)
{
    doctor_say(finding, DOCTOR_UNKNOWN, "process %lld (%s) belongs to %s: %s",
               (long long)probes->process.pid, *probes->process.name ? probes->process.name : "?",
               *probes->process.user ? probes->process.user : "somebody else",
               *probes->process.why ? probes->process.why : "it may not be read");
    doctor_hint(finding, "sudo layertop -c 'doctor --pid %lld'", (long long)probes->process.pid);
}

void doctor_check_process_stub(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_mapped *driver = find_mapped(probes, "libcuda");
    if (probes->process.maps_read != ANSWER_YES)
        return;
    if (!driver) {
        doctor_say(finding, DOCTOR_OK, "libcuda is not mapped");
    } else if (strstr(driver->path, "/stubs/")) {
        doctor_say(finding, DOCTOR_FAIL, "it runs with %s, the toolkit's stub, which drives no GPU",
                   driver->path);
        doctor_hint(finding, "unset LD_LIBRARY_PATH    (before it is started)");
    } else if (driver->deleted == ANSWER_YES) {
        doctor_say(finding, DOCTOR_WARN,
                   "%s was replaced after the process started: the driver was updated under it",
                   driver->path);
        doctor_hint(finding, "start the process again");
    } else {
        doctor_say(finding, DOCTOR_OK, "%s", driver->path);
    }
}

void doctor_check_process_visible(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_process *process = &probes->process;
    const char *uuids[VISIBLE_MAX];
    struct visible visible;
    char sentence[512];
    if (process->environment_read != ANSWER_YES)
        return;
    if (process->visible_set != ANSWER_YES) {
        doctor_say(finding, DOCTOR_OK, "not set when it was started: every GPU is visible");
        return;
    }
    size_t count = probes->gpus_count < VISIBLE_MAX ? probes->gpus_count : VISIBLE_MAX;
    for (size_t i = 0; i < count; i++)
        uuids[i] = probes->gpus[i].uuid;
    visible_parse(&visible, process->visible, uuids, count);
    visible_describe(sentence, sizeof sentence, &visible, process->visible);
    if (visible.count == 0) {
        doctor_say(finding, DOCTOR_FAIL, "it was started with %s",
                   *sentence ? sentence : "a CUDA_VISIBLE_DEVICES that hides every GPU");
        doctor_hint(finding, "unset CUDA_VISIBLE_DEVICES    (before it is started)");
    } else if (visible.bad_token > 0) {
        doctor_say(finding, DOCTOR_WARN, "it was started with %s", sentence);
        doctor_hint(finding, "unset CUDA_VISIBLE_DEVICES    (before it is started)");
    } else {
        doctor_say(finding, DOCTOR_OK, "it was started with CUDA_VISIBLE_DEVICES=%s",
                   process->visible);
    }
}

void doctor_check_process_libraries(const struct probes *probes, struct doctor_finding *finding)
{
    if (probes->process.maps_read != ANSWER_YES) {
        not_permitted(probes, finding);
        return;
    }
    if (probes->mapped_count == 0) {
        doctor_say(finding, DOCTOR_WARN,
                   "process %lld (%s) has no CUDA library in memory: what it computes, it computes "
                   "on the CPU",
                   (long long)probes->process.pid,
                   *probes->process.name ? probes->process.name : "?");
        doctor_hint(finding, "doctor --python PREFIX    (of its Python environment)");
        return;
    }
    for (size_t i = 0; i < probes->mapped_count; i++)
        doctor_add(finding, "%s%s%s", probes->mapped[i].library,
                   *probes->mapped[i].version ? " " : "", probes->mapped[i].version);
    doctor_raise(finding, DOCTOR_OK);
}

void doctor_check_process_gpu(const struct probes *probes, struct doctor_finding *finding)
{
    const struct probe_process *process = &probes->process;
    bool holds = (process->gpu_files != PROBE_NO_INT && process->gpu_files > 0) ||
                 (process->gpu_bytes != PROBE_NO_INT && process->gpu_bytes > 0);
    if (holds && process->gpu_bytes != PROBE_NO_INT) {
        doctor_say(finding, DOCTOR_OK, "it holds %.2f GiB of GPU memory",
                   (double)process->gpu_bytes / (1 << 30));
    } else if (holds) {
        doctor_say(finding, DOCTOR_OK,
                   "it has a GPU open (%lld descriptors); how much memory it holds is not known",
                   (long long)process->gpu_files);
    } else if (process->files_read != ANSWER_YES) {
        if (process->pid != PROBE_NO_INT)
            not_permitted(probes, finding);
    } else {
        doctor_say(
            finding, DOCTOR_WARN,
            "it has no GPU open: CUDA libraries are loaded, and nothing computes on a GPU yet");
        doctor_hint(finding, "layertop -c doctor");
    }
}

void doctor_check_process_versions(const struct probes *probes, struct doctor_finding *finding)
{
    if (probes->process.maps_read != ANSWER_YES)
        return;
    doctor_raise(finding, DOCTOR_OK);
    for (size_t i = 0; i < probes->mapped_count; i++) {
        for (size_t k = i + 1; k < probes->mapped_count; k++) {
            const struct probe_mapped *a = &probes->mapped[i], *b = &probes->mapped[k];
            if (strcmp(a->library, b->library) != 0 || strcmp(a->path, b->path) == 0)
                continue;
            doctor_raise(finding, DOCTOR_WARN);
            doctor_add(finding, "%s is loaded twice: %s and %s", a->library, a->path, b->path);
            doctor_hint(finding, "unset LD_LIBRARY_PATH    (before it is started)");
        }
    }
    if (finding->state == DOCTOR_OK)
        doctor_say(finding, DOCTOR_OK, "yes");
}
