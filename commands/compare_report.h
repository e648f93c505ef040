/* Two models, or two runs of one, layer by layer: what `compare` shows of the layers. */
#ifndef LAYERTOP_COMMANDS_COMPARE_REPORT_H
#define LAYERTOP_COMMANDS_COMPARE_REPORT_H

#include "commands/pairs.h"
#include "commands/trials.h"

struct compare_side {
    const struct trial_layer *layers;
    const double *layer_ms; /* step of each; NaN: fused, free or not timed */
    size_t layer_count;
};

/* Print the `top` layers whose times differ most, and put all of them into the execution's data:
 * layers[] {a, b, class, matched, a_ms, b_ms, speedup, speedup_interval, verdict}, only_a and only_b
 * {layers: how many that take time, layers_ms}. `times` gives the time of b's layer over that of a's,
 * with its interval. */
void compare_report_layers(struct execution *execution, const struct compare_side side[2],
                           void (*times)(const void *context, size_t a, size_t b,
                                         struct pairs_ratio *out),
                           const void *context, size_t top);

/* "faster", "slower" or "no difference": b, by the time of b over that of a. */
const char *compare_verdict(const struct pairs_ratio *times);
/* [low, high] of the speed-up, of the same. New reference. */
json_t *compare_interval_json(const struct pairs_ratio *times);

#endif
