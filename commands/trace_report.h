/* What the store's trace says beside the kernels: copies, CUPTI's own time, losses, bursts. Told in
 * the same words by `kernels`, `layers` and `run`. */
#ifndef LAYERTOP_COMMANDS_TRACE_REPORT_H
#define LAYERTOP_COMMANDS_TRACE_REPORT_H

#include "commands/command.h"
#include "profiler/store_trace.h"

/* Add to `data`: "tracing" {detail "every step"|"bursts", steps, graphs, graph_ms, burst_cost},
 * "copies" [...], "overhead" [...], "lost" {dropped, unmatched, untimed}. A NULL trace: null. */
void trace_report_json(json_t *data, const struct store_trace *trace);
/* Warn of records that were lost, each kind in its own words, of pageable copies, and of time that
 * CUPTI took on the launching thread. NULL: nothing. */
void trace_report_warn(struct execution *execution, const struct store_trace *trace);
/* One line on how it was traced: "12 steps kernel by kernel, in bursts". */
void trace_report_text(const struct store_trace *trace, char *out, size_t size);

#endif
