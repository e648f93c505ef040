/* The partition by one sweep over the sorted intervals. */
#include "profiler/ledger.h"

#include <stdlib.h>

const char *ledger_class_name(enum ledger_class class)
{
    static const char *const names[LEDGER_CLASS_COUNT] = {"kernel", "copy",       "profiler",
                                                          "launch", "preprocess", "gap"};
    return class < LEDGER_CLASS_COUNT ? names[class] : "?";
}

static int by_start(const void *left, const void *right)
{
    int64_t a = ((const struct ledger_interval *)left)->start_ns;
    int64_t b = ((const struct ledger_interval *)right)->start_ns;
    return (a > b) - (a < b);
}

/* Host intervals come in order and device intervals almost so: insertion sort is linear on them.
 * Anything worse is handed to qsort before it costs n^2. */
static void sort_by_start(struct ledger_interval *intervals, size_t count)
{
    size_t budget = 4 * count + 64;
    for (size_t i = 1; i < count; i++) {
        struct ledger_interval moving = intervals[i];
        size_t j = i;
        for (; j > 0 && intervals[j - 1].start_ns > moving.start_ns; j--) {
            intervals[j] = intervals[j - 1];
            if (budget)
                budget--;
        }
        intervals[j] = moving;
        if (budget == 0) {
            qsort(intervals, count, sizeof *intervals, by_start);
            return;
        }
    }
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
