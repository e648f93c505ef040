/* See gpu_burst.h. */
#include "profiler/gpu_burst.h"

#include <math.h>

/* The budgets of the design are 2 % from batch 8 on and 5 % below; half of each is left to what the
 * collector itself and the launch records cost. */
#define BUDGET_LARGE     0.01
#define BUDGET_SMALL     0.025
#define BATCH_LARGE      8
/* Steps of a burst with its warm-up, below which the first one counts too */
#define STEPS_TO_WARM_UP 3
#define STEPS_WISHED     5
/* Running means: weight of the newest value, and how far it may stand out */
#define WEIGHT           0.125
#define OUTSTANDING      2.0

void gpu_burst_init(struct gpu_burst *burst, uint64_t batch)
{
    *burst = (struct gpu_burst){
        .budget = batch >= BATCH_LARGE ? BUDGET_LARGE : BUDGET_SMALL,
        .detail = GPU_DETAIL_NODES,
        .length = GPU_BURST_STEPS_MAX,
    };
}

static void learn(double *typical, double value)
{
    if (*typical <= 0)
        *typical = value;
    else
        *typical += WEIGHT * (fmin(value, *typical * OUTSTANDING) - *typical);
}

static bool cost_known(const struct gpu_burst *burst)
{
    return burst->step_ns[GPU_DETAIL_NODES] > 0 && burst->step_ns[GPU_DETAIL_WHOLE] > 0;
}

/* What one step costs more under nodes; never below 0, where noise may put it */
static double extra_ns(const struct gpu_burst *burst)
{
    return fmax(burst->step_ns[GPU_DETAIL_NODES] - burst->step_ns[GPU_DETAIL_WHOLE], 0);
}

int64_t gpu_burst_period_ns(const struct gpu_burst *burst)
{
    if (!cost_known(burst))
        return GPU_BURST_PERIOD_MIN_NS;
    double wished = (STEPS_WISHED * extra_ns(burst) + 2 * burst->switch_ns) / burst->budget;
    return (int64_t)fmin(fmax(wished, (double)GPU_BURST_PERIOD_MIN_NS),
                         (double)GPU_BURST_PERIOD_MAX_NS);
}

/* As many steps as the budget pays for: one at least, for every layer must be seen */
static uint32_t length_paid(const struct gpu_burst *burst)
{
    double most = GPU_BURST_STEPS_MAX;
    double step = fmax(burst->step_ns[GPU_DETAIL_NODES], burst->step_ns[GPU_DETAIL_WHOLE]);
    if (step > 0)
        most = fmin(most, (double)GPU_BURST_NS_MAX / step);
    if (cost_known(burst) && extra_ns(burst) > 0) {
        double allowed = burst->budget * (double)gpu_burst_period_ns(burst) - 2 * burst->switch_ns;
        most = fmin(most, allowed / extra_ns(burst));
    }
    return most < 1 ? 1 : (uint32_t)most;
}

double gpu_burst_cost(const struct gpu_burst *burst)
{
    if (!cost_known(burst))
        return (double)NAN;
    double spent = burst->length * extra_ns(burst) + 2 * burst->switch_ns;
    return spent / fmax((double)gpu_burst_period_ns(burst), spent);
}

bool gpu_burst_warms_up(const struct gpu_burst *burst)
{
    return burst->done == 0 && burst->length >= STEPS_TO_WARM_UP;
}

enum gpu_detail gpu_burst_step(struct gpu_burst *burst, bool replayed, int64_t wall_ns,
                               int64_t now_ns)
{
    if (!replayed) {
        /* the graph was taken down, or is not captured yet: the next replay begins a burst */
        burst->done = 0;
        return GPU_DETAIL_NODES;
    }
    /* the first step after a switch pays for it */
    bool first = burst->detail == GPU_DETAIL_NODES && burst->done == 0;
    if (!first)
        learn(&burst->step_ns[burst->detail], (double)wall_ns);
    if (burst->held)
        return GPU_DETAIL_NODES;
    if (burst->detail == GPU_DETAIL_NODES) {
        if (first)
            burst->begin_ns = now_ns - wall_ns;
        burst->done++;
        int64_t lasted = now_ns - burst->begin_ns;
        bool long_enough = burst->done >= 2 && lasted >= GPU_BURST_NS_MAX;
        if (burst->done < burst->length && !long_enough)
            return GPU_DETAIL_NODES;
        /* steps so long that one of them is a period: each is a burst */
        if (wall_ns < GPU_BURST_PERIOD_MAX_NS)
            return GPU_DETAIL_WHOLE;
        burst->done = 0;
        return GPU_DETAIL_NODES;
    }
    /* before the step that would go past the period */
    double next = (double)(now_ns - burst->begin_ns) + burst->step_ns[GPU_DETAIL_WHOLE];
    return next >= (double)gpu_burst_period_ns(burst) ? GPU_DETAIL_NODES : GPU_DETAIL_WHOLE;
}

void gpu_burst_switched(struct gpu_burst *burst, enum gpu_detail detail, int64_t cost_ns,
                        int64_t now_ns)
{
    learn(&burst->switch_ns, (double)cost_ns);
    burst->detail = detail;
    if (detail != GPU_DETAIL_NODES)
        return;
    burst->begin_ns = now_ns;
    burst->done = 0;
    burst->length = length_paid(burst);
}

bool gpu_burst_seen(struct gpu_burst *burst, uint64_t kernels)
{
    burst->empty = kernels ? 0 : burst->empty + 1;
    if (burst->held || burst->empty < GPU_BURST_BLIND)
        return false;
    burst->held = true;
    return true;
}
