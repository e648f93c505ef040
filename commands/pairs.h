/* What pairs of measurements, taken in turn, allow to say. Pure functions.
 *
 * The ratio is the Hodges-Lehmann estimate on the logarithms of the pairs' ratios: the median of
 * the means of all two of them (Walsh averages). Its interval holds the true ratio with at least
 * 95 %, by the exact distribution of Wilcoxon's signed ranks (Hollander, Wolfe, Chicken:
 * Nonparametric Statistical Methods, section 3.3): no distribution of the times is assumed but that
 * a pair's ratio scatters alike to both sides, and one step that another program held up spoils
 * nothing. */
#ifndef LAYERTOP_COMMANDS_PAIRS_H
#define LAYERTOP_COMMANDS_PAIRS_H

#include <stdbool.h>
#include <stddef.h>

#define PAIRS_MIN 6 /* of fewer, no interval has 95 % */
#define PAIRS_MAX 100

struct pairs_ratio {
    double ratio, low, high; /* of b to a; NaN without pairs, low and high below PAIRS_MIN */
};

/* Of b[i] / a[i], all above 0; `count` at most PAIRS_MAX, more are left out. */
void pairs_ratio(const double *a, const double *b, size_t count, struct pairs_ratio *out);

/* The same of two samples that were not taken in pairs: the Hodges-Lehmann estimate of the shift of
 * the logarithms, the median of all differences, and its interval by the exact distribution of Mann
 * and Whitney's U (Hollander, Wolfe, Chicken, section 4.3). At most SAMPLES_MAX of each, more are left
 * out; low and high are NaN where there are too few for 95 %: four of each are enough. */
#define SAMPLES_MAX 40
void samples_ratio(const double *a, size_t a_count, const double *b, size_t b_count,
                   struct pairs_ratio *out);

/* Of values, at most PAIRS_MAX of them; NaN without any. */
double pairs_median(const double *values, size_t count);

/* Do a and b differ? Only if the interval leaves 1 out. */
bool pairs_differ(const struct pairs_ratio *ratio);

#endif
