/* Devices: another one that is faster, clocks that are held down, others that use it too. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <string.h>

/* A08, A09: [S] the facts: nearer than this is no difference */
#define RIVAL_RATIO 1.1
/* A15: less than this the clocks do not matter */
#define CLOCK_LOST  0.03

void advise_check_other_device(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), here = facts->settings.batch;
    const struct advise_rival *best = NULL;
    for (size_t i = 0; i < facts->rivals_count; i++) {
        const struct advise_rival *rival = &facts->rivals[i];
        if (rival->wall_ms / rival->batch > 0 &&
            (!best || rival->wall_ms / rival->batch < best->wall_ms / best->batch))
            best = rival;
    }
    if (!best) {
        if (advise_on_cpu(facts) && facts->device.gpus_usable > 0)
            advise_ask(finding, "a GPU is there and was not measured against this CPU",
                       "devices 0,cpu; run 50");
        return;
    }
    double ratio = step_ms / here / (best->wall_ms / best->batch);
    if (ratio > 1 / RIVAL_RATIO && ratio < RIVAL_RATIO) {
        advise_tell(finding, ADVISE_NOTE, "%.40s is as fast as %.40s at batch %.0f: no difference",
                    best->device, facts->device.id, here);
        return;
    }
    double saved = step_ms * (1 - 1 / ratio);
    if (ratio < 1 || !advise_saves(facts, finding, saved * 0.9, saved, saved * 1.05))
        return;
    advise_say(finding, "%.40s takes %.3g ms for a batch of %.0f, %.40s %.3g ms", best->device,
               best->wall_ms, best->batch, facts->device.id, step_ms);
    advise_formula(finding, "step x (1 - its time of a sample / the present one), both measured in "
                            "turns");
    if (strncmp(best->device, "cpu", 3) == 0) {
        advise_act(finding, "sweep batch 1..64x2; fit says from which batch on the GPU wins");
        advise_keras(finding, "with tf.device(\"/CPU:0\"):\n    y = model(x, training=False)");
    } else {
        advise_keras(finding, "# TensorFlow takes the GPU by itself where it finds one:\n"
                              "# layertop -c 'doctor --python VENV' says why it does not");
    }
    advise_change(finding, "devices", "%s", best->device);
}

void advise_check_throttle(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_marks *marks = &facts->marks;
    double lost = 1 - marks->clock_mhz / marks->clock_top_mhz;
    if (marks->throttled != FLAG_YES)
        return;
    double step_ms = advise_step_ms(facts);
    double busy = advise_share(facts, facts->ledger.kernel_ms);
    double saved = step_ms * (busy > 0 ? busy : 1) * lost;
    if (!(lost > CLOCK_LOST) || !advise_saves(facts, finding, saved / 2, saved, step_ms * lost))
        finding->state = ADVISE_RISK;
    const char *reasons = *marks->reasons ? marks->reasons : "clocks held down";
    if (lost > CLOCK_LOST) {
        advise_say(finding, "%s: %.0f MHz, and %.0f MHz were seen before", reasons,
                   marks->clock_mhz, marks->clock_top_mhz);
        advise_formula(finding, "time of kernels x (1 - clock / highest clock)");
    } else {
        advise_say(finding, "%s while it was measured", reasons);
    }
    advise_act(finding,
               "cool it, or lock a clock that it can hold: nvidia-smi -lgc; do not compare "
               "these numbers with others");
}

void advise_check_tenants(const struct advise_facts *facts, struct advise_finding *finding)
{
    if (!(facts->marks.tenants > 0))
        return;
    advise_tell(
        finding, ADVISE_RISK,
        "%.0f other process%s used the GPU meanwhile: the numbers are not this model's alone",
        facts->marks.tenants, facts->marks.tenants > 1 ? "es" : "");
    advise_act(finding, "mem lists them; measure again when they are gone, or take another GPU");
}

void advise_check_idle_gpus(const struct advise_facts *facts, struct advise_finding *finding)
{
    if (!advise_on_gpu(facts) || !(facts->device.gpus_usable > 1) ||
        strchr(facts->settings.devices, ','))
        return;
    advise_tell(finding, ADVISE_NOTE,
                "%.0f usable GPUs are there and one works: several share the batches",
                facts->device.gpus_usable);
    advise_act(finding, "devices 0,1");
}

/* A comparison with a CPU that was held down flatters the GPU. */
void advise_check_fair_cpu(const struct advise_facts *facts, struct advise_finding *finding)
{
    double threads = facts->settings.threads, cores = facts->device.host_cores;
    bool compared = false;
    for (size_t i = 0; i < facts->rivals_count; i++)
        compared = compared || strncmp(facts->rivals[i].device, "cpu", 3) == 0;
    if (!advise_on_gpu(facts) || !compared || !(threads > 0) || !(threads < cores))
        return;
    advise_tell(
        finding, ADVISE_RISK,
        "the CPU beside it ran with %.0f of its %.0f cores: the GPU looks better than it is",
        threads, cores);
    advise_change(finding, "threads", "0");
}
