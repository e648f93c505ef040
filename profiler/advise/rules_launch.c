/* Launches: what the host does to start the GPU's work, and what the GPU waits for. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A02: [S] XProf calls 3 % of launches moderate and 15 % high */
#define LAUNCH_SHARE 0.15
/* A03: [S] the facts' A03; XProf warns from 10 % idle on */
#define IDLE_SHARE   0.3
/* A04: [S] a launch takes 4 to 6 us: kernels as short as that cannot keep the GPU busy */
#define TINY_MS      0.005
#define TINY_KERNELS 20

void advise_check_no_kernels(const struct advise_facts *facts, struct advise_finding *finding)
{
    if (!advise_on_gpu(facts) || !(facts->ledger.steps > 0) || !(facts->ledger.kernel_ms == 0) ||
        strcmp(facts->run.source, "cupti") != 0)
        return;
    advise_tell(finding, ADVISE_RISK, "CUPTI saw no kernel in %.0f steps on %s",
                facts->ledger.steps, facts->device.id);
    advise_act(finding, "doctor");
}

/* Launches that nothing hides, and what the GPU waits between them, as a share of the step. */
static double host_share(const struct advise_facts *facts)
{
    return advise_share(facts, facts->ledger.launch_ms) + advise_share(facts, facts->ledger.gap_ms);
}

void advise_check_launches(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts);
    double launch = advise_share(facts, facts->ledger.launch_ms), all = host_share(facts);
    if (!advise_on_gpu(facts) || launch < LAUNCH_SHARE)
        return;
    if (!advise_saves(facts, finding, step_ms * launch / 2, step_ms * launch, step_ms * all))
        return;
    advise_say(finding,
               "the GPU waits for launches in %.0f %% of a step (%.0f %% with the gaps between "
               "them), and computes in %.0f %%",
               launch * 100, all * 100, advise_share(facts, facts->ledger.kernel_ms) * 100);
    advise_formula(finding, "step x share of launches that nothing hides; with the gaps at most");
    if (facts->settings.graph == FLAG_NO) {
        advise_change(finding, "graph", "on");
        advise_keras(finding,
                     "model.compile(jit_compile=True)  # XLA: few launches instead of many\n"
                     "model.predict(x)");
    } else {
        advise_act(finding, "a larger batch: each launch then carries more work");
        advise_change(finding, "batch", "%.0f", 4 * facts->settings.batch);
        advise_keras(finding, "model.predict(x, batch_size=%.0f)", 4 * facts->settings.batch);
    }
}

void advise_check_idle(const struct advise_facts *facts, struct advise_finding *finding)
{
    double gap = advise_share(facts, facts->ledger.gap_ms);
    double rest = advise_share(facts, facts->ledger.unexplained_ms);
    double step_ms = advise_step_ms(facts), idle = gap + rest;
    if (!advise_on_gpu(facts) || idle < IDLE_SHARE)
        return;
    if (!advise_saves(facts, finding, step_ms * idle / 4, step_ms * idle / 2, step_ms * idle))
        return;
    advise_say(finding,
               "the GPU has nothing to do in %.0f %% of a step: %.0f %% between its work, %.0f %% "
               "before the first and after the last of it",
               idle * 100, gap * 100, rest * 100);
    advise_formula(finding, "half of the idle time, all of it at most");
    if (facts->settings.graph == FLAG_NO) {
        advise_change(finding, "graph", "on");
    } else {
        advise_act(finding, "a larger batch, or several requests at once");
        advise_change(finding, "batch", "%.0f", 2 * facts->settings.batch);
    }
    advise_keras(finding, "model.predict(x, batch_size=%.0f)", 2 * facts->settings.batch);
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void advise_check_tiny(const struct advise_facts *facts, struct advise_finding *finding)
{
    double means[512], launches = 0;
    size_t count = 0;
    for (size_t i = 0; i < facts->kernels_count && count < 512; i++) {
        const struct advise_kernel *kernel = &facts->kernels[i];
        if (!(kernel->blocks > 0) || !(kernel->mean_ms > 0))
            continue;
        means[count++] = kernel->mean_ms;
        launches += kernel->per_step;
    }
    if (!advise_on_gpu(facts) || launches < TINY_KERNELS || count == 0)
        return;
    qsort(means, count, sizeof *means, by_time);
    double median = means[count / 2];
    if (!(median < TINY_MS))
        return;
    advise_tell(finding, facts->settings.graph == FLAG_YES ? ADVISE_NOTE : ADVISE_TRY,
                "half of the %.0f kernels of a step take less than %.2g us: less than launching "
                "one",
                launches, median * 1e3);
    if (facts->settings.graph == FLAG_YES) {
        advise_act(finding, "fuse layers or raise the batch; a model this small may be faster on "
                            "the CPU: devices 0,cpu");
    } else {
        advise_change(finding, "graph", "on");
        advise_keras(finding, "model.compile(jit_compile=True)");
    }
}

void advise_check_autotune(const struct advise_facts *facts, struct advise_finding *finding)
{
    if (!advise_on_gpu(facts) || facts->settings.autotune != FLAG_NO)
        return;
    advise_tell(finding, ADVISE_TRY,
                "kernels are those that the libraries' rules of thumb choose; none was measured");
    advise_change(finding, "autotune", "on");
    advise_keras(finding, "# TensorFlow measures convolutions unless TF_CUDNN_USE_AUTOTUNE=0 is "
                          "set;\n# PyTorch backend: torch.backends.cudnn.benchmark = True");
}

/* A graph whose kernels were not told apart has one time for all layers. */
void advise_check_hidden_layers(const struct advise_facts *facts, struct advise_finding *finding)
{
    size_t timed = 0;
    for (size_t i = 0; i < facts->layers_count; i++)
        timed += facts->layers[i].time_ms > 0;
    if (!advise_on_gpu(facts) || facts->settings.graph != FLAG_YES || facts->layers_count == 0 ||
        timed > 0 || !(facts->ledger.kernel_ms > 0))
        return;
    advise_tell(finding, ADVISE_RISK,
                "the step runs as one CUDA graph, and no layer in it has a time of its own");
    advise_act(finding, "measure once without it to see the layers, then turn it on again");
    advise_change(finding, "graph", "off");
}
