/* The partition by one sweep over the sorted intervals. */
#include "profiler/ledger.h"

#include <stdlib.h>
#include <string.h>

const char *ledger_class_name(enum ledger_class class)
{
    static const char *const names[LEDGER_CLASS_COUNT] = {"kernel", "copy",       "profiler",
                                                          "launch", "preprocess", "gap"};
    return class < LEDGER_CLASS_COUNT ? names[class] : "?";
}

/* Merge two neighbouring sorted runs through `spare`, which holds the first */
static void merge(struct ledger_interval *intervals, size_t first, size_t second,
                  struct ledger_interval *spare)
{
    memcpy(spare, intervals, first * sizeof *spare);
    size_t a = 0, b = first, end = first + second, at = 0;
    while (a < first)
        intervals[at++] =
            b < end && intervals[b].start_ns < spare[a].start_ns ? intervals[b++] : spare[a++];
}

/* Length of the ascending run at the beginning */
static size_t run_length(const struct ledger_interval *intervals, size_t count)
{
    size_t length = count > 0;
    while (length < count && intervals[length].start_ns >= intervals[length - 1].start_ns)
        length++;
    return length;
}

/* Host intervals come in order, and so, mostly, do those of a device that follow them: few runs,
 * so merging neighbouring runs until one is left costs little more than one pass */
static void sort_by_start(struct ledger_interval *intervals, size_t count)
{
    if (run_length(intervals, count) == count)
        return;
    struct ledger_interval *spare = xmalloc(count * sizeof *spare);
    while (run_length(intervals, count) < count) {
        for (size_t at = 0; at < count;) {
            size_t first = run_length(intervals + at, count - at);
            size_t second = run_length(intervals + at + first, count - at - first);
            if (second)
                merge(intervals + at, first, second, spare);
            at += first + second;
        }
    }
    free(spare);
}

/* Give [from, to) to the class of highest priority that is still open in it. open_until[class] is
 * the latest end seen of that class; since intervals are sorted by start, a class covers `t` at or
 * after the present start if and only if open_until > t. */
static void sweep(const int64_t *open_until, int64_t from, int64_t to, struct ledger_split *out)
{
    while (from < to) {
        int class = LEDGER_GAP;
        int64_t until = to;
        for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++) {
            if (open_until[c] > from) {
                class = c;
                if (open_until[c] < until)
                    until = open_until[c];
                break;
            }
        }
        out->class_ns[class] += until - from;
        from = until;
    }
}

void ledger_partition(struct ledger_interval *intervals, size_t count, struct ledger_split *out)
{
    *out = (struct ledger_split){.first_ns = 0};
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (intervals[i].end_ns > intervals[i].start_ns && intervals[i].class >= 0 &&
            intervals[i].class < LEDGER_INTERVAL_CLASSES)
            intervals[kept++] = intervals[i];
    }
    if (kept == 0)
        return;
    sort_by_start(intervals, kept);
    int64_t open_until[LEDGER_INTERVAL_CLASSES];
    for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++)
        open_until[c] = INT64_MIN;
    int64_t now = intervals[0].start_ns;
    out->first_ns = now;
    out->last_ns = now;
    for (size_t i = 0; i < kept; i++) {
        const struct ledger_interval *interval = &intervals[i];
        sweep(open_until, now, interval->start_ns, out);
        now = interval->start_ns;
        int64_t from = open_until[interval->class] > interval->start_ns
                           ? open_until[interval->class]
                           : interval->start_ns;
        if (interval->end_ns > from) {
            out->covered_ns[interval->class] += interval->end_ns - from;
            open_until[interval->class] = interval->end_ns;
        }
        if (interval->end_ns > out->last_ns)
            out->last_ns = interval->end_ns;
    }
    sweep(open_until, now, out->last_ns, out);
}

int64_t ledger_unexplained_ns(const struct ledger_split *split, int64_t wall_ns)
{
    int64_t sum = 0;
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
        sum += split->class_ns[c];
    return wall_ns - sum;
}
