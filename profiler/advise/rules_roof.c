/* Layers that already reach what the device can do: what would not make them faster, and what would. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <string.h>

/* A23, A24: [S] the facts' L9 and A24, NVIDIA's Nsight Compute calls 60 to 80 % of a roof near it */
#define ROOF_REACHED 0.6
/* More than memory can give comes out of a cache: `roof` has that ceiling, not this rule */
#define ROOF_CACHED  1.2
/* Both: so much of a step, in all such layers [H] */
#define ROOF_SHARE   0.2

static double flops_roof(const struct advise_facts *facts)
{
    const struct advise_device *device = &facts->device;
    const char *now = facts->settings.precision;
    return strcmp(now, "fp32") == 0   ? device->roof_fp32
           : strcmp(now, "tf32") == 0 ? device->roof_tf32
           : strcmp(now, "fp16") == 0 ? device->roof_fp16
           : strcmp(now, "bf16") == 0 ? device->roof_bf16
                                      : (double)NAN;
}

static bool moves_at_the_roof(const struct advise_facts *facts, const struct advise_layer *layer,
                              double ms)
{
    double rate = layer->bytes / ms * 1e3 / facts->device.roof_bytes;
    double ridge = flops_roof(facts) / facts->device.roof_bytes;
    return layer->flops / layer->bytes < ridge && rate >= ROOF_REACHED && rate <= ROOF_CACHED;
}

static bool computes_at_the_roof(const struct advise_facts *facts, const struct advise_layer *layer,
                                 double ms)
{
    return layer->flops / ms * 1e3 / flops_roof(facts) >= ROOF_REACHED;
}

/* Time of the layers that are at a roof; they are added to the finding. */
static double at_roof(const struct advise_facts *facts, struct advise_finding *finding,
                      bool (*there)(const struct advise_facts *, const struct advise_layer *,
                                    double ms),
                      size_t *count)
{
    double sum = 0;
    *count = 0;
    for (size_t i = 0; i < facts->layers_count; i++) {
        double ms = advise_layer_ms(facts, &facts->layers[i]);
        if (!(ms > 0) || !there(facts, &facts->layers[i], ms))
            continue;
        sum += ms;
        ++*count;
        advise_layer_add(facts, finding, i);
    }
    return sum;
}

void advise_check_memory_roof(const struct advise_facts *facts, struct advise_finding *finding)
{
    char names[256];
    size_t count;
    double ms = at_roof(facts, finding, moves_at_the_roof, &count);
    double share = ms / advise_step_ms(facts);
    if (!(share >= ROOF_SHARE))
        return;
    advise_tell(finding, ADVISE_NOTE,
                "%s take %.0f %% of a step and move their bytes at %.0f %% and more of what memory "
                "can do: more arithmetic costs nothing there, fewer bytes save time",
                advise_layer_names(facts, finding, count, names, sizeof names), share * 100,
                ROOF_REACHED * 100);
    advise_act(finding, "a narrower precision halves the bytes; a larger batch reads weights once");
}

void advise_check_compute_roof(const struct advise_facts *facts, struct advise_finding *finding)
{
    char names[256];
    size_t count;
    double ms = at_roof(facts, finding, computes_at_the_roof, &count);
    double share = ms / advise_step_ms(facts);
    if (!(share >= ROOF_SHARE))
        return;
    advise_tell(finding, ADVISE_NOTE,
                "%s take %.0f %% of a step and compute at %.0f %% and more of the device's peak in "
                "%s: only a narrower precision or fewer FLOPs make them faster",
                advise_layer_names(facts, finding, count, names, sizeof names), share * 100,
                ROOF_REACHED * 100, facts->settings.precision);
}
