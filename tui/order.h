/* The order of the layer table by time, held calm: rows that changed places with every breath of the
 * machine could not be read. It goes by the median of several seconds, not by the last one, and two
 * rows change places only when they differ by more than they scatter. Pure. */
#ifndef LAYERTOP_TUI_ORDER_H
#define LAYERTOP_TUI_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORDER_LOOKS     7                   /* that a place goes by */
#define ORDER_PERIOD_NS INT64_C(1000000000) /* between two looks: what time_ms is the mean of */

struct order_row {
    double looked_ms[ORDER_LOOKS]; /* a ring */
    unsigned looks;                /* so far */
    double middle_ms, scatter_ms;  /* median, and median deviation from it; NAN: not known */
};

struct order {
    struct order_row *rows; /* by layer */
    int *places;            /* layers, the most expensive first, those without a time last */
    size_t count;
    int64_t looked_ns;
    const void *plan; /* that the looks are of */
};

/* Is it time for a look? */
bool order_due(const struct order *order, size_t count, const void *plan, int64_t now_ns);
/* Look at the present times of all layers (NAN: none). Does nothing before a look is due:
 * when a period has passed since the last one, or at once if there are other layers, another plan, or
 * no time was known yet; then it begins anew. All zero is a valid empty order; free with order_clear(). */
void order_look(struct order *order, const double *time_ms, size_t count, const void *plan,
                int64_t now_ns);
void order_clear(struct order *order);

#endif
