#include "commands/pairs.h"

#include "engine/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The largest c with P(T+ < c) <= 2.5 % for `count` pairs; the interval runs from the c-th smallest
 * Walsh average to the c-th largest. 0: there is none. */
static size_t interval_rank(size_t count)
{
    /* share[t]: of the 2^count signs, those whose positive ranks add up to t */
    size_t most = count * (count + 1) / 2;
    double *share = xcalloc(most + 1, sizeof *share);
    share[0] = 1;
    for (size_t rank = 1; rank <= count; rank++) {
        for (size_t t = most + 1; t-- > 0;)
            share[t] = 0.5 * (share[t] + (t >= rank ? share[t - rank] : 0));
    }
    double below = 0;
    size_t c = 0;
    while (c < most && below + share[c] <= 0.025)
        below += share[c++];
    free(share);
    return c;
}

double pairs_median(const double *values, size_t count)
{
    double sorted[PAIRS_MAX];
    if (count > PAIRS_MAX)
        count = PAIRS_MAX;
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, compare);
    return count ? 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]) : (double)NAN;
}

void pairs_ratio(const double *a, const double *b, size_t count, struct pairs_ratio *out)
{
    *out = (struct pairs_ratio){NAN, NAN, NAN};
    if (count > PAIRS_MAX)
        count = PAIRS_MAX;
    if (count == 0)
        return;
    double logs[PAIRS_MAX];
    for (size_t i = 0; i < count; i++)
        logs[i] = log(b[i] / a[i]);
    size_t means = count * (count + 1) / 2;
    double *walsh = xmalloc(means * sizeof *walsh);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = i; j < count; j++)
            walsh[n++] = 0.5 * (logs[i] + logs[j]);
    }
    qsort(walsh, means, sizeof *walsh, compare);
    out->ratio = exp(0.5 * (walsh[(means - 1) / 2] + walsh[means / 2]));
    size_t c = interval_rank(count);
    if (c > 0) {
        out->low = exp(walsh[c - 1]);
        out->high = exp(walsh[means - c]);
    }
    free(walsh);
}

/* The largest c with P(U < c) <= 2.5 % for samples of m and n. p[i][u] holds the distribution for i
 * and the present j: U of (i, j) gains j where the largest of all is of the first sample. */
static size_t shift_rank(size_t m, size_t n)
{
    size_t most = m * n, width = most + 1;
    double *p = xcalloc((m + 1) * width, sizeof *p);
    for (size_t i = 0; i <= m; i++)
        p[i * width] = 1; /* of nothing against i */
    for (size_t j = 1; j <= n; j++) {
        for (size_t i = 1; i <= m; i++) {
            double first = (double)i / (double)(i + j);
            for (size_t u = i * j + 1; u-- > 0;)
                p[i * width + u] = (1 - first) * p[i * width + u] +
                                   (u >= j ? first * p[(i - 1) * width + u - j] : 0);
        }
    }
    double below = 0;
    size_t c = 0;
    while (c < most && below + p[m * width + c] <= 0.025)
        below += p[m * width + c++];
    free(p);
    return c;
}

void samples_ratio(const double *a, size_t a_count, const double *b, size_t b_count,
                   struct pairs_ratio *out)
{
    *out = (struct pairs_ratio){NAN, NAN, NAN};
    a_count = a_count < SAMPLES_MAX ? a_count : SAMPLES_MAX;
    b_count = b_count < SAMPLES_MAX ? b_count : SAMPLES_MAX;
    size_t count = a_count * b_count, n = 0;
    if (count == 0)
        return;
    double shifts[SAMPLES_MAX * SAMPLES_MAX];
    for (size_t i = 0; i < a_count; i++)
        for (size_t j = 0; j < b_count; j++)
            shifts[n++] = log(b[j] / a[i]);
    qsort(shifts, count, sizeof *shifts, compare);
    out->ratio = exp(0.5 * (shifts[(count - 1) / 2] + shifts[count / 2]));
    size_t c = shift_rank(a_count, b_count);
    if (c > 0) {
        out->low = exp(shifts[c - 1]);
        out->high = exp(shifts[count - c]);
    }
}

bool pairs_differ(const struct pairs_ratio *ratio)
{
    return ratio->low > 1 || ratio->high < 1;
}
