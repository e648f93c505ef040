/* Memory: how near its end, who holds what, and pages that come from disk. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <string.h>

/* A40: [S] TensorBoard and the facts warn from 90 % on */
#define WALL_SHARE   0.9
/* A42: [S] the facts */
#define UNUSED_SHARE 0.25
#define UNUSED_BYTES (64 << 20)
/* A39 [H] */
#define LIMIT_SHARE  0.95
/* A58 [H]: a page that has to be read from an SSD */
#define FAULT_MS     0.1

/* A54: what a signed index of 32 bits counts: libraries refuse larger tensors, or split them */
#define INDEX_MOST 2147483647.0

#define MIB (1024. * 1024.)

void advise_check_wall(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_memory *memory = &facts->memory;
    double room = memory->free_bytes + memory->ours_bytes;
    if (facts->settings.limit_bytes > 0)
        room = fmin(room, facts->settings.limit_bytes);
    if (!(memory->planned_bytes > WALL_SHARE * room))
        return;
    advise_tell(
        finding, ADVISE_RISK,
        "the plan needs %.0f MiB of %.0f MiB that can be had (%.0f %%), most of it at %.60s",
        memory->planned_bytes / MIB, room / MIB, memory->planned_bytes / room * 100,
        *memory->peak_layer ? memory->peak_layer : "one layer");
    if (facts->settings.batch > 1)
        advise_change(finding, "batch", "%.0f", floor(facts->settings.batch / 2));
    advise_act(finding, "batch max says how far the end is; half the batch leaves half the room");
    advise_keras(finding, "model.predict(x, batch_size=%.0f)",
                 fmax(1, floor(facts->settings.batch / 2)));
}

void advise_check_prealloc(const struct advise_facts *facts, struct advise_finding *finding)
{
    if (!advise_on_gpu(facts) || facts->settings.growth != FLAG_NO ||
        !(facts->marks.tenants > 0 ||
          facts->memory.others_bytes > 0.05 * facts->memory.total_bytes))
        return;
    advise_tell(finding, ADVISE_RISK,
                "growth is off: %.0f MiB are reserved and not in use, while other processes hold "
                "%.0f MiB of the same GPU",
                fmax(facts->memory.idle_bytes, 0) / MIB, fmax(facts->memory.others_bytes, 0) / MIB);
    advise_change(finding, "growth", "on");
    advise_keras(finding, "for gpu in tf.config.list_physical_devices(\"GPU\"):\n"
                          "    tf.config.experimental.set_memory_growth(gpu, True)");
}

void advise_check_unused(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_memory *memory = &facts->memory;
    double held =
        memory->idle_bytes + memory->weights_bytes + memory->arena_bytes + memory->workspace_bytes;
    if (!advise_on_gpu(facts) || facts->settings.growth == FLAG_NO ||
        !(memory->idle_bytes > UNUSED_BYTES) || !(memory->idle_bytes > UNUSED_SHARE * held))
        return;
    advise_tell(finding, ADVISE_RISK, "%.0f MiB of %.0f MiB held are not in use",
                memory->idle_bytes / MIB, held / MIB);
    advise_act(finding, "mem trim");
}

void advise_check_limit(const struct advise_facts *facts, struct advise_finding *finding)
{
    double limit = facts->settings.limit_bytes;
    double held =
        facts->memory.weights_bytes + facts->memory.arena_bytes + facts->memory.workspace_bytes;
    if (!advise_on_gpu(facts) || !(limit > 0) || !(held > LIMIT_SHARE * limit))
        return;
    advise_tell(finding, ADVISE_TRY,
                "weights, arena and workspace take %.0f MiB of a limit of %.0f MiB: kernels that "
                "need more workspace are left out",
                held / MIB, limit / MIB);
    advise_change(finding, "limit", "none");
}

void advise_check_swap(const struct advise_facts *facts, struct advise_finding *finding)
{
    double faults = facts->run.faults, step_ms = advise_step_ms(facts);
    double saved = fmin(faults * FAULT_MS, step_ms / 2);
    if (!(faults >= 1) ||
        !advise_saves(facts, finding, saved / 2, saved, step_ms - facts->run.min_ms))
        return;
    advise_say(finding, "%.0f pages a step have to come from disk: memory does not hold the model",
               faults);
    advise_formula(finding, "pages x %.1f ms", FAULT_MS);
    advise_act(finding,
               "free memory, a smaller batch, or precision bf16, which halves the weights");
    if (facts->settings.batch > 1)
        advise_change(finding, "batch", "%.0f", floor(facts->settings.batch / 2));
}

void advise_check_index(const struct advise_facts *facts, struct advise_finding *finding)
{
    double most = 0, here = facts->settings.batch;
    size_t at = 0;
    for (size_t i = 0; i < facts->layers_count; i++)
        if (facts->layers[i].elements > most) {
            most = facts->layers[i].elements;
            at = i;
        }
    if (!(most > INDEX_MOST))
        return;
    double batch = floor(INDEX_MOST / (most / here));
    advise_layer_add(facts, finding, at);
    advise_tell(finding, ADVISE_RISK,
                "%.100s has %.3g numbers at batch %.0f, more than 32 bits count: libraries refuse "
                "such tensors or take slower ways, whatever memory there is",
                facts->layers[at].label, most, here);
    if (batch >= 1)
        advise_change(finding, "batch", "%.0f", batch);
    else
        advise_act(finding, "a smaller input: one sample alone is too large");
    advise_keras(finding, "model.predict(x, batch_size=%.0f)", fmax(batch, 1));
}
