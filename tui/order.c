#include "tui/order.h"
#include "engine/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Weight of a new look once there are some: the mean of about the last five. */
#define WEIGHT_LEAST   0.2
/* Rows that are closer than this do not change places, however steady they are. */
#define CLOSE_SHARE    0.02
/* How often its usual deviation a row may be away from its mean and mean nothing by it. */
#define SCATTER_FACTOR 0.5

static void take_look(struct order_row *row, double ms)
{
    if (isnan(ms))
        return;
    if (isnan(row->mean_ms)) {
        *row = (struct order_row){.mean_ms = ms, .looks = 1};
        return;
    }
    double weight = fmax(1.0 / ++row->looks, WEIGHT_LEAST);
    row->scatter_ms += weight * (fabs(ms - row->mean_ms) - row->scatter_ms);
    row->mean_ms += weight * (ms - row->mean_ms);
}

/* Does b belong above a, beyond doubt? */
static bool overtakes(const struct order_row *b, const struct order_row *a)
{
    if (isnan(a->mean_ms) || isnan(b->mean_ms))
        return isnan(a->mean_ms) && !isnan(b->mean_ms);
    double doubt = SCATTER_FACTOR * (a->scatter_ms + b->scatter_ms) + CLOSE_SHARE * a->mean_ms;
    return b->mean_ms > a->mean_ms + doubt;
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
        order->rows[i] = (struct order_row){.mean_ms = NAN};
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
