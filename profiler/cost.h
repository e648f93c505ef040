/* What observing costs: blocks of steps that are not observed, in turn with blocks that are.
 *
 * A step counts from its start to the next one's, so that what the observer does between steps is
 * in it. Each block without the observer is held against as many steps that are observed, in turn
 * just before and just after it (which cancels what drifts): ratio = median step with / median step
 * without - 1. Both sides are drawn alike, so that another program on the processor scatters the
 * ratios but does not shift them. The share is the median of the last ratios, the interval its 95 %
 * confidence interval by order statistics (no distribution is assumed; it takes six ratios). What is done ten times a second only, no median step shows: it is timed by
 * itself, and its share added. Blocks last 25 ms or one step, and COST_WATCHED times as long with
 * the observer as without. Pure; any thread.
 */
#ifndef LAYERTOP_PROFILER_COST_H
#define LAYERTOP_PROFILER_COST_H

#include "profiler/store.h"

#define COST_RATIOS       64
#define COST_STEPS        255
#define COST_WATCHED      19 /* one step in twenty goes unobserved */
#define COST_WATCHED_PAIR 3  /* and one in four where the cost itself is asked for */

struct cost {
    double ratios[COST_RATIOS]; /* a ring */
    size_t count, next;
    int64_t with_ns[COST_STEPS], without_ns[COST_STEPS]; /* the last steps of either, rings */
    uint64_t with_steps, without_steps; /* in the present block or the last one of its kind */
    int64_t block_ns;
    uint64_t after; /* so many observed steps complete the block before; 0: nothing waits */
    bool behind;    /* the next ratio is made with the steps behind its block */
    int64_t watched_ns, rounds_ns; /* of observed blocks in all; and what is timed by itself */
    unsigned watched;
    bool unwatched; /* the present block goes without the observer */
};

/* Forget everything; `watched` as above. */
void cost_reset(struct cost *cost, unsigned watched);
/* A step ends and the next one begins: the last one took `step_ns` from start to start, or less
 * than 0 if it is not known (the first one, or after a pause: the present block starts anew).
 * Returns true if a ratio came. cost->unwatched then says whether the next step is not observed. */
bool cost_step(struct cost *cost, int64_t step_ns);
/* The observer did what it does only now and then; it took so long. */
void cost_round(struct cost *cost, int64_t round_ns);
/* Share and interval; NaN below six ratios. */
void cost_read(const struct cost *cost, struct store_cost *out);

#endif
