#include "tui/order.h"
#include "engine/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows that are closer than this do not change places, however steady they are; rows that are farther
 * apart do, however restless they are: a table in no order at all is worse than one that moves. */
#define CLOSE_SHARE 0.02
#define FAR_SHARE   0.2

static int compare_numbers(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare_numbers);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

/* One wild second, a first step that prepares things, moves neither figure. */
static void take_look(struct order_row *row, double ms)
{
    double sorted[ORDER_LOOKS];
    if (isnan(ms))
        return;
    row->looked_ms[row->looks++ % ORDER_LOOKS] = ms;
    unsigned count = row->looks < ORDER_LOOKS ? row->looks : ORDER_LOOKS;
    memcpy(sorted, row->looked_ms, count * sizeof *sorted);
    row->middle_ms = median(sorted, count);
    for (unsigned i = 0; i < count; i++)
        sorted[i] = fabs(row->looked_ms[i] - row->middle_ms);
    row->scatter_ms = median(sorted, count);
}

/* Does b belong above a, beyond doubt? */
static bool overtakes(const struct order_row *b, const struct order_row *a)
{
    if (isnan(a->middle_ms) || isnan(b->middle_ms))
        return isnan(a->middle_ms) && !isnan(b->middle_ms);
    double doubt = 1.5 * (a->scatter_ms + b->scatter_ms);
    doubt = fmax(doubt, CLOSE_SHARE * a->middle_ms);
    doubt = fmin(doubt, FAR_SHARE * a->middle_ms);
    return b->middle_ms > a->middle_ms + doubt;
}

/* From what stands there: each row climbs over those that it overtakes. */
static void settle(struct order *order)
{
    for (size_t i = 1; i < order->count; i++) {
        int climbing = order->places[i];
        size_t at = i;
        while (at > 0 && overtakes(&order->rows[climbing], &order->rows[order->places[at - 1]])) {
            order->places[at] = order->places[at - 1];
            at--;
        }
        order->places[at] = climbing;
    }
}

struct start {
    double ms;
    int layer;
};

static int compare_starts(const void *left, const void *right)
{
    const struct start *a = left, *b = right;
    if (isnan(a->ms) != isnan(b->ms))
        return isnan(a->ms) ? 1 : -1;
    if (a->ms > b->ms || a->ms < b->ms)
        return a->ms > b->ms ? -1 : 1;
    return a->layer - b->layer;
}

static void begin(struct order *order, const double *time_ms, size_t count)
{
    struct start *starts = xcalloc(count + 1, sizeof *starts);
    order->rows = xrealloc(order->rows, (count + 1) * sizeof *order->rows);
    order->places = xrealloc(order->places, (count + 1) * sizeof *order->places);
    order->count = count;
    for (size_t i = 0; i < count; i++) {
        order->rows[i] = (struct order_row){.middle_ms = NAN};
        take_look(&order->rows[i], time_ms[i]);
        starts[i] = (struct start){time_ms[i], (int)i};
    }
    qsort(starts, count, sizeof *starts, compare_starts);
    for (size_t i = 0; i < count; i++)
        order->places[i] = starts[i].layer;
    free(starts);
}

static bool anew(const struct order *order, size_t count, const void *plan)
{
    bool known = false;
    for (size_t i = 0; i < order->count && !known; i++)
        known = order->rows[i].looks > 0;
    return !known || count != order->count || plan != order->plan;
}

bool order_due(const struct order *order, size_t count, const void *plan, int64_t now_ns)
{
    return anew(order, count, plan) || now_ns - order->looked_ns >= ORDER_PERIOD_NS;
}

void order_look(struct order *order, const double *time_ms, size_t count, const void *plan,
                int64_t now_ns)
{
    if (anew(order, count, plan)) {
        begin(order, time_ms, count);
    } else if (order_due(order, count, plan, now_ns)) {
        for (size_t i = 0; i < count; i++)
            take_look(&order->rows[i], time_ms[i]);
        settle(order);
    } else {
        return;
    }
    order->looked_ns = now_ns;
    order->plan = plan;
}

void order_clear(struct order *order)
{
    free(order->rows);
    free(order->places);
    *order = (struct order){0};
}
