/* Ring and pyramid: see series.h. */
#include "profiler/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sample {
    int64_t time_ns;
    float span_s;
    float value;
};

/* count 0 with a value in min and max: the bin lies in the span of a later sample. count 0 with NaN
 * is a gap. */
struct bin {
    float min, max, sum;
    uint32_t count;
};

/* The newest bin is not in the ring: `open` is what the finer level's closed bins brought to it, so
 * that a sample costs one bin, not one of each level (a thousand layers push ten times a second). */
struct level {
    int64_t width_ns;
    int64_t newest; /* index (time / width) of the newest bin; -1 if none */
    size_t slot;    /* the newest one's place in the ring, when it closes */
    struct bin open;
    struct bin *bins;
};

/* One allocation: levels, samples, bins */
struct series {
    struct series_shape shape;
    struct sample *samples;
    size_t head, count; /* head: slot of the next sample */
    int64_t first_ns;   /* time of the first sample ever */
    struct level levels[];
};

size_t series_bytes(const struct series_shape *shape)
{
    return sizeof(struct series) + shape->ring * sizeof(struct sample) +
           shape->levels * (sizeof(struct level) + shape->bins * sizeof(struct bin));
}

struct series *series_new(const struct series_shape *shape)
{
    struct series *series = xcalloc(1, series_bytes(shape));
    series->shape = *shape;
    series->samples = (struct sample *)&series->levels[shape->levels];
    struct bin *bins = (struct bin *)&series->samples[shape->ring];
    int64_t width = shape->base_ns;
    for (size_t i = 0; i < shape->levels; i++, width *= 4) {
        series->levels[i].width_ns = width;
        series->levels[i].bins = bins + i * shape->bins;
    }
    series_clear(series);
    return series;
}

void series_free(struct series *series)
{
    free(series);
}

static const struct bin empty_bin = {NAN, NAN, 0, 0};

void series_clear(struct series *series)
{
    series->head = series->count = 0;
    for (size_t i = 0; i < series->shape.levels; i++) {
        series->levels[i].newest = -1;
        series->levels[i].slot = 0;
        series->levels[i].open = empty_bin;
    }
}

static void bin_add(struct bin *bin, const struct bin *more)
{
    if (more->count == 0)
        return;
    if (bin->count == 0)
        *bin = (struct bin){more->min, more->max, 0, 0};
    bin->min = more->min < bin->min ? more->min : bin->min;
    bin->max = more->max > bin->max ? more->max : bin->max;
    bin->sum += more->sum;
    bin->count = bin->count > UINT32_MAX - more->count ? UINT32_MAX : bin->count + more->count;
}

/* Place in the ring of a bin that is not newer than the newest and less than a ring older. */
static struct bin *level_slot(const struct series *series, const struct level *level, int64_t index)
{
    size_t back = (size_t)(level->newest - index);
    return &level->bins[level->slot >= back ? level->slot - back
                                            : level->slot + series->shape.bins - back];
}

/* A bin from oldest to newest; the newest one is what it and all finer levels hold open. */
static struct bin level_bin(const struct series *series, const struct level *level, int64_t index)
{
    if (index < level->newest)
        return *level_slot(series, level, index);
    struct bin bin = level->open;
    for (const struct level *finer = series->levels; finer < level; finer++)
        bin_add(&bin, &finer->open);
    return bin;
}

/* Close the newest bin and make `index` the newest one; bins between them become gaps. */
static void level_advance(const struct series *series, struct level *level, int64_t index)
{
    int64_t bins = (int64_t)series->shape.bins;
    if (level->newest >= 0)
        level->bins[level->slot] = level->open;
    int64_t skipped = level->newest < 0 ? index : index - level->newest - 1;
    for (int64_t i = 0; i < skipped && i < bins; i++) {
        level->slot = level->slot + 1 < series->shape.bins ? level->slot + 1 : 0;
        level->bins[level->slot] = empty_bin;
    }
    level->slot = level->slot + 1 < series->shape.bins ? level->slot + 1 : 0;
    level->newest = index;
    level->open = empty_bin;
}

/* The gaps before the newest bin that lie in a sample's span hold its value. */
static void level_hold(const struct series *series, const struct level *level, int64_t since,
                       float value)
{
    int64_t oldest = level->newest - (int64_t)series->shape.bins + 1;
    if (since < oldest)
        since = oldest;
    for (int64_t i = level->newest - 1; i >= since && i >= 0; i--) {
        struct bin *held = level_slot(series, level, i);
        if (held->count || !isnan(held->min))
            break;
        held->min = held->max = value;
    }
}

static const struct sample *sample_at(const struct series *series, size_t index)
{
    size_t at = series->head + index;
    return &series->samples[at >= series->count ? at - series->count
                                                : at + series->shape.ring - series->count];
}

int64_t series_time_ns(const struct series *series)
{
    return series->count ? sample_at(series, series->count - 1)->time_ns : 0;
}

void series_push(struct series *series, int64_t time_ns, int64_t span_ns, double value)
{
    if (!(fabs(value) <= 3.4e38))
        return;
    if (time_ns < series_time_ns(series))
        time_ns = series_time_ns(series);
    if (time_ns < 0)
        time_ns = 0;
    if (span_ns < 0)
        span_ns = 0;
    if (span_ns > time_ns)
        span_ns = time_ns;
    if (series->count == 0)
        series->first_ns = time_ns;
    series->samples[series->head] =
        (struct sample){time_ns, (float)((double)span_ns * 1e-9), (float)value};
    series->head = series->head + 1 < series->shape.ring ? series->head + 1 : 0;
    if (series->count < series->shape.ring)
        series->count++;
    struct bin carried = empty_bin; /* what the finer level closed */
    struct bin sample = {(float)value, (float)value, (float)value, 1};
    /* each level's bins are four times as wide as those before */
    int64_t index = time_ns / series->shape.base_ns;
    int64_t since = (time_ns - span_ns) / series->shape.base_ns;
    for (size_t i = 0; i < series->shape.levels; i++, index /= 4, since /= 4) {
        struct level *level = &series->levels[i];
        bin_add(&level->open, &carried);
        carried = empty_bin;
        if (index > level->newest) {
            carried = level->open;
            level_advance(series, level, index);
        } else if (since >= index) {
            break; /* the coarser levels' newest bins stay open, too */
        }
        level_hold(series, level, since, (float)value);
    }
    bin_add(&series->levels[0].open, &sample);
}

double series_last(const struct series *series)
{
    return series->count ? (double)sample_at(series, series->count - 1)->value : (double)NAN;
}

/* First sample with a time >= time_ns; count if there is none */
static size_t sample_find(const struct series *series, int64_t time_ns)
{
    size_t low = 0;
    size_t high = series->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sample_at(series, middle)->time_ns < time_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Does the ring hold every sample from `from_ns` on? */
static bool ring_covers(const struct series *series, int64_t from_ns)
{
    return series->count < series->shape.ring ||
           (series->count && sample_at(series, 0)->time_ns < from_ns);
}

struct accumulator {
    double sum;
    float min, max;
    uint32_t count;
};

static void cell_store(struct series_cell *cell, const struct accumulator *a)
{
    *cell = a->count ? (struct series_cell){a->min, a->max, (float)(a->sum / a->count), a->count}
                     : (struct series_cell){NAN, NAN, NAN, 0};
}

/* Start of column i when [from, from + length) is cut into `columns`; no product overflows for
 * spans below 2^63 / columns, which the caller ensures by double arithmetic */
static int64_t column_start(int64_t from_ns, int64_t length_ns, size_t columns, size_t i)
{
    return from_ns + (int64_t)((double)length_ns / (double)columns * (double)i);
}

static void read_samples(const struct series *series, int64_t from_ns, int64_t length_ns,
                         size_t columns, struct series_cell *cells)
{
    size_t next = sample_find(series, from_ns);
    for (size_t i = 0; i < columns; i++) {
        int64_t end = column_start(from_ns, length_ns, columns, i + 1);
        struct accumulator a = {0, INFINITY, -INFINITY, 0};
        for (; next < series->count && sample_at(series, next)->time_ns < end; next++) {
            float value = sample_at(series, next)->value;
            a.min = fminf(a.min, value);
            a.max = fmaxf(a.max, value);
            a.sum += (double)value;
            a.count++;
        }
        if (a.count == 0 && next < series->count) {
            const struct sample *later = sample_at(series, next);
            /* the float's rounding must not fill a column that only touches the span */
            if ((double)(later->time_ns - end) * 1e-9 < (double)later->span_s * 0.999999)
                a = (struct accumulator){(double)later->value, later->value, later->value, 1};
        }
        cell_store(&cells[i], &a);
    }
}

static void read_level(const struct series *series, const struct level *level, int64_t from_ns,
                       int64_t length_ns, size_t columns, struct series_cell *cells)
{
    int64_t oldest = level->newest - (int64_t)series->shape.bins + 1;
    if (oldest < 0)
        oldest = 0;
    int64_t width = level->width_ns;
    for (size_t i = 0; i < columns; i++) {
        int64_t start = column_start(from_ns, length_ns, columns, i);
        int64_t end = column_start(from_ns, length_ns, columns, i + 1);
        struct accumulator a = {0, INFINITY, -INFINITY, 0};
        float held = NAN;
        /* bins that begin in [start, end) */
        int64_t first = start <= 0 ? 0 : (start + width - 1) / width;
        int64_t last = end <= 0 ? -1 : (end - 1) / width;
        /* a column narrower than a bin shows the bin around it */
        bool inside = first > last && start >= 0;
        if (inside)
            first = last = start / width;
        if (first < oldest)
            first = oldest;
        if (last > level->newest)
            last = level->newest;
        for (int64_t index = first; index <= last && level->newest >= 0; index++) {
            struct bin bin = level_bin(series, level, index);
            if (bin.count == 0) {
                held = isnan(held) ? bin.min : held;
                continue;
            }
            a.min = fminf(a.min, bin.min);
            a.max = fmaxf(a.max, bin.max);
            a.sum += (double)bin.sum;
            a.count = a.count > UINT32_MAX - bin.count ? UINT32_MAX : a.count + bin.count;
        }
        if (a.count == 0 && !isnan(held))
            a = (struct accumulator){(double)held, held, held, 1};
        cell_store(&cells[i], &a);
    }
}

/* The coarsest level that is not wider than a column and reaches back to `from_ns`; else the finest
 * one that reaches; else the coarsest */
static const struct level *level_choose(const struct series *series, int64_t from_ns,
                                        double column_ns)
{
    const struct level *best = NULL;
    for (size_t i = 0; i < series->shape.levels; i++) {
        const struct level *level = &series->levels[i];
        int64_t oldest_ns = (level->newest - (int64_t)series->shape.bins + 1) * level->width_ns;
        bool reaches = oldest_ns <= from_ns || oldest_ns <= series->first_ns;
        if (i + 1 < series->shape.levels && !reaches)
            continue;
        if (best && (double)level->width_ns > column_ns)
            break;
        best = level;
    }
    return best;
}

void series_read(const struct series *series, int64_t from_ns, int64_t to_ns, size_t columns,
                 struct series_cell *cells)
{
    if (columns == 0)
        return;
    for (size_t i = 0; i < columns; i++)
        cells[i] = (struct series_cell){NAN, NAN, NAN, 0};
    if (!series || to_ns <= from_ns || series->count == 0 || from_ns < -INT64_MAX / 4 ||
        to_ns > INT64_MAX / 4)
        return;
    int64_t length = to_ns - from_ns;
    if (ring_covers(series, from_ns)) {
        read_samples(series, from_ns, length, columns, cells);
        return;
    }
    const struct level *level = level_choose(series, from_ns, (double)length / (double)columns);
    if (level)
        read_level(series, level, from_ns, length, columns, cells);
}

/* The k-th smallest of n values; reorders them (Hoare's selection) */
static float select_nth(float *values, size_t n, size_t k)
{
    size_t low = 0;
    size_t high = n - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        size_t i = low;
        size_t j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i > j)
                break;
            float swap = values[i];
            values[i] = values[j];
            values[j] = swap;
            i++;
            if (j == 0)
                break;
            j--;
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return values[k];
}

static size_t nearest_rank(double q, size_t n)
{
    size_t rank = (size_t)ceil(q * (double)n);
    return rank ? rank - 1 : 0;
}

void series_summary(const struct series *series, int64_t span_ns, int64_t to_ns,
                    struct summary *out)
{
    *out = (struct summary){0, NAN, NAN, NAN, NAN, NAN, NAN};
    if (!series || series->count == 0 || span_ns <= 0)
        return;
    int64_t from = to_ns > INT64_MIN + span_ns ? to_ns - span_ns : INT64_MIN;
    if (ring_covers(series, from + 1)) {
        size_t first = sample_find(series, from + 1);
        size_t last = to_ns == INT64_MAX ? series->count : sample_find(series, to_ns + 1);
        if (first >= last)
            return;
        size_t n = last - first;
        float *values = xmalloc(n * sizeof *values);
        out->count = n;
        out->sum = 0;
        out->min = INFINITY;
        out->max = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            values[i] = sample_at(series, first + i)->value;
            out->sum += (double)values[i];
            out->min = fmin(out->min, (double)values[i]);
            out->max = fmax(out->max, (double)values[i]);
        }
        out->mean = out->sum / (double)n;
        out->p50 = (double)select_nth(values, n, nearest_rank(0.50, n));
        out->p95 = (double)select_nth(values, n, nearest_rank(0.95, n));
        free(values);
        return;
    }
    const struct level *level = level_choose(series, from, (double)span_ns / 64);
    if (!level || level->newest < 0 || to_ns < 0)
        return;
    int64_t oldest = level->newest - (int64_t)series->shape.bins + 1;
    int64_t index = from < 0 ? 0 : from / level->width_ns;
    if (index < oldest)
        index = oldest < 0 ? 0 : oldest;
    for (; index <= level->newest && index <= to_ns / level->width_ns; index++) {
        struct bin bin = level_bin(series, level, index);
        if (bin.count == 0)
            continue;
        if (out->count == 0)
            *out = (struct summary){0, NAN, INFINITY, -INFINITY, NAN, NAN, 0};
        out->count += bin.count;
        out->sum += (double)bin.sum;
        out->min = fmin(out->min, (double)bin.min);
        out->max = fmax(out->max, (double)bin.max);
    }
    if (out->count)
        out->mean = out->sum / (double)out->count;
}
