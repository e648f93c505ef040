/* How the CPU engine is used: its processors, threads and caches. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A57: a step's worst thread waited so much of it for a processor */
#define WAITED_SHARE 0.05
/* A59 [M]: of the time in layers this part goes down with the number of cores */
#define PARALLEL     0.93
/* More threads than cores: a step waits for whichever thread got none [M] */
#define CROWDED_GAIN 1.45
#define CROWDED_MOST 3

void advise_check_load(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_run *run = &facts->run;
    double step_ms = advise_step_ms(facts), share = run->waited_ms / run->mean_ms;
    bool crowded = facts->settings.threads > facts->device.cores;
    if (!advise_on_cpu(facts) || !(share > WAITED_SHARE) || crowded)
        return; /* our own threads are in each other's way: A59 */
    double saved = step_ms * fmin(share, 0.9);
    if (!advise_saves(facts, finding, saved / 2, saved, step_ms * fmin(2 * share, 0.95)))
        return;
    finding->base_ms = step_ms;
    advise_say(
        finding,
        "a thread waits %.3g ms of a step of %.3g ms for a processor (%.0f %%): other programs "
        "run on them, or a quota ends",
        run->waited_ms, run->mean_ms, share * 100);
    advise_formula(finding,
                   "the time that the worst thread waited runnable, by the kernel's count");
    advise_act(finding, "end the other programs, or give this one processors of its own: taskset, "
                        "cpuset, cpu.max");
}

void advise_check_threads(const struct advise_facts *facts, struct advise_finding *finding)
{
    double threads = facts->settings.threads, cores = facts->device.cores;
    double step_ms = advise_step_ms(facts), layers = 0;
    if (!advise_on_cpu(facts) || !(threads > 0) || !(cores > 0) || threads == cores)
        return;
    for (size_t i = 0; i < facts->layers_count; i++)
        layers += advise_layer_ms(facts, &facts->layers[i]);
    if (!(layers > 0) || layers > step_ms)
        layers = step_ms;
    bool few = threads < cores;
    double saved =
        few ? layers * PARALLEL * (1 - threads / cores) : step_ms * (1 - 1 / CROWDED_GAIN);
    double most = few ? layers * (1 - threads / cores) : step_ms * (1 - 1. / CROWDED_MOST);
    if (!advise_saves(facts, finding, saved / 2, saved, most))
        return;
    if (few) {
        advise_say(finding, "%.0f thread%s on %.0f cores that may be used", threads,
                   threads == 1 ? "" : "s", cores);
        advise_formula(finding, "time in layers %.3g ms x %.2f x (1 - %.0f/%.0f)", layers, PARALLEL,
                       threads, cores);
    } else {
        advise_say(finding, "%.0f threads on %.0f cores: each step waits for whichever got none",
                   threads, cores);
        advise_formula(finding, "step x (1 - 1/%.2f), up to (1 - 1/%d)", CROWDED_GAIN,
                       CROWDED_MOST);
    }
    advise_change(finding, "threads", "0");
    advise_keras(
        finding,
        "tf.config.threading.set_intra_op_parallelism_threads(%.0f)  # before anything runs",
        cores);
}

void advise_check_slices(const struct advise_facts *facts, struct advise_finding *finding)
{
    const char *slice = facts->settings.slice;
    double here = facts->settings.batch;
    if (!advise_on_cpu(facts) || !*slice || strcmp(slice, "auto") == 0 || !(here > 1))
        return;
    double samples = strtod(slice, NULL);
    if (samples >= here)
        return;
    bool off = strcmp(slice, "off") == 0;
    if (off)
        advise_tell(
            finding, ADVISE_TRY,
            "slices are off: what a layer writes for %.0f samples may leave the cache before "
            "the next reads it",
            here);
    else
        advise_tell(finding, ADVISE_TRY,
                    "the batch of %.0f runs as slices of %.0f: each slice reads all weights again",
                    here, samples);
    advise_change(finding, "slice", "auto");
    advise_keras(finding,
                 "model.predict(x, batch_size=8)  # what a framework does not slice by itself");
}
