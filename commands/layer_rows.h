/* The measured layers of one run, or of the last second of a live model, in model order: what `run`
 * and `layers` show. */
#ifndef LAYERTOP_COMMANDS_LAYER_ROWS_H
#define LAYERTOP_COMMANDS_LAYER_ROWS_H

#include "commands/workbench.h"

struct layer_row {
    const char *name, *class_name, *impl; /* borrowed from the store; impl "" if unknown */
    const char *precision; /* of an int8 plan, else NULL; see layer_rows_precisions() */
    const char *label;     /* "conv1+bn1+relu1" for the head of a fusion */
    double time_ms;        /* mean per step; NaN: fused, free or not measured */
    double share;          /* of the wall time of a step, 0..1 */
    double kernels;        /* per step, NaN if not known */
    uint64_t flops, bytes;
    int fused_into; /* index, or -1 */
    const char *const *fused;
};

/* Rows of segment `segment`, or of live steps if it is 0 or forgotten. *wall_ms is the mean wall of
 * a step there, NaN if not known. The caller frees *rows; names live until the store is fed. */
size_t layer_rows_read(const struct store *store, uint32_t segment, double wall_mean_ms,
                       struct layer_row **rows, double *wall_ms);

/* What each layer computes in, as the plan says; borrowed from it. Returns whether it says so. */
bool layer_rows_precisions(struct layer_row *rows, size_t count, const json_t *plan);

/* {name, class, impl, precision?, time_ms, share, kernels, flops, bytes, fused_into?, fused?}. New reference;
 * `rows` is the whole table, for the names of heads. */
json_t *layer_row_json(const struct layer_row *rows, size_t index);

/* Row numbers of heads, sorted by "time", "name", "flops", "bytes" or "order" (the model's). Fused rows
 * are left out. Returns how many; order[] has room for count. */
size_t layer_rows_sort(const struct layer_row *rows, size_t count, const char *by, size_t *order);

#endif
