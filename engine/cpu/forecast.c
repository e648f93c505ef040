/* What a plan would hold: descriptors of every primitive are made, which say their scratchpads and
 * the layouts they want of the weights; no memory is taken and no code is generated. */
#include "engine/cpu/cpu.h"
#include "engine/processes.h"

#include <stdlib.h>

#define PROCESSES_TOLD 8

/* Sums of sizes that are taken in pages. */
static uint64_t in_pages(uint64_t bytes)
{
    return (bytes + 4095) & ~UINT64_C(4095);
}

/* ---- constants it would ask for ---- */

struct weight_want {
    const struct constant *constant, *bias;
    struct dnn_md *md; /* NULL: packed */
    const struct own_conv *packer;
    uint64_t tag;
    struct weight_want *next;
};

static void add_want(struct plan *plan, struct weight_want want, uint64_t bytes)
{
    struct weight_want *added = xcalloc(1, sizeof *added);
    *added = want;
    added->next = plan->wants;
    plan->wants = added;
    plan->wanted_bytes += bytes;
}

void weights_want(struct plan *plan, const struct constant *constant, const struct dnn_md *plain,
                  const struct dnn_md *wanted)
{
    if (!wanted || dnn_md_equal(plain, wanted))
        return; /* read where it lies */
    for (const struct weight_want *want = plan->wants; want; want = want->next) {
        if (want->md && want->constant == constant && dnn_md_equal(want->md, wanted))
            return;
    }
    add_want(plan, (struct weight_want){.constant = constant, .md = dnn_md_clone(wanted)},
             dnn_md_bytes(wanted));
}

void weights_want_packed(struct plan *plan, const struct op_conv *conv,
                         const struct own_conv *packer, size_t bytes)
{
    for (const struct weight_want *want = plan->wants; want; want = want->next) {
        if (want->constant == conv->weights && want->packer == packer && want->bias == conv->bias)
            return;
    }
    add_want(plan,
             (struct weight_want){.constant = conv->weights, .bias = conv->bias, .packer = packer},
             bytes);
}

void weights_want_panels(struct plan *plan, const struct constant *constant, uint64_t tag,
                         size_t bytes)
{
    for (const struct weight_want *want = plan->wants; want; want = want->next) {
        if (want->constant == constant && want->tag == tag && tag > 0)
            return;
    }
    add_want(plan, (struct weight_want){.constant = constant, .tag = tag}, bytes);
}

void weights_wants_free(struct plan *plan)
{
    for (struct weight_want *want = plan->wants, *next; want; want = next) {
        next = want->next;
        dnn_md_free(want->md);
        free(want);
    }
    plan->wants = NULL;
}

/* ---- the whole plan ---- */

bool cpu_plan_forecast(struct device *device, const struct graph *graph,
                       const struct plan_options *options, struct plan_memory *out,
                       struct error *error)
{
    struct plan plan = {.device = device, .graph = graph, .dry = true};
    if (!cpu_precision(options->precision, &plan.type, error))
        return false;
    bool planned =
        plan_quantise(&plan, options, error) &&
        layout_new(&plan.layout, graph, dnnl_data_type_size(plan.type),
                   plan.quantised ? plan.quantised->value_bytes : NULL, options->slice, error);
    if (!planned) {
        quantised_free(plan.quantised);
        free((void *)plan.precisions);
        return false;
    }
    /* values have places, so that what lies in one place is known; nothing is ever there */
    plan.arena = (unsigned char *)(uintptr_t)4096;
    const struct layout *layout = &plan.layout;
    bool good = plan_make_part(&plan, &plan.parts[0], layout->slice ? layout->slice : graph,
                               layout->memory, options, error) &&
                (!layout->rest || plan_make_part(&plan, &plan.parts[1], layout->rest,
                                                 layout->rest_memory, options, error));
    if (good)
        *out =
            (struct plan_memory){.weights_bytes = plan.wanted_bytes,
                                 .arena_bytes = layout->arena_bytes,
                                 .workspace_bytes = plan.scratch_bytes,
                                 .peak_op = layout->memory->peak_op,
                                 .peak_live_bytes = layout->memory->peak_live_bytes,
                                 .slice = plan.parts[0].graph->batch,
                                 .device_bytes = plan.wanted_bytes + in_pages(layout->arena_bytes) +
                                                 in_pages(plan.scratch_bytes)};
    plan_free_parts(&plan);
    weights_wants_free(&plan);
    layout_free(&plan.layout);
    quantised_free(plan.quantised);
    free((void *)plan.precisions);
    return good;
}

size_t cpu_device_processes(struct device *device, struct device_process *out, size_t capacity)
{
    (void)device;
    /* everybody holds some of the host's memory: those that matter */
    return processes_largest(out, capacity < PROCESSES_TOLD ? capacity : PROCESSES_TOLD);
}
