#include "engine/calibration.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const char *const names[CALIBRATION_METHODS] = {
    [CALIBRATION_MINMAX] = "minmax",
    [CALIBRATION_PERCENTILE] = "percentile",
    [CALIBRATION_ENTROPY] = "entropy",
};

const char *calibration_method_name(enum calibration_method method)
{
    return names[method];
}

bool calibration_method_parse(const char *name, enum calibration_method *method)
{
    for (int i = 0; i < CALIBRATION_METHODS; i++) {
        if (strcasecmp(name, names[i]) == 0) {
            *method = (enum calibration_method)i;
            return true;
        }
    }
    return false;
}

/* ---- counting ---- */

/* Bins of twice the width, as often as it takes. */
static void widen(struct magnitudes *m, float magnitude)
{
    while (m->limit < magnitude) {
        m->limit *= 2;
        for (size_t i = 0; i < MAGNITUDE_BINS / 2; i++)
            m->bins[i] = m->bins[2 * i] + m->bins[2 * i + 1];
        memset(m->bins + MAGNITUDE_BINS / 2, 0, MAGNITUDE_BINS / 2 * sizeof *m->bins);
    }
}

/* The least and the most of finite values; false if there is none. */
static bool extremes(const float *values, size_t count, float *least, float *most)
{
    *least = INFINITY;
    *most = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        float x = isfinite(values[i]) ? values[i] : NAN;
        *least = x < *least ? x : *least;
        *most = x > *most ? x : *most;
    }
    return *least <= *most;
}

void magnitudes_add(struct magnitudes *m, const float *values, size_t count)
{
    float least, most;
    if (!extremes(values, count, &least, &most))
        return;
    float largest = fmaxf(fabsf(least), fabsf(most));
    m->least = m->count == 0 || least < m->least ? least : m->least;
    m->most = m->count == 0 || most > m->most ? most : m->most;
    if (m->limit == 0 && largest > 0) {
        m->limit = largest;
        m->bins[0] = m->count; /* zeros so far */
    }
    widen(m, largest);
    /* the largest magnitude belongs to the last bin, not behind it */
    float scale = m->limit > 0 ? MAGNITUDE_BINS / m->limit : 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            continue;
        size_t bin = (size_t)(fabsf(values[i]) * scale);
        m->bins[bin < MAGNITUDE_BINS ? bin : MAGNITUDE_BINS - 1]++;
        m->count++;
    }
}

/* ---- bounds ---- */

#define PERCENTILE 0.9999

static float percentile_bound(const struct magnitudes *m)
{
    uint64_t wanted = (uint64_t)ceil(PERCENTILE * (double)m->count), sum = 0;
    for (size_t i = 0; i < MAGNITUDE_BINS; i++) {
        sum += m->bins[i];
        if (sum >= wanted)
            return m->limit * (float)(i + 1) / MAGNITUDE_BINS;
    }
    return m->limit;
}

/* A bin's share of the information: zeros, of which a ReLU leaves many, lose none in any step, and must
 * not outweigh all else; so the first bin counts like its neighbour at most. */
static double weight_of(const struct magnitudes *m, size_t bin)
{
    uint64_t count = m->bins[bin];
    return (double)(bin == 0 && m->bins[1] < count ? m->bins[1] : count);
}

/* The divergence of what `levels` steps over the first `kept` bins tell apart from what was seen, if
 * all beyond counts as the largest that is kept. Empty bins have no share on either side. */
static double divergence(const struct magnitudes *m, size_t kept, size_t levels)
{
    double beyond = 0, sum = 0, loss = 0, told = 0;
    for (size_t i = 0; i < MAGNITUDE_BINS; i++)
        *(i < kept ? &told : &beyond) += weight_of(m, i);
    sum = told + beyond;
    for (size_t level = 0; level < levels; level++) {
        size_t first = level * kept / levels, end = (level + 1) * kept / levels;
        double inside = 0;
        size_t filled = 0;
        for (size_t i = first; i < end; i++) {
            inside += weight_of(m, i);
            filled += weight_of(m, i) > 0;
        }
        for (size_t i = first; i < end; i++) {
            double own = weight_of(m, i), seen = own + (i + 1 == kept ? beyond : 0);
            if (seen == 0)
                continue;
            /* where only the cut ones fall, the steps have nothing: a small share, so that the
             * logarithm is finite */
            double share = own > 0 ? inside / (double)filled / told : 1e-9;
            loss += seen / sum * log(seen / sum / share);
        }
    }
    return loss;
}

#define ENTROPY_STRIDE 16 /* bins between two bounds that are tried */

static float entropy_bound(const struct magnitudes *m)
{
    size_t levels = m->least < 0 ? 128 : 256, best = MAGNITUDE_BINS;
    double least = INFINITY;
    for (size_t kept = levels; kept <= MAGNITUDE_BINS; kept += ENTROPY_STRIDE) {
        double loss = divergence(m, kept, levels);
        if (loss < least) {
            least = loss;
            best = kept;
        }
    }
    return m->limit * (float)best / MAGNITUDE_BINS;
}

struct value_range magnitudes_range(const struct magnitudes *m, enum calibration_method method)
{
    struct value_range range = {.seen = m->count > 0, .least = m->least, .most = m->most};
    float largest = fmaxf(fabsf(m->least), fabsf(m->most));
    if (largest == 0)
        return range;
    range.bound = method == CALIBRATION_PERCENTILE ? percentile_bound(m)
                  : method == CALIBRATION_ENTROPY  ? entropy_bound(m)
                                                   : largest;
    range.bound = fminf(range.bound, largest);
    return range;
}
