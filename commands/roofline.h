/* The roofline: where a layer stands under what its device can do (Williams, Waterman, Patterson:
 * Roofline, CACM 52(4), 2009), and its drawing as text. Pure functions. */
#ifndef LAYERTOP_COMMANDS_ROOFLINE_H
#define LAYERTOP_COMMANDS_ROOFLINE_H

#include <stdbool.h>
#include <stddef.h>

/* A layer that takes longer than what bounds it, over this share, is bound by neither: its time goes
 * into launches, waiting and small or odd shapes. Kernels that are bound reach a third or more of
 * their roof. */
#define ROOFLINE_NEAR  0.3
/* Bytes that came this much faster than memory gives them came out of a cache. */
#define ROOFLINE_CACHE 1.25

/* What the device can do; NaN: not known. */
struct roofline {
    double flops_per_s, bytes_per_s, cache_bytes_per_s;
};

enum roofline_bound { BOUND_UNKNOWN, BOUND_COMPUTE, BOUND_MEMORY, BOUND_CACHE, BOUND_OVERHEAD };
#define BOUND_COUNT 5
/* "unknown", "compute", "memory", "cache", "overhead". */
const char *roofline_bound_name(enum roofline_bound bound);

struct roofline_place {
    double intensity;   /* FLOPs a byte; NaN without bytes */
    double flops_per_s; /* reached */
    double bytes_per_s;
    double attainable; /* FLOP/s of the roof above it */
    double share;      /* of the time that the roof alone would take, 1: on the roof */
    enum roofline_bound bound;
};

/* Of a layer with so many FLOPs and bytes (the least: in, weights, out) in time_ms. */
void roofline_place(const struct roofline *roof, double flops, double bytes, double time_ms,
                    struct roofline_place *out);

struct roofline_mark {
    double intensity, flops_per_s;
    char letter;
};

/* Both roofs and the marks, logarithmic on both axes, in `rows` lines of at most `cols` columns, each
 * ended by a newline. Where two marks meet the first one shows. Marks that are no positive numbers
 * are left out. To be freed; NULL if nothing can be drawn: the roofs are not known. */
char *roofline_draw(const struct roofline *roof, const struct roofline_mark *marks, size_t count,
                    int cols, int rows, bool utf8);

#endif
