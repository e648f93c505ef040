/* How much CUPTI records of replayed graphs: gpu_burst.h decides, this switches between steps. */
#include "engine/clock.h"
#include "profiler/collector_private.h"

#define SWITCH_LIMIT_NS INT64_C(200000000) /* a flush takes a few milliseconds */

struct gpu_join_step collector_burst_how(const struct collector *c)
{
    /* a captured graph launches without a word what was counted when it was captured */
    bool replayed = c->step_kernels == 0 && c->plan_kernels > 0;
    bool whole = replayed && c->burst.detail == GPU_DETAIL_WHOLE;
    return (struct gpu_join_step){
        .kernels = c->step_kernels ? c->step_kernels : c->plan_kernels,
        .replayed = replayed,
        .whole = whole,
        .warm_up =
            replayed && !whole && !c->burst.held && c->burst_seen && gpu_burst_warms_up(&c->burst),
    };
}

static void switch_to(struct collector *c, enum gpu_detail wanted, int64_t now_ns)
{
    int64_t start_ns = clock_now_ns();
    if (wanted == c->burst.detail || !c->trace->detail ||
        !c->trace->detail(c->trace->context, wanted, SWITCH_LIMIT_NS))
        return; /* asked again after the next step */
    int64_t cost_ns = clock_now_ns() - start_ns;
    gpu_burst_switched(&c->burst, wanted, cost_ns, now_ns + cost_ns);
    cost_round(&c->cost, cost_ns);
}

/* What bursts cost beside the median step, for the measured cost of observing */
void collector_burst_step(struct collector *c, bool replayed, int64_t wall_ns, int64_t end_ns)
{
    double whole_ns = c->burst.step_ns[GPU_DETAIL_WHOLE];
    if (replayed && c->burst.detail == GPU_DETAIL_NODES && whole_ns > 0 &&
        (double)wall_ns > whole_ns)
        cost_round(&c->cost, wall_ns - (int64_t)whole_ns);
    switch_to(c, gpu_burst_step(&c->burst, replayed, wall_ns, end_ns), end_ns);
}

void collector_burst_joined(struct collector *c, const struct gpu_joined *joined)
{
    if (!joined->how.replayed || joined->how.whole)
        return;
    c->burst_seen = c->burst_seen || joined->kernels > 0;
    if (!gpu_burst_seen(&c->burst, joined->kernels))
        return;
    collector_note(c, c->burst.switch_ns > 0
                          ? "CUPTI shows no kernels after a pause, so it is paused no more: its "
                            "cost is that of tracing every kernel"
                          : "CUPTI shows no kernels of this CUDA graph: `graph off` shows them");
}

void collector_burst_begin(struct collector *c, bool plan)
{
    if (c->trace && c->trace->detail)
        switch_to(c, GPU_DETAIL_NODES, clock_now_ns());
    enum gpu_detail detail = c->burst.detail;
    c->burst_seen = false;
    c->device_end_ns = c->joined_end_ns = 0;
    if (plan)
        gpu_burst_init(&c->burst, c->batch);
    c->burst.detail = detail;
    if (detail != GPU_DETAIL_NODES)
        c->burst.begin_ns = INT64_MIN / 2; /* could not be switched: the first step tries again */
}
