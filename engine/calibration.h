/* Ranges of a graph's values: what was seen of them in float32, and how large a magnitude int8 has
 * to tell apart.
 *
 * A byte holds 255 steps (of values that are never negative) or 127 to either side of zero, all of
 * one size: whoever keeps the largest magnitude ever seen has coarse steps for all the others.
 * `minmax` keeps it; `percentile` cuts off the largest ten thousandth (Wu et al. 2020, "Integer
 * quantization for deep learning inference", find 99.99 % best for most networks); `entropy` keeps
 * what loses the least information, by the Kullback-Leibler divergence of the values told apart from
 * the values seen (Migacz 2017, "8-bit inference with TensorRT").
 * Threads: pure but for the histogram that is filled. */
#ifndef LAYERTOP_ENGINE_CALIBRATION_H
#define LAYERTOP_ENGINE_CALIBRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum calibration_method {
    CALIBRATION_MINMAX,
    CALIBRATION_PERCENTILE,
    CALIBRATION_ENTROPY,
    CALIBRATION_METHODS
};
const char *calibration_method_name(enum calibration_method method);
bool calibration_method_parse(const char *name, enum calibration_method *method);

/* Of one value of a graph. */
struct value_range {
    bool seen;         /* false: it never was computed, and cannot be quantised */
    float least, most; /* as seen; a NaN is left out */
    float bound;       /* magnitudes up to this are told apart, larger ones are cut to it; 0: all
                          were 0 */
};

#define MAGNITUDE_BINS 2048

/* How often magnitudes were seen, in bins of one width from 0 to `limit`, which doubles when a larger
 * one comes. All zero bytes: nothing seen. */
struct magnitudes {
    float least, most;
    float limit;
    uint64_t count;
    uint64_t bins[MAGNITUDE_BINS];
};

void magnitudes_add(struct magnitudes *magnitudes, const float *values, size_t count);
struct value_range magnitudes_range(const struct magnitudes *magnitudes,
                                    enum calibration_method method);

#endif
