/* Measuring other engines and algorithms for a plan's convolutions and products, between its steps.
 *
 * A pause measures one candidate or a few on the plan's own buffers, whose contents nobody needs
 * between two steps, within the workspace that is there. The winner is used from then on, by every
 * plan that has the problem; a captured graph is captured again when all is measured. */
#include "engine/clock.h"
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include "engine/cuda/run.h"
#include <stdio.h>

#define REPEATS_MAX 12
#define REPEATS_NS  1000000 /* a round lasts about so long */
#define ROUNDS      3
#define GAIN        0.97 /* a candidate must be that much faster: noise is no reason to change */
#define HOPELESS    2.0  /* slower than this at first sight: not measured again */

uint64_t plan_tuning_workspace(const struct plan *plan)
{
    /* engines are shared by all steps that have the problem, in all plans */
    uint64_t least = UINT64_MAX;
    for (const struct plan *other = plan->device->plans; other != NULL; other = other->next) {
        uint64_t room = other->workspace_bytes - other->temporary_bytes;
        least = room < least ? room : least;
    }
    return least != UINT64_MAX ? least / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT : 0;
}

/* Time of `repeats` runs by the device's own clock, ns a run; negative if one failed. */
static double time_runs(struct plan *plan, struct step *step, void *target, int repeats)
{
    cudaStream_t stream = plan->device->stream;
    float milliseconds = 0.0f;
    bool good = cudaEventRecord(plan->tune.events[0], stream) == cudaSuccess;
    for (int i = 0; good && i < repeats; i++) {
        good = step->run(plan, step, target, NULL);
    }
    good = cudaEventRecord(plan->tune.events[1], stream) == cudaSuccess && good;
    good = cudaStreamSynchronize(stream) == cudaSuccess && good;
    good = good && cudaEventElapsedTime(&milliseconds, plan->tune.events[0],
                                        plan->tune.events[1]) == cudaSuccess;
    cudaGetLastError();
    return good ? (double)milliseconds * 1e6 / repeats : -1.0;
}

/* The least of a few rounds, ns; negative if it does not run. `limit_ns`: what it has to beat. */
static double measure(struct plan *plan, struct step *step, double limit_ns)
{
    void *target = step_target(plan, step);
    double once = time_runs(plan, step, target, 1); /* loads the kernel too */
    once = once < 0 ? once : time_runs(plan, step, target, 1);
    if (once < 0 || once > HOPELESS * limit_ns) {
        return once;
    }
    int repeats = once > 0 ? (int)(REPEATS_NS / once) : REPEATS_MAX;
    repeats = repeats < 1 ? 1 : repeats > REPEATS_MAX ? REPEATS_MAX : repeats;
    double least = once;
    for (int round = 0; round < ROUNDS; round++) {
        double now = time_runs(plan, step, target, repeats);
        if (now < 0) {
            return now;
        }
        least = now < least ? now : least;
    }
    return least;
}

/* Begin with the next step that can be measured; false if there is none. */
static bool next_step(struct plan *plan)
{
    struct tune *tune = &plan->tune;
    for (; tune->step < plan->graph->op_count; tune->step++) {
        struct step *step = &plan->steps[tune->step];
        if (step->tuning == NULL || step->impl == NULL) {
            continue;
        }
        tune->count = step->tuning->begin(plan, step);
        if (tune->count > 0) {
            tune->candidate = -1;
            tune->best = -1;
            tune->best_ns = tune->first_ns = 0;
            tune->open = true;
            tune->problems++;
            return true;
        }
    }
    return false;
}

/* Measure the next candidate of the open step; the last one ends it. */
static void next_candidate(struct plan *plan)
{
    struct tune *tune = &plan->tune;
    struct step *step = &plan->steps[tune->step];
    bool first = tune->candidate < 0;

    if (step->tuning->use(plan, step, tune->candidate)) {
        double ns = measure(plan, step, first ? 1e18 : tune->best_ns);
        step->tuning->use(plan, step, -1);
        if (first) {
            tune->first_ns = tune->best_ns = ns;
        } else if (ns > 0 && (tune->best < 0 ? ns < GAIN * tune->best_ns : ns < tune->best_ns)) {
            tune->best = tune->candidate;
            tune->best_ns = ns;
        }
        tune->tried++;
    }
    if (++tune->candidate < (int)tune->count && tune->first_ns > 0) {
        return;
    }
    step->tuning->keep(plan, step, tune->best, tune->best_ns > 0 ? (int64_t)tune->best_ns : 0);
    if (tune->best >= 0) {
        tune->changed++;
        tune->gained_ns += tune->first_ns - tune->best_ns;
    }
    tune->open = false;
    tune->step++;
}

static bool make_events(struct plan *plan)
{
    for (int i = 0; i < 2; i++) {
        if (plan->tune.events[i] == NULL && cudaEventCreate(&plan->tune.events[i]) != cudaSuccess) {
            cudaGetLastError();
            plan->tune.events[i] = NULL;
            return false;
        }
    }
    return true;
}

static void finish(struct plan *plan)
{
    const struct observer *observer = plan->device->observer;
    struct tune *tune = &plan->tune;

    tune->done = true;
    if (tune->changed > 0) {
        replay_free(plan); /* captured again with the new kernels */
    }
    if (tune->tried > 0) {
        plan_entries_save(plan);
    }
    if (tune->changed > 0 && observer != NULL && observer->note != NULL) {
        char text[160];
        snprintf(text, sizeof text,
                 "autotune: %zu of %zu kernels replaced, %.3f ms a step less by their own times",
                 tune->changed, tune->problems, tune->gained_ns / 1e6);
        observer->note(observer->context, text);
    }
}

bool plan_tune(struct plan *plan, int64_t budget_ns)
{
    struct tune *tune = &plan->tune;
    int64_t start_ns = clock_now_ns();

    /* the first steps load kernels and capture the graph: numbers first */
    if (!plan->options.autotune || tune->done || plan->runs < TUNE_AFTER_RUNS) {
        return plan->options.autotune && !tune->done;
    }
    if (!device_use(plan->device, NULL) || !make_events(plan)) {
        tune->done = true;
        return false;
    }
    /* kernels that are loaded to be measured take memory outside our regions */
    uint64_t free_before = device_free_bytes();
    do {
        if (!tune->open && !next_step(plan)) {
            finish(plan);
            break;
        }
        next_candidate(plan);
    } while (clock_now_ns() - start_ns < budget_ns);
    device_charge_context(plan->device, free_before);
    device_report(plan->device);
    return !tune->done;
}

void tune_free(struct plan *plan)
{
    for (int i = 0; i < 2; i++) {
        if (plan->tune.events[i] != NULL) {
            cudaEventDestroy(plan->tune.events[i]);
        }
    }
}
