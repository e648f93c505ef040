/* On/off blocks: see cost.h. */
#include "profiler/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_NS   INT64_C(25000000)
#define MISS_SHARE 0.025 /* on either side of a 95 % interval */

void cost_reset(struct cost *cost, unsigned watched)
{
    *cost = (struct cost){.watched = watched};
}

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Median of the last `n` steps of a ring that took `steps` */
static double median_step(const int64_t *ring, uint64_t steps, size_t n)
{
    int64_t sorted[COST_STEPS];
    for (size_t i = 0; i < n; i++)
        sorted[i] = ring[(steps - 1 - i) % COST_STEPS];
    qsort(sorted, n, sizeof *sorted, compare_ns);
    return (double)(sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

static void add_ratio(struct cost *cost)
{
    size_t n = cost->without_steps < COST_STEPS ? cost->without_steps : COST_STEPS;
    double without = median_step(cost->without_ns, cost->without_steps, n);
    if (without <= 0)
        return;
    cost->ratios[cost->next] = median_step(cost->with_ns, cost->with_steps, n) / without - 1;
    cost->next = (cost->next + 1) % COST_RATIOS;
    if (cost->count < COST_RATIOS)
        cost->count++;
}

static void observed_begin(struct cost *cost)
{
    cost->unwatched = false;
    cost->block_ns = 0;
    cost->with_steps = 0;
}

/* A block without the observer ends: its ratio comes at once or after as many steps with it.
 * (An observed block is longer: it always has as many.) */
static bool unobserved_end(struct cost *cost)
{
    uint64_t n = cost->without_steps < COST_STEPS ? cost->without_steps : COST_STEPS;
    bool now = !cost->behind && cost->with_steps >= n;
    if (now)
        add_ratio(cost);
    cost->after = now ? 0 : n;
    cost->behind = !cost->behind;
    observed_begin(cost);
    return now;
}

bool cost_step(struct cost *cost, int64_t step_ns)
{
    if (step_ns < 0) {
        cost->after = 0;
        observed_begin(cost);
        return false;
    }
    cost->block_ns += step_ns;
    if (cost->unwatched) {
        cost->without_ns[cost->without_steps++ % COST_STEPS] = step_ns;
        return cost->block_ns >= BLOCK_NS && unobserved_end(cost);
    }
    cost->with_ns[cost->with_steps++ % COST_STEPS] = step_ns;
    cost->watched_ns += step_ns;
    bool whole = cost->after > 0 && cost->with_steps == cost->after;
    if (whole) {
        add_ratio(cost);
        cost->after = 0;
    }
    if (cost->with_steps >= cost->watched && cost->block_ns >= cost->watched * BLOCK_NS) {
        cost->unwatched = true;
        cost->block_ns = 0;
        cost->without_steps = 0;
        cost->after = 0;
    }
    return whole;
}

void cost_round(struct cost *cost, int64_t round_ns)
{
    cost->rounds_ns += round_ns;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The k-th smallest and the k-th largest value enclose the median with a probability of
 * 1 - 2 P(B < k), B binomial of n and 1/2: the largest k for 95 %, or 0 */
static size_t order_of_bound(size_t n)
{
    double term = pow(0.5, (double)n), below = 0;
    for (size_t k = 0; k <= n / 2; k++) {
        if (below + term > MISS_SHARE)
            return k;
        below += term;
        term *= (double)(n - k) / (double)(k + 1);
    }
    return n / 2;
}

void cost_read(const struct cost *cost, struct store_cost *out)
{
    *out = (struct store_cost){.pairs = cost->count, .share = NAN, .low = NAN, .high = NAN};
    size_t k = order_of_bound(cost->count), n = cost->count;
    if (k == 0)
        return;
    double sorted[COST_RATIOS];
    memcpy(sorted, cost->ratios, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    double rounds = cost->watched_ns > 0 ? (double)cost->rounds_ns / (double)cost->watched_ns : 0;
    out->share = rounds + (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    out->low = rounds + sorted[k - 1];
    out->high = rounds + sorted[n - k];
}
