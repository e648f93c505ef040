/* What the store knows of a step as a whole, as JSON and as words: the ledger, the observer's cost,
 * and what speaks against believing either. */
#ifndef LAYERTOP_COMMANDS_MEASURES_H
#define LAYERTOP_COMMANDS_MEASURES_H

#include "commands/command.h"
#include "profiler/store.h"

/* {kernel_ms, ..., unexplained_ms, wall_ms, hidden_copy_ms, hidden_launch_ms, ...}: means per step,
 * null where not known, all of them if `ledger` is NULL or of no step. New reference. */
json_t *ledger_json(const struct ledger *ledger);
/* "kernel 1.2 ms, launch 0.1 ms, unexplained 20 us": a line of text, and one of what is hidden if
 * anything is. */
void ledger_print(struct execution *execution, const struct ledger *ledger);

/* Into `data`: profiler_cost_share (0.01: observing makes a step 1 % longer), profiler_cost_interval
 * ([low, high], 95 %) and profiler_cost_pairs; null where not measured. `cost` may be NULL. */
void cost_json(json_t *data, const struct store_cost *cost);
/* A line of text, nothing if it is not measured. */
void cost_print(struct execution *execution, const struct store_cost *cost);

/* What NVML said while it was measured: in the steps of `segment`, of the live ones with 0. */
void marks_find(const struct store *store, uint32_t segment, struct marks *out);
/* Into `data`: throttle (["sw_power_cap", ...]) and other_processes (how many were on the GPU); null
 * where NVML was not asked. `marks` may be NULL. */
void marks_report_json(json_t *data, const struct marks *marks);
/* A warning of what speaks against believing the numbers; nothing if all is well. */
void marks_report_warn(struct execution *execution, const struct marks *marks);

#endif
