/* The ledger: a partition of a step's traced time among classes.
 *
 * Every nanosecond between the first and the last recorded interval of a step falls in exactly one
 * class: the one of highest priority (enum order of ledger_class) among the intervals that cover
 * it, or GAP if none does. What the independently measured wall has beyond that (host work before
 * the first and after the last interval; clock error) is `unexplained = wall - sum`, signed, never
 * clamped. Pure functions; any thread.
 */
#ifndef LAYERTOP_PROFILER_LEDGER_H
#define LAYERTOP_PROFILER_LEDGER_H

#include "profiler/store.h"

#define LEDGER_INTERVAL_CLASSES LEDGER_GAP /* classes an interval can have: all before GAP */

struct ledger_interval {
    int64_t start_ns, end_ns; /* end < start counts as empty */
    int class;                /* enum ledger_class, not LEDGER_GAP */
};

struct ledger_split {
    int64_t class_ns[LEDGER_CLASS_COUNT];
    int64_t covered_ns[LEDGER_INTERVAL_CLASSES]; /* union of each class alone: what lies hidden
                                                    under higher classes is covered - class */
    int64_t first_ns, last_ns;                   /* the traced interval; 0, 0 if there is none */
};

/* Sorts `intervals` by start (cheap when they nearly are) and fills *out. */
void ledger_partition(struct ledger_interval *intervals, size_t count, struct ledger_split *out);

/* wall - sum of the classes. */
int64_t ledger_unexplained_ns(const struct ledger_split *split, int64_t wall_ns);

#endif
